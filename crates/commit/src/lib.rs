//! Atomic commit over several shards, as a machine: what happened so far in, what to do next out.
//!
//! Every writing shard but one, the *decider*, is prepared under one [`Gid`]. The decider then commits its own
//! part together with a row in `drover_internal.decisions`: that commit is the decision. The rest is committed after it.
//! Whoever finds a prepared transaction later asks the deciding shard ([`recovery`]); a missing decision is
//! first excluded by an abort row under the same key, so nothing is ever guessed from a time-out.
//!
//! Nothing here does IO, knows the time or makes random numbers.

pub mod collection;
pub mod deadlock;
mod gid;
mod machine;
mod participants;
pub mod recovery;
pub mod sql;

pub use gid::{Gid, GidError, Secret};
pub use machine::{AbortReason, Answer, Commit, Effect, Reply};
pub use participants::{EnlistError, Participant, Participants, Writes};

use std::fmt;

/// A shard as this crate sees it: a number that means the same to every proxy of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
