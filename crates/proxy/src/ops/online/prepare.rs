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

use super::look::{Look, look};
use super::{Job, Trouble, wanted};
use crate::admin_link::{AdminError, AdminLink};
use crate::ops::OpError;
use crate::ops::copy::copy;
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
    let (home, tool) = (job.cluster.home(), tool_name(&job.workflow().id));
    let database = job.workflow().database.clone();
    let on = OpError::on(&shard_name(job.cluster, home));
    let mut admin = link(job.cluster, home, &database).await?;
    let publish = format!(
        "CREATE PUBLICATION {tool} FOR TABLE ONLY {} WITH (publish = 'insert, update, delete, truncate')",
        look.movable.sql_name
    );
    admin.run(&publish).await.map_err(&on)?;
    job.faults.reached(Step::Published).await?;
    let mut log = job.cluster.replication_link(home, &database).await.map_err(&on)?;
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
    copy_all(job, &look, position, snapshot).await?;
    drop(log);
    job.faults.reached(Step::Copied).await?;
    let digest = look.digest;
    job.advance(&Event::Prepared { digest }).await
}

/// Earlier attempts can write nothing on targets any more, and what they made there is gone.
async fn fence(job: &Job<'_>) -> Result<(), OpError> {
    let workflow = job.workflow();
    let table = format!(
        "{}.{}",
        sql::quote_ident(&workflow.schema),
        sql::quote_ident(&workflow.table)
    );
    let (id, attempt) = (quote_literal(&workflow.id), workflow.attempt);
    let tasks = targets(job).into_iter().map(async |shard| {
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

/// All shards but the source.
pub(super) fn targets(job: &Job<'_>) -> Vec<ShardId> {
    let record = job.cluster.record();
    let shards = record.shards.iter().map(|shard| shard.id);
    shards.filter(|shard| *shard != record.home).collect()
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
    let home = job.cluster.home();
    let mut admin = link(job.cluster, home, &job.workflow().database).await?;
    let sql = format!(
        "SET lock_timeout = {DDL_LOCK_TIMEOUT_MS}; ALTER TABLE ONLY {} REPLICA IDENTITY FULL",
        look.movable.sql_name
    );
    let done = admin.run(&sql).await;
    done.map_err(OpError::on(&shard_name(job.cluster, home)))?;
    Ok(())
}

/// All targets at once; meanwhile progress is noted, and whether the move is to end.
async fn copy_all(job: &mut Job<'_>, look: &Look, position: Lsn, snapshot: &str) -> Result<(), Trouble> {
    let leaving = estimate(job, look).await?;
    job.note(|progress| progress.rows = leaving).await?;
    let copied = Cell::new(0);
    let cluster = job.cluster;
    let (id, attempt) = (job.workflow().id.clone(), job.workflow().attempt);
    let database = job.workflow().database.clone();
    let title = format!("{}.{}", job.workflow().schema, job.workflow().table);
    let targets = targets(job);
    let lead = &mut job.lead;
    let progress = RefCell::new(Progress::new(title, leaving, &mut *job.line));
    let copies = try_join_all(targets.into_iter().map(|shard| {
        let task = Copy {
            cluster,
            look,
            database: &database,
            id: &id,
            attempt,
            position,
            snapshot,
        };
        let (progress, copied) = (&progress, &copied);
        async move {
            task.run(shard, &mut |rows| {
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
    job.note(|progress| {
        progress.copied = copied;
        progress.rows = copied;
    })
    .await
}

/// Rows that will be copied, about.
async fn estimate(job: &Job<'_>, look: &Look) -> Result<u64, OpError> {
    let home = job.cluster.home();
    let on = OpError::on(&shard_name(job.cluster, home));
    let mut link = job
        .cluster
        .admin_link(home, &job.workflow().database)
        .await
        .map_err(&on)?;
    let sql = format!(
        "SELECT GREATEST(reltuples, 0)::bigint FROM pg_catalog.pg_class WHERE oid = {}",
        look.movable.table.home_oid
    );
    let rows = link.value(&sql).await.map_err(&on)?;
    let rows: u64 = rows.and_then(|rows| rows.parse().ok()).unwrap_or(0);
    let shards = job.cluster.record().shards.len().max(1) as u64;
    Ok(match look.movable.division {
        Some(_) => rows * (shards - 1) / shards,
        None => rows * (shards - 1),
    })
}

/// The copy for one target.
struct Copy<'a> {
    cluster: &'a crate::cluster::Cluster,
    look: &'a Look,
    database: &'a str,
    id: &'a str,
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
            quote_literal(self.id),
            self.attempt
        );
        if part.rows(&lock).await?.is_empty() {
            return Err(OpError::Unfinished("another attempt has begun".to_owned()));
        }
        let (movable, ddl) = (&self.look.movable, &self.look.ddl);
        relocate::run_each(part, &ddl.create).await?;
        let own = movable
            .division
            .as_ref()
            .map(|division| division.predicate(part.shard));
        let select = relocate::select_sql(movable, own.as_deref());
        let home = self.cluster.home();
        let mut source = Part::begin_at(self.cluster, home, self.database, self.snapshot).await?;
        let into = relocate::into_sql(movable);
        let rows = copy(&mut source, &mut [part], &select, &into, on_rows).await?;
        source.roll_back().await;
        let indexes = ddl.after_load.get(..ddl.indexes).unwrap_or_default();
        relocate::run_each(part, indexes).await?;
        // A commit may stand right at the slot's position, and is not in its snapshot.
        let position = Lsn(self.position.0.saturating_sub(1));
        let note = format!(
            "UPDATE drover_internal.movements SET position = '{position}', rows = {rows} WHERE id = {} AND attempt = {}",
            quote_literal(self.id),
            self.attempt
        );
        part.run(&note).await
    }
}
