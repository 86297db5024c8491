//! Loading a [`Snapshot`] from the home shard.

use catalog::load::{EPILOGUE, PREAMBLE, QueryId, SnapshotBuilder};
use catalog::{BodyFacts, BodyParser, FunctionBody, ShardingInput, Snapshot};

use crate::admin_link::{AdminError, AdminLink};
use crate::exec::link::{self, TextRow};
use crate::server::ServerConn;

/// Runs the catalog's queries and builds the snapshot.
pub(super) async fn load(link: &mut AdminLink, input: &ShardingInput) -> Result<Snapshot, AdminError> {
    link.run(PREAMBLE).await?;
    let snapshot = read(&mut link.server, input).await;
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
    let snapshot = read(server, input).await;
    rows(
        server,
        "ROLLBACK TO SAVEPOINT drover_facts; RELEASE SAVEPOINT drover_facts",
    )
    .await?;
    snapshot
}

async fn read(server: &mut ServerConn, input: &ShardingInput) -> Result<Snapshot, AdminError> {
    let mut builder = SnapshotBuilder::new();
    for id in QueryId::ALL {
        let rows = rows(server, &id.sql()).await?;
        builder.from_rows(id, &rows)?;
    }
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
            utility: false,
        })
    }
}
