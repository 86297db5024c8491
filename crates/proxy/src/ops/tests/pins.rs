//! Keys placed by hand.

use super::*;

#[test]
fn a_key_without_rows_is_pinned_and_the_guards_know() {
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
    // 60 has rows in the colocated table only.
    for key in [5, 60] {
        let (before, other) = (place(key), place(key) % 3 + 1);
        assert_eq!(pin(&key.to_string(), Some(other)), Err("0A000".to_owned()));
        assert_eq!(place(key), before);
    }
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
