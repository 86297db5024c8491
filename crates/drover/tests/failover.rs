//! Servers that are promoted, killed and stopped under a running proxy: who is believed, who is told, and what gets lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent::NodeInfo;
use testkit::client::{Answer, Client, ClientError};
use testkit::proxy::{DroverProxy, ProxySite};
use testkit::{TestCluster, TestOptions};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

const QUICK: &str = "[replicas]\npoll_interval = '100ms'\n";

/// A cluster of one's own: its servers are not the same afterwards. It ends with the process.
fn cluster(shards: u16, replicas: u16) -> &'static TestCluster {
    let options = TestOptions {
        replicas,
        ..TestOptions::shards(shards)
    };
    Box::leak(Box::new(TestCluster::start(options)))
}

/// Whose application user is an operator as well.
fn site(cluster: &'static TestCluster) -> ProxySite {
    let user = &cluster.info().app_user;
    let console = format!("[console]\nadmin_users = ['{user}']\n");
    ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover"))).with_config(&(console + QUICK))
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

/// The SQLSTATE a text fails with; empty when it does not.
fn code(client: &mut Client, sql: &str) -> String {
    match client.simple(sql) {
        Ok(answer) => answer
            .error()
            .map(|error| error.sqlstate().to_owned())
            .unwrap_or_default(),
        Err(ClientError::Closed(Some(error))) => error.sqlstate().to_owned(),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// A column of `drover.nodes` for one server.
fn node(proxy: &DroverProxy, node: &NodeInfo, column: &str) -> String {
    // The console works whatever the servers do.
    let mut console = Client::open(&proxy.target().clone().with_database("pgbouncer")).unwrap();
    let answer = run(&mut console, "SHOW NODES");
    let names = ["shard", "role", "host", "port", "node", "is_primary", "state"];
    let more = ["weight", "zone", "timeline", "position", "lag_bytes", "lag_ms"];
    let at = names
        .iter()
        .chain(&more)
        .position(|name| *name == column)
        .unwrap();
    let port = node.port.to_string();
    let row = answer
        .text_rows()
        .into_iter()
        .find(|row| row[3].as_deref() == Some(&port))
        .unwrap();
    row[at].clone().unwrap_or_default()
}

/// Waits until a column of a server is what it is to be.
fn await_node(proxy: &DroverProxy, server: &NodeInfo, column: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = node(proxy, server, column);
        if now == wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{column} of {} is {now} and not {wanted}\n{}",
            server.name,
            proxy.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a replica of the home shard has everything that was written until now.
fn await_all(proxy: &DroverProxy, server: &NodeInfo) {
    let mut client = proxy.client();
    let wanted = value(&mut client, "SELECT pg_current_wal_lsn()");
    let bytes = |lsn: &str| -> u64 {
        let (high, low) = lsn.split_once('/').unwrap_or(("0", "0"));
        (u64::from_str_radix(high, 16).unwrap() << 32) + u64::from_str_radix(low, 16).unwrap()
    };
    let deadline = Instant::now() + PATIENCE;
    while bytes(&node(proxy, server, "position")) < bytes(&wanted) {
        assert!(
            Instant::now() < deadline,
            "{} does not catch up\n{}",
            server.name,
            proxy.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `(1, 'x'), (2, 'x'), …`
fn rows(ids: std::ops::RangeInclusive<u32>) -> String {
    ids.map(|id| format!("({id}, 'x')"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The processes of a server, the one that leads them first.
fn processes(node: &NodeInfo) -> Vec<i32> {
    let file = std::fs::read_to_string(node.data_dir.join("postmaster.pid")).unwrap();
    let leader: i32 = file.lines().next().unwrap().trim().parse().unwrap();
    let children =
        std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(leader).chain(children).collect()
}

fn signal(node: &NodeInfo, signal: nix::sys::signal::Signal) {
    for pid in processes(node) {
        // A backend may have ended meanwhile.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

fn promote(cluster: &TestCluster, node: &NodeInfo) {
    cluster.on_node(node, "postgres", "SELECT pg_promote()");
}

#[test]
fn roles_and_lag_are_observed() {
    let cluster = cluster(1, 2);
    let site = site(cluster);
    let proxy = site.start("a");
    let mut client = proxy.client();
    let shard = &cluster.info().shards[0];
    let (primary, late, prompt) = (&shard.primary, &shard.replicas[0], &shard.replicas[1]);
    await_node(&proxy, primary, "role", "primary");
    let view = run(&mut client, "SELECT * FROM drover.nodes").text_rows();
    let ports: Vec<_> = view.iter().filter_map(|row| row[3].clone()).collect();
    assert_eq!(ports, [primary, late, prompt].map(|node| node.port.to_string()));
    for replica in [late, prompt] {
        await_node(&proxy, replica, "role", "replica");
        await_node(&proxy, replica, "state", "in");
    }
    let delay = "ALTER SYSTEM SET recovery_min_apply_delay = '1h'";
    cluster.on_node(late, "postgres", delay);
    cluster.on_node(late, "postgres", "SELECT pg_reload_conf()");
    run(&mut client, "CREATE TABLE t (id int)");
    run(&mut client, "INSERT INTO t SELECT generate_series(1, 10000)");
    // The prompt one catches up to zero; the late one stays behind and grows old although nothing is written any more.
    await_all(&proxy, prompt);
    await_node(&proxy, prompt, "lag_bytes", "0");
    let lag = |column: &str| node(&proxy, late, column).parse::<u64>().unwrap();
    let before = lag("lag_ms");
    let deadline = Instant::now() + PATIENCE;
    while lag("lag_ms") < before + 1000 || lag("lag_bytes") < 10_000 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(node(&proxy, prompt, "lag_ms").parse::<u64>().unwrap() < 1000 + 2000);
}

#[test]
fn replicas_that_are_behind_or_stopped_leave_rotation_and_come_back() {
    let cluster = cluster(1, 1);
    let site = site(cluster);
    let proxy = site.start_with("a", "max_lag_bytes = '100kB'\npoll_timeout = '200ms'\n");
    let mut client = proxy.client();
    let replica = &cluster.info().shards[0].replicas[0];
    await_node(&proxy, replica, "state", "in");
    cluster.on_node(replica, "postgres", "SELECT pg_wal_replay_pause()");
    run(
        &mut client,
        "CREATE TABLE t AS SELECT generate_series(1, 20000) AS id",
    );
    await_node(&proxy, replica, "state", "behind");
    cluster.on_node(replica, "postgres", "SELECT pg_wal_replay_resume()");
    await_node(&proxy, replica, "state", "in");
    signal(replica, nix::sys::signal::Signal::SIGSTOP);
    await_node(&proxy, replica, "state", "down");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "20000");
    signal(replica, nix::sys::signal::Signal::SIGCONT);
    await_node(&proxy, replica, "state", "in");
}

#[test]
fn a_promotion_is_followed_and_the_old_primary_gets_nothing_more() {
    let cluster = cluster(2, 1);
    let site = site(cluster);
    let proxy = site.start("a");
    let (first, second) = (&cluster.info().shards[0], &cluster.info().shards[1]);
    let mut client = proxy.client();
    run(
        &mut client,
        "CREATE TABLE t (id bigint PRIMARY KEY, v text) WITH (drover.shard_key = 'id')",
    );
    run(&mut client, &format!("INSERT INTO t VALUES {}", rows(1..=100)));
    let mut idle = proxy.client();
    assert_eq!(value(&mut idle, "SELECT count(*) FROM t"), "100");
    // A transaction that is open when it happens.
    let mut open = proxy.client();
    run(&mut open, "BEGIN");
    run(&mut open, "UPDATE t SET v = 'y'");
    await_all(&proxy, &first.replicas[0]);
    promote(cluster, &first.replicas[0]);
    await_node(&proxy, &first.replicas[0], "is_primary", "true");
    // Once, and then the transaction is over.
    assert!(["08006", "40001"].contains(&&*code(&mut open, "SELECT count(*) FROM t")));
    run(&mut open, "ROLLBACK");
    assert_eq!(value(&mut open, "SELECT count(*) FROM t WHERE v = 'x'"), "100");
    // Nobody else notices.
    assert_eq!(value(&mut idle, "SELECT count(*) FROM t"), "100");
    run(&mut idle, &format!("INSERT INTO t VALUES {}", rows(101..=200)));
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "200");
    // The old primary is alive, takes writes, and has got none.
    assert_eq!(node(&proxy, &first.primary, "role"), "primary");
    assert_eq!(node(&proxy, &first.primary, "is_primary"), "false");
    assert_eq!(node(&proxy, &second.primary, "is_primary"), "true");
    let old = format!("{}/{}", first.primary.host, first.primary.port);
    let found = site.misplaced(&proxy);
    assert!(found.iter().all(|finding| !format!("{finding:?}").contains(&old)));
    // Another proxy, which starts now, believes the same one.
    let later = site.start("b");
    await_node(&later, &first.replicas[0], "is_primary", "true");
    assert_eq!(value(&mut later.client(), "SELECT count(*) FROM t"), "200");
}

#[test]
fn statements_wait_for_the_successor_of_a_primary_that_is_gone() {
    let cluster = cluster(1, 1);
    let site = site(cluster);
    for (round, stop) in [nix::sys::signal::Signal::SIGSTOP].into_iter().enumerate() {
        let proxy = site.start(&format!("p{round}"));
        let shard = &cluster.info().shards[0];
        let (old, new) = (&shard.primary, &shard.replicas[0]);
        let mut client = proxy.client();
        run(&mut client, "CREATE TABLE t (id int)");
        await_all(&proxy, new);
        signal(old, stop);
        let done = AtomicBool::new(false);
        let waited = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for id in 0..8 {
                let mut client = proxy.client();
                let (done, waited) = (&done, &waited);
                scope.spawn(move || {
                    let begun = Instant::now();
                    // Those that were sent to a server that hangs may be lost; those that were not must wait.
                    let code = code(&mut client, &format!("INSERT INTO t VALUES ({id})"));
                    assert!(["", "08006"].contains(&&*code), "{code}");
                    if code.is_empty() {
                        waited.fetch_add(1, Ordering::Relaxed);
                    }
                    assert!(
                        done.load(Ordering::Relaxed),
                        "nobody took it after {:?}",
                        begun.elapsed()
                    );
                });
            }
            std::thread::sleep(Duration::from_millis(300));
            done.store(true, Ordering::Relaxed);
            promote(cluster, new);
        });
        assert!(waited.load(Ordering::Relaxed) > 0);
        let rows: u64 = value(&mut client, "SELECT count(*) FROM t").parse().unwrap();
        assert_eq!(rows, waited.load(Ordering::Relaxed), "each once, or not at all");
        // It comes back, and is believed nothing.
        signal(old, nix::sys::signal::Signal::SIGCONT);
        await_node(&proxy, old, "role", "primary");
        assert_eq!(node(&proxy, old, "is_primary"), "false");
        run(&mut client, "INSERT INTO t VALUES (100)");
        assert_eq!(
            value(&mut client, "SELECT count(*) FROM t"),
            (rows + 1).to_string()
        );
    }
}

#[test]
fn with_two_that_were_promoted_nobody_is_written_to() {
    let cluster = cluster(1, 2);
    let site = site(cluster);
    let proxy = site.start_with("a", "[pool]\nconnection_timeout = '1s'\n");
    let shard = &cluster.info().shards[0];
    let mut client = proxy.client();
    run(&mut client, "CREATE TABLE t (id int)");
    for replica in &shard.replicas {
        await_all(&proxy, replica);
    }
    signal(&shard.primary, nix::sys::signal::Signal::SIGKILL);
    std::thread::scope(|scope| {
        for replica in &shard.replicas {
            scope.spawn(|| promote(cluster, replica));
        }
    });
    for replica in &shard.replicas {
        await_node(&proxy, replica, "role", "primary");
    }
    // Whoever was seen first may have been believed; with both there, nobody is.
    for replica in &shard.replicas {
        await_node(&proxy, replica, "is_primary", "false");
    }
    let answer = client.simple("INSERT INTO t VALUES (1)").unwrap();
    let error = answer.error().expect("it is refused");
    assert_eq!(error.sqlstate(), "08006");
    assert!(error.to_string().contains("two servers take writes"), "{error}");
}

#[test]
fn a_planned_switch_costs_nobody_an_error_and_a_conflict_waits_for_the_operator() {
    let cluster = cluster(1, 2);
    let user = &cluster.info().app_user;
    let console = format!("[console]\nadmin_users = ['{user}']\n");
    let site =
        ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover"))).with_config(&(console + QUICK));
    let proxy = site.start("a");
    let shard = &cluster.info().shards[0];
    let (old, new, other) = (&shard.primary, &shard.replicas[0], &shard.replicas[1]);
    let mut client = proxy.client();
    run(&mut client, "CREATE TABLE t (id bigint)");
    let mut operator = Client::open(&proxy.target().clone().with_database("pgbouncer")).unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = proxy.client();
            let (stop, written) = (&stop, &written);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let id = written.fetch_add(1, Ordering::Relaxed);
                    run(&mut client, &format!("INSERT INTO t VALUES ({id})"));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        run(&mut operator, "PAUSE SHARD shard_1");
        let before = written.load(Ordering::Relaxed);
        // No statement comes through: the position is final.
        assert_eq!(node(&proxy, old, "is_primary"), "true");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(written.load(Ordering::Relaxed), before, "it is paused");
        await_node(&proxy, new, "lag_bytes", "0");
        promote(cluster, new);
        run(&mut operator, "RESUME SHARD shard_1");
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(node(&proxy, new, "is_primary"), "true");
    let ids: u64 = value(&mut client, "SELECT count(DISTINCT id) FROM t")
        .parse()
        .unwrap();
    assert_eq!(ids, written.load(Ordering::Relaxed), "none lost, none twice");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ids.to_string());
    // The other replica is promoted as well: it continues the old timeline, not the new one.
    promote(cluster, other);
    await_node(&proxy, new, "is_primary", "false");
    run(
        &mut operator,
        &format!("CHOOSE_PRIMARY shard_1 {}:{}", new.host, new.port),
    );
    await_node(&proxy, new, "is_primary", "true");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), ids.to_string());
    assert_eq!(
        operator
            .simple("PAUSE SHARD nobody")
            .unwrap()
            .error()
            .unwrap()
            .sqlstate(),
        "42704"
    );
}

#[test]
fn promotions_under_load_lose_nothing() {
    let options = testkit::failover::FailoverOptions {
        rounds: 1,
        losses: vec![
            testkit::failover::Loss::Planned,
            testkit::failover::Loss::Killed,
            testkit::failover::Loss::Stopped,
        ],
        shards: 2,
        writers: 4,
        others: 1,
    };
    let report = testkit::failover::run(Path::new(env!("CARGO_BIN_EXE_drover")), &options);
    assert_eq!(report.wrong(), Vec::<String>::new(), "{}", report.table());
}
