//! Messages a server sends: borrowed views and encoders ([`encode`]).

pub mod encode;
mod fields;

pub use fields::{ErrorFields, Fields, FieldsIter, field};

use crate::DecodeError;
use crate::cursor::Cursor;
use crate::frame::Message;
use crate::values::{FormatCode, Formats, Oids, TransactionStatus, Values};
use std::ops::Range;

/// Message types a server may send.
pub mod tag {
    /// All Authentication messages.
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete.
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse.
    pub const COPY_BOTH: u8 = b'W';
    /// CopyData.
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone.
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse.
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse.
    pub const COPY_OUT: u8 = b'H';
    /// DataRow.
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse.
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse.
    pub const ERROR: u8 = b'E';
    /// FunctionCallResponse.
    pub const FUNCTION_CALL: u8 = b'V';
    /// NegotiateProtocolVersion.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData.
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse.
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse.
    pub const NOTIFICATION: u8 = b'A';
    /// ParameterDescription.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// One decoded server message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend<'a> {
    /// A step of authentication.
    Authentication(Authentication<'a>),
    /// A reported setting and its value.
    ParameterStatus {
        /// Setting name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// What a CancelRequest must present.
    BackendKeyData {
        /// Process number.
        pid: u32,
        /// Secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
        key: &'a [u8],
    },
    /// The server waits for the next command.
    ReadyForQuery(TransactionStatus),
    /// Columns of the rows that follow.
    RowDescription(RowDescription<'a>),
    /// One row.
    DataRow(DataRow<'a>),
    /// A statement has finished; see [`crate::CommandTag`].
    CommandComplete {
        /// The command tag.
        tag: &'a [u8],
    },
    /// The statement was empty.
    EmptyQuery,
    /// An error.
    Error(Fields<'a>),
    /// A notice or warning.
    Notice(Fields<'a>),
    /// Answer to Parse.
    ParseComplete,
    /// Answer to Bind.
    BindComplete,
    /// Answer to Close.
    CloseComplete,
    /// Answer to Describe: there are no rows.
    NoData,
    /// Execute stopped at its row limit.
    PortalSuspended,
    /// Types of a statement's parameters.
    ParameterDescription(Oids<'a>),
    /// The server waits for COPY data.
    CopyIn(CopyResponse<'a>),
    /// COPY data follows.
    CopyOut(CopyResponse<'a>),
    /// Streaming in both directions (replication).
    CopyBoth(CopyResponse<'a>),
    /// Bytes of a COPY stream.
    CopyData(&'a [u8]),
    /// End of a COPY stream.
    CopyDone,
    /// NOTIFY arrived.
    Notification {
        /// Process number of the notifying session.
        pid: u32,
        /// Channel.
        channel: &'a [u8],
        /// Payload, possibly empty.
        payload: &'a [u8],
    },
    /// The server speaks an older minor version, or does not know some protocol options.
    NegotiateProtocolVersion {
        /// Newest minor version the server speaks, as the full 32-bit version number.
        version: u32,
        /// Options it did not recognise.
        options: UnknownOptions<'a>,
    },
    /// Result of FunctionCall; `None` is NULL.
    FunctionCallResponse(Option<&'a [u8]>),
}

/// The Authentication family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The client is in.
    Ok,
    /// Send the password.
    CleartextPassword,
    /// Send the password hashed with this salt.
    Md5Password {
        /// Salt.
        salt: [u8; 4],
    },
    /// Start SASL with one of these mechanisms.
    Sasl {
        /// Zero-terminated names; see [`Authentication::mechanisms`].
        mechanisms: &'a [u8],
    },
    /// SASL goes on.
    SaslContinue(&'a [u8]),
    /// The mechanism's last message.
    SaslFinal(&'a [u8]),
    /// A method Drover does not speak (Kerberos, GSSAPI, SSPI …).
    Unsupported {
        /// Its number in the protocol.
        method: u32,
    },
}

impl<'a> Authentication<'a> {
    fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let message = match cursor.u32()? {
            0 => Authentication::Ok,
            3 => Authentication::CleartextPassword,
            5 => {
                let salt = cursor.take(4)?;
                Authentication::Md5Password {
                    salt: [salt[0], salt[1], salt[2], salt[3]],
                }
            }
            10 => {
                let list = cursor.rest();
                while !cursor.string()?.is_empty() {}
                cursor.end()?;
                return Ok(Authentication::Sasl {
                    mechanisms: &list[..list.len() - 1],
                });
            }
            11 => return Ok(Authentication::SaslContinue(cursor.rest())),
            12 => return Ok(Authentication::SaslFinal(cursor.rest())),
            method => return Ok(Authentication::Unsupported { method }),
        };
        cursor.end()?;
        Ok(message)
    }

    /// Names of the offered SASL mechanisms; empty for every other message.
    pub fn mechanisms(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let list = match *self {
            Authentication::Sasl { mechanisms } => mechanisms,
            _ => &[],
        };
        list.split(|b| *b == 0).filter(|name| !name.is_empty())
    }
}

/// Options of NegotiateProtocolVersion the server did not recognise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownOptions<'a> {
    raw: &'a [u8],
}

impl<'a> UnknownOptions<'a> {
    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let raw = self.raw;
        raw.strip_suffix(b"\0")
            .into_iter()
            .flat_map(|names| names.split(|b| *b == 0))
    }
}

/// Columns of the rows that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    raw: &'a [u8],
}

/// One column of a [`RowDescription`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Name.
    pub name: &'a [u8],
    /// OID of the table it comes from, 0 if none.
    pub table_oid: u32,
    /// Column number in that table, 0 if none.
    pub attnum: i16,
    /// OID of its type.
    pub type_oid: u32,
    /// Size of the type, negative = variable.
    pub typlen: i16,
    /// Type modifier, -1 if none.
    pub typmod: i32,
    /// Format; always text when describing a statement.
    pub format: FormatCode,
}

impl<'a> RowDescription<'a> {
    /// Decodes the body of a `T` message.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let count = cursor.u16()?;
        let raw = cursor.rest();
        for _ in 0..count {
            Column::read(&mut cursor)?;
        }
        cursor.end()?;
        Ok(RowDescription { count, raw })
    }

    /// Number of columns.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// No columns (`SELECT FROM t`).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns in order.
    pub fn iter(&self) -> impl Iterator<Item = Column<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.raw);
        (0..self.count).map_while(move |_| Column::read(&mut cursor).ok())
    }
}

impl<'a> Column<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        Ok(Column {
            name: cursor.string()?,
            table_oid: cursor.u32()?,
            attnum: cursor.i16()?,
            type_oid: cursor.u32()?,
            typlen: cursor.i16()?,
            typmod: cursor.i32()?,
            format: FormatCode::from_code(cursor.i16()?),
        })
    }
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataRow<'a> {
    /// The columns.
    pub columns: Values<'a>,
}

impl<'a> DataRow<'a> {
    /// Decodes the body of a `D` message.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let columns = Values::read(&mut cursor)?;
        cursor.end()?;
        Ok(DataRow { columns })
    }

    /// Number of columns.
    #[inline]
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// No columns (`SELECT FROM t`).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Column `index`: outer `None` = no such column, inner `None` = NULL.
    #[inline]
    pub fn column(&self, index: usize) -> Option<Option<&'a [u8]>> {
        self.columns.get(index)
    }

    /// Where each column's bytes are, as offsets into the *body* given to [`DataRow::decode`]; `None` is NULL.
    pub fn ranges(&self) -> impl Iterator<Item = Option<Range<usize>>> + use<'a> {
        let mut at = 2; // after the count
        self.columns.iter().map(move |value| {
            at += 4;
            value.map(|bytes| {
                let start = at;
                at += bytes.len();
                start..at
            })
        })
    }
}

/// The answer to a COPY statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// Whether the stream as a whole is text (or CSV) or binary.
    pub format: FormatCode,
    /// Format of each column.
    pub columns: Formats<'a>,
}

impl<'a> CopyResponse<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let format = FormatCode::from_code(i16::from(cursor.u8()?));
        Ok(CopyResponse {
            format,
            columns: Formats::read(cursor)?,
        })
    }
}

impl<'a> Backend<'a> {
    /// Decodes a message found by [`crate::frame::Frames`].
    pub fn decode(message: Message<'a>) -> Result<Self, DecodeError> {
        Self::decode_body(message.tag, message.body())
    }

    /// Decodes a message from its type and body.
    pub fn decode_body(tag: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let message = match tag {
            tag::DATA_ROW => return DataRow::decode(body).map(Backend::DataRow),
            tag::COPY_DATA => return Ok(Backend::CopyData(body)),
            tag::ROW_DESCRIPTION => return RowDescription::decode(body).map(Backend::RowDescription),
            tag::AUTHENTICATION => return Authentication::decode(body).map(Backend::Authentication),
            tag::ERROR => return Fields::decode(body).map(Backend::Error),
            tag::NOTICE => return Fields::decode(body).map(Backend::Notice),
            tag::BACKEND_KEY_DATA => return decode_key(cursor),
            tag::NEGOTIATE_PROTOCOL_VERSION => return decode_negotiate(cursor),
            tag::PARAMETER_STATUS => Backend::ParameterStatus {
                name: cursor.string()?,
                value: cursor.string()?,
            },
            tag::READY_FOR_QUERY => Backend::ReadyForQuery(TransactionStatus::from_byte(cursor.u8()?)?),
            tag::COMMAND_COMPLETE => Backend::CommandComplete {
                tag: cursor.string()?,
            },
            tag::EMPTY_QUERY => Backend::EmptyQuery,
            tag::PARSE_COMPLETE => Backend::ParseComplete,
            tag::BIND_COMPLETE => Backend::BindComplete,
            tag::CLOSE_COMPLETE => Backend::CloseComplete,
            tag::NO_DATA => Backend::NoData,
            tag::PORTAL_SUSPENDED => Backend::PortalSuspended,
            tag::PARAMETER_DESCRIPTION => Backend::ParameterDescription(Oids::read(&mut cursor)?),
            tag::COPY_IN => Backend::CopyIn(CopyResponse::read(&mut cursor)?),
            tag::COPY_OUT => Backend::CopyOut(CopyResponse::read(&mut cursor)?),
            tag::COPY_BOTH => Backend::CopyBoth(CopyResponse::read(&mut cursor)?),
            tag::COPY_DONE => Backend::CopyDone,
            tag::NOTIFICATION => Backend::Notification {
                pid: cursor.u32()?,
                channel: cursor.string()?,
                payload: cursor.string()?,
            },
            tag::FUNCTION_CALL => Backend::FunctionCallResponse(cursor.value()?),
            other => return Err(DecodeError::UnknownTag(other)),
        };
        cursor.end()?;
        Ok(message)
    }
}

fn decode_key(mut cursor: Cursor<'_>) -> Result<Backend<'_>, DecodeError> {
    let pid = cursor.u32()?;
    let key = cursor.rest();
    if !crate::startup::CANCEL_KEY_LEN.contains(&key.len()) {
        return Err(DecodeError::BadLength(key.len() as i64));
    }
    Ok(Backend::BackendKeyData { pid, key })
}

fn decode_negotiate(mut cursor: Cursor<'_>) -> Result<Backend<'_>, DecodeError> {
    let version = cursor.u32()?;
    let count = cursor.u32()?;
    let start = cursor.rest();
    for _ in 0..count {
        cursor.string()?;
    }
    cursor.end()?;
    Ok(Backend::NegotiateProtocolVersion {
        version,
        options: UnknownOptions { raw: start },
    })
}

#[cfg(test)]
mod tests;
