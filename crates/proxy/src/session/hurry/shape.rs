//! The forms of requests and answers that the short way knows, by their headers.

use std::ops::Range;

use wire::TransactionStatus;
use wire::backend;
use wire::frame;
use wire::frontend::tag;

use crate::exec::relay::adopt_columns;

/// Messages of a batch gather up to this size; a longer one is taken message by message.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Length of tag and length field.
const HEADER: usize = 5;

/// What stands at the front of a client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The beginning of one of the others.
    Incomplete,
    /// A Query of this length.
    Query(usize),
    /// One execution up to its Sync.
    Batch(Batch),
    /// Something else.
    Other,
}

/// `[Parse] Bind [Describe] Execute Sync`, of the unnamed portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// Length of the Parse, 0 without one.
    pub parse: usize,
    /// Length of the Bind.
    pub bind: usize,
    /// The portal's description is asked for.
    pub describe: bool,
    /// Of all messages together.
    pub len: usize,
}

/// Reads the headers at the front; `limit` bounds one message, in bytes.
pub(super) fn shape_of(bytes: &[u8], limit: usize) -> Shape {
    match bytes.first() {
        None => Shape::Incomplete,
        Some(&tag::QUERY) => match frame::peek(bytes, limit) {
            Ok(Some(frame)) if frame.len <= bytes.len() && frame.len > HEADER => Shape::Query(frame.len),
            Ok(_) => Shape::Incomplete,
            Err(_) => Shape::Other,
        },
        Some(&tag::PARSE | &tag::BIND) => batch_shape(bytes, limit),
        Some(_) => Shape::Other,
    }
}

fn batch_shape(bytes: &[u8], limit: usize) -> Shape {
    let mut batch = Batch {
        parse: 0,
        bind: 0,
        describe: false,
        len: 0,
    };
    let mut last = 0;
    loop {
        let rest = &bytes[batch.len..];
        let frame = match frame::peek(rest, limit) {
            Ok(Some(frame)) if frame.len <= rest.len() => frame,
            Ok(_) if bytes.len() <= BATCH_BYTES_MAX => return Shape::Incomplete,
            Ok(_) | Err(_) => return Shape::Other,
        };
        let body = &rest[HEADER..frame.len];
        let next = match (last, frame.tag) {
            (0, tag::PARSE) if body.first() == Some(&0) => {
                batch.parse = frame.len;
                tag::PARSE
            }
            (0 | tag::PARSE, tag::BIND) if body.first() == Some(&0) => {
                batch.bind = frame.len;
                tag::BIND
            }
            (tag::BIND, tag::DESCRIBE) if body == b"P\0" => {
                batch.describe = true;
                tag::DESCRIBE
            }
            (tag::BIND | tag::DESCRIBE, tag::EXECUTE) if body.len() == 5 && body[0] == 0 => tag::EXECUTE,
            (tag::EXECUTE, tag::SYNC) if body.is_empty() => tag::SYNC,
            _ => return Shape::Other,
        };
        batch.len += frame.len;
        if next == tag::SYNC {
            return Shape::Batch(batch);
        }
        last = next;
    }
}

impl Batch {
    /// Name of the statement that is bound.
    pub(super) fn statement<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        // Header, and the empty name of the portal.
        let rest = bytes.get(self.parse + HEADER + 1..self.parse + self.bind)?;
        rest.get(..rest.iter().position(|byte| *byte == 0)?)
    }

    /// How many parameter types the Parse declares, if it is of this text with these types. Types that are all left
    /// open count as none. Without a Parse: none.
    pub(super) fn parses(&self, bytes: &[u8], text: &str, types: &[u32]) -> Option<usize> {
        if self.parse == 0 {
            return Some(0);
        }
        let rest = bytes.get(HEADER + 1..self.parse)?.strip_prefix(text.as_bytes())?;
        let (count, oids) = rest.strip_prefix(b"\0")?.split_first_chunk::<2>()?;
        let declared = usize::from(u16::from_be_bytes(*count));
        let (oids, []) = oids.as_chunks::<4>() else {
            return None;
        };
        let same = match types {
            [] => oids.iter().all(|oid| *oid == [0; 4]),
            _ => oids
                .iter()
                .map(|oid| u32::from_be_bytes(*oid))
                .eq(types.iter().copied()),
        };
        (oids.len() == declared && same).then_some(declared)
    }
}

/// A whole answer that concerns nobody but the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quiet {
    /// In the ReadyForQuery at its end.
    pub status: TransactionStatus,
    /// Where the command tag is; empty when there is none.
    pub tag: Range<usize>,
}

/// Looks whether the bytes are one whole, quiet answer. `columns` are shown instead of the server's own.
pub(super) fn quiet_answer(bytes: &mut [u8], columns: Option<&[u8]>) -> Option<Quiet> {
    use backend::tag as answer;
    let mut at = 0;
    let mut tag = 0..0;
    loop {
        let header = bytes.get(at..)?.first_chunk::<HEADER>()?;
        let kind = header[0];
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let end = at + 1 + usize::try_from(length).ok().filter(|length| *length >= 4)?;
        match kind {
            answer::COMMAND_COMPLETE => tag = at + HEADER..end,
            answer::DATA_ROW
            | answer::PARSE_COMPLETE
            | answer::BIND_COMPLETE
            | answer::NO_DATA
            | answer::PORTAL_SUSPENDED
            | answer::EMPTY_QUERY => {}
            answer::ROW_DESCRIPTION => {
                let message = bytes.get_mut(at..end)?;
                if columns.is_some_and(|home| !adopt_columns(message, home)) {
                    return None;
                }
            }
            answer::READY_FOR_QUERY => {
                let status = match bytes.get(at + HEADER..) {
                    Some(b"I") => TransactionStatus::Idle,
                    Some(b"T") => TransactionStatus::InTransaction,
                    Some(b"E") => TransactionStatus::Failed,
                    _ => return None,
                };
                return Some(Quiet { status, tag });
            }
            _ => return None,
        }
        at = end;
    }
}

#[cfg(test)]
mod tests;
