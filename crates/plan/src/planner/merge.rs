//! MERGE: where its source and its target meet, and where its new rows belong.
//!
//! The source is joined with the target like this, as far as shards are concerned:
//!
//! * only `WHEN MATCHED`: an inner join. Each row of the target is on one shard, so any source that is whole everywhere
//!   (a reference table, VALUES) will do, or one that is colocated and joined on the key.
//! * `WHEN NOT MATCHED`: an outer join that keeps the source. A row of the source must be looked at on one shard only, the one
//!   where its partner would be and where its new row belongs: the source is sharded alike, joined on the key, and its key
//!   becomes the new row's, or everything is pinned to one key.
//! * `WHEN NOT MATCHED BY SOURCE` (from 17 on) is refused.

use catalog::{KeyColumn, KeyValue, Relation};
use sql::{Node, Value};

use super::expr::key_source;
use super::graph::{Col, Graph, KeyCols, Sharded};
use super::joins::Joined;
use super::level::Env;
use crate::{KeySource, Refusal, RefusalCode};

impl<'a> Graph<'a> {
    /// Reads the join of a MERGE and registers its target and its new rows.
    pub fn merge_tree(&mut self, env: &Env<'_, 'a>) -> Result<Joined, Refusal> {
        let query = env.level.query;
        let unreadable = || Refusal::new(RefusalCode::Unreadable);
        let tree = query.node("jointree")?;
        let mut joined = Joined::default();
        for item in tree.nodes("fromlist")? {
            joined.add(self.join_node(item, env, &[])?);
        }
        let rtindex = usize::try_from(query.i64("resultRelation")?).map_err(|_| unreadable())?;
        let rte = *env
            .level
            .rtable
            .get(rtindex.wrapping_sub(1))
            .ok_or_else(unreadable)?;
        let instance = env.level.instances[rtindex - 1];
        let before = self.sharded.len();
        let relation = self.relation(instance, rte)?;
        let target = self.sharded.get(before).copied();
        let actions = query.nodes("mergeActionList")?;
        let kinds = actions.iter().map(|action| matching(action));
        let kinds = kinds.collect::<Result<Vec<Matching>, Refusal>>()?;
        if target.is_some() && kinds.contains(&Matching::NotBySource) {
            return Err(Refusal::with(RefusalCode::Merge, "NOT MATCHED BY SOURCE"));
        }
        let keeps_source = kinds.contains(&Matching::NotByTarget);
        let mut restricted = vec![rtindex];
        if keeps_source {
            // What the condition says of the source decides about matching, not about which rows there are.
            joined.nullable.push(rtindex);
        } else {
            restricted.extend(joined.entries.iter().copied());
            joined.anchors.extend(target.map(|target| vec![target.key]));
        }
        joined.entries.push(rtindex);
        for quals in [tree.value("quals"), query.value("mergeJoinCondition")] {
            self.condition(quals, env, &restricted)?;
        }
        if let (Some(target), Some(relation)) = (target, relation) {
            for action in actions.iter().filter(|action| command(action) == Some("3")) {
                self.new_rows(action, env, target, relation)?;
            }
        }
        Ok(joined)
    }

    /// The rows of an INSERT action are a use of the table of their own.
    fn new_rows(
        &mut self,
        action: &'a Node,
        env: &Env<'_, 'a>,
        target: Sharded,
        relation: &Relation,
    ) -> Result<(), Refusal> {
        let instance = self.instance()?;
        let columns = relation.key_columns();
        let new = columns
            .iter()
            .map(|key| self.column(instance, i32::from(key.attnum)));
        let new = KeyCols::new(new);
        self.sharded.push(Sharded { key: new, ..target });
        self.merged.push(new);
        for (column, node) in columns.iter().zip(new.iter()) {
            self.new_column(action, env, *column, *node)?;
        }
        Ok(())
    }

    fn new_column(
        &mut self,
        action: &'a Node,
        env: &Env<'_, 'a>,
        key: KeyColumn,
        node: Col,
    ) -> Result<(), Refusal> {
        let targets = action.nodes("targetList")?;
        let mut entries = targets.into_iter();
        let entry = entries.find(|t| t.i64("resno").is_ok_and(|r| r == i64::from(key.attnum)));
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
        } else if let Some((col, Some(_))) = self.column_of(expr, env)
            && !self.null_extended.contains(&col)
        {
            self.edge(col, node);
        }
        Ok(())
    }

    /// Whether every new row of a MERGE has the key of these columns.
    pub fn merges_from(&self, anchor: &KeyCols) -> bool {
        let fed_by = |(to, from): (&Col, &Col)| {
            let source = self.feeds(*to);
            source.is_some_and(|source| self.same(*from, source))
        };
        self.merged
            .iter()
            .all(|new| new.len() == anchor.len() && new.iter().zip(anchor.iter()).all(fed_by))
    }
}

/// Which rows an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matching {
    Both,
    NotBySource,
    NotByTarget,
}

fn matching(action: &Node) -> Result<Matching, Refusal> {
    // Up to 16 a boolean, then an enum.
    let found = match (
        action.value("matched").as_str(),
        action.value("matchKind").as_str(),
    ) {
        (Some("true"), _) | (None, Some("0")) => Matching::Both,
        (Some("false"), _) | (None, Some("2")) => Matching::NotByTarget,
        (None, Some("1")) => Matching::NotBySource,
        _ => return Err(Refusal::with(RefusalCode::Merge, "an unknown action")),
    };
    Ok(found)
}

fn command(action: &Node) -> Option<&str> {
    action.value("commandType").as_str()
}

/// The assignments of the UPDATE actions of a MERGE.
pub(super) fn updates(query: &Node) -> Vec<&Value> {
    let actions = query.value("mergeActionList").as_list().unwrap_or_default();
    let actions = actions.iter().filter_map(Value::as_node);
    actions
        .filter(|action| command(action) == Some("2"))
        .map(|action| action.value("targetList"))
        .collect()
}
