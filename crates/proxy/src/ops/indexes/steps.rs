//! The statements of [`super::build`].

use sql::{quote_ident, quote_literal};
use topology::records::GlobalIndexRecord;

use super::objects::{Objects, entries_index, relation_name, table_name};
use crate::ops::effects::text_sql;

/// The first number of the lock that whoever makes an index holds on the home shard; the second one is the index's.
const BUILDER_LOCK: u32 = 0x6472_6f76;

/// Locks of builders, and of those that wait for nobody.
const BUILDERS: &str = "FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database \
     WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
         AND l.classid = 1685221238";

/// How far indexes are that are being made: number, state, rows done, rows in all, rows a second, seconds left.
pub(crate) const PROGRESS: &str = "SELECT b.id, \
     CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database \
         WHERE d.datname = pg_catalog.current_database() AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted \
             AND l.classid = 1685221238 AND l.objid::bigint = b.id) THEN b.phase ELSE 'abandoned' END, \
     b.done, b.total, pg_catalog.round(b.done / r.seconds), \
     CASE WHEN b.phase = 'copying' AND b.done > 0 \
         THEN pg_catalog.ceil(greatest(b.total - b.done, 0) * r.seconds / b.done) END \
     FROM drover_internal.builds b, \
         LATERAL (SELECT greatest(extract(epoch FROM b.noted - b.begun), 0.001)) AS r(seconds)";

/// Takes the lock of whoever makes the index, if it can be had.
pub(super) fn lead(id: u32) -> String {
    format!("SELECT pg_catalog.pg_try_advisory_lock({BUILDER_LOCK}, {id})")
}

/// Ends whatever is making the index, on one shard.
pub(super) fn stop(id: u32) -> String {
    let entries = text_sql(&relation_name(id));
    format!(
        "SELECT pg_catalog.pg_terminate_backend(l.pid) {BUILDERS} AND l.objid::bigint = {id} UNION ALL \
         SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_progress_create_index \
         WHERE datname = pg_catalog.current_database() AND relid = pg_catalog.to_regclass({entries}) UNION ALL \
         SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_progress_copy \
         WHERE datname = pg_catalog.current_database() AND relid = pg_catalog.to_regclass({entries})"
    )
}

/// Notes how far it is. A phase that counts no rows leaves the numbers as they are.
pub(super) fn note(id: u32, phase: &str, rows: Option<(u64, u64)>) -> String {
    let (done, total) = rows.unwrap_or_default();
    let numbers = match rows {
        Some(_) => ", done = excluded.done, total = excluded.total, noted = excluded.noted",
        None => "",
    };
    format!(
        "INSERT INTO drover_internal.builds AS b (id, phase, done, total, noted) \
         VALUES ({id}, {}, {done}, {total}, pg_catalog.clock_timestamp()) \
         ON CONFLICT (id) DO UPDATE SET phase = excluded.phase{numbers}",
        quote_literal(phase)
    )
}

/// Forgets how far it was.
pub(super) fn unnote(id: u32) -> String {
    format!("DELETE FROM drover_internal.builds WHERE id = {id}")
}

/// About how many rows the table has on a shard: exactly, where it has never been analyzed.
pub(super) fn about_rows(index: &GlobalIndexRecord) -> String {
    format!(
        "SELECT CASE WHEN reltuples >= 0 THEN reltuples::bigint ELSE (SELECT pg_catalog.count(*) FROM {table}) END \
         FROM pg_catalog.pg_class WHERE oid = {}::pg_catalog.regclass",
        text_sql(&table_name(index)),
        table = table_name(index)
    )
}

/// Settles so many entries that are owed.
pub(super) fn settle(id: u32, most: u32) -> String {
    format!("SELECT drover_internal.index_{id}_settle({most})")
}

/// How many are owed.
pub(super) fn owed(id: u32) -> String {
    format!("SELECT pg_catalog.count(*) FROM {}_owed", relation_name(id))
}

/// From now on nothing can be owed. `None`: the entries have other columns.
pub(super) fn tighten(index: &GlobalIndexRecord, key: &[String], types: &[String]) -> Option<String> {
    let strict = GlobalIndexRecord {
        building: false,
        ..index.clone()
    };
    let objects = Objects::new(&strict, key, types)?;
    Some(format!(
        "{}; DROP FUNCTION drover_internal.index_{id}_settle(int); DROP TABLE {}_owed",
        objects.apply_sql(),
        relation_name(index.id),
        id = index.id
    ))
}

/// Has PostgreSQL make the unique index of the entries, beside everybody.
pub(super) fn enforce(index: &GlobalIndexRecord) -> String {
    let columns: Vec<String> = index.columns.iter().map(|name| quote_ident(name)).collect();
    format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({})",
        entries_index(index.id),
        relation_name(index.id),
        columns.join(", ")
    )
}

/// Whether the entries have the index that they have to have.
pub(super) fn valid(id: u32) -> String {
    let name = format!("drover_internal.{}", entries_index(id));
    format!(
        "SELECT coalesce((SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({})), false)",
        text_sql(&name)
    )
}

/// Drops the index by which entries were found before there was the unique one.
pub(super) fn unbuild(id: u32) -> String {
    format!(
        "DROP INDEX CONCURRENTLY IF EXISTS drover_internal.{}_build",
        entries_index(id)
    )
}
