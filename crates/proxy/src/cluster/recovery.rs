//! Finishing what a lost proxy or server left prepared: DESIGN §4, the rule of the commit crate.

use std::time::Duration;

use catalog::ShardId;
use commit::Gid;
use commit::recovery::{Circumstances, Decision, Step, next_step};

use super::Cluster;
use crate::admin_link::{AdminError, AdminLink};
use crate::failpoint::{Mutant, Point};

/// A prepared transaction this young may still be in its proxy's hands.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// One this young certainly is, if its proxy lives; its decision may be a moment old.
const AT_WORK_MS: u32 = 1000;

/// How long the session whose commit left something prepared tries to finish it, before it answers its client.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one of several may keep the others waiting: its deciding shard may be stopped, or wait for its replicas.
pub(super) const ONE_WITHIN: Duration = Duration::from_secs(20);

/// Pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_millis(20);

/// Finishes what a commit has left on a shard whose connection was lost, so that the client finds what it is told is
/// committed. False: it takes longer, and is left to [`run_once`].
pub(super) async fn finish_now(cluster: &Cluster, database: &str, shard: ShardId, gid: &Gid) -> bool {
    let attempts = async {
        let mut pause = RETRY;
        loop {
            let attempt = async {
                let mut link = cluster.admin_link(shard, database).await?;
                resolve(cluster, &mut link, database, gid, false).await
            };
            match attempt.await {
                Ok(last) => return last.is_end(),
                Err(error) => tracing::debug!(%shard, %gid, %error, "not finished yet"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.unwrap_or(false)
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Transactions that were finished.
    pub(super) resolved: usize,
    /// Transactions that are not decided, or could not be finished yet.
    pub(super) left: usize,
    /// The age of the oldest of them, in milliseconds.
    pub(super) oldest_ms: u64,
}

/// Looks at every shard once and finishes what can be finished: what is decided, and what is so old that nobody will
/// decide it. A shard that does not answer does not keep the others from being looked at; the first error is told.
pub(super) async fn run_once(cluster: &Cluster) -> (Found, Option<AdminError>) {
    let (found, error) = run(cluster, AT_WORK_MS, false).await;
    cluster.figures.in_doubt.set(found.left as u64);
    cluster.figures.in_doubt_ms.set(found.oldest_ms);
    (found, error)
}

/// Finishes what is decided, whatever its age, and leaves the rest alone.
pub(super) async fn run_decided(cluster: &Cluster) -> Result<Found, AdminError> {
    let (found, error) = run(cluster, 0, true).await;
    error.map_or(Ok(found), Err)
}

async fn run(cluster: &Cluster, age_ms_min: u32, decided_only: bool) -> (Found, Option<AdminError>) {
    let record = cluster.record();
    let mut found = Found::default();
    let mut first_error = None;
    for shard in &record.shards {
        for database in &record.databases {
            let place = (shard.id, database.as_str());
            match run_on(cluster, place, age_ms_min, decided_only, &mut found).await {
                // A database with prepared transactions cannot be dropped: there is nothing to be found.
                Err(error) if !error.is_no_database() => {
                    first_error.get_or_insert(error);
                }
                _ => {}
            }
        }
    }
    (found, first_error)
}

async fn run_on(
    cluster: &Cluster,
    (shard, database): (ShardId, &str),
    age_ms_min: u32,
    decided_only: bool,
    found: &mut Found,
) -> Result<(), AdminError> {
    let mut link = cluster.admin_link(shard, database).await?;
    let grace_ms = cluster.fail_points.grace(GRACE).as_millis();
    let sql = format!(
        "SELECT gid, prepared > pg_catalog.clock_timestamp() - interval '{grace_ms} milliseconds', \
         (1000 * EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - prepared))::pg_catalog.int8 \
         FROM pg_catalog.pg_prepared_xacts \
         WHERE database = pg_catalog.current_database() AND gid LIKE 'drover:%' \
         AND prepared <= pg_catalog.clock_timestamp() - interval '{age_ms_min} milliseconds'"
    );
    for row in link.rows(&sql).await? {
        let [Some(gid), young, age_ms] = row.as_slice() else {
            continue;
        };
        let Ok(gid) = gid.parse::<Gid>() else { continue };
        let within_grace = decided_only || young.as_deref() != Some("f");
        let left_before = found.left;
        let one = resolve(cluster, &mut link, database, &gid, within_grace);
        match tokio::time::timeout(ONE_WITHIN, one).await {
            Ok(Ok(last)) if last.is_end() => found.resolved += 1,
            Ok(Ok(_)) => found.left += 1,
            // The deciding shard cannot be asked: others may be decided elsewhere.
            Ok(Err(error)) => {
                tracing::debug!(%shard, %gid, %error, "not finished yet");
                found.left += 1;
            }
            Err(_) => {
                tracing::debug!(%shard, %gid, "not finished yet: a shard does not answer");
                found.left += 1;
                // Whatever it was doing, it does it on this connection.
                link = cluster.admin_link(shard, database).await?;
            }
        }
        if found.left > left_before {
            let age_ms = age_ms.as_deref().and_then(|text| text.parse().ok());
            found.oldest_ms = found.oldest_ms.max(age_ms.unwrap_or_default());
        }
    }
    Ok(())
}

/// One prepared transaction on the shard behind `link`. The last step: it was committed or rolled back, or is left alone.
pub(super) async fn resolve(
    cluster: &Cluster,
    link: &mut AdminLink,
    database: &str,
    gid: &Gid,
    within_grace: bool,
) -> Result<Step, AdminError> {
    let points = &cluster.fail_points;
    let at = gid.decider().0;
    points.reached(Point::RecoveryFound, at).await;
    let mut decider = cluster.admin_link(ShardId(at), database).await?;
    let mut decision = match decider.durable_value(&commit::sql::look_up(gid)).await? {
        None => Decision::Absent,
        Some(committed) if committed == "t" => Decision::Commit,
        Some(_) => Decision::Abort,
    };
    let mut circumstances = Circumstances {
        within_grace,
        before_collection_watermark: false,
    };
    points.reached(Point::RecoveryLookedUp, at).await;
    loop {
        let step = next_step(gid, decision, circumstances);
        match step {
            Step::Wait => return Ok(step),
            Step::Operator => {
                tracing::error!(%gid, "the decision about a prepared transaction may have been collected: an operator has to end it");
                return Ok(step);
            }
            Step::RecordAbort if points.broken(Mutant::GuessesAbort) => decision = Decision::Abort,
            Step::RecordAbort => {
                let committed = decider.durable_value(&commit::sql::resolve(gid, &[])).await?;
                decision = match committed.as_deref() {
                    Some("t") => Decision::Commit,
                    Some(_) => Decision::Abort,
                    None => Decision::Absent,
                };
                circumstances.before_collection_watermark = decision == Decision::Absent;
                points.reached(Point::RecoveryExcluded, at).await;
            }
            Step::Commit => {
                finish(link, &commit::sql::commit_prepared(gid)).await?;
                points.reached(Point::RecoveryFinished, at).await;
                return Ok(step);
            }
            Step::RollBack => {
                finish(link, &commit::sql::rollback_prepared(gid)).await?;
                points.reached(Point::RecoveryFinished, at).await;
                return Ok(step);
            }
        }
    }
}

/// Somebody else may have finished it meanwhile.
async fn finish(link: &mut AdminLink, sql: &str) -> Result<(), AdminError> {
    match link.run(sql).await {
        Err(AdminError::Server(fields)) if fields.code == "42704" => Ok(()),
        other => other,
    }
}
