//! A store in memory, for tests: one process, no durability, time from tokio (so a test may pause it).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::store::{LEASE_TTL_MAX, VALUE_BYTES_MAX, same_versions};
use crate::{
    BoxFuture, Key, LeaseError, LeaseId, Listing, StoreError, TopologyStore, Version, Versioned, Watch,
    WatchSource, Write, WriteError,
};

/// The store. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    counter: u64,
    keys: BTreeMap<Key, Entry>,
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug)]
struct Entry {
    versioned: Versioned,
    lease: Option<LeaseId>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl Shared {
    /// The state, without anything that has expired.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire(Instant::now());
        state
    }
}

impl State {
    fn expire(&mut self, now: Instant) {
        self.leases.retain(|_, lease| now < lease.deadline);
        let leases = &self.leases;
        self.keys
            .retain(|_, entry| entry.lease.as_ref().is_none_or(|id| leases.contains_key(id)));
    }

    fn listing(&self, prefix: &str) -> Listing {
        let matching = self
            .keys
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix));
        matching
            .map(|(key, entry)| (key.clone(), entry.versioned.clone()))
            .collect()
    }

    fn version(&self, key: &Key) -> Option<Version> {
        self.keys.get(key).map(|entry| entry.versioned.version)
    }

    fn next_version(&mut self) -> Version {
        self.counter += 1;
        Version(self.counter)
    }

    fn write(&mut self, write: Write) -> Result<Version, WriteError> {
        let current = self.version(&write.key);
        if current != write.expected {
            return Err(WriteError::Conflict {
                key: write.key,
                current,
            });
        }
        if let Some((key, version)) = write.require
            && self.version(&key) != Some(version)
        {
            return Err(WriteError::RequirementFailed { key });
        }
        if write
            .lease
            .as_ref()
            .is_some_and(|id| !self.leases.contains_key(id))
        {
            return Err(WriteError::LeaseExpired);
        }
        let version = self.next_version();
        let entry = Entry {
            versioned: Versioned {
                version,
                value: write.value,
            },
            lease: write.lease,
        };
        self.keys.insert(write.key, entry);
        Ok(version)
    }
}

impl TopologyStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move {
            Ok(self
                .shared
                .state()
                .keys
                .get(key)
                .map(|entry| entry.versioned.clone()))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Arc<Listing>, StoreError>> {
        Box::pin(async move { Ok(Arc::new(self.shared.state().listing(prefix))) })
    }

    fn compare_and_swap(&self, write: Write) -> BoxFuture<'_, Result<Version, WriteError>> {
        Box::pin(async move {
            if write.value.to_string().len() > VALUE_BYTES_MAX {
                let message = format!(
                    "the value of `{}` has more than {VALUE_BYTES_MAX} bytes",
                    write.key
                );
                return Err(StoreError::Limit(message).into());
            }
            let written = self.shared.state().write(write);
            self.shared.changed.notify_waiters();
            written
        })
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Version) -> BoxFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            let mut state = self.shared.state();
            let current = state.version(key);
            if current != Some(expected) {
                return Err(WriteError::Conflict {
                    key: key.clone(),
                    current,
                });
            }
            state.keys.remove(key);
            drop(state);
            self.shared.changed.notify_waiters();
            Ok(())
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(MemoryWatch {
            shared: Arc::clone(&self.shared),
            prefix: prefix.to_owned(),
            last: None,
        })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        Box::pin(async move {
            if ttl > LEASE_TTL_MAX {
                return Err(StoreError::Limit(format!(
                    "a lease lives at most {LEASE_TTL_MAX:?}"
                )));
            }
            let mut state = self.shared.state();
            let id = LeaseId(format!("lease-{}", state.next_version().0));
            let deadline = Instant::now() + ttl;
            state.leases.insert(id.clone(), Lease { ttl, deadline });
            Ok(id)
        })
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(async move {
            let mut state = self.shared.state();
            let lease = state.leases.get_mut(lease).ok_or(LeaseError::Expired)?;
            lease.deadline = Instant::now() + lease.ttl;
            Ok(())
        })
    }

    fn revoke_lease<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.shared.state().leases.remove(lease);
            self.shared.changed.notify_waiters();
            Ok(())
        })
    }
}

struct MemoryWatch {
    shared: Arc<Shared>,
    prefix: String,
    last: Option<Arc<Listing>>,
}

impl MemoryWatch {
    /// A state that differs from the last one given, or when the next lease ends.
    fn poll(&mut self) -> Result<Arc<Listing>, Option<Instant>> {
        let state = self.shared.state();
        let listing = state.listing(&self.prefix);
        if self
            .last
            .as_ref()
            .is_some_and(|last| same_versions(last, &listing))
        {
            return Err(state.leases.values().map(|lease| lease.deadline).min());
        }
        let listing = Arc::new(listing);
        self.last = Some(Arc::clone(&listing));
        Ok(listing)
    }
}

impl WatchSource for MemoryWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Listing>, StoreError>> {
        Box::pin(async move {
            loop {
                let shared = Arc::clone(&self.shared);
                let mut changed = std::pin::pin!(shared.changed.notified());
                // Registered before looking, so that a change in between is not missed.
                changed.as_mut().enable();
                let lease_end = match self.poll() {
                    Ok(listing) => return Ok(listing),
                    Err(lease_end) => lease_end,
                };
                match lease_end {
                    None => changed.await,
                    Some(at) => tokio::select! {
                        () = changed => {}
                        () = sleep_until(at) => {}
                    },
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn conforms() {
        crate::conformance::run(Arc::new(MemoryStore::new()), |ttl| {
            Box::pin(tokio::time::sleep(ttl))
        })
        .await;
    }
}
