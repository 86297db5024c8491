//! Settings made by code inside a block hold on every shard of the block.

use testkit::client::{Answer, Client};

use super::fixture::{Fixture, run, value};

/// One row of each shard at a time: whatever the planner makes of the query, each shard answers for itself.
fn per_key(client: &mut Client) -> Vec<String> {
    let one = |k: i32| {
        format!(
            "SELECT concat(current_setting('app.tenant', true), '|', current_setting('TimeZone'), '|', \
             current_setting('work_mem')) FROM spread WHERE k = {k}"
        )
    };
    let mut seen: Vec<String> = (1..=12).map(|k| value(client, &one(k))).collect();
    seen.sort();
    seen.dedup();
    seen
}

const SETUP: &str = "CREATE TABLE spread (k int PRIMARY KEY)";

fn fixture() -> Fixture {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    run(&mut client, SETUP);
    run(&mut client, "SELECT drover.shard_table('spread', 'k')");
    run(
        &mut client,
        "INSERT INTO spread VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12)",
    );
    fixture
}

#[test]
fn what_code_sets_in_a_block_holds_on_every_shard() {
    let fixture = fixture();
    let scenes: &[(&[&str], &str)] = &[
        (&["SELECT set_config('app.tenant', '2', true)"], "2|Etc/UTC|4MB"),
        (
            &[
                "SELECT count(*) FROM spread",
                "SELECT set_config('app.tenant', '3', true)",
            ],
            "3|Etc/UTC|4MB",
        ),
        (
            &["SELECT set_config('TimeZone', 'Asia/Tokyo', false)"],
            "|Asia/Tokyo|4MB",
        ),
        (
            &["DO $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$"],
            "|Asia/Tokyo|4MB",
        ),
        (
            &[
                "DO $$ BEGIN SET TimeZone = 'Asia/Seoul'; END $$",
                "SELECT set_config('app.tenant', '4', true)",
            ],
            "4|Asia/Seoul|4MB",
        ),
        (
            &["SET work_mem = '1MB'", "DO $$ BEGIN RESET work_mem; END $$"],
            "|Etc/UTC|4MB",
        ),
        (
            &[
                "SELECT set_config('app.tenant', '2', true)",
                "SELECT set_config('app.tenant', '', true)",
            ],
            "|Etc/UTC|4MB",
        ),
        (
            &[
                "SELECT set_config('work_mem', '2MB', true)",
                "SELECT count(*) FROM spread",
                "SELECT set_config('work_mem', '4MB', true)",
            ],
            "|Etc/UTC|4MB",
        ),
        (
            &[
                "SELECT set_config('TimeZone', 'Asia/Tokyo', true)",
                "SELECT set_config('TimeZone', 'Etc/UTC', true)",
            ],
            "|Etc/UTC|4MB",
        ),
        (
            &[
                "SET LOCAL work_mem = '2MB'",
                "SELECT count(*) FROM spread",
                "DO $$ BEGIN RESET work_mem; END $$",
            ],
            "|Etc/UTC|4MB",
        ),
        (
            &[
                "SAVEPOINT s",
                "SELECT set_config('app.tenant', '5', true)",
                "ROLLBACK TO s",
            ],
            "|Etc/UTC|4MB",
        ),
    ];
    for (scene, expected) in scenes {
        let mut client = fixture.client();
        run(&mut client, "SET TimeZone = 'Etc/UTC'");
        run(&mut client, "BEGIN");
        for sql in *scene {
            run(&mut client, sql);
        }
        assert_eq!(per_key(&mut client), [expected.to_owned()], "{scene:?}");
        run(&mut client, "ROLLBACK");
        assert_eq!(per_key(&mut client), ["|Etc/UTC|4MB"], "after {scene:?}");
    }
}

#[test]
fn what_nobody_can_see_is_refused_on_another_shard() {
    let fixture = fixture();
    let mut client = fixture.client();
    run(&mut client, "BEGIN");
    run(&mut client, "SELECT set_config('app.' || 'tenant', '7', true)");
    let ask = |k: i32| format!("SELECT current_setting('app.tenant') FROM spread WHERE k = {k}");
    let answers: Vec<_> = (1..=12).map(|k| client.simple(&ask(k)).unwrap()).collect();
    let code = |answer: &Answer| answer.error().map(|error| error.sqlstate().to_owned());
    assert!(
        answers
            .iter()
            .any(|answer| code(answer).as_deref() == Some("0A000")),
        "{answers:?}"
    );
}

/// What lasts beyond the block lasts on every shard, whatever the other servers of the block had.
#[test]
fn what_code_sets_lasts_on_every_shard() {
    let fixture = fixture();
    for scene in [
        &["DO $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$"][..],
        &[
            "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
            "DO $$ BEGIN NULL; END $$",
        ],
    ] {
        let mut client = fixture.client();
        run(&mut client, "SET TimeZone = 'Etc/UTC'");
        run(&mut client, "BEGIN");
        run(&mut client, "SELECT count(*) FROM spread");
        for sql in scene {
            run(&mut client, sql);
        }
        assert_eq!(per_key(&mut client), ["|Asia/Tokyo|4MB"], "{scene:?}");
        run(&mut client, "COMMIT");
        assert_eq!(per_key(&mut client), ["|Asia/Tokyo|4MB"], "after {scene:?}");
    }
}

/// Outside of blocks it is no other: the home connection has what no other shard can be brought to.
#[test]
fn nor_is_it_ignored_outside_of_blocks() {
    let fixture = fixture();
    for sql in [
        "SELECT set_config('app.' || 'tenant', '7', false)",
        "DO $$ BEGIN SET app.tenant = '7'; END $$",
    ] {
        let mut client = fixture.client();
        run(&mut client, sql);
        for k in 1..=12 {
            let answer = client
                .simple(&format!(
                    "SELECT current_setting('app.tenant') FROM spread WHERE k = {k}"
                ))
                .unwrap();
            let refused = answer.error().is_some_and(|error| error.sqlstate() == "0A000");
            assert!(
                refused || answer.text_rows() == [[Some("7".to_owned())]],
                "{sql}: {answer:?}"
            );
        }
    }
}

/// A prepared statement means what its names mean when it is run.
#[test]
fn a_prepared_statement_follows_the_search_path() {
    use testkit::client::{Format, Pipeline};
    let fixture = fixture();
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE SCHEMA other; CREATE TABLE other.spread (k int); INSERT INTO other.spread VALUES (100)",
    );
    let parse = Pipeline::new()
        .parse("p", "SELECT count(*), max(k) FROM spread", &[])
        .sync();
    let execute = |client: &mut Client| {
        client
            .send(
                Pipeline::new()
                    .bind("", "p", &[], Format::Text)
                    .execute("", 0)
                    .sync()
                    .bytes(),
            )
            .unwrap();
        let answer = client.collect(1).unwrap();
        format!("{:?}{:?}", answer.text_rows(), answer.errors)
    };
    for (first, second) in [("public", "other, public"), ("other, public", "public")] {
        let mut client = fixture.client();
        run(&mut client, &format!("SET search_path = {first}"));
        client.send(parse.bytes()).unwrap();
        client.collect(1).unwrap();
        let all = "[[Some(\"12\"), Some(\"12\")]][]";
        let one = "[[Some(\"1\"), Some(\"100\")]][]";
        let expected = if first == "public" {
            [all, one, all]
        } else {
            [one, all, one]
        };
        let mut seen = vec![execute(&mut client)];
        for path in [second, first] {
            run(&mut client, &format!("SET search_path = {path}"));
            seen.push(execute(&mut client));
        }
        assert_eq!(seen, expected);
    }
}
