//! What the proxy does about its servers by itself, and what is left after a client was ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use proxy::names::{Found, Lookup};
use testkit::TestCluster;
use testkit::client::{Client, Pipeline};

use super::site::{Site, eventually, pid, run, value};

/// A name server of the test's own.
#[derive(Default)]
struct NameServer {
    asked: AtomicUsize,
    /// The last byte of the address; 0: it is down.
    says: AtomicU8,
}

impl Lookup for NameServer {
    fn addresses<'a>(&'a self, host: &'a str, port: u16) -> Found<'a> {
        assert_eq!(host, "localhost");
        let says = self.says.load(Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(match says {
            0 => Err(io::Error::other("the name server is down")),
            says => Ok(vec![SocketAddr::from(([10, 0, 0, says], port))]),
        }))
    }
}

impl NameServer {
    /// It answers this from now on, and was asked since, twice: the first answer has been acted upon.
    fn say(&self, says: u8) {
        self.says.store(says, Ordering::SeqCst);
        let before = self.asked.load(Ordering::SeqCst);
        eventually("it is asked", || self.asked.load(Ordering::SeqCst) >= before + 3);
    }
}

#[test]
fn connections_follow_a_name_to_its_new_address() {
    let site = Site::at(TestCluster::shared(1), "localhost", None, |config| {
        config.pool.size = 1;
        config.workers = 1;
        config.pool.dns_max_ttl = Duration::from_millis(20);
    });
    let names = Arc::new(NameServer::default());
    site.shared()
        .names
        .set_lookup(Arc::clone(&names) as Arc<dyn Lookup>);
    names.say(1);
    let mut client = site.client();
    let first = pid(&mut client);
    // Nothing new, and no answer, are no reasons to connect again.
    names.say(1);
    names.say(0);
    assert_eq!(pid(&mut client), first);
    // Inside a transaction the server stays.
    run(&mut client, "BEGIN");
    assert_eq!(pid(&mut client), first);
    names.say(2);
    assert_eq!(pid(&mut client), first);
    run(&mut client, "COMMIT");
    let second = pid(&mut client);
    assert_ne!(second, first);
    names.say(2);
    assert_eq!(pid(&mut client), second);
    let rows = site.shared().names.rows();
    assert_eq!(rows[0].host, "localhost");
    assert_eq!(
        rows[0]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.2"]
    );
}

#[test]
fn a_wildcard_serves_the_databases_that_have_no_entry() {
    let kit = TestCluster::shared(1);
    let other = kit.create_database();
    let site = Site::over(kit, None, |config| {
        config.databases.push("*".into());
        config.databases[1].pool.size = Some(1);
        config.databases[1].max_client_connections = Some(2);
    });
    let mut own = site.client();
    assert_eq!(value(&mut own, "SELECT current_database()"), site.database);
    let mut first = Client::connect(&site.url(&other)).unwrap();
    assert_eq!(value(&mut first, "SELECT current_database()"), other);
    // Its settings are the wildcard's: one server connection, two clients.
    let mut second = Client::connect(&site.url(&other)).unwrap();
    assert_eq!(pid(&mut second), pid(&mut first));
    let refused = Client::connect(&site.url(&other))
        .expect_err("a third one")
        .to_string();
    assert!(refused.contains("53300"), "{refused}");
    let nowhere = Client::connect(&site.url("no_such_database_at_all"));
    assert!(nowhere.expect_err("there is none").to_string().contains("3D000"));
}

/// What a client is in the middle of when an operator ends it, and what it leaves.
#[test]
fn a_killed_client_leaves_its_server_clean() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.workers = 1;
    });
    let mut other = site.client();
    run(&mut other, "CREATE TABLE t (a int)");
    let states: [&[&str]; 5] = [
        &["SET work_mem = '7MB'", "BEGIN", "INSERT INTO t VALUES (1)"],
        &["CREATE TEMP TABLE t (a int)", "SELECT pg_advisory_lock(7)"],
        &[
            "SELECT set_config('my.word', 'mine', false)",
            "PREPARE p AS SELECT 1",
        ],
        &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT"],
        &["SET ROLE pg_monitor", "BEGIN", "SELECT 1/0"],
    ];
    for state in states {
        let mut client = site.client();
        for sql in state {
            client.simple(sql).unwrap();
        }
        let id = client.process_id().unwrap();
        assert!(site.shared().kill_client(id), "{state:?}");
        let ended = format!("{:?}", client.next_message());
        assert!(ended.contains("57P01"), "{ended}");
        clean(&mut other, &format!("{state:?}"));
    }
    // And while a statement runs.
    let mut client = site.client();
    let text = "INSERT INTO t SELECT 1 FROM pg_sleep(60)";
    client.send(Pipeline::new().query(text).bytes()).unwrap();
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t SELECT%'";
    let mut direct = Client::connect(&server_url(&site)).unwrap();
    eventually("it runs", || value(&mut direct, running) == "1");
    assert!(site.shared().kill_client(client.process_id().unwrap()));
    clean(&mut other, "a statement");
    let answer = client.collect(1).unwrap();
    assert_eq!(answer.error().expect("cancelled").sqlstate(), "57014");
    let ended = format!("{:?}", client.next_message());
    assert!(ended.contains("57P01"), "{ended}");
    assert_eq!(
        site.metric("drover_servers_discarded_total"),
        0,
        "a ROLLBACK, not a connection"
    );
}

fn server_url(site: &Site) -> String {
    let info = TestCluster::shared(1).info();
    let (user, password) = (&info.admin_user, info.admin_password.expose());
    let (host, port) = (&info.shards[0].primary.host, info.shards[0].primary.port);
    format!("postgresql://{user}:{password}@{host}:{port}/{}", site.database)
}

/// The next client of the only server sees nothing of the one before.
#[track_caller]
fn clean(other: &mut Client, what: &str) {
    let state = "SELECT concat_ws(' ', (SELECT count(*) FROM public.t), current_setting('work_mem'), \
         nullif(current_setting('my.word', true), ''), \
         current_user = session_user, pg_my_temp_schema()::int4, \
         (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'), \
         (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors))";
    let seen = value(other, state);
    let parts: Vec<&str> = seen.split(' ').collect();
    assert_eq!(parts.len(), 7, "{what}: {seen}");
    assert_eq!(
        (parts[0], parts[1], parts[2]),
        ("0", "4MB", "t"),
        "{what}: {seen}"
    );
    assert_eq!(&parts[4..], ["0", "0", "0"], "{what}: {seen}");
}
