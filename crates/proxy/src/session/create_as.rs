//! CREATE TABLE … AS a query over shards, and SELECT … INTO.
//!
//! | step | what can fail, and then |
//! |---|---|
//! | the query is planned | it is refused: nothing has run |
//! | a block is opened where the client has none: everything below is one transaction | – |
//! | the query runs like any other, its rows are kept here as COPY writes them (bounded by `gather_max_bytes`) | its error is the statement's |
//! | the home shard runs the client's own statement WITH NO DATA, so that names, types and collations are PostgreSQL's | the same |
//! | the home shard takes the rows by COPY | the block fails everywhere |
//!
//! The query runs before the table is there: a new table, a temporary one above all, may have the name of one that the query
//! reads.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use bytes::BytesMut;
use catalog::Snapshot;
use plan::{DdlPlace, DdlPlan, Refusal, RefusalCode, StatementKind};
use sql::{CreateTableAs, QualifiedName};
use wire::backend::{ErrorFields, tag};
use wire::copy::{CopyFormat, RowWriter};
use wire::{frame, frontend};

use super::block::Wrote;
use super::learn::decode_columns;
use super::many::formats::portable_in_binary;
use super::{Fault, Session};
use crate::exec::link::{self, LinkError, Reply};
use crate::exec::relay;
use crate::exec::statement::Planned;
use crate::server::ServerConn;

/// Bytes that are handed to the server at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What to do where the rows are too many.
const CREATE_FIRST: &str = "create the table first and insert the rows in several statements";

/// Types whose values are numbers of objects, which differ from shard to shard: oid and the reg… types.
const OBJECT_IDS: [u32; 12] = [26, 24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191];

impl Session {
    /// Runs it. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_create_as(&mut self, create: &CreateTableAs, text: &str) -> Result<(), Fault> {
        let kind = sql::StatementKind::CreateTableAs;
        let refused = |why: &str| Fault::refused(&Refusal::with(RefusalCode::CreateTableAs, why));
        let range = create.query.clone().ok_or_else(|| refused("no query"))?;
        let parts = parts(create, &range, text);
        let (query, definition) = parts.ok_or_else(|| refused("the query cannot be found in the text"))?;
        let query = &*query;
        // A comment may end the query.
        let definition = format!("{definition}\nWITH NO DATA");
        let table = self.new_name(create).await?;
        if create.if_not_exists && self.is_there(&table).await? {
            return self
                .run_ddl(&DdlPlan::at(DdlPlace::Home), &definition, kind)
                .await;
        }
        let planned = self.plan_inner(query).await;
        let (planned, shards) = planned.map_err(|fault| in_whole(fault, text, range.start))?;
        let shards = shards.ok_or_else(|| refused("parameters"))?;
        let context = self.plan_context().await?;
        if let Some(why) = obstacle(&planned, &context.snapshot) {
            return Err(refused(why));
        }
        if !context.utf8 {
            return Err(Fault::refused_as(RefusalCode::ClientEncoding));
        }
        if !self.block.is_open() {
            self.block.open("BEGIN".to_owned(), true);
            self.settings.begin();
        }
        let (rows, count) = self
            .rows_as_copied(&planned, &shards, query, ("new table", CREATE_FIRST))
            .await?;
        self.define_in_block(&DdlPlan::at(DdlPlace::Home), &definition, kind)
            .await?;
        self.copy_home(&table, &rows).await?;
        self.complete(&format!("SELECT {count}"))
    }

    /// The table's full name, as it will be.
    async fn new_name(&mut self, create: &CreateTableAs) -> Result<QualifiedName, Fault> {
        let name = create.table.name.clone();
        if create.temporary {
            return Ok(QualifiedName::qualified("pg_temp", name));
        }
        if create.table.schema.is_some() {
            return Ok(create.table.clone());
        }
        let context = self.plan_context().await?;
        match context.search_path.first() {
            Some(schema) => Ok(QualifiedName::qualified(schema.clone(), name)),
            None => Err(Fault::error("3F000", "no schema has been selected to create in")),
        }
    }

    /// Whether there is something of this name that IF NOT EXISTS would leave alone.
    async fn is_there(&mut self, table: &QualifiedName) -> Result<bool, Fault> {
        let home = self.engine.cluster.home();
        let question = format!(
            "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
            sql::quote_literal(&table.to_string())
        );
        let was_open = self.block.is_open();
        if !was_open {
            self.block.open("BEGIN".to_owned(), true);
            self.settings.begin();
        }
        let reply = self.run_on(home, &question).await?;
        Ok(reply.single() == Some("t"))
    }

    /// Runs the query with its rows kept: CopyData messages, and how many rows.
    pub(super) async fn rows_as_copied(
        &mut self,
        planned: &Planned,
        shards: &[catalog::ShardId],
        query: &str,
        (what, instead): (&str, &str),
    ) -> Result<(BytesMut, u64), Fault> {
        let columns = planned.columns.as_deref().and_then(decode_columns);
        let width = columns.map_or(0, |columns| columns.len());
        let writer = RefCell::new(RowWriter::new(CopyFormat::Binary, Vec::new(), width));
        let outer = self.client.conn.is_held().then(|| self.client.conn.out().split());
        self.client.conn.hold();
        let result = self.run_copied(planned, shards, query, &writer).await;
        let mut writer = writer.into_inner();
        writer.end(self.client.conn.out());
        let kept = match outer {
            Some(before) => std::mem::replace(self.client.conn.out(), before),
            None => self.client.conn.release_held(),
        };
        self.block.tag = None;
        let limit = self.gather_limit();
        let too_large = kept.len() > limit;
        let rows = self.copied_rows(kept);
        result?;
        if too_large {
            let text = format!("the rows of the {what} exceed {limit} bytes");
            let hint = format!("Raise gather_max_bytes, or {instead}.");
            let fields = ErrorFields::error("53400", text).with_hint(&hint);
            return Err(Fault::Statement(Box::new(fields)));
        }
        Ok((rows, writer.rows()))
    }

    /// The rows of an answer; the client gets the rest (notices, parameter reports).
    fn copied_rows(&mut self, mut answer: BytesMut) -> BytesMut {
        let mut rows = BytesMut::new();
        while let Ok(Some(found)) = frame::peek(&answer, usize::MAX)
            && found.len <= answer.len()
        {
            let message = answer.split_to(found.len);
            match found.tag {
                tag::COPY_DATA if rows.is_empty() => rows = message,
                // Neighbours in one buffer are put together without copying.
                tag::COPY_DATA => rows.unsplit(message),
                tag::COPY_DONE | tag::COMMAND_COMPLETE => {}
                _ => self.client.conn.out().extend_from_slice(&message),
            }
        }
        rows
    }

    /// Stores the rows.
    async fn copy_home(&mut self, table: &QualifiedName, rows: &[u8]) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let index = self.enlist(home).await?;
        let skip = self.begin_on(index).await?;
        let name = self.shard_name(home);
        let server = &mut self.servers[index];
        server.wrote = server.wrote.max_with(Wrote::Yes);
        server.busy = true;
        let sent = async {
            link::skip_replies(&mut server.lease, skip).await?;
            copy_in(&mut server.lease, table, rows).await
        };
        let Some(answered) = relay::beside_client(&mut self.client.conn, sent).await else {
            return Err(Fault::ClientGone);
        };
        server.busy = false;
        let mut reply = answered.map_err(|error| Fault::lost(&error, &name))?;
        match reply.error.take() {
            Some(error) => Err(Fault::Statement(error)),
            None => Ok(()),
        }
    }
}

/// An error in a part of the text, with its place in the whole.
pub(super) fn in_whole(mut fault: Fault, text: &str, start: usize) -> Fault {
    if let Fault::Statement(fields) = &mut fault {
        let before = text.get(..start).map_or(0, |before| before.chars().count());
        let before = u32::try_from(before).unwrap_or(0);
        fields.position = fields.position.map(|position| position.saturating_add(before));
    }
    fault
}

/// The query, with every byte where it is in the statement, and the statement up to its end as CREATE TABLE AS.
pub(super) fn parts<'t>(
    create: &CreateTableAs,
    range: &Range<usize>,
    text: &'t str,
) -> Option<(Cow<'t, str>, Cow<'t, str>)> {
    let query = text.get(range.clone())?;
    let Some(into) = &create.into else {
        return Some((query.into(), text.get(..range.end)?.into()));
    };
    let before = text.get(range.start..into.range.start)?;
    let after = text.get(into.range.end..range.end)?;
    let query = format!("{before}{}{after}", " ".repeat(into.range.len()));
    let kind = match (create.temporary, into.unlogged) {
        (true, _) => "TEMPORARY TABLE",
        (_, true) => "UNLOGGED TABLE",
        _ => "TABLE",
    };
    let definition = format!("CREATE {kind} {} AS {query}", create.table);
    Some((query.into(), definition.into()))
}

/// Why the rows of a query cannot be carried into a new table or a cursor; `None`: they can.
pub(super) fn obstacle(planned: &Planned, snapshot: &Snapshot) -> Option<&'static str> {
    if planned.plan.kind != StatementKind::Select || planned.plan.writes {
        return Some("it writes, locks or is volatile");
    }
    if !planned.param_types.is_empty() {
        return Some("it has parameters");
    }
    let Some(columns) = planned.columns.as_deref().and_then(decode_columns) else {
        return Some("its columns are not known");
    };
    let carried = |oid: u32| {
        let base = snapshot.base_type(catalog::Oid(oid)).0;
        portable_in_binary(oid, snapshot) && !OBJECT_IDS.contains(&base)
    };
    let all = columns.iter().all(|column| carried(column.type_oid));
    (!all).then_some(
        "a column is of a type whose values hold numbers of objects, which differ from shard to shard",
    )
}

/// Hands over rows in binary.
async fn copy_in(server: &mut ServerConn, table: &QualifiedName, rows: &[u8]) -> Result<Reply, LinkError> {
    link::send_query(server, &format!("COPY {table} FROM STDIN (FORMAT binary)"))?;
    loop {
        let message = link::next_frame(server).await?;
        match message.tag {
            tag::COPY_IN => {
                server.conn.consume(message.len);
                break;
            }
            tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION => {
                link::note_parameter(server, message.len, message.tag);
                server.conn.consume(message.len);
            }
            _ => return link::collect(server).await,
        }
    }
    for piece in rows.chunks(PIECE_BYTES) {
        server.conn.out().extend_from_slice(piece);
        server.conn.flush().await?;
    }
    frontend::encode::copy_done(server.conn.out());
    link::collect(server).await
}
