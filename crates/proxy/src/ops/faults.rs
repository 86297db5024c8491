//! Places where a test ends a move as a dying process would.

use std::sync::Arc;

use tokio::sync::Notify;

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
    /// The barrier was found to be held; the decision comes next.
    Held,
    /// The home shard has committed.
    Decided,
    /// One of the other shards has committed.
    HalfFinished,
    /// Every shard has committed; the record is still pending.
    Finished,
    /// A move of the online kind is recorded, and nothing else done.
    Begun,
    /// Earlier attempts can do nothing any more.
    Fenced,
    /// The publication is there.
    Published,
    /// The slot is there.
    SlotMade,
    /// All targets have their copies; the workflow does not say so yet.
    Copied,
    /// Changes have been applied.
    Streamed,
    /// Both sides were compared.
    Compared,
    /// The workflow says that the cutover may be under way.
    Cutting,
    /// All changes are on the targets, and everybody waits.
    Drained,
    /// The table is where it belongs; the workflow does not say so yet.
    CutOver,
    /// Some of the tools are removed.
    HalfCleaned,
    /// All are removed; the workflow does not say so yet.
    Cleaned,
}

/// What goes wrong: nothing, outside of tests.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// The process dies here.
    pub(super) die_at: Option<Step>,
    /// The process stands still here.
    pub(super) stall_at: Option<(Step, Arc<Stall>)>,
}

/// A process that stands still until it is told to go on.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// It stands still.
    pub(super) reached: Notify,
    /// It may go on.
    pub(super) go_on: Notify,
}

impl Faults {
    /// To be called at each step; the error means: leave everything as it is.
    pub(super) async fn reached(&self, step: Step) -> Result<(), OpError> {
        if let Some((at, stall)) = &self.stall_at
            && *at == step
        {
            stall.reached.notify_one();
            stall.go_on.notified().await;
        }
        if self.dies_at(step) {
            Err(OpError::Died)
        } else {
            Ok(())
        }
    }

    /// Whether the process dies at this step.
    pub(super) fn dies_at(&self, step: Step) -> bool {
        self.die_at == Some(step)
    }
}
