//! Which replicas get reads: those that answer and are not too far behind, with a distance between going out and coming
//! back in, and some that stay when all are late.

use std::time::Duration;

/// When a replica is too far behind. Zero: that way of being behind does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RotationPolicy {
    /// Bytes.
    pub bytes_max: u64,
    /// Age of its data.
    pub age_max: Duration,
    /// So many stay in, the least late ones, however late they are.
    pub keep: usize,
}

/// A replica that answers, as far as rotation cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Bytes behind the primary; `None`: not known.
    pub bytes: Option<u64>,
    /// Age of its data; `None`: not known.
    pub age: Option<Duration>,
    /// It is in rotation now.
    pub is_in: bool,
}

/// A replica that is out comes back in when it is below this part of a limit, in percent.
const BACK_PERCENT: u32 = 50;

impl RotationPolicy {
    /// Whether a replica is late by itself. What is not known is late where it matters.
    fn is_late(&self, late: &Late) -> bool {
        let percent = if late.is_in { 100 } else { BACK_PERCENT };
        let by_bytes = self.bytes_max > 0
            && late.bytes.is_none_or(|bytes| {
                u128::from(bytes) * 100 > u128::from(self.bytes_max) * u128::from(percent)
            });
        let by_age = !self.age_max.is_zero() && late.age.is_none_or(|age| age * 100 > self.age_max * percent);
        by_bytes || by_age
    }

    /// Which of the replicas that answer are in rotation, in the same order.
    #[must_use]
    pub fn decide(&self, replicas: &[Late]) -> Vec<bool> {
        let mut decided: Vec<bool> = replicas.iter().map(|late| !self.is_late(late)).collect();
        let mut missing = self
            .keep
            .min(replicas.len())
            .saturating_sub(decided.iter().filter(|is_in| **is_in).count());
        if missing == 0 {
            return decided;
        }
        // Of equals those that are in stay: nobody changes places for nothing.
        let mut by_lateness: Vec<usize> = (0..replicas.len()).filter(|at| !decided[*at]).collect();
        by_lateness.sort_by_key(|at| {
            let late = &replicas[*at];
            let (age, bytes) = (late.age.unwrap_or(Duration::MAX), late.bytes.unwrap_or(u64::MAX));
            (age, bytes, !late.is_in)
        });
        for at in by_lateness {
            if missing == 0 {
                break;
            }
            decided[at] = true;
            missing -= 1;
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RotationPolicy = RotationPolicy {
        bytes_max: 1000,
        age_max: Duration::from_secs(10),
        keep: 0,
    };

    fn late(bytes: u64, seconds: u64, is_in: bool) -> Late {
        Late {
            bytes: Some(bytes),
            age: Some(Duration::from_secs(seconds)),
            is_in,
        }
    }

    #[test]
    fn going_out_and_coming_back_are_apart() {
        let decide = |one: Late| POLICY.decide(&[one])[0];
        assert!(decide(late(1000, 10, true)));
        assert!(!decide(late(1001, 0, true)) && !decide(late(0, 11, true)));
        assert!(!decide(late(501, 0, false)) && !decide(late(0, 6, false)));
        assert!(decide(late(500, 5, false)));
    }

    #[test]
    fn what_is_not_known_is_late_where_it_matters() {
        let unknown = Late {
            bytes: None,
            age: None,
            is_in: true,
        };
        assert_eq!(POLICY.decide(&[unknown]), [false]);
        assert_eq!(RotationPolicy::default().decide(&[unknown]), [true]);
    }

    #[test]
    fn the_least_late_ones_stay_when_all_are() {
        let policy = RotationPolicy { keep: 2, ..POLICY };
        let all = [
            late(9000, 90, false),
            late(5000, 50, false),
            late(7000, 50, false),
        ];
        assert_eq!(policy.decide(&all), [false, true, true]);
        let one_is_fine = [late(0, 0, true), late(5000, 50, true), late(5000, 50, false)];
        assert_eq!(policy.decide(&one_is_fine), [true, true, false]);
        assert_eq!(policy.decide(&[]), Vec::<bool>::new());
    }
}
