//! Global indexes whose leader dies.

use super::*;
use crate::ops::indexes::{self, Verb, Wanted};

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, email text);
    INSERT INTO users SELECT g, CASE WHEN g % 10 > 0 THEN 'u' || g END FROM generate_series(1, 200) g";

impl Fixture {
    fn index(&self, verb: Verb, die_at: Option<Step>) -> Result<(), String> {
        self.index_so(verb, false, die_at)
    }

    /// Makes it beside others. The lock of whoever died is gone as soon as its server has noticed.
    fn build(&self, die_at: Option<Step>) -> Result<(), String> {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            match self.index_so(Verb::Create, true, die_at) {
                Err(code) if code == "55006" && std::time::Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                done => return done,
            }
        }
    }

    fn index_so(&self, verb: Verb, online: bool, die_at: Option<Step>) -> Result<(), String> {
        let columns = ["email".to_owned()];
        let wanted = Wanted {
            database: &self.database,
            schema: "public",
            table: "users",
            columns: &columns,
            name: None,
            unique: true,
            online: None,
        };
        let faults = Faults {
            die_at,
            stall_at: None,
        };
        let run = async {
            match online {
                true => indexes::run_online(&self.cluster, &wanted, &mut |_| {}, &faults).await,
                false => indexes::run(&self.cluster, &wanted, verb, &faults).await,
            }
        };
        let done = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), run).await });
        done.expect("it ends").map_err(|error| error.into_fields().code)
    }

    /// The index is on all shards with an entry for each row, and in the record, or it is nowhere.
    fn assert_indexed(&self, there: bool, context: &str) {
        let record = self.record();
        assert_eq!(record.global_indexes.len(), usize::from(there), "{context}");
        assert_eq!(record.journal, None, "{context}");
        let left = "SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'index\\_%'),
            (SELECT count(*) FROM pg_proc WHERE proname LIKE 'index\\_%\\_%' AND proname ~ '[0-9]'),
            (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'drover\\_index%'),
            (SELECT count(*) FROM drover_internal.global_indexes),
            (SELECT count(*) FROM pg_class WHERE relkind = 'i' AND relname LIKE 'drover\\_index%'),
            (SELECT count(*) FROM drover_internal.builds),
            (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())";
        let expected = if there { "1|3|4|1|1|0|0" } else { "0|0|0|0|0|0|0" };
        for shard in self.everywhere(left).concat() {
            assert_eq!(shard, expected, "{context}");
        }
        if there {
            let entries = format!(
                "SELECT count(*) FROM {}",
                indexes::relation_name(record.global_indexes[0].id)
            );
            let counts = self.everywhere(&entries).concat();
            let sum: u32 = counts.iter().map(|n| n.parse::<u32>().unwrap()).sum();
            assert_eq!(sum, 180, "{context}: {counts:?}");
            assert!(counts.iter().all(|n| n != "0"), "{context}: {counts:?}");
        }
    }
}

#[test]
fn a_leader_that_dies_leaves_the_index_there_or_not() {
    let f = Fixture::new("", USERS);
    f.shard("users", "id", None).unwrap();
    let (before, after) = (
        [
            Step::Locked,
            Step::Moved,
            Step::Announced,
            Step::HalfPrepared,
            Step::Prepared,
        ],
        [Step::Decided, Step::HalfFinished, Step::Finished],
    );
    for (verb, then) in [(Verb::Create, true), (Verb::Drop, false)] {
        for step in before {
            if verb == Verb::Drop && matches!(step, Step::Locked | Step::Moved) {
                continue;
            }
            let context = format!("{verb:?} {step:?}");
            assert_eq!(f.index(verb, Some(step)), Err("57P02".to_owned()), "{context}");
            f.repair();
            f.assert_indexed(!then, &context);
        }
        for step in after {
            let context = format!("{verb:?} {step:?}");
            assert_eq!(f.index(verb, Some(step)), Err("57P02".to_owned()), "{context}");
            f.repair();
            f.assert_indexed(then, &context);
            let back = if then { Verb::Drop } else { Verb::Create };
            f.index(back, None).unwrap();
            f.assert_indexed(!then, &context);
        }
        f.index(verb, None).unwrap();
        f.assert_indexed(then, &format!("{verb:?}"));
    }
}

#[test]
fn a_builder_that_dies_leaves_half_an_index_that_can_be_made_again_or_dropped() {
    let f = Fixture::new("", USERS);
    f.shard("users", "id", None).unwrap();
    for step in [Step::Locked, Step::Announced, Step::HalfPrepared, Step::Prepared] {
        assert_eq!(f.build(Some(step)), Err("57P02".to_owned()), "{step:?}");
        f.repair();
        f.assert_indexed(false, &format!("{step:?}"));
    }
    // Half an index makes room for the next one.
    for (step, dropped) in [
        (Step::Decided, false),
        (Step::HalfFinished, true),
        (Step::Finished, false),
        (Step::Copied, false),
        (Step::Streamed, false),
        (Step::Compared, true),
        (Step::Cutting, false),
    ] {
        let context = format!("{step:?}");
        assert_eq!(f.build(Some(step)), Err("57P02".to_owned()), "{context}");
        f.repair();
        let record = f.record();
        assert!(record.global_indexes[0].building, "{context}");
        if dropped {
            f.index(Verb::Drop, None).unwrap();
            f.assert_indexed(false, &context);
        }
    }
    f.build(None).unwrap();
    f.assert_indexed(true, "in the end");
    f.index(Verb::Drop, None).unwrap();
    f.assert_indexed(false, "dropped");
    // What is made while everybody waits makes room for itself, too.
    assert_eq!(f.build(Some(Step::Copied)), Err("57P02".to_owned()));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while f.index(Verb::Create, None) == Err("55006".to_owned()) {
        assert!(std::time::Instant::now() < deadline);
    }
    f.assert_indexed(true, "at once");
}
