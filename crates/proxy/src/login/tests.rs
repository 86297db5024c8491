use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::TestPostgres;
use testkit::client::Client;

use crate::config::{ClientAuth, ProxyConfig, UserConfig};
use crate::listener::Proxy;
use crate::testing;

fn configured(change: impl FnOnce(&mut ProxyConfig)) -> Proxy {
    let server = TestPostgres::shared();
    let mut config = testing::config(server, "app");
    config.users.push(UserConfig {
        name: "trusted".into(),
        auth: ClientAuth::Trust,
        server_password: None,
        limits: Default::default(),
    });
    change(&mut config);
    testing::proxy(config)
}

/// Sends raw bytes and reads to the end of the stream.
fn talk(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(proxy.address()).expect("connects");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("settable");
    socket.write_all(bytes).expect("sent");
    let mut answer = Vec::new();
    // A reset after the last words is as good as an end.
    let _ = socket.read_to_end(&mut answer);
    answer
}

fn startup(code: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = code.to_be_bytes().to_vec();
    for (name, value) in params {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

const V3: u32 = 3 << 16;

fn assert_refused(answer: &[u8], code: &str, message: &str) {
    let text = String::from_utf8_lossy(answer);
    assert!(
        text.contains("FATAL") && text.contains(&format!("C{code}\0M{message}\0")),
        "{text:?}"
    );
}

#[test]
fn encryption_is_declined_even_back_to_back() {
    let proxy = configured(|_| {});
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let gss = [0, 0, 0, 8, 4, 210, 22, 48];
    let mut bytes = [ssl, gss, ssl].concat();
    bytes.extend(startup(V3, &[("user", "trusted"), ("database", "nowhere")]));
    let answer = talk(&proxy, &bytes);
    assert_eq!(&answer[..3], b"NNN");
    assert_refused(&answer[3..], "3D000", "database \"nowhere\" does not exist");
    assert_refused(
        &talk(&proxy, &[ssl; 5].concat())[5..],
        "08P01",
        "too many encryption requests",
    );
}

#[test]
fn malformed_first_packets_are_refused() {
    let proxy = configured(|_| {});
    for bytes in [
        &[0, 0, 0, 7, 0, 3, 0][..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0x27, 0x11, 0, 3, 0, 0],
    ] {
        assert_refused(&talk(&proxy, bytes), "08P01", "invalid length of startup packet");
    }
    let answer = talk(&proxy, &startup(2 << 16, &[("user", "trusted")]));
    assert!(String::from_utf8_lossy(&answer).contains("C0A000\0Munsupported frontend protocol 2.0"));
    assert_refused(
        &talk(&proxy, &startup(V3, &[])),
        "28000",
        "no PostgreSQL user name specified in startup packet",
    );
    let replication = startup(V3, &[("user", "trusted"), ("replication", "database")]);
    assert_refused(
        &talk(&proxy, &replication),
        "0A000",
        "replication connections are not supported",
    );
    // Random bytes after a plausible length: whatever it is, no panic, and the proxy lives on.
    let mut random = testkit::random::Random::new(7);
    for _ in 0..300 {
        let length = random.below(120) as u32 + 4;
        let mut bytes = length.to_be_bytes().to_vec();
        if random.below(2) == 0 {
            bytes.extend(V3.to_be_bytes());
        }
        bytes.extend((4..length).map(|_| random.below(256) as u8));
        let mut socket = TcpStream::connect(proxy.address()).expect("connects");
        socket.write_all(&bytes).expect("sent");
        drop(socket);
    }
    assert_refused(
        &talk(&proxy, &startup(V3, &[])),
        "28000",
        "no PostgreSQL user name specified in startup packet",
    );
    let sums = proxy.shared().metrics.sums();
    let panics = sums
        .iter()
        .find(|(metric, _)| metric.name == "drover_session_panics_total");
    assert_eq!(panics.map(|(_, count)| *count), Some(0));
}

#[test]
fn newer_protocols_are_negotiated_down() {
    let proxy = configured(|_| {});
    let packet = startup(
        V3 | 3,
        &[("user", "trusted"), ("database", "nowhere"), ("_pq_.shiny", "1")],
    );
    let answer = talk(&proxy, &packet);
    assert_eq!(&answer[..24], b"v\0\0\0\x17\0\x03\0\x02\0\0\0\x01_pq_.shiny\0");
    let packet = startup(V3 | 9, &[("user", "trusted"), ("database", "nowhere")]);
    assert_eq!(&talk(&proxy, &packet)[..13], b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
    let packet = startup(V3 | 2, &[("user", "trusted"), ("database", "nowhere")]);
    assert_refused(
        &talk(&proxy, &packet),
        "3D000",
        "database \"nowhere\" does not exist",
    );
}

#[test]
fn scram_lets_in_who_knows_the_password() {
    let server = TestPostgres::shared();
    let proxy = configured(|config| config.databases.push("other".into()));
    let info = server.info();
    let mut client = Client::connect(&testing::url(&proxy, server, &info.database)).expect("logs in");
    assert!(client.settings().contains_key("server_version"));
    assert!(client.process_id().is_some());
    client.simple("SELECT 1").expect("runs");
    for (user, password) in [
        (info.app_user.as_str(), "wrong"),
        ("nobody", "x"),
        (&info.admin_user, "x"),
    ] {
        let url = format!("postgresql://{user}:{password}@{}/app", proxy.address());
        let error = Client::connect(&url).expect_err("must be refused").to_string();
        assert!(
            error.contains(&format!("password authentication failed for user \"{user}\"")),
            "{error}"
        );
    }
}

#[test]
fn the_clients_keys_log_in_to_the_server() {
    let server = TestPostgres::start();
    let info = server.info();
    let verifier = verifier_of(&server, &info.app_user);
    let proxy = testing::proxy({
        let mut config = testing::config(&server, &info.database);
        config.users[0].auth = ClientAuth::Verifier(verifier);
        config
    });
    let mut client = Client::connect(&testing::url(&proxy, &server, &info.database)).expect("logs in");
    client.simple("SELECT 1").expect("runs");
}

/// What the server stores about a user's password.
fn verifier_of(server: &TestPostgres, user: &str) -> String {
    let info = server.info();
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        info.admin_user,
        info.admin_password.expose(),
        server.node().host,
        server.node().port,
        info.database
    );
    let mut client = Client::connect(&url).expect("the superuser logs in");
    let answer = client.simple(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
    ));
    let text = format!("{:?}", answer.expect("runs"));
    let start = text
        .find("SCRAM-SHA-256$")
        .map_or_else(|| decode_debug(&text), |at| text[at..].to_owned());
    start
        .chars()
        .take_while(|c| !matches!(c, '"' | '\'' | ' ' | ',' | ')'))
        .collect()
}

/// The verifier when the debug form shows bytes as numbers.
fn decode_debug(text: &str) -> String {
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u8>().ok());
    let all: Vec<u8> = numbers.collect();
    let text = String::from_utf8_lossy(&all).into_owned();
    let at = text.find("SCRAM-SHA-256$").expect("a verifier");
    text[at..].chars().take_while(|c| c.is_ascii_graphic()).collect()
}

#[test]
fn silence_is_ended_by_the_time_limit_and_counted() {
    let proxy = configured(|config| {
        config.limits.login_timeout = Duration::from_millis(100);
        config.limits.max_logins = 1;
    });
    let start = Instant::now();
    // The second waits in the backlog until the first has had its time.
    let sockets = [(); 2].map(|()| TcpStream::connect(proxy.address()).expect("connects"));
    for mut socket in sockets {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("settable");
        assert_eq!(socket.read(&mut [0]).expect("ends"), 0);
    }
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn one_client_too_many_is_told() {
    let proxy = configured(|config| config.limits.max_clients = 1);
    let server = TestPostgres::shared();
    let url = testing::url(&proxy, server, &server.info().database);
    let first = Client::connect(&url).expect("logs in");
    let error = Client::connect(&url).expect_err("must be refused").to_string();
    assert!(error.contains("sorry, too many clients already"), "{error}");
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(5);
    while Client::connect(&url).is_err() {
        assert!(Instant::now() < deadline, "the place never becomes free");
    }
}
