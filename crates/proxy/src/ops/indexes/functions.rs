//! The functions that change and find entries, as SQL.
//!
//! Names in them begin with `drover_`: columns of the table may have any other.
//!
//! | lock, on a number made of | who changes entries | who reads them |
//! |---|---|---|
//! | the value | shares it until the transaction has ended on this shard; has it alone to wait for those in doubt | must find that nobody shares it |
//! | `all` | has it alone if there are more entries than a server has room for locks of values | must be able to share it |

use super::objects::{
    APPLYING, ASKING, Column, Objects, PARAMETER, entries_index, index_sql, key_hash, list, relation_name,
    stored_keys, table_name,
};
use crate::ops::effects::text_sql;

/// The error of a change that does not find the entry which it takes away.
pub(crate) const NO_ENTRY: &str = "XX001";

/// Statements that change more entries on a shard than this take one lock for all of them.
const ENTRIES_LOCKED_MAX: usize = 500;

/// A question that has more entries for an answer is one for all shards: most of them have such rows.
const ENTRIES_READ_MAX: usize = 2000;

/// Entries are found by their index, whatever was known of their number when the function was planned in this session.
const BY_INDEX: &str = "SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off \
     SET enable_mergejoin = off";

/// Takes away, of entries that are owed, so many at most as are there; gives how many.
fn settle_sql(objects: &Objects<'_>) -> String {
    let (id, entries) = (objects.index.id, relation_name(objects.index.id));
    let array = |columns: &[Column<'_>]| {
        let texts = columns.iter().map(|column| format!("d.{}::text", column.entry));
        format!("jsonb_build_array({})", list(texts, ", "))
    };
    format!(
        "CREATE FUNCTION drover_internal.index_{id}_settle(drover_most int) RETURNS bigint
LANGUAGE plpgsql {BY_INDEX} AS $body$
DECLARE
    drover_place tid;
    drover_e jsonb;
    drover_settled bigint := 0;
BEGIN
    FOR drover_place, drover_e IN SELECT d.ctid, jsonb_build_array({}, {}) FROM {entries}_owed d LIMIT drover_most FOR UPDATE SKIP LOCKED LOOP
        DELETE FROM {entries} t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM {entries} t WHERE {} LIMIT 1 FOR UPDATE SKIP LOCKED));
        IF FOUND THEN
            DELETE FROM {entries}_owed d WHERE d.ctid = drover_place;
            drover_settled := drover_settled + 1;
        END IF;
    END LOOP;
    RETURN drover_settled;
END
$body$; REVOKE ALL ON FUNCTION drover_internal.index_{id}_settle(int) FROM PUBLIC",
        array(&objects.values),
        array(&objects.key),
        objects.same()
    )
}

/// A column of the entry that `from` describes; of its values, which are 0, or its key, which is 1.
fn taken(from: &str, of: u8, at: usize, column: &Column<'_>) -> String {
    format!("({from} -> {of} ->> {at})::{}", column.type_sql)
}

impl Objects<'_> {
    /// What there is besides as long as the index is being made: entries that are owed, and an index of the entries by which
    /// they are found until PostgreSQL has made the unique one.
    pub(super) fn build_sql(&self, key: &[String]) -> String {
        let entries = relation_name(self.index.id);
        let found = match self.index.unique {
            true => format!(
                "CREATE INDEX {}_build ON {entries} ({})",
                entries_index(self.index.id),
                list(self.values.iter().map(|column| column.entry.clone()), ", ")
            ),
            false => index_sql(self.index, key),
        };
        format!(
            "CREATE TABLE {entries}_owed AS TABLE {entries} WITH NO DATA; REVOKE ALL ON {entries}_owed FROM PUBLIC; {found}; {}",
            settle_sql(self)
        )
    }

    /// The columns of the entry that `from` describes, in their order.
    fn taken(&self, from: &str) -> String {
        let values = self.values.iter().enumerate();
        let keys = self.key.iter().enumerate();
        let values = values.map(|(at, column)| taken(from, 0, at, column));
        let keys = keys.map(|(at, column)| taken(from, 1, at, column));
        list(values.chain(keys), ", ")
    }

    /// True of the entries `t` that `drover_e` describes.
    fn same(&self) -> String {
        let values = self.values.iter().enumerate();
        let values =
            values.map(|(at, column)| format!("t.{} = {}", column.entry, taken("drover_e", 0, at, column)));
        let keys = self.key.iter().enumerate();
        let keys = keys.map(|(at, column)| {
            format!(
                "t.{} IS NOT DISTINCT FROM {}",
                column.entry,
                taken("drover_e", 1, at, column)
            )
        });
        // As the index has it.
        let hash = (!self.index.unique).then(|| {
            let given: Vec<String> = (0..self.key.len())
                .map(|at| format!("(drover_e -> 1 ->> {at})"))
                .collect();
            format!(
                "{} = {}",
                key_hash(&stored_keys(self.key.len(), "t.")),
                key_hash(&given)
            )
        });
        list(values.chain(hash).chain(keys), " AND ")
    }

    /// The keys of the rows with these values. NULL when somebody is changing an entry of one of them, whose rows may be there
    /// already or not yet, or when there are very many. The locks are asked for before the entries are read, by statements
    /// with snapshots of their own, and given back by the failure of the inner block. Who does not get a lock may have met
    /// another reader.
    pub(super) fn find_sql(&self) -> String {
        let id = self.index.id;
        let values = self.values.iter().enumerate().map(|(at, column)| {
            // As wide as the values are: a number that no row can have is no error.
            let wide = match column.type_sql {
                "smallint" | "integer" | "bigint" => "bigint",
                of if of.starts_with("character varying") => "text",
                of => of,
            };
            format!("t.{} = (drover_w ->> {at})::{wide}", column.entry)
        });
        let keys = self.key.iter().map(|column| format!("t.{}::text", column.entry));
        format!(
            "CREATE OR REPLACE FUNCTION drover_internal.index_{id}_find(drover_wanted jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER {BY_INDEX} AS $body$
DECLARE
    drover_locks bigint[];
    drover_free boolean;
    drover_known jsonb;
BEGIN
    IF current_setting('{PARAMETER}', true) IS DISTINCT FROM '{ASKING}' THEN
        RAISE EXCEPTION 'entries of a global index are read by Drover only' USING ERRCODE = '42501';
    END IF;
    IF NOT has_any_column_privilege(coalesce(nullif(current_setting('role'), 'none'), session_user), {table}::regclass, 'SELECT') THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(DISTINCT hashtextextended(drover_w::text, {id})) INTO drover_locks FROM jsonb_array_elements(drover_wanted) drover_w;
    BEGIN
        drover_free := pg_try_advisory_xact_lock_shared(hashtextextended('all', {id}));
        IF drover_free AND NOT (SELECT bool_and(pg_try_advisory_xact_lock(drover_l)) FROM unnest(drover_locks) drover_l) THEN
            drover_free := NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                    AND l.mode = 'ShareLock' AND (l.classid::bigint << 32 | l.objid::bigint) = ANY (drover_locks));
        END IF;
        IF drover_free THEN
            SELECT CASE WHEN count(*) <= {ENTRIES_READ_MAX} THEN coalesce(jsonb_agg(DISTINCT drover_k), '[]') END INTO drover_known
            FROM (SELECT jsonb_build_array({keys}) FROM jsonb_array_elements(drover_wanted) drover_w JOIN {entries} t ON {values}
                LIMIT {ENTRIES_READ_MAX} + 1) AS found(drover_k);
        END IF;
        RAISE EXCEPTION 'done' USING ERRCODE = 'DRV00';
    EXCEPTION WHEN SQLSTATE 'DRV00' THEN
        RETURN drover_known;
    END;
END
$body$",
            table = text_sql(&table_name(self.index)),
            keys = list(keys, ", "),
            entries = relation_name(id),
            values = list(values, " AND ")
        )
    }

    /// Takes entries away and brings others. Several may be equal: each takes one away that nobody else is taking away. One that
    /// is not there is of a transaction in doubt, whose end is waited for.
    pub(super) fn apply_sql(&self) -> String {
        let id = self.index.id;
        let entries = relation_name(id);
        let remove = format!(
            "DELETE FROM {entries} t WHERE t.ctid = ANY (ARRAY(
            SELECT t.ctid FROM {entries} t WHERE {} LIMIT drover_times FOR UPDATE SKIP LOCKED))",
            self.same()
        );
        // Of a row that was there before the index followed it.
        let owe = match self.index.building {
            true => format!(
                "INSERT INTO {entries}_owed SELECT {} FROM generate_series(1, drover_times - drover_removed);
        CONTINUE;",
                self.taken("drover_e")
            ),
            false => String::new(),
        };
        format!(
            "CREATE OR REPLACE FUNCTION drover_internal.index_{id}_apply(drover_gone jsonb, drover_come jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER {BY_INDEX} AS $body$
DECLARE
    drover_e jsonb;
    drover_times bigint;
    drover_removed bigint;
BEGIN
    IF current_setting('{PARAMETER}', true) IS DISTINCT FROM '{APPLYING}' THEN
        RAISE EXCEPTION 'entries of a global index are changed by Drover only' USING ERRCODE = '42501';
    END IF;
    IF jsonb_array_length(drover_gone) + jsonb_array_length(drover_come) > {ENTRIES_LOCKED_MAX} THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('all', {id}));
    ELSE
        PERFORM pg_advisory_xact_lock_shared(drover_l) FROM (
            SELECT DISTINCT hashtextextended((drover_w -> 0)::text, {id}) FROM jsonb_array_elements(drover_gone || drover_come) drover_w
            ORDER BY 1
        ) AS locks(drover_l);
    END IF;
    FOR drover_e, drover_times IN SELECT drover_w, count(*) FROM jsonb_array_elements(drover_gone) drover_w GROUP BY 1 LOOP
        {remove};
        GET DIAGNOSTICS drover_removed = ROW_COUNT;
        CONTINUE WHEN drover_removed = drover_times;
        {owe}
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'could not serialize access due to concurrent update' USING ERRCODE = '40001';
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended((drover_e -> 0)::text, {id}));
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('all', {id}));
        drover_times := drover_times - drover_removed;
        {remove};
        GET DIAGNOSTICS drover_removed = ROW_COUNT;
        IF drover_removed <> drover_times THEN
            RAISE EXCEPTION 'a global index has no entry for a row of its table' USING ERRCODE = '{NO_ENTRY}',
                HINT = 'See drover.check_global_index(), which can repair it.';
        END IF;
    END LOOP;
    INSERT INTO {entries} SELECT {} FROM jsonb_array_elements(drover_come) drover_w;
END
$body$",
            self.taken("drover_w")
        )
    }
}
