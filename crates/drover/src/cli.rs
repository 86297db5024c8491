//! The command line. Names of commands and flags are fixed by the product; a command is here once it works.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use drover::config::{Config, ConfigError};

use crate::{dev, proxy_cmd};

/// Makes many PostgreSQL servers behave like one database.
#[derive(Debug, Parser)]
#[command(name = "drover", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine, from the PostgreSQL found on it
    Dev(dev::DevArgs),
    /// Run one proxy of a cluster
    Proxy(proxy_cmd::ProxyArgs),
    /// Say everything that is wrong with a configuration
    Check(CheckArgs),
}

/// Arguments of `drover check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `drover check`: 0 if there is nothing wrong, else 1 and every problem on standard output.
pub fn check(args: &CheckArgs) -> ExitCode {
    use std::io::Write as _;
    let path = args.config.display();
    let (text, code) = match Config::load(&args.config) {
        Ok(config) => {
            let warnings = config.warnings.iter();
            let lines = warnings.map(|warning| format!("{path}: warning: {warning}\n"));
            let text = lines.chain([format!("{path}: no problems\n")]).collect();
            (text, ExitCode::SUCCESS)
        }
        Err(error) => (describe(&path.to_string(), &error), ExitCode::FAILURE),
    };
    // Nobody may be reading any more; the exit code still tells.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// Every problem on a line of its own, as compilers do it, and how many there are.
pub fn describe(path: &str, error: &ConfigError) -> String {
    let mut text: String = error.lines(path).iter().map(|line| format!("{line}\n")).collect();
    if let ConfigError::Wrong(_) = error {
        text.push_str(&format!("{path}: {error}\n"));
    }
    text
}
