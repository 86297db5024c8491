//! What a topology store can do.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::Key;

/// A future behind a pointer, so that stores can be held as `Arc<dyn TopologyStore>`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The largest value, in bytes of JSON text.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// The longest lease.
pub const LEASE_TTL_MAX: Duration = Duration::from_secs(3600);

/// The version of one key's value. Versions come from one counter per store which only grows, so a key that is
/// deleted and made again never has an old version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Version, for the next compare-and-swap.
    pub version: Version,
    /// The value.
    pub value: Value,
}

/// Names a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub String);

/// Keys with a common prefix and their values, all of one moment.
pub type Listing = BTreeMap<Key, Versioned>;

/// One conditional write.
#[derive(Debug, Clone)]
pub struct Write {
    /// What to write.
    pub key: Key,
    /// The version it must have now; `None`: it must not exist.
    pub expected: Option<Version>,
    /// The new value.
    pub value: Value,
    /// The key vanishes with this lease. Without: the key stays (an older binding is dropped).
    pub lease: Option<LeaseId>,
    /// Another key that must exist with this version at the moment of the write.
    pub require: Option<(Key, Version)>,
}

impl Write {
    /// A write that only depends on the key itself.
    pub fn new(key: Key, expected: Option<Version>, value: Value) -> Write {
        Write {
            key,
            expected,
            value,
            lease: None,
            require: None,
        }
    }

    /// Binds the key to a lease.
    #[must_use]
    pub fn lease(mut self, lease: &LeaseId) -> Write {
        self.lease = Some(lease.clone());
        self
    }

    /// Makes the write depend on another key as well.
    #[must_use]
    pub fn require(mut self, key: Key, version: Version) -> Write {
        self.require = Some((key, version));
        self
    }
}

/// The store does not work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed. `what` names the operation and its object.
    #[error("topology store: {what}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something stored is not what Drover writes.
    #[error("topology store: {what} is damaged: {detail}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A value, a lease time or the number of keys is over its bound.
    #[error("topology store: {0}")]
    Limit(String),
    /// The store or its runtime has gone away.
    #[error("topology store: closed")]
    Closed,
}

/// A write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The key has another version (`None`: does not exist).
    #[error("`{key}` was changed by somebody else")]
    Conflict {
        /// The key.
        key: Key,
        /// The version it has.
        current: Option<Version>,
    },
    /// The key named by [`Write::require`] has another version or is gone.
    #[error("`{key}`, which this write depends on, has changed or is gone")]
    RequirementFailed {
        /// The key that was required.
        key: Key,
    },
    /// The lease to bind to is gone.
    #[error("the lease has expired")]
    LeaseExpired,
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A lease could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It has expired or was revoked; it never comes back.
    #[error("the lease has expired")]
    Expired,
    /// The store does not work; the lease may still be alive.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where cluster state lives. All operations are linearizable: what a completed write has stored, every later read
/// of every process sees; what an expired lease held, no later read sees.
pub trait TopologyStore: Send + Sync + fmt::Debug {
    /// The value of a key.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>>;

    /// All keys that start with `prefix`, of one moment.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Arc<Listing>, StoreError>>;

    /// Writes if the conditions hold; returns the new version.
    ///
    /// After [`WriteError::Store`] the write may or may not have happened.
    fn compare_and_swap(&self, write: Write) -> BoxFuture<'_, Result<Version, WriteError>>;

    /// Deletes a key that has this version.
    fn delete<'a>(&'a self, key: &'a Key, expected: Version) -> BoxFuture<'a, Result<(), WriteError>>;

    /// Follows all keys that start with `prefix`.
    fn watch(&self, prefix: &str) -> Watch;

    /// Makes a lease that lives for `ttl` unless it is kept alive.
    fn grant_lease(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>>;

    /// Lets the lease live for its whole time again, counted from a moment during this call.
    fn keep_alive<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Ends a lease at once; its keys vanish. Not an error if it has ended already.
    fn revoke_lease<'a>(&'a self, lease: &'a LeaseId) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What a store implements behind a [`Watch`].
pub trait WatchSource: Send + Sync {
    /// See [`Watch::next`].
    fn next(&mut self) -> BoxFuture<'_, Result<Arc<Listing>, StoreError>>;
}

/// Follows a prefix. Gives states, not single changes: several changes may become one, the newest is never missed.
pub struct Watch(Box<dyn WatchSource>);

impl Watch {
    /// Wraps a store's own watch.
    pub fn new(source: impl WatchSource + 'static) -> Watch {
        Watch(Box::new(source))
    }

    /// The state: at once the first time, then as soon as it differs from the one given last. Cancel safe. After an
    /// error it may be called again; the caller decides how soon.
    pub async fn next(&mut self) -> Result<Arc<Listing>, StoreError> {
        self.0.next().await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Whether two listings hold the same versions of the same keys.
pub(crate) fn same_versions(a: &Listing, b: &Listing) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((ka, va), (kb, vb))| ka == kb && va.version == vb.version)
}
