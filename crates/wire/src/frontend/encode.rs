//! Encoders of client messages: Drover is a client of its servers. Each appends one message to `buf`; on
//! error `buf` is unchanged.

use super::{Bind, Frontend, FunctionCall, Parse, tag};
use crate::EncodeError;
use crate::cursor::{fixed, message, put_count, put_string, put_value};
use crate::values::{FormatCode, Target};
use bytes::{BufMut, BytesMut};

/// Query.
pub fn query(buf: &mut BytesMut, sql: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::QUERY, |b| put_string(b, sql))
}

/// Parse. `types` may be shorter than the parameter list; 0 = let the server infer.
pub fn parse(
    buf: &mut BytesMut,
    name: &[u8],
    sql: &[u8],
    types: impl IntoIterator<Item = u32>,
) -> Result<(), EncodeError> {
    message(buf, tag::PARSE, |b| {
        put_string(b, name)?;
        put_string(b, sql)?;
        put_list(b, types, |b, oid| {
            b.put_u32(oid);
            Ok(())
        })
    })
}

/// Bind. `formats` and `result_formats`: none = all text, one = for all, else one each.
pub fn bind<'a>(
    buf: &mut BytesMut,
    portal: &[u8],
    statement: &[u8],
    formats: impl IntoIterator<Item = FormatCode>,
    params: impl IntoIterator<Item = Option<&'a [u8]>>,
    result_formats: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    message(buf, tag::BIND, |b| {
        put_string(b, portal)?;
        put_string(b, statement)?;
        put_formats(b, formats)?;
        put_list(b, params, put_value)?;
        put_formats(b, result_formats)
    })
}

/// Describe.
pub fn describe(buf: &mut BytesMut, target: Target, name: &[u8]) -> Result<(), EncodeError> {
    target_message(buf, tag::DESCRIBE, target, name)
}

/// Close.
pub fn close(buf: &mut BytesMut, target: Target, name: &[u8]) -> Result<(), EncodeError> {
    target_message(buf, tag::CLOSE, target, name)
}

fn target_message(buf: &mut BytesMut, tag: u8, target: Target, name: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag, |b| {
        b.put_u8(target.byte());
        put_string(b, name)
    })
}

/// Execute. `max_rows` 0 = no limit.
pub fn execute(buf: &mut BytesMut, portal: &[u8], max_rows: i32) -> Result<(), EncodeError> {
    message(buf, tag::EXECUTE, |b| {
        put_string(b, portal)?;
        b.put_i32(max_rows);
        Ok(())
    })
}

/// Flush.
pub fn flush(buf: &mut BytesMut) {
    fixed(buf, tag::FLUSH, &[]);
}

/// Sync.
pub fn sync(buf: &mut BytesMut) {
    fixed(buf, tag::SYNC, &[]);
}

/// Terminate.
pub fn terminate(buf: &mut BytesMut) {
    fixed(buf, tag::TERMINATE, &[]);
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

/// CopyFail.
pub fn copy_fail(buf: &mut BytesMut, reason: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::COPY_FAIL, |b| put_string(b, reason))
}

/// PasswordMessage: the cleartext password, or its MD5 form.
pub fn password(buf: &mut BytesMut, password: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::PASSWORD, |b| put_string(b, password))
}

/// SASLInitialResponse.
pub fn sasl_initial(
    buf: &mut BytesMut,
    mechanism: &[u8],
    response: Option<&[u8]>,
) -> Result<(), EncodeError> {
    message(buf, tag::PASSWORD, |b| {
        put_string(b, mechanism)?;
        put_value(b, response)
    })
}

/// SASLResponse.
pub fn sasl_response(buf: &mut BytesMut, response: &[u8]) -> Result<(), EncodeError> {
    message(buf, tag::PASSWORD, |b| {
        b.put_slice(response);
        Ok(())
    })
}

/// FunctionCall.
pub fn function_call(buf: &mut BytesMut, call: &FunctionCall<'_>) -> Result<(), EncodeError> {
    message(buf, tag::FUNCTION_CALL, |b| {
        b.put_u32(call.function);
        put_formats(b, call.formats.iter())?;
        put_list(b, call.arguments, put_value)?;
        b.put_i16(call.result_format.code());
        Ok(())
    })
}

/// Any decoded message again; the bytes are the ones it was decoded from.
pub fn any(buf: &mut BytesMut, decoded: &Frontend<'_>) -> Result<(), EncodeError> {
    match *decoded {
        Frontend::Query { sql } => query(buf, sql),
        Frontend::Parse(Parse { name, sql, types }) => parse(buf, name, sql, types.iter()),
        Frontend::Bind(Bind {
            portal,
            statement,
            formats,
            params,
            result_formats,
        }) => bind(
            buf,
            portal,
            statement,
            formats.iter(),
            params,
            result_formats.iter(),
        ),
        Frontend::Describe { target, name } => describe(buf, target, name),
        Frontend::Execute { portal, max_rows } => execute(buf, portal, max_rows),
        Frontend::Close { target, name } => close(buf, target, name),
        Frontend::CopyData(data) => copy_data(buf, data),
        Frontend::CopyFail { reason } => copy_fail(buf, reason),
        Frontend::Password(body) => sasl_response(buf, body),
        Frontend::FunctionCall(ref call) => function_call(buf, call),
        Frontend::Flush => {
            flush(buf);
            Ok(())
        }
        Frontend::Sync => {
            sync(buf);
            Ok(())
        }
        Frontend::CopyDone => {
            copy_done(buf);
            Ok(())
        }
        Frontend::Terminate => {
            terminate(buf);
            Ok(())
        }
    }
}

pub(crate) fn put_formats(
    buf: &mut BytesMut,
    formats: impl IntoIterator<Item = FormatCode>,
) -> Result<(), EncodeError> {
    put_list(buf, formats, |b, format| {
        b.put_i16(format.code());
        Ok(())
    })
}

/// A 16-bit count, then the items; the count is patched after they are written.
pub(crate) fn put_list<T>(
    buf: &mut BytesMut,
    items: impl IntoIterator<Item = T>,
    mut put: impl FnMut(&mut BytesMut, T) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let at = buf.len();
    put_count(buf, 0)?;
    let mut count = 0usize;
    for item in items {
        put(buf, item)?;
        count += 1;
    }
    let short = u16::try_from(count).map_err(|_| EncodeError::TooMany(count))?;
    buf[at..at + 2].copy_from_slice(&short.to_be_bytes());
    Ok(())
}
