//! Accepting clients, and the proxy as a whole.

mod place;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::config::ProxyConfig;
use crate::conn::Socket;
use crate::login::{Accepted, Incoming};
use crate::nodes::Nodes;
use crate::sockets::{Peer, Sockets};
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
    threads: Vec<JoinHandle<()>>,
}

/// What the task that accepts does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// It accepts clients.
    On,
    /// Clients wait in the kernel's backlog.
    Paused,
    /// It has closed its sockets, for ever.
    Off,
}

/// Listens as configured and starts the workers. Returns when clients can connect.
pub fn start(config: ProxyConfig, factory: HandlerFactory) -> Result<Proxy, StartError> {
    let tls = Tls::load(&config.tls)?;
    let sockets = Sockets::bind(&config)?;
    let nodes = Nodes::of_shards(&config.shards, config.replicas.clone());
    start_on(sockets, config, tls, Arc::new(nodes), factory)
}

/// Starts the workers over sockets that listen already, with encryption and servers that somebody else knows as well. Returns
/// when clients are accepted.
pub fn start_on(
    sockets: Sockets,
    config: ProxyConfig,
    tls: Arc<Tls>,
    nodes: Arc<Nodes>,
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
    sockets.prepare().map_err(listen)?;
    let address = sockets.address().unwrap_or(address);
    let (mailboxes, inboxes) = Mailboxes::new(workers);
    let shared = Arc::new(Shared::new(config, tls, mailboxes, nodes)?);
    shared.secrets.check_agreement(&shared.reach());
    shared.set_sockets(sockets.try_clone().map_err(listen)?);
    let mut proxy = Proxy {
        address,
        shared: Arc::clone(&shared),
        threads: Vec::new(),
    };
    let mut sockets = Some(sockets);
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let sockets = sockets.take_if(|_| id == worker::ACCEPTING);
        let thread = worker::spawn(id, Arc::clone(&shared), inbox, Arc::clone(&factory), sockets);
        proxy.threads.push(thread.map_err(StartError::Thread)?);
    }
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
        if !self.shared.stopping.swap(true, Ordering::AcqRel) {
            self.shared.end_listening();
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

/// Hands clients to workers until told to stop, then closes the sockets; what has to be done now and then by one worker for
/// all of them is done here as well. A task of the first worker, which most clients are for (see [`place`]): a thread of its
/// own would have to be woken for each of them, and to wake the worker.
pub(crate) async fn run(sockets: Sockets, shared: Arc<Shared>) {
    let accepting = shared.accepting.subscribe();
    tokio::select! {
        () = accept(sockets, &shared, accepting) => {}
        () = count_periods(&shared) => {}
    }
}

async fn accept(sockets: Sockets, shared: &Shared, mut accepting: watch::Receiver<Accepting>) {
    let mut listeners = match Listeners::new(sockets) {
        Ok(listeners) => listeners,
        Err(error) => {
            tracing::error!(%error, "cannot accept clients");
            return;
        }
    };
    loop {
        // An error means that the proxy is gone.
        let Ok(now) = accepting
            .wait_for(|now| *now != Accepting::Paused)
            .await
            .map(|now| *now)
        else {
            return;
        };
        if now == Accepting::Off {
            return;
        }
        tokio::select! {
            () = accept_one(&mut listeners, shared) => {}
            // Whatever it is, the loop looks again.
            _ = accepting.changed() => {}
        }
    }
}

/// Ends a period of the console's averages every so often.
async fn count_periods(shared: &Shared) {
    loop {
        shared
            .periods
            .look(&shared.metrics, tokio::time::Instant::now().into_std());
        tokio::time::sleep(crate::console::PERIOD).await;
    }
}

/// Cancel safe: a client is accepted and handed over in one go.
async fn accept_one(listeners: &mut Listeners, shared: &Shared) {
    // The semaphore is never closed.
    let Ok(permit) = Arc::clone(&shared.logins).acquire_owned().await else {
        return;
    };
    match poll_fn(|cx| listeners.poll_accept(cx)).await {
        Ok((socket, peer, local)) => {
            let worker = place::choose(shared);
            let Ok(socket) = Incoming::new(socket, worker == worker::ACCEPTING) else {
                return;
            };
            if let Some(load) = shared.loads.get(worker) {
                load.fetch_add(1, Ordering::Relaxed);
            }
            shared.mailboxes.send(
                worker,
                WorkerMessage::Client(Accepted {
                    socket,
                    peer,
                    local,
                    permit,
                }),
            );
        }
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// A connection, who is at its other end, and the address it came to.
type Connected = (Socket, Peer, Option<SocketAddr>);

/// The sockets, on the runtime of the worker that accepts.
struct Listeners {
    /// With the address, unless that stands for several.
    tcp: Vec<(TcpListener, Option<SocketAddr>)>,
    unix: Vec<UnixListener>,
    /// The Unix sockets are asked first; turns about, so that a busy kind does not starve the other.
    unix_first: bool,
}

impl Listeners {
    fn new(sockets: Sockets) -> io::Result<Self> {
        let Sockets { tcp, unix } = sockets;
        Ok(Self {
            tcp: tcp.into_iter().map(with_address).collect::<io::Result<_>>()?,
            unix: unix
                .into_iter()
                .map(UnixListener::from_std)
                .collect::<io::Result<_>>()?,
            unix_first: false,
        })
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        self.unix_first = !self.unix_first;
        for unix in [self.unix_first, !self.unix_first] {
            let polled = if unix {
                self.poll_unix(cx)
            } else {
                self.poll_tcp(cx)
            };
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    }

    fn poll_tcp(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        for (listener, address) in &self.tcp {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.and_then(|(socket, peer)| {
                    socket.set_nodelay(true)?;
                    // A client whose machine vanished must not hold its session, and perhaps locks, for ever.
                    socket2::SockRef::from(&socket).set_keepalive(true)?;
                    // A system call, where it cannot be known without.
                    let local = address.map_or_else(|| socket.local_addr().ok(), Some);
                    Ok((Socket::Tcp(socket), Peer::Tcp(peer), local))
                }));
            }
        }
        Poll::Pending
    }

    fn poll_unix(&self, cx: &mut Context<'_>) -> Poll<io::Result<Connected>> {
        for listener in &self.unix {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(socket, _)| {
                    let who = socket.peer_cred().ok();
                    let peer = Peer::Unix {
                        uid: who.as_ref().map(tokio::net::unix::UCred::uid),
                        pid: who.as_ref().and_then(tokio::net::unix::UCred::pid),
                    };
                    (Socket::Unix(socket), peer, None)
                }));
            }
        }
        Poll::Pending
    }
}

fn with_address(socket: std::net::TcpListener) -> io::Result<(TcpListener, Option<SocketAddr>)> {
    let address = socket.local_addr()?;
    let certain = (!address.ip().is_unspecified()).then_some(address);
    Ok((TcpListener::from_std(socket)?, certain))
}

#[cfg(test)]
mod tests;
