//! Moves as they are stored (docs/decisions/0028).

use movement::workflow::Workflow;
use serde::{Deserialize, Serialize};

use super::Record;

/// All stored forms of a move.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum StoredMovement {
    /// The first form.
    #[serde(rename = "1")]
    V1(Workflow),
}

impl Record for Workflow {
    type Stored = StoredMovement;
    const WHAT: &'static str = "a move";

    fn into_stored(self) -> StoredMovement {
        StoredMovement::V1(self)
    }

    fn from_stored(stored: StoredMovement) -> Workflow {
        match stored {
            StoredMovement::V1(workflow) => workflow,
        }
    }
}
