//! The short way for the commonest transaction: one statement outside any block that one server answers alone.
//!
//! [`Session::step`] takes one message at a time through everything a message can mean. A session spends nearly all its
//! messages on something simpler: a Query, or Parse, Bind, Describe, Execute and Sync sent together, whose statement is
//! in the cache, changes nothing of the session and belongs to one shard. That is done here in one flat function with
//! three places to wait in: for the client, for a connection, for the answer.
//!
//! ```text
//!  at rest ──request──► errand ──connection──► sent ──whole, quiet answer──► at rest
//!     │                   │                      └──anything else──► relay_answer ──► at rest
//!     └──anything else────┴──► step (nothing was consumed, nothing was sent)
//! ```
//!
//! Invariants:
//! * It *decides* nothing that the long way decides otherwise: look-up, target and books are the same functions. What
//!   it does not recognise it leaves untouched at the front of the client's bytes.
//! * Whatever must be looked at before, during or after *every* statement belongs to both ways: a feature that this way
//!   does not know adds a condition to [`Session::is_at_rest`] (per session) or [`takes_short_way`] (per statement).
//! * An answer is handed over as it came only when all of it is there and nothing in it concerns the proxy: no error,
//!   no notice, no report of a setting. Everything else goes through the relay.
//! * The messages are consumed when they go to the server; before that an error leaves the way of the refused errand.

mod read;
mod shape;

use std::future::poll_fn;
use std::io::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::BufMut;
use catalog::ShardId;
use sql::StatementKind;
use wire::TransactionStatus;
use wire::backend::encode;
use wire::frame::Message;
use wire::frontend::Frontend;

use super::ahead::Way;
use super::block::{Enlisted, Wrote};
use super::effects::Effects;
use super::enlist::is_settled;
use super::extended::{Prepared, param_of};
use super::simple::{OneShard, UNSENT_RETRIES, wrote_by_kind};
use super::{Fault, Session};
use crate::client::Filled;
use crate::engine::PlanContext;
use crate::exec::cache::Found;
use crate::exec::relay::{self, PumpError};
use crate::exec::statement::{Action, Literals, Planned, Shards, Statement, resolve};
use crate::server::Description;
use shape::{Batch, Quiet, Shape, quiet_answer, shape_of};

/// A transaction at the front of the client's bytes that one server can answer alone.
struct Errand {
    shard: ShardId,
    statement: Rc<Statement>,
    /// Of the messages, in bytes.
    len: usize,
    form: Form,
}

/// How the client put it.
enum Form {
    Query,
    Batch { batch: Batch, prepared: Rc<Prepared> },
}

/// A wait for an errand's server.
type Enlisting<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'a>>;

/// Room for a statement's name on a server.
const NAME_BYTES: usize = 32;

impl Session {
    /// Serves transactions as long as the short way will do. Afterwards [`Session::step`] has something to do.
    pub(super) async fn hurry(&mut self) -> Result<(), Fault> {
        if self.settings.take_changed() {
            self.follow_idle_times();
            self.follow_budget();
        }
        while self.is_at_rest() {
            if let Some(watch) = &self.watch {
                watch.waits(false);
            }
            self.put_workspace();
            let shape = self.await_request().await?;
            self.take_workspace();
            let Some(shape) = shape else {
                return Ok(());
            };
            self.observe_request();
            if !self.enter() {
                return Ok(());
            }
            let Some(errand) = self.errand(shape) else {
                self.count_out();
                return Ok(());
            };
            let done = match self.reads {
                None => self.run_errand(&errand).await?,
                Some(_) => Box::pin(self.run_read(&errand)).await?,
            };
            if !done {
                return Ok(());
            }
            self.observe_end();
            self.count_out();
        }
        Ok(())
    }

    /// Nothing is open and nothing is held: what comes next is a transaction of its own.
    fn is_at_rest(&self) -> bool {
        self.servers.is_empty()
            && !self.block.is_open()
            && self.pinned.is_empty()
            && !self.recheck_pins
            && self.listening.is_none()
            && self.private_context.is_none()
            && self.budget.is_none()
            && self.extended.is_at_rest()
            && !self.counted
            && !self.stop.is_set()
    }

    /// Sends what is pending and waits for a request. `None`: it is not for the short way, or the session must end.
    async fn await_request(&mut self) -> Result<Option<Shape>, Fault> {
        let (client, limit) = (&mut self.client, self.message_limit as usize);
        poll_fn(|cx| {
            ready!(client.conn.poll_flush(cx)).map_err(|_| Fault::ClientGone)?;
            loop {
                match shape_of(client.conn.unread(), limit) {
                    Shape::Incomplete => {}
                    Shape::Other => return Poll::Ready(Ok(None)),
                    shape => return Poll::Ready(Ok(Some(shape))),
                }
                match ready!(client.poll_fill_or_stop(cx)).map_err(|_| Fault::ClientGone)? {
                    Filled::Bytes(_) => {}
                    Filled::Closed => return Poll::Ready(Err(Fault::ClientGone)),
                    Filled::Stop(_) => return Poll::Ready(Ok(None)),
                }
            }
        })
        .await
    }

    /// Counts this session among the running ones, as [`Session::count_in`] does; false when that takes more than a
    /// look.
    fn enter(&mut self) -> bool {
        let cluster = &self.engine.cluster;
        // Counted before the look: see the gate.
        self.engine.running.enter_anyway();
        self.counted = true;
        self.cancel.slot.begin_request();
        let outdated = self.stated != cluster.nodes.fence();
        if cluster.gate.is_closed() || outdated || !cluster.is_valid() || self.cancel.slot.is_late() {
            self.count_out();
            return false;
        }
        if let Some(watch) = &self.watch {
            watch.runs(false);
        }
        true
    }

    /// Recognises an errand. Changes nothing.
    fn errand(&mut self, shape: Shape) -> Option<Errand> {
        let (context, settings) = self.context.as_ref()?;
        if !context.utf8
            || context.version != self.engine.cluster.version(&self.database)
            || !Rc::ptr_eq(settings, self.settings.current())
        {
            return None;
        }
        let errand = match shape {
            Shape::Query(len) => self.query_errand(len),
            Shape::Batch(batch) => self.batch_errand(batch),
            Shape::Incomplete | Shape::Other => None,
        };
        errand.filter(|errand| !self.observes_text(&errand.statement))
    }

    /// Log lines, spans or the digest of a statement not listed yet want more than its counts.
    fn observes_text(&self, statement: &Statement) -> bool {
        let wants = self.engine.observer.wants();
        let listed = || matches!(&*statement.digest.0.borrow(), Some(digest) if digest.is_listed());
        wants.detailed || wants.tenants || (wants.texts && !listed())
    }

    fn query_errand(&mut self, len: usize) -> Option<Errand> {
        let (context, _) = self.context.as_ref()?;
        let Some((0, text)) = self.client.conn.unread().get(5..len)?.split_last() else {
            return None;
        };
        let statement = match context.statements.recall(text, &mut self.scratch) {
            Some(statement) => statement,
            None => {
                let text = std::str::from_utf8(text)
                    .ok()
                    .filter(|text| !text.contains('\0'))?;
                let conforming = context.conforming_strings;
                match context.statements.find(text, &mut self.scratch, conforming) {
                    Found::Statement(statement) => statement,
                    Found::Unknown { .. } => return None,
                }
            }
        };
        if !takes_short_way(&statement) {
            return None;
        }
        let shard = match &statement.action {
            Action::Planned(planned) => {
                let literals = Literals {
                    text: std::str::from_utf8(text).ok()?,
                    literals: &self.scratch.literals,
                };
                let shards = resolve(planned, &context.snapshot, literals, |_| None).ok()?;
                only_shard(shards, context)?
            }
            _ => self.engine.cluster.home(),
        };
        Some(Errand {
            shard,
            statement,
            len,
            form: Form::Query,
        })
    }

    fn batch_errand(&self, batch: Batch) -> Option<Errand> {
        let (context, _) = self.context.as_ref()?;
        let bytes = self.client.conn.unread();
        let prepared = self.statements.get(batch.statement(bytes)?)?;
        let declared = batch.parses(bytes, &prepared.text, &prepared.types)?;
        if prepared.context != context.id()
            || prepared.ruled.is_some()
            || prepared.unnamed != (batch.parse > 0)
            || !takes_short_way(&prepared.statement)
        {
            return None;
        }
        let shard = match &prepared.statement.action {
            Action::Planned(planned) => {
                let whole = Message::whole(bytes.get(batch.parse..batch.parse + batch.bind)?)?;
                let Ok(Frontend::Bind(bind)) = Frontend::decode(whole) else {
                    return None;
                };
                let known = planned.param_types.len();
                if bind.params.len() != known || declared > known || planned.holds_oids {
                    return None;
                }
                let literals = Literals {
                    text: &prepared.text,
                    literals: &prepared.literals,
                };
                let param = |index: usize| param_of(&bind, index);
                only_shard(
                    resolve(planned, &context.snapshot, literals, param).ok()?,
                    context,
                )?
            }
            _ => self.engine.cluster.home(),
        };
        Some(Errand {
            shard,
            statement: Rc::clone(&prepared.statement),
            len: batch.len,
            form: Form::Batch {
                batch,
                prepared: Rc::clone(prepared),
            },
        })
    }

    /// Runs an errand to its end. False: nothing was sent, the long way has to do it.
    async fn run_errand(&mut self, errand: &Errand) -> Result<bool, Fault> {
        // Boxed, here and below, because an idle session pays for what its task might have to hold.
        let enlisted = match self.enlisting(errand) {
            None => Ok(()),
            Some(enlisting) => enlisting.await,
        };
        if let Err(fault) = enlisted {
            return self.refuse_errand(errand, fault);
        }
        match self.send_errand(errand) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(fault) => return self.refuse_errand(errand, fault),
        }
        let metrics = &self.engine.metrics;
        metrics.statements.increment();
        metrics.plan_cache_hits.increment();
        self.observation.add(&errand.statement, false);
        self.observation.over(&[errand.shard]);
        let told = self.await_answer().await;
        if let Err(told) = self.hand_over(errand, told)
            && let Some(done) = Box::pin(self.answer_slowly(errand, told)).await?
        {
            return Ok(done);
        }
        if self.servers[0].lease.status != TransactionStatus::Idle {
            return Err(Fault::fatal(
                "XX000",
                "a server opened a transaction the session does not know",
            ));
        }
        self.engine.metrics.transactions_short.increment();
        // One reading of the clock does for the pool, too.
        self.observation.answered = Some(Instant::now());
        self.at_rest().await?;
        Ok(true)
    }

    /// An answer that came whole, and concerns nobody but the client, is its own from now on. Otherwise the error is what
    /// was given.
    fn hand_over(
        &mut self,
        errand: &Errand,
        told: Result<(), PumpError>,
    ) -> Result<(), Result<(), PumpError>> {
        let columns = match &errand.statement.action {
            Action::Planned(planned) if errand.shard != self.engine.cluster.home() => {
                planned.columns.as_deref()
            }
            _ => None,
        };
        let held = &mut self.servers[0];
        // Other answers come first where something was sent ahead.
        if told.is_err() || held.ahead.is_some() {
            return Err(told);
        }
        let Some(Quiet { status, tag }) = quiet_answer(held.lease.conn.unread_mut(), columns) else {
            return Err(told);
        };
        let tag = held.lease.conn.unread().get(tag).unwrap_or_default();
        self.observation.completed(tag);
        self.note_told_in_passing(errand);
        let held = &mut self.servers[0];
        let len = held.lease.conn.unread().len();
        held.lease.conn.transfer(len, &mut self.client.conn);
        held.lease.status = status;
        held.busy = false;
        Ok(())
    }

    /// The answers that are none of these: the server is lost, the answer came in pieces, or concerns the proxy.
    /// `Some`: everything is done.
    async fn answer_slowly(
        &mut self,
        errand: &Errand,
        mut told: Result<(), PumpError>,
    ) -> Result<Option<bool>, Fault> {
        if matches!((&told, &errand.form), (Err(PumpError::Server(_)), Form::Query)) {
            let again = match self.await_answer_of_living(errand, told).await {
                Ok(again) => again,
                Err(fault) => return self.end_failed(errand, fault).await.map(Some),
            };
            told = match self.hand_over(errand, again) {
                Ok(()) => return Ok(None),
                Err(told) => told,
            };
        }
        // The relay meets the same end of a server, and knows what it means.
        if let Err(PumpError::Client(_)) = told {
            return Err(Fault::ClientGone);
        }
        match self.relay_errand(errand).await {
            Ok(()) => Ok(None),
            Err(fault) => self.end_failed(errand, fault).await.map(Some),
        }
    }

    /// Gets the errand's server; what has to be waited for, boxed.
    fn enlisting<'a>(&'a mut self, errand: &'a Errand) -> Option<Enlisting<'a>> {
        match self.enlist_errand(errand) {
            Ok(()) => None,
            Err(obtained) => Some(Box::pin(self.enlist_for(errand, obtained))),
        }
    }

    /// Gets the errand's server where nothing has to be waited for. Otherwise the error is what was obtained so far.
    fn enlist_errand(&mut self, errand: &Errand) -> Result<(), Option<Enlisted>> {
        if errand.statement.effects.concerns_sequences() {
            return Err(None);
        }
        self.enlist_at_once(errand.shard)?;
        self.servers[0].wrote = wrote_by(&errand.statement);
        Ok(())
    }

    /// Gets the errand's server, with the session's settings; what was obtained so far is the first to be tried.
    async fn enlist_for(&mut self, errand: &Errand, obtained: Option<Enlisted>) -> Result<(), Fault> {
        let to_primary = self.reads.is_none() && !errand.statement.effects.concerns_sequences();
        if obtained.is_none() && to_primary {
            return self.enlist_in_turn(errand).await;
        }
        Box::pin(self.enlist_long(errand, obtained)).await
    }

    /// The same where no connection was idle, which is how it is with more clients than connections.
    async fn enlist_in_turn(&mut self, errand: &Errand) -> Result<(), Fault> {
        if self.cancel.slot.is_cancelled() {
            return Err(Fault::error("57014", relay::CANCELLED));
        }
        let at = self.pool_at(errand.shard);
        let (since, purpose) = (Instant::now(), self.first_purpose());
        let pool = &self.pools[at].1;
        let lease = pool.wait_for(purpose, Some(&self.cancel.slot), since).await;
        self.observation.waited(since, &self.engine.metrics);
        let enlisted = self.enlisted(errand.shard, lease?);
        if !is_settled(&enlisted.lease, self.settings.current()) {
            return Box::pin(self.enlist_long(errand, Some(enlisted))).await;
        }
        self.servers.push(enlisted);
        self.servers[0].wrote = wrote_by(&errand.statement);
        Ok(())
    }

    /// The same as any statement does.
    async fn enlist_long(&mut self, errand: &Errand, obtained: Option<Enlisted>) -> Result<(), Fault> {
        let effects = errand.statement.effects;
        let asks = effects.concerns_sequences() && errand.shard == self.engine.cluster.home();
        let way = if asks { Way::Before } else { Way::Ahead };
        let index = self.enlist_from(obtained, errand.shard, way).await?;
        self.servers[index].wrote = wrote_by(&errand.statement);
        if asks {
            self.before_sequences(index, effects).await?;
        }
        Ok(())
    }

    /// Moves the client's messages to the server's. False: the server has to prepare the statement first.
    fn send_errand(&mut self, errand: &Errand) -> Result<bool, Fault> {
        let held = &mut self.servers[0];
        let (server, client) = (&mut held.lease, &mut self.client.conn);
        match &errand.form {
            Form::Query => {
                self.engine.metrics.statements_routed.increment();
                client.transfer(errand.len, &mut server.conn);
            }
            Form::Batch { batch, prepared } if prepared.unnamed => match &errand.statement.action {
                Action::Planned(planned) => {
                    let home = errand.shard == self.engine.cluster.home();
                    let types = planned.server_types(home);
                    wire::frontend::encode::parse(server.conn.out(), b"", prepared.text.as_bytes(), types)
                        .map_err(|_| Fault::error("54000", "the statement is too long"))?;
                    client.consume(batch.parse);
                    client.transfer(errand.len - batch.parse, &mut server.conn);
                }
                _ => client.transfer(errand.len, &mut server.conn),
            },
            Form::Batch { batch, prepared } => {
                let told = prepared.told.borrow();
                let known = |copy: Option<&Arc<Description>>| is_known(copy, told.as_ref());
                let Some((name, known)) = server.prepared.get_as(prepared.id, known) else {
                    return Ok(false);
                };
                let told = told.as_ref();
                self.extended.tells = batch.describe && !known;
                if !known && told.is_some_and(|told| !batch.describe || told.params().is_some()) {
                    return Ok(false);
                }
                self.engine.metrics.prepared_hits.increment();
                let mut buffer = [0; NAME_BYTES];
                let mut rest = &mut buffer[..];
                // A number of at most twenty digits behind seven letters.
                let fits = write!(rest, "{name}").is_ok();
                let left = rest.remaining_mut();
                let name = &buffer[..NAME_BYTES - left];
                let bind = client.unread().get(..batch.bind).and_then(Message::whole);
                let Some(bind) = bind.filter(|_| fits) else {
                    return Ok(false);
                };
                wire::frontend::rename::bind(server.conn.out(), bind, None, name)
                    .map_err(|_| Fault::error("54000", "the message is too long"))?;
                client.consume(batch.bind);
                client.transfer(errand.len - batch.bind, &mut server.conn);
            }
        }
        server.unnamed = None;
        held.busy = true;
        if matches!(&errand.form, Form::Batch { prepared, .. } if !prepared.unnamed) {
            self.keep_for_replay(0);
        }
        if let Form::Batch { batch, .. } = &errand.form {
            let totals = &self.account.totals;
            let parses = u64::from(batch.parse > 0);
            totals.client_parse_count.add(parses);
            totals.server_parse_count.add(parses);
            totals.bind_count.increment();
        }
        Ok(true)
    }

    /// Sends what is pending to the server and waits for its first words. Whether the client is still there is watched
    /// meanwhile, and what it sends ahead is taken in.
    async fn await_answer(&mut self) -> Result<(), PumpError> {
        let client = &mut self.client.conn;
        let server = &mut self.servers[0].lease.conn;
        poll_fn(|cx| {
            // Should sending fail, reading says why.
            let _ = server.poll_flush(cx);
            match server.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => return Poll::Ready(Ok(())),
                Poll::Ready(_) => return Poll::Ready(Err(relay::lost_eof())),
                Poll::Pending => {}
            }
            relay::watch_client(client, cx)
        })
        .await
    }

    /// A Query of which a server that was dead already has taken nothing is given to another one. The fault is that there
    /// is none.
    async fn await_answer_of_living(
        &mut self,
        errand: &Errand,
        mut told: Result<(), PumpError>,
    ) -> Result<Result<(), PumpError>, Fault> {
        for _ in 0..UNSENT_RETRIES {
            let conn = &mut self.servers[0].lease.conn;
            let unsent = conn.pending_out() > 0 && !conn.is_mid_message();
            if !matches!((&told, &errand.form), (Err(PumpError::Server(_)), Form::Query)) || !unsent {
                break;
            }
            let mut pending = conn.out().split();
            // Without what was to bring that server to the session's settings.
            let message = pending.split_off(pending.len().saturating_sub(errand.len));
            self.engine.metrics.statements_retried.increment();
            self.drop_server(0);
            self.enlist_long(errand, None).await?;
            let held = &mut self.servers[0];
            held.lease.unnamed = None;
            held.lease.conn.out().extend_from_slice(&message);
            held.busy = true;
            told = self.await_answer().await;
        }
        Ok(told)
    }

    /// What the answer at hand tells of a statement is what the client knows of it from now on.
    fn note_told_in_passing(&mut self, errand: &Errand) {
        if let Form::Batch { prepared, .. } = &errand.form
            && std::mem::take(&mut self.extended.tells)
        {
            self.note_told_of_portal(prepared);
        }
    }

    /// Relays an answer that concerns the proxy, or has not come in one piece.
    async fn relay_errand(&mut self, errand: &Errand) -> Result<(), Fault> {
        let columns = match &errand.statement.action {
            Action::Planned(planned) => planned.columns.as_deref(),
            _ => None,
        };
        let one = OneShard {
            shard: errand.shard,
            text: "",
            columns,
            wrote: Wrote::No,
            effects: Effects::default(),
            offset: 0,
        };
        if let Form::Batch { prepared, .. } = &errand.form
            && !prepared.unnamed
            && self.servers[0].ahead.is_none()
        {
            self.replay_stale(0, prepared).await?;
        }
        let outcome = self.relay_answer(0, 0, &one, true).await?;
        if let Form::Batch { batch, .. } = &errand.form
            && batch.parse > 0
            && outcome.failed
            && !outcome.parsed
        {
            self.statements.forget(b"");
        }
        Ok(())
    }

    /// The server was lost on the way, or worse.
    async fn end_failed(&mut self, errand: &Errand, fault: Fault) -> Result<bool, Fault> {
        match errand.form {
            Form::Query => self.after_query(Err(fault)).await.map(|()| true),
            Form::Batch { ref batch, .. } => {
                let Fault::Statement(fields) = fault else {
                    return Err(fault);
                };
                self.servers.clear();
                // The server has ignored it all, or is gone.
                if batch.parse > 0 {
                    self.statements.forget(b"");
                }
                self.tell(&fields);
                encode::ready_for_query(self.client.conn.out(), TransactionStatus::Idle);
                Ok(true)
            }
        }
    }

    /// An error before anything was sent: the client learns it, and its messages are done with.
    fn refuse_errand(&mut self, errand: &Errand, fault: Fault) -> Result<bool, Fault> {
        let Fault::Statement(fields) = fault else {
            return Err(fault);
        };
        self.client.conn.consume(errand.len);
        // A connection whose settings are half done, or whose sequences are not known, is closed.
        self.servers.clear();
        self.tell(&fields);
        encode::ready_for_query(self.client.conn.out(), TransactionStatus::Idle);
        Ok(true)
    }
}

/// What runs on one server and changes nothing of the session. COPY has a protocol of its own, the rest is seldom.
fn takes_short_way(statement: &Statement) -> bool {
    use StatementKind::{Delete, Insert, Select, Update};
    matches!(statement.kind, Select | Insert | Update | Delete)
        && statement.effects.none()
        && statement.reading.hint.is_none()
        && match &statement.action {
            Action::Home => true,
            Action::Planned(planned) => goes_as_it_is(planned),
            _ => false,
        }
}

/// The client's own text is what the shard runs, and its place follows from the text and the parameters.
fn goes_as_it_is(planned: &Planned) -> bool {
    let plan = &planned.plan;
    plan.prelude.is_empty() && plan.text.is_none() && !plan.indexed && !planned.keys_are_computed()
}

/// The shard, when it is one; the session holds none, so where any will do it is the home shard.
fn only_shard(shards: Shards, context: &PlanContext) -> Option<ShardId> {
    match shards {
        Shards::One(shard) => Some(shard),
        Shards::Any => Some(context.snapshot.home()),
        Shards::Many(_) => None,
    }
}

/// The client was told what this server's statement is.
fn is_known(copy: Option<&Arc<Description>>, told: Option<&Arc<Description>>) -> bool {
    matches!((copy, told), (Some(copy), Some(told)) if Arc::ptr_eq(copy, told))
}

fn wrote_by(statement: &Statement) -> Wrote {
    match &statement.action {
        Action::Planned(planned) if planned.plan.writes => Wrote::Yes,
        Action::Planned(_) => Wrote::No,
        _ => wrote_by_kind(statement.kind),
    }
}
