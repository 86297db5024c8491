//! The end of a transaction: COMMIT, over one shard or several, and ROLLBACK.

use std::collections::VecDeque;
use std::rc::Rc;

use commit::{AbortReason, Answer, Commit, Effect, Participants, Reply, Secret, Writes};
use wire::backend::{ErrorFields, encode};

use super::block::{Block, BlockState, Wrote};
use super::{Fault, Session};
use crate::exec::link;
use crate::failpoint::{Mutant, Point};
use crate::server::Applied;

/// What a server did with one effect.
enum Done {
    /// It answered.
    Reply(link::Reply),
    /// It is gone.
    Lost,
}

impl Session {
    /// Ends the open block. True: committed; false: rolled back (asked for, or because the block had failed).
    /// The block is closed whatever the result.
    pub(super) async fn end_block(&mut self, commit: bool) -> Result<bool, Fault> {
        if let Some(watch) = &self.watch {
            watch.ends();
        }
        let commit = commit && self.block.state != BlockState::Failed && !self.block.lost;
        let begun: Vec<usize> = (0..self.servers.len())
            .filter(|index| self.servers[*index].begun)
            .collect();
        let established = if commit {
            Box::pin(self.establish_listens()).await
        } else {
            Ok(())
        };
        if let Err(fault) = established {
            self.rollback_servers(&begun).await?;
            self.close_block(false);
            return Err(fault);
        }
        let change = if commit {
            self.begin_schema_change().await
        } else {
            Ok(None)
        };
        let change = match change {
            Ok(change) => change,
            Err(fault) => {
                self.rollback_servers(&begun).await?;
                self.close_block(false);
                return Err(fault);
            }
        };
        if commit && self.block.notifies {
            let home = self.engine.cluster.home();
            if let Some(index) = self.servers.iter().position(|server| server.shard == home) {
                self.before_notify(index);
            }
        }
        let touched: Vec<catalog::ShardId> = match (&self.reads, commit) {
            (Some(_), true) => begun.iter().map(|index| self.servers[*index].shard).collect(),
            _ => Vec::new(),
        };
        let result = match (commit, begun.as_slice()) {
            (false, _) => self.rollback_servers(&begun).await.map(|()| false),
            (true, []) => Ok(true),
            (true, [index]) if self.block.name.is_none() => self.commit_one(*index).await,
            (true, _) => self.commit_many(&begun).await,
        };
        if !touched.is_empty() {
            Box::pin(self.note_commit(&touched)).await;
        }
        if self.block.notifies {
            Box::pin(self.after_notify()).await;
        }
        if !self.configs.is_empty() {
            self.follow_configs_at_end().await;
        }
        if self.block.inspect {
            self.inspect_all().await;
        }
        let committed = matches!(result, Ok(true));
        self.close_block(committed);
        if change.is_some() && is_unknown(&result) {
            self.publish_unknown(change).await;
            return result;
        }
        self.finish_schema_change(change, committed).await?;
        result
    }

    /// Ends a block that made one transaction of statements sent together, and reports an error to the client; else the
    /// command tag that was kept for this.
    pub(super) async fn end_implicit_block(&mut self) -> Result<(), Fault> {
        let tag = self.block.tag.take();
        match self.end_block(true).await {
            Ok(committed) => {
                self.block.tag = tag.filter(|_| committed);
                self.tell_held_tag()
            }
            Err(Fault::Statement(fields)) => {
                self.tell(&fields);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// The bookkeeping of a block's end.
    pub(super) fn close_block(&mut self, committed: bool) {
        self.settings.end(committed);
        self.finish_listens(committed);
        *self.block = Block::NONE;
        self.context = self.context.take().filter(|_| committed);
        self.private_context = None;
        for server in &mut self.servers {
            if server.begun && !matches!(server.lease.applied, Applied::Unknown) {
                let settings = Rc::clone(self.settings.current());
                server.lease.applied = Applied::Known(settings);
            }
            server.begun = false;
            server.wrote = Wrote::No;
        }
        self.forget_portals();
        self.release_servers();
    }

    pub(super) async fn rollback_servers(&mut self, begun: &[usize]) -> Result<(), Fault> {
        let mut gone = Vec::new();
        for index in begun {
            let server = &mut self.servers[*index].lease;
            match link::query(server, "ROLLBACK").await {
                Ok(reply) => self.client.conn.out().extend_from_slice(&reply.aside),
                Err(_) => gone.push(*index),
            }
        }
        for index in gone.into_iter().rev() {
            self.drop_server(index);
        }
        Ok(())
    }

    async fn commit_one(&mut self, index: usize) -> Result<bool, Fault> {
        let shard = self.servers[index].shard;
        let name = self.shard_name(shard);
        let cluster = &self.engine.cluster;
        cluster.fail_points.reached(Point::CommitOne, shard.0).await;
        let result = link::query(&mut self.servers[index].lease, "COMMIT").await;
        let cluster = &self.engine.cluster;
        cluster.fail_points.reached(Point::CommittedOne, shard.0).await;
        match result {
            Ok(reply) => {
                self.client.conn.out().extend_from_slice(&reply.aside);
                match reply.error {
                    Some(error) => Err(Fault::Statement(error)),
                    None => Ok(reply.tags.last().is_some_and(|tag| tag == "COMMIT")),
                }
            }
            Err(error) => {
                self.drop_server(index);
                let message = format!("connection to {name} was lost during COMMIT: {error}");
                Err(unknown_outcome(&message, None))
            }
        }
    }

    /// Drives the commit machine (DESIGN §4).
    async fn commit_many(&mut self, begun: &[usize]) -> Result<bool, Fault> {
        let participants = match self.participants(begun) {
            Ok(participants) => participants,
            Err(fault) => {
                self.rollback_servers(begun).await?;
                return Err(fault);
            }
        };
        for index in begun {
            if !self.servers[*index].lease.shield_from_cancel().await {
                self.rollback_servers(begun).await?;
                return Err(Fault::error("57014", "canceling statement due to user request"));
            }
        }
        if self.commits_in_turn() {
            self.list_as_ending(begun, None);
            return Box::pin(self.commit_in_turn(begun)).await;
        }
        let named = self.block.name.as_ref();
        let named = named.and_then(|name| Some((name.secret, name.gid.made_s()?)));
        let (secret, made_s) = match named {
            Some(named) => named,
            None => (new_secret()?, seconds_now()),
        };
        let (machine, effects) = Commit::start(&participants, secret, made_s);
        self.drive(begun, machine, effects).await
    }

    /// Does what the machine wants until it answers.
    async fn drive(
        &mut self,
        begun: &[usize],
        mut machine: Commit,
        effects: Vec<Effect>,
    ) -> Result<bool, Fault> {
        self.list_as_ending(begun, machine.gid());
        let mut told_early = false;
        let mut queue: VecDeque<Effect> = effects.into();
        let mut first_error: Option<(commit::ShardId, Box<ErrorFields>)> = None;
        let mut named = machine.gid().is_some();
        while !queue.is_empty() {
            if !named && machine.gid().is_some() {
                named = true;
                self.list_as_ending(begun, machine.gid());
            }
            let batch: Vec<Effect> = queue.drain(..).collect();
            for effect in &batch {
                told_early |= self.break_early(effect).await;
                self.reached(point_before(effect), effect).await;
                self.send_effect(effect, &machine);
            }
            for effect in &batch {
                match effect {
                    Effect::Answer(_) if told_early => return Err(Fault::ClientGone),
                    Effect::Answer(Answer::Unknown) => return self.find_out(machine.gid()).await,
                    Effect::Answer(answer) => return self.commit_answer(*answer, first_error),
                    Effect::LeaveToRecovery { shard, gid } => {
                        let shard = catalog::ShardId(shard.0);
                        let cluster = std::sync::Arc::clone(&self.engine.cluster);
                        Box::pin(cluster.finish_prepared(&self.database, shard, gid)).await;
                    }
                    other => {
                        let shard = effect_shard(other);
                        if matches!(other, Effect::CommitDecider { .. }) {
                            self.reached(Some(Point::DecisionSent), other).await;
                        }
                        let done = self.collect_effect(other, shard).await;
                        self.reached(point_after(other), other).await;
                        let effects = self.hand_in(&mut machine, other, shard, &done, &mut first_error);
                        queue.extend(effects);
                    }
                }
            }
        }
        Err(Fault::error("XX000", "the commit ended without an answer"))
    }

    async fn reached(&mut self, point: Option<Point>, effect: &Effect) {
        let Some(point) = point else { return };
        let shard = effect_shard(effect);
        let cut = self.engine.cluster.fail_points.reached(point, shard.0).await;
        if let (true, Some(index)) = (cut, self.server_of(shard)) {
            self.drop_server(index);
        }
    }

    /// What two of the ways to break the protocol do before a decision is sent. True: the client was told.
    async fn break_early(&mut self, effect: &Effect) -> bool {
        let Effect::CommitDecider {
            gid, participants, ..
        } = effect
        else {
            return false;
        };
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        if cluster.fail_points.broken(Mutant::CommitsEarly) {
            for shard in participants {
                if let Some(index) = self.server_of(*shard) {
                    let _ =
                        link::query(&mut self.servers[index].lease, &commit::sql::commit_prepared(gid)).await;
                }
            }
        }
        if !cluster.fail_points.broken(Mutant::AnswersEarly) {
            return false;
        }
        let _ = self.tell_tag(b"COMMIT");
        encode::ready_for_query(self.client.conn.out(), wire::TransactionStatus::Idle);
        self.client.conn.flush().await.is_ok()
    }

    /// Says whose servers these are: nothing else does while no cancel may reach them.
    fn list_as_ending(&self, begun: &[usize], gid: Option<commit::Gid>) {
        if let Some(ticket) = &self.block.ticket {
            let target = |index: &usize| std::sync::Arc::clone(&self.servers[*index].lease.target);
            ticket.ends(crate::pools::Ending {
                targets: begun.iter().map(target).collect(),
                gid,
            });
        }
    }

    fn participants(&self, begun: &[usize]) -> Result<Participants, Fault> {
        let mut participants = Participants::new();
        for index in begun {
            let server = &self.servers[*index];
            let writes = match server.wrote {
                Wrote::No => Writes::No,
                Wrote::Unknown => Writes::Unknown,
                Wrote::Yes => Writes::Yes,
            };
            participants
                .enlist(commit::ShardId(server.shard.0), writes, !server.unpreparable)
                .map_err(|_| Fault::refused_as(plan::RefusalCode::Unpreparable))?;
        }
        if let Some(name) = &self.block.name {
            participants
                .name(name.gid.decider())
                .map_err(|_| Fault::refused_as(plan::RefusalCode::Unpreparable))?;
        }
        Ok(participants)
    }

    /// Appends what an effect sends; flushing happens when its answer is collected.
    fn send_effect(&mut self, effect: &Effect, machine: &Commit) {
        let texts: Vec<String> = match effect {
            Effect::AskXid(_) => vec![commit::sql::ASK_XID.to_owned()],
            Effect::CommitReadOnly(_) | Effect::Commit(_) => vec!["COMMIT".to_owned()],
            Effect::Prepare { .. } if self.is_broken(Mutant::ForgetsOne) => {
                vec!["SELECT 1".to_owned(), "ROLLBACK".to_owned()]
            }
            Effect::Prepare { gid, .. } => {
                vec![commit::sql::MAKE_DURABLE.to_owned(), commit::sql::prepare(gid)]
            }
            Effect::CommitDecider { .. } if self.is_broken(Mutant::NoDecisionRow) => {
                vec!["SELECT 1".to_owned(), "COMMIT".to_owned()]
            }
            Effect::CommitDecider {
                gid, participants, ..
            } => {
                vec![
                    commit::sql::decide(gid, participants, machine.secret()),
                    "COMMIT".to_owned(),
                ]
            }
            Effect::CommitPrepared { gid, .. } => vec![commit::sql::commit_prepared(gid)],
            Effect::RollbackPrepared { gid, .. } => vec![commit::sql::rollback_prepared(gid)],
            Effect::Rollback(_) => vec!["ROLLBACK".to_owned()],
            Effect::LeaveToRecovery { .. } | Effect::Answer(_) => return,
        };
        let Some(index) = self.server_of(effect_shard(effect)) else {
            return;
        };
        for text in texts {
            let _ = link::send_query(&mut self.servers[index].lease, &text);
        }
        // As much as fits leaves now, so that the shards work at the same time.
        self.servers[index].lease.conn.try_flush();
    }

    fn is_broken(&self, mutant: Mutant) -> bool {
        self.engine.cluster.fail_points.broken(mutant)
    }

    fn server_of(&self, shard: commit::ShardId) -> Option<usize> {
        self.servers.iter().position(|server| server.shard.0 == shard.0)
    }

    async fn collect_effect(&mut self, effect: &Effect, shard: commit::ShardId) -> Done {
        let Some(index) = self.server_of(shard) else {
            return Done::Lost;
        };
        let server = &mut self.servers[index].lease;
        let mut result = link::collect(server).await;
        if matches!(effect, Effect::Prepare { .. } | Effect::CommitDecider { .. })
            && let Ok(first) = &result
        {
            // Two statements were sent. When the first failed, the second ends the transaction all the same.
            let failed = first.error.is_some();
            match link::collect(server).await {
                Ok(second) if !failed => result = Ok(second),
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        match result {
            Ok(reply) => {
                self.client.conn.out().extend_from_slice(&reply.aside);
                Done::Reply(reply)
            }
            Err(_) => {
                self.drop_server(index);
                Done::Lost
            }
        }
    }

    fn hand_in(
        &mut self,
        machine: &mut Commit,
        effect: &Effect,
        shard: commit::ShardId,
        done: &Done,
        first_error: &mut Option<(commit::ShardId, Box<ErrorFields>)>,
    ) -> Vec<Effect> {
        let reply = match done {
            Done::Lost
                if matches!(effect, Effect::CommitDecider { .. }) && self.is_broken(Mutant::LostIsAbort) =>
            {
                Reply::Error
            }
            Done::Reply(_)
                if matches!(effect, Effect::Prepare { .. }) && self.is_broken(Mutant::ForgetsOne) =>
            {
                Reply::Tag("PREPARE TRANSACTION")
            }
            Done::Lost => Reply::Lost,
            Done::Reply(reply) => match &reply.error {
                Some(error) => {
                    if first_error.is_none() {
                        *first_error = Some((shard, error.clone()));
                    }
                    Reply::from_error(&error.severity)
                }
                None if matches!(effect, Effect::AskXid(_)) => Reply::Xid(reply.single() == Some("t")),
                None if reply.lost_replication() => Reply::NotReplicated,
                None => Reply::Tag(reply.tags.last().map_or("", String::as_str)),
            },
        };
        machine.handle(shard, reply)
    }

    fn commit_answer(
        &mut self,
        answer: Answer,
        first_error: Option<(commit::ShardId, Box<ErrorFields>)>,
    ) -> Result<bool, Fault> {
        match answer {
            Answer::Committed => {
                self.engine.metrics.multi_shard_commits.increment();
                Ok(true)
            }
            Answer::Unknown => Err(unknown_outcome("the outcome of COMMIT is not known", None)),
            Answer::Aborted(AbortReason::AlreadyFailed(_)) => Ok(false),
            Answer::Aborted(reason) => Err(match (reason, first_error) {
                (AbortReason::Error(_), Some((_, fields))) => Fault::Statement(fields),
                (AbortReason::Lost(shard), _) => {
                    let name = self.shard_name(catalog::ShardId(shard.0));
                    Fault::error(
                        "08006",
                        format!("connection to {name} was lost before the transaction was decided"),
                    )
                }
                (AbortReason::NotReplicated(_), _) => Fault::error(
                    "40000",
                    "the transaction was rolled back: a shard could not replicate it",
                ),
                (AbortReason::TwoUnpreparable(..), _) => Fault::refused_as(plan::RefusalCode::Unpreparable),
                (_, None) => Fault::error("40000", "the transaction was rolled back"),
                (_, Some((_, fields))) => Fault::Statement(fields),
            }),
        }
    }
}

fn point_before(effect: &Effect) -> Option<Point> {
    match effect {
        Effect::Prepare { .. } => Some(Point::Prepare),
        Effect::CommitDecider { .. } => Some(Point::Decide),
        Effect::CommitPrepared { .. } => Some(Point::CommitPrepared),
        Effect::Rollback(_) | Effect::RollbackPrepared { .. } => Some(Point::RollBack),
        Effect::Answer(_) => Some(Point::Answer),
        _ => None,
    }
}

fn point_after(effect: &Effect) -> Option<Point> {
    match effect {
        Effect::Prepare { .. } => Some(Point::Prepared),
        Effect::CommitDecider { .. } => Some(Point::Decided),
        Effect::CommitPrepared { .. } => Some(Point::CommittedPrepared),
        _ => None,
    }
}

fn effect_shard(effect: &Effect) -> commit::ShardId {
    match effect {
        Effect::AskXid(shard)
        | Effect::CommitReadOnly(shard)
        | Effect::Commit(shard)
        | Effect::Rollback(shard) => *shard,
        Effect::Prepare { shard, .. }
        | Effect::CommitDecider { shard, .. }
        | Effect::CommitPrepared { shard, .. }
        | Effect::RollbackPrepared { shard, .. }
        | Effect::LeaveToRecovery { shard, .. } => *shard,
        Effect::Answer(_) => commit::ShardId(u32::MAX),
    }
}

/// A new secret for the name of a transaction.
pub(super) fn new_secret() -> Result<Secret, Fault> {
    crate::cancel::random::<16>()
        .map(Secret)
        .map_err(|_| Fault::error("XX000", "the system has no random numbers"))
}

/// The time for names of transactions: seconds since 1970. A clock before that makes names that are refused as too old.
pub(super) fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Nobody knows, but whoever asks later for the outcome of the name, if there is one.
pub(super) fn unknown_outcome(message: &str, gid: Option<commit::Gid>) -> Fault {
    let mut fields = ErrorFields::error("08007", message);
    match gid {
        Some(gid) => {
            fields.detail = Some(format!("The transaction is {gid}."));
            fields = fields.with_hint(format!(
                "Ask SELECT drover.transaction_status('{gid}') before repeating it."
            ));
        }
        None => {
            fields = fields.with_hint(
                "The transaction is either committed or not; look before repeating it. \
                 drover.current_transaction_id(), asked before COMMIT, gives a name to ask for its outcome with.",
            );
        }
    }
    Fault::Statement(Box::new(fields))
}

/// The commit may have happened.
fn is_unknown(result: &Result<bool, Fault>) -> bool {
    matches!(result, Err(Fault::Statement(fields)) if fields.code == "08007")
}
