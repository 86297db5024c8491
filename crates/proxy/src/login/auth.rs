//! Proving who the client is: SCRAM-SHA-256, or nothing where the configuration says so.

use bytes::BytesMut;
use wire::backend::encode;
use wire::frontend::SaslInitial;
use wire::scram::{self, ScramError};

use super::{LoginEnd, PeerIdentity, refused};
use crate::cancel::random;
use crate::client::StartupInfo;
use crate::conn::Conn;
use crate::worker::{Proof, WorkerCtx};

/// Longest message of a client that is logging in, in bytes, its header included.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Lets the client prove that it is who it says.
pub(super) async fn authenticate(
    conn: &mut Conn,
    info: &StartupInfo,
    peer: &PeerIdentity,
    ctx: &WorkerCtx,
) -> Result<(), LoginEnd> {
    let (user, secrets) = (&*info.user, &ctx.shared.secrets);
    let verifier = match secrets.proof(user) {
        Proof::Trust => return Ok(()),
        Proof::Scram(verifier) => verifier,
    };
    let failed = |error| scram_refused(error, user);
    let nonce =
        random::<{ scram::NONCE_LEN }>().map_err(|_| refused("XX000", "no randomness for a nonce"))?;
    let server = scram::Server::new(verifier, &scram::nonce(&nonce))
        .map_err(failed)?
        .with_channel_binding(peer.channel_binding.as_deref());

    let _ = encode::authentication_sasl(conn.out(), server.mechanisms());
    let message = answer(conn).await?;
    let initial = SaslInitial::decode(body(&message)).map_err(|_| malformed())?;
    if !server.mechanisms().contains(&initial.mechanism) {
        return Err(refused(
            "08P01",
            "client selected an invalid SASL authentication mechanism",
        ));
    }
    let (challenge, first) = server
        .first(initial.mechanism, initial.response.unwrap_or_default())
        .map_err(failed)?;

    let _ = encode::authentication_sasl_continue(conn.out(), &first);
    let message = answer(conn).await?;
    let accepted = challenge.proof(body(&message)).map_err(failed)?;
    let _ = encode::authentication_sasl_final(conn.out(), &accepted.message);
    secrets.learn(user, accepted.keys);
    Ok(())
}

/// Sends what is pending and reads the client's next message, which must be an answer to an authentication request.
async fn answer(conn: &mut Conn) -> Result<BytesMut, LoginEnd> {
    conn.flush().await?;
    let frame = conn.fill_message(MESSAGE_BYTES_MAX).await?;
    let message = conn.take(frame.len);
    match frame.tag {
        b'p' => Ok(message),
        // A client that goes away instead of answering: nobody is left to be told.
        b'X' => Err(LoginEnd::Closed),
        tag => Err(refused(
            "08P01",
            format!("expected SASL response, got message type {tag}"),
        )),
    }
}

fn body(message: &[u8]) -> &[u8] {
    message.get(wire::frame::HEADER_LEN..).unwrap_or_default()
}

fn malformed() -> LoginEnd {
    refused("08P01", "malformed SCRAM message")
}

/// A wrong password and an unknown user look the same.
fn scram_refused(error: ScramError, user: &str) -> LoginEnd {
    match error {
        ScramError::WrongProof => refused(
            "28P01",
            format!("password authentication failed for user \"{user}\""),
        ),
        other => refused(other.sqlstate(), other.to_string()),
    }
}
