//! Tables that are placed whole on a shard.

use super::*;

const OF: &str = "
    CREATE TABLE kinds (kind int PRIMARY KEY);
    INSERT INTO kinds SELECT generate_series(0, 9);
    CREATE TABLE bills (id serial PRIMARY KEY, kind int REFERENCES kinds, price numeric(10, 2) UNIQUE,
        twice numeric GENERATED ALWAYS AS (price * 2) STORED, k int NOT NULL);
    CREATE INDEX bills_kind ON bills (kind);
    CREATE VIEW dear AS SELECT * FROM bills WHERE price > 50;
    GRANT SELECT ON bills TO PUBLIC;
    INSERT INTO bills (kind, price, k) SELECT g % 10, g / 7.0, g FROM generate_series(1, 600) g;
";

const SUM: &str = "SELECT count(*), sum(pg_catalog.hashtextextended(o::text, 0)::numeric) FROM bills o";

fn on(shard: u32) -> Goal {
    Goal::Placed(format!("shard_{shard}"))
}

impl Fixture {
    /// `bills` on the home shard, and its rows and sum.
    fn bills() -> (Fixture, String) {
        let f = Fixture::new("", OF);
        let before = f.rows(1, SUM).remove(0);
        f.reference("kinds").unwrap();
        (f, before)
    }

    fn place(&self, goal: &Goal) -> String {
        code(self.move_dying("bills", goal, None))
    }

    /// The shard by the record; home, when it is not recorded.
    fn placed_on(&self) -> Option<u32> {
        let record = self.record();
        match record.table(&self.database, "public", "bills") {
            None => Some(1),
            Some(table) => record.place_of(&table.kind).map(|shard| shard.0),
        }
    }

    /// All rows on this shard, none on any other, and no other takes one.
    fn assert_on(&self, shard: u32, before: &str, context: &str) {
        assert_eq!(self.placed_on(), Some(shard), "{context}");
        let settled =
            self.everywhere("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
        assert!(settled.concat().is_empty(), "{context}: {settled:?}");
        assert!(self.record().journal.is_none(), "{context}");
        for number in 1..=u32::from(SHARDS) {
            if shard == 1 && number > 1 {
                assert!(!self.exists(number, "bills"), "{context}: {number}");
                assert!(!self.exists(number, "dear"), "{context}: {number}");
                continue;
            }
            let wanted = if number == shard { before } else { "0|∅" };
            assert_eq!(self.rows(number, SUM), [wanted], "{context}: {number}");
            self.rows(number, "SELECT count(*) FROM dear");
            if shard != 1 {
                self.assert_guarded(number, number == shard, context);
            }
        }
    }

    /// A write that does not come through Drover is stored only where the table is.
    fn assert_guarded(&self, shard: u32, owner: bool, context: &str) {
        let written = self.runtime.block_on(async {
            let mut link = self
                .cluster
                .admin_link(ShardId(shard), &self.database)
                .await
                .unwrap();
            link.run("BEGIN").await.unwrap();
            let written = link.run("INSERT INTO bills (id, k) VALUES (100000, 1)").await;
            link.run("ROLLBACK").await.unwrap();
            written
        });
        match written {
            Ok(()) => assert!(owner, "{context}: a row was stored on shard {shard}"),
            Err(crate::admin_link::AdminError::Server(fields)) => {
                assert!(!owner, "{context}: {}", fields.message);
                assert_eq!(fields.code, "23000", "{context}: {}", fields.message);
            }
            Err(error) => panic!("{context}: {error}"),
        }
    }
}

#[test]
fn a_table_goes_from_shard_to_shard_and_home() {
    let (f, before) = Fixture::bills();
    f.assert_on(1, &before, "at first");
    assert_eq!(f.place(&on(1)), "42710");
    assert_eq!(f.place(&on(9)), "42704");
    assert_eq!(f.place(&on(2)), "00000");
    f.assert_on(2, &before, "on 2");
    assert_eq!(f.place(&on(2)), "42710");
    assert_eq!(f.place(&on(3)), "00000");
    f.assert_on(3, &before, "on 3");
    // A key cannot be pinned where there is none.
    let pin = Pin {
        database: &f.database,
        schema: "public",
        table: "bills",
        key: "1",
        shard: Some("shard_2"),
    };
    assert_eq!(
        f.runtime.block_on(pin_key(&f.cluster, pin)).unwrap_err().code,
        "42809"
    );
    assert_eq!(f.place(&on(1)), "00000");
    f.assert_on(1, &before, "home by its name");
    assert_eq!(f.place(&on(3)), "00000");
    assert_eq!(f.place(&Goal::Home), "00000");
    f.assert_on(1, &before, "home");
}

#[test]
fn a_table_that_is_placed_becomes_another_kind_of_table() {
    let (f, before) = Fixture::bills();
    // What is unique on one shard is not over several.
    f.rows(
        1,
        "ALTER TABLE bills DROP CONSTRAINT bills_price_key, DROP CONSTRAINT bills_pkey, ADD PRIMARY KEY (id, k)",
    );
    assert_eq!(f.place(&on(2)), "00000");
    assert_eq!(f.place(&goal("k", None)), "00000");
    assert_eq!(f.placed_on(), None);
    let counts = f.everywhere("SELECT count(*) FROM bills").concat();
    assert!(counts.iter().all(|count| count != "0"), "{counts:?}");
    assert_eq!(f.place(&on(3)), "00000");
    f.assert_on(3, &before, "from a key");
    assert_eq!(f.place(&Goal::Reference), "00000");
    let copies = f.everywhere(SUM);
    assert!(copies.iter().all(|rows| *rows == [before.as_str()]), "{copies:?}");
    assert_eq!(f.place(&on(2)), "00000");
    f.assert_on(2, &before, "from everywhere");
}

#[test]
fn a_leader_that_dies_leaves_the_table_in_one_place() {
    const EARLY: [Step; 5] = [
        Step::Locked,
        Step::Moved,
        Step::Announced,
        Step::HalfPrepared,
        Step::Held,
    ];
    // To a shard, from one to another, and home.
    for (first, then, after) in [(None, on(2), 2), (Some(on(2)), on(3), 3), (Some(on(2)), on(1), 1)] {
        let begin = || {
            let (f, before) = Fixture::bills();
            if let Some(first) = &first {
                assert_eq!(f.place(first), "00000");
            }
            (f, before)
        };
        let was = if first.is_some() { 2 } else { 1 };
        let (f, before) = begin();
        for step in EARLY {
            let context = format!("{then:?} {step:?}");
            assert_eq!(
                code(f.move_dying("bills", &then, Some(step))),
                "57P02",
                "{context}"
            );
            f.repair();
            f.assert_on(was, &before, &context);
        }
        for step in [Step::Decided, Step::HalfFinished] {
            let context = format!("{then:?} {step:?}");
            let (f, before) = begin();
            assert_eq!(
                code(f.move_dying("bills", &then, Some(step))),
                "57P02",
                "{context}"
            );
            f.repair();
            f.assert_on(after, &before, &context);
        }
    }
}

#[test]
fn tables_that_refer_to_each_other_stay_together() {
    let (f, before) = Fixture::bills();
    f.rows(1, "CREATE TABLE lines (bill int REFERENCES bills, n int)");
    for table in ["bills", "lines"] {
        let error = f.move_dying(table, &on(2), None).unwrap_err();
        assert_eq!(error.code, "0A000");
        assert!(error.message.contains("foreign key"), "{}", error.message);
    }
    f.rows(1, "ALTER TABLE lines DROP CONSTRAINT lines_bill_fkey");
    assert_eq!(f.place(&on(2)), "00000");
    assert_eq!(code(f.move_dying("lines", &on(2), None)), "00000");
    f.everywhere("ALTER TABLE lines ADD FOREIGN KEY (bill) REFERENCES bills");
    let error = f.move_dying("bills", &on(3), None).unwrap_err();
    assert!(error.message.contains("foreign key"), "{}", error.message);
    f.assert_on(2, &before, "refused");
}
