//! What a schema change that is being committed means for the cluster record.
//!
//! The shards decide whether such a change happens; the record must follow, also when the proxy that leads the change
//! dies between the two. So the record says beforehand what it will be. The transaction on the home shard writes a
//! decision row under [`SchemaJournal::change`]: where the row is, the change was committed. Whoever finds a journal
//! without a barrier excludes a commit that is still on its way, and applies the journal or removes it.

use serde::{Deserialize, Serialize};

use super::{
    ClusterRecord, FunctionRecord, GlobalIndexRecord, MapRecord, SchemaRecord, TableName, TableRecord,
};

/// A schema change between its announcement and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaJournal {
    /// The database it is made in.
    pub database: String,
    /// Names the decision row on the home shard (`commit::Gid` as text).
    pub change: String,
    /// Tables that are no longer recorded under these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<TableName>,
    /// Tables as they are recorded afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub put: Vec<TableRecord>,
    /// Maps that are new or have changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maps: Vec<MapRecord>,
    /// The functions declared local, when they are others afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_local: Option<Vec<FunctionRecord>>,
    /// The global indexes, when they are others afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_indexes: Option<Vec<GlobalIndexRecord>>,
    /// The schemas whose new tables are placed, when they are others afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed_schemas: Option<Vec<SchemaRecord>>,
}

impl SchemaJournal {
    /// What turns one record into another; both are of the same shards.
    pub fn between(
        before: &ClusterRecord,
        after: &ClusterRecord,
        database: &str,
        change: String,
    ) -> SchemaJournal {
        let gone = |table: &&TableRecord| after.table(&table.database, &table.schema, &table.name).is_none();
        let removed = before.tables.iter().filter(gone).map(|table| TableName {
            database: table.database.clone(),
            schema: table.schema.clone(),
            name: table.name.clone(),
        });
        let put = after.tables.iter().filter(|table| !before.tables.contains(table));
        let maps = after.maps.iter().filter(|map| !before.maps.contains(map));
        let declared_local = after.declared_local.clone();
        let global_indexes = after.global_indexes.clone();
        let schemas = after.placed_schemas.clone();
        SchemaJournal {
            database: database.to_owned(),
            change,
            removed: removed.collect(),
            put: put.cloned().collect(),
            maps: maps.cloned().collect(),
            declared_local: (before.declared_local != declared_local).then_some(declared_local),
            global_indexes: (before.global_indexes != global_indexes).then_some(global_indexes),
            placed_schemas: (before.placed_schemas != schemas).then_some(schemas),
        }
    }

    /// Makes the change. Repeating it changes nothing.
    pub fn apply(&self, record: &mut ClusterRecord) {
        record.tables.retain(|table| {
            let removed = self.removed.iter().any(|name| is(table, name));
            !removed && !self.put.iter().any(|put| same_name(table, put))
        });
        record.tables.extend(self.put.iter().cloned());
        record
            .maps
            .retain(|map| self.maps.iter().all(|put| put.id != map.id));
        record.maps.extend(self.maps.iter().cloned());
        if let Some(declared) = &self.declared_local {
            record.declared_local.clone_from(declared);
        }
        if let Some(indexes) = &self.global_indexes {
            record.global_indexes.clone_from(indexes);
        }
        if let Some(schemas) = &self.placed_schemas {
            record.placed_schemas.clone_from(schemas);
        }
    }
}

fn is(table: &TableRecord, name: &TableName) -> bool {
    (&table.database, &table.schema, &table.name) == (&name.database, &name.schema, &name.name)
}

fn same_name(table: &TableRecord, other: &TableRecord) -> bool {
    (&table.database, &table.schema, &table.name) == (&other.database, &other.schema, &other.name)
}
