//! Rows that are made on some shards and stored on others: `INSERT … SELECT` that cannot stay where it is.
//!
//! | step | what can fail, and then |
//! |---|---|
//! | an implicit block is opened where the client has none: everything below is one transaction | – |
//! | the query runs like any other, with its answer kept here (bounded by `gather_max_bytes`) | its error is the statement's; nothing has been written |
//! | values of sequences and volatile defaults are drawn, as many as there are rows | the same; numbers are lost, as in PostgreSQL |
//! | each row is placed by its key | a key that cannot be read here: refused, nothing has been written |
//! | each shard gets one INSERT with its rows as arrays, all at once; copies of a reference table home first | the block fails everywhere |
//!
//! The query is complete before the first row is written, so it sees the state before the statement, also when it reads the
//! table that is written. Every shard runs one INSERT, so that triggers, constraints and ON CONFLICT see all of its rows
//! together. Where nothing could tell the difference ([`Transfer::in_portions`]), rows are read and stored in
//! [portions](super::portions) instead, one INSERT each: then it does not matter how many they are.

use bytes::{Buf, Bytes, BytesMut};
use catalog::ShardId;
use merge::Bounds;
use plan::{Many, PreludeSource, PreludeValue, Transfer, TransferPlace};
use wire::FormatCode;
use wire::backend::{Backend, DataRow, ErrorFields, tag};
use wire::frame::{self, Message};

use super::complete::summed;
use super::formats::check_formats;
use super::portions::{Portions, divisible};
use super::{Args, Extra, Run, Texts, append_columns, emit_in_order};
use crate::exec::arrays::ArrayColumns;
use crate::exec::sinks::{Concat, Keep, Only};
use crate::exec::statement::{Literals, ParamValue, Planned, Shards, place_of, resolve};
use crate::session::{Fault, Session};

/// Values drawn with one question.
const DRAWN_AT_ONCE: usize = 100_000;

/// The answer of the query.
struct Answer {
    /// DataRow messages.
    messages: BytesMut,
    rows: usize,
    /// The shard whose clock is the statement's.
    first: ShardId,
}

/// A statement whose rows change their place.
#[derive(Clone, Copy)]
struct Carrying<'a> {
    planned: &'a Planned,
    /// The plan of the query.
    source: &'a Planned,
    transfer: &'a Transfer,
    args: &'a Args,
    /// What the query is asked with.
    asked: &'a Args,
    announce: bool,
}

/// Rows of one place as arrays.
struct Lane {
    shard: ShardId,
    arrays: ArrayColumns,
}

impl Session {
    /// Runs a statement whose rows change their place; `None`: it is none.
    pub(super) async fn run_carrying(
        &mut self,
        planned: &Planned,
        args: &Args,
        announce: bool,
    ) -> Option<Result<(), Fault>> {
        match &planned.plan.many {
            Many::Transfer(transfer) => Some(self.run_transfer(planned, transfer, args, announce).await),
            Many::Relocate(relocate) => Some(self.run_relocate(planned, relocate, args, announce).await),
            _ => None,
        }
    }

    /// Runs the query and stores its rows.
    async fn run_transfer(
        &mut self,
        planned: &Planned,
        transfer: &Transfer,
        args: &Args,
        announce: bool,
    ) -> Result<(), Fault> {
        let source = planned
            .source
            .as_deref()
            .ok_or_else(|| Fault::error("XX000", "the query of the rows has no plan"))?;
        if !self.plan_context().await?.utf8 {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        self.open_implicitly();
        self.block.atomic = true;
        if transfer.place == TransferPlace::Every {
            let shards = self.plan_context().await?.snapshot.shards().to_vec();
            self.lock_copies(&shards).await?;
        }
        let asked = Args {
            params: args.params.clone(),
            results: transfer
                .columns
                .iter()
                .map(|column| format_of(column.binary))
                .collect(),
        };
        let shards = self.shards_to_read(source, &asked).await?;
        if transfer.in_portions
            && self.observation.steps.is_none()
            && !planned.plan.indexed
            && divisible(source, shards.len())
        {
            let carrying = Carrying {
                planned,
                source,
                transfer,
                args,
                asked: &asked,
                announce,
            };
            return self.carry_in_portions(&carrying, &shards).await;
        }
        let answer = self.rows_to_carry(source, transfer, &asked, &shards).await?;
        let (lanes, places) = self.rows_by_place(planned, transfer, args, &answer).await?;
        let extras = self
            .before_storing(planned, transfer, answer.first, announce)
            .await?;
        drop(answer);
        let tag = self
            .store_rows(planned, transfer, args, &extras, lanes, &places)
            .await?;
        self.complete(&tag)
    }

    /// The shards that the query reads.
    async fn shards_to_read(&mut self, source: &Planned, asked: &Args) -> Result<Vec<ShardId>, Fault> {
        let context = self.plan_context().await?;
        let none = Literals {
            text: "",
            literals: &[],
        };
        let shards = resolve(source, &context.snapshot, none, |index| asked.param(index));
        Ok(match shards.map_err(Fault::key_problem)? {
            Shards::One(shard) => vec![shard],
            Shards::Any => vec![self.any_shard()],
            Shards::Many(shards) => shards,
        })
    }

    /// Reads a portion and stores it, until there is nothing more: see [`Transfer::in_portions`]. Each shard's portal shows
    /// the state before the statement, so that new rows are never among those that are read.
    async fn carry_in_portions(&mut self, carrying: &Carrying<'_>, shards: &[ShardId]) -> Result<(), Fault> {
        let Carrying {
            planned,
            source,
            transfer,
            args,
            asked,
            announce,
        } = *carrying;
        let context = self.plan_context().await?;
        self.check_reach(shards.len(), &source.plan, false)?;
        check_formats(source, asked, shards, &context.snapshot)?;
        let order = self.shard_order(source, shards);
        self.observation.over(&order);
        let indexes = self.enlist_all(&order).await?;
        let times = self.times(&source.plan.prelude, Vec::new(), indexes[0]).await?;
        let run = Run {
            planned: source,
            order: &order,
            indexes: &indexes,
            text: &transfer.source,
            args: asked,
            extras: &times,
            copy: None,
            origins: &[],
            only_reads: true,
        };
        let mut portions = Portions::of(&run, self.gather_limit())?;
        let mut extras = None;
        let mut tags: Vec<Vec<u8>> = Vec::new();
        loop {
            self.next_portion(&run, &mut portions).await?;
            let (messages, rows) = portions.take();
            if rows == 0 && !tags.is_empty() {
                self.close_portals(&run, &[]).await?;
                break;
            }
            let answer = Answer {
                messages,
                rows,
                first: order[0],
            };
            self.observation.moved(rows as u64, answer.messages.len());
            let (lanes, places) = self.rows_by_place(planned, transfer, args, &answer).await?;
            drop(answer);
            if extras.is_none() {
                extras = Some(self.before_storing(planned, transfer, order[0], announce).await?);
            }
            let last = portions.ended();
            if last {
                let written: Vec<ShardId> = lanes.iter().map(|lane| lane.shard).collect();
                self.close_portals(&run, &written).await?;
            }
            let known = extras.as_deref().unwrap_or_default();
            let tag = self
                .store_rows(planned, transfer, args, known, lanes, &places)
                .await?;
            tags.push(tag.into_bytes());
            if last {
                break;
            }
        }
        self.complete(&summed(&tags)?)
    }

    /// Rows with the values that are drawn for them, dealt out. Gives the lane of each row, too.
    async fn rows_by_place(
        &mut self,
        planned: &Planned,
        transfer: &Transfer,
        args: &Args,
        answer: &Answer,
    ) -> Result<(Vec<Lane>, Vec<usize>), Fault> {
        let drawn = self.drawn_values(transfer, answer.rows).await?;
        self.engine.metrics.rows_carried.add(answer.rows as u64);
        self.deal_rows(planned, transfer, args, answer, &drawn).await
    }

    /// What is known when the first rows can be stored: values of the statement that are the same for all rows. The client is
    /// told the columns of its answer.
    async fn before_storing(
        &mut self,
        planned: &Planned,
        transfer: &Transfer,
        first: ShardId,
        announce: bool,
    ) -> Result<Vec<Extra>, Fault> {
        let first = self.enlist(first).await?;
        if transfer.columns.iter().any(|column| column.read_by_settings) {
            self.check_reading(first).await?;
        }
        let extras = self.times(&planned.plan.prelude, Vec::new(), first).await?;
        if let (true, Some(columns)) = (announce, &planned.columns) {
            append_columns(self.client.conn.out(), columns);
        }
        Ok(extras)
    }

    /// Runs the query with its answer kept.
    async fn rows_to_carry(
        &mut self,
        source: &Planned,
        transfer: &Transfer,
        asked: &Args,
        shards: &[ShardId],
    ) -> Result<Answer, Fault> {
        let first = shards.first().copied().unwrap_or(self.engine.cluster.home());
        let outer = self.client.conn.is_held().then(|| self.client.conn.out().split());
        self.client.conn.hold();
        let source_asked = super::Asked {
            text: &transfer.source,
            args: Some(asked),
            copy: None,
        };
        let kept_before = self.keep_explained_rows(true);
        let result = self.run_with(source, shards, source_asked, Vec::new()).await;
        self.keep_explained_rows(kept_before);
        let kept = match outer {
            Some(before) => std::mem::replace(self.client.conn.out(), before),
            None => self.client.conn.release_held(),
        };
        self.block.tag = None;
        let limit = self.gather_limit();
        let too_large = kept.len() > limit;
        let (messages, rows) = self.take_rows(kept);
        result?;
        if too_large {
            return Err(too_many(limit));
        }
        self.observation.moved(rows as u64, messages.len());
        Ok(Answer {
            messages,
            rows,
            first,
        })
    }

    /// Takes an answer apart: rows, and what the client gets of the rest (notices, parameter reports).
    fn take_rows(&mut self, mut answer: BytesMut) -> (BytesMut, usize) {
        let mut messages = BytesMut::new();
        let mut rows = 0;
        while let Ok(Some(found)) = frame::peek(&answer, usize::MAX)
            && found.len <= answer.len()
        {
            let message = answer.split_to(found.len);
            match found.tag {
                tag::DATA_ROW => {
                    rows += 1;
                    match messages.is_empty() {
                        true => messages = message,
                        // Neighbours in one buffer are put together without copying.
                        false => messages.unsplit(message),
                    }
                }
                tag::COMMAND_COMPLETE => {}
                _ => self.client.conn.out().extend_from_slice(&message),
            }
        }
        (messages, rows)
    }

    /// For each drawn value its values, one for each row.
    async fn drawn_values(
        &mut self,
        transfer: &Transfer,
        rows: usize,
    ) -> Result<Vec<Vec<Option<Vec<u8>>>>, Fault> {
        const TEXT_ARRAY: u32 = 1009;
        let mut values: Vec<Vec<Option<Vec<u8>>>> = vec![Vec::with_capacity(rows); transfer.drawn.len()];
        let mut left = if transfer.drawn.is_empty() { 0 } else { rows };
        while left > 0 {
            let count = left.min(DRAWN_AT_ONCE);
            left -= count;
            let wanted: Vec<PreludeValue> = (transfer.drawn.iter())
                .map(|drawn| PreludeValue {
                    param: 0,
                    type_oid: TEXT_ARRAY,
                    source: PreludeSource::HomeArray {
                        sql: format!(
                            "ARRAY(SELECT ({})::pg_catalog.text FROM pg_catalog.generate_series(1, {count}))",
                            drawn.sql
                        ),
                    },
                })
                .collect();
            let answers = self.prelude_values(&wanted).await?;
            for (all, answer) in values.iter_mut().zip(answers) {
                let elements = answer.map(|extra| extra.elements).unwrap_or_default();
                if elements.len() != count {
                    return Err(Fault::error(
                        "XX000",
                        "the home shard gave another number of values",
                    ));
                }
                all.extend(elements);
            }
        }
        Ok(values)
    }

    /// Deals the rows out to their shards. Gives the lane of each row, too.
    async fn deal_rows(
        &mut self,
        planned: &Planned,
        transfer: &Transfer,
        args: &Args,
        answer: &Answer,
        drawn: &[Vec<Option<Vec<u8>>>],
    ) -> Result<(Vec<Lane>, Vec<usize>), Fault> {
        let context = self.plan_context().await?;
        let snapshot = &context.snapshot;
        let own = usize::from(planned.plan.param_count);
        let limit = self.gather_limit();
        let elements: Vec<u32> = array_types(transfer)
            .iter()
            .map(|(element, _)| *element)
            .collect();
        let mut lanes: Vec<Lane> = Vec::new();
        let mut places = Vec::with_capacity(answer.rows);
        let mut rest = &answer.messages[..];
        while rest.has_remaining() {
            let row = next_row(&mut rest)?;
            let number = places.len();
            let drawn_value = |at: usize| drawn.get(at).and_then(|values| values.get(number));
            let shard = match &transfer.place {
                TransferPlace::Home | TransferPlace::Every => snapshot.home(),
                TransferPlace::Key { map, key } => {
                    let param = |index: usize| {
                        let Some(column) = index.checked_sub(own) else {
                            return args.param(index);
                        };
                        match transfer.columns.get(column) {
                            Some(carried) => row.column(column).map(|value| ParamValue {
                                value,
                                binary: carried.binary,
                            }),
                            None => drawn_value(column - transfer.columns.len()).map(|value| ParamValue {
                                value: value.as_deref(),
                                binary: false,
                            }),
                        }
                    };
                    place_of(key, *map, snapshot, &param).map_err(Fault::key_problem)?
                }
            };
            let lane = lane_of(&mut lanes, shard, &elements, limit);
            let stored = transfer.columns.iter().enumerate();
            let stored = stored.filter(|(_, column)| column.array.is_some());
            let values = stored.map(|(at, _)| row.column(at).flatten());
            let values = values.chain((0..drawn.len()).map(|at| drawn_value(at).and_then(Option::as_deref)));
            lanes[lane].arrays.push(values).map_err(|_| too_many(limit))?;
            places.push(lane);
        }
        if lanes.is_empty() {
            // The statement still has its errors, and triggers that run once for it.
            let shard = match &transfer.place {
                TransferPlace::Key { map, .. } => snapshot.shards_of(*map).first().copied(),
                _ => None,
            };
            lane_of(&mut lanes, shard.unwrap_or(snapshot.home()), &elements, limit);
        }
        Ok((lanes, places))
    }

    /// Runs the INSERT on every shard that gets rows; the command tag of all together.
    async fn store_rows(
        &mut self,
        planned: &Planned,
        transfer: &Transfer,
        args: &Args,
        extras: &[Extra],
        lanes: Vec<Lane>,
        places: &[usize],
    ) -> Result<String, Fault> {
        let mut order: Vec<ShardId> = lanes.iter().map(|lane| lane.shard).collect();
        if transfer.place == TransferPlace::Every {
            let home = self.engine.cluster.home();
            let context = self.plan_context().await?;
            order = context.snapshot.shards().to_vec();
            order.sort_by_key(|shard| (*shard != home, *shard));
        }
        self.observation.over(&order);
        let indexes = self.enlist_all(&order).await?;
        let oids: Vec<u32> = array_types(transfer).iter().map(|(_, array)| *array).collect();
        let arrays: Vec<Vec<Bytes>> = lanes.into_iter().map(|lane| lane.arrays.finish()).collect();
        let run = Run {
            planned,
            order: &order,
            indexes: &indexes,
            text: &transfer.insert,
            args,
            extras,
            copy: None,
            origins: &[],
            only_reads: false,
        };
        let texts = || Texts::Rows {
            sql: &transfer.insert,
            oids: &oids,
            arrays: &arrays,
        };
        let formats = self.visible_formats(&run);
        if transfer.place == TransferPlace::Every {
            let mut home = Only {
                source: Some(0),
                rows: 0,
            };
            let mut nothing = Only {
                source: None,
                rows: 0,
            };
            let (first, others) = (run.part(..1), run.part(1..));
            let mut gathered = self.scatter(&first, texts(), &formats, 0, &mut home).await?;
            let rest = self.scatter(&others, texts(), &formats, 0, &mut nothing).await?;
            gathered.tags.extend(rest.tags);
            return self.equal_tag(&gathered);
        }
        if transfer.keeps_order {
            let mut sink = Keep::new(order.len(), self.gather_limit());
            let gathered = self.scatter(&run, texts(), &formats, 0, &mut sink).await?;
            emit_in_order(self.client.conn.out(), sink, places);
            return summed(&gathered.tags);
        }
        let mut sink = Concat::new(Bounds::default());
        let gathered = self.scatter(&run, texts(), &formats, 0, &mut sink).await?;
        summed(&gathered.tags)
    }
}

/// Element and array types of the parameters that carry rows.
fn array_types(transfer: &Transfer) -> Vec<(u32, u32)> {
    const TEXT: (u32, u32) = (25, 1009);
    let carried = transfer.columns.iter().filter_map(|column| column.array);
    carried.chain(transfer.drawn.iter().map(|_| TEXT)).collect()
}

fn lane_of(lanes: &mut Vec<Lane>, shard: ShardId, elements: &[u32], limit: usize) -> usize {
    match lanes.iter().position(|lane| lane.shard == shard) {
        Some(known) => known,
        None => {
            let arrays = ArrayColumns::new(elements.iter().copied(), limit);
            lanes.push(Lane { shard, arrays });
            lanes.len() - 1
        }
    }
}

/// The format in which a column is carried.
pub(super) fn format_of(binary: bool) -> FormatCode {
    match binary {
        true => FormatCode::Binary,
        false => FormatCode::Text,
    }
}

/// The row at the front.
pub(super) fn next_row<'a>(rest: &mut &'a [u8]) -> Result<DataRow<'a>, Fault> {
    let unreadable = || Fault::error("XX000", "a shard sent an unreadable row");
    let bytes: &'a [u8] = rest;
    let found = frame::peek(bytes, usize::MAX)
        .map_err(|_| unreadable())?
        .ok_or_else(unreadable)?;
    let (message, after) = bytes.split_at_checked(found.len).ok_or_else(unreadable)?;
    *rest = after;
    match Message::whole(message).map(Backend::decode) {
        Some(Ok(Backend::DataRow(row))) => Ok(row),
        _ => Err(unreadable()),
    }
}

pub(super) fn too_many(limit: usize) -> Fault {
    let text = format!("the rows to be carried between shards exceed {limit} bytes");
    let fields = ErrorFields::error("53400", text)
        .with_hint("Raise gather_max_bytes, or insert the rows in several statements.");
    Fault::Statement(Box::new(fields))
}
