//! COPY TO STDOUT over several servers: their rows go to the client as they come, under one header.

use std::cell::Cell;

use wire::backend::{encode, tag};
use wire::copy::binary;

use super::peers::{Peers, Stage};
use crate::cancel::CancelSlot;
use crate::conn::Conn;
use crate::exec::relay::PumpError;
use crate::server::ServerConn;
use crate::session::Fault;

/// The client is waited for once this much has gathered.
const CLIENT_PENDING_MAX: usize = 128 * 1024;

/// What every server puts around its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing.
    Plain,
    /// A header line in a message of its own.
    HeaderLine,
    /// The binary header, in one message with the first row, and the trailer.
    Binary,
}

/// A COPY TO under way.
pub(super) struct Outflow<'a> {
    /// The client.
    pub client: &'a mut Conn,
    /// The servers.
    pub peers: Peers<'a>,
    /// What every server puts around its rows.
    pub framing: Framing,
    /// Cancels what the servers are doing.
    pub slot: &'a CancelSlot,
    /// The most that was waiting for the client at any time, in bytes.
    pub pending_bytes_most: &'a Cell<usize>,
}

/// Joins the servers' streams.
struct Joiner {
    framing: Framing,
    /// The client has the header.
    header_sent: bool,
    /// Servers whose first message has come.
    begun: Vec<bool>,
    /// Rows are wanted.
    wanted: bool,
    broken: bool,
}

impl Outflow<'_> {
    /// Runs it to the end. All servers have answered afterwards, or are lost. `Ok(Some(…))` is a failure found here; the
    /// error is that the client is gone.
    pub(super) async fn run(&mut self) -> Result<Option<Fault>, PumpError> {
        let mut joiner = Joiner {
            framing: self.framing,
            header_sent: false,
            begun: vec![false; self.peers.list.len()],
            wanted: true,
            broken: false,
        };
        // Rows of fast servers wait until the slowest has begun.
        self.peers.start(self.client).await?;
        let mut fault = None;
        if !self.peers.failed() {
            match self.peers.response() {
                Some(response) => self.client.out().extend_from_slice(response),
                None => {
                    let text = "the columns of the table differ between shards";
                    fault = Some(Fault::error("XX001", text));
                }
            }
        }
        let mut cancelled = false;
        loop {
            joiner.wanted = fault.is_none() && !self.peers.failed();
            self.peers.absorb(self.client, &mut |number, server, client| {
                joiner.pass(number, server, client)
            });
            let most = self.pending_bytes_most;
            most.set(most.get().max(self.client.pending_out()));
            if joiner.broken && fault.is_none() {
                fault = Some(Fault::error("XX000", "a shard sent an unexpected COPY header"));
            }
            if self.peers.none_at(Stage::Starting) && self.peers.none_at(Stage::Copying) {
                break;
            }
            if (fault.is_some() || self.peers.failed()) && !cancelled {
                cancelled = true;
                self.slot.cancel_servers().await;
            }
            if self.client.pending_out() > CLIENT_PENDING_MAX {
                self.client.flush().await.map_err(PumpError::Client)?;
            }
            self.peers.wait(self.client, false).await?;
        }
        if fault.is_none() && !self.peers.failed() {
            if self.framing == Framing::Binary {
                let _ = encode::copy_data(self.client.out(), binary::TRAILER);
            }
            encode::copy_done(self.client.out());
        }
        Ok(fault)
    }
}

impl Joiner {
    /// The messages at the front of a server's input.
    fn pass(&mut self, number: usize, server: &mut ServerConn, client: &mut Conn) {
        if self.framing == Framing::Plain || (self.begun[number] && self.framing == Framing::HeaderLine) {
            let len = run_of_data(server.conn.unread(), false);
            return self.forward(len, server, client);
        }
        if self.begun[number] {
            let len = run_of_data(server.conn.unread(), true);
            if len > 0 {
                return self.forward(len, server, client);
            }
        }
        let Some(len) = data_len(server.conn.unread()) else {
            return;
        };
        if !self.begun[number] {
            self.begun[number] = true;
            self.first(&server.conn.unread()[..len], client);
        }
        // What is left is the trailer, which comes once for all.
        server.conn.consume(len);
    }

    fn forward(&self, len: usize, server: &mut ServerConn, client: &mut Conn) {
        if self.wanted {
            server.conn.transfer(len, client);
        } else {
            server.conn.consume(len);
        }
    }

    /// A server's first message.
    fn first(&mut self, message: &[u8], client: &mut Conn) {
        if !self.wanted {
            return;
        }
        let first_of_all = !std::mem::replace(&mut self.header_sent, true);
        let body = &message[5..];
        if self.framing == Framing::HeaderLine {
            if first_of_all {
                client.out().extend_from_slice(message);
            }
            return;
        }
        let Some(rest) = body.strip_prefix(binary::HEADER) else {
            self.broken = true;
            return;
        };
        let tuple = if rest == binary::TRAILER { &[][..] } else { rest };
        let whole = if first_of_all {
            [binary::HEADER, tuple].concat()
        } else {
            tuple.to_vec()
        };
        if !whole.is_empty() {
            // It was a message of the same length or longer.
            let _ = encode::copy_data(client.out(), &whole);
        }
    }
}

/// The length of the complete CopyData message at the front.
fn data_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<5>()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize + 1;
    (header[0] == tag::COPY_DATA && length >= 5 && bytes.len() >= length).then_some(length)
}

/// How many bytes at the front are complete CopyData messages; with `binary` up to the trailer.
fn run_of_data(bytes: &[u8], binary: bool) -> usize {
    let mut run = 0;
    while let Some(len) = data_len(&bytes[run..]) {
        if binary && bytes[run + 5..run + len] == *binary::TRAILER {
            break;
        }
        run += len;
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Vec<u8> {
        let mut out = bytes::BytesMut::new();
        encode::copy_data(&mut out, body).unwrap();
        out.to_vec()
    }

    #[test]
    fn runs_end_before_what_is_not_data() {
        let rows = [message(b"a\n"), message(b"")].concat();
        let trailer = message(binary::TRAILER);
        let all = [&rows[..], &trailer, b"c\0\0\0\x04"].concat();
        assert_eq!(run_of_data(&all, true), rows.len());
        assert_eq!(run_of_data(&all, false), rows.len() + trailer.len());
        assert_eq!(run_of_data(&rows[..rows.len() - 1], false), 7);
        assert_eq!(run_of_data(b"d\0\0", false), 0);
    }
}
