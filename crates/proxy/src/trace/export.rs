//! Sending spans to a collector: OTLP over HTTP with JSON bodies, from a thread of its own.
//!
//! Workers hand over the spans of one request at a time, into a bounded queue that never makes them wait. The thread
//! gathers for a moment, or until a batch is full, and posts over a new connection. A collector that is away, slow or
//! refuses costs the batch (counted), never more than the time-outs, and no memory beyond the queue. Between two
//! failures the thread waits, longer each time, while the queue goes on filling and dropping.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Span, encode};
use crate::metrics::WorkerMetrics;

/// Requests whose spans may wait to be sent.
const QUEUE_MAX: usize = 2048;

/// Spans of one post, about.
const BATCH_MAX: usize = 512;

/// How long spans are gathered before they are posted.
const GATHER: Duration = Duration::from_millis(500);

/// The longest connecting, writing or reading may take.
const STEP_MAX: Duration = Duration::from_secs(2);

/// Longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 4096;

/// Where a collector is: `http://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

/// Why a text names no collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Only plain HTTP is spoken.
    #[error(
        "it must start with http:// (spans go to a collector on this host or in this network, which passes them on over TLS)"
    )]
    Scheme,
    /// There is no host, or the port is none.
    #[error("it must be http://host:port, optionally with a path")]
    Authority,
    /// Control characters or blanks.
    #[error("it holds characters that no URL has")]
    Characters,
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(EndpointError::Characters);
        }
        let rest = text.strip_prefix("http://").ok_or(EndpointError::Scheme)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| EndpointError::Authority)?)
            }
            // The port that the protocol has been given.
            _ => (authority, 4318),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() || host.contains('@') || port == 0 {
            return Err(EndpointError::Authority);
        }
        let path = if path.len() <= 1 { "/v1/traces" } else { path };
        Ok(Self {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// The way to a collector. Dropping it sends what waits, for at most a few seconds.
#[derive(Debug)]
pub struct Exporter {
    sender: Option<SyncSender<Vec<Span>>>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts the thread. It alone writes `metrics`.
    pub fn start(endpoint: Endpoint, service: String, metrics: Arc<WorkerMetrics>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("spans".into())
            .spawn(move || export(&endpoint, &service, &receiver, &metrics))?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    /// Hands spans over. False: the queue is full, they are dropped.
    pub fn send(&self, spans: Vec<Span>) -> bool {
        self.sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(spans).is_ok())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has lost spans and nothing else.
            let _ = thread.join();
        }
    }
}

fn export(endpoint: &Endpoint, service: &str, queue: &Receiver<Vec<Span>>, metrics: &WorkerMetrics) {
    let mut pause = Duration::ZERO;
    while let Ok(mut batch) = queue.recv() {
        let ended = gather(queue, &mut batch);
        let body = encode::request(service, &batch);
        let count = batch.len() as u64;
        match post(endpoint, &body) {
            Ok(()) => {
                metrics.spans_exported.add(count);
                pause = Duration::ZERO;
            }
            Err(error) => {
                metrics.spans_failed.add(count);
                if pause.is_zero() {
                    tracing::warn!(%error, "spans could not be sent to the collector");
                }
                if ended {
                    return;
                }
                pause = (pause * 2).clamp(GATHER, PAUSE_MAX);
                // Its end is noticed at the latest after the pause: a shutdown is not held up by a dead collector.
                if !wait(queue, pause, metrics) {
                    return;
                }
            }
        }
        if ended {
            return;
        }
    }
}

/// Collects more spans for a moment. True when no more will come.
fn gather(queue: &Receiver<Vec<Span>>, batch: &mut Vec<Span>) -> bool {
    let deadline = Instant::now() + GATHER;
    while batch.len() < BATCH_MAX {
        match queue.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(more) => batch.extend(more),
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
    false
}

/// Lets time pass without a collector; what comes meanwhile beyond the queue is dropped by the senders. False when no
/// more will come.
fn wait(queue: &Receiver<Vec<Span>>, pause: Duration, metrics: &WorkerMetrics) -> bool {
    let deadline = Instant::now() + pause;
    loop {
        match queue.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(lost) => metrics.spans_failed.add(lost.len() as u64),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn post(endpoint: &Endpoint, body: &str) -> io::Result<()> {
    let address = (endpoint.host.as_str(), endpoint.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the collector's host has no address"))?;
    let mut socket = TcpStream::connect_timeout(&address, STEP_MAX)?;
    socket.set_write_timeout(Some(STEP_MAX))?;
    socket.set_read_timeout(Some(STEP_MAX))?;
    let bracketed = endpoint.host.contains(':');
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {open}{}{close}:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        endpoint.path,
        endpoint.host,
        endpoint.port,
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        let mut chunk = [0; 512];
        let n = socket.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..n]);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let speaks_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next() {
        Some(status) if speaks_http && status.starts_with('2') => Ok(()),
        _ => Err(io::Error::other(format!("the collector answered \"{line}\""))),
    }
}

#[cfg(test)]
mod tests;
