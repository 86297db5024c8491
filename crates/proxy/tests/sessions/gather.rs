//! Statements that are finished over rows of several servers: rights, the bound, and what one moment of a server looks like.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};
use super::global_indexes::Stop;

const SHARDS: u16 = 2;
const JOINED: &str = "SELECT a.k, h.n FROM a JOIN h ON h.x = a.x ORDER BY 1";

fn tables(client: &mut Client) {
    for sql in [
        "CREATE TABLE a (k int PRIMARY KEY, x int, secret int) WITH (drover.shard_key = 'k')",
        "CREATE TABLE h (x int, n int)",
        "CREATE VIEW v AS SELECT k, x FROM a",
        "INSERT INTO a SELECT g, g % 3, g FROM generate_series(1, 9) g",
        "INSERT INTO h VALUES (1, 10)",
    ] {
        run(client, sql);
    }
}

/// A role with this name on every server, that clients may become.
fn role(fixture: &Fixture, purpose: &str) -> String {
    let database = value(&mut fixture.direct(), "SELECT current_database()");
    let user = value(&mut fixture.direct(), "SELECT current_user");
    let name = format!("{purpose}_{database}");
    for shard in 0..usize::from(SHARDS) {
        let sql = format!("CREATE ROLE {name}; GRANT {name} TO {user}");
        run(&mut fixture.admin_of(shard), &sql);
    }
    name
}

#[test]
fn tables_are_read_with_the_rights_of_the_client() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    let (reader, viewer) = (role(&fixture, "reader"), role(&fixture, "viewer"));
    run(client, &format!("GRANT SELECT (k, x) ON a TO {reader}"));
    run(client, &format!("GRANT SELECT ON h TO {reader}, {viewer}"));
    run(client, &format!("GRANT SELECT ON v TO {viewer}"));
    assert_eq!(run(client, JOINED).text_rows().len(), 3);

    run(client, &format!("SET ROLE {reader}"));
    assert_eq!(run(client, JOINED).text_rows().len(), 3);
    let (code, message) = error(client, "SELECT a.secret, h.n FROM a JOIN h ON h.x = a.x");
    assert_eq!((&*code, &*message), ("42501", "permission denied for table a"));
    // The tables may be read, the view may not.
    let through_view = "SELECT v.k, h.n FROM v JOIN h ON h.x = v.x";
    assert_eq!(error(client, through_view).0, "0A000");

    run(client, &format!("SET ROLE {viewer}"));
    assert_eq!(error(client, JOINED).0, "42501");
    assert_eq!(error(client, through_view).0, "0A000");

    run(client, "RESET ROLE");
    assert_eq!(run(client, through_view).text_rows().len(), 3);
    run(client, "ALTER TABLE a ENABLE ROW LEVEL SECURITY");
    assert_eq!(error(client, JOINED).0, "0A000");
}

#[test]
fn the_rows_of_a_statement_are_bounded() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    run(
        client,
        "CREATE TABLE long (k int PRIMARY KEY, t text) WITH (drover.shard_key = 'k')",
    );
    for from in [1, 3_001] {
        let to = from + 2_999;
        run(
            client,
            &format!("INSERT INTO long SELECT g, repeat('x', 15000) FROM generate_series({from}, {to}) g"),
        );
    }
    let (code, message) = error(
        client,
        "SELECT count(l.t || h.n) FROM long l JOIN h ON h.x = l.k % 3",
    );
    assert_eq!(code, "53400");
    assert!(
        message.contains("67108864 bytes") && message.contains("\"long\""),
        "{message}"
    );
    // A column that is not needed does not count, and the session goes on.
    assert_eq!(
        value(client, "SELECT count(*) FROM long l JOIN h ON h.x = l.k % 3"),
        "2000"
    );
}

#[test]
fn only_what_is_used_travels() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    for table in ["wide", "far"] {
        run(
            client,
            &format!(
                "CREATE TABLE {table} (k int PRIMARY KEY, x int, body text) WITH (drover.shard_key = 'k')"
            ),
        );
        run(
            client,
            &format!(
                "INSERT INTO {table} SELECT g, g % 10, repeat('w', 5000) FROM generate_series(1, 200) g"
            ),
        );
    }
    for sql in [
        "CREATE TABLE near (k int PRIMARY KEY, x int, body text)",
        "SELECT drover.shard_table('near', key => 'k', colocate_with => 'wide')",
        "INSERT INTO near SELECT * FROM wide",
        "ANALYZE wide",
        "ANALYZE far",
        "ANALYZE near",
    ] {
        run(client, sql);
    }
    // Each with the rows that travel, and the bytes of one at most.
    for (sql, rows, row_bytes) in [
        ("SELECT count(*) FROM wide w JOIN far f ON f.x = w.x", 400, 25),
        // What is only looked at where it is does not travel.
        (
            "SELECT count(*) FROM wide w JOIN far f ON f.x = w.x AND length(f.body) > 1",
            400,
            25,
        ),
        (
            "SELECT w.k FROM wide w JOIN far f ON f.x = w.x WHERE w.body < 'x' AND f.k < 3",
            202,
            40,
        ),
        (
            "SELECT w.x FROM wide w, far f WHERE w.k IN (1, 2, 3) AND f.k = 9 AND w.x = f.x",
            4,
            40,
        ),
        // What joins on its shard travels joined: only rows that do.
        (
            "SELECT w.x FROM wide w JOIN near n ON n.k = w.k JOIN far f ON f.x = w.x WHERE n.x = 3",
            220,
            40,
        ),
        (
            "SELECT w.x, n.x FROM near n, wide w, far f WHERE w.k = f.x AND n.k = f.x AND n.x + w.x > 9",
            300,
            40,
        ),
        // Wide, and all of both is needed: each row travels once.
        (
            "SELECT length(w.body || n.body) FROM wide w JOIN near n ON n.k = w.k JOIN far f ON f.x = w.x WHERE f.k = 1",
            401,
            5100,
        ),
        (
            "SELECT EXISTS (SELECT FROM wide), x FROM far UNION SELECT NULL, x FROM wide",
            600,
            40,
        ),
        (
            "UPDATE wide SET x = f.x FROM far f WHERE f.x = wide.k AND f.body <> ''",
            200,
            40,
        ),
        (
            "DELETE FROM wide USING far f WHERE f.x = wide.x AND f.k > 1000",
            0,
            0,
        ),
        (
            "INSERT INTO far (k, x) SELECT k + 1000, x FROM wide WHERE body <> '' AND k < 11",
            10,
            40,
        ),
    ] {
        let moved = moved(client, sql);
        assert_eq!(moved.0, rows, "{sql}: {moved:?}");
        assert!(moved.1 <= rows * row_bytes, "{sql}: {moved:?}");
    }
}

/// Runs a statement; rows and bytes that moved for it.
fn moved(client: &mut Client, sql: &str) -> (u64, u64) {
    run(client, "SELECT drover.queries_reset()");
    run(client, sql);
    let answer = run(client, "SELECT * FROM drover.queries").text_rows();
    let first = sql.split(' ').next().unwrap();
    let mut found = answer.iter().filter(|row| {
        let text = row[3].as_deref().unwrap();
        text.starts_with(first) && !text.contains("drover.")
    });
    let row = found.next().unwrap();
    let figure = |at: usize| row[at].as_deref().unwrap().parse::<u64>().unwrap();
    (figure(15), figure(16))
}

/// Twenty rows of `few`, and 8,000 of each of the others, of which eighty have a value that `few` has.
fn sizes(client: &mut Client) {
    for sql in [
        "CREATE TABLE many (k int PRIMARY KEY, x int) WITH (drover.shard_key = 'k')",
        "CREATE TABLE few (k int PRIMARY KEY, x int)",
        "SELECT drover.shard_table('few', key => 'k', colocate_with => 'many')",
        "CREATE TABLE third (k int PRIMARY KEY, m int) WITH (drover.shard_key = 'k')",
        "INSERT INTO many SELECT g, g % 2000 FROM generate_series(1, 8000) g",
        "INSERT INTO few SELECT g, g * 100 - 1 FROM generate_series(1, 20) g",
        "INSERT INTO third SELECT g, g FROM generate_series(1, 8000) g",
        "ANALYZE many",
        "ANALYZE few",
        "ANALYZE third",
    ] {
        run(client, sql);
    }
}

#[test]
fn the_small_ones_are_asked_first() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    sizes(client);
    let join = "SELECT count(*) FROM few s JOIN many m ON m.x = s.x";
    for (sql, rows) in [
        (join, 100),
        ("SELECT count(*) FROM many WHERE x IN (SELECT x FROM few)", 100),
        (
            "SELECT count(*) FROM many m WHERE EXISTS (SELECT FROM few s WHERE s.x = m.x)",
            100,
        ),
        (
            "SELECT s.k, (SELECT count(*) FROM many m WHERE m.x = s.x) FROM few s",
            100,
        ),
        (
            "SELECT s.k, m.k FROM few s LEFT JOIN many m ON m.x = s.x AND m.k > 4000",
            60,
        ),
        // One after the other.
        (
            "SELECT count(*) FROM few s JOIN many m ON m.x = s.x JOIN third t ON t.m = m.k",
            180,
        ),
        // Rows without a partner are a part of the answer.
        ("SELECT count(*) FROM many m LEFT JOIN few s ON m.x = s.x", 8020),
        (
            "SELECT count(*) FROM many m WHERE NOT EXISTS (SELECT FROM few s WHERE s.x = m.x)",
            8020,
        ),
        // Nothing is much smaller than the other.
        ("SELECT count(*) FROM many m JOIN third t ON t.m = m.x", 16000),
    ] {
        assert_eq!(moved(client, sql).0, rows, "{sql}");
        assert_eq!(client.status(), b'I');
    }
    // Servers would be asked under several snapshots.
    run(client, "BEGIN");
    assert_eq!(moved(client, join).0, 8020);
    run(client, "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(moved(client, join).0, 100);
    run(client, "UPDATE few SET x = -1 WHERE k < 11");
    assert_eq!(moved(client, join).0, 60);
    run(client, "ROLLBACK");
    let route = run(client, &format!("EXPLAIN (ROUTE) {join}"));
    let route = format!("{:?}", route.text_rows());
    assert!(route.contains("among its values"), "{route}");
}

/// Rows that one transaction changes in two tables of a server are both as they were or both as they are.
#[test]
fn what_is_asked_for_twice_is_read_at_one_moment() {
    let fixture = Fixture::over(SHARDS, 8, 2);
    let client = &mut fixture.client();
    sizes(client);
    let change = |value: u64| {
        format!(
            "BEGIN; UPDATE few SET x = {value} WHERE k = 1; UPDATE many SET x = {value} WHERE k = 1; COMMIT"
        )
    };
    run(client, &change(100_000));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Stop(&stop);
        let writer = scope.spawn(|| {
            let client = &mut fixture.client();
            let values = (100_001..).take_while(|_| !stop.load(Ordering::Relaxed));
            values.map(|value| run(client, &change(value))).count()
        });
        let sql = "SELECT count(*) FROM few s JOIN many m ON m.x = s.x WHERE s.k = 1 AND m.k < 7000";
        let begun = Instant::now();
        for reads in 0.. {
            assert_eq!(value(client, sql), "1", "after {reads}");
            if reads >= 50 && begun.elapsed() > Duration::from_secs(2) {
                break;
            }
        }
        drop(ended);
        assert!(writer.join().unwrap() > 10);
    });
}

#[test]
fn the_tables_of_a_server_are_read_at_one_moment() {
    let fixture = Fixture::over(SHARDS, 8, 2);
    let client = &mut fixture.client();
    tables(client);
    run(
        client,
        "CREATE TABLE b (k int PRIMARY KEY, x int) WITH (drover.shard_key = 'k', drover.colocate_with = 'a')",
    );
    run(client, "DELETE FROM a");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A row of each, of one key and hence of one shard, comes and goes in one transaction.
        for key in [1, 2, 3, 4] {
            let (fixture, stop) = (&fixture, &stop);
            scope.spawn(move || {
                let client = &mut fixture.client();
                let both = |first: &str, second: &str| format!("BEGIN; {first}; {second}; COMMIT");
                while !stop.load(Ordering::Relaxed) {
                    let insert = |table: &str| format!("INSERT INTO {table} (k, x) VALUES ({key}, {key})");
                    let delete = |table: &str| format!("DELETE FROM {table} WHERE k = {key}");
                    run(client, &both(&insert("a"), &insert("b")));
                    run(client, &both(&delete("b"), &delete("a")));
                }
            });
        }
        let halves = "SELECT count(*) FROM a FULL JOIN b ON b.x = a.x WHERE a.x IS NULL OR b.x IS NULL";
        let mut seen = Vec::new();
        for _ in 0..150 {
            seen.push(value(client, halves));
            run(client, "BEGIN");
            seen.push(value(client, halves));
            run(client, "COMMIT");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen.iter().all(|halves| halves == "0"), "{seen:?}");
    });
}

/// Two keys of `a`, of the second and of the third shard.
fn keys_elsewhere(fixture: &Fixture) -> (String, String) {
    let key = |shard: usize| value(&mut fixture.admin_of(shard), "SELECT max(k) FROM a");
    (key(1), key(2))
}

#[test]
fn what_is_finished_in_a_transaction_is_a_part_of_it() {
    let fixture = Fixture::over(3, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    run(
        client,
        "INSERT INTO a SELECT g, g % 3, g FROM generate_series(10, 60) g",
    );
    for sql in [
        "CREATE TABLE log (k int)",
        "CREATE FUNCTION note(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (k); RETURN k; END $$",
        "SELECT drover.declare_local('note')",
        "CREATE TABLE moments (k int PRIMARY KEY, at timestamptz) WITH (drover.shard_key = 'k', drover.colocate_with = 'a')",
        "INSERT INTO moments SELECT g, '2024-01-01 12:00+00' FROM generate_series(1, 60) g",
    ] {
        run(client, sql);
    }
    let (one, other) = keys_elsewhere(&fixture);
    let keys = format!("x.k = {one} AND y.k = {other}");
    run(client, "SET TimeZone = 'UTC'");
    run(client, "BEGIN");
    run(client, &format!("SELECT x FROM a WHERE k = {one}"));
    run(client, "SET LOCAL TimeZone = 'Asia/Tokyo'");
    // The home shard has no rows of these, and has not been asked for anything yet.
    for sql in [
        format!("SELECT x.at::text || y.k FROM moments x, a y WHERE {keys}"),
        format!("SELECT max(at)::text || count(*) FROM moments WHERE k IN ({one}, {other})"),
    ] {
        let text = value(client, &sql);
        assert!(text.starts_with("2024-01-01 21:00:00+09"), "{sql}: {text}");
    }
    // What a function writes goes with the transaction.
    let noted = format!("SELECT note(x.k) FROM a x, a y WHERE {keys}");
    run(client, &noted);
    run(client, "ROLLBACK");
    assert_eq!(value(client, "SELECT count(*) FROM log"), "0");
    run(client, &noted);
    assert_eq!(value(client, "SELECT count(*) FROM log"), "1");
}
