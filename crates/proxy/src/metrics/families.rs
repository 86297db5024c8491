//! Metrics with labels. Every label takes one of a fixed list of values: no client can make series.

use std::fmt::Write as _;

use super::histogram::{self, Histogram};
use super::{Counter, Gauge};
use crate::session::effects::PinReason;

/// A metric that shows several series.
pub(super) trait Family {
    /// Appends the sum of all workers in Prometheus' text format, without HELP and TYPE.
    fn expose(workers: &[&Self], name: &str, out: &mut String);
}

/// What a statement is, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementClass {
    /// SELECT, VALUES, TABLE.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// COPY.
    Copy,
    /// CREATE, ALTER, DROP and the like.
    Ddl,
    /// BEGIN, COMMIT, SAVEPOINT and so on.
    Transaction,
    /// Everything else.
    Other,
}

impl StatementClass {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 8] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Copy,
        Self::Ddl,
        Self::Transaction,
        Self::Other,
    ];

    /// The class of a statement.
    #[must_use]
    pub fn of(kind: sql::StatementKind) -> Self {
        use sql::StatementKind as Kind;
        match kind {
            Kind::Select => Self::Select,
            Kind::Insert => Self::Insert,
            Kind::Update => Self::Update,
            Kind::Delete => Self::Delete,
            Kind::Copy => Self::Copy,
            Kind::Transaction => Self::Transaction,
            Kind::Merge
            | Kind::Set
            | Kind::Show
            | Kind::Discard
            | Kind::SetConstraints
            | Kind::Explain
            | Kind::Prepare
            | Kind::Execute
            | Kind::Deallocate
            | Kind::DeclareCursor
            | Kind::Fetch
            | Kind::CloseCursor
            | Kind::Listen
            | Kind::Notify
            | Kind::Unlisten
            | Kind::Lock
            | Kind::Vacuum
            | Kind::Analyze
            | Kind::Do
            | Kind::Call
            | Kind::OtherUtility(_) => Self::Other,
            _ => Self::Ddl,
        }
    }

    /// The value of the label `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Ddl => "ddl",
            Self::Transaction => "transaction",
            Self::Other => "other",
        }
    }
}

/// Where a statement ran, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// On no shard: answered by Drover, or refused before anything ran.
    Local,
    /// On one shard.
    One,
    /// On several shards.
    Many,
}

impl Route {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Local, Self::One, Self::Many];

    /// The route of a statement that ran on this many shards.
    #[must_use]
    pub fn over(shards: u32) -> Self {
        match shards {
            0 => Self::Local,
            1 => Self::One,
            _ => Self::Many,
        }
    }

    /// The value of the label `route`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// Durations of statements by class and route.
#[derive(Debug, Default)]
pub struct StatementTimes {
    cells: [[Histogram; Route::ALL.len()]; StatementClass::ALL.len()],
}

impl StatementTimes {
    /// Adds one statement. Only the owning worker may call this.
    pub fn observe(&self, class: StatementClass, route: Route, us: u64) {
        self.cells[class as usize][route as usize].observe(us);
    }
}

impl Family for StatementTimes {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        for class in StatementClass::ALL {
            for route in Route::ALL {
                let labels = format!("kind=\"{}\",route=\"{}\"", class.as_str(), route.as_str());
                let cells = workers
                    .iter()
                    .map(|worker| &worker.cells[class as usize][route as usize]);
                histogram::expose(cells, name, &labels, out);
            }
        }
    }
}

impl Family for Histogram {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        histogram::expose(workers.iter().copied(), name, "", out);
    }
}

/// Refused statements by refusal code.
#[derive(Debug)]
pub struct RefusalCounts {
    cells: Box<[Counter]>,
}

impl Default for RefusalCounts {
    fn default() -> Self {
        Self {
            cells: plan::refusal::REFUSALS
                .iter()
                .map(|_| Counter::default())
                .collect(),
        }
    }
}

impl RefusalCounts {
    /// Adds one refusal with the code of this name (`DRVnnnn`). Only the owning worker may call this.
    pub fn count(&self, code: &str) {
        let index = plan::refusal::REFUSALS
            .iter()
            .position(|entry| entry.name == code);
        if let Some(cell) = index.and_then(|index| self.cells.get(index)) {
            cell.increment();
        }
    }
}

impl Family for RefusalCounts {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        for (index, entry) in plan::refusal::REFUSALS.iter().enumerate() {
            let sum = sum(workers.iter().filter_map(|worker| worker.cells.get(index)));
            if sum > 0 {
                let _ = writeln!(out, "{name}{{code=\"{}\"}} {sum}", entry.name);
            }
        }
    }
}

/// Sessions that were pinned to a server connection, by reason.
#[derive(Debug, Default)]
pub struct PinCounts {
    cells: [Counter; PinReason::ALL.len()],
}

impl PinCounts {
    /// One more session was pinned. Only the owning worker may call this.
    pub fn count(&self, reason: PinReason) {
        if let Some(cell) = self.cells.get(reason as usize) {
            cell.increment();
        }
    }
}

impl Family for PinCounts {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        for reason in PinReason::ALL {
            let sum = sum(workers.iter().map(|worker| &worker.cells[reason as usize]));
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {sum}", reason.as_str());
        }
    }
}

/// Sessions that are pinned now, by reason.
#[derive(Debug, Default)]
pub struct PinGauges {
    cells: [Gauge; PinReason::ALL.len()],
}

impl PinGauges {
    /// One more session is pinned for this reason. Only the owning worker may call this.
    pub fn up(&self, reason: PinReason) {
        if let Some(cell) = self.cells.get(reason as usize) {
            cell.up();
        }
    }

    /// One less. Only the owning worker may call this.
    pub fn down(&self, reason: PinReason) {
        if let Some(cell) = self.cells.get(reason as usize) {
            cell.down();
        }
    }
}

impl Family for PinGauges {
    fn expose(workers: &[&Self], name: &str, out: &mut String) {
        for reason in PinReason::ALL {
            let sum: u64 = workers
                .iter()
                .map(|worker| worker.cells[reason as usize].get())
                .sum();
            let _ = writeln!(out, "{name}{{reason=\"{}\"}} {sum}", reason.as_str());
        }
    }
}

/// The sum of one counter of several workers.
pub(super) fn sum<'a>(cells: impl Iterator<Item = &'a Counter>) -> u64 {
    cells.fold(0, |sum, cell| cell.get().wrapping_add(sum))
}
