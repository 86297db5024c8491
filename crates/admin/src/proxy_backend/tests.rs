//! The backend over a real server that stands for the proxy, with facts that spread its tables over two shards.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use catalog::load::{EPILOGUE, PREAMBLE, QueryId, SnapshotBuilder};
use catalog::{BodyFacts, BodyParser, Epoch, FunctionBody, KeyType, MapId, Salt, ShardMap};
use catalog::{ShardingInput, TableSharding, TableShardingKind};
use testkit::TestPostgres;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use topology::records::{NodeRecord, ShardRecord};

use super::*;

const SCHEMA: &str = r#"
CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
CREATE TYPE mood AS ENUM ('sad', 'so, so');
CREATE TABLE users (user_id bigint PRIMARY KEY, name text, big numeric, f float8, tags text[], j json, at timestamptz, t int);
INSERT INTO users SELECT n, 'é"\ ' || n, 12345678901234567890.1234567890 * n, 1e100, '{a,NULL}', '{"a":  1.0}', now(), n
    FROM generate_series(-3, 20) n;
CREATE TABLE orders (user_id int, day date, "Weird ""name""" text DEFAULT 'x', PRIMARY KEY (user_id, day));
INSERT INTO orders VALUES (7, '2024-01-01');
CREATE TABLE docs (k varchar(10) PRIMARY KEY, c char(3));
INSERT INTO docs VALUES ('', 'a'), ('a,b/c', 'b'), ('é', NULL);
CREATE TABLE ids (id uuid PRIMARY KEY);
INSERT INTO ids VALUES ('aaaaaaaa-0000-0000-0000-000000000001');
CREATE TABLE visits (page int, nr int, PRIMARY KEY (page, nr));
CREATE TABLE codes (id char(5) PRIMARY KEY);
INSERT INTO codes VALUES ('ab');
CREATE TABLE countries (code text PRIMARY KEY, name text);
INSERT INTO countries VALUES ('nl', 'Nederland');
CREATE TABLE plain (id positive PRIMARY KEY, m mood);
INSERT INTO plain VALUES (5, 'sad');
CREATE TABLE moods (m mood PRIMARY KEY);
INSERT INTO moods VALUES ('so, so');
CREATE TABLE "Mixed.Case" ("Id" int PRIMARY KEY);
INSERT INTO "Mixed.Case" VALUES (1);
CREATE TABLE keyless (a int);
CREATE TABLE taken (id int PRIMARY KEY, shard_routing_metadata int);
CREATE TABLE secret (id int PRIMARY KEY);
REVOKE ALL ON secret FROM PUBLIC;
CREATE SCHEMA sales;
CREATE TABLE sales.users (user_id int PRIMARY KEY, region text);
INSERT INTO sales.users VALUES (7, 'north');
CREATE VIEW shown AS SELECT * FROM users;
"#;

const EPOCH: u64 = 42;

struct Fixed {
    facts: Arc<Snapshot>,
    cluster: Arc<ClusterRecord>,
    stopped: AtomicBool,
}

impl View for Fixed {
    fn facts(&self) -> Option<Arc<Snapshot>> {
        Some(Arc::clone(&self.facts))
    }

    fn cluster(&self) -> Arc<ClusterRecord> {
        Arc::clone(&self.cluster)
    }

    fn not_serving(&self) -> Option<String> {
        self.stopped.load(Ordering::Relaxed).then(|| "cut off".to_owned())
    }

    fn active_connections(&self, shard: ShardId) -> BoxFuture<'_, usize> {
        Box::pin(std::future::ready(shard.0 as usize * 10))
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { String::new() })
    }
}

struct NoBodies;

impl BodyParser for NoBodies {
    fn body_facts(&self, _: FunctionBody<'_>) -> Result<BodyFacts, String> {
        Err("not read".to_owned())
    }
}

/// A database of its own, and what the backend needs to serve it.
struct Lab {
    view: Arc<Fixed>,
    backend: ProxyBackend,
    role: Role,
    client: Client,
    database: String,
}

fn map() -> ShardMap {
    ShardMap::even(&[ShardId(1), ShardId(2)]).expect("a map")
}

fn sharding() -> ShardingInput {
    let table = |schema: &str, name: &str, kind| TableSharding {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind,
    };
    let sharded = |name: &str, column: &str, map| {
        table(
            "public",
            name,
            TableShardingKind::Sharded {
                columns: vec![column.to_owned()],
                map: MapId(map),
            },
        )
    };
    let mut tables = vec![
        sharded("users", "user_id", 1),
        sharded("orders", "user_id", 1),
        sharded("docs", "k", 2),
        sharded("ids", "id", 3),
        sharded("codes", "id", 4),
        table("public", "countries", TableShardingKind::Reference),
    ];
    let region = TableShardingKind::Sharded {
        columns: vec!["user_id".to_owned()],
        map: MapId(1),
    };
    tables.push(table("sales", "users", region));
    let salted = TableShardingKind::Sharded {
        columns: vec!["page".to_owned(), "nr".to_owned()],
        map: MapId(5),
    };
    tables.push(table("public", "visits", salted));
    let mut maps: Vec<(MapId, ShardMap)> = (1..=4).map(|id| (MapId(id), map())).collect();
    maps.extend(Salt::new(1, 8).map(|salt| (MapId(5), map().salted(salt).expect("a salted map"))));
    ShardingInput {
        epoch: Epoch(EPOCH),
        shards: vec![ShardId(1), ShardId(2)],
        home: ShardId(1),
        maps,
        tables,
        ..ShardingInput::default()
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn load(client: &Client) -> Snapshot {
    client.batch_execute(PREAMBLE).await.expect("a preamble");
    let mut builder = SnapshotBuilder::new();
    for id in QueryId::ALL {
        let messages = client.simple_query(&id.sql()).await.expect("facts");
        let rows: Vec<Vec<Option<String>>> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|column| row.get(column).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            })
            .collect();
        builder.from_rows(id, &rows).expect("facts as expected");
    }
    client.batch_execute(EPILOGUE).await.expect("an epilogue");
    builder.build(&sharding(), &NoBodies).expect("a snapshot")
}

fn shard(id: u32, name: &str, node: NodeRecord) -> ShardRecord {
    let replicas = vec![NodeRecord::new("10.0.0.9", 5433)];
    ShardRecord {
        id: ShardId(id),
        name: name.to_owned(),
        primary: node,
        replicas,
    }
}

impl Lab {
    async fn new() -> Lab {
        let server = TestPostgres::shared();
        let database = server.create_database();
        let (info, node) = (server.info(), server.node());
        let client = connect(&server.url(&database)).await;
        client.batch_execute(SCHEMA).await.expect("the schema");
        server.run(
            &database,
            &format!("ALTER TABLE secret OWNER TO {}", info.admin_user),
        );
        let record = NodeRecord::new(node.host.clone(), node.port);
        let shards = vec![
            shard(1, "shard_one", record.clone()),
            shard(2, "shard_two", record),
        ];
        let cluster = ClusterRecord::new("test", vec![database.clone()], shards).expect("a cluster");
        let facts = Arc::new(load(&client).await);
        let view = Arc::new(Fixed {
            facts,
            cluster: Arc::new(cluster),
            stopped: AtomicBool::new(false),
        });
        let role = Role {
            user: info.app_user.clone(),
            password: Some(info.app_password.expose().to_owned()),
        };
        let address = format!("{}:{}", node.host, node.port)
            .parse()
            .expect("an address");
        let mut config = ProxyBackendConfig::new(address, &database, &info.app_user);
        config.checkout_timeout = Duration::from_millis(300);
        let api: Arc<dyn View> = Arc::<Fixed>::clone(&view);
        Lab {
            backend: ProxyBackend::new(api, config),
            view,
            role,
            client,
            database,
        }
    }

    async fn row(&self, path: &str) -> Result<String, ApiError> {
        self.backend.row(&self.role, &crate::path::row_key(path)?).await
    }

    /// The row at `path` is the one that `condition` finds, with metadata.
    async fn check(&self, path: &str, from: &str, condition: &str, shard: &str, mechanism: &str) {
        let sql = format!("SELECT row_to_json(r)::text FROM {from} r WHERE {condition}");
        let row: String = self.client.query_one(&sql, &[]).await.expect("the row").get(0);
        let members = row.strip_suffix('}').expect("an object");
        let expect = format!(
            "{members},\"shard_routing_metadata\":{{\"assigned_shard_id\":\"{shard}\",\
             \"routing_mechanism\":\"{mechanism}\",\"routing_version\":{EPOCH}}}}}"
        );
        assert_eq!(self.row(path).await, Ok(expect), "{path}");
    }

    async fn fails(&self, path: &str, kind: ErrorKind, sqlstate: Option<&str>) {
        let error = self.row(path).await.expect_err(path);
        assert_eq!(
            (error.kind, error.sqlstate.as_deref()),
            (kind, sqlstate),
            "{path}: {error}"
        );
    }
}

/// Name of the shard of a key, by the map alone.
fn shard_of(key_type: KeyType, key: &str) -> &'static str {
    let value = key_type.from_text(key.as_bytes()).expect("a key");
    ["shard_one", "shard_two"][map().shard_of(&value).0 as usize - 1]
}

#[tokio::test]
async fn rows_are_what_row_to_json_says() {
    let lab = Lab::new().await;
    let mut seen = HashMap::new();
    for key in -3..=20 {
        let shard = shard_of(KeyType::Int8, &key.to_string());
        *seen.entry(shard).or_insert(0) += 1;
        lab.check(
            &format!("users/{key}"),
            "users",
            &format!("user_id = {key}"),
            shard,
            "hash",
        )
        .await;
    }
    assert_eq!(seen.len(), 2);
    let seven = shard_of(KeyType::Int4, "7");
    // What PostgreSQL reads as the same value is the same row on the same shard.
    lab.check("users/%20007", "users", "user_id = 7", seven, "hash")
        .await;
    lab.check("orders/7,2024-01-01", "orders", "true", seven, "hash")
        .await;
    lab.check("orders/7,Jan%201%202024", "orders", "true", seven, "hash")
        .await;
    lab.check("public.users/7", "users", "user_id = 7", seven, "hash")
        .await;
    lab.check("sales.users/7", "sales.users", "true", seven, "hash")
        .await;
    for (path, key) in [("docs/", ""), ("docs/a%2Cb%2Fc", "a,b/c"), ("docs/%C3%A9", "é")] {
        lab.check(
            path,
            "docs",
            &format!("k = '{key}'"),
            shard_of(KeyType::Varchar, key),
            "hash",
        )
        .await;
    }
    let uuid = "aaaaaaaa-0000-0000-0000-000000000001";
    let place = shard_of(KeyType::Uuid, uuid);
    lab.check(
        &format!("ids/{}", uuid.to_uppercase()),
        "ids",
        "true",
        place,
        "hash",
    )
    .await;
    for path in ["codes/ab", "codes/ab%20%20%20"] {
        lab.check(path, "codes", "true", shard_of(KeyType::Bpchar, "ab"), "hash")
            .await;
    }
    lab.check("countries/nl", "countries", "true", "shard_one", "reference")
        .await;
    lab.check("plain/5", "plain", "true", "shard_one", "unsharded")
        .await;
    lab.check("moods/so%2C%20so", "moods", "true", "shard_one", "unsharded")
        .await;
    lab.check(
        "Mixed%2ECase/1",
        "\"Mixed.Case\"",
        "true",
        "shard_one",
        "unsharded",
    )
    .await;
}

#[tokio::test]
async fn what_has_no_row() {
    let lab = Lab::new().await;
    for path in ["users/1000", "orders/7,2024-01-02", "docs/%27%20OR%20true--"] {
        lab.fails(path, ErrorKind::NotFound, None).await;
    }
    for path in [
        "nothing/1",
        "USERS/1",
        "shown/1",
        "keyless/1",
        "nowhere.users/1",
        "pg_class/1",
        "pg_catalog.pg_class/1",
    ] {
        lab.fails(path, ErrorKind::NotFound, None).await;
    }
    for path in ["orders/7", "users/1,2", "orders/7,2024-01-01,"] {
        lab.fails(path, ErrorKind::BadRequest, None).await;
    }
    lab.fails("users/x", ErrorKind::BadRequest, Some("22P02")).await;
    lab.fails("users/", ErrorKind::BadRequest, Some("22P02")).await;
    lab.fails("users/99999999999999999999", ErrorKind::BadRequest, Some("22003"))
        .await;
    lab.fails("orders/7,yesterdayish", ErrorKind::BadRequest, Some("22007"))
        .await;
    lab.fails("moods/merry", ErrorKind::BadRequest, Some("22P02"))
        .await;
    lab.fails("taken/1", ErrorKind::Refused, None).await;
    lab.fails("secret/1", ErrorKind::Forbidden, Some("42501")).await;
    // Roles of the configuration that cannot log in: no such role, a wrong password, none.
    let key = crate::path::row_key("users/1").expect("a path");
    for (user, password) in [
        ("stranger", Some("x")),
        (lab.role.user.as_str(), Some("x")),
        (lab.role.user.as_str(), None),
    ] {
        let role = Role {
            user: user.to_owned(),
            password: password.map(str::to_owned),
        };
        let error = lab.backend.row(&role, &key).await.expect_err("a login");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Internal, "the row cannot be read")
        );
    }
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let mut config = lab.backend.config.clone();
    config.proxy = closed.local_addr().expect("an address");
    drop(closed);
    let nowhere = ProxyBackend::new(Arc::<Fixed>::clone(&lab.view), config);
    let error = nowhere.row(&lab.role, &key).await.expect_err("no connection");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    lab.view.stopped.store(true, Ordering::Relaxed);
    lab.fails("users/1", ErrorKind::Unavailable, None).await;
}

#[tokio::test]
async fn connections_are_bounded_reused_and_replaced() {
    let lab = Arc::new(Lab::new().await);
    let mine =
        "FROM pg_stat_activity WHERE application_name = 'drover http' AND datname = current_database()";
    let count = async || -> i64 {
        lab.client
            .query_one(&format!("SELECT count(*) {mine}"), &[])
            .await
            .expect("a count")
            .get(0)
    };
    for _ in 0..10 {
        lab.row("users/1").await.expect("a row");
    }
    assert_eq!(count().await, 1);

    // Rows behind a lock take all places; the next request is told so, and abandoned ones are cancelled.
    lab.client
        .batch_execute("BEGIN; LOCK TABLE users")
        .await
        .expect("a lock");
    let blocked: Vec<_> = (0..4)
        .map(|_| {
            let lab = Arc::clone(&lab);
            tokio::spawn(async move { lab.row("users/1").await })
        })
        .collect();
    let mut waiting = 0_i64;
    while waiting < 4 {
        let sql = format!("SELECT count(*) {mine} AND wait_event_type = 'Lock'");
        lab.client
            .batch_execute("SELECT pg_stat_clear_snapshot()")
            .await
            .expect("a fresh view");
        waiting = lab.client.query_one(&sql, &[]).await.expect("a count").get(0);
    }
    lab.fails("users/2", ErrorKind::Unavailable, Some("53300")).await;
    for request in blocked {
        request.abort();
        assert!(request.await.expect_err("aborted").is_cancelled());
    }
    // The lock is still held: only the cancels can have freed the places.
    lab.check(
        "orders/7,2024-01-01",
        "orders",
        "true",
        shard_of(KeyType::Int4, "7"),
        "hash",
    )
    .await;
    lab.client.batch_execute("COMMIT").await.expect("an end");

    // Connections that were closed meanwhile are replaced unnoticed.
    lab.row("users/1").await.expect("a row");
    let server = TestPostgres::shared();
    let end = format!("SELECT pg_terminate_backend(pid) {mine}");
    server.run(&lab.database, &end);
    while count().await > 0 {}
    lab.row("users/1").await.expect("a row");
}

#[tokio::test]
async fn keys_are_resolved() {
    let lab = Lab::new().await;
    let node = TestPostgres::shared().node();
    let mut shards = HashMap::new();
    for key in 1..=20 {
        let key = key.to_string();
        let name = shard_of(KeyType::Int8, &key);
        let active = if name == "shard_one" { 10 } else { 20 };
        shards.insert(name, ());
        let expect = Resolved {
            shard_key: key.clone(),
            shard_id: name.to_owned(),
            physical_connection: crate::PhysicalConnection {
                primary_host: node.host.clone(),
                primary_port: node.port,
                replica_hosts: vec!["10.0.0.9:5433".to_owned()],
                ssl_mode: "disable".to_owned(),
            },
            status: "active".to_owned(),
            active_connections: active,
        };
        assert_eq!(lab.backend.resolve("user_id", &key).await, Ok(expect));
    }
    assert_eq!(shards.len(), 2);
    for (key_type, key, expect) in [
        // bigint and integer share the map: the wider type decides.
        ("user_id", "5000000000", ""),
        ("k", "é", ""),
        ("user_id", "007", "not written as PostgreSQL prints"),
        ("user_id", "99999999999999999999", "out of range"),
        ("user_id", "x", "not written as PostgreSQL prints"),
        ("nothing", "1", "no table is sharded by"),
        // A reference table's key places nothing.
        ("code", "nl", "no table is sharded by"),
        // uuid and character columns of the same name.
        ("id", "ab", "ambiguous"),
        ("page,nr", "(7,1)", ""),
        ("page", "7", "the rows of one key are on several shards"),
    ] {
        let found = lab.backend.resolve(key_type, key).await;
        match found {
            Ok(_) => assert_eq!(expect, "", "{key_type} {key}"),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::BadRequest);
                assert!(
                    !expect.is_empty() && error.message.contains(expect),
                    "{key_type} {key}: {error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn readiness_names_what_is_down() {
    let mut lab = Lab::new().await;
    assert_eq!(lab.backend.readiness().await, Readiness::default());

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = closed.local_addr().expect("an address").port();
    drop(closed);
    let mut cluster = ClusterRecord::clone(&lab.view.cluster);
    cluster.shards[1].primary = NodeRecord::new("127.0.0.1", port);
    let view = Fixed {
        facts: Arc::clone(&lab.view.facts),
        cluster: Arc::new(cluster),
        stopped: AtomicBool::new(true),
    };
    lab.backend = ProxyBackend::new(Arc::new(view), lab.backend.config.clone());
    let reasons = lab.backend.readiness().await.reasons;
    assert_eq!(reasons, ["cut off", "shard_two: the primary cannot be reached"]);
}

#[tokio::test]
async fn unix_sockets_are_probed_too() {
    let node = TestPostgres::shared().node();
    let record = NodeRecord::new(node.socket_dir.display().to_string(), node.port);
    let shards = vec![shard(1, "shard_one", record)];
    let cluster = ClusterRecord::new("test", vec!["app".to_owned()], shards).expect("a cluster");
    let answers = Probes::new("nobody", "app").now(&cluster).await;
    assert_eq!(*answers, [(ShardId(1), Ok(()))]);
}
