//! What becomes of the rows of several shards.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use merge::{Admit, Bounds, Merger, Next, OffsetLimit};
use wire::backend::{Backend, ErrorFields};
use wire::copy::RowWriter;
use wire::frame::{Frames, Message};

use super::arrays::ArrayColumns;
use super::budget::Budget;
use super::scatter::{Flow, Sink};

/// Rows in any order, each as it comes.
pub struct Concat {
    limit: OffsetLimit,
    /// Rows given to the client.
    pub rows: u64,
}

impl Concat {
    /// LIMIT and OFFSET hold for all sources together.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            limit: OffsetLimit::new(bounds),
            rows: 0,
        }
    }
}

impl Sink for Concat {
    fn row(
        &mut self,
        _source: usize,
        message: &[u8],
        client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        match self.limit.admit() {
            Admit::Skip => return Ok(Flow::More),
            Admit::Done => return Ok(Flow::Enough),
            Admit::Take => {
                client.extend_from_slice(message);
                self.rows += 1;
            }
        }
        Ok(if self.limit.is_done() {
            Flow::Enough
        } else {
            Flow::More
        })
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

/// Rows of one source only; the others' are known to be the same.
pub struct Only {
    /// The source that counts, if one does.
    pub source: Option<usize>,
    /// Rows given to the client.
    pub rows: u64,
}

impl Sink for Only {
    fn row(
        &mut self,
        source: usize,
        message: &[u8],
        client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        if Some(source) == self.source {
            client.extend_from_slice(message);
            self.rows += 1;
        }
        Ok(Flow::More)
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

/// Sorted streams, merged.
pub struct Ordered {
    merger: Merger,
    visible: usize,
    /// Rows given to the client.
    pub rows: u64,
    held: Vec<usize>,
}

impl Ordered {
    /// `sources` streams; the client sees the first `visible` columns.
    pub fn new(keys: Vec<merge::SortKey>, sources: usize, bounds: Bounds, visible: usize) -> Self {
        Self {
            merger: Merger::new(keys, sources, bounds),
            visible,
            rows: 0,
            held: vec![0; sources],
        }
    }

    fn emit(&mut self, client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        loop {
            match self.merger.pop().map_err(internal)? {
                Next::Row { source, row } => {
                    self.held[source] = self.held[source].saturating_sub(row.len());
                    self.rows += 1;
                    merge::row::truncate_columns(&row, self.visible, client).map_err(internal)?;
                }
                Next::Wait { .. } => return Ok(Flow::More),
                Next::Done => return Ok(Flow::Enough),
            }
        }
    }
}

impl Sink for Ordered {
    fn row(
        &mut self,
        source: usize,
        message: &[u8],
        client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        self.held[source] += message.len();
        self.merger.push(source, Bytes::copy_from_slice(message));
        self.emit(client)
    }

    fn finished(&mut self, source: usize, client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        self.merger.finish(source);
        self.emit(client)
    }

    fn held_back(&self, source: usize) -> usize {
        self.held[source]
    }
}

/// Partial rows for a finish statement.
pub struct Collect {
    /// The rows as arrays.
    pub arrays: ArrayColumns,
}

impl Sink for Collect {
    fn row(
        &mut self,
        _source: usize,
        message: &[u8],
        _client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        let Some(Ok(Backend::DataRow(row))) = Message::whole(message).map(Backend::decode) else {
            return Err(Box::new(ErrorFields::error(
                "XX000",
                "a shard sent an unreadable row",
            )));
        };
        self.arrays
            .push((0..row.len()).map(|index| row.column(index).flatten()))
            .map_err(|error| {
                let fields = ErrorFields::error("53400", error.to_string())
                    .with_hint("Raise gather_max_bytes, or make the statement return fewer groups.");
                Box::new(fields)
            })?;
        Ok(Flow::More)
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

/// Another sink whose output is kept here instead of being sent, and therefore bounded.
pub struct Limited<'a, S> {
    /// The sink.
    pub inner: &'a mut S,
    /// Output it may have in all, in bytes.
    pub limit_bytes: usize,
    /// The most that was waiting to be sent at any time, in bytes.
    pub pending_bytes_most: &'a std::cell::Cell<usize>,
    /// What the statement may have servers send, where that is limited.
    pub budget: Option<&'a Budget>,
}

impl<S: Sink> Sink for Limited<'_, S> {
    fn row(
        &mut self,
        source: usize,
        message: &[u8],
        client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        if let Some(budget) = self.budget
            && !budget.admit(message.len())
        {
            return Err(budget.error());
        }
        let flow = self.inner.row(source, message, client)?;
        let most = self.pending_bytes_most;
        most.set(most.get().max(client.len()));
        if client.len() > self.limit_bytes {
            let text = format!(
                "the rows of a portal with a row limit exceed {} bytes",
                self.limit_bytes
            );
            let fields = ErrorFields::error("53400", text)
                .with_hint("Raise gather_max_bytes, or fetch all rows at once.");
            return Err(Box::new(fields));
        }
        Ok(flow)
    }

    fn finished(&mut self, source: usize, client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        self.inner.finished(source, client)
    }

    fn held_back(&self, source: usize) -> usize {
        self.inner.held_back(source)
    }
}

/// Where the rows go that a sink has for the client.
#[derive(Clone, Copy)]
pub enum Destination<'a> {
    /// To the client.
    Client,
    /// Rows are written as COPY does.
    Copy(&'a RefCell<RowWriter>),
    /// Rows that came are counted, with their bytes, for each source.
    Counted {
        /// Entries are added as they are needed.
        counts: &'a RefCell<Vec<(u64, u64)>>,
        /// Otherwise the rows are for nobody.
        kept: bool,
    },
}

/// Another sink whose rows go elsewhere.
pub struct Redirected<'a, S> {
    inner: &'a mut S,
    to: Destination<'a>,
}

impl<'a, S> Redirected<'a, S> {
    /// Over a sink.
    pub fn new(inner: &'a mut S, to: Destination<'a>) -> Self {
        Self { inner, to }
    }

    /// What was appended from `start` on was meant for the client.
    fn redirect(&self, start: usize, client: &mut BytesMut) {
        match self.to {
            Destination::Copy(writer) if client.len() > start => write_anew(writer, start, client),
            Destination::Counted { kept: false, .. } => client.truncate(start),
            _ => {}
        }
    }
}

/// Writes the rows anew that were appended from `start` on.
fn write_anew(writer: &RefCell<RowWriter>, start: usize, client: &mut BytesMut) {
    let rows = client.split_off(start);
    for message in Frames::new(&rows, rows.len()) {
        if let Ok(Ok(Backend::DataRow(row))) = message.map(Backend::decode) {
            let values = (0..row.len()).map(|index| row.column(index).flatten());
            writer.borrow_mut().row(values, client);
        }
    }
}

impl<S: Sink> Sink for Redirected<'_, S> {
    fn row(
        &mut self,
        source: usize,
        message: &[u8],
        client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        if let Destination::Counted { counts, .. } = self.to {
            let mut counts = counts.borrow_mut();
            if counts.len() <= source {
                counts.resize(source + 1, (0, 0));
            }
            counts[source].0 += 1;
            counts[source].1 += message.len() as u64;
        }
        let start = client.len();
        let flow = self.inner.row(source, message, client)?;
        self.redirect(start, client);
        Ok(flow)
    }

    fn finished(&mut self, source: usize, client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        let start = client.len();
        let flow = self.inner.finished(source, client)?;
        self.redirect(start, client);
        Ok(flow)
    }

    fn held_back(&self, source: usize) -> usize {
        self.inner.held_back(source)
    }
}

/// Whole rows kept per source, to be put into another order.
pub struct Keep {
    /// Rows of each source, in its order.
    pub rows: Vec<Vec<Bytes>>,
    bytes: usize,
    limit_bytes: usize,
}

impl Keep {
    /// Keeps at most `limit_bytes`.
    pub fn new(sources: usize, limit_bytes: usize) -> Self {
        Self {
            rows: vec![Vec::new(); sources],
            bytes: 0,
            limit_bytes,
        }
    }
}

impl Sink for Keep {
    fn row(
        &mut self,
        source: usize,
        message: &[u8],
        _client: &mut BytesMut,
    ) -> Result<Flow, Box<ErrorFields>> {
        self.bytes += message.len();
        if self.bytes > self.limit_bytes {
            let text = format!("the returned rows exceed {} bytes", self.limit_bytes);
            return Err(Box::new(ErrorFields::error("53400", text)));
        }
        self.rows[source].push(Bytes::copy_from_slice(message));
        Ok(Flow::More)
    }

    fn finished(&mut self, _source: usize, _client: &mut BytesMut) -> Result<Flow, Box<ErrorFields>> {
        Ok(Flow::More)
    }
}

fn internal(error: impl std::fmt::Display) -> Box<ErrorFields> {
    Box::new(ErrorFields::error(
        "XX000",
        format!("the rows of several shards cannot be merged: {error}"),
    ))
}
