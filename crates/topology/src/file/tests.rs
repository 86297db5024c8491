use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::FileStore;
use crate::change::ensure_cluster;
use crate::conformance::{self, increment};
use crate::records::{NodeRecord, ShardRecord, barrier_key};
use crate::{
    ChangeCoordinator, ChangeScope, ClusterRecord, Key, Membership, ProxyId, StoreError, TopologyStore, Write,
};

/// Tells a spawned copy of this test binary which store to use.
const STORE_VARIABLE: &str = "DROVER_TEST_STORE";
const LEADER_VARIABLE: &str = "DROVER_TEST_LEADER_STORE";
const LEADER_TTL: Duration = Duration::from_secs(2);
const CHILDREN: i64 = 4;
const INCREMENTS: i64 = 25;

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[tokio::test]
async fn conforms() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path().join("store")).unwrap();
    conformance::run(Arc::new(store), |ttl| Box::pin(tokio::time::sleep(ttl))).await;
}

/// A write that waits for a slow disk holds the lock of everything meanwhile.
#[tokio::test]
async fn a_lease_is_renewed_while_somebody_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
    let writing = std::fs::File::open(directory.path().join("lock")).unwrap();
    writing.lock().unwrap();
    store.keep_alive(&lease).await.unwrap();
    drop(writing);
    store.revoke_lease(&lease).await.unwrap();
    assert!(store.keep_alive(&lease).await.is_err());
}

/// Not a test by itself: what the children of `processes_do_not_lose_each_others_writes` run.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(STORE_VARIABLE) else {
        return;
    };
    let store: Arc<dyn TopologyStore> = Arc::new(FileStore::open(path).unwrap());
    for _ in 0..INCREMENTS {
        increment(&store, &key("shared")).await.unwrap();
    }
}

#[tokio::test]
async fn processes_do_not_lose_each_others_writes() {
    let directory = tempfile::tempdir().unwrap();
    // The children also race to make the store.
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| {
            let mut command = Command::new(&program);
            command
                .args(["--exact", "file::tests::child"])
                .env(STORE_VARIABLE, directory.path());
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let mut watch = FileStore::open(directory.path()).unwrap().watch("shared");
    let wanted = json!({ "n": CHILDREN * INCREMENTS });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let listing = tokio::time::timeout_at(deadline, watch.next())
            .await
            .unwrap()
            .unwrap();
        if listing
            .get(&key("shared"))
            .is_some_and(|stored| stored.value == wanted)
        {
            break;
        }
    }
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
}

#[tokio::test]
async fn another_handle_sees_a_change_soon() {
    let directory = tempfile::tempdir().unwrap();
    let writer = FileStore::open(directory.path()).unwrap();
    let mut watch = FileStore::open(directory.path()).unwrap().watch("");
    watch.next().await.unwrap();
    writer
        .compare_and_swap(Write::new(key("a"), None, json!(1)))
        .await
        .unwrap();
    let written = Instant::now();
    watch.next().await.unwrap();
    // The promise is 20 ms on an idle machine; tests share theirs.
    assert!(
        written.elapsed() < Duration::from_secs(2),
        "{:?}",
        written.elapsed()
    );
}

/// The kernel's word alone: looking without being told would take up to a second each time.
#[tokio::test]
async fn changes_are_told_not_found_by_looking() {
    let directory = tempfile::tempdir().unwrap();
    let writer = FileStore::open(directory.path()).unwrap();
    let mut watch = FileStore::open(directory.path()).unwrap().watch("");
    watch.next().await.unwrap();
    let began = Instant::now();
    let mut expected = None;
    for n in 0..20 {
        let write = Write::new(key("a"), expected, json!(n));
        expected = Some(writer.compare_and_swap(write).await.unwrap());
        watch.next().await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn unfinished_files_are_ignored_and_a_lost_counter_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let first = store
        .compare_and_swap(Write::new(key("a/b"), None, json!(1)))
        .await
        .unwrap();
    drop(store);
    std::fs::write(directory.path().join("keys/a~b.new"), "{\"key\":").unwrap();
    std::fs::remove_file(directory.path().join("counter")).unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let second = store
        .compare_and_swap(Write::new(key("a/b"), Some(first), json!(2)))
        .await
        .unwrap();
    assert!(second > first);
}

#[tokio::test]
async fn leases_of_another_boot_have_ended() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let lease = store.grant_lease(Duration::from_secs(600)).await.unwrap();
    store
        .compare_and_swap(Write::new(key("a"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    let path = directory.path().join(format!("leases/{}.json", lease.0));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    file["boot"] = json!("another");
    std::fs::write(&path, file.to_string()).unwrap();
    assert!(store.get(&key("a")).await.unwrap().is_none());
    store
        .compare_and_swap(Write::new(key("a"), None, json!(2)))
        .await
        .unwrap();
    assert!(!path.exists(), "swept");
}

#[tokio::test]
async fn says_which_file_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    store
        .compare_and_swap(Write::new(key("a"), None, json!(1)))
        .await
        .unwrap();
    std::fs::write(directory.path().join("keys/a.json"), "{").unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { what, .. } if what.ends_with("keys/a.json")),
        "{error}"
    );
}

#[test]
fn refuses_a_directory_of_something_else() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("format.json"),
        r#"{"v":"1","kind":"something"}"#,
    )
    .unwrap();
    assert!(matches!(
        FileStore::open(directory.path()),
        Err(StoreError::Damaged { .. })
    ));
}

/// Not a test by itself: a leader that waits to be killed in the middle of its change.
#[tokio::test]
async fn doomed_leader() {
    let Some(path) = std::env::var_os(LEADER_VARIABLE) else {
        return;
    };
    let store: Arc<dyn TopologyStore> = Arc::new(FileStore::open(path).unwrap());
    let id = ProxyId::parse("doomed").unwrap();
    let membership = Membership::join(store, id, LEADER_TTL).await.unwrap();
    let coordinator = ChangeCoordinator::new(Arc::new(membership));
    let deadline = Instant::now() + Duration::from_secs(60);
    let _guard = coordinator
        .begin(ChangeScope::Everything, deadline)
        .await
        .unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_takes_its_barrier_along() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let shard = ShardRecord {
        id: crate::ShardId(1),
        name: "shard_1".into(),
        primary: NodeRecord::new("a", 1),
        replicas: vec![],
    };
    let cluster = ClusterRecord::new("c", vec!["app".into()], vec![shard]).unwrap();
    ensure_cluster(&store, &cluster).await.unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "file::tests::doomed_leader"])
        .env(LEADER_VARIABLE, directory.path());
    let mut leader = command.stdout(Stdio::null()).spawn().unwrap();

    let mut watch = store.watch(barrier_key().as_str());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut present = async |wanted: bool| {
        while tokio::time::timeout_at(deadline, watch.next())
            .await
            .unwrap()
            .unwrap()
            .is_empty()
            == wanted
        {}
    };
    present(true).await;
    leader.kill().unwrap();
    leader.wait().unwrap();
    present(false).await;
    assert!(store.list("proxies/").await.unwrap().is_empty());
}
