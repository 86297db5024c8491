//! A replica that serves a session, and what it says about itself.

use std::sync::Arc;

use catalog::ShardId;
use replica::{Lsn, Position, SystemId, Timeline};

use super::super::Session;
use super::super::block::Enlisted;
use super::again::KEPT_BACK_BYTES;
use crate::engine::Engine;
use crate::exec::link::{self, LinkError};
use crate::exec::relay::PumpError;
use crate::nodes::{InFlight, NodeId, Nodes, Out, Outcome, Role, Standing};
use crate::server::ServerConn;

/// The replica behind a session's server connection.
#[derive(Debug)]
pub struct OnReplica {
    /// Its number.
    pub id: NodeId,
    /// The request it is counted with.
    in_flight: Option<InFlight>,
}

impl OnReplica {
    /// A replica that a request was counted for.
    pub(super) fn new(id: NodeId, in_flight: InFlight) -> Self {
        Self {
            id,
            in_flight: Some(in_flight),
        }
    }

    /// The request is over.
    pub fn end(&mut self, outcome: Outcome) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.end(outcome);
        }
    }
}

/// What is known of the server at the other end of a connection, for as long as the connection lasts: it is one life
/// of one server, so it keeps what it has replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaMark {
    /// When the server was started, as [`crate::nodes::Seen::incarnation`].
    pub incarnation: i64,
    /// Whose replica it is.
    pub system: SystemId,
    /// It has replayed this at least.
    pub replayed: Lsn,
}

/// Asks a standby what it is and how far it is. Started, in microseconds since 1970; no row of a server that is not in
/// recovery.
const LOOK: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn(), \
     (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()) WHERE pg_catalog.pg_is_in_recovery()";

/// The same of one that was asked before.
const LOOK_AGAIN: &str = "SELECT pg_catalog.pg_last_wal_replay_lsn() WHERE pg_catalog.pg_is_in_recovery()";

/// Where a primary is, the name of the file it writes (which begins with its timeline), how far into it, and whose it is.
const WRITTEN: &str = "SELECT p, f.file_name, f.file_offset, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()) \
     FROM pg_catalog.pg_current_wal_insert_lsn() p, pg_catalog.pg_walfile_name_offset(p) f";

/// The size of the header at the beginning of a segment of the write-ahead log, in bytes.
const SEGMENT_HEADER_BYTES: u64 = 40;

/// Why a server's word on its position is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// It is gone.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It is not what it should be: a standby, or a primary.
    #[error("the server has changed its role")]
    Role,
}

/// Asks a replica how far it is; what it says is kept with the connection.
pub(super) async fn look(server: &mut ServerConn) -> Result<ReplicaMark, LookError> {
    let question = if server.mark.is_some() { LOOK_AGAIN } else { LOOK };
    let reply = link::query(server, question).await?;
    let rows = reply.into_rows().map_err(|_| LookError::Role)?;
    let row = rows.first().ok_or(LookError::Role)?;
    let text = |at: usize| row.get(at).and_then(|value| value.as_deref());
    let replayed = text(0).and_then(|lsn| lsn.parse().ok()).ok_or(LookError::Role)?;
    let mark = match server.mark {
        Some(known) => ReplicaMark { replayed, ..known },
        None => ReplicaMark {
            incarnation: text(1).and_then(|us| us.parse().ok()).ok_or(LookError::Role)?,
            system: text(2)
                .and_then(|system| system.parse().ok())
                .map(SystemId)
                .ok_or(LookError::Role)?,
            replayed,
        },
    };
    server.mark = Some(mark);
    Ok(mark)
}

/// Asks a primary up to where it has written.
pub(super) async fn written(server: &mut ServerConn) -> Result<Position, LookError> {
    let reply = link::query(server, WRITTEN).await?;
    let rows = reply.into_rows().map_err(|_| LookError::Role)?;
    let row = rows.first().ok_or(LookError::Role)?;
    let text = |at: usize| row.get(at).and_then(|value| value.as_deref());
    let position = || {
        let lsn: Lsn = text(0)?.parse().ok()?;
        // Where a segment begins nothing but its header lies before the place, and no record ends behind that.
        let at_start = text(2)?.parse() == Ok(SEGMENT_HEADER_BYTES);
        let lsn = Lsn(lsn.0 - if at_start { SEGMENT_HEADER_BYTES } else { 0 });
        Some(Position {
            lsn,
            timeline: Timeline(u32::from_str_radix(text(1)?.get(..8)?, 16).ok()?),
            system: SystemId(text(3)?.parse().ok()?),
        })
    };
    position().ok_or(LookError::Role)
}

impl Session {
    /// Takes the position of a server whose statement or transaction has ended. What cannot be had is asked of the
    /// primary when it is needed.
    pub(super) async fn take_position(&mut self, index: usize) {
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        let shard = server.shard;
        if server.replica.is_none() {
            let taken = written(&mut server.lease).await;
            match (taken, &mut self.reads) {
                (Ok(position), Some(reads)) => {
                    self.engine.metrics.positions_taken.increment();
                    reads.positions.covered(shard, position);
                }
                _ => self.shard_position_unknown(shard),
            }
            return;
        }
        let id = server.replica.as_ref().map(|replica| replica.id);
        let seen = look(&mut server.lease).await;
        // On the line that the replica was seen to follow: the primary's may have left it meanwhile.
        let timeline = self.engine.shared.nodes.view(shard.0).and_then(|view| {
            let node = view.node(id?)?;
            Some(node.seen?.position.timeline)
        });
        match (seen, timeline, &mut self.reads) {
            (Ok(mark), Some(timeline), Some(reads)) => {
                self.engine.metrics.positions_taken.increment();
                let position = Position {
                    system: mark.system,
                    timeline,
                    lsn: mark.replayed,
                };
                reads.positions.at_least(shard, position);
            }
            _ => self.shard_position_unknown(shard),
        }
    }
}

/// Replicas that somebody waits for: a server that is stopped closes no connection.
#[derive(Debug)]
pub(in super::super) struct Guard {
    nodes: Arc<Nodes>,
    replicas: Vec<(ShardId, NodeId)>,
    /// What was asked can be asked elsewhere, so that hanging is enough to leave.
    movable: bool,
}

/// How waiting for replicas ended.
#[derive(Debug)]
pub(in super::super) enum Waited<T> {
    /// With an answer, or with a server that is gone.
    Over(Result<T, PumpError>),
    /// One of them answers nobody at the moment; it may go on. The answer is where it was.
    Hangs,
}

impl Guard {
    /// Those of a session; `None`: it has primaries only.
    pub(in super::super) fn of(engine: &Engine, servers: &[Enlisted], movable: bool) -> Option<Self> {
        let replicas = |server: &Enlisted| Some((server.shard, server.replica.as_ref()?.id));
        let replicas: Vec<(ShardId, NodeId)> = servers.iter().filter_map(replicas).collect();
        (!replicas.is_empty()).then(|| Self {
            nodes: Arc::clone(&engine.shared.nodes),
            replicas,
            movable,
        })
    }

    /// A replica that is about to be asked for something.
    pub(super) fn of_one(nodes: &Arc<Nodes>, shard: ShardId, id: NodeId) -> Self {
        Self {
            nodes: Arc::clone(nodes),
            replicas: vec![(shard, id)],
            movable: true,
        }
    }

    /// What was asked is bound to its server from now on: only the server's end matters.
    pub(in super::super) fn stay(&mut self) {
        self.movable = false;
    }

    /// Waits until one of them is known to answer no more: false, or to hang: true. Never ends while they do answer.
    pub(super) async fn until_gone(&self) -> bool {
        let mut changes = self.nodes.changes();
        let patience = self.nodes.config().hang_timeout;
        let mut asked = patience.is_zero() || !self.movable;
        let long = tokio::time::sleep(patience);
        tokio::pin!(long);
        loop {
            let mut hangs = false;
            for (shard, id) in &self.replicas {
                let view = self.nodes.view(shard.0);
                match view.as_ref().and_then(|view| view.node(*id)) {
                    None => return false,
                    Some(node) if node.role == Role::Down => return false,
                    Some(node) => hangs |= node.standing == Standing::Out(Out::Hanging),
                }
            }
            if hangs && self.movable {
                return true;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    // Nobody watches any more.
                    std::future::pending::<()>().await;
                },
                () = &mut long, if !asked => {
                    asked = true;
                    for (shard, _) in &self.replicas {
                        self.nodes.look_now(shard.0);
                    }
                }
            }
        }
    }
}

impl<T> Waited<T> {
    /// What the waiting came to. `None`: the server hangs, but what was asked of it cannot be asked elsewhere any more, so
    /// its answer is to be waited for again, as long as the server lives.
    pub(in super::super) fn or_stay(
        self,
        guard: &mut Option<Guard>,
        can_move: impl FnOnce() -> bool,
    ) -> Option<Result<T, PumpError>> {
        match self {
            Self::Over(result) => Some(result),
            Self::Hangs if can_move() => Some(Err(silent())),
            Self::Hangs => {
                guard.iter_mut().for_each(Guard::stay);
                None
            }
        }
    }
}

impl Session {
    /// A guard for one of its servers; `None`: that is a primary.
    pub(in super::super) fn guard_of(&self, index: usize) -> Option<Guard> {
        Guard::of(&self.engine, &self.servers[index..=index], !self.block.is_open())
    }
}

/// What is said of a server that does not answer.
fn silent() -> PumpError {
    PumpError::Server(LinkError::Lost(std::io::ErrorKind::TimedOut.into()))
}

/// Reads an answer, unless one of the servers it comes from is found to be down, or to hang, meanwhile.
pub(in super::super) async fn guarded<T>(
    guard: Option<&Guard>,
    answer: impl Future<Output = Result<T, PumpError>>,
) -> Waited<T> {
    let Some(guard) = guard else {
        return Waited::Over(answer.await);
    };
    tokio::select! {
        biased;
        result = answer => Waited::Over(result),
        hangs = guard.until_gone() => match hangs {
            true => Waited::Hangs,
            false => Waited::Over(Err(silent())),
        },
    }
}

/// The same of several servers together. Hanging counts as long as less was ever `pending` than is kept back from the
/// client.
pub(in super::super) async fn guarded_kept_back<T>(
    mut guard: Option<Guard>,
    pending: &std::cell::Cell<usize>,
    answer: impl Future<Output = Result<T, PumpError>>,
) -> Result<T, PumpError> {
    let mut answer = std::pin::pin!(answer);
    loop {
        match guarded(guard.as_ref(), answer.as_mut()).await {
            Waited::Over(result) => return result,
            Waited::Hangs if pending.get() < KEPT_BACK_BYTES => return Err(silent()),
            Waited::Hangs => guard.iter_mut().for_each(Guard::stay),
        }
    }
}
