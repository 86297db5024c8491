//! Cancels that come to the wrong one of two proxies.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use proxy::Running;
use testkit::client::Client;

use super::fixture::{Fixture, value};

fn send(client: &mut Client, sql: &str) {
    let mut bytes = BytesMut::new();
    wire::frontend::encode::query(&mut bytes, sql.as_bytes()).unwrap();
    client.send(&bytes).unwrap();
}

fn forwarded(proxy: &Running) -> u64 {
    let sums = proxy.shared().metrics.sums();
    let found = sums
        .iter()
        .find(|(metric, _)| metric.name == "drover_cancels_forwarded_total");
    found.unwrap().1
}

/// Cancels through `url` until the answer is there: a proxy that has just started is not yet known to the others.
fn cancelled(client: &mut Client, url: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    client.set_timeout(Duration::from_millis(200));
    loop {
        client.cancel_through(url).unwrap();
        match client.collect(1) {
            Ok(answer) => return format!("{answer:?}"),
            Err(error) => assert!(Instant::now() < end, "never cancelled: {error}"),
        }
    }
}

#[test]
fn a_cancel_finds_its_proxy() {
    let fixture = Fixture::new(4, 1);
    let (other, url) = fixture.another("p2");
    let mut client = fixture.client();
    send(&mut client, "SELECT pg_sleep(30)");
    let answer = cancelled(&mut client, &url);
    assert!(answer.contains("57014"), "{answer}");
    assert!(forwarded(&other) > 0);

    // And the other way.
    let mut client = Client::connect(&url).unwrap();
    send(&mut client, "SELECT pg_sleep(30)");
    let answer = cancelled(&mut client, &fixture.url());
    assert!(answer.contains("57014"), "{answer}");
    other.shutdown();
}

#[test]
fn cancels_handed_on_never_hit_another_client() {
    let fixture = Fixture::new(1, 1);
    let (other, url) = fixture.another("p2");
    let mut bystander = fixture.client();
    let mut busy = fixture.client();
    let through = url.clone();
    let canceller = std::thread::spawn(move || {
        let mut cancelled = 0;
        for round in 0..100 {
            // From too early to too late.
            send(
                &mut busy,
                &format!("SELECT pg_sleep({})", f64::from(round % 10) / 2000.0),
            );
            // One in ten surely too late.
            let early = (round % 10 == 0).then(|| busy.collect(1).unwrap());
            busy.cancel_through(&through).unwrap();
            let answer = early.unwrap_or_else(|| busy.collect(1).unwrap());
            cancelled += usize::from(format!("{answer:?}").contains("57014"));
        }
        cancelled
    });
    while !canceller.is_finished() {
        assert_eq!(value(&mut bystander, "SELECT 1"), "1");
    }
    let cancelled = canceller.join().unwrap();
    assert!(cancelled < 100, "some must have come late, or this shows nothing");
    other.shutdown();
}
