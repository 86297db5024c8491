//! Noticing that another proxy is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::records::PROXIES_PREFIX;
use crate::{Key, Membership, StoreError, Watch};

/// Follows which proxies are registered.
#[derive(Debug)]
pub struct PeerWatch {
    own: Key,
    watch: Watch,
    known: BTreeSet<Key>,
}

impl PeerWatch {
    /// Knows nobody yet.
    pub fn new(membership: &Arc<Membership>) -> Self {
        Self {
            own: membership.shared.key.clone(),
            watch: membership.store().watch(PROXIES_PREFIX),
            known: BTreeSet::new(),
        }
    }

    /// Waits until another proxy's registration has vanished: it has left, or its lease has ended. How many at once.
    /// One that is gone and back between two looks is not noticed. Cancel safe.
    ///
    /// # Errors
    /// The store does not work; the caller decides how soon it asks again.
    pub async fn lost(&mut self) -> Result<usize, StoreError> {
        loop {
            let listing = self.watch.next().await?;
            let now: BTreeSet<Key> = listing.keys().filter(|key| **key != self.own).cloned().collect();
            let known = std::mem::replace(&mut self.known, now);
            let gone = known.difference(&self.known).count();
            if gone > 0 {
                return Ok(gone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::LEASE_TTL_DEFAULT;
    use crate::{MemoryStore, ProxyId, TopologyStore};

    #[tokio::test]
    async fn who_vanishes_is_noticed_and_who_comes_is_not() {
        let store: Arc<dyn TopologyStore> = Arc::new(MemoryStore::new());
        let join = async |id: &str| {
            let id = ProxyId::parse(id).unwrap();
            let joined = Membership::join(Arc::clone(&store), id, LEASE_TTL_DEFAULT).await;
            Arc::new(joined.unwrap())
        };
        let own = join("a").await;
        let others = [join("b").await, join("c").await];
        let mut watch = PeerWatch::new(&own);
        let looked = {
            let mut lost = std::pin::pin!(watch.lost());
            std::future::poll_fn(|cx| std::task::Poll::Ready(lost.as_mut().poll(cx).is_pending())).await
        };
        assert!(looked, "nobody is gone");
        others[0].leave().await.unwrap();
        assert_eq!(watch.lost().await.unwrap(), 1);
        let again = join("b").await;
        others[1].leave().await.unwrap();
        assert_eq!(watch.lost().await.unwrap(), 1);
        again.leave().await.unwrap();
        assert_eq!(watch.lost().await.unwrap(), 1);
    }
}
