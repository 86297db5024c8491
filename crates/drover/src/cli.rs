//! The command line. Names of commands and flags are fixed by the product; a command is here once it works.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use drover::config::{Config, ConfigError};

use crate::{dev, drift, import, proxy_cmd, restart, sagas, simulate, transactions};

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
    /// Replace a running proxy by a new process, without refusing a connection
    Restart(restart::RestartArgs),
    /// Translate a pgbouncer.ini
    Import(ImportArgs),
    /// Say everything that is wrong with a configuration, or (check tables) with the tables of a running cluster
    Check(CheckArgs),
    /// What is to be known about the schema
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Transactions over several shards that are prepared and not finished
    #[command(subcommand)]
    Transactions(TransactionsCommand),
    /// Steps with compensations, recorded in the database and undone when their client is gone
    #[command(subcommand)]
    Sagas(SagasCommand),
    /// Show what each sharding scheme would make of keys: rows per shard, skew, what moves when shards are added
    Simulate(simulate::SimulateArgs),
}

/// Arguments of `drover check`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// What else is checked
    #[command(subcommand)]
    pub what: Option<CheckCommand>,
}

/// What `drover check` checks besides a configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum CheckCommand {
    /// Compare the copies of reference tables, look for rows on the wrong shard, missing guards and sequences that are behind
    Tables(drift::TablesArgs),
}

/// The commands of `drover schema`.
#[derive(Debug, Clone, Subcommand)]
pub enum SchemaCommand {
    /// Print how the schemas of the shards differ from the home shard's, and the statements that make what is missing
    Diff(drift::DiffArgs),
}

/// The commands of `drover transactions`.
#[derive(Debug, Clone, Subcommand)]
pub enum TransactionsCommand {
    /// Print what is in doubt in one database
    List(transactions::ListArgs),
    /// Finish it by the rule of recovery, which never guesses
    Resolve(transactions::ResolveArgs),
}

/// The commands of `drover sagas`.
#[derive(Debug, Clone, Subcommand)]
pub enum SagasCommand {
    /// Create schema drover_sagas: its tables and functions
    Install(sagas::InstallArgs),
    /// Print the sagas of a role
    List(sagas::ListArgs),
    /// Undo the sagas of a role whose clients are gone
    Resume(sagas::ResumeArgs),
}

/// Arguments of `drover import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The pgbouncer.ini
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write the configuration; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `drover import`: the configuration on standard output or in a file, what was lost on standard error. 0 also when
/// something was lost: only the reader can say whether it matters.
pub fn import(args: &ImportArgs) -> ExitCode {
    use std::io::Write as _;
    let name = args.file.display().to_string();
    if let Err(error) = std::fs::metadata(&args.file) {
        let _ = writeln!(std::io::stderr(), "drover: {name}: {error}");
        return ExitCode::FAILURE;
    }
    let mut open = |file: &str| open_beside(&args.file, file);
    let translation = import::translate(&name, &mut open);
    let mut report = String::new();
    for (title, lines) in [
        ("These have no equivalent, or need a look", &translation.lost),
        ("These need no equivalent", &translation.needless),
    ] {
        if !lines.is_empty() {
            report += &format!("{title}:\n  {}\n", lines.join("\n  "));
        }
    }
    let _ = std::io::stderr().write_all(report.as_bytes());
    let written = match &args.output {
        Some(output) => write_private(output, &translation.toml),
        None => std::io::stdout().write_all(translation.toml.as_bytes()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "drover: cannot write the configuration: {error}"
            );
            ExitCode::FAILURE
        }
    }
}

/// A file named in the configuration: as named, or in the directory of the configuration.
fn open_beside(config: &std::path::Path, file: &str) -> Result<String, String> {
    let named = std::fs::read_to_string(file);
    let read = match (named, config.parent()) {
        (Err(_), Some(directory)) => std::fs::read_to_string(directory.join(file)),
        (named, _) => named,
    };
    read.map_err(|error| error.to_string())
}

/// It holds passwords.
fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// `drover check`: 0 if there is nothing wrong, else 1 and every problem on standard output.
pub fn check(file: &std::path::Path) -> ExitCode {
    use std::io::Write as _;
    let path = file.display();
    let (text, code) = match Config::load(file) {
        Ok(config) => {
            let warnings = config.warnings.iter();
            let mut text: String = warnings
                .map(|warning| format!("{path}: warning: {warning}\n"))
                .collect();
            let unready = unready(file, &config);
            for line in &unready {
                text += &format!("{path}{line}\n");
            }
            let code = match unready.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            };
            if unready.is_empty() {
                text += &format!("{path}: no problems\n");
            }
            (text, code)
        }
        Err(error) => (describe(&path.to_string(), &error), ExitCode::FAILURE),
    };
    // Nobody may be reading any more; the exit code still tells.
    let _ = std::io::stdout().write_all(text.as_bytes());
    code
}

/// What keeps a configuration that can be read from being used: places left to fill in, certificates and keys.
fn unready(path: &std::path::Path, config: &Config) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let blank = format!("= \"{}\"", import::FILL_IN);
    let lines = text.lines().zip(1..);
    let mut problems: Vec<String> = lines
        .filter(|(line, _)| line.trim_end().ends_with(&blank))
        .map(|(_, number)| format!(":{number}: still to be filled in"))
        .collect();
    if let Err(error) = proxy::tls::Tls::load(&config.to_proxy().tls) {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        problems.push(format!(": [tls] {error}{}", cause.unwrap_or_default()));
    }
    problems
}

/// Every problem on a line of its own, as compilers do it, and how many there are.
pub fn describe(path: &str, error: &ConfigError) -> String {
    let mut text: String = error.lines(path).iter().map(|line| format!("{line}\n")).collect();
    if let ConfigError::Wrong(_) = error {
        text.push_str(&format!("{path}: {error}\n"));
    }
    text
}
