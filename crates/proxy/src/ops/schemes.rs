//! A scheme as somebody asked for it becomes one that can be recorded: names of shards become numbers, keys are checked
//! against the type of the key column.

use catalog::{KeyError, KeyShape, KeyValue, Salt, ShardId, record_fields, record_text};
use plan::{ListedKey, RefusalCode, SchemeOption};
use topology::ClusterRecord;
use topology::records::{KeyPlace, Scheme};

use super::OpError;

/// Most keys in one statement.
const KEYS_MAX: usize = 10_000;

/// The scheme, as yet without a map.
pub(super) fn wanted(
    record: &ClusterRecord,
    shape: &KeyShape,
    option: Option<&SchemeOption>,
) -> Result<Scheme, OpError> {
    let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let no_map = |error: catalog::ShardMapError| {
        OpError::refused("22023", format!("no shard map can be made: {error}"))
    };
    let widest = shape.widest().name();
    let scheme = match option {
        None | Some(SchemeOption::Hash) => Scheme::even_hash(&shards).map_err(no_map)?,
        Some(SchemeOption::Modulo) => Scheme::Modulo {
            owners: shards.iter().map(|shard| shard.0).collect(),
        },
        Some(SchemeOption::Directory { keys }) => {
            let rows = places(record, shape, keys)?;
            Scheme::even_directory(&shards, shape, rows).map_err(no_map)?
        }
        Some(SchemeOption::List { keys, rest }) => Scheme::List {
            key_type: widest,
            rows: places(record, shape, keys)?,
            rest: shard(record, rest)?,
        },
        Some(SchemeOption::Geo { keys }) => Scheme::Geo {
            key_type: widest,
            rows: places(record, shape, keys)?,
            asked: record.home,
        },
        Some(SchemeOption::Range { .. }) if shape.single().is_none() => {
            return Err(OpError::not_done(
                RefusalCode::ShardKeyColumn,
                "keys of several columns cannot be placed by range".to_owned(),
                Some("Shard by one column, or take another scheme."),
            ));
        }
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
                            key: Some(key(shape, &end.below)?),
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

/// By hash over all shards, keys spread over sub-keys.
pub(super) fn salted(record: &ClusterRecord, salt: Salt) -> Result<Scheme, OpError> {
    let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    Scheme::even_salted(&shards, salt)
        .map_err(|error| OpError::refused("22023", format!("no shard map can be made: {error}")))
}

fn too_many() -> OpError {
    OpError::refused(
        "54000",
        format!("at most {KEYS_MAX} keys can be placed in one statement"),
    )
}

pub(super) fn shard(record: &ClusterRecord, name: &str) -> Result<ShardId, OpError> {
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

fn places(record: &ClusterRecord, shape: &KeyShape, keys: &[ListedKey]) -> Result<Vec<KeyPlace>, OpError> {
    if keys.len() > KEYS_MAX {
        return Err(too_many());
    }
    let place = |listed: &ListedKey| {
        Ok(KeyPlace {
            key: listed.key.as_deref().map(|text| key(shape, text)).transpose()?,
            shard: shard(record, &listed.shard)?,
        })
    };
    keys.iter().map(place).collect()
}

/// The key as it is recorded: as PostgreSQL prints a value of the column.
pub(super) fn key(shape: &KeyShape, text: &str) -> Result<String, OpError> {
    match shape.from_text(text.as_bytes()) {
        Ok(KeyValue::Record(values)) => Ok(record(&values, text)),
        Ok(value) => Ok(printed(&value, text)),
        Err(KeyError::OutOfRange) => Err(OpError::refused(
            "22003",
            format!("key {text} is out of range for type {}", shape.name()),
        )),
        Err(KeyError::NotCanonical | KeyError::Malformed) => Err(OpError::refused_with(
            "22P02",
            format!("key \"{text}\" is not a value of type {}", shape.name()),
            match shape.single() {
                Some(_) => "Write it as PostgreSQL prints it.",
                None => "Write it as PostgreSQL prints a record: (1,acme).",
            },
        )),
    }
}

/// A value as it is recorded, from what was written.
fn printed(value: &KeyValue, text: &str) -> String {
    match value {
        // Printed again: blanks at the end of a character mean nothing.
        KeyValue::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => text.to_owned(),
    }
}

/// The same of a record, so that one key has one form.
fn record(values: &[KeyValue], text: &str) -> String {
    let fields = record_fields(text).unwrap_or_default();
    let printed: Vec<Option<String>> = values
        .iter()
        .zip(&fields)
        .map(|(value, field)| field.as_deref().map(|text| printed(value, text)))
        .collect();
    let printed: Vec<Option<&str>> = printed.iter().map(Option::as_deref).collect();
    record_text(&printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::KeyType;
    use plan::RangeEnd;
    use topology::records::{NodeRecord, ShardRecord};

    fn record() -> ClusterRecord {
        let shard = |id: u32| ShardRecord {
            id: ShardId(id),
            name: format!("s{id}"),
            primary: NodeRecord::new("127.0.0.1", 5000 + id as u16),
            replicas: Vec::new(),
        };
        ClusterRecord::new("c", vec!["app".into()], (1..=3).map(shard).collect()).unwrap()
    }

    fn listed(key: Option<&str>, shard: &str) -> ListedKey {
        ListedKey {
            key: key.map(str::to_owned),
            shard: shard.to_owned(),
        }
    }

    fn range(ends: &[(&str, &str)], last: &str) -> SchemeOption {
        let end = |(shard, below): &(&str, &str)| RangeEnd {
            shard: (*shard).to_owned(),
            below: (*below).to_owned(),
        };
        SchemeOption::Range {
            ends: ends.iter().map(end).collect(),
            last: last.to_owned(),
        }
    }

    fn check(key_type: KeyType, option: &SchemeOption) -> Result<Scheme, String> {
        wanted(&record(), &KeyShape::one(key_type), Some(option)).map_err(|error| error.into_fields().code)
    }

    #[test]
    fn a_range_begins_where_the_one_before_ends() {
        let scheme = check(KeyType::Int4, &range(&[("s1", "-10"), ("s2", "10")], "s3")).unwrap();
        let map = scheme.to_shard_map().unwrap();
        let owner = |key| map.shard_of(&KeyValue::Int(key)).0;
        assert_eq!(
            [i64::MIN, -11, -10, 9, 10, i64::MAX].map(owner),
            [1, 1, 2, 2, 3, 3]
        );
        let all = check(KeyType::Text, &range(&[], "s2")).unwrap();
        assert_eq!(all.to_shard_map().unwrap().shards(), [ShardId(2)]);
    }

    #[test]
    fn keys_are_recorded_in_their_one_form() {
        let list = SchemeOption::List {
            keys: vec![listed(Some("ab  "), "s1"), listed(None, "s2")],
            rest: "s3".to_owned(),
        };
        let scheme = check(KeyType::Bpchar, &list).unwrap();
        let Scheme::List { key_type, rows, .. } = &scheme else {
            panic!("{scheme:?}")
        };
        assert_eq!(
            (key_type.as_str(), rows[0].key.as_deref()),
            ("bpchar", Some("ab"))
        );
        // Int2 and int8 keys compare, so their lists are the same map.
        let list = |key_type| {
            let keys = vec![listed(Some("7"), "s1")];
            check(key_type, &SchemeOption::Directory { keys })
        };
        assert_eq!(list(KeyType::Int2), list(KeyType::Int8));
    }

    #[test]
    fn what_makes_no_map_is_refused_with_a_reason() {
        let directory = |keys| SchemeOption::Directory { keys };
        for (key_type, option, code) in [
            (KeyType::Int4, range(&[("s9", "1")], "s1"), "42704"),
            (KeyType::Int4, range(&[("s1", "1")], "nobody"), "42704"),
            (KeyType::Int4, range(&[("s1", "x")], "s2"), "22P02"),
            (KeyType::Int4, range(&[("s1", "007")], "s2"), "22P02"),
            (KeyType::Int2, range(&[("s1", "70000")], "s2"), "22003"),
            (KeyType::Int4, range(&[("s1", "5"), ("s2", "5")], "s3"), "22023"),
            (KeyType::Int4, range(&[("s1", "5"), ("s2", "4")], "s3"), "22023"),
            (
                KeyType::Bpchar,
                directory(vec![listed(Some("a"), "s1"), listed(Some("a "), "s2")]),
                "22023",
            ),
            (
                KeyType::Uuid,
                directory(vec![listed(Some("ABCD"), "s1")]),
                "22P02",
            ),
            (
                KeyType::Int8,
                directory(vec![listed(Some("1"), "s1"); KEYS_MAX + 1]),
                "54000",
            ),
        ] {
            assert_eq!(check(key_type, &option), Err(code.to_owned()), "{option:?}");
        }
    }
}
