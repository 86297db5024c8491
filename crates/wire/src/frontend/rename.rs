//! Re-emit a message under another statement or portal name. The rest of the body is copied as it is, so
//! parameters are neither decoded nor re-encoded.

use super::tag;
use crate::cursor::{Cursor, message, put_string};
use crate::frame::Message;
use crate::values::Target;
use crate::{DecodeError, EncodeError};
use bytes::{BufMut, BytesMut};

/// Parse with another statement name.
pub fn parse(buf: &mut BytesMut, original: Message<'_>, statement: &[u8]) -> Result<(), EncodeError> {
    expect(original, tag::PARSE)?;
    let mut cursor = Cursor::new(original.body());
    cursor.string()?;
    emit(buf, tag::PARSE, None, &[statement], cursor.rest())
}

/// Bind with another statement name, and another portal name unless `portal` is `None`.
pub fn bind(
    buf: &mut BytesMut,
    original: Message<'_>,
    portal: Option<&[u8]>,
    statement: &[u8],
) -> Result<(), EncodeError> {
    expect(original, tag::BIND)?;
    let mut cursor = Cursor::new(original.body());
    let old_portal = cursor.string()?;
    cursor.string()?;
    emit(
        buf,
        tag::BIND,
        None,
        &[portal.unwrap_or(old_portal), statement],
        cursor.rest(),
    )
}

/// Describe of the same kind of object under another name.
pub fn describe(buf: &mut BytesMut, original: Message<'_>, name: &[u8]) -> Result<(), EncodeError> {
    targeted(buf, original, tag::DESCRIBE, name)
}

/// Close of the same kind of object under another name.
pub fn close(buf: &mut BytesMut, original: Message<'_>, name: &[u8]) -> Result<(), EncodeError> {
    targeted(buf, original, tag::CLOSE, name)
}

/// Execute with another portal name.
pub fn execute(buf: &mut BytesMut, original: Message<'_>, portal: &[u8]) -> Result<(), EncodeError> {
    expect(original, tag::EXECUTE)?;
    let mut cursor = Cursor::new(original.body());
    cursor.string()?;
    emit(buf, tag::EXECUTE, None, &[portal], cursor.rest())
}

fn targeted(buf: &mut BytesMut, original: Message<'_>, tag: u8, name: &[u8]) -> Result<(), EncodeError> {
    expect(original, tag)?;
    let mut cursor = Cursor::new(original.body());
    let target = Target::read(&mut cursor)?;
    cursor.string()?;
    emit(buf, tag, Some(target), &[name], cursor.rest())
}

fn expect(original: Message<'_>, tag: u8) -> Result<(), EncodeError> {
    if original.tag == tag {
        Ok(())
    } else {
        Err(DecodeError::UnknownTag(original.tag).into())
    }
}

fn emit(
    buf: &mut BytesMut,
    tag: u8,
    target: Option<Target>,
    names: &[&[u8]],
    rest: &[u8],
) -> Result<(), EncodeError> {
    let names_len: usize = names.iter().map(|n| n.len() + 1).sum();
    buf.reserve(6 + names_len + rest.len());
    message(buf, tag, |b| {
        if let Some(target) = target {
            b.put_u8(target.byte());
        }
        for name in names {
            put_string(b, name)?;
        }
        b.put_slice(rest);
        Ok(())
    })
}
