//! What follows from a server's answer, or from its silence.
//!
//! Every answer makes a new [`ShardView`]: who is the primary (`replica::elect`), how old the others' data are
//! (`replica::lag`), which of them get reads (`replica::rotation`). What only the next answer needs is kept in
//! [`Memory`].

use std::sync::Arc;
use std::time::Duration;

use replica::{
    Claim, Known, Late, Lineage, Lsn, Place, Position, PrimaryClock, RotationPolicy, SystemId, Timeline,
    Undecided, elect,
};

use super::view::{NoPrimary, NodeView, Out, Role, Seen, ShardView, Standing};
use super::{NodeId, Nodes};
use crate::config::ReplicaConfig;
use crate::server::Address;

/// Positions of the primary that are remembered: at two looks a second the last hour, the further past coarsely.
const NOTES_MAX: usize = 8192;

/// Looks in a row that a server may leave unanswered before it is taken for dead: one may be bad luck.
const SILENCES_MAX: u32 = 2;

/// What a look at a server brought.
#[derive(Debug, Clone)]
pub struct Look {
    /// When the question left, by [`Nodes::now`].
    pub asked: Duration,
    /// What came back.
    pub answer: Answer,
}

/// An answer, or none.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It takes writes.
    Primary {
        /// Whose data.
        system: SystemId,
        /// The history of its timeline.
        lineage: Arc<Lineage>,
        /// Where it writes.
        inserted: Lsn,
        /// When it was started.
        incarnation: i64,
    },
    /// It is in recovery.
    Replica {
        /// Whose data.
        system: SystemId,
        /// The newest timeline it knows of.
        timeline: Timeline,
        /// Up to where it has replayed; `None`: nothing yet.
        replayed: Option<Lsn>,
        /// Up to where it has received; `None`: it receives nothing now.
        received: Option<Lsn>,
        /// When it was started.
        incarnation: i64,
    },
    /// Nothing came in time.
    Silent,
    /// Nobody is there, or it said that it cannot serve now.
    Dead,
    /// It said something that helps nobody: it may be full of clients, or forbid the login.
    Useless,
}

/// What changed with an answer, for those who hold connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another server is the primary, or none is: connections to the one before must not be used any more.
    Primary,
    /// A server died: whoever waits for it waits in vain.
    Died(NodeId),
    /// A server that was dead answers again.
    Back(NodeId),
    /// The primary answers nobody: what has not been sent to it waits from now on (true), or no longer.
    Held(bool),
    /// A server became the primary, or stopped being one.
    Role(NodeId),
}

/// What is remembered of a shard from one answer to the next.
#[derive(Debug)]
pub(super) struct Memory {
    clock: PrimaryClock,
    known: Option<Known<NodeId>>,
    chosen: Option<NodeId>,
    silences: Vec<(NodeId, u32)>,
    /// Timelines that some proxy has seen written.
    reached: Vec<(SystemId, Timeline)>,
    /// Addresses of standbys that are known by another one.
    pub(super) aliases: Vec<Address>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            clock: PrimaryClock::new(NOTES_MAX),
            known: None,
            chosen: None,
            silences: Vec::new(),
            reached: Vec::new(),
            aliases: Vec::new(),
        }
    }
}

impl Nodes {
    /// Takes a look's result into account, publishes what follows from it, and says what it means for connections.
    pub fn observe(&self, shard: u32, node: NodeId, look: &Look) -> Vec<Change> {
        self.update(shard, |view, memory, config| {
            let mut changes: Vec<Change> = memory.take_in(view, node, look).into_iter().collect();
            changes.extend(memory.conclude(view, config));
            changes
        })
    }

    /// A server has not answered a question for longer than it should. It gets no reads until it answers, or longer
    /// when it turns out to be dead.
    pub(super) fn hangs(&self, shard: u32, node: NodeId) {
        self.update(shard, |view, memory, config| {
            if let Some(node) = view.nodes.iter_mut().find(|known| known.id == node) {
                node.hangs = true;
            }
            memory.place(view, config);
            Vec::new()
        });
    }

    /// Some proxy has seen a primary of this shard write this timeline, or an operator has gone back to it.
    pub(super) fn reached(&self, shard: u32, system: SystemId, timeline: Timeline) -> Vec<Change> {
        self.update(shard, |view, memory, config| {
            let known = memory.reached.iter().find(|(known, _)| *known == system);
            if known == Some(&(system, timeline)) {
                return Vec::new();
            }
            memory.reached.retain(|(known, _)| *known != system);
            memory.reached.push((system, timeline));
            memory.conclude(view, config)
        })
    }

    /// The operator says who the primary is, until another one follows it. It takes effect when the server is looked at,
    /// which is asked for. False: there is no such server.
    pub fn decide(&self, shard: u32, node: NodeId) -> bool {
        let mut exists = false;
        self.update(shard, |view, memory, _| {
            exists = view.node(node).is_some();
            if exists {
                memory.chosen = Some(node);
            }
            Vec::new()
        });
        self.look_now(shard);
        exists
    }
}

impl Memory {
    /// Notes what one server said, and what that changes for connections to it.
    fn take_in(&mut self, view: &mut ShardView, id: NodeId, look: &Look) -> Option<Change> {
        let silences = self.count_silence(id, &look.answer);
        let node = view.nodes.iter_mut().find(|node| node.id == id)?;
        let before = node.role;
        if matches!(look.answer, Answer::Replica { .. }) {
            node.node.looked_at();
        }
        node.hangs &= matches!(look.answer, Answer::Silent);
        let seen = |system, timeline, lsn, received, incarnation| Seen {
            asked: look.asked,
            position: Position {
                system,
                timeline,
                lsn,
            },
            received,
            incarnation,
            complete_at: None,
            behind: None,
        };
        match &look.answer {
            Answer::Primary {
                system,
                lineage,
                inserted,
                incarnation,
            } => {
                node.role = Role::Primary;
                node.lineage = Some(Arc::clone(lineage));
                node.seen = Some(seen(*system, lineage.timeline(), *inserted, None, *incarnation));
            }
            Answer::Replica {
                system,
                timeline,
                replayed,
                received,
                incarnation,
            } => {
                node.role = Role::Replica;
                node.lineage = None;
                node.seen = replayed.map(|lsn| seen(*system, *timeline, lsn, *received, *incarnation));
            }
            Answer::Dead => node.role = Role::Down,
            Answer::Silent if silences >= SILENCES_MAX => node.role = Role::Down,
            Answer::Silent | Answer::Useless => {}
        }
        match (before, node.role) {
            (before, now) if before == now => None,
            (_, Role::Down) => Some(Change::Died(id)),
            (Role::Down, _) => Some(Change::Back(id)),
            (Role::Primary, Role::Replica) | (Role::Replica, Role::Primary) => Some(Change::Role(id)),
            _ => None,
        }
    }

    fn count_silence(&mut self, id: NodeId, answer: &Answer) -> u32 {
        let at = self.silences.iter().position(|(known, _)| *known == id);
        match (answer, at) {
            (Answer::Silent, Some(at)) => {
                self.silences[at].1 = self.silences[at].1.saturating_add(1);
                self.silences[at].1
            }
            (Answer::Silent, None) => {
                self.silences.push((id, 1));
                1
            }
            (_, Some(at)) => {
                self.silences.swap_remove(at);
                0
            }
            (_, None) => 0,
        }
    }

    /// Works out from what all servers said last who is the primary, and where the others stand.
    pub(super) fn conclude(&mut self, view: &mut ShardView, config: &ReplicaConfig) -> Vec<Change> {
        let mut changes = Vec::new();
        if view.nodes.iter().any(|node| node.found) {
            self.drop_aliases(view);
        }
        let before = view.primary.clone();
        self.raise_floor(view);
        self.elect(view);
        if view.primary != before {
            report(view);
            changes.push(Change::Primary);
            self.clock.clear();
        }
        self.note_position(view);
        self.place(view, config);
        changes.extend(self.hold(view));
        changes
    }

    /// Whether what goes to the primary has to wait: an elected one that answers nobody, where others do answer.
    fn hold(&self, view: &mut ShardView) -> Option<Change> {
        let is_silent = |id: NodeId| self.silences.iter().any(|(known, _)| *known == id);
        let answers = |node: &NodeView| {
            matches!(node.role, Role::Primary | Role::Replica) && !node.hangs && !is_silent(node.id)
        };
        let held = view.primary.as_ref().is_ok_and(|id| is_silent(*id)) && view.nodes.iter().any(answers);
        if std::mem::replace(&mut view.held, held) == held {
            return None;
        }
        mark_held(view);
        let shard = &*view.name;
        match held {
            true => tracing::warn!(
                shard,
                "the primary does not answer, statements wait for it or its successor"
            ),
            false => tracing::info!(shard, "statements go to the primary again"),
        }
        Some(Change::Held(held))
    }

    /// A server goes by another number from now on.
    pub(super) fn renamed(&mut self, view: &mut ShardView, old: NodeId, new: NodeId) {
        self.silences.retain(|(id, _)| *id != old);
        if view.primary == Ok(old) {
            view.primary = Ok(new);
        }
        if self.chosen == Some(old) {
            self.chosen = Some(new);
        }
        if let Some(known) = &mut self.known
            && known.node == Some(old)
        {
            known.node = Some(new);
        }
    }

    /// A server that receives a newer timeline proves that there is one.
    fn raise_floor(&mut self, view: &ShardView) {
        let Some(known) = &mut self.known else { return };
        if known.node.is_some_and(|node| view.node(node).is_none()) {
            known.node = None;
        }
        for node in view.nodes.iter().filter(|node| node.role == Role::Replica) {
            if let Some(seen) = &node.seen
                && seen.received.is_some()
                && seen.position.system == known.system
            {
                known.newest = known.newest.max(seen.position.timeline);
            }
        }
    }

    fn elect(&mut self, view: &mut ShardView) {
        let mut claims: Vec<Claim<NodeId>> = view.nodes.iter().filter_map(claim).collect();
        // A server that is alone has nobody to be confused with.
        let alone = view.nodes.len() <= 1;
        let known = self.known.as_ref().filter(|_| !alone);
        let first = claims.first().map(|claim| claim.node);
        claims.retain(|claim| alone || Some(claim.node) == self.chosen || !self.is_over(claim));
        let elected = match (elect(&claims, known, self.chosen), first) {
            // Another proxy has seen what came after it.
            (Err(Undecided::Nobody), Some(first)) => Err(Undecided::Outdated(first)),
            (elected, _) => elected,
        };
        view.decided = elected.is_ok_and(|id| self.chosen == Some(id));
        match elected {
            Ok(id) => {
                if self.chosen != Some(id) {
                    self.chosen = None;
                }
                let Some(claim) = claims.into_iter().find(|claim| claim.node == id) else {
                    return;
                };
                view.primary = Ok(id);
                view.system = Some(claim.system);
                self.known = Some(Known {
                    node: Some(id),
                    system: claim.system,
                    timeline: claim.lineage.timeline(),
                    newest: claim.lineage.timeline(),
                });
                view.lineage = Some(Arc::new(claim.lineage));
            }
            Err(Undecided::Nobody) => {
                // Silence says nothing about who is to be believed; that it follows somebody says a lot.
                let follows = view
                    .primary_node()
                    .is_none_or(|primary| primary.role == Role::Replica);
                if follows {
                    view.primary = Err(NoPrimary::NoneAnswers);
                }
            }
            Err(Undecided::Outdated(_)) => view.primary = Err(NoPrimary::Outdated),
            Err(Undecided::Conflict(one, other)) => view.primary = Err(NoPrimary::Conflict(one, other)),
        }
    }

    fn is_over(&self, claim: &Claim<NodeId>) -> bool {
        let mut reached = self.reached.iter();
        reached.any(|(system, timeline)| *system == claim.system && *timeline > claim.lineage.timeline())
    }

    fn note_position(&mut self, view: &ShardView) {
        let Some(primary) = view
            .primary_node()
            .filter(|primary| primary.role == Role::Primary)
        else {
            return;
        };
        if let Some(seen) = &primary.seen {
            if self
                .clock
                .latest()
                .is_some_and(|latest| seen.position.lsn.settled() < latest)
            {
                // The same timeline with less in it: the server was put back to an older state.
                self.clock.clear();
            }
            self.clock.note(seen.asked, seen.position.lsn);
        }
    }

    /// How far behind each server is, and whether it gets reads.
    fn place(&self, view: &mut ShardView, config: &ReplicaConfig) {
        let (primary, lineage, system) = (view.primary.clone().ok(), view.lineage.clone(), view.system);
        let somebody_answers = view.somebody_answers();
        let mut able = Vec::new();
        for (at, node) in view.nodes.iter_mut().enumerate() {
            let out = match (node.role, &mut node.seen) {
                (Role::Primary, seen) => {
                    if let Some(seen) = seen
                        && primary == Some(node.id)
                    {
                        seen.complete_at = Some(seen.asked);
                        seen.behind = Some(0);
                    }
                    Some(Out::Primary)
                }
                (Role::Down, _) => Some(Out::Down),
                (Role::Unknown, _) | (Role::Replica, None) => Some(Out::Unknown),
                (Role::Replica, _) if node.hangs && somebody_answers => Some(Out::Hanging),
                (Role::Replica, Some(seen)) => self.measure(seen, lineage.as_deref(), system),
            };
            match out {
                None => able.push(at),
                Some(out) => node.standing = Standing::Out(out),
            }
        }
        let late: Vec<Late> = able.iter().map(|at| self.lateness(&view.nodes[*at])).collect();
        let policy = RotationPolicy {
            bytes_max: config.lag_bytes_max,
            age_max: config.lag_max,
            keep: config.keep,
        };
        for (at, is_in) in able.into_iter().zip(policy.decide(&late)) {
            let node = &mut view.nodes[at];
            let now = if is_in {
                Standing::In
            } else {
                Standing::Out(Out::Behind)
            };
            if is_in && !matches!(node.standing, Standing::In | Standing::Out(Out::Unknown)) {
                node.node.came_back();
            }
            node.standing = now;
        }
        mark_held(view);
    }

    /// Compares a replica with the primary. The reason why it cannot serve at all is given back.
    fn measure(&self, seen: &mut Seen, lineage: Option<&Lineage>, system: Option<SystemId>) -> Option<Out> {
        let Position {
            system: own,
            timeline,
            lsn,
        } = seen.position;
        if system.is_some_and(|system| system != own) {
            return Some(Out::Diverged);
        }
        match lineage.map(|lineage| lineage.place(timeline, lsn)) {
            Some(Place::Lost) => return Some(Out::Diverged),
            // It follows a primary that is not known here.
            Some(Place::Later) => return Some(Out::Unknown),
            Some(Place::Within) => {}
            // The primary was never seen: nothing speaks against the replica.
            None => return None,
        }
        seen.complete_at = self.clock.complete_at(lsn);
        seen.behind = self.clock.latest().map(|latest| latest.since(lsn));
        None
    }

    /// Lateness for rotation: compared with when the primary was heard last, so that a primary that is down makes nobody
    /// late.
    fn lateness(&self, node: &NodeView) -> Late {
        let complete_at = node.seen.and_then(|seen| seen.complete_at);
        let heard = self.clock.latest_at();
        Late {
            bytes: node.seen.and_then(|seen| seen.behind),
            age: complete_at.zip(heard).map(|(at, heard)| heard.saturating_sub(at)),
            is_in: node.standing == Standing::In,
        }
    }
}

/// Operators see why nothing is sent to the primary.
fn mark_held(view: &mut ShardView) {
    if view.held
        && let Some(at) = view.primary_at()
    {
        view.nodes[at].standing = Standing::Out(Out::Hanging);
    }
}

fn claim(node: &NodeView) -> Option<Claim<NodeId>> {
    if node.role != Role::Primary {
        return None;
    }
    Some(Claim {
        node: node.id,
        system: node.seen?.position.system,
        lineage: node.lineage.as_deref()?.clone(),
    })
}

/// Tells the log that the primary is another one, or that there is none.
fn report(view: &ShardView) {
    let shard = &*view.name;
    let address = |id: &NodeId| view.node(*id).map(|node| node.node.address().to_string());
    match &view.primary {
        Ok(id) => {
            let address = address(id).unwrap_or_default();
            let timeline = view.lineage.as_deref().map_or(0, |lineage| lineage.timeline().0);
            tracing::info!(
                shard,
                address,
                timeline,
                "the shard's primary is another server now"
            );
        }
        Err(NoPrimary::Conflict(one, other)) => {
            let (one, other) = (
                address(one).unwrap_or_default(),
                address(other).unwrap_or_default(),
            );
            tracing::error!(
                shard,
                one,
                other,
                "two servers of the shard claim to take writes; it gets none until one of them is chosen"
            );
        }
        Err(reason) => tracing::error!(shard, reason = reason.as_str(), "the shard has no primary"),
    }
}
