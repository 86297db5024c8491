//! MERGE.

use super::printer::{Printed, Printer, unsupported};
use crate::nodes::Node;
use crate::quote_ident;

impl<'a> Printer<'a> {
    pub(super) fn merge(&mut self, query: &'a Node) -> Printed {
        let with = self.lead(query)?;
        let (rte, index) = self.target(query)?;
        let relid = rte.oid("relid")?;
        let table = self.relation(rte, index)?;
        let source = self.from_clause(query)?;
        // Up to version 16 the condition is where that of a query is.
        let condition = match query.get("mergeJoinCondition").and_then(|value| value.as_node()) {
            Some(condition) => Some(self.expr(condition)?),
            None => self.where_clause(query)?,
        };
        let condition = condition.unwrap_or_else(|| "true".to_owned());
        let mut out = format!("{with}MERGE INTO {table} USING {source} ON {condition}");
        for action in query.nodes("mergeActionList")? {
            out.push_str(&self.merge_action(action, relid)?);
        }
        out.push_str(&self.returning(query)?);
        Ok(out)
    }

    fn merge_action(&mut self, action: &'a Node, relid: u32) -> Printed {
        // Up to version 16 a boolean, then a number.
        let matched = match (
            action.get("matched").and_then(|value| value.as_str()),
            action.get("matchKind").and_then(|value| value.as_str()),
        ) {
            (Some("true"), _) | (None, Some("0")) => "MATCHED",
            (Some("false"), _) | (None, Some("2")) => "NOT MATCHED",
            _ => return Err(unsupported(action, "kind of match")),
        };
        let condition = match action.opt_node("qual")? {
            Some(condition) => format!(" AND {}", self.expr(condition)?),
            None => String::new(),
        };
        let what = match action.i32("commandType")? {
            2 => format!("UPDATE SET {}", self.assignments(action, "targetList", relid)?),
            3 => self.merge_insert(action, relid)?,
            4 => "DELETE".to_owned(),
            7 => "DO NOTHING".to_owned(),
            _ => return Err(unsupported(action, "action")),
        };
        Ok(format!(" WHEN {matched}{condition} THEN {what}"))
    }

    fn merge_insert(&mut self, action: &'a Node, relid: u32) -> Printed {
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for target in action.nodes("targetList")? {
            let expr = target.node("expr")?;
            // An identity column's own default: a column left out gets it, too.
            if target.bool("resjunk")? || expr.is("NEXTVALUEEXPR") {
                continue;
            }
            columns.push(quote_ident(&self.table_column(relid, target.i32("resno")?)?));
            values.push(self.assigned(expr)?);
        }
        if columns.is_empty() {
            return Ok("INSERT DEFAULT VALUES".to_owned());
        }
        let overriding = match action.i32("override")? {
            0 => "",
            1 => " OVERRIDING USER VALUE",
            2 => " OVERRIDING SYSTEM VALUE",
            _ => return Err(unsupported(action, "OVERRIDING")),
        };
        Ok(format!(
            "INSERT ({}){overriding} VALUES ({})",
            columns.join(", "),
            values.join(", ")
        ))
    }
}
