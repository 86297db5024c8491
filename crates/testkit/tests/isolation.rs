//! Against plain PostgreSQL, where every session has a process of its own, the isolation run finds nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;
use testkit::TestPostgres;
use testkit::client::Target;
use testkit::isolation::{IsolationOptions, isolate};

#[test]
fn plain_postgresql_isolates() {
    let server = TestPostgres::shared();
    let target = Target::parse(&server.url(&server.create_database())).unwrap();
    let options = IsolationOptions {
        clients: 20,
        duration: Duration::from_secs(4),
        ..IsolationOptions::new(target)
    };
    let report = isolate(&options).unwrap();
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.killed > 0 && report.ended > 0, "{report}");
}
