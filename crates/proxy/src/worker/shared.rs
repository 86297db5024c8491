//! What the workers of one proxy share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::auth::{Reach, Secrets};
use crate::cancel::peers::Outbox;
use crate::cancel::{CancelRegistry, PeerNumber};
use crate::config::{ProxyConfig, ShardConfig};
use crate::listener::Accepting;
use crate::listing::ServerRow;
use crate::metrics::Registry;
use crate::nodes::{Nodes, Outcome};
use crate::operations::Operations;
use crate::pools::{
    Admission, CheckoutError, Denied, Dials, Entries, Limiters, Permit, Place, Policies, PolicySource,
    PoolKey, PoolStats, Shards, Tickets,
};
use crate::reload::Reloader;
use crate::server::{Address, DialError, ServerConn, StatementId, Travelling};
use crate::session::FloorMap;
use crate::sockets::Sockets;
use crate::tls::{Tls, TlsError};

/// What one worker is told by another thread.
pub(crate) enum WorkerMessage {
    /// A new client.
    Client(crate::login::Accepted),
    /// Another worker lacks a connection of this pool.
    Want {
        /// Which pool.
        key: PoolKey,
    },
    /// A permit of this pool is free.
    Room {
        /// Which pool.
        key: PoolKey,
    },
    /// Take over this connection.
    Adopt {
        /// Which pool.
        key: PoolKey,
        /// The connection.
        travelling: Box<Travelling>,
        /// Its permit.
        permit: Permit,
    },
    /// The server changed.
    Recycle {
        /// Which server.
        place: Place,
    },
    /// Nobody may wait for the server any more: connections to it that are in use are cut, unless they lead to where the
    /// server is now.
    Cut {
        /// Which server.
        place: Place,
    },
    /// A connection to the server broke in a way that may concern all.
    Suspect {
        /// Which server.
        place: Place,
    },
    /// A pool needs a connection under a limit that it shares: close one that is idle elsewhere.
    Evict {
        /// Which pool needs it.
        key: PoolKey,
        /// Which limit.
        denied: Denied,
    },
    /// Pools of a client database, or all of them, are switched.
    Switch {
        /// Which database; `None`: all.
        database: Option<Arc<str>>,
        /// What to do.
        switch: Switch,
    },
    /// The pools of a shard's primary are switched.
    SwitchShard {
        /// Which shard.
        shard: u32,
        /// What to do: pause or resume.
        switch: Switch,
    },
    /// Pool settings were replaced.
    Reconfigure,
    /// Sessions of this client database end as soon as no transaction is open: it stands for something else now, or is
    /// gone.
    End {
        /// Which database.
        database: Arc<str>,
    },
    /// Open this pool, so that it keeps its connections.
    Warm {
        /// Which pool.
        key: PoolKey,
    },
    /// Report the pools.
    Stats(oneshot::Sender<Vec<PoolStats>>),
    /// Report the server connections.
    Servers(oneshot::Sender<Vec<ServerRow>>),
    /// End this client's session at once.
    KillClient {
        /// Its process number.
        pid: u32,
    },
    /// End all sessions, then the worker.
    Shutdown,
}

/// What happens to the pools of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// New transactions wait, connections are closed when they come back.
    Pause,
    /// They go on.
    Resume,
    /// Connections are closed when they come back; new ones take their place.
    Recycle,
    /// Its sessions are ended at once (57P01).
    Kill,
    /// Its server answers nobody: transactions wait, within bounds.
    Hold,
    /// It does again, or has a successor.
    LetGo,
}

/// The workers' inboxes.
///
/// Unbounded channels, but every kind of message is bounded by something else: clients by `max_clients`, the rest by
/// the number of pools and permits.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    senders: Vec<mpsc::UnboundedSender<WorkerMessage>>,
}

impl Mailboxes {
    /// One inbox per worker.
    pub(crate) fn new(workers: usize) -> (Arc<Self>, Vec<mpsc::UnboundedReceiver<WorkerMessage>>) {
        let (senders, receivers) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Arc::new(Self { senders }), receivers)
    }

    /// Number of workers.
    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }

    /// To one worker. A worker that has ended drops what it is sent.
    pub(crate) fn send(&self, worker: usize, message: WorkerMessage) {
        if let Some(sender) = self.senders.get(worker) {
            let _ = sender.send(message);
        }
    }

    /// To all workers.
    pub(crate) fn send_all(&self, message: impl Fn() -> WorkerMessage) {
        self.send_others(usize::MAX, message);
    }

    /// To all workers but one.
    pub(crate) fn send_others(&self, except: usize, message: impl Fn() -> WorkerMessage) {
        for worker in (0..self.senders.len()).filter(|worker| *worker != except) {
            self.send(worker, message());
        }
    }
}

/// What the workers of one proxy share.
pub struct Shared {
    /// As given at the start.
    pub config: ProxyConfig,
    /// Where the shards are.
    pub shards: Shards,
    /// The servers of each shard as they are observed.
    pub nodes: Arc<Nodes>,
    /// What replicas must have replayed, by database and shard.
    pub floors: Arc<Mutex<FloorMap>>,
    /// Clients by their cancel keys.
    pub cancels: Arc<CancelRegistry>,
    /// Cancels for other proxies' clients.
    pub(crate) outbox: Outbox,
    /// The cluster's proxies, where there is a cluster.
    pub(crate) membership: OnceLock<std::sync::Weak<topology::Membership>>,
    /// The servers' names.
    pub names: crate::names::Names,
    /// All metrics.
    pub metrics: Arc<Registry>,
    /// Who may log in, and how the proxy logs in.
    pub secrets: Secrets,
    /// Encryption, of clients' connections and of those to servers.
    pub tls: Arc<Tls>,
    /// Startup parameters of every server connection.
    pub server_params: Vec<(String, String)>,
    /// Which pool settings hold for whom.
    pub policies: Policies,
    /// Databases and users as all workers see them.
    pub entries: Entries,
    /// What operators ask of the process.
    pub operations: Operations,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) limiters: Limiters,
    /// Logins to servers under way, per shard.
    pub(crate) dials: Dials,
    pub(crate) mailboxes: Arc<Mailboxes>,
    /// Clients per worker.
    pub(crate) loads: Vec<AtomicUsize>,
    /// How busy each worker's thread was lately, in thousandths of a core.
    pub(crate) busy: Vec<AtomicU32>,
    /// One permit per client logging in.
    pub(crate) logins: Arc<Semaphore>,
    /// CancelRequests being delivered.
    pub(crate) delivering: AtomicUsize,
    /// Clients of the console, which are clients too.
    pub(crate) consoles: AtomicUsize,
    pub(crate) stopping: AtomicBool,
    /// Reads the configuration again.
    pub(crate) reloader: OnceLock<Arc<dyn Reloader>>,
    /// Those who listen, by database.
    pub(crate) notifications: Arc<crate::notify::Notifications>,
    /// Who asks for `currval` and `lastval`.
    pub(crate) sequence_readers: crate::session::SequenceReaders,
    pub(crate) ids: crate::ids::Ids,
    pub(crate) accepting: watch::Sender<Accepting>,
    /// For the console's averages.
    pub(crate) periods: crate::console::Periods,
    /// The sockets once more, as long as they may be handed over.
    sockets: Mutex<Option<Sockets>>,
    next_statement: AtomicU64,
    /// The way to the collector of spans.
    pub(crate) exporter: Option<crate::trace::Exporter>,
}

impl Shared {
    pub(crate) fn new(
        config: ProxyConfig,
        tls: Arc<Tls>,
        mailboxes: Arc<Mailboxes>,
        nodes: Arc<Nodes>,
    ) -> Result<Self, StartError> {
        let pool = &config.pool;
        let metrics: Arc<Registry> = Arc::default();
        let exporter = match &config.observe.traces {
            Some(traces) => {
                let (endpoint, service) = (traces.endpoint.clone(), traces.service_name.clone());
                let own = metrics.add_worker();
                Some(crate::trace::Exporter::start(endpoint, service, own).map_err(StartError::Thread)?)
            }
            None => None,
        };
        Ok(Self {
            shards: Shards::new(config.shards.clone()),
            nodes,
            floors: Arc::default(),
            cancels: Arc::new(CancelRegistry::new(PeerNumber::random()?)),
            outbox: Outbox::default(),
            membership: OnceLock::new(),
            names: Default::default(),
            metrics,
            secrets: Secrets::new(&config)?,
            tls,
            server_params: vec![("client_encoding".into(), "UTF8".into())],
            operations: Operations::default(),
            tickets: Arc::new(Tickets::new(
                pool.multi_shard,
                pool.queue_limit,
                pool.connection_timeout,
            )),
            limiters: Limiters::new(Arc::clone(&mailboxes)),
            dials: Dials::new(pool.dial_parallel_shard),
            policies: Policies::new(PolicySource::new(&config)),
            entries: Entries::new(&config),
            loads: (0..mailboxes.len()).map(|_| AtomicUsize::new(0)).collect(),
            busy: (0..mailboxes.len()).map(|_| AtomicU32::new(0)).collect(),
            mailboxes,
            logins: Arc::new(Semaphore::new(
                config.limits.max_logins.clamp(1, Semaphore::MAX_PERMITS),
            )),
            delivering: AtomicUsize::new(0),
            consoles: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            reloader: OnceLock::new(),
            notifications: Arc::default(),
            sequence_readers: Default::default(),
            ids: Default::default(),
            accepting: watch::Sender::new(Accepting::On),
            periods: Default::default(),
            sockets: Mutex::default(),
            next_statement: AtomicU64::new(1),
            exporter,
            config,
        })
    }

    /// Where the shards are, and how connections to them are encrypted.
    pub fn reach(&self) -> Reach<'_> {
        Reach {
            shards: &self.shards,
            tls: &self.tls,
        }
    }

    /// A statement id that no worker has used.
    pub fn next_statement_id(&self) -> StatementId {
        StatementId(self.next_statement.fetch_add(1, Ordering::Relaxed))
    }

    /// The shards changed (a failover, a new shard): later logins go to the new addresses, connections to the old ones
    /// are closed as soon as nobody uses them.
    pub fn set_shards(&self, shards: Vec<ShardConfig>) {
        for shard in self.shards.replace(shards) {
            self.recycle(Place::primary(shard));
        }
    }

    /// Where a server is now; `None`: the shard, or the server, is not in the topology.
    pub(crate) fn address_of(&self, place: Place) -> Option<Address> {
        match place.node {
            None if self.nodes.are_watched() => self.nodes.primary(place.shard).ok(),
            None => self.shards.address(place.shard),
            Some(node) => self.nodes.address(place.shard, node),
        }
    }

    /// Tells the circuit breaker of a replica how a login to it went. One that the server refuses says nothing against
    /// it, unless it is about to stop.
    pub(crate) fn report(&self, place: Place, login: &Result<ServerConn, DialError>) {
        let Some(node) = place.node else { return };
        let outcome = match login {
            Ok(_) => Outcome::Answered,
            Err(DialError::Io { .. } | DialError::TimedOut { .. }) => Outcome::Gone,
            Err(error) if error.is_down() => Outcome::Gone,
            Err(_) => Outcome::Nothing,
        };
        if let Some(view) = self.nodes.view(place.shard)
            && let Some(node) = view.node(node)
        {
            node.node.report(outcome);
        }
    }

    /// What people call a server: the shard's name, of a replica also its number.
    #[must_use]
    pub fn name_of(&self, place: Place) -> String {
        let shard = self.shards.name(place.shard);
        match place.node {
            None => shard,
            Some(node) => format!("{shard}, node {node}"),
        }
    }

    /// Closes the connections to a server as soon as nobody uses them.
    pub fn recycle(&self, place: Place) {
        self.mailboxes.send_all(|| WorkerMessage::Recycle { place });
    }

    /// Cuts the connections to a server that is dead or has been replaced, also those in use: whoever waits for an answer
    /// is told that the connection is lost.
    pub(crate) fn cut(&self, place: Place) {
        self.mailboxes.send_all(|| WorkerMessage::Cut { place });
    }

    /// Connections to a server that are idle now are checked before they are lent.
    pub(crate) fn suspect(&self, place: Place) {
        self.mailboxes.send_all(|| WorkerMessage::Suspect { place });
    }

    /// Replaces the settings of pools, databases and users. Pools take them over at once, sessions when they begin.
    /// Sessions of database entries that are gone, or stand for another database or role, end between transactions:
    /// what they know is about another database.
    pub fn set_policies(&self, mut source: PolicySource) {
        self.entries.servers.set_limit(source.pool.max_servers);
        for entry in source.databases.iter().filter(|entry| !entry.is_wildcard()) {
            self.entries.database(&entry.name);
        }
        let before = self.policies.source();
        source.rules = source.rules.after(&before.rules);
        let all = self.entries.databases().into_iter();
        let changed = all.filter(|database| !source.agrees(&before, &database.name));
        let changed: Vec<Arc<str>> = changed.map(|database| Arc::clone(&database.name)).collect();
        self.policies.replace(source);
        self.limiters.adjust(&self.policies);
        self.mailboxes.send_all(|| WorkerMessage::Reconfigure);
        for database in changed {
            self.mailboxes.send_all(|| WorkerMessage::End {
                database: Arc::clone(&database),
            });
        }
        crate::pools::upkeep::warm(self);
    }

    /// Counts a client that has proved who it is, or says why it may not come in: no such database (3D000), or a
    /// limit (53300).
    pub fn admit(&self, user: &str, database: &str) -> Result<Admission, CheckoutError> {
        let Some(policy) = self.policies.resolve(user, database) else {
            return Err(CheckoutError {
                sqlstate: "3D000".into(),
                message: format!("database \"{database}\" does not exist"),
                hint: None,
            });
        };
        let (database, user) = (self.entries.database(database), self.entries.user(user));
        database.clients.set_limit(policy.max_database_clients);
        user.clients.set_limit(policy.max_user_clients);
        Admission::new(database, user)
    }

    /// Figures of all pools of all workers. Works on any runtime.
    pub async fn pool_stats(&self) -> Vec<PoolStats> {
        let mut all = Vec::new();
        for worker in 0..self.mailboxes.len() {
            let (sender, receiver) = oneshot::channel();
            self.mailboxes.send(worker, WorkerMessage::Stats(sender));
            all.extend(receiver.await.unwrap_or_default());
        }
        all
    }

    /// All metrics in Prometheus' text format. Works on any runtime.
    pub async fn prometheus(&self) -> String {
        let pools = self.pool_stats().await;
        let mut text = self.metrics.prometheus();
        text.push_str(&crate::metrics::nodes::expose(&self.nodes));
        text.push_str(&crate::metrics::rules::expose(&self.policies.source().rules));
        text.push_str(&crate::metrics::pools::expose(&pools, |shard| {
            self.shards.name(shard)
        }));
        text
    }

    /// All server connections of all workers. Works on any runtime.
    pub async fn servers(&self) -> Vec<ServerRow> {
        let mut all = Vec::new();
        for worker in 0..self.mailboxes.len() {
            let (sender, receiver) = oneshot::channel();
            self.mailboxes.send(worker, WorkerMessage::Servers(sender));
            all.extend(receiver.await.unwrap_or_default());
        }
        all
    }

    /// Ends the session of a client, named by its process number. False: there is none.
    pub fn kill_client(&self, pid: u32) -> bool {
        let known = self.cancels.list().iter().any(|slot| slot.pid() == pid);
        if known {
            self.mailboxes.send_all(|| WorkerMessage::KillClient { pid });
        }
        known
    }

    /// Multi-shard transactions waiting for a ticket, and free tickets.
    #[must_use]
    pub fn tickets(&self) -> (usize, usize) {
        (self.tickets.waiting(), self.tickets.free())
    }

    /// Clients connected now that are not operators at the console.
    #[must_use]
    pub fn ordinary_clients(&self) -> usize {
        self.clients()
            .saturating_sub(self.consoles.load(Ordering::Relaxed))
    }

    /// Clients connected now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// The sockets clients connect to, for another process; `None` once nobody is accepted any more.
    #[must_use]
    pub fn sockets(&self) -> Option<Sockets> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.as_ref().and_then(|sockets| sockets.try_clone().ok())
    }

    /// Where TCP clients connect.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.as_ref().map(Sockets::addresses).unwrap_or_default()
    }

    pub(crate) fn set_sockets(&self, sockets: Sockets) {
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets);
    }

    /// Clients that connect from now on wait in the kernel's backlog.
    pub(crate) fn pause_accepting(&self) {
        self.change_accepting(Accepting::On, Accepting::Paused);
    }

    /// Ends that. False: it was not so.
    pub(crate) fn resume_accepting(&self) -> bool {
        self.change_accepting(Accepting::Paused, Accepting::On)
    }

    fn change_accepting(&self, from: Accepting, to: Accepting) -> bool {
        self.accepting.send_if_modified(|now| {
            let change = *now == from;
            if change {
                *now = to;
            }
            change
        })
    }

    /// SUSPEND is in force.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        *self.accepting.borrow() == Accepting::Paused
    }

    /// Accepts no more clients: another process does it on the same sockets.
    pub fn leave_listening(&self) {
        self.accepting.send_replace(Accepting::Off);
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Accepts no more clients, nor does anybody else here.
    pub fn end_listening(&self) {
        self.accepting.send_replace(Accepting::Off);
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sockets) = sockets {
            sockets.remove_files();
        }
    }

    /// A shutdown was asked for.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Why a proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address clients connect to cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The Unix socket cannot be listened on.
    #[error("cannot listen on {}", path.display())]
    ListenUnix {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A thread or runtime could not be made.
    #[error("cannot start a worker")]
    Thread(#[source] std::io::Error),
    /// A user's verifier cannot be read or made.
    #[error("the verifier of user \"{user}\" is not valid")]
    Verifier {
        /// Whose.
        user: String,
    },
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] crate::cancel::RandomError),
}
