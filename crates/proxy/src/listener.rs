//! Accepting clients, and the proxy as a whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::config::ProxyConfig;
use crate::login::Accepted;
use crate::tls::Tls;
use crate::worker::{self, HandlerFactory, Mailboxes, Shared, StartError, WorkerMessage};

/// Pause after a failed accept (out of file descriptors): the next one would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Workers of one proxy at most; the shared limits keep a bit per worker.
const WORKERS_MAX: usize = usize::BITS as usize;

/// A running proxy. Dropping it asks it to stop, without waiting.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the workers and listens. Returns when clients can connect.
pub fn start(config: ProxyConfig, factory: HandlerFactory) -> Result<Proxy, StartError> {
    let tls = Tls::load(&config.tls)?;
    start_with_tls(config, tls, factory)
}

/// The same with encryption that somebody else uses as well.
pub fn start_with_tls(
    config: ProxyConfig,
    tls: Arc<Tls>,
    factory: HandlerFactory,
) -> Result<Proxy, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.workers == 0 {
        cores
    } else {
        config.workers
    }
    .min(WORKERS_MAX);
    let address = config.listen;
    let listen = |source| StartError::Listen { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(listen)?;
    socket.set_nonblocking(true).map_err(listen)?;
    let address = socket.local_addr().map_err(listen)?;
    let (mailboxes, inboxes) = Mailboxes::new(workers);
    let shared = Arc::new(Shared::new(config, tls, mailboxes)?);
    let (accepting, stop) = oneshot::channel();
    let mut proxy = Proxy {
        address,
        shared: Arc::clone(&shared),
        accepting: Some(accepting),
        threads: Vec::new(),
    };
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let thread = worker::spawn(id, Arc::clone(&shared), inbox, Arc::clone(&factory));
        proxy.threads.push(thread.map_err(StartError::Thread)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(StartError::Thread)?;
    let thread = std::thread::Builder::new().name("accept".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(socket, &shared) => {}
                _ = stop => {}
            }
        });
    });
    proxy.threads.push(thread.map_err(StartError::Thread)?);
    Ok(proxy)
}

impl Proxy {
    /// Where clients connect; the port is the real one when 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the workers share: shards, metrics, statistics.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops accepting, tells all sessions to end (57P01), waits for them at most `shutdown_timeout`, then cuts them
    /// off. Blocks; on an async runtime call it from a blocking thread.
    pub fn shutdown(mut self) {
        self.ask_to_stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }

    fn ask_to_stop(&mut self) {
        if self.accepting.take().is_some() {
            self.shared.stopping.store(true, Ordering::Release);
            for worker in 0..self.shared.mailboxes.len() {
                self.shared.mailboxes.send(worker, WorkerMessage::Shutdown);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// Hands clients to workers, for ever.
async fn accept(socket: std::net::TcpListener, shared: &Shared) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot accept clients");
            return;
        }
    };
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&shared.logins).acquire_owned().await else {
            return;
        };
        let accepted = listener.accept().await.and_then(|(socket, peer)| {
            socket.set_nodelay(true)?;
            // A client whose machine vanished must not hold its session, and perhaps locks, for ever.
            socket2::SockRef::from(&socket).set_keepalive(true)?;
            Ok((socket.into_std()?, peer))
        });
        match accepted {
            Ok((socket, peer)) => {
                let worker = least_loaded(shared);
                if let Some(load) = shared.loads.get(worker) {
                    load.fetch_add(1, Ordering::Relaxed);
                }
                shared
                    .mailboxes
                    .send(worker, WorkerMessage::Client(Accepted { socket, peer, permit }));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn least_loaded(shared: &Shared) -> usize {
    let loads = shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
    loads
        .enumerate()
        .min_by_key(|(_, load)| *load)
        .map_or(0, |(worker, _)| worker)
}

#[cfg(test)]
mod tests;
