//! The drover binary: subcommands and wiring.

mod cli;
mod dev;
mod operate;
mod proxy_cmd;
mod serve;
mod terminal;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use cli::{Cli, Command};

/// Chooses what is logged, in the syntax of tracing's filters (`info`, `proxy=debug,warn`).
const LOG_VARIABLE: &str = "DROVER_LOG";

fn main() -> ExitCode {
    // Wrong usage ends here, with code 2.
    let Cli { command } = Cli::parse();
    if let Err(error) = start_log() {
        eprintln!("drover: {LOG_VARIABLE}: {error}");
        return ExitCode::from(2);
    }
    match command {
        Command::Check(args) => cli::check(&args),
        Command::Dev(args) => with_runtime(dev::run(args)),
        Command::Proxy(args) => with_runtime(proxy_cmd::run(args)),
    }
}

fn with_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // Whatever a command has left running it no longer waits for.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("drover: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Log lines go to standard error; standard output is for results.
fn start_log() -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) => EnvFilter::try_new(text)?,
        Err(_) => EnvFilter::new("warn"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
