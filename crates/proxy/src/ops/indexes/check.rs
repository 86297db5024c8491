//! Whether a global index has an entry for each row and no other, and making it anew where it has not.
//!
//! Looked at while every proxy is paused and transactions in doubt have ended: for each shard of entries, their number and the
//! sum of their hashes are compared with those of the rows, of all shards, that have their entries there.

use plan::RefusalCode;
use topology::records::GlobalIndexRecord;
use topology::{ChangeGuard, ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::{Verb, Wanted, fill, in_its_name, judge, lock_all, objects, online, verify};
use crate::admin_link::AdminError;
use crate::cluster::{Cluster, change_deadline};
use crate::ops::OpError;
use crate::ops::decide::{self, Entry, Parts};
use crate::ops::faults::Faults;
use crate::ops::join::try_join_all;
use crate::ops::part::Part;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexReport {
    /// Name of the index.
    pub name: String,
    /// Rows that have to have an entry.
    pub rows: u64,
    /// Entries.
    pub entries: u64,
    /// What the index is like now.
    pub state: IndexState,
}

/// What an index was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Entries and rows are each other's.
    Whole,
    /// They are not.
    Damaged,
    /// They were not, and the entries have been made anew.
    Repaired,
}

impl IndexState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            IndexState::Whole => "ok",
            IndexState::Damaged => "damaged",
            IndexState::Repaired => "repaired",
        }
    }
}

/// Looks at a global index, and makes its entries anew if they are damaged and `repair`. The statement that asked for this
/// must not count as running meanwhile, because the cluster is paused.
pub async fn check_global_index(
    cluster: &Cluster,
    wanted: Wanted<'_>,
    repair: bool,
) -> Result<IndexReport, ErrorFields> {
    run(cluster, &wanted, repair).await.map_err(OpError::into_fields)
}

async fn run(cluster: &Cluster, wanted: &Wanted<'_>, repair: bool) -> Result<IndexReport, OpError> {
    judge(&cluster.record(), wanted, Verb::Drop)?;
    let mut guard = cluster.change_alone(ChangeScope::Everything).await?;
    let result = look_at(cluster, &mut guard, wanted, repair).await;
    if let Err(error) = guard.finish(change_deadline()).await {
        tracing::warn!(%error, table = %wanted.title(), "the change was not acknowledged by every proxy");
    }
    result
}

async fn look_at(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    wanted: &Wanted<'_>,
    repair: bool,
) -> Result<IndexReport, OpError> {
    let record = guard.cluster().clone();
    judge(&record, wanted, Verb::Drop)?;
    online::refuse_move_of(cluster, (wanted.database, wanted.schema, wanted.table)).await?;
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, wanted.database).await?,
        others: Vec::new(),
    };
    let report = match compare(cluster, &record, &mut parts, wanted, repair).await {
        Ok(report) => report,
        Err(error) => {
            parts.roll_back().await;
            return Err(error);
        }
    };
    if report.state != IndexState::Repaired {
        parts.roll_back().await;
        return Ok(report);
    }
    let same = |_: &mut ClusterRecord| Ok(());
    let entry = Entry::Change(wanted.database, &same);
    decide::commit(cluster, guard, parts, entry, &Faults::default()).await?;
    Ok(report)
}

async fn compare(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    repair: bool,
) -> Result<IndexReport, OpError> {
    lock_all(cluster, record, parts, wanted, "SHARE ROW EXCLUSIVE").await?;
    let index = record.global_indexes.iter().find(|index| wanted.is(index));
    let index = index.ok_or_else(|| OpError::refused("42704", "the global index is gone"))?;
    if index.building {
        let text = format!("global index \"{}\" is being made", index.name);
        return Err(OpError::refused_with("55006", text, "See drover.global_indexes."));
    }
    let table = record.table(wanted.database, wanted.schema, wanted.table);
    let Some(topology::records::TableKind::Sharded { columns: key, .. }) = table.map(|table| &table.kind)
    else {
        return Err(OpError::not_done(
            RefusalCode::IndexShape,
            "its table is not sharded",
            None,
        ));
    };
    let lock = format!(
        "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE; SET LOCAL lock_timeout = 0",
        crate::ops::LOCK_TIMEOUT.as_millis(),
        objects::relation_name(index.id)
    );
    for part in parts.all() {
        part.run(&lock).await?;
    }
    let (rows, entries, whole) = digests(parts, index, key).await?;
    let state = match (whole, repair) {
        (true, _) => IndexState::Whole,
        (false, false) => IndexState::Damaged,
        (false, true) => {
            rebuild(parts, index, key).await?;
            IndexState::Repaired
        }
    };
    Ok(IndexReport {
        name: index.name.clone(),
        rows,
        entries,
        state,
    })
}

/// How many rows and entries there are, and whether they are each other's.
pub(super) async fn digests(
    parts: &mut Parts,
    index: &GlobalIndexRecord,
    key: &[String],
) -> Result<(u64, u64, bool), OpError> {
    let (mut rows, mut entries, mut whole) = (0, 0, true);
    let shards: Vec<_> = parts.all().map(|part| part.shard).collect();
    for (at, shard) in shards.into_iter().enumerate() {
        let owns = super::owns_sql(index, shard)?;
        let (mut here, mut sum) = (0, 0);
        for part in parts.all() {
            let (count, digest) = digest(part, &objects::rows_digest_sql(index, key, &owns)).await?;
            here += count;
            sum += digest;
        }
        let Some(part) = parts.all().nth(at) else { continue };
        let found = digest(part, &objects::entries_digest_sql(index, key.len())).await?;
        rows += here;
        entries += found.0;
        whole &= found == (here, sum);
    }
    Ok((rows, entries, whole))
}

async fn digest(part: &mut Part, sql: &str) -> Result<(u64, i128), OpError> {
    let rows = part.rows(sql).await?;
    let read = |row: &Vec<Option<String>>| match row.as_slice() {
        [Some(count), Some(sum)] => Some((count.parse().ok()?, sum.parse().ok()?)),
        _ => None,
    };
    let read = rows.first().and_then(read);
    read.ok_or_else(|| part.failed(AdminError::State("a digest cannot be read".to_owned())))
}

/// Makes the entries anew. The triggers and functions stay.
async fn rebuild(parts: &mut Parts, index: &GlobalIndexRecord, key: &[String]) -> Result<(), OpError> {
    let empty = objects::empty_sql(index);
    for part in parts.all() {
        part.run(&empty).await?;
    }
    fill(parts, index, key).await?;
    let indexed = objects::index_sql(index, key);
    let made = try_join_all(parts.all().map(|part| part.run(&indexed))).await;
    made.map_err(|error| in_its_name(error, index))?;
    verify(parts, index).await
}
