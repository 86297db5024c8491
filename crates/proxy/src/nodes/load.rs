//! What is counted of one server with every request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use replica::balance::{Candidate, WARM};
use replica::{Breaker, BreakerState};
use topology::records::NodeRecord;

use crate::config::ReplicaConfig;
use crate::server::Address;

/// A server: where it is, and what it has in hand.
#[derive(Debug)]
pub struct Node {
    address: Address,
    weight: u32,
    zone: Option<Arc<str>>,
    outstanding: AtomicU32,
    latency_us: AtomicU64,
    served: AtomicU64,
    /// Of those, the ones that were there at the last look.
    served_before: AtomicU64,
    failed: AtomicU64,
    /// The breaker is not as good as new: successes must be told to it.
    troubled: AtomicBool,
    breaker: Mutex<Breaker>,
    /// When it came back into rotation, in microseconds of [`super::Nodes::now`], or of the breaker's clock; 0: it was
    /// never away.
    back_us: AtomicU64,
    origin: Instant,
}

/// How a request to a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, be it with an error.
    Answered,
    /// It was gone: no connection, a connection that broke, silence, or the news that it shuts down.
    Gone,
    /// It was not asked, or the client gave up: this says nothing.
    Nothing,
}

/// A request a server has in hand; ends when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    node: Arc<Node>,
    since: Instant,
    outcome: Outcome,
}

impl Node {
    pub(super) fn new(record: &NodeRecord, config: &ReplicaConfig) -> Self {
        Self {
            address: Address {
                host: record.host.clone(),
                port: record.port,
            },
            weight: record.weight,
            zone: record.zone.as_deref().map(Arc::from),
            outstanding: AtomicU32::new(0),
            latency_us: AtomicU64::new(0),
            served: AtomicU64::new(0),
            served_before: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            troubled: AtomicBool::new(false),
            breaker: Mutex::new(Breaker::new(config.breaker)),
            back_us: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    /// It is configured as this record says.
    pub(super) fn is_like(&self, record: &NodeRecord) -> bool {
        self.weight == record.weight && self.zone.as_deref() == record.zone.as_deref()
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its share of reads.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Where it stands, in the operator's words.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Requests it has in hand, of those that were counted by [`Self::begin`].
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Smoothed time of its answers; zero: it has given none.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }

    /// Requests it answered and requests at which it was gone.
    #[must_use]
    pub fn requests(&self) -> (u64, u64) {
        (
            self.served.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// What its circuit breaker lets through.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        if !self.troubled.load(Ordering::Acquire) {
            return BreakerState::Closed;
        }
        self.lock().state(self.origin.elapsed())
    }

    /// Counts a request that is about to be sent to it. `None`: its circuit breaker lets nothing through.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Option<InFlight> {
        if self.troubled.load(Ordering::Acquire) && !self.lock().let_through(self.origin.elapsed()) {
            return None;
        }
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(InFlight {
            node: Arc::clone(self),
            since: Instant::now(),
            outcome: Outcome::Nothing,
        })
    }

    /// A connection to it could not be made or broke, or one was made. Requests report by [`InFlight`].
    pub fn report(&self, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Answered => {
                if self.troubled.load(Ordering::Acquire) && self.lock().success(self.origin.elapsed()) {
                    self.came_back();
                }
                // Afterwards: a failure in between is seen at the next one.
                self.troubled.store(false, Ordering::Release);
            }
            Outcome::Gone => {
                let opened = self.lock().failure(self.origin.elapsed());
                self.troubled.store(true, Ordering::Release);
                if opened {
                    let address = &self.address;
                    tracing::warn!(%address, "requests to a server fail, it gets none for a while");
                }
            }
        }
    }

    /// It was looked at and has answered. How long its answers took counts less the longer it has given none: a bad moment
    /// must not be what is known of it for ever.
    pub(super) fn looked_at(&self) {
        let served = self.served.load(Ordering::Relaxed);
        // One that is at work is being asked.
        if self.served_before.swap(served, Ordering::Relaxed) == served && self.outstanding() == 0 {
            let latency = self.latency_us.load(Ordering::Relaxed);
            self.latency_us.store(latency / 2, Ordering::Relaxed);
        }
    }

    /// It gets reads again after a time without: it starts with a small share.
    pub(super) fn came_back(&self) {
        let now = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.back_us.store(now.max(1), Ordering::Relaxed);
        self.latency_us.store(0, Ordering::Relaxed);
    }

    /// As balancing sees it.
    pub(super) fn candidate(&self, slow_start: Duration) -> Candidate {
        Candidate {
            weight: self.weight,
            outstanding: self.outstanding(),
            latency_us: self.latency_us.load(Ordering::Relaxed),
            warmth: self.warmth(slow_start),
        }
    }

    fn warmth(&self, slow_start: Duration) -> u16 {
        let back = self.back_us.load(Ordering::Relaxed);
        if back == 0 || slow_start.is_zero() {
            return WARM;
        }
        let away = self.origin.elapsed().saturating_sub(Duration::from_micros(back));
        if away >= slow_start {
            self.back_us.store(0, Ordering::Relaxed);
            return WARM;
        }
        let part = away.as_micros() * u128::from(WARM) / slow_start.as_micros().max(1);
        u16::try_from(part).unwrap_or(WARM).max(WARM / 16)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// The server.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// It is sent only now: the time to get a connection says nothing about its answers.
    pub fn sent_now(&mut self) {
        self.since = Instant::now();
    }

    /// How it went.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let node = &self.node;
        node.outstanding.fetch_sub(1, Ordering::Relaxed);
        match self.outcome {
            Outcome::Nothing => return,
            Outcome::Answered => {
                node.served.fetch_add(1, Ordering::Relaxed);
                let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
                // Two at once may lose one measurement of many.
                let before = node.latency_us.load(Ordering::Relaxed);
                let now = replica::balance::smoothed(before, took);
                node.latency_us.store(now, Ordering::Relaxed);
                if !node.troubled.load(Ordering::Acquire) {
                    return;
                }
            }
            Outcome::Gone => {
                node.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        node.report(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Arc<Node> {
        let record = NodeRecord::new("h", 1);
        Arc::new(Node::new(&record, &ReplicaConfig::default()))
    }

    #[test]
    fn requests_are_counted_while_they_last() {
        let node = node();
        let first = node.begin().expect("closed");
        let second = node.begin().expect("closed");
        assert_eq!(node.outstanding(), 2);
        first.end(Outcome::Answered);
        drop(second);
        assert_eq!((node.outstanding(), node.requests()), (0, (1, 0)));
        assert!(node.latency() > Duration::ZERO);
    }

    #[test]
    fn a_server_that_is_gone_gets_nothing_until_it_is_tried() {
        let node = node();
        for _ in 0..3 {
            node.begin().expect("closed").end(Outcome::Gone);
        }
        assert_eq!(node.breaker(), BreakerState::Open);
        assert!(node.begin().is_none());
        node.report(Outcome::Answered);
        assert_eq!(node.breaker(), BreakerState::Closed);
        assert!(
            node.candidate(Duration::from_secs(10)).warmth < WARM,
            "it starts slowly"
        );
        assert_eq!(node.candidate(Duration::ZERO).warmth, WARM);
    }
}
