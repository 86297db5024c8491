//! Prepared statements whose plan a change of the schema has made invalid, made anew without the client.
//!
//! A statement on a server is shared by all clients with the same text and types. When its columns change (DDL by
//! whomever), PostgreSQL refuses to run it: right for who prepared it before the change, wrong for who prepared it
//! afterwards and got the older one. So the statement is closed on that server whenever this happens, and where nothing
//! has run and nothing was said, it is prepared again and run once more.
//!
//! That is done only if the client does not take the new columns for the old ones (see [`super::told`]): it has asked
//! for the portal's description in the same pipeline, or the columns are those it was told. Otherwise, and in a block, whose transaction
//! the refusal has ended, the client gets PostgreSQL's error, and its next attempt a new statement.

use wire::Target;
use wire::backend::{ErrorFields, Fields, field, tag};
use wire::frontend::encode;

use super::extended::Prepared;
use super::told::Learnt;
use super::{Fault, Session};
use crate::exec::link;
use crate::exec::statement::Action;
use crate::server::Description;

/// Requests up to this size, in bytes, are kept until the server has begun to answer.
const REPLAY_BYTES_MAX: usize = 16 * 1024;

impl Session {
    /// Keeps what is about to be sent to this server, in the connection's own buffer.
    pub(super) fn keep_for_replay(&mut self, index: usize) {
        let server = &mut *self.servers[index].lease;
        server.replay.clear();
        let from = self.servers[index].ahead.as_ref().map_or(0, |ahead| ahead.len);
        let server = &mut *self.servers[index].lease;
        let pending = server.conn.out();
        if pending.len() <= REPLAY_BYTES_MAX {
            server
                .replay
                .extend_from_slice(pending.get(from..).unwrap_or_default());
        }
    }

    /// The server's whole answer is that the plan is invalid: prepares the statement again. True when the request was
    /// appended again.
    pub(super) async fn replay_stale(&mut self, index: usize, prepared: &Prepared) -> Result<bool, Fault> {
        let server = &mut *self.servers[index].lease;
        // The server sends an error off at once, and ReadyForQuery after it.
        while only_says_stale(server.conn.unread()) {
            match server.conn.fill().await {
                Ok(n) if n > 0 => {}
                // The relay meets the same end, and knows what it means.
                _ => return Ok(false),
            }
        }
        let bytes = server.conn.unread();
        let Some(len) = stale_answer(bytes) else {
            return Ok(false);
        };
        let refusal = bytes::BytesMut::from(&bytes[..len]);
        let replay = std::mem::take(&mut server.replay);
        server.conn.consume(len);
        let now = self.renew(index, prepared).await?.description();
        let described = has_describe(&replay);
        let safe = match (&prepared.statement.action, &*prepared.told.borrow()) {
            (Action::Planned(planned), _) => {
                let planned = Description::new(None, planned.columns.as_deref());
                described || now.gives_the_same(&planned)
            }
            (_, Some(told)) => {
                told.takes_the_same(&now) == Some(true) && (described || now.gives_the_same(told))
            }
            (_, None) => described,
        };
        if replay.is_empty() || !safe {
            let message = refusal.get(5..).unwrap_or_default();
            let fields = Fields::decode(message).map(|fields| fields.to_owned());
            return Err(Fault::Statement(Box::new(fields.unwrap_or_else(|_| changed()))));
        }
        let server = &mut *self.servers[index].lease;
        server.conn.out().extend_from_slice(&replay);
        server.replay = replay;
        self.engine.metrics.statements_retried.increment();
        Ok(true)
    }

    /// Closes a statement on a server and prepares it there again under its name. The result is what it takes and
    /// gives now.
    pub(super) async fn renew(&mut self, index: usize, prepared: &Prepared) -> Result<Learnt, Fault> {
        let home = self.servers[index].shard == self.engine.cluster.home();
        let shard = self.shard_name(self.servers[index].shard);
        let server = &mut *self.servers[index].lease;
        let Some(name) = server.prepared.get(prepared.id) else {
            return Err(Fault::error("XX000", "a statement was not registered"));
        };
        let name = name.to_string();
        let types: Vec<u32> = match &prepared.statement.action {
            Action::Planned(planned) => planned.server_types(home).collect(),
            _ => prepared.types.clone(),
        };
        let too_long = |_| Fault::error("54000", "the statement is too long");
        let out = server.conn.out();
        encode::close(out, Target::Statement, name.as_bytes()).map_err(too_long)?;
        encode::parse(out, name.as_bytes(), prepared.text.as_bytes(), types).map_err(too_long)?;
        encode::describe(out, Target::Statement, name.as_bytes()).map_err(too_long)?;
        encode::sync(out);
        let reply = link::collect(server)
            .await
            .map_err(|error| Fault::lost(&error, &shard))?;
        if let Some(error) = reply.error {
            server.prepared.remove(prepared.id);
            return Err(Fault::Statement(error));
        }
        let learnt = Learnt {
            params: reply.params.unwrap_or_default(),
            columns: reply.columns,
        };
        server.prepared.redescribe(prepared.id, learnt.description());
        Ok(learnt)
    }
}

/// The length of an answer that says nothing but that a plan is invalid, up to ReadyForQuery outside a block.
fn stale_answer(bytes: &[u8]) -> Option<usize> {
    let error = wire::frame::peek(bytes, usize::MAX).ok()??;
    if error.tag != tag::ERROR || !is_invalid(bytes.get(..error.len)?) {
        return None;
    }
    (bytes.get(error.len..)? == b"Z\0\0\0\x05I").then_some(bytes.len())
}

/// The beginning of such an answer.
fn only_says_stale(bytes: &[u8]) -> bool {
    let Ok(Some(error)) = wire::frame::peek(bytes, usize::MAX) else {
        return false;
    };
    let ready = b"Z\0\0\0\x05I";
    let rest = bytes.get(error.len..).unwrap_or_default();
    error.tag == tag::ERROR
        && bytes.get(..error.len).is_some_and(is_invalid)
        && rest.len() < ready.len()
        && ready.starts_with(rest)
}

/// An error that says that a prepared statement's columns have changed, or that its text makes no sense (any more) with
/// the parameter types it has.
pub(super) fn is_invalid(message: &[u8]) -> bool {
    let Ok(fields) = Fields::decode(message.get(5..).unwrap_or_default()) else {
        return false;
    };
    let code = fields.get(field::CODE).unwrap_or_default();
    says_invalid(code, fields.get(field::ROUTINE))
}

/// The same of an error that was decoded.
pub(super) fn is_invalid_error(fields: &ErrorFields) -> bool {
    let routine = fields.get(field::ROUTINE).map(str::as_bytes);
    says_invalid(fields.code.as_bytes(), routine)
}

/// Rights are judged anew with every execution; everything else of their class is judged with the plan.
fn says_invalid(code: &[u8], routine: Option<&[u8]>) -> bool {
    (code == b"0A000" && routine == Some(b"RevalidateCachedQuery"))
        || (code.starts_with(b"42") && code != b"42501")
}

/// PostgreSQL's error, with the function that drivers look for.
pub(super) fn changed() -> ErrorFields {
    let mut fields = ErrorFields::error("0A000", "cached plan must not change result type");
    fields
        .other
        .push((field::ROUTINE, "RevalidateCachedQuery".to_owned()));
    fields
}

fn has_describe(mut bytes: &[u8]) -> bool {
    while let Ok(Some(frame)) = wire::frame::peek(bytes, usize::MAX) {
        if frame.tag == wire::frontend::tag::DESCRIBE {
            return true;
        }
        bytes = bytes.get(frame.len..).unwrap_or_default();
    }
    false
}
