//! Global indexes that are not unique: who is asked, who waits for whom, and whether they are whole when many write one value.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};
use super::global_indexes::{Stop, await_nothing_in_doubt, keep_killing, pairs};

const SHARDS: usize = 4;
const TENANTS: usize = 24;
const WRITERS: usize = 16;
const TURNS: usize = 30;

/// Many rows of each tenant, most of them in one of three states.
fn orders(fixture: &Fixture) -> Client {
    let mut client = fixture.client();
    for sql in [
        "CREATE TABLE orders (tenant int, id int, state text, n int DEFAULT 0, PRIMARY KEY (tenant, id)) WITH (drover.shard_key = 'tenant')",
        "INSERT INTO orders SELECT g % 24, g, 's' || g % 3 FROM generate_series(1, 240) g",
        "SELECT drover.create_global_index('orders', 'state')",
    ] {
        run(&mut client, sql);
    }
    client
}

/// Rows and entries of all shards, as the index has to have them.
fn assert_index(fixture: &Fixture) -> usize {
    let known = run(&mut fixture.client(), "SELECT * FROM drover.global_indexes").text_rows();
    let table = known[0].last().cloned().flatten().unwrap();
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    for shard in 0..SHARDS {
        let mut admin = fixture.admin_of(shard);
        let of_rows = "SELECT state, tenant FROM orders WHERE state IS NOT NULL";
        rows.extend(pairs(&mut admin, of_rows));
        let of_entries = format!("SELECT state, drover_key_1 FROM {table}");
        found.extend(pairs(&mut admin, &of_entries));
    }
    rows.sort();
    found.sort();
    assert_eq!(rows, found, "rows, and entries of the index");
    rows.len()
}

/// A tenant whose rows are on this shard.
fn tenant_on(fixture: &Fixture, shard: usize) -> String {
    let least = "SELECT min(tenant) FROM orders";
    value(&mut fixture.admin_of(shard), least)
}

#[test]
fn only_shards_that_have_such_rows_are_asked() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut client = orders(&fixture);
    assert_eq!(assert_index(&fixture), 240);
    let listed = run(&mut client, "SELECT * FROM drover.global_indexes").text_rows();
    let cells: Vec<String> = listed[0].iter().take(5).flatten().cloned().collect();
    assert_eq!(cells, ["public", "orders", "orders_state_idx", "state", "f"]);
    let (here, there) = (tenant_on(&fixture, 0), tenant_on(&fixture, 1));
    run(
        &mut client,
        &format!(
            "INSERT INTO orders VALUES ({here}, 1001, 'rare'), ({here}, 1002, 'rare'), ({there}, 1003, 'odd')"
        ),
    );
    let route = run(
        &mut client,
        "EXPLAIN (ROUTE) SELECT id FROM orders WHERE state = 'rare'",
    );
    let route = format!("{:?}", route.text_rows());
    assert!(route.contains("where global index"), "{route}");
    let lock = |shard| {
        let mut admin = fixture.admin_of(shard);
        run(&mut admin, "BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE");
        admin
    };
    let locked: Vec<Client> = (1..SHARDS).map(lock).collect();
    let rare = "SELECT count(*) FROM orders WHERE state = 'rare'";
    assert_eq!(value(&mut client, rare), "2");
    let both = "SELECT count(*) FROM orders WHERE state IN ('rare', 'nowhere')";
    assert_eq!(value(&mut client, both), "2");
    // Of one column of a row others than the indexed one, no entry.
    run(&mut client, "UPDATE orders SET n = n + 1 WHERE state = 'rare'");
    run(&mut client, "SET statement_timeout = '300ms'");
    for elsewhere in ["odd", "s1"] {
        let sql = format!("SELECT count(*) FROM orders WHERE state = '{elsewhere}'");
        assert_eq!(error(&mut client, &sql).0, "57014");
    }
    drop(locked);
    // Its rows go nowhere else without it.
    run(&mut client, "RESET statement_timeout");
    for change in [
        "SELECT drover.shard_table('orders', key => 'id')",
        "SELECT drover.shard_table('orders', key => 'tenant', salt => 8)",
        "SELECT drover.unshard_table('orders')",
        "SELECT drover.reference_table('orders')",
        "SELECT drover.place_table('orders', shard => 'shard_2')",
    ] {
        assert_eq!(error(&mut client, change).0, "0A000", "{change}");
    }
    assert_eq!(assert_index(&fixture), 243);
}

/// What one has not committed yet, nobody else waits for: PostgreSQL's indexes are like that.
#[test]
fn writers_of_one_value_do_not_wait_for_one_another() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut first = orders(&fixture);
    let mut second = fixture.client();
    run(&mut second, "SET lock_timeout = '2s'");
    run(&mut first, "BEGIN");
    run(&mut first, "INSERT INTO orders VALUES (1, 2001, 's1')");
    run(&mut first, "DELETE FROM orders WHERE tenant = 1 AND id = 25");
    for sql in [
        "INSERT INTO orders VALUES (1, 2002, 's1'), (2, 2003, 's1')",
        "UPDATE orders SET state = 's1' WHERE tenant = 3",
        "UPDATE orders SET state = 's2' WHERE state = 's1' AND tenant > 3",
        // Entries equal to one that the other takes away.
        "DELETE FROM orders WHERE tenant = 1 AND state = 's1' AND id <> 25",
    ] {
        run(&mut second, sql);
    }
    let look = "SELECT count(*) FROM orders WHERE state = 's1' AND tenant < 2";
    assert_eq!(
        value(&mut first, look),
        value(&mut second, look.replace("tenant <", "tenant + 0 <").as_str())
    );
    run(&mut first, "ROLLBACK");
    assert_index(&fixture);
    // More entries than are asked for.
    run(
        &mut second,
        "INSERT INTO orders SELECT 5, g, 'many' FROM generate_series(3001, 6000) g",
    );
    assert_eq!(
        value(&mut second, "SELECT count(*) FROM orders WHERE state = 'many'"),
        "3000"
    );
    run(
        &mut second,
        "UPDATE orders SET state = 'few' WHERE state = 'many' AND id > 3010",
    );
    assert_eq!(
        value(&mut second, "SELECT count(*) FROM orders WHERE state = 'many'"),
        "10"
    );
    run(&mut second, "DELETE FROM orders WHERE state = 'few'");
    assert_index(&fixture);
    let check = run(&mut second, "SELECT drover.check_global_index('orders', 'state')").text_rows();
    assert_eq!(check[0].last().cloned().flatten().as_deref(), Some("ok"));
    // An entry too many, or too few, is seen and made right.
    let known = run(&mut second, "SELECT * FROM drover.global_indexes").text_rows();
    let table = known[0].last().cloned().flatten().unwrap();
    for damage in [
        format!("INSERT INTO {table} SELECT * FROM {table} LIMIT 1"),
        format!("DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})"),
    ] {
        let changed = (0..SHARDS).any(|shard| {
            let done = run(&mut fixture.admin_of(shard), &damage);
            done.tags().first().is_some_and(|tag| !tag.ends_with(" 0"))
        });
        assert!(changed, "{damage}");
        let repair = "SELECT drover.check_global_index('orders', 'state', repair => true)";
        let state = run(&mut second, repair).text_rows()[0].last().cloned().flatten();
        assert_eq!(state.as_deref(), Some("repaired"), "{damage}");
        assert_index(&fixture);
    }
}

/// What a lost server had locked is free: others change the row and take its entry. That it is gone is damage only if nobody is lost.
#[test]
fn who_has_lost_its_row_is_told_of_that() {
    let fixture = Fixture::over(SHARDS as u16, 6, 1);
    let mut client = orders(&fixture);
    let known = run(&mut client, "SELECT * FROM drover.global_indexes").text_rows();
    let table = known[0].last().cloned().flatten().unwrap();
    let has = format!("SELECT count(*) > 0 FROM {table} WHERE state = 's1'");
    let of_entries = (0..SHARDS).find(|shard| value(&mut fixture.admin_of(*shard), &has) == "t");
    let of_entries = of_entries.expect("a shard with its entries");
    let of_rows = (of_entries + 1) % SHARDS;
    let tenant = tenant_on(&fixture, of_rows);
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user";
    for lost in [true, false] {
        run(
            &mut client,
            &format!("UPDATE orders SET state = 's1' WHERE tenant = {tenant}"),
        );
        let mut beside = fixture.admin_of(of_entries);
        run(
            &mut beside,
            &format!("BEGIN; LOCK TABLE {table}; DELETE FROM {table} WHERE drover_key_1 = {tenant}"),
        );
        let update = format!("UPDATE orders SET state = 's0' WHERE tenant = {tenant}");
        let (code, message) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| error(&mut client, &update));
            let waits = format!("SELECT count(*) {others} AND wait_event_type = 'Lock'");
            await_value(&mut fixture.admin_of(of_entries), &waits, "1");
            if lost {
                let ended = format!("SELECT pg_terminate_backend(pid) {others}");
                run(&mut fixture.admin_of(of_rows), &ended);
            }
            run(&mut beside, "COMMIT");
            writer.join().unwrap()
        });
        match lost {
            true => assert!(["57P01", "08006"].contains(&code.as_str()), "{code} {message}"),
            false => assert_eq!(code, "XX001", "{message}"),
        }
        let mut client = fixture.client();
        run(
            &mut client,
            "SELECT drover.check_global_index('orders', 'state', repair => true)",
        );
        assert_index(&fixture);
    }
}

fn await_value(client: &mut Client, sql: &str, wanted: &str) {
    let begun = Instant::now();
    while value(client, sql) != wanted {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{sql} is never {wanted}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everybody changes rows of a few values; connections are lost. Whatever came of it, entries are those of the rows.
fn race(fixture: &Fixture, writer: usize) {
    let mut client = fixture.client_again();
    for turn in 0..TURNS {
        let (tenant, state) = ((writer + turn * 5) % TENANTS, (turn + writer) % 3);
        let id = 10_000 + writer * 1000 + turn;
        let sql = match turn % 4 {
            0 | 1 => format!(
                "INSERT INTO orders VALUES ({tenant}, {id}, 's{state}'), ({}, {id}, 's{state}')",
                (tenant + 1) % TENANTS
            ),
            2 => format!("UPDATE orders SET state = 's{state}' WHERE tenant = {tenant}"),
            _ => format!("DELETE FROM orders WHERE tenant = {tenant} AND state = 's{state}'"),
        };
        match client.simple(&sql) {
            Ok(answer) => {
                if let Some(error) = answer.error() {
                    let lost = ["57P01", "08006", "08007", "40001", "40P01", "08P01"];
                    assert!(lost.contains(&error.sqlstate()), "{sql}: {error}");
                }
            }
            Err(_) => client = fixture.client_again(),
        }
    }
}

#[test]
fn many_writers_of_few_values_leave_it_whole_whatever_is_killed() {
    let fixture = Fixture::over(SHARDS as u16, 24, 2);
    orders(&fixture);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ended = Stop(&stop);
        let killer = scope.spawn(|| keep_killing(&fixture, &stop));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let fixture = &fixture;
                scope.spawn(move || race(fixture, writer))
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(ended);
        killer.join().unwrap();
    });
    await_nothing_in_doubt(&fixture);
    assert!(assert_index(&fixture) > 0);
    let mut client = fixture.client();
    for state in ["s0", "s1", "s2"] {
        let by_index = value(
            &mut client,
            &format!("SELECT count(*) FROM orders WHERE state = '{state}'"),
        );
        let by_all = value(
            &mut client,
            &format!("SELECT count(*) FROM orders WHERE state LIKE '{state}'"),
        );
        assert_eq!(by_index, by_all, "{state}");
    }
}
