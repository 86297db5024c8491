//! Partitioned tables on real servers: what each shard itself refuses, what two proxies see, what drift says.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::{DroverProxy, ProxySite};

const SHARDS: u16 = 3;

fn site() -> ProxySite {
    let cluster = TestCluster::shared(SHARDS);
    let console = format!("[console]\nadmin_users = ['{}']\n", cluster.info().app_user);
    ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover"))).with_config(&console)
}

fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

/// The SQLSTATE of a statement's error, or nothing.
fn code(client: &mut Client, sql: &str) -> String {
    let answer = client.simple(sql).unwrap();
    answer
        .error()
        .map(|error| error.sqlstate().to_owned())
        .unwrap_or_default()
}

fn rows(client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    let rows = run(client, sql).text_rows();
    let text = |value: Option<String>| value.unwrap_or_default();
    rows.into_iter()
        .map(|row| row.into_iter().map(text).collect())
        .collect()
}

/// The shards themselves, past Drover, as its own role.
fn shards(proxy: &DroverProxy) -> Vec<Client> {
    let info = TestCluster::shared(SHARDS).info();
    let database = &proxy.target().database;
    let shards = info.shards.iter().map(|s| &s.primary);
    shards
        .map(|node| {
            let (user, password) = (&info.admin_user, info.admin_password.expose());
            let (host, port) = (&node.host, node.port);
            Client::connect(&format!(
                "postgresql://{user}:{password}@{host}:{port}/{database}"
            ))
            .unwrap()
        })
        .collect()
}

/// On how many shards a row can be stored; the others must say why not.
fn takers(shards: &mut [Client], insert: &str) -> usize {
    let codes = shards.iter_mut().map(|shard| {
        run(shard, "BEGIN");
        let code = code(shard, insert);
        run(shard, "ROLLBACK");
        code
    });
    let codes: Vec<String> = codes.collect();
    assert!(
        codes.iter().all(|code| code.is_empty() || code == "23000"),
        "{insert}: {codes:?}"
    );
    codes.iter().filter(|code| code.is_empty()).count()
}

#[test]
fn no_partition_takes_a_row_of_another_shard() {
    let site = site();
    let proxy = site.start("a");
    let mut client = proxy.client();
    for sql in [
        "CREATE TABLE t (k int, d int, v text) PARTITION BY RANGE (d) WITH (drover.shard_key = 'k')",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (v)",
        "CREATE TABLE high_rest PARTITION OF high DEFAULT",
        "CREATE TABLE joined (v text, k int, d int) WITH (drover.shard_key = 'k', drover.colocate_with = 't')",
        "ALTER TABLE t ATTACH PARTITION joined FOR VALUES FROM (20) TO (30)",
        "CREATE TABLE gone PARTITION OF t FOR VALUES FROM (30) TO (40)",
        "ALTER TABLE t DETACH PARTITION gone",
        "CREATE TABLE moved (k int, d int) PARTITION BY HASH (d)",
        "CREATE TABLE moved_0 PARTITION OF moved FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "SELECT drover.shard_table('moved', key => 'k')",
    ] {
        run(&mut client, sql);
    }
    let mut shards = shards(&proxy);
    for (table, d) in [
        ("t", 5),
        ("low", 5),
        ("t", 15),
        ("high_rest", 15),
        ("t", 25),
        ("joined", 25),
        ("gone", 35),
        ("moved", 1),
        ("moved_0", 1),
    ] {
        for k in 0..6 {
            assert_eq!(
                takers(
                    &mut shards,
                    &format!("INSERT INTO {table} (k, d) VALUES ({k}, {d})")
                ),
                1
            );
        }
    }
    // A row that changes its partition is looked at there, too.
    run(
        &mut client,
        "INSERT INTO t SELECT g, 5 FROM generate_series(1, 60) g",
    );
    for shard in &mut shards {
        assert_eq!(code(shard, "UPDATE t SET d = 15"), "");
        assert_eq!(code(shard, "UPDATE t SET d = 5, k = k + 1"), "23000");
        assert_eq!(code(shard, "UPDATE high_rest SET k = k + 1"), "23000");
    }
    // A guard that somebody takes away is missed.
    run(&mut shards[1], "SET session_replication_role = replica");
    run(&mut shards[1], "DROP TRIGGER drover_guard ON high_rest");
    run(&mut shards[1], "RESET session_replication_role");
    let found = rows(&mut client, "SELECT * FROM drover.check_tables()");
    assert!(found.iter().flatten().any(|text| text == "no guard"), "{found:?}");
    run(&mut client, "SELECT * FROM drover.check_tables(repair => true)");
    let found = rows(&mut client, "SELECT * FROM drover.check_tables()");
    assert!(found.iter().flatten().all(|text| text != "no guard"), "{found:?}");
    assert_eq!(
        takers(&mut shards, "INSERT INTO high_rest (k, d) VALUES (1, 15)"),
        1
    );
}

#[test]
fn partitions_keep_regions_and_pins() {
    let site = site();
    let proxy = site.start("a");
    let mut client = proxy.client();
    for sql in [
        "CREATE TABLE people (region text, id int, PRIMARY KEY (region, id)) PARTITION BY RANGE (id)
         WITH (drover.shard_key = 'region', drover.scheme = 'geo', drover.places = 'shard_1 = eu; shard_2 = us')",
        "CREATE TABLE people_1 PARTITION OF people FOR VALUES FROM (0) TO (100)",
        "INSERT INTO people VALUES ('eu', 1), ('us', 1)",
        "CREATE TABLE tenants (t int, n int) PARTITION BY RANGE (n) WITH (drover.shard_key = 't', drover.scheme = 'directory')",
        "CREATE TABLE tenants_1 PARTITION OF tenants FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE tenants_2 PARTITION OF tenants DEFAULT",
        "INSERT INTO tenants SELECT g % 5, g FROM generate_series(1, 200) g",
    ] {
        run(&mut client, sql);
    }
    assert_eq!(code(&mut client, "INSERT INTO people VALUES ('jp', 1)"), "23514");
    let mut shards = shards(&proxy);
    run(&mut shards[0], "SET session_replication_role = replica");
    assert_eq!(
        code(&mut shards[0], "INSERT INTO people_1 VALUES ('us', 2)"),
        "23514"
    );
    // A key goes to another shard with its rows of all partitions.
    for shard in ["shard_3", "shard_1", "shard_2"] {
        run(
            &mut client,
            &format!("SELECT drover.pin_key('tenants', '3', shard => '{shard}')"),
        );
        let here: usize = shard[6..].parse().unwrap();
        assert_eq!(
            rows(&mut shards[here - 1], "SELECT count(*) FROM tenants WHERE t = 3"),
            [["40"]]
        );
        assert_eq!(
            rows(&mut client, "SELECT count(*), sum(n) FROM tenants WHERE t = 3"),
            [["40", "4020"]]
        );
        assert_eq!(
            takers(&mut shards, "INSERT INTO tenants_1 VALUES (3, 1)"),
            1 + usize::from(here != 1)
        );
    }
    assert_eq!(
        rows(&mut client, "SELECT count(*), sum(n) FROM tenants"),
        [["200", "20100"]]
    );
}

#[test]
fn another_proxy_knows_a_partition_as_soon_as_it_is_there() {
    let site = site();
    let (one, other) = (site.start("a"), site.start("b"));
    let (mut a, mut b) = (one.client(), other.client());
    run(
        &mut a,
        "CREATE TABLE t (k int, d int) PARTITION BY RANGE (d) WITH (drover.shard_key = 'k')",
    );
    for round in 0..5 {
        let (from, to) = (round * 10, round * 10 + 10);
        run(
            &mut a,
            &format!("CREATE TABLE p{round} PARTITION OF t FOR VALUES FROM ({from}) TO ({to})"),
        );
        run(
            &mut b,
            &format!("INSERT INTO p{round} SELECT g, {from} FROM generate_series(1, 30) g"),
        );
        assert_eq!(rows(&mut a, &format!("SELECT count(*) FROM p{round}")), [["30"]]);
        run(&mut b, &format!("ALTER TABLE t DETACH PARTITION p{round}"));
        assert_eq!(rows(&mut a, &format!("SELECT count(*) FROM p{round}")), [["30"]]);
        assert_eq!(rows(&mut a, "SELECT count(*) FROM t"), [["0"]]);
        run(
            &mut a,
            &format!("ALTER TABLE t ATTACH PARTITION p{round} FOR VALUES FROM ({from}) TO ({to})"),
        );
        assert_eq!(rows(&mut b, "SELECT count(*) FROM t"), [["30"]]);
        run(&mut b, &format!("DROP TABLE p{round}"));
        assert_eq!(code(&mut a, &format!("SELECT count(*) FROM p{round}")), "42P01");
    }
    let tables = rows(&mut b, "SELECT * FROM drover.tables");
    assert_eq!(tables.len(), 1, "{tables:?}");
}

#[test]
fn a_partition_that_a_shard_lacks_is_drift() {
    let site = site();
    let proxy = site.start("a");
    let mut client = proxy.client();
    for sql in [
        "CREATE TABLE t (k int, d int, PRIMARY KEY (k, d)) PARTITION BY RANGE (d) WITH (drover.shard_key = 'k')",
        "CREATE TABLE p0 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE p1 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        "CREATE INDEX ON t (d)",
        "INSERT INTO t SELECT g, g % 20 FROM generate_series(1, 100) g",
    ] {
        run(&mut client, sql);
    }
    assert!(rows(&mut client, "SELECT * FROM drover.schema_diff()").is_empty());
    let mut shards = shards(&proxy);
    for shard in &mut shards {
        // Past the guard of the schema.
        run(shard, "SET session_replication_role = replica");
    }
    run(&mut shards[1], "ALTER TABLE t DETACH PARTITION p1; DROP TABLE p1");
    run(
        &mut shards[2],
        "CREATE TABLE p2 PARTITION OF t FOR VALUES FROM (20) TO (30)",
    );
    let found = rows(&mut client, "SELECT * FROM drover.schema_diff()");
    // Shard, kind, name, difference, DDL, what was found.
    let tables: Vec<&Vec<String>> = found.iter().filter(|row| row[1] == "table").collect();
    let what: Vec<[&str; 3]> = tables.iter().map(|row| [&*row[0], &*row[2], &*row[3]]).collect();
    let expected = [
        ["shard_2", "public.p1", "missing"],
        ["shard_3", "public.p2", "extra"],
    ];
    assert_eq!(what, expected, "{found:?}");
    run(&mut shards[1], &tables[0][4]);
    run(&mut shards[2], "DROP TABLE p2");
    let found = rows(&mut client, "SELECT * FROM drover.schema_diff()");
    assert!(found.is_empty(), "{found:?}");
}
