//! Who may log in, and how the proxy logs in to the servers in their name.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use wire::scram::{self, Keys, Verifier};

use super::shared::StartError;
use crate::cancel::random;
use crate::config::{ClientAuth, ProxyConfig};
use crate::server::{Address, Secret};

/// Keys remembered from logins to servers.
const SERVER_KEYS_MAX: usize = 10_000;

/// Users and their secrets.
pub struct Secrets {
    users: HashMap<String, User>,
    /// The proxy's own role. Being here does not let a client log in.
    admin: (String, Option<String>),
    /// Makes the challenges for users that do not exist look like those of users that do.
    mock_secret: [u8; 32],
    /// SCRAM keys of users who have logged in; overwritten at each login.
    learnt: Mutex<HashMap<String, Keys>>,
    /// SCRAM keys from logins to servers, by role and server: they spare the hash rounds of a password.
    server_keys: Mutex<HashMap<(Arc<str>, Address), Keys>>,
}

struct User {
    proof: Proof,
    server_password: Option<String>,
}

/// What a client has to show.
pub(crate) enum Proof {
    /// Nothing.
    Trust,
    /// That it knows the password.
    Scram(Verifier),
}

impl Secrets {
    /// Reads the verifiers and makes the missing ones.
    pub(crate) fn new(config: &ProxyConfig) -> Result<Self, StartError> {
        let mut users = HashMap::new();
        for user in &config.users {
            let invalid = || StartError::Verifier {
                user: user.name.clone(),
            };
            let proof = match &user.auth {
                ClientAuth::Trust => Proof::Trust,
                ClientAuth::Verifier(text) => Proof::Scram(text.parse().map_err(|_| invalid())?),
                ClientAuth::Password(password) => {
                    let salt = random::<16>()?;
                    let made = Verifier::from_password(password.as_bytes(), &salt, scram::ITERATIONS_DEFAULT);
                    Proof::Scram(made.map_err(|_| invalid())?)
                }
            };
            let server_password = match (&user.server_password, &user.auth) {
                (Some(password), _) | (None, ClientAuth::Password(password)) => Some(password.clone()),
                _ => None,
            };
            users.insert(
                user.name.clone(),
                User {
                    proof,
                    server_password,
                },
            );
        }
        Ok(Self {
            users,
            admin: (config.admin.user.clone(), config.admin.password.clone()),
            mock_secret: random()?,
            learnt: Mutex::default(),
            server_keys: Mutex::default(),
        })
    }

    /// What a client that claims to be `user` has to show. For unknown users a verifier that nothing satisfies.
    pub(crate) fn proof(&self, user: &str) -> Proof {
        match self.users.get(user).map(|user| &user.proof) {
            Some(Proof::Trust) => Proof::Trust,
            Some(Proof::Scram(verifier)) => Proof::Scram(verifier.clone()),
            None => Proof::Scram(Verifier::mock(&self.mock_secret, user, scram::ITERATIONS_DEFAULT)),
        }
    }

    /// Remembers what a login revealed, where it is needed for the servers.
    pub(crate) fn learn(&self, user: &str, keys: Keys) {
        if self
            .users
            .get(user)
            .is_some_and(|user| user.server_password.is_none())
        {
            self.learnt
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(user.to_owned(), keys);
        }
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

    fn lock_server_keys(&self) -> std::sync::MutexGuard<'_, HashMap<(Arc<str>, Address), Keys>> {
        self.server_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the proxy presents to a server as `user`.
    #[must_use]
    pub fn for_server(&self, user: &str) -> Secret {
        if let Some(password) = self.users.get(user).and_then(|user| user.server_password.clone()) {
            return Secret::Password(password);
        }
        if let (name, Some(password)) = &self.admin
            && name == user
        {
            return Secret::Password(password.clone());
        }
        let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt
            .get(user)
            .map_or(Secret::None, |keys| Secret::ScramKeys(*keys))
    }
}
