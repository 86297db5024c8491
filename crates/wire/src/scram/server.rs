use super::message::{Attributes, decode_key, text};
use super::verifier::{Keys, Verifier};
use super::{BINDING_TYPE, MECHANISM, MECHANISM_PLUS, ScramError, check_nonce, hash, mac, xor};
use crate::constant_time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A server that waits for the client's first message.
#[derive(Debug)]
pub struct Server {
    verifier: Verifier,
    nonce: String,
    binding: Option<Vec<u8>>,
}

/// A server that waits for the client's proof.
#[derive(Debug)]
pub struct Challenge {
    verifier: Verifier,
    /// What the proof has to repeat: the first message's header and what the login is bound to, in base64.
    binding: String,
    bound: bool,
    nonce: String,
    /// Client's first message (bare) and server's first message, as signed.
    signed: String,
}

/// The client has proved that it knows the password.
#[derive(Debug)]
pub struct Accepted {
    /// The last message, to be sent in AuthenticationSASLFinal.
    pub message: Vec<u8>,
    /// What the client's proof revealed: enough to log in elsewhere with the same verifier.
    pub keys: Keys,
}

impl Server {
    /// A server with a fresh nonce (see [`super::nonce`]). For unknown users use [`Verifier::mock`].
    pub fn new(verifier: Verifier, nonce: &str) -> Result<Self, ScramError> {
        check_nonce(nonce)?;
        Ok(Server {
            verifier,
            nonce: nonce.to_owned(),
            binding: None,
        })
    }

    /// Offers channel binding; the connection is encrypted and its certificate has this hash.
    #[must_use]
    pub fn with_channel_binding(mut self, end_point: Option<&[u8]>) -> Self {
        self.binding = end_point.map(<[u8]>::to_vec);
        self
    }

    /// The mechanisms to offer, the best first.
    #[must_use]
    pub fn mechanisms(&self) -> &'static [&'static [u8]] {
        match self.binding {
            Some(_) => &[MECHANISM_PLUS, MECHANISM],
            None => &[MECHANISM],
        }
    }

    /// Takes the mechanism the client chose among [`Self::mechanisms`] and its first message (from
    /// SASLInitialResponse); gives the challenge, to be sent in AuthenticationSASLContinue. The user name in it is
    /// ignored, as PostgreSQL does.
    pub fn first(self, mechanism: &[u8], message: &[u8]) -> Result<(Challenge, Vec<u8>), ScramError> {
        let plus = mechanism == MECHANISM_PLUS;
        if !self.mechanisms().contains(&mechanism) {
            return Err(ScramError::Unsupported("mechanism"));
        }
        let message = text(message)?;
        let (flag, rest) = message
            .split_once(',')
            .ok_or(ScramError::Malformed("no GS2 header"))?;
        let (identity, bare) = rest
            .split_once(',')
            .ok_or(ScramError::Malformed("no GS2 header"))?;
        let end_point = match (flag, &self.binding) {
            ("n" | "y", _) if plus => return Err(ScramError::Malformed("no channel binding data")),
            ("y", Some(_)) => return Err(ScramError::Downgrade),
            // `y`: the client could do channel binding but saw no offer, and none was made.
            ("n" | "y", _) => &[][..],
            (_, Some(end_point)) if plus && flag.strip_prefix("p=") == Some(BINDING_TYPE) => end_point,
            _ if flag.starts_with("p=") && plus => {
                return Err(ScramError::Unsupported("channel binding type"));
            }
            _ if flag.starts_with("p=") => return Err(ScramError::Unsupported("channel binding")),
            _ => return Err(ScramError::Malformed("channel binding flag")),
        };
        if !identity.is_empty() {
            return Err(ScramError::Unsupported("authorization identity"));
        }
        let mut attributes = Attributes::new(bare);
        attributes.expect('n')?;
        let client_nonce = attributes.expect('r')?;
        attributes.skip_extensions()?;
        check_nonce(client_nonce)?;
        let nonce = format!("{client_nonce}{}", self.nonce);
        let salt = STANDARD.encode(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let challenge = Challenge {
            signed: format!("{bare},{server_first}"),
            binding: STANDARD.encode([format!("{flag},,").as_bytes(), end_point].concat()),
            bound: plus,
            nonce,
            verifier: self.verifier,
        };
        Ok((challenge, server_first.into_bytes()))
    }
}

impl Challenge {
    /// Takes the client's proof (SASLResponse). [`ScramError::WrongProof`] is the ordinary "wrong password".
    pub fn proof(self, message: &[u8]) -> Result<Accepted, ScramError> {
        let message = text(message)?;
        let mut attributes = Attributes::new(message);
        let binding = attributes.expect('c')?;
        let nonce = attributes.expect('r')?;
        let proof = loop {
            match attributes.any()? {
                Some(('p', proof)) => break proof,
                Some(('m', _)) => return Err(ScramError::Unsupported("mandatory extension")),
                Some(_) => {}
                None => return Err(ScramError::Malformed("no proof")),
            }
        };
        if attributes.any()?.is_some() {
            return Err(ScramError::Malformed("attribute after the proof"));
        }
        // Both compare public values: what the client itself sent, and nonces seen on the wire.
        if binding != self.binding {
            return Err(if self.bound {
                ScramError::Binding
            } else {
                ScramError::Malformed("channel binding changed")
            });
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof_len = ",p=".len() + proof.len();
        let without_proof = &message[..message.len() - proof_len];
        let signed = format!("{},{without_proof}", self.signed);
        let signature = mac(&self.verifier.stored_key, signed.as_bytes());
        let client_key = xor(&decode_key(proof)?, &signature);
        let fits = constant_time::equal(&hash(&client_key), &self.verifier.stored_key);
        // Computed for wrong proofs too: the time says nothing.
        let server_signature = mac(&self.verifier.server_key, signed.as_bytes());
        if !fits || self.verifier.mock {
            return Err(ScramError::WrongProof);
        }
        Ok(Accepted {
            message: format!("v={}", STANDARD.encode(server_signature)).into_bytes(),
            keys: Keys {
                client_key,
                server_key: self.verifier.server_key,
            },
        })
    }
}
