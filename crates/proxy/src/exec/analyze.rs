//! PostgreSQL as the binder: what the home shard says a statement means (docs/decisions/0001).

use bytes::BytesMut;
use wire::Target;
use wire::backend::ErrorFields;
use wire::frontend::encode;

use super::link::{self, LinkError, Reply};
use crate::server::ServerConn;

/// The answer of the home shard.
#[derive(Debug)]
pub struct Analysis {
    /// The analysed and rewritten trees.
    pub trees: Vec<sql::Node>,
    /// Types of `$1`, `$2`, …
    pub param_types: Vec<u32>,
    /// Body of the RowDescription; `None` when the statement returns no rows.
    pub columns: Option<Vec<u8>>,
}

/// Why there is no analysis.
#[derive(Debug, thiserror::Error)]
pub enum AnalyzeError {
    /// PostgreSQL rejects the statement; this is its own error.
    #[error("{}", .0.message)]
    Rejected(Box<ErrorFields>),
    /// The server's trees could not be read.
    #[error("the analysed tree cannot be read: {0}")]
    Unreadable(String),
    /// The connection failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

const SETTINGS: &str = "SET LOCAL debug_print_rewritten = on; SET LOCAL debug_pretty_print = off; \
                        SET LOCAL client_min_messages = log";
const TREE_MESSAGE: &str = "rewritten parse tree:";

/// Asks the home shard, in one round trip, and leaves the connection as it was: outside a transaction by a
/// transaction of its own, inside by a savepoint.
///
/// `local_settings` (statements, each ended by a semicolon) hold for the analysis only: the `SET LOCAL`s of a client's
/// block that this server does not take part in.
///
/// Inside a transaction a rejection must fail the client's block, as an error would; that is the caller's to do.
pub async fn analyze(
    server: &mut ServerConn,
    text: &[u8],
    param_types: &[u32],
    local_settings: &str,
) -> Result<Analysis, AnalyzeError> {
    let in_block = server.status == wire::TransactionStatus::InTransaction;
    let (open, close) = if in_block {
        (
            "SAVEPOINT drover_analysis",
            "ROLLBACK TO SAVEPOINT drover_analysis; RELEASE SAVEPOINT drover_analysis",
        )
    } else {
        ("BEGIN READ ONLY", "ROLLBACK")
    };
    link::send_query(server, &format!("{open}; {local_settings} {SETTINGS}"))?;
    append_parse(server.conn.out(), text, param_types)?;
    link::send_query(server, close)?;
    server.conn.flush().await.map_err(LinkError::from)?;
    let opened = link::collect(server).await?;
    let described = link::collect(server).await?;
    let closed = link::collect(server).await?;
    if let Some(error) = opened.error.or(closed.error) {
        return Err(AnalyzeError::Rejected(error));
    }
    read_analysis(described)
}

fn append_parse(out: &mut BytesMut, text: &[u8], param_types: &[u32]) -> Result<(), LinkError> {
    let too_long = |_| LinkError::Protocol("statement too long");
    encode::parse(out, b"", text, param_types.iter().copied()).map_err(too_long)?;
    encode::describe(out, Target::Statement, b"").map_err(too_long)?;
    encode::sync(out);
    Ok(())
}

fn read_analysis(reply: Reply) -> Result<Analysis, AnalyzeError> {
    if let Some(error) = reply.error {
        return Err(AnalyzeError::Rejected(error));
    }
    let mut trees = Vec::new();
    for notice in &reply.notices {
        if notice.message == TREE_MESSAGE
            && let Some(detail) = &notice.detail
        {
            let parsed = sql::nodes::parse_wrapped(detail)
                .map_err(|error| AnalyzeError::Unreadable(error.to_string()))?;
            collect_queries(parsed, &mut trees);
        }
    }
    if trees.is_empty() {
        return Err(AnalyzeError::Unreadable("the server printed no tree".to_owned()));
    }
    Ok(Analysis {
        trees,
        param_types: reply.params.unwrap_or_default(),
        columns: reply.columns,
    })
}

fn collect_queries(value: sql::Value, trees: &mut Vec<sql::Node>) {
    match value {
        sql::Value::List(items) => items.into_iter().for_each(|item| collect_queries(item, trees)),
        sql::Value::Node(node) => trees.push(*node),
        _ => {}
    }
}
