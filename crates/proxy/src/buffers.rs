//! Reusable byte buffers, so that a connection that waits for nothing owns none.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::BytesMut;

/// Size of a fresh buffer, in bytes.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// A buffer that grew beyond this is freed instead of kept.
const KEEP_BYTES_MAX: usize = 256 * 1024;

/// Empty buffers of one worker. Cloning gives another handle to the same ones.
#[derive(Debug, Clone)]
pub struct Buffers {
    free: Rc<RefCell<Vec<BytesMut>>>,
    size: usize,
}

/// Buffers kept for reuse per worker; more are freed.
const KEEP_COUNT_MAX: usize = 256;

impl Buffers {
    /// No buffers yet; fresh ones have [`BUFFER_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_size(BUFFER_BYTES)
    }

    /// No buffers yet; fresh ones have `size` bytes.
    #[must_use]
    pub fn with_size(size: usize) -> Self {
        Self {
            free: Rc::default(),
            size,
        }
    }

    /// Size of a fresh buffer, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes sure `buffer` has some capacity.
    pub fn lend(&self, buffer: &mut BytesMut) {
        if buffer.capacity() == 0 {
            *buffer = self
                .free
                .borrow_mut()
                .pop()
                .unwrap_or_else(|| BytesMut::with_capacity(self.size));
        }
    }

    /// Takes an empty buffer back; does nothing to one that holds bytes.
    pub fn take_back(&self, buffer: &mut BytesMut) {
        if !buffer.is_empty() || buffer.capacity() == 0 {
            return;
        }
        let mut returned = std::mem::take(buffer);
        // Consumed bytes at the front count towards the capacity again.
        if !returned.try_reclaim(self.size) || returned.capacity() > KEEP_BYTES_MAX {
            return;
        }
        let mut free = self.free.borrow_mut();
        if free.len() < KEEP_COUNT_MAX {
            free.push(returned);
        }
    }

    /// Buffers waiting for reuse.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.free.borrow().len()
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;

    #[test]
    fn a_consumed_buffer_is_whole_again() {
        let buffers = Buffers::new();
        let mut buffer = BytesMut::new();
        buffers.lend(&mut buffer);
        buffer.extend_from_slice(&[1; 1000]);
        buffers.take_back(&mut buffer);
        assert_eq!(
            (buffer.len(), buffers.kept()),
            (1000, 0),
            "bytes are never thrown away"
        );
        buffer.advance(1000);
        buffers.take_back(&mut buffer);
        assert_eq!((buffer.capacity(), buffers.kept()), (0, 1));
        buffers.lend(&mut buffer);
        assert!(buffer.capacity() >= BUFFER_BYTES && buffer.is_empty());
        assert_eq!(buffers.kept(), 0);
    }

    #[test]
    fn big_buffers_are_freed() {
        let buffers = Buffers::new();
        let mut buffer = BytesMut::with_capacity(KEEP_BYTES_MAX * 2);
        buffers.take_back(&mut buffer);
        assert_eq!((buffer.capacity(), buffers.kept()), (0, 0));
    }
}
