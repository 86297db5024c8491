//! A TCP or Unix socket with deadlines.

use super::{ClientError, Target};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The socket under a client.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn connect(target: &Target, timeout: Duration) -> Result<Stream, ClientError> {
        if let Some(path) = target.socket_path() {
            return Ok(Stream::Unix(UnixStream::connect(path)?));
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "host has no address");
        for address in (target.host.as_str(), target.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Stream::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Reads some bytes before `deadline`; 0 means the server closed.
    pub(crate) fn read_until(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, ClientError> {
        uninterrupted(|| {
            let left = remaining(deadline)?;
            let read = match self {
                Stream::Tcp(stream) => stream
                    .set_read_timeout(Some(left))
                    .and_then(|()| stream.read(buffer)),
                Stream::Unix(stream) => stream
                    .set_read_timeout(Some(left))
                    .and_then(|()| stream.read(buffer)),
            };
            read.map_err(as_timeout)
        })
    }

    /// Writes everything before `deadline`.
    pub(crate) fn write_until(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let written = uninterrupted(|| {
                let left = remaining(deadline)?;
                let written = match self {
                    Stream::Tcp(stream) => stream
                        .set_write_timeout(Some(left))
                        .and_then(|()| stream.write(bytes)),
                    Stream::Unix(stream) => stream
                        .set_write_timeout(Some(left))
                        .and_then(|()| stream.write(bytes)),
                };
                written.map_err(as_timeout)
            })?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Cuts both directions at once, as a client that dies does.
    pub(crate) fn cut(&self) {
        // The peer may have gone first; there is nothing left to do then.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn remaining(deadline: Instant) -> Result<Duration, ClientError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ClientError::Timeout)
    } else {
        Ok(left)
    }
}

/// Calls again what a signal has cut short. Linux restarts no system call with a time-out by itself: that the process
/// was stopped and went on is enough.
fn uninterrupted(mut call: impl FnMut() -> Result<usize, ClientError>) -> Result<usize, ClientError> {
    loop {
        match call() {
            Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn as_timeout(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout,
        _ => ClientError::Io(error),
    }
}
