//! PostgreSQL's v3 protocol as plain data: framing, messages of both directions, startup packets, COPY
//! streams and SCRAM machines. Nothing here does IO; every function works on bytes it is given.
//!
//! Two levels, so that the data path pays only for what it reads:
//!
//! 1. [`frame`] finds message boundaries without looking inside ([`frame::Frames`], a few nanoseconds each).
//! 2. [`frontend`] and [`backend`] decode one message into a borrowed view and encode messages.
//!
//! Everything read from outside is bounded: lengths, counts, iterations, sizes of names. A decoder never
//! panics, and a decoded view never fails later: validation happens once, in `decode`.

pub mod backend;
pub mod copy;
pub mod frame;
pub mod frontend;
#[doc(hidden)]
pub mod fuzzing;
pub mod md5;
pub mod scram;
pub mod startup;

mod constant_time;
mod cursor;
mod error;
mod tag;
mod values;

pub use error::{DecodeError, EncodeError};
pub use tag::CommandTag;
pub use values::{FormatCode, Formats, Oids, Target, TransactionStatus, Values};
