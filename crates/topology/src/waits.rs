//! Which transactions over several shards wait for locks, as their proxies say.
//!
//! A circle of waits may pass through transactions of several proxies, and which backends of which servers work for one
//! transaction only its own proxy knows. So a proxy writes it down under `waits/<id>`, for those that wait: everybody in a
//! circle waits. The key is bound to the proxy's lease and is there only while something waits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{StoreError, Version, Write, WriteError};
use crate::{Key, Membership, MembershipError};

/// What all keys begin with.
const WAITS: &str = "waits/";

/// A transaction over several shards that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingTransaction {
    /// Given by its proxy, to no other.
    pub number: u64,
    /// When it began, in microseconds since 1970 by a server's clock.
    pub began_us: i64,
    /// It is being committed: it can be in a circle (constraints that were deferred), and cannot be cancelled.
    pub ending: bool,
    /// Its backends: shard and process number. A prepared part has a number that no process has.
    pub backends: Vec<(u32, u32)>,
}

/// The stored form.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version", deny_unknown_fields)]
enum Record {
    #[serde(rename = "1")]
    V1 {
        /// The transactions.
        waiting: Vec<WaitingTransaction>,
    },
}

/// What one proxy says.
#[derive(Debug)]
pub struct Waits {
    membership: Arc<Membership>,
    key: Key,
    /// What the key has, if it is there.
    written: Option<(Version, Vec<WaitingTransaction>)>,
}

impl Waits {
    /// Nothing is said yet.
    ///
    /// # Errors
    /// The proxy's id makes no key, which cannot be.
    pub fn new(membership: Arc<Membership>) -> Result<Self, crate::KeyError> {
        let key = Key::parse(&format!("{WAITS}{}", membership.id()))?;
        Ok(Self {
            membership,
            key,
            written: None,
        })
    }

    /// Says that these wait, and no others.
    ///
    /// # Errors
    /// The store does not work, or this proxy is cut off.
    pub async fn say(&mut self, waiting: &[WaitingTransaction]) -> Result<(), MembershipError> {
        if self.written.as_ref().map_or(&[][..], |(_, written)| written) == waiting {
            return Ok(());
        }
        let store = Arc::clone(self.membership.store());
        let lease = self.membership.lease().await?;
        let mut expected = self.written.take().map(|(version, _)| version);
        loop {
            let value = serde_json::json!({ "version": "1", "waiting": waiting });
            let written = match (expected, waiting) {
                (None, []) => return Ok(()),
                (Some(version), []) => store.delete(&self.key, version).await.map(|()| None),
                _ => {
                    let write = Write::new(self.key.clone(), expected, value).lease(&lease);
                    store.compare_and_swap(write).await.map(Some)
                }
            };
            match written {
                Ok(version) => {
                    self.written = version.map(|version| (version, waiting.to_vec()));
                    return Ok(());
                }
                // Nobody else writes it: it vanished with an earlier lease, or an earlier write was not seen to end.
                Err(WriteError::Conflict { current, .. }) if current != expected => expected = current,
                Err(WriteError::Store(error)) => {
                    // Whatever is there now is found out by the next write.
                    return Err(error.into());
                }
                Err(_) => return Err(MembershipError::Fenced),
            }
        }
    }

    /// What all proxies say: the proxy's id with each transaction. What cannot be read is left out.
    ///
    /// # Errors
    /// The store does not work.
    pub async fn all(&self) -> Result<Vec<(String, WaitingTransaction)>, StoreError> {
        let listing = self.membership.store().list(WAITS).await?;
        let mut all = Vec::new();
        for (key, stored) in listing.iter() {
            let Some(proxy) = key.as_str().strip_prefix(WAITS) else {
                continue;
            };
            let waiting = decode(&stored.value).unwrap_or_default();
            all.extend(waiting.into_iter().map(|one| (proxy.to_owned(), one)));
        }
        Ok(all)
    }

    /// The id that this proxy's transactions are listed with.
    #[must_use]
    pub fn proxy(&self) -> &str {
        self.membership.id().as_str()
    }
}

fn decode(value: &Value) -> Option<Vec<WaitingTransaction>> {
    let Record::V1 { waiting } = Record::deserialize(value).ok()?;
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, ProxyId, membership::LEASE_TTL_DEFAULT};

    #[test]
    fn the_stored_form_stays_readable() {
        let sample = r#"{"version":"1","waiting":[{"number":7,"began_us":5,"ending":false,"backends":[[1,11],[2,21]]}]}"#;
        let waiting = vec![WaitingTransaction {
            number: 7,
            began_us: 5,
            ending: false,
            backends: vec![(1, 11), (2, 21)],
        }];
        assert_eq!(decode(&serde_json::from_str(sample).unwrap()), Some(waiting));
        assert_eq!(
            decode(&serde_json::json!({ "version": "2", "waiting": [] })),
            None
        );
    }

    #[tokio::test]
    async fn each_proxy_says_its_own_and_reads_all() {
        let store = Arc::new(MemoryStore::new());
        let mut proxies = Vec::new();
        for id in ["a", "b"] {
            let store = Arc::clone(&store) as Arc<dyn crate::TopologyStore>;
            let id = ProxyId::parse(id).unwrap();
            let membership = Membership::join(store, id, LEASE_TTL_DEFAULT).await.unwrap();
            proxies.push(Waits::new(Arc::new(membership)).unwrap());
        }
        let one = |number| WaitingTransaction {
            number,
            began_us: 1,
            ending: false,
            backends: vec![(1, 2)],
        };
        assert_eq!(proxies[0].all().await.unwrap(), []);
        proxies[0].say(&[one(1)]).await.unwrap();
        proxies[1].say(&[one(1), one(2)]).await.unwrap();
        let named = |proxy: &str, number| (proxy.to_owned(), one(number));
        let all = [named("a", 1), named("b", 1), named("b", 2)];
        assert_eq!(proxies[0].all().await.unwrap(), all);
        proxies[0].say(&[one(3)]).await.unwrap();
        proxies[1].say(&[]).await.unwrap();
        assert_eq!(proxies[1].all().await.unwrap(), [named("a", 3)]);
        // Gone with its lease.
        proxies[0].membership.leave().await.unwrap();
        assert_eq!(proxies[1].all().await.unwrap(), []);
        proxies[1].say(&[one(4)]).await.unwrap();
        assert_eq!(proxies[0].all().await.unwrap(), [named("b", 4)]);
    }
}
