//! What the configuration says about authentication.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::hba::{Hba, Method};
use crate::login::ident::IdentMaps;

/// Everything but the users themselves.
#[derive(Clone, Default)]
pub struct AuthConfig {
    /// How clients prove who they are where no HBA file says otherwise.
    pub method: Method,
    /// The HBA file; where there is one, only it decides.
    pub hba: Option<Arc<Hba>>,
    /// Which outside names (of certificates, of the operating system) may be which users.
    pub ident: Option<Arc<IdentMaps>>,
    /// How to look up users that are not configured.
    pub query: Option<Arc<AuthQuery>>,
    /// What to present to single shards.
    pub credentials: Vec<Credential>,
    /// Makes the salts that do not come with a stored verifier, those of users that do not exist among them. The same
    /// for all proxies of a cluster, for its whole life; `None`: a new one at each start.
    pub salt_secret: Option<[u8; 32]>,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("method", &self.method)
            .field("query", &self.query)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Looking up users on the home shard.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthQuery {
    /// One statement with the parameter `$1`, the user's name; gives the name and its secret, in at most one row.
    pub sql: String,
    /// The role that runs it.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// The database it is run in; `None`: the first configured one.
    pub database: Option<String>,
    /// How long an answer is used.
    pub ttl: Duration,
    /// How long it is remembered that a user does not exist.
    pub negative_ttl: Duration,
    /// The longest a lookup may take, connecting included.
    pub timeout: Duration,
    /// Answers kept at most, and as many names of users that do not exist.
    pub entries_max: usize,
}

impl fmt::Debug for AuthQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthQuery")
            .field("sql", &self.sql)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What the proxy presents to one shard, or all of them, in the name of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The client's user.
    pub user: String,
    /// The shard's name; `None`: those without a credential of their own.
    pub shard: Option<String>,
    /// The role on the shard; `None`: named like the client's.
    pub server_user: Option<String>,
    /// Its password; `None`: the shard must not ask for one.
    pub password: Option<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .field("shard", &self.shard)
            .field("server_user", &self.server_user)
            .finish_non_exhaustive()
    }
}
