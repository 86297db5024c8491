//! The proxy: client sessions, server connections, and what runs between them.
//!
//! Layers, from the socket inwards: [`listener`] hands clients to [`worker`] threads; [`login`] brings each to
//! AuthenticationOk; a [`worker::SessionHandler`] serves it with [`server`] connections borrowed from [`pools`].
//! [`cancel`], [`buffers`], [`conn`] and [`metrics`] are used by all of them.

pub mod admin_api;
pub mod admin_link;
pub mod auth;
pub mod buffers;
pub mod cancel;
pub mod client;
pub mod cluster;
pub mod config;
pub mod conn;
pub mod console;
mod deadlock;
pub mod digest;
pub mod engine;
pub mod exec;
pub mod failpoint;
mod ids;
pub mod json;
pub mod listener;
pub mod listing;
pub mod login;
pub mod metrics;
pub mod names;
pub mod nodes;
mod notify;
pub mod observer;
pub mod operations;
pub mod ops;
pub mod pools;
pub mod reload;
pub mod rules;
pub mod server;
pub mod session;
pub mod sockets;
mod spare;
pub mod tls;
pub mod trace;
pub mod worker;

mod run;
pub use run::{Running, RunningError, start};

#[cfg(test)]
mod testing;
