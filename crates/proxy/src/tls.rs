//! Encryption on both sides: what the configuration's files hold, ready for handshakes, and replaceable while clients
//! are connected.
//!
//! [`Tls`] is made at the start and shared by everything that opens or accepts connections. [`Tls::reload`] reads all
//! files again and replaces everything at once, or nothing when one of them is wrong; connections that exist keep
//! what they agreed on. The decisions are in docs/decisions/0011.

mod load;
mod peer;
mod state;
mod verify;
pub mod x509;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use rustls::pki_types::ServerName;

use crate::config::{ChannelBinding, ClientTlsMode, ServerTlsMode, TlsConfig, TlsNegotiation};
pub(crate) use peer::{describe, identify};
pub use state::TlsState;

/// Why there is no encryption.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read \"{}\": {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("cannot use \"{}\": {reason}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A part is missing.
    #[error("{0}")]
    Incomplete(&'static str),
    /// The parts do not fit together, such as a key and another one's certificate.
    #[error("the certificate cannot be used: {0}")]
    Tls(#[source] rustls::Error),
}

/// Encryption of one proxy. See the module.
#[derive(Debug)]
pub struct Tls {
    config: Mutex<TlsConfig>,
    loaded: ArcSwap<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    acceptor: Option<Arc<Acceptor>>,
    server: Arc<ServerTls>,
    shards: HashMap<String, Arc<ServerTls>>,
}

/// What a connection from a client needs to be encrypted.
#[derive(Debug)]
pub struct Acceptor {
    /// Certificate, authorities, versions.
    pub config: Arc<rustls::ServerConfig>,
    /// The hash of the certificate that logins are bound to (`tls-server-end-point`).
    pub end_point: Option<Vec<u8>>,
    /// What clients must do.
    pub mode: ClientTlsMode,
}

/// How connections to a shard's servers are encrypted. The default is: not at all.
#[derive(Debug, Default)]
pub struct ServerTls {
    /// What is required.
    pub mode: ServerTlsMode,
    /// How TLS begins.
    pub negotiation: TlsNegotiation,
    /// Whether logins are bound to the connection.
    pub channel_binding: ChannelBinding,
    /// Present unless the mode is [`ServerTlsMode::Disable`].
    config: Option<Arc<rustls::ClientConfig>>,
}

impl Tls {
    /// Reads all files.
    pub fn load(config: &TlsConfig) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            loaded: ArcSwap::from_pointee(read(config)?),
            config: Mutex::new(config.clone()),
        }))
    }

    /// Reads all files again. After an error everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = self.lock();
        self.loaded.store(Arc::new(read(&config)?));
        Ok(())
    }

    /// Takes over another configuration. After an error everything stays as it was.
    pub fn replace(&self, new: TlsConfig) -> Result<(), TlsError> {
        let mut config = self.lock();
        self.loaded.store(Arc::new(read(&new)?));
        *config = new;
        Ok(())
    }

    /// For a new connection from a client; `None`: TLS is not offered.
    #[must_use]
    pub fn acceptor(&self) -> Option<Arc<Acceptor>> {
        self.loaded.load().acceptor.clone()
    }

    /// For a new connection to a server of this shard, by the shard's name.
    #[must_use]
    pub fn server(&self, shard: &str) -> Arc<ServerTls> {
        let loaded = self.loaded.load();
        Arc::clone(loaded.shards.get(shard).unwrap_or(&loaded.server))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TlsConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(config: &TlsConfig) -> Result<Loaded, TlsError> {
    let shards = config
        .shards
        .iter()
        .map(|(name, shard)| Ok((name.clone(), Arc::new(load::server(shard)?))));
    Ok(Loaded {
        acceptor: load::acceptor(&config.client)?.map(Arc::new),
        server: Arc::new(load::server(&config.server)?),
        shards: shards.collect::<Result<_, TlsError>>()?,
    })
}

impl ServerTls {
    /// The session of a new connection to `host`; `None` where connections are not encrypted.
    pub(crate) fn session(&self, host: &str) -> Option<Result<rustls::Connection, rustls::Error>> {
        let config = Arc::clone(self.config.as_ref()?);
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // A name that cannot be in a certificate is not announced; where names are verified it fits none.
            Err(_) if self.mode != ServerTlsMode::VerifyFull => {
                ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
            }
            Err(_) => {
                return Some(Err(rustls::CertificateError::NotValidForName.into()));
            }
        };
        Some(rustls::ClientConnection::new(config, name).map(rustls::Connection::Client))
    }
}

#[cfg(test)]
pub(crate) mod tests;
