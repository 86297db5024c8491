//! The control thread of a proxy: sets the cluster up, follows the store, loads facts, recovers transactions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use catalog::ShardId;
use tokio::sync::{oneshot, watch};
use topology::change::{SetupError, ensure_cluster};
use topology::{ClusterRecord, Membership, MembershipError, PeerWatch, ProxyId, StoreError, TopologyStore};

use super::follow::{Follower, Workers};
use super::{Cluster, ServeDatabases, ServeError, collection, databases, recovery, snapshots};
use crate::admin_link::AdminError;
use crate::cancel;
use crate::config::ProxyConfig;
use crate::nodes;
use crate::ops::guards;
use crate::tls::{Tls, TlsError};
use crate::worker::Shared;

/// How often prepared transactions are looked for when nobody asks.
const RECOVERY_EVERY: Duration = Duration::from_secs(15);

/// How often while some were seen that are not decided.
const RECOVERY_SOON: Duration = Duration::from_secs(1);

/// Why a proxy cannot take part in the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store and the configuration disagree, or the store does not work.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The proxy cannot register.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard cannot be prepared or read.
    #[error(transparent)]
    Databases(#[from] ServeError),
    /// The facts cannot be loaded.
    #[error("shard {shard}, database {database}: {source}")]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// Which database.
        database: String,
        /// What is wrong.
        source: AdminError,
    },
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The thread could not be started or died.
    #[error("the control thread failed: {0}")]
    Thread(String),
}

/// How long an operation of the store may keep the proxy from ending.
const KEEPER_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The control thread.
pub struct Control {
    /// The cluster as sessions see it.
    pub cluster: Arc<Cluster>,
    /// Adds databases.
    pub databases: ServeDatabases,
    /// Told once the workers exist, so that address changes reach them.
    shared: watch::Sender<Option<Arc<Shared>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Sets the cluster up and starts to follow it. Blocks until sessions can be served.
pub fn start(
    store: Arc<dyn TopologyStore>,
    proxy: ProxyId,
    wanted: ClusterRecord,
    config: &ProxyConfig,
    gather_bytes_max: usize,
) -> Result<Control, ControlError> {
    let config = config.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (shared, workers) = watch::channel(None);
    let (databases, adding) = ServeDatabases::new();
    let watching = workers.clone();
    let peer_listen = config.peer_listen();
    let thread = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(ControlError::Thread(error.to_string())));
                    return;
                }
            };
            let keeper = match LeaseKeeper::start() {
                Ok(keeper) => keeper,
                Err(error) => {
                    let _ = ready.send(Err(ControlError::Thread(error.to_string())));
                    return;
                }
            };
            let leases = keeper.runtime.clone();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let keeping = Arc::clone(&store);
                match set_up(store, proxy, wanted, &config, gather_bytes_max, workers, leases).await {
                    Ok(follower) => {
                        let _ = ready.send(Ok(Arc::clone(follower.cluster())));
                        follow(follower, keeping, watching, peer_listen, adding, stopped).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
            drop(keeper);
        })
        .map_err(|error| ControlError::Thread(error.to_string()))?;
    let cluster = is_ready
        .recv()
        .map_err(|_| ControlError::Thread("it ended before it was ready".to_owned()))??;
    Ok(Control {
        cluster,
        databases,
        shared,
        stop: Some(stop),
        thread: Some(thread),
    })
}

/// Everything the control thread does, until it is told to stop.
async fn follow(
    follower: Follower,
    store: Arc<dyn TopologyStore>,
    workers: Workers,
    peer_listen: SocketAddr,
    adding: tokio::sync::mpsc::Receiver<databases::Request>,
    stopped: oneshot::Receiver<()>,
) {
    let cluster = Arc::clone(follower.cluster());
    let tasks = [
        tokio::task::spawn_local(recover(Arc::clone(&cluster))),
        tokio::task::spawn_local(collection::run(Arc::clone(&cluster), workers.clone())),
        tokio::task::spawn_local(crate::ops::online::resume(Arc::clone(&cluster))),
        tokio::task::spawn_local(snapshots::run(Arc::clone(&cluster))),
        tokio::task::spawn_local(crate::deadlock::run(Arc::clone(&cluster), workers.clone())),
        tokio::task::spawn_local(take_cancels(Arc::clone(&cluster), workers.clone(), peer_listen)),
        tokio::task::spawn_local(nodes::marks::run(
            Arc::clone(&cluster),
            Arc::clone(&store),
            workers.clone(),
        )),
        tokio::task::spawn_local(databases::run(Arc::clone(&cluster), store, adding)),
        tokio::task::spawn_local(nodes::monitor::run(cluster, workers)),
    ];
    follower.run(stopped).await;
    for task in tasks {
        task.abort();
    }
}

impl Control {
    /// The workers exist now.
    pub fn attach(&self, shared: Arc<Shared>) {
        // What was seen since they were given their shards.
        shared.set_shards(self.cluster.nodes.shard_configs());
        shared.metrics.adopt(Arc::clone(&self.cluster.figures));
        self.shared.send_replace(Some(shared));
    }

    /// Leaves the cluster and ends the thread. Blocks.
    pub fn shutdown(mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread panicked");
        }
    }
}

/// Renews the proxy's registration on a thread that does nothing else: reading the catalog of a large database keeps the
/// control thread busy for longer than a registration lasts where the machine is busy too.
struct LeaseKeeper {
    runtime: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LeaseKeeper {
    fn start() -> std::io::Result<LeaseKeeper> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("lease".to_owned());
        let thread = thread.spawn(move || {
            // An error says that the other side is gone, too.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(KEEPER_ENDS_WITHIN);
        })?;
        Ok(LeaseKeeper {
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that renews the registration panicked");
        }
    }
}

async fn set_up(
    store: Arc<dyn TopologyStore>,
    proxy: ProxyId,
    wanted: ClusterRecord,
    config: &ProxyConfig,
    gather_bytes_max: usize,
    workers: Workers,
    leases: tokio::runtime::Handle,
) -> Result<Follower, ControlError> {
    let tls = Tls::load(&config.tls)?;
    let wanted = with_all_databases(wanted, config, &tls, gather_bytes_max).await?;
    let record = ensure_cluster(store.as_ref(), &wanted).await?;
    let mut cluster = Cluster::new(
        record.clone(),
        config.admin.clone(),
        tls,
        config.limits.clone(),
        gather_bytes_max,
        config.replicas.clone(),
    );
    cluster.fail_points = config.fail_points.clone();
    let cluster = Arc::new(cluster);
    if let Some(database) = wanted.databases.first() {
        let _ = cluster.first_database.set(database.clone());
    }
    nodes::marks::read(&cluster.nodes, store.as_ref()).await;
    nodes::monitor::look_at_all(&cluster).await;
    databases::bootstrap_all(&cluster, &record, &wanted.databases).await?;
    set_salts(&cluster, store.as_ref()).await;
    let joined = leases
        .spawn(Membership::join(store, proxy, config.lease_ttl))
        .await;
    let membership = joined.map_err(|error| ControlError::Thread(error.to_string()))??;
    let membership = Arc::new(membership);
    let _ = cluster.membership.set(Arc::clone(&membership));
    look_for_prepared(&cluster).await;
    let mut follower = Follower::new(cluster, membership, workers);
    follower.catch_up().await?;
    Ok(follower)
}

/// Without the cluster's secret the proxy makes one of its own, good until its end.
async fn set_salts(cluster: &Cluster, store: &dyn TopologyStore) {
    let Ok(fresh) = crate::cancel::random() else {
        return;
    };
    match topology::salt_secret(store, fresh).await {
        Ok(secret) => {
            let _ = cluster.salt_secret.set(secret);
        }
        Err(error) => {
            tracing::warn!(%error, "salts of unknown users will change when the proxy is started again")
        }
    }
}

/// Where an entry stands for all databases: adds those that the home shard has now.
async fn with_all_databases(
    mut wanted: ClusterRecord,
    config: &ProxyConfig,
    tls: &Arc<Tls>,
    gather_bytes_max: usize,
) -> Result<ClusterRecord, ControlError> {
    if !config.databases.iter().any(|entry| entry.is_wildcard()) {
        return Ok(wanted);
    }
    let (admin, limits) = (config.admin.clone(), config.limits.clone());
    // The cluster as it would be, to reach its home shard.
    let replicas = config.replicas.clone();
    let tls = Arc::clone(tls);
    let cluster = Cluster::new(wanted.clone(), admin, tls, limits, gather_bytes_max, replicas);
    for name in databases::listed(&cluster, wanted.home).await? {
        if !wanted.databases.contains(&name) {
            wanted.databases.push(name);
        }
    }
    Ok(wanted)
}

/// Looks for prepared transactions now and then, when asked, and when another proxy is gone: what that has decided and not
/// finished is seen in part until somebody finishes it.
async fn recover(cluster: Arc<Cluster>) {
    // The record whose tables all have their guards.
    let mut guarded = None;
    let mut peers = cluster.membership().map(PeerWatch::new);
    // At the start there may be some that were too young to be left by a proxy that is gone.
    let mut pause = RECOVERY_SOON;
    loop {
        let record = cluster.record();
        // Once more after one was missing, to see that none is.
        if guarded != Some(record.epoch) && !ensure_guards(&cluster, &record).await {
            guarded = Some(record.epoch);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cluster.recovery.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
            () = peer_lost(&mut peers) => tracing::info!("another proxy is gone: looking for what it has left prepared"),
        }
        pause = match look_for_prepared(&cluster).await.left {
            0 => RECOVERY_EVERY,
            _ => RECOVERY_SOON,
        };
    }
}

async fn peer_lost(peers: &mut Option<PeerWatch>) {
    let Some(peers) = peers else {
        return std::future::pending().await;
    };
    while let Err(error) = peers.lost().await {
        tracing::debug!(%error, "the registrations of other proxies cannot be followed");
        tokio::time::sleep(RECOVERY_SOON).await;
    }
}

async fn look_for_prepared(cluster: &Cluster) -> recovery::Found {
    let (found, error) = recovery::run_once(cluster).await;
    if let Some(error) = error {
        tracing::warn!(%error, "prepared transactions could not be looked at");
    }
    if found.resolved > 0 {
        tracing::info!(count = found.resolved, "prepared transactions were resolved");
    }
    found
}

/// Makes the guards that are missing. Whether any was, or may have been.
async fn ensure_guards(cluster: &Cluster, record: &ClusterRecord) -> bool {
    let mut missing = false;
    for database in &record.databases {
        match guards::ensure(cluster, record, database).await {
            Ok(count) => missing |= count > 0,
            Err(error) if error.is_no_database() => {}
            Err(error) => {
                tracing::warn!(%error, database, "the guards of sharded tables could not be looked at");
                missing = true;
            }
        }
    }
    missing
}

/// Hands cancels on to other proxies and takes those for this one, once there are workers.
async fn take_cancels(cluster: Arc<Cluster>, mut workers: Workers, address: SocketAddr) {
    let Ok(shared) = workers
        .wait_for(Option::is_some)
        .await
        .map(|shared| shared.clone())
    else {
        return;
    };
    if let (Some(shared), Some(membership)) = (shared, cluster.membership.get()) {
        cancel::peers::run(shared, Arc::clone(membership), address).await;
    }
}
