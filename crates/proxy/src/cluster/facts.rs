//! Loading a [`Snapshot`] from the home shard.

use catalog::load::{CatalogError, EPILOGUE, PREAMBLE, QueryId, SnapshotBuilder};
use catalog::{BodyFacts, BodyParser, FunctionBody, ShardingInput, Snapshot};

use crate::admin_link::{AdminError, AdminLink};
use crate::exec::link::{self, TextRow};
use crate::server::ServerConn;

/// Runs the catalog's queries and builds the snapshot. Built-in objects are taken from `known`, an earlier snapshot of
/// the same database, unless the server has become another one.
pub(super) async fn load(
    link: &mut AdminLink,
    input: &ShardingInput,
    known: Option<&Snapshot>,
    safe: &[(String, String)],
) -> Result<Snapshot, AdminError> {
    link.run(PREAMBLE).await?;
    let mut snapshot = read(&mut link.server, input, known, safe).await;
    if known.is_some() && matches!(snapshot, Err(AdminError::Catalog(CatalogError::OtherServer))) {
        snapshot = read(&mut link.server, input, None, safe).await;
    }
    link.run(EPILOGUE).await?;
    snapshot
}

/// The same inside an open transaction whose changes are to be seen; the transaction is left as it was.
pub(crate) async fn load_in_block(
    server: &mut ServerConn,
    input: &ShardingInput,
) -> Result<Snapshot, AdminError> {
    // The preamble's settings without its BEGIN.
    let settings = PREAMBLE.split_once(';').map_or("", |(_, rest)| rest);
    rows(server, &format!("SAVEPOINT drover_facts; {settings}")).await?;
    let snapshot = read(server, input, None, &[]).await;
    rows(
        server,
        "ROLLBACK TO SAVEPOINT drover_facts; RELEASE SAVEPOINT drover_facts",
    )
    .await?;
    snapshot
}

async fn read(
    server: &mut ServerConn,
    input: &ShardingInput,
    known: Option<&Snapshot>,
    safe: &[(String, String)],
) -> Result<Snapshot, AdminError> {
    let mut builder = known.map_or_else(SnapshotBuilder::new, SnapshotBuilder::reload);
    for id in QueryId::ALL {
        let sql = if known.is_some() {
            id.reload_sql()
        } else {
            id.sql()
        };
        builder.from_rows(id, &rows(server, &sql).await?)?;
    }
    builder.allow_on_replicas(safe.iter().cloned());
    Ok(builder.build(input, &Bodies)?)
}

async fn rows(server: &mut ServerConn, sql: &str) -> Result<Vec<TextRow>, AdminError> {
    link::query(server, sql)
        .await?
        .into_rows()
        .map_err(AdminError::Server)
}

/// Reads function bodies with PostgreSQL's own grammar.
pub(crate) struct Bodies;

impl BodyParser for Bodies {
    fn body_facts(&self, body: FunctionBody<'_>) -> Result<BodyFacts, String> {
        let facts = match body.language {
            "sql" => sql::sql_body_facts(body.source),
            "plpgsql" => sql::plpgsql_body_facts(body.source),
            other => return Err(format!("language {other} cannot be read")),
        };
        if let Some(reason) = facts.unknown {
            return Err(reason.to_owned());
        }
        Ok(BodyFacts {
            relations: facts.relations.into_iter().map(|name| name.name).collect(),
            functions: facts.functions.into_iter().map(|name| name.name).collect(),
            candidates: true,
            dynamic_sql: facts.dynamic_sql,
            sets_config: facts.sets_config,
            utility: sql::body_changes_schema(body.source),
            acts_on_session: facts.acts_on_session,
            notifies: facts.notifies,
            keeps_custom_setting: facts.keeps_custom_setting,
        })
    }
}
