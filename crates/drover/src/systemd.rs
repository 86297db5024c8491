//! What a service manager is told (`NOTIFY_SOCKET`), and the sockets it may have opened (`LISTEN_FDS`): the protocols
//! of systemd, which other managers speak too. Without the variables nothing happens.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};

use listenfd::ListenFd;
use proxy::sockets::Sockets;

/// Where state changes are reported.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    address: Option<OsString>,
}

impl Notify {
    /// As the environment says.
    pub fn from_environment() -> Notify {
        Notify {
            address: std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
        }
    }

    /// Clients are served. Says which process to look after: after a takeover it is another one.
    pub fn ready(&self) {
        self.say(&format!(
            "READY=1\nMAINPID={}\nSTATUS=serving clients\n",
            std::process::id()
        ));
    }

    /// The configuration is being read again; [`Self::ready`] says that this is over, whatever came of it.
    pub fn reloading(&self) {
        // By this time the manager tells which READY belongs to which reload.
        let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let since_us = since.map_or(0, |since| nix::sys::time::TimeValLike::num_microseconds(&since));
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={since_us}\n"));
    }

    /// The process is ending.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=waiting for clients\n");
    }

    fn say(&self, text: &str) {
        let Some(address) = &self.address else { return };
        if let Err(error) = send(address, text) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

fn send(address: &OsString, text: &str) -> io::Result<()> {
    let bytes = address.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => UnixAddr::from_abstract_name(name)?,
        None => UnixAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the proxy.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// Sockets opened by the service manager.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Where clients connect; empty: none were opened.
    pub sockets: Sockets,
    /// Where HTTP is served.
    pub http: Option<TcpListener>,
}

/// Takes the sockets that this process was given. The one with the address of `http` is for HTTP, the others are for
/// clients. To be called once, early.
pub fn inherited(http: SocketAddr) -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    let mut given = ListenFd::from_env();
    for index in 0..given.len() {
        if let Ok(Some(socket)) = given.take_tcp_listener(index) {
            if inherited.http.is_none() && socket.local_addr()? == http {
                inherited.http = Some(socket);
            } else {
                inherited.sockets.tcp.push(socket);
            }
        } else if let Ok(Some(socket)) = given.take_unix_listener(index) {
            inherited.sockets.unix.push(socket);
        } else {
            let text = format!("socket {index} of LISTEN_FDS is no listening stream socket");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told() {
        let directory = std::env::temp_dir().join(format!("drover-notify-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify {
            address: Some(path.into_os_string()),
        };
        notify.ready();
        let mut text = [0; 200];
        let length = manager.recv(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        assert!(text.starts_with("READY=1\nMAINPID="), "{text}");
        let abstract_name = format!("drover-notify-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&abstract_name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify {
            address: Some(OsString::from(format!("@{abstract_name}"))),
        };
        notify.stopping();
        let mut text = [0; 10];
        manager.recv(&mut text).unwrap();
        assert_eq!(&text, b"STOPPING=1");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
