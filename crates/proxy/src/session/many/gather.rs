//! Statements that one server finishes over rows pulled from several: see [`plan::Gather`].
//!
//! | step | what can fail, and then |
//! |---|---|
//! | the place of each input is looked up | a key that cannot be read here: refused |
//! | each server concerned gets one statement for all of its inputs | its error is the statement's, and cancels the others |
//! | the rows become arrays, bounded by `gather_max_bytes` | `53400`, which names the table that passed the bound |
//! | the home shard finishes | its error is the statement's |

use bytes::BytesMut;
use catalog::{ShardId, Snapshot};
use plan::{Gather, GatherPlace};
use wire::FormatCode;
use wire::backend::{Backend, ErrorFields};
use wire::frame::Message;

use super::run::{Asked, Run, Texts};
use super::transfer::format_of;
use super::{Args, Extra};
use crate::exec::arrays::ArrayColumns;
use crate::exec::scatter::{Flow, Sink};
use crate::exec::statement::{Planned, places_of};
use crate::session::{Fault, Session};

/// A server that is asked, and for which inputs.
struct Asking {
    shard: ShardId,
    inputs: Vec<usize>,
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
        let context = self.plan_context().await?;
        if !context.utf8 {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        let none = Args::default();
        let args = asked.args.unwrap_or(&none);
        let asking = places(gather, &context.snapshot, args)?;
        let order: Vec<ShardId> = asking.iter().map(|asking| asking.shard).collect();
        self.check_reach(order.len(), &planned.plan, false)?;
        self.observation.over(&order);
        let indexes = self.enlist_all(&order).await?;
        let extras = self.times(&planned.plan.prelude, values, indexes[0]).await?;
        if gather.slots.iter().any(|slot| slot.carried.read_by_settings) {
            self.check_reading(indexes[0]).await?;
        }
        self.announce_columns(planned, asked.args);
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
        };
        let home = context.snapshot.home();
        let texts: Vec<String> = asking
            .iter()
            .map(|asking| gather.text_for(&asking.inputs, asking.shard == home))
            .collect();
        let mut formats = vec![FormatCode::Binary];
        formats.extend(gather.slots.iter().map(|slot| format_of(slot.carried.binary)));
        let mut sink = Inputs::new(gather, self.gather_limit());
        let scattered = self
            .scatter(&run, Texts::Each(&texts), &formats, 0, &mut sink)
            .await;
        scattered.map_err(|fault| with_views(fault, gather))?;
        self.engine.metrics.rows_gathered.add(sink.rows);
        let arrays = sink.finish();
        let run = Run {
            copy: asked.copy,
            ..run
        };
        match run.copy {
            None => self.finish(&run, &gather.finish, &gather.arrays, arrays).await,
            Some(writer) => {
                self.finish_copied(&run, &gather.finish, &gather.arrays, arrays, writer)
                    .await
            }
        }
    }
}

/// Which servers have which inputs, by shard; the home shard if none has any.
fn places(gather: &Gather, snapshot: &Snapshot, args: &Args) -> Result<Vec<Asking>, Fault> {
    let home = snapshot.home();
    let mut asking: Vec<Asking> = Vec::new();
    for (number, input) in gather.inputs.iter().enumerate() {
        let shards = match &input.place {
            GatherPlace::Home => vec![home],
            GatherPlace::All { map } => snapshot.shards_of(*map).to_vec(),
            GatherPlace::Keys { map, keys } => {
                places_of(keys, *map, snapshot, &|index| args.param(index)).map_err(Fault::key_problem)?
            }
        };
        for shard in shards {
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
struct Inputs<'a> {
    gather: &'a Gather,
    arrays: Vec<ArrayColumns>,
    rows: u64,
    bytes: usize,
    limit_bytes: usize,
}

impl<'a> Inputs<'a> {
    fn new(gather: &'a Gather, limit_bytes: usize) -> Self {
        let mut types = gather.arrays.iter().map(|array| array.type_oid);
        let arrays = gather.inputs.iter().map(|input| {
            let own: Vec<u32> = types.by_ref().take(input.columns.len()).collect();
            ArrayColumns::new(own.into_iter(), limit_bytes)
        });
        Self {
            gather,
            arrays: arrays.collect(),
            rows: 0,
            bytes: 0,
            limit_bytes,
        }
    }

    /// All columns in PostgreSQL's binary form, in the order of [`Gather::arrays`].
    fn finish(self) -> Vec<BytesMut> {
        self.arrays.into_iter().flat_map(ArrayColumns::finish).collect()
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
        let input = number.and_then(|at| Some((self.gather.inputs.get(at)?, self.arrays.get_mut(at)?)));
        let (input, arrays) = input.ok_or_else(unreadable)?;
        let values = input.columns.iter().map(|slot| row.column(slot + 1).flatten());
        self.rows += 1;
        self.bytes += message.len();
        if arrays.push(values).is_err() || self.bytes > self.limit_bytes {
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
