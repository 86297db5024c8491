//! A cluster with replicas of its own, and proxies over it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use proxy::Running;
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, ReplicaConfig, Timeouts, UserConfig, UserLimits,
};
use testkit::client::{Answer, Client, Extended};
use testkit::{TestCluster, TestOptions};
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, MemoryStore, ProxyId};

use crate::torture::signal;

/// Servers and proxies.
pub struct Herd {
    pub kit: TestCluster,
    config: ProxyConfig,
    record: ClusterRecord,
    store: Arc<MemoryStore>,
}

/// A proxy, stopped when it is dropped.
pub struct Door {
    running: Option<Running>,
    url: String,
}

impl Drop for Herd {
    /// A test that failed may have left servers frozen, which nothing ends.
    fn drop(&mut self) {
        for shard in &self.kit.info().shards {
            for node in shard.replicas.iter().chain([&shard.primary]) {
                signal(node, "CONT");
            }
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown();
        }
    }
}

impl Door {
    /// A client whose patience is short.
    pub fn client(&self) -> Client {
        let mut client = Client::connect(&self.url).unwrap();
        client.set_timeout(Duration::from_secs(30));
        client
    }

    /// A client that says something more when it connects.
    pub fn client_with(&self, options: &str) -> Client {
        Client::connect(&format!("{}?{options}", self.url)).unwrap()
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Replicas are used in another way from now on.
    pub fn change(&self, change: impl FnOnce(&mut ReplicaConfig)) {
        let nodes = &self.running.as_ref().unwrap().shared().nodes;
        let mut config = ReplicaConfig::clone(&nodes.config());
        change(&mut config);
        nodes.set_config(config);
    }

    /// Waits until all servers of a shard, from 1, have been looked at.
    #[track_caller]
    pub fn look(&self, shard: u32) {
        let nodes = &self.running.as_ref().unwrap().shared().nodes;
        let now = nodes.now();
        until(|| {
            let view = nodes.view(shard).unwrap();
            let mut seen = view.nodes.iter().map(|node| node.seen);
            seen.all(|seen| seen.is_some_and(|seen| seen.asked > now))
        });
    }

    /// A metric's sum over all workers.
    pub fn metric(&self, name: &str) -> u64 {
        let sums = self.running.as_ref().unwrap().shared().metrics.sums();
        sums.into_iter().find(|(known, _)| known.name == name).unwrap().1
    }
}

impl Herd {
    /// So many shards with so many replicas each.
    pub fn start(shards: u16, replicas: u16) -> Herd {
        let kit = TestCluster::start(TestOptions {
            shards,
            replicas,
            durable: false,
        });
        let info = kit.info();
        let user = UserConfig {
            name: info.app_user.clone(),
            auth: ClientAuth::Password(info.app_password.expose().to_owned()),
            server_password: None,
            limits: UserLimits::default(),
        };
        let safe = [
            ("pg_catalog", "pg_is_in_recovery"),
            ("pg_catalog", "inet_server_port"),
            ("pg_catalog", "pg_sleep"),
            ("public", "lies"),
        ];
        let config = ProxyConfig {
            auth: Default::default(),
            observe: Default::default(),
            listen: ([127, 0, 0, 1], 0).into(),
            listen_also: Vec::new(),
            unix_socket: None,
            reuse_port: Default::default(),
            console: Default::default(),
            workers: 2,
            clients_per_worker: 1,
            lease_ttl: proxy::config::LEASE_TTL,
            fail_points: Default::default(),
            users: vec![user],
            databases: vec![info.database.clone().into()],
            pool: PoolConfig {
                size: 8,
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
            rules: Default::default(),
            replicas: ReplicaConfig {
                poll_interval: Duration::from_millis(100),
                slow_start: Duration::ZERO,
                safe_functions: safe
                    .map(|(schema, name)| (schema.to_owned(), name.to_owned()))
                    .into(),
                ..ReplicaConfig::default()
            },
        };
        let node = |node: &agent::NodeInfo| NodeRecord::new(node.host.clone(), node.port);
        let shards = info.shards.iter().zip(1..).map(|(shard, id)| ShardRecord {
            id: ShardId(id),
            name: shard.name.clone(),
            primary: node(&shard.primary),
            replicas: shard.replicas.iter().map(node).collect(),
        });
        let record = ClusterRecord::new("test", vec![info.database.clone()], shards.collect()).unwrap();
        Herd {
            config,
            record,
            store: Arc::new(MemoryStore::new()),
            kit,
        }
    }

    /// How proxies that are started from now on use replicas.
    pub fn replica_config(&mut self) -> &mut ReplicaConfig {
        &mut self.config.replicas
    }

    /// A replica's record, by the numbers of shard and replica, from 0.
    pub fn record_of(&mut self, shard: usize, replica: usize) -> &mut NodeRecord {
        &mut self.record.shards[shard].replicas[replica]
    }

    /// Proxies are not told of the replicas, but may find them.
    pub fn hide_replicas(&mut self) {
        self.config.replicas.discover = true;
        for shard in &mut self.record.shards {
            shard.replicas.clear();
        }
    }

    /// A proxy, or why there is none.
    pub fn try_proxy(&self, id: &str) -> Result<Running, String> {
        let id = ProxyId::parse(id).unwrap();
        let (config, record) = (self.config.clone(), self.record.clone());
        proxy::start(config, self.store.clone(), id, record, 64 << 20, None).map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            text
        })
    }

    /// The newest timelines that the store knows of.
    pub fn marks(&self) -> Vec<u32> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let marks = runtime
            .block_on(topology::timelines(self.store.as_ref()))
            .unwrap();
        marks.iter().map(|mark| mark.timeline).collect()
    }

    /// A proxy whose replicas are in rotation.
    pub fn proxy(&self, id: &str) -> Door {
        let running = self.try_proxy(id).unwrap();
        let info = self.kit.info();
        let (user, password) = (&info.app_user, info.app_password.expose());
        let url = format!(
            "postgresql://{user}:{password}@{}/{}",
            running.address(),
            info.database
        );
        let door = Door {
            running: Some(running),
            url,
        };
        let mut client = door.client();
        run(&mut client, "SET drover.read_from = 'replica'");
        run(&mut client, "SET drover.consistency = 'eventual'");
        until(|| on_replica(&mut client));
        door
    }

    /// A client of one server.
    pub fn direct(&self, node: &agent::NodeInfo) -> Client {
        let info = self.kit.info();
        let (user, password) = (&info.app_user, info.app_password.expose());
        let (host, port) = (&node.host, node.port);
        Client::connect(&format!(
            "postgresql://{user}:{password}@{host}:{port}/{}",
            info.database
        ))
        .unwrap()
    }

    /// Replicas of a shard, from 0, replay no more, or go on.
    pub fn replay(&self, shard: usize, on: bool) {
        let info = self.kit.info();
        let verb = if on { "resume" } else { "pause" };
        for replica in &info.shards[shard].replicas {
            self.kit
                .on_node(replica, &info.database, &format!("SELECT pg_wal_replay_{verb}()"));
            // A pause is asked for, and begins a little later.
            let wanted = if on { "not paused" } else { "paused" };
            let mut admin = self.admin(replica);
            until(|| value(&mut admin, "SELECT pg_get_wal_replay_pause_state()") == wanted);
        }
    }

    /// Replicas of a shard have everything.
    pub fn catch_up(&self, shard: usize) {
        self.catch_up_with(shard, usize::MAX);
    }

    /// The first replicas of a shard have everything.
    pub fn catch_up_with(&self, shard: usize, replicas: usize) {
        let info = &self.kit.info().shards[shard];
        let mut primary = self.direct(&info.primary);
        let lsn = value(&mut primary, "SELECT pg_logical_emit_message(true, '', '')");
        for replica in info.replicas.iter().take(replicas) {
            let mut replica = self.direct(replica);
            let question = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
            until(|| value(&mut replica, &question) == "t");
        }
    }

    pub fn admin(&self, node: &agent::NodeInfo) -> Client {
        let info = self.kit.info();
        let (user, password) = (&info.admin_user, info.admin_password.expose());
        let (host, port) = (&node.host, node.port);
        Client::connect(&format!(
            "postgresql://{user}:{password}@{host}:{port}/{}",
            info.database
        ))
        .unwrap()
    }
}

/// What `drover.nodes` says of a server.
pub fn shown(client: &mut Client, node: &agent::NodeInfo, column: &str) -> String {
    let answer = run(client, "SELECT * FROM drover.nodes");
    let columns = answer.results[0].columns.clone().unwrap();
    let at = |name: &str| columns.iter().position(|column| column.name == name).unwrap();
    let (port, at) = (at("port"), at(column));
    let rows = answer.text_rows();
    let is_it = |row: &&Vec<Option<String>>| row[port] == Some(node.port.to_string());
    let row = rows.iter().find(is_it).unwrap();
    row[at].clone().unwrap_or_default()
}

/// Where the session's reads go now.
pub fn on_replica(client: &mut Client) -> bool {
    value(client, "SELECT pg_is_in_recovery()") == "t"
}

/// The same by the extended protocol.
pub fn on_replica_extended(client: &mut Client) -> bool {
    let answer = client
        .extended(&Extended::new("SELECT pg_is_in_recovery()"))
        .unwrap();
    assert_eq!(answer.errors, []);
    answer.value().unwrap() == "t"
}

/// Waits for something that comes about soon.
#[track_caller]
pub fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An answer without errors.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client.simple(sql).unwrap();
    assert_eq!(answer.errors, [], "{sql}");
    answer
}

/// The only value of an answer without errors.
#[track_caller]
pub fn value(client: &mut Client, sql: &str) -> String {
    run(client, sql).value().unwrap_or_default()
}

/// The SQLSTATE of an answer with an error.
#[track_caller]
pub fn code(client: &mut Client, sql: &str) -> String {
    let answer = client.simple(sql).unwrap();
    answer
        .error()
        .map(|error| {
            // Shown when the test fails.
            eprintln!("{sql}: {error:?}");
            error.sqlstate().to_owned()
        })
        .unwrap_or_default()
}
