//! Drift that a hand on one shard has made is found, said, and repaired where that can be done.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::{Command, Output};

use testkit::TestCluster;
use testkit::client::{Answer, Client};
use testkit::proxy::{DroverProxy, ProxySite};

const BINARY: &str = env!("CARGO_BIN_EXE_drover");

fn start() -> (ProxySite, DroverProxy) {
    let cluster = TestCluster::shared(3);
    let console = format!("[console]\nadmin_users = ['{}']\n", cluster.info().app_user);
    let site = ProxySite::new(cluster, Path::new(BINARY)).with_config(&console);
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

/// The shards themselves, past Drover, as its own role.
fn shards(proxy: &DroverProxy) -> Vec<Client> {
    let info = TestCluster::shared(3).info();
    let database = &proxy.target().database;
    let url = |host: &str, port: u16| {
        let (user, password) = (&info.admin_user, info.admin_password.expose());
        format!("postgresql://{user}:{password}@{host}:{port}/{database}")
    };
    let shards = info.shards.iter().map(|s| &s.primary);
    shards
        .map(|node| Client::connect(&url(&node.host, node.port)).unwrap())
        .collect()
}

/// Exit code, standard output and standard error of a command.
fn drover(proxy: &DroverProxy, args: &[&str]) -> (i32, String, String) {
    let target = proxy.target();
    let password = target.password.clone().unwrap_or_default();
    let url = format!(
        "postgresql://{}@{}:{}/{}",
        target.user, target.host, target.port, target.database
    );
    let output: Output = Command::new(BINARY)
        .args(args)
        .args(["--url", &url])
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn tables_that_drifted_are_found_and_repaired() {
    let (_site, proxy) = start();
    let mut client = proxy.client();
    run(
        &mut client,
        "CREATE TABLE countries (code text PRIMARY KEY, name text, up text GENERATED ALWAYS AS (upper(name)) STORED)
         WITH (drover.reference = true)",
    );
    run(
        &mut client,
        "INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France'), ('it', 'Italy')",
    );
    run(
        &mut client,
        "CREATE TABLE orders (id bigint PRIMARY KEY, country text REFERENCES countries) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (1..=90).map(|id| format!("({id}, 'fr')")).collect();
    run(
        &mut client,
        &format!("INSERT INTO orders VALUES {}", rows.join(", ")),
    );
    run(&mut client, "CREATE TABLE plain (id serial PRIMARY KEY)");
    run(&mut client, "INSERT INTO plain SELECT FROM generate_series(1, 5)");
    run(&mut client, "SELECT drover.shard_table('plain', key => 'id')");
    let (code, out, errors) = drover(&proxy, &["check", "tables"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert_eq!(
        out.lines().filter(|line| line.contains("\tok: ")).count(),
        9,
        "{out}"
    );
    assert!(errors.contains("3 of 3 tables"), "{errors}");

    let mut on = shards(&proxy);
    // Past every guard, as replication, a superuser or a restored backup would.
    let replica = "SET session_replication_role = replica";
    run(&mut on[1], replica);
    run(
        &mut on[1],
        "DELETE FROM countries WHERE code = 'de'; UPDATE countries SET name = 'FRANCE' WHERE code = 'fr'; INSERT INTO countries VALUES ('xx', 'Nowhere')",
    );
    run(&mut on[2], replica);
    run(
        &mut on[2],
        "INSERT INTO orders SELECT g, 'fr' FROM generate_series(1001, 1030) g",
    );
    run(&mut on[2], "DROP TRIGGER drover_guard ON orders");
    run(&mut on[1], "DROP TRIGGER drover_epoch ON countries");
    run(&mut on[0], replica);
    run(&mut on[0], "ALTER TABLE plain DISABLE TRIGGER drover_guard");
    run(&mut on[0], "SELECT setval('plain_id_seq', 2)");

    let (code, out, _) = drover(&proxy, &["check", "tables"]);
    assert_eq!(code, 1);
    let line = |part: &str| {
        out.lines()
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("no {part} in:\n{out}"))
            .to_owned()
    };
    let copy = line("another copy");
    assert!(copy.starts_with("public.countries\tshard_2\t"), "{copy}");
    assert!(
        copy.ends_with("1 rows missing, 1 too many, 1 different: (de), (xx), (fr)"),
        "{copy}"
    );
    assert!(line("misplaced rows").starts_with("public.orders\tshard_3\t"));
    let bare: Vec<&str> = out.lines().filter(|line| line.contains("no guard")).collect();
    assert_eq!(
        bare,
        [
            "public.countries\tshard_2\tno guard: of statements: what does not come through Drover can be stored here",
            "public.orders\tshard_3\tno guard: of rows: what does not come through Drover can be stored here",
            "public.plain\tshard_1\tno guard: of rows: what does not come through Drover can be stored here",
        ]
    );
    assert!(line("sequence behind").contains("plain_id_seq is at 2, column id at 5"));

    // Nothing changes yet; a check of one table sees that table only.
    let (code, out, _) = drover(
        &proxy,
        &["check", "tables", "--repair", "--dry-run", "--json", "countries"],
    );
    assert_eq!(code, 1);
    assert!(
        out.contains("\"repair\": \"would be repaired\"") && !out.contains("orders"),
        "{out}"
    );

    let (code, out, errors) = drover(&proxy, &["check", "tables", "--repair"]);
    // Misplaced rows are left to the operator.
    assert_eq!(code, 1, "{out}{errors}");
    assert_eq!(out.matches("(repaired)").count(), 5, "{out}");
    run(&mut on[2], "DELETE FROM orders WHERE id > 1000");
    let (code, out, errors) = drover(&proxy, &["check", "tables"]);
    assert_eq!(code, 0, "{out}{errors}");
    let copy = run(
        &mut on[1],
        "SELECT string_agg(code || up, ',' ORDER BY code) FROM countries",
    );
    assert_eq!(copy.value().unwrap(), "deGERMANY,frFRANCE,itITALY");
    let placed = run(&mut client, "SELECT nextval('plain_id_seq')");
    assert!(placed.value().unwrap().parse::<i64>().unwrap() > 5);
}

#[test]
fn only_operators_may_look() {
    let site = ProxySite::new(TestCluster::shared(3), Path::new(BINARY));
    let proxy = site.start("a");
    let mut client = proxy.client();
    for sql in [
        "SELECT * FROM drover.check_tables()",
        "SELECT * FROM drover.schema_diff()",
    ] {
        let answer = client.simple(sql).unwrap();
        assert_eq!(answer.error().unwrap().sqlstate(), "42501");
    }
    let (code, _, errors) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 1);
    assert!(
        errors.contains("permission denied for drover.schema_diff"),
        "{errors}"
    );
}

#[test]
fn schemas_that_drifted_are_described_by_the_statements_that_mend_them() {
    let (_site, proxy) = start();
    let mut client = proxy.client();
    for sql in [
        "CREATE SCHEMA shop",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN small AS int CHECK (value < 100)",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, v text DEFAULT 'x', m mood, n small) WITH (drover.shard_key = 'id')",
        "CREATE TABLE countries (code text PRIMARY KEY) WITH (drover.reference = true)",
        "CREATE TABLE numbered (id bigserial PRIMARY KEY, v int)",
        "SELECT drover.shard_table('numbered', key => 'id')",
        "CREATE TABLE settings (k text)",
        "CREATE VIEW at_home AS SELECT * FROM settings",
        "CREATE VIEW large AS SELECT * FROM shop.orders WHERE id > 10",
        "CREATE INDEX orders_v ON shop.orders (v)",
        "ALTER TABLE shop.orders ADD CONSTRAINT positive CHECK (id > 0)",
        "CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'",
        "CREATE FUNCTION of_settings(settings) RETURNS text LANGUAGE sql AS 'SELECT ($1).k'",
        "GRANT SELECT ON shop.orders TO PUBLIC",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE TYPE span AS RANGE (subtype = int)",
        "CREATE TYPE of_home AS (s settings)",
        "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
        "CREATE OPERATOR <-> (FUNCTION = int4mi, LEFTARG = int, RIGHTARG = int)",
        "COMMENT ON COLUMN shop.orders.v IS 'it''s a value'",
        "COMMENT ON TABLE numbered IS 'numbers'",
    ] {
        run(&mut client, sql);
    }
    let (code, out, errors) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 0, "{out}{errors}");
    let mut on = shards(&proxy);
    for shard in &mut on {
        run(shard, "SET session_replication_role = replica");
    }
    run(
        &mut on[1],
        "DROP VIEW large; DROP INDEX shop.orders_v; ALTER TABLE shop.orders DROP CONSTRAINT positive, DROP COLUMN v;
         DROP FUNCTION twice(int); REVOKE SELECT ON shop.orders FROM PUBLIC; DROP TABLE countries;
         DROP TYPE pair; DROP TYPE span; DROP AGGREGATE total(int); DROP OPERATOR <-> (int, int); COMMENT ON TABLE numbered IS NULL",
    );
    run(
        &mut on[2],
        "ALTER TABLE shop.orders ALTER v SET DEFAULT 'y'; ALTER TYPE mood ADD VALUE 'glad'; CREATE TABLE stray (a int);
         CREATE INDEX more ON shop.orders (m)",
    );
    let (code, out, _) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("-- shard")).collect();
    let expected = [
        "-- shard_2: column shop.orders.v is missing",
        "-- shard_2: comment public.numbered is missing",
        "-- shard_2: comment shop.orders.v is missing",
        "-- shard_2: constraint shop.orders positive is missing",
        "-- shard_2: function public.twice(integer) is missing",
        "-- shard_2: function (aggregate) public.total(integer) is missing",
        "-- shard_2: grant shop.orders SELECT to PUBLIC is missing",
        "-- shard_2: index shop.orders orders_v is missing",
        "-- shard_2: operator public.<->(integer,integer) is missing",
        "-- shard_2: table public.countries is missing",
        "-- shard_2: type public.pair is missing",
        "-- shard_2: type public.span is missing",
        "-- shard_2: view public.large is missing",
        "-- shard_3: column shop.orders.v is different",
        "-- shard_3: index shop.orders more is extra",
        "-- shard_3: table public.stray is extra",
        "-- shard_3: type public.mood is different",
    ];
    assert_eq!(lines, expected, "{out}");
    // What it prints mends the shard. Views stand on columns, and are printed last.
    let statements: Vec<&str> = out
        .split("-- shard_3")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    run(&mut on[1], &statements.join("\n"));
    let (_, out, _) = drover(&proxy, &["schema", "diff", "--json"]);
    assert!(!out.contains("shard_2"), "{out}");
    assert_eq!(out.matches("\"shard\": \"shard_3\"").count(), 4, "{out}");
}

/// Roles belong to the whole server, where others of these tests have theirs: compared are those that the database knows.
#[test]
fn roles_and_base_types_that_drifted_are_described() {
    let (_site, proxy) = start();
    let mut client = proxy.client();
    let name = format!("drift_{}", proxy.target().database);
    run(
        &mut client,
        "CREATE TABLE t (id bigint PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    let mut on = shards(&proxy);
    let base_type = "CREATE TYPE lower_text;
         CREATE FUNCTION lt_in(cstring) RETURNS lower_text LANGUAGE internal IMMUTABLE STRICT AS 'textin';
         CREATE FUNCTION lt_out(lower_text) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
         CREATE TYPE lower_text (INPUT = lt_in, OUTPUT = lt_out, LIKE = text)";
    for shard in &mut on {
        run(shard, "SET session_replication_role = replica");
        run(
            shard,
            &format!(
                "CREATE ROLE {name}_all; CREATE ROLE {name} LOGIN CONNECTION LIMIT 7; GRANT {name}_all TO {name};
                 ALTER ROLE {name} SET work_mem = '1MB'; ALTER ROLE {name} SET search_path = \"$user\", public; GRANT SELECT ON t TO {name}; {base_type}"
            ),
        );
    }
    let (code, out, errors) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 0, "{out}{errors}");
    run(
        &mut on[1],
        &format!("REVOKE SELECT ON t FROM {name}; DROP ROLE {name}, {name}_all"),
    );
    run(
        &mut on[2],
        &format!(
            "ALTER ROLE {name} CONNECTION LIMIT 8; ALTER ROLE {name} SET work_mem = '2MB'; REVOKE {name}_all FROM {name};
             ALTER TYPE lower_text SET (STORAGE = external)"
        ),
    );
    let (code, out, _) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 1);
    let lines = |out: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| line.starts_with("-- shard"));
        lines.map(str::to_owned).collect()
    };
    let expected = [
        format!("-- shard_2: role {name} is missing"),
        format!("-- shard_2: role {name}_all is missing"),
        format!("-- shard_2: role membership {name} in {name}_all is missing"),
        format!("-- shard_2: role setting {name} search_path is missing"),
        format!("-- shard_2: role setting {name} work_mem is missing"),
        format!("-- shard_2: grant public.t SELECT to {name} is missing"),
        format!("-- shard_3: role {name} is different"),
        format!("-- shard_3: role membership {name} in {name}_all is missing"),
        format!("-- shard_3: role setting {name} work_mem is different"),
        "-- shard_3: type public.lower_text is different".to_owned(),
    ];
    assert_eq!(lines(&out), expected, "{out}");
    let statements = out.split("-- shard_3").next().unwrap().lines();
    let statements: Vec<&str> = statements.filter(|line| !line.starts_with("--")).collect();
    run(&mut on[1], &statements.join("\n"));
    let (_, out, _) = drover(&proxy, &["schema", "diff"]);
    assert!(!out.contains("shard_2"), "{out}");
    for shard in &mut on {
        run(
            shard,
            &format!("DROP OWNED BY {name}; DROP ROLE {name}, {name}_all"),
        );
    }
}

/// What cannot be part of a transaction fails on the second shard.
#[test]
fn an_index_that_fails_on_one_shard_can_be_seen_and_mended() {
    let (_site, proxy) = start();
    let mut client = proxy.client();
    run(
        &mut client,
        "CREATE TABLE t (id bigint, v int) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (1..=60).map(|id| format!("({id}, 1)")).collect();
    run(&mut client, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
    let mut on = shards(&proxy);
    let twice = run(&mut on[1], "SELECT min(id) FROM t").value().unwrap();
    run(&mut client, &format!("INSERT INTO t VALUES ({twice}, 1)"));
    let create = "CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id)";
    let answer = client.simple(create).unwrap();
    let error = answer.error().unwrap();
    assert_eq!(error.sqlstate(), "23505");
    let text = format!("{error}");
    assert!(
        text.contains("It was done on shard_1, and failed on shard_2."),
        "{text}"
    );
    let (code, out, _) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("-- shard")).collect();
    let expected = [
        "-- shard_2: index public.t t_id is different",
        "-- shard_3: index public.t t_id is missing",
    ];
    assert_eq!(lines, expected, "{out}");
    assert!(out.contains("-- invalid"), "{out}");
    run(&mut client, "DROP INDEX CONCURRENTLY t_id");
    run(&mut client, &format!("DELETE FROM t WHERE id = {twice}"));
    run(&mut client, create);
    let (code, out, _) = drover(&proxy, &["schema", "diff"]);
    assert_eq!(code, 0, "{out}");
}
