//! Sharding schemes as they are stored (docs/decisions/0021).

use catalog::{KeyFamily, KeyShape, KeyValue, Salt, ShardId, ShardMap, ShardMapError};
use serde::{Deserialize, Serialize};

use super::ids;

/// How a key becomes a shard.
///
/// Keys are written as PostgreSQL prints them, as values of `key_type`: the name of the widest type of their family. Keys of
/// several columns are records, and `key_type` has the names of the columns' types, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scheme {
    /// The signed 64-bit hash space cut into ranges, ascending; the first starts at the lowest value.
    Hash {
        /// Ranges.
        ranges: Vec<HashRange>,
    },
    /// The remainder of the hash by the number of owners.
    Modulo {
        /// Owner of each remainder.
        owners: Vec<u32>,
    },
    /// By the order of keys.
    Range {
        /// Type of the keys.
        key_type: String,
        /// Owner of the keys below the first start.
        #[serde(with = "ids::shard")]
        first: ShardId,
        /// The first key of each further range with its owner, ascending. NULL is in the last range.
        starts: Vec<KeyPlace>,
    },
    /// Listed keys, and a shard for all others.
    List {
        /// Type of the keys.
        key_type: String,
        /// Keys.
        rows: Vec<KeyPlace>,
        /// Owner of all others.
        #[serde(with = "ids::shard")]
        rest: ShardId,
    },
    /// Listed keys, and no row with another one.
    Geo {
        /// Type of the keys.
        key_type: String,
        /// Keys.
        rows: Vec<KeyPlace>,
        /// The shard that is asked for keys that are not listed; it has none of them.
        #[serde(with = "ids::shard")]
        asked: ShardId,
    },
    /// Keys placed one by one, others by hash.
    Directory {
        /// Type of the keys.
        key_type: String,
        /// Keys.
        rows: Vec<KeyPlace>,
        /// As in [`Scheme::Hash`].
        ranges: Vec<HashRange>,
    },
    /// No key: everything on one shard. Of tables that are placed.
    Place {
        /// Owner of everything.
        #[serde(with = "ids::shard")]
        shard: ShardId,
    },
    /// By hash, the rows of a key spread over sub-keys.
    Salted {
        /// How many of the columns are the key; those after them salt it.
        key_columns: usize,
        /// How many sub-keys.
        sub_keys: u32,
        /// As in [`Scheme::Hash`].
        ranges: Vec<HashRange>,
    },
    /// Some keys pinned to shards, whatever the scheme under it says of them.
    Pinned {
        /// Type of the keys.
        key_type: String,
        /// The keys.
        rows: Vec<KeyPlace>,
        /// The scheme of all others; not pinned itself.
        under: Box<Scheme>,
    },
}

/// A part of the hash space, up to the next range's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashRange {
    /// Lowest hash in it.
    pub start: i64,
    /// Owner.
    #[serde(with = "ids::shard")]
    pub shard: ShardId,
}

/// A key and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPlace {
    /// The key as PostgreSQL prints it; `None` is NULL.
    pub key: Option<String>,
    /// Owner.
    #[serde(with = "ids::shard")]
    pub shard: ShardId,
}

/// Why a stored scheme is no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// The parts do not fit together.
    #[error(transparent)]
    Map(#[from] ShardMapError),
    /// Keys of this type are not known.
    #[error("there is no key type {0}")]
    KeyType(String),
    /// Keys of this type have no order of their own.
    #[error("keys of type {0} cannot be placed by range")]
    NoOrder(String),
    /// Pins upon pins.
    #[error("a pinned scheme is pinned again")]
    PinnedTwice,
    /// Keys cannot be salted like this.
    #[error("keys of {key_columns} columns cannot be spread over {sub_keys} sub-keys")]
    Salt {
        /// Columns of the key.
        key_columns: usize,
        /// Sub-keys.
        sub_keys: u32,
    },
    /// A key cannot be read.
    #[error("\"{key}\" is not a {key_type} as PostgreSQL prints it")]
    Key {
        /// The key.
        key: String,
        /// Its type.
        key_type: String,
    },
}

impl Scheme {
    /// Equal parts of the hash space for the shards, in the order given.
    pub fn even_hash(shards: &[ShardId]) -> Result<Scheme, ShardMapError> {
        even_ranges(shards).map(|ranges| Scheme::Hash { ranges })
    }

    /// As [`Scheme::even_hash`], with keys spread over sub-keys.
    pub fn even_salted(shards: &[ShardId], salt: Salt) -> Result<Scheme, ShardMapError> {
        Ok(Scheme::Salted {
            key_columns: salt.key_columns(),
            sub_keys: salt.sub_keys(),
            ranges: even_ranges(shards)?,
        })
    }

    /// As [`Scheme::even_hash`], with these keys placed one by one.
    pub fn even_directory(
        shards: &[ShardId],
        shape: &KeyShape,
        rows: Vec<KeyPlace>,
    ) -> Result<Scheme, ShardMapError> {
        Ok(Scheme::Directory {
            key_type: shape.widest().name(),
            rows,
            ranges: even_ranges(shards)?,
        })
    }

    /// The name users know it by.
    pub fn name(&self) -> &'static str {
        match self {
            Scheme::Hash { .. } => "hash",
            Scheme::Modulo { .. } => "modulo",
            Scheme::Range { .. } => "range",
            Scheme::List { .. } => "list",
            Scheme::Geo { .. } => "geo",
            Scheme::Directory { .. } => "directory",
            Scheme::Place { .. } => "place",
            Scheme::Salted { .. } => "salted",
            Scheme::Pinned { under, .. } => under.name(),
        }
    }

    /// The families of the columns of its keys; `None`: any, or types that are not known.
    pub fn families(&self) -> Option<Vec<KeyFamily>> {
        match self {
            Scheme::Hash { .. } | Scheme::Modulo { .. } | Scheme::Salted { .. } => None,
            Scheme::Place { .. } => Some(Vec::new()),
            Scheme::Range { key_type, .. }
            | Scheme::List { key_type, .. }
            | Scheme::Geo { key_type, .. }
            | Scheme::Directory { key_type, .. }
            | Scheme::Pinned { key_type, .. } => KeyShape::named(key_type).map(|shape| shape.families()),
        }
    }

    /// The fewest columns that its keys have.
    pub fn columns_min(&self) -> usize {
        match self {
            Scheme::Salted { key_columns, .. } => key_columns + 1,
            Scheme::Pinned { under, .. } => under.columns_min(),
            Scheme::Place { .. } => 0,
            _ => 1,
        }
    }

    /// As the catalog uses it.
    pub fn to_shard_map(&self) -> Result<ShardMap, SchemeError> {
        Ok(match self {
            Scheme::Hash { ranges } => hash_map(ranges)?,
            Scheme::Modulo { owners } => ShardMap::modulo(owners.iter().copied().map(ShardId).collect())?,
            Scheme::Range {
                key_type,
                first,
                starts,
            } => {
                let shape = shape_named(key_type)?;
                if !shape.single().is_some_and(|only| only.family().has_order()) {
                    return Err(SchemeError::NoOrder(shape.name()));
                }
                ShardMap::by_range(*first, places(&shape, starts)?)?
            }
            Scheme::List { key_type, rows, rest } => {
                ShardMap::one(*rest).with_rows(places(&shape_named(key_type)?, rows)?)?
            }
            Scheme::Geo {
                key_type,
                rows,
                asked,
            } => ShardMap::nowhere(*asked).with_rows(places(&shape_named(key_type)?, rows)?)?,
            Scheme::Directory {
                key_type,
                rows,
                ranges,
            } => hash_map(ranges)?.with_rows(places(&shape_named(key_type)?, rows)?)?,
            Scheme::Place { shard } => ShardMap::one(*shard),
            Scheme::Salted {
                key_columns,
                sub_keys,
                ranges,
            } => {
                let salt = Salt::new(*key_columns, *sub_keys).ok_or(SchemeError::Salt {
                    key_columns: *key_columns,
                    sub_keys: *sub_keys,
                })?;
                hash_map(ranges)?.salted(salt)?
            }
            Scheme::Pinned {
                key_type,
                rows,
                under,
            } => {
                if matches!(**under, Scheme::Pinned { .. }) {
                    return Err(SchemeError::PinnedTwice);
                }
                let pins = places(&shape_named(key_type)?, rows)?;
                under.to_shard_map()?.with_pins(pins)?
            }
        })
    }

    /// The scheme without pins.
    pub fn unpinned(&self) -> &Scheme {
        match self {
            Scheme::Pinned { under, .. } => under,
            other => other,
        }
    }

    /// The scheme with a key, as PostgreSQL prints it, pinned to a shard, or with `None` no longer pinned.
    pub fn pin(&self, shape: &KeyShape, key: &str, shard: Option<ShardId>) -> Scheme {
        let mut rows = match self {
            Scheme::Pinned { rows, .. } => rows.clone(),
            _ => Vec::new(),
        };
        rows.retain(|row| row.key.as_deref() != Some(key));
        rows.extend(shard.map(|shard| KeyPlace {
            key: Some(key.to_owned()),
            shard,
        }));
        let under = self.unpinned().clone();
        match rows.is_empty() {
            true => under,
            false => Scheme::Pinned {
                key_type: shape.widest().name(),
                rows,
                under: Box::new(under),
            },
        }
    }
}

fn even_ranges(shards: &[ShardId]) -> Result<Vec<HashRange>, ShardMapError> {
    let map = ShardMap::even(shards)?;
    let ranges = map.ranges().map(|range| HashRange {
        start: range.first,
        shard: range.shard,
    });
    Ok(ranges.collect())
}

fn hash_map(ranges: &[HashRange]) -> Result<ShardMap, ShardMapError> {
    ShardMap::from_starts(ranges.iter().map(|range| (range.start, range.shard)))
}

fn shape_named(name: &str) -> Result<KeyShape, SchemeError> {
    KeyShape::named(name).ok_or_else(|| SchemeError::KeyType(name.to_owned()))
}

fn places(shape: &KeyShape, places: &[KeyPlace]) -> Result<Vec<(KeyValue, ShardId)>, SchemeError> {
    let place = |place: &KeyPlace| {
        let key = match &place.key {
            None => KeyValue::Null,
            Some(text) => shape.from_text(text.as_bytes()).map_err(|_| SchemeError::Key {
                key: text.clone(),
                key_type: shape.name(),
            })?,
        };
        Ok((key, place.shard))
    };
    places.iter().map(place).collect()
}
