//! Two proxies over one cluster: what one changes, the other knows; what one does not survive, the other does.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, ClientError};
use testkit::proxy::{DroverProxy, ProxySite};

/// A proxy's lease; others wait this long for one that died.
const LEASE: Duration = Duration::from_secs(3);

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")))
}

/// Runs a text that must succeed.
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

/// `(1, 'x'), (2, 'x'), …`
fn rows(count: usize) -> String {
    (1..=count)
        .map(|id| format!("({id}, 'x')"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Runs an operator's statement, again while transactions under way are in its way.
fn insist(client: &mut Client, sql: &str) {
    for _ in 0..10 {
        match code(client, sql).as_str() {
            "" => return,
            "55P03" => {}
            other => panic!("{sql}: {other}"),
        }
    }
    panic!("{sql}: always in the way of something");
}

fn check(site: &ProxySite, proxy: &DroverProxy) {
    let misplaced = site.misplaced(proxy);
    assert!(misplaced.is_empty(), "{misplaced:?}");
}

#[test]
fn what_one_proxy_changes_the_other_knows_at_once() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut on_a, mut on_b) = (a.client(), b.client());
    for round in 0..3 {
        run(
            &mut on_a,
            "CREATE TABLE t (id bigint PRIMARY KEY, v text) WITH (drover.shard_key = 'id')",
        );
        run(&mut on_b, &format!("INSERT INTO t VALUES {}", rows(300)));
        assert_eq!(value(&mut on_b, "SELECT count(*) FROM t"), "300");

        run(&mut on_a, "ALTER TABLE t ADD COLUMN w int DEFAULT 7");
        assert_eq!(value(&mut on_b, "SELECT sum(w) FROM t"), "2100");
        assert_eq!(
            value(&mut on_b, "SELECT count(*) FROM (SELECT * FROM t) s(a, b, c)"),
            "300"
        );

        run(&mut on_a, "CREATE VIEW large AS SELECT * FROM t WHERE id > 100");
        assert_eq!(value(&mut on_b, "SELECT count(*) FROM large"), "200");
        run(
            &mut on_a,
            "CREATE OR REPLACE VIEW large AS SELECT * FROM t WHERE id > 200",
        );
        assert_eq!(value(&mut on_b, "SELECT count(*) FROM large"), "100");
        check(&site, &b);

        run(&mut on_a, "DROP VIEW large; DROP TABLE t");
        assert_eq!(
            code(&mut on_b, "SELECT count(*) FROM t"),
            "42P01",
            "round {round}"
        );
        // The same name, now a table of the home shard.
        run(&mut on_a, "CREATE TABLE t (id bigint)");
        run(&mut on_b, "INSERT INTO t SELECT g FROM generate_series(1, 10) g");
        assert_eq!(value(&mut on_a, "SELECT count(*) FROM t"), "10");
        check(&site, &a);
        run(&mut on_b, "DROP TABLE t");
        assert_eq!(code(&mut on_a, "SELECT count(*) FROM t"), "42P01");
    }
}

#[test]
fn prepared_statements_follow_what_another_proxy_changes() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut on_a, mut on_b) = (a.client(), b.client());
    run(&mut on_a, "CREATE TABLE t (id bigint PRIMARY KEY, v int)");
    run(
        &mut on_a,
        "INSERT INTO t SELECT g, g FROM generate_series(1, 100) g",
    );
    run(&mut on_b, "PREPARE total AS SELECT sum(v) FROM t");
    assert_eq!(value(&mut on_b, "EXECUTE total"), "5050");
    run(&mut on_a, "SELECT drover.shard_table('t', key => 'id')");
    // Refused, or right.
    let answer = on_b.simple("EXECUTE total").unwrap();
    match answer.error() {
        Some(error) => assert_eq!(error.sqlstate(), "0A000", "{error}"),
        None => assert_eq!(answer.value().unwrap(), "5050"),
    }
    check(&site, &b);
}

#[test]
fn a_table_is_moved_and_nobody_sees_a_part_of_it() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let mut on_a = a.client();
    for table in ["t", "u"] {
        run(
            &mut on_a,
            &format!("CREATE TABLE {table} (id bigint PRIMARY KEY, v text)"),
        );
        run(
            &mut on_a,
            &format!("INSERT INTO {table} SELECT g, 'x' FROM generate_series(1, 5000) g"),
        );
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|number| {
                let (b, stop) = (&b, &stop);
                scope.spawn(move || watch_counts(b, number, stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            insist(&mut on_a, "SELECT drover.shard_table('t', key => 'id')");
            insist(&mut on_a, "SELECT drover.reference_table('u')");
        }));
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0, "nothing was read");
        }
        result.unwrap();
    });
    check(&site, &b);
    assert_eq!(value(&mut b.client(), "SELECT count(*) FROM t"), "5000");
}

/// Counts in a loop, each reader in its own way; how often.
fn watch_counts(proxy: &DroverProxy, number: usize, stop: &AtomicBool) -> usize {
    let mut client = proxy.client();
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for table in ["t", "u"] {
            let sql = format!("SELECT count(*) FROM {table}");
            let counted = match number {
                0 => value(&mut client, &sql),
                1 => {
                    let Some(counted) = count_twice(&mut client, &sql) else {
                        continue;
                    };
                    counted
                }
                _ => value(
                    &mut client,
                    &format!("SELECT count(*) FROM {table} AS x JOIN {table} AS y USING (id)"),
                ),
            };
            assert_eq!(
                counted, "5000",
                "reader {number} of {table} after {rounds} rounds"
            );
        }
        rounds += 1;
    }
    rounds
}

/// Counts twice in one transaction, which must see the same; `None` when the transaction was older than a move.
fn count_twice(client: &mut Client, sql: &str) -> Option<String> {
    run(client, "BEGIN");
    let mut counts = Vec::new();
    for _ in 0..2 {
        let answer = client.simple(sql).unwrap();
        if let Some(error) = answer.error() {
            assert_eq!(error.sqlstate(), "40001", "{error}");
            run(client, "ROLLBACK");
            return None;
        }
        counts.push(answer.value());
    }
    run(client, "COMMIT");
    assert_eq!(counts[0], counts[1]);
    counts.pop().flatten()
}

/// A snapshot taken before a move shows all rows at home, one taken after it shows them where they are now.
#[test]
fn a_transaction_older_than_a_move_does_not_see_rows_twice() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut on_a, mut on_b) = (a.client(), b.client());
    run(&mut on_a, "CREATE TABLE t (id bigint PRIMARY KEY)");
    run(&mut on_a, "CREATE TABLE other (id bigint)");
    run(&mut on_a, "INSERT INTO t SELECT g FROM generate_series(1, 300) g");
    run(&mut on_b, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(value(&mut on_b, "SELECT count(*) FROM other"), "0");
    let moved = code(&mut on_a, "SELECT drover.shard_table('t', key => 'id')");
    let answer = on_b.simple("SELECT count(*) FROM t").unwrap();
    // Refused, or right.
    if answer.error().is_none() {
        assert_eq!(answer.value().unwrap(), "300", "the move ended with {moved:?}");
    }
    run(&mut on_b, "ROLLBACK");
    assert_eq!(value(&mut on_b, "SELECT count(*) FROM t"), "300");
    check(&site, &b);
}

#[test]
fn a_killed_proxy_holds_nobody_up_for_longer_than_its_lease() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let mut on_a = a.client();
    run(&mut on_a, "CREATE TABLE warm (id bigint)");
    let mut on_b = b.client();
    run(&mut on_b, "BEGIN");
    b.signal("KILL");
    let began = Instant::now();
    run(
        &mut on_a,
        "CREATE TABLE t (id bigint PRIMARY KEY, v text) WITH (drover.shard_key = 'id')",
    );
    let took = began.elapsed();
    assert!(took < LEASE + Duration::from_secs(3), "{took:?}");
    // And then no more.
    let began = Instant::now();
    run(
        &mut on_a,
        "CREATE TABLE t2 (id bigint PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    let took = began.elapsed();
    assert!(took < LEASE, "{took:?}");
    let b = site.start("b");
    run(&mut b.client(), &format!("INSERT INTO t VALUES {}", rows(100)));
    assert_eq!(value(&mut on_a, "SELECT count(*) FROM t"), "100");
    check(&site, &b);
}

#[test]
fn a_proxy_that_slept_serves_nothing_before_it_has_caught_up() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut on_a, mut on_b) = (a.client(), b.client());
    run(&mut on_a, "CREATE TABLE t (id bigint PRIMARY KEY, v int)");
    run(
        &mut on_a,
        "INSERT INTO t SELECT g, g FROM generate_series(1, 200) g",
    );
    assert_eq!(value(&mut on_b, "SELECT count(*) FROM t"), "200");
    b.signal("STOP");
    std::thread::sleep(2 * LEASE);
    run(&mut on_a, "SELECT drover.shard_table('t', key => 'id')");
    run(&mut on_a, "DELETE FROM t WHERE id <= 100");
    b.signal("CONT");
    // What it knew has become wrong: rows of the home shard only would be a part.
    let mut refused = 0;
    let deadline = Instant::now() + 3 * LEASE;
    loop {
        let mut client = match Client::open(b.target()) {
            Ok(client) => client,
            Err(ClientError::Refused(_) | ClientError::Closed(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        match client.simple("SELECT count(*) FROM t") {
            Ok(answer) if answer.error().is_none() => {
                assert_eq!(answer.value().unwrap(), "100");
                break;
            }
            Ok(_) | Err(ClientError::Closed(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(
            Instant::now() < deadline,
            "it does not come back; refused {refused} times:\n{}",
            b.log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // The session that slept along.
    match on_b.simple("SELECT count(*) FROM t") {
        Ok(answer) if answer.error().is_none() => assert_eq!(answer.value().unwrap(), "100"),
        _ => {}
    }
    check(&site, &b);
}

#[test]
fn a_long_statement_delays_a_change_and_is_not_delayed_by_it() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut on_a, mut on_b) = (a.client(), b.client());
    let (mut long, mut short) = (b.client(), b.client());
    run(&mut on_a, "CREATE TABLE t (id bigint)");
    long.send(
        testkit::client::Pipeline::new()
            .query("SELECT pg_sleep(12)")
            .bytes(),
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    // It gives up, and others go on although the long statement still runs.
    assert_eq!(code(&mut on_a, "CREATE VIEW v AS SELECT * FROM t"), "55P03");
    let began = Instant::now();
    assert_eq!(value(&mut short, "SELECT count(*) FROM t"), "0");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(code(&mut on_b, "SELECT * FROM v"), "42P01");
}

#[test]
fn a_proxy_that_stops_tells_its_clients_and_leaves() {
    let site = site();
    let mut a = site.start("a");
    let (mut idle, mut busy) = (a.client(), a.client());
    run(&mut busy, "BEGIN");
    a.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(code(&mut idle, "SELECT 1"), "57P01");
    // An open transaction may end.
    run(&mut busy, "CREATE TABLE t (id bigint)");
    run(&mut busy, "COMMIT");
    assert_eq!(a.exit_code(), Some(0), "{}", a.log());
    // Its name is free at once, not when its lease would have ended.
    let registration = site.store().join("keys").join("proxies~a.json");
    assert!(!registration.exists(), "still registered");
    let mut a = site.start("a");
    assert!(
        registration.exists(),
        "registered elsewhere: this test shows nothing"
    );
    let mut busy = a.client();
    run(&mut busy, "BEGIN");
    a.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    a.signal("TERM");
    assert_eq!(a.exit_code(), Some(1), "{}", a.log());
    assert_eq!(
        value(&mut site.start("c").client(), "SELECT count(*) FROM t"),
        "0"
    );
}

#[test]
fn wrong_configurations_are_said_line_by_line() {
    let dir = testkit::reaper::ReapedDir::new();
    let path = dir.path().join("drover.toml");
    std::fs::write(&path, "[admin]\nuser = 'a'\n[proxy]\nlisten = 'nowhere'\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_drover"));
    let output = command.args(["proxy", "--config"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.lines().count() > 2 && text.contains("drover.toml:4:"),
        "{text}"
    );
}
