//! Killed clients must leave nothing behind for others to see.
//!
//! Victims send random statement streams and are cut off at a random byte of what they send. Checkers share the
//! server with them: each asks only for its own tag and must never see another's, nor another's settings, temporary
//! tables, prepared statements, locks or channels. At the end, what victims did in transactions must be there whole
//! or not at all. Equal seeds make equal streams; how they interleave is up to the machine.

mod checker;
mod victim;

use crate::client::{Client, ClientError, Target};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rows of the table everybody reads.
const ROWS: u32 = 200;
/// Violations kept; one is enough to fail.
const VIOLATIONS_MAX: usize = 50;
/// Characters kept of one.
const VIOLATION_LEN_MAX: usize = 500;
/// How long the server may take to undo what the last victims left open.
const SETTLE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Debug, Clone)]
pub struct LeakOptions {
    /// The server or proxy.
    pub target: Target,
    /// Seed of every stream.
    pub seed: u64,
    /// Concurrent victims.
    pub victims: usize,
    /// Concurrent checkers.
    pub checkers: usize,
    /// How long.
    pub duration: Duration,
    /// Shard the tables (the target is a cluster).
    pub sharded: bool,
}

impl LeakOptions {
    /// Eight victims and four checkers for five seconds.
    pub fn new(target: Target) -> LeakOptions {
        LeakOptions {
            target,
            seed: 1,
            victims: 8,
            checkers: 4,
            duration: Duration::from_secs(5),
            sharded: false,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct LeakReport {
    /// Clients cut off.
    pub killed: u64,
    /// Victims that were let live and whose answers were all right.
    pub survived: u64,
    /// Exchanges checked.
    pub checks: u64,
    /// Connection attempts the server turned down.
    pub turned_down: u64,
    /// Leaks, with what was seen.
    pub violations: Vec<String>,
}

impl std::fmt::Display for LeakReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LeakReport {
            killed,
            survived,
            checks,
            turned_down,
            violations,
        } = self;
        let count = violations.len();
        write!(
            f,
            "{killed} killed, {survived} survived, {checks} checks, {turned_down} turned down, {count} leaks"
        )?;
        violations
            .iter()
            .try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// What all threads share.
struct Hunt {
    options: LeakOptions,
    /// What a session sees of itself when nobody else is there.
    untouched: Vec<Option<String>>,
    stop: AtomicBool,
    killed: AtomicU64,
    survived: AtomicU64,
    checks: AtomicU64,
    turned_down: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl Hunt {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn violation(&self, text: String) {
        let mut list = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < VIOLATIONS_MAX {
            list.push(text.chars().take(VIOLATION_LEN_MAX).collect());
        }
    }
}

/// Runs victims and checkers; creates and drops the tables `leak_rows` and `leak_pairs` in the target's database.
pub fn hunt(options: &LeakOptions) -> Result<LeakReport, ClientError> {
    let untouched = set_up(options)?;
    let hunt = Hunt {
        options: options.clone(),
        untouched,
        stop: AtomicBool::new(false),
        killed: AtomicU64::new(0),
        survived: AtomicU64::new(0),
        checks: AtomicU64::new(0),
        turned_down: AtomicU64::new(0),
        violations: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        let hunt = &hunt;
        for number in 0..options.victims {
            scope.spawn(move || victim::run(hunt, number as u64));
        }
        for number in 0..options.checkers {
            scope.spawn(move || checker::run(hunt, number as u64));
        }
        let end = Instant::now() + options.duration;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        hunt.stop.store(true, Ordering::Relaxed);
    });
    let mut violations = hunt
        .violations
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    violations.extend(half_transactions(options)?);
    tear_down(options)?;
    Ok(LeakReport {
        killed: hunt.killed.into_inner(),
        survived: hunt.survived.into_inner(),
        checks: hunt.checks.into_inner(),
        turned_down: hunt.turned_down.into_inner(),
        violations,
    })
}

/// The tag stored with a key.
fn row_tag(key: u32) -> String {
    format!("row-{key}")
}

/// Makes the tables; returns what [`checker::STATE`] says before anything can have leaked.
fn set_up(options: &LeakOptions) -> Result<Vec<Option<String>>, ClientError> {
    let mut client = Client::open(&options.target)?;
    let values: Vec<String> = (0..ROWS)
        .map(|key| format!("({key}, '{}')", row_tag(key)))
        .collect();
    let mut statements = vec![
        "DROP TABLE IF EXISTS leak_rows".to_string(),
        "DROP TABLE IF EXISTS leak_pairs".to_string(),
        "CREATE TABLE leak_rows (k int PRIMARY KEY, tag text NOT NULL)".to_string(),
        "CREATE TABLE leak_pairs (k bigint NOT NULL, tag text NOT NULL)".to_string(),
    ];
    if options.sharded {
        statements.push("SELECT drover.shard_table('leak_rows', key => 'k')".to_string());
        statements.push("SELECT drover.shard_table('leak_pairs', key => 'k')".to_string());
    }
    statements.push(format!("INSERT INTO leak_rows VALUES {}", values.join(", ")));
    for sql in statements {
        must(&mut client, &sql)?;
    }
    let state = client.simple(checker::STATE)?;
    client.close();
    Ok(state.text_rows().into_iter().next().unwrap_or_default())
}

fn tear_down(options: &LeakOptions) -> Result<(), ClientError> {
    let mut client = Client::open(&options.target)?;
    must(&mut client, "DROP TABLE public.leak_rows")?;
    must(&mut client, "DROP TABLE public.leak_pairs")?;
    client.close();
    Ok(())
}

fn must(client: &mut Client, sql: &str) -> Result<(), ClientError> {
    match client.simple(sql)?.errors.pop() {
        None => Ok(()),
        Some(error) => Err(ClientError::Refused(Box::new(error))),
    }
}

/// Tags of which only part of a transaction's two rows is there, after everything has come to rest.
fn half_transactions(options: &LeakOptions) -> Result<Vec<String>, ClientError> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut client = Client::open(&options.target)?;
        let answer = client.simple("SELECT tag FROM public.leak_pairs")?;
        client.close();
        if let Some(error) = answer.error() {
            return Ok(vec![format!("reading leak_pairs: {error}")]);
        }
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        answer
            .text_rows()
            .into_iter()
            .flatten()
            .flatten()
            .for_each(|tag| *counts.entry(tag).or_default() += 1);
        let halves: Vec<String> = counts
            .into_iter()
            .filter(|(_, count)| *count != 2)
            .map(|(tag, count)| format!("transaction {tag} left {count} rows of 2"))
            .collect();
        if halves.is_empty() || Instant::now() > deadline {
            return Ok(halves);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
