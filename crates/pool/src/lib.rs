//! Pooling policy as a state machine: which waiting request gets which server connection, when to dial, when to
//! close, when to refuse. Pure: no sockets, no clock, no randomness. Time and jitter come in as arguments, decisions
//! go out as [`Effect`]s.
//!
//! One [`Pool`] serves one (worker, shard, user, database). [`TicketBook`] bounds multi-shard transactions so that
//! enlisting a further shard never waits for a connection (and therefore never deadlocks).

mod machine;
mod policy;
mod ticket;
mod time;
mod types;

pub use machine::Pool;
pub use policy::Policy;
pub use ticket::{Ticket, TicketAnswer, TicketBook, TicketEffect, TicketRequestId};
pub use time::Time;
pub use types::{Answer, Class, Effect, Hold, Refused, RequestId, ServerId, Stats};
