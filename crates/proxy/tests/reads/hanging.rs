//! A primary that is frozen: it closes no connection and answers nobody.

use testkit::client::{Client, Pipeline};

use crate::herd::{Door, Herd, code, run, until, value};
use crate::torture::signal;

/// Statements that come while it is frozen.
const WAITING: usize = 6;

struct Scene {
    herd: Herd,
    door: Door,
    /// Has been idle all the time.
    idle: Client,
    /// Waits for the answer to a statement that began before.
    sent: Client,
    /// Holds what that statement waits for, past any proxy.
    lock: Client,
    /// Their statements have not begun.
    waiting: Vec<Client>,
}

impl Scene {
    /// The primary stands still, and the proxy knows.
    fn frozen() -> Self {
        let herd = Herd::start(1, 1);
        let door = herd.proxy("p1");
        let primary = herd.kit.info().shards[0].primary.clone();
        let mut idle = door.client();
        run(&mut idle, "CREATE TABLE t (id int)");
        run(&mut idle, "CREATE TABLE l (v int)");
        run(&mut idle, "INSERT INTO l VALUES (0)");
        let mut waiting: Vec<Client> = (0..WAITING).map(|_| door.client()).collect();
        for client in &mut waiting {
            run(client, "SELECT 1");
        }
        let mut lock = herd.direct(&primary);
        run(&mut lock, "BEGIN");
        run(&mut lock, "UPDATE l SET v = 1");
        let mut sent = door.client();
        let batch = Pipeline::new().query("UPDATE l SET v = v + 10");
        sent.send(batch.bytes()).unwrap();
        let mut admin = herd.admin(&primary);
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until(|| value(&mut admin, blocked) == "1");
        herd.catch_up(0);
        signal(&primary, "STOP");
        let mut watching = door.client();
        until(|| state_of(&mut watching, &primary) == "hanging");
        let waits = door.metric("drover_checkout_waits_total");
        for (id, client) in waiting.iter_mut().enumerate() {
            let statement = Pipeline::new().query(&format!("INSERT INTO t VALUES ({id})"));
            client.send(statement.bytes()).unwrap();
        }
        until(|| door.metric("drover_checkout_waits_total") >= waits + WAITING as u64);
        let scene = Self {
            herd,
            door,
            idle,
            sent,
            lock,
            waiting,
        };
        scene.bounds();
        scene
    }

    /// A session that does not want to wait so long, or not behind so many, is told.
    fn bounds(&self) {
        let mut hasty = self.door.client();
        run(&mut hasty, "SET drover.failover_buffer_ms = 100");
        assert_eq!(code(&mut hasty, "INSERT INTO t VALUES (100)"), "08006");
        run(&mut hasty, "SET drover.failover_buffer_statements = 0");
        assert_eq!(code(&mut hasty, "INSERT INTO t VALUES (100)"), "53300");
    }

    /// Everybody who waited is answered, and has written once.
    fn answered(&mut self) {
        for client in &mut self.waiting {
            let answer = client.collect(1).unwrap();
            assert_eq!(answer.errors, []);
            assert_eq!(answer.tags(), ["INSERT 0 1"]);
        }
        let ids = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || max(id) FROM t";
        let expected = format!("{WAITING} {WAITING} {}", WAITING - 1);
        assert_eq!(value(&mut self.idle, ids), expected);
    }
}

/// What operators see of a server.
fn state_of(client: &mut Client, node: &agent::NodeInfo) -> String {
    let rows = run(client, "SELECT * FROM drover.nodes").text_rows();
    let port = node.port.to_string();
    let row = rows.iter().find(|row| row[3].as_deref() == Some(&port)).unwrap();
    row[6].clone().unwrap_or_default()
}

#[test]
fn statements_wait_for_a_primary_that_goes_on() {
    let mut scene = Scene::frozen();
    signal(&scene.herd.kit.info().shards[0].primary, "CONT");
    scene.answered();
    run(&mut scene.lock, "COMMIT");
    let answer = scene.sent.collect(1).unwrap();
    assert_eq!(answer.errors, []);
    assert_eq!(value(&mut scene.sent, "SELECT v FROM l"), "11", "once");
}

#[test]
fn statements_wait_for_the_successor_of_a_primary_that_is_frozen() {
    let mut scene = Scene::frozen();
    let info = scene.herd.kit.info().clone();
    let (old, heir) = (&info.shards[0].primary, &info.shards[0].replicas[0]);
    scene
        .herd
        .kit
        .on_node(heir, &info.database, "SELECT pg_promote()");
    scene.answered();
    // The one that was sent may have been done, for all anybody knows: its client is told, once.
    let answer = scene.sent.collect(1).unwrap();
    assert_eq!(answer.error().unwrap().sqlstate(), "08006");
    assert_eq!(value(&mut scene.sent, "SELECT v FROM l"), "0");
    // The old one goes on, and gets nothing.
    signal(old, "CONT");
    run(&mut scene.lock, "COMMIT");
    let mut watching = scene.door.client();
    until(|| state_of(&mut watching, old) == "primary");
    run(&mut scene.idle, "INSERT INTO t VALUES (50)");
    assert_eq!(value(&mut scene.herd.direct(old), "SELECT count(*) FROM t"), "0");
    assert_eq!(value(&mut scene.idle, "SELECT max(id) FROM t"), "50");
}
