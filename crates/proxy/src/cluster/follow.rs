//! How a proxy does what the store's events ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::Epoch;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use topology::records::BarrierId;
use topology::{
    ChangeScope, ClusterEvent, ClusterRecord, ClusterWatch, Membership, MembershipError, StoreError,
};

use super::Cluster;
use crate::admin_link::{AdminError, AdminLink};
use crate::server::Address;
use crate::worker::{Shared, Switch, WorkerMessage};

/// Pause after a cluster could not be loaded or acknowledged.
const RETRY_LOAD: Duration = Duration::from_millis(200);

/// Pause after the store could not be read.
const RETRY_STORE: Duration = Duration::from_secs(1);

/// Pause between attempts to finish what a lost leader has begun.
const RETRY_REPAIR: Duration = Duration::from_millis(500);

/// Connections for loading facts are kept this long: one change is often followed by another.
const LINK_IDLE: Duration = Duration::from_secs(5);

/// The workers, once they exist.
pub(super) type Workers = watch::Receiver<Option<Arc<Shared>>>;

/// Follows the store for one proxy.
///
/// The gate is open unless a change has asked for a pause, or a change was left unfinished.
pub(super) struct Follower {
    cluster: Arc<Cluster>,
    membership: Arc<Membership>,
    watch: ClusterWatch,
    workers: Workers,
    /// The cluster given last, until it is loaded and acknowledged.
    pending: Option<Arc<ClusterRecord>>,
    /// A change has asked for a pause and has not ended.
    paused: bool,
    /// A change is under way, whether it has asked for a pause or not: its leader ends what it has begun.
    led: bool,
    /// The pause was acknowledged when this was the newest cluster.
    held_at: Option<Epoch>,
    /// Which change is to be told when no statement runs any more.
    quieting: Option<BarrierId>,
    repairing: Option<JoinHandle<()>>,
    links: HashMap<String, Link>,
    /// The catalog is to be read again: the home shard has another primary.
    reload: bool,
}

/// A connection to the home shard's server.
struct Link {
    address: Address,
    link: AdminLink,
}

/// What there is to be done next.
enum Next {
    Stop,
    Event(Result<ClusterEvent, StoreError>),
    Quiet,
    Load,
    DropLinks,
    HomeMoved,
    LoadAgain,
}

impl Follower {
    /// Nothing is loaded yet.
    pub(super) fn new(cluster: Arc<Cluster>, membership: Arc<Membership>, workers: Workers) -> Self {
        Self {
            cluster,
            watch: ClusterWatch::new(Arc::clone(&membership)),
            membership,
            workers,
            pending: None,
            paused: false,
            led: false,
            held_at: None,
            quieting: None,
            repairing: None,
            links: HashMap::new(),
            reload: false,
        }
    }

    /// The cluster that is kept up to date.
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Loads the first cluster, so that somebody can be served.
    pub(super) async fn catch_up(&mut self) -> Result<(), super::control::ControlError> {
        let mut failed = false;
        while !self.membership.is_valid(Instant::now()) {
            let event = self.watch.next().await?;
            self.handle(event).await;
            if self.quieting.is_some() {
                self.acknowledge_pause().await;
            }
            // One more attempt: an object dropped meanwhile makes the first one fail.
            while let Some(record) = self.pending.clone() {
                if failed && let Err(source) = self.load_all(&record).await {
                    let database = record.databases.first().cloned().unwrap_or_default();
                    return Err(super::control::ControlError::Shard {
                        shard: record.home,
                        database,
                        source,
                    });
                }
                failed = true;
                self.load().await;
            }
        }
        Ok(())
    }

    /// Follows the store until told to stop, then leaves the cluster.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let cluster = Arc::clone(&self.cluster);
            let next = tokio::select! {
                _ = &mut stopped => Next::Stop,
                event = self.watch.next() => Next::Event(event),
                () = cluster.gate.quiet(), if self.quieting.is_some() => Next::Quiet,
                () = tokio::time::sleep(RETRY_LOAD), if self.pending.is_some() => Next::Load,
                () = tokio::time::sleep(RETRY_LOAD), if self.reload => Next::LoadAgain,
                () = cluster.home_moved.notified() => Next::HomeMoved,
                () = tokio::time::sleep(LINK_IDLE), if !self.links.is_empty() => Next::DropLinks,
            };
            match next {
                Next::Stop => break,
                Next::Event(Ok(event)) => self.handle(event).await,
                Next::Event(Err(error)) => {
                    tracing::error!(%error, "the cluster record cannot be read");
                    tokio::time::sleep(RETRY_STORE).await;
                }
                Next::Quiet => self.acknowledge_pause().await,
                Next::Load => self.load().await,
                Next::DropLinks => self.links.clear(),
                Next::HomeMoved => {
                    self.reload = true;
                    self.load_again().await;
                }
                Next::LoadAgain => self.load_again().await,
            }
        }
        if let Some(repairing) = self.repairing {
            repairing.abort();
        }
        self.cluster.gate.close();
        // The others need not wait for this proxy's lease to end.
        if let Err(error) = self.membership.leave().await {
            tracing::warn!(%error, "the registration could not be removed and ends with its lease");
        }
    }

    async fn handle(&mut self, event: ClusterEvent) {
        match event {
            ClusterEvent::NewCluster(record) => {
                self.pending = Some(record);
                self.load().await;
            }
            ClusterEvent::Paused { id, scope } => {
                self.led = true;
                if scope != ChangeScope::Nothing {
                    self.cluster.gate.drain();
                    self.paused = true;
                }
                // Statements may take longer than the change is prepared to wait: its end must be seen meanwhile.
                self.quieting = Some(id);
            }
            ClusterEvent::Resumed { .. } => {
                self.see_what_it_left().await;
                self.resume();
            }
            ClusterEvent::Fenced => {
                tracing::warn!("this proxy lost its registration and serves nothing until it is back");
                // Statements are refused from here on rather than held back.
                self.resume();
            }
        }
    }

    /// The home shard has another primary: what its predecessor did last may have been lost, so that what is known of
    /// the catalog is read again. Until that worked, what is known is used: it is newer, not older.
    async fn load_again(&mut self) {
        if self.pending.is_some() {
            // It is read anyway.
            self.reload = false;
            return;
        }
        if self.cluster.nodes.primary(self.cluster.home().0).is_err() {
            return;
        }
        let record = self.cluster.record();
        match self.load_all(&record).await {
            Ok(()) => self.reload = false,
            Err(error) => tracing::debug!(%error, "the catalog of the new primary cannot be read yet"),
        }
    }

    /// A change that everybody here waited for has ended without another cluster. It was given up, or its leader died, in
    /// which case its transaction may have been committed: the catalog is read again before statements go on.
    async fn see_what_it_left(&mut self) {
        if self.held_at.take() == Some(self.cluster.record().epoch) && self.pending.is_none() {
            self.reload = true;
            self.load_again().await;
        }
    }

    async fn acknowledge_pause(&mut self) {
        let Some(id) = &self.quieting else { return };
        if self.paused {
            // It is, unless no worker existed yet.
            self.cluster.gate.close();
            self.held_at = Some(self.cluster.record().epoch);
        }
        if let Err(error) = self.watch.ack_paused(id).await {
            tracing::warn!(%error, "the pause could not be acknowledged");
        }
        self.quieting = None;
    }

    fn resume(&mut self) {
        self.paused = false;
        self.led = false;
        self.held_at = None;
        self.quieting = None;
        self.set_gate();
    }

    /// Opens the gate unless there is a reason to keep it closed.
    fn set_gate(&mut self) {
        if self.paused {
            return;
        }
        if !crate::ops::is_unfinished(&self.cluster.record()) {
            self.cluster.gate.open();
            return;
        }
        self.cluster.gate.close();
        if self.led {
            return;
        }
        if self.repairing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.repairing = Some(tokio::task::spawn_local(repair(Arc::clone(&self.cluster))));
        }
    }

    /// Loads what is pending and takes it over. If that fails, what is loaded is out of date, so nobody is served.
    async fn load(&mut self) {
        let Some(record) = self.pending.clone() else {
            return;
        };
        if let Err(error) = self.load_all(&record).await {
            tracing::error!(%error, "the new cluster cannot be loaded; nobody is served until it can");
            self.cluster.set_stale(true);
            return;
        }
        let epoch = record.epoch;
        self.cluster.adopt(record);
        if let Some(shared) = self.workers.borrow().as_deref() {
            shared.set_shards(self.cluster.nodes.shard_configs());
        }
        self.set_gate();
        self.cluster.set_stale(false);
        match self.watch.ack_epoch(epoch).await {
            // Cut off meanwhile: the cluster will be given again.
            Ok(()) | Err(MembershipError::Fenced) => self.pending = None,
            Err(error) => tracing::warn!(%error, "the new epoch could not be acknowledged"),
        }
    }

    async fn load_all(&mut self, record: &ClusterRecord) -> Result<(), AdminError> {
        self.cluster.databases.add(&record.databases);
        for database in &record.databases {
            let kept = self
                .links
                .remove(database)
                .filter(|kept| self.cluster.nodes.primary(record.home.0).as_ref() == Ok(&kept.address));
            let loaded = match kept {
                // It may have been cut since it was last used, or something was dropped while facts were read.
                Some(mut kept) => match self.cluster.load_facts(&mut kept.link, record, database).await {
                    Ok(snapshot) => Some((snapshot, kept)),
                    Err(_) => None,
                },
                None => None,
            };
            let (snapshot, link) = match loaded {
                Some(loaded) => loaded,
                None => match self.load_anew(record, database).await {
                    Ok(loaded) => loaded,
                    Err(error) if error.is_no_database() => {
                        self.cluster.withdraw(database);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let renews = self.changes_settings(database, &snapshot);
            self.cluster.publish_facts(database, snapshot);
            if renews {
                self.renew_connections(database);
            }
            self.links.insert(database.clone(), link);
        }
        Ok(())
    }

    /// Whether new server connections begin with other settings than those that there are.
    fn changes_settings(&self, database: &str, snapshot: &catalog::Snapshot) -> bool {
        let known = self.cluster.facts(database);
        // Before the first load there is nothing, not even a version.
        known.is_some_and(|known| {
            let known = known.database();
            known.server_version != 0 && known.settings != snapshot.database().settings
        })
    }

    /// A statement over several shards must not meet connections from before and after an ALTER DATABASE … SET: none of
    /// the old ones is lent again.
    fn renew_connections(&self, database: &str) {
        if let Some(shared) = self.workers.borrow().as_deref() {
            let name: Arc<str> = database.into();
            shared.mailboxes.send_all(|| WorkerMessage::Switch {
                database: Some(Arc::clone(&name)),
                switch: Switch::Recycle,
            });
        }
    }

    async fn load_anew(
        &self,
        record: &ClusterRecord,
        database: &str,
    ) -> Result<(catalog::Snapshot, Link), AdminError> {
        let Some(home) = record.shard(record.home) else {
            return Err(AdminError::State(format!("there is no shard {}", record.home)));
        };
        let address = self.cluster.nodes.primary(home.id.0).map_err(AdminError::State)?;
        let mut link = self
            .cluster
            .admin_link_to(&home.name, address.clone(), database)
            .await?;
        let snapshot = self.cluster.load_facts(&mut link, record, database).await?;
        Ok((snapshot, Link { address, link }))
    }
}

/// Finishes what a leader that is gone has left unfinished, however long that takes.
async fn repair(cluster: Arc<Cluster>) {
    loop {
        let record = cluster.record();
        if !crate::ops::is_unfinished(&record) {
            return;
        }
        for database in &record.databases {
            if let Err(error) = crate::ops::repair(&cluster, database).await {
                tracing::warn!(%database, error = %error.message, "an unfinished change could not be repaired");
            }
        }
        tokio::time::sleep(RETRY_REPAIR).await;
    }
}
