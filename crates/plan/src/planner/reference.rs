//! Statements without sharded tables: home, any shard, or every shard.

use std::collections::HashSet;

use catalog::{Placement, Relation};
use sql::{Deparser, Node};

use super::names::Names;
use super::{Cx, calls::Calls, insert};
use crate::{Many, Plan, Refusal, RefusalCode, StatementKind, Target};

/// Plans a statement on home and reference tables.
pub(super) fn plan(mut cx: Cx<'_>) -> Result<Plan, Refusal> {
    let none = || Many::Refuse(Refusal::new(RefusalCode::SeveralShards));
    let written: Vec<&Relation> = cx.graph.writes.iter().filter_map(|w| w.relation).collect();
    let writes_reference = written.iter().any(|r| r.placement == Placement::Reference);
    if !writes_reference {
        cx.check_home_calls()?;
        if let Some(reason) = written.iter().find_map(|r| r.unsafe_reason.as_ref()) {
            return Err(Refusal::with(RefusalCode::UnsafeTable, reason));
        }
        check_slices(&cx)?;
        let locks = cx.graph.shapes.locking;
        let anywhere = cx.graph.reference > 0
            && cx.graph.home.is_empty()
            && cx.graph.writes.is_empty()
            && !locks
            && cx.calls.home_only.is_none()
            && cx.calls.about_server.is_none()
            && cx.calls.volatile.is_none()
            && !cx.calls.sequence
            && !cx.calls.server_oid
            && !cx.calls.system_column;
        // Row locks on a reference table are taken on the home shard, where its writers go first.
        let target = if anywhere { Target::Any } else { Target::Home };
        return Ok(cx.finish(target, none(), None));
    }
    if !cx.graph.home.is_empty() || cx.graph.shapes.modifying_cte {
        return Err(Refusal::new(RefusalCode::ReferenceWrite));
    }
    super::write::check(&cx.graph, &[])?;
    cx.check_sharded_calls()?;
    if cx.graph.shapes.recurring_choice || cx.calls.system_column {
        return Err(Refusal::new(RefusalCode::ReferenceUpdateFrom));
    }
    let reads = reads_rows(&cx);
    let (text, many) = every_text(&mut cx)?;
    let many = match many {
        Many::Refuse(_) if reads => Many::Refuse(Refusal::new(RefusalCode::ReferenceReads)),
        many => many,
    };
    Ok(cx.finish(Target::Every, many, text))
}

/// Whether it reads other rows than those that it changes.
fn reads_rows(cx: &Cx<'_>) -> bool {
    let queried = cx.kind == StatementKind::Insert && cx.rows.is_none();
    let joined = cx.graph.reference > 1 || cx.graph.shapes.subqueries > 0;
    queried || joined || cx.kind == StatementKind::Merge
}

/// Functions about the server are right at home only as long as nothing says they mean a table that is elsewhere too.
fn check_slices(cx: &Cx<'_>) -> Result<(), Refusal> {
    let Some(name) = &cx.calls.about_server else {
        return Ok(());
    };
    if name == "set_config" || !cx.calls.server_oid {
        return Ok(());
    }
    // An OID constant of a user's object: is it a table with slices elsewhere?
    let mut sliced = false;
    cx.tree.walk(|node| {
        if node.is("CONST")
            && node.oid("consttype") == Ok(2205)
            && let sql::Value::Datum { bytes, .. } = node.value("constvalue")
            && let Some(oid) = bytes.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok())
        {
            let relation = cx.snapshot.relation(catalog::Oid(u32::from_le_bytes(oid)));
            sliced |= relation.is_some_and(|r| r.map().is_some());
        }
    });
    if sliced {
        Err(Refusal::with(RefusalCode::ReadsByName, name))
    } else {
        Ok(())
    }
}

/// The text for every shard: the client's, unless something in it would be computed anew on each.
fn every_text(cx: &mut Cx<'_>) -> Result<(Option<String>, Many), Refusal> {
    let alike = || Many::Refuse(Refusal::new(RefusalCode::SeveralShards));
    let refuse = |name: &str| Refusal::with(RefusalCode::ReferenceVolatile, name);
    if cx.calls.sequence {
        return Err(Refusal::new(RefusalCode::Sequence));
    }
    if cx.calls.today || cx.relative_time() {
        return Err(refuse("the current date"));
    }
    if let Some(rows) = cx.rows.take() {
        let mut volatile: HashSet<*const Node> = HashSet::new();
        let mut changes = !insert::replaced(Some(&rows)).is_empty();
        for cell in rows.rows.iter().flatten().copied() {
            let found: Calls = insert::remaining_calls(cx, cell);
            if found.volatile.is_some() && !found.sequence {
                volatile.insert(std::ptr::from_ref(cell));
                changes = true;
            }
            changes |= found.now || found.statement_time;
        }
        if changes {
            return Ok(insert::print(cx, &rows, &volatile, insert::Clock::Once)?.everywhere());
        }
        return match &cx.calls.volatile {
            // Outside of the rows: in ON CONFLICT or RETURNING.
            Some(name) => Err(refuse(name)),
            None => Ok((None, alike())),
        };
    }
    if let Some(name) = &cx.calls.volatile {
        return Err(refuse(name));
    }
    let joins = cx.graph.reference > 1 || cx.graph.shapes.subqueries > 0;
    if cx.kind == StatementKind::Update && joins && !from_is_safe(cx)? {
        return Err(Refusal::new(RefusalCode::ReferenceUpdateFrom));
    }
    if !cx.needs_text() {
        return Ok((None, alike()));
    }
    let replace = cx.replace()?;
    let names = Names(cx.snapshot);
    Ok((Some(Deparser::new(cx.tree, &names, &replace)?.query()?), alike()))
}

/// UPDATE … FROM may find several rows for one and takes any of them; subqueries as values do not.
fn from_is_safe(cx: &Cx<'_>) -> Result<bool, Refusal> {
    let items = cx.tree.node("jointree")?.nodes("fromlist")?;
    Ok(items.len() <= 1 && items.iter().all(|i| i.is("RANGETBLREF")))
}
