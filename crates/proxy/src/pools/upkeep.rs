//! What one worker does for all pools of the proxy: connections that are to exist from the start, and servers that
//! move to other addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::PoolKey;
use crate::server::Secret;
use crate::worker::{Shared, WorkerMessage};

/// The pause when looking names up is switched off, before it is looked whether that changed.
const OFF_PAUSE: Duration = Duration::from_secs(15);

/// Opens the pools that keep connections: those of the configured users in the configured databases, on the home
/// shard, where the proxy can log in without the client.
pub(crate) fn warm(shared: &Shared) {
    let shards = shared.shards.all();
    let Some(home) = shards.first() else {
        return;
    };
    let source = shared.policies.source();
    for entry in source.databases.iter().filter(|entry| !entry.is_wildcard()) {
        for user in source.users.keys() {
            let Some(policy) = source.resolve(user, &entry.name) else {
                continue;
            };
            let login = shared.secrets.for_server(&policy.server_user, &home.name);
            if policy.min_size == 0 || matches!(login.secret, Secret::None) {
                continue;
            }
            let key = PoolKey {
                shard: home.id,
                user: Arc::from(user.as_str()),
                database: Arc::from(entry.name.as_str()),
            };
            shared.mailboxes.send(super::KEEPER, WorkerMessage::Warm { key });
        }
    }
}

/// Looks the servers' names up now and then, for ever; connections to a server that moved are replaced.
pub(crate) async fn follow_names(shared: Arc<Shared>) {
    let mut known: HashMap<(String, u16), BTreeSet<IpAddr>> = HashMap::new();
    loop {
        let ttl = shared.policies.source().pool.dns_max_ttl;
        tokio::time::sleep(if ttl.is_zero() { OFF_PAUSE } else { ttl }).await;
        if ttl.is_zero() {
            continue;
        }
        for shard in shared.shards.all().iter() {
            if !is_name(&shard.host) {
                continue;
            }
            let Ok(found) = tokio::net::lookup_host((shard.host.as_str(), shard.port)).await else {
                // A name server that is down says nothing about the server.
                continue;
            };
            let found: BTreeSet<IpAddr> = found.map(|address: SocketAddr| address.ip()).collect();
            let before = known.insert((shard.host.clone(), shard.port), found.clone());
            if moved(before.as_ref(), &found) {
                tracing::info!(shard = %shard.name, "the server's addresses changed, its connections are replaced");
                shared.recycle(shard.id);
            }
        }
    }
}

/// Addresses were known, and none or not all of them are left. A new one beside them concerns new connections only.
fn moved(before: Option<&BTreeSet<IpAddr>>, now: &BTreeSet<IpAddr>) -> bool {
    before.is_some_and(|before| !now.is_empty() && !before.is_subset(now))
}

fn is_name(host: &str) -> bool {
    !host.starts_with('/') && host.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_moved_when_an_address_is_gone() {
        let set = |list: &[[u8; 4]]| {
            list.iter()
                .map(|bytes| IpAddr::from(*bytes))
                .collect::<BTreeSet<_>>()
        };
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        assert!(!moved(None, &set(&[a])), "nothing is known yet");
        assert!(!moved(Some(&set(&[a])), &set(&[a, b])), "one more");
        assert!(!moved(Some(&set(&[a, b])), &set(&[b, a])), "in another order");
        assert!(moved(Some(&set(&[a, b])), &set(&[b])));
        assert!(moved(Some(&set(&[a])), &set(&[b])));
        assert!(!moved(Some(&set(&[a])), &set(&[])), "no answer is no move");
    }

    #[test]
    fn only_names_are_looked_up() {
        assert!(is_name("db1.example.com") && is_name("localhost"));
        assert!(!is_name("127.0.0.1") && !is_name("::1") && !is_name("/run/postgresql"));
    }
}
