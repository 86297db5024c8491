//! What becomes of a prepared transaction whose proxy is gone. Any proxy or controller may run this at any
//! time, several at once, on primaries only.

use crate::Gid;

/// What the deciding shard's primary said about a [`Gid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A row with `committed = true`.
    Commit,
    /// A row with `committed = false`.
    Abort,
    /// No row (only a plain look-up can say this, never the insertion of an abort row).
    Absent,
    /// The shard cannot be asked, gave an error, or a lock time-out ended the wait for a commit in flight.
    Unavailable,
}

/// What is known about a prepared transaction besides its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// It was prepared so recently that its proxy is probably still at work. Matters for liveness only.
    pub within_grace: bool,
    /// It was prepared before the point up to which decisions may have been collected: its decision may have
    /// existed and be gone, so its absence proves nothing.
    pub before_collection_watermark: bool,
}

/// The next step for one prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// COMMIT PREPARED, in the transaction's database, as its owner.
    Commit,
    /// ROLLBACK PREPARED, likewise.
    RollBack,
    /// Insert an abort row on the deciding shard ([`crate::sql::resolve`]) and come back with what that
    /// returned: it waits for, or excludes, a commit still in flight.
    RecordAbort,
    /// Ask again later.
    Wait,
    /// Only an operator can tell.
    Operator,
}

impl Step {
    /// After it the transaction is not in doubt any more.
    pub fn is_end(self) -> bool {
        matches!(self, Step::Commit | Step::RollBack)
    }
}

/// Decides about one prepared transaction. `_gid` is taken so that nobody asks about a transaction that was not
/// recognised as one of ours.
pub fn next_step(_gid: &Gid, decision: Decision, circumstances: Circumstances) -> Step {
    match decision {
        Decision::Commit => Step::Commit,
        Decision::Abort => Step::RollBack,
        Decision::Unavailable => Step::Wait,
        Decision::Absent if circumstances.before_collection_watermark => Step::Operator,
        Decision::Absent if circumstances.within_grace => Step::Wait,
        Decision::Absent => Step::RecordAbort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, ShardId};

    #[test]
    fn absence_alone_never_rolls_back() {
        let gid = Gid::new(ShardId(0), Secret([0; 16]));
        for within_grace in [false, true] {
            for before_collection_watermark in [false, true] {
                let circumstances = Circumstances {
                    within_grace,
                    before_collection_watermark,
                };
                let step = |decision| next_step(&gid, decision, circumstances);
                assert_eq!(step(Decision::Commit), Step::Commit);
                assert_eq!(step(Decision::Abort), Step::RollBack);
                assert_eq!(step(Decision::Unavailable), Step::Wait);
                let expect = match (before_collection_watermark, within_grace) {
                    (true, _) => Step::Operator,
                    (false, true) => Step::Wait,
                    (false, false) => Step::RecordAbort,
                };
                assert_eq!(step(Decision::Absent), expect);
            }
        }
    }
}
