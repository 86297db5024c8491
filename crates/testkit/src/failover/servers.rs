//! The servers of the shard that is switched or disturbed, past any proxy.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::{Binaries, NodeInfo};

use super::Loss;
use crate::TestCluster;
use crate::client::{Client, Target};

/// The longest a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers of the first shard; the first one is the primary.
pub(crate) struct Servers {
    cluster: &'static TestCluster,
    nodes: Vec<NodeInfo>,
    /// Servers that were started here, to be collected when they end.
    children: Vec<Child>,
}

impl Servers {
    pub(crate) fn new(cluster: &'static TestCluster) -> Self {
        Self {
            cluster,
            nodes: cluster.info().shards[0].nodes().cloned().collect(),
            children: Vec::new(),
        }
    }

    /// The primaries of all shards, instead of the servers of one.
    pub(crate) fn primaries(cluster: &'static TestCluster) -> Self {
        let shards = cluster.info().shards.iter();
        Self {
            cluster,
            nodes: shards.map(|shard| shard.primary.clone()).collect(),
            children: Vec::new(),
        }
    }

    /// A write is acknowledged when one of the other servers has it.
    pub(crate) fn replicate_synchronously(&self) {
        for node in &self.nodes {
            self.on(node, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'");
            self.on(node, "ALTER SYSTEM SET wal_keep_size = '256MB'");
            self.on(node, "SELECT pg_reload_conf()");
        }
    }

    /// A server by its place: 0 is the primary.
    pub(crate) fn node(&self, at: usize) -> &NodeInfo {
        &self.nodes[at]
    }

    /// Signals all processes of a server.
    pub(crate) fn signal(&self, at: usize, name: &str) {
        signal(&self.nodes[at], name);
    }

    /// Ends a server as an operator would, and waits until it has ended.
    pub(crate) fn shut_down(&mut self, at: usize) {
        let node = self.nodes[at].clone();
        if let Some(leader) = leader(&node) {
            // A fast shutdown: clients are told.
            let _ = Command::new("kill").args(["-INT", &leader.to_string()]).status();
        }
        self.await_end(&node);
    }

    /// Kills all processes of a server.
    pub(crate) fn kill(&mut self, at: usize) {
        let node = self.nodes[at].clone();
        signal(&node, "KILL");
        self.await_end(&node);
    }

    /// Starts a server that has ended, and waits until it takes clients.
    pub(crate) fn start_again(&mut self, at: usize) {
        let node = self.nodes[at].clone();
        // Nobody has collected the process that they name.
        let _ = std::fs::remove_file(node.data_dir.join("postmaster.pid"));
        let lock = format!(".s.PGSQL.{}.lock", node.port);
        let _ = std::fs::remove_file(node.socket_dir.join(lock));
        self.start(&node, None);
    }

    pub(crate) fn kill_primary(&self) {
        signal(&self.nodes[0], "KILL");
    }

    pub(super) fn stop_primary(&self) {
        signal(&self.nodes[0], "STOP");
    }

    /// Promotes the replica that has received most and lets the other one follow it. The old primary is given back.
    pub(crate) fn promote(&mut self) -> NodeInfo {
        let received = "SELECT COALESCE(pg_last_wal_receive_lsn(), '0/0') - '0/0'";
        let position = |node: &NodeInfo| self.value(node, received).parse::<u64>().unwrap_or_default();
        if position(&self.nodes[2]) > position(&self.nodes[1]) {
            self.nodes.swap(1, 2);
        }
        self.on(&self.nodes[1], "SELECT pg_promote()");
        self.follow(&self.nodes[2], &self.nodes[1]);
        let old = self.nodes.remove(0);
        // Its answer to a write comes only once a standby has it.
        self.on(&self.nodes[0], "CREATE TABLE IF NOT EXISTS ready ()");
        old
    }

    /// Makes the old primary a replica of the new one. How many of the application's connections or statements it got
    /// after the switch, if it is alive.
    pub(crate) fn bring_back(&mut self, old: NodeInfo, loss: Loss) -> u64 {
        let switched = self.value(&self.nodes[0], "SELECT clock_timestamp()");
        // What was sent before it was stopped is read when it goes on; a new connection is another matter.
        let since = match loss {
            Loss::Stopped => "backend_start",
            Loss::Planned | Loss::Killed => "GREATEST(backend_start, query_start)",
        };
        let astray = if loss == Loss::Killed {
            0
        } else {
            signal(&old, "CONT");
            // Time for whoever still believes in it.
            std::thread::sleep(Duration::from_millis(700));
            let user = &self.cluster.info().app_user;
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND {since} > '{switched}'"
            );
            self.value(&old, &sql).parse().unwrap_or_default()
        };
        let arguments = if loss == Loss::Killed {
            None
        } else {
            Some(arguments(&old))
        };
        if loss != Loss::Killed {
            signal(&old, "KILL");
        }
        self.await_end(&old);
        self.rewind(&old);
        self.start(&old, arguments);
        self.follow(&old, &self.nodes[0]);
        self.nodes.push(old);
        astray
    }

    /// Lets a standby follow another server.
    fn follow(&self, standby: &NodeInfo, upstream: &NodeInfo) {
        let conninfo = self.conninfo(upstream).replace('\'', "''");
        self.on(
            standby,
            &format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"),
        );
        self.on(standby, "ALTER SYSTEM SET primary_slot_name = ''");
        self.on(standby, "SELECT pg_reload_conf()");
    }

    fn conninfo(&self, node: &NodeInfo) -> String {
        let info = self.cluster.info();
        format!(
            "host={} port={} user={} password={} dbname=postgres application_name={}",
            node.host,
            node.port,
            info.admin_user,
            info.admin_password.expose(),
            node.port
        )
    }

    fn rewind(&self, old: &NodeInfo) {
        let (uid, gid) = owner(&old.data_dir);
        let config = config_of(old);
        // pg_rewind reads the timeline from the control file, which a promotion leaves alone until the next checkpoint.
        self.on(&self.nodes[0], "CHECKPOINT");
        // Nobody has collected the process that it names.
        let _ = std::fs::remove_file(old.data_dir.join("postmaster.pid"));
        let lock = format!(".s.PGSQL.{}.lock", old.port);
        let _ = std::fs::remove_file(old.socket_dir.join(lock));
        let output = Command::new(program("pg_rewind"))
            .arg("-D")
            .arg(&old.data_dir)
            .arg(format!("--source-server={}", self.conninfo(&self.nodes[0])))
            .arg(format!("--config-file={}", config.display()))
            .current_dir("/")
            .uid(uid)
            .gid(gid)
            .output()
            .expect("pg_rewind");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "pg_rewind: {said}");
        // What it copied is the new primary's.
        let signal = old.data_dir.join("standby.signal");
        std::fs::write(&signal, "").expect("the file");
        std::os::unix::fs::chown(&signal, Some(uid), Some(gid)).expect("its owner");
        let auto = old.data_dir.join("postgresql.auto.conf");
        let mut text = std::fs::read_to_string(&auto).expect("the settings");
        let conninfo = self.conninfo(&self.nodes[0]).replace('\'', "''");
        text.push_str(&format!(
            "primary_conninfo = '{conninfo}'\nprimary_slot_name = ''\n"
        ));
        std::fs::write(&auto, text).expect("the settings");
    }

    fn start(&mut self, old: &NodeInfo, arguments: Option<Vec<String>>) {
        let arguments = arguments.unwrap_or_else(|| self.usual_arguments(old));
        let (uid, gid) = owner(&old.data_dir);
        let log = config_of(old).with_file_name("again.log");
        let log = std::fs::File::create(log).expect("a log");
        let child = Command::new(program("postgres"))
            .args(arguments)
            .current_dir("/")
            .uid(uid)
            .gid(gid)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres");
        self.children.push(child);
        let deadline = Instant::now() + PATIENCE;
        while self.client(old).is_none() {
            let said = std::fs::read_to_string(config_of(old).with_file_name("again.log"));
            let said = said.unwrap_or_default();
            assert!(Instant::now() < deadline, "{} does not start: {said}", old.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As the agent starts it.
    fn usual_arguments(&self, node: &NodeInfo) -> Vec<String> {
        let option = |text: String| ["-c".to_owned(), text];
        let mut arguments = vec!["-D".to_owned(), node.data_dir.display().to_string()];
        arguments.extend(option(format!("config_file={}", config_of(node).display())));
        arguments.extend(option("listen_addresses=127.0.0.1".to_owned()));
        arguments.extend(option(format!("port={}", node.port)));
        arguments.extend(option(format!(
            "unix_socket_directories=\"{}\"",
            node.socket_dir.display()
        )));
        arguments
    }

    fn await_end(&mut self, node: &NodeInfo) {
        let Some(pid) = leader(node) else { return };
        let deadline = Instant::now() + PATIENCE;
        loop {
            for child in &mut self.children {
                // Those that have ended are collected; the others go on.
                let _ = child.try_wait();
            }
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
            if matches!(state, None | Some('Z')) && !is_listening(node) {
                return;
            }
            assert!(Instant::now() < deadline, "{} does not end", node.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn client(&self, node: &NodeInfo) -> Option<Client> {
        let info = self.cluster.info();
        let (user, password) = (&info.admin_user, info.admin_password.expose());
        let url = format!(
            "postgresql://{user}:{password}@{}:{}/postgres",
            node.host, node.port
        );
        Client::open(&Target::parse(&url).ok()?).ok()
    }

    fn on(&self, node: &NodeInfo, sql: &str) {
        self.value(node, sql);
    }

    fn value(&self, node: &NodeInfo, sql: &str) -> String {
        let mut client = self
            .client(node)
            .unwrap_or_else(|| panic!("{} is gone", node.name));
        super::must(&mut client, sql).value().unwrap_or_default()
    }
}

fn config_of(node: &NodeInfo) -> PathBuf {
    node.data_dir
        .parent()
        .unwrap_or(Path::new("/"))
        .join("drover.conf")
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = std::fs::metadata(path).expect("the data directory");
    (metadata.uid(), metadata.gid())
}

fn leader(node: &NodeInfo) -> Option<u32> {
    let text = std::fs::read_to_string(node.data_dir.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

fn is_listening(node: &NodeInfo) -> bool {
    std::net::TcpStream::connect((node.host.as_str(), node.port)).is_ok()
}

/// How the server was started.
fn arguments(node: &NodeInfo) -> Vec<String> {
    let pid = leader(node).expect("it runs");
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words
        .skip(1)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Signals all processes of a server.
fn signal(node: &NodeInfo, name: &str) {
    let Some(leader) = leader(node) else { return };
    let children =
        std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children")).unwrap_or_default();
    let pids = std::iter::once(leader.to_string()).chain(children.split_whitespace().map(str::to_owned));
    // Some may have ended meanwhile.
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids)
        .stderr(Stdio::null())
        .status();
}

/// One of PostgreSQL's programs, as the cluster's servers use it.
fn program(name: &str) -> PathBuf {
    Binaries::find(None, None).expect("PostgreSQL").program(name)
}
