//! Replicas that die, hang and are restarted while clients read: nobody may notice more than a delay.

use std::path::Path;
use std::time::Duration;

use testkit::disturb::{self, DisturbOptions, Disturbance};

#[test]
fn reads_go_elsewhere_when_a_replica_dies_or_hangs() {
    let options = DisturbOptions {
        rounds: 1,
        kinds: vec![Disturbance::Killed, Disturbance::Stopped],
        shards: 2,
        replicas: 2,
        rate: 200,
        clients: 8,
        lasts: Duration::from_millis(2000),
        // A server that hangs is not taken for dead within the time of the test.
        config: "[replicas]\nslow_start = '500ms'\npoll_timeout = '20s'\n".to_owned(),
    };
    // A machine that stands still for a moment is no replica that hangs: then it is measured once more.
    for last in [false, true] {
        let report = disturb::run(Path::new(env!("CARGO_BIN_EXE_drover")), &options);
        assert_eq!(report.wrong(), Vec::<String>::new(), "{}", report.table());
        let slowest = report.slowest(Disturbance::Stopped);
        println!("{}", report.table());
        if slowest < Duration::from_millis(1800) {
            return;
        }
        assert!(
            !last,
            "a read waited for {slowest:?} behind a replica that hangs:\n{}",
            report.table()
        );
    }
}
