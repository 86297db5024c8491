//! Looks for reads that miss what they must not: sessions write and read at the same time, through one proxy or several,
//! and every value read is compared with what that session has written, has seen, or was told of by a token.
//!
//! Each of `sessions` threads owns one row of a table, whose value only grows. A round of a thread is
//!
//! 1. a write of its row, and a read of it by the same session: an older value is *stale*;
//! 2. a read of its neighbour's row by a session that never goes backwards: a value older than the one before is a step
//!    *backwards*;
//! 3. every few rounds, a token of the writing session, taken over by a session at another proxy, which reads the row: an
//!    older value is a *broken token*.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};

/// Every how many rounds a token travels.
const TOKEN_ROUNDS: u64 = 4;

/// How long a statement may take; a paused server must not stop the search.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is run.
#[derive(Debug, Clone)]
pub struct Search {
    /// Where the proxies are; sessions take turns.
    pub proxies: Vec<String>,
    /// Threads, each with three sessions.
    pub sessions: usize,
    /// Pairs of a write and a read, of all threads together.
    pub pairs: u64,
    /// `drover.consistency` of the sessions that write; anything weaker than `read_your_writes` should be found out.
    pub writing: String,
    /// `drover.consistency` of those that only read.
    pub reading: String,
    /// Tokens are taken over.
    pub tokens: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Pairs that were run.
    pub pairs: AtomicU64,
    /// Reads in which a session missed its own write.
    pub stale: AtomicU64,
    /// Reads in which a session saw an older value than before.
    pub backwards: AtomicU64,
    /// Reads that missed what a token stands for.
    pub broken_tokens: AtomicU64,
    /// Tokens taken over.
    pub tokens: AtomicU64,
    /// Statements that failed.
    pub errors: AtomicU64,
    /// The longest read, in microseconds.
    pub slowest_us: AtomicU64,
}

impl Found {
    /// Nothing was missed and nothing failed.
    pub fn is_clean(&self) -> bool {
        [&self.stale, &self.backwards, &self.broken_tokens, &self.errors]
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

/// The table, made before [`run`].
pub fn prepare(client: &mut Client, sessions: usize) -> Result<(), ClientError> {
    let rows: Vec<String> = (0..sessions).map(|row| format!("({row}, 0)")).collect();
    let sql = format!(
        "DROP TABLE IF EXISTS consistency; CREATE TABLE consistency (id int PRIMARY KEY, v bigint NOT NULL); \
         INSERT INTO consistency VALUES {}",
        rows.join(", ")
    );
    client.simple(&sql).map(|_| ())
}

/// Runs the search to its end.
pub fn run(search: &Search) -> Found {
    let found = Found::default();
    std::thread::scope(|scope| {
        for number in 0..search.sessions {
            let found = &found;
            scope.spawn(move || thread(search, number, found));
        }
    });
    found
}

fn thread(search: &Search, number: usize, found: &Found) {
    let proxy = |turn: usize| &search.proxies[(number + turn) % search.proxies.len()];
    let sessions = (
        session(proxy(0), &search.writing),
        session(proxy(1), &search.reading),
        session(proxy(1), &search.reading),
    );
    let (Ok(mut writer), Ok(mut reader), Ok(mut other)) = sessions else {
        found.errors.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let neighbour = (number + 1) % search.sessions;
    let mut seen = 0;
    let rounds = search.pairs.div_ceil(search.sessions as u64);
    for round in 1..=rounds {
        let value = round as i64;
        let write = format!("UPDATE consistency SET v = {value} WHERE id = {number}");
        if !succeeds(&mut writer, &write, found) {
            continue;
        }
        found.pairs.fetch_add(1, Ordering::Relaxed);
        let own = format!("SELECT v FROM consistency WHERE id = {number}");
        if read(&mut writer, &own, found).is_some_and(|read| read < value) {
            found.stale.fetch_add(1, Ordering::Relaxed);
        }
        let others = format!("SELECT v FROM consistency WHERE id = {neighbour}");
        if let Some(read) = read(&mut reader, &others, found) {
            if read < seen {
                found.backwards.fetch_add(1, Ordering::Relaxed);
            }
            seen = seen.max(read);
        }
        if search.tokens && round % TOKEN_ROUNDS == 0 {
            pass_token(&mut writer, &mut other, &own, value, found);
        }
    }
}

fn pass_token(writer: &mut Client, other: &mut Client, sql: &str, value: i64, found: &Found) {
    let token = writer.simple("SELECT drover.consistency_token()");
    let token = token.ok().and_then(|answer| answer.value());
    let Some(token) = token else {
        found.errors.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if !succeeds(other, &format!("SET drover.consistency_token = '{token}'"), found) {
        return;
    }
    found.tokens.fetch_add(1, Ordering::Relaxed);
    if read(other, sql, found).is_some_and(|read| read < value) {
        found.broken_tokens.fetch_add(1, Ordering::Relaxed);
    }
}

fn session(url: &str, consistency: &str) -> Result<Client, ClientError> {
    let mut client = Client::connect(url)?;
    client.set_timeout(PATIENCE);
    client.simple("SET drover.read_from = 'replica'")?;
    client.simple(&format!("SET drover.consistency = '{consistency}'"))?;
    Ok(client)
}

fn succeeds(client: &mut Client, sql: &str, found: &Found) -> bool {
    let fine = matches!(client.simple(sql), Ok(answer) if answer.errors.is_empty());
    if !fine {
        found.errors.fetch_add(1, Ordering::Relaxed);
    }
    fine
}

fn read(client: &mut Client, sql: &str, found: &Found) -> Option<i64> {
    let since = Instant::now();
    let answer = client.simple(sql);
    let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    found.slowest_us.fetch_max(took, Ordering::Relaxed);
    let value = match answer {
        Ok(answer) if answer.errors.is_empty() => answer.value().and_then(|value| value.parse().ok()),
        _ => None,
    };
    if value.is_none() {
        found.errors.fetch_add(1, Ordering::Relaxed);
    }
    value
}
