//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, both sides, with and without channel binding
//! (`tls-server-end-point`, RFC 5929).
//!
//! Each side is a chain of values that are consumed step by step, so no message can be handled twice or out
//! of order:
//!
//! - [`Client::start`] → [`Client::challenge`] → [`ClientProof::finish`], from a password or from keys learnt
//!   in an earlier exchange ([`Keys`], which save the 4096 hash rounds: about a millisecond of CPU);
//! - [`Server::first`] → [`Challenge::proof`], from a [`Verifier`] as `pg_authid` stores it.
//!
//! Nonces and salts are arguments: whoever has randomness passes it in.

mod client;
mod message;
mod password;
mod server;
mod verifier;

pub use client::{Client, ClientBinding, ClientProof, Login};
pub use server::{Accepted, Challenge, Server};
pub use verifier::{Keys, Verifier, VerifierError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

/// The mechanism's name in AuthenticationSASL and SASLInitialResponse.
pub const MECHANISM: &[u8] = b"SCRAM-SHA-256";

/// The name of the mechanism with channel binding, offered and used over TLS only.
pub const MECHANISM_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

/// The kind of channel binding PostgreSQL has: the hash of the server's certificate.
const BINDING_TYPE: &str = "tls-server-end-point";

/// Rounds PostgreSQL uses unless `scram_iterations` (16 and later) says otherwise.
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// Most rounds accepted. A server chooses how much work its clients do, so it must be bounded; a million
/// rounds cost about a fifth of a second and leave room above today's recommendation of 600,000.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Longest message accepted, in bytes; PostgreSQL has the same limit for what clients send.
pub const MESSAGE_MAX: usize = 1024;

/// Longest salt accepted, in bytes; PostgreSQL's are 16.
pub const SALT_MAX: usize = 256;

/// Bytes of randomness PostgreSQL puts into a nonce.
pub const NONCE_LEN: usize = 18;

/// Why an exchange failed. None of these tells a client whether the user exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The message does not follow the grammar.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The message is longer than [`MESSAGE_MAX`].
    #[error("SCRAM message is too long")]
    TooLong,
    /// The peer wants something this side does not do.
    #[error("unsupported in SCRAM: {0}")]
    Unsupported(&'static str),
    /// The peer's nonce does not continue ours.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// Zero rounds, or more than [`ITERATIONS_MAX`].
    #[error("SCRAM iteration count {0} is out of range")]
    Iterations(u64),
    /// The client supports channel binding and thinks that the server does not, although it was offered: somebody in
    /// between changed the offer.
    #[error("SCRAM channel binding negotiation error")]
    Downgrade,
    /// The client's end of the encrypted connection is not ours: somebody is in between.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The client does not know the password (or the user does not exist).
    #[error("password authentication failed")]
    WrongProof,
    /// The server does not know the verifier: it is not the server it claims to be.
    #[error("server's SCRAM signature is wrong")]
    WrongSignature,
    /// The server ended the exchange with this error attribute.
    #[error("server refused SCRAM authentication: {0}")]
    Refused(String),
}

impl ScramError {
    /// The SQLSTATE a server reports it with.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            ScramError::WrongProof => "28P01",
            ScramError::Downgrade | ScramError::Binding => "28000",
            ScramError::Unsupported(_) => "0A000",
            _ => "08P01",
        }
    }
}

/// A nonce in the form messages carry it, from random bytes ([`NONCE_LEN`] of them).
pub fn nonce(random: &[u8]) -> String {
    STANDARD.encode(random)
}

/// A nonce in a message: printable ASCII without a comma, and not empty.
fn check_nonce(nonce: &str) -> Result<(), ScramError> {
    let printable = |b: u8| (0x21..=0x7e).contains(&b) && b != b',';
    if nonce.is_empty() || !nonce.bytes().all(printable) {
        return Err(ScramError::Malformed("nonce"));
    }
    Ok(())
}

type Key = [u8; 32];

fn mac(key: &[u8], text: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn hash(data: &[u8]) -> Key {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}

fn salted_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Key {
    let mut out = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        &password::prepare(password),
        &mut out,
    );
    out
}

fn check_iterations(iterations: u64) -> Result<NonZeroU32, ScramError> {
    let in_range = u32::try_from(iterations).ok().filter(|n| *n <= ITERATIONS_MAX);
    in_range
        .and_then(NonZeroU32::new)
        .ok_or(ScramError::Iterations(iterations))
}

#[cfg(test)]
mod tests;
