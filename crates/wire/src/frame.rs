//! Message boundaries: every message after startup is one tag byte, a big-endian length that counts itself
//! but not the tag, and a body. Finding boundaries never looks into bodies.

use bytes::BytesMut;

/// Bytes of a message before its body: the tag and the length.
pub const HEADER_LEN: usize = 5;

/// The header of a message whose body may not have arrived yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The message type.
    pub tag: u8,
    /// Bytes of the whole message, its tag included.
    pub len: usize,
}

/// A header no message can have; the stream cannot be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length field is below 4, the size of the field itself.
    #[error("invalid message length {len}")]
    TooShort {
        /// The message type.
        tag: u8,
        /// The length field.
        len: u32,
    },
    /// The message would be longer than the receiver accepts.
    #[error("message of {len} bytes is over the limit of {limit} bytes")]
    TooLong {
        /// The message type.
        tag: u8,
        /// Bytes of the whole message.
        len: u64,
        /// The limit given by the caller.
        limit: usize,
    },
}

/// Reads the header at the front of `buf`; `None` while fewer than [`HEADER_LEN`] bytes are there.
/// The body may be incomplete: compare [`Frame::len`] with `buf.len()`. `limit` bounds the whole message.
#[inline]
pub fn peek(buf: &[u8], limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(&[tag, a, b, c, d]) = buf.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([a, b, c, d]);
    let total = u64::from(len) + 1;
    if len < 4 || total > limit as u64 {
        return Err(bad_header(tag, len, limit));
    }
    Ok(Some(Frame {
        tag,
        len: total as usize,
    }))
}

#[cold]
fn bad_header(tag: u8, len: u32, limit: usize) -> FrameError {
    if len < 4 {
        FrameError::TooShort { tag, len }
    } else {
        FrameError::TooLong {
            tag,
            len: u64::from(len) + 1,
            limit,
        }
    }
}

/// One complete message, still as it came from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message type.
    pub tag: u8,
    /// The whole message: tag, length and body.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// What follows the header.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Takes `bytes` as exactly one message; `None` if the length field says otherwise.
    pub fn whole(bytes: &'a [u8]) -> Option<Self> {
        match peek(bytes, bytes.len()) {
            Ok(Some(frame)) if frame.len == bytes.len() => Some(Message {
                tag: frame.tag,
                bytes,
            }),
            _ => None,
        }
    }
}

/// Walks the complete messages at the front of a buffer. Stops (`None`) at an incomplete message;
/// [`Frames::consumed`] then says where it starts and [`Frames::missing`] how much of it is not there yet.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    buf: &'a [u8],
    at: usize,
    limit: usize,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// `limit` bounds each message, header included.
    #[inline]
    pub fn new(buf: &'a [u8], limit: usize) -> Self {
        Frames {
            buf,
            at: 0,
            limit,
            failed: false,
        }
    }

    /// Bytes of the messages handed out so far.
    #[inline]
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// How many more bytes the message at [`Frames::consumed`] needs to be complete; at least the rest of a
    /// header when not even that is there. Zero when the message is complete or its header is invalid.
    pub fn missing(&self) -> usize {
        let rest = &self.buf[self.at..];
        match peek(rest, self.limit) {
            Ok(Some(frame)) => frame.len.saturating_sub(rest.len()),
            Ok(None) => HEADER_LEN - rest.len(),
            Err(_) => 0,
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Message<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = &self.buf[self.at..];
        match peek(rest, self.limit) {
            Ok(Some(Frame { tag, len })) => {
                let bytes = rest.get(..len)?;
                self.at += len;
                Some(Ok(Message { tag, bytes }))
            }
            Ok(None) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Takes one complete message off the front of `buf`, or `None` while it is incomplete.
pub fn split(buf: &mut BytesMut, limit: usize) -> Result<Option<BytesMut>, FrameError> {
    match peek(buf, limit)? {
        Some(frame) if frame.len <= buf.len() => Ok(Some(buf.split_to(frame.len))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_complete_messages_and_stops_at_the_rest() {
        let buf = b"Z\0\0\0\x05IS\0\0\0\x04D\0\0\0\x07a";
        let mut frames = Frames::new(buf, 100);
        let tags: Vec<u8> = frames.by_ref().map(|m| m.unwrap().tag).collect();
        assert_eq!(tags, b"ZS");
        assert_eq!((frames.consumed(), frames.missing()), (11, 2));
        let mut frames = Frames::new(&buf[..13], 100);
        assert_eq!(frames.by_ref().count(), 2);
        assert_eq!(frames.missing(), 3);
    }

    #[test]
    fn refuses_impossible_headers() {
        assert_eq!(
            peek(b"Z\0\0\0\x03", 100),
            Err(FrameError::TooShort { tag: b'Z', len: 3 })
        );
        assert_eq!(
            peek(b"Z\xff\xff\xff\xff", 1 << 30),
            Err(FrameError::TooLong {
                tag: b'Z',
                len: 1 << 32,
                limit: 1 << 30
            })
        );
        assert_eq!(peek(b"Z\0\0\0\x05", 6), Ok(Some(Frame { tag: b'Z', len: 6 })));
        assert!(peek(b"Z\0\0\0\x05", 5).is_err());
        assert_eq!(peek(b"Z\0\0\0", 100), Ok(None));
        let mut frames = Frames::new(b"Z\0\0\0\x03Z\0\0\0\x05I", 100);
        assert!(frames.next().is_some_and(|f| f.is_err()));
        assert!(frames.next().is_none());
    }
}
