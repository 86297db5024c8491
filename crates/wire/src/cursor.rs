//! Reading and writing the primitive values of the protocol (big endian integers, zero-terminated strings).

use crate::{DecodeError, EncodeError};
use bytes::{BufMut, BytesMut};

/// Consumes the body of one message from the front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Cursor { rest: body }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A zero-terminated string, without its terminator.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        // Names are mostly empty or a few bytes: not worth the call.
        let short = self.rest.iter().take(8).position(|b| *b == 0);
        let end = short
            .or_else(|| memchr::memchr(0, self.rest))
            .ok_or(DecodeError::Unterminated)?;
        let (head, tail) = self.rest.split_at(end);
        self.rest = &tail[1..];
        Ok(head)
    }

    /// A value with a 32-bit length before it; length -1 is NULL.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| DecodeError::BadLength(i64::from(len)))?;
                self.take(len).map(Some)
            }
        }
    }

    #[inline]
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(DecodeError::Trailing(n)),
        }
    }
}

/// Writes one message: tag, length (patched afterwards), then what `body` writes. On error the buffer is cut
/// back to where it was, so a half-written message can never be sent.
pub(crate) fn message(
    buf: &mut BytesMut,
    tag: u8,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = buf.len();
    buf.put_u8(tag);
    let result = length_prefixed(buf, body);
    if result.is_err() {
        buf.truncate(start);
    }
    result
}

/// Writes a 32-bit length that counts itself and what `body` writes.
pub(crate) fn length_prefixed(
    buf: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = buf.len();
    buf.put_i32(0);
    let result = body(buf).and_then(|()| {
        let len = buf.len() - start;
        let len = i32::try_from(len).map_err(|_| EncodeError::TooLong(len))?;
        buf[start..start + 4].copy_from_slice(&len.to_be_bytes());
        Ok(())
    });
    if result.is_err() {
        buf.truncate(start);
    }
    result
}

/// Writes a message without variable parts: nothing in it can fail.
pub(crate) fn fixed(buf: &mut BytesMut, tag: u8, body: &[u8]) {
    buf.reserve(5 + body.len());
    buf.put_u8(tag);
    // Only called with bodies of a few bytes.
    buf.put_u32(4 + body.len() as u32);
    buf.put_slice(body);
}

pub(crate) fn put_string(buf: &mut BytesMut, text: &[u8]) -> Result<(), EncodeError> {
    if memchr::memchr(0, text).is_some() {
        return Err(EncodeError::ZeroByte);
    }
    buf.put_slice(text);
    buf.put_u8(0);
    Ok(())
}

pub(crate) fn put_count(buf: &mut BytesMut, n: usize) -> Result<(), EncodeError> {
    buf.put_u16(u16::try_from(n).map_err(|_| EncodeError::TooMany(n))?);
    Ok(())
}

pub(crate) fn put_value(buf: &mut BytesMut, value: Option<&[u8]>) -> Result<(), EncodeError> {
    match value {
        None => buf.put_i32(-1),
        Some(bytes) => {
            buf.put_i32(i32::try_from(bytes.len()).map_err(|_| EncodeError::TooLong(bytes.len()))?);
            buf.put_slice(bytes);
        }
    }
    Ok(())
}
