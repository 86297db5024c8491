//! Keys placed one by one.

use hashbrown::HashTable;

use crate::{KeyRef, KeyValue, ShardId};

/// A row per key. The table's hash is the key's own, which the caller has computed for the rule anyway.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyRows {
    table: HashTable<(KeyValue, ShardId)>,
}

impl KeyRows {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// False when the key has a row already.
    pub(super) fn insert(&mut self, key: KeyValue, shard: ShardId) -> bool {
        let hash = key.hash();
        if self.get(hash, key.borrowed()).is_some() {
            return false;
        }
        self.table
            .insert_unique(hash as u64, (key, shard), |(key, _)| key.hash() as u64);
        true
    }

    /// Places a key, whether it has a row or not.
    pub(super) fn set(&mut self, key: KeyValue, shard: ShardId) {
        let hash = key.hash() as u64;
        match self.table.find_mut(hash, |(known, _)| *known == key) {
            Some(row) => row.1 = shard,
            None => {
                self.table
                    .insert_unique(hash, (key, shard), |(key, _)| key.hash() as u64);
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, hash: i64, key: KeyRef<'_>) -> Option<ShardId> {
        self.table
            .find(hash as u64, |(known, _)| known.borrowed() == key)
            .map(|(_, shard)| *shard)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&KeyValue, ShardId)> + '_ {
        self.table.iter().map(|(key, shard)| (key, *shard))
    }
}

/// The same keys at the same places.
impl PartialEq for KeyRows {
    fn eq(&self, other: &KeyRows) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, shard)| other.get(key.hash(), key.borrowed()) == Some(shard))
    }
}

impl Eq for KeyRows {}
