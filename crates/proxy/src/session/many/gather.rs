//! Statements that one server finishes over rows pulled from several: see [`plan::Gather`].
//!
//! | step | what can fail, and then |
//! |---|---|
//! | the place of each input is looked up | a key that cannot be read here: refused |
//! | each server concerned gets one statement for all of its inputs | its error is the statement's, and cancels the others |
//! | the rows become arrays, bounded by `gather_max_bytes` | `53400`, which names the table that passed the bound |
//! | the home shard finishes | its error is the statement's |

use bytes::{Bytes, BytesMut};
use catalog::{ShardId, Snapshot};
use plan::{FinishPlace, Gather, GatherInput, GatherPlace, Step};
use wire::FormatCode;
use wire::backend::{Backend, DataRow, ErrorFields};
use wire::frame::Message;

use super::reduce::{Again, Pulling};
use super::run::{Asked, Run};
use super::transfer::format_of;
use super::{Args, Extra};
use crate::exec::arrays::ArrayColumns;
use crate::exec::scatter::{Flow, Sink};
use crate::exec::statement::{ParamValue, Planned, place_of, places_of};
use crate::session::{Fault, Session};

/// A server that is asked, and for which inputs.
pub(super) struct Asking {
    pub(super) shard: ShardId,
    pub(super) inputs: Vec<usize>,
}

/// What was pulled.
pub(super) struct Pulled {
    /// For each shard that finishes its arrays, in the order of [`Gather::arrays`].
    pub(super) arrays: Vec<Vec<Bytes>>,
    /// The values beside the client's parameters.
    pub(super) extras: Vec<Extra>,
}

impl Session {
    /// Runs a plan that gathers, up to and without ReadyForQuery.
    pub(super) async fn run_gather(
        &mut self,
        planned: &Planned,
        gather: &Gather,
        asked: Asked<'_>,
        values: Vec<Option<Extra>>,
    ) -> Result<(), Fault> {
        if !self.plan_context().await?.utf8 {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        if gather.finish_on != FinishPlace::Home {
            return self.run_carried(planned, gather, asked, values).await;
        }
        let home = [self.engine.cluster.home()];
        let mut pulled = self.pull(planned, gather, asked, values, &home).await?;
        let arrays = pulled.arrays.pop().unwrap_or_default();
        let none = Args::default();
        let run = Run {
            planned,
            order: &home,
            indexes: &[],
            text: asked.text,
            args: asked.args.unwrap_or(&none),
            extras: &pulled.extras,
            copy: asked.copy,
            origins: &[],
            only_reads: false,
        };
        match run.copy {
            None => self.finish(&run, &gather.finish, &gather.arrays, arrays).await,
            Some(writer) => {
                self.finish_copied(&run, &gather.finish, &gather.arrays, arrays, writer)
                    .await
            }
        }
    }

    /// Gets the rows of all inputs, as arrays for these shards, and tells the client the columns of the answer.
    pub(super) async fn pull(
        &mut self,
        planned: &Planned,
        gather: &Gather,
        asked: Asked<'_>,
        values: Vec<Option<Extra>>,
        targets: &[ShardId],
    ) -> Result<Pulled, Fault> {
        let context = self.plan_context().await?;
        let none = Args::default();
        let args = asked.args.unwrap_or(&none);
        let asking = places(gather, &context.snapshot, args)?;
        let order: Vec<ShardId> = asking.iter().map(|asking| asking.shard).collect();
        let writes = gather.finish_on != FinishPlace::Home;
        let mut all = order.clone();
        if writes {
            all.extend(targets.iter().filter(|shard| !order.contains(shard)));
        }
        self.check_reach(all.len(), &planned.plan, writes)?;
        self.observation.over(&all);
        let again = self.may_ask_again(planned, gather);
        let indexes = self.enlist_all(&order).await?;
        let extras = self.times(&planned.plan.prelude, values, indexes[0]).await?;
        if gather.slots.iter().any(|slot| slot.carried.read_by_settings) {
            self.check_reading(indexes[0]).await?;
        }
        if !writes {
            self.announce_columns(planned, asked.args);
        }
        let run = Run {
            planned,
            order: &order,
            indexes: &indexes,
            text: asked.text,
            args,
            extras: &extras,
            // What the servers are asked for is not the answer.
            copy: None,
            origins: &[],
            only_reads: true,
        };
        let mut formats = vec![FormatCode::Binary];
        formats.extend(gather.slots.iter().map(|slot| format_of(slot.carried.binary)));
        let limit_bytes = self.gather_limit();
        let mut sink = Inputs::new(&run, gather, &context.snapshot, targets, limit_bytes);
        let pulling = Pulling {
            gather,
            asking: &asking,
            run: &run,
            home: context.snapshot.home(),
            formats: &formats,
        };
        let pulled = match again != Again::No {
            true => self.pull_reduced(&pulling, &mut sink).await,
            false => self.pull_steps(&pulling, &gather.all_steps(), &mut sink).await,
        };
        pulled.map_err(|fault| with_views(fault, gather))?;
        self.engine.metrics.rows_gathered.add(sink.rows);
        self.observation.moved(sink.rows, sink.bytes);
        let arrays = sink.finish();
        if again == Again::Alone {
            self.end_pulling().await?;
        }
        if writes {
            self.announce_columns(planned, asked.args);
        }
        Ok(Pulled { arrays, extras })
    }
}

/// What each server is asked for.
pub(in crate::session) fn texts_of_gather(
    gather: &Gather,
    snapshot: &Snapshot,
    args: &Args,
) -> Result<Vec<(ShardId, String)>, Fault> {
    let home = snapshot.home();
    let all = gather.all_steps();
    let text = |asking: Asking| {
        let own: Vec<&Step> = asking.inputs.iter().filter_map(|input| all.get(*input)).collect();
        let text = gather.text_for(&own, asking.shard == home, &|_| 0);
        (asking.shard, text)
    };
    let asking = places(gather, snapshot, args)?;
    Ok(asking.into_iter().map(text).collect())
}

/// Which servers have which inputs, by shard; the home shard if none has any.
fn places(gather: &Gather, snapshot: &Snapshot, args: &Args) -> Result<Vec<Asking>, Fault> {
    let home = snapshot.home();
    let mut asking: Vec<Asking> = Vec::new();
    for (number, input) in gather.inputs.iter().enumerate() {
        for shard in shards_of(&input.place, snapshot, args)? {
            match asking.iter_mut().find(|asking| asking.shard == shard) {
                Some(known) => known.inputs.push(number),
                None => asking.push(Asking {
                    shard,
                    inputs: vec![number],
                }),
            }
        }
    }
    // No row matters, but whoever asks must be allowed to, and the clock is some server's. Rights on views are looked at at home.
    let at_home = asking.iter().any(|asking| asking.shard == home);
    if asking.is_empty() || (!gather.views.is_empty() && !at_home) {
        asking.push(Asking {
            shard: home,
            inputs: (0..usize::from(asking.is_empty())).collect(),
        });
    }
    asking.sort_by_key(|asking| asking.shard);
    Ok(asking)
}

/// The shards of a place; none where every key is NULL.
pub(super) fn shards_of(
    place: &GatherPlace,
    snapshot: &Snapshot,
    args: &Args,
) -> Result<Vec<ShardId>, Fault> {
    Ok(match place {
        GatherPlace::Home => vec![snapshot.home()],
        GatherPlace::All { map } => snapshot.shards_of(*map).to_vec(),
        GatherPlace::Keys { map, keys } => {
            places_of(keys, *map, snapshot, &|index| args.param(index)).map_err(Fault::key_problem)?
        }
    })
}

/// Who may read a view need not be allowed to read the tables under it, which are read here.
fn with_views(fault: Fault, gather: &Gather) -> Fault {
    match &fault {
        Fault::Statement(error) if error.code == "42501" && !gather.views.is_empty() => {
            let what = "a view whose tables the user may not read";
            Fault::refused(&plan::Refusal::with(plan::RefusalCode::Gather, what))
        }
        _ => fault,
    }
}

/// The rows of each input as arrays.
pub(super) struct Inputs<'a> {
    run: &'a Run<'a>,
    gather: &'a Gather,
    snapshot: &'a Snapshot,
    targets: &'a [ShardId],
    /// For each input its arrays: one for all, or one for each target where its rows are dealt out.
    arrays: Vec<Vec<ArrayColumns>>,
    rows: u64,
    bytes: usize,
    limit_bytes: usize,
    /// Servers have been asked.
    begun: bool,
}

impl<'a> Inputs<'a> {
    fn new(
        run: &'a Run<'a>,
        gather: &'a Gather,
        snapshot: &'a Snapshot,
        targets: &'a [ShardId],
        limit_bytes: usize,
    ) -> Self {
        let mut types = gather.arrays.iter().map(|array| array.type_oid);
        let arrays = gather.inputs.iter().map(|input| {
            let own: Vec<u32> = types.by_ref().take(input.columns.len()).collect();
            let lanes = input.deal.as_ref().map_or(1, |_| targets.len());
            let lane = |_| ArrayColumns::new(own.iter().copied(), limit_bytes);
            (0..lanes).map(lane).collect()
        });
        Self {
            run,
            gather,
            snapshot,
            targets,
            arrays: arrays.collect(),
            rows: 0,
            bytes: 0,
            limit_bytes,
            begun: false,
        }
    }

    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// How many rows of an input are there.
    pub(super) fn rows_of(&self, input: usize) -> u64 {
        let lanes = self.arrays.get(input).map(Vec::as_slice).unwrap_or_default();
        lanes.iter().map(|lane| u64::from(lane.rows())).sum()
    }

    /// The different values of a column of an input whose rows are not dealt out.
    pub(super) fn values(&self, input: usize, column: usize) -> Option<Bytes> {
        self.arrays.get(input)?.first()?.distinct(column)
    }

    /// For each target all columns in PostgreSQL's binary form, in the order of [`Gather::arrays`].
    fn finish(self) -> Vec<Vec<Bytes>> {
        let mut out = vec![Vec::new(); self.targets.len()];
        for (input, lanes) in self.gather.inputs.iter().zip(self.arrays) {
            let lanes: Vec<Vec<Bytes>> = lanes.into_iter().map(ArrayColumns::finish).collect();
            for (at, arrays) in out.iter_mut().enumerate() {
                let lane = lanes.get(if input.deal.is_some() { at } else { 0 });
                arrays.extend(lane.into_iter().flatten().cloned());
            }
        }
        out
    }

    /// Which arrays of its input a row belongs in; `None`: no target can use it.
    fn lane(&self, input: &GatherInput, row: &DataRow<'_>) -> Result<Option<usize>, Fault> {
        let Some(deal) = &input.deal else {
            return Ok(Some(0));
        };
        let own = usize::from(self.run.planned.plan.param_count);
        let param = |index: usize| {
            let Some(column) = index.checked_sub(own) else {
                return self.run.args.param(index);
            };
            let slot = *input.columns.get(column)?;
            Some(ParamValue {
                value: row.column(slot + 1)?,
                binary: self.gather.slots.get(slot)?.carried.binary,
            })
        };
        let shard = place_of(&deal.key, deal.map, self.snapshot, &param).map_err(Fault::key_problem)?;
        Ok(self.targets.iter().position(|target| *target == shard))
    }
}

impl Sink for Inputs<'_> {
    fn row(
        &mut self,
        _source: usize,
        message: &[u8],
        _client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        let unreadable = || Box::new(ErrorFields::error("XX000", "a shard sent an unreadable row"));
        let Some(Ok(Backend::DataRow(row))) = Message::whole(message).map(Backend::decode) else {
            return Err(unreadable());
        };
        let number = row.column(0).flatten().and_then(|value| value.try_into().ok());
        let number = number.map(|value| usize::from(u16::from_be_bytes(value)));
        let input = number.and_then(|at| Some((at, self.gather.inputs.get(at)?)));
        let (at, input) = input.ok_or_else(unreadable)?;
        self.rows += 1;
        self.bytes += message.len();
        let lane = self.lane(input, &row).map_err(|fault| match fault {
            Fault::Statement(fields) | Fault::Fatal(fields) => fields,
            _ => unreadable(),
        })?;
        let lane = lane.and_then(|lane| self.arrays.get_mut(at)?.get_mut(lane));
        let values = input.columns.iter().map(|slot| row.column(slot + 1).flatten());
        let fits = lane.is_none_or(|arrays| arrays.push(values).is_ok());
        if !fits || self.bytes > self.limit_bytes {
            let text = format!(
                "the rows gathered for the statement exceed {} bytes with those of \"{}\"",
                self.limit_bytes, input.name
            );
            let fields = ErrorFields::error("53400", text)
                .with_hint("Raise gather_max_bytes, or restrict the rows of the table further.");
            return Err(Box::new(fields));
        }
        Ok(Flow::More)
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}
