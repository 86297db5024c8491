//! What the configuration says, as a login needs it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::config::{AuthConfig, AuthQuery, Credential};
use super::hba::{ClientCert, ClientName, Method, Request};
use super::users::User;
use crate::config::UserConfig;
use crate::worker::StartError;

/// One state of the configuration. Replaced as a whole.
#[derive(Debug)]
pub struct Access {
    pub(super) users: HashMap<Arc<str>, Arc<User>>,
    /// By user; the few shards of each in the order of the configuration.
    credentials: HashMap<String, Vec<Credential>>,
    config: AuthConfig,
    /// Some configured user's secret can be checked by MD5.
    any_md5: bool,
}

/// What is asked of one client.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    pub(crate) method: Method,
    pub(crate) map: Option<String>,
    pub(crate) client_cert: ClientCert,
    pub(crate) client_name: ClientName,
}

/// No rule lets the client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAccess;

impl Access {
    /// Checks and indexes. `before`: users that are the same keep what was derived for them.
    pub(super) fn new(
        users: &[UserConfig],
        config: AuthConfig,
        before: Option<&Access>,
    ) -> Result<Self, StartError> {
        let mut by_name = HashMap::with_capacity(users.len());
        for user in users {
            let mut made = Arc::new(User::configured(user).map_err(|_| StartError::Verifier {
                user: user.name.clone(),
            })?);
            if let Some(old) = before.and_then(|before| before.users.get(&made.name))
                && old.is_like(&made)
            {
                made = Arc::clone(old);
            }
            by_name.insert(Arc::clone(&made.name), made);
        }
        let mut credentials: HashMap<String, Vec<Credential>> = HashMap::new();
        for credential in &config.credentials {
            credentials
                .entry(credential.user.clone())
                .or_default()
                .push(credential.clone());
        }
        Ok(Self {
            any_md5: by_name.values().any(|user| user.knows_md5()),
            users: by_name,
            credentials,
            config,
        })
    }

    /// What a client has to show.
    pub(crate) fn demand(&self, request: &Request<'_>) -> Result<Demand, NoAccess> {
        let Some(hba) = &self.config.hba else {
            return Ok(Demand {
                method: self.config.method,
                map: None,
                client_cert: match self.config.method {
                    Method::Cert => ClientCert::ForUser,
                    _ => ClientCert::None,
                },
                client_name: ClientName::CommonName,
            });
        };
        let rule = hba.find(request).ok_or(NoAccess)?;
        Ok(Demand {
            method: rule.method,
            map: rule.map.clone(),
            client_cert: rule.client_cert,
            client_name: rule.client_name,
        })
    }

    /// Whether somebody known outside by this name may be `user`. Without a map the names must be the same.
    pub(crate) fn allows(&self, demand: &Demand, outside: &str, user: &str) -> bool {
        match (&demand.map, &self.config.ident) {
            (None, _) => outside == user,
            (Some(map), Some(maps)) => maps.allows(Some(map), outside, user),
            (Some(_), None) => false,
        }
    }

    /// A configured user.
    pub(crate) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// How the others are looked up.
    pub(crate) fn query(&self) -> Option<&Arc<AuthQuery>> {
        self.config.query.as_ref()
    }

    /// Which exchange a user that does not exist goes through under the method `md5`: the one that most likely is
    /// that of those who do.
    pub(crate) fn mocks_md5(&self) -> bool {
        self.any_md5
    }

    /// What the configuration presents to a shard in the name of a user: the shard's own credential before the one
    /// for all shards.
    pub(super) fn credential(&self, user: &str, shard: &str) -> Option<&Credential> {
        let all = self.credentials.get(user)?;
        all.iter()
            .find(|credential| credential.shard.as_deref() == Some(shard))
            .or_else(|| all.iter().find(|credential| credential.shard.is_none()))
    }

    /// Whether a user has credentials of its own for some shard.
    pub(super) fn has_credentials(&self, user: &str) -> bool {
        self.credentials.contains_key(user)
    }
}
