//! What a move leaves behind is removed; each step may be repeated.

use movement::workflow::Event;
use sql::quote_literal;

use super::prepare::{DDL_LOCK_TIMEOUT_MS, link, pairs, tool_name};
use super::{Job, Trouble};
use crate::ops::OpError;
use crate::ops::faults::Step;
use crate::ops::join::try_join_all;
use crate::ops::part::shard_name;

/// How long rows and tables of the move are waited for, in milliseconds.
const LOCK_TIMEOUT_MS: u32 = 10_000;

/// After a move, or when it is given up: then the copies go as well.
pub(super) async fn run(job: &mut Job<'_>, give_up: bool) -> Result<(), Trouble> {
    if give_up {
        // First of all: nothing of an earlier leader may come after it.
        remove_copies(job).await?;
    }
    remove_tools(job).await?;
    job.faults.reached(Step::HalfCleaned).await?;
    restore_identity(job, give_up).await?;
    if !give_up {
        forget(job).await?;
    }
    job.faults.reached(Step::Cleaned).await?;
    job.advance(&Event::Cleaned).await?;
    if let Some(membership) = job.cluster.membership() {
        // Old ones are forgotten the next time.
        let _ = topology::movements::forget_old(membership.store().as_ref()).await;
    }
    Ok(())
}

/// Publication and slot.
pub(super) async fn remove_tools(job: &Job<'_>) -> Result<(), OpError> {
    let tool = tool_name(&job.workflow().id);
    // Somebody may still read the slot, and has not noticed that it is over.
    let sql = format!(
        "SELECT pg_catalog.pg_terminate_backend(active_pid, 5000) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = '{tool}' AND active_pid IS NOT NULL; \
         SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = '{tool}'; DROP PUBLICATION IF EXISTS {tool}"
    );
    try_join_all(job.legs().into_iter().map(async |leg| {
        let on = OpError::on(&shard_name(job.cluster, leg.source));
        let mut link = link(job.cluster, leg.source, &job.workflow().database).await?;
        link.run(&sql).await.map_err(on)
    }))
    .await
    .map(drop)
}

/// The table as it was identified before. The whole row in the log is no mistake, so that a table that is in use keeps it
/// until the next attempt to clean up.
async fn restore_identity(job: &Job<'_>, give_up: bool) -> Result<(), OpError> {
    let workflow = job.workflow();
    let identity = match workflow.identity_before {
        None => return Ok(()),
        Some('n') => "NOTHING",
        Some(_) => "DEFAULT",
    };
    let table = job.table_sql();
    let sources: Vec<_> = job.legs().iter().map(|leg| leg.source).collect();
    let record = job.cluster.record();
    let shards = record.shards.iter().map(|shard| shard.id);
    let shards = shards.filter(|shard| !give_up || *shard == record.home || sources.contains(shard));
    try_join_all(shards.map(async |shard| {
        let on = OpError::on(&shard_name(job.cluster, shard));
        let mut link = link(job.cluster, shard, &workflow.database).await?;
        let sql = format!(
            "SET lock_timeout = {DDL_LOCK_TIMEOUT_MS}; ALTER TABLE IF EXISTS ONLY {table} REPLICA IDENTITY {identity}"
        );
        link.run(&sql).await.map_err(on)
    }))
    .await
    .map(drop)
}

/// Tables on the targets, and the rows that say they are this move's.
async fn remove_copies(job: &Job<'_>) -> Result<(), OpError> {
    let workflow = job.workflow();
    let legs = job.legs();
    try_join_all(pairs(&legs).map(async |(leg, shard)| {
        let (id, table) = (quote_literal(&leg.row), &leg.into);
        let on = OpError::on(&shard_name(job.cluster, shard));
        let mut link = link(job.cluster, shard, &workflow.database).await?;
        let look = format!(
            "BEGIN; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; \
             SELECT position FROM drover_internal.movements WHERE id = {id} FOR UPDATE"
        );
        let made = link.value(&look).await.map_err(&on)?.is_some();
        if made {
            link.run(&format!("DROP TABLE IF EXISTS {table}"))
                .await
                .map_err(&on)?;
        }
        let forget = format!("DELETE FROM drover_internal.movements WHERE id = {id}; COMMIT");
        link.run(&forget).await.map_err(&on)
    }))
    .await
    .map(drop)
}

/// The rows on the shards after a move.
async fn forget(job: &Job<'_>) -> Result<(), OpError> {
    let id = quote_literal(&job.workflow().id);
    let record = job.cluster.record();
    let shards = record.shards.iter().map(|shard| shard.id);
    try_join_all(shards.map(async |shard| {
        let on = OpError::on(&shard_name(job.cluster, shard));
        let mut link = link(job.cluster, shard, &job.workflow().database).await?;
        let sql = format!(
            "DELETE FROM drover_internal.movements WHERE id = {id} OR pg_catalog.starts_with(id, {id} || '_')"
        );
        link.run(&sql).await.map_err(on)
    }))
    .await
    .map(drop)
}
