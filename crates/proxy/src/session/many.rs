//! A planned statement on several shards, or one that needs values computed first.

mod carry;
mod complete;
mod copies;
mod explained;
mod finish;
pub(super) mod formats;
mod gather;
mod indexes;
mod order;
mod portions;
mod prelude;
mod reduce;
mod relocate;
mod run;
mod transfer;

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Instant;

use bytes::BytesMut;
use catalog::{ShardId, Snapshot};
use merge::Bounds;
use plan::{Combine, FinishPlace, Many, RowsPlan, SplitInsert, Target};
use wire::FormatCode;
use wire::backend::ErrorFields;
use wire::copy::RowWriter;

use super::alike::Origins;
use super::block::Wrote;
use super::learn::decode_columns;
use super::reads::{Guard, guarded_kept_back};
use super::{Fault, Session};
use crate::exec::arrays::ArrayColumns;
use crate::exec::link;
use crate::exec::scatter::{self, Request, Sink, Source};
use crate::exec::sinks::{Collect, Concat, Keep, Limited, Only, Ordered, Redirected};
use crate::exec::statement::{Literals, ParamValue, Planned, Shards, element_of, place_of, resolve};

use complete::Gathered;
use formats::check_formats;
pub(super) use gather::texts_of_gather;
use order::{bounds, per_source, sort_keys};
use run::{Asked, Run, SentParam, Texts};

/// What a Bind message gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Args {
    /// Values, `None` = NULL, with "is binary".
    pub params: Vec<(Option<Vec<u8>>, bool)>,
    /// Result formats as sent: none, one for all, or one each.
    pub results: Vec<FormatCode>,
}

impl Args {
    /// One parameter, from 0.
    pub(super) fn param(&self, index: usize) -> Option<ParamValue<'_>> {
        let (value, binary) = self.params.get(index)?;
        Some(ParamValue {
            value: value.as_deref(),
            binary: *binary,
        })
    }

    fn result_format(&self, column: usize) -> FormatCode {
        match self.results.as_slice() {
            [] => FormatCode::Text,
            [all] => *all,
            each => each.get(column).copied().unwrap_or(FormatCode::Text),
        }
    }
}

/// A value appended to the client's parameters.
#[derive(Clone)]
struct Extra {
    value: Option<Vec<u8>>,
    format: FormatCode,
    type_oid: u32,
    /// The elements of an array, where keys are among them.
    elements: Vec<Option<Vec<u8>>>,
}

impl Extra {
    /// An array in binary form.
    fn array(array: &[u8], type_oid: u32) -> Extra {
        Extra {
            value: Some(array.to_vec()),
            format: FormatCode::Binary,
            type_oid,
            elements: Vec::new(),
        }
    }

    fn as_param(&self) -> ParamValue<'_> {
        ParamValue {
            value: self.value.as_deref(),
            binary: self.format == FormatCode::Binary,
        }
    }

    /// An element, in text form.
    fn element(&self, index: usize) -> Option<ParamValue<'_>> {
        self.elements.get(index).map(|value| ParamValue {
            value: value.as_deref(),
            binary: false,
        })
    }
}

/// A value computed beforehand, or an element of it, by the number that a key has for it.
fn extra_value<'a>(
    number: usize,
    own: usize,
    extra: impl FnOnce(usize) -> Option<&'a Extra>,
) -> Option<ParamValue<'a>> {
    let (index, element) = element_of(number);
    let extra = extra(index.checked_sub(own)?)?;
    match element {
        None => Some(extra.as_param()),
        Some(element) => extra.element(element),
    }
}

/// Whether the shards are only read, if there are several, and the home shard does what may change something.
fn gathers(planned: &Planned) -> bool {
    matches!(&planned.plan.many, Many::Gather(gather) if gather.finish_on == FinishPlace::Home)
}

/// Whether the statement may change several shards, or a shard and global indexes.
fn writes_there(planned: &Planned, shards: &[ShardId]) -> bool {
    let several = shards.len() > 1;
    planned.plan.indexed || (planned.plan.writes && several && !gathers(planned))
}

impl Session {
    /// Runs a plan whose prelude must be computed before it is known which shards are concerned.
    pub(super) async fn run_deferred(
        &mut self,
        planned: &Planned,
        text: &str,
        literals: Literals<'_>,
        args: Option<&Args>,
    ) -> Result<(), Fault> {
        self.prepare_snapshot(planned.plan.writes)?;
        let context = self.plan_context().await?;
        let values = self.prelude_values(&planned.plan.prelude).await?;
        let own = usize::from(planned.plan.param_count);
        let param = |number: usize| match number < own {
            true => args.and_then(|args| args.param(number)),
            false => extra_value(number, own, |at| values.get(at)?.as_ref()),
        };
        let shards = resolve(planned, &context.snapshot, literals, param).map_err(Fault::key_problem)?;
        let shards = match shards {
            Shards::One(shard) => vec![shard],
            Shards::Any => vec![self.any_shard()],
            Shards::Many(shards) => shards,
        };
        let asked = Asked {
            text,
            args,
            copy: None,
        };
        self.run_with(planned, &shards, asked, values).await
    }

    /// Runs a plan without a prelude on the given shards and answers the client, up to and without ReadyForQuery.
    /// `args` is absent in the simple protocol, where the result columns are announced first.
    pub(super) async fn run_many(
        &mut self,
        planned: &Planned,
        shards: &[ShardId],
        text: &str,
        args: Option<&Args>,
    ) -> Result<(), Fault> {
        self.prepare_snapshot(planned.plan.writes || shards.len() < 2)?;
        let asked = Asked {
            text,
            args,
            copy: None,
        };
        self.run_with(planned, shards, asked, Vec::new()).await
    }

    /// The same for COPY (query): the rows go to the client as the writer writes them, without a beginning or an end.
    pub(super) async fn run_copied(
        &mut self,
        planned: &Planned,
        shards: &[ShardId],
        text: &str,
        writer: &RefCell<RowWriter>,
    ) -> Result<(), Fault> {
        let args = Args {
            params: Vec::new(),
            results: vec![writer.borrow().values()],
        };
        self.prepare_snapshot(planned.plan.writes)?;
        let values = self.prelude_values(&planned.plan.prelude).await?;
        let asked = Asked {
            text,
            args: Some(&args),
            copy: Some(writer),
        };
        self.run_with(planned, shards, asked, values).await
    }

    /// Runs on these shards. What a statement returns that changes global indexes is told when they have followed, as
    /// PostgreSQL tells it when the statement has succeeded.
    async fn run_with(
        &mut self,
        planned: &Planned,
        shards: &[ShardId],
        asked: Asked<'_>,
        values: Vec<Option<Extra>>,
    ) -> Result<(), Fault> {
        // Which shards those are turns out later.
        if planned.plan.target != Target::Cluster {
            let writes = planned.plan.writes && !gathers(planned);
            self.check_reach(shards.len(), &planned.plan, writes)?;
        }
        let told_late = planned.plan.indexed && planned.plan.returns_rows && asked.copy.is_none();
        if !told_late || self.client.conn.is_held() {
            return self.run_at_once(planned, shards, asked, values).await;
        }
        self.client.conn.hold();
        let result = Box::pin(self.run_at_once(planned, shards, asked, values)).await;
        let held = self.client.conn.release_held();
        let told = if result.is_ok() {
            held
        } else {
            indexes::asides(held)
        };
        self.client.conn.out().extend_from_slice(&told);
        result
    }

    async fn run_at_once(
        &mut self,
        planned: &Planned,
        shards: &[ShardId],
        asked: Asked<'_>,
        values: Vec<Option<Extra>>,
    ) -> Result<(), Fault> {
        let Asked { text, args, copy } = asked;
        let everywhere = planned.plan.target == Target::Every;
        if let (Many::Refuse(refusal), true, false) = (&planned.plan.many, shards.len() > 1, everywhere) {
            return Err(Fault::refused(refusal));
        }
        let none = Args::default();
        let arguments = args.unwrap_or(&none);
        if shards.len() > 1
            && let Some(result) = Box::pin(self.run_carrying(planned, arguments, args.is_none())).await
        {
            return result;
        }
        let context = self.plan_context().await?;
        check_formats(planned, arguments, shards, &context.snapshot)?;
        if writes_there(planned, shards) {
            self.open_implicitly();
        }
        if let (Many::Gather(gather), true) = (&planned.plan.many, shards.len() > 1) {
            return Box::pin(self.run_gather(planned, gather, asked, values)).await;
        }
        let order = self.shard_order(planned, shards);
        self.observation.over(&order);
        let indexes = self.enlist_all(&order).await?;
        let extras = self.times(&planned.plan.prelude, values, indexes[0]).await?;
        self.announce_columns(planned, args);
        let run = Run {
            planned,
            order: &order,
            indexes: &indexes,
            text,
            args: arguments,
            extras: &extras,
            copy,
            origins: &[],
            only_reads: false,
        };
        let whole = run.whole_split(everywhere)?;
        let run = Run {
            text: whole.as_deref().unwrap_or(text),
            ..run
        };
        if everywhere {
            return self.run_everywhere(&run).await;
        }
        if order.len() == 1 {
            return self.run_single(&run).await;
        }
        match &planned.plan.many {
            Many::Refuse(refusal) => Err(Fault::refused(refusal)),
            Many::SumTags { shard_sql } => {
                let sql = shard_sql.as_deref().unwrap_or(text);
                let mut sink = Concat::new(Bounds::default());
                let gathered = self.scatter(&run, Texts::Same(sql), &[], 0, &mut sink).await?;
                self.complete_sum(&gathered)
            }
            Many::Rows(rows) => self.run_rows(&run, rows).await,
            Many::SplitInsert(split) => self.run_split(&run, split, &context.snapshot).await,
            Many::Gather(_) | Many::Transfer(_) | Many::Relocate(_) => {
                Err(Fault::error("XX000", "rows are carried by other means"))
            }
        }
    }

    /// In the simple protocol the result columns come first.
    fn announce_columns(&mut self, planned: &Planned, args: Option<&Args>) {
        if let (None, Some(columns)) = (args, &planned.columns) {
            append_columns(self.client.conn.out(), columns);
        }
    }

    /// Home first where all shards are written alike, so that such statements queue up there and cannot deadlock.
    fn shard_order(&self, planned: &Planned, shards: &[ShardId]) -> Vec<ShardId> {
        let mut order = shards.to_vec();
        if planned.plan.target == Target::Every {
            let home = self.engine.cluster.home();
            order.sort_by_key(|shard| (*shard != home, *shard));
        }
        order
    }

    /// One shard, but not with the client's text alone.
    async fn run_single(&mut self, run: &Run<'_>) -> Result<(), Fault> {
        let sql = run.planned.plan.text.as_deref().unwrap_or(run.text);
        let formats = self.visible_formats(run);
        let mut sink = Concat::new(Bounds::default());
        let gathered = self
            .scatter(run, Texts::Same(sql), &formats, 0, &mut sink)
            .await?;
        if run.copy.is_some() {
            return Ok(());
        }
        self.complete_sum(&gathered)
    }

    /// The same statement on every shard; they must all do the same, and the home shard's rows are the answer. Home
    /// comes first and alone: statements that write the same rows queue up there, and cannot wait for each other in a
    /// circle over several shards, which no server would see.
    async fn run_everywhere(&mut self, run: &Run<'_>) -> Result<(), Fault> {
        if run.order.len() > 1 {
            self.check_copies(run.planned)?;
        }
        self.lock_copies(run.order).await?;
        let sql = run.planned.plan.text.as_deref().unwrap_or(run.text);
        let formats = self.visible_formats(run);
        let (home, others) = (run.part(..1), run.part(1..));
        let mut gathered = self
            .scatter(
                &home,
                Texts::Same(sql),
                &formats,
                0,
                &mut Only {
                    source: Some(0),
                    rows: 0,
                },
            )
            .await?;
        if !others.order.is_empty() {
            let mut nothing = Only {
                source: None,
                rows: 0,
            };
            let rest = self
                .scatter(&others, Texts::Same(sql), &formats, 0, &mut nothing)
                .await?;
            gathered.tags.extend(rest.tags);
        }
        self.complete_equal(&gathered)
    }

    async fn run_rows(&mut self, run: &Run<'_>, rows: &RowsPlan) -> Result<(), Fault> {
        let own = self.own_texts(run, rows).await?;
        let texts = || match &own {
            Some(own) => Texts::Each(own),
            None => Texts::Same(rows.shard_sql.as_deref().unwrap_or(run.text)),
        };
        match &rows.combine {
            Combine::Concat { limit } => {
                let bounds = bounds(limit, run.args)?;
                let mut sink = Concat::new(bounds);
                let formats = self.visible_formats(run);
                let gathered = self
                    .scatter(run, texts(), &formats, per_source(bounds), &mut sink)
                    .await?;
                self.complete_rows(run, rows, &gathered, sink.rows)
            }
            Combine::Ordered { keys, limit } => {
                self.check_order(keys).await?;
                let bounds = bounds(limit, run.args)?;
                let keys = sort_keys(keys)?;
                let formats = ordered_formats(run, rows, &keys);
                let mut sink = Ordered::new(keys, run.order.len(), bounds, rows.visible);
                let gathered = self
                    .scatter(run, texts(), &formats, per_source(bounds), &mut sink)
                    .await?;
                self.complete_rows(run, rows, &gathered, sink.rows)
            }
            Combine::Finish { sql: finish, inputs } => {
                let limit = self.gather_limit();
                let arrays = ArrayColumns::new(inputs.iter().map(|input| input.type_oid), limit);
                let mut sink = Collect { arrays };
                let binary = vec![FormatCode::Binary; rows.width];
                self.scatter(run, texts(), &binary, 0, &mut sink).await?;
                self.observation
                    .moved(u64::from(sink.arrays.rows()), sink.arrays.bytes());
                let arrays = sink.arrays.finish();
                match run.copy {
                    None => self.finish(run, finish, inputs, arrays).await,
                    Some(writer) => self.finish_copied(run, finish, inputs, arrays, writer).await,
                }
            }
        }
    }

    /// The text of each shard, where they differ: see [`plan::OwnRows`].
    async fn own_texts(&mut self, run: &Run<'_>, rows: &RowsPlan) -> Result<Option<Vec<String>>, Fault> {
        if rows.own.is_empty() {
            return Ok(None);
        }
        let context = self.plan_context().await?;
        let of = |shard: &ShardId| rows.text_for(run.text, *shard, &context.snapshot);
        let texts: Option<Vec<String>> = run.order.iter().map(|s| of(s).map(Cow::into_owned)).collect();
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(Fault::error(
                "XX000",
                "a plan names a shard map that is not known",
            )),
        }
    }

    async fn run_split(
        &mut self,
        run: &Run<'_>,
        split: &SplitInsert,
        snapshot: &Snapshot,
    ) -> Result<(), Fault> {
        let Target::Keys { map, .. } = &run.planned.plan.target else {
            return Err(Fault::error("XX000", "a split INSERT has no key"));
        };
        let mut texts: Vec<String> = vec![String::new(); run.order.len()];
        let mut origins: Vec<Origins> = vec![Origins::new(); run.order.len()];
        let mut places = Vec::with_capacity(split.rows.len());
        for (number, row) in split.rows.iter().enumerate() {
            let shard =
                place_of(&row.key, *map, snapshot, &|index| run.param(index)).map_err(Fault::key_problem)?;
            let Some(at) = run.order.iter().position(|other| *other == shard) else {
                return Err(Fault::error(
                    "XX000",
                    "a row belongs to no shard of the statement",
                ));
            };
            let text = &mut texts[at];
            if text.is_empty() {
                origins[at].push((0, 0));
            }
            text.push_str(if text.is_empty() { &split.head } else { ", " });
            origins[at].extend(run.planned.rows_at.get(number).map(|start| (text.len(), *start)));
            run.push_row(row, text)?;
            places.push(at);
        }
        for (text, origins) in texts.iter_mut().zip(&mut origins) {
            origins.extend(run.planned.rows_at.last().map(|tail| (text.len(), *tail)));
            text.push_str(&split.tail);
        }
        let run = &Run {
            origins: if run.planned.rows_at.is_empty() {
                &[]
            } else {
                &origins
            },
            ..*run
        };
        let formats = self.visible_formats(run);
        if split.returning && split.keeps_order {
            let mut sink = Keep::new(run.order.len(), self.gather_limit());
            let gathered = self
                .scatter(run, Texts::Each(&texts), &formats, 0, &mut sink)
                .await?;
            emit_in_order(self.client.conn.out(), sink, &places);
            return self.complete_sum(&gathered);
        }
        let mut sink = Concat::new(Bounds::default());
        let gathered = self
            .scatter(run, Texts::Each(&texts), &formats, 0, &mut sink)
            .await?;
        self.complete_sum(&gathered)
    }

    /// The client's formats, one per visible column.
    fn visible_formats(&self, run: &Run<'_>) -> Vec<FormatCode> {
        let width = column_count(run.planned);
        (0..width).map(|column| run.args.result_format(column)).collect()
    }

    /// Texts made here are UTF-8, and servers take what they get for the client's encoding.
    fn check_understood(&self, indexes: &[usize], texts: &Texts<'_>) -> Result<(), Fault> {
        let understood = |(turn, index): (usize, &usize)| {
            scatter::is_understood(&self.servers[*index].lease, texts.of(turn))
        };
        match indexes.iter().enumerate().all(understood) {
            true => Ok(()),
            false => Err(Fault::refused_as(plan::RefusalCode::ClientEncoding)),
        }
    }

    /// Sends to every shard and reads all answers; global indexes have followed then.
    async fn scatter(
        &mut self,
        run: &Run<'_>,
        texts: Texts<'_>,
        formats: &[FormatCode],
        max_rows: u32,
        sink: &mut impl Sink,
    ) -> Result<Gathered, Fault> {
        let gathered = self.scatter_once(run, texts, formats, max_rows, sink).await?;
        if run.planned.plan.indexed && !run.only_reads {
            Box::pin(self.follow_changes(run.order)).await?;
        }
        Ok(gathered)
    }

    async fn scatter_once(
        &mut self,
        run: &Run<'_>,
        texts: Texts<'_>,
        formats: &[FormatCode],
        max_rows: u32,
        sink: &mut impl Sink,
    ) -> Result<Gathered, Fault> {
        if run.indexes.len() > 1 {
            self.engine.metrics.statements_scattered.increment();
        }
        let indexed = run.planned.plan.indexed && !run.only_reads;
        let skips = self.begin_noting(run.indexes, indexed).await?;
        let skips = match self.observation.steps {
            Some(_) => Box::pin(self.explain_first(run, &texts, skips)).await?,
            None => skips,
        };
        let wrote = match run.planned.plan.writes && !run.only_reads {
            true => Wrote::Yes,
            false => Wrote::No,
        };
        self.send_all(run, &texts, formats, (b"", max_rows), wrote)?;
        self.hear_all(run, &texts, &skips, sink).await
    }

    /// Sends to every shard: opens a portal of this name and asks it for so many rows, 0 = all.
    fn send_all(
        &mut self,
        run: &Run<'_>,
        texts: &Texts<'_>,
        formats: &[FormatCode],
        (portal, max_rows): (&[u8], u32),
        wrote: Wrote,
    ) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        self.check_understood(run.indexes, texts)?;
        for (turn, index) in run.indexes.iter().enumerate() {
            let (types, params) = run.params_of(texts, turn, self.servers[*index].shard == home);
            let request = Request {
                sql: texts.of(turn),
                types: &types,
                params: &params,
                formats,
                max_rows,
                describe: false,
            };
            let server = &mut self.servers[*index];
            server.wrote = server.wrote.max_with(wrote);
            server.busy = true;
            scatter::open(&mut server.lease, portal, &request)
                .map_err(|_| Fault::error("54000", "the statement is too long"))?;
        }
        Ok(())
    }

    /// Reads what every shard answers.
    async fn hear_all(
        &mut self,
        run: &Run<'_>,
        texts: &Texts<'_>,
        skips: &[usize],
        sink: &mut impl Sink,
    ) -> Result<Gathered, Fault> {
        let slot = std::sync::Arc::clone(&self.cancel.slot);
        let limit_bytes = if self.client.conn.is_held() {
            self.gather_limit()
        } else {
            usize::MAX
        };
        let pending = std::cell::Cell::new(0);
        let counts = explained::Counts::default();
        let mut sink = Redirected::new(sink, self.destination(run, &counts));
        let budget = self.counting_budget();
        let mut sink = Limited {
            inner: &mut sink,
            limit_bytes,
            pending_bytes_most: &pending,
            budget: budget.as_deref(),
        };
        let began = self.observation.server_begins();
        let sent = self.observation.steps.is_some().then(Instant::now);
        let movable = self.read_can_move();
        let guard = Guard::of(&self.engine, &self.servers, movable);
        let mut sources = sources_of(&mut self.servers, run.indexes, skips);
        let running = scatter::run(&mut sources, &mut self.client.conn, &mut sink, async || {
            slot.cancel_servers().await;
        });
        let result = guarded_kept_back(guard, &pending, running).await;
        let ended: Vec<Ended> = sources.into_iter().map(Ended::from).collect();
        for shard in run.order {
            self.observation.server_ends(began, *shard);
        }
        for (index, ended) in run.indexes.iter().zip(&ended) {
            self.servers[*index].busy = !ended.done || ended.lost.is_some();
        }
        if let Some(sent) = sent {
            self.note_step(sent, &counts, &ended);
        }
        let sink_error = result.map_err(Fault::from)?;
        self.first_failure(run, texts, ended, sink_error)
    }

    /// One error for the client: the sink's, else the first that is not merely the cancel it caused.
    fn first_failure(
        &mut self,
        run: &Run<'_>,
        texts: &Texts<'_>,
        ended: Vec<Ended>,
        sink_error: Option<Box<ErrorFields>>,
    ) -> Result<Gathered, Fault> {
        // What was too much for the budget is counted as such; the sink's error says so.
        let mut failure =
            sink_error.map(|error| self.check_budget().err().unwrap_or(Fault::Statement(error)));
        let mut cancelled = None;
        let mut tags = Vec::with_capacity(ended.len());
        let complete = ended.iter().map(|source| source.tag.is_some()).collect();
        for (turn, source) in ended.into_iter().enumerate() {
            if let Some(error) = &source.lost {
                let name = self.shard_name(run.order[turn]);
                failure.get_or_insert(Fault::lost(error, &name));
            }
            if let Some(mut error) = source.error {
                // A position counts in the shard's text, a line number in its part of the data.
                error.position = error.position.and_then(|at| run.position(turn, texts, at));
                if error.code == "57014" {
                    cancelled.get_or_insert(Fault::Statement(error));
                } else if !matches!(&failure, Some(known) if !precedes(&error, known)) {
                    failure = Some(Fault::Statement(error));
                }
            }
            tags.extend(source.tag);
        }
        match failure.or(cancelled) {
            Some(fault) => {
                // Lost ones are closed; the others have answered.
                self.drop_busy_servers();
                Err(fault)
            }
            None => Ok(Gathered { tags, complete }),
        }
    }
}

struct Ended {
    tag: Option<Vec<u8>>,
    error: Option<Box<ErrorFields>>,
    lost: Option<link::LinkError>,
    done: bool,
    /// When its answer was complete.
    at: Option<Instant>,
}

impl From<Source<'_>> for Ended {
    fn from(source: Source<'_>) -> Self {
        Self {
            tag: source.tag,
            error: source.error,
            lost: source.lost,
            done: source.done,
            at: source.ended,
        }
    }
}

/// The servers of a statement, in its own order.
fn sources_of<'a>(
    servers: &'a mut [super::block::Enlisted],
    indexes: &[usize],
    skips: &[usize],
) -> Vec<Source<'a>> {
    let mut found: Vec<(usize, Source<'a>)> = servers
        .iter_mut()
        .enumerate()
        .filter_map(|(at, server)| {
            let turn = indexes.iter().position(|index| *index == at)?;
            Some((turn, Source::new(&mut server.lease, skips[turn])))
        })
        .collect();
    found.sort_by_key(|(turn, _)| *turn);
    found.into_iter().map(|(_, source)| source).collect()
}

/// The bytes of parameters.
fn bytes_of(params: &[SentParam<'_>]) -> usize {
    params.iter().map(|(value, _)| value.map_or(0, <[u8]>::len)).sum()
}

fn column_count(planned: &Planned) -> usize {
    planned
        .columns
        .as_deref()
        .and_then(decode_columns)
        .map_or(0, |columns| columns.len())
}

/// Announces result columns (a RowDescription body in text format).
pub(super) fn append_columns(out: &mut BytesMut, body: &[u8]) {
    out.extend_from_slice(b"T");
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
}

/// Sort columns are compared in binary; the others have the client's formats. A sort column that the client sees in
/// text cannot be both, so plans give sort keys columns of their own.
fn ordered_formats(run: &Run<'_>, rows: &RowsPlan, keys: &[merge::SortKey]) -> Vec<FormatCode> {
    (0..rows.width)
        .map(|column| {
            if column >= rows.visible || keys.iter().any(|key| key.column == column) {
                FormatCode::Binary
            } else {
                run.args.result_format(column)
            }
        })
        .collect()
}

fn emit_in_order(out: &mut BytesMut, sink: Keep, places: &[usize]) {
    let mut counts = vec![0; sink.rows.len()];
    for place in places {
        counts[*place] += 1;
    }
    let exact = sink
        .rows
        .iter()
        .zip(&counts)
        .all(|(rows, count)| rows.len() == *count);
    let mut queues: Vec<_> = sink.rows.into_iter().map(Vec::into_iter).collect();
    if exact {
        for place in places {
            if let Some(row) = queues[*place].next() {
                out.extend_from_slice(&row);
            }
        }
        return;
    }
    // A trigger dropped rows: nothing says which, so each shard's rows stay together.
    for row in queues.into_iter().flatten() {
        out.extend_from_slice(&row);
    }
}

/// Which of two errors PostgreSQL would have met first: what is wrong with the text, from its beginning, and then all else.
fn precedes(error: &ErrorFields, known: &Fault) -> bool {
    match (error.position, known) {
        (Some(at), Fault::Statement(known)) => known.position.is_none_or(|other| at < other),
        _ => false,
    }
}
