//! What one client leaves on the only server connection, the other must not see.

use testkit::client::{Client, Extended};

use super::fixture::{Fixture, run, value};

/// Everything a client could see of another; one value.
const LOOK: &str = "SELECT concat_ws('|', \
    current_setting('work_mem'), current_setting('search_path'), current_user, session_user, \
    nullif(current_setting('my.leak', true), ''), \
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), \
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'), \
    (SELECT count(*) FROM pg_listening_channels()), \
    (SELECT count(*) FROM pg_cursors WHERE is_holdable))";

const SETUP: &str = "CREATE FUNCTION set_it() RETURNS text LANGUAGE sql AS \
      $$ SELECT set_config('work_mem', '7MB', false) $$; \
    CREATE FUNCTION set_custom() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN PERFORM set_config('my.leak', 'leaked', false); END $$; \
    CREATE FUNCTION make_temp() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN CREATE TEMP TABLE leaked (a int); END $$; \
    CREATE FUNCTION lock_it() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN PERFORM pg_advisory_lock(77); END $$; \
    CREATE FUNCTION listen_to_it() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN EXECUTE 'LISTEN leaked'; END $$; \
    CREATE FUNCTION prepare_it() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN EXECUTE 'PREPARE leaked AS SELECT 1'; END $$; \
    CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN EXECUTE 'SET ROLE pg_monitor'; END $$; \
    CREATE FUNCTION hold_it() RETURNS void LANGUAGE plpgsql AS \
      $$ BEGIN EXECUTE 'DECLARE leaked CURSOR WITH HOLD FOR SELECT 1'; END $$";

/// What the victim does, in one statement each.
const VICTIMS: &[&str] = &[
    "SET work_mem = '7MB'",
    "SET search_path = pg_catalog",
    "SET my.leak = 'leaked'",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SELECT set_config('work_mem', '7MB', false)",
    "CREATE TEMP TABLE leaked (a int)",
    "SELECT 1 AS a INTO TEMP leaked",
    "PREPARE leaked AS SELECT 1",
    "SELECT pg_advisory_lock(77)",
    "LISTEN leaked",
    "DECLARE leaked CURSOR WITH HOLD FOR SELECT 1",
    "DO $$ BEGIN PERFORM set_config('search_path', 'pg_catalog', false); END $$",
    "DO $$ BEGIN CREATE TEMP TABLE leaked (a int); END $$",
    "DO $$ BEGIN PERFORM pg_advisory_lock(77); END $$",
    "DO $$ BEGIN EXECUTE 'LISTEN leaked'; END $$",
    "DO $$ BEGIN EXECUTE 'PREPARE leaked AS SELECT 1'; END $$",
    "DO $$ BEGIN EXECUTE 'SET my.leak = ''leaked'''; END $$",
    "SELECT set_it()",
    "SELECT set_custom()",
    "SELECT make_temp()",
    "SELECT lock_it()",
    "SELECT listen_to_it()",
    "SELECT prepare_it()",
    "SELECT hold_it()",
    "LOAD 'plpgsql'",
];

fn leave_something(client: &mut Client, sql: &str, way: usize) {
    // An error is as good: it may have left something too.
    match way {
        0 => drop(client.simple(sql).unwrap()),
        1 => drop(client.extended(&Extended::new(sql)).unwrap()),
        2 => {
            run(client, "BEGIN");
            drop(client.simple(sql).unwrap());
            drop(client.simple("COMMIT").unwrap());
        }
        _ => {
            run(client, "BEGIN");
            drop(client.simple(sql).unwrap());
            drop(client.simple("ROLLBACK").unwrap());
        }
    }
}

#[test]
fn nothing_of_a_session_meets_the_next_one() {
    let fixture = Fixture::new(2, 1);
    run(&mut fixture.direct(), SETUP);
    let clean = value(&mut fixture.client(), LOOK);
    let mut witness = fixture.client();
    for sql in VICTIMS {
        for way in 0..4 {
            let mut victim = fixture.client();
            leave_something(&mut victim, sql, way);
            let seen = [value(&mut witness, LOOK), value(&mut fixture.client(), LOOK)];
            assert_eq!(seen, [clean.clone(), clean.clone()], "beside {sql}, way {way}");
            victim.kill();
            let seen = [value(&mut witness, LOOK), value(&mut fixture.client(), LOOK)];
            assert_eq!(seen, [clean.clone(), clean.clone()], "after {sql}, way {way}");
        }
    }
}

/// Settings follow their session over a connection it shares with another.
#[test]
fn settings_follow_and_do_not_mix() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, "SET work_mem = '5MB'");
    run(&mut two, "SET work_mem = '6MB'");
    run(&mut one, "SET statement_timeout = '12s'");
    for _ in 0..3 {
        assert_eq!(value(&mut one, "SHOW work_mem"), "5MB");
        assert_eq!(value(&mut one, "SHOW statement_timeout"), "12s");
        assert_eq!(value(&mut two, "SHOW work_mem"), "6MB");
        assert_eq!(value(&mut two, "SHOW statement_timeout"), "0");
    }
    run(&mut one, "SET TimeZone = 'Asia/Tokyo'");
    assert_eq!(
        one.settings().get("TimeZone").map(String::as_str),
        Some("Asia/Tokyo")
    );
    run(&mut one, "RESET ALL");
    assert_eq!(value(&mut one, "SHOW work_mem"), "4MB");
    assert_eq!(value(&mut two, "SHOW work_mem"), "6MB");
}

/// What pg_dump begins with.
#[test]
fn an_empty_search_path_is_its_sessions_own() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, "SELECT pg_catalog.set_config('search_path', '', false)");
    for _ in 0..2 {
        assert_eq!(value(&mut two, "SELECT current_schema()"), "public");
        assert_eq!(value(&mut one, "SELECT current_schema() IS NULL"), "t");
    }
    run(
        &mut two,
        "BEGIN; SELECT set_config('search_path', '', true); COMMIT",
    );
    assert_eq!(value(&mut two, "SELECT current_schema()"), "public");
}

/// `set_config` is followed like SET, custom settings included, and local ones end with their transaction.
#[test]
fn set_config_follows_its_session() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, "SELECT set_config('app.tenant', '7', false)");
    run(
        &mut two,
        "SELECT set_config('app.tenant', '8', false), set_config('work_mem', '6MB', false)",
    );
    let ask = "SELECT current_setting('app.tenant', true), current_setting('work_mem')";
    let see = |client: &mut Client| run(client, ask).text_rows();
    let row = |tenant: &str, memory: &str| vec![vec![Some(tenant.to_owned()), Some(memory.to_owned())]];
    for _ in 0..2 {
        assert_eq!(see(&mut one), row("7", "4MB"));
        assert_eq!(see(&mut two), row("8", "6MB"));
    }
    run(&mut one, "BEGIN");
    run(&mut one, "SELECT set_config('app.tenant', '9', true)");
    assert_eq!(see(&mut one), row("9", "4MB"));
    run(&mut one, "COMMIT");
    assert_eq!(see(&mut one), row("7", "4MB"));
    run(&mut one, "BEGIN");
    run(&mut one, "SELECT set_config('app.tenant', '10', false)");
    run(&mut one, "ROLLBACK");
    assert_eq!(see(&mut two), row("8", "6MB"));
    assert_eq!(see(&mut one), row("7", "4MB"));
    // The name is computed: nobody can follow it, so the session keeps its connection until it ends.
    run(&mut one, "SELECT set_config('app' || '.tenant', '11', false)");
    assert_eq!(see(&mut one), row("11", "4MB"));
    drop(one);
    assert_eq!(see(&mut two), row("8", "6MB"));
}
