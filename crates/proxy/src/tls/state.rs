//! One connection's encryption: rustls driven over a nonblocking socket.
//!
//! [`crate::conn::Conn`] keeps this beside its socket. Ciphertext passes through one of the worker's buffers, which is
//! given back as soon as it is empty, so that an idle connection keeps only rustls's own state. Readiness works as on
//! a plain socket: the socket is read only after it was reported readable, and everything that was read is decrypted
//! before anybody waits again. A peer's `close_notify` and the end of its stream are both an end of the stream: the
//! PostgreSQL protocol says itself where a conversation ends, so a cut stream cannot be mistaken for a complete one.

use std::io::{self, BufRead as _, Write as _};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::Connection;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::buffers::Buffers;
use crate::conn::Socket;

/// After a read that filled the whole buffer the next one asks for this many bytes.
const BULK_BYTES: usize = 64 * 1024;

/// The encryption of one connection.
#[derive(Debug)]
pub struct TlsState {
    session: Connection,
    /// Received and not decrypted yet.
    cipher: BytesMut,
    /// The last read filled all the room it had.
    bulk: bool,
    /// The peer has closed its side.
    closed: bool,
}

impl TlsState {
    /// A connection whose handshake has not begun. `early`: bytes of the peer's first flight that were already read.
    #[must_use]
    pub fn new(session: Connection, early: BytesMut) -> Self {
        Self {
            session,
            cipher: early,
            bulk: false,
            closed: false,
        }
    }

    /// What was agreed: certificates, protocol version, cipher.
    #[must_use]
    pub fn session(&self) -> &Connection {
        &self.session
    }

    /// Drives the handshake. A failure has been told to the peer as far as it reads.
    pub fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffers: &Buffers,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx, socket))?;
            if !self.session.is_handshaking() {
                buffers.take_back(&mut self.cipher);
                return Poll::Ready(Ok(()));
            }
            if self.cipher.is_empty() && !ready!(self.poll_receive(cx, socket, buffers))? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.decrypt(cx, socket)?;
            if self.closed {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads what is there and appends it to `input`. `Ok(0)`: the peer has closed.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffers: &Buffers,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut read = self.drain(buffers, input)?;
            while !self.cipher.is_empty() && !self.closed {
                self.decrypt(cx, socket)?;
                read += self.drain(buffers, input)?;
            }
            if read > 0 {
                return Poll::Ready(Ok(read));
            }
            if self.closed || !ready!(self.poll_receive(cx, socket, buffers))? {
                self.closed = true;
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Encrypts and sends `output`; ready when everything has left. What was taken from `output` will be sent first
    /// by the next call.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        output: &mut BytesMut,
        sent: &mut u64,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx, socket))?;
            if output.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // rustls takes as much as its bound on unsent bytes (64 KiB) allows.
            let taken = self.session.writer().write(output)?;
            output.advance(taken);
            *sent += taken as u64;
        }
    }

    /// Encrypted bytes wait to be sent.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.session.wants_write()
    }

    /// Received bytes wait to be decrypted.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.cipher.is_empty()
    }

    /// Says goodbye: sent by the next [`Self::poll_flush`].
    pub fn close(&mut self) {
        self.session.send_close_notify();
    }

    /// Hands an empty buffer back to the worker.
    pub fn give_up_buffers(&mut self, buffers: &Buffers) {
        buffers.take_back(&mut self.cipher);
    }

    /// Moves decrypted bytes to `input`.
    fn drain(&mut self, buffers: &Buffers, input: &mut BytesMut) -> io::Result<usize> {
        let mut drained = 0;
        loop {
            let mut reader = self.session.reader();
            let length = match reader.fill_buf() {
                Ok([]) => {
                    self.closed = true;
                    return Ok(drained);
                }
                Ok(chunk) => {
                    buffers.lend(input);
                    input.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(drained),
                Err(error) => return Err(error),
            };
            reader.consume(length);
            drained += length;
        }
    }

    /// Gives rustls the next piece of what was received: a few kilobytes, as much as it takes at once.
    fn decrypt(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> io::Result<()> {
        let mut piece: &[u8] = &self.cipher;
        let taken = self.session.read_tls(&mut piece)?;
        self.cipher.advance(taken);
        let outcome = self.session.process_new_packets();
        // The alert, or the answer to a key update: as much as can be sent now, the rest by the next flush.
        if self.session.wants_write()
            && let Poll::Ready(Err(error)) = self.poll_send(cx, socket)
            && outcome.is_ok()
        {
            return Err(error);
        }
        let state = outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if taken == 0 || (state.peer_has_closed() && state.plaintext_bytes_to_read() == 0) {
            self.closed = true;
            self.cipher.clear();
        }
        Ok(())
    }

    /// Reads ciphertext. False: the peer has closed. Waits only with an empty buffer given back.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        buffers: &Buffers,
    ) -> Poll<io::Result<bool>> {
        if socket.poll_read_ready(cx)?.is_pending() {
            buffers.take_back(&mut self.cipher);
            return Poll::Pending;
        }
        buffers.lend(&mut self.cipher);
        if self.bulk {
            self.cipher.reserve(BULK_BYTES);
        } else if self.cipher.capacity() == self.cipher.len() {
            self.cipher.reserve(buffers.size());
        }
        let room = self.cipher.capacity() - self.cipher.len();
        let read = match socket {
            Socket::Tcp(socket) => pin!(socket.read_buf(&mut self.cipher)).poll(cx),
            Socket::Unix(socket) => pin!(socket.read_buf(&mut self.cipher)).poll(cx),
        };
        match read {
            Poll::Ready(Ok(count)) => {
                self.bulk = count >= room && room >= crate::buffers::BUFFER_BYTES;
                Poll::Ready(Ok(count > 0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                buffers.take_back(&mut self.cipher);
                Poll::Pending
            }
        }
    }

    /// Sends encrypted bytes; ready when all have left.
    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut PollWriter { cx, socket }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A nonblocking socket as rustls wants to see it. "Would block" has registered the task.
struct PollWriter<'a, 'b> {
    cx: &'a mut Context<'b>,
    socket: &'a mut Socket,
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Write for PollWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(match self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(self.cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(self.cx, bytes),
        })
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(match self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(self.cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(self.cx, slices),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
