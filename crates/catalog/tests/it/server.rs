//! A PostgreSQL server of the test's own: private directory, unix socket only, stopped when dropped.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const START_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Server {
    bin: PathBuf,
    account: Option<(u32, u32)>,
    directory: tempfile::TempDir,
    process: Child,
}

impl Server {
    /// Makes and starts a server. Panics with the reason when it cannot: a test without its server has failed.
    pub fn start() -> Server {
        let bin = newest_binaries();
        let directory = tempfile::Builder::new()
            .prefix("drover-catalog-")
            .tempdir()
            .unwrap();
        let account = unprivileged_account();
        if let Some((uid, gid)) = account {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = directory.path().join("data");
        let initdb = command(&bin, "initdb", account)
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-N",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            initdb.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let mut process = command(&bin, "postgres", account)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "logging_collector=off",
                "-D",
            ])
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, is_ready) = mpsc::channel();
        let log = BufReader::new(process.stderr.take().unwrap());
        // Reads to the end, so that the server never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = ready.send(());
                }
            }
        });
        let server = Server {
            bin,
            account,
            directory,
            process,
        };
        is_ready
            .recv_timeout(START_TIMEOUT)
            .expect("PostgreSQL did not start");
        server
    }

    pub async fn connect(&self, database: &str) -> Client {
        let config = format!(
            "host='{}' user=postgres dbname='{database}' connect_timeout=20",
            self.directory.path().display()
        );
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not SIGKILL, which would leave its shared memory behind.
        let data = self.directory.path().join("data");
        let stop = command(&self.bin, "pg_ctl", self.account)
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data)
            .status();
        if !stop.is_ok_and(|s| s.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// All rows of one query, in text format.
pub async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => panic!("{error:?}\n{sql}"),
    };
    messages
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        })
        .collect()
}

fn newest_binaries() -> PathBuf {
    let wanted = std::env::var_os("DROVER_TEST_PG_BIN").map(PathBuf::from);
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    wanted.or_else(|| found.pop()).expect(
        "this test needs PostgreSQL server binaries: install them under /usr/lib/postgresql, \
         or set DROVER_TEST_PG_BIN to the directory with initdb",
    )
}

fn command(bin: &Path, program: &str, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(bin.join(program));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .current_dir("/");
    if let Some((uid, gid)) = account {
        command.gid(gid).uid(uid);
    }
    command
}

/// PostgreSQL refuses to run as root; then it runs as this account.
fn unprivileged_account() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !root {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        accounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.first() == Some(&name))
                .then_some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
    };
    find("postgres").or_else(|| find("nobody"))
}
