//! Global indexes: made and dropped (docs/decisions/0036).
//!
//! Everything is one transaction over all shards, while every proxy is paused: on each shard a table of entries, its
//! functions, and triggers on the indexed table that note what was changed ([`objects`]); the entries of the rows that are
//! there; and the cluster's record, by its journal. So an index is there with all its entries or not at all.

mod build;
mod check;
mod functions;
mod objects;
mod steps;

use catalog::{KeyShape, ShardId};
use plan::RefusalCode;
use sql::quote_ident;
use topology::records::{GlobalIndexRecord, Scheme, TableKind, TableRecord, TableState};
use topology::{ChangeGuard, ChangeScope, ClusterRecord};
use wire::backend::ErrorFields;

use super::check::borrowed;
use super::copy::copy;
use super::decide::{self, Entry, Parts};
use super::effects::text_sql;
use super::faults::{Faults, Step};
use super::join::{join_all, try_join_all};
use super::part::{Part, tag_count};
use super::{LOCK_TIMEOUT, OpError, guards, online};
use crate::admin_link::AdminError;
use crate::cluster::{Cluster, change_deadline};
pub(super) use build::run as run_online;
pub use check::{IndexReport, check_global_index};
pub(crate) use functions::NO_ENTRY;
use objects::Objects;
pub(crate) use objects::{APPLYING, ASKING, BOOTSTRAP, NOTING, PARAMETER, relation_name};
pub(crate) use steps::PROGRESS;

/// Types whose text depends on no setting, so that it names a value wherever it is read.
const INDEXED_TYPES: [&str; 7] = ["int2", "int4", "int8", "text", "varchar", "uuid", "bool"];

/// The same for the columns of the shard key, of which an index has a copy.
const KEY_TYPES: [&str; 8] = [
    "int2", "int4", "int8", "text", "varchar", "uuid", "bool", "numeric",
];

/// For smaller tables everybody waits, unless the operator says otherwise.
const ONLINE_BYTES_MIN: u64 = 8 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Database of the table.
    pub database: &'a str,
    /// Schema of the table.
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    /// The columns, in order.
    pub columns: &'a [String],
    /// What the index is called; `None`: as PostgreSQL would call it.
    pub name: Option<&'a str>,
    /// Whether values may be there once only; of an index that is there this says nothing.
    pub unique: bool,
    /// Whether it is made beside writers, or while everybody waits; `None`: as the table's size suggests.
    pub online: Option<bool>,
}

impl Wanted<'_> {
    fn title(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn table_sql(&self) -> String {
        format!("{}.{}", quote_ident(self.schema), quote_ident(self.table))
    }

    fn name(&self) -> String {
        let kind = if self.unique { "key" } else { "idx" };
        let made = || format!("{}_{}_{kind}", self.table, self.columns.join("_"));
        self.name.map_or_else(made, str::to_owned)
    }

    fn is(&self, index: &GlobalIndexRecord) -> bool {
        let table = (&*index.database, &*index.schema, &*index.table);
        table == (self.database, self.schema, self.table) && index.columns == self.columns
    }
}

/// Makes a global index. The statement that asked for this must not count as running meanwhile, because the cluster
/// is paused. `line` is told at most once per second how far it is.
pub async fn create_global_index(
    cluster: &Cluster,
    wanted: Wanted<'_>,
    line: &mut dyn FnMut(&str),
) -> Result<(), ErrorFields> {
    let faults = Faults::default();
    let made = async {
        let online = match wanted.online {
            Some(online) => online,
            None => is_large(cluster, &wanted).await?,
        };
        if online {
            run_online(cluster, &wanted, line, &faults).await
        } else {
            run(cluster, &wanted, Verb::Create, &faults).await
        }
    };
    made.await.map_err(OpError::into_fields)
}

/// Whether everybody would wait for long.
async fn is_large(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<bool, OpError> {
    judge(&cluster.record(), wanted, Verb::Create)?;
    let sql = format!(
        "SELECT pg_catalog.pg_table_size(pg_catalog.to_regclass({}))",
        text_sql(&wanted.table_sql())
    );
    let mut bytes = 0;
    for shard in &cluster.record().shards {
        let on = OpError::on(&shard.name);
        let mut link = cluster.admin_link(shard.id, wanted.database).await.map_err(&on)?;
        let size = link.value(&sql).await.map_err(&on)?;
        bytes += size.and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(bytes >= ONLINE_BYTES_MIN)
}

/// Drops a global index.
pub async fn drop_global_index(cluster: &Cluster, wanted: Wanted<'_>) -> Result<(), ErrorFields> {
    run(cluster, &wanted, Verb::Drop, &Faults::default())
        .await
        .map_err(OpError::into_fields)
}

/// Refuses what would take rows to places where the index of their table is not looked after.
pub(super) fn refuse_change(
    record: &ClusterRecord,
    (database, schema, table): (&str, &str, &str),
) -> Result<(), OpError> {
    let of = |index: &&GlobalIndexRecord| {
        (&*index.database, &*index.schema, &*index.table) == (database, schema, table)
    };
    match record.global_indexes.iter().find(of) {
        None => Ok(()),
        Some(index) => {
            let reason = format!("table {schema}.{table} has global index {}", index.name);
            Err(OpError::not_done(RefusalCode::IndexKept, reason, None))
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Drop,
}

pub(super) async fn run(
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    verb: Verb,
    faults: &Faults,
) -> Result<(), OpError> {
    // What can be said at once is said before anybody is paused.
    judge(&cluster.record(), wanted, verb)?;
    let stopped = verb == Verb::Drop && build::stop(cluster, wanted).await?;
    let mut guard = cluster.change_alone(ChangeScope::Everything).await?;
    let result = change(cluster, &mut guard, wanted, verb, faults).await;
    if matches!(result, Err(OpError::Died)) {
        return result;
    }
    if let Err(error) = guard.finish(change_deadline()).await {
        tracing::warn!(%error, table = %wanted.title(), "the change was not acknowledged by every proxy");
    }
    match result {
        // Whoever was making it has dropped it then.
        Err(error) if stopped && error.sqlstate() == Some("42704") => Ok(()),
        result => result,
    }
}

/// Whether the record allows it.
fn judge(record: &ClusterRecord, wanted: &Wanted<'_>, verb: Verb) -> Result<(), OpError> {
    let mut known = record.global_indexes.iter();
    match verb {
        Verb::Drop => match known.any(|index| wanted.is(index)) {
            true => Ok(()),
            false => {
                let columns = wanted.columns.join(", ");
                let text = format!("table {} has no global index on ({columns})", wanted.title());
                Err(OpError::refused("42704", text))
            }
        },
        Verb::Create => {
            let name = wanted.name();
            let taken = |index: &GlobalIndexRecord| {
                let same = (&*index.database, &*index.schema, &*index.name);
                same == (wanted.database, wanted.schema, &*name) || wanted.is(index)
            };
            // One that is being made, or was given up by a process that died, is found out about later.
            let half = |index: &GlobalIndexRecord| index.building && wanted.is(index);
            if known.any(|index| taken(index) && !half(index)) {
                return Err(OpError::refused(
                    "42P07",
                    format!("global index \"{name}\" already exists"),
                ));
            }
            sharded(record, wanted).map(drop)
        }
    }
}

fn shapeless(wanted: &Wanted<'_>, why: &str) -> OpError {
    let reason = format!("table {} cannot have this global index: {why}", wanted.title());
    OpError::not_done(RefusalCode::IndexShape, reason, None)
}

/// The table's record, with its key.
fn sharded<'a>(
    record: &'a ClusterRecord,
    wanted: &Wanted<'_>,
) -> Result<(&'a TableRecord, &'a [String]), OpError> {
    let table = record.table(wanted.database, wanted.schema, wanted.table);
    let Some(table) = table.filter(|table| table.state == TableState::Active) else {
        return Err(shapeless(wanted, "it is not sharded; an ordinary index will do"));
    };
    let TableKind::Sharded {
        columns, key_types, ..
    } = &table.kind
    else {
        return Err(shapeless(
            wanted,
            "it is a reference table; an ordinary index will do",
        ));
    };
    if columns.iter().all(|key| wanted.columns.contains(key)) {
        return Err(shapeless(
            wanted,
            "the columns contain the shard key; an ordinary index will do",
        ));
    }
    if let Some(other) = key_types.iter().find(|of| !KEY_TYPES.contains(&of.as_str())) {
        return Err(shapeless(wanted, &format!("its shard key is of type {other}")));
    }
    Ok((table, columns))
}

async fn change(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    wanted: &Wanted<'_>,
    verb: Verb,
    faults: &Faults,
) -> Result<(), OpError> {
    judge(guard.cluster(), wanted, verb)?;
    if verb == Verb::Create {
        build::clear(cluster, guard, wanted).await?;
    }
    let record = guard.cluster().clone();
    online::refuse_move_of(cluster, (wanted.database, wanted.schema, wanted.table)).await?;
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, wanted.database).await?,
        others: Vec::new(),
    };
    let made = match verb {
        Verb::Create => create(cluster, &record, &mut parts, wanted, faults)
            .await
            .map(Some),
        Verb::Drop => remove(cluster, &record, &mut parts, wanted).await.map(|()| None),
    };
    let index = match made {
        Ok(index) => index,
        Err(OpError::Died) => return Err(OpError::Died),
        Err(error) => {
            parts.roll_back().await;
            return Err(error);
        }
    };
    let edit = |record: &mut ClusterRecord| {
        record.global_indexes.retain(|known| !wanted.is(known));
        record.global_indexes.extend(index.clone());
        Ok(())
    };
    decide::commit(
        cluster,
        guard,
        parts,
        Entry::Change(wanted.database, &edit),
        faults,
    )
    .await
}

/// Opens the transactions of all other shards, and keeps writers away everywhere: also transactions in doubt.
async fn lock_all(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    mode: &str,
) -> Result<(), OpError> {
    let others = record.shards.iter().map(|shard| shard.id);
    let others = others.filter(|shard| *shard != record.home);
    let begun = join_all(others.map(|shard| Part::begin(cluster, shard, wanted.database))).await;
    parts.others = begun.into_iter().collect::<Result<_, _>>()?;
    let sql = format!(
        "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN {mode} MODE; SET LOCAL lock_timeout = 0",
        LOCK_TIMEOUT.as_millis(),
        wanted.table_sql()
    );
    for part in parts.all() {
        part.run(&sql).await.map_err(|error| match error.sqlstate() {
            Some("55P03") => OpError::refused_with(
                "55P03",
                format!("table {} is in use on {}", wanted.title(), part.name),
                "An open or prepared transaction holds a lock on it; nothing has changed.",
            ),
            _ => error,
        })?;
    }
    Ok(())
}

/// Everything but the commit.
async fn create(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    faults: &Faults,
) -> Result<GlobalIndexRecord, OpError> {
    let (_, key) = sharded(record, wanted)?;
    let index = place(cluster, record, parts, wanted, faults, false).await?;
    fill(parts, &index, key).await?;
    let indexed = objects::index_sql(&index, key);
    let made = try_join_all(parts.all().map(|part| part.run(&indexed))).await;
    made.map_err(|error| in_its_name(error, &index))?;
    verify(parts, &index).await?;
    faults.reached(Step::Moved).await?;
    Ok(index)
}

/// Makes the table of entries, empty, with its functions and the triggers that tell of changes.
async fn place(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
    faults: &Faults,
    building: bool,
) -> Result<GlobalIndexRecord, OpError> {
    lock_all(cluster, record, parts, wanted, "SHARE ROW EXCLUSIVE").await?;
    let (_, key) = sharded(record, wanted)?;
    let key_types = look(&mut parts.home, wanted).await?;
    let index = GlobalIndexRecord {
        building,
        ..describe(record, wanted, key_types)?
    };
    faults.reached(Step::Locked).await?;
    for part in parts.all() {
        guards::ensure_schema_guard(part).await?;
        part.run(&objects::table_sql(&index, key)).await?;
        let types = objects::types(part, &index).await?;
        let objects = Objects::new(&index, key, &types)
            .ok_or_else(|| part.failed(AdminError::State("the entries have other columns".to_owned())))?;
        part.run(&objects.create_sql()).await?;
        if building {
            part.run(&objects.build_sql(key)).await?;
        }
    }
    Ok(index)
}

fn describe(
    record: &ClusterRecord,
    wanted: &Wanted<'_>,
    key_types: Vec<String>,
) -> Result<GlobalIndexRecord, OpError> {
    let shards: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let scheme = Scheme::even_hash(&shards);
    let scheme = scheme.map_err(|error| OpError::refused("XX000", error.to_string()))?;
    // No two changes of the record have the same epoch.
    let id = u32::try_from(record.epoch.0)
        .map_err(|_| OpError::refused("54000", "global indexes have run out of numbers"))?;
    Ok(GlobalIndexRecord {
        id,
        database: wanted.database.to_owned(),
        schema: wanted.schema.to_owned(),
        table: wanted.table.to_owned(),
        name: wanted.name(),
        columns: wanted.columns.to_vec(),
        key_types,
        scheme,
        unique: wanted.unique,
        building: false,
    })
}

/// Looks at the table and its columns on the home shard. Gives the columns' types.
async fn look(home: &mut Part, wanted: &Wanted<'_>) -> Result<Vec<String>, OpError> {
    let table = text_sql(&wanted.table_sql());
    let sql = format!(
        "SELECT (c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition AND NOT c.relhassubclass \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid)), \
             pg_catalog.to_regclass({}) IS NOT NULL \
         FROM pg_catalog.pg_class c WHERE c.oid = {table}::pg_catalog.regclass",
        text_sql(&format!(
            "{}.{}",
            quote_ident(wanted.schema),
            quote_ident(&wanted.name())
        ))
    );
    match home.rows(&sql).await?.first().map(Vec::as_slice) {
        Some([Some(plain), Some(taken)]) if plain == "t" && taken == "f" => {}
        Some([Some(plain), _]) if plain == "t" => {
            return Err(OpError::refused(
                "42P07",
                format!("relation \"{}\" already exists", wanted.name()),
            ));
        }
        _ => {
            return Err(shapeless(
                wanted,
                "it is unlogged, partitioned, or takes part in inheritance",
            ));
        }
    }
    let mut types = Vec::new();
    for column in wanted.columns {
        let sql = format!(
            "SELECT t.typname, coalesce(l.collisdeterministic, true) FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation \
             WHERE a.attrelid = {table}::pg_catalog.regclass AND a.attname = {} AND a.attnum > 0 AND NOT a.attisdropped \
                 AND t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace",
            text_sql(column)
        );
        let known = |of: &str| INDEXED_TYPES.contains(&of);
        match home.rows(&sql).await?.first().map(Vec::as_slice) {
            Some([Some(of), Some(same)]) if known(of) && same == "t" => types.push(of.clone()),
            Some(_) => {
                let why = format!("column {column} has a type or collation that is not handled");
                return Err(shapeless(wanted, &why));
            }
            None => {
                let text = format!("column \"{column}\" of {} has no indexable type", wanted.title());
                return Err(OpError::refused("42703", text));
            }
        }
    }
    Ok(types)
}

/// True of the rows whose entries are on a shard.
fn owns_sql(index: &GlobalIndexRecord, shard: ShardId) -> Result<String, OpError> {
    let state = |what: String| OpError::refused("XX000", what);
    let map = index
        .scheme
        .to_shard_map()
        .map_err(|error| state(error.to_string()))?;
    let shape = KeyShape::named(&index.key_types.join(","));
    let shape = shape.ok_or_else(|| state("the columns of the index have no shape".to_owned()))?;
    let names = index.columns.iter().map(|name| quote_ident(name));
    let columns: Vec<_> = shape.types().iter().copied().zip(names).collect();
    Ok(map.predicate_sql(shard, &borrowed(&columns)))
}

/// Makes the entries of the rows that are there, each on its shard.
async fn fill(parts: &mut Parts, index: &GlobalIndexRecord, key: &[String]) -> Result<(), OpError> {
    let mut all: Vec<&mut Part> = parts.all().collect();
    let into = format!("COPY {} FROM STDIN", relation_name(index.id));
    for from in 0..all.len() {
        for to in 0..all.len() {
            let rows = objects::rows_sql(index, key, &owns_sql(index, all[to].shard)?);
            if from == to {
                let insert = format!("INSERT INTO {} {rows}", relation_name(index.id));
                all[from].run(&insert).await?;
            } else if let Ok([source, target]) = all.get_disjoint_mut([from, to]) {
                let select = format!("COPY ({rows}) TO STDOUT");
                copy(source, &mut [target], &select, &into, &mut |_| {}).await?;
            }
        }
    }
    Ok(())
}

/// As many entries as rows that have one.
async fn verify(parts: &mut Parts, index: &GlobalIndexRecord) -> Result<(), OpError> {
    let (mut rows, mut entries) = (0, 0);
    for part in parts.all() {
        let [here, there] = part.counts(&objects::counts_sql(index)).await?;
        rows += here;
        entries += there;
    }
    if rows == entries {
        return Ok(());
    }
    let what = format!("the index has {entries} entries of {rows} rows");
    Err(parts.home.failed(AdminError::State(what)))
}

async fn remove(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    wanted: &Wanted<'_>,
) -> Result<(), OpError> {
    lock_all(cluster, record, parts, wanted, "ACCESS EXCLUSIVE").await?;
    let index = record.global_indexes.iter().find(|index| wanted.is(index));
    let Some(index) = index else {
        return Err(OpError::refused("42704", "the global index is gone"));
    };
    for part in parts.all() {
        let dropped = part.tag(&objects::drop_sql(index)).await?;
        if tag_count(&dropped) != Some(1) {
            return Err(part.failed(AdminError::State(format!("it did not know index {}", index.name))));
        }
    }
    Ok(())
}

/// What PostgreSQL says of the index on a shard, said of the index over all of them.
fn in_its_name(error: OpError, index: &GlobalIndexRecord) -> OpError {
    match error {
        OpError::Shard {
            source: AdminError::Server(mut fields),
            ..
        } if fields.code == "23505" => {
            fields.position = None;
            let named = Named {
                schema: &index.schema,
                table: &index.table,
                name: &index.name,
                id: index.id,
            };
            named.rename(&mut fields);
            OpError::Refused(fields)
        }
        other => other,
    }
}

/// A global index as messages name it.
pub(crate) struct Named<'a> {
    pub(crate) schema: &'a str,
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
    pub(crate) id: u32,
}

impl Named<'_> {
    /// Puts the index's own name, and its table's, in the place of those of the objects on a shard.
    pub(crate) fn rename(&self, fields: &mut ErrorFields) {
        let inner = format!("\"{}\"", objects::entries_index(self.id));
        fields.message = fields.message.replace(&inner, &format!("\"{}\"", self.name));
        // Fields of an error: schema, table, constraint; where in which function.
        fields.other.retain(|(field, _)| *field != b'W');
        for (field, text) in &mut fields.other {
            match field {
                b's' => self.schema.clone_into(text),
                b't' => self.table.clone_into(text),
                b'n' => self.name.clone_into(text),
                _ => {}
            }
        }
    }
}
