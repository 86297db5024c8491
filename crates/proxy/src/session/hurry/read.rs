//! The short way to a replica.
//!
//! ```text
//!  errand ──connection at once──► sent ──whole, quiet answer──► at rest
//!     │                            └──anything else──► relayed ──error that another server may cure──► long way
//!     └──anything else──► long way (nothing was consumed, nothing was sent)
//! ```
//!
//! The messages are kept until the answer is there: a read whose replica fails begins anew, as the long way would do it.

use std::time::Duration;

use wire::TransactionStatus;
use wire::backend::encode;
use wire::frame;
use wire::frontend::tag;

use super::Errand;
use super::shape::{Quiet, quiet_answer};
use crate::exec::relay::PumpError;
use crate::exec::statement::Action;
use crate::session::reads::KEPT_BACK_BYTES;
use crate::session::{Fault, Session};

/// Reads with longer messages take the long way, which keeps them only where it has to.
const MESSAGES_MAX: usize = 16 * 1024;

/// Room for them that a session keeps from one read to the next.
const KEPT_CAPACITY_MAX: usize = 1024;

impl Session {
    /// Runs an errand on a replica to its end. False: nothing was sent, the long way has to do it.
    pub(super) async fn run_read(&mut self, errand: &Errand) -> Result<bool, Fault> {
        if errand.len > MESSAGES_MAX || !self.enlist_replica_at_once(&errand.statement, errand.shard) {
            return Ok(false);
        }
        let kept = self.reads.as_mut().map(|reads| std::mem::take(&mut reads.kept));
        let mut kept = kept.unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(self.client.conn.unread().get(..errand.len).unwrap_or_default());
        let result = self.send_read(errand, &kept).await;
        if let Some(reads) = &mut self.reads
            && kept.capacity() <= KEPT_CAPACITY_MAX
        {
            reads.kept = kept;
        }
        result
    }

    async fn send_read(&mut self, errand: &Errand, kept: &[u8]) -> Result<bool, Fault> {
        match self.send_errand(errand) {
            Ok(true) => {}
            Ok(false) => {
                self.put_replica_back();
                return Ok(false);
            }
            Err(_) => {
                // Nothing was consumed; the long way says what is wrong.
                self.servers.clear();
                return Ok(false);
            }
        }
        let metrics = &self.engine.metrics;
        metrics.statements.increment();
        metrics.plan_cache_hits.increment();
        metrics.reads_on_replica.increment();
        self.observation.add(&errand.statement, false);
        self.observation.over(&[errand.shard]);
        let columns = match &errand.statement.action {
            Action::Planned(planned) if errand.shard != self.engine.cluster.home() => {
                planned.columns.as_deref()
            }
            _ => None,
        };
        // A replica that says nothing for longer is watched while it is waited for.
        let patience = match self.engine.shared.nodes.config().hang_timeout {
            Duration::ZERO => self.engine.shared.nodes.config().poll_timeout,
            patience => patience,
        };
        let told = tokio::time::timeout(patience, self.await_answer()).await;
        if matches!(told, Ok(Err(PumpError::Client(_)))) {
            return Err(Fault::ClientGone);
        }
        if told.is_err() {
            self.engine.shared.nodes.look_now(errand.shard.0);
        }
        let server = &mut self.servers[0].lease;
        let quiet = match told {
            Ok(Ok(())) => quiet_answer(server.conn.unread_mut(), columns),
            _ => None,
        };
        let Some(Quiet { status, tag }) = quiet else {
            return Box::pin(self.relay_read(errand, kept)).await;
        };
        self.observation
            .completed(server.conn.unread().get(tag).unwrap_or_default());
        let len = server.conn.unread().len();
        server.conn.transfer(len, &mut self.client.conn);
        server.status = status;
        self.servers[0].busy = false;
        self.end_read().await
    }

    async fn end_read(&mut self) -> Result<bool, Fault> {
        if self.needs_position() {
            // It is taken when the session comes to rest; the client need not wait for that.
            self.client.conn.try_flush();
        }
        let open = |server: &crate::session::block::Enlisted| server.lease.status != TransactionStatus::Idle;
        if self.servers.first().is_some_and(open) {
            return Err(Fault::fatal(
                "XX000",
                "a server opened a transaction the session does not know",
            ));
        }
        self.engine.metrics.transactions_short.increment();
        self.at_rest().await?;
        Ok(true)
    }

    /// Relays an answer that concerns the proxy, has not come in one piece, or does not come.
    async fn relay_read(&mut self, errand: &Errand, kept: &[u8]) -> Result<bool, Fault> {
        let (mark, on) = (self.hold_answer(), self.errand_is_on());
        let patience = self.client.conn.set_patience(KEPT_BACK_BYTES);
        let relayed = self.relay_errand(errand).await;
        self.client.conn.set_patience(patience);
        let fault = match (relayed, self.held_error()) {
            (Err(fault), _) => fault,
            (Ok(()), Some(fields)) => Fault::Statement(fields),
            (Ok(()), None) => return self.end_read().await,
        };
        let fault = match self.can_read_again(fault, mark) {
            Ok(()) => {
                self.drop_busy_servers();
                self.release_servers();
                self.avoid(on);
                let taken = self.take_messages(kept).await;
                self.avoid(None);
                return taken.map(|()| true);
            }
            Err(fault) => fault,
        };
        let Fault::Statement(fields) = fault else {
            return Err(fault);
        };
        self.drop_busy_servers();
        self.tell(&fields);
        encode::ready_for_query(self.client.conn.out(), TransactionStatus::Idle);
        self.at_rest().await?;
        Ok(true)
    }

    /// The errand's messages, the long way.
    async fn take_messages(&mut self, mut kept: &[u8]) -> Result<(), Fault> {
        while let Ok(Some(found)) = frame::peek(kept, usize::MAX)
            && let Some((message, behind)) = kept.split_at_checked(found.len)
        {
            match found.tag {
                tag::QUERY => self.simple(message).await?,
                kind => self.extended_message(kind, message).await?,
            }
            kept = behind;
        }
        Ok(())
    }
}
