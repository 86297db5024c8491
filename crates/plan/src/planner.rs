//! From an analyzed statement to a [`Plan`].

use catalog::Snapshot;

use crate::{Analyzed, Plan, Refusal, RefusalCode};

/// Plans a statement that [`triage`](crate::triage()) sent to be analyzed.
///
/// # Errors
/// The statement is not proved to give what one PostgreSQL would give.
pub fn plan(analyzed: &Analyzed<'_>, snapshot: &Snapshot) -> Result<Plan, Refusal> {
    let _ = (analyzed, snapshot);
    Err(Refusal::new(RefusalCode::UnknownNode))
}
