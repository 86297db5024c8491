//! A server connection lent to a session.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pool::ServerId;

use super::permits::Permit;
use super::state::ShardPool;
use crate::cancel::{CancelSlot, Unbound};
use crate::listing::ServerMark;
use crate::server::ServerConn;

/// A connection with what the pool keeps beside it.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(super) conn: ServerConn,
    /// Held by ordinary connections only.
    pub(super) permit: Option<Permit>,
    pub(super) id: ServerId,
    /// What is listed of it.
    pub(super) mark: Rc<ServerMark>,
    /// Bytes received and sent that are in the metrics already.
    pub(super) traffic: (u64, u64),
}

/// A server connection lent out. [`Lease::release`] gives it back for reuse; dropping it closes the connection,
/// because then nobody vouches for its state.
#[derive(Debug)]
pub struct Lease {
    pooled: Option<Box<Pooled>>,
    pool: ShardPool,
    slot: Option<Arc<CancelSlot>>,
}

impl Lease {
    pub(super) fn new(pooled: Box<Pooled>, pool: ShardPool, slot: Option<&Arc<CancelSlot>>) -> Self {
        let client = slot.map(|slot| (slot.pid(), &slot.mark));
        pooled.mark.lend(client, pool.0.worker.seconds.get());
        let mut lease = Self {
            pooled: Some(pooled),
            pool,
            slot: None,
        };
        if let Some(slot) = slot {
            lease.bind_cancel(slot);
        }
        lease
    }

    /// Gives the connection back. It is reused if it is quiet (no transaction, nothing sent or received that is not
    /// dealt with) and not dirty, otherwise closed. A cancel on its way to the server delays reuse, not this call.
    pub fn release(self) {
        self.release_at(None);
    }

    /// The same for somebody who has looked at the clock just now.
    pub fn release_at(mut self, now: Option<Instant>) {
        let Some(mut pooled) = self.pooled.take() else {
            return;
        };
        let slot = self.slot.take();
        self.count_traffic(&mut pooled);
        if pooled.conn.dirty || !pooled.conn.is_quiet() {
            if let Some(slot) = slot {
                slot.forget(&pooled.conn.target);
            }
            self.pool.drop_lent(pooled);
            return;
        }
        let Some(slot) = slot else {
            return self.pool.put_back(pooled, now);
        };
        match slot.unbind(&pooled.conn.target) {
            Unbound::Clear => self.pool.put_back(pooled, now),
            Unbound::Pending => {
                let pool = self.pool.clone();
                tokio::task::spawn_local(async move {
                    if slot.settled(&pooled.conn.target).await {
                        pool.put_back(pooled, None);
                    } else {
                        pool.drop_lent(pooled);
                    }
                });
            }
        }
    }

    /// Closes the connection; the same as dropping it.
    pub fn discard(self) {
        drop(self);
    }

    /// From now on the client's cancels go to this server too.
    pub fn bind_cancel(&mut self, slot: &Arc<CancelSlot>) {
        let Some(pooled) = &self.pooled else { return };
        slot.bind(Arc::clone(&pooled.conn.target));
        self.slot = Some(Arc::clone(slot));
    }

    /// From now on no cancel reaches this server, not even one sent before: for PREPARE and COMMIT. False: a cancel
    /// may still come (its delivery was given up); then the transaction must not be committed on this connection.
    pub async fn shield_from_cancel(&mut self) -> bool {
        let (Some(slot), Some(pooled)) = (self.slot.take(), &self.pooled) else {
            return true;
        };
        match slot.unbind(&pooled.conn.target) {
            Unbound::Clear => true,
            Unbound::Pending => slot.settled(&pooled.conn.target).await,
        }
    }

    /// The pool it comes from.
    #[must_use]
    pub fn pool(&self) -> &ShardPool {
        &self.pool
    }

    fn count_traffic(&self, pooled: &mut Pooled) {
        let (received, sent) = pooled.conn.conn.traffic();
        let metrics = &self.pool.0.worker.metrics;
        metrics.server_bytes_received.add(received - pooled.traffic.0);
        metrics.server_bytes_sent.add(sent - pooled.traffic.1);
        pooled.traffic = (received, sent);
    }
}

impl Deref for Lease {
    type Target = ServerConn;

    fn deref(&self) -> &ServerConn {
        // Only `release` and `drop` take it out, and both end the lease.
        #[allow(clippy::expect_used, reason = "present until the lease ends")]
        &self.pooled.as_ref().expect("a lease holds its connection").conn
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut ServerConn {
        #[allow(clippy::expect_used, reason = "present until the lease ends")]
        &mut self.pooled.as_mut().expect("a lease holds its connection").conn
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else {
            return;
        };
        if let Some(slot) = self.slot.take() {
            slot.forget(&pooled.conn.target);
        }
        self.count_traffic(&mut pooled);
        self.pool.drop_lent(pooled);
    }
}
