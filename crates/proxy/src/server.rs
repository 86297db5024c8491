//! A connection to a PostgreSQL server, after login.

pub(crate) mod connect;
mod description;
mod dial;
mod prepared;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

pub use description::Description;
pub use dial::{Address, DialError, Dialler, Secret, Startup};
pub use prepared::{Added, Prepared, ServerStatement, StatementId};
use wire::TransactionStatus;

use crate::buffers::Buffers;
use crate::cancel::CancelTarget;
use crate::conn::{Conn, Socket};
use crate::exec::budget::Budget;
use crate::tls::TlsState;
use crate::worker::Watch;

/// How the server's backend process is named in a CancelRequest.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id.
    pub pid: u32,
    /// Secret: four bytes in protocol 3.0, up to 256 since 3.2.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendKey({})", self.pid)
    }
}

/// Which session settings a server connection has.
#[derive(Clone, Default)]
pub enum Applied {
    /// Those of a fresh login.
    #[default]
    Fresh,
    /// Those the session layer stored here; it knows the type.
    Known(Rc<dyn Any>),
    /// Unknown: reset everything (`DISCARD ALL`) before use.
    Unknown,
}

impl std::fmt::Debug for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fresh => "Fresh",
            Self::Known(_) => "Known",
            Self::Unknown => "Unknown",
        })
    }
}

/// Whose values `currval` and `lastval` would return on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SequenceOwner {
    /// Nobody's: nothing was drawn since the login or the last `DISCARD SEQUENCES`.
    #[default]
    Nobody,
    /// Only those of the session with this number.
    Session(u64),
    /// Those of several sessions.
    Several,
}

/// ParameterStatus values as last reported by the server.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    values: Vec<(Box<str>, Box<str>)>,
}

impl Parameters {
    /// The value of a parameter, by its exact name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(key, _)| &**key == name)
            .map(|(_, value)| &**value)
    }

    /// Takes over a report. Returns false when the value was the same already.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self.values.iter_mut().find(|(key, _)| &**key == name) {
            Some((_, old)) if &**old == value => false,
            Some((_, old)) => {
                *old = value.into();
                true
            }
            None => {
                self.values.push((name.into(), value.into()));
                true
            }
        }
    }

    /// All of them, in the order the server first reported them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// A logged-in server connection. IO goes through [`ServerConn::conn`].
#[derive(Debug)]
pub struct ServerConn {
    /// The socket and its buffers.
    pub conn: Conn,
    /// For CancelRequests.
    pub target: Arc<CancelTarget>,
    /// Where it is connected to.
    pub address: Arc<Address>,
    /// As reported by the last ReadyForQuery; whoever reads that message stores it here.
    pub status: TransactionStatus,
    /// As reported; whoever reads a ParameterStatus stores it here.
    pub parameters: Parameters,
    /// What is prepared on it.
    pub prepared: Prepared,
    /// Its unnamed statement, while it is certain: every Query and Parse of our own replaces it.
    pub unnamed: Option<StatementId>,
    /// What it was sent last, while that may have to be sent again.
    pub(crate) replay: bytes::BytesMut,
    /// Its settings.
    pub applied: Applied,
    /// Who may have drawn from sequences on it.
    pub sequences: SequenceOwner,
    /// What its login stated to the guards of its shard ([`crate::nodes::Nodes::fence`]), 0: nothing.
    pub epoch: u64,
    /// Of a replica: what is known of it.
    pub(crate) mark: Option<crate::session::ReplicaMark>,
    /// Bytes still to come of a row that has begun to pass to a client that is gone.
    pub passing: usize,
    /// Who watches the time of the session that uses it.
    pub(crate) watch: Option<Rc<Watch>>,
    /// What the statement at hand may have it send, where that is limited.
    pub(crate) budget: Option<Rc<Budget>>,
    /// While it was idle the server said why it ended this connection, and the reason concerns no other.
    pub ended_alone: bool,
    /// Something happened that a later user must not see; the pool closes it instead of reusing it.
    pub dirty: bool,
    /// An answer to the proxy's own question broke off: whoever has it must ask no more.
    pub lost: bool,
}

/// A server connection on its way to another worker.
#[derive(Debug)]
pub(crate) struct Travelling {
    socket: TravellingSocket,
    encryption: Option<Box<TlsState>>,
    target: Arc<CancelTarget>,
    address: Arc<Address>,
    parameters: Parameters,
    prepared: Prepared,
    sequences: SequenceOwner,
    fresh: bool,
    epoch: u64,
}

#[derive(Debug)]
enum TravellingSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl ServerConn {
    /// Nothing is outstanding: no transaction, nothing to send, nothing unread.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.status == TransactionStatus::Idle
            && self.conn.pending_out() == 0
            && self.conn.unread().is_empty()
    }

    /// The server said something, or closed, while the connection was idle. Only what the runtime already knows:
    /// no system call. When true, ask [`Self::survives_idle_input`].
    #[must_use]
    pub fn is_broken_hint(&self) -> bool {
        self.conn.may_have_input()
    }

    /// Reads what an idle server said. False when the connection is of no use any more: closed, broken, or it said
    /// something that is not harmless. Notices and parameter reports are harmless.
    pub fn survives_idle_input(&mut self) -> bool {
        loop {
            match self.conn.try_fill() {
                None => break,
                Some(Ok(n)) if n > 0 => {}
                Some(_) => return false,
            }
        }
        loop {
            match self.conn.message(dial::LOGIN_MESSAGE_BYTES_MAX) {
                Ok(None) => return self.conn.unread().is_empty(),
                Ok(Some(message)) => {
                    let len = message.bytes.len();
                    match message.tag {
                        b'N' | b'A' => {}
                        b'S' => match dial::parameter_status(message.body()) {
                            Some((name, value)) => {
                                self.parameters.set(name, value);
                            }
                            None => return false,
                        },
                        b'E' => {
                            self.ended_alone = !concerns_others(message);
                            return false;
                        }
                        _ => return false,
                    }
                    self.conn.consume(len);
                }
                Err(_) => return false,
            }
        }
    }

    /// Says goodbye and closes. Does not wait.
    pub fn close(mut self) {
        // In the middle of a message the server would not understand it; the closed socket says enough.
        if !self.conn.is_mid_message() {
            self.conn.out().extend_from_slice(b"X\0\0\0\x04");
            self.conn.try_flush();
        }
    }

    /// Leaves this worker's runtime. Only a quiet connection can; otherwise it is closed.
    pub(crate) fn depart(self) -> Option<Travelling> {
        if !self.is_quiet() {
            return None;
        }
        let (socket, encryption) = self.conn.into_parts();
        let socket = match socket {
            Socket::Tcp(socket) => TravellingSocket::Tcp(socket.into_std().ok()?),
            Socket::Unix(socket) => TravellingSocket::Unix(socket.into_std().ok()?),
        };
        Some(Travelling {
            socket,
            encryption,
            target: self.target,
            address: self.address,
            parameters: self.parameters,
            prepared: self.prepared,
            sequences: self.sequences,
            fresh: matches!(self.applied, Applied::Fresh),
            epoch: self.epoch,
        })
    }

    /// Joins this worker's runtime.
    pub(crate) fn arrive(from: Travelling, buffers: Buffers) -> std::io::Result<Self> {
        let socket = match from.socket {
            TravellingSocket::Tcp(socket) => Socket::Tcp(tokio::net::TcpStream::from_std(socket)?),
            TravellingSocket::Unix(socket) => Socket::Unix(tokio::net::UnixStream::from_std(socket)?),
        };
        Ok(Self {
            conn: Conn::from_parts(socket, from.encryption, buffers),
            target: from.target,
            address: from.address,
            status: TransactionStatus::Idle,
            parameters: from.parameters,
            prepared: from.prepared,
            unnamed: None,
            replay: bytes::BytesMut::new(),
            sequences: from.sequences,
            applied: if from.fresh {
                Applied::Fresh
            } else {
                Applied::Unknown
            },
            epoch: from.epoch,
            mark: None,
            passing: 0,
            watch: None,
            budget: None,
            ended_alone: false,
            dirty: false,
            lost: false,
        })
    }
}

/// The server's last words on one connection hold for all others too: it is shutting down or has crashed.
fn concerns_others(message: wire::frame::Message<'_>) -> bool {
    match wire::backend::Backend::decode(message) {
        Ok(wire::backend::Backend::Error(fields)) => {
            matches!(fields.to_owned().code.as_str(), "57P01" | "57P02" | "57P03")
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
