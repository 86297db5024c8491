//! The planner: from what PostgreSQL says a statement means, and where tables live, to one [`Plan`].
//!
//! Ring 0: never does IO. [`types`] holds the plan, [`refusal`] the table of everything that is refused.

pub mod refusal;
pub mod types;

pub use refusal::{Refusal, RefusalCode};
pub use types::{
    Combine, InputColumn, KeySource, LimitPlan, LimitValue, Many, NullKeys, Plan, PreludeSource, PreludeValue,
    ResultColumn, RowsPlan, SortKey, SplitInsert, SplitRow, StatementKind, Target,
};
