//! Log lines and spans of a request. Nothing here runs unless the configuration asks for it.

use std::time::Instant;

use catalog::ShardId;

use super::super::Session;
use super::{Seen, micros};
use crate::metrics::StatementClass;
use crate::trace::{Parent, Span, SpanId, SpanKind, TraceId, Value, comment};

/// Texts of one request kept for its log line and its span; what follows is left out.
const TEXTS_BYTES_MAX: usize = 8 * 1024;

/// Server calls of one request that get a span each.
const CALLS_MAX: usize = 256;

/// What is kept of a request for its log line and its span.
#[derive(Debug, Default)]
pub(in crate::session) struct Detail {
    /// What the client calls the request.
    correlation_id: Option<String>,
    /// The client's own texts; only where constants may be logged.
    texts: String,
    /// Its place in a trace that is recorded.
    place: Option<Place>,
    /// The calls to servers.
    calls: Vec<Call>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    trace: TraceId,
    span: SpanId,
    parent: Option<SpanId>,
}

/// A server's work.
#[derive(Debug)]
struct Call {
    shard: ShardId,
    began: Instant,
    ended: Instant,
}

impl Detail {
    /// Spans are made of this request.
    pub(super) fn is_traced(&self) -> bool {
        self.place.is_some()
    }

    pub(super) fn server(&mut self, began: Instant, ended: Instant, shard: ShardId) {
        if self.calls.len() < CALLS_MAX {
            self.calls.push(Call { shard, began, ended });
        }
    }
}

/// Milliseconds with three digits behind the point, as log lines have them.
fn millis(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Session {
    /// Looks at a statement's text for what log lines and spans say about it.
    pub(super) fn observe_detail(&mut self, text: &str) {
        let observer = &self.engine.observer;
        let options = observer.options();
        let first = self.observation.detail.is_none();
        let detail = self.observation.detail.get_or_insert_default();
        let said = comment::read(text);
        if detail.correlation_id.is_none() {
            detail.correlation_id = said.correlation_id.map(|id| id.chars().take(128).collect());
        }
        if options.slow_query_literals && detail.texts.len() + text.len() < TEXTS_BYTES_MAX {
            if !detail.texts.is_empty() {
                detail.texts.push_str("; ");
            }
            detail.texts.push_str(text);
        }
        let Some(traces) = options.traces.as_ref().filter(|_| first) else {
            return;
        };
        let parent: Option<Parent> = said
            .traceparent
            .as_deref()
            .and_then(crate::trace::parse_traceparent);
        let mut ids = observer.ids.borrow_mut();
        let sampled = match parent {
            Some(parent) => parent.sampled,
            None => ids.chosen(traces.sample_ratio),
        };
        if sampled {
            detail.place = Some(Place {
                trace: parent.map_or_else(|| ids.trace(), |parent| parent.trace),
                span: ids.span(),
                parent: parent.map(|parent| parent.span),
            });
        }
    }

    /// The line and the spans of a request that has ended.
    pub(super) fn report(&mut self, started: Instant, ended: Instant) {
        let Some(detail) = self.observation.detail.take() else {
            return;
        };
        let observer = &self.engine.observer;
        let took_us = micros(ended.duration_since(started));
        let slow = took_us >= observer.wants().slow_us;
        if slow || observer.options().log_statements {
            self.report_line(&detail, took_us, slow);
        }
        if let Some(place) = detail.place {
            let spans = self.spans(&detail, place, started, ended);
            observer.send(spans);
        }
    }

    fn report_line(&self, detail: &Detail, took_us: u64, slow: bool) {
        let observation = &self.observation;
        let seen = || observation.first.iter().chain(&observation.more);
        let rows: u64 = seen().map(|seen| seen.rows).sum();
        let shards = seen().map(|seen| seen.shards).max().unwrap_or_default();
        let statement = if detail.texts.is_empty() {
            self.normalised_texts()
        } else {
            detail.texts.clone()
        };
        tracing::info!(
            target: "session",
            event = if slow { "slow" } else { "statement" },
            correlation_id = self.correlation_id(Some(detail)),
            database = &*self.database,
            user = &*self.user,
            client = self.client_address.as_deref(),
            tenant = observation.tenant.as_deref(),
            latency_ms = millis(took_us),
            wait_ms = millis(micros(observation.waited)),
            shard = self.only_shard(),
            shards,
            rows,
            sqlstate = observation.error.as_ref().map(|state| state.as_str()),
            trace_id = detail.place.map(|place| place.trace.to_string()),
            statement,
        );
    }

    /// The client has been let in.
    pub(in crate::session) fn report_login(&self) {
        if self.engine.observer.options().log_connections {
            self.report_event("login", None, None, None);
        }
    }

    /// The client has left.
    pub(in crate::session) fn report_logout(&self) {
        if self.engine.observer.options().log_disconnections {
            self.report_event("logout", None, None, None);
        }
    }

    pub(super) fn report_pin(&self, reason: &str) {
        self.report_event("pin", None, None, Some(reason));
    }

    pub(super) fn report_server_error(&self) {
        if let Some(state) = &self.observation.error {
            self.report_error(state.as_str(), None);
        }
    }

    pub(super) fn report_error(&self, sqlstate: &str, refusal: Option<&str>) {
        let event = if refusal.is_some() { "refused" } else { "error" };
        self.report_event(event, Some(sqlstate), refusal, None);
    }

    /// Messages are left out on purpose: PostgreSQL's quote data.
    fn report_event(&self, event: &str, sqlstate: Option<&str>, refusal: Option<&str>, reason: Option<&str>) {
        tracing::info!(
            target: "session",
            event,
            correlation_id = self.correlation_id(self.observation.detail.as_deref()),
            database = &*self.database,
            user = &*self.user,
            client = self.client_address.as_deref(),
            tenant = self.observation.tenant.as_deref(),
            sqlstate,
            code = refusal,
            reason,
        );
    }

    /// What the client calls its request, else the session's own name.
    fn correlation_id(&self, detail: Option<&Detail>) -> String {
        match detail.and_then(|detail| detail.correlation_id.clone()) {
            Some(id) => id,
            None => self.engine.observer.session_name(self.account.number),
        }
    }

    /// The shard's name, when all statements of the request ran on the same one.
    fn only_shard(&self) -> Option<String> {
        let observation = &self.observation;
        let mut seen = observation
            .first
            .iter()
            .chain(&observation.more)
            .filter(|seen| seen.shards > 0);
        let first: &Seen = seen.next()?;
        let same = first.shards == 1 && seen.all(|other| other.shards == 1 && other.shard == first.shard);
        same.then(|| first.shard.map(|shard| self.shard_name(shard)))?
    }

    /// The statements of the request without constants.
    fn normalised_texts(&self) -> String {
        let mut texts = String::new();
        for seen in self.observation.first.iter().chain(&self.observation.more) {
            let digest = seen.statement.digest.0.borrow();
            let text = digest.as_ref().map_or("", |digest| &*digest.text);
            if !texts.is_empty() {
                texts.push_str("; ");
            }
            if texts.len() + text.len() > TEXTS_BYTES_MAX {
                texts.push('…');
                break;
            }
            texts.push_str(text);
        }
        texts
    }

    /// A span for the request, and one for each thing it waited for.
    fn spans(&self, detail: &Detail, place: Place, started: Instant, ended: Instant) -> Vec<Span> {
        let observer = &self.engine.observer;
        let observation = &self.observation;
        let clock = &observer.clock;
        let mut ids = observer.ids.borrow_mut();
        let mut spans = Vec::with_capacity(detail.calls.len() + 2);
        let class = observation
            .first
            .as_ref()
            .map_or("other", |seen| StatementClass::of(seen.statement.kind).as_str());
        let shards = observation
            .first
            .iter()
            .chain(&observation.more)
            .map(|seen| seen.shards)
            .max();
        let text = |value: &str| Value::Text(value.to_owned());
        let mut attributes = vec![
            ("db.system", text("postgresql")),
            ("db.name", text(&self.database)),
            ("db.user", text(&self.user)),
            ("db.statement", Value::Text(self.normalised_texts())),
            (
                "drover.correlation_id",
                Value::Text(self.correlation_id(Some(detail))),
            ),
            (
                "drover.shards",
                Value::Number(u64::from(shards.unwrap_or_default())),
            ),
        ];
        if let Some(tenant) = observation.tenant.as_deref() {
            attributes.push(("drover.tenant", text(tenant)));
        }
        spans.push(Span {
            trace: place.trace,
            id: place.span,
            parent: place.parent,
            name: class.to_owned(),
            kind: SpanKind::Server,
            start_ns: clock.unix_ns(started),
            end_ns: clock.unix_ns(ended),
            attributes,
            error: observation.error.map(|state| state.as_str().to_owned()),
        });
        let mut child = |name: &str, kind, began: Instant, ended: Instant, attributes| {
            spans.push(Span {
                trace: place.trace,
                id: ids.span(),
                parent: Some(place.span),
                name: name.to_owned(),
                kind,
                start_ns: clock.unix_ns(began),
                end_ns: clock.unix_ns(ended),
                attributes,
                error: None,
            });
        };
        if let Some(began) = observation.waiting {
            let until = began + observation.waited;
            child("wait for a server", SpanKind::Internal, began, until, Vec::new());
        }
        for call in &detail.calls {
            let shard = Value::Text(self.shard_name(call.shard));
            let attributes = vec![("db.system", text("postgresql")), ("drover.shard", shard)];
            child("server", SpanKind::Client, call.began, call.ended, attributes);
        }
        spans
    }
}
