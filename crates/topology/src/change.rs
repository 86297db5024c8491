//! Changes of the cluster: one at a time, acknowledged by every live proxy.
//!
//! ```text
//! leader                                   every proxy (the leader's own included)
//! begin(scope): barrier key, lease-bound ─► Paused: stop what the scope names, wait for it to end
//! all_paused()                           ◄─ ack_paused
//! …work on the shards…
//! publish(): new epoch                   ─► NewCluster: load it
//! finish(): barrier removed              ◄─ ack_epoch; Resumed: go on
//! ```
//! A leader that dies takes its barrier along (the lease), and the proxies go on with the last published epoch. A
//! leader that was only thought dead cannot publish: the write requires its own barrier to be there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::records::{
    BarrierId, BarrierRecord, ChangeScope, ClusterRecord, ClusterRecordError, Record, barrier_key,
    cluster_key,
};
use crate::{
    Epoch, Membership, MembershipError, StoreError, TopologyStore, Version, WaitError, Write, WriteError,
};

mod setup;
#[cfg(test)]
mod tests;

pub use setup::{SetupError, add_databases, ensure_cluster};

/// Attempts of one publication against writers that need no barrier (changed addresses).
const PUBLISH_ATTEMPTS_MAX: u32 = 16;

/// Pause after the store failed while waiting for another change.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Begins changes in the name of one proxy.
#[derive(Debug, Clone)]
pub struct ChangeCoordinator {
    membership: Arc<Membership>,
}

/// A change under way. Dropped without [`ChangeGuard::finish`], it is given up: the barrier is removed and the
/// proxies go on with what was published until then.
#[derive(Debug)]
pub struct ChangeGuard {
    membership: Arc<Membership>,
    barrier: BarrierRecord,
    version: Version,
    cluster: ClusterRecord,
    published: bool,
    open: bool,
}

/// Why a change failed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another change is under way and did not end in time.
    #[error("another change is under way, led by proxy `{leader}`")]
    Busy {
        /// The proxy that leads it.
        leader: String,
    },
    /// No cluster has been set up in this store.
    #[error("the topology store holds no cluster")]
    NoCluster,
    /// The leader's lease ended: others have gone on without this change. Nothing (more) was published.
    #[error("this change has lost its barrier; nothing was published")]
    Lost,
    /// The changed record makes no sense; it was not published.
    #[error("the change would leave a wrong cluster record")]
    Invalid(#[source] ClusterRecordError),
    /// Proxies did not pause or acknowledge in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// This proxy is cut off.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The store does not work. After a publication it is not known whether it happened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChangeCoordinator {
    /// Changes are led by this proxy, and end with its lease.
    pub fn new(membership: Arc<Membership>) -> ChangeCoordinator {
        ChangeCoordinator { membership }
    }

    /// Waits until no other change is under way, then begins one. Fails with [`ChangeError::Busy`] at `deadline`.
    pub async fn begin(&self, scope: ChangeScope, deadline: Instant) -> Result<ChangeGuard, ChangeError> {
        loop {
            // As a task of its own: if the caller goes away meanwhile, the guard is made and dropped all the same, and
            // no barrier stays behind.
            let attempt = tokio::spawn(try_begin(Arc::clone(&self.membership), scope.clone()));
            match attempt.await.map_err(|_| StoreError::Closed)?? {
                Some(guard) => return Ok(guard),
                None => self.wait_for_others(deadline).await?,
            }
        }
    }

    async fn wait_for_others(&self, deadline: Instant) -> Result<(), ChangeError> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let key = barrier_key();
        let mut watch = self.membership.store().watch(key.as_str());
        let mut leader = String::new();
        loop {
            match tokio::time::timeout_at(deadline, watch.next()).await {
                Err(_) => return Err(ChangeError::Busy { leader }),
                Ok(Ok(listing)) => match listing.get(&key) {
                    None => return Ok(()),
                    Some(stored) => leader = BarrierRecord::from_value(&stored.value)?.leader,
                },
                Ok(Err(error)) if tokio::time::Instant::now() + RETRY_PAUSE >= deadline => {
                    return Err(error.into());
                }
                Ok(Err(_)) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }
}

impl ChangeGuard {
    /// The cluster as of the beginning, or as last published by this change.
    pub fn cluster(&self) -> &ClusterRecord {
        &self.cluster
    }

    /// This change.
    pub fn id(&self) -> &BarrierId {
        &self.barrier.id
    }

    /// Waits until every live proxy has paused. With [`ChangeScope::Nothing`] there is nothing to wait for.
    pub async fn all_paused(&self, deadline: Instant) -> Result<(), ChangeError> {
        if self.barrier.scope != ChangeScope::Nothing {
            self.membership
                .wait_all_paused(&self.barrier.id, deadline)
                .await?;
        }
        self.check_held().await
    }

    /// Whether the barrier is still this change's at this moment. To be asked before steps that cannot be undone.
    pub async fn check_held(&self) -> Result<(), ChangeError> {
        let stored = self.membership.store().get(&barrier_key()).await?;
        match stored {
            Some(stored) if stored.version == self.version => Ok(()),
            _ => Err(ChangeError::Lost),
        }
    }

    /// Changes the cluster record and gives it the next epoch. May be called several times in one change; `change`
    /// may be run several times and must not count on the record being the one seen last.
    pub async fn publish(
        &mut self,
        mut change: impl FnMut(&mut ClusterRecord),
    ) -> Result<Epoch, ChangeError> {
        let store = Arc::clone(self.membership.store());
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let (version, mut record) = read_cluster(store.as_ref()).await?;
            let epoch = Epoch(record.epoch.0 + 1);
            let before = record.clone();
            change(&mut record);
            record.epoch = epoch;
            if record.moves_rows_of(&before) {
                record.ownership = epoch;
            }
            record.check().map_err(ChangeError::Invalid)?;
            let value = record.clone().to_value()?;
            let write = Write::new(cluster_key(), Some(version), value.clone());
            match store
                .compare_and_swap(write.require(barrier_key(), self.version))
                .await
            {
                Ok(_) => {}
                Err(WriteError::Conflict { .. }) => continue,
                Err(WriteError::RequirementFailed { .. } | WriteError::LeaseExpired) => {
                    return Err(ChangeError::Lost);
                }
                Err(WriteError::Store(error)) => {
                    let written = store.get(&cluster_key()).await.ok().flatten();
                    if written.is_none_or(|stored| stored.value != value) {
                        return Err(error.into());
                    }
                }
            }
            self.cluster = record;
            self.published = true;
            return Ok(epoch);
        }
        Err(StoreError::Limit("the cluster record changes too often".to_owned()).into())
    }

    /// Ends the change: removes the barrier, then waits until every live proxy works with what was published. After
    /// [`ChangeError::Wait`] the change is published all the same, and proxies that lack it serve nothing of its scope.
    pub async fn finish(mut self, deadline: Instant) -> Result<Epoch, ChangeError> {
        match self.membership.store().delete(&barrier_key(), self.version).await {
            Ok(()) => self.open = false,
            // It vanished with the lease after the publication: the proxies have gone on with the new epoch.
            Err(WriteError::Conflict { .. }) if self.published => self.open = false,
            Err(WriteError::Store(error)) => return Err(error.into()),
            Err(_) => {
                self.open = false;
                return Err(ChangeError::Lost);
            }
        }
        let epoch = self.cluster.epoch;
        if self.published {
            self.membership.wait_all_acked(epoch, deadline).await?;
        }
        Ok(epoch)
    }
}

impl Drop for ChangeGuard {
    fn drop(&mut self) {
        if self.open {
            self.membership.abandon(barrier_key(), self.version);
        }
    }
}

/// The cluster record and its version.
pub async fn read_cluster(store: &dyn TopologyStore) -> Result<(Version, ClusterRecord), ChangeError> {
    let stored = store.get(&cluster_key()).await?.ok_or(ChangeError::NoCluster)?;
    Ok((stored.version, ClusterRecord::from_value(&stored.value)?))
}

/// `None`: another change is under way.
async fn try_begin(
    membership: Arc<Membership>,
    scope: ChangeScope,
) -> Result<Option<ChangeGuard>, ChangeError> {
    let lease = membership.lease().await?;
    let barrier = BarrierRecord {
        // Leases are never named twice in a store, so neither are changes.
        id: BarrierId(format!("{}.{}", lease.0, membership.next_barrier_number())),
        leader: membership.id().as_str().to_owned(),
        scope,
    };
    let value = barrier.clone().to_value()?;
    let write = Write::new(barrier_key(), None, value.clone()).lease(&lease);
    let version = match membership.store().compare_and_swap(write).await {
        Ok(version) => version,
        Err(WriteError::Conflict { .. }) => return Ok(None),
        Err(WriteError::Store(error)) => {
            // If it was written after all, it must not stay.
            abandon_if_written(&membership, &value).await;
            return Err(error.into());
        }
        Err(_) => return Err(MembershipError::Fenced.into()),
    };
    match read_cluster(membership.store().as_ref()).await {
        Ok((_, cluster)) => Ok(Some(ChangeGuard {
            membership,
            barrier,
            version,
            cluster,
            published: false,
            open: true,
        })),
        Err(error) => {
            membership.abandon(barrier_key(), version);
            Err(error)
        }
    }
}

async fn abandon_if_written(membership: &Membership, value: &Value) {
    if let Ok(Some(stored)) = membership.store().get(&barrier_key()).await
        && stored.value == *value
    {
        membership.abandon(barrier_key(), stored.version);
    }
}
