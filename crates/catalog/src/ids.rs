//! Typed identifiers.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A shard: one PostgreSQL primary and its replicas, holding one part of every sharded table.
    ShardId(u32)
}
id! {
    /// A shard map. Tables with the same map are colocated: equal keys live on the same shard.
    MapId(u32)
}
id! {
    /// Version of the sharding metadata. Only grows.
    Epoch(u64)
}
id! {
    /// A PostgreSQL object id *on the home shard*. User-defined objects have other OIDs on other shards.
    Oid(u32)
}

impl Oid {
    /// The OID that means "none".
    pub const INVALID: Oid = Oid(0);

    /// OIDs from here on are given to objects made after `initdb`; below it the meaning is the same on every
    /// server of a major version.
    pub const FIRST_NORMAL: Oid = Oid(16384);

    /// Whether this is an object every server has under the same OID.
    pub fn is_builtin(self) -> bool {
        self.0 < Self::FIRST_NORMAL.0
    }
}
