//! ALTER, RENAME, DROP.

use catalog::{Placement, Relation};
use sql::{
    AlterAction, AlterKind, AlterTable, Detail, DropStatement, ObjectKind, QualifiedName, RawStatement,
    Rename,
};

use super::Decision;
use super::create::{NewTable, check_constraint};
use super::resolve::{Resolver, is_spread, key_name, name_of};
use crate::triage_types::{DdlPlace, DdlPlan, DdlStep, MetadataEffect};
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
    let Some(relation) = owner_table(&alter.table, alter.object, cx)? else {
        home_alter(alter, cx)?;
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    };
    for action in &alter.actions {
        check_action(action, relation, raw, cx)?;
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.needs_home_sequence = alter
        .actions
        .iter()
        .any(|a| a.kind == AlterKind::Identity || a.column.as_ref().is_some_and(|c| c.identity))
        || raw.names.functions.iter().any(|f| f.name == "nextval");
    Ok(plan.into_triage())
}

/// The sharded or reference table that an ALTER is about: the relation itself, or the one an index belongs to.
fn owner_table<'a>(
    name: &QualifiedName,
    object: ObjectKind,
    cx: &Resolver<'a>,
) -> Result<Option<&'a Relation>, Refusal> {
    if object == ObjectKind::Index {
        return index_table(name, cx);
    }
    if let Some(found) = cx.spread(name)? {
        return Ok(Some(found));
    }
    // Views, sequences and the like of sharded tables exist everywhere too but have no placement of their own.
    if object == ObjectKind::View && cx.touches(name) && cx.relation(name).is_some() {
        return Err(Refusal::with(RefusalCode::AlterAction, name.to_string()));
    }
    Ok(None)
}

/// The sharded or reference table that has the index.
pub(super) fn index_table<'a>(
    name: &QualifiedName,
    cx: &Resolver<'a>,
) -> Result<Option<&'a Relation>, Refusal> {
    if let Some(relation) = cx.relation(name) {
        return Ok(Some(relation).filter(|r| is_spread(r)));
    }
    // Only unique indexes are in the snapshot with their names.
    let spread = cx.snapshot.relations().filter(|r| is_spread(r));
    let mut owners = spread.filter(|r| {
        name.schema.as_ref().is_none_or(|s| *s == r.schema)
            && r.unique_indexes.iter().any(|i| i.name == name.name)
    });
    Ok(owners.next())
}

fn home_alter(alter: &AlterTable, cx: &Resolver<'_>) -> Result<(), Refusal> {
    for action in &alter.actions {
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
        .is_some_and(|name| key_name(relation) == Some(name));
    for constraint in &action.constraints {
        check_constraint(constraint, &NewTable::of(relation), cx)?;
    }
    match action.kind {
        AlterKind::DropColumn | AlterKind::AlterColumnType | AlterKind::Identity if is_key => {
            Err(Refusal::with(RefusalCode::KeyColumn, name_of(relation)))
        }
        AlterKind::AddColumn | AlterKind::AlterColumnType | AlterKind::SetDefault
            if raw
                .names
                .functions
                .iter()
                .any(|f| cx.snapshot.function_name_needs_analysis(&f.name)) =>
        {
            Err(Refusal::with(
                RefusalCode::FunctionUnproved,
                "in a default or a conversion",
            ))
        }
        AlterKind::AddColumn if adds_volatile_default(action, raw) => Err(Refusal::with(
            RefusalCode::AlterAction,
            "ADD COLUMN with a default that each shard would compute for itself; add it without a default first",
        )),
        AlterKind::AttachPartition
        | AlterKind::DetachPartition
        | AlterKind::Inherit
        | AlterKind::NoInherit => Err(Refusal::with(RefusalCode::Partitioned, name_of(relation))),
        AlterKind::SetTablespace | AlterKind::SetAccessMethod | AlterKind::Other(_) => {
            Err(Refusal::with(RefusalCode::AlterAction, name_of(relation)))
        }
        _ => Ok(()),
    }
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

pub(super) fn rename(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Rename(rename) = &raw.detail else {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    };
    match &rename.relation {
        Some(name) => rename_relation(raw, rename, name, cx),
        None => rename_other(rename, cx),
    }
}

fn rename_relation(raw: &RawStatement, rename: &Rename, name: &QualifiedName, cx: &Resolver<'_>) -> Decision {
    let table = match rename.object {
        ObjectKind::Index => index_table(name, cx)?,
        _ => cx.spread(name)?,
    };
    let Some(relation) = table else {
        if cx.touches(name)
            && cx
                .relation(name)
                .is_some_and(|r| r.kind == catalog::RelationKind::View)
        {
            return Err(Refusal::with(RefusalCode::RenameSharded, name.to_string()));
        }
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    };
    if raw.kind == sql::StatementKind::Owner {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    }
    match rename.object {
        ObjectKind::Column => {
            if rename.sub_name.as_deref() == key_name(relation) {
                return Err(Refusal::with(RefusalCode::KeyColumn, "the metadata names it"));
            }
            Ok(DdlPlan::at(DdlPlace::All).into_triage())
        }
        ObjectKind::TableConstraint | ObjectKind::Index | ObjectKind::Trigger | ObjectKind::Policy => {
            Ok(DdlPlan::at(DdlPlace::All).into_triage())
        }
        _ => Err(Refusal::with(RefusalCode::RenameSharded, name_of(relation))),
    }
}

fn rename_other(rename: &Rename, cx: &Resolver<'_>) -> Decision {
    if rename.object == ObjectKind::Schema {
        let holds = cx
            .snapshot
            .relations()
            .find(|r| is_spread(r) && Some(&r.schema) == rename.sub_name.as_ref());
        // The old name is not always given apart; a schema with sharded tables keeps its name.
        let any = cx
            .snapshot
            .relations()
            .find(|r| is_spread(r) && rename.sub_name.is_none());
        if let Some(relation) = holds.or(any) {
            return Err(Refusal::with(RefusalCode::RenameSharded, name_of(relation)));
        }
    }
    match rename.object {
        ObjectKind::Function | ObjectKind::Procedure | ObjectKind::Routine | ObjectKind::Aggregate => {
            Ok(DdlPlan::best_effort().into_triage())
        }
        ObjectKind::Database | ObjectKind::Publication | ObjectKind::Subscription => {
            Ok(DdlPlan::at(DdlPlace::Home).into_triage())
        }
        _ => Ok(DdlPlan::at(DdlPlace::All).into_triage()),
    }
}

pub(super) fn drop(raw: &RawStatement, object: ObjectKind, cx: &Resolver<'_>) -> Decision {
    let Detail::Drop(drop) = &raw.detail else {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    };
    match object {
        ObjectKind::Table | ObjectKind::View | ObjectKind::Sequence => drop_relations(drop, object, cx),
        ObjectKind::Index => drop_indexes(drop, cx),
        ObjectKind::Trigger | ObjectKind::Rule | ObjectKind::Policy => {
            let place = match drop.objects.first() {
                Some(table) if cx.spread(table)?.is_some() => DdlPlace::All,
                _ => DdlPlace::Home,
            };
            Ok(DdlPlan::at(place).into_triage())
        }
        ObjectKind::MaterializedView
        | ObjectKind::ForeignTable
        | ObjectKind::Statistics
        | ObjectKind::Publication
        | ObjectKind::Subscription
        | ObjectKind::Database => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        ObjectKind::Function | ObjectKind::Procedure | ObjectKind::Routine | ObjectKind::Aggregate => {
            Ok(DdlPlan::best_effort().into_triage())
        }
        ObjectKind::Schema => drop_schemas(drop, cx),
        ObjectKind::Type | ObjectKind::Domain | ObjectKind::Extension
            if drop.cascade && cx.snapshot.has_sharded() =>
        {
            Err(Refusal::with(
                RefusalCode::Container,
                "CASCADE could drop columns of sharded tables",
            ))
        }
        // Made on every shard where possible, so dropped where they are.
        _ => Ok(DdlPlan::best_effort().into_triage()),
    }
}

fn drop_relations(drop: &DropStatement, object: ObjectKind, cx: &Resolver<'_>) -> Decision {
    // Nobody else's plans depend on temporary ones: the cluster need not hold its breath.
    let temporary = |name: &QualifiedName| match name.schema.as_deref() {
        Some(schema) => schema == "pg_temp",
        None => cx.session.has_temp_objects && cx.snapshot.relations_named(&name.name).is_empty(),
    };
    if drop.objects.iter().all(temporary) {
        return Ok(crate::Triage::Home);
    }
    let mut spread: Vec<(String, bool)> = Vec::new();
    let mut dropped = Vec::new();
    for name in &drop.objects {
        let found = cx.spread(name)?;
        let everywhere = match (found, object) {
            (Some(relation), _) => {
                if relation.placement != Placement::Home {
                    dropped.push((relation.schema.clone(), relation.name.clone()));
                }
                Some(name_of(relation))
            }
            (None, ObjectKind::View) if cx.touches(name) => cx.relation(name).map(name_of),
            (None, ObjectKind::Sequence) => None,
            (None, _) => None,
        };
        spread.extend(everywhere.map(|name| (name, found.is_some())));
    }
    if object == ObjectKind::Sequence {
        // A sequence of a sharded table's column is on every shard, others only on the home shard.
        return Ok(DdlPlan::best_effort().into_triage());
    }
    if spread.is_empty() {
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    }
    let mut plan = DdlPlan::at(DdlPlace::Home);
    let keyword = if object == ObjectKind::View {
        "VIEW"
    } else {
        "TABLE"
    };
    let names: Vec<&str> = spread.iter().map(|(name, _)| name.as_str()).collect();
    let cascade = if drop.cascade { " CASCADE" } else { "" };
    // The home shard has them all; the others get only the names they know.
    let sql = format!("DROP {keyword} IF EXISTS {}{cascade}", names.join(", "));
    plan.steps.push(DdlStep {
        sql: Some(sql),
        place: DdlPlace::Others,
    });
    if !dropped.is_empty() {
        plan.effects.push(MetadataEffect::Drop { tables: dropped });
    }
    Ok(plan.into_triage())
}

fn drop_indexes(drop: &DropStatement, cx: &Resolver<'_>) -> Decision {
    if !cx.snapshot.has_sharded() {
        return Ok(DdlPlan::at_home_alone(drop.concurrently, cx).into_triage());
    }
    // Whose index it is, is known only for unique ones: drop what the other shards have of them.
    let names: Vec<String> = drop.objects.iter().map(ToString::to_string).collect();
    let mut plan = DdlPlan::at(DdlPlace::Home);
    let cascade = if drop.cascade { " CASCADE" } else { "" };
    let concurrently = if drop.concurrently { "CONCURRENTLY " } else { "" };
    let sql = format!("DROP INDEX {concurrently}IF EXISTS {}{cascade}", names.join(", "));
    plan.steps.push(DdlStep {
        sql: Some(sql),
        place: DdlPlace::Others,
    });
    plan.transactional = !drop.concurrently;
    Ok(plan.into_triage())
}

fn drop_schemas(drop: &DropStatement, cx: &Resolver<'_>) -> Decision {
    if drop.cascade {
        let names: Vec<&str> = drop.objects.iter().map(|o| o.name.as_str()).collect();
        let held = cx
            .snapshot
            .relations()
            .filter(|r| is_spread(r) && names.contains(&r.schema.as_str()));
        let held = held.min_by_key(|r| (&r.schema, &r.name));
        if let Some(relation) = held {
            return Err(Refusal::with(RefusalCode::Container, name_of(relation)));
        }
    }
    Ok(DdlPlan::at(DdlPlace::All).into_triage())
}
