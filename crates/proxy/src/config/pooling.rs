//! What is configured about server connections: sizes, modes, limits and times.

use std::time::Duration;

use wire::startup::ProtocolVersion;

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolMode {
    /// Until the client leaves.
    Session,
    /// Until its transaction ends.
    #[default]
    Transaction,
    /// Until its statement ends; transaction blocks are refused.
    Statement,
}

impl PoolMode {
    /// The word used in configurations and listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// Sizes and times of the server pools.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How long a client keeps a server connection, where database and user say nothing else.
    pub mode: PoolMode,
    /// Server connections per (shard, user, database) for first shards, over all workers.
    pub size: usize,
    /// Server connections per (shard, user, database) kept open even when nobody needs them; at most `size`.
    pub min_size: usize,
    /// Connections beyond `size`, for clients that have waited `reserve_timeout`.
    pub reserve: usize,
    /// How long the first in the queue waits before the reserve is touched.
    pub reserve_timeout: Duration,
    /// Server connections of the whole proxy (all pools, connections for further shards and the proxy's own not
    /// counted); 0: no limit.
    pub max_servers: usize,
    /// Tickets for multi-shard transactions, over all workers: no more than this many connections per shard are in use
    /// for further shards. Each worker may keep as many idle until `idle_timeout`.
    pub multi_shard: usize,
    /// Connections per (worker, shard, user, database) for the proxy's own work.
    pub control: usize,
    /// Requests that may wait per (worker, shard, user, database).
    pub queue_limit: usize,
    /// The longest a transaction waits for a server connection or a ticket.
    pub connection_timeout: Duration,
    /// Idle server connections are closed after this; zero: never.
    pub idle_timeout: Duration,
    /// Server connections are closed after this; zero: never.
    pub max_lifetime: Duration,
    /// The longest a login to a server may take.
    pub connect_timeout: Duration,
    /// Logins to one shard running at once per worker and pool.
    pub dial_parallel: usize,
    /// Logins to one shard running at once, over all workers and pools.
    pub dial_parallel_shard: usize,
    /// Prepared statements kept per server connection.
    pub prepared_statements: usize,
    /// A connection idle for longer than this is asked `check_query` before it is lent; zero: never.
    pub check_delay: Duration,
    /// What it is asked; empty: an empty query.
    pub check_query: String,
    /// Host names of servers are looked up again after this; zero: only when connecting.
    pub dns_max_ttl: Duration,
    /// The protocol version asked for; older servers answer that they speak 3.0.
    pub server_protocol: ProtocolVersion,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            mode: PoolMode::default(),
            size: 20,
            min_size: 0,
            reserve: 0,
            reserve_timeout: Duration::from_secs(5),
            max_servers: 0,
            multi_shard: 10,
            control: 4,
            queue_limit: 10_000,
            connection_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(5),
            dial_parallel: 8,
            dial_parallel_shard: 16,
            prepared_statements: 500,
            check_delay: Duration::from_secs(30),
            check_query: String::new(),
            dns_max_ttl: Duration::from_secs(15),
            server_protocol: ProtocolVersion::V3_0,
        }
    }
}

/// What a database or a user has instead of the general pool settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    /// Instead of [`PoolConfig::mode`].
    pub mode: Option<PoolMode>,
    /// Instead of [`PoolConfig::size`].
    pub size: Option<usize>,
    /// Instead of [`PoolConfig::min_size`].
    pub min_size: Option<usize>,
    /// Instead of [`PoolConfig::reserve`].
    pub reserve: Option<usize>,
}

/// A database that clients may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The name clients use; `*`: any name that no other entry has.
    pub name: String,
    /// The database on the servers, where it has another name.
    pub server_name: Option<String>,
    /// The role on the servers for all clients of this entry.
    pub server_user: Option<String>,
    /// Pool settings of its own.
    pub pool: PoolOverrides,
    /// Server connections for this entry, all users and shards together; 0: no limit.
    pub max_connections: Option<usize>,
    /// Clients of this entry; 0: no limit.
    pub max_client_connections: Option<usize>,
}

impl DatabaseConfig {
    /// The database on the servers.
    #[must_use]
    pub fn server_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.name)
    }

    /// True for the entry that stands for all names without an entry of their own.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.name == "*"
    }
}

impl From<&str> for DatabaseConfig {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl From<String> for DatabaseConfig {
    fn from(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }
}

/// What holds for one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Pool settings of its own; they win over the database's.
    pub pool: PoolOverrides,
    /// Server connections of this user, all databases and shards together; 0: no limit.
    pub max_connections: Option<usize>,
    /// Clients of this user; 0: no limit.
    pub max_client_connections: Option<usize>,
    /// Times of its own.
    pub timeouts: TimeoutOverrides,
}

/// How long things may take; zero: for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// A statement (or a batch up to its Sync) from its arrival to its end.
    pub query: Duration,
    /// A transaction, a statement outside a block included.
    pub transaction: Duration,
    /// A client that says nothing while its transaction is open.
    pub idle_transaction: Duration,
    /// A client that says nothing while no transaction is open.
    pub client_idle: Duration,
}

impl Timeouts {
    /// Nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// A user's times instead of the general ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeoutOverrides {
    /// Instead of [`Timeouts::query`].
    pub query: Option<Duration>,
    /// Instead of [`Timeouts::transaction`].
    pub transaction: Option<Duration>,
    /// Instead of [`Timeouts::idle_transaction`].
    pub idle_transaction: Option<Duration>,
    /// Instead of [`Timeouts::client_idle`].
    pub client_idle: Option<Duration>,
}

impl TimeoutOverrides {
    /// The general times with these in their places.
    #[must_use]
    pub fn over(&self, general: Timeouts) -> Timeouts {
        Timeouts {
            query: self.query.unwrap_or(general.query),
            transaction: self.transaction.unwrap_or(general.transaction),
            idle_transaction: self.idle_transaction.unwrap_or(general.idle_transaction),
            client_idle: self.client_idle.unwrap_or(general.client_idle),
        }
    }
}
