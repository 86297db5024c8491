//! What a life knows about its own session.

use crate::client::Answer;
use std::collections::{BTreeMap, BTreeSet};

/// Settings that lives change, in the order of [`state_sql`].
pub(super) const SETTINGS: [&str; 6] = [
    "application_name",
    "TimeZone",
    "DateStyle",
    "work_mem",
    "search_path",
    "iso.tag",
];

/// Settings that servers report by themselves.
pub(super) const REPORTED: [&str; 3] = ["application_name", "TimeZone", "DateStyle"];

/// Values of the settings; `None` reads as NULL.
pub(super) type Values = BTreeMap<&'static str, Option<String>>;

/// Where a session begins when it asks for nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    pub(super) values: Values,
    pub(super) user: String,
}

fn settings_sql() -> String {
    // A setting with a dotted name that was made and undone reads as the empty text, on plain PostgreSQL too.
    SETTINGS
        .map(|name| format!("nullif(current_setting('{name}', true), '')"))
        .join(", ")
}

pub(super) fn defaults_sql() -> String {
    format!("SELECT {}, current_user::text", settings_sql())
}

/// Everything a session can tell about itself, in one row.
pub(super) fn state_sql() -> String {
    format!(
        "SELECT {}, current_user::text, (to_regclass('pg_temp.iso_temp') IS NOT NULL)::text, \
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())::text, \
         (SELECT coalesce(string_agg(c, ' '), '') FROM pg_listening_channels() c)",
        settings_sql()
    )
}

impl Defaults {
    pub(super) fn read(answer: &Answer) -> Defaults {
        let row = answer.text_rows().into_iter().next().unwrap_or_default();
        let mut values = row.into_iter();
        let settings = SETTINGS
            .iter()
            .map(|name| (*name, values.next().flatten()))
            .collect();
        Defaults {
            values: settings,
            user: values.next().flatten().unwrap_or_default(),
        }
    }
}

/// A statement prepared under a name that every client uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prepared {
    /// A text that nobody else has: answers with this and the parameter.
    Own(String),
    /// A text everybody has: the parameter and the application's name.
    Name,
    /// A text everybody has, whose meaning is the search path's.
    Which,
    /// A text everybody has: own rows by key.
    Rows,
}

/// A row stored in `iso_rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) key: u64,
    pub(super) number: u64,
}

/// The session as it must be.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Carried by every value of this life.
    pub(super) nonce: String,
    /// What RESET goes back to.
    pub(super) start: Values,
    pub(super) now: Values,
    pub(super) role: String,
    pub(super) prepared: BTreeMap<String, Prepared>,
    pub(super) sql_prepared: bool,
    /// Rows of the temporary table, if there is one.
    pub(super) temp: Option<u64>,
    /// Session advisory locks held.
    pub(super) locks: u64,
    /// The lock that a view takes is held.
    pub(super) view_lock: bool,
    pub(super) listening: BTreeSet<String>,
    pub(super) rows: Vec<Stored>,
}

impl Model {
    pub(super) fn new(nonce: String, start: Values, user: &str) -> Model {
        Model {
            nonce,
            now: start.clone(),
            start,
            role: user.to_string(),
            prepared: BTreeMap::new(),
            sql_prepared: false,
            temp: None,
            locks: 0,
            view_lock: false,
            listening: BTreeSet::new(),
            rows: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.now.insert(name, Some(value.to_string()));
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.now.get(name)?.as_deref()
    }

    pub(super) fn reset(&mut self, name: &'static str) {
        let start = self.start.get(name).cloned().flatten();
        self.now.insert(name, start);
    }

    pub(super) fn reset_all(&mut self) {
        self.now = self.start.clone();
    }

    /// DISCARD ALL.
    pub(super) fn discard(&mut self, user: &str) {
        self.reset_all();
        self.role = user.to_string();
        self.prepared.clear();
        self.sql_prepared = false;
        self.temp = None;
        self.locks = 0;
        self.view_lock = false;
        self.listening.clear();
    }

    /// The answer to [`state_sql`] without the channels.
    pub(super) fn state(&self) -> Vec<Option<String>> {
        let mut row: Vec<Option<String>> = SETTINGS
            .iter()
            .map(|name| self.now.get(name).cloned().flatten())
            .collect();
        row.push(Some(self.role.clone()));
        row.push(Some(self.temp.is_some().to_string()));
        row.push(Some((self.locks + u64::from(self.view_lock)).to_string()));
        row
    }

    /// What a table named through the search path must say.
    pub(super) fn which(&self) -> &str {
        match self.value("search_path") {
            Some(path) if path.starts_with("iso_a") => "iso_a",
            Some(path) if path.starts_with("iso_b") => "iso_b",
            _ => "public",
        }
    }
}
