//! Time-outs of statements, transactions and silent clients.
//!
//! A session whose times are limited has a [`Watch`]; it stores what it is doing and since which tick, which costs two
//! stores and no look at a clock. One timer per worker looks at all watches every [`TICK`]; it runs only while there
//! are any. So a time-out comes up to two ticks late, and costs nothing when none is configured.
//!
//! | what takes too long | what is done |
//! |---|---|
//! | a statement | its servers are sent a cancel, again and again until it ends |
//! | a transaction that runs a statement | the same, and the session ends with 25P04 |
//! | a transaction whose client is silent | the session ends with 25P04 or 25P03: ROLLBACK, the servers stay |
//! | a silent client outside a transaction | the session ends with 57P05 |
//! | a statement that does not react to cancels for [`GRACE_TICKS`] | the session is cut off, its servers closed |
//!
//! Nothing is sent while a transaction is being committed: what is prepared or decided must not be disturbed.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::stop::{Stop, StopReason};
use crate::cancel::CancelSlot;
use crate::config::Timeouts;
use crate::metrics::WorkerMetrics;

/// How often the timer looks.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ticks between two cancels for one statement.
const REPEAT_TICKS: u32 = 10;

/// Ticks after which a statement that does not react to cancels costs its session.
const GRACE_TICKS: u32 = 100;

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for its client, outside a transaction.
    Idle,
    /// It waits for its client, inside a transaction.
    IdleInTransaction,
    /// It runs something.
    Running,
    /// It ends a transaction.
    Ending,
}

/// What ran out for what a session is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fired {
    Nothing,
    Query,
    Transaction,
}

/// Times in ticks; 0: for ever.
#[derive(Debug, Clone, Copy)]
struct Limits {
    query: u32,
    transaction: u32,
    idle_transaction: u32,
    client_idle: u32,
}

/// What the timer knows about one session.
#[derive(Debug)]
pub(crate) struct Watch {
    watches: Rc<Watches>,
    /// In force now.
    limits: Cell<Limits>,
    /// As configured.
    configured: Limits,
    /// The time of a statement is limited by the session itself.
    budget: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    /// The transaction's first tick, if one is open.
    transaction: Cell<Option<u32>>,
    fired: Cell<Fired>,
    fired_at: Cell<u32>,
    stop: Rc<Stop>,
    slot: Arc<CancelSlot>,
}

/// The watches of one worker.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    now: Cell<u32>,
    all: RefCell<Vec<Weak<Watch>>>,
    running: Cell<bool>,
}

/// What a look at a watch asks for.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Stop(StopReason),
    Cancel,
}

impl Watches {
    /// Watches a session, unless nothing is limited for it.
    pub(crate) fn watch(
        self: &Rc<Self>,
        timeouts: &Timeouts,
        stop: &Rc<Stop>,
        slot: &Arc<CancelSlot>,
        metrics: &Arc<WorkerMetrics>,
    ) -> Option<Rc<Watch>> {
        (!timeouts.is_unlimited()).then(|| self.watch_always(timeouts, stop, slot, metrics))
    }

    /// Watches a session although nothing is limited for it yet.
    pub(crate) fn watch_always(
        self: &Rc<Self>,
        timeouts: &Timeouts,
        stop: &Rc<Stop>,
        slot: &Arc<CancelSlot>,
        metrics: &Arc<WorkerMetrics>,
    ) -> Rc<Watch> {
        let limits = Limits {
            query: ticks(timeouts.query),
            transaction: ticks(timeouts.transaction),
            idle_transaction: ticks(timeouts.idle_transaction),
            client_idle: ticks(timeouts.client_idle),
        };
        let watch = Rc::new(Watch {
            watches: Rc::clone(self),
            limits: Cell::new(limits),
            configured: limits,
            budget: Cell::new(false),
            phase: Cell::new(Phase::Running),
            since: Cell::new(self.now.get()),
            transaction: Cell::new(None),
            fired: Cell::new(Fired::Nothing),
            fired_at: Cell::new(0),
            stop: Rc::clone(stop),
            slot: Arc::clone(slot),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        if !self.running.replace(true) {
            tokio::task::spawn_local(Rc::clone(self).run(Arc::clone(metrics)));
        }
        watch
    }

    /// Looks at all watches every tick until there are none.
    async fn run(self: Rc<Self>, metrics: Arc<WorkerMetrics>) {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        timer.tick().await;
        loop {
            let before = tokio::time::Instant::now();
            timer.tick().await;
            // A worker that was kept busy makes up for the ticks it missed.
            let passed = before.elapsed().as_millis() / TICK.as_millis();
            let passed = u32::try_from(passed).unwrap_or(u32::MAX).max(1);
            self.now.set(self.now.get().wrapping_add(passed));
            let mut all = self.all.borrow_mut();
            all.retain(|watch| watch.strong_count() > 0);
            if all.is_empty() {
                self.running.set(false);
                return;
            }
            let due: Vec<Rc<Watch>> = all.iter().filter_map(Weak::upgrade).collect();
            drop(all);
            for watch in due {
                watch.act(&metrics);
            }
        }
    }
}

impl Watch {
    /// The client limits its own silence (zero: it does not): `idle_in_transaction_session_timeout` and
    /// `idle_session_timeout`. The shorter time counts where one is configured as well.
    pub(crate) fn set_own(&self, idle_transaction: Duration, client_idle: Duration) {
        let query = self.limits.get().query;
        let shorter = |configured: u32, own: Duration| match (configured, ticks(own)) {
            (0, own) => own,
            (configured, 0) => configured,
            (configured, own) => configured.min(own),
        };
        self.limits.set(Limits {
            idle_transaction: shorter(self.configured.idle_transaction, idle_transaction),
            client_idle: shorter(self.configured.client_idle, client_idle),
            query,
            ..self.configured
        });
    }

    /// The session gives each of its statements so much time (zero: it does not say): `drover.statement_budget`. The shorter time
    /// counts where one is configured as well.
    pub(crate) fn set_budget(&self, time: Duration) {
        let (own, configured) = (ticks(time), self.configured.query);
        let is_own = own > 0 && (configured == 0 || own < configured);
        self.budget.set(is_own);
        let query = if is_own { own } else { configured };
        self.limits.set(Limits {
            query,
            ..self.limits.get()
        });
    }

    /// What limits the time of a statement is the session's own budget.
    pub(crate) fn is_budget(&self) -> bool {
        self.budget.get()
    }

    /// The session begins to run something; `in_block`: as part of a transaction that is open already.
    pub(crate) fn runs(&self, in_block: bool) {
        let now = self.watches.now.get();
        self.phase.set(Phase::Running);
        self.since.set(now);
        self.fired.set(Fired::Nothing);
        if !in_block || self.transaction.get().is_none() {
            self.transaction.set(Some(now));
        }
    }

    /// The session waits for its client.
    pub(crate) fn waits(&self, in_block: bool) {
        self.since.set(self.watches.now.get());
        if in_block {
            self.phase.set(Phase::IdleInTransaction);
        } else {
            self.phase.set(Phase::Idle);
            self.transaction.set(None);
        }
    }

    /// The session ends a transaction: nothing may disturb its servers until it runs or waits again.
    pub(crate) fn ends(&self) {
        self.phase.set(Phase::Ending);
    }

    /// The session's statement was cancelled because its time was over.
    pub(crate) fn has_fired(&self) -> bool {
        self.fired.get() != Fired::Nothing
    }

    fn act(&self, metrics: &WorkerMetrics) {
        match self.look(self.watches.now.get()) {
            Due::Nothing => {}
            Due::Stop(reason) => {
                if self.stop.reason() != reason {
                    metrics.session_timeouts.increment();
                }
                self.stop.set(reason);
            }
            Due::Cancel => {
                metrics.statement_timeouts.increment();
                let slot = Arc::clone(&self.slot);
                tokio::task::spawn_local(async move { slot.cancel().await });
            }
        }
    }

    fn look(&self, now: u32) -> Due {
        let limits = self.limits.get();
        let over = |since: u32, limit: u32| limit > 0 && now.wrapping_sub(since) > limit;
        let transaction_over = self
            .transaction
            .get()
            .is_some_and(|since| over(since, limits.transaction));
        match self.phase.get() {
            Phase::Idle if over(self.since.get(), limits.client_idle) => Due::Stop(StopReason::ClientIdle),
            Phase::IdleInTransaction if transaction_over => Due::Stop(StopReason::TransactionTimeout),
            Phase::IdleInTransaction if over(self.since.get(), limits.idle_transaction) => {
                Due::Stop(StopReason::IdleInTransaction)
            }
            Phase::Running => {
                let wanted = if transaction_over {
                    Fired::Transaction
                } else if over(self.since.get(), limits.query) {
                    Fired::Query
                } else {
                    return Due::Nothing;
                };
                self.fire(wanted, now)
            }
            _ => Due::Nothing,
        }
    }

    fn fire(&self, wanted: Fired, now: u32) -> Due {
        if self.fired.get() != wanted {
            // A statement still in a queue has its own bound; it is cancelled as soon as it has a server.
            if wanted == Fired::Query && self.slot.targets().is_empty() {
                return Due::Nothing;
            }
            self.fired.set(wanted);
            self.fired_at.set(now);
            if wanted == Fired::Transaction {
                // Ends the session at its next wait for the client.
                self.stop.set(StopReason::TransactionTimeout);
            }
            return Due::Cancel;
        }
        let since = now.wrapping_sub(self.fired_at.get());
        if since >= GRACE_TICKS {
            Due::Stop(StopReason::Unresponsive)
        } else if since.is_multiple_of(REPEAT_TICKS) {
            Due::Cancel
        } else {
            Due::Nothing
        }
    }
}

/// A time in ticks, rounded up.
fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelTarget;
    use crate::server::{Address, BackendKey};

    fn watch(timeouts: Timeouts) -> (Rc<Watches>, Rc<Watch>) {
        let watches = Rc::new(Watches::default());
        // Kept from starting its timer: the tests are the timer.
        watches.running.set(true);
        let metrics = Arc::default();
        let watch = watches.watch(&timeouts, &Rc::default(), &Arc::default(), &metrics);
        (watches, watch.expect("something is limited"))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_limited_nothing_watched() {
        let watches = Rc::new(Watches::default());
        let unlimited = Timeouts::default();
        let watch = watches.watch(&unlimited, &Rc::default(), &Arc::default(), &Arc::default());
        assert!(watch.is_none());
    }

    #[test]
    fn silence_is_judged_by_where_it_falls() {
        let (watches, watch) = watch(Timeouts {
            idle_transaction: seconds(1),
            client_idle: seconds(2),
            ..Timeouts::default()
        });
        watch.runs(false);
        assert_eq!(watch.look(1000), Due::Nothing, "a statement may take for ever");
        watch.waits(true);
        assert_eq!(watch.look(10), Due::Nothing);
        assert_eq!(watch.look(11), Due::Stop(StopReason::IdleInTransaction));
        watches.now.set(20);
        watch.runs(true);
        watch.waits(false);
        assert_eq!(watch.look(40), Due::Nothing);
        assert_eq!(watch.look(41), Due::Stop(StopReason::ClientIdle));
    }

    #[test]
    fn a_statement_is_cancelled_again_and_again_then_its_session_ends() {
        let (_watches, watch) = watch(Timeouts {
            query: seconds(1),
            ..Timeouts::default()
        });
        watch.runs(false);
        assert_eq!(watch.look(11), Due::Nothing, "no server, nothing to cancel");
        watch.slot.bind(Arc::new(CancelTarget {
            address: Arc::new(Address {
                host: "h".into(),
                port: 1,
            }),
            key: BackendKey {
                pid: 1,
                secret: Box::new([0; 4]),
            },
            tls: None,
            blame: crate::cancel::Blame::default(),
        }));
        assert_eq!(watch.look(12), Due::Cancel);
        assert_eq!(watch.look(13), Due::Nothing);
        assert_eq!(watch.look(22), Due::Cancel);
        assert_eq!(watch.look(112), Due::Stop(StopReason::Unresponsive));
        watch.ends();
        assert_eq!(watch.look(112), Due::Nothing, "a commit is never disturbed");
    }

    #[test]
    fn a_transaction_is_measured_from_its_first_statement() {
        let (watches, watch) = watch(Timeouts {
            transaction: seconds(1),
            ..Timeouts::default()
        });
        watch.runs(false);
        watch.waits(true);
        watches.now.set(8);
        watch.runs(true);
        assert_eq!(watch.look(10), Due::Nothing);
        assert_eq!(watch.look(11), Due::Cancel);
        assert_eq!(watch.stop.reason(), StopReason::TransactionTimeout);
        watch.waits(false);
        watches.now.set(30);
        watch.runs(false);
        assert_eq!(watch.look(40), Due::Nothing, "a new one");
    }
}
