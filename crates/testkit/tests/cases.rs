//! The case files against two plain servers: every statement must be valid, and the comparison must find nothing where
//! there is nothing to find. What it finds where there is something is tested in `oracle.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use testkit::TestPostgres;
use testkit::casefile::{CaseFile, Refusal};
use testkit::client::Target;
use testkit::oracle::{Mode, Options, Oracle, Protocol};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

#[test]
fn every_case_is_valid_and_agrees_between_two_plain_servers() {
    let (one, other) = (TestPostgres::start(), TestPostgres::start());
    // User-defined objects get other OIDs there; the comparison must not care.
    other.run("postgres", "CREATE TABLE skew (a int); DROP TABLE skew");
    let target = |server: &TestPostgres| Target::parse(&server.url(&server.create_database())).unwrap();
    let options = Options {
        refusals: false,
        strict: true,
        modes: vec![
            Mode {
                protocol: Protocol::Simple,
                transaction: false,
            },
            Mode {
                protocol: Protocol::ExtendedBinary,
                transaction: true,
            },
            Mode {
                protocol: Protocol::ExtendedRows,
                transaction: false,
            },
        ],
        ..Options::default()
    };
    let mut oracle = Oracle::new(target(&one), target(&other), options);
    let mut failures = Vec::new();
    for file in CaseFile::read_folder(&folder()).unwrap() {
        let report = oracle.run(&file).unwrap();
        assert!(report.totals().matched > 0, "{} has no cases", report.name);
        failures.extend(report.grouped_failures().iter().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "{}", failures.concat());
}

/// The page says why each shape of SELECT is refused; each of them is a case.
#[test]
fn every_refused_select_has_its_reason_and_its_case() {
    let page = std::fs::read_to_string(folder().join("../../docs/select.md")).unwrap();
    let told = page.lines().filter(|line| line.starts_with("| DRV")).map(|line| {
        let cells: Vec<&str> = line.split(" | ").collect();
        assert!(cells.len() == 3 && cells[2].len() > 20, "no reason: {line}");
        (
            cells[0].trim_start_matches("| ").to_owned(),
            cells[1].trim_matches('`').to_owned(),
        )
    });
    let told: std::collections::BTreeSet<(String, String)> = told.collect();
    let file = CaseFile::read(&folder().join("63_refused_selects.sql")).unwrap();
    let tested = file.cases().filter_map(|case| match &case.refusal {
        Refusal::Must(Some(code)) => Some((code.clone(), case.step.sql.clone())),
        _ => None,
    });
    let tested: std::collections::BTreeSet<(String, String)> = tested.collect();
    // What has no meaning on a plain server is no case.
    let drovers_own = |shape: &&(String, String)| shape.1.contains("drover.");
    let untested: Vec<_> = told
        .difference(&tested)
        .filter(|shape| !drovers_own(shape))
        .collect();
    assert!(untested.is_empty(), "in the page only: {untested:?}");
    let untold: Vec<_> = tested.difference(&told).collect();
    assert!(untold.is_empty(), "in the cases only: {untold:?}");
    assert!(tested.len() > 15);
}
