//! A replica that serves a session, and what it says about itself.

use std::sync::Arc;

use catalog::ShardId;
use replica::{Lsn, Position, SystemId, Timeline};

use super::super::Session;
use super::super::block::Enlisted;
use crate::engine::Engine;
use crate::exec::link::{self, LinkError};
use crate::exec::relay::PumpError;
use crate::nodes::{InFlight, NodeId, Nodes, Outcome, Role};
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
        let seen = look(&mut server.lease).await;
        let view = self.engine.shared.nodes.view(shard.0);
        let timeline = view
            .as_ref()
            .and_then(|view| Some(view.lineage.as_ref()?.timeline()));
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
}

impl Guard {
    /// Those of a session; `None`: it has primaries only.
    pub(in super::super) fn of(engine: &Engine, servers: &[Enlisted]) -> Option<Self> {
        let replicas = |server: &Enlisted| Some((server.shard, server.replica.as_ref()?.id));
        let replicas: Vec<(ShardId, NodeId)> = servers.iter().filter_map(replicas).collect();
        (!replicas.is_empty()).then(|| Self {
            nodes: Arc::clone(&engine.shared.nodes),
            replicas,
        })
    }

    /// Waits until one of them is known to answer no more. Never ends while they do.
    async fn until_down(&self) {
        let mut changes = self.nodes.changes();
        loop {
            let is_down = |(shard, id): &(ShardId, NodeId)| {
                let view = self.nodes.view(shard.0);
                let node = view.as_ref().and_then(|view| view.node(*id));
                node.is_none_or(|node| node.role == Role::Down)
            };
            if self.replicas.iter().any(is_down) {
                return;
            }
            if changes.changed().await.is_err() {
                // Nobody watches any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Reads an answer, unless one of the servers it comes from is found to be down meanwhile.
pub(in super::super) async fn guarded<T>(
    guard: Option<&Guard>,
    answer: impl Future<Output = Result<T, PumpError>>,
) -> Result<T, PumpError> {
    let Some(guard) = guard else {
        return answer.await;
    };
    tokio::select! {
        biased;
        result = answer => result,
        () = guard.until_down() => Err(PumpError::Server(LinkError::Lost(std::io::ErrorKind::TimedOut.into()))),
    }
}
