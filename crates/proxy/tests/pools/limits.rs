//! Sizes and limits, of pools, databases, users and the whole proxy.

use std::time::{Duration, Instant};

use proxy::config::{DatabaseConfig, PoolOverrides};
use testkit::client::{Client, Format, Pipeline};

use super::site::{Site, error, eventually, pid, run, value};

/// A second name for the only database.
fn other_name(config: &proxy::config::ProxyConfig) -> DatabaseConfig {
    DatabaseConfig {
        name: "other".into(),
        server_name: Some(config.databases[0].name.clone()),
        ..DatabaseConfig::default()
    }
}

#[test]
fn the_reserve_is_for_those_who_waited() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.pool.reserve = 1;
        config.pool.reserve_timeout = Duration::from_millis(300);
        config.pool.connection_timeout = Duration::from_secs(2);
    });
    let (mut first, mut second, mut third) = (site.client(), site.client(), site.client());
    run(&mut first, "BEGIN");
    let holder = pid(&mut first);
    let start = Instant::now();
    run(&mut second, "BEGIN");
    assert_ne!(pid(&mut second), holder);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    assert_eq!(error(&mut third, "SELECT 1").0, "53300", "there is one, not more");
}

#[test]
fn kept_connections_are_there_from_the_start() {
    let site = Site::new(|config| {
        config.pool.min_size = 2;
        config.workers = 1;
    });
    eventually("two connections", || {
        site.metric("drover_server_logins_total") == 2
    });
    let mut client = site.client();
    pid(&mut client);
    assert_eq!(open(&site), 2, "they are used");
}

#[test]
fn a_limit_over_pools_takes_idle_connections_from_others() {
    let site = Site::new(|config| {
        config.databases.push(other_name(config));
        config.users[0].limits.max_connections = Some(1);
        config.pool.connection_timeout = Duration::from_millis(1500);
    });
    let mut here = site.client();
    let mut there = Client::connect(&site.url("other")).unwrap();
    for _ in 0..3 {
        assert_eq!(value(&mut here, "SELECT 1"), "1");
        assert_eq!(value(&mut there, "SELECT 2"), "2");
        assert!(open(&site) <= 1);
    }
    run(&mut here, "BEGIN");
    pid(&mut here);
    let answer = there.simple("SELECT 1").unwrap();
    let refused = answer.error().expect("the limit holds");
    assert_eq!(refused.sqlstate(), "53300");
    assert!(
        refused
            .field(b'H')
            .is_some_and(|hint| hint.contains("max_user_connections")),
        "{refused:?}"
    );
}

#[test]
fn the_whole_proxy_and_each_database_have_limits() {
    let site = Site::new(|config| {
        let mut other = other_name(config);
        other.max_client_connections = Some(1);
        other.pool = PoolOverrides {
            size: Some(1),
            ..PoolOverrides::default()
        };
        config.databases.push(other);
        config.pool.max_servers = 1;
        config.pool.connection_timeout = Duration::from_millis(1500);
    });
    let mut there = Client::connect(&site.url("other")).unwrap();
    let refused = Client::connect(&site.url("other"))
        .expect_err("one client only")
        .to_string();
    assert!(
        refused.contains("too many connections for database \"other\""),
        "{refused}"
    );
    let mut here = site.client();
    for _ in 0..2 {
        run(&mut here, "SELECT 1");
        run(&mut there, "SELECT 1");
    }
    assert!(open(&site) <= 1);
    let refused = Client::connect(&site.url("nowhere"))
        .expect_err("unknown")
        .to_string();
    assert!(
        refused.contains("database \"nowhere\" does not exist"),
        "{refused}"
    );
}

#[test]
fn those_who_wait_are_served_in_their_order() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.workers = 1;
    });
    let mut holder = site.client();
    run(&mut holder, "CREATE TABLE turns (turn serial, who int)");
    run(&mut holder, "BEGIN");
    pid(&mut holder);
    let waiters: Vec<_> = (0..6)
        .map(|who| {
            let mut client = site.client();
            let before = who as u64;
            eventually("the one before waits", || waiting(&site) == before);
            std::thread::spawn(move || run(&mut client, &format!("INSERT INTO turns (who) VALUES ({who})")))
        })
        .collect();
    eventually("all wait", || waiting(&site) == 6);
    run(&mut holder, "COMMIT");
    // It asks again at once and must not be served before them.
    let served = value(&mut holder, "SELECT count(*) FROM turns");
    assert_eq!(served, "6");
    for waiter in waiters {
        waiter.join().unwrap();
    }
    let order = value(
        &mut holder,
        "SELECT string_agg(who::text, ',' ORDER BY turn) FROM turns",
    );
    assert_eq!(order, "0,1,2,3,4,5");
}

/// Connections for transactions, of all pools.
fn open(site: &Site) -> usize {
    let pools = super::site::wait(site.admin().pools());
    pools.iter().map(|pool| pool.open).sum()
}

fn waiting(site: &Site) -> u64 {
    let pools = super::site::wait(site.admin().pools());
    pools.iter().map(|pool| pool.waiting as u64).sum()
}

/// What a client names is bounded; what it closes makes room.
#[test]
fn a_client_can_name_so_much_and_no_more() {
    let site = Site::new(|config| config.limits.max_client_statements = 3);
    let mut client = site.client();
    let parse = |name: &str| Pipeline::new().parse(name, "SELECT 1", &[]).sync();
    for name in ["a", "b", "c"] {
        assert!(client.run(parse(name)).unwrap().error().is_none(), "{name}");
    }
    let refused = client.run(parse("d")).unwrap();
    assert_eq!(refused.error().expect("one too many").sqlstate(), "53400");
    assert!(client.run(parse("")).unwrap().error().is_none(), "it has no name");
    let closed = client.run(Pipeline::new().close_statement("b").sync()).unwrap();
    assert!(closed.error().is_none());
    assert!(client.run(parse("d")).unwrap().error().is_none(), "there is room");

    run(&mut client, "BEGIN");
    let bind = |portal: &str| Pipeline::new().bind(portal, "a", &[], Format::Text);
    let mut three = client.run(bind("x").sync()).unwrap();
    for portal in ["y", "z"] {
        assert!(three.error().is_none());
        three = client.run(bind(portal).sync()).unwrap();
    }
    let refused = client.run(bind("w").sync()).unwrap();
    assert_eq!(refused.error().expect("one too many").sqlstate(), "53400");
    run(&mut client, "ROLLBACK");
    let run_one = bind("w").execute("w", 0).sync();
    assert_eq!(client.run(run_one).unwrap().value().as_deref(), Some("1"));
}
