//! The first statements on a new server: roles and the database.

use std::path::Path;

use thiserror::Error;
use tokio_postgres::{Config, NoTls};

use crate::Secret;

/// Why a new server could not be given its roles and database.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// A statement or the connection failed.
    #[error("cannot create roles and database")]
    Sql(#[from] tokio_postgres::Error),
}

/// What to create. All text is Drover's own or generated; nothing in it needs quoting, and it is quoted anyway.
#[derive(Debug)]
pub(super) struct Bootstrap<'a> {
    pub admin_user: &'a str,
    pub admin_password: &'a Secret,
    pub replication_user: &'a str,
    pub replication_password: &'a Secret,
    pub app_user: &'a str,
    pub app_verifier: &'a str,
    pub database: &'a str,
}

impl Bootstrap<'_> {
    /// Runs on the server whose socket is in `socket_dir`.
    pub async fn run(&self, socket_dir: &Path, port: u16) -> Result<(), BootstrapError> {
        let (client, connection) = Config::new()
            .host_path(socket_dir)
            .port(port)
            .user(self.admin_user)
            .password(self.admin_password.expose())
            .dbname("postgres")
            .connect(NoTls)
            .await?;
        let statements = async {
            for statement in self.statements() {
                client.batch_execute(&statement).await?;
            }
            Ok(())
        };
        // The connection ends only by itself when it fails, and then the statement fails with it.
        tokio::select! {
            result = statements => result,
            result = connection => result.map_err(BootstrapError::from),
        }
    }

    fn statements(&self) -> [String; 3] {
        let identifier = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        [
            format!(
                "CREATE ROLE {} LOGIN REPLICATION PASSWORD {}",
                identifier(self.replication_user),
                literal(self.replication_password.expose())
            ),
            format!(
                "CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}",
                identifier(self.app_user),
                literal(self.app_verifier)
            ),
            format!(
                "CREATE DATABASE {} OWNER {}",
                identifier(self.database),
                identifier(self.app_user)
            ),
        ]
    }
}
