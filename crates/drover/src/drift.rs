//! `drover check tables` and `drover schema diff`: do the shards agree?

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;

use crate::ask::{self, AskError, DEFAULT_URL, Row, Session};

const CHECK_COLUMNS: &[&str] = &["table", "shard", "finding", "detail", "repair"];
const DIFF_COLUMNS: &[&str] = &["shard", "kind", "name", "difference", "ddl", "found"];

/// Arguments of `drover check tables`.
#[derive(Debug, Clone, Args)]
pub struct TablesArgs {
    /// A proxy of the cluster, the database, and a role that may operate it
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Only this table
    #[arg(value_name = "TABLE")]
    pub table: Option<String>,
    /// Rewrite copies of reference tables from the home shard, make missing guards, advance sequences
    #[arg(long)]
    pub repair: bool,
    /// With --repair: only say what would be repaired
    #[arg(long, requires = "repair")]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drover schema diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// A proxy of the cluster, the database, and a role that may operate it
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// 0: nothing is wrong, or all of it was repaired; 1: something is.
pub async fn check_tables(args: TablesArgs) -> ExitCode {
    match look(&args).await {
        Ok(rows) => {
            let wrong = |row: &&Row| value(row, 2) != "ok" && value(row, 4) != "repaired";
            let left = rows.iter().filter(wrong).count();
            let text = match args.json {
                true => ask::json(CHECK_COLUMNS, &rows),
                false => rows.iter().map(finding).collect(),
            };
            print(&text, left == 0)
        }
        Err(error) => failed(&error),
    }
}

/// 0: all shards have the home shard's schema; 1: some have not.
pub async fn schema_diff(args: DiffArgs) -> ExitCode {
    let asked = async {
        let mut session = Session::connect(&args.url).await?;
        session.rows("SELECT * FROM drover.schema_diff()").await
    };
    match asked.await {
        Ok(rows) => {
            let text = match args.json {
                true => ask::json(DIFF_COLUMNS, &rows),
                false if rows.is_empty() => "-- all shards have the same schema\n".to_owned(),
                false => rows.iter().map(difference).collect(),
            };
            print(&text, rows.is_empty())
        }
        Err(error) => failed(&error),
    }
}

/// Table by table, so that it can be said how far it is.
async fn look(args: &TablesArgs) -> Result<Vec<Row>, AskError> {
    let mut session = Session::connect(&args.url).await?;
    let tables: Vec<String> = match &args.table {
        Some(table) => vec![table.clone()],
        None => {
            let listed = session.rows("SELECT * FROM drover.tables").await?;
            listed
                .iter()
                .map(|row| format!("{}.{}", quoted(value(row, 0)), quoted(value(row, 1))))
                .collect()
        }
    };
    let (mut rows, began) = (Vec::new(), Instant::now());
    for (done, table) in tables.iter().enumerate() {
        let (name, repair, dry_run) = (table.replace('\'', "''"), args.repair, args.dry_run);
        let sql = format!("SELECT drover.check_tables('{name}', repair => {repair}, dry_run => {dry_run})");
        rows.extend(session.rows(&sql).await?);
        let seconds = began.elapsed().as_secs_f64();
        let left = seconds / (done as f64 + 1.0) * (tables.len() - done - 1) as f64;
        let rate = (done as f64 + 1.0) / seconds.max(0.001);
        let _ = writeln!(
            std::io::stderr(),
            "{} of {} tables, {rate:.1} tables/s, about {left:.0} s left: {table}",
            done + 1,
            tables.len()
        );
    }
    Ok(rows)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn value(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

fn finding(row: &Row) -> String {
    let repair = match value(row, 4) {
        "" => String::new(),
        repair => format!(" ({repair})"),
    };
    format!(
        "{}\t{}\t{}{repair}: {}\n",
        value(row, 0),
        value(row, 1),
        value(row, 2),
        value(row, 3)
    )
}

/// A comment that says what is wrong, and the statements that make it, to be run on the shard itself.
fn difference(row: &Row) -> String {
    let mut text = format!(
        "-- {}: {} {} is {}\n",
        value(row, 0),
        value(row, 1),
        value(row, 2),
        value(row, 3)
    );
    match value(row, 3) {
        "missing" => text.push_str(&format!("{};\n", value(row, 4))),
        "different" => {
            let comment =
                |label: &str, of: &str| format!("--   {label}: {}\n", of.replace('\n', "\n--     "));
            text.push_str(&comment("home", value(row, 4)));
            text.push_str(&comment("here", value(row, 5)));
        }
        _ => {}
    }
    text
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
