//! What can go wrong with one server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

use super::START_TIMEOUT;
use crate::ToolError;
use crate::leftovers::LeftoverError;

/// What went wrong with one server.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// A file or directory could not be handled.
    #[error("{name}: cannot {action} {}", path.display())]
    Io {
        /// The server.
        name: String,
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The path cannot be written into a configuration file or a socket address.
    #[error("the path {} cannot be used: {reason}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `initdb`, `pg_basebackup` or `pg_resetwal` failed.
    #[error("{name}: a PostgreSQL program failed")]
    Tool {
        /// The server.
        name: String,
        /// Which program, and what it said.
        source: ToolError,
    },
    /// The server ended instead of becoming ready.
    #[error("{name}: the server ended while starting ({status}); the end of its log:\n{log}")]
    Ended {
        /// The server.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not become ready.
    #[error("{name}: the server was not ready after {} s; the end of its log:\n{log}", START_TIMEOUT.as_secs())]
    NotReady {
        /// The server.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// Somebody else's processes use the data and stay.
    #[error("{name}: the data is in use")]
    Leftovers {
        /// The server.
        name: String,
        /// By whom.
        source: LeftoverError,
    },
    /// Every port tried was taken.
    #[error("{name}: no free loopback port found")]
    NoPort {
        /// The server.
        name: String,
    },
}
