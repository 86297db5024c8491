//! Which proxies are alive, and what each has loaded.
//!
//! A proxy registers under `proxies/<id>`, bound to a lease. Whoever changes the cluster waits until every
//! registered proxy has acknowledged the change or its registration has vanished. The second is only safe because a
//! proxy whose lease is about to end *knows* it: [`Membership::is_valid`] turns false at least one
//! [safety margin](LeaseClock) before the lease can end in the store, whatever the store or this process is doing.
//!
//! A proxy that has been cut off joins again by itself, as a new *incarnation*: it is not valid until it has read
//! the cluster anew and acknowledged it (see [`crate::ClusterWatch`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;

use crate::key::is_segment;
use crate::records::{BarrierId, CancelPeer, PROXIES_PREFIX, ProxyRecord, Record};
use crate::{Epoch, Key, KeyError, LeaseId, StoreError, TopologyStore, Version, Write, WriteError};

mod driver;
mod lease_clock;
mod peers;
#[cfg(test)]
mod tests;

pub use lease_clock::LeaseClock;
pub use peers::PeerWatch;

/// How long a proxy's registration outlives its last sign of life.
pub const LEASE_TTL_DEFAULT: Duration = Duration::from_secs(3);

/// The longest proxy id.
pub const PROXY_ID_BYTES_MAX: usize = 100;

/// Pause after a failed read while waiting for proxies.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Names a proxy process. Two live processes must not share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyId(Box<str>);

/// One proxy's membership. Kept alive by a task of the runtime it was joined on, until it is dropped.
#[derive(Debug)]
pub struct Membership {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

/// Why a membership operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// Another live proxy has this id.
    #[error("proxy id `{0}` is in use by another process")]
    IdInUse(ProxyId),
    /// The proxy's lease has ended or is about to, or what is acknowledged was read before it ended.
    #[error("this proxy is cut off from the cluster")]
    Fenced,
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why not all proxies have acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Time is up.
    #[error("not acknowledged in time by: {}", laggards.join(", "))]
    Deadline {
        /// Ids of the proxies that are alive and have not acknowledged.
        laggards: Vec<String>,
    },
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where the membership stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Counts registrations; what was read under an earlier one must not be acknowledged.
    pub(crate) incarnation: u64,
    /// Whether that registration is alive as far as this process knows.
    pub(crate) joined: bool,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn TopologyStore>,
    id: ProxyId,
    key: Key,
    ttl: Duration,
    /// Times in [`Shared::valid_until_us`] count from here.
    base: tokio::time::Instant,
    /// End of validity in µs since `base`; read by every worker before it starts a transaction.
    valid_until_us: AtomicU64,
    /// Whether this incarnation has acknowledged a cluster.
    ready: AtomicBool,
    registration: Mutex<Registration>,
    standing: watch::Sender<Standing>,
    barriers_made: AtomicU64,
    abandoned: mpsc::UnboundedSender<(Key, Version)>,
}

#[derive(Debug)]
struct Registration {
    incarnation: u64,
    lease: LeaseId,
    version: Version,
    record: ProxyRecord,
}

impl ProxyId {
    /// Checks and makes an id: letters, digits, `_`, `-` and `.`.
    pub fn parse(text: &str) -> Result<ProxyId, KeyError> {
        if text.len() <= PROXY_ID_BYTES_MAX && is_segment(text) {
            Ok(ProxyId(text.into()))
        } else {
            Err(KeyError {
                text: text.chars().take(PROXY_ID_BYTES_MAX).collect(),
            })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> Key {
        Key::parse(&format!("{PROXIES_PREFIX}{}", self.0)).expect("a proxy id is a segment of a key")
    }
}

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Membership {
    /// Registers a proxy. It is not valid before its [`crate::ClusterWatch`] has acknowledged a cluster.
    ///
    /// A process that has died without [`Membership::leave`] holds its id for at most `ttl`.
    pub async fn join(
        store: Arc<dyn TopologyStore>,
        id: ProxyId,
        ttl: Duration,
    ) -> Result<Membership, MembershipError> {
        let (abandoned, abandoned_rx) = mpsc::unbounded_channel();
        let key = id.key();
        let (registration, clock) = driver::register(store.as_ref(), &id, &key, ttl, 1, None).await?;
        let standing = Standing {
            incarnation: 1,
            joined: true,
        };
        let lease = registration.lease.clone();
        let shared = Arc::new(Shared {
            store,
            key,
            id,
            ttl,
            base: tokio::time::Instant::now(),
            valid_until_us: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            registration: Mutex::new(registration),
            standing: watch::Sender::new(standing),
            barriers_made: AtomicU64::new(0),
            abandoned,
        });
        shared.set_valid_until(clock.valid_until());
        let driver = tokio::spawn(driver::run(Arc::clone(&shared), clock, lease, abandoned_rx));
        Ok(Membership { shared, driver })
    }

    /// This proxy's id.
    pub fn id(&self) -> &ProxyId {
        &self.shared.id
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn TopologyStore> {
        &self.shared.store
    }

    /// Whether this proxy may use what it knows about the cluster at `now`: its lease is alive with a margin, and it
    /// has acknowledged a cluster since it joined (or joined again). Cheap; to be asked before each transaction.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.shared.ready.load(Ordering::Acquire) && now < self.shared.valid_until()
    }

    /// Says that this proxy works with `epoch` from now on. [`crate::ClusterWatch::ack_epoch`] calls it.
    pub(crate) async fn ack_epoch(&self, incarnation: u64, epoch: Epoch) -> Result<(), MembershipError> {
        self.update(incarnation, |record| record.acked_epoch = Some(epoch))
            .await?;
        Ok(())
    }

    /// Says that this proxy has paused. [`crate::ClusterWatch::ack_paused`] calls it.
    pub(crate) async fn ack_paused(&self, incarnation: u64, id: BarrierId) -> Result<(), MembershipError> {
        self.update(incarnation, |record| record.paused_for = Some(id))
            .await
    }

    /// Says where this proxy takes cancels for its clients, for as long as it is a member.
    pub async fn publish_cancel(&self, peer: CancelPeer) -> Result<(), MembershipError> {
        let mut registration = self.shared.registration.lock().await;
        // Also what a registration to come begins with, should this one be lost.
        registration.record.cancel = Some(peer);
        let record = registration.record.clone();
        self.store_record(&mut registration, &record).await
    }

    /// Where the live proxies take cancels.
    pub async fn cancel_peers(&self) -> Result<Vec<CancelPeer>, StoreError> {
        let listing = self.shared.store.list(PROXIES_PREFIX).await?;
        let mut peers = Vec::new();
        for versioned in listing.values() {
            peers.extend(ProxyRecord::from_value(&versioned.value)?.cancel);
        }
        Ok(peers)
    }

    /// Waits until every live proxy has acknowledged `epoch` or a later one. Proxies whose lease ends meanwhile are
    /// cut off and count as done.
    pub async fn wait_all_acked(&self, epoch: Epoch, deadline: Instant) -> Result<(), WaitError> {
        self.wait_for_all(deadline, |proxy| {
            proxy.acked_epoch.is_some_and(|acked| acked >= epoch)
        })
        .await
    }

    /// Waits until every live proxy has paused for a barrier.
    pub(crate) async fn wait_all_paused(&self, id: &BarrierId, deadline: Instant) -> Result<(), WaitError> {
        self.wait_for_all(deadline, |proxy| proxy.paused_for.as_ref() == Some(id))
            .await
    }

    /// Ends the registration at once, so that nobody waits for it to expire. Not valid ever after.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.shared.fence();
        self.driver.abort();
        let registration = self.shared.registration.lock().await;
        self.shared.store.revoke_lease(&registration.lease).await
    }

    /// The lease that this proxy's keys are bound to.
    pub(crate) async fn lease(&self) -> Result<LeaseId, MembershipError> {
        let registration = self.shared.registration.lock().await;
        let standing = *self.shared.standing.borrow();
        let live = standing.joined && standing.incarnation == registration.incarnation;
        if live && tokio::time::Instant::now().into_std() < self.shared.valid_until() {
            Ok(registration.lease.clone())
        } else {
            Err(MembershipError::Fenced)
        }
    }

    /// Follows the registration's fate.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    /// A number this membership has not given before.
    pub(crate) fn next_barrier_number(&self) -> u64 {
        self.shared.barriers_made.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has a key deleted in the background, if it still has this version.
    pub(crate) fn abandon(&self, key: Key, version: Version) {
        // Fails only when the driver has ended; then the lease ends too and takes the key along.
        let _ = self.shared.abandoned.send((key, version));
    }

    async fn update(
        &self,
        incarnation: u64,
        change: impl FnOnce(&mut ProxyRecord),
    ) -> Result<(), MembershipError> {
        let mut registration = self.shared.registration.lock().await;
        if registration.incarnation != incarnation {
            return Err(MembershipError::Fenced);
        }
        let mut record = registration.record.clone();
        change(&mut record);
        self.store_record(&mut registration, &record).await?;
        let serves = record.acked_epoch.is_some();
        registration.record = record;
        // Under the lock, so that it cannot overtake a fence and a new registration.
        let standing = *self.shared.standing.borrow();
        if serves && standing.joined && standing.incarnation == incarnation {
            self.shared.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    async fn store_record(
        &self,
        registration: &mut Registration,
        record: &ProxyRecord,
    ) -> Result<(), MembershipError> {
        let store = &self.shared.store;
        let value = record.clone().to_value()?;
        loop {
            let write = Write::new(self.shared.key.clone(), Some(registration.version), value.clone());
            match store.compare_and_swap(write.lease(&registration.lease)).await {
                Ok(version) => {
                    registration.version = version;
                    return Ok(());
                }
                // Nobody else writes this key: an earlier write whose end was not seen got through.
                Err(WriteError::Conflict {
                    current: Some(current),
                    ..
                }) => registration.version = current,
                Err(WriteError::Store(error)) => return Err(error.into()),
                Err(_) => return Err(MembershipError::Fenced),
            }
        }
    }

    async fn wait_for_all(
        &self,
        deadline: Instant,
        done: impl Fn(&ProxyRecord) -> bool,
    ) -> Result<(), WaitError> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let mut watch = self.shared.store.watch(PROXIES_PREFIX);
        let mut laggards = Vec::new();
        loop {
            match tokio::time::timeout_at(deadline, watch.next()).await {
                Err(_) => return Err(WaitError::Deadline { laggards }),
                Ok(Err(error)) if tokio::time::Instant::now() + RETRY_PAUSE >= deadline => {
                    return Err(error.into());
                }
                Ok(Err(_)) => tokio::time::sleep(RETRY_PAUSE).await,
                Ok(Ok(listing)) => {
                    laggards.clear();
                    for versioned in listing.values() {
                        let proxy = ProxyRecord::from_value(&versioned.value)?;
                        if !done(&proxy) {
                            laggards.push(proxy.id);
                        }
                    }
                    if laggards.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.fence();
        self.driver.abort();
    }
}

impl Shared {
    fn valid_until(&self) -> Instant {
        self.base.into_std() + Duration::from_micros(self.valid_until_us.load(Ordering::Acquire))
    }

    fn set_valid_until(&self, at: Instant) {
        let micros = at.saturating_duration_since(self.base.into_std()).as_micros();
        self.valid_until_us
            .store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// From now on nothing known about the cluster may be used.
    fn fence(&self) {
        self.ready.store(false, Ordering::Release);
        self.standing
            .send_if_modified(|standing| std::mem::take(&mut standing.joined));
    }
}
