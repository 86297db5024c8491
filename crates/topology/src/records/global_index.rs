//! Global indexes: entries of a sharded table's rows, placed by the indexed columns (docs/decisions/0036).

use catalog::{GlobalIndex, KeyShape};
use serde::{Deserialize, Serialize};

use super::{ClusterRecordError, Scheme};

/// A global index of a sharded table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalIndexRecord {
    /// Number, never used twice in a cluster; names its objects on the shards.
    pub id: u32,
    /// Database.
    pub database: String,
    /// Schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Name, as that of the constraint it stands for.
    pub name: String,
    /// The indexed columns, in order.
    pub columns: Vec<String>,
    /// Their types' names in `pg_catalog`, same order.
    pub key_types: Vec<String>,
    /// Where entries are.
    pub scheme: Scheme,
    /// No two rows have the same values.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub unique: bool,
    /// It is being made: writers carry it along, and nobody is to ask it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub building: bool,
}

/// Indexes were unique before they had a choice.
fn yes() -> bool {
    true
}

impl GlobalIndexRecord {
    /// As the catalog takes it.
    ///
    /// # Errors
    /// Its scheme is no map, or its types are not known.
    pub(super) fn to_index(&self) -> Result<GlobalIndex, ClusterRecordError> {
        let title = || format!("global index {} of {}.{}", self.name, self.schema, self.table);
        let shape = KeyShape::named(&self.key_types.join(","));
        let shape = shape.filter(|shape| shape.types().len() == self.columns.len());
        let shape = shape.ok_or_else(|| ClusterRecordError::KeyColumns { table: title() })?;
        let map = self.scheme.to_shard_map();
        let map = map.map_err(|error| ClusterRecordError::Index {
            index: title(),
            error,
        })?;
        Ok(GlobalIndex {
            id: self.id,
            schema: self.schema.clone(),
            table: self.table.clone(),
            name: self.name.clone(),
            columns: self.columns.clone(),
            unique: self.unique,
            building: self.building,
            shape,
            map,
        })
    }
}
