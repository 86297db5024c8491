//! Cluster state shared by all proxies: a small store with compare-and-swap, watches and leases, the records kept
//! in it, and the two protocols built on it.
//!
//! * [`TopologyStore`] with [`FileStore`] (several processes on one host) and [`MemoryStore`] (tests).
//! * [`records`]: what is stored. The whole cluster is *one* document, so that an epoch changes atomically.
//! * [`Membership`]: every proxy holds a lease and says which epoch it has; a proxy knows that it is cut off
//!   before the others count it as dead.
//! * [`ChangeCoordinator`] and [`ClusterWatch`]: changes of the cluster, one at a time, acknowledged by every live
//!   proxy, with a pause of the affected tables where needed.
//!
//! What this crate does not do: it never talks to PostgreSQL, and it does not decide what a change is.

pub mod change;
#[cfg(test)]
mod conformance;
pub mod file;
pub mod follow;
mod key;
pub mod membership;
pub mod memory;
pub mod movements;
pub mod records;
mod salt;
mod store;
mod timelines;
mod waits;

pub use catalog::{Epoch, MapId, ShardId};
pub use change::{ChangeCoordinator, ChangeError, ChangeGuard};
pub use file::FileStore;
pub use follow::{ClusterEvent, ClusterWatch};
pub use key::{Key, KeyError};
pub use membership::{Membership, MembershipError, PeerWatch, ProxyId, WaitError};
pub use memory::MemoryStore;
pub use records::{BarrierId, ChangeScope, ClusterRecord};
pub use salt::{SaltError, salt_secret};
pub use store::{
    BoxFuture, LeaseError, LeaseId, Listing, StoreError, TopologyStore, Version, Versioned, Watch,
    WatchSource, Write, WriteError,
};
pub use timelines::{TIMELINES, TimelineMark, raise_timeline, set_timeline, timelines, timelines_in};
pub use waits::{WaitingTransaction, Waits};
