//! The sockets clients connect to: made here, inherited from a service manager, or handed over by the proxy that is
//! being replaced.
//!
//! A socket outlives the process that made it as long as one process holds it: that is how a restart refuses no
//! connection. So whoever stops using a socket closes it and nothing more; only the one that really ends listening
//! ([`Sockets::remove_files`]) takes the name of a Unix socket away.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{ProxyConfig, UnixSocketConfig};
use crate::worker::StartError;

/// Connections that may wait to be accepted; the kernel's own limit is usually lower.
const BACKLOG: i32 = 4096;

/// Who is at the other end of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A process on this host, through the Unix socket.
    Unix {
        /// The user id it ran under when it connected, as the kernel says; `None` when the kernel does not.
        uid: Option<u32>,
        /// Its process id.
        pid: Option<i32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { .. } => f.write_str("[local]"),
        }
    }
}

/// Listening sockets, none of which blocks.
#[derive(Debug, Default)]
pub struct Sockets {
    /// TCP.
    pub tcp: Vec<TcpListener>,
    /// Unix domain.
    pub unix: Vec<UnixListener>,
}

impl Sockets {
    /// Listens as the configuration says.
    pub fn bind(config: &ProxyConfig) -> Result<Self, StartError> {
        Self::adopt(Self::default(), config)
    }

    /// Sockets that another process listened on. Those the configuration still asks for are kept, the others are closed
    /// here, and what is missing is made.
    pub fn adopt(handed: Self, config: &ProxyConfig) -> Result<Self, StartError> {
        let wanted: Vec<SocketAddr> = std::iter::once(config.listen)
            .chain(config.listen_also.iter().copied())
            .collect();
        let mut handed_tcp = handed.tcp;
        let mut kept: Vec<Option<TcpListener>> = wanted
            .iter()
            .map(|listen| {
                let same = |at: SocketAddr| {
                    at.ip() == listen.ip() && (listen.port() == 0 || at.port() == listen.port())
                };
                let is = |socket: &TcpListener| socket.local_addr().is_ok_and(same);
                let at = handed_tcp.iter().position(is)?;
                Some(handed_tcp.swap_remove(at))
            })
            .collect();
        // Before anything is made: an address may be free only now.
        drop(handed_tcp);
        for (socket, address) in kept.iter_mut().zip(&wanted) {
            if socket.is_none() {
                *socket = Some(bind_tcp(*address, &wanted, config.reuse_port)?);
            }
        }
        let mut sockets = Self {
            tcp: kept.into_iter().flatten().collect(),
            unix: Vec::new(),
        };
        let port = sockets
            .address()
            .map_or(config.listen.port(), |address| address.port());
        if let Some(unix) = &config.unix_socket {
            let path = unix.path(port);
            let same = handed
                .unix
                .into_iter()
                .find(|socket| path_of(socket).as_ref() == Some(&path));
            let socket = match same {
                Some(socket) => socket,
                None => bind_unix(unix, &path).map_err(|source| StartError::ListenUnix { path, source })?,
            };
            sockets.unix.push(socket);
        }
        Ok(sockets)
    }

    /// Makes sockets that came from elsewhere ready for use.
    pub fn prepare(&self) -> io::Result<()> {
        self.tcp
            .iter()
            .try_for_each(|socket| socket.set_nonblocking(true))?;
        self.unix
            .iter()
            .try_for_each(|socket| socket.set_nonblocking(true))
    }

    /// The same sockets once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            tcp: self
                .tcp
                .iter()
                .map(TcpListener::try_clone)
                .collect::<io::Result<_>>()?,
            unix: self
                .unix
                .iter()
                .map(UnixListener::try_clone)
                .collect::<io::Result<_>>()?,
        })
    }

    /// Where TCP clients connect; the first address if there are several.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.first().and_then(|socket| socket.local_addr().ok())
    }

    /// Where TCP clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.tcp.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Takes the names of the Unix sockets away: nobody will listen on them any more.
    pub fn remove_files(&self) {
        for socket in &self.unix {
            if let Some(path) = path_of(socket) {
                // Gone already is as good.
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl UnixSocketConfig {
    /// The socket's name, as libpq makes it from the directory and the port.
    #[must_use]
    pub fn path(&self, port: u16) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{port}"))
    }
}

/// Listens at one of the wanted addresses. `[::]` takes IPv4 too, unless another address of the same port does.
fn bind_tcp(address: SocketAddr, wanted: &[SocketAddr], shared: bool) -> Result<TcpListener, StartError> {
    let listen = |source| StartError::Listen { address, source };
    let beside = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    listen_at(address, address.is_ipv6() && wanted.iter().any(beside), shared).map_err(listen)
}

fn listen_at(address: SocketAddr, v6_only: bool, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if v6_only {
        socket.set_only_v6(true)?;
    }
    // As the standard library does: a port is free again while old connections to it still say goodbye.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn path_of(socket: &UnixListener) -> Option<PathBuf> {
    socket.local_addr().ok()?.as_pathname().map(Path::to_owned)
}

fn bind_unix(config: &UnixSocketConfig, path: &Path) -> io::Result<UnixListener> {
    // A name left behind by a crash is in the way although nobody listens.
    if let Err(error) = UnixStream::connect(path)
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        fs::remove_file(path)?;
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(config.mode))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_left_behind_is_taken_over_and_one_in_use_is_not() {
        let directory = std::env::temp_dir().join(format!("drover-sockets-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let config = UnixSocketConfig {
            directory: directory.clone(),
            mode: 0o700,
        };
        let path = config.path(6432);
        drop(UnixListener::bind(&path).expect("binds"));
        let socket = bind_unix(&config, &path).expect("the old name is free");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let error = bind_unix(&config, &path).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let sockets = Sockets {
            tcp: Vec::new(),
            unix: vec![socket],
        };
        sockets.remove_files();
        assert!(!path.exists());
        fs::remove_dir_all(directory).expect("removed");
    }
}
