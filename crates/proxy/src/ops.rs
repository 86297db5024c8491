//! Operator statements: tables that become sharded or reference tables, functions declared local.
//!
//! A move happens in one transaction per shard while every proxy is paused, and is committed like a client's
//! transaction over several shards (DESIGN §4), so that it is there everywhere or nowhere:
//!
//! ```text
//! checks · barrier, all proxies paused · lock on home, facts read again under it
//! table made on the other shards · rows copied · indexes and constraints · rows deleted on home · rows counted
//! record Pending, naming the transaction · PREPARE elsewhere · decision + COMMIT on home · COMMIT PREPARED
//! record Active · barrier removed, all proxies have the new epoch
//! ```
//! Up to the Pending record a failure leaves nothing behind. From then on the decision on the home shard tells what
//! happened, and [`repair`] brings shards and record in line with it. While a record is pending and nobody leads the
//! change ([`is_unfinished`]), no statement may run: the record does not say where the rows are.

mod check;
mod copy;
mod decide;
mod drift;
mod effects;
mod error;
mod faults;
pub(crate) mod guards;
pub(crate) mod indexes;
mod join;
pub(crate) mod online;
mod part;
mod partitions;
mod pins;
mod places;
mod progress;
mod rearrange;
mod relocate;
mod renames;
mod repair;
mod schema_diff;
mod schemes;
#[cfg(test)]
mod tests;
mod views;

pub use drift::{Finding, TableCheck, check_tables};
pub use effects::{RecordChange, resolve_effects, resolve_effects_on};
pub use indexes::{IndexReport, check_global_index, create_global_index, drop_global_index};
pub(crate) use online::{all as moves, cancel as cancel_move};
pub use pins::{Pin, pin_key};
pub use places::place_schema;
pub use relocate::Goal;
pub use repair::{is_unfinished, repair};
pub use schema_diff::{SchemaDifference, schema_diff};

use std::time::Duration;

use topology::ChangeScope;
use topology::records::FunctionRecord;
use wire::backend::ErrorFields;

use crate::cluster::{Cluster, change_deadline};
use error::OpError;
use faults::Faults;

/// How long a move waits for transactions that hold locks on the table.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a move is made.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// The statement that asks for it.
    pub statement: &'a str,
    /// While the table is in use, or in one transaction; `None`: as its size suggests.
    pub online: Option<bool>,
}

/// Moves the rows of an existing table to where `goal` wants them. `progress` gets a line at most once per second; the
/// statement that asked for this must not count as running meanwhile, because the cluster is paused.
pub async fn move_table(
    cluster: &Cluster,
    database: &str,
    (schema, table): (&str, &str),
    goal: &Goal,
    manner: Manner<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(), ErrorFields> {
    let wanted = relocate::Wanted {
        database,
        schema,
        table,
        goal,
    };
    if places::is_there(cluster, &wanted).map_err(OpError::into_fields)? {
        progress(&format!("{} is there already", wanted.title()));
        return Ok(());
    }
    let faults = Faults::default();
    let moved = async {
        let online = match manner.online {
            Some(online) => online,
            None => online::is_better(cluster, &wanted).await?,
        };
        if online {
            online::run(cluster, &wanted, manner.statement, progress, &faults).await
        } else {
            relocate::run(cluster, &wanted, progress, &faults).await
        }
    };
    moved.await.map_err(OpError::into_fields)?;
    // Its own guards moved with it; the schema's are made with the first table.
    if let Err(error) = guards::ensure(cluster, &cluster.record(), database).await {
        tracing::info!(%error, "guards are missing");
    }
    Ok(())
}

/// Takes the operator's word that a function, all its overloads, touches no sharded table.
pub async fn declare_local(
    cluster: &Cluster,
    database: &str,
    schema: &str,
    name: &str,
) -> Result<(), ErrorFields> {
    declare(cluster, database, schema, name)
        .await
        .map_err(OpError::into_fields)
}

async fn declare(cluster: &Cluster, database: &str, schema: &str, name: &str) -> Result<(), OpError> {
    let function = FunctionRecord {
        database: database.to_owned(),
        schema: schema.to_owned(),
        name: name.to_owned(),
    };
    // Nothing that runs becomes wrong: what was refused is allowed from now on.
    let mut guard = cluster.change(ChangeScope::Nothing).await?;
    if !guard.cluster().declared_local.contains(&function) {
        guard
            .publish(|record| {
                if !record.declared_local.contains(&function) {
                    record.declared_local.push(function.clone());
                }
            })
            .await?;
    }
    guard.finish(change_deadline()).await?;
    Ok(())
}
