//! The first record of a cluster, and keeping its addresses as configured.

use std::collections::BTreeSet;

use crate::records::{ClusterRecord, ClusterRecordError, Record, ShardRecord, cluster_key};
use crate::{Epoch, StoreError, TopologyStore, Write, WriteError};

/// Attempts against other processes that start at the same time.
const ATTEMPTS_MAX: u32 = 64;

/// Why a cluster cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The store holds a cluster with other shards. Adding and removing shards moves data; configuration cannot.
    #[error("the store holds a cluster with shards {stored}, the configuration names {configured}")]
    OtherShards {
        /// Names in the store.
        stored: String,
        /// Names in the configuration.
        configured: String,
    },
    /// The store holds no cluster.
    #[error("the store holds no cluster")]
    NoCluster,
    /// The wanted record makes no sense.
    #[error("the configured cluster makes no sense")]
    Invalid(#[source] ClusterRecordError),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores `wanted` if the store holds no cluster; else brings the stored one up to date with the addresses of
/// `wanted`'s shards and with databases it lacks, as a new epoch if anything differs. Returns what is stored.
///
/// Safe to be called by several processes at once. No barrier: an address change moves no data.
pub async fn ensure_cluster(
    store: &dyn TopologyStore,
    wanted: &ClusterRecord,
) -> Result<ClusterRecord, SetupError> {
    wanted.check().map_err(SetupError::Invalid)?;
    for _ in 0..ATTEMPTS_MAX {
        let stored = store.get(&cluster_key()).await?;
        let (expected, record) = match stored {
            None => (None, wanted.clone()),
            Some(stored) => {
                let record = ClusterRecord::from_value(&stored.value)?;
                match updated(&record, wanted)? {
                    None => return Ok(record),
                    Some(updated) => (Some(stored.version), updated),
                }
            }
        };
        let write = Write::new(cluster_key(), expected, record.clone().to_value()?);
        match store.compare_and_swap(write).await {
            Ok(_) => return Ok(record),
            Err(WriteError::Store(error)) => return Err(error.into()),
            // Somebody else was faster: look again.
            Err(_) => {}
        }
    }
    Err(StoreError::Limit("the cluster record changes too often".to_owned()).into())
}

/// Adds databases to the stored cluster, as a new epoch if it lacks any. Returns what is stored.
///
/// Safe to be called by several processes at once. No barrier: no plan can be about a database that nobody serves yet.
pub async fn add_databases(
    store: &dyn TopologyStore,
    databases: &[String],
) -> Result<ClusterRecord, SetupError> {
    for _ in 0..ATTEMPTS_MAX {
        let stored = store.get(&cluster_key()).await?;
        let stored = stored.ok_or(SetupError::NoCluster)?;
        let mut record = ClusterRecord::from_value(&stored.value)?;
        let epoch = record.epoch;
        if !add_missing(&mut record, databases) {
            return Ok(record);
        }
        record.epoch = Epoch(epoch.0 + 1);
        record.check().map_err(SetupError::Invalid)?;
        let write = Write::new(cluster_key(), Some(stored.version), record.clone().to_value()?);
        match store.compare_and_swap(write).await {
            Ok(_) => return Ok(record),
            Err(WriteError::Store(error)) => return Err(error.into()),
            // Somebody else was faster: look again.
            Err(_) => {}
        }
    }
    Err(StoreError::Limit("the cluster record changes too often".to_owned()).into())
}

/// False: all of them are there.
fn add_missing(record: &mut ClusterRecord, databases: &[String]) -> bool {
    let before = record.databases.len();
    for database in databases {
        if !record.databases.contains(database) {
            record.databases.push(database.clone());
        }
    }
    record.databases.len() > before
}

/// `None` if nothing differs.
fn updated(stored: &ClusterRecord, wanted: &ClusterRecord) -> Result<Option<ClusterRecord>, SetupError> {
    let names = |record: &ClusterRecord| -> BTreeSet<String> {
        record
            .shards
            .iter()
            .map(|shard| format!("`{}`", shard.name))
            .collect()
    };
    let (stored_names, wanted_names) = (names(stored), names(wanted));
    if stored_names != wanted_names {
        let join = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
        return Err(SetupError::OtherShards {
            stored: join(stored_names),
            configured: join(wanted_names),
        });
    }
    let mut record = stored.clone();
    for shard in &mut record.shards {
        if let Some(configured) = wanted.shards.iter().find(|other| other.name == shard.name) {
            // The number stays as stored: shard maps name it.
            *shard = ShardRecord {
                id: shard.id,
                ..configured.clone()
            };
        }
    }
    add_missing(&mut record, &wanted.databases);
    if record == *stored {
        return Ok(None);
    }
    record.epoch = Epoch(stored.epoch.0 + 1);
    Ok(Some(record))
}
