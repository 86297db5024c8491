//! What several shards answered becomes one answer: ordered merge of row streams ([`Merger`]), limits over
//! concatenated streams ([`OffsetLimit`]), command tags added up ([`tags`]), hidden columns removed ([`row`]).
//!
//! Rows are whole DataRow messages and stay as they came; only the values named by a [`SortKey`] are read,
//! in *binary* format. Nothing here does IO; memory is bounded by the caller, who decides when to push more
//! and can see what is buffered.

mod comparator;
mod limit;
mod merger;
pub mod row;
pub mod tags;

pub use comparator::{Comparator, KeyError, SortKey};
pub use limit::{Admit, Bounds, OffsetLimit};
pub use merger::{MergeError, Merger, Next};
