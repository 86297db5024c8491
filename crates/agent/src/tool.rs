//! Runs PostgreSQL's one-shot programs (`initdb`, `pg_basebackup`, …) to their end.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use crate::instance::Host;

/// How much of a failed program's output goes into the error.
const OUTPUT_BYTES_MAX: usize = 2_000;

/// Why a program did not do its work.
#[derive(Debug, Error)]
pub enum ToolError {
    /// It could not be run.
    #[error("cannot run {program}")]
    Spawn {
        /// The program's name.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        output: String,
    },
}

/// Runs `program` as the service user and waits for it. Killed when the future is dropped.
pub(crate) async fn run<A: AsRef<OsStr>>(
    host: &Host,
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    variables: &[(&str, &str)],
) -> Result<(), ToolError> {
    let mut command = host.user.command(host.binaries.program(program));
    command.args(arguments).envs(variables.iter().copied());
    // Messages in English, whatever the user's locale: they may end up in an error report.
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |source| ToolError::Spawn {
        program: program.to_owned(),
        source,
    };
    let child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut group = Group { leader: child.id() };
    let output = child.wait_with_output().await.map_err(failed)?;
    group.leader = None;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let output_tail = tail(text.trim(), OUTPUT_BYTES_MAX).to_owned();
    Err(ToolError::Failed {
        program: program.to_owned(),
        status: output.status,
        output: output_tail,
    })
}

/// The process group of a running program, killed when dropped: `initdb` runs servers that would outlive
/// it for a while.
struct Group {
    /// Absent once the program has ended by itself: the id may then belong to somebody else.
    leader: Option<u32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// The last `bytes_max` bytes of `text`, cut at a character boundary.
pub(crate) fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::tail;

    #[test]
    fn the_tail_is_cut_between_characters() {
        assert_eq!(tail("abc", 10), "abc");
        assert_eq!(tail("aéb", 2), "b");
        assert_eq!(tail("aéb", 3), "éb");
    }
}
