//! What is stored: versioned records. The tag `"v"` names the form; a form that has been released never changes,
//! and `samples/` holds a frozen file of each.

use catalog::{Epoch, MapId, ShardId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Key, StoreError};

mod cluster;
mod global_index;
mod ids;
mod journal;
mod movement;
mod ownership;
mod scheme;
#[cfg(test)]
mod tests;

pub use cluster::ClusterRecordError;
pub use global_index::GlobalIndexRecord;
pub use journal::SchemaJournal;
pub use movement::StoredMovement;
pub use scheme::{HashRange, KeyPlace, Scheme, SchemeError};

/// Prefix of the keys that [`crate::ClusterWatch`] follows.
pub(crate) const CLUSTER_PREFIX: &str = "cluster/";
/// Prefix of the keys of proxies.
pub(crate) const PROXIES_PREFIX: &str = "proxies/";

/// The key of the one [`ClusterRecord`].
pub fn cluster_key() -> Key {
    fixed_key("cluster/record")
}

/// The key of the [`BarrierRecord`] of the change under way, if any.
pub fn barrier_key() -> Key {
    fixed_key("cluster/barrier")
}

fn fixed_key(text: &'static str) -> Key {
    Key::parse(text).expect("the constant is a key")
}

/// The whole cluster: one document under one key, so that every change of it is atomic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRecord {
    /// Made once, at the cluster's creation.
    pub cluster_id: String,
    /// Grows by one with every change of this record.
    #[serde(with = "ids::epoch")]
    pub epoch: Epoch,
    /// Grows with every change of the schema (DDL) that proxies must load from the home shard.
    pub schema_version: u64,
    /// Names of the databases served; each exists on every shard.
    pub databases: Vec<String>,
    /// The shard that holds unsharded tables and whose schema is the canonical one.
    #[serde(with = "ids::shard")]
    pub home: ShardId,
    /// All shards.
    pub shards: Vec<ShardRecord>,
    /// Shard maps.
    pub maps: Vec<MapRecord>,
    /// Sharded and reference tables; all others live on the home shard.
    pub tables: Vec<TableRecord>,
    /// Functions the operator declared correct when run on one shard.
    #[serde(default)]
    pub declared_local: Vec<FunctionRecord>,
    /// Indexes over all shards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub global_indexes: Vec<GlobalIndexRecord>,
    /// Schemas whose new tables are placed on a shard other than the home shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed_schemas: Vec<SchemaRecord>,
    /// The epoch since which rows are where this record says: server sessions state it, and shards refuse those that state
    /// an older one (docs/decisions/0030). 0: nothing has moved.
    #[serde(
        default = "nothing_moved",
        skip_serializing_if = "is_nothing_moved",
        with = "ids::epoch"
    )]
    pub ownership: Epoch,
    /// A schema change that is being committed. Found without a barrier, it has to be brought to its end first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<SchemaJournal>,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// Number.
    #[serde(with = "ids::shard")]
    pub id: ShardId,
    /// Name, such as `shard_1`.
    pub name: String,
    /// The node that takes writes.
    pub primary: NodeRecord,
    /// Nodes that follow it.
    pub replicas: Vec<NodeRecord>,
}

/// Where one PostgreSQL server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// Host name, address, or a directory (starting with `/`) that holds the server's Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its share of the reads that replicas get, compared with the other nodes of the shard; 0: none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it stands, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl NodeRecord {
    /// A node with weight 1 and no zone.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            weight: 1,
            zone: None,
        }
    }

    /// Both are the same server, whatever else is said of them.
    pub fn is_at(&self, other: &NodeRecord) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

fn nothing_moved() -> Epoch {
    Epoch(0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_nothing_moved(epoch: &Epoch) -> bool {
    epoch.0 == 0
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// A table that does not (only) live on the home shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRecord {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Table name.
    pub name: String,
    /// The table's OID on the home shard: tells a renamed or re-created table from the recorded one.
    pub home_oid: u32,
    /// How its rows are placed.
    pub kind: TableKind,
    /// Whether it can be used.
    pub state: TableState,
}

/// How the rows of a table are placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TableKind {
    /// Each row on the shard that its key maps to.
    Sharded {
        /// Key columns, in order; none: the table is placed, and its map is a [`Scheme::Place`].
        columns: Vec<String>,
        /// Their types' names in `pg_catalog` (`int8`, `text`, …), same order.
        key_types: Vec<String>,
        /// Shard map.
        #[serde(with = "ids::map")]
        map: MapId,
    },
    /// Every row on every shard.
    Reference,
}

/// Whether a table can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TableState {
    /// Ready.
    Active,
    /// A change was begun and not finished: the table is as `kind` says only once the change is done. Whoever finds
    /// it without a barrier cleans up on the shards and restores or removes the record.
    Pending {
        /// The global transaction id (`commit::Gid` as text) under which the change commits: its decision on the home
        /// shard says whether the change happened.
        change: String,
        /// What was going on, for people.
        what: String,
    },
}

/// A shard map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapRecord {
    /// Number. Tables with the same map are colocated.
    #[serde(with = "ids::map")]
    pub id: MapId,
    /// How a key becomes a shard.
    pub scheme: Scheme,
}

/// A function, all its overloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionRecord {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// A schema whose new tables are placed on a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaRecord {
    /// Database.
    pub database: String,
    /// Its name.
    pub schema: String,
    /// The shard.
    #[serde(with = "ids::shard")]
    pub shard: ShardId,
}

/// A live proxy. The key is bound to the proxy's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRecord {
    /// Proxy id, the last segment of the key.
    pub id: String,
    /// The newest epoch it has loaded; `None`: it has just joined (or joined again) and serves nobody.
    #[serde(with = "ids::epoch_option")]
    pub acked_epoch: Option<Epoch>,
    /// The barrier for which it has paused.
    pub paused_for: Option<BarrierId>,
    /// Where it takes cancels for its clients; `None`: not yet, or it has no way to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelPeer>,
}

/// Where a proxy takes cancels for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelPeer {
    /// The part of its clients' process numbers that names it. Two proxies may have the same.
    pub number: u16,
    /// Address and port.
    pub address: std::net::SocketAddr,
}

/// Names one change. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BarrierId(pub String);

/// The change under way. The key is bound to its leader's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarrierRecord {
    /// Which change.
    pub id: BarrierId,
    /// The proxy that leads it.
    pub leader: String,
    /// What must pause.
    pub scope: ChangeScope,
}

/// What every proxy must pause while a change is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangeScope {
    /// Nothing; the barrier only keeps other changes away.
    Nothing,
    /// Transactions that use one of these tables.
    Tables {
        /// Tables.
        tables: Vec<TableName>,
    },
    /// All transactions.
    Everything,
}

/// A table's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableName {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// A record as it is stored: a versioned enum.
pub trait Record: Sized {
    /// The enum of all forms.
    type Stored: Serialize + DeserializeOwned;
    /// The newest form.
    fn into_stored(self) -> Self::Stored;
    /// From any form.
    fn from_stored(stored: Self::Stored) -> Self;
    /// What error messages call it.
    const WHAT: &'static str;

    /// As a value for the store.
    fn to_value(self) -> Result<Value, StoreError> {
        serde_json::to_value(self.into_stored()).map_err(|error| StoreError::Damaged {
            what: Self::WHAT.to_owned(),
            detail: error.to_string(),
        })
    }

    /// From a value of the store.
    fn from_value(value: &Value) -> Result<Self, StoreError> {
        let stored = Self::Stored::deserialize(value);
        stored
            .map(Self::from_stored)
            .map_err(|error| StoreError::Damaged {
                what: Self::WHAT.to_owned(),
                detail: error.to_string(),
            })
    }
}

macro_rules! versioned {
    ($record:ident, $stored:ident, $what:literal) => {
        /// All stored forms of the record of this name.
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(tag = "v")]
        pub enum $stored {
            /// The first form.
            #[serde(rename = "1")]
            V1($record),
        }

        impl Record for $record {
            type Stored = $stored;
            const WHAT: &'static str = $what;

            fn into_stored(self) -> $stored {
                $stored::V1(self)
            }

            fn from_stored(stored: $stored) -> $record {
                match stored {
                    $stored::V1(record) => record,
                }
            }
        }
    };
}

versioned!(ClusterRecord, StoredCluster, "the cluster record");
versioned!(ProxyRecord, StoredProxy, "a proxy record");
versioned!(BarrierRecord, StoredBarrier, "the barrier record");
