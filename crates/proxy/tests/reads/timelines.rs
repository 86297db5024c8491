//! What sessions have seen, and what they have written, across a promotion that not every replica follows.

use std::time::Duration;

use testkit::client::Client;

use crate::herd::{Door, Herd, code, run, shown, until, value};

/// Promotes a replica, and waits until the proxy writes there.
fn promote(herd: &Herd, door: &Door, heir: &agent::NodeInfo) {
    let database = &herd.kit.info().database;
    herd.kit.on_node(heir, database, "SELECT pg_promote()");
    let mut client = door.client();
    let port = Some(heir.port.to_string());
    until(|| client.simple("SELECT inet_server_port()").unwrap().value() == port);
}

fn reader(door: &Door, consistency: &str) -> Client {
    let mut client = door.client();
    run(&mut client, "SET drover.read_from = 'replica'");
    run(&mut client, &format!("SET drover.consistency = '{consistency}'"));
    client
}

/// A session has seen, on a replica, what the new primary never had: it is told so, once, and goes on from there.
#[test]
fn what_was_seen_on_a_line_that_was_left_is_lost() {
    let herd = Herd::start(1, 2);
    let door = herd.proxy("p1");
    let info = herd.kit.info().clone();
    let (other, heir) = (&info.shards[0].replicas[0], &info.shards[0].replicas[1]);
    let mut writer = door.client();
    run(&mut writer, "CREATE TABLE t (v int)");
    run(&mut writer, "INSERT INTO t VALUES (1)");
    let mut unharmed = reader(&door, "monotonic");
    until(|| value(&mut unharmed, "SELECT v FROM t") == "1");
    herd.catch_up(0);
    // The heir hears no more of what is written.
    for sql in [
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ] {
        herd.kit.on_node(heir, &info.database, sql);
    }
    let mut direct = herd.admin(heir);
    until(|| value(&mut direct, "SELECT count(*) FROM pg_stat_wal_receiver") == "0");
    run(&mut writer, "UPDATE t SET v = 2");
    herd.catch_up_with(0, 1);
    let mut seer = reader(&door, "monotonic");
    let there = format!("2 {}", other.port);
    until(|| value(&mut seer, "SELECT v || ' ' || inet_server_port() FROM t") == there);
    promote(&herd, &door, heir);
    assert_eq!(code(&mut seer, "SELECT v FROM t"), "40003");
    for _ in 0..20 {
        assert_eq!(value(&mut seer, "SELECT v FROM t"), "1");
        assert_eq!(
            value(&mut unharmed, "SELECT v FROM t"),
            "1",
            "nothing was lost for it"
        );
    }
    run(&mut writer, "UPDATE t SET v = 3");
    let hinted = "SELECT v FROM t /* drover.read_from='primary' */";
    assert_eq!(value(&mut unharmed, hinted), "3");
    for _ in 0..20 {
        assert_eq!(value(&mut unharmed, "SELECT v FROM t"), "3", "not backwards");
    }
}

/// A replica that goes on with the old primary gets further and further, by the number of its position, and never has what
/// was written on the new one.
#[test]
fn a_position_on_another_line_is_another_position() {
    let mut herd = Herd::start(1, 2);
    // However old its data are.
    herd.replica_config().lag_max = Duration::ZERO;
    let door = herd.proxy("p1");
    let info = herd.kit.info().clone();
    let (old, other, heir) = (
        &info.shards[0].primary,
        &info.shards[0].replicas[0],
        &info.shards[0].replicas[1],
    );
    let mut client = reader(&door, "read_your_writes");
    run(&mut client, "CREATE TABLE t (v int)");
    run(&mut client, "CREATE TABLE filler (v text)");
    herd.catch_up(0);
    promote(&herd, &door, heir);
    // What was seen of the servers last is what is known of them from now on.
    door.change(|config| config.poll_interval = Duration::from_secs(3600));
    let seen_ms = |client: &mut Client| -> u64 { shown(client, other, "seen_ms").parse().unwrap() };
    until(|| seen_ms(&mut client) > 2000);
    let fill = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
    run(&mut herd.direct(old), fill);
    herd.catch_up_with(0, 1);
    assert_eq!(
        value(&mut herd.direct(other), "SELECT count(*) FROM filler"),
        "5000"
    );
    // Who has to have nothing may still be served there. What it saw was lost, and it is told.
    let mut seer = reader(&door, "monotonic");
    let filler = "SELECT count(*) FROM filler";
    if value(&mut seer, filler) == "5000" {
        assert_eq!(code(&mut seer, filler), "40003");
    }
    assert_eq!(value(&mut seer, filler), "0");
    let mut onward = reader(&door, "monotonic");
    for count in 1..=20 {
        run(&mut client, "INSERT INTO t VALUES (1)");
        assert_eq!(value(&mut client, "SELECT count(*) FROM t"), count.to_string());
        let hinted = "SELECT count(*) FROM t /* drover.read_from='primary' */";
        assert_eq!(value(&mut onward, hinted), count.to_string());
        assert_eq!(value(&mut onward, "SELECT count(*) FROM t"), count.to_string());
    }
}
