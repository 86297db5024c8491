//! Global indexes follow what a statement has changed (docs/decisions/0036).
//!
//! | step | what can fail, and then |
//! |---|---|
//! | before a statement, on each of its shards, in one flight with it: changes are to be noted | – |
//! | the statement; triggers note entries that are gone and entries that have come | the block fails |
//! | each shard is asked for its notes | the block fails: the statement has changed rows, nobody knows which |
//! | each shard that has such entries changes them: first those that are gone | a duplicate: PostgreSQL's own error; no entry: the index is damaged, or the loss of a shard of the first steps is seen only now. The block fails |
//!
//! Shards are asked to change entries one after the other, in the same order by everybody.

use std::collections::BTreeMap;

use bytes::BytesMut;
use catalog::{GlobalIndex, ShardId};
use serde_json::Value;
use wire::backend::tag;
use wire::frame;

use crate::exec::link;
use crate::ops::indexes::{APPLYING, NO_ENTRY, NOTING, Named, PARAMETER};
use crate::session::{Fault, Session};

/// What happens to the entries of an index on one shard: how many times each comes, less how many times it goes. One that
/// comes and goes within a statement (a trigger takes a row away again) is none of the index's business.
type Lane = BTreeMap<String, i32>;

impl Session {
    /// Makes one transaction of what follows, where the client has none.
    pub(in crate::session) fn open_implicitly(&mut self) {
        if !self.block.is_open() {
            self.block.open("BEGIN".to_owned(), true);
            self.settings.begin();
        }
    }

    /// Begins the open block on servers, which note what the next statement changes if tables with indexes are `indexed`. So
    /// many answers have to be skipped in front of the statement's.
    pub(in crate::session) async fn begin_noting(
        &mut self,
        indexes: &[usize],
        indexed: bool,
    ) -> Result<Vec<usize>, Fault> {
        let mut skips = Vec::with_capacity(indexes.len());
        for index in indexes {
            let mut skip = self.begin_on(*index).await?;
            if indexed {
                skip += self.note_changes(*index)?;
            }
            skips.push(skip);
        }
        Ok(skips)
    }

    fn note_changes(&mut self, index: usize) -> Result<usize, Fault> {
        if !self.block.is_open() {
            return Err(Fault::error(
                "XX000",
                "an index can only follow within a transaction",
            ));
        }
        self.block.atomic = true;
        let server = &mut self.servers[index].lease;
        link::send_query(server, &format!("SET LOCAL {PARAMETER} = '{NOTING}'"))
            .map_err(|error| Fault::lost(&error, "a shard"))?;
        Ok(1)
    }

    /// Carries over to the indexes what these shards have noted.
    pub(in crate::session) async fn follow_changes(&mut self, shards: &[ShardId]) -> Result<(), Fault> {
        let context = self.plan_context().await?;
        if !context.utf8 {
            return Err(Fault::refused_as(plan::RefusalCode::ClientEncoding));
        }
        let mut lanes: BTreeMap<(ShardId, u32), Lane> = BTreeMap::new();
        for shard in shards {
            let ask = format!("SELECT pg_catalog.current_setting('{PARAMETER}'); SET LOCAL {PARAMETER} = ''");
            let reply = self.run_on_reading(*shard, &ask).await?;
            let notes = reply
                .rows
                .into_iter()
                .flatten()
                .flatten()
                .next()
                .unwrap_or_default();
            if notes.len() > self.gather_limit() {
                return Err(Fault::error(
                    "53400",
                    "the statement changes more entries of global indexes than gather_max_bytes allows",
                ));
            }
            deal(&notes, |id| context.snapshot.global_index(id), &mut lanes)?;
        }
        for ((shard, id), lane) in lanes {
            let index = context.snapshot.global_index(id).ok_or_else(unreadable)?;
            let json = |wanted: i32| {
                let entries = lane.iter().filter(|(_, times)| times.signum() == wanted);
                // Two rows with one value and one key are two entries, of which the index takes one.
                let entries = entries.flat_map(|(entry, times)| {
                    let times = usize::try_from(times.unsigned_abs()).unwrap_or(usize::MAX);
                    std::iter::repeat_n(entry.as_str(), times)
                });
                let entries: Vec<&str> = entries.collect();
                sql::quote_literal(&format!("[{}]", entries.join(",")))
            };
            let apply = format!(
                "SET LOCAL {PARAMETER} = '{APPLYING}'; \
                 SELECT drover_internal.index_{id}_apply({}::pg_catalog.jsonb, {}::pg_catalog.jsonb); \
                 SET LOCAL {PARAMETER} = ''",
                json(-1),
                json(1)
            );
            if let Err(fault) = self.run_on(shard, &apply).await {
                let fault = in_its_name(fault, index);
                return Err(self.told_of_loss(fault, shard, shards).await);
            }
        }
        Ok(())
    }

    /// That an entry is missing on a shard is damage, unless a server that has changed rows was lost meanwhile: what it had locked is
    /// free then, and others have changed these rows and their entries since. The loss is the fault to be told of, and a
    /// server that still answers has not been lost.
    async fn told_of_loss(&mut self, fault: Fault, entries: ShardId, rows: &[ShardId]) -> Fault {
        let missing = matches!(&fault, Fault::Statement(fields) if fields.code == NO_ENTRY);
        if missing {
            for shard in rows.iter().filter(|shard| **shard != entries) {
                if let Err(lost) = self.run_on_reading(*shard, "SELECT").await {
                    return lost;
                }
            }
        }
        fault
    }
}

/// What servers say of themselves beside an answer.
pub(super) fn asides(mut answer: BytesMut) -> BytesMut {
    let mut kept = BytesMut::new();
    while let Ok(Some(found)) = frame::peek(&answer, usize::MAX)
        && found.len <= answer.len()
    {
        let message = answer.split_to(found.len);
        if matches!(found.tag, tag::NOTICE | tag::PARAMETER_STATUS | tag::NOTIFICATION) {
            kept.extend_from_slice(&message);
        }
    }
    kept
}

fn unreadable() -> Fault {
    Fault::error("XX000", "the changes of a global index cannot be read")
}

/// Deals notes out to the shards whose entries they change.
fn deal<'a>(
    notes: &str,
    index: impl Fn(u32) -> Option<&'a GlobalIndex>,
    lanes: &mut BTreeMap<(ShardId, u32), Lane>,
) -> Result<(), Fault> {
    let notes = notes.strip_prefix(NOTING).ok_or_else(unreadable)?;
    for line in notes.lines().filter(|line| !line.is_empty()) {
        let note: (u32, u8, Vec<String>, Value) = serde_json::from_str(line).map_err(|_| unreadable())?;
        let (id, come, values, key) = note;
        let index = index(id).ok_or_else(unreadable)?;
        let shard = index.shard_of(&values).map_err(|_| unreadable())?;
        let entry = Value::Array(vec![Value::from(values), key]).to_string();
        let times = lanes.entry((shard, id)).or_default().entry(entry).or_default();
        *times += if come == 0 { -1 } else { 1 };
    }
    Ok(())
}

/// A duplicate is one of the index over all shards.
fn in_its_name(fault: Fault, index: &GlobalIndex) -> Fault {
    match fault {
        Fault::Statement(mut fields) => {
            let named = Named {
                schema: &index.schema,
                table: &index.table,
                name: &index.name,
                id: index.id,
            };
            fields.position = None;
            named.rename(&mut fields);
            Fault::Statement(fields)
        }
        other => other,
    }
}
