//! The transaction block of a session, and the servers that take part in it.

use std::sync::Arc;

use catalog::{ShardId, Snapshot};
use topology::ClusterRecord;
use wire::TransactionStatus;

use crate::pools::{Lease, TicketGuard};
use crate::spare::Blank;

/// What is known about a server's part in the open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// It only ran statements that cannot write.
    No,
    /// It ran something that may have written: ask it.
    Unknown,
    /// It wrote.
    Yes,
}

impl Wrote {
    /// The stronger of two pieces of knowledge.
    pub fn max_with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            _ => Self::No,
        }
    }
}

/// A server connection the session holds.
#[derive(Debug)]
pub struct Enlisted {
    /// Which shard it belongs to.
    pub shard: ShardId,
    /// The connection.
    pub lease: Lease,
    /// The open block has been begun on it.
    pub begun: bool,
    /// What it did in the open block.
    pub wrote: Wrote,
    /// It was sent something whose answer has not been read to the end.
    pub busy: bool,
    /// Changes of its settings travel in front of the statement to come.
    pub ahead: Option<super::ahead::Ahead>,
    /// It can take no PREPARE TRANSACTION (temporary objects, NOTIFY, held cursors).
    pub unpreparable: bool,
    /// It is a replica and serves reads; `None`: the primary.
    pub replica: Option<Box<super::reads::OnReplica>>,
}

/// State of the client's transaction block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// No block.
    None,
    /// Open.
    Open,
    /// Failed: everything but its end is refused.
    Failed,
}

/// What a schema change needs at its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaChange {
    /// There was none.
    None,
    /// Proxies load the new facts before the client is answered.
    Publish,
    /// It can change what a name means: no statement may run between the commit and the loading.
    Barrier,
}

/// What was known when a block began to look at data.
#[derive(Debug)]
pub struct BeganWith {
    /// Version of the facts.
    pub version: u64,
    /// The metadata.
    pub record: Arc<ClusterRecord>,
    /// The facts.
    pub facts: Arc<Snapshot>,
}

impl BeganWith {
    /// Whether any rows have changed hands since, or a table of several shards is one no more.
    pub fn outdated(&self, now: &ClusterRecord, database: &str) -> bool {
        let gone = |before: &topology::records::TableRecord| {
            let same = |table: &topology::records::TableRecord| {
                (&table.database, table.home_oid) == (&before.database, before.home_oid)
            };
            before.database == database && !now.tables.iter().any(same)
        };
        now.ownership != self.record.ownership || self.record.tables.iter().any(gone)
    }

    /// A table that already was there and whose rows have moved to other shards since. A snapshot taken on one shard
    /// before the move and one taken on another after it show its rows twice, or not at all.
    pub fn moved<'a>(&self, now: &'a ClusterRecord, database: &str) -> Option<&'a str> {
        let known = |table: &&topology::records::TableRecord| {
            let before = self.record.tables.iter().find(|before| {
                before.database == table.database
                    && before.schema == table.schema
                    && before.name == table.name
            });
            before.map_or_else(
                || self.facts.relation_in(&table.schema, &table.name).is_some(),
                |before| before.kind != table.kind,
            )
        };
        let mut tables = now.tables.iter().filter(|table| table.database == database);
        tables.find(known).map(|table| table.name.as_str())
    }
}

/// The name of a transaction that its client knows: it records its outcome under it.
#[derive(Debug)]
pub struct Name {
    /// The name.
    pub gid: commit::Gid,
    /// What it stands for.
    pub secret: commit::Secret,
}

/// The client's transaction block.
#[derive(Debug)]
pub struct Block {
    /// Its state.
    pub state: BlockState,
    /// The text that opens it on a server.
    pub begin: String,
    /// It followed another by AND CHAIN, whose modes it has taken over.
    pub chained: bool,
    /// The block is not the client's: it makes one transaction of several statements sent together.
    pub implicit: bool,
    /// What DDL in this block means for the other sessions and proxies when it commits.
    pub schema: SchemaChange,
    /// What it changes in the sharding metadata.
    pub effects: Vec<plan::MetadataEffect>,
    /// Everybody was stopped before the block's statement ran.
    pub paused: Option<Box<topology::ChangeGuard>>,
    /// How long its statement may wait for a lock, in milliseconds.
    pub lock_timeout_ms: Option<u32>,
    /// Code ran that may have left something of the session on its server: look when the block ends.
    pub inspect: bool,
    /// A NOTIFY takes effect when it commits.
    pub notifies: bool,
    /// A server that took part is gone, and what it did with it: the block can only be rolled back.
    pub lost: bool,
    /// Something was written that must never differ between shards: it is committed on all or none, whatever
    /// `drover.transaction_mode` says.
    pub atomic: bool,
    /// Every shard has taken the snapshot of this REPEATABLE READ block.
    pub snapshots: bool,
    /// They are, or are to be, of one moment: no commit over several shards is seen in part.
    pub cluster_snapshot: bool,
    /// What was known when the block was begun on its first server.
    pub began_with: Option<BeganWith>,
    /// Held from the second shard to the end of the transaction.
    pub ticket: Option<TicketGuard>,
    /// Its name, once the client has asked for it.
    pub name: Option<Box<Name>>,
    /// The command tag of a Query's last statement so far. It is told when the transaction that the Query makes has
    /// committed, or when another statement follows, as PostgreSQL does.
    pub tag: Option<Box<[u8]>>,
}

impl Default for Block {
    fn default() -> Self {
        Self::NONE
    }
}

impl Blank for Block {
    const BLANK: &'static Self = &Self::NONE;

    fn is_blank(&self) -> bool {
        self.state == BlockState::None
            && self.begin.is_empty()
            && !self.implicit
            && self.schema == SchemaChange::None
            && self.effects.is_empty()
            && self.paused.is_none()
            && self.lock_timeout_ms.is_none()
            && !(self.inspect
                || self.notifies
                || self.lost
                || self.atomic
                || self.snapshots
                || self.cluster_snapshot)
            && self.began_with.is_none()
            && self.ticket.is_none()
            && self.name.is_none()
            && self.tag.is_none()
    }
}

impl Block {
    /// No block.
    pub const NONE: Self = Self {
        state: BlockState::None,
        begin: String::new(),
        chained: false,
        implicit: false,
        schema: SchemaChange::None,
        effects: Vec::new(),
        paused: None,
        lock_timeout_ms: None,
        inspect: false,
        notifies: false,
        lost: false,
        atomic: false,
        snapshots: false,
        cluster_snapshot: false,
        began_with: None,
        ticket: None,
        name: None,
        tag: None,
    };

    /// Opens a block.
    pub fn open(&mut self, begin: String, implicit: bool) {
        self.state = BlockState::Open;
        self.begin = begin;
        self.chained = false;
        self.implicit = implicit;
        self.schema = SchemaChange::None;
        self.effects.clear();
        self.paused = None;
        self.lock_timeout_ms = None;
        self.inspect = false;
        self.notifies = false;
        self.lost = false;
        self.atomic = false;
        self.snapshots = false;
        self.cluster_snapshot = false;
        self.began_with = None;
        self.name = None;
        self.tag = None;
    }

    /// True inside a block, failed or not.
    pub fn is_open(&self) -> bool {
        self.state != BlockState::None
    }

    /// What ReadyForQuery says.
    pub fn status(&self) -> TransactionStatus {
        match self.state {
            BlockState::None => TransactionStatus::Idle,
            BlockState::Open => TransactionStatus::InTransaction,
            BlockState::Failed => TransactionStatus::Failed,
        }
    }
}
