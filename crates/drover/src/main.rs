//! The drover binary: subcommands and wiring.

mod ask;
mod cli;
mod dev;
mod drift;
mod handover;
mod import;
mod log;
mod operate;
mod proxy_cmd;
mod restart;
mod sagas;
mod serve;
mod simulate;
mod systemd;
mod terminal;
mod transactions;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{CheckCommand, Cli, Command, SagasCommand, SchemaCommand, TransactionsCommand};
use drover::config::{LogFormat, LogLevel};

/// Half the instructions of the C library's for the short-lived objects of a statement, and less lost between the many
/// small ones of idle sessions.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Wrong usage ends here, with code 2.
    let Cli { command } = Cli::parse();
    if let Err(error) = log::check() {
        eprintln!("drover: {}: {error}", log::VARIABLE);
        return ExitCode::from(2);
    }
    match command {
        Command::Check(args) => match (args.what, args.config) {
            (Some(CheckCommand::Tables(args)), _) => with_runtime(drift::check_tables(args)),
            (None, Some(config)) => cli::check(&config),
            (None, None) => ExitCode::from(2),
        },
        Command::Schema(SchemaCommand::Diff(args)) => with_runtime(drift::schema_diff(args)),
        Command::Transactions(TransactionsCommand::List(args)) => with_runtime(transactions::list(args)),
        Command::Transactions(TransactionsCommand::Resolve(args)) => {
            with_runtime(transactions::resolve(args))
        }
        Command::Sagas(SagasCommand::Install(args)) => with_runtime(sagas::install(args)),
        Command::Sagas(SagasCommand::List(args)) => with_runtime(sagas::list(args)),
        Command::Sagas(SagasCommand::Resume(args)) => with_runtime(sagas::resume(args)),
        Command::Import(args) => cli::import(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Restart(args) => restart::run(&args),
        Command::Dev(args) => {
            let _ = log::start(LogFormat::Text, LogLevel::Warn);
            with_runtime(dev::run(args))
        }
        // It starts its log when it knows how.
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
