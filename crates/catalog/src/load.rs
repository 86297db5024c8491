//! Loading schema facts: the queries to run on the home shard, and the builder that takes their rows.
//!
//! The caller runs [`PREAMBLE`], every query of [`QueryId::ALL`], then [`EPILOGUE`] on one connection as a user that
//! can read the catalogs, with results in text format, and gives the rows to [`SnapshotBuilder::from_rows`].
//! An object dropped meanwhile can make a query fail (`cache lookup failed`): run all of it again.

use crate::{
    BodyParser, Collation, Database, Function, Map, Oid, Operator, Relation, ShardingInput, Snapshot,
    SortOrder, Type, build,
};

mod queries;
mod rows;
#[cfg(test)]
mod tests;

/// Statements to run first (simple protocol): one read-only snapshot, and settings that printed expressions depend on.
pub const PREAMBLE: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off; \
    SET LOCAL client_encoding = 'UTF8'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
    SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL jit = off";

/// Statement to run last.
pub const EPILOGUE: &str = "COMMIT";

/// Most rows accepted from one query: a catalog larger than this is refused instead of eating the memory.
pub const ROWS_MAX: usize = 5_000_000;

/// One load query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueryId {
    /// The database itself.
    Database,
    /// Tables, views, sequences …
    Relations,
    /// Columns of user relations.
    Columns,
    /// Unique and exclusion indexes.
    Indexes,
    /// CHECK and foreign keys.
    Constraints,
    /// Functions.
    Functions,
    /// Types.
    Types,
    /// Operators.
    Operators,
    /// Collations.
    Collations,
    /// Small facts of several kinds: inheritance, triggers, policies, casts, operator families, dependencies.
    Links,
}

impl QueryId {
    /// All queries, in an order in which rows may be handed over.
    pub const ALL: [QueryId; 10] = [
        QueryId::Database,
        QueryId::Relations,
        QueryId::Columns,
        QueryId::Indexes,
        QueryId::Constraints,
        QueryId::Functions,
        QueryId::Types,
        QueryId::Operators,
        QueryId::Collations,
        QueryId::Links,
    ];

    /// SQL text of the query: one statement, no parameters.
    pub fn sql(self) -> String {
        queries::sql(self)
    }

    /// The same for a builder made by [`SnapshotBuilder::reload`]: without built-in objects, three times as fast.
    pub fn reload_sql(self) -> String {
        queries::reload_sql(self)
    }
}

/// Why facts do not make a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A row is shorter than its query's select list, or a value is NULL where none can be.
    #[error("{query:?} row has no value in column {column}")]
    MissingValue {
        /// Query.
        query: QueryId,
        /// Column, from 0.
        column: usize,
    },
    /// A value does not parse.
    #[error("{query:?} row has unexpected {value:?} in column {column}")]
    BadValue {
        /// Query.
        query: QueryId,
        /// Column, from 0.
        column: usize,
        /// The value, cut to a bounded length.
        value: String,
    },
    /// More than [`ROWS_MAX`].
    #[error("{query:?} returned too many rows")]
    TooManyRows {
        /// Query.
        query: QueryId,
    },
    /// The sharding metadata names a map that does not exist.
    #[error("table {table} refers to shard map {map}, which does not exist")]
    NoSuchMap {
        /// Qualified table name.
        table: String,
        /// Map.
        map: crate::MapId,
    },
    /// The sharding metadata names a column that the table has not.
    #[error("table {table} has no column {column} to be its sharding key")]
    NoSuchColumn {
        /// Qualified table name.
        table: String,
        /// Column name.
        column: String,
    },
    /// The key column has a type that cannot be a key.
    #[error("column {column} of table {table} cannot be a sharding key: {why}")]
    BadKey {
        /// Qualified table name.
        table: String,
        /// Column name.
        column: String,
        /// Why.
        why: String,
    },
    /// No key column, or too many.
    #[error(
        "table {table} needs a sharding key of one to {} columns",
        crate::KEY_COLUMNS_MAX
    )]
    KeyColumns {
        /// Qualified table name.
        table: String,
    },
    /// Keys of different families share a map.
    #[error("table {table} has a key of another family than the other tables of shard map {map}")]
    MixedMap {
        /// Qualified table name.
        table: String,
        /// Map.
        map: crate::MapId,
    },
    /// Something else than a table is listed as sharded.
    #[error("{table} is not a table and cannot be sharded")]
    NotATable {
        /// Qualified name.
        table: String,
    },
    /// A partition or inheritance child is listed with another placement than its parent.
    #[error("table {table} is placed otherwise than its parent {parent}")]
    ChildPlacement {
        /// Qualified name.
        table: String,
        /// Qualified name.
        parent: String,
    },
    /// A map has an owner that is not a shard, or the home shard is not listed.
    #[error("shard {shard} is not in the list of shards")]
    NoSuchShard {
        /// The shard.
        shard: crate::ShardId,
    },
    /// A reload found another server version or database than the snapshot it started from: load everything.
    #[error("the server is not the one the known built-in objects come from")]
    OtherServer,
    /// The database is not UTF-8.
    #[error("the database has encoding {encoding}; only UTF8 is supported")]
    NotUtf8 {
        /// Encoding.
        encoding: String,
    },
}

/// Collects facts; [`SnapshotBuilder::build`] makes the snapshot.
///
/// Facts may also be put in directly, which is how tests make a catalog without a server.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuilder {
    pub(crate) database: Database,
    /// Where the built-in objects were taken from, when it was another snapshot.
    pub(crate) builtins_of: Option<Database>,
    pub(crate) relations: Map<Oid, Relation>,
    pub(crate) functions: Map<Oid, Function>,
    pub(crate) bodies: Map<Oid, StoredBody>,
    pub(crate) types: Map<Oid, Type>,
    pub(crate) operators: Map<Oid, Operator>,
    pub(crate) collations: Map<Oid, Collation>,
    pub(crate) hash_equality: Vec<(Oid, Oid, Oid)>,
    pub(crate) sort_orders: Map<Oid, SortOrder>,
    /// Functions that run without being named: of casts, and of operator classes.
    pub(crate) casts: Vec<Oid>,
    /// Functions of languages with variables that outlive a call, which their text seems to use.
    pub(crate) keepers: crate::Set<Oid>,
    /// Functions of enabled event triggers.
    pub(crate) event_triggers: Vec<Oid>,
    pub(crate) inherits: Vec<(Oid, Oid)>,
    pub(crate) triggers: Vec<(Oid, crate::Trigger)>,
    pub(crate) policies: Vec<(Oid, crate::Policy)>,
    pub(crate) parts: Vec<(Oid, crate::Part)>,
    pub(crate) depends: Vec<Depend>,
    pub(crate) foreign_keys: Vec<crate::ForeignKey>,
    /// Functions that may run on replicas whatever is declared of them: schema and name.
    pub(crate) replica_safe: crate::Set<(String, String)>,
}

/// Body of a user function, kept only until the snapshot is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredBody {
    /// Text that is parsed when it runs.
    Text { source: String, definition: String },
    /// `BEGIN ATOMIC` or `RETURN`: all it refers to is among the dependencies.
    Parsed,
}

/// Something that runs when its owner is used, and what it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depend {
    pub(crate) owner: Object,
    pub(crate) why: DependKind,
    pub(crate) on: Object,
}

/// A catalog object that can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Relation(Oid),
    Function(Oid),
    Operator(Oid),
    /// Only for the constraints of domains.
    Type(Oid),
    /// A relation named in a text, where its row may be given to a function unseen.
    Row(Oid),
    /// A relation that is written: its triggers, defaults and constraints run besides what runs when it is read.
    Writes(Oid),
}

/// Which part of the owner refers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DependKind {
    Rule,
    Default,
    Check,
    Policy,
    Trigger,
    Index,
    Body,
}

impl SnapshotBuilder {
    /// Nothing known yet.
    pub fn new() -> SnapshotBuilder {
        SnapshotBuilder::default()
    }

    /// Knows the built-in objects already, from an earlier snapshot of the same database: to be completed by the rows of
    /// all queries in their [`QueryId::reload_sql`] form.
    pub fn reload(known: &Snapshot) -> SnapshotBuilder {
        fn builtins<T: Clone>(all: &Map<Oid, T>) -> Map<Oid, T> {
            all.iter()
                .filter(|(oid, _)| oid.is_builtin())
                .map(|(oid, facts)| (*oid, facts.clone()))
                .collect()
        }
        SnapshotBuilder {
            builtins_of: Some(known.database.clone()),
            relations: builtins(&known.relations),
            functions: builtins(&known.functions),
            types: builtins(&known.types),
            operators: builtins(&known.operators),
            collations: builtins(&known.collations),
            ..SnapshotBuilder::default()
        }
    }

    /// Takes the rows of one query: values in text format, in the order of the select list.
    pub fn from_rows(&mut self, query: QueryId, rows: &[Vec<Option<String>>]) -> Result<(), CatalogError> {
        if rows.len() > ROWS_MAX {
            return Err(CatalogError::TooManyRows { query });
        }
        rows.iter().try_for_each(|row| rows::take(self, query, row))
    }

    /// Sets the facts of the database.
    pub fn set_database(&mut self, database: Database) -> &mut Self {
        self.database = database;
        self
    }

    /// Adds a relation. Its foreign keys are linked to the tables they refer to when the snapshot is built; `parents`,
    /// `triggers`, `policies` and `columns` are taken as they are.
    pub fn add_relation(&mut self, mut relation: Relation) -> &mut Self {
        self.foreign_keys.append(&mut relation.foreign_keys);
        for parent in relation.parents.drain(..) {
            self.inherits.push((relation.oid, parent));
        }
        self.relations.insert(relation.oid, relation);
        self
    }

    /// Adds a function; `source` and `definition` as in [`crate::FunctionBody`], for SQL and PL/pgSQL.
    pub fn add_function(&mut self, function: Function, source: &str, definition: &str) -> &mut Self {
        if !function.builtin {
            let body = StoredBody::Text {
                source: source.to_owned(),
                definition: definition.to_owned(),
            };
            self.bodies.insert(function.oid, body);
        }
        self.functions.insert(function.oid, function);
        self
    }

    /// Adds a type.
    pub fn add_type(&mut self, facts: Type) -> &mut Self {
        self.types.insert(facts.oid, facts);
        self
    }

    /// Adds an operator.
    pub fn add_operator(&mut self, operator: Operator) -> &mut Self {
        self.operators.insert(operator.oid, operator);
        self
    }

    /// Says that an operator is the equality of a hash operator family for these operand types.
    pub fn add_hash_equality(&mut self, operator: Oid, left: Oid, right: Oid) -> &mut Self {
        self.hash_equality.push((operator, left, right));
        self
    }

    /// Says how an operator sorts.
    pub fn add_sort_order(&mut self, operator: Oid, order: SortOrder) -> &mut Self {
        self.sort_orders.insert(operator, order);
        self
    }

    /// Adds a collation.
    pub fn add_collation(&mut self, collation: Collation) -> &mut Self {
        self.collations.insert(collation.oid, collation);
        self
    }

    /// Says that a view (or a rule, policy, default … of a relation) refers to a relation.
    pub fn add_view_dependency(&mut self, view: Oid, relation: Oid) -> &mut Self {
        let (owner, on) = (Object::Relation(view), Object::Relation(relation));
        self.depends.push(Depend {
            owner,
            why: DependKind::Rule,
            on,
        });
        self
    }

    /// Names functions, `(schema, name)` with all overloads, whose calls do not keep a read from a replica.
    pub fn allow_on_replicas(&mut self, functions: impl IntoIterator<Item = (String, String)>) -> &mut Self {
        self.replica_safe.extend(functions);
        self
    }

    /// Matches facts and sharding metadata, proves functions, and computes the look-up sets.
    pub fn build(self, sharding: &ShardingInput, bodies: &dyn BodyParser) -> Result<Snapshot, CatalogError> {
        build::build(self, sharding, bodies)
    }
}
