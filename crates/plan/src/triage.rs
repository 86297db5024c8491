//! First decision about a statement, from its raw parse tree.
//!
//! Names are compared without schemas (the catalog answers "could this name mean something sharded?"), so a statement
//! may be analyzed needlessly but is never called home wrongly. Where a name decides what runs where (DDL, COPY), it is
//! resolved along the search path. Which decision a statement gets is the table in `reach`.

mod alter;
mod create;
mod drops;
mod drover;
mod objects;
mod partitions;
mod placed;
mod places;
mod reach;
mod resolve;
mod servers;
mod utility;

use catalog::Snapshot;
use sql::{Detail, RawStatement};

use crate::triage_types::ExplainPlan;
use crate::{DroverStatement, Refusal, RefusalCode, SessionFacts, Triage};
use resolve::Resolver;
pub(crate) use utility::{writable, writable_at_once};

/// Decides from the raw parse tree what a statement needs.
pub fn triage(raw: &RawStatement, snapshot: &Snapshot, session: &SessionFacts) -> Triage {
    let cx = Resolver { snapshot, session };
    decide(raw, &cx).unwrap_or_else(Triage::Refuse)
}

/// A step of triage: a decision, or the reason against the statement.
type Decision = Result<Triage, Refusal>;

/// A statement on schema `drover` as it was written once and recorded; `None`: it is none.
pub fn recorded(raw: &RawStatement) -> Option<Result<DroverStatement, Refusal>> {
    match &raw.detail {
        Detail::Drover(call) => Some(drover::statement(call)),
        _ => None,
    }
}

fn decide(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    match &raw.detail {
        Detail::Transaction(command) => return Ok(Triage::Transaction(command.clone())),
        Detail::Setting(command) => return Ok(Triage::Setting(command.clone())),
        Detail::Drover(call) => return drover::statement(call).map(Triage::Drover),
        _ => {}
    }
    if names_drover(raw) {
        return Err(Refusal::new(RefusalCode::DroverMixed));
    }
    let decided = reach::by_rule(raw, cx)?;
    match &decided {
        Triage::Ddl(plan) if raw.names.relative_times && !plan.is_home_only() => Err(Refusal::with(
            RefusalCode::AlterAction,
            "a constant like 'now', which each shard would read at a moment of its own; use now()",
        )),
        _ => Ok(decided),
    }
}

/// SELECT, INSERT, UPDATE, DELETE, MERGE.
fn optimizable(raw: &RawStatement, cx: &Resolver<'_>) -> Triage {
    if raw.names.select_into
        && let Err(refusal) = placed::select_into(raw, cx)
    {
        return Triage::Refuse(refusal);
    }
    if !cx.needs_analysis(raw) {
        return Triage::Home;
    }
    if raw.names.select_into {
        return create::table_as(raw, cx).unwrap_or_else(Triage::Refuse);
    }
    Triage::Analyze
}

fn explain(raw: &RawStatement, cx: &Resolver<'_>) -> Decision {
    let Detail::Explain(explain) = &raw.detail else {
        return Err(Refusal::new(RefusalCode::Unreadable));
    };
    let inner = decide(&explain.statement, cx).unwrap_or_else(Triage::Refuse);
    if explain.route {
        let (inner_range, triage) = (explain.inner.clone(), Box::new(inner));
        return Ok(Triage::Drover(DroverStatement::ExplainRoute {
            inner: inner_range,
            triage,
        }));
    }
    match inner {
        Triage::Home => Ok(Triage::Home),
        Triage::Analyze => Ok(Triage::Explain(Box::new(ExplainPlan {
            explain: (**explain).clone(),
        }))),
        // EXPLAIN CREATE TABLE AS, EXPLAIN DECLARE: the decision about the inner statement is the decision.
        Triage::Ddl(plan) if plan.is_home_only() => Ok(Triage::Home),
        Triage::Refuse(refusal) => Err(refusal),
        _ => Err(Refusal::new(RefusalCode::ExplainMany)),
    }
}

/// Whether something of schema `drover` is named outside of the one form in which Drover answers it.
fn names_drover(raw: &RawStatement) -> bool {
    let names = &raw.names;
    let functions = names.functions.iter().filter(|name| name.name != "next_id");
    let mut all = names.relations.iter().chain(functions);
    all.any(|name| name.schema.as_deref() == Some("drover"))
}
