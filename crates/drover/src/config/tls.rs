//! The options about encryption: what fits together, where the files are, and what the proxy is told.

use std::path::{Path, PathBuf};

use proxy::config::{
    ClientTlsConfig, ClientTlsMode, ServerTlsConfig, ServerTlsMode, TlsConfig, TlsNegotiation,
};

use super::Config;
use super::declare::{Located, Reader};
use super::sections::{ShardSection, TlsSection};

/// Parts that are missing, and combinations that mean nothing.
pub(super) fn check(reader: &mut Reader<'_>, tls: &Located<TlsSection>, shards: &[Located<ShardSection>]) {
    let TlsSection {
        client_mode,
        client_cert,
        client_key,
        client_ca,
        server_mode,
        server_ca,
        server_cert,
        server_key,
        server_negotiation,
        ..
    } = &tls.value;
    let mut problem = |key: &str, message: &str| reader.problem(tls.key_at(key), message.to_owned());
    let offered = client_mode.0 != ClientTlsMode::Disable;
    if offered && (client_cert.is_none() || client_key.is_none()) {
        problem(
            "client_mode",
            "TLS for clients needs `client_cert` and `client_key`",
        );
    }
    if matches!(client_mode.0, ClientTlsMode::VerifyCa | ClientTlsMode::VerifyFull) && client_ca.is_none() {
        problem("client_mode", "verifying clients' certificates needs `client_ca`");
    }
    if server_cert.is_some() != server_key.is_some() {
        problem("server_cert", "`server_cert` and `server_key` are given together");
    }
    if verifies(server_mode.0) && server_ca.is_none() {
        problem("server_mode", "verifying servers' certificates needs `server_ca`");
    }
    let direct = server_negotiation.0 == TlsNegotiation::Direct;
    if direct && !demands(server_mode.0) {
        let message = "`direct` needs a `server_mode` of \"require\" or stricter";
        problem("server_negotiation", message);
    }
    for shard in shards {
        let Some(mode) = shard.value.tls_mode else {
            continue;
        };
        if verifies(mode.0) && shard.value.tls_ca.is_none() && server_ca.is_none() {
            let message = "verifying servers' certificates needs `tls_ca`, or `server_ca` in [tls]";
            reader.problem(shard.key_at("tls_mode"), message.to_owned());
        }
        if direct && mode.0 != ServerTlsMode::Disable && !demands(mode.0) {
            let message = "`server_negotiation` is `direct`, which needs \"require\" or stricter";
            reader.problem(shard.key_at("tls_mode"), message.to_owned());
        }
    }
}

fn verifies(mode: ServerTlsMode) -> bool {
    matches!(mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull)
}

fn demands(mode: ServerTlsMode) -> bool {
    verifies(mode) || mode == ServerTlsMode::Require
}

/// Relative paths count from the configuration file's directory.
pub(super) fn resolve(config: &mut Config, directory: &Path) {
    let tls = &mut config.tls;
    let files = [
        &mut tls.client_cert,
        &mut tls.client_key,
        &mut tls.client_ca,
        &mut tls.server_ca,
        &mut tls.server_cert,
        &mut tls.server_key,
    ];
    let shards = config.shards.iter_mut().map(|shard| &mut shard.tls_ca);
    for path in files.into_iter().chain(shards).flatten() {
        *path = directory.join(&*path);
    }
}

impl Config {
    /// The proxy's part of encryption; see [`proxy::tls::Tls::replace`] for using it in a proxy that runs.
    pub fn to_tls(&self) -> TlsConfig {
        let tls = &self.tls;
        let server = ServerTlsConfig {
            mode: tls.server_mode.0,
            ca: tls.server_ca.clone(),
            cert: tls.server_cert.clone(),
            key: tls.server_key.clone(),
            negotiation: tls.server_negotiation.0,
            channel_binding: tls.server_channel_binding.0,
            min_version: tls.server_min_version.0,
        };
        let shards = self
            .shards
            .iter()
            .filter(|shard| shard.tls_mode.is_some() || shard.tls_ca.is_some())
            .map(|shard| (shard.name.0.clone(), of_shard(&server, shard)));
        TlsConfig {
            client: ClientTlsConfig {
                mode: tls.client_mode.0,
                cert: tls.client_cert.clone(),
                key: tls.client_key.clone(),
                ca: tls.client_ca.clone(),
                min_version: tls.client_min_version.0,
            },
            shards: shards.collect(),
            server,
        }
    }
}

fn of_shard(default: &ServerTlsConfig, shard: &ShardSection) -> ServerTlsConfig {
    let ca: Option<PathBuf> = shard.tls_ca.clone().or_else(|| default.ca.clone());
    ServerTlsConfig {
        mode: shard.tls_mode.map_or(default.mode, |mode| mode.0),
        ca,
        ..default.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::docs::EXAMPLE;
    use super::*;

    fn problems(tls: &str) -> Vec<String> {
        match Config::parse(&format!("{EXAMPLE}\n[tls]\n{tls}")) {
            Ok(_) => Vec::new(),
            Err(super::super::ConfigError::Wrong(problems)) => {
                problems.into_iter().map(|problem| problem.message).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for (tls, expected) in [
            ("client_mode = 'require'", "needs `client_cert` and `client_key`"),
            (
                "client_mode = 'verify-ca'\nclient_cert = 'c'\nclient_key = 'k'",
                "needs `client_ca`",
            ),
            ("client_mode = 'on'", "it must be one of \"disable\""),
            ("server_mode = 'verify-full'", "needs `server_ca`"),
            ("server_cert = 'c'", "given together"),
            ("server_negotiation = 'direct'", "needs a `server_mode`"),
        ] {
            let found = problems(tls);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{tls}: {found:?}"
            );
        }
        assert_eq!(
            problems("server_mode = 'require'\nserver_negotiation = 'direct'"),
            [""; 0]
        );
    }

    #[test]
    fn a_shard_may_differ() {
        let text = EXAMPLE.replacen("[[shards]]", "[[shards]]\ntls_mode = 'verify-ca'", 1);
        let mut config = Config::parse(&format!("{text}\n[tls]\nserver_ca = 'ca.pem'\n")).unwrap();
        resolve(&mut config, Path::new("/etc/drover"));
        let tls = config.to_tls();
        assert_eq!(tls.server.mode, ServerTlsMode::Disable);
        let (name, shard) = &tls.shards[0];
        assert_eq!((name, tls.shards.len()), (&config.shards[0].name.0, 1));
        assert_eq!(shard.mode, ServerTlsMode::VerifyCa);
        assert_eq!(shard.ca.as_deref(), Some(Path::new("/etc/drover/ca.pem")));
    }
}
