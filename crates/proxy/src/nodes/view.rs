//! What is known of one shard's servers at one time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use replica::{Lineage, Place, Position, SystemId};
use topology::records::{NodeRecord, ShardRecord};

use super::NodeId;
use super::load::Node;
use crate::config::ReplicaConfig;
use crate::server::Address;

/// What a server said it is when it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It is in recovery.
    Replica,
    /// It was never asked.
    #[default]
    Unknown,
    /// It does not answer.
    Down,
}

impl Role {
    /// As operators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// Whether a server gets reads that may go to replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    In,
    /// It does not.
    Out(Out),
}

/// Why a server gets no reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// It is the primary, or says it is one.
    Primary,
    /// It was never asked, or its answer is of no use.
    Unknown,
    /// It does not answer.
    Down,
    /// It has left a question unanswered for a while, when another server of the shard answers.
    Hanging,
    /// Requests to it failed again and again.
    Failing,
    /// It is too far behind.
    Behind,
    /// Its data do not come from the primary's: another cluster, or a timeline that was given up.
    Diverged,
}

impl Out {
    /// As operators read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Hanging => "hanging",
            Self::Failing => "failing",
            Self::Behind => "behind",
            Self::Diverged => "diverged",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out(out) => out.as_str(),
        })
    }
}

/// A server's last answer. Times count from [`super::Nodes::now`]'s origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When the question left: the answer is at least as new.
    pub asked: Duration,
    /// Up to where it has replayed, or, of a primary, written. Can only be older than the truth, unless the server was
    /// replaced by another one at the same address: `incarnation` tells those apart.
    pub position: Position,
    /// Up to where it has received; `None`: it receives nothing now.
    pub received: Option<replica::Lsn>,
    /// When the server was started, in microseconds since 1970 by its own clock: another value, another life, whose
    /// data may be those of an old backup.
    pub incarnation: i64,
    /// It has everything that was committed at this time. `None`: nobody knows how old its data are.
    pub complete_at: Option<Duration>,
    /// Bytes it is behind the primary's last known position; `None`: they do not compare.
    pub behind: Option<u64>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Its number.
    pub id: NodeId,
    /// What does not change, and what is counted per request.
    pub node: Arc<Node>,
    /// What it said it is.
    pub role: Role,
    /// What it said last.
    pub seen: Option<Seen>,
    /// The history of its timeline, while it says it is a primary.
    pub lineage: Option<Arc<Lineage>>,
    /// Whether it gets reads.
    pub standing: Standing,
    /// A question has been waiting for its answer for longer than it should.
    pub hangs: bool,
    /// Nobody configured it: the primary streams to it.
    pub found: bool,
}

/// Why a shard has no primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPrimary {
    /// Not one server of the shard that answers takes writes.
    NoneAnswers,
    /// The one that takes writes is older than a timeline that was seen: another one was promoted, which does not answer.
    Outdated,
    /// Two say they are the primary, and neither's timeline comes from the other's.
    Conflict(NodeId, NodeId),
}

impl NoPrimary {
    /// For people.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoneAnswers => "no server of the shard that answers takes writes",
            Self::Outdated => {
                "the server that takes writes was replaced by another one, which does not answer"
            }
            Self::Conflict(..) => "two servers take writes and neither's history continues the other's",
        }
    }
}

/// All that is known of a shard's servers at one time.
#[derive(Debug, Clone)]
pub struct ShardView {
    /// The shard's number in plans.
    pub shard: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Its servers, in the order of the record.
    pub nodes: Vec<NodeView>,
    /// Which of them takes writes: the configured one until something else was seen.
    pub primary: Result<NodeId, NoPrimary>,
    /// The system identifier that the primary has; `None`: it has not been seen.
    pub system: Option<SystemId>,
    /// The timelines of the primary; `None`: it has not been seen.
    pub lineage: Option<Arc<Lineage>>,
    /// The operator has chosen the primary, and it is the one.
    pub decided: bool,
    /// The primary has left a look unanswered for its whole time while another server answers: what has not been sent to it
    /// waits, until it answers or another one has taken its place.
    pub held: bool,
    pub(super) next_id: u16,
}

impl ShardView {
    /// Nothing has been seen: the configured primary is taken for it.
    pub(super) fn new(record: &ShardRecord, config: &ReplicaConfig) -> Self {
        let nothing = Self {
            shard: record.id.0,
            name: Arc::from(record.name.as_str()),
            nodes: Vec::new(),
            primary: Ok(NodeId(1)),
            system: None,
            lineage: None,
            decided: false,
            held: false,
            next_id: 1,
        };
        nothing.reconfigured(record, config)
    }

    /// The same shard with other servers; those that stay keep what is known of them.
    pub(super) fn reconfigured(&self, record: &ShardRecord, config: &ReplicaConfig) -> Self {
        let mut new = self.clone();
        new.name = Arc::from(record.name.as_str());
        new.nodes.clear();
        for node in std::iter::once(&record.primary).chain(&record.replicas) {
            let known = self.nodes.iter().find(|known| known.is_at(node));
            let twice = new.nodes.iter().any(|known| known.is_at(node));
            if twice {
                continue;
            }
            let unchanged = known.filter(|known| known.node.is_like(node) && !known.found);
            if let Some(known) = unchanged {
                new.nodes.push(known.clone());
                continue;
            }
            let id = known.map_or(NodeId(new.next_id), |known| known.id);
            if known.is_none() {
                new.next_id = new.next_id.saturating_add(1);
            }
            new.nodes.push(NodeView {
                id,
                node: Arc::new(Node::new(node, config)),
                role: known.map_or(Role::Unknown, |known| known.role),
                seen: known.and_then(|known| known.seen),
                lineage: known.and_then(|known| known.lineage.clone()),
                standing: known.map_or(Standing::Out(Out::Unknown), |known| known.standing),
                hangs: known.is_some_and(|known| known.hangs),
                found: false,
            });
        }
        // Those that were found stay, while that is allowed.
        let found = self.nodes.iter().filter(|node| node.found && config.discover);
        for node in found {
            if !new.nodes.iter().any(|known| known.id == node.id) {
                new.nodes.push(node.clone());
            }
        }
        let gone = new.primary.as_ref().is_ok_and(|id| new.node(*id).is_none());
        if gone {
            new.primary = new
                .nodes
                .first()
                .map(|node| node.id)
                .ok_or(NoPrimary::NoneAnswers);
        }
        new
    }

    /// A server by number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// A server that was last seen like this tells by its own number whether it has this place: the line it follows, as far
    /// as that was seen, has the place too. Beyond the point where the primary's line left its own the same number is
    /// another place.
    #[must_use]
    pub fn can_tell(&self, seen: &Seen, place: Position) -> bool {
        self.lineage
            .as_ref()
            .is_some_and(|line| line.place(seen.position.timeline, place.lsn) == Place::Within)
    }

    /// Some server of the shard answers at once, so that another one that does not is itself to blame, and not the
    /// network, or a machine that is too busy to hear anybody.
    pub(super) fn somebody_answers(&self) -> bool {
        let answers = |node: &NodeView| matches!(node.role, Role::Primary | Role::Replica) && !node.hangs;
        self.nodes.iter().any(answers)
    }

    /// The one that takes writes.
    #[must_use]
    pub fn primary_node(&self) -> Option<&NodeView> {
        self.node(*self.primary.as_ref().ok()?)
    }

    pub(super) fn primary_at(&self) -> Option<usize> {
        let id = *self.primary.as_ref().ok()?;
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Where writes go.
    #[must_use]
    pub fn primary_address(&self) -> Option<&Address> {
        self.primary_node().map(|node| node.node.address())
    }
}

impl NodeView {
    fn is_at(&self, record: &NodeRecord) -> bool {
        let address = self.node.address();
        address.host == record.host && address.port == record.port
    }
}
