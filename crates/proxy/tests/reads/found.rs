//! Standbys that nobody configured.

use testkit::client::Client;

use crate::herd::{Herd, run, until, value};
use crate::torture::signal;

/// From now on a standby tells its primary this name.
fn name(herd: &Herd, standby: &agent::NodeInfo, name: &str) {
    let info = herd.kit.info();
    let has = |shard: &&agent::ShardInfo| shard.replicas.iter().any(|node| node.port == standby.port);
    let primary = &info.shards.iter().find(has).unwrap().primary;
    let conninfo = format!(
        "host={} port={} user={} password={} application_name={name}",
        primary.host,
        primary.port,
        info.admin_user,
        info.admin_password.expose()
    );
    let sql = format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'");
    for sql in [sql.as_str(), "SELECT pg_reload_conf()"] {
        herd.kit.on_node(standby, "postgres", sql);
    }
    let mut admin = herd.admin(primary);
    let listed = format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}'");
    until(|| value(&mut admin, &listed) == "1");
}

/// Host, port and state of the servers, and whether they were found.
fn servers(client: &mut Client) -> Vec<String> {
    let rows = run(client, "SELECT * FROM drover.nodes").text_rows();
    let shown = rows.iter().map(|row| {
        let text = |at: usize| row[at].clone().unwrap_or_default();
        format!("{}:{} {} {}", text(2), text(3), text(6), text(21))
    });
    shown.collect()
}

#[test]
fn standbys_are_found_followed_and_forgotten() {
    let mut herd = Herd::start(1, 2);
    let info = herd.kit.info().clone();
    let (primary, standbys) = (&info.shards[0].primary, &info.shards[0].replicas);
    let at = |node: &agent::NodeInfo| format!("127.0.0.1:{}", node.port);
    for standby in standbys {
        name(&herd, standby, &at(standby));
    }
    herd.hide_replicas();
    let door = herd.proxy("p1");
    let mut client = door.client();
    let first = format!("{} primary false", at(primary));
    let shown = |node: &agent::NodeInfo| format!("{} in true", at(node));
    let all = |client: &mut Client| {
        let mut now = servers(client);
        now.sort();
        now
    };
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    let expected = sorted(vec![first.clone(), shown(&standbys[0]), shown(&standbys[1])]);
    until(|| all(&mut client) == expected);
    // It takes reads, like any other.
    run(&mut client, "CREATE TABLE t (v int)");
    run(&mut client, "SET drover.read_from = 'replica'");
    run(&mut client, "SET drover.replica_wait = '20s'");
    assert_eq!(value(&mut client, "SELECT pg_is_in_recovery()"), "t");
    // Gone, and forgotten.
    signal(&standbys[1], "KILL");
    let expected = sorted(vec![first, shown(&standbys[0])]);
    until(|| all(&mut client) == expected);
    // The same server by another name is not one more, which would be its own rival when it is promoted.
    name(&herd, &standbys[0], &format!("localhost:{}", standbys[0].port));
    herd.catch_up_with(0, 1);
    herd.kit
        .on_node(&standbys[0], &info.database, "SELECT pg_promote()");
    let port = standbys[0].port.to_string();
    let mut writer = door.client();
    until(|| value(&mut writer, "SELECT inet_server_port()") == port);
    run(&mut writer, "INSERT INTO t VALUES (1)");
    let same = |line: &&String| line.contains(&port);
    until(|| servers(&mut writer).iter().filter(same).count() == 1);
}

/// Each shard's standbys are its own, and a read over all shards is read from them.
#[test]
fn standbys_of_every_shard_are_found() {
    let mut herd = Herd::start(2, 1);
    let info = herd.kit.info().clone();
    for shard in &info.shards {
        let standby = &shard.replicas[0];
        name(&herd, standby, &format!("127.0.0.1:{}", standby.port));
    }
    herd.hide_replicas();
    let door = herd.proxy("p1");
    let mut client = door.client();
    let mut expected: Vec<String> = info
        .shards
        .iter()
        .flat_map(|shard| {
            let (primary, standby) = (shard.primary.port, shard.replicas[0].port);
            [
                format!("127.0.0.1:{primary} primary false"),
                format!("127.0.0.1:{standby} in true"),
            ]
        })
        .collect();
    expected.sort();
    until(|| {
        let mut now = servers(&mut client);
        now.sort();
        now == expected
    });
    run(
        &mut client,
        "CREATE TABLE s (id int PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (1..=50).map(|id| format!("({id})")).collect();
    run(&mut client, &format!("INSERT INTO s VALUES {}", rows.join(", ")));
    run(&mut client, "SET drover.read_from = 'replica'");
    run(&mut client, "SET drover.replica_wait = '20s'");
    assert_eq!(value(&mut client, "SELECT count(*) FROM s"), "50");
    let route = run(&mut client, "EXPLAIN (ROUTE) SELECT count(*) FROM s").text_rows();
    let lines: Vec<String> = route.into_iter().flatten().flatten().collect();
    for shard in &info.shards {
        let standby = format!(":{} ", shard.replicas[0].port);
        let is_read = |line: &String| line.starts_with("Read from:") && line.contains(&standby);
        assert!(lines.iter().any(is_read), "{lines:?}");
    }
}
