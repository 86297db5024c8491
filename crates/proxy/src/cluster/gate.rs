//! Holding statements back while the cluster changes.
//!
//! A worker counts its running statements in a counter of its own; the control thread closes the gate and waits until
//! all counters are zero. Either the worker sees the closed gate, or the control thread sees the count: both sides
//! write before they read, in sequentially consistent order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// How often the running counts are looked at while something waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The gate of one proxy.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
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

    /// Statements wait from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Statements go on.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    /// True while statements have to wait.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until no statement runs.
    pub async fn quiet(&self) {
        while self
            .counters()
            .iter()
            .any(|count| count.load(Ordering::SeqCst) > 0)
        {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Counts a statement, after waiting for the gate. Pair with [`Running::leave`].
    pub async fn enter(&self, running: &Running) {
        loop {
            running.count.fetch_add(1, Ordering::SeqCst);
            if !self.is_closed() {
                return;
            }
            running.leave();
            let mut opened = std::pin::pin!(self.opened.notified());
            // Registered before the look, so that an opening in between is not missed.
            opened.as_mut().enable();
            if self.is_closed() {
                opened.await;
            }
        }
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
