//! Limits that hold for the whole proxy although every worker has pools of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::pools::PoolKey;
use crate::worker::{Mailboxes, WorkerMessage};

/// What the workers' pools for one key share: how many connections may be open, and which workers lack one.
#[derive(Debug)]
pub(crate) struct SharedLimit {
    key: PoolKey,
    open: AtomicUsize,
    limit: usize,
    /// Permits per worker.
    held: Box<[AtomicUsize]>,
    /// Bit n: worker n has requests waiting and was denied a permit.
    hungry: AtomicUsize,
    mailboxes: Arc<Mailboxes>,
}

/// The right to have one connection open. Dropped with the connection.
#[derive(Debug)]
pub(crate) struct Permit {
    limit: Arc<SharedLimit>,
    worker: usize,
}

impl SharedLimit {
    /// Takes a permit unless all are taken.
    pub(crate) fn acquire(self: &Arc<Self>, worker: usize) -> Option<Permit> {
        let taken = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < self.limit).then_some(open + 1)
            });
        taken.ok()?;
        self.count(worker, true);
        Some(Permit {
            limit: Arc::clone(self),
            worker,
        })
    }

    /// Permits this worker holds.
    pub(crate) fn held(&self, worker: usize) -> usize {
        self.held
            .get(worker)
            .map_or(0, |held| held.load(Ordering::Relaxed))
    }

    fn count(&self, worker: usize, more: bool) {
        let Some(held) = self.held.get(worker) else { return };
        if more {
            held.fetch_add(1, Ordering::Relaxed)
        } else {
            held.fetch_sub(1, Ordering::Relaxed)
        };
    }

    /// Remembers that this worker lacks a connection and asks the others for an idle one.
    pub(crate) fn ask(&self, worker: usize) {
        let bit = 1 << (worker % usize::BITS as usize);
        if self.hungry.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            self.mailboxes.send_others(worker, || WorkerMessage::Want {
                key: self.key.clone(),
            });
        }
    }

    /// This worker lacks nothing any more.
    pub(crate) fn satisfied(&self, worker: usize) {
        let bit = 1 << (worker % usize::BITS as usize);
        if self.hungry.load(Ordering::Relaxed) & bit != 0 {
            self.hungry.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Another worker than `worker` that lacks a connection. One relaxed load when nobody does.
    pub(crate) fn hungry_other(&self, worker: usize) -> Option<usize> {
        let bit = 1 << (worker % usize::BITS as usize);
        let others = self.hungry.load(Ordering::Relaxed) & !bit;
        (others != 0).then(|| others.trailing_zeros() as usize)
    }

    /// Marks a worker as served; false when somebody else served it first.
    pub(crate) fn claim(&self, worker: usize) -> bool {
        let bit = 1 << (worker % usize::BITS as usize);
        self.hungry.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }
}

impl Permit {
    /// The connection goes to another worker, and the permit with it.
    pub(crate) fn move_to(&mut self, worker: usize) {
        self.limit.count(self.worker, false);
        self.worker = worker;
        self.limit.count(worker, true);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limit = &self.limit;
        limit.count(self.worker, false);
        limit.open.fetch_sub(1, Ordering::AcqRel);
        let mut hungry = limit.hungry.load(Ordering::Acquire);
        while hungry != 0 {
            let worker = hungry.trailing_zeros() as usize;
            hungry &= hungry - 1;
            limit.mailboxes.send(
                worker,
                WorkerMessage::Room {
                    key: limit.key.clone(),
                },
            );
        }
    }
}

/// The shared limits by key.
#[derive(Debug)]
pub(crate) struct Limiters {
    limits: Mutex<HashMap<PoolKey, Arc<SharedLimit>>>,
    mailboxes: Arc<Mailboxes>,
    limit: usize,
}

impl Limiters {
    /// Every key gets `limit` permits.
    pub(crate) fn new(limit: usize, mailboxes: Arc<Mailboxes>) -> Self {
        Self {
            limits: Mutex::default(),
            mailboxes,
            limit: limit.max(1),
        }
    }

    /// The limit for `key`, made when it is asked for the first time.
    pub(crate) fn get(&self, key: &PoolKey) -> Arc<SharedLimit> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(key.clone()).or_insert_with(|| {
            Arc::new(SharedLimit {
                key: key.clone(),
                open: AtomicUsize::new(0),
                held: (0..self.mailboxes.len()).map(|_| AtomicUsize::new(0)).collect(),
                limit: self.limit,
                hungry: AtomicUsize::new(0),
                mailboxes: Arc::clone(&self.mailboxes),
            })
        });
        Arc::clone(limit)
    }
}
