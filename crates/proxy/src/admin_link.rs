//! The proxy's own connections to the shards: catalog reads, bootstrap, table moves, recovery.

use std::sync::Arc;
use std::time::Duration;

use wire::startup::ProtocolVersion;

use crate::buffers::Buffers;
use crate::config::AdminConfig;
use crate::exec::link::{self, LinkError, TextRow};
use crate::server::{Address, DialError, Dialler, Secret, ServerConn, Startup};
use crate::tls::ServerTls;

/// Logging in as administrator may take this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the proxy's own work on a shard failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// The connection failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// PostgreSQL said no.
    #[error("{}", .0.message)]
    Server(Box<wire::backend::ErrorFields>),
    /// The catalog does not make a snapshot.
    #[error("the catalog cannot be used: {0}")]
    Catalog(#[from] catalog::load::CatalogError),
    /// The cluster's state does not allow it.
    #[error("{0}")]
    State(String),
}

impl AdminError {
    /// The server says that there is no such database.
    #[must_use]
    pub fn is_no_database(&self) -> bool {
        matches!(self, Self::Dial(DialError::Refused(fields)) if fields.code == "3D000")
    }
}

/// A connection as Drover's own role.
pub struct AdminLink {
    /// The connection.
    pub server: ServerConn,
}

impl AdminLink {
    /// Connects to one database of one shard.
    pub async fn connect(
        address: Address,
        tls: Arc<ServerTls>,
        admin: &AdminConfig,
        database: &str,
    ) -> Result<Self, AdminError> {
        Self::connect_with(address, tls, admin, database, &[]).await
    }

    /// The same with more start-up parameters.
    pub async fn connect_with(
        address: Address,
        tls: Arc<ServerTls>,
        admin: &AdminConfig,
        database: &str,
        more: &[(&str, &str)],
    ) -> Result<Self, AdminError> {
        let dialler = Dialler {
            address,
            startup: Startup {
                user: admin.user.clone(),
                database: database.to_owned(),
                params: [("client_encoding", "UTF8"), ("application_name", "drover")]
                    .iter()
                    .chain(more)
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            },
            secret: admin.password.clone().map_or(Secret::None, Secret::Password),
            protocol: ProtocolVersion::V3_0,
            tls,
            timeout: DIAL_TIMEOUT,
            prepared_statements: 1,
        };
        Ok(Self {
            server: dialler.dial(Buffers::new()).await?,
        })
    }

    /// Runs a text and gives its rows.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<TextRow>, AdminError> {
        let reply = link::query(&mut self.server, sql).await?;
        reply.into_rows().map_err(AdminError::Server)
    }

    /// The first column of the first row, of a text that commits something or relies on something committed: an error if that is not
    /// on the servers that a commit waits for.
    pub async fn durable_value(&mut self, sql: &str) -> Result<Option<String>, AdminError> {
        let reply = link::query(&mut self.server, sql).await?;
        if reply.lost_replication() {
            return Err(AdminError::State(
                "the wait for replicas was cancelled".to_owned(),
            ));
        }
        let rows = reply.into_rows().map_err(AdminError::Server)?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs a text for its effect.
    pub async fn run(&mut self, sql: &str) -> Result<(), AdminError> {
        self.rows(sql).await.map(|_| ())
    }

    /// The first column of the first row.
    pub async fn value(&mut self, sql: &str) -> Result<Option<String>, AdminError> {
        let rows = self.rows(sql).await?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten()))
    }
}
