//! The servers that take part in a COPY: reading what they say, waiting for them and the client at once.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::BytesMut;
use wire::TransactionStatus;
use wire::backend::{Backend, ErrorFields, tag};
use wire::frame::Message;

use crate::conn::Conn;
use crate::exec::link::{self, LinkError};
use crate::exec::relay::PumpError;
use crate::server::ServerConn;
use crate::session::block::Enlisted;
use crate::session::simple::status_of;

/// A message of a shard must fit into this many bytes.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Servers are not read while this much waits for the client.
const CLIENT_PENDING_MAX: usize = 256 * 1024;

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not answered yet.
    Starting,
    /// It takes or gives data.
    Copying,
    /// It is ready for the next query, or gone.
    Done,
}

/// One server.
pub(super) struct Peer<'a> {
    /// Its connection; the COPY has been appended to it.
    pub server: &'a mut ServerConn,
    /// Answers to skip before the one that counts (of a BEGIN sent along).
    pub skip: usize,
    /// How far it is.
    pub stage: Stage,
    /// CopyDone or CopyFail was appended.
    pub ended: bool,
    /// The command tag, once it has come.
    pub tag: Option<Vec<u8>>,
    /// The error it answered with.
    pub error: Option<Box<ErrorFields>>,
    /// The connection broke.
    pub lost: Option<LinkError>,
}

/// All of them, in the order of the statement.
pub(super) struct Peers<'a> {
    /// The servers.
    pub list: Vec<Peer<'a>>,
    /// The first CopyInResponse or CopyOutResponse, and whether all others were the same.
    response: Option<Vec<u8>>,
    differ: bool,
    /// Only this server's notices reach the client; all servers' when absent.
    pub notices_of: Option<usize>,
}

/// What became of one server.
pub(super) struct Ended {
    /// The command tag.
    pub tag: Option<Vec<u8>>,
    /// The error it answered with.
    pub error: Option<Box<ErrorFields>>,
    /// The connection broke.
    pub lost: Option<LinkError>,
    /// It has answered to the end.
    pub done: bool,
}

impl<'a> Peers<'a> {
    /// The servers with these indexes, in this order; `skips` as `begin_on` gave them.
    pub(super) fn new(servers: &'a mut [Enlisted], indexes: &[usize], skips: &[usize]) -> Self {
        let mut found: Vec<(usize, Peer<'a>)> = servers
            .iter_mut()
            .enumerate()
            .filter_map(|(at, server)| {
                let turn = indexes.iter().position(|index| *index == at)?;
                let peer = Peer {
                    server: &mut server.lease,
                    skip: skips[turn],
                    stage: Stage::Starting,
                    ended: false,
                    tag: None,
                    error: None,
                    lost: None,
                };
                Some((turn, peer))
            })
            .collect();
        found.sort_by_key(|(turn, _)| *turn);
        let list = found.into_iter().map(|(_, peer)| peer).collect();
        Self {
            list,
            response: None,
            differ: false,
            notices_of: None,
        }
    }

    /// What became of them.
    pub(super) fn into_ended(self) -> Vec<Ended> {
        let ended = |peer: Peer<'_>| Ended {
            done: peer.stage == Stage::Done && peer.lost.is_none(),
            tag: peer.tag,
            error: peer.error,
            lost: peer.lost,
        };
        self.list.into_iter().map(ended).collect()
    }

    /// Some server cannot go on.
    pub(super) fn failed(&self) -> bool {
        self.list
            .iter()
            .any(|peer| peer.error.is_some() || peer.lost.is_some())
    }

    /// No server is at this stage.
    pub(super) fn none_at(&self, stage: Stage) -> bool {
        self.list.iter().all(|peer| peer.stage != stage)
    }

    /// The answer of all servers that begins the data; `None` when they differ.
    pub(super) fn response(&self) -> Option<&[u8]> {
        self.response.as_deref().filter(|_| !self.differ)
    }

    /// The most that waits for any server, in bytes.
    pub(super) fn pending_max(&self) -> usize {
        self.list
            .iter()
            .map(|peer| peer.server.conn.pending_out())
            .max()
            .unwrap_or(0)
    }

    /// Handles everything received. Data goes to `data`, which is called with a complete CopyData message at the front
    /// and consumes at least that.
    pub(super) fn absorb(
        &mut self,
        client: &mut Conn,
        data: &mut impl FnMut(usize, &mut ServerConn, &mut Conn),
    ) {
        for number in 0..self.list.len() {
            while self.list[number].stage != Stage::Done && self.absorb_one(number, client, data) {}
        }
    }

    /// Handles one message of a server. False: none is complete.
    fn absorb_one(
        &mut self,
        number: usize,
        client: &mut Conn,
        data: &mut impl FnMut(usize, &mut ServerConn, &mut Conn),
    ) -> bool {
        let peer = &mut self.list[number];
        let frame = match peer.server.conn.peek(MESSAGE_BYTES_MAX) {
            Ok(Some(frame)) if peer.server.conn.unread().len() >= frame.len => frame,
            Ok(_) => return false,
            Err(_) => {
                peer.lose(LinkError::Protocol("impossible message length"));
                return false;
            }
        };
        link::note_parameter(peer.server, frame.len, frame.tag);
        let bytes = &peer.server.conn.unread()[..frame.len];
        match frame.tag {
            tag::READY_FOR_QUERY if peer.skip > 0 => peer.skip -= 1,
            _ if peer.skip > 0 && frame.tag != tag::ERROR => {}
            tag::COPY_DATA => {
                data(number, peer.server, client);
                return true;
            }
            tag::COPY_IN | tag::COPY_OUT => {
                peer.stage = Stage::Copying;
                match &self.response {
                    None => self.response = Some(bytes.to_vec()),
                    Some(first) => self.differ |= first != bytes,
                }
            }
            tag::COMMAND_COMPLETE => peer.tag = Some(bytes[5..frame.len - 1].to_vec()),
            tag::ERROR => peer.note_error(frame.len),
            tag::NOTICE if self.notices_of.is_none_or(|only| only == number) => {
                client.out().extend_from_slice(bytes);
            }
            tag::NOTIFICATION => client.out().extend_from_slice(bytes),
            tag::READY_FOR_QUERY => {
                peer.server.status = status_of(bytes);
                peer.stage = Stage::Done;
            }
            _ => {}
        }
        peer.server.conn.consume(frame.len);
        true
    }

    /// Waits until every server has begun, or one has failed. The data of those that have is left unread.
    pub(super) async fn start(&mut self, client: &mut Conn) -> Result<(), PumpError> {
        loop {
            for number in 0..self.list.len() {
                while self.list[number].is_to_be_heard()
                    && self.absorb_one(number, client, &mut |_, server, _| {
                        server.conn.consume(usize::MAX)
                    })
                {}
            }
            if self.failed() || self.none_at(Stage::Starting) {
                return Ok(());
            }
            self.wait_for(client, false, |peer| {
                peer.stage == Stage::Starting || (peer.stage == Stage::Copying && peer.front().is_none())
            })
            .await?;
        }
    }

    /// Sends what is pending and waits until some server said more or took everything, or, if it is listened to, the
    /// client said more. The error is that the client is gone.
    pub(super) async fn wait(&mut self, client: &mut Conn, hear_client: bool) -> Result<(), PumpError> {
        self.wait_for(client, hear_client, |peer| peer.stage != Stage::Done)
            .await
    }

    async fn wait_for(
        &mut self,
        client: &mut Conn,
        hear_client: bool,
        which: impl Fn(&Peer<'_>) -> bool,
    ) -> Result<(), PumpError> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = client.poll_flush(cx) {
                return Poll::Ready(Err(PumpError::Client(error)));
            }
            let listen = client.pending_out() <= CLIENT_PENDING_MAX;
            let mut heard = false;
            for peer in self.list.iter_mut().filter(|peer| which(peer)) {
                if !listen {
                    // Errors show when it is read again.
                    let _ = peer.server.conn.poll_flush(cx);
                    continue;
                }
                match peer.server.conn.poll_progress(cx) {
                    Poll::Ready(Ok(progress)) if progress.read == Some(0) => {
                        peer.lose(LinkError::Lost(io::ErrorKind::UnexpectedEof.into()));
                        heard = true;
                    }
                    Poll::Ready(Ok(_)) => heard = true,
                    Poll::Ready(Err(error)) => {
                        peer.lose(LinkError::Lost(error));
                        heard = true;
                    }
                    Poll::Pending => {}
                }
            }
            if hear_client {
                match client.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(PumpError::Client(io::ErrorKind::UnexpectedEof.into())));
                    }
                    Poll::Ready(Ok(_)) => heard = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Client(error))),
                    Poll::Pending => {}
                }
            }
            if heard { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Appends CopyDone to every server.
    pub(super) fn end_all(&mut self) {
        for peer in &mut self.list {
            peer.ended = true;
            wire::frontend::encode::copy_done(peer.server.conn.out());
        }
    }

    /// Appends CopyFail to every server that still waits for data.
    pub(super) fn fail_all(&mut self, reason: &[u8]) {
        for peer in self
            .list
            .iter_mut()
            .filter(|peer| !peer.ended && peer.stage != Stage::Done)
        {
            peer.ended = true;
            if peer.error.is_none() {
                // Only a reason with a zero byte or of 2 GB cannot be encoded.
                let out = peer.server.conn.out();
                if wire::frontend::encode::copy_fail(out, reason).is_err() {
                    let _ = wire::frontend::encode::copy_fail(out, b"");
                }
            }
        }
    }

    /// The outgoing bytes of all servers that still take some.
    pub(super) fn outs(&mut self) -> impl Iterator<Item = &mut BytesMut> {
        self.list
            .iter_mut()
            .filter(|peer| peer.stage != Stage::Done)
            .map(|peer| peer.server.conn.out())
    }
}

impl Peer<'_> {
    /// The kind of the message at the front of what was received, if that is whole.
    fn front(&self) -> Option<u8> {
        let frame = self.server.conn.peek(MESSAGE_BYTES_MAX).ok()??;
        (self.server.conn.unread().len() >= frame.len).then_some(frame.tag)
    }

    /// While others begin: what it says next is no data. Its failure ends the waiting for them.
    fn is_to_be_heard(&self) -> bool {
        match self.stage {
            Stage::Starting => true,
            Stage::Copying => self.front() == Some(tag::ERROR),
            Stage::Done => false,
        }
    }

    fn note_error(&mut self, len: usize) {
        let message = self.server.conn.unread().get(..len).and_then(Message::whole);
        let mut fields = match message.map(Backend::decode) {
            Some(Ok(Backend::Error(fields))) => fields.to_owned(),
            _ => ErrorFields::error("XX000", "a shard sent an unreadable error"),
        };
        self.server.target.blame.rename(&mut fields);
        if fields.severity == "FATAL" || fields.severity == "PANIC" {
            self.lose(LinkError::Ended(Box::new(fields)));
        } else if self.error.is_none() {
            self.error = Some(Box::new(fields));
        }
    }

    /// The connection is of no use any more.
    pub(super) fn lose(&mut self, error: LinkError) {
        self.server.dirty = true;
        self.server.status = TransactionStatus::Failed;
        self.lost.get_or_insert(error);
        self.stage = Stage::Done;
    }
}
