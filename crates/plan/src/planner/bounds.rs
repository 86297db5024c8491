//! Conditions on the order of a key: which shards of a map by ranges they concern.

use catalog::{KeyType, MapId, Oid, Rule};
use sql::Node;

use super::Cx;
use super::expr::key_source;
use super::graph::{Col, Graph};
use super::joins::same_family;
use super::level::Env;
use crate::{Bound, KeySource, Side, Target};

impl<'a> Graph<'a> {
    /// Notes what a conjunct says of the order of a column.
    pub fn bound_of(&mut self, node: &'a Node, env: &Env<'_, 'a>, targets: &[usize]) {
        let Some(side) = self.side_of(node) else { return };
        let args = node.nodes("args").unwrap_or_default();
        let [left, right] = args.as_slice() else { return };
        let other = match side {
            Side::AtLeast => Side::AtMost,
            Side::AtMost => Side::AtLeast,
        };
        for (column, value, side) in [(*left, *right, side), (*right, *left, other)] {
            if let Some(col) = self.target_column(column, env, targets)
                && let Some(key) = key_source(value, self.snapshot)
                && same_family(column, &key, self)
            {
                self.bounds.push((col, side, key));
                return;
            }
        }
    }

    /// On which side of its right operand an operator wants its left one, if it is the order in which keys are placed: the
    /// built-in one of a family that has an order, text by its bytes.
    fn side_of(&self, node: &Node) -> Option<Side> {
        if !node.is("OPEXPR") {
            return None;
        }
        let operator = self.snapshot.operator(Oid(node.oid("opno").ok()?))?;
        let side = match operator.name.as_str() {
            "<" | "<=" => Side::AtMost,
            ">" | ">=" => Side::AtLeast,
            _ => return None,
        };
        let left = KeyType::of_operand(operator.left?)?.family();
        let right = KeyType::of_operand(operator.right)?.family();
        let collation = node.oid("inputcollid").unwrap_or(0);
        let ordered = left == right && left.has_order() && operator.oid.is_builtin();
        (ordered && (collation == 0 || self.snapshot.is_bytewise(Oid(collation)))).then_some(side)
    }

    /// The bounds of a key, those of columns included that it equals in every row that matters.
    fn bounds_of(&self, key: Col) -> Vec<(Side, &KeySource)> {
        let bounds = self.bounds.iter();
        let reaching = bounds.filter(|(col, ..)| self.reach(&[*col])[key]);
        reaching.map(|(_, side, source)| (*side, source)).collect()
    }
}

/// The shards between bounds, when every use of a sharded table has some and the map is one by ranges of the key.
pub(super) fn between(cx: &Cx<'_>, map: MapId) -> Option<Target> {
    let by_range = cx.snapshot.map(map).is_some_and(|map| map.rule() == Rule::Range);
    if !by_range || cx.graph.bounds.is_empty() {
        return None;
    }
    let (mut keys, mut uses) = (Vec::new(), Vec::new());
    for sharded in &cx.graph.sharded {
        let bounds = cx.graph.bounds_of(sharded.key.single()?);
        if bounds.is_empty() {
            return None;
        }
        let mut of_use = Vec::new();
        for (side, source) in bounds {
            let known = keys.iter().position(|key| key == source);
            let key = known.unwrap_or_else(|| {
                keys.push(source.clone());
                keys.len() - 1
            });
            of_use.push(Bound { key, side });
        }
        uses.push(of_use);
    }
    Some(Target::Between { map, keys, uses })
}
