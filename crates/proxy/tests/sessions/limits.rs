//! What a session allows its own statements.

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

fn orders(fixture: &Fixture) -> Client {
    let mut client = fixture.client();
    for sql in [
        "CREATE TABLE orders (k int PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
        "CREATE TABLE home (n int, t text)",
        "INSERT INTO orders SELECT g, g FROM generate_series(1, 40) g",
        "INSERT INTO home SELECT g, repeat('x', 100) FROM generate_series(1, 40) g",
    ] {
        run(&mut client, sql);
    }
    client
}

const ALL: &str = "SELECT count(*) FROM orders";
const GATHERED: &str = "SELECT count(h.t) FROM orders o JOIN home h ON h.n = o.n";

#[test]
fn a_statement_concerns_no_more_shards_than_the_session_allows() {
    let fixture = Fixture::over(3, 4, 1);
    let client = &mut orders(&fixture);
    assert_eq!(value(client, "SHOW drover.fanout"), "all");
    run(client, "SET drover.fanout = 'single'");
    for sql in [
        ALL,
        GATHERED,
        "UPDATE orders SET n = n",
        "DELETE FROM orders WHERE n = 5",
    ] {
        let (code, message) = error(client, sql);
        assert!(
            code == "0A000" && message.contains("drover.fanout"),
            "{sql}: {message}"
        );
    }
    assert_eq!(value(client, "SELECT n FROM orders WHERE k = 7"), "7");
    run(client, "SET drover.fanout = many");
    assert_eq!(error(client, ALL).0, "0A000");
    run(client, "BEGIN");
    run(client, "SET LOCAL drover.fanout = 'all'");
    assert_eq!(value(client, ALL), "40");
    run(client, "COMMIT");
    assert_eq!(error(client, ALL).0, "0A000");
    run(client, "RESET drover.fanout");
    assert_eq!(value(client, ALL), "40");
    assert_eq!(error(client, "SET drover.fanout = 'some'").0, "22023");
}

#[test]
fn a_transaction_of_one_shard_stays_on_it() {
    let fixture = Fixture::over(3, 4, 1);
    let client = &mut orders(&fixture);
    // Keys of two shards.
    let shard_of = |client: &mut Client, key: i32| {
        let route = run(
            client,
            &format!("EXPLAIN (ROUTE) SELECT * FROM orders WHERE k = {key}"),
        )
        .text_rows();
        let lines = route.into_iter().flatten().flatten();
        lines
            .into_iter()
            .find(|line| line.starts_with("Shards:"))
            .unwrap()
    };
    let first = shard_of(client, 1);
    let other = (2..40).find(|key| shard_of(client, *key) != first).unwrap();
    run(client, "SET drover.transaction_mode = 'single'");
    run(client, "BEGIN");
    run(client, "UPDATE orders SET n = 100 WHERE k = 1");
    let (code, message) = error(client, &format!("UPDATE orders SET n = 100 WHERE k = {other}"));
    assert!(code == "0A000" && message.contains("second shard"), "{message}");
    run(client, "ROLLBACK");
    assert_eq!(error(client, "UPDATE orders SET n = 0").0, "0A000");
    // Reads of several shards are no transaction.
    assert_eq!(value(client, "SELECT sum(n) FROM orders"), "820");
    run(client, &format!("UPDATE orders SET n = n WHERE k = {other}"));
    run(client, "SET drover.transaction_mode = 'atomic'");
    run(client, "UPDATE orders SET n = n");
    let (code, message) = error(client, "SET drover.transaction_mode = 'best_effort'");
    assert!(code == "0A000" && message.contains("atomic"), "{message}");
}

#[test]
fn a_session_may_gather_less_than_the_configuration_allows() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    assert_eq!(
        value(client, "SHOW drover.gather_max_bytes"),
        (64 << 20).to_string()
    );
    run(client, "SET drover.gather_max_bytes = '2kB'");
    assert_eq!(error(client, GATHERED).0, "53400");
    run(client, "SET drover.gather_max_bytes = '1GB'");
    assert_eq!(
        value(client, "SHOW drover.gather_max_bytes"),
        (64 << 20).to_string()
    );
    assert_eq!(value(client, GATHERED), "40");
}
