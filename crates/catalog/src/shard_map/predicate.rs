//! The rows of a shard, as a condition a server can check.

use super::{Rest, ShardMap};
use crate::key::order_sql;
use crate::{KeyType, KeyValue, ShardId, hash_sql, literal_sql};

/// Never NULL; true for exactly the keys of the shard.
pub(super) fn of_shard(map: &ShardMap, shard: ShardId, key_type: KeyType, column_expr: &str) -> String {
    let rule = of_rule(&map.rest, shard, key_type, column_expr);
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
    let own = one_of(own, key_type, column_expr);
    let any = one_of(rows.iter().map(|(key, _)| *key), key_type, column_expr);
    format!("({own} OR (NOT {any} AND {rule}))")
}

fn of_rule(rest: &Rest, shard: ShardId, key_type: KeyType, column_expr: &str) -> String {
    let parts: Vec<String> = match rest {
        Rest::Hash(ranges) => {
            let hash = hash_sql(key_type, column_expr);
            let ranges = ranges.of_shard(shard).into_iter();
            ranges
                .map(|(first, last)| format!("{hash} BETWEEN {} AND {}", int8_sql(first), int8_sql(last)))
                .collect()
        }
        Rest::Modulo(owners) => {
            let hash = hash_sql(key_type, column_expr);
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
            let key = order_sql(key_type, column_expr);
            let owned = ranges.iter().filter(|range| range.shard == shard);
            owned
                .map(|range| {
                    let first = range.first.map(|first| {
                        format!("{key} OPERATOR(pg_catalog.>=) {}", literal_sql(key_type, first))
                    });
                    let end = range
                        .end
                        .map(|end| format!("{key} OPERATOR(pg_catalog.<) {}", literal_sql(key_type, end)));
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

/// True for these keys, false for all others, NULL among either.
fn one_of<'a>(keys: impl Iterator<Item = &'a KeyValue>, key_type: KeyType, column_expr: &str) -> String {
    let key = order_sql(key_type, column_expr);
    let (mut null, mut list) = (false, Vec::new());
    for value in keys {
        match value {
            KeyValue::Null => null = true,
            value => list.push(literal_sql(key_type, value)),
        }
    }
    if list.is_empty() {
        return match null {
            true => format!("({column_expr}) IS NULL"),
            false => "false".to_owned(),
        };
    }
    format!(
        "coalesce({key} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]), {null})",
        list.join(", ")
    )
}

/// The lowest int8 has no positive twin, so it cannot be written as a negated literal.
fn int8_sql(value: i64) -> String {
    format!("'{value}'::pg_catalog.int8")
}
