//! How a proxy follows the cluster.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::membership::Standing;
use crate::records::{
    BarrierId, BarrierRecord, CLUSTER_PREFIX, ChangeScope, ClusterRecord, Record, barrier_key, cluster_key,
};
use crate::{Epoch, Listing, Membership, MembershipError, StoreError, Version, Watch};

#[cfg(test)]
mod tests;

/// Pause after the store failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Something this proxy must act on, in the order given.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterEvent {
    /// Load this, then call [`ClusterWatch::ack_epoch`]. Comes at the start, after every change, and again after
    /// [`ClusterEvent::Fenced`].
    NewCluster(Arc<ClusterRecord>),
    /// Start no transaction that uses what `scope` names, wait until those under way have ended, then call
    /// [`ClusterWatch::ack_paused`]. At the start and after [`ClusterEvent::Fenced`] it comes *before* the cluster: a
    /// change that did not wait for this proxy may be at work.
    Paused {
        /// Which change.
        id: BarrierId,
        /// What to pause.
        scope: ChangeScope,
    },
    /// The change is over, done or given up: go on, with what the last [`ClusterEvent::NewCluster`] said. Comes only
    /// after the cluster that the change has published.
    Resumed {
        /// Which change.
        id: BarrierId,
    },
    /// This proxy is cut off: serve nothing that depends on the cluster until the next
    /// [`ClusterEvent::NewCluster`] has been loaded and acknowledged. [`Membership::is_valid`] already says no. Pauses
    /// are over; those still asked for are asked for again.
    Fenced,
}

/// Follows the cluster for one proxy.
#[derive(Debug)]
pub struct ClusterWatch {
    membership: Arc<Membership>,
    watch: Watch,
    standing: watch::Receiver<Standing>,
    follower: Follower,
    /// The standing has changed and has not been acted on; a field because [`ClusterWatch::next`] may be cancelled.
    standing_pending: bool,
}

impl ClusterWatch {
    /// Starts to follow.
    pub fn new(membership: Arc<Membership>) -> ClusterWatch {
        let watch = membership.store().watch(CLUSTER_PREFIX);
        let standing = membership.standing();
        ClusterWatch {
            membership,
            watch,
            standing,
            follower: Follower::default(),
            // The first round must look at the standing whatever it is.
            standing_pending: true,
        }
    }

    /// The next event. Waits as long as it takes; a failing store is asked again and logged, and ends this proxy's
    /// lease soon anyway. An error means that something stored cannot be read. Cancel safe.
    pub async fn next(&mut self) -> Result<ClusterEvent, StoreError> {
        loop {
            if let Some(event) = self.follower.events.pop_front() {
                return Ok(event);
            }
            if self.standing_pending {
                self.standing_changed().await?;
                self.standing_pending = false;
                continue;
            }
            let standing = *self.standing.borrow();
            tokio::select! {
                biased;
                changed = self.standing.changed() => {
                    changed.map_err(|_| StoreError::Closed)?;
                    self.standing_pending = true;
                }
                listing = self.watch.next() => match listing {
                    Ok(listing) => self.follower.observe(standing, &listing)?,
                    Err(error @ StoreError::Damaged { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "cannot follow the cluster");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Says that the proxy works with `epoch`, which it got from the last [`ClusterEvent::NewCluster`].
    ///
    /// [`MembershipError::Fenced`]: the proxy was cut off meanwhile; [`ClusterEvent::Fenced`] and a new cluster follow.
    pub async fn ack_epoch(&self, epoch: Epoch) -> Result<(), MembershipError> {
        self.membership.ack_epoch(self.follower.incarnation, epoch).await
    }

    /// Says that the proxy has paused as [`ClusterEvent::Paused`] asked. Errors as [`ClusterWatch::ack_epoch`].
    pub async fn ack_paused(&self, id: &BarrierId) -> Result<(), MembershipError> {
        self.membership
            .ack_paused(self.follower.incarnation, id.clone())
            .await
    }

    /// The membership behind it.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    async fn standing_changed(&mut self) -> Result<(), StoreError> {
        loop {
            let standing = *self.standing.borrow_and_update();
            if !standing.joined {
                self.follower.fenced();
                return Ok(());
            }
            // What the watch said last may be older than the registration; only what is read after it counts.
            match self.membership.store().list(CLUSTER_PREFIX).await {
                Ok(listing) => return self.follower.observe(standing, &listing),
                Err(error @ StoreError::Damaged { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the cluster");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Turns states of the store into events. Pure.
#[derive(Debug, Default)]
struct Follower {
    /// Under which registration the cluster was last given.
    incarnation: u64,
    /// Whether that registration was still alive when last looked at.
    alive: bool,
    cluster: Option<Version>,
    paused: Option<BarrierId>,
    events: VecDeque<ClusterEvent>,
}

impl Follower {
    fn fenced(&mut self) {
        if self.alive {
            self.alive = false;
            self.paused = None;
            // What has not been given yet is overtaken.
            self.events.clear();
            self.events.push_back(ClusterEvent::Fenced);
        }
    }

    /// `standing` must have been looked at before `listing` was read.
    fn observe(&mut self, standing: Standing, listing: &Listing) -> Result<(), StoreError> {
        if !standing.joined || standing.incarnation < self.incarnation {
            return Ok(());
        }
        if standing.incarnation > self.incarnation {
            // A fence and a return may come as one change.
            self.fenced();
        }
        let Some(stored) = listing.get(&cluster_key()) else {
            return Ok(());
        };
        let rejoined = !self.alive;
        if !rejoined && self.cluster > Some(stored.version) {
            return Ok(());
        }
        let barrier = listing.get(&barrier_key());
        let barrier = barrier
            .map(|stored| BarrierRecord::from_value(&stored.value))
            .transpose()?;
        let barrier = barrier.filter(|barrier| barrier.scope != ChangeScope::Nothing);
        let cluster = if rejoined || self.cluster != Some(stored.version) {
            Some(ClusterEvent::NewCluster(Arc::new(ClusterRecord::from_value(
                &stored.value,
            )?)))
        } else {
            None
        };
        self.cluster = Some(stored.version);
        self.incarnation = standing.incarnation;
        self.alive = true;
        if rejoined {
            // The acknowledgement of the cluster makes the proxy valid: it must have paused by then.
            self.observe_barrier(barrier);
            self.events.extend(cluster);
        } else {
            // What a finished change has published must be known before its pause ends.
            self.events.extend(cluster);
            self.observe_barrier(barrier);
        }
        Ok(())
    }

    fn observe_barrier(&mut self, barrier: Option<BarrierRecord>) {
        if barrier.as_ref().map(|barrier| &barrier.id) == self.paused.as_ref() {
            return;
        }
        if let Some(id) = self.paused.take() {
            self.events.push_back(ClusterEvent::Resumed { id });
        }
        if let Some(BarrierRecord { id, scope, .. }) = barrier {
            self.paused = Some(id.clone());
            self.events.push_back(ClusterEvent::Paused { id, scope });
        }
    }
}
