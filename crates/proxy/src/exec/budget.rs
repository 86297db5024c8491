//! What one statement may have servers send, and how long it may take: `drover.statement_budget`.
//!
//! Counted is what servers send, row by row as it comes, so that a statement which reads much to answer little is seen,
//! too. The first row too many is not passed on, nor is anything behind it: the servers are sent a cancel, and whatever they
//! answer, the client is told [`Budget::error`]. A budget never makes a shorter answer of a longer one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wire::backend::ErrorFields;

use super::relay::CANCELLED;
use crate::cancel::CancelSlot;

/// The limits, as the setting gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetLimits {
    /// Rows that servers may send.
    pub rows: Option<u64>,
    /// Bytes of these rows.
    pub bytes: Option<u64>,
    /// How long it may take.
    pub time: Option<Duration>,
}

/// What the statement at hand may use and has used.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    rows: Cell<u64>,
    bytes: Cell<u64>,
    /// Too much came.
    exceeded: Cell<bool>,
    /// Nobody has told the servers yet.
    cancel_due: Cell<bool>,
    slot: Arc<CancelSlot>,
}

impl Budget {
    /// Of a session whose servers are cancelled by way of `slot`.
    pub fn new(limits: BudgetLimits, slot: Arc<CancelSlot>) -> Rc<Self> {
        Rc::new(Self {
            limits,
            rows: Cell::new(0),
            bytes: Cell::new(0),
            exceeded: Cell::new(false),
            cancel_due: Cell::new(false),
            slot,
        })
    }

    /// The limits.
    pub fn limits(&self) -> BudgetLimits {
        self.limits
    }

    /// Whether rows are counted at all.
    pub fn counts(&self) -> bool {
        self.limits.rows.is_some() || self.limits.bytes.is_some()
    }

    /// A statement begins.
    pub fn begin(&self) {
        self.rows.set(0);
        self.bytes.set(0);
        self.exceeded.set(false);
        self.cancel_due.set(false);
    }

    /// One more row of so many bytes came. False: it is one too many.
    pub fn admit(&self, bytes: usize) -> bool {
        self.rows.set(self.rows.get().saturating_add(1));
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if over(self.limits.rows, self.rows.get()) || over(self.limits.bytes, self.bytes.get()) {
            self.cancel_due.set(self.cancel_due.get() || !self.exceeded.get());
            self.exceeded.set(true);
        }
        !self.exceeded.get()
    }

    /// Whether too much came.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// Tells the servers at work for the session, once, if too much came.
    pub async fn cancel_if_due(&self) {
        if self.cancel_due.replace(false) {
            self.slot.cancel_servers().await;
        }
    }

    /// What the client is told of rows too many.
    pub fn error(&self) -> Box<ErrorFields> {
        let (limit, used) = match (self.limits.rows, self.limits.bytes) {
            (Some(rows), _) if self.rows.get() > rows => (format!("rows={rows}"), "rows"),
            (_, Some(bytes)) => (format!("bytes={bytes}"), "bytes"),
            _ => (String::new(), "rows"),
        };
        let (rows, bytes) = (self.rows.get(), self.bytes.get());
        let fields = ErrorFields::error("53400", format!("statement budget exceeded: {limit}"))
            .with_detail(format!(
                "The servers had sent {rows} rows, {bytes} bytes, when there were too many {used}. Nothing of it counts as an answer."
            ))
            .with_hint("Ask for less, or raise drover.statement_budget.");
        Box::new(fields)
    }

    /// What the client is told instead of this error when the time was over.
    pub fn late(&self, fields: &ErrorFields) -> Option<ErrorFields> {
        let time = self.limits.time?;
        (fields.code == "57014" && fields.message == CANCELLED).then(|| {
            let text = format!("statement budget exceeded: time={}ms", time.as_millis());
            ErrorFields::error("57014", text).with_hint("Ask for less, or raise drover.statement_budget.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_too_many_and_all_behind_it_are_refused() {
        let limits = BudgetLimits {
            rows: Some(2),
            bytes: Some(100),
            time: None,
        };
        let budget = Budget::new(limits, Arc::default());
        let admitted: Vec<bool> = (0..4).map(|_| budget.admit(10)).collect();
        assert_eq!(admitted, [true, true, false, false]);
        assert_eq!(budget.error().message, "statement budget exceeded: rows=2");
        budget.begin();
        assert!(budget.admit(100) && !budget.is_exceeded());
        assert!(!budget.admit(1) && budget.is_exceeded());
        assert_eq!(budget.error().message, "statement budget exceeded: bytes=100");
    }
}
