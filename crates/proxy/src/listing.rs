//! Who is connected: clients and servers, as the console lists them.
//!
//! A client's mark hangs on its cancel registration, where any thread finds it; a server's mark belongs to its worker,
//! which is asked for a copy. On the path of a transaction a mark costs a few plain stores: which client a server is
//! lent to, and when, by a clock that is read once a second.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::pools::PoolKey;
use crate::server::{Address, ServerConn};
use crate::session::effects::Pins;
use crate::sockets::Peer;

/// What is known of a client from its login on.
#[derive(Debug)]
pub struct ClientInfo {
    /// Its name.
    pub user: Arc<str>,
    /// The database it asked for.
    pub database: Arc<str>,
    /// Where it connected from.
    pub peer: Peer,
    /// Address and port it connected to; `None` for a Unix socket.
    pub local: Option<(IpAddr, u16)>,
    /// When it logged in, in seconds since 1970.
    pub connected_s: u64,
    /// What it called itself in its startup packet.
    pub application_name: Box<str>,
    /// Protocol and cipher of its encryption.
    pub tls: Option<Box<str>>,
}

/// One client, written by its worker and read by anybody.
#[derive(Debug, Default)]
pub struct ClientMark {
    info: OnceLock<Box<ClientInfo>>,
    /// In seconds since 1970, 0: never.
    last_lent: AtomicU64,
    /// In microseconds since 1970, 0: it does not wait.
    waits_since: AtomicU64,
    /// Why it keeps its server, see [`Pins::bits`].
    pins: AtomicU16,
}

impl ClientMark {
    /// The client has logged in.
    pub(crate) fn introduce(&self, info: ClientInfo) {
        let _ = self.info.set(Box::new(info));
    }

    /// What is known of it; `None` before its login is complete.
    #[must_use]
    pub fn info(&self) -> Option<&ClientInfo> {
        self.info.get().map(Box::as_ref)
    }

    /// When it was last lent a server, in seconds since 1970; its login if never.
    #[must_use]
    pub fn last_request_s(&self) -> u64 {
        match (self.last_lent.load(Ordering::Relaxed), self.info()) {
            (0, Some(info)) => info.connected_s,
            (lent, _) => lent,
        }
    }

    /// Why its session keeps a server.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::from_bits(self.pins.load(Ordering::Relaxed))
    }

    pub(crate) fn set_pins(&self, pins: Pins) {
        self.pins.store(pins.bits(), Ordering::Relaxed);
    }

    /// How long it has been waiting for a server; `None`: it does not wait.
    #[must_use]
    pub fn waits(&self) -> Option<Duration> {
        let since = self.waits_since.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_micros(micros_now().saturating_sub(since)))
    }

    /// The client waits for a server until the result is dropped.
    pub(crate) fn begin_wait(&self) -> WaitMark<'_> {
        self.waits_since.store(micros_now(), Ordering::Relaxed);
        WaitMark(self)
    }
}

/// A client waits.
pub(crate) struct WaitMark<'a>(&'a ClientMark);

impl Drop for WaitMark<'_> {
    fn drop(&mut self) {
        self.0.waits_since.store(0, Ordering::Relaxed);
    }
}

/// One server connection on its worker.
#[derive(Debug)]
pub(crate) struct ServerMark {
    /// Different from all others of this worker.
    id: u64,
    pid: u32,
    address: Arc<Address>,
    encrypted: bool,
    /// Seconds since 1970.
    connected: u64,
    lent: Cell<bool>,
    /// The client it is lent to; 0: none, or the proxy itself.
    client: Cell<u32>,
    /// When it was last lent or given back, in seconds since 1970.
    since: Cell<u64>,
    /// Statements prepared on it, when it was last given back.
    prepared: Cell<usize>,
    /// The socket, which is open as long as this exists: both belong to the same pooled connection.
    socket: RawFd,
}

impl ServerMark {
    /// It was lent, to this client if it is not the proxy itself.
    pub(crate) fn lend(&self, client: Option<(u32, &ClientMark)>, now_s: u64) {
        self.lent.set(true);
        self.since.set(now_s);
        if let Some((pid, mark)) = client {
            self.client.set(pid);
            mark.last_lent.store(now_s, Ordering::Relaxed);
        }
    }

    /// It was given back.
    pub(crate) fn give_back(&self, prepared: usize, now_s: u64) {
        self.lent.set(false);
        self.client.set(0);
        self.since.set(now_s);
        self.prepared.set(prepared);
    }
}

/// The servers of one pool on one worker.
#[derive(Debug, Default)]
pub(crate) struct ServerMarks {
    all: RefCell<Vec<Weak<ServerMark>>>,
}

impl ServerMarks {
    /// A mark for a new connection; it is listed as long as it lives.
    pub(crate) fn add(&self, conn: &ServerConn, id: u64, now_s: u64) -> Rc<ServerMark> {
        let mark = Rc::new(ServerMark {
            id,
            pid: conn.target.key.pid,
            address: Arc::clone(&conn.target.address),
            encrypted: conn.conn.tls().is_some(),
            connected: now_s,
            lent: Cell::new(false),
            client: Cell::new(0),
            since: Cell::new(now_s),
            prepared: Cell::new(0),
            socket: conn.conn.raw_fd(),
        });
        let mut all = self.all.borrow_mut();
        // Those that are gone are swept when the list would grow.
        if all.len() == all.capacity() {
            all.retain(|mark| mark.strong_count() > 0);
        }
        all.push(Rc::downgrade(&mark));
        mark
    }

    /// Shuts the sockets of connections that are lent and lead anywhere else than to `good`: whoever reads or writes
    /// finds them closed. How many there were.
    pub(crate) fn cut(&self, good: Option<&Address>) -> u64 {
        let mut cut = 0;
        for mark in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if mark.lent.get() && good != Some(&*mark.address) {
                // It fails where the other side has closed already, which is as good.
                let _ = nix::sys::socket::shutdown(mark.socket, nix::sys::socket::Shutdown::Both);
                cut += 1;
            }
        }
        cut
    }

    /// Appends a row per connection.
    pub(crate) fn rows(&self, key: &PoolKey, worker: usize, rows: &mut Vec<ServerRow>) {
        for mark in self.all.borrow().iter().filter_map(Weak::upgrade) {
            rows.push(ServerRow {
                key: key.clone(),
                worker,
                id: mark.id,
                pid: mark.pid,
                address: Arc::clone(&mark.address),
                encrypted: mark.encrypted,
                connected_s: mark.connected,
                since_s: mark.since.get(),
                lent: mark.lent.get(),
                client: mark.client.get(),
                prepared: mark.prepared.get(),
            });
        }
    }
}

/// One server connection at one moment.
#[derive(Debug, Clone)]
pub struct ServerRow {
    /// Its pool: shard, user, database.
    pub key: PoolKey,
    /// The worker that holds it.
    pub worker: usize,
    /// Different from all others of that worker.
    pub id: u64,
    /// The backend's process id.
    pub pid: u32,
    /// Where the server is.
    pub address: Arc<Address>,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// When it was opened, in seconds since 1970.
    pub connected_s: u64,
    /// When it was last lent or given back, in seconds since 1970.
    pub since_s: u64,
    /// Somebody uses it.
    pub lent: bool,
    /// The client that uses it, 0 if none does.
    pub client: u32,
    /// Statements prepared on it.
    pub prepared: usize,
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn micros_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// A moment as consoles write it, `2026-11-21 13:45:00 UTC`.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or(0);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Days since 0000-03-01, in eras of 400 years: leap days come last in a year that begins in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_calendars_do() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (1_795_268_700, "2026-11-21 13:45:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn a_wait_ends_with_its_mark() {
        let mark = ClientMark::default();
        assert_eq!(mark.waits(), None);
        let waiting = mark.begin_wait();
        assert!(mark.waits().is_some());
        drop(waiting);
        assert_eq!(mark.waits(), None);
    }
}
