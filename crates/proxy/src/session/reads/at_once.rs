//! A replica for a read that takes the short way: only where nothing has to be waited for or asked.
//!
//! The rules are those of [`super::obtain`]; whatever is not known at once (the primary's position, how far the replica is,
//! a free connection) leaves the read to the long way, which finds it out for the reads behind it too.

use std::rc::Rc;

use catalog::ShardId;
use plan::ReadPlace;
use replica::Position;

use super::super::enlist::{give_back, is_settled};
use super::super::{Fault, Session};
use super::node::OnReplica;
use super::options::{Consistency, ReadFrom, ReadOptions};
use super::positions::{Demand, latest};
use crate::conn::OutMark;
use crate::exec::statement::Statement;
use crate::nodes::{Choice, Need, NodeId, Outcome};
use crate::pools::{Lease, Place, Purpose, ShardPool};

/// Pools of replicas that a session has used, found again without their names.
pub(super) type Pools = Vec<(ShardId, NodeId, ShardPool)>;

/// Pools that are remembered.
const POOLS_MAX: usize = 16;

impl Session {
    /// Gets a replica's connection, with the session's settings, for a statement outside of blocks. False: the long way
    /// has to do it.
    pub(in super::super) fn enlist_replica_at_once(&mut self, statement: &Statement, shard: ShardId) -> bool {
        let Some(options) = self.options_at_once(statement) else {
            return false;
        };
        let Some(needed) = self.needed_at_once(shard, &options) else {
            return false;
        };
        let age_max = match options.consistency {
            Consistency::Bounded(age) => Some(age),
            _ => None,
        };
        let need = Need {
            primary_too: options.from == ReadFrom::Any,
            at_least: Some(needed),
            age_max,
            tried: &[],
        };
        let nodes = &self.engine.shared.nodes;
        let Choice::Node(picked) = nodes.choose(shard.0, &need) else {
            return false;
        };
        let seen = nodes.view(shard.0).and_then(|view| {
            let seen = view.node(picked.id)?.seen?;
            view.can_tell(&seen, needed).then_some(seen)
        });
        let Some(seen) = seen else {
            return false;
        };
        let wanted = match age_max {
            // How old its data are was judged by where it was then.
            Some(_) => needed.lsn.max(seen.position.lsn),
            None => needed.lsn,
        };
        let Some(lease) = self.replica_lease(shard, picked.id) else {
            return false;
        };
        let has_it = lease.mark.as_ref().is_some_and(|mark| {
            mark.incarnation == seen.incarnation
                && mark.system == needed.system
                && mark.replayed >= wanted.settled()
        });
        if !has_it || !is_settled(&lease, self.settings.current()) {
            lease.release();
            return false;
        }
        let Some(in_flight) = picked.node.begin() else {
            lease.release();
            return false;
        };
        let mut enlisted = self.enlisted(shard, lease);
        enlisted.replica = Some(Box::new(OnReplica::new(picked.id, in_flight)));
        self.servers.push(enlisted);
        true
    }

    /// The connection was not used after all.
    pub(in super::super) fn put_replica_back(&mut self) {
        for mut server in self.servers.drain(..) {
            if let Some(replica) = &mut server.replica {
                replica.end(Outcome::Nothing);
            }
            give_back(server, None);
        }
    }

    /// The errand's answer is not a plain one: an error in it may be cured. Says where the answer begins.
    pub(in super::super) fn hold_answer(&mut self) -> OutMark {
        let mark = self.client.conn.mark();
        if let Some(reads) = &mut self.reads {
            reads.mark = Some(mark);
        }
        mark
    }

    /// The replica that has an errand, and its shard.
    pub(in super::super) fn errand_is_on(&self) -> Option<(ShardId, NodeId)> {
        let server = self.servers.first()?;
        Some((server.shard, server.replica.as_ref()?.id))
    }

    /// What runs next keeps away from this server; `None`: from none.
    pub(in super::super) fn avoid(&mut self, server: Option<(ShardId, NodeId)>) {
        if let Some(reads) = &mut self.reads {
            reads.avoid.clear();
            reads.avoid.extend(server);
        }
    }

    /// A read that failed on a replica may run again elsewhere: nothing of its answer is left with the client. Otherwise
    /// the error that the client is told.
    pub(in super::super) fn can_read_again(&mut self, fault: Fault, mark: OutMark) -> Result<(), Fault> {
        let Fault::Statement(fields) = fault else {
            return Err(fault);
        };
        self.read_again(fields, mark, 1)?;
        if let Some(reads) = &mut self.reads {
            // It begins anew.
            reads.held = None;
            reads.mark = None;
        }
        Ok(())
    }

    fn options_at_once(&self, statement: &Statement) -> Option<ReadOptions> {
        let reads = self.reads.as_ref()?;
        let is_read = statement.reading.place == ReadPlace::Replica && !statement.reading.refused.get();
        let local = reads.made_of_local || self.settings.has_local_own();
        let known = !local && !reads.writing && Rc::ptr_eq(&reads.made_of, self.settings.current());
        let fits = is_read && known && reads.options.leaves_primary() && !reads.serializable;
        fits.then_some(reads.options)
    }

    fn needed_at_once(&self, shard: ShardId, options: &ReadOptions) -> Option<Position> {
        let view = self.engine.shared.nodes.view(shard.0)?;
        let version = self.engine.cluster.version(&self.database);
        let floor = self.engine.floors.get(&self.database, shard, version)?;
        let positions = &self.reads.as_ref()?.positions;
        let own = match options.consistency.heeds_writes() {
            true => positions.demand(shard, &view),
            // A token counts all the same.
            false => positions.demand_told(shard, &view),
        };
        let Demand::Place(own) = own else { return None };
        let both = [floor, own.unwrap_or(floor)];
        match latest(&both, &view) {
            Demand::Place(place) => place,
            _ => None,
        }
    }

    fn replica_lease(&mut self, shard: ShardId, id: NodeId) -> Option<Lease> {
        if self.cancel.slot.is_cancelled() {
            return None;
        }
        let known = &self.reads.as_ref()?.pools;
        let found = known
            .iter()
            .position(|(on, known, _)| (*on, *known) == (shard, id));
        let at = match found {
            Some(at) => at,
            None => {
                let key = self.pool_key_at(Place::replica(shard.0, id));
                let pool = self.engine.pools.pool_for(&key);
                let pools = &mut self.reads.as_mut()?.pools;
                if pools.len() >= POOLS_MAX {
                    pools.clear();
                }
                pools.push((shard, id, pool));
                pools.len() - 1
            }
        };
        let pools = &self.reads.as_ref()?.pools;
        let (_, _, pool) = pools.get(at)?;
        pool.try_checkout(Purpose::First, Some(&self.cancel.slot))
    }
}
