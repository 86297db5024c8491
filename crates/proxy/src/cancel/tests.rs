use std::io::{Read, Write};
use std::net::TcpListener;

use bytes::BytesMut;

use testkit::TestPostgres;
use testkit::client::Client;

use super::*;
use crate::testing;

fn target(port: u16, pid: u32) -> Arc<CancelTarget> {
    Arc::new(CancelTarget {
        address: Arc::new(Address {
            host: "127.0.0.1".into(),
            port,
        }),
        key: BackendKey {
            pid,
            secret: [1, 2, 3, 4].into(),
        },
        tls: None,
        blame: Blame::default(),
    })
}

#[test]
fn only_the_right_secret_finds_the_client() {
    let registry = Arc::new(CancelRegistry::new(PeerNumber::random().expect("random")));
    for (minor, length) in [(0, 4), (2, 32)] {
        let client = registry.register(minor).expect("random");
        let (pid, secret) = (client.key.pid, client.key.secret.as_bytes());
        assert_eq!(secret.len(), length);
        assert!(registry.find(pid, secret).is_some());
        assert!(registry.find(pid, &secret[..length - 1]).is_none());
        assert!(registry.find(pid, &[secret, &[0]].concat()).is_none());
        assert!(registry.find(pid, &[]).is_none());
        let mut wrong = secret.to_vec();
        wrong[length - 1] ^= 1;
        assert!(registry.find(pid, &wrong).is_none());
        assert!(registry.find(pid ^ 1, secret).is_none());
        assert!(i32::try_from(pid).is_ok());
        assert_eq!(PeerNumber::of(pid), registry.number());
    }
    assert!(registry.is_empty());
}

#[tokio::test(flavor = "local")]
async fn a_server_is_held_while_a_cancel_is_on_its_way() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let target = target(listener.local_addr().expect("bound").port(), 77);
    let key = Arc::clone(&target);
    let slot = Arc::new(CancelSlot::default());
    assert_eq!(slot.cancel().await, 0, "nothing is bound");
    slot.bind(target);
    let sending = tokio::task::spawn_local({
        let slot = Arc::clone(&slot);
        async move { slot.cancel().await }
    });
    let (mut socket, packet) = tokio::task::spawn_blocking(move || {
        let (mut socket, _) = listener.accept().expect("accepts");
        let mut packet = [0; 16];
        socket.read_exact(&mut packet).expect("a cancel request");
        (socket, packet)
    })
    .await
    .expect("runs");
    assert_eq!(packet, [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 77, 1, 2, 3, 4]);
    assert_eq!(slot.unbind(&key), Unbound::Pending);
    let mut settled = Box::pin(slot.settled(&key));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(settled.as_mut().poll(cx).is_pending())).await);
    socket.flush().expect("open");
    drop(socket);
    assert!(settled.await, "the server has closed: the signal has been sent");
    assert_eq!(sending.await.expect("runs"), 1);
    assert_eq!(slot.unbind(&key), Unbound::Clear);
}

#[tokio::test]
async fn a_delivery_given_up_makes_the_server_doubtful() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let target = target(listener.local_addr().expect("bound").port(), 78);
    let key = Arc::clone(&target);
    let slot = CancelSlot::default();
    slot.bind(target);
    let mut sending = Box::pin(slot.cancel());
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(sending.as_mut().poll(cx).is_pending())).await);
    drop(sending);
    assert_eq!(slot.unbind(&key), Unbound::Pending);
    assert!(!slot.settled(&key).await, "the cancel may have been sent");
    assert_eq!(slot.unbind(&key), Unbound::Clear, "said once");
}

#[tokio::test]
async fn no_connection_means_no_cancel() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let target = target(listener.local_addr().expect("bound").port(), 79);
    drop(listener);
    let key = Arc::clone(&target);
    let slot = CancelSlot::default();
    slot.bind(target);
    slot.cancel().await;
    assert_eq!(slot.unbind(&key), Unbound::Clear);
}

#[test]
fn a_cancel_ends_the_clients_query_and_no_other() {
    let server = TestPostgres::shared();
    let database = server.create_database();
    let mut config = testing::config(server, &database);
    config.pool.size = 1;
    let proxy = testing::proxy(config);
    let url = testing::url(&proxy, server, &database);
    let mut busy = Client::connect(&url).expect("logs in");
    let idle = Client::connect(&url).expect("logs in");
    busy.send(&query("SELECT pg_sleep(30)")).expect("sent");
    // A client that runs nothing cannot hit the other's query, although both share the server.
    idle.cancel().expect("sent");
    busy.set_timeout(std::time::Duration::from_millis(300));
    assert!(busy.collect(1).is_err(), "still running");
    busy.set_timeout(std::time::Duration::from_secs(20));
    busy.cancel().expect("sent");
    let answer = format!("{:?}", busy.collect(1).expect("an answer"));
    assert!(answer.contains("57014"), "{answer}");
}

fn query(sql: &str) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    wire::frontend::encode::query(&mut bytes, sql.as_bytes()).expect("encodable");
    bytes.to_vec()
}

#[test]
fn cancels_that_come_late_never_hit_the_next_client() {
    let server = TestPostgres::shared();
    let database = server.create_database();
    let mut config = testing::config(server, &database);
    config.pool.size = 1;
    let proxy = testing::proxy(config);
    let url = testing::url(&proxy, server, &database);
    let mut bystander = Client::connect(&url).expect("logs in");
    let mut busy = Client::connect(&url).expect("logs in");
    let canceller = std::thread::spawn(move || {
        let (mut cancelled, mut late, mut pause) = (0, 0, 0);
        // Each cancel goes out later if the one before came in time, and earlier if it came late: they are sent about
        // when the query ends, however fast the machine is.
        for _ in 0..2_000 {
            busy.send(&query("SELECT pg_sleep(0.001)")).expect("sent");
            std::thread::sleep(Duration::from_micros(pause));
            busy.cancel().expect("sent");
            if format!("{:?}", busy.collect(1).expect("an answer")).contains("57014") {
                cancelled += 1;
                pause += 100;
            } else {
                late += 1;
                pause = pause.saturating_sub(100);
            }
            if cancelled.min(late) >= 50 {
                break;
            }
        }
        (cancelled, late)
    });
    while !canceller.is_finished() {
        let answer = format!("{:?}", bystander.simple("SELECT 1").expect("an answer"));
        assert!(!answer.contains("57014"), "{answer}");
    }
    let (cancelled, late) = canceller.join().expect("no failure");
    assert!(
        cancelled.min(late) >= 50,
        "this shows nothing unless both happen: {cancelled} in time, {late} late"
    );
}

#[test]
fn clients_of_protocol_3_2_get_long_keys() {
    let server = TestPostgres::shared();
    let database = server.create_database();
    let mut config = testing::config(server, &database);
    let user = &mut config.users[0];
    let crate::config::ClientAuth::Password(password) = &user.auth else {
        unreachable!("the test's own configuration")
    };
    user.server_password = Some(password.clone());
    user.auth = crate::config::ClientAuth::Trust;
    let name = user.name.clone();
    let proxy = testing::proxy(config);
    for (minor, length) in [(0, 4), (2, 32)] {
        let version = wire::startup::ProtocolVersion { major: 3, minor };
        let mut packet = BytesMut::new();
        let params = [("user", name.as_str()), ("database", &database)];
        wire::startup::encode::session(&mut packet, version, params).expect("encodable");
        let mut socket = std::net::TcpStream::connect(proxy.address()).expect("connects");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("settable");
        socket.write_all(&packet).expect("sent");
        let mut message = || {
            let mut head = [0; 5];
            socket.read_exact(&mut head).expect("a message");
            let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
            socket.read_exact(&mut body).expect("all of it");
            (head[0], body)
        };
        let key = loop {
            match message() {
                (b'K', body) => break body,
                (b'E' | b'Z', body) => panic!("no key: {}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        };
        assert_eq!(key.len(), 4 + length);
        let pid = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
        assert!(proxy.shared().cancels.find(pid, &key[4..]).is_some());
    }
}

/// A client that keeps its server must not be hit by a cancel of what was answered meanwhile.
#[tokio::test(flavor = "local")]
async fn a_request_waits_for_the_cancel_of_the_one_before() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let slot = Arc::new(CancelSlot::default());
    slot.bind(target(listener.local_addr().expect("bound").port(), 77));
    slot.begin_request();
    let sending = tokio::task::spawn_local({
        let slot = Arc::clone(&slot);
        async move { slot.cancel().await }
    });
    let socket = tokio::task::spawn_blocking(move || listener.accept().expect("accepts").0);
    let socket = socket.await.expect("a connection");
    assert!(slot.is_cancelled());
    assert!(slot.begin_again().is_some_and(|targets| targets.len() == 1));
    slot.end_request();
    assert!(slot.is_late());
    assert!(
        slot.begin_again().is_none(),
        "what is answered is not cancelled again"
    );
    // The second delivery of this test is done with.
    drop(Deliveries {
        slot: &slot,
        left: slot.targets(),
    });
    let mut arrived = std::pin::pin!(slot.arrived());
    assert!(look_once(arrived.as_mut()).await.is_pending());
    drop(socket);
    arrived.await;
    assert!(!slot.is_late());
    assert_eq!(sending.await.expect("sent"), 1);
}

/// Looks once.
async fn look_once<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
