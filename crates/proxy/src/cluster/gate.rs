//! Holding statements back while the cluster changes.
//!
//! A worker counts its running statements in a counter of its own; the control thread closes the gate and waits until
//! all counters are zero. Meanwhile a session that holds a server is let through, because what runs may be waiting for
//! what it holds; only when nothing runs is the gate closed for all. Either the worker sees the closed gate, or the control thread sees the count: both sides
//! write before they read, in sequentially consistent order.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How often the running counts are looked at while something waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Everybody may enter.
const OPEN: u8 = 0;
/// Only who is in a transaction, or holds a lock of its session, may enter: others that run may be waiting for what it
/// holds, a row or the server.
const DRAINING: u8 = 1;
/// Nobody may enter.
const CLOSED: u8 = 2;

/// The gate of one proxy.
#[derive(Debug, Default)]
pub struct Gate {
    /// One of the constants above.
    state: AtomicU8,
    opened: Notify,
    counters: Mutex<Vec<Arc<AtomicUsize>>>,
}

/// The running statements of one worker.
#[derive(Debug, Clone, Default)]
pub struct Running {
    count: Arc<AtomicUsize>,
}

impl Gate {
    /// A counter for one worker.
    pub fn register(&self) -> Running {
        let running = Running::default();
        self.counters().push(Arc::clone(&running.count));
        running
    }

    /// New transactions wait from now on; those that hold servers go on until [`Self::quiet`] finds none running.
    pub fn drain(&self) {
        self.set(OPEN, DRAINING);
    }

    /// Statements wait from now on.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::SeqCst);
    }

    /// Statements go on.
    pub fn open(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// True while statements have to wait, or some have.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::SeqCst) != OPEN
    }

    /// Waits until no statement runs. A gate that is draining is closed then.
    pub async fn quiet(&self) {
        loop {
            while self.somebody_runs() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if !self.set(DRAINING, CLOSED) || !self.somebody_runs() {
                return;
            }
            // Somebody entered between the look and the closing, and may need others that wait now.
            self.set(CLOSED, DRAINING);
            self.opened.notify_waiters();
        }
    }

    /// Counts a statement, after waiting for the gate. `holds`: others may be waiting for its session. Pair with
    /// [`Running::leave`].
    pub async fn enter(&self, running: &Running, holds: bool) {
        loop {
            running.count.fetch_add(1, Ordering::SeqCst);
            if self.admits(holds) {
                return;
            }
            running.leave();
            let mut opened = std::pin::pin!(self.opened.notified());
            // Registered before the look, so that an opening in between is not missed.
            opened.as_mut().enable();
            if !self.admits(holds) {
                opened.await;
            }
        }
    }

    fn admits(&self, holds: bool) -> bool {
        match self.state.load(Ordering::SeqCst) {
            OPEN => true,
            DRAINING => holds,
            _ => false,
        }
    }

    fn somebody_runs(&self) -> bool {
        self.counters()
            .iter()
            .any(|count| count.load(Ordering::SeqCst) > 0)
    }

    fn set(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn counters(&self) -> MutexGuard<'_, Vec<Arc<AtomicUsize>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// A statement goes on although the gate may be closed (the end of a transaction).
    pub fn enter_anyway(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A statement has ended.
    pub fn leave(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a future came to within a moment.
    async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(20), future).await.ok()
    }

    #[tokio::test]
    async fn who_holds_a_server_goes_on_until_nothing_runs() {
        let gate = Gate::default();
        let running = gate.register();
        gate.enter(&running, false).await;
        gate.drain();
        assert!(soon(gate.quiet()).await.is_none(), "a statement runs");
        assert!(soon(gate.enter(&running, false)).await.is_none());
        // The one that runs may be waiting for this one.
        assert!(soon(gate.enter(&running, true)).await.is_some());
        running.leave();
        running.leave();
        assert!(soon(gate.quiet()).await.is_some());
        assert!(soon(gate.enter(&running, true)).await.is_none(), "closed for all");
        gate.open();
        assert!(soon(gate.enter(&running, false)).await.is_some());
    }
}
