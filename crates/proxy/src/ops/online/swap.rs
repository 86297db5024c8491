//! The cutover of a staged move: what has waited beside the tables goes into them, and what leaves is deleted.
//!
//! All of it is one transaction over all shards, with the table locked on each of them. The decision on the home shard is
//! the moment from which the record says otherwise ([`crate::ops::rearrange::commit`]); a row in the home shard's
//! `drover_internal.movements`, written by the same transaction, tells a later leader that it was.

use catalog::ShardId;
use topology::{ChangeError, ChangeGuard, ClusterRecord};

use super::look::{Look, look};
use super::stream::{Stream, changed};
use super::{Job, Trouble, wanted};
use crate::admin_link::AdminError;
use crate::ops::check::{self, Movable};
use crate::ops::decide::Parts;
use crate::ops::effects::NewKind;
use crate::ops::faults::Step;
use crate::ops::join::{join_all, try_join_all};
use crate::ops::part::{Part, tag_count};
use crate::ops::{LOCK_TIMEOUT, OpError, partitions, rearrange, relocate};

/// What waits on one shard for rows of another one.
struct Waiting {
    source: ShardId,
    target: ShardId,
    /// `WHERE` of its row in `drover_internal.movements`.
    row: String,
    /// The staging table.
    table: String,
    rows: u64,
}

/// Cuts over, with everybody paused.
pub(super) async fn run(
    job: &mut Job<'_>,
    streams: &mut [Stream],
    guard: &mut ChangeGuard,
) -> Result<(), Trouble> {
    let record = guard.cluster().clone();
    let mut parts = Parts {
        home: Part::begin(job.cluster, record.home, &job.workflow().database).await?,
        others: Vec::new(),
    };
    match swap(job, streams, &mut parts, &record).await {
        Ok(movable) => {
            rearrange::commit(job.cluster, guard, parts, &movable, job.faults).await?;
            Ok(())
        }
        Err(Trouble::Op(OpError::Died)) => Err(OpError::Died.into()),
        Err(trouble) => {
            parts.roll_back().await;
            Err(trouble)
        }
    }
}

/// Everything but the commit.
async fn swap(
    job: &mut Job<'_>,
    streams: &mut [Stream],
    parts: &mut Parts,
    record: &ClusterRecord,
) -> Result<Movable, Trouble> {
    let database = job.workflow().database.clone();
    let wanted = wanted(job.lead.workflow(), &job.goal);
    relocate::lock(&mut parts.home, &wanted).await?;
    let Look { movable, digest, .. } = look(&mut parts.home, record, &wanted).await?;
    if Some(&digest) != job.workflow().digest.as_ref() {
        return Err(changed());
    }
    let views = rearrange::views_to_drop(&mut parts.home, &movable).await?;
    let others = record.shards.iter().map(|shard| shard.id);
    let others = others.filter(|shard| *shard != record.home);
    let begun = join_all(others.map(|shard| Part::begin(job.cluster, shard, &database))).await;
    parts.others = begun.into_iter().collect::<Result<_, _>>()?;
    try_join_all(parts.others.iter_mut().map(|part| relocate::lock(part, &wanted))).await?;
    // Nobody writes the table any more: whoever could has committed, and is before the markers.
    for stream in streams.iter_mut() {
        let marker = stream.mark(job).await?;
        stream.reach(job, &marker).await?;
    }
    job.faults.reached(Step::Drained).await?;
    let mut waiting = Vec::new();
    for stream in streams.iter() {
        for lane in &stream.lanes {
            let rows = u64::try_from(lane.rows());
            waiting.push(Waiting {
                source: stream.source,
                target: lane.shard,
                row: lane.row_sql(),
                table: stream.table().name.clone(),
                rows: rows.map_err(|_| OpError::refused("XX000", "rows were counted wrongly"))?,
            });
        }
    }
    let (movable_ref, waiting_ref, views_ref) = (&movable, &waiting, &views);
    try_join_all(parts.all().map(async |part| {
        let mut shard = Shard {
            part,
            home: record.home,
            record,
            movable: movable_ref,
            waiting: waiting_ref,
        };
        shard.swap(views_ref).await
    }))
    .await?;
    let cut = format!(
        "INSERT INTO drover_internal.movements (id, attempt) VALUES ({}, {})",
        sql::quote_literal(&job.cut_row()),
        job.workflow().attempt
    );
    parts.home.run(&cut).await?;
    Ok(movable)
}

/// One shard's part of it.
struct Shard<'a> {
    part: &'a mut Part,
    home: ShardId,
    record: &'a ClusterRecord,
    movable: &'a Movable,
    waiting: &'a [Waiting],
}

impl Shard<'_> {
    async fn swap(&mut self, views: &[String]) -> Result<(), OpError> {
        let (table, here) = (self.movable.sql_name.clone(), self.part.shard);
        // Exactly what this leader knows of.
        for waiting in self.waiting.iter().filter(|waiting| waiting.target == here) {
            let row = format!(
                "SELECT 1 FROM drover_internal.movements WHERE {} FOR UPDATE",
                waiting.row
            );
            if self.part.rows(&row).await?.is_empty() {
                return Err(ChangeError::Lost.into());
            }
        }
        let part = &mut *self.part;
        // Somebody may read a staging table, a dump say; everybody waits for this.
        let patience = LOCK_TIMEOUT.as_millis();
        part.run(&format!("SET LOCAL lock_timeout = {patience}")).await?;
        check::all_have_a_place(&mut part.link, &part.name, self.movable).await?;
        partitions::unguard(part, &table).await?;
        self.leave().await?;
        if self.movable.table.kind == NewKind::Home && here != self.home {
            relocate::run_each(self.part, views).await?;
            return self.part.run(&format!("DROP TABLE {table}")).await;
        }
        self.arrive().await?;
        if let Some(rules) = self.movable.rules(here, self.record) {
            partitions::guard(self.part, &table, &rules).await?;
        }
        Ok(())
    }

    /// Sees that all rows that leave wait elsewhere, and deletes them.
    async fn leave(&mut self) -> Result<(), OpError> {
        let (movable, here) = (self.movable, self.part.shard);
        let rows = |waiting: &Waiting| if waiting.source == here { waiting.rows } else { 0 };
        let moved: u64 = self.waiting.iter().map(rows).sum();
        let gone = match (&movable.division, &movable.table.kind) {
            (Some(division), _) => {
                let own = division.predicate(here);
                let delete = format!("DELETE FROM ONLY {} WHERE NOT {own}", movable.sql_name);
                tag_count(&self.part.tag(&delete).await?)
            }
            (None, NewKind::Home) if here != self.home => {
                let count = format!("SELECT pg_catalog.count(*) FROM ONLY {}", movable.sql_name);
                let [rows] = self.part.counts(&count).await?;
                Some(rows)
            }
            // It keeps its rows.
            _ => return Ok(()),
        };
        if gone == Some(moved) {
            return Ok(());
        }
        let what = format!("{moved} rows have moved from it, and {gone:?} leave it");
        Err(self.part.failed(AdminError::State(what)))
    }

    /// Takes what waits.
    async fn arrive(&mut self) -> Result<(), OpError> {
        let (movable, here) = (self.movable, self.part.shard);
        for waiting in self.waiting.iter().filter(|waiting| waiting.target == here) {
            let insert = format!(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {1} FROM ONLY {}",
                movable.sql_name, movable.columns, waiting.table
            );
            let inserted = self.part.tag(&insert).await?;
            if tag_count(&inserted) != Some(waiting.rows) {
                let what = format!("{} rows have come, and the answer was {inserted}", waiting.rows);
                return Err(self.part.failed(AdminError::State(what)));
            }
            let done = format!(
                "DROP TABLE {}; DELETE FROM drover_internal.movements WHERE {}",
                waiting.table, waiting.row
            );
            self.part.run(&done).await?;
        }
        Ok(())
    }
}
