//! Which decisions nobody can ask for any more, and the SQL that deletes them (docs/decisions/0038).
//!
//! Names made before the *mark* of their deciding shard get no row any more. Each round:
//!
//! | step | where | afterwards |
//! |---|---|---|
//! | 1. [`oldest`] | every shard as decider | the mark that an earlier round has made |
//! | 2. [`LOOK`] | every shard's primary | names before the mark that are not prepared here have ended here |
//! | 3. [`MAKE_TRACE`], then [`READ_TRACE`] | every shard's primary, then its other servers | and on whoever may be promoted |
//! | 4. [`delete`] | every shard as decider | |
//! | 5. [`raise`] | every shard as decider | the next round's mark, below whatever may still be prepared |
//!
//! A round that cannot be finished is given up, at any step; several at once do no harm.

use std::fmt::Write as _;

use crate::gid::TIME_DIGITS;
use crate::{Gid, ShardId};

/// The advisory lock that whoever collects takes on the home shard: one at a time is enough.
pub const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock(7237954639025860965)";

/// The mark of a shard, and how long ago, in seconds, the oldest name was made that has a decision there: one row, two numbers, the
/// second one NULL where there is no decision.
pub fn oldest(decider: ShardId) -> String {
    format!(
        "SELECT c.last_value, \
         EXTRACT(EPOCH FROM pg_catalog.clock_timestamp())::pg_catalog.int8 \
         - (SELECT pg_catalog.split_part(d.gid, ':', 4)::pg_catalog.int8 FROM drover_internal.decisions AS d \
         WHERE d.gid >= 'drover:2:{decider}:' AND d.gid < 'drover:2:{decider};' ORDER BY d.gid LIMIT 1) \
         FROM drover_internal.collected_before AS c"
    )
}

/// First the age of the oldest open transaction, in seconds, as the only row; then the names that are prepared. In this order: what is
/// prepared in between is seen twice, and not never.
pub const LOOK: [&str; 2] = [
    "SELECT COALESCE(pg_catalog.max(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - xact_start)), 0)::pg_catalog.int8 \
     FROM pg_catalog.pg_stat_activity \
     WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()",
    "SELECT gid FROM pg_catalog.pg_prepared_xacts \
     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, 'drover:2:')",
];

/// Leaves a trace on a primary, of which servers that follow it can be asked: one row, its number.
pub const MAKE_TRACE: &str = "SET LOCAL synchronous_commit = 'on'; \
     INSERT INTO drover_internal.traces AS t (trace) VALUES (1) \
     ON CONFLICT (only_one) DO UPDATE SET trace = t.trace + 1 RETURNING trace";

/// The last trace that a server has: one row, a number, or none.
pub const READ_TRACE: &str = "SELECT trace FROM drover_internal.traces";

/// What was found on all shards, all of whose servers have got as far as when it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is prepared.
    pub prepared: Vec<Gid>,
    /// The age of the oldest transaction that is open anywhere, in seconds.
    pub oldest_open_s: u64,
}

/// Deletes at most so many of the decisions that this shard made under names from before its mark, and of which nothing was prepared
/// when it was looked. `mark` was read before that: who decides after the look, under such a name, is refused, and what was decided before
/// it had been prepared before it.
pub fn delete(decider: ShardId, mark: u64, findings: &Findings, count_max: usize) -> String {
    let mut sql = format!(
        "DELETE FROM drover_internal.decisions WHERE gid IN (SELECT d.gid FROM drover_internal.decisions AS d \
         WHERE d.gid >= 'drover:2:{decider}:' AND d.gid < 'drover:2:{decider}:{mark:0TIME_DIGITS$}'"
    );
    for (at, gid) in findings.prepared.iter().enumerate() {
        let before = if at == 0 { " AND d.gid NOT IN (" } else { ", " };
        let _ = write!(sql, "{before}'{gid}'");
    }
    let close = if findings.prepared.is_empty() { "" } else { ")" };
    let _ = write!(sql, "{close} ORDER BY d.gid LIMIT {count_max}) RETURNING 1");
    sql
}

/// Raises the mark of a shard to so many seconds before the oldest open transaction began, but not above a name that is prepared
/// anywhere: what is prepared under an older name could only be finished by an operator. It is never lowered.
pub fn raise(decider: ShardId, retention_s: u64, findings: &Findings) -> String {
    let ago_s = retention_s.saturating_add(findings.oldest_open_s);
    let of_this = findings.prepared.iter().filter(|gid| gid.decider() == decider);
    let most = of_this.filter_map(Gid::made_s).min();
    let most = most.map_or(String::from("NULL"), |made_s| made_s.to_string());
    format!(
        "SELECT pg_catalog.pg_advisory_xact_lock(7237954639025860966); \
         SELECT pg_catalog.setval('drover_internal.collected_before', GREATEST(c.last_value, LEAST({most}, \
         EXTRACT(EPOCH FROM pg_catalog.clock_timestamp())::pg_catalog.int8 - {ago_s}))) \
         FROM drover_internal.collected_before AS c"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn what_is_prepared_stays_and_holds_the_mark() {
        let (one, two) = (ShardId(1), ShardId(2));
        let mut findings = Findings::default();
        assert_eq!(
            delete(one, 1_700_000_000, &findings, 10),
            "DELETE FROM drover_internal.decisions WHERE gid IN (SELECT d.gid FROM drover_internal.decisions AS d \
             WHERE d.gid >= 'drover:2:1:' AND d.gid < 'drover:2:1:1700000000' ORDER BY d.gid LIMIT 10) RETURNING 1"
        );
        assert!(raise(one, 100, &findings).contains("LEAST(NULL, "));
        findings.prepared = [(one, 90), (one, 80), (two, 70)]
            .map(|(decider, made_s)| Gid::made_at(decider, Secret([made_s as u8; 16]), made_s))
            .to_vec();
        let sql = delete(one, 7, &findings, 10);
        let expect = format!(
            "d.gid < 'drover:2:1:0000000007' AND d.gid NOT IN ('{}', '{}', '{}') ORDER",
            findings.prepared[0], findings.prepared[1], findings.prepared[2]
        );
        assert!(sql.contains(&expect), "{sql}");
        assert!(raise(one, 100, &findings).contains("LEAST(80, "));
        assert!(raise(two, 100, &findings).contains("::pg_catalog.int8 - 100)"));
        findings.oldest_open_s = 41;
        assert!(raise(two, 100, &findings).contains("LEAST(70, EXTRACT"));
        assert!(raise(two, 100, &findings).contains("::pg_catalog.int8 - 141)"));
    }
}
