//! The planner: from what PostgreSQL says a statement means, and where tables live, to one [`Plan`].
//!
//! Ring 0: never does IO. Two questions, in this order:
//!
//! 1. [`triage`](triage()): can the raw parse tree alone decide (everything is home, DDL, settings, COPY, …)?
//! 2. [`plan`](plan()): given the analyzed tree of the home shard, which shards, which SQL, how are results combined?
//!
//! What cannot be proved is a [`Refusal`], never a guess.

mod explain;
mod gather;
mod planner;
mod read_place;
pub mod refusal;
mod transfer;
mod triage;
mod triage_types;
mod types;

pub use explain::{between, combinations, explain_route};
pub use gather::{
    Deal, FinishPlace, Gather, GatherInput, GatherPlace, GatherSlot, InputRows, Reduction, Step,
};
pub use planner::plan;
pub use read_place::{PrimaryOnly, PrimaryReason, ReadPlace, read_place};
pub use refusal::{Refusal, RefusalCode};
pub use transfer::{Carried, Drawn, Relocate, Transfer, TransferPlace};
pub use triage::{recorded, triage};
pub use triage_types::{
    CopyKey, CopyPlace, CopyPlan, DdlPlace, DdlPlan, DdlStep, DroverStatement, DroverView, ExplainPlan,
    ListedKey, MetadataEffect, PartitionName, RangeEnd, RenamedTable, SchemeOption, SessionFacts,
    ShardOptions, Triage,
};
pub use types::{
    Analyzed, Bound, Combine, DrawnValue, InputColumn, KeySource, LimitPlan, LimitValue, Many, NullKeys,
    OwnRows, Plan, PreludeSource, PreludeValue, ResultColumn, RowsPlan, Side, SortKey, SplitInsert, SplitRow,
    StatementKind, Target,
};
