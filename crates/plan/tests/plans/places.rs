//! Where every kind of statement of PostgreSQL's grammar runs.
//!
//! `tests/places.txt` has a line `place | statement` for each; `DROVER_UPDATE=1 cargo test -p plan` rewrites the places.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use plan::{DdlPlace, DdlPlan, Triage};
use sql::StatementNode;

use crate::lab::Lab;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places.txt");

/// A few words for a decision.
fn words(triage: &Triage) -> String {
    match triage {
        Triage::Home => "home".to_owned(),
        Triage::Analyze => "analyze".to_owned(),
        Triage::Transaction(_) => "transaction".to_owned(),
        Triage::Setting(_) => "setting".to_owned(),
        Triage::Drover(_) => "drover".to_owned(),
        Triage::Copy(_) => "copy".to_owned(),
        Triage::CopyQuery(_) => "copy of a query".to_owned(),
        Triage::CreateAs(_) => "home, with rows of a query".to_owned(),
        Triage::Cursor(_) => "cursor at home, over rows of a query".to_owned(),
        Triage::Explain(_) => "explain".to_owned(),
        Triage::Refuse(refusal) => refusal.code.to_string(),
        Triage::Ddl(plan) => ddl(plan),
    }
}

fn ddl(plan: &DdlPlan) -> String {
    let mut words = Vec::new();
    for step in &plan.steps {
        let place = match step.place {
            DdlPlace::Home => "home",
            DdlPlace::All => "all",
            DdlPlace::Others => "others",
            DdlPlace::OthersIfPossible => "others that can",
        };
        words.push(match &step.sql {
            Some(sql) => format!("{place}: {sql}"),
            None => place.to_owned(),
        });
    }
    let mut text = words.join(" + ");
    if plan.names_several {
        text.push_str(" (a list)");
    }
    if !plan.transactional {
        text.push_str(" (one by one)");
    }
    text
}

#[test]
fn every_kind_of_statement_has_its_place() {
    let lab = Lab::new();
    let text = std::fs::read_to_string(FILE).unwrap();
    let mut rewritten = String::new();
    let mut missing: BTreeSet<&str> = StatementNode::ALL.iter().map(|node| node.name()).collect();
    for line in text.lines() {
        let Some((_, statement)) = line.split_once(" | ") else {
            let _ = writeln!(rewritten, "{line}");
            continue;
        };
        let raws = sql::parse(statement, &sql::ParseOptions::default());
        let raws = raws.unwrap_or_else(|error| panic!("{statement}: {error}"));
        missing.remove(raws[0].node.name());
        let place = words(&lab.triage(&raws[0]));
        let _ = writeln!(rewritten, "{place} | {statement}");
    }
    if std::env::var_os("DROVER_UPDATE").is_some() {
        std::fs::write(FILE, &rewritten).unwrap();
    } else {
        let changed = rewritten
            .lines()
            .zip(text.lines())
            .filter(|(new, old)| new != old);
        let changed: Vec<String> = changed.map(|(new, old)| format!("{old}\n  now {new}")).collect();
        assert!(changed.is_empty(), "{}", changed.join("\n"));
    }
    assert!(missing.is_empty(), "no line for {missing:?}");
}

#[test]
fn a_database_without_sharded_tables_keeps_its_shards_alike() {
    let lab = Lab::with_schema(
        "CREATE TABLE settings (a int); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        &[],
    );
    for (statement, expected) in [
        ("ALTER TYPE t RENAME TO u", "home + others that can"),
        ("ALTER FUNCTION f(int) OWNER TO r", "home + others that can"),
        (
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r",
            "home + others that can (a list)",
        ),
        ("ALTER DATABASE d SET work_mem = 1", "all"),
        ("CREATE ROLE r", "all"),
        ("ALTER TABLE settings ADD b int", "home"),
        ("ALTER SYSTEM SET work_mem = 1", "home"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "home"),
    ] {
        let raws = sql::parse(statement, &sql::ParseOptions::default()).unwrap();
        assert_eq!(words(&lab.triage(&raws[0])), expected, "{statement}");
    }
}
