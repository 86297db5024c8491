//! What one worker does for all pools of the proxy: connections that are to exist from the start, and servers that
//! move to other addresses.

use std::sync::Arc;
use std::time::Duration;

use super::{Place, PoolKey, PoolPolicy};
use crate::server::Secret;
use crate::worker::{Shared, WorkerMessage};

/// The pause when looking names up is switched off, before it is looked whether that changed.
const OFF_PAUSE: Duration = Duration::from_secs(15);

/// A key whose place is filled in.
const ANYWHERE: Place = Place::primary(0);

/// Opens the pools that keep connections: those of the configured users in the configured databases, on every shard,
/// where the proxy can log in without the client. Users that it learns of later are warmed when their first pool is
/// made ([`warm_shards`]).
pub(crate) fn warm(shared: &Shared) {
    let source = shared.policies.source();
    for entry in source.databases.iter().filter(|entry| !entry.is_wildcard()) {
        for user in source.users.keys() {
            if let Some(policy) = source.resolve(user, &entry.name) {
                let (user, database) = (Arc::from(user.as_str()), Arc::from(entry.name.as_str()));
                warm_shards(
                    shared,
                    &PoolKey::new(ANYWHERE, &user, &database, &policy),
                    &policy,
                );
            }
        }
    }
}

/// Opens the pools of a user in a database on all shards, if they are to keep connections.
pub(super) fn warm_shards(shared: &Shared, like: &PoolKey, policy: &PoolPolicy) {
    if policy.min_size == 0 {
        return;
    }
    for shard in shared.shards.all().iter() {
        let login = shared.secrets.for_server(&policy.server_user, &shard.name);
        if matches!(login.secret, Secret::None) {
            continue;
        }
        let key = PoolKey {
            place: Place::primary(shard.id),
            ..like.clone()
        };
        shared.mailboxes.send(super::KEEPER, WorkerMessage::Warm { key });
    }
}

/// Looks the servers' names up now and then, for ever; connections to a server that moved are replaced.
pub(crate) async fn follow_names(shared: Arc<Shared>) {
    loop {
        let ttl = shared.policies.source().pool.dns_max_ttl;
        if !ttl.is_zero() {
            look_up_all(&shared).await;
        }
        tokio::time::sleep(if ttl.is_zero() { OFF_PAUSE } else { ttl }).await;
    }
}

async fn look_up_all(shared: &Shared) {
    let shards = shared.shards.all();
    let used: Vec<(String, u16)> = shards
        .iter()
        .map(|shard| (shard.host.clone(), shard.port))
        .collect();
    shared.names.keep(&used);
    for shard in shards.iter() {
        if shared.names.look(&shard.host, shard.port).await {
            tracing::info!(shard = %shard.name, "the server's addresses changed, its connections are replaced");
            shared.recycle(Place::primary(shard.id));
        }
    }
}
