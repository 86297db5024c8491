//! Statements that write tables with global indexes (docs/decisions/0036).

use catalog::{Oid, Relation, Snapshot};
use sql::Node;

use crate::{Plan, Refusal, RefusalCode};

/// Marks the plan of a statement that may change rows of such a table.
pub(super) fn mark(
    snapshot: &Snapshot,
    tree: &Node,
    planned: Result<Plan, Refusal>,
) -> Result<Plan, Refusal> {
    let mut plan = planned?;
    if snapshot.global_indexes().is_empty() {
        return Ok(plan);
    }
    // PostgreSQL takes statements that write in a WITH of the outermost level only.
    let mut levels = vec![tree];
    for common in tree.nodes("cteList")? {
        levels.extend(common.opt_node("ctequery")?);
    }
    for level in levels {
        let Some(relation) = written(snapshot, level)? else {
            continue;
        };
        plan.indexed |= relation.writes_global_indexes;
        let index = |id: &u32| snapshot.global_index(*id);
        let mut indexes = relation.global_indexes.iter().filter_map(index);
        if indexes.any(|index| index.unique) && avoids_any_conflict(level)? {
            return Err(Refusal::with(RefusalCode::IndexConflict, &relation.name));
        }
    }
    Ok(plan)
}

/// The table that a level of the statement writes.
fn written<'a>(snapshot: &'a Snapshot, level: &Node) -> Result<Option<&'a Relation>, Refusal> {
    if level.str("commandType")? == "1" {
        return Ok(None);
    }
    let at = usize::try_from(level.i64("resultRelation")?).unwrap_or(0);
    let entries = level.nodes("rtable")?;
    let entry = at.checked_sub(1).and_then(|at| entries.get(at));
    let entry = entry.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
    Ok(snapshot.relation(Oid(entry.oid("relid")?)))
}

/// ON CONFLICT DO NOTHING that names no columns: it would have to pass over rows that are in conflict on other shards.
fn avoids_any_conflict(level: &Node) -> Result<bool, Refusal> {
    let Some(conflict) = level.opt_node("onConflict")? else {
        return Ok(false);
    };
    let arbiters = conflict.value("arbiterElems").as_list();
    Ok(arbiters.is_none_or(<[_]>::is_empty) && conflict.oid("constraint")? == 0)
}
