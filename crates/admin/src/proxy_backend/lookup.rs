//! From a path to the statement that reads its row, and from the row to the answer.

use catalog::{KeyShape, KeyType, Placement, Relation, RelationKind, Snapshot};
use serde::Serialize;
use topology::ClusterRecord;

use super::sessions::FoundRow;
use super::shard_name;
use crate::api::{ApiError, ErrorKind, RowKey};

const METADATA: &str = "shard_routing_metadata";

/// The statement for a row.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    /// One text parameter per value of the key. First column: the row. Second, when sharded: its shard key as text.
    pub(super) sql: String,
    placement: &'a Placement,
}

/// Finds the table and writes the statement.
pub(super) fn plan<'a>(
    facts: &'a Snapshot,
    search_path: &[String],
    key: &RowKey,
) -> Result<Lookup<'a>, ApiError> {
    let relation = find(facts, search_path, key)
        .ok_or_else(|| ApiError::new(ErrorKind::NotFound, "there is no such table"))?;
    let Some(primary) = relation.unique_indexes.iter().find(|index| index.primary) else {
        return Err(ApiError::new(ErrorKind::NotFound, "the table has no primary key"));
    };
    if primary.columns.len() != key.values.len() {
        let message = format!(
            "the primary key has {} columns, separated by commas",
            primary.columns.len()
        );
        return Err(ApiError::new(ErrorKind::BadRequest, message));
    }
    if relation.column_named(METADATA).is_some() {
        let message = format!("the table has a column of its own that is called {METADATA}");
        return Err(ApiError::new(ErrorKind::Refused, message));
    }
    let mut conditions = Vec::with_capacity(primary.columns.len());
    for (index, attnum) in primary.columns.iter().enumerate() {
        // Column 0 stands for one whose equality is not that of its bytes.
        let Some(column) = relation.column(*attnum) else {
            let message = "a column of the primary key has a nondeterministic collation or an operator class of its own";
            return Err(ApiError::new(ErrorKind::Refused, message));
        };
        conditions.push(format!("t.{} = ${}", quoted(&column.name), index + 1));
    }
    // `t.*` and not `t`: a column may be called t.
    let mut sql = "SELECT pg_catalog.row_to_json(t.*)::pg_catalog.text".to_owned();
    let key: Vec<String> = relation
        .key_names()
        .map(|name| format!("t.{}", quoted(name)))
        .collect();
    match key.as_slice() {
        [] => {}
        [only] => sql.push_str(&format!(", {only}::pg_catalog.text")),
        several => sql.push_str(&format!(", ROW({})::pg_catalog.text", several.join(", "))),
    }
    sql.push_str(&format!(
        " FROM {}.{} AS t WHERE {}",
        quoted(&relation.schema),
        quoted(&relation.name),
        conditions.join(" AND ")
    ));
    Ok(Lookup {
        sql,
        placement: &relation.placement,
    })
}

impl Lookup<'_> {
    /// The row's JSON with the metadata as its last member. The JSON is never read: numbers keep all their digits.
    pub(super) fn answer(
        &self,
        facts: &Snapshot,
        cluster: &ClusterRecord,
        row: &FoundRow,
    ) -> Result<String, ApiError> {
        let (shard, routing_mechanism) = match self.placement {
            Placement::Home => (Some(facts.home()), "unsharded"),
            Placement::Reference => (Some(facts.home()), "reference"),
            Placement::Sharded { key, map } if key.is_empty() => {
                (facts.map(*map).and_then(catalog::ShardMap::whole), "place")
            }
            Placement::Sharded { key, map } => {
                let types: Vec<KeyType> = key.iter().map(|column| column.key_type).collect();
                let shape = KeyShape::new(types).ok();
                let value = shape
                    .zip(row.shard_key.as_deref())
                    .and_then(|(shape, text)| shape.from_text(text.as_bytes()).ok());
                let scheme = facts.map(*map).map_or("hash", catalog::ShardMap::scheme_name);
                (value.and_then(|value| facts.shard_of(*map, &value)), scheme)
            }
        };
        let metadata = Metadata {
            assigned_shard_id: shard
                .map(|shard| shard_name(cluster, shard))
                .ok_or_else(unreadable)?,
            routing_mechanism,
            routing_version: facts.epoch().0,
        };
        let metadata = serde_json::to_string(&metadata).map_err(|_| unreadable())?;
        let members = row.json.strip_suffix('}').ok_or_else(unreadable)?;
        let comma = if members == "{" { "" } else { "," };
        Ok(format!("{members}{comma}\"{METADATA}\":{metadata}}}"))
    }
}

#[derive(Serialize)]
struct Metadata {
    assigned_shard_id: String,
    routing_mechanism: &'static str,
    routing_version: u64,
}

fn unreadable() -> ApiError {
    ApiError::new(ErrorKind::Internal, "the row was not read as expected")
}

fn find<'a>(facts: &'a Snapshot, search_path: &[String], key: &RowKey) -> Option<&'a Relation> {
    let in_schema = |schema: &str| {
        facts.relation_in(schema, &key.table).filter(|relation| {
            matches!(
                relation.kind,
                RelationKind::Table | RelationKind::PartitionedTable
            ) && !relation.system
        })
    };
    match &key.schema {
        Some(schema) => in_schema(schema),
        None => search_path.iter().find_map(|schema| in_schema(schema)),
    }
}

/// A name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
