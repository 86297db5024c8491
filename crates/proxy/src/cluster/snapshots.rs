//! The barrier behind snapshots of the whole cluster (docs/decisions/0032).
//!
//! A commit over several shards is seen in part between its decision and the last COMMIT PREPARED. A snapshot of the cluster
//! is one taken on all shards while there is no such commit: new decisions are held back by a lock on the table of
//! decisions, which every decision is inserted into anyway, and those made before are waited for.
//!
//! | step | what can fail | then |
//! |---|---|---|
//! | the home shard's table is locked, against others who do this as well | another holds it | it is waited for, in its queue |
//! | the other shards' tables are locked, all at once | a lock is not granted in time, a shard does not answer | everything is let go, the read fails with 40001 |
//! | decided transactions that are still prepared somewhere are waited for | their proxy is gone | recovery is asked to finish them |
//! | sessions take their snapshots | this takes longer than [`HELD_FOR`] | they do not use them: 40001 |
//! | the locks are let go | this proxy is stopped, or dead | the servers do, after [`SERVER_LETS_GO`] |
//!
//! Who decides holds no lock that is waited for here but that of its insertion, and then only commits: no circle is closed.
//! All sessions of a proxy that ask at the same time are served by one hold.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::ShardId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Cluster;
use crate::admin_link::{AdminError, AdminLink};
use crate::exec::link::TextRow;

/// How long after the first lock was asked for snapshots may be taken.
const HELD_FOR: Duration = Duration::from_millis(4_500);

/// Servers let go of a lock whose holder says nothing for this long. More than [`HELD_FOR`]: then it was held.
const SERVER_LETS_GO: &str = "5s";

/// How long the locks may be waited for.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(4);

/// Pause between two looks at what is still prepared.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Looks after which recovery is asked.
const LOOKS_PATIENT: u32 = 50;

/// Sessions that may wait for a snapshot.
const WAITING_MAX: usize = 10_000;

/// Where sessions ask for a time without decisions.
#[derive(Debug)]
pub(super) struct Desk {
    sender: mpsc::Sender<Request>,
    /// Taken by [`run`].
    receiver: Mutex<Option<mpsc::Receiver<Request>>>,
}

#[derive(Debug)]
struct Request {
    database: String,
    held: oneshot::Sender<Result<Held, String>>,
}

/// No commit over several shards of one database is decided, or half done, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    until: Instant,
    /// Says that it is dropped.
    _done: oneshot::Sender<()>,
}

impl Held {
    /// Whether the locks are surely held still. To be asked when the snapshots have been taken.
    pub(crate) fn is_valid(&self) -> bool {
        Instant::now() < self.until
    }
}

impl Default for Desk {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Desk {
    /// Waits for a time without decisions.
    pub(super) async fn hold(&self, database: &str) -> Result<Held, String> {
        let (held, answer) = oneshot::channel();
        let request = Request {
            database: database.to_owned(),
            held,
        };
        if self.sender.try_send(request).is_err() {
            return Err("too many are waiting for one".to_owned());
        }
        match answer.await {
            Ok(held) => held,
            Err(_) => Err("the proxy is stopping".to_owned()),
        }
    }
}

/// Serves the sessions that ask, for ever.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let receiver = cluster.snapshots.receiver.lock();
    let receiver = receiver.unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut receiver) = receiver else { return };
    let mut links: HashMap<String, Links> = HashMap::new();
    while let Some(first) = receiver.recv().await {
        let mut requests = vec![first];
        while let Ok(next) = receiver.try_recv() {
            requests.push(next);
        }
        let databases: BTreeSet<String> = requests.iter().map(|request| request.database.clone()).collect();
        for database in databases {
            let (mine, others): (Vec<_>, Vec<_>) = requests
                .into_iter()
                .partition(|request| request.database == database);
            requests = others;
            let mut kept = links.remove(&database).unwrap_or_default();
            if serve(&cluster, &database, &mut kept, mine).await {
                links.insert(database, kept);
            }
        }
    }
}

type Links = HashMap<ShardId, AdminLink>;

/// One hold for all these. False: the connections are of no use any more.
async fn serve(cluster: &Arc<Cluster>, database: &str, links: &mut Links, requests: Vec<Request>) -> bool {
    let began = Instant::now();
    let acquired = tokio::time::timeout(ACQUIRE_WITHIN, acquire(cluster, database, links)).await;
    let acquired = match acquired {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("commits that are under way take too long".to_owned()),
    };
    if let Err(reason) = acquired {
        tracing::debug!(database, reason, "no snapshot of the cluster");
        for request in requests {
            let _ = request.held.send(Err(reason.clone()));
        }
        return false;
    }
    let until = began + HELD_FOR;
    let mut sessions = Vec::new();
    for request in requests {
        let (done, is_done) = oneshot::channel();
        if request.held.send(Ok(Held { until, _done: done })).is_ok() {
            sessions.push(is_done);
        }
    }
    let all_done = async {
        for session in sessions {
            // An error says that it is dropped.
            let _ = session.await;
        }
    };
    let _ = tokio::time::timeout_at(until, all_done).await;
    let shards: Vec<_> = links.keys().map(|shard| (*shard, "COMMIT".to_owned())).collect();
    ask(cluster, database, links, shards).await.is_ok()
}

/// Locks, and waits for what is decided to be done.
async fn acquire(cluster: &Arc<Cluster>, database: &str, links: &mut Links) -> Result<(), AdminError> {
    let record = cluster.record();
    let lock = |mode: &str| {
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '{SERVER_LETS_GO}'; \
             LOCK TABLE drover_internal.decisions IN {mode} MODE"
        )
    };
    // Whoever has the home shard's is alone; only then are the others asked for, so that two never wait for each other.
    let home = vec![(record.home, lock("SHARE ROW EXCLUSIVE"))];
    ask(cluster, database, links, home).await?;
    let others = record.shards.iter().filter(|shard| shard.id != record.home);
    let others = others.map(|shard| (shard.id, lock("SHARE"))).collect();
    ask(cluster, database, links, others).await?;
    let mut looks = 0;
    loop {
        let listed = record
            .shards
            .iter()
            .map(|shard| (shard.id, commit::sql::LIST_PREPARED.to_owned()));
        let prepared = ask(cluster, database, links, listed.collect()).await?;
        let gids: BTreeSet<commit::Gid> = prepared
            .iter()
            .filter_map(|row| row.first()?.as_deref()?.parse().ok())
            .collect();
        if gids.is_empty() {
            return Ok(());
        }
        let mut questions: HashMap<ShardId, Vec<String>> = HashMap::new();
        for gid in gids {
            let decider = questions.entry(ShardId(gid.decider().0)).or_default();
            decider.push(format!("'{gid}'"));
        }
        let questions = questions.into_iter().map(|(shard, gids)| {
            let gids = gids.join(", ");
            let sql = format!(
                "SELECT gid FROM drover_internal.decisions WHERE committed AND gid IN ({gids}) LIMIT 1"
            );
            (shard, sql)
        });
        if ask(cluster, database, links, questions.collect())
            .await?
            .is_empty()
        {
            // None of them can be decided before the locks are let go.
            return Ok(());
        }
        looks += 1;
        if looks == LOOKS_PATIENT {
            cluster.ask_recovery();
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Asks several shards at once; all rows, or the first error. Connections that failed are closed.
async fn ask(
    cluster: &Arc<Cluster>,
    database: &str,
    links: &mut Links,
    questions: Vec<(ShardId, String)>,
) -> Result<Vec<TextRow>, AdminError> {
    let mut asking = JoinSet::new();
    for (shard, sql) in questions {
        let (cluster, database) = (Arc::clone(cluster), database.to_owned());
        let link = links.remove(&shard);
        asking.spawn_local(async move {
            let mut link = match link {
                Some(link) => link,
                None => cluster.admin_link(shard, &database).await?,
            };
            let rows = link.rows(&sql).await?;
            Ok::<_, AdminError>((shard, link, rows))
        });
    }
    let mut all = Vec::new();
    let mut failure = None;
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok(Ok((shard, link, rows))) => {
                links.insert(shard, link);
                all.extend(rows);
            }
            Ok(Err(error)) => {
                failure.get_or_insert(error);
            }
            Err(error) => {
                failure.get_or_insert(AdminError::State(error.to_string()));
            }
        }
    }
    failure.map_or(Ok(all), Err)
}
