//! A circuit breaker: a server that fails again and again gets nothing for a while, then one request to try it.
//!
//! ```text
//!            failures_max in a row                 pause over
//!  Closed ───────────────────────────► Open ───────────────────► HalfOpen ──► one request
//!    ▲                                   ▲                          │  │
//!    └───────────────── success ─────────┼──────────────────────────┘  │
//!                                        └────── failure, longer pause ┘
//! ```
//! Only what says that the server is *gone* is a failure: no connection, a connection that broke, silence. An error that
//! the server sends is an answer, and a full pool or queue is load.

use std::time::Duration;

/// How a breaker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures_max: u32,
    /// How long it stays open the first time; doubled each time it opens again.
    pub pause: Duration,
    /// The longest it stays open.
    pub pause_max: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures_max: 3,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One request that tries it.
    HalfOpen,
}

/// A breaker. Times count from any fixed origin.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    failures: u32,
    /// How often it opened since the last success.
    opened: u32,
    /// When it half opens; `None`: it is closed.
    until: Option<Duration>,
    /// The request that tries the server, since when.
    trying: Option<Duration>,
    /// When it closed again.
    closed_at: Option<Duration>,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            failures: 0,
            opened: 0,
            until: None,
            trying: None,
            closed_at: None,
        }
    }

    /// What it lets through at `now`.
    #[must_use]
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// Asks to send a request. Half open, only one is let through, and another one when that was never answered.
    pub fn let_through(&mut self, now: Duration) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => {
                let free = self
                    .trying
                    .is_none_or(|since| now.saturating_sub(since) >= self.policy.pause_max);
                if free {
                    self.trying = Some(now);
                }
                free
            }
        }
    }

    /// The server answered. True: the breaker was not closed before.
    pub fn success(&mut self, now: Duration) -> bool {
        let was_open = self.until.is_some();
        self.failures = 0;
        self.opened = 0;
        self.until = None;
        self.trying = None;
        if was_open {
            self.closed_at = Some(now);
        }
        was_open
    }

    /// The server is gone, as far as one request could tell. True: the breaker opened.
    pub fn failure(&mut self, now: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.state(now) {
            // Requests that were under way when it opened say nothing new.
            BreakerState::Open => false,
            BreakerState::Closed if self.failures < self.policy.failures_max => false,
            BreakerState::Closed | BreakerState::HalfOpen => {
                let pause = self
                    .policy
                    .pause
                    .saturating_mul(1 << self.opened.min(16))
                    .min(self.policy.pause_max);
                self.opened = self.opened.saturating_add(1);
                self.until = Some(now.saturating_add(pause));
                self.trying = None;
                true
            }
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When it last closed after having been open.
    #[must_use]
    pub fn closed_at(&self) -> Option<Duration> {
        self.closed_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened(now: u64) -> Breaker {
        let mut breaker = Breaker::new(BreakerPolicy::default());
        assert!(!breaker.failure(at(now)) && !breaker.failure(at(now)));
        assert!(breaker.failure(at(now)));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_others_do_not() {
        let mut breaker = Breaker::new(BreakerPolicy::default());
        for _ in 0..10 {
            assert!(!breaker.failure(at(1)) && !breaker.failure(at(1)));
            assert!(!breaker.success(at(1)));
        }
        assert_eq!(breaker.state(at(1)), BreakerState::Closed);
        assert_eq!(opened(1).state(at(1)), BreakerState::Open);
    }

    #[test]
    fn half_open_one_request_decides() {
        let mut breaker = opened(10);
        assert!(!breaker.let_through(at(10)));
        assert_eq!(breaker.state(at(11)), BreakerState::HalfOpen);
        assert!(breaker.let_through(at(11)) && !breaker.let_through(at(11)));
        assert!(breaker.failure(at(11)), "it opens again");
        assert_eq!(breaker.state(at(12)), BreakerState::Open, "for longer");
        assert!(breaker.let_through(at(13)));
        assert!(breaker.success(at(13)));
        assert_eq!(
            (breaker.state(at(13)), breaker.closed_at()),
            (BreakerState::Closed, Some(at(13)))
        );
    }

    #[test]
    fn the_pause_grows_to_its_bound_and_no_further() {
        let mut breaker = opened(0);
        let mut now = Duration::ZERO;
        for _ in 0..40 {
            let begun = now;
            while breaker.state(now) == BreakerState::Open {
                now += Duration::from_millis(500);
            }
            assert!(now - begun <= BreakerPolicy::default().pause_max + Duration::from_millis(500));
            breaker.failure(now);
        }
        assert!(breaker.success(now));
        assert!(!breaker.failure(now) && !breaker.failure(now) && breaker.failure(now));
        assert_eq!(
            breaker.state(now + at(1)),
            BreakerState::HalfOpen,
            "it begins with the short pause"
        );
    }

    #[test]
    fn a_trial_that_is_never_answered_is_followed_by_another() {
        let mut breaker = opened(0);
        assert!(breaker.let_through(at(1)));
        assert!(!breaker.let_through(at(20)));
        assert!(breaker.let_through(at(31)));
    }
}
