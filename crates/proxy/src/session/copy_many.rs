//! COPY of sharded and reference tables over their shards.
//!
//! COPY FROM cuts the client's stream into rows and deals them out by their key; a reference table's stream goes to every
//! shard as it is. COPY TO joins the shards' streams. The servers get the client's own text.

mod defaults;
mod intake;
mod key;
mod outflow;
mod peers;
mod route;
mod settings;

use std::sync::Arc;

use catalog::{ShardId, Snapshot};
use plan::{CopyPlace, CopyPlan};
use wire::backend::{ErrorFields, field};
use wire::copy::CopyFormat;

use super::block::Wrote;
use super::enlist::settle;
use super::reads::{Guard, guarded_kept_back};
use super::{Fault, Session};
use crate::exec::link;
use crate::exec::relay::PumpError;
use crate::pools::Purpose;
use defaults::HomeValues;
use intake::{Feed, Intake};
use outflow::{Framing, Outflow};
use peers::{Ended, Peers};
use route::Router;
use settings::Stream;

impl Session {
    /// Runs a COPY. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_copy(&mut self, plan: &CopyPlan, text: &str) -> Result<(), Fault> {
        if plan.from {
            self.copy_in_many(plan, text).await
        } else {
            self.copy_out_many(plan, text).await
        }
    }

    async fn copy_in_many(&mut self, plan: &CopyPlan, text: &str) -> Result<(), Fault> {
        let context = self.plan_context().await?;
        let snapshot = &context.snapshot;
        let stream = settings::stream_of(plan, snapshot)?;
        settings::check_types(plan, &stream, snapshot)?;
        settings::check(plan, &stream, snapshot)?;
        let shards = self.copy_shards(plan, snapshot);
        let values = self.home_values(plan, &stream).await?;
        let extended = match &values {
            Some(_) => Some(
                defaults::with_columns(text, plan, context.conforming_strings)
                    .ok_or_else(|| Fault::error("XX000", "the COPY statement cannot be extended"))?,
            ),
            None => None,
        };
        let feed = feed_of(plan, &stream, snapshot)?;
        self.open_implicitly();
        if plan.place == CopyPlace::Reference {
            self.lock_copies(&shards).await?;
        }
        let indexes = self.enlist_all(&shards).await?;
        let table = snapshot.relation_in(&plan.schema, &plan.table);
        let indexed = table.is_some_and(|table| table.writes_global_indexes);
        let skips = self.begin_for_copy(&indexes, indexed).await?;
        if !stream.is_utf8 {
            self.check_client_encoding(indexes[0])?;
        }
        self.send_copy(&indexes, extended.as_deref().unwrap_or(text), Wrote::Unknown)?;
        let slot = Arc::clone(&self.cancel.slot);
        let mut peers = Peers::new(&mut self.servers, &indexes, &skips);
        let alike = plan.place == CopyPlace::Reference;
        peers.notices_of = alike.then_some(0);
        let mut intake = Intake {
            client: &mut self.client.conn,
            peers,
            feed,
            unreadable: stream
                .odd
                .then(|| Fault::refused_as(plan::RefusalCode::CopyOption)),
            values,
            slot: &slot,
            message_limit: self.message_limit as usize,
        };
        let result = intake.run().await;
        let Intake {
            peers, feed, values, ..
        } = intake;
        let ended = peers.into_ended();
        if let Some(values) = values {
            values.release();
        }
        let lines_count = matches!(feed, Feed::Same);
        let tags = self.copy_ended(&indexes, ended, result, lines_count, extended.is_none())?;
        if let Feed::Dealt(router) = &feed {
            self.note_lanes(router, &indexes);
            if router.sent_faulty() && !stream.skips_errors {
                return Err(Fault::error(
                    "XX000",
                    "a shard accepted a row whose shard key could not be read",
                ));
            }
        }
        if indexed {
            self.follow_changes(&shards).await?;
        }
        self.complete_copy(&tags, alike)
    }

    /// Who has got rows has written.
    fn note_lanes(&mut self, router: &Router, indexes: &[usize]) {
        let filled = indexes.iter().enumerate();
        for (lane, index) in filled.filter(|(lane, _)| router.rows(*lane) > 0) {
            let server = &mut self.servers[*index];
            server.wrote = server.wrote.max_with(Wrote::Yes);
            tracing::trace!(shard = %server.shard, rows = router.rows(lane), "COPY FROM");
        }
    }

    async fn copy_out_many(&mut self, plan: &CopyPlan, text: &str) -> Result<(), Fault> {
        let context = self.plan_context().await?;
        let stream = settings::stream_of(plan, &context.snapshot)?;
        settings::check_types(plan, &stream, &context.snapshot)?;
        let shards = match plan.place {
            CopyPlace::Sharded { .. } => self.copy_shards(plan, &context.snapshot),
            CopyPlace::Reference => vec![self.any_shard()],
        };
        let framing = match stream.options.format {
            CopyFormat::Binary => Framing::Binary,
            _ if stream.options.header => Framing::HeaderLine,
            _ => Framing::Plain,
        };
        let indexes = self.enlist_all(&shards).await?;
        let skips = self.begin_for_copy(&indexes, false).await?;
        self.send_copy(&indexes, text, Wrote::No)?;
        let slot = Arc::clone(&self.cancel.slot);
        let pending = std::cell::Cell::new(0);
        let guard = Guard::of(&self.engine, &self.servers, self.read_can_move());
        let peers = Peers::new(&mut self.servers, &indexes, &skips);
        let mut outflow = Outflow {
            client: &mut self.client.conn,
            peers,
            framing,
            slot: &slot,
            pending_bytes_most: &pending,
        };
        let result = guarded_kept_back(guard, &pending, outflow.run()).await;
        let ended = outflow.peers.into_ended();
        let tags = self.copy_ended(&indexes, ended, result, true, true)?;
        self.complete_copy(&tags, false)
    }

    /// The shards of a COPY; lanes and servers have this order. Copies of a reference table are written home first.
    fn copy_shards(&self, plan: &CopyPlan, snapshot: &Snapshot) -> Vec<ShardId> {
        match plan.place {
            CopyPlace::Sharded { map, .. } => snapshot.shards_of(map).to_vec(),
            CopyPlace::Reference => {
                let home = self.engine.cluster.home();
                let mut shards = snapshot.shards().to_vec();
                shards.sort_by_key(|shard| (*shard != home, *shard));
                shards
            }
        }
    }

    async fn begin_for_copy(&mut self, indexes: &[usize], indexed: bool) -> Result<Vec<usize>, Fault> {
        if indexes.is_empty() {
            return Err(Fault::error("XX000", "COPY of a table that is on no shard"));
        }
        self.begin_noting(indexes, indexed).await
    }

    fn send_copy(&mut self, indexes: &[usize], text: &str, wrote: Wrote) -> Result<(), Fault> {
        for index in indexes {
            let server = &mut self.servers[*index];
            server.wrote = server.wrote.max_with(wrote);
            server.busy = true;
            link::send_query(&mut server.lease, text)
                .map_err(|_| Fault::error("54000", "the statement is too long"))?;
        }
        Ok(())
    }

    /// Line ends and quotes are looked for in the client's bytes, and the key is hashed as it comes.
    fn check_client_encoding(&self, index: usize) -> Result<(), Fault> {
        match self.servers[index].lease.parameters.get("client_encoding") {
            Some(name) if settings::is_utf8(name) => Ok(()),
            _ => Err(settings::wrong_encoding()),
        }
    }

    async fn home_values(&mut self, plan: &CopyPlan, stream: &Stream) -> Result<Option<HomeValues>, Fault> {
        if plan.home_defaults.is_empty() {
            return Ok(None);
        }
        let key = self.pool_key(self.engine.cluster.home());
        let mut lease = self
            .engine
            .pools
            .checkout(&key, Purpose::Control, Some(&self.cancel.slot))
            .await?;
        settle(&mut lease, self.settings.current()).await?;
        Ok(Some(HomeValues::new(lease, plan, &stream.options)))
    }

    /// The books after the servers have answered: the tags, or the one error the client gets.
    fn copy_ended(
        &mut self,
        indexes: &[usize],
        ended: Vec<Ended>,
        result: Result<Option<Fault>, PumpError>,
        keep_lines: bool,
        keep_position: bool,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        for (index, ended) in indexes.iter().zip(&ended) {
            self.servers[*index].busy = !ended.done;
        }
        let mut failure = result?;
        let mut cancelled = None;
        let mut tags = Vec::with_capacity(ended.len());
        for (index, ended) in indexes.iter().zip(ended) {
            if let Some(error) = &ended.lost {
                let name = self.shard_name(self.servers[*index].shard);
                failure.get_or_insert(Fault::lost(error, &name));
            }
            if let Some(mut error) = ended.error {
                if !keep_lines {
                    without_lines(&mut error);
                }
                error.position = error.position.filter(|_| keep_position);
                // The others were told to stop, or stopped.
                if error.code == "57014" {
                    cancelled.get_or_insert(Fault::Statement(error));
                } else {
                    failure.get_or_insert(Fault::Statement(error));
                }
            }
            tags.extend(ended.tag);
        }
        match failure.or(cancelled) {
            Some(fault) => {
                // Lost ones are closed; the others have answered.
                self.drop_busy_servers();
                Err(fault)
            }
            None => Ok(tags),
        }
    }

    fn complete_copy(&mut self, tags: &[Vec<u8>], alike: bool) -> Result<(), Fault> {
        if alike && tags.windows(2).any(|pair| pair[0] != pair[1]) {
            let fields = ErrorFields::error("XX001", "the copies of a reference table differ between shards")
                .with_hint("The statement was rolled back. Compare the copies on the shards.");
            return Err(Fault::Statement(Box::new(fields)));
        }
        let counted = if alike { &tags[..tags.len().min(1)] } else { tags };
        let tag = merge::tags::sum(counted.iter().map(Vec::as_slice))
            .map_err(|error| Fault::error("XX000", error.to_string()))?;
        self.complete(&tag)
    }
}

fn feed_of(plan: &CopyPlan, stream: &Stream, snapshot: &Snapshot) -> Result<Feed, Fault> {
    let mut router = match plan.place {
        _ if !plan.place.is_divided() && plan.home_defaults.is_empty() => return Ok(Feed::Same),
        _ if !plan.place.is_divided() => Router::single(&stream.options),
        CopyPlace::Reference => return Err(Fault::error("XX000", "COPY of a table without a map")),
        CopyPlace::Sharded { map, .. } => {
            let key = settings::key_reader(plan, stream, snapshot)?;
            let map = snapshot
                .map(map)
                .ok_or_else(|| Fault::error("XX000", "COPY of a table without a map"))?;
            Router::by_key(key, map.clone())
        }
    };
    if !plan.home_defaults.is_empty() {
        router.append_to_rows(defaults::header_end(&stream.options, plan));
    }
    Ok(match plan.place.is_divided() {
        false => Feed::All(Box::new(router)),
        true => Feed::Dealt(Box::new(router)),
    })
}

/// Takes `, line 7` out of `COPY t, line 7, column id: "x"`: the shard counts the lines that came to it.
fn without_lines(error: &mut ErrorFields) {
    for (kind, text) in &mut error.other {
        if *kind != field::WHERE {
            continue;
        }
        if let Some(at) = text.find(", line ") {
            let number = at + ", line ".len();
            let digits = text[number..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(at..number + digits, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_of_a_shard_are_not_shown() {
        let check = |context: &str, expect: &str| {
            let mut error = ErrorFields::error("22P02", "x");
            error.other.push((field::WHERE, context.to_owned()));
            without_lines(&mut error);
            assert_eq!(error.get(field::WHERE), Some(expect));
        };
        check("COPY t, line 17, column id: \"x\"", "COPY t, column id: \"x\"");
        check("COPY t, line 2", "COPY t");
        check("COPY t", "COPY t");
    }
}
