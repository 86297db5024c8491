//! What became of a transaction whose COMMIT was not answered: names for transactions, and the question about them.

use catalog::ShardId;
use commit::Gid;

use super::block::{Name, Wrote};
use super::end::{new_secret, seconds_now, unknown_outcome};
use super::{Fault, Session};
use crate::cluster::Outcome;
use crate::exec::link;

impl Session {
    /// `SELECT drover.current_transaction_id()`: from now on the open transaction records its outcome under this name.
    pub(super) async fn current_transaction_id(&mut self) -> Result<(), Fault> {
        if !self.block.is_open() || self.block.implicit {
            return Err(Fault::error(
                "25P01",
                "drover.current_transaction_id() can only be used in transaction blocks",
            ));
        }
        let gid = match &self.block.name {
            Some(name) => name.gid,
            None if self.is_best_effort() => return Err(Fault::refused_as(plan::RefusalCode::NoOutcome)),
            None => self.name_transaction().await?,
        };
        self.text_rows(
            &["current_transaction_id"],
            &[vec![Some(gid.to_string())]],
            "SELECT 1",
        )
    }

    /// The shard that is to decide records it, even if it is the only one that writes.
    async fn name_transaction(&mut self) -> Result<Gid, Fault> {
        if self.servers.iter().any(|server| server.replica.is_some()) {
            return Err(read_only());
        }
        let shard = self.deciding_shard();
        let index = self.enlist(shard).await?;
        let skip = self.begin_on(index).await?;
        let secret = new_secret()?;
        let gid = Gid::made_at(commit::ShardId(shard.0), secret, seconds_now());
        let name = self.shard_name(shard);
        let lost = |error| Fault::lost(&error, &name);
        let server = &mut self.servers[index].lease;
        link::send_query(server, &commit::sql::start_named(&gid)).map_err(lost)?;
        link::skip_replies(server, skip).await.map_err(lost)?;
        let reply = link::collect(server).await.map_err(lost)?;
        let rows = reply.into_rows().map_err(Fault::Statement)?;
        if rows.first().and_then(|row| row.get(1)?.as_deref()) != Some("off") {
            return Err(read_only());
        }
        let server = &mut self.servers[index];
        server.wrote = Wrote::Yes;
        // Nobody else can be the one that is not prepared.
        server.unpreparable = true;
        self.block.name = Some(Box::new(Name { gid, secret }));
        Ok(gid)
    }

    /// One that cannot be prepared, else one that writes, else one that takes part, else home.
    fn deciding_shard(&self) -> ShardId {
        let home = self.engine.cluster.home();
        if !self.pinned.is_empty() {
            return home;
        }
        let begun = || self.servers.iter().filter(|server| server.begun);
        let chosen = begun()
            .find(|server| server.unpreparable)
            .or_else(|| begun().find(|server| server.wrote == Wrote::Yes))
            .or_else(|| begun().find(|server| server.wrote == Wrote::Unknown))
            .or_else(|| begun().next());
        chosen.map_or(home, |server| server.shard)
    }

    /// `SELECT drover.transaction_status('…')`.
    pub(super) async fn transaction_status(&mut self, id: &str) -> Result<(), Fault> {
        let Ok(gid) = id.parse::<Gid>() else {
            return Err(Fault::error(
                "22023",
                format!("\"{id}\" is not what drover.current_transaction_id() gives"),
            ));
        };
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        let outcome = cluster.outcome(&self.database, &gid).await.map_err(|error| {
            let name = self.shard_name(ShardId(gid.decider().0));
            Fault::error(
                "08006",
                format!("{name}, which decides about it, cannot be asked: {error}"),
            )
        })?;
        let text = match outcome {
            Outcome::Committed => "committed",
            Outcome::Aborted => "aborted",
            Outcome::InProgress => "in progress",
            Outcome::TooOld => "too old",
        };
        self.text_rows(
            &["transaction_status"],
            &[vec![Some(text.to_owned())]],
            "SELECT 1",
        )
    }

    /// The answer to a decision was lost: whoever is asked again in time knows.
    pub(super) async fn find_out(&mut self, gid: Option<Gid>) -> Result<bool, Fault> {
        let message = "the connection to the shard that decides was lost during COMMIT";
        let Some(gid) = gid else {
            return Err(unknown_outcome(message, None));
        };
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        match Box::pin(cluster.outcome_soon(&self.database, &gid)).await {
            Some(true) => {
                self.engine.metrics.multi_shard_commits.increment();
                Ok(true)
            }
            Some(false) => Err(Fault::error(
                "08006",
                "the connection to the shard that decides was lost, and the transaction rolled back",
            )),
            None => Err(unknown_outcome(message, Some(gid))),
        }
    }
}

fn read_only() -> Fault {
    Fault::error(
        "25006",
        "cannot execute drover.current_transaction_id() in a read-only transaction",
    )
}
