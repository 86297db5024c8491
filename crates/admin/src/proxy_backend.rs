//! The [`Backend`] of a running proxy.
//!
//! Facts come from the snapshot that plans are made with. Rows are read through the proxy's own port, in the name of
//! the caller's role: permissions, row security, routing and limits are those of every other client.

mod errors;
mod lookup;
mod probe;
mod resolve;
mod sessions;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::{ShardId, Snapshot};
use topology::ClusterRecord;

use crate::api::{
    ApiError, Backend, BoxFuture, ErrorKind, Readiness, Reloaded, Resolved, Role, RowKey, no_configuration,
};
use probe::Probes;
use sessions::Sessions;

/// What the backend needs to know of the proxy it belongs to.
pub trait View: Send + Sync + 'static {
    /// Schema facts and sharding of the database served; `None` when there is no such database.
    fn facts(&self) -> Option<Arc<Snapshot>>;

    /// The cluster's shards and servers.
    fn cluster(&self) -> Arc<ClusterRecord>;

    /// Why the proxy takes no statements now; `None` when it does.
    fn not_serving(&self) -> Option<String>;

    /// Server connections to a shard that are lent to clients.
    fn active_connections(&self, shard: ShardId) -> BoxFuture<'_, usize>;

    /// What is required of connections to the servers of the shard with this name: libpq's `sslmode`.
    fn ssl_mode(&self, _shard: &str) -> &'static str {
        "disable"
    }

    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> BoxFuture<'_, String>;

    /// Reads the configuration again.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        Box::pin(std::future::ready(Err(no_configuration())))
    }
}

/// What a [`ProxyBackend`] is told at its start.
#[derive(Debug, Clone)]
pub struct ProxyBackendConfig {
    /// Where the proxy listens for PostgreSQL clients.
    pub proxy: SocketAddr,
    /// The directory of the Unix socket it also listens at, which is used instead: there nobody demands TLS.
    pub proxy_socket: Option<PathBuf>,
    /// The database served.
    pub database: String,
    /// Schemas in which a table without a schema is looked up.
    pub search_path: Vec<String>,
    /// Connections to the proxy per role.
    pub sessions_per_role: usize,
    /// The longest a request waits for one of them.
    pub checkout_timeout: Duration,
    /// The longest a login to the proxy may take.
    pub connect_timeout: Duration,
    /// Role named when a server is asked whether it answers. Nothing is done in its name.
    pub probe_user: String,
}

impl ProxyBackendConfig {
    /// The usual values.
    pub fn new(proxy: SocketAddr, database: impl Into<String>, probe_user: impl Into<String>) -> Self {
        Self {
            proxy,
            proxy_socket: None,
            database: database.into(),
            search_path: vec!["public".to_owned()],
            sessions_per_role: 4,
            checkout_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            probe_user: probe_user.into(),
        }
    }
}

/// Answers from a running proxy.
pub struct ProxyBackend {
    view: Arc<dyn View>,
    config: ProxyBackendConfig,
    probes: Probes,
    /// As many as there are roles in the HTTP side's configuration.
    sessions: Mutex<Vec<(Role, Arc<Sessions>)>>,
}

impl ProxyBackend {
    /// Connects to nothing yet.
    pub fn new(view: Arc<dyn View>, mut config: ProxyBackendConfig) -> Self {
        config.proxy.set_ip(reachable(config.proxy.ip()));
        let probes = Probes::new(&config.probe_user, &config.database);
        Self {
            view,
            config,
            probes,
            sessions: Mutex::default(),
        }
    }

    fn facts(&self) -> Result<Arc<Snapshot>, ApiError> {
        if let Some(reason) = self.view.not_serving() {
            return Err(ApiError::new(ErrorKind::Unavailable, reason));
        }
        self.view.facts().ok_or_else(|| {
            let message = format!("the database \"{}\" is not served", self.config.database);
            ApiError::new(ErrorKind::Unavailable, message)
        })
    }

    fn sessions(&self, role: &Role) -> Arc<Sessions> {
        let mut all = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sessions)) = all.iter().find(|(known, _)| known == role) {
            return Arc::clone(sessions);
        }
        let sessions = Arc::new(Sessions::new(&self.config, role));
        all.push((role.clone(), Arc::clone(&sessions)));
        sessions
    }

    async fn read_row(&self, role: &Role, key: &RowKey) -> Result<String, ApiError> {
        let facts = self.facts()?;
        let lookup = lookup::plan(&facts, &self.config.search_path, key)?;
        let found = self.sessions(role).rows(&lookup.sql, &key.values).await?;
        match found.as_slice() {
            [] => Err(ApiError::new(ErrorKind::NotFound, "there is no such row")),
            [row] => lookup.answer(&facts, &self.view.cluster(), row),
            _ => Err(ApiError::new(
                ErrorKind::Refused,
                "several rows of the table and its children have this key",
            )),
        }
    }

    async fn find(&self, key_type: &str, key: &str) -> Result<Resolved, ApiError> {
        let facts = self.facts()?;
        let shard = resolve::shard_of(&facts, key_type, key)?;
        let cluster = self.view.cluster();
        let active = self.view.active_connections(shard).await;
        let reachable = self
            .probes
            .recent(&cluster)
            .await
            .iter()
            .any(|(id, answer)| *id == shard && answer.is_ok());
        let mut found = resolve::answer(&cluster, shard, key, reachable, active)?;
        self.view
            .ssl_mode(&found.shard_id)
            .clone_into(&mut found.physical_connection.ssl_mode);
        Ok(found)
    }
}

impl Backend for ProxyBackend {
    fn resolve<'a>(&'a self, key_type: &'a str, key: &'a str) -> BoxFuture<'a, Result<Resolved, ApiError>> {
        Box::pin(self.find(key_type, key))
    }

    fn row<'a>(&'a self, role: &'a Role, key: &'a RowKey) -> BoxFuture<'a, Result<String, ApiError>> {
        Box::pin(self.read_row(role, key))
    }

    fn readiness(&self) -> BoxFuture<'_, Readiness> {
        Box::pin(async {
            let mut reasons: Vec<String> = self.view.not_serving().into_iter().collect();
            for (shard, answer) in self.probes.now(&self.view.cluster()).await.iter() {
                if let Err(reason) = answer {
                    reasons.push(format!("{shard}: {reason}", shard = self.shard_name(*shard)));
                }
            }
            Readiness { reasons }
        })
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        self.view.metrics()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        self.view.reload()
    }
}

impl ProxyBackend {
    fn shard_name(&self, shard: ShardId) -> String {
        shard_name(&self.view.cluster(), shard)
    }
}

/// The name people use for a shard.
fn shard_name(cluster: &ClusterRecord, shard: ShardId) -> String {
    cluster
        .shard(shard)
        .map_or_else(|| format!("shard {shard}"), |record| record.name.clone())
}

/// A listener on all addresses is reached over loopback.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
