//! Looking at the servers: one connection and one task per server, on the control thread.
//!
//! A look is one round trip. A server that was just promoted costs a second one, for the history of its timeline. So
//! whoever promotes a replica is followed within one interval and two round trips.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use replica::{Lineage, Lsn, SystemId, Timeline};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::discover::{STANDBYS, standbys};
use super::observe::{Answer, Change, Look};
use super::{NodeId, Nodes};
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::Cluster;
use crate::exec::link::TextRow;
use crate::pools::Place;
use crate::server::{Address, DialError};
use crate::worker::{Shared, Switch, WorkerMessage};

/// Asks a server who it is and how far it is, without a snapshot of anything.
const QUESTION: &str = "\
SELECT s.standby, i.system_identifier, \
 CASE WHEN s.standby THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
 CASE WHEN NOT s.standby THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END, \
 GREATEST(c.timeline_id, m.min_recovery_end_timeline, r.received_tli), r.flushed_lsn, \
 (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8 \
FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby OFFSET 0) s, pg_catalog.pg_control_system() i, \
 pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() m \
 LEFT JOIN pg_catalog.pg_stat_wal_receiver r ON r.status = 'streaming'";

/// Looks at all servers once, all at the same time: who is the primary must be known before anything is written.
pub(crate) async fn look_at_all(cluster: &Arc<Cluster>) {
    let mut looks = Vec::new();
    for view in cluster.nodes.views() {
        for node in &view.nodes {
            let mut watcher = Watcher::new(cluster, view.shard, node.id);
            looks.push(tokio::task::spawn_local(async move { watcher.look().await }));
        }
    }
    for look in looks {
        // A look that panicked is no look.
        let _ = look.await;
    }
}

/// Looks at the servers for ever; those that come are watched, those that go are not watched any more.
pub(crate) async fn run(cluster: Arc<Cluster>, workers: watch::Receiver<Option<Arc<Shared>>>) {
    let mut watched: HashMap<(u32, NodeId), Watched> = HashMap::new();
    let mut changes = cluster.nodes.changes();
    loop {
        let views = cluster.nodes.views();
        let wanted = |key: &(u32, NodeId)| {
            let view = views.iter().find(|view| view.shard == key.0);
            view.is_some_and(|view| view.node(key.1).is_some())
        };
        watched.retain(|key, _| wanted(key));
        for view in &views {
            for node in &view.nodes {
                let key = (view.shard, node.id);
                watched.entry(key).or_insert_with(|| {
                    let watcher = Watcher::new(&cluster, key.0, key.1);
                    Watched(tokio::task::spawn_local(watcher.run(workers.clone())))
                });
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Ends the task when it is dropped.
struct Watched(JoinHandle<()>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What watches one server.
struct Watcher {
    cluster: Arc<Cluster>,
    shard: u32,
    node: NodeId,
    link: Option<AdminLink>,
    /// The history read last.
    lineage: Option<(SystemId, Arc<Lineage>)>,
}

impl Watcher {
    fn new(cluster: &Arc<Cluster>, shard: u32, node: NodeId) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            shard,
            node,
            link: None,
            lineage: None,
        }
    }

    async fn run(mut self, workers: watch::Receiver<Option<Arc<Shared>>>) {
        loop {
            let changes = self.look().await;
            let shared = workers.borrow().clone();
            act(&self.cluster, shared.as_deref(), self.shard, &changes);
            let pause = self.cluster.nodes.config().poll_interval;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = asked(&self.cluster.nodes, self.shard) => {}
            }
        }
    }

    /// One look, and what follows from it.
    async fn look(&mut self) -> Vec<Change> {
        let nodes = Arc::clone(&self.cluster.nodes);
        let Some(address) = nodes.address(self.shard, self.node) else {
            return Vec::new();
        };
        let patience = nodes.config().poll_timeout;
        let mut look = Look {
            asked: nodes.now(),
            answer: Answer::Silent,
        };
        // A connection that was cut is made again before the server is judged.
        let fresh = self.link.is_none();
        for _ in 0..if fresh { 1 } else { 2 } {
            look.asked = nodes.now();
            let place = (self.shard, self.node);
            look.answer = match timeout(patience, noticed(&nodes, place, self.ask(&address))).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    self.link = None;
                    tracing::debug!(%address, %error, "a look at a server failed");
                    judge(&error)
                }
                Err(_) => {
                    self.link = None;
                    Answer::Silent
                }
            };
            if matches!(
                look.answer,
                Answer::Primary { .. } | Answer::Replica { .. } | Answer::Silent
            ) {
                break;
            }
        }
        let mut changes = nodes.observe(self.shard, self.node, &look);
        if let Answer::Primary { .. } = look.answer {
            changes.extend(self.discover(&nodes, &address).await);
        }
        changes
    }

    /// Asks the primary for standbys that are not configured.
    async fn discover(&mut self, nodes: &Nodes, address: &Address) -> Vec<Change> {
        let config = nodes.config();
        let is_primary = nodes
            .view(self.shard)
            .is_some_and(|view| view.primary == Ok(self.node));
        let Some(link) = self.link.as_mut().filter(|_| config.discover && is_primary) else {
            return Vec::new();
        };
        match timeout(config.poll_timeout, link.rows(STANDBYS)).await {
            Ok(Ok(rows)) => nodes.discover(self.shard, &standbys(&rows, address.port)),
            // In the middle of an answer the connection is of no use; the next look says what is wrong.
            Ok(Err(_)) | Err(_) => {
                self.link = None;
                Vec::new()
            }
        }
    }

    async fn ask(&mut self, address: &Address) -> Result<Answer, AdminError> {
        let link = match &mut self.link {
            Some(link) => link,
            None => {
                let link = self.cluster.watch_link(self.shard, address).await?;
                self.link.insert(link)
            }
        };
        let rows = link.rows(QUESTION).await?;
        let told = rows.first().and_then(Told::read);
        let told = told.ok_or_else(|| AdminError::State("a server does not say who it is".to_owned()))?;
        let Some(timeline) = told.writes else {
            return Ok(Answer::Replica {
                system: told.system,
                timeline: told.follows.unwrap_or_default(),
                replayed: told.lsn,
                received: told.received,
                incarnation: told.incarnation,
            });
        };
        let known = self
            .lineage
            .as_ref()
            .filter(|(system, line)| (*system, line.timeline()) == (told.system, timeline));
        let lineage = match known {
            Some((_, lineage)) => Arc::clone(lineage),
            None => {
                let lineage = Arc::new(read_lineage(link, timeline).await?);
                self.lineage = Some((told.system, Arc::clone(&lineage)));
                lineage
            }
        };
        Ok(Answer::Primary {
            system: told.system,
            lineage,
            inserted: told.lsn.unwrap_or_default(),
            incarnation: told.incarnation,
        })
    }
}

/// Waits for a server's answer; when that takes too long, those who wait for the server hear of it meanwhile.
async fn noticed<T>(nodes: &Nodes, (shard, node): (u32, NodeId), answer: impl Future<Output = T>) -> T {
    let patience = nodes.config().hang_timeout;
    if patience.is_zero() {
        return answer.await;
    }
    tokio::pin!(answer);
    match timeout(patience, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            nodes.hangs(shard, node);
            answer.await
        }
    }
}

async fn asked(nodes: &Nodes, shard: u32) {
    nodes.asked_to_look(shard).await;
    // Many connections break at once, and a server that goes away needs a moment for it.
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// The history of a timeline, from the file that its promotion wrote.
async fn read_lineage(link: &mut AdminLink, timeline: Timeline) -> Result<Lineage, AdminError> {
    if timeline.0 <= 1 {
        return Ok(Lineage::first(timeline));
    }
    let sql = format!(
        "SELECT pg_catalog.pg_read_file('pg_wal/{:08X}.history')",
        timeline.0
    );
    let text = link.value(&sql).await?.unwrap_or_default();
    Lineage::parse(timeline, &text).map_err(|error| AdminError::State(error.to_string()))
}

/// What a failed look says about the server.
fn judge(error: &AdminError) -> Answer {
    match error {
        AdminError::Dial(DialError::TimedOut { .. }) => Answer::Silent,
        AdminError::Dial(error @ DialError::Refused(_)) if !error.is_down() => Answer::Useless,
        AdminError::Dial(DialError::Tls { .. } | DialError::Authentication(_)) => Answer::Useless,
        AdminError::Dial(_) | AdminError::Link(_) => Answer::Dead,
        AdminError::Server(_) | AdminError::Catalog(_) | AdminError::State(_) => Answer::Useless,
    }
}

/// A server's answer.
struct Told {
    system: SystemId,
    lsn: Option<Lsn>,
    /// The timeline it writes; `None`: it is in recovery.
    writes: Option<Timeline>,
    follows: Option<Timeline>,
    received: Option<Lsn>,
    incarnation: i64,
}

impl Told {
    fn read(row: &TextRow) -> Option<Self> {
        let [standby, system, lsn, writes, follows, received, incarnation] = row.as_slice() else {
            return None;
        };
        let number = |text: &Option<String>| text.as_deref()?.parse::<i64>().ok();
        let place = |text: &Option<String>| text.as_deref()?.parse::<Lsn>().ok();
        let writes = match standby.as_deref()? {
            "f" => Some(Timeline(u32::from_str_radix(writes.as_deref()?, 16).ok()?)),
            _ => None,
        };
        Some(Self {
            system: SystemId(number(system)?.cast_unsigned()),
            lsn: place(lsn),
            writes,
            follows: number(follows).and_then(|n| u32::try_from(n).ok()).map(Timeline),
            received: place(received),
            incarnation: number(incarnation)?,
        })
    }
}

/// Does to connections what the changes ask for.
pub(crate) fn act(cluster: &Cluster, shared: Option<&Shared>, shard: u32, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Primary => {
                if let Some(shared) = shared {
                    shared.set_shards(cluster.nodes.shard_configs());
                    shared.recycle(Place::primary(shard));
                    shared.cut(Place::primary(shard));
                }
                cluster.primary_moved(shard);
            }
            Change::Died(node) => {
                if let Some(shared) = shared {
                    shared.recycle(Place::replica(shard, *node));
                    shared.cut(Place::replica(shard, *node));
                }
            }
            // What was dialled in vain is dialled again at once.
            Change::Back(node) => {
                let view = cluster.nodes.view(shard);
                if let Some(shared) = shared {
                    if view.is_some_and(|view| view.primary == Ok(*node)) {
                        shared.recycle(Place::primary(shard));
                    }
                    shared.recycle(Place::replica(shard, *node));
                }
            }
            Change::Held(held) => {
                if let Some(shared) = shared {
                    let switch = if *held { Switch::Hold } else { Switch::LetGo };
                    shared
                        .mailboxes
                        .send_all(|| WorkerMessage::SwitchShard { shard, switch });
                }
            }
            Change::Role(node) => {
                if let Some(shared) = shared {
                    shared.recycle(Place::replica(shard, *node));
                }
            }
        }
    }
}
