//! What the servers of a statement came to, and the command tag that the client gets for it.

use plan::{RowsPlan, StatementKind};

use super::Run;
use crate::session::{Fault, Session};

/// What ran on the shards came to.
pub(super) struct Gathered {
    /// Command tags.
    pub(super) tags: Vec<Vec<u8>>,
    /// Of each source: it has come to its end, and has no further rows.
    pub(super) complete: Vec<bool>,
}

impl Session {
    pub(super) fn complete_sum(&mut self, gathered: &Gathered) -> Result<(), Fault> {
        self.complete(&summed(&gathered.tags)?)
    }

    pub(super) fn complete_equal(&mut self, gathered: &Gathered) -> Result<(), Fault> {
        let tag = self.equal_tag(gathered)?;
        self.complete(&tag)
    }

    /// Every shard did the same; if not, copies have drifted and nothing may be committed.
    pub(super) fn equal_tag(&mut self, gathered: &Gathered) -> Result<String, Fault> {
        match gathered.tags.as_slice() {
            [first, rest @ ..] if rest.iter().all(|tag| tag == first) => {
                Ok(String::from_utf8_lossy(first).into_owned())
            }
            _ => Err(self.copies_differ()),
        }
    }

    pub(super) fn complete_rows(
        &mut self,
        run: &Run<'_>,
        rows: &RowsPlan,
        gathered: &Gathered,
        count: u64,
    ) -> Result<(), Fault> {
        if run.copy.is_some() {
            return Ok(());
        }
        if rows.tag_rows || run.planned.plan.kind != StatementKind::Select {
            return self.complete_sum(gathered);
        }
        self.complete(&format!("SELECT {count}"))
    }
}

/// The tag of what several servers did.
pub(super) fn summed(tags: &[Vec<u8>]) -> Result<String, Fault> {
    merge::tags::sum(tags.iter().map(Vec::as_slice)).map_err(|error| Fault::error("XX000", error.to_string()))
}
