//! Ordered merge of row streams that are each ordered already.

use crate::comparator::{KeyError, SortKey, encode_row};
use crate::limit::{Admit, Bounds, OffsetLimit};
use bytes::Bytes;
use std::collections::VecDeque;
use wire::backend::{DataRow, tag};
use wire::frame::Message;

/// What [`Merger::pop`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The next row of the result and the source it came from.
    Row {
        /// Index of the source.
        source: usize,
        /// The whole DataRow message, as pushed.
        row: Bytes,
    },
    /// Undetermined until this source has sent a row or its end.
    Wait {
        /// Index of the source.
        source: usize,
    },
    /// The result is complete; what sources still send is not needed.
    Done,
}

/// A stream that cannot be merged. The statement must fail: rows already given out may be in wrong order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Not a DataRow message, or a malformed one.
    #[error("source {source_index} sent a malformed row")]
    Malformed {
        /// Index of the source.
        source_index: usize,
    },
    /// The value of a sort key cannot be read.
    #[error("source {source_index} sent a row without a usable sort key")]
    Key {
        /// Index of the source.
        source_index: usize,
        /// What is wrong with it.
        #[source]
        cause: KeyError,
    },
    /// A row sorts before the row of the same source that preceded it: the server's order is not the one the
    /// merge assumes, so the merged order would be wrong.
    #[error("source {source_index} sent rows in another order than expected")]
    OutOfOrder {
        /// Index of the source.
        source_index: usize,
    },
}

#[derive(Debug, Default)]
struct Source {
    /// Rows in order; the front one is the head.
    rows: VecDeque<Bytes>,
    /// Byte-comparable key of the head, valid while the source is in the heap; else of the previous head.
    key: Vec<u8>,
    has_key: bool,
    finished: bool,
}

/// Merges `n` ordered streams. Equal rows come in the order of their sources.
///
/// Push rows in any interleaving, pop until [`Next::Wait`]. Only the head row of a source is decoded.
#[derive(Debug)]
pub struct Merger {
    keys: Vec<SortKey>,
    sources: Vec<Source>,
    /// Sources whose head takes part, smallest head at the front (binary heap of indices).
    heap: Vec<u32>,
    /// Sources whose head is not in the heap yet: they wait for a row, or have one that was not looked at.
    starving: Vec<u32>,
    limit: OffsetLimit,
    buffered: usize,
    scratch: Vec<u8>,
}

impl Merger {
    /// A merge of `sources` streams, each ordered by `keys`.
    pub fn new(keys: Vec<SortKey>, sources: usize, bounds: Bounds) -> Self {
        Merger {
            keys,
            sources: (0..sources).map(|_| Source::default()).collect(),
            heap: Vec::with_capacity(sources),
            // Taken from the end: lower sources are asked for first.
            starving: (0..sources as u32).rev().collect(),
            limit: OffsetLimit::new(bounds),
            buffered: 0,
            scratch: Vec::new(),
        }
    }

    /// The next row (a whole DataRow message) of a source. Rows after [`Merger::finish`] are a caller's bug.
    pub fn push(&mut self, source: usize, row: Bytes) {
        let slot = &mut self.sources[source];
        debug_assert!(!slot.finished, "row after the end of source {source}");
        self.buffered += row.len();
        slot.rows.push_back(row);
    }

    /// This source has no more rows.
    pub fn finish(&mut self, source: usize) {
        self.sources[source].finished = true;
    }

    /// Bytes of the rows pushed and not yet popped.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered
    }

    /// Rows of this source pushed and not yet popped.
    pub fn buffered_rows(&self, source: usize) -> usize {
        self.sources[source].rows.len()
    }

    /// The next row of the result, as soon as it is determined.
    pub fn pop(&mut self) -> Result<Next, MergeError> {
        loop {
            if self.limit.is_done() {
                self.discard();
                return Ok(Next::Done);
            }
            if let Some(source) = self.admit_heads()? {
                return Ok(Next::Wait { source });
            }
            let Some(&top) = self.heap.first() else {
                return Ok(Next::Done);
            };
            let source = top as usize;
            let Some(row) = self.sources[source].rows.pop_front() else {
                return Ok(Next::Done); // unreachable: a source in the heap has a head
            };
            self.buffered -= row.len();
            self.remove_top();
            self.starving.push(top);
            if self.limit.admit() == Admit::Take {
                return Ok(Next::Row { source, row });
            }
        }
    }

    /// Moves heads into the heap; the source that has neither a row nor an end, if any.
    fn admit_heads(&mut self) -> Result<Option<usize>, MergeError> {
        while let Some(&index) = self.starving.last() {
            let source = index as usize;
            let slot = &mut self.sources[source];
            let Some(head) = slot.rows.front() else {
                if !slot.finished {
                    return Ok(Some(source));
                }
                self.starving.pop();
                continue;
            };
            read_key(&self.keys, head, source, &mut self.scratch)?;
            if slot.has_key && self.scratch < slot.key {
                return Err(MergeError::OutOfOrder { source_index: source });
            }
            std::mem::swap(&mut slot.key, &mut self.scratch);
            slot.has_key = true;
            self.starving.pop();
            self.heap.push(index);
            self.sift_up(self.heap.len() - 1);
        }
        Ok(None)
    }

    fn discard(&mut self) {
        self.heap.clear();
        self.starving.clear();
        self.buffered = 0;
        self.sources.iter_mut().for_each(|slot| slot.rows.clear());
    }

    fn less(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a], self.heap[b]);
        let order = self.sources[a as usize].key.cmp(&self.sources[b as usize].key);
        order.then(a.cmp(&b)).is_lt()
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.less(at, parent) {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    fn remove_top(&mut self) {
        self.heap.swap_remove(0);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            if left < self.heap.len() && self.less(left, least) {
                least = left;
            }
            if right < self.heap.len() && self.less(right, least) {
                least = right;
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

fn read_key(keys: &[SortKey], row: &[u8], source: usize, out: &mut Vec<u8>) -> Result<(), MergeError> {
    let malformed = MergeError::Malformed { source_index: source };
    let message = match Message::whole(row) {
        Some(message) if message.tag == tag::DATA_ROW => message,
        _ => return Err(malformed),
    };
    let decoded = DataRow::decode(message.body()).map_err(|_| malformed)?;
    encode_row(keys, decoded.columns, out).map_err(|cause| MergeError::Key {
        source_index: source,
        cause,
    })
}

#[cfg(test)]
mod tests;
