//! What must be so when everything is quiet again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::ChaosReport;
use super::bank::{Bank, Fate, Transfer};
use super::disturb::Stage;

/// Transactions of each account in their order, as its shard has them.
type Journal = BTreeMap<i64, Vec<u64>>;

pub(super) fn check(stage: &Stage<'_>, bank: &Bank, report: &mut ChaosReport) {
    let mut wrong = std::mem::take(&mut *bank.wrong.lock().expect("no panic"));
    let mut journal = Journal::new();
    let (mut sum, mut counted, mut rows) = (0, 0, 0);
    for shard in 0..stage.shards() {
        for row in stage.column(shard, "SELECT sum(balance), sum(n) FROM accounts") {
            let mut numbers = row.split(' ').filter_map(|number| number.parse::<i64>().ok());
            sum += numbers.next().unwrap_or_default();
            counted += numbers.next().unwrap_or_default();
        }
        for row in stage.column(shard, "SELECT account, txn FROM journal ORDER BY account, n") {
            let Some((account, txn)) = row.split_once(' ') else {
                continue;
            };
            let (Ok(account), Ok(txn)) = (account.parse(), txn.parse()) else {
                continue;
            };
            journal.entry(account).or_default().push(txn);
            rows += 1;
        }
    }
    let total = 1000 * 200;
    if sum != total {
        wrong.push(format!("the sum of all accounts is {sum}, not {total}"));
    }
    if counted != rows {
        wrong.push(format!(
            "{counted} changes of accounts are counted, {rows} are in the journal"
        ));
    }
    check_names(stage, &journal, &mut wrong);
    let transfers = bank.transfers.lock().expect("no panic");
    for (group, members) in bank.groups.iter().enumerate() {
        check_group(group, members, &journal, &transfers, &mut wrong);
    }
    for transfer in transfers.values() {
        let name = match transfer.fate {
            Fate::Committed => "committed",
            Fate::Refused => "refused",
            Fate::Unknown => "unknown",
            Fate::ToldCommitted => "unknown, then told committed",
            Fate::ToldAborted => "unknown, then told aborted",
        };
        *report.fates.entry(name).or_default() += 1;
    }
    if report.fates.get("committed").is_none_or(|count| *count == 0) {
        wrong.push("nothing was committed: nothing is proved".to_owned());
    }
    report.reads = bank.reads.load(Ordering::Relaxed);
    if !wrong.is_empty() {
        wrong.push(format!("the proxies' logs are in {}", stage.directory()));
    }
    report.wrong.append(&mut wrong);
}

/// The table with global indexes: rows are of transactions that are there, entries are those of rows, names are there once.
fn check_names(stage: &Stage<'_>, journal: &Journal, wrong: &mut Vec<String>) {
    let all = |sql: &str| {
        let shards = 0..stage.shards();
        let mut rows: Vec<String> = shards.flat_map(|shard| stage.column(shard, sql)).collect();
        rows.sort();
        rows
    };
    let known: BTreeSet<u64> = journal.values().flatten().copied().collect();
    let strange = all("SELECT id FROM names");
    let strange = strange
        .iter()
        .filter(|id| id.parse().is_ok_and(|id| !known.contains(&id)));
    wrong.extend(strange.map(|id| format!("transaction {id} is half there: only a name of it")));
    for index in stage.column(0, "SELECT id, columns[1] FROM drover_internal.global_indexes") {
        let Some((id, column)) = index.split_once(' ') else {
            continue;
        };
        let rows = all(&format!("SELECT {column}, id FROM names"));
        let entries = all(&format!(
            "SELECT {column}, drover_key_1 FROM drover_internal.index_{id}"
        ));
        if rows != entries {
            wrong.push(format!(
                "global index {id} on {column} is damaged: rows {rows:?}, entries {entries:?}"
            ));
        }
        let mut values: Vec<&str> = rows.iter().filter_map(|row| row.split(' ').next()).collect();
        let count = values.len();
        values.dedup();
        if column == "name" && values.len() != count {
            wrong.push(format!("names are there twice: {rows:?}"));
        }
    }
}

fn check_group(
    group: usize,
    members: &[i64],
    journal: &Journal,
    transfers: &BTreeMap<u64, Transfer>,
    wrong: &mut Vec<String>,
) {
    let of = |id: &i64| journal.get(id).map_or(&[][..], Vec::as_slice);
    let first = of(&members[0]);
    for other in &members[1..] {
        if of(other) != first {
            let (here, there): (BTreeSet<_>, BTreeSet<_>) =
                (first.iter().collect(), of(other).iter().collect());
            let half: Vec<_> = here.symmetric_difference(&there).collect();
            wrong.push(format!(
                "group {group}: account {} and account {other} differ; half there, or in another order: {half:?}",
                members[0]
            ));
        }
    }
    let there: BTreeSet<u64> = first.iter().copied().collect();
    if there.len() != first.len() {
        wrong.push(format!("group {group}: a transaction is there twice"));
    }
    for (txn, transfer) in transfers.iter().filter(|(_, transfer)| transfer.group == group) {
        match (transfer.fate, there.contains(txn)) {
            (Fate::Committed, false) => {
                wrong.push(format!("transaction {txn} was acknowledged and is not there"));
            }
            (Fate::ToldCommitted, false) => {
                wrong.push(format!(
                    "transaction {txn} was said to be committed and is not there"
                ));
            }
            (Fate::ToldAborted, true) => {
                wrong.push(format!("transaction {txn} was said to be aborted and is there"));
            }
            (Fate::Refused, true) => wrong.push(format!(
                "transaction {txn} was refused and is there: {}",
                transfer.words
            )),
            _ => {}
        }
    }
}
