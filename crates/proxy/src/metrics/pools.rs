//! Figures of pools, asked of the workers when somebody looks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::pools::PoolStats;

/// Pools shown; what further ones hold is left out, so that a scrape stays readable whatever roles log in.
const POOLS_MAX: usize = 2000;

/// Labels of the metrics here.
const LABELS: &str = "shard, database, user";

/// Name, kind, labels and help of the metrics here, for the documentation.
pub(super) const DOCUMENTED: [(&str, &str, &str, &str); 3] = [
    (
        "drover_pool_connections",
        "gauge",
        "shard, database, user, state",
        "Server connections of a pool: active (lent to a transaction), idle, or login.",
    ),
    (
        "drover_pool_waiting",
        "gauge",
        LABELS,
        "Transactions waiting for a connection of a pool.",
    ),
    (
        "drover_pool_longest_wait_seconds",
        "gauge",
        LABELS,
        "How long the transaction that waits longest has waited.",
    ),
];

#[derive(Default)]
struct Sum {
    active: usize,
    idle: usize,
    login: usize,
    waiting: usize,
    longest: Duration,
}

/// The pools in Prometheus' text format. `shard_name` gives the name people use.
pub(crate) fn expose(pools: &[PoolStats], shard_name: impl Fn(u32) -> String) -> String {
    let mut sums: BTreeMap<(String, &str, &str), Sum> = BTreeMap::new();
    for pool in pools {
        let key = (
            shard_name(pool.key.place.shard),
            &*pool.key.database,
            &*pool.key.user,
        );
        let sum = sums.entry(key).or_default();
        sum.active += pool.stats.leased;
        sum.idle += pool.stats.idle;
        sum.login += pool.stats.dialling;
        sum.waiting += pool.stats.waiting;
        sum.longest = sum.longest.max(pool.stats.longest_wait);
    }
    let labelled: Vec<(String, &Sum)> = sums
        .iter()
        .take(POOLS_MAX)
        .map(|((shard, database, user), sum)| {
            let labels = format!(
                "shard=\"{}\",database=\"{}\",user=\"{}\"",
                escaped(shard),
                escaped(database),
                escaped(user)
            );
            (labels, sum)
        })
        .collect();
    let mut out = String::new();
    for (name, kind, _, help) in DOCUMENTED {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, sum) in &labelled {
            match name {
                "drover_pool_waiting" => {
                    let _ = writeln!(out, "{name}{{{labels}}} {}", sum.waiting);
                }
                "drover_pool_longest_wait_seconds" => {
                    let _ = writeln!(out, "{name}{{{labels}}} {}", sum.longest.as_secs_f64());
                }
                _ => {
                    for (state, value) in [("active", sum.active), ("idle", sum.idle), ("login", sum.login)] {
                        let _ = writeln!(out, "{name}{{{labels},state=\"{state}\"}} {value}");
                    }
                }
            }
        }
    }
    out
}

/// A label's value as the text format wants it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
