//! SELECT over several shards: rows as they are, sorted, distinct, limited.

use catalog::Oid;
use sql::deparse::SelectItem;
use sql::{Deparser, Node, SelectParts};

use super::columns::{collate_sql, comparable, travelling, type_of};
use super::expr::{const_int, contains, extern_param, is_null_const, strip_casts};
use super::graph::{Col, KeyCols};
use super::names::Names;
use super::rewrite::Replace;
use super::{Cx, grouped};
use crate::{Combine, InputColumn, LimitPlan, LimitValue, Many, Refusal, RefusalCode, RowsPlan, SortKey};

/// Plans a SELECT whose input is split by `anchor`.
pub(super) fn select(cx: &mut Cx<'_>, anchor: &[KeyCols]) -> Result<Many, Refusal> {
    let query = cx.tree;
    if !query.value("groupingSets").is_null() {
        return Err(Refusal::new(RefusalCode::GroupingSets));
    }
    let limited = !query.value("limitCount").is_null() || !query.value("limitOffset").is_null();
    if limited && !query.value("rowMarks").is_null() {
        return Err(Refusal::new(RefusalCode::LockingLimit));
    }
    let keyed = Keyed::of(cx, anchor)?;
    let grouping = query.bool("hasAggs")?
        || !query.value("groupClause").is_null()
        || !query.value("havingQual").is_null();
    if query.bool("hasWindowFuncs")? && (!keyed.windows || (grouping && !keyed.groups)) {
        return Err(Refusal::new(RefusalCode::Window));
    }
    if grouping && !keyed.groups {
        return grouped::plan(cx, anchor);
    }
    let distinct = !query.value("distinctClause").is_null() && !keyed.distinct;
    plain(cx, distinct)
}

/// Which clauses keep rows of different shards apart because they contain the shard key.
struct Keyed {
    groups: bool,
    windows: bool,
    distinct: bool,
}

impl Keyed {
    fn of(cx: &Cx<'_>, anchor: &[KeyCols]) -> Result<Keyed, Refusal> {
        let query = cx.tree;
        let column_of = |clause: &&Node| -> Option<Col> {
            let reference = clause.oid("tleSortGroupRef").ok().filter(|r| *r != 0)?;
            let mut known = cx.built.by_ref.iter();
            known.find(|(r, _)| *r == reference).and_then(|(_, col)| *col)
        };
        // All columns of the key.
        let any = |clauses: Vec<&Node>| {
            let columns: Vec<Col> = clauses.iter().filter_map(column_of).collect();
            let is_there = |key: &Col| columns.iter().any(|col| cx.graph.same(*key, *col));
            matches!(anchor, [key] if key.iter().all(is_there))
        };
        let windows = query.nodes("windowClause")?;
        let windows = windows
            .iter()
            .map(|w| w.nodes("partitionClause").map(&any))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Keyed {
            groups: any(query.nodes("groupClause")?),
            windows: windows.into_iter().all(|keyed| keyed),
            distinct: any(query.nodes("distinctClause")?),
        })
    }
}

/// One element of ORDER BY.
pub(super) struct Sort<'a> {
    /// The select list entry it refers to.
    pub target: &'a Node,
    pub type_oid: u32,
    pub collation: u32,
    pub descending: bool,
    pub nulls_first: bool,
    /// The operator, when it is not the one of plain ASC or DESC.
    pub operator: Option<u32>,
}

/// Reads ORDER BY.
pub(super) fn sort_clause<'a>(cx: &Cx<'a>) -> Result<Vec<Sort<'a>>, Refusal> {
    let targets = cx.tree.nodes("targetList")?;
    cx.tree
        .nodes("sortClause")?
        .into_iter()
        .map(|clause| {
            let reference = clause.oid("tleSortGroupRef")?;
            let target = targets
                .iter()
                .find(|t| t.oid("ressortgroupref").is_ok_and(|r| r == reference));
            let target = *target.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
            let expr = target.node("expr")?;
            let (type_oid, collation) = type_of(expr).ok_or_else(|| unknown_type(expr))?;
            let operator = clause.oid("sortop")?;
            let order = cx.snapshot.btree_sort(Oid(operator));
            Ok(Sort {
                target,
                type_oid,
                collation,
                descending: order.is_some_and(|o| o.descending),
                nulls_first: clause.bool("nulls_first")?,
                operator: (!order.is_some_and(|o| o.default)).then_some(operator),
            })
        })
        .collect()
}

pub(super) fn unknown_type(expr: &Node) -> Refusal {
    Refusal::with(
        RefusalCode::FinishType,
        format!("{} expression", expr.name.to_lowercase()),
    )
}

/// LIMIT and OFFSET; `None` when one of them is neither a constant nor a parameter.
pub(super) fn limit_plan(query: &Node) -> Result<Option<LimitPlan>, Refusal> {
    let mut plan = LimitPlan::default();
    for (field, slot) in [("limitCount", &mut plan.limit), ("limitOffset", &mut plan.offset)] {
        let Some(node) = query.opt_node(field)? else {
            continue;
        };
        let inner = strip_casts(node);
        if is_null_const(inner) {
            continue;
        }
        *slot = match (const_int(inner), extern_param(inner)) {
            (Some(value), _) if value >= 0 => Some(LimitValue::Const(value)),
            // Only when the parameter itself is a bigint: another type would have to be converted first.
            (None, Some(index)) if inner.oid("paramtype")? == 20 => Some(LimitValue::Param { index }),
            _ => return Ok(None),
        };
    }
    let with_ties = query.i64("limitOption")? == 1;
    Ok((!with_ties).then_some(plan))
}

/// The LIMIT to be applied on each shard: what the whole needs, offset included.
fn shard_limit(plan: &LimitPlan) -> Option<String> {
    match (plan.limit?, plan.offset) {
        (LimitValue::Const(limit), None) => Some(limit.to_string()),
        (LimitValue::Const(limit), Some(LimitValue::Const(offset))) => {
            limit.checked_add(offset).map(|sum| sum.to_string())
        }
        (LimitValue::Param { index }, None) => Some(format!("${index}")),
        // A sum with a parameter could overflow; the limit is then applied to the whole only.
        _ => None,
    }
}

fn plain(cx: &mut Cx<'_>, distinct: bool) -> Result<Many, Refusal> {
    let sorts = sort_clause(cx)?;
    let limit = limit_plan(cx.tree)?;
    if contains(cx.tree.value("limitCount"), "SUBLINK") || contains(cx.tree.value("limitOffset"), "SUBLINK") {
        return Err(Refusal::with(RefusalCode::Subquery, "in LIMIT or OFFSET"));
    }
    let visible = cx.analyzed.columns.len();
    let merged = limit.filter(|_| !distinct).filter(|_| {
        sorts
            .iter()
            .all(|s| s.operator.is_none() && comparable(s.type_oid, s.collation, cx.snapshot).is_some())
    });
    let Some(limit) = merged else {
        return finished(cx, &sorts, distinct);
    };
    let tag_rows = false;
    if sorts.is_empty() {
        let rewritten = cx.needs_text() || limit.offset.is_some();
        let shard_sql = if rewritten {
            let mut parts = shard_parts(cx)?;
            apply_limit(&mut parts, &limit);
            Some(parts.to_sql())
        } else {
            None
        };
        let combine = Combine::Concat { limit };
        return Ok(Many::Rows(RowsPlan {
            shard_sql,
            own: Vec::new(),
            visible,
            width: visible,
            combine,
            tag_rows,
        }));
    }
    let mut parts = shard_parts(cx)?;
    apply_limit(&mut parts, &limit);
    let mut keys = Vec::new();
    for (at, sort) in sorts.iter().enumerate() {
        // Hidden copies, because visible columns come in the format the client asked for.
        hidden_item(&mut parts, sort)?;
        let type_oid = cx.snapshot.base_type(Oid(sort.type_oid)).0;
        keys.push(SortKey {
            column: visible + at,
            type_oid,
            descending: sort.descending,
            nulls_first: sort.nulls_first,
        });
    }
    let width = visible + keys.len();
    let combine = Combine::Ordered { keys, limit };
    Ok(Many::Rows(RowsPlan {
        shard_sql: Some(parts.to_sql()),
        own: Vec::new(),
        visible,
        width,
        combine,
        tag_rows,
    }))
}

/// The statement's clauses, with the clock replaced by parameters.
pub(super) fn shard_parts(cx: &mut Cx<'_>) -> Result<SelectParts, Refusal> {
    let replace = cx.replace()?;
    let names = Names(cx.snapshot);
    Ok(Deparser::new(cx.tree, &names, &replace)?.select_parts()?)
}

fn apply_limit(parts: &mut SelectParts, limit: &LimitPlan) {
    parts.offset = None;
    parts.limit = shard_limit(limit);
}

/// Appends a copy of the entry a sort element refers to.
fn hidden_item(parts: &mut SelectParts, sort: &Sort<'_>) -> Result<(), Refusal> {
    let reference = sort.target.oid("ressortgroupref")?;
    let found = parts.items.iter().find(|i| i.sort_group_ref == reference);
    let expr = found
        .ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?
        .expr
        .clone();
    parts.items.push(SelectItem {
        expr,
        name: None,
        junk: false,
        sort_group_ref: 0,
    });
    Ok(())
}

/// Rows become arrays; one PostgreSQL sorts, removes duplicates, limits.
fn finished(cx: &mut Cx<'_>, sorts: &[Sort<'_>], distinct: bool) -> Result<Many, Refusal> {
    let mut parts = shard_parts(cx)?;
    let distinct_on = cx.tree.bool("hasDistinctOn")?;
    let mut finish = Finish::new(cx);
    let targets = cx.tree.nodes("targetList")?;
    for target in targets
        .iter()
        .filter(|t| t.value("resjunk").as_str() == Some("false"))
    {
        let text = finish.input_of(cx, target)?;
        finish
            .items
            .push((text, target.opt_str("resname")?.unwrap_or_default().to_owned()));
    }
    let mut references = Vec::new();
    for sort in sorts {
        let element = finish.sort_element(cx, sort, &mut parts)?;
        finish.order_by.push(element);
    }
    if distinct {
        for clause in cx.tree.nodes("distinctClause")? {
            let reference = clause.oid("tleSortGroupRef")?;
            let target = targets
                .iter()
                .find(|t| t.oid("ressortgroupref").is_ok_and(|r| r == reference));
            let target = *target.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
            if distinct_on {
                references.push(finish.reference_of(cx, target, &mut parts)?);
            }
        }
        finish.distinct = Some(references.join(", "));
    }
    // Sorting on the shards pays only with a limit (or where DISTINCT ON needs it).
    let limit = limit_plan(cx.tree)?
        .as_ref()
        .and_then(shard_limit)
        .filter(|_| !distinct_on);
    parts.offset = None;
    parts.with_ties = false;
    parts.limit = limit;
    if parts.limit.is_none() && !distinct_on {
        parts.order_by.clear();
    }
    finish.limits(cx)?;
    let (sql, inputs) = finish.sql();
    let (visible, width) = (cx.analyzed.columns.len(), inputs.len());
    let combine = Combine::Finish { sql, inputs };
    Ok(Many::Rows(RowsPlan {
        shard_sql: Some(parts.to_sql()),
        own: Vec::new(),
        visible,
        width,
        combine,
        tag_rows: false,
    }))
}

/// The finish statement while it is put together.
pub(super) struct Finish {
    first_param: u16,
    inputs: Vec<InputColumn>,
    arrays: Vec<String>,
    /// Expression and name.
    pub items: Vec<(String, String)>,
    /// `ressortgroupref` of a target → its input column.
    known: Vec<(u32, String)>,
    pub group_by: Vec<String>,
    pub having: Option<String>,
    pub order_by: Vec<String>,
    pub distinct: Option<String>,
    tail: String,
}

impl Finish {
    pub fn new(cx: &Cx<'_>) -> Finish {
        let beyond = u16::try_from(cx.prelude.values.len()).unwrap_or(0);
        Finish {
            first_param: cx.prelude.params + beyond + 1,
            inputs: Vec::new(),
            arrays: Vec::new(),
            items: Vec::new(),
            known: Vec::new(),
            group_by: Vec::new(),
            having: None,
            order_by: Vec::new(),
            distinct: None,
            tail: String::new(),
        }
    }

    /// A column of the shards' rows; returns how it is referred to.
    pub fn input(&mut self, cx: &Cx<'_>, type_oid: u32, collation: u32) -> Result<String, Refusal> {
        let facts = travelling(type_oid, cx.snapshot)?;
        let at = u16::try_from(self.inputs.len()).map_err(|_| Refusal::new(RefusalCode::TooComplex))?;
        let param = self.first_param + at;
        self.inputs.push(InputColumn {
            param,
            type_oid: facts.type_oid,
            array_oid: facts.array_oid,
        });
        self.arrays.push(facts.array_sql);
        let collate = collate_sql(collation, cx.snapshot)?;
        let name = format!("u.c{}", self.inputs.len());
        Ok(if collate.is_empty() {
            name
        } else {
            format!("({name}{collate})")
        })
    }

    fn input_of(&mut self, cx: &Cx<'_>, target: &Node) -> Result<String, Refusal> {
        let expr = target.node("expr")?;
        let (type_oid, collation) = type_of(expr).ok_or_else(|| unknown_type(expr))?;
        let text = self.input(cx, type_oid, collation)?;
        self.known.push((target.oid("ressortgroupref")?, text.clone()));
        Ok(text)
    }

    /// How a target is referred to, appending a hidden column for it if it has none yet.
    fn reference_of(
        &mut self,
        cx: &Cx<'_>,
        target: &Node,
        parts: &mut SelectParts,
    ) -> Result<String, Refusal> {
        let reference = target.oid("ressortgroupref")?;
        if let Some((_, text)) = self.known.iter().find(|(r, _)| *r == reference && reference != 0) {
            return Ok(text.clone());
        }
        let expr = target.node("expr")?;
        let (type_oid, collation) = type_of(expr).ok_or_else(|| unknown_type(expr))?;
        let text = self.input(cx, type_oid, collation)?;
        self.known.push((reference, text.clone()));
        let found = parts.items.iter().find(|i| i.sort_group_ref == reference);
        let expr = found
            .ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?
            .expr
            .clone();
        parts.items.push(SelectItem {
            expr,
            name: None,
            junk: false,
            sort_group_ref: 0,
        });
        Ok(text)
    }

    fn sort_element(
        &mut self,
        cx: &Cx<'_>,
        sort: &Sort<'_>,
        parts: &mut SelectParts,
    ) -> Result<String, Refusal> {
        let text = self.reference_of(cx, sort.target, parts)?;
        order_element(cx, &text, sort)
    }

    /// LIMIT, OFFSET, WITH TIES of the original.
    pub fn limits(&mut self, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        let replace = cx.replace()?;
        let names = Names(cx.snapshot);
        let deparser = Deparser::new(cx.tree, &names, &replace)?;
        let with_ties = cx.tree.i64("limitOption")? == 1;
        if let Some(offset) = cx.tree.opt_node("limitOffset")? {
            self.tail.push_str(&format!(" OFFSET {}", deparser.expr(offset)?));
        }
        if let Some(limit) = cx.tree.opt_node("limitCount")? {
            let limit = deparser.expr(limit)?;
            self.tail.push_str(&if with_ties {
                format!(" FETCH FIRST ({limit}) ROWS WITH TIES")
            } else {
                format!(" LIMIT {limit}")
            });
        }
        Ok(())
    }

    /// The statement and its array parameters.
    pub fn sql(self) -> (String, Vec<InputColumn>) {
        let mut out = String::from("SELECT");
        match self.distinct.as_deref() {
            None => {}
            Some("") => out.push_str(" DISTINCT"),
            Some(list) => out.push_str(&format!(" DISTINCT ON ({list})")),
        }
        let items: Vec<String> = self
            .items
            .iter()
            .map(|(expr, name)| format!("{expr} AS {}", sql::quote_ident(name)))
            .collect();
        out.push_str(&format!(" {}", items.join(", ")));
        let arrays: Vec<String> = self
            .inputs
            .iter()
            .zip(&self.arrays)
            .map(|(i, array)| format!("${}::{array}", i.param))
            .collect();
        let columns: Vec<String> = (1..=self.inputs.len()).map(|at| format!("c{at}")).collect();
        out.push_str(&format!(
            " FROM ROWS FROM (pg_catalog.unnest({})) AS u({})",
            arrays.join("), pg_catalog.unnest("),
            columns.join(", ")
        ));
        if !self.group_by.is_empty() {
            out.push_str(&format!(" GROUP BY {}", self.group_by.join(", ")));
        }
        if let Some(having) = &self.having {
            out.push_str(&format!(" HAVING {having}"));
        }
        if !self.order_by.is_empty() {
            out.push_str(&format!(" ORDER BY {}", self.order_by.join(", ")));
        }
        out.push_str(&self.tail);
        (out, self.inputs)
    }
}

/// `expr DESC NULLS LAST`.
pub(super) fn order_element(cx: &Cx<'_>, text: &str, sort: &Sort<'_>) -> Result<String, Refusal> {
    let direction = match sort.operator {
        None if sort.descending => "DESC".to_owned(),
        None => "ASC".to_owned(),
        Some(operator) => {
            let operator = cx.snapshot.operator(Oid(operator));
            let operator = operator.ok_or_else(|| Refusal::with(RefusalCode::FinishType, "sort operator"))?;
            format!(
                "USING OPERATOR({}.{})",
                sql::quote_ident(&operator.schema),
                operator.name
            )
        }
    };
    let nulls = if sort.nulls_first { "FIRST" } else { "LAST" };
    Ok(format!("{text} {direction} NULLS {nulls}"))
}

impl<'a> Cx<'a> {
    /// What has to be replaced wherever the statement is printed.
    pub fn replace(&mut self) -> Result<Replace<'a>, Refusal> {
        let mut replace = Replace::nothing(self.snapshot);
        replace.own.clone_from(&self.graph.own);
        if self.calls.now {
            replace.now = Some(self.prelude.add(1184, crate::PreludeSource::Now, true)?);
        }
        if self.calls.statement_time {
            replace.statement_time = Some(self.prelude.add(
                1184,
                crate::PreludeSource::StatementTime,
                true,
            )?);
        }
        Ok(replace)
    }
}
