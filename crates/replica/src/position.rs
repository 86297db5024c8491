//! Places in the write-ahead log.
//!
//! A bare LSN says nothing: after a failover the same number means other bytes. Two places are comparable only within
//! one cluster of servers (they share the *system identifier*) and one line of timelines ([`crate::Lineage`]).

use std::fmt;
use std::str::FromStr;

/// The size of a page of the write-ahead log, in bytes, as PostgreSQL is built everywhere.
const PAGE_BYTES: u64 = 8192;

/// The size of the header of a page that does not begin a segment, in bytes.
const PAGE_HEADER_BYTES: u64 = 24;

/// A byte position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// The number of a timeline: one more with every promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timeline(pub u32);

/// What a primary and all its replicas have in common, made by `initdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SystemId(pub u64);

/// A place that can be compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Whose log it is.
    pub system: SystemId,
    /// The timeline that was written when the place was taken.
    pub timeline: Timeline,
    /// Where.
    pub lsn: Lsn,
}

/// Not a place as PostgreSQL writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position in the write-ahead log")]
pub struct ParseError(pub String);

impl Lsn {
    /// The place a replica reaches when it has replayed everything before this one.
    ///
    /// An insert position on a fresh page already counts that page's header, which no record ends behind: a replica
    /// that has replayed everything stands at the page's start.
    #[must_use]
    pub fn settled(self) -> Self {
        if self.0 % PAGE_BYTES == PAGE_HEADER_BYTES {
            Self(self.0 - PAGE_HEADER_BYTES)
        } else {
            self
        }
    }

    /// Bytes from `earlier` to this one; 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let part = |part: &str| {
            let plain = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let parsed = text
            .split_once('/')
            .and_then(|(high, low)| Some((part(high)? << 32) | part(low)?));
        parsed.map(Self).ok_or_else(|| ParseError(text.to_owned()))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["0/0", "0/16B3748", "1F/A0000028", "FFFFFFFF/FFFFFFFF"] {
            let lsn: Lsn = text.parse().expect("a position");
            assert_eq!(lsn.to_string(), text);
        }
        for text in [
            "",
            "0",
            "/",
            "0/",
            "/0",
            "0/123456789",
            "g/0",
            "+1/0",
            "0/-1",
            "0/0/0",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_header_of_a_fresh_page_is_not_waited_for() {
        assert_eq!(Lsn(8192 + 24).settled(), Lsn(8192));
        assert_eq!(Lsn(8192 + 48).settled(), Lsn(8192 + 48));
        assert_eq!(Lsn(8192).settled(), Lsn(8192));
    }
}
