//! Cancels that reach the wrong proxy.
//!
//! Behind one address a CancelRequest, a connection of its own, may come to any of a cluster's proxies. So that it finds
//! its way, a client's process number names its proxy: 11 bits of it are the proxy's *number*, made at random at its
//! start. Each proxy publishes its number and an address for cancels in its membership record; a proxy that gets a cancel
//! for another number looks the number up and hands the cancel on. Two proxies may have the same number (with ten proxies
//! about once in fifty clusters): then all of them are sent the cancel, and the secret, which no two clients share,
//! decides whose it is.
//!
//! Handed on, a CancelRequest has one byte more: how many further proxies may hand it on. That makes its key's length
//! (5 or 33) one that no client's key has. A proxy never hands on a cancel with its own number, so a loop takes records
//! that are wrong; the byte ends it after three steps.
//!
//! The connection of whoever sent a cancel is closed when the servers have it, through all proxies on its way: a client may
//! wait for that before its next statement.
//!
//! | between | what can fail | then |
//! |---|---|---|
//! | receiving and looking up | the store cannot be read, or the queue is full | the cancel is lost, as a CancelRequest may always be |
//! | looking up and sending | the other proxy has ended | the same: its clients are gone |
//! | sending and its delivery | the client's statement has ended | the other proxy's slot knows: nothing is sent |
//!
//! Cancels travel between proxies in clear, as libpq before 17 sends them. Who reads one can cancel that client's
//! statements and no more.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use topology::Membership;
use topology::records::CancelPeer;
use wire::startup::{self, Startup};

use super::{BUFFER_BYTES, RandomError, random};
use crate::buffers::Buffers;
use crate::conn::{Conn, Socket};
use crate::metrics::WorkerMetrics;
use crate::worker::Shared;

/// Bits of a process number that are the proxy's.
const NUMBER_BITS: u32 = 11;

/// The other bits; process numbers are positive.
const LOCAL_BITS: u32 = 31 - NUMBER_BITS;

/// Proxies that may hand on one cancel.
pub const HOPS_MAX: u8 = 3;

/// Cancels waiting to be handed on; more are dropped.
const WAITING_MAX: usize = 256;

/// Connections at once for each direction.
const CONNECTIONS_MAX: usize = 64;

/// Handing one cancel on to one proxy, or receiving one, may take this long.
const HAND_ON_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A proxy, as its clients' process numbers name it. 0: one that has no peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerNumber(u16);

impl PeerNumber {
    /// A number for a proxy that starts.
    pub fn random() -> Result<Self, RandomError> {
        let number = u16::from_be_bytes(random()?) % ((1 << NUMBER_BITS) - 1);
        Ok(Self(number + 1))
    }

    /// The number that a process number names.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self(((pid & 0x7fff_ffff) >> LOCAL_BITS) as u16)
    }

    /// A process number of this proxy; `local` is cut to the bits that are left.
    #[must_use]
    pub fn pid(self, local: u32) -> u32 {
        (u32::from(self.0) << LOCAL_BITS) | (local & ((1 << LOCAL_BITS) - 1))
    }
}

/// A cancel to be handed on.
#[derive(Debug)]
pub(crate) struct Stray {
    pid: u32,
    secret: Vec<u8>,
    /// Further proxies that may hand it on.
    hops: u8,
    /// Dropped when it has been handed on, or is lost.
    done: oneshot::Sender<()>,
}

impl Stray {
    /// A CancelRequest that came with these words. `None`: no client of any proxy can have this key, or it has come
    /// far enough.
    fn new(pid: u32, key: &[u8]) -> Option<(Self, oneshot::Receiver<()>)> {
        let (secret, hops) = match key.len() {
            4 | 32 => (key, HOPS_MAX),
            5 | 33 => {
                let (hops, secret) = key.split_last()?;
                (secret, (*hops).min(HOPS_MAX))
            }
            _ => return None,
        };
        let (done, handed_on) = oneshot::channel();
        let stray = |hops| Self {
            pid,
            secret: secret.to_vec(),
            hops,
            done,
        };
        Some((stray(hops.checked_sub(1)?), handed_on))
    }

    fn key(&self) -> Vec<u8> {
        [&self.secret[..], &[self.hops]].concat()
    }
}

/// The client's secret in a key, which may have been handed on.
#[must_use]
pub(crate) fn secret_of(key: &[u8]) -> &[u8] {
    match key.len() {
        5 | 33 => &key[..key.len() - 1],
        _ => key,
    }
}

/// Where workers leave cancels for other proxies.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Stray>,
    /// Taken by [`run`].
    receiver: std::sync::Mutex<Option<mpsc::Receiver<Stray>>>,
    /// Cancels that are being handed on now, by the number of the proxy they go to.
    going: std::sync::Mutex<BTreeMap<u16, usize>>,
}

/// A cancel is on its way to a proxy.
struct Going {
    shared: Arc<Shared>,
    number: u16,
}

impl Going {
    fn new(shared: &Arc<Shared>, number: u16) -> Self {
        *shared.outbox.going().entry(number).or_default() += 1;
        Self {
            shared: Arc::clone(shared),
            number,
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut going = self.shared.outbox.going();
        if let Some(count) = going.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                going.remove(&self.number);
            }
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: std::sync::Mutex::new(Some(receiver)),
            going: std::sync::Mutex::default(),
        }
    }
}

impl Outbox {
    /// Leaves a cancel whose client is not one of ours. What is returned resolves, to an error, when the other proxies
    /// have it or it is lost. `None`: it can be nobody's, or there is no room.
    pub(crate) fn put(&self, own: PeerNumber, pid: u32, key: &[u8]) -> Option<oneshot::Receiver<()>> {
        let number = PeerNumber::of(pid);
        if number == own || number == PeerNumber::default() {
            return None;
        }
        let (stray, handed_on) = Stray::new(pid, key)?;
        self.sender.try_send(stray).ok()?;
        Some(handed_on)
    }

    /// Cancels that are being handed on now, by the number of the proxy they go to.
    pub(crate) fn going(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, usize>> {
        self.going
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn take(&self) -> Option<mpsc::Receiver<Stray>> {
        let mut receiver = self
            .receiver
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        receiver.take()
    }
}

/// Publishes where this proxy takes cancels, takes them there, and hands on those that workers leave. Runs until it is
/// dropped, on a runtime with local tasks.
pub(crate) async fn run(shared: Arc<Shared>, membership: Arc<Membership>, address: SocketAddr) {
    let Some(mut outbox) = shared.outbox.take() else {
        return;
    };
    let _ = shared.membership.set(Arc::downgrade(&membership));
    let peers = Rc::new(Peers {
        metrics: shared.metrics.add_worker(),
        receiving: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        sending: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        shared,
        membership,
    });
    match peers.publish(address).await {
        Ok(listener) => {
            tokio::task::spawn_local(Rc::clone(&peers).accept(listener));
        }
        Err(error) => tracing::warn!(%error, "cancels that reach other proxies cannot be taken over"),
    }
    while let Some(stray) = outbox.recv().await {
        Rc::clone(&peers).hand_on(stray).await;
    }
}

struct Peers {
    shared: Arc<Shared>,
    membership: Arc<Membership>,
    metrics: Arc<WorkerMetrics>,
    receiving: Arc<Semaphore>,
    sending: Arc<Semaphore>,
}

impl Peers {
    async fn publish(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address).await?;
        let peer = CancelPeer {
            number: self.shared.cancels.number().0,
            address: listener.local_addr()?,
        };
        let published = self.membership.publish_cancel(peer).await;
        published.map_err(io::Error::other)?;
        Ok(listener)
    }

    /// Takes cancels from other proxies.
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            // Never closed.
            let Ok(permit) = Arc::clone(&self.receiving).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((socket, _)) => {
                    let peers = Rc::clone(&self);
                    tokio::task::spawn_local(async move {
                        let _permit = permit;
                        // A peer that is cut off or says nothing sensible is told nothing.
                        let _ = tokio::time::timeout(HAND_ON_TIMEOUT, peers.receive(socket)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept of a cancel failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection: one CancelRequest, which is delivered before the connection is closed.
    async fn receive(&self, socket: TcpStream) -> io::Result<()> {
        let mut conn = Conn::new(Socket::Tcp(socket), Buffers::with_size(BUFFER_BYTES));
        conn.fill_to(4).await?;
        let Ok(Some(length)) = startup::peek(conn.unread()) else {
            return Ok(());
        };
        conn.fill_to(length).await?;
        let packet = conn.take(length);
        if let Ok(Startup::Cancel { pid, key }) = startup::decode(&packet) {
            self.metrics.cancels.increment();
            if let Some(slot) = self.shared.cancels.find(pid, secret_of(key)) {
                let sent = slot.cancel_request().await;
                self.metrics.cancels_sent.add(sent as u64);
            } else if let Some(done) = self.shared.outbox.put(self.shared.cancels.number(), pid, key) {
                self.metrics.cancels_forwarded.increment();
                let _ = done.await;
            } else {
                self.metrics.cancels_unknown.increment();
            }
        }
        Ok(())
    }

    async fn hand_on(self: Rc<Self>, stray: Stray) {
        let number = PeerNumber::of(stray.pid).0;
        let peers = match self.membership.cancel_peers().await {
            Ok(peers) => peers,
            Err(error) => {
                tracing::warn!(%error, "a cancel for another proxy was lost");
                return;
            }
        };
        // The last of them to be done drops it.
        let (pid, key, done) = (stray.pid, stray.key(), Rc::new(stray.done));
        for peer in peers.into_iter().filter(|peer| peer.number == number) {
            let Ok(permit) = Arc::clone(&self.sending).acquire_owned().await else {
                return;
            };
            let (key, done) = (key.clone(), Rc::clone(&done));
            let going = Going::new(&self.shared, number);
            tokio::task::spawn_local(async move {
                let _held = (permit, done, going);
                let sending = tokio::time::timeout(HAND_ON_TIMEOUT, send(peer.address, pid, &key)).await;
                if !matches!(sending, Ok(Ok(()))) {
                    tracing::warn!(address = %peer.address, "a cancel could not be handed on");
                }
            });
        }
    }
}

async fn send(address: SocketAddr, pid: u32, key: &[u8]) -> io::Result<()> {
    let socket = TcpStream::connect(address).await?;
    let mut conn = Conn::new(Socket::Tcp(socket), Buffers::with_size(BUFFER_BYTES));
    startup::encode::cancel(conn.out(), pid, key).map_err(io::Error::other)?;
    conn.flush().await?;
    conn.fill().await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_numbers_name_their_proxy() {
        for _ in 0..1000 {
            let number = PeerNumber::random().expect("random");
            let pid = number.pid(u32::from_be_bytes(random().expect("random")));
            assert!(number.0 > 0 && i32::try_from(pid).is_ok(), "{number:?} {pid}");
            assert_eq!(PeerNumber::of(pid), number);
        }
    }

    #[test]
    fn a_cancel_is_handed_on_three_times() {
        for secret in [&[7; 4][..], &[7; 32]] {
            let mut key = secret.to_vec();
            let mut steps = 0;
            while let Some((stray, _)) = Stray::new(1 << LOCAL_BITS, &key) {
                key = stray.key();
                assert_eq!(secret_of(&key), secret);
                steps += 1;
            }
            assert_eq!(steps, usize::from(HOPS_MAX));
        }
        assert!(Stray::new(1, &[0; 8]).is_none(), "no client has such a key");
        assert!(Stray::new(1, &[9, 9, 9, 9, 255]).is_some_and(|(stray, _)| stray.hops < HOPS_MAX));
    }

    #[test]
    fn own_and_impossible_numbers_are_not_handed_on() {
        let outbox = Outbox::default();
        let own = PeerNumber(5);
        assert!(outbox.put(own, own.pid(1), &[0; 4]).is_none());
        assert!(outbox.put(own, PeerNumber(0).pid(1), &[0; 4]).is_none());
        assert!(outbox.put(own, PeerNumber(6).pid(1), &[0; 4]).is_some());
    }
}
