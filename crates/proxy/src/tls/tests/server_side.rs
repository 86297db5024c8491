use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use testkit::TestPostgres;
use testkit::client::Client;
use wire::startup::ProtocolVersion;

use super::{Authority, psql};
use crate::buffers::Buffers;
use crate::config::{ChannelBinding, ClientTlsMode, ServerTlsConfig, ServerTlsMode, TlsNegotiation};
use crate::exec::link;
use crate::server::{Address, DialError, Dialler, Secret, ServerConn, Startup};
use crate::testing;
use crate::tls::{ServerTls, load};

/// A server with `ssl = on` and a certificate for `127.0.0.1`.
struct TlsServer {
    postgres: TestPostgres,
    authority: Authority,
    data: PathBuf,
}

impl TlsServer {
    fn start() -> Self {
        let server = Self {
            data: PathBuf::new(),
            postgres: TestPostgres::start(),
            authority: Authority::new(),
        };
        let data = PathBuf::from(server.ask("SHOW data_directory"));
        let server = Self { data, ..server };
        let files = server.authority.sign("postgres", &["127.0.0.1", "db.test"]);
        server.install(&files.cert, "server.crt");
        server.install(&files.key, "server.key");
        server.install(&server.authority.ca(), "root.crt");
        for setting in ["ssl = on", "ssl_ca_file = 'root.crt'"] {
            server.ask(&format!("ALTER SYSTEM SET {setting}"));
        }
        server.rules("host all all all scram-sha-256");
        server
    }

    /// As superuser, over the Unix socket or TCP as psql likes.
    fn ask(&self, sql: &str) -> String {
        let (info, node) = (self.postgres.info(), self.postgres.node());
        let conninfo = format!(
            "host={} port={} user={} dbname={}",
            node.host, node.port, info.admin_user, info.database
        );
        psql(&conninfo, info.admin_password.expose(), sql).expect("the superuser is obeyed")
    }

    /// Copies a file to where the server reads it, as the server's own.
    fn install(&self, from: &Path, name: &str) {
        let to = self.data.join(name);
        fs::copy(from, &to).expect("copied");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("changed");
        let owner = fs::metadata(&self.data).expect("there");
        chown(&to, Some(owner.uid()), Some(owner.gid())).expect("given");
    }

    /// Replaces the rules for the application's role.
    fn rules(&self, rules: &str) {
        let path = PathBuf::from(self.ask("SHOW hba_file"));
        let info = self.postgres.info();
        let text = format!(
            "local all all scram-sha-256\nhost all {} all scram-sha-256\n{rules}\n",
            info.admin_user
        );
        fs::write(&path, text).expect("written");
        let before = self.ask("SELECT pg_conf_load_time()");
        self.ask("SELECT pg_reload_conf()");
        // The postmaster tells its children after it has read the files itself.
        for _ in 0..500 {
            if self.ask("SELECT pg_conf_load_time()") != before && self.ask("SHOW ssl") == "on" {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not read its files again");
    }

    fn config(&self, mode: ServerTlsMode) -> ServerTlsConfig {
        ServerTlsConfig {
            mode,
            ca: matches!(mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull)
                .then(|| self.authority.ca()),
            ..ServerTlsConfig::default()
        }
    }

    async fn dial(&self, host: &str, config: &ServerTlsConfig) -> Result<ServerConn, DialError> {
        let info = self.postgres.info();
        let dialler = Dialler {
            address: Address {
                host: host.to_owned(),
                port: self.postgres.node().port,
            },
            startup: Startup {
                user: info.app_user.clone(),
                database: info.database.clone(),
                params: Vec::new(),
            },
            secret: Secret::Password(info.app_password.expose().to_owned()),
            protocol: ProtocolVersion::V3_2,
            tls: Arc::new(load::server(config).expect("good files")),
            timeout: Duration::from_secs(20),
            prepared_statements: 1,
        };
        dialler.dial(Buffers::new()).await
    }

    /// Dials and asks the server itself whether it is encrypted; both sides must agree.
    async fn encrypted(&self, config: &ServerTlsConfig) -> Result<bool, String> {
        let mut server = match self.dial("127.0.0.1", config).await {
            Ok(server) => server,
            Err(error) => {
                let cause = std::error::Error::source(&error);
                return Err(format!(
                    "{error}: {}",
                    cause.map(ToString::to_string).unwrap_or_default()
                ));
            }
        };
        let says = value(
            &mut server,
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        )
        .await;
        assert_eq!(says == "t", server.target.tls.is_some());
        Ok(says == "t")
    }
}

async fn value(server: &mut ServerConn, sql: &str) -> String {
    let reply = link::query(server, sql).await.expect("runs");
    let rows = reply.into_rows().expect("rows");
    rows[0][0].clone().expect("not null")
}

#[tokio::test]
async fn every_sslmode_of_libpq_works_towards_servers() {
    use ServerTlsMode as Mode;
    let server = TlsServer::start();
    for (mode, encrypted) in [
        (Mode::Disable, false),
        (Mode::Allow, false),
        (Mode::Prefer, true),
        (Mode::Require, true),
        (Mode::VerifyCa, true),
        (Mode::VerifyFull, true),
    ] {
        assert_eq!(
            server.encrypted(&server.config(mode)).await,
            Ok(encrypted),
            "{mode:?}"
        );
    }

    // `localhost` is not in the certificate.
    let full = server.config(Mode::VerifyFull);
    assert!(matches!(
        server.dial("localhost", &full).await,
        Err(DialError::Tls { .. })
    ));
    server
        .dial("localhost", &server.config(Mode::VerifyCa))
        .await
        .expect("names do not count");
    let stranger = Authority::new();
    let strangers = ServerTlsConfig {
        ca: Some(stranger.ca()),
        ..server.config(Mode::VerifyCa)
    };
    let error = server
        .encrypted(&strangers)
        .await
        .expect_err("nobody vouches for it");
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
    let require = ServerTlsConfig {
        mode: Mode::Require,
        ..strangers
    };
    server
        .encrypted(&require)
        .await
        .expect_err("with authorities, `require` verifies the chain");
    // The server's own certificate as its authority.
    let own = ServerTlsConfig {
        ca: Some(server.data.join("server.crt")),
        ..server.config(Mode::VerifyFull)
    };
    assert_eq!(server.encrypted(&own).await, Ok(true));

    // PostgreSQL 15 does not begin with TLS.
    let direct = ServerTlsConfig {
        negotiation: TlsNegotiation::Direct,
        ..server.config(Mode::Require)
    };
    server
        .encrypted(&direct)
        .await
        .expect_err("it does not understand");

    for (binding, mode, good) in [
        (ChannelBinding::Require, Mode::Require, true),
        (ChannelBinding::Disable, Mode::Require, true),
        (ChannelBinding::Require, Mode::Disable, false),
    ] {
        let config = ServerTlsConfig {
            channel_binding: binding,
            ..server.config(mode)
        };
        assert_eq!(
            server.encrypted(&config).await.is_ok(),
            good,
            "{binding:?} {mode:?}"
        );
    }
}

#[tokio::test]
async fn the_servers_rules_decide_what_allow_and_prefer_do() {
    use ServerTlsMode as Mode;
    let server = TlsServer::start();
    server.rules("hostssl all all all scram-sha-256");
    let error = server
        .encrypted(&server.config(Mode::Disable))
        .await
        .expect_err("refused");
    assert!(error.contains("no pg_hba.conf entry"), "{error}");
    assert_eq!(server.encrypted(&server.config(Mode::Allow)).await, Ok(true));
    server.rules("hostnossl all all all scram-sha-256");
    assert_eq!(server.encrypted(&server.config(Mode::Prefer)).await, Ok(false));
    server
        .encrypted(&server.config(Mode::Require))
        .await
        .expect_err("refused");

    // A login by certificate.
    server.rules("hostssl all all all cert");
    server
        .encrypted(&server.config(Mode::Require))
        .await
        .expect_err("no certificate");
    let files = server.authority.sign(&server.postgres.info().app_user, &[]);
    let with = ServerTlsConfig {
        cert: Some(files.cert),
        key: Some(files.key),
        ..server.config(Mode::VerifyFull)
    };
    assert_eq!(server.encrypted(&with).await, Ok(true));
    // Unix sockets are never encrypted, whatever is asked for.
    server.rules("hostssl all all all cert");
    let directory = server.ask("SHOW unix_socket_directories");
    if directory.starts_with('/') {
        let directory = directory.split(',').next().unwrap_or_default();
        let socket = server.dial(directory, &server.config(Mode::VerifyFull)).await;
        assert!(socket.expect("logs in").target.tls.is_none());
    }
}

#[test]
fn cancels_are_encrypted_like_the_connection() {
    let server = TlsServer::start();
    // In clear nobody gets in, not even to cancel: the proxy below has to use TLS for everything.
    let info = server.postgres.info();
    let mut config = testing::config(&server.postgres, &info.database);
    config.tls.client = server.authority.client_config(ClientTlsMode::Allow);
    config.tls.server = server.config(ServerTlsMode::VerifyFull);
    config.pool.size = 1;
    let proxy = testing::proxy(config);
    let url = testing::url(&proxy, &server.postgres, &info.database);
    let mut client = Client::connect(&url).expect("logs in");
    let encrypted = client.simple("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    assert!(
        format!("{encrypted:?}").contains("[116]") || format!("{encrypted:?}").contains("\"t\""),
        "{encrypted:?}"
    );
    server.ask("ALTER SYSTEM SET log_connections = on");
    server.rules("hostssl all all all scram-sha-256");
    let mut bytes = bytes::BytesMut::new();
    wire::frontend::encode::query(&mut bytes, b"SELECT pg_sleep(30)").expect("encodable");
    client.send(&bytes).expect("sent");
    client.set_timeout(Duration::from_secs(20));
    for _ in 0..200 {
        let active = server.ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)' AND pid <> pg_backend_pid()");
        if active == "1" {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    client.cancel().expect("sent");
    let answer = format!("{:?}", client.collect(1).expect("an answer"));
    assert!(answer.contains("57014"), "{answer}");
    let sums = proxy.shared().metrics.sums();
    let handshakes = sums
        .iter()
        .find(|(metric, _)| metric.name == "drover_server_tls_handshakes_total");
    assert!(handshakes.is_some_and(|(_, count)| *count > 0));
}

#[tokio::test]
async fn a_server_that_goes_on_in_clear_is_not_believed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 8];
            if socket.read_exact(&mut request).await.is_ok() {
                // Somebody in between lets an error follow the answer.
                let _ = socket.write_all(b"SE\0\0\0\x08MX\0\0").await;
                let _ = socket.read(&mut request).await;
            }
        }
    });
    let tls = load::server(&ServerTlsConfig {
        mode: ServerTlsMode::Require,
        ..ServerTlsConfig::default()
    });
    let address = Address {
        host: "127.0.0.1".into(),
        port,
    };
    let tls: ServerTls = tls.expect("nothing to read");
    let encrypt = crate::server::connect::Encrypt::Must;
    let error = crate::server::connect::connect(&address, &tls, encrypt, Buffers::new()).await;
    assert!(matches!(error, Err(DialError::Protocol(text)) if text.contains("unencrypted data")));
}
