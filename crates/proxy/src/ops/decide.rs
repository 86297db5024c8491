//! The end of a move: pending record or journal, prepared parts, decision on the home shard.

use commit::{Gid, Secret};
use topology::records::{SchemaJournal, TableState};
use topology::{ChangeError, ChangeGuard, ClusterRecord};

use super::OpError;
use super::effects::NewTable;
use super::faults::{Faults, Step};
use super::join::{join_all, try_join_all};
use super::part::{Part, shard_name};
use crate::admin_link::AdminError;
use crate::cluster::Cluster;

/// How often a decision is carried out again when shards cannot be reached.
const SETTLE_ATTEMPTS_MAX: u32 = 5;

/// What the transaction is called.
struct Name {
    gid: Gid,
    secret: Secret,
}

/// The parts of a move.
pub(super) struct Parts {
    /// Decides.
    pub(super) home: Part,
    /// All other shards.
    pub(super) others: Vec<Part>,
}

impl Parts {
    /// Gives everything up that is not prepared.
    pub(super) async fn roll_back(self) {
        join_all(self.others.into_iter().chain([self.home]).map(Part::roll_back)).await;
    }
}

/// How the cluster's record says that a move is under way, and what it says afterwards.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    /// A table that was not recorded before: pending meanwhile.
    Table(&'a NewTable),
    /// Another change of the record, of tables in this database: in the journal meanwhile.
    Change(&'a str, &'a Edit<'a>),
}

/// A change of the record. May be made several times, each time on another version of it.
pub(super) type Edit<'a> = dyn Fn(&mut ClusterRecord) -> Result<(), OpError> + Send + Sync + 'a;

impl Entry<'_> {
    fn database(&self) -> &str {
        match self {
            Entry::Table(table) => &table.database,
            Entry::Change(database, _) => database,
        }
    }
}

/// Commits a move and records it. After an error other than [`OpError::Unfinished`] nothing has changed.
pub(super) async fn commit(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    parts: Parts,
    entry: Entry<'_>,
    faults: &Faults,
) -> Result<(), OpError> {
    let secret = crate::cancel::random::<16>()
        .map(Secret)
        .map_err(|_| OpError::refused("XX000", "the system has no random numbers"))?;
    let gid = Gid::new(commit::ShardId(parts.home.shard.0), secret);
    let announced = announce(guard, entry, &gid).await;
    if let Err(error) = announced {
        parts.roll_back().await;
        if matches!(error, OpError::Change(ChangeError::Store(_))) {
            // It is not known whether it was written.
            withdraw(guard, entry, &gid).await?;
        }
        return Err(error);
    }
    let name = Name { gid, secret };
    match decide(cluster, guard, parts, entry.database(), name, faults).await {
        Ok(()) => {}
        Err(error @ (OpError::Unfinished(_) | OpError::Died)) => return Err(error),
        Err(error) => {
            withdraw(guard, entry, &gid).await?;
            return Err(error);
        }
    }
    faults.reached(Step::Finished).await?;
    record(guard, entry, &gid)
        .await
        .map_err(|error| OpError::Unfinished(format!("the table was moved, but not recorded: {error}")))
}

/// Makes known what is under way. The transaction's name is what identifies it: its decision tells how it ended.
async fn announce(guard: &mut ChangeGuard, entry: Entry<'_>, gid: &Gid) -> Result<(), OpError> {
    let mut failure = None;
    let announced = guard.publish(|record| match entry {
        Entry::Table(table) => {
            let state = TableState::Pending {
                change: gid.to_string(),
                what: format!(
                    "table {}.{} is being moved to the shards",
                    table.schema, table.name
                ),
            };
            record.schema_version += 1;
            failure = table.add_to(record, state).err();
        }
        Entry::Change(database, edit) => {
            let mut after = record.clone();
            failure = edit(&mut after).err();
            record.journal = Some(SchemaJournal::between(record, &after, database, gid.to_string()));
        }
    });
    announced.await?;
    failure.map_or(Ok(()), Err)
}

/// Records what has happened.
async fn record(guard: &mut ChangeGuard, entry: Entry<'_>, gid: &Gid) -> Result<(), OpError> {
    let mut failure = None;
    guard
        .publish(|record| {
            record.schema_version += 1;
            match entry {
                Entry::Table(table) => failure = table.add_to(record, TableState::Active).err(),
                // If it is not there, somebody else has brought it to its end.
                Entry::Change(..) => {
                    if let Some(journal) = record.journal.take_if(|journal| is_of(journal, gid)) {
                        journal.apply(record);
                    }
                }
            }
        })
        .await?;
    failure.map_or(Ok(()), Err)
}

/// Takes the announcement back of a move that surely does not happen.
async fn withdraw(guard: &mut ChangeGuard, entry: Entry<'_>, gid: &Gid) -> Result<(), OpError> {
    let removed = guard.publish(|record| match entry {
        Entry::Table(table) => record.tables.retain(|known| !table.is(known)),
        Entry::Change(..) => drop(record.journal.take_if(|journal| is_of(journal, gid))),
    });
    match removed.await {
        // Whoever took the barrier away removes the record too.
        Ok(_) | Err(ChangeError::Lost | ChangeError::Membership(_)) => Ok(()),
        Err(error) => {
            let what = format!("the move was given up, but is still recorded as pending: {error}");
            Err(OpError::Unfinished(what))
        }
    }
}

fn is_of(journal: &SchemaJournal, gid: &Gid) -> bool {
    journal.change == gid.to_string()
}

async fn decide(
    cluster: &Cluster,
    guard: &ChangeGuard,
    mut parts: Parts,
    database: &str,
    name: Name,
    faults: &Faults,
) -> Result<(), OpError> {
    let Name { gid, secret } = &name;
    faults.reached(Step::Announced).await?;
    if let Err(error) = prepare(&mut parts.others, gid, faults).await {
        if !matches!(error, OpError::Died) {
            undo(cluster, parts, gid).await;
        }
        return Err(error);
    }
    faults.reached(Step::Prepared).await?;
    // Others may have gone on without this proxy; they would find the pending record and exclude the commit, but
    // asking first gives the better error.
    if let Err(error) = guard.check_held().await {
        undo(cluster, parts, gid).await;
        return Err(error.into());
    }
    faults.reached(Step::Held).await?;
    let participants: Vec<commit::ShardId> = parts
        .others
        .iter()
        .map(|part| commit::ShardId(part.shard.0))
        .collect();
    let decided = parts
        .home
        .run(&commit::sql::decide(gid, &participants, *secret))
        .await;
    if let Err(
        error @ OpError::Shard {
            source: AdminError::Server(_),
            ..
        },
    ) = decided
    {
        // Not committed, and COMMIT will not be sent.
        undo(cluster, parts, gid).await;
        return Err(match error.sqlstate() {
            // The decision is there already: others have excluded the commit.
            Some("23505") => ChangeError::Lost.into(),
            _ => error,
        });
    }
    let committed = match decided {
        Ok(()) => parts.home.tag("COMMIT").await.is_ok_and(|tag| tag == "COMMIT"),
        Err(_) => false,
    };
    faults.reached(Step::Decided).await?;
    if committed && finish(&mut parts.others, gid, faults).await? {
        return Ok(());
    }
    match settle_patiently(cluster, database, gid).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpError::refused(
            "40000",
            "the home shard did not commit the move; nothing has changed",
        )),
        Err(error) => {
            cluster.ask_recovery();
            Err(OpError::Unfinished(format!(
                "the move is decided but not carried out everywhere: {error}"
            )))
        }
    }
}

/// Prepares all parts at once.
async fn prepare(others: &mut [Part], gid: &Gid, faults: &Faults) -> Result<(), OpError> {
    if faults.dies_at(Step::HalfPrepared) {
        if let Some(first) = others.first_mut() {
            prepare_one(first, gid).await?;
        }
        return Err(OpError::Died);
    }
    try_join_all(others.iter_mut().map(|part| prepare_one(part, gid)))
        .await
        .map(|_| ())
}

async fn prepare_one(part: &mut Part, gid: &Gid) -> Result<(), OpError> {
    // Warnings count here.
    part.run("SET LOCAL client_min_messages = warning").await?;
    part.run(commit::sql::MAKE_DURABLE).await?;
    let reply = part.reply(&commit::sql::prepare(gid)).await?;
    let replicated = !reply
        .notices
        .iter()
        .any(|notice| notice.message.contains("synchronous replication"));
    match reply.tags.last().map(String::as_str) {
        Some("PREPARE TRANSACTION") if replicated => Ok(()),
        Some("PREPARE TRANSACTION") => {
            Err(part.failed(AdminError::State("it could not replicate its part".to_owned())))
        }
        other => {
            let what = format!(
                "PREPARE TRANSACTION was answered by {}",
                other.unwrap_or("nothing")
            );
            Err(part.failed(AdminError::State(what)))
        }
    }
}

/// Rolls back before anything was decided; what cannot be reached is left to recovery.
async fn undo(cluster: &Cluster, parts: Parts, gid: &Gid) {
    let Parts { home, others } = parts;
    home.roll_back().await;
    let undone = join_all(others.into_iter().map(async |mut part| {
        use wire::TransactionStatus;
        if part.link.server.dirty {
            return false;
        }
        if part.link.server.status != TransactionStatus::Idle {
            part.roll_back().await;
            return true;
        }
        match part.run(&commit::sql::rollback_prepared(gid)).await {
            Ok(()) => true,
            // It failed to be prepared, or recovery was faster.
            Err(error) => error.sqlstate() == Some("42704"),
        }
    }))
    .await;
    if undone.contains(&false) {
        cluster.ask_recovery();
    }
}

/// Commits the prepared parts. False: not all could be.
async fn finish(others: &mut [Part], gid: &Gid, faults: &Faults) -> Result<bool, OpError> {
    let sql = commit::sql::commit_prepared(gid);
    if faults.dies_at(Step::HalfFinished) {
        if let Some(first) = others.first_mut() {
            first.run(&sql).await?;
        }
        return Err(OpError::Died);
    }
    let done = join_all(others.iter_mut().map(|part| part.run(&sql))).await;
    Ok(done.iter().all(Result::is_ok))
}

async fn settle_patiently(cluster: &Cluster, database: &str, gid: &Gid) -> Result<bool, OpError> {
    let mut attempt = 1;
    loop {
        match settle(cluster, database, gid).await {
            Err(error) if attempt < SETTLE_ATTEMPTS_MAX => {
                tracing::warn!(%error, gid = %gid, "a table move cannot be finished yet");
                tokio::time::sleep(std::time::Duration::from_millis(200 << attempt)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Finds out how a move was decided, excluding that it still is, and carries that out on every shard. True: it was
/// committed.
pub(super) async fn settle(cluster: &Cluster, database: &str, gid: &Gid) -> Result<bool, OpError> {
    let decider = catalog::ShardId(gid.decider().0);
    let name = shard_name(cluster, decider);
    let on = OpError::on(&name);
    let mut link = cluster.admin_link(decider, database).await.map_err(&on)?;
    link.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        .await
        .map_err(&on)?;
    let decision = link.value(&commit::sql::resolve(gid, &[])).await.map_err(&on)?;
    link.run("COMMIT").await.map_err(&on)?;
    let Some(decision) = decision else {
        // These are never collected.
        return Err(on(AdminError::State("it gave no decision".to_owned())));
    };
    let committed = decision == "t";
    let record = cluster.record();
    let shards = record.shards.iter().map(|shard| shard.id);
    try_join_all(shards.map(|shard| settle_shard(cluster, shard, database, gid, committed))).await?;
    Ok(committed)
}

async fn settle_shard(
    cluster: &Cluster,
    shard: catalog::ShardId,
    database: &str,
    gid: &Gid,
    committed: bool,
) -> Result<(), OpError> {
    let name = shard_name(cluster, shard);
    let on = OpError::on(&name);
    let mut link = cluster.admin_link(shard, database).await.map_err(&on)?;
    let look = format!("SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE gid = '{gid}'");
    if link.value(&look).await.map_err(&on)?.is_none() {
        return Ok(());
    }
    let sql = if committed {
        commit::sql::commit_prepared(gid)
    } else {
        commit::sql::rollback_prepared(gid)
    };
    match link.run(&sql).await {
        // Recovery was faster.
        Err(AdminError::Server(fields)) if fields.code == "42704" => Ok(()),
        other => other.map_err(&on),
    }
}
