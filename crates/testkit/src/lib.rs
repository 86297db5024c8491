//! Drover: testkit.

pub mod casefile;
pub mod client;
pub mod oracle;
pub mod random;
