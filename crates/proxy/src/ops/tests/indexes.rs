//! Global indexes whose leader dies.

use super::*;
use crate::ops::indexes::{self, Verb, Wanted};

const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, email text);
    INSERT INTO users SELECT g, CASE WHEN g % 10 > 0 THEN 'u' || g END FROM generate_series(1, 200) g";

impl Fixture {
    fn index(&self, verb: Verb, die_at: Option<Step>) -> Result<(), String> {
        let columns = ["email".to_owned()];
        let wanted = Wanted {
            database: &self.database,
            schema: "public",
            table: "users",
            columns: &columns,
            name: None,
            unique: true,
        };
        let faults = Faults {
            die_at,
            stall_at: None,
        };
        let run = indexes::run(&self.cluster, &wanted, verb, &faults);
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
            (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())";
        let expected = if there { "1|3|4|1|0" } else { "0|0|0|0|0" };
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
