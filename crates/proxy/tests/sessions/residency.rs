//! Regions: what a shard refuses to hold, whoever writes it and however; and the guards of keys of several columns.

use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

const CHECK: &str = "23514";

/// Names of the shards, in the order of the fixture's.
fn shards(client: &mut Client) -> Vec<String> {
    let answer = client.simple("SELECT * FROM drover.shards").unwrap();
    let names = answer.text_rows().into_iter();
    names.map(|row| row[0].clone().unwrap()).collect()
}

fn fails(client: &mut Client, sql: &str, expect: &str) {
    let (code, text) = error(client, sql);
    assert_eq!(code, expect, "{sql}: {text}");
}

/// Whoever sees a change of the map first makes the guards: waits until they are there on both shards.
fn guarded(fixture: &Fixture, has: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    for shard in 0..2 {
        let mut admin = fixture.admin_of(shard);
        while value(&mut admin, &format!("SELECT count(*) FROM {has}")) != "1" {
            assert!(Instant::now() < deadline, "no guard on shard {shard}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const RESIDENCY: &str = "pg_constraint WHERE conname = 'drover_residency'";

#[test]
fn a_region_cannot_be_stored_on_another_shard() {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    let names = shards(&mut client);
    let places = format!("{} = eu; {} = us", names[0], names[1]);
    run(
        &mut client,
        "CREATE TABLE moved (region text, id int, PRIMARY KEY (region, id))",
    );
    run(
        &mut client,
        "INSERT INTO moved VALUES ('eu', 1), ('us', 2), ('fr', 3)",
    );
    let shard =
        format!("SELECT drover.shard_table('moved', key => 'region', scheme => 'geo', places => '{places}')");
    // A row that would be nowhere: nothing has changed.
    fails(&mut client, &shard, CHECK);
    assert_eq!(value(&mut client, "SELECT count(*) FROM moved"), "3");
    run(&mut client, "DELETE FROM moved WHERE region = 'fr'");
    run(&mut client, &shard);
    run(
        &mut client,
        &format!(
            "CREATE TABLE made (region text, id int) WITH (drover.shard_key = 'region', drover.scheme = 'geo', \
             drover.places = '{places}')"
        ),
    );
    run(&mut client, "INSERT INTO made VALUES ('eu', 1), ('us', 2)");
    for (shard, own, other) in [(0, "eu", "us"), (1, "us", "eu")] {
        let mut admin = fixture.admin_of(shard);
        for table in ["moved", "made"] {
            let rows = format!("SELECT string_agg(region, ',') FROM {table}");
            assert_eq!(value(&mut admin, &rows), own, "{table}");
            for region in [other, "fr", "EU", ""] {
                fails(
                    &mut admin,
                    &format!("INSERT INTO {table} VALUES ('{region}', 9)"),
                    CHECK,
                );
                fails(
                    &mut admin,
                    &format!("UPDATE {table} SET region = '{region}'"),
                    CHECK,
                );
                // As rows of logical replication are written.
                run(&mut admin, "BEGIN; SET LOCAL session_replication_role = replica");
                fails(
                    &mut admin,
                    &format!("INSERT INTO {table} VALUES ('{region}', 9)"),
                    CHECK,
                );
                run(&mut admin, "ROLLBACK");
            }
            run(&mut admin, &format!("INSERT INTO {table} VALUES ('{own}', 9)"));
            // Nobody drops it by the way, and no dump contains it.
            fails(
                &mut admin,
                &format!("ALTER TABLE {table} DROP CONSTRAINT drover_residency"),
                "42P16",
            );
        }
        fails(&mut admin, "INSERT INTO made VALUES (NULL, 9)", CHECK);
    }
    fails(&mut client, "INSERT INTO moved VALUES ('fr', 3)", CHECK);
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM moved WHERE region = 'fr'"),
        "0"
    );
}

#[test]
fn a_region_is_listed_by_a_pin() {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    let names = shards(&mut client);
    let places = format!("{} = eu; {} = us", names[0], names[1]);
    run(
        &mut client,
        &format!(
            "CREATE TABLE t (region text, id int) WITH (drover.shard_key = 'region', drover.scheme = 'geo', \
             drover.places = '{places}')"
        ),
    );
    for (at, region) in [(0, "fr"), (1, "ca")] {
        fails(
            &mut client,
            &format!("INSERT INTO t VALUES ('{region}', 1)"),
            CHECK,
        );
        run(
            &mut client,
            &format!("SELECT drover.pin_key('t', '{region}', shard => '{}')", names[at]),
        );
        guarded(&fixture, RESIDENCY);
        run(&mut client, &format!("INSERT INTO t VALUES ('{region}', 1)"));
        assert_eq!(
            value(&mut fixture.admin_of(at), "SELECT string_agg(region, ',') FROM t"),
            region
        );
        fails(
            &mut fixture.admin_of(1 - at),
            &format!("INSERT INTO t VALUES ('{region}', 1)"),
            CHECK,
        );
        // Its rows would be nowhere.
        let unpin = format!("SELECT drover.unpin_key('t', '{region}')");
        fails(&mut client, &unpin, "0A000");
        run(&mut client, &format!("DELETE FROM t WHERE region = '{region}'"));
        run(&mut client, &format!("SELECT drover.unpin_key('t', '{region}')"));
        guarded(&fixture, RESIDENCY);
        for shard in 0..2 {
            fails(
                &mut fixture.admin_of(shard),
                &format!("INSERT INTO t VALUES ('{region}', 1)"),
                CHECK,
            );
        }
    }
}

#[test]
fn a_key_of_several_columns_is_guarded_and_pinned() {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    let names = shards(&mut client);
    run(
        &mut client,
        "CREATE TABLE t (a int, b text, v int, PRIMARY KEY (b, a))",
    );
    run(
        &mut client,
        "INSERT INTO t SELECT g % 10, 'b' || g, g FROM generate_series(1, 40) g",
    );
    run(&mut client, "SELECT drover.shard_table('t', key => 'a, b')");
    let first = "SELECT min(format('%s,%L', a, b)) FROM t";
    for shard in 0..2 {
        let other = value(&mut fixture.admin_of(1 - shard), first);
        let mut admin = fixture.admin_of(shard);
        fails(&mut admin, &format!("INSERT INTO t VALUES ({other}, 1)"), "23000");
        // Half a key of another row.
        run(&mut admin, "BEGIN");
        fails(
            &mut admin,
            &format!("UPDATE t SET (a, b) = ROW({other}) WHERE v = (SELECT min(v) FROM t)"),
            "23000",
        );
        run(&mut admin, "ROLLBACK");
    }
    // A key that has a row: the row goes with it.
    for at in [0, 1] {
        run(
            &mut client,
            &format!("SELECT drover.pin_key('t', '(1,b1)', shard => '{}')", names[at]),
        );
        let row = "SELECT count(*) FROM t WHERE a = 1 AND b = 'b1'";
        assert_eq!(value(&mut fixture.admin_of(at), row), "1");
        assert_eq!(value(&mut fixture.admin_of(1 - at), row), "0");
        assert_eq!(
            value(&mut client, "SELECT v FROM t WHERE b = 'b1' AND a = 1"),
            "1"
        );
    }
    for at in [0, 1, 0] {
        run(
            &mut client,
            &format!(
                "SELECT drover.pin_key('t', '(7,\"x, y\")', shard => '{}')",
                names[at]
            ),
        );
        run(&mut client, "INSERT INTO t VALUES (7, 'x, y', 0)");
        assert_eq!(
            value(
                &mut fixture.admin_of(at),
                "SELECT count(*) FROM t WHERE b = 'x, y'"
            ),
            "1"
        );
        assert_eq!(
            value(&mut client, "SELECT v FROM t WHERE b = 'x, y' AND a = 7"),
            "0"
        );
        run(&mut client, "DELETE FROM t WHERE b = 'x, y' AND a = 7");
    }
    for bad in ["(7)", "7", "(x,y)", "(7,a,b)"] {
        fails(
            &mut client,
            &format!("SELECT drover.pin_key('t', '{bad}', shard => '{}')", names[0]),
            "22P02",
        );
    }
    let range = "SELECT drover.shard_table('u', key => 'a, b', scheme => 'range', places => 'x < 1; y')";
    run(&mut client, "CREATE TABLE u (a int, b int)");
    fails(&mut client, range, "0A000");
}
