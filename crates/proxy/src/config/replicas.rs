//! How replicas are watched and used.

use std::time::Duration;

use replica::BreakerPolicy;

/// How replicas are watched and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaConfig {
    /// Pause between two looks at a server.
    pub poll_interval: Duration,
    /// A server that does not answer a look for this long is taken for dead.
    pub poll_timeout: Duration,
    /// A replica that leaves a look unanswered for this long gets no reads until it answers, and reads that wait for it
    /// go elsewhere; zero: not before it is taken for dead.
    pub hang_timeout: Duration,
    /// A replica this many bytes behind gets no reads; 0: no limit.
    pub lag_bytes_max: u64,
    /// A replica whose data are this old gets no reads; zero: no limit.
    pub lag_max: Duration,
    /// So many replicas of a shard stay in rotation although they are too far behind (not when they are down), the
    /// least late ones.
    pub keep: usize,
    /// A replica that came back gets its full share after this time.
    pub slow_start: Duration,
    /// How long statements wait for a server that is away; `None`: as long as for a connection.
    pub failover_buffer: Option<Duration>,
    /// Statements that may wait for it, per worker, user and database.
    pub failover_buffer_statements: usize,
    /// Standbys that a primary streams to are servers of its shard although nobody configured them.
    pub discover: bool,
    /// When a server that fails gets nothing for a while.
    pub breaker: BreakerPolicy,
    /// Where this proxy stands, in the operator's words: replicas of the same zone are preferred.
    pub zone: Option<String>,
    /// Functions that may run on replicas although they are volatile: schema and name, all overloads.
    pub safe_functions: Vec<(String, String)>,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(500),
            poll_timeout: Duration::from_secs(1),
            hang_timeout: Duration::from_millis(250),
            lag_bytes_max: 0,
            lag_max: Duration::from_secs(30),
            keep: 0,
            slow_start: Duration::from_secs(10),
            failover_buffer: None,
            failover_buffer_statements: 10_000,
            discover: false,
            breaker: BreakerPolicy::default(),
            zone: None,
            safe_functions: Vec::new(),
        }
    }
}
