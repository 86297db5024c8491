//! TLS with certificates made for the test, real clients and real servers.

mod client_side;
mod server_side;

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};

use crate::config::{ClientTlsConfig, ClientTlsMode};

/// An authority and what it has signed, as files of a directory that goes away.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("signed");
        std::fs::write(directory.path().join("ca.pem"), cert.pem()).expect("written");
        Self {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    /// The file that others trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A certificate with this common name; for these hosts, or, without any, for a client.
    pub(crate) fn sign(&self, common_name: &str, hosts: &[&str]) -> Files {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Drover, tests");
        params.subject_alt_names = hosts
            .iter()
            .map(|host| match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().expect("a name")),
            })
            .collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        self.write(&cert.pem(), &key.serialize_pem())
    }

    /// Writes a pair under names not used before.
    pub(crate) fn write(&self, cert: &str, key: &str) -> Files {
        use std::os::unix::fs::PermissionsExt as _;
        let number = std::fs::read_dir(self.directory()).expect("readable").count();
        let file = |what: &str| self.directory().join(format!("{number}.{what}"));
        let files = Files {
            cert: file("crt"),
            key: file("key"),
        };
        std::fs::write(&files.cert, cert).expect("written");
        std::fs::write(&files.key, key).expect("written");
        // libpq refuses keys that others can read.
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).expect("changed");
        files
    }

    /// A proxy's side towards clients, with a certificate for `127.0.0.1` and `localhost`.
    pub(crate) fn client_config(&self, mode: ClientTlsMode) -> ClientTlsConfig {
        let files = self.sign("proxy", &["127.0.0.1", "localhost"]);
        ClientTlsConfig {
            mode,
            cert: Some(files.cert),
            key: Some(files.key),
            ..ClientTlsConfig::default()
        }
    }
}

/// Runs a statement by psql and gives its output, or what it complained about.
pub(crate) fn psql(conninfo: &str, password: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("/usr/lib/postgresql/15/bin/psql")
        .args([
            "-XAtq",
            "-d",
            &format!("{conninfo} connect_timeout=20"),
            "-c",
            sql,
        ])
        .env("PGPASSWORD", password)
        .env("HOME", "/nonexistent")
        .output()
        .expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}
