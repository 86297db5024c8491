//! The rows of one key, of all tables of its map in one database, from one shard to another.

use catalog::ShardId;
use topology::records::{TableKind, TableRecord};
use topology::{ChangeGuard, ClusterRecord};

use super::{Change, in_use, is_key_sql, lock_sql, name_sql};
use crate::admin_link::AdminError;
use crate::cluster::Cluster;
use crate::ops::OpError;
use crate::ops::copy::copy;
use crate::ops::decide::{self, Entry, Parts};
use crate::ops::effects::text_sql;
use crate::ops::faults::{Faults, Step};
use crate::ops::guards::Guarded;
use crate::ops::join::try_join_all;
use crate::ops::part::{Part, tag_count};
use crate::ops::partitions;

/// Moves the rows, makes the guards anew, and commits both with the change of the record.
pub(super) async fn run(
    cluster: &Cluster,
    guard: &mut ChangeGuard,
    (database, tables): (&str, &[&TableRecord]),
    change: &Change,
    faults: &Faults,
) -> Result<(), OpError> {
    let record = guard.cluster().clone();
    let mut parts = Parts {
        home: Part::begin(cluster, record.home, database).await?,
        others: Vec::new(),
    };
    match move_all(cluster, &record, &mut parts, tables, change, faults).await {
        Ok(()) => {}
        Err(OpError::Died) => return Err(OpError::Died),
        Err(error) => {
            parts.roll_back().await;
            return Err(error);
        }
    }
    let edit = |record: &mut ClusterRecord| {
        change.apply(record);
        Ok(())
    };
    let entry = Entry::Change(database, &edit);
    decide::commit(cluster, guard, parts, entry, faults).await
}

/// Everything but the commit.
async fn move_all(
    cluster: &Cluster,
    record: &ClusterRecord,
    parts: &mut Parts,
    tables: &[&TableRecord],
    change: &Change,
    faults: &Faults,
) -> Result<(), OpError> {
    let (from, to) = change.shards;
    let database = tables.first().map_or("", |table| table.database.as_str());
    let others = [from, to].into_iter().filter(|shard| *shard != record.home);
    parts.others = try_join_all(others.map(|shard| Part::begin(cluster, shard, database))).await?;
    let [source, target] = pair(parts, from, to)?;
    for table in tables {
        for part in [&mut *source, &mut *target] {
            let locked = part.run(&lock_sql(&name_sql(table))).await;
            locked.map_err(|error| in_use(cluster, part.shard, table, error))?;
        }
    }
    faults.reached(Step::Locked).await?;
    let mut after = record.clone();
    change.apply(&mut after);
    for table in tables {
        for part in [&mut *source, &mut *target] {
            partitions::unguard(part, &name_sql(table)).await?;
        }
        carry(source, target, change, table).await?;
    }
    for table in tables {
        seal(source, target, &after, table).await?;
    }
    faults.reached(Step::Moved).await
}

/// The two parts between which rows go.
fn pair(parts: &mut Parts, from: ShardId, to: ShardId) -> Result<[&mut Part; 2], OpError> {
    let (mut source, mut target) = (None, None);
    for part in parts.all() {
        if part.shard == from {
            source = Some(part);
        } else if part.shard == to {
            target = Some(part);
        }
    }
    match (source, target) {
        (Some(source), Some(target)) => Ok([source, target]),
        _ => Err(OpError::refused("XX000", "a shard of the key is not there")),
    }
}

/// The key columns of a sharded table.
fn key_columns(table: &TableRecord) -> &[String] {
    match &table.kind {
        TableKind::Sharded { columns, .. } => columns,
        TableKind::Reference => &[],
    }
}

/// Copies one table's rows of the key, and deletes them where they were.
async fn carry(
    source: &mut Part,
    target: &mut Part,
    change: &Change,
    table: &TableRecord,
) -> Result<(), OpError> {
    let name = name_sql(table);
    let is_key = is_key_sql(change, key_columns(table))?;
    let count = format!("SELECT pg_catalog.count(*) FROM {name} WHERE {is_key}");
    let [rows] = source.counts(&count).await?;
    let [strays] = target.counts(&count).await?;
    if strays > 0 {
        return Err(OpError::refused_with(
            "55000",
            format!(
                "{} has {strays} rows of table {} with this key already, which belong on {}",
                target.name, table.name, source.name
            ),
            "See drover.check_tables(); nothing has changed.",
        ));
    }
    if rows == 0 {
        return Ok(());
    }
    let columns = columns_sql(source, &name).await?;
    let select = format!("COPY (SELECT {columns} FROM {name} WHERE {is_key}) TO STDOUT");
    let into = format!("COPY {name} ({columns}) FROM STDIN");
    let copied = copy(source, &mut [target], &select, &into, &mut |_| {}).await?;
    let deleted = source.tag(&format!("DELETE FROM {name} WHERE {is_key}")).await?;
    let [arrived] = target.counts(&count).await?;
    if copied == rows && arrived == rows && tag_count(&deleted) == Some(rows) {
        return Ok(());
    }
    let what =
        format!("{copied} of {rows} rows were copied, {arrived} arrived, and the answer was {deleted}");
    Err(source.failed(AdminError::State(what)))
}

/// Columns with values of their own, as SQL.
async fn columns_sql(part: &mut Part, table: &str) -> Result<String, OpError> {
    let sql = format!(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute \
         WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        text_sql(table)
    );
    let rows = part.rows(&sql).await?;
    let columns = rows.into_iter().flatten().flatten().next();
    columns.ok_or_else(|| part.failed(AdminError::State(format!("{table} has no columns"))))
}

/// Makes the guards of the changed map.
async fn seal(
    source: &mut Part,
    target: &mut Part,
    after: &ClusterRecord,
    table: &TableRecord,
) -> Result<(), OpError> {
    let name = name_sql(table);
    let guarded = Guarded::of(after, table).map(|guarded| guarded.during(after));
    let Some(guarded) = guarded else {
        return Err(source.failed(AdminError::State(format!("the map of {name} cannot be read"))));
    };
    for part in [source, target] {
        let rules = guarded.rules(part.shard);
        partitions::guard(part, &name, &rules).await?;
    }
    Ok(())
}
