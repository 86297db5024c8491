//! Reads under disturbances: a fixed rate of autocommit reads goes through a proxy while the replicas of a shard, one after
//! the other, are killed, stopped, restarted and made slow.
//!
//! The rate is open: each client has a timetable, and a read that is late because the one before it took long counts from
//! the time at which it should have been sent. So a proxy that stands still for a second shows in the figures as often
//! as clients would have felt it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Extended};
use crate::failover::must;
use crate::failover::servers::Servers;
use crate::proxy::{DroverProxy, ProxySite};
use crate::{TestCluster, TestOptions};

/// What is done to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing: what the others are compared with.
    Quiet,
    /// Its processes are killed; it is started again after the time of a disturbance.
    Killed,
    /// Its processes are stopped, and go on after that time.
    Stopped,
    /// It is shut down as an operator does, and started again at once.
    Restarted,
    /// Its processes are stopped most of the time, for a moment each.
    Slow,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Disturbance; 5] = [
        Self::Quiet,
        Self::Killed,
        Self::Stopped,
        Self::Restarted,
        Self::Slow,
    ];

    /// By its name in lower case.
    pub fn parse(name: &str) -> Option<Self> {
        let is_named = |kind: &Self| format!("{kind:?}").eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_named)
    }
}

/// What is run.
#[derive(Debug, Clone)]
pub struct DisturbOptions {
    /// Times that each replica suffers each of them.
    pub rounds: u32,
    /// Which.
    pub kinds: Vec<Disturbance>,
    /// Shards; the replicas of the first one are disturbed.
    pub shards: u16,
    /// Replicas per shard.
    pub replicas: u16,
    /// Reads per second, of all clients together.
    pub rate: u32,
    /// Clients; half of them use the extended protocol.
    pub clients: u32,
    /// How long a disturbance lasts.
    pub lasts: Duration,
    /// More of the proxy's configuration.
    pub config: String,
}

/// One disturbance of one replica.
#[derive(Debug, Clone)]
pub struct Round {
    /// What was done.
    pub kind: Disturbance,
    /// Times of all reads from its begin until it was over and the replica was in use again, in microseconds, in order.
    pub took_us: Vec<u32>,
    /// Reads that failed.
    pub errors: u64,
    /// From the end of the disturbance (the server takes clients) to the first read it answered.
    pub first: Duration,
    /// To the moment when it had half its share of the reads again.
    pub half: Duration,
}

/// The whole run.
#[derive(Debug, Default)]
pub struct DisturbReport {
    /// In the order in which they were done.
    pub rounds: Vec<Round>,
    /// What clients were told, with the time since the run began.
    pub errors: Vec<String>,
    /// Values that were not those in the table.
    pub wrong_values: u64,
}

struct Shared {
    stop: AtomicBool,
    /// The round at hand; reads outside of rounds count for none.
    took: Mutex<Vec<u32>>,
    errors: AtomicU64,
    wrong: AtomicU64,
    said: Mutex<Vec<String>>,
    /// Clients that read.
    reading: AtomicU32,
    origin: Instant,
}

/// Rows in the table.
const ROWS: u64 = 1000;

/// Every how many reads one goes over all shards, where there are several.
const SCATTER_EVERY: u64 = 8;

/// A slow server runs so long, and is stopped so long, in turn.
const SLOW: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(45));

/// The longest a replica may stay unused after a disturbance.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often a replica's share of the reads is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs it with this binary.
///
/// # Panics
/// When servers or the proxy do not start, or a replica is not used again.
pub fn run(binary: &Path, options: &DisturbOptions) -> DisturbReport {
    let cluster = TestCluster::start(TestOptions {
        replicas: options.replicas,
        durable: true,
        ..TestOptions::shards(options.shards)
    });
    // It ends with the process.
    let cluster: &'static TestCluster = Box::leak(Box::new(cluster));
    let site = ProxySite::new(cluster, binary).with_config(&options.config);
    let proxy = site.start("disturbed");
    let mut servers = Servers::new(cluster);
    let mut client = proxy.client();
    must(&mut client, "CREATE TABLE plain (id int PRIMARY KEY, v int)");
    must(
        &mut client,
        "CREATE TABLE spread (id bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'id')",
    );
    for table in ["plain", "spread"] {
        let rows: Vec<String> = (0..ROWS).map(|row| format!("({row}, {row})")).collect();
        must(
            &mut client,
            &format!("INSERT INTO {table} VALUES {}", rows.join(", ")),
        );
    }
    let shared = Shared {
        stop: AtomicBool::new(false),
        took: Mutex::new(Vec::new()),
        errors: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        said: Mutex::new(Vec::new()),
        reading: AtomicU32::new(0),
        origin: Instant::now(),
    };
    let mut report = DisturbReport::default();
    std::thread::scope(|scope| {
        for number in 0..options.clients {
            let (proxy, shared) = (&proxy, &shared);
            scope.spawn(move || read(proxy, shared, options, number));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            await_all_used(&proxy, &shared, options);
            for _ in 0..options.rounds {
                for replica in 1..=usize::from(options.replicas) {
                    for kind in &options.kinds {
                        let round = disturb(&proxy, &mut servers, &shared, options, replica, *kind);
                        report.rounds.push(round);
                    }
                }
            }
        }));
        shared.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    report.errors = shared.said.into_inner().unwrap_or_default();
    report.wrong_values = shared.wrong.into_inner();
    report
}

fn disturb(
    proxy: &DroverProxy,
    servers: &mut Servers,
    shared: &Shared,
    options: &DisturbOptions,
    at: usize,
    kind: Disturbance,
) -> Round {
    let port = servers.node(at).port;
    let mut looks = proxy.client();
    let share = f64::from(options.rate) / f64::from(options.replicas);
    shared.took.lock().expect("no client panics").clear();
    let errors = shared.errors.load(Ordering::Relaxed);
    let until = Instant::now() + options.lasts;
    match kind {
        Disturbance::Quiet => sleep_until(until),
        Disturbance::Killed => {
            servers.kill(at);
            sleep_until(until);
            servers.start_again(at);
        }
        Disturbance::Stopped => {
            servers.signal(at, "STOP");
            sleep_until(until);
            servers.signal(at, "CONT");
        }
        Disturbance::Restarted => {
            servers.shut_down(at);
            servers.start_again(at);
        }
        Disturbance::Slow => {
            while Instant::now() < until {
                servers.signal(at, "STOP");
                std::thread::sleep(SLOW.1);
                servers.signal(at, "CONT");
                std::thread::sleep(SLOW.0);
            }
        }
    }
    let over = Instant::now();
    let (first, half) = await_use(&mut looks, port, share, over);
    let mut took_us = std::mem::take(&mut *shared.took.lock().expect("no client panics"));
    took_us.sort_unstable();
    Round {
        kind,
        took_us,
        errors: shared.errors.load(Ordering::Relaxed) - errors,
        first,
        half,
    }
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// When the server at this port answered its first read since `over`, and when it answered half of `share` a second.
fn await_use(looks: &mut Client, port: u16, share: f64, over: Instant) -> (Duration, Duration) {
    let mut before = (Instant::now(), reads_of(looks, port));
    let mut first = None;
    loop {
        std::thread::sleep(LOOK);
        let now = (Instant::now(), reads_of(looks, port));
        let more = now.1.saturating_sub(before.1);
        if more > 0 {
            first.get_or_insert(now.0 - over);
        }
        // A few looks together: the rate of one is a matter of luck.
        if now.0 - before.0 >= LOOK * 5 {
            let rate = more as f64 / (now.0 - before.0).as_secs_f64();
            if let Some(first) = first
                && rate >= share / 2.0
            {
                return (first, now.0 - over);
            }
            before = now;
        }
        assert!(
            over.elapsed() < PATIENCE,
            "a replica is not used again: {:?}",
            must(looks, "SELECT * FROM drover.nodes").text_rows()
        );
    }
}

/// Reads that a server has answered, by what the proxy says.
fn reads_of(looks: &mut Client, port: u16) -> u64 {
    let answer = must(looks, "SELECT * FROM drover.nodes");
    let result = answer.results.first().expect("one result");
    let column = |name: &str| {
        result
            .columns
            .iter()
            .flatten()
            .position(|column| column.name == name)
    };
    let (ports, reads) = (column("port").expect("port"), column("reads").expect("reads"));
    let rows = answer.text_rows();
    let row = rows
        .iter()
        .find(|row| row[ports].as_deref() == Some(&port.to_string()));
    let reads = row.and_then(|row| row[reads].as_deref()?.parse().ok());
    reads.unwrap_or_default()
}

/// Waits until all clients read and every replica answers.
fn await_all_used(proxy: &DroverProxy, shared: &Shared, options: &DisturbOptions) {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = proxy.client();
    let sql = "SELECT * FROM drover.nodes";
    loop {
        let answer = must(&mut looks, sql);
        let rows = answer.text_rows();
        let is_in = |row: &&Vec<Option<String>>| row.iter().any(|value| value.as_deref() == Some("in"));
        let all = rows.iter().filter(is_in).count() == usize::from(options.replicas * options.shards);
        if all && shared.reading.load(Ordering::Relaxed) == options.clients {
            break;
        }
        assert!(Instant::now() < deadline, "not all replicas are used: {rows:?}");
        std::thread::sleep(LOOK);
    }
    // Connections are made, and caches filled.
    std::thread::sleep(Duration::from_millis(500));
}

fn read(proxy: &DroverProxy, shared: &Shared, options: &DisturbOptions, number: u32) {
    let mut client = proxy.client();
    must(&mut client, "SET drover.read_from = 'replica'");
    must(&mut client, "SET drover.consistency = 'read_your_writes'");
    let pause = Duration::from_secs(1) * options.clients / options.rate.max(1);
    let mut due = Instant::now() + pause * number / options.clients;
    let mut turn = u64::from(number);
    while !shared.stop.load(Ordering::Relaxed) {
        sleep_until(due);
        turn += 1;
        let key = turn * 7919 % ROWS;
        let (sql, expected) = if options.shards > 1 && turn.is_multiple_of(SCATTER_EVERY) {
            ("SELECT sum(v) FROM spread".to_owned(), ROWS * (ROWS - 1) / 2)
        } else {
            (format!("SELECT v FROM plain WHERE id = {key}"), key)
        };
        let answer = if number.is_multiple_of(2) {
            client.simple(&sql)
        } else {
            client.extended(&Extended::new(&sql))
        };
        let took = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
        shared.took.lock().expect("no client panics").push(took);
        if turn == u64::from(number) + 1 {
            shared.reading.fetch_add(1, Ordering::Relaxed);
        }
        let failure = match answer {
            Ok(answer) => match answer.error() {
                Some(error) => Some(error.to_string()),
                None => {
                    if answer.value() != Some(expected.to_string()) {
                        shared.wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    None
                }
            },
            Err(error) => {
                client = proxy.client();
                must(&mut client, "SET drover.read_from = 'replica'");
                Some(error.to_string())
            }
        };
        if let Some(failure) = failure {
            shared.errors.fetch_add(1, Ordering::Relaxed);
            let at = shared.origin.elapsed().as_millis();
            let line = format!("at {at} ms, {sql}: {failure}");
            shared.said.lock().expect("no client panics").push(line);
        }
        due += pause;
    }
}

impl DisturbReport {
    /// As a table.
    pub fn table(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::from(
            "| replica | times | reads | errors | p50 | p99 | max | first read again | half its share again |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for kind in Disturbance::ALL {
            let rounds: Vec<&Round> = self.rounds.iter().filter(|round| round.kind == kind).collect();
            if rounds.is_empty() {
                continue;
            }
            let mut took: Vec<u32> = rounds
                .iter()
                .flat_map(|round| round.took_us.iter().copied())
                .collect();
            took.sort_unstable();
            let at = |part: f64| {
                let at = (took.len() as f64 * part) as usize;
                let us = took.get(at.min(took.len().saturating_sub(1))).copied();
                format!("{:.1} ms", f64::from(us.unwrap_or_default()) / 1000.0)
            };
            let most = |of: fn(&Round) -> Duration| {
                let mut times: Vec<Duration> = rounds.iter().map(|round| of(round)).collect();
                times.sort();
                let (mid, last) = (times[times.len() / 2], times[times.len() - 1]);
                format!("{} ms (at most {})", mid.as_millis(), last.as_millis())
            };
            let errors: u64 = rounds.iter().map(|round| round.errors).sum();
            let _ = writeln!(
                text,
                "| {kind:?} | {} | {} | {errors} | {} | {} | {} | {} | {} |",
                rounds.len(),
                took.len(),
                at(0.5),
                at(0.99),
                at(1.0),
                most(|round| round.first),
                most(|round| round.half),
            );
        }
        text
    }

    /// What must not have happened; empty: it did not.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.errors.is_empty() {
            let shown: Vec<&str> = self.errors.iter().take(10).map(String::as_str).collect();
            wrong.push(format!(
                "{} reads failed: {}",
                self.errors.len(),
                shown.join("; ")
            ));
        }
        if self.wrong_values > 0 {
            wrong.push(format!("{} reads gave a wrong value", self.wrong_values));
        }
        wrong
    }

    /// The longest read of one kind of disturbance.
    pub fn slowest(&self, kind: Disturbance) -> Duration {
        let rounds = self.rounds.iter().filter(|round| round.kind == kind);
        let slowest = rounds.filter_map(|round| round.took_us.last()).max();
        Duration::from_micros(u64::from(slowest.copied().unwrap_or_default()))
    }
}
