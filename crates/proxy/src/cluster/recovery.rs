//! Finishing what a lost proxy or server left prepared: DESIGN §4, the rule of the commit crate.

use std::time::Duration;

use catalog::ShardId;
use commit::Gid;
use commit::recovery::{Circumstances, Decision, Step, next_step};

use super::Cluster;
use crate::admin_link::{AdminError, AdminLink};

/// A prepared transaction this young may still be in its proxy's hands.
const GRACE_SECONDS: u32 = 10;

/// How long the session whose commit left something prepared tries to finish it, before it answers its client.
const PATIENCE: Duration = Duration::from_secs(5);

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
                Ok(finished) => return finished,
                Err(error) => tracing::debug!(%shard, %gid, %error, "not finished yet"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.unwrap_or(false)
}

/// Looks at every shard once and finishes what can be finished. How many transactions were resolved.
pub(super) async fn run_once(cluster: &Cluster) -> Result<usize, AdminError> {
    run(cluster, GRACE_SECONDS, false).await
}

/// Finishes what is decided, whatever its age, and leaves the rest alone.
pub(super) async fn run_decided(cluster: &Cluster) -> Result<usize, AdminError> {
    run(cluster, 0, true).await
}

async fn run(cluster: &Cluster, age_seconds_min: u32, within_grace: bool) -> Result<usize, AdminError> {
    let record = cluster.record();
    let mut resolved = 0;
    for shard in &record.shards {
        for database in &record.databases {
            let mut link = match cluster.admin_link(shard.id, database).await {
                Ok(link) => link,
                // A database with prepared transactions cannot be dropped: there is nothing to be found.
                Err(error) if error.is_no_database() => continue,
                Err(error) => return Err(error),
            };
            let sql = format!(
                "SELECT gid FROM pg_catalog.pg_prepared_xacts \
                 WHERE database = pg_catalog.current_database() AND gid LIKE 'drover:%' \
                 AND prepared < pg_catalog.clock_timestamp() - interval '{age_seconds_min} seconds'"
            );
            for row in link.rows(&sql).await? {
                let [Some(gid)] = row.as_slice() else { continue };
                let Ok(gid) = gid.parse::<Gid>() else { continue };
                if resolve(cluster, &mut link, database, &gid, within_grace).await? {
                    resolved += 1;
                }
            }
        }
    }
    Ok(resolved)
}

/// One prepared transaction on the shard behind `link`. True when it was finished.
async fn resolve(
    cluster: &Cluster,
    link: &mut AdminLink,
    database: &str,
    gid: &Gid,
    within_grace: bool,
) -> Result<bool, AdminError> {
    let mut decider = cluster.admin_link(ShardId(gid.decider().0), database).await?;
    let mut decision = match decider.value(&commit::sql::look_up(gid)).await? {
        None => Decision::Absent,
        Some(committed) if committed == "t" => Decision::Commit,
        Some(_) => Decision::Abort,
    };
    // Decisions are not collected in this version, so absence always means that there was none.
    let circumstances = Circumstances {
        within_grace,
        before_collection_watermark: false,
    };
    loop {
        match next_step(gid, decision, circumstances) {
            Step::Wait | Step::Operator => return Ok(false),
            Step::RecordAbort => {
                let committed = decider.value(&commit::sql::resolve(gid, &[])).await?;
                decision = if committed.as_deref() == Some("t") {
                    Decision::Commit
                } else {
                    Decision::Abort
                };
            }
            Step::Commit => {
                finish(link, &commit::sql::commit_prepared(gid)).await?;
                return Ok(true);
            }
            Step::RollBack => {
                finish(link, &commit::sql::rollback_prepared(gid)).await?;
                return Ok(true);
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
