//! Every option, declared once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::Secret;
use proxy::config::PoolMode;
use toml::de::DeValue;

use super::declare::{Section, SectionDoc, section};
use super::log_values::{LogFormat, LogLevel, Otlp, Ratio};
use super::node_values::Node;
use super::rule_values::{RuleDo, RuleMode};
use super::tls_values::{Protocol, TlsBegin, TlsBinding, TlsClientMode, TlsMinVersion, TlsServerMode};
use super::values::{AuthMethod, Bytes, FileMode, FromToml, Listen, Name, Password, Sql, Text};

/// All sections, in the order of the documentation.
pub(super) const SECTIONS: &[SectionDoc] = &[
    ProxySection::DOC,
    StoreSection::DOC,
    AdminSection::DOC,
    PoolSection::DOC,
    LimitsSection::DOC,
    TlsSection::DOC,
    ConsoleSection::DOC,
    LogSection::DOC,
    StatisticsSection::DOC,
    TracingSection::DOC,
    ReplicasSection::DOC,
    DatabaseSection::DOC,
    UserSection::DOC,
    AuthSection::DOC,
    CredentialSection::DOC,
    RuleSection::DOC,
    ShardSection::DOC,
];

section! {
    /// Where the proxy listens, and how it runs.
    ProxySection("proxy", repeated: false) {
        /// Where PostgreSQL clients connect. `["127.0.0.1:6432", "[::1]:6432"]`: several addresses.
        listen: Listen = "'127.0.0.1:6432'",
        /// Several proxies of this host listen at `listen` together, and the kernel spreads new clients over them; all must
        /// say so and run as the same user. For more clients than one process may open files. A proxy that ends takes
        /// the connections with it that it has not accepted yet, so replace it with `--takeover`.
        reuse_port: bool = "false",
        /// Directory of a Unix socket for clients, named `.s.PGSQL.<port>` as libpq expects. Left out: none.
        unix_socket_dir: Option<PathBuf>,
        /// Permissions of the Unix socket, in octal. Clients log in all the same.
        unix_socket_mode: FileMode = "'0777'",
        /// Unix socket on which this proxy hands its listening sockets to the one that replaces it (`--takeover`); the same
        /// in both configurations. Left out: `control-<id or port>.sock` in the store's directory.
        control_socket: Option<PathBuf>,
        /// How long a proxy that was replaced, or was told `SHUTDOWN WAIT_FOR_CLIENTS`, waits for its clients to leave before
        /// it ends their sessions. `0s`: for ever.
        drain_timeout: Duration = "'1h'",
        /// Where the HTTP API, metrics and health checks are.
        http: SocketAddr = "'127.0.0.1:6480'",
        /// Bearer token that HTTP requests must carry. Needed when `http` is not a loopback address.
        http_token: Option<Secret>,
        /// Worker threads. 0: one per core.
        workers: usize = "0",
        /// Clients that a worker takes before the next worker is used, unless its thread is busy (70 % of a core). Few
        /// clients are served more cheaply by one worker than by several. `1`: clients are always spread.
        clients_per_worker: usize = "64",
        /// Name of this proxy in the cluster, of letters, digits, `_`, `-` and `.`; no two running proxies may have the
        /// same. Left out: made from the host name, the process id and the time.
        id: Option<Name>,
    }
}

section! {
    /// Where cluster state (shards, sharded tables, shard maps) is kept. All proxies of a cluster use one store.
    StoreSection("store", repeated: false) {
        /// Kind of store. `file`: a directory, for any number of proxies on one host.
        kind: StoreKind = "'file'",
        /// Directory of the `file` store, made if missing. A relative path counts from the configuration file.
        path: PathBuf = "'drover-store'",
        /// A proxy that shows no sign of life for this long is cut off from the cluster: `1s` to `1m`. Changes of the schema and
        /// of shards wait this long for one that died; one on a stalled disk pauses after this long.
        lease_ttl: Duration = "'3s'",
    }
}

section! {
    /// Drover's own role on the servers: it reads schemas, moves rows and finishes prepared transactions.
    AdminSection("admin", repeated: false) {
        /// Role name; a superuser on every server.
        user: Name,
        /// Its password.
        password: Secret,
    }
}

section! {
    /// Server connections, per shard, user and database, for the whole proxy.
    PoolSection("pool", repeated: false) {
        /// How long a client keeps a server connection: `session` (until it leaves), `transaction` or `statement`
        /// (transaction blocks are refused). Databases and users may have their own.
        pool_mode: PoolMode = "'transaction'",
        /// Connections for transactions. Databases and users may have their own number.
        pool_size: usize = "20",
        /// Connections that are opened at the start, for the listed users in the listed databases on every shard, and kept
        /// open, also for users who are learnt of later. At most `pool_size`.
        min_pool_size: usize = "0",
        /// Connections beyond `pool_size` for when a client has waited `reserve_pool_timeout`.
        reserve_pool: usize = "0",
        /// How long the first in the queue waits before `reserve_pool` is touched.
        reserve_pool_timeout: Duration = "'5s'",
        /// Connections of all pools together. 0: no limit. Connections for further shards of a transaction and Drover's
        /// own are not counted.
        max_server_connections: usize = "0",
        /// Transactions over several shards that may run at once; so many further connections are kept for their
        /// second, third, … shard.
        multi_shard_pool: usize = "10",
        /// Clients that may wait for a connection; one more is refused with 53300.
        queue_limit: usize = "10000",
        /// The longest a transaction waits for a connection.
        connection_timeout: Duration = "'10s'",
        /// The longest a login to a server may take.
        connect_timeout: Duration = "'5s'",
        /// Idle connections are closed after this. `0s`: never.
        idle_timeout: Duration = "'10m'",
        /// Connections are closed after this, when no transaction uses them. `0s`: never.
        max_lifetime: Duration = "'1h'",
        /// A connection that was idle for longer is asked `server_check_query` before it is used. `0s`: never.
        server_check_delay: Duration = "'30s'",
        /// What it is asked. Empty: an empty query, which a server answers without running anything.
        server_check_query: Text = "''",
        /// Host names of servers are looked up again after this; when a server moved, its old connections are closed.
        /// `0s`: names are looked up for new connections only.
        dns_max_ttl: Duration = "'15s'",
        /// The newest protocol version asked for: `3.0`, or `3.2`, which gives servers from PostgreSQL 18 on longer cancel keys;
        /// older servers answer that they speak 3.0.
        server_protocol: Protocol = "'3.0'",
    }
}

section! {
    /// Bounds on what clients may ask for.
    LimitsSection("limits", repeated: false) {
        /// Clients at once; one more is refused with 53300.
        max_clients: usize = "10000",
        /// Clients of one database at once, where the database says nothing else. 0: no limit.
        max_db_client_connections: usize = "0",
        /// Server connections of one database, where the database says nothing else. 0: no limit.
        max_db_connections: usize = "0",
        /// Clients of one user at once, where the user says nothing else. 0: no limit.
        max_user_client_connections: usize = "0",
        /// Server connections of one user, where the user says nothing else. 0: no limit.
        max_user_connections: usize = "0",
        /// A statement that takes longer is cancelled (57014). `0s`: never. The time in the queue counts.
        query_timeout: Duration = "'0s'",
        /// A session whose transaction takes longer is ended (25P04). `0s`: never.
        transaction_timeout: Duration = "'0s'",
        /// A session that stays silent for longer inside a transaction is ended (25P03). `0s`: never.
        idle_transaction_timeout: Duration = "'0s'",
        /// A session that stays silent for longer outside a transaction is ended (57P05). `0s`: never.
        client_idle_timeout: Duration = "'0s'",
        /// The longest message of a client.
        max_message_bytes: Bytes = "'1023MiB'",
        /// The longest a client may take to log in.
        login_timeout: Duration = "'60s'",
        /// The most that one statement may collect from several shards before PostgreSQL finishes it.
        gather_max_bytes: Bytes = "'64MiB'",
        /// Prepared statements with a name, and portals with a name, that a client may have at once; further ones are
        /// refused with `53400`. 0: no limit.
        max_client_statements: usize = "10000",
        /// How long it is kept whether a transaction over several shards was committed, for `drover.transaction_status`; at
        /// least `1m`. The proxy of the cluster with the shortest time deletes it. Clocks of proxies and servers may differ by less.
        outcome_retention: Duration = "'1h'",
    }
}

section! {
    /// Encryption, of connections from clients and of those to servers. All files are PEM and are read again when the
    /// configuration is reloaded; relative paths count from the configuration file.
    TlsSection("tls", repeated: false) {
        /// What clients may and must do. `disable`: TLS is not offered. `allow`, `prefer`: the client chooses. `require`: only
        /// over TLS. `verify-ca`: and with a certificate of an authority in `client_ca`. `verify-full`: and its common name
        /// is the user's name.
        client_mode: TlsClientMode = "'disable'",
        /// The proxy's certificate, followed by those between it and its authority.
        client_cert: Option<PathBuf>,
        /// The certificate's key.
        client_key: Option<PathBuf>,
        /// Authorities of clients' certificates. With it, clients are asked for a certificate.
        client_ca: Option<PathBuf>,
        /// The oldest version accepted from clients.
        client_min_version: TlsMinVersion = "'1.2'",
        /// What connections to servers must be, as libpq's `sslmode`. Connections by Unix sockets are never encrypted.
        server_mode: TlsServerMode = "'disable'",
        /// Authorities of servers' certificates. With `require`, the chain is then verified too.
        server_ca: Option<PathBuf>,
        /// Certificate shown to servers that ask for one.
        server_cert: Option<PathBuf>,
        /// Its key.
        server_key: Option<PathBuf>,
        /// The oldest version spoken with servers.
        server_min_version: TlsMinVersion = "'1.2'",
        /// How TLS begins, as libpq's `sslnegotiation`: `postgres` asks first, `direct` (PostgreSQL 17 and later, and a mode of
        /// `require` or stricter) saves a round trip.
        server_negotiation: TlsBegin = "'postgres'",
        /// Whether logins to servers are bound to the encrypted connection (SCRAM-SHA-256-PLUS): `prefer` when the server
        /// offers it, `require` or not at all, `disable`.
        server_channel_binding: TlsBinding = "'prefer'",
    }
}

section! {
    /// The admin console: the database `drover`, or `pgbouncer`, on the ordinary port. There is one when somebody may use
    /// it. Its users log in as everywhere else.
    ConsoleSection("console", repeated: false) {
        /// Users that may use every command.
        admin_users: Vec<Name> = "[]",
        /// Users that may look (`SHOW`).
        stats_users: Vec<Name> = "[]",
    }
}

section! {
    /// What is written to standard error. Statements appear without their constants.
    LogSection("log", repeated: false) {
        /// How lines look.
        format: LogFormat = "'text'",
        /// Events of this level and graver ones are logged; the environment variable `DROVER_LOG` is stronger. What the
        /// options below ask for is logged at every level.
        level: LogLevel = "'warn'",
        /// Requests that take at least this long are logged. `0s`: none.
        slow_query: Duration = "'0s'",
        /// Logged statements show their constants. They are user data.
        slow_query_literals: bool = "false",
        /// Every request is logged. It costs a line each.
        statements: bool = "false",
        /// Logins are logged.
        connections: bool = "false",
        /// Ends of sessions are logged.
        disconnections: bool = "false",
        /// Errors and refusals sent to clients are logged, by code; their messages quote data and are left out.
        errors: bool = "false",
        /// What pins sessions to server connections is logged.
        pins: bool = "false",
        /// Lines and spans of statements that are routed by one shard key carry it as `tenant`. It is user data.
        tenants: bool = "false",
    }
}

section! {
    /// Statistics of statements.
    StatisticsSection("statistics", repeated: false) {
        /// Statements that `drover.queries` keeps, per worker; the least recently used make room. 0: it is off.
        queries: usize = "5000",
    }
}

section! {
    /// Traces of statements for OpenTelemetry. A statement joins the trace of its client when a comment at its end or
    /// start carries a `traceparent`.
    TracingSection("tracing", repeated: false) {
        /// A collector that takes OTLP over HTTP with JSON (port 4318 by default, path `/v1/traces`). Left out: no spans.
        otlp_endpoint: Option<Otlp>,
        /// The share of requests recorded whose client carries no `traceparent`; with one, the client has decided.
        sample_ratio: Ratio = "0.01",
        /// The name under which spans are shown.
        service_name: Text = "'drover'",
    }
}

section! {
    /// A database that clients may connect to. It must exist on every shard.
    DatabaseSection("databases", repeated: true) {
        /// Name that clients use. `*`: every database of the servers that is there when the proxy starts and has no
        /// entry of its own.
        name: Name,
        /// Name on the servers. Left out: the same.
        dbname: Option<Name>,
        /// Role on the servers for all clients of this database, one of the `[[users]]`. Left out: the client's own.
        user: Option<Name>,
        /// Instead of `pool.pool_mode`.
        pool_mode: Option<PoolMode>,
        /// Instead of `pool.pool_size`.
        pool_size: Option<usize>,
        /// Instead of `pool.min_pool_size`.
        min_pool_size: Option<usize>,
        /// Instead of `pool.reserve_pool`.
        reserve_pool: Option<usize>,
        /// Server connections of this database, all users and shards together. 0: no limit.
        max_connections: Option<usize>,
        /// Clients of this database at once. 0: no limit.
        max_client_connections: Option<usize>,
    }
}

section! {
    /// A user that may log in. The role must exist on every shard.
    UserSection("users", repeated: true) {
        /// Name, the same for clients and on the servers.
        name: Name,
        /// What the client must know. Left out: no password fits, which is for methods that need none.
        password: Option<Password>,
        /// What Drover presents to the servers. Left out: the password; if that is a verifier, the keys that the client's
        /// own login has shown, for which the role must have the same verifier on every server.
        server_password: Option<Secret>,
        /// Instead of the database's `pool_mode`.
        pool_mode: Option<PoolMode>,
        /// Instead of the database's `pool_size`.
        pool_size: Option<usize>,
        /// Instead of the database's `min_pool_size`.
        min_pool_size: Option<usize>,
        /// Instead of the database's `reserve_pool`.
        reserve_pool: Option<usize>,
        /// Server connections of this user, all databases and shards together. 0: no limit.
        max_user_connections: Option<usize>,
        /// Clients of this user at once. 0: no limit.
        max_user_client_connections: Option<usize>,
        /// Instead of `limits.query_timeout`.
        query_timeout: Option<Duration>,
        /// Instead of `limits.transaction_timeout`.
        transaction_timeout: Option<Duration>,
        /// Instead of `limits.idle_transaction_timeout`.
        idle_transaction_timeout: Option<Duration>,
        /// Instead of `limits.client_idle_timeout`.
        client_idle_timeout: Option<Duration>,
    }
}

section! {
    /// How clients prove who they are, and where users come from that have no `[[users]]`.
    AuthSection("auth", repeated: false) {
        /// What is asked of every client when there is no `hba_file`: `scram-sha-256`, `md5` (SCRAM where the stored
        /// password is a SCRAM verifier), `password`, `cert`, `peer`, `trust` or `reject`.
        method: AuthMethod = "'scram-sha-256'",
        /// Rules in the format of `pg_hba.conf`; where there is a file, only it decides. A relative path counts from the
        /// configuration file.
        hba_file: Option<PathBuf>,
        /// User name maps in the format of `pg_ident.conf`, for the option `map` of rules in `hba_file`.
        ident_file: Option<PathBuf>,
        /// Further users in the format of PgBouncer's `auth_file`: lines of `"user" "password or md5 or verifier"`.
        auth_file: Option<PathBuf>,
        /// How to look up all other users, on the home shard: a query with the parameter `$1` that gives the user's name
        /// and its stored password. `search_path` is `pg_catalog`.
        auth_query: Option<Sql>,
        /// The role that runs `auth_query`. Left out: the one of `[admin]`.
        auth_user: Option<Name>,
        /// Its password.
        auth_password: Option<Secret>,
        /// The database in which `auth_query` runs. Left out: the first of `[[databases]]`.
        auth_dbname: Option<Name>,
        /// How long an answer of `auth_query` is used. A wrong password, a reload and the end of the password's validity
        /// end it before.
        auth_query_ttl: Duration = "'60s'",
        /// How long it is remembered that a user does not exist.
        auth_query_negative_ttl: Duration = "'5s'",
        /// The longest `auth_query` may take.
        auth_query_timeout: Duration = "'5s'",
        /// Users remembered at most.
        auth_query_users: usize = "10000",
    }
}

section! {
    /// What Drover presents to one shard, or to those without a credential of their own, in the name of a user.
    CredentialSection("credentials", repeated: true) {
        /// The client's user.
        user: Name,
        /// The shard. Left out: every shard without a credential of its own for this user.
        shard: Option<Name>,
        /// The role on the shard. Left out: named like the client's user.
        server_user: Option<Name>,
        /// Its password. Left out: the shard must not ask for one.
        password: Option<Secret>,
    }
}

section! {
    /// What becomes of statements of one shape: they are blocked, or others run in their place. The first rule that fits a
    /// statement decides. No client can be kept from data by this: the same can be asked in other words.
    RuleSection("rules", repeated: true) {
        /// What `drover.rules`, `SHOW RULES`, the metric and the error call it.
        name: Name,
        /// A statement of the shape: constants and parameters stand for all constants and parameters, as does `?`. What
        /// `drover.queries` shows of a statement fits.
        statement: Sql,
        /// Only statements of this role. Left out: all.
        user: Option<Name>,
        /// Only statements in this database, by its name on the servers. Left out: all.
        database: Option<Name>,
        /// `block`, or `rewrite` into what `rewrite` says.
        action: RuleDo = "'block'",
        /// What runs instead; `$n` is what stands in the place of the n-th constant or `?` of `statement`.
        rewrite: Option<Sql>,
        /// The error of what is blocked.
        message: Option<Text>,
        /// Its SQLSTATE. Left out: `0A000`, with the code `DRV7173`.
        sqlstate: Option<Text>,
        /// `enforce`, or `dry-run`: hits are counted, and nothing else happens.
        mode: RuleMode = "'enforce'",
    }
}

section! {
    /// How the servers of the shards are watched, and which replicas get reads.
    ReplicasSection("replicas", repeated: false) {
        /// Pause between two looks at a server: a promoted replica is found within this time and two round trips.
        poll_interval: Duration = "'500ms'",
        /// A look that takes longer is given up; a server that leaves two of them unanswered is taken for dead. To a
        /// primary that leaves one unanswered, while another server of the shard answers, no new statements are sent.
        poll_timeout: Duration = "'1s'",
        /// A replica that leaves a look unanswered for this long gets no reads until it answers. A read that has waited
        /// for its answer as long asks for a look; if the replica hangs it runs elsewhere. `0s`: only when the replica is
        /// taken for dead.
        hang_timeout: Duration = "'250ms'",
        /// Standbys that the primary streams to (`pg_stat_replication`) become servers of the shard although they are not
        /// configured. Each must say where it listens, by `application_name=host:port` in its `primary_conninfo`, or listen
        /// on the primary's port at the address it connects from; logins are the same as on the others. Whoever may
        /// replicate from the primary decides then where Drover logs in.
        discover: bool = "false",
        /// A replica whose data are older gets no reads, until they are half as old. `0s`: no limit.
        max_lag: Duration = "'30s'",
        /// A replica that is further behind gets no reads, until it is half as far behind. `0`: no limit.
        max_lag_bytes: Bytes = "0",
        /// So many replicas of each shard get reads although they are too far behind, the least late ones first; with `0`
        /// those reads go to the primary.
        keep: usize = "0",
        /// A replica that comes back gets its full share after this time.
        slow_start: Duration = "'10s'",
        /// Failures in a row (no connection, a connection that breaks) after which a replica gets no reads for a while.
        max_failures: usize = "3",
        /// How long that is the first time; it doubles each time, up to 30 seconds.
        failure_pause: Duration = "'1s'",
        /// How long statements that were not sent yet wait for a server that is away: restarted, or being replaced by
        /// another one. Left out: `connection_timeout`.
        failover_buffer: Option<Duration>,
        /// Statements that may wait for it, per worker, user and database; one more is refused with 53300.
        failover_buffer_statements: usize = "10000",
        /// Where this proxy stands: replicas of the same `zone` are preferred. Left out: no zone is.
        zone: Option<Name>,
        /// Functions, each as `"schema.function"` with all overloads, whose calls do not keep a statement on the primary
        /// although PostgreSQL has them as volatile: they write nothing, and what they tell is the same everywhere.
        safe_functions: Vec<Text> = "[]",
    }
}

section! {
    /// A shard: one primary and its replicas. The first one is the home shard, which holds the unsharded tables.
    ShardSection("shards", repeated: true) {
        /// Name, such as `shard_1`. It stays with the shard's data for ever.
        name: Name,
        /// The server that takes writes when the cluster is made. Drover finds out who takes writes; this one is believed
        /// until it was asked.
        primary: Node,
        /// Servers that follow the primary. Reads that may go to replicas are shared by `weight` (0: none for this one);
        /// those of the proxy's own `zone` are preferred.
        replicas: Vec<Node> = "[]",
        /// Encryption of connections to these servers, instead of `server_mode` in `[tls]`.
        tls_mode: Option<TlsServerMode>,
        /// Authorities of these servers' certificates, instead of `server_ca` in `[tls]`.
        tls_ca: Option<PathBuf>,
    }
}

impl FromToml for PoolMode {
    const KIND: &'static str = "\"session\", \"transaction\" or \"statement\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("session") => Ok(PoolMode::Session),
            Some("transaction") => Ok(PoolMode::Transaction),
            Some("statement") => Ok(PoolMode::Statement),
            _ => Err("must be \"session\", \"transaction\" or \"statement\"".to_owned()),
        }
    }
}

/// Kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory.
    File,
}

impl FromToml for StoreKind {
    const KIND: &'static str = "\"file\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("file") => Ok(StoreKind::File),
            _ => Err("the only kind of store is \"file\"".to_owned()),
        }
    }
}
