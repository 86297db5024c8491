//! A session's settings, and how to bring a server connection to them.
//!
//! A transaction pooler hands a session to another server between transactions, so `SET` must follow the
//! client. The map here is authoritative: it holds, for each setting the client changed, the statement that
//! makes the change (validated by a server when the client sent it). Each server connection remembers the map
//! it was last brought to; [`Settings::difference`] is what must be sent when the two differ.
//!
//! Drover's own settings (`drover.*`) are kept in the same books, by value, because they begin and end with transactions
//! like all others; no server ever hears of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::spare::{Blank, Spare};

/// The settings of a session that differ from what a fresh server connection has.
///
/// Shared by pointer: a pool in which every client has the same settings compares one address per checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Lower-case name → a complete `SET …` statement without `LOCAL`; of Drover's own settings the value.
    values: BTreeMap<String, String>,
}

/// Settings that change who the session is; they are applied last and reset first, because what the session
/// may set depends on them.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

impl Settings {
    /// Settings given at start-up, as `(name, value)` pairs of the startup packet.
    pub fn from_startup<'a>(params: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        // PostgreSQL does not let the start of a session decide these.
        let fixed = |name: &str| {
            name.eq_ignore_ascii_case("seed") || name.eq_ignore_ascii_case("session_authorization")
        };
        let values = params
            .filter(|(name, _)| !fixed(name))
            .map(|(name, value)| {
                let name = name.to_ascii_lowercase();
                let statement = match is_own(&name) {
                    true => value.to_owned(),
                    false => format!("SET {} TO {}", quote_name(&name), value_for_set(&name, value)),
                };
                (name, statement)
            })
            .collect();
        Self { values }
    }

    /// True when nothing differs from a fresh connection.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Records that `name` was changed by `statement` (a complete `SET` without `LOCAL`).
    pub fn set(&mut self, name: &str, statement: String) {
        self.values.insert(name.to_ascii_lowercase(), statement);
    }

    /// Puts `name` back to what `base` (the start-up settings) says.
    pub fn reset(&mut self, name: &str, base: &Settings) {
        let name = name.to_ascii_lowercase();
        match base.values.get(&name) {
            Some(statement) => {
                self.values.insert(name, statement.clone());
            }
            None => {
                self.values.remove(&name);
            }
        }
    }

    /// The names of all of them, in lower case.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The statement that set `name`, when the session set it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The settings of Drover's own, with their values.
    pub fn own_values(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let own = self.values.iter().filter(|(name, _)| is_own(name));
        own.map(|(name, value)| (name.clone(), value.clone()))
    }

    /// One statement text that brings a connection from `applied` to `self`; `None` when they agree.
    pub fn difference(&self, applied: &Settings) -> Option<String> {
        let changes = self.changes(applied);
        if changes.is_empty() {
            return None;
        }
        Some(changes.iter().flat_map(|change| [&**change, ";"]).collect())
    }

    /// Whether the two agree on all settings whose changes a server reports to its client.
    pub fn reports_like(&self, other: &Settings) -> bool {
        const REPORTED: [&str; 10] = [
            "application_name",
            "client_encoding",
            "datestyle",
            "default_transaction_read_only",
            "intervalstyle",
            "role",
            "search_path",
            "session_authorization",
            "standard_conforming_strings",
            "timezone",
        ];
        REPORTED
            .iter()
            .all(|name| self.values.get(*name) == other.values.get(*name))
    }

    /// The statements that bring a connection from `applied` to `self`, in order; none when they agree.
    pub fn changes(&self, applied: &Settings) -> Vec<Cow<'_, str>> {
        let mut changes = Vec::new();
        if self == applied {
            return changes;
        }
        let identity_changed = IDENTITY
            .iter()
            .any(|name| self.values.get(*name) != applied.values.get(*name));
        if identity_changed {
            for name in IDENTITY
                .iter()
                .rev()
                .filter(|name| applied.values.contains_key(**name))
            {
                changes.push(Cow::Owned(format!("RESET {name}")));
            }
        }
        for name in applied
            .values
            .keys()
            .filter(|name| !self.values.contains_key(*name) && !is_identity(name) && !is_own(name))
        {
            changes.push(Cow::Owned(format!("RESET {}", quote_name(name))));
        }
        let plain = |name: &str| !is_identity(name) && !is_own(name);
        for (name, statement) in self.values.iter().filter(|(name, _)| plain(name)) {
            if applied.values.get(name) != Some(statement) {
                changes.push(Cow::Borrowed(statement.as_str()));
            }
        }
        if identity_changed {
            let entered = IDENTITY.iter().filter_map(|name| self.values.get(*name));
            changes.extend(entered.map(|statement| Cow::Borrowed(statement.as_str())));
        }
        changes
    }

    /// A text that two sessions share exactly when a cached plan may serve both: the settings that planning, name
    /// resolution and the reading and printing of constants may depend on.
    pub fn plan_fingerprint(&self) -> String {
        let mut text = String::new();
        for (_, statement) in self.values.iter().filter(|(name, _)| !plans_alike(name)) {
            text.push_str(statement);
            text.push('\n');
        }
        text
    }
}

/// Beginnings of names of settings that no plan depends on: how a server executes, what it reports, how long it waits. What
/// is not known here is taken to matter, which costs a plan of its own for each value.
const PLANNED_ALIKE: [&str; 53] = [
    "application_name",
    "backend_flush_after",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_",
    "compute_query_id",
    "constraint_exclusion",
    "cpu_",
    "cursor_tuple_fraction",
    "deadlock_timeout",
    "debug_",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_",
    "drover.",
    "effective_",
    "enable_",
    "exit_on_error",
    "force_parallel_mode",
    "from_collapse_limit",
    "geqo",
    "gin_",
    "hash_mem_multiplier",
    "idle_",
    "jit",
    "join_collapse_limit",
    "lc_messages",
    "lock_timeout",
    "log_",
    "logical_decoding_work_mem",
    "maintenance_",
    "max_parallel_",
    "max_stack_depth",
    "min_parallel_",
    "parallel_",
    "plan_cache_mode",
    "random_page_cost",
    "recursive_worktable_factor",
    "seed",
    "seq_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "tcp_",
    "temp_",
    "track_",
    "transaction_",
    "vacuum_",
    "wal_",
    "work_mem",
];

/// Whether a plan made with one value of a setting, named in lower case, serves sessions with others. Those of a client's own
/// (`a.b`) are read when a statement runs.
fn plans_alike(name: &str) -> bool {
    let starts = PLANNED_ALIKE.partition_point(|known| *known <= name);
    let known = starts.checked_sub(1).and_then(|at| PLANNED_ALIKE.get(at));
    name.contains('.') || known.is_some_and(|known| name.starts_with(known))
}

/// Lists of names, of which SET takes every element apart: in quotes as a whole they would be one name.
const NAME_LISTS: [&str; 4] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
];

/// A value as startup packets and `pg_settings` have it, as SET takes it.
pub(super) fn value_for_set(name: &str, value: &str) -> String {
    if !NAME_LISTS.contains(&name) {
        return sql::quote_literal(value);
    }
    let elements: Vec<String> = elements_of(value)
        .iter()
        .map(|element| sql::quote_literal(element))
        .collect();
    if elements.is_empty() {
        return "''".to_owned();
    }
    elements.join(", ")
}

/// The elements of a list of names: in double quotes as they stand, others in lower case.
fn elements_of(list: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_element(quoted),
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (element, after) = rest.split_at(end);
                (element.trim().to_ascii_lowercase(), after)
            }
        };
        elements.push(element);
        let after = after.trim_start();
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    elements
}

/// What stands before the closing quote, and what behind it.
fn quoted_element(text: &str) -> (String, &str) {
    let mut element = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        element.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                element.push('"');
                rest = more;
            }
            None => return (element, rest),
        }
    }
    element.push_str(rest);
    (element, "")
}

/// `SET TRANSACTION …`, which is over with its transaction.
fn is_mode(statement: &str) -> bool {
    let mut words = statement.split_ascii_whitespace();
    ["set", "transaction"]
        .iter()
        .all(|wanted| words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted)))
}

fn local_name(statement: &str) -> Option<String> {
    let text = statement.to_ascii_lowercase();
    let rest = text
        .trim_start()
        .strip_prefix("set")?
        .trim_start()
        .strip_prefix("local")?;
    let name = rest
        .split(['=', ' ', '\t', '\n', '\r'])
        .find(|word| !word.is_empty())?;
    Some(match name {
        "time" => "timezone".to_owned(),
        "schema" => "search_path".to_owned(),
        "names" => "client_encoding".to_owned(),
        "session" => "session_authorization".to_owned(),
        "xml" => "xmloption".to_owned(),
        other => other.replace('"', ""),
    })
}

/// What puts a setting back to what the session started with.
fn reset_text(name: &str, base: &Settings) -> String {
    let started = base.get(&name.to_ascii_lowercase()).map(str::to_owned);
    started.unwrap_or_else(|| match is_identity(name) {
        true => format!("RESET {name}"),
        false => format!("RESET {}", quote_name(name)),
    })
}

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
}

/// A setting of Drover's own.
pub(super) fn is_own(name: &str) -> bool {
    // What is stated to the guards of the shards is nobody else's business either.
    name.starts_with("drover.") || name.starts_with("drover_internal.")
}

/// Quotes each part of a possibly dotted setting name.
pub fn quote_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(sql::quote_ident).collect();
    parts.join(".")
}

/// The settings of a session through its transactions: a rolled-back `SET` is undone, as in PostgreSQL.
#[derive(Debug)]
pub struct SettingsHistory {
    base: Rc<Settings>,
    current: Rc<Settings>,
    /// What `current` was when the open transaction began.
    at_begin: Option<Rc<Settings>>,
    /// What the open transaction may undo, and what ends with it.
    layers: Spare<Layers>,
    /// Something may differ since [`take_changed`](SettingsHistory::take_changed) was asked.
    changed: bool,
}

/// What there is of settings only inside a transaction.
#[derive(Debug)]
struct Layers {
    savepoints: Vec<Savepoint>,
    /// What `SET LOCAL` set in the open transaction, in order, replayed on servers that join later; and what was set or
    /// reset afterwards of the same names, which it would hide there.
    local: Vec<Local>,
}

impl Layers {
    const NONE: Self = Self {
        savepoints: Vec::new(),
        local: Vec::new(),
    };
}

impl Default for Layers {
    fn default() -> Self {
        Self::NONE
    }
}

impl Blank for Layers {
    const BLANK: &'static Self = &Self::NONE;

    fn is_blank(&self) -> bool {
        self.savepoints.is_empty() && self.local.is_empty()
    }
}

/// One `SET LOCAL`, or what came after one.
#[derive(Debug)]
enum Local {
    /// The statement.
    Statement {
        /// What it sets, in lower case; `None`: not known, or nothing that lasts.
        name: Option<String>,
        text: String,
    },
    /// A setting of Drover's own.
    Own { name: String, value: String },
}

impl Local {
    fn statement(&self) -> Option<&str> {
        match self {
            Self::Statement { text, .. } => Some(text),
            Self::Own { .. } => None,
        }
    }

    /// Whether it may have set this, on a server.
    fn may_set(&self, wanted: &str) -> bool {
        match self {
            Self::Statement { name: Some(name), .. } => name == wanted,
            Self::Statement { name: None, text } => !is_mode(text),
            Self::Own { .. } => false,
        }
    }

    /// Whether names and constants mean the same with it as without.
    fn plans_alike(&self) -> bool {
        match self {
            Self::Statement { name: Some(name), .. } => plans_alike(name),
            Self::Statement { name: None, text } => is_mode(text),
            Self::Own { .. } => true,
        }
    }
}

impl SettingsHistory {
    /// A history that starts from the start-up settings.
    pub fn new(base: Rc<Settings>) -> Self {
        Self {
            current: Rc::clone(&base),
            base,
            at_begin: None,
            layers: Spare::absent(),
            changed: true,
        }
    }

    /// Whether anything may have changed since this was asked last; true the first time.
    #[inline]
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether [`take_changed`](SettingsHistory::take_changed) would say so.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The statement in force for `name` (in lower case), which may be a `SET LOCAL`; `None`: it is as on a fresh
    /// connection.
    pub fn in_force(&self, name: &str) -> Option<&str> {
        let local = self.layers.local.iter().rev().find_map(|local| match local {
            Local::Statement {
                name: Some(known),
                text,
            } if known == name => Some(text.as_str()),
            _ => None,
        });
        local.or_else(|| self.current.get(name))
    }

    /// The settings in force for the next server, without `SET LOCAL`.
    pub fn current(&self) -> &Rc<Settings> {
        &self.current
    }

    /// The settings a server that joins the open transaction must have *before* its `BEGIN`, so that a rollback
    /// brings it to the same place as the servers that were there.
    pub fn before_transaction(&self) -> &Rc<Settings> {
        self.at_begin.as_ref().unwrap_or(&self.current)
    }

    /// What a server that joins the open transaction must run, after it was brought to
    /// [`before_transaction`](Self::before_transaction): `begin`, then every setting and savepoint in the order
    /// they happened, so that a later `ROLLBACK TO` does the same on all servers.
    pub fn joining(&self, begin: &str) -> String {
        let mut text = format!("{begin};");
        let mut settings = self.before_transaction();
        let mut local = 0;
        for savepoint in &self.layers.savepoints {
            self.append_step(&mut text, settings, &savepoint.settings, local..savepoint.local);
            text.push_str(&format!("SAVEPOINT {};", sql::quote_ident(&savepoint.name)));
            settings = &savepoint.settings;
            local = savepoint.local;
        }
        self.append_step(&mut text, settings, &self.current, local..self.layers.local.len());
        text
    }

    /// True when a server that joins needs nothing but the BEGIN itself.
    pub fn joins_plainly(&self) -> bool {
        self.layers.local.iter().all(|local| local.statement().is_none())
            && self.layers.savepoints.is_empty()
            && *self.before_transaction() == self.current
    }

    /// The `SET LOCAL` statements of the open transaction that planning can depend on, as one text.
    pub fn local_text(&self) -> String {
        let matters = self.layers.local.iter().filter(|local| !local.plans_alike());
        matters
            .filter_map(Local::statement)
            .map(|statement| format!("{statement};"))
            .collect()
    }

    /// Whether [`local_text`](Self::local_text) is empty.
    pub fn is_planned_plainly(&self) -> bool {
        self.layers.local.iter().all(Local::plans_alike)
    }

    /// All `SET LOCAL` and `SET TRANSACTION` statements of the open transaction, in order: its modes are among them.
    pub fn local_modes(&self) -> String {
        let statements = self.layers.local.iter().filter_map(Local::statement);
        statements.map(|statement| format!("{statement};")).collect()
    }

    /// Whether the open transaction has changed its modes.
    pub fn has_modes(&self) -> bool {
        let mut statements = self.layers.local.iter().filter_map(Local::statement);
        statements.any(is_mode)
    }

    /// What the open transaction's `SET LOCAL` statements set, in lower case. One that has words for a name (`TIME ZONE`)
    /// gives the name of its setting.
    pub fn local_names(&self) -> Vec<String> {
        let name = |local: &Local| match local {
            Local::Statement { name, .. } => name.clone(),
            Local::Own { .. } => None,
        };
        self.layers.local.iter().filter_map(name).collect()
    }

    fn append_step(&self, text: &mut String, from: &Settings, to: &Settings, local: std::ops::Range<usize>) {
        text.push_str(&to.difference(from).unwrap_or_default());
        let local = self.layers.local.get(local).unwrap_or_default();
        for statement in local.iter().filter_map(Local::statement) {
            text.push_str(statement);
            text.push(';');
        }
    }

    /// A `SET` succeeded.
    pub fn set(&mut self, name: &str, statement: String) {
        self.changed = true;
        self.unhide(name, &statement);
        Rc::make_mut(&mut self.current).set(name, statement);
    }

    /// What the open transaction's `SET LOCAL` said of this name is over: `statement` counts.
    fn unhide(&mut self, name: &str, statement: &str) {
        let name = name.to_ascii_lowercase();
        if self.at_begin.is_some()
            && !is_own(&name)
            && self.layers.local.iter().any(|local| local.may_set(&name))
        {
            self.layers.local.push(Local::Statement {
                name: Some(name),
                text: statement.to_owned(),
            });
        }
    }

    /// A `SET LOCAL` succeeded inside the open transaction.
    pub fn set_local(&mut self, statement: String) {
        if self.at_begin.is_some() {
            self.changed = true;
            self.layers.local.push(Local::Statement {
                name: local_name(&statement),
                text: statement,
            });
        }
    }

    /// A setting of Drover's own was set, for the session or (inside a transaction) up to the transaction's end.
    pub fn set_own(&mut self, name: &str, value: &str, local: bool) {
        let hidden = self.local_own(name).is_some();
        // What SET LOCAL set before would hide it.
        if (local || hidden) && self.at_begin.is_some() {
            let (name, value) = (name.to_owned(), value.to_owned());
            self.layers.local.push(Local::Own { name, value });
        }
        if !local {
            self.set(name, value.to_owned());
        }
    }

    /// The value of a setting of Drover's own; `None`: its default.
    pub fn own(&self, name: &str) -> Option<&str> {
        self.local_own(name).or_else(|| self.current.get(name))
    }

    /// A setting of Drover's own goes back to what the session started with.
    pub fn reset_own(&mut self, name: &str) {
        self.reset(name);
        if self.local_own(name).is_some() {
            // Hides what SET LOCAL said; an empty value is no value.
            let value = self.current.get(name).unwrap_or_default().to_owned();
            let name = name.to_owned();
            self.layers.local.push(Local::Own { name, value });
        }
    }

    /// Whether the open transaction has values of its own of such settings.
    pub fn has_local_own(&self) -> bool {
        self.layers.local.iter().any(|local| local.statement().is_none())
    }

    fn local_own(&self, name: &str) -> Option<&str> {
        self.layers.local.iter().rev().find_map(|local| match local {
            Local::Own { name: known, value } if known == name => Some(value.as_str()),
            _ => None,
        })
    }

    /// A `RESET name` succeeded.
    pub fn reset(&mut self, name: &str) {
        self.changed = true;
        let base = Rc::clone(&self.base);
        self.unhide(name, &reset_text(name, &base));
        Rc::make_mut(&mut self.current).reset(name, &base);
    }

    /// `RESET ALL` or `DISCARD ALL` succeeded. `RESET ALL` leaves role and session authorisation alone.
    pub fn reset_all(&mut self, identity_too: bool) {
        self.changed = true;
        let base = Rc::clone(&self.base);
        for name in self.local_names() {
            if identity_too || !is_identity(&name) {
                self.unhide(&name, &reset_text(&name, &base));
            }
        }
        let mut fresh = Settings::clone(&self.base);
        if !identity_too {
            for name in IDENTITY {
                if let Some(statement) = self.current.get(name) {
                    fresh.set(name, statement.to_owned());
                }
            }
        }
        self.current = if fresh == *self.base {
            Rc::clone(&self.base)
        } else {
            Rc::new(fresh)
        };
    }

    /// What the session started with.
    pub fn base(&self) -> &Rc<Settings> {
        &self.base
    }

    /// A transaction began.
    pub fn begin(&mut self) {
        self.at_begin = Some(Rc::clone(&self.current));
        self.layers = Spare::absent();
    }

    /// The transaction ended; a rollback undoes its settings.
    pub fn end(&mut self, committed: bool) {
        if let Some(before) = self.at_begin.take()
            && !committed
        {
            self.changed |= !Rc::ptr_eq(&self.current, &before);
            self.current = before;
        }
        self.changed |= !self.layers.local.is_empty();
        self.layers = Spare::absent();
    }

    /// A savepoint was made.
    pub fn savepoint(&mut self, name: &str) {
        let local = self.layers.local.len();
        self.layers.savepoints.push(Savepoint {
            name: name.to_owned(),
            settings: Rc::clone(&self.current),
            local,
        });
    }

    /// True when a savepoint of this name is open.
    pub fn has_savepoint(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The newest savepoint of this name was released, with all above it.
    pub fn release(&mut self, name: &str) {
        if let Some(depth) = self.find(name) {
            self.layers.savepoints.truncate(depth);
        }
    }

    /// Rolled back to the newest savepoint of this name, which stays open.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(depth) = self.find(name) {
            self.changed = true;
            self.current = Rc::clone(&self.layers.savepoints[depth].settings);
            let local = self.layers.savepoints[depth].local;
            self.layers.local.truncate(local);
            self.layers.savepoints.truncate(depth + 1);
        }
    }

    /// Open savepoints.
    pub fn savepoints(&self) -> usize {
        self.layers.savepoints.len()
    }

    /// Savepoints around the newest one of this name.
    pub fn depth_of(&self, name: &str) -> Option<usize> {
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.layers
            .savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
    }
}

/// An open savepoint, with what the settings were when it was made.
#[derive(Debug)]
struct Savepoint {
    name: String,
    settings: Rc<Settings>,
    /// How many `SET LOCAL` statements had run.
    local: usize,
}

#[cfg(test)]
mod tests;
