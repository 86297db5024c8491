//! INSERT … SELECT whose rows are stored on other shards than those that make them.
//!
//! Tried when the statement is not proved to stay where it is. The query behind the INSERT becomes a statement of its own
//! (planned like any query, with every tier there is), and the INSERT becomes one that takes its rows from arrays. So all that
//! happens between a row of the query and a row of the table (assignment casts, defaults, constants) stays in the INSERT and
//! is done by the server that stores the row, with these exceptions: what a sequence or another volatile default gives is
//! drawn from the home shard, once for each row; the clock is read once.
//!
//! The place of a row is decided by its key *after* these conversions. Where they are understood here, the key is read
//! from the column; where they are not, the query computes it in a further column, which is not stored.
//!
//! INSERT … VALUES comes here, too, where a key or a value is not known before the statement runs (it reads the clock, or a
//! table): the rows are what one server makes of them, and are carried from there.

mod portions;
mod values;

use std::collections::HashSet;

use catalog::{KeyColumn, KeyType, Oid, Placement, Relation, Snapshot, TypeKind};
use sql::{Deparser, Detail, Node, Value, quote_ident};

use super::calls::{Calls, NEXTVAL, calls};
use super::columns::{travelling, type_of};
use super::expr::{as_var, key_source};
use super::insert::drawn;
use super::names::{Names, type_sql};
use super::rewrite::{Prelude, Replace, clock};
use super::write;
use crate::{
    Analyzed, Carried, Drawn, KeySource, Many, Plan, PreludeSource, Refusal, RefusalCode, StatementKind,
    Target, Transfer, TransferPlace,
};

/// Type `text` and its array.
const TEXT: (u32, u32) = (25, 1009);

/// Type `xml`.
pub(super) const XML: u32 = 142;

/// Pseudo-type `unknown`.
const UNKNOWN: u32 = 705;

/// Types whose values have the same text under every setting, so that arrays and rows of them can travel as text: bool,
/// bytea, char, name, int8, int2, int4, text, oid, json, xml, inet, cidr, macaddr, character, character varying, bit, varbit,
/// numeric, uuid, jsonb, tsvector, tsquery.
const ALIKE: [u32; 23] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 869, 650, 829, 1042, 1043, 1560, 1562, 1700, 2950, 3802,
    3614, 3615,
];

/// The plan found so far, or the one that carries rows where the statement cannot run as it is.
pub(super) fn instead(
    analyzed: &Analyzed<'_>,
    snapshot: &Snapshot,
    tree: &Node,
    planned: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    if tree.value("commandType").as_str() != Some("3") {
        return planned;
    }
    // A literal that is relative to the clock would be printed as the time at which it was analyzed.
    let everything = calls(tree, snapshot, &HashSet::new());
    if everything.time_constant && super::has_relative_time(analyzed.text) {
        return planned;
    }
    match planned {
        Err(refusal) => match Move::of(analyzed, snapshot, tree) {
            Some(Ok(found)) => found.plan(Target::Cluster),
            Some(Err(better)) if better.code == RefusalCode::CarriedType => Err(better),
            Some(Err(_)) => Err(refusal),
            None => values::as_query(tree)
                .and_then(|tree| Some(Move::of(analyzed, snapshot, &tree)?.ok()?.plan(Target::Cluster)))
                .and_then(Result::ok)
                .map(values::all_at_once)
                .ok_or(refusal),
        },
        Ok(plan) => {
            let several = matches!(&plan.target, Target::Keys { keys, .. }
                if keys.len() > 1 || !keys.iter().all(KeySource::is_single));
            if !several || !matches!(plan.many, Many::Refuse(_)) || !plan.prelude.is_empty() {
                return Ok(plan);
            }
            match Move::of(analyzed, snapshot, tree) {
                Some(Ok(found)) => found.plan(plan.target),
                _ => Ok(plan),
            }
        }
    }
}

/// An INSERT … SELECT.
struct Move<'a> {
    analyzed: &'a Analyzed<'a>,
    snapshot: &'a Snapshot,
    tree: &'a Node,
    relation: &'a Relation,
    /// The query's place in the range table, from 1, and the query.
    index: usize,
    query: &'a Node,
    /// What the INSERT itself calls, without the query and without what is drawn beforehand.
    calls: Calls,
    /// Expressions whose values are drawn for each row.
    drawn: Vec<&'a Node>,
}

impl<'a> Move<'a> {
    /// `None`: it is none, or not of a form that is handled here.
    fn of(
        analyzed: &'a Analyzed<'a>,
        snapshot: &'a Snapshot,
        tree: &'a Node,
    ) -> Option<Result<Move<'a>, Refusal>> {
        let Detail::Insert(insert) = &analyzed.raw.detail else {
            return None;
        };
        let rtable = tree.nodes("rtable").ok()?;
        let entry = |index: usize| rtable.get(index.wrapping_sub(1)).copied();
        let target = entry(usize::try_from(tree.i64("resultRelation").ok()?).ok()?)?;
        let relation = snapshot.relation(Oid(target.oid("relid").ok()?))?;
        let index = only_source(tree)?;
        let query = entry(index)?.value("subquery").as_node()?;
        // Through a view, the columns of RETURNING have the view's names, and its conditions have to hold.
        if insert.table.name != relation.name || insert.has_indirection || query.str("commandType") != Ok("1")
        {
            return None;
        }
        let drawn = match relation.placement {
            Placement::Home => Vec::new(),
            _ => drawn_by(tree, snapshot),
        };
        let mut skip: HashSet<*const Node> = drawn.iter().map(|node| std::ptr::from_ref(*node)).collect();
        skip.insert(std::ptr::from_ref(entry(index)?));
        let ctes = tree.nodes("cteList").ok()?;
        skip.extend(ctes.into_iter().map(std::ptr::from_ref));
        let found = Move {
            analyzed,
            snapshot,
            tree,
            relation,
            index,
            query,
            calls: calls(tree, snapshot, &skip),
            drawn,
        };
        Some(found.check().map(|()| found))
    }

    /// Whether the INSERT may run on several shards, each with its own rows.
    fn check(&self) -> Result<(), Refusal> {
        let relation = self.relation;
        let calls = &self.calls;
        if let Some(reason) = &relation.unsafe_reason {
            return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
        }
        if let Some(reason) = &calls.unproved {
            return Err(Refusal::with(RefusalCode::FunctionUnproved, reason));
        }
        // Subqueries in RETURNING and ON CONFLICT read tables of their own.
        let mut subqueries = false;
        for field in ["targetList", "returningList", "onConflict"] {
            let found = |node: &Node| node.is("SUBLINK");
            let value = self.tree.value(field);
            subqueries |= nodes_of(value).into_iter().any(|node| {
                let mut any = false;
                node.walk(|n| any |= found(n));
                any
            });
        }
        if subqueries {
            return Err(Refusal::new(RefusalCode::InsertSelect));
        }
        if relation.placement.is_home() {
            return Ok(());
        }
        write::insertable(relation, self.tree)?;
        if let Some(name) = calls.about_server.as_ref().or(calls.home_only.as_ref()) {
            return Err(Refusal::with(RefusalCode::FunctionHomeOnly, name));
        }
        if let Some(name) = &calls.volatile {
            return Err(Refusal::with(RefusalCode::VolatileMany, name));
        }
        if calls.sequence {
            return Err(Refusal::new(RefusalCode::Sequence));
        }
        if calls.server_oid {
            return Err(Refusal::new(RefusalCode::ServerOid));
        }
        if calls.today || calls.statement_time {
            return Err(Refusal::with(RefusalCode::VolatileMany, "the current date"));
        }
        if calls.system_column {
            return Err(Refusal::new(RefusalCode::SystemColumn));
        }
        Ok(())
    }

    fn plan(&self, target: Target) -> Result<Plan, Refusal> {
        let params = u16::try_from(self.analyzed.param_types.len())
            .map_err(|_| Refusal::new(RefusalCode::TooComplex))?;
        let mut prelude = Prelude {
            params,
            values: Vec::new(),
        };
        let now = match self.calls.now && !self.relation.placement.is_home() {
            true => Some(prelude.add(1184, PreludeSource::Now, true)?),
            false => None,
        };
        let names = Names(self.snapshot);
        let nothing = Replace::nothing(self.snapshot);
        let plain = Deparser::new(self.tree, &names, &nothing)?;
        let mut source = plain.insert_source(self.index)?;
        let mut columns = self.columns()?;
        let questions = self.questions()?;
        let place = match &self.relation.placement {
            Placement::Home => TransferPlace::Home,
            Placement::Reference => TransferPlace::Every,
            Placement::Sharded { map, .. } => {
                let key = self.place_key(params, &plain, &mut source, &mut columns)?;
                TransferPlace::Key { map: *map, key }
            }
        };
        let first = params + u16::try_from(prelude.values.len()).unwrap_or(0);
        let (rows, references) = self.rows_sql(&plain, &columns, &questions, first)?;
        let fed = Fed {
            inner: Replace {
                now,
                ..Replace::nothing(self.snapshot)
            },
            index: self.index,
            rows,
            drawn: &self.drawn,
            references,
        };
        let insert = Deparser::new(self.tree, &names, &fed)?.insert_body()?;
        let conflict = self.tree.opt_node("onConflict")?.is_some();
        let returning = !self.tree.value("returningList").is_null();
        let drawn = questions.into_iter().map(|question| Drawn { sql: question.sql });
        let transfer = Transfer {
            source,
            columns: columns.into_iter().map(|column| column.carried).collect(),
            drawn: drawn.collect(),
            place,
            insert,
            returning,
            keeps_order: returning && !conflict,
            in_portions: portions::allowed(self.tree, self.query, self.relation, self.snapshot),
        };
        Ok(Plan {
            kind: StatementKind::Insert,
            writes: true,
            returns_rows: returning,
            target,
            many: Many::Transfer(Box::new(transfer)),
            uses_now: now.is_some(),
            text: None,
            prelude: prelude.values,
            role_dependent: true,
            bound_to_text: true,
            param_count: params,
            indexed: false,
            unbounded: false,
            by_settings: false,
        })
    }

    /// The columns of the query.
    fn columns(&self) -> Result<Vec<Carriage>, Refusal> {
        let mut columns = Vec::new();
        for target in self.query.nodes("targetList")? {
            if target.bool("resjunk")? {
                continue;
            }
            let found = type_of(target.node("expr")?);
            let (type_oid, _) = found.ok_or_else(|| Refusal::new(RefusalCode::CarriedType))?;
            columns.push(carried(type_oid, self.snapshot)?);
        }
        if columns.is_empty() {
            return Err(Refusal::new(RefusalCode::InsertSelect));
        }
        Ok(columns)
    }

    /// What is drawn for each row, in the order of the columns.
    fn questions(&self) -> Result<Vec<Question>, Refusal> {
        let mut questions = Vec::new();
        for node in &self.drawn {
            let draws = node.is("NEXTVALUEEXPR") || is_nextval(node);
            let (type_oid, sql) = if draws {
                let question = drawn::sequence(node, self.snapshot)?;
                let drawn::Source::Home(sql) = question.source else {
                    return Err(Refusal::new(RefusalCode::Sequence));
                };
                (question.type_oid, sql)
            } else {
                let (type_oid, _) = type_of(node).ok_or_else(|| Refusal::new(RefusalCode::VolatileMany))?;
                let nothing = Replace::nothing(self.snapshot);
                let names = Names(self.snapshot);
                (type_oid, Deparser::new(self.tree, &names, &nothing)?.expr(node)?)
            };
            let base = self.snapshot.base_type(Oid(type_oid)).0;
            let plain =
                travels_as_text(base, self.snapshot) && !is_read_by_settings(Oid(base), self.snapshot);
            let known = type_sql(self.snapshot, base).filter(|_| plain);
            let cast = known.ok_or_else(|| Refusal::with(RefusalCode::CarriedType, "of a default"))?;
            questions.push(Question { sql, cast });
        }
        Ok(questions)
    }

    /// Where the key comes from. Columns of it that are not understood here become further columns of the query.
    fn place_key(
        &self,
        params: u16,
        plain: &Deparser<'a>,
        source: &mut String,
        columns: &mut Vec<Carriage>,
    ) -> Result<KeySource, Refusal> {
        let keys = self.relation.key_columns();
        let found = keys.iter().map(|key| self.key(params, columns.len(), key));
        let mut found = found.collect::<Result<Vec<Option<KeySource>>, Refusal>>()?;
        if found.iter().any(Option::is_none) {
            let own = columns.len();
            let mut computed = Vec::new();
            for (key, place) in keys.iter().zip(&mut found).filter(|(_, place)| place.is_none()) {
                computed.push(self.computed_key(key, columns)?);
                let index = params.checked_add(u16::try_from(columns.len()).unwrap_or(u16::MAX));
                let index = index.ok_or_else(|| Refusal::new(RefusalCode::TooComplex))?;
                *place = Some(KeySource::Param {
                    index,
                    key_type: key.key_type,
                });
            }
            // Numbers of drawn values come after those of all columns.
            let moved = u16::try_from(columns.len() - own).unwrap_or(u16::MAX);
            if !self.drawn.is_empty() && moved > 0 {
                return Err(Refusal::new(RefusalCode::InsertSelect));
            }
            *source = self.source_with_key(plain, &computed)?;
        }
        Ok(KeySource::of_columns(found.into_iter().flatten().collect()))
    }

    fn key_entry(&self, key: &KeyColumn) -> Result<Option<&'a Node>, Refusal> {
        let mut targets = self.tree.nodes("targetList")?.into_iter();
        let entry = targets.find(|t| t.i64("resno").is_ok_and(|r| r == i64::from(key.attnum)));
        Ok(entry.map(|t| t.node("expr")).transpose()?)
    }

    /// Where a column of the key comes from; `None`: the conversions on its way are not understood here.
    fn key(&self, params: u16, width: usize, key: &KeyColumn) -> Result<Option<KeySource>, Refusal> {
        let key_type = key.key_type;
        let Some(expr) = self.key_entry(key)? else {
            return Ok(Some(KeySource::Const {
                value: catalog::KeyValue::Null,
                location: None,
                key_type,
            }));
        };
        let count = |n: usize| u16::try_from(n).ok();
        let number = |node: &Node| -> Option<(u16, u32)> {
            let drawn = self.drawn.iter().position(|known| std::ptr::eq(*known, node));
            if let Some(at) = drawn {
                let (type_oid, _) = type_of(node)?;
                return Some((params.checked_add(count(width + at + 1)?)?, type_oid));
            }
            let var = as_var(node).filter(|var| var.levels_up == 0 && var.rtindex == self.index)?;
            let column = u16::try_from(var.attno).ok().filter(|at| *at > 0)?;
            Some((params.checked_add(column)?, node.oid("vartype").ok()?))
        };
        let mut reads_rows = false;
        expr.walk(|node| reads_rows |= number(node).is_some());
        let as_parameters = with_parameters(expr, &number);
        let found = key_source(&as_parameters, self.snapshot);
        let family = Some(key_type.family());
        let found = found.filter(|found| found.key_type().map(KeyType::family) == family);
        // The time of a literal that is relative to the clock was refused; a NULL constant has a place as well.
        Ok(match found {
            Some(
                KeySource::ParamArray { .. }
                | KeySource::Element { .. }
                | KeySource::Product { .. }
                | KeySource::SubKeys { .. },
            ) => None,
            Some(found) => Some(found),
            None if !reads_rows => return Err(Refusal::new(RefusalCode::KeyExpression)),
            None => None,
        })
    }

    /// A column of the key that the query has to compute.
    fn computed_key(&self, key: &KeyColumn, columns: &mut Vec<Carriage>) -> Result<&'a Node, Refusal> {
        let refuse = || Refusal::new(RefusalCode::InsertSelect);
        let expr = self.key_entry(key)?.ok_or_else(refuse)?;
        let (type_oid, _) = type_of(expr).ok_or_else(refuse)?;
        let family = self.snapshot.key_type(Oid(type_oid)).map(KeyType::family);
        if family != Some(key.key_type.family()) {
            return Err(refuse());
        }
        let mut column = carried(type_oid, self.snapshot)?;
        column.carried.array = None;
        columns.push(column);
        Ok(expr)
    }

    /// The query with further columns for the key.
    fn source_with_key(&self, plain: &Deparser<'a>, exprs: &[&'a Node]) -> Result<String, Refusal> {
        let computed = calls(self.query, self.snapshot, &HashSet::new());
        let once = computed.volatile.is_some() || computed.sequence;
        let distinct = !self.query.value("distinctClause").is_null();
        let whole = distinct || !self.query.value("setOperations").is_null();
        let with = !self.tree.value("cteList").is_null();
        if !(once || whole || with) {
            return self.flat_source_with_key(exprs);
        }
        let mut items = plain.columns(self.index)?;
        for expr in exprs {
            items.push(plain.expr(expr)?);
        }
        Ok(format!(
            "{}SELECT {} FROM {}",
            plain.with_clause()?,
            items.join(", "),
            plain.from_clause()?
        ))
    }

    /// The same without a subquery around it: easier to prove for many shards.
    fn flat_source_with_key(&self, exprs: &[&'a Node]) -> Result<String, Refusal> {
        let names = Names(self.snapshot);
        let nothing = Replace::nothing(self.snapshot);
        let mut parts = Deparser::new(self.query, &names, &nothing)?.select_parts()?;
        let visible = parts.items.iter().filter(|item| !item.junk);
        let items = Items {
            index: self.index,
            sql: visible.map(|item| item.expr.clone()).collect(),
        };
        let printer = Deparser::new(self.tree, &names, &items)?;
        for expr in exprs {
            parts.items.push(sql::SelectItem {
                expr: printer.expr(expr)?,
                name: None,
                junk: false,
                sort_group_ref: 0,
            });
        }
        Ok(parts.to_sql())
    }

    /// The FROM item that gives the rows from arrays, and how the drawn values are called beside it.
    fn rows_sql(
        &self,
        plain: &Deparser<'a>,
        columns: &[Carriage],
        questions: &[Question],
        first: u16,
    ) -> Result<(String, Vec<String>), Refusal> {
        let alias = quote_ident(&plain.alias(self.index)?);
        let mut references = Vec::new();
        let unnested = Unnested::of(columns, first)?;
        let (mut arrays, mut names, mut items) = (unnested.arrays, unnested.names, unnested.items);
        let mut at = unnested.last;
        for (number, question) in questions.iter().enumerate() {
            at = next(at)?;
            let name = format!("drover_drawn_{number}");
            arrays.push(format!("pg_catalog.unnest(${at}::pg_catalog.text[])"));
            items.push(format!("u.{name}::{} AS {name}", question.cast));
            references.push(format!("{alias}.{name}"));
            names.push(name);
        }
        let rows = format!(
            "(SELECT {} FROM ROWS FROM ({}) AS u({}))",
            items.join(", "),
            arrays.join(", "),
            names.join(", ")
        );
        Ok((rows, references))
    }
}

/// Rows from arrays: a FROM item named `u`, and the values of its columns.
pub(super) fn unnested(columns: &[Carriage], first: u16) -> Result<(String, Vec<String>), Refusal> {
    let found = Unnested::of(columns, first)?;
    let rows = format!(
        "ROWS FROM ({}) AS u({})",
        found.arrays.join(", "),
        found.names.join(", ")
    );
    Ok((rows, found.items))
}

struct Unnested {
    arrays: Vec<String>,
    names: Vec<String>,
    items: Vec<String>,
    /// The last parameter used.
    last: u16,
}

impl Unnested {
    fn of(columns: &[Carriage], first: u16) -> Result<Unnested, Refusal> {
        let mut out = Unnested {
            arrays: Vec::new(),
            names: Vec::new(),
            items: Vec::new(),
            last: first,
        };
        let stored = columns.iter().filter(|column| column.carried.array.is_some());
        for (number, column) in stored.enumerate() {
            out.last = next(out.last)?;
            let name = format!("c{number}");
            out.arrays
                .push(format!("pg_catalog.unnest(${}::{})", out.last, column.array_sql));
            out.items.push(match &column.cast {
                Some(cast) => format!("u.{name}::{cast}"),
                None => format!("u.{name}"),
            });
            out.names.push(name);
        }
        Ok(out)
    }
}

fn next(param: u16) -> Result<u16, Refusal> {
    param
        .checked_add(1)
        .ok_or_else(|| Refusal::new(RefusalCode::TooComplex))
}

/// A column of the query, and how it is written in the INSERT.
pub(super) struct Carriage {
    pub carried: Carried,
    pub array_sql: String,
    /// The type to which text is cast.
    pub cast: Option<String>,
}

impl Carriage {
    /// The type of the values on the shards, as SQL.
    pub fn type_sql(&self) -> &str {
        match &self.cast {
            Some(cast) => cast,
            None => self.array_sql.trim_end_matches("[]"),
        }
    }
}

/// A value drawn for each row.
struct Question {
    sql: String,
    /// The type to which its text is cast.
    cast: String,
}

/// Prints the INSERT with the arrays in the place of the query.
struct Fed<'r, 'a> {
    inner: Replace<'a>,
    index: usize,
    rows: String,
    drawn: &'r [&'a Node],
    references: Vec<String>,
}

impl sql::Rewriter for Fed<'_, '_> {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        let drawn = self.drawn.iter().position(|known| std::ptr::eq(*known, node));
        match drawn {
            Some(at) => self.references.get(at).cloned(),
            None => clock(node, self.inner.now, None),
        }
    }

    fn from_item(&self, item: &sql::FromItem<'_>) -> Option<String> {
        (item.level == 0 && item.rtindex == self.index).then(|| self.rows.clone())
    }
}

/// Prints what the query selects in the place of its columns.
struct Items {
    index: usize,
    sql: Vec<String>,
}

impl sql::Rewriter for Items {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        let var = as_var(node).filter(|var| var.levels_up == 0 && var.rtindex == self.index)?;
        let at = usize::try_from(var.attno).ok()?.checked_sub(1)?;
        self.sql.get(at).map(|sql| format!("({sql})"))
    }
}

/// The range table entry that an INSERT takes its rows from.
fn only_source(tree: &Node) -> Option<usize> {
    let from = tree.node("jointree").ok()?;
    let items = from.nodes("fromlist").ok()?;
    let [item] = items.as_slice() else { return None };
    let plain = item.is("RANGETBLREF") && from.value("quals").is_null();
    usize::try_from(item.i64("rtindex").ok()?).ok().filter(|_| plain)
}

/// The parts of the assigned values that no shard may compute for itself: sequences, and other volatile calls. (These can only
/// be defaults: what the client wrote is in the query.)
fn drawn_by<'a>(tree: &'a Node, snapshot: &Snapshot) -> Vec<&'a Node> {
    let mut out = Vec::new();
    for target in tree.nodes("targetList").unwrap_or_default() {
        let Some(expr) = target.value("expr").as_node() else {
            continue;
        };
        let before = out.len();
        expr.walk(|node| {
            if node.is("NEXTVALUEEXPR") || is_nextval(node) {
                out.push(node);
            }
        });
        let skip: HashSet<*const Node> = out[before..].iter().map(|n| std::ptr::from_ref(*n)).collect();
        let rest = calls(expr, snapshot, &skip);
        let mut reads_rows = false;
        expr.walk(|node| reads_rows |= node.is("VAR") || node.is("PARAM"));
        if rest.volatile.is_some() && !reads_rows {
            out.truncate(before);
            out.push(expr);
        }
    }
    out
}

fn is_nextval(node: &Node) -> bool {
    node.is("FUNCEXPR") && node.oid("funcid") == Ok(NEXTVAL)
}

fn nodes_of(value: &Value) -> Vec<&Node> {
    match value {
        Value::Node(node) => vec![node],
        Value::List(list) => list.iter().filter_map(Value::as_node).collect(),
        _ => Vec::new(),
    }
}

/// How a column travels: in binary form where a built-in type has one, else as text, where its text does not depend on
/// settings.
pub(super) fn carried(type_oid: u32, snapshot: &Snapshot) -> Result<Carriage, Refusal> {
    if type_oid == UNKNOWN {
        // A literal. The INSERT has its value as one of the column's type, and does not look at this.
        return Ok(Carriage {
            carried: Carried {
                binary: false,
                array: Some(TEXT),
                read_by_settings: false,
            },
            array_sql: "pg_catalog.text[]".to_owned(),
            cast: None,
        });
    }
    let base = snapshot.base_type(Oid(type_oid));
    let builtin = snapshot.type_info(base).is_some_and(|facts| facts.builtin);
    if builtin && let Ok(known) = travelling(base.0, snapshot) {
        return Ok(Carriage {
            carried: Carried {
                binary: true,
                array: Some((known.type_oid, known.array_oid)),
                read_by_settings: false,
            },
            array_sql: known.array_sql,
            cast: None,
        });
    }
    let refuse = || {
        let name = snapshot.type_info(base).map(|facts| facts.name.clone());
        Refusal::with(RefusalCode::CarriedType, name.unwrap_or_default())
    };
    if !travels_as_text(base.0, snapshot) {
        return Err(refuse());
    }
    Ok(Carriage {
        carried: Carried {
            binary: false,
            array: Some(TEXT),
            read_by_settings: is_read_by_settings(base, snapshot),
        },
        array_sql: "pg_catalog.text[]".to_owned(),
        cast: Some(type_sql(snapshot, base.0).ok_or_else(refuse)?),
    })
}

/// Whether what the text of a value means depends on a setting of who reads it: NULL in an array, xml that is no document.
fn is_read_by_settings(base: Oid, snapshot: &Snapshot) -> bool {
    let kind = snapshot.type_info(base).map(|facts| facts.kind);
    base.0 == XML || matches!(kind, Some(TypeKind::Array | TypeKind::Composite))
}

/// Whether the text of a type's values is the same under every setting of who prints it, and can be read back as the same value.
fn travels_as_text(type_oid: u32, snapshot: &Snapshot) -> bool {
    let Some(facts) = snapshot.type_info(Oid(type_oid)) else {
        return false;
    };
    match facts.kind {
        TypeKind::Base if facts.builtin => ALIKE.contains(&type_oid),
        TypeKind::Base | TypeKind::Enum => true,
        TypeKind::Array | TypeKind::Domain => {
            let inner = facts.element.or(facts.base);
            inner.is_some_and(|inner| travels_as_text(snapshot.base_type(inner).0, snapshot))
        }
        TypeKind::Composite => {
            let relation = facts.relation.and_then(|relation| snapshot.relation(relation));
            let alike = |column: &catalog::Column| {
                column.dropped || travels_as_text(snapshot.base_type(column.type_oid).0, snapshot)
            };
            relation.is_some_and(|relation| relation.columns.iter().all(alike))
        }
        _ => false,
    }
}

/// The expression with parameters in the place of the rows' columns and drawn values.
fn with_parameters(node: &Node, number: &dyn Fn(&Node) -> Option<(u16, u32)>) -> Node {
    if let Some((param, type_oid)) = number(node) {
        let field = |name: &str, value: String| (name.into(), Value::Atom(value.into()));
        return Node {
            name: "PARAM".into(),
            fields: vec![
                field("paramkind", "0".to_owned()),
                field("paramid", param.to_string()),
                field("paramtype", type_oid.to_string()),
                field("paramtypmod", "-1".to_owned()),
                field("paramcollid", "0".to_owned()),
                field("location", "-1".to_owned()),
            ],
        };
    }
    let fields = node.fields.iter().map(|(name, value)| {
        let value = match value {
            Value::Node(inner) => Value::Node(Box::new(with_parameters(inner, number))),
            Value::List(list) => Value::List(
                list.iter()
                    .map(|value| match value {
                        Value::Node(inner) => Value::Node(Box::new(with_parameters(inner, number))),
                        other => other.clone(),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        (name.clone(), value)
    });
    Node {
        name: node.name.clone(),
        fields: fields.collect(),
    }
}
