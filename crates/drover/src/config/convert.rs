//! A configuration as the parts of Drover take it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use agent::Secret;
use proxy::config::{
    AdminConfig, AuthConfig, AuthQuery, ClientAuth, ConsoleConfig, Credential, DatabaseConfig, Limits,
    ObserveConfig, PoolConfig, PoolOverrides, ProxyConfig, ReplicaConfig, ShardConfig, TimeoutOverrides,
    Timeouts, TraceConfig, UnixSocketConfig, UserConfig, UserLimits,
};
use proxy::rules::Rules;
use topology::records::{ClusterRecordError, NodeRecord, ShardRecord};
use topology::{ClusterRecord, FileStore, ProxyId, ShardId, StoreError, TopologyStore};

use super::{
    Config, DatabaseSection, Name, Node, Password, RuleSection, ShardSection, StoreKind, UserSection,
};

impl Config {
    /// The proxy's part. Shards are numbered from 1 in the order of the file; [`topology::change::ensure_cluster`]
    /// keeps the numbers of a cluster that exists.
    pub fn to_proxy(&self) -> ProxyConfig {
        let pool = PoolConfig {
            mode: self.pool.pool_mode,
            size: self.pool.pool_size,
            min_size: self.pool.min_pool_size,
            reserve: self.pool.reserve_pool,
            reserve_timeout: self.pool.reserve_pool_timeout,
            max_servers: self.pool.max_server_connections,
            multi_shard: self.pool.multi_shard_pool,
            queue_limit: self.pool.queue_limit,
            connection_timeout: self.pool.connection_timeout,
            idle_timeout: self.pool.idle_timeout,
            max_lifetime: self.pool.max_lifetime,
            connect_timeout: self.pool.connect_timeout,
            check_delay: self.pool.server_check_delay,
            check_query: self.pool.server_check_query.0.clone(),
            dns_max_ttl: self.pool.dns_max_ttl,
            server_protocol: self.pool.server_protocol.0,
            ..PoolConfig::default()
        };
        let shards = numbered(&self.shards).map(|(id, shard)| ShardConfig {
            id: id.0,
            name: shard.name.0.clone(),
            host: shard.primary.address.host.clone(),
            port: shard.primary.address.port,
        });
        ProxyConfig {
            listen: self.proxy.listen.first,
            listen_also: self.proxy.listen.others.clone(),
            reuse_port: self.proxy.reuse_port,
            unix_socket: self.to_unix_socket(),
            console: ConsoleConfig {
                admin_users: names_of(&self.console.admin_users),
                stats_users: names_of(&self.console.stats_users),
            },
            workers: self.proxy.workers,
            clients_per_worker: self.proxy.clients_per_worker,
            lease_ttl: self.store.lease_ttl,
            fail_points: Default::default(),
            users: self.all_users(),
            auth: self.auth_config(),
            databases: self.databases.iter().map(database).collect(),
            pool,
            limits: self.to_limits(),
            timeouts: Timeouts {
                query: self.limits.query_timeout,
                transaction: self.limits.transaction_timeout,
                idle_transaction: self.limits.idle_transaction_timeout,
                client_idle: self.limits.client_idle_timeout,
            },
            shards: shards.collect(),
            observe: self.to_observe(),
            admin: AdminConfig {
                user: self.admin.user.0.clone(),
                password: Some(self.admin.password.expose().to_owned()),
            },
            tls: self.to_tls(),
            replicas: self.to_replicas(),
            rules: self.to_rules(),
        }
    }

    /// They were checked when the configuration was read.
    fn to_rules(&self) -> Arc<Rules> {
        let rules: Vec<_> = self.rules.iter().map(RuleSection::to_proxy).collect();
        Arc::new(Rules::new(&rules).unwrap_or_default())
    }

    fn to_unix_socket(&self) -> Option<UnixSocketConfig> {
        let directory = self.proxy.unix_socket_dir.clone()?;
        Some(UnixSocketConfig {
            directory,
            mode: self.proxy.unix_socket_mode.0,
        })
    }

    /// The users of the file and those of `auth_file`; a `[[users]]` comes first.
    pub fn all_users(&self) -> Vec<UserConfig> {
        let own: HashSet<&str> = self.users.iter().map(|user| user.name.0.as_str()).collect();
        let listed = self
            .listed_users
            .iter()
            .filter(|entry| !own.contains(entry.user.as_str()));
        let listed = listed.map(|entry| UserConfig {
            name: entry.user.clone(),
            auth: listed_auth(&entry.secret),
            server_password: None,
            limits: UserLimits::default(),
        });
        self.users.iter().map(user).chain(listed).collect()
    }

    /// How clients, and Drover in their name, prove who they are.
    pub fn auth_config(&self) -> AuthConfig {
        let auth = &self.auth;
        let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let name = |name: &Option<Name>| name.as_ref().map(|name| name.0.clone());
        let query = auth.auth_query.as_ref().map(|sql| {
            let (user, password) = match &auth.auth_user {
                Some(user) => (user.0.clone(), exposed(&auth.auth_password)),
                None => {
                    let password = self.admin.password.expose().to_owned();
                    (self.admin.user.0.clone(), Some(password))
                }
            };
            Arc::new(AuthQuery {
                sql: sql.0.clone(),
                user,
                password,
                database: name(&auth.auth_dbname),
                ttl: auth.auth_query_ttl,
                negative_ttl: auth.auth_query_negative_ttl,
                timeout: auth.auth_query_timeout,
                entries_max: auth.auth_query_users,
            })
        });
        let credentials = self.credentials.iter().map(|credential| Credential {
            user: credential.user.0.clone(),
            shard: name(&credential.shard),
            server_user: name(&credential.server_user),
            password: exposed(&credential.password),
        });
        AuthConfig {
            method: auth.method.0,
            hba: self.hba.clone(),
            ident: self.ident.clone(),
            query,
            credentials: credentials.collect(),
            ..AuthConfig::default()
        }
    }

    fn to_limits(&self) -> Limits {
        Limits {
            max_message_bytes: self.limits.max_message_bytes.0,
            max_client_statements: self.limits.max_client_statements,
            outcome_retention: self.limits.outcome_retention,
            login_timeout: self.limits.login_timeout,
            max_clients: self.limits.max_clients,
            max_database_clients: self.limits.max_db_client_connections,
            max_database_servers: self.limits.max_db_connections,
            max_user_clients: self.limits.max_user_client_connections,
            max_user_servers: self.limits.max_user_connections,
            ..Limits::default()
        }
    }

    fn to_replicas(&self) -> ReplicaConfig {
        let replicas = &self.replicas;
        ReplicaConfig {
            poll_interval: replicas.poll_interval,
            poll_timeout: replicas.poll_timeout,
            hang_timeout: replicas.hang_timeout,
            discover: replicas.discover,
            lag_bytes_max: replicas.max_lag_bytes.0 as u64,
            lag_max: replicas.max_lag,
            keep: replicas.keep,
            slow_start: replicas.slow_start,
            failover_buffer: replicas.failover_buffer,
            failover_buffer_statements: replicas.failover_buffer_statements,
            breaker: replica::BreakerPolicy {
                failures_max: u32::try_from(replicas.max_failures).unwrap_or(u32::MAX),
                pause: replicas.failure_pause,
                ..replica::BreakerPolicy::default()
            },
            zone: replicas.zone.as_ref().map(|zone| zone.0.clone()),
            safe_functions: replicas
                .safe_functions
                .iter()
                .filter_map(|name| name.0.split_once('.'))
                .map(|(schema, function)| (schema.to_owned(), function.to_owned()))
                .collect(),
        }
    }

    fn to_observe(&self) -> ObserveConfig {
        let traces = self.tracing.otlp_endpoint.as_ref().map(|endpoint| TraceConfig {
            endpoint: endpoint.0.clone(),
            sample_ratio: self.tracing.sample_ratio.0,
            service_name: self.tracing.service_name.0.clone(),
        });
        ObserveConfig {
            queries_max: self.statistics.queries,
            slow_query: self.log.slow_query,
            slow_query_literals: self.log.slow_query_literals,
            log_statements: self.log.statements,
            log_connections: self.log.connections,
            log_disconnections: self.log.disconnections,
            log_errors: self.log.errors,
            log_pins: self.log.pins,
            log_tenants: self.log.tenants,
            traces,
        }
    }

    /// The cluster's first record, for a store that holds none. `cluster_id` is made by the caller.
    pub fn to_cluster(&self, cluster_id: impl Into<String>) -> Result<ClusterRecord, ClusterRecordError> {
        let shards = numbered(&self.shards).map(|(id, shard)| ShardRecord {
            id,
            name: shard.name.0.clone(),
            primary: node(&shard.primary),
            replicas: shard.replicas.iter().map(node).collect(),
        });
        let listed = self.databases.iter().filter(|database| database.name.0 != "*");
        let mut databases: Vec<String> = Vec::new();
        for database in listed {
            // Two entries may stand for one database.
            let name = &database.dbname.as_ref().unwrap_or(&database.name).0;
            if !databases.contains(name) {
                databases.push(name.clone());
            }
        }
        ClusterRecord::new(cluster_id, databases, shards.collect())
    }

    /// Opens the store; makes it if there is none.
    pub fn open_store(&self) -> Result<Arc<dyn TopologyStore>, StoreError> {
        match self.store.kind {
            StoreKind::File => Ok(Arc::new(FileStore::open(&self.store.path)?)),
        }
    }

    /// This proxy's name in the cluster: as configured, or one that no other process has, nor this one's predecessor
    /// under the same process id, whose lease may have some time left.
    ///
    /// A `successor` lives beside the proxy of the same configuration for a while, so it gets a name of its own.
    pub fn proxy_id(&self, successor: bool) -> ProxyId {
        let configured = self.proxy.id.as_ref().and_then(|id| {
            let name = if successor {
                format!("{}.{}", id.0, std::process::id())
            } else {
                id.0.clone()
            };
            ProxyId::parse(&name).ok()
        });
        configured.unwrap_or_else(|| {
            let host = nix::unistd::gethostname().unwrap_or_default();
            let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            generated_id(&host.to_string_lossy(), std::process::id(), started.as_millis())
        })
    }
}

fn generated_id(host: &str, pid: u32, started_ms: u128) -> ProxyId {
    const HOST_CHARS_MAX: usize = 40;
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let host: String = host.chars().take(HOST_CHARS_MAX).map(plain).collect();
    // Letters, digits, `_` and `-` only, and short: always an id.
    ProxyId::parse(&format!("{host}-{pid}-{started_ms:x}")).expect("it is made of allowed characters")
}

fn numbered(shards: &[ShardSection]) -> impl Iterator<Item = (ShardId, &ShardSection)> {
    (1..).map(ShardId).zip(shards)
}

fn names_of(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}

fn node(node: &Node) -> NodeRecord {
    NodeRecord {
        weight: node.weight,
        zone: node.zone.as_ref().map(|zone| zone.0.clone()),
        ..NodeRecord::new(node.address.host.clone(), node.address.port)
    }
}

/// A secret of `auth_file`; reading the file has checked that a verifier is one.
fn listed_auth(secret: &str) -> ClientAuth {
    if secret.is_empty() {
        ClientAuth::None
    } else if secret.starts_with("SCRAM-SHA-256$") {
        ClientAuth::Verifier(secret.to_owned())
    } else if wire::md5::response_from_hash(secret, [0; 4]).is_some() {
        ClientAuth::Md5(secret.to_owned())
    } else {
        ClientAuth::Password(secret.to_owned())
    }
}

fn user(user: &UserSection) -> UserConfig {
    let auth = match &user.password {
        None => ClientAuth::None,
        Some(Password::Clear(password)) => ClientAuth::Password(password.expose().to_owned()),
        Some(Password::Md5(stored)) => ClientAuth::Md5(stored.expose().to_owned()),
        Some(Password::Verifier(verifier)) => ClientAuth::Verifier(verifier.expose().to_owned()),
    };
    UserConfig {
        name: user.name.0.clone(),
        auth,
        server_password: user
            .server_password
            .as_ref()
            .map(|password| password.expose().to_owned()),
        limits: UserLimits {
            pool: PoolOverrides {
                mode: user.pool_mode,
                size: user.pool_size,
                min_size: user.min_pool_size,
                reserve: user.reserve_pool,
            },
            max_connections: user.max_user_connections,
            max_client_connections: user.max_user_client_connections,
            timeouts: TimeoutOverrides {
                query: user.query_timeout,
                transaction: user.transaction_timeout,
                idle_transaction: user.idle_transaction_timeout,
                client_idle: user.client_idle_timeout,
            },
        },
    }
}

fn database(database: &DatabaseSection) -> DatabaseConfig {
    let name = |name: &Option<Name>| name.as_ref().map(|name| name.0.clone());
    DatabaseConfig {
        name: database.name.0.clone(),
        server_name: name(&database.dbname),
        server_user: name(&database.user),
        pool: PoolOverrides {
            mode: database.pool_mode,
            size: database.pool_size,
            min_size: database.min_pool_size,
            reserve: database.reserve_pool,
        },
        max_connections: database.max_connections,
        max_client_connections: database.max_client_connections,
    }
}

#[cfg(test)]
mod tests {
    use super::super::docs::EXAMPLE;
    use super::*;

    #[test]
    fn the_example_becomes_a_proxy_and_a_cluster() {
        let config = Config::parse(EXAMPLE).unwrap();
        let proxy = config.to_proxy();
        assert_eq!((proxy.shards[1].id, proxy.shards[1].port), (2, 5432));
        let cluster = config.to_cluster("c").unwrap();
        assert_eq!((cluster.home, cluster.shards[1].replicas.len()), (ShardId(1), 1));
        assert_eq!(proxy.shards[0].id, cluster.home.0);
    }

    #[test]
    fn ids_can_be_made_on_any_host() {
        assert_eq!(generated_id("db.example", 7, 255).as_str(), "db_example-7-ff");
        for host in ["", ".", "é/..", &"x".repeat(1000)] {
            assert!(
                generated_id(host, u32::MAX, u128::from(u64::MAX))
                    .as_str()
                    .ends_with("-ffffffffffffffff")
            );
        }
    }
}
