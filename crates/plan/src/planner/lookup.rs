//! Rows that a global index can find (docs/decisions/0036).

use catalog::{GlobalIndex, MapId};

use super::graph::Sharded;
use super::{Cx, joins};
use crate::{KeySource, Target};

/// The index by which the only sharded table of a statement can be asked, with the values to look for. Only rows with these
/// values matter, so the statement is right where such rows are.
pub(super) fn target(cx: &Cx<'_>, map: MapId) -> Option<Target> {
    let [only] = cx.graph.sharded.as_slice() else {
        return None;
    };
    let relation = cx.snapshot.relation(only.table)?;
    let known = |id: &u32| cx.snapshot.global_index(*id);
    let mut indexes: Vec<_> = relation.global_indexes.iter().filter_map(known).collect();
    // Half of an index says nothing.
    indexes.retain(|index| !index.building);
    // One that finds few rows for certain comes first.
    indexes.sort_by_key(|index| !index.unique);
    indexes
        .into_iter()
        .find_map(|index| Some((index.id, values(cx, only, index)?)))
        .map(|(index, keys)| Target::Lookup { map, index, keys })
}

/// The values of all columns of an index that matter.
fn values(cx: &Cx<'_>, sharded: &Sharded, index: &GlobalIndex) -> Option<Vec<KeySource>> {
    let relation = cx.snapshot.relation(sharded.table)?;
    let instance = cx.graph.instance_of(*sharded.key.first()?)?;
    let known = cx.graph.known();
    let mut columns = Vec::new();
    for (name, of) in index.columns.iter().zip(index.shape.types()) {
        let column = relation.column_named(name)?;
        let col = cx.graph.known_column(instance, i32::from(column.attnum))?;
        let sources = known[col]?;
        let alike = |source: &KeySource| {
            let types = source.column_types();
            !types.is_empty() && types.iter().all(|other| other.family() == of.family())
        };
        if !sources.iter().all(alike) {
            return None;
        }
        columns.push(sources.to_vec());
    }
    let combinations = columns.iter().map(Vec::len).try_fold(1, usize::checked_mul);
    combinations.filter(|count| *count <= joins::KEYS_MAX)?;
    Some(KeySource::product(columns))
}
