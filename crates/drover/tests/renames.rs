//! Renames of sharded tables with clients at work, two proxies, and a proxy that is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::TestCluster;
use testkit::client::{Client, ClientError};
use testkit::proxy::{DroverProxy, ProxySite};

/// One name and key column, and the other.
const NAMES: [(&str, &str); 2] = [("t", "id"), ("s.u", "k")];

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")))
}

/// The value, or the SQLSTATE; `None`: the proxy is gone.
fn ask(client: &mut Client, sql: &str) -> Option<Result<String, String>> {
    match client.simple(sql) {
        Ok(answer) => Some(match answer.error() {
            None => Ok(answer.value().unwrap_or_default()),
            Some(error) => Err(error.sqlstate().to_owned()),
        }),
        Err(ClientError::Closed(_)) => None,
        Err(_) => None,
    }
}

fn run(client: &mut Client, sql: &str) {
    assert!(
        matches!(ask(client, sql), Some(Ok(_))),
        "{sql}: {:?}",
        ask(client, sql)
    );
}

fn set_up(proxy: &DroverProxy) {
    let mut client = proxy.client();
    run(&mut client, "CREATE SCHEMA s");
    run(
        &mut client,
        "CREATE TABLE t (id bigint PRIMARY KEY, v int) WITH (drover.shard_key = 'id')",
    );
    let rows: Vec<String> = (1..=300).map(|id| format!("({id}, 0)")).collect();
    run(&mut client, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
}

/// The statements that give the table its other name.
fn there_and_back(forth: bool) -> &'static str {
    match forth {
        true => {
            "BEGIN; ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA s; ALTER TABLE s.u RENAME COLUMN id TO k; COMMIT"
        }
        false => {
            "BEGIN; ALTER TABLE s.u SET SCHEMA public; ALTER TABLE u RENAME TO t; ALTER TABLE t RENAME k TO id; COMMIT"
        }
    }
}

/// Under exactly one of its names the table has all rows, and each where it belongs.
fn look(client: &mut Client) -> usize {
    let found: Vec<usize> = (0..NAMES.len())
        .filter(|at| {
            let (name, key) = NAMES[*at];
            match ask(client, &format!("SELECT count(*) FROM {name}")).unwrap() {
                Ok(count) => {
                    assert_eq!(count, "300", "{name}");
                    let one = ask(client, &format!("SELECT {key} FROM {name} WHERE {key} = 77"));
                    assert_eq!(one, Some(Ok("77".to_owned())));
                    true
                }
                Err(code) => {
                    assert_eq!(code, "42P01", "{name}");
                    false
                }
            }
        })
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

/// A table that is in use all the time: its renames are not starved, and nobody sees a part of it.
#[test]
fn a_table_in_use_is_renamed() {
    let site = site();
    let (a, b) = (site.start("a"), site.start("b"));
    set_up(&a);
    let stop = AtomicBool::new(false);
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..4_usize {
            let proxy = if number % 2 == 0 { &a } else { &b };
            let (stop, seen) = (&stop, &seen);
            scope.spawn(move || {
                let mut client = proxy.client();
                while !stop.load(Ordering::Relaxed) {
                    let name = ["t", "u"][number / 2];
                    let sql = match number {
                        0 | 2 => format!("SELECT count(*) FROM {name}"),
                        _ => format!("UPDATE {name} SET v = v + 1"),
                    };
                    match ask(&mut client, &sql) {
                        Some(Ok(count)) => {
                            assert!(count.is_empty() || count == "300", "{sql}: {count}");
                            seen.fetch_add(1, Ordering::Relaxed);
                        }
                        // It has its other name, or two updates met on two shards.
                        Some(Err(code)) => assert!(["42P01", "40P01", "40001"].contains(&&*code), "{code}"),
                        None => panic!("the proxy is gone"),
                    }
                }
            });
        }
        let renamed = std::panic::catch_unwind(|| {
            let mut client = a.client();
            for round in 0..6 {
                let sql = ["ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"][round % 2];
                assert_eq!(ask(&mut client, sql), Some(Ok(String::new())), "{sql}");
            }
        });
        stop.store(true, Ordering::Relaxed);
        renamed.unwrap();
    });
    assert!(seen.load(Ordering::Relaxed) > 0);
    assert_eq!(look(&mut b.client()), 0);
    assert!(site.misplaced(&b).is_empty());
}

#[test]
fn a_proxy_that_is_killed_leaves_one_name() {
    let site = site();
    let b = site.start("b");
    set_up(&b);
    let mut at = 0;
    for round in 0..2 {
        let a = site.start("a");
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let done = &done;
            let mut client = a.client();
            scope.spawn(move || {
                let mut forth = at == 0;
                while ask(&mut client, there_and_back(forth)) == Some(Ok(String::new())) {
                    forth = !forth;
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            // Some time after a rename began.
            while done.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(7 * round));
            a.signal("KILL");
        });
        // Waits for as long as the killed proxy's registration lives, then for what it left prepared.
        let mut client = b.client();
        at = look(&mut client);
        run(&mut client, there_and_back(at == 0));
        assert_eq!(look(&mut client), 1 - at);
        at = 1 - at;
        assert!(site.misplaced(&b).is_empty());
    }
}
