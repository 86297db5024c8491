//! SELECT and set operations.

use super::expr::window_name;
use super::printer::{Printed, Printer, rte_kind, unsupported};
use super::{DeparseError, SelectItem, SelectParts};
use crate::nodes::{Node, Value};
use crate::quote_ident;

/// `CmdType` of the server.
const CMD_SELECT: i32 = 1;
const CMD_UPDATE: i32 = 2;
const CMD_INSERT: i32 = 3;
const CMD_DELETE: i32 = 4;
const CMD_MERGE: i32 = 5;

/// Bits of `frameOptions`.
mod frame {
    pub(super) const NON_DEFAULT: i32 = 0x1;
    pub(super) const RANGE: i32 = 0x2;
    pub(super) const ROWS: i32 = 0x4;
    pub(super) const BETWEEN: i32 = 0x10;
    pub(super) const START_UNBOUNDED_PRECEDING: i32 = 0x20;
    pub(super) const END_UNBOUNDED_FOLLOWING: i32 = 0x100;
    pub(super) const START_CURRENT_ROW: i32 = 0x200;
    pub(super) const END_CURRENT_ROW: i32 = 0x400;
    pub(super) const START_OFFSET_PRECEDING: i32 = 0x800;
    pub(super) const END_OFFSET_PRECEDING: i32 = 0x1000;
    pub(super) const START_OFFSET_FOLLOWING: i32 = 0x2000;
    pub(super) const END_OFFSET_FOLLOWING: i32 = 0x4000;
    pub(super) const EXCLUDE_CURRENT_ROW: i32 = 0x8000;
    pub(super) const EXCLUDE_GROUP: i32 = 0x10000;
    pub(super) const EXCLUDE_TIES: i32 = 0x20000;
}

impl<'a> Printer<'a> {
    /// A whole statement or subquery.
    pub(super) fn query(&mut self, query: &'a Node) -> Printed {
        self.enter(query)?;
        self.push(query)?;
        let printed = self.statement(query);
        self.pop();
        self.leave();
        printed
    }

    fn statement(&mut self, query: &'a Node) -> Printed {
        check_query(query)?;
        match query.i32("commandType")? {
            CMD_SELECT if query.opt_node("setOperations")?.is_some() => self.set_operation(query),
            CMD_SELECT => match self.plain_values(query)? {
                Some(values) => Ok(values),
                None => Ok(self.select_parts(query)?.to_sql()),
            },
            CMD_UPDATE => self.update(query),
            CMD_INSERT => self.insert(query),
            CMD_DELETE => self.delete(query),
            CMD_MERGE => self.merge(query),
            _ => Err(unsupported(query, "kind of statement")),
        }
    }

    pub(super) fn select_parts(&mut self, query: &'a Node) -> Result<SelectParts, DeparseError> {
        check_query(query)?;
        if query.i32("commandType")? != CMD_SELECT || query.opt_node("setOperations")?.is_some() {
            return Err(unsupported(query, "not a plain SELECT"));
        }
        let with = self.with(query)?;
        let targets = query.nodes("targetList")?;
        let mut items = Vec::with_capacity(targets.len());
        for target in &targets {
            items.push(SelectItem {
                expr: self.expr(target.node("expr")?)?,
                name: target.opt_str("resname")?.map(str::to_owned),
                junk: target.bool("resjunk")?,
                sort_group_ref: target.oid("ressortgroupref")?,
            });
        }
        Ok(SelectParts {
            with,
            distinct: self.distinct(query, &targets)?,
            items,
            from: self.from_clause(query)?,
            condition: self.where_clause(query)?,
            group_by: self.group_by(query, &targets)?,
            group_distinct: query.bool("groupDistinct")?,
            having: query.opt_node("havingQual")?.map(|h| self.expr(h)).transpose()?,
            windows: self.windows(query, &targets)?,
            order_by: self.order_by(&targets, query.nodes("sortClause")?)?,
            limit: query.opt_node("limitCount")?.map(|l| self.expr(l)).transpose()?,
            with_ties: query.i32("limitOption")? == 1,
            offset: query.opt_node("limitOffset")?.map(|l| self.expr(l)).transpose()?,
            locking: self.locking(query)?,
        })
    }

    fn target_expr(&mut self, targets: &[&'a Node], reference: u32, at: &Node) -> Printed {
        for target in targets {
            if target.oid("ressortgroupref")? == reference {
                return self.expr(target.node("expr")?);
            }
        }
        Err(unsupported(at, "reference to the select list"))
    }

    fn distinct(&mut self, query: &'a Node, targets: &[&'a Node]) -> Result<Option<String>, DeparseError> {
        let clauses = query.nodes("distinctClause")?;
        if clauses.is_empty() {
            return Ok(None);
        }
        if !query.bool("hasDistinctOn")? {
            return Ok(Some(String::new()));
        }
        let mut exprs = Vec::with_capacity(clauses.len());
        for clause in clauses {
            exprs.push(self.target_expr(targets, clause.oid("tleSortGroupRef")?, clause)?);
        }
        Ok(Some(exprs.join(", ")))
    }

    fn group_by(&mut self, query: &'a Node, targets: &[&'a Node]) -> Result<Vec<String>, DeparseError> {
        let sets = query.nodes("groupingSets")?;
        if !sets.is_empty() {
            return sets.into_iter().map(|s| self.grouping_set(s, targets)).collect();
        }
        let clauses = query.nodes("groupClause")?;
        let mut exprs = Vec::with_capacity(clauses.len());
        for clause in clauses {
            exprs.push(self.target_expr(targets, clause.oid("tleSortGroupRef")?, clause)?);
        }
        for (index, column) in self.rewriter.also_grouped(query) {
            let alias = quote_ident(&self.alias(index)?);
            exprs.push(format!("{alias}.{}", quote_ident(&column)));
        }
        Ok(exprs)
    }

    fn grouping_set(&mut self, set: &'a Node, targets: &[&'a Node]) -> Printed {
        let kind = set.i32("kind")?;
        match kind {
            0 => Ok("()".to_owned()),
            1 => {
                let mut exprs = Vec::new();
                for reference in set.ints("content")? {
                    let reference = u32::try_from(*reference).map_err(|_| unsupported(set, "reference"))?;
                    exprs.push(self.target_expr(targets, reference, set)?);
                }
                Ok(format!("({})", exprs.join(", ")))
            }
            2..=4 => {
                let mut inner = Vec::new();
                for child in set.nodes("content")? {
                    self.enter(child)?;
                    inner.push(self.grouping_set(child, targets)?);
                    self.leave();
                }
                let name = ["ROLLUP", "CUBE", "GROUPING SETS"][(kind - 2) as usize];
                Ok(format!("{name} ({})", inner.join(", ")))
            }
            _ => Err(unsupported(set, "kind of grouping set")),
        }
    }

    /// `expr USING OPERATOR(…) NULLS …` per sort clause.
    pub(super) fn order_by(
        &mut self,
        targets: &[&'a Node],
        clauses: Vec<&'a Node>,
    ) -> Result<Vec<String>, DeparseError> {
        let mut out = Vec::with_capacity(clauses.len());
        for clause in clauses {
            let expr = self.target_expr(targets, clause.oid("tleSortGroupRef")?, clause)?;
            out.push(self.sort_element(&expr, clause)?);
        }
        Ok(out)
    }

    fn sort_element(&mut self, expr: &str, clause: &'a Node) -> Printed {
        let op = self.operator_name(clause.oid("sortop")?)?;
        let nulls = if clause.bool("nulls_first")? {
            "FIRST"
        } else {
            "LAST"
        };
        Ok(format!("{expr} USING {op} NULLS {nulls}"))
    }

    fn windows(
        &mut self,
        query: &'a Node,
        targets: &[&'a Node],
    ) -> Result<Vec<(String, String)>, DeparseError> {
        let mut out = Vec::new();
        for window in query.nodes("windowClause")? {
            let mut spec = Vec::new();
            let mut partition = Vec::new();
            for clause in window.nodes("partitionClause")? {
                partition.push(self.target_expr(targets, clause.oid("tleSortGroupRef")?, clause)?);
            }
            if !partition.is_empty() {
                spec.push(format!("PARTITION BY {}", partition.join(", ")));
            }
            let order = self.order_by(targets, window.nodes("orderClause")?)?;
            if !order.is_empty() {
                spec.push(format!("ORDER BY {}", order.join(", ")));
            }
            spec.extend(self.frame(window)?);
            out.push((
                window_name(window.i32("winref")?),
                format!("({})", spec.join(" ")),
            ));
        }
        Ok(out)
    }

    fn frame(&mut self, window: &'a Node) -> Result<Option<String>, DeparseError> {
        let options = window.i32("frameOptions")?;
        let has = |bit: i32| options & bit != 0;
        if !has(frame::NON_DEFAULT) {
            return Ok(None);
        }
        let start_offset = window
            .opt_node("startOffset")?
            .map(|n| self.expr(n))
            .transpose()?;
        let end_offset = window.opt_node("endOffset")?.map(|n| self.expr(n)).transpose()?;
        let offset = |text: Option<String>, direction: &str| match text {
            Some(text) => Ok(format!("{text} {direction}")),
            None => Err(unsupported(window, "frame offset")),
        };
        let unit = if has(frame::RANGE) {
            "RANGE"
        } else if has(frame::ROWS) {
            "ROWS"
        } else {
            "GROUPS"
        };
        let start = match () {
            () if has(frame::START_UNBOUNDED_PRECEDING) => "UNBOUNDED PRECEDING".to_owned(),
            () if has(frame::START_CURRENT_ROW) => "CURRENT ROW".to_owned(),
            () if has(frame::START_OFFSET_PRECEDING) => offset(start_offset, "PRECEDING")?,
            () if has(frame::START_OFFSET_FOLLOWING) => offset(start_offset, "FOLLOWING")?,
            () => return Err(unsupported(window, "frame start")),
        };
        let end = match () {
            () if has(frame::END_UNBOUNDED_FOLLOWING) => "UNBOUNDED FOLLOWING".to_owned(),
            () if has(frame::END_CURRENT_ROW) => "CURRENT ROW".to_owned(),
            () if has(frame::END_OFFSET_PRECEDING) => offset(end_offset, "PRECEDING")?,
            () if has(frame::END_OFFSET_FOLLOWING) => offset(end_offset, "FOLLOWING")?,
            () => return Err(unsupported(window, "frame end")),
        };
        let exclude = match () {
            () if has(frame::EXCLUDE_CURRENT_ROW) => " EXCLUDE CURRENT ROW",
            () if has(frame::EXCLUDE_GROUP) => " EXCLUDE GROUP",
            () if has(frame::EXCLUDE_TIES) => " EXCLUDE TIES",
            () => "",
        };
        Ok(Some(match has(frame::BETWEEN) {
            true => format!("{unit} BETWEEN {start} AND {end}{exclude}"),
            false => format!("{unit} {start}{exclude}"),
        }))
    }

    fn locking(&mut self, query: &'a Node) -> Result<Vec<String>, DeparseError> {
        let mut out = Vec::new();
        for mark in query.nodes("rowMarks")? {
            // Marks that come from the lock of an enclosing query come back by themselves.
            if mark.bool("pushedDown")? {
                continue;
            }
            let strength = match mark.i32("strength")? {
                1 => "KEY SHARE",
                2 => "SHARE",
                3 => "NO KEY UPDATE",
                4 => "UPDATE",
                _ => return Err(unsupported(mark, "strength")),
            };
            let wait = match mark.i32("waitPolicy")? {
                0 => "",
                1 => " SKIP LOCKED",
                2 => " NOWAIT",
                _ => return Err(unsupported(mark, "wait policy")),
            };
            let alias = self.alias(usize::try_from(mark.i32("rti")?).unwrap_or(0))?;
            out.push(format!("FOR {strength} OF {}{wait}", quote_ident(&alias)));
        }
        Ok(out)
    }

    /// `WITH [RECURSIVE] …`.
    pub(super) fn with(&mut self, query: &'a Node) -> Result<Option<String>, DeparseError> {
        let ctes = query.nodes("cteList")?;
        if ctes.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(ctes.len());
        for cte in ctes {
            for clause in ["search_clause", "cycle_clause"] {
                if cte.get(clause).is_some_and(|c| !c.is_null()) {
                    return Err(unsupported(cte, clause));
                }
            }
            let materialized = match cte.i32("ctematerialized")? {
                1 => "MATERIALIZED ",
                2 => "NOT MATERIALIZED ",
                _ => "",
            };
            let name = quote_ident(cte.str("ctename")?);
            let columns: Vec<String> = cte
                .list("ctecolnames")?
                .iter()
                .filter_map(Value::as_str)
                .map(quote_ident)
                .collect();
            let columns = if columns.is_empty() {
                String::new()
            } else {
                format!("({})", columns.join(", "))
            };
            out.push(format!(
                "{name}{columns} AS {materialized}({})",
                self.query(cte.node("ctequery")?)?
            ));
        }
        let recursive = if query.bool("hasRecursive")? {
            "RECURSIVE "
        } else {
            ""
        };
        Ok(Some(format!("WITH {recursive}{}", out.join(", "))))
    }

    /// A query that is nothing but `VALUES (…), …`, possibly sorted and limited.
    fn plain_values(&mut self, query: &'a Node) -> Result<Option<String>, DeparseError> {
        let tree = query.node("jointree")?;
        let items = tree.nodes("fromlist")?;
        let [item] = items.as_slice() else { return Ok(None) };
        if !item.is("RANGETBLREF") || tree.opt_node("quals")?.is_some() {
            return Ok(None);
        }
        let index = item.i32("rtindex")?;
        let rte = self.rte(self.top(), usize::try_from(index).unwrap_or(0));
        let Some(rte) = rte else { return Ok(None) };
        let clauses = [
            "groupClause",
            "groupingSets",
            "windowClause",
            "distinctClause",
            "rowMarks",
            "havingQual",
        ];
        let bare = clauses.iter().all(|c| query.value(c).is_null());
        let position = usize::try_from(index).unwrap_or(0);
        let replaced = self.replaced(position, rte).is_some();
        if rte.i32("rtekind")? != rte_kind::VALUES || !bare || replaced {
            return Ok(None);
        }
        let targets = query.nodes("targetList")?;
        for (i, target) in targets.iter().enumerate() {
            let expr = target.node("expr")?;
            let number = i32::try_from(i + 1).unwrap_or(-1);
            let in_order = expr.is("VAR")
                && expr.i32("varno")? == index
                && expr.i32("varattno")? == number
                && expr.i32("varlevelsup")? == 0
                && !target.bool("resjunk")?
                && target.opt_str("resname")? == Some(format!("column{number}").as_str());
            if !in_order || self.rewriter.expression(expr, self.top()).is_some() {
                return Ok(None);
            }
        }
        if targets.len() != rte.node("eref")?.list("colnames")?.len() {
            return Ok(None);
        }
        let with = self.with(query)?.map(|w| format!("{w} ")).unwrap_or_default();
        Ok(Some(format!(
            "{with}{}{}",
            self.values(rte)?,
            self.numbered_tail(query)?
        )))
    }

    fn set_operation(&mut self, query: &'a Node) -> Printed {
        let with = self.with(query)?.map(|w| format!("{w} ")).unwrap_or_default();
        let body = self.set_tree(query.node("setOperations")?)?;
        Ok(format!("{with}{body}{}", self.numbered_tail(query)?))
    }

    /// ORDER BY, LIMIT and so on of a query whose output columns can only be sorted by number.
    fn numbered_tail(&mut self, query: &'a Node) -> Printed {
        let targets = query.nodes("targetList")?;
        let mut order = Vec::new();
        for clause in query.nodes("sortClause")? {
            // Only output columns can be sorted by here; by number they need no name.
            let reference = clause.oid("tleSortGroupRef")?;
            let mut number = None;
            for target in &targets {
                if target.oid("ressortgroupref")? == reference && !target.bool("resjunk")? {
                    number = Some(target.i32("resno")?);
                }
            }
            let number = number.ok_or_else(|| unsupported(clause, "reference to the select list"))?;
            order.push(self.sort_element(&number.to_string(), clause)?);
        }
        let tail = SelectParts {
            order_by: order,
            limit: query.opt_node("limitCount")?.map(|l| self.expr(l)).transpose()?,
            with_ties: query.i32("limitOption")? == 1,
            offset: query.opt_node("limitOffset")?.map(|l| self.expr(l)).transpose()?,
            locking: self.locking(query)?,
            ..SelectParts::default()
        };
        Ok(tail.tail())
    }

    fn set_tree(&mut self, node: &'a Node) -> Printed {
        if node.is("RANGETBLREF") {
            let index = usize::try_from(node.i32("rtindex")?).unwrap_or(0);
            let rte = self
                .rte(self.top(), index)
                .ok_or_else(|| unsupported(node, "range table index"))?;
            if rte.i32("rtekind")? != rte_kind::SUBQUERY {
                return Err(unsupported(rte, "operand of a set operation"));
            }
            return Ok(format!("({})", self.query(rte.node("subquery")?)?));
        }
        if !node.is("SETOPERATIONSTMT") {
            return Err(unsupported(node, "set operation"));
        }
        self.enter(node)?;
        let operation = match node.i32("op")? {
            1 => "UNION",
            2 => "INTERSECT",
            3 => "EXCEPT",
            _ => return Err(unsupported(node, "operation")),
        };
        let all = if node.bool("all")? { " ALL" } else { "" };
        let mut sides = Vec::new();
        for side in [node.node("larg")?, node.node("rarg")?] {
            let text = self.set_tree(side)?;
            sides.push(if side.is("RANGETBLREF") {
                text
            } else {
                format!("({text})")
            });
        }
        self.leave();
        Ok(format!("{} {operation}{all} {}", sides[0], sides[1]))
    }
}

/// Refuses queries whose meaning the printed text would not carry.
fn check_query(query: &Node) -> Result<(), DeparseError> {
    if query.get("utilityStmt").is_some_and(|u| !u.is_null()) {
        return Err(unsupported(query, "utility statement"));
    }
    if query.bool("hasRowSecurity")? {
        return Err(unsupported(query, "row security"));
    }
    if query.get("withCheckOptions").is_some_and(|u| !u.is_null()) {
        return Err(unsupported(query, "WITH CHECK OPTION"));
    }
    Ok(())
}
