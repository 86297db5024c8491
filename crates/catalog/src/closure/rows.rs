//! Functions that run when a column is named: `t.f` means `f(t)` when `t` has no column `f` and `f` takes its row.
//!
//! A statement that names such a relation is analyzed when any of these functions is unproved; a body refers to those
//! whose name occurs in its text.

use super::Graph;
use crate::load::{Object, SnapshotBuilder};
use crate::{Function, Oid, Type, TypeKind};

/// record, any, anyelement, anynonarray, anycompatible, anycompatiblenonarray.
const ROW_PSEUDO_TYPES: [u32; 6] = [2249, 2276, 2283, 2776, 5077, 5079];

/// Row of any relation: what polymorphic functions take.
const ANY_ROW: Object = Object::Row(Oid::INVALID);

/// Adds, for the row of each relation, the relation itself and what naming a column of the row can run.
pub(super) fn connect(graph: &mut Graph, facts: &SnapshotBuilder) {
    for relation in facts.relations.values() {
        let row = Object::Row(relation.oid);
        graph.refer(row, Object::Relation(relation.oid));
        graph.refer(row, ANY_ROW);
        for column in relation.columns.iter().filter(|c| !c.dropped) {
            if let Some(inner) = row_of_type(facts, column.type_oid) {
                graph.refer(row, inner);
            }
        }
    }
    // A row is accepted where the row of a parent is.
    for (child, parent) in &facts.inherits {
        graph.refer(Object::Row(*child), Object::Row(*parent));
    }
    for (function, row) in like_columns(facts) {
        graph.refer(row, Object::Function(function.oid));
    }
}

/// Functions that take a row first, and the row.
pub(crate) fn like_columns(facts: &SnapshotBuilder) -> impl Iterator<Item = (&Function, Object)> {
    let made = facts.functions.values().filter(|f| !f.oid.is_builtin());
    made.filter_map(|f| Some((f, taken_row(facts, *f.arg_types.first()?)?)))
}

/// The row a function returns, whose columns can be named in turn: `(g(x)).f`.
pub(crate) fn returned_row(facts: &SnapshotBuilder, function: &Function) -> Option<Object> {
    if function.oid.is_builtin() {
        None
    } else {
        row_of_type(facts, function.return_type)
    }
}

fn taken_row(facts: &SnapshotBuilder, arg: Oid) -> Option<Object> {
    if ROW_PSEUDO_TYPES.contains(&arg.0) {
        Some(ANY_ROW)
    } else {
        row_of_type(facts, arg)
    }
}

/// The row of a composite type, also under domains and in arrays.
fn row_of_type(facts: &SnapshotBuilder, oid: Oid) -> Option<Object> {
    let mut base = crate::build::base_type(&facts.types, oid);
    if let Some(Type {
        kind: TypeKind::Array,
        element: Some(element),
        ..
    }) = facts.types.get(&base)
    {
        base = crate::build::base_type(&facts.types, *element);
    }
    match facts.types.get(&base) {
        Some(Type {
            kind: TypeKind::Composite,
            relation,
            ..
        }) => relation.map(Object::Row),
        _ => None,
    }
}
