//! Tables that are sharded already and go elsewhere.

use plan::SchemeOption;

use super::*;

/// Two columns to shard by, a view, a trigger, a row right and a reference table.
const ITEMS: &str = "
    CREATE TABLE kinds (kind int PRIMARY KEY);
    INSERT INTO kinds SELECT generate_series(0, 9);
    CREATE TABLE items (a int NOT NULL, b text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY,
        kind int REFERENCES kinds, price numeric(10, 2), twice numeric GENERATED ALWAYS AS (price * 2) STORED,
        long text, PRIMARY KEY (a, b));
    CREATE INDEX items_price ON items (price);
    CREATE VIEW dear AS SELECT * FROM items WHERE price > 100;
    CREATE VIEW dearest AS SELECT * FROM dear WHERE price > 110;
    GRANT SELECT ON items TO PUBLIC;
    INSERT INTO items (a, b, kind, price, long)
        SELECT g % 70, 'b' || g, g % 10, g / 7.0, repeat(g::text, g % 9 * 900) FROM generate_series(1, 900) g;
";

const SUM: &str = "SELECT count(*), sum(pg_catalog.hashtextextended(o::text, 0)::numeric) FROM items o";

const GUARDS: &str =
    "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'items'::regclass AND tgname = 'drover_guard'";

impl Fixture {
    fn items() -> (Fixture, String) {
        let f = Fixture::new("", ITEMS);
        let before = f.rows(1, SUM).remove(0);
        f.reference("kinds").unwrap();
        f.shard("items", "a", None).unwrap();
        (f, before)
    }

    fn rearrange(&self, goal: &Goal) -> String {
        code(self.move_dying("items", goal, None))
    }

    /// Rows and sum over all shards.
    fn total(&self) -> String {
        let rows = self.everywhere(SUM).concat();
        let sum = |column: usize| -> i128 {
            let value = |row: &String| row.split('|').nth(column).unwrap().parse::<i128>().unwrap_or(0);
            rows.iter().map(value).sum()
        };
        format!("{}|{}", sum(0), sum(1))
    }

    fn key(&self) -> Option<Vec<String>> {
        let record = self.record();
        match &record.table(&self.database, "public", "items")?.kind {
            TableKind::Sharded { columns, .. } => Some(columns.clone()),
            TableKind::Reference => Some(Vec::new()),
        }
    }

    /// Every row is where the guards allow it, and they are there.
    fn assert_sharded(&self, key: &str, before: &str, context: &str) {
        assert_eq!(self.key(), Some(vec![key.to_owned()]), "{context}");
        assert_eq!(self.total(), before, "{context}");
        self.everywhere("UPDATE items SET price = price");
        let guards = self.everywhere(GUARDS);
        assert!(guards.iter().all(|rows| *rows == ["1"]), "{context}: {guards:?}");
        let counts = self.everywhere("SELECT count(*) FROM items").concat();
        assert!(counts.iter().all(|count| count != "0"), "{context}: {counts:?}");
        self.assert_settled(context);
    }

    fn assert_home(&self, before: &str, context: &str) {
        assert_eq!(self.key(), None, "{context}");
        assert_eq!(self.rows(1, SUM), [before], "{context}");
        assert_eq!(self.rows(1, GUARDS), ["0"], "{context}");
        self.rows(1, "SELECT count(*) FROM dearest");
        for shard in 2..=u32::from(SHARDS) {
            for relation in ["items", "dear", "dearest"] {
                assert!(!self.exists(shard, relation), "{context}: {relation} on {shard}");
            }
        }
        self.assert_settled(context);
    }

    fn assert_settled(&self, context: &str) {
        assert!(self.record().journal.is_none(), "{context}");
        let left = self.everywhere("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
        assert!(left.concat().is_empty(), "{context}: {left:?}");
    }
}

#[test]
fn another_key_everywhere_and_home_again() {
    let (f, before) = Fixture::items();
    let identity = f.rows(1, "SELECT 'items'::regclass::oid");
    assert_eq!(f.rearrange(&goal("b", None)), "00000");
    f.assert_sharded("b", &before, "by b");
    // Who only names the key again asks for nothing.
    assert_eq!(f.rearrange(&goal("b", None)), "42710");
    let modulo = Goal::Sharded(ShardOptions {
        scheme: Some(SchemeOption::Modulo),
        ..options("b", None)
    });
    assert_eq!(f.rearrange(&modulo), "00000");
    f.assert_sharded("b", &before, "modulo");
    assert_eq!(f.rearrange(&goal("a, b", None)), "00000");
    assert_eq!(f.key(), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(f.rearrange(&Goal::Reference), "00000");
    let copies = f.everywhere(SUM);
    assert!(copies.iter().all(|rows| *rows == [before.as_str()]), "{copies:?}");
    assert!(f.everywhere(GUARDS).iter().all(|rows| *rows == ["0"]));
    assert_eq!(f.rearrange(&goal("a", None)), "00000");
    f.assert_sharded("a", &before, "by a");
    assert_eq!(f.rearrange(&Goal::Home), "00000");
    f.assert_home(&before, "home");
    assert_eq!(f.rearrange(&Goal::Home), "42809");
    assert_eq!(f.rearrange(&Goal::Reference), "00000");
    assert_eq!(f.rearrange(&Goal::Home), "00000");
    f.assert_home(&before, "home from everywhere");
    assert_eq!(f.rows(1, "SELECT 'items'::regclass::oid"), identity);
}

#[test]
fn a_leader_that_dies_leaves_rows_before_or_after() {
    let goals = [Goal::Home, goal("b", None)];
    for wanted in &goals {
        let (f, before) = Fixture::items();
        for step in [Step::Moved, Step::Announced, Step::HalfPrepared, Step::Held] {
            let context = format!("{wanted:?} {step:?}");
            assert_eq!(code(f.move_dying("items", wanted, Some(step))), "57P02");
            f.repair();
            f.assert_sharded("a", &before, &context);
        }
        for step in [Step::Decided, Step::HalfFinished] {
            let context = format!("{wanted:?} {step:?}");
            let (f, before) = Fixture::items();
            assert_eq!(code(f.move_dying("items", wanted, Some(step))), "57P02");
            f.repair();
            match wanted {
                Goal::Home => f.assert_home(&before, &context),
                _ => f.assert_sharded("b", &before, &context),
            }
        }
    }
}

#[test]
fn what_would_break_something_else_is_refused() {
    let (f, before) = Fixture::items();
    f.rows(
        1,
        "CREATE TABLE lines (a int, b text, n int, FOREIGN KEY (a, b) REFERENCES items (a, b))",
    );
    f.shard("lines", "a", Some("items")).unwrap();
    let message = |goal: &Goal| {
        let error = f.move_dying("items", goal, None).unwrap_err();
        (error.code.clone(), error.message.clone())
    };
    for goal in [Goal::Home, goal("b", None)] {
        let (code, text) = message(&goal);
        assert_eq!(code, "0A000", "{text}");
        assert!(text.contains("foreign key"), "{text}");
    }
    f.everywhere("ALTER TABLE lines DROP CONSTRAINT lines_a_b_fkey");
    f.everywhere("CREATE VIEW pairs AS SELECT i.a, l.n FROM items i JOIN lines l USING (a, b)");
    let (code, text) = message(&Goal::Home);
    assert_eq!(code, "0A000");
    assert!(text.contains("view public.pairs"), "{text}");
    // Something that Drover does not know of holds the table on another shard.
    f.everywhere("DROP VIEW pairs");
    f.rows(2, "CREATE VIEW stray AS SELECT a FROM items");
    assert_eq!(message(&Goal::Home).0, "2BP01");
    // A row in the wrong place is not carried to another one.
    f.rows(2, "DROP VIEW stray");
    f.rows(
        2,
        "SET session_replication_role = replica; INSERT INTO items (a, b, id) SELECT g, 'stray', g FROM generate_series(1, 70) g",
    );
    assert_eq!(message(&Goal::Home).0, "55000");
    f.rows(
        2,
        "SET session_replication_role = replica; DELETE FROM items WHERE b = 'stray'",
    );
    f.assert_sharded("a", &before, "refused");
}
