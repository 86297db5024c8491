//! A `drover dev` as a user would start it: the real binary, real servers, its own directory.

use crate::client::{Target, TargetError};
use crate::reaper::ReapedDir;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a cluster may take to be ready; a busy machine is slow.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the command and ends it as Ctrl-C would when standard input closes, which the kernel sees to however the
/// test process ends. Only the command keeps standard output open, so that its end shows.
const GUARD: &str = r#"
"$@" < /dev/null &
child=$!
exec > /dev/null
cat
kill -TERM "$child"
wait "$child"
"#;

/// Why no cluster could be had.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The process could not be started.
    #[error("cannot start {binary}")]
    Start {
        /// The binary.
        binary: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It ended, or did not print its URL in time.
    #[error("drover dev did not become ready:\n{0}")]
    NotReady(String),
    /// It printed a URL that is none.
    #[error("drover dev printed a bad URL")]
    Url(#[from] TargetError),
}

/// A running `drover dev`; stopped, with its servers and data, when dropped.
#[derive(Debug)]
pub struct DroverDev {
    // Before the directory: fields are dropped in this order, and the servers use it.
    process: Guarded,
    url: String,
    target: Target,
    dir: ReapedDir,
}

#[derive(Debug)]
struct Guarded(Child);

impl DroverDev {
    /// Starts `binary dev` with so many shards, ports chosen by the system, and waits until it is ready.
    pub fn start(binary: &Path, shards: u16, replicas: u16) -> Result<DroverDev, DevError> {
        let dir = ReapedDir::new();
        let log = dir.path().join("drover.log");
        let failed = |source| DevError::Start {
            binary: binary.to_path_buf(),
            source,
        };
        let errors = std::fs::File::create(&log).map_err(failed)?;
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(binary)
            .args([
                "dev",
                "--shards",
                &shards.to_string(),
                "--replicas",
                &replicas.to_string(),
            ])
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir"])
            .arg(dir.path().join("cluster"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(failed)?;
        let lines = child.stdout.take();
        let process = Guarded(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines().map_while(Result::ok))
            {
                // Nobody listens any more once the URL is known; the pipe is read on so that it never fills.
                let _ = sender.send(line);
            }
        });
        let url = wait_for_url(&receiver)
            .ok_or_else(|| DevError::NotReady(std::fs::read_to_string(&log).unwrap_or_default()))?;
        let target = Target::parse(&url)?;
        Ok(DroverDev {
            process,
            url,
            target,
            dir,
        })
    }

    /// The connection URL it printed.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same, parsed.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("drover.log")).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(None))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Its servers are the directory's affair then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_url(lines: &mpsc::Receiver<String>) -> Option<String> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).ok()?;
        if line.starts_with("postgresql://") {
            return Some(line.trim().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A binary that is a shell script.
    fn script(dir: &ReapedDir, text: &str) -> PathBuf {
        let path = dir.path().join("drover");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn waits_for_the_url_and_stops_with_a_signal() {
        let dir = ReapedDir::new();
        let stopped = dir.path().join("stopped");
        let text = format!(
            "trap 'echo stopped > {}; exit' TERM; echo starting; echo \"postgresql://u:p@127.0.0.1:7777/$3\"; \
             while :; do sleep 0.05; done",
            stopped.display()
        );
        let mut dev = DroverDev::start(&script(&dir, &text), 3, 0).unwrap();
        assert_eq!(dev.url(), "postgresql://u:p@127.0.0.1:7777/3");
        assert!(dev.is_running());
        drop(dev);
        assert!(stopped.exists());
    }

    #[test]
    fn says_why_it_did_not_start() {
        let dir = ReapedDir::new();
        let binary = script(&dir, "echo no binaries >&2; exit 1");
        let mut command = Command::new(&binary);
        assert!(
            !command
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
        let error = DroverDev::start(&binary, 1, 0).unwrap_err();
        assert!(error.to_string().contains("no binaries"), "{error}");
    }
}
