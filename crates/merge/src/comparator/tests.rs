use super::*;
use bytes::BytesMut;
use wire::backend::{DataRow, encode::data_row};
use wire::frame::HEADER_LEN;

fn key(comparator: Comparator, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    comparator.encode(value, &mut out).unwrap();
    out
}

fn type_oid(name: &str) -> u32 {
    match name {
        "bool" => 16,
        "bytea" => 17,
        "char" => 18,
        "int8" => 20,
        "int2" => 21,
        "int4" => 23,
        "text" => 25,
        "oid" => 26,
        "float4" => 700,
        "float8" => 701,
        "bpchar" => 1042,
        "date" => 1082,
        "time" => 1083,
        "timestamp" => 1114,
        "timestamptz" => 1184,
        "interval" => 1186,
        "timetz" => 1266,
        "numeric" => 1700,
        "uuid" => 2950,
        other => panic!("{other}"),
    }
}

#[test]
fn sorts_as_postgresql_did() {
    let recording = include_str!("tests/postgresql15.txt");
    let mut values: Vec<(&str, u32, Vec<u8>)> = Vec::new();
    for line in recording.lines().filter(|line| !line.starts_with('#')) {
        let [name, rank, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
        let comparator = Comparator::for_type(type_oid(name), true).unwrap();
        values.push((name, rank.parse().unwrap(), key(comparator, &bytes)));
    }
    assert!(values.len() > 200);
    for (name, rank, key) in &values {
        for (_, other_rank, other) in values.iter().filter(|(other, ..)| other == name) {
            assert_eq!(
                key.cmp(other),
                rank.cmp(other_rank),
                "{name}: ranks {rank} and {other_rank}"
            );
            // What makes concatenation and inversion right.
            assert!(
                key == other || !other.starts_with(key),
                "{name}: {rank} is a prefix of {other_rank}"
            );
        }
    }
}

#[test]
fn infinite_intervals_of_17_are_the_extremes() {
    let interval = |micros: i64, days: i32, months: i32| {
        let raw = [
            &micros.to_be_bytes()[..],
            &days.to_be_bytes(),
            &months.to_be_bytes(),
        ]
        .concat();
        key(Comparator::Interval, &raw)
    };
    let greatest = interval(i64::MAX, i32::MAX, i32::MAX);
    let least = interval(i64::MIN, i32::MIN, i32::MIN);
    assert!(interval(i64::MAX, i32::MAX, i32::MAX - 1) < greatest);
    assert!(interval(i64::MIN, i32::MIN, i32::MIN + 1) > least);
}

#[test]
fn numerics_compare_by_value_whatever_their_padding() {
    let numeric = |weight: i16, sign: u16, digits: &[u16]| {
        let mut raw = (digits.len() as u16).to_be_bytes().to_vec();
        raw.extend_from_slice(&weight.to_be_bytes());
        raw.extend_from_slice(&sign.to_be_bytes());
        raw.extend_from_slice(&[0, 0]);
        digits
            .iter()
            .for_each(|d| raw.extend_from_slice(&d.to_be_bytes()));
        key(Comparator::Numeric, &raw)
    };
    assert_eq!(numeric(0, 0, &[1]), numeric(2, 0, &[0, 0, 1, 0]));
    assert_eq!(numeric(0, 0, &[]), numeric(5, 0x4000, &[0, 0]));
    assert!(numeric(i16::MIN, 0, &[0, 1]) < numeric(i16::MIN, 0, &[1]));
}

#[test]
fn malformed_values_are_errors() {
    let check = |comparator: Comparator, value: &[u8]| {
        let result = comparator.encode(value, &mut Vec::new());
        assert_eq!(result, Err(KeyError::Malformed(comparator)), "{value:?}");
    };
    check(Comparator::Int4, b"123");
    check(Comparator::Int8, b"");
    check(Comparator::Bool, b"tt");
    check(Comparator::Uuid, &[0; 15]);
    check(Comparator::TimeTz, &[0; 11]);
    check(Comparator::Interval, &[0; 17]);
    check(Comparator::Numeric, &[0; 7]);
    check(Comparator::Numeric, &[0, 1, 0, 0, 0, 0, 0, 0]); // a digit is missing
    check(Comparator::Numeric, &[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10]); // digit 10000
    check(Comparator::Numeric, &[0, 0, 0, 0, 0x12, 0, 0, 0]); // no such sign
}

#[test]
fn types_without_a_proved_order_are_not_merged() {
    for oid in [25, 1043, 19, 1042] {
        assert!(Comparator::for_type(oid, true).is_some());
        assert_eq!(Comparator::for_type(oid, false), None);
    }
    assert_eq!(Comparator::for_type(23, false), Some(Comparator::Int4));
    assert_eq!(Comparator::for_type(3802, true), None);
}

fn row_key(keys: &[SortKey], values: &[Option<&[u8]>]) -> Result<Vec<u8>, KeyError> {
    let (mut row, mut out) = (BytesMut::new(), vec![9, 9]);
    data_row(&mut row, values.iter().copied()).unwrap();
    let columns = DataRow::decode(&row[HEADER_LEN..]).unwrap().columns;
    encode_row(keys, columns, &mut out).map(|()| out)
}

#[test]
fn direction_and_nulls() {
    let order = |descending: bool, nulls_first: bool| {
        let keys = [SortKey {
            column: 1,
            comparator: Comparator::Bytes,
            descending,
            nulls_first,
        }];
        let mut values: [Option<&[u8]>; 5] = [Some(b"b"), None, Some(b""), Some(b"ab"), Some(b"a")];
        values.sort_by_key(|value| row_key(&keys, &[None, *value]).unwrap());
        values.map(|v| v.map_or("null", |v| std::str::from_utf8(v).unwrap()))
    };
    assert_eq!(order(false, false), ["", "a", "ab", "b", "null"]);
    assert_eq!(order(false, true), ["null", "", "a", "ab", "b"]);
    assert_eq!(order(true, true), ["null", "b", "ab", "a", ""]);
    assert_eq!(order(true, false), ["b", "ab", "a", "", "null"]);
}

#[test]
fn earlier_keys_outweigh_later_ones() {
    let by = |column, descending| SortKey {
        column,
        comparator: Comparator::Bytes,
        descending,
        nulls_first: false,
    };
    let keys = [by(1, true), by(0, false)];
    let key = |a: &'static [u8], b: &'static [u8]| row_key(&keys, &[Some(a), Some(b)]).unwrap();
    assert!(key(b"z", b"b") < key(b"a", b"a"));
    assert!(key(b"a", b"a") < key(b"b", b"a"));
    assert!(key(b"z", b"ab") < key(b"a", b"a"), "longer first when descending");
    assert_eq!(row_key(&keys, &[None]), Err(KeyError::NoColumn(1)));
}
