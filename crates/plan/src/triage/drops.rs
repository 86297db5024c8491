//! DROP.
//!
//! The client's text runs on the home shard, which has every object and knows every reason against it. The other shards
//! get the same with IF EXISTS, or only the names that they have.

use catalog::{KeyColumn, Placement};
use sql::{Detail, DropStatement, ObjectKind, QualifiedName, RawStatement};

use super::Decision;
use super::objects::{Reach, reach};
use super::resolve::{RelationPlace, Resolver, is_spread, name_of};
use crate::triage_types::{DdlPlace, DdlPlan, DdlStep, MetadataEffect};
use crate::{Refusal, RefusalCode};

pub(super) fn drop(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Drop(drop) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let object = drop.object;
    match (reach(object), object) {
        (_, ObjectKind::Index) => drop_indexes(drop, cx),
        (_, ObjectKind::MaterializedView | ObjectKind::ForeignTable) => {
            Ok(DdlPlan::at(DdlPlace::Home).into_triage())
        }
        (Reach::Relation, _) => drop_relations(drop, object, cx),
        (Reach::OfRelation, _) => match drop.objects.first() {
            Some(table) if cx.place_of(table)? != RelationPlace::Home => lenient(drop),
            _ => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        },
        (Reach::Statistics, _) => {
            for name in &drop.objects {
                if cx.statistics_table(name)?.is_some() {
                    return lenient(drop);
                }
            }
            Ok(DdlPlan::at(DdlPlace::Home).into_triage())
        }
        (Reach::Home, _) => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        (Reach::Shared, ObjectKind::Schema) => drop_schemas(drop, cx),
        (
            Reach::Shared,
            ObjectKind::Type
            | ObjectKind::Domain
            | ObjectKind::Extension
            | ObjectKind::Collation
            | ObjectKind::AccessMethod,
        ) if drop.cascade && cx.snapshot.has_sharded() => Err(Refusal::with(
            RefusalCode::Container,
            "CASCADE could drop columns of sharded tables",
        )),
        (Reach::Shared, _) => lenient(drop),
        // Roles and databases have statements of their own.
        (Reach::Everywhere | Reach::Nothing, _) => Err(Refusal::new(RefusalCode::Unreadable)),
    }
}

/// The statement at home, and with IF EXISTS elsewhere.
fn lenient(drop: &DropStatement) -> Decision {
    match &drop.lenient {
        Some(sql) => Ok(and_elsewhere(sql.clone()).into_triage()),
        None => Err(Refusal::new(RefusalCode::Unreadable)),
    }
}

/// The statement at home, and this text elsewhere.
fn and_elsewhere(sql: String) -> DdlPlan {
    let mut plan = DdlPlan::at(DdlPlace::Home);
    plan.steps.push(DdlStep {
        sql: Some(sql),
        place: DdlPlace::Others,
    });
    plan
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
            (None, _) => None,
        };
        spread.extend(everywhere.map(|name| (name, found.is_some())));
    }
    if object == ObjectKind::Sequence {
        // A sequence of a sharded table's column is on every shard, others only on the home shard.
        let owned = drop.objects.iter().map(|name| cx.place_of(name));
        let owned = owned.collect::<Result<Vec<_>, _>>()?;
        return match owned.iter().any(|place| *place != RelationPlace::Home) {
            true => lenient(drop),
            false => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        };
    }
    if spread.is_empty() {
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    }
    let keyword = if object == ObjectKind::View {
        "VIEW"
    } else {
        "TABLE"
    };
    let names: Vec<&str> = spread.iter().map(|(name, _)| name.as_str()).collect();
    let cascade = if drop.cascade { " CASCADE" } else { "" };
    // The home shard has them all; the others get only the names they know.
    let sql = format!("DROP {keyword} IF EXISTS {}{cascade}", names.join(", "));
    let mut plan = and_elsewhere(sql);
    if !dropped.is_empty() {
        plan.effects.push(MetadataEffect::Drop { tables: dropped });
    }
    Ok(plan.into_triage())
}

fn drop_indexes(drop: &DropStatement, cx: &Resolver<'_>) -> Decision {
    let mut names = Vec::new();
    for name in &drop.objects {
        if let RelationPlace::Index(table) = cx.place_of(name)? {
            // An index is in the schema of its table.
            names.push(QualifiedName::qualified(&table.schema, &name.name).to_string());
        }
    }
    if names.is_empty() {
        return Ok(DdlPlan::at_home_alone(drop.concurrently, cx).into_triage());
    }
    let cascade = if drop.cascade { " CASCADE" } else { "" };
    let concurrently = if drop.concurrently { "CONCURRENTLY " } else { "" };
    let sql = format!("DROP INDEX {concurrently}IF EXISTS {}{cascade}", names.join(", "));
    let mut plan = and_elsewhere(sql);
    plan.transactional = !drop.concurrently;
    Ok(plan.into_triage())
}

fn drop_schemas(drop: &DropStatement, cx: &Resolver<'_>) -> Decision {
    let Some(sql) = &drop.lenient else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let mut plan = and_elsewhere(sql.clone());
    let placed = drop.objects.iter().map(|object| &object.name);
    let placed = placed.filter(|name| cx.snapshot.shard_of_schema(name).is_some());
    let schemas: Vec<String> = placed.cloned().collect();
    if !schemas.is_empty() {
        plan.effects.push(MetadataEffect::DropSchema { schemas });
    }
    if drop.cascade {
        let dropped = |schema: &str| drop.objects.iter().any(|o| o.name == schema);
        if let Some(kept) = lost_key(cx, |r| dropped(&r.schema), dropped) {
            return Err(Refusal::with(RefusalCode::Container, name_of(kept)));
        }
        let spread = cx.snapshot.relations().filter(|r| is_spread(r));
        let tables = spread.filter(|r| r.is_table() && dropped(&r.schema));
        let mut tables: Vec<_> = tables.map(|r| (r.schema.clone(), r.name.clone())).collect();
        tables.sort_unstable();
        if !tables.is_empty() {
            plan.effects.push(MetadataEffect::Drop { tables });
        }
    }
    Ok(plan.into_triage())
}

/// A table that stays but for its key column, whose type or collation is in one of the schemas that are `dropped`: it takes
/// the column with it.
pub(super) fn lost_key<'a>(
    cx: &Resolver<'a>,
    goes: impl Fn(&catalog::Relation) -> bool,
    dropped: impl Fn(&str) -> bool,
) -> Option<&'a catalog::Relation> {
    let held_by_key = |key: &KeyColumn, relation: &catalog::Relation| {
        let Some(column) = relation.column(key.attnum) else {
            return false;
        };
        let collation = column.collation.and_then(|oid| cx.snapshot.collation(oid));
        let collation = collation.filter(|collation| collation.schema != "pg_catalog");
        let typed = |oid| cx.snapshot.type_info(oid).filter(|facts| !facts.builtin);
        let domains = std::iter::successors(typed(column.type_oid), |facts| facts.base.and_then(typed));
        collation.is_some_and(|collation| dropped(&collation.schema))
            || domains.take(64).any(|facts| dropped(&facts.schema))
    };
    let held = cx.snapshot.relations().filter(|r| {
        let stays = is_spread(r) && !goes(r);
        stays && r.key_columns().iter().any(|key| held_by_key(key, r))
    });
    held.min_by_key(|r| (&r.schema, &r.name))
}
