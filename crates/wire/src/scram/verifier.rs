use super::{ITERATIONS_MAX, Key, SALT_MAX, ScramError, check_iterations, hash, mac, salted_password};
use crate::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// What suffices to log in as a user without the password. As secret as the password itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Proves to a server that the client knows the password.
    pub client_key: [u8; 32],
    /// Verifies that the server knows the verifier.
    pub server_key: [u8; 32],
}

impl Keys {
    /// Derives them; costs `iterations` hash rounds (about 0.2 µs each).
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        let salted = salted_password(password, salt, check_iterations(u64::from(iterations))?);
        Ok(Keys {
            client_key: mac(&salted, b"Client Key"),
            server_key: mac(&salted, b"Server Key"),
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// What a server stores about a password: `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
/// It does not suffice to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
    /// No password fits: stands for a user that does not exist.
    pub(super) mock: bool,
}

/// Why a text is not a SCRAM verifier this program accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SCRAM-SHA-256 verifier")]
pub struct VerifierError;

impl Verifier {
    /// Makes the verifier of a password; costs `iterations` hash rounds.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        if salt.is_empty() || salt.len() > SALT_MAX {
            return Err(ScramError::Malformed("salt length"));
        }
        Ok(Self::from_keys(
            &Keys::derive(password, salt, iterations)?,
            salt,
            iterations,
        ))
    }

    /// The verifier that belongs to keys derived with this salt and iteration count.
    pub fn from_keys(keys: &Keys, salt: &[u8], iterations: u32) -> Self {
        Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: hash(&keys.client_key),
            server_key: keys.server_key,
            mock: false,
        }
    }

    /// Stands for a user that does not exist: the exchange looks and costs the same, the salt is the same at
    /// every attempt, and no proof is accepted. `secret` must stay the same for the life of the cluster and
    /// be unknown outside.
    pub fn mock(secret: &[u8], user: &str, iterations: u32) -> Self {
        let salt = mac(secret, user.as_bytes());
        Verifier {
            iterations: iterations.clamp(1, ITERATIONS_MAX),
            salt: salt[..16].to_vec(),
            stored_key: mac(&salt, b"stored"),
            server_key: mac(&salt, b"server"),
            mock: true,
        }
    }

    /// The keys of a password, if it is the one this verifier was made of; costs the hash rounds.
    pub fn keys_of(&self, password: &[u8]) -> Option<Keys> {
        let keys = Keys::derive(password, &self.salt, self.iterations).ok()?;
        let fits = constant_time::equal(&hash(&keys.client_key), &self.stored_key);
        (fits && !self.mock).then_some(keys)
    }

    /// Hash rounds a login costs the client.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let parse = || {
            let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
            let (iterations, salt) = head.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let key = |text: &str| super::message::decode_key(text).ok();
            let salt = if salt.len() <= SALT_MAX * 2 {
                STANDARD.decode(salt).ok()?
            } else {
                return None;
            };
            Some(Verifier {
                iterations: check_iterations(iterations.parse().ok()?).ok()?.get(),
                salt: Some(salt).filter(|s| !s.is_empty() && s.len() <= SALT_MAX)?,
                stored_key: key(stored_key)?,
                server_key: key(server_key)?,
                mock: false,
            })
        };
        parse().ok_or(VerifierError)
    }
}
