//! Clients cut off anywhere leave nothing for others to see.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use testkit::dev::DroverDev;
use testkit::leak::{LeakOptions, hunt};

#[test]
fn killed_clients_leave_nothing_behind() {
    let dev = DroverDev::start(Path::new(env!("CARGO_BIN_EXE_drover")), 2, 0).unwrap();
    for sharded in [false, true] {
        let options = LeakOptions {
            seed: 7,
            duration: Duration::from_secs(3),
            sharded,
            ..LeakOptions::new(dev.target().clone())
        };
        let report = hunt(&options).unwrap();
        assert!(report.violations.is_empty(), "sharded {sharded}: {report}");
        assert!(report.killed > 0 && report.checks > 0, "{report}");
    }
}
