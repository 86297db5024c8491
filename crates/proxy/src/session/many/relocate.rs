//! UPDATE of a shard key: rows change their shard.
//!
//! | step | what can fail, and then |
//! |---|---|
//! | an implicit block is opened where the client has none: everything below is one transaction | – |
//! | writers of the table are kept from the shards that rows leave | the block fails; nothing has been written |
//! | the rows are found and locked; from now on nobody else can change them | the block fails; nothing has been written |
//! | rows whose new key belongs elsewhere are deleted, and say how they will be | the block fails everywhere |
//! | rows that stay are updated in place | the same |
//! | writers of the table are kept from the shards on which rows arrive | the same |
//! | rows that left are inserted on their new shards | the same |
//!
//! Why writers are kept away: an UPDATE or DELETE without the key runs on every shard at a moment of its own. If it met a row's old place
//! after the row had left, and its new place before it had come, it would miss a row that one PostgreSQL gives it. With the table
//! locked on both shards until the move has committed it runs wholly before or wholly after it: where it was first on one shard,
//! the move does not get that lock. Only the first lock is waited for; waiting for more could close a circle over several servers,
//! which none of them sees.
//!
//! All rows leave before any arrives. The number of rows that arrive is compared with that of those that left.

use bytes::Bytes;
use catalog::ShardId;
use merge::Bounds;
use plan::{KeySource, Relocate};
use wire::FormatCode;

use super::transfer::{format_of, next_row, too_many};
use super::{Args, Extra, Run, Texts, append_columns};
use crate::exec::arrays::ArrayColumns;
use crate::exec::sinks::{Concat, Keep};
use crate::exec::statement::{Literals, ParamValue, Planned, Shards, place_of, resolve};
use crate::session::{Fault, Session};

/// What one shard is asked to do with the rows found on it.
struct Found {
    shard: ShardId,
    stay: ArrayColumns,
    leave: ArrayColumns,
}

impl Session {
    /// Runs the UPDATE.
    pub(super) async fn run_relocate(
        &mut self,
        planned: &Planned,
        relocate: &Relocate,
        args: &Args,
        announce: bool,
    ) -> Result<(), Fault> {
        let from = planned
            .source
            .as_deref()
            .ok_or_else(|| Fault::error("XX000", "the rows that move have no plan"))?;
        let order = self.shards_now(from, relocate, args).await?;
        self.open_implicitly();
        self.block.atomic = true;
        let indexes = self.enlist_all(&order).await?;
        let first = indexes.first().copied().unwrap_or(0);
        let extras = self.times(&planned.plan.prelude, Vec::new(), first).await?;
        if relocate.columns.iter().any(|column| column.read_by_settings) {
            self.check_reading(first).await?;
        }
        if let (true, Some(columns)) = (announce, &planned.columns) {
            append_columns(self.client.conn.out(), columns);
        }
        let step = Step {
            planned,
            relocate,
            args,
            extras: &extras,
        };
        self.keep_writers_away(relocate, &order, true).await?;
        let found = self.lock_rows(&step, &order).await?;
        let leaving: usize = found.iter().map(|found| found.leave.rows() as usize).sum();
        let staying: usize = found.iter().map(|found| found.stay.rows() as usize).sum();
        self.engine.metrics.rows_carried.add(leaving as u64);
        let (stay, leave): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(|found| ((found.shard, found.stay), (found.shard, found.leave)))
            .unzip();
        let lanes = self.take_away(&step, filled(leave)).await?;
        let arriving: Vec<ShardId> = lanes.iter().map(|(shard, _)| *shard).collect();
        self.keep_writers_away(relocate, &arriving, false).await?;
        let mut stay = stay;
        if staying + leaving > 0 {
            stay = filled(stay);
        } else {
            // For the errors that an UPDATE without rows has.
            stay.truncate(1);
        }
        let tids = [relocate.row_types.1];
        let stayed = self.apply(&step, &relocate.stay, &tids, stay).await?;
        let arrays: Vec<u32> = relocate
            .columns
            .iter()
            .filter_map(|c| c.array)
            .map(|(_, a)| a)
            .collect();
        let arrived = self.apply(&step, &relocate.arrive, &arrays, lanes).await?;
        if (stayed, arrived) != (staying as u64, leaving as u64) {
            return Err(Fault::error(
                "XX000",
                "another number of rows was changed than was found",
            ));
        }
        self.complete(&format!("UPDATE {}", stayed + arrived))
    }

    /// The shards on which the rows are.
    async fn shards_now(
        &mut self,
        from: &Planned,
        relocate: &Relocate,
        args: &Args,
    ) -> Result<Vec<ShardId>, Fault> {
        let context = self.plan_context().await?;
        if !context.utf8 {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        let none = Literals {
            text: "",
            literals: &[],
        };
        let shards = resolve(from, &context.snapshot, none, |index| args.param(index));
        Ok(match shards.map_err(Fault::key_problem)? {
            Shards::One(shard) => vec![shard],
            Shards::Any => vec![self.any_shard_of(relocate, &context.snapshot)],
            Shards::Many(shards) => shards,
        })
    }

    /// A shard of the table, where every old key is NULL or none qualifies.
    fn any_shard_of(&self, relocate: &Relocate, snapshot: &catalog::Snapshot) -> ShardId {
        let held = |shard: &&ShardId| self.servers.iter().any(|server| server.shard == **shard);
        let shards = snapshot.shards_of(relocate.map);
        let shard = shards.iter().find(held).or(shards.first());
        shard.copied().unwrap_or(snapshot.home())
    }

    /// Locks the table on these shards against writers until the end of the transaction. Without `wait`, and on all but the
    /// first, a lock that somebody holds is PostgreSQL's error 55P03.
    async fn keep_writers_away(
        &mut self,
        relocate: &Relocate,
        shards: &[ShardId],
        wait: bool,
    ) -> Result<(), Fault> {
        for (at, shard) in shards.iter().enumerate() {
            let nowait = if wait && at == 0 { "" } else { " NOWAIT" };
            let sql = format!("LOCK TABLE {} IN EXCLUSIVE MODE{nowait}", relocate.table);
            self.run_on(*shard, &sql).await?;
        }
        Ok(())
    }

    /// Finds and locks the rows, and decides which of them stay.
    async fn lock_rows(&mut self, step: &Step<'_>, order: &[ShardId]) -> Result<Vec<Found>, Fault> {
        let relocate = step.relocate;
        let limit = self.gather_limit();
        let indexes = self.enlist_all(order).await?;
        let run = step.run(order, &indexes, &relocate.lock);
        let texts = Texts::Rows {
            sql: &relocate.lock,
            oids: &[],
            arrays: &[],
        };
        let key: Vec<bool> = relocate
            .key_columns
            .iter()
            .map(|at| step.is_binary(*at))
            .collect();
        let formats: Vec<FormatCode> = [true]
            .iter()
            .chain(&key)
            .map(|binary| format_of(*binary))
            .collect();
        let mut sink = Keep::new(order.len(), limit);
        self.scatter(&run, texts, &formats, 0, &mut sink).await?;
        let context = self.plan_context().await?;
        let mut found = Vec::with_capacity(order.len());
        for (shard, rows) in order.iter().zip(sink.rows) {
            let tids = || ArrayColumns::new([relocate.row_types.0].into_iter(), limit);
            let mut here = Found {
                shard: *shard,
                stay: tids(),
                leave: tids(),
            };
            for message in &rows {
                let mut rest = &message[..];
                let row = next_row(&mut rest)?;
                let value = |column: usize| {
                    row.column(column).map(|value| ParamValue {
                        value,
                        binary: column == 0 || key.get(column - 1).is_some_and(|binary| *binary),
                    })
                };
                let place = step.place(&relocate.new_key, &context.snapshot, &value)?;
                let tids = match place == *shard {
                    true => &mut here.stay,
                    false => &mut here.leave,
                };
                let tid = row.column(0).flatten();
                tids.push([tid].into_iter()).map_err(|_| too_many(limit))?;
            }
            found.push(here);
        }
        Ok(found)
    }

    /// Deletes rows and deals out what they will be.
    async fn take_away(
        &mut self,
        step: &Step<'_>,
        leave: Vec<(ShardId, ArrayColumns)>,
    ) -> Result<Vec<(ShardId, ArrayColumns)>, Fault> {
        let relocate = step.relocate;
        let mut lanes: Vec<(ShardId, ArrayColumns)> = Vec::new();
        if leave.is_empty() {
            return Ok(lanes);
        }
        let limit = self.gather_limit();
        let (order, arrays) = finished(leave);
        let indexes = self.enlist_all(&order).await?;
        let run = step.run(&order, &indexes, &relocate.leave);
        let texts = Texts::Rows {
            sql: &relocate.leave,
            oids: &[relocate.row_types.1],
            arrays: &arrays,
        };
        let formats: Vec<FormatCode> = relocate.columns.iter().map(|c| format_of(c.binary)).collect();
        let mut sink = Keep::new(order.len(), limit);
        self.scatter(&run, texts, &formats, 0, &mut sink).await?;
        let context = self.plan_context().await?;
        let rows: Vec<Bytes> = sink.rows.into_iter().flatten().collect();
        self.observation
            .moved(rows.len() as u64, rows.iter().map(Bytes::len).sum());
        for message in &rows {
            let mut rest = &message[..];
            let row = next_row(&mut rest)?;
            let value = |column: usize| {
                row.column(column).map(|value| ParamValue {
                    value,
                    binary: step.is_binary(column),
                })
            };
            let shard = step.place(&relocate.key, &context.snapshot, &value)?;
            let at = match lanes.iter().position(|(known, _)| *known == shard) {
                Some(at) => at,
                None => {
                    let elements = relocate.columns.iter().filter_map(|c| c.array).map(|(e, _)| e);
                    lanes.push((shard, ArrayColumns::new(elements, limit)));
                    lanes.len() - 1
                }
            };
            let values = (0..relocate.columns.len()).map(|column| row.column(column).flatten());
            lanes[at].1.push(values).map_err(|_| too_many(limit))?;
        }
        Ok(lanes)
    }

    /// Runs a statement on each of these shards with its arrays. Its rows go to the client; how many were changed.
    async fn apply(
        &mut self,
        step: &Step<'_>,
        sql: &str,
        oids: &[u32],
        lanes: Vec<(ShardId, ArrayColumns)>,
    ) -> Result<u64, Fault> {
        if lanes.is_empty() {
            return Ok(0);
        }
        let (order, arrays) = finished(lanes);
        let indexes = self.enlist_all(&order).await?;
        self.observation.over(&order);
        let run = step.run(&order, &indexes, sql);
        let formats = self.visible_formats(&run);
        let mut sink = Concat::new(Bounds::default());
        let texts = Texts::Rows {
            sql,
            oids,
            arrays: &arrays,
        };
        let gathered = self.scatter(&run, texts, &formats, 0, &mut sink).await?;
        let count = |tag: &Vec<u8>| {
            let text = std::str::from_utf8(tag).ok()?;
            text.rsplit(' ').next()?.parse::<u64>().ok()
        };
        let counts: Option<Vec<u64>> = gathered.tags.iter().map(count).collect();
        let counts = counts.ok_or_else(|| Fault::error("XX000", "unreadable command tag"))?;
        Ok(counts.iter().sum())
    }
}

/// What the steps of one execution share.
struct Step<'a> {
    planned: &'a Planned,
    relocate: &'a Relocate,
    args: &'a Args,
    extras: &'a [Extra],
}

impl<'a> Step<'a> {
    fn run(&self, order: &'a [ShardId], indexes: &'a [usize], text: &'a str) -> Run<'a> {
        Run {
            planned: self.planned,
            order,
            indexes,
            text,
            args: self.args,
            extras: self.extras,
            copy: None,
            origins: &[],
            only_reads: false,
        }
    }

    fn is_binary(&self, column: usize) -> bool {
        self.relocate
            .columns
            .get(column)
            .is_some_and(|column| column.binary)
    }

    /// Where a row belongs.
    fn place<'v>(
        &'v self,
        key: &KeySource,
        snapshot: &catalog::Snapshot,
        value: &impl Fn(usize) -> Option<ParamValue<'v>>,
    ) -> Result<ShardId, Fault> {
        let own = usize::from(self.planned.plan.param_count);
        let param = |index: usize| match index.checked_sub(own) {
            None => self.args.param(index),
            Some(column) => value(column),
        };
        place_of(key, self.relocate.map, snapshot, &param).map_err(Fault::key_problem)
    }
}

fn filled(lanes: Vec<(ShardId, ArrayColumns)>) -> Vec<(ShardId, ArrayColumns)> {
    lanes.into_iter().filter(|(_, rows)| rows.rows() > 0).collect()
}

fn finished(lanes: Vec<(ShardId, ArrayColumns)>) -> (Vec<ShardId>, Vec<Vec<Bytes>>) {
    lanes
        .into_iter()
        .map(|(shard, rows)| (shard, rows.finish()))
        .unzip()
}
