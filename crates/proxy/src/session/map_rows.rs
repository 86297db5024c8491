//! The rows of `drover.shard_map`.
//!
//! | scheme | a row is | `range_start`, `range_end` | `key` |
//! |---|---|---|---|
//! | `hash` | a range of hashes | first and last hash | – |
//! | `salted` | as for `hash` | as for `hash` | – |
//! | `modulo` | a remainder | the remainder, twice | – |
//! | `range` | a range of keys | first key, and the key after the last; NULL: no end | – |
//! | `list` | a key, or all others | – | the key; NULL: all others |
//! | `geo` | a region | – | the region |
//! | `place` | everything: the map of tables that are placed | – | – |
//! | `directory` | a key, or a range of hashes | as for `hash` | the key |
//!
//! A pinned key has a row of its own in front of those of its scheme. Keys are written as SQL, the NULL key as the word `NULL`.

use catalog::{KeyType, ShardId};
use topology::records::{ClusterRecord, HashRange, KeyPlace, Scheme};

/// The columns.
pub(super) const COLUMNS: &[&str] = &["map", "scheme", "range_start", "range_end", "shard", "key"];

/// A row of text, `None` = NULL.
type Row = Vec<Option<String>>;

/// What a row says beside map and scheme.
struct Part {
    start: Option<String>,
    end: Option<String>,
    key: Option<String>,
    shard: ShardId,
}

/// All maps.
pub(super) fn rows(record: &ClusterRecord) -> Vec<Row> {
    let name = |id: ShardId| record.shard(id).map(|shard| shard.name.clone());
    let mut rows = Vec::new();
    for map in &record.maps {
        let row = |part: Part| {
            vec![
                Some(map.id.0.to_string()),
                Some(map.scheme.name().to_owned()),
                part.start,
                part.end,
                name(part.shard),
                part.key,
            ]
        };
        rows.extend(parts(&map.scheme).into_iter().map(row));
    }
    rows
}

fn parts(scheme: &Scheme) -> Vec<Part> {
    match scheme {
        Scheme::Hash { ranges } | Scheme::Salted { ranges, .. } => hash_ranges(ranges),
        Scheme::Modulo { owners } => {
            let part = |(at, owner): (usize, &u32)| Part {
                start: Some(at.to_string()),
                end: Some(at.to_string()),
                key: None,
                shard: ShardId(*owner),
            };
            owners.iter().enumerate().map(part).collect()
        }
        Scheme::Range {
            key_type,
            first,
            starts,
        } => {
            let edge = |at: usize| starts.get(at).map(|place| key(key_type, place.key.as_deref()));
            let owners = std::iter::once(*first).chain(starts.iter().map(|place| place.shard));
            let part = |(at, shard): (usize, ShardId)| Part {
                start: at.checked_sub(1).and_then(edge),
                end: edge(at),
                key: None,
                shard,
            };
            owners.enumerate().map(part).collect()
        }
        Scheme::List { key_type, rows, rest } => {
            let mut parts = keys(key_type, rows);
            parts.push(Part {
                start: None,
                end: None,
                key: None,
                shard: *rest,
            });
            parts
        }
        Scheme::Geo { key_type, rows, .. } => keys(key_type, rows),
        Scheme::Place { shard } => vec![Part {
            start: None,
            end: None,
            key: None,
            shard: *shard,
        }],
        Scheme::Pinned {
            key_type,
            rows,
            under,
        } => {
            let mut own = keys(key_type, rows);
            let others = parts(under).into_iter();
            let others: Vec<Part> = others
                .filter(|part| part.key.is_none() || own.iter().all(|pin| pin.key != part.key))
                .collect();
            own.extend(others);
            own
        }
        Scheme::Directory {
            key_type,
            rows,
            ranges,
        } => {
            let mut parts = keys(key_type, rows);
            parts.extend(hash_ranges(ranges));
            parts
        }
    }
}

fn hash_ranges(ranges: &[HashRange]) -> Vec<Part> {
    let part = |(at, range): (usize, &HashRange)| Part {
        start: Some(range.start.to_string()),
        end: Some(
            ranges
                .get(at + 1)
                .map_or(i64::MAX, |next| next.start - 1)
                .to_string(),
        ),
        key: None,
        shard: range.shard,
    };
    ranges.iter().enumerate().map(part).collect()
}

fn keys(key_type: &str, rows: &[KeyPlace]) -> Vec<Part> {
    let part = |place: &KeyPlace| Part {
        start: None,
        end: None,
        key: Some(key(key_type, place.key.as_deref())),
        shard: place.shard,
    };
    rows.iter().map(part).collect()
}

fn key(key_type: &str, key: Option<&str>) -> String {
    match key {
        None => "NULL".to_owned(),
        Some(number) if KeyType::named(key_type) == Some(KeyType::Int8) => number.to_owned(),
        // A record is the text that pins and places are written with.
        Some(text) => sql::quote_literal(text),
    }
}
