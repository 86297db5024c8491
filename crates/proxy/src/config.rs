//! What the proxy is told at its start: plain values, already parsed and checked by whoever reads the configuration.

mod pooling;
mod replicas;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

pub use crate::auth::{AuthConfig, AuthQuery, Credential};
pub use pooling::{
    DatabaseConfig, PoolConfig, PoolMode, PoolOverrides, TimeoutOverrides, Timeouts, UserLimits,
};
pub use replicas::ReplicaConfig;
pub use tls::{
    ChannelBinding, ClientTlsConfig, ClientTlsMode, ServerTlsConfig, ServerTlsMode, TlsConfig,
    TlsNegotiation, TlsVersion,
};

/// Clients a worker takes before the next one is used, where nothing else is said.
pub const CLIENTS_PER_WORKER: usize = 64;

/// [`ProxyConfig::lease_ttl`] where nobody says otherwise.
pub const LEASE_TTL: Duration = Duration::from_secs(3);

/// Everything one proxy needs to know.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Where clients connect (TCP). Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Further addresses.
    pub listen_also: Vec<SocketAddr>,
    /// Other processes may listen at the same address, and the kernel spreads new clients over all of them.
    pub reuse_port: bool,
    /// The Unix socket clients may connect to as well.
    pub unix_socket: Option<UnixSocketConfig>,
    /// The admin console.
    pub console: ConsoleConfig,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Clients that a worker takes before the next one is used, unless it is busy.
    pub clients_per_worker: usize,
    /// How long the proxy's registration in the store outlives it: the others go on without it after this.
    pub lease_ttl: Duration,
    /// What a test does to it.
    pub fail_points: crate::failpoint::FailPoints,
    /// Who may log in.
    pub users: Vec<UserConfig>,
    /// How clients and the proxy itself prove who they are.
    pub auth: AuthConfig,
    /// Databases clients may name.
    pub databases: Vec<DatabaseConfig>,
    /// Server connections per (shard, user, database).
    pub pool: PoolConfig,
    /// Bounds.
    pub limits: Limits,
    /// How long statements, transactions and idle sessions may take, where a user has no times of its own.
    pub timeouts: Timeouts,
    /// Shards as known at the start; [`crate::pools::Shards`] replaces them later.
    pub shards: Vec<ShardConfig>,
    /// The role the proxy uses for its own work (schema reads, recovery).
    pub admin: AdminConfig,
    /// What is observed of statements, and who is told.
    pub observe: ObserveConfig,
    /// Encryption.
    pub tls: TlsConfig,
    /// How replicas are watched and used.
    pub replicas: ReplicaConfig,
    /// What is blocked or rewritten.
    pub rules: std::sync::Arc<crate::rules::Rules>,
}

/// A Unix socket for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocketConfig {
    /// Where it lies; its name is made from the port.
    pub directory: std::path::PathBuf,
    /// Its access permissions, as in `chmod`.
    pub mode: u32,
}

/// Who may use the admin console. Its users log in like all others; when nobody may use it, there is none, and its
/// names are ordinary database names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsoleConfig {
    /// May use every command.
    pub admin_users: Vec<String>,
    /// May look: SHOW, without secrets.
    pub stats_users: Vec<String>,
}

/// Names of the database that is the console.
pub const CONSOLE_NAMES: [&str; 2] = ["drover", "pgbouncer"];

impl ConsoleConfig {
    /// There is a console.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.admin_users.is_empty() || !self.stats_users.is_empty()
    }

    /// A client that asks for this database wants the console.
    #[must_use]
    pub fn serves(&self, database: &str) -> bool {
        self.is_on() && CONSOLE_NAMES.contains(&database)
    }
}

impl ProxyConfig {
    /// Where this proxy takes cancels from other proxies: the address that clients reach it at, and a port that the
    /// system chooses; loopback when clients may come from anywhere, because all proxies of a file store are on one
    /// host.
    #[must_use]
    pub fn peer_listen(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            ip if !ip.is_unspecified() => ip,
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, 0)
    }
}

/// A client that may log in, and how Drover logs in to the servers in its name.
#[derive(Clone)]
pub struct UserConfig {
    /// Role name, the same for the client and on the servers.
    pub name: String,
    /// How the client proves who it is.
    pub auth: ClientAuth,
    /// What Drover presents to the servers; `None`: the client's password when it is known in clear, otherwise the
    /// SCRAM keys learnt at the client's login (the servers must hold the same verifier).
    pub server_password: Option<String>,
    /// What holds for this user instead of the general settings.
    pub limits: UserLimits,
}

/// How a client proves who it is.
#[derive(Clone)]
pub enum ClientAuth {
    /// A SCRAM-SHA-256 verifier in PostgreSQL's form, `SCRAM-SHA-256$4096:salt$stored:server`.
    Verifier(String),
    /// A password in clear; clients still log in by SCRAM, the verifier is made at the start.
    Password(String),
    /// `md5` and 32 hexadecimal digits, as in `pg_authid`: good for the methods `md5` and `password` only.
    Md5(String),
    /// No password fits: for methods that need none.
    None,
    /// No proof at all, whatever the method; for tests and trusted sockets.
    Trust,
}

impl std::fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserConfig")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The proxy's own role on the servers.
#[derive(Clone)]
pub struct AdminConfig {
    /// Role name; needs to read the catalogs and to finish prepared transactions.
    pub user: String,
    /// Its password on the servers.
    pub password: Option<String>,
}

impl std::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminConfig")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Bounds on what comes from outside.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest message accepted, in bytes. Longer ones end the session (PostgreSQL's own bound is 1 GiB).
    pub max_message_bytes: usize,
    /// Named prepared statements, and named portals, per client; 0: no limit.
    pub max_client_statements: usize,
    /// How long the outcomes of transactions over several shards are kept.
    pub outcome_retention: Duration,
    /// The longest startup packet, in bytes (PostgreSQL: 10,000).
    pub max_startup_bytes: usize,
    /// From accept to AuthenticationOk.
    pub login_timeout: Duration,
    /// Clients logged in or logging in.
    pub max_clients: usize,
    /// Clients logging in; further ones wait in the kernel's backlog.
    pub max_logins: usize,
    /// CancelRequests being delivered.
    pub max_cancels: usize,
    /// How long sessions may take to end after a shutdown was asked for.
    pub shutdown_timeout: Duration,
    /// Clients per database where the database says nothing else; 0: no limit.
    pub max_database_clients: usize,
    /// Server connections per database where the database says nothing else; 0: no limit.
    pub max_database_servers: usize,
    /// Clients per user where the user says nothing else; 0: no limit.
    pub max_user_clients: usize,
    /// Server connections per user where the user says nothing else; 0: no limit.
    pub max_user_servers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: (1 << 30) - 1,
            max_client_statements: 10_000,
            outcome_retention: Duration::from_secs(3600),
            max_startup_bytes: 10_000,
            login_timeout: Duration::from_secs(60),
            max_clients: 10_000,
            max_logins: 1_000,
            max_cancels: 256,
            shutdown_timeout: Duration::from_secs(10),
            max_database_clients: 0,
            max_database_servers: 0,
            max_user_clients: 0,
            max_user_servers: 0,
        }
    }
}

/// One shard's primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardConfig {
    /// The number by which plans name the shard.
    pub id: u32,
    /// The name people use.
    pub name: String,
    /// Host name, address, or a directory (starting with `/`) that holds the server's Unix socket.
    pub host: String,
    /// TCP port, or the number in the Unix socket's name.
    pub port: u16,
}

/// What is observed of statements, and who is told.
#[derive(Debug, Clone)]
pub struct ObserveConfig {
    /// Statements that `drover.queries` keeps per worker; 0: none.
    pub queries_max: usize,
    /// Requests that take this long are logged; zero: none.
    pub slow_query: Duration,
    /// Logged statements show their constants.
    pub slow_query_literals: bool,
    /// Every request is logged.
    pub log_statements: bool,
    /// Logins are logged.
    pub log_connections: bool,
    /// Ends of sessions are logged.
    pub log_disconnections: bool,
    /// Errors sent to clients are logged, without their messages.
    pub log_errors: bool,
    /// What pins sessions to server connections is logged.
    pub log_pins: bool,
    /// Log lines and spans carry the shard key of statements routed by one.
    pub log_tenants: bool,
    /// Where spans go; `None`: there are none.
    pub traces: Option<TraceConfig>,
}

/// Spans of statements.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// The collector.
    pub endpoint: crate::trace::Endpoint,
    /// The share of statements recorded whose client has not decided, from 0 to 1.
    pub sample_ratio: f64,
    /// What the proxy calls itself.
    pub service_name: String,
}

impl ObserveConfig {
    /// Some log line tells sessions apart.
    #[must_use]
    pub fn wants_sessions(&self) -> bool {
        !self.slow_query.is_zero()
            || self.log_statements
            || self.log_connections
            || self.log_disconnections
            || self.log_errors
            || self.log_pins
    }
}

impl Default for ObserveConfig {
    fn default() -> Self {
        Self {
            queries_max: 5000,
            slow_query: Duration::ZERO,
            slow_query_literals: false,
            log_statements: false,
            log_connections: false,
            log_disconnections: false,
            log_errors: false,
            log_pins: false,
            log_tenants: false,
            traces: None,
        }
    }
}
