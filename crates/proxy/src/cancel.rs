//! Query cancellation.
//!
//! Every client gets a random process number and secret. A CancelRequest that names them is passed on to the servers
//! the client is using *at that moment*, and to no others: a session binds a server to its [`CancelSlot`] when it
//! gets it and unbinds it before it gives it back. While a cancel is on its way to a server, the server is not given
//! to anybody else ([`Unbound::Pending`]); otherwise the cancel could hit the next user's query.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use hashbrown::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::server::{Address, BackendKey};

/// How long delivering a cancel to one server may take. After that the server is closed instead of reused.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client is named in a CancelRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// Made-up process number.
    pub pid: u32,
    /// Secret.
    pub secret: [u8; 4],
}

/// A server that a cancel would go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelTarget {
    /// Where the server listens.
    pub address: Arc<Address>,
    /// The backend.
    pub key: BackendKey,
}

#[derive(Debug, Default)]
struct SlotState {
    bound: Vec<CancelTarget>,
    /// Backends a cancel is on its way to, once per cancel; they may be unbound already.
    delivering: Vec<BackendKey>,
    /// Backends that a cancel may still reach although its delivery was given up.
    doubtful: Vec<BackendKey>,
}

/// The servers one client is using.
#[derive(Debug, Default)]
pub struct CancelSlot {
    state: Mutex<SlotState>,
    settled: Notify,
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
    /// From now on a cancel of this client also goes to `target`.
    pub fn bind(&self, target: CancelTarget) {
        self.lock().bound.push(target);
    }

    /// From now on no new cancel goes to the server.
    pub fn unbind(&self, key: BackendKey) -> Unbound {
        let mut state = self.lock();
        state.bound.retain(|target| target.key != key);
        if state.delivering.contains(&key) || state.doubtful.contains(&key) {
            Unbound::Pending
        } else {
            Unbound::Clear
        }
    }

    /// The server is gone: neither bound nor waited for any more.
    pub fn forget(&self, key: BackendKey) {
        let mut state = self.lock();
        state.bound.retain(|target| target.key != key);
        state.doubtful.retain(|other| *other != key);
    }

    /// Waits until no cancel is on its way to the server. False: a delivery was given up, the cancel may still come;
    /// close the server.
    pub async fn settled(&self, key: BackendKey) -> bool {
        loop {
            let mut wait = std::pin::pin!(self.settled.notified());
            // Registered before the look, so that a delivery ending in between is not missed.
            wait.as_mut().enable();
            {
                let mut state = self.lock();
                if !state.delivering.contains(&key) {
                    let doubtful = state.doubtful.contains(&key);
                    state.doubtful.retain(|other| *other != key);
                    return !doubtful;
                }
            }
            wait.await;
        }
    }

    /// Servers a cancel would go to now.
    #[must_use]
    pub fn targets(&self) -> Vec<CancelTarget> {
        self.lock().bound.clone()
    }

    /// Sends a cancel to every bound server and waits until the servers have taken note. Returns how many were sent.
    pub async fn cancel(&self) -> usize {
        let targets = {
            let mut state = self.lock();
            let targets = state.bound.clone();
            state.delivering.extend(targets.iter().map(|target| target.key));
            targets
        };
        // If this future is dropped half-way, the servers not yet heard of are doubtful.
        let mut deliveries = Deliveries {
            slot: self,
            left: targets.iter().map(|target| target.key).collect(),
        };
        for target in &targets {
            let result = tokio::time::timeout(DELIVERY_TIMEOUT, send_cancel(target)).await;
            let certain = matches!(result, Ok(Ok(())));
            if !certain {
                tracing::warn!(address = %target.address, "a cancel request could not be delivered");
            }
            deliveries.finish(target.key, certain);
        }
        targets.len()
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Deliveries<'a> {
    slot: &'a CancelSlot,
    left: Vec<BackendKey>,
}

impl Deliveries<'_> {
    fn finish(&mut self, key: BackendKey, certain: bool) {
        self.left.retain(|other| *other != key);
        let mut state = self.slot.lock();
        if let Some(at) = state.delivering.iter().position(|other| *other == key) {
            state.delivering.swap_remove(at);
        }
        if !certain {
            state.doubtful.push(key);
        }
        drop(state);
        self.slot.settled.notify_waiters();
    }
}

impl Drop for Deliveries<'_> {
    fn drop(&mut self) {
        for key in std::mem::take(&mut self.left) {
            self.finish(key, false);
        }
    }
}

/// Sends one CancelRequest and waits until the server has closed the socket: then the signal has been sent. When no
/// connection can be made nothing was sent, and nothing can arrive later.
async fn send_cancel(target: &CancelTarget) -> io::Result<()> {
    let mut packet = BytesMut::with_capacity(16);
    wire::startup::encode::cancel(&mut packet, target.key.pid, &target.key.secret)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let socket = match target.address.connect().await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(address = %target.address, %error, "no connection for a cancel request");
            return Ok(());
        }
    };
    match socket {
        crate::conn::Socket::Tcp(mut socket) => deliver(&mut socket, &packet).await,
        crate::conn::Socket::Unix(mut socket) => deliver(&mut socket, &packet).await,
    }
}

async fn deliver<S>(socket: &mut S, packet: &[u8]) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.write_all(packet).await?;
    let mut byte = [0];
    match socket.read(&mut byte).await {
        Ok(_) => Ok(()),
        // A reset also means that the server is done with the request.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

/// Secret and servers of each client, by its made-up process number.
type Clients = HashMap<u32, ([u8; 4], Arc<CancelSlot>)>;

/// All clients of one proxy by their key.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    clients: Mutex<Clients>,
}

impl CancelRegistry {
    /// Registers a client under a fresh random key. It is removed when the returned value is dropped.
    pub fn register(self: &Arc<Self>) -> Result<ClientCancel, RandomError> {
        let slot = Arc::new(CancelSlot::default());
        loop {
            let [a, b, c, d, secret @ ..] = random::<8>()?;
            // Positive, as process numbers are: some drivers read it as a signed number.
            let pid = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
            let mut clients = self.lock();
            if pid == 0 || clients.contains_key(&pid) {
                continue;
            }
            clients.insert(pid, (secret, Arc::clone(&slot)));
            return Ok(ClientCancel {
                key: ClientKey { pid, secret },
                slot,
                registry: Arc::clone(self),
            });
        }
    }

    /// The slot of the client that a CancelRequest names, if number and secret are right.
    #[must_use]
    pub fn find(&self, pid: u32, secret: &[u8]) -> Option<Arc<CancelSlot>> {
        let clients = self.lock();
        let (expected, slot) = clients.get(&pid)?;
        // Compared without leaving early: how many bytes were right must not show in the time taken.
        let difference = expected.iter().zip(secret).fold(0, |all, (a, b)| all | (a ^ b));
        (secret.len() == expected.len() && difference == 0).then(|| Arc::clone(slot))
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
