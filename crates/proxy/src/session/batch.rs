//! The open part of an extended-protocol pipeline: messages appended to one server and the answers awaited from it.

use std::rc::Rc;
use std::sync::Arc;

use catalog::ShardId;
use wire::TransactionStatus;
use wire::backend::{ErrorFields, encode, tag};

use super::ahead::{self, Way};
use super::block::BlockState;
use super::effects::Effects;
use super::extended::{Prepared, Step};
use super::reads::guarded;
use super::simple::status_of;
use super::told::Learnt;
use super::{Fault, Session};
use crate::exec::budget::Budget;
use crate::exec::link;
use crate::exec::relay::{self, Verdict};
use crate::exec::statement::Action;
use crate::server::{Description, StatementId};

/// Open messages beyond this size leave before their Sync.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// How the reading of a batch's answers ended.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// ReadyForQuery came.
    ready: Option<TransactionStatus>,
    /// An error was passed to the client.
    pub(super) failed: bool,
    /// The server wants COPY data.
    copy_in: bool,
    /// The server ended the connection.
    fatal: Option<Box<ErrorFields>>,
    /// The plan of this statement is invalid.
    stale: Option<StatementId>,
    /// It did not take the session's settings.
    unsettled: Option<Box<ErrorFields>>,
    /// A shard described other columns than the home shard.
    foreign: bool,
    /// "Nothing was drawn from this sequence" need not be true.
    unsure: bool,
    /// An error may be cured on another server: it is not passed.
    holds: bool,
    held: Option<Box<ErrorFields>>,
    /// What the statement may have its server send.
    budget: Option<Rc<Budget>>,
    /// The client was not sent the ReadyForQuery that came.
    quiet: bool,
    /// What the client was told of its statements.
    pub(super) told: Vec<(Rc<Prepared>, Arc<Description>)>,
    /// What we asked for, or why it was not said.
    pub(super) learnt: Option<Result<Learnt, Box<ErrorFields>>>,
}

impl Read {
    /// The client will be told that it was too much, whatever the server says.
    fn is_over_budget(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_exceeded())
    }
}

impl Session {
    /// The server for the next message of the pipeline. What another server has to do is finished first.
    pub(super) async fn open_server(&mut self, shard: ShardId) -> Result<usize, Fault> {
        if let Some(open) = self.extended.open_on
            && open != shard
        {
            self.settle_batch_for_block().await?;
        }
        let index = self.enlist_with(shard, Way::AheadOfPipeline).await?;
        if self.extended.open_on.is_none() {
            self.extended.open_on = Some(shard);
            self.extended.flushed = false;
            self.extended.executed = false;
            if let Some(ahead) = &self.servers[index].ahead {
                self.extended.steps.push_back(Step::Ahead(ahead.answers));
            }
        }
        let skip = self.begin_on(index).await?;
        for _ in 0..skip {
            self.extended.steps.push_back(Step::Skip);
        }
        // Until ReadyForQuery has come it holds something of this session.
        self.servers[index].busy = true;
        Ok(index)
    }

    pub(super) fn open_index(&self) -> Option<usize> {
        let open = self.extended.open_on?;
        self.servers.iter().position(|server| server.shard == open)
    }

    /// Before a statement that needs other servers, or the session's own books: finishes what is open. A pipeline that
    /// may have written becomes a block, because PostgreSQL makes it one transaction.
    pub(super) async fn settle_batch_for_block(&mut self) -> Result<(), Fault> {
        let Some(index) = self.open_index() else {
            return self.emit_local_steps();
        };
        let replica = self.servers[index].replica.is_some();
        let portals = self.extended.has_portal_on(self.servers[index].shard) && !self.extended.flushed;
        if replica && !self.block.is_open() {
            // Its portals end with its transaction; what is read on the primary afterwards is not older.
            self.extended.forget_portals_on(self.servers[index].shard);
        } else if !self.block.is_open() && (self.extended.executed || portals) {
            self.make_batch_a_block(index)?;
        }
        self.end_open_messages(index).await
    }

    /// Before a question to the home shard: the connection must not be in the middle of a batch.
    pub(super) async fn settle_batch_for_question(&mut self) -> Result<(), Fault> {
        self.settle_batch_for_block().await
    }

    /// Opens a block ahead of messages that have not left yet.
    fn make_batch_a_block(&mut self, index: usize) -> Result<(), Fault> {
        if self.extended.flushed {
            return Err(Fault::refused_as(plan::RefusalCode::LatePipeline));
        }
        self.block.open("BEGIN".to_owned(), true);
        self.settings.begin();
        let server = &mut self.servers[index];
        server.begun = true;
        let mut rest = server.lease.conn.out().split();
        // Nothing has left: what changes the settings is still in front, and stays there.
        let ahead = server.ahead.as_ref().map_or(0, |ahead| ahead.len);
        let ahead = rest.split_to(ahead.min(rest.len()));
        server.lease.conn.out().extend_from_slice(&ahead);
        let sent = link::send_query(&mut server.lease, "BEGIN");
        server.lease.conn.out().extend_from_slice(&rest);
        sent.map_err(|_| Fault::error("XX000", "BEGIN could not be sent"))?;
        let behind = usize::from(matches!(self.extended.steps.front(), Some(Step::Ahead(_))));
        self.extended.steps.insert(behind, Step::Skip);
        Ok(())
    }

    /// Ends the open messages with a Sync of our own and reads all answers; the client's Sync comes later.
    pub(super) async fn end_open_messages(&mut self, index: usize) -> Result<(), Fault> {
        wire::frontend::encode::sync(self.servers[index].lease.conn.out());
        self.extended.steps.push_back(Step::Sync);
        let read = self.read_steps(index, false).await?;
        self.after_sync(index, &read).await?;
        if read.failed {
            self.extended.skipping = true;
            return Err(Fault::Statement(Box::new(already_told())));
        }
        Ok(())
    }

    fn emit_local_steps(&mut self) -> Result<(), Fault> {
        while let Some(step) = self.extended.steps.pop_front() {
            self.emit_local(&step);
        }
        Ok(())
    }

    /// Says what is to be said here before a server has to say something.
    fn emit_local_front(&mut self) {
        while matches!(self.extended.steps.front(), Some(step) if step.is_local()) {
            if let Some(step) = self.extended.steps.pop_front() {
                self.emit_local(&step);
            }
        }
    }

    /// Says what was to be said here when it is a step's turn. False: it is a server's.
    fn emit_local(&mut self, step: &Step) -> bool {
        match step {
            Step::Local(bytes) => self.client.conn.out().extend_from_slice(bytes),
            Step::LocalParse { .. } => encode::parse_complete(self.client.conn.out()),
            _ => return false,
        }
        true
    }

    /// Flush: the answers to what was sent so far.
    pub(super) async fn flush_batch(&mut self) -> Result<(), Fault> {
        let Some(index) = self.open_index() else {
            return self.emit_local_steps();
        };
        if self.extended.steps.is_empty() {
            return Ok(());
        }
        wire::frontend::encode::flush(self.servers[index].lease.conn.out());
        self.extended.flushed = true;
        let read = self.read_steps(index, false).await?;
        if read.copy_in {
            return self.batch_copy_in(index).await;
        }
        if read.failed {
            self.batch_failed();
        }
        Ok(())
    }

    /// Messages that grew large leave before their Sync, so that a long pipeline needs little memory.
    pub(super) async fn batch_flush_if_large(&mut self) -> Result<(), Fault> {
        let large = self
            .open_index()
            .filter(|index| self.servers[*index].lease.conn.pending_out() > UNSENT_BYTES_MAX);
        if large.is_some()
            && let Err(fault) = self.flush_batch().await
        {
            return match fault {
                Fault::Statement(fields) => self.batch_error(&fields).await,
                other => Err(other),
            };
        }
        Ok(())
    }

    /// Sync: the end of the pipeline.
    pub(super) async fn sync(&mut self) -> Result<(), Fault> {
        let mut told = false;
        if let Some(index) = self.open_index() {
            wire::frontend::encode::sync(self.servers[index].lease.conn.out());
            self.extended.steps.push_back(Step::Sync);
            let plain = self.extended.effects.none() && !self.block.implicit && !self.extended.skipping;
            let read = self.read_steps(index, plain).await?;
            if read.copy_in {
                return self.batch_copy_in(index).await;
            }
            told = plain && read.ready.is_some() && !read.quiet;
            self.after_sync(index, &read).await?;
        } else {
            self.emit_local_steps()?;
        }
        self.extended.skipping = false;
        if self.block.is_open() && self.block.implicit {
            Box::pin(self.end_implicit_block()).await?;
        }
        if !self.block.is_open() {
            self.extended.forget_portals();
            self.at_rest().await?;
        }
        if !told {
            encode::ready_for_query(self.client.conn.out(), self.block.status());
        }
        Ok(())
    }

    /// A server that was lost at Sync costs the pipeline, not the session.
    pub(super) async fn outlive(&mut self, kind: u8, result: Result<(), Fault>) -> Result<(), Fault> {
        let fields = match result {
            Err(fault) if kind != wire::frontend::tag::SYNC || !fault.is_lost() => return Err(fault),
            Err(Fault::Statement(fields)) => fields,
            other => return other,
        };
        self.extended.open_on = None;
        self.extended.steps.clear();
        self.extended.skipping = false;
        self.extended.executed = false;
        self.extended.flushed = false;
        self.extended.effects = Effects::default();
        self.tell(&fields);
        self.fail_block();
        if self.block.is_open() && self.block.implicit {
            Box::pin(self.end_implicit_block()).await?;
        }
        if !self.block.is_open() {
            self.extended.forget_portals();
            self.at_rest().await?;
        }
        encode::ready_for_query(self.client.conn.out(), self.block.status());
        Ok(())
    }

    /// A Query message in the middle of a pipeline ends it, as Sync would, without an answer of its own. True when the
    /// pipeline turns out to have failed: then the message is ignored like everything else up to Sync.
    pub(super) async fn batch_fails(&mut self) -> Result<bool, Fault> {
        if self.extended.open_on.is_none() && self.extended.steps.is_empty() {
            return Ok(false);
        }
        // PostgreSQL runs the Query in the pipeline's transaction.
        match self.settle_batch_for_block().await {
            Ok(()) => Ok(false),
            Err(Fault::Statement(fields)) => {
                // An error of the pipeline's own has the Query ignored up to Sync; one about the Query is its answer.
                let answers = !fields.code.is_empty();
                self.batch_error(&fields).await?;
                if answers {
                    self.sync().await?;
                    self.observe_end();
                    self.count_out();
                }
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }

    /// The books after a server has answered Sync.
    pub(super) async fn after_sync(&mut self, index: usize, read: &Read) -> Result<(), Fault> {
        self.extended.open_on = None;
        self.extended.executed = false;
        self.extended.flushed = false;
        let effects = std::mem::take(&mut self.extended.effects);
        let Some(status) = read.ready else { return Ok(()) };
        self.servers[index].lease.status = status;
        if self.reads.is_some() && status == TransactionStatus::Idle {
            Box::pin(self.note_statement(index)).await;
        }
        if read.failed {
            self.fail_block();
        }
        self.follow_server(index, status, read.failed, effects).await
    }

    /// COPY FROM STDIN inside a pipeline. The server has ignored the Sync that came with it; the client sends another.
    async fn batch_copy_in(&mut self, index: usize) -> Result<(), Fault> {
        self.extended.steps.retain(|step| matches!(step, Step::Execute));
        self.extended.flushed = true;
        self.copy_in_one(index).await
    }

    /// An error found here: what is open on a server must fail too, so that the pipeline has no effect.
    pub(super) async fn batch_error(&mut self, fields: &ErrorFields) -> Result<(), Fault> {
        if fields.code.is_empty() {
            // The client has been told by the server's own words.
            self.extended.skipping = true;
            self.fail_block();
            return Ok(());
        }
        if self.holds_pipeline_error(fields) {
            self.extended.skipping = true;
            return Ok(());
        }
        if let Some(index) = self.open_index() {
            let doom = !self.block.is_open() && self.extended.executed;
            if doom {
                let out = self.servers[index].lease.conn.out();
                // There is no such portal: the server's transaction fails with everything the pipeline did.
                let _ = wire::frontend::encode::execute(out, b"drover: undo", 0);
                self.extended.steps.push_back(Step::Doom);
            }
            wire::frontend::encode::flush(self.servers[index].lease.conn.out());
            self.extended.flushed = true;
            let read = self.read_steps(index, false).await?;
            if read.failed {
                self.batch_failed();
                return Ok(());
            }
        } else {
            self.emit_local_steps()?;
        }
        self.tell(fields);
        self.batch_failed();
        Ok(())
    }

    /// The server was lost at Sync: the pipeline has failed, the session goes on.
    pub(super) async fn end_lost_pipeline(&mut self, fields: &ErrorFields) -> Result<(), Fault> {
        self.tell(fields);
        self.fail_block();
        self.extended.start_over();
        self.sync().await
    }

    fn batch_failed(&mut self) {
        self.extended.skipping = true;
        self.fail_block();
    }

    /// Reads answers until the queue of steps is empty, ReadyForQuery of a Sync has come, or an error has. After an
    /// error the queue holds at most the Sync that is still owed.
    pub(super) async fn read_steps(&mut self, index: usize, pass_ready: bool) -> Result<Read, Fault> {
        let mut read = self.read_all_steps(index, pass_ready).await?;
        if let Some(mut fields) = read.held.take()
            && !self.holds_pipeline_error(&fields)
        {
            self.say_why_not_again(&mut fields);
            self.tell(&fields);
        }
        Ok(read)
    }

    async fn read_all_steps(&mut self, index: usize, pass_ready: bool) -> Result<Read, Fault> {
        let mut read = Read {
            unsure: self.sequences.unsure(),
            holds: self.servers[index].replica.is_some() && !self.block.is_open(),
            budget: self.budget.clone(),
            ..Read::default()
        };
        let mut guard = self.guard_of(index);
        let began = self.observation.server_begins();
        let owes_sync = self.extended.steps.iter().any(|step| matches!(step, Step::Sync));
        loop {
            if !read.failed {
                self.emit_local_front();
            }
            if self.extended.steps.is_empty() && !(read.failed && owes_sync) {
                return Ok(read);
            }
            if read.failed && !owes_sync {
                self.undo_steps(index);
                return Ok(read);
            }
            let steps = &mut self.extended.steps;
            let server = &mut self.servers[index].lease;
            let observation = &mut self.observation;
            let metrics = &self.engine.metrics;
            let pumping = relay::pump(server, &mut self.client.conn, |kind, message, client| {
                if !matches!(steps.front(), Some(Step::Ahead(_) | Step::Skip | Step::Doom)) {
                    observation.heard(kind, message, metrics);
                }
                read_one(kind, message, client, steps, &mut read, pass_ready)
            });
            let waited = guarded(guard.as_ref(), pumping).await;
            let Some(pumped) = waited.or_stay(&mut guard, || self.pipeline_can_move()) else {
                continue;
            };
            if let Err(error) = pumped {
                self.forget_open();
                return Err(self.relay_failed(index, error));
            }
            self.heed(index, &mut read);
            if let Some(fields) = read.unsettled.take() {
                self.batch_unsettled(index, &fields);
                return Ok(read);
            }
            if let Some(fields) = read.fatal.take() {
                self.forget_open();
                return Err(self.server_ended(index, fields));
            }
            if read.foreign {
                self.drop_server(index);
                return Err(Fault::fatal(
                    "XX000",
                    "the shard's result columns differ from the home shard's",
                ));
            }
            if read.copy_in {
                return Ok(read);
            }
            if read.ready.is_some() {
                self.observation.server_ends(began, self.servers[index].shard);
                if read.failed {
                    self.undo_steps(index);
                }
                self.extended.steps.clear();
                self.servers[index].busy = false;
                return Ok(read);
            }
        }
    }

    /// What an answer says about the server.
    fn heed(&mut self, index: usize, read: &mut Read) {
        let ahead = |step: &Step| matches!(step, Step::Ahead(_));
        if self.servers[index].ahead.is_some() && !self.extended.steps.iter().any(ahead) {
            self.settled_ahead(index);
        }
        if let Some(id) = read.stale.take() {
            // The next one to use it prepares it again, under another name.
            self.servers[index].lease.prepared.condemn(id);
        }
        for (prepared, description) in read.told.drain(..) {
            self.note_told(index, &prepared, description);
        }
    }

    /// The server did not take the session's settings, and has ignored everything behind: the pipeline fails, the server
    /// is closed.
    fn batch_unsettled(&mut self, index: usize, fields: &ErrorFields) {
        self.undo_steps(index);
        self.drop_server(index);
        self.extended.open_on = None;
        self.tell(fields);
        self.fail_block();
    }

    /// Statements whose Parse was not confirmed do not exist.
    fn undo_steps(&mut self, index: usize) {
        for step in std::mem::take(&mut self.extended.steps) {
            if let Step::Parse {
                registered: Some(id), ..
            } = &step
            {
                self.servers[index].lease.prepared.remove(*id);
            }
            self.undo_name(step);
        }
        self.servers[index].lease.unnamed = None;
        if self.block.state == BlockState::None {
            self.extended.forget_portals();
        }
    }

    /// The same where the server is gone.
    fn forget_open(&mut self) {
        self.extended.open_on = None;
        for step in std::mem::take(&mut self.extended.steps) {
            self.undo_name(step);
        }
    }

    fn undo_name(&mut self, step: Step) {
        if let Step::Parse {
            forget: Some(name), ..
        }
        | Step::LocalParse { name } = step
        {
            self.statements.forget(&name);
        }
    }
}

/// Stands for an error the client already has.
pub(super) fn already_told() -> ErrorFields {
    ErrorFields::error("", "")
}

/// The answer that was expected next has come: `pass` says whether it is the client's.
fn forward_next(steps: &mut std::collections::VecDeque<Step>, pass: bool) -> Verdict {
    steps.pop_front();
    match (pass, steps.front()) {
        (true, Some(Step::Local(_) | Step::LocalParse { .. }) | None) => Verdict::ForwardAndStop,
        (true, Some(_)) => Verdict::Forward,
        (false, Some(Step::Local(_) | Step::LocalParse { .. }) | None) => Verdict::DropAndStop,
        (false, Some(_)) => Verdict::Drop,
    }
}

/// Takes one message of the server, given what is expected.
fn read_one(
    kind: u8,
    message: &mut [u8],
    client: &mut crate::conn::Conn,
    steps: &mut std::collections::VecDeque<Step>,
    read: &mut Read,
    pass_ready: bool,
) -> Verdict {
    if let Some(Step::Ahead(answers)) = steps.front_mut() {
        if ahead::is_refused(kind, answers) {
            return refused_ahead(message, read);
        }
        return match *answers {
            0 => forward_next(steps, false),
            _ => Verdict::Drop,
        };
    }
    match kind {
        tag::READY_FOR_QUERY => {
            if !read.failed && matches!(steps.front(), Some(Step::Skip)) {
                return forward_next(steps, false);
            }
            read.ready = Some(status_of(message));
            read.quiet = read.held.is_some();
            if pass_ready && !read.quiet {
                Verdict::ForwardAndStop
            } else {
                Verdict::DropAndStop
            }
        }
        tag::ERROR => read_error(message, client, steps, read),
        tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => Verdict::Forward,
        tag::COMMAND_COMPLETE if matches!(steps.front(), Some(Step::Skip)) => Verdict::Drop,
        _ if read.failed => Verdict::Drop,
        tag::PARSE_COMPLETE => {
            let pass = matches!(steps.front(), Some(Step::Parse { pass: true, .. }));
            forward_next(steps, pass)
        }
        tag::CLOSE_COMPLETE => {
            let pass = matches!(steps.front(), Some(Step::Close { pass: true }));
            forward_next(steps, pass)
        }
        tag::PARAMETER_DESCRIPTION | tag::ROW_DESCRIPTION | tag::NO_DATA
            if matches!(
                steps.front(),
                Some(Step::Learn(_) | Step::Describe { told: Some(_), .. })
            ) =>
        {
            hear_description(kind, message, steps, read)
        }
        tag::PARAMETER_DESCRIPTION => Verdict::Forward,
        tag::ROW_DESCRIPTION if is_foreign(message, steps) => {
            read.foreign = true;
            Verdict::DropAndStop
        }
        tag::ROW_DESCRIPTION => forward_next(steps, true),
        tag::COMMAND_COMPLETE | b's' if read.is_over_budget() => forward_next(steps, false),
        tag::NO_DATA | tag::BIND_COMPLETE | tag::COMMAND_COMPLETE | tag::EMPTY_QUERY | b's' => {
            forward_next(steps, true)
        }
        tag::COPY_IN => {
            read.copy_in = true;
            Verdict::ForwardAndStop
        }
        _ => Verdict::Forward,
    }
}

/// Shows the home shard's columns instead of another shard's. True: they are not the same.
fn is_foreign(message: &mut [u8], steps: &std::collections::VecDeque<Step>) -> bool {
    let Some(Step::Describe {
        columns: Some(prepared),
        ..
    }) = steps.front()
    else {
        return false;
    };
    match &prepared.statement.action {
        Action::Planned(planned) => {
            let home = planned.columns.as_deref();
            home.is_some_and(|home| !relay::adopt_columns(message, home))
        }
        _ => false,
    }
}

/// A description that is ours, or that the client will remember.
fn hear_description(
    kind: u8,
    message: &[u8],
    steps: &mut std::collections::VecDeque<Step>,
    read: &mut Read,
) -> Verdict {
    let body = message.get(5..).unwrap_or_default();
    match steps.front_mut() {
        Some(Step::Learn(learnt)) => {
            if !learnt.hears(kind, body) {
                return Verdict::Drop;
            }
            read.learnt = Some(Ok(std::mem::take(learnt)));
            forward_next(steps, false)
        }
        Some(Step::Describe {
            told: Some(telling), ..
        }) => match telling.hears(kind, body) {
            Some(told) => {
                read.told.push(told);
                forward_next(steps, true)
            }
            None => Verdict::Forward,
        },
        _ => Verdict::Forward,
    }
}

fn refused_ahead(message: &[u8], read: &mut Read) -> Verdict {
    let fields = ahead::refusal_of(message);
    if ahead::is_fatal(&fields) {
        read.fatal = Some(fields);
    } else {
        read.failed = true;
        read.unsettled = Some(fields);
    }
    Verdict::DropAndStop
}

fn read_error(
    message: &[u8],
    client: &mut crate::conn::Conn,
    steps: &mut std::collections::VecDeque<Step>,
    read: &mut Read,
) -> Verdict {
    let fields =
        wire::backend::Fields::decode(message.get(5..).unwrap_or_default()).map(|fields| fields.to_owned());
    if let Ok(fields) = &fields
        && (fields.severity == "FATAL" || fields.severity == "PANIC")
    {
        read.fatal = Some(Box::new(fields.clone()));
        return Verdict::DropAndStop;
    }
    if matches!(steps.front(), Some(Step::Doom)) {
        steps.pop_front();
        return Verdict::DropAndStop;
    }
    read.failed = true;
    if let Some(budget) = read.budget.as_ref().filter(|budget| budget.is_exceeded()) {
        encode::error(client.out(), &budget.error());
        return Verdict::DropAndStop;
    }
    if let Some(Step::Learn(_)) = steps.front()
        && let Ok(fields) = fields
    {
        read.learnt = Some(Err(Box::new(fields)));
        return Verdict::DropAndStop;
    }
    if read.holds
        && let Ok(fields) = fields
    {
        read.held = Some(Box::new(fields));
        return Verdict::DropAndStop;
    }
    let about = match steps.front() {
        Some(Step::Bind(about)) => *about,
        Some(Step::Describe {
            told: Some(telling), ..
        }) => telling.named(),
        _ => None,
    };
    if about.is_some() && super::stale::is_invalid(message) {
        read.stale = about;
    }
    if read.unsure
        && let Some(refusal) = super::sequences::instead_of(message)
    {
        encode::error(client.out(), &refusal);
        return Verdict::DropAndStop;
    }
    // What was queued behind will not be answered, except Sync.
    Verdict::ForwardAndStop
}
