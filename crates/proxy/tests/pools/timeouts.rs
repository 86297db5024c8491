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

/// The times that clients set for themselves, in every way they can. They are long enough for a busy machine, and run at
/// the same time.
#[test]
fn a_client_may_limit_its_own_silence() {
    let site = Site::new(|_| ());
    let mut other = site.client();
    run(&mut other, "CREATE TABLE t (a int)");
    let mut for_ever = site.client();
    run(&mut for_ever, "SET idle_in_transaction_session_timeout = '3s'");
    let shown = "SHOW idle_in_transaction_session_timeout";
    assert_eq!(value(&mut for_ever, shown), "3s");
    run(&mut for_ever, "BEGIN");
    run(&mut for_ever, "INSERT INTO t VALUES (1)");
    let mut once = site.client();
    run(&mut once, "BEGIN");
    run(&mut once, "SET LOCAL idle_in_transaction_session_timeout TO 3000");
    let mut outside = site.client();
    run(&mut outside, "SET idle_session_timeout = '0.05min'");
    let mut by_function = site.client();
    let call = "SELECT set_config('idle_session_timeout', '3000', false)";
    run(&mut by_function, call);
    // Taken back, with the transaction or by another time: who is silent then stays.
    let mut patient = site.client();
    run(&mut patient, "BEGIN");
    run(&mut patient, "SET idle_session_timeout = '100ms'");
    run(&mut patient, "ROLLBACK");
    run(&mut patient, "SET idle_in_transaction_session_timeout = '100ms'");
    run(&mut patient, "SET idle_in_transaction_session_timeout = 0");
    run(&mut patient, "BEGIN");

    assert_eq!(goodbye(&mut for_ever), "25P03");
    assert_eq!(value(&mut other, "SELECT count(*) FROM t"), "0");
    assert_eq!(goodbye(&mut once), "25P03", "for this transaction");
    assert_eq!(goodbye(&mut outside), "57P05");
    assert_eq!(goodbye(&mut by_function), "57P05", "by set_config");
    run(&mut patient, "COMMIT");
    assert_eq!(site.metric("drover_session_timeouts_total"), 4);
}

#[test]
fn a_database_may_limit_the_silence_of_its_clients() {
    let site = Site::new(|_| ());
    let info = testkit::TestCluster::shared(1).info();
    let (user, password) = (&info.admin_user, info.admin_password.expose());
    let (host, port) = (&info.shards[0].primary.host, info.shards[0].primary.port);
    let url = format!("postgresql://{user}:{password}@{host}:{port}/{}", site.database);
    let mut server = Client::connect(&url).unwrap();
    let sql = format!("ALTER DATABASE {} SET idle_session_timeout = '3s'", site.database);
    run(&mut server, &sql);
    let mut patient = site.client();
    run(&mut patient, "SET idle_session_timeout = 0");
    let mut short = site.client();
    assert_eq!(goodbye(&mut short), "57P05");
    assert_eq!(value(&mut patient, "SELECT 1"), "1", "it has said otherwise");
}
