//! Who is at the other end of a connection from a client, as far as TLS tells.

use rustls::Connection;

use super::{Acceptor, x509};
use crate::login::PeerIdentity;

/// Notes what the handshake, which is complete, has shown.
pub(crate) fn identify(session: &Connection, acceptor: &Acceptor, peer: &mut PeerIdentity) {
    // rustls lets no handshake end with a certificate that was not verified.
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = leaf.and_then(|leaf| x509::Certificate::parse(leaf));
    peer.tls = true;
    peer.certificate_cn = certificate
        .as_ref()
        .and_then(|certificate| certificate.common_name().map(str::to_owned));
    peer.certificate_dn = certificate.map(|certificate| certificate.distinguished_name());
    peer.channel_binding.clone_from(&acceptor.end_point);
}

/// Protocol version and cipher suite, such as `TLSv1.3/TLS_AES_256_GCM_SHA384`.
pub(crate) fn describe(session: &Connection) -> String {
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let suite = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str().map(|name| name.replace("TLS13_", "TLS_")));
    format!("{version}/{}", suite.unwrap_or_default())
}
