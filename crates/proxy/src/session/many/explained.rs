//! What `EXPLAIN ANALYZE` notes while a statement runs over shards; see [`Steps`](crate::session::explain::Steps).

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use catalog::ShardId;
use wire::FormatCode;

use super::run::{Run, Texts};
use super::{Args, Ended, bytes_of};
use crate::exec::link::{self, LinkError, Reply};
use crate::exec::relay;
use crate::exec::scatter::{self, Request};
use crate::exec::sinks::Destination;
use crate::exec::statement::Planned;
use crate::server::ServerConn;
use crate::session::block::Wrote;
use crate::session::enlist::HomeAccess;
use crate::session::explain::{Measured, Part};
use crate::session::{Fault, Session};

/// Rows and bytes that each server has sent.
pub(super) type Counts = RefCell<Vec<(u64, u64)>>;

impl Session {
    /// Where the rows of a scatter go that are meant for the client.
    pub(super) fn destination<'a>(&self, run: &Run<'a>, counts: &'a Counts) -> Destination<'a> {
        match (run.copy, &self.observation.steps) {
            (Some(writer), _) => Destination::Copy(writer),
            (None, None) => Destination::Client,
            (None, Some(steps)) => Destination::Counted {
                counts,
                kept: steps.keeps_rows(),
            },
        }
    }

    /// Whether the rows at hand are needed for a later step, from now on. The answer is what held before.
    pub(super) fn keep_explained_rows(&mut self, keeps: bool) -> bool {
        let steps = &mut self.observation.steps;
        steps.as_mut().is_some_and(|steps| steps.keep_rows(keeps))
    }

    /// Has each server plan what it is about to be sent, and makes a step of it. What was sent to it before is answered then.
    pub(super) async fn explain_first(
        &mut self,
        run: &Run<'_>,
        texts: &Texts<'_>,
        skips: Vec<usize>,
    ) -> Result<Vec<usize>, Fault> {
        let home = self.engine.cluster.home();
        let mut parts = Vec::with_capacity(skips.len());
        let mut left = Vec::with_capacity(skips.len());
        for (turn, (index, skip)) in run.indexes.iter().zip(&skips).enumerate() {
            let Some(steps) = &self.observation.steps else {
                break;
            };
            let sql = steps.planning(texts.of(turn));
            let shard = self.servers[*index].shard;
            let name = self.shard_name(shard);
            let (types, params) = run.params_of(texts, turn, shard == home);
            if texts.of(turn).starts_with("EXPLAIN ") {
                // A question of Drover's own: what is answered is a plan already.
                left.push(*skip);
                parts.push(Part::unplanned(name, texts.of(turn)));
                continue;
            }
            left.push(0);
            let request = Request {
                sql: &sql,
                types: &types,
                params: &params,
                formats: &[],
                max_rows: 0,
                describe: false,
            };
            let server = &mut self.servers[*index];
            server.busy = true;
            let asked = ask(&mut server.lease, *skip, &request);
            let Some(answered) = relay::beside_client(&mut self.client.conn, asked).await else {
                return Err(Fault::ClientGone);
            };
            server.busy = false;
            parts.push(Part {
                plan: plan_in(answered.map_err(|error| Fault::lost(&error, &name))?)?,
                shard: name,
                sql: texts.of(turn).to_owned(),
                sent_bytes: bytes_of(&params),
                measured: None,
            });
        }
        if let Some(steps) = &mut self.observation.steps {
            steps.push(parts);
        }
        Ok(left)
    }

    /// Asks a shard to explain a part of a statement, with the client's parameters.
    pub(in crate::session) async fn ask_bound(
        &mut self,
        shard: ShardId,
        sql: &str,
        (planned, args): (&Planned, &Args),
        writes: bool,
    ) -> Result<Reply, Fault> {
        if args.params.is_empty() {
            return match writes {
                true => self.run_on(shard, sql).await,
                false => self.run_on_reading(shard, sql).await,
            };
        }
        let index = self.enlist(shard).await?;
        let skip = self.begin_on(index).await?;
        let run = Run {
            planned,
            order: &[shard],
            indexes: &[index],
            text: sql,
            args,
            extras: &[],
            copy: None,
            origins: &[],
            only_reads: !writes,
        };
        let texts = [sql.to_owned()];
        let texts = Texts::Each(&texts);
        self.check_understood(&[index], &texts)?;
        let (types, params) = run.params_of(&texts, 0, shard == self.engine.cluster.home());
        let request = Request {
            sql,
            types: &types,
            params: &params,
            formats: &[],
            max_rows: 0,
            describe: false,
        };
        let name = self.shard_name(shard);
        let server = &mut self.servers[index];
        if writes {
            server.wrote = server.wrote.max_with(Wrote::Yes);
        }
        server.busy = true;
        let asked = ask(&mut server.lease, skip, &request);
        let Some(answered) = relay::beside_client(&mut self.client.conn, asked).await else {
            return Err(Fault::ClientGone);
        };
        server.busy = false;
        let mut reply = answered.map_err(|error| Fault::lost(&error, &name))?;
        match reply.error.take() {
            Some(mut error) => {
                error.position = None;
                Err(Fault::Statement(error))
            }
            None => Ok(reply),
        }
    }

    /// What came of the step that [`Self::explain_first`] has begun.
    pub(super) fn note_step(&mut self, began: Instant, counts: &Counts, ended: &[Ended]) {
        let Some(steps) = &mut self.observation.steps else {
            return;
        };
        let counts = counts.borrow();
        let measured = ended.iter().enumerate().map(|(turn, ended)| {
            let (rows, bytes) = counts.get(turn).copied().unwrap_or_default();
            let tag = ended.tag.as_deref();
            Measured {
                rows,
                bytes,
                time: ended
                    .at
                    .map_or_else(|| began.elapsed(), |at| at.saturating_duration_since(began)),
                tag: tag.map(|tag| String::from_utf8_lossy(tag).into_owned()),
            }
        });
        steps.measured(measured.collect());
    }

    /// The finish statement of what is explained. True: it has run, and its rows are nobody's; false: it was planned only, because
    /// its rows are needed.
    pub(super) async fn explain_finish(
        &mut self,
        run: &Run<'_>,
        sql: &str,
        inputs: &[plan::InputColumn],
        arrays: &[Bytes],
    ) -> Result<bool, Fault> {
        let Some(steps) = &self.observation.steps else {
            return Ok(false);
        };
        let runs = !steps.keeps_rows();
        let text = if runs {
            steps.running(sql)
        } else {
            steps.planning(sql)
        };
        let mut types = run.types(true);
        let mut params = run.params();
        for (input, array) in inputs.iter().zip(arrays) {
            types.push(input.array_oid);
            params.push((Some(&array[..]), FormatCode::Binary));
        }
        let request = Request {
            sql: &text,
            types: &types,
            params: &params,
            formats: &[],
            max_rows: 0,
            describe: false,
        };
        let home = self.engine.cluster.home();
        self.join_home(home, run.planned.plan.writes).await?;
        let mut access = self.home_access(home).await?;
        let began = Instant::now();
        let server = match &mut access {
            HomeAccess::Held(index) => {
                self.servers[*index].busy = true;
                &mut self.servers[*index].lease
            }
            HomeAccess::Lent(lease, _) => &mut **lease,
        };
        if !scatter::is_understood(server, &text) {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        let asked = ask(server, 0, &request);
        let Some(answered) = relay::beside_client(&mut self.client.conn, asked).await else {
            return Err(Fault::ClientGone);
        };
        if let HomeAccess::Held(index) = &access {
            self.servers[*index].busy = false;
        }
        let name = self.shard_name(home);
        let reply = answered.map_err(|error| Fault::lost(&error, &name))?;
        self.done_asking(access);
        let plan = plan_in(reply)?;
        let part = Part {
            shard: name,
            sql: sql.to_owned(),
            sent_bytes: bytes_of(&params),
            plan,
            measured: runs.then(|| Measured {
                time: began.elapsed(),
                ..Measured::default()
            }),
        };
        if let Some(steps) = &mut self.observation.steps {
            steps.push(vec![part]);
        }
        Ok(runs)
    }
}

/// Sends a request and collects its answer, behind so many answers to what was sent before.
async fn ask(server: &mut ServerConn, skip: usize, request: &Request<'_>) -> Result<Reply, LinkError> {
    let failed = link::skip_replies(server, skip).await?;
    if failed.is_some() {
        return Ok(Reply {
            error: failed,
            ..Reply::default()
        });
    }
    scatter::send(server, request)?;
    link::collect(server).await
}

/// The lines of a plan.
fn plan_in(reply: Reply) -> Result<Vec<String>, Fault> {
    let rows = reply.into_rows().map_err(|mut error| {
        // It counts in a text that the client has not seen.
        error.position = None;
        Fault::Statement(error)
    })?;
    Ok(rows
        .into_iter()
        .filter_map(|row| row.into_iter().next()?)
        .collect())
}
