//! Creates and starts all nodes of a cluster, in parallel.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};

use super::bootstrap::Bootstrap;
use super::info::{ClusterInfo, NodeInfo, ShardInfo};
use super::verifier::verifier;
use super::workdir::WorkDir;
use super::{
    ADMIN_USER, APP_PASSWORD, APP_USER, ClusterError, ClusterOptions, DATABASE, Phase, ProgressEvent,
    REPLICATION_USER, agreed,
};
use crate::secret::random_bytes;
use crate::{Host, Instance, InstanceSpec, Secret, Upstream};

/// Object ids below this are PostgreSQL's own.
const FIRST_USER_OID: u32 = 16_384;

/// `initdb` and `pg_basebackup` wait for the disk about half of their time.
const TOOLS_PER_CORE: usize = 2;

/// The servers of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub primary: Instance,
    pub replicas: Vec<Instance>,
}

/// One run of building: what all of its tasks need.
pub(super) struct Build {
    host: Host,
    shard_count: usize,
    replica_count: usize,
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether the data exists already.
    existing: bool,
    admin_password: Secret,
    replication_password: Secret,
    app_verifier: String,
    oid_skew: u32,
    /// Ports of the last run.
    ports: HashMap<String, u16>,
    /// Where each node goes.
    specs: HashMap<String, InstanceSpec>,
    permits: Semaphore,
}

/// What tasks report.
type Events = mpsc::UnboundedSender<(String, Phase)>;

impl Build {
    pub fn new(host: Host, options: &ClusterOptions, work_dir: &WorkDir) -> Result<Build, ClusterError> {
        let held = work_dir.record.cluster.as_ref();
        let held_replicas = held.map(|held| held.shards.first().map_or(0, |shard| shard.replicas.len()));
        let (dir, defaults) = (
            &options.dir,
            (ClusterOptions::SHARDS_DEFAULT, ClusterOptions::REPLICAS_DEFAULT),
        );
        let shard_count = agreed(
            dir,
            "shards",
            options.shards,
            held.map(|held| held.shards.len()),
            defaults.0,
        )?;
        let replica_count = agreed(
            dir,
            "replicas per shard",
            options.replicas,
            held_replicas,
            defaults.1,
        )?;
        let admin_password = match held {
            Some(held) => held.admin_password.clone(),
            None => Secret::generate().ok_or(ClusterError::NoRandomness)?,
        };
        let salt = random_bytes().ok_or(ClusterError::NoRandomness)?;
        let mut specs = HashMap::new();
        for shard in (0..shard_count).map(shard_name) {
            for node in std::iter::once("primary".to_owned()).chain((0..replica_count).map(replica_name)) {
                let name = format!("{shard}/{node}");
                let spec = InstanceSpec {
                    name: name.clone(),
                    dir: work_dir.servers_dir().join(&shard).join(&node),
                    socket_dir: work_dir.socket_dir(&shard, &node),
                    durability: options.durability,
                };
                specs.insert(name, spec);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Shared {
            existing: held.is_some(),
            admin_password,
            replication_password: work_dir.record.replication_password.clone(),
            app_verifier: verifier(&Secret::new(APP_PASSWORD), &salt)?,
            oid_skew: options.oid_skew,
            ports: held
                .iter()
                .flat_map(|held| held.nodes().map(|node| (node.name.clone(), node.port)))
                .collect(),
            specs,
            permits: Semaphore::new(cores * TOOLS_PER_CORE),
        };
        Ok(Build {
            host,
            shard_count,
            replica_count,
            shared: Arc::new(shared),
        })
    }

    /// Builds all shards. The first failure ends it, and with it every server started so far.
    pub async fn run(
        self,
        mut progress: impl FnMut(ProgressEvent),
    ) -> Result<(Vec<Shard>, ClusterInfo), ClusterError> {
        let (events, mut received) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for index in 0..self.shard_count {
            let (shared, host, events) = (self.shared.clone(), self.host.clone(), events.clone());
            let replica_count = self.replica_count;
            tasks
                .spawn(async move { Ok((index, shared.shard(&host, index, replica_count, &events).await?)) });
        }
        drop(events);
        let total = self.shard_count * (1 + self.replica_count);
        let mut ready = 0;
        // The channel closes when the last task has ended.
        let report = async {
            while let Some((node, phase)) = received.recv().await {
                ready += usize::from(phase == Phase::Ready);
                progress(ProgressEvent::Node {
                    node,
                    phase,
                    ready,
                    total,
                });
            }
        };
        let (shards, ()) = tokio::join!(collect(tasks), report);
        let mut shards: Vec<(usize, Shard)> = shards?;
        shards.sort_by_key(|(index, _)| *index);
        let shards: Vec<Shard> = shards.into_iter().map(|(_, shard)| shard).collect();
        let info = self.info(&shards);
        Ok((shards, info))
    }

    fn info(&self, shards: &[Shard]) -> ClusterInfo {
        let shards = shards.iter().enumerate().map(|(index, shard)| ShardInfo {
            name: shard_name(index),
            primary: node_info(&shard.primary),
            replicas: shard.replicas.iter().map(node_info).collect(),
        });
        ClusterInfo {
            server_major: self.host.binaries.major(),
            shards: shards.collect(),
            admin_user: ADMIN_USER.to_owned(),
            admin_password: self.shared.admin_password.clone(),
            app_user: APP_USER.to_owned(),
            app_password: Secret::new(APP_PASSWORD),
            database: DATABASE.to_owned(),
        }
    }
}

impl Shared {
    async fn shard(
        self: &Arc<Self>,
        host: &Host,
        index: usize,
        replica_count: usize,
        events: &Events,
    ) -> Result<Shard, ClusterError> {
        let shard = shard_name(index);
        let primary = self.primary(host, &shard, index, events).await?;
        let info = node_info(&primary);
        let mut tasks = JoinSet::new();
        for replica in 0..replica_count {
            let (shared, host, events) = (self.clone(), host.clone(), events.clone());
            let name = format!("{shard}/{}", replica_name(replica));
            let upstream = upstream(&info, &name, &self.replication_password);
            tasks.spawn(async move { Ok((replica, shared.replica(&host, name, &upstream, &events).await?)) });
        }
        let mut replicas: Vec<(usize, Instance)> = collect(tasks).await?;
        replicas.sort_by_key(|(replica, _)| *replica);
        Ok(Shard {
            primary,
            replicas: replicas.into_iter().map(|(_, instance)| instance).collect(),
        })
    }

    async fn primary(
        &self,
        host: &Host,
        shard: &str,
        index: usize,
        events: &Events,
    ) -> Result<Instance, ClusterError> {
        let name = format!("{shard}/primary");
        let mut instance = self.instance(host, &name)?;
        if !self.existing {
            let _permit = self.permits.acquire().await;
            tell(events, &name, Phase::Initializing);
            let skew = u32::try_from(index).unwrap_or(0).saturating_mul(self.oid_skew);
            let first_oid = (skew > 0).then(|| FIRST_USER_OID.saturating_add(skew));
            instance
                .initialize(ADMIN_USER, &self.admin_password, first_oid)
                .await?;
        }
        tell(events, &name, Phase::Starting);
        let port = instance.start(self.ports.get(&name).copied(), None).await?;
        if !self.existing {
            let bootstrap = Bootstrap {
                admin_user: ADMIN_USER,
                admin_password: &self.admin_password,
                replication_user: REPLICATION_USER,
                replication_password: &self.replication_password,
                app_user: APP_USER,
                app_verifier: &self.app_verifier,
                database: DATABASE,
            };
            bootstrap
                .run(instance.socket_dir(), port)
                .await
                .map_err(|source| ClusterError::Bootstrap {
                    node: name.clone(),
                    source,
                })?;
        }
        tell(events, &name, Phase::Ready);
        Ok(instance)
    }

    async fn replica(
        &self,
        host: &Host,
        name: String,
        upstream: &Upstream,
        events: &Events,
    ) -> Result<Instance, ClusterError> {
        let mut instance = self.instance(host, &name)?;
        if !self.existing {
            let _permit = self.permits.acquire().await;
            tell(events, &name, Phase::Copying);
            instance.copy_from(upstream).await?;
        }
        tell(events, &name, Phase::Starting);
        instance
            .start(self.ports.get(&name).copied(), Some(upstream))
            .await?;
        tell(events, &name, Phase::Ready);
        Ok(instance)
    }

    fn instance(&self, host: &Host, name: &str) -> Result<Instance, ClusterError> {
        // Every name made by `shard_name` and `replica_name` has its place.
        let spec = self
            .specs
            .get(name)
            .cloned()
            .unwrap_or_else(|| unreachable!("no place for node {name}"));
        Ok(Instance::new(host.clone(), spec)?)
    }
}

/// How the replica `node` (`shard_1/replica_1`) follows `primary`.
pub(super) fn upstream(primary: &NodeInfo, node: &str, password: &Secret) -> Upstream {
    let slot = node.rsplit('/').next().unwrap_or(node);
    Upstream {
        host: primary.host.clone(),
        port: primary.port,
        user: REPLICATION_USER.to_owned(),
        password: password.clone(),
        slot: format!("drover_{slot}"),
    }
}

fn shard_name(index: usize) -> String {
    format!("shard_{}", index + 1)
}

fn replica_name(index: usize) -> String {
    format!("replica_{}", index + 1)
}

fn node_info(instance: &Instance) -> NodeInfo {
    NodeInfo {
        name: instance.name().to_owned(),
        host: "127.0.0.1".to_owned(),
        port: instance.port(),
        socket_dir: PathBuf::from(instance.socket_dir()),
        data_dir: instance.data_dir(),
    }
}

/// Nobody may be listening any more: the caller gave up.
fn tell(events: &Events, node: &str, phase: Phase) {
    let _ = events.send((node.to_owned(), phase));
}

/// All results, or the first error; then the tasks still running are ended and waited for.
async fn collect<T: 'static>(mut tasks: JoinSet<Result<T, ClusterError>>) -> Result<Vec<T>, ClusterError> {
    let mut results = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        match joined.unwrap_or_else(|error| resume(error)) {
            Ok(result) => results.push(result),
            Err(error) => {
                tasks.shutdown().await;
                return Err(error);
            }
        }
    }
    Ok(results)
}

/// A panic in a task is a panic here.
fn resume(error: JoinError) -> ! {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => unreachable!("nobody cancels these tasks: {error}"),
    }
}
