//! What servers that a session keeps state to the guards of their shards (docs/decisions/0030).
//!
//! A server connection states at its login how old the placement of rows is that its proxy knows, and an idle one that is
//! outdated is closed instead of lent. What is left are servers that a session holds while rows change hands: a transaction
//! that is open, a session that keeps its home connection. They are told before the next statement, by a round trip that
//! costs nobody else anything, and are not used by another session afterwards: a `DISCARD ALL` would make them state again
//! what their login did.
//!
//! Inside a transaction the statement goes with a rollback, so that it is repeated before every statement until the
//! transaction ends.

use wire::TransactionStatus;

use super::{Fault, Session};
use crate::exec::link;
use crate::ops::guards;

impl Session {
    /// The rows have changed hands since this session's last statement, or a server has to be told once more that they did.
    pub(super) async fn state_ownership(&mut self) -> Result<(), Fault> {
        self.stated = self.engine.cluster.nodes.fence();
        self.behind = false;
        let (name, value) = guards::stated(self.stated);
        let text = format!("SET {name} = '{value}'");
        for index in 0..self.servers.len() {
            if self.servers[index].lease.epoch >= self.stated {
                continue;
            }
            if self.servers[index].ahead.is_some() {
                self.finish_ahead(index).await?;
            }
            let shard = self.shard_name(self.servers[index].shard);
            let Some(server) = self.servers.get_mut(index) else {
                break;
            };
            self.behind |= server.lease.status != TransactionStatus::Idle;
            // Only its end is of any use.
            if server.lease.status == TransactionStatus::Failed {
                continue;
            }
            server.lease.dirty = true;
            let reply = link::query(&mut server.lease, &text).await;
            let reply = reply.map_err(|error| Fault::lost(&error, &shard))?;
            reply.into_rows().map_err(Fault::Statement)?;
        }
        Ok(())
    }

    /// The rows must be where they were when the statement was planned. They only ever are not if this proxy was cut off
    /// from the cluster and is back while the statement waited.
    pub(super) fn check_fence(&self) -> Result<(), Fault> {
        if !self.counted || self.stated == self.engine.cluster.nodes.fence() {
            return Ok(());
        }
        let text = "rows were moved to other shards while this statement waited";
        Err(Fault::error("40001", text))
    }
}
