//! One worker's server connections: [`pool::Pool`] machines with sockets attached.
//!
//! The path that matters, an idle connection for a transaction's first shard, is [`ShardPool::try_checkout`]: it
//! awaits nothing, allocates nothing and takes no lock that another worker could hold (only the client's own cancel
//! slot). Everything else happens behind a [`pool::Effect`].

mod dial;
mod entries;
mod lease;
mod permits;
mod policy;
mod queue;
mod shards;
mod sharing;
mod state;
mod tickets;
pub(crate) mod upkeep;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use dial::Dials;
pub use entries::{Admission, Budget, DatabaseState, Entries, UserState};
use hashbrown::HashMap;
pub use lease::Lease;
pub(crate) use permits::{Denied, Limiters, Permit};
pub use policy::{Policies, PolicySource, PoolPolicy};
pub use shards::Shards;
use state::KEEPER;
pub use state::ShardPool;
pub(crate) use state::WorkerPools;
pub use tickets::TicketGuard;
pub(crate) use tickets::{Ending, Holder, Tickets};

use crate::buffers::Buffers;
use crate::cancel::CancelSlot;
use crate::listing::ServerRow;
use crate::metrics::WorkerMetrics;
use crate::nodes::NodeId;
use crate::server::Travelling;
use crate::worker::{Shared, Switch};

/// Which server of a shard connections go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The shard, by its number in plans.
    pub shard: u32,
    /// A replica; `None`: whichever server is the primary.
    pub node: Option<NodeId>,
}

impl Place {
    /// Whichever server is the shard's primary.
    #[must_use]
    pub const fn primary(shard: u32) -> Self {
        Self { shard, node: None }
    }

    /// This server of the shard, for reads.
    #[must_use]
    pub const fn replica(shard: u32, node: NodeId) -> Self {
        Self {
            shard,
            node: Some(node),
        }
    }
}

/// Which pool.
///
/// What the servers know is part of it, not only of the settings: when a database entry is made to stand for another
/// database or role, sessions that began before keep the pool they planned for until they have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolKey {
    /// The server.
    pub place: Place,
    /// The client's user.
    pub user: Arc<str>,
    /// The database as clients name it.
    pub database: Arc<str>,
    /// The role on the server.
    pub server_user: Arc<str>,
    /// The database on the server.
    pub server_database: Arc<str>,
}

impl PoolKey {
    /// The pool that the settings name.
    pub(crate) fn new(place: Place, user: &Arc<str>, database: &Arc<str>, policy: &PoolPolicy) -> Self {
        Self {
            place,
            user: Arc::clone(user),
            database: Arc::clone(database),
            server_user: Arc::clone(&policy.server_user),
            server_database: Arc::clone(&policy.server_database),
        }
    }

    /// Clients that come now would use this pool.
    pub(crate) fn is_of(&self, policy: &PoolPolicy) -> bool {
        self.server_database == policy.server_database && self.server_user == policy.server_user
    }
}

impl std::hash::Hash for PoolKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The rest differs only while an entry is being changed.
        (self.place, &self.user, &self.database).hash(state);
    }
}

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// The first shard of a transaction.
    First,
    /// The same with a patience of its own for a server that is away.
    Held(pool::Hold),
    /// A further shard of a transaction that holds a ticket; never waits for other transactions.
    Further(&'a TicketGuard),
    /// The proxy's own work: schema reads, recovery.
    Control,
}

impl Purpose<'_> {
    fn hold(self) -> pool::Hold {
        match self {
            Self::Held(hold) => hold,
            _ => pool::Hold::default(),
        }
    }

    fn class(self) -> pool::Class {
        match self {
            Self::First | Self::Held(_) => pool::Class::First,
            Self::Further(_) => pool::Class::Further,
            Self::Control => pool::Class::Control,
        }
    }
}

/// Why there is no connection; ready for an ErrorResponse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CheckoutError {
    /// SQLSTATE: 53300 (limits), 40001 (tickets), 57014 (a cancel), 08006 (unreachable), or what the server answered to the login.
    pub sqlstate: String,
    /// For the client.
    pub message: String,
    /// For the client.
    pub hint: Option<String>,
}

impl CheckoutError {
    /// The client cancelled what it waits for.
    pub(crate) fn cancelled() -> Self {
        Self {
            sqlstate: "57014".into(),
            message: crate::exec::relay::CANCELLED.into(),
            hint: None,
        }
    }
}

/// Figures of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStats {
    /// Which pool.
    pub key: PoolKey,
    /// Whose.
    pub worker: usize,
    /// Its figures.
    pub stats: pool::Stats,
    /// The settings in force.
    pub policy: PoolPolicy,
    /// Connections for first shards, open or being opened, of all workers together.
    pub open: usize,
    /// New transactions wait.
    pub paused: bool,
}

/// How often pools with waiting requests look at the time.
const TICK_BUSY: Duration = Duration::from_millis(10);

/// How often pools without waiting requests look at the time.
const TICK_QUIET: Duration = Duration::from_secs(1);

/// All pools of one worker. Cloning gives another handle to the same ones.
#[derive(Clone)]
pub struct Pools {
    inner: Rc<Inner>,
}

struct Inner {
    worker: Rc<WorkerPools>,
    by_key: RefCell<HashMap<PoolKey, ShardPool, foldhash::fast::RandomState>>,
}

impl Pools {
    /// No pools yet; they are made when first asked for.
    pub(crate) fn new(
        shared: Arc<Shared>,
        worker: usize,
        metrics: Arc<WorkerMetrics>,
        buffers: Buffers,
    ) -> Self {
        let worker = Rc::new(WorkerPools::new(shared, worker, metrics, buffers));
        Self {
            inner: Rc::new(Inner {
                worker,
                by_key: RefCell::default(),
            }),
        }
    }

    /// The pool for a shard's primary, a client's user and a database entry, as configured now.
    #[must_use]
    pub fn pool(&self, shard: u32, user: &Arc<str>, database: &Arc<str>) -> ShardPool {
        let policies = &self.inner.worker.shared.policies;
        let policy = policies.resolve_or_general(user, database);
        self.pool_for(&PoolKey::new(Place::primary(shard), user, database, &policy))
    }

    /// Waits for a connection; `slot` is the client whose cancels go to it from now on.
    pub async fn checkout(
        &self,
        key: &PoolKey,
        purpose: Purpose<'_>,
        slot: Option<&Arc<CancelSlot>>,
    ) -> Result<Lease, CheckoutError> {
        self.pool_for(key).checkout(purpose, slot).await
    }

    /// Waits for a ticket: needed before a transaction's second shard is enlisted, kept to its end. `slot`: its client's.
    pub async fn ticket(&self, slot: Option<&Arc<CancelSlot>>) -> Result<TicketGuard, CheckoutError> {
        let (result, waited) = self.inner.worker.shared.tickets.acquire(slot).await;
        if waited {
            self.inner.worker.metrics.ticket_waits.increment();
        }
        if result.is_err() {
            self.inner.worker.metrics.tickets_refused.increment();
        }
        result
    }

    /// Lists a session that has servers of several shards without a ticket, until the result is dropped.
    pub(crate) fn listed(&self, slot: &Arc<CancelSlot>) -> TicketGuard {
        self.inner.worker.shared.tickets.list(slot)
    }

    /// Figures of this worker's pools.
    #[must_use]
    pub fn stats(&self) -> Vec<PoolStats> {
        self.inner
            .by_key
            .borrow()
            .values()
            .map(ShardPool::stats)
            .collect()
    }

    /// This worker's server connections.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerRow> {
        let mut rows = Vec::new();
        for pool in self.inner.by_key.borrow().values() {
            pool.list(&mut rows);
        }
        rows
    }

    /// A pool. Sessions keep the handle instead of asking for each transaction.
    #[must_use]
    pub fn pool_for(&self, key: &PoolKey) -> ShardPool {
        if let Some(pool) = self.inner.by_key.borrow().get(key) {
            return pool.clone();
        }
        let pool = ShardPool::new(key.clone(), Rc::clone(&self.inner.worker));
        self.inner.by_key.borrow_mut().insert(key.clone(), pool.clone());
        pool
    }

    fn existing(&self, key: &PoolKey) -> Option<ShardPool> {
        self.inner.by_key.borrow().get(key).cloned()
    }

    /// Another worker has requests waiting and no permit left.
    pub(crate) fn wanted(&self, key: &PoolKey) {
        if let Some(pool) = self.existing(key) {
            pool.give_idle_away();
        }
    }

    /// A permit may be free again.
    pub(crate) fn room(&self, key: &PoolKey) {
        if let Some(pool) = self.existing(key) {
            pool.retry_denied();
        }
    }

    /// A connection from another worker.
    pub(crate) fn adopt(&self, key: &PoolKey, travelling: Travelling, permit: Permit) {
        self.pool_for(key).adopt(travelling, permit);
    }

    /// The server changed.
    pub(crate) fn recycle(&self, place: Place) {
        for pool in self.matching(|key| key.place == place) {
            pool.recycle();
        }
    }

    /// Cuts the connections to a server that is dead or has been replaced.
    pub(crate) fn cut(&self, place: Place) {
        // A replica has one address for ever; the primary's may be good.
        let good = match place.node {
            None => self.inner.worker.shared.address_of(place),
            Some(_) => None,
        };
        for pool in self.matching(|key| key.place == place) {
            pool.cut(good.as_ref());
        }
    }

    /// Connections to the server that are idle now need a check.
    pub(crate) fn suspect(&self, place: Place) {
        for pool in self.matching(|key| key.place == place) {
            pool.suspect();
        }
    }

    /// Switches the pools of a client database, or all.
    pub(crate) fn switch(&self, database: Option<&str>, switch: Switch) {
        for pool in self.matching(|key| database.is_none_or(|name| *key.database == *name)) {
            pool.switch(switch);
        }
    }

    /// Switches the pools of a shard's primary.
    pub(crate) fn switch_shard(&self, shard: u32, switch: Switch) {
        for pool in self.matching(|key| key.place == Place::primary(shard)) {
            pool.switch(switch);
        }
    }

    /// Pool settings were replaced.
    pub(crate) fn reconfigure(&self) {
        for pool in self.matching(|_| true) {
            pool.reconfigure();
        }
        self.drop_retired();
    }

    /// Forgets pools that no client can get any more and nobody holds.
    fn drop_retired(&self) {
        let mut pools = self.inner.by_key.borrow_mut();
        pools.retain(|_, pool| !pool.is_over());
    }

    /// Another pool needs a connection under a limit that it shares with these.
    pub(crate) fn evict(&self, needy: &PoolKey, denied: Denied) {
        let under_limit = |key: &PoolKey| match denied {
            Denied::Pool => false,
            Denied::Database => key.database == needy.database,
            Denied::User => key.user == needy.user,
            Denied::Total => true,
        };
        let mut pools = self.matching(|key| key != needy && under_limit(key));
        // The one with most idle connections misses one least.
        pools.sort_by_key(|pool| std::cmp::Reverse(pool.idle()));
        if let Some(pool) = pools.first() {
            pool.evict();
        }
    }

    fn matching(&self, wanted: impl Fn(&PoolKey) -> bool) -> Vec<ShardPool> {
        let pools = self.inner.by_key.borrow();
        let matching = pools.iter().filter(|(key, _)| wanted(key));
        matching.map(|(_, pool)| pool.clone()).collect()
    }

    /// Closes what is idle, and the rest as soon as it comes back.
    pub(crate) fn close_all(&self) {
        for pool in self.matching(|_| true) {
            pool.recycle();
        }
    }

    /// Lets time pass in all pools, for ever.
    pub(crate) async fn run_timer(&self) {
        let worker = &self.inner.worker;
        let mut quiet_ticks = 0_u32;
        loop {
            // Staying fast for a while after the last waiter spares a wake-up per waiting request.
            let slow = quiet_ticks > 100;
            worker
                .seconds
                .set(crate::listing::seconds(std::time::SystemTime::now()));
            worker.timer_is_slow.set(slow);
            let tick = if slow { TICK_QUIET } else { TICK_BUSY };
            tokio::select! {
                () = tokio::time::sleep(tick) => {}
                () = worker.timer.notified(), if slow => {}
            }
            let pools = self.matching(|_| true);
            let mut waiting = false;
            for pool in pools {
                waiting |= pool.tick();
            }
            if slow {
                self.drop_retired();
            }
            quiet_ticks = if waiting { 0 } else { quiet_ticks.saturating_add(1) };
        }
    }
}

#[cfg(test)]
mod tests;
