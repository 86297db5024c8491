//! From a socket to the packet that starts a session, over TLS where client or configuration want it.
//!
//! ```text
//! clear ──SSLRequest, nothing behind it──► `S`, handshake ──► encrypted: the packet
//!   │  ──first byte 0x16──► handshake, ALPN "postgresql" ───► encrypted: the packet
//!   │  ──SSLRequest or GSSENCRequest, not offered──► `N` ───► clear
//!   └──► the packet, a CancelRequest, or the end
//! ```
//! Whatever follows an SSLRequest in clear before our answer could have been put there by somebody in between, who
//! would have it run in the client's name: such a connection is refused. Once encrypted, nothing read before counts.

use std::rc::Rc;

use bytes::BytesMut;
use wire::startup;

use super::{LoginEnd, PeerIdentity, refused};
use crate::conn::Conn;
use crate::tls;
use crate::worker::WorkerCtx;

/// Encryption requests answered before a client must come to the point.
const ENCRYPTION_REQUESTS_MAX: usize = 4;

/// The first byte of a TLS handshake; no startup packet is long enough to begin with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads up to the packet that starts a session; deals with cancels. What encryption shows about the peer goes into its
/// identity.
pub(super) async fn startup_packet(
    conn: &mut Conn,
    peer: &mut PeerIdentity,
    ctx: &Rc<WorkerCtx>,
) -> Result<BytesMut, LoginEnd> {
    let limit = ctx.shared.config.limits.max_startup_bytes;
    conn.fill_to(1).await?;
    // A Unix socket is not encrypted: what passes there is seen by nobody but the two processes.
    let offered = peer.address.is_some() && ctx.shared.tls.acceptor().is_some();
    if conn.unread().first() == Some(&TLS_HANDSHAKE) {
        if !offered {
            return Err(LoginEnd::Closed);
        }
        encrypt(conn, peer, ctx, true).await?;
    }
    for _ in 0..=ENCRYPTION_REQUESTS_MAX {
        conn.fill_to(4).await?;
        let length = match startup::peek(conn.unread()) {
            Ok(Some(length)) if length <= limit => length,
            _ => return Err(refused("08P01", "invalid length of startup packet")),
        };
        conn.fill_to(length).await?;
        let packet = conn.take(length);
        match startup::decode(&packet) {
            Ok(startup::Startup::SslRequest | startup::Startup::GssEncRequest) if peer.tls => {
                return Err(refused("08P01", "encryption was requested twice"));
            }
            Ok(startup::Startup::SslRequest) if offered => {
                if !conn.unread().is_empty() {
                    return Err(refused("08P01", "received unencrypted data after SSL request"));
                }
                conn.out().extend_from_slice(b"S");
                conn.flush().await?;
                encrypt(conn, peer, ctx, false).await?;
            }
            Ok(startup::Startup::SslRequest | startup::Startup::GssEncRequest) => {
                conn.out().extend_from_slice(b"N");
                conn.flush().await?;
            }
            Ok(startup::Startup::Cancel { pid, key }) => {
                super::dispatch_cancel(ctx, pid, key).await;
                return Err(LoginEnd::Cancelled);
            }
            Ok(startup::Startup::Session(_)) => return Ok(packet),
            Err(error) => return Err(refused(error.sqlstate(), error.to_string())),
        }
    }
    Err(refused("08P01", "too many encryption requests"))
}

/// Completes a handshake. A peer whose handshake fails has been told by TLS itself.
async fn encrypt(
    conn: &mut Conn,
    peer: &mut PeerIdentity,
    ctx: &Rc<WorkerCtx>,
    direct: bool,
) -> Result<(), LoginEnd> {
    let Some(acceptor) = ctx.shared.tls.acceptor() else {
        // Begun without asking, and nothing in clear would be understood.
        return Err(LoginEnd::Closed);
    };
    let session =
        rustls::ServerConnection::new(std::sync::Arc::clone(&acceptor.config)).map_err(|error| {
            tracing::error!(%error, "a TLS connection could not be begun");
            LoginEnd::Closed
        })?;
    if let Err(error) = conn.secure(session.into()).await {
        ctx.metrics.tls_failures.increment();
        tracing::debug!(%error, "a client's TLS handshake failed");
        return Err(LoginEnd::Closed);
    }
    ctx.metrics.tls_handshakes.increment();
    match conn.tls() {
        Some(session) if direct && session.alpn_protocol().is_none() => Err(refused(
            "08P01",
            "received direct SSL connection request without ALPN protocol negotiation extension",
        )),
        Some(session) => {
            tls::identify(session, &acceptor, peer);
            Ok(())
        }
        None => Err(LoginEnd::Closed),
    }
}

/// What the configuration demands of a client that wants a session.
pub(super) fn check(ctx: &WorkerCtx, peer: &PeerIdentity, user: &str) -> Result<(), LoginEnd> {
    use crate::config::ClientTlsMode as Mode;
    if peer.address.is_none() {
        // Nobody can listen in on a Unix socket.
        return Ok(());
    }
    let mode = ctx
        .shared
        .tls
        .acceptor()
        .map_or(Mode::Disable, |acceptor| acceptor.mode);
    match mode {
        Mode::Disable | Mode::Allow | Mode::Prefer => Ok(()),
        _ if peer.address.is_none() => Ok(()),
        _ if !peer.tls => Err(refused("28000", "this server accepts encrypted connections only")),
        // A handshake begun under a mode that asked for no certificate can end under one that does.
        Mode::VerifyCa if peer.certificate_dn.is_none() => {
            Err(refused("28000", "connection requires a valid client certificate"))
        }
        Mode::VerifyFull if peer.certificate_cn.as_deref() != Some(user) => Err(refused(
            "28000",
            format!("the client certificate does not name the user \"{user}\""),
        )),
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => Ok(()),
    }
}
