//! Moves on real servers.

mod effects;
mod indexes;
mod online;
mod pins;
mod placed;
mod rearrange;
mod renames;
mod staged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{KeyType, ShardId};
use plan::{MetadataEffect, ShardOptions};
use sql::QualifiedName;
use testkit::TestCluster;
use topology::records::{NodeRecord, ShardRecord, TableKind, TableState, barrier_key};
use topology::{ClusterRecord, MemoryStore, ProxyId, TopologyStore as _};
use wire::backend::ErrorFields;

use super::faults::{Faults, Stall, Step};
use super::relocate::{self, Wanted};
use super::*;
use crate::cluster::control::{self, Control};
use crate::config::{AdminConfig, Limits, PoolConfig, ProxyConfig, Timeouts};

const SHARDS: u16 = 3;

/// A database on three shards and the cluster a proxy sees.
struct Fixture {
    kit: &'static TestCluster,
    control: Option<Control>,
    cluster: Arc<Cluster>,
    database: String,
    runtime: tokio::runtime::Runtime,
    store: Arc<MemoryStore>,
    config: ProxyConfig,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.shutdown();
        }
    }
}

impl Fixture {
    /// `everywhere` runs on every shard, `home` on the home shard only.
    fn new(everywhere: &str, home: &str) -> Fixture {
        let kit = TestCluster::shared(SHARDS);
        let database = kit.create_database();
        kit.on_every_shard(&database, everywhere);
        let info = kit.info();
        kit.on_node(&info.shards[0].primary, &database, home);
        let config = ProxyConfig {
            auth: Default::default(),
            observe: Default::default(),
            listen: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            clients_per_worker: 1,
            lease_ttl: crate::config::LEASE_TTL,
            fail_points: Default::default(),
            reuse_port: false,
            users: Vec::new(),
            listen_also: Vec::new(),
            unix_socket: None,
            console: Default::default(),
            databases: vec![database.clone().into()],
            pool: PoolConfig::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            shards: Vec::new(),
            admin: AdminConfig {
                user: info.admin_user.clone(),
                password: Some(info.admin_password.expose().to_owned()),
            },
            tls: Default::default(),
            replicas: Default::default(),
            rules: Default::default(),
        };
        let shards = info.shards.iter().zip(1..).map(|(shard, id)| ShardRecord {
            id: ShardId(id),
            name: shard.name.clone(),
            primary: NodeRecord::new(shard.primary.host.clone(), shard.primary.port),
            replicas: Vec::new(),
        });
        let record = ClusterRecord::new("test", vec![database.clone()], shards.collect()).unwrap();
        let store = Arc::new(MemoryStore::new());
        let control = start(&store, "p1", record, &config);
        let cluster = Arc::clone(&control.cluster);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Fixture {
            kit,
            control: Some(control),
            cluster,
            database,
            runtime,
            store,
            config,
        }
    }

    /// Another proxy of the same cluster.
    fn second_proxy(&self) -> Control {
        start(
            &self.store,
            "p2",
            ClusterRecord::clone(&self.cluster.record()),
            &self.config,
        )
    }

    fn shard(
        &self,
        table: &str,
        key: &str,
        colocate_with: Option<&str>,
    ) -> Result<Vec<String>, Box<ErrorFields>> {
        self.move_dying(table, &goal(key, colocate_with), None)
    }

    fn reference(&self, table: &str) -> Result<Vec<String>, Box<ErrorFields>> {
        self.move_dying(table, &Goal::Reference, None)
    }

    fn move_dying(
        &self,
        table: &str,
        goal: &Goal,
        die_at: Option<Step>,
    ) -> Result<Vec<String>, Box<ErrorFields>> {
        let wanted = Wanted {
            database: &self.database,
            schema: "public",
            table,
            goal,
        };
        let mut lines = Vec::new();
        let mut line = |text: &str| lines.push(text.to_owned());
        let faults = Faults {
            die_at,
            stall_at: None,
        };
        let run = relocate::run(&self.cluster, &wanted, &mut line, &faults);
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), run).await });
        result
            .expect("a move ends")
            .map_err(|error| Box::new(error.into_fields()))?;
        Ok(lines)
    }

    /// Rows of one shard, columns joined by `|`.
    fn rows(&self, shard: u32, sql: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let mut link = self
                .cluster
                .admin_link(ShardId(shard), &self.database)
                .await
                .unwrap();
            let rows = link
                .rows(sql)
                .await
                .unwrap_or_else(|error| panic!("shard {shard}: {sql}: {error}"));
            rows.into_iter()
                .map(|row| {
                    row.into_iter()
                        .map(|v| v.unwrap_or("∅".into()))
                        .collect::<Vec<_>>()
                        .join("|")
                })
                .collect()
        })
    }

    fn everywhere(&self, sql: &str) -> Vec<Vec<String>> {
        (1..=u32::from(SHARDS))
            .map(|shard| self.rows(shard, sql))
            .collect()
    }

    fn exists(&self, shard: u32, table: &str) -> bool {
        self.rows(
            shard,
            &format!("SELECT to_regclass('public.{table}') IS NOT NULL"),
        ) == ["t"]
    }

    /// The recorded state of a table, read from the store.
    fn state(&self, table: &str) -> Option<TableState> {
        let record = self.record();
        record
            .table(&self.database, "public", table)
            .map(|table| table.state.clone())
    }

    fn record(&self) -> ClusterRecord {
        self.runtime.block_on(async {
            let guard = self.cluster.change(ChangeScope::Nothing).await.unwrap();
            let record = guard.cluster().clone();
            guard.finish(change_deadline()).await.unwrap();
            record
        })
    }

    fn repair(&self) {
        self.runtime.block_on(async {
            // What the control thread does when it has seen the pending record.
            self.caught_up().await;
            repair(&self.cluster, &self.database).await.unwrap();
            self.caught_up().await;
        });
    }

    fn caught_up_blocking(&self) {
        self.runtime.block_on(self.caught_up());
    }

    /// Waits until the control thread has loaded what is published.
    async fn caught_up(&self) {
        while self.cluster.record().epoch < self.epoch().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn epoch(&self) -> catalog::Epoch {
        let guard = self.cluster.change(ChangeScope::Nothing).await.unwrap();
        let epoch = guard.cluster().epoch;
        guard.finish(change_deadline()).await.unwrap();
        epoch
    }

    /// The control thread opens it when it has seen that the barrier is gone, which the leader does not wait for.
    fn assert_gate_opens(&self) {
        let opens = async {
            while self.cluster.gate.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let opened = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), opens).await });
        opened.expect("the gate opens");
    }

    fn assert_untouched(&self, table: &str, before: &[String], digest: &str) {
        assert_eq!(self.rows(1, digest), before);
        assert_eq!(self.state(table), None);
        for shard in 2..=u32::from(SHARDS) {
            assert!(!self.exists(shard, table), "shard {shard}");
            let left = self.rows(
                shard,
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
            );
            assert_eq!(left, Vec::<String>::new());
        }
    }
}

fn start(store: &Arc<MemoryStore>, proxy: &str, record: ClusterRecord, config: &ProxyConfig) -> Control {
    let store = Arc::clone(store);
    control::start(store, ProxyId::parse(proxy).unwrap(), record, config, 1 << 20).unwrap()
}

fn goal(key: &str, colocate_with: Option<&str>) -> Goal {
    Goal::Sharded(options(key, colocate_with))
}

fn options(key: &str, colocate_with: Option<&str>) -> ShardOptions {
    ShardOptions {
        key: key.split(", ").map(str::to_owned).collect(),
        salt: None,
        colocate_with: colocate_with.map(QualifiedName::bare),
        scheme: None,
    }
}

fn code(result: Result<Vec<String>, Box<ErrorFields>>) -> String {
    result.err().map_or("00000".to_owned(), |fields| fields.code)
}

const ORDERS: &str = "
    CREATE TYPE colour AS ENUM ('red', 'green');
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := upper(NEW.note); RETURN NEW; END';
";
const ORDERS_HOME: &str = r"
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY,
        user_id int NOT NULL,
        number serial,
        note text DEFAULT 'none',
        price numeric(12, 2) CHECK (price >= 0),
        twice numeric GENERATED ALWAYS AS (price * 2) STORED,
        shade colour, raw bytea, at timestamptz, ratio float8, tags text[],
        PRIMARY KEY (user_id, id)
    );
    ALTER TABLE orders DROP COLUMN IF EXISTS nothing;
    CREATE INDEX orders_note ON orders (lower(note)) WHERE note <> '';
    CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    COMMENT ON TABLE orders IS 'what people want';
    GRANT SELECT ON orders TO PUBLIC;
    INSERT INTO orders (user_id, note, price, shade, raw, at, ratio, tags)
        SELECT g % 200 - 100, E'tab\t newline\n back\\slash \\N ' || g, g, 'green', decode('00ff5c', 'hex'),
               now() - g * interval '1 hour', 1.0 / g, ARRAY['a,b', NULL, '\']
        FROM generate_series(1, 1000) g;
    INSERT INTO orders (user_id, note) VALUES (7, NULL);
";
const DIGEST: &str = "SELECT count(*), sum(pg_catalog.hashtextextended(o::text, 0)::numeric) FROM orders o";

#[test]
fn rows_go_to_their_shards_and_everything_around_the_table_with_them() {
    let f = Fixture::new(ORDERS, ORDERS_HOME);
    let before = f.rows(1, DIGEST);
    f.shard("orders", "user_id", None).unwrap();

    let sum = |column: usize| -> i128 {
        f.everywhere(DIGEST)
            .concat()
            .iter()
            .map(|row| row.split('|').nth(column).unwrap().parse::<i128>().unwrap())
            .sum()
    };
    assert_eq!(format!("{}|{}", sum(0), sum(1)), before[0]);
    let snapshot = f.runtime.block_on(f.cluster.snapshot(&f.database)).ok().unwrap();
    let relation = snapshot.relation_in("public", "orders").unwrap();
    for (shard, keys) in (1..).zip(f.everywhere("SELECT DISTINCT user_id FROM orders")) {
        assert!(!keys.is_empty());
        for key in keys {
            let value = KeyType::Int4.from_text(key.as_bytes()).unwrap();
            assert_eq!(
                snapshot.shard_of(relation.map().unwrap(), &value),
                Some(ShardId(shard)),
                "{key}"
            );
        }
    }
    let same = |sql: &str| {
        let all = f.everywhere(sql);
        assert!(!all[0].is_empty(), "{sql}");
        assert!(all.iter().all(|rows| *rows == all[0]), "{sql}: {all:#?}");
    };
    same("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders' ORDER BY 1");
    same(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'orders'::regclass ORDER BY 1",
    );
    same(
        "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND NOT tgisinternal",
    );
    same(
        "SELECT obj_description('orders'::regclass), has_table_privilege('orders', 'select'), relacl::text LIKE '%=r/%' \
          FROM pg_class WHERE oid = 'orders'::regclass",
    );
    same(
        "SELECT attname, atttypid::regtype, attnotnull, attgenerated FROM pg_attribute \
          WHERE attrelid = 'orders'::regclass AND attnum > 0 ORDER BY attnum",
    );

    assert_eq!(f.state("orders"), Some(TableState::Active));
    let record = f.record();
    let table = record.table(&f.database, "public", "orders").unwrap();
    let kind = TableKind::Sharded {
        columns: vec!["user_id".into()],
        key_types: vec!["int4".into()],
        map: record.maps[0].id,
    };
    assert_eq!(table.kind, kind);
    assert_eq!(
        table.home_oid.to_string(),
        f.rows(1, "SELECT 'orders'::regclass::oid")[0]
    );
    assert_eq!(code(f.shard("orders", "user_id", None)), "42710");
    f.assert_gate_opens();
}

#[test]
fn reference_tables_are_everywhere_and_may_be_referred_to() {
    let f = Fixture::new(
        "",
        "CREATE TABLE countries (code char(2) PRIMARY KEY, name text);
         INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France');
         CREATE TABLE at_home (country char(2) REFERENCES countries);
         INSERT INTO at_home VALUES ('de');
         CREATE TABLE users (id uuid PRIMARY KEY, country char(2) REFERENCES countries);
         INSERT INTO users SELECT gen_random_uuid(), 'fr' FROM generate_series(1, 90);
         CREATE VIEW french AS SELECT u.id, c.name FROM users u JOIN countries c ON c.code = u.country;
         CREATE VIEW names AS SELECT id AS who, name AS \"Land\" FROM french;
         GRANT SELECT ON names TO PUBLIC;
         CREATE VIEW home_and_reference AS SELECT * FROM at_home, countries",
    );
    f.reference("countries").unwrap();
    assert!(
        f.everywhere("SELECT count(*) FROM countries")
            .iter()
            .all(|rows| *rows == ["2"])
    );
    assert!(!f.exists(2, "home_and_reference"));
    f.shard("users", "id", None).unwrap();
    let count: u32 = f
        .everywhere("SELECT count(*) FROM users")
        .concat()
        .iter()
        .map(|n| n.parse::<u32>().unwrap())
        .sum();
    assert_eq!(count, 90);
    let views = f.everywhere("SELECT pg_get_viewdef('names'::regclass), pg_get_viewdef('french'::regclass)");
    assert!(views.iter().all(|rows| *rows == views[0]));
    let seen = f
        .everywhere("SELECT count(*) FROM names WHERE \"Land\" = 'France'")
        .concat();
    assert_eq!(seen.iter().map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 90);
    for (shard, rows) in (1..).zip(f.everywhere(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype = 'f'",
    )) {
        assert_eq!(rows, ["FOREIGN KEY (country) REFERENCES countries(code)"], "{shard}");
    }
}

#[test]
fn colocation_shares_a_map_and_needs_comparable_keys() {
    let f = Fixture::new(
        "",
        "CREATE TABLE users (id int8 PRIMARY KEY); CREATE TABLE orders (user_id int2, x int);
         CREATE TABLE words (word text); CREATE TABLE more_words (word varchar(10)); CREATE TABLE codes (code char(3));
         INSERT INTO users SELECT generate_series(1, 50); INSERT INTO orders SELECT g, g FROM generate_series(1, 50) g;
         INSERT INTO orders VALUES (NULL, 0);
         INSERT INTO codes VALUES ('a'), ('b  '), (NULL);
         CREATE TABLE tree (tenant int, id int, parent int, PRIMARY KEY (tenant, id),
                            FOREIGN KEY (tenant, parent) REFERENCES tree ON DELETE CASCADE);
         INSERT INTO tree SELECT g % 30, g, CASE WHEN g > 30 THEN g - 30 END FROM generate_series(1, 90) g",
    );
    f.shard("users", "id", None).unwrap();
    assert_eq!(code(f.shard("words", "word", Some("users"))), "42804");
    assert_eq!(code(f.shard("words", "word", Some("nobody"))), "42P01");
    f.shard("orders", "user_id", Some("users")).unwrap();
    f.shard("words", "word", None).unwrap();
    f.shard("more_words", "word", Some("words")).unwrap();
    f.shard("codes", "code", None).unwrap();
    f.shard("tree", "tenant", Some("users")).unwrap();
    let nodes = f.everywhere("SELECT count(*) FROM tree").concat();
    assert_eq!(nodes.iter().map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 90);
    let record = f.record();
    let maps: BTreeMap<&str, u32> = record
        .tables
        .iter()
        .filter_map(|table| match &table.kind {
            TableKind::Sharded { map, .. } => Some((table.name.as_str(), map.0)),
            TableKind::Reference => None,
        })
        .collect();
    let expected = [
        ("codes", 3),
        ("more_words", 2),
        ("orders", 1),
        ("tree", 1),
        ("users", 1),
        ("words", 2),
    ];
    assert_eq!(maps, BTreeMap::from(expected));
    let apart = "SELECT user_id FROM orders WHERE NOT EXISTS (SELECT FROM users WHERE id = user_id) AND user_id IS NOT NULL";
    assert!(f.everywhere(apart).concat().is_empty());
    assert_eq!(
        f.everywhere("SELECT x FROM orders WHERE user_id IS NULL")
            .concat(),
        ["0"]
    );
}

#[test]
fn what_cannot_be_moved_is_refused_before_anything_happens() {
    let f = Fixture::new(
        "CREATE FUNCTION unknown() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN NEW; END';
         CREATE COLLATION blind (provider = icu, locale = 'und', deterministic = false)",
        "CREATE TABLE plain (id int, other int);
         CREATE VIEW view_of AS SELECT 1 AS id;
         CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE parted (id int, m mood) PARTITION BY HASH (m);
         CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
         CREATE TABLE spans (id interval); CREATE TABLE vague (id text COLLATE blind);
         CREATE TABLE gen (id int, twice int GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE uniq (id int, other int UNIQUE);
         CREATE TABLE excl (id int, EXCLUDE USING hash (id WITH =));
         CREATE TABLE pointed (id int PRIMARY KEY); CREATE TABLE pointing (id int REFERENCES pointed);
         CREATE TABLE triggered (id int);
         CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION unknown();
         CREATE TABLE ruled (id int); CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;
         CREATE TABLE seen (id int); CREATE MATERIALIZED VIEW copied AS SELECT * FROM seen;
         CREATE TABLE mixed (id int); CREATE VIEW mixture AS SELECT mixed.id FROM mixed, plain;
         CREATE TABLE taken (id int)",
    );
    f.kit.on_node(
        &f.kit.info().shards[2].primary,
        &f.database,
        "CREATE TABLE taken (id int)",
    );
    let cases = [
        ("nothing", "id", "42P01"),
        ("plain", "nothing", "42703"),
        ("view_of", "id", "0A000"),
        ("parted", "id", "0A000"),
        ("part", "id", "0A000"),
        ("parent", "id", "0A000"),
        ("child", "id", "0A000"),
        ("spans", "id", "0A000"),
        ("vague", "id", "0A000"),
        ("gen", "twice", "0A000"),
        ("uniq", "id", "0A000"),
        ("excl", "id", "0A000"),
        ("pointed", "id", "0A000"),
        ("pointing", "id", "0A000"),
        ("triggered", "id", "0A000"),
        ("ruled", "id", "0A000"),
        ("seen", "id", "0A000"),
        ("mixed", "id", "0A000"),
        ("taken", "id", "42P07"),
    ];
    for (table, key, expected) in cases {
        assert_eq!(code(f.shard(table, key, None)), expected, "{table}");
    }
    assert_eq!(code(f.reference("pointing")), "0A000");
    assert!(f.record().tables.is_empty());
    assert!((2..=3).all(|shard| !f.exists(shard, "mixed") && !f.exists(shard, "seen")));
}

#[test]
fn a_lock_or_a_failing_shard_leaves_everything_as_it_was() {
    let f = Fixture::new(ORDERS, ORDERS_HOME);
    let before = f.rows(1, DIGEST);
    let held = f.runtime.block_on(async {
        let mut link = f.cluster.admin_link(ShardId(1), &f.database).await.unwrap();
        link.run("BEGIN; SELECT FROM orders LIMIT 1").await.unwrap();
        link
    });
    let error = f.shard("orders", "user_id", None).unwrap_err();
    assert_eq!(error.code, "55P03", "{error:?}");
    drop(held);
    f.assert_untouched("orders", &before, DIGEST);

    f.kit.on_node(
        &f.kit.info().shards[2].primary,
        &f.database,
        "DROP FUNCTION touch()",
    );
    let error = f.shard("orders", "user_id", None).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.detail.as_deref()),
        ("42883", Some("This happened on shard_3."))
    );
    f.assert_untouched("orders", &before, DIGEST);

    // In the middle of the rows.
    let narrow = "ALTER TYPE colour RENAME VALUE 'green' TO 'olive'";
    f.kit
        .on_node(&f.kit.info().shards[1].primary, &f.database, narrow);
    assert_eq!(code(f.shard("orders", "user_id", None)), "22P02");
    f.assert_untouched("orders", &before, DIGEST);
    f.assert_gate_opens();
}

#[test]
fn a_leader_that_dies_leaves_it_done_or_undone() {
    let f = Fixture::new(ORDERS, ORDERS_HOME);
    let before = f.rows(1, DIGEST);
    let wanted = goal("user_id", None);
    for step in [
        Step::Paused,
        Step::Locked,
        Step::Moved,
        Step::Announced,
        Step::HalfPrepared,
        Step::Prepared,
    ] {
        assert_eq!(code(f.move_dying("orders", &wanted, Some(step))), "57P02");
        f.repair();
        f.assert_untouched("orders", &before, DIGEST);
    }
    for step in [Step::Decided, Step::HalfFinished, Step::Finished] {
        let f = Fixture::new(ORDERS, ORDERS_HOME);
        assert_eq!(code(f.move_dying("orders", &wanted, Some(step))), "57P02");
        f.repair();
        assert_eq!(f.state("orders"), Some(TableState::Active), "{step:?}");
        let counts = f.everywhere("SELECT count(*) FROM orders").concat();
        assert_eq!(
            counts.iter().map(|n| n.parse::<u32>().unwrap()).sum::<u32>(),
            1001,
            "{step:?}"
        );
        assert!(counts.iter().all(|n| n != "0"), "{step:?}");
        let prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        assert!(f.everywhere(prepared).concat().is_empty(), "{step:?}");
    }
}

#[test]
fn a_leader_that_was_thought_dead_cannot_commit() {
    for (step, expected) in [
        (Step::Moved, "57P01"),
        (Step::Prepared, "57P01"),
        (Step::Held, "57P01"),
    ] {
        let f = Fixture::new(
            "",
            "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 99)",
        );
        let stall = Arc::new(Stall::default());
        let faults = Faults {
            stall_at: Some((step, Arc::clone(&stall))),
            ..Faults::default()
        };
        let wanted = goal("id", None);
        let error = f.runtime.block_on(async {
            let wanted = Wanted {
                database: &f.database,
                schema: "public",
                table: "t",
                goal: &wanted,
            };
            let mut line = |_: &str| ();
            let lead = relocate::attempt(&f.cluster, &wanted, &mut line, &faults);
            let others = async {
                stall.reached.notified().await;
                // Its lease ends, and whoever is left brings the change to its end.
                let barrier = f.store.get(&barrier_key()).await.unwrap().unwrap();
                f.store.delete(&barrier_key(), barrier.version).await.unwrap();
                // What was announced has to be known before anything is found to be repaired.
                f.caught_up().await;
                repair(&f.cluster, &f.database).await.unwrap();
                f.caught_up().await;
                assert!(!is_unfinished(&f.cluster.record()));
                stall.go_on.notify_one();
            };
            tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(lead, others).0 }).await
        });
        let error = error.expect("it ends").unwrap_err().into_fields();
        assert_eq!(error.code, expected, "{step:?}: {error:?}");
        f.caught_up_blocking();
        f.assert_untouched("t", &["99".to_owned()], "SELECT count(*) FROM t");
        let committed = f.rows(1, "SELECT committed FROM drover_internal.decisions");
        assert!(committed.iter().all(|committed| committed == "f"), "{step:?}");
    }
}

/// Nothing had changed, so that the move can be made all the same.
#[test]
fn a_move_that_lost_its_barrier_begins_again() {
    let f = Fixture::new(
        "",
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 99)",
    );
    let stall = Arc::new(Stall::default());
    let faults = Faults {
        stall_at: Some((Step::Moved, Arc::clone(&stall))),
        ..Faults::default()
    };
    let wanted = goal("id", None);
    let wanted = Wanted {
        database: &f.database,
        schema: "public",
        table: "t",
        goal: &wanted,
    };
    let mut lines = Vec::new();
    let mut line = |text: &str| lines.push(text.to_owned());
    f.runtime.block_on(async {
        let lead = relocate::run(&f.cluster, &wanted, &mut line, &faults);
        let others = async {
            stall.reached.notified().await;
            let barrier = f.store.get(&barrier_key()).await.unwrap().unwrap();
            f.store.delete(&barrier_key(), barrier.version).await.unwrap();
            stall.go_on.notify_one();
            stall.reached.notified().await;
            stall.go_on.notify_one();
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(lead, others).0 })
            .await
            .expect("it ends")
            .map_err(OpError::into_fields)
            .unwrap();
    });
    assert!(
        lines.iter().any(|line| line.contains("beginning again")),
        "{lines:?}"
    );
    assert_eq!(f.state("t"), Some(TableState::Active));
    let counts = f.everywhere("SELECT count(*) FROM t").concat();
    assert_eq!(counts.iter().map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 99);
}

#[test]
fn functions_are_declared_local_once() {
    let f = Fixture::new("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "");
    f.runtime.block_on(async {
        for _ in 0..2 {
            declare_local(&f.cluster, &f.database, "public", "f")
                .await
                .unwrap();
        }
    });
    assert_eq!(f.record().declared_local.len(), 1);
}

#[test]
fn every_proxy_pauses_and_has_the_new_epoch_before_the_answer() {
    let f = Fixture::new(
        "",
        "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 99)",
    );
    let second = f.second_proxy();
    let running = second.cluster.gate.register();
    // A statement that runs at the other proxy holds the move back.
    running.enter_anyway();
    let moving = std::thread::scope(|scope| {
        let moving = scope.spawn(|| f.shard("t", "id", None));
        while !second.cluster.gate.is_closed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(!moving.is_finished());
        running.leave();
        moving.join().unwrap()
    });
    moving.unwrap();
    let record = second.cluster.record();
    let table = record.table(&f.database, "public", "t").unwrap();
    assert_eq!(table.state, TableState::Active);
    second.shutdown();
}

#[test]
fn rows_longer_than_any_buffer_pass() {
    let f = Fixture::new(
        "",
        "CREATE TABLE t (id int, body text);
         INSERT INTO t SELECT g, repeat(md5(g::text), 100000 * (g % 3)) FROM generate_series(1, 12) g",
    );
    let digest = "SELECT count(*), sum(pg_catalog.hashtextextended(t::text, 0)::numeric) FROM t";
    let before = f.rows(1, digest);
    f.reference("t").unwrap();
    assert!(f.everywhere(digest).iter().all(|rows| *rows == before));
}

#[test]
fn what_a_commit_left_prepared_is_finished_at_once() {
    let f = Fixture::new("CREATE TABLE t (id int)", "");
    let home = commit::ShardId(1);
    for (shard, decided) in [(2, true), (3, false)] {
        let secret = commit::Secret(crate::cancel::random().unwrap());
        let gid = commit::Gid::new(home, secret);
        let node = &f.kit.info().shards[shard - 1].primary;
        let prepare = format!("BEGIN; INSERT INTO t VALUES (1); {}", commit::sql::prepare(&gid));
        f.kit.on_node(node, &f.database, &prepare);
        let shard = shard as u32;
        if decided {
            let participants = [home, commit::ShardId(shard)];
            f.rows(1, &commit::sql::decide(&gid, &participants, secret));
        }
        // No grace: whoever led the commit says that it is over.
        f.runtime
            .block_on(f.cluster.finish_prepared(&f.database, ShardId(shard), &gid));
        let count = "SELECT count(*) FROM t";
        assert_eq!(f.rows(shard, count), [if decided { "1" } else { "0" }]);
        let left = format!("SELECT gid FROM pg_prepared_xacts WHERE gid = '{gid}'");
        assert!(f.rows(shard, &left).is_empty(), "decided: {decided}");
    }
}
