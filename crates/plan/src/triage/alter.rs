//! ALTER of relations and what belongs to them.

use catalog::Relation;
use sql::{AlterAction, AlterKind, AlterTable, Detail, ObjectKind, RawStatement};

use super::create::{NewTable, check_constraint, reads_nothing};
use super::objects::{relation_plan, statistics_plan};
use super::resolve::{RelationPlace, Resolver, name_of};
use super::{Decision, partitions};
use crate::triage_types::{DdlPlace, DdlPlan, MetadataEffect};
use crate::{Refusal, RefusalCode};

pub(super) fn table(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::AlterTable(alter) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    if alter.actions.iter().any(|a| !a.drover_options.is_empty()) {
        return Err(Refusal::with(
            RefusalCode::DroverOption,
            "ALTER TABLE; use drover.shard_table",
        ));
    }
    // ALTER TYPE … ADD ATTRIBUTE and its like.
    if alter.object == ObjectKind::Type {
        return Ok(DdlPlan::shared().into_triage());
    }
    let place = cx.place_of(&alter.table)?;
    let relation = match place {
        RelationPlace::Table(relation) | RelationPlace::Index(relation) => relation,
        RelationPlace::View(_) | RelationPlace::Sequence | RelationPlace::Type => {
            return alter_dependent(alter, &place);
        }
        RelationPlace::Home => {
            home_alter(alter, raw, cx)?;
            let alone = alter.actions.iter().any(|action| action.concurrently);
            return Ok(DdlPlan::at_home_alone(alone, cx).into_triage());
        }
    };
    for action in &alter.actions {
        check_action(action, relation, raw, cx)?;
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    for action in &alter.actions {
        plan.effects
            .extend(partition_effect(action, alter.object, relation, cx)?);
    }
    plan.draws = partitions::draws(raw);
    Ok(plan.into_triage())
}

/// Views over sharded tables and sequences of their columns are on every shard but have no placement of their own.
fn alter_dependent(alter: &AlterTable, place: &RelationPlace<'_>) -> Decision {
    let harmless = |kind: AlterKind| {
        matches!(
            kind,
            AlterKind::Owner
                | AlterKind::RelOptions
                | AlterKind::DropDefault
                | AlterKind::SetLogged
                | AlterKind::SetUnlogged
        )
    };
    if alter.actions.iter().all(|action| harmless(action.kind)) {
        return Ok(relation_plan(place).into_triage());
    }
    Err(Refusal::with(RefusalCode::AlterAction, alter.table.to_string()))
}

/// CREATE and ALTER SEQUENCE. A sequence lives on the home shard; only the one of a sharded column is elsewhere too,
/// unused.
pub(super) fn sequence(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Sequence(sequence) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let owned = match &sequence.owned_by {
        Some(table) => cx.spread(table)?.is_some(),
        None => false,
    };
    let plan = if owned {
        DdlPlan::shared()
    } else if sequence.alter {
        relation_plan(&cx.place_of(&sequence.sequence)?)
    } else {
        DdlPlan::at(DdlPlace::Home)
    };
    Ok(plan.into_triage())
}

/// CREATE and ALTER STATISTICS.
pub(super) fn statistics(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let plan = match &raw.detail {
        Detail::Comment(reference) => match &reference.name {
            Some(name) => statistics_plan(name, cx)?,
            None => return Err(Refusal::new(RefusalCode::Unreadable)),
        },
        _ => {
            let mut plan = DdlPlan::at(DdlPlace::Home);
            for name in &raw.names.relations {
                if cx.spread(name)?.is_some() {
                    plan = DdlPlan::at(DdlPlace::All);
                }
            }
            plan
        }
    };
    Ok(plan.into_triage())
}

fn home_alter(alter: &AlterTable, raw: &RawStatement, cx: &Resolver<'_>) -> Result<(), Refusal> {
    for action in &alter.actions {
        if action.kind != AlterKind::SetDefault {
            computes_from_rows(action, raw, cx)?;
        }
        if let Some(other) = &action.relation
            && let Some(other) = cx.spread(other)?
        {
            return Err(Refusal::with(RefusalCode::Partitioned, name_of(other)));
        }
        for constraint in &action.constraints {
            if let sql::ConstraintKind::ForeignKey { table, .. } = &constraint.kind
                && let Some(target) = cx.spread(table)?
                && target.map().is_some()
            {
                return Err(Refusal::with(RefusalCode::ForeignKey, name_of(target)));
            }
        }
    }
    Ok(())
}

fn check_action(
    action: &AlterAction,
    relation: &Relation,
    raw: &RawStatement,
    cx: &Resolver<'_>,
) -> Result<(), Refusal> {
    let is_key = action
        .name
        .as_deref()
        .is_some_and(|name| relation.key_names().any(|key| key == name));
    for constraint in &action.constraints {
        check_constraint(constraint, &NewTable::of(relation, cx.snapshot), cx)?;
    }
    computes_from_rows(action, raw, cx)?;
    match action.kind {
        AlterKind::DropColumn | AlterKind::AlterColumnType | AlterKind::Identity if is_key => {
            Err(Refusal::with(RefusalCode::KeyColumn, name_of(relation)))
        }
        // Of a placed table one shard alone has rows to compute something for.
        AlterKind::AlterColumnType if !relation.placement.is_placed() && converts_differently(raw, cx) => {
            Err(Refusal::with(
                RefusalCode::AlterAction,
                "a conversion that each shard would compute for itself; add a column and UPDATE it",
            ))
        }
        AlterKind::AddColumn
            if adds_volatile_default(action, raw)
                && !(relation.placement.is_placed() && computes_anywhere(action, raw, cx)) =>
        {
            Err(Refusal::with(
                RefusalCode::AlterAction,
                "ADD COLUMN with a default that each shard would compute for itself; add it without a default first",
            ))
        }
        AlterKind::Inherit | AlterKind::NoInherit => {
            Err(Refusal::with(RefusalCode::Partitioned, name_of(relation)))
        }
        AlterKind::SetTablespace | AlterKind::SetAccessMethod | AlterKind::Other(_) => {
            Err(Refusal::with(RefusalCode::AlterAction, name_of(relation)))
        }
        _ => Ok(()),
    }
}

/// What attaching or detaching a partition means for the record.
fn partition_effect(
    action: &AlterAction,
    object: ObjectKind,
    relation: &Relation,
    cx: &Resolver<'_>,
) -> Result<Option<MetadataEffect>, Refusal> {
    match (action.kind, object) {
        // Of an index: every shard does it for itself.
        (AlterKind::AttachPartition, ObjectKind::Index) => Ok(None),
        (AlterKind::AttachPartition, _) => partitions::attach(action, relation, cx).map(Some),
        (AlterKind::DetachPartition, _) => partitions::detach(action, relation, cx),
        _ => Ok(None),
    }
}

/// Defaults, conversions and constraints that look at rows themselves would see those of one shard.
fn computes_from_rows(action: &AlterAction, raw: &RawStatement, cx: &Resolver<'_>) -> Result<(), Refusal> {
    match action.kind {
        AlterKind::AddColumn
        | AlterKind::AlterColumnType
        | AlterKind::SetDefault
        | AlterKind::AddConstraint
        | AlterKind::AttachPartition => reads_nothing(raw, cx, "in a default, a conversion or a constraint"),
        _ => Ok(()),
    }
}

/// Whether an expression of the statement can have another value on another shard, or at another moment.
fn converts_differently(raw: &RawStatement, cx: &Resolver<'_>) -> bool {
    raw.names.value_functions || raw.names.functions.iter().any(|name| cx.function_differs(name))
}

/// Whether the default of a new column draws from no sequence: those of the home shard count.
fn computes_anywhere(action: &AlterAction, raw: &RawStatement, cx: &Resolver<'_>) -> bool {
    let identity = action.column.as_ref().is_some_and(|column| column.identity);
    !identity && raw.names.functions.iter().all(|name| cx.function_is_pure(name))
}

/// A default that is computed for existing rows on every shard: sequences and anything else that is called.
fn adds_volatile_default(action: &AlterAction, raw: &RawStatement) -> bool {
    let Some(column) = &action.column else {
        return false;
    };
    column.identity
        || (column.has_default && !raw.names.functions.is_empty())
        || (column.has_default && raw.names.value_functions)
}
