//! A socket with its two buffers: the piece client and server connections share.
//!
//! Built for few system calls: the socket stays registered for its whole life, a read happens only after readiness
//! was reported, a read that brings less than asked for is known to have emptied the socket, and everything appended
//! to [`Conn::out`] leaves in one write. Reading and writing progress independently ([`Conn::progress`]): a peer that
//! does not read must not keep us from reading what it sends.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use wire::frame::{self, Frame, FrameError, Message};

use crate::buffers::{BUFFER_BYTES, Buffers};
use crate::tls::TlsState;

/// After a read that filled the whole buffer the next one asks for this many bytes.
const BULK_BYTES: usize = 64 * 1024;

/// A stream socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix domain.
    Unix(UnixStream),
}

/// Calls tokio's methods of whichever socket it is.
macro_rules! either {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

/// What [`Conn::progress`] achieved. Both may be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read; `Some(0)` is the end of the stream; `None`: nothing came.
    pub read: Option<usize>,
    /// Everything in [`Conn::out`] has left.
    pub flushed: bool,
}

/// A place in what a connection is to send: see [`Conn::mark`].
#[derive(Debug, Clone, Copy)]
pub struct OutMark {
    left: u64,
    pending: usize,
    held: bool,
}

/// A buffered connection.
#[derive(Debug)]
pub struct Conn {
    socket: Socket,
    /// What stands between the buffers and the socket when the connection is encrypted.
    tls: Option<Box<TlsState>>,
    input: BytesMut,
    output: BytesMut,
    buffers: Buffers,
    /// The last read filled all the room it had.
    bulk: bool,
    /// The last write found the socket full.
    blocked: bool,
    /// Some of `output` has already left, so a message may be cut.
    partly_sent: bool,
    /// What was pending when a [`Self::hold`] began.
    held: Option<Box<BytesMut>>,
    /// Less than this is not sent yet, in bytes.
    patience: usize,
    received: u64,
    sent: u64,
}

impl Conn {
    /// Wraps a connected socket.
    #[must_use]
    pub fn new(socket: Socket, buffers: Buffers) -> Self {
        Self {
            socket,
            tls: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            buffers,
            bulk: false,
            blocked: false,
            partly_sent: false,
            held: None,
            patience: 0,
            received: 0,
            sent: 0,
        }
    }

    /// The bytes received and not consumed yet.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.input
    }

    /// The same bytes, writable: for rewriting in place before they are transferred.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.input
    }

    /// Drops the first `n` unread bytes (at most all of them).
    pub fn consume(&mut self, n: usize) {
        if n < self.input.len() {
            self.input.advance(n);
        } else {
            self.input.clear();
        }
    }

    /// Splits the first `n` unread bytes off, without copying (at most all of them).
    pub fn take(&mut self, n: usize) -> BytesMut {
        let n = n.min(self.input.len());
        self.input.split_to(n)
    }

    /// The header of the message at the front, once its five bytes are there. `limit` bounds the message, in bytes.
    pub fn peek(&self, limit: usize) -> Result<Option<Frame>, FrameError> {
        frame::peek(&self.input, limit)
    }

    /// The message at the front, once all of it is there. Follow with [`Self::consume`] of its length.
    pub fn message(&self, limit: usize) -> Result<Option<Message<'_>>, FrameError> {
        let Some(frame) = self.peek(limit)? else {
            return Ok(None);
        };
        Ok(self.input.get(..frame.len).map(|bytes| Message {
            tag: frame.tag,
            bytes,
        }))
    }

    /// The bytes to be sent: append to it, then [`Self::flush`].
    pub fn out(&mut self) -> &mut BytesMut {
        self.buffers.lend(&mut self.output);
        &mut self.output
    }

    /// Keeps everything appended from now on from being sent; what is pending waits behind it.
    pub fn hold(&mut self) {
        let pending = std::mem::take(&mut self.output);
        self.held.get_or_insert_with(|| Box::new(pending));
    }

    /// Whether a [`Self::hold`] is on.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Ends a [`Self::hold`]: what was appended comes back, what was pending before is pending again.
    pub fn release_held(&mut self) -> BytesMut {
        match self.held.take() {
            Some(pending) => std::mem::replace(&mut self.output, *pending),
            None => BytesMut::new(),
        }
    }

    /// Bytes appended and not sent yet.
    #[must_use]
    pub fn pending_out(&self) -> usize {
        self.output.len() + usize::from(self.has_unsent_tls())
    }

    fn has_unsent_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// Appends the first `n` unread bytes to what `to` will send. Copies nothing when these are all unread bytes and
    /// `to` has nothing pending: the buffers change places.
    pub fn transfer(&mut self, n: usize, to: &mut Conn) {
        if to.output.is_empty() && n >= self.input.len() {
            std::mem::swap(&mut self.input, &mut to.output);
            return;
        }
        let n = n.min(self.input.len());
        to.out().extend_from_slice(&self.input[..n]);
        self.input.advance(n);
    }

    /// Reads what is there. `Ok(0)`: the peer has closed. While it waits with nothing unread, no buffer is held.
    /// Consume before calling again: the buffer grows when it is full.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            return self.poll_fill_tls(cx);
        }
        if self.bulk {
            return self.poll_fill_bulk(cx);
        }
        loop {
            if let Some(result) = self.read_now().transpose() {
                return Poll::Ready(result);
            }
            if self.poll_readable(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits until the socket is reported readable, holding no buffer.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.socket.poll_read_ready(cx)?.is_ready() {
            return Ok(Poll::Ready(()));
        }
        self.give_up_buffers();
        Ok(Poll::Pending)
    }

    /// Reads if the socket was reported readable.
    fn read_now(&mut self) -> io::Result<Option<usize>> {
        let room = self.buffers.size().min(BUFFER_BYTES);
        let Some(read) = self.socket.receive(room, |bytes| {
            self.buffers.lend(&mut self.input);
            self.input.extend_from_slice(bytes);
        }) else {
            return Ok(None);
        };
        let n = read?;
        self.bulk = n >= room;
        self.received += n as u64;
        Ok(Some(n))
    }

    /// A read that filled all its room may be one of many: the next ones have more room, straight in the buffer, and asking
    /// tokio first counts against the task's share.
    #[cold]
    #[inline(never)]
    fn poll_fill_bulk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            if self.poll_readable(cx)?.is_pending() {
                return Poll::Pending;
            }
            self.make_room();
            let room = self.input.capacity() - self.input.len();
            if let Some(n) = self.socket.read_some(&mut self.input, room)? {
                self.bulk = n >= room;
                self.received += n as u64;
                return Poll::Ready(Ok(n));
            }
        }
    }

    /// Waits until something was read. See [`Self::poll_fill`]. Cancel safe.
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Sends pending bytes; ready when all have left.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() && self.tls.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush_pending(cx)
    }

    fn poll_flush_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_some() || self.patience > self.output.len() {
            return Poll::Ready(Ok(()));
        }
        if let Some(tls) = &mut self.tls {
            let result = tls.poll_flush(cx, &mut self.socket, &mut self.output, &mut self.sent);
            self.partly_sent = !self.output.is_empty();
            return result;
        }
        while !self.output.is_empty() {
            // A socket has room nearly always, so the runtime is asked only about one that had none.
            let sent = match self.blocked {
                false => self.socket.send(&self.output),
                true => self.socket.write_some(&self.output),
            };
            match sent? {
                Some(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Some(n) => self.has_left(n),
                None if self.blocked => ready!(self.socket.poll_write_ready(cx))?,
                None => self.blocked = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The first bytes of the output have left.
    fn has_left(&mut self, n: usize) {
        self.sent += n as u64;
        self.blocked = n < self.output.len();
        self.partly_sent = self.blocked;
        if self.blocked {
            self.output.advance(n);
        } else {
            self.output.clear();
        }
    }

    /// Sends all pending bytes. Cancel safe: what has not left stays pending.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends pending bytes and reads what is there; ready as soon as something was read or everything was sent.
    /// With nothing pending it waits for input. Cancel safe.
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        let had_output = self.pending_out() > 0;
        let flushed = match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            // A peer that closes after its last words (an error) makes writing fail: the words come first.
            Poll::Ready(Err(error)) => match self.poll_fill(cx) {
                Poll::Ready(Ok(n)) if n > 0 => false,
                _ => return Poll::Ready(Err(error)),
            },
            Poll::Pending => false,
        };
        match self.poll_fill(cx) {
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(Progress {
                read: Some(n),
                flushed,
            })),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if had_output && flushed => Poll::Ready(Ok(Progress { read: None, flushed })),
            Poll::Pending => Poll::Pending,
        }
    }

    /// See [`Self::poll_progress`].
    pub async fn progress(&mut self) -> io::Result<Progress> {
        poll_fn(|cx| self.poll_progress(cx)).await
    }

    /// Sends pending bytes and waits until something was read, whether or not all of them have left: a peer that does
    /// not read before we do cannot block us. `Ok(0)`: the peer has closed. Cancel safe.
    pub fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.poll_progress(cx) {
            Poll::Ready(Ok(Progress { read: Some(n), .. })) => Poll::Ready(Ok(n)),
            Poll::Ready(Ok(_)) => {
                // Everything has left; the socket was asked for input already and will wake us.
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// See [`Self::poll_exchange`].
    pub async fn exchange(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_exchange(cx)).await
    }

    /// Reads until `n` bytes are unread; fails with `UnexpectedEof` when the peer closes before.
    pub async fn fill_to(&mut self, n: usize) -> io::Result<()> {
        while self.input.len() < n {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Reads until the message at the front is complete and returns its header. The message is at most `limit` bytes:
    /// an impossible or longer one is `InvalidData` with the [`FrameError`] inside.
    pub async fn fill_message(&mut self, limit: usize) -> io::Result<Frame> {
        loop {
            match self
                .peek(limit)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                Some(frame) if self.input.len() >= frame.len => return Ok(frame),
                Some(frame) => self.fill_to(frame.len).await?,
                None => self.fill_to(frame::HEADER_LEN).await?,
            }
        }
    }

    /// Something was reported readable since the last read that emptied the socket. No system call, no waiting.
    #[must_use]
    pub fn may_have_input(&self) -> bool {
        self.socket.is_readable() || self.tls.as_ref().is_some_and(|tls| tls.has_unread())
    }

    /// Reads without waiting: `None` when nothing is there.
    pub fn try_fill(&mut self) -> Option<io::Result<usize>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_fill(&mut cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Writes what can be written without waiting, ignoring errors: for last words.
    pub fn try_flush(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = self.poll_flush(&mut cx);
    }

    /// A message has been sent in part: last words would land inside it.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        self.partly_sent
    }

    /// Where the bytes to be sent end now.
    #[must_use]
    pub fn mark(&self) -> OutMark {
        OutMark {
            left: self.sent,
            pending: self.output.len(),
            held: self.held.is_some(),
        }
    }

    /// From now on less than so many bytes wait for more; 0 ends that. Gives back what it was.
    pub fn set_patience(&mut self, bytes: usize) -> usize {
        std::mem::replace(&mut self.patience, bytes)
    }

    /// Nothing of what was appended since has left.
    #[must_use]
    pub fn can_rewind(&self, mark: OutMark) -> bool {
        !mark.held && self.held.is_none() && mark.left == self.sent && mark.pending <= self.output.len()
    }

    /// Takes back what was appended since; false when some of it may have left.
    pub fn rewind(&mut self, mark: OutMark) -> bool {
        let can = self.can_rewind(mark);
        if can {
            self.output.truncate(mark.pending);
        }
        can
    }

    /// Hands empty buffers back to the worker.
    pub fn give_up_buffers(&mut self) {
        if self.input.capacity() > 0 {
            self.buffers.take_back(&mut self.input);
        }
        if self.output.capacity() > 0 {
            self.buffers.take_back(&mut self.output);
        }
        if let Some(tls) = &mut self.tls {
            tls.give_up_buffers(&self.buffers);
        }
    }

    /// Bytes received and sent so far.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// From now on buffers come from and go to `buffers`; those in use stay.
    pub fn set_buffers(&mut self, buffers: Buffers) {
        self.give_up_buffers();
        self.buffers = buffers;
    }

    /// The buffers of this connection's worker.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Sends what is pending, and the end of the encryption if there is one.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        if let Some(tls) = &mut self.tls {
            tls.close();
            self.flush().await?;
        }
        Ok(())
    }

    /// The same, and closes the sending side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.finish().await?;
        either!(&self.socket, socket => rustix::net::shutdown(socket, rustix::net::Shutdown::Write))?;
        Ok(())
    }

    /// The socket's number, valid as long as this exists.
    #[must_use]
    pub(crate) fn raw_fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
        }
    }

    /// Gives the bare socket and its encryption up, for another thread's runtime. Unread and pending bytes are lost.
    #[must_use]
    pub fn into_parts(self) -> (Socket, Option<Box<TlsState>>) {
        (self.socket, self.tls)
    }

    /// Wraps what [`Self::into_parts`] gave.
    #[must_use]
    pub fn from_parts(socket: Socket, tls: Option<Box<TlsState>>, buffers: Buffers) -> Self {
        Self {
            tls,
            ..Self::new(socket, buffers)
        }
    }

    /// Encrypts the connection from here on: unread bytes are taken as the peer's first flight. Completes the handshake;
    /// after a failure the connection is of no use, and what it was is [`io::ErrorKind::InvalidData`] with the
    /// [`rustls::Error`] inside. Pending bytes must have been sent.
    pub async fn secure(&mut self, session: rustls::Connection) -> io::Result<()> {
        let early = std::mem::take(&mut self.input);
        let mut tls = Box::new(TlsState::new(session, early));
        poll_fn(|cx| tls.poll_handshake(cx, &mut self.socket, &self.buffers)).await?;
        self.tls = Some(tls);
        Ok(())
    }

    /// What was agreed with the peer, if the connection is encrypted.
    #[must_use]
    pub fn tls(&self) -> Option<&rustls::Connection> {
        self.tls.as_ref().map(|tls| tls.session())
    }

    #[cold]
    #[inline(never)]
    fn poll_fill_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            return Poll::Pending;
        };
        let result = tls.poll_fill(cx, &mut self.socket, &self.buffers, &mut self.input);
        match result {
            Poll::Ready(Ok(n)) => self.received += n as u64,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.give_up_buffers(),
        }
        result
    }

    fn make_room(&mut self) {
        self.buffers.lend(&mut self.input);
        let size = self.buffers.size();
        if self.bulk && size >= BUFFER_BYTES {
            self.input.reserve(BULK_BYTES);
        } else if self.input.capacity() - self.input.len() < size / 4 {
            // Consumed bytes at the front are reused before anything is allocated.
            self.input.reserve(size / 2);
        }
    }
}

impl Socket {
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        match either!(self, socket => socket.poll_read_ready(cx)) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_write_ready(cx))
    }

    /// It was reported readable, and no read has emptied it since. Asks nobody and wakes nobody.
    fn is_readable(&self) -> bool {
        either!(self, socket => socket.try_io(Interest::READABLE, || Ok(()))).is_ok()
    }

    /// Reads at most `room` bytes (and [`BUFFER_BYTES`]) if it was reported readable, `None` if not or if nothing was there. A
    /// read that fills less has emptied the socket, which is noted as if the system had said so: the next one waits without
    /// asking.
    fn receive(&self, room: usize, take: impl FnOnce(&[u8])) -> Option<io::Result<usize>> {
        let mut read = None;
        // What comes is mostly short. It is copied once, so that no buffer is taken out before something is there.
        let mut space = [const { MaybeUninit::<u8>::uninit() }; BUFFER_BYTES];
        let space = &mut space[..room.min(BUFFER_BYTES)];
        let _ = either!(self, socket => socket.try_io(Interest::READABLE, || {
            match rustix::net::recv(socket, space, RecvFlags::empty()) {
                Ok(((bytes, rest), n)) => {
                    read = Some(Ok(n));
                    take(bytes);
                    // All there was, unless it was the end.
                    if n > 0 && !rest.is_empty() { Err(would_block()) } else { Ok(()) }
                }
                // A socket that does not block is not interrupted.
                Err(Errno::AGAIN) => Err(would_block()),
                Err(error) => {
                    read = Some(Err(error.into()));
                    Ok(())
                }
            }
        }));
        read
    }

    /// The same with as much room as the buffer has.
    fn read_some(&self, into: &mut BytesMut, room: usize) -> io::Result<Option<usize>> {
        let mut read = None;
        let result = either!(self, socket => socket.try_io(Interest::READABLE, || {
            let n = socket.try_read_buf(into)?;
            read = Some(n);
            if n > 0 && n < room { Err(would_block()) } else { Ok(()) }
        }));
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(read),
        }
    }

    /// Writes once, whatever was reported. `None`: the socket is full.
    fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        either!(self, socket => send(socket, bytes))
    }

    /// Writes once if it was reported writable, which it is no longer when less was taken than offered. `None`: it was not,
    /// or is full.
    fn write_some(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut written = None;
        let result = either!(self, socket => socket.try_io(Interest::WRITABLE, || {
            written = send(socket, bytes)?;
            match written {
                Some(n) if n >= bytes.len() => Ok(()),
                _ => Err(would_block()),
            }
        }));
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }
}

fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// `None`: the socket is full.
fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
