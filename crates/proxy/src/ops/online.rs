//! Moves while the table is in use (docs/decisions/0028).
//!
//! [`movement::workflow`] says what comes when; here it is done. One proxy leads a move, whoever holds its key in the store;
//! [`resume`] takes over those that nobody leads.

mod clean;
mod cutover;
mod lane;
mod legs;
mod look;
mod prepare;
mod stream;
mod swap;
mod verify;

use std::time::{Duration, SystemTime};

use movement::workflow::{Event, Phase, Task, Workflow};
use plan::DroverStatement;
use topology::ChangeError;
use topology::movements::{self, MovementError, MovementLead};
use topology::records::TableKind;
use wire::backend::ErrorFields;

use super::OpError;
use super::faults::{Faults, Step};
use super::relocate::{Goal, Wanted};
use super::{check, relocate};
use crate::admin_link::AdminError;
use crate::cluster::Cluster;
use crate::metrics::WorkerMetrics;

/// Tables smaller than this, in bytes, are moved in one transaction unless the operator says otherwise.
const ONLINE_BYTES_MIN: u64 = 8 << 20;

/// How often in a row something is tried again that may succeed later.
const RETRIES_MAX: u32 = 8;

/// Pause after the first failure; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Pause before moves that nobody leads are looked for after a failure.
const RESUME_PAUSE: Duration = Duration::from_secs(5);

/// To run after the commit machine's own objects have been made, by the same role. Repeating it changes nothing.
pub(crate) const BOOTSTRAP: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS drover_internal.movements (
    id text PRIMARY KEY,
    attempt integer NOT NULL,
    position pg_catalog.pg_lsn,
    rows bigint
)",
    "REVOKE ALL ON drover_internal.movements FROM PUBLIC",
    // pg_dump locks and reads every table.
    "GRANT SELECT ON drover_internal.movements TO PUBLIC",
];

/// Why a step of a move ended.
#[derive(Debug)]
enum Trouble {
    /// It failed.
    Op(OpError),
    /// What was copied is of no use any more.
    Again { reason: String, full_identity: bool },
    /// The operator wants it to end.
    Cancelled,
    /// Another proxy leads.
    Lost,
}

impl From<OpError> for Trouble {
    fn from(error: OpError) -> Self {
        Trouble::Op(error)
    }
}

impl From<MovementError> for Trouble {
    fn from(error: MovementError) -> Self {
        match error {
            MovementError::Lost | MovementError::Gone | MovementError::Membership(_) => Trouble::Lost,
            other => Trouble::Op(OpError::refused("XX000", other.to_string())),
        }
    }
}

/// A move and whoever leads it.
struct Job<'a> {
    cluster: &'a Cluster,
    lead: MovementLead,
    goal: Goal,
    faults: &'a Faults,
    line: &'a mut dyn FnMut(&str),
}

impl Job<'_> {
    fn workflow(&self) -> &Workflow {
        self.lead.workflow()
    }

    async fn advance(&mut self, event: &Event) -> Result<(), Trouble> {
        let now = now_ms();
        let mut wrong = None;
        self.lead
            .save(|workflow| wrong = workflow.advance(event, now).err())
            .await?;
        match wrong {
            None => Ok(()),
            Some(wrong) => Err(OpError::refused("XX000", wrong.to_string()).into()),
        }
    }

    /// Notes how far it is, and looks whether it is to end.
    async fn note(&mut self, change: impl Fn(&mut movement::workflow::Progress)) -> Result<(), Trouble> {
        let now = now_ms();
        self.lead
            .save(|workflow| {
                workflow.progress.noted_ms = now;
                change(&mut workflow.progress);
            })
            .await?;
        self.check_wanted()
    }

    fn check_wanted(&self) -> Result<(), Trouble> {
        if self.workflow().cancelled {
            Err(Trouble::Cancelled)
        } else {
            Ok(())
        }
    }

    fn say(&mut self, what: &str) {
        let workflow = self.lead.workflow();
        let text = format!("{}.{}: {what}", workflow.schema, workflow.table);
        tracing::info!(movement = %workflow.id, "{text}");
        (self.line)(&text);
    }
}

/// What is wanted, of a recorded move.
fn wanted<'a>(workflow: &'a Workflow, goal: &'a Goal) -> Wanted<'a> {
    Wanted {
        database: &workflow.database,
        schema: &workflow.schema,
        table: &workflow.table,
        goal,
    }
}

/// Whether a table should be moved while it is in use.
pub(super) async fn is_better(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<bool, OpError> {
    let mut bytes = 0;
    for shard in sources(cluster, wanted) {
        let name = super::part::shard_name(cluster, shard);
        let on = OpError::on(&name);
        let mut link = cluster.admin_link(shard, wanted.database).await.map_err(&on)?;
        let size = link.value(&look::size_sql(wanted)).await.map_err(&on)?;
        bytes += size.and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
    }
    let large = bytes >= ONLINE_BYTES_MIN;
    Ok(large && cluster.record().shards.len() > 1 && obstacle(cluster, wanted).await?.is_none())
}

/// The shards that rows leave.
fn sources(cluster: &Cluster, wanted: &Wanted<'_>) -> Vec<catalog::ShardId> {
    let record = cluster.record();
    match record.table(wanted.database, wanted.schema, wanted.table) {
        None => vec![record.home],
        Some(_) => record.shards.iter().map(|shard| shard.id).collect(),
    }
}

/// What keeps the table from being moved while it is in use.
async fn obstacle(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<Option<String>, OpError> {
    let record = cluster.record();
    let known = record.table(wanted.database, wanted.schema, wanted.table);
    if known.is_some_and(|known| known.kind == TableKind::Reference) {
        return Ok(Some("its rows are on every shard already".to_owned()));
    }
    for shard in sources(cluster, wanted) {
        let name = super::part::shard_name(cluster, shard);
        let link = cluster.admin_link(shard, wanted.database).await;
        let mut link = link.map_err(OpError::on(&name))?;
        if let Some(why) = look::obstacle(&mut link, &name, wanted).await? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Moves a table while it is in use. `statement`: what was asked, to be read again by whoever resumes it.
pub(super) async fn run(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    statement: &str,
    line: &mut dyn FnMut(&str),
    faults: &Faults,
) -> Result<(), OpError> {
    check::preflight(cluster, wanted).await?;
    let job = begin(cluster, wanted, statement, line, faults).await?;
    let ended = drive(job).await;
    if ended.is_ok() {
        let name = format!(
            "{}.{}",
            sql::quote_ident(wanted.schema),
            sql::quote_ident(wanted.table)
        );
        relocate::statistics(cluster, wanted, &name).await;
    }
    ended
}

async fn begin<'a>(
    cluster: &'a Cluster,
    wanted: &Wanted<'_>,
    statement: &str,
    line: &'a mut dyn FnMut(&str),
    faults: &'a Faults,
) -> Result<Job<'a>, OpError> {
    if let Some(why) = obstacle(cluster, wanted).await? {
        return Err(OpError::not_done(
            plan::RefusalCode::NotOnline,
            format!(
                "table {} cannot be moved while it is in use: {why}",
                wanted.title()
            ),
            None,
        ));
    }
    let membership = cluster.membership().ok_or(ChangeError::NoCluster)?;
    let id = crate::cancel::random::<8>()
        .map_err(|_| OpError::refused("XX000", "the system has no random numbers"))?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let table = (wanted.database, wanted.schema, wanted.table);
    let mut workflow = Workflow::new(format!("m{id}"), table, statement.to_owned(), now_ms());
    let known = cluster.record();
    workflow.staged = known
        .table(wanted.database, wanted.schema, wanted.table)
        .is_some();
    // Read as whoever resumes it would read it.
    if requested(statement)? != *wanted.goal {
        return Err(OpError::refused("XX000", "the statement cannot be recorded"));
    }
    refuse_second(cluster, wanted).await?;
    let lead = MovementLead::begin(std::sync::Arc::clone(membership), workflow)
        .await
        .map_err(|error| OpError::refused("57P01", format!("the move cannot be recorded: {error}")))?;
    let mut job = Job {
        cluster,
        lead,
        goal: wanted.goal.clone(),
        faults,
        line,
    };
    if is_second(&job).await? {
        let reason = "another move of the table began at the same time".to_owned();
        job.advance(&Event::GiveUp { reason })
            .await
            .map_err(|_| OpError::refused("55006", "the table is being moved"))?;
    }
    Ok(job)
}

/// Of two that began at once, and both see both, one gives way.
async fn is_second(job: &Job<'_>) -> Result<bool, OpError> {
    let Some(membership) = job.cluster.membership() else {
        return Ok(false);
    };
    let mine = job.workflow();
    let moves = movements::list(membership.store().as_ref())
        .await
        .map_err(ChangeError::from)?;
    Ok(moves.iter().any(|(other, _)| {
        !other.phase.is_over()
            && other.id < mine.id
            && (&other.database, &other.schema, &other.table) == (&mine.database, &mine.schema, &mine.table)
    }))
}

/// One move of a table at a time.
pub(super) async fn refuse_second(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<(), OpError> {
    refuse_move_of(cluster, (wanted.database, wanted.schema, wanted.table)).await
}

/// Refuses what cannot be done while this table (database, schema, name) is being moved.
pub(super) async fn refuse_move_of(
    cluster: &Cluster,
    (database, schema, table): (&str, &str, &str),
) -> Result<(), OpError> {
    match find(cluster, database, schema, table).await? {
        None => Ok(()),
        Some(_) => Err(OpError::refused_with(
            "55006",
            format!("table {schema}.{table} is being moved"),
            "See drover.reshardings; drover.cancel_move ends it.",
        )),
    }
}

/// The move of a table that is not over.
async fn find(
    cluster: &Cluster,
    database: &str,
    schema: &str,
    table: &str,
) -> Result<Option<Workflow>, OpError> {
    let Some(membership) = cluster.membership() else {
        return Ok(None);
    };
    let moves = movements::list(membership.store().as_ref())
        .await
        .map_err(ChangeError::from)?;
    let is_it = |workflow: &Workflow| {
        (&*workflow.database, &*workflow.schema, &*workflow.table) == (database, schema, table)
            && !workflow.phase.is_over()
    };
    Ok(moves.into_iter().map(|(workflow, _)| workflow).find(is_it))
}

/// Asks for the end of a table's move.
pub(crate) async fn cancel(
    cluster: &Cluster,
    database: &str,
    schema: &str,
    table: &str,
) -> Result<(), ErrorFields> {
    let gone = || {
        let text = format!("table {schema}.{table} is not being moved");
        OpError::refused("42704", text).into_fields()
    };
    let found = find(cluster, database, schema, table)
        .await
        .map_err(OpError::into_fields)?;
    let (Some(workflow), Some(membership)) = (found, cluster.membership()) else {
        return Err(gone());
    };
    match movements::cancel(membership.store().as_ref(), &workflow.id).await {
        Ok(()) => Ok(()),
        Err(MovementError::Gone) => Err(gone()),
        Err(error @ MovementError::TooLate(_)) => Err(ErrorFields::error("55000", error.to_string())),
        Err(error) => Err(ErrorFields::error("XX000", error.to_string())),
    }
}

/// All moves of this cluster, for people.
pub(crate) async fn all(cluster: &Cluster) -> Result<Vec<Workflow>, ErrorFields> {
    let Some(membership) = cluster.membership() else {
        return Ok(Vec::new());
    };
    let moves = movements::list(membership.store().as_ref()).await;
    let moves = moves.map_err(|error| ErrorFields::error("XX000", error.to_string()))?;
    Ok(moves.into_iter().map(|(workflow, _)| workflow).collect())
}

/// Takes over moves whose leader is gone, for as long as the proxy runs.
pub(crate) async fn resume(cluster: std::sync::Arc<Cluster>) {
    let Some(membership) = cluster.membership().map(std::sync::Arc::clone) else {
        return;
    };
    let mut watch = membership.store().watch(movements::PREFIX);
    loop {
        match watch.next().await {
            Ok(_) => {
                if let Err(error) = resume_once(&cluster, &Faults::default()).await {
                    tracing::warn!(%error, "a move could not be taken over");
                    tokio::time::sleep(RESUME_PAUSE).await;
                    watch = membership.store().watch(movements::PREFIX);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "moves cannot be looked at");
                tokio::time::sleep(RESUME_PAUSE).await;
            }
        }
    }
}

/// Takes over every move that nobody leads now, one after the other.
pub(super) async fn resume_once(cluster: &Cluster, faults: &Faults) -> Result<(), OpError> {
    let Some(membership) = cluster.membership() else {
        return Ok(());
    };
    let moves = movements::list(membership.store().as_ref())
        .await
        .map_err(ChangeError::from)?;
    for (workflow, led) in moves {
        if led || workflow.phase.is_over() {
            continue;
        }
        let taken = MovementLead::take(std::sync::Arc::clone(membership), &workflow.id).await;
        let lead = match taken {
            Ok(Some(lead)) => lead,
            Ok(None) => continue,
            Err(error) => return Err(OpError::Unfinished(error.to_string())),
        };
        tracing::warn!(movement = %workflow.id, table = %workflow.table, phase = workflow.phase.name(), "taking over a move");
        let goal = requested(&workflow.statement)?;
        let job = Job {
            cluster,
            lead,
            goal,
            faults,
            line: &mut |_| {},
        };
        match drive(job).await {
            Ok(()) => {}
            Err(error @ (OpError::Unfinished(_) | OpError::Died)) => return Err(error),
            Err(error) => tracing::warn!(movement = %workflow.id, %error, "a move was given up"),
        }
    }
    Ok(())
}

/// How a recorded statement wants the table placed.
fn requested(statement: &str) -> Result<Goal, OpError> {
    let unreadable = || OpError::refused("XX000", "the statement of a move cannot be read");
    let parsed = sql::parse(statement, &sql::ParseOptions::default()).map_err(|_| unreadable())?;
    let [raw] = parsed.as_slice() else {
        return Err(unreadable());
    };
    match plan::recorded(raw) {
        Some(Ok(DroverStatement::ShardTable { options, .. })) => Ok(Goal::Sharded(options)),
        Some(Ok(DroverStatement::ReferenceTable { .. })) => Ok(Goal::Reference),
        Some(Ok(DroverStatement::UnshardTable { .. })) => Ok(Goal::Home),
        Some(Ok(DroverStatement::PlaceTable { shard, .. })) => Ok(Goal::Placed(shard)),
        _ => Err(unreadable()),
    }
}

/// From wherever the move is to its end, or to where somebody else has to take it over.
async fn drive(job: Job<'_>) -> Result<(), OpError> {
    let figures = std::sync::Arc::clone(&job.cluster.figures);
    let running = Running::new(&figures);
    let ended = lead(job).await;
    drop(running);
    match &ended {
        Ok(()) => figures.moves_done.add_shared(1),
        // Somebody else goes on.
        Err(OpError::Unfinished(_) | OpError::Died) => {}
        Err(_) => figures.moves_failed.add_shared(1),
    }
    ended
}

/// A move that is counted as running, also when the client that waits for it goes away.
struct Running<'a>(&'a WorkerMetrics);

impl Running<'_> {
    fn new(figures: &WorkerMetrics) -> Running<'_> {
        figures.moves_running.up_shared();
        Running(figures)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.moves_running.down_shared();
    }
}

async fn lead(mut job: Job<'_>) -> Result<(), OpError> {
    let mut failures = 0;
    let mut failure = None;
    job.faults.reached(Step::Begun).await?;
    loop {
        let before = job.workflow().phase;
        let task = job.workflow().task();
        let ended = match task {
            Task::Prepare => prepare::run(&mut job).await,
            Task::Stream => stream::run(&mut job).await,
            Task::Settle => cutover::settle(&mut job).await,
            Task::Clean => clean::run(&mut job, false).await,
            Task::Abandon => clean::run(&mut job, true).await,
            Task::Nothing => return over(job.workflow(), failure),
        };
        let trouble = match ended {
            Ok(()) => {
                failures = if before == job.workflow().phase {
                    failures
                } else {
                    0
                };
                continue;
            }
            Err(trouble) => trouble,
        };
        failures += 1;
        if let Err(error) = face(&mut job, trouble, failures, &mut failure).await {
            return Err(match error {
                Trouble::Op(error) => error,
                _ => OpError::Unfinished("another proxy has taken the move over".to_owned()),
            });
        }
    }
}

/// What a failure means for the move. An error: this proxy can do nothing more about it.
async fn face(
    job: &mut Job<'_>,
    trouble: Trouble,
    failures: u32,
    failure: &mut Option<OpError>,
) -> Result<(), Trouble> {
    let can_end = matches!(job.workflow().phase, Phase::Preparing | Phase::Streaming);
    let error = match trouble {
        Trouble::Cancelled if can_end => {
            *failure = Some(OpError::refused("57014", "the move was cancelled"));
            let reason = "cancelled".to_owned();
            return job.advance(&Event::GiveUp { reason }).await;
        }
        Trouble::Again {
            reason,
            full_identity,
        } if can_end => {
            job.say(&format!("beginning again: {reason}"));
            *failure = Some(OpError::refused("55000", reason.clone()));
            return job
                .advance(&Event::Again {
                    reason,
                    full_identity,
                })
                .await;
        }
        Trouble::Op(error @ (OpError::Died | OpError::Unfinished(_))) => return Err(error.into()),
        Trouble::Op(error) => error,
        lost => return Err(lost),
    };
    let hope = hope(&error);
    if can_end && (hope == Hope::None || hope == Hope::Locks && failures > RETRIES_MAX) {
        let reason = error.to_string();
        *failure = Some(error);
        return job.advance(&Event::GiveUp { reason }).await;
    }
    if failures > RETRIES_MAX {
        return Err(OpError::Unfinished(error.to_string()).into());
    }
    tracing::warn!(movement = %job.workflow().id, %error, "a step of a move is tried again");
    tokio::time::sleep(RETRY_PAUSE * 2_u32.saturating_pow(failures.min(6))).await;
    Ok(())
}

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hope {
    /// No.
    None,
    /// When others let go of what they hold.
    Locks,
    /// When servers and proxies are back.
    Connections,
}

fn hope(error: &OpError) -> Hope {
    match error {
        OpError::Change(ChangeError::Busy { .. } | ChangeError::Wait(_)) => Hope::Locks,
        OpError::Change(_)
        | OpError::Shard {
            source: AdminError::Dial(_) | AdminError::Link(_),
            ..
        } => Hope::Connections,
        other => match other.sqlstate() {
            // Lock not available, object in use, deadlock, serialization.
            Some("55P03" | "55006" | "40P01" | "40001") => Hope::Locks,
            Some(code) if code.starts_with("57P") || code.starts_with("08") || code.starts_with("53") => {
                Hope::Connections
            }
            _ => Hope::None,
        },
    }
}

fn over(workflow: &Workflow, failure: Option<OpError>) -> Result<(), OpError> {
    match (workflow.phase, failure) {
        (Phase::Done, _) => Ok(()),
        (_, Some(failure)) => Err(failure),
        _ => Err(OpError::refused(
            "55000",
            format!(
                "the move was given up: {}",
                workflow.reason.as_deref().unwrap_or_default()
            ),
        )),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
