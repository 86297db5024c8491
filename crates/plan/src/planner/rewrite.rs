//! Replacing parts of a tree while it is printed.

use catalog::{Oid, Snapshot};
use sql::{FromItem, Node, Restriction, Rewriter};

use super::calls::{NOW, STATEMENT_TIME};
use super::expr::same_expr;
use super::own::Own;
use crate::{PreludeSource, PreludeValue, Refusal, RefusalCode};

/// Parameters beyond the client's own: values computed once.
#[derive(Debug, Default, Clone)]
pub(super) struct Prelude {
    pub values: Vec<PreludeValue>,
    /// Number of the last parameter of the client's text.
    pub params: u16,
}

impl Prelude {
    /// A parameter for a value; the same value is asked for once only when `shared`.
    pub fn add(&mut self, type_oid: u32, source: PreludeSource, shared: bool) -> Result<u16, Refusal> {
        if shared && let Some(known) = self.values.iter().find(|v| v.source == source) {
            return Ok(known.param);
        }
        let last = u16::try_from(self.values.len())
            .ok()
            .and_then(|count| self.params.checked_add(count));
        // The protocol counts parameters in 16 bits.
        let param = last
            .and_then(|last| last.checked_add(1))
            .ok_or_else(|| Refusal::new(RefusalCode::TooComplex))?;
        self.values.push(PreludeValue {
            param,
            type_oid,
            source,
        });
        Ok(param)
    }
}

/// Prints views by name and replaces the clock and given expressions.
pub(super) struct Replace<'a> {
    pub snapshot: &'a Snapshot,
    /// Expressions of the outermost query and what stands for them.
    pub nodes: Vec<(&'a Node, String)>,
    /// Parameter with the transaction's start time.
    pub now: Option<u16>,
    /// Parameter with the statement's start time.
    pub statement_time: Option<u16>,
    /// Reference tables of which each shard counts its own rows.
    pub own: Vec<Own<'a>>,
}

impl<'a> Replace<'a> {
    pub fn nothing(snapshot: &'a Snapshot) -> Replace<'a> {
        Replace {
            snapshot,
            nodes: Vec::new(),
            now: None,
            statement_time: None,
            own: Vec::new(),
        }
    }
}

impl Rewriter for Replace<'_> {
    fn expression(&self, node: &Node, level: usize) -> Option<String> {
        if level == 0
            && let Some((_, text)) = self.nodes.iter().find(|(known, _)| same_expr(known, node))
        {
            return Some(text.clone());
        }
        clock(node, self.now, self.statement_time)
    }

    fn from_item(&self, item: &FromItem<'_>) -> Option<String> {
        let view = view_of(item.rte, self.snapshot)?;
        let relation = self.snapshot.relation(Oid(view))?;
        Some(sql::QualifiedName::qualified(&relation.schema, &relation.name).to_string())
    }

    fn restriction(&self, rte: &Node, alias: &str) -> Option<Restriction> {
        self.own_rows(rte, alias)
    }
}

/// The clock as a parameter.
pub(super) fn clock(node: &Node, now: Option<u16>, statement_time: Option<u16>) -> Option<String> {
    if node.is("FUNCEXPR") {
        let function = node.oid("funcid").ok()?;
        return match (now, statement_time) {
            (Some(param), _) if NOW.contains(&function) => Some(time(param, "timestamptz", -1)),
            (_, Some(param)) if function == STATEMENT_TIME => Some(time(param, "timestamptz", -1)),
            _ => None,
        };
    }
    if !node.is("SQLVALUEFUNCTION") {
        return None;
    }
    let typmod = node.i32("typmod").ok()?;
    let target = match node.i64("op").ok()? {
        0 => "date",
        1 | 2 => "timetz",
        3 | 4 => "timestamptz",
        5 | 6 => "time",
        7 | 8 => "timestamp",
        _ => return None,
    };
    now.map(|param| time(param, target, typmod))
}

fn time(param: u16, target: &str, typmod: i32) -> String {
    let value = format!("${param}::pg_catalog.timestamptz");
    match (target, typmod) {
        ("timestamptz", typmod) if typmod < 0 => format!("({value})"),
        (target, typmod) if typmod < 0 => format!("(({value})::pg_catalog.{target})"),
        (target, typmod) => format!("(({value})::pg_catalog.{target}({typmod}))"),
    }
}

/// The view that an entry was before it was expanded: printing its name keeps the rights of its owner.
pub(super) fn view_of(rte: &Node, snapshot: &Snapshot) -> Option<u32> {
    let body = rte.value("subquery").as_node()?;
    // From version 16 on, the entry keeps the view's OID.
    if let Some(oid) = rte
        .get("relid")
        .and_then(sql::Value::as_i64)
        .and_then(|o| u32::try_from(o).ok())
        && oid != 0
    {
        return Some(oid);
    }
    let first = *body.nodes("rtable").ok()?.first()?;
    let placeholder = first
        .value("alias")
        .as_node()
        .and_then(|a| a.value("aliasname").as_str())
        == Some("old")
        && first.value("relkind").as_str() == Some("v")
        && first.value("inFromCl").as_str() == Some("false");
    let oid = first.oid("relid").ok()?;
    (placeholder && snapshot.relation(Oid(oid)).is_some()).then_some(oid)
}
