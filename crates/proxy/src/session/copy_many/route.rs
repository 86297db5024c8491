//! The stream of a COPY FROM, cut into rows and dealt out to lanes, one per shard. No IO.

use bytes::{BufMut, BytesMut};
use catalog::{ShardId, ShardMap};
use wire::copy::{CopyError, CopyFormat, CopyOptions, Splitter, binary};
use wire::frontend::tag::COPY_DATA;

use super::key::{KeyProblem, KeyReader, Place};

/// A CopyData message is closed once it has this many bytes: large enough to cost little, small enough to leave soon.
const MESSAGE_BYTES: usize = 48 * 1024;

/// Tag and length of a message.
const HEADER_BYTES: usize = 5;

/// Why a stream cannot be dealt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::session) enum RouteError {
    /// It cannot be cut into rows.
    #[error(transparent)]
    Stream(#[from] CopyError),
    /// A row cannot be placed.
    #[error(transparent)]
    Key(#[from] KeyProblem),
}

/// What stopped the dealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Dealt {
    /// Every row that is complete has been dealt out.
    All,
    /// Values to append to the rows have run out: [`Router::append_next`] brings more.
    WantsValues,
}

/// Deals rows out.
#[derive(Debug)]
pub(in crate::session) struct Router {
    splitter: Splitter,
    format: CopyFormat,
    dealer: Dealer,
    /// Values to append to the rows: those at hand, the next one last.
    values: Option<Vec<Vec<u8>>>,
    /// What is appended to a header line.
    header_end: Vec<u8>,
    /// A row that waits for its values.
    waiting: Option<Vec<u8>>,
    trailed: bool,
}

/// The way from a row to its lane.
#[derive(Debug)]
struct Dealer {
    key: Option<(KeyReader, ShardMap)>,
    lanes: Vec<Lane>,
    faulty: bool,
}

/// Bytes on their way to one shard: whole CopyData messages, the last one still open.
#[derive(Debug, Default)]
struct Lane {
    bytes: BytesMut,
    open: Option<usize>,
    rows: u64,
}

impl Router {
    /// One lane per shard of the map, in its order.
    pub(in crate::session) fn by_key(key: KeyReader, map: ShardMap) -> Self {
        let lanes = map.shards().len();
        let options = key.options.clone();
        Self::new(&options, Dealer::new(lanes, Some((key, map))))
    }

    /// A single lane.
    pub(in crate::session) fn single(options: &CopyOptions) -> Self {
        Self::new(options, Dealer::new(1, None))
    }

    fn new(options: &CopyOptions, mut dealer: Dealer) -> Self {
        if options.format == CopyFormat::Binary {
            dealer.on_every_lane(&[binary::HEADER]);
        }
        Router {
            splitter: Splitter::new(options),
            format: options.format.clone(),
            dealer,
            values: None,
            header_end: Vec::new(),
            waiting: None,
            trailed: false,
        }
    }

    /// From now on every row gets a value (with the delimiter before it) appended; a header line gets `header_end`.
    pub(in crate::session) fn append_to_rows(&mut self, header_end: Vec<u8>) {
        self.values = Some(Vec::new());
        self.header_end = header_end;
    }

    /// The values for the next rows, in order.
    pub(in crate::session) fn append_next(&mut self, mut values: Vec<Vec<u8>>) {
        values.reverse();
        self.values = Some(values);
    }

    /// The body of the next CopyData.
    pub(in crate::session) fn feed(&mut self, data: &[u8]) {
        self.splitter.feed(data);
    }

    /// The stream is complete.
    pub(in crate::session) fn finish(&mut self) {
        self.splitter.finish();
    }

    /// Deals out what is there. After [`Self::finish`] and [`Dealt::All`] the lanes hold everything but CopyDone.
    pub(in crate::session) fn deal(&mut self, finished: bool) -> Result<Dealt, RouteError> {
        let end: &[u8] = if self.format == CopyFormat::Binary {
            &[]
        } else {
            b"\n"
        };
        if let (Some(row), Some(values)) = (&self.waiting, &mut self.values) {
            let Some(value) = values.pop() else {
                return Ok(Dealt::WantsValues);
            };
            self.dealer.row(row, &[row, &value, end])?;
            self.waiting = None;
        }
        while let Some(row) = self.splitter.next_row()? {
            if row.header {
                self.dealer.on_every_lane(&[row.bytes, &self.header_end, end]);
                continue;
            }
            match &mut self.values {
                None => self.dealer.row(row.bytes, &[row.bytes, end])?,
                Some(values) => match values.pop() {
                    Some(value) => self.dealer.row(row.bytes, &[row.bytes, &value, end])?,
                    None => {
                        self.waiting = Some(row.bytes.to_vec());
                        return Ok(Dealt::WantsValues);
                    }
                },
            }
        }
        if finished && self.format == CopyFormat::Binary && !self.trailed {
            self.trailed = true;
            self.dealer.on_every_lane(&[binary::TRAILER]);
        }
        Ok(Dealt::All)
    }

    /// Moves what a lane holds to `out`.
    pub(in crate::session) fn take(&mut self, lane: usize, out: &mut BytesMut) {
        let Some(lane) = self.dealer.lanes.get_mut(lane) else {
            return;
        };
        lane.close();
        if out.is_empty() {
            std::mem::swap(out, &mut lane.bytes);
        } else {
            out.extend_from_slice(&lane.bytes);
        }
        lane.bytes.clear();
    }

    /// Moves what the only lane holds to every one of `outs`.
    pub(in crate::session) fn take_for_all<'a>(&mut self, outs: impl Iterator<Item = &'a mut BytesMut>) {
        let Some(lane) = self.dealer.lanes.first_mut() else {
            return;
        };
        lane.close();
        for out in outs {
            out.extend_from_slice(&lane.bytes);
        }
        lane.bytes.clear();
    }

    /// Bytes in all lanes.
    pub(in crate::session) fn held_bytes(&self) -> usize {
        self.dealer.lanes.iter().map(|lane| lane.bytes.len()).sum()
    }

    /// Rows dealt to a lane so far.
    pub(in crate::session) fn rows(&self, lane: usize) -> u64 {
        self.dealer.lanes.get(lane).map_or(0, |lane| lane.rows)
    }

    /// A row was sent somewhere only because no server can take it.
    pub(in crate::session) fn sent_faulty(&self) -> bool {
        self.dealer.faulty
    }
}

impl Dealer {
    fn new(lanes: usize, key: Option<(KeyReader, ShardMap)>) -> Self {
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Dealer {
            key,
            lanes,
            faulty: false,
        }
    }

    fn row(&mut self, row: &[u8], pieces: &[&[u8]]) -> Result<(), KeyProblem> {
        let lane = match &self.key {
            None => 0,
            Some((key, map)) => match key.place(row, |key| lane_of(map, map.shard_of_ref(key)))? {
                Place::At(lane) => lane,
                Place::Faulty => {
                    self.faulty = true;
                    0
                }
            },
        };
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.rows += 1;
            lane.append(pieces);
        }
        Ok(())
    }

    fn on_every_lane(&mut self, pieces: &[&[u8]]) {
        for lane in &mut self.lanes {
            lane.append(pieces);
        }
    }
}

fn lane_of(map: &ShardMap, shard: ShardId) -> usize {
    // Every owner is among the shards.
    map.shards().binary_search(&shard).unwrap_or(usize::MAX)
}

impl Lane {
    fn append(&mut self, pieces: &[&[u8]]) {
        let start = match self.open {
            Some(start) => start,
            None => {
                let start = self.bytes.len();
                self.bytes.put_u8(COPY_DATA);
                self.bytes.put_u32(0);
                self.open = Some(start);
                start
            }
        };
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        if self.bytes.len() - start >= MESSAGE_BYTES + HEADER_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(start) = self.open.take() {
            // A message holds at most one row beyond its usual size, and rows are bounded far below 2 GB.
            let length = (self.bytes.len() - start - 1) as u32;
            self.bytes[start + 1..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
