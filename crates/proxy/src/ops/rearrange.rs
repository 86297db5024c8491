//! Rows that go from shards to shards: a table that is sharded or a reference table already is sharded by another key, put
//! on every shard, or put back on the home shard.
//!
//! The table exists on every shard, and stays what it is there: rows are copied into it and deleted from it, so that
//! whatever depends on it (foreign keys, views, triggers, rights) is not touched. Only where a table goes home are the
//! other shards' tables dropped, with the views over them. All of it is one transaction on every shard, while every proxy
//! is paused; what it means is announced in the record's journal, and happens with the decision on the home shard
//! ([`super::decide`]).
//!
//! Rows that come and rows that have yet to leave are side by side for a moment. They are told apart by where they belong,
//! and cannot be in each other's way: a unique index contains the new key, so that rows with equal values belong to one shard.

use catalog::{RelationKind, ShardId, Snapshot};
use plan::RefusalCode;
use topology::{ChangeGuard, ClusterRecord};

use super::check::{self, Before, Movable};
use super::copy::copy;
use super::decide::{self, Entry, Parts};
use super::effects::NewKind;
use super::faults::{Faults, Step};
use super::join::{join_all, try_join_all};
use super::part::{Part, tag_count};
use super::progress::Progress;
use super::relocate::{self, Wanted};
use super::{OpError, partitions, views};
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::{Cluster, facts};
use topology::records::TableState;

/// Looks at everything before other proxies are bothered; on the home shard's open transaction.
pub(super) async fn preflight(
    cluster: &Cluster,
    home: &mut AdminLink,
    record: &ClusterRecord,
    movable: &Movable,
) -> Result<(), OpError> {
    let name = super::part::shard_name(cluster, record.home);
    let on = OpError::on(&name);
    let input = record
        .sharding_input(&movable.table.database)
        .map_err(|error| on(AdminError::State(error.to_string())))?;
    let now = facts::load_in_block(&mut home.server, &input)
        .await
        .map_err(&on)?;
    nothing_else_breaks(&now, movable)?;
    let shards = record.shards.iter().map(|shard| shard.id);
    try_join_all(shards.map(async |shard| {
        let name = super::part::shard_name(cluster, shard);
        let database = &movable.table.database;
        let mut link = cluster
            .admin_link(shard, database)
            .await
            .map_err(OpError::on(&name))?;
        check::all_have_a_place(&mut link, &name, movable).await
    }))
    .await
    .map(drop)
}

/// Refuses what would make another table unusable: one that refers to this one, say.
fn nothing_else_breaks(now: &Snapshot, movable: &Movable) -> Result<(), OpError> {
    for relation in movable.snapshot.relations() {
        let was = now.relation(relation.oid);
        let was = was.and_then(|was| was.unsafe_reason.as_ref().or(was.read_unsafe_reason.as_ref()));
        let is = relation
            .unsafe_reason
            .as_ref()
            .or(relation.read_unsafe_reason.as_ref());
        if let (None, Some(why), false) = (was, is, relation.kind == RelationKind::View) {
            return Err(OpError::not_done(
                RefusalCode::Immovable,
                format!(
                    "table {}.{} cannot be moved: {why}",
                    movable.table.schema, movable.table.name
                ),
                Some(
                    "Drop what stands in the way, move the table, and make it again if it is still possible.",
                ),
            ));
        }
    }
    Ok(())
}

/// Moves the rows and commits. Gives the table's name as SQL.
pub(super) async fn run(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<String, OpError> {
    let record = guard.cluster().clone();
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, wanted.database).await?,
        others: Vec::new(),
    };
    let moved = move_rows(cluster, &record, &mut parts, wanted, line, faults).await;
    let movable = match moved {
        Ok(movable) => movable,
        Err(OpError::Died) => return Err(OpError::Died),
        Err(error) => {
            parts.roll_back().await;
            return Err(error);
        }
    };
    commit(cluster, guard, parts, &movable, faults).await?;
    Ok(movable.sql_name)
}

/// Commits prepared parts and records where the table is.
pub(super) async fn commit(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    parts: Parts,
    movable: &Movable,
    faults: &Faults,
) -> Result<(), OpError> {
    let table = &movable.table;
    let edit = |record: &mut ClusterRecord| table.add_to(record, TableState::Active).map(drop);
    let entry = Entry::Change(&table.database, &edit);
    decide::commit(cluster, guard, parts, entry, faults).await
}

/// Everything but the commit.
async fn move_rows(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<Movable, OpError> {
    relocate::lock(&mut parts.home, wanted).await?;
    let movable = check::look(&mut parts.home.link, &parts.home.name, record, wanted).await?;
    let views = views_to_drop(&mut parts.home, &movable).await?;
    let others = record.shards.iter().map(|shard| shard.id);
    let others = others.filter(|shard| *shard != record.home);
    let begun = join_all(others.map(|shard| Part::begin(cluster, shard, wanted.database))).await;
    parts.others = begun.into_iter().collect::<Result<_, _>>()?;
    try_join_all(parts.others.iter_mut().map(|part| relocate::lock(part, wanted))).await?;
    faults.reached(Step::Locked).await?;
    for part in parts.all() {
        check::all_have_a_place(&mut part.link, &part.name, &movable).await?;
        partitions::unguard(part, &movable.sql_name).await?;
    }
    let mut counts = Vec::new();
    for part in parts.all() {
        counts.push(count(part, record.home, &movable).await?);
    }
    let leaving = counts.iter().map(|count| count.rows - count.stays).sum();
    let mut progress = Progress::new(wanted.title(), leaving, line);
    let moved = transfer(parts, record.home, &movable, &mut progress).await?;
    progress.phase("removing the rows that have moved");
    for (at, count) in counts.iter().enumerate() {
        let left: u64 = moved[at].iter().sum();
        let came: u64 = moved.iter().map(|to| to[at]).sum();
        let expected = Expected {
            left,
            stays: count.stays,
            after: count.stays + came,
            crossing: matches!(movable.before, Before::Sharded(_)),
        };
        let part = parts.at(at);
        finish_part(part, record.home, &movable, &views, &expected, count).await?;
    }
    for part in parts.all() {
        if let Some(rules) = movable.rules(part.shard, record) {
            partitions::guard(part, &movable.sql_name, &rules).await?;
        }
    }
    faults.reached(Step::Moved).await?;
    Ok(movable)
}

impl Parts {
    /// All of them, home first.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Part> {
        std::iter::once(&mut self.home).chain(&mut self.others)
    }

    fn at(&mut self, at: usize) -> &mut Part {
        match at.checked_sub(1) {
            Some(other) => &mut self.others[other],
            None => &mut self.home,
        }
    }
}

/// Statements that drop on the other shards the views over a table that goes home, those first that depend on others.
pub(super) async fn views_to_drop(home: &mut Part, movable: &Movable) -> Result<Vec<String>, OpError> {
    if movable.table.kind == NewKind::Home {
        return views::leaving(home, movable).await;
    }
    // They are everywhere already; those that cannot be are refused.
    views::dependent(home, movable).await.map(|_| Vec::new())
}

/// Rows of one shard before the move.
struct Count {
    rows: u64,
    /// Those that stay.
    stays: u64,
}

/// True of rows that stay where they are.
pub(super) fn stays_sql(movable: &Movable, shard: ShardId, home: ShardId) -> String {
    match (&movable.division, &movable.table.kind) {
        (Some(division), _) => division.predicate(shard),
        (None, NewKind::Home) => (shard == home).to_string(),
        (None, _) => "true".to_owned(),
    }
}

async fn count(part: &mut Part, home: ShardId, movable: &Movable) -> Result<Count, OpError> {
    let own = match &movable.before {
        Before::Sharded(division) => division.predicate(part.shard),
        _ => "true".to_owned(),
    };
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {}), pg_catalog.count(*) FILTER (WHERE NOT {own}) \
         FROM {}",
        stays_sql(movable, part.shard, home),
        movable.rows_sql()
    );
    let [rows, stays, strays] = part.counts(&sql).await?;
    if strays > 0 {
        return Err(OpError::refused_with(
            "55000",
            format!("{} has {strays} rows that belong on other shards", part.name),
            "See drover.check_tables(); nothing has changed.",
        ));
    }
    Ok(Count { rows, stays })
}

/// True of the rows of one shard that another one gets; `None`: it gets none.
fn crossing_sql(movable: &Movable, from: ShardId, to: ShardId, home: ShardId) -> Option<String> {
    let Before::Sharded(before) = &movable.before else {
        return None;
    };
    match (&movable.division, &movable.table.kind) {
        (Some(division), _) => Some(division.predicate(to)),
        (None, NewKind::Home) => (to == home).then(|| "true".to_owned()),
        // Not those that have come from others.
        (None, _) => Some(before.predicate(from)),
    }
}

/// Copies rows from every shard to every other one, pair by pair. How many: for each shard they left, for each they went to.
async fn transfer(
    parts: &mut Parts,
    home: ShardId,
    movable: &Movable,
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<u64>>, OpError> {
    let mut all: Vec<&mut Part> = parts.all().collect();
    let into = relocate::into_sql(movable);
    let mut moved = vec![vec![0; all.len()]; all.len()];
    for (from, row) in moved.iter_mut().enumerate() {
        for (to, rows) in row.iter_mut().enumerate() {
            let Ok([source, target]) = all.get_disjoint_mut([from, to]) else {
                continue;
            };
            let Some(filter) = crossing_sql(movable, source.shard, target.shard, home) else {
                continue;
            };
            let select = relocate::select_sql(movable, Some(&filter));
            let mut on_rows = |rows| progress.add(rows);
            *rows = copy(source, &mut [target], &select, &into, &mut on_rows).await?;
        }
    }
    Ok(moved)
}

/// What a shard must have been found to have.
struct Expected {
    /// Rows copied from it, to all others together.
    left: u64,
    stays: u64,
    after: u64,
    /// Rows go from shard to shard, and not only away.
    crossing: bool,
}

/// Removes what has left, and sees that nothing else did.
async fn finish_part(
    part: &mut Part,
    home: ShardId,
    movable: &Movable,
    views: &[String],
    expected: &Expected,
    before: &Count,
) -> Result<(), OpError> {
    let leaving = before.rows - before.stays;
    let to_one = movable.division.is_some() || movable.table.kind == NewKind::Home;
    if expected.crossing && to_one && expected.left != leaving {
        let what = format!("{leaving} rows leave it, and {} were copied", expected.left);
        return Err(part.failed(AdminError::State(what)));
    }
    if movable.table.kind == NewKind::Home && part.shard != home {
        relocate::run_each(part, views).await?;
        return part.run(&format!("DROP TABLE {}", movable.sql_name)).await;
    }
    let Some(division) = &movable.division else {
        return verify(part, movable, "true", expected.after).await;
    };
    let own = division.predicate(part.shard);
    let delete = format!("DELETE FROM {} WHERE NOT {own}", movable.rows_sql());
    let deleted = part.tag(&delete).await?;
    if tag_count(&deleted) != Some(leaving) || before.rows - leaving != expected.stays {
        let what = format!("{leaving} rows leave it, and the answer was {deleted}");
        return Err(part.failed(AdminError::State(what)));
    }
    verify(part, movable, &own, expected.after).await
}

async fn verify(part: &mut Part, movable: &Movable, own: &str, expected: u64) -> Result<(), OpError> {
    let sql = format!(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {own}) FROM {}",
        movable.rows_sql()
    );
    let [rows, own] = part.counts(&sql).await?;
    if rows == expected && own == expected {
        return Ok(());
    }
    let what = format!("it has {rows} rows, {own} of them its own, instead of {expected}");
    Err(part.failed(AdminError::State(what)))
}
