//! Reference tables of which each shard counts its own rows.
//!
//! Every shard has all rows of a reference table. Where a row of it matters by itself, beside the sharded rows that it is
//! joined with, every shard would answer for it: `countries LEFT JOIN orders`, `countries WHERE EXISTS (orders)`. If the
//! statement equates a column of it with a shard key, the copy on each shard can be cut to the rows whose value of that
//! column belongs to the shard under the map of the key. What is left is a sharded table in every respect: disjoint parts
//! that make up the whole, and rows with equal keys on one shard. So the proof is done once more with such uses in the
//! place of sharded tables, and what it allows is right for the same reasons.

use catalog::{KeyColumn, KeyFamily, KeyType, MapId, Oid, Relation, Snapshot};
use sql::{Node, Restriction};

use super::Cx;
use super::graph::{Col, Graph};
use super::rewrite::Replace;
use crate::{KeySource, Many, OwnRows, Plan, Refusal, RefusalCode, StatementKind, Target};

/// A use of a reference table that is cut by shard.
#[derive(Debug, Clone)]
pub(super) struct Own<'a> {
    /// Its entry, in whichever range table.
    pub rte: &'a Node,
    /// The columns whose values decide, in the order of the map's.
    pub key: Vec<KeyColumn>,
    /// By this map.
    pub map: MapId,
}

/// A use of a reference table.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReferenceUse<'a> {
    pub instance: usize,
    pub rte: &'a Node,
    pub table: Oid,
}

/// Stands for the condition in a text until it is taken out again; no text of a client has this byte.
const MARK: char = '\0';

/// The uses of reference tables that could be cut: a column of each is equated with a shard key.
pub(super) fn candidates<'a>(cx: &mut Cx<'a>) -> Vec<Own<'a>> {
    let mut found: Vec<Own<'a>> = Vec::new();
    if cx.kind != StatementKind::Select || !cx.graph.writes.is_empty() || cx.graph.shapes.locking {
        return found;
    }
    for used in cx.graph.references.clone() {
        if found.iter().any(|own| std::ptr::eq(own.rte, used.rte)) {
            continue;
        }
        found.extend(cut(&mut cx.graph, used));
    }
    found
}

/// How a use can be cut: by columns that meet all key columns of a sharded table.
fn cut<'a>(graph: &mut Graph<'a>, used: ReferenceUse<'a>) -> Option<Own<'a>> {
    let relation = graph.snapshot.relation(used.table)?;
    if !relation.children.is_empty() || !relation.parents.is_empty() {
        return None;
    }
    graph.sharded.iter().find_map(|sharded| {
        let wanted = graph.snapshot.relation(sharded.table)?.key_columns();
        // A placed table meets whole tables where it is.
        if wanted.is_empty() {
            return None;
        }
        let pairs = sharded.key.iter().zip(wanted);
        let key = pairs
            .map(|(col, wanted)| meeting(graph, used.instance, relation, *col, wanted.key_type.family()));
        Some(Own {
            rte: used.rte,
            key: key.collect::<Option<_>>()?,
            map: sharded.map,
        })
    })
}

/// The column of a table that is equated with a key column, placed as that one is.
fn meeting(
    graph: &Graph<'_>,
    instance: usize,
    relation: &Relation,
    key: Col,
    family: KeyFamily,
) -> Option<KeyColumn> {
    relation.live_columns().find_map(|column| {
        let key_type = graph.snapshot.key_type(column.type_oid)?;
        let deterministic = column
            .collation
            .is_none_or(|c| graph.snapshot.is_deterministic(c));
        if key_type.family() != family || !deterministic {
            return None;
        }
        let col = graph.known_column(instance, i32::from(column.attnum))?;
        let full = graph.full.contains(&(col, key)) || graph.full.contains(&(key, col));
        let met = full || graph.reach(&[col])[key] || graph.reach(&[key])[col];
        met.then_some(KeyColumn {
            attnum: column.attnum,
            key_type,
        })
    })
}

/// Whether a plan may be better when reference tables are cut.
pub(super) fn is_worth_trying(planned: &Result<Plan, Refusal>) -> bool {
    let refusal = match planned {
        Err(refusal) => refusal,
        Ok(Plan {
            many: Many::Refuse(refusal),
            target: Target::Keys { keys, .. },
            ..
        }) if keys.len() > 1 || !keys.iter().all(KeySource::is_single) => refusal,
        Ok(_) => return false,
    };
    matches!(
        refusal.code,
        RefusalCode::OuterJoin | RefusalCode::Subquery | RefusalCode::NotOnKey
    )
}

/// Whether the second plan does what the first one did not.
pub(super) fn is_better(first: &Result<Plan, Refusal>, second: &Plan) -> bool {
    let by_key = matches!(second.target, Target::Keys { .. });
    !matches!(second.many, Many::Refuse(_)) && (first.is_err() || by_key)
}

impl Replace<'_> {
    /// The mark for what a table is to be restricted to.
    pub(super) fn own_rows(&self, rte: &Node, alias: &str) -> Option<Restriction> {
        let at = self.own.iter().position(|own| std::ptr::eq(own.rte, rte))?;
        Some(Restriction {
            condition: format!("{MARK}{at}:{alias}{MARK}"),
            name: format!("own rows {at}"),
        })
    }
}

/// Takes the marks out of the plan of a statement with such uses.
pub(super) fn resolve(many: &mut Many, own: &[Own<'_>], snapshot: &Snapshot) -> Result<(), Refusal> {
    let misplaced = || Refusal::new(RefusalCode::Subquery);
    let Many::Rows(rows) = many else {
        return Err(misplaced());
    };
    if let crate::Combine::Finish { sql, .. } = &rows.combine
        && sql.contains(MARK)
    {
        return Err(misplaced());
    }
    let text = rows.shard_sql.take().ok_or_else(misplaced)?;
    let mut left = String::with_capacity(text.len());
    let mut cut = vec![false; own.len()];
    for (at, part) in text.split(MARK).enumerate() {
        if at % 2 == 0 {
            left.push_str(part);
            continue;
        }
        let (number, alias) = part.split_once(':').ok_or_else(misplaced)?;
        let number: usize = number.parse().map_err(|_| misplaced())?;
        let own = own.get(number).ok_or_else(misplaced)?;
        cut[number] = true;
        rows.own.push(OwnRows {
            at: left.len(),
            map: own.map,
            columns: columns_sql(own, alias, snapshot).ok_or_else(misplaced)?,
        });
    }
    // One that was not printed (a view is printed by its name) would be whole on every shard.
    if !cut.iter().all(|cut| *cut) {
        return Err(misplaced());
    }
    rows.shard_sql = Some(left);
    Ok(())
}

fn columns_sql(own: &Own<'_>, alias: &str, snapshot: &Snapshot) -> Option<Vec<(KeyType, String)>> {
    let relation = snapshot.relation(Oid(own.rte.oid("relid").ok()?))?;
    let column = |key: &KeyColumn| {
        let name = &relation.column(key.attnum)?.name;
        Some((key.key_type, format!("{alias}.{}", sql::quote_ident(name))))
    };
    own.key.iter().map(column).collect()
}
