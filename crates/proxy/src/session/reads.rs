//! Reads on replicas: which statements of a session go there, and what they may miss.
//!
//! A session has [`Reads`] from the moment it, or a comment in one of its statements, allows reads to leave the primary;
//! without it nothing here runs. The design is docs/decisions/0019.
//!
//! *Where.* Before each statement [`Session::place_read`] decides from what the statement is ([`plan::ReadPlace`]) and what
//! is open whether a replica may serve it. Outside of blocks that is a statement that reads; in a block that is READ
//! ONLY from its beginning it is every statement, until one needs the primary: then the whole block moves there, which
//! READ COMMITTED allows because each of its statements takes a snapshot of its own, and only forward in time. A block
//! that has one snapshot, or a cursor, on a replica is refused instead. [`Session::obtain_replica`] then takes the place of
//! the ordinary checkout.
//!
//! *What it may miss.* Nothing that the session's positions demand ([`positions`]), and nothing of what the plan was made
//! from: a replica that has not replayed the last change of the schema or of the shard map would answer another
//! question. What a replica has replayed is asked on the very connection that will read, before the statement is sent,
//! unless it is known of this connection already: within one life of a server replay only goes forward.
//!
//! *What can go wrong.* An error of a replica, or its end, is the client's business only if something of the answer has
//! left for the client; before that the statement runs again elsewhere ([`again`]).

mod again;
mod at_once;
mod node;
mod obtain;
mod options;
mod own;
mod pipeline;
mod positions;
mod route;

use std::rc::Rc;
use std::time::Instant;

use catalog::ShardId;
use plan::ReadPlace;
use sql::Isolation;
use wire::backend::ErrorFields;

use super::block::BlockState;
use super::settings::Settings;
use super::{Fault, Session};
use crate::conn::OutMark;
use crate::exec::link;
use crate::exec::statement::{Action, Statement};
use crate::nodes::NodeId;
pub(super) use again::{KEPT_BACK_BYTES, ManyRead};
pub(super) use node::{Guard, guarded, guarded_kept_back};
pub use node::{OnReplica, ReplicaMark};
use options::ReadOptions;
pub use options::{Consistency, ReadFrom, ReadHint};
pub(super) use options::{duration, is_from_primaries, snapshot_of_cluster};
pub(super) use own::ASK_DEFAULTS;
use pipeline::Pipeline;
use positions::Positions;
pub use positions::{FloorMap, Floors};

/// Statements of one pipeline that are remembered while it runs.
const RAN_MAX: usize = 16;

/// A session's part in reading from replicas.
#[derive(Debug)]
pub(super) struct Reads {
    /// What the settings come to.
    options: ReadOptions,
    /// What they were when that was found out.
    made_of: Rc<Settings>,
    /// The open transaction had settings of its own then.
    made_of_local: bool,
    /// In force for the statement at hand, if that may be read from a replica.
    now: Option<ReadOptions>,
    /// The statement at hand, while it may be read from a replica.
    statement: Option<Rc<Statement>>,
    /// Something that may write has run since the positions were taken.
    writing: bool,
    /// The open block stays on the primary.
    stays: bool,
    /// A cursor is open on a replica.
    cursors: bool,
    /// Where the answer to the statement at hand begins, while it can be asked elsewhere.
    mark: Option<OutMark>,
    /// Servers that were tried for the statement at hand.
    tried: Vec<(ShardId, NodeId)>,
    /// Servers that failed the short way of what now takes the long way.
    avoid: Vec<(ShardId, NodeId)>,
    /// Until when the statement at hand waits for replicas, once it has begun to look for one.
    wait_until: Option<Instant>,
    /// The statement at hand was last sent to a replica.
    on_replica: bool,
    /// The error of a replica for which the statement at hand runs on the primary.
    held: Option<Box<ErrorFields>>,
    /// The error with which a replica has just answered, and which the client has not been told.
    failed: Option<Box<ErrorFields>>,
    pipeline: Pipeline,
    /// Reads of the pipeline at hand, up to a bound.
    ran: Vec<Rc<Statement>>,
    positions: Positions,
    /// By default a transaction is SERIALIZABLE, which a hot standby does not offer.
    serializable: bool,
    pools: at_once::Pools,
    /// Messages of an errand while a replica has it.
    pub(super) kept: Vec<u8>,
}

impl Session {
    /// The settings have changed: follows what they say of reads. `fresh`: nothing has been written yet.
    pub(super) fn follow_read_settings(&mut self, fresh: bool) {
        if self.reads.is_none() {
            if !ReadOptions::of(&self.settings).leaves_primary() {
                return;
            }
            self.start_reads(fresh);
        }
        let options = ReadOptions::of(&self.settings);
        let serializable = self.isolation() == Isolation::Serializable;
        if let Some(reads) = &mut self.reads {
            reads.options = options;
            reads.serializable = serializable;
            reads.made_of = Rc::clone(self.settings.current());
            reads.made_of_local = self.settings.has_local_own();
        }
    }

    fn start_reads(&mut self, fresh: bool) {
        self.reads = Some(Box::new(Reads {
            options: ReadOptions::of(&self.settings),
            made_of: Rc::clone(self.settings.current()),
            made_of_local: self.settings.has_local_own(),
            now: None,
            statement: None,
            // Of an open block it is not known what it did.
            writing: self.block.is_open(),
            stays: self.block.is_open() && self.servers.iter().any(|server| server.begun),
            cursors: false,
            mark: None,
            tried: Vec::new(),
            avoid: Vec::new(),
            wait_until: None,
            on_replica: false,
            held: None,
            failed: None,
            pipeline: Pipeline::default(),
            ran: Vec::new(),
            // Without a pool it has never had a server.
            positions: Positions::new(!fresh && !self.pools.is_empty()),
            serializable: self.isolation() == Isolation::Serializable,
            pools: Vec::new(),
            kept: Vec::new(),
        }));
    }

    /// The session's reads may leave the primary.
    pub(super) fn leaves_primary(&self) -> bool {
        self.reads
            .as_ref()
            .is_some_and(|reads| reads.options.leaves_primary())
    }

    /// The statement at hand may be read from a replica.
    pub(super) fn reads_replicas(&self) -> bool {
        self.reads.as_ref().is_some_and(|reads| reads.now.is_some())
    }

    /// Decides where a statement that is about to run may be read. Costs one look where replicas are not wanted.
    pub(super) async fn place_read(&mut self, statement: &Rc<Statement>) -> Result<(), Fault> {
        if self.reads.is_none() && statement.reading.hint.is_none() {
            return Ok(());
        }
        Box::pin(self.place_this_read(statement)).await
    }

    /// The same for a statement of the simple protocol, and what else is to be known before it runs.
    pub(super) async fn place_statement(
        &mut self,
        statement: &Rc<Statement>,
        text: &str,
    ) -> Result<(), Fault> {
        self.check_letters(statement, text).await?;
        self.place_read(statement).await?;
        self.check_sql_prepared(statement, text).await
    }

    async fn place_this_read(&mut self, statement: &Rc<Statement>) -> Result<(), Fault> {
        if self.reads.is_none() {
            self.start_reads(false);
        }
        let now = self.read_options_for(statement);
        let writes = !matches!(statement.reading.place, ReadPlace::Replica | ReadPlace::Follows);
        let in_block = self.block.is_open() && !self.block.implicit;
        // A pipeline holds the server of the statement before.
        let replicas = self.servers.iter();
        let replicas = replicas.filter_map(|server| Some((server.shard, server.replica.as_ref()?.id)));
        let Some(reads) = &mut self.reads else {
            return Ok(());
        };
        if !self.extended.is_at_rest() || reads.ran.len() >= RAN_MAX {
            // More of the same pipeline; what has no room is found out another time.
        } else {
            reads.ran.clear();
        }
        if statement.reading.place == ReadPlace::Replica && reads.ran.len() < RAN_MAX {
            reads.ran.push(Rc::clone(statement));
        }
        reads.cursors |= now.is_some() && statement.kind == sql::StatementKind::DeclareCursor;
        reads.stays |= in_block && writes;
        reads.writing |= writes;
        reads.statement = now.is_some().then(|| Rc::clone(statement));
        reads.now = now;
        reads.tried.clear();
        reads.tried.extend_from_slice(&reads.avoid);
        reads.held = None;
        reads.wait_until = None;
        let before = reads.tried.len();
        reads.tried.extend(replicas);
        reads.on_replica = reads.tried.len() > before;
        // The end of a block, or what belongs to no place, goes where the block is.
        if now.is_none() && statement.reading.place != ReadPlace::Follows {
            self.leave_replicas().await?;
        }
        Ok(())
    }

    /// Something runs that is no known statement: on the primary.
    pub(super) async fn place_on_primary(&mut self) -> Result<(), Fault> {
        let Some(reads) = &mut self.reads else {
            return Ok(());
        };
        reads.now = None;
        reads.writing = true;
        reads.stays |= self.block.is_open();
        Box::pin(self.leave_replicas()).await
    }

    /// The options under which a statement may be read from a replica; `None`: it may not.
    fn read_options_for(&mut self, statement: &Statement) -> Option<ReadOptions> {
        let stale = self.reads.as_ref().is_some_and(|reads| {
            let local = reads.made_of_local || self.settings.has_local_own();
            local || !Rc::ptr_eq(&reads.made_of, self.settings.current())
        });
        if stale {
            self.follow_read_settings(false);
        }
        let reads = self.reads.as_ref()?;
        let options = statement.reading.hint.over(reads.options);
        if !options.leaves_primary() || statement.reading.refused.get() {
            return None;
        }
        let allowed = match (self.block.state, self.block.implicit) {
            (BlockState::None, _) => statement.reading.place == ReadPlace::Replica,
            (BlockState::Failed, _) | (_, true) => false,
            (BlockState::Open, false) => {
                let fits = matches!(statement.reading.place, ReadPlace::Replica | ReadPlace::Follows);
                fits && !reads.stays && self.is_read_only_with(statement)
            }
        };
        // A hot standby does not offer SERIALIZABLE.
        (allowed && self.isolation() != Isolation::Serializable).then_some(options)
    }

    /// The open block is READ ONLY, by its own words or by default, and stays so with this statement.
    fn is_read_only_with(&self, statement: &Statement) -> bool {
        if let Action::Other(triage) = &statement.action
            && let plan::Triage::Setting(sql::SettingCommand::Transaction(modes)) = &**triage
            && let Some(read_only) = modes.read_only
        {
            return read_only;
        }
        let default = self.settings.current().get("default_transaction_read_only");
        let by_default = default.is_some_and(|statement| {
            let value = statement.rsplit_once(" TO ").map_or("", |(_, value)| value);
            let value = value.trim_matches(['\'', ';', ' ']).to_ascii_lowercase();
            matches!(value.as_str(), "on" | "true" | "yes" | "1" | "t" | "y")
        });
        let said = format!("{} {}", self.block.begin, self.settings.local_modes()).to_ascii_lowercase();
        match (said.rfind("read only"), said.rfind("read write")) {
            (None, None) => by_default,
            // The one said last counts.
            (only, write) => only > write,
        }
    }

    /// Gives the replicas back that the session holds: what comes next needs the primary.
    async fn leave_replicas(&mut self) -> Result<(), Fault> {
        if !self.servers.iter().any(|server| server.replica.is_some()) {
            return Ok(());
        }
        if let Some(reads) = &mut self.reads {
            reads.on_replica = false;
        }
        if let Some(index) = self.open_index()
            && self.servers[index].replica.is_some()
        {
            // Its part of a pipeline ends here.
            self.settle_batch_for_block().await?;
        }
        let begun = |session: &Self| {
            let mut held = session.servers.iter().filter(|server| server.replica.is_some());
            held.any(|server| server.begun)
        };
        if self.block.is_open() && begun(self) {
            let cursors = self.reads.as_ref().is_some_and(|reads| reads.cursors);
            let portals = (self.servers.iter())
                .any(|server| server.replica.is_some() && self.extended.has_named_portal_on(server.shard));
            if cursors || portals || self.isolation() == Isolation::RepeatableRead {
                return Err(Fault::refused_as(plan::RefusalCode::ReplicaTransaction));
            }
        }
        while let Some(index) = self.servers.iter().position(|server| server.replica.is_some()) {
            let mut server = self.servers.remove(index);
            self.extended.forget_portals_on(server.shard);
            if server.begun && link::query(&mut server.lease, "ROLLBACK").await.is_err() {
                server.lease.dirty = true;
            }
            super::enlist::give_back(server, None);
        }
        Ok(())
    }

    /// A statement outside of blocks has run on one server: takes the position that what it did, or saw, has.
    pub(super) async fn note_statement(&mut self, index: usize) {
        if self.needs_position() {
            // The client need not wait for that.
            self.client.conn.try_flush();
            self.take_position(index).await;
        } else if self.reads.as_ref().is_some_and(|reads| reads.writing) {
            self.position_unknown(index);
        }
        if let Some(reads) = &mut self.reads {
            reads.writing = false;
        }
    }

    /// The same for a statement over several servers, which the session still holds.
    pub(super) async fn note_held_servers(&mut self) {
        if !self.needs_position() {
            return;
        }
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            if !server.busy && server.lease.status == wire::TransactionStatus::Idle {
                self.take_position(index).await;
            } else {
                self.position_unknown(index);
            }
        }
        if let Some(reads) = &mut self.reads {
            reads.writing = false;
        }
    }

    /// The same for a block that was committed on these shards, or may have been.
    pub(super) async fn note_commit(&mut self, shards: &[ShardId]) {
        let wanted = self.needs_position();
        for shard in shards {
            let index = self.servers.iter().position(|server| server.shard == *shard);
            match index {
                Some(index) if wanted => self.take_position(index).await,
                Some(index) => self.position_unknown(index),
                None => self.shard_position_unknown(*shard),
            }
        }
        if let Some(reads) = &mut self.reads {
            reads.writing = false;
        }
    }

    /// Servers are given back, or lost, without their positions having been taken.
    pub(super) fn forget_positions(&mut self) {
        let Some(reads) = &mut self.reads else { return };
        if reads.writing {
            for server in self.servers.iter().filter(|server| server.replica.is_none()) {
                reads.positions.unknown(server.shard);
            }
        }
        if !self.block.is_open() {
            reads.writing = false;
            reads.stays = false;
            reads.cursors = false;
        }
    }

    /// An error of a replica that has not been told to the client.
    pub(super) fn hold_error(&mut self, fields: Option<Box<ErrorFields>>) {
        if let Some(reads) = &mut self.reads {
            reads.failed = fields;
        }
    }

    /// That error, for whoever decides what becomes of it.
    pub(super) fn held_error(&mut self) -> Option<Box<ErrorFields>> {
        self.reads.as_mut()?.failed.take()
    }

    /// One server is lost in the middle of something.
    pub(super) fn shard_position_unknown(&mut self, shard: ShardId) {
        if let Some(reads) = &mut self.reads {
            reads.positions.unknown(shard);
        }
    }

    fn position_unknown(&mut self, index: usize) {
        if let Some(server) = self.servers.get(index)
            && server.replica.is_none()
        {
            self.shard_position_unknown(server.shard);
        }
    }

    /// Somebody will want to know where the statement or block at hand left its servers.
    pub(super) fn needs_position(&self) -> bool {
        self.reads.as_ref().is_some_and(|reads| {
            let consistency = reads.options.consistency;
            consistency == Consistency::Monotonic || (reads.writing && consistency.heeds_writes())
        })
    }
}
