//! Global indexes under writers that race, server processes that are killed, and writers that pass Drover by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::client::{Client, Extended, Parameter};

use super::fixture::{Fixture, error, run, value};

const SHARDS: usize = 4;
const WRITERS: usize = 16;
const TURNS: usize = 30;
/// So few that writers meet.
const VALUES: usize = 12;

fn users(fixture: &Fixture) -> Client {
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE users (id int PRIMARY KEY, email text, n int NOT NULL DEFAULT 0) WITH (drover.shard_key = 'id')",
    );
    run(
        &mut client,
        "INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 40) g",
    );
    run(
        &mut client,
        "SELECT drover.create_global_index('users', 'email', unique => true)",
    );
    client
}

pub(super) fn pairs(client: &mut Client, sql: &str) -> Vec<(String, String)> {
    let rows = run(client, sql).text_rows();
    let cell = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    rows.iter().map(|row| (cell(row, 0), cell(row, 1))).collect()
}

/// Every row has its entry, every entry its row, and no value is there twice. The rows.
fn assert_index(fixture: &Fixture) -> BTreeMap<String, String> {
    let known = run(&mut fixture.client(), "SELECT * FROM drover.global_indexes").text_rows();
    let table = known[0].last().cloned().flatten().unwrap();
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for shard in 0..SHARDS {
        let mut admin = fixture.admin_of(shard);
        rows.extend(pairs(
            &mut admin,
            "SELECT email, id FROM users WHERE email IS NOT NULL",
        ));
        found.extend(pairs(
            &mut admin,
            &format!("SELECT email, drover_key_1 FROM {table}"),
        ));
    }
    rows.sort();
    found.sort();
    assert_eq!(rows, found, "rows, and entries of the index");
    let values: BTreeSet<&String> = rows.iter().map(|(value, _)| value).collect();
    assert_eq!(values.len(), rows.len(), "a value is there twice");
    rows.into_iter().map(|(value, id)| (id, value)).collect()
}

/// What a writer knows of its rows; `None` where a COMMIT was not answered.
#[derive(Default)]
struct Model {
    rows: BTreeMap<usize, Option<Option<usize>>>,
    won: usize,
    lost: usize,
    unknown: usize,
}

impl Model {
    /// Runs a statement after which row `id` has the value `after`, or is not there.
    fn write(&mut self, fixture: &Fixture, client: &mut Client, sql: &str, id: usize, after: Option<usize>) {
        match client.simple(sql) {
            Ok(answer) if answer.error().is_none() => {
                self.won += 1;
                self.rows.insert(id, Some(after));
            }
            Ok(answer) => match answer.error().unwrap().sqlstate() {
                "23505" => self.lost += 1,
                "08007" => {
                    self.unknown += 1;
                    self.rows.insert(id, None);
                }
                // Nothing has happened.
                "57P01" | "08006" | "40001" | "40P01" | "08P01" => self.unknown += 1,
                other => panic!("{sql}: {other}: {answer:?}"),
            },
            Err(_) => {
                self.unknown += 1;
                self.rows.insert(id, None);
                *client = fixture.client_again();
            }
        }
    }

    fn race(&mut self, fixture: &Fixture, writer: usize) {
        let mut client = fixture.client_again();
        for turn in 0..TURNS {
            let value = (turn * 7 + writer * 5) % VALUES;
            let mut there = self.rows.iter().filter_map(|(id, row)| match row {
                Some(Some(_)) => Some(*id),
                _ => None,
            });
            let (id, after, sql) = match (turn % 3, there.next()) {
                (1, Some(id)) => {
                    let sql = format!("UPDATE users SET email = 'race {value}' WHERE id = {id}");
                    (id, Some(value), sql)
                }
                (2, Some(id)) => (id, None, format!("DELETE FROM users WHERE id = {id}")),
                _ => {
                    let id = 1000 + writer * 1000 + turn;
                    let sql = format!("INSERT INTO users (id, email) VALUES ({id}, 'race {value}')");
                    (id, Some(value), sql)
                }
            };
            self.write(fixture, &mut client, &sql, id, after);
        }
    }

    fn assert_kept(&self, rows: &BTreeMap<String, String>) {
        for (id, known) in &self.rows {
            let found = rows.get(&id.to_string());
            match known {
                Some(None) => assert_eq!(found, None, "row {id} was deleted"),
                Some(Some(value)) => {
                    assert_eq!(found, Some(&format!("race {value}")), "row {id} was written");
                }
                None => {}
            }
        }
    }
}

/// Ends [`keep_killing`], also when a writer has panicked.
pub(super) struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends server processes of clients on one shard after the other until it is told to stop.
pub(super) fn keep_killing(fixture: &Fixture, stop: &AtomicBool) -> usize {
    let mut admins: Vec<Client> = (0..SHARDS).map(|shard| fixture.admin_of(shard)).collect();
    let mut killed = 0;
    while !stop.load(Ordering::Relaxed) {
        let shard = killed % SHARDS;
        let busy = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
                    WHERE datname = current_database() AND state <> 'idle' AND usename <> current_user \
                    ORDER BY random() LIMIT 1) AS victim";
        run(&mut admins[shard], busy);
        killed += 1;
        std::thread::sleep(Duration::from_millis(30));
    }
    killed
}

pub(super) fn await_nothing_in_doubt(fixture: &Fixture) {
    let begun = Instant::now();
    for shard in 0..SHARDS {
        let open = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        while value(&mut fixture.admin_of(shard), open) != "0" {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "transactions stay in doubt"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn race(kills: bool) {
    let fixture = Fixture::over(SHARDS as u16, 24, 2);
    users(&fixture);
    let stop = AtomicBool::new(false);
    let models: Vec<Model> = std::thread::scope(|scope| {
        let ended = Stop(&stop);
        let killer = kills.then(|| scope.spawn(|| keep_killing(&fixture, &stop)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let fixture = &fixture;
                scope.spawn(move || {
                    let mut model = Model::default();
                    model.race(fixture, writer);
                    model
                })
            })
            .collect();
        let models = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        drop(ended);
        killer.map(|killer| killer.join().unwrap());
        models
    });
    await_nothing_in_doubt(&fixture);
    let rows = assert_index(&fixture);
    for model in &models {
        model.assert_kept(&rows);
    }
    let sum = |of: fn(&Model) -> usize| models.iter().map(of).sum::<usize>();
    let (won, lost, unknown) = (sum(|m| m.won), sum(|m| m.lost), sum(|m| m.unknown));
    assert!(won > 0 && lost > 0, "{won} won, {lost} lost, {unknown} unknown");
    if !kills {
        assert_eq!(unknown, 0, "{won} won, {lost} lost");
    }
}

#[test]
fn of_racing_writers_one_wins_each_value() {
    race(false);
}

#[test]
fn the_index_is_whole_whatever_is_killed() {
    race(true);
}

#[test]
fn who_passes_drover_by_is_refused() {
    let fixture = Fixture::over(SHARDS as u16, 4, 1);
    let mut client = users(&fixture);
    for shard in 0..SHARDS {
        let mut direct = fixture.direct_of(shard);
        let row = value(&mut direct, "SELECT min(id) FROM users");
        for sql in [
            format!("UPDATE users SET email = 'past' WHERE id = {row}"),
            format!("DELETE FROM users WHERE id = {row}"),
            format!("SET drover_internal.index_changes = ''; UPDATE users SET email = NULL WHERE id = {row}"),
        ] {
            assert_eq!(error(&mut direct, &sql).0, "0A000", "{sql}");
        }
        run(
            &mut direct,
            &format!("UPDATE users SET n = n + 1, email = email WHERE id = {row}"),
        );
        // Its own, which names no rows of the table.
        let apply = "SELECT p.oid::regprocedure FROM pg_proc p WHERE proname LIKE 'index%apply'";
        let apply = value(&mut fixture.admin_of(shard), apply);
        let name = apply.split('(').next().unwrap().to_owned();
        let entry = "'[]', '[[[\"forged\"], [\"1\"]]]'";
        assert_eq!(error(&mut direct, &format!("SELECT {name}({entry})")).0, "42501");
    }
    for sql in [
        "SET drover_internal.index_changes = '='",
        "SET LOCAL drover_internal.index_changes = '+'",
        "SELECT set_config('drover_internal.index_changes', '=', false)",
    ] {
        let answer = client.simple(sql).unwrap();
        assert!(answer.error().is_some(), "{sql}: {answer:?}");
    }
    // A function that is declared local, and is not.
    run(
        &mut client,
        "CREATE FUNCTION touch() RETURNS void LANGUAGE sql AS 'UPDATE users SET email = email || ''!'''",
    );
    run(&mut client, "SELECT drover.declare_local('touch()')");
    assert_eq!(error(&mut client, "SELECT touch()").0, "0A000");
    assert_index(&fixture);
}

#[test]
fn a_duplicate_is_told_as_postgresql_tells_it() {
    let fixture = Fixture::over(SHARDS as u16, 4, 1);
    let mut client = users(&fixture);
    let answer = client
        .simple("INSERT INTO users (id, email) VALUES (100, 'u7')")
        .unwrap();
    let told = answer.error().unwrap();
    let field = |of: u8| told.field(of).unwrap_or_default().to_owned();
    assert_eq!(field(b'C'), "23505");
    assert_eq!(
        field(b'M'),
        "duplicate key value violates unique constraint \"users_email_key\""
    );
    assert_eq!(field(b'D'), "Key (email)=(u7) already exists.");
    assert_eq!(
        (field(b's'), field(b't')),
        ("public".to_owned(), "users".to_owned())
    );
    assert_eq!(field(b'n'), "users_email_key");
    assert_eq!(field(b'W'), "");
    // Not while it is unknown whether the first stays, and then at once.
    let mut first = fixture.client();
    run(&mut first, "BEGIN");
    run(&mut first, "INSERT INTO users (id, email) VALUES (101, 'both')");
    let answer = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut client = fixture.client();
            client
                .simple("INSERT INTO users (id, email) VALUES (102, 'both')")
                .unwrap()
        });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while (0..SHARDS).all(|shard| value(&mut fixture.admin_of(shard), waits) == "0") {
            assert!(!second.is_finished(), "the second has not waited");
            std::thread::sleep(Duration::from_millis(5));
        }
        run(&mut first, "COMMIT");
        second.join().unwrap()
    });
    assert_eq!(answer.error().unwrap().sqlstate(), "23505");
    assert_index(&fixture);
}

#[test]
fn an_index_over_rows_that_are_there_is_whole_or_not_made() {
    let fixture = Fixture::over(SHARDS as u16, 4, 1);
    let mut client = users(&fixture);
    assert_eq!(assert_index(&fixture).len(), 40);
    run(&mut client, "SELECT drover.drop_global_index('users', 'email')");
    run(
        &mut client,
        "INSERT INTO users (id, email) VALUES (50, 'u7'), (51, NULL), (52, NULL)",
    );
    let create =
        "SELECT drover.create_global_index('users', 'email', \"unique\" => true, name => 'one_each')";
    let (code, message) = error(&mut client, create);
    assert_eq!(code, "23505");
    assert_eq!(message, "could not create unique index \"one_each\"");
    run(&mut client, "INSERT INTO users (id, email) VALUES (53, 'u8')");
    run(&mut client, "DELETE FROM users WHERE id IN (50, 53)");
    run(&mut client, create);
    assert_eq!(assert_index(&fixture).len(), 40);
    assert_eq!(error(&mut client, create).0, "42P07");
    // Rows that move with their key keep their entries.
    let shards = run(&mut client, "SELECT * FROM drover.shards").text_rows();
    for shard in shards.iter().filter_map(|row| row[0].clone()) {
        run(
            &mut client,
            &format!("SELECT drover.pin_key('users', '7', shard => '{shard}')"),
        );
        assert_index(&fixture);
        let (code, _) = error(&mut client, "INSERT INTO users (id, email) VALUES (60, 'u7')");
        assert_eq!(code, "23505");
    }
    assert_eq!(
        error(&mut client, "SELECT drover.unshard_table('users')").0,
        "0A000"
    );
    let unique = "SELECT drover.create_global_index('users', 'id, email', unique => true)";
    assert_eq!(error(&mut client, unique).0, "0A000");
}

/// Keeps everybody from the table on all shards but the home shard, which is asked what a statement means. A row there.
fn lock_all_but_home(fixture: &Fixture) -> (String, Vec<Client>) {
    let lock = |shard| {
        let mut admin = fixture.admin_of(shard);
        run(&mut admin, "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE");
        admin
    };
    let row = value(&mut fixture.admin(), "SELECT min(id) FROM users");
    (row, (1..SHARDS).map(lock).collect())
}

#[test]
fn a_lookup_asks_the_shards_of_the_rows_only() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut client = users(&fixture);
    let mut prepared = fixture.client();
    let (id, locked) = lock_all_but_home(&fixture);
    let by_email = format!("SELECT id FROM users WHERE email = 'u{id}'");
    for sql in [
        &by_email,
        &format!("SELECT max(id) FROM users WHERE email IN ('u{id}', 'nobody', NULL)"),
        &format!("UPDATE users SET n = n + 1 WHERE email = 'u{id}' RETURNING id"),
        &format!("SELECT id FROM users u WHERE 'u{id}' = u.email FOR UPDATE"),
        &by_email,
    ] {
        assert_eq!(value(&mut client, sql), id, "{sql}");
    }
    let by_parameter = Extended {
        parameters: &[Parameter::text(format!("u{id}"))],
        ..Extended::new("SELECT id FROM users WHERE email = $1")
    };
    let found = prepared.extended(&by_parameter).unwrap();
    assert_eq!(found.value().as_ref(), Some(&id));
    run(&mut client, "BEGIN");
    assert_eq!(value(&mut client, &by_email), id);
    run(&mut client, "COMMIT");
    // What no index says, or a snapshot of the transaction would have to say, asks everybody.
    run(&mut client, "SET statement_timeout = '300ms'");
    for (begin, sql) in [
        ("", "SELECT id FROM users WHERE n = 5"),
        ("", &format!("{by_email} OR n = 5")),
        ("", "SELECT id FROM users WHERE email LIKE 'u7'"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", &by_email),
    ] {
        run(&mut client, begin);
        assert_eq!(error(&mut client, sql).0, "57014", "{sql}");
        client.simple("ROLLBACK").unwrap();
    }
    drop(locked);
    run(&mut client, "RESET statement_timeout");
    // So does a value whose entry somebody is changing; it is not waited for.
    let mut writer = fixture.client();
    let by_other = "SELECT id FROM users WHERE email = 'other'";
    run(&mut writer, "BEGIN");
    run(
        &mut writer,
        &format!("UPDATE users SET email = 'other' WHERE id = {id}"),
    );
    assert_eq!(value(&mut client, &by_email), id);
    assert_eq!(value(&mut client, by_other), "");
    // Its own changes count.
    assert_eq!(value(&mut writer, &by_email), "");
    assert_eq!(value(&mut writer, by_other), id);
    run(&mut writer, "ROLLBACK");
    assert_eq!(value(&mut client, &by_email), id);
}

/// What was answered to one client is found by the next one.
#[test]
fn what_is_committed_is_found() {
    let fixture = Fixture::over(SHARDS as u16, 24, 2);
    users(&fixture);
    std::thread::scope(|scope| {
        for pair in 0..4 {
            let fixture = &fixture;
            scope.spawn(move || write_and_look(fixture, pair));
        }
    });
    assert_index(&fixture);
}

fn write_and_look(fixture: &Fixture, pair: usize) {
    let (mut writer, mut reader) = (fixture.client(), fixture.client());
    for turn in 0..60 {
        let (id, email) = (10_000 * (pair + 1) + turn % 10, format!("pair {pair} {turn}"));
        run(
            &mut writer,
            &format!(
                "INSERT INTO users (id, email) VALUES ({id}, '{email}') ON CONFLICT (id) DO UPDATE SET email = excluded.email"
            ),
        );
        let look = |email: &str| format!("SELECT id FROM users WHERE email = '{email}'");
        assert_eq!(value(&mut reader, &look(&email)), id.to_string());
        if turn >= 10 {
            let before = format!("pair {pair} {}", turn - 10);
            assert_eq!(value(&mut reader, &look(&before)), "");
        }
    }
}

#[test]
fn a_damaged_index_is_found_and_made_anew() {
    let fixture = Fixture::over(SHARDS as u16, 4, 1);
    let mut client = users(&fixture);
    let check = "SELECT drover.check_global_index('users', 'email')";
    let repair = "SELECT drover.check_global_index('users', 'email', repair => true)";
    let state = |client: &mut Client, sql: &str| {
        let row = run(client, sql).text_rows().remove(0);
        let cells: Vec<String> = row.into_iter().skip(1).flatten().collect();
        cells.join(" ")
    };
    assert_eq!(state(&mut client, check), "40 40 ok");
    let known = run(&mut client, "SELECT * FROM drover.global_indexes").text_rows();
    let table = known[0].last().cloned().flatten().unwrap();
    for damage in [
        format!("DELETE FROM {table} WHERE email = (SELECT min(email) FROM {table})"),
        format!("INSERT INTO {table} VALUES ('orphan', 7)"),
        format!("UPDATE {table} SET drover_key_1 = 1000 + drover_key_1"),
    ] {
        run(&mut fixture.admin_of(1), &damage);
        let found = state(&mut client, check);
        assert!(found.ends_with("damaged"), "{damage}: {found}");
        assert!(state(&mut client, repair).ends_with("repaired"), "{damage}");
        assert_eq!(state(&mut client, check), "40 40 ok", "{damage}");
        assert_eq!(assert_index(&fixture).len(), 40);
    }
    // A value that was let in twice meanwhile is somebody's to decide about.
    run(
        &mut fixture.admin_of(2),
        "SET session_replication_role = replica; UPDATE users SET email = 'twice'",
    );
    assert!(state(&mut client, check).ends_with("damaged"));
    let (code, message) = error(&mut client, repair);
    assert_eq!(code, "23505", "{message}");
    assert!(message.contains("\"users_email_key\""), "{message}");
    // An entry that is not there is noticed by who needs it.
    let id = value(&mut fixture.admin_of(2), "SELECT min(id) FROM users");
    let taken = format!("UPDATE users SET email = 'other' WHERE id = {id}");
    assert_eq!(error(&mut client, &taken).0, "XX001");
}

/// More entries than a server has room for locks.
#[test]
fn statements_of_many_rows_carry_their_entries() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut client = users(&fixture);
    let mut other = fixture.client();
    let rows = 12_000;
    let insert =
        format!("INSERT INTO users SELECT g, 'many ' || g FROM generate_series(1001, 1000 + {rows}) g");
    run(&mut client, "BEGIN");
    run(&mut client, &insert);
    // Beside it others go on, whatever they look for is found, and one value is waited for.
    let look = "SELECT id FROM users WHERE email = 'u7'";
    assert_eq!(value(&mut other, look), "7");
    run(&mut other, "UPDATE users SET email = 'seven' WHERE id = 7");
    let missing = "SELECT id FROM users WHERE email = 'many 2000'";
    assert_eq!(value(&mut other, missing), "");
    assert_eq!(value(&mut client, missing), "2000");
    run(&mut client, "COMMIT");
    assert_eq!(value(&mut other, missing), "2000");
    let (code, _) = error(
        &mut other,
        "INSERT INTO users (id, email) VALUES (90000, 'many 1234')",
    );
    assert_eq!(code, "23505");
    assert_eq!(assert_index(&fixture).len(), 40 + rows);
    run(
        &mut client,
        "UPDATE users SET email = email || '!' WHERE id > 1000",
    );
    assert_eq!(assert_index(&fixture).len(), 40 + rows);
    let again = client.simple(&insert.replace("(1001", "(4001").replace("13000", "16000"));
    assert_eq!(again.unwrap().error().unwrap().sqlstate(), "23505");
    let copied: String = (0..rows)
        .map(|row| format!("{}\tcopy {row}\n", 50_000 + row))
        .collect();
    let copy = client.simple_copy("COPY users (id, email) FROM STDIN", Some(copied.as_bytes()));
    assert_eq!(copy.unwrap().errors, []);
    assert_eq!(assert_index(&fixture).len(), 40 + 2 * rows);
    run(&mut client, "DELETE FROM users WHERE id > 1000");
    assert_eq!(assert_index(&fixture).len(), 40);
}
