//! Opening a connection for a pool.

use std::time::Instant;

use pool::ServerId;

use super::permits::Permit;
use super::state::ShardPool;
use super::{CheckoutError, PoolKey};
use crate::server::{Address, DialError, Dialler, Secret, ServerConn, Startup};

/// Logs in and tells the pool how it went.
pub(super) async fn run(pool: ShardPool, id: ServerId, permit: Option<Permit>) {
    let worker = &pool.0.worker;
    let key = &pool.0.key;
    let Some(address) = worker.shared.shards.address(key.shard) else {
        let error = CheckoutError {
            sqlstate: "08006".into(),
            message: format!("shard {} is not in the topology", key.shard),
            hint: None,
        };
        drop(permit);
        return pool.dial_failed(id, error);
    };
    let start = Instant::now();
    let result = log_in(&pool, dialler(&pool, key, address)).await;
    match result {
        Ok(conn) => {
            worker.metrics.server_logins.increment();
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            worker.metrics.server_login_us.add(micros);
            pool.dialled(id, conn, permit);
        }
        Err(error) => {
            worker.metrics.server_logins_failed.increment();
            let shard = worker.shared.shards.name(key.shard);
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(%shard, user = %key.user, database = %key.database, %error, cause, "login to a server failed");
            drop(permit);
            pool.dial_failed(id, for_client(&error, &shard));
        }
    }
}

/// Logs in by remembered keys where there are some; where they no longer fit, by the password.
async fn log_in(pool: &ShardPool, mut dialler: Dialler) -> Result<ServerConn, DialError> {
    let worker = &pool.0.worker;
    let (user, secrets) = (&pool.0.key.user, &worker.shared.secrets);
    if let Secret::Password(_) = dialler.secret
        && let Some(keys) = secrets.server_keys(user, &dialler.address)
    {
        let password = std::mem::replace(&mut dialler.secret, Secret::ScramKeys(keys));
        match dialler.dial(worker.buffers.clone()).await {
            Err(DialError::Refused(_) | DialError::Authentication(_)) => {
                secrets.set_server_keys(user, &dialler.address, None);
                dialler.secret = password;
            }
            other => return other,
        }
    }
    let (conn, keys) = dialler.dial_learning(worker.buffers.clone()).await?;
    if let Secret::Password(_) = dialler.secret
        && keys.is_some()
    {
        secrets.set_server_keys(user, &dialler.address, keys);
    }
    Ok(conn)
}

fn dialler(pool: &ShardPool, key: &PoolKey, address: Address) -> Dialler {
    let shared = &pool.0.worker.shared;
    Dialler {
        address,
        startup: Startup {
            user: key.user.to_string(),
            database: key.database.to_string(),
            params: shared.server_params.clone(),
        },
        secret: shared.secrets.for_server(&key.user),
        timeout: shared.config.pool.connect_timeout,
        prepared_statements: shared.config.pool.prepared_statements,
    }
}

/// What a client may read: the server's own words, but no address of ours.
fn for_client(error: &DialError, shard: &str) -> CheckoutError {
    let message = match error {
        DialError::Refused(fields) => format!("login to \"{shard}\" failed: {}", fields.message),
        DialError::TimedOut { .. } => format!("\"{shard}\" did not answer in time"),
        DialError::Io { .. } => format!("\"{shard}\" cannot be reached"),
        DialError::Authentication(_) | DialError::Protocol(_) => {
            format!("login to \"{shard}\" failed: {error}")
        }
    };
    CheckoutError {
        sqlstate: error.sqlstate().to_owned(),
        message,
        hint: None,
    }
}
