use super::*;
use crate::frame::Frames;
use crate::{CommandTag, TransactionStatus};
use bytes::BytesMut;
use proptest::prelude::*;

fn one(buf: &[u8]) -> Backend<'_> {
    Backend::decode(Message::whole(buf).unwrap()).unwrap()
}

fn check_error(bytes: &[u8], expect: DecodeError) {
    assert_eq!(Backend::decode(Message::whole(bytes).unwrap()), Err(expect));
}

#[test]
fn messages_without_variable_parts() {
    let mut buf = BytesMut::new();
    encode::parse_complete(&mut buf);
    encode::bind_complete(&mut buf);
    encode::close_complete(&mut buf);
    encode::no_data(&mut buf);
    encode::portal_suspended(&mut buf);
    encode::empty_query(&mut buf);
    encode::copy_done(&mut buf);
    encode::authentication_ok(&mut buf);
    encode::ready_for_query(&mut buf, TransactionStatus::Failed);
    let found: Vec<_> = Frames::new(&buf, 100)
        .map(|m| Backend::decode(m.unwrap()).unwrap())
        .collect();
    let expect = [
        Backend::ParseComplete,
        Backend::BindComplete,
        Backend::CloseComplete,
        Backend::NoData,
        Backend::PortalSuspended,
        Backend::EmptyQuery,
        Backend::CopyDone,
        Backend::Authentication(Authentication::Ok),
        Backend::ReadyForQuery(TransactionStatus::Failed),
    ];
    assert_eq!(found, expect);
}

#[test]
fn authentication_requests() {
    let mut buf = BytesMut::new();
    encode::authentication_sasl(&mut buf, &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]).unwrap();
    let Backend::Authentication(request) = one(&buf) else {
        panic!()
    };
    assert!(
        request
            .mechanisms()
            .eq([&b"SCRAM-SHA-256-PLUS"[..], b"SCRAM-SHA-256"])
    );
    buf.clear();
    encode::authentication_md5(&mut buf, [1, 2, 3, 4]);
    assert_eq!(
        one(&buf),
        Backend::Authentication(Authentication::Md5Password { salt: [1, 2, 3, 4] })
    );
    let gss = Backend::Authentication(Authentication::Unsupported { method: 7 });
    assert_eq!(one(b"R\0\0\0\x08\0\0\0\x07"), gss);
    check_error(b"R\0\0\0\x0a\0\0\0\x0aA\0", DecodeError::Unterminated);
}

#[test]
fn malformed_messages() {
    check_error(
        b"Z\0\0\0\x05X",
        DecodeError::BadValue {
            what: "transaction status",
            value: 88,
        },
    );
    check_error(b"K\0\0\0\x0b\0\0\0\x01abc", DecodeError::BadLength(3));
    check_error(b"D\0\0\0\x06\0\x01", DecodeError::Truncated);
    check_error(b"D\0\0\0\x07\0\0x", DecodeError::Trailing(1));
    check_error(b"T\0\0\0\x08\0\x01a\0", DecodeError::Truncated);
    check_error(b"E\0\0\0\x07SE\0", DecodeError::Truncated);
    check_error(
        b"v\0\0\0\x0c\0\x03\0\0\xff\xff\xff\xff",
        DecodeError::Unterminated,
    );
    check_error(b"?\0\0\0\x04", DecodeError::UnknownTag(b'?'));
}

#[test]
fn errors_keep_what_servers_say() {
    let mut buf = BytesMut::new();
    let mut error = ErrorFields::error("42P01", "relation \"t\" does not exist")
        .with_detail("d")
        .with_hint("h")
        .with_position(15);
    error.other.push((field::SEVERITY, "FEHLER".into()));
    error.other.push((field::ROUTINE, "parserOpenTable".into()));
    encode::error(&mut buf, &error);
    let Backend::Error(fields) = one(&buf) else {
        panic!()
    };
    assert_eq!(fields.code(), b"42P01");
    assert_eq!(fields.get(field::SEVERITY), Some(&b"FEHLER"[..]));
    assert_eq!(fields.get(field::SEVERITY_RAW), Some(&b"ERROR"[..]));
    assert_eq!(fields.get(field::POSITION), Some(&b"15"[..]));
    assert_eq!(fields.to_owned(), error);
    assert_eq!(error.get(field::ROUTINE), Some("parserOpenTable"));
}

#[test]
fn errors_can_always_be_sent() {
    let mut buf = BytesMut::new();
    let mut fields =
        ErrorFields::fatal("XX000", "cut here\0not sent").with_detail("ä".repeat(encode::FIELD_MAX));
    fields.other = vec![(field::WHERE, "x".into()); 1000];
    fields.other.push((0, "would end the message".into()));
    encode::error(&mut buf, &fields);
    let Backend::Error(sent) = one(&buf) else { panic!() };
    assert_eq!(sent.get(field::MESSAGE), Some(&b"cut here"[..]));
    assert_eq!(sent.get(field::DETAIL).unwrap().len(), encode::FIELD_MAX);
    assert!(sent.iter().count() < 50);
}

#[test]
fn keys_notifications_and_settings() {
    let mut buf = BytesMut::new();
    for len in [4, 32, 256] {
        let key = vec![1; len];
        encode::backend_key_data(&mut buf, 7, &key).unwrap();
        assert_eq!(one(&buf.split()), Backend::BackendKeyData { pid: 7, key: &key });
    }
    assert!(encode::backend_key_data(&mut buf, 7, &[1; 3]).is_err());
    encode::parameter_status(&mut buf, b"TimeZone", b"UTC").unwrap();
    assert_eq!(
        one(&buf.split()),
        Backend::ParameterStatus {
            name: b"TimeZone",
            value: b"UTC"
        }
    );
    encode::notification(&mut buf, 7, b"c", b"p").unwrap();
    assert_eq!(
        one(&buf.split()),
        Backend::Notification {
            pid: 7,
            channel: b"c",
            payload: b"p"
        }
    );
    encode::command_tag(
        &mut buf,
        CommandTag {
            verb: "INSERT",
            rows: Some(2),
        },
    )
    .unwrap();
    assert_eq!(one(&buf.split()), Backend::CommandComplete { tag: b"INSERT 0 2" });
    encode::negotiate_protocol_version(&mut buf, 196_610, [&b"_pq_.a"[..], b"_pq_.b"]).unwrap();
    let message = buf.split();
    let Backend::NegotiateProtocolVersion { version, options } = one(&message) else {
        panic!()
    };
    assert_eq!(version, 196_610);
    assert!(options.iter().eq([&b"_pq_.a"[..], b"_pq_.b"]));
}

#[test]
fn copy_responses() {
    let mut buf = BytesMut::new();
    let formats = [FormatCode::Binary; 3];
    encode::copy_in(&mut buf, FormatCode::Binary, formats).unwrap();
    assert_eq!(&buf[..], b"G\0\0\0\x0d\x01\0\x03\0\x01\0\x01\0\x01");
    let Backend::CopyIn(response) = one(&buf) else {
        panic!()
    };
    assert_eq!((response.format, response.columns.len()), (FormatCode::Binary, 3));
}

proptest! {
    #[test]
    fn rows_round_trip(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..8),
    ) {
        let mut buf = BytesMut::new();
        encode::data_row(&mut buf, values.iter().map(|v| v.as_deref())).unwrap();
        let Backend::DataRow(row) = one(&buf) else { panic!() };
        prop_assert_eq!(row.len(), values.len());
        prop_assert!(row.columns.iter().eq(values.iter().map(|v| v.as_deref())));
        for (at, range) in row.ranges().enumerate() {
            let bytes = range.map(|r| &buf[crate::frame::HEADER_LEN..][r]);
            prop_assert_eq!(bytes, values[at].as_deref());
            prop_assert_eq!(row.column(at), Some(values[at].as_deref()));
        }
    }

    #[test]
    fn row_descriptions_round_trip(
        columns in prop::collection::vec((prop::collection::vec(1u8..=255, 0..9), any::<(u32, i16, u32, i16, i32)>()), 0..5),
        types in prop::collection::vec(any::<u32>(), 0..6),
    ) {
        let columns: Vec<Column<'_>> = columns
            .iter()
            .map(|(name, (table_oid, attnum, type_oid, typlen, typmod))| Column {
                name,
                table_oid: *table_oid,
                attnum: *attnum,
                type_oid: *type_oid,
                typlen: *typlen,
                typmod: *typmod,
                format: FormatCode::Binary,
            })
            .collect();
        let mut buf = BytesMut::new();
        encode::row_description(&mut buf, columns.iter().copied()).unwrap();
        let Backend::RowDescription(found) = one(&buf) else { panic!() };
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), columns);
        buf.clear();
        encode::parameter_description(&mut buf, types.iter().copied()).unwrap();
        let Backend::ParameterDescription(found) = one(&buf) else { panic!() };
        prop_assert!(found.iter().eq(types));
    }
}
