//! Who may log in, and how the proxy logs in to the servers in their name.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;

use super::shared::StartError;
use crate::config::{ClientAuth, ProxyConfig};
use crate::server::{ScramKeys, Secret};

/// Users and their secrets.
pub struct Secrets {
    users: HashMap<String, User>,
    /// The proxy's own role. Being here does not let a client log in.
    admin: (String, Option<String>),
    /// SCRAM keys of users who have logged in; overwritten at each login.
    learnt: Mutex<HashMap<String, ScramKeys>>,
}

struct User {
    auth: ClientAuth,
    server_password: Option<String>,
}

impl Secrets {
    pub(super) fn new(config: &ProxyConfig) -> Result<Self, StartError> {
        let mut users = HashMap::new();
        for user in &config.users {
            let server_password = match (&user.server_password, &user.auth) {
                (Some(password), _) | (None, ClientAuth::Password(password)) => Some(password.clone()),
                _ => None,
            };
            users.insert(
                user.name.clone(),
                User {
                    auth: user.auth.clone(),
                    server_password,
                },
            );
        }
        let admin = (config.admin.user.clone(), config.admin.password.clone());
        Ok(Self {
            users,
            admin,
            learnt: Mutex::default(),
        })
    }

    /// The user may log in without proof.
    #[must_use]
    pub fn is_trusted(&self, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|user| matches!(user.auth, ClientAuth::Trust))
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
            .map_or(Secret::None, |keys| Secret::ScramKeys(keys.clone()))
    }
}
