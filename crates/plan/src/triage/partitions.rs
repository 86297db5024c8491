//! Partitions of sharded tables.
//!
//! A partition is placed as its table is, by the table's shard key. The record names the table only: partitions are found
//! by the catalog. So a table that is attached goes out of the record, and one that is detached comes in, with the key and
//! the map of the table it leaves. Every shard has all partitions, with the same bounds; a row is in the partition of its
//! bounds on the shard of its key.

use catalog::Relation;
use sql::{AlterAction, CreateTable, PartitionBound, PartitionBy, QualifiedName, RawStatement};

use super::Decision;
use super::create::{NewTable, check_constraint};
use super::objects::renamed;
use super::resolve::{Resolver, name_of};
use crate::triage_types::{DdlPlace, DdlPlan, MetadataEffect, PartitionName};
use crate::{Refusal, RefusalCode};

/// CREATE TABLE … PARTITION OF a table that is not home's alone.
pub(super) fn create(
    raw: &RawStatement,
    create: &CreateTable,
    parent: &Relation,
    cx: &Resolver<'_>,
) -> Decision {
    let root = root_of(parent, cx)?;
    if !create.drover_options.is_empty() {
        return Err(Refusal::with(
            RefusalCode::DroverOption,
            "a partition is placed as its table is; leave the drover options out",
        ));
    }
    if create.temporary {
        return Err(Refusal::with(RefusalCode::ShardedKind, "a temporary partition"));
    }
    fixed(create.bound)?;
    partition_key(raw, create, Some(parent), cx)?;
    let mut like_parent = NewTable::of(parent, cx.snapshot);
    like_parent.name.clone_from(&create.table.name);
    for constraint in &create.constraints {
        check_constraint(constraint, &like_parent, cx)?;
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.draws = draws(raw);
    plan.effects.push(MetadataEffect::Partitioned {
        table: PartitionName::New(create.table.clone()),
        root: renamed(root),
    });
    Ok(plan.into_triage())
}

/// Whether a statement calls `nextval`.
pub(super) fn draws(raw: &RawStatement) -> bool {
    raw.names.functions.iter().any(|f| f.name == "nextval")
}

/// Whether every shard divides the rows of a new table alike.
pub(super) fn partition_key(
    raw: &RawStatement,
    create: &CreateTable,
    parent: Option<&Relation>,
    cx: &Resolver<'_>,
) -> Result<(), Refusal> {
    let Some(by) = &create.partition_by else {
        return Ok(());
    };
    let mut functions = raw.names.functions.iter();
    if by.expressions > 0 && functions.any(|f| cx.snapshot.function_name_needs_analysis(&f.name)) {
        return Err(Refusal::with(RefusalCode::FunctionUnproved, "in a partition key"));
    }
    if by.strategy == "hash" && !hashes_alike(by, create, parent, cx) {
        return Err(Refusal::with(
            RefusalCode::PartitionBound,
            "hash partitions by an expression or a type that is not built in",
        ));
    }
    Ok(())
}

/// Enums and what is made of them are hashed by numbers that differ from server to server.
fn hashes_alike(
    by: &PartitionBy,
    create: &CreateTable,
    parent: Option<&Relation>,
    cx: &Resolver<'_>,
) -> bool {
    let is_builtin = |name: &str| {
        if let Some(column) = parent.and_then(|parent| parent.column_named(name)) {
            return column.type_oid.is_builtin();
        }
        let column = create.columns.iter().find(|column| column.name == name);
        let named = column.and_then(|column| column.type_ref.as_ref());
        named.is_some_and(|named| {
            let schema = named.name.schema.as_deref();
            let serial = named.name.name.contains("serial");
            schema.is_none_or(|schema| schema == "pg_catalog")
                && (serial || cx.snapshot.has_builtin_type(&named.name.name))
        })
    };
    by.expressions == 0 && by.columns.iter().all(|name| is_builtin(name))
}

/// ATTACH PARTITION.
pub(super) fn attach(
    action: &AlterAction,
    parent: &Relation,
    cx: &Resolver<'_>,
) -> Result<MetadataEffect, Refusal> {
    let root = root_of(parent, cx)?;
    fixed(action.bound)?;
    let child = named(action)?;
    let place = |why: String| Err(Refusal::with(RefusalCode::PartitionPlace, why));
    let Some(known) = cx.spread(child)? else {
        return place(format!("{child} is not sharded"));
    };
    let of_child: Vec<&str> = known.key_names().collect();
    let of_parent: Vec<&str> = parent.key_names().collect();
    if known.map() != parent.map() {
        return place(format!(
            "{} is not colocated with {}",
            name_of(known),
            name_of(parent)
        ));
    }
    if of_child != of_parent {
        return place(format!("{} has another shard key", name_of(known)));
    }
    Ok(MetadataEffect::Partitioned {
        table: PartitionName::Known(renamed(known)),
        root: renamed(root),
    })
}

/// DETACH PARTITION.
pub(super) fn detach(
    action: &AlterAction,
    parent: &Relation,
    cx: &Resolver<'_>,
) -> Result<Option<MetadataEffect>, Refusal> {
    let root = root_of(parent, cx)?;
    if action.concurrently {
        return Err(Refusal::new(RefusalCode::DetachConcurrently));
    }
    // What is not its partition is refused by every shard.
    let child = cx.spread(named(action)?)?;
    let child = child.filter(|child| child.parents.contains(&parent.oid));
    Ok(child.map(|child| MetadataEffect::Partitioned {
        table: PartitionName::Known(renamed(child)),
        root: renamed(root),
    }))
}

fn named(action: &AlterAction) -> Result<&QualifiedName, Refusal> {
    action
        .relation
        .as_ref()
        .ok_or_else(|| Refusal::new(RefusalCode::Unreadable))
}

fn fixed(bound: Option<PartitionBound>) -> Result<(), Refusal> {
    match bound {
        Some(bound) if !bound.fixed => Err(Refusal::with(
            RefusalCode::PartitionBound,
            "the bounds are not constants",
        )),
        _ => Ok(()),
    }
}

/// The table that the record names: what `relation` is a partition of through all levels, or itself.
fn root_of<'a>(relation: &'a Relation, cx: &Resolver<'a>) -> Result<&'a Relation, Refusal> {
    let parent = |child: &&'a Relation| match child.is_partition {
        true => child.parents.first().and_then(|oid| cx.snapshot.relation(*oid)),
        false => None,
    };
    let root = std::iter::successors(Some(relation), parent).take(64).last();
    let sharded = root.filter(|root| root.map().is_some() && !root.is_partition);
    sharded.ok_or_else(|| Refusal::with(RefusalCode::Partitioned, name_of(relation)))
}
