//! Partitions of sharded tables: found by the catalog of each shard, never by the record.
//!
//! The record names the table that is partitioned. What is done to it once per table that has rows (guards, counting, making
//! it elsewhere) is done to its *leaves*; a table without partitions is its only leaf.

use catalog::Oid;
use plan::{MetadataEffect, PartitionName, RefusalCode, RenamedTable};
use topology::ClusterRecord;

use super::OpError;
use super::effects::{
    NewKind, NewTable, Resolver, TableChange, key_type_of, key_type_sql, shape_of, text_sql,
};
use super::guards::{self, Rules};
use super::part::Part;
use super::renames;
use crate::admin_link::{AdminError, AdminLink};

/// Table `c` of an outer query with its partitions of all levels, as `l` of `pg_class` in schema `ln`.
pub(super) const MEMBERS: &str = "CROSS JOIN LATERAL (SELECT c.oid WHERE c.relkind = 'r' UNION ALL SELECT t.relid::pg_catalog.oid \
     FROM pg_catalog.pg_partition_tree(CASE c.relkind WHEN 'p' THEN c.oid END) t) AS m(oid) \
     JOIN pg_catalog.pg_class l ON l.oid = m.oid AND l.relkind IN ('r', 'p') \
     JOIN pg_catalog.pg_namespace ln ON ln.oid = l.relnamespace";

/// The partitions of a table, in an order in which they can be made, the table itself first.
pub(super) async fn members(part: &mut Part, table: Oid) -> Result<Vec<Oid>, OpError> {
    let sql = format!(
        "SELECT c.oid FROM (SELECT {table}::pg_catalog.oid AS oid, -1 AS level UNION ALL SELECT relid::pg_catalog.oid, level \
               FROM pg_catalog.pg_partition_tree({table}) WHERE relid <> {table}) m \
         JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         ORDER BY m.level, n.nspname, c.relname"
    );
    let rows = part.rows(&sql).await?;
    let member = |row: Vec<Option<String>>| row.into_iter().next()??.parse().ok().map(Oid);
    let members: Option<Vec<Oid>> = rows.into_iter().map(member).collect();
    members.ok_or_else(|| part.failed(AdminError::State("the partitions cannot be read".to_owned())))
}

/// A table and its partitions as SQL, each with whether it has rows of its own.
async fn named(part: &mut Part, sql_name: &str) -> Result<Vec<(String, bool)>, OpError> {
    let sql = format!(
        "SELECT pg_catalog.format('%I.%I', ln.nspname, l.relname), l.relkind = 'r' FROM pg_catalog.pg_class c {MEMBERS} \
         WHERE c.oid = {}::pg_catalog.regclass ORDER BY 1",
        text_sql(sql_name)
    );
    let rows = part.rows(&sql).await?.into_iter();
    let member = |row: Vec<Option<String>>| match row.as_slice() {
        [Some(name), Some(leaf)] => Some((name.clone(), leaf == "t")),
        _ => None,
    };
    Ok(rows.filter_map(member).collect())
}

/// Makes the guards of a table that may have some.
pub(super) async fn guard(part: &mut Part, sql_name: &str, rules: &Rules) -> Result<(), OpError> {
    for (member, leaf) in named(part, sql_name).await? {
        part.run(&rules.create_sql(&member, leaf)).await?;
    }
    Ok(())
}

/// Takes the guards of a table away.
pub(super) async fn unguard(part: &mut Part, sql_name: &str) -> Result<(), OpError> {
    for (member, _) in named(part, sql_name).await? {
        part.run(&guards::drop_sql(&member)).await?;
    }
    Ok(())
}

/// What keeps the partitions of a table from being made on every shard alike; `None` for one without partitions.
pub(super) async fn obstacle(
    link: &mut AdminLink,
    home: &str,
    table: Oid,
) -> Result<Option<String>, OpError> {
    let sql = format!(
        "SELECT CASE WHEN c.relkind NOT IN ('r', 'p') THEN pg_catalog.format('partition %s is a foreign table', c.oid::pg_catalog.regclass) \
                     ELSE pg_catalog.format('%s is partitioned by the hash of an expression or of a type that is not built in', \
                         c.oid::pg_catalog.regclass) END \
         FROM pg_catalog.pg_partition_tree({table}) t JOIN pg_catalog.pg_class c ON c.oid = t.relid \
         LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid AND p.partstrat = 'h' \
         WHERE c.relkind NOT IN ('r', 'p') OR EXISTS (SELECT FROM pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k(attnum) \
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0 \
             WHERE a.atttypid IS NULL OR a.atttypid >= 16384) LIMIT 1"
    );
    link.value(&sql).await.map_err(OpError::on(home))
}

/// What has become of a table that was attached or detached, at the end of the transaction.
pub(super) async fn resolve(
    resolver: &mut Resolver<'_>,
    table: &PartitionName,
    root: &RenamedTable,
    record: &ClusterRecord,
    later: &[MetadataEffect],
) -> Result<Option<TableChange>, OpError> {
    let known = match table {
        PartitionName::New(name) => {
            // One that is gone again, or has another name by now, is found by later effects if at all.
            let Some(found) = resolver.find(name).await? else {
                return Ok(None);
            };
            // IF NOT EXISTS may have met a table that was made a moment ago and is nobody's partition.
            return match root_of(resolver, found.oid).await? {
                Some(of) if of == root.oid => Ok(None),
                _ if later.iter().any(|effect| names(effect, found.oid)) => Ok(None),
                _ => Err(OpError::not_done(
                    RefusalCode::PartitionPlace,
                    format!("{name} is no partition of {}.{}", root.schema, root.name),
                    None,
                )),
            };
        }
        PartitionName::Known(known) => known,
    };
    let Some(now) = renames::now(resolver, known).await? else {
        return resolver.dropped(&known.schema, &known.name).await.map(Some);
    };
    if root_of(resolver, known.oid).await?.is_some() {
        return Ok(Some(TableChange::Remove {
            schema: now.schema,
            name: now.name,
            unless_oid: None,
        }));
    }
    if record.table(resolver.database, &now.schema, &now.name).is_some() {
        return Ok(None);
    }
    let of = renames::now(resolver, root).await?;
    let of = of.map_or_else(
        || (root.schema.clone(), root.name.clone()),
        |of| (of.schema, of.name),
    );
    let placed = record.table(resolver.database, &of.0, &of.1);
    let kind = match placed.and_then(|root| record.place_of(&root.kind)) {
        Some(shard) => NewKind::Placed { shard },
        None => like(resolver, known.oid, now.columns, of).await?,
    };
    Ok(Some(TableChange::Add(NewTable {
        database: resolver.database.to_owned(),
        schema: now.schema,
        name: now.name,
        home_oid: known.oid,
        kind,
    })))
}

/// Sharded by these columns as another table is.
async fn like(
    resolver: &mut Resolver<'_>,
    table: Oid,
    columns: Vec<String>,
    of: (String, String),
) -> Result<NewKind, OpError> {
    let mut types = Vec::with_capacity(columns.len());
    for column in &columns {
        let rows = resolver.rows(&key_type_sql(table, column)).await?;
        types.push(key_type_of(rows.first().map(Vec::as_slice), column)?);
    }
    Ok(NewKind::Sharded {
        columns,
        shape: shape_of(types)?,
        colocate_with: Some(of),
        scheme: None,
        salt: None,
    })
}

/// Whether some effect is about partitions: they need guards although the record does not change.
pub(super) fn concerned(effects: &[MetadataEffect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, MetadataEffect::Partitioned { .. }))
}

fn names(effect: &MetadataEffect, table: Oid) -> bool {
    let MetadataEffect::Partitioned { table: named, .. } = effect else {
        return false;
    };
    matches!(named, PartitionName::Known(known) if known.oid == table)
}

/// What a table is a partition of, through all levels.
async fn root_of(resolver: &mut Resolver<'_>, table: Oid) -> Result<Option<Oid>, OpError> {
    let sql = format!(
        "SELECT pg_catalog.pg_partition_root(oid)::pg_catalog.oid FROM pg_catalog.pg_class WHERE oid = {table} AND relispartition"
    );
    let rows = resolver.rows(&sql).await?;
    let root = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    Ok(root.map(Oid))
}
