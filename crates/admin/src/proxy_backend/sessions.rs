//! A few connections to the proxy in the name of one role.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls};

use super::{ProxyBackendConfig, errors};
use crate::api::{ApiError, ErrorKind, Role};

/// How long the cancel of an abandoned statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// One role's connections.
pub(super) struct Sessions {
    config: Config,
    checkout_timeout: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A row as the lookup's statement returns it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FoundRow {
    pub(super) json: String,
    pub(super) shard_key: Option<String>,
}

impl Sessions {
    pub(super) fn new(backend: &ProxyBackendConfig, role: &Role) -> Self {
        let mut config = Config::new();
        match &backend.proxy_socket {
            Some(directory) => config.host_path(directory),
            None => config.host(backend.proxy.ip().to_string()),
        };
        config
            .port(backend.proxy.port())
            .user(&role.user)
            .dbname(&backend.database)
            .application_name("drover http")
            .connect_timeout(backend.connect_timeout)
            .ssl_mode(SslMode::Disable);
        if let Some(password) = &role.password {
            config.password(password);
        }
        Self {
            config,
            checkout_timeout: backend.checkout_timeout,
            permits: Arc::new(Semaphore::new(
                backend.sessions_per_role.clamp(1, Semaphore::MAX_PERMITS),
            )),
            idle: Mutex::default(),
        }
    }

    /// Runs a statement with text parameters.
    pub(super) async fn rows(&self, sql: &str, values: &[String]) -> Result<Vec<FoundRow>, ApiError> {
        let permits = Arc::clone(&self.permits).acquire_owned();
        let Ok(Ok(mut permit)) = tokio::time::timeout(self.checkout_timeout, permits).await else {
            let message = "all connections of this role to the proxy are busy";
            return Err(ApiError::new(ErrorKind::Unavailable, message).with_sqlstate("53300"));
        };
        // An idle connection may have been closed by the proxy since; a new one fails for reasons of its own.
        while let Some(session) = self.take_idle() {
            let mut checkout = Checkout {
                session: Some(session),
                permit: Some(permit),
            };
            match checkout.run(sql, values).await {
                Err(error) if error.is_closed() => permit = checkout.discard()?,
                result => return self.finish(checkout, result),
            }
        }
        let session = self.connect().await?;
        let mut checkout = Checkout {
            session: Some(session),
            permit: Some(permit),
        };
        let result = checkout.run(sql, values).await;
        self.finish(checkout, result)
    }

    fn finish(
        &self,
        mut checkout: Checkout,
        result: Result<Vec<FoundRow>, tokio_postgres::Error>,
    ) -> Result<Vec<FoundRow>, ApiError> {
        if let Some(session) = checkout.session.take()
            && !session.client.is_closed()
        {
            self.idle().push(session);
        }
        result.map_err(|error| errors::api_error(&error))
    }

    async fn connect(&self) -> Result<Session, ApiError> {
        let connect = self.config.connect(NoTls);
        // The configured limit is for the socket only; a proxy that accepts and says nothing counts as well.
        let limit = self
            .config
            .get_connect_timeout()
            .copied()
            .unwrap_or(self.checkout_timeout);
        let Ok(connected) = tokio::time::timeout(limit, connect).await else {
            return Err(ApiError::new(
                ErrorKind::Unavailable,
                "the login to the proxy took too long",
            ));
        };
        let (client, connection) = connected.map_err(|error| errors::api_error(&error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the HTTP API to the proxy ended");
            }
        });
        Ok(Session { client, task })
    }

    fn take_idle(&self) -> Option<Session> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection and the task that moves its bytes.
struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection in use. Dropped while its statement runs, it cancels the statement and keeps its place in the bound
/// until the server has heard of it.
struct Checkout {
    session: Option<Session>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Checkout {
    async fn run(&mut self, sql: &str, values: &[String]) -> Result<Vec<FoundRow>, tokio_postgres::Error> {
        let Some(session) = &self.session else {
            return Ok(Vec::new());
        };
        let values: Vec<TextParam<'_>> = values.iter().map(|value| TextParam(value)).collect();
        // UNKNOWN: PostgreSQL takes the types from the columns compared with, and reads the values itself.
        let params: Vec<(&(dyn ToSql + Sync), Type)> = values
            .iter()
            .map(|value| (value as &(dyn ToSql + Sync), Type::UNKNOWN))
            .collect();
        let rows = session.client.query_typed(sql, &params).await?;
        rows.iter()
            .map(|row| {
                let shard_key = if row.len() > 1 { row.try_get(1)? } else { None };
                Ok(FoundRow {
                    json: row.try_get(0)?,
                    shard_key,
                })
            })
            .collect()
    }

    /// Gives up the connection but not the place.
    fn discard(mut self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.session = None;
        self.permit
            .take()
            .ok_or_else(|| ApiError::new(ErrorKind::Internal, "a connection was lost"))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let permit = self.permit.take();
        runtime.spawn(async move {
            let cancel = session.client.cancel_token();
            let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(NoTls)).await;
            if !matches!(cancelled, Ok(Ok(()))) {
                tracing::debug!("an abandoned statement of the HTTP API could not be cancelled");
            }
            drop((session, permit));
        });
    }
}

/// A parameter in text format, whatever its type.
#[derive(Debug)]
struct TextParam<'a>(&'a str);

impl ToSql for TextParam<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
