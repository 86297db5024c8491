//! A `drover proxy` as a user would start it, over a [`TestCluster`].

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::TestCluster;
use crate::client::{Client, Target};
use crate::placement::{Finding, Layout, Shard};
use crate::reaper::ReapedDir;

/// How long a proxy may take to be ready; a busy machine is slow.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the command, says its process id, and ends it when standard input closes, which the kernel sees to however the
/// test process ends. Ends with the command's exit code.
const GUARD: &str = r#"
exec 3<&0
"$@" < /dev/null 3<&- &
child=$!
echo "pid $child"
{ cat <&3 > /dev/null; kill -s CONT "$child"; kill -s TERM "$child"; } > /dev/null 2>&1 &
watcher=$!
wait "$child"
code=$?
kill "$watcher"
exit "$code"
"#;

/// One database of a cluster with a topology store, for any number of proxies.
#[derive(Debug)]
pub struct ProxySite {
    cluster: &'static TestCluster,
    database: String,
    dir: ReapedDir,
    binary: PathBuf,
    /// More of the proxies' configuration file.
    extra: String,
    /// More of the proxies' environment.
    environment: Vec<(String, String)>,
}

/// A running `drover proxy`; stopped when dropped.
#[derive(Debug)]
pub struct DroverProxy {
    guard: Child,
    pid: u32,
    target: Target,
    http: String,
    more: Vec<String>,
    log: PathBuf,
}

impl ProxySite {
    /// A new database on every shard and an empty store.
    pub fn new(cluster: &'static TestCluster, binary: &Path) -> ProxySite {
        ProxySite {
            cluster,
            database: cluster.create_database(),
            dir: ReapedDir::new(),
            binary: binary.to_owned(),
            extra: String::new(),
            environment: Vec::new(),
        }
    }

    /// The same with more sections of the proxies' configuration file, such as `[pool]`.
    #[must_use]
    pub fn with_config(mut self, sections: &str) -> ProxySite {
        self.extra = sections.to_owned();
        self
    }

    /// The same with a variable in the proxies' environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> ProxySite {
        self.set_variable(name, value);
        self
    }

    /// Adds a variable for proxies that are started from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where configurations and logs are.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of the store.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Starts a proxy of this name and waits until it listens.
    ///
    /// # Panics
    /// When it does not, with what it said.
    pub fn start(&self, id: &str) -> DroverProxy {
        self.start_with(id, "")
    }

    /// The same with further sections of configuration.
    ///
    /// # Panics
    /// When it does not start, with what it said.
    pub fn start_with(&self, id: &str, sections: &str) -> DroverProxy {
        self.start_as(id, id, &(self.config(id) + sections), &[])
    }

    /// Starts a proxy with this configuration and further arguments, and waits until it listens. `name` is for its
    /// files: its own, or another process of the same proxy has them.
    ///
    /// # Panics
    /// When it does not, with what it said.
    pub fn start_as(&self, id: &str, name: &str, text: &str, arguments: &[&str]) -> DroverProxy {
        let config = self.dir.path().join(format!("{id}.toml"));
        std::fs::write(&config, text).expect("the configuration");
        let log = self.dir.path().join(format!("{name}.log"));
        let errors = std::fs::File::create(&log).expect("the log");
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&self.binary)
            .args(["proxy", "--config"])
            .arg(&config)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("sh");
        let lines = guard.stdout.take();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = lines
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines().map_while(Result::ok));
            for line in lines {
                // Nobody listens any more once it is ready; the pipe is read on so that it never fills.
                let _ = sender.send(line);
            }
        });
        let (mut pid, mut addresses) = (0, None);
        let deadline = Instant::now() + READY_TIMEOUT;
        while addresses.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = receiver.recv_timeout(left) else {
                break;
            };
            if let Some(text) = line.strip_prefix("pid ") {
                pid = text.trim().parse().expect("a process id");
            }
            addresses = line.strip_prefix("listening on ").map(str::to_owned);
        }
        let Some(addresses) = addresses else {
            let _ = guard.kill();
            panic!(
                "the proxy is not ready:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        let (address, http) = addresses.split_once(", http on ").expect("two addresses");
        let mut addresses = address.split(" and ").map(str::to_owned);
        let address = addresses.next().unwrap_or_default();
        let info = self.cluster.info();
        let (user, password) = (&info.app_user, info.app_password.expose());
        let url = format!("postgresql://{user}:{password}@{address}/{}", self.database);
        let target = Target::parse(&url).expect("a URL");
        DroverProxy {
            guard,
            pid,
            target,
            http: http.to_owned(),
            more: addresses.collect(),
            log,
        }
    }

    /// The configuration file of one proxy.
    pub fn config(&self, id: &str) -> String {
        let info = self.cluster.info();
        let mut text = format!(
            "[proxy]\nlisten = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nid = '{id}'\nworkers = 2\n\
             [store]\npath = '{}'\n[admin]\nuser = '{}'\npassword = '{}'\n\
             [[databases]]\nname = '{}'\n[[users]]\nname = '{}'\npassword = '{}'\n",
            self.store().display(),
            info.admin_user,
            info.admin_password.expose(),
            self.database,
            info.app_user,
            info.app_password.expose(),
        );
        for shard in &info.shards {
            let (host, port) = (&shard.primary.host, shard.primary.port);
            text.push_str(&format!(
                "[[shards]]\nname = '{}'\nprimary = '{host}:{port}'\n",
                shard.name
            ));
            let replicas: Vec<String> = shard
                .replicas
                .iter()
                .map(|node| format!("'{}:{}'", node.host, node.port))
                .collect();
            if !replicas.is_empty() {
                text.push_str(&format!("replicas = [{}]\n", replicas.join(", ")));
            }
        }
        text.push_str(&self.extra);
        text
    }

    /// Compares where rows are, asked of each server, with what `proxy` says about the layout.
    ///
    /// # Panics
    /// When either cannot be asked.
    pub fn misplaced(&self, proxy: &DroverProxy) -> Vec<Finding> {
        let layout = Layout::read(&mut proxy.client()).expect("the layout");
        let info = self.cluster.info();
        let shards: Vec<Shard> = info
            .shards
            .iter()
            .map(|shard| {
                let (user, password) = (&info.admin_user, info.admin_password.expose());
                let (host, port) = (&shard.primary.host, shard.primary.port);
                let url = format!("postgresql://{user}:{password}@{host}:{port}/{}", self.database);
                Shard {
                    name: shard.name.clone(),
                    target: Target::parse(&url).expect("a URL"),
                }
            })
            .collect();
        crate::placement::verify(&layout, &shards).expect("placement")
    }
}

impl DroverProxy {
    /// Where it listens, with the application's user and the site's database.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Further addresses at which it listens.
    pub fn more_addresses(&self) -> &[String] {
        &self.more
    }

    /// Where HTTP is, as `host:port`.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// A new connection.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn client(&self) -> Client {
        Client::open(&self.target).unwrap_or_else(|error| panic!("no connection: {error}\n{}", self.log()))
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to the proxy's process: `KILL`, `STOP`, `CONT`, `TERM`, …
    ///
    /// # Panics
    /// When it has ended already.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid.to_string()])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "no process to signal"
        );
    }

    /// Waits for its end and gives the exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.guard.try_wait() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the proxy does not end:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for DroverProxy {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.guard.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}
