//! The SQL behind the machine's effects, and the objects it needs on every shard.
//!
//! Identifiers and literals here are safe to build into text: a [`Gid`] prints only letters, digits and
//! colons, shards print as numbers, secrets as hexadecimal digits.

use crate::{Gid, Secret, ShardId};

/// Asks whether the open transaction has an xid: one row, one boolean.
pub const ASK_XID: &str = "SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL";

/// To run in a writer's transaction before PREPARE TRANSACTION: durable whatever the client set, and no
/// weaker than that if the client asked for more.
pub const MAKE_DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true) \
     WHERE pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// To run, in this order and in one transaction, as the owner of Drover's objects on every primary.
/// Repeating it changes nothing.
pub const BOOTSTRAP: &[&str] = &[
    // Two proxies may start at once; concurrent CREATE … IF NOT EXISTS can collide.
    "SELECT pg_catalog.pg_advisory_xact_lock(7237954639025860964)",
    "CREATE SCHEMA IF NOT EXISTS drover_internal",
    CREATE_DECISIONS,
    ORDER_DECISIONS,
    CREATE_COLLECTED,
    CREATE_TRACES,
    "REVOKE ALL ON drover_internal.decisions, drover_internal.traces FROM PUBLIC",
    "REVOKE ALL ON SEQUENCE drover_internal.collected_before FROM PUBLIC",
    // pg_dump locks and reads every table. What is there to read proves nothing and decides nothing.
    "GRANT SELECT ON drover_internal.decisions, drover_internal.traces TO PUBLIC",
    "GRANT SELECT ON SEQUENCE drover_internal.collected_before TO PUBLIC",
    CREATE_DECIDE,
    CREATE_RESOLVE,
    "REVOKE ALL ON FUNCTION drover_internal.resolve(text, text[]) FROM PUBLIC",
    "GRANT USAGE ON SCHEMA drover_internal TO PUBLIC",
    "GRANT EXECUTE ON FUNCTION drover_internal.decide(text, text[], text) TO PUBLIC",
];

const CREATE_DECISIONS: &str = "CREATE TABLE IF NOT EXISTS drover_internal.decisions (
    gid text COLLATE pg_catalog.\"C\" PRIMARY KEY,
    committed boolean NOT NULL,
    participants text[] NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT pg_catalog.now()
)";

/// Names are ordered by their times, so that the oldest are found without reading all. Earlier versions had no collation of
/// their own here.
const ORDER_DECISIONS: &str = "DO $body$
BEGIN
    IF (SELECT attcollation FROM pg_catalog.pg_attribute
        WHERE attrelid = 'drover_internal.decisions'::pg_catalog.regclass AND attname = 'gid')
        <> 'pg_catalog.\"C\"'::pg_catalog.regcollation THEN
        ALTER TABLE drover_internal.decisions ALTER COLUMN gid TYPE text COLLATE pg_catalog.\"C\";
    END IF;
END
$body$";

/// Names made before its value (seconds since 1970) decide nothing any more ([`crate::collection`]). It is a sequence because that is
/// read as it is now, whatever snapshot the reader's transaction has.
const CREATE_COLLECTED: &str =
    "CREATE SEQUENCE IF NOT EXISTS drover_internal.collected_before MINVALUE 0 START 0";

/// Tells whether a replica has what its primary had ([`crate::collection`]).
const CREATE_TRACES: &str = "CREATE TABLE IF NOT EXISTS drover_internal.traces (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    trace bigint NOT NULL
)";

/// Every role may call it, in its own transaction. Its INSERT waits while snapshots of the cluster are taken
/// (docs/decisions/0032), whatever the client says of its own waits for locks. It takes the secret behind the gid, so that a role that
/// reads a gid in `pg_prepared_xacts` cannot decide about somebody else's transaction.
const CREATE_DECIDE: &str =
    "CREATE OR REPLACE FUNCTION drover_internal.decide(gid text, participants text[], secret text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = 0 AS $body$
DECLARE
    version text := split_part($1, ':', 2);
BEGIN
    IF split_part($1, ':', 1) <> 'drover' OR version NOT IN ('1', '2')
        OR split_part($1, ':', CASE version WHEN '1' THEN 4 ELSE 5 END) IS DISTINCT FROM
            substr(encode(sha256(decode($3, 'hex')), 'hex'), 1, 32) THEN
        RAISE EXCEPTION 'not the secret of this transaction' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO drover_internal.decisions (gid, committed, participants) VALUES ($1, true, $2);
    -- After the insertion: it was raised before a row of this name could be deleted.
    IF version = '2' AND split_part($1, ':', 4)::bigint < (SELECT last_value FROM drover_internal.collected_before) THEN
        RAISE EXCEPTION 'the name of this transaction is too old to commit under it'
            USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'The clocks of the proxy and of the server differ by more than limits.outcome_retention, or the transaction took longer.';
    END IF;
END
$body$";

/// For recovery only: the decision about a transaction, an abort row being inserted where there is none. NULL: there is none, and
/// the name is so old that there may have been one.
/// ON CONFLICT waits for a commit in flight; the second statement then sees what it left. The mark is read after the insertion: it was
/// raised before a row of this name could be deleted.
const CREATE_RESOLVE: &str =
    "CREATE OR REPLACE FUNCTION drover_internal.resolve(gid text, participants text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    decision boolean;
    inserted bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'decisions are resolved at READ COMMITTED only';
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    INSERT INTO drover_internal.decisions (gid, committed, participants) VALUES ($1, false, $2)
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS inserted = ROW_COUNT;
    IF inserted = 0 THEN
        SELECT d.committed INTO decision FROM drover_internal.decisions AS d WHERE d.gid = $1;
        RETURN decision;
    END IF;
    IF split_part($1, ':', 2) = '2'
        AND split_part($1, ':', 4)::bigint < (SELECT last_value FROM drover_internal.collected_before) THEN
        DELETE FROM drover_internal.decisions AS d WHERE d.gid = $1;
        RETURN NULL;
    END IF;
    RETURN false;
END
$body$";

/// Records the decision; runs in the decider's transaction, directly before its COMMIT. An error means that
/// recovery has excluded the commit (or the secret is wrong): the transaction is aborted.
pub fn decide(gid: &Gid, participants: &[ShardId], secret: Secret) -> String {
    format!(
        "SELECT drover_internal.decide('{gid}', {}, '{}')",
        array(participants),
        secret.to_hex()
    )
}

/// Looks a decision up on the deciding shard's primary: no row, or one boolean, `true` = committed.
///
/// A row can be seen that no replica has: the server crashed while its commit waited for them, or the wait was cancelled. What is
/// written to the log here is behind that commit, so when this is on the replicas, so is the row; until then there is no answer.
pub fn look_up(gid: &Gid) -> String {
    format!(
        "SET LOCAL synchronous_commit = 'on'; \
         SELECT committed, pg_catalog.pg_logical_emit_message(true, 'drover', '') \
         FROM drover_internal.decisions WHERE gid = '{gid}'"
    )
}

/// To run in the transaction that gets this name, on its deciding shard: as long as it runs there, [`is_running`] says so.
/// Rolled back to a savepoint that is older, it does not any more; the answer then is an abort that is recorded, and comes true.
/// The second column says whether the transaction may write its decision.
pub fn start_named(gid: &Gid) -> String {
    format!(
        "SELECT pg_catalog.pg_advisory_xact_lock({}), pg_catalog.current_setting('transaction_read_only')",
        gid.lock_key()
    )
}

/// Whether a transaction that was given its name by [`start_named`] runs: one row, one boolean. Ask the deciding shard's primary.
/// Its decision, if it makes one, is seen before this is false.
pub fn is_running(gid: &Gid) -> String {
    format!(
        "SELECT NOT pg_catalog.pg_try_advisory_xact_lock_shared({})",
        gid.lock_key()
    )
}

/// Whether a part of it was prepared so recently, in milliseconds, that its proxy is probably still at work: one row, one boolean.
pub fn is_prepared_since(gid: &Gid, ms: u128) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid = '{gid}' \
         AND prepared > pg_catalog.clock_timestamp() - interval '{ms} milliseconds')"
    )
}

/// Excludes a commit that has not happened: one row, one boolean, `true` = it had happened, NULL = nobody knows any more, and it
/// cannot happen. Only the owner of
/// Drover's objects may run it, on the deciding shard's primary, in a transaction of its own at READ
/// COMMITTED. The result counts only after its COMMIT was confirmed and replicated.
pub fn resolve(gid: &Gid, participants: &[ShardId]) -> String {
    format!("SELECT drover_internal.resolve('{gid}', {})", array(participants))
}

/// PREPARE TRANSACTION; expected tag `PREPARE TRANSACTION`.
pub fn prepare(gid: &Gid) -> String {
    format!("PREPARE TRANSACTION '{gid}'")
}

/// COMMIT PREPARED; expected tag `COMMIT PREPARED`.
pub fn commit_prepared(gid: &Gid) -> String {
    format!("COMMIT PREPARED '{gid}'")
}

/// ROLLBACK PREPARED; expected tag `ROLLBACK PREPARED`.
pub fn rollback_prepared(gid: &Gid) -> String {
    format!("ROLLBACK PREPARED '{gid}'")
}

/// Lists our prepared transactions of the connected database: gid, owner, prepared at.
pub const LIST_PREPARED: &str = "SELECT gid, owner, prepared FROM pg_catalog.pg_prepared_xacts \
     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, 'drover:')";

/// The same for people: gid, owner, age in milliseconds.
pub const LIST_PREPARED_WITH_AGE: &str = "SELECT gid, owner, \
     (1000 * EXTRACT(EPOCH FROM GREATEST(pg_catalog.clock_timestamp() - prepared, interval '0')))::pg_catalog.int8 \
     FROM pg_catalog.pg_prepared_xacts \
     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, 'drover:') LIMIT 10000";

/// What a shard's decision looks like at the moment, for people, not to act on: one row, whether it is to commit, NULL for no decision,
/// and whether the name is so old that there may have been one.
pub fn peek(gid: &Gid) -> String {
    let made_s = gid
        .made_s()
        .map_or("NULL".to_owned(), |made_s| made_s.to_string());
    format!(
        "SELECT d.committed, {made_s} < c.last_value FROM drover_internal.collected_before AS c \
         LEFT JOIN drover_internal.decisions AS d ON d.gid = '{gid}'"
    )
}

fn array(shards: &[ShardId]) -> String {
    let items: Vec<String> = shards.iter().map(|shard| shard.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.text[]", items.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_plain_literals() {
        let secret = Secret([7; 16]);
        let gid = Gid::new(ShardId(3), secret);
        assert_eq!(
            decide(&gid, &[ShardId(1), ShardId(2)], secret),
            "SELECT drover_internal.decide('drover:1:3:d761d406af2a4a5a15f67c924378ed88', \
             '{1,2}'::pg_catalog.text[], '07070707070707070707070707070707')"
        );
        assert!(resolve(&gid, &[]).ends_with(", '{}'::pg_catalog.text[])"));
    }
}
