//! Where statements, transactions and pipelines are read.

use testkit::client::{Client, Extended, Pipeline};

use crate::herd::{Herd, code, on_replica, on_replica_extended, run, until, value};

fn reader(door: &crate::herd::Door) -> Client {
    let mut client = door.client();
    run(&mut client, "SET drover.read_from = 'replica'");
    client
}

#[test]
fn reads_go_to_replicas_and_nothing_else_does() {
    let herd = Herd::start(1, 2);
    let door = herd.proxy("p1");
    let mut plain = door.client();
    run(&mut plain, "CREATE SEQUENCE seq");
    run(&mut plain, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    // The operator vouches for this one.
    let create = "CREATE FUNCTION lies() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT nextval('seq') $$";
    run(&mut plain, create);
    run(&mut plain, "INSERT INTO t VALUES (1, 10)");
    assert!(!on_replica(&mut plain), "the default is the primary");
    autocommit(&herd, &door);
    transactions(&door);
    pipelines(&herd, &door);
    settings(&herd, &door);
    lies(&door);
    leavings(&door);
    short_way(&door);
    never_backwards(&herd, &door);
    what_libpq_asks_for(&door);
}

/// What a statement leaves on its server belongs to the session: sessions share replicas.
fn leavings(door: &crate::herd::Door) {
    let mut plain = door.client();
    let texts = [
        ("locks", "'SELECT pg_advisory_lock(55)'"),
        ("sets", "$x$ SELECT set_config('my.left', 'v', false) $x$"),
    ];
    for (name, text) in texts {
        let create = format!("CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql STABLE");
        run(
            &mut plain,
            &format!("{create} AS $$ BEGIN EXECUTE {text}; RETURN 1; END $$"),
        );
    }
    let mut one = reader(door);
    until(|| on_replica(&mut one));
    run(&mut one, "SELECT locks()");
    let tried = "SELECT pg_try_advisory_lock(55)";
    assert_eq!(value(&mut plain, tried), "f", "the lock is on the primary");
    run(&mut one, "SELECT pg_advisory_unlock_all()");
    assert_eq!(value(&mut plain, tried), "t");
    run(&mut one, "SELECT sets()");
    assert_eq!(value(&mut one, "SELECT current_setting('my.left', true)"), "v");
    // What servers do not know of is not lost when the session is looked at.
    run(&mut one, "SET drover.consistency = 'monotonic'");
    run(&mut one, "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$");
    run(&mut one, "SELECT sets()");
    for (name, kept) in [("read_from", "replica"), ("consistency", "monotonic")] {
        assert_eq!(value(&mut one, &format!("SHOW drover.{name}")), kept);
    }
    run(&mut one, "SELECT set_config('drover.read_from', 'any', false)");
    assert_eq!(value(&mut one, "SHOW drover.read_from"), "any");
    let wrong = run(&mut one, "SELECT set_config('drover.read_from', 'moon', false)");
    assert_eq!(wrong.notices.len(), 1, "{wrong:?}");
    assert_eq!(value(&mut one, "SHOW drover.read_from"), "any");
    let there = "SELECT current_setting('drover.read_from', true)";
    assert_eq!(value(&mut plain, there), "", "it is nobody else's");
}

/// What is known of replicas is asked once; after that reads take the short way.
fn short_way(door: &crate::herd::Door) {
    let mut client = reader(door);
    until(|| on_replica(&mut client));
    let counts =
        || ["drover_transactions_short_total", "drover_reads_on_replica_total"].map(|name| door.metric(name));
    for consistency in ["read_your_writes", "monotonic", "bounded 60s", "eventual"] {
        run(&mut client, &format!("SET drover.consistency = '{consistency}'"));
        let taken = || door.metric("drover_positions_taken_total");
        let before = taken();
        by_the_short_way(&mut client, counts);
        // What was read is not to be forgotten, whichever way it came; once is enough.
        if consistency == "monotonic" {
            // The last one comes behind the answer.
            until(|| taken() - before >= 30);
            assert!(taken() - before < 50);
        }
    }
    run(&mut client, "SET drover.consistency = 'read_your_writes'");
    // An error is the statement's own, a large answer is whole, and the session goes on.
    assert_eq!(code(&mut client, "SELECT 1 / (v - v) FROM t"), "22012");
    let answer = client
        .extended(&Extended::new("SELECT 1 / (v - v) FROM t"))
        .unwrap();
    assert_eq!(answer.error().unwrap().sqlstate(), "22012");
    for _ in 0..3 {
        let rows = run(
            &mut client,
            "SELECT repeat('x', 1000) FROM generate_series(1, 2000)",
        );
        assert_eq!(rows.results[0].rows.len(), 2000);
    }
}

/// One replica stands still, the other goes on: what was read from that one is not forgotten on the first, by the short
/// way neither.
fn never_backwards(herd: &Herd, door: &crate::herd::Door) {
    let info = herd.kit.info();
    let [still, moving] = &info.shards[0].replicas[..] else {
        panic!("two replicas");
    };
    let mut client = reader(door);
    run(&mut client, "SET drover.consistency = 'monotonic'");
    let sql = "SELECT v, inet_server_port() FROM t WHERE id = 1";
    let mut read = |extended: bool| {
        let answer = match extended {
            true => client.run(batch_of(sql)).unwrap(),
            false => run(&mut client, sql),
        };
        assert_eq!(answer.errors, []);
        let row = answer.text_rows().remove(0);
        (row[0].clone().unwrap(), row[1].clone().unwrap())
    };
    read(false);
    herd.catch_up(0);
    let mut admin = herd.admin(still);
    run(&mut admin, "SELECT pg_wal_replay_pause()");
    until(|| value(&mut admin, "SELECT pg_get_wal_replay_pause_state()") == "paused");
    // What both have is known, so that neither is asked again.
    for replica in [still, moving] {
        let port = replica.port.to_string();
        until(|| read(true).1 == port);
        until(|| read(false).1 == port);
    }
    let old = read(false).0;
    let mut plain = door.client();
    run(&mut plain, "UPDATE t SET v = v + 1000");
    let mut direct = herd.direct(moving);
    until(|| value(&mut direct, "SELECT v FROM t WHERE id = 1") != old);
    until(|| read(false).0 != old);
    for round in 0..100 {
        let (found, port) = read(round >= 50);
        assert_ne!(found, old, "read on {port}");
    }
    run(&mut plain, "UPDATE t SET v = v - 1000");
    run(&mut admin, "SELECT pg_wal_replay_resume()");
    herd.catch_up(0);
}

/// What most drivers send for one statement.
fn batch_of(sql: &str) -> Pipeline {
    Pipeline::new()
        .parse("", sql, &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .describe_portal("")
        .execute("", 0)
        .sync()
}

fn by_the_short_way(client: &mut Client, counts: impl Fn() -> [u64; 2]) {
    let before = counts();
    for _ in 0..20 {
        run(client, "SELECT v FROM t WHERE id = 1");
        let batch = batch_of("SELECT v FROM t WHERE id = 1");
        assert_eq!(client.run(batch).unwrap().errors, []);
    }
    let after = counts();
    assert!(after[0] - before[0] >= 30, "{before:?} {after:?}");
    // On a busy machine the primary may help out.
    assert!(after[1] - before[1] >= 30, "{before:?} {after:?}");
}

/// `target_session_attrs` as libpq checks it.
fn what_libpq_asks_for(door: &crate::herd::Door) {
    let accepts = |attributes: &str, settings: &[&str]| {
        let options: Vec<String> = settings
            .iter()
            .map(|setting| format!("-c%20{}", setting.replace('=', "%3D")))
            .collect();
        let url = format!(
            "{}?target_session_attrs={attributes}&options={}",
            door.url(),
            options.join("%20")
        );
        let output = std::process::Command::new("psql")
            .args(["-XAtqc", "SELECT 1", &url])
            .output()
            .unwrap();
        output.status.success()
    };
    let replica = "drover.read_from=replica";
    let read_only = "default_transaction_read_only=on";
    for (attributes, expected) in [
        // Nothing said; reads on replicas; and no writes besides.
        ("any", [true, true, true]),
        ("read-write", [true, true, false]),
        ("read-only", [false, false, true]),
        ("primary", [true, true, false]),
        ("standby", [false, false, true]),
        ("prefer-standby", [true, true, true]),
    ] {
        let found =
            [&[][..], &[replica], &[replica, read_only]].map(|settings| accepts(attributes, settings));
        assert_eq!(found, expected, "{attributes}");
    }
}

fn autocommit(herd: &Herd, door: &crate::herd::Door) {
    let mut client = reader(door);
    until(|| on_replica(&mut client));
    assert!(on_replica_extended(&mut client));
    assert_eq!(value(&mut client, "SELECT v FROM t WHERE id = 1"), "10");
    assert_eq!(value(&mut client, "SELECT nextval('seq')"), "1");
    run(&mut client, "SELECT * FROM t FOR UPDATE");
    // Both replicas stand still: a read that must see the write goes to the primary, one that need not does not.
    herd.catch_up(0);
    herd.replay(0, false);
    assert!(on_replica(&mut client));
    run(&mut client, "UPDATE t SET v = 11");
    assert_eq!(value(&mut client, "SELECT v FROM t"), "11");
    assert!(!on_replica(&mut client));
    assert!(!on_replica_extended(&mut client));
    run(&mut client, "SET drover.consistency = 'eventual'");
    assert_eq!(value(&mut client, "SELECT v FROM t"), "10");
    assert!(on_replica(&mut client));
    run(&mut client, "SET drover.consistency = 'read_your_writes'");
    assert_eq!(value(&mut client, "SELECT v FROM t"), "11");
    // A session that wrote nothing sees what there is; a session that asks for recent data does not go there.
    let mut other = reader(door);
    assert_eq!(value(&mut other, "SELECT v FROM t"), "10");
    run(&mut other, "SET drover.consistency = 'bounded 200ms'");
    until(|| value(&mut other, "SELECT v FROM t") == "11");
    run(&mut other, "SET drover.consistency = 'strong'");
    assert_eq!(value(&mut other, "SELECT v FROM t"), "11");
    herd.replay(0, true);
    herd.catch_up(0);
    assert!(on_replica(&mut client));
    assert_eq!(value(&mut client, "SELECT v FROM t"), "11");
    run(&mut client, "UPDATE t SET v = 10");
    // A wait instead of the primary.
    run(&mut client, "SET drover.replica_wait = '20s'");
    for round in 0..20 {
        run(&mut client, &format!("UPDATE t SET v = {round}"));
        assert!(on_replica(&mut client));
        assert_eq!(value(&mut client, "SELECT v FROM t"), round.to_string());
    }
}

fn transactions(door: &crate::herd::Door) {
    let mut client = reader(door);
    run(&mut client, "SET drover.replica_wait = '20s'");
    run(&mut client, "BEGIN");
    assert!(!on_replica(&mut client), "it may write");
    run(&mut client, "COMMIT");
    for begin in [
        "BEGIN READ ONLY",
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
    ] {
        run(&mut client, begin);
        let port = value(&mut client, "SELECT inet_server_port()");
        assert!(on_replica(&mut client));
        run(&mut client, "SAVEPOINT a");
        run(&mut client, "SET LOCAL work_mem = '5MB'");
        assert_eq!(value(&mut client, "SHOW work_mem"), "5MB");
        run(&mut client, "DECLARE c CURSOR FOR SELECT id FROM t");
        assert_eq!(value(&mut client, "FETCH c"), "1");
        run(&mut client, "ROLLBACK TO a");
        for _ in 0..10 {
            assert_eq!(
                value(&mut client, "SELECT inet_server_port()"),
                port,
                "one replica"
            );
        }
        let refused = code(&mut client, "INSERT INTO t VALUES (2, 2)");
        assert_eq!(refused, "0A000", "a cursor was opened");
        run(&mut client, "ROLLBACK");
    }
    let token = value(&mut client, "SELECT drover.consistency_token()");
    run(&mut client, "BEGIN READ ONLY");
    assert!(on_replica(&mut client));
    let set = format!("SET drover.consistency_token = '{token}'");
    assert_eq!(code(&mut client, &set), "0A000", "the block stays where it is");
    run(&mut client, "ROLLBACK");
    run(&mut client, &set);
    // What needs the primary takes the whole block there.
    run(&mut client, "BEGIN READ ONLY");
    run(&mut client, "SET LOCAL work_mem = '6MB'");
    assert!(on_replica(&mut client));
    assert_eq!(value(&mut client, "SELECT random() < 2"), "t");
    assert!(!on_replica(&mut client));
    assert_eq!(value(&mut client, "SHOW work_mem"), "6MB");
    assert_eq!(code(&mut client, "SELECT nextval('seq')"), "25006");
    run(&mut client, "ROLLBACK");
    run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    assert!(on_replica(&mut client));
    assert_eq!(code(&mut client, "SELECT random()"), "0A000");
    run(&mut client, "ROLLBACK");
    // SERIALIZABLE does not exist there.
    run(&mut client, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY");
    assert!(!on_replica(&mut client));
    run(&mut client, "COMMIT");
    run(&mut client, "SET default_transaction_read_only = on");
    run(&mut client, "BEGIN");
    assert!(on_replica(&mut client));
    run(&mut client, "COMMIT");
    run(&mut client, "BEGIN READ WRITE");
    assert!(!on_replica(&mut client));
    run(&mut client, "COMMIT");
    run(&mut client, "RESET default_transaction_read_only");
    run(&mut client, "BEGIN");
    run(&mut client, "SET TRANSACTION READ ONLY");
    assert!(on_replica(&mut client), "said before anything else");
    run(&mut client, "COMMIT");
    run(&mut client, "BEGIN");
    run(&mut client, "SELECT v FROM t");
    run(&mut client, "SET TRANSACTION READ ONLY");
    assert!(!on_replica(&mut client), "it has begun on the primary");
    run(&mut client, "COMMIT");
    // Several statements in one message are a transaction that may write.
    let answer = run(&mut client, "SELECT 1; SELECT pg_is_in_recovery()");
    assert_eq!(answer.results[1].rows, vec![vec![Some(b"f".to_vec())]]);
    run(&mut client, "UPDATE t SET v = 77; SELECT 1");
    assert_eq!(value(&mut client, "SELECT v FROM t WHERE id = 1"), "77");
}

fn pipelines(herd: &Herd, door: &crate::herd::Door) {
    let mut client = reader(door);
    let read = "SELECT v, pg_is_in_recovery() FROM t WHERE id = 1";
    let rows = |answer: &testkit::client::Answer, at: usize| -> Vec<String> {
        let row = &answer.results[at].rows[0];
        let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
        row.iter().map(text).collect()
    };
    run(&mut client, "UPDATE t SET v = 1 WHERE id = 1");
    herd.catch_up(0);
    let two_reads = Pipeline::new()
        .parse("", read, &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .execute("", 0)
        .parse("", read, &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .execute("", 0)
        .sync();
    let answer = client.run(two_reads).unwrap();
    assert_eq!(answer.errors, []);
    assert_eq!(
        (rows(&answer, 0), rows(&answer, 1)),
        (vec!["1".into(), "t".into()], vec!["1".into(), "t".into()])
    );
    // A write behind a read goes on with the primary, and so does the read behind it.
    let mixed = Pipeline::new()
        .parse("", read, &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .execute("", 0)
        .parse("", "UPDATE t SET v = 2 WHERE id = 1", &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .execute("", 0)
        .parse("", read, &[])
        .bind("", "", &[], testkit::client::Format::Text)
        .execute("", 0)
        .sync();
    let answer = client.run(mixed).unwrap();
    assert_eq!(answer.errors, []);
    assert_eq!(rows(&answer, 0), ["1", "t"]);
    assert_eq!(rows(&answer, 2), ["2", "f"]);
    // A named statement is split at each execution.
    let prepare = Pipeline::new()
        .parse("named", read, &[])
        .describe_statement("named")
        .sync();
    assert_eq!(client.run(prepare).unwrap().errors, []);
    herd.catch_up(0);
    let execute = || {
        Pipeline::new()
            .bind("", "named", &[], testkit::client::Format::Text)
            .execute("", 0)
            .sync()
    };
    assert_eq!(rows(&client.run(execute()).unwrap(), 0), ["2", "t"]);
    herd.replay(0, false);
    run(&mut client, "UPDATE t SET v = 3 WHERE id = 1");
    assert_eq!(rows(&client.run(execute()).unwrap(), 0), ["3", "f"]);
    herd.replay(0, true);
    herd.catch_up(0);
    assert_eq!(rows(&client.run(execute()).unwrap(), 0), ["3", "t"]);
}

fn settings(herd: &Herd, door: &crate::herd::Door) {
    let mut client = door.client();
    assert_eq!(value(&mut client, "SHOW drover.read_from"), "primary");
    assert_eq!(value(&mut client, "SHOW drover.consistency"), "strong");
    assert!(
        value(
            &mut client,
            "SELECT pg_is_in_recovery() /* drover.read_from='replica' */"
        ) == "t"
    );
    assert!(!on_replica(&mut client));
    assert_eq!(
        code(&mut client, "SELECT 1 /* drover.read_from='moon' */"),
        "22023"
    );
    assert_eq!(code(&mut client, "SET drover.read_from = 'moon'"), "22023");
    assert_eq!(code(&mut client, "SET drover.replica_wait = 'long'"), "22023");
    assert_eq!(code(&mut client, "SET drover.no_such = 1"), "42704");
    run(&mut client, "BEGIN READ ONLY");
    run(&mut client, "SET LOCAL drover.read_from = 'replica'");
    assert!(on_replica(&mut client));
    run(&mut client, "COMMIT");
    assert!(!on_replica(&mut client));
    run(&mut client, "BEGIN");
    run(&mut client, "SET drover.read_from = 'any'");
    run(&mut client, "ROLLBACK");
    assert_eq!(value(&mut client, "SHOW drover.read_from"), "primary");
    run(&mut client, "SET drover.read_from = 'replica'");
    assert_eq!(value(&mut client, "SHOW drover.consistency"), "read_your_writes");
    run(&mut client, "RESET drover.read_from");
    assert_eq!(value(&mut client, "SHOW drover.read_from"), "primary");
    run(&mut client, "SET drover.read_from = 'replica'");
    run(&mut client, "DISCARD ALL");
    assert_eq!(value(&mut client, "SHOW drover.read_from"), "primary");
    let mut client = door.client_with("options=-c%20drover.read_from%3Dreplica");
    until(|| on_replica(&mut client));
    run(&mut client, "RESET ALL");
    assert!(on_replica(&mut client), "what the session started with");
    let mut owner = door.client();
    let user = value(&mut owner, "SELECT current_user");
    let info = herd.kit.info();
    let primary = &info.shards[0].primary;
    let alter = |whose: &str, what: &str| {
        let sql = format!("ALTER {whose} {what} drover.read_from");
        let sql = if what == "SET" { sql + " = 'replica'" } else { sql };
        herd.kit.on_node(primary, &info.database, &sql);
    };
    // What a role or a database has set counts from the next login to the server, hence for a proxy that has none yet.
    for (whose, proxy) in [
        (format!("ROLE {user}"), "p2"),
        (format!("DATABASE {}", info.database), "p3"),
    ] {
        alter(&whose, "SET");
        let fresh = herd.proxy(proxy);
        let mut client = fresh.client();
        until(|| on_replica(&mut client));
        alter(&whose, "RESET");
    }
}

/// A function that says it is stable and writes all the same: the client never hears of the replica's refusal.
fn lies(door: &crate::herd::Door) {
    let mut client = reader(door);
    until(|| on_replica(&mut client));
    let before = door.metric("drover_reads_refused_total");
    let drawn: i64 = value(&mut client, "SELECT lies()").parse().unwrap();
    assert!(door.metric("drover_reads_refused_total") > before);
    let again = door.metric("drover_reads_again_total");
    assert_eq!(value(&mut client, "SELECT lies()"), (drawn + 1).to_string());
    assert_eq!(door.metric("drover_reads_again_total"), again, "it is remembered");
    for (at, sql) in ["SELECT lies() + 0", "SELECT lies() - 0"].into_iter().enumerate() {
        let answer = client.extended(&Extended::new(sql)).unwrap();
        assert_eq!(answer.errors, []);
        assert_eq!(answer.value(), Some((drawn + 2 + at as i64).to_string()));
    }
}
