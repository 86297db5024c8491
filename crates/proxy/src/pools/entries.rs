//! What is counted and switched per client database and per client user, over all workers.
//!
//! Every value lives as long as the proxy: there are as many as database entries and users that logged in.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::CheckoutError;
use crate::config::ProxyConfig;

/// A number of things that may exist at once.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
    /// 0: no limit.
    limit: AtomicUsize,
}

impl Budget {
    /// Takes one, unless all are taken.
    pub(crate) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (limit == 0 || used < limit).then_some(used + 1)
            });
        taken.is_ok()
    }

    /// Gives one back.
    pub(crate) fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit; 0: none.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }
}

/// A client database as the whole proxy sees it.
#[derive(Debug)]
pub struct DatabaseState {
    /// The name clients use.
    pub name: Arc<str>,
    /// Its clients.
    pub clients: Budget,
    /// Its server connections for first shards.
    pub servers: Budget,
    pub(crate) paused: AtomicBool,
    pub(crate) disabled: AtomicBool,
}

impl DatabaseState {
    /// New transactions wait.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// New clients are refused.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::Acquire)
    }
}

/// A client user as the whole proxy sees it.
#[derive(Debug)]
pub struct UserState {
    /// Its name.
    pub name: Arc<str>,
    /// Its clients.
    pub clients: Budget,
    /// Its server connections for first shards.
    pub servers: Budget,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Entries {
    databases: Mutex<HashMap<Arc<str>, Arc<DatabaseState>>>,
    users: Mutex<HashMap<Arc<str>, Arc<UserState>>>,
    /// Server connections for first shards of the whole proxy.
    pub servers: Arc<Budget>,
    /// Databases that come into being are paused: PAUSE without a name was given.
    pub(crate) all_paused: AtomicBool,
}

impl Entries {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let entries = Self::default();
        entries.servers.set_limit(config.pool.max_servers);
        for database in config.databases.iter().filter(|entry| !entry.is_wildcard()) {
            entries.database(&database.name);
        }
        entries
    }

    /// A database's state, made when it is asked for the first time.
    pub fn database(&self, name: &str) -> Arc<DatabaseState> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = databases.get(name) {
            return Arc::clone(found);
        }
        let name: Arc<str> = Arc::from(name);
        let state = Arc::new(DatabaseState {
            name: Arc::clone(&name),
            clients: Budget::default(),
            servers: Budget::default(),
            paused: AtomicBool::new(self.all_paused.load(Ordering::Acquire)),
            disabled: AtomicBool::new(false),
        });
        databases.insert(name, Arc::clone(&state));
        state
    }

    /// A user's state, made when it is asked for the first time.
    pub fn user(&self, name: &str) -> Arc<UserState> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = users.get(name) {
            return Arc::clone(found);
        }
        let name: Arc<str> = Arc::from(name);
        let state = Arc::new(UserState {
            name: Arc::clone(&name),
            clients: Budget::default(),
            servers: Budget::default(),
        });
        users.insert(name, Arc::clone(&state));
        state
    }

    /// All databases known, by name.
    #[must_use]
    pub fn databases(&self) -> Vec<Arc<DatabaseState>> {
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = databases.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All users known, by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<UserState>> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = users.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// A client counted among its database's and its user's, until this is dropped.
#[derive(Debug)]
pub struct Admission {
    /// Its database.
    pub database: Arc<DatabaseState>,
    /// Its user.
    pub user: Arc<UserState>,
}

impl Admission {
    /// A client that no limit holds back, such as an operator; it is counted nowhere else.
    pub(crate) fn unlimited(database: &Arc<str>, user: &Arc<str>) -> Self {
        Self {
            database: Arc::new(DatabaseState {
                name: Arc::clone(database),
                clients: Budget::default(),
                servers: Budget::default(),
                paused: AtomicBool::new(false),
                disabled: AtomicBool::new(false),
            }),
            user: Arc::new(UserState {
                name: Arc::clone(user),
                clients: Budget::default(),
                servers: Budget::default(),
            }),
        }
    }

    /// Counts a client, or says which limit forbids it (53300, or 3D000 for a disabled database).
    pub(crate) fn new(database: Arc<DatabaseState>, user: Arc<UserState>) -> Result<Self, CheckoutError> {
        let refused = |sqlstate: &str, message: String, hint: Option<&str>| CheckoutError {
            sqlstate: sqlstate.to_owned(),
            message,
            hint: hint.map(str::to_owned),
        };
        if database.is_disabled() {
            let message = format!("database \"{}\" is disabled", database.name);
            return Err(refused("3D000", message, None));
        }
        if !database.clients.take() {
            let message = format!("too many connections for database \"{}\"", database.name);
            let hint = "The limit is max_client_connections of the database.";
            return Err(refused("53300", message, Some(hint)));
        }
        if !user.clients.take() {
            database.clients.give_back();
            let message = format!("too many connections for role \"{}\"", user.name);
            let hint = "The limit is max_user_client_connections of the user.";
            return Err(refused("53300", message, Some(hint)));
        }
        Ok(Self { database, user })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.database.clients.give_back();
        self.user.clients.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_and_given_back() {
        let entries = Entries::default();
        let (database, user) = (entries.database("app"), entries.user("web"));
        database.clients.set_limit(1);
        let admit = || Admission::new(entries.database("app"), entries.user("web"));
        let first = admit().expect("room");
        let error = admit().expect_err("one too many");
        assert_eq!(
            (error.sqlstate.as_str(), error.message.as_str()),
            ("53300", "too many connections for database \"app\"")
        );
        assert_eq!(user.clients.used(), 1);
        drop(first);
        user.clients.set_limit(1);
        database.clients.set_limit(0);
        let _second = admit().expect("room");
        let error = admit().expect_err("one too many");
        assert_eq!(error.message, "too many connections for role \"web\"");
        assert_eq!(database.clients.used(), 1, "the refused one is not counted");
        database.disabled.store(true, Ordering::Release);
        assert_eq!(admit().expect_err("disabled").sqlstate, "3D000");
    }
}
