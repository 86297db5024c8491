use super::*;

fn check_text(key_type: KeyType, text: &str, expect: Result<KeyValue, KeyError>) {
    assert_eq!(
        key_type.from_text(text.as_bytes()),
        expect,
        "{key_type:?} {text:?}"
    );
}

#[test]
fn integers_only_in_canonical_form() {
    check_text(KeyType::Int8, "0", Ok(KeyValue::Int(0)));
    check_text(KeyType::Int8, "-9223372036854775808", Ok(KeyValue::Int(i64::MIN)));
    check_text(KeyType::Int8, "9223372036854775807", Ok(KeyValue::Int(i64::MAX)));
    check_text(KeyType::Int8, "9223372036854775808", Err(KeyError::OutOfRange));
    check_text(KeyType::Int8, "-9223372036854775809", Err(KeyError::OutOfRange));
    check_text(KeyType::Int4, "2147483648", Err(KeyError::OutOfRange));
    check_text(KeyType::Int4, "-2147483648", Ok(KeyValue::Int(-2_147_483_648)));
    check_text(KeyType::Int2, "32768", Err(KeyError::OutOfRange));
    for doubtful in [
        "", "-", "-0", "+1", "01", " 1", "1 ", "1_000", "0x10", "1e3", "1.0", "٣",
    ] {
        check_text(KeyType::Int8, doubtful, Err(KeyError::NotCanonical));
    }
}

#[test]
fn uuids_only_in_canonical_form() {
    let bytes = [
        0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0x00,
    ];
    check_text(
        KeyType::Uuid,
        "123e4567-e89b-12d3-a456-426614174000",
        Ok(KeyValue::Uuid(bytes)),
    );
    for doubtful in [
        "123E4567-E89B-12D3-A456-426614174000",
        "{123e4567-e89b-12d3-a456-426614174000}",
        "123e4567e89b12d3a456426614174000",
        "123e4567-e89b-12d3-a456-42661417400",
        "123e4567-e89b-12d3-a456-42661417400g",
        "123e4567ae89b-12d3-a456-426614174000",
    ] {
        check_text(KeyType::Uuid, doubtful, Err(KeyError::NotCanonical));
    }
    assert_eq!(KeyType::Uuid.from_binary(&bytes), Ok(KeyValue::Uuid(bytes)));
    assert_eq!(KeyType::Uuid.from_datum(&bytes), Ok(KeyValue::Uuid(bytes)));
    assert_eq!(KeyType::Uuid.from_binary(&bytes[1..]), Err(KeyError::Malformed));
}

#[test]
fn only_character_ignores_trailing_blanks() {
    let text = |s: &str| Ok(KeyValue::Text(s.as_bytes().into()));
    check_text(KeyType::Bpchar, "ab  ", text("ab"));
    check_text(KeyType::Bpchar, "   ", text(""));
    check_text(KeyType::Bpchar, " a\t", text(" a\t"));
    check_text(KeyType::Text, "ab  ", text("ab  "));
    check_text(KeyType::Varchar, "", text(""));
    assert_eq!(KeyType::Text.from_text(b"a\xff"), Err(KeyError::Malformed));
    assert_eq!(KeyType::Text.from_binary(b"a\0b"), Err(KeyError::Malformed));
}

#[test]
fn binary_integers_have_their_width() {
    assert_eq!(KeyType::Int2.from_binary(&[0xff, 0xfe]), Ok(KeyValue::Int(-2)));
    assert_eq!(KeyType::Int4.from_binary(&[0, 0, 1, 0]), Ok(KeyValue::Int(256)));
    assert_eq!(KeyType::Int8.from_binary(&[0xff; 8]), Ok(KeyValue::Int(-1)));
    assert_eq!(KeyType::Int8.from_binary(&[0, 0, 0, 1]), Err(KeyError::Malformed));
    assert_eq!(KeyType::Int4.from_binary(&[]), Err(KeyError::Malformed));
}

#[test]
fn datums_are_machine_words_and_varlenas() {
    assert_eq!(
        KeyType::Int4.from_datum(&[5, 0, 0, 0, 0, 0, 0, 0]),
        Ok(KeyValue::Int(5))
    );
    assert_eq!(KeyType::Int4.from_datum(&[255; 8]), Ok(KeyValue::Int(-1)));
    assert_eq!(
        KeyType::Int4.from_datum(&[255, 255, 255, 255, 0, 0, 0, 0]),
        Ok(KeyValue::Int(-1))
    );
    assert_eq!(
        KeyType::Int8.from_datum(&[255, 255, 255, 255, 0, 0, 0, 0]),
        Ok(KeyValue::Int(0xffff_ffff))
    );
    let text = |s: &str| Ok(KeyValue::Text(s.as_bytes().into()));
    assert_eq!(
        KeyType::Text.from_datum(&[28, 0, 0, 0, b'a', b'b', b'c']),
        text("abc")
    );
    assert_eq!(KeyType::Text.from_datum(&[9, b'a', b'b', b'c']), text("abc"));
    assert_eq!(KeyType::Text.from_datum(&[16, 0, 0, 0]), text(""));
    assert_eq!(KeyType::Text.from_datum(&[3]), text(""));
    assert_eq!(KeyType::Bpchar.from_datum(&[24, 0, 0, 0, b'a', b' ']), text("a"));
    assert_eq!(
        KeyType::Text.from_datum(&[30, 0, 0, 0, 1, 1, 1]),
        Err(KeyError::NotCanonical)
    );
    assert_eq!(KeyType::Text.from_datum(&[1, 18]), Err(KeyError::NotCanonical));
    for broken in [
        &[][..],
        &[28, 0, 0][..],
        &[28, 0, 0, 0, b'a'][..],
        &[0, 0, 0, 0][..],
        &[9, b'a'][..],
    ] {
        assert_eq!(
            KeyType::Text.from_datum(broken),
            Err(KeyError::Malformed),
            "{broken:?}"
        );
    }
}

#[test]
fn coercion_stays_in_the_family() {
    assert_eq!(
        KeyType::Int2.coerce(&KeyValue::Int(70_000)),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(KeyType::Int2.coerce(&KeyValue::Int(7)), Ok(KeyValue::Int(7)));
    assert_eq!(KeyType::Text.coerce(&KeyValue::Int(7)), Err(KeyError::Malformed));
    assert_eq!(KeyType::Uuid.coerce(&KeyValue::Null), Ok(KeyValue::Null));
    let blank = KeyValue::Text(b"x ".as_slice().into());
    assert_eq!(
        KeyType::Bpchar.coerce(&blank),
        Ok(KeyValue::Text(b"x".as_slice().into()))
    );
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_printed_integer_is_canonical(value: i64) {
            prop_assert_eq!(KeyType::Int8.from_text(value.to_string().as_bytes()), Ok(KeyValue::Int(value)));
            prop_assert_eq!(KeyType::Int8.from_binary(&value.to_be_bytes()), Ok(KeyValue::Int(value)));
            prop_assert_eq!(KeyType::Int8.from_datum(&value.to_le_bytes()), Ok(KeyValue::Int(value)));
        }

        #[test]
        fn accepted_integers_print_as_they_came(text in "[-+ 0-9]{0,21}") {
            if let Ok(KeyValue::Int(value)) = KeyType::Int8.from_text(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            use KeyType::*;
            for key_type in [Int2, Int4, Int8, Text, Varchar, Bpchar, Uuid] {
                let _ = key_type.from_text(&bytes);
                let _ = key_type.from_binary(&bytes);
                let _ = key_type.from_datum(&bytes);
            }
        }
    }
}

#[test]
fn modifiers_round_as_the_server_does() {
    let check = |key_type: KeyType, modifier: i32, from: &str, expect: Result<&str, KeyError>| {
        let step = KeyStep::of_modifier(key_type, modifier).unwrap();
        let given = key_type.from_text(from.as_bytes()).unwrap();
        let expect = expect.map(|text| key_type.from_text(text.as_bytes()).unwrap());
        assert_eq!(step.apply(given), expect, "{from} as {step:?}");
    };
    // atttypmod of numeric(precision, scale).
    let numeric = |precision: i32, scale: i32| (precision << 16 | (scale & 0x7ff)) + 4;
    for (precision, scale, from, expect) in [
        (10, 2, "1.005", Ok("1.01")),
        (10, 2, "-1.005", Ok("-1.01")),
        (10, 2, "1.00499", Ok("1")),
        (10, 2, "0.004", Ok("0")),
        (10, 2, "-0.004", Ok("0")),
        (10, 2, "9.999", Ok("10")),
        (10, 2, "99999.995", Ok("100000")),
        (3, 2, "9.994", Ok("9.99")),
        (3, 2, "9.995", Err(KeyError::OutOfRange)),
        (5, -2, "12345", Ok("12300")),
        (5, -2, "50", Ok("100")),
        (5, -2, "49.9", Ok("0")),
        (1, -3, "499", Ok("0")),
        (1, -3, "9500", Err(KeyError::OutOfRange)),
        (2, 5, "0.00012", Ok("0.00012")),
        (2, 5, "0.001", Err(KeyError::OutOfRange)),
        (10, 2, "NaN", Ok("NaN")),
        (10, 2, "Infinity", Err(KeyError::OutOfRange)),
        (
            1000,
            0,
            "123456789012345678901234567890.5",
            Ok("123456789012345678901234567891"),
        ),
    ] {
        check(KeyType::Numeric, numeric(precision, scale), from, expect);
    }
    for (digits, from, expect) in [
        (0, "2020-01-01 10:00:00.5", "2020-01-01 10:00:01"),
        (0, "1990-01-01 10:00:00.5", "1990-01-01 10:00:00"),
        (0, "1990-01-01 10:00:00.500001", "1990-01-01 10:00:01"),
        (3, "2020-01-01 10:00:00.0005", "2020-01-01 10:00:00.001"),
        (5, "2020-01-01 10:00:00.000004", "2020-01-01 10:00:00"),
        (6, "2020-01-01 10:00:00.000004", "2020-01-01 10:00:00.000004"),
        (0, "infinity", "infinity"),
        (0, "2020-01-01T23:59:59.7Z", "2020-01-02 00:00:00"),
    ] {
        check(KeyType::Timestamp, digits, from, Ok(expect));
    }
    check(KeyType::Varchar, 7, "äbc", Ok("äbc"));
    check(KeyType::Varchar, 7, "äbcd", Err(KeyError::NotCanonical));
    assert_eq!(KeyStep::of_modifier(KeyType::Numeric, -1), None);
    assert_eq!(KeyStep::of_modifier(KeyType::Int4, 4), None);
}

#[test]
fn casts_between_numbers_round_once() {
    let cast = |target: KeyType, from: KeyValue| KeyStep::To(target).apply(from);
    let float = |value: f64| KeyValue::Float(value.to_bits());
    assert_eq!(
        cast(KeyType::Numeric, KeyValue::Int(-5)),
        KeyType::Numeric.from_text(b"-5")
    );
    assert_eq!(
        cast(KeyType::Float8, KeyValue::Int(9_007_199_254_740_993)),
        Ok(float(9_007_199_254_740_992.0))
    );
    assert_eq!(
        cast(KeyType::Float4, KeyValue::Int(16_777_217)),
        Ok(float(16_777_216.0))
    );
    assert_eq!(cast(KeyType::Float4, float(0.1)), Ok(float(f64::from(0.1_f32))));
    assert_eq!(cast(KeyType::Float4, float(1e300)), Err(KeyError::OutOfRange));
    assert_eq!(cast(KeyType::Float4, float(1e-300)), Err(KeyError::OutOfRange));
    let tenth = KeyType::Numeric.from_text(b"0.1").unwrap();
    assert_eq!(cast(KeyType::Float8, tenth), Ok(float(0.1)));
    assert_eq!(
        cast(KeyType::Int4, KeyValue::Text(b"5"[..].into())),
        Err(KeyError::Malformed)
    );
}
