//! Tables that have other names at the end of a transaction than at its beginning.
//!
//! A transaction may rename a table several times, swap two, drop one and give another its name, or roll some of that
//! back to a savepoint. So names are never taken from statements: the OID tells which table was meant, and the home
//! shard says, within the transaction, what it is called now. All tables get their new names at once.

use catalog::Oid;
use plan::{MetadataEffect, RenamedTable};
use topology::ClusterRecord;
use topology::records::TableKind;

use super::OpError;
use super::effects::{Resolver, TableChange, text_of_hex, text_sql};

/// A table of the record, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Renamed {
    /// Schema and name as recorded.
    from: (String, String),
    oid: u32,
    /// As it is now; `None`: it is gone.
    now: Option<Now>,
}

/// What a table is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) schema: String,
    pub(super) name: String,
    /// Its key columns, in order.
    pub(super) columns: Vec<String>,
}

/// The renamed tables that the record has, not those that the transaction has made itself.
pub(super) async fn resolve(
    resolver: &mut Resolver<'_>,
    effects: &[MetadataEffect],
) -> Result<Option<TableChange>, OpError> {
    let mut seen: Vec<Oid> = Vec::new();
    let mut list = Vec::new();
    for (at, effect) in effects.iter().enumerate() {
        let MetadataEffect::Renamed { tables } = effect else {
            continue;
        };
        for table in tables {
            if seen.contains(&table.oid) {
                continue;
            }
            seen.push(table.oid);
            let made_here = effects[..at].iter().any(|effect| creates(effect, table));
            if !made_here {
                list.push(Renamed {
                    from: (table.schema.clone(), table.name.clone()),
                    oid: table.oid.0,
                    now: now(resolver, table).await?,
                });
            }
        }
    }
    Ok((!list.is_empty()).then_some(TableChange::Renamed(list)))
}

/// What a table that this effect has made is called after all of the later ones, if one of them names it.
pub(super) async fn later_name(
    resolver: &mut Resolver<'_>,
    created: &MetadataEffect,
    later: &[MetadataEffect],
) -> Result<Option<(Oid, Now)>, OpError> {
    let mut tables = later.iter().flat_map(|effect| match effect {
        MetadataEffect::Renamed { tables } => tables.as_slice(),
        _ => &[],
    });
    let Some(table) = tables.find(|table| creates(created, table)) else {
        return Ok(None);
    };
    Ok(now(resolver, table).await?.map(|now| (table.oid, now)))
}

fn creates(effect: &MetadataEffect, renamed: &RenamedTable) -> bool {
    match effect {
        MetadataEffect::CreateSharded { table, .. }
        | MetadataEffect::CreateReference { table }
        | MetadataEffect::CreatePlaced { table, .. } => {
            let schema = table.schema.as_ref();
            table.name == renamed.name && schema.is_none_or(|schema| *schema == renamed.schema)
        }
        _ => false,
    }
}

pub(super) async fn now(resolver: &mut Resolver<'_>, table: &RenamedTable) -> Result<Option<Now>, OpError> {
    let hex = |name: &str| format!("pg_catalog.encode(pg_catalog.convert_to({name}, 'UTF8'), 'hex')");
    let key: Vec<String> = table.key.iter().map(ToString::to_string).collect();
    let sql = format!(
        "SELECT {}, {}, coalesce((SELECT pg_catalog.string_agg({}, ',' ORDER BY k.at) \
             FROM pg_catalog.unnest('{{{}}}'::int2[]) WITH ORDINALITY AS k(attnum, at) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum), '') \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}",
        hex("n.nspname"),
        hex("c.relname"),
        hex("a.attname"),
        key.join(","),
        table.oid
    );
    let rows = resolver.rows(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let unreadable = || OpError::refused("XX000", "the answer about a table cannot be read");
    let [Some(schema), Some(name), Some(columns)] = row.as_slice() else {
        return Err(unreadable());
    };
    let columns = columns.split(',').filter(|column| !column.is_empty());
    Ok(Some(Now {
        schema: text_of_hex(schema).ok_or_else(unreadable)?,
        name: text_of_hex(name).ok_or_else(unreadable)?,
        columns: columns
            .map(|column| text_of_hex(column).ok_or_else(unreadable))
            .collect::<Result<_, _>>()?,
    }))
}

/// Gives all of them their names at once. A table that is gone is no longer recorded. May be repeated: the OID says
/// which tables have been given their names already.
pub(super) fn apply(list: &[Renamed], database: &str, record: &mut ClusterRecord) {
    record.tables.retain_mut(|table| {
        if table.database != database {
            return true;
        }
        let known = list.iter().find(|renamed| renamed.oid == table.home_oid);
        let named = || {
            list.iter()
                .find(|renamed| (&renamed.from.0, &renamed.from.1) == (&table.schema, &table.name))
        };
        let Some(renamed) = known.or_else(named) else {
            return true;
        };
        let Some(now) = &renamed.now else {
            return false;
        };
        table.schema.clone_from(&now.schema);
        table.name.clone_from(&now.name);
        table.home_oid = renamed.oid;
        if let TableKind::Sharded { columns, .. } = &mut table.kind
            && columns.len() == now.columns.len()
        {
            columns.clone_from(&now.columns);
        }
        true
    });
}

/// Whether a schema has got another name: functions declared local that were in it are recorded under the new one.
pub(super) async fn schema(
    resolver: &mut Resolver<'_>,
    record: &ClusterRecord,
    from: &str,
    to: &str,
) -> Result<Option<TableChange>, OpError> {
    let functions = record.declared_local.iter().any(|f| f.schema == from);
    let placed = record.placed_schemas.iter().any(|placed| placed.schema == from);
    if !(functions || placed) || schema_exists(resolver, from).await? {
        return Ok(None);
    }
    Ok(Some(TableChange::Schema {
        from: from.to_owned(),
        to: to.to_owned(),
    }))
}

/// Whether there is a schema of this name.
pub(super) async fn schema_exists(resolver: &mut Resolver<'_>, name: &str) -> Result<bool, OpError> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {}",
        text_sql(name)
    );
    Ok(!resolver.rows(&sql).await?.is_empty())
}

/// Moves the functions of a schema, and the place of its new tables.
pub(super) fn apply_schema(record: &mut ClusterRecord, database: &str, from: &str, to: &str) {
    for function in &mut record.declared_local {
        if function.database == database && function.schema == from {
            to.clone_into(&mut function.schema);
        }
    }
    for placed in &mut record.placed_schemas {
        if placed.database == database && placed.schema == from {
            to.clone_into(&mut placed.schema);
        }
    }
}
