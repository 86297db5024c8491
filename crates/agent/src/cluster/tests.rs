//! Tests with real servers.

use std::fs;
use std::time::Instant;

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

use super::*;

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    // The servers' account must be able to enter when the tests run as root.
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), permissions).unwrap();
    directory
}

fn options(directory: &TempDir, shards: u16, replicas: u16) -> ClusterOptions {
    ClusterOptions {
        shards: Some(shards),
        replicas: Some(replicas),
        durability: Durability::Unsafe,
        ..ClusterOptions::in_dir(directory.path())
    }
}

async fn connect(info: &ClusterInfo, node: &NodeInfo) -> Client {
    let (client, connection) = Config::new()
        .host(&node.host)
        .port(node.port)
        .user(&info.app_user)
        .password(info.app_password.expose())
        .dbname(&info.database)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn one(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_cluster_starts_follows_and_keeps_its_data() {
    let directory = directory();
    let mut events = Vec::new();
    let began = Instant::now();
    let cluster = DevCluster::start(options(&directory, 2, 1), |event| events.push(event))
        .await
        .unwrap();
    eprintln!(
        "2 shards with a replica each were ready after {:?}",
        began.elapsed()
    );
    let last = events.last().cloned().unwrap();
    assert!(
        matches!(
            last,
            ProgressEvent::Node {
                phase: Phase::Ready,
                ready: 4,
                total: 4,
                ..
            }
        ),
        "{last:?}"
    );

    let info = cluster.info().clone();
    let names: Vec<&str> = info.nodes().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shard_1/primary",
            "shard_1/replica_1",
            "shard_2/primary",
            "shard_2/replica_1"
        ]
    );
    let client = connect(&info, &info.shards[0].primary).await;
    client
        .batch_execute("CREATE TABLE t (a text); INSERT INTO t VALUES ('kept')")
        .await
        .unwrap();
    assert_eq!(one(&client, "SHOW wal_level").await, "logical");
    assert_eq!(
        one(
            &client,
            "SELECT current_setting('lc_collate') || current_setting('server_encoding')"
        )
        .await,
        "C.UTF-8UTF8"
    );
    let position = one(&client, "SELECT pg_current_wal_lsn()::text").await;
    let replica = connect(&info, &info.shards[0].replicas[0]).await;
    let caught_up = format!("SELECT (pg_last_wal_replay_lsn() >= '{position}')::text");
    while one(&replica, &caught_up).await != "true" {
        tokio::task::yield_now().await;
    }
    assert_eq!(one(&replica, "SELECT a FROM t").await, "kept");
    assert_eq!(
        verifiers(&info).await,
        1,
        "the application's verifier is the same everywhere"
    );

    // Nobody else may use the directory meanwhile.
    let error = DevCluster::start(options(&directory, 2, 1), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, ClusterError::InUse { .. }), "{error}");
    assert_eq!(cluster.shutdown().await, Vec::<String>::new());
    assert!(leftovers::find(&directory.path().canonicalize().unwrap()).is_empty());

    let error = DevCluster::start(options(&directory, 3, 1), |_| ())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClusterError::OtherShape {
                held: 2,
                wanted: 3,
                ..
            }
        ),
        "{error}"
    );
    let began = Instant::now();
    let same = ClusterOptions {
        shards: None,
        replicas: None,
        ..options(&directory, 1, 1)
    };
    let cluster = DevCluster::start(same, |_| ()).await.unwrap();
    eprintln!("and again after {:?}", began.elapsed());
    assert_eq!(cluster.info().admin_password, info.admin_password);
    let client = connect(cluster.info(), &cluster.info().shards[0].primary).await;
    assert_eq!(one(&client, "SELECT a FROM t").await, "kept");
    let began = Instant::now();
    cluster.shutdown().await;
    eprintln!("stopped within {:?}", began.elapsed());
}

/// How many different verifiers of the application's role there are.
async fn verifiers(info: &ClusterInfo) -> usize {
    let mut all = std::collections::HashSet::new();
    for shard in &info.shards {
        let (client, connection) = Config::new()
            .host_path(&shard.primary.socket_dir)
            .port(shard.primary.port)
            .user(&info.admin_user)
            .password(info.admin_password.expose())
            .dbname(&info.database)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        all.insert(
            one(
                &client,
                "SELECT rolpassword FROM pg_authid WHERE rolname = 'drover'",
            )
            .await,
        );
    }
    all.len()
}

#[tokio::test]
async fn a_killed_supervisor_leaves_nothing_the_next_start_cannot_clean_up() {
    let directory = directory();
    let mut cluster = DevCluster::start(options(&directory, 1, 1), |_| ())
        .await
        .unwrap();
    let client = connect(cluster.info(), &cluster.info().shards[0].primary).await;
    client
        .batch_execute("CREATE TABLE t (a text); INSERT INTO t VALUES ('kept')")
        .await
        .unwrap();
    // As if killed: nothing of it runs any more, except for the lock, which the kernel would release.
    std::mem::forget(std::mem::take(&mut cluster.shards));
    drop(cluster);
    let root = directory.path().canonicalize().unwrap();
    assert!(!leftovers::find(&root).is_empty());

    let mut cleaned_up = 0;
    let cluster = DevCluster::start(options(&directory, 1, 1), |event| {
        if let ProgressEvent::CleanedUp { processes } = event {
            cleaned_up = processes;
        }
    })
    .await
    .unwrap();
    assert!(cleaned_up >= 2, "{cleaned_up}");
    let client = connect(cluster.info(), &cluster.info().shards[0].primary).await;
    assert_eq!(one(&client, "SELECT a FROM t").await, "kept");
    drop(cluster);
    assert!(leftovers::find(&root).is_empty(), "dropping stops everything");

    let fresh = ClusterOptions {
        fresh: true,
        ..options(&directory, 1, 0)
    };
    let cluster = DevCluster::start(fresh, |_| ()).await.unwrap();
    let client = connect(cluster.info(), &cluster.info().shards[0].primary).await;
    assert!(
        client.batch_execute("SELECT a FROM t").await.is_err(),
        "a fresh cluster is empty"
    );
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_server_that_dies_is_noticed_and_can_be_started_again() {
    let directory = directory();
    let skewed = ClusterOptions {
        oid_skew: 100_000,
        ..options(&directory, 2, 0)
    };
    let mut cluster = DevCluster::start(skewed, |_| ()).await.unwrap();
    assert_eq!(cluster.dead_nodes(), []);
    let info = cluster.info().clone();
    for (index, shard) in info.shards.iter().enumerate() {
        let client = connect(&info, &shard.primary).await;
        client.batch_execute("CREATE TABLE t (a text)").await.unwrap();
        let oid: u32 = client
            .query_one("SELECT 't'::regclass::oid", &[])
            .await
            .unwrap()
            .get(0);
        let expected = 16_384 + 100_000 * u32::try_from(index).unwrap();
        assert!((expected..expected + 1_000).contains(&oid), "{oid}");
    }

    let pid = cluster
        .instances()
        .nth(1)
        .and_then(|instance| instance.pid())
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let dead = loop {
        let dead = cluster.dead_nodes();
        if !dead.is_empty() {
            break dead;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(dead[0].name, "shard_2/primary");
    cluster.restart_node("shard_2/primary").await.unwrap();
    let client = connect(&info, &info.shards[1].primary).await;
    client.batch_execute("SELECT a FROM t").await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn directories_that_are_not_ours_are_left_alone() {
    let directory = directory();
    let file = directory.path().join("thesis.txt");
    fs::write(&file, "years of work").unwrap();
    let fresh = ClusterOptions {
        fresh: true,
        ..options(&directory, 1, 0)
    };
    let error = DevCluster::start(fresh, |_| ()).await.unwrap_err();
    assert!(
        matches!(&error, ClusterError::ForeignDirectory { found, .. } if found == "thesis.txt"),
        "{error}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    fs::rename(&file, directory.path().join("drover-dev.json")).unwrap();
    let error = DevCluster::start(options(&directory, 1, 0), |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, ClusterError::Record { .. }), "{error}");
}

#[tokio::test]
async fn an_interrupted_creation_is_started_over() {
    let directory = directory();
    {
        let mut work_dir = WorkDir::open(directory.path(), &ServiceUser::choose().unwrap()).unwrap();
        work_dir.prepare().unwrap();
        let half_made = work_dir.servers_dir().join("shard_1/primary/data");
        fs::create_dir_all(&half_made).unwrap();
        fs::write(half_made.join("PG_VERSION"), "15").unwrap();
    }
    let cluster = DevCluster::start(options(&directory, 1, 0), |_| ())
        .await
        .unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn long_paths_get_their_sockets_elsewhere() {
    let directory = directory();
    let long = directory.path().join("d".repeat(100));
    let cluster = DevCluster::start(
        ClusterOptions {
            dir: long,
            ..options(&directory, 1, 0)
        },
        |_| (),
    )
    .await
    .unwrap();
    let socket_dir = cluster.info().shards[0].primary.socket_dir.clone();
    assert!(socket_dir.starts_with(std::env::temp_dir()));
    assert_eq!(verifiers(cluster.info()).await, 1, "the socket works");
    cluster.shutdown().await;
    assert!(!socket_dir.parent().unwrap().exists());
}

#[tokio::test]
async fn numbers_out_of_range_are_refused() {
    let directory = directory();
    for (shards, replicas) in [(0, 0), (65, 0), (1, 9)] {
        let error = DevCluster::start(options(&directory, shards, replicas), |_| ())
            .await
            .unwrap_err();
        assert!(matches!(error, ClusterError::OutOfRange { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn records_of_version_1_stay_readable() {
    let text = include_str!("../../samples/drover-dev.v1.json");
    let info::Record::V1(record) = serde_json::from_str(text).unwrap();
    let cluster = record.cluster.unwrap();
    assert_eq!(cluster.shards[0].replicas[0].name, "shard_1/replica_1");
    assert_eq!(cluster.shards[0].primary.port, 40001);
    assert_eq!(record.servers_elsewhere, None);
}
