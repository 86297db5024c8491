//! The databases of a cluster, and adding to them while clients are connected.
//!
//! A database is served once it is in the cluster's record and its facts are loaded. Adding one goes through these steps;
//! whatever fails, nobody who is connected notices, and the next attempt begins again:
//!
//! | step | if it fails, or the proxy dies |
//! |---|---|
//! | Drover's own objects are made in it on every shard | they lie there unused; making them again does nothing |
//! | its facts are read once, for nothing | what cannot be read must not get into the record, which every proxy has to load |
//! | the record in the store names it | the record is as it was |
//! | this proxy has loaded that record | the proxy is out of date and serves nobody, as after any change it cannot load |
//!
//! Nothing is ever taken out of the record: which databases clients may name is a matter of the configuration of each
//! proxy, while prepared transactions may wait in a database that no entry stands for any more. A database of the record
//! that was dropped on the servers is not served, and keeps nobody from being served in the others.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use catalog::{ShardId, Snapshot};
use tokio::sync::{mpsc, oneshot};
use topology::change::{SetupError, add_databases};
use topology::{ClusterRecord, Epoch, TopologyStore};

use super::Cluster;
use crate::admin_link::AdminError;
use crate::ops::{guards, indexes, online};

/// How long the proxy may take to load a record with a new database.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The database that every server has.
const SERVERS_OWN_DATABASE: &str = "postgres";

/// One database.
#[derive(Default)]
pub(super) struct Database {
    /// Its facts.
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Changes with them.
    pub(super) version: AtomicU64,
    /// The facts are loaded, and the database is there.
    pub(super) served: AtomicBool,
}

/// Databases by name; there are few, and only ever more of them. Looking one up takes no lock.
#[derive(Default)]
pub(super) struct Databases {
    here: Vec<(String, Database)>,
    /// Those that came later.
    more: OnceLock<Box<Databases>>,
}

impl Databases {
    pub(super) fn get(&self, name: &str) -> Option<&Database> {
        let mut at = Some(self);
        while let Some(databases) = at {
            if let Some((_, database)) = databases.here.iter().find(|(known, _)| known == name) {
                return Some(database);
            }
            at = databases.more.get().map(Box::as_ref);
        }
        None
    }

    /// Adds those that are not there yet, with nothing loaded.
    pub(super) fn add(&self, names: &[String]) {
        let new: Vec<_> = names
            .iter()
            .filter(|name| self.get(name).is_none())
            .map(|name| (name.clone(), Database::default()))
            .collect();
        if new.is_empty() {
            return;
        }
        let mut last = self;
        while let Some(more) = last.more.get() {
            last = more;
        }
        // Only the control thread adds: nobody was faster.
        let _ = last.more.set(Box::new(Self {
            here: new,
            more: OnceLock::new(),
        }));
    }
}

/// Why databases cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A shard cannot be prepared or read.
    #[error("shard {shard}, database {database}")]
    Shard {
        /// Which shard.
        shard: ShardId,
        /// Which database.
        database: String,
        /// What is wrong.
        source: AdminError,
    },
    /// The store does not work, or the cluster would make no sense.
    #[error(transparent)]
    Store(#[from] SetupError),
    /// The record was changed, and this proxy could not load it in time.
    #[error("the cluster with its new databases could not be loaded in time")]
    NotLoaded,
    /// The control thread has ended.
    #[error("the proxy is ending")]
    Ending,
}

/// What is asked of the control thread.
pub(super) struct Request {
    names: Vec<String>,
    all: bool,
    answer: oneshot::Sender<Result<Vec<String>, ServeError>>,
}

/// Asks the control thread to serve databases.
#[derive(Clone)]
pub struct ServeDatabases {
    requests: mpsc::Sender<Request>,
}

impl ServeDatabases {
    /// One request waits at most; who makes another one waits.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(1);
        (Self { requests }, receiver)
    }

    /// Serves these databases of the servers and, with `all`, every other one that the home shard has. Returns those
    /// that were not served before. Blocks: not for a worker's thread.
    pub fn serve(&self, names: Vec<String>, all: bool) -> Result<Vec<String>, ServeError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { names, all, answer };
        self.requests
            .blocking_send(request)
            .map_err(|_| ServeError::Ending)?;
        answered.blocking_recv().map_err(|_| ServeError::Ending)?
    }
}

/// Does what is asked, for ever.
pub(super) async fn run(
    cluster: Arc<Cluster>,
    store: Arc<dyn TopologyStore>,
    mut requests: mpsc::Receiver<Request>,
) {
    while let Some(request) = requests.recv().await {
        let result = serve(&cluster, store.as_ref(), request.names, request.all).await;
        // Who asked may have gone away.
        let _ = request.answer.send(result);
    }
}

async fn serve(
    cluster: &Cluster,
    store: &dyn TopologyStore,
    mut names: Vec<String>,
    all: bool,
) -> Result<Vec<String>, ServeError> {
    let record = cluster.record();
    let found = if all {
        listed(cluster, record.home).await?
    } else {
        Vec::new()
    };
    let named = names.clone();
    names.extend(found);
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !cluster.serves(name));
    let mut ready = Vec::with_capacity(names.len());
    for name in names {
        match prepare(cluster, &record, &name).await {
            Ok(()) => ready.push(name),
            // It was only found, and is not on every shard, or was dropped meanwhile.
            Err(ServeError::Shard { shard, source, .. })
                if source.is_no_database() && !named.contains(&name) =>
            {
                tracing::warn!(database = %name, %shard, "the database is not on this shard and not served");
            }
            Err(error) => return Err(error),
        }
    }
    if ready.is_empty() {
        return Ok(ready);
    }
    let names = ready;
    let stored = add_databases(store, &names).await?;
    wait_for(cluster, stored.epoch, &names).await?;
    Ok(names)
}

/// The databases that a shard has now.
pub(super) async fn listed(cluster: &Cluster, shard: ShardId) -> Result<Vec<String>, ServeError> {
    let failed = |source| ServeError::Shard {
        shard,
        database: SERVERS_OWN_DATABASE.to_owned(),
        source,
    };
    let link = cluster.admin_link(shard, SERVERS_OWN_DATABASE).await;
    let mut link = link.map_err(failed)?;
    let sql = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate \
               ORDER BY datname";
    let rows = link.rows(sql).await.map_err(failed)?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// Drover's own objects in these databases, on every shard.
pub(super) async fn bootstrap(
    cluster: &Cluster,
    record: &ClusterRecord,
    databases: &[String],
) -> Result<(), ServeError> {
    for shard in &record.shards {
        for database in databases {
            let made = make_objects(cluster, shard.id, database).await;
            made.map_err(|source| ServeError::Shard {
                shard: shard.id,
                database: database.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// The same at the start of a proxy: of the record's databases, those that it is not `configured` for may have been
/// dropped.
pub(super) async fn bootstrap_all(
    cluster: &Cluster,
    record: &ClusterRecord,
    configured: &[String],
) -> Result<(), ServeError> {
    for database in &record.databases {
        match bootstrap(cluster, record, std::slice::from_ref(database)).await {
            Err(ServeError::Shard { source, .. })
                if source.is_no_database() && !configured.contains(database) =>
            {
                tracing::warn!(%database, "the cluster had this database, the servers have it no more");
            }
            done => done?,
        }
    }
    Ok(())
}

async fn make_objects(cluster: &Cluster, shard: ShardId, database: &str) -> Result<(), AdminError> {
    let mut link = cluster.admin_link(shard, database).await?;
    link.run("BEGIN").await?;
    for statement in commit::sql::BOOTSTRAP
        .iter()
        .chain(indexes::BOOTSTRAP)
        .chain(guards::BOOTSTRAP)
        .chain(online::BOOTSTRAP)
    {
        link.run(statement).await?;
    }
    for statement in crate::ids::bootstrap(shard) {
        link.run(&statement).await?;
    }
    link.run("COMMIT").await?;
    Ok(())
}

/// Reads the facts of a database as they would be read once the record names it.
async fn try_facts(cluster: &Cluster, record: &ClusterRecord, database: &str) -> Result<(), ServeError> {
    let failed = |source| ServeError::Shard {
        shard: record.home,
        database: database.to_owned(),
        source,
    };
    let mut with_it = record.clone();
    with_it.databases.push(database.to_owned());
    let link = cluster.admin_link(record.home, database).await;
    let mut link = link.map_err(failed)?;
    let facts = cluster.load_facts(&mut link, &with_it, database).await;
    facts.map(drop).map_err(failed)
}

/// Everything that can fail before the record is changed.
async fn prepare(cluster: &Cluster, record: &ClusterRecord, database: &str) -> Result<(), ServeError> {
    bootstrap(cluster, record, &[database.to_owned()]).await?;
    try_facts(cluster, record, database).await
}

/// Waits until the record of this epoch, or a later one, is in force here.
async fn wait_for(cluster: &Cluster, epoch: Epoch, names: &[String]) -> Result<(), ServeError> {
    let loaded = async {
        loop {
            let changed = cluster.loaded.notified();
            let mut changed = std::pin::pin!(changed);
            // Before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let known = names.iter().all(|name| cluster.serves(name));
            if known && cluster.record().epoch >= epoch {
                return;
            }
            changed.await;
        }
    };
    let waited = tokio::time::timeout(LOAD_TIMEOUT, loaded).await;
    waited.map_err(|_| ServeError::NotLoaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_added_and_stay_where_they_are() {
        let databases = Databases::default();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        databases.add(&names(&["a", "b"]));
        let first = std::ptr::from_ref(databases.get("b").expect("it is there"));
        databases.add(&names(&["b", "c"]));
        databases.add(&names(&["d"]));
        assert!(std::ptr::eq(first, databases.get("b").expect("it is there")));
        assert!(databases.get("c").is_some() && databases.get("d").is_some());
        assert!(databases.get("e").is_none());
    }
}
