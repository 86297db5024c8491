//! What a server computes about a key, as SQL.
//!
//! Texts made here mean the same whatever the session's `search_path`, `DateStyle`, `TimeZone` and lexical settings are.

use std::fmt::{self, Write as _};

use super::{KeyFamily, KeyRef, KeyType, KeyValue};

/// SQL text of the hash of a key column, so that a filter on a server agrees with [`KeyValue::hash`].
///
/// `column_expr` is SQL text (a quoted column name, possibly qualified). The expression is never NULL, independent of
/// `search_path`, immutable and accepted in publication row filters, except that of an enum, whose labels can be renamed.
pub fn hash_sql(key_type: KeyType, column_expr: &str) -> String {
    let value = canonical_sql(key_type, column_expr);
    let inner = match key_type.family() {
        KeyFamily::Integer => format!("pg_catalog.hashint8extended({value}, 0)"),
        KeyFamily::Text | KeyFamily::Enum => format!("pg_catalog.hashtextextended({value}, 0)"),
        KeyFamily::Bpchar => format!("pg_catalog.hashbpcharextended({value}, 0)"),
        KeyFamily::Uuid => format!("pg_catalog.uuid_hash_extended({value}, 0)"),
        KeyFamily::Timestamp => format!("pg_catalog.timestamp_hash_extended({value}, 0)"),
        KeyFamily::Float => format!("pg_catalog.hashfloat8extended({value}, 0)"),
        KeyFamily::Numeric => format!("pg_catalog.hash_numeric_extended({value}, 0)"),
        // These have no function that can be called by name in every version. The hash of a record of one column is
        // that column's own.
        KeyFamily::Bool | KeyFamily::Date | KeyFamily::Timestamptz | KeyFamily::Bytea => {
            format!("pg_catalog.hash_record_extended(ROW({value}), 0)")
        }
    };
    format!("coalesce({inner}, {}::pg_catalog.int8)", crate::NULL_KEY_HASH)
}

/// SQL text of the hash of a key of several columns; agrees with [`record_hash`](super::record_hash).
pub fn record_hash_sql<'a>(columns: impl IntoIterator<Item = (KeyType, &'a str)>) -> String {
    let values: Vec<String> = columns
        .into_iter()
        .map(|(key_type, column)| canonical_sql(key_type, column))
        .collect();
    format!("pg_catalog.hash_record_extended(ROW({}), 0)", values.join(", "))
}

/// A key column as the type in which all values of its family compare.
fn canonical_sql(key_type: KeyType, column_expr: &str) -> String {
    let target = match key_type {
        KeyType::Enum => "text",
        other => other.family().widest().name(),
    };
    format!("({column_expr})::pg_catalog.{target}{}", collate_sql(key_type))
}

fn collate_sql(key_type: KeyType) -> &'static str {
    match key_type.family() {
        // Every deterministic collation hashes the bytes; naming one keeps user-defined ones out of row filters.
        KeyFamily::Text | KeyFamily::Bpchar | KeyFamily::Enum => " COLLATE pg_catalog.\"C\"",
        _ => "",
    }
}

/// The hash of a key, one column or several: type and SQL text of each.
pub(crate) fn columns_hash_sql(columns: &[(KeyType, &str)]) -> String {
    match columns {
        [(key_type, column)] => hash_sql(*key_type, column),
        several => record_hash_sql(several.iter().copied()),
    }
}

/// A key as something that can be compared with [`key_literal_sql`] by `=`, and by `<` where its only column has an order.
pub(crate) fn columns_order_sql(columns: &[(KeyType, &str)]) -> String {
    match columns {
        [(key_type, column)] => canonical_sql(*key_type, column),
        several => {
            let values: Vec<String> = several
                .iter()
                .map(|(t, column)| canonical_sql(*t, column))
                .collect();
            format!("ROW({})", values.join(", "))
        }
    }
}

/// A key value as SQL, for a key with columns of these types.
pub fn key_literal_sql(types: &[KeyType], value: &KeyValue) -> String {
    match (types, value) {
        ([key_type], value) => literal_sql(*key_type, value),
        (types, value) => {
            let columns = types.iter().zip(value.columns());
            // Columns of records are compared only when both sides name the same collation.
            let literal =
                |(t, value): (&KeyType, &KeyValue)| format!("{}{}", literal_sql(*t, value), collate_sql(*t));
            let columns: Vec<String> = columns.map(literal).collect();
            format!("ROW({})", columns.join(", "))
        }
    }
}

/// A key value as SQL.
pub fn literal_sql(key_type: KeyType, value: &KeyValue) -> String {
    let name = match key_type {
        KeyType::Enum => "text",
        other => other.family().widest().name(),
    };
    match value {
        KeyValue::Null => format!("NULL::pg_catalog.{name}"),
        KeyValue::Float(bits) => format!("'{}'::pg_catalog.float8", float(*bits)),
        // Days and microseconds are counted from 2000-01-01; the infinities are the ends of the numbers.
        KeyValue::Date(i32::MIN) => "'-infinity'::pg_catalog.date".to_owned(),
        KeyValue::Date(i32::MAX) => "'infinity'::pg_catalog.date".to_owned(),
        KeyValue::Date(days) => {
            format!("(pg_catalog.make_date(2000, 1, 1) OPERATOR(pg_catalog.+) ({days}))")
        }
        KeyValue::Time(i64::MIN) => format!("'-infinity'::pg_catalog.{name}"),
        KeyValue::Time(i64::MAX) => format!("'infinity'::pg_catalog.{name}"),
        KeyValue::Time(micros) => {
            // Microseconds, not days: a day is not always 24 hours long in the session's time zone.
            let zone = if key_type == KeyType::Timestamptz {
                "+00"
            } else {
                ""
            };
            format!(
                "('2000-01-01 00:00:00{zone}'::pg_catalog.{name} OPERATOR(pg_catalog.+) \
                 '{micros} microseconds'::pg_catalog.interval)"
            )
        }
        other => {
            let text = text_of(other.borrowed());
            format!("{}::pg_catalog.{name}", quoted(&text))
        }
    }
}

/// For people: as a server prints it, but for dates and times, which are given as counts from 2000-01-01.
impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyValue::Null => f.write_str("NULL"),
            KeyValue::Float(bits) => f.write_str(&float(*bits)),
            KeyValue::Record(values) => {
                let mut separator = "(";
                for value in values {
                    write!(f, "{separator}{value}")?;
                    separator = ", ";
                }
                f.write_str(")")
            }
            KeyValue::Date(days) => write!(f, "{days} days"),
            KeyValue::Time(micros) => write!(f, "{micros} us"),
            other => f.write_str(&text_of(other.borrowed())),
        }
    }
}

/// The value as a server prints it.
fn text_of(value: KeyRef<'_>) -> String {
    match value {
        KeyRef::Int(i) => i.to_string(),
        KeyRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
        KeyRef::Uuid(bytes) => hex(bytes),
        KeyRef::Bool(b) => if b { "t" } else { "f" }.to_owned(),
        KeyRef::Numeric(n) => n.to_string(),
        KeyRef::Bytes(bytes) => format!("\\x{}", hex(bytes)),
        KeyRef::Null | KeyRef::Date(_) | KeyRef::Time(_) | KeyRef::Float(_) | KeyRef::Record(_) => {
            String::new()
        }
    }
}

fn float(bits: u64) -> String {
    let value = f64::from_bits(bits);
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        format!("{value:e}")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Quoted so that `standard_conforming_strings` does not matter.
fn quoted(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
