//! `drover transactions`: what is in doubt, told and finished by hand.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::{DroverProxy, ProxySite};

const BINARY: &str = env!("CARGO_BIN_EXE_drover");

const PATIENCE: Duration = Duration::from_secs(60);

/// A server has so many places for what is prepared, for all databases: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Recovery of itself leaves alone what is not decided.
fn start() -> (ProxySite, DroverProxy) {
    let cluster = TestCluster::shared(3);
    let console = format!("[console]\nadmin_users = ['{}']\n", cluster.info().app_user);
    let site = ProxySite::new(cluster, Path::new(BINARY))
        .with_config(&console)
        .with_variable("DROVER_TEST_GRACE_MS", "3600000");
    let proxy = site.start("a");
    (site, proxy)
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

/// The shards themselves, past Drover, as its own role.
fn shards(proxy: &DroverProxy) -> Vec<Client> {
    let info = TestCluster::shared(3).info();
    let database = &proxy.target().database;
    let (user, password) = (&info.admin_user, info.admin_password.expose());
    let connect = |shard: &agent::ShardInfo| {
        let (host, port) = (&shard.primary.host, shard.primary.port);
        Client::connect(&format!(
            "postgresql://{user}:{password}@{host}:{port}/{database}"
        ))
        .unwrap()
    };
    info.shards.iter().map(connect).collect()
}

/// Exit code, and the lines of standard output, split at tabulators; then standard error.
fn drover(proxy: &DroverProxy, args: &[&str]) -> (i32, Vec<Vec<String>>, String) {
    let (code, out, errors) = told(proxy, args);
    let split = |line: &str| line.split('\t').map(str::to_owned).collect();
    (code, out.lines().map(split).collect(), errors)
}

fn told(proxy: &DroverProxy, args: &[&str]) -> (i32, String, String) {
    let target = proxy.target();
    let url = format!(
        "postgresql://{}@{}:{}/{}",
        target.user, target.host, target.port, target.database
    );
    let output = Command::new(BINARY)
        .arg("transactions")
        .args(args)
        .args(["--url", &url])
        .env("PGPASSWORD", target.password.clone().unwrap_or_default())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// As a proxy leaves it that dies between PREPARE and the decision.
fn prepare(shard: &mut Client, gid: &str, table: &str) {
    let sql = format!("BEGIN; CREATE TABLE {table} (a int); PREPARE TRANSACTION '{gid}'");
    run(shard, &sql);
}

fn prepared(shard: &mut Client) -> String {
    value(
        shard,
        "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()",
    )
}

fn decisions(shard: &mut Client, gid: &str) -> Vec<Vec<Option<String>>> {
    let sql = format!("SELECT committed FROM drover_internal.decisions WHERE gid = '{gid}'");
    run(shard, &sql).text_rows()
}

#[test]
fn what_is_not_decided_is_rolled_back_when_it_is_old_enough() {
    let _alone = alone();
    let (_site, proxy) = start();
    let mut on = shards(&proxy);
    let gid = "drover:1:1:00000000000000000000000000000001";
    let none: Vec<Vec<String>> = Vec::new();
    assert_eq!(drover(&proxy, &["list"]), (0, none.clone(), String::new()));
    prepare(&mut on[1], gid, "left_behind");
    prepare(&mut on[2], gid, "left_behind");
    let (code, listed, _) = drover(&proxy, &["list"]);
    assert_eq!((code, listed.len()), (0, 1), "{listed:?}");
    let owner = TestCluster::shared(3).info().admin_user.as_str();
    assert_eq!(
        listed[0][..5],
        [gid, owner, "shard_1", "none", "shard_2, shard_3"]
    );
    assert_eq!(listed[0].len(), 6);
    let (code, out, _) = told(&proxy, &["list", "--json"]);
    assert_eq!(code, 0);
    assert!(out.contains(&format!("\"id\": \"{gid}\"")), "{out}");

    for (args, action) in [
        (&["resolve", "--dry-run", "--older-than", "1h"][..], "wait"),
        (&["resolve", "--older-than", "1h"], "wait"),
        (&["resolve", "--dry-run", "--older-than", "0s"], "roll back"),
    ] {
        let (code, told, errors) = drover(&proxy, args);
        assert_eq!((code, told.len()), (0, 1), "{args:?}: {told:?}{errors}");
        assert_eq!(told[0][6], action, "{args:?}: {told:?}");
        assert!(told[0][7].starts_with("shard_1 has recorded nothing"), "{told:?}");
        // Nothing has changed.
        assert_eq!(
            (prepared(&mut on[1]), prepared(&mut on[2])),
            ("1".into(), "1".into())
        );
        assert_eq!(decisions(&mut on[0], gid), Vec::<Vec<Option<String>>>::new());
    }

    let (code, told, errors) = drover(&proxy, &["resolve", "--older-than", "0s"]);
    assert_eq!((code, told.len()), (0, 1), "{told:?}{errors}");
    assert_eq!(told[0][6], "rolled back", "{told:?}");
    assert_eq!(
        (prepared(&mut on[1]), prepared(&mut on[2])),
        ("0".into(), "0".into())
    );
    // Whoever began it cannot commit it any more.
    assert_eq!(decisions(&mut on[0], gid), [[Some("f".to_owned())]]);
    assert_eq!(drover(&proxy, &["resolve"]), (0, none, String::new()));
}

#[test]
fn what_is_decided_is_finished_whatever_its_age() {
    let _alone = alone();
    let (_site, proxy) = start();
    let mut on = shards(&proxy);
    // Recovery of itself looks for what is older than a second: then it was first, and there is another try.
    let deadline = Instant::now() + PATIENCE;
    let (mut planned, mut done, mut number) = (false, false, 0);
    while !(planned && done) {
        assert!(
            Instant::now() < deadline,
            "never before recovery: {planned} {done}"
        );
        number += 1;
        let (gid, table) = (format!("drover:1:1:{number:032x}"), format!("decided_{number}"));
        run(
            &mut on[0],
            &format!("INSERT INTO drover_internal.decisions VALUES ('{gid}', true, '{{2}}')"),
        );
        prepare(&mut on[1], &gid, &table);
        let (code, told, errors) = drover(&proxy, &["resolve", "--dry-run"]);
        assert_eq!(code, 0, "{errors}");
        if let Some(row) = told.first() {
            assert_eq!(row[6..], ["commit", "shard_1 has recorded that it is committed"]);
            planned = true;
        }
        let (code, told, errors) = drover(&proxy, &["resolve"]);
        assert_eq!(code, 0, "{errors}");
        if let Some(row) = told.first() {
            assert_eq!(
                row[6..],
                ["committed", "shard_1 has recorded that it is committed"]
            );
            done = true;
        }
        assert_eq!(prepared(&mut on[1]), "0");
        let there = value(&mut on[1], &format!("SELECT to_regclass('{table}') IS NOT NULL"));
        assert_eq!(there, "t");
    }
}

#[test]
fn what_nobody_can_know_is_left_to_a_person() {
    let _alone = alone();
    let (_site, proxy) = start();
    let mut on = shards(&proxy);
    // Decided by a shard that nobody can ask.
    let away = "drover:1:77:00000000000000000000000000000001";
    // Made before outcomes were deleted that nobody could need.
    let old = "drover:2:1:0000000050:00000000000000000000000000000002";
    prepare(&mut on[1], away, "away");
    prepare(&mut on[1], old, "old");
    run(
        &mut on[0],
        "SELECT setval('drover_internal.collected_before', 100)",
    );
    for args in [
        &["resolve", "--dry-run", "--older-than", "0s"][..],
        &["resolve", "--older-than", "0s"],
    ] {
        let (code, told, errors) = drover(&proxy, args);
        assert_eq!(code, 1, "{told:?}{errors}");
        let action = |gid: &str| {
            let row = told.iter().find(|row| row[0] == gid).unwrap();
            row[6].clone()
        };
        assert_eq!(action(old), "operator", "{told:?}");
        let expected = if args.contains(&"--dry-run") {
            "unknown"
        } else {
            "failed"
        };
        assert_eq!(action(away), expected, "{told:?}");
        assert_eq!(prepared(&mut on[1]), "2");
    }
    assert_eq!(decisions(&mut on[0], old), Vec::<Vec<Option<String>>>::new());
    for gid in [away, old] {
        run(&mut on[1], &format!("ROLLBACK PREPARED '{gid}'"));
    }
    let (code, _, errors) = drover(&proxy, &["resolve", "--older-than", "soon"]);
    assert_eq!(code, 1);
    assert!(errors.contains("22023"), "{errors}");
}

#[test]
fn only_who_operates_the_cluster_may() {
    let site = ProxySite::new(TestCluster::shared(3), Path::new(BINARY));
    let proxy = site.start("a");
    for args in [&["list"][..], &["resolve", "--dry-run"], &["resolve"]] {
        let (code, told, errors) = drover(&proxy, args);
        assert_eq!((code, told.len()), (1, 0), "{args:?}");
        assert!(errors.contains("42501"), "{args:?}: {errors}");
    }
}

#[test]
fn a_commit_that_finds_no_place_to_prepare_is_rolled_back_everywhere() {
    let _alone = alone();
    let (_site, proxy) = start();
    let mut on = shards(&proxy);
    let mut client = proxy.client();
    run(
        &mut client,
        "CREATE TABLE t (k bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'k')",
    );
    run(
        &mut client,
        "INSERT INTO t SELECT g, 0 FROM generate_series(1, 30) g",
    );
    let places: u32 = value(&mut on[1], "SHOW max_prepared_transactions")
        .parse()
        .unwrap();
    let end = |on: &mut [Client]| {
        for shard in &mut on[1..] {
            for number in 0..places {
                run(shard, &format!("ROLLBACK PREPARED 'filler_{number}'"));
            }
        }
    };
    for shard in &mut on[1..] {
        for number in 0..places {
            let filler = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'filler_{number}'");
            run(shard, &filler);
        }
    }
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE t SET v = 1");
    let answer = client.simple("COMMIT").unwrap();
    let error = answer.error().unwrap();
    assert_eq!(error.sqlstate(), "53200", "{error}");
    assert!(
        error
            .to_string()
            .contains("maximum number of prepared transactions reached"),
        "{error}"
    );
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "0");
    // Nothing holds the rows any more.
    run(&mut client, "SET lock_timeout = '10s'");
    run(&mut client, "UPDATE t SET v = v WHERE k = 1");
    assert_eq!(client.status(), b'I');
    end(&mut on);
    run(&mut client, "UPDATE t SET v = 1");
    assert_eq!(value(&mut client, "SELECT sum(v) FROM t"), "30");
}
