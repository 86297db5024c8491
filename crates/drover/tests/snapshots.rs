//! What reads over several shards see of commits over several shards.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Extended};
use testkit::proxy::ProxySite;

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
const ACCOUNTS: u64 = 40;
const TOTAL: &str = "4000";

fn cluster() -> &'static TestCluster {
    TestCluster::shared(3)
}

fn site() -> ProxySite {
    ProxySite::new(cluster(), Path::new(env!("CARGO_BIN_EXE_drover")))
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

fn code(client: &mut Client, sql: &str) -> String {
    let answer = client.simple(sql).unwrap();
    answer
        .error()
        .map(|error| error.sqlstate().to_owned())
        .unwrap_or_default()
}

fn accounts(client: &mut Client) {
    run(
        client,
        "CREATE TABLE t (k bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
    );
    run(
        client,
        &format!("INSERT INTO t SELECT g, 100 FROM generate_series(1, {ACCOUNTS}) g"),
    );
}

/// Until it is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Leaves a transaction over two shards as a proxy does that dies after its decision: 10 went from a row of the first shard to
/// one of the second, where it is prepared only.
fn half_committed(site_client: &mut Client, number: u32) {
    let database = value(site_client, "SELECT current_database()");
    let shards = &cluster().info().shards;
    let on = |client: &mut Client, shard: &str| {
        (1..=ACCOUNTS)
            .find(|key| {
                let route = run(
                    client,
                    &format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}"),
                )
                .text_rows();
                format!("{route:?}").contains(shard)
            })
            .unwrap()
    };
    let (from, to) = (on(site_client, "shard_1"), on(site_client, "shard_2"));
    let gid = format!("drover:1:1:{number:032x}");
    cluster().on_node(
        &shards[1].primary,
        &database,
        &format!("BEGIN; UPDATE t SET n = n + 10 WHERE k = {to}; PREPARE TRANSACTION '{gid}'"),
    );
    cluster().on_node(
        &shards[0].primary,
        &database,
        &format!(
            "BEGIN; UPDATE t SET n = n - 10 WHERE k = {from}; \
             INSERT INTO drover_internal.decisions (gid, committed, participants) VALUES ('{gid}', true, '{{2}}'); COMMIT"
        ),
    );
}

#[test]
fn a_snapshot_of_the_cluster_waits_for_what_is_decided() {
    let site = site();
    let a = site.start("a");
    let (mut plain, mut whole) = (a.client(), a.client());
    accounts(&mut plain);
    // Half of it is seen, unless recovery happens to look just now.
    let mut number = 1;
    half_committed(&mut plain, number);
    while value(&mut plain, "SELECT sum(n) FROM t") != "3990" {
        number += 1;
        assert!(number < 100, "recovery is always there first");
        half_committed(&mut plain, number);
    }
    run(&mut whole, "SET drover.read_snapshot = 'cluster'");
    let read = |client: &mut Client| loop {
        let answer = client.simple("SELECT sum(n) FROM t").unwrap();
        match answer.error() {
            // It takes recovery a moment to be sure that nobody else is at it.
            Some(error) => assert_eq!(error.sqlstate(), "40001", "{error}"),
            None => break answer.value().unwrap(),
        }
    };
    assert_eq!(read(&mut whole), TOTAL);
    assert_eq!(value(&mut plain, "SELECT sum(n) FROM t"), TOTAL);
}

#[test]
fn where_there_is_no_snapshot_of_the_cluster() {
    let site = site();
    let a = site.start("a");
    let mut client = a.client();
    accounts(&mut client);
    assert_eq!(value(&mut client, "SHOW drover.read_snapshot"), "shard");
    assert_eq!(code(&mut client, "SET drover.read_snapshot = 'moon'"), "22023");
    run(&mut client, "SET drover.read_snapshot = 'cluster'");
    assert_eq!(value(&mut client, "SHOW drover.read_snapshot"), "cluster");
    assert_eq!(value(&mut client, "SELECT sum(n) FROM t"), TOTAL);
    // Each statement would need one.
    run(&mut client, "BEGIN");
    assert_eq!(value(&mut client, "SELECT n FROM t WHERE k = 1"), "100");
    assert_eq!(code(&mut client, "SELECT sum(n) FROM t"), "0A000");
    run(&mut client, "ROLLBACK");
    // Those that were taken before.
    run(
        &mut client,
        "SET drover.read_snapshot = 'shard'; BEGIN ISOLATION LEVEL REPEATABLE READ",
    );
    assert_eq!(value(&mut client, "SELECT sum(n) FROM t"), TOTAL);
    run(&mut client, "SET LOCAL drover.read_snapshot = 'cluster'");
    assert_eq!(code(&mut client, "SELECT sum(n) FROM t"), "0A000");
    run(&mut client, "ROLLBACK");
    // What is written, and what is read again, in one that has it.
    run(
        &mut client,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL drover.read_snapshot = 'cluster'",
    );
    assert_eq!(value(&mut client, "SELECT sum(n) FROM t"), TOTAL);
    run(&mut client, "UPDATE t SET n = n + 1");
    assert_eq!(
        value(&mut client, "SELECT sum(n) FROM t"),
        (4000 + ACCOUNTS).to_string()
    );
    run(&mut client, "COMMIT");
    run(
        &mut client,
        "SET drover.read_snapshot = 'cluster'; SET drover.read_from = 'replica'",
    );
    assert_eq!(code(&mut client, "SELECT sum(n) FROM t"), "0A000");
    run(&mut client, "SET drover.read_from = 'primary'");
    assert_eq!(
        value(&mut client, "SELECT sum(n) FROM t"),
        (4000 + ACCOUNTS).to_string()
    );
}

/// What a proxy that dies has decided is finished by the others when its registration has ended.
#[test]
fn what_a_dead_proxy_has_decided_is_finished_by_another() {
    let site = site();
    let (a, b) = (site.start_with("a", "[log]\nlevel = 'info'\n"), site.start("b"));
    let mut client = a.client();
    accounts(&mut client);
    b.signal("KILL");
    half_committed(&mut client, 2);
    until("the other half is seen", || {
        value(&mut client, "SELECT sum(n) FROM t") == TOTAL
    });
    until("it is noticed", || a.log().contains("another proxy is gone"));
}

/// Two keys of one shard, and one of another.
fn keys(client: &mut Client) -> (u64, u64, u64) {
    let mut on = [Vec::new(), Vec::new()];
    for key in 1..=ACCOUNTS {
        let route = run(
            client,
            &format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}"),
        )
        .text_rows();
        on[usize::from(!format!("{route:?}").contains("shard_1"))].push(key);
    }
    (on[0][0], on[0][1], on[1][0])
}

/// The table of docs/guide/transactions.md, level by level.
#[test]
fn each_isolation_level_holds_what_the_guide_says() {
    let site = site();
    let a = site.start("a");
    let (mut one, mut two, mut whole) = (a.client(), a.client(), a.client());
    accounts(&mut one);
    let (k1, k2, far) = keys(&mut one);
    run(&mut whole, "SET drover.read_snapshot = 'cluster'");

    // READ COMMITTED: part of a commit can be seen, and its rest by the next statement. REPEATABLE READ: what is seen stays.
    for number in 100.. {
        half_committed(&mut one, number);
        run(&mut one, "BEGIN");
        run(&mut two, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        if [&mut one, &mut two].map(|client| value(client, "SELECT sum(n) FROM t")) == ["3990", "3990"] {
            break;
        }
        // Recovery happened to look just now.
        assert!(number < 200, "recovery is always there first");
        run(&mut one, "ROLLBACK");
        run(&mut two, "ROLLBACK");
    }
    until("it is finished", || {
        code(&mut whole, "SELECT sum(n) FROM t").is_empty()
    });
    assert_eq!(value(&mut one, "SELECT sum(n) FROM t"), TOTAL);
    assert_eq!(value(&mut two, "SELECT sum(n) FROM t"), "3990");
    run(&mut one, "ROLLBACK");
    run(&mut two, "ROLLBACK");

    // REPEATABLE READ: a row of any shard that somebody has changed since the first statement cannot be changed.
    for key in [k1, far] {
        run(&mut two, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        run(&mut two, &format!("SELECT n FROM t WHERE k = {k2}"));
        run(&mut one, &format!("UPDATE t SET n = n WHERE k = {key}"));
        assert_eq!(
            code(&mut two, &format!("UPDATE t SET n = n WHERE k = {key}")),
            "40001"
        );
        run(&mut two, "ROLLBACK");
    }
    // Write skew is possible, as on one PostgreSQL.
    let skew = |client: &mut Client, read: u64, write: u64, level: &str| {
        run(client, &format!("BEGIN ISOLATION LEVEL {level}"));
        run(client, &format!("SELECT n FROM t WHERE k = {read}"));
        run(client, &format!("UPDATE t SET n = n WHERE k = {write}"));
    };
    for other in [k2, far] {
        skew(&mut one, k1, other, "REPEATABLE READ");
        skew(&mut two, other, k1, "REPEATABLE READ");
        assert_eq!([code(&mut one, "COMMIT"), code(&mut two, "COMMIT")], ["", ""]);
    }

    // SERIALIZABLE: not within a shard, and there is no second one.
    skew(&mut one, k1, k2, "SERIALIZABLE");
    skew(&mut two, k2, k1, "SERIALIZABLE");
    let codes = [code(&mut one, "COMMIT"), code(&mut two, "COMMIT")];
    assert!(codes.iter().any(|code| code == "40001"), "{codes:?}");
    run(&mut one, "BEGIN ISOLATION LEVEL SERIALIZABLE");
    run(&mut one, &format!("SELECT n FROM t WHERE k = {k1}"));
    assert_eq!(
        code(&mut one, &format!("SELECT n FROM t WHERE k = {far}")),
        "0A000"
    );
    run(&mut one, "ROLLBACK");

    // At every level, what fails on one shard is nowhere.
    for level in ["READ COMMITTED", "REPEATABLE READ"] {
        run(
            &mut one,
            &format!("BEGIN ISOLATION LEVEL {level}; UPDATE t SET n = n + 5 WHERE k IN ({k1}, {far})"),
        );
        assert_eq!(
            code(&mut one, &format!("INSERT INTO t VALUES ({far}, 0)")),
            "23505"
        );
        run(&mut one, "COMMIT");
        assert_eq!(value(&mut one, "SELECT sum(n) FROM t"), TOTAL);
    }
}

/// One transfer; what it came to is of no interest.
fn transfer(client: &mut Client, random: &mut impl FnMut() -> u64) -> bool {
    let (from, to) = (random() % ACCOUNTS + 1, random() % ACCOUNTS + 1);
    let texts = [
        "BEGIN".to_owned(),
        format!("UPDATE t SET n = n - 1 WHERE k = {from}"),
        format!("UPDATE t SET n = n + 1 WHERE k = {to}"),
        "COMMIT".to_owned(),
    ];
    for text in &texts {
        match client.simple(text) {
            Ok(answer) if answer.error().is_none() => {}
            Ok(_) => return client.simple("ROLLBACK").is_ok(),
            Err(_) => return false,
        }
    }
    true
}

/// The sum as a reader of this number asks for it; `None`: to be tried again.
fn sum(client: &mut Client, number: usize) -> Option<String> {
    let answer = match number % 3 {
        0 => client.simple("SELECT sum(n) FROM t").ok()?,
        1 => client.extended(&Extended::new("SELECT sum(n) FROM t")).ok()?,
        _ => {
            run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
            let one = client.simple("SELECT sum(n) FROM t WHERE k % 2 = 0").unwrap();
            let other = client.simple("SELECT sum(n) FROM t WHERE k % 2 = 1").unwrap();
            run(client, "ROLLBACK");
            let [one, other] = [one.value()?, other.value()?].map(|value| value.parse::<u64>().unwrap());
            return Some((one + other).to_string());
        }
    };
    if let Some(error) = answer.error() {
        assert_eq!(error.sqlstate(), "40001", "{error}");
        return None;
    }
    answer.value()
}

/// Transfers by many while a proxy is killed: a snapshot of the cluster always shows the same total.
#[test]
fn a_snapshot_of_the_cluster_never_shows_half_of_a_commit() {
    const WRITERS: usize = 6;
    const SNAPSHOTS: u64 = 80;
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    accounts(&mut a.client());
    let (stop, seen, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (home, other) = if number % 2 == 0 { (&a, &a) } else { (&b, &a) };
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                let mut seed = number as u64 * 977 + 5;
                let mut random = move || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed
                };
                let mut client = home.client();
                while !stop.load(Ordering::Relaxed) {
                    if transfer(&mut client, &mut random) {
                        done.fetch_add(1, Ordering::Relaxed);
                    } else {
                        client = other.client();
                    }
                }
            });
        }
        for number in 0..3 {
            let (a, stop, seen) = (&a, &stop, &seen);
            scope.spawn(move || {
                let mut client = a.client();
                run(&mut client, "SET drover.read_snapshot = 'cluster'");
                while !stop.load(Ordering::Relaxed) {
                    if let Some(total) = sum(&mut client, number) {
                        if total != TOTAL {
                            stop.store(true, Ordering::Relaxed);
                        }
                        assert_eq!(total, TOTAL, "reader {number}");
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let enough = |count: u64| seen.load(Ordering::Relaxed) >= count || stop.load(Ordering::Relaxed);
        until("half of the snapshots", || enough(SNAPSHOTS / 2));
        b.signal("KILL");
        until("the other half", || enough(SNAPSHOTS));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 0);
    let mut client = a.client();
    let in_doubt = |client: &mut Client| {
        value(
            client,
            "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'drover:%'",
        )
    };
    until("nothing in doubt", || in_doubt(&mut client) == "0");
    until("all of it is there", || {
        value(&mut client, "SELECT sum(n) FROM t") == TOTAL
    });
    assert!(site.misplaced(&a).is_empty());
    println!(
        "{} transfers, {} snapshots",
        done.load(Ordering::Relaxed),
        seen.load(Ordering::Relaxed)
    );
}
