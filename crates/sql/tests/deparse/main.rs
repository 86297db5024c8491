//! The deparser against a real server: what it prints must mean what it was printed from.

mod catalog;
mod same;
mod server;

use catalog::Catalog;
use server::{Server, Session};
use sql::deparse::NoRewrite;
use sql::nodes::{self, Value};
use sql::{Deparser, Node};

const SCHEMA: &str = include_str!("../corpus/deparse_schema.sql");
const CORPUS: &str = include_str!("../corpus/deparse.sql");
/// Settings that change how literals and names read.
const ODD_SETTINGS: &str = "set search_path = ''; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'; \
    set timezone = 'Asia/Kolkata'; set standard_conforming_strings = off; set escape_string_warning = off; \
    set bytea_output = 'escape'; set extra_float_digits = -3";

fn query_of(text: &str) -> Node {
    match nodes::parse_wrapped(text).unwrap_or_else(|e| panic!("{e}\n{text}")) {
        Value::List(mut list) if list.len() == 1 => match list.remove(0) {
            Value::Node(node) => *node,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn deparsed(session: &Session, names: &Catalog, sql: &str) -> Result<String, String> {
    let tree = query_of(&session.tree(sql).await?);
    let deparser = Deparser::new(&tree, names, &NoRewrite).map_err(|e| e.to_string())?;
    deparser.query().map_err(|e| e.to_string())
}

/// Checks one statement; returns what is wrong.
async fn check(session: &Session, odd: &Session, names: &Catalog, sql: &str) -> Result<(), String> {
    let first = deparsed(session, names, sql)
        .await
        .map_err(|e| format!("deparse: {e}"))?;
    // Printed text read under other settings gives the same tree, hence the same text.
    let mut second = deparsed(odd, names, &first)
        .await
        .map_err(|e| format!("again: {e}\n  {first}"))?;
    let mut third = first.clone();
    if sql.contains("insert into") {
        // VALUES become a subquery once.
        third = second;
        second = deparsed(odd, names, &third)
            .await
            .map_err(|e| format!("third: {e}\n  {third}"))?;
    }
    if second != third {
        return Err(format!("not stable:\n  {third}\n  {second}"));
    }
    let (wanted, found) = (session.tree(sql).await?, odd.tree(&first).await?);
    // These are printed in another form on purpose: rows of an INSERT, expanded views and defaults, merged columns.
    let reformed = ["insert into", "s.v", "full join s.ord o using", "= default"]
        .iter()
        .any(|f| sql.contains(f));
    let difference = same::difference(&query_of(&wanted), &query_of(&found));
    if let Some(difference) = difference.filter(|_| !reformed) {
        return Err(format!("different trees: {difference}\n  {first}"));
    }
    if sql.contains('$') {
        return Ok(());
    }
    let wanted = session.outcome(sql).await;
    let found = session.outcome(&first).await;
    if wanted != found {
        return Err(format!(
            "different results:\n  {first}\n  {wanted:?}\n  {found:?}"
        ));
    }
    Ok(())
}

#[test]
fn statements_survive_the_round_trip() {
    let Some(server) = Server::start() else {
        eprintln!("skipped: no PostgreSQL installed");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let session = server.connect().await;
        session.run(SCHEMA).await.expect("schema");
        let odd = server.connect().await;
        odd.run(ODD_SETTINGS).await.expect("settings");
        let names = Catalog::load(&session).await;
        let mut failures = Vec::new();
        let mut count = 0;
        for sql in CORPUS.lines().filter(|l| !l.is_empty()) {
            count += 1;
            if let Err(e) = check(&session, &odd, &names, sql).await {
                failures.push(format!("{sql}\n  {e}"));
            }
        }
        assert!(
            failures.is_empty(),
            "{} of {count} failed:\n{}",
            failures.len(),
            failures.join("\n\n")
        );
    });
}
