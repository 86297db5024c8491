//! A Query message with several statements: one transaction, unless they say otherwise.

use std::rc::Rc;

use plan::Triage;
use sql::{RawStatement, SettingCommand, StatementKind, TransactionCommand};
use wire::TransactionStatus;

use super::block::{Block, BlockState, Wrote};
use super::effects::Effects;
use super::learn::Learned;
use super::simple::{OneShard, Outcome, failed_block};
use super::{Fault, Session};
use crate::exec::statement::{Action, Literals, Statement};

impl Session {
    /// Runs the statements of one text in order. True when ReadyForQuery has gone to the client.
    pub(super) async fn run_several(&mut self, text: &str, raws: &[RawStatement]) -> Result<bool, Fault> {
        if raws.iter().any(begins_block) {
            self.blocks_allowed()?;
        }
        let context = self.plan_context().await?;
        let mut statements = Vec::with_capacity(raws.len());
        let (mut all_home, mut touches) = (true, false);
        for raw in raws {
            let piece = &text[raw.range.clone()];
            let triaged = self.triaged(piece, raw, &context);
            let Some(statement) = triaged.filter(|_| !self.may_have_rule(piece, raw, &context)) else {
                all_home = false;
                break;
            };
            all_home &= statement.effects.none();
            touches |= statement.effects.touches_sequences;
            statements.push(statement);
        }
        let home = self.engine.cluster.home();
        let only_home = self.servers.iter().all(|server| server.shard == home);
        let in_books = self.has_noted_listens() || self.block.notifies;
        let several_snapshots = self.has_sharded() && self.is_repeatable(raws);
        let plainly = !self.counts_rows() && !in_books && !several_snapshots;
        if all_home && only_home && plainly && self.block.state != BlockState::Failed {
            for (raw, statement) in raws.iter().zip(&statements) {
                self.observe_statement(statement, &text[raw.range.clone()], true);
                self.observation.over(&[home]);
            }
            return self.run_verbatim(text, raws, touches).await;
        }
        self.run_in_turn(text, raws).await
    }

    /// Whether a block with one snapshot is open or begun here: all shards take theirs at its first statement.
    fn is_repeatable(&self, raws: &[RawStatement]) -> bool {
        let begins = raws.iter().any(|raw| match &raw.detail {
            sql::Detail::Transaction(TransactionCommand::Begin(modes) | TransactionCommand::Start(modes)) => {
                modes.isolation.is_some()
            }
            // SET TRANSACTION, or the default of later blocks.
            sql::Detail::Setting(command) => !is_plain_set(command),
            _ => false,
        });
        begins || (!self.block.snapshots && self.isolation() == sql::Isolation::RepeatableRead)
    }

    /// A statement that certainly concerns the home shard only, without asking a server; `None` otherwise.
    fn triaged(
        &self,
        piece: &str,
        raw: &RawStatement,
        context: &Rc<crate::engine::PlanContext>,
    ) -> Option<Rc<Statement>> {
        let facts = plan::SessionFacts {
            in_transaction: true,
            has_temp_objects: self.may_have_temporary_objects(),
            search_path: context.search_path.clone(),
        };
        // Ranges of the raw statement refer to the whole text; for triage only names and kinds matter.
        let _ = piece;
        if matches!(
            raw.kind,
            StatementKind::Execute
                | StatementKind::Explain
                | StatementKind::CreateTableAs
                | StatementKind::Listen
                | StatementKind::Unlisten
        ) {
            // It may run what an earlier PREPARE meant, which has to be looked at again.
            return None;
        }
        let action = match plan::triage(raw, &context.snapshot, &facts) {
            Triage::Home if raw.kind == sql::StatementKind::Deallocate => return None,
            Triage::Home => Action::Home,
            Triage::Transaction(command) if !is_two_phase(&command) => {
                Action::Other(Box::new(Triage::Transaction(command)))
            }
            Triage::Setting(command) if is_plain_set(&command) => {
                Action::Other(Box::new(Triage::Setting(command)))
            }
            _ => return None,
        };
        let effects = super::effects::effects_of(raw, &context.snapshot);
        Some(self.statement(action, effects, raw.kind))
    }

    /// All of it is the home shard's: the text goes there as it came, and what it did to the block and the settings
    /// is read off its statements.
    async fn run_verbatim(
        &mut self,
        text: &str,
        raws: &[RawStatement],
        touches: bool,
    ) -> Result<bool, Fault> {
        self.place_on_primary().await?;
        let index = self.enlist(self.engine.cluster.home()).await?;
        if touches {
            let effects = Effects {
                touches_sequences: true,
                ..Effects::default()
            };
            self.before_sequences(index, effects).await?;
        }
        let known = self.known_now();
        let skip = self.begin_on(index).await?;
        self.servers[index].wrote = Wrote::Unknown;
        crate::exec::link::send_query(&mut self.servers[index].lease, text)
            .map_err(|_| Fault::error("54000", "the statement is too long"))?;
        let one = OneShard {
            shard: self.engine.cluster.home(),
            text,
            columns: None,
            wrote: Wrote::Unknown,
            effects: Effects::default(),
            offset: 0,
        };
        let outcome = self.relay_answer(index, skip, &one, false).await?;
        if self.reads.is_some() && outcome.status == TransactionStatus::Idle {
            Box::pin(self.note_statement(index)).await;
        }
        self.follow(raws, text, &outcome);
        match outcome.status {
            TransactionStatus::Idle if self.block.is_open() => self.close_block(!outcome.failed),
            TransactionStatus::Idle => {}
            TransactionStatus::InTransaction => {
                if !self.block.is_open() {
                    self.block.open("BEGIN".to_owned(), false);
                    self.settings.begin();
                }
                self.block.state = BlockState::Open;
                self.servers[index].begun = true;
            }
            TransactionStatus::Failed => {
                if !self.block.is_open() {
                    self.block.open("BEGIN".to_owned(), false);
                    self.settings.begin();
                }
                self.block.state = BlockState::Failed;
                self.servers[index].begun = true;
            }
        }
        if self.block.is_open() && self.block.began_with.is_none() {
            self.block.began_with = known;
        }
        if !self.block.is_open() {
            let current = Rc::clone(self.settings.current());
            if let Some(server) = self.servers.get_mut(index) {
                // After an error it is not known which of the settings were kept.
                server.lease.applied = if outcome.failed && raws.iter().any(is_set) {
                    crate::server::Applied::Unknown
                } else {
                    crate::server::Applied::Known(current as Rc<dyn std::any::Any>)
                };
            }
            self.release_servers();
        }
        Ok(false)
    }

    /// Repeats on the session's own books what the completed statements did. Outside the client's blocks they are one
    /// transaction up to the next COMMIT or ROLLBACK, so the settings made there stand or fall with it.
    fn follow(&mut self, raws: &[RawStatement], text: &str, outcome: &Outcome) {
        if !self.block.is_open() {
            self.settings.begin();
        }
        for raw in raws.iter().take(outcome.completed) {
            match &raw.detail {
                sql::Detail::Transaction(command) => self.follow_transaction(command),
                sql::Detail::Setting(command) => self.follow_setting(command, &text[raw.range.clone()]),
                _ => {}
            }
        }
        if !self.block.is_open() {
            self.settings.end(!outcome.failed);
        }
    }

    fn follow_transaction(&mut self, command: &TransactionCommand) {
        match command {
            TransactionCommand::Begin(modes) | TransactionCommand::Start(modes) if !self.block.is_open() => {
                // The statements before it belong to the block.
                self.block.open(super::control::begin_text(modes), false);
            }
            TransactionCommand::Commit { chain } | TransactionCommand::Rollback { chain } => {
                let committed = matches!(command, TransactionCommand::Commit { .. });
                let begin = std::mem::take(&mut self.block.begin);
                self.settings.end(committed);
                let ticket = self.block.ticket.take();
                *self.block = Block::NONE;
                self.block.ticket = ticket;
                self.settings.begin();
                if *chain {
                    self.block.open(begin, false);
                    self.block.chained = true;
                }
            }
            TransactionCommand::Savepoint(name) => self.settings.savepoint(name),
            TransactionCommand::Release(name) => self.settings.release(name),
            TransactionCommand::RollbackTo(name) => {
                self.settings.rollback_to(name);
                self.private_context = None;
            }
            _ => {}
        }
    }

    fn follow_setting(&mut self, command: &SettingCommand, text: &str) {
        match command {
            SettingCommand::Set {
                scope: sql::SettingScope::Local,
                ..
            } => self.settings.set_local(text.to_owned()),
            SettingCommand::Set { name, .. } => self.settings.set(name, text.to_owned()),
            SettingCommand::Reset { name } => self.settings.reset(name),
            _ => {}
        }
    }

    /// One statement after the other, in a block that makes them one transaction.
    async fn run_in_turn(&mut self, text: &str, raws: &[RawStatement]) -> Result<bool, Fault> {
        for raw in raws {
            self.tell_held_tag()?;
            let piece = &text[raw.range.clone()];
            let statement = match self.learn(piece, &[], None).await? {
                Learned::One(statement) => statement,
                Learned::Several(_) => return Err(Fault::error("42601", "statement could not be separated")),
            };
            if self.block.state == BlockState::Failed && !super::simple::ends_block(&statement) {
                return Err(failed_block());
            }
            let is_control = matches!(raw.kind, StatementKind::Transaction);
            if !self.block.is_open() && !is_control {
                self.block.open("BEGIN".to_owned(), true);
                self.settings.begin();
            }
            let offset = text[..raw.range.start].chars().count();
            let literals = Literals {
                text: piece,
                literals: &[],
            };
            self.run_simple(&statement, piece, literals, false, offset)
                .await?;
            if self.block.state == BlockState::Failed {
                break;
            }
        }
        Ok(false)
    }
}

fn is_two_phase(command: &TransactionCommand) -> bool {
    matches!(
        command,
        TransactionCommand::Prepare(_)
            | TransactionCommand::CommitPrepared(_)
            | TransactionCommand::RollbackPrepared(_)
    )
}

/// Settings whose replay is their own text.
fn is_plain_set(command: &SettingCommand) -> bool {
    match command {
        SettingCommand::Set { name, .. } => !name.starts_with("drover.") && !name.starts_with("transaction_"),
        SettingCommand::Show { name } => !name.starts_with("drover."),
        _ => false,
    }
}

fn begins_block(raw: &RawStatement) -> bool {
    matches!(
        raw.detail,
        sql::Detail::Transaction(TransactionCommand::Begin(_) | TransactionCommand::Start(_))
    )
}

fn is_set(raw: &RawStatement) -> bool {
    matches!(raw.kind, StatementKind::Set)
}
