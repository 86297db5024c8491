//! A whole proxy: control thread, workers, sessions.

use std::rc::Rc;
use std::sync::Arc;

use topology::{ClusterRecord, ProxyId, TopologyStore};

use crate::cluster::control::{self, Control, ControlError};
use crate::cluster::{Cluster, ServeDatabases};
use crate::config::ProxyConfig;
use crate::engine::Engine;
use crate::listener::Proxy;
use crate::sockets::Sockets;
use crate::worker::{Guard, Session, SessionHandler, Shared, StartError};

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// The cluster cannot be joined.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The workers cannot be started, or the port is taken.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running proxy.
pub struct Running {
    control: Control,
    proxy: Proxy,
}

/// Joins the cluster, starts the workers and listens, on `sockets` if there are some already. Blocks until clients can
/// connect.
pub fn start(
    mut config: ProxyConfig,
    store: Arc<dyn TopologyStore>,
    id: ProxyId,
    wanted: ClusterRecord,
    gather_bytes_max: usize,
    sockets: Option<Sockets>,
) -> Result<Running, RunningError> {
    // Before the cluster is joined: an address that is taken is the likeliest mistake.
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => Sockets::bind(&config).map_err(RunningError::Start)?,
    };
    let control = control::start(store, id, wanted, &config, gather_bytes_max)?;
    config.shards = control.cluster.nodes.shard_configs();
    config.auth.salt_secret = control.cluster.salt_secret.get().copied();
    let cluster = Arc::clone(&control.cluster);
    let proxy = crate::listener::start_on(
        sockets,
        config,
        Arc::clone(&control.cluster.tls),
        Arc::clone(&control.cluster.nodes),
        Arc::new(move |ctx| {
            let engine = Engine::new(ctx, Arc::clone(&cluster));
            Rc::new(Sessions { engine })
        }),
    )?;
    control.attach(Arc::clone(proxy.shared()));
    Ok(Running { control, proxy })
}

impl Running {
    /// Where clients connect.
    pub fn address(&self) -> std::net::SocketAddr {
        self.proxy.address()
    }

    /// The cluster as this proxy sees it.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.control.cluster
    }

    /// Adds databases to those that are served.
    #[must_use]
    pub fn databases(&self) -> ServeDatabases {
        self.control.databases.clone()
    }

    /// What the workers share.
    pub fn shared(&self) -> &Arc<Shared> {
        self.proxy.shared()
    }

    /// Ends all sessions, then leaves the cluster. Blocks.
    pub fn shutdown(self) {
        self.proxy.shutdown();
        self.control.shutdown();
    }
}

/// One worker's sessions.
struct Sessions {
    engine: Rc<Engine>,
}

impl SessionHandler for Sessions {
    fn run(self: Rc<Self>, session: Session, guard: Guard) {
        guard.spawn(crate::session::run(Rc::clone(&self.engine), session));
    }
}
