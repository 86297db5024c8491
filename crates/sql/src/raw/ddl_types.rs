//! Plain owned descriptions of data definition and maintenance statements.

use crate::QualifiedName;
use crate::raw::types::{ObjectKind, StatementKind};
use std::ops::Range;

/// A type as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRef {
    /// Name; `pg_catalog` is filled in where the grammar does that (`int` is `pg_catalog.int4`).
    pub name: QualifiedName,
    /// Bytes of the text where the name starts, when known.
    pub location: Option<usize>,
    /// Type modifiers that are integer constants, in order.
    pub modifiers: Vec<i64>,
    /// Array dimensions.
    pub dimensions: usize,
    /// SETOF.
    pub set_of: bool,
}

/// A column of CREATE TABLE or ADD COLUMN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Column name.
    pub name: String,
    /// Its type; `None` in `CREATE TABLE … OF type` and partitions.
    pub type_ref: Option<TypeRef>,
    /// NOT NULL (also by PRIMARY KEY).
    pub not_null: bool,
    /// DEFAULT is given.
    pub has_default: bool,
    /// GENERATED … AS (expression).
    pub generated: bool,
    /// GENERATED … AS IDENTITY, or a serial type.
    pub identity: bool,
    /// COLLATE.
    pub collation: Option<QualifiedName>,
}

/// Kind of a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintKind {
    /// CHECK.
    Check,
    /// NOT NULL as a table constraint.
    NotNull,
    /// PRIMARY KEY.
    PrimaryKey,
    /// UNIQUE.
    Unique,
    /// EXCLUDE: the columns it covers by plain equality `=` are those in [`ConstraintDef::columns`].
    Exclusion {
        /// There are elements that are expressions or use another operator than `=`.
        other_elements: bool,
    },
    /// FOREIGN KEY or REFERENCES.
    ForeignKey {
        /// Referenced table.
        table: QualifiedName,
        /// Referenced columns; empty for its primary key.
        columns: Vec<String>,
        /// Any action other than NO ACTION or RESTRICT on update or delete.
        cascades: bool,
    },
    /// Any other (attributes such as DEFERRABLE stand alone in the grammar and are dropped).
    Other,
}

/// A constraint, of a column or of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintDef {
    /// Name if given.
    pub name: Option<String>,
    /// Kind.
    pub kind: ConstraintKind,
    /// Columns constrained, in order.
    pub columns: Vec<String>,
    /// USING INDEX name (ADD CONSTRAINT … USING INDEX).
    pub using_index: Option<String>,
    /// NOT VALID.
    pub not_valid: bool,
    /// DEFERRABLE.
    pub deferrable: bool,
}

/// How a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// `list`, `range` or `hash`.
    pub strategy: String,
    /// Plain columns; expressions are counted in [`PartitionBy::expressions`].
    pub columns: Vec<String>,
    /// Number of expressions among the key.
    pub expressions: usize,
}

/// FOR VALUES … or DEFAULT of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionBound {
    /// Whoever reads it gets the same bounds: constants that are not relative to the clock.
    pub fixed: bool,
}

/// A LIKE clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeClause {
    /// The table copied.
    pub table: QualifiedName,
    /// The grammar's INCLUDING bits.
    pub options: u32,
}

/// CREATE TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTable {
    /// The new table.
    pub table: QualifiedName,
    /// Columns in order.
    pub columns: Vec<ColumnDef>,
    /// All constraints, of columns and of the table.
    pub constraints: Vec<ConstraintDef>,
    /// LIKE clauses.
    pub like: Vec<LikeClause>,
    /// Options in namespace `drover`, in lower case, without the namespace, values as text (empty if none).
    /// Use [`crate::strip_drover_options`] for the text without them.
    pub drover_options: Vec<(String, String)>,
    /// All other WITH options, name with namespace.
    pub options: Vec<(String, Option<String>)>,
    /// INHERITS tables.
    pub inherits: Vec<QualifiedName>,
    /// PARTITION OF table.
    pub partition_of: Option<QualifiedName>,
    /// Its bounds.
    pub bound: Option<PartitionBound>,
    /// PARTITION BY.
    pub partition_by: Option<PartitionBy>,
    /// OF type.
    pub of_type: bool,
    /// TEMPORARY.
    pub temporary: bool,
    /// UNLOGGED.
    pub unlogged: bool,
    /// FOREIGN TABLE.
    pub foreign: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
}

/// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW, REFRESH MATERIALIZED VIEW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTableAs {
    /// The relation made or refreshed.
    pub table: QualifiedName,
    /// TEMPORARY.
    pub temporary: bool,
    /// It is a materialized view.
    pub materialized_view: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// WITH NO DATA.
    pub no_data: bool,
    /// Bytes of the query; `None` for REFRESH.
    pub query: Option<Range<usize>>,
    /// SELECT INTO: where in the query the new table is named.
    pub into: Option<IntoClause>,
    /// Kind of the query (a SELECT, or EXECUTE).
    pub query_kind: StatementKind,
    /// Options in namespace `drover`, as in [`CreateTable::drover_options`].
    pub drover_options: Vec<(String, String)>,
}

/// The clause `INTO [TEMPORARY | UNLOGGED] [TABLE] name` of a SELECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntoClause {
    /// Its bytes.
    pub range: Range<usize>,
    /// UNLOGGED.
    pub unlogged: bool,
}

/// An element of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexElement {
    /// A plain column.
    Column(String),
    /// An expression.
    Expression,
}

/// CREATE INDEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexStatement {
    /// Index name if given.
    pub name: Option<String>,
    /// The table.
    pub table: QualifiedName,
    /// Key elements.
    pub elements: Vec<IndexElement>,
    /// UNIQUE.
    pub unique: bool,
    /// CONCURRENTLY.
    pub concurrently: bool,
    /// WHERE clause given.
    pub partial: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
}

/// Kind of an ALTER TABLE action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum AlterKind {
    AddColumn,
    DropColumn,
    AlterColumnType,
    SetDefault,
    DropDefault,
    SetNotNull,
    DropNotNull,
    SetStatistics,
    SetStorage,
    SetCompression,
    /// A generated column becomes an ordinary one.
    DropExpression,
    ColumnOptions,
    Identity,
    AddConstraint,
    AlterConstraint,
    ValidateConstraint,
    DropConstraint,
    AttachPartition,
    DetachPartition,
    Inherit,
    NoInherit,
    /// SET (…) or RESET (…).
    RelOptions,
    SetLogged,
    SetUnlogged,
    SetTablespace,
    SetAccessMethod,
    /// ENABLE or DISABLE TRIGGER, RULE.
    Triggers,
    RowSecurity,
    ReplicaIdentity,
    Owner,
    ClusterOn,
    /// Any other, by the grammar's number.
    Other(u32),
}

/// One action of ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterAction {
    /// What it does.
    pub kind: AlterKind,
    /// Column, constraint, trigger … it is about.
    pub name: Option<String>,
    /// The new column, or the new type of a column (then only `type_ref` and `collation` count).
    pub column: Option<ColumnDef>,
    /// Constraints it adds, also those within a new column's definition.
    pub constraints: Vec<ConstraintDef>,
    /// Partition attached or detached, table (dis)inherited.
    pub relation: Option<QualifiedName>,
    /// Bounds of a partition that is attached.
    pub bound: Option<PartitionBound>,
    /// DETACH PARTITION CONCURRENTLY or FINALIZE.
    pub concurrently: bool,
    /// SET/RESET options in namespace `drover`, as in [`CreateTable::drover_options`].
    pub drover_options: Vec<(String, String)>,
    /// CASCADE.
    pub cascade: bool,
}

/// ALTER TABLE and its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTable {
    /// The object altered.
    pub table: QualifiedName,
    /// TABLE, INDEX, VIEW …
    pub object: ObjectKind,
    /// IF EXISTS.
    pub if_exists: bool,
    /// ONLY.
    pub only: bool,
    /// Actions in order.
    pub actions: Vec<AlterAction>,
}

/// DROP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropStatement {
    /// What kind of objects.
    pub object: ObjectKind,
    /// Their names (for triggers, rules and policies: the table).
    pub objects: Vec<QualifiedName>,
    /// CASCADE.
    pub cascade: bool,
    /// IF EXISTS.
    pub if_exists: bool,
    /// CONCURRENTLY.
    pub concurrently: bool,
    /// The statement as text with IF EXISTS, for servers that may not have all of the objects.
    pub lenient: Option<String>,
}

/// TRUNCATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// Tables.
    pub tables: Vec<QualifiedName>,
    /// RESTART IDENTITY.
    pub restart_identity: bool,
    /// CASCADE.
    pub cascade: bool,
}

/// VACUUM, ANALYZE, CLUSTER, REINDEX.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// Tables (or the index or table of REINDEX and CLUSTER); empty for the whole database.
    pub tables: Vec<QualifiedName>,
    /// Option names in lower case.
    pub options: Vec<String>,
}

/// LOCK TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockStatement {
    /// Tables.
    pub tables: Vec<QualifiedName>,
    /// Lock mode as the server numbers it (1 ACCESS SHARE … 8 ACCESS EXCLUSIVE).
    pub mode: i32,
    /// NOWAIT.
    pub nowait: bool,
}

/// ALTER … RENAME TO, SET SCHEMA, OWNER TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Kind of the object renamed.
    pub object: ObjectKind,
    /// The relation it is, or belongs to (a column, constraint, trigger …; the type of an attribute); `None` for objects
    /// that are no relations.
    pub relation: Option<QualifiedName>,
    /// The name of an object that is given by its name alone, with the relation's when it belongs to one.
    pub name: Option<QualifiedName>,
    /// Old column, constraint or attribute name.
    pub sub_name: Option<String>,
    /// New name, new schema or new owner.
    pub new_name: String,
    /// IF EXISTS.
    pub if_exists: bool,
}

/// Body of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionBody {
    /// AS 'text'.
    Text(String),
    /// AS 'library', 'symbol'.
    Library(String),
    /// SQL-standard body (its names are among the statement's names).
    Inline,
    /// None given (ALTER FUNCTION).
    None,
}

/// CREATE FUNCTION or PROCEDURE, ALTER FUNCTION.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFunction {
    /// Name.
    pub name: QualifiedName,
    /// LANGUAGE in lower case.
    pub language: Option<String>,
    /// Body.
    pub body: FunctionBody,
    /// It is a procedure.
    pub procedure: bool,
    /// OR REPLACE.
    pub replace: bool,
    /// Settings by SET clauses, names in lower case.
    pub settings: Vec<String>,
    /// Volatility in lower case if given.
    pub volatility: Option<String>,
    /// SECURITY DEFINER.
    pub security_definer: bool,
}

/// DO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoBlock {
    /// LANGUAGE in lower case; `plpgsql` when not given.
    pub language: String,
    /// The code.
    pub body: String,
}

/// CREATE TRIGGER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTrigger {
    /// Trigger name.
    pub name: String,
    /// Its table.
    pub table: QualifiedName,
    /// The function it runs.
    pub function: QualifiedName,
    /// FOR EACH ROW.
    pub row: bool,
    /// CONSTRAINT trigger.
    pub constraint: bool,
    /// REFERENCING: it sees all rows that a statement changes.
    pub transition_tables: bool,
}

/// CREATE VIEW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateView {
    /// Name.
    pub view: QualifiedName,
    /// TEMPORARY.
    pub temporary: bool,
    /// OR REPLACE.
    pub replace: bool,
}

/// CREATE or ALTER SEQUENCE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceStatement {
    /// The sequence.
    pub sequence: QualifiedName,
    /// It is an ALTER.
    pub alter: bool,
    /// TEMPORARY.
    pub temporary: bool,
    /// OWNED BY table.column: the table.
    pub owned_by: Option<QualifiedName>,
}

/// What a COMMENT is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectReference {
    /// Kind.
    pub object: ObjectKind,
    /// The relation, type, function … it names (for columns, constraints and triggers: the table).
    pub name: Option<QualifiedName>,
}

/// GRANT or REVOKE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// GRANT (`true`) or REVOKE.
    pub grant: bool,
    /// Kind of objects; `None` for membership in roles.
    pub object: Option<ObjectKind>,
    /// The relations; empty for other objects, ALL … IN SCHEMA and roles.
    pub objects: Vec<QualifiedName>,
    /// How many objects (or schemas, or roles) it names.
    pub count: usize,
}
