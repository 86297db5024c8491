use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use testkit::TestPostgres;
use wire::frontend::encode;
use wire::startup::ProtocolVersion;

use super::*;

fn dialler(server: &TestPostgres) -> Dialler {
    let (info, node) = (server.info(), server.node());
    Dialler {
        address: Address {
            host: node.host.clone(),
            port: node.port,
        },
        startup: Startup {
            user: info.app_user.clone(),
            database: info.database.clone(),
            params: vec![("application_name".into(), "dial test".into())],
        },
        secret: Secret::Password(info.app_password.expose().to_owned()),
        protocol: ProtocolVersion::V3_0,
        tls: Default::default(),
        timeout: Duration::from_secs(5),
        prepared_statements: 10,
    }
}

/// Runs a simple query and returns everything up to ReadyForQuery.
async fn query(server: &mut ServerConn, sql: &str) -> Vec<u8> {
    encode::query(server.conn.out(), sql.as_bytes()).expect("encodable");
    let mut all = Vec::new();
    loop {
        assert!(server.conn.exchange().await.expect("reads") > 0);
        while let Some(message) = server.conn.message(1 << 24).expect("valid") {
            let (tag, len) = (message.tag, message.bytes.len());
            all.extend_from_slice(message.bytes);
            server.conn.consume(len);
            if tag == b'Z' {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn logs_in_and_runs_queries() {
    let mut server = dialler(TestPostgres::shared())
        .dial(Buffers::new())
        .await
        .expect("logs in");
    assert!(server.target.key.pid > 0 && server.is_quiet());
    assert_eq!(server.parameters.get("application_name"), Some("dial test"));
    assert_eq!(server.parameters.get("integer_datetimes"), Some("on"));
    let answer = query(&mut server, "SELECT 6 * 7").await;
    assert!(answer.windows(3).any(|bytes| bytes == b"\x0242"), "{answer:?}");
    let big = query(&mut server, "SELECT repeat('x', 3000000)").await;
    assert!(big.len() > 3_000_000);
    server.conn.give_up_buffers();
    assert!(!server.is_broken_hint(), "nothing came while idle");
    server.close();
}

#[tokio::test]
async fn logs_in_over_a_unix_socket() {
    let server = TestPostgres::shared();
    let mut dialler = dialler(server);
    dialler.address.host = server.node().socket_dir.to_string_lossy().into_owned();
    let mut server = dialler.dial(Buffers::new()).await.expect("logs in");
    assert!(query(&mut server, "SELECT 1").await.starts_with(b"T"));
}

#[tokio::test]
async fn refusals_keep_the_servers_words() {
    let mut dialler = dialler(TestPostgres::shared());
    dialler.secret = Secret::Password("wrong".into());
    let error = dialler.dial(Buffers::new()).await.expect_err("must fail");
    assert_eq!(error.sqlstate(), "28P01");
    dialler.secret = Secret::None;
    let error = dialler.dial(Buffers::new()).await.expect_err("must fail");
    assert_eq!(error.sqlstate(), "28000", "{error}");
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    dialler.address.port = free.local_addr().expect("bound").port();
    dialler.timeout = Duration::from_millis(50);
    let error = dialler.dial(Buffers::new()).await.expect_err("must fail");
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
    drop(free);
    let error = dialler.dial(Buffers::new()).await.expect_err("must fail");
    assert!(matches!(error, DialError::Io { .. }), "{error:?}");
    assert_eq!(error.sqlstate(), "08006");
}

#[tokio::test]
async fn a_server_that_went_away_while_idle_is_noticed() {
    let shared = TestPostgres::shared();
    let mut server = dialler(shared).dial(Buffers::new()).await.expect("logs in");
    let notice = query(&mut server, "SET application_name = 'other'").await;
    assert!(notice.starts_with(b"C"), "CommandComplete comes first");
    let pid = server.target.key.pid;
    let database = shared.info().database.clone();
    let kill = move || shared.run(&database, &format!("SELECT pg_terminate_backend({pid}, 5000)"));
    tokio::task::spawn_blocking(kill).await.expect("runs");
    // The runtime learns of it when it next looks at its sockets.
    while !server.is_broken_hint() {
        tokio::task::yield_now().await;
    }
    assert!(!server.survives_idle_input());
}

#[tokio::test]
async fn harmless_words_while_idle_are_dealt_with() {
    let (mut server, mut peer) = scripted(b"").await;
    peer.write_all(b"S\0\0\0\x0aTZ\0UT\0N\0\0\0\x06\0\0")
        .expect("sent");
    while !server.is_broken_hint() {
        tokio::task::yield_now().await;
    }
    assert!(server.survives_idle_input());
    assert_eq!(server.parameters.get("TZ"), Some("UT"));
    peer.write_all(b"Z\0\0\0\x05I").expect("sent");
    while !server.is_broken_hint() {
        tokio::task::yield_now().await;
    }
    assert!(!server.survives_idle_input(), "an answer nobody asked for");
}

/// A login at a scripted server that asks for `authentication` first.
async fn scripted(authentication: &'static [u8]) -> (ServerConn, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    let peer = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("accepts");
        let mut packet = [0; 4096];
        let n = socket.read(&mut packet).expect("reads");
        assert!(packet[..n].windows(7).any(|bytes| bytes == b"user\0me"));
        if !authentication.is_empty() {
            socket.write_all(authentication).expect("sent");
            let n = socket.read(&mut packet).expect("reads");
            let expect: &[u8] = match authentication[8] {
                3 => b"p\0\0\0\x0bsecret\0",
                _ => b"p\0\0\0\x28md5",
            };
            assert!(packet[..n].starts_with(expect), "{:?}", &packet[..n]);
        }
        socket
            .write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07abcdZ\0\0\0\x05I")
            .expect("sent");
        socket
    });
    let dialler = Dialler {
        address: Address {
            host: "127.0.0.1".into(),
            port,
        },
        startup: Startup {
            user: "me".into(),
            database: "db".into(),
            params: Vec::new(),
        },
        secret: Secret::Password("secret".into()),
        protocol: ProtocolVersion::V3_0,
        tls: Default::default(),
        timeout: Duration::from_secs(5),
        prepared_statements: 10,
    };
    let server = dialler.dial(Buffers::new()).await.expect("logs in");
    assert_eq!(
        server.target.key,
        BackendKey {
            pid: 7,
            secret: (*b"abcd").into(),
        }
    );
    (server, peer.join().expect("the script went as planned"))
}

#[tokio::test]
async fn answers_cleartext_and_md5() {
    scripted(b"R\0\0\0\x08\0\0\0\x03").await;
    scripted(b"R\0\0\0\x0c\0\0\0\x05salt").await;
}
