//! SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS.
//!
//! Totals are counted by the workers; averages are made of two looks at them, one at the beginning and one at the end
//! of the last whole period.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::console::table::Kind::{Numeric, Text};
use crate::console::table::{ColumnSpec, Table, Value};
use crate::metrics::{PoolTotals, Registry};

/// How long a period is, as PgBouncer's `stats_period`.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

type Totals = BTreeMap<Arc<str>, PoolTotals>;

/// The totals at the ends of the last period.
#[derive(Debug, Default)]
pub(crate) struct Periods {
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    older: Totals,
    newer: Totals,
    /// When the newer look was taken, and how long after the older.
    at: Option<Instant>,
    between: Duration,
}

impl Periods {
    /// Ends a period.
    pub(crate) fn look(&self, registry: &Registry, now: Instant) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.between = looks.at.map_or(PERIOD, |at| now.saturating_duration_since(at));
        looks.at = Some(now);
        looks.older = std::mem::replace(&mut looks.newer, by_database(registry));
    }

    /// A database's figures within the last period.
    fn last(&self, database: &str) -> Averages {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |totals: &Totals| totals.get(database).copied().unwrap_or_default();
        Averages::new(&of(&looks.older), &of(&looks.newer), looks.between)
    }
}

fn by_database(registry: &Registry) -> Totals {
    let mut all = Totals::new();
    for ((database, _), totals) in registry.totals() {
        *all.entry(database).or_default() += totals;
    }
    all
}

/// The twelve figures, in PgBouncer's order.
const NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
];

fn figures(totals: &PoolTotals) -> [u64; 12] {
    [
        totals.server_assignment_count,
        totals.xact_count,
        totals.query_count,
        totals.bytes_received,
        totals.bytes_sent,
        totals.xact_time_us,
        totals.query_time_us,
        totals.wait_time_us,
        totals.client_parse_count,
        totals.server_parse_count,
        totals.bind_count,
        totals.client_login_count,
    ]
}

/// Counts and bytes per second, times per what they are times of.
#[derive(Debug, PartialEq, Eq)]
struct Averages([u64; 12]);

impl Averages {
    fn new(older: &PoolTotals, newer: &PoolTotals, between: Duration) -> Self {
        let (older, newer) = (figures(older), figures(newer));
        let change: Vec<u64> = newer
            .iter()
            .zip(older)
            .map(|(new, old)| new.saturating_sub(old))
            .collect();
        let micros = u64::try_from(between.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut averages = [0; 12];
        for (at, average) in averages.iter_mut().enumerate() {
            let per = match NAMES[at] {
                "xact_time" => change[1],
                "query_time" => change[2],
                "wait_time" => change[0],
                _ => {
                    *average = u64::try_from(u128::from(change[at]) * 1_000_000 / u128::from(micros))
                        .unwrap_or(u64::MAX);
                    continue;
                }
            };
            *average = change[at] / per.max(1);
        }
        Self(averages)
    }
}

const STATS: &[ColumnSpec] = &[
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("total_client_login_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
    // As PgBouncer before 1.8 called them; some readers look for nothing else.
    ("total_requests", Numeric),
    ("avg_req", Numeric),
    ("avg_query", Numeric),
];

const STATS_TOTALS: &[ColumnSpec] = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
    ("client_login_count", Numeric),
];

const STATS_AVERAGES: &[ColumnSpec] = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// The rows of SHOW TOTALS, each once as `total_…` and once as `avg_…`.
const TOTALS: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Totals and averages.
    Both,
    /// Totals.
    Totals,
    /// Averages.
    Averages,
}

/// A row per database.
pub(super) fn stats(registry: &Registry, periods: &Periods, databases: &[Arc<str>], which: Which) -> Table {
    let mut table = Table::new(match which {
        Which::Both => STATS,
        Which::Totals => STATS_TOTALS,
        Which::Averages => STATS_AVERAGES,
    });
    let mut all = by_database(registry);
    for database in databases {
        all.entry(Arc::clone(database)).or_default();
    }
    for (database, totals) in all {
        let mut row = vec![Value::from(&*database)];
        let (totals, averages) = (figures(&totals), periods.last(&database).0);
        if which != Which::Averages {
            row.extend(totals.map(Value::from));
        }
        if which != Which::Totals {
            row.extend(averages.map(Value::from));
        }
        if which == Which::Both {
            row.extend([totals[2], averages[2], averages[6]].map(Value::from));
        }
        table.push(row);
    }
    table
}

/// All databases together, a row per figure.
pub(super) fn totals(registry: &Registry, periods: &Periods) -> Table {
    let mut sum = PoolTotals::default();
    for totals in by_database(registry).into_values() {
        sum += totals;
    }
    let averages = {
        let looks = periods.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |totals: &Totals| {
            totals.values().fold(PoolTotals::default(), |mut sum, totals| {
                sum += *totals;
                sum
            })
        };
        Averages::new(&of(&looks.older), &of(&looks.newer), looks.between)
    };
    let mut table = Table::new(&[("name", Text), ("value", Numeric)]);
    for (prefix, values) in [("total", figures(&sum)), ("avg", averages.0)] {
        for (name, value) in TOTALS.iter().zip(values) {
            table.push(vec![Value::from(format!("{prefix}_{name}")), Value::from(value)]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_per_second_and_per_piece() {
        let older = PoolTotals::default();
        let newer = PoolTotals {
            server_assignment_count: 10,
            xact_count: 20,
            query_count: 40,
            bytes_received: 1000,
            xact_time_us: 200,
            query_time_us: 80,
            wait_time_us: 30,
            ..PoolTotals::default()
        };
        let averages = Averages::new(&older, &newer, Duration::from_secs(10));
        assert_eq!(averages.0, [1, 2, 4, 100, 0, 10, 2, 3, 0, 0, 0, 0]);
        assert_eq!(Averages::new(&older, &older, Duration::ZERO).0, [0; 12]);
    }
}
