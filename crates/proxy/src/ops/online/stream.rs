//! From copies to the cutover: changes are read from the source's log and applied.

use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::ShardId;
use movement::Lsn;
use movement::apply::Table;
use movement::pgoutput::{self, DecodeError, Frame, Message, Row, Value};
use movement::route::{self, Change, Place};
use sql::quote_literal;
use wire::backend::tag;
use wire::frontend;

use super::lane::Lane;
use super::legs::Leg;
use super::look::{Look, look};
use super::{Job, Trouble, cutover, prepare, verify, wanted};
use crate::admin_link::{AdminError, AdminLink};
use crate::exec::link::{self, LinkError};
use crate::ops::OpError;
use crate::ops::check::Division;
use crate::ops::effects::text_sql;
use crate::ops::faults::Step;
use crate::ops::join::try_join_all;
use crate::ops::part::{Part, shard_name};

/// Bytes of whole transactions that wait before they are applied, when more are there to be read.
const BATCH_BYTES: usize = 64 * 1024;

/// The source is told this often how far the targets are.
const CONFIRM_EVERY: Duration = Duration::from_secs(2);

/// Progress is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The stream is close enough behind for a cutover.
const CLOSE: Duration = Duration::from_secs(1);

/// Prefix of markers in the log.
const MARKER: &str = "drover";

/// The stream of the source's changes, and the targets.
pub(super) struct Stream {
    pub(super) source: ShardId,
    pub(super) source_name: String,
    /// The table on the source, as SQL.
    pub(super) source_table: String,
    log: AdminLink,
    /// For everything else on the source.
    pub(super) admin: AdminLink,
    pub(super) lanes: Vec<Lane>,
    changes: Changes,
    /// Confirmed up to here.
    confirmed: Lsn,
    said: Instant,
    noted: Instant,
    /// When the marker was written that is being looked for.
    marked: Option<Instant>,
    /// Bytes read and not noted.
    bytes: u64,
    markers: u64,
}

/// How changes find their targets.
struct Changes {
    table: Table,
    names: Vec<String>,
    division: Option<Division>,
    /// Positions of the key among the columns.
    key: Vec<usize>,
    source: ShardId,
    oid: u32,
    /// The source's transaction under way.
    commit: Option<Lsn>,
    /// A marker in it.
    marker: Option<Vec<u8>>,
    count: u64,
}

/// What a message ended.
enum Heard {
    /// Nothing.
    Nothing,
    /// A transaction, and all before it.
    Transaction(Lsn),
}

/// Applies changes until little is left, compares, and cuts over.
pub(super) async fn run(job: &mut Job<'_>) -> Result<(), Trouble> {
    job.check_wanted()?;
    let look = look_now(job).await?;
    if Some(&look.digest) != job.workflow().digest.as_ref() {
        return Err(changed());
    }
    let mut streams = Vec::new();
    for leg in job.legs() {
        streams.push(Stream::open(job, &look, &leg).await?);
    }
    come_close(job, &mut streams).await?;
    job.faults.reached(Step::Streamed).await?;
    job.say("changes are applied; comparing both sides");
    for stream in &mut streams {
        verify::run(job, stream).await?;
    }
    job.faults.reached(Step::Compared).await?;
    come_close(job, &mut streams).await?;
    cutover::run(job, &mut streams).await
}

/// Applies changes until the targets are less than a moment behind every source.
async fn come_close(job: &mut Job<'_>, streams: &mut [Stream]) -> Result<(), Trouble> {
    loop {
        let asked = Instant::now();
        for stream in streams.iter_mut() {
            let marker = stream.mark(job).await?;
            stream.reach(job, &marker).await?;
        }
        note_counts(job, streams, asked.elapsed()).await?;
        if asked.elapsed() < CLOSE * u32::try_from(streams.len()).unwrap_or(1) {
            return Ok(());
        }
    }
}

/// The table is not what was copied.
pub(super) fn changed() -> Trouble {
    Trouble::Again {
        reason: "the table, or where its rows belong, was changed meanwhile".to_owned(),
        full_identity: false,
    }
}

async fn look_now(job: &Job<'_>) -> Result<Look, OpError> {
    let record = job.cluster.record();
    let workflow = job.workflow();
    let mut home = Part::begin(job.cluster, record.home, &workflow.database).await?;
    let wanted = wanted(workflow, &job.goal);
    let looked = look(&mut home, &record, &wanted).await;
    home.roll_back().await;
    looked
}

/// What has been applied up to the last markers, which took so long.
pub(super) async fn note_counts(
    job: &mut Job<'_>,
    streams: &mut [Stream],
    lag: Duration,
) -> Result<(), Trouble> {
    let (mut changes, mut bytes) = (0, 0);
    for stream in streams {
        let more = stream.take_counts();
        changes += more.0;
        bytes += more.1;
    }
    job.cluster.figures.move_changes.add_shared(changes);
    job.cluster.figures.move_log_bytes.add_shared(bytes);
    job.note(|progress| {
        progress.changes += changes;
        progress.log_bytes += bytes;
        progress.lag_ms = milliseconds(lag);
    })
    .await
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Stream {
    /// The table on the targets, as changes are applied to it.
    pub(super) fn table(&self) -> &Table {
        &self.changes.table
    }

    /// Which rows belong where; `None`: all of them everywhere.
    pub(super) fn division(&self) -> Option<&Division> {
        self.changes.division.as_ref()
    }

    async fn open(job: &Job<'_>, look: &Look, leg: &Leg) -> Result<Stream, Trouble> {
        let workflow = job.workflow();
        let cluster = job.cluster;
        let lanes = try_join_all(leg.targets.iter().map(async |shard| {
            let name = shard_name(cluster, *shard);
            let link = prepare::link(cluster, *shard, &workflow.database).await?;
            Lane::new((*shard, name), link, &leg.row, workflow.attempt).await
        }))
        .await?;
        let source = leg.source;
        let source_name = shard_name(cluster, source);
        let mut admin = prepare::link(cluster, source, &workflow.database).await?;
        let on = OpError::on(&source_name);
        let log = cluster
            .replication_link(source, &workflow.database)
            .await
            .map_err(&on)?;
        let oid = format!(
            "SELECT pg_catalog.to_regclass({})::oid",
            text_sql(&look.movable.sql_name)
        );
        let oid = admin.value(&oid).await.map_err(&on)?;
        let Some(oid) = oid.and_then(|oid| oid.parse().ok()) else {
            return Err(changed());
        };
        let mut stream = Stream {
            source,
            source_name,
            source_table: look.movable.sql_name.clone(),
            log,
            admin,
            lanes,
            changes: Changes::new(look, leg, oid),
            confirmed: Lsn(0),
            said: Instant::now(),
            noted: Instant::now(),
            marked: None,
            bytes: 0,
            markers: 0,
        };
        stream.start(&prepare::tool_name(&workflow.id)).await?;
        Ok(stream)
    }

    async fn start(&mut self, tool: &str) -> Result<(), Trouble> {
        let look = format!(
            "SELECT wal_status = 'lost', active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = '{tool}'"
        );
        let on = OpError::on(&self.source_name);
        let slot = self.admin.rows(&look).await.map_err(&on)?;
        match slot.first().map(Vec::as_slice) {
            Some([lost, _]) if lost.as_deref() != Some("t") => {}
            _ => {
                return Err(Trouble::Again {
                    reason: "the source has lost its slot".to_owned(),
                    full_identity: false,
                });
            }
        }
        if let Some([_, Some(pid)]) = slot.first().map(Vec::as_slice) {
            // Of a proxy that is gone; its server has not noticed.
            let end = format!("SELECT pg_catalog.pg_terminate_backend({pid}, 5000)");
            self.admin.run(&end).await.map_err(&on)?;
        }
        // While the targets are compared nothing is read for as long as that takes.
        let settings = format!("{}; SET wal_sender_timeout = 0", prepare::SETTINGS);
        self.log.run(&settings).await.map_err(&on)?;
        let start = format!(
            "START_REPLICATION SLOT {tool} LOGICAL 0/0 (proto_version '1', publication_names '{tool}', messages 'true')"
        );
        let server = &mut self.log.server;
        link::send_query(server, &start).map_err(|error| on(AdminError::Link(error)))?;
        loop {
            let frame = link::next_frame(server)
                .await
                .map_err(|error| on(AdminError::Link(error)))?;
            match frame.tag {
                tag::COPY_BOTH => {
                    server.conn.consume(frame.len);
                    return Ok(());
                }
                tag::ERROR => {
                    let reply = link::collect(server)
                        .await
                        .map_err(|error| on(AdminError::Link(error)))?;
                    let error = reply.error.map(AdminError::Server);
                    let error = error.unwrap_or_else(|| AdminError::State("no stream".to_owned()));
                    return Err(on(error).into());
                }
                _ => server.conn.consume(frame.len),
            }
        }
    }

    /// Writes a marker into the source's log; it is durable, as all that committed before is.
    pub(super) async fn mark(&mut self, job: &Job<'_>) -> Result<String, OpError> {
        self.markers += 1;
        self.marked = Some(Instant::now());
        let marker = format!("{} {}", job.workflow().id, self.markers);
        let sql = format!(
            "SET synchronous_commit = local; SELECT pg_catalog.pg_logical_emit_message(true, '{MARKER}', {})",
            quote_literal(&marker)
        );
        let done = self.admin.run(&sql).await;
        done.map_err(OpError::on(&self.source_name))?;
        Ok(marker)
    }

    /// Reads and applies until the marker was seen: the targets are exactly there.
    pub(super) async fn reach(&mut self, job: &mut Job<'_>, marker: &str) -> Result<(), Trouble> {
        loop {
            self.note(job).await?;
            let Some(message) = self.next().await? else {
                continue;
            };
            match pgoutput::frame(&message).map_err(|error| self.broken(&error))? {
                Frame::Keepalive { sent, reply } => {
                    if self.changes.commit.is_none() && self.waiting() == 0 {
                        self.confirmed = self.confirmed.max(sent);
                    }
                    self.confirm(reply).await?;
                }
                Frame::Data(data) => {
                    let data = pgoutput::decode(data).map_err(|error| self.broken(&error))?;
                    let heard = self.changes.hear(data, &mut self.lanes)?;
                    for lane in &mut self.lanes {
                        lane.relieve().await?;
                    }
                    let Heard::Transaction(end) = heard else {
                        continue;
                    };
                    let seen = self.changes.marker.take();
                    let here = seen.is_some_and(|seen| seen == marker.as_bytes());
                    if here || self.waiting() >= BATCH_BYTES || !self.more_is_there() {
                        self.flush().await?;
                        self.confirmed = self.confirmed.max(end);
                    }
                    if here {
                        self.confirm(true).await?;
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Trouble> {
        try_join_all(self.lanes.iter_mut().map(Lane::flush))
            .await
            .map(drop)
    }

    fn waiting(&self) -> usize {
        self.lanes.iter().map(Lane::waiting).sum()
    }

    fn more_is_there(&self) -> bool {
        matches!(self.log.server.conn.peek(usize::MAX), Ok(Some(frame)) if self.log.server.conn.unread().len() >= frame.len)
    }

    /// The next message; `None`: not within the time after which progress is noted.
    async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let on = OpError::on(&self.source_name);
        let server = &mut self.log.server;
        let frame = match tokio::time::timeout(NOTE_EVERY, link::next_frame(server)).await {
            Err(_) => return Ok(None),
            Ok(frame) => frame.map_err(|error| on(AdminError::Link(error)))?,
        };
        match frame.tag {
            tag::COPY_DATA => {
                let bytes = server.conn.take(frame.len).freeze();
                self.bytes += bytes.len() as u64;
                // Behind the tag and the length.
                Ok(Some(bytes.slice(5.min(bytes.len())..)))
            }
            tag::ERROR => {
                let reply = link::collect(server)
                    .await
                    .map_err(|error| on(AdminError::Link(error)))?;
                let error = reply.error.map(AdminError::Server);
                let ended = LinkError::Protocol("the stream ended");
                Err(on(error.unwrap_or(AdminError::Link(ended))).into())
            }
            tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => {
                server.conn.consume(frame.len);
                Ok(None)
            }
            _ => Err(on(AdminError::Link(LinkError::Protocol("the stream ended"))).into()),
        }
    }

    /// Tells the source how far the targets are: at once, or now and then.
    async fn confirm(&mut self, at_once: bool) -> Result<(), Trouble> {
        if !at_once && self.said.elapsed() < CONFIRM_EVERY {
            return Ok(());
        }
        self.said = Instant::now();
        let on = OpError::on(&self.source_name);
        let conn = &mut self.log.server.conn;
        let lost = |error| on(AdminError::Link(LinkError::Lost(error)));
        frontend::encode::copy_data(conn.out(), &pgoutput::status(self.confirmed))
            .map_err(|_| on(AdminError::Link(LinkError::Protocol("message too long"))))?;
        conn.flush().await.map_err(lost)?;
        Ok(())
    }

    async fn note(&mut self, job: &mut Job<'_>) -> Result<(), Trouble> {
        if self.noted.elapsed() < NOTE_EVERY {
            return Ok(());
        }
        self.noted = Instant::now();
        let lag = self.marked.map_or(0, |marked| milliseconds(marked.elapsed()));
        let (changes, bytes) = self.take_counts();
        self.confirm(false).await?;
        let figures = &job.cluster.figures;
        figures.move_changes.add_shared(changes);
        figures.move_log_bytes.add_shared(bytes);
        job.note(|progress| {
            progress.changes += changes;
            progress.log_bytes += bytes;
            progress.lag_ms = lag;
        })
        .await
    }

    /// Changes and bytes since the last time.
    fn take_counts(&mut self) -> (u64, u64) {
        (
            std::mem::take(&mut self.changes.count),
            std::mem::take(&mut self.bytes),
        )
    }

    fn broken(&self, error: &DecodeError) -> OpError {
        OpError::on(&self.source_name)(AdminError::State(error.to_string()))
    }
}

impl Changes {
    fn new(look: &Look, leg: &Leg, oid: u32) -> Changes {
        let division = look.movable.division.clone();
        let key = division
            .iter()
            .flat_map(Division::key_columns)
            .filter_map(|column| look.names.iter().position(|name| name == column))
            .collect();
        Changes {
            table: Table {
                name: leg.into.clone(),
                ..look.table.clone()
            },
            names: look.names.clone(),
            division,
            key,
            source: leg.source,
            oid,
            commit: None,
            marker: None,
            count: 0,
        }
    }

    fn hear(&mut self, message: Message<'_>, lanes: &mut [Lane]) -> Result<Heard, Trouble> {
        match message {
            Message::Begin { commit } => self.commit = Some(commit),
            Message::Commit { end, .. } => {
                self.commit = None;
                return Ok(Heard::Transaction(end));
            }
            Message::Relation(relation) => {
                let names = relation.columns.iter().map(|column| &column.name);
                if relation.oid == self.oid && !names.eq(&self.names) {
                    return Err(changed());
                }
            }
            Message::Insert { relation, new } if relation == self.oid => match self.place(&new)? {
                Some(place) => self.give(place, &Change::Insert(new), lanes)?,
                None => self.give_all(&Change::Insert(new), lanes)?,
            },
            Message::Delete { relation, old } if relation == self.oid => match self.place(&old)? {
                Some(place) => self.give(place, &Change::Delete(old), lanes)?,
                None => self.give_all(&Change::Delete(old), lanes)?,
            },
            Message::Update { relation, old, new } if relation == self.oid => self.update(old, new, lanes)?,
            Message::Truncate { relations } if relations.contains(&self.oid) => {
                let commit = self.commit.unwrap_or_default();
                for lane in lanes.iter_mut().filter(|lane| !lane.has(commit)) {
                    lane.truncate(&self.table, commit);
                }
            }
            Message::Logical { prefix, content } if prefix == MARKER => self.marker = Some(content.to_vec()),
            _ => {}
        }
        Ok(Heard::Nothing)
    }

    fn update<'a>(&mut self, old: Option<Row<'a>>, new: Row<'a>, lanes: &mut [Lane]) -> Result<(), Trouble> {
        let to = self.place(&new)?;
        let from = match &old {
            Some(old) => self.place(old)?,
            None => to,
        };
        let (Some(from), Some(to)) = (from, to) else {
            let old = old.unwrap_or_else(|| new.clone());
            return self.give_all(&Change::Update { old, new }, lanes);
        };
        let changes = route::update(old, new, (from, to)).map_err(|_| Trouble::Again {
            reason: "a row went to another shard while values of it were not in the log".to_owned(),
            full_identity: true,
        })?;
        for (shard, change) in changes {
            self.give(Place::Target(shard), &change, lanes)?;
        }
        Ok(())
    }

    /// Where a row belongs; `None`: everywhere.
    fn place(&self, row: &Row<'_>) -> Result<Option<Place<ShardId>>, OpError> {
        let Some(division) = &self.division else {
            return Ok(None);
        };
        let unreadable = |what: String| OpError::refused("XX000", format!("a key in the log: {what}"));
        let mut values = Vec::with_capacity(self.key.len());
        for at in &self.key {
            values.push(match row.get(*at) {
                Some(Value::Text(text)) => Some(*text),
                Some(Value::Null) => None,
                Some(Value::Unchanged) | None => return Err(unreadable("it is not there".to_owned())),
            });
        }
        let shard = division
            .shard_of(&values)
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(if shard == self.source {
            Place::Stays
        } else {
            Place::Target(shard)
        }))
    }

    fn give(
        &mut self,
        place: Place<ShardId>,
        change: &Change<'_>,
        lanes: &mut [Lane],
    ) -> Result<(), Trouble> {
        let Place::Target(shard) = place else {
            return Ok(());
        };
        let commit = self.commit.unwrap_or_default();
        let Some(lane) = lanes.iter_mut().find(|lane| lane.shard == shard) else {
            return Err(OpError::refused("XX000", format!("shard {shard} is no target")).into());
        };
        if !lane.has(commit) {
            self.count += 1;
            lane.add(&self.table, change, commit)?;
        }
        Ok(())
    }

    fn give_all(&mut self, change: &Change<'_>, lanes: &mut [Lane]) -> Result<(), Trouble> {
        let shards: Vec<ShardId> = lanes.iter().map(|lane| lane.shard).collect();
        for shard in shards {
            self.give(Place::Target(shard), change, lanes)?;
        }
        Ok(())
    }
}
