//! The table of docs/guide/transactions.md: which anomaly can be seen at which level, on one shard and across shards. What is seen is
//! compared with what the table says.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;

use testkit::TestCluster;
use testkit::client::Client;
use testkit::proxy::{DroverProxy, ProxySite};

const GUIDE: &str = include_str!("../../../docs/guide/transactions.md");
const THIS: &str = include_str!("isolation_levels.rs");

/// How often a commit is looked at that is half done until recovery comes.
const LOOKS_MAX: u32 = 50;

/// The columns of the table, and how a transaction is begun there.
const LEVELS: [&str; 4] = [
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL drover.read_snapshot = 'cluster'",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
];

/// A line of the table.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    anomaly: &'a str,
    place: &'a str,
    levels: [&'a str; 4],
    test: &'a str,
}

fn lines() -> Vec<Line<'static>> {
    let rows = GUIDE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [anomaly, place @ ("one shard" | "across shards"), a, b, c, d, test] = cells[..] else {
            return None;
        };
        Some(Line {
            anomaly,
            place,
            levels: [a, b, c, d],
            test: test.trim_matches('`'),
        })
    });
    rows.collect()
}

#[test]
fn every_line_of_the_table_is_a_test() {
    let lines = lines();
    assert_eq!(lines.len(), 13, "{lines:?}");
    for line in &lines {
        let head = format!("#[test]\nfn {}() {{\n    check(\"{}\", ", line.test, line.anomaly);
        assert!(THIS.contains(&head), "{line:?}");
    }
}

/// Two sessions, and two keys.
struct Pair {
    one: Client,
    two: Client,
    x: u64,
    y: u64,
    /// How a transaction of this level is begun.
    begin: &'static str,
    proxy: DroverProxy,
}

/// What a session is told: a value, or an SQLSTATE.
type Told = Result<String, String>;

fn tell(client: &mut Client, sql: &str) -> Told {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    match answer.error() {
        Some(error) => Err(error.sqlstate().to_owned()),
        None => Ok(answer.value().unwrap_or_default()),
    }
}

fn run(client: &mut Client, sql: &str) -> String {
    tell(client, sql).unwrap_or_else(|code| panic!("{sql}: {code}"))
}

fn read(client: &mut Client, key: u64) -> Told {
    tell(client, &format!("SELECT n FROM t WHERE k = {key}"))
}

fn write(client: &mut Client, key: u64, n: &str) -> Told {
    tell(client, &format!("UPDATE t SET n = {n} WHERE k = {key}"))
}

impl Pair {
    /// Both rows get another value, in one transaction.
    fn change_both(&mut self) {
        let (x, y) = (self.x, self.y);
        run(
            &mut self.two,
            &format!("UPDATE t SET n = n + 1 WHERE k IN ({x}, {y})"),
        );
    }
}

/// What the table calls what was seen.
fn name(seen: Result<bool, String>) -> String {
    match seen {
        Ok(true) => "possible".to_owned(),
        // What PostgreSQL ends so, does not happen.
        Ok(false) => "no".to_owned(),
        Err(code) if code == "40001" => "no".to_owned(),
        Err(code) if code == "0A000" => "refused".to_owned(),
        Err(code) => code,
    }
}

/// Plays an anomaly at all levels, in all places that the table has lines for. `play` says whether it was seen.
fn check(anomaly: &str, play: fn(&mut Pair) -> Result<bool, String>) {
    let site = ProxySite::new(TestCluster::shared(2), Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("one");
    let (mut one, two) = (proxy.client(), proxy.client());
    run(
        &mut one,
        "CREATE TABLE t (k bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
    );
    run(
        &mut one,
        "INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) g",
    );
    let mut on = [Vec::new(), Vec::new()];
    for key in 1..=20 {
        let route = one.simple(&format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}"));
        let route = format!("{:?}", route.unwrap().text_rows());
        on[usize::from(route.contains("shard_2"))].push(key);
    }
    let mut pair = Pair {
        one,
        two,
        x: on[0][0],
        y: 0,
        begin: "",
        proxy,
    };
    let lines: Vec<_> = lines()
        .into_iter()
        .filter(|line| line.anomaly == anomaly)
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        pair.y = if line.place == "one shard" {
            on[0][1]
        } else {
            on[1][0]
        };
        for (begin, expected) in LEVELS.into_iter().zip(line.levels) {
            pair.begin = begin;
            run(&mut pair.one, "UPDATE t SET n = 0");
            let seen = name(play(&mut pair));
            run(&mut pair.one, "ROLLBACK");
            run(&mut pair.two, "ROLLBACK");
            assert_eq!(seen, expected, "{anomaly}, {}, {begin}", line.place);
        }
    }
}

#[test]
fn dirty_read() {
    check("dirty read", |pair| {
        run(&mut pair.two, "BEGIN");
        pair.change_both();
        run(&mut pair.one, pair.begin);
        let seen = [read(&mut pair.one, pair.x)?, read(&mut pair.one, pair.y)?];
        Ok(seen.iter().any(|n| n != "0"))
    });
}

#[test]
fn non_repeatable_read() {
    check("non-repeatable read", |pair| {
        run(&mut pair.one, pair.begin);
        let both =
            |pair: &mut Pair| Ok::<_, String>([read(&mut pair.one, pair.x)?, read(&mut pair.one, pair.y)?]);
        let before = both(pair)?;
        pair.change_both();
        Ok(both(pair)? != before)
    });
}

#[test]
fn phantom() {
    check("phantom", |pair| {
        let count = format!(
            "SELECT count(*) FROM t WHERE n = 1 AND k IN ({}, {})",
            pair.x, pair.y
        );
        run(&mut pair.one, pair.begin);
        let before = tell(&mut pair.one, &count)?;
        pair.change_both();
        Ok(tell(&mut pair.one, &count)? != before)
    });
}

#[test]
fn read_skew() {
    check("read skew", |pair| {
        run(&mut pair.one, pair.begin);
        let x = read(&mut pair.one, pair.x)?;
        pair.change_both();
        Ok(read(&mut pair.one, pair.y)? != x)
    });
}

#[test]
fn lost_update() {
    check("lost update", |pair| {
        run(&mut pair.one, pair.begin);
        for key in [pair.x, pair.y] {
            read(&mut pair.one, key)?;
        }
        pair.change_both();
        for key in [pair.x, pair.y] {
            write(&mut pair.one, key, "0 + 10")?;
        }
        tell(&mut pair.one, "COMMIT")?;
        Ok(true)
    });
}

#[test]
fn write_skew() {
    check("write skew", |pair| {
        run(&mut pair.one, pair.begin);
        run(&mut pair.two, pair.begin);
        read(&mut pair.one, pair.x)?;
        read(&mut pair.two, pair.y)?;
        write(&mut pair.one, pair.y, "1")?;
        write(&mut pair.two, pair.x, "1")?;
        tell(&mut pair.one, "COMMIT")?;
        tell(&mut pair.two, "COMMIT")?;
        Ok(true)
    });
}

/// One transferred to the other, and so far only one half of it is done, as when a proxy dies after its decision.
fn half_a_transfer(pair: &mut Pair, number: u32) {
    let cluster = TestCluster::shared(2);
    let database = pair.proxy.target().database.clone();
    let on = |shard: usize, sql: &str| cluster.on_node(&cluster.info().shards[shard].primary, &database, sql);
    let gid = format!("drover:1:1:{number:032x}");
    let (x, y) = (pair.x, pair.y);
    on(
        1,
        &format!("BEGIN; UPDATE t SET n = n + 1 WHERE k = {y}; PREPARE TRANSACTION '{gid}'"),
    );
    on(
        0,
        &format!(
            "BEGIN; UPDATE t SET n = n - 1 WHERE k = {x}; \
             INSERT INTO drover_internal.decisions (gid, committed, participants) VALUES ('{gid}', true, '{{2}}'); COMMIT"
        ),
    );
}

#[test]
fn half_of_a_commit() {
    check("half of a commit", |pair| {
        let base = LEVELS.iter().position(|level| *level == pair.begin).unwrap() as u32 * 1000;
        for look in 0..LOOKS_MAX {
            half_a_transfer(pair, base + look);
            let sum = loop {
                run(&mut pair.one, pair.begin);
                let sum = tell(&mut pair.one, "SELECT sum(n) FROM t");
                run(&mut pair.one, "ROLLBACK");
                // No moment without decisions could be had in time: to be tried again, as the guide says.
                if sum != Err("40001".to_owned()) {
                    break sum?;
                }
            };
            if sum != "0" {
                return Ok(true);
            }
            // Either it can never be seen, or recovery was there first.
            if pair.begin.contains("cluster") && look == 2 {
                break;
            }
        }
        Ok(false)
    });
}
