//! What the HTTP side asks for, and what it is told.

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

/// A boxed future, so that [`Backend`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers the requests that passed the HTTP side's checks.
///
/// Each future may be dropped at any time (the request's time is up, its client is gone) and must then free what it
/// holds.
pub trait Backend: Send + Sync + 'static {
    /// The shard of a key. `key_type` is the name of the shard-key column, `key` its value as PostgreSQL prints it.
    fn resolve<'a>(&'a self, key_type: &'a str, key: &'a str) -> BoxFuture<'a, Result<Resolved, ApiError>>;

    /// One row by its primary key, read in the name of a role: its JSON, `shard_routing_metadata` included.
    fn row<'a>(&'a self, role: &'a Role, key: &'a RowKey) -> BoxFuture<'a, Result<String, ApiError>>;

    /// Whether clients can be served now.
    fn readiness(&self) -> BoxFuture<'_, Readiness>;

    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> BoxFuture<'_, String>;

    /// Reads the configuration again and says what came of it.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        Box::pin(std::future::ready(Err(no_configuration())))
    }
}

/// There is no file to read again.
pub(crate) fn no_configuration() -> ApiError {
    ApiError::new(ErrorKind::Refused, "there is no configuration to read again")
}

/// What reading the configuration again has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Reloaded {
    /// Options (`[section] option`) that changed and are in force now.
    pub applied: Vec<String>,
    /// Options that changed in the file and will be in force after a restart only.
    pub needs_restart: Vec<String>,
    /// What is odd and not wrong.
    pub warnings: Vec<String>,
}

/// The role in whose name a row is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Role {
    /// Name.
    pub user: String,
    /// Password, when the proxy asks this role for one.
    pub password: Option<String>,
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Which row: names and values exactly as they are in the database, not as SQL writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowKey {
    /// Schema, if named.
    pub schema: Option<String>,
    /// Table.
    pub table: String,
    /// Values of the primary key's columns in its order, as text.
    pub values: Vec<String>,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The key asked for.
    pub shard_key: String,
    /// Name of its shard.
    pub shard_id: String,
    /// The shard's servers.
    pub physical_connection: PhysicalConnection,
    /// `active`, or `unreachable` when the shard's primary does not answer.
    pub status: String,
    /// Server connections to the shard that are in use by this proxy's clients.
    pub active_connections: usize,
}

/// The servers of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhysicalConnection {
    /// Host name, address, or the directory of a Unix socket.
    pub primary_host: String,
    /// Port.
    pub primary_port: u16,
    /// `host:port` of each replica.
    pub replica_hosts: Vec<String>,
    /// How Drover connects to them, in the words of libpq.
    pub ssl_mode: String,
}

/// Whether clients can be served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
}

/// What kind of failure; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// 400: the request, or the key in it, is not valid.
    BadRequest,
    /// 401: no token, or an unknown one.
    Unauthorized,
    /// 403: the role may not read this.
    Forbidden,
    /// 404: no such row, table or path.
    NotFound,
    /// 405: the path is right, the method is not.
    MethodNotAllowed,
    /// 413: the body is too long.
    TooLarge,
    /// 429: over a limit.
    TooManyRequests,
    /// 500: a defect, or a configuration that cannot work.
    Internal,
    /// 501: Drover refuses the statement that would answer this.
    Refused,
    /// 503: a shard is down or saturated, or the time is up.
    Unavailable,
}

/// A failed request. The message is shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Kind.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// SQLSTATE, when a server or the proxy gave one.
    pub sqlstate: Option<String>,
}

impl ApiError {
    /// An error without SQLSTATE.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            sqlstate: None,
        }
    }

    /// The same error with a SQLSTATE.
    #[must_use]
    pub fn with_sqlstate(mut self, sqlstate: impl Into<String>) -> Self {
        self.sqlstate = Some(sqlstate.into());
        self
    }
}
