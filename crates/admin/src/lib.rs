//! Drover over HTTP: which shard a key is on, one row by its primary key, health, readiness and metrics.
//!
//! [`serve`] is the HTTP side: limits, tokens, paths, status codes. It knows nothing of PostgreSQL and asks a
//! [`Backend`]. [`ProxyBackend`] is the one Drover uses: facts from the cluster's snapshot, rows by SQL through the
//! proxy's own port, so that a row over HTTP is what any client of that role would read.
//!
//! What this crate does not do: it never talks to a shard's data past the proxy, and it decides no routing.

mod api;
mod auth;
mod listen;
mod path;
pub mod proxy_backend;
mod router;
mod serve;

pub use api::{
    ApiError, Backend, BoxFuture, ErrorKind, PhysicalConnection, Readiness, Reloaded, Resolved, Role, RowKey,
};
pub use auth::Token;
pub use proxy_backend::ProxyBackend;
pub use router::router;
pub use serve::{HttpConfig, HttpLimits, serve};
