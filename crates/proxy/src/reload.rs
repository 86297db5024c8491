//! Taking over a changed configuration while clients are connected.
//!
//! Who reads configuration files is no business of the workers: the program that started the proxy registers a
//! [`Reloader`], and everything that may ask for a reload (a signal, the console, HTTP) calls [`Shared::reload`].

use crate::worker::Shared;

/// Reads the configuration again and applies what can change at run time.
pub trait Reloader: Send + Sync {
    /// Everything is read and checked first; if anything is wrong, nothing changes. Reads files: not for a worker's
    /// thread.
    fn reload(&self) -> Result<ReloadReport, ReloadError>;
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Options (`[section] option`) that changed and are in force now.
    pub applied: Vec<String>,
    /// Options that changed in the file and will be in force after a restart only.
    pub needs_restart: Vec<String>,
    /// What is odd and not wrong, such as a secret that everybody can read.
    pub warnings: Vec<String>,
}

/// Why nothing was reloaded. The proxy runs on as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// This proxy was not started from a file.
    #[error("there is no configuration to read again")]
    NoConfiguration,
    /// The configuration cannot be used; each problem on one line, with its file and line.
    #[error("the configuration was not reloaded: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

impl Shared {
    /// Names who reads the configuration again. Only the first call counts.
    pub fn set_reloader(&self, reloader: std::sync::Arc<dyn Reloader>) {
        let _ = self.reloader.set(reloader);
    }

    /// Reads the configuration again, logs what came of it and tells. Blocks: not for a worker's thread.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let reloader = self.reloader.get().ok_or(ReloadError::NoConfiguration)?;
        let result = reloader.reload();
        match &result {
            Ok(report) => {
                tracing::info!(applied = ?report.applied, "configuration reloaded");
                for warning in &report.warnings {
                    tracing::warn!("{warning}");
                }
                if !report.needs_restart.is_empty() {
                    tracing::warn!(options = ?report.needs_restart, "these changes need a restart");
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
        result
    }
}
