//! A whole cluster on this machine: N shards, each a primary and R replicas, in one directory.

mod bootstrap;
mod build;
mod info;
mod verifier;
mod workdir;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;
use tokio::task::JoinSet;

pub use bootstrap::BootstrapError;
pub use info::{ClusterInfo, NodeInfo, ShardInfo};

use crate::leftovers::{self, LeftoverError};
use crate::{
    Binaries, BinariesError, Durability, Host, Instance, InstanceError, ServiceUser, ServiceUserError,
    Upstream,
};
use build::{Build, Shard};
use workdir::WorkDir;

/// The most shards one machine is asked to carry.
pub const SHARDS_MAX: u16 = 64;
/// The most replicas per shard.
pub const REPLICAS_MAX: u16 = 8;

const ADMIN_USER: &str = "drover_admin";
const REPLICATION_USER: &str = "drover_replication";
const APP_USER: &str = "drover";
const APP_PASSWORD: &str = "drover";
const DATABASE: &str = "app";

/// What cluster to run, and where.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Number of shards; absent: as many as the directory holds, or [`ClusterOptions::SHARDS_DEFAULT`].
    pub shards: Option<u16>,
    /// Replicas per shard; absent: as the directory holds, or [`ClusterOptions::REPLICAS_DEFAULT`].
    pub replicas: Option<u16>,
    /// The cluster's directory; created if missing.
    pub dir: PathBuf,
    /// Whether to throw away the data of an earlier run first.
    pub fresh: bool,
    /// See [`Durability`].
    pub durability: Durability,
    /// For tests: shard `n` (from 0) of a new cluster hands out object ids from `n` times this further
    /// on, so that equal ids on two shards are no accident. 0 for none.
    pub oid_skew: u32,
    /// PostgreSQL's `bin` directory, if it is not to be searched for.
    pub binaries: Option<PathBuf>,
}

impl ClusterOptions {
    /// Shards of a new cluster unless said otherwise.
    pub const SHARDS_DEFAULT: u16 = 4;
    /// Replicas per shard of a new cluster unless said otherwise.
    pub const REPLICAS_DEFAULT: u16 = 1;

    /// The defaults, in `dir`.
    pub fn in_dir(dir: impl Into<PathBuf>) -> ClusterOptions {
        ClusterOptions {
            shards: None,
            replicas: None,
            dir: dir.into(),
            fresh: false,
            durability: Durability::Durable,
            oid_skew: 0,
            binaries: None,
        }
    }
}

/// What happens while a cluster starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The servers' files are not in the cluster's directory: the account they run as cannot enter it.
    PlacedElsewhere {
        /// Where they are.
        servers_dir: PathBuf,
        /// The account.
        user: String,
    },
    /// Servers of a run that was killed were stopped.
    CleanedUp {
        /// How many processes there were.
        processes: usize,
    },
    /// A node began something.
    Node {
        /// Its name.
        node: String,
        /// What it began.
        phase: Phase,
        /// Nodes that are ready now.
        ready: usize,
        /// All nodes.
        total: usize,
    },
}

/// The steps of a node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// An empty server is being created.
    Initializing,
    /// A replica is being copied from its primary.
    Copying,
    /// The server was started and is not ready yet.
    Starting,
    /// Connections are accepted.
    Ready,
}

/// A server that ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadNode {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// The end of its log.
    pub log: String,
}

/// Why a cluster did not start.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A number out of range.
    #[error("{what} must be between {min} and {max}, not {value}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it was.
        value: u16,
        /// Smallest allowed.
        min: u16,
        /// Largest allowed.
        max: u16,
    },
    /// No usable PostgreSQL.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// No account to run it as.
    #[error(transparent)]
    ServiceUser(#[from] ServiceUserError),
    /// The directory holds something that is not a Drover cluster.
    #[error(
        "{} holds {found} but no drover-dev.json: it is not a Drover directory and is left alone; choose an empty one",
        dir.display()
    )]
    ForeignDirectory {
        /// The directory.
        dir: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// Somebody runs this cluster now.
    #[error("{} is in use by another drover", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// `drover-dev.json` is not one, or is from a newer Drover.
    #[error("cannot understand {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The directory holds a cluster of another shape.
    #[error(
        "{} holds a cluster of {held} {what}, not {wanted}; leave the number out to run that one, \
         or start afresh (all its data is deleted) with --fresh",
        dir.display()
    )]
    OtherShape {
        /// The directory.
        dir: PathBuf,
        /// Shards, or replicas per shard.
        what: &'static str,
        /// How many there are.
        held: usize,
        /// How many were asked for.
        wanted: u16,
    },
    /// A file or directory could not be handled.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier run's servers could not be stopped.
    #[error(transparent)]
    Leftovers(#[from] LeftoverError),
    /// A server did not start.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// A new server could not be set up.
    #[error("{node}: set-up failed")]
    Bootstrap {
        /// The server.
        node: String,
        /// Why.
        source: BootstrapError,
    },
    /// No verifier can be made for the application's password.
    #[error("cannot make a password verifier")]
    Verifier(#[from] wire::scram::ScramError),
    /// No passwords can be generated.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// A running cluster. [`DevCluster::shutdown`] stops it properly; dropping it stops every server at once
/// (nothing committed is lost, but the next start has to recover).
#[derive(Debug)]
pub struct DevCluster {
    shards: Vec<Shard>,
    info: ClusterInfo,
    work_dir: WorkDir,
}

impl DevCluster {
    /// Starts the cluster in `options.dir`, creating it if there is none. Everything runs in parallel as
    /// far as the cores allow. `progress` is called as things happen. When it fails, or the future is
    /// dropped, every server it started is stopped.
    pub async fn start(
        options: ClusterOptions,
        mut progress: impl FnMut(ProgressEvent),
    ) -> Result<DevCluster, ClusterError> {
        check_range("the number of shards", options.shards, 1, SHARDS_MAX)?;
        check_range("the number of replicas", options.replicas, 0, REPLICAS_MAX)?;
        let user = ServiceUser::choose()?;
        // Before anything is created, so that a missing PostgreSQL leaves no trace.
        let newest = Binaries::find(options.binaries.as_deref(), None)?;
        let mut work_dir = WorkDir::open(&options.dir, &user)?;
        if let (Some(servers_dir), Some(user)) = (&work_dir.record.servers_elsewhere, user.other_name()) {
            progress(ProgressEvent::PlacedElsewhere {
                servers_dir: servers_dir.clone(),
                user: user.to_owned(),
            });
        }
        let processes = leftovers::stop(&work_dir.servers_dir()).await?;
        if processes > 0 {
            progress(ProgressEvent::CleanedUp { processes });
        }
        if options.fresh || work_dir.record.cluster.is_none() {
            work_dir.wipe()?;
        }
        let binaries = match &work_dir.record.cluster {
            Some(held) => Binaries::find(options.binaries.as_deref(), Some(held.server_major))?,
            None => newest,
        };
        work_dir.prepare()?;
        let build = Build::new(Host { binaries, user }, &options, &work_dir)?;
        let (shards, info) = build.run(progress).await?;
        work_dir.record.cluster = Some(info.clone());
        work_dir.save()?;
        Ok(DevCluster {
            shards,
            info,
            work_dir,
        })
    }

    /// Addresses and passwords.
    pub fn info(&self) -> &ClusterInfo {
        &self.info
    }

    /// A directory for what belongs to the cluster beside its servers (the topology store): kept and
    /// wiped together with them. Only the account Drover runs as can enter it.
    pub fn state_dir(&self) -> PathBuf {
        self.work_dir.state_dir()
    }

    /// Servers that ended by themselves since the last call. To be called now and then.
    pub fn dead_nodes(&mut self) -> Vec<DeadNode> {
        self.instances()
            .filter_map(|instance| {
                let status = instance.take_exit()?;
                Some(DeadNode {
                    name: instance.name().to_owned(),
                    status,
                    log: instance.log_tail(),
                })
            })
            .collect()
    }

    /// Starts a server again that has ended, on the port it had. Does nothing if there is no such node or
    /// it runs.
    pub async fn restart_node(&mut self, name: &str) -> Result<(), InstanceError> {
        let upstream = self.upstream_of(name);
        let Some(instance) = self.instances().find(|instance| instance.name() == name) else {
            return Ok(());
        };
        if instance.pid().is_some() {
            return Ok(());
        }
        instance.restart(upstream.as_ref()).await
    }

    /// Ends one server as a crash would. For tests.
    pub fn kill_node(&mut self, name: &str) {
        if let Some(instance) = self.instances().find(|instance| instance.name() == name) {
            instance.kill();
        }
    }

    /// Stops all servers, replicas first, in parallel. Returns the names of those that did not stop when
    /// asked and were killed. Dropping the future kills the rest.
    pub async fn shutdown(mut self) -> Vec<String> {
        let shards = std::mem::take(&mut self.shards);
        let (primaries, replicas): (Vec<_>, Vec<_>) = shards
            .into_iter()
            .map(|shard| (shard.primary, shard.replicas))
            .unzip();
        let mut forced = stop_all(replicas.into_iter().flatten()).await;
        forced.extend(stop_all(primaries).await);
        // What cannot be removed now is removed at the next start.
        let _ = self.work_dir.remove_sockets();
        let _ = self.work_dir.save();
        forced
    }

    fn instances(&mut self) -> impl Iterator<Item = &mut Instance> {
        self.shards
            .iter_mut()
            .flat_map(|shard| std::iter::once(&mut shard.primary).chain(&mut shard.replicas))
    }

    fn upstream_of(&self, node: &str) -> Option<Upstream> {
        let shard = self
            .info
            .shards
            .iter()
            .find(|shard| shard.replicas.iter().any(|info| info.name == node))?;
        Some(build::upstream(
            &shard.primary,
            node,
            &self.work_dir.record.replication_password,
        ))
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        // All at the same time; dropping each waits for it.
        for instance in self.instances() {
            instance.begin_immediate_stop();
        }
    }
}

async fn stop_all(instances: impl IntoIterator<Item = Instance>) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for mut instance in instances {
        tasks.spawn(async move {
            let gently = instance.stop().await;
            (!gently).then(|| instance.name().to_owned())
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn check_range(what: &'static str, value: Option<u16>, min: u16, max: u16) -> Result<(), ClusterError> {
    match value {
        Some(value) if !(min..=max).contains(&value) => Err(ClusterError::OutOfRange {
            what,
            value,
            min,
            max,
        }),
        _ => Ok(()),
    }
}

/// The shape to build: what was asked for, which must be what the directory holds, if it holds anything.
fn agreed(
    dir: &Path,
    what: &'static str,
    wanted: Option<u16>,
    held: Option<usize>,
    default: u16,
) -> Result<usize, ClusterError> {
    match (wanted, held) {
        (Some(wanted), Some(held)) if usize::from(wanted) != held => Err(ClusterError::OtherShape {
            dir: dir.to_owned(),
            what,
            held,
            wanted,
        }),
        (_, Some(held)) => Ok(held),
        (wanted, None) => Ok(usize::from(wanted.unwrap_or(default))),
    }
}

#[cfg(test)]
mod tests;
