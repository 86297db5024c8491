//! COPY, maintenance and all other utility statements.

use catalog::{Placement, Proof, Relation};
use sql::{CopyEndpoint, Cursor, Detail, ObjectKind, QualifiedName, RawStatement, StatementKind as Kind};

use super::resolve::{Resolver, is_spread, key_name, name_of};
use super::{Decision, alter};
use crate::triage_types::{CopyPlace, CopyPlan, DdlPlace, DdlPlan, DdlStep};
use crate::{Refusal, RefusalCode, Triage};

pub(super) fn copy(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Copy(copy) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let Some(name) = &copy.table else {
        return if cx.needs_analysis(raw) {
            Err(Refusal::new(RefusalCode::CopyQuery))
        } else {
            Ok(Triage::Home)
        };
    };
    let Some(table) = cx.spread(name)? else {
        return if cx.needs_analysis(raw) {
            // A home table whose triggers, defaults or policies reach further.
            Err(Refusal::with(RefusalCode::UnsafeTable, name.to_string()))
        } else {
            Ok(Triage::Home)
        };
    };
    if copy.endpoint != CopyEndpoint::Client {
        return Err(Refusal::new(RefusalCode::CopyFile));
    }
    if copy.has_where && cx.needs_analysis_of_names(raw, name) {
        return Err(Refusal::with(RefusalCode::CopyOption, "WHERE"));
    }
    if copy.from {
        writable(table)?;
    }
    let columns: Vec<String> = if copy.columns.is_empty() {
        table
            .live_columns()
            .filter(|c| c.generated.is_none())
            .map(|c| c.name.clone())
            .collect()
    } else {
        copy.columns.clone()
    };
    let place = copy_place(table, &columns, copy.from)?;
    let mut home_defaults = Vec::new();
    if copy.from {
        for column in table.live_columns().filter(|c| !columns.contains(&c.name)) {
            if column.identity.is_some() || column.home_sequence {
                let expression = column.default.clone();
                let expression = expression.unwrap_or_else(|| identity_sequence(table, &column.name));
                home_defaults.push((column.name.clone(), expression));
            } else if place == CopyPlace::Reference
                && column.default.as_deref().is_some_and(|d| d.contains('('))
            {
                return Err(Refusal::with(
                    RefusalCode::ReferenceVolatile,
                    format!("DEFAULT of {}", column.name),
                ));
            }
        }
    }
    Ok(Triage::Copy(Box::new(CopyPlan {
        statement: (**copy).clone(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        from: copy.from,
        place,
        columns,
        home_defaults,
    })))
}

fn identity_sequence(table: &Relation, column: &str) -> String {
    let table = sql::quote_literal(&name_of(table));
    let column = sql::quote_literal(column);
    format!("pg_catalog.nextval(pg_catalog.pg_get_serial_sequence({table}, {column}))")
}

fn copy_place(table: &Relation, columns: &[String], from: bool) -> Result<CopyPlace, Refusal> {
    let Placement::Sharded { key, map } = &table.placement else {
        return Ok(CopyPlace::Reference);
    };
    let (Some(key_column), Some(name)) = (key.first(), key_name(table)) else {
        return Err(Refusal::with(RefusalCode::ShardKeyColumn, name_of(table)));
    };
    let field = columns.iter().position(|c| c == name);
    if from
        && field.is_none()
        && table
            .column(key_column.attnum)
            .is_some_and(|c| c.default.is_some() || c.identity.is_some())
    {
        return Err(Refusal::with(
            RefusalCode::CopyOption,
            format!("the shard key {name} is not among the columns"),
        ));
    }
    Ok(CopyPlace::Sharded {
        map: *map,
        key_field: field.filter(|_| from),
        key_type: key_column.key_type,
    })
}

/// Whether rows can be written without running code that is not proved, or that could change the key.
pub(crate) fn writable(table: &Relation) -> Result<(), Refusal> {
    if let Some(reason) = &table.unsafe_reason {
        return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
    }
    if !table.children.is_empty() || !table.parents.is_empty() {
        return Err(Refusal::with(RefusalCode::Partitioned, name_of(table)));
    }
    // pg_trigger.h: ROW 1, BEFORE 2, INSERT 4, UPDATE 16.
    let before_row = table
        .triggers
        .iter()
        .any(|t| t.enabled && t.type_bits & 3 == 3 && t.type_bits & 20 != 0);
    if before_row && !is_reference(table) {
        return Err(Refusal::with(RefusalCode::BeforeTrigger, name_of(table)));
    }
    Ok(())
}

fn is_reference(table: &Relation) -> bool {
    table.placement == Placement::Reference
}

pub(super) fn other(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    match &raw.detail {
        Detail::Prepare { .. } | Detail::Execute { .. } | Detail::Deallocate { .. } => {
            home_or(raw, cx, RefusalCode::PrepareSql)
        }
        Detail::Cursor(Cursor::Declare { .. }) => home_or(raw, cx, RefusalCode::Cursor),
        Detail::Cursor(_) | Detail::Channel { .. } => Ok(Triage::Home),
        Detail::Truncate(truncate) => tables(raw, &truncate.tables, cx, true),
        Detail::Lock(lock) => tables(raw, &lock.tables, cx, true),
        Detail::Maintenance(maintenance) => maintain(raw, &maintenance.tables, &maintenance.options, cx),
        Detail::Function(function) => {
            let mut plan = DdlPlan::best_effort();
            if function.name.schema.as_deref() == Some("drover") {
                return Err(Refusal::new(RefusalCode::DroverMixed));
            }
            plan.changes_schema = true;
            Ok(plan.into_triage())
        }
        Detail::Do(block) => do_block(&block.language, &block.body, cx),
        Detail::Trigger(trigger) => {
            if cx.spread(&trigger.table)?.is_none() {
                return Ok(DdlPlan::at(DdlPlace::Home).into_triage());
            }
            if !cx.function_is_pure(&trigger.function) {
                return Err(Refusal::with(
                    RefusalCode::TriggerUnproved,
                    trigger.function.to_string(),
                ));
            }
            Ok(DdlPlan::at(DdlPlace::All).into_triage())
        }
        Detail::Sequence(sequence) => {
            let spread = match &sequence.owned_by {
                Some(table) => cx.spread(table)?.is_some(),
                None => false,
            };
            // A sequence lives on the home shard; only the one of a sharded column exists (unused) elsewhere.
            let plan = if spread {
                DdlPlan::best_effort()
            } else {
                DdlPlan::at(DdlPlace::Home)
            };
            Ok(plan.into_triage())
        }
        Detail::Comment(reference) => comment(raw, reference, cx),
        Detail::Schema {
            name, has_elements, ..
        } => create_schema(name.as_deref(), *has_elements),
        Detail::Grant(grant) => {
            let spread = grant.objects.iter().map(|o| cx.spread(o).map(|r| r.is_some()));
            let spread: Vec<bool> = spread.collect::<Result<_, _>>()?;
            grant_place(grant.object, &grant.objects, &spread, cx)
        }
        _ => by_kind(raw, cx),
    }
}

/// Home when nothing sharded is concerned, else refused.
fn home_or(raw: &RawStatement, cx: &Resolver<'_>, code: RefusalCode) -> Decision {
    if cx.needs_analysis(raw) {
        Err(Refusal::new(code))
    } else {
        Ok(Triage::Home)
    }
}

/// TRUNCATE and LOCK.
fn tables(raw: &RawStatement, names: &[QualifiedName], cx: &Resolver<'_>, transactional: bool) -> Decision {
    let mut spread = 0;
    for name in names {
        let found = cx.spread(name)?;
        if let Some(table) = found {
            spread += 1;
            if let Some(reason) = table
                .unsafe_reason
                .as_ref()
                .filter(|_| raw.kind == Kind::Truncate)
            {
                return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
            }
        } else if cx.touches(name) {
            return Err(Refusal::with(RefusalCode::MixedUtility, name.to_string()));
        }
    }
    let place = if spread == 0 {
        DdlPlace::Home
    } else if spread == names.len() {
        DdlPlace::All
    } else {
        return Err(Refusal::new(RefusalCode::MixedUtility));
    };
    let mut plan = DdlPlan::at(place);
    plan.transactional = transactional;
    plan.changes_schema = false;
    if plan.is_home_only() {
        Ok(Triage::Home)
    } else {
        Ok(plan.into_triage())
    }
}

/// VACUUM, ANALYZE, REINDEX, CLUSTER.
fn maintain(raw: &RawStatement, names: &[QualifiedName], options: &[String], cx: &Resolver<'_>) -> Decision {
    if !cx.snapshot.has_sharded() {
        return Ok(Triage::Home);
    }
    let mut spread = 0;
    for name in names {
        spread += usize::from(cx.spread(name)?.is_some() || alter::index_table(name, cx)?.is_some());
    }
    if spread == 0 && !names.is_empty() {
        return Ok(Triage::Home);
    }
    if spread < names.len() {
        return Err(Refusal::new(RefusalCode::MixedUtility));
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.transactional = match raw.kind {
        Kind::Analyze | Kind::Cluster => true,
        Kind::Reindex => !options.iter().any(|o| o == "concurrently"),
        _ => false,
    };
    plan.changes_schema = false;
    Ok(plan.into_triage())
}

fn do_block(language: &str, body: &str, cx: &Resolver<'_>) -> Decision {
    if !cx.snapshot.has_sharded() {
        return Ok(Triage::Home);
    }
    if language != "plpgsql" {
        return Err(Refusal::with(
            RefusalCode::DoBlock,
            format!("language {language}"),
        ));
    }
    let facts = sql::plpgsql_body_facts(body);
    let refuse = |why: &str| Err(Refusal::with(RefusalCode::DoBlock, why));
    if let Some(reason) = facts.unknown {
        return refuse(reason);
    }
    if facts.dynamic_sql {
        return refuse("it runs SQL text made at run time");
    }
    if sql::body_changes_schema(body) {
        return refuse("it changes the schema");
    }
    if let Some(why) = cx.snapshot.everything_needs_analysis() {
        return refuse(why);
    }
    if let Some(name) = facts.relations.iter().find(|n| cx.touches(n)) {
        return refuse(&name.to_string());
    }
    let unproved = |n: &&QualifiedName| cx.snapshot.known_function_needs_analysis(&n.name);
    if let Some(name) = facts.functions.iter().find(unproved) {
        return refuse(&name.to_string());
    }
    Ok(Triage::Home)
}

fn comment(raw: &RawStatement, reference: &sql::ObjectReference, cx: &Resolver<'_>) -> Decision {
    let place = match (&reference.object, &reference.name) {
        (ObjectKind::Index, Some(name)) => alter::index_table(name, cx)?.is_some(),
        (
            ObjectKind::Table
            | ObjectKind::Column
            | ObjectKind::TableConstraint
            | ObjectKind::Trigger
            | ObjectKind::Policy
            | ObjectKind::Rule,
            Some(name),
        ) => cx.spread(name)?.is_some(),
        (ObjectKind::View, Some(name)) => cx.touches(name) && cx.relation(name).is_some(),
        (
            ObjectKind::Sequence
            | ObjectKind::MaterializedView
            | ObjectKind::ForeignTable
            | ObjectKind::Database,
            _,
        ) => false,
        _ => {
            let _ = raw;
            return Ok(DdlPlan::best_effort().into_triage());
        }
    };
    let place = if place { DdlPlace::All } else { DdlPlace::Home };
    Ok(DdlPlan::at(place).into_triage())
}

fn create_schema(name: Option<&str>, has_elements: bool) -> Decision {
    if name == Some("drover") {
        return Err(Refusal::with(
            RefusalCode::DroverMixed,
            "the schema name is reserved",
        ));
    }
    if !has_elements {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    }
    let Some(name) = name else {
        return Err(Refusal::with(
            RefusalCode::OtherDdl,
            "CREATE SCHEMA AUTHORIZATION with elements",
        ));
    };
    // What is inside is unsharded; the other shards need only the schema.
    let mut plan = DdlPlan::at(DdlPlace::Home);
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", sql::quote_ident(name));
    plan.steps.push(DdlStep {
        sql: Some(sql),
        place: DdlPlace::Others,
    });
    Ok(plan.into_triage())
}

fn grant_place(
    object: Option<ObjectKind>,
    objects: &[QualifiedName],
    spread: &[bool],
    cx: &Resolver<'_>,
) -> Decision {
    let place = match object {
        Some(ObjectKind::Table | ObjectKind::View) if !objects.is_empty() => {
            let views = objects.iter().zip(spread).map(|(name, s)| {
                *s || (cx.touches(name)
                    && cx
                        .relation(name)
                        .is_some_and(|r| r.kind == catalog::RelationKind::View))
            });
            let everywhere: Vec<bool> = views.collect();
            if everywhere.iter().all(|s| *s) {
                DdlPlace::All
            } else if everywhere.iter().any(|s| *s) {
                return Err(Refusal::new(RefusalCode::MixedUtility));
            } else {
                DdlPlace::Home
            }
        }
        Some(ObjectKind::Sequence | ObjectKind::ForeignTable | ObjectKind::Database)
            if !objects.is_empty() =>
        {
            DdlPlace::Home
        }
        Some(ObjectKind::Function | ObjectKind::Procedure | ObjectKind::Routine) => {
            return Ok(DdlPlan::best_effort().into_triage());
        }
        _ => DdlPlace::All,
    };
    Ok(DdlPlan::at(place).into_triage())
}

/// Utility statements about which nothing but kind and names is known.
fn by_kind(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let spread = raw
        .names
        .relations
        .iter()
        .map(|n| cx.spread(n))
        .collect::<Result<Vec<_>, _>>()?;
    let spread = spread.iter().flatten().any(|r| is_spread(r));
    match raw.kind {
        Kind::Call => {
            let unproved = raw
                .names
                .functions
                .iter()
                .find(|f| cx.snapshot.function_name_needs_analysis(&f.name));
            match unproved {
                Some(name) if !procedure_is_home(name, cx) => {
                    Err(Refusal::with(RefusalCode::Call, name.to_string()))
                }
                _ if cx.touches_any(raw) => Err(Refusal::new(RefusalCode::Call)),
                _ => Ok(Triage::Home),
            }
        }
        Kind::Rule => match cx.touches_any(raw) {
            true => Err(Refusal::new(RefusalCode::RuleOnSharded)),
            false => Ok(DdlPlan::at(DdlPlace::Home).into_triage()),
        },
        Kind::Policy => {
            let place = if spread { DdlPlace::All } else { DdlPlace::Home };
            // A policy that looks into other tables filters by what one shard has of them.
            let looks_elsewhere = raw.names.relations.len() > 1 && cx.touches_any(raw);
            if looks_elsewhere {
                return Err(Refusal::with(RefusalCode::OtherDdl, "a policy that reads tables"));
            }
            Ok(DdlPlan::at(place).into_triage())
        }
        Kind::Type | Kind::Extension | Kind::Role => Ok(DdlPlan::at(DdlPlace::All).into_triage()),
        Kind::Server => Ok(Triage::Home),
        Kind::SetConstraints if !cx.snapshot.has_sharded() => Ok(Triage::Home),
        Kind::SetConstraints => Ok(DdlPlan {
            changes_schema: false,
            ..DdlPlan::at(DdlPlace::All)
        }
        .into_triage()),
        // They talk to another server, which no transaction takes back.
        Kind::OtherUtility("CreateSubscriptionStmt" | "AlterSubscriptionStmt" | "DropSubscriptionStmt") => {
            Ok(DdlPlan::at_home_alone(true, cx).into_triage())
        }
        Kind::OtherUtility(name) => other_utility(name, spread, raw, cx),
        _ if cx.touches_any(raw) => Err(Refusal::new(RefusalCode::OtherDdl)),
        _ => Ok(Triage::Home),
    }
}

fn procedure_is_home(name: &QualifiedName, cx: &Resolver<'_>) -> bool {
    let oids = cx.snapshot.functions_named(&name.name);
    !oids.is_empty()
        && oids
            .iter()
            .all(|oid| !matches!(cx.snapshot.proof(*oid), Proof::Unproved(_)))
}

/// Statements by the grammar's node name.
fn other_utility(name: &str, spread: bool, raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    // Objects that are made on every shard, so that anything may refer to them anywhere.
    const EVERYWHERE: &[&str] = &[
        "AlterDefaultPrivilegesStmt",
        "CreateCastStmt",
        "CreateConversionStmt",
        "CreateOpClassStmt",
        "CreateOpFamilyStmt",
        "AlterOpFamilyStmt",
        "AlterOperatorStmt",
        "DefineStmt",
        "CreatePLangStmt",
        "CreateTransformStmt",
        "AlterTSConfigurationStmt",
        "AlterTSDictionaryStmt",
        "AlterCollationStmt",
        "AlterObjectDependsStmt",
        "CompositeTypeStmt",
        "ReassignOwnedStmt",
        "CreateAmStmt",
    ];
    if EVERYWHERE.contains(&name) {
        return Ok(DdlPlan::best_effort().into_triage());
    }
    if name == "DropOwnedStmt" && cx.snapshot.has_sharded() {
        return Err(Refusal::with(RefusalCode::Container, "DROP OWNED"));
    }
    if matches!(name, "CreateStatsStmt" | "AlterStatsStmt") && spread {
        return Ok(DdlPlan::at(DdlPlace::All).into_triage());
    }
    if cx.touches_any(raw) {
        return Err(Refusal::with(RefusalCode::OtherDdl, name));
    }
    Ok(DdlPlan::at(DdlPlace::Home).into_triage())
}
