//! Rows that move to a new key while others change them by another column.

use std::sync::atomic::{AtomicBool, Ordering};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

const ROWS: usize = 24;

fn table(fixture: &Fixture) -> Client {
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE t (id int PRIMARY KEY, name text, n int NOT NULL DEFAULT 0) WITH (drover.shard_key = 'id')",
    );
    run(
        &mut client,
        &format!("INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, {ROWS}) g"),
    );
    client
}

/// A key of which the row is elsewhere than the first row is now.
fn key_elsewhere(fixture: &Fixture, client: &mut Client, from: usize) -> String {
    let to = from + 20;
    run(
        client,
        &format!("INSERT INTO t SELECT g, 'probe' FROM generate_series({from}, {to}) g"),
    );
    let elsewhere = "SELECT min(id) FROM t WHERE name = 'probe' \
                     AND NOT EXISTS (SELECT FROM t WHERE name = 'row 1')";
    let mut found = (0..4).map(|shard| value(&mut fixture.admin_of(shard), elsewhere));
    let key = found.find(|key| !key.is_empty()).unwrap();
    run(client, "DELETE FROM t WHERE name = 'probe'");
    key
}

#[test]
fn a_row_on_its_way_is_waited_for() {
    let fixture = Fixture::over(4, 4, 1);
    let mut mover = table(&fixture);
    for (from, change) in [
        (1000, "UPDATE t SET n = n + 1 WHERE name = 'row 1'"),
        (2000, "DELETE FROM t WHERE name = 'row 1'"),
    ] {
        let id = key_elsewhere(&fixture, &mut mover, from);
        run(&mut mover, "BEGIN");
        run(
            &mut mover,
            &format!("UPDATE t SET id = {id} WHERE name = 'row 1'"),
        );
        let mut other = fixture.client();
        let answer = std::thread::scope(|scope| {
            let changed = scope.spawn(|| other.simple(change).unwrap());
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                         AND wait_event_type = 'Lock'";
            let free = |shard| value(&mut fixture.admin_of(shard), waits) == "0";
            while !changed.is_finished() && (0..4).all(free) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            run(&mut mover, "COMMIT");
            changed.join().unwrap()
        });
        assert_eq!(answer.errors, []);
        assert!(answer.tags()[0].ends_with(" 1"), "{change}: {:?}", answer.tags());
    }
}

/// One connection moves its rows to other keys without an end, until told to stop.
fn keep_moving(client: &mut Client, mover: usize, stop: &AtomicBool) -> usize {
    let mut moved = 0;
    for turn in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let row = turn % ROWS + 1;
        let key = (turn * 4 + mover) * 100 + row;
        let answer = client
            .simple(&format!("UPDATE t SET id = {key} WHERE name = 'row {row}'"))
            .unwrap();
        match answer.error() {
            None => {
                assert_eq!(answer.tags(), ["UPDATE 1"]);
                moved += 1;
            }
            Some(error) => assert_eq!(error.sqlstate(), "55P03", "{error:?}"),
        }
    }
    moved
}

#[test]
fn no_change_misses_a_row_that_moves() {
    let fixture = Fixture::over(4, 12, 2);
    let mut client = table(&fixture);
    let stop = AtomicBool::new(false);
    let mut answers = Vec::new();
    let moved: usize = std::thread::scope(|scope| {
        let movers: Vec<_> = (0..3)
            .map(|mover| {
                let mut client = fixture.client();
                let stop = &stop;
                scope.spawn(move || keep_moving(&mut client, mover, stop))
            })
            .collect();
        for turn in 0..200 {
            let row = turn % ROWS + 1;
            let sql = format!("UPDATE t SET n = n + 1 WHERE name = 'row {row}'");
            answers.push(client.simple(&sql).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        movers.into_iter().map(|mover| mover.join().unwrap()).sum()
    });
    assert!(moved > 0);
    for (turn, answer) in answers.iter().enumerate() {
        assert_eq!(answer.errors, [], "turn {turn}");
        assert_eq!(answer.tags(), ["UPDATE 1"], "turn {turn}");
    }
    assert_eq!(
        run(&mut client, "SELECT count(*), sum(n) FROM t").text_rows()[0],
        [Some(ROWS.to_string()), Some("200".to_owned())]
    );
}

/// What moves rows, and then a question whose answer depends on where they are.
const MOVES: [(&[&str], &str); 6] = [
    (&["SELECT drover.unshard_table('t')"], "SELECT count(*) FROM t"),
    (
        &[
            "SELECT drover.unshard_table('t')",
            "SELECT drover.shard_table('t', 'id')",
        ],
        "UPDATE t SET n = n + 1",
    ),
    (
        &[
            "SELECT drover.reference_table('t')",
            "SELECT drover.unshard_table('t')",
        ],
        "DELETE FROM t",
    ),
    (
        &["SELECT drover.shard_table('t', 'n')", "ALTER TABLE t RENAME TO u"],
        "SELECT count(*) FROM u WHERE n = 0",
    ),
    (
        &["ALTER TABLE t RENAME TO u", "SELECT drover.shard_table('u', 'n')"],
        "UPDATE u SET name = 'x' WHERE n = 0",
    ),
    (&["PIN"], "SELECT count(*) FROM t WHERE id = 1"),
];

#[test]
fn a_snapshot_does_not_outlive_a_move() {
    for (moves, question) in MOVES {
        let fixture = Fixture::over(3, 4, 1);
        let mut client = table(&fixture);
        run(&mut client, "ALTER TABLE t DROP CONSTRAINT t_pkey");
        run(&mut client, "CREATE TABLE other (n int)");
        let mut reader = fixture.client();
        run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        run(&mut reader, "SELECT count(*) FROM other");
        for step in moves {
            let here = |shard: &usize| {
                let rows = "SELECT count(*) FROM t WHERE id = 1";
                value(&mut fixture.admin_of(*shard), rows) == "0"
            };
            let step = match *step {
                "PIN" => {
                    let to = (0..3).find(here).unwrap() + 1;
                    format!("SELECT drover.pin_key('t', '1', shard => 'shard_{to}')")
                }
                step => step.to_owned(),
            };
            run(&mut client, &step);
        }
        let (code, message) = error(&mut reader, question);
        assert_eq!(code, "40001", "{moves:?}: {message}");
        run(&mut reader, "ROLLBACK");
    }
}
