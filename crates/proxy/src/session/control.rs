//! Transaction control: BEGIN, COMMIT, savepoints. Answered here; servers hear of it when they have a part in it.

use plan::Triage;
use sql::{Isolation, TransactionCommand, TransactionModes};
use wire::backend::{ErrorFields, encode};

use super::block::BlockState;
use super::effects::Effects;
use super::many::Args;
use super::reads::ManyRead;
use super::simple::failed_block;
use super::{Fault, Session};
use crate::exec::link;
use crate::exec::statement::Statement;

/// The BEGIN with the modes of the transaction it is asked in.
const CHAINED: &str = "SELECT 'BEGIN ISOLATION LEVEL ' || pg_catalog.upper(pg_catalog.current_setting('transaction_isolation')) \
     || CASE pg_catalog.current_setting('transaction_read_only') WHEN 'on' THEN ' READ ONLY' ELSE ' READ WRITE' END \
     || CASE pg_catalog.current_setting('transaction_deferrable') WHEN 'on' THEN ' DEFERRABLE' ELSE ' NOT DEFERRABLE' END";

impl Session {
    /// Runs a statement that is neither plain home traffic nor planned. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_other(
        &mut self,
        triage: &Triage,
        statement: &Statement,
        text: &str,
    ) -> Result<(), Fault> {
        let elsewhere = matches!(triage, Triage::Refuse(_) | Triage::Drover(_));
        if statement.effects.concerns_sequences() && !elsewhere {
            self.before_sequences_at_home(statement.effects).await?;
        }
        self.run_triaged(triage, statement, text).await?;
        self.note_effects(statement.effects).await
    }

    /// The same for EXPLAIN with what Parse and Bind have said of parameters.
    pub(super) async fn explain_bound(
        &mut self,
        plan: &plan::ExplainPlan,
        statement: &Statement,
        text: &str,
        bound: (&[u32], &Args),
    ) -> Result<(), Fault> {
        if statement.effects.concerns_sequences() {
            self.before_sequences_at_home(statement.effects).await?;
        }
        let read = ManyRead::Explain {
            plan,
            text,
            bound: Some(bound),
        };
        Box::pin(self.read_on_many(read)).await?;
        self.note_effects(statement.effects).await
    }

    /// What a statement that did not run by the common path did to the session.
    async fn note_effects(&mut self, effects: Effects) -> Result<(), Fault> {
        if effects.none() {
            return Ok(());
        }
        let home = self.engine.cluster.home();
        match self.servers.iter().position(|server| server.shard == home) {
            Some(index) => self.after_effects(index, effects, false).await,
            None => Ok(()),
        }
    }

    async fn run_triaged(&mut self, triage: &Triage, statement: &Statement, text: &str) -> Result<(), Fault> {
        match triage {
            Triage::Transaction(command) => self.transaction(command, text).await,
            Triage::Setting(command) => self.setting(command, text).await,
            Triage::Ddl(plan) => self.run_ddl(plan, text, statement.kind).await,
            Triage::Copy(plan) => self.read_on_many(ManyRead::Copy { plan, text }).await,
            Triage::CopyQuery(copy) => self.read_on_many(ManyRead::CopyQuery { copy, text }).await,
            Triage::CreateAs(create) => Box::pin(self.run_create_as(create, text)).await,
            Triage::Cursor(cursor) => Box::pin(self.run_cursor(cursor, text)).await,
            Triage::Drover(wanted) => self.run_drover(wanted, text).await,
            Triage::Explain(plan) => {
                let bound = None;
                self.read_on_many(ManyRead::Explain { plan, text, bound }).await
            }
            Triage::Refuse(refusal) => Err(Fault::refused(refusal)),
            Triage::Home | Triage::Analyze => Err(Fault::error(
                "XX000",
                format!("statement {} has no plan", statement.id.0),
            )),
        }
    }

    /// A transaction control statement.
    pub(super) async fn transaction(
        &mut self,
        command: &TransactionCommand,
        text: &str,
    ) -> Result<(), Fault> {
        match command {
            TransactionCommand::Begin(modes) => {
                self.begin(modes).await?;
                self.complete("BEGIN")
            }
            TransactionCommand::Start(modes) => {
                self.begin(modes).await?;
                self.complete("START TRANSACTION")
            }
            TransactionCommand::Commit { chain } => self.commit_command(*chain).await,
            TransactionCommand::Rollback { chain } => self.rollback_command(*chain).await,
            TransactionCommand::Savepoint(name) => self.savepoint(name).await,
            TransactionCommand::Release(name) => self.release(name).await,
            TransactionCommand::RollbackTo(name) => self.rollback_to(name).await,
            TransactionCommand::Prepare(_)
            | TransactionCommand::CommitPrepared(_)
            | TransactionCommand::RollbackPrepared(_) => self.client_two_phase(command, text).await,
        }
    }

    async fn begin(&mut self, modes: &TransactionModes) -> Result<(), Fault> {
        self.blocks_allowed()?;
        if !self.block.is_open() {
            self.block.open(begin_text(modes), false);
            self.settings.begin();
            return Ok(());
        }
        let implicit = self.block.implicit;
        if implicit {
            // BEGIN in the middle of statements sent together makes their transaction the client's.
            self.block.implicit = false;
        } else {
            self.warn("25001", "there is already a transaction in progress");
        }
        // PostgreSQL sets the modes all the same, or says why they come too late.
        let set = match begin_text(modes).strip_prefix("BEGIN ") {
            Some(modes) => self.set_modes(&format!("SET TRANSACTION {modes}")).await,
            None => Ok(()),
        };
        // No block has begun then.
        self.block.implicit = implicit && set.is_err();
        set
    }

    /// In statement mode a server is free after each statement.
    pub(super) fn blocks_allowed(&self) -> Result<(), Fault> {
        if self.mode == crate::config::PoolMode::Statement {
            return Err(Fault::refused(&plan::Refusal::new(
                plan::RefusalCode::StatementMode,
            )));
        }
        Ok(())
    }

    async fn commit_command(&mut self, chain: bool) -> Result<(), Fault> {
        if !self.block.is_open() || self.block.implicit {
            if chain {
                return Err(Fault::error(
                    "25P01",
                    "COMMIT AND CHAIN can only be used in transaction blocks",
                ));
            }
            self.warn("25P01", "there is no transaction in progress");
            if !self.block.is_open() {
                return self.complete("COMMIT");
            }
        }
        let begin = self.chained_begin(chain).await?;
        let committed = self.end_block(true).await?;
        if let Some(begin) = begin {
            self.block.open(begin, false);
            self.block.chained = true;
            self.settings.begin();
        }
        self.complete(if committed { "COMMIT" } else { "ROLLBACK" })
    }

    /// What opens the block that follows this one by AND CHAIN: one of the modes that this one has, wherever it has them from.
    async fn chained_begin(&mut self, chain: bool) -> Result<Option<String>, Fault> {
        if !chain {
            return Ok(None);
        }
        if self.block.state == BlockState::Failed {
            return self.chained_failed().map(Some);
        }
        let Some(index) = self.servers.iter().position(|server| server.begun) else {
            return Ok(Some(self.block.begin.clone()));
        };
        let name = self.shard_name(self.servers[index].shard);
        let reply = link::query(&mut self.servers[index].lease, CHAINED)
            .await
            .map_err(|error| Fault::lost(&error, &name))?;
        let single = reply.single().map(str::to_owned);
        reply.into_rows().map_err(Fault::Statement)?;
        Ok(Some(single.unwrap_or_else(|| self.block.begin.clone())))
    }

    /// The same for a block that has failed, in which no server can be asked. Its own modes were settings, which the failure has
    /// put back: to the defaults, or to those that it took over from the block before it. Behind a savepoint only what was set
    /// since then is put back.
    fn chained_failed(&self) -> Result<String, Fault> {
        let behind_savepoint = self.settings.savepoints() > 0;
        if behind_savepoint && self.settings.has_modes() {
            return Err(Fault::refused_as(plan::RefusalCode::ChainedModes));
        }
        Ok(match behind_savepoint || self.block.chained {
            true => self.block.begin.clone(),
            false => "BEGIN".to_owned(),
        })
    }

    async fn rollback_command(&mut self, chain: bool) -> Result<(), Fault> {
        if !self.block.is_open() || self.block.implicit {
            if chain {
                return Err(Fault::error(
                    "25P01",
                    "ROLLBACK AND CHAIN can only be used in transaction blocks",
                ));
            }
            self.warn("25P01", "there is no transaction in progress");
            if !self.block.is_open() {
                return self.complete("ROLLBACK");
            }
        }
        let begin = self.chained_begin(chain).await?;
        self.end_block(false).await?;
        if let Some(begin) = begin {
            self.block.open(begin, false);
            self.block.chained = true;
            self.settings.begin();
        }
        self.complete("ROLLBACK")
    }

    async fn savepoint(&mut self, name: &str) -> Result<(), Fault> {
        self.need_block("SAVEPOINT")?;
        self.on_all_begun(&format!("SAVEPOINT {}", sql::quote_ident(name)))
            .await?;
        self.settings.savepoint(name);
        self.complete("SAVEPOINT")
    }

    async fn release(&mut self, name: &str) -> Result<(), Fault> {
        self.need_block("RELEASE SAVEPOINT")?;
        self.need_savepoint(name)?;
        self.on_all_begun(&format!("RELEASE SAVEPOINT {}", sql::quote_ident(name)))
            .await?;
        if let Some(depth) = self.settings.depth_of(name) {
            self.release_listens(depth);
        }
        self.settings.release(name);
        self.complete("RELEASE")
    }

    async fn rollback_to(&mut self, name: &str) -> Result<(), Fault> {
        self.need_block("ROLLBACK TO SAVEPOINT")?;
        if self.block.lost {
            // What the lost server did after the savepoint, and before it, is gone.
            return Err(failed_block());
        }
        self.need_savepoint(name)?;
        self.on_all_begun(&format!("ROLLBACK TO SAVEPOINT {}", sql::quote_ident(name)))
            .await?;
        if let Some(depth) = self.settings.depth_of(name) {
            self.roll_back_listens(depth);
        }
        self.settings.rollback_to(name);
        // Names mean what they meant then.
        self.private_context = None;
        self.block.state = BlockState::Open;
        self.complete("ROLLBACK")
    }

    fn need_block(&self, what: &str) -> Result<(), Fault> {
        if self.block.is_open() && !self.block.implicit {
            return Ok(());
        }
        Err(Fault::error(
            "25P01",
            format!("{what} can only be used in transaction blocks"),
        ))
    }

    fn need_savepoint(&self, name: &str) -> Result<(), Fault> {
        if self.settings.has_savepoint(name) {
            return Ok(());
        }
        Err(Fault::error(
            "3B001",
            format!("savepoint \"{name}\" does not exist"),
        ))
    }

    /// Runs a text on every server that takes part in the block; the first error is the answer.
    async fn on_all_begun(&mut self, text: &str) -> Result<(), Fault> {
        let begun: Vec<usize> = (0..self.servers.len())
            .filter(|index| self.servers[*index].begun)
            .collect();
        for (turn, index) in begun.into_iter().enumerate() {
            let name = self.shard_name(self.servers[index].shard);
            let server = &mut self.servers[index].lease;
            let reply = link::query(server, text)
                .await
                .map_err(|error| Fault::lost(&error, &name))?;
            if turn == 0 {
                // Settings that are taken back, as the server reports them.
                self.client.conn.out().extend_from_slice(&reply.aside);
            }
            reply.into_rows().map_err(Fault::Statement)?;
        }
        Ok(())
    }

    /// The client's own two-phase commands run on the home shard, where nothing else takes part.
    async fn client_two_phase(&mut self, command: &TransactionCommand, text: &str) -> Result<(), Fault> {
        if self.block.state == BlockState::Failed && matches!(command, TransactionCommand::Prepare(_)) {
            // There is nothing to prepare.
            self.end_block(false).await?;
            return self.complete("ROLLBACK");
        }
        let home = self.engine.cluster.home();
        let elsewhere = self.servers.iter().any(|server| server.shard != home);
        let reserved = match command {
            TransactionCommand::Prepare(gid)
            | TransactionCommand::CommitPrepared(gid)
            | TransactionCommand::RollbackPrepared(gid) => gid.starts_with("drover:"),
            _ => false,
        };
        // What the client prepares itself could not tell its outcome under Drover's name.
        let named = matches!(command, TransactionCommand::Prepare(_)) && self.block.name.is_some();
        if elsewhere || reserved || named {
            return Err(Fault::refused_as(plan::RefusalCode::ClientTwoPhase));
        }
        if self.block.state == BlockState::Failed {
            return Err(failed_block());
        }
        let ends = matches!(command, TransactionCommand::Prepare(_));
        if ends && self.has_noted_listens() {
            return Err(Fault::error(
                "0A000",
                "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY",
            ));
        }
        if ends {
            self.need_block("PREPARE TRANSACTION")?;
        } else if self.block.is_open() {
            return Err(Fault::error(
                "25001",
                "COMMIT PREPARED cannot run inside a transaction block",
            ));
        }
        let index = self.enlist(home).await?;
        let skip = self.begin_on(index).await?;
        let server = &mut self.servers[index].lease;
        let lost = |error| Fault::lost(&error, "the home shard");
        link::send_query(server, text).map_err(lost)?;
        link::skip_replies(server, skip).await.map_err(lost)?;
        let reply = link::collect(server).await.map_err(lost)?;
        if ends {
            // The server keeps what SET did in the block; the session's books close like at any end.
            self.servers[index].lease.applied = crate::server::Applied::Unknown;
            self.close_block(reply.tags.last().is_some_and(|tag| tag == "PREPARE TRANSACTION"));
        }
        let tag = reply.tags.last().cloned();
        reply.into_rows().map_err(Fault::Statement)?;
        self.complete(tag.as_deref().unwrap_or("PREPARE TRANSACTION"))
    }

    /// Appends a CommandComplete.
    pub(super) fn complete(&mut self, tag: &str) -> Result<(), Fault> {
        self.observation.completed(tag.as_bytes());
        if self.holds_tags() {
            self.block.tag = Some(tag.as_bytes().into());
            return Ok(());
        }
        self.tell_tag(tag.as_bytes())
    }

    /// Whether command tags are kept until their transaction has committed: those of a Query that is one by itself.
    pub(super) fn holds_tags(&self) -> bool {
        self.in_query && self.block.is_open() && self.block.implicit
    }

    /// Appends the command tag that was kept, if there is one: another statement follows.
    pub(super) fn tell_held_tag(&mut self) -> Result<(), Fault> {
        match self.block.tag.take() {
            Some(tag) => self.tell_tag(&tag),
            None => Ok(()),
        }
    }

    pub(super) fn tell_tag(&mut self, tag: &[u8]) -> Result<(), Fault> {
        encode::command_complete(self.client.conn.out(), tag)
            .map_err(|_| Fault::error("54000", "command tag too long"))
    }

    /// Appends a WARNING.
    pub(super) fn warn(&mut self, code: &str, message: &str) {
        encode::notice(
            self.client.conn.out(),
            &ErrorFields::new("WARNING", code, message),
        );
    }
}

/// The text that opens a block with these modes.
pub(super) fn begin_text(modes: &TransactionModes) -> String {
    let mut text = String::from("BEGIN");
    match modes.isolation {
        None => {}
        Some(Isolation::ReadUncommitted) => text.push_str(" ISOLATION LEVEL READ UNCOMMITTED"),
        Some(Isolation::ReadCommitted) => text.push_str(" ISOLATION LEVEL READ COMMITTED"),
        Some(Isolation::RepeatableRead) => text.push_str(" ISOLATION LEVEL REPEATABLE READ"),
        Some(Isolation::Serializable) => text.push_str(" ISOLATION LEVEL SERIALIZABLE"),
    }
    match modes.read_only {
        None => {}
        Some(true) => text.push_str(" READ ONLY"),
        Some(false) => text.push_str(" READ WRITE"),
    }
    match modes.deferrable {
        None => {}
        Some(true) => text.push_str(" DEFERRABLE"),
        Some(false) => text.push_str(" NOT DEFERRABLE"),
    }
    text
}
