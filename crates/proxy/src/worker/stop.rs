//! Telling sessions to end.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;

/// Why a session must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StopReason {
    /// It need not.
    #[default]
    None,
    /// The proxy shuts down: end as soon as no transaction is open (57P01).
    Shutdown,
    /// An operator ended this session: end now (57P01).
    Killed,
    /// `idle_transaction_timeout` (25P03).
    IdleInTransaction,
    /// `transaction_timeout` (25P04).
    TransactionTimeout,
    /// `client_idle_timeout` (57P05).
    ClientIdle,
    /// A statement did not react to being cancelled; the session's task is about to be dropped (57014).
    Unresponsive,
    /// The time for a graceful end is over; the session's task is about to be dropped.
    Abort,
}

impl StopReason {
    /// The session's task is dropped instead of being asked.
    pub(crate) fn is_cut(self) -> bool {
        matches!(self, Self::Abort | Self::Unresponsive)
    }

    /// SQLSTATE and text of the FATAL error that the client gets, as PostgreSQL says it where it has the same.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::IdleInTransaction => (
                "25P03",
                "terminating connection due to idle-in-transaction timeout",
            ),
            Self::TransactionTimeout => ("25P04", "terminating connection due to transaction timeout"),
            Self::ClientIdle => ("57P05", "terminating connection due to idle-session timeout"),
            Self::Unresponsive => (
                "57014",
                "terminating connection because the server did not react to the cancellation of a statement",
            ),
            Self::None | Self::Shutdown | Self::Killed | Self::Abort => {
                ("57P01", "terminating connection due to administrator command")
            }
        }
    }
}

/// A session's stop sign. Looking at it costs one load; when it changes, the session's task is woken, so a session
/// only has to look whenever it is polled ([`crate::client::ClientConn::fill_or_stop`] does).
#[derive(Debug, Default)]
pub struct Stop {
    reason: Cell<StopReason>,
    waker: RefCell<Option<Waker>>,
    /// The client database, once the client has logged in.
    database: RefCell<Option<Arc<str>>>,
    /// The client's process number, once it has logged in.
    pid: Cell<u32>,
}

impl Stop {
    /// Why the session must end.
    #[must_use]
    pub fn reason(&self) -> StopReason {
        self.reason.get()
    }

    /// Whether it must end at all.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.reason.get() != StopReason::None
    }

    /// Tells the session to end.
    pub fn set(&self, reason: StopReason) {
        self.reason.set(reason);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The client logged in to this database.
    pub(crate) fn set_database(&self, database: Arc<str>) {
        *self.database.borrow_mut() = Some(database);
    }

    /// The client that logged in has this process number.
    pub(crate) fn set_pid(&self, pid: u32) {
        self.pid.set(pid);
    }

    /// The task to wake.
    pub(super) fn set_waker(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }
}

/// The sessions of one worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: RefCell<Vec<Weak<Stop>>>,
    live: Rc<Cell<usize>>,
}

/// Counts a connection as long as it lives.
pub(crate) struct Alive(Rc<Cell<usize>>);

impl Sessions {
    /// One more session.
    pub(crate) fn add(&self) -> (Rc<Stop>, Alive) {
        let stop = Rc::new(Stop::default());
        let mut all = self.all.borrow_mut();
        // Ended sessions are swept when the list would grow, so the cost per session stays constant.
        if all.len() == all.capacity() {
            all.retain(|stop| stop.strong_count() > 0);
        }
        all.push(Rc::downgrade(&stop));
        self.live.set(self.live.get() + 1);
        (stop, Alive(Rc::clone(&self.live)))
    }

    /// Connections alive.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    /// Tells one session to end; the result is its stop sign, if it is one of these.
    pub(crate) fn kill(&self, pid: u32) -> Option<Weak<Stop>> {
        let all = self.all.borrow();
        let found = all
            .iter()
            .filter_map(Weak::upgrade)
            .find(|stop| stop.pid.get() == pid);
        drop(all);
        found.map(|stop| {
            stop.set(StopReason::Killed);
            Rc::downgrade(&stop)
        })
    }

    /// Cuts off the sessions of a client database, or all that have logged in.
    pub(crate) fn kill_database(&self, database: Option<&str>) {
        // Not asked but cut off: what they run may take for ever.
        self.tell_database(database, StopReason::Abort);
    }

    /// Tells the sessions of a client database to end as soon as no transaction is open.
    pub(crate) fn end_database(&self, database: &str) {
        self.tell_database(Some(database), StopReason::Shutdown);
    }

    fn tell_database(&self, database: Option<&str>, reason: StopReason) {
        let all: Vec<Rc<Stop>> = self.all.borrow().iter().filter_map(Weak::upgrade).collect();
        for stop in all {
            let matches = match &*stop.database.borrow() {
                Some(own) => database.is_none_or(|name| **own == *name),
                None => false,
            };
            if matches {
                stop.set(reason);
            }
        }
    }

    /// Tells all sessions to end.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        let all: Vec<Rc<Stop>> = self.all.borrow().iter().filter_map(Weak::upgrade).collect();
        for stop in all {
            stop.set(reason);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_sessions_are_swept() {
        let sessions = Sessions::default();
        let (kept, alive) = sessions.add();
        for _ in 0..10_000 {
            drop(sessions.add());
        }
        assert!(sessions.all.borrow().capacity() < 100);
        assert_eq!(sessions.live(), 1);
        sessions.stop_all(StopReason::Shutdown);
        assert_eq!(kept.reason(), StopReason::Shutdown);
        drop(alive);
        assert_eq!(sessions.live(), 0);
    }
}
