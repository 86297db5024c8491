//! Statements that name one object of any kind: RENAME, SET SCHEMA, OWNER TO, COMMENT, SECURITY LABEL, GRANT and so on.

use catalog::Relation;
use sql::{Detail, Grant, ObjectKind, QualifiedName, RawStatement, Rename, StatementNode};

use super::Decision;
use super::resolve::{RelationPlace, Resolver, is_spread};
use crate::triage_types::{DdlPlace, DdlPlan, MetadataEffect, RenamedTable};
use crate::{Refusal, RefusalCode};

/// On which shards objects of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A relation: its own place counts.
    Relation,
    /// It is where the relation is that it belongs to.
    OfRelation,
    /// Extended statistics: where their table is, but named without it.
    Statistics,
    /// On every shard, unless it refers to something that is not.
    Shared,
    /// On every shard, without exception.
    Everywhere,
    /// On the home shard only.
    Home,
    /// Not something that a statement names.
    Nothing,
}

pub(super) fn reach(kind: ObjectKind) -> Reach {
    use ObjectKind as K;
    match kind {
        K::Table | K::Index | K::View | K::MaterializedView | K::Sequence | K::ForeignTable => {
            Reach::Relation
        }
        K::Column | K::Trigger | K::Rule | K::Policy | K::TableConstraint | K::Default => Reach::OfRelation,
        K::Statistics => Reach::Statistics,
        K::Function | K::Procedure | K::Routine | K::Aggregate | K::Type | K::Domain => Reach::Shared,
        K::Schema | K::Extension | K::Language | K::AccessMethod | K::Transform | K::Cast => Reach::Shared,
        K::Collation | K::Conversion | K::Operator | K::OperatorClass | K::OperatorFamily => Reach::Shared,
        K::TextSearchConfiguration | K::TextSearchDictionary => Reach::Shared,
        K::TextSearchParser | K::TextSearchTemplate => Reach::Shared,
        K::ForeignDataWrapper | K::ForeignServer | K::UserMapping => Reach::Shared,
        // An audit function that writes an unsharded table makes its trigger the home shard's.
        K::EventTrigger => Reach::Shared,
        // Servers have tablespaces of the same names, or only the home shard's has this one.
        K::Tablespace => Reach::Shared,
        K::Role | K::Database | K::Parameter => Reach::Everywhere,
        // Rows that nothing shards, and the log of one server.
        K::LargeObject | K::Publication | K::Subscription => Reach::Home,
        K::Part => Reach::Nothing,
    }
}

/// Where something runs that leaves the sharding of a relation as it is.
pub(super) fn relation_plan(place: &RelationPlace<'_>) -> DdlPlan {
    match place {
        RelationPlace::Home => DdlPlan::at(DdlPlace::Home),
        RelationPlace::Table(_) | RelationPlace::Index(_) => DdlPlan::at(DdlPlace::All),
        RelationPlace::View(_) | RelationPlace::Sequence | RelationPlace::Type => DdlPlan::shared(),
    }
}

fn unreadable<T>() -> Result<T, Refusal> {
    Err(Refusal::new(RefusalCode::Unreadable))
}

/// RENAME, SET SCHEMA, OWNER TO.
pub(super) fn alter(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Rename(rename) = &raw.detail else {
        return unreadable();
    };
    let plan = match reach(rename.object) {
        Reach::Relation | Reach::OfRelation => match &rename.relation {
            Some(name) => return alter_relation(raw.node, rename, name, cx),
            None => return unreadable(),
        },
        Reach::Statistics => match &rename.name {
            Some(name) => statistics_plan(name, cx)?,
            None => return unreadable(),
        },
        Reach::Shared => {
            let mut plan = DdlPlan::shared();
            if rename.object == ObjectKind::Schema && raw.node == StatementNode::RenameStmt {
                plan.effects = schema_renamed(rename, cx)?;
            }
            plan
        }
        Reach::Everywhere => {
            let renames_database =
                rename.object == ObjectKind::Database && raw.node == StatementNode::RenameStmt;
            if renames_database && cx.several_shards() {
                return Err(Refusal::with(RefusalCode::ServerCommand, "ALTER DATABASE RENAME"));
            }
            DdlPlan::at(DdlPlace::All)
        }
        Reach::Home => DdlPlan::at(DdlPlace::Home),
        Reach::Nothing => return unreadable(),
    };
    Ok(plan.into_triage())
}

fn alter_relation(node: StatementNode, rename: &Rename, name: &QualifiedName, cx: &Resolver<'_>) -> Decision {
    let place = cx.place_of(name)?;
    let mut plan = relation_plan(&place);
    if let RelationPlace::Table(relation) = place
        && node != StatementNode::AlterOwnerStmt
    {
        match rename.object {
            ObjectKind::Column
                if relation
                    .key_names()
                    .all(|key| rename.sub_name.as_deref() != Some(key)) => {}
            ObjectKind::TableConstraint | ObjectKind::Trigger | ObjectKind::Policy => {}
            // The table itself, its schema, or a key column.
            _ => plan.effects.push(MetadataEffect::Renamed {
                tables: vec![renamed(relation)],
            }),
        }
    }
    Ok(plan.into_triage())
}

/// The record names sharded tables by their schemas, and functions that were declared local.
fn schema_renamed(rename: &Rename, cx: &Resolver<'_>) -> Result<Vec<MetadataEffect>, Refusal> {
    let Some(old) = &rename.sub_name else {
        return unreadable();
    };
    let held = cx.snapshot.relations();
    let held = held.filter(|r| is_spread(r) && r.is_table() && r.schema == *old);
    let mut tables: Vec<RenamedTable> = held.map(renamed).collect();
    tables.sort_unstable_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let mut effects = Vec::new();
    if !tables.is_empty() {
        effects.push(MetadataEffect::Renamed { tables });
    }
    effects.push(MetadataEffect::RenamedSchema {
        from: old.clone(),
        to: rename.new_name.clone(),
    });
    Ok(effects)
}

pub(super) fn renamed(relation: &Relation) -> RenamedTable {
    RenamedTable {
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        oid: relation.oid,
        key: relation.key_columns().iter().map(|key| key.attnum).collect(),
    }
}

/// Statements about an existing statistics object.
pub(super) fn statistics_plan(name: &QualifiedName, cx: &Resolver<'_>) -> Result<DdlPlan, Refusal> {
    let place = match cx.statistics_table(name)? {
        Some(_) => DdlPlace::All,
        None => DdlPlace::Home,
    };
    Ok(DdlPlan::at(place))
}

/// COMMENT, SECURITY LABEL, DEPENDS ON EXTENSION, ALTER EXTENSION … ADD and DROP.
pub(super) fn about(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Comment(reference) = &raw.detail else {
        return unreadable();
    };
    let plan = match (reach(reference.object), &reference.name) {
        (Reach::Relation | Reach::OfRelation, Some(name)) => relation_plan(&cx.place_of(name)?),
        (Reach::Statistics, Some(name)) => statistics_plan(name, cx)?,
        (Reach::Relation | Reach::OfRelation | Reach::Statistics | Reach::Nothing, _) => return unreadable(),
        (Reach::Shared, _) => DdlPlan::shared(),
        (Reach::Everywhere, _) => DdlPlan::at(DdlPlace::All),
        (Reach::Home, _) => DdlPlan::at(DdlPlace::Home),
    };
    Ok(plan.into_triage())
}

/// GRANT and REVOKE on objects.
pub(super) fn grant(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Grant(grant) = &raw.detail else {
        return unreadable();
    };
    let Some(kind) = grant.object else {
        return unreadable();
    };
    if !grant.objects.is_empty() {
        return grant_on_relations(grant, cx);
    }
    let plan = match reach(kind) {
        // ALL TABLES IN SCHEMA and the like.
        Reach::Relation | Reach::Shared => DdlPlan::shared(),
        Reach::Everywhere => DdlPlan::at(DdlPlace::All),
        Reach::Home => DdlPlan::at(DdlPlace::Home),
        Reach::OfRelation | Reach::Statistics | Reach::Nothing => return unreadable(),
    };
    Ok(plan.naming(grant.count).into_triage())
}

fn grant_on_relations(grant: &Grant, cx: &Resolver<'_>) -> Decision {
    let places = grant.objects.iter().map(|name| cx.place_of(name));
    let plans = places.map(|place| place.map(|place| relation_plan(&place)));
    let mut plans = plans.collect::<Result<Vec<_>, _>>()?.into_iter();
    let Some(first) = plans.next() else {
        return unreadable();
    };
    if plans.any(|plan| plan != first) {
        return Err(Refusal::new(RefusalCode::MixedUtility));
    }
    Ok(first.naming(grant.objects.len()).into_triage())
}
