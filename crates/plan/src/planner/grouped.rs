//! Aggregates over several shards: partial groups there, whole groups here.

use sql::deparse::SelectItem;
use sql::{Deparser, Node, Rewriter, Value};

use super::Cx;
use super::aggregate::{each_aggregate, split};
use super::columns::type_of;
use super::expr::{as_column, as_var, contains, same_expr};
use super::graph::KeyCols;
use super::level::{Env, Level};
use super::names::Names;
use super::rows::{Finish, order_element, sort_clause, unknown_type};
use crate::{Combine, Many, Refusal, RefusalCode, RowsPlan};

/// Plans a grouped query whose groups can span shards.
pub(super) fn plan(cx: &mut Cx<'_>, anchor: &[KeyCols]) -> Result<Many, Refusal> {
    let query = cx.tree;
    if query.bool("hasTargetSRFs")? {
        return Err(Refusal::with(
            RefusalCode::UnexpectedClause,
            "a set-returning function beside aggregates",
        ));
    }
    for field in ["targetList", "havingQual", "limitCount", "limitOffset"] {
        if contains(query.value(field), "SUBLINK") {
            return Err(Refusal::with(RefusalCode::Subquery, "beside aggregates"));
        }
    }
    match halves(cx, anchor) {
        // What has no halves is computed from the rows themselves.
        Err(refusal) if refusal.code == RefusalCode::Aggregate => pulled(cx).map_err(|why| {
            if why.code == RefusalCode::FinishType {
                why
            } else {
                refusal
            }
        }),
        planned => planned,
    }
}

/// Partial groups from the shards.
fn halves(cx: &mut Cx<'_>, anchor: &[KeyCols]) -> Result<Many, Refusal> {
    let query = cx.tree;
    let replace = cx.replace()?;
    let names = Names(cx.snapshot);
    let deparser = Deparser::new(query, &names, &replace)?;
    let mut finish = Finish::new(cx);
    let (mut items, mut known) = group_columns(cx, &deparser, &mut finish)?;
    let group_by = items.clone();
    for agg in aggregates(query) {
        if known.iter().any(|(node, _)| same_expr(node, agg)) {
            continue;
        }
        let by_key = distinct_is_key(cx, agg, anchor);
        let halves = split(agg, by_key, &deparser, cx.snapshot)?;
        let mut whole = halves.whole;
        for (at, (sql, type_oid)) in halves.partials.into_iter().enumerate() {
            let text = finish.input(cx, type_oid, 0)?;
            items.push(sql);
            whole = whole.replace(&format!("{{{at}}}"), &text);
        }
        known.push((agg, format!("({whole})")));
    }
    let shard_sql = shard_sql(&deparser, items, group_by)?;
    let whole_groups = Whole {
        known,
        rows: false,
        inner: cx.replace()?,
    };
    whole(cx, finish, &whole_groups, shard_sql)
}

/// The columns that groups and aggregates are made of, row by row; PostgreSQL groups and aggregates them.
fn pulled(cx: &mut Cx<'_>) -> Result<Many, Refusal> {
    let query = cx.tree;
    let replace = cx.replace()?;
    let names = Names(cx.snapshot);
    let deparser = Deparser::new(query, &names, &replace)?;
    let mut finish = Finish::new(cx);
    let (mut items, mut known) = group_columns(cx, &deparser, &mut finish)?;
    for agg in aggregates(query) {
        let grouped: Vec<&Node> = known.iter().map(|(node, _)| *node).collect();
        let mut columns = Vec::new();
        agg.fields
            .iter()
            .for_each(|(_, value)| loose_columns(value, &grouped, &mut columns));
        for column in columns {
            if known.iter().any(|(node, _)| same_expr(node, column)) {
                continue;
            }
            let (type_oid, collation) = type_of(column).ok_or_else(|| unknown_type(column))?;
            let text = finish.input(cx, type_oid, collation)?;
            items.push(deparser.expr(column)?);
            known.push((column, text));
        }
    }
    let shard_sql = shard_sql(&deparser, items, Vec::new())?;
    let whole_groups = Whole {
        known,
        rows: true,
        inner: cx.replace()?,
    };
    whole(cx, finish, &whole_groups, shard_sql)
}

/// What the shards return for GROUP BY, as SQL there and as text in the finish statement.
type Groups<'a> = (Vec<String>, Vec<(&'a Node, String)>);

fn group_columns<'a>(
    cx: &Cx<'a>,
    deparser: &Deparser<'a>,
    finish: &mut Finish,
) -> Result<Groups<'a>, Refusal> {
    let (mut items, mut known) = (Vec::new(), Vec::new());
    for expr in group_expressions(cx.tree)? {
        let (type_oid, collation) = type_of(expr).ok_or_else(|| unknown_type(expr))?;
        let text = finish.input(cx, type_oid, collation)?;
        items.push(deparser.expr(expr)?);
        finish.group_by.push(text.clone());
        known.push((expr, text));
    }
    Ok((items, known))
}

fn shard_sql(deparser: &Deparser<'_>, items: Vec<String>, group_by: Vec<String>) -> Result<String, Refusal> {
    if items.is_empty() {
        return Err(Refusal::with(RefusalCode::Aggregate, "nothing to aggregate"));
    }
    let mut parts = deparser.select_parts()?;
    parts.items = items.into_iter().map(item).collect();
    parts.group_by = group_by;
    parts.having = None;
    parts.distinct = None;
    parts.order_by.clear();
    parts.limit = None;
    parts.offset = None;
    parts.with_ties = false;
    Ok(parts.to_sql())
}

fn item(expr: String) -> SelectItem {
    SelectItem {
        expr,
        name: None,
        junk: false,
        sort_group_ref: 0,
    }
}

/// The finish statement over group columns and partial values.
fn whole(
    cx: &mut Cx<'_>,
    mut finish: Finish,
    rewriter: &Whole<'_>,
    shard_sql: String,
) -> Result<Many, Refusal> {
    let query = cx.tree;
    let names = Names(cx.snapshot);
    let deparser = Deparser::new(query, &names, rewriter)?;
    let mut ordinals: Vec<(u32, usize)> = Vec::new();
    for target in query.nodes("targetList")? {
        if target.bool("resjunk")? {
            continue;
        }
        let expr = target.node("expr")?;
        rewriter.covers(expr)?;
        finish.items.push((
            deparser.expr(expr)?,
            target.opt_str("resname")?.unwrap_or_default().to_owned(),
        ));
        ordinals.push((target.oid("ressortgroupref")?, finish.items.len()));
    }
    if let Some(having) = query.opt_node("havingQual")? {
        rewriter.covers(having)?;
        finish.having = Some(deparser.expr(having)?);
    } else if let Value::List(list) = query.value("havingQual") {
        let parts = list.iter().filter_map(Value::as_node).map(|n| {
            rewriter.covers(n)?;
            Ok(deparser.expr(n)?)
        });
        finish.having = Some(parts.collect::<Result<Vec<String>, Refusal>>()?.join(" AND "));
    }
    for sort in sort_clause(cx)? {
        let reference = sort.target.oid("ressortgroupref")?;
        let text = match ordinals.iter().find(|(r, _)| *r == reference) {
            Some((_, ordinal)) => ordinal.to_string(),
            None => {
                let expr = sort.target.node("expr")?;
                rewriter.covers(expr)?;
                deparser.expr(expr)?
            }
        };
        let element = order_element(cx, &text, &sort)?;
        finish.order_by.push(element);
    }
    if query.bool("hasDistinctOn")? {
        return Err(Refusal::with(
            RefusalCode::UnexpectedClause,
            "DISTINCT ON beside aggregates",
        ));
    }
    if !query.value("distinctClause").is_null() {
        finish.distinct = Some(String::new());
    }
    finish.limits(cx)?;
    let (sql, inputs) = finish.sql();
    let (visible, width) = (cx.analyzed.columns.len(), inputs.len());
    let combine = Combine::Finish { sql, inputs };
    Ok(Many::Rows(RowsPlan {
        shard_sql: Some(shard_sql),
        own: Vec::new(),
        visible,
        width,
        combine,
        tag_rows: false,
    }))
}

/// GROUP BY expressions, and columns that depend on them (a grouped primary key stands for its whole row).
fn group_expressions(query: &Node) -> Result<Vec<&Node>, Refusal> {
    let targets = query.nodes("targetList")?;
    let mut out: Vec<&Node> = Vec::new();
    for clause in query.nodes("groupClause")? {
        let reference = clause.oid("tleSortGroupRef")?;
        let target = targets
            .iter()
            .find(|t| t.oid("ressortgroupref").is_ok_and(|r| r == reference));
        let expr = target
            .ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?
            .node("expr")?;
        if !out.iter().any(|known| same_expr(known, expr)) {
            out.push(expr);
        }
    }
    if !query.value("constraintDeps").is_null() {
        let mut dependent = Vec::new();
        for field in ["targetList", "havingQual"] {
            loose_columns(query.value(field), &out, &mut dependent);
        }
        for var in dependent {
            if !out.iter().any(|known| same_expr(known, var)) {
                out.push(var);
            }
        }
    }
    Ok(out)
}

/// Columns outside of aggregates and of the expressions grouped by.
fn loose_columns<'a>(value: &'a Value, grouped: &[&'a Node], out: &mut Vec<&'a Node>) {
    match value {
        Value::Node(node) => {
            if node.is("AGGREF") || node.is("QUERY") || grouped.iter().any(|g| same_expr(g, node)) {
                return;
            }
            if as_var(node).is_some_and(|v| v.levels_up == 0) {
                out.push(node);
            }
            node.fields
                .iter()
                .for_each(|(_, v)| loose_columns(v, grouped, out));
        }
        Value::List(list) => list.iter().for_each(|v| loose_columns(v, grouped, out)),
        _ => {}
    }
}

fn aggregates(query: &Node) -> Vec<&Node> {
    let mut out = Vec::new();
    for field in ["targetList", "havingQual"] {
        each_aggregate(query.value(field), &mut |agg| out.push(agg));
    }
    out
}

/// Whether a DISTINCT aggregate is over the shard key: then no value occurs on two shards.
fn distinct_is_key(cx: &mut Cx<'_>, agg: &Node, anchor: &[KeyCols]) -> bool {
    let [key] = anchor else { return false };
    let Some(key) = key.single() else { return false };
    let Ok(args) = agg.nodes("args") else { return false };
    let [arg] = args.as_slice() else { return false };
    let arg = arg.value("expr").as_node();
    let Some(var) = arg.and_then(|arg| as_column(arg, cx.snapshot)) else {
        return false;
    };
    let Ok(rtable) = cx.tree.nodes("rtable") else {
        return false;
    };
    let Some(instances) = cx.built.instances.clone() else {
        return false;
    };
    let level = Level {
        query: cx.tree,
        rtable,
        instances,
    };
    let env = Env {
        level: &level,
        outer: None,
    };
    match cx.graph.resolve(var, &env) {
        Some((col, _)) => cx.graph.same(key, col),
        None => false,
    }
}

/// Replaces groups and aggregates by what came from the shards.
struct Whole<'a> {
    known: Vec<(&'a Node, String)>,
    /// The rows themselves came, so aggregates are computed here.
    rows: bool,
    inner: super::rewrite::Replace<'a>,
}

impl Whole<'_> {
    /// Refuses an expression that needs more than groups and aggregates.
    fn covers(&self, expr: &Node) -> Result<(), Refusal> {
        if self.known.iter().any(|(node, _)| same_expr(node, expr)) {
            return Ok(());
        }
        if expr.is("VAR") || expr.is("SUBLINK") || (expr.is("AGGREF") && !self.rows) {
            return Err(Refusal::with(
                RefusalCode::Aggregate,
                "an expression beside the groups",
            ));
        }
        expr.fields
            .iter()
            .try_for_each(|(_, value)| self.covers_value(value))
    }

    fn covers_value(&self, value: &Value) -> Result<(), Refusal> {
        match value {
            Value::Node(node) => self.covers(node),
            Value::List(list) => list.iter().try_for_each(|v| self.covers_value(v)),
            _ => Ok(()),
        }
    }
}

impl Rewriter for Whole<'_> {
    fn expression(&self, node: &Node, level: usize) -> Option<String> {
        let known = self
            .known
            .iter()
            .find(|(known, _)| level == 0 && same_expr(known, node));
        known
            .map(|(_, text)| text.clone())
            .or_else(|| self.inner.expression(node, level))
    }

    fn from_item(&self, item: &sql::FromItem<'_>) -> Option<String> {
        self.inner.from_item(item)
    }
}
