//! A private PostgreSQL server on a Unix socket, and what the tests ask of it.

use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage};

/// Longest wait for a server to start.
const START_MAX: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

/// The newest installed PostgreSQL; `None` when there is none.
fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|e| Some(e.ok()?.path().join("bin")))
        .filter(|p| p.join("initdb").exists())
        .collect();
    found.sort();
    found.pop()
}

/// User and group to run as: PostgreSQL refuses the superuser.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|l| l.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = unprivileged() {
        command.uid(uid).gid(gid);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.env("LC_ALL", "C.UTF-8");
    command
}

impl Server {
    /// `None` when no PostgreSQL is installed.
    pub fn start() -> Option<Self> {
        let bin = binaries()?;
        let dir = tempfile::Builder::new()
            .prefix("drover-sql")
            .tempdir()
            .expect("directory");
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        }
        let data = dir.path().join("data");
        let mut init = command(&bin.join("initdb"));
        init.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data);
        assert!(init.current_dir("/").status().expect("initdb").success());
        let mut server = command(&bin.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-h", "", "-c", "fsync=off"]);
        let child = server.current_dir("/").spawn().expect("postgres");
        Some(Self { child, dir })
    }

    pub async fn connect(&self) -> Session {
        let config = format!("host={} user=postgres dbname=postgres", self.dir.path().display());
        let deadline = Instant::now() + START_MAX;
        let (client, mut connection) = loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok(pair) => break pair,
                Err(e) => assert!(Instant::now() < deadline, "server does not start: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (send, notices) = channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.message() == "rewritten parse tree:"
                {
                    // The receiver is gone when the test is over.
                    let _ = send.send(notice.detail().unwrap_or_default().to_owned());
                }
            }
        });
        Session { client, notices }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown: the data is thrown away.
        let _ = Command::new("kill")
            .args(["-QUIT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

pub struct Session {
    client: Client,
    notices: Receiver<String>,
}

impl Session {
    pub async fn run(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let messages = self
            .client
            .simple_query(sql)
            .await
            .map_err(|e| match e.as_db_error() {
                Some(db) => db.message().to_owned(),
                None => e.to_string(),
            })?;
        let mut rows = Vec::new();
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(n) => rows.push(vec![Some(format!("affected {n}"))]),
                _ => {}
            }
        }
        Ok(rows)
    }

    /// The rewritten tree of a statement, as the server logs it.
    pub async fn tree(&self, sql: &str) -> Result<String, String> {
        self.run(
            "set debug_print_rewritten = on; set debug_pretty_print = off; set client_min_messages = log",
        )
        .await?;
        while self.notices.try_recv().is_ok() {}
        let prepared = self.run(&format!("prepare p as {sql}")).await;
        // The first is PREPARE itself.
        let tree = self.notices.try_iter().last();
        self.run("reset debug_print_rewritten; reset client_min_messages; deallocate all")
            .await?;
        prepared?;
        tree.ok_or_else(|| "no tree".to_owned())
    }

    /// Rows of a statement and the state of all tables after it, which is then undone.
    pub async fn outcome(&self, sql: &str) -> Result<String, String> {
        self.run("begin").await?;
        let result = self.run(sql).await;
        let state = match &result {
            Ok(_) => self.run(STATE).await,
            Err(e) => Err(e.clone()),
        };
        self.run("rollback").await?;
        // Sequences do not roll back.
        self.run("alter sequence s.ser_id_seq restart 10; alter sequence s.idt_id_seq restart 10")
            .await?;
        Ok(format!("{:?}\n{:?}", result?, state?))
    }

    pub async fn map<const N: usize>(&self, sql: &str) -> HashMap<u32, [String; N]> {
        let rows = self.run(sql).await.expect(sql);
        let entry = |row: Vec<Option<String>>| {
            let mut fields = row.into_iter().map(Option::unwrap_or_default);
            let key = fields.next()?.parse().ok()?;
            Some((key, std::array::from_fn(|_| fields.next().unwrap_or_default())))
        };
        rows.into_iter().filter_map(entry).collect()
    }
}

const STATE: &str = "select 'cust', array(select c::text from s.cust c order by 1) union all \
    select 'ord', array(select c::text from s.ord c order by 1) union all \
    select 'item', array(select c::text from s.item c order by 1) union all \
    select 'idt', array(select c::text from s.idt c order by 1) union all \
    select 'ser', array(select c::text from s.ser c order by 1)";
