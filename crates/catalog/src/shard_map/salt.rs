//! Salted keys: the rows of one key, spread over sub-keys (docs/decisions/0033).
//!
//! The place of a row is the hash of its key with some of its highest bits turned around, as the lowest bits of the hash of
//! the columns that salt say: the sub-keys of a key lie at equal distances in the hash space.

use crate::key::{KEY_COLUMNS_MAX, columns_hash_sql, record_hash};
use crate::{KeyRef, KeyType, KeyValue};

/// Largest number of sub-keys.
pub const SUB_KEYS_MAX: u32 = 256;

/// How keys are spread: by which of their columns, over how many sub-keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt {
    key_columns: usize,
    bits: u32,
}

impl Salt {
    /// The first `key_columns` columns are the key, the others salt it. `sub_keys` is a power of two from 2 to
    /// [`SUB_KEYS_MAX`]; `None`: it is not, or no column could be left over.
    pub fn new(key_columns: usize, sub_keys: u32) -> Option<Salt> {
        let fits = sub_keys.is_power_of_two() && (2..=SUB_KEYS_MAX).contains(&sub_keys);
        let leaves = (1..KEY_COLUMNS_MAX).contains(&key_columns);
        (fits && leaves).then_some(Salt {
            key_columns,
            bits: sub_keys.trailing_zeros(),
        })
    }

    /// How many columns are the key; those after them salt it.
    pub fn key_columns(self) -> usize {
        self.key_columns
    }

    /// How many sub-keys there are.
    pub fn sub_keys(self) -> u32 {
        1 << self.bits
    }

    /// How far a sub-key is moved to the highest bits; never 64, because there are at least two.
    fn shift(self) -> u32 {
        i64::BITS - self.bits
    }

    /// Where a row is in the hash space. (A key without the columns that salt it is where its first sub-key is.)
    pub(super) fn place(self, key: KeyRef<'_>) -> i64 {
        let KeyRef::Record(values) = key else {
            return key.hash();
        };
        let (key, salting) = values.split_at(self.key_columns.min(values.len()));
        let hash = |values: &[KeyValue]| record_hash(values.iter().map(KeyValue::borrowed));
        hash(key) ^ (hash(salting) << self.shift())
    }

    /// Where the sub-keys of a key are; `key` has no more columns than the key has.
    pub(super) fn places(self, key: KeyRef<'_>) -> impl Iterator<Item = i64> {
        let hash = key.hash();
        (0..i64::from(self.sub_keys())).map(move |sub_key| hash ^ (sub_key << self.shift()))
    }

    /// The same as [`Salt::place`], on a server.
    pub(super) fn place_sql(self, columns: &[(KeyType, &str)]) -> String {
        let (key, salting) = columns.split_at(self.key_columns.min(columns.len()));
        if salting.is_empty() {
            return columns_hash_sql(key);
        }
        format!(
            "({} OPERATOR(pg_catalog.#) ({} OPERATOR(pg_catalog.<<) {}))",
            columns_hash_sql(key),
            columns_hash_sql(salting),
            self.shift()
        )
    }
}
