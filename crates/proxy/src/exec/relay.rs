//! Moving a server's answer to the client: only message headers are looked at, row bytes are forwarded in bulk.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use wire::backend::{Fields, encode, tag};

use super::budget::Budget;
use super::link::LinkError;
use crate::conn::Conn;
use crate::server::ServerConn;

/// What a server says of a statement that was cancelled, in English.
pub(crate) const CANCELLED: &str = "canceling statement due to user request";

/// What the client is told when it was cancelled because its time was over; as many bytes.
pub(crate) const TIMED_OUT: &str = "canceling statement after query_timeout";

/// Messages other than rows must fit into this many bytes (they are looked at as a whole).
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The client is sent what is there once this much has gathered, even while the server goes on talking.
const CLIENT_PENDING_MAX: usize = 128 * 1024;

/// Pipelined messages read ahead while a server answers, at most.
const CLIENT_AHEAD_MAX: usize = 64 * 1024;

/// What to do with one message of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the client.
    Forward,
    /// Away with it.
    Drop,
    /// To the client, then stop: the caller has to act.
    ForwardAndStop,
    /// Away with it, then stop.
    DropAndStop,
    /// Leave it at the front and stop.
    Stop,
}

/// Where a pump stands between two calls.
#[derive(Debug, Default)]
pub struct PumpState {
    /// Bytes of a row that has begun to pass and are still to come.
    passing: usize,
}

/// Why the pump ended.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The server is gone or broken.
    #[error(transparent)]
    Server(#[from] LinkError),
    /// The client is gone.
    #[error("the client is gone")]
    Client(#[source] io::Error),
}

/// Forwards messages until `decide` says stop. Rows and COPY data are forwarded without being asked about.
///
/// `decide` sees the tag and the whole message and may patch it in place. When the future is dropped before it has ended,
/// another one goes on where it was.
pub async fn pump(
    server: &mut ServerConn,
    client: &mut Conn,
    mut decide: impl FnMut(u8, &mut [u8], &mut Conn) -> Verdict,
) -> Result<(), PumpError> {
    let mut state = PumpState {
        passing: std::mem::take(&mut server.passing),
    };
    loop {
        if drain(server, client, &mut state, &mut decide)? {
            return Ok(());
        }
        // For whoever brings the server into order, or goes on.
        server.passing = state.passing;
        if let Some(budget) = server.budget.clone() {
            budget.cancel_if_due().await;
        }
        wait_for_server(server, client).await?;
        server.passing = 0;
    }
}

/// Handles what has been received. True when `decide` stopped.
fn drain(
    server: &mut ServerConn,
    client: &mut Conn,
    state: &mut PumpState,
    decide: &mut impl FnMut(u8, &mut [u8], &mut Conn) -> Verdict,
) -> Result<bool, PumpError> {
    // Bytes at the front that go to the client as they are.
    let mut run = 0;
    loop {
        let available = server.conn.unread().len() - run;
        if state.passing > 0 {
            let n = state.passing.min(available);
            run += n;
            state.passing -= n;
            if state.passing > 0 {
                break;
            }
            continue;
        }
        let Some(header) = server.conn.unread()[run..].first_chunk::<5>() else {
            break;
        };
        let kind = header[0];
        let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).ok().filter(|length| *length >= 4);
        let Some(total) = length.map(|length| length + 1) else {
            return Err(LinkError::Protocol("impossible message length").into());
        };
        if kind == tag::COPY_DATA || (kind == tag::DATA_ROW && is_admitted(server, total)) {
            state.passing = total;
            continue;
        }
        if total > MESSAGE_BYTES_MAX {
            return Err(LinkError::Protocol("message too long").into());
        }
        if available < total {
            break;
        }
        if kind == tag::DATA_ROW {
            discard(server, client, &mut run, total);
            continue;
        }
        let verdict = decide_one(server, client, &mut run, total, decide);
        match verdict {
            Verdict::Forward => run += total,
            Verdict::Drop => discard(server, client, &mut run, total),
            Verdict::ForwardAndStop => {
                server.conn.transfer(run + total, client);
                return Ok(true);
            }
            Verdict::DropAndStop => {
                discard(server, client, &mut run, total);
                return Ok(true);
            }
            Verdict::Stop => {
                server.conn.transfer(run, client);
                return Ok(true);
            }
        }
    }
    if run > 0 {
        server.conn.transfer(run, client);
    }
    Ok(false)
}

/// Whether a row of so many bytes is within the budget of the statement. Each is asked about until it is there as a whole.
fn is_admitted(server: &ServerConn, bytes: usize) -> bool {
    match &server.budget {
        Some(budget) if budget.counts() => !budget.is_exceeded() && budget.admit(bytes),
        _ => true,
    }
}

/// Shows one message to `decide`. What precedes it may have to leave first, because `decide` may append to the client.
fn decide_one(
    server: &mut ServerConn,
    client: &mut Conn,
    run: &mut usize,
    total: usize,
    decide: &mut impl FnMut(u8, &mut [u8], &mut Conn) -> Verdict,
) -> Verdict {
    let kind = server.conn.unread()[*run];
    if kind == tag::PARAMETER_STATUS {
        remember_parameter(server, *run, total);
    }
    let late = kind == tag::ERROR && server.watch.as_ref().is_some_and(|watch| watch.has_fired());
    let by_budget = late && server.watch.as_ref().is_some_and(|watch| watch.is_budget());
    if late && !by_budget {
        name_timeout(&mut server.conn.unread_mut()[*run..*run + total]);
    }
    let pending = client.pending_out();
    let message = &server.conn.unread()[*run..*run + total];
    let renamed = match (kind, &server.budget) {
        (tag::ERROR, Some(budget)) if by_budget => over_budget(budget, message),
        (tag::ERROR, _) => server.target.blame.renamed(message),
        _ => None,
    };
    let verdict = match renamed {
        Some(mut message) => {
            let verdict = decide(kind, &mut message, client);
            instead(verdict, &message, client)
        }
        None => decide(kind, &mut server.conn.unread_mut()[*run..*run + total], client),
    };
    if client.pending_out() != pending && *run > 0 {
        // Something was inserted for the client: it belongs behind the run, which has not been moved yet.
        let inserted = client.out().split_off(pending);
        client.out().extend_from_slice(&server.conn.unread()[..*run]);
        client.out().unsplit(inserted);
        server.conn.consume(*run);
        *run = 0;
    }
    verdict
}

/// Another message is forwarded in place of the server's.
fn instead(verdict: Verdict, message: &[u8], client: &mut Conn) -> Verdict {
    match verdict {
        Verdict::Forward => {
            client.out().extend_from_slice(message);
            Verdict::Drop
        }
        Verdict::ForwardAndStop => {
            client.out().extend_from_slice(message);
            Verdict::DropAndStop
        }
        other => other,
    }
}

/// Forwards the run and drops the message behind it.
fn discard(server: &mut ServerConn, client: &mut Conn, run: &mut usize, total: usize) {
    if *run > 0 {
        client.out().extend_from_slice(&server.conn.unread()[..*run]);
    }
    server.conn.consume(*run + total);
    *run = 0;
}

/// The server was sent a cancel because a time was over: its words are changed in place, hence of the same length.
fn name_timeout(message: &mut [u8]) {
    let said = CANCELLED.as_bytes();
    if let Some(at) = message.windows(said.len()).position(|window| window == said) {
        message[at..at + said.len()].copy_from_slice(TIMED_OUT.as_bytes());
    }
}

/// The same where it was the statement's budget of time.
fn over_budget(budget: &Budget, message: &[u8]) -> Option<BytesMut> {
    let fields = Fields::decode(message.get(5..)?).ok()?.to_owned();
    let mut told = BytesMut::new();
    encode::error(&mut told, &budget.late(&fields)?);
    Some(told)
}

fn remember_parameter(server: &mut ServerConn, at: usize, total: usize) {
    let body = &server.conn.unread()[at + 5..at + total];
    let mut parts = body.split(|byte| *byte == 0);
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
        return;
    };
    let (name, value) = (
        String::from_utf8_lossy(name).into_owned(),
        String::from_utf8_lossy(value).into_owned(),
    );
    server.parameters.set(&name, &value);
}

/// Waits until the server said more. Meanwhile the client gets what is there, and its pipelined messages are read so
/// that neither side waits for the other.
pub async fn wait_for_server(server: &mut ServerConn, client: &mut Conn) -> Result<(), PumpError> {
    let result = poll_fn(|cx| {
        match server.conn.poll_progress(cx) {
            Poll::Ready(Ok(progress)) => match progress.read {
                Some(0) => return Poll::Ready(Err(lost_eof())),
                Some(_) => return Poll::Ready(Ok(())),
                None => return Poll::Ready(Ok(())),
            },
            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Server(error.into()))),
            Poll::Pending => {}
        }
        // The server has nothing at the moment: give the client what there is.
        watch_client(client, cx)
    })
    .await;
    result?;
    if client.pending_out() > CLIENT_PENDING_MAX {
        client.flush().await.map_err(PumpError::Client)?;
    }
    Ok(())
}

/// The message Sync. Behind an Execute it asks for nothing that could be done for a client that is gone.
const SYNC: &[u8] = b"S\0\0\0\x04";

/// While a server is waited for: sends the client what there is and reads its pipelined messages. Ready only when the
/// client is gone.
pub fn watch_client(client: &mut Conn, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
    if client.pending_out() > 0
        && let Poll::Ready(Err(error)) = client.poll_flush(cx)
    {
        return Poll::Ready(Err(PumpError::Client(error)));
    }
    if client.unread().remaining() < CLIENT_AHEAD_MAX {
        match client.poll_fill(cx) {
            Poll::Ready(Ok(0)) if matches!(client.unread(), [] | SYNC) => {
                return Poll::Ready(Err(PumpError::Client(io::ErrorKind::UnexpectedEof.into())));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Client(error))),
            Poll::Ready(Ok(n)) if n > 0 => cx.waker().wake_by_ref(),
            _ => {}
        }
    }
    Poll::Pending
}

/// Does something while the client is watched. `None`: the client is gone, and the rest of it was dropped.
pub async fn beside_client<T>(client: &mut Conn, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => match watch_client(client, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => Poll::Pending,
        },
    })
    .await
}

/// The server has closed the connection.
pub fn lost_eof() -> PumpError {
    PumpError::Server(LinkError::Lost(io::ErrorKind::UnexpectedEof.into()))
}

/// Puts the home shard's OIDs into a RowDescription of another shard; column formats stay. `home` is the body of the
/// home shard's RowDescription. False when the two do not describe the same columns.
pub fn adopt_columns(message: &mut [u8], home: &[u8]) -> bool {
    let Some(body) = message.get_mut(5..) else {
        return false;
    };
    if body.len() != home.len() || body.get(..2) != home.get(..2) {
        return false;
    }
    let mut at = 2;
    while at < home.len() {
        let Some(name) = home[at..].iter().position(|byte| *byte == 0) else {
            return false;
        };
        let fixed = at + name + 1;
        if fixed + 18 > home.len() || body[at..fixed] != home[at..fixed] {
            return false;
        }
        // Table, column, type, size, modifier; the two bytes of the format are the receiver's own.
        body[fixed..fixed + 16].copy_from_slice(&home[fixed..fixed + 16]);
        at = fixed + 18;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_told_in_as_many_letters() {
        let mut message = b"E....C57014\0Mcanceling statement due to user request\0".to_vec();
        name_timeout(&mut message);
        assert_eq!(
            message,
            b"E....C57014\0Mcanceling statement after query_timeout\0"
        );
    }

    fn description(name: &str, table: u32, format: u8) -> Vec<u8> {
        let mut body = vec![0, 1];
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&[0, 1, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, format]);
        body
    }

    #[test]
    fn oids_are_adopted_and_formats_kept() {
        let mut message = vec![b'T', 0, 0, 0, 0];
        message.extend_from_slice(&description("a", 7, 1));
        assert!(adopt_columns(&mut message, &description("a", 9, 0)));
        assert_eq!(&message[5..], description("a", 9, 1).as_slice());
        assert!(!adopt_columns(&mut message, &description("b", 9, 0)));
    }
}
