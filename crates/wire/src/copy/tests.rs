use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('x').unwrap();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// All rows but the header, cut from chunks of this size.
fn rows(options: &CopyOptions, data: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, CopyError> {
    let mut splitter = Splitter::new(options);
    let mut rows = Vec::new();
    for part in data.chunks(chunk) {
        splitter.feed(part);
        take(&mut splitter, &mut rows)?;
    }
    splitter.finish();
    take(&mut splitter, &mut rows)?;
    assert_eq!(splitter.next_row()?, None);
    assert_eq!(splitter.buffered_bytes(), 0);
    Ok(rows)
}

fn take(splitter: &mut Splitter, rows: &mut Vec<Vec<u8>>) -> Result<(), CopyError> {
    while let Some(row) = splitter.next_row()? {
        if !row.header {
            rows.push(row.bytes.to_vec());
        }
    }
    Ok(())
}

/// Rows as the recording prints them.
fn printed(options: &CopyOptions, data: &[u8], chunk: usize, columns: usize) -> Result<String, CopyError> {
    let mut out = String::from("rows");
    for row in rows(options, data, chunk)? {
        for index in 0..columns {
            out.push(if index == 0 { ' ' } else { ',' });
            match field(options, FieldRules::default(), &row, index)? {
                Some(Field::Null) => out.push('-'),
                Some(Field::Value(value)) => {
                    out.push('x');
                    value.iter().for_each(|b| out.push_str(&format!("{b:02x}")));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(field(options, FieldRules::default(), &row, columns)?, None);
    }
    Ok(out)
}

#[test]
fn does_what_postgresql_did() {
    replay(15, include_str!("tests/postgresql15.txt"));
    replay(18, include_str!("tests/postgresql18.txt"));
}

fn replay(major: u16, recording: &str) {
    let mut cases = 0;
    for line in recording.lines().filter(|line| !line.starts_with('#')) {
        let (case, expect) = line.split_once(": ").unwrap();
        let [format, header, columns, data] = case.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut options = if format == "text" {
            CopyOptions::text(major)
        } else {
            CopyOptions::csv(major)
        };
        if format == "csv-escape" {
            options.format = CopyFormat::Csv {
                delimiter: b',',
                quote: b'"',
                escape: b'\\',
            };
        }
        options.header = header == "header";
        let data = bytes(data);
        for chunk in [1, 2, 3, 7, usize::MAX] {
            let found = printed(&options, &data, chunk, columns.parse().unwrap());
            let found = found.unwrap_or_else(|error| format!("error {error}"));
            assert_eq!(found, expect, "{case} in chunks of {chunk}");
        }
        cases += 1;
    }
    assert!(cases > 400);
}

#[test]
fn end_markers_changed_in_18() {
    let csv = |major| rows(&CopyOptions::csv(major), b"a\n\\.\nb\n", 1);
    assert_eq!(csv(17).unwrap(), [b"a"]);
    assert_eq!(csv(18).unwrap(), [&b"a"[..], b"\\.", b"b"]);
    let text = |major| rows(&CopyOptions::text(major), b"a\\.\nb\n", 1);
    assert_eq!(text(17).unwrap(), [b"a"]);
    assert_eq!(text(18), Err(CopyError::MarkerNotAlone));
    // Sent on with a line end this value would end the stream.
    assert_eq!(
        rows(&CopyOptions::csv(17), b"a\n\\.", 1),
        Err(CopyError::MarkerAsData)
    );
    assert_eq!(
        rows(&CopyOptions::csv(18), b"a\n\\.", 1).unwrap(),
        [&b"a"[..], b"\\."]
    );
}

#[test]
fn null_default_and_forced_fields() {
    let value = |text: &'static str| Some(Field::Value(text.as_bytes().into()));
    let mut options = CopyOptions::csv(16);
    options.null = b"nil".to_vec();
    options.default = Some(b"\\D".to_vec());
    let check = |rules: FieldRules, index, expect: Option<Field<'_>>| {
        let found = field(&options, rules, b"nil,\"nil\",\\D,\"\\D\",,x", index).unwrap();
        assert_eq!(found, expect, "{index} {rules:?}");
    };
    let plain = FieldRules::default();
    let not_null = FieldRules {
        force_not_null: true,
        ..plain
    };
    let null = FieldRules {
        force_null: true,
        ..plain
    };
    check(plain, 0, Some(Field::Null));
    check(not_null, 0, value("nil"));
    check(plain, 1, value("nil"));
    check(null, 1, Some(Field::Null));
    check(plain, 2, Some(Field::Default));
    check(plain, 3, value("\\D"));
    check(plain, 4, value(""));
    check(plain, 5, value("x"));
    check(plain, 6, None);

    let mut options = CopyOptions::text(16);
    options.format = CopyFormat::Text { delimiter: b'|' };
    options.default = Some(b"\\D".to_vec());
    let text = |index| field(&options, plain, b"a\\|b|\\D|\\N|\\\\N", index).unwrap();
    assert_eq!(text(0), value("a|b"));
    assert_eq!(text(1), Some(Field::Default));
    assert_eq!(text(2), Some(Field::Null));
    assert_eq!(text(3), value("\\N"));
    assert_eq!(text(4), None);
}

fn binary(extension: &[u8], tuples: &[&[Option<&[u8]>]], trailer: bool) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut stream = HEADER_WITHOUT_EXTENSION.to_vec();
    stream.extend_from_slice(&(extension.len() as i32).to_be_bytes());
    stream.extend_from_slice(extension);
    let mut rows = Vec::new();
    for tuple in tuples {
        let mut row = (tuple.len() as u16).to_be_bytes().to_vec();
        for value in *tuple {
            row.extend_from_slice(&value.map_or(-1, |v| v.len() as i32).to_be_bytes());
            row.extend_from_slice(value.unwrap_or_default());
        }
        stream.extend_from_slice(&row);
        rows.push(row);
    }
    if trailer {
        stream.extend_from_slice(binary::TRAILER);
    }
    (stream, rows)
}

const HEADER_WITHOUT_EXTENSION: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0";

#[test]
fn binary_streams_are_cut_into_tuples() {
    let options = CopyOptions::binary(15);
    let tuples: &[&[Option<&[u8]>]] = &[&[Some(b"ab"), None, Some(b"")], &[], &[Some(&[0xff; 300])]];
    for (extension, trailer) in [(&b""[..], true), (b"extra", true), (b"", false)] {
        let (stream, expect) = binary(extension, tuples, trailer);
        for chunk in [1, 2, 3, 10, usize::MAX] {
            assert_eq!(rows(&options, &stream, chunk).unwrap(), expect);
        }
        let value = |index| field(&options, FieldRules::default(), &expect[0], index).unwrap();
        assert_eq!(value(0), Some(Field::Value(b"ab"[..].into())));
        assert_eq!(value(1), Some(Field::Null));
        assert_eq!(value(2), Some(Field::Value(b""[..].into())));
        assert_eq!(value(3), None);
    }
    let (stream, _) = binary(b"", &[], true);
    assert_eq!(stream, [binary::HEADER, binary::TRAILER].concat());
}

#[test]
fn broken_binary_streams_are_refused() {
    let options = CopyOptions {
        row_max: 1000,
        ..CopyOptions::binary(15)
    };
    let check = |parts: &[&[u8]], expect: CopyError| {
        for chunk in [1, 3, usize::MAX] {
            assert_eq!(rows(&options, &parts.concat(), chunk), Err(expect), "{parts:?}");
        }
    };
    check(&[b"1\t2\n"], CopyError::BadSignature);
    check(&[b""], CopyError::BadSignature);
    check(&[&binary::HEADER[..13]], CopyError::BadHeader);
    check(
        &[HEADER_WITHOUT_EXTENSION, b"\xff\xff\xff\xff"],
        CopyError::BadHeader,
    );
    check(
        &[HEADER_WITHOUT_EXTENSION, b"\0\0\0\x05abc"],
        CopyError::BadHeader,
    );
    check(&[b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0"], CopyError::WithOids);
    check(
        &[b"PGCOPY\n\xff\r\n\0\0\x02\0\0\0\0\0\0"],
        CopyError::CriticalFlags,
    );
    check(&[binary::HEADER, b"\xff\xfe"], CopyError::FieldCount(-2));
    check(&[binary::HEADER, b"\0\x01\xff\xff\xff\xfe"], CopyError::FieldSize);
    check(&[binary::HEADER, b"\0\x01\0\0\0\x02a"], CopyError::UnexpectedEnd);
    check(&[binary::HEADER, b"\0\x01\0\0"], CopyError::UnexpectedEnd);
    check(
        &[binary::HEADER, b"\0\x01\x7f\xff\xff\xff"],
        CopyError::RowTooLong { limit: 1000 },
    );
    check(&[binary::HEADER, binary::TRAILER, b"x"], CopyError::AfterTrailer);
}

#[test]
fn long_rows_are_refused_before_they_are_complete() {
    for mut options in [CopyOptions::text(15), CopyOptions::csv(15)] {
        options.row_max = 10;
        assert_eq!(rows(&options, b"0123456789\n", 1).unwrap().len(), 1);
        let mut splitter = Splitter::new(&options);
        splitter.feed(b"\"123456789x");
        assert_eq!(splitter.next_row(), Err(CopyError::RowTooLong { limit: 10 }));
        for chunk in [1, 100] {
            let error = Err(CopyError::RowTooLong { limit: 10 });
            assert_eq!(rows(&options, b"01234567890\n", chunk), error);
        }
    }
}

#[test]
fn what_follows_the_end_marker_is_not_kept() {
    let mut splitter = Splitter::new(&CopyOptions::text(15));
    splitter.feed(b"a\n\\.\nrest");
    assert!(splitter.next_row().unwrap().is_some());
    assert!(splitter.next_row().unwrap().is_none());
    splitter.feed(&[b'x'; 1000]);
    assert_eq!(splitter.buffered_bytes(), 0);
}

/// Bytes that mean something, with a few that do not.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"\n"[..],
        b"\r",
        b"\r\n",
        b"\\",
        b"\\.",
        b"\\.\n",
        b"\"",
        b"\"\"",
        b",",
        b"\t",
        b"a",
        b"\xc3\xa9",
        b"\0",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn any_options() -> impl Strategy<Value = CopyOptions> {
    (0..4, prop::sample::select(vec![15, 18]), any::<bool>()).prop_map(|(kind, major, header)| {
        let mut options = match kind {
            0 => CopyOptions::text(major),
            3 => CopyOptions::binary(major),
            _ => CopyOptions::csv(major),
        };
        if kind == 2 {
            options.format = CopyFormat::Csv {
                delimiter: b',',
                quote: b'"',
                escape: b'\\',
            };
        }
        CopyOptions {
            header,
            row_max: 60,
            ..options
        }
    })
}

proptest! {
    /// Also: no byte string makes it panic, and fields can be read from every row.
    #[test]
    fn chunks_do_not_matter(options in any_options(), data in stream(), chunk in 1usize..8) {
        let whole = rows(&options, &data, usize::MAX);
        prop_assert_eq!(&whole, &rows(&options, &data, chunk));
        for row in whole.iter().flatten() {
            for index in 0..3 {
                let _ = field(&options, FieldRules::default(), row, index);
            }
        }
    }

    /// Rows sent on with a newline each are the same rows again.
    #[test]
    fn forwarding_preserves_rows(options in any_options(), data in stream()) {
        if options.format != CopyFormat::Binary && let Ok(first) = rows(&options, &data, usize::MAX) {
            let mut again: Vec<u8> = if options.header { b"header\n".to_vec() } else { Vec::new() };
            for row in &first {
                again.extend_from_slice(row);
                again.push(b'\n');
            }
            prop_assert_eq!(rows(&options, &again, 3).unwrap(), first);
        }
    }
}
