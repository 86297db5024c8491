//! The drover binary: subcommands and wiring.

mod dev;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes many PostgreSQL servers behave like one database.
#[derive(Debug, Parser)]
#[command(name = "drover", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, from the PostgreSQL found on it
    Dev(dev::DevArgs),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("drover: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match command {
        Command::Dev(args) => runtime.block_on(dev::run(args)),
    }
}
