//! How connections are encrypted: plain values, files not read yet.

use std::path::PathBuf;

/// Encryption on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Connections from clients.
    pub client: ClientTlsConfig,
    /// Connections to the servers of shards that say nothing else.
    pub server: ServerTlsConfig,
    /// Connections to the servers of single shards, by the shard's name.
    pub shards: Vec<(String, ServerTlsConfig)>,
}

/// Encryption of connections from clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// What clients may and must do.
    pub mode: ClientTlsMode,
    /// PEM file with the proxy's certificate and those between it and its authority. Needed unless the mode is
    /// [`ClientTlsMode::Disable`].
    pub cert: Option<PathBuf>,
    /// PEM file with the key of the certificate.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities of clients' certificates. Clients are asked for one when this is given.
    pub ca: Option<PathBuf>,
    /// The oldest protocol version accepted.
    pub min_version: TlsVersion,
}

/// What clients may and must do about encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// TLS is not offered.
    #[default]
    Disable,
    /// The client chooses.
    Allow,
    /// The same as `Allow`: the choice is the client's.
    Prefer,
    /// Only over TLS.
    Require,
    /// Only over TLS and with a certificate that [`ClientTlsConfig::ca`] vouches for.
    VerifyCa,
    /// The same, and the certificate's common name must be the user's name.
    VerifyFull,
}

/// Protocol versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Encryption of connections to servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// What is required of the connection.
    pub mode: ServerTlsMode,
    /// PEM file with the authorities of servers' certificates. Needed by the modes that verify; with
    /// [`ServerTlsMode::Require`] it makes that mode verify the chain, as in libpq.
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate shown to servers that ask for one.
    pub cert: Option<PathBuf>,
    /// PEM file with its key.
    pub key: Option<PathBuf>,
    /// How TLS begins.
    pub negotiation: TlsNegotiation,
    /// Whether logins are bound to the encrypted connection.
    pub channel_binding: ChannelBinding,
    /// The oldest protocol version accepted.
    pub min_version: TlsVersion,
}

/// What is required of a connection to a server: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerTlsMode {
    /// Never encrypted.
    #[default]
    Disable,
    /// In clear, unless the server insists on TLS.
    Allow,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, with a certificate that the authorities vouch for.
    VerifyCa,
    /// The same, and it names the host connected to.
    VerifyFull,
}

impl ServerTlsMode {
    /// The mode's name in libpq.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// How TLS begins: libpq's `sslnegotiation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsNegotiation {
    /// By an SSLRequest.
    #[default]
    Postgres,
    /// At once; PostgreSQL 17 and later.
    Direct,
}

/// Whether SCRAM is bound to the encrypted connection: libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// When the server offers it.
    #[default]
    Prefer,
    /// A login without it fails.
    Require,
}
