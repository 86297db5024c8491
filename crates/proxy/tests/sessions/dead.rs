//! Servers that died while nobody used them are no client's business, whatever protocol it speaks.

use testkit::client::{Answer, Client, ClientError, Format, Parameter, Pipeline};

use super::fixture::{Fixture, run, value};

const POINT: &str = "SELECT v FROM t WHERE id = $1";
const SUM: &str = "SELECT sum(v) FROM t";

fn in_one(client: &mut Client, statement: &str, values: &[Parameter]) -> Answer {
    let bound = Pipeline::new().bind("", statement, values, Format::Text);
    client.run(bound.execute("", 0).sync()).unwrap()
}

/// Every way to ask; the first touches the servers that died.
fn ask(client: &mut Client, way: usize) -> Answer {
    let key = Parameter::text("2");
    match way {
        0 => client.simple("SELECT v FROM t WHERE id = 2").unwrap(),
        1 => client.simple(SUM).unwrap(),
        2 => {
            let parsed = Pipeline::new()
                .parse("", POINT, &[])
                .bind("", "", &[key], Format::Text);
            client
                .run(parsed.describe_portal("").execute("", 0).sync())
                .unwrap()
        }
        3 => in_one(client, "point", &[key]),
        4 => in_one(client, "sum", &[]),
        5 => {
            let described = Pipeline::new().describe_statement("point").sync();
            let answer = client.run(described).unwrap();
            assert_eq!(answer.errors, []);
            in_one(client, "point", &[key])
        }
        _ => {
            let twice = Pipeline::new()
                .bind("", "point", std::slice::from_ref(&key), Format::Text)
                .execute("", 0)
                .bind("", "point", &[key], Format::Text)
                .execute("", 0);
            client.run(twice.sync()).unwrap()
        }
    }
}

/// Ends all idle servers of clients, and waits until they are gone.
fn end_idle(fixture: &Fixture, shards: usize) {
    for shard in 0..shards {
        let mut admin = fixture.admin_of(shard);
        let theirs = "FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user";
        run(
            &mut admin,
            &format!("SELECT pg_terminate_backend(pid, 10000) {theirs}"),
        );
        assert_eq!(value(&mut admin, &format!("SELECT count(*) {theirs}")), "0");
    }
}

fn check(shards: u16) {
    let fixture = Fixture::over(shards, 3, 2);
    let mut client = fixture.client();
    let sharded = if shards > 1 {
        "WITH (drover.shard_key = 'id')"
    } else {
        ""
    };
    run(
        &mut client,
        &format!("CREATE TABLE t (id int PRIMARY KEY, v int) {sharded}"),
    );
    run(
        &mut client,
        "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40)",
    );
    for (name, sql) in [("point", POINT), ("sum", SUM)] {
        let answer = client.run(
            Pipeline::new()
                .parse(name, sql, &[])
                .describe_statement(name)
                .sync(),
        );
        assert_eq!(answer.unwrap().errors, []);
    }
    for way in 0..7 {
        let expected = if matches!(way, 1 | 4) { "100" } else { "20" };
        for turn in ["before", "after"] {
            let answer = ask(&mut client, way);
            assert_eq!(answer.errors, [], "{shards} shards, way {way}, {turn}");
            assert_eq!(answer.value().as_deref(), Some(expected));
            if turn == "before" {
                end_idle(&fixture, usize::from(shards));
            }
        }
    }
}

/// The server dies while it works: the statement is lost, the session is not, and a name that was not confirmed is free.
#[test]
fn a_server_that_dies_at_work_costs_the_pipeline() {
    for shards in [1, 2] {
        let fixture = Fixture::over(shards, 2, 1);
        let mut client = fixture.client();
        client
            .run(Pipeline::new().parse("s", "SELECT $1::int", &[]).sync())
            .unwrap();
        let slow = |name| {
            let parse = Pipeline::new().parse(name, "SELECT pg_sleep(60)", &[]);
            parse.bind("", name, &[], Format::Text).execute("", 0).sync()
        };
        for (name, block) in [("", false), ("new", false), ("new", true)] {
            if block {
                run(&mut client, "BEGIN");
            }
            client.send(slow(name).bytes()).unwrap();
            let asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                          AND wait_event = 'PgSleep'";
            while value(&mut fixture.admin(), asleep) == "0" {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            fixture.end_backends("SELECT pg_sleep%");
            let lost = client.collect(1).unwrap();
            assert_eq!(
                lost.error().map(|error| error.sqlstate()),
                Some("57P01"),
                "{name}"
            );
            assert_eq!(lost.status(), if block { b'E' } else { b'I' });
            if block {
                run(&mut client, "ROLLBACK");
            }
            let again = client
                .run(Pipeline::new().parse(name, "SELECT 1", &[]).sync())
                .unwrap();
            let confirmed = lost.shape.starts_with('1');
            let expected = if confirmed && !name.is_empty() {
                Some("42P05")
            } else {
                None
            };
            assert_eq!(again.error().map(|error| error.sqlstate()), expected, "{lost:?}");
            client.run(Pipeline::new().close_statement(name).sync()).unwrap();
            assert_eq!(
                in_one(&mut client, "s", &[Parameter::text("5")])
                    .value()
                    .as_deref(),
                Some("5")
            );
        }
    }
}

/// A client that has got half of a long row gets nothing else any more.
#[test]
fn nothing_follows_half_a_row() {
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    let sql = "SELECT repeat('x', 50000000)";
    client.send(Pipeline::new().query(sql).bytes()).unwrap();
    // The server cannot send all of it before somebody reads.
    let sending = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event = 'ClientWrite'";
    while value(&mut fixture.admin(), sending) == "0" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    fixture.end_backends("SELECT repeat%");
    let end = client.collect(1);
    assert!(
        matches!(end, Err(ClientError::Closed(None))),
        "the connection has to end"
    );
}

#[test]
fn idle_servers_that_died_are_nobodys_business() {
    check(1);
    check(2);
}

/// The first thing that finds the server dead is a question of the proxy's own, here because the schema has changed: the
/// block is lost with it, and can be left.
#[test]
fn a_block_whose_server_died_can_be_left() {
    for shards in [1, 2] {
        let fixture = Fixture::over(shards, 3, 1);
        let (mut client, mut other) = (fixture.client(), fixture.client());
        for name in ["a", "b"] {
            run(&mut client, "BEGIN");
            run(&mut client, "SELECT 1");
            run(&mut other, &format!("CREATE TABLE {name} (v int)"));
            fixture.end_backends("SELECT 1");
            let lost = client.simple("SELECT 2").unwrap();
            assert_eq!(lost.error().map(|error| error.sqlstate()), Some("57P01"));
            assert_eq!(lost.status(), b'E');
            run(&mut client, "ROLLBACK");
            assert_eq!(value(&mut client, "SELECT 3"), "3");
        }
    }
}

/// What a session is pinned for is gone with its server: the session must not go on as if it had it.
#[test]
fn a_pinned_session_ends_with_its_server() {
    for block in [true, false] {
        let fixture = Fixture::over(2, 3, 1);
        let (mut client, mut other) = (fixture.client(), fixture.client());
        run(&mut client, "SELECT pg_advisory_lock(7)");
        run(&mut client, if block { "BEGIN" } else { "SELECT 1" });
        run(&mut client, "SELECT 1");
        run(&mut other, "CREATE TABLE a (v int)");
        fixture.end_backends("SELECT 1");
        // An idle session may have ended before it says anything.
        let end = client.simple("SELECT 2");
        assert!(
            matches!(end, Err(ClientError::Closed(_) | ClientError::Io(_))),
            "{block}: {end:?}"
        );
        run(&mut other, "SELECT pg_advisory_lock(7)");
    }
}
