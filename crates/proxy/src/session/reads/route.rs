//! What EXPLAIN (ROUTE) says of reads: where one would go now, and why.

use catalog::ShardId;
use plan::ReadPlace;

use super::super::{Fault, Session};
use super::options::{Consistency, ReadFrom, ReadHint};
use crate::nodes::{Choice, Need};

impl Session {
    /// Lines for a statement whose reads may leave the primary; none otherwise. Nothing is run, and nothing is counted.
    pub(in super::super) async fn read_route(
        &mut self,
        piece: &str,
        shards: &[ShardId],
    ) -> Result<Vec<String>, Fault> {
        let hint = ReadHint::of(piece)?;
        let Some(reads) = &self.reads else {
            return Ok(Vec::new());
        };
        let options = hint.over(reads.options);
        if options.from == ReadFrom::Primary {
            return Ok(Vec::new());
        }
        let context = self.plan_context().await?;
        let place = match super::super::learn::parse(piece, &context).as_deref() {
            Ok([raw]) => plan::read_place(raw, piece, &context.search_path, &context.snapshot),
            _ => ReadPlace::Unknown,
        };
        let why = match &place {
            ReadPlace::Primary(only) => only.to_string(),
            ReadPlace::Unknown => "nothing is known about the statement".to_owned(),
            ReadPlace::Follows => "it belongs to its transaction".to_owned(),
            ReadPlace::Replica if !options.leaves_primary() => "drover.consistency is strong".to_owned(),
            ReadPlace::Replica if self.block.is_open() && !self.reads_in_block() => {
                "the transaction may write, or is on the primary already".to_owned()
            }
            ReadPlace::Replica => return self.replicas_for(shards, &options).await,
        };
        Ok(vec![format!("Read from: primary ({why})")])
    }

    /// The open block is on replicas, or may go there.
    fn reads_in_block(&self) -> bool {
        let stays = self.reads.as_ref().is_some_and(|reads| reads.stays);
        !stays && self.servers.iter().any(|server| server.replica.is_some())
    }

    async fn replicas_for(
        &mut self,
        shards: &[ShardId],
        options: &super::ReadOptions,
    ) -> Result<Vec<String>, Fault> {
        let mut lines = Vec::new();
        for shard in shards {
            let name = self.shard_name(*shard);
            let Some(needed) = self.needed(*shard, options).await? else {
                lines.push(format!(
                    "Read from: {name}, primary (its history is not known far enough)"
                ));
                continue;
            };
            let need = Need {
                primary_too: options.from == ReadFrom::Any,
                at_least: needed,
                age_max: match options.consistency {
                    Consistency::Bounded(age) => Some(age),
                    _ => None,
                },
                tried: &[],
            };
            let choice = match self.engine.shared.nodes.choose(shard.0, &need) {
                Choice::Node(picked) => {
                    let address = picked.node.address();
                    format!("node {} at {address} ({})", picked.id, picked.why.as_str())
                }
                Choice::Primary(why) => format!("primary ({})", why.as_str()),
            };
            lines.push(format!("Read from: {name}, {choice}"));
            if let Some(place) = needed {
                lines.push(format!("Needs: {name} replayed up to {place}"));
            }
        }
        Ok(lines)
    }
}
