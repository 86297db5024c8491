//! CREATE TABLE, INDEX, VIEW and their like.

use std::fmt::Write as _;

use catalog::{KeyType, Relation, ShardId, Snapshot};
use sql::{ConstraintDef, ConstraintKind, CreateTable, Detail, IndexElement, QualifiedName, RawStatement};

use super::objects::relation_plan;
use super::resolve::{RelationPlace, Resolver, name_of};
use super::{Decision, drover, partitions, placed};
use crate::triage_types::{DdlPlace, DdlPlan, DdlStep, MetadataEffect};
use crate::{Refusal, RefusalCode, ShardOptions, Triage};

fn unreadable<T>() -> Result<T, Refusal> {
    Err(Refusal::new(RefusalCode::Unreadable))
}

/// Checks a column of the key of a new table.
fn key_column(create: &CreateTable, name: &str, cx: &Resolver<'_>) -> Result<(), Refusal> {
    let refuse = |detail: &str| Err(Refusal::with(RefusalCode::ShardKeyColumn, detail));
    let Some(column) = create.columns.iter().find(|c| c.name == name) else {
        return refuse(name);
    };
    let known = |t: &sql::TypeRef| t.dimensions == 0 && is_key_type(&t.name, cx);
    if !column.type_ref.as_ref().is_some_and(known) {
        return refuse(name);
    }
    if column.generated {
        return refuse(&format!("{name} is generated"));
    }
    Ok(())
}

/// What becomes of a new table.
enum NewPlace {
    Home,
    Sharded(ShardOptions),
    Reference,
    Placed(ShardId),
}

pub(super) fn table(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::CreateTable(create) = &raw.detail else {
        return unreadable();
    };
    if let Some(parent) = &create.partition_of
        && let Some(parent) = cx.spread(parent)?
    {
        return partitions::create(raw, create, parent, cx);
    }
    let place = match new_place(&create.drover_options, cx)? {
        NewPlace::Home if create.drover_options.is_empty() => {
            placed::implied(create, cx)?.map_or(NewPlace::Home, NewPlace::Placed)
        }
        place => place,
    };
    match place {
        NewPlace::Home => home_table(raw, create, cx),
        NewPlace::Sharded(mut options) => {
            plain_kind(create)?;
            partitions::partition_key(raw, create, None, cx)?;
            if options.lacks_salting() {
                let mut constraints = create.constraints.iter();
                let primary = constraints.find(|c| c.kind == ConstraintKind::PrimaryKey);
                options.salt_by(primary.map_or(&[][..], |primary| &primary.columns))?;
            }
            for column in &options.key {
                key_column(create, column, cx)?;
            }
            let new = NewTable {
                name: create.table.name.clone(),
                key: options.key.clone(),
                colocated: options.colocate_with.clone(),
                placed: None,
            };
            for constraint in &create.constraints {
                check_constraint(constraint, &new, cx)?;
            }
            let effect = MetadataEffect::CreateSharded {
                table: create.table.clone(),
                options,
            };
            Ok(spread_table(raw, effect))
        }
        NewPlace::Reference => {
            plain_kind(create)?;
            if create.partition_by.is_some() {
                return Err(Refusal::with(
                    RefusalCode::ShardedKind,
                    "a partitioned reference table",
                ));
            }
            keyless(raw, create, None, cx)
        }
        NewPlace::Placed(shard) => {
            plain_kind(create)?;
            partitions::partition_key(raw, create, None, cx)?;
            keyless(raw, create, Some(shard), cx)
        }
    }
}

/// A table on every shard whose rows are all on one, or all on all of them.
fn keyless(raw: &RawStatement, create: &CreateTable, placed: Option<ShardId>, cx: &Resolver<'_>) -> Decision {
    let new = NewTable {
        name: create.table.name.clone(),
        key: Vec::new(),
        colocated: None,
        placed,
    };
    for constraint in &create.constraints {
        check_constraint(constraint, &new, cx)?;
    }
    let table = create.table.clone();
    let effect = match placed {
        Some(shard) => MetadataEffect::CreatePlaced { table, shard },
        None => MetadataEffect::CreateReference { table },
    };
    Ok(spread_table(raw, effect))
}

fn spread_table(raw: &RawStatement, effect: MetadataEffect) -> crate::Triage {
    let mut plan = DdlPlan::at(DdlPlace::All);
    // The text goes through `sql::strip_drover_options` before it is sent.
    plan.strips_options = true;
    plan.effects.push(effect);
    plan.draws = partitions::draws(raw);
    plan.into_triage()
}

fn new_place(options: &[(String, String)], cx: &Resolver<'_>) -> Result<NewPlace, Refusal> {
    if options.is_empty() {
        return Ok(NewPlace::Home);
    }
    let known = [
        "shard_key",
        "scheme",
        "places",
        "salt",
        "colocate_with",
        "reference",
        "place",
    ];
    if let Some((name, _)) = options.iter().find(|(n, _)| !known.contains(&n.as_str())) {
        return Err(Refusal::with(RefusalCode::DroverOption, format!("drover.{name}")));
    }
    let get = |name: &str| options.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if let Some(name) = get("place") {
        if options.len() > 1 {
            return Err(Refusal::with(
                RefusalCode::DroverOption,
                "a placed table has no other drover option",
            ));
        }
        let shard = placed::shard(name, cx)?;
        return Ok(match shard == cx.snapshot.home() {
            true => NewPlace::Home,
            false => NewPlace::Placed(shard),
        });
    }
    let reference = match get("reference") {
        None => false,
        Some("" | "true" | "on" | "1" | "yes") => true,
        Some("false" | "off" | "0" | "no") => false,
        Some(other) => {
            return Err(Refusal::with(
                RefusalCode::DroverOption,
                format!("drover.reference = {other}"),
            ));
        }
    };
    if reference {
        if options.len() > 1 {
            return Err(Refusal::with(
                RefusalCode::DroverOption,
                "a reference table has no shard key",
            ));
        }
        return Ok(NewPlace::Reference);
    }
    if get("shard_key").is_none() && options.iter().all(|(n, _)| n == "reference") {
        return Ok(NewPlace::Home);
    }
    drover::shard_options(|name| get(if name == "key" { "shard_key" } else { name })).map(NewPlace::Sharded)
}

fn home_table(raw: &RawStatement, create: &CreateTable, cx: &Resolver<'_>) -> Decision {
    for constraint in &create.constraints {
        let ConstraintKind::ForeignKey { table, .. } = &constraint.kind else {
            continue;
        };
        if let Some(target) = cx.spread(table)? {
            // A home table may refer to a reference table: the home shard has all its rows. Deleting them elsewhere
            // is a write of the reference table, which runs on the home shard too.
            if target.map().is_some() {
                return Err(Refusal::with(RefusalCode::ForeignKey, name_of(target)));
            }
        }
    }
    for parent in &create.inherits {
        if let Some(parent) = cx.spread(parent)? {
            return Err(Refusal::with(RefusalCode::Partitioned, name_of(parent)));
        }
    }
    let mut plan = DdlPlan::at(DdlPlace::Home);
    plan.strips_options = !create.drover_options.is_empty();
    if create.partition_of.is_some() {
        reads_nothing(raw, cx, "in the bounds of a partition")?;
    }
    Ok(plan.into_triage())
}

fn plain_kind(create: &CreateTable) -> Result<(), Refusal> {
    match odd_kind(create) {
        Some(kind) => Err(Refusal::with(RefusalCode::ShardedKind, kind)),
        None => Ok(()),
    }
}

/// What keeps a table from being made on every shard by its own statement.
pub(super) fn odd_kind(create: &CreateTable) -> Option<&'static str> {
    Some(if create.temporary {
        "a temporary table"
    } else if create.foreign {
        "a foreign table"
    } else if create.partition_of.is_some() {
        "a partition of a table that is not sharded; shard that table"
    } else if !create.inherits.is_empty() {
        "a child table"
    } else if create.of_type {
        "a typed table"
    } else if !create.like.is_empty() {
        "LIKE; shard the table afterwards with drover.shard_table"
    } else if create.if_not_exists {
        "IF NOT EXISTS; the existing table might not be sharded this way"
    } else {
        return None;
    })
}

/// Whether a column of this type can be the key. Types that users made are looked at when the table is registered, before
/// its transaction commits.
fn is_key_type(name: &QualifiedName, cx: &Resolver<'_>) -> bool {
    const SERIAL: &[&str] = &[
        "serial",
        "bigserial",
        "smallserial",
        "serial2",
        "serial4",
        "serial8",
    ];
    if name.schema.as_deref().is_some_and(|s| s != "pg_catalog") {
        return true;
    }
    let known = KeyType::named(&name.name).is_some_and(|known| known != KeyType::Enum);
    known || SERIAL.contains(&name.name.as_str()) || !cx.snapshot.has_builtin_type(&name.name)
}

/// A table about to get a constraint.
pub(super) struct NewTable {
    pub name: String,
    /// Key columns; none for a reference table and for a placed one.
    pub key: Vec<String>,
    pub colocated: Option<QualifiedName>,
    /// The shard that has all its rows.
    pub placed: Option<ShardId>,
}

impl NewTable {
    pub fn of(relation: &Relation, snapshot: &Snapshot) -> NewTable {
        NewTable {
            name: relation.name.clone(),
            key: relation.key_names().map(str::to_owned).collect(),
            colocated: Some(QualifiedName::qualified(&relation.schema, &relation.name)),
            placed: snapshot.place_of(relation),
        }
    }
}

/// Whether a constraint can be enforced shard by shard.
pub(super) fn check_constraint(
    constraint: &ConstraintDef,
    table: &NewTable,
    cx: &Resolver<'_>,
) -> Result<(), Refusal> {
    let has_key = |columns: &[String]| table.key.iter().all(|key| columns.contains(key));
    match &constraint.kind {
        ConstraintKind::Check | ConstraintKind::NotNull | ConstraintKind::Other => Ok(()),
        ConstraintKind::PrimaryKey | ConstraintKind::Unique => {
            // USING INDEX: the index itself was checked when it was made.
            if constraint.using_index.is_some() || has_key(&constraint.columns) {
                return Ok(());
            }
            Err(Refusal::with(
                RefusalCode::UniqueWithoutKey,
                constraint.columns.join(", "),
            ))
        }
        ConstraintKind::Exclusion { .. } if !table.key.is_empty() => {
            Err(Refusal::new(RefusalCode::Exclusion))
        }
        ConstraintKind::Exclusion { .. } => Ok(()),
        ConstraintKind::ForeignKey {
            table: target,
            columns,
            ..
        } => foreign_key(constraint, target, columns, table, cx),
    }
}

fn foreign_key(
    constraint: &ConstraintDef,
    target: &QualifiedName,
    columns: &[String],
    table: &NewTable,
    cx: &Resolver<'_>,
) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::with(RefusalCode::ForeignKey, why));
    if let Some(shard) = table.placed {
        return placed::foreign_key(target, table, shard, cx);
    }
    if target.name == table.name && table.key.is_empty() {
        return Ok(());
    }
    let Some(referenced) = cx.spread(target)? else {
        let itself = target.name == table.name && cx.relation(target).is_none();
        return match itself && pairs_keys(&constraint.columns, columns, &table.key, &table.key) {
            true => Ok(()),
            false => refuse(&format!("{target} is not a colocated or reference table")),
        };
    };
    let Some(map) = referenced.map() else {
        return Ok(());
    };
    if table.key.is_empty() {
        return refuse(&format!(
            "{} is not on every shard, this is a reference table",
            name_of(referenced)
        ));
    }
    let colocated = table
        .colocated
        .as_ref()
        .and_then(|name| cx.relation(name))
        .and_then(Relation::map);
    if colocated.is_none_or(|m| m != map) {
        return refuse(&format!("{} is not colocated", name_of(referenced)));
    }
    // Without a column list the primary key is meant.
    let primary = referenced.unique_indexes.iter().find(|i| i.primary);
    let of_primary = |attnum: &i16| {
        referenced
            .column(*attnum)
            .map_or(String::new(), |c| c.name.clone())
    };
    let columns = match (columns, primary) {
        ([], Some(index)) => index.columns.iter().map(of_primary).collect(),
        _ => columns.to_vec(),
    };
    let referenced_key: Vec<String> = referenced.key_names().map(str::to_owned).collect();
    match pairs_keys(&constraint.columns, &columns, &table.key, &referenced_key) {
        true => Ok(()),
        false => refuse("the shard keys do not refer to each other"),
    }
}

/// Whether every column of one key refers to the same column of the other.
fn pairs_keys(from: &[String], to: &[String], from_key: &[String], to_key: &[String]) -> bool {
    let refers = |(a, b): (&String, &String)| from.iter().zip(to).any(|(x, y)| x == a && y == b);
    !from_key.is_empty() && from_key.len() == to_key.len() && from_key.iter().zip(to_key).all(refers)
}

/// What a statement computes as it runs it computes on one shard, from the rows that are there.
pub(super) fn reads_nothing(raw: &RawStatement, cx: &Resolver<'_>, place: &str) -> Result<(), Refusal> {
    let mut functions = raw.names.functions.iter();
    match functions.any(|f| cx.snapshot.function_name_needs_analysis(&f.name)) {
        true => Err(Refusal::with(RefusalCode::FunctionUnproved, place)),
        false => Ok(()),
    }
}

pub(super) fn index(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Index(index) = &raw.detail else {
        return unreadable();
    };
    reads_nothing(raw, cx, "in an index expression")?;
    let Some(table) = cx.spread(&index.table)? else {
        return Ok(DdlPlan::at_home_alone(index.concurrently, cx).into_triage());
    };
    let has_key = table.key_names().all(|key| {
        let mut elements = index.elements.iter();
        elements.any(|element| matches!(element, IndexElement::Column(name) if name == key))
    });
    if index.unique && !has_key {
        return Err(Refusal::with(RefusalCode::UniqueWithoutKey, name_of(table)));
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.transactional = !index.concurrently;
    Ok(plan.into_triage())
}

pub(super) fn view(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::View(view) = &raw.detail else {
        return unreadable();
    };
    // The new view itself is among the names.
    let sources: Vec<&QualifiedName> = raw
        .names
        .relations
        .iter()
        .filter(|name| **name != view.view && !raw.names.ctes.contains(&name.name))
        .collect();
    // A home table may reach other tables (by a foreign key, say), and is at home all the same.
    let everywhere = |name: &&&QualifiedName| match cx.place_of(name) {
        Ok(RelationPlace::Home | RelationPlace::Type) => false,
        Ok(_) => true,
        Err(_) => cx.touches(name),
    };
    let touching = sources.iter().filter(everywhere).count();
    if touching == 0 {
        return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
    }
    if view.temporary {
        return Err(Refusal::with(RefusalCode::MixedView, "a temporary view"));
    }
    if touching < sources.len() {
        return Err(Refusal::new(RefusalCode::MixedView));
    }
    Ok(DdlPlan::at(DdlPlace::All).into_triage())
}

pub(super) fn table_as(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let refuse = |why: &str| Err(Refusal::with(RefusalCode::CreateTableAs, why));
    let Detail::CreateTableAs(create) = &raw.detail else {
        return refuse("INTO within parentheses");
    };
    if !create.drover_options.is_empty() {
        return refuse("with a drover option");
    }
    let makes_table = create.query.is_some() && !create.materialized_view;
    if makes_table && !create.temporary {
        placed::refuse_in_placed(&create.table, "a table made from a query", cx)?;
    }
    if cx.needs_analysis(raw) {
        return match (makes_table, create.query_kind) {
            (false, _) => refuse("a materialized view"),
            // Nothing is read.
            (true, _) if create.no_data => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
            (true, sql::StatementKind::Select) => Ok(Triage::CreateAs(create.clone())),
            (true, _) => refuse("EXECUTE"),
        };
    }
    Ok(DdlPlan::at(DdlPlace::Home).into_triage())
}

pub(super) fn trigger(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Trigger(trigger) = &raw.detail else {
        return unreadable();
    };
    let place = cx.place_of(&trigger.table)?;
    if place != RelationPlace::Home && !cx.function_is_pure(&trigger.function) {
        return Err(Refusal::with(
            RefusalCode::TriggerUnproved,
            trigger.function.to_string(),
        ));
    }
    if let RelationPlace::Table(table) = &place
        && table.map().is_some()
        && !table.placement.is_placed()
        && trigger.transition_tables
    {
        let what = "REFERENCING, which would name the rows of one shard";
        return Err(Refusal::with(RefusalCode::TriggerUnproved, what));
    }
    Ok(relation_plan(&place).into_triage())
}

/// CREATE and ALTER POLICY.
pub(super) fn policy(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let mut spread = false;
    for name in &raw.names.relations {
        spread |= cx.spread(name)?.is_some();
    }
    // A policy that looks into other tables filters by what one shard has of them.
    if raw.names.relations.len() > 1 && cx.touches_any(raw) {
        return Err(Refusal::with(RefusalCode::OtherDdl, "a policy that reads tables"));
    }
    let place = if spread { DdlPlace::All } else { DdlPlace::Home };
    Ok(DdlPlan::at(place).into_triage())
}

/// CREATE RULE.
pub(super) fn rule(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    match cx.touches_any(raw) {
        true => Err(Refusal::new(RefusalCode::RuleOnSharded)),
        false => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
    }
}

/// CREATE SCHEMA.
pub(super) fn schema(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Schema {
        name,
        has_elements,
        role,
        ..
    } = &raw.detail
    else {
        return unreadable();
    };
    let (name, has_elements) = (name.as_deref(), *has_elements);
    if name == Some("drover") {
        return Err(Refusal::with(
            RefusalCode::DroverMixed,
            "the schema name is reserved",
        ));
    }
    if !has_elements {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    }
    if cx.touches_any(raw) {
        return Err(Refusal::with(
            RefusalCode::OtherDdl,
            "CREATE SCHEMA with elements that name sharded tables",
        ));
    }
    // What is inside is unsharded; the other shards need only the schema.
    let mut plan = DdlPlan::at(DdlPlace::Home);
    let mut sql = "CREATE SCHEMA IF NOT EXISTS".to_owned();
    if let Some(name) = name {
        let _ = write!(sql, " {}", sql::quote_ident(name));
    }
    // The schema has the role's name where it has none of its own.
    if let Some(role) = role {
        let _ = write!(sql, " AUTHORIZATION {role}");
    }
    plan.steps.push(DdlStep {
        sql: Some(sql),
        place: DdlPlace::Others,
    });
    Ok(plan.into_triage())
}
