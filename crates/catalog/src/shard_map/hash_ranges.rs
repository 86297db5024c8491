//! The hash space cut into ranges.

use super::{RANGES_MAX, ShardMapError};
use crate::ShardId;

/// A range of the signed 64-bit hash space, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRange {
    /// First hash.
    pub first: i64,
    /// Last hash.
    pub last: i64,
    /// Owner.
    pub shard: ShardId,
}

/// Ranges that cover the hash space without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashRanges {
    starts: Vec<i64>,
    owners: Vec<ShardId>,
}

impl HashRanges {
    pub(super) fn even(shards: &[ShardId]) -> Result<HashRanges, ShardMapError> {
        let parts = shards.len() as i128;
        let ranges = shards.iter().enumerate().map(|(i, &shard)| {
            let offset = (i as i128) * (1i128 << 64) / parts;
            ((i128::from(i64::MIN) + offset) as i64, shard)
        });
        HashRanges::from_starts(ranges)
    }

    pub(super) fn from_starts(
        ranges: impl IntoIterator<Item = (i64, ShardId)>,
    ) -> Result<HashRanges, ShardMapError> {
        let (starts, owners): (Vec<i64>, Vec<ShardId>) = ranges.into_iter().take(RANGES_MAX + 1).unzip();
        if starts.len() > RANGES_MAX {
            return Err(ShardMapError::TooMany);
        }
        match starts.first() {
            None => return Err(ShardMapError::Empty),
            Some(&first) if first != i64::MIN => return Err(ShardMapError::FirstStart),
            Some(_) => {}
        }
        if starts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(ShardMapError::NotAscending);
        }
        Ok(HashRanges { starts, owners })
    }

    #[inline]
    pub(super) fn owner_of(&self, hash: i64) -> ShardId {
        // The first start is i64::MIN, so at least one start is not above the hash.
        self.owners[self.starts.partition_point(|&start| start <= hash) - 1]
    }

    pub(super) fn owners(&self) -> &[ShardId] {
        &self.owners
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = HashRange> + '_ {
        self.starts.iter().enumerate().map(|(i, &first)| HashRange {
            first,
            last: self.starts.get(i + 1).map_or(i64::MAX, |next| next - 1),
            shard: self.owners[i],
        })
    }

    /// The ranges of a shard, neighbours joined.
    pub(super) fn of_shard(&self, shard: ShardId) -> Vec<(i64, i64)> {
        let mut out: Vec<(i64, i64)> = Vec::new();
        for range in self.iter().filter(|r| r.shard == shard) {
            match out.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(range.first) => *last = range.last,
                _ => out.push((range.first, range.last)),
            }
        }
        out
    }
}
