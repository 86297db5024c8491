//! What is known about a peer before it says who it wants to be.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::sockets::Peer;

/// A peer as its connection shows it. The start-up packet's claims (user, database) are no part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Where a TCP connection comes from; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
    /// The user id of the process at the other end of a Unix socket, as the kernel says.
    pub unix_uid: Option<u32>,
    /// The connection is encrypted by TLS.
    pub tls: bool,
    /// The common name of the client certificate, which has been verified against the configured authorities.
    pub certificate_cn: Option<String>,
    /// The whole subject of that certificate, as RFC 2253 writes it.
    pub certificate_dn: Option<String>,
    /// What `tls-server-end-point` binds to: the hash of the proxy's own certificate. `None` without TLS.
    pub channel_binding: Option<Vec<u8>>,
}

impl PeerIdentity {
    /// A peer behind a connection that is not encrypted.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => Self {
                address: Some(address),
                ..Self::default()
            },
            Peer::Unix { uid, .. } => Self {
                unix_uid: uid,
                ..Self::default()
            },
        }
    }

    /// The peer's IP address; one that came by an IPv6 socket from IPv4 is IPv4.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

/// As PostgreSQL's messages name a host.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) => ip.fmt(f),
            None => f.write_str("[local]"),
        }
    }
}
