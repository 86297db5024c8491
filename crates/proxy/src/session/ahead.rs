//! A server's way to the session's settings, travelling in front of the statement that needs them.
//!
//! A server that was brought to other settings by another session needs some `SET`s first. They are appended to what the
//! server is to be sent and leave with the statement, in one write; their answers are swallowed in front of its own.
//!
//! *What if one of them fails?* (A role was dropped, a cancel came early.) Then the statement must not run. The changes
//! therefore go by the extended protocol and **without a Sync of their own**:
//!
//! ```text
//! Parse Bind Execute BEGIN · Parse Bind Execute SET … · Parse Bind Execute COMMIT · [the statement's own messages]
//! ```
//!
//! After an error PostgreSQL ignores every message up to the next Sync, a Query as well, so whatever goes wrong in any of
//! them, the statement behind is not looked at. `BEGIN` and `COMMIT` make the changes a transaction of their own: an error
//! of the statement does not undo them, and the statement's transaction begins under the new settings, which counts for
//! `default_transaction_isolation` and its like.
//!
//! States of an [`Enlisted`]: *settled* (`ahead` is `None`) or *under way*. While it is under way, `applied` is *unknown*:
//! who drops the session here leaves a server that is emptied before its next use. The last CommandComplete makes it
//! settled; an error closes the connection and is the statement's error.
//!
//! *Reports.* A server reports a setting once per Sync or Query, and only if it then differs from what it reported last.
//! Where the change in front takes a setting away from that and the statement puts it back, nothing is reported, and the
//! client would go on believing in the value before. So nothing travels in front of a statement that may set something,
//! nor, where what else the pipeline will bring is not known yet, do changes of reported settings.
//!
//! A server whose settings are unknown needs `DISCARD ALL`, which no transaction takes: it keeps its round trip, as do
//! statements over several shards and everything else that asks a server questions first ([`Session::enlist`]).

use std::any::Any;
use std::rc::Rc;

use bytes::BytesMut;
use wire::backend::{ErrorFields, tag};
use wire::frontend::encode;

use super::block::Enlisted;
use super::enlist::{is_settled, settle};
use super::settings::Settings;
use super::{Fault, Session};
use crate::exec::link;
use crate::server::{Applied, ServerConn};

/// Changes under way.
#[derive(Debug)]
pub struct Ahead {
    wanted: Rc<Settings>,
    /// CommandComplete messages to come.
    pub(super) answers: usize,
    /// Of the messages, in bytes.
    pub(super) len: usize,
}

impl Session {
    /// The changes under way on a server have all succeeded.
    pub(super) fn settled_ahead(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if let Some(ahead) = server.ahead.take() {
            server.lease.applied = Applied::Known(ahead.wanted as Rc<dyn Any>);
        }
    }

    /// Waits for the changes under way: something else than a statement is to come.
    pub(super) async fn finish_ahead(&mut self, index: usize) -> Result<(), Fault> {
        let server = &mut self.servers[index].lease;
        encode::sync(server.conn.out());
        let reply = link::collect(server).await;
        let result = match reply {
            Ok(reply) => reply.into_rows().map(|_| ()).map_err(Fault::Statement),
            Err(error) => Err(Fault::lost(&error, "a shard")),
        };
        match result {
            Ok(()) => self.settled_ahead(index),
            Err(_) => self.drop_server(index),
        }
        result
    }

    /// Servers on which changes are under way that no statement followed.
    pub(super) fn drop_unsettled_servers(&mut self) {
        while let Some(index) = self.servers.iter().position(|server| server.ahead.is_some()) {
            self.drop_server(index);
        }
    }
}

/// How a server that is in no transaction gets a session's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a round trip of their own.
    Before,
    /// In front of a statement that sets nothing.
    Ahead,
    /// In front of a pipeline that may go on to set something.
    AheadOfPipeline,
}

/// Brings a server on its way to the wanted settings. With `Some`, what was appended must be followed by a statement.
pub(super) async fn settle_by(
    way: Way,
    server: &mut ServerConn,
    wanted: &Rc<Settings>,
) -> Result<Option<Ahead>, Fault> {
    let fresh = Settings::default();
    let applied = match &server.applied {
        _ if is_settled(server, wanted) => return Ok(None),
        Applied::Unknown => return settle(server, wanted).await.map(|_| None),
        Applied::Fresh => &fresh,
        Applied::Known(applied) => applied.downcast_ref::<Settings>().unwrap_or(&fresh),
    };
    if way == Way::Before || (way == Way::AheadOfPipeline && !wanted.reports_like(applied)) {
        return settle(server, wanted).await.map(|_| None);
    }
    let changes = wanted.changes(applied);
    if changes.is_empty() {
        server.applied = Applied::Known(Rc::clone(wanted) as Rc<dyn Any>);
        return Ok(None);
    }
    server.applied = Applied::Unknown;
    server.unnamed = None;
    let out = server.conn.out();
    let before = out.len();
    let statements = std::iter::once("BEGIN")
        .chain(changes.iter().map(|change| &**change))
        .chain(std::iter::once("COMMIT"));
    for statement in statements {
        append(out, statement).map_err(|_| Fault::error("54000", "the settings are too long"))?;
    }
    Ok(Some(Ahead {
        wanted: Rc::clone(wanted),
        answers: changes.len() + 2,
        len: out.len() - before,
    }))
}

fn append(out: &mut BytesMut, statement: &str) -> Result<(), wire::EncodeError> {
    encode::parse(out, b"", statement.as_bytes(), [])?;
    encode::bind(out, b"", b"", [], [], [])?;
    encode::execute(out, b"", 0)
}

/// What a message means while `answers` are to come; false when it is one of them, or nothing the client is to see.
pub(super) fn is_refused(kind: u8, answers: &mut usize) -> bool {
    if kind == tag::COMMAND_COMPLETE {
        *answers -= 1;
    }
    kind == tag::ERROR
}

/// The error of a change, as the client is told.
pub(super) fn refusal_of(message: &[u8]) -> Box<ErrorFields> {
    let fields = wire::backend::Fields::decode(message.get(5..).unwrap_or_default());
    Box::new(match fields {
        Ok(fields) => fields.to_owned(),
        Err(_) => ErrorFields::error("08P01", "a shard sent an invalid error"),
    })
}

/// It ends the connection as well.
pub(super) fn is_fatal(fields: &ErrorFields) -> bool {
    fields.severity == "FATAL" || fields.severity == "PANIC"
}

impl Enlisted {
    /// CommandComplete messages that come before the statement's own answer.
    pub(super) fn answers_ahead(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.answers)
    }
}
