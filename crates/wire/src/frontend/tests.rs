use super::*;
use crate::EncodeError;
use crate::frame::Frames;
use bytes::BytesMut;
use proptest::prelude::*;

fn check(bytes: &[u8], expect: Result<Frontend<'_>, DecodeError>) {
    let message = Message::whole(bytes).unwrap();
    assert_eq!(Frontend::decode(message), expect);
    if let Ok(decoded) = expect {
        let mut again = BytesMut::new();
        encode::any(&mut again, &decoded).unwrap();
        assert_eq!(&again[..], bytes);
    }
}

#[test]
fn fixed_messages() {
    check(b"Q\0\0\0\x0dSELECT 1\0", Ok(Frontend::Query { sql: b"SELECT 1" }));
    check(b"S\0\0\0\x04", Ok(Frontend::Sync));
    check(b"H\0\0\0\x04", Ok(Frontend::Flush));
    check(b"X\0\0\0\x04", Ok(Frontend::Terminate));
    check(b"c\0\0\0\x04", Ok(Frontend::CopyDone));
    check(b"d\0\0\0\x06ab", Ok(Frontend::CopyData(b"ab")));
    check(b"f\0\0\0\x07no\0", Ok(Frontend::CopyFail { reason: b"no" }));
    check(b"p\0\0\0\x06x\0", Ok(Frontend::Password(b"x\0")));
    check(
        b"D\0\0\0\x07Ss\0",
        Ok(Frontend::Describe {
            target: Target::Statement,
            name: b"s",
        }),
    );
    check(
        b"C\0\0\0\x06P\0",
        Ok(Frontend::Close {
            target: Target::Portal,
            name: b"",
        }),
    );
    check(
        b"E\0\0\0\x0ap\0\0\0\0\x05",
        Ok(Frontend::Execute {
            portal: b"p",
            max_rows: 5,
        }),
    );
}

#[test]
fn malformed_messages() {
    check(b"Q\0\0\0\x0cSELECT 1", Err(DecodeError::Unterminated));
    check(b"Q\0\0\0\x06\0x", Err(DecodeError::Trailing(1)));
    check(b"S\0\0\0\x05x", Err(DecodeError::Trailing(1)));
    check(b"?\0\0\0\x04", Err(DecodeError::UnknownTag(b'?')));
    check(
        b"D\0\0\0\x06X\0",
        Err(DecodeError::BadValue {
            what: "target",
            value: 88,
        }),
    );
    check(b"E\0\0\0\x07\0\0\0", Err(DecodeError::Truncated));
    // Bind: one parameter of -2 bytes; 65535 parameters that are not there.
    check(
        b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        Err(DecodeError::BadLength(-2)),
    );
    check(b"B\0\0\0\x0a\0\0\0\0\xff\xff", Err(DecodeError::Truncated));
    check(
        b"B\0\0\0\x10\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0",
        Err(DecodeError::Truncated),
    );
}

#[test]
fn bind_gives_parameters_and_formats() {
    let mut buf = BytesMut::new();
    let formats = [FormatCode::Text, FormatCode::Binary];
    let params: [Option<&[u8]>; 2] = [None, Some(b"\0\0\0\x01")];
    encode::bind(&mut buf, b"p", b"s", formats, params, [FormatCode::Binary]).unwrap();
    let Ok(Frontend::Bind(bind)) = Frontend::decode(Message::whole(&buf).unwrap()) else {
        panic!()
    };
    assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
    assert_eq!(bind.param(0), Some(None));
    assert_eq!(bind.param(1), Some(Some(&b"\0\0\0\x01"[..])));
    assert_eq!(bind.param(2), None);
    assert_eq!(
        [bind.format(0), bind.format(1), bind.format(2)],
        [Some(formats[0]), Some(formats[1]), None]
    );
    assert_eq!(bind.result_formats.get(99), Some(FormatCode::Binary));
    assert!(bind.formats_agree());
}

#[test]
fn encoders_leave_the_buffer_alone_when_they_fail() {
    let mut buf = BytesMut::from(&b"before"[..]);
    assert_eq!(encode::query(&mut buf, b"a\0b"), Err(EncodeError::ZeroByte));
    let many = vec![FormatCode::Text; 65536];
    let bind = encode::bind(&mut buf, b"", b"", many, [], []);
    assert_eq!(bind, Err(EncodeError::TooMany(65536)));
    let sync = Message::whole(b"S\0\0\0\x04").unwrap();
    assert!(rename::parse(&mut buf, sync, b"x").is_err());
    assert_eq!(&buf[..], b"before");
    encode::parse(&mut buf, b"", b"", vec![1; 65535]).unwrap();
}

#[test]
fn sasl_and_password_bodies() {
    let mut buf = BytesMut::new();
    encode::sasl_initial(&mut buf, b"SCRAM-SHA-256", Some(b"n,,")).unwrap();
    encode::sasl_initial(&mut buf, b"X", None).unwrap();
    encode::password(&mut buf, b"secret").unwrap();
    let bodies: Vec<&[u8]> = Frames::new(&buf, 100).map(|m| m.unwrap().body()).collect();
    let first = SaslInitial {
        mechanism: b"SCRAM-SHA-256",
        response: Some(b"n,,"),
    };
    assert_eq!(SaslInitial::decode(bodies[0]), Ok(first));
    assert_eq!(
        SaslInitial::decode(bodies[1]),
        Ok(SaslInitial {
            mechanism: b"X",
            response: None
        })
    );
    assert_eq!(password(bodies[2]), Ok(&b"secret"[..]));
    assert_eq!(password(b"secret"), Err(DecodeError::Unterminated));
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1u8..=255, 0..12)
}

fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..8)
}

fn formats() -> impl Strategy<Value = Vec<FormatCode>> {
    prop::collection::vec(any::<i16>().prop_map(FormatCode::from_code), 0..5)
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        names in (name(), name()),
        params in values(),
        (first, second) in (formats(), formats()),
        types in prop::collection::vec(any::<u32>(), 0..6),
        max_rows in any::<i32>(),
    ) {
        let (a, b) = (&names.0[..], &names.1[..]);
        let mut buf = BytesMut::new();
        encode::parse(&mut buf, a, b, types.iter().copied()).unwrap();
        let slices = params.iter().map(|v| v.as_deref());
        encode::bind(&mut buf, a, b, first.iter().copied(), slices, second.iter().copied()).unwrap();
        encode::execute(&mut buf, a, max_rows).unwrap();
        encode::describe(&mut buf, Target::Portal, b).unwrap();
        let messages: Vec<_> = Frames::new(&buf, 1 << 20).map(|m| Frontend::decode(m.unwrap()).unwrap()).collect();
        let Frontend::Parse(parse) = messages[0] else { panic!() };
        prop_assert_eq!((parse.name, parse.sql), (a, b));
        prop_assert!(parse.types.iter().eq(types.iter().copied()));
        prop_assert_eq!(parse.types.get(types.len()), None);
        let Frontend::Bind(bind) = messages[1] else { panic!() };
        prop_assert_eq!((bind.portal, bind.statement), (a, b));
        prop_assert!(bind.params.iter().eq(params.iter().map(|v| v.as_deref())));
        prop_assert!(bind.formats.iter().eq(first));
        prop_assert!(bind.result_formats.iter().eq(second));
        prop_assert_eq!(messages[2], Frontend::Execute { portal: a, max_rows });
        prop_assert_eq!(messages[3], Frontend::Describe { target: Target::Portal, name: b });
    }

    #[test]
    fn renaming_is_encoding_with_the_new_name(old in name(), new in name(), params in values(), sql in name()) {
        let params = || params.iter().map(|v| v.as_deref());
        let (mut before, mut expect, mut found) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        for (buf, name) in [(&mut before, &old), (&mut expect, &new)] {
            encode::parse(buf, name, &sql, [20, 0]).unwrap();
            encode::bind(buf, b"portal", name, [FormatCode::Binary], params(), []).unwrap();
            encode::describe(buf, Target::Statement, name).unwrap();
            encode::close(buf, Target::Statement, name).unwrap();
            encode::execute(buf, name, 7).unwrap();
        }
        for message in Frames::new(&before, 1 << 20).map(Result::unwrap) {
            match message.tag {
                tag::PARSE => rename::parse(&mut found, message, &new),
                tag::BIND => rename::bind(&mut found, message, None, &new),
                tag::DESCRIBE => rename::describe(&mut found, message, &new),
                tag::CLOSE => rename::close(&mut found, message, &new),
                _ => rename::execute(&mut found, message, &new),
            }.unwrap();
        }
        prop_assert_eq!(found, expect);
    }
}
