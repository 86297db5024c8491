//! Keys placed by their order.

use super::{RANGES_MAX, ShardMapError};
use crate::{KeyRef, KeyValue, ShardId};

/// A range of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// First key; `None`: no key is before it.
    pub first: Option<&'a KeyValue>,
    /// The key after its last; `None`: it holds all that are left, and NULL.
    pub end: Option<&'a KeyValue>,
    /// Owner.
    pub shard: ShardId,
}

/// Ranges that cover all keys: `owners[0]` is below `starts[0]`, `owners[n]` from `starts[n - 1]` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyRanges {
    starts: Vec<KeyValue>,
    owners: Vec<ShardId>,
}

impl KeyRanges {
    pub(super) fn new(first: ShardId, starts: Vec<(KeyValue, ShardId)>) -> Result<KeyRanges, ShardMapError> {
        if starts.len() >= RANGES_MAX {
            return Err(ShardMapError::TooMany);
        }
        if starts.iter().any(|(key, _)| *key == KeyValue::Null) {
            return Err(ShardMapError::NullStart);
        }
        if starts
            .windows(2)
            .any(|pair| pair[0].0.borrowed() >= pair[1].0.borrowed())
        {
            return Err(ShardMapError::NotAscending);
        }
        let owners = std::iter::once(first).chain(starts.iter().map(|(_, shard)| *shard));
        Ok(KeyRanges {
            owners: owners.collect(),
            starts: starts.into_iter().map(|(key, _)| key).collect(),
        })
    }

    /// Index of the range of a key that is not NULL.
    fn range_of(&self, key: KeyRef<'_>) -> usize {
        self.starts.partition_point(|start| start.borrowed() <= key)
    }

    pub(super) fn owner_of(&self, key: KeyRef<'_>) -> ShardId {
        match key {
            KeyRef::Null => self.owners[self.starts.len()],
            key => self.owners[self.range_of(key)],
        }
    }

    /// Owners from one key to another, both included, with repetitions.
    pub(super) fn owners_between(&self, low: Option<KeyRef<'_>>, high: Option<KeyRef<'_>>) -> Vec<ShardId> {
        if low.zip(high).is_some_and(|(low, high)| low > high) {
            return Vec::new();
        }
        let first = low.map_or(0, |low| self.range_of(low));
        let last = high.map_or(self.starts.len(), |high| self.range_of(high));
        self.owners[first..=last].to_vec()
    }

    pub(super) fn owners(&self) -> &[ShardId] {
        &self.owners
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = KeyRange<'_>> + '_ {
        self.owners.iter().enumerate().map(|(at, &shard)| KeyRange {
            first: at.checked_sub(1).and_then(|before| self.starts.get(before)),
            end: self.starts.get(at),
            shard,
        })
    }
}
