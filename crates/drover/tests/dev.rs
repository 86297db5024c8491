//! `drover dev` as a user runs it: the binary, its output, its exit code, what it leaves behind.

// Only clippy's setting for unit tests covers unwrap; in these helpers it is as good as an assertion.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A directory of this test's own, removed in the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("drover-dev-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).unwrap();
        Dir(path.canonicalize().unwrap())
    }

    fn drover_dev(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir"]);
        command.arg(self.0.join("data")).args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn servers(&self) -> usize {
        agent::leftovers::find(&self.0).len()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `drover dev`, told to stop when dropped.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(command.spawn().unwrap())
    }

    /// Waits until it says where to connect.
    fn url(&mut self) -> String {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        match lines.next() {
            Some(line) => line.unwrap(),
            None => panic!("it ended: {}", self.messages()),
        }
    }

    fn messages(&mut self) -> String {
        let mut text = String::new();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg("-s")
            .arg(name)
            .arg(self.0.id().to_string())
            .status();
        assert!(status.unwrap().success());
    }

    /// Its exit code, which must come soon.
    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.signal("TERM");
            let _ = self.0.wait();
        }
    }
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_starts_says_where_and_stops_on_signals() {
    let dir = Dir::new("life");
    let mut drover = Running::start(dir.drover_dev(&["--shards", "2", "--replicas", "1"]));
    let url = drover.url();
    assert!(
        url.starts_with("postgresql://drover:drover@127.0.0.1:") && url.ends_with("/app"),
        "{url}"
    );
    assert!(dir.servers() >= 4);

    let second = dir.drover_dev(&[]).output().unwrap();
    assert!(failure(&second).contains("is in use by another drover"));

    drover.signal("INT");
    assert_eq!(drover.exit_code(), Some(0), "{}", drover.messages());
    assert_eq!(dir.servers(), 0);

    // Killed, it leaves its servers; the next one cleans up, and takes the shape from the directory.
    let mut drover = Running::start(dir.drover_dev(&[]));
    drover.url();
    drover.0.kill().unwrap();
    drover.exit_code();
    assert!(dir.servers() >= 4);
    let mut drover = Running::start(dir.drover_dev(&[]));
    drover.url();
    drover.signal("TERM");
    assert_eq!(drover.exit_code(), Some(0));
    let messages = drover.messages();
    assert!(
        messages.contains("server processes of an earlier run"),
        "{messages}"
    );
    assert_eq!(dir.servers(), 0);
}

#[test]
fn a_signal_while_it_starts_stops_everything() {
    let dir = Dir::new("early");
    let mut drover = Running::start(dir.drover_dev(&["--shards", "4"]));
    let deadline = Instant::now() + Duration::from_secs(60);
    while dir.servers() == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    drover.signal("TERM");
    assert_eq!(drover.exit_code(), Some(1));
    // What was being created is killed, which takes the kernel a moment.
    while dir.servers() > 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_cannot_work_is_said_before_anything_is_created() {
    let dir = Dir::new("refused");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
    command.arg("dev").arg("--dir").arg(dir.0.join("data"));
    command
        .arg("--listen")
        .arg(taken.local_addr().unwrap().to_string());
    let message = failure(&command.output().unwrap());
    assert!(
        message.contains("choose another address with --listen"),
        "{message}"
    );
    let message = failure(&dir.drover_dev(&["--shards", "0"]).output().unwrap());
    assert!(message.contains("must be between 1 and 64"), "{message}");
    assert!(!dir.0.join("data").exists());

    std::fs::create_dir(dir.0.join("data")).unwrap();
    std::fs::write(dir.0.join("data/photo.jpg"), "x").unwrap();
    let message = failure(&dir.drover_dev(&["--fresh"]).output().unwrap());
    assert!(message.contains("not a Drover directory"), "{message}");
    assert!(dir.0.join("data/photo.jpg").exists());

    let status = dir.drover_dev(&["--shards", "many"]).output().unwrap().status;
    assert_eq!(status.code(), Some(2), "wrong usage");
}
