//! Keys and the shards they are on.
//!
//! A map answers for every value of its family, NULL included: there is no key without a place. It has two parts
//! (docs/decisions/0021): *rows*, keys that were placed one by one, and a *rest*, a rule for all others. The schemes are
//! combinations of the two: `hash`, `modulo`, `range` and salted keys are rules, `list` is rows and one shard for what is not listed,
//! `directory` is rows over `hash`, and a pinned key is a row on top of any of them.

use crate::{KeyRef, KeyType, KeyValue, ShardId};

mod grow;
mod hash_ranges;
mod key_ranges;
mod predicate;
mod rows;
mod salt;
#[cfg(test)]
mod tests;

pub use hash_ranges::HashRange;
pub use key_ranges::KeyRange;
pub use salt::{SUB_KEYS_MAX, Salt};

use hash_ranges::HashRanges;
use key_ranges::KeyRanges;
use rows::KeyRows;

/// The hash of a NULL key. NULL thus has one fixed place under `hash` and `modulo`.
pub const NULL_KEY_HASH: i64 = 0;

/// Largest number of ranges in one map.
pub const RANGES_MAX: usize = 65_536;

/// Largest number of keys placed one by one in one map: the rows of a `directory`, the values of a `list`, and pins.
pub const ROWS_MAX: usize = 2_000_000;

/// Largest number of remainders of `modulo`.
pub const REMAINDERS_MAX: usize = 65_536;

/// How keys without a row of their own become shards.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rest {
    Hash(HashRanges),
    /// By the hash of the key and of the columns that salt it.
    Salted(HashRanges, Salt),
    /// Owner of each remainder of the hash.
    Modulo(Vec<ShardId>),
    Range(KeyRanges),
    One(ShardId),
    /// No shard holds such keys; this one is asked for them.
    Nowhere(ShardId),
}

/// Which shard each key is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    rest: Rest,
    rows: KeyRows,
    shards: Vec<ShardId>,
}

/// The rule of a map for keys without a row of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule<'a> {
    /// By range of the hash: see [`ShardMap::ranges`].
    Hash,
    /// The same, the rows of a key spread over sub-keys.
    Salted(Salt),
    /// By remainder of the hash: the owner of each.
    Modulo(&'a [ShardId]),
    /// By range of the key: see [`ShardMap::key_ranges`].
    Range,
    /// All on one shard.
    One(ShardId),
    /// On none: no row with such a key can be stored. Who asks for one asks this shard, and finds nothing.
    Nowhere(ShardId),
}

/// Why a map cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapError {
    /// No range at all.
    #[error("a shard map needs at least one range")]
    Empty,
    /// More than [`RANGES_MAX`].
    #[error("a shard map has at most {RANGES_MAX} ranges")]
    TooMany,
    /// More than [`ROWS_MAX`].
    #[error("a shard map places at most {ROWS_MAX} keys one by one")]
    TooManyRows,
    /// More than [`REMAINDERS_MAX`].
    #[error("a shard map has at most {REMAINDERS_MAX} remainders")]
    TooManyRemainders,
    /// The first range does not start at the lowest hash.
    #[error("the first range must start at the lowest hash")]
    FirstStart,
    /// Starts must grow strictly.
    #[error("range starts must be strictly ascending")]
    NotAscending,
    /// A range starts at NULL.
    #[error("a range cannot start at NULL")]
    NullStart,
    /// A key has two rows.
    #[error("a key is placed twice")]
    TwiceRow,
    /// Only a map by hash range can take a shard in by ranges.
    #[error("only a map by hash ranges can be cut")]
    NotByHash,
    /// Only a map by hash range can be salted, and then no key is placed by itself.
    #[error("only a map by hash ranges can be salted, and none of its keys placed by itself")]
    Salted,
    /// The shard to be added is there already.
    #[error("the shard is in the map already")]
    HasShard,
}

impl ShardMap {
    /// By hash, equal parts, in the order given.
    pub fn even(shards: &[ShardId]) -> Result<ShardMap, ShardMapError> {
        HashRanges::even(shards).map(|ranges| ShardMap::of(Rest::Hash(ranges)))
    }

    /// By hash, from `(first hash, owner)` pairs, ascending; the first must be `i64::MIN`.
    pub fn from_starts(ranges: impl IntoIterator<Item = (i64, ShardId)>) -> Result<ShardMap, ShardMapError> {
        HashRanges::from_starts(ranges).map(|ranges| ShardMap::of(Rest::Hash(ranges)))
    }

    /// By the remainder of the hash: `owners[hash mod owners.len()]`, the remainder never negative.
    pub fn modulo(owners: Vec<ShardId>) -> Result<ShardMap, ShardMapError> {
        match owners.len() {
            0 => Err(ShardMapError::Empty),
            1..=REMAINDERS_MAX => Ok(ShardMap::of(Rest::Modulo(owners))),
            _ => Err(ShardMapError::TooManyRemainders),
        }
    }

    /// By ranges of the key: `first` owns all below the first start, and NULL is in the last range, where an ascending order
    /// puts it. `starts` are `(first key, owner)` pairs, ascending in the order of [`KeyRef`].
    ///
    /// All keys must be of one family that [has an order](crate::KeyFamily::has_order).
    pub fn by_range(first: ShardId, starts: Vec<(KeyValue, ShardId)>) -> Result<ShardMap, ShardMapError> {
        KeyRanges::new(first, starts).map(|ranges| ShardMap::of(Rest::Range(ranges)))
    }

    /// The same map with the rows of each key spread over sub-keys. Its keys have more columns than `salt` counts.
    pub fn salted(self, salt: Salt) -> Result<ShardMap, ShardMapError> {
        match self.rest {
            Rest::Hash(ranges) if self.rows.is_empty() => Ok(ShardMap::of(Rest::Salted(ranges, salt))),
            _ => Err(ShardMapError::Salted),
        }
    }

    /// All on one shard, but for rows.
    pub fn one(shard: ShardId) -> ShardMap {
        ShardMap::of(Rest::One(shard))
    }

    /// On no shard, but for rows: no shard owns another key, and a table with this map must not let one be stored. `asked` is the
    /// shard that is asked for such keys all the same.
    pub fn nowhere(asked: ShardId) -> ShardMap {
        ShardMap::of(Rest::Nowhere(asked))
    }

    /// The same map with these keys placed one by one, whatever its rule says of them.
    pub fn with_rows(
        mut self,
        rows: impl IntoIterator<Item = (KeyValue, ShardId)>,
    ) -> Result<ShardMap, ShardMapError> {
        for (key, shard) in rows {
            if self.salt().is_some() {
                return Err(ShardMapError::Salted);
            }
            if self.rows.len() >= ROWS_MAX {
                return Err(ShardMapError::TooManyRows);
            }
            if !self.rows.insert(key, shard) {
                return Err(ShardMapError::TwiceRow);
            }
        }
        self.list_shards();
        Ok(self)
    }

    /// The same map with these keys pinned: as [`with_rows`](ShardMap::with_rows), and a key that has a row already is placed
    /// anew.
    pub fn with_pins(
        mut self,
        pins: impl IntoIterator<Item = (KeyValue, ShardId)>,
    ) -> Result<ShardMap, ShardMapError> {
        for (key, shard) in pins {
            if self.salt().is_some() {
                return Err(ShardMapError::Salted);
            }
            self.rows.set(key, shard);
            if self.rows.len() > ROWS_MAX {
                return Err(ShardMapError::TooManyRows);
            }
        }
        self.list_shards();
        Ok(self)
    }

    fn of(rest: Rest) -> ShardMap {
        let mut map = ShardMap {
            rest,
            rows: KeyRows::default(),
            shards: Vec::new(),
        };
        map.list_shards();
        map
    }

    fn list_shards(&mut self) {
        let mut shards: Vec<ShardId> = match &self.rest {
            Rest::Hash(ranges) | Rest::Salted(ranges, _) => ranges.owners().to_vec(),
            Rest::Modulo(owners) => owners.clone(),
            Rest::Range(ranges) => ranges.owners().to_vec(),
            Rest::One(shard) | Rest::Nowhere(shard) => vec![*shard],
        };
        shards.extend(self.rows.iter().map(|(_, shard)| shard));
        shards.sort_unstable();
        shards.dedup();
        self.shards = shards;
    }

    /// The owner of a key value.
    #[inline]
    pub fn shard_of(&self, key: &KeyValue) -> ShardId {
        self.shard_of_ref(key.borrowed())
    }

    /// The owner of a key value.
    #[inline]
    pub fn shard_of_ref(&self, key: KeyRef<'_>) -> ShardId {
        if self.rows.is_empty() {
            // The usual map.
            if let Rest::Hash(ranges) = &self.rest {
                return ranges.owner_of(key.hash());
            }
        }
        self.shard_by_any(key)
    }

    fn shard_by_any(&self, key: KeyRef<'_>) -> ShardId {
        let hash = match (&self.rest, self.rows.is_empty()) {
            // A salted map places by another hash, and no key by itself.
            (Rest::Range(_) | Rest::One(_) | Rest::Nowhere(_) | Rest::Salted(..), true) => 0,
            _ => key.hash(),
        };
        if let Some(shard) = self.rows.get(hash, key) {
            return shard;
        }
        match &self.rest {
            Rest::Hash(ranges) => ranges.owner_of(hash),
            Rest::Salted(ranges, salt) => ranges.owner_of(salt.place(key)),
            Rest::Modulo(owners) => {
                // At most REMAINDERS_MAX of them, and the remainder is below their number.
                owners[hash.rem_euclid(owners.len() as i64) as usize]
            }
            Rest::Range(ranges) => ranges.owner_of(key),
            Rest::One(shard) | Rest::Nowhere(shard) => *shard,
        }
    }

    /// The shards of all sub-keys of a key, ascending and each once. `key` is a key without the columns that salt it; if the
    /// map is not salted, it is a whole key, and on one shard.
    pub fn sub_key_shards(&self, key: &KeyValue) -> Vec<ShardId> {
        let mut shards = self.sub_keys(key);
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The shard of each sub-key of such a key, in their order.
    pub fn sub_keys(&self, key: &KeyValue) -> Vec<ShardId> {
        match &self.rest {
            Rest::Salted(ranges, salt) => {
                let places = salt.places(key.borrowed());
                places.map(|place| ranges.owner_of(place)).collect()
            }
            _ => vec![self.shard_of(key)],
        }
    }

    /// How the rows of a key are spread over sub-keys; `None`: they are together.
    pub fn salt(&self) -> Option<Salt> {
        match &self.rest {
            Rest::Salted(_, salt) => Some(*salt),
            _ => None,
        }
    }

    /// The shard that may hold rows with a key; `None`: no shard may. (Elsewhere such keys have the place where they are
    /// asked for.)
    pub fn holder_of(&self, key: &KeyValue) -> Option<ShardId> {
        match &self.rest {
            Rest::Nowhere(_) => self.rows.get(key.hash(), key.borrowed()),
            _ => Some(self.shard_of(key)),
        }
    }

    /// The rule for keys without a row of their own.
    pub fn rule(&self) -> Rule<'_> {
        match &self.rest {
            Rest::Hash(_) => Rule::Hash,
            Rest::Salted(_, salt) => Rule::Salted(*salt),
            Rest::Modulo(owners) => Rule::Modulo(owners),
            Rest::Range(_) => Rule::Range,
            Rest::One(shard) => Rule::One(*shard),
            Rest::Nowhere(shard) => Rule::Nowhere(*shard),
        }
    }

    /// The scheme that this combination of rule and rows is called.
    pub fn scheme_name(&self) -> &'static str {
        match (&self.rest, self.rows.is_empty()) {
            (Rest::Hash(_), true) => "hash",
            (Rest::Hash(_), false) => "directory",
            (Rest::Salted(..), _) => "salted",
            (Rest::Modulo(_), _) => "modulo",
            (Rest::Range(_), _) => "range",
            (Rest::One(_), _) => "list",
            (Rest::Nowhere(_), _) => "geo",
        }
    }

    /// The shard that owns every key, when that is what the map says: the only kind of map for a table without a key.
    pub fn whole(&self) -> Option<ShardId> {
        match self.rest {
            Rest::One(shard) if self.rows.is_empty() => Some(shard),
            _ => None,
        }
    }

    /// All owners, ascending, each once.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// The keys placed one by one, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (&KeyValue, ShardId)> + '_ {
        self.rows.iter()
    }

    /// The ranges of hashes, ascending; none unless the rule is [`Rule::Hash`] or [`Rule::Salted`].
    pub fn ranges(&self) -> impl Iterator<Item = HashRange> + '_ {
        let ranges = match &self.rest {
            Rest::Hash(ranges) | Rest::Salted(ranges, _) => Some(ranges),
            _ => None,
        };
        ranges.into_iter().flat_map(HashRanges::iter)
    }

    /// The ranges of keys, ascending; none unless the rule is [`Rule::Range`].
    pub fn key_ranges(&self) -> impl Iterator<Item = KeyRange<'_>> + '_ {
        let ranges = match &self.rest {
            Rest::Range(ranges) => Some(ranges),
            _ => None,
        };
        ranges.into_iter().flat_map(KeyRanges::iter)
    }

    /// The shards that may hold keys from `low` to `high`, both included; `None`: no bound on that side. Ascending, each
    /// once; all shards of the map when its rule does not know an order. NULL is in no such range.
    pub fn shards_between(&self, low: Option<&KeyValue>, high: Option<&KeyValue>) -> Vec<ShardId> {
        let Rest::Range(ranges) = &self.rest else {
            return self.shards.clone();
        };
        let mut shards = ranges.owners_between(low.map(KeyValue::borrowed), high.map(KeyValue::borrowed));
        let inside = |key: &KeyValue| {
            let key = key.borrowed();
            low.is_none_or(|low| low.borrowed() <= key) && high.is_none_or(|high| key <= high.borrowed())
        };
        shards.extend(
            self.rows
                .iter()
                .filter(|(key, _)| inside(key))
                .map(|(_, shard)| shard),
        );
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// A SQL predicate, never NULL, true for exactly the rows of `shard`. `columns` are type and SQL text of each key column.
    pub fn predicate_sql(&self, shard: ShardId, columns: &[(KeyType, &str)]) -> String {
        predicate::of_shard(self, shard, columns)
    }

    /// The same, total: a key that no shard may have counts as the shard's that is asked for it. For rows that are not
    /// placed by this map, of which each has to be counted by one shard.
    pub fn answered_by_sql(&self, shard: ShardId, columns: &[(KeyType, &str)]) -> String {
        predicate::answered_by(self, shard, columns)
    }
}
