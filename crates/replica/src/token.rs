//! What a session has written or seen, as a text that another session can take over: positions of several shards.
//!
//! The text says nothing to its bearer and is checked when it comes back, so that one that was cut or mixed up is refused
//! and not read as something else. It is no secret and proves nothing: whoever makes one up only waits for replicas.
//!
//! ```text
//! "d1-" + hex( epoch:8, then per shard  shard:4 system:8 timeline:4 lsn:8, then check:4 )      all big-endian
//! ```

use crate::position::{Lsn, Position, SystemId, Timeline};

/// How such a text begins.
const PREFIX: &str = "d1-";

/// Positions in one token at most.
pub const POSITIONS_MAX: usize = 4096;

const ENTRY_BYTES: usize = 24;
const EPOCH_BYTES: usize = 8;
const CHECK_BYTES: usize = 4;

/// Positions of several shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// The version of the shard map under which they were taken.
    pub epoch: u64,
    /// Shard numbers with positions; a shard may occur more than once.
    pub positions: Vec<(u32, Position)>,
}

/// Not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin like one, or has other characters.
    #[error("it is not a consistency token")]
    Form,
    /// It does not add up.
    #[error("it is damaged")]
    Damaged,
}

impl Token {
    /// As text. Positions beyond [`POSITIONS_MAX`] are left out.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(EPOCH_BYTES + self.positions.len() * ENTRY_BYTES + CHECK_BYTES);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        for (shard, position) in self.positions.iter().take(POSITIONS_MAX) {
            bytes.extend_from_slice(&shard.to_be_bytes());
            bytes.extend_from_slice(&position.system.0.to_be_bytes());
            bytes.extend_from_slice(&position.timeline.0.to_be_bytes());
            bytes.extend_from_slice(&position.lsn.0.to_be_bytes());
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check.to_be_bytes());
        let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 2);
        text.push_str(PREFIX);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        text
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let hex = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Form)?;
        if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenError::Form);
        }
        let longest = EPOCH_BYTES + POSITIONS_MAX * ENTRY_BYTES + CHECK_BYTES;
        let bytes: Option<Vec<u8>> = (hex.len() <= 2 * longest && hex.len() % 2 == 0).then(|| {
            let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
            hex.as_bytes()
                .chunks_exact(2)
                .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
                .collect()
        });
        let bytes = bytes.ok_or(TokenError::Damaged)?;
        let (content, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if u32::from_be_bytes(*check) != checksum(content) {
            return Err(TokenError::Damaged);
        }
        let (epoch, entries) = content
            .split_first_chunk::<EPOCH_BYTES>()
            .ok_or(TokenError::Damaged)?;
        if entries.len() % ENTRY_BYTES != 0 {
            return Err(TokenError::Damaged);
        }
        let positions = entries.chunks_exact(ENTRY_BYTES).map(entry).collect();
        Ok(Self {
            epoch: u64::from_be_bytes(*epoch),
            positions,
        })
    }
}

fn entry(bytes: &[u8]) -> (u32, Position) {
    let number = |from: usize, to: usize| {
        let part = bytes.get(from..to).unwrap_or_default();
        part.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte))
    };
    let position = Position {
        system: SystemId(number(4, 12)),
        timeline: Timeline(number(12, 16) as u32),
        lsn: Lsn(number(16, 24)),
    };
    (number(0, 4) as u32, position)
}

/// CRC-32 as in Ethernet, bit by bit: tokens are short.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(shards: u32) -> Token {
        let position = |shard: u32| Position {
            system: SystemId(u64::MAX - u64::from(shard)),
            timeline: Timeline(shard + 1),
            lsn: Lsn(u64::from(shard) << 33 | 77),
        };
        Token {
            epoch: 42,
            positions: (0..shards).map(|shard| (shard, position(shard))).collect(),
        }
    }

    #[test]
    fn a_token_comes_back_as_it_left() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
        for shards in [0, 1, 7] {
            let token = token(shards);
            assert_eq!(Token::parse(&token.to_text()), Ok(token));
        }
    }

    #[test]
    fn what_was_changed_is_refused() {
        let text = token(2).to_text();
        for at in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(Token::parse(&changed), Err(TokenError::Damaged), "{at}");
            assert!(Token::parse(&text[..at]).is_err());
        }
        for wrong in ["", "d1-", "d1-zz", "d2-00", "0/16B3748"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
