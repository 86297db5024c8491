//! COPY, EXPLAIN and statements with values of their own over several shards: a replica of each shard serves them, under
//! the same rules as any other read.

use testkit::client::{Answer, Client, Format, Message, Pipeline};

use crate::conflicts::{LONG, SLEEPING, Scene};
use crate::herd::{run, value};

/// COPY of a whole table, in both protocols.
fn both(sql: &str) -> [Pipeline; 2] {
    let batch = Pipeline::new()
        .parse("", sql, &[])
        .bind("", "", &[], Format::Text);
    [Pipeline::new().query(sql), batch.execute("", 0).sync()]
}

/// The lines of a COPY, sorted.
fn lines(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.errors, []);
    let copied = answer.results.iter().map(|result| &result.copied[..]);
    let text = String::from_utf8(copied.collect::<Vec<_>>().concat()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_concerns_several_shards_is_read_on_a_replica_of_each() {
    let scene = Scene::start();
    let mut plain = scene.door.client();
    for sql in [
        "CREATE TABLE c (id bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'id')",
        "CREATE TABLE r (id int PRIMARY KEY) WITH (drover.reference)",
        "INSERT INTO r VALUES (1)",
    ] {
        run(&mut plain, sql);
    }
    let rows: Vec<String> = (1..=20).map(|id| format!("({id}, 0)")).collect();
    run(&mut plain, &format!("INSERT INTO c VALUES {}", rows.join(", ")));
    scene.settle();
    placed(&scene);
    fresh_enough(&scene);
    taken_back(&scene);
    seen_by_the_client(&scene);
    bound_before(&scene);
}

/// Each shard's part is a read on a replica.
fn placed(scene: &Scene) {
    let mut client = scene.reader();
    let counts = || {
        let count = |name: &str| scene.door.metric(name);
        [
            count("drover_reads_on_replica_total"),
            count("drover_reads_on_primary_total"),
        ]
    };
    for (sql, parts) in [
        ("COPY c TO STDOUT", 2),
        ("COPY c (id) TO STDOUT (FORMAT csv, HEADER)", 2),
        ("COPY c TO STDOUT (FORMAT binary)", 2),
        ("COPY r TO STDOUT", 1),
        ("EXPLAIN SELECT * FROM c", 2),
        ("SELECT count(*) FROM c WHERE now() > '2020-01-01'", 2),
    ] {
        for pipeline in both(sql) {
            let before = counts();
            let answer = client.run(pipeline).unwrap();
            assert_eq!(answer.errors, [], "{sql}");
            let after = counts();
            assert_eq!(after[0] - before[0], parts, "{sql}");
            assert_eq!(after[1], before[1], "{sql}");
        }
    }
    // A block that may write stays where it is; one that may not is on replicas.
    for (begin, parts) in [("BEGIN", 0), ("BEGIN READ ONLY", 2)] {
        run(&mut client, begin);
        let before = counts();
        assert_eq!(lines(&run(&mut client, "COPY c (id) TO STDOUT")).len(), 20);
        assert_eq!(counts()[0] - before[0], parts, "{begin}");
        run(&mut client, "COMMIT");
    }
}

/// Positions count for COPY as for any read, and it leaves one behind where that is wanted.
fn fresh_enough(scene: &Scene) {
    let reader = || {
        let mut client = scene.reader();
        run(&mut client, "SET drover.replica_wait = '10ms'");
        client
    };
    let mut client = reader();
    let copy = "COPY c (v) TO STDOUT";
    assert_eq!(lines(&run(&mut client, copy)), ["0"; 20]);
    for shard in 0..2 {
        scene.herd.replay(shard, false);
    }
    run(&mut client, "UPDATE c SET v = 1");
    assert_eq!(lines(&run(&mut client, copy)), ["1"; 20]);
    let mut other = reader();
    assert_eq!(lines(&run(&mut other, copy)), ["0"; 20]);
    let token = value(&mut client, "SELECT drover.consistency_token()");
    run(&mut other, &format!("SET drover.consistency_token = '{token}'"));
    assert_eq!(lines(&run(&mut other, copy)), ["1"; 20]);
    run(&mut client, "SET drover.consistency = 'eventual'");
    assert_eq!(lines(&run(&mut client, copy)), ["0"; 20]);
    let mut onward = reader();
    run(&mut onward, "SET drover.consistency = 'monotonic'");
    assert_eq!(lines(&run(&mut onward, copy)), ["0"; 20]);
    let hinted = "COPY c (v) TO STDOUT /* drover.read_from='primary' */";
    assert_eq!(lines(&run(&mut onward, hinted)), ["1"; 20]);
    assert_eq!(lines(&run(&mut onward, copy)), ["1"; 20], "not backwards");
    for shard in 0..2 {
        scene.herd.replay(shard, true);
    }
    scene.settle();
}

/// A replica takes the read back before anything has reached the client, which learns nothing of it.
fn taken_back(scene: &Scene) {
    let mut client = scene.reader();
    let policy = format!("CREATE POLICY p ON c USING (slow(CASE WHEN id < 13 THEN {LONG} ELSE 0 END, id))");
    for sql in [
        &policy,
        "ALTER TABLE c ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE c FORCE ROW LEVEL SECURITY",
    ] {
        run(&mut client, sql);
    }
    assert_eq!(value(&mut client, "SHOW drover.read_from"), "replica");
    let copy = both("COPY c (id) TO STDOUT");
    for (swept, pipeline) in copy.into_iter().enumerate() {
        let before = scene.again();
        let answer = scene.disturbed(&mut client, pipeline, 0..2, swept);
        assert_eq!(lines(&answer).len(), 20);
        assert!(scene.again() > before);
    }
    // A value that is known when the statement begins goes before it.
    let mine = "id IN (7, 8, 9, 10, 11, 12) AND now() > '2020-01-01'";
    let count = format!("SELECT count(*) FROM s WHERE {mine} AND slow({LONG}, id)");
    for (swept, pipeline) in both(&count).into_iter().enumerate() {
        let before = scene.again();
        let answer = scene.disturbed(&mut client, pipeline, 0..2, swept);
        assert_eq!(answer.errors, []);
        assert_eq!(answer.value().unwrap(), "6");
        assert!(scene.again() > before);
    }
}

/// Rows have reached the client: it is told what happened.
fn seen_by_the_client(scene: &Scene) {
    let mut client = scene.reader();
    for sql in [
        "CREATE TABLE wide (id bigint PRIMARY KEY, v text) WITH (drover.shard_key = 'id')",
        "ALTER TABLE wide ENABLE ROW LEVEL SECURITY",
    ] {
        run(&mut client, sql);
    }
    let rows: Vec<String> = (1..=400)
        .map(|id| format!("({id}, '{}')", "x".repeat(2000)))
        .collect();
    run(
        &mut client,
        &format!("INSERT INTO wide VALUES {}", rows.join(", ")),
    );
    let policy =
        format!("CREATE POLICY p ON wide USING (slow(CASE WHEN id > 394 THEN {LONG} ELSE 0 END, id))");
    for sql in [&policy, "ALTER TABLE wide FORCE ROW LEVEL SECURITY"] {
        run(&mut client, sql);
    }
    for pipeline in both("COPY wide TO STDOUT") {
        scene.settle();
        client.send(pipeline.bytes()).unwrap();
        while !matches!(client.next_message().unwrap(), Message::CopyData(_)) {}
        for shard in 0..2 {
            scene.await_on_replica(shard, SLEEPING, 1);
        }
        scene.sweep(1);
        let answer = client.collect(1).unwrap();
        let error = answer.error().expect("rows have left already");
        assert_eq!(error.sqlstate(), "40001", "{error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("run the statement again"), "{hint}");
        assert_eq!(answer.status(), b'I');
        assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "100");
    }
}

/// What a portal does is decided when it is executed, whatever was bound behind it.
fn bound_before(scene: &Scene) {
    let mut client: Client = scene.reader();
    let mut mixed = Pipeline::new();
    for (name, sql) in [
        ("w", "UPDATE s SET id = id WHERE true"),
        ("r", "SELECT count(*) FROM s"),
    ] {
        mixed = mixed.parse(name, sql, &[]).bind(name, name, &[], Format::Text);
    }
    let mixed = mixed.execute("w", 0).execute("r", 0).sync();
    let refused = || scene.door.metric("drover_reads_refused_total");
    let before = refused();
    let answer = client.run(mixed).unwrap();
    assert_eq!(answer.errors, []);
    assert_eq!(refused(), before, "no replica was asked to write");
    assert_eq!(answer.results.last().unwrap().rows[0], [Some(b"100".to_vec())]);
}
