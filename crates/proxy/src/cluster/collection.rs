//! Deleting decisions that nobody can ask for any more: docs/decisions/0038, the steps of [`commit::collection`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::ShardId;
use commit::Gid;
use commit::collection::{self, Findings};

use super::Cluster;
use super::follow::Workers;
use crate::admin_link::{AdminError, AdminLink};
use crate::server::Address;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(60);

/// The same where a test has shortened the retention.
const EVERY_IN_TESTS: Duration = Duration::from_millis(250);

/// Decisions deleted by one statement.
const BATCH: usize = 5_000;

/// Statements per shard and round.
const BATCHES_MAX: usize = 100;

/// How long a server may take to get as far as its primary.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two questions whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// How long a round may take in one database.
const ROUND_WITHIN: Duration = Duration::from_secs(120);

/// Deletes decisions now and then, for ever.
pub(super) async fn run(cluster: Arc<Cluster>, workers: Workers) {
    let shortened = cluster.fail_points.retention();
    let every = shortened.map_or(EVERY, |_| EVERY_IN_TESTS);
    loop {
        tokio::time::sleep(every).await;
        let shared = workers.borrow().clone();
        let configured = shared.map_or(cluster.limits().outcome_retention, |shared| {
            shared.policies.source().limits.outcome_retention
        });
        let retention = shortened.unwrap_or(configured);
        let mut oldest_s = 0;
        for database in &cluster.record().databases {
            let round = Round::new(&cluster, database, retention);
            match tokio::time::timeout(ROUND_WITHIN, round.go(&mut oldest_s)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_no_database() => {}
                Ok(Err(error)) => tracing::debug!(%error, database, "decisions are not collected now"),
                Err(_) => tracing::debug!(database, "decisions are not collected now: it takes too long"),
            }
        }
        let overdue_s = oldest_s.saturating_sub(retention.as_secs());
        cluster.figures.decisions_overdue_s.set(overdue_s);
    }
}

/// One round in one database.
struct Round<'a> {
    cluster: &'a Cluster,
    database: &'a str,
    retention: Duration,
    shards: Vec<ShardId>,
}

impl<'a> Round<'a> {
    fn new(cluster: &'a Cluster, database: &'a str, retention: Duration) -> Self {
        let record = cluster.record();
        Self {
            cluster,
            database,
            retention,
            shards: record.shards.iter().map(|shard| shard.id).collect(),
        }
    }

    /// `oldest_s`: raised to the age of the oldest decision seen.
    async fn go(&self, oldest_s: &mut u64) -> Result<(), AdminError> {
        let mut marks = BTreeMap::new();
        let mut overdue = false;
        for shard in &self.shards {
            let mut link = self.cluster.admin_link(*shard, self.database).await?;
            let (mark, age_s) = read_mark(&mut link, *shard).await?;
            marks.insert(*shard, mark);
            *oldest_s = (*oldest_s).max(age_s.unwrap_or_default());
            overdue |= age_s.is_some_and(|age_s| age_s >= self.retention.as_secs());
        }
        if !overdue {
            return Ok(());
        }
        // The lock goes with the connection.
        let mut lock = self
            .cluster
            .admin_link(self.cluster.home(), self.database)
            .await?;
        if lock.value(collection::TRY_LOCK).await?.as_deref() != Some("t") {
            return Ok(());
        }
        let findings = self.look().await?;
        for (shard, mark) in marks {
            let mut link = self.cluster.admin_link(shard, self.database).await?;
            self.delete(&mut link, shard, mark, &findings).await?;
            let sql = collection::raise(commit::ShardId(shard.0), self.retention.as_secs(), &findings);
            link.run(&sql).await?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        link: &mut AdminLink,
        shard: ShardId,
        mark: u64,
        findings: &Findings,
    ) -> Result<(), AdminError> {
        let sql = collection::delete(commit::ShardId(shard.0), mark, findings, BATCH);
        for _ in 0..BATCHES_MAX {
            let deleted = link.rows(&sql).await?.len();
            self.cluster
                .figures
                .decisions_collected
                .add_shared(deleted as u64);
            if deleted < BATCH {
                break;
            }
        }
        Ok(())
    }

    /// What is prepared or open, on all shards; and all their servers have got as far as when it was looked at.
    async fn look(&self) -> Result<Findings, AdminError> {
        let mut findings = Findings::default();
        for shard in &self.shards {
            // All of it concerns the same server, whoever is promoted meanwhile.
            let primary = self.cluster.nodes.primary(shard.0).map_err(AdminError::State)?;
            let mut link = self.link_to(*shard, primary.clone()).await?;
            let [open, prepared] = collection::LOOK;
            let open_s = number(link.value(open).await?)?;
            findings.oldest_open_s = findings.oldest_open_s.max(open_s);
            let rows = link.rows(prepared).await?;
            let names = rows
                .iter()
                .filter_map(|row| row.first()?.as_deref()?.parse::<Gid>().ok());
            findings.prepared.extend(names);
            let trace = number(link.durable_value(collection::MAKE_TRACE).await?)?;
            for address in self.others(*shard, &primary) {
                let follows = self.follows(*shard, address.clone(), trace);
                match tokio::time::timeout(FOLLOWS_WITHIN, follows).await {
                    Ok(result) => result?,
                    Err(_) => return Err(AdminError::State(format!("{address} is behind"))),
                }
            }
        }
        Ok(findings)
    }

    /// The other servers of a shard: those that are configured, and those that were seen.
    fn others(&self, shard: ShardId, primary: &Address) -> Vec<Address> {
        let record = self.cluster.record();
        let nodes = record.shard(shard).into_iter();
        let nodes = nodes.flat_map(|shard| shard.replicas.iter().chain([&shard.primary]));
        let configured = nodes.map(|node| (node.host.clone(), node.port));
        let view = self.cluster.nodes.view(shard.0);
        let seen = view.iter().flat_map(|view| view.nodes.iter());
        let seen = seen.map(|node| (node.node.address().host.clone(), node.node.address().port));
        let all: BTreeSet<(String, u16)> = configured.chain(seen).collect();
        let addresses = all.into_iter().map(|(host, port)| Address { host, port });
        addresses.filter(|address| address != primary).collect()
    }

    /// Waits until a server has this trace.
    async fn follows(&self, shard: ShardId, address: Address, trace: u64) -> Result<(), AdminError> {
        let mut link = self.link_to(shard, address).await?;
        loop {
            let seen = link.value(collection::READ_TRACE).await?;
            if seen
                .and_then(|seen| seen.parse().ok())
                .is_some_and(|seen: u64| seen >= trace)
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn link_to(&self, shard: ShardId, address: Address) -> Result<AdminLink, AdminError> {
        let record = self.cluster.record();
        let name = record.shard(shard).map_or("", |shard| shard.name.as_str());
        self.cluster.admin_link_to(name, address, self.database).await
    }
}

/// The mark of a shard, and the age of its oldest decision in seconds.
async fn read_mark(link: &mut AdminLink, shard: ShardId) -> Result<(u64, Option<u64>), AdminError> {
    let rows = link.rows(&collection::oldest(commit::ShardId(shard.0))).await?;
    let Some([mark, age_s]) = rows.first().map(Vec::as_slice) else {
        return Err(AdminError::State("it gave no mark".to_owned()));
    };
    // A name from the future has no age yet.
    let age_s = age_s.as_deref().map(|age_s| age_s.parse().unwrap_or(0));
    Ok((number(mark.clone())?, age_s))
}

fn number(text: Option<String>) -> Result<u64, AdminError> {
    let number = text.as_deref().and_then(|text| text.parse().ok());
    number.ok_or_else(|| AdminError::State("a number was expected".to_owned()))
}
