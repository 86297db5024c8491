//! The case files against two plain servers: every statement must be valid, and the comparison must find nothing where
//! there is nothing to find. What it finds where there is something is tested in `oracle.rs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::PathBuf;
use testkit::TestPostgres;
use testkit::casefile::CaseFile;
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
