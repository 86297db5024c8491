//! Making a global index of a table that is in use (docs/decisions/0040).
//!
//! | step | everybody waits | afterwards |
//! |---|---|---|
//! | [`begin`]: tables, functions, triggers, on all shards or none | shortly | writers carry the index along; entries that go and are not there are *owed* |
//! | [`backfill`]: the entries of the rows that were there when that was committed | no | entries, less those that are owed, are those of the rows |
//! | [`settle`]: what is owed goes | no | |
//! | [`tighten`]: nothing can be owed any more | shortly | entries are those of the rows |
//! | [`compare`]: rows and entries of one moment | no | that is known |
//! | [`enforce`]: a unique index is made by PostgreSQL itself, CONCURRENTLY | no | no value is there twice |
//! | [`activate`] | shortly | the index answers |
//!
//! Whatever fails, the index is dropped. When the process dies it stays as it is, never asked, until it is dropped or made again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::ShardId;
use topology::records::GlobalIndexRecord;
use topology::{ChangeError, ChangeGuard, ChangeScope, ClusterRecord};

use super::objects::relation_name;
use super::{
    Verb, Wanted, check, in_its_name, judge, lock_all, objects, owns_sql, place, remove, sharded, steps,
};
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::{Cluster, change_deadline};
use crate::ops::copy::copy;
use crate::ops::decide::{self, Entry, Parts};
use crate::ops::faults::{Faults, Step};
use crate::ops::join::{join_all, try_join_all};
use crate::ops::part::{Part, shard_name};
use crate::ops::progress::Progress;
use crate::ops::{LOCK_TIMEOUT, OpError, online};

/// Entries that are owed and go in one transaction.
const SETTLED_AT_ONCE: u32 = 5_000;

/// How often a short step is tried again when somebody holds a lock on the table.
const ATTEMPTS_MAX: u32 = 20;

/// Pause between two of them.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often it is noted how far it is.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// An index that is being made.
struct Build<'a> {
    cluster: &'a Cluster,
    wanted: &'a Wanted<'a>,
    index: GlobalIndexRecord,
    key: Vec<String>,
    /// Holds the builder's lock, and notes how far it is.
    lead: AdminLink,
    faults: &'a Faults,
}

/// Makes it, beside whoever uses the table.
pub(in crate::ops) async fn run(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<(), OpError> {
    judge(&cluster.record(), wanted, Verb::Create)?;
    let (mut build, sources) = begin(cluster, wanted, faults).await?;
    let made = build.carry_out(sources, line).await;
    if let Err(error) = made {
        if !matches!(error, OpError::Died) {
            build.give_up().await;
        }
        return Err(error);
    }
    build.clean_up().await;
    Ok(())
}

/// Puts the index in its place, empty, and opens the snapshots that see what it does not follow.
async fn begin<'a>(
    cluster: &'a Cluster,
    wanted: &'a Wanted<'a>,
    faults: &'a Faults,
) -> Result<(Build<'a>, Parts), OpError> {
    let mut guard = cluster.change_alone(ChangeScope::Everything).await?;
    let begun = begin_alone(cluster, &mut guard, wanted, faults).await;
    if !matches!(begun, Err(OpError::Died)) {
        finish(guard, wanted).await;
    }
    begun
}

async fn begin_alone<'a>(
    cluster: &'a Cluster,
    guard: &mut ChangeGuard,
    wanted: &'a Wanted<'a>,
    faults: &'a Faults,
) -> Result<(Build<'a>, Parts), OpError> {
    judge(guard.cluster(), wanted, Verb::Create)?;
    clear(cluster, guard, wanted).await?;
    let record = guard.cluster().clone();
    online::refuse_move_of(cluster, (wanted.database, wanted.schema, wanted.table)).await?;
    let (_, key) = sharded(&record, wanted)?;
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, wanted.database).await?,
        others: Vec::new(),
    };
    let made = async {
        let index = place(cluster, &record, &mut parts, wanted, faults, true).await?;
        let lead = take_lead(cluster, &record, &index).await?;
        // Nobody can write while the table is locked, and nothing of this transaction is seen.
        let sources = read_all(cluster, &record, wanted).await?;
        Ok::<_, OpError>((index, lead, sources))
    };
    let (index, lead, sources) = match made.await {
        Ok(made) => made,
        Err(OpError::Died) => return Err(OpError::Died),
        Err(error) => {
            parts.roll_back().await;
            return Err(error);
        }
    };
    let edit = |record: &mut ClusterRecord| {
        record.global_indexes.retain(|known| !wanted.is(known));
        record.global_indexes.push(index.clone());
        Ok(())
    };
    let entry = Entry::Change(wanted.database, &edit);
    decide::commit(cluster, guard, parts, entry, faults).await?;
    let build = Build {
        cluster,
        wanted,
        index,
        key: key.to_vec(),
        lead,
        faults,
    };
    Ok((build, sources))
}

/// Transactions on all shards that see from now on what there is now.
async fn read_all(cluster: &Cluster, record: &ClusterRecord, wanted: &Wanted<'_>) -> Result<Parts, OpError> {
    let table = wanted.table_sql();
    let shards = record.shards.iter();
    let all = shards.map(|shard| Part::begin_reading(cluster, shard.id, wanted.database, &table));
    let mut all = try_join_all(all).await?;
    let home = all.iter().position(|part| part.shard == record.home);
    let home = home.ok_or_else(|| OpError::refused("XX000", "there is no home shard"))?;
    Ok(Parts {
        home: all.swap_remove(home),
        others: all,
    })
}

/// The connection of whoever makes this index: there is one at most.
async fn take_lead(
    cluster: &Cluster,
    record: &ClusterRecord,
    index: &GlobalIndexRecord,
) -> Result<AdminLink, OpError> {
    let name = shard_name(cluster, record.home);
    let link = cluster.admin_link(record.home, &index.database).await;
    let mut link = link.map_err(OpError::on(&name))?;
    let held = link
        .value(&steps::lead(index.id))
        .await
        .map_err(OpError::on(&name))?;
    if held.as_deref() == Some("t") {
        return Ok(link);
    }
    Err(OpError::refused_with(
        "55006",
        format!("global index \"{}\" is being made", index.name),
        "See drover.global_indexes; drover.drop_global_index ends it.",
    ))
}

async fn finish(guard: ChangeGuard, wanted: &Wanted<'_>) {
    if let Err(error) = guard.finish(change_deadline()).await {
        tracing::warn!(%error, table = %wanted.title(), "the change was not acknowledged by every proxy");
    }
}

impl Build<'_> {
    async fn carry_out(&mut self, sources: Parts, line: &mut dyn FnMut(&str)) -> Result<(), OpError> {
        self.backfill(sources, line).await?;
        self.faults.reached(Step::Copied).await?;
        self.note("settling", None).await?;
        self.settle().await?;
        self.faults.reached(Step::Streamed).await?;
        let seen = self.tighten().await?;
        self.note("comparing", None).await?;
        self.compare(seen).await?;
        self.faults.reached(Step::Compared).await?;
        if self.index.unique {
            self.note("enforcing", None).await?;
            self.enforce().await?;
        }
        self.faults.reached(Step::Cutting).await?;
        self.activate().await
    }

    fn home(&self) -> ShardId {
        self.cluster.record().home
    }

    /// Notes on the home shard how far it is. Who holds the lock of the index and cannot say so has lost it.
    async fn note(&mut self, phase: &str, rows: Option<(u64, u64)>) -> Result<(), OpError> {
        let name = shard_name(self.cluster, self.home());
        let sql = steps::note(self.index.id, phase, rows);
        self.lead.run(&sql).await.map_err(OpError::on(&name))
    }

    /// The entries of the rows that were there before the index followed them.
    async fn backfill(&mut self, mut sources: Parts, line: &mut dyn FnMut(&str)) -> Result<(), OpError> {
        let mut total = 0;
        for source in sources.all() {
            let [about] = source.counts(&steps::about_rows(&self.index)).await?;
            total += about;
        }
        self.note("copying", Some((0, total))).await?;
        let done = self.copy_from(&mut sources, total, line).await?;
        self.note("copying", Some((done, done))).await?;
        sources.roll_back().await;
        Ok(())
    }

    /// Copies, says how far it is, and gives how many there were.
    async fn copy_from(
        &mut self,
        sources: &mut Parts,
        total: u64,
        line: &mut dyn FnMut(&str),
    ) -> Result<u64, OpError> {
        let done = AtomicU64::new(0);
        let (cluster, index, key) = (self.cluster, &self.index, &self.key);
        let name = shard_name(cluster, cluster.record().home);
        let shards: Vec<ShardId> = cluster.record().shards.iter().map(|shard| shard.id).collect();
        let mut progress = Progress::new(format!("index {}", index.name), total, line).saying("copied");
        let copies = sources
            .all()
            .map(|source| copy_all(cluster, source, index, key, &shards, &done));
        let mut copies = std::pin::pin!(try_join_all(copies));
        let mut said = 0;
        let copied = loop {
            let pause = tokio::time::timeout(NOTED_EVERY, &mut copies).await;
            let now = done.load(Ordering::Relaxed);
            progress.add(now - said);
            said = now;
            match pause {
                Ok(copied) => break copied,
                Err(_) => {
                    let noted = self
                        .lead
                        .run(&steps::note(index.id, "copying", Some((now, total))))
                        .await;
                    noted.map_err(OpError::on(&name))?;
                }
            }
        };
        copied?;
        Ok(done.load(Ordering::Relaxed))
    }

    /// Takes entries away that are owed, until there are none that could go.
    async fn settle(&self) -> Result<(), OpError> {
        let record = self.cluster.record();
        let settled = record.shards.iter().map(async |shard| {
            loop {
                let mut part = Part::begin(self.cluster, shard.id, self.wanted.database).await?;
                part.run(commit::sql::MAKE_DURABLE).await?;
                let [settled] = part
                    .counts(&steps::settle(self.index.id, SETTLED_AT_ONCE))
                    .await?;
                part.run("COMMIT").await?;
                if settled == 0 {
                    return Ok::<_, OpError>(());
                }
            }
        });
        try_join_all(settled).await.map(drop)
    }

    /// From now on an entry that goes has to be there. What all shards are like when that begins.
    async fn tighten(&self) -> Result<Parts, OpError> {
        self.patiently(async |guard, record| {
            let mut parts = Parts {
                home: Part::begin(self.cluster, record.home, self.wanted.database).await?,
                others: Vec::new(),
            };
            if let Err(error) = self.tighten_all(&record, &mut parts).await {
                parts.roll_back().await;
                return Err(error);
            }
            let same = |_: &mut ClusterRecord| Ok(());
            let entry = Entry::Change(self.wanted.database, &same);
            decide::commit(self.cluster, guard, parts, entry, &Faults::default()).await?;
            read_all(self.cluster, &record, self.wanted).await
        })
        .await
    }

    async fn tighten_all(&self, record: &ClusterRecord, parts: &mut Parts) -> Result<(), OpError> {
        lock_all(self.cluster, record, parts, self.wanted, "SHARE ROW EXCLUSIVE").await?;
        // Entries of transactions in doubt, whose rows may be committed.
        let lock = format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; SET LOCAL lock_timeout = 0",
            LOCK_TIMEOUT.as_millis(),
            relation_name(self.index.id)
        );
        for part in parts.all() {
            part.run(&lock).await?;
            let mut settled = 1;
            while settled > 0 {
                [settled] = part
                    .counts(&steps::settle(self.index.id, SETTLED_AT_ONCE))
                    .await?;
            }
            let [owed] = part.counts(&steps::owed(self.index.id)).await?;
            if owed > 0 {
                return Err(part.failed(AdminError::State(format!(
                    "{owed} entries of the index are not there"
                ))));
            }
            let types = objects::types(part, &self.index).await?;
            let strict = steps::tighten(&self.index, &self.key, &types);
            let strict = strict
                .ok_or_else(|| part.failed(AdminError::State("the entries have other columns".to_owned())))?;
            part.run(&strict).await?;
        }
        Ok(())
    }

    async fn compare(&self, mut seen: Parts) -> Result<(), OpError> {
        let compared = check::digests(&mut seen, &self.index, &self.key).await;
        seen.roll_back().await;
        match compared? {
            (_, _, true) => Ok(()),
            (rows, entries, false) => {
                let what =
                    format!("the index has {entries} entries of {rows} rows, which are not each other's");
                Err(OpError::refused("XX000", what))
            }
        }
    }

    /// A duplicate is an error of PostgreSQL's own.
    async fn enforce(&self) -> Result<(), OpError> {
        let record = self.cluster.record();
        let sql = steps::enforce(&self.index);
        let made = record.shards.iter().map(async |shard| {
            let on = OpError::on(&shard.name);
            let mut link = self
                .cluster
                .admin_link(shard.id, self.wanted.database)
                .await
                .map_err(&on)?;
            for text in [
                "SET session_replication_role = replica",
                "SET statement_timeout = 0",
                &sql,
            ] {
                link.run(text).await.map_err(&on)?;
            }
            Ok::<_, OpError>(())
        });
        let made = try_join_all(made).await;
        made.map(drop).map_err(|error| in_its_name(error, &self.index))
    }

    async fn activate(&self) -> Result<(), OpError> {
        self.patiently(async |guard, record| {
            let begun = record
                .shards
                .iter()
                .map(|shard| Part::begin(self.cluster, shard.id, self.wanted.database));
            for mut part in try_join_all(begun).await? {
                let valid = part.rows(&steps::valid(self.index.id)).await?;
                part.roll_back().await;
                if valid.concat() != [Some("t".to_owned())] {
                    return Err(OpError::refused("XX000", "the index of the entries is not valid"));
                }
            }
            let id = self.index.id;
            let mut known = record.global_indexes.iter();
            if !known.any(|index| index.id == id && index.building) {
                return Err(OpError::refused(
                    "42704",
                    "the global index was dropped meanwhile",
                ));
            }
            guard
                .publish(|record| {
                    let mut indexes = record.global_indexes.iter_mut();
                    if let Some(index) = indexes.find(|index| index.id == id) {
                        index.building = false;
                    }
                })
                .await?;
            Ok(())
        })
        .await
    }

    /// A step while everybody waits; tried again if that cannot be had.
    async fn patiently<T>(
        &self,
        step: impl AsyncFn(&mut ChangeGuard, ClusterRecord) -> Result<T, OpError>,
    ) -> Result<T, OpError> {
        let mut attempt = 1;
        loop {
            let done = match self.cluster.change_alone(ChangeScope::Everything).await {
                Ok(mut guard) => {
                    let record = guard.cluster().clone();
                    let done = step(&mut guard, record).await;
                    finish(guard, self.wanted).await;
                    done
                }
                Err(error) => Err(error.into()),
            };
            match done {
                Err(OpError::Change(ChangeError::Wait(_))) if attempt < ATTEMPTS_MAX => {}
                Err(error) if attempt < ATTEMPTS_MAX && error.sqlstate() == Some("55P03") => {}
                done => return done,
            }
            attempt += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Drops what there is of it.
    async fn give_up(&self) {
        let dropped = self.patiently(async |guard, record| {
            drop_it(self.cluster, guard, &record, self.wanted, self.index.id).await
        });
        if let Err(error) = dropped.await {
            tracing::warn!(%error, index = %self.index.name, "a global index that could not be made is still there, and is not asked");
        }
    }

    /// What is of no use any more.
    async fn clean_up(&mut self) {
        let record = self.cluster.record();
        let sql = steps::unbuild(self.index.id);
        let cleaned = join_all(record.shards.iter().map(async |shard| {
            let mut link = self.cluster.admin_link(shard.id, self.wanted.database).await?;
            link.run("SET session_replication_role = replica").await?;
            link.run(&sql).await
        }));
        let failed = cleaned.await.into_iter().find_map(Result::err);
        let unnoted = self.lead.run(&steps::unnote(self.index.id)).await.err();
        if let Some(error) = failed.or(unnoted) {
            tracing::info!(%error, index = %self.index.name, "something of making a global index is left over");
        }
    }
}

/// The entries of one shard's rows, to all shards.
async fn copy_all(
    cluster: &Cluster,
    source: &mut Part,
    index: &GlobalIndexRecord,
    key: &[String],
    shards: &[ShardId],
    done: &AtomicU64,
) -> Result<(), OpError> {
    let into = format!("COPY {} FROM STDIN", relation_name(index.id));
    for shard in shards {
        let rows = objects::rows_sql(index, key, &owns_sql(index, *shard)?);
        let select = format!("COPY ({rows}) TO STDOUT");
        let mut target = Part::begin(cluster, *shard, &index.database).await?;
        target.run(commit::sql::MAKE_DURABLE).await?;
        let mut count = |rows| {
            done.fetch_add(rows, Ordering::Relaxed);
        };
        copy(source, &mut [&mut target], &select, &into, &mut count).await?;
        if target.tag("COMMIT").await? != "COMMIT" {
            return Err(target.failed(AdminError::State("it did not commit its entries".to_owned())));
        }
    }
    Ok(())
}

/// Drops half an index that nobody is making any more, where another one is to be made.
pub(super) async fn clear(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    wanted: &Wanted<'_>,
) -> Result<(), OpError> {
    let record = guard.cluster().clone();
    let mut known = record.global_indexes.iter();
    match known.find(|index| index.building && wanted.is(index)) {
        None => Ok(()),
        Some(half) => {
            let _lead = take_lead(cluster, &record, half).await?;
            drop_it(cluster, guard, &record, wanted, half.id).await
        }
    }
}

/// Drops this index, if it is still being made.
async fn drop_it(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    record: &ClusterRecord,
    wanted: &Wanted<'_>,
    id: u32,
) -> Result<(), OpError> {
    let mut known = record.global_indexes.iter();
    if !known.any(|index| index.id == id && index.building) {
        return Ok(());
    }
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, wanted.database).await?,
        others: Vec::new(),
    };
    if let Err(error) = remove(cluster, record, &mut parts, wanted).await {
        parts.roll_back().await;
        return Err(error);
    }
    let edit = |record: &mut ClusterRecord| {
        record.global_indexes.retain(|index| index.id != id);
        Ok(())
    };
    let entry = Entry::Change(wanted.database, &edit);
    decide::commit(cluster, guard, parts, entry, &Faults::default()).await
}

/// Ends the making of an index that is to be dropped. Whether it was being made.
pub(super) async fn stop(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<bool, OpError> {
    let record = cluster.record();
    let mut known = record.global_indexes.iter();
    let Some(index) = known.find(|index| wanted.is(index) && index.building) else {
        return Ok(false);
    };
    for shard in &record.shards {
        let on = OpError::on(&shard.name);
        let mut link = cluster.admin_link(shard.id, wanted.database).await.map_err(&on)?;
        link.run(&steps::stop(index.id)).await.map_err(&on)?;
    }
    Ok(true)
}
