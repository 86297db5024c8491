//! Temporary clusters of real PostgreSQL servers.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use agent::{ClusterInfo, ClusterOptions, DevCluster, Durability, NodeInfo};
use tokio_postgres::{Config, NoTls};

use crate::reaper::ReapedDir;

/// Object ids on shard `n` begin `n` times this further on, so that code that takes one shard's ids to
/// another is found out.
const OID_SKEW: u32 = 100_000;

/// The shape of a temporary cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TestOptions {
    /// Number of shards.
    pub shards: u16,
    /// Replicas of each.
    pub replicas: u16,
    /// Whether committed data survives a crash of the machine. Slower; a crash of a server is survived
    /// either way.
    pub durable: bool,
}

impl TestOptions {
    /// `shards` shards without replicas.
    pub fn shards(shards: u16) -> TestOptions {
        TestOptions {
            shards,
            replicas: 0,
            durable: false,
        }
    }
}

/// A cluster of PostgreSQL servers (no proxy), gone when it is dropped or when the process ends.
///
/// Everything here blocks and panics on failure: it is for tests. It may be called inside an async
/// runtime or outside.
#[derive(Debug)]
pub struct TestCluster {
    // Before the directory: fields are dropped in this order, and the servers use it.
    cluster: DevCluster,
    _dir: ReapedDir,
}

impl TestCluster {
    /// Starts a cluster of one's own.
    pub fn start(options: TestOptions) -> TestCluster {
        let dir = ReapedDir::new();
        let options = ClusterOptions {
            shards: Some(options.shards),
            replicas: Some(options.replicas),
            durability: if options.durable {
                Durability::Durable
            } else {
                Durability::Unsafe
            },
            oid_skew: OID_SKEW,
            ..ClusterOptions::in_dir(dir.path().join("cluster"))
        };
        let cluster = block_on(|| DevCluster::start(options, |_| ()));
        let cluster = cluster.unwrap_or_else(|error| panic!("no test cluster: {}", chain(&error)));
        TestCluster { cluster, _dir: dir }
    }

    /// The cluster of `shards` shards that all tests of this process share; started by the first that asks.
    /// Tests keep apart by using a database each, see [`TestCluster::create_database`].
    pub fn shared(shards: u16) -> &'static TestCluster {
        static SHARED: Mutex<Option<HashMap<u16, &'static OnceLock<TestCluster>>>> = Mutex::new(None);
        let cell = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            // Leaked on purpose: it lives as long as the process, and the reaper cleans up.
            *shared
                .get_or_insert_default()
                .entry(shards)
                .or_insert_with(|| Box::leak(Box::default()))
        };
        cell.get_or_init(|| TestCluster::start(TestOptions::shards(shards)))
    }

    /// Addresses and passwords.
    pub fn info(&self) -> &ClusterInfo {
        self.cluster.info()
    }

    /// A directory that goes with the cluster, for topology stores and the like.
    pub fn state_dir(&self) -> PathBuf {
        self.cluster.state_dir()
    }

    /// Creates a database with a new name on every shard, owned by the application's role, and returns
    /// the name.
    pub fn create_database(&self) -> String {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("test_{number}");
        let statement = format!("CREATE DATABASE {name} OWNER {}", self.info().app_user);
        self.on_every_shard("postgres", &statement);
        name
    }

    /// Runs statements (no results) as superuser on every primary, past any proxy.
    pub fn on_every_shard(&self, database: &str, statements: &str) {
        for shard in &self.info().shards {
            self.on_node(&shard.primary, database, statements);
        }
    }

    /// Runs statements (no results) as superuser on one node, past any proxy.
    pub fn on_node(&self, node: &NodeInfo, database: &str, statements: &str) {
        let info = self.info();
        let mut config = Config::new();
        config
            .host_path(&node.socket_dir)
            .port(node.port)
            .user(&info.admin_user);
        config.password(info.admin_password.expose()).dbname(database);
        let result = block_on(|| async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::select! {
                result = client.batch_execute(statements) => result,
                result = connection => result,
            }
        });
        result.unwrap_or_else(|error| panic!("{}: {statements}: {}", node.name, chain(&error)));
    }

    /// Ends one server (`shard_1/primary`) as a crash would.
    pub fn kill_node(&mut self, name: &str) {
        self.cluster.kill_node(name);
    }

    /// Starts a server again that has ended, on the same port.
    pub fn restart_node(&mut self, name: &str) {
        let result = block_on(|| self.cluster.restart_node(name));
        result.unwrap_or_else(|error| panic!("no restart: {}", chain(&error)));
    }
}

/// Runs a future to its end on a thread of its own, so that the caller may be inside a runtime.
fn block_on<F: Future>(make: impl FnOnce() -> F + Send) -> F::Output
where
    F::Output: Send,
{
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(make())
        };
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cluster_is_one_and_gives_databases() {
        let cluster = TestCluster::shared(2);
        assert!(std::ptr::eq(cluster, TestCluster::shared(2)));
        let (one, two) = (cluster.create_database(), cluster.create_database());
        assert_ne!(one, two);
        cluster.on_every_shard(&one, "CREATE TABLE t (a int)");
        cluster.on_every_shard(&two, "CREATE TABLE t (a int)");
    }

    /// Not a test of its own: the process that [`nothing_outlives_a_killed_test_process`] kills.
    #[test]
    #[ignore = "run by another test"]
    fn waits_to_be_killed() {
        let cluster = TestCluster::start(TestOptions::shards(1));
        println!("\nDIR {}", cluster.state_dir().parent().unwrap().display());
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn nothing_outlives_a_killed_test_process() {
        use std::io::{BufRead, BufReader};
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "cluster::tests::waits_to_be_killed",
                "--nocapture",
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let dir = lines
            .find_map(|line| line.strip_prefix("DIR ").map(PathBuf::from))
            .unwrap();
        assert!(!agent::leftovers::find(&dir).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while dir.exists() || !agent::leftovers::find(&dir).is_empty() {
            assert!(
                std::time::Instant::now() < deadline,
                "the reaper does not do its work"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[tokio::test]
    async fn it_works_inside_a_runtime_and_survives_crashes() {
        let mut cluster = TestCluster::start(TestOptions {
            replicas: 1,
            ..TestOptions::shards(1)
        });
        let primary = cluster.info().shards[0].primary.clone();
        cluster.on_node(&primary, "app", "CREATE TABLE t (a int)");
        cluster.kill_node("shard_1/primary");
        cluster.restart_node("shard_1/primary");
        cluster.on_node(&primary, "app", "SELECT a FROM t");
    }
}
