//! Transactions that wait for each other in a circle that no server sees.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Pipeline};
use testkit::proxy::{DroverProxy, ProxySite};

/// Longer than any wait here on a machine that is busy; a circle that nobody ends fails the test by it.
const PATIENCE: Duration = Duration::from_secs(60);

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(2), Path::new(env!("CARGO_BIN_EXE_drover")))
}

fn client(proxy: &DroverProxy) -> Client {
    let mut client = proxy.client();
    client.set_timeout(PATIENCE);
    client
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

fn send(client: &mut Client, sql: &str) {
    client.send(Pipeline::new().query(sql).bytes()).unwrap();
}

/// A table with rows 1 to 20, all zero, and keys of it on two shards.
fn table(client: &mut Client) -> (i64, i64) {
    run(
        client,
        "CREATE TABLE t (k bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
    );
    run(client, "INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) g");
    let mut shards = BTreeMap::new();
    for key in 1..=20 {
        let route = run(
            client,
            &format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}"),
        )
        .text_rows();
        let text = format!("{route:?}");
        let shard = ["shard_1", "shard_2"]
            .iter()
            .find(|name| text.contains(**name))
            .unwrap();
        shards.entry(*shard).or_insert(key);
    }
    (shards["shard_1"], shards["shard_2"])
}

/// The error is the one of a deadlock, in PostgreSQL's words.
fn check_deadlock(answer: &Answer) {
    let error = answer.error().expect("an error");
    assert_eq!(
        (error.sqlstate(), error.message()),
        ("40P01", "deadlock detected"),
        "{error}"
    );
    let detail = error.detail().unwrap_or_default();
    let lines: Vec<&str> = detail.lines().collect();
    assert!(lines.len() >= 2, "{detail}");
    for line in &lines {
        let words = [" of shard_", " waits for ", "Lock on ", "; blocked by process "];
        assert!(
            line.starts_with("Process ") && words.iter().all(|part| line.contains(part)),
            "{detail}"
        );
    }
    assert_eq!(error.hint(), Some("See server log for query details."));
}

fn deadlocks(proxy: &DroverProxy) -> u64 {
    let text = metrics(proxy);
    let line = text
        .lines()
        .find(|line| line.starts_with("drover_deadlocks_total"))
        .unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn metrics(proxy: &DroverProxy) -> String {
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
    text
}

#[test]
fn a_circle_through_two_proxies_costs_the_younger_transaction() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    let (mut old, mut young, mut queued) = (client(&a), client(&b), client(&b));
    let (here, there) = table(&mut old);
    run(&mut old, "INSERT INTO t VALUES (21, 0)");
    run(
        &mut old,
        &format!("BEGIN; UPDATE t SET n = 1 WHERE k IN ({here}, 21)"),
    );
    run(
        &mut young,
        &format!("BEGIN; SAVEPOINT s; UPDATE t SET n = 2 WHERE k = {there}"),
    );
    send(&mut old, &format!("UPDATE t SET n = 1 WHERE k = {there}"));
    // Over two shards, younger still, and in no circle: nobody waits for it.
    let others: Vec<String> = (1..=20)
        .filter(|key| ![here, there].contains(key))
        .map(|key| key.to_string())
        .collect();
    let others = others.join(", ");
    run(
        &mut queued,
        &format!("BEGIN; UPDATE t SET n = 10 WHERE k IN ({others})"),
    );
    send(&mut queued, "UPDATE t SET n = n + 10 WHERE k = 21");
    send(&mut young, &format!("UPDATE t SET n = 2 WHERE k = {here}"));
    let lost = young.collect(1).unwrap();
    check_deadlock(&lost);
    assert_eq!(lost.status(), b'E');
    // The locks are let go before the loser has said anything.
    let won = old.collect(1).unwrap();
    assert!(won.error().is_none(), "{:?}", won.error());
    assert_eq!(
        young.simple("SELECT 1").unwrap().error().unwrap().sqlstate(),
        "25P02"
    );
    // As on PostgreSQL, what was before the savepoint is still there.
    run(&mut young, "ROLLBACK TO s; SELECT 1");
    run(&mut old, "COMMIT");
    let answer = queued.collect(1).unwrap();
    assert!(answer.error().is_none(), "{:?}\n{}", answer.error(), b.log());
    run(&mut queued, "COMMIT");
    run(
        &mut young,
        &format!("UPDATE t SET n = n + 100 WHERE k IN ({here}, {there}); COMMIT"),
    );
    assert_eq!(value(&mut old, "SELECT count(*) FROM t WHERE n = 101"), "2");
    assert_eq!(
        value(&mut old, "SELECT count(*) FROM t WHERE n IN (10, 11)"),
        "19"
    );
    assert_eq!((deadlocks(&a), deadlocks(&b)), (0, 1));
    assert!(b.log().contains("deadlock over several shards"), "{}", b.log());
    assert!(site.misplaced(&a).is_empty());
}

/// A COPY, a lock on a table, and a statement of the extended protocol, each the younger in a circle.
#[test]
fn whatever_waits_is_cancelled() {
    let site = site();
    let a = site.start("a");
    let (mut old, mut young, mut looking) = (client(&a), client(&a), client(&a));
    let (here, there) = table(&mut old);
    run(
        &mut old,
        "CREATE TABLE u (k bigint PRIMARY KEY) WITH (drover.shard_key = 'k', drover.colocate_with = 't')",
    );
    // COPY, which waits for the end of who has inserted the same key.
    run(&mut old, &format!("BEGIN; INSERT INTO u VALUES ({here})"));
    run(&mut young, &format!("BEGIN; INSERT INTO u VALUES ({there})"));
    send(&mut old, &format!("INSERT INTO u VALUES ({there})"));
    let rows = format!("{here}\n").into_bytes();
    let lost = young.simple_copy("COPY u FROM STDIN", Some(&rows)).unwrap();
    check_deadlock(&lost);
    assert!(old.collect(1).unwrap().error().is_none());
    run(&mut young, "ROLLBACK");
    run(&mut old, "ROLLBACK");

    // A lock on all shards against a row of one: the home shard comes first.
    let granted =
        "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'ShareLock' AND granted";
    run(&mut old, &format!("BEGIN; UPDATE t SET n = 1 WHERE k = {there}"));
    run(&mut young, "BEGIN");
    send(&mut young, "LOCK TABLE t IN SHARE MODE");
    let began = Instant::now();
    while value(&mut looking, granted) == "0" {
        assert!(began.elapsed() < PATIENCE, "the lock is never taken");
    }
    send(&mut old, &format!("UPDATE t SET n = 1 WHERE k = {here}"));
    check_deadlock(&young.collect(1).unwrap());
    assert!(old.collect(1).unwrap().error().is_none());
    run(&mut young, "ROLLBACK");
    run(&mut old, "ROLLBACK");

    // Extended protocol, the statement prepared before.
    let update = "UPDATE t SET n = $1::int WHERE k = $2::bigint";
    let prepare = Pipeline::new().parse("u", update, &[]).sync();
    assert!(young.run(prepare).unwrap().error().is_none());
    run(&mut old, &format!("BEGIN; UPDATE t SET n = 1 WHERE k = {there}"));
    run(&mut young, &format!("BEGIN; UPDATE t SET n = 1 WHERE k = {here}"));
    send(&mut old, &format!("UPDATE t SET n = 1 WHERE k = {here}"));
    let values = ["7".to_owned(), there.to_string()].map(testkit::client::Parameter::text);
    let again = Pipeline::new()
        .bind("", "u", &values, testkit::client::Format::Text)
        .execute("", 0)
        .sync();
    check_deadlock(&young.run(again).unwrap());
    assert!(old.collect(1).unwrap().error().is_none());
    run(&mut old, "COMMIT");
    run(&mut young, "ROLLBACK");
    assert_eq!(value(&mut young, "SELECT count(*) FROM t WHERE n = 1"), "2");
    assert_eq!(deadlocks(&a), 3);
}

/// A circle within one server is ended by it; the loser's locks on the other shards are let go as well.
#[test]
fn who_loses_on_one_shard_lets_go_on_all() {
    let site = site();
    let a = site.start("a");
    let (mut one, mut two, mut third) = (client(&a), client(&a), client(&a));
    table(&mut one);
    let mut on = [Vec::new(), Vec::new()];
    for key in 1..=20 {
        let route = run(
            &mut third,
            &format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}"),
        )
        .text_rows();
        on[usize::from(format!("{route:?}").contains("shard_2"))].push(key);
    }
    // Each holds a row of the second shard that the third client wants.
    let (ours, theirs) = (on[1][0], on[1][1]);
    for (client, here, there) in [(&mut one, on[0][0], ours), (&mut two, on[0][1], theirs)] {
        run(
            client,
            &format!("BEGIN; UPDATE t SET n = 1 WHERE k = {there}; UPDATE t SET n = 1 WHERE k = {here}"),
        );
    }
    send(&mut one, &format!("UPDATE t SET n = 1 WHERE k = {}", on[0][1]));
    send(&mut two, &format!("UPDATE t SET n = 1 WHERE k = {}", on[0][0]));
    // The winner goes on when the loser's row on the first shard is free.
    let answers = [one.collect(1).unwrap(), two.collect(1).unwrap()];
    let codes = answers
        .each_ref()
        .map(|answer| answer.error().map(|error| error.sqlstate()));
    let wanted = match codes {
        [Some("40P01"), None] => ours,
        [None, Some("40P01")] => theirs,
        other => panic!("{other:?}"),
    };
    // The loser has not said ROLLBACK.
    run(&mut third, &format!("UPDATE t SET n = 3 WHERE k = {wanted}"));
    run(&mut one, "ROLLBACK");
    run(&mut two, "ROLLBACK");
    assert_eq!(value(&mut third, "SELECT sum(n) FROM t"), "3");
    assert_eq!(deadlocks(&a), 0, "no circle over several shards");
}

/// Statements without a key lock rows of all shards, each in an order of its own.
#[test]
fn statements_over_all_shards_do_not_wait_for_each_other_for_ever() {
    const CLIENTS: usize = 6;
    const ROUNDS: usize = 4;
    let site = site();
    let proxies = [site.start("a"), site.start("b")];
    let mut first = client(&proxies[0]);
    table(&mut first);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let proxy = &proxies[number % 2];
            scope.spawn(move || {
                let mut client = client(proxy);
                for _ in 0..ROUNDS {
                    loop {
                        let answer = client.simple("UPDATE t SET n = n + 1").unwrap();
                        match answer.error() {
                            None => {
                                assert_eq!(answer.tags(), ["UPDATE 20"]);
                                break;
                            }
                            Some(error) => assert_eq!(error.sqlstate(), "40P01", "{error}"),
                        }
                    }
                }
            });
        }
    });
    let sums = run(&mut first, "SELECT DISTINCT n FROM t").text_rows();
    assert_eq!(sums, [[Some((CLIENTS * ROUNDS).to_string())]]);
    assert!(site.misplaced(&proxies[0]).is_empty());
}
