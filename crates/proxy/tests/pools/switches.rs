//! What an operator may do, and what the views show of it.

use std::time::Duration;

use proxy::admin_api::PoolCommandError;
use testkit::client::Client;

use super::site::{Site, eventually, pid, run, value, wait};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_pause_waits_for_transactions_and_keeps_others_waiting() {
    let site = Site::new(|config| config.pool.connection_timeout = Duration::from_millis(300));
    let admin = site.admin();
    let mut open = site.client();
    run(&mut open, "BEGIN");
    let server = pid(&mut open);
    let mut idle = site.client();
    run(&mut idle, "SELECT 1");
    assert_eq!(
        wait(admin.pause(Some("nowhere"), SOON)),
        Err(PoolCommandError::NoDatabase("nowhere".into()))
    );
    let short = wait(admin.pause(Some(&site.database), Duration::from_millis(50)));
    assert_eq!(short, Err(PoolCommandError::TimedOut), "a transaction is open");
    assert_eq!(pid(&mut open), server, "it goes on");
    let waiter = std::thread::spawn(move || pid(&mut idle));
    eventually("it waits", || {
        wait(admin.pools()).iter().any(|pool| pool.waiting == 1)
    });
    run(&mut open, "COMMIT");
    eventually("all servers are closed", || site.metric("drover_servers") == 0);
    assert_eq!(
        wait(admin.pause(Some(&site.database), SOON)),
        Err(PoolCommandError::Already("paused"))
    );
    // Longer than connection_timeout: a pause is no failure.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waiter.is_finished());
    admin.resume(Some(&site.database)).unwrap();
    assert_ne!(waiter.join().unwrap(), server);
    assert!(matches!(
        admin.resume(Some(&site.database)),
        Err(PoolCommandError::NotPaused(_))
    ));
}

#[test]
fn connections_are_replaced_and_databases_closed_to_newcomers() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.workers = 1;
    });
    let admin = site.admin();
    let mut client = site.client();
    let server = pid(&mut client);
    run(&mut client, "BEGIN");
    assert_eq!(pid(&mut client), server);
    admin.reconnect(None).unwrap();
    assert_eq!(
        wait(admin.wait_close(None, Duration::from_millis(50))),
        Err(PoolCommandError::TimedOut)
    );
    run(&mut client, "COMMIT");
    wait(admin.wait_close(None, SOON)).unwrap();
    assert_ne!(pid(&mut client), server);
    admin.disable(&site.database).unwrap();
    let refused = Client::connect(&site.url(&site.database))
        .expect_err("disabled")
        .to_string();
    assert!(refused.contains("is disabled"), "{refused}");
    run(&mut client, "SELECT 1");
    admin.enable(&site.database).unwrap();
    site.client();
}

#[test]
fn a_kill_ends_sessions_and_newcomers_wait() {
    let site = Site::new(|_| {});
    let admin = site.admin();
    let mut client = site.client();
    run(&mut client, "BEGIN");
    pid(&mut client);
    admin.kill(Some(&site.database)).unwrap();
    assert!(client.simple("SELECT 1").is_err() || client.simple("SELECT 1").is_err());
    eventually("all servers are closed", || site.metric("drover_servers") == 0);
    admin.resume(Some(&site.database)).unwrap();
    run(&mut site.client(), "SELECT 1");
}

#[test]
fn a_view_shows_the_pools() {
    let site = Site::new(|config| {
        config.pool.size = 3;
        config.pool.reserve = 2;
    });
    let mut holder = site.client();
    run(&mut holder, "BEGIN");
    pid(&mut holder);
    let mut client = site.client();
    let answer = run(&mut client, "SELECT * FROM drover.pools");
    let columns: Vec<String> = answer.results[0]
        .columns
        .as_ref()
        .unwrap()
        .iter()
        .map(|column| column.name.clone())
        .collect();
    let rows = answer.text_rows();
    let of = |name: &str| {
        let at = columns.iter().position(|column| column == name).expect(name);
        rows[0][at].clone().unwrap()
    };
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (of("database"), of("shard")),
        (site.database.clone(), "shard_1".into())
    );
    assert_eq!((of("mode"), of("active")), ("transaction".into(), "1".into()));
    assert_eq!((of("pool_size"), of("reserve_pool")), ("3".into(), "2".into()));
    assert_eq!((of("waiting"), of("paused")), ("0".into(), "false".into()));
    assert_eq!(value(&mut holder, "SELECT 1"), "1");
}
