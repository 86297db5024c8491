//! Transactions that are committed one shard after the other: `drover.transaction_mode = 'best_effort'`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::{DroverProxy, ProxySite};

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")))
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

/// The SQLSTATE and all the texts of an error.
fn error(client: &mut Client, sql: &str) -> (String, String) {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let error = answer.error().unwrap_or_else(|| panic!("{sql} succeeded"));
    (error.sqlstate().to_owned(), format!("{error:?}"))
}

fn metric(proxy: &DroverProxy, name: &str) -> u64 {
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
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap().parse().unwrap()
}

/// Rows of `things` name rows of `kinds`, which is looked at only when they are committed. Gives a key on each of two shards, with
/// their shards' names.
fn things(client: &mut Client) -> [(u32, String); 2] {
    run(
        client,
        "CREATE TABLE kinds (kind int PRIMARY KEY, n int DEFAULT 0) WITH (drover.reference = true)",
    );
    run(client, "INSERT INTO kinds VALUES (1)");
    run(
        client,
        "CREATE TABLE things (k int PRIMARY KEY, kind int REFERENCES kinds DEFERRABLE INITIALLY DEFERRED, mail text) \
         WITH (drover.shard_key = 'k')",
    );
    let mut shard_of = |key: u32| {
        let sql = format!("EXPLAIN (ROUTE) SELECT * FROM things WHERE k = {key}");
        let lines = run(client, &sql).text_rows();
        let mut lines = lines.into_iter().flatten().flatten();
        let line = lines.find(|line| line.starts_with("Shards:")).unwrap();
        ["shard_1", "shard_2", "shard_3"]
            .into_iter()
            .find(|name| line.contains(name))
            .unwrap()
            .to_owned()
    };
    let first = shard_of(1);
    let (other, second) = (2..100)
        .map(|key| (key, shard_of(key)))
        .find(|(_, shard)| *shard != first)
        .unwrap();
    [(1, first), (other, second)]
}

/// A transaction over two shards, of which one cannot commit.
fn try_both(client: &mut Client, good: u32, bad: u32, good_first: bool) -> (String, String) {
    let good = format!("INSERT INTO things VALUES ({good}, 1)");
    let bad = format!("INSERT INTO things VALUES ({bad}, 7)");
    let (one, two) = if good_first { (good, bad) } else { (bad, good) };
    for sql in ["BEGIN", &one, &two] {
        run(client, sql);
    }
    error(client, "COMMIT")
}

#[test]
fn a_half_commit_is_an_error_that_names_the_shards() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    let [(here, here_name), (there, there_name)] = things(&mut client);
    let count = |client: &mut Client| value(client, "SELECT count(*) FROM things");
    // As it is otherwise.
    assert_eq!(try_both(&mut client, here, there, true).0, "23503");
    assert_eq!(count(&mut client), "0");
    run(&mut client, "SET drover.transaction_mode = 'best_effort'");
    assert_eq!(value(&mut client, "SHOW drover.transaction_mode"), "best_effort");
    // The first one that commits is the one that cannot: nothing has happened.
    assert_eq!(try_both(&mut client, here, there, false).0, "23503");
    assert_eq!(count(&mut client), "0");
    assert_eq!(metric(&proxy, "drover_half_commits_total"), 0);
    let (code, text) = try_both(&mut client, here, there, true);
    assert_eq!(code, "08007", "{text}");
    let named = format!("Committed: {here_name}. Rolled back: {there_name}. The reason: ");
    assert!(text.contains(&named) && text.contains("23503"), "{text}");
    assert_eq!(value(&mut client, "SELECT k FROM things"), here.to_string());
    assert_eq!(metric(&proxy, "drover_half_commits_total"), 1);
    // Without a mishap: everywhere, and nothing was prepared for it.
    let before = metric(&proxy, "drover_multi_shard_commits_total");
    run(&mut client, "DELETE FROM things");
    run(
        &mut client,
        &format!("INSERT INTO things VALUES ({here}, 1), ({there}, 1)"),
    );
    assert_eq!(count(&mut client), "2");
    assert_eq!(metric(&proxy, "drover_multi_shard_commits_total"), before);
    assert_eq!(metric(&proxy, "drover_best_effort_commits_total"), 2);
}

#[test]
fn what_drover_relies_on_is_committed_atomically_all_the_same() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    let [(here, _), (there, _)] = things(&mut client);
    run(
        &mut client,
        "SELECT drover.create_global_index('things', 'mail', unique => true)",
    );
    run(
        &mut client,
        &format!("INSERT INTO things VALUES ({}, 1)", here + 1000),
    );
    run(&mut client, "SET drover.transaction_mode = 'best_effort'");
    for work in [
        // All copies of a table, an index over all shards.
        "UPDATE kinds SET n = n + 1".to_owned(),
        format!("UPDATE things SET mail = 'a@x' WHERE k = {}", here + 1000),
    ] {
        run(&mut client, "BEGIN");
        run(&mut client, &work);
        run(
            &mut client,
            &format!("INSERT INTO things (k, kind) VALUES ({here}, 1)"),
        );
        run(
            &mut client,
            &format!("INSERT INTO things (k, kind) VALUES ({there}, 7)"),
        );
        let (code, text) = error(&mut client, "COMMIT");
        assert_eq!(code, "23503", "{work}: {text}");
        let left = value(
            &mut client,
            "SELECT count(*) FROM things WHERE k < 1000 OR mail IS NOT NULL",
        );
        assert_eq!(left, "0", "{work}");
    }
    assert_eq!(value(&mut client, "SELECT n FROM kinds"), "0");
    // Rows that change their shard.
    let sql = format!("INSERT INTO things (k, kind) VALUES ({here}, 1)");
    run(&mut client, &sql);
    let before = metric(&proxy, "drover_best_effort_commits_total");
    run(
        &mut client,
        &format!("UPDATE things SET k = {there} WHERE k = {here}"),
    );
    run(&mut client, "CREATE TABLE more (k int)");
    run(&mut client, "UPDATE kinds SET n = 5");
    assert_eq!(metric(&proxy, "drover_best_effort_commits_total"), before);
    assert_eq!(metric(&proxy, "drover_half_commits_total"), 0);
}

#[test]
fn such_a_transaction_has_no_name() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    let [(here, _), (there, _)] = things(&mut client);
    run(&mut client, "SET drover.transaction_mode = 'best_effort'");
    run(&mut client, "BEGIN");
    let (code, text) = error(&mut client, "SELECT drover.current_transaction_id()");
    assert!(code == "0A000" && text.contains("DRV7140"), "{text}");
    run(&mut client, "ROLLBACK");
    // One that has its name keeps its promise.
    run(&mut client, "BEGIN");
    run(&mut client, "SET LOCAL drover.transaction_mode = 'atomic'");
    let id = value(&mut client, "SELECT drover.current_transaction_id()");
    run(&mut client, "SET LOCAL drover.transaction_mode = 'best_effort'");
    run(&mut client, &format!("INSERT INTO things VALUES ({here}, 1)"));
    run(&mut client, &format!("INSERT INTO things VALUES ({there}, 7)"));
    assert_eq!(error(&mut client, "COMMIT").0, "23503");
    assert_eq!(value(&mut client, "SELECT count(*) FROM things"), "0");
    let status = format!("SELECT drover.transaction_status('{id}')");
    assert_eq!(value(&mut client, &status), "aborted");
}
