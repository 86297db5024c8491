//! Mistakes that were made once: each of these answered wrongly, leaked or hung before it was mended.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, ClientError, Format, Parameter, Pipeline};
use testkit::proxy::{DroverProxy, ProxySite};

/// One proxy over two shards with a single server connection per shard, so that whatever one session leaves on a server
/// meets the next. `t (k int primary key, v text)` is sharded and has the keys 1 to 20; `h` is the same on the home shard.
fn proxy() -> &'static DroverProxy {
    static PROXY: OnceLock<DroverProxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let pool = "[pool]\npool_size = 2\nreserve_pool = 4\n";
        let site = ProxySite::new(TestCluster::shared(2), Path::new(env!("CARGO_BIN_EXE_drover")));
        // Leaked on purpose: the guard process ends the proxy with the test.
        let site: &'static ProxySite = Box::leak(Box::new(site.with_config(pool)));
        let proxy = site.start("a");
        let mut client = proxy.client();
        for table in ["t", "h"] {
            good(
                &mut client,
                &format!("CREATE TABLE {table} (k int PRIMARY KEY, v text)"),
            );
            if table == "t" {
                good(&mut client, "SELECT drover.shard_table('t', key => 'k')");
            }
            let rows: Vec<String> = (1..=20).map(|k| format!("({k}, 'v{k}')")).collect();
            good(
                &mut client,
                &format!("INSERT INTO {table} VALUES {}", rows.join(", ")),
            );
        }
        proxy
    })
}

fn good(client: &mut Client, sql: &str) -> Answer {
    let answer = client.simple(sql).unwrap();
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed().as_secs() < 20, "{what}");
    }
}

fn value(client: &mut Client, sql: &str) -> String {
    good(client, sql).value().unwrap_or_default()
}

/// The SQLSTATE of a text's error; empty when there is none.
fn code(client: &mut Client, sql: &str) -> String {
    match client.simple(sql) {
        Ok(answer) => answer
            .error()
            .map(|error| error.sqlstate().to_owned())
            .unwrap_or_default(),
        Err(ClientError::Closed(Some(error))) => error.sqlstate().to_owned(),
        Err(error) => panic!("{sql}: {error}"),
    }
}

fn values(answer: &Answer) -> Vec<String> {
    let rows = answer.results.iter().flat_map(|result| &result.rows);
    rows.flatten()
        .flatten()
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// The query within what is explained is found: its place is counted from the begin of the whole statement.
#[test]
fn routes_of_queries_within_other_statements() {
    let mut client = proxy().client();
    for (statement, first) in [
        (
            "DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k",
            "Home: the cursor, over the rows of:",
        ),
        (
            "CREATE TABLE copied AS SELECT k FROM t",
            "Home: the table, and the rows of:",
        ),
    ] {
        let lines = values(&good(&mut client, &format!("EXPLAIN (ROUTE) {statement}")));
        assert_eq!(lines[0], first);
        assert!(lines[1].starts_with("Tier: scatter"), "{lines:?}");
    }
}

#[test]
fn a_block_that_lost_a_server_is_not_revived_by_a_savepoint() {
    let (mut client, mut other) = (proxy().client(), proxy().client());
    good(&mut client, "BEGIN");
    for k in 100..110 {
        good(&mut client, &format!("INSERT INTO t VALUES ({k}, 'lost')"));
    }
    good(&mut client, "SAVEPOINT a");
    let cluster = TestCluster::shared(2);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND state = 'idle in transaction'";
    cluster.on_node(&cluster.info().shards[1].primary, &proxy().target().database, end);
    // Over several shards a server that is lost is an error of the statement.
    assert_ne!(code(&mut client, "SELECT count(*) FROM t"), "");
    // What the block did before the savepoint is gone: going on from there would commit half of it.
    assert_eq!(code(&mut client, "ROLLBACK TO a"), "25P02");
    assert_eq!(code(&mut client, "INSERT INTO t VALUES (111, 'after')"), "25P02");
    assert_eq!(good(&mut client, "COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(
        value(&mut other, "SELECT count(*)::text FROM t WHERE k >= 100"),
        "0"
    );
    assert_eq!(value(&mut client, "SELECT 1"), "1");
}

#[test]
fn a_query_behind_a_failed_pipeline_is_ignored_up_to_sync() {
    let mut client = proxy().client();
    let failed = Pipeline::new()
        .parse("", "SELECT 1 / 0", &[])
        .bind("", "", &[], Format::Text)
        .execute("", 0);
    // One answer only: to the Sync.
    let sent = failed.query("INSERT INTO h VALUES (200, 'x')").sync();
    client.send(sent.bytes()).unwrap();
    let answer = client.collect(1).unwrap();
    assert_eq!(answer.error().unwrap().sqlstate(), "22012");
    assert!(answer.tags().is_empty(), "{answer:?}");
    assert_eq!(
        value(&mut client, "SELECT count(*)::text FROM h WHERE k = 200"),
        "0"
    );
}

#[test]
fn an_old_snapshot_does_not_look_for_a_table_that_was_moved() {
    let (mut old, mut operator) = (proxy().client(), proxy().client());
    good(&mut operator, "CREATE TABLE moved (k int PRIMARY KEY)");
    good(&mut operator, "INSERT INTO moved SELECT generate_series(1, 40)");
    // All of it is one text, which goes to the home shard as it came.
    good(
        &mut old,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM h",
    );
    // Statements of other tests that run long can hold a move back.
    let move_it = "SELECT drover.shard_table('moved', key => 'k')";
    assert!((0..10).any(|_| code(&mut operator, move_it).is_empty()));
    let answer = old.simple("SELECT count(*)::text FROM moved").unwrap();
    match answer.error() {
        Some(error) => assert_eq!(error.sqlstate(), "40001", "{error}"),
        None => assert_eq!(answer.value().as_deref(), Some("40")),
    }
    good(&mut old, "ROLLBACK");
    assert_eq!(value(&mut old, "SELECT count(*)::text FROM moved"), "40");
}

#[test]
fn portals_bound_in_a_row_run_on_the_shards_of_their_keys() {
    let mut client = proxy().client();
    let mut sent = Pipeline::new().parse("s", "SELECT v FROM t WHERE k = $1::int", &[]);
    for k in 1..=12 {
        let parameter = [Parameter::text(k.to_string())];
        sent = sent.bind(&format!("p{k}"), "s", &parameter, Format::Text);
    }
    for k in 1..=12 {
        sent = sent.execute(&format!("p{k}"), 0);
    }
    let answer = client.run(sent.sync()).unwrap();
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let wanted: Vec<String> = (1..=12).map(|k| format!("v{k}")).collect();
    assert_eq!(values(&answer), wanted);
}

#[test]
fn a_text_prepared_under_one_search_path_is_not_that_of_another() {
    let (mut one, mut two) = (proxy().client(), proxy().client());
    for (client, schema) in [(&mut one, "path_one"), (&mut two, "path_two")] {
        good(client, &format!("CREATE SCHEMA {schema}"));
        good(
            client,
            &format!("CREATE TABLE {schema}.which AS SELECT '{schema}'::text AS mark"),
        );
        good(client, &format!("SET search_path = {schema}"));
        let sent = Pipeline::new().parse("s", "SELECT mark FROM which", &[]).sync();
        assert!(client.run(sent).unwrap().errors.is_empty());
    }
    for _ in 0..3 {
        for (client, schema) in [(&mut one, "path_one"), (&mut two, "path_two")] {
            let sent = Pipeline::new()
                .bind("", "s", &[], Format::Text)
                .execute("", 0)
                .sync();
            assert_eq!(values(&client.run(sent).unwrap()), [schema]);
        }
    }
}

#[test]
fn schema_changes_of_several_sessions_wait_for_each_other() {
    std::thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                let mut client_of_its_own = proxy().client();
                for number in 0..4 {
                    // Each holds all statements back until none runs: the others must not count as running meanwhile.
                    let view = format!("CREATE VIEW together_{client}_{number} AS SELECT {number} AS n");
                    good(&mut client_of_its_own, &view);
                }
            });
        }
    });
    let count = "SELECT count(*)::text FROM pg_views WHERE viewname LIKE 'together_%'";
    assert_eq!(value(&mut proxy().client(), count), "16");
}

#[test]
fn a_schema_change_lets_those_go_on_that_others_wait_for() {
    let (mut holder, mut waiter, mut changer) = (proxy().client(), proxy().client(), proxy().client());
    good(&mut holder, "CREATE TABLE contended (k int PRIMARY KEY, v int)");
    good(&mut holder, "INSERT INTO contended VALUES (1, 0)");
    let add = "UPDATE contended SET v = v + 1 WHERE k = 1";
    good(&mut holder, "BEGIN");
    good(&mut holder, add);
    let waits = std::thread::spawn(move || good(&mut waiter, add));
    let blocked = "SELECT count(*)::text FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the update waits", || {
        // A transaction keeps its first look at the activity of others.
        good(&mut holder, "SELECT pg_stat_clear_snapshot()");
        value(&mut holder, blocked) == "1"
    });
    let changes = std::thread::spawn(move || good(&mut changer, "CREATE VIEW uncontended AS SELECT 1 AS n"));
    until("the change holds others back", || {
        let mut other = proxy().client();
        other.set_timeout(Duration::from_millis(200));
        other.simple("SELECT 1").is_err()
    });
    // The change waits for the waiter, the waiter for the holder.
    good(&mut holder, add);
    good(&mut holder, "COMMIT");
    waits.join().unwrap();
    changes.join().unwrap();
    assert_eq!(value(&mut holder, "SELECT v::text FROM contended"), "3");
}

#[test]
fn a_schema_change_is_not_starved_by_sessions_that_keep_their_servers() {
    let site = ProxySite::new(TestCluster::shared(2), Path::new(env!("CARGO_BIN_EXE_drover")));
    let site = site.with_config("[pool]\npool_mode = \"session\"\npool_size = 30\n");
    let proxy = site.start("s");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            let mut busy = proxy.client();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    good(&mut busy, "SELECT pg_sleep(0.01)");
                }
            });
        }
        let answer = proxy
            .client()
            .simple("CREATE VIEW kept AS SELECT 1 AS n")
            .unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(answer.error().is_none(), "{}", answer.error().unwrap());
    });
}

#[test]
fn names_of_the_protocol_can_be_deallocated_in_sql() {
    let mut client = proxy().client();
    for (give_up, names) in [("DEALLOCATE b", &["b"][..]), ("DEALLOCATE ALL", &["a", "c"][..])] {
        let mut sent = Pipeline::new();
        for name in ["a", "b", "c"] {
            sent = sent.close_statement(name).parse(name, "SELECT 1", &[]);
        }
        assert!(client.run(sent.sync()).unwrap().errors.is_empty());
        good(&mut client, give_up);
        for name in names {
            let sent = Pipeline::new()
                .bind("", name, &[], Format::Text)
                .execute("", 0)
                .sync();
            let answer = client.run(sent).unwrap();
            assert_eq!(answer.error().unwrap().sqlstate(), "26000", "{give_up}: {name}");
        }
    }
    assert_eq!(code(&mut client, "DEALLOCATE nobody"), "26000");
}

#[test]
fn settings_of_a_prepared_transaction_stay_with_their_session() {
    let (mut client, mut other) = (proxy().client(), proxy().client());
    let before = value(&mut other, "SHOW work_mem");
    good(&mut client, "BEGIN");
    good(&mut client, "SET work_mem = '7MB'");
    good(&mut client, "SET LOCAL statement_timeout = '77s'");
    good(&mut client, "INSERT INTO h VALUES (300, 'prepared')");
    good(&mut client, "PREPARE TRANSACTION 'regression'");
    for _ in 0..4 {
        assert_eq!(value(&mut other, "SHOW work_mem"), before);
        assert_eq!(value(&mut other, "SHOW statement_timeout"), "0");
        // As on PostgreSQL, PREPARE TRANSACTION keeps what SET did.
        assert_eq!(value(&mut client, "SHOW work_mem"), "7MB");
    }
    good(&mut client, "ROLLBACK PREPARED 'regression'");
    assert_eq!(
        value(&mut other, "SELECT count(*)::text FROM h WHERE k = 300"),
        "0"
    );
}

#[test]
fn a_lock_taken_by_a_statement_that_failed_stays_with_its_session() {
    let (mut client, mut other) = (proxy().client(), proxy().client());
    assert_eq!(
        code(&mut client, "SELECT 1 / length(pg_advisory_lock(881)::text)"),
        "22012"
    );
    for _ in 0..4 {
        // A session that got the server would hold the lock and get it once more.
        assert_eq!(
            value(&mut other, "SELECT pg_try_advisory_lock(881)::text"),
            "false"
        );
    }
    other.close();
    assert_eq!(value(&mut client, "SELECT pg_advisory_unlock(881)::text"), "true");
    let mut third = proxy().client();
    assert_eq!(
        value(&mut third, "SELECT pg_try_advisory_lock(881)::text"),
        "true"
    );
}

#[test]
fn data_definition_inside_do_is_refused() {
    let (mut client, mut other) = (proxy().client(), proxy().client());
    // Neither what is sharded nor what could be later: proxies would not hear of it.
    for body in [
        "CREATE TABLE made_in_do (a int)",
        "ALTER TABLE h ADD COLUMN z int",
        "ALTER TABLE t ADD COLUMN z int",
        "EXECUTE 'ALTER TABLE t ADD COLUMN z int'",
        "DROP TABLE t",
        "CREATE UNIQUE INDEX ON t (v)",
    ] {
        let sql = format!("DO $$ BEGIN {body}; END $$");
        assert_eq!(code(&mut client, &sql), "0A000", "{sql}");
    }
    assert_eq!(code(&mut client, "SELECT z FROM t"), "42703");
    assert_eq!(code(&mut client, "SELECT z FROM h"), "42703");
    assert_eq!(code(&mut client, "SELECT a FROM made_in_do"), "42P01");
    assert_eq!(value(&mut other, "SELECT count(*)::text FROM t"), "20");
}

#[test]
fn a_client_that_dies_while_its_statement_waits_on_several_shards_holds_nothing_up() {
    let (mut holder, mut other) = (proxy().client(), proxy().client());
    let sql = "UPDATE t SET v = 'dead'";
    let extended = Pipeline::new()
        .parse("", sql, &[])
        .bind("", "", &[], Format::Text)
        .execute("", 0)
        .sync();
    for pipeline in [Pipeline::new().query(sql), extended] {
        good(&mut holder, "BEGIN");
        good(&mut holder, "UPDATE t SET v = v WHERE k = 1");
        let mut dying = proxy().client();
        dying.send(pipeline.bytes()).unwrap();
        // It has rows of one shard, and waits for one of the other.
        let mut held = None;
        until("the statement runs", || {
            held = (2..=20).find(|k| {
                let lock = format!("SELECT v FROM t WHERE k = {k} FOR UPDATE NOWAIT");
                code(&mut other, &lock) == "55P03"
            });
            held.is_some()
        });
        dying.kill();
        good(&mut other, "SET statement_timeout = '20s'");
        good(
            &mut other,
            &format!("UPDATE t SET v = v WHERE k = {}", held.unwrap_or_default()),
        );
        good(&mut holder, "ROLLBACK");
        assert_eq!(
            value(&mut other, "SELECT count(*)::text FROM t WHERE v = 'dead'"),
            "0"
        );
    }
}

#[test]
fn a_client_that_dies_while_its_schema_change_waits_for_a_lock_holds_nothing_up() {
    let (mut holder, mut other) = (proxy().client(), proxy().client());
    let on_second = |client: &mut Client, key: i32| {
        let route = client
            .simple(&format!("EXPLAIN (ROUTE) SELECT v FROM t WHERE k = {key}"))
            .unwrap();
        format!("{:?}", route.text_rows()).contains("shard_2")
    };
    let there = (1..=20).find(|key| on_second(&mut other, *key)).unwrap();
    let here = (1..=20).find(|key| !on_second(&mut other, *key)).unwrap();
    good(&mut holder, "BEGIN");
    good(&mut holder, &format!("UPDATE t SET v = v WHERE k = {there}"));
    let mut dying = proxy().client();
    let change = Pipeline::new().query("ALTER TABLE t ADD COLUMN dead int");
    dying.send(change.bytes()).unwrap();
    // It has the lock of the home shard, and waits for that of the other.
    until("the change runs", || {
        let done_at_home = "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%ADD COLUMN dead%' \
                            AND state = 'idle in transaction' AND pid <> pg_backend_pid()";
        value(&mut other, done_at_home) == "1"
    });
    dying.kill();
    good(&mut other, "SET statement_timeout = '60s'");
    good(&mut other, &format!("UPDATE t SET v = v WHERE k = {here}"));
    good(&mut holder, "ROLLBACK");
    assert_eq!(code(&mut other, "SELECT dead FROM t"), "42703");
}
