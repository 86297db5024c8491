//! Reads that are in the way of a replica's recovery: the server takes them back with 40001, and what becomes of them.
//!
//! A row version that the primary has cleaned away must be cleaned away on the replica, too; a snapshot there that might
//! still see it is cancelled, whatever its statement reads.

use std::ops::Range;

use testkit::client::{Answer, Client, Extended, Format, Message, Parameter, Pipeline};

use crate::herd::{Door, Herd, code, run, until, value};

/// Seconds that a read sleeps on a replica: longer than anything here lasts.
pub const LONG: i32 = 120;

/// Sessions that sleep in a statement on a server.
pub const SLEEPING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

/// Sessions that sleep between the statements of a transaction.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";

pub struct Scene {
    pub herd: Herd,
    pub door: Door,
}

impl Scene {
    /// Two shards with a replica each, none of which waits for its readers.
    pub fn start() -> Self {
        let herd = Herd::start(2, 1);
        let info = herd.kit.info().clone();
        for shard in &info.shards {
            for sql in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
                herd.kit.on_node(&shard.primary, &info.database, sql);
            }
            for sql in [
                "ALTER SYSTEM SET max_standby_streaming_delay = '10ms'",
                "ALTER SYSTEM SET hot_standby_feedback = off",
                "SELECT pg_reload_conf()",
            ] {
                herd.kit.on_node(&shard.replicas[0], &info.database, sql);
            }
        }
        let door = herd.proxy("p1");
        let scene = Self { herd, door };
        scene.fill();
        scene.settle();
        scene
    }

    fn fill(&self) {
        let mut client = self.door.client();
        for sql in [
            "CREATE TABLE t (id bigint PRIMARY KEY)",
            "INSERT INTO t SELECT generate_series(1, 100)",
            "CREATE TABLE s (id bigint PRIMARY KEY) WITH (drover.shard_key = 'id')",
            "CREATE FUNCTION slow(seconds int, id bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS \
             $$ BEGIN IF current_setting('max_standby_streaming_delay') = '10ms' THEN PERFORM pg_sleep(seconds); END IF; RETURN true; END $$",
        ] {
            run(&mut client, sql);
        }
        let rows: Vec<String> = (1..=100).map(|id| format!("({id})")).collect();
        run(&mut client, &format!("INSERT INTO s VALUES {}", rows.join(", ")));
        let info = self.herd.kit.info();
        for shard in &info.shards {
            for sql in ["CREATE TABLE swept (v int)", "INSERT INTO swept VALUES (0)"] {
                self.herd.kit.on_node(&shard.primary, &info.database, sql);
            }
        }
    }

    /// Nothing of what has happened will be in the way of reads that come.
    pub fn settle(&self) {
        for shard in 0..self.herd.kit.info().shards.len() {
            self.herd.catch_up(shard);
        }
    }

    /// A client whose reads go to replicas.
    pub fn reader(&self) -> Client {
        let mut client = self.door.client();
        run(&mut client, "SET drover.read_from = 'replica'");
        run(&mut client, "SET drover.replica_wait = '20s'");
        client
    }

    /// Waits until so many sessions on a shard's replica do what a question counts.
    #[track_caller]
    pub fn await_on_replica(&self, shard: usize, question: &str, count: usize) {
        let mut watching = self.herd.admin(&self.herd.kit.info().shards[shard].replicas[0]);
        let count = count.to_string();
        until(|| value(&mut watching, question) == count);
    }

    /// The primary cleans something away that every snapshot on the replica could see.
    pub fn sweep(&self, shard: usize) {
        let mut primary = self.herd.admin(&self.herd.kit.info().shards[shard].primary);
        run(&mut primary, "UPDATE swept SET v = v + 1");
        run(&mut primary, "VACUUM swept");
    }

    /// Sends something that sleeps on the replicas of these shards, and sweeps on one of them meanwhile.
    #[track_caller]
    pub fn disturbed(
        &self,
        client: &mut Client,
        pipeline: Pipeline,
        on: Range<usize>,
        swept: usize,
    ) -> Answer {
        self.settle();
        client.send(pipeline.bytes()).unwrap();
        for shard in on {
            self.await_on_replica(shard, SLEEPING, 1);
        }
        self.sweep(swept);
        client.collect(pipeline.readies()).unwrap()
    }

    pub fn again(&self) -> u64 {
        self.door.metric("drover_reads_again_total")
    }
}

#[test]
fn reads_in_the_way_of_recovery() {
    let scene = Scene::start();
    unseen(&scene);
    unseen_over_shards(&scene);
    seen(&scene);
    in_blocks(&scene);
    ended_by_an_administrator(&scene);
}

fn execution(name: &str, seconds: i32) -> Pipeline {
    Pipeline::new()
        .bind("", name, &[Parameter::text(seconds.to_string())], Format::Text)
        .describe_portal("")
        .execute("", 0)
        .sync()
}

/// Nothing of an answer has reached the client: it learns nothing of the conflict.
fn unseen(scene: &Scene) {
    let mut client = scene.reader();
    let count = format!("SELECT count(*) FROM t WHERE id > 99 AND slow({LONG}, id)");
    let one = format!("SELECT id FROM s WHERE id = 7 AND slow({LONG}, id)");
    let on = scene.shard_of(7);
    let batch = |sql: &str| {
        Pipeline::new()
            .parse("", sql, &[])
            .bind("", "", &[], Format::Text)
            .describe_portal("")
            .execute("", 0)
    };
    let copy = format!("COPY (SELECT id FROM t WHERE id > 99 AND slow({LONG}, id)) TO STDOUT");
    // More than one statement in a pipeline: the first has succeeded when the second is taken back.
    let two = batch("SELECT 5").bind("", "", &[], Format::Text).execute("", 0);
    let two = two
        .parse("", &count, &[])
        .bind("", "", &[], Format::Text)
        .execute("", 0)
        .sync();
    for (pipeline, on, expected) in [
        (Pipeline::new().query(&count), 0, "1"),
        (Pipeline::new().query(&one), on, "7"),
        (batch(&count).sync(), 0, "1"),
        (batch(&one).sync(), on, "7"),
        (two, 0, "5"),
    ] {
        let before = scene.again();
        let answer = scene.disturbed(&mut client, pipeline, on..on + 1, on);
        assert_eq!(answer.errors, [], "{expected}");
        assert_eq!(answer.value().unwrap(), expected);
        assert_eq!(scene.again(), before + 1);
    }
    let before = scene.again();
    let answer = scene.disturbed(&mut client, Pipeline::new().query(&copy), 0..1, 0);
    assert_eq!(answer.errors, []);
    assert_eq!(answer.results[0].copied, b"100\n");
    assert_eq!(scene.again(), before + 1);
    // Statements that have names, and are known on the replica by the time they are disturbed.
    let texts = [
        ("home", "SELECT count(*) FROM t WHERE id > 99 AND slow($1, id)", 0),
        ("sharded", "SELECT id FROM s WHERE id = 7 AND slow($1, id)", on),
    ];
    for (name, text, on) in texts {
        let prepared = client.run(Pipeline::new().parse(name, text, &[]).sync()).unwrap();
        assert_eq!(prepared.errors, []);
        for _ in 0..3 {
            assert_eq!(client.run(execution(name, 0)).unwrap().errors, []);
        }
        for _ in 0..2 {
            let before = scene.again();
            let answer = scene.disturbed(&mut client, execution(name, LONG), on..on + 1, on);
            assert_eq!(answer.errors, [], "{name}");
            assert_eq!(answer.results[0].rows.len(), 1);
            assert_eq!(scene.again(), before + 1);
        }
    }
}

fn unseen_over_shards(scene: &Scene) {
    let mut client = scene.reader();
    let count = format!("SELECT count(*) FROM s WHERE id IN (7, 8, 9, 10, 11, 12) AND slow({LONG}, id)");
    let sorted = format!("SELECT id FROM s WHERE id > 99 - {LONG} AND slow({LONG}, id) ORDER BY id");
    for (sql, rows) in [(&count, 1), (&sorted, 100)] {
        let batch = Pipeline::new()
            .parse("", sql, &[])
            .bind("", "", &[], Format::Text)
            .describe_portal("")
            .execute("", 0)
            .sync();
        for (swept, pipeline) in [Pipeline::new().query(sql), batch].into_iter().enumerate() {
            let before = scene.again();
            let answer = scene.disturbed(&mut client, pipeline, 0..2, swept);
            assert_eq!(answer.errors, [], "{sql}");
            assert_eq!(answer.results[0].rows.len(), rows);
            assert!(scene.again() > before);
        }
    }
}

/// Rows have reached the client: it is told what happened, and that it may run the statement again.
fn seen(scene: &Scene) {
    let mut client = scene.reader();
    let text = |table: &str| {
        format!("SELECT repeat('x', 2000) FROM {table} WHERE id < 100 OR slow({LONG}, id) ORDER BY id")
    };
    // The rows of a merge flow as soon as each shard has one; the last one is of either.
    let last = scene.shard_of(100);
    for (table, on) in [("t", 0), ("s", last)] {
        let sql = text(table);
        let batch = Pipeline::new()
            .parse("", &sql, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0)
            .sync();
        for pipeline in [Pipeline::new().query(&sql), batch] {
            // An index gives the rows in order without reading the last one first.
            run(&mut client, "SET enable_sort = off");
            scene.settle();
            client.send(pipeline.bytes()).unwrap();
            while !matches!(client.next_message().unwrap(), Message::DataRow(_)) {}
            scene.await_on_replica(on, SLEEPING, 1);
            let before = scene.again();
            scene.sweep(on);
            let answer = client.collect(1).unwrap();
            let error = answer.error().expect("a row has left already");
            assert_eq!(error.sqlstate(), "40001", "{error}");
            assert!(
                error
                    .hint()
                    .unwrap_or_default()
                    .contains("run the statement again")
            );
            assert_eq!(answer.status(), b'I');
            assert_eq!(scene.again(), before);
            assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "100");
        }
    }
}

/// A transaction has seen one state of the data and cannot go on elsewhere: its client decides.
fn in_blocks(scene: &Scene) {
    let mut client = scene.reader();
    let home = format!("SELECT count(*) FROM t WHERE slow({LONG}, id)");
    let all = format!("SELECT count(*) FROM s WHERE slow({LONG}, id)");
    let named = Pipeline::new().parse("b", "SELECT count(*) FROM t WHERE slow($1, id)", &[]);
    assert_eq!(client.run(named.sync()).unwrap().errors, []);
    let cases = [
        (Pipeline::new().query(&home), 0..1),
        (Pipeline::new().query(&all), 0..2),
        (execution("b", LONG), 0..1),
    ];
    for (pipeline, on) in cases {
        run(&mut client, "BEGIN READ ONLY");
        assert_eq!(value(&mut client, "SELECT count(*) FROM s"), "100");
        let answer = scene.disturbed(&mut client, pipeline, on.clone(), on.end - 1);
        let error = answer.error().expect("the transaction has read already");
        assert_eq!(error.sqlstate(), "40001", "{error}");
        assert_eq!(answer.status(), b'E');
        assert_eq!(code(&mut client, "SELECT 1"), "25P02");
        run(&mut client, "ROLLBACK");
        assert_eq!(value(&mut client, "SELECT count(*) FROM s"), "100");
    }
    // Between two statements the server has nobody to tell but by closing the connection.
    for table in ["t", "s"] {
        scene.settle();
        run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(value(&mut client, &count), "100");
        scene.await_on_replica(0, WAITING, 1);
        scene.sweep(0);
        scene.await_on_replica(0, WAITING, 0);
        let answer = client.simple(&count).unwrap();
        let error = answer.error().expect("its snapshot is gone");
        assert_eq!(error.sqlstate(), "40001", "{error}");
        assert_eq!(answer.status(), b'E');
        run(&mut client, "ROLLBACK");
        assert_eq!(value(&mut client, &count), "100");
    }
}

/// The same as a conflict for whoever reads.
fn ended_by_an_administrator(scene: &Scene) {
    let mut client = scene.reader();
    let sql = format!("SELECT count(*) FROM t WHERE slow({LONG}, id)");
    for pipeline in [Pipeline::new().query(&sql), {
        let batch = Pipeline::new().parse("", &sql, &[]);
        batch.bind("", "", &[], Format::Text).execute("", 0).sync()
    }] {
        let before = scene.again();
        client.send(pipeline.bytes()).unwrap();
        scene.await_on_replica(0, SLEEPING, 1);
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let mut admin = scene.herd.admin(&scene.herd.kit.info().shards[0].replicas[0]);
        run(&mut admin, end);
        let answer = client.collect(1).unwrap();
        assert_eq!(answer.errors, []);
        assert_eq!(answer.value().unwrap(), "100");
        assert_eq!(scene.again(), before + 1);
    }
    let answer = client.extended(&Extended::new("SELECT count(*) FROM t")).unwrap();
    assert_eq!(answer.value().unwrap(), "100");
}

impl Scene {
    /// The shard, from 0, that has a row of the sharded table.
    pub fn shard_of(&self, id: i64) -> usize {
        let shards = &self.herd.kit.info().shards;
        let found = shards.iter().position(|shard| {
            let mut primary = self.herd.admin(&shard.primary);
            value(&mut primary, &format!("SELECT count(*) FROM s WHERE id = {id}")) == "1"
        });
        found.expect("some shard has it")
    }
}
