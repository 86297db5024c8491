//! `drover sagas`: steps with compensations, undone when their client is gone (docs/decisions/0043).

mod schema;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::ask::{self, AskError, DEFAULT_URL, Row, Session};

const COLUMNS: &[&str] = &["saga", "state", "steps", "changed"];

/// Outcomes of one resumption, as JSON.
const DONE_COLUMNS: &[&str] = &["saga", "outcome", "steps", "error"];

/// Arguments of `drover sagas install`.
#[derive(Debug, Clone, Args)]
pub struct InstallArgs {
    /// A proxy of the cluster, the database, and a role that may create a schema in it
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
}

/// Arguments of `drover sagas list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// A proxy of the cluster, the database, and the role whose sagas they are
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `drover sagas resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// A proxy of the cluster, the database, and the role whose sagas they are: it runs what undoes them
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub url: String,
    /// Sagas that are running and had no step for this long are given up (500ms, 10s, 5min, 1h); their clients can go on no more
    #[arg(long, value_name = "TIME")]
    pub older_than: String,
    /// Do it again and again, so many seconds after the last time, until the process is ended
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run")]
    pub every: Option<u64>,
    /// Only say which sagas would be undone
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// 0: everything is there.
pub async fn install(args: InstallArgs) -> ExitCode {
    let installed = async {
        let mut session = Session::connect(&args.url).await?;
        if let Some(foreign) = session.rows(schema::FOREIGN).await?.first() {
            return Err(AskError::Refused(format!(
                "schema drover_sagas has a {} \"{}\" of somebody else: who installs sagas would run it with rights of his own; look at it, and drop it",
                value(foreign, 0),
                value(foreign, 1)
            )));
        }
        for statement in schema::INSTALL {
            session.rows(statement).await?;
        }
        Ok(())
    };
    match installed.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// 0, and the role's sagas, the newest last.
pub async fn list(args: ListArgs) -> ExitCode {
    let listed = async {
        let mut session = Session::connect(&args.url).await?;
        session
            .rows("SELECT name, state, steps, changed FROM drover_sagas.mine ORDER BY changed, name")
            .await
    };
    match listed.await {
        Ok(rows) => print(COLUMNS, &rows, args.json, true),
        Err(error) => failed(&error),
    }
}

/// 0: nothing is left to be undone; 1: something is, or it could not be looked.
pub async fn resume(args: ResumeArgs) -> ExitCode {
    loop {
        let code = match resume_once(&args).await {
            Ok(rows) if args.dry_run => print(COLUMNS, &rows, args.json, true),
            Ok(rows) => {
                let good = rows.iter().all(|row| value(row, 1) != "failed");
                print(DONE_COLUMNS, &rows, args.json, good)
            }
            Err(error) => failed(&error),
        };
        match args.every {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => return code,
        }
    }
}

/// Looks once. Each saga for itself: one whose compensation fails does not keep the others.
async fn resume_once(args: &ResumeArgs) -> Result<Vec<Row>, AskError> {
    let older_than = format!("interval '{}'", args.older_than.replace('\'', "''"));
    let mut session = Session::connect(&args.url).await?;
    // A step and its record are one transaction, whatever the role's default says.
    session.rows("SET drover.transaction_mode = 'atomic'").await?;
    let left = session
        .rows(&format!(
            "SELECT name, state, steps, changed FROM drover_sagas.mine WHERE state = 'undoing' \
             OR (state = 'running' AND changed <= pg_catalog.clock_timestamp() - {older_than}) ORDER BY changed, name LIMIT 1000"
        ))
        .await?;
    if args.dry_run {
        return Ok(left);
    }
    let mut outcomes = Vec::with_capacity(left.len());
    for saga in left {
        let name = value(&saga, 0);
        let mut steps = 0;
        let (outcome, error) = match undo(&mut session, name, &older_than, &mut steps).await {
            Ok(state) => (state, None),
            Err(error) => {
                // If the connection is lost, the next statement says so.
                if session.in_transaction() {
                    let _ = session.rows("ROLLBACK").await;
                }
                ("failed".to_owned(), Some(error.to_string()))
            }
        };
        outcomes.push(vec![
            Some(name.to_owned()),
            Some(outcome),
            Some(steps.to_string()),
            error,
        ]);
    }
    // Those that ended long ago; another time will do as well.
    let _ = session.rows("SELECT drover_sagas.forget()").await;
    Ok(outcomes)
}

/// One step after the other, the newest first: its record goes and its compensation runs in one transaction. The state in the end: it
/// is still running when its client was not gone.
async fn undo(
    session: &mut Session,
    name: &str,
    older_than: &str,
    steps: &mut u32,
) -> Result<String, AskError> {
    let name = name.replace('\'', "''");
    let call = format!("SELECT undo_statement, step_name FROM drover_sagas.undo('{name}', {older_than})");
    loop {
        session.rows("BEGIN").await?;
        let found = session.rows(&call).await?;
        let Some(row) = found.first() else {
            session.rows("COMMIT").await?;
            let state = format!("SELECT state FROM drover_sagas.mine WHERE name = '{name}'");
            let rows = session.rows(&state).await?;
            return Ok(rows
                .first()
                .map(|row| value(row, 0).to_owned())
                .unwrap_or_default());
        };
        if let Some(statement) = row.first().and_then(Option::as_deref) {
            session.rows(statement).await?;
        }
        if !session.in_transaction() {
            return Err(AskError::Refused(format!(
                "what undoes step \"{}\" has ended the transaction: whether it is undone as a whole is not known",
                value(row, 1)
            )));
        }
        session.rows("COMMIT").await?;
        *steps += 1;
    }
}

fn value(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}

fn print(columns: &[&str], rows: &[Row], json: bool, good: bool) -> ExitCode {
    let line = |row: &Row| {
        let shown: Vec<&str> = (0..columns.len()).map(|column| value(row, column)).collect();
        format!("{}\n", shown.join("\t").trim_end())
    };
    let text = match json {
        true => ask::json(columns, rows),
        false => rows.iter().map(line).collect(),
    };
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
