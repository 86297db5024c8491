//! INSERT, UPDATE, DELETE: the target's key, and what may be written where.

use catalog::{KeyColumn, KeyValue, Placement, Relation};
use sql::{Node, Value};

use super::expr::{as_var, key_source, strip_casts};
use super::graph::{Col, Graph, KeyCols, Sharded};
use super::level::Env;
use crate::triage::{writable, writable_at_once};
use crate::{KeySource, Refusal, RefusalCode};

/// A table that a statement (or one of its CTEs) writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub query: &'a Node,
    pub relation: Option<&'a Relation>,
    /// The use of the target, when it is sharded.
    pub target: Option<Sharded>,
}

/// Reads a data-modifying CTE.
pub(super) fn modifying<'a>(
    graph: &mut Graph<'a>,
    body: &'a Node,
    env: Option<&Env<'_, 'a>>,
) -> Result<(), Refusal> {
    graph.query(body, env).map(|_| ())
}

impl<'a> Graph<'a> {
    /// Registers the target of a data-modifying query level.
    pub fn target(&mut self, env: &Env<'_, 'a>) -> Result<(), Refusal> {
        let query = env.level.query;
        let command = query.str("commandType")?;
        if command == "1" {
            return Ok(());
        }
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let rtindex = usize::try_from(query.i64("resultRelation")?).unwrap_or(0);
        let rte = *env
            .level
            .rtable
            .get(rtindex.wrapping_sub(1))
            .ok_or_else(unreadable)?;
        let instance = env.level.instances[rtindex - 1];
        let relation = if command == "3" {
            let before = self.sharded.len();
            let relation = self.relation(instance, rte)?;
            if let Some(sharded) = self.sharded.get(before).copied() {
                self.insert_key(env, sharded, relation)?;
            }
            relation
        } else {
            // In the join tree: already registered there.
            self.snapshot.relation(catalog::Oid(rte.oid("relid")?))
        };
        let columns = relation.map_or(&[][..], Relation::key_columns).iter();
        let key = KeyCols::new(columns.map(|k| self.column(instance, i32::from(k.attnum))));
        // Columns belong to one use of a table: no other has them.
        let target = self
            .sharded
            .iter()
            .find(|s| !key.is_empty() && s.key == key)
            .copied();
        self.writes.push(Write {
            query,
            relation,
            target,
        });
        Ok(())
    }

    /// Ties the key of the new rows to where it comes from.
    fn insert_key(
        &mut self,
        env: &Env<'_, 'a>,
        sharded: Sharded,
        relation: Option<&Relation>,
    ) -> Result<(), Refusal> {
        let columns = relation.map_or(&[][..], Relation::key_columns);
        for (column, key) in columns.iter().zip(sharded.key.iter()) {
            self.insert_column(env, *column, *key)?;
        }
        Ok(())
    }

    fn insert_column(&mut self, env: &Env<'_, 'a>, key: KeyColumn, node: Col) -> Result<(), Refusal> {
        let targets = env.level.query.nodes("targetList")?;
        let entry = targets
            .into_iter()
            .find(|t| t.i64("resno").is_ok_and(|r| r == i64::from(key.attnum)));
        let Some(entry) = entry else {
            let null = KeySource::Const {
                value: KeyValue::Null,
                location: None,
                key_type: key.key_type,
            };
            let source = self.constant(vec![null]);
            self.edge(source, node);
            return Ok(());
        };
        let expr = entry.node("expr")?;
        if let Some(source) = key_source(expr, self.snapshot) {
            let source = self.constant(vec![source]);
            self.edge(source, node);
        } else if let Some((col, rtindex)) = self.column_of(expr, env) {
            let filled = self.null_extended.contains(&col) || rtindex.is_none();
            if !filled {
                self.edge(col, node);
            }
        }
        Ok(())
    }
}

/// Checks every written table; `known` says which keys are pinned.
pub(super) fn check(graph: &Graph<'_>, known: &[Option<&[KeySource]>]) -> Result<(), Refusal> {
    for write in &graph.writes {
        let Some(relation) = write.relation else { continue };
        if relation.placement.is_home() {
            continue;
        }
        writable(relation)?;
        if let Placement::Sharded { .. } = relation.placement {
            key_kept(write, relation, known)?;
        }
    }
    Ok(())
}

/// Checks that what is written may be written on several shards by one statement.
pub(super) fn may_be_spread(graph: &Graph<'_>) -> Result<(), Refusal> {
    // DELETE computes no row.
    let computes = |write: &&Write<'_>| write.query.value("commandType").as_str() != Some("4");
    let written = graph.writes.iter().filter(computes);
    written
        .filter_map(|write| write.relation)
        .filter(|relation| !relation.placement.is_home())
        .try_for_each(writable_at_once)
}

/// Checks an INSERT whose rows come to a sharded or reference table from elsewhere.
pub(super) fn insertable(relation: &Relation, query: &Node) -> Result<(), Refusal> {
    writable(relation)?;
    writable_at_once(relation)?;
    let write = Write {
        query,
        relation: Some(relation),
        target: None,
    };
    key_kept(&write, relation, &[])
}

/// UPDATE and ON CONFLICT DO UPDATE must leave the key as it is.
fn key_kept(write: &Write<'_>, relation: &Relation, known: &[Option<&[KeySource]>]) -> Result<(), Refusal> {
    for (at, key) in relation.key_columns().iter().enumerate() {
        let node = write.target.and_then(|target| target.key.get(at).copied());
        let pinned = node.and_then(|node| known[node]);
        column_kept(write, relation, i64::from(key.attnum), pinned)?;
    }
    Ok(())
}

fn column_kept(
    write: &Write<'_>,
    relation: &Relation,
    attno: i64,
    pinned: Option<&[KeySource]>,
) -> Result<(), Refusal> {
    let result = write.query.i64("resultRelation")?;
    if write.query.value("commandType").as_str() == Some("2") {
        let list = write.query.value("targetList");
        if let Some(expr) = assigned(list, attno)
            && !keeps(expr, attno, &[result])
            && !same_key(expr, pinned)
        {
            return Err(Refusal::with(RefusalCode::KeyUpdate, &relation.name));
        }
    }
    for list in super::merge::updates(write.query) {
        if assigned(list, attno).is_some_and(|expr| !keeps(expr, attno, &[result])) {
            return Err(Refusal::with(RefusalCode::KeyUpdate, &relation.name));
        }
    }
    if let Some(conflict) = write.query.opt_node("onConflict")? {
        let excluded = conflict.i64("exclRelIndex").unwrap_or(0);
        // The row in conflict has the same key as the new one when the key is among the arbiters.
        let arbiters = conflict.value("arbiterElems").as_list().unwrap_or_default();
        let by_key = arbiters.iter().filter_map(Value::as_node).any(|e| {
            let var = e.value("expr").as_node().map(strip_casts).and_then(as_var);
            var.is_some_and(|v| i64::from(v.attno) == attno)
        });
        let same: &[i64] = if by_key { &[result, excluded] } else { &[result] };
        if let Some(expr) = assigned(conflict.value("onConflictSet"), attno)
            && !keeps(expr, attno, same)
        {
            return Err(Refusal::with(RefusalCode::OnConflict, &relation.name));
        }
    }
    Ok(())
}

/// What is assigned to a column.
fn assigned(targets: &Value, attno: i64) -> Option<&Node> {
    let targets = targets.as_list()?;
    let mut entries = targets.iter().filter_map(Value::as_node);
    let entry = entries
        .find(|t| t.i64("resno").is_ok_and(|r| r == attno) && t.value("resjunk").as_str() != Some("true"))?;
    entry.value("expr").as_node()
}

/// Whether the expression is the column itself, of one of these entries.
fn keeps(expr: &Node, attno: i64, entries: &[i64]) -> bool {
    as_var(strip_casts(expr)).is_some_and(|v| {
        v.levels_up == 0
            && i64::from(v.attno) == attno
            && entries.iter().any(|e| usize::try_from(*e) == Ok(v.rtindex))
    })
}

/// Whether the assigned value is the one the row is known to have.
fn same_key(expr: &Node, pinned: Option<&[KeySource]>) -> bool {
    let Some([known]) = pinned else { return false };
    match (known, super::expr::extern_param(strip_casts(expr))) {
        (KeySource::Param { index, .. }, Some(assigned)) => *index == assigned,
        _ => false,
    }
}
