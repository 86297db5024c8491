//! Placed tables: all rows on one shard, other than the home shard (docs/decisions/0034).

use catalog::ShardId;
use sql::{CreateTable, QualifiedName, RawStatement};

use super::create::{NewTable, odd_kind};
use super::resolve::{Resolver, name_of};
use crate::{Refusal, RefusalCode};

/// The shard of this name.
pub(super) fn shard(name: &str, cx: &Resolver<'_>) -> Result<ShardId, Refusal> {
    let found = cx.snapshot.shard_named(name);
    found.ok_or_else(|| Refusal::with(RefusalCode::UnknownPlace, name))
}

/// The shard of a new table that says nothing of a place itself, because it is made in a schema of a shard.
pub(super) fn implied(create: &CreateTable, cx: &Resolver<'_>) -> Result<Option<ShardId>, Refusal> {
    // Neither a session's own tables nor those whose rows are elsewhere anyway have rows to place; a partition is where its
    // table is.
    if create.temporary || create.foreign || create.partition_of.is_some() {
        return Ok(None);
    }
    let shard = shard_of_new(&create.table, cx);
    match odd_kind(create) {
        Some(kind) if shard.is_some() => Err(Refusal::with(RefusalCode::PlacedSchemaKind, kind)),
        _ => Ok(shard),
    }
}

/// Refuses what makes a table with its rows where new tables belong on another shard.
pub(super) fn refuse_in_placed(table: &QualifiedName, kind: &str, cx: &Resolver<'_>) -> Result<(), Refusal> {
    match shard_of_new(table, cx) {
        Some(_) => Err(Refusal::with(RefusalCode::PlacedSchemaKind, kind)),
        None => Ok(()),
    }
}

/// SELECT … INTO. Which of the names is that of the new table the names do not tell: any that could be it counts.
pub(super) fn select_into(raw: &RawStatement, cx: &Resolver<'_>) -> Result<(), Refusal> {
    let mut names = raw.names.relations.iter().chain(&raw.names.written);
    names.try_for_each(|name| refuse_in_placed(name, "SELECT INTO", cx))
}

/// The shard on which a new table of this name is placed.
fn shard_of_new(table: &QualifiedName, cx: &Resolver<'_>) -> Option<ShardId> {
    // The first schema of the path that exists; only those are listed.
    let first = cx.session.search_path.first();
    let schema = table.schema.as_ref().or(first)?;
    let shard = cx.snapshot.shard_of_schema(schema)?;
    (shard != cx.snapshot.home()).then_some(shard)
}

/// A foreign key of a placed table joins rows of its own shard: those of tables placed there, and of reference tables.
pub(super) fn foreign_key(
    target: &QualifiedName,
    table: &NewTable,
    shard: ShardId,
    cx: &Resolver<'_>,
) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::with(RefusalCode::ForeignKey, why));
    if target.name == table.name && cx.relation(target).is_none() {
        return Ok(());
    }
    let Some(referenced) = cx.spread(target)? else {
        return refuse(format!(
            "{target} is neither placed on the same shard nor a reference table"
        ));
    };
    let here = cx.snapshot.place_of(referenced) == Some(shard);
    match here || referenced.map().is_none() {
        true => Ok(()),
        false => refuse(format!("{} is not placed on the same shard", name_of(referenced))),
    }
}
