//! Which of several servers gets the next read: drawn by lot, the odds made of each one's share, what it has in hand and
//! how long its answers took lately.
//!
//! Taking the best one would send everything to one server between two looks at the figures. The better of two taken
//! at random avoids that where there are many servers, but of the two or three that a shard has it is the best one
//! again: a server whose last figure was bad gets nothing, and so never another figure. With odds that fall with the square
//! of the cost a slow server gets little, and equals get the same.

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
    /// that it gets one. What it has in hand weighs less where the share is larger (`share_most`: the largest one).
    fn cost(&self, share_most: u64) -> u64 {
        let share = u128::from(self.share().max(1));
        let in_hand = u128::from(self.outstanding) * 16 * u128::from(share_most) / share;
        let cost = (in_hand + 16).saturating_mul(u128::from(self.latency_us.max(1)));
        u64::try_from(cost).unwrap_or(COST_MAX).min(COST_MAX)
    }

    /// How many lots it has, if the best one costs `least`.
    fn lots(&self, least: u64, share_most: u64) -> u64 {
        if self.share() == 0 {
            return 0;
        }
        // 256: it costs as much as the best one.
        let times = ((self.cost(share_most) << 8) / least).min(u64::from(u16::MAX));
        self.share() * ((1 << 32) / (times * times))
    }
}

/// Costs beyond this do not differ.
const COST_MAX: u64 = 1 << 48;

/// The index of the one to take; `None`: there are no candidates. `random`: a number that is new each time.
#[must_use]
pub fn choose(candidates: &[Candidate], random: u64) -> Option<usize> {
    let share_most = candidates.iter().map(Candidate::share).max()?;
    match candidates.len() {
        1 => return Some(0),
        // Nobody has a share: all have the same.
        count if share_most == 0 => return Some((random % count as u64) as usize),
        _ => {}
    }
    let with_share = candidates.iter().filter(|candidate| candidate.share() > 0);
    let least = with_share.map(|candidate| candidate.cost(share_most)).min()?;
    let lots = |candidate: &Candidate| u128::from(candidate.lots(least, share_most));
    let total: u128 = candidates.iter().map(lots).sum();
    let mut place = (u128::from(random) * total) >> 64;
    for (at, candidate) in candidates.iter().enumerate() {
        let lots = lots(candidate);
        if place < lots {
            return Some(at);
        }
        place -= lots;
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
    fn the_worst_of_three_is_hardly_taken() {
        let counts = counts(&[candidate(1, 0, 100), candidate(1, 9, 100), candidate(1, 0, 120)]);
        assert!((100..1500).contains(&counts[1]), "{counts:?}");
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
        let counts = counts(&[candidate(1, 0, 100), cold]);
        assert!((5000..7000).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn the_odds_are_those_of_the_squares() {
        let counts = counts(&[candidate(1, 0, 100), candidate(1, 0, 300)]);
        assert!(counts[1].abs_diff(10_000) < 1000, "{counts:?}");
        // Any costs, however far apart.
        for (one, other) in [(0, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (1 << 50, 1 << 40)] {
            let pair = [candidate(1, u32::MAX, one), candidate(u32::MAX, 0, other)];
            assert!(choose(&pair, mixed(other)).is_some());
        }
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
