//! Where the shards' primaries are: replaced as a whole when that changes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::ShardConfig;
use crate::server::Address;

/// The current shards of one proxy. Reading costs no lock.
#[derive(Debug)]
pub struct Shards {
    current: ArcSwap<Vec<ShardConfig>>,
}

impl Shards {
    /// As known at the start.
    #[must_use]
    pub fn new(shards: Vec<ShardConfig>) -> Self {
        Self {
            current: ArcSwap::from_pointee(shards),
        }
    }

    /// Replaces all. Returns the shards whose address changed or that are gone: their pools have to be recycled
    /// ([`crate::worker::Shared::set_shards`] does both).
    pub fn replace(&self, shards: Vec<ShardConfig>) -> Vec<u32> {
        let old = self.current.swap(Arc::new(shards));
        let new = self.current.load();
        old.iter()
            .filter(|old| {
                !new.iter()
                    .any(|new| new.id == old.id && new.host == old.host && new.port == old.port)
            })
            .map(|old| old.id)
            .collect()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<ShardConfig>> {
        self.current.load_full()
    }

    /// Where a shard's primary is now.
    #[must_use]
    pub fn address(&self, shard: u32) -> Option<Address> {
        let shards = self.current.load();
        let shard = shards.iter().find(|candidate| candidate.id == shard)?;
        Some(Address {
            host: shard.host.clone(),
            port: shard.port,
        })
    }

    /// A shard's name for people; `shard <id>` when it is unknown.
    #[must_use]
    pub fn name(&self, shard: u32) -> String {
        let shards = self.current.load();
        let found = shards.iter().find(|candidate| candidate.id == shard);
        found.map_or_else(|| format!("shard {shard}"), |shard| shard.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_tells_which_pools_are_stale() {
        let shard = |id, port| ShardConfig {
            id,
            name: format!("s{id}"),
            host: "h".into(),
            port,
        };
        let shards = Shards::new(vec![shard(1, 10), shard(2, 20), shard(3, 30)]);
        assert_eq!(
            shards.replace(vec![shard(1, 10), shard(2, 21), shard(4, 40)]),
            [2, 3]
        );
        assert_eq!(
            shards.address(2),
            Some(Address {
                host: "h".into(),
                port: 21
            })
        );
        assert_eq!((shards.address(3), shards.name(3).as_str()), (None, "shard 3"));
    }
}
