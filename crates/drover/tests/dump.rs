//! pg_dump through Drover: a cluster comes out as the one database that its clients see.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;

use testkit::TestCluster;
use testkit::client::{Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};

/// Sharded tables, one of them below another, a reference table, an ordinary one, and what hangs on them.
const SCHEMA: &str = "
CREATE TABLE countries (code text PRIMARY KEY, name text);
SELECT drover.reference_table('countries');
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, country text REFERENCES countries, born date DEFAULT '2000-01-01');
SELECT drover.shard_table('users', key => 'id');
CREATE TABLE visits (user_id bigint, n int, raw bytea, PRIMARY KEY (user_id, n));
SELECT drover.shard_table('visits', key => 'user_id', colocate_with => 'users');
ALTER TABLE visits ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;
CREATE TABLE \"Odd names\" (\"the key\" text, v numeric);
SELECT drover.shard_table('\"Odd names\"', key => '\"the key\"');
CREATE TABLE residents (region text PRIMARY KEY, n int CHECK (n > 0));
SELECT drover.shard_table('residents', key => 'region', scheme => 'geo', places => 'shard_1 = eu; shard_2 = us');
CREATE TABLE days (id bigint, d int, v text) PARTITION BY RANGE (d) WITH (drover.shard_key = 'id');
CREATE TABLE days_low PARTITION OF days FOR VALUES FROM (0) TO (3);
CREATE TABLE days_high PARTITION OF days FOR VALUES FROM (3) TO (MAXVALUE) PARTITION BY LIST (v);
CREATE TABLE days_high_rest PARTITION OF days_high DEFAULT;
CREATE INDEX ON days (v);
CREATE TABLE living (region text, n int) PARTITION BY RANGE (n) WITH (drover.shard_key = 'region', drover.scheme = 'geo', drover.places = 'shard_1 = eu; shard_2 = us');
CREATE TABLE living_all PARTITION OF living DEFAULT;
CREATE TABLE notes (id serial PRIMARY KEY, line text);
CREATE INDEX ON users (name);
CREATE VIEW adults AS SELECT id, name FROM users WHERE born < '2008-01-01';
CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a * 2';
COMMENT ON TABLE users IS 'it''s a table';
INSERT INTO countries VALUES ('de', 'Germany'), ('fr', NULL);
INSERT INTO notes (line) VALUES ('one'), ('two\tand a half'), (NULL);";

const TABLES: [&str; 9] = [
    "days",
    "days_low",
    "living",
    "residents",
    "countries",
    "users",
    "visits",
    "\"Odd names\"",
    "notes",
];

struct Fixture {
    proxy: DroverProxy,
    /// A database of one server that Drover does not know.
    plain: Target,
}

fn fixture() -> Fixture {
    let cluster = TestCluster::shared(2);
    let site = ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover")));
    // Leaked on purpose: the guard process ends the proxy with the test.
    let site: &'static ProxySite = Box::leak(Box::new(site));
    let proxy = site.start("a");
    let mut client = proxy.client();
    for statement in SCHEMA.split(";\n") {
        run(&mut client, statement);
    }
    let many = |row: &dyn Fn(u32) -> String| (1..=200).map(row).collect::<Vec<_>>().join(", ");
    let users = many(&|n| format!("({n}, 'user {n}', '{}')", if n % 2 == 0 { "de" } else { "fr" }));
    let visits = many(&|n| format!("({n}, {}, '\\x{n:08x}')", n % 7));
    let odd = many(&|n| format!("('k{n}\t\\', {n}.50)"));
    run(
        &mut client,
        &format!("INSERT INTO users (id, name, country) VALUES {users}"),
    );
    run(&mut client, &format!("INSERT INTO visits VALUES {visits}"));
    run(&mut client, "INSERT INTO residents VALUES ('eu', 1), ('us', 2)");
    let days = many(&|n| format!("({n}, {}, 'day {n}')", n % 7));
    run(&mut client, &format!("INSERT INTO days VALUES {days}"));
    run(&mut client, "INSERT INTO living VALUES ('eu', 1), ('us', 2)");
    run(&mut client, &format!("INSERT INTO \"Odd names\" VALUES {odd}"));
    let home = &cluster.info().shards[0].primary;
    let plain = Target {
        host: home.host.clone(),
        port: home.port,
        database: cluster.create_database(),
        ..proxy.target().clone()
    };
    Fixture { proxy, plain }
}

fn run(client: &mut Client, sql: &str) {
    let answer = client.simple(sql).unwrap();
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
}

/// All rows, in an order of ours.
fn rows(target: &Target, table: &str) -> Vec<Vec<Option<String>>> {
    let mut client = Client::open(target).unwrap();
    let answer = client.simple(&format!("SELECT * FROM {table}")).unwrap();
    assert!(answer.error().is_none(), "{table}: {}", answer.error().unwrap());
    let mut rows = answer.text_rows();
    rows.sort();
    rows
}

/// Runs one of PostgreSQL's programs against a database; what it printed.
fn tool(name: &str, target: &Target, arguments: &[&str]) -> String {
    let output = Command::new(Path::new("/usr/lib/postgresql/15/bin").join(name))
        .args([
            "-h",
            &target.host,
            "-p",
            &target.port.to_string(),
            "-U",
            &target.user,
        ])
        .args(["-d", &target.database])
        .args(arguments)
        .env("PGPASSWORD", target.password.as_deref().unwrap_or_default())
        .env("PGCONNECT_TIMEOUT", "20")
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dump_of_a_cluster_is_one_database() {
    let Fixture { proxy, plain } = fixture();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (custom, parallel) = (file("custom"), file("parallel"));
    let own = ["--no-owner", "-N", "drover", "-N", "drover_internal"];
    let target = proxy.target();
    let text = tool("pg_dump", target, &own);
    assert!(!text.contains("drover"), "nothing of Drover's own is in it");
    tool("pg_dump", target, &[&own[..], &["-Fc", "-f", &custom]].concat());
    tool(
        "pg_dump",
        target,
        &[&own[..], &["-Fd", "-j", "2", "-f", &parallel]].concat(),
    );
    for dump in [&custom, &parallel] {
        let clean = [
            "--no-owner",
            "--clean",
            "--if-exists",
            "--exit-on-error",
            dump.as_str(),
        ];
        tool("pg_restore", &plain, &clean);
        for table in TABLES {
            assert_eq!(rows(&plain, table), rows(target, table), "{table}");
        }
    }
    // What was restored into one PostgreSQL dumps as the cluster did, but for the keys of \restrict and the order of rows.
    let lines = |text: &str| {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&tool("pg_dump", &plain, &own)), lines(&text));
}
