//! Serving a listener until told to stop.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{Backend, Role};
use crate::auth::Token;
use crate::listen::BoundedListener;

/// What the HTTP side is told at its start.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Accepted tokens. Without any, a listener that is not loopback answers only `/health` and `/ready`.
    pub tokens: Vec<Token>,
    /// Whose rows a request without a token reads; only on a loopback listener. `None`: no rows without a token.
    pub default_role: Option<Role>,
    /// Bounds.
    pub limits: HttpLimits,
}

/// Bounds on what comes from outside.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections open; further ones wait in the kernel's backlog.
    pub connections: usize,
    /// Requests running; further ones get 429. `/health` is not counted.
    pub requests: usize,
    /// The longest request body, in bytes.
    pub body_bytes: usize,
    /// The longest a request may run.
    pub request_timeout: Duration,
    /// A connection on which nothing moves for this long is closed. Longer than `request_timeout`.
    pub idle_timeout: Duration,
    /// How long requests may run on after a shutdown was asked for.
    pub shutdown_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests: 64,
            body_bytes: 16 * 1024,
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves HTTP on a listener until `shutdown` completes, then lets running requests end.
pub async fn serve(
    listener: TcpListener,
    api: Arc<dyn Backend>,
    config: HttpConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let app = crate::router::router(listener.local_addr()?, api, &config);
    let listener = BoundedListener::new(listener, config.limits.connections, config.limits.idle_timeout);
    let (stopping, mut stopped) = watch::channel(false);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        stopping.send_replace(true);
    });
    let deadline = async {
        // An error means that the server is gone.
        if stopped.wait_for(|stopped| *stopped).await.is_ok() {
            tokio::time::sleep(config.limits.shutdown_timeout).await;
        }
    };
    tokio::select! {
        result = server.into_future() => result,
        () = deadline => Ok(()),
    }
}
