//! Reading the answers of several servers at once.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use wire::backend::{Backend, ErrorFields, tag};
use wire::frame::Message;
use wire::{FormatCode, Target, TransactionStatus, frontend};

use super::link::{self, LinkError};
use super::relay::{PumpError, watch_client};
use crate::conn::Conn;
use crate::server::ServerConn;

/// A message of a shard must fit into this many bytes to be merged.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The client is sent what is there once this much has gathered.
const CLIENT_PENDING_MAX: usize = 128 * 1024;

/// A source whose rows wait to be merged is not read beyond this many bytes.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// One execution by the extended protocol.
pub struct Request<'a> {
    /// SQL text.
    pub sql: &'a str,
    /// Parameter types, 0 where the server is to infer.
    pub types: &'a [u32],
    /// Parameter values with their formats.
    pub params: &'a [(Option<&'a [u8]>, FormatCode)],
    /// Format of each result column, or none for all text.
    pub formats: &'a [FormatCode],
    /// Rows wanted, 0 = all.
    pub max_rows: u32,
    /// Ask for the result columns.
    pub describe: bool,
}

/// Whether a text made here, which is UTF-8, means the same to a server: it converts what it gets from the client's encoding.
pub fn is_understood(server: &ServerConn, sql: &str) -> bool {
    sql.is_ascii()
        || server
            .parameters
            .get("client_encoding")
            .is_some_and(|name| name.eq_ignore_ascii_case("utf8") || name.eq_ignore_ascii_case("sql_ascii"))
}

/// Appends Parse, Bind, Execute, Sync.
pub fn send(server: &mut ServerConn, request: &Request<'_>) -> Result<(), LinkError> {
    open(server, b"", request)
}

/// The same with a portal of this name, which stays until the transaction ends or it is [closed](close): its other rows can be
/// had with [`go_on`], whatever the connection does in between.
pub fn open(server: &mut ServerConn, portal: &[u8], request: &Request<'_>) -> Result<(), LinkError> {
    server.unnamed = None;
    let out = server.conn.out();
    frontend::encode::parse(out, b"", request.sql.as_bytes(), request.types.iter().copied())
        .map_err(too_long)?;
    let formats: Vec<FormatCode> = request.params.iter().map(|(_, format)| *format).collect();
    let values = request.params.iter().map(|(value, _)| *value);
    frontend::encode::bind(out, portal, b"", formats, values, request.formats.iter().copied())
        .map_err(too_long)?;
    if request.describe {
        frontend::encode::describe(out, Target::Portal, portal).map_err(too_long)?;
    }
    let max_rows = i32::try_from(request.max_rows).unwrap_or(0);
    frontend::encode::execute(out, portal, max_rows).map_err(too_long)?;
    frontend::encode::sync(out);
    Ok(())
}

/// Asks an open portal for so many further rows.
pub fn go_on(server: &mut ServerConn, portal: &[u8], max_rows: u32) -> Result<(), LinkError> {
    let out = server.conn.out();
    frontend::encode::execute(out, portal, i32::try_from(max_rows).unwrap_or(0)).map_err(too_long)?;
    frontend::encode::sync(out);
    Ok(())
}

/// Closes a portal; with what is sent next, unless the server is to answer `now`.
pub fn close(server: &mut ServerConn, portal: &[u8], now: bool) -> Result<(), LinkError> {
    let out = server.conn.out();
    frontend::encode::close(out, Target::Portal, portal).map_err(too_long)?;
    if now {
        frontend::encode::sync(out);
    }
    Ok(())
}

fn too_long(_: wire::EncodeError) -> LinkError {
    LinkError::Protocol("statement too long")
}

/// Whether more rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// What still comes is not needed.
    Enough,
}

/// What becomes of the rows.
pub trait Sink {
    /// One row (a whole DataRow message) of a source.
    fn row(&mut self, source: usize, message: &[u8], client: &mut BytesMut)
    -> Result<Flow, Box<ErrorFields>>;

    /// A source has sent its last row.
    fn finished(&mut self, source: usize, client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>>;

    /// Bytes of this source held back because other sources are behind.
    fn held_back(&self, source: usize) -> usize {
        let _ = source;
        0
    }
}

/// One source of a scatter.
pub struct Source<'a> {
    /// Its connection.
    pub server: &'a mut ServerConn,
    /// Answers to skip before the one that counts (of a BEGIN sent along).
    pub skip: usize,
    /// The command tag, once it has come.
    pub tag: Option<Vec<u8>>,
    /// The error it answered with.
    pub error: Option<Box<ErrorFields>>,
    /// The connection broke.
    pub lost: Option<LinkError>,
    /// The answer is complete.
    pub done: bool,
    /// When that was.
    pub ended: Option<Instant>,
}

impl<'a> Source<'a> {
    /// A source whose request has been appended to its connection.
    pub fn new(server: &'a mut ServerConn, skip: usize) -> Self {
        Self {
            server,
            skip,
            tag: None,
            error: None,
            lost: None,
            done: false,
            ended: None,
        }
    }

    fn failed(&self) -> bool {
        self.error.is_some() || self.lost.is_some()
    }
}

/// Reads all sources to their ends. When one fails, `on_failure` is called once (to cancel the others) and rows are no
/// longer looked at. The result is the sink's own error, if it had one.
pub async fn run(
    sources: &mut [Source<'_>],
    client: &mut Conn,
    sink: &mut impl Sink,
    mut on_failure: impl AsyncFnMut(),
) -> Result<Option<Box<ErrorFields>>, PumpError> {
    let mut sink_error = None;
    let mut wanted = Flow::More;
    let mut cancelled = false;
    let mut notices: Vec<Vec<u8>> = Vec::new();
    loop {
        for (number, source) in sources.iter_mut().enumerate() {
            while !source.done {
                let taken = take_one(number, source, client, sink, &mut wanted, &mut notices);
                match taken {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        wanted = Flow::Enough;
                        sink_error.get_or_insert(error);
                    }
                }
            }
        }
        if sources.iter().all(|source| source.done) {
            return Ok(sink_error);
        }
        let failed = sink_error.is_some() || sources.iter().any(Source::failed);
        if failed {
            wanted = Flow::Enough;
            if !cancelled {
                cancelled = true;
                on_failure().await;
            }
        }
        if client.pending_out() > CLIENT_PENDING_MAX {
            client.flush().await.map_err(PumpError::Client)?;
        }
        wait_any(sources, client, sink, wanted).await?;
    }
}

/// Handles one message of a source. False: none is complete.
fn take_one(
    number: usize,
    source: &mut Source<'_>,
    client: &mut Conn,
    sink: &mut impl Sink,
    wanted: &mut Flow,
    notices: &mut Vec<Vec<u8>>,
) -> Result<bool, Box<ErrorFields>> {
    let frame = match source.server.conn.peek(MESSAGE_BYTES_MAX) {
        Ok(Some(frame)) if source.server.conn.unread().len() >= frame.len => frame,
        Ok(_) => return Ok(false),
        Err(_) => {
            lose(source, LinkError::Protocol("impossible message length"));
            return Ok(false);
        }
    };
    link::note_parameter(source.server, frame.len, frame.tag);
    let bytes = &source.server.conn.unread()[..frame.len];
    let mut result = Ok(true);
    match frame.tag {
        tag::READY_FOR_QUERY if source.skip > 0 => source.skip -= 1,
        _ if source.skip > 0 && frame.tag != tag::ERROR => {}
        tag::DATA_ROW if *wanted == Flow::More => {
            result = sink.row(number, bytes, client.out()).map(|flow| {
                *wanted = flow;
                true
            });
        }
        tag::COMMAND_COMPLETE => {
            source.tag = Some(bytes[5..bytes.len().saturating_sub(1)].to_vec());
        }
        tag::ERROR => note_error(source, frame.len),
        tag::NOTICE if !notices.iter().any(|known| known == bytes) => {
            notices.push(bytes.to_vec());
            client.out().extend_from_slice(bytes);
        }
        tag::READY_FOR_QUERY => {
            source.server.status = status(bytes);
            source.done = true;
            source.ended = Some(Instant::now());
            if *wanted == Flow::More && !source.failed() {
                result = sink.finished(number, client.out()).map(|flow| {
                    *wanted = flow;
                    true
                });
            }
        }
        tag::COPY_IN | tag::COPY_OUT | tag::COPY_BOTH => {
            lose(source, LinkError::Protocol("unexpected COPY"));
            return Ok(false);
        }
        _ => {}
    }
    source.server.conn.consume(frame.len);
    result
}

fn note_error(source: &mut Source<'_>, len: usize) {
    let message = source.server.conn.unread().get(..len).and_then(Message::whole);
    let mut fields = match message.map(Backend::decode) {
        Some(Ok(Backend::Error(fields))) => fields.to_owned(),
        _ => ErrorFields::error("XX000", "a shard sent an unreadable error"),
    };
    source.server.target.blame.rename(&mut fields);
    if fields.severity == "FATAL" || fields.severity == "PANIC" {
        lose(source, LinkError::Ended(Box::new(fields)));
    } else if source.error.is_none() {
        source.error = Some(Box::new(fields));
    }
}

fn lose(source: &mut Source<'_>, error: LinkError) {
    source.server.dirty = true;
    source.lost.get_or_insert(error);
    source.done = true;
}

fn status(message: &[u8]) -> TransactionStatus {
    match message.get(5) {
        Some(b'T') => TransactionStatus::InTransaction,
        Some(b'E') => TransactionStatus::Failed,
        _ => TransactionStatus::Idle,
    }
}

/// Waits until some source said more. A source that is far ahead of the others is not read.
async fn wait_any(
    sources: &mut [Source<'_>],
    client: &mut Conn,
    sink: &impl Sink,
    wanted: Flow,
) -> Result<(), PumpError> {
    poll_fn(|cx| {
        let mut heard = false;
        for (number, source) in sources.iter_mut().enumerate().filter(|(_, source)| !source.done) {
            if wanted == Flow::More && sink.held_back(number) > AHEAD_BYTES_MAX {
                continue;
            }
            match source.server.conn.poll_progress(cx) {
                Poll::Ready(Ok(progress)) if progress.read == Some(0) => {
                    lose(source, LinkError::Lost(io::ErrorKind::UnexpectedEof.into()));
                    heard = true;
                }
                Poll::Ready(Ok(_)) => heard = true,
                Poll::Ready(Err(error)) => {
                    lose(source, LinkError::Lost(error));
                    heard = true;
                }
                Poll::Pending => {}
            }
        }
        if heard {
            return Poll::Ready(Ok(()));
        }
        // Nobody wants the answer of a client that is gone, and others may wait for the locks that it holds.
        watch_client(client, cx)
    })
    .await
}
