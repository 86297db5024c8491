//! Places where a test ends a move as a dying process would.

use super::OpError;

/// A point of a move, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Every proxy has paused.
    Paused,
    /// The table is locked on the home shard.
    Locked,
    /// The rows are on their shards; nothing is committed.
    Moved,
    /// The pending record is published.
    Announced,
    /// One shard is prepared.
    HalfPrepared,
    /// All shards but home are prepared.
    Prepared,
    /// The home shard has committed.
    Decided,
    /// One of the other shards has committed.
    HalfFinished,
    /// Every shard has committed; the record is still pending.
    Finished,
}

/// Where to die: nowhere, outside of tests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Here.
    pub(super) die_at: Option<Step>,
}

impl Faults {
    /// To be called at each step; the error means: leave everything as it is.
    pub(super) fn reached(self, step: Step) -> Result<(), OpError> {
        if self.die_at == Some(step) {
            Err(OpError::Died)
        } else {
            Ok(())
        }
    }
}
