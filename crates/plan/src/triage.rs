//! First decision about a statement.

use catalog::Snapshot;
use sql::{Detail, RawStatement};

use crate::{SessionFacts, Triage};

/// Decides from the raw parse tree what a statement needs.
pub fn triage(raw: &RawStatement, snapshot: &Snapshot, session: &SessionFacts) -> Triage {
    let _ = session;
    match &raw.detail {
        Detail::Transaction(command) => Triage::Transaction(command.clone()),
        Detail::Setting(command) => Triage::Setting(command.clone()),
        _ if !snapshot.has_sharded() => Triage::Home,
        _ => Triage::Analyze,
    }
}
