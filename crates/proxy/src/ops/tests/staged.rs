//! Moves of tables that are sharded already, while they are in use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use movement::workflow::{Phase, Workflow};

use super::online::{ITEMS, disturbed_move, sums};
use super::*;
use crate::ops::online;

const BY_ID: &str = "SELECT drover.shard_table('items', 'id')";
const HOME: &str = "SELECT drover.unshard_table('items')";

/// `items` by `k`, and on every shard an oracle with the same rows.
fn sharded() -> Fixture {
    let f = Fixture::new("", ITEMS);
    f.shard("items", "k", None).unwrap();
    f.everywhere(
        "DROP TABLE IF EXISTS oracle; CREATE TABLE oracle (LIKE items INCLUDING ALL); \
         INSERT INTO oracle (k, id, n, long, price) SELECT k, id, n, long, price FROM items",
    );
    f
}

/// Writes the same to the table and to the oracle of each shard.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(f: &Fixture) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let threads = (1..=u32::from(SHARDS))
            .map(|shard| {
                let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
                let (cluster, database) = (Arc::clone(&f.cluster), f.database.clone());
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(write(&cluster, &database, shard, &stop, &written));
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

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

async fn write(cluster: &Cluster, database: &str, shard: u32, stop: &AtomicBool, written: &AtomicU64) {
    let mut link = cluster.admin_link(ShardId(shard), database).await.unwrap();
    let mut seed = u64::from(shard);
    for number in 0_u32.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let id = (seed >> 33) % 3000;
        let statement = match number % 8 {
            // Of the keys of this shard; each as good as any other.
            0 | 1 => format!(
                "INSERT INTO {{}} (k, id, n, long, price) SELECT k, {}, {number}, 'it''s \\ new', 1.5 \
                 FROM oracle WHERE id >= {id} ORDER BY id LIMIT 1",
                10_000 * shard + number
            ),
            2 => format!("DELETE FROM {{}} WHERE id = {id}"),
            3 => format!("UPDATE {{}} SET id = id + 100000 WHERE id = {id} AND long IS NULL"),
            4 => format!("UPDATE {{}} SET n = n + 1, price = NULL WHERE id BETWEEN {id} AND {id} + 100"),
            5 => format!("UPDATE {{}} SET long = repeat('y', 5000) WHERE id = {id}"),
            _ => format!("UPDATE {{}} SET n = n + 1 WHERE id = {id}"),
        };
        // The ids tell which rows: once rows have changed hands as many others may be found here.
        let both = format!(
            "BEGIN; WITH touched AS ({} RETURNING id) SELECT array_agg(id ORDER BY id) FROM touched; \
             WITH touched AS ({} RETURNING id) SELECT array_agg(id ORDER BY id) FROM touched",
            statement.replace("{}", "items"),
            statement.replace("{}", "oracle")
        );
        let reply = crate::exec::link::query(&mut link.server, &both).await.unwrap();
        let moved_away = reply.error.is_some() || reply.rows[0] != reply.rows[1];
        link.run(if moved_away { "ROLLBACK" } else { "COMMIT" })
            .await
            .unwrap();
        if moved_away {
            return;
        }
        written.fetch_add(1, Ordering::SeqCst);
    }
}

impl Fixture {
    fn staged(&self, goal: &Goal, statement: &str, faults: &Faults) -> Result<Vec<String>, Box<ErrorFields>> {
        self.online_to("items", goal, statement, faults)
    }

    fn sum_of(&self, shards: std::ops::RangeInclusive<u32>, table: &str) -> (i128, i128) {
        let rows: Vec<String> = shards.flat_map(|shard| self.rows(shard, &sums(table))).collect();
        let sum = |column: usize| -> i128 {
            let value = |row: &String| row.split('|').nth(column).unwrap().parse::<i128>().unwrap();
            rows.iter().map(value).sum()
        };
        (sum(0), sum(1))
    }

    /// All rows are there, where the record says; nothing of the move is left.
    fn assert_staged(&self, goal: &Goal, context: &str) {
        let all = 1..=u32::from(SHARDS);
        let there = if *goal == Goal::Home { 1..=1 } else { all.clone() };
        assert_eq!(
            self.sum_of(there.clone(), "items"),
            self.sum_of(all.clone(), "oracle"),
            "{context}"
        );
        for shard in all {
            assert_eq!(
                self.exists(shard, "items"),
                there.contains(&shard),
                "{context}: {shard}"
            );
        }
        let record = self.record();
        let recorded = record
            .table(&self.database, "public", "items")
            .map(|table| &table.kind);
        match (recorded, goal) {
            (None, Goal::Home) | (Some(TableKind::Reference), Goal::Reference) => {}
            (Some(TableKind::Sharded { columns, .. }), Goal::Sharded(options)) => {
                assert_eq!(*columns, options.key, "{context}");
                // The guards agree.
                self.everywhere("UPDATE items SET n = n");
                let counts = self.everywhere("SELECT count(*) FROM items").concat();
                assert!(counts.iter().all(|count| count != "0"), "{context}: {counts:?}");
            }
            other => panic!("{context}: {other:?}"),
        }
        assert!(record.journal.is_none(), "{context}");
        self.assert_clean(context);
    }
}

#[test]
fn a_table_goes_to_another_key_and_home_while_it_is_written() {
    for (goal, statement) in [(goal("id", None), BY_ID), (Goal::Home, HOME)] {
        let f = sharded();
        let writers = Writers::start(&f);
        writers.wait_for(60);
        let lines = f.staged(&goal, statement, &Faults::default()).unwrap();
        assert!(
            lines.iter().any(|line| line.contains("statements waited for")),
            "{lines:?}"
        );
        writers.stop();
        f.caught_up_blocking();
        f.assert_staged(&goal, statement);
        let workflow = f.over();
        assert_eq!((workflow.phase, workflow.attempt), (Phase::Done, 1));
        let progress = &workflow.progress;
        assert!(progress.pause_us.is_some() && progress.copied > 0 && progress.log_bytes > 0);
        let figures = &f.cluster.figures;
        assert_eq!(
            [
                figures.moves_running.get(),
                figures.moves_done.get(),
                figures.move_rows.get()
            ],
            [0, 1, progress.copied]
        );
        assert_eq!(figures.move_changes.get(), progress.changes);
        assert_eq!(Some(figures.move_pause_us.get()), progress.pause_us);
    }
}

fn dies_and_is_followed(goal: &Goal, statement: &str, steps: &[Step]) {
    for step in steps {
        let context = format!("{statement} {step:?}");
        let f = sharded();
        let writers = Writers::start(&f);
        writers.wait_for(5);
        let faults = Faults {
            die_at: Some(*step),
            stall_at: None,
        };
        assert_eq!(code(f.staged(goal, statement, &faults)), "57P02", "{context}");
        let workflow = f.over();
        assert_eq!(workflow.phase, Phase::Done, "{context}: {workflow:?}");
        writers.stop();
        f.caught_up_blocking();
        f.assert_staged(goal, &context);
    }
}

#[test]
fn a_proxy_that_dies_while_the_key_changes_is_followed_by_one_that_goes_on() {
    let steps = [
        Step::SlotMade,
        Step::Copied,
        Step::Drained,
        Step::Announced,
        Step::Decided,
        Step::CutOver,
        Step::HalfCleaned,
    ];
    dies_and_is_followed(&goal("id", None), BY_ID, &steps);
}

#[test]
fn a_proxy_that_dies_while_a_table_goes_home_is_followed_by_one_that_goes_on() {
    let steps = [Step::Drained, Step::HalfPrepared, Step::HalfFinished];
    dies_and_is_followed(&Goal::Home, HOME, &steps);
}

fn disturbed(at: Step, disturb: impl FnOnce(&Fixture)) -> (Fixture, Result<(), String>, Workflow) {
    disturbed_move(sharded(), "items", (&goal("id", None), BY_ID), at, disturb)
}

#[test]
fn what_happens_meanwhile_is_never_lost() {
    let alter = "ALTER TABLE items ADD COLUMN more int; ALTER TABLE oracle ADD COLUMN more int; \
                 UPDATE items SET more = 7 WHERE id < 50; UPDATE oracle SET more = 7 WHERE id < 50";
    // Its long value is not in the log.
    let stray = "UPDATE items SET id = id + 9999 WHERE long IS NOT NULL; \
                 UPDATE oracle SET id = id + 9999 WHERE long IS NOT NULL";
    for (at, sql, attempts) in [(Step::Compared, alter, 2), (Step::Copied, stray, 2)] {
        let (f, result, workflow) = disturbed(at, |f| {
            f.everywhere(sql);
        });
        assert_eq!(result, Ok(()), "{sql}: {workflow:?}");
        assert_eq!(workflow.attempt, attempts, "{sql}");
        f.assert_staged(&goal("id", None), sql);
    }
    // A shard's part of a TRUNCATE.
    let (f, result, workflow) = disturbed(Step::Copied, |f| {
        f.rows(2, "TRUNCATE items; TRUNCATE oracle");
    });
    assert_eq!((result, workflow.attempt), (Ok(()), 1));
    f.assert_staged(&goal("id", None), "truncated");
}

#[test]
fn a_pin_meanwhile_makes_it_begin_again() {
    let (f, result, workflow) = disturbed(Step::Compared, |f| {
        let record = f.record();
        let pin = Pin {
            database: &f.database,
            schema: "public",
            table: "items",
            key: "7",
            shard: Some(&record.shards[1].name),
        };
        f.runtime.block_on(pin_key(&f.cluster, pin)).unwrap();
    });
    assert_eq!(result, Ok(()), "{workflow:?}");
    assert_eq!(workflow.attempt, 2);
    f.assert_staged(&goal("id", None), "pinned");
}

#[test]
fn cancelled_nothing_is_left_and_nothing_has_changed() {
    for step in [Step::SlotMade, Step::Compared] {
        let (f, result, workflow) = disturbed(step, |f| {
            let cancelled = online::cancel(&f.cluster, &f.database, "public", "items");
            f.runtime.block_on(cancelled).unwrap();
        });
        assert_eq!(result, Err("57014".to_owned()), "{step:?}");
        assert_eq!(workflow.phase, Phase::Failed);
        f.assert_staged(&goal("k", None), "cancelled");
    }
}
