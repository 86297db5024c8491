//! Pipelines of statements that the proxy answers itself: PostgreSQL makes each pipeline one transaction.

use testkit::client::{Answer, Client, Format, Pipeline};

use super::fixture::{Fixture, run, value};

const LOOK: &str = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('role') = session_user, \
    nullif(current_setting('my.a', true), ''), current_setting('transaction_isolation'), \
    (SELECT count(*) FROM t), (SELECT string_agg(c, ',') FROM pg_listening_channels() c))";

/// Each ends with one Sync.
const PIPELINES: &[&[&str]] = &[
    &["SET work_mem = '1MB'", "SELECT 1 / 0"],
    &["SET work_mem = '1MB'", "SELECT 1"],
    &["SELECT 1", "SET work_mem = '2MB'"],
    &["SET my.a = '1'", "INSERT INTO t VALUES (1)", "SELECT 1 / 0"],
    &[
        "INSERT INTO t VALUES (1)",
        "SET my.a = '1'",
        "SELECT no_such_function()",
    ],
    &["SET work_mem = '3MB'", "RESET work_mem", "SELECT 1 / 0"],
    &["RESET work_mem", "SELECT nonsense"],
    &["SET ROLE none", "SELECT 1 / 0"],
    &["SET work_mem = '4MB'", "ROLLBACK"],
    &["SET work_mem = '5MB'", "BEGIN", "ROLLBACK"],
    &["SET work_mem = '5MB'", "BEGIN", "COMMIT"],
    &["LISTEN a", "SELECT 1 / 0"],
    &["LISTEN b", "SELECT 1"],
    &["UNLISTEN b", "SELECT 1 / 0"],
    &["SET TRANSACTION READ ONLY", "INSERT INTO t VALUES (2)"],
    &[
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SELECT 1 / 0",
    ],
    &["DEALLOCATE nothing", "INSERT INTO t VALUES (3)"],
    &[
        "INSERT INTO t VALUES (3)",
        "DEALLOCATE nothing",
        "INSERT INTO t VALUES (3)",
    ],
    &["SET nonsense = 1", "INSERT INTO t VALUES (4)"],
    &["RELEASE nothing", "INSERT INTO t VALUES (4)"],
    &["BEGIN", "SET work_mem = '6MB'", "SELECT 1 / 0", "COMMIT"],
    &["ROLLBACK"],
    &[
        "BEGIN",
        "SELECT 1",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SELECT 1",
    ],
    &["ROLLBACK"],
    &["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"],
    &["INSERT INTO t VALUES (5)", "COMMIT"],
    &[
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "DEALLOCATE p",
        "INSERT INTO t VALUES (6)",
    ],
];

fn send(client: &mut Client, statements: &[&str], apart: bool) -> Answer {
    let mut pipeline = Pipeline::new();
    for sql in statements {
        pipeline = pipeline
            .parse("", sql, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0);
        if apart {
            client.send(pipeline.bytes()).unwrap();
            pipeline = Pipeline::new();
        }
    }
    client.send(pipeline.sync().bytes()).unwrap();
    client.collect(1).unwrap()
}

/// What must agree: states, tags, errors and the order of messages.
fn essence(answer: &Answer) -> String {
    let tags: Vec<_> = answer
        .results
        .iter()
        .filter_map(|result| result.tag.as_deref())
        .collect();
    let errors: Vec<_> = answer.errors.iter().map(|error| error.sqlstate()).collect();
    format!("{} {tags:?} {errors:?} {:?}", answer.shape, answer.ready)
}

fn compare(pinned: bool) {
    let fixture = Fixture::new(3, 1);
    run(&mut fixture.client(), "CREATE TABLE t (a int)");
    for apart in [false, true] {
        let (mut through, mut plain) = (fixture.client(), fixture.direct());
        run(&mut plain, "TRUNCATE t");
        if pinned {
            run(&mut through, "SELECT pg_advisory_lock(1)");
            run(&mut plain, "SELECT pg_advisory_lock(2)");
        }
        for statements in PIPELINES {
            let expected = send(&mut plain, statements, apart);
            let in_block = expected.ready == b"T" || expected.ready == b"E";
            let look = (!in_block).then(|| value(&mut plain, LOOK));
            // Both write the same table: what the oracle stored is taken away again.
            if !in_block {
                run(&mut fixture.direct(), "TRUNCATE t");
            }
            let answer = send(&mut through, statements, apart);
            assert_eq!(
                essence(&answer),
                essence(&expected),
                "{statements:?}, apart {apart}"
            );
            if let Some(look) = look {
                assert_eq!(
                    value(&mut through, LOOK),
                    look,
                    "after {statements:?}, apart {apart}"
                );
                run(&mut fixture.direct(), "TRUNCATE t");
            }
        }
    }
}

#[test]
fn a_pipeline_is_one_transaction() {
    compare(false);
}

/// What has left for the server cannot be joined any more: the Query is refused where that matters, and answered.
#[test]
fn a_query_behind_a_flush_is_answered() {
    let fixture = Fixture::new(1, 1);
    let mut client = fixture.client();
    run(&mut client, "CREATE TABLE t (a int)");
    let behind = |client: &mut Client, sql: &str| {
        let executed = Pipeline::new()
            .parse("", sql, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0);
        client.send(executed.flush().query("SELECT 5").bytes()).unwrap();
        client.collect(1).unwrap()
    };
    assert!(behind(&mut client, "SELECT count(*) FROM t").errors.is_empty());
    assert_eq!(
        behind(&mut client, "INSERT INTO t VALUES (1)").errors[0].sqlstate(),
        "0A000"
    );
    assert_eq!(value(&mut fixture.client(), "SELECT count(*) FROM t"), "0");
    assert_eq!(value(&mut client, "SELECT 7"), "7");
}

/// A Query before the Sync belongs to the pipeline's transaction; a statement prepared behind an error does not exist.
#[test]
fn what_comes_behind_an_error_or_before_the_sync() {
    let fixture = Fixture::new(2, 1);
    run(&mut fixture.client(), "CREATE TABLE t (a int)");
    for mut client in [fixture.direct(), fixture.client()] {
        run(&mut client, "TRUNCATE t");
        let insert = || {
            let parsed = Pipeline::new().parse("", "INSERT INTO t VALUES (1)", &[]);
            parsed.bind("", "", &[], Format::Text).execute("", 0)
        };
        client.send(insert().query("SELECT 1 / 0").bytes()).unwrap();
        let answer = client.collect(1).unwrap();
        assert_eq!(answer.errors.len(), 1, "{answer:?}");
        assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
        client.send(insert().query("SELECT 1").bytes()).unwrap();
        client.collect(1).unwrap();
        assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "1");
        let wrong = Pipeline::new()
            .parse("a", "selec 1", &[])
            .parse("b", "SELECT 1", &[]);
        client
            .send(wrong.parse("c", "SET work_mem = '1MB'", &[]).sync().bytes())
            .unwrap();
        assert_eq!(client.collect(1).unwrap().errors[0].sqlstate(), "42601");
        for name in ["b", "c"] {
            let bound = Pipeline::new()
                .bind("", name, &[], Format::Text)
                .execute("", 0)
                .sync();
            client.send(bound.bytes()).unwrap();
            assert_eq!(client.collect(1).unwrap().errors[0].sqlstate(), "26000", "{name}");
        }
    }
}

#[test]
fn so_it_is_on_a_connection_that_is_kept() {
    compare(true);
}
