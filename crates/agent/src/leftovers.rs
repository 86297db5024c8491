//! Finds and stops PostgreSQL processes that a killed supervisor left behind.
//!
//! A process counts as left behind only if its executable is one of PostgreSQL's *and* it works inside
//! the given directory: its working directory is there (every server process enters its data directory)
//! or one of its arguments names a path there (`initdb`, `pg_basebackup`). A process id in a file proves
//! nothing, it may have been reused since; so `postmaster.pid` is not asked.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

const PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_resetwal"];

/// How long each way of asking is given: a fast shutdown (which writes a checkpoint), an immediate
/// one, and the kernel.
const PATIENCE: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(20)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Ends are polled: the processes are not our children, so nothing announces them.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Some processes would not go away.
#[derive(Debug, Error)]
#[error("PostgreSQL processes of an earlier run could not be stopped: {pids:?}")]
pub struct LeftoverError {
    /// The process ids still there.
    pub pids: Vec<i32>,
}

/// Process ids of all PostgreSQL processes that work inside `root` (an absolute path without links).
/// Empty where the system has no `/proc`.
pub fn find(root: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| is_postgres(pid) && works_inside(pid, root))
        .collect()
}

/// Stops all of them, gently first, and says how many there were.
pub async fn stop(root: &Path) -> Result<usize, LeftoverError> {
    let mut remaining = find(root);
    let count = remaining.len();
    for (signal, patience) in PATIENCE {
        let deadline = Instant::now() + patience;
        // A fast shutdown is for the server's first process alone; the harder signals are for all.
        let targets = if signal == Signal::SIGINT {
            without_children(&remaining)
        } else {
            remaining.clone()
        };
        for pid in targets {
            // It may have ended by itself since it was listed.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        while !remaining.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(POLL_INTERVAL).await;
            remaining = find(root);
        }
        if remaining.is_empty() {
            return Ok(count);
        }
    }
    Err(LeftoverError { pids: remaining })
}

fn is_postgres(pid: i32) -> bool {
    let Ok(executable) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return false;
    };
    let name = executable.file_name().and_then(OsStr::to_str).unwrap_or_default();
    // The kernel marks the executable of a server that was upgraded while it ran.
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    PROGRAMS.contains(&name)
}

fn works_inside(pid: i32, root: &Path) -> bool {
    if fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory.starts_with(root)) {
        return true;
    }
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command_line.split(|&byte| byte == 0).any(|argument| {
        let value = argument
            .splitn(2, |&byte| byte == b'=')
            .last()
            .unwrap_or(argument);
        Path::new(OsStr::from_bytes(value)).starts_with(root)
    })
}

/// Those whose parent is not in the list.
fn without_children(pids: &[i32]) -> Vec<i32> {
    let all: HashSet<i32> = pids.iter().copied().collect();
    pids.iter()
        .copied()
        .filter(|&pid| !parent(pid).is_some_and(|parent| all.contains(&parent)))
        .collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state ppid …"; the name may hold anything, parentheses included.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(
            parent(own),
            i32::try_from(std::os::unix::process::parent_id()).ok()
        );
    }

    #[test]
    fn other_programs_are_never_taken_for_a_server() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(&directory)
            .spawn()
            .unwrap();
        assert!(find(&directory.path().canonicalize().unwrap()).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
