//! From a key to its shard.

use catalog::{KeyError, KeyFamily, KeyType, ShardId, ShardMap, Snapshot};
use topology::ClusterRecord;

use crate::api::{ApiError, ErrorKind, PhysicalConnection, Resolved};

/// The shard of a key of the column that is called `key_type` in every table sharded by it.
///
/// Several tables are fine as long as each value is on the same shard for all of them.
pub(super) fn shard_of(facts: &Snapshot, key_type: &str, key: &str) -> Result<ShardId, ApiError> {
    let bad = |message: String| ApiError::new(ErrorKind::BadRequest, message);
    let mut placement: Option<(KeyFamily, &ShardMap)> = None;
    let mut types: Vec<KeyType> = Vec::new();
    for relation in facts.relations() {
        let (Some(column), Some(map)) = (
            relation.key_column(),
            relation.map().and_then(|map| facts.map(map)),
        ) else {
            continue;
        };
        if relation
            .column(column.attnum)
            .is_none_or(|named| named.name != key_type)
        {
            continue;
        }
        let this = (column.key_type.family(), map);
        if *placement.get_or_insert(this) != this {
            return Err(bad(format!(
                "\"{key_type}\" is ambiguous: it shards tables that place the same key differently"
            )));
        }
        types.push(column.key_type);
    }
    let Some((_, map)) = placement else {
        return Err(bad(format!(
            "no table is sharded by a column called \"{key_type}\""
        )));
    };
    // Types of one family differ in their range only: the widest decides.
    let mut error = KeyError::Malformed;
    for key_type in types {
        match key_type.from_text(key.as_bytes()) {
            Ok(value) => return Ok(map.shard_of(&value)),
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
