//! The guard of statements: who writes a sharded or reference table must say that it comes through Drover, and how much it
//! has heard.
//!
//! Every server session of a proxy states a number, its *fence*, in a parameter of its login: the epoch since which rows are
//! where the proxy's record says ([`ClusterRecord::ownership`]). A statement trigger on each table has the number that was in
//! force when the table got its guard. (In an argument, not in a WHEN condition: PostgreSQL reads those anew from their text
//! for every statement, which takes three times as long as the call.) What it says depends on what was stated:
//!
//! | stated | INSERT, UPDATE, DELETE, COPY | TRUNCATE |
//! |---|---|---|
//! | the trigger's number or a later one | pass | passes |
//! | an older one: a proxy that has missed something | refused | refused |
//! | nothing, a sharded table | pass: the guard of rows looks at them | refused |
//! | nothing, a reference table | refused: the copies would differ | refused |
//!
//! The parameter has a name that no application uses, Drover lets no client set it, and `RESET ALL` and `DISCARD ALL` bring
//! back what the login stated. It keeps mistakes out, not a role that means to deceive: such a role can connect to the server
//! only if the operator lets it.

use topology::ClusterRecord;

use super::internal_sql;

/// Name of the trigger.
pub(super) const TRIGGER: &str = "drover_epoch";

/// What the trigger of a sharded table is told of it.
pub(super) const SHARDED: &str = "sharded";

/// The same of a reference table, of which every shard has all rows.
pub(super) const REFERENCE: &str = "reference";

/// What Drover's own role states for its own work: it passes whatever the table wants.
pub(crate) const OWN: u64 = 9_999_999_999_999_999;

/// The parameter that sessions state their fence in.
const PARAMETER: &str = "drover_internal.epoch";

/// `40001` is serialization_failure: repeated, the statement finds out where the rows are. `55000` is
/// object_not_in_prerequisite_state.
///
/// It runs at every statement: names are qualified instead of a `search_path` being set, and what passes leaves at once.
pub(super) const CREATE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION drover_internal.stated() RETURNS trigger
LANGUAGE plpgsql AS $body$
BEGIN
    IF pg_catalog.current_setting('drover_internal.epoch', true) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.>=) TG_ARGV[1] THEN
        RETURN NULL;
    ELSIF pg_catalog.current_setting('drover_internal.epoch', true) OPERATOR(pg_catalog.<>) '' THEN
        RAISE EXCEPTION 'rows of table \"%\" have moved, and this session does not know it', TG_TABLE_NAME
            USING ERRCODE = '40001', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  HINT = 'The proxy of this session was cut off from its cluster. Connect again, and repeat the transaction.';
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' OR TG_ARGV[0] OPERATOR(pg_catalog.=) 'reference' THEN
        RAISE EXCEPTION '% of table \"%\" did not come through Drover', TG_OP, TG_TABLE_NAME
            USING ERRCODE = '55000', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
                  DETAIL = 'The table is on other servers, too.',
                  HINT = 'Write to it through Drover. To repair this server by hand, SET session_replication_role = replica as a superuser.';
    END IF;
    RETURN NULL;
END
$body$";

/// What sessions of a cluster with this record state; 0: nothing, because nothing has a guard.
pub(crate) fn fence_of(record: &ClusterRecord) -> u64 {
    if record.shards.len() < 2 && record.tables.is_empty() {
        return 0;
    }
    record.ownership.0.max(1)
}

/// The parameter of a login that states a fence.
pub(crate) fn stated(fence: u64) -> (String, String) {
    (PARAMETER.to_owned(), padded(fence))
}

/// What sessions have to state for a table whose rows a change is moving that has not been published: any record that will
/// say so has a later epoch than the one it began with.
pub(in crate::ops) fn floor_during(record: &ClusterRecord) -> u64 {
    record.epoch.0 + 1
}

/// The statements that make the trigger on a table of this kind.
pub(super) fn create_sql(table: &str, kind: &str, floor: u64) -> String {
    let create = format!(
        "CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT \
         EXECUTE FUNCTION drover_internal.stated('{kind}', '{}')",
        padded(floor)
    );
    internal_sql(table, TRIGGER, &create)
}

pub(super) fn drop_sql(table: &str) -> String {
    format!("DROP TRIGGER IF EXISTS {TRIGGER} ON {table}")
}

/// Texts of one length sort as their numbers do.
fn padded(fence: u64) -> String {
    format!("{:016}", fence.min(OWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_sorts_as_its_number_does() {
        let numbers = [0, 1, 9, 10, 99, 100, 1 << 40, OWN - 1, OWN];
        for pair in numbers.windows(2) {
            assert!(stated(pair[0]).1 < stated(pair[1]).1, "{pair:?}");
        }
        assert!(*"" < *stated(0).1);
        assert_eq!(stated(u64::MAX), stated(OWN));
    }
}
