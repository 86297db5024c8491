//! The servers of the shards in Prometheus' text format.

use std::fmt::Write as _;

use replica::BreakerState;

use super::pools::escaped;
use crate::nodes::{NodeView, Nodes, Role, ShardView, Standing};

/// Servers shown at most.
const NODES_MAX: usize = 1000;

const LABELS: &str = "shard, host, port";

/// Name, kind, labels and meaning of each.
pub(super) const DOCUMENTED: [(&str, &str, &str, &str); 11] = [
    ("drover_node_up", "gauge", LABELS, "1: the server answers."),
    (
        "drover_node_primary",
        "gauge",
        LABELS,
        "1: writes of the shard go to this server.",
    ),
    (
        "drover_node_in_rotation",
        "gauge",
        LABELS,
        "1: the server gets reads that may go to replicas.",
    ),
    (
        "drover_node_lag_bytes",
        "gauge",
        LABELS,
        "Bytes of the log that the server has not replayed; only where known.",
    ),
    (
        "drover_node_lag_seconds",
        "gauge",
        LABELS,
        "Age of the server's data at most, looks included; only where known.",
    ),
    (
        "drover_node_breaker_open",
        "gauge",
        LABELS,
        "1: requests to the server failed again and again, it gets none.",
    ),
    (
        "drover_node_outstanding",
        "gauge",
        LABELS,
        "Reads the server has in hand.",
    ),
    (
        "drover_node_reads_total",
        "counter",
        LABELS,
        "Reads the server answered as a replica.",
    ),
    (
        "drover_primary_moves_total",
        "counter",
        "",
        "Times that a shard's primary became another server, or none.",
    ),
    (
        "drover_primary_holds_total",
        "counter",
        "",
        "Times that a shard's primary answered nobody, so that statements waited for it or its successor.",
    ),
    (
        "drover_rotation_changes_total",
        "counter",
        "",
        "Times that a replica went out of rotation or came back.",
    ),
];

/// The servers' metrics.
pub(crate) fn expose(nodes: &Nodes) -> String {
    let views = nodes.views();
    let pairs = views
        .iter()
        .flat_map(|view| view.nodes.iter().map(move |node| (view, node)));
    let shown: Vec<_> = pairs.take(NODES_MAX).collect();
    let mut out = String::new();
    let (moves, rotations) = nodes.counts();
    for (name, kind, _, help) in DOCUMENTED {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        match name {
            "drover_primary_moves_total" => {
                let _ = writeln!(out, "{name} {moves}");
            }
            "drover_primary_holds_total" => {
                let _ = writeln!(out, "{name} {}", nodes.holds());
            }
            "drover_rotation_changes_total" => {
                let _ = writeln!(out, "{name} {rotations}");
            }
            _ => {
                for (view, node) in &shown {
                    if let Some(value) = value(name, view, node, nodes) {
                        let _ = writeln!(out, "{name}{{{}}} {value}", labels(view, node));
                    }
                }
            }
        }
    }
    out
}

fn labels(view: &ShardView, node: &NodeView) -> String {
    let address = node.node.address();
    format!(
        "shard=\"{}\",host=\"{}\",port=\"{}\"",
        escaped(&view.name),
        escaped(&address.host),
        address.port
    )
}

fn value(name: &str, view: &ShardView, node: &NodeView, nodes: &Nodes) -> Option<String> {
    let flag = |flag: bool| Some(u8::from(flag).to_string());
    let seen = node.seen.as_ref();
    match name {
        "drover_node_up" => flag(matches!(node.role, Role::Primary | Role::Replica)),
        "drover_node_primary" => flag(view.primary == Ok(node.id)),
        "drover_node_in_rotation" => flag(node.standing == Standing::In),
        "drover_node_lag_bytes" => seen?.behind.map(|bytes| bytes.to_string()),
        "drover_node_lag_seconds" => {
            let age = nodes.now().saturating_sub(seen?.complete_at?);
            Some(age.as_secs_f64().to_string())
        }
        "drover_node_breaker_open" => flag(node.node.breaker() == BreakerState::Open),
        "drover_node_outstanding" => Some(node.node.outstanding().to_string()),
        "drover_node_reads_total" => Some(node.node.requests().0.to_string()),
        _ => None,
    }
}
