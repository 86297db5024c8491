//! A whole proxy over a real server, with the simplest session handler there is.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use testkit::TestPostgres;
use wire::TransactionStatus;
use wire::backend::{ErrorFields, encode};
use wire::frame::Frames;

use crate::client::Filled;
use crate::config::{
    AdminConfig, AuthConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, ShardConfig, Timeouts, UserConfig,
    UserLimits,
};
use crate::listener::{Proxy, start};
use crate::pools::{Lease, Purpose};
use crate::worker::{Guard, Session, SessionHandler, StopReason};

/// A configuration with one shard, number 1, and the server's own application role.
pub(crate) fn config(server: &TestPostgres, database: &str) -> ProxyConfig {
    let info = server.info();
    let user = UserConfig {
        name: info.app_user.clone(),
        auth: ClientAuth::Password(info.app_password.expose().to_owned()),
        server_password: None,
        limits: UserLimits::default(),
    };
    ProxyConfig {
        observe: Default::default(),
        listen: ([127, 0, 0, 1], 0).into(),
        listen_also: Vec::new(),
        unix_socket: None,
        console: Default::default(),
        workers: 2,
        // Every test has sessions on both.
        clients_per_worker: 1,
        lease_ttl: crate::config::LEASE_TTL,
        fail_points: Default::default(),
        reuse_port: false,
        users: vec![user],
        auth: AuthConfig::default(),
        databases: vec![database.into()],
        pool: PoolConfig {
            size: 4,
            connection_timeout: Duration::from_secs(5),
            ..PoolConfig::default()
        },
        limits: Limits {
            shutdown_timeout: Duration::from_secs(2),
            ..Limits::default()
        },
        timeouts: Timeouts::default(),
        shards: vec![ShardConfig {
            id: 1,
            name: "shard_1".into(),
            host: server.node().host.clone(),
            port: server.node().port,
        }],
        admin: AdminConfig {
            user: info.admin_user.clone(),
            password: Some(info.admin_password.expose().to_owned()),
        },
        tls: Default::default(),
        replicas: Default::default(),
        rules: Default::default(),
    }
}

/// Starts a proxy whose sessions forward everything to shard 1, in transaction mode.
pub(crate) fn proxy(config: ProxyConfig) -> Proxy {
    start(config, Arc::new(|_| Rc::new(Relay))).expect("the proxy starts")
}

/// The URL of `database` at the proxy.
pub(crate) fn url(proxy: &Proxy, server: &TestPostgres, database: &str) -> String {
    let info = server.info();
    let (user, password) = (&info.app_user, info.app_password.expose());
    format!("postgresql://{user}:{password}@{}/{database}", proxy.address())
}

/// Forwards what a client sends to one server, and back. The text `panic` makes it panic.
pub(crate) struct Relay;

impl SessionHandler for Relay {
    fn run(self: Rc<Self>, session: Session, guard: Guard) {
        guard.spawn(async move {
            // A broken socket ends the session; nobody is left to be told.
            let _ = relay(session).await;
        });
    }
}

async fn relay(mut session: Session) -> std::io::Result<()> {
    let pool = session
        .ctx
        .pools
        .pool(1, &session.info.user, &session.info.database);
    let slot = Arc::clone(&session.cancel.slot);
    let mut lease: Option<Lease> = None;
    match pool.checkout(Purpose::First, Some(&slot)).await {
        Ok(server) => {
            crate::login::finish(
                session.client.conn.out(),
                server.parameters.iter(),
                &session.cancel.key,
            );
            server.release();
        }
        Err(error) => {
            encode::error(
                session.client.conn.out(),
                &ErrorFields::fatal(&error.sqlstate, error.message),
            );
            return session.client.conn.flush().await;
        }
    }
    session.client.conn.flush().await?;
    loop {
        match session.client.fill_or_stop().await? {
            Filled::Bytes(_) => {}
            Filled::Closed => return Ok(()),
            Filled::Stop(StopReason::Shutdown) if lease.is_some() => {
                session.client.conn.fill().await?;
            }
            Filled::Stop(_) => {
                let fields =
                    ErrorFields::fatal("57P01", "terminating connection due to administrator command");
                encode::error(session.client.conn.out(), &fields);
                return session.client.conn.flush().await;
            }
        }
        let (complete, last) = whole_messages(session.client.conn.unread());
        match last {
            Some(b'X') => return Ok(()),
            Some(b'Q' | b'S') => {}
            _ => continue,
        }
        assert!(
            !session.client.conn.unread().starts_with(b"Q\0\0\0\x0apanic\0"),
            "asked for"
        );
        let server = match &mut lease {
            Some(server) => server,
            None => match pool.checkout(Purpose::First, Some(&slot)).await {
                Ok(server) => lease.insert(server),
                Err(error) => {
                    session.client.conn.consume(complete);
                    encode::error(
                        session.client.conn.out(),
                        &ErrorFields::error(&error.sqlstate, error.message),
                    );
                    encode::ready_for_query(session.client.conn.out(), TransactionStatus::Idle);
                    session.client.conn.flush().await?;
                    continue;
                }
            },
        };
        session.client.conn.transfer(complete, &mut server.conn);
        answer(&mut session, server).await?;
        if server.status == TransactionStatus::Idle
            && let Some(server) = lease.take()
        {
            server.release();
        }
    }
}

/// Forwards the server's answer up to ReadyForQuery, writing to the server and reading from it as it goes.
async fn answer(session: &mut Session, server: &mut Lease) -> std::io::Result<()> {
    loop {
        if server.conn.exchange().await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (complete, last) = whole_messages(server.conn.unread());
        let status = (last == Some(b'Z')).then(|| server.conn.unread()[complete - 1]);
        server.conn.transfer(complete, &mut session.client.conn);
        session.client.conn.flush().await?;
        if let Some(status) = status {
            server.status = match status {
                b'I' => TransactionStatus::Idle,
                b'T' => TransactionStatus::InTransaction,
                _ => TransactionStatus::Failed,
            };
            return Ok(());
        }
    }
}

/// Bytes of the complete messages at the front, and the last one's type.
fn whole_messages(bytes: &[u8]) -> (usize, Option<u8>) {
    let mut frames = Frames::new(bytes, 1 << 24);
    let last = frames
        .by_ref()
        .map_while(Result::ok)
        .last()
        .map(|message| message.tag);
    (frames.consumed(), last)
}

/// For measuring by hand: serves until its standard input ends, so that `pgbench` can be pointed at it.
#[test]
#[ignore = "a server to measure, not a test"]
fn serve() {
    let server = TestPostgres::start();
    let info = server.info();
    let mut config = config(&server, &info.database);
    config.pool.size = 10;
    config.workers = std::env::var("WORKERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let proxy = proxy(config);
    println!("proxy {}", url(&proxy, &server, &info.database));
    println!("server {}", server.url(&info.database));
    let _ = std::io::read_to_string(std::io::stdin());
    for (metric, value) in proxy.shared().metrics.sums() {
        println!("{} {value}", metric.name);
    }
    proxy.shutdown();
}
