//! What is known about a statement before any server is asked.

use std::ops::Range;

use sql::{CopyStatement, QualifiedName, SettingCommand, TransactionCommand};

use crate::{Refusal, RefusalCode};

/// What triage needs to know about the session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFacts {
    /// A transaction block is open.
    pub in_transaction: bool,
    /// The session has made temporary objects: an unqualified name may mean one of them.
    pub has_temp_objects: bool,
    /// The schemas an unqualified name is looked up in, in order, `"$user"` already resolved; `pg_catalog` is implied
    /// to come first when it is not listed.
    pub search_path: Vec<String>,
}

/// First decision about a statement: from its raw parse tree and the snapshot, no server needed.
#[derive(Debug, Clone, PartialEq)]
pub enum Triage {
    /// Nothing but home relations and proved functions: the text goes to the home shard verbatim.
    Home,
    /// May touch sharded or reference tables: needs the analyzed tree, then [`plan`](crate::plan()).
    Analyze,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT …
    Transaction(TransactionCommand),
    /// SET, RESET, SHOW, DISCARD, `drover.*` settings included.
    Setting(SettingCommand),
    /// `drover.*` functions and views, EXPLAIN (ROUTE): answered by Drover.
    Drover(DroverStatement),
    /// A utility statement and where it runs.
    Ddl(Box<DdlPlan>),
    /// COPY of a sharded or reference table.
    Copy(Box<CopyPlan>),
    /// COPY (query) TO STDOUT of a query that needs [`Triage::Analyze`].
    CopyQuery(Box<CopyStatement>),
    /// CREATE TABLE … AS a query that needs [`Triage::Analyze`].
    CreateAs(Box<sql::CreateTableAs>),
    /// DECLARE of a cursor for a query that needs [`Triage::Analyze`].
    Cursor(Box<sql::Cursor>),
    /// EXPLAIN of a statement that needs [`Triage::Analyze`].
    Explain(Box<ExplainPlan>),
    /// Nothing runs.
    Refuse(Refusal),
}

/// Where a utility statement runs and what it means for the sharding metadata.
///
/// Steps run in order. When `transactional`, all of them are part of one transaction (committed like any write of several
/// shards); otherwise each runs by itself, and the statement is an error inside a transaction block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DdlPlan {
    /// What runs.
    pub steps: Vec<DdlStep>,
    /// What changes in the topology store, once the steps have succeeded.
    pub effects: Vec<MetadataEffect>,
    /// Whether it can run inside a transaction block.
    pub transactional: bool,
    /// Schema facts may have changed: load a new snapshot afterwards.
    pub changes_schema: bool,
    /// The text has options in namespace `drover`: send what [`sql::strip_drover_options`] leaves of it.
    pub strips_options: bool,
    /// It calls `nextval`. The sequence of the home shard counts, and the others need not have one: they get
    /// [`sql::without_sequence_defaults`] of the text.
    pub draws: bool,
    /// The statement names several objects in one list.
    pub names_several: bool,
    /// The function whose definition is replaced, if it is there. A shard that cannot have the new one must not keep the
    /// old one.
    pub replaces: Option<String>,
}

/// One piece of a [`DdlPlan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DdlStep {
    /// SQL text; `None`: the client's text.
    pub sql: Option<String>,
    /// Where.
    pub place: DdlPlace,
}

/// Where a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DdlPlace {
    /// On the home shard. Its tag is the answer.
    Home,
    /// On every shard, home first. The home shard's tag is the answer.
    All,
    /// On every shard but home.
    Others,
    /// On every shard but home, under a savepoint and with `check_function_bodies = off`. Where the object, or something
    /// that its definition refers to, does not exist, that is only logged: the object is the home shard's alone. When the
    /// statement names several objects ([`DdlPlan::names_several`]) it is refused then: some of them could be there.
    OthersIfPossible,
}

/// A change of the sharding metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataEffect {
    /// The table was created sharded.
    CreateSharded {
        /// Its name as written.
        table: QualifiedName,
        /// How.
        options: ShardOptions,
    },
    /// The table was created as a reference table.
    CreateReference {
        /// Its name as written.
        table: QualifiedName,
    },
    /// The table was created with all its rows on one shard.
    CreatePlaced {
        /// Its name as written.
        table: QualifiedName,
        /// The shard.
        shard: catalog::ShardId,
    },
    /// Sharded or reference tables, or their key columns, may have other names now.
    Renamed {
        /// The tables, by what they were called before.
        tables: Vec<RenamedTable>,
    },
    /// A schema may have another name now: functions that were declared local go with it, and so does where its new tables
    /// are placed.
    RenamedSchema {
        /// Before.
        from: String,
        /// Afterwards.
        to: String,
    },
    /// A table may have become a partition of a sharded table, which is placed as that one and not recorded, or have stopped
    /// being one.
    Partitioned {
        /// The table.
        table: PartitionName,
        /// The sharded table that it belongs to, or belonged to, through all levels.
        root: RenamedTable,
    },
    /// Schemas whose new tables are placed were dropped (if they still are there afterwards, nothing changes).
    DropSchema {
        /// Their names.
        schemas: Vec<String>,
    },
    /// Sharded or reference tables were dropped (if they still are there afterwards, nothing changes).
    Drop {
        /// Schema and name.
        tables: Vec<(String, String)>,
    },
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionName {
    /// The statement makes it.
    New(QualifiedName),
    /// It was there before.
    Known(RenamedTable),
}

/// A table that gets another name. It is found again by its OID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenamedTable {
    /// Schema before the statement.
    pub schema: String,
    /// Name before the statement.
    pub name: String,
    /// OID on the home shard.
    pub oid: catalog::Oid,
    /// Numbers of its key columns, in order.
    pub key: Vec<i16>,
}

/// How a table is to be sharded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOptions {
    /// Key columns, in the order of the key; those that salt it come after the others. (Where they are not named, they are still
    /// to be found: see [`ShardOptions::lacks_salting`].)
    pub key: Vec<String>,
    /// The key is spread over sub-keys.
    pub salt: Option<catalog::Salt>,
    /// The table whose map it shares.
    pub colocate_with: Option<QualifiedName>,
    /// The scheme; `None`: `hash`, or that of `colocate_with`.
    pub scheme: Option<SchemeOption>,
}

impl ShardOptions {
    /// Whether the key is salted, and by which columns is not known yet: those of the primary key that are not the key.
    pub fn lacks_salting(&self) -> bool {
        self.salt.is_some_and(|salt| salt.key_columns() == self.key.len())
    }

    /// Adds the columns of the primary key that are not the key, as those that salt it.
    ///
    /// # Errors
    /// There is no primary key of more columns than the key has, or it leaves out some of them.
    pub fn salt_by(&mut self, primary_key: &[String]) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::with(RefusalCode::SaltColumns, why));
        if primary_key.is_empty() {
            return refuse("the table has none");
        }
        if let Some(left_out) = self.key.iter().find(|column| !primary_key.contains(column)) {
            return refuse(&format!("{left_out} is not in it"));
        }
        let others = primary_key.iter().filter(|column| !self.key.contains(column));
        let others: Vec<String> = others.cloned().collect();
        match self.key.len() + others.len() {
            _ if others.is_empty() => refuse("all of its columns are the shard key"),
            ..=catalog::KEY_COLUMNS_MAX => {
                self.key.extend(others);
                Ok(())
            }
            many => refuse(&format!(
                "it has {many} columns, and there can be {}",
                catalog::KEY_COLUMNS_MAX
            )),
        }
    }
}

/// A scheme as it is asked for. Names of shards and keys are as written: who knows the shards and the type checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemeOption {
    /// `hash` over all shards.
    Hash,
    /// `modulo` over all shards.
    Modulo,
    /// `range`
    Range {
        /// All ranges but the last, ascending.
        ends: Vec<RangeEnd>,
        /// Shard of the last range.
        last: String,
    },
    /// `list`
    List {
        /// Keys.
        keys: Vec<ListedKey>,
        /// Shard of all others.
        rest: String,
    },
    /// `geo`: keys that are not listed cannot be stored.
    Geo {
        /// Regions.
        keys: Vec<ListedKey>,
    },
    /// `directory` over all shards.
    Directory {
        /// Keys placed one by one.
        keys: Vec<ListedKey>,
    },
}

/// A key and the name of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key; `None` is NULL.
    pub key: Option<String>,
    /// Its shard.
    pub shard: String,
}

/// A range of keys by its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeEnd {
    /// Its shard.
    pub shard: String,
    /// The first key that is no longer in it.
    pub below: String,
}

/// Statements that Drover answers itself.
#[derive(Debug, Clone, PartialEq)]
pub enum DroverStatement {
    /// `drover.shard_table(…)`
    ShardTable {
        /// The table.
        table: QualifiedName,
        /// How.
        options: ShardOptions,
        /// While the table is in use, or in one transaction; `None`: as its size suggests.
        online: Option<bool>,
    },
    /// `drover.cancel_move(…)`
    CancelMove {
        /// The table that is being moved.
        table: QualifiedName,
    },
    /// `drover.reference_table(…)`
    ReferenceTable {
        /// The table.
        table: QualifiedName,
        /// As in [`DroverStatement::ShardTable`].
        online: Option<bool>,
    },
    /// `drover.place_table(…)`
    PlaceTable {
        /// The table.
        table: QualifiedName,
        /// Name of the shard.
        shard: String,
        /// As in [`DroverStatement::ShardTable`].
        online: Option<bool>,
    },
    /// `drover.place_schema(…)`
    PlaceSchema {
        /// The schema.
        schema: String,
        /// Name of the shard on which its new tables are placed.
        shard: String,
    },
    /// `drover.unshard_table(…)`
    UnshardTable {
        /// The table.
        table: QualifiedName,
        /// As in [`DroverStatement::ShardTable`].
        online: Option<bool>,
    },
    /// `drover.declare_local(…)`
    DeclareLocal {
        /// Function name.
        function: QualifiedName,
        /// Argument types as written, when given.
        arguments: Option<String>,
    },
    /// `drover.pin_key(…)`, `drover.unpin_key(…)`
    PinKey {
        /// The table.
        table: QualifiedName,
        /// The key, as PostgreSQL prints it.
        key: String,
        /// Name of the shard; `None`: the key is no longer pinned.
        shard: Option<String>,
    },
    /// `drover.create_global_index(…)`
    CreateGlobalIndex {
        /// The table.
        table: QualifiedName,
        /// The columns, in order.
        columns: Vec<String>,
        /// Whether values may be there once only.
        unique: bool,
        /// What the index is called; `None`: as PostgreSQL would call it.
        name: Option<String>,
        /// Beside writers, or while everybody waits; `None`: as the table's size suggests.
        online: Option<bool>,
    },
    /// `drover.drop_global_index(…)`
    DropGlobalIndex {
        /// The table.
        table: QualifiedName,
        /// The columns of the index, in order.
        columns: Vec<String>,
    },
    /// `drover.check_global_index(…)`
    CheckGlobalIndex {
        /// The table.
        table: QualifiedName,
        /// The columns of the index, in order.
        columns: Vec<String>,
        /// Makes damaged entries anew.
        repair: bool,
    },
    /// `drover.check_tables(…)`
    CheckTables {
        /// The only table to be looked at.
        table: Option<QualifiedName>,
        /// Repairs what can be repaired.
        repair: bool,
        /// Only says what would be repaired.
        dry_run: bool,
    },
    /// `drover.schema_diff()`
    SchemaDiff,
    /// `drover.queries_reset()`
    QueriesReset,
    /// `drover.consistency_token()`
    ConsistencyToken,
    /// `drover.current_transaction_id()`
    CurrentTransactionId,
    /// `drover.transaction_status('…')`
    TransactionStatus {
        /// What the function before gave.
        id: String,
    },
    /// `drover.resolve_transactions(…)`
    ResolveTransactions {
        /// How old, as text, what is not decided has to be.
        older_than: Option<String>,
        /// Only says what would be done.
        dry_run: bool,
    },
    /// `SELECT * FROM drover.<view>`
    View(DroverView),
    /// `EXPLAIN (ROUTE) statement`
    ExplainRoute {
        /// Bytes of the inner statement within the text.
        inner: Range<usize>,
        /// What triage says about the inner statement.
        triage: Box<Triage>,
    },
}

/// A view of schema `drover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DroverView {
    /// `drover.shards`
    Shards,
    /// `drover.nodes`
    Nodes,
    /// `drover.tables`
    Tables,
    /// `drover.shard_map`
    ShardMap,
    /// `drover.pools`
    Pools,
    /// `drover.queries`
    Queries,
    /// `drover.reshardings`
    Reshardings,
    /// `drover.transactions`
    Transactions,
    /// `drover.global_indexes`
    GlobalIndexes,
    /// `drover.rules`
    Rules,
}

/// COPY of a sharded or reference table.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyPlan {
    /// The statement.
    pub statement: CopyStatement,
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// FROM STDIN (`true`) or TO STDOUT.
    pub from: bool,
    /// Where the rows are or go.
    pub place: CopyPlace,
    /// Columns in the order of the fields.
    pub columns: Vec<String>,
    /// Columns of COPY FROM which are not among the fields and whose DEFAULT draws from a sequence of the home shard: the
    /// values have to be appended to every row. Name and default expression.
    pub home_defaults: Vec<(String, String)>,
}

/// Where the rows of a COPY are or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyPlace {
    /// By the key.
    Sharded {
        /// Its map.
        map: catalog::MapId,
        /// The columns of the key, in its order; none: all rows go to the one shard of the map.
        key: Vec<CopyKey>,
    },
    /// To every shard, or from the home shard.
    Reference,
}

impl CopyPlace {
    /// Whether a row's key has to be read to find the row's shard.
    pub fn is_divided(&self) -> bool {
        matches!(self, CopyPlace::Sharded { key, .. } if !key.is_empty())
    }
}

/// A column of the key of a table that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyKey {
    /// Which field it is, from 0; `None` for one that is NULL in every row, and for COPY TO, which reads all shards.
    pub field: Option<usize>,
    /// Its number in the table.
    pub attnum: i16,
    /// Its type.
    pub key_type: catalog::KeyType,
}

/// EXPLAIN of a statement that has to be planned.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainPlan {
    /// The statement's own options, inner range and names.
    pub explain: sql::Explain,
}
