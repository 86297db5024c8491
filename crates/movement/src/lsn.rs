//! Positions in a server's log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A position in the log of one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

/// The text is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a position in the log")]
pub struct LsnError(String);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let wrong = || LsnError(text.chars().take(40).collect());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let part = |digits: &str| u32::from_str_radix(digits, 16).map_err(|_| wrong());
        Ok(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_postgresql_does() {
        assert_eq!("16/B374D848".parse(), Ok(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        for bad in ["", "1", "1/", "g/0", "1/123456789"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }
}
