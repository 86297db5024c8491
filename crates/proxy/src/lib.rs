//! The proxy: client sessions, server connections, and what runs between them.
//!
//! Layers, from the socket inwards: [`listener`] hands clients to [`worker`] threads; [`login`] brings each to
//! AuthenticationOk; a [`worker::SessionHandler`] serves it with [`server`] connections borrowed from [`pools`].
//! [`cancel`], [`buffers`], [`conn`] and [`metrics`] are used by all of them.

pub mod buffers;
pub mod cancel;
pub mod client;
pub mod config;
pub mod conn;
pub mod listener;
pub mod login;
pub mod metrics;
pub mod pools;
pub mod server;
pub mod worker;

#[cfg(test)]
mod testing;
