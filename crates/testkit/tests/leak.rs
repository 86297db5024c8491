//! The leak hunt against plain PostgreSQL, where every session has a process of its own, finds nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;
use testkit::TestPostgres;
use testkit::client::Target;
use testkit::leak::{LeakOptions, hunt};

#[test]
fn plain_postgresql_leaks_nothing() {
    let server = TestPostgres::shared();
    let target = Target::parse(&server.url(&server.create_database())).unwrap();
    let options = LeakOptions {
        duration: Duration::from_secs(2),
        ..LeakOptions::new(target)
    };
    let report = hunt(&options).unwrap();
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.killed > 0 && report.checks > 0, "{report}");
}
