//! Times of statements, transactions and silent clients.

use std::time::{Duration, Instant};

use proxy::config::Timeouts;
use testkit::client::{Client, Extended, Message};

use super::site::{Site, error, pid, run, value};

fn site(timeouts: Timeouts) -> Site {
    Site::new(|config| {
        config.pool.size = 1;
        config.timeouts = timeouts;
    })
}

/// The SQLSTATE with which the session is ended while its client is silent.
fn goodbye(client: &mut Client) -> String {
    match client.next_message() {
        Ok(Message::Error(error)) => {
            assert_eq!(error.severity(), "FATAL");
            error.sqlstate().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let site = site(Timeouts {
        query: Duration::from_millis(300),
        ..Timeouts::default()
    });
    let mut client = site.client();
    let server = pid(&mut client);
    let start = Instant::now();
    let told = error(&mut client, "SELECT pg_sleep(30)");
    assert_eq!(
        told,
        ("57014".into(), "canceling statement after query_timeout".into())
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    let answer = client.extended(&Extended::new("SELECT pg_sleep(30)")).unwrap();
    assert_eq!(answer.error().expect("cancelled").sqlstate(), "57014");
    run(&mut client, "BEGIN");
    assert_eq!(error(&mut client, "SELECT pg_sleep(30)").0, "57014");
    run(&mut client, "ROLLBACK");
    assert_eq!(pid(&mut client), server, "the server connection stays");
    assert_eq!(value(&mut client, "SELECT pg_sleep(0.1) IS NULL"), "f");
}

#[test]
fn a_transaction_left_open_is_rolled_back_and_its_server_stays() {
    let site = site(Timeouts {
        idle_transaction: Duration::from_millis(300),
        ..Timeouts::default()
    });
    let mut other = site.client();
    run(&mut other, "CREATE TABLE t (a int)");
    let server = pid(&mut other);
    let mut client = site.client();
    run(&mut client, "BEGIN");
    run(&mut client, "INSERT INTO t VALUES (1)");
    assert_eq!(goodbye(&mut client), "25P03");
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0");
    assert_eq!(pid(&mut other), server);
}

#[test]
fn a_transaction_that_takes_too_long_ends_its_session() {
    let site = site(Timeouts {
        transaction: Duration::from_millis(400),
        ..Timeouts::default()
    });
    let mut client = site.client();
    let server = pid(&mut client);
    run(&mut client, "BEGIN");
    pid(&mut client);
    assert_eq!(goodbye(&mut client), "25P04", "silent");
    let mut client = site.client();
    run(&mut client, "BEGIN");
    assert_eq!(error(&mut client, "SELECT pg_sleep(30)").0, "57014");
    assert_eq!(goodbye(&mut client), "25P04", "busy");
    let mut client = site.client();
    assert_eq!(pid(&mut client), server);
    std::thread::sleep(Duration::from_millis(700));
    run(&mut client, "SELECT 1");
}

#[test]
fn a_silent_client_is_sent_away() {
    let site = Site::new(|config| {
        let user = &mut config.users[0];
        user.limits.timeouts.client_idle = Some(Duration::from_millis(300));
        config.timeouts.client_idle = Duration::from_secs(3600);
    });
    let mut client = site.client();
    run(&mut client, "BEGIN");
    std::thread::sleep(Duration::from_millis(700));
    run(&mut client, "COMMIT");
    assert_eq!(goodbye(&mut client), "57P05");
}
