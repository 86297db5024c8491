//! What a statement does to the session beyond its answer: read off the raw parse tree and the catalog.

use crate::config::PoolMode;
use catalog::{Proof, RelationKind, SessionActs, Snapshot};
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
    /// What its `nextval` calls left in the server process is wanted by `currval` or `lastval`.
    Sequence,
    /// Its pool mode is `session`.
    SessionMode,
}

impl PinReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::TemporaryObject,
        Self::Listen,
        Self::AdvisoryLock,
        Self::HeldCursor,
        Self::SqlPrepare,
        Self::ProcessState,
        Self::Sequence,
        Self::SessionMode,
    ];

    /// True for what an error does not undo, because it is not part of the transaction.
    pub fn survives_errors(self) -> bool {
        matches!(
            self,
            Self::AdvisoryLock | Self::SqlPrepare | Self::ProcessState | Self::Sequence
        )
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
            Self::Sequence => "sequence",
            Self::SessionMode => "session mode",
        }
    }
}

/// All reasons why a session keeps its home connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pins(u16);

impl Pins {
    /// Those of a session that has just begun.
    #[must_use]
    pub fn of_mode(mode: PoolMode) -> Self {
        let mut pins = Self::default();
        if mode == PoolMode::Session {
            pins.insert(PinReason::SessionMode);
        }
        pins
    }

    /// None at all: the session is free between transactions.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a number, for where threads share it.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// From such a number.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// This is one of them.
    #[must_use]
    pub fn contains(self, reason: PinReason) -> bool {
        self.0 & bit(reason) != 0
    }

    /// One more; false when it was there.
    pub fn insert(&mut self, reason: PinReason) -> bool {
        let new = !self.contains(reason);
        self.0 |= bit(reason);
        new
    }

    /// One less; false when it was not there.
    pub fn remove(&mut self, reason: PinReason) -> bool {
        let there = self.contains(reason);
        self.0 &= !bit(reason);
        there
    }

    /// Something of the session is on the connection that must not meet the next one. Drawn values may stay: a
    /// connection knows whose it has.
    #[must_use]
    pub fn hold_state(self) -> bool {
        self.0 & !bit(PinReason::Sequence) != 0
    }

    /// The reasons.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL
            .into_iter()
            .filter(move |reason| self.contains(*reason))
    }

    /// This and nothing else.
    #[must_use]
    pub fn is_only(self, reason: PinReason) -> bool {
        self.0 == bit(reason)
    }
}

fn bit(reason: PinReason) -> u16 {
    1 << (reason as u8)
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
    /// It may call `nextval` or `setval`, which leave something in the server process.
    pub touches_sequences: bool,
    /// It says NOTIFY, or calls `pg_notify`.
    pub notifies: bool,
    /// It asks which channels the session listens to.
    pub lists_channels: bool,
    /// It may end what pins a session.
    pub may_unpin: bool,
    /// It calls `set_config`: look at the settings it names.
    pub sets_config: bool,
}

impl Effects {
    /// None.
    pub const NONE: Self = Self {
        pin: None,
        inspect: false,
        reads_sequence_state: false,
        touches_sequences: false,
        notifies: false,
        lists_channels: false,
        may_unpin: false,
        sets_config: false,
    };

    /// Both effects.
    pub fn and(self, other: Self) -> Self {
        Self {
            pin: self.pin.or(other.pin),
            inspect: self.inspect || other.inspect,
            reads_sequence_state: self.reads_sequence_state || other.reads_sequence_state,
            touches_sequences: self.touches_sequences || other.touches_sequences,
            notifies: self.notifies || other.notifies,
            lists_channels: self.lists_channels || other.lists_channels,
            may_unpin: self.may_unpin || other.may_unpin,
            sets_config: self.sets_config || other.sets_config,
        }
    }

    /// Nothing has to be done behind the statement: the common case.
    pub fn none(&self) -> bool {
        self.pin.is_none()
            && !self.inspect
            && !self.reads_sequence_state
            && !self.notifies
            && !self.lists_channels
            && !self.may_unpin
            && !self.sets_config
    }

    /// It may change settings.
    pub fn may_set(&self) -> bool {
        self.inspect || self.sets_config || self.pin.is_some()
    }

    /// What Bind alone may do: planning evaluates functions that are declared immutable or stable.
    #[must_use]
    pub fn of_planning(self) -> Self {
        Self {
            pin: self.pin.filter(|reason| *reason == PinReason::ProcessState),
            inspect: self.inspect,
            ..Self::default()
        }
    }

    /// Something has to be done about sequences before the statement.
    pub fn concerns_sequences(&self) -> bool {
        self.touches_sequences || self.reads_sequence_state
    }
}

/// Reads a statement's effects.
pub fn effects_of(raw: &RawStatement, snapshot: &Snapshot) -> Effects {
    let mut effects = Effects {
        pin: pin_by_kind(raw),
        touches_sequences: may_draw(raw, snapshot),
        notifies: raw.kind == StatementKind::Notify,
        may_unpin: may_unpin(raw),
        ..Effects::default()
    };
    let acts = acts_of(raw, snapshot);
    let acts = acts.and(acts_of_texts(raw, acts));
    effects.reads_sequence_state = acts.contains(SessionActs::ASKS) && acts.contains(SessionActs::SESSION);
    effects.inspect = acts.contains(SessionActs::SESSION);
    effects.notifies |= acts.contains(SessionActs::NOTIFIES);
    if acts.contains(SessionActs::PROCESS) {
        effects.pin = effects.pin.or(Some(PinReason::ProcessState));
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
            "pg_advisory_lock" | "pg_advisory_lock_shared" => {
                effects.pin = effects.pin.or(Some(PinReason::AdvisoryLock));
            }
            "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
                effects.pin = effects.pin.or(Some(PinReason::AdvisoryLock));
                // It may have tried in vain.
                effects.may_unpin = true;
            }
            "pg_advisory_unlock" | "pg_advisory_unlock_shared" | "pg_advisory_unlock_all" => {
                effects.may_unpin = true;
            }
            "pg_listening_channels" => effects.lists_channels = true,
            "set_config" => effects.sets_config = true,
            "currval" | "lastval" => effects.reads_sequence_state = true,
            _ => {}
        }
    }
    effects
}

/// The effects of a fast-path call of a function by its OID.
pub fn effects_of_call(function: catalog::Oid, snapshot: &Snapshot) -> Effects {
    let name = snapshot.function(function).map(|function| function.name.as_str());
    let acts = name.map_or(SessionActs::SESSION, |name| snapshot.function_acts(name));
    let pins = acts.contains(SessionActs::PROCESS);
    Effects {
        pin: pins.then_some(PinReason::ProcessState),
        inspect: acts.contains(SessionActs::SESSION),
        notifies: acts.contains(SessionActs::NOTIFIES),
        reads_sequence_state: acts.contains(SessionActs::ASKS),
        // It may be nextval.
        touches_sequences: true,
        ..Effects::default()
    }
}

fn pin_by_kind(raw: &RawStatement) -> Option<PinReason> {
    match (&raw.kind, &raw.detail) {
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

/// What a statement may leave behind in the server process, through anything that runs with it.
fn acts_of(raw: &RawStatement, snapshot: &Snapshot) -> SessionActs {
    use StatementKind as Kind;
    let names = &raw.names;
    let reads = match (&raw.kind, &raw.detail) {
        // What FETCH runs was seen at DECLARE.
        (Kind::Fetch, _) => return SessionActs::NONE,
        // It runs nothing yet, but EXECUTE will not say what it runs.
        (Kind::Prepare, _) => false,
        (kind, _) if runs_nothing(kind) => return SessionActs::NONE,
        (_, Detail::Copy(copy)) => !copy.from,
        (Kind::Select | Kind::Explain | Kind::DeclareCursor, _) => true,
        (Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge, _) => false,
        (Kind::Do, Detail::Do(block)) => return acts_of_block(&block.language, &block.body, snapshot),
        (Kind::Call, _) => {
            let called = names.functions.iter();
            let acts = called.map(|name| snapshot.function_acts(&name.name));
            return acts.fold(SessionActs::SESSION, SessionActs::and);
        }
        // Code that is not at hand, or DDL: expressions of indexes and defaults, event triggers.
        _ => return snapshot.ddl_acts().and(SessionActs::SESSION),
    };
    let mut acts = snapshot.implicit_acts();
    if names.select_into {
        acts = acts.and(snapshot.ddl_acts());
    }
    for relation in &names.relations {
        acts = acts.and(snapshot.reading_acts(&relation.name));
    }
    let written = if reads { &names.written } else { &names.relations };
    for relation in written {
        acts = acts.and(snapshot.writing_acts(&relation.name));
    }
    for function in names.functions.iter().filter(|name| !is_followed(name, snapshot)) {
        acts = acts.and(snapshot.function_acts(&function.name));
    }
    for operator in &names.operators {
        acts = acts.and(snapshot.operator_acts(&operator.name));
    }
    // A call with one argument can be spelt as a cast.
    for name in &names.types {
        acts = acts.and(snapshot.known_function_acts(&name.name));
    }
    acts
}

/// Code that was not read may run the texts it is given.
fn acts_of_texts(raw: &RawStatement, acts: SessionActs) -> SessionActs {
    if !acts.contains(SessionActs::SESSION) {
        return SessionActs::NONE;
    }
    let body = match &raw.detail {
        Detail::Do(block) => Some(&block.body),
        _ => None,
    };
    let texts = raw.names.strings.iter().chain(body);
    texts.fold(SessionActs::NONE, |all, text| all.and(acts_of_text(text)))
}

fn acts_of_text(text: &str) -> SessionActs {
    let text = text.to_ascii_lowercase();
    let names = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let mut acts = SessionActs::NONE;
    if names(&["currval", "lastval"]) {
        acts = acts.and(SessionActs::ASKS);
    }
    if names(&["setseed", "dblink_connect", "dblink_open"]) {
        acts = acts.and(SessionActs::PROCESS);
    }
    if sql::body_keeps_custom_setting(&text) {
        acts = acts.and(SessionActs::PROCESS);
    }
    acts
}

fn acts_of_block(language: &str, body: &str, snapshot: &Snapshot) -> SessionActs {
    let facts = sql::plpgsql_body_facts(body);
    if language != "plpgsql" || facts.unknown.is_some() || facts.keeps_custom_setting {
        return SessionActs::SESSION.and(SessionActs::PROCESS);
    }
    // See the same for functions in catalog::closure.
    let connects = facts.dynamic_sql && !snapshot.functions_named("dblink_connect").is_empty();
    let own = match connects {
        true => SessionActs::SESSION.and(SessionActs::PROCESS),
        false => SessionActs::SESSION,
    };
    let called = facts.functions.iter();
    let called = called.map(|name| snapshot.known_function_acts(&name.name));
    let written = facts.relations.iter();
    let written = written.map(|name| snapshot.writing_acts(&name.name));
    called.chain(written).fold(own, SessionActs::and)
}

/// A function of PostgreSQL whose calls have effects of their own here, as long as nobody else's has its name.
fn is_followed(name: &sql::QualifiedName, snapshot: &Snapshot) -> bool {
    let followed = matches!(
        name.name.as_str(),
        "set_config"
            | "pg_advisory_lock"
            | "pg_advisory_lock_shared"
            | "pg_try_advisory_lock"
            | "pg_try_advisory_lock_shared"
    );
    let mut all = snapshot.functions_named(&name.name).iter();
    followed && all.all(|oid| oid.is_builtin())
}

/// True for statements that remove temporary objects, cursors or prepared statements.
fn may_unpin(raw: &RawStatement) -> bool {
    matches!(
        raw.kind,
        StatementKind::Drop(_)
            | StatementKind::CloseCursor
            | StatementKind::Deallocate
            | StatementKind::Discard
    )
}

/// Functions of PostgreSQL that draw from a sequence, or run SQL they are given as text.
const DRAWING_BUILTINS: [&str; 14] = [
    "nextval",
    "setval",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "ts_stat",
    "ts_rewrite",
];

/// True for statements that evaluate nothing. (SET CONSTRAINTS may, but only what an earlier statement of the block had
/// put off.)
fn runs_nothing(kind: &StatementKind) -> bool {
    use StatementKind as Kind;
    matches!(
        kind,
        Kind::Transaction
            | Kind::Set
            | Kind::Show
            | Kind::Discard
            | Kind::SetConstraints
            | Kind::Deallocate
            | Kind::CloseCursor
            | Kind::Listen
            | Kind::Notify
            | Kind::Unlisten
            | Kind::Lock
    )
}

/// True unless it is certain that a statement draws from no sequence.
///
/// Certain is a SELECT, or a statement that runs nothing, in which every function is PostgreSQL's own or proved to
/// touch no table, over relations that are no views of a user's.
fn may_draw(raw: &RawStatement, snapshot: &Snapshot) -> bool {
    use StatementKind as Kind;
    if runs_nothing(&raw.kind) {
        return false;
    }
    let reads = match &raw.detail {
        Detail::Copy(copy) => !copy.from,
        _ => matches!(
            raw.kind,
            Kind::Select | Kind::Explain | Kind::DeclareCursor | Kind::Fetch
        ),
    };
    let only_reads = reads && raw.names.written.is_empty() && !raw.names.select_into;
    if !only_reads {
        return true;
    }
    let drawing = |function: &sql::QualifiedName| {
        DRAWING_BUILTINS.contains(&function.name.as_str()) || draws(&function.name, snapshot)
    };
    raw.names.functions.iter().any(drawing)
        || raw
            .names
            .relations
            .iter()
            .any(|relation| is_view(relation, snapshot))
}

/// A function that is neither PostgreSQL's own nor proved to touch nothing.
fn draws(name: &str, snapshot: &Snapshot) -> bool {
    let known = snapshot.functions_named(name);
    known.is_empty()
        || known
            .iter()
            .filter_map(|oid| snapshot.function(*oid))
            .any(|function| !function.builtin && !matches!(function.proof, Proof::Pure))
}

fn is_view(name: &sql::QualifiedName, snapshot: &Snapshot) -> bool {
    snapshot
        .relations_named(&name.name)
        .iter()
        .filter(|oid| !oid.is_builtin())
        .filter_map(|oid| snapshot.relation(*oid))
        .any(|relation| matches!(relation.kind, RelationKind::View | RelationKind::ForeignTable))
}
