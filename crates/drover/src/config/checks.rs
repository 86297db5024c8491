//! What makes sense option by option and not together.

use std::collections::BTreeMap;

use super::declare::{Located, Reader};
use super::sections::{
    ConsoleSection, DatabaseSection, PoolSection, ProxySection, ShardSection, UserSection,
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
    if listen == http && listen.port() != 0 {
        reader.problem(
            proxy.key_at("http"),
            format!("`http` is the same address as `listen`, {listen}"),
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

fn unique<'a>(reader: &mut Reader<'_>, what: &str, names: impl Iterator<Item = (&'a str, usize)>) {
    let mut seen = BTreeMap::new();
    for (name, at) in names {
        if seen.insert(name, at).is_some() {
            reader.problem(at, format!("{what} `{name}` is there twice"));
        }
    }
}
