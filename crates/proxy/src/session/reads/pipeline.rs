//! Reads in the extended protocol.
//!
//! A pipeline that begins with a read may run on a replica. It stays there as long as it reads; a statement that needs the
//! primary ends its part on the replica first. A pipeline on the primary stays there.
//!
//! *An error of the replica* is held back if the whole pipeline can be had again: every message since it began is kept
//! (up to [`KEPT_BYTES_MAX`]), it has done nothing but read, and nothing of its answers has left for the client. Then,
//! at the next Sync or Flush, what was appended for the client is taken back and the messages are taken once more: on
//! another replica if this one is gone, on the primary if it does not do such things.

use std::rc::Rc;

use catalog::ShardId;
use wire::backend::ErrorFields;
use wire::frame;
use wire::frontend::tag;

use super::super::effects::Effects;
use super::super::extended::{Extended, Portal, PortalPlace};
use super::super::{Fault, Session};
use super::again::{ATTEMPTS_MAX, Cure, KEPT_BACK_BYTES, TOO_LATE, cure_of};
use crate::conn::OutMark;
use crate::exec::statement::Statement;
use crate::nodes::NodeId;

/// Messages of a pipeline up to this size, in bytes, are kept until it has ended.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Why one that was more than that is not run again.
const TOO_MUCH: &str = "A replica failed in a pipeline that is not run again unseen; run it again.";

/// A pipeline that may have to be run again.
#[derive(Debug, Default)]
pub(in super::super) struct Pipeline {
    /// Its messages.
    messages: Vec<u8>,
    /// Where its answers began.
    mark: Option<OutMark>,
    /// It was more than is kept, or did more than read: it runs once.
    once: bool,
    /// It is running again: its messages are kept already.
    again: bool,
    /// It runs on the primary.
    on_primary: bool,
    /// Servers that failed it.
    avoid: Vec<(ShardId, NodeId)>,
    /// The error that is held back.
    held: Option<Box<ErrorFields>>,
    /// Names of the statements it has prepared.
    made: Vec<Vec<u8>>,
}

impl Session {
    /// One message of a session whose reads may leave the primary.
    pub(in super::super) async fn extended_reading(&mut self, kind: u8, message: &[u8]) -> Result<(), Fault> {
        self.keep_message(kind, message);
        self.client.conn.set_patience(KEPT_BACK_BYTES);
        let result = self.take_message(kind, message).await;
        self.client.conn.set_patience(0);
        result
    }

    async fn take_message(&mut self, kind: u8, message: &[u8]) -> Result<(), Fault> {
        let result = self.extended_plainly(kind, message).await;
        let result = match result {
            // A server that dies at Sync; before it, the pipeline has taken note itself.
            Err(Fault::Statement(fields)) if self.holds_pipeline_error(&fields) => Ok(()),
            Err(Fault::Statement(mut fields)) => {
                self.say_why_not_again(&mut fields);
                self.outlive(kind, Err(Fault::Statement(fields))).await
            }
            other => self.outlive(kind, other).await,
        };
        result?;
        let ends = matches!(kind, tag::SYNC | tag::FLUSH);
        let held = match &mut self.reads {
            Some(reads) if ends => reads.pipeline.held.take(),
            _ => None,
        };
        if let Some(fields) = held {
            self.run_pipeline_again(fields).await?;
        }
        if kind == tag::SYNC
            && let Some(reads) = &mut self.reads
        {
            reads.pipeline = Pipeline::default();
        }
        Ok(())
    }

    fn keep_message(&mut self, kind: u8, message: &[u8]) {
        let at_rest = self.extended.is_at_rest();
        let in_block = self.block.is_open();
        let mark = self.client.conn.mark();
        let Some(reads) = &mut self.reads else { return };
        let pipeline = &mut reads.pipeline;
        if pipeline.again {
            return;
        }
        if pipeline.mark.is_none() {
            pipeline.mark = Some(mark);
            pipeline.once |= !at_rest;
        }
        pipeline.once |= in_block || pipeline.messages.len() + message.len() > KEPT_BYTES_MAX;
        if pipeline.once {
            pipeline.messages = Vec::new();
            return;
        }
        pipeline.messages.extend_from_slice(message);
        if kind == tag::PARSE
            && let Some(name) = message
                .get(5..)
                .and_then(|body| body.split(|byte| *byte == 0).next())
        {
            // One that was there before would be forgotten with it: then the Parse was an error, and stays one.
            let is_new = self.statements.get(name).is_none();
            if is_new && !name.is_empty() {
                pipeline.made.push(name.to_vec());
            }
        }
    }

    /// Before a statement of a pipeline is prepared or bound on a server.
    pub(in super::super) async fn place_read_in_pipeline(
        &mut self,
        statement: &Rc<Statement>,
    ) -> Result<(), Fault> {
        if self.reads.is_none() && statement.reading.hint.is_none() {
            return Ok(());
        }
        Box::pin(self.place_read(statement)).await?;
        let open_on_primary = self
            .open_index()
            .is_some_and(|index| self.servers[index].replica.is_none());
        if let Some(reads) = &mut self.reads {
            if open_on_primary || reads.pipeline.on_primary {
                reads.now = None;
            }
            reads.tried.extend_from_slice(&reads.pipeline.avoid);
        }
        let follows = statement.reading.place == plan::ReadPlace::Follows;
        let stays = !follows && self.reads.as_ref().is_some_and(|reads| reads.now.is_none());
        if let Some(reads) = &mut self.reads {
            reads.pipeline.once |= reads.writing;
        }
        if stays {
            self.leave_replicas().await?;
        }
        Ok(())
    }

    /// The pipeline at hand may be run again elsewhere.
    pub(in super::super) fn pipeline_can_move(&self) -> bool {
        let Some(reads) = &self.reads else { return false };
        let pipeline = &reads.pipeline;
        let mark = pipeline.mark.filter(|mark| self.client.conn.can_rewind(*mark));
        mark.is_some()
            && !pipeline.once
            && pipeline.held.is_none()
            && !self.block.is_open()
            && reads.on_replica
    }

    /// Whether an error of a replica is the proxy's business: then it is kept, and the client is not told.
    pub(in super::super) fn holds_pipeline_error(&mut self, fields: &ErrorFields) -> bool {
        let in_block = self.block.is_open();
        let Some(reads) = &mut self.reads else {
            return false;
        };
        let pipeline = &mut reads.pipeline;
        let known = pipeline.mark.filter(|mark| self.client.conn.can_rewind(*mark));
        if known.is_none()
            || pipeline.once
            || pipeline.on_primary
            || pipeline.held.is_some()
            || in_block
            || !reads.on_replica
            || cure_of(&fields.code) == Cure::None
        {
            return false;
        }
        pipeline.held = Some(Box::new(fields.clone()));
        true
    }

    /// A replica's error that goes to the client although another server could cure it.
    pub(in super::super) fn say_why_not_again(&self, fields: &mut ErrorFields) {
        let Some(reads) = &self.reads else { return };
        let pipeline = &reads.pipeline;
        let concerns = reads.on_replica && !pipeline.on_primary && !self.block.is_open();
        if !concerns || cure_of(&fields.code) != Cure::Elsewhere || fields.hint.is_some() {
            return;
        }
        let whole = pipeline
            .mark
            .is_some_and(|mark| self.client.conn.can_rewind(mark));
        let hint = if whole { TOO_MUCH } else { TOO_LATE };
        fields.hint = Some(hint.to_owned());
    }

    /// Runs the pipeline as often as it takes. `fields`: what a replica said at first.
    async fn run_pipeline_again(&mut self, mut fields: Box<ErrorFields>) -> Result<(), Fault> {
        let Some(reads) = &mut self.reads else {
            return Err(Fault::Statement(fields));
        };
        let messages = std::mem::take(&mut reads.pipeline.messages);
        let made = std::mem::take(&mut reads.pipeline.made);
        for attempt in 1.. {
            if !self.start_pipeline_over(&made, &fields, attempt) {
                self.tell(&fields);
                self.extended.skipping = true;
                return match last_kind(&messages) {
                    Some(tag::SYNC) => self.sync().await,
                    _ => Ok(()),
                };
            }
            self.engine.metrics.reads_again.increment();
            let refused = is_refused(&fields);
            self.take_messages_again(&messages).await?;
            let held = self.reads.as_mut().and_then(|reads| reads.pipeline.held.take());
            if let Some(held) = held {
                fields = held;
                continue;
            }
            if refused && let Some(reads) = &self.reads {
                // What a replica does not do: of a pipeline, all that could have been it.
                for statement in &reads.ran {
                    statement.reading.refused.set(true);
                }
                self.engine.metrics.reads_refused.increment();
            }
            return Ok(());
        }
        Err(Fault::error("XX000", "a pipeline was given up"))
    }

    /// Nothing of the pipeline has happened, for the client or in this session. False: something of it has left.
    fn start_pipeline_over(&mut self, made: &[Vec<u8>], fields: &ErrorFields, attempt: usize) -> bool {
        // The server, if it is still there, is in the middle of a pipeline nobody goes on with, unless Sync has come.
        if let Some(index) = self.open_index() {
            self.servers.remove(index);
        }
        self.drop_busy_servers();
        self.release_servers();
        self.extended.start_over();
        for name in made {
            self.statements.forget(name);
        }
        let Some(reads) = &mut self.reads else {
            return false;
        };
        let pipeline = &mut reads.pipeline;
        pipeline.again = true;
        pipeline.on_primary |= cure_of(&fields.code) == Cure::Primary || attempt + 1 >= ATTEMPTS_MAX;
        for tried in &reads.tried {
            if !pipeline.avoid.contains(tried) {
                pipeline.avoid.push(*tried);
            }
        }
        let mark = pipeline.mark;
        mark.is_some_and(|mark| self.client.conn.rewind(mark))
    }

    async fn take_messages_again(&mut self, mut messages: &[u8]) -> Result<(), Fault> {
        while let Ok(Some(found)) = frame::peek(messages, usize::MAX)
            && let Some((message, behind)) = messages.split_at_checked(found.len)
        {
            match Box::pin(self.extended_plainly(found.tag, message)).await {
                Err(Fault::Statement(fields)) if self.holds_pipeline_error(&fields) => {}
                other => other?,
            }
            messages = behind;
        }
        Ok(())
    }
}

/// A replica does not do such things.
fn is_refused(fields: &ErrorFields) -> bool {
    matches!(fields.code.as_str(), "25006" | "55000" | "0A000")
}

impl Extended {
    /// True when a portal that has a name exists on this shard's server.
    pub(in super::super) fn has_named_portal_on(&self, shard: ShardId) -> bool {
        let here = |portal: &Portal| matches!(portal.place, PortalPlace::Server(on) if on == shard);
        let mut named = self.portals.iter().filter(|(name, _)| !name.is_empty());
        named.any(|(_, portal)| here(portal))
    }

    /// The portals on this shard's server are gone with it.
    pub(in super::super) fn forget_portals_on(&mut self, shard: ShardId) {
        let here = |portal: &Portal| matches!(portal.place, PortalPlace::Server(on) if on == shard);
        self.portals.retain(|_, portal| !here(portal));
    }

    /// Nothing of an open pipeline counts.
    pub(in super::super) fn start_over(&mut self) {
        self.forget_portals();
        self.steps.clear();
        self.open_on = None;
        self.skipping = false;
        self.flushed = false;
        self.executed = false;
        self.effects = Effects::default();
    }
}

fn last_kind(messages: &[u8]) -> Option<u8> {
    let (mut rest, mut last) = (messages, None);
    while let Ok(Some(found)) = frame::peek(rest, usize::MAX) {
        last = Some(found.tag);
        rest = rest.get(found.len..).unwrap_or_default();
    }
    last
}
