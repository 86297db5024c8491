//! How far a server's certificate is trusted: libpq's rules on rustls's building blocks.
//!
//! The handshake's signature is verified in every mode: without that a certificate shown proves nothing, and channel
//! binding, which binds to the certificate, would bind to nothing.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::x509::Certificate;

/// What is asked of a server's certificate.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    provider: Arc<CryptoProvider>,
    /// `None`: any certificate will do.
    authorities: Option<Authorities>,
    /// It must name the host.
    check_name: bool,
}

/// Those who vouch for servers.
#[derive(Debug)]
pub(super) struct Authorities {
    /// As the chain builder wants them.
    pub(super) roots: RootCertStore,
    /// The certificates themselves: a server's own, self-signed certificate may be among them.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl ServerVerifier {
    pub(super) fn new(
        provider: Arc<CryptoProvider>,
        authorities: Option<Authorities>,
        check_name: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            provider,
            authorities,
            check_name,
        })
    }

    fn verify_chain(
        &self,
        authorities: &Authorities,
        leaf: &ParsedCertificate<'_>,
        (der, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
    ) -> Result<(), Error> {
        // The chain builder takes no certificate that says it is an authority for a server's, yet a self-signed one
        // made by `openssl req -x509` says so, and people copy it to their clients as the authority.
        if authorities.certificates.contains(der) {
            return verify_time(der, now);
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(leaf, &authorities.roots, intermediates, now, algorithms)
    }
}

fn verify_time(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let certificate = Certificate::parse(der).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.not_before {
        Err(CertificateError::NotValidYet.into())
    } else if now > certificate.not_after {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// The names of the certificate: its alternative ones, else, as libpq does, its common name.
fn verify_name(
    leaf: &ParsedCertificate<'_>,
    der: &CertificateDer<'_>,
    host: &ServerName<'_>,
) -> Result<(), Error> {
    let result = verify_server_name(leaf, host);
    if result.is_ok() {
        return result;
    }
    let certificate = Certificate::parse(der).ok_or(CertificateError::BadEncoding)?;
    let common_name = certificate
        .common_name()
        .filter(|_| !certificate.has_alternative_names);
    match common_name {
        Some(pattern) if name_matches(pattern, &host.to_str()) => Ok(()),
        _ => result,
    }
}

/// `*` may stand for the first label of a name.
fn name_matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    if pattern == host {
        return true;
    }
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => !is_address && !label.is_empty() && domain == rest,
        _ => false,
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            let leaf = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(authorities, &leaf, (end_entity, intermediates), now)?;
            if self.check_name {
                verify_name(&leaf, end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn a_star_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("db.example", "DB.example", true),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("*", "db", false),
        ] {
            assert_eq!(name_matches(pattern, host), expected, "{pattern} {host}");
        }
    }
}
