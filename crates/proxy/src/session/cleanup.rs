//! What becomes of a session's servers when it ends: a client that dies costs a ROLLBACK, not a connection.
//!
//! A server may be in the middle of anything: a reply nobody reads any more, a COPY, a pipeline whose Sync never came.
//! What runs is cancelled; then one sequence of messages brings a server out of every such state:
//!
//! | message | in which state it matters |
//! |---|---|
//! | CopyFail | a COPY waits for data; everywhere else it is ignored |
//! | a Parse of nonsense | a pipeline whose Sync never came is open: that Sync would commit it |
//! | Sync | after an error in a pipeline everything is ignored up to it |
//! | `ROLLBACK` | a transaction is open, failed or not |
//! | `DISCARD ALL` | something of the session may be left: settings, temporary objects, locks, prepared statements |
//! | `SELECT` of a random word | tells where the answers to all this begin |
//!
//! What comes before the word is dropped, at most [`BYTES_MAX`] and for at most [`PATIENCE`]; a server that needs more,
//! or answers otherwise, is closed. A server on which code ran that loads libraries is always closed.

use std::rc::Rc;
use std::time::Duration;

use wire::TransactionStatus;
use wire::backend::{Backend, tag};
use wire::frame::Message;
use wire::frontend::encode;

use super::Session;
use super::block::Enlisted;
use super::effects::PinReason;
use crate::exec::link::{self, LinkError};
use crate::pools::Lease;
use crate::server::{Applied, SequenceOwner, ServerConn};

/// How long bringing one server into order may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much a server may still have to say, in bytes.
const BYTES_MAX: usize = 16 << 20;

/// What a server needs before somebody else may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Nothing.
    None,
    /// The end of its transaction.
    Rollback,
    /// That, and that nothing of the session is left.
    Wash,
    /// Nothing helps.
    Close,
}

impl Session {
    /// The session is over: its servers are brought into order and given back, without the client.
    pub(super) async fn leave(mut self) {
        self.report_logout();
        let servers = std::mem::take(&mut self.servers);
        let work: Vec<(Enlisted, Care)> = servers
            .into_iter()
            .map(|server| {
                let care = self.care_for(&server);
                (server, care)
            })
            .collect();
        let cancel = work.iter().any(|(server, _)| server.busy);
        if work.iter().any(|(_, care)| *care != Care::None) {
            let slot = std::sync::Arc::clone(&self.cancel.slot);
            let pipeline = self.extended.open_on.is_some();
            let engine = Rc::clone(&self.engine);
            // The client and what counts it need not wait for this.
            tokio::task::spawn_local(async move {
                if cancel {
                    slot.cancel().await;
                }
                for (server, care) in work {
                    if care_for(server.lease, care, pipeline).await {
                        engine.metrics.servers_cleaned.increment();
                    }
                }
            });
        } else {
            for (server, _) in work {
                server.lease.release();
            }
        }
        // The socket is closed with the session, which tells the client as much as closing the sending side before.
        let _ = self.client.conn.finish().await;
    }

    fn care_for(&self, server: &Enlisted) -> Care {
        let home = server.shard == self.engine.cluster.home();
        if home && self.pinned.contains(PinReason::ProcessState) {
            return Care::Close;
        }
        // Several shards' answers are read side by side: where each stands is not known here.
        if server.busy && self.block.ticket.is_some() {
            return Care::Close;
        }
        let unread = server.busy || server.lease.conn.pending_out() > 0;
        if unread || self.block.inspect || (home && self.pinned.hold_state()) {
            Care::Wash
        } else if server.lease.status != TransactionStatus::Idle {
            Care::Rollback
        } else {
            Care::None
        }
    }
}

/// Brings a server into order and gives it back. False: it was closed.
async fn care_for(mut lease: Lease, care: Care, pipeline: bool) -> bool {
    let put_right = match care {
        Care::None => true,
        Care::Close => false,
        Care::Rollback | Care::Wash => {
            let wash = care == Care::Wash;
            matches!(
                tokio::time::timeout(PATIENCE, put_right(&mut lease, wash, pipeline)).await,
                Ok(Ok(()))
            )
        }
    };
    if put_right {
        lease.release();
    } else {
        lease.discard();
    }
    put_right
}

/// Sends the sequence and reads up to its end.
async fn put_right(server: &mut ServerConn, wash: bool, pipeline: bool) -> Result<(), LinkError> {
    let broken = |_| LinkError::Protocol("too long");
    if server.conn.is_held() {
        return Err(LinkError::Protocol("held back"));
    }
    let word = crate::cancel::random::<8>().map_err(|_| LinkError::Protocol("no random numbers"))?;
    let word = format!("{:016x}", u64::from_be_bytes(word));
    let out = server.conn.out();
    encode::copy_fail(out, b"the client is gone").map_err(broken)?;
    if pipeline {
        encode::parse(out, b"", b"the client is gone", []).map_err(broken)?;
    }
    encode::sync(out);
    encode::query(out, b"ROLLBACK").map_err(broken)?;
    if wash {
        encode::query(out, b"DISCARD ALL").map_err(broken)?;
    }
    encode::query(out, format!("SELECT '{word}'").as_bytes()).map_err(broken)?;
    skip_row(server).await?;
    let expected = if wash { "DISCARD ALL" } else { "ROLLBACK" };
    read_to_word(server, word.as_bytes(), expected).await?;
    server.unnamed = None;
    if wash {
        server.prepared.clear();
        server.applied = Applied::Fresh;
        server.sequences = SequenceOwner::Nobody;
    }
    Ok(())
}

/// Drops the rest of a row of which a part has gone to the client.
async fn skip_row(server: &mut ServerConn) -> Result<(), LinkError> {
    if server.passing > BYTES_MAX {
        return Err(LinkError::Protocol("too much is left of a row"));
    }
    while server.passing > 0 {
        let n = server.passing.min(server.conn.unread().len());
        server.conn.consume(n);
        server.passing -= n;
        if server.passing > 0 && server.conn.progress().await?.read == Some(0) {
            return Err(LinkError::Lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(())
}

/// Drops answers up to the row with the word and the ReadyForQuery behind it. What was completed right before it must
/// be `expected`.
async fn read_to_word(server: &mut ServerConn, word: &[u8], expected: &str) -> Result<(), LinkError> {
    let mut bytes = 0;
    let mut last_tag = String::new();
    let mut found = false;
    loop {
        let frame = link::next_frame(server).await?;
        bytes += frame.len;
        if bytes > BYTES_MAX {
            return Err(LinkError::Protocol("too much to drop"));
        }
        let Some(message) = server.conn.unread().get(..frame.len).and_then(Message::whole) else {
            return Err(LinkError::Protocol("message cut short"));
        };
        match message.tag {
            tag::DATA_ROW if message.bytes.ends_with(word) => {
                if last_tag != expected {
                    return Err(LinkError::Protocol("the transaction did not end"));
                }
                found = true;
            }
            tag::COMMAND_COMPLETE => {
                if let Ok(Backend::CommandComplete { tag }) = Backend::decode(message) {
                    last_tag = String::from_utf8_lossy(tag).into_owned();
                }
            }
            // After an error the tag before it says nothing.
            tag::ERROR => last_tag.clear(),
            tag::READY_FOR_QUERY => {
                server.status = super::simple::status_of(message.bytes);
            }
            _ => {}
        }
        let ready = message.tag == tag::READY_FOR_QUERY;
        link::note_parameter(server, frame.len, frame.tag);
        server.conn.consume(frame.len);
        if found && ready {
            return Ok(());
        }
    }
}
