use std::time::{Duration, Instant};

use testkit::TestPostgres;
use testkit::client::Client;

use super::Proxy;
use crate::testing;

fn started(shutdown_timeout: Duration) -> (Proxy, String) {
    let server = TestPostgres::shared();
    let mut config = testing::config(server, &server.info().database);
    config.limits.shutdown_timeout = shutdown_timeout;
    let proxy = testing::proxy(config);
    let url = testing::url(&proxy, server, &server.info().database);
    (proxy, url)
}

#[test]
fn clients_are_spread_over_the_workers() {
    let (proxy, url) = started(Duration::from_secs(2));
    let clients: Vec<Client> = (0..6).map(|_| Client::connect(&url).expect("logs in")).collect();
    let loads: Vec<usize> = proxy
        .shared()
        .loads
        .iter()
        .map(|load| load.load(std::sync::atomic::Ordering::Relaxed))
        .collect();
    assert_eq!(loads, [3, 3]);
    drop(clients);
}

#[test]
fn a_panic_ends_one_session_only() {
    let (proxy, url) = started(Duration::from_secs(2));
    let mut victims: Vec<Client> = (0..2).map(|_| Client::connect(&url).expect("logs in")).collect();
    let mut others: Vec<Client> = (0..2).map(|_| Client::connect(&url).expect("logs in")).collect();
    for victim in &mut victims {
        let answer = format!("{:?}", victim.simple("panic"));
        assert!(
            answer.contains("XX000") || answer.contains("internal error"),
            "{answer}"
        );
    }
    for other in &mut others {
        other.simple("SELECT 1").expect("lives on");
    }
    Client::connect(&url).expect("new clients are welcome");
    let sums = proxy.shared().metrics.sums();
    let panics = sums
        .iter()
        .find(|(metric, _)| metric.name == "drover_session_panics_total");
    assert_eq!(panics.map(|(_, count)| *count), Some(2));
}

#[test]
fn shutdown_lets_transactions_finish() {
    let (proxy, url) = started(Duration::from_secs(10));
    let mut idle = Client::connect(&url).expect("logs in");
    let mut busy = Client::connect(&url).expect("logs in");
    busy.simple("BEGIN").expect("runs");
    let address = proxy.address();
    let stopping = std::thread::spawn(move || proxy.shutdown());
    let answer = format!("{:?}", idle.next_message().expect("last words"));
    assert!(answer.contains("57P01"), "{answer}");
    busy.simple("SELECT 1").expect("the transaction goes on");
    busy.simple("COMMIT").expect("and ends");
    stopping.join().expect("the proxy ends");
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn silent_peers_do_not_delay_a_shutdown() {
    let (proxy, _) = started(Duration::from_secs(30));
    let silent = std::net::TcpStream::connect(proxy.address()).expect("connects");
    let deadline = Instant::now() + Duration::from_secs(5);
    while proxy.shared().clients() == 0 {
        assert!(Instant::now() < deadline, "never accepted");
        std::thread::yield_now();
    }
    let start = Instant::now();
    proxy.shutdown();
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(silent);
}

#[test]
fn shutdown_is_bounded() {
    let (proxy, url) = started(Duration::from_millis(300));
    let mut busy = Client::connect(&url).expect("logs in");
    busy.simple("BEGIN").expect("runs");
    let start = Instant::now();
    proxy.shutdown();
    assert!(start.elapsed() < Duration::from_secs(5));
    let answer = format!("{:?}", busy.next_message().expect("last words"));
    assert!(answer.contains("57P01"), "{answer}");
}
