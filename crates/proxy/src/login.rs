//! From accept to AuthenticationOk: everything a client can do before it has proved who it is.
//!
//! Nothing is known about the peer yet, so memory and time are bounded: one small buffer, one startup packet of at
//! most `max_startup_bytes`, `login_timeout` for all of it.

mod auth;
mod encryption;
pub mod ident;
mod identity;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
pub use identity::PeerIdentity;
use tokio::sync::OwnedSemaphorePermit;
use wire::TransactionStatus;
use wire::backend::{ErrorFields, encode};
use wire::startup::{self, ProtocolVersion, StartupMessage};

use crate::cancel::{ClientCancel, ClientKey, peers};
use crate::client::StartupInfo;
use crate::conn::{Conn, Socket};
use crate::pools::{Admission, CheckoutError};
use crate::sockets::Peer;
use crate::worker::{Stop, WorkerCtx};

/// Size of the buffers of a connection that is logging in, in bytes.
pub(crate) const BUFFER_BYTES: usize = 2 * 1024;

/// A connection as it comes from the listener.
pub(crate) struct Accepted {
    pub(crate) socket: Incoming,
    pub(crate) peer: Peer,
    /// Where the client connected to; `None` for a Unix socket.
    pub(crate) local: Option<SocketAddr>,
    /// One of `max_logins`, held while logging in.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// An accepted socket on its way to a worker's runtime.
pub(crate) enum Incoming {
    /// It is registered there already.
    Here(Socket),
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Incoming {
    /// A socket of the calling thread's runtime. `stays`: that is the one it goes to.
    pub(crate) fn new(socket: Socket, stays: bool) -> io::Result<Self> {
        Ok(match socket {
            socket if stays => Self::Here(socket),
            Socket::Tcp(socket) => Self::Tcp(socket.into_std()?),
            Socket::Unix(socket) => Self::Unix(socket.into_std()?),
        })
    }

    /// Registers it with the runtime of the calling thread.
    pub(crate) fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Here(socket) => socket,
            Self::Tcp(socket) => Socket::Tcp(tokio::net::TcpStream::from_std(socket)?),
            Self::Unix(socket) => Socket::Unix(tokio::net::UnixStream::from_std(socket)?),
        })
    }
}

/// Clients of the console that may come although `max_clients` are there already.
const CONSOLE_RESERVE: usize = 10;

/// Why a connection ends before it is a session.
#[derive(Debug)]
pub(crate) enum LoginEnd {
    /// The peer is gone, or the socket broke.
    Closed,
    /// It was a CancelRequest, which is dealt with.
    Cancelled,
    /// The client is told why, then the connection is closed.
    Refused(Box<ErrorFields>),
}

impl From<io::Error> for LoginEnd {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => refused("08P01", "invalid message length during login"),
            _ => Self::Closed,
        }
    }
}

/// Ends a login with a FATAL error.
pub(crate) fn refused(code: &str, message: impl Into<String>) -> LoginEnd {
    LoginEnd::Refused(Box::new(ErrorFields::fatal(code, message)))
}

fn not_admitted(error: &CheckoutError) -> LoginEnd {
    let mut fields = ErrorFields::fatal(&error.sqlstate, error.message.clone());
    if let Some(hint) = &error.hint {
        fields = fields.with_hint(hint.clone());
    }
    LoginEnd::Refused(Box::new(fields))
}

/// Appends the rest of the start-up: the server's parameters, the client's cancel key, and that it may begin.
pub fn finish<'a>(out: &mut BytesMut, parameters: impl Iterator<Item = (&'a str, &'a str)>, key: &ClientKey) {
    for (name, value) in parameters {
        // Values with a zero byte cannot come from a server.
        let _ = encode::parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    let _ = encode::backend_key_data(out, key.pid, key.secret.as_bytes());
    encode::ready_for_query(out, TransactionStatus::Idle);
}

/// Brings a connection through the login. `None`: it has ended, and has been told why.
pub(crate) async fn admit(
    mut conn: Conn,
    peer: Peer,
    ctx: Rc<WorkerCtx>,
    stop: Rc<Stop>,
) -> Option<(Conn, StartupInfo, ClientCancel, Admission)> {
    let limit = ctx.shared.policies.source().limits.login_timeout;
    let end = match tokio::time::timeout(limit, login(&mut conn, peer, &ctx, &stop)).await {
        Ok(Ok((info, cancel, admission))) => return Some((conn, info, cancel, admission)),
        Ok(Err(end)) => end,
        Err(_) => {
            ctx.metrics.login_timeouts.increment();
            LoginEnd::Closed
        }
    };
    match end {
        LoginEnd::Cancelled => {}
        LoginEnd::Closed => ctx.metrics.logins_failed.increment(),
        LoginEnd::Refused(fields) => {
            ctx.metrics.logins_failed.increment();
            tracing::debug!(%peer, code = %fields.code, message = %fields.message, "login refused");
            encode::error(conn.out(), &fields);
            // A peer that does not read has no claim to its last words. Closing the sending side first lets it read
            // them although it may still be sending.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), conn.shutdown()).await;
        }
    }
    None
}

async fn login(
    conn: &mut Conn,
    peer: Peer,
    ctx: &Rc<WorkerCtx>,
    stop: &Stop,
) -> Result<(StartupInfo, ClientCancel, Admission), LoginEnd> {
    let mut identity = PeerIdentity::new(peer);
    let packet = encryption::startup_packet(conn, &mut identity, ctx).await?;
    let message = match startup::decode(&packet) {
        Ok(startup::Startup::Session(message)) => message,
        Ok(_) => return Err(LoginEnd::Closed),
        Err(error) => return Err(refused(error.sqlstate(), error.to_string())),
    };
    let shared = &ctx.shared;
    if shared.is_stopping() || stop.is_set() {
        return Err(refused("57P03", "the database system is shutting down"));
    }
    let max_clients = shared.policies.source().limits.max_clients;
    if shared.clients() > max_clients.saturating_add(reserve_for(&message, ctx)) {
        return Err(refused("53300", "sorry, too many clients already"));
    }
    if message.must_negotiate(ProtocolVersion::V3_2) {
        let options = message.protocol_options().map(str::as_bytes);
        encode::negotiate_protocol_version(
            conn.out(),
            message.version.min(ProtocolVersion::V3_2).code(),
            options,
        )
        .map_err(|_| refused("08P01", "invalid protocol option"))?;
    }
    let mut info = startup_info(&message, peer)?;
    encryption::check(ctx, &identity, &info.user)?;
    info.tls = conn.tls().map(|session| crate::tls::describe(session).into());
    auth::authenticate(conn, &info, &identity, ctx).await?;
    let console = &shared.policies.source().console;
    let admission = if console.serves(&info.database) {
        if !crate::console::may_enter(console, &info.user) {
            return Err(refused("42501", "not allowed to use the admin console"));
        }
        Admission::unlimited(&info.database, &info.user)
    } else {
        shared
            .admit(&info.user, &info.database)
            .map_err(|error| not_admitted(&error))?
    };
    encode::authentication_ok(conn.out());
    let cancel = shared
        .cancels
        .register(info.minor)
        .map_err(|_| refused("XX000", "no randomness for a cancel key"))?;
    Ok((info, cancel, admission))
}

/// Places beyond `max_clients` for this client: operators must be able to look at a full proxy. Whoever claims one of
/// their names has not shown yet that it is theirs, so there are few.
fn reserve_for(message: &StartupMessage<'_>, ctx: &WorkerCtx) -> usize {
    let console = &ctx.shared.policies.source().console;
    let database = message.get("database").unwrap_or_default();
    let user = message.get("user").unwrap_or_default();
    match console.serves(database) && crate::console::may_enter(console, user) {
        true => CONSOLE_RESERVE,
        false => 0,
    }
}

/// Passes a cancel on. The sender is never told anything, as with PostgreSQL; it knows that the request was dealt with
/// when its connection closes, so that is not before the servers have it.
async fn dispatch_cancel(ctx: &Rc<WorkerCtx>, pid: u32, key: &[u8]) {
    ctx.metrics.cancels.increment();
    let shared = &ctx.shared;
    let Some(slot) = shared.cancels.find(pid, peers::secret_of(key)) else {
        // Perhaps another proxy's client.
        if let Some(done) = shared.outbox.put(shared.cancels.number(), pid, key) {
            ctx.metrics.cancels_forwarded.increment();
            let _ = done.await;
        } else {
            ctx.metrics.cancels_unknown.increment();
        }
        return;
    };
    let Some(delivering) = Delivering::start(ctx) else {
        tracing::warn!("too many cancel requests at once, one was dropped");
        return;
    };
    // A task of its own: what was begun is finished even when the sender does not wait.
    let delivery = tokio::task::spawn_local(async move {
        let sent = slot.cancel_request().await;
        delivering.ctx.metrics.cancels_sent.add(sent as u64);
    });
    let _ = delivery.await;
}

/// Counts cancels under way.
struct Delivering {
    ctx: Rc<WorkerCtx>,
}

impl Delivering {
    fn start(ctx: &Rc<WorkerCtx>) -> Option<Self> {
        let running = ctx.shared.delivering.fetch_add(1, Ordering::Relaxed);
        let counted = Self { ctx: Rc::clone(ctx) };
        (running < ctx.shared.config.limits.max_cancels).then_some(counted)
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        self.ctx.shared.delivering.fetch_sub(1, Ordering::Relaxed);
    }
}

fn startup_info(message: &StartupMessage<'_>, peer: Peer) -> Result<StartupInfo, LoginEnd> {
    let user = match message.get("user") {
        Some(user) if !user.is_empty() => user,
        _ => {
            return Err(refused(
                "28000",
                "no PostgreSQL user name specified in startup packet",
            ));
        }
    };
    if message
        .get("replication")
        .is_some_and(|value| !matches!(value, "" | "0" | "false" | "off" | "no"))
    {
        return Err(refused("0A000", "replication connections are not supported"));
    }
    let database = message
        .get("database")
        .filter(|name| !name.is_empty())
        .unwrap_or(user);
    let params = message
        .params
        .iter()
        .filter(|(name, _)| {
            !matches!(*name, "user" | "database" | "replication") && !name.starts_with("_pq_.")
        })
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Ok(StartupInfo {
        user: Arc::from(user),
        database: Arc::from(database),
        params,
        minor: message.version.minor.min(ProtocolVersion::V3_2.minor),
        peer,
        tls: None,
    })
}

#[cfg(test)]
mod tests;
