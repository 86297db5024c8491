//! UPDATE and DELETE whose other tables do not meet the one that they change.
//!
//! Every use of another table (and every other use of the same one) becomes an input, as in a query. The statement over the arrays
//! runs on the shards of the rows that it changes: they are found, locked and looked at again by the server that has them, as they are for
//! an UPDATE … FROM a table whose rows do not change meanwhile.
//!
//! Several shards run it, each for its own rows, so what they compute must not differ by shard:
//!
//! * nothing volatile;
//! * a subquery that chooses among its rows (LIMIT, a window, an aggregate that depends on their order) is computed anew for each row that is
//!   changed, or its rows are dealt out by key, so that just one shard has those of a group.
//!
//! Where the condition ties a column of an input to the shard key, its rows are dealt out: a row goes to the one shard that can use it. That is the
//! proof of [`graph`](crate::planner::graph), for an input as though it were sharded by this column.

use std::collections::HashSet;

use catalog::{Oid, Placement, Relation, Snapshot};
use sql::{Node, Value};

use super::{Facts, Typed, assembled, check, leaves, place_of, plan_of, relation_of};
use crate::gather::{Deal, FinishPlace};
use crate::planner::expr::as_var;
use crate::planner::graph::Sharded;
use crate::planner::{Cx, aggregate, write};
use crate::{Analyzed, KeySource, Plan, Refusal, RefusalCode, StatementKind, Target};

/// The statement, run where its rows are, over arrays.
pub(super) fn carried(
    analyzed: &Analyzed<'_>,
    snapshot: &Snapshot,
    tree: &Node,
    target: Target,
) -> Result<Plan, Refusal> {
    let mut cx = Cx::new(analyzed, snapshot, tree, Vec::new())?;
    let (rte, relation, sharded) = written(&cx)?;
    check(&cx)?;
    cx.check_sharded_calls()?;
    check_target(&cx, relation)?;
    check_spread(&cx, relation)?;
    let mut others = leaves(&cx);
    others.retain(|leaf| !std::ptr::eq(*leaf, rte));
    if others.is_empty() {
        return Err(Refusal::new(RefusalCode::NotOnKey));
    }
    let finish_on = match relation.placement {
        Placement::Reference => FinishPlace::Every,
        _ => FinishPlace::Rows(place_of(&cx, rte)?),
    };
    let replace = cx.replace()?;
    let deal = |rte: &Node, columns: &[(i16, Typed)]| sharded.and_then(|to| deal(&cx, to, rte, columns));
    let facts = Facts::of(&cx, &replace, &others)?;
    // A row's type has another id on each shard.
    if facts.needs.has_rows() {
        return Err(Refusal::with(RefusalCode::Gather, "a whole row as a value"));
    }
    let alone = relation.placement.is_home() || relation.placement.is_placed();
    if !alone {
        let dealt = |rte: &Node| {
            let columns = facts.needs.columns(rte);
            deal(rte, &columns).is_some()
        };
        check_choices(tree, snapshot, &others, &dealt)?;
    }
    let gather = assembled(&cx, &replace, facts, &others, finish_on, &deal)?;
    Ok(plan_of(cx, &replace, target, gather, true))
}

/// The table that is written: its entry, itself, and its use where it is sharded.
pub(super) fn written<'a>(cx: &Cx<'a>) -> Result<(&'a Node, &'a Relation, Option<Sharded>), Refusal> {
    let refuse = || Refusal::new(RefusalCode::ModifyingCte);
    let [only] = cx.graph.writes.as_slice() else {
        return Err(refuse());
    };
    if cx.graph.shapes.modifying_cte || !std::ptr::eq(only.query, cx.tree) {
        return Err(refuse());
    }
    let index = usize::try_from(cx.tree.i64("resultRelation")?).unwrap_or(0);
    let rtable = cx.tree.nodes("rtable")?;
    let rte = index.checked_sub(1).and_then(|at| rtable.get(at).copied());
    let rte = rte.ok_or_else(|| Refusal::new(RefusalCode::Unreadable))?;
    // A view that is written has its own rights, and perhaps conditions for new rows.
    let is_view = |rte: &&Node| {
        rte.value("rtekind").as_str() == Some("0") && rte.value("relkind").as_str() == Some("v")
    };
    if rtable.iter().any(is_view) {
        return Err(Refusal::with(RefusalCode::Gather, "a view that is written"));
    }
    let sharded = only.target.filter(|target| !target.key.is_empty());
    Ok((rte, relation_of(cx.snapshot, rte)?, sharded))
}

/// What no table that is written may have.
pub(super) fn check_target(cx: &Cx<'_>, relation: &Relation) -> Result<(), Refusal> {
    if relation.row_security {
        return Err(Refusal::with(RefusalCode::Gather, "row level security"));
    }
    if let Some(reason) = &relation.unsafe_reason {
        return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
    }
    // Those of unsharded tables are at home, where the statement runs.
    match cx.calls.sequence && !relation.placement.is_home() {
        true => Err(Refusal::new(RefusalCode::Sequence)),
        false => Ok(()),
    }
}

/// What may not run on each of several shards.
fn check_spread(cx: &Cx<'_>, relation: &Relation) -> Result<(), Refusal> {
    if relation.placement.is_home() {
        return Ok(());
    }
    write::check(&cx.graph, &cx.graph.known())?;
    write::may_be_spread(&cx.graph)?;
    if relation.placement.is_placed() {
        return Ok(());
    }
    if let Some(name) = &cx.calls.volatile {
        return Err(Refusal::with(RefusalCode::VolatileMany, name));
    }
    // Of several rows that match one, UPDATE … FROM takes any; subqueries as values do not, nor does DELETE.
    let joins = cx.tree.node("jointree")?.nodes("fromlist")?.len() > 1;
    let copies = relation.placement == Placement::Reference;
    if copies && cx.kind == StatementKind::Update && joins {
        return Err(Refusal::new(RefusalCode::ReferenceUpdateFrom));
    }
    Ok(())
}

/// How the rows of an entry are dealt out by a column for each column of the key, if in every use of it only rows with
/// the key of the row that is changed matter.
fn deal(cx: &Cx<'_>, target: Sharded, rte: &Node, columns: &[(i16, Typed)]) -> Option<Deal> {
    let relation = cx.snapshot.relation(target.table)?;
    let uses: Vec<usize> = (cx.graph.leaves.iter())
        .filter(|(_, known)| std::ptr::eq(*known, rte))
        .map(|(instance, _)| *instance)
        .collect();
    let mut found = Vec::new();
    for (key, col) in relation.key_columns().iter().zip(target.key.iter()) {
        let reached = cx.graph.reach(&[*col]);
        let meets = |instance: &usize, attno: i16| {
            let column = cx.graph.known_column(*instance, i32::from(attno));
            column.is_some_and(|column| reached[column])
        };
        let (at, key_type) = columns.iter().enumerate().find_map(|(at, (attno, typed))| {
            let key_type = cx.snapshot.key_type(Oid(typed.type_oid))?;
            let fits = key_type.family() == key.key_type.family();
            (fits && uses.iter().all(|instance| meets(instance, *attno))).then_some((at, key_type))
        })?;
        found.push(KeySource::Param {
            index: cx.prelude.params.checked_add(u16::try_from(at + 1).ok()?)?,
            key_type,
        });
    }
    Some(Deal {
        map: target.map,
        key: KeySource::of_columns(found),
    })
}

/// Every subquery must come to the same wherever it runs.
fn check_choices(
    tree: &Node,
    snapshot: &Snapshot,
    inputs: &[&Node],
    dealt: &dyn Fn(&Node) -> bool,
) -> Result<(), Refusal> {
    let mut queries = Vec::new();
    tree.walk(|node| {
        if node.is("QUERY") && !std::ptr::eq(node, tree) {
            queries.push(node);
        }
    });
    for query in queries {
        let limited = !query.value("limitCount").is_null() || !query.value("limitOffset").is_null();
        let ordered = query.bool("hasDistinctOn")?
            || query.bool("hasWindowFuncs")?
            || (query.bool("hasAggs")? && !aggregate::all_order_free(query, snapshot));
        if !limited && !ordered {
            continue;
        }
        let mut read: HashSet<*const Node> = HashSet::new();
        query.walk(|node| {
            read.insert(std::ptr::from_ref(node));
        });
        let here = |input: &&&Node| read.contains(&std::ptr::from_ref(**input));
        // Other inputs may come by the name of a WITH query, so all count where there is one.
        let mut named = false;
        query.walk(|node| named |= node.value("rtekind").as_str() == Some("6"));
        let mut mine = inputs.iter().filter(|input| named || here(input));
        let divided = !limited && mine.all(|input| dealt(input));
        if !divided && !reads_target(query, tree) {
            return Err(Refusal::new(RefusalCode::RecurringChoice));
        }
    }
    Ok(())
}

/// Whether a query is computed for each row of the table that is written.
fn reads_target(query: &Node, tree: &Node) -> bool {
    let Ok(target) = tree.i64("resultRelation") else {
        return false;
    };
    let levels = levels_above(tree, query, 0);
    levels.is_some_and(|levels| reads(query, levels, target))
}

/// How many queries are around a query.
fn levels_above(node: &Node, query: &Node, levels: usize) -> Option<usize> {
    if std::ptr::eq(node, query) {
        return Some(levels);
    }
    let inner = levels + usize::from(node.is("QUERY"));
    children(node).find_map(|child| levels_above(child, query, inner))
}

/// Whether a variable in a query, which has so many around it, belongs to this entry of the outermost.
fn reads(node: &Node, levels: usize, entry: i64) -> bool {
    children(node).any(|child| match as_var(child) {
        Some(var) => var.levels_up == levels && i64::try_from(var.rtindex) == Ok(entry),
        None => reads(child, levels + usize::from(child.is("QUERY")), entry),
    })
}

fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let values = node.fields.iter().map(|(_, value)| value);
    values.flat_map(|value| match value {
        Value::Node(node) => vec![&**node],
        Value::List(list) => nested(list),
        _ => Vec::new(),
    })
}

fn nested(list: &[Value]) -> Vec<&Node> {
    fn of(value: &Value) -> Vec<&Node> {
        match value {
            Value::Node(node) => vec![&**node],
            Value::List(list) => nested(list),
            _ => Vec::new(),
        }
    }
    list.iter().flat_map(of).collect()
}
