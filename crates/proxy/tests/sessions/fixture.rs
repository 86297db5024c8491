//! A proxy over one server and a database of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use proxy::Running;
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, Timeouts, UserConfig, UserLimits,
};
use testkit::TestCluster;
use testkit::client::{Answer, Client};
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, MemoryStore, ProxyId, TopologyStore};

/// A proxy over a database of its own.
pub struct Fixture {
    kit: &'static TestCluster,
    database: String,
    proxy: Option<Running>,
    store: Arc<MemoryStore>,
    start: Box<Start>,
}

/// Starts a proxy of this name over a store.
type Start = dyn Fn(&str, Arc<dyn TopologyStore>) -> Running + Send + Sync;

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown();
        }
    }
}

impl Fixture {
    /// One server, so many connections to it, so many workers.
    pub fn new(pool_size: usize, workers: usize) -> Fixture {
        Self::over(1, pool_size, workers)
    }

    /// The same over several servers.
    pub fn over(shards: u16, pool_size: usize, workers: usize) -> Fixture {
        Self::configured(shards, pool_size, workers, |_| {})
    }

    /// The same with other settings.
    pub fn configured(
        shards: u16,
        pool_size: usize,
        workers: usize,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Fixture {
        let kit = TestCluster::shared(shards);
        let database = kit.create_database();
        let info = kit.info();
        let password = info.app_password.expose().to_owned();
        let user = UserConfig {
            name: info.app_user.clone(),
            auth: ClientAuth::Password(password),
            server_password: None,
            limits: UserLimits::default(),
        };
        let mut config = ProxyConfig {
            auth: Default::default(),
            observe: Default::default(),
            listen: ([127, 0, 0, 1], 0).into(),
            listen_also: Vec::new(),
            unix_socket: None,
            console: Default::default(),
            workers,
            clients_per_worker: 1,
            lease_ttl: proxy::config::LEASE_TTL,
            fail_points: Default::default(),
            reuse_port: false,
            users: vec![user],
            databases: vec![database.clone().into()],
            pool: PoolConfig {
                size: pool_size,
                ..PoolConfig::default()
            },
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
        change(&mut config);
        let shards = info.shards.iter().zip(1..).map(|(shard, id)| ShardRecord {
            id: ShardId(id),
            name: shard.name.clone(),
            primary: NodeRecord::new(shard.primary.host.clone(), shard.primary.port),
            replicas: Vec::new(),
        });
        let record = ClusterRecord::new("test", vec![database.clone()], shards.collect()).unwrap();
        let store = Arc::new(MemoryStore::new());
        let start = move |id: &str, store: Arc<dyn TopologyStore>| {
            let id = ProxyId::parse(id).unwrap();
            proxy::start(config.clone(), store, id, record.clone(), 64 << 20, None).unwrap()
        };
        let proxy = start("p1", store.clone());
        Fixture {
            kit,
            database,
            proxy: Some(proxy),
            store,
            start: Box::new(start),
        }
    }

    /// A client of the proxy.
    pub fn client(&self) -> Client {
        Client::connect(&self.url()).unwrap()
    }

    /// The same while connections to servers are ended, which a login may meet as well.
    pub fn client_again(&self) -> Client {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            match Client::connect(&self.url()) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        }
    }

    /// Another proxy of the same cluster, and where its clients connect.
    pub fn another(&self, id: &str) -> (Running, String) {
        self.another_over(id, |store| store)
    }

    /// The same, which sees the cluster's store as `wrap` has it.
    pub fn another_over<S: TopologyStore + 'static>(
        &self,
        id: &str,
        wrap: impl FnOnce(Arc<MemoryStore>) -> Arc<S>,
    ) -> (Running, String) {
        let proxy = (self.start)(id, wrap(Arc::clone(&self.store)));
        let url = self.url_at(proxy.address());
        (proxy, url)
    }

    /// Requests that wait for a server connection.
    pub fn waiting(&self) -> usize {
        let shared = self.proxy.as_ref().unwrap().shared();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stats = runtime.block_on(shared.pool_stats());
        stats.iter().map(|pool| pool.stats.waiting).sum()
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.url_at(self.proxy.as_ref().unwrap().address())
    }

    fn url_at(&self, address: std::net::SocketAddr) -> String {
        let info = self.kit.info();
        let (user, password) = (&info.app_user, info.app_password.expose());
        format!("postgresql://{user}:{password}@{address}/{}", self.database)
    }

    /// Ends the server processes of this database whose last statement is like this.
    pub fn end_backends(&self, like: &str) {
        let ended = run(
            &mut self.admin(),
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '{like}'"
            ),
        );
        assert_eq!(ended.tags(), ["SELECT 1"]);
    }

    /// A client of the server itself.
    pub fn direct(&self) -> Client {
        let info = self.kit.info();
        self.direct_as(&info.app_user, info.app_password.expose())
    }

    /// The same of another shard.
    pub fn direct_of(&self, shard: usize) -> Client {
        let info = self.kit.info();
        self.direct_to(shard, &info.app_user, info.app_password.expose())
    }

    /// The same as Drover's own role.
    pub fn admin(&self) -> Client {
        let info = self.kit.info();
        self.direct_as(&info.admin_user, info.admin_password.expose())
    }

    /// How many there are.
    pub fn shards(&self) -> usize {
        self.kit.info().shards.len()
    }

    /// The same on another shard.
    pub fn admin_of(&self, shard: usize) -> Client {
        let info = self.kit.info();
        self.direct_to(shard, &info.admin_user, info.admin_password.expose())
    }

    fn direct_as(&self, user: &str, password: &str) -> Client {
        self.direct_to(0, user, password)
    }

    fn direct_to(&self, shard: usize, user: &str, password: &str) -> Client {
        let info = self.kit.info();
        let primary = &info.shards[shard].primary;
        let (host, port) = (&primary.host, primary.port);
        Client::connect(&format!(
            "postgresql://{user}:{password}@{host}:{port}/{}",
            self.database
        ))
        .unwrap()
    }
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

/// The SQLSTATE and message of an answer with an error.
#[track_caller]
pub fn error(client: &mut Client, sql: &str) -> (String, String) {
    let answer = client.simple(sql).unwrap();
    let error = answer
        .error()
        .unwrap_or_else(|| panic!("{sql} succeeded: {answer:?}"));
    (error.sqlstate().to_owned(), error.message().to_owned())
}
