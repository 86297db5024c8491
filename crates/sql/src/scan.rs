//! A fast token scanner for PostgreSQL's lexical rules, and the normaliser built on it.

mod normalise;
mod redact;
mod rows;
mod shape;
mod token;

pub use normalise::normalise;
pub use redact::redact;
pub(crate) use rows::may_mean_now;
pub use rows::{LiteralRow, LiteralRows, literal_rows};
pub use shape::{Shape, shape};
pub use token::{ScanError, Scanner, StringKind, Token, TokenKind};

/// Kind of a literal that was taken out of a normalised text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LiteralKind {
    /// Integer constant that PostgreSQL reads as int4.
    Int4,
    /// Integer constant that PostgreSQL reads as int8.
    Int8,
    /// Larger integer, decimal or exponent constant: numeric.
    Numeric,
    /// Plain `'…'` constant (of type unknown).
    Text,
}

/// A literal that was taken out of a normalised text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    /// Byte offset in the original text, at the first digit or the opening quote.
    pub start: u32,
    /// Length in bytes, quotes included.
    pub len: u32,
    /// Its kind.
    pub kind: LiteralKind,
}

impl Literal {
    /// The literal's bytes in `text`, quotes included.
    pub fn slice<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start as usize..(self.start + self.len) as usize)
            .unwrap_or_default()
    }

    /// The value of the literal: digits as they are, a string without its quotes and with `''` undone.
    pub fn value<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let raw = self.slice(text);
        match self.kind {
            LiteralKind::Text => {
                let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                if inner.contains('\'') {
                    inner.replace("''", "'").into()
                } else {
                    inner.into()
                }
            }
            _ => raw.into(),
        }
    }
}

/// Reusable result of [`normalise`].
#[derive(Debug, Clone, Default)]
pub struct NormalisedBuf {
    /// The key: the text with white space collapsed, comments removed and literals replaced by typed placeholders.
    pub key: Vec<u8>,
    /// The literals in order of the text.
    pub literals: Vec<Literal>,
}
