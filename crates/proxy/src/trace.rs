//! Traces: spans of statements and of what they waited for, sent to an OpenTelemetry collector.
//!
//! A statement joins the trace of the client when its text carries a `traceparent` in a comment, as sqlcommenter writes
//! it; then the client's decision whether the trace is recorded holds. Other statements are recorded at the configured
//! ratio. Nothing here is on the way of a statement: spans leave over a bounded queue to a thread of their own
//! ([`export`]), and are dropped and counted when that is full.

pub mod comment;
mod encode;
pub mod export;

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use export::{Endpoint, EndpointError, Exporter};

/// A trace, shared by everything that was done for one request of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A span within a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The span the statement belongs to.
    pub span: SpanId,
    /// The trace is recorded.
    pub sampled: bool,
}

/// Which side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Within Drover.
    Internal,
    /// What a client asked of Drover.
    Server,
    /// What Drover asked of a server.
    Client,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

/// Something that took time.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span it is part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: String,
    /// Which side.
    pub kind: SpanKind,
    /// Begin, Unix time in nanoseconds.
    pub start_ns: u64,
    /// End, Unix time in nanoseconds.
    pub end_ns: u64,
    /// More about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Its SQLSTATE, when it failed.
    pub error: Option<String>,
}

/// Unix time from a monotonic clock: two moments are as far apart as they were, also when the system's time is set.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    base: Instant,
    unix: Duration,
}

impl Clock {
    /// A clock that agrees with the system's time now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            base: Instant::now(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Unix time in nanoseconds.
    #[must_use]
    pub fn unix_ns(&self, at: Instant) -> u64 {
        u64::try_from(self.unix_at(at).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Unix time in microseconds.
    #[must_use]
    pub fn unix_us(&self, at: Instant) -> u64 {
        u64::try_from(self.unix_at(at).as_micros()).unwrap_or(u64::MAX)
    }

    fn unix_at(&self, at: Instant) -> Duration {
        match at.checked_duration_since(self.base) {
            Some(since) => self.unix + since,
            None => self.unix.saturating_sub(self.base.duration_since(at)),
        }
    }
}

/// Ids for traces and spans, and the choice which traces are recorded. Its numbers are well spread, not secret.
#[derive(Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// Ids that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        // SplitMix64: any state is good, and all 2^64 numbers come.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An id for a span; never the invalid one of only zeros.
    pub fn span(&mut self) -> SpanId {
        SpanId(self.next().max(1).to_be_bytes())
    }

    /// An id for a trace.
    pub fn trace(&mut self) -> TraceId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().max(1).to_be_bytes());
        TraceId(bytes)
    }

    /// True for this share of the questions.
    pub fn chosen(&mut self, ratio: f64) -> bool {
        // 53 bits are what a double holds exactly.
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < ratio
    }
}

/// Parses `00-<trace>-<span>-<flags>`; later versions may add fields at the end.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<Parent> {
    let mut parts = text.trim().split('-');
    let version = hex::<1>(parts.next()?)?;
    let trace = hex::<16>(parts.next()?)?;
    let span = hex::<8>(parts.next()?)?;
    let flags = hex::<1>(parts.next()?)?;
    let well_formed = match version {
        [0] => parts.next().is_none(),
        [0xff] => false,
        _ => true,
    };
    (well_formed && trace != [0; 16] && span != [0; 8]).then_some(Parent {
        trace: TraceId(trace),
        span: SpanId(span),
        sampled: flags[0] & 1 == 1,
    })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != N * 2 || !text.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The text form of a span's place, for logs.
#[must_use]
pub fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = parse_traceparent(good).unwrap();
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex_of(&parent.span.0), "00f067aa0ba902b7");
        assert!(parent.sampled);
        assert!(!parse_traceparent(&good.replace("-01", "-00")).unwrap().sampled);
        assert!(parse_traceparent(&format!("cc{}-more", &good[2..])).is_some());
        for bad in [
            "",
            "00-1-2-3",
            &format!("{good}-more"),
            &format!("ff{}", &good[2..]),
            &good.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn ratios_hold_and_ids_differ() {
        let mut ids = Ids::new(7);
        let chosen = (0..10_000).filter(|_| ids.chosen(0.25)).count();
        assert!((2_300..2_700).contains(&chosen), "{chosen}");
        assert!((0..100).all(|_| ids.chosen(1.0) && !ids.chosen(0.0)));
        assert_ne!(ids.span(), ids.span());
    }
}
