//! What is measured of a request: from its first message to its ReadyForQuery.
//!
//! An [`Observation`] is a part of its session, written without locks or allocations, and closed once per request. A
//! request reads the clock twice: when its first message is taken and when its answer is complete. More readings are
//! made only where time passes anyway (waiting for a server connection), and for spans.
//!
//! States: *closed* (`started` is `None`: between requests) and *open*. [`Session::observe_request`] opens, messages of
//! the same pipeline find it open; [`Session::observe_end`] closes. Whatever ends a session in between (a panic, a
//! client that goes away) loses the open observation, and nothing else.
//!
//! A pipeline's statements run in the order of their Execute messages, so the answers that come from a server belong to
//! the statements marked *awaited*, in order.

mod report;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use wire::backend::{ErrorFields, Fields, field, tag};

use super::Session;
use super::effects::Pins;
use super::explain::Steps;
use super::fault::refusal_code;
use crate::digest::Run;
use crate::exec::statement::Statement;
use crate::metrics::{PoolCounters, Route, SqlState, StatementClass, WorkerMetrics};
use crate::spare::Blank;
pub(super) use report::Detail;

/// Statements of one request that are told apart; what a longer pipeline does beyond counts in its totals only.
const SEEN_MAX: usize = 1024;

/// Room for statements beyond the first that a session keeps between requests.
const KEPT_MAX: usize = 8;

/// One statement of a request.
#[derive(Debug)]
struct Seen {
    statement: Rc<Statement>,
    /// Shards it ran on.
    shards: u32,
    /// One of them.
    shard: Option<ShardId>,
    /// Rows it returned or changed, by its command tag.
    rows: u64,
    /// Rows that servers sent for other servers, and their bytes.
    moved: (u64, u64),
    /// Its answer comes from a server and has not come.
    awaited: bool,
}

/// What is known of the request at hand.
#[derive(Debug)]
pub(super) struct Observation {
    /// When its first message was taken; `None` between requests.
    started: Option<Instant>,
    /// When its answer was complete, where that was looked at before its end.
    pub(super) answered: Option<Instant>,
    /// When the open transaction's first request was taken.
    transaction: Option<Instant>,
    /// Its first statement.
    first: Option<Seen>,
    /// Its other statements.
    more: Vec<Seen>,
    /// Time it waited for server connections, and when that began.
    waited: Duration,
    waiting: Option<Instant>,
    /// The last error it was answered with.
    error: Option<SqlState>,
    /// That error came from a server, and no log line says so yet.
    unreported: bool,
    /// What log lines and spans need beyond that.
    detail: Option<Box<Detail>>,
    /// The shard key's value, where it is wanted and there is one.
    tenant: Option<Box<str>>,
    /// What it does step by step, while that is to be shown.
    pub(super) steps: Option<Box<Steps>>,
}

/// What a session is known by, and where it counts, from its login to its end.
#[derive(Debug)]
pub(super) struct Account {
    /// Number of the session on its worker.
    number: u64,
    /// Bytes from and to the client that are counted already.
    traffic: (u64, u64),
    /// Where the session's database and user are counted.
    pub(super) totals: Arc<PoolCounters>,
}

impl Account {
    /// Of a session with this number, which counts here.
    pub(super) fn new(totals: Arc<PoolCounters>, number: u64) -> Self {
        Self {
            number,
            traffic: (0, 0),
            totals,
        }
    }
}

impl Observation {
    const NONE: Self = Self {
        started: None,
        answered: None,
        transaction: None,
        first: None,
        more: Vec::new(),
        waited: Duration::ZERO,
        waiting: None,
        error: None,
        unreported: false,
        detail: None,
        tenant: None,
        steps: None,
    };

    pub(super) fn add(&mut self, statement: &Rc<Statement>, awaited: bool) {
        let seen = Seen {
            statement: Rc::clone(statement),
            shards: 0,
            shard: None,
            rows: 0,
            moved: (0, 0),
            awaited,
        };
        if self.first.is_none() {
            self.first = Some(seen);
        } else if self.more.len() < SEEN_MAX {
            self.more.push(seen);
        }
    }

    fn last(&mut self) -> Option<&mut Seen> {
        self.more.last_mut().or(self.first.as_mut())
    }

    /// The statement at hand runs on these shards.
    pub(super) fn over(&mut self, shards: &[ShardId]) {
        if let Some(seen) = self.last() {
            seen.shards = seen.shards.max(u32::try_from(shards.len()).unwrap_or(u32::MAX));
            seen.shard = shards.first().copied();
        }
    }

    /// Servers sent so many rows and bytes for other servers, for the statement at hand.
    pub(super) fn moved(&mut self, rows: u64, bytes: usize) {
        if let Some(seen) = self.last() {
            seen.moved.0 = seen.moved.0.wrapping_add(rows);
            seen.moved.1 = seen.moved.1.wrapping_add(bytes as u64);
        }
    }

    /// The same, added up so far.
    pub(super) fn moved_so_far(&mut self) -> (u64, u64) {
        self.last().map_or((0, 0), |seen| seen.moved)
    }

    /// The statement at hand was completed with this command tag.
    pub(super) fn completed(&mut self, tag: &[u8]) {
        let rows = rows_of(tag);
        if let Some(seen) = self.last() {
            seen.rows = seen.rows.wrapping_add(rows);
        }
    }

    /// The first statement whose answer was awaited got it, with this command tag (empty for none); if none was, it
    /// belongs to the last one.
    fn answered(&mut self, tag: &[u8]) {
        let next = self
            .first
            .iter_mut()
            .chain(&mut self.more)
            .find(|seen| seen.awaited);
        match next {
            Some(seen) => {
                seen.awaited = false;
                seen.rows = seen.rows.wrapping_add(rows_of(tag));
            }
            None => self.completed(tag),
        }
    }

    /// The request waited for a server connection since then.
    pub(super) fn waited(&mut self, since: Instant, metrics: &WorkerMetrics) {
        let time = since.elapsed();
        self.waiting.get_or_insert(since);
        self.waited += time;
        metrics.wait_times.observe(micros(time));
    }

    /// The client is sent an error with this SQLSTATE.
    fn error(&mut self, code: &[u8], metrics: &WorkerMetrics) {
        let state = SqlState::of(code);
        self.error = Some(state);
        metrics.errors.count(state);
    }

    /// A server's message that answers one of the request's statements.
    pub(super) fn heard(&mut self, kind: u8, message: &[u8], metrics: &WorkerMetrics) {
        match kind {
            tag::COMMAND_COMPLETE => self.answered(message.get(5..).unwrap_or_default()),
            tag::EMPTY_QUERY | tag::PORTAL_SUSPENDED => self.answered(b""),
            tag::ERROR => self.server_error(message, metrics),
            _ => {}
        }
    }

    fn server_error(&mut self, message: &[u8], metrics: &WorkerMetrics) {
        let Ok(fields) = Fields::decode(message.get(5..).unwrap_or_default()) else {
            return;
        };
        let severity = fields.get(field::SEVERITY_RAW).unwrap_or_default();
        // A session's last error is counted where it is told to the client.
        if severity != b"FATAL" && severity != b"PANIC" {
            self.error(fields.get(field::CODE).unwrap_or_default(), metrics);
            self.unreported = true;
        }
    }

    /// The key that the statement to come is routed by.
    pub(super) fn tenant(&mut self, key: Option<String>) {
        self.tenant = key.map(String::into_boxed_str);
    }

    /// A server begins to work for the request; `None` when nobody wants to know.
    pub(super) fn server_begins(&self) -> Option<Instant> {
        let detail = self.detail.as_ref()?;
        detail.is_traced().then(Instant::now)
    }

    /// It has answered.
    pub(super) fn server_ends(&mut self, began: Option<Instant>, shard: ShardId) {
        if let (Some(began), Some(detail)) = (began, &mut self.detail) {
            detail.server(began, Instant::now(), shard);
        }
    }
}

impl Session {
    /// The session is pinned for these reasons from now on. The only place that changes them.
    pub(super) fn set_pinned(&mut self, pins: Pins) {
        let metrics = &self.engine.metrics;
        for reason in pins.iter().filter(|reason| !self.pinned.contains(*reason)) {
            metrics.pins.count(reason);
            metrics.pinned.up(reason);
            if self.engine.observer.options().log_pins {
                self.report_pin(reason.as_str());
            }
        }
        for reason in self.pinned.iter().filter(|reason| !pins.contains(*reason)) {
            metrics.pinned.down(reason);
        }
        self.pinned = pins;
        self.cancel.slot.mark.set_pins(pins);
    }

    /// A message of the client was taken: opens the observation unless it is open.
    pub(super) fn observe_request(&mut self) {
        if self.observation.started.is_none() {
            self.observation.started = Some(Instant::now());
            self.observation.answered = None;
        }
    }

    /// A statement of the request begins. `awaited`: its answer comes from a server, later.
    pub(super) fn observe_statement(&mut self, statement: &Rc<Statement>, text: &str, awaited: bool) {
        self.observation.add(statement, awaited);
        let observer = &self.engine.observer;
        let wants = observer.wants();
        if !wants.texts {
            return;
        }
        let mut digest = statement.digest.0.borrow_mut();
        if !digest.as_ref().is_some_and(|digest| digest.is_listed()) {
            let conforming = match (&self.private_context, &self.context) {
                (Some(context), _) | (None, Some((context, _))) => Some(context.conforming_strings),
                (None, None) => None,
            };
            *digest = Some(observer.digest(&self.database, &self.user, text, conforming));
        }
        drop(digest);
        if wants.detailed {
            self.observe_detail(text);
        }
    }

    /// The request's answer is complete.
    pub(super) fn observe_end(&mut self) {
        let Some(started) = self.observation.started else {
            return;
        };
        self.observation.started = None;
        if self.observation.unreported && self.engine.observer.options().log_errors {
            self.report_server_error();
        }
        let now = self.observation.answered.take().unwrap_or_else(Instant::now);
        let took_us = micros(now.duration_since(started));
        let bytes = self.observe_traffic();
        let in_block = self.block.is_open();
        let observer = &self.engine.observer;
        let observation = &mut *self.observation;
        let totals = &self.account.totals;
        if !observation.waited.is_zero() {
            totals.wait_time_us.add(micros(observation.waited));
        }
        let Some(first) = &observation.first else {
            observation.close();
            return;
        };
        totals.query_count.increment();
        totals.query_time_us.add(took_us);
        if in_block {
            observation.transaction.get_or_insert(started);
        } else {
            let began = observation.transaction.take();
            totals.xact_count.increment();
            totals
                .xact_time_us
                .add(began.map_or(took_us, |began| micros(now.duration_since(began))));
        }
        let count = observation.more.len() as u64 + 1;
        let times = &self.engine.metrics.statement_times;
        let failed_at = if observation.error.is_some() { count } else { 0 };
        for (turn, seen) in (1..).zip(std::iter::once(first).chain(&observation.more)) {
            let us = if count == 1 { took_us } else { took_us / count };
            let class = StatementClass::of(seen.statement.kind);
            times.observe(class, Route::over(seen.shards), us);
            if let Some(digest) = &*seen.statement.digest.0.borrow() {
                digest.add(Run {
                    us,
                    rows: seen.rows,
                    bytes: if count == 1 { bytes } else { bytes / count },
                    shards: seen.shards,
                    moved_rows: seen.moved.0,
                    moved_bytes: seen.moved.1,
                    failed: turn == failed_at,
                    ended_us: observer.clock.unix_us(now),
                });
            }
        }
        if observer.wants().detailed {
            self.report(started, now);
        }
        self.observation.close();
    }

    /// Counts the bytes since the last request's end, and gives their number. What is still to be sent counts now.
    fn observe_traffic(&mut self) -> u64 {
        let (received, sent) = self.client.conn.traffic();
        let sent = sent + self.client.conn.pending_out() as u64;
        let before = std::mem::replace(&mut self.account.traffic, (received, sent));
        let received = received.saturating_sub(before.0);
        let sent = sent.saturating_sub(before.1);
        self.account.totals.bytes_received.add(received);
        self.account.totals.bytes_sent.add(sent);
        received + sent
    }

    /// The client is sent this error, made or passed on here.
    pub(super) fn observe_error(&mut self, fields: &ErrorFields) {
        let metrics = &self.engine.metrics;
        self.observation.error(fields.code.as_bytes(), metrics);
        self.observation.unreported = false;
        let refusal = refusal_code(fields);
        if let Some(code) = refusal {
            metrics.statements_refused.increment();
            metrics.refusals.count(code);
        }
        if self.engine.observer.options().log_errors {
            self.report_error(&fields.code, refusal);
        }
    }
}

impl Default for Observation {
    fn default() -> Self {
        Self::NONE
    }
}

impl Blank for Observation {
    const BLANK: &'static Self = &Self::NONE;

    fn is_blank(&self) -> bool {
        // What else there is was closed with the request.
        self.started.is_none() && self.transaction.is_none() && self.first.is_none() && self.error.is_none()
    }
}

impl Observation {
    fn close(&mut self) {
        self.first = None;
        self.more.clear();
        if self.more.capacity() > KEPT_MAX {
            self.more = Vec::new();
        }
        self.waited = Duration::ZERO;
        self.waiting = None;
        self.error = None;
        self.unreported = false;
        self.detail = None;
        self.tenant = None;
        self.steps = None;
    }
}

/// Whole microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The number of rows a command tag ends with; 0 if it has none.
fn rows_of(tag: &[u8]) -> u64 {
    let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (words, number) = tag.split_at(tag.len() - digits);
    if digits == 0 || words.last() != Some(&b' ') {
        return 0;
    }
    number.iter().fold(0_u64, |sum, digit| {
        sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_off_tags() {
        for (tag, rows) in [
            ("SELECT 12", 12),
            ("INSERT 0 3\0", 3),
            ("COPY 100", 100),
            ("BEGIN", 0),
            ("CREATE TABLE", 0),
            ("", 0),
            ("7", 0),
        ] {
            assert_eq!(rows_of(tag.as_bytes()), rows, "{tag}");
        }
    }
}
