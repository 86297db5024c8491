//! Keys and how many rows have each, in bounded memory.

use std::collections::HashMap;

use catalog::KeyValue;

/// Different keys that are kept. With more, every second one is dropped, as often as needed.
const KEYS_MAX: usize = 4_000_000;

/// Keys with their rows.
#[derive(Debug)]
pub struct Keys {
    rows_by_key: HashMap<KeyValue, u64>,
    /// Keys are kept whose mixed hash has this many zeros at its end.
    zeros: u32,
    keys_max: usize,
    /// Rows counted, those of dropped keys included.
    pub rows: u64,
    /// Rows whose key could not be read.
    pub unreadable: u64,
}

impl Keys {
    /// None yet.
    pub fn new() -> Keys {
        Keys::with_max(KEYS_MAX)
    }

    /// None yet, and at most so many.
    pub fn with_max(keys_max: usize) -> Keys {
        Keys {
            rows_by_key: HashMap::new(),
            zeros: 0,
            keys_max,
            rows: 0,
            unreadable: 0,
        }
    }

    /// Another row.
    pub fn add(&mut self, key: KeyValue) {
        self.rows += 1;
        if !self.is_kept(&key) {
            return;
        }
        *self.rows_by_key.entry(key).or_insert(0) += 1;
        while self.rows_by_key.len() > self.keys_max {
            self.zeros += 1;
            let zeros = self.zeros;
            self.rows_by_key.retain(|key, _| kept(key, zeros));
        }
    }

    fn is_kept(&self, key: &KeyValue) -> bool {
        self.zeros == 0 || kept(key, self.zeros)
    }

    /// One of how many keys was kept.
    pub fn sampled(&self) -> u64 {
        1 << self.zeros
    }

    /// The keys that were kept, most rows first.
    pub fn by_rows(&self) -> Vec<(&KeyValue, u64)> {
        let mut keys: Vec<(&KeyValue, u64)> =
            self.rows_by_key.iter().map(|(key, rows)| (key, *rows)).collect();
        // The order of a hash map changes from run to run.
        keys.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.borrowed().cmp(&b.0.borrowed())));
        keys
    }
}

/// Chosen by other bits than those that place a key.
fn kept(key: &KeyValue, zeros: u32) -> bool {
    let mixed = (key.hash() as u64 ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32 & ((1 << zeros) - 1) == 0
}
