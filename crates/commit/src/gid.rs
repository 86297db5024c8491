//! The global identifier of a distributed transaction.

use crate::ShardId;
use std::fmt;
use std::str::FromStr;

/// Version of identifiers that say nothing of their time: decisions under them are kept for ever.
const TIMELESS: &str = "1";

/// Version of identifiers that say when they were made, so that decisions under them can be collected.
const TIMED: &str = "2";

/// Digits of the time in one: texts are ordered as times are, until the year 2286.
pub(crate) const TIME_DIGITS: usize = 10;

/// The last time that has so many digits.
const TIME_MAX: u64 = 9_999_999_999;

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

/// Names a distributed transaction on every shard: `drover:2:<deciding shard>:<time>:<id>`, or `drover:1:<deciding shard>:<id>`,
/// the id being 32 hexadecimal digits of the SHA-256 of the [`Secret`], the time ten digits: seconds since 1970 by the clock of the
/// proxy that made it. Always well below PostgreSQL's 200 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid {
    decider: ShardId,
    made_s: Option<u64>,
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
    /// The identifier of the transaction that `decider` decides and `secret` stands for. Its decision is never collected: for
    /// those that something else than prepared transactions refers to.
    pub fn new(decider: ShardId, secret: Secret) -> Self {
        Gid {
            decider,
            made_s: None,
            id: secret.fingerprint(),
        }
    }

    /// The same, made at this time (seconds since 1970); its decision is collected some time after.
    pub fn made_at(decider: ShardId, secret: Secret, made_s: u64) -> Self {
        Gid {
            made_s: Some(made_s.min(TIME_MAX)),
            ..Self::new(decider, secret)
        }
    }

    /// The shard whose `drover_internal.decisions` holds the decision.
    pub fn decider(&self) -> ShardId {
        self.decider
    }

    /// When it was made, in seconds since 1970; `None`: it does not say.
    pub fn made_s(&self) -> Option<u64> {
        self.made_s
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
        let (decider, id) = (self.decider, hex(&self.id));
        match self.made_s {
            None => write!(f, "drover:{TIMELESS}:{decider}:{id}"),
            Some(made_s) => write!(f, "drover:{TIMED}:{decider}:{made_s:0TIME_DIGITS$}:{id}"),
        }
    }
}

impl FromStr for Gid {
    type Err = GidError;

    /// Accepts exactly what `Display` prints: two texts never name one transaction.
    fn from_str(text: &str) -> Result<Self, GidError> {
        let rest = text.strip_prefix("drover:").ok_or(GidError::Foreign)?;
        let (version, rest) = rest.split_once(':').ok_or(GidError::Malformed)?;
        if version != TIMELESS && version != TIMED {
            return Err(GidError::UnknownVersion);
        }
        let (shard, mut id) = rest.split_once(':').ok_or(GidError::Malformed)?;
        let decider = ShardId(shard.parse().map_err(|_| GidError::Malformed)?);
        let mut made_s = None;
        if version == TIMED {
            let (time, rest) = id.split_once(':').ok_or(GidError::Malformed)?;
            let time: u64 = time.parse().map_err(|_| GidError::Malformed)?;
            made_s = Some(time.min(TIME_MAX));
            id = rest;
        }
        let gid = Gid {
            decider,
            made_s,
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
        let gid = Gid::made_at(ShardId(3), Secret([7; 16]), 1_700_000_000);
        let text = gid.to_string();
        assert_eq!(text, "drover:2:3:1700000000:d761d406af2a4a5a15f67c924378ed88");
        assert_eq!(text.parse(), Ok(gid));
        let early = Gid::made_at(ShardId(3), Secret([8; 16]), 7).to_string();
        assert!(early < text, "{early}");
        let late = Gid::made_at(ShardId(3), Secret([8; 16]), u64::MAX).to_string();
        assert!(late > text && late.parse::<Gid>().is_ok(), "{late}");
    }

    #[test]
    fn refuses_everything_else() {
        let id = "d761d406af2a4a5a15f67c924378ed88";
        let check = |text: &str, expect| assert_eq!(text.parse::<Gid>(), Err(expect), "{text}");
        check("other:1:2:3", GidError::Foreign);
        check("", GidError::Foreign);
        check(&format!("drover:3:0:{id}"), GidError::UnknownVersion);
        check(&format!("drover:2:0:{id}"), GidError::Malformed);
        check(&format!("drover:2:0:17:{id}"), GidError::Malformed);
        check(&format!("drover:2:0:+700000000:{id}"), GidError::Malformed);
        check(&format!("drover:2:0:17000000000:{id}"), GidError::Malformed);
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
