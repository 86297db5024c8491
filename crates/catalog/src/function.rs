//! Facts about functions, and what is proved about running them on one shard.

use crate::Oid;

/// `pg_proc.prokind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FunctionKind {
    /// A plain function.
    #[default]
    Function,
    /// An aggregate.
    Aggregate,
    /// A window function.
    Window,
    /// A procedure.
    Procedure,
}

/// `pg_proc.provolatile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Volatility {
    /// Same arguments, same result, forever.
    Immutable,
    /// Same arguments, same result within one statement.
    Stable,
    /// Anything.
    #[default]
    Volatile,
}

/// What is known about the tables a function reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Touches no table: may run on any shard.
    Pure,
    /// Touches unsharded tables, sequences, large objects or the catalog only: right on the home shard, nowhere else.
    HomeOnly,
    /// Not proved; the text says why and can be shown to a client.
    Unproved(String),
}

impl Default for Proof {
    /// Nothing is proved.
    fn default() -> Self {
        Proof::Unproved("nothing is known about the function".to_owned())
    }
}

/// Facts about one function, from `pg_proc` of the home shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Function {
    /// OID on the home shard.
    pub oid: Oid,
    /// Schema name.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Input argument types (IN, INOUT, VARIADIC), in order.
    pub arg_types: Vec<Oid>,
    /// Result type.
    pub return_type: Oid,
    /// Volatility.
    pub volatility: Volatility,
    /// Language name (`internal`, `c`, `sql`, `plpgsql` …).
    pub language: String,
    /// Kind.
    pub kind: FunctionKind,
    /// Returns NULL on a NULL argument without being called.
    pub strict: bool,
    /// Returns a set.
    pub returns_set: bool,
    /// May have an unlimited number of arguments.
    pub variadic: bool,
    /// In `pg_catalog` with an OID every server shares.
    pub builtin: bool,
    /// Makes values of a range type that a user has made: it came with the type and does nothing else.
    pub makes_range: bool,
    /// Name of the extension it belongs to.
    pub extension: Option<String>,
    /// `SET name = value` clauses are attached.
    pub sets_config: bool,
    /// Runs with the rights of its owner.
    pub security_definer: bool,
    /// Filled in when the snapshot is built.
    pub proof: Proof,
}

impl Function {
    /// Whether it is `drover.next_id()`, which every shard has and proxies can compute themselves.
    pub fn is_next_id(&self) -> bool {
        self.schema == "drover" && self.name == "next_id" && self.arg_types.is_empty()
    }

    /// Whether it returns `trigger` or `event_trigger`.
    pub fn is_trigger(&self) -> bool {
        matches!(self.return_type.0, 2279 | 3838)
    }
}

/// A function body handed to a [`BodyParser`].
#[derive(Debug, Clone, Copy)]
pub struct FunctionBody<'a> {
    /// `sql` or `plpgsql`.
    pub language: &'a str,
    /// The body as stored. (`BEGIN ATOMIC` bodies are never handed over: PostgreSQL records what they refer to.)
    pub source: &'a str,
    /// The whole `CREATE [OR REPLACE] FUNCTION|PROCEDURE …` statement as PostgreSQL prints it.
    pub definition: &'a str,
}

/// What a body names. Names are unqualified and folded as the catalog stores them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyFacts {
    /// Names of relations that may be read or written.
    pub relations: Vec<String>,
    /// Names of functions that may be called, also through CALL.
    pub functions: Vec<String>,
    /// The lists hold every identifier that *could* be such a name, so those that name nothing (variables, keywords,
    /// CTEs) are ignored. A statement that does use a name which exists nowhere fails on any server.
    /// When false, a name that is not known leaves the function unproved.
    pub candidates: bool,
    /// Runs text made at run time (`EXECUTE`, `FOR … IN EXECUTE`, `OPEN … FOR EXECUTE`), or DO.
    pub dynamic_sql: bool,
    /// Changes settings (`SET`, `RESET`), which can change what names mean afterwards.
    pub sets_config: bool,
    /// Runs utility statements other than SET and CALL (DDL, COPY, NOTIFY, transaction control …).
    pub utility: bool,
    /// Runs a statement that leaves something in the server process (LISTEN, LOAD, SELECT INTO a temporary table …).
    pub acts_on_session: bool,
    /// Says NOTIFY.
    pub notifies: bool,
    /// Makes a custom setting that outlasts its transaction, which nothing shows.
    pub keeps_custom_setting: bool,
}

/// Reads function bodies. Implemented over the SQL parser by the caller: this crate parses nothing.
pub trait BodyParser {
    /// Facts of a body, or why it could not be read (the function is then unproved).
    fn body_facts(&self, body: FunctionBody<'_>) -> Result<BodyFacts, String>;
}
