//! Reads on replicas: where statements go, and what they see, with real servers whose replay can be stopped.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

#[path = "reads/balance.rs"]
mod balance;
#[path = "reads/conflicts.rs"]
mod conflicts;
#[path = "reads/copies.rs"]
mod copies;
#[path = "reads/found.rs"]
mod found;
#[path = "reads/hanging.rs"]
mod hanging;
#[path = "reads/held.rs"]
mod held;
#[path = "reads/herd.rs"]
mod herd;
#[path = "reads/places.rs"]
mod places;
#[path = "reads/promoted.rs"]
mod promoted;
#[path = "reads/table.rs"]
mod table;
#[path = "reads/timelines.rs"]
mod timelines;
#[path = "reads/tokens.rs"]
mod tokens;
#[path = "reads/torture.rs"]
mod torture;
