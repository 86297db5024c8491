//! What finding the shard of a key costs: `cargo bench -p catalog`. Prints the best of several rounds, which is the one
//! that others disturbed least.

// The result goes to people.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use catalog::{KeyValue, ShardId, ShardMap, ShardMapError};

const ROUNDS: usize = 15;
const KEYS: usize = 1 << 16;

fn main() -> Result<(), ShardMapError> {
    let shards: Vec<ShardId> = (1..=1024).map(ShardId).collect();
    let ints: Vec<KeyValue> = (0..KEYS).map(|at| KeyValue::Int(mixed(at))).collect();
    let texts: Vec<KeyValue> = (0..KEYS)
        .map(|at| KeyValue::Text(format!("tenant_{}", mixed(at) as u64).into_bytes().into()))
        .collect();
    let uuids: Vec<KeyValue> = (0..KEYS)
        .map(|at| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&mixed(at).to_le_bytes());
            bytes[8..].copy_from_slice(&mixed(at + KEYS).to_le_bytes());
            KeyValue::Uuid(bytes)
        })
        .collect();
    let hash = ShardMap::even(&shards)?;
    for (name, keys) in [("bigint", &ints), ("text", &texts), ("uuid", &uuids)] {
        measure(&format!("hash over 1,024 ranges, {name}"), &hash, keys);
        for count in [10_000, KEYS] {
            let rows = keys.iter().take(count).enumerate();
            let rows = rows.map(|(at, key)| (key.clone(), shards[at % 1024]));
            let directory = hash.clone().with_rows(rows)?;
            measure(
                &format!("directory of {count}, hits, {name}"),
                &directory,
                &keys[..count],
            );
        }
    }
    let modulo = ShardMap::modulo(shards.clone())?;
    measure("modulo 1,024, bigint", &modulo, &ints);
    let mut starts: Vec<KeyValue> = ints.iter().step_by(KEYS / 1023).cloned().collect();
    starts.sort_unstable_by(|a, b| a.borrowed().cmp(&b.borrowed()));
    let starts = starts.into_iter().zip(shards.iter().copied()).collect();
    measure(
        "range, about 1,024, bigint",
        &ShardMap::by_range(shards[0], starts)?,
        &ints,
    );
    Ok(())
}

/// SplitMix64.
fn mixed(at: usize) -> i64 {
    let mut z = (at as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as i64
}

fn measure(name: &str, map: &ShardMap, keys: &[KeyValue]) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for key in keys {
            black_box(map.shard_of(black_box(key)));
        }
        best = best.min(start.elapsed().as_nanos() as f64 / keys.len() as f64);
    }
    println!("{name:40} {best:6.1} ns per key");
}
