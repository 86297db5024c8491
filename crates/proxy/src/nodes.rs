//! The servers of each shard as this proxy sees them: configured by the cluster record, observed by a monitor, read by
//! sessions without a lock.
//!
//! What is configured is only *which* servers there are. Who of them is the primary, and how far the others are behind,
//! is observed ([`view::ShardView`]): a list that never changes once it is published, replaced whenever something was
//! learnt. What changes with every request ([`Node`]) is counted in place.

pub mod choose;
mod discover;
mod load;
pub(crate) mod marks;
pub mod monitor;
pub mod observe;
pub mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use topology::ClusterRecord;
use topology::records::{NodeRecord, ShardRecord};

use crate::config::{ReplicaConfig, ShardConfig};
use crate::ops::guards;
use crate::server::Address;
pub use choose::{Choice, Need, Picked, WhyNode, WhyPrimary};
pub use load::{InFlight, Node, Outcome};
use observe::{Change, Memory};
pub use view::{NodeView, Out, Role, Seen, ShardView, Standing};

/// A server of a shard. Numbers are given per shard, stay with an address as long as it is configured, and are not used
/// again in the proxy's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// All servers of all shards.
#[derive(Debug)]
pub struct Nodes {
    config: ArcSwap<ReplicaConfig>,
    watched: bool,
    shards: ArcSwap<Vec<Arc<Shard>>>,
    /// Held by whoever replaces something.
    writing: Mutex<()>,
    /// Grows whenever something was published.
    version: watch::Sender<u64>,
    random: AtomicU64,
    origin: Instant,
    /// Times that a shard's primary became another server, or none.
    moves: AtomicU64,
    /// Times that a replica went out of rotation, or came back.
    rotations: AtomicU64,
    /// Times that a primary answered nobody.
    holds: AtomicU64,
    /// What server sessions state: [`Self::fence`].
    fence: AtomicU64,
}

/// One shard.
#[derive(Debug)]
struct Shard {
    id: u32,
    view: ArcSwap<ShardView>,
    memory: Mutex<Memory>,
    /// Its servers are to be looked at at once.
    look: Notify,
    /// New transactions wait: an operator is about to move the primary.
    paused: AtomicBool,
}

impl Nodes {
    /// The servers of a cluster, none of which has been looked at.
    #[must_use]
    pub fn new(record: &ClusterRecord, config: ReplicaConfig) -> Self {
        let nodes = Self::empty(config, true);
        nodes.set_topology(record);
        nodes
    }

    /// The servers of a proxy that belongs to no cluster: primaries only.
    #[must_use]
    pub fn of_shards(shards: &[ShardConfig], config: ReplicaConfig) -> Self {
        let nodes = Self::empty(config, false);
        let records: Vec<ShardRecord> = shards
            .iter()
            .map(|shard| ShardRecord {
                id: catalog::ShardId(shard.id),
                name: shard.name.clone(),
                primary: NodeRecord::new(shard.host.clone(), shard.port),
                replicas: Vec::new(),
            })
            .collect();
        nodes.set_shards(&records);
        nodes
    }

    fn empty(config: ReplicaConfig, watched: bool) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            watched,
            shards: ArcSwap::default(),
            writing: Mutex::new(()),
            version: watch::Sender::new(0),
            random: AtomicU64::new(0),
            origin: Instant::now(),
            moves: AtomicU64::new(0),
            rotations: AtomicU64::new(0),
            holds: AtomicU64::new(0),
            fence: AtomicU64::new(0),
        }
    }

    /// How replicas are used.
    #[must_use]
    pub fn config(&self) -> Arc<ReplicaConfig> {
        self.config.load_full()
    }

    /// They are used in another way from now on. Circuit breakers keep their numbers as long as their servers are
    /// configured.
    pub fn set_config(&self, config: ReplicaConfig) {
        self.config.store(Arc::new(config));
        self.announce();
    }

    /// Somebody looks at the servers, so that what is known of them holds.
    #[must_use]
    pub fn are_watched(&self) -> bool {
        self.watched
    }

    /// Other servers are configured from now on. What is known of those that stay is kept.
    pub fn set_topology(&self, record: &ClusterRecord) {
        // Before the record itself is taken over: sessions that plan by it find the number it needs.
        self.fence.store(guards::fence_of(record), Ordering::Release);
        self.set_shards(&record.shards);
    }

    /// The number that server sessions state to the shards now, so that they are not taken for those of a proxy that has
    /// missed something, nor for somebody who comes past Drover. 0: nothing is stated, because nothing is guarded. It only
    /// grows.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence.load(Ordering::Acquire)
    }

    fn set_shards(&self, records: &[ShardRecord]) {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shards.load_full();
        let new = records.iter().map(|record| {
            let known = old.iter().find(|shard| shard.id == record.id.0);
            let view = match known {
                Some(shard) => shard.view.load().reconfigured(record, &self.config.load()),
                None => ShardView::new(record, &self.config.load()),
            };
            match known {
                Some(shard) => {
                    shard.view.store(Arc::new(view));
                    Arc::clone(shard)
                }
                None => Arc::new(Shard {
                    id: record.id.0,
                    view: ArcSwap::from_pointee(view),
                    memory: Mutex::default(),
                    look: Notify::new(),
                    paused: AtomicBool::new(false),
                }),
            }
        });
        self.shards.store(Arc::new(new.collect()));
        drop(writing);
        self.announce();
    }

    /// What is known of a shard's servers. No lock, no waiting.
    #[must_use]
    pub fn view(&self, shard: u32) -> Option<Arc<ShardView>> {
        let shards = self.shards.load();
        let found = shards.iter().find(|candidate| candidate.id == shard)?;
        Some(found.view.load_full())
    }

    /// The same of all shards, in the record's order.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<ShardView>> {
        let shards = self.shards.load();
        shards.iter().map(|shard| shard.view.load_full()).collect()
    }

    /// Where a server is.
    #[must_use]
    pub fn address(&self, shard: u32, node: NodeId) -> Option<Address> {
        let view = self.view(shard)?;
        Some(view.node(node)?.node.address().clone())
    }

    /// Which server gets a read of this shard, and why. No lock, no waiting; a look at the clock only when an age or the
    /// way back of a server matters.
    #[must_use]
    pub fn choose(&self, shard: u32, need: &Need<'_>) -> Choice {
        let shards = self.shards.load();
        let Some(found) = shards.iter().find(|candidate| candidate.id == shard) else {
            return Choice::Primary(WhyPrimary::NoReplica);
        };
        let random = replica::balance::mixed(self.random.fetch_add(1, Ordering::Relaxed));
        choose::choose(&found.view.load(), need, &self.config.load(), self.now(), random)
    }

    /// Told of everything that is published: roles, positions, servers that come and go.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Time since these nodes were made: what all times in views count from.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Replaces a shard's view by a changed one.
    fn update(
        &self,
        shard: u32,
        change: impl FnOnce(&mut ShardView, &mut Memory, &ReplicaConfig) -> Vec<Change>,
    ) -> Vec<Change> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let shards = self.shards.load();
        let Some(found) = shards.iter().find(|candidate| candidate.id == shard) else {
            return Vec::new();
        };
        let mut view = (**found.view.load()).clone();
        let mut memory = found.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = change(&mut view, &mut memory, &self.config.load());
        self.count(&found.view.load(), &view);
        drop(memory);
        found.view.store(Arc::new(view));
        drop(writing);
        self.announce();
        changes
    }

    fn count(&self, before: &ShardView, now: &ShardView) {
        if now.held && !before.held {
            self.holds.fetch_add(1, Ordering::Relaxed);
        }
        if before.primary != now.primary {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
        let is_in = |node: &NodeView| node.standing == Standing::In;
        let changed = now.nodes.iter().filter(|node| {
            let old = before.node(node.id);
            old.is_some_and(|old| is_in(old) != is_in(node))
        });
        self.rotations
            .fetch_add(changed.count() as u64, Ordering::Relaxed);
    }

    /// How often a shard's primary became another server or none, and how often a replica went out of rotation or came
    /// back.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (
            self.moves.load(Ordering::Relaxed),
            self.rotations.load(Ordering::Relaxed),
        )
    }

    /// Something happened to a connection: the shard's servers are looked at now instead of at their next turn.
    pub fn look_now(&self, shard: u32) {
        let shards = self.shards.load();
        if let Some(found) = shards.iter().find(|candidate| candidate.id == shard) {
            found.look.notify_waiters();
        }
    }

    /// New transactions on this shard wait, or no longer. False: there is no such shard, or it was so already.
    pub(crate) fn set_paused(&self, shard: u32, paused: bool) -> bool {
        let shards = self.shards.load();
        let found = shards.iter().find(|candidate| candidate.id == shard);
        found.is_some_and(|found| found.paused.swap(paused, Ordering::AcqRel) != paused)
    }

    /// New transactions on this shard wait.
    #[must_use]
    pub fn is_paused(&self, shard: u32) -> bool {
        let shards = self.shards.load();
        let found = shards.iter().find(|candidate| candidate.id == shard);
        found.is_some_and(|found| found.paused.load(Ordering::Acquire))
    }

    /// The shard's primary answers nobody; statements for it wait.
    #[must_use]
    pub fn is_held(&self, shard: u32) -> bool {
        self.view(shard).is_some_and(|view| view.held)
    }

    /// Looks at all servers of a shard and waits until each has answered, or is known not to.
    pub async fn look_and_wait(&self, shard: u32) {
        let asked = self.now();
        let mut changes = self.changes();
        // A server may leave as many looks unanswered before it is known to be dead; one more begins later.
        let config = self.config();
        let patience = (config.poll_timeout + config.poll_interval) * 3;
        let all = async {
            loop {
                self.look_now(shard);
                let done = self.view(shard).is_none_or(|view| {
                    let answered = |node: &NodeView| node.seen.is_some_and(|seen| seen.asked >= asked);
                    view.nodes
                        .iter()
                        .all(|node| answered(node) || node.role == Role::Down)
                });
                if done || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// Completes when [`Self::look_now`] is called for the shard.
    async fn asked_to_look(&self, shard: u32) {
        let found = self
            .shards
            .load()
            .iter()
            .find(|candidate| candidate.id == shard)
            .cloned();
        match found {
            Some(found) => found.look.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The shards as the worker layer wants them: each with the server that takes writes, as far as there is one.
    #[must_use]
    pub fn shard_configs(&self) -> Vec<ShardConfig> {
        let views = self.views();
        let configs = views.iter().filter_map(|view| {
            let configured = view.nodes.first()?.node.address();
            let address = view.primary_address().unwrap_or(configured);
            Some(ShardConfig {
                id: view.shard,
                name: view.name.to_string(),
                host: address.host.clone(),
                port: address.port,
            })
        });
        configs.collect()
    }

    /// Where writes of a shard go now, or why nowhere.
    pub fn primary(&self, shard: u32) -> Result<Address, String> {
        let view = self
            .view(shard)
            .ok_or_else(|| format!("there is no shard {shard}"))?;
        match (&view.primary, view.primary_address()) {
            (Ok(_), Some(address)) => Ok(address.clone()),
            (Err(reason), _) => Err(format!("\"{}\" has no primary: {}", view.name, reason.as_str())),
            (Ok(_), None) => Err(format!("\"{}\" has no primary", view.name)),
        }
    }

    /// How often statements had to wait because a shard's primary answered nobody.
    #[must_use]
    pub fn holds(&self) -> u64 {
        self.holds.load(Ordering::Relaxed)
    }

    fn announce(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}
