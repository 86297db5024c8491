//! A connection from a client, and what it said when it logged in.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use wire::backend::ErrorFields;

use crate::conn::Conn;
use crate::metrics::WorkerMetrics;
use crate::sockets::Peer;
use crate::worker::{Stop, StopReason};

/// A client's socket and buffers. IO goes through [`ClientConn::conn`].
///
/// When the task that owns it panics or is cut off by a shutdown, the client is told (XX000, 57P01) before the socket
/// closes, provided that no message was cut.
#[derive(Debug)]
pub struct ClientConn {
    /// The socket and its buffers.
    pub conn: Conn,
    stop: Rc<Stop>,
    metrics: Arc<WorkerMetrics>,
    /// Bytes received and sent that are in the metrics already.
    counted: (u64, u64),
}

/// What [`ClientConn::fill_or_stop`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// This many bytes were read.
    Bytes(usize),
    /// The client has closed its side.
    Closed,
    /// The session must end.
    Stop(StopReason),
}

impl ClientConn {
    /// Wraps a connection; `stop` is the sign of the session that owns it, its bytes count in `metrics`.
    #[must_use]
    pub fn new(conn: Conn, stop: Rc<Stop>, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            conn,
            stop,
            metrics,
            counted: (0, 0),
        }
    }

    /// Waits for bytes from the client or for the session's end. Cancel safe.
    pub async fn fill_or_stop(&mut self) -> io::Result<Filled> {
        poll_fn(|cx| self.poll_fill_or_stop(cx)).await
    }

    /// See [`Self::fill_or_stop`].
    pub fn poll_fill_or_stop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        if self.stop.is_set() {
            return Poll::Ready(Ok(Filled::Stop(self.stop.reason())));
        }
        let Poll::Ready(read) = self.conn.poll_fill(cx) else {
            self.count_traffic();
            return Poll::Pending;
        };
        match read? {
            0 => Poll::Ready(Ok(Filled::Closed)),
            n => Poll::Ready(Ok(Filled::Bytes(n))),
        }
    }

    fn count_traffic(&mut self) {
        let (received, sent) = self.conn.traffic();
        self.metrics.client_bytes_received.add(received - self.counted.0);
        self.metrics.client_bytes_sent.add(sent - self.counted.1);
        self.counted = (received, sent);
    }

    fn last_words(&mut self, code: &str, message: &str) {
        if self.conn.is_mid_message() {
            return;
        }
        self.conn.release_held();
        // What was appended but not sent may be half a thought.
        self.conn.out().clear();
        wire::backend::encode::error(self.conn.out(), &ErrorFields::fatal(code, message));
        self.conn.try_flush();
    }
}

impl Drop for ClientConn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.last_words("XX000", "internal error, the session was ended");
        } else if self.stop.reason().is_cut() {
            let (code, text) = self.stop.reason().words();
            self.last_words(code, text);
        }
        self.count_traffic();
    }
}

/// What a client said when it logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupInfo {
    /// Role, proved.
    pub user: Arc<str>,
    /// Database, known to exist in the configuration.
    pub database: Arc<str>,
    /// The other startup parameters, in order: settings (`application_name`, `client_encoding`, `options` …).
    pub params: Vec<(String, String)>,
    /// The protocol minor version in force (0 to 2).
    pub minor: u16,
    /// Where it connected from.
    pub peer: Peer,
    /// Protocol version and cipher suite of an encrypted connection, such as `TLSv1.3/TLS_AES_256_GCM_SHA384`.
    pub tls: Option<Box<str>>,
}

impl StartupInfo {
    /// The last value given for a startup parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}
