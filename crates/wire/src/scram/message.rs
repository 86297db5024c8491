//! The comma-separated attributes SCRAM messages are made of.

use super::{MESSAGE_MAX, ScramError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A message as text, within bounds.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_MAX {
        return Err(ScramError::TooLong);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Attributes `x=value` read from the front.
#[derive(Debug, Clone)]
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Attributes { rest: Some(text) }
    }

    /// The next attribute, whatever its name; `None` at the end.
    pub(super) fn any(&mut self) -> Result<Option<(char, &'a str)>, ScramError> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let (item, tail) = match rest.split_once(',') {
            Some((item, tail)) => (item, Some(tail)),
            None => (rest, None),
        };
        self.rest = tail;
        let mut chars = item.chars();
        match (chars.next(), chars.next()) {
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => Ok(Some((name, chars.as_str()))),
            _ => Err(ScramError::Malformed("attribute expected")),
        }
    }

    /// The next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, ScramError> {
        match self.any()? {
            Some((found, value)) if found == name => Ok(value),
            Some(('m', _)) => Err(ScramError::Unsupported("mandatory extension")),
            _ => Err(ScramError::Malformed("another attribute expected")),
        }
    }

    /// Reads optional extensions to the end of the message.
    pub(super) fn skip_extensions(&mut self) -> Result<(), ScramError> {
        while let Some((name, _)) = self.any()? {
            if name == 'm' {
                return Err(ScramError::Unsupported("mandatory extension"));
            }
        }
        Ok(())
    }
}

pub(super) fn decode_key(value: &str) -> Result<[u8; 32], ScramError> {
    let bytes = STANDARD
        .decode(value)
        .map_err(|_| ScramError::Malformed("base64"))?;
    bytes.try_into().map_err(|_| ScramError::Malformed("key length"))
}
