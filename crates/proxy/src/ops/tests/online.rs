//! Moves while the table is in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use movement::workflow::{Phase, Workflow};

use super::*;
use crate::ops::online;

/// Bound on anything that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) const ITEMS: &str = "
    CREATE TABLE items (k int NOT NULL, id int NOT NULL, n int NOT NULL DEFAULT 0, long text, price numeric(10, 2),
        twice int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (k, id));
    ALTER TABLE items ALTER COLUMN long SET STORAGE EXTERNAL;
    CREATE INDEX ON items (n);
    INSERT INTO items (k, id, n, long, price)
        SELECT g % 500, g, g, CASE WHEN g % 50 = 0 THEN repeat(g::text, 3000) END, g / 7.0 FROM generate_series(1, 3000) g;
    CREATE TABLE oracle (LIKE items INCLUDING ALL);
    INSERT INTO oracle (k, id, n, long, price) SELECT k, id, n, long, price FROM items;
";

pub(super) fn sums(table: &str) -> String {
    format!(
        "SELECT count(*), COALESCE(sum(pg_catalog.hashtextextended(o::text, 0)::numeric), 0) FROM {table} o"
    )
}

impl Fixture {
    fn online(&self, table: &str, key: &str, faults: &Faults) -> Result<Vec<String>, Box<ErrorFields>> {
        let statement = format!("SELECT drover.shard_table('{table}', '{key}')");
        self.online_to(table, &goal(key, None), &statement, faults)
    }

    pub(super) fn online_to(
        &self,
        table: &str,
        goal: &Goal,
        statement: &str,
        faults: &Faults,
    ) -> Result<Vec<String>, Box<ErrorFields>> {
        let wanted = Wanted {
            database: &self.database,
            schema: "public",
            table,
            goal,
        };
        let mut lines = Vec::new();
        let mut line = |text: &str| lines.push(text.to_owned());
        let run = online::run(&self.cluster, &wanted, statement, &mut line, faults);
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, run).await });
        result
            .expect("a move ends")
            .map_err(|error| Box::new(error.into_fields()))?;
        Ok(lines)
    }

    /// Waits until the only move is over.
    pub(super) fn over(&self) -> Workflow {
        self.runtime.block_on(async {
            let wait = async {
                loop {
                    let moves = online::all(&self.cluster).await.unwrap();
                    if let [workflow] = moves.as_slice()
                        && workflow.phase.is_over()
                    {
                        return workflow.clone();
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, wait).await.expect("a move ends")
        })
    }

    /// The rows of all shards are the oracle's, each on its own, and no tool is left.
    fn assert_moved(&self, context: &str) {
        let total = |column: usize| -> i128 {
            let rows = self.everywhere(&sums("items")).concat();
            let value = |row: &String| row.split('|').nth(column).unwrap().parse::<i128>().unwrap();
            rows.iter().map(value).sum()
        };
        let wanted = self.rows(1, &sums("oracle"));
        assert_eq!(vec![format!("{}|{}", total(0), total(1))], wanted, "{context}");
        for shard in 1..=u32::from(SHARDS) {
            assert!(
                self.rows(shard, "SELECT count(*) FROM items") != ["0"],
                "{context}: {shard}"
            );
        }
        // The guards agree: writing every row again is refused nowhere.
        self.everywhere("UPDATE items SET n = n");
        assert_eq!(self.state("items"), Some(TableState::Active), "{context}");
        self.assert_clean(context);
    }

    pub(super) fn assert_clean(&self, context: &str) {
        let left = self.everywhere(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() UNION ALL \
             SELECT pubname FROM pg_publication UNION ALL SELECT id FROM drover_internal.movements UNION ALL \
             SELECT gid FROM pg_prepared_xacts WHERE database = current_database() UNION ALL \
             SELECT relname FROM pg_class WHERE relname = 'items' AND relreplident <> 'd' UNION ALL \
             SELECT relname FROM pg_class WHERE relname LIKE 'move!_m%' ESCAPE '!'",
        );
        assert!(left.concat().is_empty(), "{context}: {left:?}");
    }
}

/// Writes the same to the table and to the oracle, until the table has moved away.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(f: &Fixture, count: u32) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|writer| {
                let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
                let (cluster, database) = (Arc::clone(&f.cluster), f.database.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(write(&cluster, &database, writer, &stop, &written));
                })
            })
            .collect();
        Writers {
            stop,
            written,
            threads,
        }
    }

    fn wait_for(&self, more: u64) {
        let wanted = self.written.load(Ordering::SeqCst) + more;
        while self.written.load(Ordering::SeqCst) < wanted {
            assert!(
                self.threads.iter().any(|thread| !thread.is_finished()),
                "all writers ended"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.written.load(Ordering::SeqCst)
    }
}

async fn write(cluster: &Cluster, database: &str, writer: u32, stop: &AtomicBool, written: &AtomicU64) {
    let mut link = cluster.admin_link(ShardId(1), database).await.unwrap();
    let mut seed = u64::from(writer) + 1;
    for number in 0_u32.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Each writer has rows of its own, so that two of them never wait for each other in a circle.
        let id = (seed >> 33) % 3000 / 4 * 4 + u64::from(writer % 4);
        let statement = match number % 8 {
            0 | 1 => format!(
                "INSERT INTO {{}} (k, id, n, long, price) VALUES ({}, {}, {number}, 'it''s \\ new', 1.5)",
                (seed >> 20) % 700,
                10_000 * (writer + 1) + number
            ),
            2 => format!("DELETE FROM {{}} WHERE id = {id}"),
            3 => format!("UPDATE {{}} SET k = k + 1 WHERE id = {id} AND long IS NULL"),
            4 => format!(
                "UPDATE {{}} SET n = n + 1, price = NULL WHERE id BETWEEN {id} AND {id} + 100 AND id % 4 = {}",
                writer % 4
            ),
            5 => format!("UPDATE {{}} SET long = repeat('y', 5000) WHERE id = {id}"),
            _ => format!("UPDATE {{}} SET n = n + 1 WHERE id = {id}"),
        };
        let both = format!(
            "BEGIN; {}; {}",
            statement.replace("{}", "items"),
            statement.replace("{}", "oracle")
        );
        let reply = crate::exec::link::query(&mut link.server, &both).await.unwrap();
        let moved_away = reply.error.is_some() || reply.tags[1] != reply.tags[2];
        let end = if moved_away { "ROLLBACK" } else { "COMMIT" };
        link.run(end).await.unwrap();
        if moved_away {
            return;
        }
        written.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_table_moves_while_it_is_written() {
    let f = Fixture::new("", ITEMS);
    let writers = Writers::start(&f, 3);
    writers.wait_for(50);
    let lines = f.online("items", "k", &Faults::default()).unwrap();
    assert!(
        lines.iter().any(|line| line.contains("statements waited for")),
        "{lines:?}"
    );
    assert!(writers.stop() > 50);
    f.assert_moved("moved");
    let workflow = f.over();
    assert_eq!((workflow.phase, workflow.attempt), (Phase::Done, 1));
    assert!(workflow.progress.pause_us.is_some() && workflow.progress.copied > 0);
}

/// Whoever takes over brings it to its end, whatever was the last thing done.
#[test]
fn a_proxy_that_dies_at_any_step_is_followed_by_one_that_goes_on() {
    for step in [
        Step::Begun,
        Step::Fenced,
        Step::SlotMade,
        Step::Copied,
        Step::Streamed,
        Step::Cutting,
        Step::Drained,
        Step::Prepared,
        Step::Decided,
        Step::CutOver,
        Step::HalfCleaned,
        Step::Cleaned,
    ] {
        let context = format!("{step:?}");
        let f = Fixture::new("", ITEMS);
        let writers = Writers::start(&f, 1);
        writers.wait_for(5);
        let faults = Faults {
            die_at: Some(step),
            stall_at: None,
        };
        assert_eq!(code(f.online("items", "k", &faults)), "57P02", "{context}");
        let workflow = f.over();
        assert_eq!(workflow.phase, Phase::Done, "{context}: {workflow:?}");
        writers.stop();
        f.caught_up_blocking();
        f.assert_moved(&context);
    }
}

/// What happens to the table while it is moved, and what becomes of the move.
fn disturbed(at: Step, disturb: impl FnOnce(&Fixture)) -> (Fixture, Result<(), String>, Workflow) {
    disturbed_table(Fixture::new("", ITEMS), ("items", "k"), at, disturb)
}

fn disturbed_table(
    f: Fixture,
    (table, key): (&str, &str),
    at: Step,
    disturb: impl FnOnce(&Fixture),
) -> (Fixture, Result<(), String>, Workflow) {
    let statement = format!("SELECT drover.shard_table('{table}', '{key}')");
    disturbed_move(f, table, (&goal(key, None), &statement), at, disturb)
}

pub(super) fn disturbed_move(
    f: Fixture,
    table: &str,
    (goal, statement): (&Goal, &str),
    at: Step,
    disturb: impl FnOnce(&Fixture),
) -> (Fixture, Result<(), String>, Workflow) {
    let stall = Arc::new(Stall::default());
    let faults = Faults {
        die_at: None,
        stall_at: Some((at, Arc::clone(&stall))),
    };
    let wanted = Wanted {
        database: &f.database,
        schema: "public",
        table,
        goal,
    };
    let result = std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut line = |_: &str| {};
            let run = online::run(&f.cluster, &wanted, statement, &mut line, &faults);
            runtime.block_on(async { tokio::time::timeout(PATIENCE, run).await })
        });
        f.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, stall.reached.notified()).await })
            .expect("the step is reached");
        disturb(&f);
        stall.go_on.notify_one();
        // It comes here again when it begins again.
        while !moving.is_finished() {
            stall.go_on.notify_one();
            std::thread::sleep(Duration::from_millis(5));
        }
        moving.join().unwrap().expect("a move ends")
    });
    let workflow = f.over();
    let result = result.map_err(|error| error.into_fields().code);
    (f, result, workflow)
}

#[test]
fn a_move_that_is_cancelled_leaves_nothing() {
    for step in [Step::SlotMade, Step::Streamed, Step::Compared] {
        let (f, result, workflow) = disturbed(step, |f| {
            let cancelled = online::cancel(&f.cluster, &f.database, "public", "items");
            f.runtime.block_on(cancelled).unwrap();
        });
        assert_eq!(result, Err("57014".to_owned()), "{step:?}");
        assert_eq!(workflow.phase, Phase::Failed);
        let before = f.rows(1, &sums("oracle"));
        f.assert_untouched("items", &before, &sums("items"));
        f.assert_clean("cancelled");
    }
}

#[test]
fn what_changes_the_table_meanwhile_is_never_lost() {
    let alter = "ALTER TABLE items ADD COLUMN more int; ALTER TABLE oracle ADD COLUMN more int; \
                 UPDATE items SET more = 7 WHERE id < 50; UPDATE oracle SET more = 7 WHERE id < 50";
    let empty = "TRUNCATE items; TRUNCATE oracle; INSERT INTO items (k, id) SELECT g, g FROM generate_series(1, 99) g; \
                 INSERT INTO oracle (k, id) SELECT g, g FROM generate_series(1, 99) g";
    // Its long value is not in the log.
    let stray = "UPDATE items SET k = k + 1 WHERE long IS NOT NULL; UPDATE oracle SET k = k + 1 WHERE long IS NOT NULL";
    for (at, sql, attempts) in [
        (Step::Copied, alter, 2),
        (Step::Compared, alter, 2),
        (Step::Copied, empty, 1),
        (Step::Copied, stray, 2),
    ] {
        let (f, result, workflow) = disturbed(at, |f| {
            f.rows(1, sql);
        });
        assert_eq!(result, Ok(()), "{sql}: {workflow:?}");
        assert_eq!(workflow.attempt, attempts, "{sql}");
        f.assert_moved(sql);
    }
}

#[test]
fn rows_that_are_equal_in_everything_move_too() {
    let f = Fixture::new("", ITEMS);
    f.rows(
        1,
        "ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE oracle DROP CONSTRAINT oracle_pkey; \
         INSERT INTO items (k, id) SELECT g % 20, 1 FROM generate_series(1, 200) g; \
         INSERT INTO oracle (k, id) SELECT g % 20, 1 FROM generate_series(1, 200) g",
    );
    let writers = Writers::start(&f, 2);
    writers.wait_for(10);
    f.online("items", "k", &Faults::default()).unwrap();
    writers.stop();
    f.assert_moved("no key");
}

#[test]
fn a_copy_that_differs_is_not_cut_over() {
    let (f, result, workflow) = disturbed(Step::Streamed, |f| {
        // Somebody writes on a target directly.
        f.rows(
            2,
            "UPDATE items SET price = 99 WHERE id = (SELECT min(id) FROM items)",
        );
    });
    assert_eq!(result, Err("XX000".to_owned()), "{workflow:?}");
    let before = f.rows(1, &sums("oracle"));
    f.assert_untouched("items", &before, &sums("items"));
    f.assert_clean("differs");
}

/// Values of many types, generated and dropped columns, an identity, a trigger.
#[test]
fn changes_of_every_kind_of_column_are_followed() {
    let change = r"
        UPDATE orders SET note = E'new\t''\\ \n' || id, price = price + 0.01, shade = 'red', raw = '\x00ff27',
            at = at - interval '1.000001 s', ratio = ratio * 1.1, tags = ARRAY['a,b', NULL, '\', ''''] WHERE id % 3 = 0;
        UPDATE orders SET user_id = user_id + 1 WHERE id % 7 = 0;
        UPDATE orders SET ratio = 'NaN', at = 'infinity', raw = NULL, tags = '{}' WHERE id % 11 = 0;
        DELETE FROM orders WHERE id % 13 = 0;
        INSERT INTO orders (user_id, note, price, shade) SELECT g, 'late', g, 'green' FROM generate_series(500, 600) g";
    let (f, result, workflow) = disturbed_table(
        Fixture::new(ORDERS, ORDERS_HOME),
        ("orders", "user_id"),
        Step::Copied,
        |f| {
            f.rows(1, change);
            f.rows(1, "CREATE TABLE oracle AS SELECT * FROM orders");
        },
    );
    assert_eq!(result, Ok(()), "{workflow:?}");
    assert_eq!(workflow.attempt, 1);
    let wanted = f.rows(1, &sums("oracle"));
    let all = f.everywhere(&sums("orders")).concat();
    let total = |column: usize| -> i128 {
        let value = |row: &String| row.split('|').nth(column).unwrap().parse::<i128>().unwrap();
        all.iter().map(value).sum()
    };
    assert_eq!(vec![format!("{}|{}", total(0), total(1))], wanted);
    let triggers =
        f.everywhere("SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND NOT tgisinternal");
    assert_eq!(triggers.concat(), ["touch", "touch", "touch"]);
    f.assert_clean("orders");
}
