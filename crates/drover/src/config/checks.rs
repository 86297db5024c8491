//! What makes sense option by option and not together.

use std::collections::BTreeMap;

use proxy::auth::Method;

use super::Password;
use super::declare::{Located, Reader};
use super::sections::{
    AuthSection, ConsoleSection, CredentialSection, DatabaseSection, LimitsSection, PoolSection,
    ProxySection, ReplicasSection, ShardSection, StoreSection, UserSection,
};

/// Names within a kind must differ.
pub(super) fn names(
    reader: &mut Reader<'_>,
    databases: &[Located<DatabaseSection>],
    users: &[Located<UserSection>],
    shards: &[Located<ShardSection>],
) {
    unique(
        reader,
        "database",
        databases
            .iter()
            .map(|d| (d.value.name.0.as_str(), d.key_at("name"))),
    );
    unique(
        reader,
        "user",
        users.iter().map(|u| (u.value.name.0.as_str(), u.key_at("name"))),
    );
    unique(
        reader,
        "shard",
        shards.iter().map(|s| (s.value.name.0.as_str(), s.key_at("name"))),
    );
}

/// A role that clients are given must be one that Drover can log in as.
pub(super) fn forced_users(
    reader: &mut Reader<'_>,
    databases: &[Located<DatabaseSection>],
    users: &[Located<UserSection>],
) {
    for database in databases {
        let Some(user) = &database.value.user else {
            continue;
        };
        if !users.iter().any(|known| known.value.name == *user) {
            let message = format!("`user`: there is no user `{user}` among the [[users]]");
            reader.problem(database.key_at("user"), message);
        }
        if database.value.name.0 == "*" && database.value.dbname.is_some() {
            let message = "`dbname`: the entry for all names cannot stand for one database";
            reader.problem(database.key_at("dbname"), message);
        }
    }
}

/// Two shards on one server would hold each other's rows.
pub(super) fn nodes(reader: &mut Reader<'_>, shards: &[Located<ShardSection>]) {
    let nodes = shards.iter().flat_map(|shard| {
        let primary = (shard.value.primary.to_string(), shard.key_at("primary"));
        let replicas = shard
            .value
            .replicas
            .iter()
            .map(|node| (node.to_string(), shard.key_at("replicas")));
        std::iter::once(primary).chain(replicas)
    });
    let nodes: Vec<(String, usize)> = nodes.collect();
    unique(
        reader,
        "server",
        nodes.iter().map(|(node, at)| (node.as_str(), *at)),
    );
}

/// Shorter than a second a busy machine's proxies would be cut off again and again; longer than a minute the others would
/// wait that long behind one that died.
pub(super) fn store(reader: &mut Reader<'_>, store: &Located<StoreSection>) {
    let seconds = std::time::Duration::from_secs;
    if !(seconds(1)..=seconds(60)).contains(&store.value.lease_ttl) {
        let message = "`lease_ttl` must be between 1s and 1m".to_owned();
        reader.problem(store.key_at("lease_ttl"), message);
    }
}

/// Whoever has lost the answer to a COMMIT needs time to come back, and clocks are never quite the same.
pub(super) fn limits(reader: &mut Reader<'_>, limits: &Located<LimitsSection>) {
    if limits.value.outcome_retention < std::time::Duration::from_secs(60) {
        let message = "`outcome_retention` must be 1m or more".to_owned();
        reader.problem(limits.key_at("outcome_retention"), message);
    }
}

/// Servers must be looked at with pauses, and answers need time.
pub(super) fn replicas(reader: &mut Reader<'_>, replicas: &Located<ReplicasSection>) {
    for (option, value) in [
        ("poll_interval", replicas.value.poll_interval),
        ("poll_timeout", replicas.value.poll_timeout),
    ] {
        if value < std::time::Duration::from_millis(10) {
            reader.problem(
                replicas.key_at(option),
                format!("`{option}` must be 10ms or more"),
            );
        }
    }
    let functions = &replicas.value.safe_functions;
    if let Some(name) = functions.iter().find(|name| !name.0.contains('.')) {
        let message = format!(
            "`safe_functions` needs names with a schema, such as \"public.{}\"",
            name.0
        );
        reader.problem(replicas.key_at("safe_functions"), message);
    }
    if replicas.value.max_failures == 0 {
        let message = "`max_failures` must be 1 or more".to_owned();
        reader.problem(replicas.key_at("max_failures"), message);
    }
}

/// The console's names must be free.
pub(super) fn console(
    reader: &mut Reader<'_>,
    console: &Located<ConsoleSection>,
    databases: &[Located<DatabaseSection>],
) {
    if console.value.admin_users.is_empty() && console.value.stats_users.is_empty() {
        return;
    }
    for database in databases {
        let name = database.value.name.0.as_str();
        if proxy::config::CONSOLE_NAMES.contains(&name) {
            let message = format!("database `{name}` cannot be reached: that name is the admin console's");
            reader.problem(database.key_at("name"), message);
        }
    }
}

/// Addresses and the token.
pub(super) fn proxy(reader: &mut Reader<'_>, proxy: &Located<ProxySection>) {
    let ProxySection {
        listen,
        http,
        http_token,
        id,
        ..
    } = &proxy.value;
    if let Some(same) = listen.iter().find(|listen| listen == http && listen.port() != 0) {
        reader.problem(
            proxy.key_at("http"),
            format!("`http` is the same address as `listen`, {same}"),
        );
    }
    if !http.ip().is_loopback() && http_token.is_none() {
        let message = format!("`http` listens on {http}, which is not loopback: `http_token` is needed");
        reader.problem(proxy.key_at("http"), message);
    }
    if let Some(id) = id
        && topology::ProxyId::parse(&id.0).is_err()
    {
        let message =
            format!("`id`: `{id}` may only have letters, digits, `_`, `-` and `.`, and not begin with `.`");
        reader.problem(proxy.key_at("id"), message);
    }
}

/// Sizes that would let nothing run.
pub(super) fn pool(reader: &mut Reader<'_>, pool: &Located<PoolSection>) {
    let sizes = [
        ("pool_size", pool.value.pool_size),
        ("multi_shard_pool", pool.value.multi_shard_pool),
    ];
    for (key, size) in sizes {
        if size == 0 {
            reader.problem(pool.key_at(key), format!("`{key}` must be at least 1"));
        }
    }
    let times = [
        ("connection_timeout", pool.value.connection_timeout),
        ("connect_timeout", pool.value.connect_timeout),
    ];
    for (key, time) in times {
        if time.is_zero() {
            reader.problem(pool.key_at(key), format!("`{key}` must be longer than nothing"));
        }
    }
}

/// Users there are, and what they can show.
pub(super) fn auth(reader: &mut Reader<'_>, auth: &Located<AuthSection>, users: &[Located<UserSection>]) {
    let section = &auth.value;
    if users.is_empty() && section.auth_file.is_none() && section.auth_query.is_none() {
        reader.problem(
            0,
            "at least one [[users]] is needed, or `auth_file` or `auth_query` in [auth]",
        );
    }
    if section
        .auth_query
        .as_ref()
        .is_some_and(|query| !query.0.contains("$1"))
    {
        reader.problem(
            auth.key_at("auth_query"),
            "`auth_query`: the user's name must be the parameter $1 of the query",
        );
    }
    if section.auth_user.is_some() && section.auth_query.is_none() {
        reader.problem(
            auth.key_at("auth_user"),
            "`auth_user` is of no use without `auth_query`",
        );
    }
    for (key, size) in [("auth_query_users", section.auth_query_users)] {
        if size == 0 {
            reader.problem(auth.key_at(key), format!("`{key}` must be at least 1"));
        }
    }
    if section.auth_query_timeout.is_zero() {
        let key = "auth_query_timeout";
        reader.problem(auth.key_at(key), format!("`{key}` must be longer than nothing"));
    }
    let needs_password = matches!(section.method.0, Method::Scram | Method::Md5 | Method::Password);
    if section.hba_file.is_none() && needs_password {
        for user in users.iter().filter(|user| user.value.password.is_none()) {
            let method = section.method.0.name();
            reader.problem(
                user.at,
                format!("`password` is missing in [[users]]: without it the method {method} lets nobody in"),
            );
        }
    }
}

/// Credentials are for users and shards that exist, and either cover every shard or have something to fall back on.
pub(super) fn credentials(
    reader: &mut Reader<'_>,
    credentials: &[Located<CredentialSection>],
    users: &[Located<UserSection>],
    shards: &[Located<ShardSection>],
) {
    let mut seen = BTreeMap::new();
    for credential in credentials {
        let CredentialSection { user, shard, .. } = &credential.value;
        if seen.insert((user.clone(), shard.clone()), ()).is_some() {
            reader.problem(
                credential.at,
                format!("there are two credentials of `{user}` for the same shard"),
            );
        }
        if let Some(shard) = shard
            && !shards.iter().any(|known| known.value.name == *shard)
        {
            reader.problem(
                credential.key_at("shard"),
                format!("shard `{shard}` is not in [[shards]]"),
            );
        }
    }
    for user in users {
        let name = &user.value.name;
        let of_user = |shard: Option<&super::Name>| seen.contains_key(&(name.clone(), shard.cloned()));
        let passed_through = user.value.server_password.is_none()
            && !matches!(user.value.password, Some(Password::Clear(_) | Password::Md5(_)));
        let has_some = credentials
            .iter()
            .any(|credential| credential.value.user == *name);
        if !passed_through || !has_some || of_user(None) {
            continue;
        }
        for shard in shards.iter().filter(|shard| !of_user(Some(&shard.value.name))) {
            let message = format!(
                "user `{name}` has credentials for some shards and none for `{}`: SCRAM pass-through excludes \
                 credentials per shard",
                shard.value.name
            );
            reader.problem(user.at, message);
        }
    }
}

fn unique<'a>(reader: &mut Reader<'_>, what: &str, names: impl Iterator<Item = (&'a str, usize)>) {
    let mut seen = BTreeMap::new();
    for (name, at) in names {
        if seen.insert(name, at).is_some() {
            reader.problem(at, format!("{what} `{name}` is there twice"));
        }
    }
}
