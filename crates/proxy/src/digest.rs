//! Statistics per normalised statement, as the view `drover.queries` shows them.
//!
//! Each worker has a table of its own; the cached statements of that worker point into it, so that counting a run
//! takes neither a look-up nor a lock. The table's lock is taken for a statement that is new to the worker, and to
//! read or empty the table. A full table loses its least recently used tenth: those entries are marked as no longer
//! *listed*, and a cached statement that still points to one looks its text up again at its next run.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::Counter;

/// Longest text kept of a statement, in bytes.
pub const TEXT_BYTES_MAX: usize = 2048;

/// Database, user, normalised text.
pub type DigestKey = (Arc<str>, Arc<str>, Arc<str>);

/// One statement's figures on one worker. Only that worker writes.
#[derive(Debug)]
pub struct Digest {
    /// The normalised text, without constants.
    pub text: Arc<str>,
    calls: Counter,
    errors: Counter,
    rows: Counter,
    bytes: Counter,
    shards: Counter,
    moved_rows: Counter,
    moved_bytes: Counter,
    total_us: Counter,
    min_us: AtomicU64,
    max_us: AtomicU64,
    /// Unix time in microseconds.
    first_us: u64,
    /// Unix time in microseconds.
    last_us: AtomicU64,
    listed: AtomicBool,
}

/// One run of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// How long it took, in microseconds.
    pub us: u64,
    /// Rows it returned or changed.
    pub rows: u64,
    /// Bytes from and to the client.
    pub bytes: u64,
    /// Shards it ran on.
    pub shards: u32,
    /// Rows that servers sent for other servers.
    pub moved_rows: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// It failed.
    pub failed: bool,
    /// When it ended, Unix time in microseconds.
    pub ended_us: u64,
}

impl Digest {
    fn new(text: Arc<str>, now_us: u64) -> Self {
        Self {
            text,
            calls: Counter::default(),
            errors: Counter::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
            shards: Counter::default(),
            moved_rows: Counter::default(),
            moved_bytes: Counter::default(),
            total_us: Counter::default(),
            min_us: AtomicU64::new(u64::MAX),
            max_us: AtomicU64::new(0),
            first_us: now_us,
            last_us: AtomicU64::new(now_us),
            listed: AtomicBool::new(true),
        }
    }

    /// Whether what is counted here is still shown.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Adds one run. Only the owning worker may call this.
    pub fn add(&self, run: Run) {
        self.calls.increment();
        if run.failed {
            self.errors.increment();
        }
        self.rows.add(run.rows);
        self.bytes.add(run.bytes);
        self.shards.add(u64::from(run.shards));
        self.moved_rows.add(run.moved_rows);
        self.moved_bytes.add(run.moved_bytes);
        self.total_us.add(run.us);
        if run.us < self.min_us.load(Ordering::Relaxed) {
            self.min_us.store(run.us, Ordering::Relaxed);
        }
        if run.us > self.max_us.load(Ordering::Relaxed) {
            self.max_us.store(run.us, Ordering::Relaxed);
        }
        self.last_us.store(run.ended_us, Ordering::Relaxed);
    }
}

/// One worker's table.
#[derive(Debug, Default)]
pub struct WorkerDigests {
    entries: Mutex<HashMap<DigestKey, Arc<Digest>>>,
}

impl WorkerDigests {
    /// The entry of a statement; made if there is none. `entries_max` bounds the table; with 0 nothing is kept there. Only the owning worker may
    /// call this.
    pub fn entry(
        &self,
        database: &Arc<str>,
        user: &Arc<str>,
        text: String,
        now_us: u64,
        entries_max: usize,
    ) -> Arc<Digest> {
        let text: Arc<str> = Arc::from(text);
        let key = (Arc::clone(database), Arc::clone(user), Arc::clone(&text));
        if entries_max == 0 {
            return Arc::new(Digest::new(text, now_us));
        }
        let mut entries = self.lock();
        if let Some(known) = entries.get(&key) {
            return Arc::clone(known);
        }
        if entries.len() >= entries_max {
            evict(&mut entries, entries_max);
        }
        let digest = Arc::new(Digest::new(text, now_us));
        entries.insert(key, Arc::clone(&digest));
        digest
    }

    /// Forgets the statements of those databases and users that `chosen` names.
    pub fn clear(&self, chosen: impl Fn(&str, &str) -> bool) {
        self.lock().retain(|(database, user, _), digest| {
            let goes = chosen(database, user);
            if goes {
                digest.listed.store(false, Ordering::Relaxed);
            }
            !goes
        });
    }

    /// Adds this worker's figures to `sums`.
    pub fn add_to(&self, sums: &mut BTreeMap<DigestKey, DigestRow>) {
        for (key, digest) in self.lock().iter() {
            sums.entry(key.clone()).or_default().add(digest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DigestKey, Arc<Digest>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room: the least recently used tenth goes, at least one entry.
fn evict(entries: &mut HashMap<DigestKey, Arc<Digest>>, entries_max: usize) {
    let mut ages: Vec<u64> = entries
        .values()
        .map(|digest| digest.last_us.load(Ordering::Relaxed))
        .collect();
    let surplus = entries.len() - entries_max.min(entries.len());
    let leaving = (ages.len() / 10).max(1).max(surplus).min(ages.len());
    let (_, limit, _) = ages.select_nth_unstable(leaving - 1);
    let limit = *limit;
    let mut left = leaving;
    entries.retain(|_, digest| {
        let goes = left > 0 && digest.last_us.load(Ordering::Relaxed) <= limit;
        if goes {
            left -= 1;
            digest.listed.store(false, Ordering::Relaxed);
        }
        !goes
    });
}

/// A statement's figures over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRow {
    /// Runs.
    pub calls: u64,
    /// Runs that failed.
    pub errors: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes from and to clients.
    pub bytes: u64,
    /// Shards, added up over the runs.
    pub shards: u64,
    /// Rows that servers sent for other servers.
    pub moved_rows: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Time of all runs, in microseconds.
    pub total_us: u64,
    /// Shortest run, in microseconds.
    pub min_us: u64,
    /// Longest run, in microseconds.
    pub max_us: u64,
    /// First seen, Unix time in microseconds.
    pub first_us: u64,
    /// End of the last run, Unix time in microseconds.
    pub last_us: u64,
}

impl Default for DigestRow {
    fn default() -> Self {
        Self {
            calls: 0,
            errors: 0,
            rows: 0,
            bytes: 0,
            shards: 0,
            moved_rows: 0,
            moved_bytes: 0,
            total_us: 0,
            min_us: u64::MAX,
            max_us: 0,
            first_us: u64::MAX,
            last_us: 0,
        }
    }
}

impl DigestRow {
    fn add(&mut self, digest: &Digest) {
        self.calls = self.calls.wrapping_add(digest.calls.get());
        self.errors = self.errors.wrapping_add(digest.errors.get());
        self.rows = self.rows.wrapping_add(digest.rows.get());
        self.bytes = self.bytes.wrapping_add(digest.bytes.get());
        self.shards = self.shards.wrapping_add(digest.shards.get());
        self.moved_rows = self.moved_rows.wrapping_add(digest.moved_rows.get());
        self.moved_bytes = self.moved_bytes.wrapping_add(digest.moved_bytes.get());
        self.total_us = self.total_us.wrapping_add(digest.total_us.get());
        self.min_us = self.min_us.min(digest.min_us.load(Ordering::Relaxed));
        self.max_us = self.max_us.max(digest.max_us.load(Ordering::Relaxed));
        self.first_us = self.first_us.min(digest.first_us);
        self.last_us = self.last_us.max(digest.last_us.load(Ordering::Relaxed));
    }
}

/// The name of a text: 16 hexadecimal digits, the same in every proxy and release (FNV-1a).
#[must_use]
pub fn id_of(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(us: u64, ended_us: u64) -> Run {
        Run {
            us,
            rows: 2,
            bytes: 10,
            shards: 1,
            moved_rows: 4,
            moved_bytes: 50,
            failed: us > 100,
            ended_us,
        }
    }

    fn sums(workers: &[&WorkerDigests]) -> BTreeMap<DigestKey, DigestRow> {
        let mut sums = BTreeMap::new();
        for worker in workers {
            worker.add_to(&mut sums);
        }
        sums
    }

    #[test]
    fn workers_are_added_up() {
        let (database, user): (Arc<str>, Arc<str>) = (Arc::from("d"), Arc::from("u"));
        let (a, b) = (WorkerDigests::default(), WorkerDigests::default());
        a.entry(&database, &user, "SELECT ?".into(), 5, 10)
            .add(run(30, 50));
        a.entry(&database, &user, "SELECT ?".into(), 6, 10)
            .add(run(200, 60));
        b.entry(&database, &user, "SELECT ?".into(), 4, 10)
            .add(run(10, 55));
        let sums = sums(&[&a, &b]);
        let row = sums.values().next().unwrap();
        assert_eq!(
            (
                row.calls,
                row.errors,
                row.rows,
                row.bytes,
                row.shards,
                row.total_us
            ),
            (3, 1, 6, 30, 3, 240)
        );
        assert_eq!((row.moved_rows, row.moved_bytes), (12, 150));
        assert_eq!(
            (row.min_us, row.max_us, row.first_us, row.last_us),
            (10, 200, 4, 60)
        );
    }

    #[test]
    fn the_least_recently_used_leave_a_full_table() {
        let (database, user): (Arc<str>, Arc<str>) = (Arc::from("d"), Arc::from("u"));
        let table = WorkerDigests::default();
        let oldest = table.entry(&database, &user, "q0".into(), 0, 10);
        for n in 1..10 {
            table.entry(&database, &user, format!("q{n}"), n, 10);
        }
        oldest.add(run(1, 100));
        table.entry(&database, &user, "new".into(), 101, 10);
        let texts: Vec<String> = sums(&[&table]).keys().map(|key| key.2.to_string()).collect();
        assert_eq!(texts.len(), 10);
        assert!(!texts.contains(&"q1".to_owned()) && texts.contains(&"q0".to_owned()));
        assert!(oldest.is_listed());
        table.clear(|_, user| user == "somebody else");
        assert!(oldest.is_listed());
        table.clear(|database, user| database == "d" && user == "u");
        assert!(!oldest.is_listed() && sums(&[&table]).is_empty());
    }

    #[test]
    fn ids_do_not_change() {
        assert_eq!(id_of("SELECT ?"), id_of("SELECT ?"));
        assert_eq!(id_of(""), "cbf29ce484222325");
    }
}
