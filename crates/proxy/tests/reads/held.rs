//! How long statements wait for a primary that is away: as long as the session says.

use std::time::{Duration, Instant};

use crate::herd::{Herd, code, run, until, value};
use crate::torture::signal;

#[test]
fn a_session_says_how_long_it_waits_for_a_server_that_is_away() {
    let herd = Herd::start(1, 1);
    let door = herd.proxy("p1");
    let mut patient = door.client();
    let mut hasty = door.client();
    let mut refused = door.client();
    assert_eq!(value(&mut hasty, "SHOW drover.failover_buffer_ms"), "10000");
    assert_eq!(
        value(&mut hasty, "SHOW drover.failover_buffer_statements"),
        "10000"
    );
    run(&mut hasty, "SET drover.failover_buffer_ms = '300ms'");
    assert_eq!(value(&mut hasty, "SHOW drover.failover_buffer_ms"), "300");
    run(&mut refused, "SET drover.failover_buffer_statements = 0");
    run(&mut refused, "SET drover.failover_buffer_ms = 100");
    for wrong in [
        "SET drover.failover_buffer_ms = 'long'",
        "SET drover.failover_buffer_ms = '11min'",
        "SET drover.failover_buffer_statements = -1",
    ] {
        assert_eq!(code(&mut hasty, wrong), "22023", "{wrong}");
    }
    run(&mut patient, "SET drover.failover_buffer_ms = 4000");
    signal(&herd.kit.info().shards[0].primary, "KILL");
    let since = Instant::now();
    let waiting = std::thread::spawn(move || {
        loop {
            let since = Instant::now();
            let told = code(&mut patient, "SELECT 1");
            // One that was on its way when the server died is told at once.
            if since.elapsed() > Duration::from_millis(500) {
                return (told, since.elapsed());
            }
        }
    });
    assert_eq!(code(&mut hasty, "SELECT 1"), "08006");
    let hasty_took = since.elapsed();
    assert!(hasty_took < Duration::from_millis(3500), "{hasty_took:?}");
    // Its worker may have to find out first.
    until(|| code(&mut refused, "SELECT 1") == "53300");
    let (told, took) = waiting.join().unwrap();
    assert_eq!(told, "08006");
    assert!(
        took > hasty_took && took > Duration::from_secs(3) && took < Duration::from_secs(9),
        "{took:?}"
    );
}
