//! Indexes over all shards (docs/decisions/0036).

use crate::closure::Names;
use crate::load::SnapshotBuilder;
use crate::{FkAction, ForeignKey, KeyError, KeyShape, KeyValue, Oid, ShardId, ShardMap};

/// An index of a sharded table by other columns than its key. It has an entry for each row whose indexed columns are not
/// NULL, on the shard that its own map gives their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalIndex {
    /// Number; names its objects on the shards.
    pub id: u32,
    /// Schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Its own name, which is that of the constraint.
    pub name: String,
    /// The indexed columns, in order.
    pub columns: Vec<String>,
    /// No two rows have the same values.
    pub unique: bool,
    /// It is being made: writers carry it along, and nobody is to ask it.
    pub building: bool,
    /// Their types.
    pub shape: KeyShape,
    /// Where entries are.
    pub map: ShardMap,
}

impl GlobalIndex {
    /// Where the entry of these values is, given as PostgreSQL prints them.
    ///
    /// # Errors
    /// A value is no value of its column's type, or there are too few of them.
    pub fn shard_of(&self, values: &[impl AsRef<[u8]>]) -> Result<ShardId, KeyError> {
        let types = self.shape.types();
        if values.len() != types.len() {
            return Err(KeyError::Malformed);
        }
        let columns = types.iter().zip(values);
        let columns = columns.map(|(of, value)| of.from_text(value.as_ref()));
        let key = KeyValue::of_columns(columns.collect::<Result<Vec<_>, _>>()?);
        Ok(self.map.shard_of(&key))
    }
}

/// Tells tables which of the indexes are theirs, and which others are written with them: a foreign key's action changes
/// rows of the table that has it.
pub(crate) fn attach(facts: &mut SnapshotBuilder, indexes: &[GlobalIndex], names: &Names<'_>) {
    let mut work: Vec<Oid> = Vec::new();
    for index in indexes {
        let named = names.relations.get(index.table.as_str()).into_iter().flatten();
        for oid in named {
            if let Some(relation) = facts.relations.get_mut(oid)
                && relation.schema == index.schema
            {
                relation.global_indexes.push(index.id);
                work.push(*oid);
            }
        }
    }
    let acts = |action: FkAction| !matches!(action, FkAction::NoAction | FkAction::Restrict);
    let acting = |key: &&ForeignKey| acts(key.on_update) || acts(key.on_delete);
    while let Some(oid) = work.pop() {
        let Some(relation) = facts.relations.get_mut(&oid) else {
            continue;
        };
        if std::mem::replace(&mut relation.writes_global_indexes, true) {
            continue;
        }
        work.extend(
            relation
                .foreign_keys
                .iter()
                .filter(acting)
                .map(|key| key.referenced),
        );
        // A row may be written through a partition, or through the table that it is one of.
        work.extend(relation.children.iter().chain(&relation.parents));
    }
}
