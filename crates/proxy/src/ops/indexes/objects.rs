//! What a global index is on each shard.
//!
//! | object | does |
//! |---|---|
//! | `index_<id>` | the entries that belong on this shard: indexed columns, and the key of the row |
//! | triggers `drover_index_<id>_…` on the table | note the entries that a statement takes away and brings, in a setting of the transaction, so that a rollback to a savepoint forgets them too |
//! | `index_<id>_changed()` | the function of these triggers |
//! | `index_<id>_apply()` | changes entries; runs with the rights of its owner, and only where the proxy has said that it may |
//! | `index_<id>_find()` | finds the keys of rows with given values; likewise |
//! | a row of `global_indexes` | how the table looked when the index was made: a schema change after which it looks different is refused |
//!
//! Triggers are statement triggers with transition tables: one call for a statement of any number of rows.

use sql::quote_ident;
use topology::records::GlobalIndexRecord;

use crate::ops::OpError;
use crate::ops::effects::text_sql;
use crate::ops::guards;
use crate::ops::part::Part;

/// The setting in which changes are noted.
pub(crate) const PARAMETER: &str = "drover_internal.index_changes";

/// Its value while changes are noted: who set it carries them over to the index. Each change is a line behind it.
pub(crate) const NOTING: &str = "+";

/// Its value while entries may be changed.
pub(crate) const APPLYING: &str = "=";

/// Its value while entries may be asked for.
pub(crate) const ASKING: &str = "?";

/// To run with the guards' own statements. Repeating it changes nothing.
pub(crate) const BOOTSTRAP: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS drover_internal.global_indexes (
        id int PRIMARY KEY, relation oid NOT NULL, columns name[] NOT NULL, looks text NOT NULL)",
    "REVOKE ALL ON drover_internal.global_indexes FROM PUBLIC",
    // The guard of the schema runs as whoever changes it.
    "GRANT SELECT ON drover_internal.global_indexes TO PUBLIC",
    // How far indexes are that are being made; on the home shard.
    "CREATE TABLE IF NOT EXISTS drover_internal.builds (
        id int PRIMARY KEY, phase text NOT NULL, done bigint NOT NULL, total bigint NOT NULL,
        begun timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), noted timestamptz NOT NULL)",
    "REVOKE ALL ON drover_internal.builds FROM PUBLIC",
    "GRANT SELECT ON drover_internal.builds TO PUBLIC",
    CREATE_LOOKS,
    CREATE_FORGET,
    CREATE_TRUNCATED,
    "REVOKE ALL ON FUNCTION drover_internal.index_truncated() FROM PUBLIC",
];

/// All that an index depends on; NULL when the table is gone.
const CREATE_LOOKS: &str = "CREATE OR REPLACE FUNCTION drover_internal.index_looks(id int, relation oid, columns name[])
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
SELECT jsonb_build_array(n.nspname, c.relname, c.relispartition, c.relhassubclass, c.relpersistence,
    (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation) ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($3)),
    (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A')
        AND starts_with(t.tgname::text, 'drover_index_' || $1 || '_')))::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $2
$body$";

/// Drops what is left of the indexes of tables that are gone. Whoever drops a table needs no rights to them, and nobody else can
/// do harm with it.
const CREATE_FORGET: &str = "CREATE OR REPLACE FUNCTION drover_internal.index_forget() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    gone int;
BEGIN
    FOR gone IN DELETE FROM drover_internal.global_indexes i
        WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = i.relation) RETURNING id
    LOOP
        EXECUTE format('DROP TABLE drover_internal.index_%s', gone);
        EXECUTE format('DROP TABLE IF EXISTS drover_internal.index_%s_owed', gone);
        EXECUTE format('DROP FUNCTION IF EXISTS drover_internal.index_%s_settle(int)', gone);
        DELETE FROM drover_internal.builds WHERE id = gone;
        EXECUTE format('DROP FUNCTION drover_internal.index_%s_changed()', gone);
        EXECUTE format('DROP FUNCTION drover_internal.index_%s_apply(jsonb, jsonb)', gone);
        EXECUTE format('DROP FUNCTION drover_internal.index_%s_find(jsonb)', gone);
    END LOOP;
END
$body$";

const CREATE_TRUNCATED: &str = "CREATE OR REPLACE FUNCTION drover_internal.index_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF coalesce(current_setting('drover_internal.epoch', true), '') <> '9999999999999999' THEN
        RAISE EXCEPTION 'a global index would not follow TRUNCATE of its table: %', TG_TABLE_NAME
            USING ERRCODE = '0A000', DETAIL = 'refusal code DRV7133', HINT = 'use DELETE';
    END IF;
    RETURN NULL;
END
$body$";

/// The table of entries.
pub(crate) fn relation_name(id: u32) -> String {
    format!("drover_internal.index_{id}")
}

/// The index of that table; PostgreSQL names it in its messages.
pub(super) fn entries_index(id: u32) -> String {
    format!("drover_index_{id}")
}

pub(super) fn table_name(index: &GlobalIndexRecord) -> String {
    format!("{}.{}", quote_ident(&index.schema), quote_ident(&index.table))
}

pub(super) fn list(items: impl Iterator<Item = String>, between: &str) -> String {
    items.collect::<Vec<_>>().join(between)
}

/// True of rows that have an entry.
fn has_entry(index: &GlobalIndexRecord) -> String {
    let columns = index.columns.iter();
    list(
        columns.map(|name| format!("{} IS NOT NULL", quote_ident(name))),
        " AND ",
    )
}

/// What a column of the row's key is called among the entries.
fn key_name(at: usize) -> String {
    format!("drover_key_{}", at + 1)
}

/// The entries of the table's rows, of those for which `owns` is true.
pub(super) fn rows_sql(index: &GlobalIndexRecord, key: &[String], owns: &str) -> String {
    let columns = index.columns.iter().map(|name| quote_ident(name));
    let keys = key.iter().enumerate();
    let keys = keys.map(|(at, name)| format!("{} AS {}", quote_ident(name), key_name(at)));
    format!(
        "SELECT {} FROM {} WHERE {} AND {owns}",
        list(columns.chain(keys), ", "),
        table_name(index),
        has_entry(index)
    )
}

/// Rows that have an entry, and entries.
pub(super) fn counts_sql(index: &GlobalIndexRecord) -> String {
    format!(
        "SELECT (SELECT pg_catalog.count(*) FROM {} WHERE {}), (SELECT pg_catalog.count(*) FROM {})",
        table_name(index),
        has_entry(index),
        relation_name(index.id)
    )
}

/// Number and sum of hashes of what comes out of a query of an index's columns and keys.
fn digest_sql(columns: &[String], from: &str) -> String {
    let texts = columns.iter().map(|column| format!("{column}::pg_catalog.text"));
    format!(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended( \
             pg_catalog.jsonb_build_array({})::pg_catalog.text, 0)::pg_catalog.numeric), 0) FROM {from}",
        list(texts, ", ")
    )
}

/// Of the rows whose entries are where `owns` is true.
pub(super) fn rows_digest_sql(index: &GlobalIndexRecord, key: &[String], owns: &str) -> String {
    let columns: Vec<String> = index
        .columns
        .iter()
        .chain(key)
        .map(|name| quote_ident(name))
        .collect();
    let from = format!("{} WHERE {} AND {owns}", table_name(index), has_entry(index));
    digest_sql(&columns, &from)
}

/// Of the entries on a shard; keys have so many columns.
pub(super) fn entries_digest_sql(index: &GlobalIndexRecord, keys: usize) -> String {
    let columns = index.columns.iter().map(|name| quote_ident(name));
    let columns: Vec<String> = columns.chain((0..keys).map(key_name)).collect();
    digest_sql(&columns, &relation_name(index.id))
}

/// Takes all entries away, to be made anew. Not TRUNCATE: older snapshots go on seeing them.
pub(super) fn empty_sql(index: &GlobalIndexRecord) -> String {
    format!(
        "DROP INDEX IF EXISTS drover_internal.{}; DELETE FROM {}",
        entries_index(index.id),
        relation_name(index.id)
    )
}

/// Makes the table of entries, its columns like those of the table.
pub(super) fn table_sql(index: &GlobalIndexRecord, key: &[String]) -> String {
    format!(
        "CREATE TABLE {} AS {} WITH NO DATA",
        relation_name(index.id),
        rows_sql(index, key, "true")
    )
}

/// Makes the index of the entries. One value may have very many entries: then they are found by their keys, too.
pub(super) fn index_sql(index: &GlobalIndexRecord, key: &[String]) -> String {
    let columns = index.columns.iter().map(|name| quote_ident(name));
    let (kind, more) = match index.unique {
        true => ("UNIQUE INDEX", String::new()),
        false => ("INDEX", format!(", {}", key_hash(&stored_keys(key.len(), "")))),
    };
    format!(
        "CREATE {kind} {} ON {} ({}{more})",
        entries_index(index.id),
        relation_name(index.id),
        list(columns, ", ")
    )
}

/// The columns of a key among the entries, as text.
pub(super) fn stored_keys(keys: usize, table: &str) -> Vec<String> {
    let text = |at| format!("{table}{}::pg_catalog.text", key_name(at));
    (0..keys).map(text).collect()
}

/// A number that is the same for equal keys, given as texts.
pub(super) fn key_hash(texts: &[String]) -> String {
    let texts = texts.iter();
    let texts = texts.map(|text| format!("coalesce({text} COLLATE pg_catalog.\"C\", '')"));
    format!("pg_catalog.hashtextextended({}, 0)", list(texts, " || ' ' || "))
}

/// The types of the entries' columns, as SQL.
pub(super) async fn types(part: &mut Part, index: &GlobalIndexRecord) -> Result<Vec<String>, OpError> {
    let sql = format!(
        "SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute \
         WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 ORDER BY attnum",
        text_sql(&relation_name(index.id))
    );
    let rows = part.rows(&sql).await?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// The statements that drop everything; the last one tells whether the index was there.
pub(super) fn drop_sql(index: &GlobalIndexRecord) -> String {
    let (table, id) = (table_name(index), index.id);
    let triggers = EVENTS.map(|(event, _)| format!("DROP TRIGGER {} ON {table}; ", trigger_name(id, event)));
    format!(
        "{}DROP FUNCTION drover_internal.index_{id}_changed(); \
         DROP FUNCTION drover_internal.index_{id}_apply(pg_catalog.jsonb, pg_catalog.jsonb); \
         DROP FUNCTION drover_internal.index_{id}_find(pg_catalog.jsonb); \
         DROP TABLE {entries}; DROP TABLE IF EXISTS {entries}_owed; \
         DROP FUNCTION IF EXISTS drover_internal.index_{id}_settle(int); \
         DELETE FROM drover_internal.builds WHERE id = {id}; \
         DELETE FROM drover_internal.global_indexes WHERE id = {id}",
        triggers.concat(),
        entries = relation_name(id)
    )
}

/// Events with the transition tables of their triggers.
const EVENTS: [(&str, &str); 4] = [
    ("INSERT", "REFERENCING NEW TABLE AS drover_new"),
    (
        "UPDATE",
        "REFERENCING OLD TABLE AS drover_old NEW TABLE AS drover_new",
    ),
    ("DELETE", "REFERENCING OLD TABLE AS drover_old"),
    ("TRUNCATE", ""),
];

fn trigger_name(id: u32, event: &str) -> String {
    format!("drover_index_{id}_{}", event.to_ascii_lowercase())
}

/// A column of an entry.
pub(super) struct Column<'a> {
    /// In the table.
    name: &'a str,
    /// Among the entries.
    pub(super) entry: String,
    pub(super) type_sql: &'a str,
}

/// Functions and triggers of an index.
pub(super) struct Objects<'a> {
    pub(super) index: &'a GlobalIndexRecord,
    pub(super) values: Vec<Column<'a>>,
    pub(super) key: Vec<Column<'a>>,
}

impl<'a> Objects<'a> {
    /// `types` are those of the entries' columns.
    pub(super) fn new(
        index: &'a GlobalIndexRecord,
        key: &'a [String],
        types: &'a [String],
    ) -> Option<Objects<'a>> {
        let (of_values, of_key) = types.split_at_checked(index.columns.len())?;
        if of_key.len() != key.len() {
            return None;
        }
        let values = index.columns.iter().zip(of_values);
        let values = values.map(|(name, of)| Column {
            name,
            entry: quote_ident(name),
            type_sql: of,
        });
        let keys = key.iter().zip(of_key).enumerate();
        let keys = keys.map(|(at, (name, of))| Column {
            name,
            entry: key_name(at),
            type_sql: of,
        });
        Some(Objects {
            index,
            values: values.collect(),
            key: keys.collect(),
        })
    }

    /// The statements that make them, and the row that says how the table looks with them.
    pub(super) fn create_sql(&self) -> String {
        let (table, id) = (table_name(self.index), self.index.id);
        let triggers = EVENTS.map(|(event, tables)| {
            let name = trigger_name(id, event);
            let (time, function) = match tables {
                "" => ("BEFORE", "index_truncated".to_owned()),
                _ => ("AFTER", format!("index_{id}_changed")),
            };
            let create = format!(
                "CREATE OR REPLACE TRIGGER {name} {time} {event} ON {table} {tables} FOR EACH STATEMENT \
                 EXECUTE FUNCTION drover_internal.{function}()"
            );
            guards::internal_sql(&table, &name, &create)
        });
        let names = self.values.iter().chain(&self.key);
        let names = list(names.map(|column| text_sql(column.name)), ", ");
        let names = format!("ARRAY[{names}]::pg_catalog.name[]");
        format!(
            "{}; REVOKE ALL ON FUNCTION drover_internal.index_{id}_changed() FROM PUBLIC; {}; {}; {}; \
             REVOKE ALL ON {} FROM PUBLIC; \
             INSERT INTO drover_internal.global_indexes (id, relation, columns, looks) \
             SELECT {id}, c, {names}, drover_internal.index_looks({id}, c, {names}) \
             FROM (SELECT {}::pg_catalog.regclass::pg_catalog.oid) AS of(c)",
            self.changed_sql(),
            self.apply_sql(),
            self.find_sql(),
            triggers.join("; "),
            relation_name(id),
            text_sql(&table)
        )
    }

    /// The entries of a transition table, as their values and their keys.
    fn entries(&self, table: &str) -> String {
        let array = |columns: &[Column<'_>]| {
            let texts = columns.iter();
            let texts = texts.map(|column| format!("{}::text", quote_ident(column.name)));
            format!("jsonb_build_array({})", list(texts, ", "))
        };
        format!(
            "SELECT {}, {} FROM {table} WHERE {}",
            array(&self.values),
            array(&self.key),
            has_entry(self.index)
        )
    }

    /// A note is `[index, 0 or 1, [values], [key]]`: an entry that is gone, or one that has come.
    fn changed_sql(&self) -> String {
        let id = self.index.id;
        let (old, new) = (self.entries("drover_old"), self.entries("drover_new"));
        let note = |come: u8, rows: &str| format!("SELECT {come}, v, k FROM ({rows}) AS r(v, k)");
        let notes = |rows: &str| {
            format!(
                "SELECT string_agg(E'\\n' || jsonb_build_array({id}, c, v, k)::text, '') INTO drover_noted FROM ({rows}) AS n(c, v, k)"
            )
        };
        let updated = format!(
            "{} UNION ALL {}",
            note(0, &format!("{old} EXCEPT ALL {new}")),
            note(1, &format!("{new} EXCEPT ALL {old}"))
        );
        format!(
            "CREATE FUNCTION drover_internal.index_{id}_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    drover_known text := current_setting('{PARAMETER}', true);
    drover_noted text;
BEGIN
    IF coalesce(current_setting('drover_internal.epoch', true), '') = '9999999999999999' THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        {};
    ELSIF TG_OP = 'DELETE' THEN
        {};
    ELSE
        {};
    END IF;
    IF drover_noted IS NULL THEN
        RETURN NULL;
    ELSIF starts_with(drover_known, '{NOTING}') THEN
        PERFORM set_config('{PARAMETER}', drover_known || drover_noted, true);
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'a table with a global index was written by something that Drover does not follow: %', TG_TABLE_NAME
        USING ERRCODE = '0A000', DETAIL = 'refusal code DRV7131', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              HINT = 'write the table with statements that name it';
END
$body$",
            notes(&note(1, &new)),
            notes(&note(0, &old)),
            notes(&updated)
        )
    }
}
