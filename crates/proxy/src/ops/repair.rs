//! Changes that nobody leads any more: the record is brought in line with what the shards decided.

use commit::Gid;
use topology::records::{TableRecord, TableState};
use topology::{ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::OpError;
use super::decide::settle;
use super::effects::text_sql;
use super::join::try_join_all;
use super::part::shard_name;
use crate::cluster::Cluster;

/// Whether the record has changes that were begun and are not recorded as done or given up. When no barrier is there
/// either, statements must wait for [`repair`].
pub fn is_unfinished(record: &ClusterRecord) -> bool {
    record.journal.is_some()
        || record
            .tables
            .iter()
            .any(|table| table.state != TableState::Active)
}

/// Finishes changes whose leader is gone, in one database. Waits for a leader that is not. Does not wait for proxies to
/// load the new record, so the thread that follows the cluster may call it.
pub async fn repair(cluster: &Cluster, database: &str) -> Result<(), ErrorFields> {
    let record = cluster.record();
    let journaled = record.journal.as_ref().is_some_and(|j| j.database == database);
    if journaled {
        finish_schema_change(cluster, database)
            .await
            .map_err(OpError::into_fields)?;
    }
    if !record.tables.iter().any(|table| is_pending_in(table, database)) {
        return Ok(());
    }
    finish(cluster, database).await.map_err(OpError::into_fields)
}

/// Brings a schema change to its end whose proxy died between its commit and the record of it, or before.
pub(super) async fn finish_schema_change(cluster: &Cluster, database: &str) -> Result<(), OpError> {
    let mut guard = cluster.change(ChangeScope::Nothing).await?;
    let Some(journal) = guard.cluster().journal.clone() else {
        return Ok(());
    };
    if journal.database != database {
        return Ok(());
    }
    let gid: Gid = journal
        .change
        .parse()
        .map_err(|_| OpError::refused("XX000", "the journal of a schema change cannot be read"))?;
    // What is decided about the transaction's parts is carried out first, so that the shards agree when statements go on.
    // A part that is not decided yet is left to recovery; the decision row then waits for it.
    cluster.finish_decided().await;
    let happened = settle(cluster, database, &gid).await?;
    cluster.finish_decided().await;
    guard
        .publish(|record| {
            record.schema_version += 1;
            if record.journal.as_ref() == Some(&journal) {
                record.journal = None;
                if happened {
                    journal.apply(record);
                }
            }
        })
        .await?;
    tracing::warn!(%database, happened, "a schema change whose leader is gone was brought to its end");
    Ok(())
}

fn is_pending_in(table: &TableRecord, database: &str) -> bool {
    table.database == database && table.state != TableState::Active
}

pub(super) async fn finish(cluster: &Cluster, database: &str) -> Result<(), OpError> {
    // The barrier keeps other changes and other repairs away, and shows that no leader is left.
    let mut guard = cluster.change(ChangeScope::Nothing).await?;
    let mut verdicts = Vec::new();
    for table in guard
        .cluster()
        .tables
        .iter()
        .filter(|table| is_pending_in(table, database))
    {
        let moved = is_done(cluster, guard.cluster(), table).await?;
        tracing::warn!(
            schema = %table.schema, table = %table.name, moved,
            "a table move whose leader is gone was brought to its end"
        );
        verdicts.push((table.clone(), moved));
    }
    if verdicts.is_empty() {
        return Ok(());
    }
    guard
        .publish(|record| {
            record.schema_version += 1;
            for (table, moved) in &verdicts {
                if *moved {
                    record
                        .tables
                        .iter_mut()
                        .filter(|known| *known == table)
                        .for_each(|known| {
                            known.state = TableState::Active;
                        });
                } else {
                    record.tables.retain(|known| known != table);
                }
            }
        })
        .await?;
    // Dropped, not finished: the proxies are told by the record itself.
    Ok(())
}

/// Whether the change was decided; carries the decision out.
async fn is_done(cluster: &Cluster, record: &ClusterRecord, table: &TableRecord) -> Result<bool, OpError> {
    let TableState::Pending { change, .. } = &table.state else {
        return Ok(true);
    };
    match change.parse::<Gid>() {
        Ok(gid) => settle(cluster, &table.database, &gid).await,
        // Not a move of this kind: the table is either everywhere or on the home shard.
        Err(_) => exists_elsewhere(cluster, record, table).await,
    }
}

async fn exists_elsewhere(
    cluster: &Cluster,
    record: &ClusterRecord,
    table: &TableRecord,
) -> Result<bool, OpError> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relname = {}",
        text_sql(&table.schema),
        text_sql(&table.name)
    );
    let others = record
        .shards
        .iter()
        .map(|shard| shard.id)
        .filter(|shard| *shard != record.home);
    let found = try_join_all(others.map(async |shard| {
        let on = OpError::on(&shard_name(cluster, shard));
        let mut link = cluster.admin_link(shard, &table.database).await.map_err(&on)?;
        link.value(&sql).await.map_err(&on).map(|value| value.is_some())
    }))
    .await?;
    Ok(!found.is_empty() && found.iter().all(|there| *there))
}
