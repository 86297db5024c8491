//! A proxy over one server, configured by the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use proxy::Running;
use proxy::admin_api::PoolAdmin;
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, Timeouts, UserConfig, UserLimits,
};
use proxy::worker::Shared;
use testkit::TestCluster;
use testkit::client::{Answer, Client};
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, MemoryStore, ProxyId};

/// A proxy, and what is needed to reach it.
pub struct Site {
    pub database: String,
    user: (String, String),
    proxy: Option<Running>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown();
        }
    }
}

impl Site {
    /// Over the server that tests share.
    pub fn new(change: impl FnOnce(&mut ProxyConfig)) -> Site {
        Self::over(TestCluster::shared(1), None, change)
    }

    /// Over a server of the test's own; `door`: the port at which the proxy reaches it.
    pub fn over(kit: &TestCluster, door: Option<u16>, change: impl FnOnce(&mut ProxyConfig)) -> Site {
        let host = kit.info().shards[0].primary.host.clone();
        Self::at(kit, &host, door, change)
    }

    /// The same; `host`: what the proxy calls the server's machine.
    pub fn at(
        kit: &TestCluster,
        host: &str,
        door: Option<u16>,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Site {
        let database = kit.create_database();
        let info = kit.info();
        let password = info.app_password.expose().to_owned();
        let primary = &info.shards[0].primary;
        let mut config = ProxyConfig {
            observe: Default::default(),
            listen: ([127, 0, 0, 1], 0).into(),
            listen_also: Vec::new(),
            workers: 2,
            clients_per_worker: 1,
            lease_ttl: proxy::config::LEASE_TTL,
            fail_points: Default::default(),
            reuse_port: false,
            users: vec![UserConfig {
                name: info.app_user.clone(),
                auth: ClientAuth::Password(password.clone()),
                server_password: None,
                limits: UserLimits::default(),
            }],
            databases: vec![database.clone().into()],
            pool: PoolConfig {
                size: 4,
                ..PoolConfig::default()
            },
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            tls: Default::default(),
            replicas: Default::default(),
            rules: Default::default(),
            auth: Default::default(),
            console: Default::default(),
            unix_socket: Default::default(),
            shards: Vec::new(),
            admin: AdminConfig {
                user: info.admin_user.clone(),
                password: Some(info.admin_password.expose().to_owned()),
            },
        };
        change(&mut config);
        let shard = ShardRecord {
            id: ShardId(1),
            name: "shard_1".to_owned(),
            primary: NodeRecord::new(host.to_owned(), door.unwrap_or(primary.port)),
            replicas: Vec::new(),
        };
        let record = ClusterRecord::new("test", vec![database.clone()], vec![shard]).unwrap();
        let id = ProxyId::parse("p1").unwrap();
        let proxy = proxy::start(config, Arc::new(MemoryStore::new()), id, record, 64 << 20, None).unwrap();
        Site {
            database,
            user: (info.app_user.clone(), password),
            proxy: Some(proxy),
        }
    }

    pub fn url(&self, database: &str) -> String {
        let (user, password) = &self.user;
        let address = self.proxy.as_ref().unwrap().address();
        format!("postgresql://{user}:{password}@{address}/{database}")
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.url(&self.database)).unwrap()
    }

    pub fn shared(&self) -> &Arc<Shared> {
        self.proxy.as_ref().unwrap().shared()
    }

    pub fn admin(&self) -> PoolAdmin {
        PoolAdmin::new(Arc::clone(self.shared()))
    }

    pub fn metric(&self, name: &str) -> u64 {
        let sums = self.proxy.as_ref().unwrap().shared().metrics.sums();
        let found = sums.iter().find(|(metric, _)| metric.name == name);
        found.map(|(_, value)| *value).expect("a metric")
    }
}

/// Waits until something holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a future on a runtime of its own.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// An answer without errors.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client.simple(sql).unwrap();
    assert_eq!(answer.errors, [], "{sql}: {answer:?}");
    answer
}

/// The only value of an answer without errors.
#[track_caller]
pub fn value(client: &mut Client, sql: &str) -> String {
    run(client, sql).value().unwrap_or_default()
}

/// The server's process that serves the client now.
#[track_caller]
pub fn pid(client: &mut Client) -> String {
    value(client, "SELECT pg_backend_pid()")
}

/// The SQLSTATE and message of an answer with an error.
#[track_caller]
pub fn error(client: &mut Client, sql: &str) -> (String, String) {
    let answer = client.simple(sql).unwrap();
    let error = answer
        .error()
        .unwrap_or_else(|| panic!("{sql} succeeded: {answer:?}"));
    (error.sqlstate().to_owned(), error.message().to_owned())
}
