//! Copies of a reference table stay the same whatever is written at the same time.

use super::carried::against;
use super::fixture::{Fixture, error, run, value};

const SHARDS: u16 = 3;

/// The rows of the table, which all shards must have.
fn copies(fixture: &Fixture) -> String {
    let sql = "SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM r";
    let of = |shard| value(&mut fixture.admin_of(shard), sql);
    let home = of(0);
    for shard in 1..usize::from(SHARDS) {
        assert_eq!(of(shard), home, "shard {shard}");
    }
    home
}

#[test]
fn what_commits_while_a_statement_waits_is_seen_by_all_copies_or_none() {
    let fixture = Fixture::over(SHARDS, 4, 2);
    let client = &mut fixture.client();
    for table in ["r", "r2"] {
        run(
            client,
            &format!("CREATE TABLE {table} (k int PRIMARY KEY, v int) WITH (drover.reference)"),
        );
        run(
            client,
            &format!("INSERT INTO {table} SELECT g, 0 FROM generate_series(1, 4) g"),
        );
    }
    let first = "UPDATE r SET v = v WHERE k = 1";
    for (change, statement, tag) in [
        (
            "UPDATE r2 SET v = 99",
            "UPDATE r SET v = (SELECT r2.v FROM r2 WHERE r2.k = r.k)",
            "UPDATE 4",
        ),
        (
            "UPDATE r SET v = 5 WHERE k = 3",
            "UPDATE r SET v = (SELECT sum(v) FROM r)",
            "UPDATE 4",
        ),
        (
            "UPDATE r2 SET v = 7",
            "INSERT INTO r SELECT k, v + 5 FROM r2 ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            "INSERT 0 4",
        ),
        // It waits as a whole, and sees the new row.
        (
            "INSERT INTO r VALUES (10, 0)",
            "UPDATE r SET v = v + 1",
            "UPDATE 5",
        ),
        (
            "INSERT INTO r2 VALUES (10, 3)",
            "DELETE FROM r USING r2 WHERE r.k = r2.k AND r2.v = 3",
            "DELETE 1",
        ),
    ] {
        assert_eq!(
            against(&fixture, &format!("{first}; {change}"), statement),
            tag,
            "{statement}"
        );
        copies(&fixture);
    }
    // A snapshot may be older than the lock.
    run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(
        error(client, "UPDATE r SET v = (SELECT max(v) FROM r2)").0,
        "0A000"
    );
    run(client, "ROLLBACK");
    run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    run(client, "UPDATE r SET v = 8 WHERE k = 2");
    run(client, "COMMIT");
    assert!(copies(&fixture).contains("2:8"));
}
