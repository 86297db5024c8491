use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use testkit::TestPostgres;
use testkit::client::Client;

use super::{Authority, psql};
use crate::config::{ClientAuth, ClientTlsConfig, ClientTlsMode, UserConfig};
use crate::listener::Proxy;
use crate::testing;
use crate::tls::load::ALPN;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

fn proxy(tls: ClientTlsConfig) -> Proxy {
    let server = TestPostgres::shared();
    let mut config = testing::config(server, &server.info().database);
    config.tls.client = tls;
    config.users.push(UserConfig {
        name: "trusted".into(),
        auth: ClientAuth::Trust,
        server_password: None,
        limits: Default::default(),
    });
    testing::proxy(config)
}

/// One statement by psql as the application's role, with further words of its connection string.
fn ask(proxy: &Proxy, host: &str, more: &str) -> Result<String, String> {
    let info = TestPostgres::shared().info();
    let conninfo = format!(
        "host={host} hostaddr=127.0.0.1 port={} user={} dbname={} {more}",
        proxy.address().port(),
        info.app_user,
        info.database
    );
    psql(&conninfo, info.app_password.expose(), "SELECT 'ran'")
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let sums = proxy.shared().metrics.sums();
    let found = sums.iter().find(|(metric, _)| metric.name == name);
    found.expect("it is declared").1
}

#[test]
fn every_sslmode_of_libpq_works() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let proxy = proxy(authority.client_config(ClientTlsMode::Allow));
    let (ca, other) = (authority.ca(), stranger.ca());
    for mode in ["disable", "allow", "prefer", "require"] {
        let before = metric(&proxy, "drover_tls_handshakes_total");
        assert_eq!(
            ask(&proxy, "db", &format!("sslmode={mode}")).as_deref(),
            Ok("ran"),
            "{mode}"
        );
        let encrypted = metric(&proxy, "drover_tls_handshakes_total") - before;
        assert_eq!(
            encrypted,
            u64::from(matches!(mode, "prefer" | "require")),
            "{mode}"
        );
    }
    let verify = |mode: &str, ca: &std::path::Path| format!("sslmode={mode} sslrootcert={}", ca.display());
    assert_eq!(
        ask(&proxy, "localhost", &verify("verify-full", &ca)).as_deref(),
        Ok("ran")
    );
    assert_eq!(
        ask(&proxy, "db.test", &verify("verify-ca", &ca)).as_deref(),
        Ok("ran")
    );
    let error = ask(&proxy, "db.test", &verify("verify-full", &ca)).expect_err("another host");
    assert!(error.contains("does not match host name"), "{error}");
    let error = ask(&proxy, "localhost", &verify("verify-ca", &other)).expect_err("another authority");
    assert!(error.contains("SSL error"), "{error}");
    assert!(metric(&proxy, "drover_tls_failures_total") > 0);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let only =
            format!("sslmode=require ssl_min_protocol_version={version} ssl_max_protocol_version={version}");
        assert_eq!(ask(&proxy, "db", &only).as_deref(), Ok("ran"), "{version}");
    }
}

#[test]
fn encryption_can_be_demanded() {
    let authority = Authority::new();
    let proxy = proxy(ClientTlsConfig {
        min_version: crate::config::TlsVersion::V1_3,
        ..authority.client_config(ClientTlsMode::Require)
    });
    assert_eq!(ask(&proxy, "db", "sslmode=require").as_deref(), Ok("ran"));
    let error = ask(&proxy, "db", "sslmode=disable").expect_err("in clear");
    assert!(
        error.contains("this server accepts encrypted connections only"),
        "{error}"
    );
    let old = "sslmode=require ssl_max_protocol_version=TLSv1.2";
    assert!(ask(&proxy, "db", old).is_err_and(|error| error.contains("protocol version")));
}

#[test]
fn logins_are_bound_to_the_connection() {
    let authority = Authority::new();
    let proxy = proxy(authority.client_config(ClientTlsMode::Allow));
    let bound = "sslmode=require channel_binding=require";
    assert_eq!(ask(&proxy, "db", bound).as_deref(), Ok("ran"));
    assert_eq!(
        ask(&proxy, "db", "sslmode=require channel_binding=disable").as_deref(),
        Ok("ran")
    );
}

#[test]
fn clients_show_certificates() {
    let authority = Authority::new();
    let info = TestPostgres::shared().info();
    let stranger = Authority::new();
    let (right, wrong) = (
        authority.sign(&info.app_user, &[]),
        authority.sign("somebody", &[]),
    );
    let forged = stranger.sign(&info.app_user, &[]);
    let with = |files: &super::Files| {
        format!(
            "sslmode=require sslcert={} sslkey={}",
            files.cert.display(),
            files.key.display()
        )
    };
    let start = |mode| {
        proxy(ClientTlsConfig {
            ca: Some(authority.ca()),
            ..authority.client_config(mode)
        })
    };
    let asking = start(ClientTlsMode::Allow);
    assert_eq!(
        ask(&asking, "db", "sslmode=require").as_deref(),
        Ok("ran"),
        "only asked for"
    );
    assert_eq!(ask(&asking, "db", &with(&wrong)).as_deref(), Ok("ran"));
    assert!(
        ask(&asking, "db", &with(&forged)).is_err(),
        "a certificate shown must be good"
    );
    let chain = start(ClientTlsMode::VerifyCa);
    assert!(ask(&chain, "db", "sslmode=require").is_err());
    assert_eq!(ask(&chain, "db", &with(&wrong)).as_deref(), Ok("ran"));
    let full = start(ClientTlsMode::VerifyFull);
    assert_eq!(ask(&full, "db", &with(&right)).as_deref(), Ok("ran"));
    let error = ask(&full, "db", &with(&wrong)).expect_err("another name");
    assert!(
        error.contains("the client certificate does not name the user"),
        "{error}"
    );
}

fn socket(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).expect("connects");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("settable");
    socket
}

fn startup(user: &str) -> Vec<u8> {
    let body = format!("\0\u{3}\0\0user\0{user}\0database\0nowhere\0\0");
    [&(body.len() as u32 + 4).to_be_bytes(), body.as_bytes()].concat()
}

#[test]
fn what_was_put_in_before_the_handshake_is_refused() {
    let authority = Authority::new();
    let proxy = proxy(authority.client_config(ClientTlsMode::Allow));
    let mut socket = socket(&proxy);
    // An attacker's start-up packet behind the client's request, in one segment.
    socket
        .write_all(&[&SSL_REQUEST[..], &startup("trusted")].concat())
        .expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.starts_with('E') && text.contains("received unencrypted data after SSL request"),
        "{text}"
    );
}

/// A TLS connection that begins at once, and what a start-up packet over it is answered.
fn direct(proxy: &Proxy, authority: &Authority, alpn: Option<&[u8]>) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_file(authority.ca()).expect("readable");
    roots.add(ca).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut socket = socket(proxy);
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(&startup("trusted"))?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn tls_may_begin_at_once() {
    let authority = Authority::new();
    let proxy = proxy(authority.client_config(ClientTlsMode::Require));
    let answer = direct(&proxy, &authority, Some(ALPN)).expect("encrypted");
    assert!(answer.contains("database \"nowhere\" does not exist"), "{answer}");
    let answer = direct(&proxy, &authority, None).expect("encrypted");
    assert!(answer.contains("without ALPN protocol negotiation"), "{answer}");
    let error = direct(&proxy, &authority, Some(b"h2")).expect_err("another protocol");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn without_tls_a_handshake_ends_the_connection() {
    let authority = Authority::new();
    let proxy = proxy(ClientTlsConfig::default());
    assert!(direct(&proxy, &authority, Some(ALPN)).is_err());
}

#[test]
fn a_handshake_that_does_not_come_to_an_end_is_cut_off() {
    let authority = Authority::new();
    let server = TestPostgres::shared();
    let mut config = testing::config(server, &server.info().database);
    config.tls.client = authority.client_config(ClientTlsMode::Allow);
    config.limits.login_timeout = Duration::from_millis(200);
    let proxy = testing::proxy(config);
    let mut socket = socket(&proxy);
    socket.write_all(&SSL_REQUEST).expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, b"S");
    assert_eq!(metric(&proxy, "drover_login_timeouts_total"), 1);
}

#[test]
fn certificates_change_under_live_clients() {
    let authority = Authority::new();
    let next = Authority::new();
    let config = authority.client_config(ClientTlsMode::Allow);
    let (cert, key) = (
        config.cert.clone().expect("given"),
        config.key.clone().expect("given"),
    );
    let proxy = proxy(config);
    let info = TestPostgres::shared().info();
    let url = testing::url(&proxy, TestPostgres::shared(), &info.database);
    let mut live = Client::connect(&url).expect("logs in");
    let trusting =
        |authority: &Authority| format!("sslmode=verify-ca sslrootcert={}", authority.ca().display());
    assert_eq!(ask(&proxy, "db", &trusting(&authority)).as_deref(), Ok("ran"));

    // A key that does not belong to the certificate changes nothing.
    let fresh = next.sign("proxy", &["localhost"]);
    std::fs::copy(&fresh.cert, &cert).expect("copied");
    proxy.shared().tls.reload().expect_err("they do not fit");
    assert_eq!(ask(&proxy, "db", &trusting(&authority)).as_deref(), Ok("ran"));

    std::fs::copy(&fresh.key, &key).expect("copied");
    proxy.shared().tls.reload().expect("they fit");
    assert_eq!(ask(&proxy, "db", &trusting(&next)).as_deref(), Ok("ran"));
    assert!(ask(&proxy, "db", &trusting(&authority)).is_err());
    live.simple("SELECT 1").expect("the client is still connected");
}

#[test]
fn much_passes_both_ways() {
    let authority = Authority::new();
    let proxy = proxy(authority.client_config(ClientTlsMode::Require));
    let info = TestPostgres::shared().info();
    let conninfo = format!(
        "host=127.0.0.1 port={} user={} dbname={} sslmode=require",
        proxy.address().port(),
        info.app_user,
        info.database
    );
    let statement = format!(
        "SELECT md5(string_agg(v, '')), length('{}') FROM (SELECT repeat(md5(i::text), 100) v FROM generate_series(1, 2000) i) s",
        "x".repeat(100_000)
    );
    let rows = "SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 2000) i";
    let password = info.app_password.expose();
    let expected = psql(
        &conninfo
            .replace(
                &proxy.address().port().to_string(),
                &TestPostgres::shared().node().port.to_string(),
            )
            .replace("require", "disable"),
        password,
        rows,
    )
    .expect("directly");
    assert_eq!(psql(&conninfo, password, rows), Ok(expected));
    let answer = psql(&conninfo, password, &statement).expect("runs");
    assert!(answer.ends_with("|100000"), "{answer}");
}
