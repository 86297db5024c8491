//! The control thread of a proxy: sets the cluster up, follows the store, loads facts, recovers transactions.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use catalog::ShardId;
use tokio::sync::{oneshot, watch};
use topology::change::{SetupError, ensure_cluster};
use topology::{
    ClusterEvent, ClusterRecord, ClusterWatch, Membership, MembershipError, ProxyId, TopologyStore,
};

use super::{Cluster, recovery};
use crate::admin_link::AdminError;
use crate::config::{ProxyConfig, ShardConfig};
use crate::worker::Shared;

/// How long a proxy's registration outlives it.
const LEASE: Duration = Duration::from_secs(3);

/// How often prepared transactions are looked for when nobody asks.
const RECOVERY_EVERY: Duration = Duration::from_secs(15);

/// Why a proxy cannot take part in the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The store and the configuration disagree, or the store does not work.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The proxy cannot register.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A shard cannot be prepared or read.
    #[error("shard {shard}, database {database}: {source}")]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// Which database.
        database: String,
        /// What is wrong.
        source: AdminError,
    },
    /// The thread could not be started or died.
    #[error("the control thread failed: {0}")]
    Thread(String),
}

/// The control thread.
pub struct Control {
    /// The cluster as sessions see it.
    pub cluster: Arc<Cluster>,
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
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                match set_up(store, proxy, wanted, &config, gather_bytes_max).await {
                    Ok((cluster, membership, watch)) => {
                        let _ = ready.send(Ok(Arc::clone(&cluster)));
                        follow(cluster, membership, watch, workers, stopped).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })
        .map_err(|error| ControlError::Thread(error.to_string()))?;
    let cluster = is_ready
        .recv()
        .map_err(|_| ControlError::Thread("it ended before it was ready".to_owned()))??;
    Ok(Control {
        cluster,
        shared,
        stop: Some(stop),
        thread: Some(thread),
    })
}

impl Control {
    /// The workers exist now.
    pub fn attach(&self, shared: Arc<Shared>) {
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

async fn set_up(
    store: Arc<dyn TopologyStore>,
    proxy: ProxyId,
    wanted: ClusterRecord,
    config: &ProxyConfig,
    gather_bytes_max: usize,
) -> Result<(Arc<Cluster>, Arc<Membership>, ClusterWatch), ControlError> {
    let record = ensure_cluster(store.as_ref(), &wanted).await?;
    let cluster = Arc::new(Cluster::new(
        record.clone(),
        config.admin.clone(),
        config.limits.clone(),
        gather_bytes_max,
    ));
    bootstrap(&cluster, &record).await?;
    let membership = Arc::new(Membership::join(store, proxy, LEASE).await?);
    let _ = cluster.membership.set(Arc::clone(&membership));
    if let Err(error) = recovery::run_once(&cluster).await {
        tracing::warn!(%error, "prepared transactions could not be looked at");
    }
    let mut watch = ClusterWatch::new(Arc::clone(&membership));
    // The first cluster must be loaded before anybody is served.
    while !membership.is_valid(std::time::Instant::now()) {
        let event = watch
            .next()
            .await
            .map_err(|error| ControlError::Thread(error.to_string()))?;
        handle(&cluster, &watch, event, None).await;
    }
    for database in &record.databases {
        if let Err(error) = crate::ops::repair(&cluster, database).await {
            tracing::warn!(%database, error = %error.message, "unfinished changes could not be repaired");
        }
    }
    Ok((cluster, membership, watch))
}

/// Drover's own objects on every shard.
async fn bootstrap(cluster: &Cluster, record: &ClusterRecord) -> Result<(), ControlError> {
    for shard in &record.shards {
        for database in &record.databases {
            let failed = |source| ControlError::Shard {
                shard: shard.id,
                database: database.clone(),
                source,
            };
            let mut link = cluster.admin_link(shard.id, database).await.map_err(failed)?;
            link.run("BEGIN").await.map_err(failed)?;
            for statement in commit::sql::BOOTSTRAP {
                link.run(statement).await.map_err(failed)?;
            }
            link.run("COMMIT").await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Follows the store until told to stop.
async fn follow(
    cluster: Arc<Cluster>,
    membership: Arc<Membership>,
    mut watch: ClusterWatch,
    workers: watch::Receiver<Option<Arc<Shared>>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let recovering = tokio::task::spawn_local(recover(Arc::clone(&cluster)));
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            event = watch.next() => match event {
                Ok(event) => {
                    let shared = workers.borrow().clone();
                    handle(&cluster, &watch, event, shared.as_deref()).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the cluster record cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            },
        }
    }
    recovering.abort();
    drop(watch);
    cluster.gate.close();
    // The others wait for this proxy no longer than its lease.
    if let Ok(membership) = Arc::try_unwrap(membership) {
        let _ = membership.leave().await;
    }
}

async fn handle(cluster: &Arc<Cluster>, watch: &ClusterWatch, event: ClusterEvent, shared: Option<&Shared>) {
    match event {
        ClusterEvent::NewCluster(record) => {
            if let Err(error) = load_all(cluster, &record).await {
                // Not acknowledged: the lease will tell the others that this proxy is out.
                tracing::error!(%error, "the new cluster cannot be loaded");
                return;
            }
            if let Some(shared) = shared {
                shared.set_shards(shard_configs(&record));
            }
            let epoch = record.epoch;
            cluster.adopt(record);
            if let Err(error) = watch.ack_epoch(epoch).await {
                tracing::warn!(%error, "the new epoch could not be acknowledged");
            }
        }
        ClusterEvent::Paused { id, scope } => {
            if scope != topology::ChangeScope::Nothing {
                cluster.gate.close();
                cluster.gate.quiet().await;
            }
            if let Err(error) = watch.ack_paused(&id).await {
                tracing::warn!(%error, "the pause could not be acknowledged");
            }
        }
        ClusterEvent::Resumed { .. } => cluster.gate.open(),
        ClusterEvent::Fenced => {
            tracing::warn!("this proxy lost its registration and serves nothing until it is back")
        }
    }
}

async fn load_all(cluster: &Cluster, record: &ClusterRecord) -> Result<(), AdminError> {
    for database in &record.databases {
        let mut link = cluster.admin_link(record.home, database).await?;
        let snapshot = cluster.load_facts(&mut link, record, database).await?;
        cluster.publish_facts(database, snapshot);
    }
    Ok(())
}

/// Looks for prepared transactions now and then, and when asked.
async fn recover(cluster: Arc<Cluster>) {
    loop {
        let asked = tokio::time::timeout(RECOVERY_EVERY, cluster.recovery.notified())
            .await
            .is_ok();
        if asked {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        match recovery::run_once(&cluster).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "prepared transactions were resolved"),
            Err(error) => tracing::warn!(%error, "prepared transactions could not be looked at"),
        }
    }
}

/// The shards as the worker layer wants them.
pub fn shard_configs(record: &ClusterRecord) -> Vec<ShardConfig> {
    record
        .shards
        .iter()
        .map(|shard| ShardConfig {
            id: shard.id.0,
            name: shard.name.clone(),
            host: shard.primary.host.clone(),
            port: shard.primary.port,
        })
        .collect()
}
