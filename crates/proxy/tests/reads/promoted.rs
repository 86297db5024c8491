//! A replica that is promoted by somebody: what sessions are told, and what proxies that have not seen it believe.

use crate::herd::{Herd, code, run, until, value};
use crate::torture::signal;

#[test]
fn what_a_promotion_takes_away_is_told_once_and_the_old_primary_is_over() {
    let herd = Herd::start(1, 2);
    let door = herd.proxy("p1");
    let info = herd.kit.info().clone();
    let shard = &info.shards[0];
    let heir = &shard.replicas[0];
    let mut reader = door.client();
    run(&mut reader, "CREATE TABLE t (v int)");
    run(&mut reader, "INSERT INTO t VALUES (1)");
    run(&mut reader, "SET drover.read_from = 'replica'");
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
    run(&mut reader, "UPDATE t SET v = 2");
    assert_eq!(value(&mut reader, "SELECT v FROM t"), "2");
    let mut writer = door.client();
    run(&mut writer, "BEGIN");
    run(&mut writer, "INSERT INTO t VALUES (3)");
    let mut idle = door.client();
    herd.kit.on_node(heir, &info.database, "SELECT pg_promote()");
    let port = heir.port.to_string();
    // What the old primary was just working on is lost; what comes then waits for the new one.
    until(|| idle.simple("SELECT inet_server_port()").unwrap().value() == Some(port.clone()));
    // The open transaction, once; the lost write, once.
    assert_eq!(code(&mut writer, "SELECT 1"), "08006");
    assert_eq!(code(&mut writer, "ROLLBACK"), "");
    run(&mut writer, "INSERT INTO t VALUES (4)");
    assert_eq!(code(&mut reader, "SELECT v FROM t ORDER BY v"), "40003");
    assert_eq!(value(&mut reader, "SELECT v FROM t ORDER BY v"), "1");
    assert_eq!(value(&mut reader, "SELECT count(*) FROM t"), "2");
    // The new primary dies. A proxy that is started now sees only the old one, which takes writes.
    until(|| herd.marks() == [2]);
    signal(heir, "KILL");
    assert_eq!(
        value(&mut herd.direct(&shard.primary), "SELECT pg_is_in_recovery()"),
        "f"
    );
    let Err(refused) = herd.try_proxy("p2") else {
        panic!("the old primary is believed");
    };
    assert!(refused.contains("replaced by another one"), "{refused}");
}

/// The other shard's part is cancelled when one replica dies; that must not be taken for a cancel of the client's.
#[test]
fn a_read_over_shards_runs_again_when_one_replica_dies() {
    let herd = Herd::start(2, 1);
    let door = herd.proxy("p1");
    let mut client = door.client();
    run(
        &mut client,
        "CREATE TABLE s (id bigint PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (0..50).map(|id| format!("({id})")).collect();
    run(&mut client, &format!("INSERT INTO s VALUES {}", rows.join(", ")));
    herd.catch_up(0);
    herd.catch_up(1);
    run(&mut client, "SET drover.read_from = 'replica'");
    run(&mut client, "SET drover.replica_wait = '20s'");
    // It keeps each shard busy for a while.
    let sql = "SELECT count(*) FROM s WHERE md5(repeat(id::text, 8000000)) <> ''";
    let before = door.metric("drover_reads_again_total");
    let dying = herd.kit.info().shards[1].replicas[0].clone();
    let mut watching = herd.admin(&dying);
    let reading = std::thread::spawn(move || value(&mut client, sql));
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%md5%repeat%' AND pid <> pg_backend_pid()";
    until(|| value(&mut watching, running) != "0");
    drop(watching);
    signal(&dying, "KILL");
    assert_eq!(reading.join().unwrap(), "50");
    assert!(door.metric("drover_reads_again_total") > before);
}
