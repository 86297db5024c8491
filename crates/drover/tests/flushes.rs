//! What a transaction costs in flushes of the servers' logs, as PostgreSQL itself counts them. Never time.
//!
//! Others flush, too: checkpoints, the log writer, snapshots of running transactions every fifteen seconds. Settings quiet what can be
//! quieted; for the rest everything is done so often that a few more do not change the number for each.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use testkit::client::{Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};
use testkit::{TestCluster, TestOptions};

/// How often each thing is done.
const ROUNDS: u64 = 20;

const SHARDS: usize = 2;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two shards whose servers wait for their disks.
fn cluster() -> &'static TestCluster {
    static CLUSTER: OnceLock<TestCluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = TestCluster::start(TestOptions {
            durable: true,
            ..TestOptions::shards(SHARDS as u16)
        });
        for setting in [
            "autovacuum = off",
            "checkpoint_timeout = '1h'",
            "max_wal_size = '8GB'",
            "wal_writer_delay = '10s'",
            // With others the write itself flushes, and nothing is counted.
            "wal_sync_method = fdatasync",
        ] {
            cluster.on_every_shard("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        cluster.on_every_shard("postgres", "SELECT pg_reload_conf()");
        cluster
    })
}

/// Sessions of the application's role that is counted, and the servers.
struct Fixture {
    client: Client,
    /// Past Drover, as its own role.
    servers: Vec<Client>,
    proxy: DroverProxy,
    /// For tables that Drover does not know.
    bare: String,
    _site: ProxySite,
    /// A server counts what all of its databases flush: one test at a time.
    _alone: MutexGuard<'static, ()>,
}

fn fixture() -> Fixture {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let site = ProxySite::new(cluster(), Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("one");
    let info = cluster().info();
    let server = |shard: &agent::ShardInfo| {
        let target = Target {
            host: shard.primary.host.clone(),
            port: shard.primary.port,
            user: info.admin_user.clone(),
            password: Some(info.admin_password.expose().to_owned()),
            ..proxy.target().clone()
        };
        Client::open(&target).unwrap()
    };
    let mut fixture = Fixture {
        client: proxy.client(),
        servers: info.shards.iter().map(server).collect(),
        bare: cluster().create_database(),
        proxy,
        _site: site,
        _alone: alone,
    };
    fixture.run("CREATE TABLE t (k bigint PRIMARY KEY, n int, mail text) WITH (drover.shard_key = 'k')");
    fixture.run("INSERT INTO t SELECT g, 0, g || '@x' FROM generate_series(1, 60) g");
    fixture
}

fn run(client: &mut Client, sql: &str) -> Option<String> {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer.value()
}

impl Fixture {
    fn run(&mut self, sql: &str) -> Option<String> {
        run(&mut self.client, sql)
    }

    /// A key on each shard.
    fn keys(&mut self) -> [u64; SHARDS] {
        let mut keys = [None; SHARDS];
        for key in 1..=60 {
            let sql = format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}");
            let route = format!("{:?}", self.client.simple(&sql).unwrap().text_rows());
            let shard = (0..SHARDS).find(|shard| route.contains(&format!("shard_{}", shard + 1)));
            keys[shard.unwrap()].get_or_insert(key);
        }
        keys.map(Option::unwrap)
    }

    /// A session of the application with each server, past Drover, in a database with one table.
    fn by_hand(&self) -> Vec<Client> {
        let shards = cluster().info().shards.iter();
        let open = |shard: &agent::ShardInfo| {
            let target = Target {
                host: shard.primary.host.clone(),
                port: shard.primary.port,
                database: self.bare.clone(),
                ..self.proxy.target().clone()
            };
            let mut client = Client::open(&target).unwrap();
            run(
                &mut client,
                "CREATE TABLE IF NOT EXISTS t (k bigint PRIMARY KEY, n int)",
            );
            run(&mut client, "INSERT INTO t VALUES (1, 0) ON CONFLICT DO NOTHING");
            client
        };
        shards.map(open).collect()
    }

    /// Flushes of each server's log so far. A server process tells what it has done when it ends, so those of the application end first.
    fn flushes(&mut self) -> [u64; SHARDS] {
        let user = &cluster().info().app_user;
        let end =
            format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'");
        let mut counts = [0; SHARDS];
        for (server, count) in self.servers.iter_mut().zip(&mut counts) {
            let deadline = Instant::now() + PATIENCE;
            while run(server, &end).as_deref() != Some("0") {
                assert!(Instant::now() < deadline, "sessions do not end");
                std::thread::sleep(Duration::from_millis(5));
            }
            let version = run(server, "SHOW server_version_num").unwrap();
            let count_of = if version.as_str() < "180000" {
                "SELECT wal_sync FROM pg_stat_wal"
            } else {
                "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
            };
            *count = run(server, count_of).unwrap().parse().unwrap();
        }
        counts
    }

    /// The proxy notices that its connections have ended, and makes others.
    fn await_servers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .client
            .simple("SELECT count(*) FROM t")
            .is_ok_and(|answer| answer.error().is_none())
        {
            assert!(Instant::now() < deadline, "the servers do not answer");
        }
    }

    /// Flushes on each server for each time that this is done.
    fn cost(&mut self, mut work: impl FnMut(&mut Fixture)) -> [u64; SHARDS] {
        let before = self.flushes();
        self.await_servers();
        for _ in 0..ROUNDS {
            work(self);
        }
        let after = self.flushes();
        // What others do is a few in all.
        std::array::from_fn(|shard| (after[shard] - before[shard] + ROUNDS / 2) / ROUNDS)
    }

    fn cost_of(&mut self, texts: &[&str]) -> [u64; SHARDS] {
        self.cost(|f| {
            for text in texts {
                f.run(text);
            }
        })
    }
}

#[test]
fn a_transaction_on_one_shard_flushes_what_it_does_without_drover() {
    let mut f = fixture();
    let keys = f.keys();
    let write = format!("UPDATE t SET n = n + 1 WHERE k = {}", keys[1]);
    let read = format!("SELECT n FROM t WHERE k = {}", keys[1]);
    let mut direct = None;
    let plain = f.cost(|f| {
        let hands = direct.get_or_insert_with(|| f.by_hand());
        run(&mut hands[1], "UPDATE t SET n = n + 1 WHERE k = 1");
    });
    assert_eq!(plain, [0, 1], "past Drover");
    assert_eq!(f.cost_of(&[&write]), plain);
    assert_eq!(f.cost_of(&["BEGIN", &read, &write, &write, "COMMIT"]), plain);
    assert_eq!(f.cost_of(&["BEGIN", &write, "ROLLBACK"]), [0, 0]);
    assert_eq!(f.cost_of(&[&read]), [0, 0]);
}

#[test]
fn a_transaction_over_two_flushes_three_times() {
    let mut f = fixture();
    let keys = f.keys();
    let write = |shard: usize| format!("UPDATE t SET n = n + 1 WHERE k = {}", keys[shard]);
    // Each of two on one shard.
    assert_eq!(f.cost_of(&[&write(0), &write(1)]), [1, 1]);
    // The decision with its COMMIT; PREPARE and COMMIT PREPARED.
    assert_eq!(f.cost_of(&["BEGIN", &write(0), &write(1), "COMMIT"]), [1, 2]);
    assert_eq!(f.cost_of(&["BEGIN", &write(1), &write(0), "COMMIT"]), [2, 1]);
    // A client that does it by hand prepares everywhere, and has nowhere to write the decision.
    let mut direct = None;
    let by_hand = f.cost(|f| {
        let hands = direct.get_or_insert_with(|| f.by_hand());
        for end in ["PREPARE TRANSACTION 'by_hand'", "COMMIT PREPARED 'by_hand'"] {
            for hand in hands.iter_mut() {
                if end.starts_with("PREPARE") {
                    run(hand, "BEGIN");
                    run(hand, "UPDATE t SET n = n + 1 WHERE k = 1");
                }
                run(hand, end);
            }
        }
    });
    assert_eq!(by_hand, [2, 2]);
    // Whoever reads on the second shard only, and whoever does not want it all or nothing.
    let read = format!("SELECT n FROM t WHERE k = {}", keys[1]);
    assert_eq!(f.cost_of(&["BEGIN", &write(0), &read, "COMMIT"]), [1, 0]);
    f.run("SET drover.transaction_mode = 'best_effort'");
    assert_eq!(f.cost_of(&["BEGIN", &write(0), &write(1), "COMMIT"]), [1, 1]);
}

#[test]
fn a_global_index_flushes_where_the_entry_is() {
    let mut f = fixture();
    // A row inserted and deleted.
    let pair = |n: u64| {
        [
            format!("INSERT INTO t VALUES ({n}, 0, '{n}@y')"),
            format!("DELETE FROM t WHERE k = {n}"),
        ]
    };
    let cost = |f: &mut Fixture, n: u64| {
        let [insert, delete] = pair(n);
        let mut cost = f.cost_of(&[&insert, &delete]);
        cost.sort_unstable();
        cost
    };
    assert_eq!(cost(&mut f, 100), [0, 2]);
    f.run("SELECT drover.create_global_index('t', 'mail', unique => true)");
    let mut seen = [false; 2];
    for n in 100.. {
        match cost(&mut f, n) {
            // Entry and row are on one shard.
            [0, 2] => seen[0] = true,
            // Two transactions over two shards.
            [2, 4] | [3, 3] => seen[1] = true,
            other => panic!("{other:?}"),
        }
        if seen == [true; 2] {
            break;
        }
        assert!(n < 116, "entries beside their rows and on other shards: {seen:?}");
    }
    assert_eq!(f.cost_of(&["SELECT n FROM t WHERE mail = '7@x'"]), [0, 0]);
}
