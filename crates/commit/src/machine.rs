//! The decision machine.

use crate::{Gid, Participant, Participants, Secret, ShardId, Writes};

/// What to do next. Every effect but [`Effect::LeaveToRecovery`] and [`Effect::Answer`] is answered by exactly
/// one [`Commit::handle`] with the same shard. Effects returned together may run concurrently. Cancels and
/// time-outs must never reach a server while one of them runs there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask whether the open transaction has an xid ([`crate::sql::ASK_XID`]); reply [`Reply::Xid`].
    AskXid(ShardId),
    /// COMMIT a part that wrote nothing.
    CommitReadOnly(ShardId),
    /// COMMIT the only part that (possibly) wrote: that is the decision.
    Commit(ShardId),
    /// PREPARE TRANSACTION, with durable `synchronous_commit`.
    Prepare {
        /// Where.
        shard: ShardId,
        /// Under which name.
        gid: Gid,
    },
    /// Record the decision and COMMIT in the same transaction ([`crate::sql::decide`]). The reply is that of
    /// COMMIT, or the error of the record.
    CommitDecider {
        /// Where.
        shard: ShardId,
        /// The decided transaction.
        gid: Gid,
        /// The prepared shards.
        participants: Vec<ShardId>,
    },
    /// COMMIT PREPARED, outside a transaction block.
    CommitPrepared {
        /// Where.
        shard: ShardId,
        /// Under which name.
        gid: Gid,
    },
    /// ROLLBACK PREPARED, outside a transaction block; over a new connection if the old one was lost.
    RollbackPrepared {
        /// Where.
        shard: ShardId,
        /// Under which name.
        gid: Gid,
    },
    /// ROLLBACK an open transaction.
    Rollback(ShardId),
    /// This shard may hold a prepared transaction that the machine cannot or must not finish.
    LeaveToRecovery {
        /// Where.
        shard: ShardId,
        /// Under which name.
        gid: Gid,
    },
    /// Tell the client. The last effect of a machine.
    Answer(Answer),
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Every part is committed, or will be.
    Committed,
    /// No part is committed, or ever will be.
    Aborted(AbortReason),
    /// The decision was sent and its outcome is not known (`08007`); recovery will complete it either way.
    Unknown,
}

/// Why a transaction was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// This shard answered with an error; the client gets that error.
    Error(ShardId),
    /// This shard's transaction had already failed: it answered with the tag ROLLBACK.
    AlreadyFailed(ShardId),
    /// The connection to this shard was lost before the decision.
    Lost(ShardId),
    /// This shard's prepared state is not on its replicas: the wait for them was cancelled.
    NotReplicated(ShardId),
    /// Both shards wrote and neither can be prepared.
    TwoUnpreparable(ShardId, ShardId),
}

/// The result of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Answer to [`Effect::AskXid`].
    Xid(bool),
    /// The command tag, of a command that gave no error.
    Tag(&'a str),
    /// The command was done here, but the wait for synchronous replication was cancelled (a warning with
    /// SQLSTATE `01000` saying so came before the tag).
    NotReplicated,
    /// An error of severity ERROR: the transaction is surely rolled back. FATAL and PANIC are [`Reply::Lost`]:
    /// a session terminated while committing may have committed.
    Error,
    /// The connection was lost; what the server did is not known.
    Lost,
}

impl Reply<'_> {
    /// The reply for an error of this severity (the untranslated one, field `V`).
    pub fn from_error(severity: &str) -> Self {
        if severity == "ERROR" {
            Reply::Error
        } else {
            Reply::Lost
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    /// In its transaction block, nothing asked.
    Open,
    /// An effect is running there.
    Busy,
    /// Prepared, or possibly so.
    Prepared,
    /// Nothing left to do.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Member {
    participant: Participant,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Finding out who wrote.
    Asking,
    /// Readers commit, all writers but the decider prepare.
    Voting,
    /// The decider (or only writer) commits.
    Deciding,
    /// Decided: the prepared parts commit.
    Finishing,
    /// Not decided: everything is rolled back.
    RollingBack,
    /// Answered.
    Done,
}

/// The commit of one transaction. Start it, run its effects, hand in every reply until it gives
/// [`Effect::Answer`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit {
    secret: Secret,
    /// When its name was made, in seconds since 1970.
    made_s: u64,
    members: Vec<Member>,
    phase: Phase,
    /// Set when members are to be prepared, or the outcome is to be recorded; the decider is in it.
    gid: Option<Gid>,
    /// The member whose COMMIT decides: the decider, or the only writer.
    last: Option<usize>,
    failure: Option<AbortReason>,
    /// Its name was told before: the outcome is recorded even if nobody is prepared.
    named: bool,
}

impl Commit {
    /// Starts the commit of a transaction that touched these shards. `secret` must never be used twice; it and the time are those
    /// of the name if the transaction was given one.
    pub fn start(participants: &Participants, secret: Secret, made_s: u64) -> (Self, Vec<Effect>) {
        let member = |p: &Participant| Member {
            participant: *p,
            state: State::Open,
        };
        let mut machine = Commit {
            secret,
            made_s,
            members: participants.as_slice().iter().map(member).collect(),
            phase: Phase::Asking,
            gid: None,
            last: None,
            failure: None,
            named: participants.named().is_some(),
        };
        let mut effects = Vec::new();
        let possible = machine
            .members
            .iter()
            .filter(|m| m.participant.writes != Writes::No)
            .count();
        if possible > 1 {
            for member in &mut machine.members {
                if member.participant.writes == Writes::Unknown {
                    member.state = State::Busy;
                    effects.push(Effect::AskXid(member.participant.shard));
                }
            }
        }
        machine.advance(&mut effects);
        (machine, effects)
    }

    /// The name of the transaction, once its decision is to be recorded under it.
    pub fn gid(&self) -> Option<Gid> {
        self.gid
    }

    /// The secret that goes with [`Effect::CommitDecider`].
    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// Whether the answer was given.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Takes the result of an effect, gives the next effects. A reply nobody asked for is ignored.
    pub fn handle(&mut self, shard: ShardId, reply: Reply<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let busy = |m: &Member| m.participant.shard == shard && m.state == State::Busy;
        let Some(at) = self.members.iter().position(busy) else {
            return effects;
        };
        match self.phase {
            Phase::Asking => self.asked(at, reply),
            Phase::Voting => self.voted(at, reply),
            Phase::Deciding => self.decided(at, reply, &mut effects),
            Phase::Finishing | Phase::RollingBack => self.finished(at, reply, &mut effects),
            Phase::Done => {}
        }
        self.advance(&mut effects);
        effects
    }

    fn asked(&mut self, at: usize, reply: Reply<'_>) {
        let member = &mut self.members[at];
        member.state = State::Open;
        match reply {
            Reply::Xid(true) => member.participant.writes = Writes::Yes,
            Reply::Xid(false) => member.participant.writes = Writes::No,
            _ => {
                if reply == Reply::Lost {
                    member.state = State::Ended;
                }
                self.fail(at, reply);
            }
        }
    }

    fn voted(&mut self, at: usize, reply: Reply<'_>) {
        let member = &mut self.members[at];
        let reader = member.participant.writes == Writes::No;
        match reply {
            Reply::Tag("COMMIT") | Reply::NotReplicated if reader => member.state = State::Ended,
            Reply::Tag("PREPARE TRANSACTION") if !reader => member.state = State::Prepared,
            _ => {
                // Prepared here but not on the replicas, or possibly prepared: to be rolled back by name.
                let in_doubt = !reader && matches!(reply, Reply::Lost | Reply::NotReplicated);
                member.state = if in_doubt { State::Prepared } else { State::Ended };
                self.fail(at, reply);
            }
        }
    }

    fn decided(&mut self, at: usize, reply: Reply<'_>, effects: &mut Vec<Effect>) {
        self.members[at].state = State::Ended;
        match reply {
            Reply::Tag("COMMIT") => {
                self.phase = Phase::Finishing;
                self.finish_prepared(effects, |shard, gid| Effect::CommitPrepared { shard, gid });
            }
            // Surely not committed.
            Reply::Tag("ROLLBACK") | Reply::Error => self.fail(at, reply),
            // Anything else may have committed; neither outcome may be presumed for the prepared parts.
            _ => {
                self.phase = Phase::Done;
                if let Some(gid) = self.gid {
                    for member in self.members.iter().filter(|m| m.state == State::Prepared) {
                        effects.push(Effect::LeaveToRecovery {
                            shard: member.participant.shard,
                            gid,
                        });
                    }
                }
                effects.push(Effect::Answer(Answer::Unknown));
            }
        }
    }

    fn finished(&mut self, at: usize, reply: Reply<'_>, effects: &mut Vec<Effect>) {
        let member = &mut self.members[at];
        member.state = State::Ended;
        let shard = member.participant.shard;
        let expected = if self.phase == Phase::Finishing {
            "COMMIT PREPARED"
        } else {
            "ROLLBACK PREPARED"
        };
        // The decider only had its open transaction rolled back. That needs no result: whatever happened, no
        // COMMIT was sent, so it cannot commit any more.
        if let Some(gid) = self.gid
            && Some(at) != self.last
            && reply != Reply::Tag(expected)
        {
            effects.push(Effect::LeaveToRecovery { shard, gid });
        }
    }

    fn fail(&mut self, at: usize, reply: Reply<'_>) {
        let shard = self.members[at].participant.shard;
        let reason = match reply {
            Reply::Error => AbortReason::Error(shard),
            Reply::Lost => AbortReason::Lost(shard),
            Reply::NotReplicated => AbortReason::NotReplicated(shard),
            Reply::Tag(_) | Reply::Xid(_) => AbortReason::AlreadyFailed(shard),
        };
        self.failure.get_or_insert(reason);
    }

    /// Goes to the next phase when nothing is running.
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        while self.phase != Phase::Done && !self.members.iter().any(|m| m.state == State::Busy) {
            match (self.phase, self.failure) {
                (Phase::Finishing, _) => self.answer(Answer::Committed, effects),
                (Phase::RollingBack, Some(reason)) => self.answer(Answer::Aborted(reason), effects),
                (_, Some(_)) => self.roll_back(effects),
                (Phase::Asking, None) => self.vote(effects),
                (Phase::Voting, None) => self.decide(effects),
                (Phase::Deciding | Phase::RollingBack | Phase::Done, None) => return,
            }
        }
    }

    fn answer(&mut self, answer: Answer, effects: &mut Vec<Effect>) {
        self.phase = Phase::Done;
        effects.push(Effect::Answer(answer));
    }

    /// Chooses who decides; readers commit, the other writers prepare.
    fn vote(&mut self, effects: &mut Vec<Effect>) {
        let writes = |m: &Member| m.participant.writes != Writes::No;
        let writers: Vec<usize> = (0..self.members.len())
            .filter(|&at| writes(&self.members[at]))
            .collect();
        let mut unpreparable = writers
            .iter()
            .copied()
            .filter(|&at| !self.members[at].participant.preparable);
        let bound = unpreparable.next();
        if let (Some(first), Some(second), true) = (bound, unpreparable.next(), writers.len() > 1) {
            let shard = |at: usize| self.members[at].participant.shard;
            self.failure = Some(AbortReason::TwoUnpreparable(shard(first), shard(second)));
            return;
        }
        self.phase = Phase::Voting;
        self.last = bound.or(writers.first().copied());
        if let (Some(last), true) = (self.last, writers.len() > 1 || self.named) {
            let decider = self.members[last].participant.shard;
            self.gid = Some(Gid::made_at(decider, self.secret, self.made_s));
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            let shard = member.participant.shard;
            match (member.participant.writes, self.gid) {
                (Writes::No, _) => effects.push(Effect::CommitReadOnly(shard)),
                (_, Some(gid)) if Some(at) != self.last => effects.push(Effect::Prepare { shard, gid }),
                _ => continue,
            }
            member.state = State::Busy;
        }
    }

    /// All voted for the commit: the last one decides.
    fn decide(&mut self, effects: &mut Vec<Effect>) {
        let Some(last) = self.last else {
            // Nobody wrote: nothing to decide.
            self.phase = Phase::Finishing;
            return;
        };
        self.phase = Phase::Deciding;
        let shard = self.members[last].participant.shard;
        self.members[last].state = State::Busy;
        effects.push(match self.gid {
            None => Effect::Commit(shard),
            Some(gid) => {
                let prepared = self.members.iter().filter(|m| m.state == State::Prepared);
                let participants = prepared.map(|m| m.participant.shard).collect();
                Effect::CommitDecider {
                    shard,
                    gid,
                    participants,
                }
            }
        });
    }

    /// The decision was surely not taken and never will be: only this machine could send it.
    fn roll_back(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::RollingBack;
        for member in self.members.iter_mut().filter(|m| m.state == State::Open) {
            member.state = State::Busy;
            effects.push(Effect::Rollback(member.participant.shard));
        }
        self.finish_prepared(effects, |shard, gid| Effect::RollbackPrepared { shard, gid });
    }

    fn finish_prepared(&mut self, effects: &mut Vec<Effect>, effect: impl Fn(ShardId, Gid) -> Effect) {
        let Some(gid) = self.gid else {
            return;
        };
        for member in self.members.iter_mut().filter(|m| m.state == State::Prepared) {
            member.state = State::Busy;
            effects.push(effect(member.participant.shard, gid));
        }
    }
}

#[cfg(test)]
mod tests;
