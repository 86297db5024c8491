//! The rows of `drover.nodes`: the servers as this proxy sees them.

use std::time::Duration;

use replica::BreakerState;

use crate::nodes::{NodeView, Nodes, ShardView};

/// Columns of the view. New ones come last.
pub(crate) const COLUMNS: &[&str] = &[
    "shard",
    "role",
    "host",
    "port",
    "node",
    "is_primary",
    "state",
    "weight",
    "zone",
    "timeline",
    "position",
    "lag_bytes",
    "lag_ms",
    "seen_ms",
    "breaker",
    "outstanding",
    "latency_us",
    "reads",
    "failures",
    "system_identifier",
    "trouble",
    "found",
];

/// Its rows: a shard's servers in the order of the configuration. `NULL`: not known.
pub(crate) fn rows(nodes: &Nodes) -> Vec<Vec<Option<String>>> {
    let now = nodes.now();
    let views = nodes.views();
    let of_shard = |view: &ShardView| -> Vec<_> {
        let nodes = view.nodes.iter();
        nodes.map(|node| row(view, node, now)).collect()
    };
    views.iter().flat_map(|view| of_shard(view)).collect()
}

fn row(view: &ShardView, node: &NodeView, now: Duration) -> Vec<Option<String>> {
    let seen = node.seen.as_ref();
    let age = |at: Duration| now.saturating_sub(at).as_millis().to_string();
    let (served, failed) = node.node.requests();
    let breaker = match node.node.breaker() {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half-open",
    };
    vec![
        Some(view.name.to_string()),
        Some(node.role.as_str().to_owned()),
        Some(node.node.address().host.clone()),
        Some(node.node.address().port.to_string()),
        Some(node.id.to_string()),
        Some((view.primary == Ok(node.id)).to_string()),
        Some(node.standing.to_string()),
        Some(node.node.weight().to_string()),
        node.node.zone().map(str::to_owned),
        seen.map(|seen| seen.position.timeline.to_string()),
        seen.map(|seen| seen.position.lsn.to_string()),
        seen.and_then(|seen| seen.behind).map(|bytes| bytes.to_string()),
        seen.and_then(|seen| seen.complete_at).map(age),
        seen.map(|seen| age(seen.asked)),
        Some(breaker.to_owned()),
        Some(node.node.outstanding().to_string()),
        Some(node.node.latency().as_micros().to_string()),
        Some(served.to_string()),
        Some(failed.to_string()),
        seen.map(|seen| seen.position.system.to_string()),
        view.primary
            .as_ref()
            .err()
            .map(|reason| reason.as_str().to_owned()),
        Some(node.found.to_string()),
    ]
}
