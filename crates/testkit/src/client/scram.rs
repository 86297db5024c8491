//! The client half of SCRAM-SHA-256, written apart from the product's own so that a shared mistake cannot hide.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;

const MECHANISM_KEY_LEN: usize = digest::SHA256_OUTPUT_LEN;
/// More rounds than any sane server asks for; a hostile one must not stall a test run.
const ITERATIONS_MAX: u32 = 1_000_000;

/// One SCRAM login in progress.
#[derive(Debug)]
pub(crate) struct Scram {
    password: String,
    first_bare: String,
    server_signature: Option<Vec<u8>>,
}

impl Scram {
    /// Starts a login; `nonce` must be fresh printable text without commas.
    pub(crate) fn new(password: &str, nonce: &str) -> Scram {
        Scram {
            password: password.to_string(),
            first_bare: format!("n=,r={nonce}"),
            server_signature: None,
        }
    }

    /// The client-first message.
    pub(crate) fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The client-final message for the server-first message; `None` if that is malformed.
    pub(crate) fn answer(&mut self, server_first: &str) -> Option<String> {
        let field = |name: &str| server_first.split(',').find_map(|part| part.strip_prefix(name));
        let (nonce, salt) = (field("r=")?, BASE64.decode(field("s=")?).ok()?);
        let iterations: u32 = field("i=")?
            .parse()
            .ok()
            .filter(|count| *count <= ITERATIONS_MAX)?;
        if !nonce.starts_with(self.first_bare.strip_prefix("n=,r=")?) {
            return None;
        }
        let mut salted = [0u8; MECHANISM_KEY_LEN];
        let rounds = NonZeroU32::new(iterations)?;
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let final_bare = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{final_bare}", self.first_bare);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(key, sign)| key ^ sign)
            .collect();
        self.server_signature = Some(mac(&mac(&salted, b"Server Key"), signed.as_bytes()));
        Some(format!("{final_bare},p={}", BASE64.encode(proof)))
    }

    /// Whether the server-final message proves that the server knows the password.
    pub(crate) fn verify(&self, server_final: &str) -> bool {
        let given = server_final
            .strip_prefix("v=")
            .and_then(|text| BASE64.decode(text.trim()).ok());
        given.is_some() && given == self.server_signature
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example exchange of RFC 7677, with the user name left out as PostgreSQL clients do.
    #[test]
    fn proof_and_verification_agree_with_each_other() {
        let mut scram = Scram::new("pencil", "rOprNGfwEbeRWgbNEkqO");
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = scram.answer(first).unwrap();
        assert!(answer.starts_with("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="));
        assert!(
            !scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            "another user name was signed"
        );
        let good = BASE64.encode(scram.server_signature.as_ref().unwrap());
        assert!(scram.verify(&format!("v={good}")));
    }

    #[test]
    fn refuses_foreign_nonce_and_absurd_iterations() {
        assert_eq!(Scram::new("x", "abc").answer("r=zzz,s=AAAA,i=4096"), None);
        assert_eq!(Scram::new("x", "abc").answer("r=abcd,s=AAAA,i=4000000000"), None);
    }
}
