//! `drover.transaction_mode = 'best_effort'`: the parts of a transaction are committed one after the other, not prepared
//! (docs/decisions/0039).
//!
//! | step | what can fail | then |
//! |---|---|---|
//! | COMMIT on the first shard that wrote | it says no | all are rolled back; the client gets that error |
//! | | its connection is lost | the others are rolled back; `08007`: that one is not known |
//! | COMMIT on a further one | either | the rest is rolled back; `08007` names who has committed and who has not |
//!
//! What Drover relies on itself is committed atomically all the same: see [`Session::must_be_atomic`].

use wire::backend::ErrorFields;

use super::block::{SchemaChange, Wrote};
use super::{Fault, Session};
use crate::exec::link;

/// How far a commit has come.
#[derive(Debug, Default)]
struct Progress {
    /// Shards that wrote, or may have, and have committed.
    committed: Vec<String>,
    /// Shards that have not, and will not.
    rolled_back: Vec<String>,
    /// The shard whose connection was lost while it committed.
    unknown: Option<String>,
    /// What the one said that did not commit.
    error: Option<Box<ErrorFields>>,
}

/// What a shard answered to COMMIT.
enum Part {
    Committed,
    RolledBack(Option<Box<ErrorFields>>),
    Unknown,
}

impl Session {
    /// Whether the open block may be committed shard by shard.
    pub(super) fn commits_in_turn(&self) -> bool {
        self.is_best_effort() && !self.must_be_atomic()
    }

    /// Copies of reference tables, global indexes, rows on their way to another shard and the schema must never differ between shards,
    /// whoever wants it; and a name that was given out promises an answer.
    fn must_be_atomic(&self) -> bool {
        let block = &self.block;
        block.atomic
            || block.name.is_some()
            || block.schema != SchemaChange::None
            || !block.effects.is_empty()
    }

    /// COMMIT on one shard after the other. True: committed everywhere.
    pub(super) async fn commit_in_turn(&mut self, begun: &[usize]) -> Result<bool, Fault> {
        // Those that wrote nothing first: if one fails, nothing has happened.
        let rank = |wrote: Wrote| match wrote {
            Wrote::No => 0,
            Wrote::Unknown => 1,
            Wrote::Yes => 2,
        };
        let part = |index: &usize| (self.servers[*index].shard, self.servers[*index].wrote);
        let mut parts: Vec<_> = begun.iter().map(part).collect();
        parts.sort_by_key(|(_, wrote)| rank(*wrote));
        let mut progress = Progress::default();
        let mut ended = false;
        for (shard, wrote) in parts {
            let name = self.shard_name(shard);
            let Some(index) = self.servers.iter().position(|server| server.shard == shard) else {
                continue;
            };
            if ended {
                self.rollback_servers(&[index]).await?;
                progress.rolled_back.push(name);
                continue;
            }
            match self.commit_part(index).await {
                Part::Committed if wrote == Wrote::No => {}
                Part::Committed => progress.committed.push(name),
                // It has nothing that could be half there.
                Part::Unknown if wrote == Wrote::No => {
                    let message =
                        format!("connection to {name} was lost before the transaction was committed");
                    progress.error = Some(Box::new(ErrorFields::error("08006", message)));
                    ended = true;
                }
                Part::Unknown => {
                    progress.unknown = Some(name);
                    ended = true;
                }
                Part::RolledBack(error) => {
                    progress.rolled_back.push(name);
                    progress.error = error;
                    ended = true;
                }
            }
        }
        if !ended {
            self.engine.metrics.best_effort_commits.increment();
            return Ok(true);
        }
        if progress.committed.is_empty() && progress.unknown.is_none() {
            return progress
                .error
                .map_or(Ok(false), |error| Err(Fault::Statement(error)));
        }
        self.engine.metrics.half_commits.increment();
        let fields = progress.into_error();
        tracing::warn!(
            detail = fields.detail.as_deref().unwrap_or_default(),
            "a transaction is half committed"
        );
        Err(Fault::Statement(Box::new(fields)))
    }

    async fn commit_part(&mut self, index: usize) -> Part {
        match link::query(&mut self.servers[index].lease, "COMMIT").await {
            Ok(reply) => {
                self.client.conn.out().extend_from_slice(&reply.aside);
                let committed = reply.error.is_none() && reply.tags.last().is_some_and(|tag| tag == "COMMIT");
                match (committed, reply.error) {
                    (true, _) => Part::Committed,
                    // A session that is ended while it commits may have committed.
                    (false, Some(error)) if error.severity != "ERROR" => Part::Unknown,
                    (false, error) => Part::RolledBack(error),
                }
            }
            Err(_) => {
                self.drop_server(index);
                Part::Unknown
            }
        }
    }
}

impl Progress {
    /// What the client is told of a transaction that is, or may be, half there.
    fn into_error(self) -> ErrorFields {
        let list = |what: &str, names: &[String]| match names {
            [] => format!("{what}: none."),
            names => format!("{what}: {}.", names.join(", ")),
        };
        let mut detail = vec![
            list("Committed", &self.committed),
            list("Rolled back", &self.rolled_back),
        ];
        if let Some(name) = &self.unknown {
            detail.push(format!("Not known, because its connection was lost: {name}."));
        }
        if let Some(error) = &self.error {
            detail.push(format!(
                "The reason: {} (SQLSTATE {}).",
                error.message, error.code
            ));
        }
        let mut fields = ErrorFields::error(
            "08007",
            "the transaction was committed on some shards and not on others",
        );
        fields.detail = Some(detail.join(" "));
        fields.with_hint("This can happen because drover.transaction_mode is 'best_effort': bring the rest to its end yourself.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_every_shard_that_wrote() {
        let mut progress = Progress {
            committed: vec!["a".to_owned()],
            rolled_back: vec!["b".to_owned(), "c".to_owned()],
            unknown: None,
            error: Some(Box::new(ErrorFields::error("23505", "duplicate key"))),
        };
        let detail = |progress: Progress| progress.into_error().detail.unwrap();
        let expect = "Committed: a. Rolled back: b, c. The reason: duplicate key (SQLSTATE 23505).";
        assert_eq!(detail(std::mem::take(&mut progress)), expect);
        progress.unknown = Some("b".to_owned());
        let expect = "Committed: none. Rolled back: none. Not known, because its connection was lost: b.";
        assert_eq!(detail(progress), expect);
    }
}
