//! COPY from one server to others: bytes pass through, memory stays bounded.

use bytes::Buf;
use wire::backend::tag;
use wire::{frame, frontend};

use super::OpError;
use super::part::{Part, tag_count};
use crate::admin_link::AdminError;
use crate::exec::link::{self, LinkError};
use crate::server::ServerConn;

/// A message cannot be longer than its length field says; rows are passed on in pieces.
const MESSAGE_BYTES_MAX: usize = 0x7fff_ffff;

/// Bytes that may wait for one target before it has to take them.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// Runs `select` (a COPY … TO STDOUT) on `from` and `into` (a COPY … FROM STDIN) on every target. How many rows each
/// took; `on_rows` is told rows as they pass.
pub(super) async fn copy(
    from: &mut Part,
    to: &mut [&mut Part],
    select: &str,
    into: &str,
    on_rows: &mut dyn FnMut(u64),
) -> Result<u64, OpError> {
    start(from, select, tag::COPY_OUT).await?;
    for target in to.iter_mut() {
        start(target, into, tag::COPY_IN).await?;
    }
    pass_rows(from, to, on_rows).await?;
    let sent = finish(from).await?;
    for target in to.iter_mut() {
        frontend::encode::copy_done(target.link.server.conn.out());
        let taken = finish(target).await?;
        if taken != sent {
            let what = format!("{sent} rows were sent and {taken} taken");
            return Err(target.failed(AdminError::State(what)));
        }
    }
    Ok(sent)
}

/// Sends the statement and waits until the stream is open.
async fn start(part: &mut Part, sql: &str, wanted: u8) -> Result<(), OpError> {
    let opened = open_stream(&mut part.link.server, sql, wanted).await;
    match opened {
        Ok(None) => {
            part.copying = true;
            Ok(())
        }
        Ok(Some(error)) => Err(part.failed(error)),
        Err(error) => Err(lost(part, error)),
    }
}

async fn open_stream(
    server: &mut ServerConn,
    sql: &str,
    wanted: u8,
) -> Result<Option<AdminError>, LinkError> {
    link::send_query(server, sql)?;
    loop {
        let message = link::next_frame(server).await?;
        if message.tag == wanted {
            server.conn.consume(message.len);
            return Ok(None);
        }
        match message.tag {
            tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => server.conn.consume(message.len),
            tag::ERROR => {
                let reply = link::collect(server).await?;
                return Ok(reply
                    .error
                    .map(AdminError::Server)
                    .or_else(|| Some(AdminError::State("COPY did not start".to_owned()))));
            }
            _ => return Err(LinkError::Protocol("COPY was answered by something else")),
        }
    }
}

/// Passes CopyData messages on until `from` says something else.
async fn pass_rows(
    from: &mut Part,
    to: &mut [&mut Part],
    on_rows: &mut dyn FnMut(u64),
) -> Result<(), OpError> {
    // Bytes of a message at the front that have not been passed on.
    let mut rest = 0;
    loop {
        let unread = from.link.server.conn.unread();
        let found = scan(unread, rest).map_err(|error| lost(from, error))?;
        if found.bytes > 0 {
            rest = found.rest;
            on_rows(found.rows);
            pass(&mut from.link.server, to, found.bytes);
            drain(to).await?;
            continue;
        }
        match frame::peek(unread, MESSAGE_BYTES_MAX) {
            Ok(Some(message)) if rest == 0 => match message.tag {
                tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => {
                    let message = link::next_frame(&mut from.link.server).await;
                    let message = message.map_err(|error| lost(from, error))?;
                    from.link.server.conn.consume(message.len);
                    continue;
                }
                _ => return Ok(()),
            },
            Err(_) if rest == 0 => return Err(lost(from, LinkError::Protocol("impossible message length"))),
            _ => {}
        }
        match from.link.server.conn.fill().await {
            Ok(0) => {
                return Err(lost(
                    from,
                    LinkError::Lost(std::io::ErrorKind::UnexpectedEof.into()),
                ));
            }
            Ok(_) => {}
            Err(error) => return Err(lost(from, LinkError::Lost(error))),
        }
    }
}

/// What can be passed on of the bytes that are there.
struct Passable {
    /// That many bytes.
    bytes: usize,
    /// Bytes of the last message that are still to come.
    rest: usize,
    /// Rows that begin in these bytes.
    rows: u64,
}

/// `rest`: bytes at the front that belong to a message begun before.
fn scan(unread: &[u8], rest: usize) -> Result<Passable, LinkError> {
    let mut found = Passable {
        bytes: rest.min(unread.len()),
        rest: rest.saturating_sub(unread.len()),
        rows: 0,
    };
    while found.rest == 0 {
        let Some(next) = unread.get(found.bytes..) else {
            break;
        };
        let message = frame::peek(next, MESSAGE_BYTES_MAX)
            .map_err(|_| LinkError::Protocol("impossible message length"))?;
        match message {
            Some(message) if message.tag == tag::COPY_DATA => {
                found.rows += 1;
                found.rest = message.len.saturating_sub(next.len());
                found.bytes += message.len.min(next.len());
            }
            _ => break,
        }
    }
    Ok(found)
}

/// Hands bytes to every target, without copying when there is only one.
fn pass(from: &mut ServerConn, to: &mut [&mut Part], bytes: usize) {
    if let [only] = to {
        from.conn.transfer(bytes, &mut only.link.server.conn);
        return;
    }
    let chunk = from.conn.take(bytes);
    for target in to {
        target.link.server.conn.out().extend_from_slice(chunk.chunk());
    }
}

/// Waits for targets that have too much before them, and looks whether one has failed.
async fn drain(to: &mut [&mut Part]) -> Result<(), OpError> {
    for target in to {
        let conn = &mut target.link.server.conn;
        if conn.pending_out() >= PENDING_BYTES_MAX {
            if let Err(error) = conn.flush().await {
                return Err(last_words(target, LinkError::Lost(error)).await);
            }
        } else {
            conn.try_flush();
        }
        let conn = &mut target.link.server.conn;
        if conn.may_have_input() {
            // The end of the stream, too, is seen when something is asked of the connection.
            let _ = conn.try_fill();
        }
        if let Ok(Some(message)) = conn.peek(MESSAGE_BYTES_MAX)
            && message.tag == tag::ERROR
        {
            return Err(last_words(target, LinkError::Protocol("COPY ended early")).await);
        }
    }
    Ok(())
}

/// The error a target reported before it stopped, or else `error`.
async fn last_words(target: &mut Part, error: LinkError) -> OpError {
    let said = matches!(target.link.server.conn.peek(MESSAGE_BYTES_MAX), Ok(Some(message)) if message.tag == tag::ERROR);
    if said
        && let Ok(reply) = link::collect(&mut target.link.server).await
        && let Some(fields) = reply.error
    {
        return target.failed(AdminError::Server(fields));
    }
    lost(target, error)
}

/// The rows of a COPY that has ended.
async fn finish(part: &mut Part) -> Result<u64, OpError> {
    let reply = link::collect(&mut part.link.server)
        .await
        .map_err(|error| lost(part, error))?;
    part.copying = false;
    if let Some(error) = reply.error {
        return Err(part.failed(AdminError::Server(error)));
    }
    reply
        .tags
        .last()
        .and_then(|tag| tag_count(tag))
        .ok_or_else(|| part.failed(AdminError::State("COPY gave no count".to_owned())))
}

fn lost(part: &Part, error: LinkError) -> OpError {
    part.failed(AdminError::Link(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_across_reads() {
        let mut stream = Vec::new();
        for body in ["1\n", "twenty-two\n"] {
            stream.push(tag::COPY_DATA);
            stream.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            stream.extend_from_slice(body.as_bytes());
        }
        let copied = stream.len();
        stream.extend_from_slice(&[tag::COPY_DONE, 0, 0, 0, 4]);
        for size in 1..=stream.len() {
            let (mut rest, mut rows, mut passed, mut buffer) = (0, 0, 0, Vec::new());
            for piece in stream.chunks(size) {
                buffer.extend_from_slice(piece);
                let found = scan(&buffer, rest).unwrap();
                (rest, rows, passed) = (found.rest, rows + found.rows, passed + found.bytes);
                buffer.drain(..found.bytes);
            }
            assert_eq!((rest, rows, passed), (0, 2, copied), "{size}");
        }
    }
}
