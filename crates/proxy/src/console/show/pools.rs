//! SHOW POOLS, DATABASES, USERS and LISTS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admin_api::PoolAdmin;
use crate::cancel::CancelSlot;
use crate::config::PoolMode;
use crate::console::table::Kind::{Int4, Text};
use crate::console::table::{Table, Value, row};
use crate::worker::Shared;

/// What belongs to one database and user, over all shards and workers.
#[derive(Default)]
struct Figures {
    clients: usize,
    waiting: usize,
    active: usize,
    idle: usize,
    login: usize,
    longest_wait: Duration,
    shards: usize,
    mode: PoolMode,
}

/// Clients that have logged in, operators aside.
pub(super) fn clients(shared: &Shared) -> Vec<Arc<CancelSlot>> {
    let mut all = shared.cancels.list();
    let console = &shared.policies.source().console;
    all.retain(|slot| {
        slot.mark
            .info()
            .is_some_and(|info| !console.serves(&info.database))
    });
    all
}

async fn figures(shared: &Arc<Shared>) -> BTreeMap<(Arc<str>, Arc<str>), Figures> {
    let mut all: BTreeMap<(Arc<str>, Arc<str>), Figures> = BTreeMap::new();
    for pool in PoolAdmin::new(Arc::clone(shared)).pools().await {
        let pair = (Arc::clone(&pool.key.database), Arc::clone(&pool.key.user));
        let figures = all.entry(pair).or_default();
        figures.active += pool.active;
        figures.idle += pool.idle;
        figures.login += pool.login;
        figures.longest_wait = figures.longest_wait.max(pool.longest_wait);
        figures.shards += 1;
        figures.mode = pool.mode;
    }
    for client in clients(shared) {
        let Some(info) = client.mark.info() else { continue };
        let pair = (Arc::clone(&info.database), Arc::clone(&info.user));
        let figures = all.entry(pair).or_insert_with(|| Figures {
            mode: shared
                .policies
                .resolve(&info.user, &info.database)
                .map_or(PoolMode::default(), |policy| policy.mode),
            ..Figures::default()
        });
        figures.clients += 1;
        figures.waiting += usize::from(client.mark.waits().is_some());
    }
    all
}

pub(super) async fn pools(shared: &Arc<Shared>) -> Table {
    let mut table = Table::new(&[
        ("database", Text),
        ("user", Text),
        ("cl_active", Int4),
        ("cl_waiting", Int4),
        ("cl_active_cancel_req", Int4),
        ("cl_waiting_cancel_req", Int4),
        ("sv_active", Int4),
        ("sv_active_cancel", Int4),
        ("sv_being_canceled", Int4),
        ("sv_idle", Int4),
        ("sv_used", Int4),
        ("sv_tested", Int4),
        ("sv_login", Int4),
        ("maxwait", Int4),
        ("maxwait_us", Int4),
        ("pool_mode", Text),
        ("load_balance_hosts", Text),
        ("shards", Int4),
    ]);
    for ((database, user), figures) in figures(shared).await {
        table.push(row![
            &*database,
            &*user,
            figures.clients.saturating_sub(figures.waiting),
            figures.waiting,
            0_u32,
            0_u32,
            figures.active,
            0_u32,
            0_u32,
            figures.idle,
            0_u32,
            0_u32,
            figures.login,
            figures.longest_wait.as_secs(),
            figures.longest_wait.subsec_micros(),
            figures.mode.as_str(),
            Value::Null,
            figures.shards,
        ]);
    }
    table
}

pub(super) fn databases(shared: &Shared) -> Table {
    let mut table = Table::new(&[
        ("name", Text),
        ("host", Text),
        ("port", Int4),
        ("database", Text),
        ("force_user", Text),
        ("pool_size", Int4),
        ("min_pool_size", Int4),
        ("reserve_pool_size", Int4),
        ("server_lifetime", Int4),
        ("pool_mode", Text),
        ("load_balance_hosts", Text),
        ("max_connections", Int4),
        ("current_connections", Int4),
        ("max_client_connections", Int4),
        ("current_client_connections", Int4),
        ("paused", Int4),
        ("disabled", Int4),
        // As PgBouncer before 1.24 called it; some readers look for nothing else.
        ("reserve_pool", Int4),
        ("shards", Int4),
    ]);
    let source = shared.policies.source();
    let shards = shared.shards.all();
    let home = shards.first();
    for state in shared.entries.databases() {
        let Some(policy) = source.resolve("", &state.name) else {
            continue;
        };
        let entry = source.database(&state.name);
        table.push(row![
            &*state.name,
            home.map(|shard| shard.host.as_str()),
            home.map(|shard| shard.port),
            &*policy.server_database,
            entry.and_then(|entry| entry.server_user.as_deref()),
            policy.size,
            policy.min_size,
            policy.reserve,
            source.pool.max_lifetime.as_secs(),
            entry.and_then(|entry| entry.pool.mode).map(PoolMode::as_str),
            Value::Null,
            policy.max_database_servers,
            state.servers.used(),
            policy.max_database_clients,
            state.clients.used(),
            state.is_paused(),
            state.is_disabled(),
            policy.reserve,
            shards.len(),
        ]);
    }
    table
}

pub(super) fn users(shared: &Shared) -> Table {
    let mut table = Table::new(&[
        ("name", Text),
        ("pool_size", Text),
        ("reserve_pool_size", Text),
        ("pool_mode", Text),
        ("max_user_connections", Int4),
        ("current_connections", Int4),
        ("max_user_client_connections", Int4),
        ("current_client_connections", Int4),
    ]);
    let source = shared.policies.source();
    let states = shared.entries.users();
    let mut names: Vec<&str> = source.users.keys().map(String::as_str).collect();
    names.extend(states.iter().map(|state| &*state.name));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let own = source.users.get(name);
        let state = states.iter().find(|state| *state.name == *name);
        let max_servers = own.and_then(|own| own.max_connections);
        let max_clients = own.and_then(|own| own.max_client_connections);
        table.push(row![
            name,
            own.and_then(|own| own.pool.size),
            own.and_then(|own| own.pool.reserve),
            own.and_then(|own| own.pool.mode).map(PoolMode::as_str),
            max_servers.unwrap_or(source.limits.max_user_servers),
            state.map_or(0, |state| state.servers.used()),
            max_clients.unwrap_or(source.limits.max_user_clients),
            state.map_or(0, |state| state.clients.used()),
        ]);
    }
    table
}

pub(super) async fn lists(shared: &Arc<Shared>) -> Table {
    let servers = shared.servers().await;
    let lent = servers.iter().filter(|server| server.lent).count();
    let clients = shared.cancels.list();
    let known = clients.iter().filter(|slot| slot.mark.info().is_some()).count();
    let users = users(shared).rows.len();
    let mut table = Table::new(&[("list", Text), ("items", Int4)]);
    let mut push = |name: &str, items: usize| table.push(row![name, items]);
    // A store that cannot be read now is no reason to show nothing.
    let peers = super::peers::members(shared).await.map_or(0, |peers| peers.len());
    push("databases", shared.entries.databases().len());
    push("users", users);
    push("peers", peers);
    push("pools", figures(shared).await.len());
    push("peer_pools", peers);
    push("free_clients", 0);
    push("used_clients", known);
    push("login_clients", shared.clients().saturating_sub(known));
    push("free_servers", servers.len() - lent);
    push("used_servers", lent);
    push("dns_names", shared.names.rows().len());
    push("dns_zones", 0);
    push("dns_queries", 0);
    push("dns_pending", 0);
    push("cancels", shared.delivering.load(Ordering::Relaxed));
    table
}
