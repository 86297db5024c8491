use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::follow::{ClusterEvent, ClusterWatch};
use crate::records::{NodeRecord, ShardRecord};
use crate::{FileStore, MemoryStore, ProxyId, ShardId};

/// Long enough that no live member loses its lease on a loaded machine, short enough to wait for a dead one.
const TTL: Duration = Duration::from_secs(4);

type Store = Arc<dyn TopologyStore>;

fn soon() -> Instant {
    (tokio::time::Instant::now() + Duration::from_secs(20)).into_std()
}

fn shard(id: u32, port: u16) -> ShardRecord {
    ShardRecord {
        id: ShardId(id),
        name: format!("shard_{id}"),
        primary: NodeRecord::new("a", port),
        replicas: vec![],
    }
}

fn cluster(shards: Vec<ShardRecord>) -> ClusterRecord {
    ClusterRecord::new("c", vec!["app".into()], shards).unwrap()
}

/// A proxy that does at once what it is told, and writes down what that was.
struct Proxy {
    membership: Arc<Membership>,
    log: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start(store: Store, name: &str) -> Proxy {
        let id = ProxyId::parse(name).unwrap();
        let membership = Arc::new(Membership::join(store, id, TTL).await.unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(follow(
            ClusterWatch::new(Arc::clone(&membership)),
            Arc::clone(&log),
        ));
        membership.wait_all_acked(Epoch(1), soon()).await.unwrap();
        Proxy {
            membership,
            log,
            task,
        }
    }

    fn coordinator(&self) -> ChangeCoordinator {
        ChangeCoordinator::new(Arc::clone(&self.membership))
    }

    fn valid(&self) -> bool {
        self.membership.is_valid(tokio::time::Instant::now().into_std())
    }

    /// Waits until the log ends with these entries.
    async fn logged(&self, expect: &[&str]) {
        let deadline = soon();
        while !self
            .log
            .lock()
            .unwrap()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .ends_with(expect)
        {
            assert!(
                tokio::time::Instant::now().into_std() < deadline,
                "{:?}",
                self.log.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As after a crash: no goodbye, the lease ends by itself.
    fn kill(self) {
        self.task.abort();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(mut watch: ClusterWatch, log: Arc<Mutex<Vec<String>>>) {
    loop {
        let event = watch.next().await.unwrap();
        let line = match &event {
            ClusterEvent::NewCluster(cluster) => format!("cluster {}", cluster.epoch),
            ClusterEvent::Paused { .. } => "paused".to_owned(),
            ClusterEvent::Resumed { .. } => "resumed".to_owned(),
            ClusterEvent::Fenced => "fenced".to_owned(),
        };
        log.lock().unwrap().push(line);
        // A proxy that is cut off meanwhile hears of it by the next event.
        let _ = match event {
            ClusterEvent::NewCluster(cluster) => watch.ack_epoch(cluster.epoch).await,
            ClusterEvent::Paused { id, .. } => watch.ack_paused(&id).await,
            _ => Ok(()),
        };
    }
}

/// Runs a scenario on every store; `open` gives each member a handle of its own.
async fn on_stores<F: Future<Output = ()>>(scenario: impl Fn(Box<dyn Fn() -> Store>) -> F) {
    let memory = MemoryStore::new();
    scenario(Box::new(move || Arc::new(memory.clone()))).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    scenario(Box::new(move || open(&path))).await;
}

fn open(path: &Path) -> Store {
    Arc::new(FileStore::open(path).unwrap())
}

async fn two(open: &dyn Fn() -> Store) -> (Proxy, Proxy) {
    let shards = vec![shard(1, 1), shard(2, 2)];
    ensure_cluster(open().as_ref(), &cluster(shards)).await.unwrap();
    (Proxy::start(open(), "a").await, Proxy::start(open(), "b").await)
}

#[tokio::test]
async fn every_proxy_pauses_loads_and_resumes() {
    on_stores(async |open| {
        let (a, b) = two(&open).await;
        let mut guard = a
            .coordinator()
            .begin(ChangeScope::Everything, soon())
            .await
            .unwrap();
        guard.all_paused(soon()).await.unwrap();
        b.logged(&["cluster 1", "paused"]).await;
        let epoch = guard
            .publish(|cluster| cluster.schema_version += 1)
            .await
            .unwrap();
        assert_eq!((epoch, guard.cluster().schema_version), (Epoch(2), 2));
        assert_eq!(guard.finish(soon()).await.unwrap(), Epoch(2));
        for proxy in [&a, &b] {
            proxy
                .logged(&["cluster 1", "paused", "cluster 2", "resumed"])
                .await;
            assert!(proxy.valid());
        }
    })
    .await;
}

#[tokio::test]
async fn changes_come_one_after_the_other() {
    on_stores(async |open| {
        let (a, b) = two(&open).await;
        let guard = a.coordinator().begin(ChangeScope::Nothing, soon()).await.unwrap();
        let now = tokio::time::Instant::now().into_std();
        let busy = b
            .coordinator()
            .begin(ChangeScope::Nothing, now)
            .await
            .unwrap_err();
        assert!(matches!(busy, ChangeError::Busy { leader } if leader == "a" || leader.is_empty()));
        drop(guard);
        let changes = [&a, &b, &a, &b].map(|proxy| {
            let coordinator = proxy.coordinator();
            tokio::spawn(async move {
                let mut guard = coordinator.begin(ChangeScope::Nothing, soon()).await.unwrap();
                guard
                    .publish(|cluster| cluster.schema_version += 1)
                    .await
                    .unwrap();
                guard.finish(soon()).await.unwrap()
            })
        });
        for change in changes {
            change.await.unwrap();
        }
        let (_, cluster) = read_cluster(open().as_ref()).await.unwrap();
        assert_eq!((cluster.epoch, cluster.schema_version), (Epoch(5), 5));
    })
    .await;
}

#[tokio::test]
async fn a_change_given_up_lets_everybody_go_on() {
    on_stores(async |open| {
        let (a, b) = two(&open).await;
        let guard = a
            .coordinator()
            .begin(ChangeScope::Everything, soon())
            .await
            .unwrap();
        guard.all_paused(soon()).await.unwrap();
        drop(guard);
        b.logged(&["cluster 1", "paused", "resumed"]).await;
        let mut guard = b.coordinator().begin(ChangeScope::Nothing, soon()).await.unwrap();
        let error = guard
            .publish(|cluster| cluster.home = ShardId(77))
            .await
            .unwrap_err();
        assert!(matches!(error, ChangeError::Invalid(_)));
        guard.finish(soon()).await.unwrap();
        assert_eq!(read_cluster(open().as_ref()).await.unwrap().1.epoch, Epoch(1));
    })
    .await;
}

#[tokio::test]
async fn a_dead_member_is_waited_for_no_longer_than_its_lease() {
    on_stores(async |open| {
        let (a, b) = two(&open).await;
        b.kill();
        let mut guard = a
            .coordinator()
            .begin(ChangeScope::Everything, soon())
            .await
            .unwrap();
        guard.all_paused(soon()).await.unwrap();
        guard
            .publish(|cluster| cluster.schema_version += 1)
            .await
            .unwrap();
        guard.finish(soon()).await.unwrap();
        a.logged(&["cluster 2", "resumed"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_leader_takes_its_barrier_along() {
    on_stores(async |open| {
        let (a, b) = two(&open).await;
        let mut guard = a
            .coordinator()
            .begin(ChangeScope::Everything, soon())
            .await
            .unwrap();
        guard.all_paused(soon()).await.unwrap();
        // As if it had been dead for the time of a lease.
        let lease = a.membership.lease().await.unwrap();
        open().revoke_lease(&lease).await.unwrap();
        b.logged(&["cluster 1", "paused", "resumed"]).await;
        // Only thought dead: it must not publish what nobody waits for any more.
        let error = guard
            .publish(|cluster| cluster.schema_version += 1)
            .await
            .unwrap_err();
        assert!(matches!(error, ChangeError::Lost), "{error:?}");
        assert!(matches!(
            guard.finish(soon()).await.unwrap_err(),
            ChangeError::Lost
        ));
        // It comes back by itself.
        a.logged(&["fenced", "cluster 1"]).await;
        a.membership.wait_all_acked(Epoch(1), soon()).await.unwrap();
        let guard = b
            .coordinator()
            .begin(ChangeScope::Everything, soon())
            .await
            .unwrap();
        guard.all_paused(soon()).await.unwrap();
        guard.finish(soon()).await.unwrap();
        assert!(a.valid() && b.valid());
    })
    .await;
}

#[tokio::test]
async fn a_beginning_that_is_cancelled_leaves_no_barrier() {
    let memory = MemoryStore::new();
    let open = move || -> Store { Arc::new(memory.clone()) };
    let (a, b) = two(&open).await;
    for _ in 0..20 {
        let coordinator = a.coordinator();
        tokio::select! {
            biased;
            guard = coordinator.begin(ChangeScope::Nothing, soon()) => drop(guard),
            () = tokio::task::yield_now() => {}
        }
    }
    let guard = b.coordinator().begin(ChangeScope::Nothing, soon()).await.unwrap();
    guard.finish(soon()).await.unwrap();
}

#[tokio::test]
async fn databases_are_added_to_what_is_stored() {
    let store = MemoryStore::new();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(matches!(
        add_databases(&store, &names(&["a"])).await,
        Err(SetupError::NoCluster)
    ));
    let first = ensure_cluster(&store, &cluster(vec![shard(1, 1)])).await.unwrap();
    let more = add_databases(&store, &names(&["a", "b", "a"])).await.unwrap();
    assert_eq!(more.epoch, Epoch(first.epoch.0 + 1));
    assert!(more.databases.starts_with(&first.databases));
    assert!(more.databases.ends_with(&names(&["a", "b"])));
    assert_eq!(add_databases(&store, &names(&["b"])).await.unwrap(), more);
}

#[tokio::test]
async fn setting_up_again_follows_addresses_and_refuses_other_shards() {
    let store = MemoryStore::new();
    let first = cluster(vec![shard(1, 1), shard(2, 2)]);
    assert_eq!(ensure_cluster(&store, &first).await.unwrap(), first);
    assert_eq!(ensure_cluster(&store, &first).await.unwrap().epoch, Epoch(1));
    let moved = cluster(vec![shard(1, 1), shard(2, 22)]);
    let stored = ensure_cluster(&store, &moved).await.unwrap();
    assert_eq!((stored.epoch, stored.shards[1].primary.port), (Epoch(2), 22));
    let other = cluster(vec![shard(1, 1)]);
    assert!(matches!(
        ensure_cluster(&store, &other).await,
        Err(SetupError::OtherShards { .. })
    ));
}
