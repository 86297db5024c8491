//! Every interleaving of: effects that succeed, fail, or lose their connection before, after or long before
//! they take effect; replies that arrive late; a proxy that dies; two others that recover at the same time, each at any moment
//! with knowledge of any age and possibly dead after any step; a client that asks for the outcome at any moment.
//! The state space is finite, so it is searched completely. Where decisions are collected, the mark is raised at any moment, as if all
//! clocks were wrong, and replicas that lack the end of a prepared transaction are promoted.

use super::*;
use crate::recovery::{Circumstances, Decision, Step, next_step};
use std::collections::HashSet;

/// What makes the search worth something: each of these breaks the protocol in one place and must be caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The protocol as it is.
    None,
    /// The client is told before the decision.
    AnswersBeforeTheDecision,
    /// Prepared shards are committed before the decision.
    CommitsPreparedBeforeTheDecision,
    /// A lost decision is taken for an abort.
    RollsBackOnLostDecision,
    /// The tag ROLLBACK of a failed transaction counts as a vote.
    AcceptsAnyTag,
    /// The decision row commits in a transaction of its own.
    DecisionRowApart,
    /// Recovery rolls back because there is no decision, without excluding a later one.
    RecoveryGuesses,
    /// One of those who recover takes an abort row for granted that the other may have been too late to write.
    RecoveryIgnoresWhatItsRowMet,
    /// A client that asks is told of an abort because there is no decision, without excluding a later one.
    StatusGuesses,
    /// One writer is not prepared, and its part rolled back.
    ForgetsAParticipant,
    /// A decision is deleted without a look at what is prepared.
    CollectsWithoutLooking,
    /// A decision is deleted before the replicas have the end of every part.
    CollectsBeforeReplicas,
    /// A decision is deleted while its name is still good for another one.
    CollectsWithoutMark,
    /// The mark is raised after the look, not before.
    LooksBeforeTheMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tx {
    Open,
    Prepared,
    Committed,
    RolledBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Done,
    Error,
    /// The transaction had failed before: answered without an error.
    AlreadyFailed,
    LostBefore,
    LostAfter,
    /// The proxy sees a lost connection; the server gets to it later, or never.
    LostLate,
}

const OUTCOMES: [Outcome; 6] = [
    Outcome::Done,
    Outcome::Error,
    Outcome::AlreadyFailed,
    Outcome::LostBefore,
    Outcome::LostAfter,
    Outcome::LostLate,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Server {
    writes: bool,
    tx: Tx,
    /// A command whose connection is lost, still to be executed or dropped.
    late: Option<Effect>,
    /// What each of those who recover found out for this shard's gid, possibly long ago.
    looked_up: [Option<Found>; RECOVERING],
    /// The decision's row is inserted, and not committed.
    inserted: bool,
    /// It was prepared.
    was_prepared: bool,
    /// What ended its prepared transaction is on its replicas.
    durable: bool,
    /// One of its replicas has taken its place.
    promoted: bool,
    /// Only an operator can end it.
    left_to_operator: bool,
}

/// Proxies that recover at once.
const RECOVERING: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Found {
    Commit,
    Abort,
    Absent,
    /// There is none, and none will be, but there may have been one.
    TooOld,
}

/// How far the collection of the decision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Collection {
    /// Decisions are not collected.
    Off,
    Begun,
    /// No part was found prepared.
    Looked,
    /// All servers have got as far as that.
    Settled,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// `None` after the proxy died.
    machine: Option<Commit>,
    effects: Vec<Effect>,
    replies: Vec<(ShardId, &'static str)>,
    servers: Vec<Server>,
    /// The decider's row.
    decision: Option<bool>,
    answer: Option<Answer>,
    /// What a client was told that asked: committed or not.
    told: Option<bool>,
    last_gid: Option<Gid>,
    collection: Collection,
    /// The mark is above the transaction's name.
    too_old: bool,
}

impl World {
    fn new(
        writers: &[(Writes, bool)],
        named: Option<ShardId>,
        collection: Collection,
        mutant: Mutant,
    ) -> Self {
        let mut participants = Participants::new();
        for (shard, (writes, _)) in writers.iter().enumerate() {
            participants.enlist(ShardId(shard as u32), *writes, true).unwrap();
        }
        if let Some(shard) = named {
            participants.name(shard).unwrap();
        }
        let server = |&(_, writes): &(Writes, bool)| Server {
            writes,
            tx: Tx::Open,
            late: None,
            looked_up: [None; RECOVERING],
            inserted: false,
            was_prepared: false,
            durable: false,
            promoted: false,
            left_to_operator: false,
        };
        let mut world = World {
            machine: None,
            effects: Vec::new(),
            replies: Vec::new(),
            servers: writers.iter().map(server).collect(),
            decision: None,
            answer: None,
            told: None,
            last_gid: None,
            collection,
            too_old: false,
        };
        let (machine, effects) = Commit::start(&participants, SECRET, MADE);
        world.machine = Some(machine);
        world.accept(effects, mutant);
        world
    }

    fn server(&mut self, shard: ShardId) -> &mut Server {
        &mut self.servers[shard.0 as usize]
    }

    /// Effects given by the machine.
    fn accept(&mut self, effects: Vec<Effect>, mutant: Mutant) {
        for effect in effects {
            match effect {
                Effect::Answer(answer) => {
                    self.answer.get_or_insert(answer);
                }
                Effect::LeaveToRecovery { shard, gid } => {
                    if mutant == Mutant::RollsBackOnLostDecision {
                        self.effects.push(Effect::RollbackPrepared { shard, gid });
                    }
                }
                Effect::CommitDecider {
                    gid,
                    ref participants,
                    ..
                } => {
                    if mutant == Mutant::AnswersBeforeTheDecision {
                        self.answer = Some(Answer::Committed);
                    }
                    if mutant == Mutant::CommitsPreparedBeforeTheDecision {
                        let commit = |&shard| Effect::CommitPrepared { shard, gid };
                        self.effects.extend(participants.iter().map(commit));
                    }
                    self.effects.push(effect);
                }
                Effect::Prepare { shard, .. } if mutant == Mutant::ForgetsAParticipant => {
                    self.abort_open(shard);
                    self.replies.push((shard, "PREPARE TRANSACTION"));
                }
                other => self.effects.push(other),
            }
        }
        self.last_gid = self.machine.as_ref().and_then(Commit::gid).or(self.last_gid);
    }

    /// The server does what it was told; `false` if it answers with an error instead.
    fn execute(&mut self, effect: &Effect) -> bool {
        let (shard, from, to) = match *effect {
            Effect::Prepare { shard, .. } => (shard, Tx::Open, Tx::Prepared),
            Effect::CommitPrepared { shard, .. } => (shard, Tx::Prepared, Tx::Committed),
            Effect::RollbackPrepared { shard, .. } => (shard, Tx::Prepared, Tx::RolledBack),
            Effect::CommitReadOnly(shard) | Effect::Commit(shard) => (shard, Tx::Open, Tx::Committed),
            Effect::CommitDecider { shard, .. } => (shard, Tx::Open, Tx::Committed),
            Effect::Rollback(shard) => (shard, Tx::Open, Tx::RolledBack),
            Effect::AskXid(_) => return true,
            Effect::LeaveToRecovery { .. } | Effect::Answer(_) => unreachable!("not for a server"),
        };
        if self.server(shard).tx != from {
            return false;
        }
        if matches!(effect, Effect::CommitDecider { .. }) {
            let inserted = std::mem::take(&mut self.server(shard).inserted);
            if !inserted && (self.decision.is_some() || self.too_old) {
                // Unique violation: recovery was here. Or the name is not good any more.
                self.server(shard).tx = Tx::RolledBack;
                return false;
            }
            self.decision = Some(true);
        }
        let server = self.server(shard);
        server.was_prepared |= to == Tx::Prepared;
        server.tx = to;
        true
    }

    /// An open transaction whose session ended.
    fn abort_open(&mut self, shard: ShardId) {
        let server = self.server(shard);
        if server.tx == Tx::Open {
            server.tx = Tx::RolledBack;
            server.inserted = false;
        }
    }

    /// The first half of what the decider does: the row. Only where it makes a difference.
    fn insert(&self, effect: &Effect) -> Option<World> {
        let shard = shard_of(effect);
        let waits = matches!(effect, Effect::CommitDecider { .. }) && self.collection != Collection::Off;
        let server = &self.servers[shard.0 as usize];
        if !waits || server.tx != Tx::Open || server.inserted || self.decision.is_some() || self.too_old {
            return None;
        }
        let mut next = self.clone();
        next.server(shard).inserted = true;
        Some(next)
    }

    /// One step of whoever collects decisions, or of the replicas.
    fn collect(&self, mutant: Mutant) -> Vec<World> {
        let mut next = Vec::new();
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            next.push(world);
        };
        if self.collection == Collection::Off {
            return next;
        }
        let unmarked = mutant == Mutant::CollectsWithoutMark;
        if !self.too_old && !unmarked {
            step(&|world| world.too_old = true);
        }
        let prepared = self.servers.iter().any(|server| server.tx == Tx::Prepared);
        let ended =
            |server: &Server| server.was_prepared && matches!(server.tx, Tx::Committed | Tx::RolledBack);
        let settled = self.servers.iter().all(|server| server.durable || !ended(server));
        let may_look = self.too_old || unmarked || mutant == Mutant::LooksBeforeTheMark;
        match self.collection {
            Collection::Begun if may_look && (!prepared || mutant == Mutant::CollectsWithoutLooking) => {
                step(&|world| world.collection = Collection::Looked);
            }
            Collection::Looked if settled || mutant == Mutant::CollectsBeforeReplicas => {
                step(&|world| world.collection = Collection::Settled);
            }
            Collection::Settled if self.decision.is_some() && (self.too_old || unmarked) => {
                step(&|world| {
                    world.decision = None;
                    world.collection = Collection::Deleted;
                });
            }
            _ => {}
        }
        for at in (0..self.servers.len()).filter(|at| ended(&self.servers[*at]) && !self.servers[*at].durable)
        {
            step(&|world| world.servers[at].durable = true);
            if !self.servers[at].promoted {
                step(&|world| {
                    world.servers[at].promoted = true;
                    world.servers[at].tx = Tx::Prepared;
                    // It has no trace of the look.
                    if world.collection == Collection::Looked {
                        world.collection = Collection::Begun;
                    }
                });
            }
        }
        next
    }

    /// Runs queued effect `at` with this outcome, if it can have it.
    fn run(&self, at: usize, outcome: Outcome, mutant: Mutant) -> Option<World> {
        let mut next = self.clone();
        let effect = next.effects.remove(at);
        let shard = shard_of(&effect);
        let in_block = !matches!(
            effect,
            Effect::CommitPrepared { .. } | Effect::RollbackPrepared { .. }
        );
        if mutant == Mutant::DecisionRowApart && matches!(effect, Effect::CommitDecider { .. }) {
            // The row is written before the decider's own commit gets its outcome.
            if next.decision.is_none() && outcome != Outcome::Done {
                next.decision = Some(true);
                next.abort_open(shard);
                next.replies.push((shard, "error"));
                return Some(next);
            }
        }
        let reply = match outcome {
            Outcome::Done if next.execute(&effect) => tag_of(&effect, next.server(shard).writes),
            Outcome::Done => "error",
            Outcome::Error if in_block => {
                next.abort_open(shard);
                "error"
            }
            Outcome::Error => "error",
            Outcome::AlreadyFailed if in_block && !matches!(effect, Effect::AskXid(_)) => {
                next.abort_open(shard);
                match effect {
                    Effect::Prepare { .. } if mutant == Mutant::AcceptsAnyTag => "PREPARE TRANSACTION",
                    _ => "ROLLBACK",
                }
            }
            Outcome::AlreadyFailed => return None,
            Outcome::LostBefore => {
                next.abort_open(shard);
                "lost"
            }
            Outcome::LostAfter => {
                next.execute(&effect);
                next.abort_open(shard);
                "lost"
            }
            Outcome::LostLate if matches!(effect, Effect::AskXid(_)) || next.server(shard).late.is_some() => {
                return None;
            }
            Outcome::LostLate => {
                next.server(shard).late = Some(effect);
                "lost"
            }
        };
        next.replies.push((shard, reply));
        Some(next)
    }

    fn deliver(&self, at: usize, mutant: Mutant) -> World {
        let mut next = self.clone();
        let (shard, text) = next.replies.remove(at);
        let Some(machine) = &mut next.machine else {
            return next;
        };
        let reply = match text {
            "error" => Reply::Error,
            "lost" => Reply::Lost,
            "xid" => Reply::Xid(true),
            "no xid" => Reply::Xid(false),
            tag => Reply::Tag(tag),
        };
        let effects = machine.handle(shard, reply);
        next.accept(effects, mutant);
        next
    }

    fn crash(&self) -> World {
        let mut next = self.clone();
        next.machine = None;
        next.effects.clear();
        next.replies.clear();
        for server in next
            .servers
            .iter_mut()
            .filter(|s| s.late.is_none() && s.tx == Tx::Open)
        {
            server.tx = Tx::RolledBack;
            server.inserted = false;
        }
        next
    }

    /// A late command is executed, or its server drops it.
    fn land(&self, at: usize, execute: bool) -> Option<World> {
        let effect = self.servers[at].late.clone()?;
        let mut next = self.clone();
        next.servers[at].late = None;
        if execute {
            next.execute(&effect);
        }
        next.abort_open(ShardId(at as u32));
        Some(next)
    }

    /// One step of one of those who recover, about a shard: look the decision up, or act on what was found.
    fn recover(&self, at: usize, who: usize, mutant: Mutant) -> Option<World> {
        let (server, gid) = (&self.servers[at], self.last_gid?);
        let mut next = self.clone();
        let found = |decision: Option<bool>| match decision {
            Some(true) => Found::Commit,
            Some(false) => Found::Abort,
            None => Found::Absent,
        };
        let Some(known) = server.looked_up[who] else {
            if server.tx != Tx::Prepared || server.left_to_operator {
                return None;
            }
            next.servers[at].looked_up[who] = Some(found(self.decision));
            next.servers[at].looked_up.sort_unstable();
            return Some(next);
        };
        let decision = match known {
            Found::Commit => Decision::Commit,
            Found::Abort => Decision::Abort,
            Found::Absent if mutant == Mutant::RecoveryGuesses => Decision::Abort,
            Found::Absent | Found::TooOld => Decision::Absent,
        };
        let eager = Circumstances {
            within_grace: false,
            before_collection_watermark: known == Found::TooOld,
        };
        let shard = ShardId(at as u32);
        next.servers[at].looked_up[who] = None;
        match next_step(&gid, decision, eager) {
            Step::Commit => next.execute(&Effect::CommitPrepared { shard, gid }),
            Step::RollBack => next.execute(&Effect::RollbackPrepared { shard, gid }),
            // It waits for what becomes of the insertion.
            Step::RecordAbort if self.servers.iter().any(|server| server.inserted) => return None,
            Step::RecordAbort if self.too_old && self.decision.is_none() => {
                next.servers[at].looked_up[who] = Some(Found::TooOld);
                true
            }
            Step::RecordAbort => {
                let row = *next.decision.get_or_insert(false);
                let row = row && mutant != Mutant::RecoveryIgnoresWhatItsRowMet;
                next.servers[at].looked_up[who] = Some(found(Some(row)));
                true
            }
            Step::Operator => {
                next.servers[at].left_to_operator = true;
                true
            }
            Step::Wait => unreachable!("recovery is eager here"),
        };
        // Which of them knows it makes no difference.
        next.servers[at].looked_up.sort_unstable();
        Some(next)
    }

    /// A client asks for the outcome, as [`crate::sql::resolve`] gives it.
    fn ask(&self, mutant: Mutant) -> Option<World> {
        let waits = self.servers.iter().any(|server| server.inserted);
        // Told that it is too old, a client knows nothing.
        let too_old = self.too_old && self.decision.is_none();
        if self.last_gid.is_none() || self.told.is_some() || waits || too_old {
            return None;
        }
        let mut next = self.clone();
        let row = match (self.decision, mutant) {
            (None, Mutant::StatusGuesses) => false,
            (row, _) => row.unwrap_or(false),
        };
        if mutant != Mutant::StatusGuesses {
            next.decision.get_or_insert(false);
        }
        next.told = Some(row);
        Some(next)
    }

    fn successors(&self, mutant: Mutant) -> Vec<World> {
        let mut next = Vec::new();
        for at in 0..self.effects.len() {
            next.extend(
                OUTCOMES
                    .iter()
                    .filter_map(|&outcome| self.run(at, outcome, mutant)),
            );
        }
        next.extend((0..self.replies.len()).map(|at| self.deliver(at, mutant)));
        for at in 0..self.servers.len() {
            next.extend(self.land(at, true));
            next.extend(self.land(at, false));
            // The same knowledge twice gives the same steps.
            let known = self.servers[at].looked_up;
            let differ = |who: &usize| *who == 0 || known[*who] != known[who - 1];
            let who = (0..RECOVERING).filter(differ);
            next.extend(who.filter_map(|who| self.recover(at, who, mutant)));
        }
        next.extend(self.effects.iter().filter_map(|effect| self.insert(effect)));
        next.extend(self.collect(mutant));
        next.extend(self.ask(mutant));
        if self.machine.is_some() {
            next.push(self.crash());
        }
        next
    }

    fn check(&self) -> Result<(), String> {
        let any = |tx: Tx| self.servers.iter().any(|s| s.writes && s.tx == tx);
        let broken = match self.answer {
            _ if any(Tx::Committed) && any(Tx::RolledBack) => "half committed",
            Some(Answer::Committed) if any(Tx::RolledBack) => "answered committed, rolled back",
            Some(Answer::Aborted(_)) if any(Tx::Committed) => "answered aborted, committed",
            _ if self.told == Some(true) && any(Tx::RolledBack) => "told committed, rolled back",
            _ if self.told == Some(false) && any(Tx::Committed) => "told aborted, committed",
            _ => return Ok(()),
        };
        Err(format!("{broken}: {self:?}"))
    }

    /// Nothing can happen any more.
    fn check_end(&self) -> Result<(), String> {
        // Clocks that are wrong may leave it to an operator that a transaction is rolled back, never that it is committed.
        let committed = self.servers.iter().any(|s| s.writes && s.tx == Tx::Committed);
        let open = |s: &Server| match s.tx {
            Tx::Open => true,
            Tx::Prepared => committed || !s.left_to_operator,
            Tx::Committed | Tx::RolledBack => false,
        };
        if self.servers.iter().any(open) {
            Err(format!("never finished: {self:?}"))
        } else {
            Ok(())
        }
    }
}

fn shard_of(effect: &Effect) -> ShardId {
    match *effect {
        Effect::AskXid(shard)
        | Effect::CommitReadOnly(shard)
        | Effect::Commit(shard)
        | Effect::Rollback(shard)
        | Effect::Prepare { shard, .. }
        | Effect::CommitDecider { shard, .. }
        | Effect::CommitPrepared { shard, .. }
        | Effect::RollbackPrepared { shard, .. }
        | Effect::LeaveToRecovery { shard, .. } => shard,
        Effect::Answer(_) => unreachable!("not for a shard"),
    }
}

fn tag_of(effect: &Effect, writes: bool) -> &'static str {
    match effect {
        Effect::AskXid(_) if writes => "xid",
        Effect::AskXid(_) => "no xid",
        Effect::Prepare { .. } => "PREPARE TRANSACTION",
        Effect::CommitPrepared { .. } => "COMMIT PREPARED",
        Effect::RollbackPrepared { .. } => "ROLLBACK PREPARED",
        Effect::Rollback(_) => "ROLLBACK",
        _ => "COMMIT",
    }
}

/// Searches every reachable state; the number of states, or the first one that breaks a promise.
fn explore(shards: &[(Writes, bool)], named: Option<ShardId>, mutant: Mutant) -> Result<usize, String> {
    search(World::new(shards, named, Collection::Off, mutant), mutant)
}

fn search(begin: World, mutant: Mutant) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut open = vec![begin];
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        world.check()?;
        let next = world.successors(mutant);
        if next.is_empty() {
            world.check_end()?;
        }
        open.extend(next);
    }
    Ok(seen.len())
}

const KNOWN_WRITER: (Writes, bool) = (Writes::Yes, true);
const KNOWN_READER: (Writes, bool) = (Writes::No, false);
const ASKED_WRITER: (Writes, bool) = (Writes::Unknown, true);
const ASKED_READER: (Writes, bool) = (Writes::Unknown, false);

#[test]
fn no_interleaving_half_commits() {
    for shards in [
        &[KNOWN_WRITER][..],
        &[ASKED_READER],
        &[KNOWN_WRITER, KNOWN_READER],
        &[ASKED_WRITER, ASKED_READER],
        &[KNOWN_WRITER, KNOWN_WRITER],
        &[KNOWN_WRITER, ASKED_WRITER, KNOWN_READER],
        &[KNOWN_WRITER, KNOWN_WRITER, KNOWN_WRITER],
    ] {
        let states = explore(shards, None, Mutant::None).unwrap();
        println!("{} shards: {states} states", shards.len());
    }
}

#[test]
fn no_interleaving_half_commits_what_has_a_name() {
    for (shards, decider) in [
        (&[KNOWN_WRITER][..], 0),
        (&[ASKED_READER, KNOWN_WRITER], 1),
        (&[KNOWN_WRITER, ASKED_WRITER], 1),
    ] {
        let states = explore(shards, Some(ShardId(decider)), Mutant::None).unwrap();
        println!("{} shards, named: {states} states", shards.len());
    }
}

#[test]
fn the_search_catches_every_mutant() {
    for (mutant, promise) in [
        (
            Mutant::AnswersBeforeTheDecision,
            "answered committed, rolled back",
        ),
        (Mutant::CommitsPreparedBeforeTheDecision, "half committed"),
        (Mutant::RollsBackOnLostDecision, "half committed"),
        (Mutant::AcceptsAnyTag, "half committed"),
        (Mutant::DecisionRowApart, "told committed, rolled back"),
        (Mutant::RecoveryGuesses, "half committed"),
        (Mutant::RecoveryIgnoresWhatItsRowMet, "half committed"),
        (Mutant::StatusGuesses, "told aborted, committed"),
        (Mutant::ForgetsAParticipant, "half committed"),
    ] {
        let found = explore(&[KNOWN_WRITER, KNOWN_WRITER], None, mutant);
        let broken = found.expect_err(&format!("{mutant:?} was not caught"));
        assert!(broken.starts_with(promise), "{mutant:?}: {broken}");
    }
}

#[test]
fn no_interleaving_asks_for_a_decision_that_was_collected() {
    let two = [KNOWN_WRITER, KNOWN_WRITER];
    for named in [None, Some(ShardId(1))] {
        let begin = World::new(&two, named, Collection::Begun, Mutant::None);
        let states = search(begin, Mutant::None).unwrap();
        println!("2 shards, collected: {states} states");
    }
}

#[test]
fn the_search_catches_whoever_collects_too_early() {
    let two = [KNOWN_WRITER, KNOWN_WRITER];
    for (mutant, promises) in [
        (
            Mutant::CollectsWithoutLooking,
            ["never finished", "half committed"],
        ),
        (
            Mutant::CollectsBeforeReplicas,
            ["never finished", "half committed"],
        ),
        (
            Mutant::CollectsWithoutMark,
            ["told aborted, committed", "half committed"],
        ),
        (Mutant::LooksBeforeTheMark, ["never finished", "half committed"]),
    ] {
        let found = search(World::new(&two, None, Collection::Begun, mutant), mutant);
        let broken = found.expect_err(&format!("{mutant:?} was not caught"));
        assert!(
            promises.iter().any(|promise| broken.starts_with(promise)),
            "{mutant:?}: {broken}"
        );
        println!("{mutant:?}: {}", broken.split(':').next().unwrap_or_default());
    }
}
