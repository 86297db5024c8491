//! Worker threads: each runs its own clients, pools and caches on a single-threaded runtime.

mod busy;
mod guard;
mod kill;
mod run;
mod shared;
mod stop;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub use guard::Guard;
pub(crate) use run::{ACCEPTING, spawn};
pub(crate) use shared::{Mailboxes, Switch, WorkerMessage};
pub use shared::{Shared, StartError};
pub use stop::{Stop, StopReason};
pub(crate) use watch::{Watch, Watches};

use crate::buffers::Buffers;
use crate::cancel::ClientCancel;
use crate::client::{ClientConn, StartupInfo};
use crate::metrics::WorkerMetrics;
use crate::pools::{Admission, Pools};

/// What everything on one worker can reach.
pub struct WorkerCtx {
    /// The worker's number, from 0.
    pub id: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Server connections.
    pub pools: Pools,
    /// Reusable buffers.
    pub buffers: Buffers,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// The sessions to wake when they must end.
    pub(crate) sessions: stop::Sessions,
    /// The sessions whose times are limited.
    pub(crate) watches: Rc<watch::Watches>,
    /// Called after settings were replaced.
    pub(crate) reconfigured: RefCell<Vec<Box<dyn Fn()>>>,
}

/// A client that has logged in: AuthenticationOk is sent, the rest of the start-up (ParameterStatus, BackendKeyData,
/// ReadyForQuery) is the session's business, see [`crate::login::finish`].
pub struct Session {
    /// Its connection.
    pub client: ClientConn,
    /// What it said.
    pub info: StartupInfo,
    /// Its cancel key, and where to bind the servers it uses.
    pub cancel: ClientCancel,
    /// Counts it among its database's and its user's clients.
    pub admission: Admission,
    /// Tells when the session must end.
    pub stop: Rc<Stop>,
    /// The worker it runs on.
    pub ctx: Rc<WorkerCtx>,
}

/// What a worker does with clients that have logged in. One value per worker, made on the worker's thread, so it can
/// hold caches without locks.
pub trait SessionHandler: 'static {
    /// Serves one client until it is gone, by a future given to the guard. A panic inside ends this session only.
    fn run(self: Rc<Self>, session: Session, guard: Guard);
}

/// Makes each worker's handler, on the worker's thread, inside its runtime.
pub type HandlerFactory = Arc<dyn Fn(&Rc<WorkerCtx>) -> Rc<dyn SessionHandler> + Send + Sync>;
