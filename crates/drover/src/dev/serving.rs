//! The proxy of a development cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use admin::{HttpConfig, Role};
use agent::{ClusterInfo, NodeInfo};
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, Timeouts, UserConfig, UserLimits,
};
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, FileStore, ProxyId, ShardId};

use crate::serve::Plan;

/// Rows gathered for one statement may take this many bytes.
const GATHER_BYTES_MAX: usize = 256 << 20;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The store in the cluster's directory does not work.
    #[error("the cluster's store cannot be used")]
    Store(#[source] topology::StoreError),
    /// The servers do not make a cluster.
    #[error("the servers do not make a cluster")]
    Record(#[source] topology::records::ClusterRecordError),
    /// No name could be made for the proxy.
    #[error("the proxy's name is not valid")]
    Name(#[source] topology::KeyError),
}

/// The proxy over running servers. Opens the store, which blocks for a moment.
pub fn plan(
    cluster: &ClusterInfo,
    state_dir: &Path,
    listen: SocketAddr,
    http: SocketAddr,
) -> Result<Plan, PlanError> {
    let store = FileStore::open(state_dir).map_err(PlanError::Store)?;
    let (user, password) = (cluster.app_user.clone(), cluster.app_password.expose().to_owned());
    let proxy = ProxyConfig {
        auth: proxy::config::AuthConfig::default(),
        observe: Default::default(),
        listen,
        listen_also: Vec::new(),
        reuse_port: false,
        unix_socket: None,
        console: Default::default(),
        workers: 0,
        clients_per_worker: proxy::config::CLIENTS_PER_WORKER,
        lease_ttl: proxy::config::LEASE_TTL,
        fail_points: Default::default(),
        users: vec![UserConfig {
            name: user.clone(),
            auth: ClientAuth::Password(password.clone()),
            server_password: None,
            limits: UserLimits::default(),
        }],
        databases: vec![cluster.database.clone().into()],
        pool: PoolConfig::default(),
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        shards: Vec::new(),
        admin: AdminConfig {
            user: cluster.admin_user.clone(),
            password: Some(cluster.admin_password.expose().to_owned()),
        },
        tls: Default::default(),
        replicas: Default::default(),
        rules: Default::default(),
    };
    Ok(Plan {
        proxy,
        store: Arc::new(store),
        id: ProxyId::parse(&format!("dev-{}", std::process::id())).map_err(PlanError::Name)?,
        cluster: record_of(cluster)?,
        gather_bytes_max: GATHER_BYTES_MAX,
        http,
        handed: Default::default(),
        // A request without a token is the application's; on other addresses than loopback there are none.
        http_access: HttpConfig {
            default_role: Some(Role {
                user,
                password: Some(password),
            }),
            ..HttpConfig::default()
        },
    })
}

fn record_of(cluster: &ClusterInfo) -> Result<ClusterRecord, PlanError> {
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
    ClusterRecord::new("dev", vec![cluster.database.clone()], shards).map_err(PlanError::Record)
}

fn node_of(node: &NodeInfo) -> NodeRecord {
    NodeRecord::new(node.host.clone(), node.port)
}
