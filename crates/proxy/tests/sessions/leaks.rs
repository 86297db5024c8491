//! What one client leaves on the only server connection, the other must not see.

use testkit::client::{Client, Extended};

use super::fixture::{Fixture, run, value};

/// Everything a client could see of another; one value.
const LOOK: &str = "SELECT concat_ws('|', \
    current_setting('work_mem'), current_setting('search_path'), current_user, session_user, current_setting('role'), \
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
      $$ BEGIN EXECUTE format('SET ROLE %I', session_user); END $$; \
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
    "SELECT become()",
    "LOAD 'plpgsql'",
];

/// Code that no statement names: it runs because a table, a view, an operator or a type is used.
const UNSEEN_SETUP: &str = "CREATE FUNCTION lk() RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
      PERFORM set_config('work_mem', '7MB', false), pg_advisory_lock(77); RETURN 1; END $$; \
    CREATE VIEW by_custom AS SELECT set_config('my.leak', 'leaked', false) AS a; \
    CREATE FUNCTION custom() RETURNS text LANGUAGE sql AS $$ SELECT set_config('my.leak', 'leaked', false) $$; \
    CREATE VIEW by_custom_function AS SELECT custom() AS a; \
    CREATE FUNCTION lk_of(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN public.lk(); END $$; \
    CREATE FUNCTION lk_bool(int) RETURNS bool LANGUAGE sql AS $$ SELECT lk() = 1 $$; \
    CREATE FUNCTION lk_trigger() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN PERFORM lk(); EXECUTE format('SET ROLE %I', session_user); RETURN NEW; END $$; \
    CREATE FUNCTION outer_trigger() RETURNS trigger LANGUAGE plpgsql AS \
      $$ BEGIN INSERT INTO by_default(b) VALUES (1); RETURN NEW; END $$; \
    CREATE VIEW by_view AS SELECT lk() AS a; \
    CREATE VIEW by_builtin AS SELECT set_config('work_mem', '7MB', false) AS a, pg_try_advisory_lock(77) AS l; \
    CREATE VIEW by_two_views AS SELECT a FROM by_view; \
    CREATE TABLE by_default (a int DEFAULT lk(), b int); \
    CREATE TABLE by_builtin_default (a text DEFAULT set_config('work_mem', '7MB', false), b int); \
    CREATE VIEW over_default AS SELECT b FROM by_default; \
    CREATE TABLE by_generated (a int, b int GENERATED ALWAYS AS (lk_of(a)) STORED); \
    CREATE TABLE by_check (a int CHECK (lk_bool(a))); \
    CREATE TABLE by_index (a int); CREATE INDEX ON by_index (lk_of(a)); \
    CREATE TABLE by_trigger (a int); CREATE TRIGGER t BEFORE INSERT ON by_trigger \
      FOR EACH ROW EXECUTE FUNCTION lk_trigger(); \
    CREATE TABLE by_deferred (a int); CREATE CONSTRAINT TRIGGER t AFTER INSERT ON by_deferred \
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lk_trigger(); \
    CREATE TABLE by_outer (a int); CREATE TRIGGER t AFTER INSERT ON by_outer EXECUTE FUNCTION outer_trigger(); \
    CREATE TABLE by_condition (a int); CREATE TRIGGER t AFTER INSERT ON by_condition \
      FOR EACH ROW WHEN (lk_bool(new.a)) EXECUTE FUNCTION outer_trigger(); \
    CREATE TABLE by_rule (a int); CREATE RULE r AS ON INSERT TO by_rule DO ALSO SELECT lk(); \
    CREATE TABLE parted (a int) PARTITION BY RANGE (a); \
    CREATE TABLE by_part PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TRIGGER t BEFORE INSERT ON by_part \
      FOR EACH ROW EXECUTE FUNCTION lk_trigger(); \
    CREATE TABLE parent (a int PRIMARY KEY); CREATE TABLE child (a int REFERENCES parent ON DELETE CASCADE); \
    CREATE TRIGGER t AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION lk_trigger(); \
    CREATE TABLE by_policy (a int); INSERT INTO by_policy VALUES (1); ALTER TABLE by_policy ENABLE ROW LEVEL SECURITY; \
    CREATE POLICY p ON by_policy USING (lk_bool(a)); ALTER TABLE by_policy FORCE ROW LEVEL SECURITY; \
    CREATE FUNCTION row_of(by_policy) RETURNS int LANGUAGE sql AS $$ SELECT lk() $$; \
    CREATE TABLE plain (a int); INSERT INTO plain VALUES (1); \
    CREATE FUNCTION spelt(plain) RETURNS int LANGUAGE sql AS $$ SELECT lk() $$; \
    CREATE DOMAIN by_domain AS int CHECK (lk_bool(VALUE)); \
    CREATE OPERATOR ## (FUNCTION = lk_of, RIGHTARG = int); \
    CREATE AGGREGATE by_aggregate(text, bool) (SFUNC = set_config, STYPE = text, INITCOND = 'work_mem'); \
    CREATE FUNCTION with_default(a int DEFAULT lk()) RETURNS int LANGUAGE sql AS $$ SELECT a $$; \
    CREATE FUNCTION atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT lk(); END; \
    CREATE MATERIALIZED VIEW stored AS SELECT lk() AS a; \
    CREATE TYPE colour AS (c int); CREATE FUNCTION to_colour(int) RETURNS colour LANGUAGE sql AS \
      $$ SELECT row(lk())::colour $$";

/// Statements over [`UNSEEN_SETUP`], those with casts and domains last: they make every statement suspicious.
const UNSEEN: &[&str] = &[
    "SELECT * FROM by_view",
    "SELECT * FROM by_builtin",
    "SELECT * FROM by_custom",
    "SELECT * FROM by_custom_function",
    "SELECT a FROM by_two_views",
    "WITH v AS (SELECT a FROM by_two_views) SELECT * FROM v",
    "COPY (SELECT a FROM by_view) TO STDOUT",
    "EXPLAIN ANALYZE SELECT * FROM by_view",
    "INSERT INTO by_default (b) VALUES (1)",
    "EXPLAIN ANALYZE INSERT INTO by_default (b) VALUES (1)",
    "WITH i AS (INSERT INTO by_default (b) VALUES (1) RETURNING a) SELECT * FROM i",
    "INSERT INTO by_builtin_default (b) VALUES (1)",
    "INSERT INTO over_default VALUES (1)",
    "INSERT INTO by_generated VALUES (1)",
    "INSERT INTO by_check VALUES (1)",
    "INSERT INTO by_index VALUES (1)",
    "INSERT INTO by_trigger VALUES (1)",
    "INSERT INTO by_deferred VALUES (1)",
    "INSERT INTO by_outer VALUES (1)",
    "INSERT INTO by_condition VALUES (1)",
    "INSERT INTO by_rule VALUES (1)",
    "INSERT INTO parted VALUES (1)",
    "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1); DELETE FROM parent",
    "MERGE INTO by_trigger USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "SELECT * FROM by_policy",
    "SELECT p.row_of FROM by_policy p",
    "SELECT p.spelt FROM plain p",
    "SELECT ## 1",
    "SELECT by_aggregate(v, false) FROM (VALUES ('7MB')) t(v)",
    "SELECT with_default()",
    "SELECT atomic()",
    "SELECT '(1)'::plain::text, spelt('(1)'::plain)",
    "PREPARE q AS SELECT lk(); EXECUTE q; DEALLOCATE q",
    "CREATE INDEX ON plain (lk_of(a))",
    "ALTER TABLE plain ALTER a TYPE int USING lk_of(a)",
    "REFRESH MATERIALIZED VIEW stored",
    "SELECT 1::by_domain",
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
    leaks_nothing(SETUP, VICTIMS);
}

#[test]
fn what_runs_without_being_named_leaves_nothing_either() {
    leaks_nothing(UNSEEN_SETUP, UNSEEN);
}

/// The statements do leave something on PostgreSQL itself: the test above is not idle.
#[test]
fn what_runs_without_being_named_leaves_something_on_postgresql() {
    let fixture = Fixture::new(1, 1);
    run(&mut fixture.direct(), UNSEEN_SETUP);
    let clean = value(&mut fixture.direct(), LOOK);
    for sql in UNSEEN {
        let mut client = fixture.direct();
        run(&mut client, sql);
        assert_ne!(value(&mut client, LOOK), clean, "{sql}");
        client.kill();
    }
}

/// Beside the proxy, which reads the schema once afterwards and not at each statement.
fn set_up(fixture: &Fixture, setup: &str) {
    run(&mut fixture.direct(), setup);
    run(&mut fixture.client(), "CREATE TABLE set_up ()");
}

fn leaks_nothing(setup: &str, victims: &[&str]) {
    let fixture = Fixture::new(2, 1);
    set_up(&fixture, setup);
    let clean = value(&mut fixture.client(), LOOK);
    let mut witness = fixture.client();
    for sql in victims {
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

/// What happened before an error, and what the fast path of old clients calls, is looked after like anything else.
#[test]
fn errors_and_calls_by_number_leave_nothing() {
    let fixture = Fixture::new(2, 1);
    set_up(&fixture, UNSEEN_SETUP);
    let clean = value(&mut fixture.client(), LOOK);
    let mut witness = fixture.client();
    let number: u32 = value(&mut witness, "SELECT 'lk'::regproc::oid").parse().unwrap();
    let call = |client: &mut Client| {
        let mut message = vec![b'F', 0, 0, 0, 14];
        message.extend(number.to_be_bytes());
        message.extend([0, 0, 0, 0, 0, 0]);
        client.send(&message).unwrap();
        client.collect(1).unwrap()
    };
    // Planning evaluates what is declared immutable.
    let binding = |client: &mut Client| {
        let bound = testkit::client::Pipeline::new().parse("", "SELECT lk_of(1)", &[]);
        let bound = bound.bind("", "", &[], testkit::client::Format::Text).sync();
        client.send(bound.bytes()).unwrap();
        client.collect(1).unwrap()
    };
    let failing = |client: &mut Client| client.simple("SELECT 1 / (a - 1) FROM by_view").unwrap();
    for leave in [
        &call as &dyn Fn(&mut Client) -> testkit::client::Answer,
        &failing,
        &binding,
    ] {
        let mut victim = fixture.client();
        leave(&mut victim);
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                    (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(value(&mut fixture.direct(), held), "1");
        for _ in 0..2 {
            assert_eq!(value(&mut witness, LOOK), clean);
            assert_eq!(value(&mut fixture.client(), LOOK), clean);
        }
        victim.kill();
        assert_eq!(value(&mut witness, LOOK), clean);
        assert_eq!(value(&mut fixture.client(), LOOK), clean);
    }
}

/// What a function did to its session stays with it.
#[test]
fn what_a_function_does_lasts_for_its_session() {
    const SETUP: &str = "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           EXECUTE format('SET ROLE %I', session_user); SET work_mem = '7MB'; RETURN NEW; END $$; \
         CREATE TABLE t (a int); CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION act(); \
         CREATE FUNCTION tenant(t text) RETURNS void LANGUAGE sql AS $$ SELECT set_config('app.tenant', t, false) $$";
    const LOOK: &str = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('role') = session_user, \
         nullif(current_setting('app.tenant', true), ''))";
    let acts = [
        ("INSERT INTO t VALUES (1)", "7MB|t"),
        ("SELECT tenant('7')", "4MB|f|7"),
        ("DO $$ BEGIN SET app.tenant = 8; END $$", "4MB|f|8"),
        ("DO $$ BEGIN PERFORM tenant('9'); END $$", "4MB|f|9"),
    ];
    let fixture = Fixture::new(2, 1);
    run(&mut fixture.client(), SETUP);
    for (sql, expected) in acts {
        let (mut one, mut two) = (fixture.client(), fixture.client());
        run(&mut one, sql);
        assert_eq!(value(&mut fixture.client(), LOOK), "4MB|f", "{sql}");
        assert_eq!(value(&mut one, LOOK), expected, "{sql}");
        assert_eq!(value(&mut two, LOOK), "4MB|f", "{sql}");
        assert_eq!(value(&mut one, LOOK), expected, "{sql}");
        one.kill();
    }
}

/// What code takes back is taken back, and what it makes is made: as on a connection of one's own.
#[test]
fn settings_changed_by_code_are_those_of_the_session() {
    const LOOK: &str = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('client_encoding'), \
        current_setting('role') = session_user, nullif(current_setting('my.a', true), ''))";
    let scenes: &[&[&str]] = &[
        &["SET work_mem = '1MB'", "DO $$ BEGIN RESET work_mem; END $$"],
        &["SET work_mem = '1MB'", "DO $$ BEGIN RESET ALL; END $$"],
        &[
            "SET work_mem = '1MB'",
            "DO $$ BEGIN PERFORM set_config('work_mem', NULL, false); END $$",
        ],
        &[
            "DO $$ BEGIN EXECUTE format('SET ROLE %I', session_user); END $$",
            "DO $$ BEGIN RESET ROLE; END $$",
        ],
        &[
            "SET my.a = '1'",
            "DO $$ BEGIN PERFORM set_config('my.a', '2', false); END $$",
        ],
        &[
            "SET my.a = '1'",
            "DO $$ DECLARE n text := 'my.' || 'a'; BEGIN EXECUTE 'RESET ' || n; END $$",
        ],
        &["SELECT set_config('client_encoding', 'LATIN1', false)"],
        &["UPDATE pg_settings SET setting = '1MB' WHERE name = 'work_mem'"],
        &["SELECT set_config('my.' || 'a', '3', false), set_config('my.b', '3', false)"],
        &["DO $$ BEGIN SET client_encoding = 'LATIN1'; END $$"],
        &[
            "BEGIN",
            "SET work_mem = '1MB'",
            "DO $$ BEGIN RESET work_mem; END $$",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SET work_mem = '1MB'",
            "DO $$ BEGIN SET work_mem = '2MB'; END $$",
            "ROLLBACK",
        ],
        &[
            "SET work_mem = '1MB'",
            "BEGIN",
            "DO $$ BEGIN SET work_mem = '2MB'; END $$",
            "ROLLBACK",
        ],
    ];
    let fixture = Fixture::new(3, 1);
    let clean = value(&mut fixture.client(), LOOK);
    for scene in scenes {
        let (mut one, mut plain) = (fixture.client(), fixture.direct());
        for sql in *scene {
            run(&mut one, sql);
            run(&mut plain, sql);
        }
        let expected = value(&mut plain, LOOK);
        for _ in 0..2 {
            assert_eq!(value(&mut one, LOOK), expected, "{scene:?}");
            assert_eq!(value(&mut fixture.client(), LOOK), clean, "{scene:?}");
        }
        one.kill();
        plain.kill();
    }
}

/// An index is made without a transaction around it, and what event triggers do is looked after.
#[test]
fn ddl_that_stands_alone_and_event_triggers() {
    let fixture = Fixture::new(2, 1);
    let mut client = fixture.client();
    run(&mut client, "CREATE TABLE t (a int)");
    run(&mut client, "CREATE INDEX CONCURRENTLY i ON t (a)");
    run(&mut client, "DROP INDEX CONCURRENTLY i");
    run(&mut client, "BEGIN");
    assert_eq!(
        client
            .simple("CREATE INDEX CONCURRENTLY i ON t (a)")
            .unwrap()
            .errors[0]
            .sqlstate(),
        "25001"
    );
    run(&mut client, "ROLLBACK");
}

/// A seed is used once.
#[test]
fn random_numbers_go_on_from_their_seed() {
    let fixture = Fixture::new(2, 1);
    for seed in [
        "SET seed = 0.5",
        "SELECT set_config('seed', '0.5', false)",
        "SELECT setseed(0.5)",
    ] {
        let (mut one, mut plain) = (fixture.client(), fixture.direct());
        run(&mut one, seed);
        run(&mut plain, seed);
        for _ in 0..3 {
            assert_eq!(
                value(&mut one, "SELECT random()"),
                value(&mut plain, "SELECT random()"),
                "{seed}"
            );
            value(&mut fixture.client(), "SELECT 1");
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
