//! UPDATE of a shard key: rows move.
//!
//! Tried when an UPDATE assigns to the key. Four statements for each shard, in the order in which they run:
//!
//! 1. *lock*: `SELECT ctid, new key … FOR UPDATE` (with partitions: `tableoid` and `ctid`) finds the rows as UPDATE would (waits for other writers, and looks at rows
//!    again that these have changed). From here on nobody else can change them, so that what follows means the same rows and
//!    computes the same values.
//! 2. *leave*: rows whose new key belongs elsewhere: `DELETE … RETURNING` all columns as they will be.
//! 3. *stay*: the UPDATE itself, for the rows whose new key belongs where they are.
//! 4. *arrive*: `INSERT` of the rows that left, on their new shards.
//!
//! All rows leave before any arrives, so that a unique key is compared with the final state of the statement.
//!
//! What would run or be checked otherwise than for an UPDATE is refused: triggers, foreign keys that refer to the table (their
//! actions differ between UPDATE and DELETE), row-level security, generated identity, more than one table, subqueries,
//! volatile expressions.

use catalog::{Column, KeyType, Relation, Snapshot};
use sql::{Deparser, Node, quote_ident};

use super::names::{Names, type_sql};
use super::transfer::{self, Carriage};
use super::{Cx, bounds};
use crate::{
    Analyzed, KeySource, Many, NullKeys, Plan, Refusal, RefusalCode, Relocate, StatementKind, Target,
};

/// The plan found so far, or the one that moves rows where the shard key is assigned to.
pub(super) fn instead(
    analyzed: &Analyzed<'_>,
    snapshot: &Snapshot,
    tree: &Node,
    planned: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    match planned {
        Err(refusal) if refusal.code == RefusalCode::KeyUpdate => {
            let cx = Cx::new(analyzed, snapshot, tree, Vec::new())?;
            plan(cx, refusal)
        }
        other => other,
    }
}

fn plan(mut cx: Cx<'_>, refusal: Refusal) -> Result<Plan, Refusal> {
    let refuse = |why: &str| Err(Refusal::with(RefusalCode::KeyMove, why));
    if cx.kind != StatementKind::Update || !cx.graph.home.is_empty() {
        return Err(refusal);
    }
    let [sharded] = cx.graph.sharded.as_slice() else {
        return refuse("several tables");
    };
    let Some(relation) = cx.snapshot.relation(sharded.table) else {
        return Err(refusal);
    };
    let map = sharded.map;
    let shapes = &cx.graph.shapes;
    if cx.graph.reference > 0 || shapes.subqueries > 0 || shapes.modifying_cte || cx.graph.writes.len() != 1 {
        return refuse("several tables, WITH or subqueries");
    }
    movable(relation)?;
    cx.check_sharded_calls()?;
    if let Some(name) = &cx.calls.volatile {
        return Err(Refusal::with(RefusalCode::VolatileMany, name));
    }
    if cx.calls.sequence {
        return Err(Refusal::new(RefusalCode::Sequence));
    }
    if cx.calls.system_column {
        return Err(Refusal::new(RefusalCode::SystemColumn));
    }
    if cx.calls.today || cx.calls.statement_time || cx.relative_time() {
        return Err(Refusal::with(RefusalCode::VolatileMany, "the current date"));
    }
    if !cx.tree.value("cteList").is_null() || shapes.row_security {
        return refuse("WITH or row-level security");
    }
    let from = match cx.pinned_keys() {
        Some(keys) => Target::Keys {
            map,
            keys,
            nulls: NullKeys::Nowhere,
        },
        None => bounds::between(&cx, map).unwrap_or(Target::All { map }),
    };
    let relocate = statements(&mut cx, relation, map, from)?;
    Ok(cx.finish(Target::Cluster, Many::Relocate(Box::new(relocate)), None))
}

/// Whether a row of the table may be deleted here and inserted there with the effects of an UPDATE.
fn movable(relation: &Relation) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::with(RefusalCode::KeyMove, why));
    crate::triage::writable(relation)?;
    if relation.all_triggers().any(|trigger| trigger.enabled) {
        return refuse("the table has triggers");
    }
    if relation.partition_referenced || !relation.referenced_by.is_empty() {
        return refuse("a foreign key refers to the table");
    }
    if relation.row_security || relation.has_rules {
        return refuse("the table has row-level security or rules");
    }
    Ok(())
}

/// Prints the four statements.
fn statements(
    cx: &mut Cx<'_>,
    relation: &Relation,
    map: catalog::MapId,
    from: Target,
) -> Result<Relocate, Refusal> {
    let unreadable = || Refusal::new(RefusalCode::Unreadable);
    let replace = cx.replace()?;
    let first = cx.prelude.params + u16::try_from(cx.prelude.values.len()).unwrap_or(0);
    let names = Names(cx.snapshot);
    let printer = Deparser::new(cx.tree, &names, &replace)?;
    let index = usize::try_from(cx.tree.i64("resultRelation")?).map_err(|_| unreadable())?;
    let alias = quote_ident(&printer.alias(index)?);
    let table = sql::QualifiedName::qualified(&relation.schema, &relation.name);
    let condition = printer.where_clause()?;
    let returning = printer.returning_clause()?;
    let assigned = assignments(cx, relation, &printer)?;
    let new_value = |column: &Column| match assigned.iter().find(|(attnum, _)| *attnum == column.attnum) {
        Some((_, sql)) => sql.clone(),
        None => format!("{alias}.{}", quote_ident(&column.name)),
    };
    let stored = |column: &&Column| !column.dropped && column.generated.is_none();
    let columns: Vec<&Column> = relation.columns.iter().filter(stored).collect();
    let carriage = columns
        .iter()
        .map(|c| transfer::carried(c.type_oid.0, cx.snapshot));
    let carriage = carriage.collect::<Result<Vec<Carriage>, Refusal>>()?;
    let own = cx.prelude.params;
    let (places, key_new, key_of_row) = key_places(cx, relation, &columns)?;
    let new_key: Vec<String> = places.iter().map(|at| new_value(columns[*at])).collect();
    let RowName {
        name,
        found: tids,
        types,
    } = row_name(relation, &alias, first + 1);
    let set = set_list(relation, &assigned);
    let values: Vec<String> = columns.iter().map(|column| new_value(column)).collect();
    let listed: Vec<String> = columns.iter().map(|column| quote_ident(&column.name)).collect();
    let (rows, items) = transfer::unnested(&carriage, first)?;
    let where_clause = condition.map(|sql| format!(" WHERE {sql}")).unwrap_or_default();
    Ok(Relocate {
        from: Box::new(rows_of(from, own)),
        map,
        table: table.to_string(),
        lock: format!(
            "SELECT {name}, {} FROM {table} AS {alias}{where_clause} FOR UPDATE OF {alias}",
            new_key.join(", ")
        ),
        row_types: types,
        new_key: key_new,
        leave: format!(
            "DELETE FROM {table} AS {alias} WHERE {tids} RETURNING {}",
            values.join(", ")
        ),
        stay: format!("UPDATE {table} AS {alias} SET {} WHERE {tids}{returning}", set),
        arrive: format!(
            "INSERT INTO {table} AS {alias} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {rows}{returning}",
            listed.join(", "),
            items.join(", ")
        ),
        columns: carriage.iter().map(|column| column.carried).collect(),
        key_columns: places,
        key: key_of_row,
        returning: !returning.is_empty(),
    })
}

fn set_list(relation: &Relation, assigned: &[(i16, String)]) -> String {
    let columns = relation.columns.iter().filter_map(|column| {
        let (_, sql) = assigned.iter().find(|(attnum, _)| *attnum == column.attnum)?;
        Some(format!("{} = {sql}", quote_ident(&column.name)))
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// What tells the rows of a table apart while they are locked.
struct RowName {
    /// As SQL.
    name: String,
    /// True of the rows whose names are in the array that is a parameter.
    found: String,
    /// OIDs of the type of a name and of its array.
    types: (u32, u32),
}

fn row_name(relation: &Relation, alias: &str, param: u16) -> RowName {
    const TID: (u32, u32) = (27, 1010);
    const TEXT: (u32, u32) = (25, 1009);
    if relation.children.is_empty() {
        return RowName {
            name: format!("{alias}.ctid"),
            found: format!("{alias}.ctid = ANY (${param}::pg_catalog.tid[])"),
            types: TID,
        };
    }
    // Each partition counts its rows from the beginning. The first condition finds them without looking at all.
    let name = format!("pg_catalog.concat({alias}.tableoid, {alias}.ctid)");
    let found = format!(
        "{alias}.ctid = ANY (ARRAY(SELECT pg_catalog.substr(row_name, pg_catalog.strpos(row_name, '('))::pg_catalog.tid \
         FROM pg_catalog.unnest(${param}::pg_catalog.text[]) AS row_name)) AND {name} = ANY (${param}::pg_catalog.text[])"
    );
    RowName {
        name,
        found,
        types: TEXT,
    }
}

/// A plan of which only the target and the parameters count.
fn rows_of(target: Target, param_count: u16) -> Plan {
    Plan {
        kind: StatementKind::Select,
        writes: true,
        returns_rows: true,
        target,
        many: Many::Refuse(Refusal::new(RefusalCode::KeyMove)),
        uses_now: false,
        text: None,
        prelude: Vec::new(),
        role_dependent: false,
        bound_to_text: true,
        param_count,
        indexed: false,
        unbounded: false,
        by_settings: false,
    }
}

/// Which of the stored columns are the key, the key in a row of the lock statement, and the key in a stored row.
fn key_places(
    cx: &Cx<'_>,
    relation: &Relation,
    columns: &[&Column],
) -> Result<(Vec<usize>, KeySource, KeySource), Refusal> {
    let mut places = Vec::new();
    let (mut found, mut stored) = (Vec::new(), Vec::new());
    for key in relation.key_columns() {
        let position = columns.iter().position(|column| column.attnum == key.attnum);
        let position = position.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
        // The first value of a found row is its name.
        found.push(key_at(cx, key.key_type, columns[position], places.len() + 2)?);
        stored.push(key_at(cx, key.key_type, columns[position], position + 1)?);
        places.push(position);
    }
    Ok((
        places,
        KeySource::of_columns(found),
        KeySource::of_columns(stored),
    ))
}

/// A column of the key as the n-th value of a row, from 1.
fn key_at(cx: &Cx<'_>, key_type: KeyType, column: &Column, number: usize) -> Result<KeySource, Refusal> {
    let index = u16::try_from(number).ok();
    let index = index.and_then(|number| cx.prelude.params.checked_add(number));
    let index = index.ok_or_else(|| Refusal::new(RefusalCode::TooComplex))?;
    Ok(match cx.snapshot.key_step(column.type_oid, column.typmod) {
        None => KeySource::Param { index, key_type },
        Some(step) => KeySource::ConvertedParam {
            index,
            key_type,
            steps: [step].into(),
        },
    })
}

/// What is assigned to which column, as SQL of the column's type without its modifier (storing it adds that).
fn assignments(
    cx: &Cx<'_>,
    relation: &Relation,
    printer: &Deparser<'_>,
) -> Result<Vec<(i16, String)>, Refusal> {
    let mut out = Vec::new();
    for target in cx.tree.nodes("targetList")? {
        if target.bool("resjunk")? {
            continue;
        }
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let attnum = i16::try_from(target.i64("resno")?).map_err(|_| unreadable())?;
        let column = relation.column(attnum).ok_or_else(unreadable)?;
        let expr = target.node("expr")?;
        if expr.is("FIELDSTORE") || expr.is("SUBSCRIPTINGREF") || expr.is("NEXTVALUEEXPR") {
            return Err(Refusal::with(
                RefusalCode::KeyMove,
                "assignment to a part of a column",
            ));
        }
        if column.generated.is_some() {
            continue;
        }
        let base = cx.snapshot.base_type(column.type_oid);
        let type_name = type_sql(cx.snapshot, base.0).ok_or_else(unreadable)?;
        out.push((attnum, format!("({}::{type_name})", printer.expr(expr)?)));
    }
    Ok(out)
}
