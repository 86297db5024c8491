//! COPY FROM STDIN into one server, and the old function-call message: bytes pass as they are.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use wire::backend::tag as server_tag;
use wire::frontend::tag as client_tag;

use super::block::Wrote;
use super::effects::{Effects, effects_of_call};
use super::simple::OneShard;
use super::{Fault, Session};
use crate::conn::Conn;
use crate::exec::relay::PumpError;
use crate::server::ServerConn;

/// More than this is not read from the client while the server does not take it.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// Who spoke during a COPY.
enum Heard {
    Client,
    Server,
}

impl Session {
    /// Passes COPY data to a server until the client ends it or the server objects (its error is still unread then).
    pub(super) async fn copy_in_one(&mut self, index: usize) -> Result<(), Fault> {
        // The client is to hear that its data are wanted.
        self.client.conn.set_patience(0);
        let limit = self.message_limit();
        let client = &mut self.client.conn;
        let server = &mut self.servers[index].lease;
        let result = pass_copy_data(client, server, limit).await;
        match result {
            Ok(()) => Ok(()),
            Err(CopyEnd::Pump(error)) => Err(self.relay_failed(index, error)),
            Err(CopyEnd::Broken(message)) => {
                self.drop_server(index);
                Err(Fault::fatal("08P01", message))
            }
        }
    }

    /// The fast-path function call of old clients (large objects): the home shard's, where nothing is sharded.
    pub(super) async fn function_call(&mut self, message: &[u8]) -> Result<(), Fault> {
        let context = self.plan_context().await?;
        let result = if context.snapshot.has_sharded() {
            Err(Fault::refused_as(plan::RefusalCode::FunctionCall))
        } else {
            let oid = message.get(5..9).and_then(|oid| oid.try_into().ok());
            let oid = catalog::Oid(oid.map_or(0, u32::from_be_bytes));
            let effects = effects_of_call(oid, &context.snapshot);
            self.function_call_home(message, effects).await
        };
        if let Err(Fault::Statement(fields)) = result {
            self.tell(&fields);
            self.fail_block();
            wire::backend::encode::ready_for_query(self.client.conn.out(), self.block.status());
            return Ok(());
        }
        result
    }

    async fn function_call_home(&mut self, message: &[u8], effects: Effects) -> Result<(), Fault> {
        self.place_on_primary().await?;
        let home = self.engine.cluster.home();
        if effects.reads_sequence_state {
            self.find_sequences().await?;
        }
        self.before_sequences_at_home(effects).await?;
        let index = self.enlist(home).await?;
        let skip = self.begin_on(index).await?;
        self.servers[index].wrote = Wrote::Unknown;
        self.servers[index].lease.conn.out().extend_from_slice(message);
        let one = OneShard {
            shard: home,
            text: "",
            columns: None,
            wrote: Wrote::Unknown,
            effects: Effects::default(),
            offset: 0,
        };
        let outcome = self.relay_answer(index, skip, &one, true).await?;
        self.after_one(index, outcome, effects).await
    }
}

/// Why a COPY cannot go on.
enum CopyEnd {
    Pump(PumpError),
    Broken(String),
}

async fn pass_copy_data(client: &mut Conn, server: &mut ServerConn, limit: usize) -> Result<(), CopyEnd> {
    loop {
        if server_objects(client, server) {
            return Ok(());
        }
        if pass_messages(client, server, limit)? {
            return Ok(());
        }
        match hear(client, server).await.map_err(CopyEnd::Pump)? {
            Heard::Client | Heard::Server => {}
        }
    }
}

/// Moves complete messages to the server. True after CopyDone or CopyFail.
fn pass_messages(client: &mut Conn, server: &mut ServerConn, limit: usize) -> Result<bool, CopyEnd> {
    loop {
        if server.conn.pending_out() > PENDING_BYTES_MAX {
            return Ok(false);
        }
        let frame = match client.peek(limit) {
            Ok(Some(frame)) if client.unread().len() >= frame.len => frame,
            Ok(_) => return Ok(false),
            Err(error) => return Err(CopyEnd::Broken(format!("invalid message length: {error}"))),
        };
        match frame.tag {
            client_tag::COPY_DATA => client.transfer(frame.len, &mut server.conn),
            client_tag::COPY_DONE | client_tag::COPY_FAIL => {
                client.transfer(frame.len, &mut server.conn);
                return Ok(true);
            }
            // PostgreSQL ignores them during a COPY.
            client_tag::FLUSH | client_tag::SYNC => client.consume(frame.len),
            other => {
                return Err(CopyEnd::Broken(format!(
                    "unexpected message type 0x{other:02X} during COPY from stdin"
                )));
            }
        }
    }
}

/// Passes on what a server may say during a COPY. True when it ended the COPY with an error.
fn server_objects(client: &mut Conn, server: &mut ServerConn) -> bool {
    loop {
        let Ok(Some(message)) = server.conn.message(64 << 20) else {
            return false;
        };
        let (tag, len) = (message.tag, message.bytes.len());
        match tag {
            server_tag::NOTICE | server_tag::PARAMETER_STATUS | server_tag::NOTIFICATION => {
                server.conn.transfer(len, client);
            }
            _ => return true,
        }
    }
}

async fn hear(client: &mut Conn, server: &mut ServerConn) -> Result<Heard, PumpError> {
    poll_fn(|cx| {
        if let Poll::Ready(Err(error)) = client.poll_flush(cx) {
            return Poll::Ready(Err(PumpError::Client(error)));
        }
        match server.conn.poll_progress(cx) {
            Poll::Ready(Ok(progress)) if progress.read == Some(0) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(Err(PumpError::Server(error.into())));
            }
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Heard::Server)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Server(error.into()))),
            Poll::Pending => {}
        }
        if server.conn.pending_out() > PENDING_BYTES_MAX {
            return Poll::Pending;
        }
        match client.poll_fill(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(PumpError::Client(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Heard::Client)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Client(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
