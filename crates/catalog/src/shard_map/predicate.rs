//! The rows of a shard, as a condition a server can check.

use super::{HashRanges, Rest, ShardMap};
use crate::key::{columns_hash_sql, columns_order_sql};
use crate::{KeyType, KeyValue, ShardId, key_literal_sql};

/// Type and SQL text of each column of a key.
type Columns<'a> = &'a [(KeyType, &'a str)];

/// Never NULL; true for exactly the keys of the shard.
pub(super) fn of_shard(map: &ShardMap, shard: ShardId, columns: Columns<'_>) -> String {
    with_rule(map, shard, columns, of_rule(&map.rest, shard, columns))
}

/// The same, where a key that no shard may have counts as the shard's that is asked for it: every key is some shard's.
pub(super) fn answered_by(map: &ShardMap, shard: ShardId, columns: Columns<'_>) -> String {
    match map.rest {
        Rest::Nowhere(asked) => with_rule(map, shard, columns, (asked == shard).to_string()),
        _ => of_shard(map, shard, columns),
    }
}

fn with_rule(map: &ShardMap, shard: ShardId, columns: Columns<'_>, rule: String) -> String {
    if map.rows.is_empty() {
        return rule;
    }
    // Sorted, so that the same map always gives the same text.
    let mut rows: Vec<(&KeyValue, ShardId)> = map.rows().collect();
    rows.sort_unstable_by(|a, b| a.0.borrowed().cmp(&b.0.borrowed()));
    let own = rows
        .iter()
        .filter(|(_, owner)| *owner == shard)
        .map(|(key, _)| *key);
    let own = one_of(own, columns);
    let any = one_of(rows.iter().map(|(key, _)| *key), columns);
    format!("({own} OR (NOT {any} AND {rule}))")
}

fn of_rule(rest: &Rest, shard: ShardId, columns: Columns<'_>) -> String {
    let parts: Vec<String> = match rest {
        Rest::Hash(ranges) => between(ranges, shard, &columns_hash_sql(columns)),
        Rest::Salted(ranges, salt) => between(ranges, shard, &salt.place_sql(columns)),
        Rest::Modulo(owners) => {
            let hash = columns_hash_sql(columns);
            let count = owners.len();
            let owned = owners.iter().enumerate().filter(|(_, owner)| **owner == shard);
            let owned: Vec<String> = owned.map(|(at, _)| at.to_string()).collect();
            match owned.is_empty() {
                true => Vec::new(),
                // `%` has the sign of the hash; the remainder has none.
                false => vec![format!(
                    "(({hash} OPERATOR(pg_catalog.%) {count} OPERATOR(pg_catalog.+) {count}) OPERATOR(pg_catalog.%) {count}) IN ({})",
                    owned.join(", ")
                )],
            }
        }
        Rest::Range(ranges) => {
            let (key, types) = (columns_order_sql(columns), types_of(columns));
            let owned = ranges.iter().filter(|range| range.shard == shard);
            owned
                .map(|range| {
                    let first = range.first.map(|first| {
                        format!("{key} OPERATOR(pg_catalog.>=) {}", key_literal_sql(&types, first))
                    });
                    let end = range
                        .end
                        .map(|end| format!("{key} OPERATOR(pg_catalog.<) {}", key_literal_sql(&types, end)));
                    // NULL is in the last range: every comparison with it is NULL.
                    let null = range.end.is_none();
                    let both: Vec<String> = first.into_iter().chain(end).collect();
                    match both.is_empty() {
                        true => "true".to_owned(),
                        false => format!("coalesce({}, {null})", both.join(" AND ")),
                    }
                })
                .collect()
        }
        Rest::Nowhere(_) => Vec::new(),
        Rest::One(owner) => match *owner == shard {
            true => vec!["true".to_owned()],
            false => Vec::new(),
        },
    };
    if parts.is_empty() {
        "false".to_owned()
    } else {
        format!("({})", parts.join(" OR "))
    }
}

/// One condition for each range of the shard.
fn between(ranges: &HashRanges, shard: ShardId, hash: &str) -> Vec<String> {
    let ranges = ranges.of_shard(shard).into_iter();
    ranges
        .map(|(first, last)| format!("{hash} BETWEEN {} AND {}", int8_sql(first), int8_sql(last)))
        .collect()
}

fn types_of(columns: Columns<'_>) -> Vec<KeyType> {
    columns.iter().map(|(key_type, _)| *key_type).collect()
}

/// True for these keys, false for all others, NULL among either.
fn one_of<'a>(keys: impl Iterator<Item = &'a KeyValue>, columns: Columns<'_>) -> String {
    let (key, types) = (columns_order_sql(columns), types_of(columns));
    let (mut null, mut list) = (false, Vec::new());
    for value in keys {
        match value {
            KeyValue::Null => null = true,
            value => list.push(key_literal_sql(&types, value)),
        }
    }
    if list.is_empty() {
        return match (null, columns) {
            (true, [(_, column)]) => format!("({column}) IS NULL"),
            _ => "false".to_owned(),
        };
    }
    // Records are compared column by column, and there two NULLs are equal.
    format!(
        "coalesce({key} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]), {null})",
        list.join(", ")
    )
}

/// The lowest int8 has no positive twin, so it cannot be written as a negated literal.
fn int8_sql(value: i64) -> String {
    format!("'{value}'::pg_catalog.int8")
}
