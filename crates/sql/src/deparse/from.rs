//! FROM: tables, subqueries, functions, joins.
#![allow(clippy::wrong_self_convention)] // `from_…` is about FROM here.

use super::printer::{Printed, Printer, rte_kind, unsupported};
use super::{DeparseError, FromItem};
use crate::nodes::{Node, Value};
use crate::quote_ident;

/// `JoinType` of the server.
const JOIN_INNER: i32 = 0;
const JOIN_LEFT: i32 = 1;
const JOIN_FULL: i32 = 2;
const JOIN_RIGHT: i32 = 3;

impl<'a> Printer<'a> {
    /// The FROM list of the innermost query; for UPDATE and DELETE without the target.
    pub(super) fn from_clause(&mut self, query: &'a Node) -> Printed {
        let target = query.i32("resultRelation")?;
        let mut items = Vec::new();
        for item in query.node("jointree")?.nodes("fromlist")? {
            if item.is("RANGETBLREF") && item.i32("rtindex")? == target {
                continue;
            }
            let text = self.from_item(item)?;
            if !text.is_empty() {
                items.push(text);
            }
        }
        Ok(items.join(", "))
    }

    pub(super) fn where_clause(&mut self, query: &'a Node) -> Result<Option<String>, DeparseError> {
        query
            .node("jointree")?
            .opt_node("quals")?
            .map(|q| self.expr(q))
            .transpose()
    }

    fn from_item(&mut self, item: &'a Node) -> Printed {
        match &*item.name {
            "RANGETBLREF" => {
                let index = usize::try_from(item.i32("rtindex")?).unwrap_or(0);
                self.table(item, index)
            }
            "JOINEXPR" => {
                self.enter(item)?;
                let printed = self.join(item);
                self.leave();
                printed
            }
            "FROMEXPR" => Err(unsupported(item, "nested FROM")),
            _ => Err(unsupported(item, "FROM item")),
        }
    }

    fn join(&mut self, n: &'a Node) -> Printed {
        let left = self.from_item(n.node("larg")?)?;
        let right = self.from_item(n.node("rarg")?)?;
        if left.is_empty() || right.is_empty() {
            return Err(unsupported(n, "join with an empty item"));
        }
        let kind = match n.i32("jointype")? {
            JOIN_INNER => "JOIN",
            JOIN_LEFT => "LEFT JOIN",
            JOIN_FULL => "FULL JOIN",
            JOIN_RIGHT => "RIGHT JOIN",
            _ => return Err(unsupported(n, "kind of join")),
        };
        let quals = match n.opt_node("quals")? {
            Some(quals) => self.expr(quals)?,
            None if kind == "JOIN" => return Ok(format!("({left} CROSS JOIN {right})")),
            None => "true".to_owned(),
        };
        Ok(format!("({left} {kind} {right} ON {quals})"))
    }

    fn table(&mut self, at: &'a Node, index: usize) -> Printed {
        let rte = self
            .rte(self.top(), index)
            .ok_or_else(|| unsupported(at, "range table index"))?;
        check_rte(rte)?;
        let kind = rte.i32("rtekind")?;
        if kind == rte_kind::RESULT {
            return Ok(String::new());
        }
        let lateral = if rte.bool("lateral")? { "LATERAL " } else { "" };
        if let Some(sql) = self.replaced(index, rte) {
            let alias = match kind {
                rte_kind::RELATION => quote_ident(&self.alias(index)?),
                _ => self.alias_list(rte, index)?,
            };
            return Ok(format!("{lateral}{sql} AS {alias}"));
        }
        let body = match kind {
            rte_kind::RELATION => return self.relation(rte, index),
            rte_kind::SUBQUERY => format!("({})", self.query(rte.node("subquery")?)?),
            rte_kind::FUNCTION => return self.function_item(rte, index, lateral),
            rte_kind::VALUES => format!("({})", self.values(rte)?),
            rte_kind::CTE => quote_ident(rte.str("ctename")?),
            _ => return Err(unsupported(rte, "kind of FROM item")),
        };
        Ok(format!("{lateral}{body} AS {}", self.alias_list(rte, index)?))
    }

    /// What the rewriter has in the place of an entry of the innermost query.
    pub(super) fn replaced(&self, rtindex: usize, rte: &Node) -> Option<String> {
        self.rewriter.from_item(&FromItem {
            rte,
            rtindex,
            level: self.top(),
            aliases: self
                .levels
                .last()
                .map(|l| l.aliases.as_slice())
                .unwrap_or_default(),
        })
    }

    /// `alias(columns)`.
    fn alias_list(&mut self, rte: &Node, index: usize) -> Printed {
        let alias = quote_ident(&self.alias(index)?);
        let columns = self.columns(index);
        if columns.iter().any(String::is_empty) {
            return Err(unsupported(rte, "dropped columns"));
        }
        if columns.is_empty() {
            return Ok(alias);
        }
        let columns: Vec<String> = columns.iter().map(|c| quote_ident(c)).collect();
        Ok(format!("{alias}({})", columns.join(", ")))
    }

    /// `[ONLY] schema.table AS alias [TABLESAMPLE …]`; columns keep their own names.
    pub(super) fn relation(&mut self, rte: &'a Node, index: usize) -> Printed {
        let name = self.relation_name(rte.oid("relid")?)?;
        let only = if rte.bool("inh")? { "" } else { "ONLY " };
        let alias = quote_ident(&self.alias(index)?);
        let sample = match rte.opt_node("tablesample")? {
            None => String::new(),
            Some(sample) => {
                let method = self.function_name(sample.oid("tsmhandler")?)?;
                let args = self.list(sample, "args")?;
                let repeatable = match sample.opt_node("repeatable")? {
                    Some(seed) => format!(" REPEATABLE ({})", self.expr(seed)?),
                    None => String::new(),
                };
                format!(" TABLESAMPLE {method}({args}){repeatable}")
            }
        };
        let table = format!("{only}{name} AS {alias}{sample}");
        // A join with one empty row keeps the table itself in sight: for its whole rows, its rights, and its primary key
        // in GROUP BY.
        Ok(match self.rewriter.restriction(rte, &alias) {
            None => table,
            Some(wanted) => format!(
                "({table} JOIN (SELECT) AS {} ON {})",
                quote_ident(&wanted.name),
                wanted.condition
            ),
        })
    }

    pub(super) fn values(&mut self, rte: &'a Node) -> Printed {
        let mut rows = Vec::new();
        for row in rte.list("values_lists")? {
            let row = row.as_list().ok_or_else(|| unsupported(rte, "row"))?;
            let nodes: Option<Vec<&Node>> = row.iter().map(Value::as_node).collect();
            let exprs = self.exprs(nodes.ok_or_else(|| unsupported(rte, "row"))?)?;
            rows.push(format!("({})", exprs.join(", ")));
        }
        Ok(format!("VALUES {}", rows.join(", ")))
    }

    fn function_item(&mut self, rte: &'a Node, index: usize, lateral: &str) -> Printed {
        let functions = rte.nodes("functions")?;
        let ordinality = if rte.bool("funcordinality")? {
            " WITH ORDINALITY"
        } else {
            ""
        };
        let mut calls = Vec::with_capacity(functions.len());
        let mut defined = Vec::new();
        for function in &functions {
            let call = function.node("funcexpr")?;
            if !call.is("FUNCEXPR") {
                return Err(unsupported(call, "as a table"));
            }
            calls.push(self.expr(call)?);
            defined.extend(self.column_definitions(function)?);
        }
        if !defined.is_empty() {
            if functions.len() > 1 || !ordinality.is_empty() {
                return Err(unsupported(rte, "column definitions of several functions"));
            }
            let alias = quote_ident(&self.alias(index)?);
            return Ok(format!(
                "{lateral}{} AS {alias}({})",
                calls.join(", "),
                defined.join(", ")
            ));
        }
        let alias = self.alias_list(rte, index)?;
        let body = match calls.as_slice() {
            [call] => call.clone(),
            _ => format!("ROWS FROM ({})", calls.join(", ")),
        };
        Ok(format!("{lateral}{body}{ordinality} AS {alias}"))
    }

    /// `name type [COLLATE …]` of a function that returns records.
    fn column_definitions(&mut self, function: &'a Node) -> Result<Vec<String>, DeparseError> {
        let names = function.list("funccolnames")?;
        let types = function.oids("funccoltypes")?;
        let typmods = function.ints("funccoltypmods")?;
        let collations = function.oids("funccolcollations")?;
        let mut out = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let name = name
                .as_str()
                .ok_or_else(|| unsupported(function, "column name"))?;
            let oid = *types.get(i).ok_or_else(|| unsupported(function, "column type"))?;
            let typmod = typmods.get(i).and_then(|t| i32::try_from(*t).ok()).unwrap_or(-1);
            let mut text = format!("{} {}", quote_ident(name), self.type_name(oid, typmod)?);
            if let Some(collation) = collations.get(i).filter(|c| **c != 0) {
                text.push_str(&format!(" COLLATE {}", self.collation_name(*collation)?));
            }
            out.push(text);
        }
        Ok(out)
    }
}

/// Refuses entries whose meaning the printed text would not carry.
pub(super) fn check_rte(rte: &Node) -> Result<(), DeparseError> {
    if rte.get("securityQuals").is_some_and(|q| !q.is_null()) {
        return Err(unsupported(rte, "row security"));
    }
    if rte.get("security_barrier").and_then(Value::as_str) == Some("true") {
        return Err(unsupported(rte, "security barrier view"));
    }
    Ok(())
}
