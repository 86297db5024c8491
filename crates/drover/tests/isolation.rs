//! Hundreds of clients over a handful of server connections: nobody sees anything of another.
//!
//! A longer run: `drover-testkit isolation --binary target/debug/drover --clients 2000 --seconds 600 --seed N`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use testkit::TestCluster;
use testkit::client::Target;
use testkit::isolation::{self, IsolationOptions};

/// Server connections of the pool; so many clients share them.
const POOL: u64 = 4;
const CLIENTS: usize = 150;

fn options(target: &Target, seed: u64) -> IsolationOptions {
    IsolationOptions {
        seed,
        clients: CLIENTS,
        duration: Duration::from_secs(12),
        role: Some(isolation::ROLE.to_owned()),
        ..IsolationOptions::new(target.clone())
    }
}

#[test]
fn clients_never_see_anything_of_each_other() {
    let site = isolation::site(
        TestCluster::shared(2),
        Path::new(env!("CARGO_BIN_EXE_drover")),
        POOL,
    );
    let proxy = site.start("a");
    for sharded in [false, true] {
        let options = IsolationOptions {
            sharded,
            ..options(proxy.target(), 11 + u64::from(sharded))
        };
        let report = isolation::isolate(&options).unwrap();
        println!("{report}");
        assert!(report.violations.is_empty(), "sharded {sharded}: {report}");
        assert!(report.killed > 0 && report.ended > 0, "{report}");
        assert!(report.exchanges.len() > 15, "{:?}", report.exchanges);
    }
}
