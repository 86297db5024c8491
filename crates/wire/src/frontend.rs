//! Messages a client sends after startup: borrowed views, encoders ([`encode`]) and re-emission under another
//! statement or portal name ([`rename`]).
//!
//! Text is kept as bytes: what encoding it is in depends on `client_encoding`, and validating it is the
//! server's business. Use [`std::str::from_utf8`] where the meaning of the text matters.

pub mod encode;
pub mod rename;

use crate::DecodeError;
use crate::cursor::Cursor;
use crate::frame::Message;
use crate::values::{FormatCode, Formats, Oids, Target, Values};

/// Message types a client may send.
pub mod tag {
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Close.
    pub const CLOSE: u8 = b'C';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe.
    pub const DESCRIBE: u8 = b'D';
    /// Execute.
    pub const EXECUTE: u8 = b'E';
    /// Flush.
    pub const FLUSH: u8 = b'H';
    /// FunctionCall.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share one type.
    pub const PASSWORD: u8 = b'p';
    /// Query.
    pub const QUERY: u8 = b'Q';
    /// Sync.
    pub const SYNC: u8 = b'S';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';
}

/// One decoded client message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// Run SQL text with the simple protocol.
    Query {
        /// The text, possibly several statements.
        sql: &'a [u8],
    },
    /// Prepare a statement.
    Parse(Parse<'a>),
    /// Make a portal from a statement and parameters.
    Bind(Bind<'a>),
    /// Ask for the types of a statement or portal.
    Describe {
        /// Statement or portal.
        target: Target,
        /// Its name; empty = unnamed.
        name: &'a [u8],
    },
    /// Run a portal.
    Execute {
        /// The portal's name; empty = unnamed.
        portal: &'a [u8],
        /// Rows after which it suspends; zero or negative = no limit.
        max_rows: i32,
    },
    /// Drop a statement or portal.
    Close {
        /// Statement or portal.
        target: Target,
        /// Its name; empty = unnamed.
        name: &'a [u8],
    },
    /// Deliver pending answers now.
    Flush,
    /// End of an extended-protocol batch.
    Sync,
    /// Bytes of a COPY stream.
    CopyData(&'a [u8]),
    /// End of a COPY stream.
    CopyDone,
    /// Abort a COPY stream.
    CopyFail {
        /// What the server puts into its error.
        reason: &'a [u8],
    },
    /// An answer to an authentication request. What the body is depends on the request: see
    /// [`password`], [`SaslInitial::decode`]; a SASLResponse is the body itself.
    Password(&'a [u8]),
    /// The old fast-path function call.
    FunctionCall(FunctionCall<'a>),
    /// The client is leaving.
    Terminate,
}

/// Prepare a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Statement name; empty = unnamed.
    pub name: &'a [u8],
    /// One statement.
    pub sql: &'a [u8],
    /// Parameter types the client fixed, 0 = let the server infer. May be shorter than the parameter list.
    pub types: Oids<'a>,
}

/// Make a portal from a statement and parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Portal name; empty = unnamed.
    pub portal: &'a [u8],
    /// Statement name; empty = unnamed.
    pub statement: &'a [u8],
    /// Parameter formats.
    pub formats: Formats<'a>,
    /// Parameter values.
    pub params: Values<'a>,
    /// Formats wanted for the result columns.
    pub result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// Parameter `index` (from 0): outer `None` = no such parameter, inner `None` = NULL.
    #[inline]
    pub fn param(&self, index: usize) -> Option<Option<&'a [u8]>> {
        self.params.get(index)
    }

    /// Format of parameter `index`; `None` when the list of formats does not cover it.
    #[inline]
    pub fn format(&self, index: usize) -> Option<FormatCode> {
        self.formats.get(index)
    }

    /// Whether the number of parameter formats is one the server accepts: none, one, or one each.
    pub fn formats_agree(&self) -> bool {
        self.formats.len() <= 1 || self.formats.len() == self.params.len()
    }
}

/// The old fast-path function call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// OID of the function.
    pub function: u32,
    /// Argument formats.
    pub formats: Formats<'a>,
    /// Arguments.
    pub arguments: Values<'a>,
    /// Format wanted for the result.
    pub result_format: FormatCode,
}

/// The first answer to an AuthenticationSASL request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism the client chose.
    pub mechanism: &'a [u8],
    /// The mechanism's first message, if it sends one.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitial<'a> {
    /// Decodes the body of a `p` message sent in answer to AuthenticationSASL.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let mechanism = cursor.string()?;
        let response = cursor.value()?;
        cursor.end()?;
        Ok(SaslInitial { mechanism, response })
    }
}

/// Decodes the body of a `p` message sent in answer to a cleartext or MD5 password request.
pub fn password(body: &[u8]) -> Result<&[u8], DecodeError> {
    let mut cursor = Cursor::new(body);
    let password = cursor.string()?;
    cursor.end()?;
    Ok(password)
}

impl<'a> Frontend<'a> {
    /// Decodes a message found by [`crate::frame::Frames`].
    pub fn decode(message: Message<'a>) -> Result<Self, DecodeError> {
        Self::decode_body(message.tag, message.body())
    }

    /// Decodes a message from its type and body.
    pub fn decode_body(tag: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let message = match tag {
            // Unvalidated bodies: these are the whole rest of the message.
            tag::COPY_DATA => return Ok(Frontend::CopyData(body)),
            tag::PASSWORD => return Ok(Frontend::Password(body)),
            tag::QUERY => Frontend::Query {
                sql: cursor.string()?,
            },
            tag::PARSE => Frontend::Parse(Parse {
                name: cursor.string()?,
                sql: cursor.string()?,
                types: Oids::read(&mut cursor)?,
            }),
            tag::BIND => Frontend::Bind(Bind {
                portal: cursor.string()?,
                statement: cursor.string()?,
                formats: Formats::read(&mut cursor)?,
                params: Values::read(&mut cursor)?,
                result_formats: Formats::read(&mut cursor)?,
            }),
            tag::DESCRIBE => Frontend::Describe {
                target: Target::read(&mut cursor)?,
                name: cursor.string()?,
            },
            tag::EXECUTE => Frontend::Execute {
                portal: cursor.string()?,
                max_rows: cursor.i32()?,
            },
            tag::CLOSE => Frontend::Close {
                target: Target::read(&mut cursor)?,
                name: cursor.string()?,
            },
            tag::FLUSH => Frontend::Flush,
            tag::SYNC => Frontend::Sync,
            tag::COPY_DONE => Frontend::CopyDone,
            tag::COPY_FAIL => Frontend::CopyFail {
                reason: cursor.string()?,
            },
            tag::FUNCTION_CALL => Frontend::FunctionCall(FunctionCall {
                function: cursor.u32()?,
                formats: Formats::read(&mut cursor)?,
                arguments: Values::read(&mut cursor)?,
                result_format: FormatCode::from_code(cursor.i16()?),
            }),
            tag::TERMINATE => Frontend::Terminate,
            other => return Err(DecodeError::UnknownTag(other)),
        };
        cursor.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
