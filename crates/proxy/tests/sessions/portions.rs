//! Carried rows that are stored in portions: what may, what somebody writes meanwhile, and nothing half there.

use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

const ROWS: u32 = 6000;
const LITTLE: &str = "SET drover.gather_max_bytes = '64kB'";
const CARRIED: &str = "INSERT INTO b SELECT x, k, label FROM a ON CONFLICT DO NOTHING";
const COUNT: &str = "SELECT count(*) FROM b";

fn tables(client: &mut Client) {
    for sql in [
        "CREATE TABLE a (k int PRIMARY KEY, x int, label text) WITH (drover.shard_key = 'k')",
        "CREATE TABLE b (x int, k int, label text, PRIMARY KEY (x, k)) WITH (drover.shard_key = 'x')",
        &format!("INSERT INTO a SELECT g, g % 1000, repeat('l', 20) FROM generate_series(1, {ROWS}) g"),
        LITTLE,
    ] {
        run(client, sql);
    }
}

/// How many sessions wait for a lock, and ends them if `ends`.
fn waiting(fixture: &Fixture, ends: bool) -> usize {
    let what = if ends {
        "count(pg_terminate_backend(pid))"
    } else {
        "count(*)"
    };
    let sql = format!(
        "SELECT {what} FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    );
    let shards = 0..fixture.shards();
    let counts = shards.map(|shard| {
        value(&mut fixture.admin_of(shard), &sql)
            .parse::<usize>()
            .unwrap()
    });
    counts.sum()
}

/// Runs the statement until it waits in the middle for a row that somebody else is storing, does something, and gives that row
/// up. The error of the statement, if any.
fn in_the_middle(fixture: &Fixture, then: impl FnOnce()) -> Option<String> {
    let other = &mut fixture.client();
    run(other, "BEGIN");
    // Neither of the first rows that are read nor of the last.
    run(other, "INSERT INTO b VALUES (0, 1000, 'other')");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut client = fixture.client();
            run(&mut client, LITTLE);
            let answer = client.simple(CARRIED).unwrap();
            answer.error().map(|error| error.sqlstate().to_owned())
        });
        let until = Instant::now() + Duration::from_secs(60);
        while waiting(fixture, false) == 0 {
            assert!(!running.is_finished(), "the statement did not wait");
            assert!(Instant::now() < until, "the statement never waited");
            std::thread::yield_now();
        }
        then();
        run(other, "ROLLBACK");
        running.join().unwrap()
    })
}

#[test]
fn rows_that_are_added_while_others_are_stored_are_not_read() {
    let fixture = Fixture::over(2, 6, 2);
    let client = &mut fixture.client();
    tables(client);
    let failed = in_the_middle(&fixture, || {
        let more = "INSERT INTO a SELECT g + 100000, g, 'late' FROM generate_series(1, 500) g";
        run(&mut fixture.client(), more);
    });
    assert_eq!(failed, None);
    assert_eq!(value(client, COUNT), ROWS.to_string());
    assert_eq!(value(client, "SELECT count(*) FROM b WHERE label = 'late'"), "0");
}

#[test]
fn a_server_session_that_ends_in_the_middle_leaves_nothing() {
    let fixture = Fixture::over(2, 6, 2);
    let client = &mut fixture.client();
    tables(client);
    let failed = in_the_middle(&fixture, || assert!(waiting(&fixture, true) > 0));
    assert!(failed.is_some());
    assert_eq!(value(client, COUNT), "0");
    for shard in 0..fixture.shards() {
        let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        assert_eq!(value(&mut fixture.admin_of(shard), prepared), "0");
    }
    assert_eq!(in_the_middle(&fixture, || {}), None);
    assert_eq!(value(client, COUNT), ROWS.to_string());
}

/// Where several INSERTs could be told from one, all rows are held first, and have to fit.
#[test]
fn what_looks_at_all_rows_of_a_statement_gets_them_at_once() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    let too_many = |client: &mut Client, sql: &str| {
        assert_eq!(error(client, sql).0, "53400", "{sql}");
        run(client, "DELETE FROM b");
    };
    let fits = |client: &mut Client| {
        run(client, CARRIED);
        assert_eq!(value(client, COUNT), ROWS.to_string());
        run(client, "DELETE FROM b");
    };
    fits(client);
    too_many(
        client,
        "INSERT INTO b SELECT x, k, label FROM a ON CONFLICT (x, k) DO UPDATE SET label = 'twice'",
    );
    run(
        client,
        "CREATE FUNCTION lucky() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 7'",
    );
    too_many(
        client,
        "INSERT INTO b SELECT x, lucky() + k, label FROM a WHERE lucky() = 7",
    );
    for (with, without) in [
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER t AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION f()",
            "DROP TRIGGER t ON b",
        ),
        (
            "CREATE TRIGGER t BEFORE INSERT ON b FOR EACH STATEMENT EXECUTE FUNCTION f()",
            "DROP TRIGGER t ON b",
        ),
        (
            "ALTER TABLE b ADD up int; ALTER TABLE b ADD CONSTRAINT up FOREIGN KEY (x, up) REFERENCES b",
            "ALTER TABLE b DROP up",
        ),
        (
            "CREATE FUNCTION good(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NOT NULL';
             ALTER TABLE b ADD CONSTRAINT good CHECK (good(label))",
            "ALTER TABLE b DROP CONSTRAINT good",
        ),
        (
            "CREATE DOMAIN small AS int CHECK (value < 10); ALTER TABLE b ADD s small",
            "ALTER TABLE b DROP s",
        ),
    ] {
        run(client, with);
        too_many(client, CARRIED);
        run(client, without);
        fits(client);
    }
}
