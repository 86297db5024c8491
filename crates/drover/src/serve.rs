//! A proxy with its HTTP side: what `drover dev` and `drover proxy` have in common.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use admin::proxy_backend::{ProxyBackendConfig, View};
use admin::{ApiError, BoxFuture, ErrorKind, HttpConfig, ProxyBackend, Reloaded};
use catalog::{ShardId, Snapshot};
use proxy::cluster::{Cluster, ServeDatabases};
use proxy::config::ProxyConfig;
use proxy::reload::ReloadError;
use proxy::sockets::Sockets;
use proxy::worker::Shared;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use topology::{ClusterRecord, ProxyId, TopologyStore};

use crate::terminal::say;

/// Everything a proxy is told at its start.
pub struct Plan {
    /// The proxy's own part.
    pub proxy: ProxyConfig,
    /// Where cluster state is kept.
    pub store: Arc<dyn TopologyStore>,
    /// The proxy's name in the cluster.
    pub id: ProxyId,
    /// The cluster's first record, for a store that holds none.
    pub cluster: ClusterRecord,
    /// Rows gathered for one statement may take this many bytes.
    pub gather_bytes_max: usize,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Sockets that are open already.
    pub handed: Handed,
    /// Who may do what over HTTP.
    pub http_access: HttpConfig,
}

/// Sockets that somebody else has opened.
#[derive(Debug, Default)]
pub struct Handed {
    /// Where clients connect; `None`: they are made.
    pub sockets: Option<Sockets>,
    /// Where HTTP is served; `None`: it is made.
    pub http: Option<std::net::TcpListener>,
}

/// Why no proxy was started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address of the HTTP side cannot be listened on.
    #[error("cannot listen on {address} for HTTP")]
    Http {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The proxy did not start.
    #[error(transparent)]
    Proxy(#[from] proxy::RunningError),
    /// A thread failed.
    #[error("the start was interrupted")]
    Interrupted,
}

/// A running proxy with its HTTP side.
pub struct Serving {
    running: proxy::Running,
    http: SocketAddr,
    http_socket: Option<std::net::TcpListener>,
    stop_http: watch::Sender<bool>,
    serving_http: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// Starts both; clients can connect when it returns.
    pub async fn start(plan: Plan) -> Result<Serving, ServeError> {
        let address = plan.http;
        let failed = |source| ServeError::Http { address, source };
        // Before the proxy, whose start takes longer and shows itself to the cluster.
        let listener = match plan.handed.http {
            Some(socket) => {
                socket.set_nonblocking(true).map_err(failed)?;
                socket
            }
            None => TcpListener::bind(address)
                .await
                .and_then(TcpListener::into_std)
                .map_err(failed)?,
        };
        // Once more, for the proxy that may replace this one.
        let http_socket = listener.try_clone().map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let http = listener.local_addr().map_err(failed)?;
        let first = plan.proxy.databases.first();
        let database = first.map(|entry| entry.name.clone()).unwrap_or_default();
        let on_servers = first.map_or(String::new(), |entry| entry.server_name().to_owned());
        let probe_user = plan.proxy.admin.user.clone();
        let socket = plan.proxy.unix_socket.as_ref();
        let proxy_socket = socket.map(|socket| socket.directory.clone());
        let starting = tokio::task::spawn_blocking(move || {
            proxy::start(
                plan.proxy,
                plan.store,
                plan.id,
                plan.cluster,
                plan.gather_bytes_max,
                plan.handed.sockets,
            )
        });
        let running = starting.await.map_err(|_| ServeError::Interrupted)??;
        let view = ProxyView {
            cluster: Arc::clone(running.cluster()),
            shared: Arc::clone(running.shared()),
            database: on_servers,
        };
        let backend = ProxyBackendConfig {
            proxy_socket,
            ..ProxyBackendConfig::new(running.address(), database, probe_user)
        };
        let backend = Arc::new(ProxyBackend::new(Arc::new(view), backend));
        let (stop_http, mut stopping) = watch::channel(false);
        let stopped = async move {
            // An error means that the sender is gone, which asks for the same.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let serving_http = tokio::spawn(admin::serve(listener, backend, plan.http_access, stopped));
        Ok(Serving {
            running,
            http,
            http_socket: Some(http_socket),
            stop_http,
            serving_http,
        })
    }

    /// Where clients connect; the first address if there are several.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared().addresses()
    }

    /// The socket of HTTP, for whoever may hand it over; once.
    pub fn take_http_socket(&mut self) -> Option<std::net::TcpListener> {
        self.http_socket.take()
    }

    /// HTTP ends here: another process serves it.
    pub fn leave_http(&self) {
        // It has ended already if nobody listens.
        let _ = self.stop_http.send(true);
    }

    /// What the proxy's workers share.
    pub fn shared(&self) -> &Arc<Shared> {
        self.running.shared()
    }

    /// Adds databases to those that are served.
    pub fn databases(&self) -> ServeDatabases {
        self.running.databases()
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Ends all sessions (57P01 to their clients) as soon as their transactions have ended, then HTTP, and leaves the
    /// cluster. HTTP lasts as long as sessions do, so that a load balancer sees the proxy's last state.
    pub async fn shutdown(self) {
        let running = self.running;
        if tokio::task::spawn_blocking(move || running.shutdown())
            .await
            .is_err()
        {
            say!("the proxy did not end as it should");
        }
        // It has ended already if nobody listens.
        let _ = self.stop_http.send(true);
        if let Ok(Err(error)) = self.serving_http.await {
            say!("HTTP ended: {error}");
        }
    }
}

/// What the HTTP side sees of the proxy.
struct ProxyView {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    database: String,
}

impl View for ProxyView {
    fn facts(&self) -> Option<Arc<Snapshot>> {
        self.cluster.facts(&self.database)
    }

    fn cluster(&self) -> Arc<ClusterRecord> {
        self.cluster.record()
    }

    fn not_serving(&self) -> Option<String> {
        if self.shared.is_stopping() {
            return Some("the proxy shuts down".to_owned());
        }
        (!self.cluster.is_valid()).then(|| "the proxy has lost touch with the cluster".to_owned())
    }

    fn active_connections(&self, shard: ShardId) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            let pools = self.shared.pool_stats().await;
            let of_shard = pools.iter().filter(|pool| pool.key.place.shard == shard.0);
            of_shard.map(|pool| pool.stats.leased).sum()
        })
    }

    fn ssl_mode(&self, shard: &str) -> &'static str {
        self.cluster.tls.server(shard).mode.as_str()
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(self.shared.prometheus())
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // It reads files. Once begun it is finished, whether or not the caller waits.
            let report = tokio::task::spawn_blocking(move || shared.reload()).await;
            let report = report
                .map_err(|_| ApiError::new(ErrorKind::Internal, "the reload failed"))?
                .map_err(|error| {
                    let kind = match error {
                        ReloadError::NoConfiguration => ErrorKind::Refused,
                        ReloadError::Wrong(_) => ErrorKind::Internal,
                    };
                    ApiError::new(kind, error.to_string())
                })?;
            Ok(Reloaded {
                applied: report.applied,
                needs_restart: report.needs_restart,
                warnings: report.warnings,
            })
        })
    }
}
