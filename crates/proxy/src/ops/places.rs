//! Places of whole tables, and of the new tables of a schema.

use topology::ChangeScope;
use topology::records::{SchemaRecord, TableState};
use wire::backend::ErrorFields;

use super::effects::text_sql;
use super::part::shard_name;
use super::relocate::{Goal, Wanted};
use super::{OpError, schemes};
use crate::cluster::{Cluster, change_deadline};

/// Whether a table that is to be placed is where it is to be.
pub(super) fn is_there(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<bool, OpError> {
    let Goal::Placed(name) = wanted.goal else {
        return Ok(false);
    };
    let record = cluster.record();
    let shard = schemes::shard(&record, name)?;
    Ok(match record.table(wanted.database, wanted.schema, wanted.table) {
        None => shard == record.home,
        Some(known) => known.state == TableState::Active && record.place_of(&known.kind) == Some(shard),
    })
}

/// Makes a shard the place of a schema's new tables; the home shard: they are unsharded again. Tables that are there stay
/// where they are.
pub async fn place_schema(
    cluster: &Cluster,
    database: &str,
    schema: &str,
    shard: &str,
) -> Result<(), ErrorFields> {
    place(cluster, database, schema, shard)
        .await
        .map_err(OpError::into_fields)
}

async fn place(cluster: &Cluster, database: &str, schema: &str, shard: &str) -> Result<(), OpError> {
    exists(cluster, database, schema).await?;
    schemes::shard(&cluster.record(), shard)?;
    // No row moves, and no statement that runs means something else: only the next CREATE TABLE does.
    let mut guard = cluster.change(ChangeScope::Nothing).await?;
    let wanted = schemes::shard(guard.cluster(), shard)?;
    guard
        .publish(|record| {
            let is_it = |placed: &SchemaRecord| placed.database == database && placed.schema == schema;
            record.placed_schemas.retain(|placed| !is_it(placed));
            if wanted != record.home {
                record.placed_schemas.push(SchemaRecord {
                    database: database.to_owned(),
                    schema: schema.to_owned(),
                    shard: wanted,
                });
            }
        })
        .await?;
    guard.finish(change_deadline()).await?;
    Ok(())
}

async fn exists(cluster: &Cluster, database: &str, schema: &str) -> Result<(), OpError> {
    let home = cluster.home();
    let name = shard_name(cluster, home);
    let on = OpError::on(&name);
    let mut link = cluster.admin_link(home, database).await.map_err(&on)?;
    let sql = format!(
        "SELECT pg_catalog.starts_with(nspname, 'pg_') OR nspname IN ('information_schema', 'drover', 'drover_internal') \
         FROM pg_catalog.pg_namespace WHERE nspname = {}",
        text_sql(schema)
    );
    match link.value(&sql).await.map_err(&on)?.as_deref() {
        Some("f") => Ok(()),
        Some(_) => Err(OpError::refused(
            "42809",
            format!("schema \"{schema}\" is not for tables of applications"),
        )),
        None => Err(OpError::refused(
            "3F000",
            format!("schema \"{schema}\" does not exist"),
        )),
    }
}
