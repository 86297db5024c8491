//! The simple protocol: a Query message, which may hold several statements.

use sql::NormalisedBuf;
use std::rc::Rc;

use catalog::ShardId;
use wire::TransactionStatus;
use wire::backend::{ErrorFields, Fields, encode, field, tag};

use super::ahead::{self, Way};
use super::block::{BlockState, Wrote};
use super::effects::Effects;
use super::learn::Learned;
use super::reads::{ManyRead, guarded};
use super::{Fault, Session};
use crate::conn::Conn;
use crate::exec::budget::Budget;
use crate::exec::cache::Found;
use crate::exec::relay::{self, PumpError, Verdict};
use crate::exec::statement::{Action, KeyProblem, Literals, Planned, Shards, Statement, resolve, tenant_of};

/// How often a statement is given to another server because the one before was dead already.
pub(super) const UNSENT_RETRIES: usize = 3;

/// What a relayed answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The server's state afterwards.
    pub status: TransactionStatus,
    /// It answered with an error (which the client has).
    pub failed: bool,
    /// Statements that were completed.
    pub completed: usize,
    /// A Parse was confirmed.
    pub parsed: bool,
}

impl Outcome {
    /// Before anything was heard.
    fn none() -> Self {
        Self {
            status: TransactionStatus::Idle,
            failed: false,
            completed: 0,
            parsed: false,
        }
    }
}

/// A text on its way to one shard.
pub(super) struct OneShard<'a> {
    /// Where.
    pub shard: ShardId,
    /// The statement as SQL text.
    pub text: &'a str,
    /// Result columns as the home shard describes them, to be shown instead of the shard's own.
    pub columns: Option<&'a [u8]>,
    /// What it may do to the shard's data.
    pub wrote: Wrote,
    /// What it may do to the session.
    pub effects: Effects,
    /// Where the text begins in the client's own, in bytes; for error positions.
    pub offset: usize,
}

impl Session {
    /// Answers a Query message.
    pub(super) async fn simple(&mut self, message: &[u8]) -> Result<(), Fault> {
        let body = message
            .get(5..message.len().saturating_sub(1))
            .unwrap_or_default();
        self.in_query = true;
        let result = match std::str::from_utf8(body) {
            Ok(text) if !text.contains('\0') => self.simple_text(text).await,
            _ => Err(Fault::error(
                "22021",
                "invalid byte sequence for encoding \"UTF8\"",
            )),
        };
        self.after_query(result).await
    }

    /// Ends a Query: reports an error, ends an implicit block, releases servers, says ReadyForQuery.
    pub(super) async fn after_query(&mut self, result: Result<bool, Fault>) -> Result<(), Fault> {
        self.in_query = false;
        let ready_sent = match result {
            Ok(ready_sent) => ready_sent,
            Err(Fault::Statement(fields)) => {
                self.fail_block();
                if self.pins_lost {
                    return Err(Fault::Fatal(fields));
                }
                self.tell(&fields);
                false
            }
            Err(other) => return Err(other),
        };
        if self.block.is_open() && self.block.implicit {
            Box::pin(self.end_implicit_block()).await?;
        }
        if !self.block.is_open() {
            self.at_rest().await?;
        }
        if !ready_sent {
            encode::ready_for_query(self.client.conn.out(), self.block.status());
        }
        Ok(())
    }

    /// Runs a text. True when ReadyForQuery has gone to the client already.
    async fn simple_text(&mut self, text: &str) -> Result<bool, Fault> {
        let context = self.plan_context().await?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let found = if self.may_have_temporary_objects() {
            // What others learned of this text need not hold where a temporary table hides another.
            scratch.literals.clear();
            Found::Unknown { normalised: false }
        } else {
            context
                .statements
                .find(text, &mut scratch, context.conforming_strings)
        };
        let result = match found {
            Found::Statement(statement) => {
                self.engine.metrics.plan_cache_hits.increment();
                let literals = Literals {
                    text,
                    literals: &scratch.literals,
                };
                self.run_simple(&statement, text, literals, true, 0).await
            }
            Found::Unknown { normalised } => {
                let key = normalised.then_some(&*scratch);
                match Box::pin(self.learn_text(text, key)).await {
                    Ok(Learned::One(statement)) => {
                        let literals = Literals {
                            text,
                            literals: &scratch.literals,
                        };
                        self.run_simple(&statement, text, literals, true, 0).await
                    }
                    Ok(Learned::Several(statements)) => Box::pin(self.run_several(text, &statements)).await,
                    Err(fault) => Err(fault),
                }
            }
        };
        self.scratch = scratch;
        result
    }

    async fn learn_text(&mut self, text: &str, key: Option<&NormalisedBuf>) -> Result<Learned, Fault> {
        let context = self.plan_context().await?;
        let alike = match self.rule_for(text, None, &context) {
            Some(_) => None,
            None => Box::pin(self.learn_alike(text)).await?,
        };
        match alike {
            Some(statement) => Ok(Learned::One(statement)),
            None => self.learn(text, &[], key).await,
        }
    }

    /// Runs one statement. `last`: ReadyForQuery may be passed on.
    pub(super) async fn run_simple(
        &mut self,
        statement: &Rc<Statement>,
        text: &str,
        literals: Literals<'_>,
        last: bool,
        offset: usize,
    ) -> Result<bool, Fault> {
        if let Action::Ruled(ruled) = &statement.action {
            return Box::pin(self.run_ruled(ruled, statement, text, literals, (last, offset))).await;
        }
        self.begin_statement(statement);
        self.observe_statement(statement, text, false);
        if self.block.state == BlockState::Failed && !ends_block(statement) {
            return Err(failed_block());
        }
        self.place_statement(statement, text).await?;
        self.before_effects(statement).await?;
        match &statement.action {
            // Rules were looked at above.
            Action::Empty | Action::Ruled(_) => {
                encode::empty_query(self.client.conn.out());
                Ok(false)
            }
            Action::Listen(command) => Box::pin(self.listen(command, text)).await.map(|()| false),
            Action::Deallocate(name) => self.deallocate(name.as_deref(), text).await.map(|()| false),
            Action::Home => {
                let one = OneShard {
                    shard: self.engine.cluster.home(),
                    text,
                    columns: None,
                    wrote: wrote_by_kind(statement.kind),
                    effects: statement.effects,
                    offset,
                };
                self.run_on_one(one, last).await
            }
            Action::Planned(planned) if !planned.plan.prelude.is_empty() => {
                self.look_after(statement.effects);
                Box::pin(self.read_on_many(ManyRead::deferred(planned, text, literals))).await?;
                Ok(false)
            }
            Action::Planned(planned) => {
                let context = self.plan_context().await?;
                match resolve(planned, &context.snapshot, literals, |_| None) {
                    Ok(shards) => {
                        if self.engine.observer.wants().tenants {
                            self.observation.tenant(tenant_of(planned, literals, |_| None));
                        }
                        let shards = self.look_up(planned, literals, |_| None, shards).await?;
                        self.run_planned(statement, planned, shards, text, last, offset)
                            .await
                    }
                    Err(KeyProblem::Literal) => {
                        let exact = Box::pin(self.learn_exact(text)).await?;
                        let fixed = Literals { text, literals: &[] };
                        Box::pin(self.run_simple(&exact, text, fixed, last, offset)).await
                    }
                    Err(KeyProblem::Param) => Err(Fault::error("42P02", "there is no parameter $1")),
                }
            }
            Action::Other(triage) => Box::pin(self.run_other(triage, statement, text))
                .await
                .map(|()| false),
        }
    }

    /// What the session has to do first for what a statement does to it.
    async fn before_effects(&mut self, statement: &Statement) -> Result<(), Fault> {
        if statement.effects.reads_sequence_state {
            self.find_sequences().await?;
        }
        if statement.effects.sets_config {
            self.add_configs(&statement.configs)?;
        }
        if statement.effects.lists_channels {
            Box::pin(self.listen_on_server()).await?;
        }
        Ok(())
    }

    async fn run_planned(
        &mut self,
        statement: &Rc<Statement>,
        planned: &Planned,
        shards: Shards,
        text: &str,
        last: bool,
        offset: usize,
    ) -> Result<bool, Fault> {
        let shard = match shards {
            Shards::One(shard) => shard,
            Shards::Any => self.any_shard(),
            Shards::Many(shards) => {
                self.look_after(statement.effects);
                let read = ManyRead::planned(planned, &shards, text);
                Box::pin(self.read_on_many(read)).await?;
                return Ok(false);
            }
        };
        if planned.plan.takes_steps() {
            self.look_after(statement.effects);
            let shards = [shard];
            let read = ManyRead::planned(planned, &shards, text);
            Box::pin(self.read_on_many(read)).await?;
            return Ok(false);
        }
        let one = OneShard {
            shard,
            text,
            columns: planned.columns.as_deref(),
            wrote: if planned.plan.writes {
                Wrote::Yes
            } else {
                Wrote::No
            },
            effects: statement.effects,
            offset,
        };
        self.run_on_one(one, last).await
    }

    /// A shard for a statement that any shard answers alike: one the session holds, else home.
    pub(super) fn any_shard(&self) -> ShardId {
        self.servers
            .first()
            .map_or_else(|| self.engine.cluster.home(), |server| server.shard)
    }

    /// Sends a text to one shard and relays the answer. True when ReadyForQuery was passed on.
    pub(super) async fn run_on_one(&mut self, one: OneShard<'_>, last: bool) -> Result<bool, Fault> {
        self.engine.metrics.statements_routed.increment();
        self.observation.over(&[one.shard]);
        if self.reads_replicas() && !self.block.is_open() {
            return Box::pin(self.read_on_one(&one, last)).await;
        }
        for _ in 0..UNSENT_RETRIES {
            self.unsent = false;
            match self.try_on_one(&one, last).await {
                // Nothing was started, nothing is lost, and the client has seen nothing.
                Err(Fault::Statement(_)) if self.unsent && !self.block.is_open() => {
                    self.engine.metrics.statements_retried.increment();
                }
                result => {
                    if result.is_err() {
                        self.drop_unsettled_servers();
                    }
                    return result;
                }
            }
        }
        let result = self.try_on_one(&one, last).await;
        if result.is_err() {
            self.drop_unsettled_servers();
        }
        result
    }

    pub(super) async fn try_on_one(&mut self, one: &OneShard<'_>, last: bool) -> Result<bool, Fault> {
        let asks = one.effects.concerns_sequences() && one.shard == self.engine.cluster.home();
        let way = match asks || one.effects.may_set() {
            true => Way::Before,
            false => Way::Ahead,
        };
        let index = self.enlist_with(one.shard, way).await?;
        if asks {
            self.before_sequences(index, one.effects).await?;
        }
        let skip = self.begin_on(index).await?;
        if one.effects.notifies && one.shard == self.engine.cluster.home() {
            match self.block.is_open() {
                true => self.block.notifies = true,
                false => self.before_notify(index),
            }
        }
        let server = &mut self.servers[index];
        server.wrote = server.wrote.max_with(one.wrote);
        crate::exec::link::send_query(&mut server.lease, one.text)
            .map_err(|_| Fault::error("54000", "the statement is too long"))?;
        // ReadyForQuery may pass when nothing remains to be done behind it.
        let pass_ready = last && one.effects.none() && !self.block.implicit && self.budget.is_none();
        let outcome = self.relay_answer(index, skip, one, pass_ready).await?;
        if self.reads.is_some() && !self.block.is_open() {
            Box::pin(self.note_statement(index)).await;
        }
        self.after_one(index, outcome, one.effects).await?;
        self.check_budget()?;
        match self.held_error() {
            None => Ok(pass_ready),
            Some(fields) => Err(Fault::Statement(fields)),
        }
    }

    /// Relays the answer to a text that was sent, behind `skip` answers to what was sent before it.
    pub(super) async fn relay_answer(
        &mut self,
        index: usize,
        skip: usize,
        one: &OneShard<'_>,
        pass_ready: bool,
    ) -> Result<Outcome, Fault> {
        let mut answer = self.answer_to(index, skip, one, pass_ready);
        let mut guard = self.guard_of(index);
        self.servers[index].busy = true;
        let began = self.observation.server_begins();
        loop {
            let mut stopped = Stopped::Ready;
            let server = &mut self.servers[index].lease;
            let observation = &mut self.observation;
            let metrics = &self.engine.metrics;
            let pumping = relay::pump(server, &mut self.client.conn, |kind, message, client| {
                if answer.skip == 0 && answer.ahead == 0 {
                    observation.heard(kind, message, metrics);
                }
                answer.decide(kind, message, client, &mut stopped)
            });
            let waited = guarded(guard.as_ref(), pumping).await;
            let Some(pumped) = waited.or_stay(&mut guard, || self.read_can_move()) else {
                continue;
            };
            pumped.map_err(|error| self.relay_failed(index, error))?;
            self.servers[index].busy = matches!(stopped, Stopped::CopyIn);
            if answer.ahead == 0 && self.servers[index].ahead.is_some() {
                self.settled_ahead(index);
            }
            match stopped {
                Stopped::Ready => break,
                Stopped::CopyIn => self.copy_in_one(index).await?,
                Stopped::Fatal(fields) => {
                    let fault = self.server_ended(index, fields);
                    // What it said came in the place of an answer to what goes before the statement.
                    self.unsent |= answer.ahead > 0;
                    return Err(fault);
                }
                Stopped::Unsettled(fields) => {
                    self.drop_server(index);
                    return Err(Fault::Statement(fields));
                }
                Stopped::Foreign => {
                    self.drop_server(index);
                    return Err(Fault::error(
                        "XX000",
                        "the shard's result columns differ from the home shard's",
                    ));
                }
            }
        }
        self.observation.server_ends(began, one.shard);
        self.servers[index].lease.status = answer.outcome.status;
        self.hold_error(answer.held.take());
        if answer.tag.is_some() {
            self.block.tag = answer.tag.take();
        }
        if answer.begin_failed {
            self.drop_server(index);
            return Err(Fault::fatal("08006", "a shard did not open the transaction"));
        }
        Ok(answer.outcome)
    }

    fn answer_to<'a>(&self, index: usize, skip: usize, one: &OneShard<'a>, pass_ready: bool) -> Answer<'a> {
        Answer {
            ahead: self.servers[index].answers_ahead(),
            skip,
            columns: one.columns.filter(|_| one.shard != self.engine.cluster.home()),
            offset: one.offset,
            pass_ready,
            outcome: Outcome::none(),
            begin_failed: false,
            unsure: self.sequences.unsure(),
            holds: self.servers[index].replica.is_some() && !self.block.is_open(),
            held: None,
            holds_tag: self.holds_tags(),
            tag: None,
            budget: self.budget.clone(),
        }
    }

    /// A relay that broke: the server is closed, the session learns why.
    pub(super) fn relay_failed(&mut self, index: usize, error: PumpError) -> Fault {
        let shard = self.servers.get(index).map(|server| server.shard);
        match error {
            PumpError::Client(_) => Fault::ClientGone,
            PumpError::Server(error) => {
                let name = shard.map_or_else(|| "a shard".to_owned(), |shard| self.shard_name(shard));
                let was_pinned = !self.pinned.is_empty() && shard == Some(self.engine.cluster.home());
                self.note_unsent(index);
                let server = self.servers.get(index);
                let cut = server.is_some_and(|server| server.lease.passing > 0);
                self.drop_server(index);
                if cut {
                    // The client has half a message: whatever came now, it would take for the other half.
                    return Fault::ClientGone;
                }
                match Fault::lost(&error, &name) {
                    // What pinned the session is gone with the server.
                    Fault::Statement(fields) if was_pinned => Fault::Fatal(fields),
                    other => other,
                }
            }
        }
    }

    /// A server said goodbye: it is closed. The session goes on unless it needed just that one.
    pub(super) fn server_ended(&mut self, index: usize, mut fields: Box<ErrorFields>) -> Fault {
        self.note_unsent(index);
        let Some(server) = self.servers.get(index) else {
            return Fault::Fatal(fields);
        };
        server.lease.pool().server_ended(&fields.code);
        let was_pinned = !self.pinned.is_empty() && server.shard == self.engine.cluster.home();
        self.drop_server(index);
        if was_pinned {
            return Fault::Fatal(fields);
        }
        "ERROR".clone_into(&mut fields.severity);
        Fault::Statement(fields)
    }

    /// Whether a server that is lost took anything of what was meant for it. What has not left in a single byte was
    /// never started.
    fn note_unsent(&mut self, index: usize) {
        self.unsent = self.servers.get(index).is_some_and(|server| {
            let conn = &server.lease.conn;
            conn.pending_out() > 0 && !conn.is_mid_message()
        });
    }

    /// Brings the session's idea of its state in line with what a server reports after a statement.
    pub(super) async fn after_one(
        &mut self,
        index: usize,
        outcome: Outcome,
        effects: Effects,
    ) -> Result<(), Fault> {
        if self.block.is_open() && outcome.status == TransactionStatus::Idle && !self.block.implicit {
            // The transaction ended inside the server (a procedure's COMMIT cannot; a lost race with a kill can).
            self.block.state = BlockState::Failed;
        }
        self.extended.relayed_error = outcome.failed;
        self.follow_server(index, outcome.status, outcome.failed, effects)
            .await?;
        if !self.block.is_open() {
            self.release_servers();
        }
        Ok(())
    }

    /// An error on its way to the client.
    pub(super) fn tell(&mut self, fields: &ErrorFields) {
        if fields.code == "57014"
            && let Some(detail) = self.cancel.slot.deadlock()
        {
            let fields = crate::cancel::deadlock_error(&detail);
            self.observe_error(&fields);
            return encode::error(self.client.conn.out(), &fields);
        }
        self.observe_error(fields);
        if let Some(fields) = self.over_time(fields) {
            return encode::error(self.client.conn.out(), &fields);
        }
        let timed_out = self.watch.as_ref().is_some_and(|watch| watch.has_fired());
        if timed_out && fields.code == "57014" && fields.message == relay::CANCELLED {
            // Shards of a statement over several were cancelled because its time was over.
            let mut fields = fields.clone();
            relay::TIMED_OUT.clone_into(&mut fields.message);
            return encode::error(self.client.conn.out(), &fields);
        }
        encode::error(self.client.conn.out(), fields);
    }

    /// What a server's answer means for the block, and what its statement did to the session.
    pub(super) async fn follow_server(
        &mut self,
        index: usize,
        status: TransactionStatus,
        failed: bool,
        effects: Effects,
    ) -> Result<(), Fault> {
        match (self.block.is_open(), status) {
            (true, TransactionStatus::Failed) => self.fail_block(),
            (false, TransactionStatus::InTransaction | TransactionStatus::Failed) => {
                return Err(Fault::fatal(
                    "XX000",
                    "a server opened a transaction the session does not know",
                ));
            }
            _ => {}
        }
        if !effects.none() {
            self.after_effects(index, effects, failed).await?;
        }
        Ok(())
    }

    /// Sends a text to the home shard and relays the answer without ReadyForQuery.
    pub(super) async fn relay_home(&mut self, text: &str) -> Result<(), Fault> {
        let one = OneShard {
            shard: self.engine.cluster.home(),
            text,
            columns: None,
            wrote: Wrote::Unknown,
            effects: Effects::default(),
            offset: 0,
        };
        self.run_on_one(one, false).await.map(|_| ())
    }
}

/// One server's answer while it is relayed.
struct Answer<'a> {
    /// Answers still to come to changes of settings that go before everything else.
    ahead: usize,
    /// Answers still to come that the client does not see: to BEGIN and what goes before the text.
    skip: usize,
    /// Shown instead of the server's own result columns.
    columns: Option<&'a [u8]>,
    /// Of the text in the client's own, in bytes.
    offset: usize,
    pass_ready: bool,
    outcome: Outcome,
    /// What went before the text failed.
    begin_failed: bool,
    /// "Nothing was drawn from this sequence" need not be true.
    unsure: bool,
    /// An error may be cured on another server: the client is not told yet.
    holds: bool,
    held: Option<Box<ErrorFields>>,
    /// The tag is kept, not passed on.
    holds_tag: bool,
    /// What was kept.
    tag: Option<Box<[u8]>>,
    /// What the statement may have its server send.
    budget: Option<Rc<Budget>>,
}

/// Why the relay of an answer stopped.
enum Stopped {
    /// The server is ready for the next statement.
    Ready,
    /// It wants data of a COPY.
    CopyIn,
    /// It closes the connection.
    Fatal(Box<ErrorFields>),
    /// It did not take the session's settings, and has ignored the text.
    Unsettled(Box<ErrorFields>),
    /// Its columns are not those of the home shard.
    Foreign,
}

impl Answer<'_> {
    fn decide(&mut self, kind: u8, message: &mut [u8], client: &mut Conn, stopped: &mut Stopped) -> Verdict {
        if self.ahead > 0 {
            if !ahead::is_refused(kind, &mut self.ahead) {
                return Verdict::Drop;
            }
            let fields = ahead::refusal_of(message);
            *stopped = match ahead::is_fatal(&fields) {
                true => Stopped::Fatal(fields),
                false => Stopped::Unsettled(fields),
            };
            return Verdict::DropAndStop;
        }
        match kind {
            tag::READY_FOR_QUERY if self.skip > 0 => {
                self.skip -= 1;
                Verdict::Drop
            }
            tag::ERROR if self.skip > 0 => {
                self.begin_failed = true;
                Verdict::Drop
            }
            tag::COMMAND_COMPLETE if self.skip > 0 => Verdict::Drop,
            tag::COMMAND_COMPLETE | tag::ERROR if self.is_over_budget() => {
                self.outcome.failed |= kind == tag::ERROR;
                Verdict::Drop
            }
            tag::COMMAND_COMPLETE => {
                self.outcome.completed += 1;
                if self.holds_tag {
                    self.tag = Some(message[5..message.len().saturating_sub(1)].into());
                    return Verdict::Drop;
                }
                Verdict::Forward
            }
            tag::PARSE_COMPLETE => {
                self.outcome.parsed = true;
                Verdict::Forward
            }
            tag::READY_FOR_QUERY => {
                self.outcome.status = status_of(message);
                if self.pass_ready && self.held.is_none() {
                    Verdict::ForwardAndStop
                } else {
                    Verdict::DropAndStop
                }
            }
            tag::ROW_DESCRIPTION => match self.columns {
                Some(home) if !relay::adopt_columns(message, home) => {
                    *stopped = Stopped::Foreign;
                    Verdict::Stop
                }
                _ => Verdict::Forward,
            },
            tag::COPY_IN => {
                *stopped = Stopped::CopyIn;
                Verdict::ForwardAndStop
            }
            tag::ERROR => {
                self.outcome.failed = true;
                self.pass_error(message, client, stopped)
            }
            _ => Verdict::Forward,
        }
    }

    /// The client will be told that it was too much, whatever the server says.
    fn is_over_budget(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_exceeded())
    }

    /// Positions count from the start of the client's text; OIDs and line numbers do not appear in other fields.
    fn pass_error(&mut self, message: &[u8], client: &mut Conn, stopped: &mut Stopped) -> Verdict {
        if self.unsure
            && let Some(refusal) = super::sequences::instead_of(message)
        {
            encode::error(client.out(), &refusal);
            return Verdict::Drop;
        }
        let Ok(fields) = Fields::decode(&message[5..]) else {
            return Verdict::Forward;
        };
        let severity = fields.get(field::SEVERITY_RAW).unwrap_or_default();
        if severity == b"FATAL" || severity == b"PANIC" {
            *stopped = Stopped::Fatal(Box::new(fields.to_owned()));
            return Verdict::DropAndStop;
        }
        if self.holds {
            let mut fields = Box::new(fields.to_owned());
            fields.position = fields.position.map(|position| position + self.offset as u32);
            self.held = Some(fields);
            return Verdict::Drop;
        }
        if self.offset > 0 && fields.get(field::POSITION).is_some() {
            let mut fields = fields.to_owned();
            fields.position = fields.position.map(|position| position + self.offset as u32);
            encode::error(client.out(), &fields);
            return Verdict::Drop;
        }
        Verdict::Forward
    }
}

/// The status byte of a ReadyForQuery message.
pub(super) fn status_of(message: &[u8]) -> TransactionStatus {
    match message.get(5) {
        Some(b'T') => TransactionStatus::InTransaction,
        Some(b'E') => TransactionStatus::Failed,
        _ => TransactionStatus::Idle,
    }
}

/// True for the statements that a failed block accepts.
pub(super) fn ends_block(statement: &Statement) -> bool {
    use sql::TransactionCommand::{Commit, Prepare, Rollback, RollbackTo};
    match &statement.action {
        Action::Empty => true,
        Action::Other(triage) => {
            matches!(
                **triage,
                plan::Triage::Transaction(Commit { .. } | Rollback { .. } | RollbackTo(_) | Prepare(_))
            )
        }
        _ => false,
    }
}

/// PostgreSQL's words for a statement in a failed block.
pub(super) fn failed_block() -> Fault {
    Fault::error(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// What a statement that goes to the home shard unplanned may do to data.
pub(super) fn wrote_by_kind(kind: sql::StatementKind) -> Wrote {
    use sql::StatementKind as Kind;
    match kind {
        Kind::Show | Kind::Set | Kind::Listen | Kind::Unlisten => Wrote::No,
        // A SELECT can call a function that writes, and EXPLAIN ANALYZE can run anything.
        Kind::Select | Kind::Explain | Kind::Fetch | Kind::DeclareCursor | Kind::CloseCursor => {
            Wrote::Unknown
        }
        _ => Wrote::Unknown,
    }
}
