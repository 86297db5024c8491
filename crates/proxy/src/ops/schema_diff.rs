//! Where the schemas of the shards differ from the home shard's.
//!
//! Every shard is asked for an inventory: kind, name and definition of each object that all shards should have. A
//! definition is the statement that makes the object, as PostgreSQL prints it, so that what is missing can be made by
//! running the home shard's. Objects of the home shard alone (unsharded tables and whatever refers to them) are not in its
//! inventory.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Oid;
use catalog::ddl::{assemble, table_ddl_queries};
use topology::ClusterRecord;
use topology::records::TableState;
use wire::backend::ErrorFields;

use super::OpError;
use super::effects::text_sql;
use super::join::{join_all, try_join_all};
use super::part::Part;
use crate::cluster::Cluster;

mod inventory;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaDifference {
    /// Name of the shard that differs.
    pub shard: String,
    /// What kind of object: `table`, `column`, `index` …
    pub kind: String,
    /// Its name, with that of its table.
    pub name: String,
    /// `missing`, `different` or `extra`.
    pub difference: &'static str,
    /// The statements that make it as it is on the home shard; `None` for what is extra.
    pub ddl: Option<String>,
    /// As it is on the shard; `None` for what is missing.
    pub found: Option<String>,
}

/// Objects by kind and name.
type Inventory = BTreeMap<(String, String), String>;

/// Compares the schemas of all shards with the home shard's.
pub async fn schema_diff(cluster: &Cluster, database: &str) -> Result<Vec<SchemaDifference>, ErrorFields> {
    run(cluster, database).await.map_err(OpError::into_fields)
}

async fn run(cluster: &Cluster, database: &str) -> Result<Vec<SchemaDifference>, OpError> {
    let record = cluster.record();
    let others = record.shards.iter().map(|shard| shard.id);
    let others = others.filter(|shard| *shard != record.home);
    let all = std::iter::once(record.home).chain(others);
    let mut parts = try_join_all(all.map(|shard| Part::begin(cluster, shard, database))).await?;
    let result = compare(&record, database, &mut parts).await;
    join_all(parts.into_iter().map(Part::roll_back)).await;
    result
}

async fn compare(
    record: &ClusterRecord,
    database: &str,
    parts: &mut [Part],
) -> Result<Vec<SchemaDifference>, OpError> {
    let tables = record.tables.iter();
    let tables = tables.filter(|table| table.database == database && table.state == TableState::Active);
    let tables: Vec<String> = tables
        .map(|table| format!("({}, {})", text_sql(&table.schema), text_sql(&table.name)))
        .collect();
    let Some((home, others)) = parts.split_first_mut() else {
        return Ok(Vec::new());
    };
    let ours = inventory_of(home, &inventory::sql(&tables, None)).await?;
    let roles = ours.keys().filter(|(kind, _)| kind == "role");
    let roles: Vec<String> = roles.map(|(_, name)| text_sql(name)).collect();
    let sql = inventory::sql(&tables, Some(&roles));
    let inventories = try_join_all(others.iter_mut().map(|part| inventory_of(part, &sql))).await?;
    let mut differences = Vec::new();
    for (part, theirs) in others.iter().zip(&inventories) {
        differences.extend(between(&part.name, &ours, theirs));
    }
    let missing = differences
        .iter_mut()
        .filter(|d| d.kind == "table" && d.difference == "missing");
    for table in missing {
        table.ddl = Some(table_ddl(home, &table.name).await?);
    }
    Ok(differences)
}

async fn inventory_of(part: &mut Part, sql: &str) -> Result<Inventory, OpError> {
    let rows = part.rows(sql).await?;
    let items = rows.into_iter().filter_map(|row| {
        let mut row = row.into_iter();
        Some(((row.next()??, row.next()??), row.next()??))
    });
    Ok(items.collect())
}

fn between(shard: &str, ours: &Inventory, theirs: &Inventory) -> Vec<SchemaDifference> {
    let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    // What belongs to a table that is not there says nothing more.
    let tables: Vec<&str> = names
        .iter()
        .filter(|key| key.0 == "table" && ours.contains_key(**key) != theirs.contains_key(**key))
        .map(|key| key.1.as_str())
        .collect();
    let of_table = |name: &str| {
        tables.iter().any(|table| {
            name.strip_prefix(table)
                .is_some_and(|rest| rest.starts_with([' ', '.']))
        })
    };
    let mut differences = Vec::new();
    for key in names {
        let (our, their) = (ours.get(key), theirs.get(key));
        let difference = match (our, their) {
            (Some(_), None) => "missing",
            (None, Some(_)) => "extra",
            (Some(our), Some(their)) if our != their => "different",
            _ => continue,
        };
        if key.0 != "table" && of_table(&key.1) {
            continue;
        }
        differences.push(SchemaDifference {
            shard: shard.to_owned(),
            kind: key.0.clone(),
            name: key.1.clone(),
            difference,
            ddl: our.cloned(),
            found: their.cloned(),
        });
    }
    // Everything else may need them.
    differences.sort_by_key(|difference| match difference.kind.as_str() {
        "role" => 0,
        "role membership" | "role setting" => 1,
        _ => 2,
    });
    differences
}

/// Everything that makes a table.
async fn table_ddl(home: &mut Part, name: &str) -> Result<String, OpError> {
    let sql = format!("SELECT {}::pg_catalog.regclass::pg_catalog.oid", text_sql(name));
    let [oid] = home.counts(&sql).await?;
    let oid = Oid(u32::try_from(oid).unwrap_or_default());
    let mut rows = Vec::new();
    for (id, sql) in table_ddl_queries(oid) {
        rows.push((id, home.rows(&sql).await?));
    }
    let ddl = assemble(&rows).map_err(|error| OpError::refused("XX000", error.to_string()))?;
    let statements: Vec<String> = ddl.create.into_iter().chain(ddl.after_load).collect();
    Ok(statements.join(";\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_missing_table_is_not_listed() {
        let inventory = |items: &[(&str, &str, &str)]| -> Inventory {
            let items = items.iter();
            items
                .map(|(kind, name, ddl)| (((*kind).to_owned(), (*name).to_owned()), (*ddl).to_owned()))
                .collect()
        };
        let ours = inventory(&[
            ("table", "public.a", ""),
            ("column", "public.a.id", "int"),
            ("table", "public.ab", ""),
            ("column", "public.ab.id", "int"),
            ("column", "public.ab.v", "text"),
        ]);
        let theirs = inventory(&[
            ("table", "public.ab", ""),
            ("column", "public.ab.id", "bigint"),
            ("index", "public.ab i", "CREATE INDEX"),
        ]);
        let found: Vec<_> = between("s", &ours, &theirs)
            .into_iter()
            .map(|d| (d.kind, d.name, d.difference))
            .collect();
        let expected = [
            ("column", "public.ab.id", "different"),
            ("column", "public.ab.v", "missing"),
            ("index", "public.ab i", "extra"),
            ("table", "public.a", "missing"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(kind, name, difference)| (kind.to_owned(), name.to_owned(), difference))
            .collect();
        assert_eq!(found, expected);
    }
}
