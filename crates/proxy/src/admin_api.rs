//! What an operator may do to the pools of a running proxy, from any thread.
//!
//! A *database* here is the name clients use (an entry of the configuration). Every command works on all workers; it
//! has begun when the call returns, and [`PoolAdmin::pause`] and [`PoolAdmin::wait_close`] also wait for its end.
//!
//! | command | clients | server connections |
//! |---|---|---|
//! | pause | new transactions wait, however long | idle ones are closed, the others when they come back |
//! | resume | go on; their time in the queue begins anew | are opened as needed |
//! | kill | are ended at once (57P01); new transactions wait as in a pause | are closed |
//! | reconnect | notice nothing | idle ones are closed, the others when they come back |
//! | disable, enable | new ones are refused (3D000), or no longer | stay |
//!
//! A transaction that has begun always goes on, also to further shards: a pause must not be waited for by those it
//! makes wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::PoolMode;
use crate::pools::{DatabaseState, Place, PoolKey, PoolStats};
use crate::worker::{Shared, Switch, WorkerMessage};

/// How often waiting commands look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolCommandError {
    /// No such database.
    #[error("no such database: {0}")]
    NoDatabase(String),
    /// It is in that state already.
    #[error("already {0}")]
    Already(&'static str),
    /// It is not paused.
    #[error("database {0} is not paused")]
    NotPaused(String),
    /// There is no such shard.
    #[error("there is no shard \"{0}\"")]
    NoShard(String),
    /// The shard has no such server.
    #[error("the shard has no server {0}")]
    NoServer(String),
    /// It did not end in the time given; a pause stays in force.
    #[error("not done in time")]
    TimedOut,
}

/// The figures of the pools for one shard, user and database, over all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFigures {
    /// Which pools.
    pub key: PoolKey,
    /// How long a client keeps a server.
    pub mode: PoolMode,
    /// Database and role on the server.
    pub server: (Arc<str>, Arc<str>),
    /// Connections lent out.
    pub active: usize,
    /// Connections waiting for work.
    pub idle: usize,
    /// Logins running.
    pub login: usize,
    /// Requests waiting.
    pub waiting: usize,
    /// How long the longest waiting request has waited.
    pub longest_wait: Duration,
    /// Connections for first shards, open or being opened.
    pub open: usize,
    /// The most of them.
    pub size: usize,
    /// Of them kept open.
    pub min_size: usize,
    /// Beyond `size` for those who waited long.
    pub reserve: usize,
    /// New transactions wait.
    pub paused: bool,
}

/// Commands for the pools of one proxy. Cloning gives another handle to the same proxy.
#[derive(Clone)]
pub struct PoolAdmin {
    shared: Arc<Shared>,
}

impl PoolAdmin {
    /// Commands for the proxy with these workers.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All pools with their figures, by database, user and shard.
    pub async fn pools(&self) -> Vec<PoolFigures> {
        let mut all: Vec<PoolFigures> = Vec::new();
        for stats in self.shared.pool_stats().await {
            match all.iter_mut().find(|figures| figures.key == stats.key) {
                Some(figures) => figures.add(&stats),
                None => all.push(PoolFigures::new(&stats)),
            }
        }
        let order = |it: &PoolFigures| {
            let key = &it.key;
            (Arc::clone(&key.database), Arc::clone(&key.user), key.place)
        };
        all.sort_by_key(order);
        all
    }

    /// All databases that are configured or were used, by name, with their clients, connections and switches.
    #[must_use]
    pub fn databases(&self) -> Vec<Arc<DatabaseState>> {
        self.shared.entries.databases()
    }

    /// Pauses a database, or all, and waits until its servers are released. The pause is in force when the time is
    /// over, too.
    pub async fn pause(&self, database: Option<&str>, patience: Duration) -> Result<(), PoolCommandError> {
        let states = self.states(database)?;
        if states.iter().all(|state| state.is_paused()) && !states.is_empty() {
            return Err(PoolCommandError::Already("paused"));
        }
        self.set_paused(database, &states, true);
        self.wait_until(patience, |figures| {
            figures.active > 0 && database.is_none_or(|name| *figures.key.database == *name)
        })
        .await
    }

    /// Ends a pause of a database, or of all.
    pub fn resume(&self, database: Option<&str>) -> Result<(), PoolCommandError> {
        let states = self.states(database)?;
        if !states.iter().any(|state| state.is_paused()) {
            let name = database.unwrap_or("(all)").to_owned();
            return Err(PoolCommandError::NotPaused(name));
        }
        self.set_paused(database, &states, false);
        Ok(())
    }

    /// Pauses a shard and waits until its primary is released: for whoever is about to promote another server. The pause
    /// is in force when the time is over, too.
    pub async fn pause_shard(&self, shard: &str, patience: Duration) -> Result<(), PoolCommandError> {
        let shard = self.shard(shard)?;
        if !self.shared.nodes.set_paused(shard, true) {
            return Err(PoolCommandError::Already("paused"));
        }
        self.switch_shard(shard, Switch::Pause);
        let place = Place::primary(shard);
        self.wait_until(patience, |figures| {
            figures.active > 0 && figures.key.place == place
        })
        .await
    }

    /// Ends a pause of a shard, once it is known which of its servers is the primary now.
    pub async fn resume_shard(&self, name: &str) -> Result<(), PoolCommandError> {
        let shard = self.shard(name)?;
        if !self.shared.nodes.is_paused(shard) {
            return Err(PoolCommandError::NotPaused(name.to_owned()));
        }
        self.shared.nodes.look_and_wait(shard).await;
        self.shared.nodes.set_paused(shard, false);
        self.switch_shard(shard, Switch::Resume);
        Ok(())
    }

    /// Believes this server (`host:port`) to be the primary of a shard, where two claim to be it.
    pub async fn choose_primary(&self, name: &str, address: &str) -> Result<(), PoolCommandError> {
        let shard = self.shard(name)?;
        let nodes = &self.shared.nodes;
        let view = nodes.view(shard);
        let found = view.and_then(|view| {
            let mut all = view.nodes.iter();
            all.find(|node| node.node.address().to_string() == address)
                .map(|node| node.id)
        });
        if !found.is_some_and(|node| nodes.decide(shard, node)) {
            return Err(PoolCommandError::NoServer(address.to_owned()));
        }
        nodes.look_and_wait(shard).await;
        Ok(())
    }

    fn shard(&self, name: &str) -> Result<u32, PoolCommandError> {
        let views = self.shared.nodes.views();
        let found = views.iter().find(|view| *view.name == *name);
        found
            .map(|view| view.shard)
            .ok_or_else(|| PoolCommandError::NoShard(name.to_owned()))
    }

    fn switch_shard(&self, shard: u32, switch: Switch) {
        let mailboxes = &self.shared.mailboxes;
        mailboxes.send_all(|| WorkerMessage::SwitchShard { shard, switch });
    }

    /// Ends the sessions of a database, or of all, at once; new transactions wait until [`Self::resume`].
    pub fn kill(&self, database: Option<&str>) -> Result<(), PoolCommandError> {
        let states = self.states(database)?;
        self.set_paused(database, &states, true);
        self.switch(database, Switch::Kill);
        Ok(())
    }

    /// Replaces the server connections of a database, or of all, as they come back.
    pub fn reconnect(&self, database: Option<&str>) -> Result<(), PoolCommandError> {
        self.states(database)?;
        self.switch(database, Switch::Recycle);
        Ok(())
    }

    /// Waits until no connection that is open now is open any more; after [`Self::reconnect`].
    pub async fn wait_close(
        &self,
        database: Option<&str>,
        patience: Duration,
    ) -> Result<(), PoolCommandError> {
        self.states(database)?;
        let deadline = Instant::now() + patience;
        while self.outdated(database).await > 0 {
            if Instant::now() >= deadline {
                return Err(PoolCommandError::TimedOut);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Refuses new clients of a database.
    pub fn disable(&self, database: &str) -> Result<(), PoolCommandError> {
        self.set_disabled(database, true)
    }

    /// Lets clients in again.
    pub fn enable(&self, database: &str) -> Result<(), PoolCommandError> {
        self.set_disabled(database, false)
    }

    /// Connections opened before the last [`Self::reconnect`] and not closed yet.
    async fn outdated(&self, database: Option<&str>) -> usize {
        let pools = self.shared.pool_stats().await;
        pools
            .iter()
            .filter(|pool| database.is_none_or(|name| *pool.key.database == *name))
            .map(|pool| pool.stats.outdated)
            .sum()
    }

    fn states(&self, database: Option<&str>) -> Result<Vec<Arc<DatabaseState>>, PoolCommandError> {
        let known = self.shared.entries.databases();
        let Some(name) = database else { return Ok(known) };
        let found: Vec<_> = known.into_iter().filter(|state| *state.name == *name).collect();
        if found.is_empty() {
            return Err(PoolCommandError::NoDatabase(name.to_owned()));
        }
        Ok(found)
    }

    fn set_paused(&self, database: Option<&str>, states: &[Arc<DatabaseState>], paused: bool) {
        // First the state, which pools made from now on begin with, then those that exist.
        if database.is_none() {
            self.shared.entries.all_paused.store(paused, Ordering::Release);
        }
        for state in states {
            state.paused.store(paused, Ordering::Release);
        }
        let switch = if paused { Switch::Pause } else { Switch::Resume };
        self.switch(database, switch);
    }

    fn set_disabled(&self, database: &str, disabled: bool) -> Result<(), PoolCommandError> {
        for state in self.states(Some(database))? {
            state.disabled.store(disabled, Ordering::Release);
        }
        Ok(())
    }

    fn switch(&self, database: Option<&str>, switch: Switch) {
        let database: Option<Arc<str>> = database.map(Arc::from);
        self.shared.mailboxes.send_all(|| WorkerMessage::Switch {
            database: database.clone(),
            switch,
        });
    }

    async fn wait_until(
        &self,
        patience: Duration,
        busy: impl Fn(&PoolFigures) -> bool,
    ) -> Result<(), PoolCommandError> {
        let deadline = Instant::now() + patience;
        while self.pools().await.iter().any(&busy) {
            if Instant::now() >= deadline {
                return Err(PoolCommandError::TimedOut);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl PoolFigures {
    fn new(stats: &PoolStats) -> Self {
        let mut figures = Self {
            key: stats.key.clone(),
            mode: stats.policy.mode,
            server: (
                Arc::clone(&stats.policy.server_database),
                Arc::clone(&stats.policy.server_user),
            ),
            active: 0,
            idle: 0,
            login: 0,
            waiting: 0,
            longest_wait: Duration::ZERO,
            open: stats.open,
            size: stats.policy.size,
            min_size: stats.policy.min_size,
            reserve: stats.policy.reserve,
            paused: stats.paused,
        };
        figures.add(stats);
        figures
    }

    fn add(&mut self, stats: &PoolStats) {
        self.active += stats.stats.leased;
        self.idle += stats.stats.idle;
        self.login += stats.stats.dialling;
        self.waiting += stats.stats.waiting;
        self.longest_wait = self.longest_wait.max(stats.stats.longest_wait);
    }
}
