//! The pause: from the last change on the source to the new epoch.
//!
//! Everything up to the decision can be taken back by closing connections. The decision is that of any move
//! (`ops::decide`): one transaction over all shards, named in a pending record of the table.

use std::time::Instant;

use catalog::ShardId;
use movement::workflow::Event;
use topology::records::TableState;
use topology::{ChangeError, ChangeGuard, ChangeScope, ClusterRecord};

use super::look::{Look, look};
use super::stream::{Stream, changed};
use super::{Job, Trouble, prepare, swap, wanted};
use crate::admin_link::AdminError;
use crate::cluster::{Cluster, change_deadline};
use crate::ops::check::Division;
use crate::ops::decide::{self, Entry, Parts};
use crate::ops::faults::Step;
use crate::ops::join::try_join_all;
use crate::ops::part::{Part, shard_name, tag_count};
use crate::ops::{OpError, partitions, relocate, repair, views};

/// Cuts over. Afterwards the workflow is where the outcome puts it; an error says what is to be made of it.
pub(super) async fn run(job: &mut Job<'_>, streams: &mut [Stream]) -> Result<(), Trouble> {
    job.check_wanted()?;
    job.advance(&Event::Cutting).await?;
    job.faults.reached(Step::Cutting).await?;
    let began = Instant::now();
    let ended = pause(job, streams).await;
    let pause_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    match ended {
        Ok(()) => {
            job.faults.reached(Step::CutOver).await?;
            job.advance(&Event::Decided).await?;
            job.lead
                .save(|workflow| workflow.progress.pause_us = Some(pause_us))
                .await?;
            job.cluster.figures.move_pause_us.add_shared(pause_us);
            let waited = pause_us as f64 / 1e6;
            job.say(&format!("moved; statements waited for {waited:.3} s"));
            Ok(())
        }
        // It is asked what became of it.
        Err(Trouble::Op(OpError::Unfinished(what))) => {
            tracing::warn!(movement = %job.workflow().id, "a cutover has an uncertain end: {what}");
            Ok(())
        }
        Err(trouble @ (Trouble::Op(OpError::Died) | Trouble::Lost)) => Err(trouble),
        Err(trouble) => {
            job.advance(&Event::NotCut).await?;
            Err(trouble)
        }
    }
}

/// Everything that others wait for.
async fn pause(job: &mut Job<'_>, streams: &mut [Stream]) -> Result<(), Trouble> {
    let mut guard = job
        .cluster
        .change_alone(ChangeScope::Everything)
        .await
        .map_err(OpError::from)?;
    let ended = with_barrier(job, streams, &mut guard).await;
    if matches!(ended, Err(Trouble::Op(OpError::Died))) {
        return ended;
    }
    if let Err(error) = guard.finish(change_deadline()).await {
        // What was published counts; a proxy that has not loaded it serves nothing.
        tracing::warn!(%error, "the change was not acknowledged by every proxy");
    }
    ended
}

async fn with_barrier(
    job: &mut Job<'_>,
    streams: &mut [Stream],
    guard: &mut ChangeGuard,
) -> Result<(), Trouble> {
    // This proxy still leads, now that nobody else can cut over.
    job.note(|_| {}).await?;
    if job.workflow().staged {
        return swap::run(job, streams, guard).await;
    }
    let Some(stream) = streams.first_mut() else {
        return Err(OpError::refused("XX000", "the move has no stream").into());
    };
    let record = guard.cluster().clone();
    let mut home = Part::begin(job.cluster, record.home, &job.workflow().database).await?;
    let wanted = wanted(job.lead.workflow(), &job.goal);
    let looked = async {
        relocate::lock(&mut home, &wanted).await?;
        look(&mut home, &record, &wanted).await
    }
    .await;
    let look = match looked {
        Ok(look) => look,
        Err(error) => {
            home.roll_back().await;
            return Err(error.into());
        }
    };
    let mut parts = Parts {
        home,
        others: Vec::new(),
    };
    match finish_targets(job, stream, &mut parts, &look, &record).await {
        Ok(()) => {
            let entry = Entry::Table(&look.movable.table);
            decide::commit(job.cluster, guard, parts, entry, job.faults).await?;
            Ok(())
        }
        Err(Trouble::Op(OpError::Died)) => Err(OpError::Died.into()),
        Err(trouble) => {
            parts.roll_back().await;
            Err(trouble)
        }
    }
}

/// The last changes, and everything that only now can be made. Leaves a transaction open on every shard.
async fn finish_targets(
    job: &mut Job<'_>,
    stream: &mut Stream,
    parts: &mut Parts,
    look: &Look,
    record: &ClusterRecord,
) -> Result<(), Trouble> {
    if Some(&look.digest) != job.workflow().digest.as_ref() {
        return Err(changed());
    }
    let views = views::dependent(&mut parts.home, &look.movable).await?;
    // Nobody writes the table any more: whoever could has committed, and is before the marker.
    let marker = stream.mark(job).await?;
    stream.reach(job, &marker).await?;
    job.faults.reached(Step::Drained).await?;
    let database = job.workflow().database.clone();
    let lanes: Vec<_> = stream
        .lanes
        .iter()
        .map(|lane| (lane.shard, lane.row_sql()))
        .collect();
    let begun = lanes
        .into_iter()
        .map(|(shard, row)| begin_target(job.cluster, shard, &database, row));
    parts.others = try_join_all(begun).await?;
    let late: Vec<String> = look
        .ddl
        .after_load
        .iter()
        .skip(look.ddl.indexes)
        .chain(&views)
        .cloned()
        .collect();
    try_join_all(
        parts
            .others
            .iter_mut()
            .map(|part| relocate::run_each(part, &late)),
    )
    .await?;
    if let Some(division) = &look.movable.division {
        leave_home(stream, parts, look, division).await?;
    }
    for part in parts.all() {
        if let Some(rules) = look.movable.rules(part.shard, record) {
            partitions::guard(part, &look.movable.sql_name, &rules).await?;
        }
    }
    Ok(())
}

/// Deletes on the home shard what has moved.
async fn leave_home(
    stream: &Stream,
    parts: &mut Parts,
    look: &Look,
    division: &Division,
) -> Result<(), Trouble> {
    let moved: i64 = stream.lanes.iter().map(|lane| lane.rows()).sum();
    let moved = u64::try_from(moved).map_err(|_| {
        parts
            .home
            .failed(AdminError::State("rows were counted wrongly".to_owned()))
    })?;
    let delete = format!(
        "DELETE FROM ONLY {} WHERE NOT {}",
        look.movable.sql_name,
        division.predicate(parts.home.shard)
    );
    let deleted = parts.home.tag(&delete).await?;
    if tag_count(&deleted) != Some(moved) {
        let what = format!("{moved} rows have moved, and the answer to their removal was {deleted}");
        return Err(parts.home.failed(AdminError::State(what)).into());
    }
    Ok(())
}

/// A transaction on a target, which has exactly what this leader knows of.
async fn begin_target(
    cluster: &Cluster,
    shard: ShardId,
    database: &str,
    row: String,
) -> Result<Part, OpError> {
    let mut part = Part::begin(cluster, shard, database).await?;
    let sql = format!("SELECT 1 FROM drover_internal.movements WHERE {row} FOR UPDATE");
    let error = match part.rows(&sql).await {
        Ok(rows) if rows.is_empty() => ChangeError::Lost.into(),
        Ok(_) => return Ok(part),
        Err(error) => error,
    };
    part.roll_back().await;
    Err(error)
}

/// What became of a cutover.
pub(super) async fn settle(job: &mut Job<'_>) -> Result<(), Trouble> {
    let workflow = job.workflow();
    let database = workflow.database.clone();
    if workflow.staged {
        return settle_staged(job).await;
    }
    let guard = job
        .cluster
        .change(ChangeScope::Nothing)
        .await
        .map_err(OpError::from)?;
    let state = guard
        .cluster()
        .table(&database, &workflow.schema, &workflow.table)
        .map(|table| table.state.clone());
    guard.finish(change_deadline()).await.map_err(OpError::from)?;
    match state {
        Some(TableState::Active) => job.advance(&Event::Decided).await,
        None => job.advance(&Event::NotCut).await,
        Some(TableState::Pending { .. }) => {
            repair::finish(job.cluster, &database).await?;
            Ok(())
        }
    }
}

/// The same of a staged move. The record's journal says whether a decision is under way; when it is not, the row that the
/// decided transaction has left on the home shard tells what it was.
async fn settle_staged(job: &mut Job<'_>) -> Result<(), Trouble> {
    let database = job.workflow().database.clone();
    let cluster = job.cluster;
    let guard = cluster
        .change(ChangeScope::Nothing)
        .await
        .map_err(OpError::from)?;
    let journal = guard.cluster().journal.as_ref();
    let undecided = journal.is_some_and(|journal| journal.database == database);
    if undecided {
        guard.finish(change_deadline()).await.map_err(OpError::from)?;
        return Ok(repair::finish_schema_change(cluster, &database).await?);
    }
    let home = cluster.home();
    let on = OpError::on(&shard_name(cluster, home));
    let mut link = prepare::link(cluster, home, &database).await?;
    let sql = format!(
        "SELECT 1 FROM drover_internal.movements WHERE id = {} AND attempt = {}",
        sql::quote_literal(&job.cut_row()),
        job.workflow().attempt
    );
    let cut = link.value(&sql).await.map_err(on)?;
    guard.finish(change_deadline()).await.map_err(OpError::from)?;
    let event = match cut {
        Some(_) => Event::Decided,
        None => Event::NotCut,
    };
    job.advance(&event).await
}
