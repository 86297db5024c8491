//! Writes over rows that are carried to them: what somebody changed meanwhile, rights, and nothing half there.

use std::time::{Duration, Instant};

use testkit::client::Client;

use super::fixture::{Fixture, error, run, value};

const SHARDS: u16 = 2;
const CARRIED: &str = "UPDATE a SET n = a.n + h.n FROM h WHERE h.x = a.x";

fn tables(client: &mut Client) {
    for sql in [
        "CREATE TABLE a (k int PRIMARY KEY, x int, n int CHECK (n < 1000)) WITH (drover.shard_key = 'k')",
        "CREATE TABLE h (x int, n int)",
        "INSERT INTO a SELECT g, g % 3, g FROM generate_series(1, 9) g",
        "INSERT INTO h VALUES (1, 100)",
    ] {
        run(client, sql);
    }
}

/// The command tag of a statement.
fn tag(client: &mut Client, sql: &str) -> String {
    let answer = run(client, sql);
    answer.results[0].tag.clone().unwrap()
}

/// Somebody else changes a row and keeps its lock until the carried statement waits for it; the statement's tag.
pub(super) fn against(fixture: &Fixture, change: &str, carried: &str) -> String {
    let other = &mut fixture.client();
    run(other, "BEGIN");
    run(other, change);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| tag(&mut fixture.client(), carried));
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock'";
        let until = Instant::now() + Duration::from_secs(60);
        let mut admins: Vec<Client> = (0..fixture.shards())
            .map(|shard| fixture.admin_of(shard))
            .collect();
        while admins.iter_mut().all(|admin| value(admin, waits) == "0") {
            assert!(!running.is_finished(), "the statement did not wait");
            assert!(Instant::now() < until, "the statement never waited");
            std::thread::yield_now();
        }
        run(other, "COMMIT");
        running.join().unwrap()
    })
}

#[test]
fn what_somebody_changed_meanwhile_is_not_lost() {
    let fixture = Fixture::over(SHARDS, 4, 2);
    let client = &mut fixture.client();
    tables(client);
    let n = "SELECT n FROM a WHERE k = 4";
    // The new value is computed from the newest row.
    assert_eq!(
        against(&fixture, "UPDATE a SET n = 50 WHERE k = 4", CARRIED),
        "UPDATE 3"
    );
    assert_eq!(value(client, n), "150");
    // A row that does not qualify any more is left alone, and not counted.
    assert_eq!(
        against(&fixture, "UPDATE a SET x = 2, n = 7 WHERE k = 4", CARRIED),
        "UPDATE 2"
    );
    assert_eq!(value(client, n), "7");
    // Nor is a row that is gone.
    let delete = "DELETE FROM a USING h WHERE h.x = a.x AND h.n > a.n - 1000";
    assert_eq!(against(&fixture, "DELETE FROM a WHERE k = 1", delete), "DELETE 1");
    assert_eq!(value(client, "SELECT count(*) FROM a"), "7");
}

#[test]
fn tables_are_read_and_written_with_the_rights_of_the_client() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    let database = value(&mut fixture.direct(), "SELECT current_database()");
    let user = value(&mut fixture.direct(), "SELECT current_user");
    let role = format!("carrier_{database}");
    for shard in 0..usize::from(SHARDS) {
        let sql = format!("CREATE ROLE {role}; GRANT {role} TO {user}");
        run(&mut fixture.admin_of(shard), &sql);
    }
    let denied = |client: &mut Client, granted: &str, table: &str| {
        run(client, &format!("GRANT {granted} TO {role}"));
        run(client, &format!("SET ROLE {role}"));
        let (code, message) = error(client, CARRIED);
        assert_eq!(code, "42501", "{granted}");
        assert_eq!(message, format!("permission denied for table {table}"));
        run(client, "RESET ROLE");
    };
    denied(client, "SELECT ON a", "h");
    denied(client, "SELECT ON h", "a");
    denied(client, "UPDATE (x) ON a", "a");
    run(client, &format!("GRANT UPDATE (n) ON a TO {role}"));
    run(client, &format!("SET ROLE {role}"));
    assert_eq!(tag(client, CARRIED), "UPDATE 3");
    run(client, "RESET ROLE");
    run(client, "ALTER TABLE a ENABLE ROW LEVEL SECURITY");
    assert_eq!(error(client, CARRIED).0, "0A000");
}

#[test]
fn an_error_of_one_shard_leaves_nothing_on_the_others() {
    let fixture = Fixture::over(SHARDS, 4, 1);
    let client = &mut fixture.client();
    tables(client);
    let sum = "SELECT sum(n) FROM a";
    let before = value(client, sum);
    run(client, "UPDATE h SET n = 994");
    // 994 + 7 is too much for one row alone.
    assert_eq!(error(client, CARRIED).0, "23514");
    assert_eq!(value(client, sum), before);
    run(client, "UPDATE h SET n = 992");
    assert_eq!(tag(client, CARRIED), "UPDATE 3");
}
