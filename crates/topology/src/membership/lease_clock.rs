//! When a lease must be renewed, and until when its holder may rely on it.

use std::time::{Duration, Instant};

/// A lease as its holder sees it. Pure: times come in as arguments.
///
/// The store counts a lease's time from some moment *during* a renewal; the holder counts from the moment it *began*
/// the renewal, and gives up a margin of [`LeaseClock::MARGIN_PARTS`] before that. So the holder stops first, by at
/// least the margin, however long the renewal took. Both count on the same clock (one host), or on clocks that drift
/// apart by less than the margin within one lease time (several hosts).
#[derive(Debug, Clone)]
pub struct LeaseClock {
    ttl: Duration,
    renewal_began: Instant,
    next_attempt: Instant,
}

impl LeaseClock {
    /// The margin is the lease time divided by this: time for a decision "still valid" to become a sent statement.
    pub const MARGIN_PARTS: u32 = 5;
    /// Renewed when this part of the lease time has passed: two more attempts fit before validity ends.
    const RENEW_PARTS: u32 = 4;
    /// After a failed attempt the next comes after this part of the lease time.
    const RETRY_PARTS: u32 = 15;

    /// A lease of length `ttl` that was asked for at `began`.
    pub fn granted(ttl: Duration, began: Instant) -> LeaseClock {
        LeaseClock {
            ttl,
            renewal_began: began,
            next_attempt: began + ttl / Self::RENEW_PARTS,
        }
    }

    /// A renewal that began at `began` has succeeded.
    pub fn renewed(&mut self, began: Instant) {
        // Answers may come late and out of order; an older one proves nothing new.
        self.renewal_began = self.renewal_began.max(began);
        self.next_attempt = self.renewal_began + self.ttl / Self::RENEW_PARTS;
    }

    /// A renewal has failed without the lease being known to have ended.
    pub fn failed(&mut self, now: Instant) {
        self.next_attempt = now + self.ttl / Self::RETRY_PARTS;
    }

    /// When to try to renew.
    pub fn next_attempt(&self) -> Instant {
        self.next_attempt
    }

    /// The holder may rely on the lease before this moment only.
    pub fn valid_until(&self) -> Instant {
        self.renewal_began + (self.ttl - self.ttl / Self::MARGIN_PARTS)
    }

    /// Whether the holder may rely on the lease at `now`.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.valid_until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(3);

    #[test]
    fn validity_ends_before_the_lease_can() {
        let began = Instant::now();
        let clock = LeaseClock::granted(TTL, began);
        // The store cannot have counted from before `began`.
        let earliest_end = began + TTL;
        assert!(clock.valid_until() <= earliest_end - TTL / 5);
        assert!(clock.is_valid(clock.valid_until() - Duration::from_millis(1)));
        assert!(!clock.is_valid(clock.valid_until()));
    }

    #[test]
    fn a_slow_renewal_counts_from_its_beginning() {
        let began = Instant::now();
        let mut clock = LeaseClock::granted(TTL, began);
        let renewal = began + Duration::from_secs(1);
        clock.renewed(renewal);
        assert_eq!(clock.valid_until(), renewal + TTL - TTL / 5);
        clock.renewed(began);
        assert_eq!(
            clock.valid_until(),
            renewal + TTL - TTL / 5,
            "a late answer takes nothing back"
        );
    }

    #[test]
    fn several_attempts_fit_into_one_validity() {
        let began = Instant::now();
        let mut clock = LeaseClock::granted(TTL, began);
        let mut attempts = 0;
        while clock.next_attempt() < clock.valid_until() {
            let now = clock.next_attempt();
            clock.failed(now);
            attempts += 1;
        }
        assert!(attempts >= 3, "{attempts}");
    }
}
