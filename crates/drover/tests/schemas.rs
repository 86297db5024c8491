//! Every shard has the same schema, whatever DDL has come through Drover.
//!
//! `schemas/statements.sql` runs statement by statement through a proxy over two shards and on one plain server. Each is to
//! answer as on the plain server (or to be refused, where the file says so), and every few statements the catalogs of the
//! two shards are compared.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Once;

use testkit::client::{Answer, Client};
use testkit::proxy::ProxySite;
use testkit::{TestCluster, TestPostgres};

const STATEMENTS: &str = include_str!("schemas/statements.sql");
const CATALOG: &str = include_str!("schemas/catalog.sql");

/// Prefix of the roles of the test: roles belong to servers, not to databases.
const ROLES: &str = "schemas_";

/// The catalogs are compared after so many statements: few enough that none of them hides what another left.
const COMPARE_EVERY: usize = 3;

/// What the catalogs of one server say.
fn catalog(client: &mut Client) -> BTreeSet<String> {
    let answer = client.simple(CATALOG).unwrap();
    assert!(answer.error().is_none(), "{}", answer.error().unwrap());
    let rows = answer.text_rows().into_iter();
    rows.filter_map(|row| row.into_iter().next()?).collect()
}

/// What only one of two servers has.
fn drift(home: &mut Client, other: &mut Client) -> BTreeSet<String> {
    let (home, other) = (catalog(home), catalog(other));
    let only_home = home.difference(&other).map(|line| format!("only home: {line}"));
    let only_other = other
        .difference(&home)
        .map(|line| format!("only elsewhere: {line}"));
    only_home.chain(only_other).collect()
}

/// Command tags, and the SQLSTATE of an error.
fn outcome(answer: &Answer) -> String {
    let error = answer.error().map(|error| error.sqlstate().to_owned());
    format!("{} {}", answer.tags().join(","), error.unwrap_or_default())
}

fn is_refused(answer: &Answer) -> bool {
    answer.error().is_some_and(|error| {
        let detail = error.detail().unwrap_or_default();
        error.sqlstate() == "0A000" && detail.starts_with("refusal code DRV")
    })
}

/// Once: two tests that alter the same role at the same time are refused by PostgreSQL.
fn make_superuser(cluster: &TestCluster, plain: &TestPostgres) {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let alter = format!("ALTER ROLE {} SUPERUSER", cluster.info().app_user);
        cluster.on_every_shard("postgres", &alter);
        let alter = format!("ALTER ROLE {} SUPERUSER", plain.info().app_user);
        plain.run("postgres", &alter);
    });
}

#[test]
fn every_shard_has_the_same_schema_after_every_statement() {
    let (cluster, plain) = (TestCluster::shared(2), TestPostgres::shared());
    make_superuser(cluster, plain);
    let site = ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("a");
    let database = proxy.target().database.clone();
    let plain_database = plain.create_database();
    let mut through = proxy.client();
    let mut on_plain = Client::connect(&plain.url(&plain_database)).unwrap();
    let info = cluster.info();
    let mut shards = info.shards.iter().map(|shard| {
        let (user, password) = (&info.app_user, info.app_password.expose());
        let (host, port) = (&shard.primary.host, shard.primary.port);
        let url = format!("postgresql://{user}:{password}@{host}:{port}/{database}");
        Client::connect(&url).unwrap()
    });
    let (mut home, mut other) = (shards.next().unwrap(), shards.next().unwrap());
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    let mut since = Vec::new();
    for line in STATEMENTS.lines() {
        if line.starts_with("# ----") || since.len() >= COMPARE_EVERY {
            let drift = drift(&mut home, &mut other);
            // What an earlier statement has left is its fault alone.
            for line in drift.difference(&known) {
                wrong.push(format!("after one of {since:#?}\n    {line}"));
            }
            known = drift;
            since.clear();
        }
        if line.starts_with('#') {
            continue;
        }
        let (statement, refused) = match line.strip_prefix('!') {
            Some(statement) => (statement, true),
            None => (line, false),
        };
        let statement = statement.replace("{r}", ROLES);
        let answer = through.simple(&statement.replace("{db}", &database)).unwrap();
        if refused {
            if !is_refused(&answer) {
                wrong.push(format!("{statement}\n    not refused: {}", outcome(&answer)));
            }
        } else {
            let plain_text = statement.split(" WITH (drover.").next().unwrap_or_default();
            let expected = on_plain
                .simple(&plain_text.replace("{db}", &plain_database))
                .unwrap();
            if outcome(&answer) != outcome(&expected) {
                let error = answer.error().map(ToString::to_string).unwrap_or_default();
                let (answer, expected) = (outcome(&answer), outcome(&expected));
                wrong.push(format!("{statement}\n    {answer} instead of {expected} {error}"));
            }
        }
        since.push(statement);
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// New settings of a database meet no statement on some of its shards only.
#[test]
fn settings_of_a_database_change_on_all_shards_at_once() {
    let cluster = TestCluster::shared(2);
    make_superuser(cluster, TestPostgres::shared());
    let site = ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("a");
    let mut client = proxy.client();
    let mut run = |sql: &str| {
        let answer = client.simple(sql).unwrap();
        assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
        answer
    };
    run("CREATE TABLE d (k int, at timestamptz) WITH (drover.shard_key = 'k')");
    let rows: Vec<String> = (1..=20)
        .map(|k| format!("({k}, '2024-01-01 23:00+00')"))
        .collect();
    run(&format!("INSERT INTO d VALUES {}", rows.join(", ")));
    let days = "SELECT at::date::text, count(*)::text FROM d GROUP BY 1";
    run(days);
    for zone in ["Asia/Tokyo", "UTC"] {
        run(&format!(
            "ALTER DATABASE {} SET timezone = '{zone}'",
            proxy.target().database
        ));
        // A client of its own, as the settings of those that are connected stay as they were.
        let answer = proxy.client().simple(days).unwrap();
        let day = if zone == "UTC" { "2024-01-01" } else { "2024-01-02" };
        let expected = vec![vec![Some(day.to_owned()), Some("20".to_owned())]];
        assert_eq!(answer.text_rows(), expected, "{zone}");
    }
}
