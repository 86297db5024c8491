//! `drover.read_snapshot = 'cluster'`: reads over several shards that never see half of a commit.
//!
//! | the client's transaction | a read over several shards |
//! |---|---|
//! | none | runs in a REPEATABLE READ block of its own |
//! | REPEATABLE READ, nothing read yet | its snapshots are taken under the barrier |
//! | READ COMMITTED | is refused: each statement would need snapshots of its own |

use super::reads::{is_from_primaries, snapshot_of_cluster};
use super::{Fault, Session};
use crate::cluster::Held;
use sql::Isolation;

/// The block of a read outside of transactions.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

impl Session {
    /// Whether reads outside of transactions go to primaries only.
    pub(super) fn reads_from_primaries(&self) -> bool {
        is_from_primaries(&self.settings)
    }

    /// Before a read that may concern several shards.
    pub(super) fn prepare_snapshot(&mut self, writes: bool) -> Result<(), Fault> {
        let Some(from_primaries) = snapshot_of_cluster(&self.settings) else {
            return Ok(());
        };
        if writes {
            return Ok(());
        }
        if !from_primaries {
            return Err(no_snapshot(
                "reads that may go to replicas have no snapshot of the cluster",
            ));
        }
        if !self.block.is_open() {
            self.block.open(BEGIN.to_owned(), true);
            self.settings.begin();
            self.block.cluster_snapshot = true;
            return Ok(());
        }
        if self.block.cluster_snapshot {
            return Ok(());
        }
        if self.isolation() != Isolation::RepeatableRead {
            return Err(no_snapshot(
                "a read over several shards has no snapshot of the cluster in a transaction that is not REPEATABLE READ",
            ));
        }
        if self.block.snapshots || self.servers.iter().any(|server| server.begun) {
            return Err(no_snapshot(
                "the transaction has its snapshots already, and they are not of one moment",
            ));
        }
        self.block.cluster_snapshot = true;
        Ok(())
    }

    /// A time without decisions, for the snapshots of the block; `None`: it is not to be one of the cluster.
    pub(super) async fn hold_decisions(&mut self) -> Result<Option<Held>, Fault> {
        let wanted = snapshot_of_cluster(&self.settings) == Some(true);
        if !(self.block.cluster_snapshot || wanted) {
            return Ok(None);
        }
        self.block.cluster_snapshot = true;
        let slot = std::sync::Arc::clone(&self.cancel.slot);
        let held = slot
            .until_cancelled(self.engine.cluster.hold_decisions(&self.database))
            .await;
        match held {
            None => Err(Fault::error("57014", crate::exec::relay::CANCELLED)),
            Some(Ok(held)) => {
                self.engine.metrics.cluster_snapshots.increment();
                Ok(Some(held))
            }
            Some(Err(reason)) => Err(not_taken(&reason)),
        }
    }

    /// After the snapshots have been taken.
    pub(super) fn check_held(held: Option<Held>) -> Result<(), Fault> {
        match held {
            Some(held) if !held.is_valid() => Err(not_taken("it took too long")),
            _ => Ok(()),
        }
    }
}

fn not_taken(reason: &str) -> Fault {
    let text = format!("a snapshot of the cluster could not be taken: {reason}");
    let fields = wire::backend::ErrorFields::error("40001", text).with_hint("Retry the transaction.");
    Fault::Statement(Box::new(fields))
}

fn no_snapshot(reason: &str) -> Fault {
    Fault::refused(&plan::Refusal::with(plan::RefusalCode::ClusterSnapshot, reason))
}
