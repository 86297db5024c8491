//! The binary format: a header, tuples (a 16-bit field count, then each field with a 32-bit length before it),
//! a trailer.

use super::{CopyError, Cut, Found};

/// What a stream starts with: signature, no flags, no extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What a stream ends with: a field count of -1.
pub const TRAILER: &[u8] = b"\xff\xff";

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const FLAG_OIDS: u32 = 1 << 16;
/// Flags in the upper half must be understood.
const FLAGS_CRITICAL: u32 = 0xffff_0000;

#[derive(Debug, Default)]
pub(super) struct BinaryState {
    started: bool,
    ended: bool,
    /// Bytes of the header's extension still to be skipped.
    extension: usize,
    /// Where in the current tuple to go on: offset and fields left, so that a tuple that arrives in many
    /// chunks is walked once.
    at: usize,
    fields_left: Option<u16>,
}

impl BinaryState {
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn next(&mut self, rest: &[u8], finished: bool, row_max: usize) -> Result<Found, CopyError> {
        if self.ended {
            return if rest.is_empty() {
                Ok(Found::Ended)
            } else {
                Err(CopyError::AfterTrailer)
            };
        }
        if !self.started {
            return self.header(rest, finished);
        }
        if self.extension > 0 {
            let skip = self.extension.min(rest.len());
            self.extension -= skip;
            return match (skip, finished) {
                (0, true) => Err(CopyError::BadHeader),
                (0, false) => Ok(Found::More),
                _ => Ok(Found::Skip(skip)),
            };
        }
        self.tuple(rest, finished, row_max)
    }

    fn header(&mut self, rest: &[u8], finished: bool) -> Result<Found, CopyError> {
        let known = rest.len().min(SIGNATURE.len());
        if rest[..known] != SIGNATURE[..known] {
            return Err(CopyError::BadSignature);
        }
        let Some((fixed, _)) = rest.split_at_checked(HEADER.len()) else {
            return match finished {
                true if rest.len() < SIGNATURE.len() => Err(CopyError::BadSignature),
                true => Err(CopyError::BadHeader),
                false => Ok(Found::More),
            };
        };
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let flags = word(11);
        if flags & FLAG_OIDS != 0 {
            return Err(CopyError::WithOids);
        }
        if flags & FLAGS_CRITICAL != 0 {
            return Err(CopyError::CriticalFlags);
        }
        let extension = i32::from_be_bytes(word(15).to_be_bytes());
        self.extension = usize::try_from(extension).map_err(|_| CopyError::BadHeader)?;
        self.started = true;
        Ok(Found::Skip(HEADER.len()))
    }

    fn tuple(&mut self, rest: &[u8], finished: bool, row_max: usize) -> Result<Found, CopyError> {
        let mut left = match self.fields_left {
            Some(left) => left,
            None => match rest.first_chunk::<2>() {
                // The trailer may be missing, and like PostgreSQL one stray byte in its place goes unnoticed.
                None if finished => {
                    self.ended = true;
                    return Ok(Found::Ended);
                }
                None => return Ok(Found::More),
                Some(count) => match i16::from_be_bytes(*count) {
                    -1 => {
                        self.ended = true;
                        return Ok(Found::Skip(2));
                    }
                    count => u16::try_from(count).map_err(|_| CopyError::FieldCount(count))?,
                },
            },
        };
        self.at = self.at.max(2);
        while left > 0 {
            let size = match rest.get(self.at..).and_then(|tail| tail.first_chunk::<4>()) {
                None if finished => return Err(CopyError::UnexpectedEnd),
                None => break,
                Some(size) => i32::from_be_bytes(*size),
            };
            let size = match size {
                -1 => 0,
                size => usize::try_from(size).map_err(|_| CopyError::FieldSize)?,
            };
            if self.at + 4 + size > row_max {
                return Err(CopyError::RowTooLong { limit: row_max });
            }
            if rest.len() - self.at - 4 < size {
                if finished {
                    return Err(CopyError::UnexpectedEnd);
                }
                break;
            }
            self.at += 4 + size;
            left -= 1;
        }
        if left > 0 {
            self.fields_left = Some(left);
            return Ok(Found::More);
        }
        self.fields_left = None;
        let end = std::mem::take(&mut self.at);
        Ok(Found::Row(Cut { end, next: end }))
    }
}
