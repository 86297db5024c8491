//! Which inputs can be pulled with the values of others (a semi-join).
//!
//! `x.c = y.d` in a condition that every row of `x` has to pass, wherever `y` stands: in the same FROM, in a query around, or in the
//! subquery of `x.c IN (SELECT d …)` and `EXISTS (… WHERE y.d = x.c)`. All rows of `y` that matter are pulled, so a row of `x` whose value none of
//! them has passes in no case. This holds for rows that an outer join keeps as well: it is the other side that is left out.
//!
//! An input that stands for several uses of a table is not reduced: what one use does not need another may.

use catalog::{Oid, Relation, Snapshot};

use super::filters::Tie;
use super::inputs::Build;
use crate::gather::Reduction;
use crate::planner::Cx;

/// All of them.
pub(super) fn reductions(cx: &Cx<'_>, build: &Build<'_, '_>) -> Vec<Reduction> {
    let mut out: Vec<Reduction> = Vec::new();
    for tie in build.facts.filters.ties() {
        let found = of_tie(cx, build, tie);
        out.extend(found.filter(|reduction| !out.contains(reduction)));
    }
    out
}

fn of_tie(cx: &Cx<'_>, build: &Build<'_, '_>, tie: &Tie<'_>) -> Option<Reduction> {
    cx.graph.key_equality(tie.equality)?;
    let rtable = tie.query.nodes("rtable").ok()?;
    let entry = *rtable.get(tie.column.0.checked_sub(1)?)?;
    let (own, other) = (build.place_of(entry)?, build.place_of(tie.other)?);
    if own.input == other.input || own.shared {
        return None;
    }
    let of = |relation: &Relation, attno: i16| plain_type(relation, attno, cx.snapshot);
    let (type_oid, _) =
        of(own.relation, tie.column.1).filter(|own| of(other.relation, tie.attno) == Some(*own))?;
    let values = build.values(&other, tie.attno)?;
    (values.type_oid == type_oid.0).then_some(())?;
    Some(Reduction {
        input: own.input,
        by: other.input,
        column: values.column,
        value: build.value_sql(tie.query, &own, tie.column.1)?,
        array_sql: values.array_sql,
        array_oid: values.array_oid,
    })
}

/// The type and the collation of a column of a built-in type.
fn plain_type(relation: &Relation, attno: i16, snapshot: &Snapshot) -> Option<(Oid, Option<Oid>)> {
    let column = relation.column(attno)?;
    let builtin = snapshot.type_info(column.type_oid)?.builtin;
    (builtin && snapshot.base_type(column.type_oid) == column.type_oid)
        .then_some((column.type_oid, column.collation))
}
