//! `drover.transactions`, and `drover.resolve_transactions()`: what is prepared, and recovery by hand.

use catalog::ShardId;
use commit::recovery::{Decision, Step};

use super::reads::duration;
use super::{Fault, Session, views};
use crate::cluster::{End, Verdict};

/// Columns of `drover.resolve_transactions()`.
pub(super) const COLUMNS: &[&str] = &[
    "id",
    "owner",
    "decided_by",
    "decision",
    "prepared_on",
    "age_ms",
    "action",
    "why",
];

/// A row of text, `None` = NULL.
type Row = Vec<Option<String>>;

impl Session {
    /// The rows of `drover.transactions`: what is prepared, by Drover, in this database. Shards that cannot be asked are named in a
    /// warning.
    pub(super) async fn in_doubt(&mut self) -> Vec<Row> {
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        let (found, missing) = cluster.in_doubt(&self.database).await;
        for (shard, error) in missing {
            let text = format!("{} cannot be asked: {error}", self.shard_name(shard));
            self.warn("01000", &text);
        }
        let name = |shard| self.shard_name(ShardId(shard));
        found.iter().map(|one| views::transaction(one, name)).collect()
    }

    /// Rows that say of each transaction in doubt what is done about it, or would be; and of each shard that could not be asked that
    /// nothing is known.
    pub(super) async fn resolve_transactions(
        &mut self,
        older_than: Option<&str>,
        dry_run: bool,
    ) -> Result<(), Fault> {
        self.outside_blocks("drover.resolve_transactions")?;
        match dry_run {
            true => self.must_operate("drover.resolve_transactions")?,
            false => self.must_administer("drover.resolve_transactions")?,
        }
        let older_than = match older_than {
            None => None,
            Some(text) => Some(duration(text).ok_or_else(|| {
                Fault::error(
                    "22023",
                    format!("older_than => '{text}': a time such as '10s' is expected"),
                )
            })?),
        };
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let (verdicts, missing) = cluster
            .resolve_in_doubt(&self.database, older_than, dry_run)
            .await;
        self.engine.running.enter_anyway();
        let name = |shard| self.shard_name(ShardId(shard));
        let mut rows: Vec<Row> = verdicts.iter().map(|verdict| row(verdict, name)).collect();
        rows.extend(missing.into_iter().map(|(shard, error)| {
            let mut row = vec![None; COLUMNS.len()];
            row[4] = Some(name(shard.0));
            row[6] = Some("unknown".to_owned());
            row[7] = Some(format!("{} cannot be asked: {error}", name(shard.0)));
            row
        }));
        self.text_rows(COLUMNS, &rows, &format!("SELECT {}", rows.len()))
    }

    /// Only Drover's own role and the console's administrators.
    fn must_administer(&self, what: &str) -> Result<(), Fault> {
        let shared = &self.engine.shared;
        let source = shared.policies.source();
        let administrators = source.console.admin_users.iter();
        let mut names = administrators.chain([&shared.config.admin.user]);
        match names.any(|name| **name == *self.user) {
            true => Ok(()),
            false => Err(Fault::error("42501", format!("permission denied for {what}"))),
        }
    }
}

fn row(verdict: &Verdict, name: impl Fn(u32) -> String + Copy) -> Row {
    let transaction = &verdict.transaction;
    let (action, why) = words(verdict, &name(transaction.gid.decider().0));
    let mut row = views::transaction(transaction, name);
    row.extend([Some(action.to_owned()), Some(why)]);
    row
}

/// The action, and the reason.
fn words(verdict: &Verdict, decider: &str) -> (&'static str, String) {
    let step = match &verdict.end {
        End::Failed(error) => return ("failed", error.clone()),
        End::Planned(step) | End::Done(step) => *step,
    };
    let planned = matches!(verdict.end, End::Planned(_));
    let recorded = |what: &str| format!("{decider} has recorded that it is {what}");
    match step {
        Step::Commit => (
            if planned { "commit" } else { "committed" },
            recorded("committed"),
        ),
        Step::RollBack if planned || verdict.transaction.decision == Some(Decision::Abort) => (
            if planned { "roll back" } else { "rolled back" },
            recorded("aborted"),
        ),
        Step::RollBack => (
            "rolled back",
            format!("{decider} had recorded nothing; the abort was recorded there before"),
        ),
        Step::RecordAbort => (
            "roll back",
            format!(
                "{decider} has recorded nothing; the abort is recorded there before, unless a commit that is under way comes first"
            ),
        ),
        Step::Wait if verdict.transaction.decision.is_none() => {
            ("unknown", format!("{decider}, which decides, cannot be asked"))
        }
        Step::Wait => (
            "wait",
            format!(
                "{decider} has recorded nothing, and it is younger than {} ms: whoever began it may be at work",
                verdict.grace_ms
            ),
        ),
        Step::Operator => (
            "operator",
            format!(
                "{decider} has recorded nothing, or deleted it: look at the rows, then end it on the servers"
            ),
        ),
    }
}
