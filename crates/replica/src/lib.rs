//! The servers of one shard: which of them is the primary, how far the others are behind, and which one a read is
//! given. Pure: no sockets, no clock, no randomness. Time and random numbers come in as arguments.
//!
//! What is here, each a small machine or function of its own:
//!
//! | module | decides |
//! |---|---|
//! | [`position`] | what a place in the write-ahead log is, and when two of them can be compared |
//! | [`lineage`] | which timelines a server's history consists of, and where it left each |
//! | [`lag`] | how old the data of a replica are at most |
//! | [`elect`] | which of several servers that say so is the primary |
//! | [`rotation`] | which replicas get reads |
//! | [`balance`] | which of several servers gets the next read |
//! | [`breaker`] | when a server that fails gets nothing for a while |
//! | [`token`] | how positions travel from one session to another |

pub mod balance;
pub mod breaker;
pub mod elect;
pub mod lag;
pub mod lineage;
pub mod position;
pub mod rotation;
pub mod token;

pub use balance::Candidate;
pub use breaker::{Breaker, BreakerPolicy, BreakerState};
pub use elect::{Claim, Known, Undecided, elect};
pub use lag::PrimaryClock;
pub use lineage::{Lineage, LineageError, Place};
pub use position::{Lsn, ParseError, Position, SystemId, Timeline};
pub use rotation::{Late, RotationPolicy};
pub use token::{Token, TokenError};
