//! The finish statement: one PostgreSQL computes the result from the rows of all shards.

use std::cell::RefCell;

use bytes::Bytes;
use catalog::ShardId;
use wire::FormatCode;
use wire::backend::{Backend, ErrorFields};
use wire::copy::RowWriter;
use wire::frame::Frames;

use super::super::block::Wrote;
use super::super::enlist::HomeAccess;
use super::super::learn::decode_columns;
use super::super::observe::Observation;
use super::super::{Fault, Session};
use super::Run;
use crate::exec::relay::{self, Verdict};
use crate::exec::scatter::{self, Request};
use crate::exec::statement::Planned;

impl Session {
    /// The same, where rows are written as COPY does: they are kept until the last has come.
    pub(super) async fn finish_copied(
        &mut self,
        run: &Run<'_>,
        sql: &str,
        inputs: &[plan::InputColumn],
        arrays: Vec<Bytes>,
        writer: &RefCell<RowWriter>,
    ) -> Result<(), Fault> {
        let outer = self.client.conn.is_held().then(|| self.client.conn.out().split());
        self.client.conn.hold();
        let result = self.finish(run, sql, inputs, arrays).await;
        let held = match outer {
            Some(before) => std::mem::replace(self.client.conn.out(), before),
            None => self.client.conn.release_held(),
        };
        let out = self.client.conn.out();
        for message in Frames::new(&held, held.len()).flatten() {
            match Backend::decode(message) {
                Ok(Backend::DataRow(row)) => {
                    let values = (0..row.len()).map(|index| row.column(index).flatten());
                    writer.borrow_mut().row(values, out);
                }
                // The tag of the query; that of COPY follows.
                Ok(Backend::CommandComplete { .. }) => (),
                _ => out.extend_from_slice(message.bytes),
            }
        }
        result
    }

    /// What is finished within a transaction is a part of it: it has its local settings, and goes with it if it changes
    /// something. So the home shard takes part, unless nothing would be different.
    pub(super) async fn join_home(&mut self, home: ShardId, writes: bool) -> Result<(), Fault> {
        if !writes && !self.block.is_open() {
            return Ok(());
        }
        let index = self.enlist(home).await?;
        if writes {
            let server = &mut self.servers[index];
            server.wrote = server.wrote.max_with(Wrote::Unknown);
        }
        Ok(())
    }

    /// Runs the finish statement and passes its rows on.
    pub(super) async fn finish(
        &mut self,
        run: &Run<'_>,
        sql: &str,
        inputs: &[plan::InputColumn],
        arrays: Vec<Bytes>,
    ) -> Result<(), Fault> {
        if self.observation.steps.is_some()
            && Box::pin(self.explain_finish(run, sql, inputs, &arrays)).await?
        {
            return Ok(());
        }
        let mut types = run.types(true);
        let mut params = run.params();
        for (input, array) in inputs.iter().zip(&arrays) {
            types.push(input.array_oid);
            params.push((Some(&array[..]), FormatCode::Binary));
        }
        let formats = self.visible_formats(run);
        let home = self.engine.cluster.home();
        self.join_home(home, run.planned.plan.writes).await?;
        let mut access = self.home_access(home).await?;
        let held = matches!(access, HomeAccess::Held(_));
        let request = Request {
            sql,
            types: &types,
            params: &params,
            formats: &formats,
            max_rows: 0,
            describe: true,
        };
        let mut tag = self.holds_tags().then(Box::default);
        let told = Told {
            tag: tag.as_mut(),
            // What the rows become counts elsewhere.
            observation: run.copy.is_none().then_some(&mut *self.observation),
        };
        let result = match &mut access {
            HomeAccess::Held(index) => {
                self.servers[*index].busy = true;
                let server = &mut self.servers[*index].lease;
                relay_finish(server, &mut self.client.conn, &request, run.planned, told).await
            }
            HomeAccess::Lent(lease, _) => {
                relay_finish(lease, &mut self.client.conn, &request, run.planned, told).await
            }
        };
        self.block.tag = tag.filter(|tag| !tag.is_empty());
        match (result, access) {
            (Ok(error), access) => {
                if let HomeAccess::Held(index) = &access {
                    self.servers[*index].busy = false;
                }
                self.done_asking(access);
                error.map_or(Ok(()), |error| Err(Fault::Statement(error)))
            }
            (Err(error), HomeAccess::Held(index)) if held => {
                self.drop_server(index);
                Err(error)
            }
            (Err(error), access) => {
                drop(access);
                Err(error)
            }
        }
    }
}

/// Who hears of the finish statement's command tag.
struct Told<'a> {
    /// Where it is kept instead of being passed on.
    tag: Option<&'a mut Box<[u8]>>,
    /// Where its rows are counted.
    observation: Option<&'a mut Observation>,
}

impl Told<'_> {
    fn completed(&mut self, text: &[u8]) -> Verdict {
        if let Some(observation) = &mut self.observation {
            observation.completed(text);
        }
        match &mut self.tag {
            Some(tag) => {
                **tag = text.into();
                Verdict::Drop
            }
            None => Verdict::Forward,
        }
    }
}

/// Sends the finish statement and relays its rows. The error it answered with, if any.
async fn relay_finish(
    server: &mut crate::server::ServerConn,
    client: &mut crate::conn::Conn,
    request: &Request<'_>,
    planned: &Planned,
    mut told: Told<'_>,
) -> Result<Option<Box<ErrorFields>>, Fault> {
    if !scatter::is_understood(server, request.sql) {
        return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
    }
    scatter::send(server, request).map_err(|_| Fault::error("54000", "the statement is too long"))?;
    let budget = server.budget.clone();
    let mut error = None;
    let mut foreign = false;
    let mut status = wire::TransactionStatus::Idle;
    relay::pump(server, client, |kind, message, _| match kind {
        wire::backend::tag::ROW_DESCRIPTION => {
            foreign = !same_types(&message[5..], planned.columns.as_deref());
            if foreign {
                Verdict::DropAndStop
            } else {
                Verdict::Drop
            }
        }
        wire::backend::tag::COMMAND_COMPLETE | wire::backend::tag::ERROR
            if budget.as_ref().is_some_and(|budget| budget.is_exceeded()) =>
        {
            error = budget.as_ref().map(|budget| budget.error());
            Verdict::Drop
        }
        wire::backend::tag::ERROR => {
            if let Ok(fields) = wire::backend::Fields::decode(&message[5..]) {
                let mut fields = fields.to_owned();
                fields.position = None;
                error = Some(Box::new(fields));
            }
            Verdict::Drop
        }
        wire::backend::tag::READY_FOR_QUERY => {
            status = super::super::simple::status_of(message);
            Verdict::DropAndStop
        }
        wire::backend::tag::COMMAND_COMPLETE => told.completed(&message[5..message.len().saturating_sub(1)]),
        wire::backend::tag::NOTICE | wire::backend::tag::EMPTY_QUERY => Verdict::Forward,
        _ => Verdict::Drop,
    })
    .await
    .map_err(Fault::from)?;
    if foreign {
        server.dirty = true;
        return Err(Fault::error(
            "XX000",
            "the finished result has other column types than the statement",
        ));
    }
    server.status = status;
    Ok(error)
}

fn same_types(body: &[u8], expected: Option<&[u8]>) -> bool {
    let (Some(found), Some(expected)) = (decode_columns(body), expected.and_then(decode_columns)) else {
        return false;
    };
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected.iter())
            .all(|(found, expected)| found.type_oid == expected.type_oid)
}
