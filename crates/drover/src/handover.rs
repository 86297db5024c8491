//! A restart that refuses no connection: the running proxy hands its listening sockets to the one that replaces it.
//!
//! Both talk over a Unix socket, the *control socket*. Its path comes from the configuration, so that the successor
//! finds it; only the same user, or root, may use it. What is said, one line each:
//!
//! | who | what | and then |
//! |---|---|---|
//! | successor | `take 1` | – |
//! | old | `sockets 1 <tcp> <unix> <http>`, with the sockets themselves | both could accept, only the old one does |
//! | successor | `ready`, once it accepts clients | both accept: whoever is faster |
//! | old | `draining`, once it does not accept any more | it ends when its clients have gone |
//!
//! What can fail between the steps: whoever dies, or says nothing for [`STEP_TIMEOUT`], ends the exchange. Before
//! `ready` the old proxy goes on as if nothing had been asked. After it the successor accepts, so nothing is refused
//! whether or not the old one is there to say `draining`. CancelRequests for clients of the old proxy reach the successor
//! from then on; the cluster's proxies hand them on to each other ([`proxy::cancel::peers`]).

use std::fs;
use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxy::sockets::Sockets;
use proxy::worker::Shared;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::sync::mpsc;

/// The longest either side waits for the other's next line. A successor joins the cluster in between.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Sockets handed over at most.
const SOCKETS_MAX: usize = 16;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// Why a proxy did not take over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// Nobody is there to take over from.
    #[error("no running proxy to take over from at {}", path.display())]
    Nobody {
        /// The control socket.
        path: PathBuf,
        /// Why it cannot be connected to.
        source: io::Error,
    },
    /// The exchange broke.
    #[error("the running proxy did not hand over")]
    Broken(#[source] io::Error),
    /// The other side says something else.
    #[error("the running proxy does not speak this version's language: {0}")]
    Unknown(String),
}

/// What the old proxy handed over.
#[derive(Debug)]
pub struct Taken {
    /// Where clients connect.
    pub sockets: Sockets,
    /// Where HTTP is served.
    pub http: Option<TcpListener>,
    /// To the proxy that waits.
    pub link: Link,
}

/// The connection to a proxy that has handed over and goes on until it is told otherwise.
#[derive(Debug)]
pub struct Link(UnixStream);

impl Taken {
    /// Asks the proxy behind the control socket for its sockets. Blocks.
    pub fn ask(path: &Path) -> Result<Taken, TakeoverError> {
        let mut stream = UnixStream::connect(path).map_err(|source| TakeoverError::Nobody {
            path: path.to_owned(),
            source,
        })?;
        stream
            .set_read_timeout(Some(STEP_TIMEOUT))
            .and_then(|()| stream.write_all(b"take 1\n"))
            .map_err(TakeoverError::Broken)?;
        let (line, files) = receive(&stream).map_err(TakeoverError::Broken)?;
        let unknown = || TakeoverError::Unknown(line.clone());
        let counts: Vec<usize> = line
            .strip_prefix("sockets 1 ")
            .ok_or_else(unknown)?
            .split(' ')
            .map(|count| count.parse().map_err(|_| unknown()))
            .collect::<Result<_, _>>()?;
        let &[tcp, unix, http] = counts.as_slice() else {
            return Err(unknown());
        };
        if tcp.saturating_add(unix).saturating_add(http) != files.len() {
            return Err(unknown());
        }
        let mut files = files.into_iter();
        Ok(Taken {
            sockets: Sockets {
                tcp: files.by_ref().take(tcp).map(TcpListener::from).collect(),
                unix: files.by_ref().take(unix).map(UnixListener::from).collect(),
            },
            http: files.next().map(TcpListener::from),
            link: Link(stream),
        })
    }
}

impl Link {
    /// Tells the old proxy that clients are served here now, and waits until it accepts no more. Blocks.
    pub fn ready(mut self) -> io::Result<()> {
        self.0.write_all(b"ready\n")?;
        let mut line = String::new();
        BufReader::new(&self.0).read_line(&mut line)?;
        match line.as_str() {
            "draining\n" => Ok(()),
            _ => Err(io::Error::other("the old proxy is gone")),
        }
    }
}

/// A successor that waits for `draining`.
#[derive(Debug)]
pub struct Replaced(std::sync::mpsc::Sender<()>);

impl Replaced {
    /// This process accepts no more.
    pub fn draining(self) {
        // It may have given up; it accepts all the same.
        let _ = self.0.send(());
    }
}

/// The control socket of a running proxy.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens at `path`, in place of whoever did before, on a thread of its own. Blocks for a moment.
    pub fn listen(
        path: &Path,
        shared: Arc<Shared>,
        http: Option<TcpListener>,
        events: mpsc::UnboundedSender<Replaced>,
    ) -> io::Result<Control> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Under a name of its own first: the old proxy's name is replaced in one step, and never missing.
        let own = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&own);
        let listener = UnixListener::bind(&own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600))?;
        fs::rename(&own, path)?;
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || serve(&listener, &shared, http, &events))?;
        Ok(Control {
            path: path.to_owned(),
        })
    }

    /// Takes the name away: for the end of a proxy that was not replaced.
    pub fn remove(self) {
        let _ = fs::remove_file(self.path);
    }
}

/// One exchange after the other, for as long as the process lives or until it was replaced.
fn serve(
    listener: &UnixListener,
    shared: &Shared,
    http: Option<TcpListener>,
    events: &mpsc::UnboundedSender<Replaced>,
) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of file descriptors, most likely.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        match offer(&stream, shared, http.as_ref(), events) {
            Ok(()) => {
                // Closed here too: the successor alone decides how long these sockets live.
                return drop(http);
            }
            Err(error) => tracing::warn!(%error, "a successor did not take over"),
        }
    }
}

/// Up to `draining`.
fn offer(
    mut stream: &UnixStream,
    shared: &Shared,
    http: Option<&TcpListener>,
    events: &mpsc::UnboundedSender<Replaced>,
) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    let own = rustix::process::getuid();
    if peer.uid != own && !peer.uid.is_root() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it runs as another user",
        ));
    }
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    expect(&mut reader, "take 1\n")?;
    let sockets = shared
        .sockets()
        .ok_or_else(|| io::Error::other("this proxy accepts no clients any more"))?;
    let line = format!(
        "sockets 1 {} {} {}\n",
        sockets.tcp.len(),
        sockets.unix.len(),
        usize::from(http.is_some())
    );
    let tcp = sockets.tcp.iter().map(|socket| socket.as_fd());
    let unix = sockets.unix.iter().map(|socket| socket.as_fd());
    let files: Vec<BorrowedFd<'_>> = tcp.chain(unix).chain(http.map(|socket| socket.as_fd())).collect();
    send(stream, &line, &files)?;
    expect(&mut reader, "ready\n")?;
    let (done, waiting) = std::sync::mpsc::channel();
    let _ = events.send(Replaced(done));
    // Without an answer the process is ending, which is as good.
    let _ = waiting.recv_timeout(STEP_TIMEOUT);
    stream.write_all(b"draining\n")
}

fn expect(reader: &mut BufReader<&UnixStream>, wanted: &str) -> io::Result<()> {
    let mut line = String::new();
    io::Read::take(&mut *reader, LINE_BYTES_MAX as u64).read_line(&mut line)?;
    if line == wanted {
        Ok(())
    } else if line.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it says something else",
        ))
    }
}

/// Sends a line together with open files.
fn send(stream: &UnixStream, line: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many sockets to hand over"));
    }
    // With a time-out on the socket the kernel resumes neither call after a signal, not even after a stop.
    let sent = retry_on_intr(|| {
        sendmsg(
            stream,
            &[IoSlice::new(line.as_bytes())],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    })?;
    // The files went with the first byte; a line this short goes in one piece.
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives a line and the files that come with it.
fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut bytes = [0; LINE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&bytes[..received.bytes]);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    line.pop();
    let line = String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((line, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_travel_with_their_line() {
        let (a, b) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&a, "sockets 1 1 0 0\n", &[listener.as_fd()]).unwrap();
        drop(listener);
        let (line, files) = receive(&b).unwrap();
        assert_eq!((line.as_str(), files.len()), ("sockets 1 1 0 0", 1));
        let listener = TcpListener::from(files.into_iter().next().unwrap());
        assert_eq!(listener.local_addr().unwrap(), address);
        let _client = std::net::TcpStream::connect(address).unwrap();
        drop(a);
        assert!(receive(&b).is_err(), "the end is noticed");
    }
}
