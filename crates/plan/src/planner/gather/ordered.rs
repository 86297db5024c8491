//! Queries that take over the order of a subquery.
//!
//! `SELECT array_agg(x) FROM (SELECT x FROM t ORDER BY y) q` and `SELECT * FROM (SELECT * FROM t ORDER BY y) q LIMIT 5`: SQL says nothing about
//! the order in which the outer query sees the rows, but one PostgreSQL keeps that of the subquery, its manual says so of aggregates,
//! and applications count on it. Rows of several shards would come one shard after the other.

use catalog::Snapshot;
use sql::{Node, Value};

use crate::planner::aggregate;

/// Whether the answer follows the order of a subquery in FROM.
pub(super) fn is_taken_over(query: &Node, snapshot: &Snapshot) -> bool {
    let sorts_itself = !query.value("sortClause").is_null();
    let collects = query.bool("hasAggs").unwrap_or(true) || !query.value("groupClause").is_null();
    let follows = match collects {
        true => decides_values(query, snapshot),
        // All rows in another order are the same rows; the first few are not.
        false => !sorts_itself && is_cut(query),
    };
    follows && has_ordered_source(query)
}

/// Whether a value of the answer depends on the order of rows.
pub(super) fn decides_values(query: &Node, snapshot: &Snapshot) -> bool {
    query.bool("hasAggs").unwrap_or(true) && !aggregate::all_order_free(query, snapshot)
}

/// Whether it has LIMIT or OFFSET.
fn is_cut(query: &Node) -> bool {
    !query.value("limitCount").is_null() || !query.value("limitOffset").is_null()
}

/// Whether a subquery in FROM, or a WITH query, says an order of its rows.
fn has_ordered_source(query: &Node) -> bool {
    ["rtable", "cteList"]
        .iter()
        .any(|field| ordered(query.value(field)))
}

fn ordered(value: &Value) -> bool {
    match value {
        Value::Node(node) => {
            let here = node.is("QUERY") && !node.value("sortClause").is_null();
            here || node.fields.iter().any(|(_, value)| ordered(value))
        }
        Value::List(list) => list.iter().any(ordered),
        _ => false,
    }
}
