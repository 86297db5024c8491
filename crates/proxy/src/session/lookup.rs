//! Where rows are that a global index knows (docs/decisions/0036).
//!
//! | the index says | the statement runs |
//! |---|---|
//! | these keys | on their shards |
//! | none | on any one shard: no row qualifies |
//! | somebody is changing one of these entries, or nothing for another reason | on all shards, as without an index |
//!
//! A shard is asked in the client's transaction where that has begun there, so that its own changes count, and else beside it. The statement
//! keeps its conditions: a row that has changed since is looked at as it is.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{KeyValue, ShardId, Snapshot};
use plan::Target;
use serde_json::Value;
use sql::Isolation;

use super::enlist::settle;
use super::reads::snapshot_of_cluster;
use super::{Fault, Session};
use crate::exec::link;
use crate::exec::statement::{Literals, ParamValue, Planned, Shards, lookup_values};
use crate::ops::indexes::{ASKING, PARAMETER};
use crate::pools::Purpose;

/// More values than this are not looked up: most shards would be concerned.
const VALUES_MAX: usize = 100;

impl Session {
    /// The shards of a statement that a global index can place; `shards`, which are all, where it cannot be relied upon.
    pub(super) async fn look_up<'a>(
        &mut self,
        planned: &Planned,
        literals: Literals<'_>,
        param: impl Fn(usize) -> Option<ParamValue<'a>>,
        shards: Shards,
    ) -> Result<Shards, Fault> {
        if !matches!(planned.plan.target, Target::Lookup { .. }) || !self.may_look_up() {
            return Ok(shards);
        }
        match lookup_values(planned, literals, param, VALUES_MAX) {
            Some(values) => Ok(Box::pin(self.found(planned, values)).await?.unwrap_or(shards)),
            None => Ok(shards),
        }
    }

    /// Statements whose snapshot is taken when they run, from the primaries that are asked.
    fn may_look_up(&self) -> bool {
        !self.reads_replicas()
            && self.isolation() == Isolation::ReadCommitted
            && snapshot_of_cluster(&self.settings).is_none()
    }

    async fn found(&mut self, planned: &Planned, values: Vec<Vec<String>>) -> Result<Option<Shards>, Fault> {
        let Target::Lookup { map, index, .. } = &planned.plan.target else {
            return Ok(None);
        };
        let context = self.plan_context().await?;
        let snapshot = &context.snapshot;
        let Some(index) = snapshot.global_index(*index).filter(|_| context.utf8) else {
            return Ok(None);
        };
        let mut asked: BTreeMap<ShardId, Vec<Value>> = BTreeMap::new();
        for value in values {
            let Ok(shard) = index.shard_of(&value) else {
                return Ok(None);
            };
            asked.entry(shard).or_default().push(Value::from(value));
        }
        let mut places = BTreeSet::new();
        for (shard, values) in asked {
            let question = format!(
                "SELECT pg_catalog.set_config('{PARAMETER}', '{ASKING}', true); \
                 SELECT drover_internal.index_{}_find({}::pg_catalog.jsonb); \
                 SELECT pg_catalog.set_config('{PARAMETER}', '', true)",
                index.id,
                sql::quote_literal(&Value::Array(values).to_string())
            );
            let Some(keys) = self.ask_index(shard, &question).await? else {
                self.engine.metrics.index_lookups_undecided.increment();
                return Ok(None);
            };
            let table = snapshot.relation_in(&index.schema, &index.table);
            let types = table.map_or(&[][..], |table| table.key_columns());
            for key in keys {
                let Some(place) = place_of(&key, types, *map, snapshot) else {
                    return Ok(None);
                };
                places.insert(place);
            }
        }
        self.engine.metrics.index_lookups.increment();
        Ok(Some(Shards::from_list(places.into_iter().collect())))
    }

    /// Keys of rows; `None`: not now.
    async fn ask_index(&mut self, shard: ShardId, question: &str) -> Result<Option<Vec<Key>>, Fault> {
        let begun = |server: &super::block::Enlisted| server.shard == shard && server.begun;
        let reply = if self.servers.iter().any(begun) {
            self.run_on_reading(shard, question).await?
        } else {
            let key = self.pool_key(shard);
            let slot = std::sync::Arc::clone(&self.cancel.slot);
            let lease = self
                .engine
                .pools
                .checkout(&key, Purpose::Control, Some(&slot))
                .await;
            let mut lease = lease?;
            // A connection that died while it was idle is no reason to fail: the statement runs without the index.
            if settle(&mut lease, self.settings.before_transaction())
                .await
                .is_err()
            {
                lease.discard();
                return Ok(None);
            }
            let Ok(mut reply) = link::query(&mut lease, question).await else {
                lease.discard();
                return Ok(None);
            };
            lease.release();
            match reply.error.take() {
                Some(_) => return Ok(None),
                None => reply,
            }
        };
        let answer = reply.rows.get(1).and_then(|row| row.first().cloned().flatten());
        Ok(answer.and_then(|json| serde_json::from_str(&json).ok()))
    }
}

/// The key of a row, as PostgreSQL prints its columns.
type Key = Vec<Option<String>>;

fn place_of(
    key: &Key,
    types: &[catalog::KeyColumn],
    map: catalog::MapId,
    snapshot: &Snapshot,
) -> Option<ShardId> {
    if key.len() != types.len() {
        return None;
    }
    let columns = types.iter().zip(key);
    let value = |(of, text): (&catalog::KeyColumn, &Option<String>)| match text {
        Some(text) => of.key_type.from_text(text.as_bytes()).ok(),
        None => Some(KeyValue::Null),
    };
    let columns: Option<Vec<KeyValue>> = columns.map(value).collect();
    snapshot.shard_of(map, &KeyValue::of_columns(columns?))
}
