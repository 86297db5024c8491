//! Cancelling what stands in a circle of waits.
//!
//! The client of a victim has asked for no cancel, and its error is not that of one: each server that is sent a cancel is
//! *blamed* for it, and what that server then says of a cancelled statement reads `deadlock detected`. Blame ends with the
//! request, or when the server is given back, before anybody else can be told of it.
//!
//! | between | what can happen | then |
//! |---|---|---|
//! | a circle is confirmed and its victim's request is cancelled | the request was answered | it has another number: nothing is done |
//! | the request is cancelled and its servers hear of it | one of them has answered | it passes over the cancel; it is not lent before the cancel has arrived |
//! | a server is blamed and says something | the client's own cancel comes too | it is told of the deadlock |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wire::backend::ErrorFields;

use super::{AGAIN_AFTER, CANCELLED, CancelSlot, CancelTarget, SERVED, STATE, SlotState};

/// SQLSTATE of a statement that was cancelled.
const CANCELLED_CODE: &str = "57014";

/// Why a server was sent a cancel, when it was not for its client.
#[derive(Debug, Default)]
pub struct Blame {
    /// There is something to be read; looked at first, by everybody.
    any: AtomicBool,
    deadlock: Mutex<Option<Arc<str>>>,
}

impl Blame {
    fn set(&self, detail: Option<Arc<str>>) {
        let mut deadlock = self.deadlock.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(detail.is_some(), Ordering::Release);
        *deadlock = detail;
    }

    /// Changes what a server says of a cancelled statement to what its client is to be told.
    pub(crate) fn rename(&self, fields: &mut ErrorFields) {
        if !self.any.load(Ordering::Acquire) || fields.code != CANCELLED_CODE {
            return;
        }
        let deadlock = self.deadlock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(detail) = &*deadlock {
            *fields = deadlock_error(detail);
        }
    }

    /// The same for a whole ErrorResponse; `None`: it stays as it is.
    pub(crate) fn renamed(&self, message: &[u8]) -> Option<bytes::BytesMut> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let fields = wire::backend::Fields::decode(message.get(5..)?).ok()?;
        let mut fields = fields.to_owned();
        self.rename(&mut fields);
        if fields.code == CANCELLED_CODE {
            return None;
        }
        let mut renamed = bytes::BytesMut::new();
        wire::backend::encode::error(&mut renamed, &fields);
        Some(renamed)
    }
}

impl SlotState {
    /// What is asked next has nothing to do with a deadlock.
    pub(super) fn forgive(&mut self) {
        if self.cancels.deadlock.is_none() {
            return;
        }
        self.cancels.deadlock = None;
        for target in &self.bound {
            target.blame.set(None);
        }
    }

    /// The same for a server that is given back.
    pub(super) fn forgive_one(&mut self, target: &CancelTarget) {
        if self.cancels.deadlock.is_some() {
            target.blame.set(None);
        }
    }
}

impl CancelSlot {
    /// Which request is being served; `None`: none is, or it has been cancelled.
    pub(crate) fn served(&self) -> Option<u64> {
        let request = self.request.load(Ordering::Acquire);
        (request & STATE == SERVED).then_some(request & !STATE)
    }

    /// Cancels this request, if it is still the one that is being served, because it stands in a circle of waits. Resolves
    /// when its servers have been told; they are told again, by a local task, until the request is over. False: it is
    /// over already.
    pub(crate) async fn cancel_deadlocked(self: &Arc<Self>, request: u64, detail: Arc<str>) -> bool {
        let targets = {
            let mut state = self.lock();
            let cancelled = self.request.compare_exchange(
                request | SERVED,
                request | CANCELLED,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if cancelled.is_err() {
                return false;
            }
            for target in &state.bound {
                target.blame.set(Some(Arc::clone(&detail)));
            }
            state.cancels.deadlock = Some(detail);
            let targets = state.bound.clone();
            state.cancels.delivering.extend(targets.iter().cloned());
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            targets
        };
        self.deliver(targets).await;
        let slot = Arc::clone(self);
        tokio::task::spawn_local(async move {
            for pause in AGAIN_AFTER {
                tokio::time::sleep(pause).await;
                if slot.request.load(Ordering::Acquire) != request | CANCELLED {
                    return;
                }
                let Some(targets) = slot.begin_again() else {
                    return;
                };
                slot.deliver(targets).await;
            }
        });
        true
    }

    /// The deadlock that the request at hand was cancelled for.
    pub(crate) fn deadlock(&self) -> Option<Arc<str>> {
        if !self.is_cancelled() {
            return None;
        }
        self.lock().cancels.deadlock.clone()
    }
}

/// What the client of a victim is told.
pub(crate) fn deadlock_error(detail: &str) -> ErrorFields {
    ErrorFields::error("40P01", "deadlock detected")
        .with_detail(detail)
        .with_hint("See server log for query details.")
}
