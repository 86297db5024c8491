//! Every shard has the same schema, whatever DDL has come through Drover.
//!
//! `schemas/statements.sql` runs statement by statement through a proxy over two shards and on one plain server. Each is to
//! answer as on the plain server (or to be refused, where the file says so), and after each the catalogs of the two shards
//! are compared.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;

use testkit::client::{Answer, Client};
use testkit::proxy::ProxySite;
use testkit::{TestCluster, TestPostgres};

const STATEMENTS: &str = include_str!("schemas/statements.sql");
const CATALOG: &str = include_str!("schemas/catalog.sql");

/// Prefix of the roles of the test: roles belong to servers, not to databases.
const ROLES: &str = "schemas_";

/// What the catalogs of one server say.
fn catalog(client: &mut Client) -> BTreeSet<String> {
    let answer = client.simple(CATALOG).unwrap();
    assert!(answer.error().is_none(), "{}", answer.error().unwrap());
    let rows = answer.text_rows().into_iter();
    rows.filter_map(|row| row.into_iter().next()?).collect()
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

fn make_superuser(cluster: &TestCluster, plain: &TestPostgres) {
    cluster.on_every_shard(
        "postgres",
        &format!("ALTER ROLE {} SUPERUSER", cluster.info().app_user),
    );
    plain.run(
        "postgres",
        &format!("ALTER ROLE {} SUPERUSER", plain.info().app_user),
    );
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
    for line in STATEMENTS.lines().filter(|line| !line.starts_with('#')) {
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
        let (at_home, elsewhere) = (catalog(&mut home), catalog(&mut other));
        let drift: BTreeSet<String> = at_home.symmetric_difference(&elsewhere).cloned().collect();
        // What an earlier statement has left is its fault alone.
        for line in drift.difference(&known) {
            let side = if at_home.contains(line) {
                "home"
            } else {
                "elsewhere"
            };
            wrong.push(format!("{statement}\n    only {side}: {line}"));
        }
        known = drift;
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
