//! Tables, keys, schemes, shard map and schema facts: one immutable [`Snapshot`] per epoch, and key → shard.
//!
//! Nothing here does IO. The caller runs the queries of [`load`] on the home shard, hands the rows to a
//! [`SnapshotBuilder`], adds the sharding metadata as [`ShardingInput`] and gets a [`Snapshot`] which is then
//! only read. [`ddl`] works the same way: it says which queries to run and turns their rows into statements.
//!
//! Three rules hold everywhere in this crate:
//!
//! * what cannot be resolved is not proved ([`Proof::Unproved`]), never assumed harmless;
//! * a key value is accepted only in canonical form ([`KeyError::NotCanonical`] otherwise);
//! * lookups by name ignore schemas on purpose: they answer "could this name mean something sharded?" and are
//!   allowed to say yes too often, never no too often.

mod build;
mod closure;
pub mod ddl;
mod function;
mod global_index;
pub mod hash;
mod ids;
mod key;
pub mod load;
mod proof;
mod reads;
mod relation;
mod shard_map;
mod snapshot;
mod types;

pub use closure::SessionActs;
pub use function::{BodyFacts, BodyParser, Function, FunctionBody, FunctionKind, Proof, Volatility};
pub use global_index::GlobalIndex;
pub use ids::{Epoch, MapId, Oid, ShardId};
pub use key::{
    KEY_COLUMNS_MAX, KeyColumn, KeyError, KeyFamily, KeyRef, KeyShape, KeyStep, KeyType, KeyValue, Numeric,
    ShapeError, hash_sql, key_literal_sql, literal_sql, record_fields, record_hash, record_hash_sql,
    record_text,
};
pub use load::{CatalogError, QueryId, SnapshotBuilder};
pub use reads::{Hindrance, HindranceKind, Scope};
pub use relation::{
    CheckConstraint, Column, FkAction, ForeignKey, Generated, Identity, Part, PartKind, Persistence,
    Placement, Policy, Relation, RelationKind, Trigger, UniqueIndex,
};
pub use shard_map::{
    HashRange, KeyRange, NULL_KEY_HASH, RANGES_MAX, REMAINDERS_MAX, ROWS_MAX, Rule, SUB_KEYS_MAX, Salt,
    ShardMap, ShardMapError,
};
pub use snapshot::{Database, ShardingInput, Snapshot, TableSharding, TableShardingKind};
pub use types::{Collation, CollationProvider, Operator, SortOrder, Type, TypeKind};

/// A hash map with a fixed seed: ring 0 takes no randomness from its surroundings.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;
/// The set belonging to [`Map`].
pub(crate) type Set<K> = hashbrown::HashSet<K, foldhash::fast::FixedState>;
