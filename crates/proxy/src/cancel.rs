//! Query cancellation.
//!
//! Every client gets a random process number and secret. A CancelRequest that names them is passed on to the servers
//! the client is using *at that moment*, and to no others: a session binds a server to its [`CancelSlot`] when it
//! gets it and unbinds it before it gives it back. While a cancel is on its way to a server, the server is not given
//! to anybody else ([`Unbound::Pending`]); otherwise the cancel could hit the next user's query.
//!
//! A cancel for a client of another proxy of the cluster is handed on to it: [`peers`].

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::Notify;
use wire::startup::ProtocolVersion;

use crate::buffers::Buffers;
use crate::listing::ClientMark;
use crate::server::connect::{Encrypt, connect};
use crate::server::{Address, BackendKey};
use crate::spare::{Blank, Spare};
use crate::tls::ServerTls;

pub mod peers;
mod victim;

pub use peers::PeerNumber;
pub use victim::Blame;
pub(crate) use victim::deadlock_error;

/// Size of the buffers of a connection for one cancel, in bytes; a TLS handshake takes a few of them.
const BUFFER_BYTES: usize = 2 * 1024;

/// Process numbers tried before a client is refused; even with half of them taken this never happens.
const KEY_ATTEMPTS_MAX: usize = 64;

/// How long delivering a cancel to one server may take. After that the server is closed instead of reused.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client is named in a CancelRequest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Made-up process number; it says which proxy it belongs to ([`PeerNumber`]).
    pub pid: u32,
    /// Secret.
    pub secret: ClientSecret,
}

/// The secret part of a client's key. It never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientSecret {
    /// What protocol 3.0 has room for.
    Short([u8; 4]),
    /// For clients that speak protocol 3.2.
    Long(Box<[u8; 32]>),
}

impl ClientSecret {
    /// The bytes the client is told.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Long(bytes) => &bytes[..],
        }
    }

    /// A fresh one for a client that speaks this minor version of the protocol.
    fn random(minor: u16) -> Result<Self, RandomError> {
        Ok(if minor >= ProtocolVersion::V3_2.minor {
            Self::Long(Box::new(random()?))
        } else {
            Self::Short(random()?)
        })
    }
}

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// A server that a cancel would go to: one connection of ours. Two are the same only if they are one value.
#[derive(Debug)]
pub struct CancelTarget {
    /// Where the server listens.
    pub address: Arc<Address>,
    /// The backend.
    pub key: BackendKey,
    /// How the connection is encrypted, if it is: the cancel is then encrypted too.
    pub tls: Option<Arc<ServerTls>>,
    /// Why it was sent a cancel that its client did not ask for.
    pub(crate) blame: victim::Blame,
}

#[derive(Debug, Default)]
struct SlotState {
    bound: Vec<Arc<CancelTarget>>,
    /// Few clients ever cancel.
    cancels: Spare<Cancels>,
    /// To be woken by a cancel: the session waits for something that is no server.
    waker: Option<Waker>,
}

/// What has been done with a client's cancels.
#[derive(Debug, Default)]
struct Cancels {
    /// Servers one is on its way to, once per cancel; they may be unbound already.
    delivering: Vec<Arc<CancelTarget>>,
    /// Servers that one may still reach although its delivery was given up.
    doubtful: Vec<Arc<CancelTarget>>,
    /// The request was cancelled to end a deadlock, described here.
    deadlock: Option<Arc<str>>,
}

impl Blank for Cancels {
    const BLANK: &'static Self = &Self {
        delivering: Vec::new(),
        doubtful: Vec::new(),
        deadlock: None,
    };

    fn is_blank(&self) -> bool {
        self.delivering.is_empty() && self.doubtful.is_empty() && self.deadlock.is_none()
    }
}

impl SlotState {
    /// The server is not doubtful any more.
    fn trust(&mut self, target: &Arc<CancelTarget>) {
        if contains(&self.cancels.doubtful, target) {
            remove(&mut self.cancels.doubtful, target);
        }
    }

    /// A cancel is on its way to a server that the client still has.
    fn is_awaited(&self) -> bool {
        let mut under_way = self.cancels.delivering.iter();
        under_way.any(|target| contains(&self.bound, target))
    }
}

/// When the servers of a request that goes on although it was cancelled are told again.
const AGAIN_AFTER: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(750),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What the lowest bits of [`CancelSlot::request`] hold: the client has asked for nothing that is not answered yet.
const NO_REQUEST: u64 = 0;
/// It is being served.
const SERVED: u64 = 1;
/// It is being served, and a cancel has come since. It may have found no server at work: the statement was being planned,
/// waited for a connection, or was between two of its steps. So the next step is not taken.
const CANCELLED: u64 = 2;
/// Those bits; the others count requests.
const STATE: u64 = 3;

fn remove(from: &mut Vec<Arc<CancelTarget>>, target: &Arc<CancelTarget>) {
    from.retain(|other| !Arc::ptr_eq(other, target));
}

fn contains(list: &[Arc<CancelTarget>], target: &Arc<CancelTarget>) -> bool {
    list.iter().any(|other| Arc::ptr_eq(other, target))
}

/// The servers one client is using.
#[derive(Debug, Default)]
pub struct CancelSlot {
    state: Mutex<SlotState>,
    settled: Notify,
    /// One of the constants above, and which request it is. Written by the client's session, except that a cancel makes
    /// [`SERVED`] [`CANCELLED`].
    request: AtomicU64,
    /// A cancel was under way when its request had been answered.
    late: AtomicBool,
    /// The client's process number, as it was told.
    pid: AtomicU32,
    /// What is listed of the client.
    pub mark: ClientMark,
}

/// The answer to [`CancelSlot::unbind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Unbound {
    /// No cancel is on its way: anybody may use the server now.
    Clear,
    /// A cancel is on its way: await [`CancelSlot::settled`] before anybody else uses the server.
    Pending,
}

impl CancelSlot {
    /// The client's made-up process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// A request of the client begins: cancels before it were for nothing.
    pub(crate) fn begin_request(&self) {
        let before = self.request.load(Ordering::Relaxed) & !STATE;
        let this = before.wrapping_add(STATE + 1) | SERVED;
        self.request.store(this, Ordering::Release);
    }

    /// It is answered.
    pub(crate) fn end_request(&self) {
        let ended = (self.request.load(Ordering::Relaxed) & !STATE) | NO_REQUEST;
        if self.is_cancelled() {
            // Under the lock, under which servers are told again: not for this request any more.
            let mut state = self.lock();
            self.request.store(ended, Ordering::Release);
            self.late.store(state.is_awaited(), Ordering::Release);
            state.forgive();
        } else if self.request.swap(ended, Ordering::AcqRel) & STATE == CANCELLED {
            // It came this moment.
            let mut state = self.lock();
            self.late.store(state.is_awaited(), Ordering::Release);
            state.forgive();
        }
    }

    /// A cancel of an answered request may still reach a server that the client has kept: [`Self::arrived`] is to be
    /// awaited before the server is given anything else.
    pub(crate) fn is_late(&self) -> bool {
        self.late.load(Ordering::Acquire)
    }

    /// Waits until the cancels under way to such servers have arrived; at most as long as their delivery may take.
    pub(crate) async fn arrived(&self) {
        loop {
            let mut wait = std::pin::pin!(self.settled.notified());
            wait.as_mut().enable();
            if !self.lock().is_awaited() {
                self.late.store(false, Ordering::Release);
                return;
            }
            wait.await;
        }
    }

    /// A cancel has come since the request began.
    #[must_use]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.request.load(Ordering::Acquire) & STATE == CANCELLED
    }

    /// Does something that a cancel ends; `None`: one came, and the rest of it was dropped. What may be dropped half-way
    /// only.
    pub(crate) async fn until_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let watched = self.watch();
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| match watched.is_cancelled(cx) {
            true => Poll::Ready(None),
            false => work.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Until the result is dropped a cancel wakes the task that asks [`Watched::is_cancelled`], also when nothing else says
    /// that a request is being served.
    pub(crate) fn watch(&self) -> Watched<'_> {
        let own = self.change(NO_REQUEST, SERVED);
        Watched { slot: self, own }
    }

    /// From now on a cancel of this client also goes to `target`.
    pub fn bind(&self, target: Arc<CancelTarget>) {
        self.lock().bound.push(target);
    }

    /// From now on no new cancel goes to the server.
    pub fn unbind(&self, target: &Arc<CancelTarget>) -> Unbound {
        let mut state = self.lock();
        remove(&mut state.bound, target);
        state.forgive_one(target);
        if contains(&state.cancels.delivering, target) || contains(&state.cancels.doubtful, target) {
            Unbound::Pending
        } else {
            Unbound::Clear
        }
    }

    /// The server is gone: neither bound nor waited for any more.
    pub fn forget(&self, target: &Arc<CancelTarget>) {
        let mut state = self.lock();
        remove(&mut state.bound, target);
        state.trust(target);
    }

    /// Waits until no cancel is on its way to the server. False: a delivery was given up, the cancel may still come;
    /// close the server.
    pub async fn settled(&self, target: &Arc<CancelTarget>) -> bool {
        loop {
            let mut wait = std::pin::pin!(self.settled.notified());
            // Registered before the look, so that a delivery ending in between is not missed.
            wait.as_mut().enable();
            {
                let mut state = self.lock();
                if !contains(&state.cancels.delivering, target) {
                    let doubtful = contains(&state.cancels.doubtful, target);
                    state.trust(target);
                    return !doubtful;
                }
            }
            wait.await;
        }
    }

    /// Servers a cancel would go to now.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<CancelTarget>> {
        self.lock().bound.clone()
    }

    /// Cancels the client's request: resolves when the servers have been told. PostgreSQL passes over a cancel that comes
    /// before it has begun with a statement, or between two messages, and of several servers one may be there already; so
    /// they are told again, by a local task, until the request is over.
    pub(crate) async fn cancel_request(self: &Arc<Self>) -> usize {
        let sent = self.cancel().await;
        if self.is_cancelled() {
            let slot = Arc::clone(self);
            tokio::task::spawn_local(async move {
                for pause in AGAIN_AFTER {
                    tokio::time::sleep(pause).await;
                    let Some(targets) = slot.begin_again() else {
                        return;
                    };
                    slot.deliver(targets).await;
                }
            });
        }
        sent
    }

    /// Sends a cancel to every bound server and waits until the servers have taken note. Returns how many were sent.
    pub async fn cancel(&self) -> usize {
        // Nothing is under way unless a request is.
        self.change(SERVED, CANCELLED);
        if let Some(waker) = self.lock().waker.take() {
            waker.wake();
        }
        self.cancel_servers().await
    }

    /// Passes a cancel to the servers at work for the session, which wants no more of this answer but has not been cancelled
    /// itself: what it asks next is served. How many servers it went to.
    pub async fn cancel_servers(&self) -> usize {
        let targets = {
            let mut state = self.lock();
            let targets = state.bound.clone();
            state.cancels.delivering.extend(targets.iter().cloned());
            targets
        };
        self.deliver(targets).await
    }

    /// The servers to be told again; `None`: the request has been answered.
    fn begin_again(&self) -> Option<Vec<Arc<CancelTarget>>> {
        let mut state = self.lock();
        if !self.is_cancelled() {
            return None;
        }
        let targets = state.bound.clone();
        state.cancels.delivering.extend(targets.iter().cloned());
        Some(targets)
    }

    async fn deliver(&self, targets: Vec<Arc<CancelTarget>>) -> usize {
        // If this future is dropped half-way, the servers not yet heard of are doubtful.
        let mut deliveries = Deliveries {
            slot: self,
            left: targets.clone(),
        };
        for target in &targets {
            let result = tokio::time::timeout(DELIVERY_TIMEOUT, send_cancel(target)).await;
            let certain = matches!(result, Ok(Ok(())));
            if !certain {
                tracing::warn!(address = %target.address, "a cancel request could not be delivered");
            }
            deliveries.finish(target, certain);
        }
        targets.len()
    }

    /// Changes the state of the request at hand. False: it has another.
    fn change(&self, from: u64, to: u64) -> bool {
        let changed = self
            .request
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |request| {
                (request & STATE == from).then_some((request & !STATE) | to)
            });
        changed.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`CancelSlot::watch`].
pub(crate) struct Watched<'a> {
    slot: &'a CancelSlot,
    /// The request is only known by this.
    own: bool,
}

impl Watched<'_> {
    /// A cancel has come; otherwise the task is woken when one comes. Whatever waits then is dropped half-way.
    pub(crate) fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        // Before the look, so that a cancel in between is not missed.
        self.slot.lock().waker = Some(cx.waker().clone());
        self.slot.is_cancelled()
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.slot.lock().waker = None;
        if self.own {
            self.slot.end_request();
        }
    }
}

struct Deliveries<'a> {
    slot: &'a CancelSlot,
    left: Vec<Arc<CancelTarget>>,
}

impl Deliveries<'_> {
    fn finish(&mut self, target: &Arc<CancelTarget>, certain: bool) {
        remove(&mut self.left, target);
        let mut state = self.slot.lock();
        if let Some(at) = state
            .cancels
            .delivering
            .iter()
            .position(|other| Arc::ptr_eq(other, target))
        {
            state.cancels.delivering.swap_remove(at);
        }
        if !certain {
            state.cancels.doubtful.push(Arc::clone(target));
        }
        drop(state);
        self.slot.settled.notify_waiters();
    }
}

impl Drop for Deliveries<'_> {
    fn drop(&mut self) {
        for target in std::mem::take(&mut self.left) {
            self.finish(&target, false);
        }
    }
}

/// Sends one CancelRequest, encrypted if the connection it is about is, and waits until the server has closed the
/// socket: then the signal has been sent. When no connection can be made nothing was sent, and nothing can arrive later.
async fn send_cancel(target: &CancelTarget) -> io::Result<()> {
    let plain = ServerTls::default();
    let (tls, encrypt) = match &target.tls {
        Some(tls) => (&**tls, Encrypt::Must),
        None => (&plain, Encrypt::No),
    };
    let mut conn = match connect(&target.address, tls, encrypt, Buffers::with_size(BUFFER_BYTES)).await {
        Ok(conn) => conn,
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(address = %target.address, %error, cause, "no connection for a cancel request");
            return Ok(());
        }
    };
    wire::startup::encode::cancel(conn.out(), target.key.pid, &target.key.secret)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    conn.flush().await?;
    match conn.fill().await {
        Ok(_) => Ok(()),
        // A reset also means that the server is done with the request.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

/// Secret and servers of each client, by its made-up process number.
type Clients = HashMap<u32, (ClientSecret, Arc<CancelSlot>)>;

/// All clients of one proxy by their key.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    /// This proxy, in its clients' keys.
    number: PeerNumber,
    clients: Mutex<Clients>,
}

impl CancelRegistry {
    /// No clients yet.
    #[must_use]
    pub fn new(number: PeerNumber) -> Self {
        Self {
            number,
            clients: Mutex::default(),
        }
    }

    /// Which proxy the keys name.
    #[must_use]
    pub fn number(&self) -> PeerNumber {
        self.number
    }

    /// Registers a client that speaks this minor version of protocol 3 under a fresh random key. It is removed when
    /// the returned value is dropped.
    pub fn register(self: &Arc<Self>, minor: u16) -> Result<ClientCancel, RandomError> {
        let slot = Arc::new(CancelSlot::default());
        let secret = ClientSecret::random(minor)?;
        for _ in 0..KEY_ATTEMPTS_MAX {
            let pid = self.number.pid(u32::from_be_bytes(random()?));
            let mut clients = self.lock();
            if pid == 0 || clients.contains_key(&pid) {
                continue;
            }
            slot.pid.store(pid, Ordering::Relaxed);
            clients.insert(pid, (secret.clone(), Arc::clone(&slot)));
            return Ok(ClientCancel {
                key: ClientKey { pid, secret },
                slot,
                registry: Arc::clone(self),
            });
        }
        Err(RandomError)
    }

    /// The slot of the client that a CancelRequest names, if number and secret are right.
    #[must_use]
    pub fn find(&self, pid: u32, secret: &[u8]) -> Option<Arc<CancelSlot>> {
        let clients = self.lock();
        let (expected, slot) = clients.get(&pid)?;
        // Compared without leaving early: how many bytes were right must not show in the time taken.
        let expected = expected.as_bytes();
        let difference = expected.iter().zip(secret).fold(0, |all, (a, b)| all | (a ^ b));
        (secret.len() == expected.len() && difference == 0).then(|| Arc::clone(slot))
    }

    /// All clients registered, by their process numbers.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<CancelSlot>> {
        let mut all: Vec<_> = self.lock().values().map(|(_, slot)| Arc::clone(slot)).collect();
        all.sort_by_key(|slot| slot.pid());
        all
    }

    /// Clients registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// No client is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's registration.
#[derive(Debug)]
pub struct ClientCancel {
    /// What the client is told in BackendKeyData.
    pub key: ClientKey,
    /// The servers it is using.
    pub slot: Arc<CancelSlot>,
    registry: Arc<CancelRegistry>,
}

impl Drop for ClientCancel {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.key.pid);
    }
}

/// The system has no randomness to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source failed")]
pub struct RandomError;

/// Unpredictable bytes.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| RandomError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
