//! What every kind of table refuses on its shards: what comes past Drover, and a proxy that does not know where the rows are.
//!
//! Such a proxy is made by lying to it: its store goes on saying that its registration is renewed, and tells it nothing new,
//! while everybody else sees it dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::client::Client;
use topology::{
    BoxFuture, Key, LeaseError, LeaseId, Listing, MemoryStore, StoreError, TopologyStore, Version, Versioned,
    Watch, WatchSource, Write, WriteError,
};

use super::fixture::{Fixture, error, run, value};

/// The store as a proxy sees it that may be cut off and does not notice.
#[derive(Debug)]
struct Deceiving {
    store: Arc<MemoryStore>,
    lying: Arc<AtomicBool>,
    leases: Mutex<Vec<LeaseId>>,
}

impl Deceiving {
    fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            lying: Arc::default(),
            leases: Mutex::default(),
        })
    }

    /// Everybody else sees the proxy dead from now on.
    fn lie(&self) {
        self.lying.store(true, Ordering::SeqCst);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for lease in self.leases.lock().unwrap().iter() {
            runtime.block_on(self.store.revoke_lease(lease)).unwrap();
        }
    }
}

impl TopologyStore for Deceiving {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        self.store.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Arc<Listing>, StoreError>> {
        self.store.list(prefix)
    }

    fn compare_and_swap(&self, write: Write) -> BoxFuture<'_, Result<Version, WriteError>> {
        self.store.compare_and_swap(write)
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Version) -> BoxFuture<'a, Result<(), WriteError>> {
        self.store.delete(key, expected)
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(Silenced {
            watch: self.store.watch(prefix),
            lying: Arc::clone(&self.lying),
        })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        Box::pin(async move {
            let lease = self.store.grant_lease(ttl).await?;
            self.leases.lock().unwrap().push(lease.clone());
            Ok(lease)
        })
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), LeaseError>> {
        if self.lying.load(Ordering::SeqCst) {
            return Box::pin(async { Ok(()) });
        }
        self.store.keep_alive(lease)
    }

    fn revoke_lease<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.revoke_lease(lease)
    }
}

/// A watch that tells nothing once the store lies.
struct Silenced {
    watch: Watch,
    lying: Arc<AtomicBool>,
}

impl WatchSource for Silenced {
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Listing>, StoreError>> {
        Box::pin(async {
            let listing = self.watch.next().await?;
            if self.lying.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok(listing)
        })
    }
}

/// A kind of table, and the statement that gives it to table `t`.
struct Kind {
    /// Its columns; the first one is the key, or a part of it.
    columns: &'static str,
    /// Rows of which each of two shards has some.
    rows: &'static str,
    /// With `{1}` and `{2}` for the names of the shards.
    becomes: &'static [&'static str],
    /// A row that a proxy would insert that does not know.
    row: &'static str,
}

/// A row as a statement puts it back.
fn row_of(admin: &mut Client) -> String {
    value(
        admin,
        "SELECT string_agg(quote_nullable(value), ', ') FROM \
         (SELECT to_jsonb(t) AS row FROM t ORDER BY t LIMIT 1) r, \
         (SELECT attname, attnum FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0) a, \
         LATERAL (SELECT row ->> a.attname AS value) v",
    )
}

fn refused(client: &mut Client, sql: &str, with: &str) {
    let (code, text) = error(client, sql);
    assert_eq!(code, with, "{sql}: {text}");
}

const PAST_DROVER: &str = "55000";
const OUTDATED: &str = "40001";

/// DDL and TRUNCATE on the shard itself, whatever the kind of table.
fn schema_is_guarded(admin: &mut Client) {
    for sql in [
        "TRUNCATE t",
        "ALTER TABLE t ADD other text",
        "ALTER TABLE t ALTER v SET NOT NULL",
        "ALTER TABLE t RENAME TO t2",
        "ALTER TABLE t DISABLE TRIGGER ALL",
        "CREATE INDEX more ON t (v)",
        "DROP INDEX t_v",
        "DROP TABLE t",
        "CREATE VIEW seen AS SELECT * FROM t; ALTER TABLE t DROP COLUMN v CASCADE",
        "CREATE TABLE part () INHERITS (t)",
        "CREATE RULE nothing AS ON DELETE TO t DO INSTEAD NOTHING",
        "CREATE POLICY mine ON t USING (true)",
        "CREATE STATISTICS pair ON id, v FROM t",
        "DROP SCHEMA public CASCADE",
        "BEGIN; DROP TABLE t",
    ] {
        refused(admin, sql, PAST_DROVER);
        if sql.starts_with("BEGIN") {
            run(admin, "ROLLBACK");
        }
    }
    // What does not concern it goes on.
    run(admin, "CREATE TABLE beside (id int PRIMARY KEY, v text)");
    run(
        admin,
        "CREATE INDEX ON beside (v); ALTER TABLE beside ADD w int; TRUNCATE beside; REINDEX TABLE t",
    );
    run(admin, "DROP TABLE beside; ANALYZE t");
    run(admin, "VACUUM t");
    run(
        admin,
        "CREATE TEMP TABLE temporary (id int); DROP TABLE temporary",
    );
    // And somebody who knows may do everything.
    run(
        admin,
        "BEGIN; SET LOCAL session_replication_role = replica; DROP TABLE t CASCADE; ROLLBACK",
    );
}

fn check(kind: &Kind) {
    let fixture = Fixture::over(2, 3, 1);
    let mut client = fixture.client();
    let shards = client.simple("SELECT * FROM drover.shards").unwrap().text_rows();
    let shards: Vec<String> = shards.into_iter().map(|row| row[0].clone().unwrap()).collect();
    run(&mut client, &format!("CREATE TABLE t ({})", kind.columns));
    run(&mut client, "CREATE INDEX t_v ON t (v)");
    run(&mut client, &format!("INSERT INTO t {}", kind.rows));
    let becomes: Vec<String> = kind
        .becomes
        .iter()
        .map(|sql| sql.replace("{1}", &shards[0]).replace("{2}", &shards[1]))
        .collect();
    let (last, before) = becomes.split_last().unwrap();
    before.iter().for_each(|sql| drop(run(&mut client, sql)));
    let mut store = None;
    let (second, url) = fixture.another_over("second", |inner| {
        let deceiving = Deceiving::new(inner);
        store = Some(Arc::clone(&deceiving));
        deceiving
    });
    // One of its connections to each shard is used before, the others are made later.
    let mut old = Client::connect(&url).unwrap();
    let count = value(&mut old, "SELECT count(*) FROM t");
    store.unwrap().lie();
    run(&mut client, last);

    outdated_is_refused(&mut old, kind.row);
    let mut later = Client::connect(&url).unwrap();
    outdated_is_refused(&mut later, kind.row);
    second.shutdown();

    let reference = last.contains("reference_table");
    let mut on = [fixture.admin_of(0), fixture.admin_of(1)];
    schema_is_guarded(&mut on[1]);
    let rows = [row_of(&mut on[0]), row_of(&mut on[1])];
    for (admin, other) in on.iter_mut().zip(rows.iter().rev()) {
        if reference {
            for sql in [
                "INSERT INTO t SELECT * FROM t WHERE false",
                "UPDATE t SET v = v",
                "DELETE FROM t WHERE false",
            ] {
                refused(admin, sql, PAST_DROVER);
            }
        } else {
            let (code, text) = error(admin, &format!("INSERT INTO t VALUES ({other})"));
            assert!(["23000", "23514"].contains(&&*code), "{other}: {code}: {text}");
            // Rows of its own may be repaired by hand.
            run(admin, "UPDATE t SET v = v");
        }
    }
    // Drover itself is not hindered.
    run(&mut client, "UPDATE t SET v = 'new'");
    run(
        &mut client,
        "ALTER TABLE t ADD more int; CREATE INDEX ON t (more); DROP INDEX t_v",
    );
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM t WHERE v = 'new'"),
        count
    );
    run(&mut client, "TRUNCATE t");
    run(&mut client, "DROP TABLE t");
}

/// What the proxy believes is wrong, and nothing of it can be written. Each statement by itself, and in a transaction.
fn outdated_is_refused(client: &mut Client, row: &str) {
    for sql in [
        "UPDATE t SET v = 'lost'",
        "DELETE FROM t",
        &format!("INSERT INTO t VALUES ({row})"),
        "TRUNCATE t",
    ] {
        refused(client, sql, OUTDATED);
        run(client, "BEGIN");
        refused(client, sql, OUTDATED);
        run(client, "ROLLBACK");
    }
}

const NUMBERS: &str = "id int PRIMARY KEY, v text";
const FORTY: &str = "SELECT g, 'v' FROM generate_series(1, 40) g";
const WORDS: &str = "id text PRIMARY KEY, v text";
const THREE_WORDS: &str = "VALUES ('de', 'v'), ('us', 'v'), ('fr', 'v')";

#[test]
fn hash() {
    check(&Kind {
        columns: NUMBERS,
        rows: FORTY,
        becomes: &["SELECT drover.shard_table('t', key => 'id')"],
        row: "1000, 'x'",
    });
}

#[test]
fn modulo() {
    check(&Kind {
        columns: NUMBERS,
        rows: FORTY,
        becomes: &["SELECT drover.shard_table('t', key => 'id', scheme => 'modulo')"],
        row: "1000, 'x'",
    });
}

#[test]
fn range() {
    check(&Kind {
        columns: NUMBERS,
        rows: FORTY,
        becomes: &[
            "SELECT drover.shard_table('t', key => 'id', scheme => 'range', places => '{1} < 20; {2}')",
        ],
        row: "1000, 'x'",
    });
}

#[test]
fn list() {
    check(&Kind {
        columns: WORDS,
        rows: THREE_WORDS,
        becomes: &[
            "SELECT drover.shard_table('t', key => 'id', scheme => 'list', places => '{1} = de; {2} = *')",
        ],
        row: "'at', 'x'",
    });
}

#[test]
fn directory() {
    check(&Kind {
        columns: WORDS,
        rows: THREE_WORDS,
        becomes: &[
            "SELECT drover.shard_table('t', key => 'id', scheme => 'directory', places => '{1} = de; {2} = us')",
        ],
        row: "'at', 'x'",
    });
}

#[test]
fn geo() {
    check(&Kind {
        columns: WORDS,
        rows: THREE_WORDS,
        becomes: &[
            "SELECT drover.shard_table('t', key => 'id', scheme => 'geo', places => '{1} = de; {2} = us, fr, at')",
        ],
        row: "'at', 'x'",
    });
}

#[test]
fn composite() {
    check(&Kind {
        columns: "id int, part text, v text, PRIMARY KEY (id, part)",
        rows: "SELECT g, 'p', 'v' FROM generate_series(1, 40) g",
        becomes: &["SELECT drover.shard_table('t', key => 'id, part')"],
        row: "1000, 'p', 'x'",
    });
}

#[test]
fn reference() {
    check(&Kind {
        columns: NUMBERS,
        rows: FORTY,
        becomes: &["SELECT drover.reference_table('t')"],
        row: "1000, 'x'",
    });
}

/// The table is sharded already; what the proxy misses is that one of its keys has another place.
#[test]
fn pinned() {
    check(&Kind {
        columns: NUMBERS,
        rows: FORTY,
        becomes: &[
            "SELECT drover.shard_table('t', key => 'id')",
            "SELECT drover.pin_key('t', '1000', shard => '{1}')",
            "SELECT drover.pin_key('t', '1000', shard => '{2}')",
        ],
        row: "1000, 'x'",
    });
}
