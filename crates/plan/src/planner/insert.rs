//! INSERT … VALUES into sharded and reference tables.

pub(super) mod drawn;

use std::collections::HashSet;

use catalog::{Identity, KeyColumn, KeyType, KeyValue, Oid, Placement, Relation};
use sql::{Deparser, Detail, Node, Value, quote_ident};

use super::Cx;
use super::calls::{NEXTVAL, calls};
use super::expr::{as_var, key_source, strip_casts};
use super::graph::is_time_constant;
use super::names::Names;
use super::rewrite::Replace;
use super::write;
use crate::{DrawnValue, KeySource, Many, NullKeys, Refusal, RefusalCode, SplitInsert, SplitRow, Target};

use drawn::{DrawnRows, Exact};

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
    let Placement::Sharded { map, key } = &rows.relation.placement else {
        return Err(Refusal::new(RefusalCode::ShardKeyColumn));
    };
    let places: Vec<KeyPlace> = key.iter().map(|column| KeyPlace::of(*column, rows)).collect();
    let mut computed = HashSet::new();
    for place in &places {
        computed.extend(computed_keys(cx, rows, *place));
    }
    let draws = !rows.sequence_nodes().is_empty() || !computed.is_empty();
    let mut keys = Vec::new();
    let printed = if draws {
        Some(print(cx, rows, &computed, clock_of(rows))?)
    } else {
        None
    };
    for at in 0..rows.rows.len() {
        let column = |place: &KeyPlace| key_of(cx, rows, at, *place, &computed, printed.as_ref());
        let columns = places.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        keys.push(KeySource::of_columns(columns));
    }
    let target = Target::Keys {
        map: *map,
        keys: keys.clone(),
        nulls: NullKeys::Placed,
    };
    if let Some(printed) = printed {
        let split = printed.split(keys);
        let text = split.whole();
        return Ok((target, text, many(cx, split)));
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

/// A column of the key, and where the rows have it.
#[derive(Debug, Clone, Copy)]
struct KeyPlace {
    key_type: KeyType,
    /// Among the columns of the rows; `None`: it is NULL in all of them.
    position: Option<usize>,
}

impl KeyPlace {
    fn of(column: KeyColumn, rows: &Rows<'_>) -> KeyPlace {
        KeyPlace {
            key_type: column.key_type,
            position: rows.columns.iter().position(|known| *known == column.attnum),
        }
    }
}

/// The value of a key column in a row.
fn key_of(
    cx: &Cx<'_>,
    rows: &Rows<'_>,
    at: usize,
    place: KeyPlace,
    computed: &HashSet<*const Node>,
    printed: Option<&Printed>,
) -> Result<KeySource, Refusal> {
    let drawn = |node: &Node| printed.and_then(|printed| printed.drawn.of(at, node));
    match place.position.map(|position| rows.rows[at][position]) {
        None => Ok(KeySource::Const {
            value: KeyValue::Null,
            location: None,
            key_type: place.key_type,
        }),
        Some(expr) if computed.contains(&std::ptr::from_ref(expr)) => drawn(expr)
            .map(|drawn| drawn.key(place.key_type))
            .ok_or_else(|| Refusal::new(RefusalCode::Unreadable)),
        Some(expr) => match drawn(strip_casts(expr)) {
            Some(drawn) => Ok(drawn.key(KeyType::Int8)),
            None => lasting_key(cx, expr)
                .ok_or_else(|| Refusal::with(RefusalCode::KeyExpression, format!("row {}", at + 1))),
        },
    }
}

/// A key that is the same when the text runs.
fn lasting_key(cx: &Cx<'_>, expr: &Node) -> Option<KeySource> {
    key_source(expr, cx.snapshot).filter(|key| !(cx.clocked && is_time_constant(key)))
}

fn many(cx: &Cx<'_>, split: SplitInsert) -> Many {
    if let Err(refusal) = write::may_be_spread(&cx.graph) {
        return Many::Refuse(refusal);
    }
    if !can_split(cx) {
        return Many::Refuse(Refusal::new(RefusalCode::SeveralShards));
    }
    Many::SplitInsert(split)
}

/// Whether the rows stand for themselves. (A reference table that is written counts as a relation of that kind.)
fn can_split(cx: &Cx<'_>) -> bool {
    let written = cx
        .graph
        .writes
        .iter()
        .any(|w| w.relation.is_some_and(|r| r.placement == Placement::Reference));
    let shapes = &cx.graph.shapes;
    !shapes.modifying_cte
        && shapes.subqueries == 0
        && cx.graph.reference == usize::from(written)
        && write::may_be_spread(&cx.graph).is_ok()
}

/// Keys that are neither constants nor parameters, but whose value PostgreSQL can say before any row is sent: the home
/// shard computes them, once for each row and with the conversion to the column's type, and the rows carry the result.
fn computed_keys(cx: &Cx<'_>, rows: &Rows<'_>, place: KeyPlace) -> HashSet<*const Node> {
    let Some(position) = place.position else {
        return HashSet::new();
    };
    let key_type = place.key_type;
    let cells = rows.rows.iter().map(|row| row[position]);
    let computable = cells.filter(|expr| {
        let of_key_type = super::columns::type_of(expr)
            .is_some_and(|(type_oid, _)| cx.snapshot.key_type(Oid(type_oid)) == Some(key_type));
        of_key_type && key_source(expr, cx.snapshot).is_none() && computable(expr, cx)
    });
    computable.map(std::ptr::from_ref).collect()
}

/// Whether an expression means the same wherever it is computed, and needs nothing to be. (What `random()` gives is as
/// good from one server as from another, as long as it is asked once for each row.)
fn computable(expr: &Node, cx: &Cx<'_>) -> bool {
    let mut closed = true;
    expr.walk(|node| {
        closed &= !["VAR", "PARAM", "SUBLINK", "AGGREF", "WINDOWFUNC", "SETTODEFAULT"]
            .iter()
            .any(|name| node.is(name));
    });
    let calls = remaining_calls(cx, expr);
    let culprit = calls.unproved.or(calls.about_server).or(calls.home_only);
    let clock = calls.now || calls.statement_time || calls.today;
    closed && culprit.is_none() && !clock && !calls.sequence && !calls.server_oid && !calls.system_column
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
            drawn: Vec::new(),
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
pub(super) struct Printed {
    head: String,
    rows: Vec<(String, Vec<DrawnValue>)>,
    tail: String,
    returning: bool,
    on_conflict: bool,
    drawn: DrawnRows,
}

impl Printed {
    fn split(self, keys: Vec<KeySource>) -> SplitInsert {
        SplitInsert {
            head: self.head,
            rows: self
                .rows
                .into_iter()
                .zip(keys)
                .map(|((sql, drawn), key)| SplitRow { key, sql, drawn })
                .collect(),
            tail: self.tail,
            returning: self.returning,
            keeps_order: self.returning && !self.on_conflict,
        }
    }

    /// The statement for every copy of a reference table: its text, unless literals have to be put into it first.
    pub fn everywhere(self) -> (Option<String>, Many) {
        let rows = self.rows.len();
        let split = self.split(vec![KeySource::placed(); rows]);
        match split.whole() {
            Some(text) => (Some(text), Many::Refuse(Refusal::new(RefusalCode::SeveralShards))),
            None => (None, Many::SplitInsert(split)),
        }
    }
}

impl SplitInsert {
    /// The whole statement, all rows; `None` when literals have to be put into it first.
    pub fn whole(&self) -> Option<String> {
        if self.rows.iter().any(|row| !row.drawn.is_empty()) {
            return None;
        }
        let rows: Vec<&str> = self.rows.iter().map(|r| r.sql.as_str()).collect();
        Some(format!("{}{}{}", self.head, rows.join(", "), self.tail))
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

/// A single row is on a single shard, and so are all rows of a placed table.
fn clock_of(rows: &Rows<'_>) -> Clock {
    if rows.rows.len() == 1 || rows.relation.placement.is_placed() {
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
) -> Result<Printed, Refusal> {
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
        Clock::Once => cx.replace()?,
        Clock::OfTheShard => Replace::nothing(cx.snapshot),
    };
    let drawn = drawn::all(cx, source, volatile, !can_split(cx))?;
    let object_names = Names(cx.snapshot);
    let exact = Exact::new(&drawn, &replace);
    let deparser = Deparser::new(cx.tree, &object_names, &exact)?;
    let mut rows = Vec::with_capacity(source.rows.len());
    for (row, cells) in source.rows.iter().enumerate() {
        exact.begin_row(row);
        let cells = cells
            .iter()
            .map(|cell| deparser.expr(cell))
            .collect::<Result<Vec<_>, _>>()?;
        rows.push(exact.end_row(&format!("({})", cells.join(", ")))?);
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

/// Calls left in the rows once sequences are replaced.
pub(super) fn remaining_calls(cx: &Cx<'_>, expr: &Node) -> super::calls::Calls {
    calls(expr, cx.snapshot, &HashSet::new())
}
