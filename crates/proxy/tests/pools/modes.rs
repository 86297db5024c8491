//! Session, transaction and statement mode.

use proxy::config::{DatabaseConfig, PoolMode};
use testkit::client::Client;

use super::site::{Site, error, eventually, pid, run, value};

#[test]
fn session_mode_keeps_the_server_and_hands_it_on_clean() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.pool.mode = PoolMode::Session;
    });
    let mut first = site.client();
    let server = pid(&mut first);
    run(&mut first, "CREATE TEMP TABLE mine (a int)");
    run(&mut first, "SET work_mem = '7MB'");
    run(&mut first, "SELECT pg_advisory_lock(7)");
    run(&mut first, "PREPARE p AS SELECT 1");
    assert_eq!(pid(&mut first), server);
    assert_eq!(value(&mut first, "SELECT count(*) FROM mine"), "0");
    first.close();
    let mut second = site.client();
    assert_eq!(pid(&mut second), server, "the connection is reused");
    assert_eq!(
        value(&mut second, "SELECT to_regclass('pg_temp.mine') IS NULL"),
        "t"
    );
    assert_ne!(value(&mut second, "SHOW work_mem"), "7MB");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    assert_eq!(value(&mut second, locks), "0");
    assert_eq!(error(&mut second, "EXECUTE p").0, "26000");
}

#[test]
fn a_session_waits_for_a_server_that_a_session_holds() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.pool.mode = PoolMode::Session;
        config.pool.connection_timeout = std::time::Duration::from_millis(300);
        // The second client can be greeted without a server.
        config.workers = 1;
    });
    let mut first = site.client();
    pid(&mut first);
    let mut second = site.client();
    assert_eq!(error(&mut second, "SELECT 1").0, "53300");
    first.close();
    eventually("the server is free", || {
        second.simple("SELECT 1").unwrap().errors.is_empty()
    });
}

#[test]
fn statement_mode_refuses_blocks() {
    let site = Site::new(|config| {
        let name = config.databases[0].name.clone();
        config.databases.push(DatabaseConfig {
            name: "statements".into(),
            server_name: Some(name),
            pool: proxy::config::PoolOverrides {
                mode: Some(PoolMode::Statement),
                ..Default::default()
            },
            ..DatabaseConfig::default()
        });
    });
    let mut client = Client::connect(&site.url("statements")).unwrap();
    assert_eq!(value(&mut client, "SELECT current_database()"), site.database);
    for sql in ["BEGIN", "START TRANSACTION", "BEGIN; SELECT 1; COMMIT"] {
        let (code, text) = error(&mut client, sql);
        assert_eq!(
            (code.as_str(), text.as_str()),
            (
                "0A000",
                "transaction blocks not allowed in statement pooling mode"
            ),
            "{sql}"
        );
        assert_eq!(client.status(), b'I');
    }
    run(&mut client, "SELECT 1; SELECT 2");
    // The same database by its other name is in transaction mode.
    let mut client = site.client();
    run(&mut client, "BEGIN");
    run(&mut client, "COMMIT");
}
