//! Whether a statement says how many rows it wants at most.

use sql::Node;

/// Whether a SELECT neither limits its rows nor makes few of many: what a guard against unbounded reads looks for.
///
/// GROUP BY counts as making few of many, although there may be a group for each row: how many there are is nobody's to
/// know beforehand. A LIMIT that is a parameter counts as one.
pub(super) fn is_unbounded(query: &Node) -> bool {
    let is_select = query.str("commandType").is_ok_and(|kind| kind == "1");
    is_select && !is_bounded(query)
}

fn is_bounded(query: &Node) -> bool {
    let limit = query.value("limitCount");
    let limits = query
        .opt_node("limitCount")
        .is_ok_and(|limit| limit.is_some_and(|node| !super::expr::is_null_const(node)));
    if !limit.is_null() && limits {
        return true;
    }
    let aggregates = query.bool("hasAggs").unwrap_or(false)
        || !query.value("groupClause").is_null()
        || !query.value("groupingSets").is_null();
    aggregates || is_made_of_bounded(query).unwrap_or(false)
}

/// All arms of a set operation are bounded, or everything that is read is one subquery that is.
fn is_made_of_bounded(query: &Node) -> Option<bool> {
    let mut arms = Vec::new();
    if let Some(operation) = query.opt_node("setOperations").ok()? {
        let mut stack = vec![operation];
        while let Some(node) = stack.pop() {
            if node.is("SETOPERATIONSTMT") {
                stack.push(node.node("rarg").ok()?);
                stack.push(node.node("larg").ok()?);
            } else {
                arms.push(node.i64("rtindex").ok()?);
            }
        }
    } else {
        let items = query.node("jointree").ok()?.nodes("fromlist").ok()?;
        match items.as_slice() {
            [item] if item.is("RANGETBLREF") => arms.push(item.i64("rtindex").ok()?),
            // Nothing is read.
            [] => return Some(true),
            _ => return Some(false),
        }
    }
    let entries = query.nodes("rtable").ok()?;
    let bounded = |arm: &i64| {
        let entry = entries.get(usize::try_from(*arm).ok()?.checked_sub(1)?)?;
        entry.opt_node("subquery").ok()?.map(is_bounded)
    };
    Some(arms.iter().all(|arm| bounded(arm).unwrap_or(false)))
}
