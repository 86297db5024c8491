//! Isolation: many clients at once, each with values of its own, and nobody may ever see anything of another.
//!
//! Every client lives many lives. A life is a connection that keeps a *model* of its session: settings, role, prepared
//! statements, temporary table, locks, channels, rows written. It sends random *exchanges* (simple, extended,
//! pipelined, partial, row-limited, COPY, errors, transactions, cancels) and compares every answer with the model;
//! every value in it carries the life's own nonce. Many lives are cut off at a byte of what they send: half of those
//! at a random one, the other half one byte later than the last, so that every offset comes about.
//!
//! What must never happen is a *violation*: a value, setting, role, notification, transaction state or lock that is
//! not the life's own, an error that nothing of its own explains (above all `57014`, somebody else's cancel), a
//! session lock held twice, or, once all is quiet, a transaction of which only a part was stored. What may happen is
//! being *turned down*: a full queue (`53300`), no ticket (`40001`).
//!
//! Equal seeds give equal streams per client; how clients interleave is up to the machine.

mod checks;
mod life;
mod model;
mod session_steps;
mod steps;
mod unnamed;
mod wire;

use crate::TestCluster;
use crate::client::{Client, ClientError, Target};
use crate::proxy::ProxySite;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Violations kept; one is enough to fail.
const VIOLATIONS_MAX: usize = 20;
/// Characters kept of one.
const VIOLATION_LEN_MAX: usize = 2_000;
/// How long the server may take to undo what the last lives left open.
const SETTLE: Duration = Duration::from_secs(20);
/// Stack of a client's thread; there may be thousands.
const STACK_BYTES: usize = 512 * 1024;

/// The role that lives change to.
pub const ROLE: &str = "iso_role";

/// What to do.
#[derive(Debug, Clone)]
pub struct IsolationOptions {
    /// The server or proxy. The user must be allowed to create schemas and tables.
    pub target: Target,
    /// Seed of every stream.
    pub seed: u64,
    /// Concurrent clients.
    pub clients: usize,
    /// How long.
    pub duration: Duration,
    /// Shard the table of rows (the target is a cluster).
    pub sharded: bool,
    /// A role the user is a member of, to change to; none: roles are left out.
    pub role: Option<String>,
}

impl IsolationOptions {
    /// A hundred clients for ten seconds, seed 1.
    pub fn new(target: Target) -> IsolationOptions {
        IsolationOptions {
            target,
            seed: 1,
            clients: 100,
            duration: Duration::from_secs(10),
            sharded: false,
            role: None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct IsolationReport {
    /// The seed.
    pub seed: u64,
    /// Lives that were cut off.
    pub killed: u64,
    /// Lives that ended as they wanted to.
    pub ended: u64,
    /// Lives that ended because the server had no room.
    pub turned_down: u64,
    /// Exchanges compared with the model, by name.
    pub exchanges: BTreeMap<&'static str, u64>,
    /// Own statements that were cancelled.
    pub cancelled: u64,
    /// What must not happen.
    pub violations: Vec<String>,
}

impl std::fmt::Display for IsolationReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total: u64 = self.exchanges.values().sum();
        write!(
            f,
            "seed {}: {} lives killed, {} ended, {} turned down, {total} exchanges, {} cancelled, {} violations",
            self.seed,
            self.killed,
            self.ended,
            self.turned_down,
            self.cancelled,
            self.violations.len()
        )?;
        self.violations
            .iter()
            .try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// What all clients share.
struct Shared {
    options: IsolationOptions,
    /// Settings of a session in which nothing was set.
    defaults: model::Defaults,
    stop: AtomicBool,
    killed: AtomicU64,
    ended: AtomicU64,
    turned_down: AtomicU64,
    cancelled: AtomicU64,
    /// The byte at which the next swept life is cut.
    sweep: AtomicU64,
    /// Holders of the one lock that all contend for.
    lock_holders: AtomicU64,
    exchanges: Mutex<BTreeMap<&'static str, u64>>,
    violations: Mutex<Vec<String>>,
}

impl Shared {
    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn violation(&self, text: &str) {
        let mut list = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < VIOLATIONS_MAX {
            list.push(text.chars().take(VIOLATION_LEN_MAX).collect());
        }
        // One is enough; later ones are often consequences.
        self.stop.store(true, Ordering::Relaxed);
    }

    fn merge(&self, counts: BTreeMap<&'static str, u64>) {
        let mut all = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, count) in counts {
            *all.entry(name).or_default() += count;
        }
    }
}

/// A cluster's database with a proxy whose pool is so small that connections change hands all the time, and the role
/// [`ROLE`] that the application's user may change to.
pub fn site(cluster: &'static TestCluster, binary: &Path, pool: u64) -> ProxySite {
    let user = &cluster.info().app_user;
    let role = format!(
        "DO $$ BEGIN CREATE ROLE {ROLE}; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT {ROLE} TO {user}"
    );
    cluster.on_every_shard("postgres", &role);
    let config = format!("[pool]\npool_size = {pool}\nreserve_pool = {pool}\nconnection_timeout = '60s'\n");
    ProxySite::new(cluster, binary).with_config(&config)
}

/// Runs the clients; makes and drops the schemas `iso_a` and `iso_b` and what is in them, and tables, views and a function named `iso_…`.
pub fn isolate(options: &IsolationOptions) -> Result<IsolationReport, ClientError> {
    let defaults = set_up(options)?;
    let shared = Shared {
        options: options.clone(),
        defaults,
        stop: AtomicBool::new(false),
        killed: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        turned_down: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        sweep: AtomicU64::new(0),
        lock_holders: AtomicU64::new(0),
        exchanges: Mutex::new(BTreeMap::new()),
        violations: Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        let shared = &shared;
        for number in 0..options.clients {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            if let Err(error) = thread.spawn_scoped(scope, move || life::client(shared, number as u64)) {
                shared.violation(&format!("client {number} has no thread: {error}"));
            }
        }
        let end = Instant::now() + options.duration;
        while Instant::now() < end && shared.running() {
            std::thread::sleep(Duration::from_millis(20));
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    let mut violations = shared
        .violations
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    violations.extend(parts_of_transactions(options)?);
    tear_down(options)?;
    Ok(IsolationReport {
        seed: options.seed,
        killed: shared.killed.into_inner(),
        ended: shared.ended.into_inner(),
        turned_down: shared.turned_down.into_inner(),
        cancelled: shared.cancelled.into_inner(),
        exchanges: shared
            .exchanges
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
        violations,
    })
}

const REMOVE: [&str; 4] = [
    "DROP TABLE IF EXISTS public.iso_rows",
    "DROP TABLE IF EXISTS public.iso_which",
    "DROP SCHEMA IF EXISTS iso_a CASCADE",
    "DROP SCHEMA IF EXISTS iso_b CASCADE",
];

fn set_up(options: &IsolationOptions) -> Result<model::Defaults, ClientError> {
    let mut client = Client::open(&options.target)?;
    for sql in unnamed::REMOVE.into_iter().chain(REMOVE).chain(unnamed::MAKE) {
        must(&mut client, sql)?;
    }
    for schema in ["public", "iso_a", "iso_b"] {
        if schema != "public" {
            must(&mut client, &format!("CREATE SCHEMA {schema}"))?;
        }
        must(
            &mut client,
            &format!("CREATE TABLE {schema}.iso_which (mark text)"),
        )?;
        must(
            &mut client,
            &format!("INSERT INTO {schema}.iso_which VALUES ('{schema}')"),
        )?;
    }
    let table = "CREATE TABLE public.iso_rows (k bigint NOT NULL, tag text NOT NULL, t int NOT NULL, n int NOT NULL, \
                 size int NOT NULL)";
    must(&mut client, table)?;
    if options.sharded {
        must(&mut client, "SELECT drover.shard_table('iso_rows', key => 'k')")?;
    }
    must(&mut client, "CREATE INDEX ON public.iso_rows (tag)")?;
    let answer = client.simple(&model::defaults_sql())?;
    client.close();
    // A connection of its own: what the tables' making did to the session is no default.
    Ok(model::Defaults::read(&answer))
}

fn tear_down(options: &IsolationOptions) -> Result<(), ClientError> {
    let mut client = Client::open(&options.target)?;
    for sql in unnamed::REMOVE.into_iter().chain(REMOVE) {
        must(&mut client, sql)?;
    }
    client.close();
    Ok(())
}

fn must(client: &mut Client, sql: &str) -> Result<(), ClientError> {
    match client.simple(sql)?.errors.pop() {
        None => Ok(()),
        Some(error) => Err(ClientError::Refused(Box::new(error))),
    }
}

/// Transactions of which only a part is stored, after everything has come to rest.
fn parts_of_transactions(options: &IsolationOptions) -> Result<Vec<String>, ClientError> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut client = Client::open(&options.target)?;
        let answer = client.simple("SELECT tag, t, size FROM public.iso_rows")?;
        client.close();
        if let Some(error) = answer.error() {
            return Ok(vec![format!("reading iso_rows: {error}")]);
        }
        let mut counts: BTreeMap<Vec<Option<String>>, u64> = BTreeMap::new();
        for row in answer.text_rows() {
            *counts.entry(row).or_default() += 1;
        }
        let size = |row: &[Option<String>]| row.get(2).cloned().flatten().unwrap_or_default();
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(row, count)| count.to_string() != size(row))
            .map(|(row, count)| format!("seed {}: transaction {row:?} stored {count} rows", options.seed))
            .collect();
        if parts.is_empty() || Instant::now() > deadline {
            return Ok(parts);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
