//! Which server gets a read.

use std::sync::Arc;
use std::time::Duration;

use replica::balance::{self, Candidate};
use replica::{BreakerState, Position};

use super::load::Node;
use super::view::{NodeView, ShardView, Standing};
use super::{NodeId, Role};
use crate::config::ReplicaConfig;

/// What a read needs of its server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Need<'a> {
    /// The primary takes its share too, instead of only being there when no replica is.
    pub primary_too: bool,
    /// The server must have replayed this. Servers known to have it are preferred; where none is known to, the most
    /// advanced one is chosen and [`WhyNode::Behind`] says so.
    pub at_least: Option<Position>,
    /// Its data must not be older than this.
    pub age_max: Option<Duration>,
    /// Servers that were tried for this read already.
    pub tried: &'a [NodeId],
}

/// Where a read goes.
#[derive(Debug, Clone)]
pub enum Choice {
    /// To a replica.
    Node(Picked),
    /// To the primary.
    Primary(WhyPrimary),
}

/// A replica that was chosen.
#[derive(Debug, Clone)]
pub struct Picked {
    /// Its number.
    pub id: NodeId,
    /// Where it is; [`Node::begin`] counts the request.
    pub node: Arc<Node>,
    /// Why this one.
    pub why: WhyNode,
}

/// Why a replica was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNode {
    /// Nobody else could be.
    Only,
    /// It was the better of two taken at random.
    Balanced,
    /// The same, among those of the proxy's own zone.
    Zone,
    /// No server is known to have replayed what is needed; this one is furthest.
    Behind,
}

/// Why the primary was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyPrimary {
    /// The shard has no replica that was not tried.
    NoReplica,
    /// There are some, none in rotation: down, failing, or too far behind.
    NoneFit,
    /// There are some in rotation, none as fresh as asked for.
    NoneFresh,
    /// It takes its share, and this was it.
    Balanced,
}

impl WhyNode {
    /// For people and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Only => "only replica in rotation",
            Self::Balanced => "least loaded of two",
            Self::Zone => "least loaded of two in this zone",
            Self::Behind => "furthest of the replicas that are behind",
        }
    }
}

impl WhyPrimary {
    /// For people and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoReplica => "no replica",
            Self::NoneFit => "no replica in rotation",
            Self::NoneFresh => "no replica is fresh enough",
            Self::Balanced => "least loaded of two",
        }
    }
}

/// Candidates looked at without memory of their own; a shard with more servers than this is balanced over the first.
const CANDIDATES_MAX: usize = 32;

/// Which server of a shard gets a read. `now`: of [`super::Nodes::now`]; `random`: new each time.
pub(super) fn choose(
    view: &ShardView,
    need: &Need<'_>,
    config: &ReplicaConfig,
    now: Duration,
    random: u64,
) -> Choice {
    let mut fit: [Option<&NodeView>; CANDIDATES_MAX] = [None; CANDIDATES_MAX];
    let mut count = 0;
    let mut why_not = WhyPrimary::NoReplica;
    let primary = view.primary.as_ref().ok().copied();
    for node in &view.nodes {
        if Some(node.id) == primary || node.role == Role::Primary || need.tried.contains(&node.id) {
            continue;
        }
        if why_not == WhyPrimary::NoReplica {
            why_not = WhyPrimary::NoneFit;
        }
        if node.standing != Standing::In || node.node.breaker() == BreakerState::Open {
            continue;
        }
        if !is_fresh(node, need.age_max, now) {
            why_not = WhyPrimary::NoneFresh;
            continue;
        }
        if count < CANDIDATES_MAX {
            fit[count] = Some(node);
            count += 1;
        }
    }
    let all = fit.iter().take(count).flatten().copied();
    let zone = config.zone.as_deref();
    let is_near = |node: &NodeView| zone.is_some() && node.node.zone() == zone;
    let has = |node: &NodeView| need.at_least.is_none_or(|wanted| has_reached(node, view, wanted));
    // Near ones that have it, others that have it, the furthest one.
    if let Some(picked) = balanced(
        all.clone().filter(|node| is_near(node) && has(node)),
        config,
        random,
    ) {
        return node(picked, WhyNode::Zone);
    }
    let reached = all.clone().filter(|node| has(node));
    if need.primary_too
        && let Some(primary) = view.primary_node()
    {
        return match balanced(reached.chain([primary]), config, random) {
            Some(picked) if picked.id != primary.id => node(picked, WhyNode::Balanced),
            _ => Choice::Primary(WhyPrimary::Balanced),
        };
    }
    if let Some(picked) = balanced(reached, config, random) {
        let why = if count == 1 {
            WhyNode::Only
        } else {
            WhyNode::Balanced
        };
        return node(picked, why);
    }
    let furthest = all.max_by_key(|node| node.seen.map(|seen| seen.position.lsn));
    match furthest {
        Some(picked) => node(picked, WhyNode::Behind),
        None => Choice::Primary(why_not),
    }
}

fn node(picked: &NodeView, why: WhyNode) -> Choice {
    Choice::Node(Picked {
        id: picked.id,
        node: Arc::clone(&picked.node),
        why,
    })
}

fn is_fresh(node: &NodeView, age_max: Option<Duration>, now: Duration) -> bool {
    let Some(age_max) = age_max else { return true };
    let complete_at = node.seen.and_then(|seen| seen.complete_at);
    complete_at.is_some_and(|at| now.saturating_sub(at) <= age_max)
}

/// The server was seen beyond this place, on the line of timelines that the place is part of.
fn has_reached(node: &NodeView, view: &ShardView, wanted: Position) -> bool {
    let (Some(seen), Some(lineage)) = (node.seen, view.lineage.as_deref()) else {
        return false;
    };
    seen.position.system == wanted.system
        && lineage.place(wanted.timeline, wanted.lsn) == replica::Place::Within
        && seen.position.lsn >= wanted.lsn.settled()
}

fn balanced<'v>(
    nodes: impl Iterator<Item = &'v NodeView> + Clone,
    config: &ReplicaConfig,
    random: u64,
) -> Option<&'v NodeView> {
    const NONE: Candidate = Candidate {
        weight: 0,
        outstanding: 0,
        latency_us: 0,
        warmth: balance::WARM,
    };
    let mut candidates = [NONE; CANDIDATES_MAX + 1];
    let mut count = 0;
    for (candidate, node) in candidates.iter_mut().zip(nodes.clone()) {
        *candidate = node.node.candidate(config.slow_start);
        count += 1;
    }
    let at = balance::choose(&candidates[..count], random)?;
    nodes.clone().nth(at)
}
