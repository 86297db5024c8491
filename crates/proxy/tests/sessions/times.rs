//! Time-outs of statements over several shards: told like those of statements on one.

use std::time::Duration;

use testkit::client::{Client, Extended, Format, Pipeline};

use super::fixture::{Fixture, error, run, value};

const OVER_SHARDS: [&str; 3] = [
    "SELECT id, n FROM t ORDER BY id",
    "SELECT count(*), max(n) FROM t",
    "UPDATE t SET n = 1",
];

/// A sharded table, and a connection that keeps everybody else out of it on one of the shards.
fn locked(query_timeout: Duration) -> (Fixture, Client, Client) {
    let fixture = Fixture::configured(2, 4, 1, |config| config.timeouts.query = query_timeout);
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE t (id int PRIMARY KEY, n int) WITH (drover.shard_key = 'id')",
    );
    run(
        &mut client,
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)",
    );
    // What the proxy learns about the statements needs the table as well.
    for sql in OVER_SHARDS {
        run(&mut client, sql);
        assert_eq!(client.extended(&Extended::new(sql)).unwrap().errors, []);
    }
    let mut owner = fixture.admin();
    run(&mut owner, "BEGIN; LOCK TABLE t");
    (fixture, client, owner)
}

#[test]
fn a_time_out_over_several_shards_says_so() {
    let (_fixture, mut client, _owner) = locked(Duration::from_millis(500));
    let told = (
        "57014".to_owned(),
        "canceling statement after query_timeout".to_owned(),
    );
    for sql in OVER_SHARDS {
        assert_eq!(error(&mut client, sql), told, "{sql}");
        let answer = client.extended(&Extended::new(sql)).unwrap();
        let said = answer.error().expect("cancelled");
        assert_eq!(
            (said.sqlstate(), said.message()),
            ("57014", told.1.as_str()),
            "{sql}"
        );
    }
}

/// Neither what waits for a connection nor what is being planned has a server that could be sent a cancel.
#[test]
fn a_cancel_reaches_what_has_no_server_yet() {
    let fixture = Fixture::configured(1, 1, 1, |config| {
        config.pool.connection_timeout = Duration::from_secs(60)
    });
    let mut other = fixture.client();
    run(&mut other, "CREATE TABLE t (a int); BEGIN; SELECT 1");
    for sql in ["SELECT count(*) FROM t", "BEGIN; SELECT count(*) FROM t"] {
        let mut client = fixture.client();
        let canceller = client.canceller().unwrap();
        // Before there is anything to cancel, it is for nothing.
        canceller.cancel().unwrap();
        let waiting = std::thread::spawn(move || (error(&mut client, sql), client));
        while fixture.waiting() == 0 {}
        canceller.cancel().unwrap();
        let (said, mut client) = waiting.join().unwrap();
        assert_eq!(
            said,
            ("57014".into(), "canceling statement due to user request".into())
        );
        run(&mut client, "ROLLBACK");
        drop(client);
    }
    run(&mut other, "COMMIT");
    // Nothing of it is left.
    let mut client = fixture.client();
    let canceller = client.canceller().unwrap();
    canceller.cancel().unwrap();
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    // A pipeline that waits for its client in the middle is at rest as well.
    let begun = Pipeline::new().parse("p", "SELECT count(*) FROM t", &[]).flush();
    client.send(begun.bytes()).unwrap();
    client.next_message().unwrap();
    canceller.cancel().unwrap();
    let rest = Pipeline::new()
        .bind("", "p", &[], Format::Text)
        .execute("", 0)
        .sync();
    assert_eq!(client.run(rest).unwrap().value().as_deref(), Some("0"));
}

#[test]
fn a_cancel_over_several_shards_is_the_clients_own() {
    let (fixture, mut client, _owner) = locked(Duration::from_secs(60));
    let canceller = client.canceller().unwrap();
    let asking = std::thread::spawn(move || error(&mut client, OVER_SHARDS[0]));
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    let mut watcher = fixture.admin();
    while value(&mut watcher, waits) == "0" {}
    canceller.cancel().unwrap();
    let said = asking.join().unwrap();
    assert_eq!(
        said,
        ("57014".into(), "canceling statement due to user request".into())
    );
}
