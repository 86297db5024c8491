//! The keys under every scheme, before and after shards are added.

use std::collections::HashMap;

use catalog::{KeyShape, KeyValue, ROWS_MAX, Salt, ShardId, ShardMap, ShardMapError};

use super::{Keys, SimulateArgs};

/// Keys with places of their own: their shards, from 0.
pub type Pins = HashMap<KeyValue, usize>;

/// Most values that anybody writes into a `list`.
const LIST_MAX: usize = 1_000;
/// A `directory` is balanced until no shard has more than this over its share.
const TOLERANCE: f64 = 0.01;

/// What a scheme makes of the keys.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the scheme.
    pub scheme: &'static str,
    /// The figures, or why there are none.
    pub figures: Result<Figures, String>,
}

/// Figures of a scheme.
#[derive(Debug)]
pub struct Figures {
    /// Rows of each shard at first.
    pub before: Vec<u64>,
    /// And with the shards that were added.
    pub after: Vec<u64>,
    /// Rows that are on another shard then.
    pub moved: u64,
    /// What the operator has to write down, in words; empty when nothing.
    pub note: String,
}

impl Figures {
    /// Part of all rows that moves.
    pub fn moved_part(&self) -> f64 {
        self.moved as f64 / self.before.iter().sum::<u64>().max(1) as f64
    }
}

/// Rows of the fullest shard over those of the average one.
pub fn skew(rows: &[u64]) -> f64 {
    let max = rows.iter().copied().max().unwrap_or(0) as f64;
    let mean = rows.iter().sum::<u64>() as f64 / rows.len().max(1) as f64;
    if mean > 0.0 { max / mean } else { 1.0 }
}

/// Every scheme.
pub fn all(keys: &Keys, args: &SimulateArgs, pins: &Pins) -> Result<Vec<Outcome>, ShardMapError> {
    let world = World {
        keys: keys.by_rows(),
        shards: args.shards,
        added: args.add,
        pins,
    };
    let outcome = |scheme, figures| Outcome { scheme, figures };
    let mut outcomes = vec![
        outcome("hash", Ok(world.hash()?)),
        outcome("modulo", Ok(world.modulo()?)),
        outcome("range", world.range(&args.shape)?),
        outcome("list", world.list()),
        outcome("geo", world.geo()),
        outcome("directory", Ok(world.directory()?)),
    ];
    if let Some(sub_keys) = args.salt {
        let salt = Salt::new(args.shape.types().len(), sub_keys);
        outcomes.insert(1, outcome("salted", world.salted(salt)?));
    }
    Ok(outcomes)
}

struct World<'a> {
    /// Most rows first.
    keys: Vec<(&'a KeyValue, u64)>,
    shards: u32,
    added: u32,
    pins: &'a Pins,
}

impl World<'_> {
    fn ids(&self, count: u32) -> Vec<ShardId> {
        (0..count).map(ShardId).collect()
    }

    fn hash(&self) -> Result<Figures, ShardMapError> {
        let before = ShardMap::even(&self.ids(self.shards))?;
        let after = self.grown(&before)?;
        Ok(self.compare(&self.places(&before), &self.places(&after), String::new()))
    }

    fn grown(&self, map: &ShardMap) -> Result<ShardMap, ShardMapError> {
        let added = self.shards..self.shards + self.added;
        added
            .into_iter()
            .try_fold(map.clone(), |map, shard| map.with_shard(ShardId(shard)))
    }

    /// By hash, the rows of each key in equal parts on its sub-keys.
    fn salted(&self, salt: Option<Salt>) -> Result<Result<Figures, String>, ShardMapError> {
        let Some(salt) = salt else {
            return Ok(Err(
                "the key has so many columns that none is left to salt it".to_owned()
            ));
        };
        if !self.pins.is_empty() {
            return Ok(Err(
                "a pinned key is on one shard, a salted one on several".to_owned()
            ));
        }
        let before = ShardMap::even(&self.ids(self.shards))?.salted(salt)?;
        let after = self.grown(&before)?;
        let parts = self.keys.iter().flat_map(|(key, rows)| {
            let sub_keys = u64::from(salt.sub_keys());
            let part = move |sub_key: u64| rows / sub_keys + u64::from(sub_key < rows % sub_keys);
            (0..sub_keys).map(move |sub_key| (*key, part(sub_key)))
        });
        let parts = World {
            keys: parts.collect(),
            ..*self
        };
        let places = |map: &ShardMap| {
            let shards = self.keys.iter().flat_map(|(key, _)| map.sub_keys(key));
            shards.map(|shard| shard.0 as usize).collect::<Vec<_>>()
        };
        Ok(Ok(parts.compare(
            &places(&before),
            &places(&after),
            String::new(),
        )))
    }

    fn modulo(&self) -> Result<Figures, ShardMapError> {
        let before = ShardMap::modulo(self.ids(self.shards))?;
        let after = ShardMap::modulo(self.ids(self.shards + self.added))?;
        Ok(self.compare(&self.places(&before), &self.places(&after), String::new()))
    }

    /// Ranges are cut where they hold the same number of rows; a new shard takes the upper half of the fullest range.
    fn range(&self, shape: &KeyShape) -> Result<Result<Figures, String>, ShardMapError> {
        let Some(key_type) = shape.single() else {
            return Ok(Err("not for keys of several columns".to_owned()));
        };
        if !key_type.family().has_order() {
            return Ok(Err(format!("not for keys of type {}", key_type.name())));
        }
        let mut sorted: Vec<(&KeyValue, u64)> = self.keys.clone();
        sorted.retain(|(key, _)| **key != KeyValue::Null);
        sorted.sort_unstable_by(|a, b| a.0.borrowed().cmp(&b.0.borrowed()));
        let mut ranges: Vec<(Vec<(&KeyValue, u64)>, ShardId)> = Vec::new();
        let mut rest = sorted.as_slice();
        for shard in 0..self.shards {
            let left = u64::from(self.shards - shard);
            let want = rest.iter().map(|(_, rows)| rows).sum::<u64>() / left;
            let at = if left == 1 { rest.len() } else { cut(rest, want) };
            let (own, tail) = rest.split_at(at);
            ranges.push((own.to_vec(), ShardId(shard)));
            rest = tail;
        }
        let before = range_map(&ranges)?;
        for shard in self.shards..self.shards + self.added {
            let rows =
                |range: &(Vec<(&KeyValue, u64)>, ShardId)| range.0.iter().map(|(_, rows)| rows).sum::<u64>();
            let Some(fullest) = (0..ranges.len()).max_by_key(|at| rows(&ranges[*at])) else {
                break;
            };
            let at = cut(&ranges[fullest].0, rows(&ranges[fullest]) / 2);
            let upper = ranges[fullest].0.split_off(at);
            ranges.insert(fullest + 1, (upper, ShardId(shard)));
        }
        let after = range_map(&ranges)?;
        let note = format!(
            "{} boundaries, and the keys of tomorrow may all be in one range",
            self.shards - 1
        );
        Ok(Ok(self.compare(
            &self.places(&before),
            &self.places(&after),
            note,
        )))
    }

    fn list(&self) -> Result<Figures, String> {
        let before = self.given_out("values")?;
        let mut after = before.clone();
        self.balance(&mut after, (self.shards + self.added) as usize);
        Ok(self.compare(&before, &after, format!("{} values", self.keys.len())))
    }

    /// As a list, but a region stays where the law has put it: new shards are for new regions.
    fn geo(&self) -> Result<Figures, String> {
        let places = self.given_out("regions")?;
        let note = format!(
            "{} regions; none moves by itself, and rows of others are refused",
            self.keys.len()
        );
        Ok(self.compare(&places, &places, note))
    }

    /// Values are given out so that shards are as even as they can be.
    fn given_out(&self, what: &str) -> Result<Vec<usize>, String> {
        if self.keys.len() > LIST_MAX {
            return Err(format!(
                "{} {what} are too many to write down (at most {LIST_MAX} here)",
                self.keys.len()
            ));
        }
        let mut loads = vec![0; self.shards as usize];
        for (key, rows) in &self.keys {
            if let Some(shard) = self.pins.get(*key) {
                loads[*shard] += rows;
            }
        }
        let mut place = |(key, rows): &(&KeyValue, u64)| {
            self.pins.get(*key).copied().unwrap_or_else(|| {
                let shard = least(&loads);
                loads[shard] += rows;
                shard
            })
        };
        Ok(self.keys.iter().map(&mut place).collect())
    }

    /// Keys are where their hash says until moving one makes the shards more even.
    fn directory(&self) -> Result<Figures, ShardMapError> {
        let by_hash = self.places(&ShardMap::even(&self.ids(self.shards))?);
        let mut before = by_hash.clone();
        self.balance(&mut before, self.shards as usize);
        let mut after = before.clone();
        self.balance(&mut after, (self.shards + self.added) as usize);
        let differ = |places: &[usize]| places.iter().zip(&by_hash).filter(|(a, b)| a != b).count();
        let note = format!("{} rows, then {}", differ(&before), differ(&after));
        Ok(self.compare(&before, &after, note))
    }

    /// Moves keys, those of most rows first, from shards above their share to the emptiest.
    fn balance(&self, places: &mut [usize], shards: usize) {
        let mut loads = vec![0_u64; shards];
        for (place, (_, rows)) in places.iter().zip(&self.keys) {
            loads[*place] += rows;
        }
        let share = loads.iter().sum::<u64>() as f64 / shards as f64;
        let limit = share * (1.0 + TOLERANCE);
        let mut moved = 0;
        for (place, (key, rows)) in places.iter_mut().zip(&self.keys) {
            if loads[*place] as f64 <= limit || moved >= ROWS_MAX || self.pins.contains_key(*key) {
                continue;
            }
            let to = least(&loads);
            let gains = (loads[to] + rows) as f64 <= share && loads[*place] - rows >= loads[to] + rows;
            if gains {
                loads[*place] -= rows;
                loads[to] += rows;
                *place = to;
                moved += 1;
            }
        }
    }

    fn places(&self, map: &ShardMap) -> Vec<usize> {
        self.keys
            .iter()
            .map(|(key, _)| {
                let pinned = self.pins.get(*key).copied();
                pinned.unwrap_or_else(|| map.shard_of(key).0 as usize)
            })
            .collect()
    }

    fn compare(&self, before: &[usize], after: &[usize], note: String) -> Figures {
        let mut figures = Figures {
            before: vec![0; self.shards as usize],
            after: vec![0; (self.shards + self.added) as usize],
            moved: 0,
            note,
        };
        for ((_, rows), (old, new)) in self.keys.iter().zip(before.iter().zip(after)) {
            figures.before[*old] += rows;
            figures.after[*new] += rows;
            if old != new {
                figures.moved += rows;
            }
        }
        figures
    }
}

fn least(loads: &[u64]) -> usize {
    (0..loads.len()).min_by_key(|at| loads[*at]).unwrap_or(0)
}

/// How many keys from the start have nearest to `want` rows.
fn cut(keys: &[(&KeyValue, u64)], want: u64) -> usize {
    let mut sum = 0;
    for (at, (_, rows)) in keys.iter().enumerate() {
        if sum + rows > want {
            let nearer = (sum + rows - want) < want - sum.min(want);
            return at + usize::from(nearer);
        }
        sum += rows;
    }
    keys.len()
}

fn range_map(ranges: &[(Vec<(&KeyValue, u64)>, ShardId)]) -> Result<ShardMap, ShardMapError> {
    let first = ranges.first().map_or(ShardId(0), |(_, shard)| *shard);
    let starts = ranges
        .iter()
        .skip(1)
        .filter_map(|(keys, shard)| Some(((*keys.first()?.0).clone(), *shard)));
    ShardMap::by_range(first, starts.collect())
}
