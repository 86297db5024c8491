//! The proxy's own questions to a server: send text, collect the whole answer.
//!
//! For control traffic only (settings, analysis, commit steps, catalog reads); client rows are relayed, not collected.

use std::io;

use bytes::{Buf, BytesMut};
use wire::backend::{Backend, ErrorFields, tag};
use wire::frame::Message;
use wire::{TransactionStatus, frontend};

use crate::server::ServerConn;

/// The longest message accepted in an answer to the proxy itself, in bytes.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// All rows of one answer together may take this many bytes.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server closed it or the network failed.
    #[error("the connection to the server was lost")]
    Lost(#[source] io::Error),
    /// The server sent something that cannot be.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// The server ended the connection with an error.
    #[error("the server ended the connection: {}", .0.message)]
    Ended(Box<ErrorFields>),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A row in text form.
pub type TextRow = Vec<Option<String>>;

/// Everything a server said to one request, up to ReadyForQuery.
#[derive(Debug, Default)]
pub struct Reply {
    /// Rows of all statements, in order.
    pub rows: Vec<TextRow>,
    /// Command tags, in order.
    pub tags: Vec<String>,
    /// The error, when there was one (at most one per ReadyForQuery).
    pub error: Option<Box<ErrorFields>>,
    /// Notices, in order.
    pub notices: Vec<ErrorFields>,
    /// Body of the last RowDescription.
    pub columns: Option<Vec<u8>>,
    /// Types of the last ParameterDescription.
    pub params: Option<Vec<u32>>,
    /// Notices, notifications and parameter reports as they came, for a client that should see them.
    pub aside: BytesMut,
}

impl Reply {
    /// The first column of the first row.
    pub fn single(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// The server warned that a wait for synchronous replication was cancelled: what it committed is on no other server for
    /// certain, and may be lost with it.
    pub fn lost_replication(&self) -> bool {
        self.notices
            .iter()
            .any(|notice| notice.code == "01000" && notice.message.contains("synchronous replication"))
    }

    /// The rows, or the error.
    pub fn into_rows(self) -> Result<Vec<TextRow>, Box<ErrorFields>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.rows),
        }
    }
}

/// Sends a text by the simple protocol and collects the answer.
pub async fn query(server: &mut ServerConn, sql: &str) -> Result<Reply, LinkError> {
    send_query(server, sql)?;
    collect(server).await
}

/// Appends a Query message without sending it.
pub fn send_query(server: &mut ServerConn, sql: &str) -> Result<(), LinkError> {
    server.unnamed = None;
    frontend::encode::query(server.conn.out(), sql.as_bytes())
        .map_err(|_| LinkError::Protocol("statement too long"))
}

/// Collects an answer up to the next ReadyForQuery; what is pending is sent meanwhile.
pub async fn collect(server: &mut ServerConn) -> Result<Reply, LinkError> {
    let result = collect_reply(server).await;
    if result.is_err() {
        // Nobody knows what it will say next.
        server.dirty = true;
        server.lost = true;
    }
    result
}

async fn collect_reply(server: &mut ServerConn) -> Result<Reply, LinkError> {
    let mut reply = Reply::default();
    let mut bytes = 0;
    loop {
        let frame = next_frame(server).await?;
        bytes += frame.len;
        if bytes > ANSWER_BYTES_MAX {
            return Err(LinkError::Protocol("answer too long"));
        }
        let done = {
            let Some(message) = server.conn.unread().get(..frame.len).and_then(Message::whole) else {
                return Err(LinkError::Protocol("message cut short"));
            };
            absorb(&mut reply, message)?
        };
        note_parameter(server, frame.len, frame.tag);
        server.conn.consume(frame.len);
        if let Some(status) = done {
            server.status = status;
            if let Some(error) = &mut reply.error {
                server.target.blame.rename(error);
            }
            return Ok(reply);
        }
    }
}

/// Waits until a whole message is at the front, sending what is pending.
pub async fn next_frame(server: &mut ServerConn) -> Result<wire::frame::Frame, LinkError> {
    loop {
        match server.conn.peek(MESSAGE_BYTES_MAX) {
            Ok(Some(frame)) if server.conn.unread().len() >= frame.len => return Ok(frame),
            Ok(_) => {}
            Err(_) => return Err(LinkError::Protocol("impossible message length")),
        }
        if server.conn.progress().await?.read == Some(0) {
            return Err(LinkError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Keeps the connection's idea of reported settings up to date; `len` bytes at the front are one message.
pub fn note_parameter(server: &mut ServerConn, len: usize, tag: u8) {
    if tag != wire::backend::tag::PARAMETER_STATUS {
        return;
    }
    let (name, value) = match server
        .conn
        .unread()
        .get(..len)
        .and_then(Message::whole)
        .map(Backend::decode)
    {
        Some(Ok(Backend::ParameterStatus { name, value })) => (
            String::from_utf8_lossy(name).into_owned(),
            String::from_utf8_lossy(value).into_owned(),
        ),
        _ => return,
    };
    server.parameters.set(&name, &value);
}

/// Takes one message into the reply; the status when it was ReadyForQuery.
fn absorb(reply: &mut Reply, message: Message<'_>) -> Result<Option<TransactionStatus>, LinkError> {
    if matches!(
        message.tag,
        tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS
    ) {
        reply.aside.extend_from_slice(message.bytes);
    }
    let decoded = Backend::decode(message).map_err(|_| LinkError::Protocol("undecodable message"))?;
    match decoded {
        Backend::ReadyForQuery(status) => return Ok(Some(status)),
        Backend::DataRow(row) => reply.rows.push(text_row(row)),
        Backend::CommandComplete { tag } => reply.tags.push(String::from_utf8_lossy(tag).into_owned()),
        Backend::Error(fields) => {
            let fields = fields.to_owned();
            if fields.severity == "FATAL" || fields.severity == "PANIC" {
                return Err(LinkError::Ended(Box::new(fields)));
            }
            reply.error = Some(Box::new(fields));
        }
        Backend::Notice(fields) => reply.notices.push(fields.to_owned()),
        Backend::RowDescription(_) => reply.columns = Some(message.body().to_vec()),
        Backend::ParameterDescription(types) => reply.params = Some(types.iter().collect()),
        _ => {}
    }
    Ok(None)
}

fn text_row(row: wire::backend::DataRow<'_>) -> TextRow {
    (0..row.len())
        .map(|index| {
            row.column(index)
                .flatten()
                .map(|value| String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}

/// Drops everything up to and including the next `count` ReadyForQuery messages; the first error among them.
pub async fn skip_replies(
    server: &mut ServerConn,
    count: usize,
) -> Result<Option<Box<ErrorFields>>, LinkError> {
    let mut error = None;
    for _ in 0..count {
        let reply = collect(server).await?;
        error = error.or(reply.error);
    }
    Ok(error)
}

/// True when nothing is left of an earlier answer.
pub fn is_clean(server: &ServerConn) -> bool {
    !server.conn.unread().has_remaining() && server.conn.pending_out() == 0
}
