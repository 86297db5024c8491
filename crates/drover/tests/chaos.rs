//! Transfers over shards while proxies and servers are killed, stopped and cut off. And the checker itself: each way to break the
//! protocol on purpose has to be found.
//!
//! Thousands of kills: `drover-testkit chaos --binary target/debug/drover --kills 2000 --seed 3`.

use std::path::Path;

use testkit::chaos::{self, Blow, ChaosOptions, ChaosReport};
use testkit::{TestCluster, TestOptions};

/// A cluster of one's own: its servers are killed. It ends with the process.
fn cluster() -> &'static TestCluster {
    Box::leak(Box::new(TestCluster::start(TestOptions::shards(4))))
}

fn run(cluster: &'static TestCluster, options: &ChaosOptions) -> ChaosReport {
    chaos::run_on(cluster, Path::new(env!("CARGO_BIN_EXE_drover")), options)
}

#[test]
fn no_transaction_is_half_there_whatever_dies() {
    let options = ChaosOptions {
        kills: 16,
        seed: 11,
        ..ChaosOptions::default()
    };
    let report = run(cluster(), &options);
    println!("{}", report.text());
    assert_eq!(report.wrong, Vec::<String>::new(), "{}", report.text());
}

#[test]
fn every_way_to_break_the_protocol_is_found() {
    let cluster = cluster();
    for (mutant, blow, point) in [
        ("AnswersEarly", Blow::KillProxy, "Decide"),
        ("GuessesAbort", Blow::StopProxy, "Decide"),
        ("ForgetsOne", Blow::Cut, "Answer"),
        ("NoDecisionRow", Blow::KillProxy, "Decided"),
        ("LostIsAbort", Blow::Cut, "DecisionSent"),
        ("CommitsEarly", Blow::KillProxy, "Decide"),
    ] {
        let options = ChaosOptions {
            // It ends with the first wrong read.
            kills: 12,
            blows: vec![blow],
            points: vec![point.to_owned()],
            mutant: Some(mutant.to_owned()),
            ..ChaosOptions::default()
        };
        let report = run(cluster, &options);
        println!("{mutant}: {}", report.text());
        assert!(!report.wrong.is_empty(), "{mutant} was not found");
    }
}
