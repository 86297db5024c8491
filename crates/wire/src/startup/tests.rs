use super::*;

fn session(params: &[(&str, &str)]) -> BytesMut {
    let mut buf = BytesMut::new();
    encode::session(&mut buf, ProtocolVersion::V3_0, params.iter().copied()).unwrap();
    buf
}

/// A packet with this code and body.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    [
        &(body.len() as u32 + 8).to_be_bytes()[..],
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

fn check_error(packet: &[u8], expect: StartupError) {
    assert_eq!(decode(packet), Err(expect));
}

#[test]
fn a_session_keeps_order_and_text_of_parameters() {
    let params = [
        ("user", "ärger"),
        ("database", "app"),
        ("options", "-c a=b"),
        ("_pq_.x", "1"),
    ];
    let buf = session(&params);
    assert_eq!(peek(&buf), Ok(Some(buf.len())));
    let Ok(Startup::Session(message)) = decode(&buf) else {
        panic!()
    };
    assert_eq!(message.params, params);
    assert_eq!(message.get("database"), Some("app"));
    assert_eq!(message.get("datestyle"), None);
    assert!(message.protocol_options().eq(["_pq_.x"]));
    assert!(message.must_negotiate(ProtocolVersion::V3_2));
}

#[test]
fn newer_minor_versions_are_negotiated() {
    let code = ProtocolVersion { major: 3, minor: 9 }.code();
    let packet = packet(code, b"user\0u\0\0");
    let Ok(Startup::Session(message)) = decode(&packet) else {
        panic!()
    };
    assert!(message.must_negotiate(ProtocolVersion::V3_2));
    assert!(!message.must_negotiate(message.version));
}

#[test]
fn requests_without_a_session() {
    let mut buf = BytesMut::new();
    encode::ssl_request(&mut buf);
    assert_eq!(decode(&buf.split()), Ok(Startup::SslRequest));
    encode::gssenc_request(&mut buf);
    assert_eq!(decode(&buf.split()), Ok(Startup::GssEncRequest));
    for len in [4, 32, 256] {
        let key = vec![7; len];
        encode::cancel(&mut buf, 42, &key).unwrap();
        assert_eq!(decode(&buf.split()), Ok(Startup::Cancel { pid: 42, key: &key }));
    }
    assert!(encode::cancel(&mut buf, 42, &[7; 257]).is_err());
    check_error(
        &packet(CANCEL_CODE, b"\0\0\0\x01abc"),
        StartupError::BadLayout("cancel key length"),
    );
    let with_body = StartupError::BadLayout("encryption request with a body");
    check_error(&packet(SSL_CODE, b"x"), with_body);
}

#[test]
fn malformed_sessions_are_refused() {
    let v3 = ProtocolVersion::V3_0.code();
    let unterminated = StartupError::BadLayout("expected terminator as last byte");
    check_error(&packet(v3, b"user\0u\0"), unterminated.clone());
    check_error(&packet(v3, b"user\0u"), unterminated.clone());
    check_error(&packet(v3, b"user\0u\0\0x"), unterminated);
    check_error(
        &packet(v3, b"user\0\xff\0\0"),
        StartupError::BadLayout("text is not UTF-8"),
    );
    check_error(
        &packet(v3, b"user\0a\0user\0b\0\0"),
        StartupError::Duplicate("user".into()),
    );
    check_error(&packet(v3, b"\0"), StartupError::NoUser);
    check_error(&packet(v3, b"user\0\0\0"), StartupError::NoUser);
    let version = ProtocolVersion { major: 2, minor: 0 };
    check_error(
        &packet(version.code(), b"anything"),
        StartupError::UnsupportedVersion(version),
    );
    let text = StartupError::UnsupportedVersion(version).to_string();
    assert_eq!(
        text,
        "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"
    );
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(peek(b"\0\0\0"), Ok(None));
    assert_eq!(peek(b"\0\0\0\x07"), Err(StartupError::BadLength(7)));
    assert_eq!(
        peek(&10_001u32.to_be_bytes()),
        Err(StartupError::BadLength(10_001))
    );
    assert_eq!(peek(&10_000u32.to_be_bytes()), Ok(Some(10_000)));
    assert_eq!(peek(b"GET / HTTP/1.1"), Err(StartupError::BadLength(0x4745_5420)));
    let mut body = b"user\0u\0".to_vec();
    for at in 0..PARAMS_MAX {
        body.extend_from_slice(format!("p{at}\0\0").as_bytes());
    }
    body.push(0);
    check_error(
        &packet(ProtocolVersion::V3_0.code(), &body),
        StartupError::TooMany,
    );
    let mut buf = BytesMut::from(&b"before"[..]);
    let long = "x".repeat(PACKET_MAX);
    assert!(encode::session(&mut buf, ProtocolVersion::V3_0, [("user", &long[..])]).is_err());
    assert_eq!(&buf[..], b"before");
}
