//! What is measured of a request: from its first message to its ReadyForQuery.
//!
//! An [`Observation`] is a part of its session, written without locks or allocations, and closed once per request. A
//! request reads the clock twice: when its first message is taken and when its answer is complete. More readings are
//! made only where time passes anyway (waiting for a server connection).
//!
//! States: *closed* (`started` is `None`: between requests) and *open*. [`Session::observe_request`] opens, messages of
//! the same pipeline find it open; [`Session::observe_end`] closes. Whatever ends a session in between (a panic, a
//! client that goes away) loses the open observation, and nothing else.
//!
//! A pipeline's statements run in the order of their Execute messages, so the answers that come from a server belong to
//! the statements marked *awaited*, in order.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::backend::{ErrorFields, Fields, field, tag};

use super::Session;
use super::effects::Pins;
use super::fault::refusal_code;
use crate::exec::statement::Statement;
use crate::metrics::{PoolCounters, Route, SqlState, StatementClass, WorkerMetrics};

/// Statements of one request that are told apart; what a longer pipeline does beyond counts in its totals only.
const SEEN_MAX: usize = 1024;

/// One statement of a request.
#[derive(Debug)]
struct Seen {
    statement: Rc<Statement>,
    /// Shards it ran on.
    shards: u32,
    /// Rows it returned or changed, by its command tag.
    rows: u64,
    /// Its answer comes from a server and has not come.
    awaited: bool,
}

/// What is known of the request at hand.
#[derive(Debug)]
pub(super) struct Observation {
    /// When its first message was taken; `None` between requests.
    started: Option<Instant>,
    /// When the open transaction's first request was taken.
    transaction: Option<Instant>,
    /// Its first statement.
    first: Option<Seen>,
    /// Its other statements.
    more: Vec<Seen>,
    /// Time it waited for server connections.
    waited: Duration,
    /// The last error it was answered with.
    error: Option<SqlState>,
    /// Bytes from and to the client that are counted already.
    traffic: (u64, u64),
    /// Where the session's database and user are counted.
    pub(super) totals: Arc<PoolCounters>,
}

impl Observation {
    /// Of a session that counts here.
    pub(super) fn new(totals: Arc<PoolCounters>) -> Self {
        Self {
            started: None,
            transaction: None,
            first: None,
            more: Vec::new(),
            waited: Duration::ZERO,
            error: None,
            traffic: (0, 0),
            totals,
        }
    }

    /// A statement of the request begins. `awaited`: its answer comes from a server, later.
    pub(super) fn statement(&mut self, statement: &Rc<Statement>, awaited: bool) {
        let seen = Seen {
            statement: Rc::clone(statement),
            shards: u32::from(awaited),
            rows: 0,
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

    /// The statement at hand runs on this many shards.
    pub(super) fn over(&mut self, shards: usize) {
        if let Some(seen) = self.last() {
            seen.shards = seen.shards.max(u32::try_from(shards).unwrap_or(u32::MAX));
        }
    }

    /// The statement at hand was completed with this command tag.
    pub(super) fn completed(&mut self, tag: &[u8]) {
        let rows = rows_of(tag);
        if let Some(seen) = self.last() {
            seen.rows = seen.rows.wrapping_add(rows);
        }
    }

    /// The first statement whose answer was awaited got it, with this command tag (empty for none).
    pub(super) fn answered(&mut self, tag: &[u8]) {
        let rows = rows_of(tag);
        let next = self
            .first
            .iter_mut()
            .chain(&mut self.more)
            .find(|seen| seen.awaited);
        if let Some(seen) = next {
            seen.awaited = false;
            seen.rows = seen.rows.wrapping_add(rows);
        }
    }

    /// The request waited for a server connection.
    pub(super) fn waited(&mut self, time: Duration, metrics: &WorkerMetrics) {
        self.waited += time;
        metrics.wait_times.observe(micros(time));
    }

    /// The client is sent an error with this SQLSTATE.
    pub(super) fn error(&mut self, code: &[u8], metrics: &WorkerMetrics) {
        let state = SqlState::of(code);
        self.error = Some(state);
        metrics.errors.count(state);
    }
}

impl Observation {
    /// A server's message that answers the statement at hand.
    pub(super) fn heard(&mut self, kind: u8, message: &[u8], metrics: &WorkerMetrics) {
        match kind {
            tag::COMMAND_COMPLETE => self.completed(message.get(5..).unwrap_or_default()),
            tag::ERROR => self.server_error(message, metrics),
            _ => {}
        }
    }

    /// A server's message that answers the first awaited statement.
    pub(super) fn heard_in_turn(&mut self, kind: u8, message: &[u8], metrics: &WorkerMetrics) {
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
        }
        for reason in self.pinned.iter().filter(|reason| !pins.contains(*reason)) {
            metrics.pinned.down(reason);
        }
        self.pinned = pins;
    }

    /// A message of the client was taken: opens the observation unless it is open.
    pub(super) fn observe_request(&mut self) {
        if self.observation.started.is_none() {
            self.observation.started = Some(Instant::now());
        }
    }

    /// The request's answer is complete.
    pub(super) fn observe_end(&mut self) {
        let Some(started) = self.observation.started.take() else {
            return;
        };
        let now = Instant::now();
        let took_us = micros(now.duration_since(started));
        let observation = &mut self.observation;
        let totals = &observation.totals;
        let (received, sent) = self.client.conn.traffic();
        let sent = sent + self.client.conn.pending_out() as u64;
        totals.bytes_received.add(received - observation.traffic.0);
        totals.bytes_sent.add(sent.saturating_sub(observation.traffic.1));
        observation.traffic = (received, sent);
        let waited = std::mem::take(&mut observation.waited);
        if !waited.is_zero() {
            totals.wait_time_us.add(micros(waited));
        }
        observation.error = None;
        if let Some(first) = observation.first.take() {
            totals.query_count.increment();
            totals.query_time_us.add(took_us);
            let share_us = match observation.more.len() {
                0 => took_us,
                more => took_us / (more as u64 + 1),
            };
            let times = &self.engine.metrics.statement_times;
            for seen in std::iter::once(first).chain(observation.more.drain(..)) {
                let class = StatementClass::of(seen.statement.kind);
                times.observe(class, Route::over(seen.shards), share_us);
            }
            if self.block.is_open() {
                observation.transaction.get_or_insert(started);
            } else {
                let began = observation.transaction.take().unwrap_or(started);
                totals.xact_count.increment();
                totals.xact_time_us.add(micros(now.duration_since(began)));
            }
        }
    }

    /// The client is sent this error, made or passed on here.
    pub(super) fn observe_error(&mut self, fields: &ErrorFields) {
        let metrics = &self.engine.metrics;
        self.observation.error(fields.code.as_bytes(), metrics);
        if let Some(code) = refusal_code(fields) {
            metrics.statements_refused.increment();
            metrics.refusals.count(code);
        }
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
    let number = &tag[tag.len() - digits..];
    if digits == 0 || tag.len() == digits || tag[tag.len() - digits - 1] != b' ' {
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
