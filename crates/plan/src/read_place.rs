//! Whether a statement may be read from a replica: from the raw parse tree and the catalog, not from its first word.
//!
//! The answer says what the statement *is*; whether the session wants replicas, and whether one is fresh enough, is not
//! decided here. In doubt it is the primary.

use std::fmt;

use catalog::{Hindrance, HindranceKind, Scope, Snapshot};
use sql::{CopyEndpoint, Cursor, Detail, QualifiedName, RawStatement, StatementKind as Kind};

/// Where a statement may be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReadPlace {
    /// Any replica that is fresh enough gives what the primary would.
    Replica,
    /// It reads no data of its own: it follows the transaction it is part of (SHOW, FETCH, savepoints), and writes
    /// nothing.
    Follows,
    /// Only the primary.
    Primary(Box<PrimaryOnly>),
    /// Only the primary, because nothing is known about it.
    #[default]
    Unknown,
}

/// Why a statement needs the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryOnly {
    /// Kind of reason.
    pub reason: PrimaryReason,
    /// The object it comes from, when it comes from one: `function public.f`.
    pub what: Option<String>,
}

/// Kinds of reasons for [`ReadPlace::Primary`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrimaryReason {
    /// It writes, or may.
    Writes,
    /// It takes row locks.
    Locks,
    /// It does something to the session's server that lasts beyond the statement.
    Session,
    /// It reads or writes files or programs of the server.
    ServerFiles,
    /// It names a relation or function that is not known.
    UnknownName,
    /// Something it uses needs the primary.
    Uses(HindranceKind),
}

impl PrimaryReason {
    /// One word for case files, views and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Locks => "locks",
            Self::Session => "session",
            Self::ServerFiles => "files",
            Self::UnknownName => "unknown",
            Self::Uses(kind) => match kind {
                HindranceKind::Volatile => "volatile",
                HindranceKind::PerServer => "server",
                HindranceKind::ByName => "by_name",
                HindranceKind::Unlogged => "unlogged",
                HindranceKind::Sequence => "sequence",
                HindranceKind::Foreign => "foreign",
                HindranceKind::LargeObject => "large_object",
            },
        }
    }
}

impl fmt::Display for PrimaryOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.as_deref().unwrap_or("the statement");
        let why = match self.reason {
            PrimaryReason::Writes => "writes",
            PrimaryReason::Locks => "locks rows",
            PrimaryReason::Session => "leaves something with the session's server",
            PrimaryReason::ServerFiles => "uses files or programs of the server",
            PrimaryReason::UnknownName => "is not known",
            PrimaryReason::Uses(kind) => match kind {
                HindranceKind::Volatile => "is volatile",
                HindranceKind::PerServer => "tells of one server",
                HindranceKind::ByName => "reads what is named at run time",
                HindranceKind::Unlogged => "is not on replicas",
                HindranceKind::Sequence => "runs ahead on replicas",
                HindranceKind::Foreign => "is on another server",
                HindranceKind::LargeObject => "holds large objects",
            },
        };
        write!(f, "{what} {why}")
    }
}

/// Decides where a statement may be read. `text` is its text, or a larger one that contains it; `path` the schemas an
/// unqualified name is looked up in, besides `pg_catalog`.
pub fn read_place(raw: &RawStatement, text: &str, path: &[String], snapshot: &Snapshot) -> ReadPlace {
    let cx = Context { text, path, snapshot };
    cx.place(raw)
}

struct Context<'a> {
    text: &'a str,
    path: &'a [String],
    snapshot: &'a Snapshot,
}

impl Context<'_> {
    fn place(&self, raw: &RawStatement) -> ReadPlace {
        match raw.kind {
            Kind::Select => self.read(raw),
            // What is explained, or measured, is the place where the statement would run.
            Kind::Explain => match &raw.detail {
                Detail::Explain(explain) if explain.route => ReadPlace::Follows,
                Detail::Explain(explain) => match explain.statement.kind {
                    Kind::Select => self.place(&explain.statement),
                    _ => primary(PrimaryReason::Writes),
                },
                _ => ReadPlace::Unknown,
            },
            Kind::Copy => match &raw.detail {
                Detail::Copy(copy) if copy.from => primary(PrimaryReason::Writes),
                Detail::Copy(copy) if copy.endpoint != CopyEndpoint::Client => {
                    primary(PrimaryReason::ServerFiles)
                }
                Detail::Copy(_) => self.read(raw),
                _ => ReadPlace::Unknown,
            },
            Kind::DeclareCursor => match &raw.detail {
                Detail::Cursor(Cursor::Declare { hold: false, .. }) => self.read(raw),
                _ => primary(PrimaryReason::Session),
            },
            Kind::Fetch
            | Kind::CloseCursor
            | Kind::Show
            | Kind::Set
            | Kind::SetConstraints
            | Kind::Discard
            | Kind::Transaction
            | Kind::Deallocate => ReadPlace::Follows,
            Kind::Listen | Kind::Unlisten | Kind::Prepare | Kind::Execute => primary(PrimaryReason::Session),
            Kind::Lock => primary(PrimaryReason::Locks),
            _ if matches!(raw.detail, Detail::Drover(_)) => ReadPlace::Follows,
            _ => primary(PrimaryReason::Writes),
        }
    }

    /// A statement that reads as far as its form goes.
    fn read(&self, raw: &RawStatement) -> ReadPlace {
        if matches!(raw.detail, Detail::Drover(_)) {
            return ReadPlace::Follows;
        }
        let names = &raw.names;
        if names.select_into || !names.written.is_empty() {
            return primary(PrimaryReason::Writes);
        }
        if names.locks_rows {
            return primary(PrimaryReason::Locks);
        }
        let snapshot = self.snapshot;
        let found = (names.relations.iter())
            .find_map(|name| self.relation(name, raw))
            .or_else(|| names.functions.iter().find_map(|name| self.function(name)))
            .or_else(|| {
                let mut operators = names.operators.iter();
                operators.find_map(|name| snapshot.operator_hindrance(&name.name).map(uses))
            })
            .or_else(|| {
                let mut types = names.types.iter();
                types.find_map(|name| snapshot.type_hindrance(&name.name).map(uses))
            })
            .or_else(|| snapshot.hindrance_of_all().map(uses))
            .or_else(|| snapshot.hindrance_like_column(self.text).map(uses));
        found.map_or(ReadPlace::Replica, |only| ReadPlace::Primary(Box::new(only)))
    }

    fn relation(&self, name: &QualifiedName, raw: &RawStatement) -> Option<PrimaryOnly> {
        match self.snapshot.relation_hindrance(self.scope(name), &name.name) {
            Some(hindrance) => hindrance.map(uses),
            None if name.schema.is_none() && raw.names.ctes.contains(&name.name) => None,
            None => Some(unknown("relation", name)),
        }
    }

    fn function(&self, name: &QualifiedName) -> Option<PrimaryOnly> {
        match self.snapshot.function_hindrance(self.scope(name), &name.name) {
            Some(hindrance) => hindrance.map(uses),
            None => Some(unknown("function", name)),
        }
    }

    fn scope<'n>(&'n self, name: &'n QualifiedName) -> Scope<'n> {
        match &name.schema {
            Some(schema) => Scope::Schema(schema),
            None => Scope::Path(self.path),
        }
    }
}

fn uses(hindrance: &Hindrance) -> PrimaryOnly {
    PrimaryOnly {
        reason: PrimaryReason::Uses(hindrance.kind),
        what: Some(hindrance.what.clone()),
    }
}

fn unknown(what: &str, name: &QualifiedName) -> PrimaryOnly {
    PrimaryOnly {
        reason: PrimaryReason::UnknownName,
        what: Some(format!("{what} {name}")),
    }
}

fn primary(reason: PrimaryReason) -> ReadPlace {
    ReadPlace::Primary(Box::new(PrimaryOnly { reason, what: None }))
}
