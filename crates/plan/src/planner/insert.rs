//! INSERT … VALUES into sharded and reference tables.

use std::collections::HashSet;

use catalog::{Identity, KeyType, KeyValue, Oid, Placement, Relation};
use sql::{Deparser, Detail, Node, Value, quote_ident};

use super::Cx;
use super::calls::{NEXTVAL, calls};
use super::expr::{as_var, key_source, strip_casts};
use super::graph::is_time_constant;
use super::names::Names;
use super::rewrite::{Replace, clock};
use crate::{KeySource, Many, NullKeys, PreludeSource, Refusal, RefusalCode, SplitInsert, SplitRow, Target};

/// The rows of an INSERT whose source is a VALUES list or a single row.
pub(super) struct Rows<'a> {
    pub relation: &'a Relation,
    /// Column numbers.
    pub columns: Vec<i16>,
    /// Expressions, in the order of `columns`.
    pub rows: Vec<Vec<&'a Node>>,
}

/// Reads the rows; `None` for INSERT … SELECT and what only looks like it.
pub(super) fn rows<'a>(tree: &'a Node, relation: &'a Relation) -> Result<Option<Rows<'a>>, Refusal> {
    let from = tree.node("jointree")?;
    let items = from.nodes("fromlist")?;
    let rtable = tree.nodes("rtable")?;
    let values = match items.as_slice() {
        [] if from.value("quals").is_null() => None,
        [item] if item.is("RANGETBLREF") && from.value("quals").is_null() => {
            let at = usize::try_from(item.i64("rtindex")?).unwrap_or(0);
            match rtable.get(at.wrapping_sub(1)) {
                Some(rte) if rte.value("rtekind").as_str() == Some("5") => Some((at, *rte)),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    let mut columns = Vec::new();
    let mut exprs = Vec::new();
    for target in tree.nodes("targetList")? {
        if target.bool("resjunk")? {
            continue;
        }
        let attno = i16::try_from(target.i64("resno")?).map_err(|_| Refusal::new(RefusalCode::Unreadable))?;
        columns.push(attno);
        exprs.push(target.node("expr")?);
    }
    let Some((rtindex, rte)) = values else {
        return Ok(Some(Rows {
            relation,
            columns,
            rows: vec![exprs],
        }));
    };
    let mut rows = Vec::new();
    for list in rte.list("values_lists")? {
        let cells = list.as_list().unwrap_or_default();
        let row = exprs.iter().map(|expr| match as_var(expr) {
            Some(var) if var.rtindex == rtindex && var.levels_up == 0 => {
                let cell = usize::try_from(var.attno)
                    .ok()
                    .and_then(|a| cells.get(a.wrapping_sub(1)));
                cell.and_then(Value::as_node)
            }
            _ => Some(*expr),
        });
        let row: Option<Vec<&Node>> = row.collect();
        rows.push(row.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?);
    }
    Ok(Some(Rows {
        relation,
        columns,
        rows,
    }))
}

impl<'a> Rows<'a> {
    /// Expressions that draw from a sequence, with the number of their row. (A default is one node for all rows.)
    fn sequence_nodes(&self) -> Vec<(usize, &'a Node)> {
        let mut out = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            for expr in row {
                expr.walk(|node| {
                    let draws = node.is("NEXTVALUEEXPR")
                        || (node.is("FUNCEXPR") && node.oid("funcid") == Ok(NEXTVAL));
                    if draws {
                        out.push((at, node));
                    }
                });
            }
        }
        out
    }
}

/// The expressions of the rows that are replaced by parameters, so that they do not count as calls.
pub(super) fn replaced(rows: Option<&Rows<'_>>) -> HashSet<*const Node> {
    let nodes = rows.map(Rows::sequence_nodes).unwrap_or_default();
    nodes
        .into_iter()
        .map(|(_, node)| std::ptr::from_ref(node))
        .collect()
}

/// Plan of an INSERT … VALUES into a sharded table: target, text for one shard, and the split.
pub(super) fn sharded<'a>(
    cx: &mut Cx<'a>,
    rows: &Rows<'a>,
) -> Result<(Target, Option<String>, Many), Refusal> {
    let (Some(key), Placement::Sharded { map, .. }) = (rows.relation.key_column(), &rows.relation.placement)
    else {
        return Err(Refusal::new(RefusalCode::ShardKeyColumn));
    };
    let position = rows.columns.iter().position(|c| *c == key.attnum);
    let computed = computed_keys(cx, rows, position, key.key_type);
    let draws = !rows.sequence_nodes().is_empty() || !computed.is_empty();
    let mut keys = Vec::new();
    let printed = if draws {
        Some(print(cx, rows, &computed, clock_of(rows))?)
    } else {
        None
    };
    for (at, row) in rows.rows.iter().enumerate() {
        let source = match position.map(|p| row[p]) {
            None => KeySource::Const {
                value: KeyValue::Null,
                location: None,
                key_type: key.key_type,
            },
            Some(expr) if computed.contains(&std::ptr::from_ref(expr)) => KeySource::Param {
                index: drawn(printed.as_ref(), at, expr)
                    .ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?,
                key_type: key.key_type,
            },
            Some(expr) => match drawn(printed.as_ref(), at, strip_casts(expr)) {
                Some(index) => KeySource::Param {
                    index,
                    key_type: KeyType::Int8,
                },
                None => lasting_key(cx, expr)
                    .ok_or_else(|| Refusal::with(RefusalCode::KeyExpression, format!("row {}", at + 1)))?,
            },
        };
        keys.push(source);
    }
    let target = Target::Keys {
        map: *map,
        keys: keys.clone(),
        nulls: NullKeys::Placed,
    };
    if let Some(printed) = printed {
        let split = printed.split(keys);
        let text = split.whole();
        return Ok((target, Some(text), many(cx, split)));
    }
    if rows.rows.len() == 1 {
        return Ok((
            target,
            None,
            Many::Refuse(Refusal::new(RefusalCode::SeveralShards)),
        ));
    }
    let split = if cx.relative_time() {
        Err(Refusal::with(RefusalCode::VolatileMany, "the current date"))
    } else if cx.calls.now || cx.calls.statement_time {
        print(cx, rows, &HashSet::new(), Clock::Once).map(|printed| printed.split(keys))
    } else {
        slices(cx, keys)
    };
    let many = match split {
        Ok(split) => many(cx, split),
        Err(refusal) => Many::Refuse(refusal),
    };
    Ok((target, None, many))
}

/// A key that is the same when the text runs.
fn lasting_key(cx: &Cx<'_>, expr: &Node) -> Option<KeySource> {
    key_source(expr, cx.snapshot).filter(|key| !(cx.clocked && is_time_constant(key)))
}

fn many(cx: &Cx<'_>, split: SplitInsert) -> Many {
    if cx.graph.shapes.modifying_cte || cx.graph.shapes.subqueries > 0 || cx.graph.reference > 0 {
        return Many::Refuse(Refusal::new(RefusalCode::SeveralShards));
    }
    Many::SplitInsert(split)
}

/// Keys that are neither constants nor parameters, but whose value PostgreSQL can say before any row is sent: the home
/// shard computes them, with the conversion to the column's type, and the rows carry the result.
fn computed_keys(
    cx: &Cx<'_>,
    rows: &Rows<'_>,
    position: Option<usize>,
    key_type: KeyType,
) -> HashSet<*const Node> {
    let Some(position) = position else {
        return HashSet::new();
    };
    let cells = rows.rows.iter().map(|row| row[position]);
    let computable = cells.filter(|expr| {
        let of_key_type = super::columns::type_of(expr)
            .is_some_and(|(type_oid, _)| cx.snapshot.key_type(Oid(type_oid)) == Some(key_type));
        of_key_type && key_source(expr, cx.snapshot).is_none() && computable(expr, cx)
    });
    computable.map(std::ptr::from_ref).collect()
}

/// Whether an expression has the same value wherever and whenever it is computed, and needs nothing to be.
fn computable(expr: &Node, cx: &Cx<'_>) -> bool {
    let mut closed = true;
    expr.walk(|node| {
        closed &= !["VAR", "PARAM", "SUBLINK", "AGGREF", "WINDOWFUNC", "SETTODEFAULT"]
            .iter()
            .any(|name| node.is(name));
    });
    let calls = remaining_calls(cx, expr);
    let culprit = calls
        .unproved
        .or(calls.about_server)
        .or(calls.home_only)
        .or(calls.volatile);
    let clock = calls.now || calls.statement_time || calls.today;
    closed && culprit.is_none() && !clock && !calls.sequence && !calls.server_oid && !calls.system_column
}

/// The parameter that stands for an expression.
fn drawn(printed: Option<&Printed<'_>>, row: usize, expr: &Node) -> Option<u16> {
    let found = printed?
        .drawn
        .iter()
        .find(|d| d.row == row && std::ptr::eq(d.node, expr));
    found.map(|d| d.param)
}

/// An expression of a row that a parameter stands for.
#[derive(Debug, Clone, Copy)]
struct Drawn<'a> {
    row: usize,
    node: &'a Node,
    param: u16,
}

/// The split by pieces of the client's text.
fn slices(cx: &Cx<'_>, keys: Vec<KeySource>) -> Result<SplitInsert, Refusal> {
    let refuse = || Refusal::new(RefusalCode::SeveralShards);
    let Detail::Insert(insert) = &cx.analyzed.raw.detail else {
        return Err(refuse());
    };
    let values = insert
        .values
        .as_ref()
        .filter(|v| v.plain && !insert.with)
        .ok_or_else(refuse)?;
    if values.rows.len() != keys.len() {
        return Err(refuse());
    }
    let text = cx.analyzed.text;
    let slice = |from: usize, to: usize| text.get(from..to).ok_or_else(refuse);
    let range = &cx.analyzed.raw.range;
    let rows = values.rows.iter().zip(keys).map(|(row, key)| {
        Ok(SplitRow {
            key,
            sql: slice(row.range.start, row.range.end)?.to_owned(),
        })
    });
    let rows = rows.collect::<Result<Vec<_>, Refusal>>()?;
    let tail = slice(values.range.end, range.end)?;
    // A comment that is not ended by a line break must not swallow what is appended.
    Ok(SplitInsert {
        head: slice(range.start, values.range.start)?.to_owned(),
        rows,
        tail: if tail.is_empty() {
            String::new()
        } else {
            format!("\n{tail}")
        },
        returning: insert.returning,
        keeps_order: insert.returning && !insert.on_conflict,
    })
}

/// An INSERT printed from its tree.
pub(super) struct Printed<'a> {
    head: String,
    rows: Vec<String>,
    tail: String,
    returning: bool,
    on_conflict: bool,
    drawn: Vec<Drawn<'a>>,
}

impl Printed<'_> {
    fn split(self, keys: Vec<KeySource>) -> SplitInsert {
        SplitInsert {
            head: self.head,
            rows: self
                .rows
                .into_iter()
                .zip(keys)
                .map(|(sql, key)| SplitRow { key, sql })
                .collect(),
            tail: self.tail,
            returning: self.returning,
            keeps_order: self.returning && !self.on_conflict,
        }
    }

    /// The whole statement.
    pub fn text(&self) -> String {
        format!("{}{}{}", self.head, self.rows.join(", "), self.tail)
    }
}

impl SplitInsert {
    /// The whole statement, all rows.
    pub fn whole(&self) -> String {
        let rows: Vec<&str> = self.rows.iter().map(|r| r.sql.as_str()).collect();
        format!("{}{}{}", self.head, rows.join(", "), self.tail)
    }
}

/// Who reads the clock for a printed INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// It is read once and passed as a parameter.
    Once,
    /// The one shard that runs the statement.
    OfTheShard,
}

/// A single row is on a single shard.
fn clock_of(rows: &Rows<'_>) -> Clock {
    if rows.rows.len() == 1 {
        Clock::OfTheShard
    } else {
        Clock::Once
    }
}

/// Prints an INSERT with sequences, the clock and the nodes in `volatile` replaced by parameters.
pub(super) fn print<'a>(
    cx: &mut Cx<'a>,
    source: &Rows<'a>,
    volatile: &HashSet<*const Node>,
    clock: Clock,
) -> Result<Printed<'a>, Refusal> {
    if cx.relative_time() {
        return Err(Refusal::with(RefusalCode::VolatileMany, "the current date"));
    }
    let refuse = |why: &str| Refusal::with(RefusalCode::Sequence, why);
    let Detail::Insert(insert) = &cx.analyzed.raw.detail else {
        return Err(refuse("not a plain INSERT"));
    };
    let plain = insert.values.as_ref().is_none_or(|v| v.plain);
    // Through a view, the columns of RETURNING have the view's names.
    let direct = insert.table.name == source.relation.name;
    if insert.with || insert.has_indirection || !plain || !direct {
        return Err(refuse("a view, WITH, or assignment to a part of a column"));
    }
    let replace = match clock {
        Clock::Once => cx.replace(),
        Clock::OfTheShard => Replace::nothing(cx.snapshot),
    };
    let drawn = draw_all(cx, source, volatile)?;
    let object_names = Names(cx.snapshot);
    let mut rows = Vec::new();
    for (row, cells) in source.rows.iter().enumerate() {
        let of_row = drawn.iter().copied().filter(|d| d.row == row).collect();
        let exact = Exact {
            drawn: of_row,
            prelude: &cx.prelude,
            inner: &replace,
        };
        let deparser = Deparser::new(cx.tree, &object_names, &exact)?;
        let cells = cells
            .iter()
            .map(|cell| deparser.expr(cell))
            .collect::<Result<Vec<_>, _>>()?;
        rows.push(format!("({})", cells.join(", ")));
    }
    let head = head(source, insert.alias.as_deref())?;
    Ok(Printed {
        head,
        rows,
        tail: tail(cx)?,
        returning: insert.returning,
        on_conflict: insert.on_conflict,
        drawn,
    })
}

/// `INSERT INTO table AS alias (columns) OVERRIDING SYSTEM VALUE VALUES `.
fn head(source: &Rows<'_>, alias: Option<&str>) -> Result<String, Refusal> {
    let relation = source.relation;
    let mut names = Vec::new();
    let mut overriding = false;
    for attno in &source.columns {
        let column = relation
            .column(*attno)
            .ok_or_else(|| Refusal::with(RefusalCode::Sequence, "unknown column"))?;
        overriding |= column.identity == Some(Identity::Always);
        names.push(quote_ident(&column.name));
    }
    let alias = alias
        .map(|a| format!(" AS {}", quote_ident(a)))
        .unwrap_or_default();
    let overriding = if overriding {
        " OVERRIDING SYSTEM VALUE"
    } else {
        ""
    };
    let table = sql::QualifiedName::qualified(&relation.schema, &relation.name);
    // An unaliased table goes by its name in RETURNING and ON CONFLICT; qualifying it changes nothing there.
    Ok(format!(
        "INSERT INTO {table}{alias} ({}){overriding} VALUES ",
        names.join(", ")
    ))
}

/// One parameter for each sequence and each node in `volatile`, in the order of the rows.
fn draw_all<'a>(
    cx: &mut Cx<'a>,
    source: &Rows<'a>,
    volatile: &HashSet<*const Node>,
) -> Result<Vec<Drawn<'a>>, Refusal> {
    let mut drawn = Vec::new();
    for (row, node) in source.sequence_nodes() {
        let (sql, type_oid) = draw(node, cx)?;
        let param = cx
            .prelude
            .add(type_oid, PreludeSource::HomeExpression { sql }, false);
        drawn.push(Drawn { row, node, param });
    }
    for (row, cells) in source.rows.iter().enumerate() {
        for node in cells
            .iter()
            .copied()
            .filter(|n| volatile.contains(&std::ptr::from_ref(*n)))
        {
            let param = home_value(cx, node)?;
            drawn.push(Drawn { row, node, param });
        }
    }
    Ok(drawn)
}

/// What follows the rows in the client's text.
fn tail(cx: &Cx<'_>) -> Result<String, Refusal> {
    let refuse = || Refusal::with(RefusalCode::Sequence, "the statement cannot be taken apart");
    let Detail::Insert(insert) = &cx.analyzed.raw.detail else {
        return Err(refuse());
    };
    if !insert.on_conflict && !insert.returning {
        return Ok(String::new());
    }
    let values = insert.values.as_ref().ok_or_else(refuse)?;
    let tail = cx
        .analyzed
        .text
        .get(values.range.end..cx.analyzed.raw.range.end)
        .ok_or_else(refuse)?;
    let words = tail.to_ascii_lowercase();
    if words.contains("now")
        || words.contains("current_")
        || words.contains("nextval")
        || words.contains("local")
    {
        return Err(Refusal::with(
            RefusalCode::Sequence,
            "the clock or a sequence after the rows",
        ));
    }
    Ok(format!("\n{tail}"))
}

/// SQL that draws the next value, and its type.
fn draw(node: &Node, cx: &Cx<'_>) -> Result<(String, u32), Refusal> {
    let refuse = || Refusal::with(RefusalCode::Sequence, "the sequence is not a constant");
    let (sequence, type_oid) = if node.is("NEXTVALUEEXPR") {
        (node.oid("seqid")?, node.oid("typeId")?)
    } else {
        let args = node.nodes("args")?;
        let arg = strip_casts(args.first().ok_or_else(refuse)?);
        let Value::Datum { bytes, .. } = arg.value("constvalue") else {
            return Err(refuse());
        };
        let oid = bytes
            .get(..4)
            .and_then(|b| <[u8; 4]>::try_from(b).ok())
            .ok_or_else(refuse)?;
        (u32::from_le_bytes(oid), 20)
    };
    let relation = cx.snapshot.relation(Oid(sequence)).ok_or_else(refuse)?;
    let name = sql::QualifiedName::qualified(&relation.schema, &relation.name).to_string();
    let name = sql::quote_literal(&name);
    Ok((
        format!("pg_catalog.nextval({}::pg_catalog.regclass)", name.trim_start()),
        type_oid,
    ))
}

/// A parameter with the value of an expression, computed once on the home shard.
pub(super) fn home_value(cx: &mut Cx<'_>, node: &Node) -> Result<u16, Refusal> {
    let refuse = || Refusal::new(RefusalCode::ReferenceVolatile);
    let (type_oid, _) = super::columns::type_of(node).ok_or_else(refuse)?;
    // The column converts it to its domain again.
    let type_oid = cx.snapshot.base_type(Oid(type_oid)).0;
    super::columns::travelling(type_oid, cx.snapshot).map_err(|_| refuse())?;
    // It is a parameter on every shard, and only built-in types have the same OID everywhere.
    if !cx.snapshot.type_info(Oid(type_oid)).is_some_and(|t| t.builtin) {
        return Err(refuse());
    }
    let replace = Replace::nothing(cx.snapshot);
    let names = Names(cx.snapshot);
    let sql = Deparser::new(cx.tree, &names, &replace)?.expr(node)?;
    if sql.contains('$') {
        return Err(refuse());
    }
    Ok(cx
        .prelude
        .add(type_oid, PreludeSource::HomeExpression { sql }, false))
}

/// Replaces exactly the given nodes: equal expressions in other rows have values of their own.
struct Exact<'r, 'a> {
    drawn: Vec<Drawn<'a>>,
    prelude: &'r super::rewrite::Prelude,
    inner: &'r Replace<'a>,
}

impl sql::Rewriter for Exact<'_, '_> {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        if let Some(drawn) = self.drawn.iter().find(|d| std::ptr::eq(d.node, node)) {
            let value = self.prelude.values.iter().find(|v| v.param == drawn.param)?;
            let name = super::names::type_sql(self.inner.snapshot, value.type_oid)?;
            return Some(format!("(${}::{name})", drawn.param));
        }
        clock(node, self.inner.now, self.inner.statement_time)
    }
}

/// Calls left in the rows once sequences are replaced.
pub(super) fn remaining_calls(cx: &Cx<'_>, expr: &Node) -> super::calls::Calls {
    calls(expr, cx.snapshot, &HashSet::new())
}
