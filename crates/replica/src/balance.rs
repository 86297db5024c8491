//! Which of several servers gets the next read: the better of two taken at random, by what each has in hand and how
//! long its answers took lately.
//!
//! Taking the best of all would send everything to one server between two looks at the figures; of two taken at random
//! the worst one is never chosen unless it is both.

/// A server as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its share compared with others; 0: only where nothing else is left.
    pub weight: u32,
    /// Requests it has in hand.
    pub outstanding: u32,
    /// Smoothed time of an answer, in microseconds; 0: not known yet.
    pub latency_us: u64,
    /// How much of its share it may have, in 1/256: less than 256 for a while after it came back.
    pub warmth: u16,
}

/// Warmth of a server that is fully in use.
pub const WARM: u16 = 256;

impl Candidate {
    /// The share it is drawn with.
    fn share(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.warmth.clamp(1, WARM))
    }

    /// What one more request would cost here; less is better. A server without a figure yet counts as a fast one, so
    /// that it gets one.
    fn cost(&self) -> u128 {
        let share = self.share().max(1);
        let work = (u128::from(self.outstanding) + 1) * u128::from(self.latency_us.max(1));
        (work << 32) / u128::from(share)
    }
}

/// The index of the one to take; `None`: there are no candidates. `random`: a number that is new each time.
#[must_use]
pub fn choose(candidates: &[Candidate], random: u64) -> Option<usize> {
    let total: u64 = candidates.iter().map(Candidate::share).sum();
    match candidates.len() {
        0 => None,
        1 => Some(0),
        // Nobody has a share: all have the same.
        count if total == 0 => Some((random % count as u64) as usize),
        _ => {
            let (high, low) = (random >> 32, random & 0xffff_ffff);
            let first = drawn(candidates, (high * total) >> 32, None)?;
            let rest = total - candidates[first].share();
            if rest == 0 {
                return Some(first);
            }
            let second = drawn(candidates, (low * rest) >> 32, Some(first))?;
            let better = candidates[second].cost() < candidates[first].cost();
            Some(if better { second } else { first })
        }
    }
}

/// The candidate at a place of the shares laid end to end.
fn drawn(candidates: &[Candidate], mut place: u64, but: Option<usize>) -> Option<usize> {
    for (at, candidate) in candidates.iter().enumerate() {
        let share = candidate.share();
        if Some(at) == but {
            continue;
        }
        if place < share {
            return Some(at);
        }
        place -= share;
    }
    None
}

/// A smoothed time after one more measurement, both in microseconds. Each measurement counts an eighth; the first one
/// counts in full.
#[must_use]
pub fn smoothed(before_us: u64, measured_us: u64) -> u64 {
    if before_us == 0 {
        return measured_us.max(1);
    }
    let change = (i128::from(measured_us) - i128::from(before_us)) / 8;
    u64::try_from(i128::from(before_us) + change).unwrap_or(1).max(1)
}

/// A number whose bits depend on all bits of `n`: counting up gives numbers that serve as random ones.
#[must_use]
pub fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(weight: u32, outstanding: u32, latency_us: u64) -> Candidate {
        Candidate {
            weight,
            outstanding,
            latency_us,
            warmth: WARM,
        }
    }

    fn counts(candidates: &[Candidate]) -> Vec<u32> {
        let mut counts = vec![0; candidates.len()];
        for n in 0..100_000 {
            counts[choose(candidates, mixed(n)).expect("there are some")] += 1;
        }
        counts
    }

    #[test]
    fn the_worst_of_three_is_never_taken() {
        let counts = counts(&[candidate(1, 0, 100), candidate(1, 9, 100), candidate(1, 0, 120)]);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > counts[2]);
    }

    #[test]
    fn equal_servers_get_what_their_weights_say() {
        // Costs are made equal: the heavier one has more in hand.
        let counts = counts(&[candidate(1, 0, 100), candidate(1, 0, 100), candidate(0, 0, 1)]);
        assert_eq!(counts[2], 0, "weight 0");
        assert!(counts[0].abs_diff(counts[1]) < 5_000, "{counts:?}");
    }

    #[test]
    fn shares_follow_weights_under_load() {
        // A closed loop: each request stays in hand until 64 later ones were given out.
        let weights = [1, 2, 5];
        let mut given = [0_u32; 3];
        let mut in_hand = std::collections::VecDeque::new();
        let mut outstanding = [0_u32; 3];
        for n in 0..200_000 {
            let of = |at: usize| candidate(weights[at], outstanding[at], 100);
            let taken = choose(&[of(0), of(1), of(2)], mixed(n)).expect("there are some");
            given[taken] += 1;
            outstanding[taken] += 1;
            in_hand.push_back(taken);
            if in_hand.len() > 64
                && let Some(done) = in_hand.pop_front()
            {
                outstanding[done] -= 1;
            }
        }
        for (at, weight) in weights.into_iter().enumerate() {
            let share = f64::from(given[at]) / 200_000.0;
            let wanted = f64::from(weight) / 8.0;
            assert!((share - wanted).abs() < 0.05, "{given:?}");
        }
    }

    #[test]
    fn a_server_that_came_back_starts_slowly() {
        let mut cold = candidate(1, 0, 100);
        cold.warmth = 16;
        let counts = counts(&[candidate(1, 3, 100), cold]);
        assert_eq!(
            counts[1], 0,
            "it is not yet worth four requests in hand elsewhere"
        );
    }

    #[test]
    fn without_weights_somebody_is_still_taken() {
        assert_eq!(choose(&[], 7), None);
        assert_eq!(choose(&[candidate(0, 5, 5)], 7), Some(0));
        let counts = counts(&[candidate(0, 0, 1), candidate(0, 0, 1)]);
        assert!(counts.iter().all(|count| *count > 40_000), "{counts:?}");
    }

    #[test]
    fn smoothing_moves_by_an_eighth() {
        assert_eq!(smoothed(0, 800), 800);
        assert_eq!(smoothed(800, 1600), 900);
        assert_eq!(smoothed(800, 0), 700);
        assert_eq!(smoothed(1, 0), 1);
    }
}
