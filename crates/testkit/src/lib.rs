//! Drover: testkit.

pub mod client;
