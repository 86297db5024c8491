//! The cluster as one proxy sees it: sharding metadata from the topology store, schema facts from the home shard.
//!
//! A control thread ([`control`]) follows the store; sessions read what it publishes here and never wait for it,
//! except while a change has the cluster paused.

mod collection;
pub mod control;
mod databases;
pub(crate) mod facts;
mod follow;
mod gate;
mod manual;
mod outcome;
mod recovery;
mod snapshots;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use catalog::{ShardId, Snapshot};
use tokio::sync::Notify;
use topology::{ChangeCoordinator, ChangeError, ChangeGuard, ChangeScope, ClusterRecord, Membership};

use crate::admin_link::{AdminError, AdminLink};
use crate::config::{AdminConfig, Limits, ReplicaConfig};
use crate::failpoint::FailPoints;
use crate::nodes::Nodes;
use crate::ops::guards;
use crate::server::Address;
use crate::session::Fault;
use crate::tls::Tls;
use databases::{Database, Databases};
pub use databases::{ServeDatabases, ServeError};
pub use gate::{Gate, Running};
pub(crate) use manual::{End, Verdict};
pub(crate) use outcome::{InDoubt, Outcome};
pub(crate) use snapshots::Held;

/// How long running statements are waited for, while all others wait, before a change lets them go on and tries again.
/// After the last time it is given up. What runs may be waiting for something that a session of another proxy holds, which
/// has to wait there: it can then go on, soon.
const PAUSE_TIMEOUTS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// How long everything goes on between two such times.
const BETWEEN_PAUSES: Duration = Duration::from_millis(200);

/// How long a change waits for the other proxies.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long clients outside of transactions, and changes, wait for a proxy that has lost touch with the cluster.
pub(crate) const LOST_TOUCH_PATIENCE: Duration = Duration::from_secs(10);

/// How often they look whether it is over.
pub(crate) const LOST_TOUCH_LOOK: Duration = Duration::from_millis(50);

/// What the sessions of one proxy know about the cluster.
pub struct Cluster {
    limits: Limits,
    gather_bytes_max: usize,
    admin: AdminConfig,
    /// Encryption, of clients' connections and of those to servers.
    pub tls: Arc<Tls>,
    record: ArcSwap<ClusterRecord>,
    home: AtomicU32,
    databases: Databases,
    /// Other metadata were taken over.
    loaded: Notify,
    /// The first database that this proxy is configured for.
    first_database: OnceLock<String>,
    membership: OnceLock<Arc<Membership>>,
    /// Makes the salts of users that do not exist the same at all proxies.
    pub(crate) salt_secret: OnceLock<[u8; 32]>,
    /// What is loaded is known to be out of date.
    stale: AtomicBool,
    /// The servers of each shard as they are observed.
    pub nodes: Arc<Nodes>,
    /// Pauses statements while a change is made.
    pub gate: Gate,
    /// What moves of tables count.
    pub(crate) figures: Arc<crate::metrics::WorkerMetrics>,
    recovery: Notify,
    /// Where times without decisions are asked for.
    snapshots: snapshots::Desk,
    /// The home shard has another primary.
    home_moved: Notify,
    /// What a test does to this process.
    pub(crate) fail_points: FailPoints,
}

impl Cluster {
    /// A cluster that has not loaded anything yet.
    pub(crate) fn new(
        record: ClusterRecord,
        admin: AdminConfig,
        tls: Arc<Tls>,
        limits: Limits,
        gather_bytes_max: usize,
        replicas: ReplicaConfig,
    ) -> Self {
        let databases = Databases::default();
        databases.add(&record.databases);
        Self {
            limits,
            gather_bytes_max,
            admin,
            tls,
            home: AtomicU32::new(record.home.0),
            nodes: Arc::new(Nodes::new(&record, replicas)),
            record: ArcSwap::from_pointee(record),
            databases,
            loaded: Notify::new(),
            first_database: OnceLock::new(),
            membership: OnceLock::new(),
            salt_secret: OnceLock::new(),
            stale: AtomicBool::new(false),
            gate: Gate::default(),
            figures: Arc::default(),
            recovery: Notify::new(),
            snapshots: snapshots::Desk::default(),
            home_moved: Notify::new(),
            fail_points: FailPoints::default(),
        }
    }

    fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name)
    }

    /// Bounds on what comes from outside.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The bound on rows gathered for one statement, in bytes.
    pub fn gather_bytes_max(&self) -> usize {
        self.gather_bytes_max
    }

    /// The home shard.
    pub fn home(&self) -> ShardId {
        ShardId(self.home.load(Ordering::Relaxed))
    }

    /// The metadata as last loaded.
    pub fn record(&self) -> Arc<ClusterRecord> {
        self.record.load_full()
    }

    /// Changes whenever plans of this database may have to change.
    pub fn version(&self, database: &str) -> u64 {
        self.database(database)
            .map_or(0, |database| database.version.load(Ordering::Acquire))
    }

    /// The facts of a database.
    pub(crate) async fn snapshot(&self, database: &str) -> Result<Arc<Snapshot>, Fault> {
        match self.facts(database) {
            Some(facts) if self.serves(database) => Ok(facts),
            _ => Err(Fault::error(
                "3D000",
                format!("database \"{database}\" does not exist"),
            )),
        }
    }

    /// The facts of a database, for those who only look; `None` when there is no such database.
    pub fn facts(&self, database: &str) -> Option<Arc<Snapshot>> {
        self.database(database)
            .map(|database| database.snapshot.load_full())
    }

    /// Its facts are loaded, and the servers have it.
    #[must_use]
    pub fn serves(&self, database: &str) -> bool {
        self.database(database)
            .is_some_and(|database| database.served.load(Ordering::Acquire))
    }

    /// Whether this proxy may still trust what it knows; a proxy that has lost its lease, or could not load what
    /// others work with, serves nothing.
    pub fn is_valid(&self) -> bool {
        !self.stale.load(Ordering::Acquire)
            && self
                .membership
                .get()
                .is_none_or(|membership| membership.is_valid(Instant::now()))
    }

    /// Begins a change of the cluster; only one is under way at a time.
    pub async fn change(&self, scope: ChangeScope) -> Result<ChangeGuard, ChangeError> {
        let Some(membership) = self.membership.get() else {
            return Err(ChangeError::NoCluster);
        };
        ChangeCoordinator::new(Arc::clone(membership))
            .begin(scope, change_deadline())
            .await
    }

    /// Begins a change when nothing of its scope runs any more on any proxy. Who calls this must not count as running.
    pub async fn change_alone(&self, scope: ChangeScope) -> Result<ChangeGuard, ChangeError> {
        let mut waits = PAUSE_TIMEOUTS.iter();
        loop {
            let guard = self.change(scope.clone()).await?;
            let wait = waits.next().unwrap_or(&Duration::ZERO);
            match guard.all_paused(Instant::now() + *wait).await {
                Ok(()) => return Ok(guard),
                Err(ChangeError::Wait(_)) if waits.len() > 0 => drop(guard),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(BETWEEN_PAUSES).await;
        }
    }

    /// Waits until this proxy may serve again. False: not soon.
    pub(crate) async fn regains_touch(&self) -> bool {
        let deadline = Instant::now() + LOST_TOUCH_PATIENCE;
        while !self.is_valid() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOST_TOUCH_LOOK).await;
        }
        true
    }

    /// A connection of the proxy's own.
    pub async fn admin_link(&self, shard: ShardId, database: &str) -> Result<AdminLink, AdminError> {
        let record = self.record();
        let Some(shard) = record.shard(shard) else {
            return Err(AdminError::State(format!("there is no shard {shard}")));
        };
        let address = self.nodes.primary(shard.id.0).map_err(AdminError::State)?;
        self.admin_link_to(&shard.name, address, database).await
    }

    /// A connection to a shard's primary that reads its log.
    pub(crate) async fn replication_link(
        &self,
        shard: ShardId,
        database: &str,
    ) -> Result<AdminLink, AdminError> {
        let record = self.record();
        let Some(shard) = record.shard(shard) else {
            return Err(AdminError::State(format!("there is no shard {shard}")));
        };
        let address = self.nodes.primary(shard.id.0).map_err(AdminError::State)?;
        let tls = self.tls.server(&shard.name);
        let more = [("replication", "database")];
        AdminLink::connect_with(address, tls, &self.admin, database, &more).await
    }

    /// This proxy's registration; `None` before it has one.
    pub(crate) fn membership(&self) -> Option<&Arc<Membership>> {
        self.membership.get()
    }

    /// A connection for looking at one server of a shard, be it the primary or not.
    pub(crate) async fn watch_link(&self, shard: u32, address: &Address) -> Result<AdminLink, AdminError> {
        let record = self.record();
        let shard = record.shard(ShardId(shard));
        let name = shard.map_or("", |shard| shard.name.as_str());
        // Every server of the cluster has one that is served; nothing is at the start.
        let served = record.databases.iter().find(|name| self.serves(name));
        let database = served.or_else(|| self.first_database.get());
        let database = database.map_or("postgres", String::as_str);
        self.admin_link_to(name, address.clone(), database).await
    }

    /// Another server is the primary of a shard, or none is. Prepared transactions may wait there, and what was read of
    /// the catalog may have been lost.
    pub(crate) fn primary_moved(&self, shard: u32) {
        self.ask_recovery();
        if shard == self.home().0 {
            self.home_moved.notify_one();
        }
    }

    /// Waits for a time in which no commit over several shards of a database is decided or half done. The error says why
    /// there is none.
    pub(crate) async fn hold_decisions(&self, database: &str) -> Result<Held, String> {
        self.snapshots.hold(database).await
    }

    /// Finishes what a commit left prepared on a shard, or leaves it to recovery when that takes long.
    pub(crate) async fn finish_prepared(&self, database: &str, shard: ShardId, gid: &commit::Gid) {
        if !recovery::finish_now(self, database, shard, gid).await {
            tracing::warn!(%shard, %gid, "a prepared transaction is left to recovery");
            self.ask_recovery();
        }
    }

    /// What became of a transaction. One that nobody works on any more, and that has not committed, never will.
    pub(crate) async fn outcome(&self, database: &str, gid: &commit::Gid) -> Result<Outcome, AdminError> {
        outcome::ask(self, database, gid).await
    }

    /// The outcome of a transaction of this proxy that it does nothing more about: committed or not; `None`: not known in time.
    pub(crate) async fn outcome_soon(&self, database: &str, gid: &commit::Gid) -> Option<bool> {
        outcome::find_out(self, database, gid).await
    }

    /// What is prepared on any shard, the oldest first, and the shards that could not be asked.
    pub(crate) async fn in_doubt(&self, database: &str) -> (Vec<InDoubt>, Vec<(ShardId, AdminError)>) {
        outcome::list(self, database).await
    }

    /// What the rule of recovery says about all that is in doubt, the oldest first, and, unless this is a dry run, does about it;
    /// and the shards that could not be asked. What is not decided and younger than `older_than` is left alone.
    pub(crate) async fn resolve_in_doubt(
        &self,
        database: &str,
        older_than: Option<Duration>,
        dry_run: bool,
    ) -> (Vec<Verdict>, Vec<(ShardId, AdminError)>) {
        manual::run(self, database, older_than, dry_run).await
    }

    /// Finishes every prepared transaction whose decision is known, however young it is. Failures are left to recovery.
    pub(crate) async fn finish_decided(&self) {
        if let Err(error) = recovery::run_decided(self).await {
            tracing::debug!(%error, "prepared transactions could not be looked at");
            self.ask_recovery();
        }
    }

    /// The same to a given server of the shard with this name.
    async fn admin_link_to(
        &self,
        shard: &str,
        address: Address,
        database: &str,
    ) -> Result<AdminLink, AdminError> {
        let tls = self.tls.server(shard);
        if self.nodes.fence() == 0 {
            return AdminLink::connect(address, tls, &self.admin, database).await;
        }
        // Drover's own work knows what it does, whatever this proxy has heard of the cluster.
        let (name, value) = guards::stated(guards::OWN);
        AdminLink::connect_with(address, tls, &self.admin, database, &[(&*name, &*value)]).await
    }

    /// Loads the facts of a database for the given metadata, as seen on this connection. What cannot change is taken
    /// from the facts loaded last.
    pub async fn load_facts(
        &self,
        link: &mut AdminLink,
        record: &ClusterRecord,
        database: &str,
    ) -> Result<Snapshot, AdminError> {
        let input = record
            .sharding_input(database)
            .map_err(|error| AdminError::State(error.to_string()))?;
        let known = self.facts(database).filter(|_| self.serves(database));
        let safe = &self.nodes.config().safe_functions;
        facts::load(link, &input, known.as_deref(), safe).await
    }

    /// Replaces the facts of a database.
    fn publish_facts(&self, database: &str, snapshot: Snapshot) {
        if let Some(entry) = self.database(database) {
            entry.snapshot.store(Arc::new(snapshot));
            entry.version.fetch_add(1, Ordering::Release);
            entry.served.store(true, Ordering::Release);
        }
    }

    /// The servers have it no more.
    fn withdraw(&self, database: &str) {
        if let Some(entry) = self.database(database)
            && entry.served.swap(false, Ordering::AcqRel)
        {
            tracing::warn!(%database, "the database is gone from its server and not served any more");
            // Whoever is in it has to look again.
            entry.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Says whether what is loaded is known to be out of date.
    fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    /// Takes over new metadata.
    fn adopt(&self, record: Arc<ClusterRecord>) {
        self.home.store(record.home.0, Ordering::Relaxed);
        self.nodes.set_topology(&record);
        self.record.store(record);
        self.loaded.notify_waiters();
    }

    /// Wakes recovery: a prepared transaction was left behind.
    pub fn ask_recovery(&self) {
        self.recovery.notify_one();
    }
}

/// When a change that begins now gives up.
pub fn change_deadline() -> Instant {
    Instant::now() + CHANGE_TIMEOUT
}
