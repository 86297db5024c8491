//! Limits that hold for the whole proxy although every worker has pools of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::pools::entries::{DatabaseState, Entries, UserState};
use crate::pools::policy::{Policies, PoolPolicy};
use crate::pools::{Budget, PoolKey};
use crate::worker::{Mailboxes, WorkerMessage};

/// What the workers' pools for one key share: how many connections may be open, and which workers lack one.
#[derive(Debug)]
pub(crate) struct SharedLimit {
    key: PoolKey,
    open: AtomicUsize,
    limit: AtomicUsize,
    /// Permits beyond the limit for those who waited long.
    reserve: AtomicUsize,
    /// What counts this pool together with others.
    database: Arc<DatabaseState>,
    user: Arc<UserState>,
    total: Arc<Budget>,
    /// Permits per worker.
    held: Box<[AtomicUsize]>,
    /// Bit n: worker n has requests waiting and was denied a permit.
    hungry: AtomicUsize,
    mailboxes: Arc<Mailboxes>,
}

/// Which limit leaves no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The pool's own.
    Pool,
    /// The database's.
    Database,
    /// The user's.
    User,
    /// The proxy's.
    Total,
}

/// The right to have one connection open. Dropped with the connection.
#[derive(Debug)]
pub(crate) struct Permit {
    limit: Arc<SharedLimit>,
    worker: usize,
}

impl SharedLimit {
    /// Takes a permit unless all are taken; `reserve`: one of the reserve will do.
    pub(crate) fn acquire(self: &Arc<Self>, worker: usize, reserve: bool) -> Result<Permit, Denied> {
        let reserve = if reserve {
            self.reserve.load(Ordering::Relaxed)
        } else {
            0
        };
        let limit = self.limit.load(Ordering::Relaxed) + reserve;
        let taken = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < limit).then_some(open + 1)
            });
        if taken.is_err() {
            return Err(Denied::Pool);
        }
        if let Err(denied) = self.take_shared() {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Err(denied);
        }
        self.count(worker, true);
        Ok(Permit {
            limit: Arc::clone(self),
            worker,
        })
    }

    fn take_shared(&self) -> Result<(), Denied> {
        if !self.database.servers.take() {
            return Err(Denied::Database);
        }
        if !self.user.servers.take() {
            self.database.servers.give_back();
            return Err(Denied::User);
        }
        if !self.total.take() {
            self.database.servers.give_back();
            self.user.servers.give_back();
            return Err(Denied::Total);
        }
        Ok(())
    }

    /// The client database whose pool this is.
    pub(crate) fn database(&self) -> &Arc<DatabaseState> {
        &self.database
    }

    /// Asks every worker to close a connection idle in another pool under the same limit.
    pub(crate) fn ask_eviction(&self, denied: Denied) {
        self.mailboxes.send_all(|| WorkerMessage::Evict {
            key: self.key.clone(),
            denied,
        });
    }

    /// Permits taken by all workers.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn adjust(&self, policy: &PoolPolicy) {
        self.limit.store(policy.size.max(1), Ordering::Relaxed);
        self.reserve.store(policy.reserve, Ordering::Relaxed);
        self.database.servers.set_limit(policy.max_database_servers);
        self.user.servers.set_limit(policy.max_user_servers);
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
        limit.database.servers.give_back();
        limit.user.servers.give_back();
        limit.total.give_back();
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
}

impl Limiters {
    pub(crate) fn new(mailboxes: Arc<Mailboxes>) -> Self {
        Self {
            limits: Mutex::default(),
            mailboxes,
        }
    }

    /// The limit for `key`, made when it is asked for the first time.
    pub(crate) fn get(&self, key: &PoolKey, policy: &PoolPolicy, entries: &Entries) -> Arc<SharedLimit> {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(key.clone()).or_insert_with(|| {
            let limit = SharedLimit {
                key: key.clone(),
                open: AtomicUsize::new(0),
                held: (0..self.mailboxes.len()).map(|_| AtomicUsize::new(0)).collect(),
                limit: AtomicUsize::new(0),
                reserve: AtomicUsize::new(0),
                database: entries.database(&key.database),
                user: entries.user(&key.user),
                total: Arc::clone(&entries.servers),
                hungry: AtomicUsize::new(0),
                mailboxes: Arc::clone(&self.mailboxes),
            };
            limit.adjust(policy);
            Arc::new(limit)
        });
        Arc::clone(limit)
    }

    /// Other settings hold from now on. Connections beyond a smaller limit are closed as they grow idle or old.
    pub(crate) fn adjust(&self, policies: &Policies) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        // Of pools that are gone.
        limits.retain(|_, limit| Arc::strong_count(limit) > 1);
        for (key, limit) in limits.iter() {
            if let Some(policy) = policies.resolve(&key.user, &key.database) {
                limit.adjust(&policy);
            }
        }
    }
}
