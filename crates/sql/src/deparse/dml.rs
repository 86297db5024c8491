//! INSERT, UPDATE, DELETE.

use super::DeparseError;
use super::expr::IMPLICIT_CAST;
use super::from::check_rte;
use super::printer::{Printed, Printer, rte_kind, unsupported};
use crate::nodes::Node;
use crate::quote_ident;

/// Type `int4`.
const INT4: u32 = 23;
/// `OnConflictAction` of the server.
const CONFLICT_UPDATE: i32 = 2;

impl<'a> Printer<'a> {
    /// The target's entry, which must be a table.
    pub(super) fn target(&mut self, query: &'a Node) -> Result<(&'a Node, usize), DeparseError> {
        let index = usize::try_from(query.i32("resultRelation")?).unwrap_or(0);
        let rte = self
            .rte(self.top(), index)
            .ok_or_else(|| unsupported(query, "target"))?;
        check_rte(rte)?;
        if rte.i32("rtekind")? != rte_kind::RELATION {
            return Err(unsupported(rte, "target"));
        }
        Ok((rte, index))
    }

    pub(super) fn lead(&mut self, query: &'a Node) -> Printed {
        Ok(self.with(query)?.map(|w| format!("{w} ")).unwrap_or_default())
    }

    pub(super) fn insert(&mut self, query: &'a Node) -> Printed {
        let with = self.lead(query)?;
        Ok(format!("{with}{}", self.insert_body(query)?))
    }

    /// An INSERT without its WITH clause.
    pub(super) fn insert_body(&mut self, query: &'a Node) -> Printed {
        let (rte, index) = self.target(query)?;
        let relid = rte.oid("relid")?;
        let (mut columns, mut exprs) = (Vec::new(), Vec::new());
        let mut gives_identity = false;
        for target in query.nodes("targetList")? {
            let expr = target.node("expr")?;
            // An identity column's own default: a column left out gets it too, even when GENERATED ALWAYS.
            let own_default = expr.is("NEXTVALUEEXPR");
            if target.bool("resjunk")? || own_default && self.rewriter.expression(expr, self.top()).is_none()
            {
                continue;
            }
            gives_identity |= own_default;
            columns.push(quote_ident(&self.table_column(relid, target.i32("resno")?)?));
            exprs.push(self.assigned(expr)?);
        }
        let name = self.relation_name(relid)?;
        let alias = quote_ident(&self.alias(index)?);
        let mut out = format!("INSERT INTO {name} AS {alias}");
        let overriding = match query.i32("override")? {
            _ if gives_identity => " OVERRIDING SYSTEM VALUE",
            0 => "",
            1 => " OVERRIDING USER VALUE",
            2 => " OVERRIDING SYSTEM VALUE",
            _ => return Err(unsupported(query, "OVERRIDING")),
        };
        if columns.is_empty() {
            out.push_str(" DEFAULT VALUES");
        } else {
            let source = self.source(query, &exprs)?;
            out.push_str(&format!(" ({}){overriding} {source}", columns.join(", ")));
        }
        if let Some(conflict) = query.opt_node("onConflict")? {
            out.push_str(&self.on_conflict(conflict, relid, index)?);
        }
        out.push_str(&self.returning(query)?);
        Ok(out)
    }

    /// The query that an INSERT takes its rows from, with the WITH clause of the INSERT.
    pub(super) fn insert_source(&mut self, query: &'a Node, index: usize) -> Printed {
        let rte = self.rte(self.top(), index);
        let rte = rte.ok_or_else(|| unsupported(query, "source"))?;
        check_rte(rte)?;
        if rte.i32("rtekind")? != rte_kind::SUBQUERY {
            return Err(unsupported(rte, "source"));
        }
        let with = self.lead(query)?;
        let body = self.query(rte.node("subquery")?)?;
        Ok(match with.is_empty() {
            true => body,
            false => format!("{with}({body})"),
        })
    }

    /// The rows of an INSERT: a SELECT from whatever its tree selects from, which covers VALUES and queries alike.
    fn source(&mut self, query: &'a Node, exprs: &[String]) -> Printed {
        if let Some(rte) = self.whole_source(query)? {
            return match rte.i32("rtekind")? {
                rte_kind::VALUES => self.values(rte),
                _ => self.query(rte.node("subquery")?),
            };
        }
        let mut out = format!("SELECT {}", exprs.join(", "));
        let from = self.from_clause(query)?;
        if !from.is_empty() {
            out.push_str(&format!(" FROM {from}"));
        }
        if let Some(condition) = self.where_clause(query)? {
            out.push_str(&format!(" WHERE {condition}"));
        }
        Ok(out)
    }

    /// The subquery or VALUES list whose columns are inserted as they are, in order.
    fn whole_source(&self, query: &'a Node) -> Result<Option<&'a Node>, DeparseError> {
        let tree = query.node("jointree")?;
        let items = tree.nodes("fromlist")?;
        let [item] = items.as_slice() else { return Ok(None) };
        if !item.is("RANGETBLREF") || tree.opt_node("quals")?.is_some() {
            return Ok(None);
        }
        let index = usize::try_from(item.i32("rtindex")?).unwrap_or(0);
        let rte = self
            .rte(self.top(), index)
            .ok_or_else(|| unsupported(query, "source"))?;
        if !matches!(rte.i32("rtekind")?, rte_kind::SUBQUERY | rte_kind::VALUES) {
            return Ok(None);
        }
        check_rte(rte)?;
        if self.replaced(index, rte).is_some() {
            return Ok(None);
        }
        let mut next = 0;
        for target in query.nodes("targetList")? {
            let expr = target.node("expr")?;
            if expr.is("NEXTVALUEEXPR") {
                continue;
            }
            let expr = without_length(expr)?;
            next += 1;
            let in_order = expr.is("VAR")
                && usize::try_from(expr.i32("varno")?).is_ok_and(|v| v == index)
                && expr.i32("varattno")? == next
                && expr.i32("varlevelsup")? == 0;
            if !in_order || self.rewriter.expression(expr, self.top()).is_some() {
                return Ok(None);
            }
        }
        let columns = rte.node("eref")?.list("colnames")?.len();
        let all = usize::try_from(next).is_ok_and(|n| n == columns);
        Ok(all.then_some(rte))
    }

    /// The value of an assignment: not one to a field or element of the column.
    pub(super) fn assigned(&mut self, expr: &'a Node) -> Printed {
        match &*expr.name {
            "FIELDSTORE" => Err(unsupported(expr, "assignment to a field")),
            _ => self.expr(without_length(expr)?),
        }
    }

    fn on_conflict(&mut self, n: &'a Node, relid: u32, target: usize) -> Printed {
        let mut out = String::from(" ON CONFLICT");
        let constraint = n.oid("constraint")?;
        let elements = n.nodes("arbiterElems")?;
        if n.opt_node("arbiterWhere")?.is_some() {
            return Err(unsupported(n, "partial index"));
        }
        if constraint != 0 {
            let name = self.names.constraint(constraint);
            let name = name.ok_or(DeparseError::UnknownObject {
                kind: "constraint",
                oid: constraint,
            })?;
            out.push_str(&format!(" ON CONSTRAINT {}", quote_ident(&name)));
        } else if !elements.is_empty() {
            let mut columns = Vec::new();
            for element in elements {
                columns.push(self.arbiter(element, relid, target)?);
            }
            out.push_str(&format!(" ({})", columns.join(", ")));
        }
        if n.i32("action")? != CONFLICT_UPDATE {
            out.push_str(" DO NOTHING");
            return Ok(out);
        }
        let set = self.assignments(n, "onConflictSet", relid)?;
        out.push_str(&format!(" DO UPDATE SET {set}"));
        if let Some(condition) = n.opt_node("onConflictWhere")? {
            out.push_str(&format!(" WHERE {}", self.expr(condition)?));
        }
        Ok(out)
    }

    fn arbiter(&mut self, element: &'a Node, relid: u32, target: usize) -> Printed {
        let expr = element.node("expr")?;
        let plain = expr.is("VAR")
            && usize::try_from(expr.i32("varno")?).is_ok_and(|v| v == target)
            && element.oid("infercollid")? == 0
            && element.oid("inferopclass")? == 0;
        if !plain {
            return Err(unsupported(element, "conflict target"));
        }
        Ok(quote_ident(&self.table_column(relid, expr.i32("varattno")?)?))
    }

    pub(super) fn assignments(&mut self, n: &'a Node, field: &'static str, relid: u32) -> Printed {
        let mut out = Vec::new();
        for target in n.nodes(field)? {
            if target.bool("resjunk")? {
                continue;
            }
            let column = quote_ident(&self.table_column(relid, target.i32("resno")?)?);
            let expr = target.node("expr")?;
            let value = match expr.is("NEXTVALUEEXPR") {
                true => "DEFAULT".to_owned(),
                false => self.assigned(expr)?,
            };
            out.push(format!("{column} = {value}"));
        }
        if out.is_empty() {
            return Err(unsupported(n, "no assignment"));
        }
        Ok(out.join(", "))
    }

    pub(super) fn update(&mut self, query: &'a Node) -> Printed {
        let with = self.lead(query)?;
        let (rte, index) = self.target(query)?;
        let table = self.relation(rte, index)?;
        let set = self.assignments(query, "targetList", rte.oid("relid")?)?;
        let from = self.from_clause(query)?;
        let from = if from.is_empty() {
            from
        } else {
            format!(" FROM {from}")
        };
        let condition = self
            .where_clause(query)?
            .map(|c| format!(" WHERE {c}"))
            .unwrap_or_default();
        Ok(format!(
            "{with}UPDATE {table} SET {set}{from}{condition}{}",
            self.returning(query)?
        ))
    }

    pub(super) fn delete(&mut self, query: &'a Node) -> Printed {
        let with = self.lead(query)?;
        let (rte, index) = self.target(query)?;
        let table = self.relation(rte, index)?;
        let using = self.from_clause(query)?;
        let using = if using.is_empty() {
            using
        } else {
            format!(" USING {using}")
        };
        let condition = self
            .where_clause(query)?
            .map(|c| format!(" WHERE {c}"))
            .unwrap_or_default();
        Ok(format!(
            "{with}DELETE FROM {table}{using}{condition}{}",
            self.returning(query)?
        ))
    }

    pub(super) fn returning(&mut self, query: &'a Node) -> Printed {
        let mut items = Vec::new();
        for target in query.nodes("returningList")? {
            let name = match target.opt_str("resname")? {
                Some(name) => format!(" AS {}", quote_ident(name)),
                None => String::new(),
            };
            items.push(format!("{}{name}", self.expr(target.node("expr")?)?));
        }
        Ok(if items.is_empty() {
            String::new()
        } else {
            format!(" RETURNING {}", items.join(", "))
        })
    }
}

/// The expression without the cast to the column's length that every assignment adds by itself.
fn without_length(expr: &Node) -> Result<&Node, DeparseError> {
    if !expr.is("FUNCEXPR") || expr.i32("funcformat")? != IMPLICIT_CAST {
        return Ok(expr);
    }
    let args = expr.nodes("args")?;
    match args.as_slice() {
        [value, length, ..] if length.is("CONST") && length.oid("consttype")? == INT4 => Ok(value),
        _ => Ok(expr),
    }
}
