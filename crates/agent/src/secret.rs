//! Passwords: generated from the system's randomness, never printed by accident.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// A password. `Debug` shows only that there is one; [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a known password.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// A new password of 192 random bits, in hexadecimal: safe in SQL, connection strings and files
    /// without quoting. `None` when the system has no randomness to give.
    pub fn generate() -> Option<Secret> {
        let bytes: [u8; 24] = random_bytes()?;
        Some(Secret(hex(&bytes)))
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `N` bytes of the system's randomness.
pub(crate) fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Lower-case hexadecimal text of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_differ_and_stay_out_of_debug_output() {
        let one = Secret::generate().unwrap();
        let two = Secret::generate().unwrap();
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), 48);
        assert!(!format!("{one:?}").contains(one.expose()));
    }
}
