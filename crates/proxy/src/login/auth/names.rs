//! Names given by others than the client: its certificate, its operating system.

use crate::auth::hba::ClientName;
use crate::auth::{Access, Demand};
use crate::login::PeerIdentity;

/// Whether the client's certificate says that it is `user`.
pub(super) fn certificate_is_for(access: &Access, peer: &PeerIdentity, demand: &Demand, user: &str) -> bool {
    let name = match demand.client_name {
        ClientName::CommonName => &peer.certificate_cn,
        ClientName::DistinguishedName => &peer.certificate_dn,
    };
    name.as_deref()
        .is_some_and(|name| access.allows(demand, name, user))
}

/// Whether the process at the other end of the Unix socket runs as `user`.
pub(super) async fn peer_is(access: &Access, peer: &PeerIdentity, demand: &Demand, user: &str) -> bool {
    let Some(uid) = peer.unix_uid else {
        return false;
    };
    // The user database may be on a network.
    let name = tokio::task::spawn_blocking(move || {
        let found = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
        found.ok().flatten().map(|user| user.name)
    });
    let name = name.await.ok().flatten();
    name.is_some_and(|name| access.allows(demand, &name, user))
}
