//! Which rows a shard itself refuses, whoever writes to it. What else it refuses: `crates/drover/tests/guards.rs`.

use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

const MISPLACED: &str = "23000";

/// Keys of which each shard has some.
fn rows(table: &str) -> String {
    let rows: Vec<String> = (1..=40).map(|id| format!("({id}, 'v')")).collect();
    format!("INSERT INTO {table} VALUES {}", rows.join(", "))
}

/// A key of the table that this shard has.
fn own_key(admin: &mut Client) -> String {
    value(admin, "SELECT min(id) FROM t")
}

/// No row of the table can be stored on the wrong shard, and every row on its own.
fn check(fixture: &Fixture, title: &str) {
    let (mut here, mut there) = (fixture.admin_of(0), fixture.admin_of(1));
    for admin in [&mut here, &mut there] {
        // Nobody sees it among the table's own triggers.
        let shown = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'drover%' AND NOT tgisinternal";
        assert_eq!(value(admin, shown), "0", "{title}");
    }
    let (own, other) = (own_key(&mut here), own_key(&mut there));
    for (admin, own, other) in [(&mut here, &own, &other), (&mut there, &other, &own)] {
        let bad = [
            format!("INSERT INTO t VALUES ({other}, 'bad')"),
            format!("INSERT INTO t VALUES ({own}, 'good'), ({other}, 'bad')"),
            format!("INSERT INTO t VALUES ({other}, 'bad') ON CONFLICT (id) DO UPDATE SET v = 'bad'"),
            format!("UPDATE t SET id = {other} WHERE id = {own}"),
            format!(
                "MERGE INTO t USING (VALUES ({other})) n(id) ON t.id = n.id \
                     WHEN NOT MATCHED THEN INSERT VALUES (n.id, 'bad')"
            ),
        ];
        for sql in bad {
            let (code, text) = error(admin, &sql);
            // Of two rows the good one may be there already.
            assert!(
                code == MISPLACED || code == "23505",
                "{title}: {sql}: {code} {text}"
            );
        }
        run(admin, &format!("DELETE FROM t WHERE id = {own}"));
        run(admin, &format!("INSERT INTO t VALUES ({own}, 'back')"));
        run(admin, &format!("UPDATE t SET v = 'again' WHERE id = {own}"));
        // Rows that arrive by logical replication are on their way to another owner.
        run(admin, "BEGIN; SET LOCAL session_replication_role = replica");
        run(admin, &format!("INSERT INTO t VALUES ({other}, 'copied')"));
        run(admin, "ROLLBACK");
    }
    assert_eq!(
        value(&mut fixture.client(), "SELECT count(*) FROM t"),
        "40",
        "{title}"
    );
}

#[test]
fn no_row_is_stored_on_the_wrong_shard() {
    let rows = rows("t");
    let ways: [(&str, &[&str]); 2] = [
        (
            "created sharded",
            &[
                "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (drover.shard_key = 'id')",
                &rows,
            ],
        ),
        (
            "moved",
            &[
                "CREATE TABLE t (id int PRIMARY KEY, v text)",
                &rows,
                "SELECT drover.shard_table('t', 'id')",
            ],
        ),
    ];
    for (title, statements) in ways {
        let fixture = Fixture::over(2, 3, 1);
        let mut client = fixture.client();
        for sql in statements {
            run(&mut client, sql);
        }
        check(&fixture, title);
    }
}

/// The rows of one key belong to several shards, each row to one of them.
#[test]
fn no_row_of_a_salted_key_is_stored_on_the_wrong_shard() {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    for sql in [
        "CREATE TABLE t (page int, id int, v text, PRIMARY KEY (page, id)) WITH (drover.shard_key = 'page', drover.salt = 8)",
        "INSERT INTO t SELECT 7, g, 'v' FROM generate_series(1, 40) g",
    ] {
        run(&mut client, sql);
    }
    let mut shards = [fixture.admin_of(0), fixture.admin_of(1)];
    let own = shards.each_mut().map(own_key);
    for (at, admin) in shards.iter_mut().enumerate() {
        let (own, other) = (&own[at], &own[1 - at]);
        for sql in [
            format!("INSERT INTO t VALUES (7, {other}, 'bad')"),
            format!("UPDATE t SET id = {other} WHERE id = {own}"),
            format!(
                "INSERT INTO t VALUES (7, {other}, 'bad') ON CONFLICT (page, id) DO UPDATE SET v = 'bad'"
            ),
        ] {
            assert_eq!(error(admin, &sql).0, MISPLACED, "{sql}");
        }
        run(
            admin,
            &format!("UPDATE t SET v = 'again' WHERE page = 7 AND id = {own}"),
        );
    }
    let count = "SELECT count(*) FROM t WHERE page = 7";
    assert_eq!(value(&mut client, count), "40");
    let found = run(&mut client, "SELECT * FROM drover.tables").text_rows();
    assert_eq!(found[0].last(), Some(&Some("8 by id".to_owned())), "{found:?}");
    let (code, text) = error(
        &mut client,
        "SELECT drover.pin_key('t', '(7,1)', shard => 'shard_1')",
    );
    assert_eq!(code, "0A000", "{text}");
}

/// Names of any kind, and nothing is left of a table that is gone.
#[test]
fn a_guard_knows_its_table_and_goes_with_it() {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    let table = "\"o'cl\\ock\"";
    run(
        &mut client,
        &format!(
            "CREATE TABLE {table} (\"i d\" int PRIMARY KEY, v text) WITH (drover.shard_key = '\"i d\"')"
        ),
    );
    run(&mut client, &rows(table));
    let own = |shard| {
        value(
            &mut fixture.admin_of(shard),
            &format!("SELECT min(\"i d\") FROM {table}"),
        )
    };
    for shard in 0..2 {
        let bad = format!("INSERT INTO {table} VALUES ({}, 'bad')", own(1 - shard));
        let (code, text) = error(&mut fixture.admin_of(shard), &bad);
        assert_eq!(
            (code.as_str(), text.as_str()),
            (
                MISPLACED,
                "a row of table \"o'cl\\ock\" does not belong on this shard"
            )
        );
    }
    // Somebody removed one: a proxy that starts makes it again.
    let guards = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'drover%'";
    let mut admin = fixture.admin_of(1);
    run(&mut admin, "SET session_replication_role = replica");
    run(&mut admin, &format!("DROP TRIGGER drover_guard ON {table}"));
    let (second, _) = fixture.another("second");
    let deadline = Instant::now() + Duration::from_secs(60);
    while value(&mut admin, guards) != "2" {
        assert!(Instant::now() < deadline, "no guard");
        std::thread::sleep(Duration::from_millis(20));
    }
    second.shutdown();
    run(&mut client, &format!("DROP TABLE {table}"));
    for shard in 0..2 {
        assert_eq!(value(&mut fixture.admin_of(shard), guards), "0");
    }
}
