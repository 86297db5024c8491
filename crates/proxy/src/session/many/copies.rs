//! Writers of reference tables wait for one another, so that each finds the same rows in all copies.
//!
//! A statement that looks at rows (and an UPDATE of all rows does) runs on each copy for itself, under a snapshot of its own. What commits
//! meanwhile would be seen by some of them: a commit over several shards reaches one after the other, and a statement that waits for a row
//! at home has its snapshot from before the wait. So whoever writes any reference table first takes a lock on every shard, home first, and
//! keeps it to the end of his transaction. With the lock of a shard he knows that all who had it at home before him have ended there, too:
//! every copy then shows him the same commits.
//!
//! Above READ COMMITTED a snapshot may be older than the lock. Changed rows are conflicts there, but rows that are only read are not; so
//! statements that read more than the rows they write are refused.

use catalog::ShardId;
use plan::{Many, RefusalCode};
use sql::Isolation;
use wire::backend::ErrorFields;

use crate::exec::statement::Planned;
use crate::session::{Fault, Session};

/// Of a key space that Drover has for itself in practice: "drov", and a number that no index has.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(1685221238, -1)";

impl Session {
    /// Before a statement that writes a reference table on these shards.
    pub(in crate::session) async fn lock_copies(&mut self, shards: &[ShardId]) -> Result<(), Fault> {
        if shards.len() < 2 {
            return Ok(());
        }
        self.block.atomic |= self.block.is_open();
        let home = self.engine.cluster.home();
        let mut order = shards.to_vec();
        order.sort_by_key(|shard| (*shard != home, *shard));
        for shard in order {
            self.run_on(shard, LOCK).await?;
        }
        Ok(())
    }

    /// Whether the copies could read different rows for the statement.
    pub(super) fn check_copies(&self, planned: &Planned) -> Result<(), Fault> {
        let reads = match &planned.plan.many {
            Many::Refuse(refusal) => refusal.code == RefusalCode::ReferenceReads,
            Many::Gather(_) => true,
            _ => false,
        };
        match reads && !self.reads_committed() {
            true => Err(Fault::refused_as(RefusalCode::ReferenceReads)),
            false => Ok(()),
        }
    }

    /// The copies did not all do the same.
    pub(super) fn copies_differ(&self) -> Fault {
        let fields = match self.reads_committed() {
            true => ErrorFields::error("XX001", "the copies of a reference table differ between shards")
                .with_hint("The statement was rolled back. Compare the copies on the shards."),
            // A row that one snapshot has and the other has not.
            false => ErrorFields::error("40001", "could not serialize access due to concurrent update"),
        };
        Fault::Statement(Box::new(fields))
    }

    fn reads_committed(&self) -> bool {
        matches!(
            self.isolation(),
            Isolation::ReadUncommitted | Isolation::ReadCommitted
        )
    }
}
