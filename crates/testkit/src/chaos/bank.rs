//! Clients that transfer money, and clients that count it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::disturb::{Doors, Stage};
use crate::client::{Client, ClientError};
use crate::failover::must;
use crate::random::Random;

/// Accounts to choose the members of groups from.
const ACCOUNTS: u64 = 200;

/// Groups of each size.
const GROUPS_EACH: usize = 3;

/// Values of the unique index: so few that writers meet.
const NAMES: u64 = 24;

/// What an account has at first.
const BALANCE: i64 = 1000;

/// How long one exchange with a proxy may take before the client gives up.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(40);

/// How long it may take until somebody can say what became of a transaction.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Gives a transaction a name that can be asked for.
const NAME: &str = "SELECT drover.current_transaction_id()";

/// What the client of a transaction was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// COMMIT.
    Committed,
    /// An error, or ROLLBACK.
    Refused,
    /// `08007`, or nothing.
    Unknown,
    /// The same, and then by `drover.transaction_status`: committed.
    ToldCommitted,
    /// The same: aborted.
    ToldAborted,
}

/// One transaction.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    /// Which group.
    pub(super) group: usize,
    /// What its client was told.
    pub(super) fate: Fate,
    /// In which words.
    pub(super) words: String,
}

/// The accounts and what became of all transactions.
pub(super) struct Bank {
    /// Members of each group, on different shards.
    pub(super) groups: Vec<Vec<i64>>,
    /// By number.
    pub(super) transfers: Mutex<BTreeMap<u64, Transfer>>,
    next: AtomicU64,
    /// Everybody is to end.
    pub(super) stop: AtomicBool,
    /// Reads of one moment.
    pub(super) reads: AtomicU64,
    /// What reads found wrong.
    pub(super) wrong: Mutex<Vec<String>>,
}

impl Bank {
    /// Makes the tables and the groups.
    pub(super) fn open(stage: &Stage<'_>, random: &mut Random) -> Self {
        let preparer = stage.preparer();
        let mut client = preparer.client();
        must(
            &mut client,
            "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, n bigint NOT NULL) \
             WITH (drover.shard_key = 'id')",
        );
        must(
            &mut client,
            "CREATE TABLE journal (account bigint, n bigint, txn bigint NOT NULL, PRIMARY KEY (account, n)) \
             WITH (drover.shard_key = 'account', drover.colocate_with = 'accounts')",
        );
        for sql in [
            "CREATE TABLE names (id bigint PRIMARY KEY, name text, kind text) WITH (drover.shard_key = 'id')",
            "SELECT drover.create_global_index('names', 'name', unique => true)",
            "SELECT drover.create_global_index('names', 'kind')",
        ] {
            must(&mut client, sql);
        }
        let rows: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {BALANCE}, 0)")).collect();
        must(
            &mut client,
            &format!("INSERT INTO accounts VALUES {}", rows.join(", ")),
        );
        let mut free: Vec<Vec<i64>> = (0..stage.shards())
            .map(|shard| {
                let ids = stage.column(shard, "SELECT id FROM accounts ORDER BY id");
                ids.iter().filter_map(|id| id.parse().ok()).collect()
            })
            .collect();
        let mut groups = Vec::new();
        for size in 1..=stage.shards() {
            for _ in 0..GROUPS_EACH {
                let first = random.below(stage.shards() as u64) as usize;
                let shards = (0..size).map(|at| (first + at) % stage.shards());
                groups.push(shards.filter_map(|shard| free[shard].pop()).collect());
            }
        }
        Self {
            groups,
            transfers: Mutex::default(),
            next: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            wrong: Mutex::default(),
        }
    }

    pub(super) fn count(&self, fate: Fate) -> usize {
        let transfers = self.transfers.lock().expect("no panic");
        transfers
            .values()
            .filter(|transfer| transfer.fate == fate)
            .count()
    }

    pub(super) fn found_wrong(&self) -> bool {
        !self.wrong.lock().expect("no panic").is_empty()
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Transfers until it is told to stop.
    pub(super) fn write(&self, doors: &Doors, number: u32, mut random: Random) {
        let mut client = None;
        while self.goes_on() {
            let mut open = match client.take().or_else(|| enter(doors, u64::from(number))) {
                Some(open) => open,
                None => continue,
            };
            let group = random.below(self.groups.len() as u64) as usize;
            let txn = self.next.fetch_add(1, Ordering::Relaxed);
            let mut id = None;
            let (mut fate, words, alive) = self.transfer(&mut open, group, txn, &mut id, &mut random);
            if fate == Fate::Unknown
                && let Some(id) = id.or_else(|| id_in(&words))
            {
                fate = self.ask(doors, &id, txn);
            }
            let transfer = Transfer { group, fate, words };
            self.transfers.lock().expect("no panic").insert(txn, transfer);
            client = alive.then_some(open);
        }
    }

    /// One transaction: what its client was told, and whether the connection is of use still.
    fn transfer(
        &self,
        client: &mut Client,
        group: usize,
        txn: u64,
        id: &mut Option<String>,
        random: &mut Random,
    ) -> (Fate, String, bool) {
        let mut members = self.groups[group].clone();
        // Mostly in one order, so that they seldom wait in a circle.
        if random.below(30) == 0 {
            members.reverse();
        }
        let amount = random.below(10) as i64;
        let last = members.len() - 1;
        let mut texts = vec!["BEGIN".to_owned()];
        for (at, id) in members.iter().enumerate() {
            let change = match at {
                0 if last > 0 => -amount,
                at if at == last && last > 0 => amount,
                _ => 0,
            };
            texts.push(format!(
                "UPDATE accounts SET balance = balance + {change}, n = n + 1 WHERE id = {id}"
            ));
            texts.push(format!(
                "INSERT INTO journal SELECT id, n, {txn} FROM accounts WHERE id = {id}"
            ));
        }
        if random.below(3) == 0 {
            texts.push(write_name(txn, random));
        }
        // Half of them can ask; early, late, or in the middle.
        if txn.is_multiple_of(2) {
            let at = 1 + random.below(texts.len() as u64) as usize;
            texts.insert(at.min(texts.len()), NAME.to_owned());
        }
        for text in texts {
            match client.simple(&text) {
                Ok(answer) => {
                    if let Some(error) = answer.error() {
                        let words = error.to_string();
                        let alive = client.simple("ROLLBACK").is_ok();
                        return (Fate::Refused, words, alive);
                    }
                    if text == NAME {
                        *id = answer.value();
                    }
                }
                // COMMIT was never sent.
                Err(error) => return (Fate::Refused, error.to_string(), false),
            }
        }
        match client.simple("COMMIT") {
            Ok(answer) => match answer.error() {
                Some(error) if error.sqlstate() == "08007" => {
                    let detail = error.detail().unwrap_or_default();
                    (Fate::Unknown, format!("{error} {detail}"), true)
                }
                Some(error) => (Fate::Refused, error.to_string(), true),
                None if answer.tags() == ["COMMIT"] => (Fate::Committed, String::new(), true),
                None => (Fate::Refused, format!("{:?}", answer.tags()), true),
            },
            Err(error) => (unanswered(&error), error.to_string(), false),
        }
    }

    /// Asks for the outcome of a transaction until there is one.
    fn ask(&self, doors: &Doors, id: &str, txn: u64) -> Fate {
        let deadline = Instant::now() + TOLD_WITHIN;
        let mut last = String::new();
        while Instant::now() < deadline {
            let Some(mut client) = enter(doors, txn) else {
                continue;
            };
            match client.simple(&format!("SELECT drover.transaction_status('{id}')")) {
                Ok(answer) => match answer.value().as_deref() {
                    Some("committed") => return Fate::ToldCommitted,
                    Some("aborted") => return Fate::ToldAborted,
                    other => last = format!("{other:?} {:?}", answer.error()),
                },
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let text = format!("transaction {txn}, {id}: nobody says what became of it: {last}");
        self.wrong.lock().expect("no panic").push(text);
        Fate::Unknown
    }

    /// Counts until it is told to stop.
    pub(super) fn read(&self, doors: &Doors) {
        let total = (BALANCE * ACCOUNTS as i64).to_string();
        let mut client = None;
        let mut turn = 0;
        while self.goes_on() {
            turn += 1;
            let Some(mut open) = client.take().or_else(|| enter(doors, turn)) else {
                continue;
            };
            match read_once(&mut open) {
                Ok(Some([sum, counted, rows, twice])) => {
                    self.reads.fetch_add(1, Ordering::Relaxed);
                    if sum != total || counted != rows || twice != "0" {
                        let text = format!(
                            "a read of one moment: sum {sum}, {counted} counted, {rows} rows of the journal, {twice} names twice"
                        );
                        self.wrong.lock().expect("no panic").push(text);
                    }
                    client = Some(open);
                }
                // Not now.
                Ok(None) => client = open.simple("ROLLBACK").is_ok().then_some(open),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A change of a table with global indexes.
fn write_name(txn: u64, random: &mut Random) -> String {
    let (name, other) = (random.below(NAMES), random.below(NAMES));
    match random.below(5) {
        0 => format!("DELETE FROM names WHERE name = 'n{name}'"),
        1 => format!(
            "UPDATE names SET name = 'n{other}', kind = 'k{}' WHERE name = 'n{name}'",
            other % 4
        ),
        _ => format!("INSERT INTO names VALUES ({txn}, 'n{name}', 'k{}')", name % 3),
    }
}

/// Sum of balances, of counters, the rows of the journal, and names that are there more than once, all of one moment.
fn read_once(client: &mut Client) -> Result<Option<[String; 4]>, ClientError> {
    let mut values = Vec::new();
    for sql in [
        "SET drover.read_snapshot = 'cluster'",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "SELECT sum(balance) FROM accounts",
        "SELECT sum(n) FROM accounts",
        "SELECT count(*) FROM journal",
        "SELECT count(name) - count(DISTINCT name) FROM names",
        "COMMIT",
    ] {
        let answer = client.simple(sql)?;
        if answer.error().is_some() {
            return Ok(None);
        }
        values.extend(answer.value());
    }
    Ok(<[String; 4]>::try_from(values).ok())
}

/// The name of a transaction in an error.
fn id_in(words: &str) -> Option<String> {
    let from = words.find("drover:")?;
    let rest = &words[from..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == ':'));
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

/// A client that has sent COMMIT and gets no answer knows nothing.
fn unanswered(_: &ClientError) -> Fate {
    Fate::Unknown
}

/// A connection to one of the proxies; none: not now.
fn enter(doors: &Doors, number: u64) -> Option<Client> {
    let targets = doors.lock().expect("no panic").clone();
    let at = usize::try_from(number).unwrap_or_default();
    for turn in 0..targets.len() {
        if let Ok(mut client) = Client::open(&targets[(at + turn) % targets.len()]) {
            client.set_timeout(EXCHANGE_WITHIN);
            return Some(client);
        }
    }
    std::thread::sleep(Duration::from_millis(50));
    None
}
