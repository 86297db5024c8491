//! HTTP in front of a whole proxy over two shards.

use std::sync::Arc;
use std::time::Duration;

use admin::proxy_backend::{ProxyBackendConfig, View};
use admin::{BoxFuture, HttpConfig, ProxyBackend, Role};
use catalog::{ShardId, Snapshot};
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, Timeouts, UserConfig, UserLimits,
};
use testkit::TestCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, FileStore, ProxyId};

const GATHER_BYTES_MAX: usize = 64 << 20;

const SCHEMA: &str = "
CREATE TABLE users (user_id bigint PRIMARY KEY, name text, balance numeric) WITH (drover.shard_key = 'user_id');
INSERT INTO users VALUES (1, 'user 1', 12345678901234567890.10), (2, 'user 2', 22345678901234567890.10),
    (3, 'user 3', 32345678901234567890.10), (4, 'user 4', 42345678901234567890.10),
    (5, 'user 5', 52345678901234567890.10),
    (6, 'user 6', 6.50), (7, 'user 7', 7.50), (8, 'user 8', 8.50), (9, 'user 9', 9.50), (10, 'user 10', 10.50);
CREATE TABLE orders (user_id bigint, day date, PRIMARY KEY (user_id, day))
    WITH (drover.shard_key = 'user_id', drover.colocate_with = 'users');
INSERT INTO orders VALUES (1, '2024-01-01'), (2, '2024-01-02');
CREATE TABLE settings (name text PRIMARY KEY, value jsonb);
INSERT INTO settings VALUES ('a,b', '{\"x\": 1.00}');
";

struct RunningView {
    running: proxy::Running,
    database: String,
}

impl View for RunningView {
    fn facts(&self) -> Option<Arc<Snapshot>> {
        self.running.cluster().facts(&self.database)
    }

    fn cluster(&self) -> Arc<ClusterRecord> {
        self.running.cluster().record()
    }

    fn not_serving(&self) -> Option<String> {
        (!self.running.cluster().is_valid()).then(|| "cut off".to_owned())
    }

    fn active_connections(&self, shard: ShardId) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            let pools = self.running.shared().pool_stats().await;
            pools
                .iter()
                .filter(|pool| pool.key.place.shard == shard.0)
                .map(|pool| pool.stats.leased)
                .sum()
        })
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { self.running.shared().prometheus().await })
    }
}

fn start_proxy(cluster: &TestCluster, database: &str) -> proxy::Running {
    let info = cluster.info();
    let password = || info.app_password.expose().to_owned();
    let shards = (1..).zip(&info.shards).map(|(id, shard)| {
        let primary = NodeRecord::new(shard.primary.host.clone(), shard.primary.port);
        ShardRecord {
            id: ShardId(id),
            name: format!("shard_{id}"),
            primary,
            replicas: Vec::new(),
        }
    });
    let record = ClusterRecord::new("http", vec![database.to_owned()], shards.collect()).expect("a cluster");
    let config = ProxyConfig {
        auth: Default::default(),
        observe: Default::default(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        workers: 1,
        clients_per_worker: 1,
        lease_ttl: proxy::config::LEASE_TTL,
        fail_points: Default::default(),
        reuse_port: false,
        users: vec![UserConfig {
            name: info.app_user.clone(),
            auth: ClientAuth::Password(password()),
            server_password: None,
            limits: UserLimits::default(),
        }],
        databases: vec![database.into()],
        listen_also: Vec::new(),
        unix_socket: None,
        console: Default::default(),
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
    let store = FileStore::open(cluster.state_dir().join("http")).expect("a store");
    let id = ProxyId::parse("http-test").expect("an id");
    proxy::start(config, Arc::new(store), id, record, GATHER_BYTES_MAX, None).expect("a proxy")
}

async fn ask(address: std::net::SocketAddr, head: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), exchange)
        .await
        .expect("in time")
        .expect("an answer");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status, body.to_owned())
}

#[tokio::test]
async fn rows_and_keys_agree_with_sql() {
    let (running, database, role) = tokio::task::spawn_blocking(|| {
        let cluster = TestCluster::shared(2);
        let database = cluster.create_database();
        let info = cluster.info();
        let role = Role {
            user: info.app_user.clone(),
            password: Some(info.app_password.expose().to_owned()),
        };
        (start_proxy(cluster, &database), database, role)
    })
    .await
    .expect("a start");
    let proxy = running.address();
    let view = Arc::new(RunningView {
        running,
        database: database.clone(),
    });
    let mut sql = tokio_postgres::Config::new();
    sql.host("127.0.0.1")
        .port(proxy.port())
        .user(&role.user)
        .dbname(&database);
    sql.password(role.password.as_deref().unwrap_or_default());
    let (client, connection) = sql.connect(tokio_postgres::NoTls).await.expect("a client");
    tokio::spawn(connection);
    for statement in SCHEMA.split(';').filter(|statement| !statement.trim().is_empty()) {
        client.batch_execute(statement).await.expect(statement);
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let http = listener.local_addr().expect("an address");
    let api: Arc<dyn View> = Arc::<RunningView>::clone(&view);
    let backend = Arc::new(ProxyBackend::new(
        api,
        ProxyBackendConfig::new(proxy, &database, &role.user),
    ));
    let config = HttpConfig {
        default_role: Some(role),
        ..HttpConfig::default()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(admin::serve(listener, backend, config, async move {
        let _ = stopped.await;
    }));

    let mut shards = std::collections::BTreeSet::new();
    for key in 1..=10_i64 {
        let found = client
            .query_one(
                "SELECT row_to_json(u)::text FROM users u WHERE user_id = $1",
                &[&key],
            )
            .await;
        let row: String = found.expect("a row").get(0);
        let (status, body) = ask(http, &format!("GET /api/v1/users/{key}"), "").await;
        let (members, metadata) = body.split_once(",\"shard_routing_metadata\":").expect(&body);
        assert_eq!((status, format!("{members}}}")), (200, row));
        let request = format!(r#"{{"shard_key": {key}, "key_type": "user_id"}}"#);
        let (status, resolved) = ask(http, "POST /api/v1/directory/resolve", &request).await;
        assert_eq!(status, 200, "{resolved}");
        let shard = if resolved.contains(r#""shard_id":"shard_1""#) {
            "shard_1"
        } else {
            "shard_2"
        };
        assert!(
            metadata.contains(&format!("{{\"assigned_shard_id\":\"{shard}\"")),
            "{metadata}"
        );
        shards.insert(shard);
    }
    assert_eq!(shards.len(), 2);
    for (path, status, expect) in [
        ("users/007", 200, "\"user_id\":7,"),
        ("orders/1,2024-01-01", 200, "\"day\":\"2024-01-01\""),
        ("orders/2,Jan%202%202024", 200, "\"day\":\"2024-01-02\""),
        ("settings/a%2Cb", 200, "{\"x\": 1.00}"),
        ("users/11", 404, "no such row"),
        ("orders/1,2024-01-02", 404, "no such row"),
        ("nothing/1", 404, "no such table"),
        ("users/x", 400, "22P02"),
        ("orders/1", 400, "2 columns"),
    ] {
        let (found, body) = ask(http, &format!("GET /api/v1/{path}"), "").await;
        assert!(found == status && body.contains(expect), "{path}: {found} {body}");
    }
    assert_eq!(
        ask(http, "GET /ready", "").await,
        (200, r#"{"status":"ready"}"#.to_owned())
    );

    drop(client);
    stop.send(()).expect("a server");
    server.await.expect("no panic").expect("no error");
    let view = Arc::into_inner(view);
    tokio::task::spawn_blocking(move || view.map(|view| view.running.shutdown()))
        .await
        .expect("an end");
}
