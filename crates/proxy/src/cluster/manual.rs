//! Recovery by hand: what the rule of DESIGN §4 says about each transaction in doubt, told or done.

use std::time::Duration;

use catalog::ShardId;
use commit::recovery::{Circumstances, Decision, Step, next_step};

use super::Cluster;
use super::outcome::{self, InDoubt};
use super::recovery::{self, GRACE, ONE_WITHIN};
use crate::admin_link::AdminError;

/// What becomes of a transaction, or became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// This would be next ([`Step::RecordAbort`]: unless there is a commit on its way).
    Planned(Step),
    /// This was done; not an end: it was left alone.
    Done(Step),
    /// It is as it was, on a shard at least.
    Failed(String),
}

/// One transaction in doubt.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// As it was found.
    pub(crate) transaction: InDoubt,
    /// It is left alone as long as it is so young, in milliseconds, and nothing is decided.
    pub(crate) grace_ms: u64,
    /// What becomes of it.
    pub(crate) end: End,
}

pub(super) async fn run(
    cluster: &Cluster,
    database: &str,
    older_than: Option<Duration>,
    dry_run: bool,
) -> (Vec<Verdict>, Vec<(ShardId, AdminError)>) {
    let grace = older_than.unwrap_or_else(|| cluster.fail_points.grace(GRACE));
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let (found, missing) = outcome::list(cluster, database).await;
    let mut verdicts = Vec::with_capacity(found.len());
    for transaction in found {
        let within_grace = transaction.age_ms < grace_ms;
        let end = match dry_run {
            true => End::Planned(planned(&transaction, within_grace)),
            false => finish(cluster, database, &transaction, within_grace).await,
        };
        verdicts.push(Verdict {
            transaction,
            grace_ms,
            end,
        });
    }
    (verdicts, missing)
}

/// By what was seen, and nothing was written for it.
fn planned(transaction: &InDoubt, within_grace: bool) -> Step {
    let decision = transaction.decision.unwrap_or(Decision::Unavailable);
    let circumstances = Circumstances {
        within_grace,
        before_collection_watermark: transaction.too_old,
    };
    next_step(&transaction.gid, decision, circumstances)
}

/// On all shards that hold a part. They ask the deciding shard each for themselves, and cannot be told different things.
async fn finish(cluster: &Cluster, database: &str, transaction: &InDoubt, within_grace: bool) -> End {
    let mut last = Step::Wait;
    let mut failure = None;
    for shard in &transaction.prepared_on {
        let one = async {
            let mut link = cluster.admin_link(ShardId(*shard), database).await?;
            recovery::resolve(cluster, &mut link, database, &transaction.gid, within_grace).await
        };
        match tokio::time::timeout(ONE_WITHIN, one).await {
            Ok(Ok(step)) => last = step,
            Ok(Err(error)) => failure = Some(error.to_string()),
            Err(_) => failure = Some("a shard does not answer in time".to_owned()),
        }
    }
    let end = failure.map_or(End::Done(last), End::Failed);
    tracing::info!(gid = %transaction.gid, ?end, "a transaction in doubt was looked at by hand");
    end
}
