//! A client's session: from the end of its login to its goodbye.
//!
//! The design is docs/decisions/0002. A session is one task; it owns its socket and the server connections of its
//! open transaction, so nothing here is shared and nothing is locked.

pub mod block;
mod budget;
pub mod effects;
pub mod settings;

mod ahead;
mod alike;
mod batch;
mod best_effort;
mod bound;
mod canonical;
mod cleanup;
mod configs;
mod control;
mod copy_many;
mod copy_one;
mod copy_query;
mod create_as;
mod cursor;
mod deadlock;
mod describe;
mod drift;
mod drover_sql;
mod end;
mod enlist;
mod explain;
mod extended;
mod fault;
mod fence;
mod global_indexes;
mod hurry;
mod idle_times;
mod in_doubt;
mod inspect;
mod learn;
mod letters;
mod limits;
mod listen;
mod lookup;
mod many;
mod map_rows;
pub(crate) mod node_rows;
mod observe;
mod outcome;
mod portal;
mod queries;
mod reads;
mod ruled;
mod schema;
mod sequences;
mod set;
mod several;
mod simple;
mod snapshot;
mod spread;
mod sql_prepared;
mod stale;
mod start;
mod told;
pub(crate) mod views;
mod workspace;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use sql::NormalisedBuf;
use wire::frontend::tag;

use crate::cancel::ClientCancel;
use crate::client::{ClientConn, Filled};
use crate::cluster::{LOST_TOUCH_LOOK, LOST_TOUCH_PATIENCE};
use crate::config::PoolMode;
use crate::engine::{Engine, PlanContext};
use crate::exec::budget::Budget;
use crate::pools::{Admission, ShardPool};
use crate::worker::{Stop, StopReason, Watch};

use crate::spare::Spare;
use block::{Block, Enlisted};
pub use configs::ConfigCalls;
use effects::Pins;
use extended::{Extended, Statements};
pub(crate) use fault::{Fault, refusal_fields};
pub use listen::ListenCommand;
pub use reads::{Consistency, FloorMap, Floors, OnReplica, ReadFrom, ReadHint, ReplicaMark};
pub use ruled::Ruled;
pub(crate) use sequences::SequenceReaders;
use settings::SettingsHistory;
pub(crate) use workspace::Workspaces;

/// One client's session.
pub struct Session {
    engine: Rc<Engine>,
    client: ClientConn,
    cancel: ClientCancel,
    /// The role on the servers.
    user: Arc<str>,
    /// The database on the servers.
    database: Arc<str>,
    /// Counts the client; knows the names it uses.
    admission: Admission,
    mode: PoolMode,
    /// Watches its times, where any are limited.
    watch: Option<Rc<Watch>>,
    /// What each of its statements may use, where that is limited.
    budget: Option<Rc<Budget>>,
    /// The server just lost had taken nothing of what was meant for it.
    unsent: bool,
    settings: SettingsHistory,
    block: Spare<Block>,
    servers: Vec<Enlisted>,
    /// The pools of the shards used so far.
    pools: Vec<(catalog::ShardId, ShardPool)>,
    /// Why it keeps its home connection.
    pinned: Pins,
    sequences: sequences::SequenceUse,
    /// What is measured of the request at hand.
    observation: Spare<observe::Observation>,
    /// Who it is and where it counts.
    account: observe::Account,
    /// Calls of `set_config` that have not been looked at.
    configs: Spare<ConfigCalls>,
    /// Present once it listened or notified.
    listening: Option<Box<listen::Listening>>,
    /// What pinned it may be gone: look when no block is open.
    recheck_pins: bool,
    /// The server it was pinned to is gone, and with it what it was pinned for.
    pins_lost: bool,
    /// Present once its reads may leave the primary.
    reads: Option<Box<reads::Reads>>,
    /// What the client has prepared.
    statements: Statements,
    /// What is open of the extended protocol.
    extended: Spare<Extended>,
    sql_prepared: Spare<sql_prepared::SqlPrepared>,
    /// The context of the last statement, with the settings it was made for.
    context: Option<(Rc<PlanContext>, Rc<settings::Settings>)>,
    /// The context inside a block that changed the schema.
    private_context: Option<Rc<PlanContext>>,
    /// Reused for normalising.
    scratch: Spare<NormalisedBuf>,
    /// Reused for the message at hand.
    message: BytesMut,
    message_limit: u32,
    /// Results made here announce their columns (not in the extended protocol, where Describe does).
    announce_columns: bool,
    /// Tells when the session must end.
    stop: Rc<Stop>,
    /// A statement of this session is counted as running.
    counted: bool,
    /// What the servers of the statement at hand must have stated to the guards of their shards
    /// ([`crate::nodes::Nodes::fence`]).
    stated: u64,
    /// A server that the session holds has to state it again.
    behind: bool,
    /// What is being served is a Query message.
    in_query: bool,
    /// Where the client is, where log lines are to say so.
    client_address: Option<Box<str>>,
}

/// Room for a message that a session keeps between two of them, in bytes.
const MESSAGE_KEPT_BYTES: usize = 256;

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

/// Serves a client until it leaves. Everything that goes wrong is told to the client here or was told before.
pub fn run(engine: Rc<Engine>, login: crate::worker::Session) -> impl Future<Output = ()> {
    // Not an `async fn`, whose future would keep room for its arguments.
    let start = Box::pin(Session::start(engine, login));
    async move {
        let Ok(mut session) = start.await else {
            return;
        };
        loop {
            let outcome = match session.hurry().await {
                Ok(()) => session.step().await,
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(Next::Continue) => {}
                Ok(Next::End) | Err(Fault::ClientGone) => break,
                Err(Fault::Fatal(fields)) => {
                    Box::pin(session.say_fatal(&fields)).await;
                    break;
                }
                Err(Fault::Statement(fields)) => {
                    // A statement's error ends where the statement is run; one that comes this far ends the session.
                    Box::pin(session.say_fatal(&fields)).await;
                    break;
                }
            }
        }
        Box::pin(session.leave()).await;
    }
}

impl Session {
    /// The longest message its client may send, in bytes.
    const fn message_limit(&self) -> usize {
        self.message_limit as usize
    }

    /// Takes one message of the client and acts on it.
    async fn step(&mut self) -> Result<Next, Fault> {
        let tag = self.next_message().await?;
        let Some(tag) = tag else { return Ok(Next::End) };
        let message = std::mem::take(&mut self.message);
        // An idle session must not pay for what its rarest statement needs; the common ones take the short way.
        let result = Box::pin(self.dispatch(tag, &message)).await;
        self.message = message;
        self.message.clear();
        if self.message.capacity() > MESSAGE_KEPT_BYTES {
            self.message = BytesMut::new();
        }
        result
    }

    async fn dispatch(&mut self, kind: u8, message: &[u8]) -> Result<Next, Fault> {
        match kind {
            // After an error in a pipeline PostgreSQL ignores everything up to Sync.
            tag::QUERY | tag::FUNCTION_CALL if self.extended.skipping || self.batch_fails().await? => {}
            tag::QUERY => {
                self.observe_request();
                self.count_in(message).await?;
                self.simple(message).await?;
                self.after_failure().await;
                self.observe_end();
                self.count_out();
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::FLUSH | tag::SYNC => {
                self.observe_request();
                self.count_in(message).await?;
                self.extended_message(kind, message).await?;
                if kind == tag::SYNC {
                    self.after_failure().await;
                    self.observe_end();
                    self.count_out();
                }
            }
            tag::TERMINATE => return Ok(Next::End),
            // Left over from a COPY that failed: PostgreSQL ignores them too.
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
            tag::FUNCTION_CALL => {
                self.observe_request();
                self.count_in(message).await?;
                self.function_call(message).await?;
                self.observe_end();
                self.count_out();
            }
            other => {
                let text = format!("invalid frontend message type {other}");
                return Err(Fault::fatal("08P01", text));
            }
        }
        Ok(Next::Continue)
    }

    /// Counts this session among the running ones, after waiting for a change of the cluster that is under way. The end
    /// of a transaction never waits: the change may be waiting for it.
    async fn count_in(&mut self, message: &[u8]) -> Result<(), Fault> {
        if self.counted {
            return Ok(());
        }
        if let Some(watch) = &self.watch {
            watch.runs(self.block.is_open());
        }
        let gate = &self.engine.cluster.gate;
        if gate.is_closed() && self.block.is_open() && ends_transaction(message) {
            self.engine.running.enter_anyway();
        } else {
            // Transactions and locks are what others may be waiting for; in session mode every session has a server, and
            // would go on without end.
            let holds = !self.servers.is_empty()
                && (self.block.is_open() || self.pinned.contains(effects::PinReason::AdvisoryLock));
            gate.enter(&self.engine.running, holds).await;
        }
        self.counted = true;
        if self.cancel.slot.is_late() {
            Box::pin(self.cancel.slot.arrived()).await;
        }
        self.cancel.slot.begin_request();
        if !self.engine.cluster.is_valid() {
            Box::pin(self.wait_for_touch()).await?;
        }
        if self.behind || self.stated != self.engine.cluster.nodes.fence() {
            Box::pin(self.state_ownership()).await?;
        }
        Ok(())
    }

    /// A proxy that is slow to renew its registration, because its machine is busy or the store is, may not serve. Outside
    /// of transactions that is a pause.
    async fn wait_for_touch(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + LOST_TOUCH_PATIENCE;
        while !self.engine.cluster.is_valid() {
            if self.block.is_open() || Instant::now() >= deadline {
                let text = "this proxy has lost touch with the cluster; connect again";
                return Err(Fault::fatal("57P03", text));
            }
            // Who changes the cluster must not wait for who waits.
            self.count_out();
            tokio::time::sleep(LOST_TOUCH_LOOK).await;
            let holds = !self.servers.is_empty();
            self.engine.cluster.gate.enter(&self.engine.running, holds).await;
            self.counted = true;
            self.cancel.slot.begin_request();
        }
        Ok(())
    }

    fn count_out(&mut self) {
        if self.counted {
            self.counted = false;
            self.cancel.slot.end_request();
            self.engine.running.leave();
        }
    }

    /// Waits for a whole message, moves it to `self.message` and returns its tag; `None` when the client closed.
    /// Before waiting, everything pending goes out.
    async fn next_message(&mut self) -> Result<Option<u8>, Fault> {
        if self.pins_lost {
            return Err(Fault::fatal("08006", "the connection to a shard was lost"));
        }
        loop {
            let frame = self
                .client
                .conn
                .peek(self.message_limit())
                .map_err(|error| Fault::fatal("08P01", format!("invalid message length: {error}")))?;
            if let Some(frame) = frame
                && let Some(bytes) = self.client.conn.unread().get(..frame.len)
            {
                self.message.clear();
                self.message.extend_from_slice(bytes);
                self.client.conn.consume(frame.len);
                return Ok(Some(frame.tag));
            }
            // In the middle of a pipeline, too, a cancel finds nothing at work while the client is waited for.
            if self.counted {
                self.cancel.slot.end_request();
            }
            // Not in the task of a session that is idle.
            if !Box::pin(self.wait_for_client()).await? {
                return Ok(None);
            }
            if self.counted {
                if self.cancel.slot.is_late() {
                    Box::pin(self.cancel.slot.arrived()).await;
                }
                self.cancel.slot.begin_request();
            }
        }
    }

    /// Sends what is pending and reads more. False when the client closed. A pinned server's notifications pass.
    async fn wait_for_client(&mut self) -> Result<bool, Fault> {
        if self.listening.is_some() {
            self.deliver_notifications()?;
        }
        if self.settings.take_changed() {
            self.follow_idle_times();
            self.follow_budget();
        }
        if let Some(watch) = &self.watch {
            watch.waits(self.block.is_open());
        }
        self.client.conn.flush().await.map_err(|_| Fault::ClientGone)?;
        self.batch_flush_if_large().await?;
        if self.listening.is_some() {
            return Box::pin(self.wait_listening()).await;
        }
        self.wait_plainly().await
    }

    /// The same when nothing is pending. Outside a block it is cancel safe.
    async fn wait_plainly(&mut self) -> Result<bool, Fault> {
        if self.servers.is_empty() || (self.block.is_open() && self.pinned.is_empty()) {
            if !self.block.is_open() {
                self.client.conn.give_up_buffers();
            }
            return match self.client.fill_or_stop().await.map_err(|_| Fault::ClientGone)? {
                Filled::Bytes(_) => Ok(true),
                Filled::Closed => Ok(false),
                Filled::Stop(StopReason::Shutdown) if self.block.is_open() => {
                    let n = self.client.conn.fill().await.map_err(|_| Fault::ClientGone)?;
                    Ok(n > 0)
                }
                Filled::Stop(reason) => Err(stopped(reason)),
            };
        }
        if self.stop.is_set() {
            return Err(stopped(self.stop.reason()));
        }
        self.wait_beside_servers().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count_out();
        self.set_pinned(Pins::default());
    }
}

fn stopped(reason: StopReason) -> Fault {
    let (code, text) = reason.words();
    Fault::fatal(code, text)
}

/// True for a Query or Parse whose text can only end a transaction, and for what follows such a Parse.
fn ends_transaction(message: &[u8]) -> bool {
    let body = message.get(5..).unwrap_or_default();
    let text = match message.first() {
        Some(&tag::QUERY) => body,
        Some(&tag::PARSE) => body
            .iter()
            .position(|byte| *byte == 0)
            .map_or(body, |end| &body[end + 1..]),
        Some(&tag::BIND | &tag::EXECUTE | &tag::SYNC) => return true,
        _ => return false,
    };
    let word: Vec<u8> = text
        .iter()
        .skip_while(|byte| byte.is_ascii_whitespace())
        .take_while(|byte| byte.is_ascii_alphabetic())
        .map(u8::to_ascii_lowercase)
        .collect();
    matches!(word.as_slice(), b"commit" | b"rollback" | b"end" | b"abort")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each of many thousands of idle sessions holds this much, beside what the runtime adds to its task.
    /// What is seldom needed goes into a box of its own ([`crate::spare`]).
    #[test]
    fn an_idle_session_is_small() {
        let task = size_of_future(run);
        assert!(task <= 896, "{task} bytes");
    }
}
