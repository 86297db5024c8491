//! What the shards themselves refuse, whoever writes to them (docs/decisions/0022, 0030). [`statements`] judges whole
//! statements by what their session states, [`schema`] keeps the schema of such tables from changing past Drover, and here is
//! the *ownership guard*: no row can be stored on a shard that does not own it.
//!
//! Proxies route by the shard map they know. A proxy that was stopped while a table moved, somebody who writes to a shard
//! directly, and a trigger that changes a key could each put a row where nobody looks for it. So every sharded table has,
//! on every shard, a row trigger whose WHEN condition is that the shard's map does not place the key there, and whose
//! function refuses the row. It fires *after* the row is written, when no other trigger changes it any more and generated
//! columns are known. Its kind is *origin*: silent where rows arrive by logical replication.
//!
//! The executor evaluates the condition without calling the function, so that a row in its place costs a hash and a
//! comparison, and COPY goes on writing rows in batches. What it costs is in `docs/benchmarks.md`.
//!
//! Under `geo` a table also has a CHECK constraint on every shard: the region is one of the shard's own, or else the row cannot
//! be stored at all, not by logical replication either, nor one with a region that is on no list. It is marked as inherited, so
//! that a dump leaves it out (its regions are those of one shard only) and the owner of the table cannot drop it; psql does list
//! it among the table's constraints. Dumps of partitions have inherited constraints, too, but not those that are called not valid,
//! so on a partition it is; rows are checked all the same.
//!
//! The trigger is marked internal, as those of foreign keys are: a dump does not contain it (its ranges would be wrong on
//! any other server), psql does not list it among the table's own, and `DISABLE TRIGGER USER` leaves it alone.
//!
//! A reference table has no owner of rows, and only the guard of its statements.
//!
//! A move makes the guards in its own transaction. Everything else ([`ensure`]) runs after the table is there: when a
//! statement has created it, before the cluster is told; and from time to time, for what had failed and for tables that an
//! earlier version made.

mod schema;
mod statements;

use catalog::{KeyType, Rule, ShardId, ShardMap};
use sql::quote_ident;
use topology::ClusterRecord;
use topology::records::{TableKind, TableRecord, TableState};

use super::OpError;
use super::check::borrowed;
use super::effects::{key_of, text_sql};
use super::join::try_join_all;
use super::part::{Part, shard_name};
use super::partitions::MEMBERS;
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::Cluster;
pub(super) use statements::floor_during;
pub(crate) use statements::{OWN, fence_of, stated};

/// Name of the trigger.
const TRIGGER: &str = "drover_guard";

/// Name of the constraint.
const RESIDENCY: &str = "drover_residency";

/// How long making one waits for statements that write the table.
const LOCK_TIMEOUT_MS: u32 = 500;

/// To run after the commit machine's own objects have been made, by the same role. Repeating it changes nothing.
pub(crate) const BOOTSTRAP: &[&str] = &[
    CREATE_FUNCTION,
    // Nobody else makes triggers of it.
    "REVOKE ALL ON FUNCTION drover_internal.misplaced() FROM PUBLIC",
    statements::CREATE_FUNCTION,
    "REVOKE ALL ON FUNCTION drover_internal.stated() FROM PUBLIC",
    schema::CREATE_FUNCTION,
    "REVOKE ALL ON FUNCTION drover_internal.schema_guard() FROM PUBLIC",
];

/// `23000` is integrity_constraint_violation.
const CREATE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION drover_internal.misplaced() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RAISE EXCEPTION 'a row of table \"%\" does not belong on this shard', TG_TABLE_NAME
        USING ERRCODE = '23000', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
              DETAIL = 'Its shard key is another shard''s.', HINT = 'Write to this table through Drover.';
END
$body$";

/// Makes the guards that are missing in a database, as the record has its tables. How many were missing; a table that is
/// in use is left for the next time.
pub(crate) async fn ensure(
    cluster: &Cluster,
    record: &ClusterRecord,
    database: &str,
) -> Result<usize, AdminError> {
    let tables = guarded(record, database);
    if tables.is_empty() {
        return Ok(0);
    }
    let shards = record.shards.iter().map(|shard| shard.id);
    let missing = try_join_all(shards.map(|shard| ensure_on(cluster, shard, database, &tables))).await?;
    Ok(missing.into_iter().sum())
}

/// Makes the guard of the schema where it is missing, in the transaction of whoever needs it.
pub(super) async fn ensure_schema_guard(part: &mut Part) -> Result<(), OpError> {
    match part.rows(schema::IS_MISSING).await?.is_empty() {
        true => Ok(()),
        false => part.run(&schema::create_sql()).await,
    }
}

/// What the rows of a shard have in common, as SQL.
pub(super) struct Owns {
    /// Of the row that a trigger looks at.
    pub(super) new_row: String,
    /// Of a row of the table, when no other may be there whoever writes it.
    pub(super) resident: Option<String>,
}

impl Owns {
    /// Of a shard; `key` are types and names of the key columns.
    pub(super) fn of(map: &ShardMap, shard: ShardId, key: &[(KeyType, &str)]) -> Owns {
        let new: Vec<(KeyType, String)> = key.iter().map(|(t, name)| (*t, new_column(name))).collect();
        let plain: Vec<(KeyType, String)> = key.iter().map(|(t, name)| (*t, quote_ident(name))).collect();
        let resident = keeps_residents(map).then(|| map.predicate_sql(shard, &borrowed(&plain)));
        Owns {
            new_row: map.predicate_sql(shard, &borrowed(&new)),
            resident,
        }
    }
}

/// What the guards of a table on one shard are like.
pub(super) struct Rules {
    /// Which rows it owns; `None` of a reference table.
    pub(super) owns: Option<Owns>,
    /// What sessions that write it have to state; [`floor_during`] a move.
    pub(super) floor: u64,
}

impl Rules {
    /// The statements that make the guards of a table, or of a partition of it, in the transaction of whoever runs them. Some
    /// may be there already. `leaf`: it has rows, and not only partitions that have some.
    pub(super) fn create_sql(&self, table: &str, leaf: bool) -> String {
        let kind = match &self.owns {
            Some(_) => statements::SHARDED,
            None => statements::REFERENCE,
        };
        let statements = statements::create_sql(table, kind, self.floor);
        let Some(owns) = self.owns.as_ref().filter(|_| leaf) else {
            return statements;
        };
        let rows = format!("{statements}; {}", create_trigger_sql(table, &owns.new_row));
        let Some(resident) = &owns.resident else {
            return rows;
        };
        // A table made LIKE another one has a copy of that one's constraint.
        format!(
            "{}; {rows}; ALTER TABLE {table} ADD CONSTRAINT {RESIDENCY} CHECK ({resident} IS TRUE); \
             UPDATE pg_catalog.pg_constraint SET conislocal = false, coninhcount = 1, convalidated = NOT ( \
                 SELECT relispartition FROM pg_catalog.pg_class WHERE oid = conrelid) \
             WHERE conrelid = {}::pg_catalog.regclass AND conname = '{RESIDENCY}'",
            drop_sql(table),
            text_sql(table)
        )
    }
}

fn create_trigger_sql(table: &str, owns: &str) -> String {
    let create = format!(
        "CREATE OR REPLACE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NOT {owns}) \
         EXECUTE FUNCTION drover_internal.misplaced()"
    );
    internal_sql(table, TRIGGER, &create)
}

/// The statement that makes a trigger, which is internal afterwards. Where one is there that somebody has switched off, this
/// one takes its place; that needs no stronger lock than to make it.
pub(super) fn internal_sql(table: &str, trigger: &str, create: &str) -> String {
    let table = text_sql(table);
    let mark = |internal: bool| {
        format!(
            "UPDATE pg_catalog.pg_trigger SET tgisinternal = {internal} \
             WHERE tgrelid = {table}::pg_catalog.regclass AND tgname = '{trigger}'"
        )
    };
    format!("{}; {create}; {}", mark(false), mark(true))
}

/// The statements that take the guards of a table away.
pub(super) fn drop_sql(table: &str) -> String {
    format!(
        "DROP TRIGGER IF EXISTS {TRIGGER} ON {table}; {}; \
         UPDATE pg_catalog.pg_constraint SET conislocal = true, coninhcount = 0 \
         WHERE conrelid = {}::pg_catalog.regclass AND conname = '{RESIDENCY}'; \
         ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {RESIDENCY}",
        statements::drop_sql(table),
        text_sql(table)
    )
}

/// A key column of the row that a trigger looks at.
fn new_column(column: &str) -> String {
    format!("NEW.{}", quote_ident(column))
}

/// Whether tables with this map have a constraint besides the trigger.
pub(super) fn keeps_residents(map: &ShardMap) -> bool {
    matches!(map.rule(), Rule::Nowhere(_))
}

/// A table that has guards.
pub(super) struct Guarded<'a> {
    table: &'a TableRecord,
    /// Who owns which rows; `None` of a reference table, of which everybody has all.
    owners: Option<Owners<'a>>,
    floor: u64,
}

struct Owners<'a> {
    key: Vec<(KeyType, &'a str)>,
    map: ShardMap,
}

impl<'a> Guarded<'a> {
    /// The table as the record has it.
    pub(super) fn of(record: &'a ClusterRecord, table: &'a TableRecord) -> Option<Guarded<'a>> {
        let owners = match &table.kind {
            TableKind::Reference => None,
            TableKind::Sharded {
                columns,
                key_types,
                map,
            } => Some(Owners {
                key: key_of(columns, key_types)?,
                map: record.map(*map)?.scheme.to_shard_map().ok()?,
            }),
        };
        Some(Guarded {
            table,
            owners,
            floor: fence_of(record),
        })
    }

    /// True of the rows of a shard and no others; never NULL. `None` of a reference table.
    pub(super) fn owns_row(&self, shard: ShardId) -> Option<String> {
        let owners = self.owners.as_ref()?;
        let key = owners
            .key
            .iter()
            .map(|(key_type, name)| (*key_type, quote_ident(name)));
        Some(
            owners
                .map
                .predicate_sql(shard, &borrowed(&key.collect::<Vec<_>>())),
        )
    }

    /// What is missing or switched off on this shard; `None`: nothing.
    pub(super) async fn missing(&self, part: &mut Part) -> Result<Option<String>, OpError> {
        let rows = part.rows(&unguarded_sql(std::slice::from_ref(self))).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().nth(2).flatten()))
    }

    /// The same for a change of this record that is under way: see [`floor_during`].
    pub(super) fn during(mut self, record: &ClusterRecord) -> Self {
        self.floor = floor_during(record);
        self
    }

    /// What its guards on a shard are like.
    pub(super) fn rules(&self, shard: ShardId) -> Rules {
        let owners = self.owners.as_ref();
        Rules {
            owns: owners.map(|owners| Owns::of(&owners.map, shard, &owners.key)),
            floor: self.floor,
        }
    }
}

/// Makes the guards of one table on one shard, if it can have its lock.
pub(super) async fn ensure_one(
    cluster: &Cluster,
    shard: ShardId,
    guarded: &Guarded<'_>,
) -> Result<(), OpError> {
    let made = ensure_on(
        cluster,
        shard,
        &guarded.table.database,
        std::slice::from_ref(guarded),
    )
    .await;
    made.map(|_| ()).map_err(OpError::on(&shard_name(cluster, shard)))
}

fn guarded<'a>(record: &'a ClusterRecord, database: &str) -> Vec<Guarded<'a>> {
    let active = |table: &&TableRecord| table.database == database && table.state == TableState::Active;
    let tables = record.tables.iter().filter(active);
    tables.filter_map(|table| Guarded::of(record, table)).collect()
}

async fn ensure_on(
    cluster: &Cluster,
    shard: ShardId,
    database: &str,
    tables: &[Guarded<'_>],
) -> Result<usize, AdminError> {
    let mut link = cluster.admin_link(shard, database).await?;
    let mut missing = 0;
    for row in link.rows(&unguarded_sql(tables)).await? {
        let [Some(at), Some(name), _, Some(leaf)] = row.as_slice() else {
            continue;
        };
        let Some(guarded) = at.parse().ok().and_then(|at: usize| tables.get(at)) else {
            continue;
        };
        missing += 1;
        let create = guarded.rules(shard).create_sql(name, leaf == "t");
        make(&mut link, shard, name, &create).await?;
    }
    // Behind the triggers that tell it which tables are meant.
    if link.value(schema::IS_MISSING).await?.is_some() {
        missing += 1;
        make(&mut link, shard, "the schema", &schema::create_sql()).await?;
    }
    Ok(missing)
}

/// Makes guards in a transaction of their own; what is in use is left for the next time.
async fn make(link: &mut AdminLink, shard: ShardId, of: &str, create: &str) -> Result<(), AdminError> {
    // Neither event triggers nor a time-out of the role's own has a say.
    let sql = format!(
        "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL statement_timeout = 0; \
         SET LOCAL client_min_messages = error; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; {create}; COMMIT"
    );
    match link.run(&sql).await {
        Err(AdminError::Server(fields)) => {
            link.run("ROLLBACK").await?;
            // Another proxy may have been faster.
            tracing::info!(%shard, %of, error = %fields.message, "a guard is missing and could not be made");
            Ok(())
        }
        other => other,
    }
}

/// Asks which of these tables lack a guard: their numbers, their names as SQL, and what they lack.
fn unguarded_sql(tables: &[Guarded<'_>]) -> String {
    let names: Vec<String> = tables
        .iter()
        .enumerate()
        .map(|(at, guarded)| {
            let (schema, name) = (text_sql(&guarded.table.schema), text_sql(&guarded.table.name));
            let owned = guarded.owners.is_some();
            let residents = guarded
                .owners
                .as_ref()
                .is_some_and(|owners| keeps_residents(&owners.map));
            format!("({at}, {schema}, {name}, {owned}, {residents})")
        })
        .collect();
    let has = |trigger: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = l.oid AND g.tgname = '{trigger}' \
             AND g.tgenabled IN ('O', 'A'))"
        )
    };
    format!(
        "SELECT at, name, lacks, leaf FROM (SELECT w.at, pg_catalog.format('%I.%I', ln.nspname, l.relname) AS name, l.relkind = 'r' AS leaf, \
         pg_catalog.concat_ws(', ', CASE WHEN w.owned AND l.relkind = 'r' AND NOT {} THEN 'of rows' END, \
             CASE WHEN NOT {} THEN 'of statements' END, \
             CASE WHEN w.residents AND l.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = l.oid \
                 AND k.conname = '{RESIDENCY}' AND NOT k.conislocal AND NOT (l.relispartition AND k.convalidated)) THEN 'of regions' END) AS lacks \
         FROM (VALUES {}) AS w(at, schema, name, owned, residents) \
         JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name {MEMBERS}) f \
         WHERE lacks <> '' ORDER BY at",
        has(TRIGGER),
        has(statements::TRIGGER),
        names.join(", ")
    )
}
