//! The global identifier of a distributed transaction.

use crate::ShardId;
use std::fmt;
use std::str::FromStr;

/// Version of the identifier's format and of the protocol behind it.
const VERSION: &str = "1";

/// What only the proxy that runs the transaction knows until it decides: 16 random bytes, unique in the
/// cluster. `pg_prepared_xacts` shows every identifier to every role; without the secret nobody can record a
/// commit decision for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// As the SQL functions take it: hexadecimal.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    fn fingerprint(self) -> [u8; 16] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        let mut half = [0; 16];
        half.copy_from_slice(&digest.as_ref()[..16]);
        half
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names a distributed transaction on every shard: `drover:<version>:<deciding shard>:<id>`, the id being 32
/// hexadecimal digits of the SHA-256 of the [`Secret`]. Always well below PostgreSQL's 200 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid {
    decider: ShardId,
    id: [u8; 16],
}

/// Why a text is not a [`Gid`] of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GidError {
    /// Some other application's prepared transaction: leave it alone.
    #[error("not a transaction of this cluster manager")]
    Foreign,
    /// Ours, but of a version this program does not know: leave it alone and say so.
    #[error("unknown transaction identifier version")]
    UnknownVersion,
    /// Ours by its prefix, but malformed.
    #[error("malformed transaction identifier")]
    Malformed,
}

impl Gid {
    /// The identifier of the transaction that `decider` decides and `secret` stands for.
    pub fn new(decider: ShardId, secret: Secret) -> Self {
        Gid {
            decider,
            id: secret.fingerprint(),
        }
    }

    /// The shard whose `drover_internal.decisions` holds the decision.
    pub fn decider(&self) -> ShardId {
        self.decider
    }

    /// The advisory lock that a running transaction of this name holds on its deciding shard.
    pub(crate) fn lock_key(&self) -> i64 {
        let mut key = [0; 8];
        key.copy_from_slice(&self.id[..8]);
        i64::from_be_bytes(key)
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drover:{VERSION}:{}:{}", self.decider, hex(&self.id))
    }
}

impl FromStr for Gid {
    type Err = GidError;

    /// Accepts exactly what `Display` prints: two texts never name one transaction.
    fn from_str(text: &str) -> Result<Self, GidError> {
        let rest = text.strip_prefix("drover:").ok_or(GidError::Foreign)?;
        let (version, rest) = rest.split_once(':').ok_or(GidError::Malformed)?;
        if version != VERSION {
            return Err(GidError::UnknownVersion);
        }
        let (shard, id) = rest.split_once(':').ok_or(GidError::Malformed)?;
        let decider = ShardId(shard.parse().map_err(|_| GidError::Malformed)?);
        let gid = Gid {
            decider,
            id: unhex(id).ok_or(GidError::Malformed)?,
        };
        if gid.to_string() == text {
            Ok(gid)
        } else {
            Err(GidError::Malformed)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let gid = Gid::new(ShardId(u32::MAX), Secret([7; 16]));
        let text = gid.to_string();
        assert_eq!(text, "drover:1:4294967295:d761d406af2a4a5a15f67c924378ed88");
        assert!(text.len() < 200);
        assert_eq!(text.parse(), Ok(gid));
    }

    #[test]
    fn refuses_everything_else() {
        let id = "d761d406af2a4a5a15f67c924378ed88";
        let check = |text: &str, expect| assert_eq!(text.parse::<Gid>(), Err(expect), "{text}");
        check("other:1:2:3", GidError::Foreign);
        check("", GidError::Foreign);
        check(&format!("drover:2:0:{id}"), GidError::UnknownVersion);
        for text in [
            "drover:1",
            "drover:1:",
            "drover:1:2",
            "drover:1:2:",
            "drover:1:x:",
            "drover:1:2:ab",
        ] {
            check(text, GidError::Malformed);
        }
        check(&format!("drover:1:02:{id}"), GidError::Malformed);
        check(&format!("drover:1:+2:{id}"), GidError::Malformed);
        check(&format!("drover:1:2:{}", id.to_uppercase()), GidError::Malformed);
        check(&format!("drover:1:4294967296:{id}"), GidError::Malformed);
        check(&format!("drover:1:2:{id}0"), GidError::Malformed);
    }
}
