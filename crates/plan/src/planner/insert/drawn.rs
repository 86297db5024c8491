//! Values that are computed once for each row before any row is sent: of sequences, of defaults that are made anew each time
//! they are asked for, of keys that are expressions.
//!
//! One value is a parameter. Those of many rows are asked for with one question, as an array whose elements become literals of
//! the rows, so that neither the number of questions nor that of parameters grows with the rows. Elements are in the order of the
//! rows, and within a row of its columns, which is the order in which PostgreSQL evaluates them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use catalog::{KeyType, Oid, Snapshot};
use sql::{Deparser, Node, Value};

use super::super::Cx;
use super::super::columns::{travelling, type_of};
use super::super::expr::strip_casts;
use super::super::names::{Names, type_sql};
use super::super::rewrite::{Replace, clock};
use super::Rows;
use crate::{DrawnValue, KeySource, PreludeSource, Refusal, RefusalCode};

/// A value computed beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    param: u16,
    /// From 1; `None`: the parameter is the value.
    element: Option<u32>,
    type_oid: u32,
}

impl Drawn {
    /// The value as a shard key.
    pub fn key(self, key_type: KeyType) -> KeySource {
        let index = self.param;
        match self.element {
            None => KeySource::Param { index, key_type },
            Some(element) => KeySource::Element {
                index,
                element,
                key_type,
            },
        }
    }
}

/// Which expressions of which rows are computed beforehand. (A default is one node for all rows.)
#[derive(Debug, Default)]
pub(super) struct DrawnRows {
    values: HashMap<(usize, *const Node), Drawn>,
}

impl DrawnRows {
    /// What stands for this expression of this row.
    pub fn of(&self, row: usize, node: &Node) -> Option<Drawn> {
        self.values.get(&(row, std::ptr::from_ref(node))).copied()
    }
}

/// One expression of one row that is to be computed.
struct Wish {
    row: usize,
    node: *const Node,
    question: Question,
}

/// What to ask, and for what type of value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Question {
    pub type_oid: u32,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// This expression, at home.
    Home(String),
    /// `drover.next_id()`.
    NextId,
}

/// Types whose text is the same under every setting, so that it can be a literal: bool, int8, int2, int4, text, character,
/// character varying, uuid.
const PRINTED_ALIKE: [u32; 8] = [16, 20, 21, 23, 25, 1042, 1043, 2950];

/// Parameters for each sequence and each node in `volatile`. `each`: every value is a parameter of its own.
pub(super) fn all<'a>(
    cx: &mut Cx<'a>,
    source: &Rows<'a>,
    volatile: &HashSet<*const Node>,
    each: bool,
) -> Result<DrawnRows, Refusal> {
    let mut nodes = Vec::new();
    for (row, node) in source.sequence_nodes() {
        nodes.push((row, node, true));
    }
    for (row, cells) in source.rows.iter().enumerate() {
        let wanted = cells
            .iter()
            .filter(|n| volatile.contains(&std::ptr::from_ref(**n)));
        nodes.extend(wanted.map(|node| (row, *node, false)));
    }
    let mut wishes = Vec::with_capacity(nodes.len());
    let mut known: HashMap<*const Node, Question> = HashMap::new();
    for (row, node, draws) in nodes {
        let pointer = std::ptr::from_ref(node);
        let question = match known.get(&pointer) {
            Some(question) => question.clone(),
            None if draws => sequence(node, cx.snapshot)?,
            None => expression(node, cx)?,
        };
        known.insert(pointer, question.clone());
        wishes.push(Wish {
            row,
            node: pointer,
            question,
        });
    }
    grant(cx, wishes, each)
}

/// Makes parameters of what is wished for: one for each type of value and kind of source.
fn grant(cx: &mut Cx<'_>, wishes: Vec<Wish>, each: bool) -> Result<DrawnRows, Refusal> {
    let mut groups: Vec<(u32, bool, Vec<Wish>)> = Vec::new();
    for wish in wishes {
        let (type_oid, made) = (wish.question.type_oid, wish.question.source == Source::NextId);
        match groups.iter_mut().find(|(t, m, _)| (*t, *m) == (type_oid, made)) {
            Some((_, _, group)) if !each && PRINTED_ALIKE.contains(&type_oid) => group.push(wish),
            _ => groups.push((type_oid, made, vec![wish])),
        }
    }
    let mut drawn = DrawnRows::default();
    for (type_oid, made, group) in groups {
        let many = group.len() > 1;
        let (carried, source) = parameter(cx, type_oid, made, &group)?;
        let param = cx.prelude.add(carried, source, false)?;
        for (wish, element) in group.iter().zip(1..) {
            let value = Drawn {
                param,
                element: many.then_some(element),
                type_oid,
            };
            drawn.values.insert((wish.row, wish.node), value);
        }
    }
    Ok(drawn)
}

/// Type and source of the parameter that carries the values of a group.
fn parameter(
    cx: &Cx<'_>,
    type_oid: u32,
    made: bool,
    group: &[Wish],
) -> Result<(u32, PreludeSource), Refusal> {
    let count = u32::try_from(group.len()).map_err(|_| Refusal::new(RefusalCode::TooComplex))?;
    let sql = |wish: &Wish| match &wish.question.source {
        Source::Home(sql) => sql.clone(),
        Source::NextId => String::new(),
    };
    if let [wish] = group {
        let source = match made {
            true => PreludeSource::NextIds { count },
            false => PreludeSource::HomeExpression { sql: sql(wish) },
        };
        return Ok((type_oid, source));
    }
    let array = cx.snapshot.type_info(Oid(type_oid)).and_then(|facts| facts.array);
    let array = array
        .ok_or_else(|| Refusal::new(RefusalCode::ReferenceVolatile))?
        .0;
    if made {
        return Ok((array, PreludeSource::NextIds { count }));
    }
    let first = group.first().map(sql).unwrap_or_default();
    let sql = if group.iter().all(|wish| sql(wish) == first) {
        format!("ARRAY(SELECT {first} FROM pg_catalog.generate_series(1, {count}))")
    } else {
        let each: Vec<String> = group.iter().map(sql).collect();
        format!("ARRAY[{}]", each.join(", "))
    };
    Ok((array, PreludeSource::HomeArray { sql }))
}

/// What draws the next value of a sequence.
pub(in super::super) fn sequence(node: &Node, snapshot: &Snapshot) -> Result<Question, Refusal> {
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
    let relation = snapshot.relation(Oid(sequence)).ok_or_else(refuse)?;
    let name = sql::QualifiedName::qualified(&relation.schema, &relation.name).to_string();
    let name = sql::quote_literal(&name);
    let sql = format!("pg_catalog.nextval({}::pg_catalog.regclass)", name.trim_start());
    Ok(Question {
        type_oid,
        source: Source::Home(sql),
    })
}

/// What gives the value of an expression, computed once on the home shard.
fn expression(node: &Node, cx: &Cx<'_>) -> Result<Question, Refusal> {
    let refuse = || Refusal::new(RefusalCode::ReferenceVolatile);
    let (type_oid, _) = type_of(node).ok_or_else(refuse)?;
    // The column converts it to its domain again.
    let type_oid = cx.snapshot.base_type(Oid(type_oid)).0;
    travelling(type_oid, cx.snapshot).map_err(|_| refuse())?;
    // It is a parameter on every shard, and only built-in types have the same OID everywhere.
    if !cx.snapshot.type_info(Oid(type_oid)).is_some_and(|t| t.builtin) {
        return Err(refuse());
    }
    if is_next_id(node, cx) {
        return Ok(Question {
            type_oid,
            source: Source::NextId,
        });
    }
    let replace = Replace::nothing(cx.snapshot);
    let names = Names(cx.snapshot);
    let sql = Deparser::new(cx.tree, &names, &replace)?.expr(node)?;
    if sql.contains('$') {
        return Err(refuse());
    }
    Ok(Question {
        type_oid,
        source: Source::Home(sql),
    })
}

fn is_next_id(node: &Node, cx: &Cx<'_>) -> bool {
    let function = node.is("FUNCEXPR").then(|| node.oid("funcid").ok()).flatten();
    function
        .and_then(|oid| cx.snapshot.function(Oid(oid)))
        .is_some_and(catalog::Function::is_next_id)
}

/// Replaces exactly the given nodes: equal expressions in other rows have values of their own.
pub(super) struct Exact<'r, 'a> {
    drawn: &'r DrawnRows,
    inner: &'r Replace<'a>,
    row: Cell<usize>,
    elements: RefCell<Vec<(u16, u32)>>,
}

/// Stands for the literal of an element while a row is printed.
const MARK: char = '\u{1}';

impl<'r, 'a> Exact<'r, 'a> {
    /// For the values of `drawn`.
    pub fn new(drawn: &'r DrawnRows, inner: &'r Replace<'a>) -> Self {
        Self {
            drawn,
            inner,
            row: Cell::new(0),
            elements: RefCell::default(),
        }
    }

    /// What is printed from now on belongs to this row.
    pub fn begin_row(&self, row: usize) {
        self.row.set(row);
        self.elements.borrow_mut().clear();
    }

    /// What was printed since, without the marks, and what belongs in their places.
    pub fn end_row(&self, printed: &str) -> Result<(String, Vec<DrawnValue>), Refusal> {
        let elements = self.elements.borrow();
        // As many marks as were made: none came from a constant.
        if printed.matches(MARK).count() != elements.len() {
            return Err(Refusal::new(RefusalCode::UnknownNode));
        }
        let mut sql = String::with_capacity(printed.len());
        let mut drawn = Vec::with_capacity(elements.len());
        let mut pieces = printed.split(MARK);
        sql.push_str(pieces.next().unwrap_or_default());
        for ((param, element), piece) in elements.iter().zip(pieces) {
            drawn.push(DrawnValue {
                at: sql.len(),
                param: *param,
                element: *element,
            });
            sql.push_str(piece);
        }
        Ok((sql, drawn))
    }
}

impl sql::Rewriter for Exact<'_, '_> {
    fn expression(&self, node: &Node, _level: usize) -> Option<String> {
        if let Some(drawn) = self.drawn.of(self.row.get(), node) {
            let name = type_sql(self.inner.snapshot, drawn.type_oid)?;
            return Some(match drawn.element {
                None => format!("(${}::{name})", drawn.param),
                Some(element) => {
                    self.elements.borrow_mut().push((drawn.param, element));
                    format!("({MARK}::{name})")
                }
            });
        }
        clock(node, self.inner.now, self.inner.statement_time)
    }
}
