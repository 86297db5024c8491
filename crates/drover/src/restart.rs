//! `drover restart`: a new process takes over from the running proxy of the same configuration.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::terminal::say;

/// Arguments of `drover restart`.
#[derive(Debug, Clone, Args)]
pub struct RestartArgs {
    /// The configuration file of the running proxy, read again
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Starts the successor in the background and waits until it serves clients. The old process ends when its clients have
/// gone. Blocks.
pub fn run(args: &RestartArgs) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            say!("cannot find the program to start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let child = Command::new(program)
        .args(["proxy", "--takeover", "--config"])
        .arg(&args.config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // The end of a terminal, or Ctrl-C there, is meant for this command and not for the proxy.
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            say!("cannot start the new process: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // An error means the same as an end.
        let _ = BufReader::new(output).read_line(&mut line);
    }
    if line.starts_with("listening on ") {
        let text = format!("process {} took over, {line}", child.id());
        let _ = std::io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    // It has said why.
    let _ = child.wait();
    say!("the running proxy goes on");
    ExitCode::FAILURE
}
