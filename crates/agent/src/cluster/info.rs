//! What a cluster is: identities, addresses, passwords; and how that is kept on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// Everything somebody needs to use the servers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// PostgreSQL's major version, the same on all servers.
    pub server_major: u32,
    /// The shards in order; the first is the home shard.
    pub shards: Vec<ShardInfo>,
    /// The superuser on every server.
    pub admin_user: String,
    /// Its password.
    pub admin_password: Secret,
    /// The role for applications: no superuser, owner of the database. Its SCRAM verifier is the same on
    /// every shard, so keys proved to one server are good for all.
    pub app_user: String,
    /// Its password.
    pub app_password: Secret,
    /// The database, on every shard.
    pub database: String,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// `shard_1`, `shard_2`, …
    pub name: String,
    /// The node that takes writes.
    pub primary: NodeInfo,
    /// Nodes that follow it.
    pub replicas: Vec<NodeInfo>,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `shard_1/primary`, `shard_1/replica_1`, …
    pub name: String,
    /// Where it listens.
    pub host: String,
    /// On this TCP port. May differ from one start to the next.
    pub port: u16,
    /// The directory of its Unix socket (named after the port). May differ from one start to the next.
    pub socket_dir: PathBuf,
    /// PostgreSQL's data directory.
    pub data_dir: PathBuf,
}

impl ShardInfo {
    /// The primary, then the replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

impl ClusterInfo {
    /// Every node of every shard, primaries before their replicas.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.shards.iter().flat_map(ShardInfo::nodes)
    }
}

/// `drover-dev.json`: marks a directory as Drover's and remembers the cluster in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version")]
pub(super) enum Record {
    /// The first form.
    #[serde(rename = "1")]
    V1(RecordV1),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordV1 {
    /// Where the servers' files are if not in the directory itself, because their account cannot enter it.
    pub servers_elsewhere: Option<PathBuf>,
    /// A directory in the system's temporary directory, for the sockets when the usual path is too long.
    pub socket_root: Option<PathBuf>,
    /// Password of the role that replicas connect with.
    pub replication_password: Secret,
    /// Absent until the cluster has been created completely once: what is there then is thrown away.
    pub cluster: Option<ClusterInfo>,
}
