//! Tables that move while they are used, and proxies that are killed meanwhile.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::{DroverProxy, ProxySite};

/// Bound on everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Rows at the beginning; enough to be moved online.
const ROWS: u64 = 60_000;

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

/// The phase of a move of a table, counted from 0; empty when there is none.
fn phase(client: &mut Client, (table, number): (&str, usize)) -> String {
    let rows = run(client, "SELECT * FROM drover.reshardings").text_rows();
    let mut rows = rows.into_iter().filter(|row| row[2].as_deref() == Some(table));
    rows.nth(number)
        .and_then(|row| row[4].clone())
        .unwrap_or_default()
}

fn wait_for(proxy: &DroverProxy, table: (&str, usize), wanted: &[&str]) -> String {
    let mut client = proxy.client();
    let began = Instant::now();
    loop {
        let now = phase(&mut client, table);
        if wanted.contains(&now.as_str()) {
            return now;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{table:?} is {now}, not {wanted:?}\n{}",
            proxy.log()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn make(client: &mut Client, table: &str) {
    run(
        client,
        &format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, filler text); \
             INSERT INTO {table} (id, filler) SELECT g, repeat('x', 200) FROM generate_series(1, {ROWS}) g"
        ),
    );
}

/// What a writer did, and how long the longest statement took.
struct Written {
    inserted: u64,
    added: u64,
    longest: Duration,
}

/// Inserts and updates through a proxy until told to stop; every statement must succeed.
fn write(proxy: &DroverProxy, table: &str, writer: u64, stop: &AtomicBool) -> Written {
    let mut client = proxy.client();
    let mut written = Written {
        inserted: 0,
        added: 0,
        longest: Duration::ZERO,
    };
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        if number % 3 == 0 {
            let id = 200_000_000 * (writer + 1) + number;
            run(&mut client, &format!("INSERT INTO {table} (id) VALUES ({id})"));
            written.inserted += 1;
        } else {
            let id = (number * 7919 + writer * 31) % ROWS + 1;
            run(
                &mut client,
                &format!("UPDATE {table} SET n = n + 1 WHERE id = {id}"),
            );
            written.added += 1;
        }
        written.longest = written.longest.max(began.elapsed());
    }
    written
}

fn check(site: &ProxySite, proxy: &DroverProxy, table: &str, written: &[Written]) {
    let mut client = proxy.client();
    let inserted: u64 = written.iter().map(|written| written.inserted).sum();
    let added: u64 = written.iter().map(|written| written.added).sum();
    assert_eq!(
        value(&mut client, &format!("SELECT count(*) FROM {table}")),
        (ROWS + inserted).to_string()
    );
    assert_eq!(
        value(&mut client, &format!("SELECT sum(n) FROM {table}")),
        added.to_string()
    );
    let misplaced = site.misplaced(proxy);
    assert!(misplaced.is_empty(), "{misplaced:?}");
}

/// Moves a table of the home shard through `a`, writes through `b`; `meanwhile` happens when the move has begun.
fn moved(
    proxies: (&ProxySite, &DroverProxy, &DroverProxy),
    table: &str,
    meanwhile: impl FnOnce(),
) -> Vec<Written> {
    make(&mut proxies.2.client(), table);
    let statement = format!("SELECT drover.shard_table('{table}', 'id')");
    let written = moved_by(proxies, (table, 0), &statement, meanwhile);
    check(proxies.0, proxies.2, table, &written);
    written
}

fn moved_by(
    (_, a, b): (&ProxySite, &DroverProxy, &DroverProxy),
    (table, number): (&str, usize),
    statement: &str,
    meanwhile: impl FnOnce(),
) -> Vec<Written> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let stop = &stop;
                // Each move has writers of its own.
                let writer = writer + 2 * number as u64;
                scope.spawn(move || write(b, table, writer, stop))
            })
            .collect();
        let mut client = a.client();
        let moving = scope.spawn(move || {
            // The connection is lost when the proxy is killed.
            let _ = client.simple(statement);
        });
        meanwhile();
        let ended = wait_for(b, (table, number), &["done", "failed"]);
        assert_eq!(ended, "done", "{}", b.log());
        stop.store(true, Ordering::SeqCst);
        moving.join().unwrap();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn nothing_is_lost_and_a_killed_proxy_is_followed_by_another() {
    let site = ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")));
    let b = site.start("b");
    for (round, at) in ["", "copying", "streaming", "cutting over"]
        .into_iter()
        .enumerate()
    {
        let table = format!("moving_{round}");
        let a = site.start(&format!("a{round}"));
        let written = moved((&site, &a, &b), &table, || {
            if !at.is_empty() {
                // The phase may be over before it is seen.
                wait_for(&b, (&table, 0), &[at, "cleaning up", "done"]);
                a.signal("KILL");
            }
        });
        let longest = written.iter().map(|written| written.longest).max();
        let pause = run(&mut b.client(), "SELECT * FROM drover.reshardings");
        println!(
            "{table} {at}: longest statement {longest:?}, {:?}",
            pause.text_rows().last()
        );
    }
}

/// A sharded table goes to another key, has it salted, and goes home, while it is written and the proxy that leads is killed.
#[test]
fn a_sharded_table_goes_elsewhere_and_a_killed_proxy_is_followed_by_another() {
    let site = ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")));
    let b = site.start("b");
    let mut client = b.client();
    run(
        &mut client,
        &format!(
            "CREATE TABLE elsewhere (id int, k int NOT NULL DEFAULT 7, n int NOT NULL DEFAULT 0, filler text, \
             PRIMARY KEY (id, k)); \
             INSERT INTO elsewhere (id, k, filler) SELECT g, g % 1000, repeat('x', 200) FROM generate_series(1, {ROWS}) g"
        ),
    );
    run(
        &mut client,
        "SELECT drover.shard_table('elsewhere', 'id', online => false)",
    );
    let mut all = Vec::new();
    for (number, (name, statement, at)) in [
        (
            "c",
            "SELECT drover.shard_table('elsewhere', 'k', online => true)",
            "streaming",
        ),
        (
            "s",
            "SELECT drover.shard_table('elsewhere', 'k', salt => 8, online => true)",
            "copying",
        ),
        (
            "d",
            "SELECT drover.unshard_table('elsewhere', online => true)",
            "cutting over",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let a = site.start(name);
        all.extend(moved_by(
            (&site, &a, &b),
            ("elsewhere", number),
            statement,
            || {
                // The phase may be over before it is seen.
                wait_for(&b, ("elsewhere", number), &[at, "cleaning up", "done"]);
                a.signal("KILL");
            },
        ));
        check(&site, &b, "elsewhere", &all);
    }
}

/// A table goes whole to another shard, and to a third, while it is written and the proxy that leads is killed.
#[test]
fn a_placed_table_is_in_one_place_whatever_is_killed() {
    let site = ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")));
    let b = site.start("b");
    make(&mut b.client(), "placed");
    let mut all = Vec::new();
    for (number, (name, shard, at)) in [("e", 2, "streaming"), ("f", 3, "cutting over")]
        .into_iter()
        .enumerate()
    {
        let a = site.start(name);
        let statement =
            format!("SELECT drover.place_table('placed', shard => 'shard_{shard}', online => true)");
        all.extend(moved_by((&site, &a, &b), ("placed", number), &statement, || {
            // The phase may be over before it is seen.
            wait_for(&b, ("placed", number), &[at, "cleaning up", "done"]);
            a.signal("KILL");
        }));
        check(&site, &b, "placed", &all);
        let place = "SELECT * FROM drover.tables";
        let kinds = run(&mut b.client(), place).text_rows();
        let placed = kinds.iter().find(|row| row[1].as_deref() == Some("placed"));
        assert_eq!(
            placed.and_then(|row| row[2].as_deref()),
            Some("placed"),
            "{kinds:?}"
        );
    }
}

/// How long clients wait while a table of `DROVER_MOVE_ROWS` rows (a million by default) is sharded, gets another key and goes
/// home: the longest statement of two writers, and the pause that Drover reports. For an optimised build on a quiet machine:
///
/// ```sh
/// DROVER_MOVE_ROWS=10000000 cargo test --release -p drover --test moves -- --ignored --nocapture the_pause
/// ```
#[test]
#[ignore = "a measurement"]
fn the_pause_of_moves_is_measured() {
    let rows = std::env::var("DROVER_MOVE_ROWS").map_or(1_000_000, |rows| rows.parse().unwrap());
    let site = ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("b");
    let mut client = proxy.client();
    run(
        &mut client,
        &format!(
            "CREATE TABLE measured (id int, k int NOT NULL DEFAULT 7, n int NOT NULL DEFAULT 0, filler text, \
             PRIMARY KEY (id, k)); \
             INSERT INTO measured (id, k, filler) SELECT g, g % 1000, repeat('x', 100) FROM generate_series(1, {rows}) g"
        ),
    );
    let mut all = Vec::new();
    for (number, statement) in [
        "SELECT drover.shard_table('measured', 'id', online => true)",
        "SELECT drover.shard_table('measured', 'k', online => true)",
        "SELECT drover.unshard_table('measured', online => true)",
    ]
    .into_iter()
    .enumerate()
    {
        let began = Instant::now();
        let written = moved_by((&site, &proxy, &proxy), ("measured", number), statement, || {});
        let longest = written
            .iter()
            .map(|written| written.longest)
            .max()
            .unwrap_or_default();
        let moves = run(&mut client, "SELECT * FROM drover.reshardings").text_rows();
        let pause = moves.last().and_then(|row| row[13].clone()).unwrap_or_default();
        println!(
            "{rows} rows, {statement}: {:.1} s in all, the longest statement of a client {longest:?}, paused for {pause} us",
            began.elapsed().as_secs_f64()
        );
        all.extend(written);
    }
    let inserted: u64 = all.iter().map(|written| written.inserted).sum();
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM measured"),
        (rows + inserted).to_string()
    );
}
