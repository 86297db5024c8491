//! A store in a directory, shared by several processes of one host.
//!
//! * One JSON file per key, readable and diffable, replaced by rename after `fsync`.
//! * One lock file (`flock`): writers alone, readers of several files together. A write is on disk when it returns.
//! * Another lock file for renewing leases, so that a renewal does not wait while a write waits for the disk: a proxy
//!   would lose its place in the cluster because the machine is busy.
//! * A counter file that every write replaces *before* it changes anything. The kernel tells watches when it was
//!   replaced (inotify), so an idle proxy does nothing and a change is seen at once. The counter is read once a second all
//!   the same, for file systems that tell only part of it; where there is no inotify, or no instance of it left, a
//!   hundred times a second. Writers in the same process wake its watches themselves.
//! * Leases end by `CLOCK_MONOTONIC`, which all processes of one boot share and nobody can set. It stands still while
//!   the host sleeps, and so do the processes and [`crate::Membership`], which counts on the same clock. A lease of another
//!   boot has ended. All processes must be in one time namespace, and the directory on a local file system.
//! * An expired lease never comes back: whether one has expired is judged under the lock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::store::{LEASE_TTL_MAX, same_versions};
use crate::{
    BoxFuture, Key, LeaseError, LeaseId, Listing, StoreError, TopologyStore, Version, Versioned, Watch,
    WatchSource, Write, WriteError,
};

mod clock;
mod directory;
mod notice;
#[cfg(test)]
mod tests;

use directory::{Directory, Snapshot};
use notice::Notice;

/// How often a watch looks at the counter when nobody tells it about changes.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How often it looks although it would have been told.
const POLL_INTERVAL_TOLD: Duration = Duration::from_secs(1);

/// The store. Clones share one handle; every process opens its own.
#[derive(Debug, Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: Directory,
    /// Woken by writes of this process, so that its own watches need not wait for the next poll.
    changed: Notify,
}

impl FileStore {
    /// Opens the store in `path`; makes it if there is nothing. Blocks on the disk for a moment.
    pub fn open(path: impl Into<PathBuf>) -> Result<FileStore, StoreError> {
        Ok(FileStore {
            shared: Arc::new(Shared {
                directory: Directory::open(path.into())?,
                changed: Notify::new(),
            }),
        })
    }

    /// Runs `work` where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || work(&shared.directory));
        task.await.map_err(|_| StoreError::Closed)
    }

    async fn writing<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.blocking(work).await;
        self.shared.changed.notify_waiters();
        result
    }
}

impl TopologyStore for FileStore {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        let key = key.clone();
        Box::pin(async move { self.blocking(move |directory| directory.get(&key)).await? })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Arc<Listing>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let snapshot = self.blocking(move |directory| directory.list(&prefix)).await??;
            Ok(Arc::new(snapshot.listing))
        })
    }

    fn compare_and_swap(&self, write: Write) -> BoxFuture<'_, Result<Version, WriteError>> {
        Box::pin(async move { self.writing(move |directory| directory.write(write)).await? })
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: Version) -> BoxFuture<'a, Result<(), WriteError>> {
        let key = key.clone();
        Box::pin(async move {
            self.writing(move |directory| directory.delete(&key, expected))
                .await?
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(FileWatch {
            store: self.clone(),
            prefix: prefix.to_owned(),
            last: None,
            seen: None,
            notice: None,
        })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        Box::pin(async move {
            if ttl > LEASE_TTL_MAX {
                return Err(StoreError::Limit(format!(
                    "a lease lives at most {LEASE_TTL_MAX:?}"
                )));
            }
            self.blocking(move |directory| directory.grant_lease(ttl)).await?
        })
    }

    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), LeaseError>> {
        let lease = lease.clone();
        Box::pin(async move {
            self.blocking(move |directory| directory.keep_alive(&lease))
                .await?
        })
    }

    fn revoke_lease<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), StoreError>> {
        let lease = lease.clone();
        Box::pin(async move {
            self.writing(move |directory| directory.revoke_lease(&lease))
                .await?
        })
    }
}

struct FileWatch {
    store: FileStore,
    prefix: String,
    last: Option<Arc<Listing>>,
    seen: Option<Seen>,
    /// Made at the first look, which is inside a runtime.
    notice: Option<Notice>,
}

/// What the last look found.
struct Seen {
    counter: u64,
    /// When the first lease of a listed key may end, in ms of the lease clock.
    lease_end_ms: Option<u64>,
}

impl FileWatch {
    /// Whether there may be something new.
    fn stale(&self) -> Result<bool, StoreError> {
        let Some(seen) = &self.seen else {
            return Ok(true);
        };
        let ended = seen.lease_end_ms.is_some_and(|end| clock::now_ms() >= end);
        Ok(ended || self.store.shared.directory.counter()? != seen.counter)
    }

    async fn look(&mut self) -> Result<Option<Arc<Listing>>, StoreError> {
        let prefix = self.prefix.clone();
        let found = self
            .store
            .blocking(move |directory| directory.list(&prefix))
            .await??;
        let Snapshot {
            listing,
            counter,
            lease_end_ms,
        } = found;
        self.seen = Some(Seen {
            counter,
            lease_end_ms,
        });
        if self
            .last
            .as_ref()
            .is_some_and(|last| same_versions(last, &listing))
        {
            return Ok(None);
        }
        let listing = Arc::new(listing);
        self.last = Some(Arc::clone(&listing));
        Ok(Some(listing))
    }
}

impl Seen {
    /// How long nothing needs to be looked at unless something is written.
    fn quiet_for(&self, told: bool) -> Duration {
        let interval = if told { POLL_INTERVAL_TOLD } else { POLL_INTERVAL };
        match self.lease_end_ms {
            Some(end) => interval.min(Duration::from_millis(end.saturating_sub(clock::now_ms()).max(1))),
            None => interval,
        }
    }
}

impl WatchSource for FileWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Listing>, StoreError>> {
        Box::pin(async move {
            loop {
                let shared = Arc::clone(&self.store.shared);
                let mut changed = std::pin::pin!(shared.changed.notified());
                changed.as_mut().enable();
                // Before the look, so that nothing is missed between the two.
                let notice = self
                    .notice
                    .get_or_insert_with(|| Notice::on(shared.directory.path()));
                let told = notice.is_on();
                if self.stale()?
                    && let Some(listing) = self.look().await?
                {
                    return Ok(listing);
                }
                let quiet = self
                    .seen
                    .as_ref()
                    .map_or(POLL_INTERVAL, |seen| seen.quiet_for(told));
                let Some(notice) = &mut self.notice else {
                    continue;
                };
                tokio::select! {
                    () = changed => {}
                    () = notice.given() => {}
                    () = tokio::time::sleep(quiet) => {}
                }
            }
        })
    }
}
