use super::*;
use crate::{KeyType, KeyValue};

/// `type TAB value TAB hash`, made by PostgreSQL 15. `character` values stand in brackets, which keep their blanks.
const VECTORS: &str = include_str!("vectors.tsv");

#[test]
fn agrees_with_recorded_values() {
    let mut count = 0;
    for line in VECTORS.lines() {
        let mut fields = line.split('\t');
        let (kind, value) = (fields.next().unwrap(), fields.next().unwrap());
        let hash: i64 = fields.next().unwrap().parse().unwrap();
        let (key_type, value) = match kind {
            "int2" => (KeyType::Int2, value),
            "int4" => (KeyType::Int4, value),
            "int8" => (KeyType::Int8, value),
            "text" => (KeyType::Text, value),
            "bpchar" => (
                KeyType::Bpchar,
                value.trim_start_matches('[').trim_end_matches(']'),
            ),
            "uuid" => (KeyType::Uuid, value),
            other => panic!("{other}"),
        };
        let key = key_type.from_text(value.as_bytes()).unwrap();
        assert_eq!(key.hash(), hash, "{line}");
        count += 1;
    }
    assert!(count > 700);
}

#[test]
fn null_has_a_fixed_place() {
    assert_eq!(KeyValue::Null.hash(), 0);
}

#[test]
fn integer_widths_agree() {
    // hashint4extended folds nothing; hashint8extended must fold to the same for small values.
    for value in [0, 1, -1, i32::MAX, i32::MIN, 77, -77] {
        assert_eq!(int8(value.into()), uint32(value as u32));
    }
}
