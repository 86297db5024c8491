//! Deadlocks over several shards (docs/decisions/0031): when a transaction over several shards has waited for a while,
//! the waits of all shards are merged, and the youngest transaction of a circle is cancelled.
//!
//! Every proxy looks for itself and cancels only its own transactions; all find the same victim, because all see the same
//! waits and the same list of who works for whom. A look costs a lock on the list of tickets while nothing waits.
//!
//! | a look finds | then |
//! |---|---|
//! | no transaction over several shards in the same request as at the look before | nothing is asked, and what was said before is taken back |
//! | some, none of whose backends waits for a lock | the same |
//! | some that wait | they are listed in the store; what all proxies list, and the waits of all shards, are merged |
//! | a circle whose victim is one of them | another look, soon |
//! | the same circle again, nobody in it having moved | the victim's request is cancelled, if it is still the same |
//!
//! What can fail between the steps (a shard that does not answer, a store that does not work, a proxy that is slow) hides
//! waits, so that a circle is found later; it cannot make one up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use catalog::ShardId;
use commit::deadlock::{Deadlock, Graph, Transaction, Wait};
use tokio::task::JoinSet;
use topology::{WaitingTransaction, Waits};

use crate::admin_link::{AdminError, AdminLink};
use crate::cancel::CancelTarget;
use crate::cluster::Cluster;
use crate::exec::link::TextRow;
use crate::pools::Holder;
use crate::worker::Shared;

/// How often a proxy looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How soon it looks again to confirm a circle.
const CONFIRM_AFTER: Duration = Duration::from_millis(100);

/// A shard that does not say what waits there within this time is left out.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// Looks without anything to ask after which the connections for asking are closed.
const IDLE_LOOKS_MAX: u32 = 100;

/// Process numbers from here on stand for transactions that are prepared, which have none. PostgreSQL's are smaller.
const PREPARED_PID: u32 = 1 << 31;

/// The waits of a server that have lasted a moment, the oldest first. A lock is described as PostgreSQL's own detector does.
const WAITS: &str = "SELECT l.pid, coalesce(a.leader_pid, l.pid), \
     (extract(epoch FROM l.waitstart) * 1000000)::int8, \
     pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(l.pid), ' '), p.gid, \
     pg_catalog.concat(l.mode, ' on ', CASE l.locktype \
         WHEN 'relation' THEN pg_catalog.format('relation %s of database %s', l.relation, l.database) \
         WHEN 'extend' THEN pg_catalog.format('extension of relation %s of database %s', l.relation, l.database) \
         WHEN 'page' THEN pg_catalog.format('page %s of relation %s of database %s', l.page, l.relation, l.database) \
         WHEN 'tuple' THEN pg_catalog.format('tuple (%s,%s) of relation %s of database %s', l.page, l.tuple, l.relation, l.database) \
         WHEN 'transactionid' THEN pg_catalog.format('transaction %s', l.transactionid) \
         WHEN 'virtualxid' THEN pg_catalog.format('virtual transaction %s', l.virtualxid) \
         WHEN 'object' THEN pg_catalog.format('object %s of class %s of database %s', l.objid, l.classid, l.database) \
         WHEN 'advisory' THEN pg_catalog.format('advisory lock [%s,%s,%s,%s]', l.database, l.classid, l.objid, l.objsubid) \
         ELSE l.locktype END) \
     FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.locktype = 'transactionid' AND p.transaction = l.transactionid \
     WHERE NOT l.granted AND l.waitstart < pg_catalog.clock_timestamp() - interval '100 milliseconds' \
     ORDER BY l.waitstart LIMIT 1000";

/// Looks for deadlocks over several shards, for ever.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    mut workers: tokio::sync::watch::Receiver<Option<Arc<Shared>>>,
) {
    let shared = match workers.wait_for(Option::is_some).await {
        Ok(shared) => shared.clone(),
        Err(_) => return,
    };
    let (Some(shared), Some(membership)) = (shared, cluster.membership()) else {
        return;
    };
    let Ok(waits) = Waits::new(Arc::clone(membership)) else {
        return;
    };
    let mut detector = Detector {
        cluster,
        shared,
        waits,
        links: HashMap::new(),
        idle_looks: 0,
        before: HashMap::new(),
        suspected: Vec::new(),
    };
    loop {
        let pause = match detector.suspected.is_empty() {
            true => LOOK_EVERY,
            false => CONFIRM_AFTER,
        };
        tokio::time::sleep(pause).await;
        detector.look().await;
    }
}

struct Detector {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    waits: Waits,
    /// Connections for asking.
    links: HashMap<ShardId, AdminLink>,
    idle_looks: u32,
    /// What each transaction did at the look before.
    before: HashMap<u64, Doing>,
    /// Circles that the look before found, whose victims are ours.
    suspected: Vec<Deadlock>,
}

/// What a transaction is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// This request.
    Request(u64),
    /// Its commit.
    Ending,
}

/// A transaction of this proxy that has been at the same for a while.
struct Candidate {
    number: u64,
    holder: Holder,
    doing: Doing,
    backends: Vec<(ShardId, u32)>,
}

/// One backend, as its server says.
struct Activity {
    began_us: i64,
    waits: bool,
}

impl Detector {
    async fn look(&mut self) {
        let candidates = self.candidates();
        let waiting = match candidates.is_empty() {
            true => Vec::new(),
            false => self.waiting(&candidates).await,
        };
        if let Err(error) = self.waits.say(&waiting).await {
            tracing::debug!(%error, "waiting transactions could not be listed");
        }
        if waiting.is_empty() {
            self.suspected.clear();
            self.idle_looks = self.idle_looks.saturating_add(1);
            if self.idle_looks > IDLE_LOOKS_MAX {
                self.links.clear();
            }
            return;
        }
        self.idle_looks = 0;
        let transactions = match self.waits.all().await {
            Ok(all) => all.into_iter().map(transaction).collect::<Vec<_>>(),
            Err(error) => {
                tracing::debug!(%error, "the waiting transactions of other proxies are not known");
                return;
            }
        };
        let waits = self.all_waits().await;
        let graph = Graph::new(&waits, &transactions);
        let suspected = std::mem::take(&mut self.suspected);
        let (confirmed, gone): (Vec<_>, Vec<_>) =
            suspected.into_iter().partition(|known| graph.confirms(known));
        if !gone.is_empty() {
            tracing::debug!(
                count = gone.len(),
                "circles of waits that were none, or have ended"
            );
        }
        for deadlock in &confirmed {
            self.end(deadlock, &candidates).await;
        }
        let own = |deadlock: &Deadlock| deadlock.victim.0 == self.waits.proxy();
        if confirmed.is_empty() {
            self.suspected = graph.deadlocks().into_iter().filter(own).collect();
        }
    }

    /// Transactions that have been at the same since the look before.
    fn candidates(&mut self) -> Vec<Candidate> {
        let holders = self.shared.tickets.holders();
        let primaries = match holders.is_empty() {
            true => HashMap::new(),
            false => self.primaries(),
        };
        let mut now = HashMap::new();
        let mut candidates = Vec::new();
        for (number, holder) in holders {
            let doing = match (&holder.ending, holder.slot.served()) {
                (Some(_), _) => Doing::Ending,
                (None, Some(request)) => Doing::Request(request),
                (None, None) => continue,
            };
            now.insert(number, doing);
            if self.before.get(&number) != Some(&doing) {
                continue;
            }
            let backend = |target: &Arc<CancelTarget>| {
                let shard = primaries.get(&(target.address.host.clone(), target.address.port))?;
                Some((*shard, target.key.pid))
            };
            let mut backends: Vec<_> = holder.slot.targets().iter().filter_map(backend).collect();
            if let Some(ending) = &holder.ending {
                backends.extend(ending.targets.iter().filter_map(backend));
            }
            candidates.push(Candidate {
                number,
                holder,
                doing,
                backends,
            });
        }
        self.before = now;
        candidates
    }

    /// Which shard's primary each address is.
    fn primaries(&self) -> HashMap<(String, u16), ShardId> {
        let record = self.cluster.record();
        let address = |shard: &topology::records::ShardRecord| {
            let address = self.cluster.nodes.primary(shard.id.0).ok()?;
            Some(((address.host, address.port), shard.id))
        };
        record.shards.iter().filter_map(address).collect()
    }

    /// Those of which some backend waits for a lock.
    async fn waiting(&mut self, candidates: &[Candidate]) -> Vec<WaitingTransaction> {
        let mut by_shard: HashMap<ShardId, Vec<String>> = HashMap::new();
        for (shard, pid) in candidates.iter().flat_map(|candidate| &candidate.backends) {
            by_shard.entry(*shard).or_default().push(pid.to_string());
        }
        let questions = by_shard.into_iter().map(|(shard, pids)| {
            let sql = format!(
                "SELECT pid, (extract(epoch FROM xact_start) * 1000000)::int8, wait_event_type = 'Lock' \
                 FROM pg_catalog.pg_stat_activity WHERE pid IN ({})",
                pids.join(", ")
            );
            (shard, sql)
        });
        let answers = self.ask(questions.collect()).await;
        let mut activity = HashMap::new();
        for (shard, rows) in answers {
            activity.extend(rows.iter().filter_map(|row| {
                let (pid, known) = read_activity(row)?;
                Some(((shard, pid), known))
            }));
        }
        let mut waiting = Vec::new();
        for candidate in candidates {
            let known: Vec<&Activity> = candidate
                .backends
                .iter()
                .filter_map(|backend| activity.get(backend))
                .collect();
            if !known.iter().any(|known| known.waits) {
                continue;
            }
            let mut backends: BTreeSet<(u32, u32)> = candidate
                .backends
                .iter()
                .map(|(shard, pid)| (shard.0, *pid))
                .collect();
            let gid = candidate.holder.ending.as_ref().and_then(|ending| ending.gid);
            if let Some(gid) = gid {
                let shards: BTreeSet<u32> = backends.iter().map(|(shard, _)| *shard).collect();
                let pid = prepared_pid(&gid.to_string());
                backends.extend(shards.into_iter().map(|shard| (shard, pid)));
            }
            waiting.push(WaitingTransaction {
                number: candidate.number,
                began_us: known.iter().map(|known| known.began_us).min().unwrap_or(0),
                ending: candidate.doing == Doing::Ending,
                backends: backends.into_iter().collect(),
            });
        }
        waiting
    }

    /// The waits of all shards.
    async fn all_waits(&mut self) -> Vec<Wait> {
        let record = self.cluster.record();
        let questions = record.shards.iter().map(|shard| (shard.id, WAITS.to_owned()));
        let answers = self.ask(questions.collect()).await;
        let mut waits = Vec::new();
        for (shard, rows) in answers {
            waits.extend(rows.iter().filter_map(|row| read_wait(shard, row)));
        }
        waits
    }

    /// Asks several shards at once; those that do not answer are left out.
    async fn ask(&mut self, questions: Vec<(ShardId, String)>) -> Vec<(ShardId, Vec<TextRow>)> {
        let Some(database) = self.cluster.record().databases.first().cloned() else {
            return Vec::new();
        };
        let mut asking = JoinSet::new();
        for (shard, sql) in questions {
            let link = self.links.remove(&shard);
            let (cluster, database) = (Arc::clone(&self.cluster), database.clone());
            asking.spawn_local(async move {
                let answer = tokio::time::timeout(ASK_WITHIN, async {
                    let mut link = match link {
                        Some(link) => link,
                        None => cluster.admin_link(shard, &database).await?,
                    };
                    let rows = link.rows(&sql).await?;
                    Ok::<_, AdminError>((link, rows))
                });
                (shard, answer.await)
            });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok((shard, Ok(Ok((link, rows))))) => {
                    self.links.insert(shard, link);
                    answers.push((shard, rows));
                }
                Ok((shard, Ok(Err(error)))) => tracing::debug!(%shard, %error, "waits are not known"),
                Ok((shard, Err(_))) => tracing::debug!(%shard, "waits are not known in time"),
                Err(error) => tracing::error!(%error, "asking for waits failed"),
            }
        }
        answers
    }

    /// Cancels the victim, if it is still at the request that it was found at.
    async fn end(&self, deadlock: &Deadlock, candidates: &[Candidate]) {
        let victim = candidates
            .iter()
            .find(|candidate| candidate.number == deadlock.victim.1);
        let Some((candidate, Doing::Request(request))) = victim.map(|found| (found, found.doing)) else {
            return;
        };
        let record = self.cluster.record();
        let detail = deadlock.detail(|shard| {
            let known = record.shard(ShardId(shard.0));
            known.map_or_else(|| format!("shard {shard}"), |known| known.name.clone())
        });
        let cancelled = candidate
            .holder
            .slot
            .cancel_deadlocked(request, detail.as_str().into());
        if cancelled.await {
            let client = candidate.holder.slot.pid();
            tracing::warn!(
                client,
                detail,
                "deadlock over several shards: the youngest transaction was cancelled"
            );
        }
    }
}

fn transaction((proxy, waiting): (String, WaitingTransaction)) -> Transaction {
    let backend = |(shard, pid): &(u32, u32)| (commit::ShardId(*shard), *pid);
    Transaction {
        id: (proxy, waiting.number),
        began_us: waiting.began_us,
        can_be_cancelled: !waiting.ending,
        backends: waiting.backends.iter().map(backend).collect(),
    }
}

fn field<T: std::str::FromStr>(row: &TextRow, column: usize) -> Option<T> {
    row.get(column)?.as_deref()?.parse().ok()
}

fn read_activity(row: &TextRow) -> Option<(u32, Activity)> {
    let known = Activity {
        // It has none between two transactions.
        began_us: field(row, 1).unwrap_or(i64::MAX),
        waits: row.get(2)?.as_deref() == Some("t"),
    };
    Some((field(row, 0)?, known))
}

fn read_wait(shard: ShardId, row: &TextRow) -> Option<Wait> {
    let gid = row.get(4)?.as_deref();
    let blocker = |text: &str| {
        let pid: u32 = text.parse().ok()?;
        // A prepared transaction's.
        if pid == 0 {
            gid.map(prepared_pid)
        } else {
            Some(pid)
        }
    };
    let own = [field::<u32>(row, 0)?, field(row, 1)?];
    let blockers = row.get(3)?.as_deref()?.split(' ').filter_map(blocker);
    Some(Wait {
        // Of a worker of a parallel statement: its leader.
        backend: (commit::ShardId(shard.0), own[1]),
        since_us: field(row, 2)?,
        blockers: blockers.filter(|pid| !own.contains(pid)).collect(),
        lock: row.get(5)?.clone()?,
    })
}

/// Stands for the backend of a prepared transaction: 31 bits of the random part of its name.
fn prepared_pid(gid: &str) -> u32 {
    let digits = gid.rsplit(':').next().and_then(|id| id.get(..8));
    let bits = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    PREPARED_PID | bits.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_waits_is_read() {
        let row = |texts: [Option<&str>; 6]| -> TextRow { texts.map(|text| text.map(str::to_owned)).into() };
        let lock = Some("ShareLock on transaction 7");
        let plain = row([Some("11"), Some("11"), Some("5"), Some("12 13"), None, lock]);
        let wait = read_wait(ShardId(1), &plain).expect("a wait");
        assert_eq!((wait.backend.1, wait.since_us), (11, 5));
        assert_eq!(wait.blockers, [12, 13]);
        // A worker of a parallel statement, which waits for one that is prepared, and for nobody known.
        let gid = Some("drover:1:2:d761d406af2a4a5a15f67c924378ed88");
        let prepared = row([Some("14"), Some("11"), Some("5"), Some("0"), gid, lock]);
        let wait = read_wait(ShardId(1), &prepared).expect("a wait");
        assert_eq!(wait.backend.1, 11);
        assert_eq!(wait.blockers, [0xd761_d406]);
        let unknown = row([Some("14"), Some("11"), Some("5"), Some("0"), None, lock]);
        assert!(
            read_wait(ShardId(1), &unknown)
                .expect("a wait")
                .blockers
                .is_empty()
        );
        assert!(read_wait(ShardId(1), &row([Some("14"), None, None, None, None, None])).is_none());
    }
}
