//! Taking a shard into a map by hash ranges.

use super::{HashRanges, Rest, ShardMap, ShardMapError};
use crate::ShardId;

/// Hashes there are.
const SPACE: u128 = 1 << 64;

impl ShardMap {
    /// The map with one more shard, which takes 1/(N + 1) of the hash space from the N there are. Nothing else moves: a hash
    /// keeps its owner or goes to the new shard. Those that own most give first, so shards of equal size stay equal.
    pub fn with_shard(&self, shard: ShardId) -> Result<ShardMap, ShardMapError> {
        let (Rest::Hash(ranges) | Rest::Salted(ranges, _)) = &self.rest else {
            return Err(ShardMapError::NotByHash);
        };
        if self.shards.contains(&shard) {
            return Err(ShardMapError::HasShard);
        }
        let mut cuts: Vec<Cut> = ranges
            .iter()
            .map(|range| Cut {
                first: range.first,
                size: (i128::from(range.last) - i128::from(range.first) + 1) as u128,
                shard: range.shard,
            })
            .collect();
        for (donor, mut owed) in debts(&cuts) {
            // From its last range backwards; a range that is given whole stays in one piece.
            while owed > 0 {
                let Some(at) = cuts.iter().rposition(|cut| cut.shard == donor) else {
                    break;
                };
                let size = cuts[at].size;
                if size <= owed {
                    cuts[at].shard = shard;
                    owed -= size;
                    continue;
                }
                cuts[at].size = size - owed;
                let first = (i128::from(cuts[at].first) + (size - owed) as i128) as i64;
                let taken = Cut {
                    first,
                    size: owed,
                    shard,
                };
                cuts.insert(at + 1, taken);
                owed = 0;
            }
        }
        cuts.dedup_by(|next, kept| next.shard == kept.shard);
        let ranges = HashRanges::from_starts(cuts.iter().map(|cut| (cut.first, cut.shard)))?;
        let mut map = ShardMap {
            rest: match self.salt() {
                None => Rest::Hash(ranges),
                Some(salt) => Rest::Salted(ranges, salt),
            },
            rows: self.rows.clone(),
            shards: Vec::new(),
        };
        map.list_shards();
        Ok(map)
    }
}

/// A range with its size, which may be the whole space.
struct Cut {
    first: i64,
    size: u128,
    shard: ShardId,
}

/// How much each shard gives so that the newcomer has its share: all above a common level, the highest that is enough.
fn debts(cuts: &[Cut]) -> Vec<(ShardId, u128)> {
    let mut sizes: Vec<(ShardId, u128)> = Vec::new();
    for cut in cuts {
        match sizes.iter_mut().find(|(shard, _)| *shard == cut.shard) {
            Some((_, size)) => *size += cut.size,
            None => sizes.push((cut.shard, cut.size)),
        }
    }
    let share = SPACE / (sizes.len() as u128 + 1);
    sizes.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    // With the k largest giving, the level is (their sum - share) / k; the first k for which it is not below the next.
    let (mut sum, mut givers) = (0, 0);
    for (at, (_, size)) in sizes.iter().enumerate() {
        sum += size;
        givers = at + 1;
        let next = sizes.get(at + 1).map_or(0, |(_, next)| *next);
        if sum >= share && (sum - share) / givers as u128 >= next {
            break;
        }
    }
    let level = sum.saturating_sub(share) / givers.max(1) as u128;
    let mut left = share;
    sizes
        .into_iter()
        .take(givers)
        .map(|(shard, size)| {
            let gives = size.saturating_sub(level).min(left);
            left -= gives;
            (shard, gives)
        })
        .collect()
}
