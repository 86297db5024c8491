//! What becomes of a transaction over several shards when a statement of it has failed, above all by a deadlock.
//!
//! On PostgreSQL an error lets go of the locks taken since the last savepoint at once, before the client has said ROLLBACK.
//! Others may be waiting for them on shards that know nothing of the error.

use wire::TransactionStatus;

use super::Session;
use super::block::BlockState;
use crate::exec::link;

/// Fails, and says why in the server's log. It makes of the transaction what the error made of it on the other shard.
const FAIL: &str = "SELECT 'the transaction has failed on another shard'::pg_catalog.int4";

impl Session {
    /// After a request: a transaction over several shards that has failed fails on all of them.
    pub(super) async fn after_failure(&mut self) {
        if self.cancel.slot.is_cancelled() && self.cancel.slot.deadlock().is_some() {
            self.engine.metrics.deadlocks.increment();
        }
        if self.servers.len() > 1 && self.block.state == BlockState::Failed && !self.block.lost {
            Box::pin(self.fail_on_all()).await;
        }
    }

    async fn fail_on_all(&mut self) {
        let mut asked = Vec::new();
        for (index, server) in self.servers.iter_mut().enumerate() {
            let open = server.lease.status == TransactionStatus::InTransaction;
            if server.begun && open && !server.busy && link::send_query(&mut server.lease, FAIL).is_ok() {
                server.lease.conn.try_flush();
                asked.push(index);
            }
        }
        for index in asked.into_iter().rev() {
            if link::collect(&mut self.servers[index].lease).await.is_err() {
                self.drop_server(index);
            }
        }
    }
}
