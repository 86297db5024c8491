use super::message::{Attributes, decode_key, text};
use super::verifier::Keys;
use super::{
    BINDING_TYPE, Key, SALT_MAX, ScramError, check_iterations, check_nonce, hash, mac, salted_password, xor,
};
use crate::constant_time;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the client proves to know.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// The password; the proof costs the server's iteration count in hash rounds.
    Password(&'a [u8]),
    /// Keys learnt from an earlier exchange. They fit only as long as the server's verifier stays the same.
    Keys(&'a Keys),
}

/// What a client says about channel binding.
#[derive(Debug, Clone, Copy)]
pub enum ClientBinding<'a> {
    /// It does not do it: the connection is in clear, or it shall not.
    No,
    /// It would, but the server did not offer it. A server that did offer it knows then that it was cheated.
    NotOffered,
    /// It does, and the server's certificate has this hash. To be used with [`super::MECHANISM_PLUS`].
    EndPoint(&'a [u8]),
}

/// A client that has sent its first message.
#[derive(Debug)]
pub struct Client {
    /// The first message's header and, behind it, what the login is bound to.
    binding: Vec<u8>,
    first_bare: String,
    nonce: String,
}

/// A client that has sent its proof.
#[derive(Debug)]
pub struct ClientProof {
    keys: Keys,
    server_signature: Key,
}

impl Client {
    /// Begins with a fresh nonce (see [`super::nonce`]); gives the first message, to be sent in a
    /// SASLInitialResponse. The user name stays empty: PostgreSQL takes it from the startup packet.
    pub fn start(nonce: &str) -> Result<(Self, Vec<u8>), ScramError> {
        Self::start_bound(nonce, ClientBinding::No)
    }

    /// The same over an encrypted connection.
    pub fn start_bound(nonce: &str, binding: ClientBinding<'_>) -> Result<(Self, Vec<u8>), ScramError> {
        check_nonce(nonce)?;
        // The part after the second comma of the header would be an authorization identity.
        let (header, data) = match binding {
            ClientBinding::No => ("n,,".to_owned(), &[][..]),
            ClientBinding::NotOffered => ("y,,".to_owned(), &[][..]),
            ClientBinding::EndPoint(hash) => (format!("p={BINDING_TYPE},,"), hash),
        };
        let first_bare = format!("n=,r={nonce}");
        let first = format!("{header}{first_bare}").into_bytes();
        Ok((
            Client {
                binding: [header.as_bytes(), data].concat(),
                first_bare,
                nonce: nonce.to_owned(),
            },
            first,
        ))
    }

    /// The salt and the hash rounds that a challenge asks for, so that the keys can be derived elsewhere (it takes a
    /// millisecond) and given to [`Client::challenge`] as [`Login::Keys`].
    pub fn terms(message: &[u8]) -> Result<(Vec<u8>, u32), ScramError> {
        let terms = Terms::read(text(message)?)?;
        Ok((terms.salt, terms.iterations.get()))
    }

    /// Takes the server's challenge (AuthenticationSASLContinue); gives the proof, to be sent in a SASLResponse.
    pub fn challenge(self, message: &[u8], login: Login<'_>) -> Result<(ClientProof, Vec<u8>), ScramError> {
        let server_first = text(message)?;
        let Terms {
            nonce,
            salt,
            iterations,
        } = Terms::read(server_first)?;
        // A nonce the server did not add to would allow replaying its side.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let keys = match login {
            Login::Keys(keys) => *keys,
            Login::Password(password) => {
                let salted = salted_password(password, &salt, iterations);
                Keys {
                    client_key: mac(&salted, b"Client Key"),
                    server_key: mac(&salted, b"Server Key"),
                }
            }
        };
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.binding));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let signature = mac(&hash(&keys.client_key), auth_message.as_bytes());
        let proof = STANDARD.encode(xor(&keys.client_key, &signature));
        let server_signature = mac(&keys.server_key, auth_message.as_bytes());
        let message = format!("{without_proof},p={proof}").into_bytes();
        Ok((
            ClientProof {
                keys,
                server_signature,
            },
            message,
        ))
    }
}

/// What a server's first message says.
struct Terms<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> Terms<'a> {
    fn read(server_first: &'a str) -> Result<Self, ScramError> {
        let mut attributes = Attributes::new(server_first);
        let nonce = attributes.expect('r')?;
        let salt = attributes.expect('s')?;
        let iterations = attributes.expect('i')?;
        attributes.skip_extensions()?;
        check_nonce(nonce)?;
        let salt = STANDARD
            .decode(salt)
            .map_err(|_| ScramError::Malformed("base64"))?;
        if salt.is_empty() || salt.len() > SALT_MAX {
            return Err(ScramError::Malformed("salt length"));
        }
        let digits = iterations.bytes().all(|b| b.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|_| digits);
        let iterations = check_iterations(iterations.ok_or(ScramError::Malformed("iteration count"))?)?;
        Ok(Terms {
            nonce,
            salt,
            iterations,
        })
    }
}

impl ClientProof {
    /// Takes the server's last message (AuthenticationSASLFinal) and verifies that the server knows the
    /// verifier. Gives the keys for the next login.
    pub fn finish(self, message: &[u8]) -> Result<Keys, ScramError> {
        let mut attributes = Attributes::new(text(message)?);
        match attributes.any()? {
            Some(('v', signature)) => {
                let signature = decode_key(signature)?;
                attributes.skip_extensions()?;
                if constant_time::equal(&signature, &self.server_signature) {
                    Ok(self.keys)
                } else {
                    Err(ScramError::WrongSignature)
                }
            }
            Some(('e', error)) => Err(ScramError::Refused(error.to_owned())),
            _ => Err(ScramError::Malformed("signature expected")),
        }
    }
}
