//! `drover transactions list` and `drover transactions resolve`: what is prepared and not finished.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use crate::ask::{self, AskError, DEFAULT_URL, Row, Session};

const COLUMNS: &[&str] = &[
    "id",
    "owner",
    "decided_by",
    "decision",
    "prepared_on",
    "age_ms",
    "action",
    "why",
];

/// Those of them that `list` prints.
const LISTED: usize = 6;

/// Arguments of `drover transactions list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// A proxy of the cluster, the database, and a role that may operate it
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drover transactions resolve`.
#[derive(Debug, Clone, Args)]
pub struct ResolveArgs {
    /// A proxy of the cluster, the database, and a role that may operate it
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Only say what would be done, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Leave alone what is not decided and younger than this: whoever began it may be at work (500ms, 10s, 5min, 1h)
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub older_than: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// 0: all shards have told what is in doubt; 1: some have not.
pub async fn list(args: ListArgs) -> ExitCode {
    let sql = "SELECT drover.resolve_transactions(dry_run => true)";
    let rows = match ask(&args.url, sql).await {
        Ok(rows) => rows,
        Err(error) => return failed(&error),
    };
    let (found, missing): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| !value(row, 0).is_empty());
    let text = match args.json {
        true => ask::json(&COLUMNS[..LISTED], &found),
        false => found.iter().map(|row| line(row, LISTED)).collect(),
    };
    for row in &missing {
        let _ = writeln!(std::io::stderr(), "drover: {}", value(row, 7));
    }
    print(&text, missing.is_empty())
}

/// 0: nothing is left in doubt, or would be, but what is too young; 1: something is, or a shard cannot be asked.
pub async fn resolve(args: ResolveArgs) -> ExitCode {
    let (older_than, dry_run) = (args.older_than.replace('\'', "''"), args.dry_run);
    let sql =
        format!("SELECT drover.resolve_transactions(older_than => '{older_than}', dry_run => {dry_run})");
    match ask(&args.url, &sql).await {
        Ok(rows) => {
            let left = rows
                .iter()
                .any(|row| matches!(value(row, 6), "unknown" | "operator" | "failed"));
            let text = match args.json {
                true => ask::json(COLUMNS, &rows),
                false => rows.iter().map(|row| line(row, COLUMNS.len())).collect(),
            };
            print(&text, !left)
        }
        Err(error) => failed(&error),
    }
}

async fn ask(url: &str, sql: &str) -> Result<Vec<Row>, AskError> {
    Session::connect(url).await?.rows(sql).await
}

fn value(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

/// The first columns, with tabulators between them.
fn line(row: &Row, columns: usize) -> String {
    let shown: Vec<&str> = (0..columns).map(|column| value(row, column)).collect();
    format!("{}\n", shown.join("\t"))
}

fn print(text: &str, good: bool) -> ExitCode {
    // Nobody may be reading any more; the exit code still tells.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn failed(error: &AskError) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "drover: {error}");
    ExitCode::FAILURE
}
