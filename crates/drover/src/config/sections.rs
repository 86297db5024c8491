//! Every option, declared once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent::Secret;
use toml::de::DeValue;

use super::declare::{Section, SectionDoc, section};
use super::values::{Bytes, FromToml, HostPort, Name, Password};

/// All sections, in the order of the documentation.
pub(super) const SECTIONS: &[SectionDoc] = &[
    ProxySection::DOC,
    StoreSection::DOC,
    AdminSection::DOC,
    PoolSection::DOC,
    LimitsSection::DOC,
    DatabaseSection::DOC,
    UserSection::DOC,
    ShardSection::DOC,
];

section! {
    /// Where the proxy listens, and how it runs.
    ProxySection("proxy", repeated: false) {
        /// Where PostgreSQL clients connect.
        listen: SocketAddr = "'127.0.0.1:6432'",
        /// Where the HTTP API, metrics and health checks are.
        http: SocketAddr = "'127.0.0.1:6480'",
        /// Bearer token that HTTP requests must carry. Needed when `http` is not a loopback address.
        http_token: Option<Secret>,
        /// Worker threads. 0: one per core.
        workers: usize = "0",
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
        /// A proxy that shows no sign of life for this long is cut off from the cluster.
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
        /// Connections for transactions.
        pool_size: usize = "20",
        /// Transactions over several shards that may run at once; so many further connections are kept for their
        /// second, third, … shard.
        reserve_pool: usize = "10",
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
    }
}

section! {
    /// Bounds on what clients may ask for.
    LimitsSection("limits", repeated: false) {
        /// Clients at once; one more is refused with 53300.
        max_clients: usize = "10000",
        /// The longest message of a client.
        max_message_bytes: Bytes = "'1023MiB'",
        /// The longest a client may take to log in.
        login_timeout: Duration = "'60s'",
        /// The most that one statement may collect from several shards before PostgreSQL finishes it.
        gather_max_bytes: Bytes = "'64MiB'",
    }
}

section! {
    /// A database that clients may connect to. It must exist on every shard.
    DatabaseSection("databases", repeated: true) {
        /// Name, the same for clients and on the servers.
        name: Name,
    }
}

section! {
    /// A user that may log in. The role must exist on every shard.
    UserSection("users", repeated: true) {
        /// Name, the same for clients and on the servers.
        name: Name,
        /// What the client must know.
        password: Password,
        /// What Drover presents to the servers. Left out: the password; if that is a verifier, the keys that the client's
        /// own login has shown, for which the role must have the same verifier on every server.
        server_password: Option<Secret>,
    }
}

section! {
    /// A shard: one primary and its replicas. The first one is the home shard, which holds the unsharded tables.
    ShardSection("shards", repeated: true) {
        /// Name, such as `shard_1`. It stays with the shard's data for ever.
        name: Name,
        /// The server that takes writes.
        primary: HostPort,
        /// Servers that follow the primary, each `"host:port"`.
        replicas: Vec<HostPort> = "[]",
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
