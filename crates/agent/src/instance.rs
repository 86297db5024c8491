//! One PostgreSQL server: its directory, its process, its life.

mod config;
mod error;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use error::InstanceError;

use crate::leftovers;
use crate::tool;
use crate::{Binaries, Secret, ServiceUser, ports};

/// A start may include crash recovery of whatever the server had not checkpointed.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// A fast shutdown ends the sessions and writes a checkpoint.
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// An immediate shutdown only has to notice the signal.
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The server announces its state in a file and its end to its parent; both are looked at this often.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Ports are chosen before they are bound: somebody may be faster, but hardly this often in a row.
const PORT_ATTEMPTS_MAX: u32 = 5;
/// A log longer than this is put aside (one old log is kept) when the server starts.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How much of the log goes into an error.
const LOG_TAIL_BYTES: usize = 2_000;
/// What a socket address can hold, less the name `/.s.PGSQL.65535` and the final zero.
pub(crate) const SOCKET_DIR_BYTES_MAX: usize = 107 - 15;

/// What all servers on this machine share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// PostgreSQL's programs.
    pub binaries: Binaries,
    /// The account they run as.
    pub user: ServiceUser,
}

/// Whether a committed transaction survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Yes.
    #[default]
    Durable,
    /// No, though it survives a crash of the server: `fsync` is off. For tests.
    Unsafe,
}

/// What identifies a server and stays the same over restarts.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// For people: messages, process titles. For example `shard_1/primary`.
    pub name: String,
    /// Holds everything of this server: `data/`, `drover.conf`, `server.log`. Absolute; its parent must exist.
    pub dir: PathBuf,
    /// Where its Unix socket is: private to this server, and short enough for a socket address.
    pub socket_dir: PathBuf,
    /// See [`Durability`].
    pub durability: Durability,
}

/// The server a replica follows.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// A role with `REPLICATION`.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The replication slot on the upstream that keeps what this replica still needs.
    pub slot: String,
}

/// One server. Dropping it stops the server at once (crash recovery follows at the next start);
/// [`Instance::stop`] does it properly.
#[derive(Debug)]
pub struct Instance {
    host: Host,
    spec: InstanceSpec,
    child: Option<Child>,
    port: u16,
}

impl Instance {
    /// A server that is not running. Nothing is created yet.
    pub fn new(host: Host, spec: InstanceSpec) -> Result<Instance, InstanceError> {
        for path in [&spec.dir, &spec.socket_dir] {
            check_path(path)?;
        }
        if spec.socket_dir.as_os_str().len() > SOCKET_DIR_BYTES_MAX {
            return Err(InstanceError::Path {
                path: spec.socket_dir,
                reason: "too long for a socket address",
            });
        }
        Ok(Instance {
            host,
            spec,
            child: None,
            port: 0,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// PostgreSQL's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.spec.dir.join("data")
    }

    /// The directory of its Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.spec.socket_dir
    }

    /// What the server writes to standard error, over all its starts.
    pub fn log_file(&self) -> PathBuf {
        self.spec.dir.join("server.log")
    }

    /// Its TCP port on 127.0.0.1; 0 before the first start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the running server.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Creates a new, empty server with one superuser, UTF-8 and the locale C.UTF-8; every connection
    /// needs a password (SCRAM). With `first_oid`, objects created by users get ids from there on.
    pub async fn initialize(
        &self,
        superuser: &str,
        password: &Secret,
        first_oid: Option<u32>,
    ) -> Result<(), InstanceError> {
        self.create_dirs()?;
        let data_dir = self.data_dir();
        let password_file = self.spec.dir.join("password");
        self.remove_file(&password_file)?;
        self.host
            .user
            .create_private_file(&password_file, password.expose())
            .map_err(|source| self.io("create", &password_file, source))?;
        let arguments = [
            format!("--pgdata={}", data_dir.display()),
            format!("--username={superuser}"),
            format!("--pwfile={}", password_file.display()),
            "--encoding=UTF8".to_owned(),
            "--locale=C.UTF-8".to_owned(),
            "--auth-local=scram-sha-256".to_owned(),
            "--auth-host=scram-sha-256".to_owned(),
            // The servers of `dev` and of tests can be created again; syncing takes longer than creating.
            "--no-sync".to_owned(),
            "--no-instructions".to_owned(),
        ];
        let result = self.tool("initdb", &arguments, &[]).await;
        self.remove_file(&password_file)?;
        result?;
        if let Some(oid) = first_oid {
            let arguments = [format!("--next-oid={oid}"), data_dir.display().to_string()];
            self.tool("pg_resetwal", &arguments, &[]).await?;
        }
        Ok(())
    }

    /// Creates a replica: a copy of the running `upstream` that will follow it once started. Creates the
    /// replication slot too.
    pub async fn copy_from(&self, upstream: &Upstream) -> Result<(), InstanceError> {
        self.create_dirs()?;
        let arguments = [
            format!("--pgdata={}", self.data_dir().display()),
            format!("--host={}", upstream.host),
            format!("--port={}", upstream.port),
            format!("--username={}", upstream.user),
            "--no-password".to_owned(),
            "--wal-method=stream".to_owned(),
            "--checkpoint=fast".to_owned(),
            "--create-slot".to_owned(),
            format!("--slot={}", upstream.slot),
            "--no-sync".to_owned(),
        ];
        self.tool(
            "pg_basebackup",
            &arguments,
            &[("PGPASSWORD", upstream.password.expose())],
        )
        .await?;
        let signal = self.data_dir().join("standby.signal");
        self.host
            .user
            .create_private_file(&signal, "")
            .map_err(|source| self.io("create", &signal, source))
    }

    /// Starts the server and waits until it accepts connections (a replica: read-only ones). Uses
    /// `wanted_port` if it is free, else one the system chooses. PostgreSQL processes of an earlier run on
    /// the same data are stopped first.
    pub async fn start(
        &mut self,
        wanted_port: Option<u16>,
        upstream: Option<&Upstream>,
    ) -> Result<u16, InstanceError> {
        self.prepare_start(upstream).await?;
        let mut wanted = wanted_port;
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = ports::choose(wanted).map_err(|_| InstanceError::NoPort {
                name: self.spec.name.clone(),
            })?;
            self.spawn(port)?;
            match self.wait_ready().await {
                // Somebody else was faster to bind the port.
                Err(InstanceError::Ended { .. }) if !ports::is_free(port) => wanted = None,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.port = port;
                    return Ok(port);
                }
            }
        }
        Err(InstanceError::NoPort {
            name: self.spec.name.clone(),
        })
    }

    /// Starts the server again after it ended, on the port it had: others know it by that.
    pub async fn restart(&mut self, upstream: Option<&Upstream>) -> Result<(), InstanceError> {
        self.prepare_start(upstream).await?;
        self.spawn(self.port)?;
        self.wait_ready().await
    }

    /// Stops the server: a fast shutdown, then an immediate one, then the kernel's. Returns whether the
    /// fast shutdown was enough (true also if it was not running).
    pub async fn stop(&mut self) -> bool {
        if self.stop_with(Signal::SIGINT, FAST_STOP_TIMEOUT).await {
            return true;
        }
        if !self.stop_with(Signal::SIGQUIT, IMMEDIATE_STOP_TIMEOUT).await {
            self.kill();
        }
        false
    }

    /// Ends the server as a crash would: at once, without a checkpoint.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the server to end at once and does not wait. Dropping waits.
    pub fn begin_immediate_stop(&self) {
        self.signal(Signal::SIGQUIT);
    }

    /// How the server ended, if it did since it was started without being asked to. Reported once.
    pub fn take_exit(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// The end of the server's log, for messages.
    pub fn log_tail(&self) -> String {
        let bytes = read_tail(&self.log_file(), LOG_TAIL_BYTES as u64).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        tool::tail(text.trim_end(), LOG_TAIL_BYTES).to_owned()
    }

    fn create_dirs(&self) -> Result<(), InstanceError> {
        // The outer directory stays ours, so that nobody who breaks into the server can plant links
        // where we write.
        fs::create_dir_all(&self.spec.dir).map_err(|source| self.io("create", &self.spec.dir, source))?;
        let data_dir = self.data_dir();
        self.host
            .user
            .create_private_dir(&data_dir)
            .map_err(|source| self.io("create", &data_dir, source))
    }

    /// Everything the server needs beside its data, anew at each start.
    async fn prepare_start(&self, upstream: Option<&Upstream>) -> Result<(), InstanceError> {
        // A server that crashed may still have processes that hold its memory.
        let name = self.spec.name.clone();
        leftovers::stop(&self.data_dir())
            .await
            .map_err(|source| InstanceError::Leftovers { name, source })?;
        let socket_dir = &self.spec.socket_dir;
        if let Err(source) = fs::remove_dir_all(socket_dir)
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(self.io("remove", socket_dir, source));
        }
        self.host
            .user
            .create_private_dir(socket_dir)
            .map_err(|source| self.io("create", socket_dir, source))?;
        self.remove_file(&self.pid_file())?;
        let config_file = self.config_file();
        self.remove_file(&config_file)?;
        let text = config::drover_conf(&self.spec, &self.data_dir().display().to_string(), upstream);
        self.host
            .user
            .create_private_file(&config_file, &text)
            .map_err(|source| self.io("create", &config_file, source))?;
        let log_file = self.log_file();
        if fs::metadata(&log_file).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            let old = log_file.with_extension("log.1");
            fs::rename(&log_file, &old).map_err(|source| self.io("rename", &log_file, source))?;
        }
        Ok(())
    }

    fn spawn(&mut self, port: u16) -> Result<(), InstanceError> {
        let log_file = self.log_file();
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log_file)
            .map_err(|source| self.io("open", &log_file, source))?;
        let log_again = log
            .try_clone()
            .map_err(|source| self.io("open", &log_file, source))?;
        let program = self.host.binaries.program("postgres");
        let mut command = self.host.user.command(&program);
        command.arg("-D").arg(self.data_dir());
        command
            .arg("-c")
            .arg(format!("config_file={}", self.config_file().display()));
        command.arg("-c").arg("listen_addresses=127.0.0.1");
        command.arg("-c").arg(format!("port={port}"));
        command.arg("-c").arg("unix_socket_permissions=0700");
        command.arg("-c").arg(format!(
            "unix_socket_directories={}",
            config::directory_list(&self.spec.socket_dir)
        ));
        command.stdin(Stdio::null()).stdout(log).stderr(log_again);
        let child = command
            .spawn()
            .map_err(|source| self.io("run", &program, source))?;
        self.child = Some(child);
        Ok(())
    }

    async fn wait_ready(&mut self) -> Result<(), InstanceError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.take_exit() {
                return Err(InstanceError::Ended {
                    name: self.spec.name.clone(),
                    status,
                    log: self.log_tail(),
                });
            }
            if self.says_ready() {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let log = self.log_tail();
        self.stop().await;
        Err(InstanceError::NotReady {
            name: self.spec.name.clone(),
            log,
        })
    }

    /// The server keeps its process id in line 1 of `postmaster.pid` and its state in line 8.
    fn says_ready(&self) -> bool {
        let Ok(text) = fs::read_to_string(self.pid_file()) else {
            return false;
        };
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        pid.is_some() && pid == self.pid() && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    /// Sends `signal` and waits. True if the server has ended.
    async fn stop_with(&mut self, signal: Signal, patience: Duration) -> bool {
        self.signal(signal);
        let deadline = Instant::now() + patience;
        while self.child.is_some() {
            if self.take_exit().is_some() {
                break;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }

    fn signal(&self, signal: Signal) {
        // Not yet waited for, so the process id is still that of our child, running or not.
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn tool(
        &self,
        program: &str,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Result<(), InstanceError> {
        tool::run(&self.host, program, arguments, variables)
            .await
            .map_err(|source| InstanceError::Tool {
                name: self.spec.name.clone(),
                source,
            })
    }

    fn remove_file(&self, path: &Path) -> Result<(), InstanceError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.io("remove", path, source)),
            _ => Ok(()),
        }
    }

    fn config_file(&self) -> PathBuf {
        self.spec.dir.join("drover.conf")
    }

    fn pid_file(&self) -> PathBuf {
        self.data_dir().join("postmaster.pid")
    }

    fn io(&self, action: &'static str, path: &Path, source: io::Error) -> InstanceError {
        InstanceError::Io {
            name: self.spec.name.clone(),
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.begin_immediate_stop();
        let deadline = Instant::now() + IMMEDIATE_STOP_TIMEOUT;
        while self.child.is_some() && self.take_exit().is_none() {
            if Instant::now() > deadline {
                self.kill();
            }
            // There may be no runtime any more.
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Paths go into configuration files and command lines of PostgreSQL.
fn check_path(path: &Path) -> Result<(), InstanceError> {
    let reason = match path.to_str() {
        None => "it is not UTF-8",
        Some(text) if text.chars().any(char::is_control) => "it holds control characters",
        Some(_) if !path.is_absolute() => "it is not absolute",
        Some(_) => return Ok(()),
    };
    Err(InstanceError::Path {
        path: path.to_owned(),
        reason,
    })
}

/// The last `bytes_max` bytes of a file.
fn read_tail(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
