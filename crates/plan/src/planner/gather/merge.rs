//! MERGE from tables that do not meet its target.
//!
//! The source is carried to the target as it is for UPDATE and DELETE ([`write`](super::write)). Where a row without a partner is stored, a row of the source
//! may be looked at on one shard only: the one where its partner would be, and where its new row belongs. So the proof of
//! [`merge`](crate::planner::merge) is done once more, with the inputs as what they will be on the shards: sharded by the column that meets the
//! key of the target, or whole everywhere.

use catalog::{KeyColumn, MapId, Oid, Placement, Snapshot};
use sql::Node;

use super::write::{check_target, written};
use super::{Facts, Typed, assembled, check, leaves, plan_of};
use crate::gather::{Deal, FinishPlace, GatherPlace};
use crate::planner::Cx;
use crate::planner::graph::{Carried, Sharded};
use crate::{Analyzed, KeySource, Many, Plan, Refusal, RefusalCode, Target};

/// The statement, run where the rows of its target are, over arrays.
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
    let mut others = leaves(&cx);
    others.retain(|leaf| !std::ptr::eq(*leaf, rte));
    if others.is_empty() {
        return Err(Refusal::new(RefusalCode::Merge));
    }
    let replace = cx.replace()?;
    let facts = Facts::of(&cx, &replace, &others)?;
    // A row's type has another id on each shard.
    if facts.needs.has_rows() {
        return Err(Refusal::with(RefusalCode::Gather, "a whole row as a value"));
    }
    let dealt =
        |rte: &Node, columns: &[(i16, Typed)]| sharded.and_then(|to| by_columns(&cx, to, rte, columns));
    let alone = relation.placement.is_home() || relation.placement.is_placed();
    if !alone {
        let carried = others.iter().map(|leaf| Carried {
            rte: leaf,
            key: dealt(leaf, &facts.needs.columns(leaf)).map(|(key, deal)| (key, deal.map)),
        });
        prove(analyzed, snapshot, tree, carried.collect())?;
    }
    // New rows may belong to any shard, whatever is known of those that match.
    let finish_on = match &relation.placement {
        Placement::Reference => FinishPlace::Every,
        Placement::Home => FinishPlace::Rows(GatherPlace::Home),
        Placement::Sharded { map, .. } => FinishPlace::Rows(GatherPlace::All { map: *map }),
    };
    let deal = |rte: &Node, columns: &[(i16, Typed)]| Some(dealt(rte, columns)?.1);
    let gather = assembled(&cx, &replace, facts, &others, finish_on, &deal)?;
    Ok(plan_of(cx, &replace, target, gather, true))
}

/// Whether every shard may run the statement for itself, once the rows of these entries are there.
fn prove<'a>(
    analyzed: &'a Analyzed<'a>,
    snapshot: &'a Snapshot,
    tree: &'a Node,
    carried: Vec<Carried<'a>>,
) -> Result<(), Refusal> {
    let plan = Cx::over(analyzed, snapshot, tree, Vec::new(), carried)?.plan()?;
    let everywhere = plan.target == Target::Every;
    match plan.many {
        Many::SumTags { .. } | Many::Rows(_) => Ok(()),
        _ if everywhere => Ok(()),
        Many::Refuse(refusal) => Err(refusal),
        _ => Err(Refusal::new(RefusalCode::Merge)),
    }
}

/// The columns of an entry that meet the key of the target in every use of it, and how its rows are dealt out by them.
fn by_columns(
    cx: &Cx<'_>,
    target: Sharded,
    rte: &Node,
    columns: &[(i16, Typed)],
) -> Option<(Vec<KeyColumn>, Deal)> {
    let relation = cx.snapshot.relation(target.table)?;
    let uses = || {
        cx.graph
            .leaves
            .iter()
            .filter(|(_, known)| std::ptr::eq(*known, rte))
    };
    let (mut key, mut sources) = (Vec::new(), Vec::new());
    for (wanted, col) in relation.key_columns().iter().zip(target.key.iter()) {
        let meets = |attno: i16| {
            uses().all(|(instance, _)| {
                let column = cx.graph.known_column(*instance, i32::from(attno));
                column.is_some_and(|column| cx.graph.reach(&[column])[*col])
            })
        };
        let (at, column) = columns.iter().enumerate().find_map(|(at, (attno, typed))| {
            let key_type = cx.snapshot.key_type(Oid(typed.type_oid))?;
            let fits = key_type.family() == wanted.key_type.family();
            let column = KeyColumn {
                attnum: *attno,
                key_type,
            };
            (fits && meets(*attno)).then_some((at, column))
        })?;
        sources.push(KeySource::Param {
            index: cx.prelude.params.checked_add(u16::try_from(at + 1).ok()?)?,
            key_type: column.key_type,
        });
        key.push(column);
    }
    let map: MapId = target.map;
    let deal = Deal {
        map,
        key: KeySource::of_columns(sources),
    };
    Some((key, deal))
}
