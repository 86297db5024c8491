//! COPY, maintenance and other statements that run without defining anything.

use catalog::{KeyColumn, Placement, Proof, Relation, RelationKind};
use sql::{
    CopyEndpoint, CopyOptions, Detail, DoBlock, Maintenance, QualifiedName, RawStatement,
    StatementKind as Kind,
};

use super::Decision;
use super::resolve::{RelationPlace, Resolver, name_of};
use crate::triage_types::{CopyKey, CopyPlace, CopyPlan, DdlPlace, DdlPlan};
use crate::{Refusal, RefusalCode, Triage};

pub(super) fn copy(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Copy(copy) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let Some(name) = &copy.table else {
        return if !cx.needs_analysis(raw) {
            Ok(Triage::Home)
        } else if copy.endpoint != CopyEndpoint::Client {
            Err(Refusal::new(RefusalCode::CopyFile))
        } else {
            query_options(&copy.options)?;
            Ok(Triage::CopyQuery(copy.clone()))
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
        writable_at_once(table)?;
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

/// Options of COPY (query) that Drover, which writes the rows, writes as PostgreSQL does. Those that PostgreSQL does not take are
/// refused, too.
fn query_options(options: &CopyOptions) -> Result<(), Refusal> {
    let refuse = |what: &str| Err(Refusal::with(RefusalCode::CopyOption, what));
    let csv = match options.format.as_deref() {
        None | Some("text") => false,
        Some("csv") => true,
        Some("binary") => {
            let given = [&options.delimiter, &options.null, &options.header];
            return match given.iter().all(|option| option.is_none()) {
                true => simple_options(options, false),
                false => refuse("DELIMITER, NULL and HEADER in binary"),
            };
        }
        Some(_) => return refuse("FORMAT"),
    };
    if options.header.as_deref() == Some("match") {
        return refuse("HEADER");
    }
    let is_byte = |text: &str| text.len() == 1 && !matches!(text, "\n" | "\r");
    let bytes = [&options.delimiter, &options.quote, &options.escape];
    if !bytes.into_iter().flatten().all(|text| is_byte(text)) {
        return refuse("DELIMITER, QUOTE and ESCAPE of other than one byte");
    }
    let delimiter = options
        .delimiter
        .as_deref()
        .unwrap_or(if csv { "," } else { "\t" });
    let quote = options.quote.as_deref().unwrap_or("\"");
    let null = options.null.as_deref().unwrap_or_default();
    let letter = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"\\.".contains(&b))
    };
    if (!csv && letter(delimiter)) || (csv && delimiter == quote) {
        return refuse("DELIMITER");
    }
    if null.contains(['\n', '\r']) || null.contains(delimiter) || (csv && null.contains(quote)) {
        return refuse("NULL");
    }
    simple_options(options, csv)
}

fn simple_options(options: &CopyOptions, csv: bool) -> Result<(), Refusal> {
    let named = options.others.first().map(String::as_str);
    let unknown = named.or(options.default.as_deref().map(|_| "DEFAULT"));
    let unknown = unknown.or(options.freeze.then_some("FREEZE"));
    let unknown = unknown.or(options.encoding.as_deref().map(|_| "ENCODING"));
    let quotes = options.quote.is_some() || options.escape.is_some();
    match unknown.or((quotes && !csv).then_some("QUOTE and ESCAPE")) {
        Some(name) => Err(Refusal::with(RefusalCode::CopyOption, name)),
        None => Ok(()),
    }
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
    let copied = |key: &KeyColumn| {
        let Some(column) = table.column(key.attnum) else {
            return Err(Refusal::with(RefusalCode::ShardKeyColumn, name_of(table)));
        };
        let field = columns.iter().position(|name| *name == column.name);
        if from && field.is_none() && (column.default.is_some() || column.identity.is_some()) {
            return Err(Refusal::with(
                RefusalCode::CopyOption,
                format!("the shard key {} is not among the columns", column.name),
            ));
        }
        Ok(CopyKey {
            field: field.filter(|_| from),
            attnum: key.attnum,
            key_type: key.key_type,
        })
    };
    Ok(CopyPlace::Sharded {
        map: *map,
        key: key.iter().map(copied).collect::<Result<_, _>>()?,
    })
}

/// Whether rows can be written without running code that is not proved, or that could change the key.
pub(crate) fn writable(table: &Relation) -> Result<(), Refusal> {
    if let Some(reason) = &table.unsafe_reason {
        return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
    }
    if table.has_inheritance() {
        return Err(Refusal::with(RefusalCode::Partitioned, name_of(table)));
    }
    Ok(())
}

/// A statement on several shards would run the table's BEFORE ROW triggers with a clock of its own on each. (That none of
/// them changes the key is part of [`writable`]; what they do to a reference table is judged there, too.)
pub(crate) fn writable_at_once(table: &Relation) -> Result<(), Refusal> {
    // pg_trigger.h: ROW 1, BEFORE 2, INSERT 4, UPDATE 16.
    // One shard has all rows of a placed table, and one clock.
    if table.placement.is_placed() {
        return Ok(());
    }
    let before_row = table
        .all_triggers()
        .any(|t| t.enabled && t.type_bits & 3 == 3 && t.type_bits & 20 != 0);
    if before_row && !is_reference(table) {
        return Err(Refusal::with(RefusalCode::BeforeTrigger, name_of(table)));
    }
    Ok(())
}

fn is_reference(table: &Relation) -> bool {
    table.placement == Placement::Reference
}

/// Home when nothing sharded is concerned, else refused.
pub(super) fn home_or(raw: &RawStatement, cx: &Resolver<'_>, code: RefusalCode) -> Decision {
    if cx.needs_analysis(raw) {
        Err(Refusal::new(code))
    } else {
        Ok(Triage::Home)
    }
}

/// DECLARE: at home, with the rows of a query that is not.
pub(super) fn declare(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    match &raw.detail {
        Detail::Cursor(cursor) if cx.needs_analysis(raw) => Ok(Triage::Cursor(Box::new(cursor.clone()))),
        _ => home_or(raw, cx, RefusalCode::Cursor),
    }
}

/// TRUNCATE and LOCK.
pub(super) fn tables(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let names = match &raw.detail {
        Detail::Truncate(truncate) => &truncate.tables,
        Detail::Lock(lock) => &lock.tables,
        _ => return Err(Refusal::new(RefusalCode::Unreadable)),
    };
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
        } else if cx
            .relation(name)
            .map_or_else(|| cx.touches(name), |r| cx.snapshot.touches_sharded(r))
        {
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
    plan.changes_schema = false;
    if plan.is_home_only() {
        Ok(Triage::Home)
    } else {
        Ok(plan.into_triage())
    }
}

/// VACUUM, ANALYZE, REINDEX, CLUSTER.
pub(super) fn maintain(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Maintenance(Maintenance { tables, options }) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    if !cx.snapshot.has_sharded() {
        return Ok(Triage::Home);
    }
    let mut spread = 0;
    let mut partitioned = false;
    for name in tables {
        let place = cx.place_of(name)?;
        if let RelationPlace::Table(table) | RelationPlace::Index(table) = place {
            spread += 1;
            // PostgreSQL does one partition after the other, each in a transaction.
            partitioned |= table.kind == RelationKind::PartitionedTable;
        }
    }
    if spread == 0 && !tables.is_empty() {
        return Ok(Triage::Home);
    }
    if spread < tables.len() {
        return Err(Refusal::new(RefusalCode::MixedUtility));
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.transactional = match raw.kind {
        Kind::Analyze => true,
        // Without a table it is one after the other, too: of a schema, or of the database.
        Kind::Cluster => !partitioned && !tables.is_empty(),
        Kind::Reindex => !partitioned && !tables.is_empty() && !options.iter().any(|o| o == "concurrently"),
        _ => false,
    };
    plan.changes_schema = false;
    Ok(plan.into_triage())
}

pub(super) fn do_block(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Do(DoBlock { language, body }) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
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

/// SET CONSTRAINTS.
pub(super) fn set_constraints(cx: &Resolver<'_>) -> Decision {
    if !cx.snapshot.has_sharded() {
        return Ok(Triage::Home);
    }
    let mut plan = DdlPlan::at(DdlPlace::All);
    plan.changes_schema = false;
    Ok(plan.into_triage())
}

pub(super) fn call(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let mut functions = raw.names.functions.iter();
    match functions.find(|f| cx.snapshot.function_name_needs_analysis(&f.name)) {
        Some(name) if !procedure_is_home(name, cx) => Err(Refusal::with(RefusalCode::Call, name.to_string())),
        _ if cx.touches_any(raw) => Err(Refusal::new(RefusalCode::Call)),
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
