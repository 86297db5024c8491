//! From a key to its shard.

use catalog::{KeyError, KeyFamily, KeyShape, KeyType, ShardId, ShardMap, Snapshot};
use topology::ClusterRecord;

use crate::api::{ApiError, ErrorKind, PhysicalConnection, Resolved};

/// The shard of a key of the column that is called `key_type` in every table sharded by it. Of several columns, `key_type` is
/// their names with commas between them, and the key is written as PostgreSQL prints a record.
///
/// Several tables are fine as long as each value is on the same shard for all of them.
pub(super) fn shard_of(facts: &Snapshot, key_type: &str, key: &str) -> Result<ShardId, ApiError> {
    let bad = |message: String| ApiError::new(ErrorKind::BadRequest, message);
    let wanted: Vec<&str> = key_type.split(',').map(str::trim).collect();
    let mut placement: Option<(Vec<KeyFamily>, &ShardMap)> = None;
    let mut shapes: Vec<KeyShape> = Vec::new();
    for relation in facts.relations() {
        let Some(map) = relation.map().and_then(|map| facts.map(map)) else {
            continue;
        };
        let names: Vec<&str> = relation.key_names().collect();
        // A name may itself have a comma in it.
        if names != wanted && names != [key_type] {
            continue;
        }
        let types: Vec<KeyType> = relation
            .key_columns()
            .iter()
            .map(|column| column.key_type)
            .collect();
        let Ok(shape) = KeyShape::new(types) else { continue };
        let this = (shape.families(), map);
        if *placement.get_or_insert_with(|| this.clone()) != this {
            return Err(bad(format!(
                "\"{key_type}\" is ambiguous: it shards tables that place the same key differently"
            )));
        }
        shapes.push(shape);
    }
    let Some((_, map)) = placement else {
        return Err(bad(match is_salted(facts, &wanted) {
            true => format!("\"{key_type}\" is salted: the rows of one key are on several shards"),
            false => format!("no table is sharded by a column called \"{key_type}\""),
        }));
    };
    // Types of one family differ in their range only: the widest decides.
    let mut error = KeyError::Malformed;
    for shape in shapes {
        match shape.from_text(key.as_bytes()) {
            Ok(value) => {
                let nowhere = || bad(format!("\"{key}\" is not listed: no shard may hold it"));
                return map.holder_of(&value).ok_or_else(nowhere);
            }
            Err(KeyError::Malformed) => {}
            Err(other) => error = other,
        }
    }
    Err(bad(match error {
        KeyError::NotCanonical => {
            format!("\"{key}\" is not written as PostgreSQL prints a value of \"{key_type}\"")
        }
        KeyError::OutOfRange => format!("\"{key}\" is out of range for \"{key_type}\""),
        KeyError::Malformed => format!("\"{key}\" is not a value of \"{key_type}\""),
    }))
}

/// Whether these columns are the key of a table without those that salt it.
fn is_salted(facts: &Snapshot, wanted: &[&str]) -> bool {
    facts.relations().any(|relation| {
        let salt = relation.map().and_then(|map| facts.map(map)?.salt());
        let key = salt.map(|salt| relation.key_names().take(salt.key_columns()));
        key.is_some_and(|key| key.eq(wanted.iter().copied()))
    })
}

/// The answer for a shard.
pub(super) fn answer(
    cluster: &ClusterRecord,
    shard: ShardId,
    key: &str,
    reachable: bool,
    active_connections: usize,
) -> Result<Resolved, ApiError> {
    let record = cluster.shard(shard).ok_or_else(|| {
        ApiError::new(
            ErrorKind::Unavailable,
            "the key's shard is not part of the cluster",
        )
    })?;
    let replicas = record
        .replicas
        .iter()
        .map(|node| format!("{}:{}", node.host, node.port));
    Ok(Resolved {
        shard_key: key.to_owned(),
        shard_id: record.name.clone(),
        physical_connection: PhysicalConnection {
            primary_host: record.primary.host.clone(),
            primary_port: record.primary.port,
            replica_hosts: replicas.collect(),
            ssl_mode: "disable".to_owned(),
        },
        status: if reachable { "active" } else { "unreachable" }.to_owned(),
        active_connections,
    })
}
