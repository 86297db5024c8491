//! The task that keeps a registration alive, and replaces it when it was lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{LeaseClock, MembershipError, ProxyId, Registration, Shared};
use crate::records::{CancelPeer, ProxyRecord, Record};
use crate::{Key, LeaseError, LeaseId, TopologyStore, Version, Write, WriteError};

/// Pause between attempts to register again.
const REJOIN_PAUSE: Duration = Duration::from_millis(200);

/// Makes a lease and the proxy's key.
pub(super) async fn register(
    store: &dyn TopologyStore,
    id: &ProxyId,
    key: &Key,
    ttl: Duration,
    incarnation: u64,
    cancel: Option<CancelPeer>,
) -> Result<(Registration, LeaseClock), MembershipError> {
    let began = now();
    let lease = store.grant_lease(ttl).await?;
    let record = ProxyRecord {
        id: id.as_str().to_owned(),
        acked_epoch: None,
        paused_for: None,
        cancel,
    };
    let write = Write::new(key.clone(), None, record.clone().to_value()?).lease(&lease);
    let error = match store.compare_and_swap(write).await {
        Ok(version) => {
            let registration = Registration {
                incarnation,
                lease,
                version,
                record,
            };
            return Ok((registration, LeaseClock::granted(ttl, began)));
        }
        Err(WriteError::Conflict { .. }) => MembershipError::IdInUse(id.clone()),
        Err(WriteError::Store(error)) => error.into(),
        Err(WriteError::LeaseExpired | WriteError::RequirementFailed { .. }) => MembershipError::Fenced,
    };
    // The key may be there although the write was reported as failed; it goes with the lease.
    let _ = store.revoke_lease(&lease).await;
    Err(error)
}

/// Renews until the membership is dropped (the task is aborted then).
pub(super) async fn run(
    shared: Arc<Shared>,
    mut clock: LeaseClock,
    mut lease: LeaseId,
    mut abandoned: mpsc::UnboundedReceiver<(Key, Version)>,
) {
    loop {
        let good = tokio::select! {
            Some((key, version)) = abandoned.recv() => remove(&shared, &key, version).await,
            () = sleep_until(clock.next_attempt().min(clock.valid_until())) => {
                renew(&shared, &mut clock, &lease).await
            }
        };
        if !good {
            shared.fence();
            tracing::warn!(proxy = %shared.id, "cut off from the cluster");
            (clock, lease) = rejoin(&shared).await;
            tracing::info!(proxy = %shared.id, "registered again");
        }
    }
}

/// One attempt; `false` when the registration can no longer be relied on.
async fn renew(shared: &Shared, clock: &mut LeaseClock, lease: &LeaseId) -> bool {
    let began = now();
    if !clock.is_valid(began) {
        return false;
    }
    let valid_until = tokio::time::Instant::from_std(clock.valid_until());
    match tokio::time::timeout_at(valid_until, shared.store.keep_alive(lease)).await {
        Ok(Ok(())) => {
            clock.renewed(began);
            shared.set_valid_until(clock.valid_until());
            true
        }
        Ok(Err(LeaseError::Expired)) | Err(_) => false,
        Ok(Err(LeaseError::Store(error))) => {
            tracing::warn!(proxy = %shared.id, %error, "the lease could not be renewed");
            clock.failed(now());
            true
        }
    }
}

/// Registers as a new incarnation, however long that takes.
async fn rejoin(shared: &Shared) -> (LeaseClock, LeaseId) {
    loop {
        match try_rejoin(shared).await {
            Ok(joined) => return joined,
            Err(error) => tracing::warn!(proxy = %shared.id, %error, "cannot register again"),
        }
        tokio::time::sleep(REJOIN_PAUSE).await;
    }
}

async fn try_rejoin(shared: &Shared) -> Result<(LeaseClock, LeaseId), MembershipError> {
    let mut registration = shared.registration.lock().await;
    // The old lease may have some time left; its keys must be gone before the new ones are made.
    shared.store.revoke_lease(&registration.lease).await?;
    let incarnation = registration.incarnation + 1;
    let (new, clock) = register(
        shared.store.as_ref(),
        &shared.id,
        &shared.key,
        shared.ttl,
        incarnation,
        registration.record.cancel,
    )
    .await?;
    let lease = new.lease.clone();
    *registration = new;
    shared.ready.store(false, Ordering::Release);
    shared.set_valid_until(clock.valid_until());
    shared.standing.send_replace(super::Standing {
        incarnation,
        joined: true,
    });
    Ok((clock, lease))
}

/// Deletes a key that nobody wants any more, unless it has changed. `false`: it may still be there, and would keep
/// every other change away for as long as this registration lives; so the registration must go.
async fn remove(shared: &Shared, key: &Key, version: Version) -> bool {
    match shared.store.delete(key, version).await {
        Err(WriteError::Store(error)) => {
            tracing::warn!(%key, %error, "cannot remove the key of an abandoned change; giving up its lease");
            false
        }
        _ => true,
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await;
}
