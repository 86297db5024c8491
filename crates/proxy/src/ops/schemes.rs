//! A scheme as somebody asked for it becomes one that can be recorded: names of shards become numbers, keys are checked
//! against the type of the key column.

use catalog::{KeyError, KeyType, KeyValue, ShardId};
use plan::{ListedKey, SchemeOption};
use topology::ClusterRecord;
use topology::records::{KeyPlace, Scheme};

use super::OpError;

/// Most keys in one statement.
const KEYS_MAX: usize = 10_000;

/// The scheme, as yet without a map.
pub(super) fn wanted(
    record: &ClusterRecord,
    key_type: KeyType,
    option: Option<&SchemeOption>,
) -> Result<Scheme, OpError> {
    let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let no_map = |error: catalog::ShardMapError| {
        OpError::refused("22023", format!("no shard map can be made: {error}"))
    };
    let widest = key_type.family().widest().name().to_owned();
    let scheme = match option {
        None | Some(SchemeOption::Hash) => Scheme::even_hash(&shards).map_err(no_map)?,
        Some(SchemeOption::Modulo) => Scheme::Modulo {
            owners: shards.iter().map(|shard| shard.0).collect(),
        },
        Some(SchemeOption::Directory { keys }) => {
            let rows = places(record, key_type, keys)?;
            Scheme::even_directory(&shards, key_type, rows).map_err(no_map)?
        }
        Some(SchemeOption::List { keys, rest }) => Scheme::List {
            key_type: widest,
            rows: places(record, key_type, keys)?,
            rest: shard(record, rest)?,
        },
        Some(SchemeOption::Range { ends, last }) => {
            if ends.len() > KEYS_MAX {
                return Err(too_many());
            }
            // Each range begins where the one before it ends.
            let owners = ends.iter().map(|end| &end.shard).chain(std::iter::once(last));
            let mut owners = owners.map(|name| shard(record, name));
            let first = owners.next().unwrap_or_else(|| shard(record, last))?;
            let starts = ends.iter().zip(owners);
            Scheme::Range {
                key_type: widest,
                first,
                starts: starts
                    .map(|(end, shard)| {
                        Ok(KeyPlace {
                            key: Some(key(key_type, &end.below)?),
                            shard: shard?,
                        })
                    })
                    .collect::<Result<_, OpError>>()?,
            }
        }
    };
    // Ranges that do not ascend, keys that are there twice.
    scheme
        .to_shard_map()
        .map_err(|error| OpError::refused("22023", format!("no shard map can be made: {error}")))?;
    Ok(scheme)
}

fn too_many() -> OpError {
    OpError::refused(
        "54000",
        format!("at most {KEYS_MAX} keys can be placed in one statement"),
    )
}

fn shard(record: &ClusterRecord, name: &str) -> Result<ShardId, OpError> {
    let found = record.shards.iter().find(|shard| shard.name == name);
    found.map(|shard| shard.id).ok_or_else(|| {
        let names: Vec<&str> = record.shards.iter().map(|shard| shard.name.as_str()).collect();
        OpError::refused_with(
            "42704",
            format!("there is no shard \"{name}\""),
            &format!("Shards are {}.", names.join(", ")),
        )
    })
}

fn places(record: &ClusterRecord, key_type: KeyType, keys: &[ListedKey]) -> Result<Vec<KeyPlace>, OpError> {
    if keys.len() > KEYS_MAX {
        return Err(too_many());
    }
    let place = |listed: &ListedKey| {
        Ok(KeyPlace {
            key: listed
                .key
                .as_deref()
                .map(|text| key(key_type, text))
                .transpose()?,
            shard: shard(record, &listed.shard)?,
        })
    };
    keys.iter().map(place).collect()
}

/// The key as it is recorded: as PostgreSQL prints a value of the column.
fn key(key_type: KeyType, text: &str) -> Result<String, OpError> {
    match key_type.from_text(text.as_bytes()) {
        // Printed again: blanks at the end of a character mean nothing.
        Ok(KeyValue::Text(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(_) => Ok(text.to_owned()),
        Err(KeyError::OutOfRange) => Err(OpError::refused(
            "22003",
            format!("key {text} is out of range for type {}", key_type.name()),
        )),
        Err(KeyError::NotCanonical | KeyError::Malformed) => Err(OpError::refused_with(
            "22P02",
            format!("key \"{text}\" is not a value of type {}", key_type.name()),
            "Write it as PostgreSQL prints it.",
        )),
    }
}
