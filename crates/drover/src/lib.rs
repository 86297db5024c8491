//! What the `drover` binary is made of and tests use as well.

pub mod config;
pub mod reload;
