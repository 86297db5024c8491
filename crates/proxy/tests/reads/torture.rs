//! The search for reads that miss something, with one replica delayed, one in order, and one stopped now and then.
//!
//! `DROVER_PAIRS=100000 cargo test -p proxy --test reads torture -- --nocapture` is the long version, with figures.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent::NodeInfo;
use testkit::consistency::{self, Found, Search};

use crate::herd::{Door, Herd};

/// Pairs in the short version.
const PAIRS: u64 = 1600;

const SESSIONS: usize = 16;

/// Stops a server and all its processes, and lets them go on.
pub fn signal(node: &NodeInfo, name: &str) {
    let Ok(file) = std::fs::read_to_string(node.data_dir.join("postmaster.pid")) else {
        return;
    };
    let parent = file.lines().next().unwrap_or_default().trim().to_owned();
    let mut pids = vec![parent.clone()];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let behind = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if behind.split(' ').nth(1) == Some(&parent) {
            pids.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // A process may end meanwhile.
    let _ = Command::new("kill").arg(format!("-{name}")).args(pids).output();
}

/// Runs a search while the third replica is stopped again and again.
fn search(herd: &Herd, doors: &[&Door], writing: &str, reading: &str, pairs: u64) -> Found {
    let paused = herd.kit.info().shards[0].replicas[2].clone();
    let over = AtomicBool::new(false);
    let search = Search {
        proxies: doors.iter().map(|door| door.url().to_owned()).collect(),
        sessions: SESSIONS,
        pairs,
        writing: writing.to_owned(),
        reading: reading.to_owned(),
        tokens: true,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1_u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(300 + round * 7919 % 700));
                signal(&paused, "STOP");
                std::thread::sleep(Duration::from_millis(200 + round * 104_729 % 900));
                signal(&paused, "CONT");
            }
        });
        let found = consistency::run(&search);
        over.store(true, Ordering::Relaxed);
        found
    })
}

#[test]
fn no_read_misses_what_it_must_not() {
    let pairs = std::env::var("DROVER_PAIRS")
        .ok()
        .and_then(|pairs| pairs.parse().ok())
        .unwrap_or(PAIRS);
    let herd = Herd::start(1, 3);
    let info = herd.kit.info().clone();
    for sql in [
        "ALTER SYSTEM SET recovery_min_apply_delay = '400ms'",
        "SELECT pg_reload_conf()",
    ] {
        herd.kit.on_node(&info.shards[0].replicas[0], &info.database, sql);
    }
    let (one, two) = (herd.proxy("p1"), herd.proxy("p2"));
    consistency::prepare(&mut herd.direct(&info.shards[0].primary), SESSIONS).unwrap();
    // The facts of a table made behind the proxies' backs are loaded with the next change they hear of.
    one.client().simple("CREATE TABLE heard_of ()").unwrap();
    let counts = || {
        let sum = |name: &str| one.metric(name) + two.metric(name);
        (
            sum("drover_reads_on_replica_total"),
            sum("drover_reads_on_primary_total"),
        )
    };
    let before = counts();
    let since = Instant::now();
    let found = search(&herd, &[&one, &two], "read_your_writes", "monotonic", pairs);
    let (replica, primary) = counts();
    let (replica, primary) = (replica - before.0, primary - before.1);
    println!(
        "{found:?}\nreads on replicas {replica}, on the primary {primary} ({:.1} % on replicas), {:?}",
        100.0 * replica as f64 / (replica + primary).max(1) as f64,
        since.elapsed()
    );
    assert!(found.is_clean(), "{found:?}");
    assert!(found.pairs.load(Ordering::Relaxed) >= pairs);
    assert!(replica > 0, "nothing was tested");
    // The same without the check must be found out.
    let found = search(&herd, &[&one, &two], "eventual", "eventual", PAIRS);
    println!("without the check: {found:?}");
    let missed = [&found.stale, &found.backwards];
    assert!(
        missed.iter().all(|count| count.load(Ordering::Relaxed) > 0),
        "the search finds nothing: {found:?}"
    );
}
