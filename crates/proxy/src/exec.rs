//! Carrying out what a plan says: the only place where plans meet sockets.

pub mod analyze;
pub mod arrays;
pub mod budget;
pub mod cache;
pub mod link;
pub mod recall;
pub mod relay;
pub mod scatter;
pub mod sinks;
pub mod statement;
