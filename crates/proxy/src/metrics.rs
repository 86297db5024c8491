//! Counters. Each worker counts into its own cells, which only it writes; a scrape adds them up.
//!
//! The catalogue below is the only place where a metric is declared: name, kind and help text. The struct, the
//! Prometheus text and `docs/metrics.md` all come from it.

mod errors;
mod families;
mod histogram;
pub(crate) mod nodes;
pub(crate) mod pools;
pub(crate) mod rules;
mod totals;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{DigestKey, DigestRow, WorkerDigests};
pub use errors::{ErrorCounts, SqlState};
use families::Family;
pub use families::{PinCounts, PinGauges, RefusalCounts, Route, StatementClass, StatementTimes};
pub use histogram::Histogram;
pub use totals::{PoolCounters, PoolTotals, WorkerTotals};

/// A number that only grows. Written by one thread, read by any: an increment is a plain load and store.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this.
    pub fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds `n` to one that has no owner; all who add must do it so.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one. Only the owning worker may call this.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. Written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more. Only the owning worker may call this.
    pub fn up(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// One less. Only the owning worker may call this.
    pub fn down(&self) {
        self.0.store(
            self.0.load(Ordering::Relaxed).saturating_sub(1),
            Ordering::Relaxed,
        );
    }

    /// One more, of one that has no owner; all who change it must do it so.
    pub(crate) fn up_shared(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, likewise.
    pub(crate) fn down_shared(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces the value. Only the owning worker may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One metric as declared.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Full name, `drover_…`; counters end in `_total`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, separated by commas; empty for none.
    pub labels: &'static str,
    /// One sentence, units included.
    pub help: &'static str,
    read: Reader,
}

/// How a metric's value is found.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// One number per worker.
    Number(fn(&WorkerMetrics) -> u64),
    /// Several series.
    Family(fn(&[Arc<WorkerMetrics>], &str, &mut String)),
}

macro_rules! catalogue {
    (
        $( $kind:ident $field:ident $name:literal $help:literal; )*
        =>
        $( $family:ident $series:ident $shape:literal $family_name:literal $labels:literal $family_help:literal; )*
    ) => {
        /// One worker's metrics.
        #[derive(Debug, Default)]
        pub struct WorkerMetrics {
            $( #[doc = $help] pub $field: $kind, )*
            $( #[doc = $family_help] pub $series: $family, )*
            /// Figures per database and user.
            pub totals: WorkerTotals,
            /// Figures per statement.
            pub digests: WorkerDigests,
        }

        /// Every metric, in the order of the documentation.
        pub const CATALOGUE: &[Metric] = &[
            $( Metric {
                name: $name,
                kind: catalogue!(@kind $kind),
                labels: "",
                help: $help,
                read: Reader::Number(|metrics| metrics.$field.get()),
            }, )*
            $( Metric {
                name: $family_name,
                kind: $shape,
                labels: $labels,
                help: $family_help,
                read: Reader::Family(|workers, name, out| {
                    let workers: Vec<&$family> = workers.iter().map(|worker| &worker.$series).collect();
                    $family::expose(&workers, name, out);
                }),
            }, )*
        ];
    };
    (@kind Counter) => { "counter" };
    (@kind Gauge) => { "gauge" };
}

catalogue! {
    Gauge clients "drover_clients" "Clients connected, logged in or logging in.";
    Counter clients_accepted "drover_clients_accepted_total" "Client connections accepted.";
    Counter logins "drover_logins_total" "Client logins that succeeded.";
    Counter logins_failed "drover_logins_failed_total" "Client logins refused or broken off, cancel requests not counted.";
    Counter login_timeouts "drover_login_timeouts_total" "Client logins ended by login_timeout.";
    Counter tls_handshakes "drover_tls_handshakes_total" "TLS handshakes with clients that succeeded.";
    Counter tls_failures "drover_tls_failures_total" "TLS handshakes with clients that failed.";
    Counter auth_queries "drover_auth_queries_total" "Logins that had to wait for auth_query.";
    Counter auth_query_hits "drover_auth_query_hits_total" "Logins of looked-up users answered from memory.";
    Counter auth_queries_failed "drover_auth_queries_failed_total" "Logins refused because auth_query failed.";
    Counter auth_disagreements "drover_auth_disagreements_total" "Logins refused because a shard stores another password verifier.";
    Counter session_panics "drover_session_panics_total" "Sessions ended by a defect in Drover.";
    Counter cancels "drover_cancels_total" "CancelRequests received.";
    Counter cancels_unknown "drover_cancels_unknown_total" "CancelRequests whose key belongs to no client.";
    Counter cancels_forwarded "drover_cancels_forwarded_total" "CancelRequests handed on to the proxy whose client they are for.";
    Counter cancels_sent "drover_cancels_sent_total" "CancelRequests sent to servers.";
    Counter transactions "drover_transactions_total" "Transactions finished, statements outside a block included.";
    Counter transactions_short "drover_transactions_short_total" "Transactions of one cached statement that were served by the short way.";
    Counter statements "drover_statements_total" "Statements received from clients.";
    Counter statements_refused "drover_statements_refused_total" "Statements refused with SQLSTATE 0A000.";
    Counter statements_routed "drover_statements_routed_total" "Statements sent unchanged to one shard.";
    Counter statements_scattered "drover_statements_scattered_total" "Statements run on several shards.";
    Counter rows_gathered "drover_rows_gathered_total" "Rows that were pulled from servers because one finished the statement.";
    Counter rows_carried "drover_rows_carried_total" "Rows that a statement made on one shard and stored on another, or on all.";
    Counter plan_cache_hits "drover_plan_cache_hits_total" "Statements found in the plan cache.";
    Counter plan_cache_misses "drover_plan_cache_misses_total" "Statements that had to be parsed.";
    Counter multi_shard_commits "drover_multi_shard_commits_total" "Transactions committed atomically on several shards.";
    Counter best_effort_commits "drover_best_effort_commits_total" "Transactions committed shard by shard (drover.transaction_mode = 'best_effort').";
    Counter half_commits "drover_half_commits_total" "Transactions that ended committed on some shards and not on others, or may have (08007); only with drover.transaction_mode = 'best_effort'.";
    Gauge in_doubt "drover_transactions_in_doubt" "Prepared parts of transactions that recovery, looking last, could not finish yet; younger than a second does not count.";
    Gauge in_doubt_ms "drover_transactions_in_doubt_oldest_milliseconds" "Age of the oldest of them.";
    Counter decisions_collected "drover_decisions_collected_total" "Outcomes of transactions over several shards that were deleted because nobody can need them any more.";
    Gauge decisions_overdue_s "drover_decisions_overdue_seconds" "How much longer than limits.outcome_retention the oldest outcome is kept, because a server is away, a transaction open, or something prepared.";
    Counter cluster_snapshots "drover_cluster_snapshots_total" "Snapshots of all shards taken at one moment (drover.read_snapshot = 'cluster').";
    Counter deadlocks "drover_deadlocks_total" "Transactions cancelled to end a deadlock over several shards (40P01).";
    Counter client_bytes_received "drover_client_bytes_received_total" "Bytes received from clients.";
    Counter client_bytes_sent "drover_client_bytes_sent_total" "Bytes sent to clients.";
    Gauge servers "drover_servers" "Server connections open.";
    Counter server_logins "drover_server_logins_total" "Logins to servers that succeeded.";
    Counter server_logins_failed "drover_server_logins_failed_total" "Logins to servers that failed.";
    Counter server_tls_handshakes "drover_server_tls_handshakes_total" "Logins to servers over TLS that succeeded.";
    Counter server_tls_failures "drover_server_tls_failures_total" "Logins to servers that failed because of TLS.";
    Counter server_login_us "drover_server_login_microseconds_total" "Time spent logging in to servers, in microseconds.";
    Counter server_bytes_received "drover_server_bytes_received_total" "Bytes received from servers.";
    Counter server_bytes_sent "drover_server_bytes_sent_total" "Bytes sent to servers.";
    Counter checkouts "drover_checkouts_total" "Server connections lent to transactions.";
    Counter checkout_waits "drover_checkout_waits_total" "Checkouts that had to wait.";
    Counter checkout_wait_us "drover_checkout_wait_microseconds_total" "Time checkouts waited, in microseconds.";
    Counter checkouts_refused "drover_checkouts_refused_total" "Checkouts refused: queue full, waited too long, or logins failing.";
    Counter ticket_waits "drover_ticket_waits_total" "Multi-shard transactions that had to wait for a ticket.";
    Counter tickets_refused "drover_tickets_refused_total" "Multi-shard transactions that got no ticket in time (40001).";
    Counter servers_discarded "drover_servers_discarded_total" "Server connections closed because their state was unknown or broken.";
    Counter servers_cut "drover_servers_cut_total" "Server connections cut while in use, because their server died or was replaced.";
    Counter servers_reaped "drover_servers_reaped_total" "Server connections closed for age or idleness.";
    Counter servers_moved "drover_servers_moved_total" "Idle server connections handed to another worker.";
    Counter servers_cleaned "drover_servers_cleaned_total" "Server connections kept although their client left in the middle of something.";
    Counter statement_timeouts "drover_statement_timeouts_total" "Cancels sent because of query_timeout or transaction_timeout.";
    Counter statements_over_budget "drover_statements_over_budget_total" "Statements that were ended because servers sent more rows or bytes for them than drover.statement_budget allows.";
    Counter session_timeouts "drover_session_timeouts_total" "Sessions ended because of a time-out.";
    Counter statements_retried "drover_statements_retried_total" "Statements given to another server connection because the first was dead before it took anything.";
    Counter index_lookups "drover_index_lookups_total" "Statements whose shards a global index has found.";
    Counter index_lookups_undecided "drover_index_lookups_undecided_total" "Statements that went to all shards because an entry of their global index was being changed, or could not be asked for.";
    Counter reads_on_replica "drover_reads_on_replica_total" "Reads given to replicas, once per shard.";
    Counter reads_on_primary "drover_reads_on_primary_total" "Reads that could have gone to a replica and went to the primary, once per shard.";
    Counter reads_waited "drover_reads_waited_total" "Replicas that had to be asked how far they are, or waited for, before a read, and then were far enough.";
    Counter reads_wait_timeouts "drover_reads_wait_timeouts_total" "Replicas that were not far enough when drover.replica_wait was over.";
    Counter reads_again "drover_reads_again_total" "Reads that failed on a replica and ran again elsewhere, unnoticed by the client.";
    Counter reads_refused "drover_reads_refused_total" "Statements found to need the primary because a replica refused them.";
    Counter positions_taken "drover_positions_taken_total" "Positions asked of servers after a write, or after a read of a session that never goes backwards.";
    Counter positions_lost "drover_positions_lost_total" "Sessions told that what they had written or seen was lost in a failover (40003).";
    Counter server_checks "drover_server_checks_total" "Idle server connections asked whether they still work before they were lent.";
    Counter server_checks_failed "drover_server_checks_failed_total" "Of them those that did not.";
    Counter prepared_hits "drover_prepared_hits_total" "Statements that the server connection had prepared already.";
    Counter prepared_misses "drover_prepared_misses_total" "Statements that had to be prepared on the server connection.";
    Gauge moves_running "drover_moves_running" "Online moves of tables that this proxy works on now.";
    Counter moves_done "drover_moves_done_total" "Online moves of tables that this proxy brought to their end.";
    Counter moves_failed "drover_moves_failed_total" "Online moves of tables that this proxy gave up, or was told to.";
    Counter move_rows "drover_move_rows_total" "Rows copied by online moves, each time they were.";
    Counter move_changes "drover_move_changes_total" "Changes of tables applied to their copies while they were moved.";
    Counter move_log_bytes "drover_move_log_bytes_total" "Bytes that online moves read from the logs of servers.";
    Counter move_pause_us "drover_move_pause_microseconds_total" "Time statements waited for the cutovers of online moves, in microseconds.";
    Counter spans_exported "drover_spans_exported_total" "Spans taken by the collector.";
    Counter spans_failed "drover_spans_failed_total" "Spans lost because the collector did not take them.";
    Counter spans_dropped "drover_spans_dropped_total" "Spans dropped because too many were waiting to be sent.";

    // Several series each.
    =>
    StatementTimes statement_times "histogram" "drover_statement_seconds" "kind, route"
        "Time from a statement's arrival to the end of its answer, by what it is and on how many shards it ran; the statements of one message share its time evenly.";
    Histogram wait_times "histogram" "drover_wait_seconds" ""
        "Time requests waited for a server connection, where they had to wait.";
    ErrorCounts errors "counter" "drover_errors_total" "sqlstate"
        "Errors sent to clients, by SQLSTATE; codes that are not listed count under their class (23xxx).";
    RefusalCounts refusals "counter" "drover_refusals_total" "code"
        "Statements refused, by refusal code.";
    PinCounts pins "counter" "drover_pins_total" "reason"
        "Times a session was pinned to a server connection, by reason.";
    PinGauges pinned "gauge" "drover_pinned_sessions" "reason"
        "Sessions pinned to a server connection now, by reason.";
}

/// All workers' metrics of one proxy.
#[derive(Debug, Default)]
pub struct Registry {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
}

impl Registry {
    /// Metrics for one more worker.
    pub fn add_worker(&self) -> Arc<WorkerMetrics> {
        let metrics = Arc::new(WorkerMetrics::default());
        self.lock().push(Arc::clone(&metrics));
        metrics
    }

    /// Metrics of somebody who is no worker count with theirs.
    pub(crate) fn adopt(&self, metrics: Arc<WorkerMetrics>) {
        self.lock().push(metrics);
    }

    /// Each metric that is one number with its sum over all workers.
    #[must_use]
    pub fn sums(&self) -> Vec<(&'static Metric, u64)> {
        let workers = self.lock();
        let sum = |read: fn(&WorkerMetrics) -> u64| {
            workers
                .iter()
                .fold(0_u64, |sum, worker| read(worker).wrapping_add(sum))
        };
        CATALOGUE
            .iter()
            .filter_map(|metric| match metric.read {
                Reader::Number(read) => Some((metric, sum(read))),
                Reader::Family(_) => None,
            })
            .collect()
    }

    /// Figures per database and user, in their order, over all workers.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<(Arc<str>, Arc<str>), PoolTotals> {
        let mut sums = BTreeMap::new();
        for worker in self.lock().iter() {
            worker.totals.add_to(&mut sums);
        }
        sums
    }

    /// Figures per database, user and normalised statement, in that order, over all workers; those that have run.
    #[must_use]
    pub fn digests(&self) -> BTreeMap<DigestKey, DigestRow> {
        let mut sums = BTreeMap::new();
        for worker in self.lock().iter() {
            worker.digests.add_to(&mut sums);
        }
        sums.retain(|_, row| row.calls > 0);
        sums
    }

    /// Forgets the figures per statement of those databases and users that `chosen` names.
    pub fn clear_digests(&self, chosen: impl Fn(&str, &str) -> bool) {
        for worker in self.lock().iter() {
            worker.digests.clear(&chosen);
        }
    }

    /// Everything but the pools in Prometheus' text format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for (metric, value) in self.sums() {
            let Metric { name, kind, help, .. } = metric;
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        let workers = self.lock().clone();
        for metric in CATALOGUE {
            let Reader::Family(expose) = metric.read else {
                continue;
            };
            let Metric { name, kind, help, .. } = metric;
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            expose(&workers, name, &mut text);
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<WorkerMetrics>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The catalogue as a page of documentation.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the catalogue in `crates/proxy/src/metrics.rs`; do not edit. To write it anew:\n\
         `UPDATE_DOCS=1 cargo test -p proxy metrics`.\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for Metric {
        name,
        kind,
        labels,
        help,
        ..
    } in CATALOGUE
    {
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    for (name, kind, labels, help) in nodes::DOCUMENTED {
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    for (name, kind, labels, help) in pools::DOCUMENTED {
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    for (name, kind, labels, help) in rules::DOCUMENTED {
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers() {
        let registry = Registry::default();
        let (a, b) = (registry.add_worker(), registry.add_worker());
        a.logins.increment();
        b.logins.add(2);
        a.clients.up();
        b.clients.up();
        b.clients.down();
        let text = registry.prometheus();
        assert!(
            text.contains("# TYPE drover_logins_total counter\ndrover_logins_total 3\n"),
            "{text}"
        );
        assert!(
            text.contains("# TYPE drover_clients gauge\ndrover_clients 1\n"),
            "{text}"
        );
    }

    #[test]
    fn names_follow_the_rules() {
        let mut seen = std::collections::BTreeSet::new();
        for Metric { name, kind, help, .. } in CATALOGUE {
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(name.starts_with("drover_"), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        }
    }

    #[test]
    fn the_documentation_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).expect("docs/ is writable");
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, documentation(), "docs/metrics.md is out of date");
    }
}
