//! The newest timelines that any proxy of the cluster has seen: read before anything is believed, raised when a newer one
//! is seen. See `topology::timelines`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use replica::{SystemId, Timeline};
use topology::{ShardId, TimelineMark, TopologyStore, Watch};

use super::Nodes;
use super::monitor::act;
use crate::cluster::Cluster;
use crate::worker::Shared;
use tokio::sync::watch;

/// Pause after the store has failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Takes over the marks of the store, before the servers are looked at. Without them the proxy believes what it sees.
pub(crate) async fn read(nodes: &Nodes, store: &dyn TopologyStore) {
    match topology::timelines(store).await {
        Ok(marks) => {
            for mark in marks {
                nodes.reached(mark.shard.0, SystemId(mark.system), Timeline(mark.timeline));
            }
        }
        Err(error) => tracing::warn!(%error, "what other proxies have seen of failovers is not known"),
    }
}

/// Keeps marks and servers in step, for ever.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    store: Arc<dyn TopologyStore>,
    workers: watch::Receiver<Option<Arc<Shared>>>,
) {
    let mut following = store.watch(topology::TIMELINES);
    let mut changes = cluster.nodes.changes();
    let mut written: HashMap<u32, TimelineMark> = HashMap::new();
    loop {
        tokio::select! {
            known = next(&mut following) => {
                for mark in known {
                    let shard = mark.shard.0;
                    let (system, timeline) = (SystemId(mark.system), Timeline(mark.timeline));
                    let changed = cluster.nodes.reached(shard, system, timeline);
                    let shared = workers.borrow().clone();
                    act(&cluster, shared.as_deref(), shard, &changed);
                }
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                if !write(&cluster.nodes, store.as_ref(), &mut written).await {
                    tokio::time::sleep(STORE_PAUSE).await;
                    changes.mark_changed();
                }
            }
        }
    }
}

async fn next(following: &mut Watch) -> Vec<TimelineMark> {
    loop {
        match following.next().await {
            Ok(listing) => return topology::timelines_in(&listing),
            Err(_) => tokio::time::sleep(STORE_PAUSE).await,
        }
    }
}

/// Writes what is new. False: the store did not take it.
async fn write(nodes: &Nodes, store: &dyn TopologyStore, written: &mut HashMap<u32, TimelineMark>) -> bool {
    let mut all = true;
    for view in nodes.views() {
        let (Ok(_), Some(system), Some(lineage)) = (&view.primary, view.system, &view.lineage) else {
            continue;
        };
        if view.nodes.len() < 2 {
            continue;
        }
        let mark = TimelineMark {
            shard: ShardId(view.shard),
            system: system.0,
            timeline: lineage.timeline().0,
        };
        if written.get(&view.shard) == Some(&mark) {
            continue;
        }
        let done = match view.decided {
            true => topology::set_timeline(store, mark).await,
            false => topology::raise_timeline(store, mark).await,
        };
        match done {
            Ok(_) => {
                written.insert(view.shard, mark);
            }
            Err(error) => {
                tracing::debug!(%error, "a timeline could not be noted");
                all = false;
            }
        }
    }
    all
}
