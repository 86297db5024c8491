//! `drover.statement_budget` in a session: when a statement's counting begins, and how one ends that was too much.
//!
//! | where the rows come from | who counts | how the statement ends |
//! |---|---|---|
//! | one server | the relay | the server is cancelled; its next answer, whatever it is, is told as the error |
//! | several, or one that finishes | the sink of the rows | the sink's error, which cancels the others |
//!
//! A server may have reached the end of a statement before it hears of the cancel. Nothing of that may last, for the client
//! is told of an error: outside of a transaction block what may write runs in one of its own ([`Session::begin_statement`]), and
//! in the extended protocol every Execute is answered before the next message is looked at, so that nothing behind it has run
//! and the pipeline's own undoing does the rest. All this is done only in sessions that have a budget: the short way
//! ([`Session::hurry`]) is not for them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sql::StatementKind as Kind;
use wire::backend::ErrorFields;

use super::block::Wrote;
use super::limits::{STATEMENT_BUDGET, budget_of};
use super::simple::wrote_by_kind;
use super::{Fault, Session};
use crate::config::Timeouts;
use crate::exec::budget::Budget;
use crate::exec::statement::{Action, Statement};

impl Session {
    /// Takes over what the session's settings say now.
    pub(super) fn follow_budget(&mut self) {
        let limits = self.settings.own(STATEMENT_BUDGET).and_then(budget_of);
        if self.budget.as_ref().map(|budget| budget.limits()) == limits {
            return;
        }
        self.budget = limits.map(|limits| Budget::new(limits, Arc::clone(&self.cancel.slot)));
        for server in &mut self.servers {
            server.lease.budget.clone_from(&self.budget);
        }
        let time = limits.and_then(|limits| limits.time).unwrap_or(Duration::ZERO);
        if self.watch.is_none() && !time.is_zero() {
            let (slot, metrics) = (&self.cancel.slot, &self.engine.metrics);
            let watches = &self.engine.watches;
            let watch = watches.watch_always(&Timeouts::default(), &self.stop, slot, metrics);
            watch.runs(self.block.is_open());
            self.watch = Some(watch);
            for server in &mut self.servers {
                server.lease.watch.clone_from(&self.watch);
            }
        }
        if let Some(watch) = &self.watch {
            watch.set_budget(time);
        }
    }

    /// A statement of a Query begins.
    pub(super) fn begin_statement(&mut self, statement: &Statement) {
        self.engine.metrics.statements.increment();
        // Changed by what went before in the same text.
        if self.settings.has_changed() {
            self.follow_budget();
        }
        let Some(budget) = &self.budget else { return };
        budget.begin();
        if budget.counts() && !self.block.is_open() && may_write_and_return(statement) {
            self.open_implicitly();
        }
    }

    /// The statement at hand had servers send too much.
    pub(super) fn check_budget(&self) -> Result<(), Fault> {
        match &self.budget {
            Some(budget) if budget.is_exceeded() => {
                self.engine.metrics.statements_over_budget.increment();
                Err(Fault::Statement(budget.error()))
            }
            _ => Ok(()),
        }
    }

    /// Rows are counted.
    pub(super) fn counts_rows(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.counts())
    }

    /// An Execute was added to the pipeline: where rows are counted its answer is waited for.
    pub(super) async fn settle_budget(&mut self) -> Result<(), Fault> {
        self.flush_batch().await?;
        // What the server's own error has ended is told.
        match self.extended.skipping {
            true => Ok(()),
            false => self.check_budget(),
        }
    }

    /// The words for a statement whose time was over, if that was its budget's.
    pub(super) fn over_time(&self, fields: &ErrorFields) -> Option<ErrorFields> {
        let watch = self.watch.as_ref().filter(|watch| watch.is_budget())?;
        let budget = self.budget.as_ref().filter(|_| watch.has_fired())?;
        budget.late(fields)
    }

    /// The budget that the rows of several servers count in.
    pub(super) fn counting_budget(&self) -> Option<Rc<Budget>> {
        self.budget.clone().filter(|budget| budget.counts())
    }
}

/// Statements of which nothing may last when their rows are too many.
fn may_write_and_return(statement: &Statement) -> bool {
    let returns = matches!(
        statement.kind,
        Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Execute
    );
    let writes = match &statement.action {
        Action::Planned(planned) => planned.plan.writes,
        _ => wrote_by_kind(statement.kind) != Wrote::No,
    };
    returns && writes && statement.reading.place != plan::ReadPlace::Replica
}
