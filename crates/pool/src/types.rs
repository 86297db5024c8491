//! What goes into the pool machine and what comes out.

use std::time::Duration;

/// Why a connection is wanted, and which budget it is opened from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The first shard of a transaction.
    First = 0,
    /// A further shard of a multi-shard transaction; the caller holds a [`crate::Ticket`].
    Further = 1,
    /// The proxy's own work.
    Control = 2,
}

/// All of them.
pub(crate) const CLASSES: [Class; 3] = [Class::First, Class::Further, Class::Control];

/// How long one request waits for a server that is away, where that differs from [`crate::Policy`]'s numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hold {
    /// Instead of `away_wait`.
    pub wait: Option<Duration>,
    /// Instead of `away_queue`: it does not wait behind so many or more.
    pub queue: Option<usize>,
}

/// Names a server connection of one pool. Reused after the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// Names one waiting request; never reused within a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Why a request gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many requests are waiting already.
    QueueFull,
    /// The request waited `connection_timeout` in vain.
    TimedOut,
    /// Logins fail; the caller knows the server's last error.
    Failing,
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Hand this connection to this waiting request.
    Grant {
        /// Who waited.
        request: RequestId,
        /// What it gets.
        server: ServerId,
    },
    /// Tell this waiting request that it gets nothing.
    Refuse {
        /// Who waited.
        request: RequestId,
        /// Why.
        reason: Refused,
    },
    /// Open a connection; answer with `dialled`, `dial_failed` or `dial_denied`.
    Dial {
        /// The name it will have.
        server: ServerId,
        /// The budget it comes from.
        class: Class,
        /// It may be one of the reserve: somebody has waited long.
        reserve: bool,
    },
    /// Close this connection; it is already forgotten here.
    Close {
        /// Which.
        server: ServerId,
    },
}

/// The answer to [`Pool::request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An idle connection, yours now.
    Granted(ServerId),
    /// The same, but it was idle for long or others to its server broke: ask it something before you trust it.
    Check(ServerId),
    /// An [`Effect`] will name this request later.
    Queued(RequestId),
    /// No.
    Refused(Refused),
}

/// A pool's figures at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections lent out.
    pub leased: usize,
    /// Connections waiting for work.
    pub idle: usize,
    /// Logins running.
    pub dialling: usize,
    /// Connections lent out that were opened before the pool was recycled.
    pub outdated: usize,
    /// Requests waiting.
    pub waiting: usize,
    /// How long the longest waiting request has waited.
    pub longest_wait: Duration,
}
