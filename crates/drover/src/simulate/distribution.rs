//! Keys that are made up.

use catalog::{KeyType, KeyValue};

use super::{Distribution, Keys, Progress, SimulateArgs, SimulateError};

/// Rows between two looks at the clock.
const STRIDE: u64 = 1 << 14;
/// Most keys that `zipf` and `uniform` draw from.
const KEYS_MAX: u64 = 10_000_000;

/// The rows that the arguments ask for.
pub fn make(args: &SimulateArgs, progress: &mut Progress) -> Result<Keys, SimulateError> {
    if !(0.0..=20.0).contains(&args.exponent) {
        return Err(SimulateError::Exponent);
    }
    let count = args.keys.unwrap_or(args.rows.min(KEYS_MAX));
    let ranks = match args.distribution {
        Distribution::Zipf => Some(Zipf::new(count, args.exponent)),
        _ => None,
    };
    let mut keys = Keys::new();
    let mut random = Random(args.seed);
    for row in 0..args.rows {
        let n = match (&ranks, args.distribution) {
            (Some(zipf), _) => zipf.draw(&mut random),
            (None, Distribution::Sequential) => match args.keys {
                Some(count) => row % count,
                None => row,
            },
            (None, _) => random.below(count),
        };
        keys.add(nth_record(args.shape.types(), n)?);
        if row % STRIDE == 0 {
            progress.tick(row, row, Some(args.rows));
        }
    }
    Ok(keys)
}

/// Rows with the same values in all columns but the last, and so on towards the first.
const INNER_KEYS: u64 = 100;

/// The n-th key, from 0: the last column counts up, and each column before it counts a hundred times slower.
fn nth_record(types: &[KeyType], n: u64) -> Result<KeyValue, SimulateError> {
    let mut slower = n;
    let mut values = Vec::with_capacity(types.len());
    for key_type in types.iter().rev() {
        values.push(nth_key(*key_type, slower + 1)?);
        slower /= INNER_KEYS;
    }
    values.reverse();
    Ok(KeyValue::of_columns(values))
}

/// The n-th key of a type, from 1.
fn nth_key(key_type: KeyType, n: u64) -> Result<KeyValue, SimulateError> {
    match key_type {
        KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => Ok(KeyValue::Int(n as i64)),
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar => {
            Ok(KeyValue::Text(format!("key_{n}").into_bytes().into()))
        }
        KeyType::Uuid => {
            let mut random = Random(n);
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&random.next().to_be_bytes());
            bytes[8..].copy_from_slice(&random.next().to_be_bytes());
            Ok(KeyValue::Uuid(bytes))
        }
        other => Err(SimulateError::MadeUp(other.name())),
    }
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }

    /// From 0 to below 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ranks, each with the sum of the weights up to it.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=count.min(KEYS_MAX)).map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        });
        Zipf { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let point = random.part() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|sum| *sum <= point) as u64
    }
}
