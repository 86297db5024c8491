//! From a server's address to a connection that is encrypted as configured: libpq's `sslmode` and `sslnegotiation`.
//!
//! Which of the attempts follow one another is the dialler's business ([`super::dial`]); here is one of them. A server's
//! answer in clear is one byte: what comes behind it before the handshake could be anybody's and is refused.

use std::io;

use super::{Address, DialError};
use crate::buffers::Buffers;
use crate::config::TlsNegotiation;
use crate::conn::Conn;
use crate::tls::ServerTls;

/// What one attempt does about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encrypt {
    /// Nothing.
    No,
    /// Encrypts if the server can.
    IfOffered,
    /// Encrypts or fails.
    Must,
}

/// Connects to a server. Has no time limit of its own.
pub(crate) async fn connect(
    address: &Address,
    tls: &ServerTls,
    encrypt: Encrypt,
    buffers: Buffers,
) -> Result<Conn, DialError> {
    let io = |source| DialError::Io {
        address: address.clone(),
        source,
    };
    let failed = |source| DialError::Tls {
        address: address.clone(),
        source,
    };
    let mut conn = Conn::new(address.connect().await.map_err(io)?, buffers);
    if encrypt == Encrypt::No || address.is_local() {
        return Ok(conn);
    }
    let Some(session) = tls.session(&address.host) else {
        return Ok(conn);
    };
    let session = session.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    if tls.negotiation == TlsNegotiation::Postgres {
        wire::startup::encode::ssl_request(conn.out());
        conn.flush().await.map_err(io)?;
        conn.fill_to(1).await.map_err(io)?;
        match (conn.take(1).first(), conn.unread().is_empty()) {
            (Some(b'S'), true) => {}
            (Some(b'S'), false) => {
                return Err(DialError::Protocol(
                    "unencrypted data after the answer to an SSL request",
                ));
            }
            (Some(b'N'), true) if encrypt == Encrypt::IfOffered => return Ok(conn),
            (Some(b'N'), true) => {
                let message = "the server does not support TLS";
                return Err(failed(io::Error::new(io::ErrorKind::Unsupported, message)));
            }
            _ => return Err(DialError::Protocol("answer to an SSL request")),
        }
    }
    conn.secure(session).await.map_err(failed)?;
    let agreed = conn.tls().and_then(|session| session.alpn_protocol());
    if tls.negotiation == TlsNegotiation::Direct && agreed.is_none() {
        let message = "the server did not confirm that it speaks PostgreSQL's protocol";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
    }
    Ok(conn)
}
