//! Opening a connection for a pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hashbrown::HashMap;
use tokio::sync::Semaphore;

use pool::ServerId;

use super::permits::Permit;
use super::state::ShardPool;
use super::{CheckoutError, Place};
use crate::ops::guards;
use crate::server::{Address, DialError, Dialler, Secret, ServerConn, Startup};

/// Bounds the logins that run at once to one server, whatever worker and pool they are for: a server that comes back
/// is not met by all pools at once.
#[derive(Debug)]
pub(crate) struct Dials {
    parallel: usize,
    by_place: Mutex<HashMap<Place, Arc<Semaphore>>>,
}

impl Dials {
    pub(crate) fn new(parallel: usize) -> Self {
        Self {
            parallel: parallel.clamp(1, Semaphore::MAX_PERMITS),
            by_place: Mutex::default(),
        }
    }

    fn of(&self, place: Place) -> Arc<Semaphore> {
        let mut by_place = self.by_place.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = by_place
            .entry(place)
            .or_insert_with(|| Arc::new(Semaphore::new(self.parallel)));
        Arc::clone(semaphore)
    }
}

/// Logs in and tells the pool how it went.
pub(super) async fn run(pool: ShardPool, id: ServerId, permit: Option<Permit>) {
    let worker = &pool.0.worker;
    let key = &pool.0.key;
    let Some(address) = worker.shared.address_of(key.place) else {
        let error = CheckoutError {
            sqlstate: "08006".into(),
            message: match (key.place.node, worker.shared.nodes.primary(key.place.shard)) {
                (None, Err(reason)) => reason,
                _ => format!("{} is not in the topology", worker.shared.name_of(key.place)),
            },
            hint: None,
        };
        drop(permit);
        return pool.dial_failed(id, error, false);
    };
    let dials = worker.shared.dials.of(key.place);
    // Transactions on several shards never wait for others.
    let _turn = match permit {
        Some(_) => dials.acquire().await.ok(),
        None => None,
    };
    let start = Instant::now();
    // What is stated is what is known before the login.
    let fence = worker.shared.nodes.fence();
    let result = tokio::select! {
        result = log_in(&pool, dialler(&pool, address.clone(), fence)) => result,
        () = replaced(&pool, &address) => {
            drop(permit);
            return pool.dial_abandoned(id);
        }
    };
    worker.shared.report(key.place, &result);
    match result {
        Ok(mut conn) => {
            conn.epoch = fence;
            worker.metrics.server_logins.increment();
            if conn.target.tls.is_some() {
                worker.metrics.server_tls_handshakes.increment();
            }
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            worker.metrics.server_login_us.add(micros);
            pool.dialled(id, conn, permit);
        }
        Err(error) => {
            worker.metrics.server_logins_failed.increment();
            if let DialError::Tls { .. } = error {
                worker.metrics.server_tls_failures.increment();
            }
            let shard = worker.shared.name_of(key.place);
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(%shard, user = &*key.user, database = &*key.database, %error, cause, "login to a server failed");
            drop(permit);
            if error.is_down() {
                pool.server_is_down();
            }
            worker.shared.nodes.look_now(key.place.shard);
            pool.dial_failed(id, for_client(&error, &shard), error.is_lasting());
        }
    }
}

/// Completes when the server is another one than this. A server that hangs must not keep clients from its successor.
async fn replaced(pool: &ShardPool, address: &Address) {
    let shared = &pool.0.worker.shared;
    let place = pool.0.key.place;
    let mut changes = shared.nodes.changes();
    while shared.address_of(place).as_ref() == Some(address) {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Logs in by remembered keys where there are some; where they no longer fit, by the password.
async fn log_in(pool: &ShardPool, mut dialler: Dialler) -> Result<ServerConn, DialError> {
    let worker = &pool.0.worker;
    let policy = pool.policy();
    let (user, secrets) = (&policy.server_user, &worker.shared.secrets);
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

fn dialler(pool: &ShardPool, address: Address, fence: u64) -> Dialler {
    let shared = &pool.0.worker.shared;
    let source = shared.policies.source();
    let policy = pool.policy();
    // Replicas have the same roles and certificates.
    let shard = shared.shards.name(pool.0.key.place.shard);
    let login = shared.secrets.for_server(&policy.server_user, &shard);
    let mut params = shared.server_params.clone();
    if fence != 0 {
        params.push(guards::stated(fence));
    }
    Dialler {
        address,
        startup: Startup {
            user: login.role.unwrap_or_else(|| policy.server_user.to_string()),
            database: policy.server_database.to_string(),
            params,
        },
        secret: login.secret,
        protocol: source.pool.server_protocol,
        tls: shared.tls.server(&shard),
        timeout: source.pool.connect_timeout,
        prepared_statements: source.pool.prepared_statements,
    }
}

/// What a client may read: the server's own words, but no address of ours.
fn for_client(error: &DialError, shard: &str) -> CheckoutError {
    let message = match error {
        DialError::Refused(fields) => format!("login to \"{shard}\" failed: {}", fields.message),
        DialError::TimedOut { .. } => format!("\"{shard}\" did not answer in time"),
        DialError::Io { .. } => format!("\"{shard}\" cannot be reached"),
        DialError::Tls { .. } => format!("no TLS connection to \"{shard}\""),
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
