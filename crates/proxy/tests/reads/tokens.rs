//! What one session has written, another one sees, through whichever proxy; and nobody goes backwards.

use crate::herd::{Herd, code, on_replica, run, until, value};

#[test]
fn tokens_carry_positions_over_sessions_shards_and_proxies() {
    let herd = Herd::start(2, 1);
    let (one, two) = (herd.proxy("p1"), herd.proxy("p2"));
    let mut writer = one.client();
    run(
        &mut writer,
        "CREATE TABLE t (id bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (1..=20).map(|id| format!("({id}, 0)")).collect();
    run(&mut writer, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
    let mut reader = two.client();
    run(&mut reader, "SET drover.read_from = 'replica'");
    until(|| on_replica(&mut reader));
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "0");
    herd.catch_up(0);
    herd.catch_up(1);
    herd.replay(0, false);
    herd.replay(1, false);
    run(&mut writer, "UPDATE t SET v = 1");
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "0", "from replicas");
    // A session whose reads never leave the primary has a token too.
    let token = value(&mut writer, "SELECT drover.consistency_token()");
    run(&mut reader, &format!("SET drover.consistency_token = '{token}'"));
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "20");
    assert_eq!(value(&mut reader, "SHOW drover.consistency_token"), token);
    let mut eventual =
        two.client_with("options=-c%20drover.read_from%3Dreplica%20-c%20drover.consistency%3Deventual");
    assert_eq!(value(&mut eventual, "SELECT sum(v) FROM t"), "0");
    run(
        &mut eventual,
        &format!("SET drover.consistency_token = '{token}'"),
    );
    assert_eq!(value(&mut eventual, "SELECT sum(v) FROM t"), "20");
    herd.replay(0, true);
    herd.replay(1, true);
    herd.catch_up(0);
    herd.catch_up(1);
    let before = two.metric("drover_reads_on_replica_total");
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "20");
    assert!(
        two.metric("drover_reads_on_replica_total") >= before + 2,
        "both shards"
    );
    for wrong in ["x", "d1-00", &token[..token.len() - 1]] {
        let sql = format!("SET drover.consistency_token = '{wrong}'");
        assert_eq!(code(&mut reader, &sql), "22023", "{wrong}");
    }
    // A place no history contains is a loss, and told once.
    let lost = lost_token(&token);
    run(&mut reader, &format!("SET drover.consistency_token = '{lost}'"));
    assert_eq!(code(&mut reader, "SELECT sum(v) FROM t"), "40003");
    until(|| code(&mut reader, "SELECT sum(v) FROM t").is_empty());
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "20");
    backwards(&herd, &two);
}

/// The same positions in another cluster.
fn lost_token(token: &str) -> String {
    let mut token = replica::Token::parse(token).unwrap();
    for (_, position) in &mut token.positions {
        position.system.0 ^= 1;
    }
    token.to_text()
}

/// What was read from the primary is seen by every later read of a session that never goes backwards.
fn backwards(herd: &Herd, door: &crate::herd::Door) {
    let mut writer = door.client();
    let mut reader = door.client();
    run(&mut reader, "SET drover.read_from = 'replica'");
    run(&mut reader, "SET drover.consistency = 'monotonic'");
    herd.catch_up(0);
    herd.catch_up(1);
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "20");
    herd.replay(0, false);
    herd.replay(1, false);
    run(&mut writer, "UPDATE t SET v = 2");
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "20");
    let hinted = "SELECT sum(v) FROM t /* drover.read_from='primary' */";
    assert_eq!(value(&mut reader, hinted), "40");
    assert_eq!(value(&mut reader, "SELECT sum(v) FROM t"), "40", "not backwards");
    herd.replay(0, true);
    herd.replay(1, true);
}
