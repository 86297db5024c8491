//! Copies on every target.
//!
//! A target makes its table, takes its rows and notes their position in one transaction, so that it has all or nothing; a
//! row of `drover_internal.movements` with a position says that the table there is this move's. An attempt begins by raising
//! the attempt in that row: what an earlier leader still sends finds another number and fails.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use catalog::ShardId;
use movement::Lsn;
use movement::workflow::Event;
use sql::quote_literal;

use super::legs::Leg;
use super::look::{Look, look};
use super::{Job, Trouble, wanted};
use crate::admin_link::{AdminError, AdminLink};
use crate::ops::OpError;
use crate::ops::copy::copy;
use crate::ops::effects::text_sql;
use crate::ops::faults::Step;
use crate::ops::join::try_join_all;
use crate::ops::part::{Part, shard_name};
use crate::ops::progress::Progress;
use crate::ops::relocate;

/// How long statements that change the table a little wait for its lock, in milliseconds.
pub(super) const DDL_LOCK_TIMEOUT_MS: u32 = 2_000;

/// How long the slot waits for transactions that have written something, in milliseconds.
const SLOT_LOCK_TIMEOUT_MS: u32 = 60_000;

/// How long an earlier leader's transaction on a target is waited for, in milliseconds.
const FENCE_LOCK_TIMEOUT_MS: u32 = 10_000;

/// How often progress is noted.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Settings of a connection that applies changes or changes a table for the move: triggers are silent, values mean the
/// same everywhere, time-outs of the role do not count.
pub(super) const SETTINGS: &str = "SET session_replication_role = replica; SET search_path = pg_catalog, pg_temp; \
    SET standard_conforming_strings = on; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; \
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET timezone = 'UTC'; SET row_security = off; \
    SET lc_monetary = 'C'; SET xmloption = content; SET statement_timeout = 0; SET lock_timeout = 0; \
    SET idle_in_transaction_session_timeout = 0; SET client_min_messages = error";

/// The name of publication and slot.
pub(super) fn tool_name(id: &str) -> String {
    format!("drover_move_{id}")
}

/// A connection with [`SETTINGS`].
pub(super) async fn link(
    cluster: &crate::cluster::Cluster,
    shard: ShardId,
    database: &str,
) -> Result<AdminLink, OpError> {
    let on = OpError::on(&shard_name(cluster, shard));
    let mut link = cluster.admin_link(shard, database).await.map_err(&on)?;
    link.run(SETTINGS).await.map_err(&on)?;
    Ok(link)
}

/// From nothing, or what an earlier attempt left, to copies everywhere.
pub(super) async fn run(job: &mut Job<'_>) -> Result<(), Trouble> {
    job.check_wanted()?;
    fence(job).await?;
    job.faults.reached(Step::Fenced).await?;
    super::clean::remove_tools(job).await?;
    identify(job).await?;
    let look = look_now(job).await?;
    let legs = job.legs();
    let leaving = estimate(job, &look, &legs).await?;
    job.note(|progress| progress.rows = leaving).await?;
    for leg in &legs {
        run_leg(job, &look, leg).await?;
    }
    let copied = job.workflow().progress.copied;
    job.note(|progress| progress.rows = copied).await?;
    job.faults.reached(Step::Copied).await?;
    let digest = look.digest;
    job.advance(&Event::Prepared { digest }).await
}

/// The copies of the rows of one source.
async fn run_leg(job: &mut Job<'_>, look: &Look, leg: &Leg) -> Result<(), Trouble> {
    let (source, tool) = (leg.source, tool_name(&job.workflow().id));
    let database = job.workflow().database.clone();
    let on = OpError::on(&shard_name(job.cluster, source));
    let mut admin = link(job.cluster, source, &database).await?;
    let publish = format!(
        "CREATE PUBLICATION {tool} FOR TABLE ONLY {} WITH (publish = 'insert, update, delete, truncate')",
        look.movable.sql_name
    );
    admin.run(&publish).await.map_err(&on)?;
    job.faults.reached(Step::Published).await?;
    let mut log = job
        .cluster
        .replication_link(source, &database)
        .await
        .map_err(&on)?;
    let wait = format!("SET lock_timeout = {SLOT_LOCK_TIMEOUT_MS}");
    log.run(&wait).await.map_err(&on)?;
    let make = format!("CREATE_REPLICATION_SLOT {tool} LOGICAL pgoutput (SNAPSHOT 'export')");
    let rows = log.rows(&make).await.map_err(&on)?;
    let Some([_, Some(position), Some(snapshot), ..]) = rows.first().map(Vec::as_slice) else {
        return Err(on(AdminError::State("a slot gave no snapshot".to_owned())).into());
    };
    let position: Lsn = position
        .parse()
        .map_err(|error: movement::lsn::LsnError| on(AdminError::State(error.to_string())))?;
    job.faults.reached(Step::SlotMade).await?;
    copy_all(job, look, leg, (position, snapshot)).await
}

/// Earlier attempts can write nothing on targets any more, and what they made there is gone.
async fn fence(job: &Job<'_>) -> Result<(), OpError> {
    let workflow = job.workflow();
    let attempt = workflow.attempt;
    let legs = job.legs();
    let tasks = pairs(&legs).map(async |(leg, shard)| {
        let (id, table) = (quote_literal(&leg.row), &leg.into);
        let on = OpError::on(&shard_name(job.cluster, shard));
        let mut link = link(job.cluster, shard, &workflow.database).await?;
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {FENCE_LOCK_TIMEOUT_MS}; \
             SELECT position FROM drover_internal.movements WHERE id = {id} FOR UPDATE"
        );
        let made = link.value(&begin).await.map_err(&on)?.is_some();
        if made {
            link.run(&format!("DROP TABLE IF EXISTS {table}"))
                .await
                .map_err(&on)?;
        }
        let note = format!(
            "INSERT INTO drover_internal.movements AS m (id, attempt) VALUES ({id}, {attempt}) ON CONFLICT (id) DO UPDATE \
             SET attempt = excluded.attempt, position = NULL, rows = NULL WHERE m.attempt <= excluded.attempt"
        );
        link.run(&note).await.map_err(&on)?;
        link.run("COMMIT").await.map_err(&on)
    });
    try_join_all(tasks).await.map(drop)
}

/// Each leg with each of its targets.
pub(super) fn pairs(legs: &[Leg]) -> impl Iterator<Item = (&Leg, ShardId)> {
    legs.iter()
        .flat_map(|leg| leg.targets.iter().map(move |shard| (leg, *shard)))
}

/// The table as it is now.
async fn look_now(job: &Job<'_>) -> Result<Look, OpError> {
    let record = job.cluster.record();
    let workflow = job.workflow();
    let mut home = Part::begin(job.cluster, record.home, &workflow.database).await?;
    let wanted = wanted(workflow, &job.goal);
    let looked = look(&mut home, &record, &wanted).await;
    home.roll_back().await;
    looked
}

/// Sees that changes of the table say which rows they are about.
async fn identify(job: &mut Job<'_>) -> Result<(), Trouble> {
    let look = look_now(job).await?;
    let full = look.identity == 'f';
    if full || (look.identifies && !job.workflow().full_identity) {
        return Ok(());
    }
    if look.identity == 'i' {
        // Which index it was would be forgotten.
        let why = "its replica identity is an index, and rows go from shard to shard while values stored outside of \
                   them are not in the log";
        return Err(OpError::not_done(plan::RefusalCode::NotOnline, why, None).into());
    }
    let before = look.identity;
    job.lead
        .save(|workflow| workflow.identity_before = workflow.identity_before.or(Some(before)))
        .await?;
    let sql = format!(
        "SET lock_timeout = {DDL_LOCK_TIMEOUT_MS}; ALTER TABLE ONLY {} REPLICA IDENTITY FULL",
        look.movable.sql_name
    );
    for leg in job.legs() {
        let mut admin = link(job.cluster, leg.source, &job.workflow().database).await?;
        let done = admin.run(&sql).await;
        done.map_err(OpError::on(&shard_name(job.cluster, leg.source)))?;
    }
    Ok(())
}

/// All targets at once; meanwhile progress is noted, and whether the move is to end.
async fn copy_all(
    job: &mut Job<'_>,
    look: &Look,
    leg: &Leg,
    (position, snapshot): (Lsn, &str),
) -> Result<(), Trouble> {
    let leaving = job.workflow().progress.rows;
    let before = job.workflow().progress.copied;
    let copied = Cell::new(before);
    let cluster = job.cluster;
    let (staged, attempt) = (job.workflow().staged, job.workflow().attempt);
    let database = job.workflow().database.clone();
    let title = format!("{}.{}", job.workflow().schema, job.workflow().table);
    let lead = &mut job.lead;
    let progress = RefCell::new(Progress::new(title, leaving, &mut *job.line));
    let copies = try_join_all(leg.targets.iter().map(|shard| {
        let task = Copy {
            cluster,
            look,
            leg,
            staged,
            database: &database,
            attempt,
            position,
            snapshot,
        };
        let (progress, copied) = (&progress, &copied);
        async move {
            task.run(*shard, &mut |rows| {
                copied.set(copied.get() + rows);
                progress.borrow_mut().add(rows);
            })
            .await
        }
    }));
    let noting = async {
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            let now = super::now_ms();
            lead.save(|workflow| {
                workflow.progress.copied = copied.get();
                workflow.progress.noted_ms = now;
            })
            .await?;
            if lead.workflow().cancelled {
                return Err::<(), Trouble>(Trouble::Cancelled);
            }
        }
    };
    tokio::select! {
        done = copies => done.map(drop)?,
        stopped = noting => stopped?,
    }
    let copied = copied.get();
    job.cluster
        .figures
        .move_rows
        .add_shared(copied.saturating_sub(before));
    job.note(|progress| progress.copied = copied).await
}

/// Rows that will be copied, about.
async fn estimate(job: &Job<'_>, look: &Look, legs: &[Leg]) -> Result<u64, OpError> {
    let sql = format!(
        "SELECT GREATEST(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = {}::pg_catalog.regclass",
        text_sql(&look.movable.sql_name)
    );
    let shards = job.cluster.record().shards.len().max(1) as u64;
    let mut leaving = 0;
    for leg in legs {
        let on = OpError::on(&shard_name(job.cluster, leg.source));
        let mut link = link(job.cluster, leg.source, &job.workflow().database).await?;
        let rows = link.value(&sql).await.map_err(&on)?;
        let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(0);
        leaving += match look.movable.division {
            Some(_) => rows * (shards - 1) / shards,
            None => rows * leg.targets.len() as u64,
        };
    }
    Ok(leaving)
}

/// The copy for one target.
struct Copy<'a> {
    cluster: &'a crate::cluster::Cluster,
    look: &'a Look,
    leg: &'a Leg,
    /// Rows wait beside the table that is there.
    staged: bool,
    database: &'a str,
    attempt: u32,
    position: Lsn,
    snapshot: &'a str,
}

impl Copy<'_> {
    async fn run(&self, shard: ShardId, on_rows: &mut dyn FnMut(u64)) -> Result<(), OpError> {
        let mut part = Part::begin(self.cluster, shard, self.database).await?;
        let done = self.fill(&mut part, on_rows).await;
        match done {
            Ok(()) => part.run("COMMIT").await,
            Err(error) => {
                part.roll_back().await;
                Err(error)
            }
        }
    }

    async fn fill(&self, part: &mut Part, on_rows: &mut dyn FnMut(u64)) -> Result<(), OpError> {
        // Held to the end: whoever begins another attempt waits for it.
        let lock = format!(
            "SELECT 1 FROM drover_internal.movements WHERE id = {} AND attempt = {} AND position IS NULL FOR UPDATE",
            quote_literal(&self.leg.row),
            self.attempt
        );
        if part.rows(&lock).await?.is_empty() {
            return Err(OpError::Unfinished("another attempt has begun".to_owned()));
        }
        let (movable, ddl) = (&self.look.movable, &self.look.ddl);
        match self.staged {
            true => {
                let make = format!(
                    "CREATE TABLE {} AS SELECT {} FROM ONLY {} WITH NO DATA",
                    self.leg.into, movable.columns, movable.sql_name
                );
                part.run(&make).await?;
                part.run(&self.readable()).await?;
            }
            false => relocate::run_each(part, &ddl.create).await?,
        }
        let own = movable
            .division
            .as_ref()
            .map(|division| division.predicate(part.shard));
        let select = relocate::select_sql(movable, own.as_deref());
        let from = self.leg.source;
        let mut source = Part::begin_at(self.cluster, from, self.database, self.snapshot).await?;
        let into = format!("COPY {} ({}) FROM STDIN", self.leg.into, movable.columns);
        let rows = copy(&mut source, &mut [part], &select, &into, on_rows).await?;
        source.roll_back().await;
        match self.staged {
            true => relocate::run_each(part, &self.staging_key()).await?,
            false => {
                let indexes = ddl.after_load.get(..ddl.indexes).unwrap_or_default();
                relocate::run_each(part, indexes).await?;
            }
        }
        // A commit may stand right at the slot's position, and is not in its snapshot.
        let position = Lsn(self.position.0.saturating_sub(1));
        let note = format!(
            "UPDATE drover_internal.movements SET position = '{position}', rows = {rows} WHERE id = {} AND attempt = {}",
            quote_literal(&self.leg.row),
            self.attempt
        );
        part.run(&note).await
    }

    /// The statement by which the table's owner may read its staging table: who dumps what is theirs reads every table.
    fn readable(&self) -> String {
        let grant = format!("GRANT SELECT ON {} TO %I", self.leg.into);
        format!(
            "DO $drover$ BEGIN EXECUTE (SELECT pg_catalog.format({}, pg_catalog.pg_get_userbyid(relowner)) \
             FROM pg_catalog.pg_class WHERE oid = {}::pg_catalog.regclass); END $drover$",
            quote_literal(&grant),
            text_sql(&self.look.movable.sql_name)
        )
    }

    /// The statement, if any, by which rows of a staging table are found again.
    fn staging_key(&self) -> Vec<String> {
        let table = &self.look.table;
        let columns: Vec<&str> = table
            .unique
            .iter()
            .map(|at| table.columns[*at].as_str())
            .collect();
        let make = |columns: &str| format!("ALTER TABLE {} ADD PRIMARY KEY ({columns})", self.leg.into);
        (!columns.is_empty())
            .then(|| make(&columns.join(", ")))
            .into_iter()
            .collect()
    }
}
