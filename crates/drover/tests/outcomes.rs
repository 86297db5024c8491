//! What became of a transaction, asked by its name.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::ProxySite;

const PATIENCE: Duration = Duration::from_secs(30);

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")))
}

fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

fn value(client: &mut Client, sql: &str) -> String {
    run(client, sql).value().unwrap_or_default()
}

fn code(client: &mut Client, sql: &str) -> String {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer
        .error()
        .map(|error| error.sqlstate().to_owned())
        .unwrap_or_default()
}

fn id(client: &mut Client) -> String {
    value(client, "SELECT drover.current_transaction_id()")
}

fn status(client: &mut Client, id: &str) -> String {
    value(client, &format!("SELECT drover.transaction_status('{id}')"))
}

fn table(client: &mut Client) {
    run(
        client,
        "CREATE TABLE t (k bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'k')",
    );
    let rows: Vec<String> = (0..30).map(|k| format!("({k}, 0)")).collect();
    run(client, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
}

#[test]
fn the_outcome_of_every_kind_of_transaction_can_be_asked() {
    let site = site();
    let (one, other) = (site.start("one"), site.start("other"));
    let (mut client, mut asker) = (one.client(), other.client());
    table(&mut client);
    for (work, ends, outcome) in [
        // Nothing but the name; one shard, which decides or does not; all shards.
        ("SELECT 1", "COMMIT", "committed"),
        ("SELECT * FROM t WHERE k = 1", "COMMIT", "committed"),
        ("UPDATE t SET v = v + 1 WHERE k = 1", "COMMIT", "committed"),
        ("UPDATE t SET v = v + 1 WHERE k = 2", "COMMIT", "committed"),
        ("UPDATE t SET v = v + 1", "COMMIT", "committed"),
        ("CREATE TABLE made_here (a int)", "COMMIT", "committed"),
        ("UPDATE t SET v = v + 1 WHERE k = 1", "ROLLBACK", "aborted"),
        ("UPDATE t SET v = v + 1", "ROLLBACK", "aborted"),
    ] {
        for first in [true, false] {
            if !first && work.starts_with("CREATE") {
                continue;
            }
            run(&mut client, "BEGIN");
            let early = first.then(|| id(&mut client));
            run(&mut client, work);
            let id = early.unwrap_or_else(|| id(&mut client));
            assert_eq!(id, self::id(&mut client), "the name stays");
            assert_eq!(status(&mut asker, &id), "in progress", "{work}");
            // To be asked does no harm.
            assert_eq!(status(&mut asker, &id), "in progress", "{work}");
            let tags = run(&mut client, ends);
            assert_eq!(tags.tags(), [ends], "{work}");
            assert_eq!(status(&mut asker, &id), outcome, "{work}, {ends}");
            assert_eq!(status(&mut client, &id), outcome, "{work}, {ends}");
        }
    }
    let sum = value(&mut client, "SELECT sum(v) FROM t");
    assert_eq!(sum, "64", "2 + 2 + 60 updates committed");
}

#[test]
fn a_transaction_that_failed_or_whose_client_is_gone_is_aborted() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    table(&mut client);
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE t SET v = 1");
    let failed = id(&mut client);
    assert_eq!(code(&mut client, "SELECT 1 / 0"), "22012");
    assert_eq!(run(&mut client, "COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(status(&mut client, &failed), "aborted");

    let mut gone = proxy.client();
    run(&mut gone, "BEGIN");
    run(&mut gone, "UPDATE t SET v = 1");
    let left = id(&mut gone);
    gone.kill();
    let deadline = Instant::now() + PATIENCE;
    while status(&mut client, &left) != "aborted" {
        assert!(Instant::now() < deadline, "still in progress");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "0");
}

#[test]
fn whoever_was_told_that_it_is_aborted_is_right() {
    let site = site();
    let proxy = site.start("one");
    let (mut client, mut asker) = (proxy.client(), proxy.client());
    table(&mut client);
    run(&mut client, "BEGIN");
    run(&mut client, "SAVEPOINT s");
    let id = id(&mut client);
    // The mark by which others see it run is gone with the savepoint.
    run(&mut client, "ROLLBACK TO s");
    run(&mut client, "UPDATE t SET v = 1");
    assert_eq!(status(&mut asker, &id), "aborted");
    // So it must not commit.
    assert_ne!(code(&mut client, "COMMIT"), "");
    assert_eq!(status(&mut asker, &id), "aborted");
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "0");
}

#[test]
fn names_are_refused_where_they_would_mean_nothing() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    table(&mut client);
    assert_eq!(
        code(&mut client, "SELECT drover.current_transaction_id()"),
        "25P01"
    );
    assert_eq!(
        code(&mut client, "SELECT drover.current_transaction_id(); SELECT 1"),
        "25P01"
    );
    run(&mut client, "BEGIN READ ONLY");
    assert_eq!(
        code(&mut client, "SELECT drover.current_transaction_id()"),
        "25006"
    );
    run(&mut client, "ROLLBACK");
    assert_eq!(
        code(&mut client, "SELECT drover.transaction_status('x')"),
        "22023"
    );
    assert_eq!(
        code(
            &mut client,
            "SELECT drover.transaction_status('drover:1:77:00000000000000000000000000000000')"
        ),
        "08006"
    );
    run(&mut client, "BEGIN");
    id(&mut client);
    assert_eq!(code(&mut client, "PREPARE TRANSACTION 'mine'"), "0A000");
    run(&mut client, "ROLLBACK");
    // One of which nobody knows anything will never be.
    let strange = "drover:1:1:00000000000000000000000000000000";
    assert_eq!(status(&mut client, strange), "aborted");
}

#[test]
fn what_is_in_doubt_is_listed_until_it_is_finished() {
    let site = site();
    let proxy = site.start("one");
    let mut client = proxy.client();
    table(&mut client);
    let rows = |client: &mut Client| run(client, "SELECT * FROM drover.transactions").text_rows();
    assert_eq!(rows(&mut client), Vec::<Vec<Option<String>>>::new());
    // As a proxy leaves it that dies between PREPARE and the decision.
    let gid = "drover:1:1:00000000000000000000000000000001";
    let cluster = TestCluster::shared(3);
    let shard = &cluster.info().shards[1].primary;
    let prepare = format!("BEGIN; CREATE TABLE left_behind (a int); PREPARE TRANSACTION '{gid}'");
    cluster.on_node(shard, site.database(), &prepare);
    let found = rows(&mut client);
    let shown: Vec<Option<&str>> = found[0].iter().take(5).map(Option::as_deref).collect();
    let owner = cluster.info().admin_user.as_str();
    let expected = [gid, owner, "shard_1", "none", "shard_2"].map(Some);
    assert_eq!(shown, expected);
    assert_eq!(status(&mut client, gid), "in progress");
    // Recovery looks every now and then, and gives up on its proxy after ten seconds.
    let deadline = Instant::now() + 2 * PATIENCE;
    while !rows(&mut client).is_empty() {
        assert!(Instant::now() < deadline, "never finished");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status(&mut client, gid), "aborted");
}
