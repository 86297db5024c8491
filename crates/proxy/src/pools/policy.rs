//! Which settings hold for the pool of one client database and one client user: the user's own win over the
//! database's, and those over the general ones.
//!
//! A client names a *database entry*; the entry may stand for another database on the servers and for another role.
//! Pools, limits and commands like PAUSE go by the entry and the client's user; sessions, plans and logins to servers
//! go by what the servers know.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;

use crate::config::{
    ConsoleConfig, DatabaseConfig, Limits, ObserveConfig, PoolConfig, PoolMode, PoolOverrides, ProxyConfig,
    Timeouts, UserLimits,
};
use crate::rules::Rules;

/// What holds for one client user in one client database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPolicy {
    /// The database on the servers.
    pub server_database: Arc<str>,
    /// The role on the servers.
    pub server_user: Arc<str>,
    /// How long a client keeps a server.
    pub mode: PoolMode,
    /// Connections per shard.
    pub size: usize,
    /// Of them kept open; at most `size`.
    pub min_size: usize,
    /// Connections beyond `size` for those who waited long.
    pub reserve: usize,
    /// Times.
    pub timeouts: Timeouts,
    /// Clients of the database entry; 0: no limit.
    pub max_database_clients: usize,
    /// Server connections of the database entry; 0: no limit.
    pub max_database_servers: usize,
    /// Clients of the user; 0: no limit.
    pub max_user_clients: usize,
    /// Server connections of the user; 0: no limit.
    pub max_user_servers: usize,
}

/// Everything pool settings are made of, and what else can change while the proxy runs. Replaced as a whole when the
/// configuration is read again.
#[derive(Debug, Clone)]
pub struct PolicySource {
    /// General settings.
    pub pool: PoolConfig,
    /// General limits.
    pub limits: Limits,
    /// General times.
    pub timeouts: Timeouts,
    /// Database entries.
    pub databases: Vec<DatabaseConfig>,
    /// Users with settings of their own, and those without.
    pub users: HashMap<String, UserLimits>,
    /// Who may use the console.
    pub console: ConsoleConfig,
    /// What is observed of statements.
    pub observe: ObserveConfig,
    /// What is blocked or rewritten.
    pub rules: Arc<Rules>,
}

impl PolicySource {
    /// What a configuration says.
    #[must_use]
    pub fn new(config: &ProxyConfig) -> Self {
        let users = config.users.iter();
        Self {
            pool: config.pool.clone(),
            limits: config.limits.clone(),
            timeouts: config.timeouts,
            databases: config.databases.clone(),
            users: users
                .map(|user| (user.name.clone(), user.limits.clone()))
                .collect(),
            console: config.console.clone(),
            observe: config.observe.clone(),
            rules: Arc::clone(&config.rules),
        }
    }

    /// The entry for a name: its own, else the one for all names.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&DatabaseConfig> {
        let own = self.databases.iter().find(|entry| entry.name == name);
        own.or_else(|| self.databases.iter().find(|entry| entry.is_wildcard()))
    }

    /// What holds for a user in a database; `None`: there is no such database.
    #[must_use]
    pub fn resolve(&self, user: &str, database: &str) -> Option<PoolPolicy> {
        let entry = self.database(database)?;
        Some(self.for_entry(user, database, entry))
    }

    /// Clients of this name are, on the servers, in the same database and role as they were with the settings `before`.
    #[must_use]
    pub fn agrees(&self, before: &Self, name: &str) -> bool {
        match (before.database(name), self.database(name)) {
            (Some(old), Some(new)) => {
                let of = |entry: &DatabaseConfig| match &entry.server_name {
                    Some(server) => server.clone(),
                    None => name.to_owned(),
                };
                of(old) == of(new) && old.server_user == new.server_user
            }
            // Nobody could be in it.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    fn for_entry(&self, user: &str, database: &str, entry: &DatabaseConfig) -> PoolPolicy {
        let none = UserLimits::default();
        let own = self.users.get(user).unwrap_or(&none);
        let server_database = match &entry.server_name {
            Some(name) => name.as_str(),
            None => database,
        };
        let size = pick(own, entry, |pool| pool.size)
            .unwrap_or(self.pool.size)
            .max(1);
        let min_size = pick(own, entry, |pool| pool.min_size).unwrap_or(self.pool.min_size);
        PoolPolicy {
            server_database: Arc::from(server_database),
            server_user: Arc::from(entry.server_user.as_deref().unwrap_or(user)),
            mode: pick(own, entry, |pool| pool.mode).unwrap_or(self.pool.mode),
            size,
            min_size: min_size.min(size),
            reserve: pick(own, entry, |pool| pool.reserve).unwrap_or(self.pool.reserve),
            timeouts: own.timeouts.over(self.timeouts),
            max_database_clients: entry
                .max_client_connections
                .unwrap_or(self.limits.max_database_clients),
            max_database_servers: entry.max_connections.unwrap_or(self.limits.max_database_servers),
            max_user_clients: own.max_client_connections.unwrap_or(self.limits.max_user_clients),
            max_user_servers: own.max_connections.unwrap_or(self.limits.max_user_servers),
        }
    }
}

fn pick<T>(
    user: &UserLimits,
    database: &DatabaseConfig,
    of: impl Fn(&PoolOverrides) -> Option<T>,
) -> Option<T> {
    of(&user.pool).or_else(|| of(&database.pool))
}

/// The settings in force.
#[derive(Debug)]
pub struct Policies {
    source: ArcSwap<PolicySource>,
}

impl Policies {
    pub(crate) fn new(source: PolicySource) -> Self {
        Self {
            source: ArcSwap::from_pointee(source),
        }
    }

    /// What the settings are made of.
    #[must_use]
    pub fn source(&self) -> Arc<PolicySource> {
        self.source.load_full()
    }

    /// What holds for a user in a database; `None`: there is no such database.
    #[must_use]
    pub fn resolve(&self, user: &str, database: &str) -> Option<PoolPolicy> {
        self.source.load().resolve(user, database)
    }

    /// What holds for a user in a database; the general settings where the database is not configured any more.
    #[must_use]
    pub(crate) fn resolve_or_general(&self, user: &str, database: &str) -> PoolPolicy {
        let source = self.source.load();
        source.resolve(user, database).unwrap_or_else(|| {
            let entry = DatabaseConfig::from(database);
            source.for_entry(user, database, &entry)
        })
    }

    pub(crate) fn replace(&self, source: PolicySource) {
        self.source.store(Arc::new(source));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::TimeoutOverrides;

    fn source() -> PolicySource {
        let entry = DatabaseConfig {
            name: "app".into(),
            server_name: Some("app_v2".into()),
            pool: PoolOverrides {
                mode: Some(PoolMode::Session),
                size: Some(3),
                min_size: Some(9),
                reserve: None,
            },
            max_connections: Some(7),
            ..DatabaseConfig::default()
        };
        let batch = UserLimits {
            pool: PoolOverrides {
                mode: Some(PoolMode::Statement),
                ..PoolOverrides::default()
            },
            timeouts: TimeoutOverrides {
                query: Some(Duration::from_secs(1)),
                ..TimeoutOverrides::default()
            },
            ..UserLimits::default()
        };
        PolicySource {
            pool: PoolConfig::default(),
            limits: Limits {
                max_user_servers: 5,
                ..Limits::default()
            },
            timeouts: Timeouts {
                query: Duration::from_secs(9),
                client_idle: Duration::from_secs(8),
                ..Timeouts::default()
            },
            databases: vec![entry, "*".into()],
            users: [("batch".to_owned(), batch)].into_iter().collect(),
            console: Default::default(),
            observe: Default::default(),
            rules: Default::default(),
        }
    }

    #[test]
    fn the_user_wins_over_the_database_and_that_over_the_rest() {
        let source = source();
        let web = source.resolve("web", "app").expect("an entry");
        assert_eq!((web.mode, web.size, web.min_size), (PoolMode::Session, 3, 3));
        assert_eq!((&*web.server_database, &*web.server_user), ("app_v2", "web"));
        assert_eq!((web.max_database_servers, web.max_user_servers), (7, 5));
        let batch = source.resolve("batch", "app").expect("an entry");
        assert_eq!((batch.mode, batch.size), (PoolMode::Statement, 3));
        assert_eq!(batch.timeouts.query, Duration::from_secs(1));
        assert_eq!(batch.timeouts.client_idle, Duration::from_secs(8));
    }

    #[test]
    fn an_asterisk_stands_for_every_other_name() {
        let mut source = source();
        let other = source.resolve("web", "other").expect("the wildcard");
        assert_eq!((&*other.server_database, other.size), ("other", 20));
        source.databases.pop();
        assert!(source.resolve("web", "other").is_none());
    }
}
