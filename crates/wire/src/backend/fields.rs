//! Errors and notices: a list of (field type, text), borrowed or owned.

use crate::DecodeError;
use crate::cursor::Cursor;

/// Field types of errors and notices.
pub mod field {
    /// Severity, possibly translated.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never translated.
    pub const SEVERITY_RAW: u8 = b'V';
    /// SQLSTATE.
    pub const CODE: u8 = b'C';
    /// Primary message.
    pub const MESSAGE: u8 = b'M';
    /// Detail.
    pub const DETAIL: u8 = b'D';
    /// Hint.
    pub const HINT: u8 = b'H';
    /// Position in the client's text, in characters from 1.
    pub const POSITION: u8 = b'P';
    /// Position in the internal query.
    pub const INTERNAL_POSITION: u8 = b'p';
    /// Text of the internal query.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// Context.
    pub const WHERE: u8 = b'W';
    /// Schema name.
    pub const SCHEMA: u8 = b's';
    /// Table name.
    pub const TABLE: u8 = b't';
    /// Column name.
    pub const COLUMN: u8 = b'c';
    /// Data type name.
    pub const DATA_TYPE: u8 = b'd';
    /// Constraint name.
    pub const CONSTRAINT: u8 = b'n';
    /// Source file.
    pub const FILE: u8 = b'F';
    /// Source line.
    pub const LINE: u8 = b'L';
    /// Source routine.
    pub const ROUTINE: u8 = b'R';
}

/// The fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a> {
    raw: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Decodes the body of an `E` or `N` message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        while cursor.u8()? != 0 {
            cursor.string()?;
        }
        cursor.end()?;
        Ok(Fields { raw: body })
    }

    /// All fields in the order sent: (field type, text).
    pub fn iter(&self) -> FieldsIter<'a> {
        FieldsIter {
            cursor: Cursor::new(self.raw),
        }
    }

    /// The first field of this type (see [`field`]).
    pub fn get(&self, field_type: u8) -> Option<&'a [u8]> {
        self.iter().find(|(t, _)| *t == field_type).map(|(_, text)| text)
    }

    /// SQLSTATE, empty if the server sent none.
    pub fn code(&self) -> &'a [u8] {
        self.get(field::CODE).unwrap_or_default()
    }

    /// The owned form. Text that is not UTF-8 is replaced lossily: pass the message itself on where bytes count.
    pub fn to_owned(&self) -> ErrorFields {
        let mut owned = ErrorFields::default();
        for (field_type, text) in self.iter() {
            owned.set(field_type, String::from_utf8_lossy(text).into_owned());
        }
        owned
    }
}

/// Iterates over [`Fields`].
#[derive(Debug, Clone)]
pub struct FieldsIter<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for FieldsIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.cursor.u8() {
            Ok(0) | Err(_) => None,
            Ok(field_type) => Some((field_type, self.cursor.string().ok()?)),
        }
    }
}

/// An error or notice as owned text: received from a server, or made here with [`ErrorFields::error`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields {
    /// `ERROR`, `FATAL`, `NOTICE` … never translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Detail.
    pub detail: Option<String>,
    /// Hint.
    pub hint: Option<String>,
    /// Position in the client's text, in characters from 1.
    pub position: Option<u32>,
    /// All other fields: (field type, text), in the order received. The translated severity is here only if
    /// it differs from the untranslated one.
    pub other: Vec<(u8, String)>,
}

impl ErrorFields {
    /// A new one with the three fields every error has.
    pub fn new(severity: &str, code: &str, message: impl Into<String>) -> Self {
        ErrorFields {
            severity: severity.to_owned(),
            code: code.to_owned(),
            message: message.into(),
            ..ErrorFields::default()
        }
    }

    /// An `ERROR`.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self::new("ERROR", code, message)
    }

    /// A `FATAL`: the connection ends after it.
    pub fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self::new("FATAL", code, message)
    }

    /// With a detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a position in the client's text, in characters from 1.
    #[must_use]
    pub fn with_position(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// A field by its type, in whichever member it is kept; the position as text is not found here.
    pub fn get(&self, field_type: u8) -> Option<&str> {
        match field_type {
            field::SEVERITY_RAW => Some(&self.severity),
            field::CODE => Some(&self.code),
            field::MESSAGE => Some(&self.message),
            field::DETAIL => self.detail.as_deref(),
            field::HINT => self.hint.as_deref(),
            other => self
                .other
                .iter()
                .find(|(t, _)| *t == other)
                .map(|(_, text)| text.as_str()),
        }
    }

    fn set(&mut self, field_type: u8, text: String) {
        match field_type {
            field::SEVERITY if self.severity.is_empty() => self.severity = text,
            field::SEVERITY if self.severity == text => {}
            field::SEVERITY_RAW => {
                // The untranslated one wins; the translated one, which comes first, is kept for the client.
                let translated = std::mem::replace(&mut self.severity, text);
                if !translated.is_empty() && translated != self.severity {
                    self.other.push((field::SEVERITY, translated));
                }
            }
            field::CODE => self.code = text,
            field::MESSAGE => self.message = text,
            field::DETAIL => self.detail = Some(text),
            field::HINT => self.hint = Some(text),
            field::POSITION if text.parse::<u32>().is_ok() => self.position = text.parse().ok(),
            other => self.other.push((other, text)),
        }
    }
}
