//! SHOW PEERS, PEER_POOLS and DNS_HOSTS: the other machines.

use std::net::IpAddr;
use std::sync::Arc;

use topology::records::CancelPeer;

use crate::console::Failed;
use crate::console::table::Kind::{Int4, Int8, Text};
use crate::console::table::{Table, row};
use crate::worker::Shared;

/// The proxies of the cluster that hand cancels on to each other, this one too.
pub(super) async fn peers(shared: &Arc<Shared>) -> Result<Table, Failed> {
    let mut table = Table::new(&[
        ("peer_id", Int4),
        ("host", Text),
        ("port", Int4),
        ("pool_size", Int4),
    ]);
    for peer in members(shared).await? {
        // Connections to a peer are made for one cancel each.
        table.push(row![
            peer.number,
            peer.address.ip().to_string(),
            peer.address.port(),
            0_u32
        ]);
    }
    Ok(table)
}

/// Cancels on their way to the other proxies.
pub(super) async fn peer_pools(shared: &Arc<Shared>) -> Result<Table, Failed> {
    let mut table = Table::new(&[
        ("peer_id", Int4),
        ("cl_active_cancel_req", Int4),
        ("cl_waiting_cancel_req", Int4),
        ("sv_active_cancel", Int4),
        ("sv_login", Int4),
    ]);
    let members = members(shared).await?;
    let going = shared.outbox.going().clone();
    for peer in members {
        let sent = going.get(&peer.number).copied().unwrap_or_default();
        table.push(row![peer.number, sent, 0_u32, sent, 0_u32]);
    }
    Ok(table)
}

pub(super) async fn members(shared: &Shared) -> Result<Vec<CancelPeer>, Failed> {
    let Some(membership) = shared.membership.get().and_then(std::sync::Weak::upgrade) else {
        return Ok(Vec::new());
    };
    let mut peers = membership.cancel_peers().await.map_err(|error| {
        tracing::warn!(%error, "the cluster's proxies cannot be listed");
        Failed::new("58000", "the cluster's state cannot be read now")
    })?;
    peers.sort_by_key(|peer| (peer.number, peer.address));
    Ok(peers)
}

/// Names of servers; `ttl` is when they are looked up again, in seconds.
pub(super) fn names(shared: &Shared) -> Table {
    let mut table = Table::new(&[("hostname", Text), ("ttl", Int8), ("addrs", Text)]);
    let every = shared.policies.source().pool.dns_max_ttl;
    for name in shared.names.rows() {
        let addresses: Vec<String> = name.addresses.iter().map(IpAddr::to_string).collect();
        table.push(row![
            name.host,
            every.saturating_sub(name.age).as_secs().to_string(),
            addresses.join(",")
        ]);
    }
    table
}
