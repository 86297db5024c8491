//! What became of a transaction, by its name: docs/decisions/0035.
//!
//! "Committed" is a row on the deciding shard, and its replicas. "Aborted" is one, too: where there is none and nobody is at work,
//! it is written, and excludes a commit that may still be on its way. So neither is ever taken back.

use std::time::Duration;

use catalog::ShardId;
use commit::Gid;
use commit::recovery::Decision;

use super::Cluster;
use super::recovery::GRACE;
use crate::admin_link::{AdminError, AdminLink};

/// How long a commit that is under way may keep whoever asks waiting.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";

/// How long all of it may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the session whose decision was not answered asks before it answers its client.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a shard may take to list what it has prepared.
const LISTED_WITHIN: Duration = Duration::from_secs(3);

/// Pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_millis(20);

/// What is known of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every part is committed, or will be.
    Committed,
    /// No part is, or ever will be.
    Aborted,
    /// It may become either.
    InProgress,
    /// It is one of the first two, and so old that nobody knows any more.
    TooOld,
}

pub(super) async fn ask(cluster: &Cluster, database: &str, gid: &Gid) -> Result<Outcome, AdminError> {
    let asking = async {
        let mut link = cluster.admin_link(ShardId(gid.decider().0), database).await?;
        link.run(LOCK_TIMEOUT).await?;
        if let Some(committed) = link.durable_value(&commit::sql::look_up(gid)).await? {
            return Ok(of(&committed));
        }
        let running = link.value(&commit::sql::is_running(gid)).await?;
        if running.as_deref() == Some("t") || is_fresh(cluster, database, gid).await {
            return Ok(Outcome::InProgress);
        }
        exclude(&mut link, gid).await
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
    answer.unwrap_or_else(|_| Err(AdminError::State("it does not answer in time".to_owned())))
}

/// Asks until it is known or too late. The decision was sent, and nothing more will be: nobody is at work.
pub(super) async fn find_out(cluster: &Cluster, database: &str, gid: &Gid) -> Option<bool> {
    let attempts = async {
        let mut pause = RETRY;
        loop {
            let attempt = async {
                let mut link = cluster.admin_link(ShardId(gid.decider().0), database).await?;
                link.run(LOCK_TIMEOUT).await?;
                match link.durable_value(&commit::sql::look_up(gid)).await? {
                    Some(committed) => Ok(of(&committed)),
                    None => exclude(&mut link, gid).await,
                }
            };
            match attempt.await {
                Ok(Outcome::Committed) => return true,
                Ok(Outcome::Aborted) => return false,
                Ok(Outcome::InProgress | Outcome::TooOld) => {}
                Err(error) => tracing::debug!(%gid, %error, "the outcome is not known yet"),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.ok()
}

/// Records the abort, unless there is a decision. A commit whose outcome its server does not know yet is in progress.
async fn exclude(link: &mut AdminLink, gid: &Gid) -> Result<Outcome, AdminError> {
    match link.durable_value(&commit::sql::resolve(gid, &[])).await {
        Ok(Some(committed)) => Ok(of(&committed)),
        Ok(None) => Ok(Outcome::TooOld),
        Err(AdminError::Server(fields)) if fields.code == "55P03" => Ok(Outcome::InProgress),
        Err(error) => Err(error),
    }
}

/// A part was prepared so recently that its proxy is probably about to decide. This is for its sake only: shards that cannot be asked do
/// not matter.
async fn is_fresh(cluster: &Cluster, database: &str, gid: &Gid) -> bool {
    let question = commit::sql::is_prepared_since(gid, cluster.fail_points.grace(GRACE).as_millis());
    for shard in &cluster.record().shards {
        if let Ok(mut link) = cluster.admin_link(shard.id, database).await
            && let Ok(Some(fresh)) = link.value(&question).await
            && fresh == "t"
        {
            return true;
        }
    }
    false
}

/// A transaction that is prepared somewhere.
#[derive(Debug)]
pub(crate) struct InDoubt {
    /// Its name.
    pub(crate) gid: Gid,
    /// The role whose it is.
    pub(crate) owner: String,
    /// Numbers of the shards.
    pub(crate) prepared_on: Vec<u32>,
    /// Since its first part was prepared.
    pub(crate) age_ms: u64,
    /// What its deciding shard says; `None`: it cannot be asked.
    pub(crate) decision: Option<Decision>,
    /// There is no decision, and there may have been one that was collected.
    pub(crate) too_old: bool,
}

pub(super) async fn list(cluster: &Cluster, database: &str) -> (Vec<InDoubt>, Vec<(ShardId, AdminError)>) {
    let mut found: Vec<InDoubt> = Vec::new();
    let mut missing = Vec::new();
    for shard in &cluster.record().shards {
        let rows = async {
            let mut link = cluster.admin_link(shard.id, database).await?;
            link.rows(commit::sql::LIST_PREPARED_WITH_AGE).await
        };
        match within(rows).await {
            Ok(rows) => rows
                .iter()
                .for_each(|row| add(&mut found, shard.id.0, row.as_slice())),
            Err(error) => missing.push((shard.id, error)),
        }
    }
    for one in &mut found {
        let decision = async {
            let mut link = cluster.admin_link(ShardId(one.gid.decider().0), database).await?;
            link.rows(&commit::sql::peek(&one.gid)).await
        };
        let row = within(decision)
            .await
            .ok()
            .and_then(|rows| rows.into_iter().next());
        let Some([committed, too_old]) = row.as_deref() else {
            continue;
        };
        one.decision = Some(match committed.as_deref() {
            Some("t") => Decision::Commit,
            Some(_) => Decision::Abort,
            None => Decision::Absent,
        });
        one.too_old = committed.is_none() && too_old.as_deref() == Some("t");
    }
    found.sort_by_key(|one| std::cmp::Reverse(one.age_ms));
    (found, missing)
}

fn add(found: &mut Vec<InDoubt>, shard: u32, row: &[Option<String>]) {
    let [Some(gid), Some(owner), Some(age_ms)] = row else {
        return;
    };
    let (Ok(gid), Ok(age_ms)) = (gid.parse::<Gid>(), age_ms.parse::<u64>()) else {
        return;
    };
    match found.iter_mut().find(|one| one.gid == gid) {
        Some(one) => {
            one.prepared_on.push(shard);
            one.age_ms = one.age_ms.max(age_ms);
        }
        None => found.push(InDoubt {
            gid,
            owner: owner.clone(),
            prepared_on: vec![shard],
            age_ms,
            decision: None,
            too_old: false,
        }),
    }
}

/// One shard that is away keeps nobody waiting for long.
async fn within<T>(question: impl Future<Output = Result<T, AdminError>>) -> Result<T, AdminError> {
    let answer = tokio::time::timeout(LISTED_WITHIN, question).await;
    answer.unwrap_or_else(|_| Err(AdminError::State("it does not answer in time".to_owned())))
}

fn of(committed: &str) -> Outcome {
    match committed {
        "t" => Outcome::Committed,
        _ => Outcome::Aborted,
    }
}
