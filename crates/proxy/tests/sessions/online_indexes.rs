//! Global indexes made of tables that are in use.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};
use super::global_indexes::pairs;

const SHARDS: usize = 4;
const WRITERS: usize = 16;
const ROWS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn users(fixture: &Fixture, rows: usize) -> Client {
    let mut client = fixture.client();
    for sql in [
        "CREATE TABLE users (id int PRIMARY KEY, email text, kind text, n int NOT NULL DEFAULT 0) WITH (drover.shard_key = 'id')".to_owned(),
        format!("INSERT INTO users SELECT g, 'u' || g, 'k' || g % 10 FROM generate_series(1, {rows}) g"),
    ] {
        run(&mut client, &sql);
    }
    client
}

/// Every row has its entry, every entry its row, in each index.
fn assert_indexes(fixture: &Fixture) {
    let known = run(&mut fixture.client(), "SELECT * FROM drover.global_indexes").text_rows();
    for index in known {
        let (columns, entries) = (index[3].clone().unwrap(), index[10].clone().unwrap());
        assert_eq!(index[5].as_deref(), Some("active"));
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for shard in 0..SHARDS {
            let mut admin = fixture.admin_of(shard);
            let of_rows = format!("SELECT {columns}, id FROM users WHERE {columns} IS NOT NULL");
            rows.extend(pairs(&mut admin, &of_rows));
            found.extend(pairs(
                &mut admin,
                &format!("SELECT {columns}, drover_key_1 FROM {entries}"),
            ));
        }
        rows.sort();
        found.sort();
        assert!(
            rows == found,
            "{columns}: {} rows, {} entries",
            rows.len(),
            found.len()
        );
    }
}

/// Rows come, change, and go; all values of `email` are others.
fn write(fixture: &Fixture, writer: usize, stop: &AtomicBool, done: &AtomicUsize) {
    let mut client = fixture.client();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let (old, new) = (
            1 + (turn * WRITERS + writer) % ROWS,
            100_000 * (writer + 1) + turn,
        );
        let sql = match turn % 6 {
            0 => format!("INSERT INTO users VALUES ({new}, 'w{new}', 'k{}')", turn % 10),
            1 => format!(
                "UPDATE users SET email = email || '!', kind = 'k{}' WHERE id = {old}",
                turn % 7
            ),
            2 => format!("DELETE FROM users WHERE id = {old}"),
            3 => format!(
                "INSERT INTO users VALUES ({old}, 'w{new}', NULL), ({new}, 'x{new}', 'k1') ON CONFLICT (id) DO UPDATE SET email = excluded.email"
            ),
            4 => format!("UPDATE users SET n = n + 1 WHERE id IN ({old}, {})", 1 + old / 2),
            _ => format!(
                "BEGIN; UPDATE users SET email = NULL WHERE id = {old}; INSERT INTO users VALUES ({new}, 'y{new}', 'k2'); {}",
                if turn % 4 > 1 { "COMMIT" } else { "ROLLBACK" }
            ),
        };
        let answer = client.simple(&sql).unwrap();
        if let Some(error) = answer.error() {
            // Two rows of two writers, the other way round.
            assert_eq!(error.sqlstate(), "40P01", "{sql}: {error}");
            client.simple("ROLLBACK").unwrap();
        }
        turn += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_index_that_is_made_while_everybody_writes_is_whole() {
    let fixture = Fixture::over(SHARDS as u16, 24, 2);
    let mut client = users(&fixture, ROWS);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (fixture, stop, done) = (&fixture, &stop, &done);
            scope.spawn(move || write(fixture, writer, stop, done));
        }
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while done.load(Ordering::Relaxed) < 100 {
                std::thread::sleep(Duration::from_millis(5));
            }
            let before = done.load(Ordering::Relaxed);
            run(
                &mut client,
                "SELECT drover.create_global_index('users', 'email', unique => true, online => true)",
            );
            run(
                &mut client,
                "SELECT drover.create_global_index('users', 'kind', online => true)",
            );
            assert!(done.load(Ordering::Relaxed) > before, "nobody could write");
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = made {
            std::panic::resume_unwind(panic);
        }
    });
    assert_indexes(&fixture);
    let known = value(&mut client, "SELECT max(email) FROM users");
    let insert = format!("INSERT INTO users (id, email) VALUES (99999, '{known}')");
    assert_eq!(error(&mut client, &insert).0, "23505");
    for column in ["email", "kind"] {
        let of = run(
            &mut client,
            &format!("EXPLAIN (ROUTE) SELECT id FROM users WHERE {column} = 'k3'"),
        );
        let of = format!("{:?}", of.text_rows());
        assert!(of.contains("where global index"), "{of}");
    }
    let by_index = value(&mut client, "SELECT count(*) FROM users WHERE kind = 'k3'");
    assert_eq!(
        by_index,
        value(&mut client, "SELECT count(*) FROM users WHERE kind LIKE 'k3'")
    );
}

#[test]
fn a_duplicate_ends_the_making_and_leaves_nothing() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut client = users(&fixture, 200);
    run(&mut client, "INSERT INTO users (id, email) VALUES (1001, 'u7')");
    let create = "SELECT drover.create_global_index('users', 'email', unique => true, online => true)";
    let answer = client.simple(create).unwrap();
    let told = answer.error().unwrap();
    assert_eq!(told.sqlstate(), "23505");
    assert_eq!(
        told.field(b'M'),
        Some("could not create unique index \"users_email_key\"")
    );
    assert_eq!(told.field(b'D'), Some("Key (email)=(u7) is duplicated."));
    let listed = run(&mut client, "SELECT * FROM drover.global_indexes").text_rows();
    assert_eq!(listed, Vec::<Vec<Option<String>>>::new());
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'drover\\_index%') + \
        (SELECT count(*) FROM pg_class WHERE relname ~ '^(drover_)?index_[0-9]') + (SELECT count(*) FROM drover_internal.builds)";
    for shard in 0..SHARDS {
        assert_eq!(value(&mut fixture.admin_of(shard), left), "0");
    }
    run(&mut client, "UPDATE users SET email = 'other' WHERE id = 1001");
    run(&mut client, create);
    assert_indexes(&fixture);
}

/// The first row of `drover.global_indexes` has this state.
fn await_state(client: &mut Client, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = run(client, "SELECT * FROM drover.global_indexes").text_rows();
        let state = rows.first().and_then(|row| row[5].clone());
        if state.as_deref() == Some(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "{rows:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_index_that_is_not_finished_is_followed_shown_never_asked_and_can_be_dropped() {
    let fixture = Fixture::over(SHARDS as u16, 8, 1);
    let mut client = users(&fixture, 200);
    let create = "SELECT drover.create_global_index('users', 'email', unique => true, online => true)";
    for dropped in [true, false] {
        // PostgreSQL waits for whoever sees the past before it lets an index be used.
        let mut reader = fixture.admin_of(2);
        run(
            &mut reader,
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class",
        );
        std::thread::scope(|scope| {
            let fixture = &fixture;
            let maker = scope.spawn(move || fixture.client().simple(create).unwrap());
            await_state(&mut client, "enforcing");
            let route = run(
                &mut client,
                "EXPLAIN (ROUTE) SELECT id FROM users WHERE email = 'u7'",
            );
            let route = format!("{:?}", route.text_rows());
            assert!(!route.contains("global index"), "{route}");
            assert_eq!(error(&mut client, create).0, "55006");
            let check = "SELECT drover.check_global_index('users', 'email')";
            assert_eq!(error(&mut client, check).0, "55006");
            run(&mut client, "UPDATE users SET email = email || '+' WHERE id < 50");
            run(&mut client, "DELETE FROM users WHERE id = 60");
            run(&mut client, "INSERT INTO users (id, email) VALUES (60, 'sixty')");
            if dropped {
                run(&mut client, "SELECT drover.drop_global_index('users', 'email')");
            }
            run(&mut reader, "COMMIT");
            let answer = maker.join().unwrap();
            assert_eq!(answer.error().is_some(), dropped, "{answer:?}");
        });
        let listed = run(&mut client, "SELECT * FROM drover.global_indexes").text_rows();
        assert_eq!(listed.is_empty(), dropped, "{listed:?}");
        assert_indexes(&fixture);
    }
    assert_eq!(
        value(&mut client, "SELECT id FROM users WHERE email = 'u7++'"),
        "7"
    );
}
