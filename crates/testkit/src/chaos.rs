//! Transfers between accounts of several shards while proxies and servers are killed and stopped and connections are cut, at the named
//! points of the commit protocol and at random: no transaction may ever be half there, and nobody be told something that is not so.
//!
//! Accounts come in groups whose members are on different shards. A transaction changes the balances of a group, counts it on
//! every member, and writes a row for every member with that number. So afterwards it is known of each transaction where it is, and in
//! which order those of a group came on each shard. A third of them also write a table with global indexes, one of them unique, with so few
//! values that they meet: no value may be there twice, and every entry must be a row's, and every row have its entry.

mod bank;
mod checks;
mod disturb;
mod points;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::proxy::ProxySite;
use crate::random::Random;
use crate::{TestCluster, TestOptions};
use bank::{Bank, Fate};
pub use disturb::Blow;
use disturb::Stage;
use points::Points;

/// Points of the protocol, as the proxy names them.
pub const POINTS: [&str; 15] = [
    "CommitOne",
    "CommittedOne",
    "Prepare",
    "Prepared",
    "Decide",
    "DecisionSent",
    "Decided",
    "CommitPrepared",
    "CommittedPrepared",
    "RollBack",
    "Answer",
    "RecoveryFound",
    "RecoveryLookedUp",
    "RecoveryExcluded",
    "RecoveryFinished",
];

/// The age at which recovery gives up on a proxy here: stopped ones are to be given up on now and then.
const GRACE_MS: u32 = 1000;

/// More of the proxies' configuration.
const CONFIG: &str = "[pool]\npool_size = 24\nconnection_timeout = '10s'\n";

/// What is run.
#[derive(Debug, Clone)]
pub struct ChaosOptions {
    /// Blows.
    pub kills: u32,
    /// Equal seeds give equal blows; what they meet is a matter of timing.
    pub seed: u64,
    /// Clients that write.
    pub writers: u32,
    /// Shards.
    pub shards: u16,
    /// Which blows; empty: all.
    pub blows: Vec<Blow>,
    /// At which points; empty: all, and at random times.
    pub points: Vec<String>,
    /// How the protocol is broken on purpose.
    pub mutant: Option<String>,
    /// Two synchronous replicas for each shard, of which one takes the place of the first shard's primary now and then.
    pub promote: bool,
    /// Say how it goes, on standard error.
    pub progress: bool,
}

impl Default for ChaosOptions {
    fn default() -> Self {
        Self {
            kills: 20,
            seed: 1,
            writers: 16,
            shards: 4,
            blows: Vec::new(),
            points: Vec::new(),
            mutant: None,
            promote: false,
            progress: false,
        }
    }
}

/// How it went.
#[derive(Debug, Default)]
pub struct ChaosReport {
    /// What was done, and where.
    pub blows: BTreeMap<String, u32>,
    /// Transactions by what their client was told.
    pub fates: BTreeMap<&'static str, u64>,
    /// Reads of one moment of the whole cluster.
    pub reads: u64,
    /// What must not be.
    pub wrong: Vec<String>,
    /// From the end of the last blow until nothing was in doubt.
    pub settled: Duration,
    /// All of it.
    pub took: Duration,
}

/// Runs it over servers of its own.
///
/// # Panics
/// When servers or proxies do not start.
pub fn run(binary: &Path, options: &ChaosOptions) -> ChaosReport {
    let cluster = TestCluster::start(TestOptions {
        replicas: if options.promote { 2 } else { 0 },
        durable: options.promote,
        ..TestOptions::shards(options.shards)
    });
    // It ends with the process.
    run_on(Box::leak(Box::new(cluster)), binary, options)
}

/// Runs it in a database of its own. The cluster's servers are killed and started again.
///
/// # Panics
/// When servers or proxies do not start.
pub fn run_on(cluster: &'static TestCluster, binary: &Path, options: &ChaosOptions) -> ChaosReport {
    let began = Instant::now();
    let points = Points::listen();
    let replicas = if options.promote {
        "[replicas]\nfailover_buffer = '30s'\n"
    } else {
        ""
    };
    let config = format!("{CONFIG}{replicas}");
    let site = ProxySite::new(cluster, binary)
        .with_config(&config)
        .with_variable("DROVER_TEST_POINTS", &points.path().display().to_string())
        .with_variable("DROVER_TEST_GRACE_MS", &GRACE_MS.to_string());
    let mut stage = Stage::new(cluster, site, &points, options.promote);
    let mut random = Random::new(options.seed);
    let bank = Bank::open(&stage, &mut random);
    stage.open(options.mutant.as_deref());
    let mut report = ChaosReport::default();
    let mut last_blow = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..options.writers {
            let (bank, doors) = (&bank, stage.doors());
            let random = Random::new(options.seed ^ (u64::from(number) << 32));
            scope.spawn(move || bank.write(&doors, number, random));
        }
        for _ in 0..2 {
            let (bank, doors) = (&bank, stage.doors());
            scope.spawn(move || bank.read(&doors));
        }
        // A panic here must not leave the others running.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            strike_all(&mut stage, &bank, options, &mut random, &mut report);
        }));
        last_blow = Instant::now();
        bank.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    stage.await_nothing_in_doubt(&mut report.wrong);
    report.settled = last_blow.elapsed();
    checks::check(&stage, &bank, &mut report);
    report.took = began.elapsed();
    report
}

fn strike_all(
    stage: &mut Stage<'_>,
    bank: &Bank,
    options: &ChaosOptions,
    random: &mut Random,
    report: &mut ChaosReport,
) {
    let began = Instant::now();
    let mut said = Instant::now();
    for done in 0..options.kills {
        let what = stage.strike(options, random);
        *report.blows.entry(what).or_default() += 1;
        if bank.found_wrong() {
            return;
        }
        if options.progress && said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            let rate = f64::from(done + 1) / began.elapsed().as_secs_f64();
            let left = f64::from(options.kills - done - 1) / rate;
            eprintln!(
                "chaos: {}/{} kills, {rate:.2}/s, {left:.0} s left; {} committed, {} refused, {} unknown, {} reads",
                done + 1,
                options.kills,
                bank.count(Fate::Committed),
                bank.count(Fate::Refused),
                bank.count(Fate::Unknown) + bank.count(Fate::ToldCommitted) + bank.count(Fate::ToldAborted),
                bank.reads.load(Ordering::Relaxed),
            );
        }
    }
}

impl ChaosReport {
    /// In a few lines.
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (what, times) in &self.blows {
            let _ = writeln!(text, "  {times:5} × {what}");
        }
        let kills: u32 = self.blows.values().sum();
        let _ = write!(
            text,
            "{kills} kills in {:.0} s; transactions: {:?}; {} reads of one moment; nothing in doubt after {:.1} s",
            self.took.as_secs_f64(),
            self.fates,
            self.reads,
            self.settled.as_secs_f64()
        );
        for wrong in self.wrong.iter().take(20) {
            let _ = write!(text, "\nWRONG: {wrong}");
        }
        text
    }
}
