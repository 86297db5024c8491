//! A connection to a replica that has what a read needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::ShardId;
use replica::Position;

use super::super::block::Enlisted;
use super::super::{Fault, Session};
use super::node::{self, Guard, LookError, OnReplica, ReplicaMark};
use super::options::{Consistency, ReadFrom, ReadOptions};
use super::positions::{Demand, latest};
use crate::nodes::{Choice, Need, NodeId, Outcome, Picked, Seen};
use crate::pools::{Lease, Place, Purpose};

/// The least time that is spent on getting a connection to a replica, before another one is tried.
const CONNECTION_TIME: Duration = Duration::from_secs(1);

/// The least time a replica has to say how far it is, before another one is asked.
const LOOK_TIME: Duration = Duration::from_millis(100);

/// Pauses between questions to a replica that is behind: from the first, doubled, to the last.
const PAUSES: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(10));

/// What is to be done with a replica that was picked.
enum Fit {
    /// It has what is needed.
    Yes,
    /// It has not, and there is no time left.
    Behind,
    /// It is gone, or did not answer.
    Gone,
    /// It is not the server that was looked at last.
    Other,
}

impl Session {
    /// A replica's connection for the statement at hand. `None`: the primary has to serve it.
    pub(in super::super) async fn obtain_replica(
        &mut self,
        shard: ShardId,
    ) -> Result<Option<Enlisted>, Fault> {
        let Some(options) = self.reads.as_ref().and_then(|reads| reads.now) else {
            return Ok(None);
        };
        if self.pinned_to(shard) {
            return Ok(None);
        }
        let Some(needed) = self.needed(shard, &options).await? else {
            return Ok(self.on_primary());
        };
        let deadline = self.wait_until(&options);
        let nodes = Arc::clone(&self.engine.shared.nodes);
        loop {
            let tried: Vec<NodeId> = self.tried(shard);
            let need = Need {
                primary_too: options.from == ReadFrom::Any,
                at_least: needed,
                age_max: match options.consistency {
                    Consistency::Bounded(age) => Some(age),
                    _ => None,
                },
                tried: &tried,
            };
            let picked = match nodes.choose(shard.0, &need) {
                Choice::Node(picked) => picked,
                Choice::Primary(_) => return Ok(self.on_primary()),
            };
            if let Some(reads) = &mut self.reads {
                reads.tried.push((shard, picked.id));
            }
            if let Some(enlisted) = self
                .try_replica(shard, &picked, needed, &options, deadline)
                .await?
            {
                return Ok(Some(enlisted));
            }
        }
    }

    /// Until when the statement at hand waits for replicas that are behind, of all its shards together.
    fn wait_until(&mut self, options: &ReadOptions) -> Instant {
        let latest = Instant::now() + options.wait;
        match &mut self.reads {
            Some(reads) => *reads.wait_until.get_or_insert(latest),
            None => latest,
        }
    }

    /// The primary has to serve a read that could have gone to a replica.
    fn on_primary(&mut self) -> Option<Enlisted> {
        self.engine.metrics.reads_on_primary.increment();
        None
    }

    fn tried(&self, shard: ShardId) -> Vec<NodeId> {
        let tried = self.reads.iter().flat_map(|reads| &reads.tried);
        tried.filter(|(on, _)| *on == shard).map(|(_, id)| *id).collect()
    }

    /// The session keeps its connection to this shard's primary, and what it has there.
    fn pinned_to(&self, shard: ShardId) -> bool {
        !self.pinned.is_empty() && shard == self.engine.cluster.home()
    }

    /// The place a replica must have reached. `None`: only the primary will do.
    pub(super) async fn needed(
        &mut self,
        shard: ShardId,
        options: &ReadOptions,
    ) -> Result<Option<Option<Position>>, Fault> {
        let Some(view) = self.engine.shared.nodes.view(shard.0) else {
            return Ok(None);
        };
        let version = self.engine.cluster.version(&self.database);
        let heeds = options.consistency.heeds_writes();
        let floor = self.engine.floors.get(&self.database, shard, version);
        let floor = floor.filter(|floor| matches!(latest(&[*floor], &view), Demand::Place(_)));
        let demand = |session: &Self| match &session.reads {
            Some(reads) if heeds => reads.positions.demand(shard, &view),
            // A token counts all the same.
            Some(reads) => reads.positions.demand_told(shard, &view),
            None => Demand::Place(None),
        };
        let floor = match floor {
            Some(floor) if demand(self) != Demand::Unknown => floor,
            _ => {
                let position = self.primary_position(shard).await?;
                self.engine.floors.set(&self.database, shard, version, position);
                if let Some(reads) = &mut self.reads
                    && heeds
                    && reads.positions.known(shard).is_none()
                {
                    reads.positions.covered(shard, position);
                }
                position
            }
        };
        match demand(self) {
            Demand::Place(None) => Ok(Some(Some(floor))),
            Demand::Place(Some(own)) => match latest(&[floor, own], &view) {
                Demand::Place(place) => Ok(Some(place)),
                _ => Ok(None),
            },
            Demand::Lost(position) => Err(self.lost_position(shard, position)),
            Demand::Unknown | Demand::Unclear => Ok(None),
        }
    }

    /// Tells once that something the session wrote, or saw, is gone.
    fn lost_position(&mut self, shard: ShardId, position: Position) -> Fault {
        self.engine.metrics.positions_lost.increment();
        if let Some(reads) = &mut self.reads {
            reads.positions.forget(shard);
        }
        let name = self.shard_name(shard);
        let fields = wire::backend::ErrorFields::error(
            "40003",
            format!("what this session has written or seen on {name} was lost in a failover"),
        )
        .with_detail(format!(
            "Position {position} is not part of the history of its primary."
        ))
        .with_hint("Look at the data before going on; this is told once.");
        Fault::Statement(Box::new(fields))
    }

    /// Where a shard's primary is now.
    pub(super) async fn primary_position(&mut self, shard: ShardId) -> Result<Position, Fault> {
        let name = self.shard_name(shard);
        let key = self.pool_key(shard);
        let pools = &self.engine.pools;
        let mut lease = pools
            .checkout(&key, Purpose::Control, Some(&self.cancel.slot))
            .await?;
        match node::written(&mut lease).await {
            Ok(position) => {
                lease.release();
                Ok(position)
            }
            Err(LookError::Link(error)) => {
                lease.discard();
                Err(Fault::lost(&error, &name))
            }
            Err(LookError::Role) => {
                lease.release();
                Err(Fault::error(
                    "57P03",
                    format!("{name} has no primary at the moment"),
                ))
            }
        }
    }

    /// A connection to a replica that was picked, if it will do.
    async fn try_replica(
        &mut self,
        shard: ShardId,
        picked: &Picked,
        needed: Option<Position>,
        options: &ReadOptions,
        deadline: Instant,
    ) -> Result<Option<Enlisted>, Fault> {
        let Some(mut in_flight) = picked.node.begin() else {
            return Ok(None);
        };
        let Some(seen) = self.seen(shard, picked.id, needed) else {
            return Ok(None);
        };
        // How old its data are was judged by where it was then.
        let needed = match options.consistency {
            Consistency::Bounded(_) => needed.map(|needed| Position {
                lsn: needed.lsn.max(seen.position.lsn),
                ..needed
            }),
            _ => needed,
        };
        let nodes = Arc::clone(&self.engine.shared.nodes);
        let guard = Guard::of_one(&nodes, shard, picked.id);
        let place = Place::replica(shard.0, picked.id);
        let leased = tokio::select! {
            biased;
            leased = self.lease_of(place, options) => leased?,
            hangs = guard.until_gone() => Err(if hangs { Outcome::Nothing } else { Outcome::Gone }),
        };
        let mut lease = match leased {
            Ok(lease) => lease,
            Err(outcome) => {
                in_flight.end(outcome);
                return Ok(None);
            }
        };
        let fit = match needed {
            Some(needed) => self.await_replay(&mut lease, needed, &seen, deadline).await,
            None => Fit::Yes,
        };
        if !matches!(fit, Fit::Yes) {
            let outcome = if matches!(fit, Fit::Gone) {
                Outcome::Gone
            } else {
                Outcome::Nothing
            };
            in_flight.end(outcome);
            if matches!(fit, Fit::Behind) {
                self.engine.metrics.reads_wait_timeouts.increment();
                lease.release();
            } else {
                lease.discard();
            }
            return Ok(None);
        }
        self.engine.metrics.reads_on_replica.increment();
        if let Some(reads) = &mut self.reads {
            reads.on_replica = true;
        }
        let mut enlisted = self.enlisted(shard, lease);
        in_flight.sent_now();
        enlisted.replica = Some(Box::new(OnReplica::new(picked.id, in_flight)));
        Ok(Some(enlisted))
    }

    /// A connection of a replica's pool, or what is to be said of the replica.
    async fn lease_of(
        &mut self,
        place: Place,
        options: &ReadOptions,
    ) -> Result<Result<Lease, Outcome>, Fault> {
        let pool = self.engine.pools.pool_for(&self.pool_key_at(place));
        let patience = CONNECTION_TIME.max(options.wait);
        match tokio::time::timeout(patience, self.lease_from(&pool)).await {
            Ok(Ok(lease)) => Ok(Ok(lease)),
            // It may only be busy.
            Err(_) => Ok(Err(Outcome::Nothing)),
            Ok(Err(Fault::Statement(fields))) => {
                let gone = fields.code.starts_with("08") || fields.code.starts_with("57P");
                Ok(Err(if gone { Outcome::Gone } else { Outcome::Nothing }))
            }
            Ok(Err(other)) => Err(other),
        }
    }

    /// What was seen of a replica last; `None` if that does not tell what its position means for the place that is needed.
    fn seen(&self, shard: ShardId, id: NodeId, needed: Option<Position>) -> Option<Seen> {
        let view = self.engine.shared.nodes.view(shard.0)?;
        let seen = view.node(id)?.seen?;
        needed
            .is_none_or(|needed| view.can_tell(&seen, needed))
            .then_some(seen)
    }

    /// Waits until a replica has replayed what is needed, or the time is over. Asks only what is not known already.
    async fn await_replay(&self, lease: &mut Lease, needed: Position, seen: &Seen, deadline: Instant) -> Fit {
        let wanted = needed.lsn.settled();
        let is_fit = |mark: &ReplicaMark| mark.replayed >= wanted;
        let mut pause = PAUSES.0;
        let mut waited = false;
        loop {
            if let Some(mark) = &lease.mark {
                if mark.incarnation != seen.incarnation || mark.system != needed.system {
                    return Fit::Other;
                }
                if is_fit(mark) {
                    if waited {
                        self.engine.metrics.reads_waited.increment();
                    }
                    return Fit::Yes;
                }
                if waited {
                    let now = Instant::now();
                    if now >= deadline {
                        return Fit::Behind;
                    }
                    tokio::time::sleep(pause.min(deadline - now)).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
            waited |= lease.mark.is_some();
            let time = LOOK_TIME.max(deadline.saturating_duration_since(Instant::now()));
            match tokio::time::timeout(time, node::look(lease)).await {
                Ok(Ok(_)) => {}
                Ok(Err(LookError::Role)) => return Fit::Other,
                Ok(Err(LookError::Link(_))) => return Fit::Gone,
                // It may only be busy; its breaker hears of connections that break.
                Err(_) => return Fit::Other,
            }
        }
    }
}
