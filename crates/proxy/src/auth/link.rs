//! The connections on which the proxy asks about users. Nobody else ever uses them.

use std::sync::Arc;
use std::time::Duration;

use wire::frontend::encode;

use crate::admin_link::{AdminError, AdminLink};
use crate::config::AdminConfig;
use crate::exec::link::{self, LinkError, TextRow};
use crate::server::Address;
use crate::tls::ServerTls;

/// Names are looked up in `pg_catalog` first and only: whatever a role's own settings say, no object of somebody else
/// can take the place of a catalog's.
const SESSION: &str = "SET search_path = pg_catalog; SET default_transaction_read_only = on; \
                       SET standard_conforming_strings = on; SET row_security = off";

/// One connection, made when it is needed, kept between questions.
#[derive(Default)]
pub(super) struct Asking {
    open: Option<(Target, AdminLink)>,
}

/// Where and as whom.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) tls: Arc<ServerTls>,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        // Settings that were read again are other ones.
        Arc::ptr_eq(&self.tls, &other.tls)
            && (&self.address, &self.user, &self.password, &self.database)
                == (&other.address, &other.user, &other.password, &other.database)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The connection cannot be made, or broke, or the server refused the statement.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
}

impl Asking {
    /// Runs one statement with one text parameter and gives its rows. A connection that turns out to be dead is made
    /// anew once.
    pub(super) async fn rows(
        &mut self,
        target: &Target,
        sql: &str,
        parameter: &str,
        timeout: Duration,
    ) -> Result<Vec<TextRow>, AskError> {
        let result = tokio::time::timeout(timeout, self.ask(target, sql, parameter)).await;
        match result {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if !matches!(error, AdminError::Server(_)) {
                    self.open = None;
                }
                Err(error.into())
            }
            Err(_) => {
                // An answer may still come: the connection cannot be used again.
                self.open = None;
                Err(AskError::TimedOut)
            }
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        if let Some((_, link)) = self.open.take() {
            link.server.close();
        }
    }

    async fn ask(&mut self, target: &Target, sql: &str, parameter: &str) -> Result<Vec<TextRow>, AdminError> {
        if let Some((open_to, link)) = &mut self.open
            && open_to == target
        {
            match run(link, sql, parameter).await {
                Err(AdminError::Link(_)) => {}
                other => return other,
            }
        }
        self.open = None;
        let admin = AdminConfig {
            user: target.user.clone(),
            password: target.password.clone(),
        };
        let mut link = AdminLink::connect(
            target.address.clone(),
            Arc::clone(&target.tls),
            &admin,
            &target.database,
        )
        .await?;
        link.run(SESSION).await?;
        let (_, link) = self.open.insert((target.clone(), link));
        run(link, sql, parameter).await
    }
}

async fn run(link: &mut AdminLink, sql: &str, parameter: &str) -> Result<Vec<TextRow>, AdminError> {
    let too_long = |_| LinkError::Protocol("statement too long");
    let out = link.server.conn.out();
    encode::parse(out, b"", sql.as_bytes(), []).map_err(too_long)?;
    encode::bind(out, b"", b"", [], [Some(parameter.as_bytes())], []).map_err(too_long)?;
    encode::execute(out, b"", 2).map_err(too_long)?;
    encode::sync(out);
    link.server.unnamed = None;
    link.server.conn.flush().await.map_err(LinkError::from)?;
    let reply = link::collect(&mut link.server).await?;
    reply.into_rows().map_err(AdminError::Server)
}
