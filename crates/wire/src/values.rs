//! Borrowed views of the repeated parts of messages: counts followed by fixed-size or length-prefixed items.

use crate::DecodeError;
use crate::cursor::Cursor;

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement (`S`).
    Statement,
    /// A portal (`P`).
    Portal,
}

impl Target {
    /// The byte that stands for it in a message.
    pub fn byte(self) -> u8 {
        match self {
            Target::Statement => b'S',
            Target::Portal => b'P',
        }
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        match cursor.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            other => Err(DecodeError::BadValue {
                what: "target",
                value: i64::from(other),
            }),
        }
    }
}

/// The state ReadyForQuery reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block (`I`).
    Idle,
    /// In a transaction block (`T`).
    InTransaction,
    /// In a failed transaction block (`E`).
    Failed,
}

impl TransactionStatus {
    /// The byte that stands for it in ReadyForQuery.
    pub fn byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            b'I' => Ok(TransactionStatus::Idle),
            b'T' => Ok(TransactionStatus::InTransaction),
            b'E' => Ok(TransactionStatus::Failed),
            other => Err(DecodeError::BadValue {
                what: "transaction status",
                value: i64::from(other),
            }),
        }
    }
}

/// How a value is encoded. Unknown codes are kept: refusing them is the server's business (`22023`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatCode {
    /// The type's text output (0).
    Text,
    /// The type's binary send format (1).
    Binary,
    /// A code no released protocol defines.
    Other(i16),
}

impl FormatCode {
    /// From the number in a message.
    #[inline]
    pub fn from_code(code: i16) -> Self {
        match code {
            0 => FormatCode::Text,
            1 => FormatCode::Binary,
            other => FormatCode::Other(other),
        }
    }

    /// The number in a message.
    #[inline]
    pub fn code(self) -> i16 {
        match self {
            FormatCode::Text => 0,
            FormatCode::Binary => 1,
            FormatCode::Other(code) => code,
        }
    }
}

/// A list of format codes as Bind holds it: none = all text, one = for all, else one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Formats<'a> {
    raw: &'a [u8],
}

impl<'a> Formats<'a> {
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let count = usize::from(cursor.u16()?);
        Ok(Formats {
            raw: cursor.take(count * 2)?,
        })
    }

    /// Codes in the message (not the number of values they apply to).
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.len() / 2
    }

    /// No codes: everything is text.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The codes as listed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FormatCode> + 'a {
        self.raw
            .chunks_exact(2)
            .map(|c| FormatCode::from_code(i16::from_be_bytes([c[0], c[1]])))
    }

    /// The format that applies to value `index`; `None` when several codes are listed but not for it
    /// (the server refuses such a message).
    #[inline]
    pub fn get(&self, index: usize) -> Option<FormatCode> {
        let at = match self.len() {
            0 => return Some(FormatCode::Text),
            1 => 0,
            n if index < n => index,
            _ => return None,
        };
        let code = [self.raw[at * 2], self.raw[at * 2 + 1]];
        Some(FormatCode::from_code(i16::from_be_bytes(code)))
    }
}

/// A list of type OIDs, as Parse and ParameterDescription hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oids<'a> {
    raw: &'a [u8],
}

impl<'a> Oids<'a> {
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let count = usize::from(cursor.u16()?);
        Ok(Oids {
            raw: cursor.take(count * 4)?,
        })
    }

    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        self.raw.len() / 4
    }

    /// None at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// OID number `index`, 0 = unspecified type.
    #[inline]
    pub fn get(&self, index: usize) -> Option<u32> {
        let raw = self.raw.get(index * 4..index * 4 + 4)?;
        Some(u32::from_be_bytes([raw[0], raw[1], raw[2], raw[3]]))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.raw
            .chunks_exact(4)
            .map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]))
    }

    /// The big-endian bytes as they stand in the message: a cheap key for caches.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

/// A list of length-prefixed nullable values: parameters of Bind, columns of DataRow. Lengths were checked
/// when it was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Values<'a> {
    count: u16,
    raw: &'a [u8],
}

impl<'a> Values<'a> {
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let count = cursor.u16()?;
        let start = cursor.rest();
        for _ in 0..count {
            cursor.value()?;
        }
        let raw = &start[..start.len() - cursor.rest().len()];
        Ok(Values { count, raw })
    }

    /// How many, NULLs included.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// None at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Value `index`: outer `None` = no such value, inner `None` = NULL. Costs a walk over the values before it.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Option<&'a [u8]>> {
        self.iter().nth(index)
    }

    /// All values in order; `None` is NULL.
    #[inline]
    pub fn iter(&self) -> ValuesIter<'a> {
        ValuesIter {
            left: self.count,
            cursor: Cursor::new(self.raw),
        }
    }

    /// The encoded values: length, bytes, length, bytes… without the count before them.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

impl<'a> IntoIterator for Values<'a> {
    type Item = Option<&'a [u8]>;
    type IntoIter = ValuesIter<'a>;

    fn into_iter(self) -> ValuesIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Values`].
#[derive(Debug, Clone)]
pub struct ValuesIter<'a> {
    left: u16,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for ValuesIter<'a> {
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Checked by `Values::read`; a failure could only mean the end.
        self.cursor.value().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for ValuesIter<'_> {}
