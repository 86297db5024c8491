//! Which shards rows come from, which they go to, and what takes them there.
//!
//! A table of the home shard has one leg, and the rows go into the table itself, which nobody else knows of before the cutover.
//! A table that is sharded already has a leg for each shard, and every shard has rows of it that are read and written until
//! the cutover: what comes from another shard waits beside it, in a *staging table* of its own for each pair of shards. So
//! the legs know nothing of each other: each has its slot, its stream, its position on every target and its comparison.

use catalog::ShardId;

use super::Job;
use crate::ops::relocate::Goal;
use crate::ops::schemes;

/// The rows that leave one shard.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    /// The shard.
    pub(super) source: ShardId,
    /// Where they go.
    pub(super) targets: Vec<ShardId>,
    /// Names its row in the targets' `drover_internal.movements`.
    pub(super) row: String,
    /// The table on the targets that takes them, as SQL.
    pub(super) into: String,
}

impl Job<'_> {
    /// All legs of the move.
    pub(super) fn legs(&self) -> Vec<Leg> {
        let record = self.cluster.record();
        let workflow = self.workflow();
        let shards = record.shards.iter().map(|shard| shard.id);
        if !workflow.staged {
            return vec![Leg {
                source: record.home,
                targets: shards.filter(|shard| *shard != record.home).collect(),
                row: workflow.id.clone(),
                into: self.table_sql(),
            }];
        }
        let goes_home = match &self.goal {
            Goal::Home => true,
            // The home shard's own name is no place.
            Goal::Placed(name) => schemes::shard(&record, name).is_ok_and(|shard| shard == record.home),
            _ => false,
        };
        let goes_to = |from: ShardId, to: ShardId| from != to && (!goes_home || to == record.home);
        let leg = |source: ShardId| Leg {
            source,
            targets: shards.clone().filter(|target| goes_to(source, *target)).collect(),
            row: format!("{}_{source}", workflow.id),
            into: format!("drover_internal.move_{}_{source}", workflow.id),
        };
        shards
            .clone()
            .map(leg)
            .filter(|leg| !leg.targets.is_empty())
            .collect()
    }

    /// The table's name as SQL.
    pub(super) fn table_sql(&self) -> String {
        let workflow = self.workflow();
        format!(
            "{}.{}",
            sql::quote_ident(&workflow.schema),
            sql::quote_ident(&workflow.table)
        )
    }

    /// Names the row on the home shard that is there once a staged move has been cut over.
    pub(super) fn cut_row(&self) -> String {
        format!("{}_cut", self.workflow().id)
    }
}
