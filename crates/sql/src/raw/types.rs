//! Plain owned descriptions of statements, as far as the proxy needs them.

use crate::QualifiedName;
use crate::raw::ddl_types::*;
use crate::raw::statement_node::StatementNode;
use std::ops::Range;

/// Bounds and settings for [`crate::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// The session's `standard_conforming_strings`. When off, a text with a backslash inside a plain string
    /// literal is refused as [`ParseFailure::Unsupported`], since the grammar reads it as if it were on.
    pub standard_conforming_strings: bool,
    /// Longest text handed to the grammar, in bytes.
    pub bytes_max: usize,
    /// Deepest nesting (parentheses, brackets, CASE, NOT and operator chains) handed to the grammar.
    pub depth_max: usize,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self {
            standard_conforming_strings: true,
            bytes_max: 16 << 20,
            depth_max: 1000,
        }
    }
}

/// Why a text was not parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFailure {
    /// The grammar rejects the text; a server would too, and says where.
    #[error("syntax error")]
    Syntax,
    /// The text is longer than the limit.
    #[error("statement of {bytes} bytes is longer than the limit of {limit} bytes")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// The limit it exceeds.
        limit: usize,
    },
    /// The text nests deeper than the limit.
    #[error("statement nests deeper than the limit of {limit} levels")]
    TooDeep {
        /// The limit it exceeds.
        limit: usize,
    },
    /// Valid for some server, but not readable here with certainty.
    #[error("statement cannot be read: {0}")]
    Unsupported(&'static str),
}

/// One statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawStatement {
    /// Bytes of the text this statement occupies, without leading white space or comments and without the semicolon.
    pub range: Range<usize>,
    /// What it is, by the grammar.
    pub node: StatementNode,
    /// What it is, in coarser kinds.
    pub kind: StatementKind,
    /// Everything it names.
    pub names: Names,
    /// What the proxy needs to know of this kind of statement.
    pub detail: Detail,
}

/// Kind of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// SELECT, VALUES, TABLE (also with INTO: see [`Names::select_into`]).
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// COPY.
    Copy,
    /// BEGIN, COMMIT, SAVEPOINT and so on.
    Transaction,
    /// SET, RESET.
    Set,
    /// SHOW.
    Show,
    /// DISCARD.
    Discard,
    /// SET CONSTRAINTS.
    SetConstraints,
    /// EXPLAIN.
    Explain,
    /// PREPARE.
    Prepare,
    /// EXECUTE.
    Execute,
    /// DEALLOCATE.
    Deallocate,
    /// DECLARE CURSOR.
    DeclareCursor,
    /// FETCH, MOVE.
    Fetch,
    /// CLOSE.
    CloseCursor,
    /// LISTEN.
    Listen,
    /// NOTIFY.
    Notify,
    /// UNLISTEN.
    Unlisten,
    /// LOCK TABLE.
    Lock,
    /// TRUNCATE.
    Truncate,
    /// VACUUM.
    Vacuum,
    /// ANALYZE.
    Analyze,
    /// CLUSTER.
    Cluster,
    /// REINDEX.
    Reindex,
    /// DO.
    Do,
    /// CALL.
    Call,
    /// CREATE TABLE.
    CreateTable,
    /// CREATE TABLE AS, CREATE MATERIALIZED VIEW.
    CreateTableAs,
    /// REFRESH MATERIALIZED VIEW.
    RefreshMaterializedView,
    /// ALTER TABLE (also ALTER INDEX, VIEW, SEQUENCE … with table actions: see [`AlterTable::object`]).
    AlterTable,
    /// DROP of an object of this kind.
    Drop(ObjectKind),
    /// CREATE INDEX.
    Index,
    /// CREATE VIEW.
    View,
    /// CREATE or ALTER FUNCTION, PROCEDURE, ROUTINE.
    Function,
    /// CREATE TRIGGER.
    Trigger,
    /// CREATE RULE.
    Rule,
    /// CREATE or ALTER TYPE, DOMAIN.
    Type,
    /// CREATE SCHEMA.
    Schema,
    /// CREATE or ALTER EXTENSION.
    Extension,
    /// CREATE, ALTER, DROP ROLE and their like.
    Role,
    /// GRANT or REVOKE, on objects and of roles.
    Grant,
    /// COMMENT ON, SECURITY LABEL.
    Comment,
    /// CREATE or ALTER SEQUENCE.
    Sequence,
    /// ALTER … RENAME TO.
    Rename,
    /// ALTER … SET SCHEMA.
    SetSchema,
    /// ALTER … OWNER TO.
    Owner,
    /// CREATE or ALTER POLICY.
    Policy,
    /// CREATE, ALTER DATABASE, TABLESPACE, SYSTEM and CHECKPOINT: the server, not the database.
    Server,
    /// Any other utility statement, by the grammar's node name.
    OtherUtility(&'static str),
}

/// Kind of a database object in DROP, COMMENT, RENAME and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ObjectKind {
    Table,
    Index,
    View,
    MaterializedView,
    Sequence,
    ForeignTable,
    Function,
    Procedure,
    Routine,
    Aggregate,
    Type,
    Domain,
    Schema,
    Extension,
    Trigger,
    Rule,
    Policy,
    Column,
    TableConstraint,
    Role,
    Database,
    Collation,
    Operator,
    Statistics,
    Publication,
    Subscription,
    AccessMethod,
    Cast,
    Conversion,
    /// The default of a column or domain.
    Default,
    EventTrigger,
    ForeignDataWrapper,
    ForeignServer,
    Language,
    LargeObject,
    OperatorClass,
    OperatorFamily,
    /// A configuration parameter (GRANT SET ON PARAMETER).
    Parameter,
    Tablespace,
    TextSearchConfiguration,
    TextSearchDictionary,
    TextSearchParser,
    TextSearchTemplate,
    Transform,
    UserMapping,
    /// Parts of other objects, which no statement names by themselves: members of operator families, default privileges,
    /// entries of publications.
    Part,
}

/// Everything a statement names, collected from every node of its raw tree.
///
/// Names are as written: nothing here knows the search path, and a relation name may turn out to be a CTE
/// (compare [`Names::ctes`]). Function bodies given as strings are not looked into: see [`CreateFunction`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Relations in FROM, as targets, in utility statements (every range variable of the tree).
    pub relations: Vec<QualifiedName>,
    /// Functions, aggregates and procedures called.
    pub functions: Vec<QualifiedName>,
    /// Types in casts, column definitions and so on; `pg_catalog` is filled in where the grammar does that.
    pub types: Vec<QualifiedName>,
    /// Operators spelt by the user.
    pub operators: Vec<QualifiedName>,
    /// Names of common table expressions anywhere in the statement.
    pub ctes: Vec<String>,
    /// Collations named with COLLATE.
    pub collations: Vec<QualifiedName>,
    /// String constants up to 256 bytes: a cast to `regclass` or a function such as `nextval` can make a name of them.
    pub strings: Vec<String>,
    /// Relations that INSERT, UPDATE, DELETE or MERGE write, also within CTEs.
    pub written: Vec<QualifiedName>,
    /// Some SELECT has FOR UPDATE / SHARE.
    pub locks_rows: bool,
    /// A SELECT … INTO.
    pub select_into: bool,
    /// Keywords like CURRENT_TIMESTAMP, CURRENT_USER (which have no function name).
    pub value_functions: bool,
    /// A string constant has a word that dates and times read as a moment relative to the clock, like `'now'`.
    pub relative_times: bool,
    /// The highest `$n` in the text; 0 when there is none.
    pub params_max: u32,
}

/// Details per kind of statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Nothing beyond kind and names.
    None,
    /// BEGIN and friends.
    Transaction(TransactionCommand),
    /// SET, RESET, SHOW, DISCARD.
    Setting(SettingCommand),
    /// COPY.
    Copy(Box<CopyStatement>),
    /// INSERT.
    Insert(Box<InsertStatement>),
    /// A statement that is nothing but a call of, or a selection from, something in schema `drover`.
    Drover(DroverCall),
    /// EXPLAIN.
    Explain(Box<Explain>),
    /// PREPARE name AS statement.
    Prepare {
        /// Name of the prepared statement.
        name: String,
        /// Bytes of the inner statement.
        inner: Range<usize>,
        /// Kind of the inner statement.
        inner_kind: StatementKind,
    },
    /// EXECUTE name.
    Execute {
        /// Name of the prepared statement.
        name: String,
    },
    /// DEALLOCATE name, or ALL.
    Deallocate {
        /// `None` for ALL.
        name: Option<String>,
    },
    /// DECLARE, FETCH, MOVE, CLOSE.
    Cursor(Cursor),
    /// LISTEN, NOTIFY, UNLISTEN.
    Channel {
        /// `None` for UNLISTEN *.
        name: Option<String>,
    },
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// CREATE TABLE AS, CREATE MATERIALIZED VIEW, REFRESH.
    CreateTableAs(Box<CreateTableAs>),
    /// CREATE INDEX.
    Index(Box<IndexStatement>),
    /// ALTER TABLE.
    AlterTable(Box<AlterTable>),
    /// DROP.
    Drop(DropStatement),
    /// TRUNCATE.
    Truncate(Truncate),
    /// VACUUM, ANALYZE, CLUSTER, REINDEX.
    Maintenance(Maintenance),
    /// LOCK TABLE.
    Lock(LockStatement),
    /// ALTER … RENAME, SET SCHEMA, OWNER TO.
    Rename(Rename),
    /// CREATE FUNCTION, PROCEDURE.
    Function(Box<CreateFunction>),
    /// DO.
    Do(DoBlock),
    /// CREATE TRIGGER.
    Trigger(Box<CreateTrigger>),
    /// CREATE VIEW.
    View(CreateView),
    /// CREATE or ALTER SEQUENCE.
    Sequence(SequenceStatement),
    /// COMMENT ON, SECURITY LABEL ON, ALTER … DEPENDS ON EXTENSION, ALTER EXTENSION … ADD and DROP.
    Comment(ObjectReference),
    /// CREATE SCHEMA.
    Schema {
        /// Name; `None` when it follows the role.
        name: Option<String>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// There are schema elements inside the statement.
        has_elements: bool,
        /// AUTHORIZATION: the role, as SQL has it.
        role: Option<String>,
    },
    /// GRANT or REVOKE.
    Grant(Grant),
    /// DROP OWNED.
    DropOwned {
        /// The roles; `None` for one given as CURRENT_USER or the like.
        roles: Vec<Option<String>>,
        /// CASCADE.
        cascade: bool,
    },
    /// CREATE or ALTER PUBLICATION.
    Publication {
        /// FOR ALL TABLES, or TABLES IN SCHEMA: it publishes tables that it does not name.
        unnamed_tables: bool,
    },
    /// CREATE or ALTER SUBSCRIPTION.
    Subscription {
        /// Afterwards it may write tables that it did not write before.
        takes_tables: bool,
    },
    /// ALTER TYPE … RENAME VALUE. (ADD VALUE has no details.)
    RenameLabel {
        /// The enum.
        name: QualifiedName,
    },
    /// ALTER DATABASE with options.
    AlterDatabase {
        /// SET TABLESPACE.
        tablespace: bool,
    },
}

/// Isolation level of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// Modes of BEGIN and SET TRANSACTION; `None` means not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY (`true`) or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE (`true`) or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// A transaction control statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionCommand {
    /// BEGIN.
    Begin(TransactionModes),
    /// START TRANSACTION: the same, but for its command tag.
    Start(TransactionModes),
    /// COMMIT or END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK or ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// PREPARE TRANSACTION.
    Prepare(String),
    /// COMMIT PREPARED.
    CommitPrepared(String),
    /// ROLLBACK PREPARED.
    RollbackPrepared(String),
}

/// How long a SET lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SettingScope {
    /// SET or SET SESSION.
    Session,
    /// SET LOCAL.
    Local,
}

/// What DISCARD discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DiscardTarget {
    All,
    Plans,
    Sequences,
    Temp,
}

/// A statement about session settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingCommand {
    /// SET name = value, … (also the special forms: TIME ZONE, NAMES, SCHEMA, ROLE, SESSION AUTHORIZATION, XML OPTION).
    Set {
        /// SESSION or LOCAL.
        scope: SettingScope,
        /// Name in lower case, for instance `timezone`, `search_path`, `role`, `drover.read_from`.
        name: String,
        /// The values as the server would keep them, one string per list element, unquoted.
        values: Vec<String>,
        /// The value list as SQL text that can follow `SET name TO`; quoted so that it reads the same everywhere.
        /// `None` when only replaying the original statement is exact (then do that).
        sql: Option<String>,
    },
    /// SET name TO DEFAULT.
    SetDefault {
        /// SESSION or LOCAL.
        scope: SettingScope,
        /// Name in lower case.
        name: String,
    },
    /// SET name FROM CURRENT (only inside function definitions, a server refuses it elsewhere).
    SetFromCurrent {
        /// Name in lower case.
        name: String,
    },
    /// RESET name.
    Reset {
        /// Name in lower case.
        name: String,
    },
    /// RESET ALL.
    ResetAll,
    /// SHOW name; `all` for SHOW ALL.
    Show {
        /// Name in lower case.
        name: String,
    },
    /// SET TRANSACTION modes.
    Transaction(TransactionModes),
    /// SET TRANSACTION SNAPSHOT.
    TransactionSnapshot(String),
    /// SET SESSION CHARACTERISTICS AS TRANSACTION modes.
    SessionCharacteristics(TransactionModes),
    /// DISCARD.
    Discard(DiscardTarget),
}

/// COPY's options; `None` means not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// FORMAT in lower case: `text`, `csv`, `binary`.
    pub format: Option<String>,
    /// DELIMITER.
    pub delimiter: Option<String>,
    /// NULL.
    pub null: Option<String>,
    /// DEFAULT.
    pub default: Option<String>,
    /// HEADER in lower case: `true`, `false`, `match`.
    pub header: Option<String>,
    /// QUOTE.
    pub quote: Option<String>,
    /// ESCAPE.
    pub escape: Option<String>,
    /// ENCODING.
    pub encoding: Option<String>,
    /// FREEZE.
    pub freeze: bool,
    /// Names of all other options given, in lower case (force_quote, force_null, on_error, log_verbosity …).
    pub others: Vec<String>,
}

/// Where COPY reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEndpoint {
    /// STDIN or STDOUT: the client connection.
    Client,
    /// A file of the server.
    File(String),
    /// A program run by the server.
    Program(String),
}

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStatement {
    /// The table; `None` for COPY (query).
    pub table: Option<QualifiedName>,
    /// Columns listed; empty for all.
    pub columns: Vec<String>,
    /// Bytes of the query in `COPY (query)`, without the parentheses.
    pub query: Option<Range<usize>>,
    /// COPY … FROM.
    pub from: bool,
    /// Client, file or program.
    pub endpoint: CopyEndpoint,
    /// Options.
    pub options: CopyOptions,
    /// There is a WHERE clause.
    pub has_where: bool,
}

/// One value of a VALUES row, as far as it can be a key candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowExpr {
    /// `$n`.
    Param(u16),
    /// A constant; its bytes in the text, with the sign of a negative number.
    Literal(Range<usize>),
    /// A parameter or constant that is cast once.
    Cast {
        /// What is cast.
        inner: Box<RowExpr>,
        /// The type it is cast to.
        to: TypeRef,
    },
    /// NULL.
    Null,
    /// DEFAULT.
    Default,
    /// Anything else.
    Other,
}

/// One row of a VALUES list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesRow {
    /// Bytes from `(` to `)`.
    pub range: Range<usize>,
    /// Its expressions in order.
    pub values: Vec<RowExpr>,
}

/// The VALUES list of an INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesList {
    /// From the first row's `(` to the last row's `)`.
    pub range: Range<usize>,
    /// The rows in order.
    pub rows: Vec<ValuesRow>,
    /// The source is nothing but `VALUES (…), …`: no WITH, ORDER BY, LIMIT around it.
    pub plain: bool,
}

/// INSERT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertStatement {
    /// The target.
    pub table: QualifiedName,
    /// Alias of the target.
    pub alias: Option<String>,
    /// Columns listed; empty for all. Columns with subscripts or fields set [`InsertStatement::has_indirection`].
    pub columns: Vec<String>,
    /// Some listed column has a subscript or a field selection.
    pub has_indirection: bool,
    /// The rows of INSERT … VALUES.
    pub values: Option<ValuesList>,
    /// INSERT … DEFAULT VALUES.
    pub default_values: bool,
    /// ON CONFLICT.
    pub on_conflict: bool,
    /// RETURNING.
    pub returning: bool,
    /// WITH.
    pub with: bool,
    /// OVERRIDING.
    pub overriding: bool,
}

/// What a Drover statement asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DroverForm {
    /// `SELECT drover.f(args)`.
    Select,
    /// `SELECT * FROM drover.f(args)`.
    FromFunction,
    /// `SELECT * FROM drover.v`, possibly with WHERE, ORDER BY and so on.
    View,
    /// `CALL drover.f(args)`.
    Call,
}

/// An argument of a Drover function: only constants are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DroverArg {
    /// NULL.
    Null,
    /// A string, number or boolean constant as text (`true`/`false` for booleans; a cast is ignored).
    Text(String),
    /// `ARRAY['a', …]` of constants.
    Array(Vec<String>),
    /// `$n`.
    Param(u16),
    /// Something that is not a constant.
    Other,
}

/// A statement that is exactly one call of, or one selection from, something in schema `drover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroverCall {
    /// Name without the schema.
    pub function: String,
    /// How it is asked for.
    pub form: DroverForm,
    /// Arguments with their names (`name => value`), in order.
    pub args: Vec<(Option<String>, DroverArg)>,
    /// The statement has more than the bare selection: other targets than `*`, WHERE, ORDER BY, LIMIT, joins …
    pub decorated: bool,
}

/// EXPLAIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// EXPLAIN (ROUTE): Drover's own.
    pub route: bool,
    /// ANALYZE is on.
    pub analyze: bool,
    /// VERBOSE is on.
    pub verbose: bool,
    /// FORMAT in lower case.
    pub format: Option<String>,
    /// All options in lower case with their values as text.
    pub options: Vec<(String, Option<String>)>,
    /// Bytes of the inner statement.
    pub inner: Range<usize>,
    /// The inner statement, described like any other.
    pub statement: Box<RawStatement>,
}

/// DECLARE, FETCH, MOVE, CLOSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// DECLARE.
    Declare {
        /// Cursor name.
        name: String,
        /// WITH HOLD.
        hold: bool,
        /// SCROLL.
        scroll: bool,
        /// BINARY.
        binary: bool,
        /// Bytes of the query.
        query: Range<usize>,
    },
    /// FETCH or MOVE.
    Fetch {
        /// Cursor name.
        name: String,
        /// MOVE.
        is_move: bool,
    },
    /// CLOSE name or CLOSE ALL.
    Close {
        /// `None` for ALL.
        name: Option<String>,
    },
}
