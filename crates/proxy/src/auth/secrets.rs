//! The secrets of one proxy, and what follows from them.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use wire::scram::{self, Keys, Verifier};

use super::access::Access;
use super::agreement::{Agreement, Disagreement, Where};
use super::config::AuthConfig;
use super::lookup::{Home, LookupError, Lookups, Source};
use super::users::{Stored, User};
use crate::cancel::random;
use crate::config::{AdminConfig, ProxyConfig, UserConfig};
use crate::pools::Shards;
use crate::server::{Address, Secret};
use crate::tls::Tls;
use crate::worker::StartError;

/// Keys remembered from logins to servers.
const SERVER_KEYS_MAX: usize = 10_000;

/// Users whose own secrets are remembered.
const LEARNT_MAX: usize = 100_000;

/// Users and their secrets.
pub struct Secrets {
    access: ArcSwap<Access>,
    /// The proxy's own role. Being here does not let a client log in.
    admin: AdminConfig,
    /// Where users are looked up and verifiers compared, unless the configuration names another one.
    database: String,
    /// The home shard's number.
    home: Option<u32>,
    /// Makes the challenges for users that do not exist look like those of users that do.
    mock_secret: [u8; 32],
    /// Secrets of users who have logged in and who have none in the configuration; overwritten at each login.
    learnt: Mutex<HashMap<String, Secret>>,
    /// SCRAM keys from logins to servers, by role and server: they spare the hash rounds of a password.
    server_keys: Mutex<HashMap<(Arc<str>, Address), Keys>>,
    lookups: Arc<Lookups>,
    agreement: Agreement,
}

/// How servers are reached now.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// Where they are.
    pub shards: &'a Shards,
    /// How connections to them are encrypted.
    pub tls: &'a Tls,
}

/// As whom the proxy logs in to a shard, and with what.
#[derive(Debug, Clone)]
pub struct ServerLogin {
    /// The role there; `None`: named like the client's user.
    pub role: Option<String>,
    /// What it presents.
    pub secret: Secret,
}

impl Secrets {
    /// Reads the verifiers.
    pub(crate) fn new(config: &ProxyConfig) -> Result<Self, StartError> {
        let access = Access::new(&config.users, config.auth.clone(), None)?;
        let mock_secret = match config.auth.salt_secret {
            Some(secret) => secret,
            None => random()?,
        };
        Ok(Self {
            access: ArcSwap::from_pointee(access),
            admin: config.admin.clone(),
            database: config
                .databases
                .iter()
                .find(|database| database.name != "*")
                .map_or_else(
                    || "postgres".to_owned(),
                    |database| {
                        database
                            .server_name
                            .clone()
                            .unwrap_or_else(|| database.name.clone())
                    },
                ),
            home: config.shards.first().map(|shard| shard.id),
            mock_secret,
            learnt: Mutex::default(),
            server_keys: Mutex::default(),
            lookups: Arc::default(),
            agreement: Agreement::default(),
        })
    }

    /// Whether [`Self::replace`] would take this configuration.
    pub fn check(users: &[UserConfig], auth: &AuthConfig) -> Result<(), StartError> {
        Access::new(users, auth.clone(), None).map(|_| ())
    }

    /// Takes over another configuration. Logins that have begun end with the old one; sessions go on, also those of
    /// users that are gone.
    pub fn replace(&self, users: &[UserConfig], auth: AuthConfig) -> Result<(), StartError> {
        let access = Access::new(users, auth, Some(&self.access.load()))?;
        self.access.store(Arc::new(access));
        self.lookups.clear();
        self.agreement.clear();
        self.lock_server_keys().clear();
        Ok(())
    }

    /// Compares the verifiers of all configured users that are passed through with those of the shards. What differs
    /// goes to the log. Does not wait.
    pub fn check_agreement(&self, reach: &Reach<'_>) {
        let access = self.access.load();
        for user in access.users.values() {
            if let Some(verifier) = self.passed_through(&access, user) {
                self.agreement.check_later(&user.name, verifier, self.ask(reach));
            }
        }
    }

    /// What the configuration says now.
    pub(crate) fn access(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// A user by name, looked up if it is not configured.
    pub(crate) async fn user(
        &self,
        access: &Access,
        name: &str,
        reach: &Reach<'_>,
    ) -> Result<(Option<Arc<User>>, Source), LookupError> {
        if let Some(user) = access.user(name) {
            return Ok((Some(Arc::clone(user)), Source::Configured));
        }
        let (Some(query), Some(home)) = (access.query(), self.home) else {
            return Ok((None, Source::Configured));
        };
        let Some(address) = reach.shards.address(home) else {
            return Ok((None, Source::Configured));
        };
        let tls = reach.tls.server(&reach.shards.name(home));
        let home = Home {
            address,
            tls,
            database: &self.database,
        };
        let (answer, source) = self.lookups.user(name, query, home).await;
        answer.map(|user| (user, source))
    }

    /// A password did not fit a looked-up user: it may have been changed since. True if the next login asks again.
    pub(crate) fn doubt(&self, name: &str) -> bool {
        self.lookups.doubt(name)
    }

    /// Stands for a user that does not exist: nothing satisfies it.
    pub(crate) fn mock(&self, user: &str) -> Verifier {
        Verifier::mock(&self.mock_secret, user, scram::ITERATIONS_DEFAULT)
    }

    /// Remembers what a login has proved, where it is needed for the servers. `keys`: what a SCRAM proof revealed.
    pub(crate) async fn learn(
        &self,
        access: &Access,
        user: &User,
        keys: Option<Keys>,
        reach: &Reach<'_>,
    ) -> Result<(), Disagreement> {
        if user.server_password.is_some() {
            return Ok(());
        }
        let configured = access.users.contains_key(&user.name);
        let secret = match (&user.stored, keys) {
            (Some(Stored::Verifier(_)), Some(keys)) => Secret::ScramKeys(keys),
            (Some(Stored::Md5(hash)), _) if !configured => Secret::Md5(hash.clone()),
            (Some(Stored::Clear(password)), _) if !configured => Secret::Password(password.clone()),
            _ => return Ok(()),
        };
        if let Some(verifier) = self.passed_through(access, user) {
            self.agreement
                .check(&user.name, verifier, || self.ask(reach))
                .await?;
        }
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if learnt.len() >= LEARNT_MAX {
            learnt.clear();
        }
        learnt.insert(user.name.to_string(), secret);
        Ok(())
    }

    /// Keys that worked for `user` at this server before.
    pub(crate) fn server_keys(&self, user: &Arc<str>, address: &Address) -> Option<Keys> {
        self.lock_server_keys()
            .get(&(Arc::clone(user), address.clone()))
            .copied()
    }

    /// Remembers keys that work, or forgets those that no longer do.
    pub(crate) fn set_server_keys(&self, user: &Arc<str>, address: &Address, keys: Option<Keys>) {
        let mut all = self.lock_server_keys();
        // Addresses change with failovers; the servers of one moment are far fewer.
        if all.len() >= SERVER_KEYS_MAX {
            all.clear();
        }
        match keys {
            Some(keys) => all.insert((Arc::clone(user), address.clone()), keys),
            None => all.remove(&(Arc::clone(user), address.clone())),
        };
    }

    /// What the proxy presents to a shard in the name of `user`: the configured credential; else the configured
    /// password; else what the user's own login has shown.
    #[must_use]
    pub fn for_server(&self, user: &str, shard: &str) -> ServerLogin {
        let access = self.access.load();
        if let Some(credential) = access.credential(user, shard) {
            return ServerLogin {
                role: credential.server_user.clone(),
                secret: credential.password.clone().map_or(Secret::None, Secret::Password),
            };
        }
        let configured = access.user(user).and_then(|user| {
            user.server_password
                .clone()
                .map(Secret::Password)
                .or_else(|| match &user.stored {
                    Some(Stored::Clear(password)) => Some(Secret::Password(password.clone())),
                    Some(Stored::Md5(hash)) => Some(Secret::Md5(hash.clone())),
                    _ => None,
                })
        });
        let own = || {
            let password = self.admin.password.clone().filter(|_| self.admin.user == user);
            password.map(Secret::Password)
        };
        let learnt = || {
            let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.get(user).cloned()
        };
        ServerLogin {
            role: None,
            secret: configured.or_else(own).or_else(learnt).unwrap_or_default(),
        }
    }

    /// The verifier of a user whose own keys are all there is for the servers.
    fn passed_through<'a>(&self, access: &Access, user: &'a User) -> Option<&'a Verifier> {
        let other_means = access.has_credentials(&user.name)
            || (self.admin.password.is_some() && *self.admin.user == *user.name);
        user.passed_through().filter(|_| !other_means)
    }

    fn ask(&self, reach: &Reach<'_>) -> Where {
        let shards = reach.shards.all();
        Where {
            shards: shards
                .iter()
                .map(|shard| (shard.clone(), reach.tls.server(&shard.name)))
                .collect(),
            admin: self.admin.clone(),
            database: self.database.clone(),
        }
    }

    fn lock_server_keys(&self) -> std::sync::MutexGuard<'_, HashMap<(Arc<str>, Address), Keys>> {
        self.server_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
