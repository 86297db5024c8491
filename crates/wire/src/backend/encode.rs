//! Encoders of server messages. Each appends one message to `buf`; on error `buf` is unchanged.

use super::{Authentication, Backend, Column, CopyResponse, ErrorFields, field, tag};
use crate::EncodeError;
use crate::cursor::{fixed, message, put_string, put_value};
use crate::frontend::encode::{put_formats, put_list};
use crate::tag::CommandTag;
use crate::values::{FormatCode, TransactionStatus};
use bytes::{BufMut, BytesMut};

/// AuthenticationOk.
pub fn authentication_ok(buf: &mut BytesMut) {
    fixed(buf, tag::AUTHENTICATION, &0u32.to_be_bytes());
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext(buf: &mut BytesMut) {
    fixed(buf, tag::AUTHENTICATION, &3u32.to_be_bytes());
}

/// AuthenticationMD5Password.
pub fn authentication_md5(buf: &mut BytesMut, salt: [u8; 4]) {
    let [a, b, c, d] = salt;
    fixed(buf, tag::AUTHENTICATION, &[0, 0, 0, 5, a, b, c, d]);
}

/// AuthenticationSASL with the offered mechanisms.
pub fn authentication_sasl(buf: &mut BytesMut, mechanisms: &[&[u8]]) -> Result<(), EncodeError> {
    message(buf, tag::AUTHENTICATION, |b| {
        b.put_u32(10);
        for mechanism in mechanisms {
            put_string(b, mechanism)?;
        }
        b.put_u8(0);
        Ok(())
    })
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(buf: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    numbered(buf, 11, data)
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(buf: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    numbered(buf, 12, data)
}

fn numbered(buf: &mut BytesMut, method: u32, data: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::AUTHENTICATION, |b| {
        b.put_u32(method);
        b.put_slice(data);
        Ok(())
    })
}

/// ParameterStatus.
pub fn parameter_status(buf: &mut BytesMut, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::PARAMETER_STATUS, |b| {
        put_string(b, name)?;
        put_string(b, value)
    })
}

/// BackendKeyData.
pub fn backend_key_data(buf: &mut BytesMut, pid: u32, key: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::BACKEND_KEY_DATA, |b| {
        if !crate::startup::CANCEL_KEY_LEN.contains(&key.len()) {
            return Err(EncodeError::TooLong(key.len()));
        }
        b.put_u32(pid);
        b.put_slice(key);
        Ok(())
    })
}

/// ReadyForQuery.
pub fn ready_for_query(buf: &mut BytesMut, status: TransactionStatus) {
    fixed(buf, tag::READY_FOR_QUERY, &[status.byte()]);
}

/// RowDescription.
pub fn row_description<'a>(
    buf: &mut BytesMut,
    columns: impl IntoIterator<Item = Column<'a>>,
) -> Result<(), EncodeError> {
    message(buf, tag::ROW_DESCRIPTION, |b| {
        put_list(b, columns, |b, column| {
            put_string(b, column.name)?;
            b.put_u32(column.table_oid);
            b.put_i16(column.attnum);
            b.put_u32(column.type_oid);
            b.put_i16(column.typlen);
            b.put_i32(column.typmod);
            b.put_i16(column.format.code());
            Ok(())
        })
    })
}

/// DataRow.
pub fn data_row<'a>(
    buf: &mut BytesMut,
    columns: impl IntoIterator<Item = Option<&'a [u8]>>,
) -> Result<(), EncodeError> {
    message(buf, tag::DATA_ROW, |b| put_list(b, columns, put_value))
}

/// CommandComplete with the tag's text.
pub fn command_complete(buf: &mut BytesMut, text: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::COMMAND_COMPLETE, |b| put_string(b, text))
}

/// CommandComplete from verb and count.
pub fn command_tag(buf: &mut BytesMut, command: CommandTag<'_>) -> Result<(), EncodeError> {
    command_complete(buf, command.to_string().as_bytes())
}

/// EmptyQueryResponse.
pub fn empty_query(buf: &mut BytesMut) {
    fixed(buf, tag::EMPTY_QUERY, &[]);
}

/// ErrorResponse.
pub fn error(buf: &mut BytesMut, fields: &ErrorFields) {
    put_fields(buf, tag::ERROR, fields);
}

/// NoticeResponse.
pub fn notice(buf: &mut BytesMut, fields: &ErrorFields) {
    put_fields(buf, tag::NOTICE, fields);
}

/// Cannot fail: an error must always be deliverable, so text is cut at a zero byte or at [`FIELD_MAX`] bytes.
fn put_fields(buf: &mut BytesMut, tag: u8, fields: &ErrorFields) {
    let start = buf.len();
    buf.put_u8(tag);
    buf.put_u32(0);
    let translated = fields.get(field::SEVERITY).unwrap_or(&fields.severity);
    put_field(buf, field::SEVERITY, translated);
    put_field(buf, field::SEVERITY_RAW, &fields.severity);
    put_field(buf, field::CODE, &fields.code);
    put_field(buf, field::MESSAGE, &fields.message);
    if let Some(detail) = &fields.detail {
        put_field(buf, field::DETAIL, detail);
    }
    if let Some(hint) = &fields.hint {
        put_field(buf, field::HINT, hint);
    }
    if let Some(position) = fields.position {
        put_field(buf, field::POSITION, &position.to_string());
    }
    for (field_type, text) in fields.other.iter().take(OTHER_FIELDS_MAX) {
        if *field_type != field::SEVERITY && *field_type != 0 {
            put_field(buf, *field_type, text);
        }
    }
    buf.put_u8(0);
    // At most (7 + OTHER_FIELDS_MAX) * FIELD_MAX, far below 2^31.
    let len = (buf.len() - start - 1) as u32;
    buf[start + 1..start + 5].copy_from_slice(&len.to_be_bytes());
}

/// Longest text of one field of an error made from [`ErrorFields`]; longer text is cut.
pub const FIELD_MAX: usize = 1 << 20;

/// The protocol defines 18 field types; more are not repeated to clients.
const OTHER_FIELDS_MAX: usize = 32;

fn put_field(buf: &mut BytesMut, field_type: u8, text: &str) {
    let mut end = memchr::memchr(0, text.as_bytes())
        .unwrap_or(text.len())
        .min(FIELD_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    buf.put_u8(field_type);
    buf.put_slice(&text.as_bytes()[..end]);
    buf.put_u8(0);
}

/// ParseComplete.
pub fn parse_complete(buf: &mut BytesMut) {
    fixed(buf, tag::PARSE_COMPLETE, &[]);
}

/// BindComplete.
pub fn bind_complete(buf: &mut BytesMut) {
    fixed(buf, tag::BIND_COMPLETE, &[]);
}

/// CloseComplete.
pub fn close_complete(buf: &mut BytesMut) {
    fixed(buf, tag::CLOSE_COMPLETE, &[]);
}

/// NoData.
pub fn no_data(buf: &mut BytesMut) {
    fixed(buf, tag::NO_DATA, &[]);
}

/// PortalSuspended.
pub fn portal_suspended(buf: &mut BytesMut) {
    fixed(buf, tag::PORTAL_SUSPENDED, &[]);
}

/// ParameterDescription.
pub fn parameter_description(
    buf: &mut BytesMut,
    types: impl IntoIterator<Item = u32>,
) -> Result<(), EncodeError> {
    message(buf, tag::PARAMETER_DESCRIPTION, |b| {
        put_list(b, types, |b, oid| {
            b.put_u32(oid);
            Ok(())
        })
    })
}

/// CopyInResponse.
pub fn copy_in(
    buf: &mut BytesMut,
    format: FormatCode,
    columns: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    copy_response(buf, tag::COPY_IN, format, columns)
}

/// CopyOutResponse.
pub fn copy_out(
    buf: &mut BytesMut,
    format: FormatCode,
    columns: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    copy_response(buf, tag::COPY_OUT, format, columns)
}

/// CopyBothResponse.
pub fn copy_both(
    buf: &mut BytesMut,
    format: FormatCode,
    columns: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    copy_response(buf, tag::COPY_BOTH, format, columns)
}

fn copy_response(
    buf: &mut BytesMut,
    tag: u8,
    format: FormatCode,
    columns: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    message(buf, tag, |b| {
        // One byte on the wire, unlike the formats of columns.
        b.put_u8(format.code().to_be_bytes()[1]);
        put_formats(b, columns)
    })
}

/// CopyData.
pub fn copy_data(buf: &mut BytesMut, data: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::COPY_DATA, |b| {
        b.put_slice(data);
        Ok(())
    })
}

/// CopyDone.
pub fn copy_done(buf: &mut BytesMut) {
    fixed(buf, tag::COPY_DONE, &[]);
}

/// NotificationResponse.
pub fn notification(buf: &mut BytesMut, pid: u32, channel: &[u8], payload: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::NOTIFICATION, |b| {
        b.put_u32(pid);
        put_string(b, channel)?;
        put_string(b, payload)
    })
}

/// NegotiateProtocolVersion. `version` is the newest the server speaks, as the full 32-bit number.
pub fn negotiate_protocol_version<'a>(
    buf: &mut BytesMut,
    version: u32,
    unknown_options: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), EncodeError> {
    message(buf, tag::NEGOTIATE_PROTOCOL_VERSION, |b| {
        b.put_u32(version);
        let at = b.len();
        b.put_u32(0);
        let mut count = 0u32;
        for option in unknown_options {
            put_string(b, option)?;
            count += 1;
        }
        b[at..at + 4].copy_from_slice(&count.to_be_bytes());
        Ok(())
    })
}

/// FunctionCallResponse; `None` is NULL.
pub fn function_call_response(buf: &mut BytesMut, value: Option<&[u8]>) -> Result<(), EncodeError> {
    message(buf, tag::FUNCTION_CALL, |b| put_value(b, value))
}

/// Any decoded message again. Errors and notices come out with the same fields, normalised in order.
pub fn any(buf: &mut BytesMut, decoded: &Backend<'_>) -> Result<(), EncodeError> {
    match *decoded {
        Backend::Authentication(step) => return authentication(buf, step),
        Backend::ParameterStatus { name, value } => return parameter_status(buf, name, value),
        Backend::BackendKeyData { pid, key } => return backend_key_data(buf, pid, key),
        Backend::RowDescription(columns) => return row_description(buf, columns.iter()),
        Backend::DataRow(row) => return data_row(buf, row.columns),
        Backend::CommandComplete { tag } => return command_complete(buf, tag),
        Backend::ParameterDescription(types) => return parameter_description(buf, types.iter()),
        Backend::CopyIn(CopyResponse { format, columns }) => return copy_in(buf, format, columns.iter()),
        Backend::CopyOut(CopyResponse { format, columns }) => return copy_out(buf, format, columns.iter()),
        Backend::CopyBoth(CopyResponse { format, columns }) => return copy_both(buf, format, columns.iter()),
        Backend::CopyData(data) => return copy_data(buf, data),
        Backend::Notification {
            pid,
            channel,
            payload,
        } => return notification(buf, pid, channel, payload),
        Backend::NegotiateProtocolVersion { version, options } => {
            return negotiate_protocol_version(buf, version, options.iter());
        }
        Backend::FunctionCallResponse(value) => return function_call_response(buf, value),
        Backend::ReadyForQuery(status) => ready_for_query(buf, status),
        Backend::Error(fields) => error(buf, &fields.to_owned()),
        Backend::Notice(fields) => notice(buf, &fields.to_owned()),
        Backend::EmptyQuery => empty_query(buf),
        Backend::ParseComplete => parse_complete(buf),
        Backend::BindComplete => bind_complete(buf),
        Backend::CloseComplete => close_complete(buf),
        Backend::NoData => no_data(buf),
        Backend::PortalSuspended => portal_suspended(buf),
        Backend::CopyDone => copy_done(buf),
    }
    Ok(())
}

fn authentication(buf: &mut BytesMut, step: Authentication<'_>) -> Result<(), EncodeError> {
    match step {
        Authentication::Ok => authentication_ok(buf),
        Authentication::CleartextPassword => authentication_cleartext(buf),
        Authentication::Md5Password { salt } => authentication_md5(buf, salt),
        Authentication::Unsupported { method } => {
            fixed(buf, tag::AUTHENTICATION, &method.to_be_bytes());
        }
        Authentication::Sasl { .. } => {
            let names: Vec<&[u8]> = step.mechanisms().collect();
            return authentication_sasl(buf, &names);
        }
        Authentication::SaslContinue(data) => return authentication_sasl_continue(buf, data),
        Authentication::SaslFinal(data) => return authentication_sasl_final(buf, data),
    }
    Ok(())
}
