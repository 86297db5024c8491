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

    /// A text that two sessions share exactly when a cached plan may serve both: the settings that planning and
    /// name resolution depend on.
    pub fn plan_fingerprint(&self) -> String {
        const RELEVANT: [&str; 9] = [
            "search_path",
            "role",
            "session_authorization",
            "standard_conforming_strings",
            "backslash_quote",
            "client_encoding",
            "datestyle",
            "timezone",
            "row_security",
        ];
        let mut text = String::new();
        for statement in RELEVANT.iter().filter_map(|name| self.values.get(*name)) {
            text.push_str(statement);
            text.push('\n');
        }
        text
    }
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

/// `SET LOCAL a.b …` and `SET TRANSACTION …`: names mean the same with them as without.
fn plans_alike(statement: &str) -> bool {
    let mut words = statement.split_ascii_whitespace();
    let is = |word: Option<&str>, wanted: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted));
    if !is(words.next(), "set") {
        return false;
    }
    match words.next() {
        word if is(word, "transaction") => true,
        word if is(word, "local") => words.next().is_some_and(|name| {
            let name = name.split('=').next().unwrap_or_default();
            name.contains('.') && !name.contains(['\'', ';'])
        }),
        _ => false,
    }
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

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
}

/// A setting of Drover's own.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with("drover.")
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
    savepoints: Vec<Savepoint>,
    /// What `SET LOCAL` set in the open transaction, in order, replayed on servers that join later.
    local: Vec<Local>,
}

/// One `SET LOCAL`.
#[derive(Debug)]
enum Local {
    /// The statement.
    Statement(String),
    /// A setting of Drover's own.
    Own { name: String, value: String },
}

impl Local {
    fn statement(&self) -> Option<&str> {
        match self {
            Self::Statement(text) => Some(text),
            Self::Own { .. } => None,
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
            savepoints: Vec::new(),
            local: Vec::new(),
        }
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
        for savepoint in &self.savepoints {
            self.append_step(&mut text, settings, &savepoint.settings, local..savepoint.local);
            text.push_str(&format!("SAVEPOINT {};", sql::quote_ident(&savepoint.name)));
            settings = &savepoint.settings;
            local = savepoint.local;
        }
        self.append_step(&mut text, settings, &self.current, local..self.local.len());
        text
    }

    /// True when a server that joins needs nothing but the BEGIN itself.
    pub fn joins_plainly(&self) -> bool {
        self.local.iter().all(|local| local.statement().is_none())
            && self.savepoints.is_empty()
            && *self.before_transaction() == self.current
    }

    /// The `SET LOCAL` statements of the open transaction that planning can depend on, as one text.
    pub fn local_text(&self) -> String {
        self.local
            .iter()
            .filter_map(Local::statement)
            .filter(|statement| !plans_alike(statement))
            .map(|statement| format!("{statement};"))
            .collect()
    }

    /// All `SET LOCAL` and `SET TRANSACTION` statements of the open transaction, in order: its modes are among them.
    pub fn local_modes(&self) -> String {
        let statements = self.local.iter().filter_map(Local::statement);
        statements.map(|statement| format!("{statement};")).collect()
    }

    /// What the open transaction's `SET LOCAL` statements set, in lower case. One that has words for a name (`TIME ZONE`)
    /// gives the name of its setting.
    pub fn local_names(&self) -> Vec<String> {
        let statements = self.local.iter().filter_map(Local::statement);
        statements.filter_map(local_name).collect()
    }

    fn append_step(&self, text: &mut String, from: &Settings, to: &Settings, local: std::ops::Range<usize>) {
        text.push_str(&to.difference(from).unwrap_or_default());
        let local = self.local.get(local).unwrap_or_default();
        for statement in local.iter().filter_map(Local::statement) {
            text.push_str(statement);
            text.push(';');
        }
    }

    /// A `SET` succeeded.
    pub fn set(&mut self, name: &str, statement: String) {
        Rc::make_mut(&mut self.current).set(name, statement);
    }

    /// A `SET LOCAL` succeeded inside the open transaction.
    pub fn set_local(&mut self, statement: String) {
        if self.at_begin.is_some() {
            self.local.push(Local::Statement(statement));
        }
    }

    /// A setting of Drover's own was set, for the session or (inside a transaction) up to the transaction's end.
    pub fn set_own(&mut self, name: &str, value: &str, local: bool) {
        let hidden = self.local_own(name).is_some();
        // What SET LOCAL set before would hide it.
        if (local || hidden) && self.at_begin.is_some() {
            let (name, value) = (name.to_owned(), value.to_owned());
            self.local.push(Local::Own { name, value });
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
            self.local.push(Local::Own { name, value });
        }
    }

    /// Whether the open transaction has values of its own of such settings.
    pub fn has_local_own(&self) -> bool {
        self.local.iter().any(|local| local.statement().is_none())
    }

    fn local_own(&self, name: &str) -> Option<&str> {
        self.local.iter().rev().find_map(|local| match local {
            Local::Own { name: known, value } if known == name => Some(value.as_str()),
            _ => None,
        })
    }

    /// A `RESET name` succeeded.
    pub fn reset(&mut self, name: &str) {
        let base = Rc::clone(&self.base);
        Rc::make_mut(&mut self.current).reset(name, &base);
    }

    /// `RESET ALL` or `DISCARD ALL` succeeded. `RESET ALL` leaves role and session authorisation alone.
    pub fn reset_all(&mut self, identity_too: bool) {
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
        self.savepoints.clear();
        self.local.clear();
    }

    /// The transaction ended; a rollback undoes its settings.
    pub fn end(&mut self, committed: bool) {
        if let Some(before) = self.at_begin.take()
            && !committed
        {
            self.current = before;
        }
        self.savepoints.clear();
        self.local.clear();
    }

    /// A savepoint was made.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            settings: Rc::clone(&self.current),
            local: self.local.len(),
        });
    }

    /// True when a savepoint of this name is open.
    pub fn has_savepoint(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The newest savepoint of this name was released, with all above it.
    pub fn release(&mut self, name: &str) {
        if let Some(depth) = self.find(name) {
            self.savepoints.truncate(depth);
        }
    }

    /// Rolled back to the newest savepoint of this name, which stays open.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(depth) = self.find(name) {
            self.current = Rc::clone(&self.savepoints[depth].settings);
            self.local.truncate(self.savepoints[depth].local);
            self.savepoints.truncate(depth + 1);
        }
    }

    /// Open savepoints.
    pub fn savepoints(&self) -> usize {
        self.savepoints.len()
    }

    /// Savepoints around the newest one of this name.
    pub fn depth_of(&self, name: &str) -> Option<usize> {
        self.find(name)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.savepoints
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
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::from_startup(pairs.iter().copied())
    }

    #[test]
    fn equal_settings_need_nothing() {
        assert_eq!(
            settings(&[("TimeZone", "UTC")]).difference(&settings(&[("timezone", "UTC")])),
            None
        );
    }

    #[test]
    fn lists_of_names_in_a_startup_packet_stay_lists() {
        let text = |value| {
            settings(&[("search_path", value)])
                .get("search_path")
                .map(str::to_owned)
        };
        let same = |value, sql: &str| {
            assert_eq!(
                text(value).as_deref(),
                Some(format!("SET \"search_path\" TO {sql}").as_str())
            );
        };
        same("a, B ,\"C\"\"d, e\", \"$user\"", "'a', 'b', 'C\"d, e', '$user'");
        same("", "''");
        // What SET made of an empty list reads back as a name without letters.
        same("\"\"", "''");
    }

    #[test]
    fn the_difference_resets_what_is_gone_and_sets_what_is_new() {
        let text = settings(&[("timezone", "UTC")]).difference(&settings(&[("work_mem", "1MB")]));
        assert_eq!(
            text.as_deref(),
            Some("RESET \"work_mem\";SET \"timezone\" TO 'UTC';")
        );
    }

    #[test]
    fn a_role_is_left_before_other_settings_and_entered_after_them() {
        let text = settings(&[("role", "b"), ("work_mem", "1MB")]).difference(&settings(&[("role", "a")]));
        assert_eq!(
            text.as_deref(),
            Some("RESET role;SET \"work_mem\" TO '1MB';SET \"role\" TO 'b';")
        );
    }

    #[test]
    fn a_rollback_undoes_settings_and_a_commit_keeps_them() {
        let mut history = SettingsHistory::new(Rc::default());
        history.begin();
        history.set("timezone", "SET timezone TO 'UTC'".to_owned());
        history.savepoint("a");
        history.set("timezone", "SET timezone TO 'CET'".to_owned());
        history.set_local("SET LOCAL work_mem = '1MB'".to_owned());
        assert_eq!(
            history.joining("BEGIN"),
            "BEGIN;SET timezone TO 'UTC';SAVEPOINT \"a\";SET timezone TO 'CET';SET LOCAL work_mem = '1MB';"
        );
        history.rollback_to("a");
        assert_eq!(
            history.joining("BEGIN"),
            "BEGIN;SET timezone TO 'UTC';SAVEPOINT \"a\";"
        );
        history.end(false);
        assert!(history.current().is_empty());
        history.begin();
        history.set("timezone", "SET timezone TO 'UTC'".to_owned());
        history.end(true);
        assert!(!history.current().is_empty());
    }
}
