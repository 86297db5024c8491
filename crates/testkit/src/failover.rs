//! Promotions under load: one shard of several loses its primary again and again, in three ways, while clients write.
//!
//! What is counted: errors that clients saw, acknowledged writes that are gone, writes that the old primary accepted after
//! the switch, and how long nobody's write on that shard was acknowledged.

pub(crate) mod servers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};
use crate::proxy::{DroverProxy, ProxySite};
use crate::{TestCluster, TestOptions};
use servers::Servers;

/// How the primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// `PAUSE SHARD`, promotion, `RESUME SHARD`.
    Planned,
    /// Its processes are killed.
    Killed,
    /// Its processes are stopped, and go on after the switch.
    Stopped,
}

/// What is run.
#[derive(Debug, Clone)]
pub struct FailoverOptions {
    /// Promotions of each kind, in turn.
    pub rounds: u32,
    /// Kinds.
    pub losses: Vec<Loss>,
    /// Shards; the first one is switched.
    pub shards: u16,
    /// Clients that write to the shard that is switched.
    pub writers: u32,
    /// Clients that read and write elsewhere.
    pub others: u32,
}

/// What happened at one promotion.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// How the primary was lost.
    pub loss: Loss,
    /// From the loss (or the pause) to the first write that was acknowledged afterwards.
    pub pause: Duration,
    /// From the moment at which the new primary took writes to the first one that was acknowledged.
    pub own: Duration,
    /// Errors of writers in this round.
    pub errors: u64,
}

/// The whole run.
#[derive(Debug, Default)]
pub struct FailoverReport {
    /// Promotions.
    pub rounds: Vec<Round>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged writes that are gone.
    pub lost: Vec<i64>,
    /// Connections or statements that an old primary got after the switch.
    pub astray: u64,
    /// Statements on other shards, and those of them that failed.
    pub elsewhere: (u64, u64),
    /// Errors that are neither of those that a lost connection may give.
    pub strange: Vec<String>,
}

/// What writers share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<BTreeSet<i64>>,
    /// When writes were acknowledged last.
    last: Mutex<Option<Instant>>,
    errors: AtomicU64,
    strange: Mutex<Vec<String>>,
    elsewhere: AtomicU64,
    elsewhere_failed: AtomicU64,
}

/// Errors by which a client learns that its server is gone.
const LOST: [&str; 6] = ["08006", "08007", "40001", "57P01", "57P02", "57P03"];

/// The longest a switch may take.
const PATIENCE: Duration = Duration::from_secs(25);

/// Runs it with this binary.
///
/// # Panics
/// When servers or the proxy do not start, or nobody takes writes for a minute.
pub fn run(binary: &Path, options: &FailoverOptions) -> FailoverReport {
    let cluster = TestCluster::start(TestOptions {
        replicas: 2,
        durable: true,
        ..TestOptions::shards(options.shards)
    });
    // It ends with the process.
    let cluster: &'static TestCluster = Box::leak(Box::new(cluster));
    let user = &cluster.info().app_user;
    let config = format!("[console]\nadmin_users = ['{user}']\n[replicas]\nfailover_buffer = '30s'\n");
    let site = ProxySite::new(cluster, binary).with_config(&config);
    let proxy = site.start("failover");
    let mut servers = Servers::new(cluster);
    servers.replicate_synchronously();
    let mut client = proxy.client();
    must(&mut client, "CREATE TABLE here (id bigint PRIMARY KEY)");
    must(
        &mut client,
        "CREATE TABLE there (id bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'id')",
    );
    let keys = keys_elsewhere(&mut client, options.shards);
    let shared = Shared::default();
    let mut report = FailoverReport::default();
    std::thread::scope(|scope| {
        for _ in 0..options.writers {
            scope.spawn(|| write(&proxy, &shared));
        }
        for _ in 0..options.others {
            scope.spawn(|| work_elsewhere(&proxy, &shared, &keys));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..options.rounds {
                for loss in &options.losses {
                    let round = switch(&proxy, &mut servers, &shared, *loss, &mut report.astray);
                    report.rounds.push(round);
                }
            }
        }));
        shared.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    let there = must(&mut client, "SELECT id FROM here").text_rows();
    let there: BTreeSet<i64> = there
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten()?.parse().ok())
        .collect();
    let acknowledged = shared.acknowledged.into_inner().unwrap_or_default();
    report.acknowledged = acknowledged.len() as u64;
    report.lost = acknowledged.difference(&there).copied().collect();
    report.elsewhere = (
        shared.elsewhere.into_inner(),
        shared.elsewhere_failed.into_inner(),
    );
    report.strange = shared.strange.into_inner().unwrap_or_default();
    report
}

/// One promotion, and the way back to a shard with two replicas.
fn switch(
    proxy: &DroverProxy,
    servers: &mut Servers,
    shared: &Shared,
    loss: Loss,
    astray: &mut u64,
) -> Round {
    let errors = shared.errors.load(Ordering::Relaxed);
    let mut console = Client::open(&proxy.target().clone().with_database("pgbouncer")).expect("the console");
    let begun = Instant::now();
    match loss {
        Loss::Planned => {
            must(&mut console, "PAUSE SHARD shard_1");
        }
        Loss::Killed => servers.kill_primary(),
        Loss::Stopped => servers.stop_primary(),
    }
    let old = servers.promote();
    let ready = Instant::now();
    if loss == Loss::Planned {
        must(&mut console, "RESUME SHARD shard_1");
    }
    let first = await_write(proxy, shared, ready);
    // Later ones would count as the next round's.
    std::thread::sleep(Duration::from_millis(200));
    let round = Round {
        loss,
        pause: first - begun,
        own: first - ready,
        errors: shared.errors.load(Ordering::Relaxed) - errors,
    };
    *astray += servers.bring_back(old, loss);
    round
}

/// The moment at which a write was acknowledged that is later than `after`.
fn await_write(proxy: &DroverProxy, shared: &Shared, after: Instant) -> Instant {
    loop {
        let last = *shared.last.lock().expect("no writer panics");
        if let Some(last) = last
            && last > after
        {
            return last;
        }
        assert!(
            after.elapsed() < PATIENCE,
            "nobody takes writes; errors: {:?}; the proxy said:\n{}\n{:?}",
            shared.strange.lock().expect("no writer panics"),
            proxy.log(),
            must(&mut proxy.client(), "SELECT * FROM drover.nodes").text_rows()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write(proxy: &DroverProxy, shared: &Shared) {
    let mut client = proxy.client();
    while !shared.stop.load(Ordering::Relaxed) {
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        match code(&mut client, &format!("INSERT INTO here VALUES ({id})")) {
            Ok(()) => {
                let mut acknowledged = shared.acknowledged.lock().expect("no writer panics");
                acknowledged.insert(i64::try_from(id).unwrap_or(i64::MAX));
                drop(acknowledged);
                *shared.last.lock().expect("no writer panics") = Some(Instant::now());
            }
            Err(code) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                if !LOST.contains(&code.as_str()) {
                    shared.strange.lock().expect("no writer panics").push(code);
                    client = proxy.client();
                }
            }
        }
    }
}

fn work_elsewhere(proxy: &DroverProxy, shared: &Shared, keys: &[i64]) {
    let mut client = proxy.client();
    for key in keys.iter().cycle() {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        shared.elsewhere.fetch_add(1, Ordering::Relaxed);
        if code(
            &mut client,
            &format!("UPDATE there SET n = n + 1 WHERE id = {key}"),
        )
        .is_err()
        {
            shared.elsewhere_failed.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Keys whose rows are not on the first shard.
fn keys_elsewhere(client: &mut Client, shards: u16) -> Vec<i64> {
    let mut keys = Vec::new();
    if shards < 2 {
        return keys;
    }
    for key in 0..200 {
        let plan = must(
            client,
            &format!("EXPLAIN (ROUTE) SELECT * FROM there WHERE id = {key}"),
        );
        let text: Vec<String> = plan.text_rows().into_iter().flatten().flatten().collect();
        if !text.join("\n").contains("shard_1") {
            must(client, &format!("INSERT INTO there VALUES ({key}, 0)"));
            keys.push(key);
        }
    }
    assert!(!keys.is_empty(), "all keys are on one shard");
    keys
}

/// Nothing, or the SQLSTATE of what went wrong.
fn code(client: &mut Client, sql: &str) -> Result<(), String> {
    match client.simple(sql) {
        Ok(answer) => match answer.error() {
            None => Ok(()),
            Some(error) => Err(error.sqlstate().to_owned()),
        },
        Err(ClientError::Closed(Some(error))) => Err(format!("closed with {}", error.sqlstate())),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn must(client: &mut Client, sql: &str) -> crate::client::Answer {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.errors[0]);
    answer
}

impl FailoverReport {
    /// As a table, and whether everything is as it must be.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from(
            "| lost by | promotions | client errors | pause p50 | pause max | of it after the promotion: p50 | max |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for loss in [Loss::Planned, Loss::Killed, Loss::Stopped] {
            let rounds: Vec<&Round> = self.rounds.iter().filter(|round| round.loss == loss).collect();
            if rounds.is_empty() {
                continue;
            }
            let (pause, own) = (
                sorted(&rounds, |round| round.pause),
                sorted(&rounds, |round| round.own),
            );
            let errors: u64 = rounds.iter().map(|round| round.errors).sum();
            let _ = writeln!(
                text,
                "| {loss:?} | {} | {errors} | {} ms | {} ms | {} ms | {} ms |",
                rounds.len(),
                pause[pause.len() / 2].as_millis(),
                pause[pause.len() - 1].as_millis(),
                own[own.len() / 2].as_millis(),
                own[own.len() - 1].as_millis(),
            );
        }
        let _ = writeln!(
            text,
            "\n{} writes acknowledged, {} of them lost, {} sent to an old primary after a switch; on other shards {} statements, \
             {} failed.",
            self.acknowledged,
            self.lost.len(),
            self.astray,
            self.elsewhere.0,
            self.elsewhere.1
        );
        text
    }

    /// What must not have happened; empty: it did not.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.lost.is_empty() {
            wrong.push(format!("acknowledged writes are gone: {:?}", self.lost));
        }
        if self.astray > 0 {
            wrong.push(format!(
                "an old primary got {} statements or connections after the switch",
                self.astray
            ));
        }
        if self.elsewhere.1 > 0 {
            wrong.push(format!("{} statements on other shards failed", self.elsewhere.1));
        }
        let planned = self.rounds.iter().filter(|round| round.loss == Loss::Planned);
        let errors: u64 = planned.map(|round| round.errors).sum();
        if errors > 0 {
            wrong.push(format!("{errors} errors at planned switches"));
        }
        if !self.strange.is_empty() {
            wrong.push(format!(
                "errors that no lost connection gives: {:?}",
                self.strange
            ));
        }
        wrong
    }
}

fn sorted(rounds: &[&Round], of: impl Fn(&Round) -> Duration) -> Vec<Duration> {
    let mut times: Vec<Duration> = rounds.iter().map(|round| of(round)).collect();
    times.sort();
    times
}
