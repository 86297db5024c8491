//! COPY FROM STDIN over several servers: the client's stream goes out to them as they take it.

use std::time::Duration;

use wire::backend::ErrorFields;
use wire::frame::Message;
use wire::frontend::{Frontend, tag};

use super::defaults::HomeValues;
use super::peers::{Peers, Stage};
use super::route::{Dealt, RouteError, Router};
use crate::cancel::CancelSlot;
use crate::conn::Conn;
use crate::exec::link::LinkError;
use crate::exec::relay::PumpError;
use crate::session::Fault;

/// Nothing is read from the client while more than this waits for some server.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// A server that does not end its COPY within this time waits for a lock: it is cancelled.
const PATIENCE: Duration = Duration::from_millis(100);

/// What happens to the stream.
pub(super) enum Feed {
    /// Every server gets it as it is.
    Same,
    /// Rows are cut out of it; each lane is a server's.
    Dealt(Box<Router>),
    /// Rows are cut out of it; every server gets all of them.
    All(Box<Router>),
}

/// A COPY FROM under way.
pub(super) struct Intake<'a> {
    /// The client.
    pub client: &'a mut Conn,
    /// The servers.
    pub peers: Peers<'a>,
    /// What happens to the stream.
    pub feed: Feed,
    /// The stream cannot be read; said only if the servers themselves find nothing wrong with the options.
    pub unreadable: Option<Fault>,
    /// Where values for columns with defaults of the home shard come from.
    pub values: Option<HomeValues>,
    /// Cancels what the servers are doing.
    pub slot: &'a CancelSlot,
    /// Longest message of the client, in bytes.
    pub message_limit: usize,
}

/// Why no more of the stream is needed.
enum End {
    /// CopyDone; everything is on its way.
    Complete,
    /// CopyFail, with the client's reason.
    ClientFailed(Vec<u8>),
    /// A server cannot go on.
    ServerFailed,
    /// It cannot go on here.
    Ours(Fault),
}

/// Where reading the client's messages stopped.
enum Taken {
    /// No whole message is left.
    All,
    /// Some server has enough for now.
    Enough,
    /// The end.
    End(End),
}

impl Intake<'_> {
    /// Runs it to the end. All servers have answered afterwards, or are lost. `Ok(Some(…))` is a failure found here; the
    /// error is that the client is gone.
    pub(super) async fn run(&mut self) -> Result<Option<Fault>, PumpError> {
        self.peers.start(self.client).await?;
        if self.peers.failed() {
            self.abandon(b"another shard cannot take it").await?;
            return Ok(None);
        }
        let Some(response) = self.peers.response() else {
            self.abandon(b"the shards differ").await?;
            return Ok(Some(Fault::error(
                "XX001",
                "the columns of the table differ between shards",
            )));
        };
        if let Some(fault) = self.unreadable.take() {
            self.abandon(b"the options cannot be understood").await?;
            return Ok(Some(fault));
        }
        self.client.out().extend_from_slice(response);
        match self.stream().await? {
            End::Complete => {
                self.peers.end_all();
                self.drain().await?;
                Ok(None)
            }
            End::ClientFailed(reason) => {
                self.abandon(&reason).await?;
                Ok(None)
            }
            End::ServerFailed => {
                self.abandon(b"another shard cannot go on").await?;
                Ok(None)
            }
            End::Ours(fault) => {
                self.abandon(b"the data cannot be distributed").await?;
                Ok(Some(fault))
            }
        }
    }

    async fn stream(&mut self) -> Result<End, PumpError> {
        loop {
            self.absorb();
            if self.peers.failed() {
                return Ok(End::ServerFailed);
            }
            let taken = self.take_messages().await;
            self.hand_over();
            let hear_client = match taken {
                Taken::All => true,
                Taken::Enough => false,
                Taken::End(end) => return Ok(end),
            };
            self.peers.wait(self.client, hear_client).await?;
        }
    }

    /// Handles the client's whole messages.
    async fn take_messages(&mut self) -> Taken {
        loop {
            self.hand_over_if_large();
            if self.peers.pending_max() > PENDING_BYTES_MAX {
                return Taken::Enough;
            }
            let frame = match self.client.peek(self.message_limit) {
                Ok(Some(frame)) if self.client.unread().len() >= frame.len => frame,
                Ok(_) => return Taken::All,
                Err(error) => {
                    let text = format!("invalid message length: {error}");
                    return Taken::End(End::Ours(Fault::fatal("08P01", text)));
                }
            };
            let done = match frame.tag {
                tag::COPY_DATA => self.data(frame.len).await,
                tag::COPY_DONE => self.finish().await.map(|()| Some(End::Complete)),
                tag::COPY_FAIL => Ok(Some(End::ClientFailed(self.reason(frame.len)))),
                // PostgreSQL ignores them during a COPY.
                tag::FLUSH | tag::SYNC => Ok(None),
                other => {
                    let text = format!("unexpected message type 0x{other:02X} during COPY from stdin");
                    Err(Fault::fatal("08P01", text))
                }
            };
            self.client.consume(frame.len);
            match done {
                Ok(None) => {}
                Ok(Some(end)) => return Taken::End(end),
                Err(fault) => return Taken::End(End::Ours(fault)),
            }
        }
    }

    /// One CopyData at the front.
    async fn data(&mut self, len: usize) -> Result<Option<End>, Fault> {
        let message = self.client.unread().get(..len).unwrap_or_default();
        match &mut self.feed {
            Feed::Same => {
                for out in self.peers.outs() {
                    out.extend_from_slice(message);
                }
                return Ok(None);
            }
            Feed::Dealt(router) | Feed::All(router) => router.feed(message.get(5..).unwrap_or_default()),
        }
        self.deal(false).await?;
        Ok(None)
    }

    async fn finish(&mut self) -> Result<(), Fault> {
        match &mut self.feed {
            Feed::Same => return Ok(()),
            Feed::Dealt(router) | Feed::All(router) => router.finish(),
        }
        self.deal(true).await?;
        Ok(())
    }

    async fn deal(&mut self, finished: bool) -> Result<(), Fault> {
        let (Feed::Dealt(router) | Feed::All(router)) = &mut self.feed else {
            return Ok(());
        };
        loop {
            match router.deal(finished).map_err(|error| route_fault(&error))? {
                Dealt::All => return Ok(()),
                Dealt::WantsValues => match &mut self.values {
                    Some(values) => router.append_next(values.fetch().await?),
                    None => return Err(Fault::error("XX000", "COPY has no source for its default values")),
                },
            }
        }
    }

    fn reason(&self, len: usize) -> Vec<u8> {
        match self
            .client
            .unread()
            .get(..len)
            .and_then(Message::whole)
            .map(Frontend::decode)
        {
            Some(Ok(Frontend::CopyFail { reason })) => reason.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Lanes that have gathered much are emptied at once; the others when the client has nothing more to say.
    fn hand_over_if_large(&mut self) {
        if let Feed::Dealt(router) | Feed::All(router) = &self.feed
            && router.held_bytes() > PENDING_BYTES_MAX
        {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        match &mut self.feed {
            Feed::Same => {}
            Feed::Dealt(router) => {
                for (lane, peer) in self.peers.list.iter_mut().enumerate() {
                    router.take(lane, peer.server.conn.out());
                }
            }
            Feed::All(router) => router.take_for_all(self.peers.outs()),
        }
    }

    fn absorb(&mut self) {
        let mut broken = None;
        self.peers.absorb(self.client, &mut |number, server, _| {
            broken = Some(number);
            let whole = server.conn.unread().len();
            server.conn.consume(whole);
        });
        if let Some(peer) = broken.and_then(|number| self.peers.list.get_mut(number)) {
            peer.lose(LinkError::Protocol("data of its own in a COPY FROM"));
        }
    }

    async fn listen(&mut self) -> Result<(), PumpError> {
        self.peers.wait(self.client, false).await?;
        self.absorb();
        Ok(())
    }

    /// Reads all answers to their ends.
    async fn drain(&mut self) -> Result<(), PumpError> {
        self.absorb();
        while !self.all_done() {
            self.listen().await?;
            if self.peers.failed() {
                self.cancel_rest().await?;
            }
        }
        Ok(())
    }

    /// Ends the COPY everywhere without a result.
    async fn abandon(&mut self, reason: &[u8]) -> Result<(), PumpError> {
        self.peers.fail_all(reason);
        self.cancel_rest().await
    }

    /// Reads all answers to their ends; what takes long is cancelled.
    async fn cancel_rest(&mut self) -> Result<(), PumpError> {
        let mut cancelled = false;
        self.absorb();
        while !self.all_done() {
            if cancelled {
                self.listen().await?;
                continue;
            }
            match tokio::time::timeout(PATIENCE, self.listen()).await {
                Ok(heard) => heard?,
                Err(_) => {
                    cancelled = true;
                    self.slot.cancel().await;
                }
            }
        }
        Ok(())
    }

    fn all_done(&self) -> bool {
        self.peers.none_at(Stage::Starting) && self.peers.none_at(Stage::Copying)
    }
}

fn route_fault(error: &RouteError) -> Fault {
    let fields = match error {
        RouteError::Stream(error) => ErrorFields::error(error.sqlstate(), error.to_string()),
        RouteError::Key(super::key::KeyProblem::Unreadable(error)) => {
            ErrorFields::error(error.sqlstate(), error.to_string())
        }
        RouteError::Key(problem) => crate::session::fault::refusal_fields(&plan::Refusal {
            code: plan::RefusalCode::KeyForm,
            reason: problem.to_string(),
            hint: "write the shard key as PostgreSQL prints it, and without such options".to_owned(),
        }),
    };
    Fault::Statement(Box::new(fields))
}
