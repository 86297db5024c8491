//! Pins end when what caused them is gone: with one server connection, the other client gets its turn.

use std::time::Duration;

use testkit::client::{Client, Pipeline};

use super::fixture::{Fixture, error, run, value};

const PID: &str = "SELECT pg_backend_pid()";

/// With a pool of one: the other client gets the very connection the first one has let go.
#[track_caller]
fn is_free(fixture: &Fixture, pid: &str) {
    let mut other = fixture.client();
    other.set_timeout(Duration::from_secs(30));
    assert_eq!(value(&mut other, PID), pid);
    assert_eq!(
        value(
            &mut other,
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) \
             + (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') \
             + (SELECT count(*) FROM pg_cursors WHERE is_holdable) \
             + (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)"
        ),
        "0"
    );
}

/// Begins and ends the state; in between the session keeps its connection, afterwards it does not.
#[track_caller]
fn check(begin: &[&str], end: &[&str]) {
    let fixture = Fixture::new(2, 1);
    let mut client = fixture.client();
    for sql in begin {
        run(&mut client, sql);
    }
    let pid = value(&mut client, PID);
    hold_the_others(&fixture, &mut client, &pid, true);
    for sql in end {
        run(&mut client, sql);
    }
    hold_the_others(&fixture, &mut client, &pid, false);
}

/// Two connections: one in another client's open transaction. A pinned session still has its own; one that is free
/// gives way to a third client.
#[track_caller]
fn hold_the_others(fixture: &Fixture, client: &mut Client, pid: &str, pinned: bool) {
    let mut second = fixture.client();
    run(&mut second, "BEGIN");
    let taken = value(&mut second, PID);
    if pinned {
        assert_ne!(taken, pid, "the pinned connection was lent");
        assert_eq!(value(client, PID), pid);
    } else {
        let mut third = fixture.client();
        run(&mut third, "BEGIN");
        let both = [taken, value(&mut third, PID)];
        assert!(both.contains(&pid.to_owned()), "{both:?} without {pid}");
        run(&mut third, "COMMIT");
    }
    run(&mut second, "COMMIT");
}

#[test]
fn a_temporary_table_that_is_dropped() {
    check(&["CREATE TEMP TABLE t (a int)"], &["DROP TABLE t"]);
}

#[test]
fn a_temporary_table_of_a_transaction() {
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    for end in ["COMMIT", "ROLLBACK"] {
        run(&mut client, "BEGIN");
        run(&mut client, "CREATE TEMP TABLE t (a int) ON COMMIT DROP");
        let pid = value(&mut client, PID);
        run(&mut client, end);
        is_free(&fixture, &pid);
    }
}

#[test]
fn an_advisory_lock_that_is_given_back() {
    check(&["SELECT pg_advisory_lock(7)"], &["SELECT pg_advisory_unlock(7)"]);
    check(
        &["SELECT pg_advisory_lock(7)", "SELECT pg_try_advisory_lock(8)"],
        &["SELECT pg_advisory_unlock(7)", "SELECT pg_advisory_unlock_all()"],
    );
}

#[test]
fn a_held_cursor_that_is_closed() {
    check(
        &[
            "BEGIN",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "COMMIT",
            "FETCH c",
        ],
        &["CLOSE c"],
    );
}

#[test]
fn statements_of_sql_that_are_given_up() {
    let two = [
        "PREPARE p AS SELECT 1",
        "PREPARE q (int) AS SELECT $1",
        "EXECUTE p",
    ];
    check(&two, &["DEALLOCATE p", "DEALLOCATE q"]);
    check(&two, &["DEALLOCATE ALL"]);
    check(&two, &["DISCARD ALL"]);
    // They are no part of the transaction.
    check(
        &["BEGIN", "PREPARE p AS SELECT 1", "ROLLBACK", "EXECUTE p"],
        &["DEALLOCATE p"],
    );
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    assert_eq!(
        error(&mut client, "PREPARE p AS SELECT * FROM nowhere").0,
        "42P01"
    );
    let pid = value(&mut client, PID);
    is_free(&fixture, &pid);
}

/// One set of names for SQL and the protocol, as far as a session can tell.
#[test]
fn statements_of_sql_and_of_the_protocol() {
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    let parse = Pipeline::new().parse("p", "SELECT 'parsed'", &[]).sync();
    assert_eq!(client.run(parse).unwrap().errors, []);
    assert_eq!(error(&mut client, "PREPARE p AS SELECT 1").0, "42P05");
    assert_eq!(error(&mut client, "EXECUTE p").0, "0A000");
    assert_eq!(error(&mut client, "EXECUTE q").0, "26000");
    run(&mut client, "DEALLOCATE p");
    run(&mut client, "PREPARE p AS SELECT 'sql'");
    assert_eq!(value(&mut client, "EXECUTE p"), "sql");
    run(&mut client, "DEALLOCATE p");
}

/// What an EXECUTE leaves behind is the session's own.
#[test]
fn an_execute_is_followed_like_what_it_runs() {
    let fixture = Fixture::new(1, 1);
    let (mut client, mut other) = (fixture.client(), fixture.client());
    run(
        &mut client,
        "CREATE FUNCTION touch() RETURNS text LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_advisory_lock(7); RETURN set_config('work_mem', '9MB', false); END $$",
    );
    run(&mut client, "PREPARE p AS SELECT touch()");
    assert_eq!(value(&mut client, "EXECUTE p"), "9MB");
    run(&mut client, "DEALLOCATE p");
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
    assert_eq!(
        value(&mut client, locks),
        "1",
        "the session keeps its lock, and so its server"
    );
    run(&mut client, "SELECT pg_advisory_unlock(7)");
    assert_eq!(value(&mut other, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut client, "SHOW work_mem"), "9MB");
    assert_eq!(value(&mut other, locks), "0");
}

#[test]
fn discard_empties_the_connection() {
    check(
        &["CREATE TEMP TABLE t (a int)", "SELECT pg_advisory_lock(7)"],
        &["DISCARD ALL"],
    );
    check(&["CREATE TEMP TABLE t (a int)"], &["DISCARD TEMP"]);
}

#[test]
fn a_client_that_leaves_gives_its_connection_back_empty() {
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    run(&mut client, "CREATE TEMP TABLE t (a int)");
    run(&mut client, "SELECT pg_advisory_lock(7)");
    let pid = value(&mut client, PID);
    client.kill();
    is_free(&fixture, &pid);
}
