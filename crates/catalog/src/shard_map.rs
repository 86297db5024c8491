//! Hash ranges and the shards that own them.

use crate::{KeyColumn, KeyValue, ShardId, hash_sql};

#[cfg(test)]
mod tests;

/// The hash of a NULL key. NULL thus has one fixed place: the shard that owns hash 0.
pub const NULL_KEY_HASH: i64 = 0;

/// Largest number of ranges in one map.
pub const RANGES_MAX: usize = 65_536;

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

/// Which shard owns which part of the hash space. Ranges cover all of it without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    starts: Vec<i64>,
    owners: Vec<ShardId>,
    shards: Vec<ShardId>,
}

/// Why ranges do not make a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapError {
    /// No range at all.
    #[error("a shard map needs at least one range")]
    Empty,
    /// More than [`RANGES_MAX`].
    #[error("a shard map has at most {RANGES_MAX} ranges")]
    TooMany,
    /// The first range does not start at the lowest hash.
    #[error("the first range must start at the lowest hash")]
    FirstStart,
    /// Starts must grow strictly.
    #[error("range starts must be strictly ascending")]
    NotAscending,
}

impl ShardMap {
    /// Equal parts, in the order given.
    pub fn even(shards: &[ShardId]) -> Result<ShardMap, ShardMapError> {
        let parts = shards.len() as i128;
        let ranges = shards.iter().enumerate().map(|(i, &shard)| {
            let offset = (i as i128) * (1i128 << 64) / parts;
            ((i128::from(i64::MIN) + offset) as i64, shard)
        });
        ShardMap::from_starts(ranges)
    }

    /// From `(first hash, owner)` pairs, ascending; the first must be `i64::MIN`.
    pub fn from_starts(ranges: impl IntoIterator<Item = (i64, ShardId)>) -> Result<ShardMap, ShardMapError> {
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
        let mut shards = owners.clone();
        shards.sort_unstable();
        shards.dedup();
        Ok(ShardMap {
            starts,
            owners,
            shards,
        })
    }

    /// The owner of a hash.
    #[inline]
    pub fn shard_of_hash(&self, hash: i64) -> ShardId {
        // The first start is i64::MIN, so at least one start is not above the hash.
        self.owners[self.starts.partition_point(|&start| start <= hash) - 1]
    }

    /// The owner of a key value.
    #[inline]
    pub fn shard_of(&self, key: &KeyValue) -> ShardId {
        self.shard_of_hash(key.hash())
    }

    /// All owners, ascending, each once.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// All ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = HashRange> + '_ {
        self.starts.iter().enumerate().map(|(i, &first)| HashRange {
            first,
            last: self.starts.get(i + 1).map_or(i64::MAX, |next| next - 1),
            shard: self.owners[i],
        })
    }

    /// A SQL predicate, never NULL, true for exactly the rows of `shard`. `column_expr` is SQL text of the key column.
    pub fn range_predicate_sql(&self, shard: ShardId, key: KeyColumn, column_expr: &str) -> String {
        let hash = hash_sql(key.key_type, column_expr);
        let parts: Vec<String> = self
            .merged_ranges(shard)
            .into_iter()
            .map(|(first, last)| format!("{hash} BETWEEN {} AND {}", int8_sql(first), int8_sql(last)))
            .collect();
        if parts.is_empty() {
            "false".to_owned()
        } else {
            format!("({})", parts.join(" OR "))
        }
    }

    /// Ranges of a shard with neighbours joined.
    fn merged_ranges(&self, shard: ShardId) -> Vec<(i64, i64)> {
        let mut out: Vec<(i64, i64)> = Vec::new();
        for range in self.ranges().filter(|r| r.shard == shard) {
            match out.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(range.first) => *last = range.last,
                _ => out.push((range.first, range.last)),
            }
        }
        out
    }
}

/// The lowest int8 has no positive twin, so it cannot be written as a negated literal.
fn int8_sql(value: i64) -> String {
    format!("'{value}'::pg_catalog.int8")
}
