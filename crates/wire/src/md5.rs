//! The old MD5 password exchange: `md5` + hex(md5(hex(md5(password + user)) + salt)).

use crate::constant_time;
use ::md5::{Digest, Md5};

/// The form `pg_authid` stores: `md5` and 32 hexadecimal digits.
pub fn hash(user: &str, password: &[u8]) -> String {
    prefixed(&[password, user.as_bytes()])
}

/// The answer to a request with this salt, from the cleartext password.
pub fn response(user: &str, password: &[u8], salt: [u8; 4]) -> String {
    let stored = hash(user, password);
    prefixed(&[&stored.as_bytes()[3..], &salt])
}

/// The answer to a request with this salt, from the stored form; `None` if it is not one.
pub fn response_from_hash(stored: &str, salt: [u8; 4]) -> Option<String> {
    let digits = stored.strip_prefix("md5").filter(|d| d.len() == 32)?;
    digits
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then(|| prefixed(&[digits.as_bytes(), &salt]))
}

/// Whether a client's answer fits the stored form, in time that does not depend on the answer.
pub fn verify(stored: &str, salt: [u8; 4], answer: &[u8]) -> bool {
    response_from_hash(stored, salt).is_some_and(|expected| constant_time::equal(expected.as_bytes(), answer))
}

fn prefixed(parts: &[&[u8]]) -> String {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    let mut text = String::with_capacity(35);
    text.push_str("md5");
    for byte in digest.finalize() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_postgresql() {
        // SELECT 'md5' || md5('secret' || 'alice')
        let stored = hash("alice", b"secret");
        assert_eq!(stored, "md54a0a68b43b6cd5cf266fa02f196e2371");
        let answer = response("alice", b"secret", [1, 2, 3, 4]);
        assert_eq!(answer, "md598a0412b9c31436fc53776e863350083");
        assert!(verify(&stored, [1, 2, 3, 4], answer.as_bytes()));
        assert!(!verify(&stored, [1, 2, 3, 5], answer.as_bytes()));
        assert!(!verify(&stored, [1, 2, 3, 4], &answer.as_bytes()[..34]));
        assert_eq!(response_from_hash("SCRAM-SHA-256$4096:", [0; 4]), None);
    }
}
