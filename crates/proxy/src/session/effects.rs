//! What a statement does to the session beyond its answer: read off the raw parse tree and the catalog.

use catalog::{Proof, Snapshot};
use sql::{Cursor, Detail, RawStatement, StatementKind};

/// Why a session keeps its home connection between transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PinReason {
    /// It has temporary objects.
    TemporaryObject,
    /// It listens.
    Listen,
    /// It holds, or may hold, a session-level advisory lock.
    AdvisoryLock,
    /// It has a cursor WITH HOLD.
    HeldCursor,
    /// It has a statement prepared by SQL.
    SqlPrepare,
    /// It changed something of the server process that cannot be carried to another (`LOAD`, `setseed`, a setting
    /// made by a function).
    ProcessState,
}

impl PinReason {
    /// True for what an error does not undo, because it is not part of the transaction.
    pub fn survives_errors(self) -> bool {
        matches!(self, Self::AdvisoryLock | Self::SqlPrepare | Self::ProcessState)
    }

    /// One word for views and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TemporaryObject => "temporary object",
            Self::Listen => "listen",
            Self::AdvisoryLock => "advisory lock",
            Self::HeldCursor => "held cursor",
            Self::SqlPrepare => "sql prepare",
            Self::ProcessState => "process state",
        }
    }
}

/// Effects of one statement on the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effects {
    /// The home connection must stay with the session afterwards.
    pub pin: Option<PinReason>,
    /// Code that was not proved harmless runs: look at the server afterwards (settings, temporary objects, locks).
    pub inspect: bool,
    /// It reads what an earlier `nextval` of this session left in the server process.
    pub reads_sequence_state: bool,
}

impl Effects {
    /// Both effects.
    pub fn and(self, other: Self) -> Self {
        Self {
            pin: self.pin.or(other.pin),
            inspect: self.inspect || other.inspect,
            reads_sequence_state: self.reads_sequence_state || other.reads_sequence_state,
        }
    }

    /// Nothing at all: the common case.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads a statement's effects.
pub fn effects_of(raw: &RawStatement, snapshot: &Snapshot) -> Effects {
    let mut effects = Effects {
        pin: pin_by_kind(raw),
        ..Effects::default()
    };
    if matches!(raw.kind, StatementKind::Do | StatementKind::Call) {
        effects.inspect = true;
    }
    if raw
        .names
        .relations
        .iter()
        .any(|name| name.schema.as_deref() == Some("pg_temp"))
        || raw.names.select_into
    {
        effects.pin = effects.pin.or(Some(PinReason::TemporaryObject));
    }
    for function in &raw.names.functions {
        match function.name.as_str() {
            "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared" => {
                effects.pin = effects.pin.or(Some(PinReason::AdvisoryLock));
            }
            "setseed" => effects.pin = effects.pin.or(Some(PinReason::ProcessState)),
            "set_config" => effects.inspect = true,
            "currval" | "lastval" => effects.reads_sequence_state = true,
            name if may_touch_session(name, snapshot) => effects.inspect = true,
            _ => {}
        }
    }
    effects
}

fn pin_by_kind(raw: &RawStatement) -> Option<PinReason> {
    match (&raw.kind, &raw.detail) {
        (StatementKind::Listen, _) => Some(PinReason::Listen),
        (StatementKind::Prepare, _) => Some(PinReason::SqlPrepare),
        (StatementKind::OtherUtility("LoadStmt"), _) => Some(PinReason::ProcessState),
        (_, Detail::Cursor(Cursor::Declare { hold: true, .. })) => Some(PinReason::HeldCursor),
        (_, Detail::Function(function)) if function.name.schema.as_deref() == Some("pg_temp") => {
            Some(PinReason::TemporaryObject)
        }
        (_, Detail::CreateTable(table)) if table.temporary => Some(PinReason::TemporaryObject),
        (_, Detail::CreateTableAs(table)) if table.temporary => Some(PinReason::TemporaryObject),
        (_, Detail::View(view)) if view.temporary => Some(PinReason::TemporaryObject),
        (_, Detail::Sequence(sequence)) if sequence.temporary => Some(PinReason::TemporaryObject),
        _ => None,
    }
}

/// True for a user-defined function that could change settings, make temporary objects or take locks.
///
/// A function written in SQL or PL/pgSQL whose body was read completely and attaches no settings is left alone; what
/// its body could do is known from its proof. Everything unknown counts.
fn may_touch_session(name: &str, snapshot: &Snapshot) -> bool {
    let known = snapshot.functions_named(name);
    known.is_empty()
        || known
            .iter()
            .filter_map(|oid| snapshot.function(*oid))
            .any(|function| {
                !function.builtin && function.extension.is_none() && !matches!(function.proof, Proof::Pure)
            })
}
