//! Encryption.
mod state;
pub use state::TlsState;
