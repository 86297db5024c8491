//! Keys placed by hand.

use super::*;

#[test]
fn a_key_is_pinned_and_the_guards_know() {
    let f = Fixture::new(
        "",
        "CREATE TABLE users (id int8 PRIMARY KEY, name text); CREATE TABLE orders (user_id int4, x int);
         INSERT INTO users SELECT generate_series(1, 50); INSERT INTO orders SELECT g, g FROM generate_series(40, 60) g",
    );
    f.shard("users", "id", None).unwrap();
    f.shard("orders", "user_id", Some("users")).unwrap();
    let names: Vec<String> = f.record().shards.iter().map(|shard| shard.name.clone()).collect();
    let pin = |key: &str, shard: Option<usize>| {
        let pin = Pin {
            database: &f.database,
            schema: "public",
            table: "users",
            key,
            shard: shard.map(|shard| names[shard - 1].as_str()),
        };
        let done = f.runtime.block_on(pin_key(&f.cluster, pin));
        done.map_err(|fields| fields.code)
    };
    let place = |key: i64| -> usize {
        let record = f.record();
        let table = record.table(&f.database, "public", "users").unwrap();
        let TableKind::Sharded { map, .. } = &table.kind else {
            panic!("{table:?}")
        };
        let map = record.map(*map).unwrap().scheme.to_shard_map().unwrap();
        map.shard_of(&catalog::KeyValue::Int(key)).0 as usize
    };
    let refused = |shard: usize, key: i64| {
        // Whoever sees the new record first makes the guard.
        let guard = "SELECT FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tgname = 'drover_guard'";
        let begun = std::time::Instant::now();
        while f.rows(shard as u32, guard).is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no guard on shard {shard}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let sql = format!(
            "DO $$ BEGIN INSERT INTO users VALUES ({key}); DELETE FROM users WHERE id = {key}; \
             EXCEPTION WHEN integrity_constraint_violation THEN RAISE; END $$"
        );
        let link = async {
            f.cluster
                .admin_link(ShardId(shard as u32), &f.database)
                .await
                .unwrap()
                .run(&sql)
                .await
        };
        f.runtime.block_on(link).is_err()
    };
    let (old, new) = (place(1000), place(1000) % 3 + 1);
    pin("1000", Some(new)).unwrap();
    assert_eq!(place(1000), new);
    assert_eq!((refused(old, 1000), refused(new, 1000)), (true, false));
    pin("1000", None).unwrap();
    assert_eq!(
        (place(1000), refused(old, 1000), refused(new, 1000)),
        (old, false, true)
    );
    assert_eq!(pin("1000", None), Err("42704".to_owned()));
    assert_eq!(pin("x", Some(1)), Err("22P02".to_owned()));
}

const TENANTS: &str = "
    CREATE TABLE tenants (id int8 PRIMARY KEY, name text);
    CREATE TABLE bills (tenant int4 NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, cents int,
        euros numeric GENERATED ALWAYS AS (cents / 100.0) STORED, PRIMARY KEY (tenant, n));
    INSERT INTO tenants SELECT g, 'tenant ' || g FROM generate_series(1, 30) g;
    INSERT INTO bills (tenant, cents) SELECT g % 30 + 1, g FROM generate_series(1, 600) g;
";

const BILLS: &str = "SELECT count(*), sum(pg_catalog.hashtextextended(b::text, 0)::numeric) FROM bills b";

impl Fixture {
    fn tenants() -> (Fixture, String) {
        let f = Fixture::new("", TENANTS);
        let before = f.rows(1, BILLS).remove(0);
        f.shard("tenants", "id", None).unwrap();
        f.shard("bills", "tenant", Some("tenants")).unwrap();
        f.rows(1, "ALTER TABLE bills ADD FOREIGN KEY (tenant) REFERENCES tenants");
        (f, before)
    }

    /// Where a tenant's rows are, by table; each must be in one place.
    fn homes(&self, tenant: u32) -> (usize, usize) {
        let find = |sql: &str| {
            let counts = self.everywhere(sql).concat();
            let places: Vec<usize> = (1..)
                .zip(&counts)
                .filter(|(_, n)| *n != "0")
                .map(|(at, _)| at)
                .collect();
            assert_eq!(places.len(), 1, "{counts:?}");
            places[0]
        };
        (
            find(&format!("SELECT count(*) FROM tenants WHERE id = {tenant}")),
            find(&format!("SELECT count(*) FROM bills WHERE tenant = {tenant}")),
        )
    }

    fn pin(&self, key: &str, shard: Option<usize>, die_at: Option<Step>) -> Result<(), String> {
        let names: Vec<String> = self
            .record()
            .shards
            .iter()
            .map(|shard| shard.name.clone())
            .collect();
        let pin = Pin {
            database: &self.database,
            schema: "public",
            table: "bills",
            key,
            shard: shard.map(|shard| names[shard - 1].as_str()),
        };
        let faults = Faults {
            die_at,
            stall_at: None,
        };
        let run = crate::ops::pins::run(&self.cluster, pin, &faults);
        let done = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), run).await });
        done.expect("it ends").map_err(|error| error.into_fields().code)
    }

    /// Nothing is lost, the guards allow every row where it is, and nothing is left over.
    fn assert_bills(&self, before: &str, context: &str) {
        let rows = self.everywhere(BILLS).concat();
        let sum = |column: usize| -> i128 {
            let value = |row: &String| row.split('|').nth(column).unwrap().parse::<i128>().unwrap_or(0);
            rows.iter().map(value).sum()
        };
        assert_eq!(format!("{}|{}", sum(0), sum(1)), before, "{context}");
        for table in ["tenants", "bills"] {
            let guards = self.everywhere(&format!(
                "SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname = 'drover_guard'"
            ));
            assert!(guards.iter().all(|rows| *rows == ["1"]), "{context}: {guards:?}");
        }
        self.everywhere("UPDATE bills SET cents = cents; UPDATE tenants SET name = name");
        assert!(self.record().journal.is_none(), "{context}");
        let left = self.everywhere("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
        assert!(left.concat().is_empty(), "{context}: {left:?}");
    }
}

#[test]
fn the_rows_of_a_key_go_with_it() {
    let (f, before) = Fixture::tenants();
    let (place, _) = f.homes(7);
    for other in (1..=3).filter(|other| *other != place) {
        f.pin("7", Some(other), None).unwrap();
        assert_eq!(f.homes(7), (other, other));
        f.assert_bills(&before, "pinned");
    }
    f.pin("7", None, None).unwrap();
    assert_eq!(f.homes(7), (place, place));
    f.assert_bills(&before, "unpinned");
}

#[test]
fn a_leader_that_dies_leaves_the_key_before_or_after() {
    let (f, before) = Fixture::tenants();
    let (place, _) = f.homes(7);
    let other = place % 3 + 1;
    for step in [
        Step::Locked,
        Step::Moved,
        Step::Announced,
        Step::HalfPrepared,
        Step::Held,
    ] {
        assert_eq!(
            f.pin("7", Some(other), Some(step)),
            Err("57P02".to_owned()),
            "{step:?}"
        );
        f.repair();
        assert_eq!(f.homes(7), (place, place), "{step:?}");
        f.assert_bills(&before, &format!("{step:?}"));
    }
    let (mut here, mut there) = (place, other);
    for step in [Step::Decided, Step::HalfFinished, Step::Finished] {
        assert_eq!(
            f.pin("7", Some(there), Some(step)),
            Err("57P02".to_owned()),
            "{step:?}"
        );
        f.repair();
        assert_eq!(f.homes(7), (there, there), "{step:?}");
        f.assert_bills(&before, &format!("{step:?}"));
        std::mem::swap(&mut here, &mut there);
    }
}
