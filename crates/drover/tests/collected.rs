//! Outcomes that nobody can need any more are deleted, and nothing else.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::client::{Answer, Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};
use testkit::{TestCluster, TestOptions};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two shards, each with a replica.
fn cluster() -> &'static TestCluster {
    static CLUSTER: OnceLock<TestCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        TestCluster::start(TestOptions {
            replicas: 1,
            ..TestOptions::shards(2)
        })
    })
}

/// Outcomes are kept for a second only, and nothing undecided is given up.
fn site() -> ProxySite {
    ProxySite::new(cluster(), Path::new(env!("CARGO_BIN_EXE_drover")))
        .with_variable("DROVER_TEST_RETENTION_MS", "1000")
        .with_variable("DROVER_TEST_GRACE_MS", "600000")
}

fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

fn value(client: &mut Client, sql: &str) -> String {
    run(client, sql).value().unwrap_or_default()
}

fn status(client: &mut Client, id: &str) -> String {
    value(client, &format!("SELECT drover.transaction_status('{id}')"))
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A session of its own on a server of a shard.
fn direct(site: &ProxySite, proxy: &DroverProxy, shard: usize, replica: bool) -> Client {
    let info = cluster().info();
    let shard = &info.shards[shard];
    let node = if replica {
        &shard.replicas[0]
    } else {
        &shard.primary
    };
    let target = Target {
        host: node.socket_dir.display().to_string(),
        port: node.port,
        user: info.admin_user.clone(),
        password: Some(info.admin_password.expose().to_owned()),
        database: site.database().to_owned(),
        ..proxy.target().clone()
    };
    Client::open(&target).unwrap()
}

/// Decisions under names that say when they were made, on both shards.
fn decisions(site: &ProxySite, proxy: &DroverProxy) -> usize {
    let count = |shard| {
        let sql = "SELECT count(*) FROM drover_internal.decisions WHERE gid LIKE 'drover:2:%'";
        value(&mut direct(site, proxy, shard, false), sql)
    };
    [0, 1]
        .map(|shard| count(shard).parse::<usize>().unwrap())
        .iter()
        .sum()
}

fn overdue_s(proxy: &DroverProxy) -> u64 {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(proxy.http()).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        proxy.http()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let name = "drover_decisions_overdue_seconds ";
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap()[name.len()..].parse().unwrap()
}

/// A committed transaction over both shards, with a name.
fn committed(client: &mut Client) -> String {
    run(
        client,
        "CREATE TABLE t (k bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'k')",
    );
    run(client, "INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) g");
    run(client, "BEGIN");
    run(client, "UPDATE t SET v = v + 1");
    let id = value(client, "SELECT drover.current_transaction_id()");
    run(client, "COMMIT");
    id
}

#[test]
fn outcomes_are_deleted_when_nobody_can_need_them() {
    let site = site();
    let (one, _other) = (site.start("one"), site.start("other"));
    let mut client = one.client();
    let first = committed(&mut client);
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE t SET v = 100");
    let second = value(&mut client, "SELECT drover.current_transaction_id()");
    run(&mut client, "ROLLBACK");
    // Asked at once, its outcome is written down.
    assert_eq!(status(&mut client, &second), "aborted");
    until("nothing is left", || decisions(&site, &one) == 0);
    for id in [&first, &second] {
        until("its name is too old", || status(&mut client, id) == "too old");
    }
    // Being asked has left nothing behind; and what was committed is there.
    assert_eq!(decisions(&site, &one), 0);
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "20");
    run(&mut client, "UPDATE t SET v = v + 1");
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "40");
}

/// While something is so, an outcome that is long due stays.
fn kept(hold: impl FnOnce(&ProxySite, &DroverProxy), release: impl FnOnce(&ProxySite, &DroverProxy)) {
    let site = site();
    let proxy = site.start("one");
    hold(&site, &proxy);
    let mut client = proxy.client();
    let id = committed(&mut client);
    until("it is long due", || overdue_s(&proxy) >= 3);
    assert_eq!(status(&mut client, &id), "committed");
    release(&site, &proxy);
    until("nothing is left", || decisions(&site, &proxy) == 0);
}

#[test]
fn outcomes_are_kept_while_something_is_prepared() {
    let made_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Both shards' outcomes have to wait for something of theirs.
    let gids = [1, 2].map(|decider| format!("drover:2:{decider}:{made_s}:{decider:032x}"));
    let prepare = |site: &ProxySite, proxy: &DroverProxy| {
        for gid in &gids {
            let sql = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'");
            run(&mut direct(site, proxy, 1, false), &sql);
        }
    };
    let end = |site: &ProxySite, proxy: &DroverProxy| {
        for gid in &gids {
            run(
                &mut direct(site, proxy, 1, false),
                &format!("ROLLBACK PREPARED '{gid}'"),
            );
        }
    };
    kept(prepare, end);
}

#[test]
fn outcomes_are_kept_until_the_replicas_have_everything() {
    let replay = |what: &'static str| {
        move |site: &ProxySite, proxy: &DroverProxy| {
            run(
                &mut direct(site, proxy, 1, true),
                &format!("SELECT pg_catalog.pg_wal_replay_{what}()"),
            );
        }
    };
    kept(replay("pause"), replay("resume"));
}

#[test]
fn outcomes_are_kept_while_a_transaction_is_open_that_may_be_prepared() {
    let open = std::cell::RefCell::new(None);
    kept(
        |site, proxy| {
            let mut client = direct(site, proxy, 0, false);
            run(&mut client, "BEGIN; SELECT 1");
            *open.borrow_mut() = Some(client);
        },
        |_, _| drop(open.borrow_mut().take()),
    );
}
