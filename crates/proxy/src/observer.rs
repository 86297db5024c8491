//! What a worker does with what its sessions observed: options, the digest table, log lines and spans.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::config::ObserveConfig;
use crate::digest::{Digest, TEXT_BYTES_MAX};
use crate::metrics::WorkerMetrics;
use crate::trace::{Clock, Ids, Span};
use crate::worker::{Shared, WorkerCtx};

/// What sessions look at for every request.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// Requests that take at least this many microseconds are slow; the largest number when none is.
    pub slow_us: u64,
    /// Statements need their normalised text.
    pub texts: bool,
    /// Requests need more than counters: a log line each, or a span.
    pub detailed: bool,
    /// The shard key of routed statements is noted.
    pub tenants: bool,
}

impl Wants {
    fn of(options: &ObserveConfig) -> Self {
        let slow_us = match u64::try_from(options.slow_query.as_micros()) {
            Ok(0) | Err(_) => u64::MAX,
            Ok(us) => us,
        };
        let detailed = slow_us != u64::MAX || options.log_statements || options.traces.is_some();
        Self {
            slow_us,
            texts: options.queries_max > 0 || detailed,
            detailed,
            tenants: options.log_tenants,
        }
    }
}

/// One worker's observer.
pub struct Observer {
    options: RefCell<Rc<ObserveConfig>>,
    wants: Cell<Wants>,
    /// Wall-clock time of moments.
    pub clock: Clock,
    /// Numbers for traces and spans.
    pub ids: RefCell<Ids>,
    metrics: Arc<WorkerMetrics>,
    shared: Arc<Shared>,
    worker: usize,
    /// When the worker started, Unix time in seconds.
    started: u64,
    sessions: Cell<u64>,
}

impl Observer {
    /// The observer of a worker.
    #[must_use]
    pub fn new(ctx: &WorkerCtx) -> Self {
        let options = ctx.shared.policies.source().observe.clone();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Different in every worker and at every start.
        let seed = u64::try_from(started.as_nanos()).unwrap_or_default() ^ (ctx.id as u64) << 48;
        Self {
            wants: Cell::new(Wants::of(&options)),
            clock: Clock::now(),
            ids: RefCell::new(Ids::new(seed ^ u64::from(std::process::id()) << 32)),
            metrics: Arc::clone(&ctx.metrics),
            shared: Arc::clone(&ctx.shared),
            worker: ctx.id,
            started: started.as_secs(),
            sessions: Cell::new(0),
            options: RefCell::new(Rc::new(options)),
        }
    }

    /// What sessions look at for every request.
    #[inline]
    pub fn wants(&self) -> Wants {
        self.wants.get()
    }

    /// Everything that is wanted.
    pub fn options(&self) -> Rc<ObserveConfig> {
        Rc::clone(&self.options.borrow())
    }

    /// Other options hold from now on.
    pub fn reconfigure(&self) {
        let options = self.shared.policies.source().observe.clone();
        self.wants.set(Wants::of(&options));
        self.options.replace(Rc::new(options));
    }

    /// A number for a session, unique on this worker.
    pub fn next_session(&self) -> u64 {
        let next = self.sessions.get() + 1;
        self.sessions.set(next);
        next
    }

    /// What log lines call a session whose client gave no name: unique among all sessions of all proxies that did not
    /// start a worker in the same second.
    #[must_use]
    pub fn session_name(&self, session: u64) -> String {
        format!("{:x}.{:x}.{session:x}", self.started, self.worker)
    }

    /// The digest of a text. `conforming`: the session's `standard_conforming_strings`, `None` when it is not known.
    pub fn digest(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        text: &str,
        conforming: Option<bool>,
    ) -> Arc<Digest> {
        let shown = match conforming {
            // Where a constant ends depends on the setting: nothing that might be part of one is shown.
            None if text.contains('\\') => {
                let word = text.split_ascii_whitespace().next().unwrap_or_default();
                let plain = word.bytes().all(|byte| byte.is_ascii_alphabetic());
                format!("{} …", if plain { word } else { "" })
            }
            known => sql::redact(text, known.unwrap_or(true), TEXT_BYTES_MAX),
        };
        let now_us = self.clock.unix_us(Instant::now());
        let max = self.options.borrow().queries_max;
        self.metrics.digests.entry(database, user, shown, now_us, max)
    }

    /// Sends the spans of one request to the collector.
    pub fn send(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let sent = self
            .shared
            .exporter
            .as_ref()
            .is_some_and(|exporter| exporter.send(spans));
        if !sent {
            self.metrics.spans_dropped.add(count);
        }
    }
}
