//! Pinning: one key of a map on a shard of its own, with its rows.
//!
//! The change is made while every proxy is paused. In the database of the table that is named, the rows of the key, of all
//! tables of the map, go from shard to shard in one transaction ([`carry`]), which makes the guards anew. What it means for
//! the record is announced in the journal and happens with the decision on the home shard, as with any move.
//!
//! A map may serve tables of other databases, and a transaction does not reach them: there the key must have no rows, which
//! is looked at under a lock that waits for transactions in doubt. Their guards, which say where the key was, are dropped
//! before the record changes and made again from the record afterwards:
//!
//! | dies after | then |
//! |---|---|
//! | the guards are dropped | the old record holds; whoever looks next makes the guards again |
//! | the decision | the journal is applied, the new record holds; whoever looks next makes the guards again |

mod carry;

use catalog::{KeyShape, KeyType, KeyValue, MapId, ShardId, ShardMap};
use plan::{Refusal, RefusalCode};
use sql::quote_ident;
use topology::records::{Scheme, TableKind, TableRecord, TableState};
use topology::{ChangeGuard, ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::check::borrowed;
use super::effects::shape_named;
use super::faults::Faults;
use super::part::{Part, shard_name};
use super::{LOCK_TIMEOUT, OpError, guards, partitions, schemes};
use crate::cluster::{Cluster, change_deadline};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Pin<'a> {
    /// Database of the table.
    pub database: &'a str,
    /// Schema of the table.
    pub schema: &'a str,
    /// The table, whose map is meant.
    pub table: &'a str,
    /// The key as PostgreSQL prints it.
    pub key: &'a str,
    /// Name of the shard; `None`: the key is no longer pinned.
    pub shard: Option<&'a str>,
}

/// Pins a key of a table, and of all tables colocated with it, to a shard, or takes a pin back. The statement that asked for
/// this must not count as running meanwhile, because the cluster is paused.
pub async fn pin_key(cluster: &Cluster, pin: Pin<'_>) -> Result<(), ErrorFields> {
    run(cluster, pin, &Faults::default())
        .await
        .map_err(OpError::into_fields)
}

/// A change of a map that was checked.
struct Change {
    map: MapId,
    scheme: Scheme,
    /// Where the key was and where it will be.
    shards: (ShardId, ShardId),
    /// Rows with this key may have been on no shard before, or will be.
    residents: bool,
    /// Rows with this key can be where it goes.
    can_move: bool,
    /// The key, and the types of its columns.
    key: KeyValue,
    shape: KeyShape,
}

pub(super) async fn run(cluster: &Cluster, pin: Pin<'_>, faults: &Faults) -> Result<(), OpError> {
    // What can be said at once is said before anybody is paused.
    plan_of(&cluster.record(), pin)?;
    let mut guard = cluster.change_alone(ChangeScope::Everything).await?;
    let record = guard.cluster().clone();
    let result = async {
        let change = plan_of(&record, pin)?;
        let tables = tables_of(&record, change.map);
        if let Some(table) = tables.iter().find(|table| table.state != TableState::Active) {
            return Err(OpError::refused(
                "55006",
                format!("another change of table {} is not finished yet", table.name),
            ));
        }
        apply(cluster, &mut guard, pin, &change, &tables, faults).await
    }
    .await;
    if matches!(result, Err(OpError::Died)) {
        return result;
    }
    if let Err(error) = guard.finish(change_deadline()).await {
        tracing::warn!(%error, "the change was not acknowledged by every proxy");
    }
    let now = cluster.record();
    for database in &record.databases {
        if let Err(error) = guards::ensure(cluster, &now, database).await {
            tracing::info!(%error, %database, "tables have no guard yet");
        }
    }
    result
}

/// Makes the change, with whatever it takes on the shards.
async fn apply(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    pin: Pin<'_>,
    change: &Change,
    tables: &[&TableRecord],
    faults: &Faults,
) -> Result<(), OpError> {
    let here = |table: &&&TableRecord| change.can_move && table.database == pin.database;
    let (own, others): (Vec<&TableRecord>, Vec<&TableRecord>) = tables.iter().partition(here);
    if change.shards.0 != change.shards.1 || change.residents {
        free(cluster, change, &others).await?;
    }
    if !own.is_empty() {
        return carry::run(cluster, guard, (pin.database, &own), change, faults).await;
    }
    guard
        .publish(|record| {
            record.schema_version += 1;
            change.apply(record);
        })
        .await?;
    Ok(())
}

impl Change {
    fn apply(&self, record: &mut ClusterRecord) {
        if let Some(map) = record.maps.iter_mut().find(|map| map.id == self.map) {
            map.scheme = self.scheme.clone();
        }
    }
}

fn plan_of(record: &ClusterRecord, pin: Pin<'_>) -> Result<Change, OpError> {
    let title = format!("{}.{}", pin.schema, pin.table);
    let not_sharded = || OpError::refused("42809", format!("table {title} is not sharded"));
    let table = record
        .table(pin.database, pin.schema, pin.table)
        .ok_or_else(not_sharded)?;
    let TableKind::Sharded { key_types, map, .. } = &table.kind else {
        return Err(not_sharded());
    };
    if let Some(shard) = record.place_of(&table.kind) {
        let name = record
            .shard(shard)
            .map_or("one shard", |shard| shard.name.as_str());
        return Err(OpError::refused_with(
            "42809",
            format!("table {title} has no shard key: all of it is placed on {name}"),
            "Move all of it with drover.place_table, or shard it by a key first.",
        ));
    }
    let (Some(shape), Some(map)) = (shape_named(key_types), record.map(*map)) else {
        return Err(OpError::refused(
            "XX000",
            format!("the shard map of {title} cannot be found"),
        ));
    };
    if let Scheme::Salted { .. } = map.scheme {
        return Err(OpError::from_refusal(Refusal::with(
            RefusalCode::SaltedPin,
            title,
        )));
    }
    let text = schemes::key(&shape, pin.key)?;
    let shard = pin.shard.map(|name| schemes::shard(record, name)).transpose()?;
    let widest = shape.widest();
    let scheme = map.scheme.pin(&widest, &text, shard);
    let built = |scheme: &Scheme| {
        let made = scheme.to_shard_map();
        made.map_err(|error| OpError::refused("22023", format!("no shard map can be made: {error}")))
    };
    let key = widest
        .from_text(text.as_bytes())
        .map_err(|error| OpError::refused("22P02", error.to_string()))?;
    if pin.shard.is_none() && map.scheme == scheme {
        return Err(OpError::refused(
            "42704",
            format!("key \"{}\" of table {title} is not pinned", pin.key),
        ));
    }
    let (before, after) = (built(&map.scheme)?, built(&scheme)?);
    let shards = (before.shard_of(&key), after.shard_of(&key));
    Ok(Change {
        map: map.id,
        scheme,
        shards,
        residents: guards::keeps_residents(&before),
        // A region that is on no list any more may have no rows.
        can_move: shards.0 != shards.1 && !(guards::keeps_residents(&before) && pin.shard.is_none()),
        key,
        shape,
    })
}

fn tables_of(record: &ClusterRecord, of: MapId) -> Vec<&TableRecord> {
    let is_on = |table: &&TableRecord| matches!(&table.kind, TableKind::Sharded { map, .. } if *map == of);
    record.tables.iter().filter(is_on).collect()
}

/// Sees that no table has rows of the key, and takes the guards away that say where the key was.
async fn free(cluster: &Cluster, change: &Change, tables: &[&TableRecord]) -> Result<(), OpError> {
    let mut open = Vec::new();
    for table in tables {
        let (from, to) = change.shards;
        for shard in std::iter::once(from).chain((to != from).then_some(to)) {
            match free_one(cluster, change, table, shard).await {
                Ok(part) => open.push(part),
                Err(error) => {
                    for part in open {
                        part.roll_back().await;
                    }
                    return Err(error);
                }
            }
        }
    }
    for mut part in open {
        part.run("COMMIT").await?;
    }
    Ok(())
}

/// Leaves a transaction open in which the table has no guard on this shard.
async fn free_one(
    cluster: &Cluster,
    change: &Change,
    table: &TableRecord,
    shard: ShardId,
) -> Result<Part, OpError> {
    let mut part = Part::begin(cluster, shard, &table.database).await?;
    match free_in(&mut part, change, table).await {
        Ok(()) => Ok(part),
        Err(error) => {
            part.roll_back().await;
            Err(in_use(cluster, shard, table, error))
        }
    }
}

/// A failure, in better words when it is that a lock could not be had.
fn in_use(cluster: &Cluster, shard: ShardId, table: &TableRecord, error: OpError) -> OpError {
    match error.sqlstate() {
        Some("55P03") => OpError::refused_with(
            "55P03",
            format!(
                "table {}.{} is in use on {}",
                table.schema,
                table.name,
                shard_name(cluster, shard)
            ),
            "An open or prepared transaction holds a lock on it; nothing has changed.",
        ),
        _ => error,
    }
}

fn lock_sql(name: &str) -> String {
    format!(
        "SET LOCAL lock_timeout = {}; LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE; SET LOCAL lock_timeout = 0",
        LOCK_TIMEOUT.as_millis()
    )
}

fn name_sql(table: &TableRecord) -> String {
    format!("{}.{}", quote_ident(&table.schema), quote_ident(&table.name))
}

async fn free_in(part: &mut Part, change: &Change, table: &TableRecord) -> Result<(), OpError> {
    let TableKind::Sharded { columns, .. } = &table.kind else {
        return Ok(());
    };
    let name = name_sql(table);
    part.run(&lock_sql(&name)).await?;
    let is_key = is_key_sql(change, columns)?;
    let [rows] = part
        .counts(&format!("SELECT pg_catalog.count(*) FROM {name} WHERE {is_key}"))
        .await?;
    if rows > 0 {
        return Err(OpError::not_done(
            RefusalCode::PinWithRows,
            format!(
                "table {}.{} of database {} has {rows} rows with this key",
                table.schema, table.name, table.database
            ),
            None,
        ));
    }
    partitions::unguard(part, &name).await
}

/// True of the rows with the key.
fn is_key_sql(change: &Change, columns: &[String]) -> Result<String, OpError> {
    let (here, elsewhere) = (ShardId(1), ShardId(0));
    let only = ShardMap::one(elsewhere).with_rows([(change.key.clone(), here)]);
    let only = only.map_err(|error| OpError::refused("XX000", error.to_string()))?;
    let names = columns.iter().map(|name| quote_ident(name));
    let key: Vec<(KeyType, String)> = change.shape.types().iter().copied().zip(names).collect();
    Ok(only.predicate_sql(here, &borrowed(&key)))
}
