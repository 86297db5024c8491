//! The SCRAM-SHA-256 verifier of a password, as PostgreSQL stores it. Computed once and given to every
//! shard: a server that hashed the password itself would choose its own salt.

use wire::scram::{ScramError, Verifier};

use crate::Secret;

/// PostgreSQL's own number.
const ITERATIONS: u32 = 4096;

/// The verifier of `password`, which must be printable ASCII (then it needs no SASLprep), with `salt`.
pub(super) fn verifier(password: &Secret, salt: &[u8; 16]) -> Result<String, ScramError> {
    Ok(Verifier::from_password(password.expose().as_bytes(), salt, ITERATIONS)?.to_string())
}
