//! The numbers that decide how a pool behaves.

use std::time::Duration;

/// Limits and delays of one pool. Durations of zero for `idle_timeout` and `max_lifetime` mean "never".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Server connections for first shards (the ordinary class), open or being dialled.
    pub size: usize,
    /// Ordinary connections this pool keeps open even when nobody needs them; at most `size`.
    pub min: usize,
    /// Ordinary connections beyond `size` while the first in the queue has waited for `extra_after`.
    pub extra: usize,
    /// See `extra`.
    pub extra_after: Duration,
    /// A connection idle for this long is checked before it is lent; zero: never.
    pub check_after: Duration,
    /// Server connections for further shards of multi-shard transactions; at least the number of tickets.
    pub reserve: usize,
    /// Server connections for the proxy's own work (recovery, schema reads).
    pub control: usize,
    /// Requests that may wait at once; one more is refused with 53300.
    pub queue_limit: usize,
    /// The longest a request waits for a connection.
    pub connection_timeout: Duration,
    /// The same while the server is away: its logins fail, and it may come back or be replaced. `None`: no different.
    pub away_wait: Option<Duration>,
    /// Requests that may wait for a server that is away; never more than `queue_limit`.
    pub away_queue: usize,
    /// An idle connection older than this is closed.
    pub idle_timeout: Duration,
    /// A connection older than this is closed at its next release.
    pub max_lifetime: Duration,
    /// Logins running at once.
    pub dial_parallel: usize,
    /// First pause after a failed login; doubles with each further failure.
    pub backoff_min: Duration,
    /// Longest pause after failed logins.
    pub backoff_max: Duration,
    /// While logins fail for a reason that lasts, a request waits at most this long before it gets the server's last
    /// error. A server that cannot be reached is waited for `away_wait`.
    pub failing_wait: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            size: 20,
            min: 0,
            extra: 0,
            extra_after: Duration::from_secs(5),
            check_after: Duration::ZERO,
            reserve: 10,
            control: 4,
            queue_limit: 10_000,
            connection_timeout: Duration::from_secs(10),
            away_wait: None,
            away_queue: usize::MAX,
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            dial_parallel: 8,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            failing_wait: Duration::from_millis(500),
        }
    }
}
