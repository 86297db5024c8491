//! From files to what rustls works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::verify::{Authorities, ServerVerifier};
use super::{Acceptor, ServerTls, TlsError, x509};
use crate::config::{ClientTlsConfig, ClientTlsMode, ServerTlsConfig, ServerTlsMode, TlsVersion};

/// The protocol's name in TLS, as PostgreSQL 17 and later use it.
pub(super) const ALPN: &[u8] = b"postgresql";

/// The largest PEM file read, in bytes; the whole web's authorities fit into a tenth.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What connections from clients need; `None` when the mode says not to offer TLS.
pub(super) fn acceptor(config: &ClientTlsConfig) -> Result<Option<Acceptor>, TlsError> {
    if config.mode == ClientTlsMode::Disable {
        return Ok(None);
    }
    let verifies = matches!(config.mode, ClientTlsMode::VerifyCa | ClientTlsMode::VerifyFull);
    let (certificates, key) = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => (certificates(cert)?, private_key(key)?),
        _ => return Err(TlsError::Incomplete("client TLS needs a certificate and its key")),
    };
    let provider = provider();
    let versions = versions(config.min_version);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Tls)?;
    let builder = match &config.ca {
        None if verifies => {
            return Err(TlsError::Incomplete(
                "verifying clients' certificates needs the file of their authorities",
            ));
        }
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities(path)?.roots);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if !verifies {
                verifier = verifier.allow_unauthenticated();
            }
            let unusable = |error: rustls::server::VerifierBuilderError| TlsError::Unusable {
                path: path.clone(),
                reason: error.to_string(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
        }
    };
    let end_point = certificates.first().and_then(|leaf| x509::end_point(leaf));
    let mut tls = builder
        .with_single_cert(certificates, key)
        .map_err(TlsError::Tls)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // PostgreSQL gives out no tickets, and its clients do not ask for a second session.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Some(Acceptor {
        config: Arc::new(tls),
        end_point,
        mode: config.mode,
    }))
}

/// What connections to a shard's servers need.
pub(super) fn server(config: &ServerTlsConfig) -> Result<ServerTls, TlsError> {
    let mut tls = ServerTls {
        mode: config.mode,
        negotiation: config.negotiation,
        channel_binding: config.channel_binding,
        config: None,
    };
    if config.mode == ServerTlsMode::Disable {
        return Ok(tls);
    }
    let verifies = matches!(config.mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull);
    let authorities = match &config.ca {
        None if verifies => {
            return Err(TlsError::Incomplete(
                "verifying servers' certificates needs the file of their authorities",
            ));
        }
        // As libpq: who is given authorities and only asked to encrypt verifies the chain all the same.
        Some(path) if verifies || config.mode == ServerTlsMode::Require => Some(authorities(path)?),
        _ => None,
    };
    let provider = provider();
    let check_name = config.mode == ServerTlsMode::VerifyFull;
    let verifier = ServerVerifier::new(Arc::clone(&provider), authorities, check_name);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(config.min_version))
        .map_err(TlsError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut client = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(TlsError::Tls)?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::Incomplete("a certificate for servers needs its key")),
    };
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    tls.config = Some(Arc::new(client));
    Ok(tls)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Both, and the newer one alone; constants, because the builder wants them to live for ever.
static BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
static NEWER: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::V1_2 => &BOTH,
        TlsVersion::V1_3 => &NEWER,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(unusable(path, "it is too large"));
    }
    std::fs::read(path).map_err(failed)
}

fn unusable(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::Unusable {
        path: PathBuf::from(path),
        reason: reason.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "there is no certificate in it")),
        Err(error) => Err(unusable(path, error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // What is wrong with a key is said without showing any of it.
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| unusable(path, "there is no unencrypted private key in it"))
}

fn authorities(path: &Path) -> Result<Authorities, TlsError> {
    let certificates = certificates(path)?;
    let mut roots = RootCertStore::empty();
    // A bundle may hold some that are too old to be read; that all are is an error.
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        return Err(unusable(path, "none of its certificates can be used"));
    }
    Ok(Authorities { roots, certificates })
}
