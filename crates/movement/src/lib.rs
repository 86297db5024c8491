//! Rows that move from one shard to others while they are read and written (docs/decisions/0028), without I/O.
//!
//! * [`workflow`]: what is recorded of a move, and what may follow what.
//! * [`pgoutput`]: reading PostgreSQL's logical replication stream.
//! * [`route`]: which shard a change of the source concerns, and how.
//! * [`apply`]: changes as SQL for one target, with the number of rows that each statement must touch.
//!
//! Whoever does the I/O asks the workflow for its [`workflow::Task`], carries it out, and tells what came of it.

pub mod apply;
pub mod lsn;
pub mod pgoutput;
pub mod route;
pub mod workflow;

pub use lsn::Lsn;
