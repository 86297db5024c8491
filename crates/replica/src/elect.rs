//! Who is the primary, when servers say that they are.
//!
//! Somebody else promotes; here it is only decided whom to believe. The rule is that a write must never go to a server
//! whose history was left behind:
//!
//! * a server of another cluster (another system identifier) is nobody's primary;
//! * a timeline older than one that was seen is over, also when the server that continued it does not answer now;
//! * of two that claim to be the primary, the one whose history contains the other's timeline is it;
//! * with equal timelines, or when neither history contains the other's, nobody is, until the operator decides.

use crate::lineage::Lineage;
use crate::position::{SystemId, Timeline};

/// A server that is not in recovery and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<N> {
    /// Which server.
    pub node: N,
    /// Whose data it has.
    pub system: SystemId,
    /// The history of the timeline it writes.
    pub lineage: Lineage,
}

/// What is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<N> {
    /// The primary before; `None`: it is not configured any more.
    pub node: Option<N>,
    /// Whose data the shard has.
    pub system: SystemId,
    /// The timeline that the primary before wrote.
    pub timeline: Timeline,
    /// The newest timeline that is known to be written, by whomever; at least `timeline`.
    pub newest: Timeline,
}

/// Why nobody is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecided<N> {
    /// Nobody claims to be it.
    Nobody,
    /// This one does, but its timeline is over, or its data are those of another cluster.
    Outdated(N),
    /// These two do, and neither continues the other.
    Conflict(N, N),
}

/// Decides. `chosen`: the server that the operator has named, which wins over every other claim.
pub fn elect<N: Copy + PartialEq>(
    claims: &[Claim<N>],
    known: Option<&Known<N>>,
    chosen: Option<N>,
) -> Result<N, Undecided<N>> {
    if let Some(claim) = claims.iter().find(|claim| Some(claim.node) == chosen) {
        return Ok(claim.node);
    }
    let Some(first) = claims.first() else {
        return Err(Undecided::Nobody);
    };
    let is_alive = |claim: &&Claim<N>| {
        known.is_none_or(|known| claim.system == known.system && claim.lineage.timeline() >= known.newest)
    };
    let alive: Vec<&Claim<N>> = claims.iter().filter(is_alive).collect();
    let Some(newest) = alive.iter().copied().max_by_key(|claim| claim.lineage.timeline()) else {
        return Err(Undecided::Outdated(first.node));
    };
    for other in &alive {
        let (node, timeline) = (other.node, other.lineage.timeline());
        let continues = newest.system == other.system
            && timeline < newest.lineage.timeline()
            && newest.lineage.descends_from(timeline);
        if node != newest.node && !continues {
            return Err(Undecided::Conflict(newest.node, node));
        }
    }
    match known {
        // The primary before is silent; what it wrote must be part of the new one's history, or be given up by somebody.
        Some(Known {
            node: Some(before),
            timeline,
            ..
        }) if *before != newest.node => {
            let continues = newest.lineage.timeline() > *timeline && newest.lineage.descends_from(*timeline);
            if continues {
                Ok(newest.node)
            } else {
                Err(Undecided::Conflict(newest.node, *before))
            }
        }
        _ => Ok(newest.node),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: SystemId = SystemId(7);

    /// A server on the timeline named first, which came from the others, newest first.
    fn claim(node: u8, line: &[u32]) -> Claim<u8> {
        let history: String = line[1..]
            .iter()
            .rev()
            .map(|timeline| format!("{timeline}\t0/{timeline}000000\tpromoted\n"))
            .collect();
        Claim {
            node,
            system: A,
            lineage: Lineage::parse(Timeline(line[0]), &history).expect("a history"),
        }
    }

    fn known(node: u8, timeline: u32) -> Known<u8> {
        Known {
            node: Some(node),
            system: A,
            timeline: Timeline(timeline),
            newest: Timeline(timeline),
        }
    }

    #[test]
    fn the_only_claim_is_believed() {
        assert_eq!(elect(&[claim(1, &[1])], None, None), Ok(1));
        assert_eq!(elect(&[claim(1, &[1])], Some(&known(1, 1)), None), Ok(1));
        assert_eq!(elect::<u8>(&[], Some(&known(1, 1)), None), Err(Undecided::Nobody));
    }

    #[test]
    fn a_promotion_is_followed() {
        let both = [claim(1, &[1]), claim(2, &[2, 1])];
        assert_eq!(
            elect(&both, Some(&known(1, 1)), None),
            Ok(2),
            "the old one still there"
        );
        assert_eq!(
            elect(&both[1..], Some(&known(1, 1)), None),
            Ok(2),
            "the old one silent"
        );
        assert_eq!(elect(&both, None, None), Ok(2), "at the start");
    }

    #[test]
    fn a_timeline_that_is_over_stays_over() {
        let old = [claim(1, &[1])];
        assert_eq!(elect(&old, Some(&known(2, 2)), None), Err(Undecided::Outdated(1)));
        assert_eq!(
            elect(&old, Some(&known(2, 2)), Some(1)),
            Ok(1),
            "the operator knows better"
        );
    }

    #[test]
    fn a_replica_that_follows_the_successor_already_is_no_rival_of_it() {
        let mut known = known(1, 1);
        known.newest = Timeline(2);
        assert_eq!(
            elect(&[claim(1, &[1])], Some(&known), None),
            Err(Undecided::Outdated(1))
        );
        assert_eq!(
            elect(&[claim(1, &[1]), claim(2, &[2, 1])], Some(&known), None),
            Ok(2)
        );
        assert_eq!(elect(&[claim(2, &[2, 1])], Some(&known), None), Ok(2));
    }

    #[test]
    fn two_that_do_not_continue_each_other_are_a_conflict() {
        let twins = [claim(1, &[2, 1]), claim(2, &[2, 1])];
        for known in [None, Some(&known(3, 1))] {
            assert!(matches!(elect(&twins, known, None), Err(Undecided::Conflict(..))));
        }
        let branches = [claim(1, &[2, 1]), claim(2, &[3, 1])];
        assert_eq!(
            elect(&branches, Some(&known(1, 2)), None),
            Err(Undecided::Conflict(2, 1))
        );
        assert_eq!(elect(&branches, Some(&known(1, 2)), Some(2)), Ok(2));
        // The rest of a branch that nobody continues is a conflict with the memory of it.
        assert_eq!(
            elect(&branches[1..], Some(&known(1, 2)), None),
            Err(Undecided::Conflict(2, 1))
        );
        let same = [claim(2, &[2, 1])];
        assert_eq!(
            elect(&same, Some(&known(1, 2)), None),
            Err(Undecided::Conflict(2, 1))
        );
    }

    #[test]
    fn another_cluster_is_nobodys_primary() {
        let mut stranger = claim(1, &[9]);
        stranger.system = SystemId(8);
        assert_eq!(
            elect(&[stranger.clone()], Some(&known(1, 1)), None),
            Err(Undecided::Outdated(1))
        );
        let claims = [stranger, claim(2, &[1])];
        assert_eq!(elect(&claims, Some(&known(2, 1)), None), Ok(2));
        assert!(matches!(elect(&claims, None, None), Err(Undecided::Conflict(..))));
    }

    /// A tree of promotions: timeline `n + 2` came from the timeline at index `n`.
    fn line(tree: &[usize], mut at: u32) -> Vec<u32> {
        let mut line = vec![at];
        while at > 1 {
            at = tree[at as usize - 2] as u32 + 1;
            line.push(at);
        }
        line
    }

    proptest! {
        /// Whatever is seen, in whatever order: once a timeline was followed, no server on one that it does not contain
        /// is ever followed again.
        #[test]
        fn nobody_goes_back(
            tree in prop::collection::vec(0_usize..1, 1..8),
            picks in prop::collection::vec((0_usize..8, 0_usize..8), 1..20),
            branches in prop::collection::vec(0_usize..8, 8),
        ) {
            let tree: Vec<usize> = (0..tree.len()).map(|at| branches[at] % (at + 1)).collect();
            let timelines = tree.len() as u32 + 1;
            let mut memory: Option<Known<u8>> = None;
            for (first, second) in picks {
                let mut claims = Vec::new();
                for at in [first, second] {
                    let timeline = at as u32 % timelines + 1;
                    if claims.iter().all(|claim: &Claim<u8>| claim.lineage.timeline().0 != timeline) {
                        claims.push(claim(timeline as u8, &line(&tree, timeline)));
                    }
                }
                if let Ok(node) = elect(&claims, memory.as_ref(), None) {
                    let now = line(&tree, u32::from(node));
                    if let Some(before) = memory {
                        prop_assert!(now.contains(&before.timeline.0));
                    }
                    memory = Some(known(node, u32::from(node)));
                }
            }
        }
    }
}
