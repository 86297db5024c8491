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
