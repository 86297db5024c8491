//! The proxy of a development cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use agent::{ClusterInfo, NodeInfo};
use proxy::config::{AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, UserConfig};
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, FileStore, ProxyId, ShardId};

/// Rows gathered for one statement may take this many bytes.
const GATHER_BYTES_MAX: usize = 256 << 20;

/// Why the proxy of a development cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store in the cluster's directory does not work.
    #[error("the cluster's store cannot be used")]
    Store(#[source] topology::StoreError),
    /// The servers do not make a cluster.
    #[error("the servers do not make a cluster")]
    Record(#[source] topology::records::ClusterRecordError),
    /// The proxy did not start.
    #[error(transparent)]
    Proxy(#[from] proxy::RunningError),
    /// A thread failed.
    #[error("the proxy's start was interrupted")]
    Interrupted,
}

/// Starts the proxy over running servers. Blocks.
pub fn start(cluster: &ClusterInfo, state_dir: &Path, listen: SocketAddr) -> Result<proxy::Running, ServeError> {
    let store = FileStore::open(state_dir).map_err(ServeError::Store)?;
    let id = ProxyId::parse(&format!("dev-{}", std::process::id())).map_err(|_| ServeError::Interrupted)?;
    let record = record_of(cluster)?;
    let config = ProxyConfig {
        listen,
        workers: 0,
        users: vec![UserConfig {
            name: cluster.app_user.clone(),
            auth: ClientAuth::Password(cluster.app_password.expose().to_owned()),
            server_password: None,
        }],
        databases: vec![cluster.database.clone()],
        pool: PoolConfig::default(),
        limits: Limits::default(),
        shards: Vec::new(),
        admin: AdminConfig {
            user: cluster.admin_user.clone(),
            password: Some(cluster.admin_password.expose().to_owned()),
        },
    };
    Ok(proxy::start(config, Arc::new(store), id, record, GATHER_BYTES_MAX)?)
}

fn record_of(cluster: &ClusterInfo) -> Result<ClusterRecord, ServeError> {
    let shards = cluster
        .shards
        .iter()
        .zip(1..)
        .map(|(shard, id)| ShardRecord {
            id: ShardId(id),
            name: shard.name.clone(),
            primary: node_of(&shard.primary),
            replicas: shard.replicas.iter().map(node_of).collect(),
        })
        .collect();
    ClusterRecord::new("dev", vec![cluster.database.clone()], shards).map_err(ServeError::Record)
}

fn node_of(node: &NodeInfo) -> NodeRecord {
    NodeRecord { host: node.host.clone(), port: node.port }
}
