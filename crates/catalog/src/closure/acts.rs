//! What using an object may do to the server process besides answering: it stays there for whoever comes next, so a
//! pooler has to know before the connection changes hands.
//!
//! Carried along the same references as [`Reach`](super::Reach), but a question of its own: a function that reads a
//! sharded table may leave the session alone, one that touches no table may take a lock.

use crate::load::{DependKind, SnapshotBuilder};
use crate::{Function, FunctionKind, Generated, Map, Oid, Proof, Volatility, proof};

use super::{Graph, Object};

/// What may be left behind in a server process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionActs(u8);

impl SessionActs {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Something that can be looked for afterwards: settings, temporary objects, session locks, channels, cursors,
    /// prepared statements. Code that could not be read counts.
    pub const SESSION: Self = Self(1);
    /// It may say NOTIFY.
    pub const NOTIFIES: Self = Self(2);
    /// Something that cannot be looked for: custom settings, a seed, variables of a language, connections that an
    /// extension opened.
    pub const PROCESS: Self = Self(4);
    /// It may ask for a value that was drawn from a sequence before (`currval`, `lastval`).
    pub const ASKS: Self = Self(8);

    /// All of `other` is in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// PostgreSQL's own functions that act on the session, or run SQL they are given as text.
const SESSION_BUILTINS: [&str; 20] = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xmlschema",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
];

/// PostgreSQL's own functions whose effect on the process nothing shows.
const PROCESS_BUILTINS: [&str; 5] = [
    "setseed",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_replication_origin_session_setup",
    "pg_replication_origin_session_reset",
];

/// The same of extensions: `(extension, function)`.
const PROCESS_EXTENSIONS: [(&str, &str); 3] = [
    ("dblink", "dblink_connect"),
    ("dblink", "dblink_connect_u"),
    ("dblink", "dblink_open"),
];

/// Where this function is installed, dynamic SQL may open connections that only the process knows.
pub(super) const DBLINK: &str = "dblink_connect";

/// What a function does whose body is not read: a built-in one, one in C, one in a language that is not understood.
pub(super) fn declared(function: &Function) -> SessionActs {
    let name = function.name.as_str();
    if function.builtin {
        return match name {
            "pg_notify" => SessionActs::NOTIFIES,
            "currval" | "lastval" => SessionActs::ASKS,
            // In a view or a default, where nobody reads which setting it makes.
            "set_config" => SessionActs::SESSION.and(SessionActs::PROCESS),
            _ if SESSION_BUILTINS.contains(&name) => SessionActs::SESSION,
            _ if PROCESS_BUILTINS.contains(&name) => SessionActs::PROCESS,
            _ => SessionActs::NONE,
        };
    }
    if function.oid.is_builtin() || function.makes_range || function.kind == FunctionKind::Aggregate {
        return SessionActs::NONE;
    }
    let extension = function.extension.as_deref();
    if extension.is_some_and(|extension| PROCESS_EXTENSIONS.contains(&(extension, name))) {
        return SessionActs::PROCESS;
    }
    match function.language.as_str() {
        "c" if !matches!(proof::native(function), Proof::Unproved(_)) => SessionActs::NONE,
        "internal" if extension.is_some() => SessionActs::NONE,
        // Another name for any built-in function.
        "internal" => SessionActs::SESSION.and(SessionActs::PROCESS),
        _ => SessionActs::SESSION,
    }
}

/// What every object does, as the least fixed point over the references of `graph`.
pub(super) fn solve(graph: &Graph) -> Map<Object, SessionActs> {
    let mut acts = graph.acts.clone();
    let mut work: Vec<Object> = acts.keys().copied().collect();
    while let Some(object) = work.pop() {
        let own = acts.get(&object).copied().unwrap_or_default();
        for user in graph.acting_users.get(&object).into_iter().flatten() {
            let known = acts.entry(*user).or_default();
            if !known.contains(own) {
                *known = known.and(own);
                work.push(*user);
            }
        }
    }
    acts
}

/// Names by which a statement may come to something that acts, unqualified.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActingNames {
    pub(crate) relations: Map<Box<str>, SessionActs>,
    /// … when they are written.
    pub(crate) written: Map<Box<str>, SessionActs>,
    pub(crate) functions: Map<Box<str>, SessionActs>,
    pub(crate) operators: Map<Box<str>, SessionActs>,
    /// What runs without being named: casts, operator classes, constraints and defaults of domains.
    pub(crate) everything: SessionActs,
    /// What DDL runs: event triggers.
    pub(crate) ddl: SessionActs,
}

/// Adds one object's acts to those of its name.
pub(crate) fn add(to: &mut Map<Box<str>, SessionActs>, name: &str, acts: SessionActs) {
    if acts == SessionActs::NONE {
        return;
    }
    match to.get_mut(name) {
        Some(known) => *known = known.and(acts),
        None => {
            to.insert(name.into(), acts);
        }
    }
}

/// The references along which acts are carried, as far as they differ from those of levels: what runs when a table is
/// written does not run when it is read.
pub(super) fn connect(graph: &mut Graph, facts: &SnapshotBuilder) {
    for depend in &facts.depends {
        let Object::Relation(owner) = depend.owner else {
            graph.refer_act(depend.owner, depend.on);
            continue;
        };
        let computed_when_read = depend.why == DependKind::Default && has_virtual_column(facts, owner);
        if matches!(depend.why, DependKind::Rule | DependKind::Policy) || computed_when_read {
            graph.refer_act(depend.owner, depend.on);
        }
        // A view that is written writes what is below.
        let on = match depend.on {
            Object::Relation(below) if depend.why == DependKind::Rule => Object::Writes(below),
            other => other,
        };
        graph.refer_act(Object::Writes(owner), on);
    }
    for oid in facts.relations.keys() {
        graph.refer_act(Object::Writes(*oid), Object::Relation(*oid));
    }
    for (table, trigger) in facts.triggers.iter().filter(|(_, t)| t.enabled) {
        graph.refer_act(Object::Writes(*table), Object::Function(trigger.function));
    }
    for key in &facts.foreign_keys {
        graph.refer_act(Object::Writes(key.table), Object::Relation(key.referenced));
        graph.refer_act(Object::Writes(key.referenced), Object::Writes(key.table));
    }
    for (child, parent) in &facts.inherits {
        graph.refer_act(Object::Relation(*parent), Object::Relation(*child));
        graph.refer_act(Object::Writes(*parent), Object::Writes(*child));
    }
    // Its rule calls set_config.
    for relation in facts.relations.values() {
        if relation.oid.is_builtin() && relation.name == "pg_settings" {
            graph.act(Object::Writes(relation.oid), SessionActs::SESSION);
        }
    }
    for oid in &facts.keepers {
        graph.act(Object::Function(*oid), SessionActs::PROCESS);
    }
}

/// What a body does with a relation it names: PostgreSQL lets only volatile functions write.
pub(super) fn used_by(function: &Function, relation: Oid) -> Object {
    match function.volatility {
        Volatility::Volatile => Object::Writes(relation),
        Volatility::Stable | Volatility::Immutable => Object::Relation(relation),
    }
}

fn has_virtual_column(facts: &SnapshotBuilder, relation: Oid) -> bool {
    facts
        .relations
        .get(&relation)
        .is_some_and(|r| r.columns.iter().any(|c| c.generated == Some(Generated::Virtual)))
}
