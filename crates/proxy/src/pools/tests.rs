use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::TestPostgres;
use testkit::client::Client;

use super::{Lease, Place, PoolKey, Pools, Purpose};
use crate::buffers::Buffers;
use crate::config::{ProxyConfig, ShardConfig, TlsConfig};
use crate::listener::Proxy;
use crate::nodes::Nodes;
use crate::testing;
use crate::tls::Tls;
use crate::worker::{Mailboxes, Shared};

fn started(change: impl FnOnce(&mut ProxyConfig)) -> (Proxy, String, String) {
    let server = TestPostgres::shared();
    let database = server.create_database();
    let mut config = testing::config(server, &database);
    change(&mut config);
    let proxy = testing::proxy(config);
    let url = testing::url(&proxy, server, &database);
    (proxy, url, database)
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let sums = proxy.shared().metrics.sums();
    sums.iter()
        .find(|(metric, _)| metric.name == name)
        .map(|(_, value)| *value)
        .expect("a metric")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn pid(client: &mut Client) -> String {
    format!("{:?}", client.simple("SELECT pg_backend_pid()").expect("runs"))
}

#[test]
fn many_clients_share_few_connections() {
    let (proxy, url, database) = started(|config| config.pool.size = 3);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let (url, stop) = (url.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut client = Client::connect(&url).expect("logs in");
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.simple("BEGIN").expect("runs");
                    let inside = pid(&mut client);
                    assert_eq!(inside, pid(&mut client), "a transaction stays on its server");
                    client.simple("COMMIT").expect("runs");
                    count += 1;
                }
                count
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let server = TestPostgres::shared();
    let info = server.info();
    let direct = format!(
        "postgresql://{}:{}@{}:{}/{database}",
        info.app_user,
        info.app_password.expose(),
        server.node().host,
        server.node().port
    );
    let mut direct = Client::connect(&direct).expect("logs in");
    let sql = "SELECT 'servers=' || count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let answer = format!("{:?}", direct.simple(sql).expect("runs"));
    stop.store(true, Ordering::Relaxed);
    let counts: Vec<i32> = clients
        .into_iter()
        .map(|client| client.join().expect("no failure"))
        .collect();
    assert!(metric(&proxy, "drover_servers") <= 3, "{answer}");
    assert!(
        counts.iter().all(|count| *count > 0),
        "nobody starves: {counts:?}"
    );
    assert!(metric(&proxy, "drover_checkout_waits_total") > 0);
    assert_eq!(metric(&proxy, "drover_servers_discarded_total"), 0);
}

#[test]
fn an_idle_connection_moves_to_the_worker_that_needs_it() {
    let (proxy, url, _) = started(|config| config.pool.size = 1);
    // Two workers: the clients are on different ones.
    let mut first = Client::connect(&url).expect("logs in");
    let mut second = Client::connect(&url).expect("logs in");
    let pids = [pid(&mut first), pid(&mut second), pid(&mut first)];
    assert!(
        pids.iter().all(|other| *other == pids[0]),
        "one server serves all: {pids:?}"
    );
    assert!(metric(&proxy, "drover_servers_moved_total") > 0);
    assert_eq!(metric(&proxy, "drover_servers"), 1);
}

#[test]
fn a_full_pool_refuses_in_time_and_recovers() {
    let (_proxy, url, _) = started(|config| {
        config.pool.size = 1;
        config.pool.connection_timeout = Duration::from_millis(200);
    });
    let mut holder = Client::connect(&url).expect("logs in");
    let mut waiter = Client::connect(&url).expect("logs in");
    holder.simple("BEGIN").expect("runs");
    let start = Instant::now();
    let answer = format!("{:?}", waiter.simple("SELECT 1").expect("an answer"));
    assert!(answer.contains("53300"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(200));
    holder.simple("COMMIT").expect("runs");
    let answer = format!("{:?}", waiter.simple("SELECT 1").expect("an answer"));
    assert!(!answer.contains("53300"), "{answer}");
}

#[test]
fn an_unreachable_shard_answers_soon_and_comes_back() {
    // Bound and not listening: connections are refused, and no other test can get the port meanwhile.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    deaf.bind(&any.into()).expect("binds");
    let nowhere = deaf
        .local_addr()
        .expect("bound")
        .as_socket()
        .expect("an IP address")
        .port();
    let mut good = None;
    let (proxy, url, _) = started(|config| {
        good = Some(config.shards.clone());
        // A server that is down is waited for this long, no longer.
        config.pool.connection_timeout = Duration::from_millis(300);
        config.shards = vec![ShardConfig {
            port: nowhere,
            ..config.shards[0].clone()
        }];
    });
    let start = Instant::now();
    let error = Client::connect(&url).expect_err("must fail").to_string();
    assert!(error.contains("\"shard_1\" cannot be reached"), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "soon after connection_timeout"
    );
    let start = Instant::now();
    Client::connect(&url).expect_err("must fail");
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "nobody waits for a server that was down that long"
    );
    proxy.shared().set_shards(good.expect("set"));
    eventually("the new address is used", || Client::connect(&url).is_ok());
}

#[test]
fn a_killed_server_connection_costs_at_most_one_statement() {
    let (proxy, url, database) = started(|_| {});
    let mut client = Client::connect(&url).expect("logs in");
    client.simple("SELECT 1").expect("runs");
    let sql =
        format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'");
    TestPostgres::shared().run(&TestPostgres::shared().info().database, &sql);
    // The end of an idle connection has been reported by the time the next query is read.
    client.simple("SELECT 1").expect("runs on a new connection");
    assert_eq!(metric(&proxy, "drover_servers_discarded_total"), 1);
}

#[test]
fn statistics_add_up() {
    let (proxy, url, database) = started(|_| {});
    let mut client = Client::connect(&url).expect("logs in");
    client.simple("BEGIN").expect("runs");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let stats = runtime.block_on(proxy.shared().pool_stats());
    let leased: usize = stats.iter().map(|pool| pool.stats.leased).sum();
    assert_eq!(leased, 1, "{stats:?}");
    assert!(
        stats
            .iter()
            .all(|pool| pool.key.place == Place::primary(1) && *pool.key.database == *database)
    );
    assert_eq!(proxy.shared().clients(), 1);
    client.simple("COMMIT").expect("runs");
    drop(client);
    eventually("the client is gone", || proxy.shared().clients() == 0);
    for name in [
        "server_bytes_received",
        "server_bytes_sent",
        "client_bytes_received",
        "client_bytes_sent",
    ] {
        assert!(metric(&proxy, &format!("drover_{name}_total")) > 0, "{name}");
    }
}

/// Pools of one worker, without a listener; shards 1 and 2 are the same server.
fn bare_pools(change: impl FnOnce(&mut ProxyConfig)) -> (Pools, PoolKey, PoolKey) {
    let server = TestPostgres::shared();
    let mut config = testing::config(server, &server.info().database);
    config.shards.push(ShardConfig {
        id: 2,
        name: "shard_2".into(),
        ..config.shards[0].clone()
    });
    change(&mut config);
    let (mailboxes, _inboxes) = Mailboxes::new(1);
    let nodes = Nodes::of_shards(&config.shards, config.replicas.clone());
    let shared = Arc::new(
        Shared::new(
            config,
            Tls::load(&TlsConfig::default()).expect("nothing to read"),
            mailboxes,
            Arc::new(nodes),
        )
        .expect("a valid configuration"),
    );
    let metrics = shared.metrics.add_worker();
    let pools = Pools::new(shared, 0, metrics, Buffers::new());
    let (user, database) = (server.info().app_user.as_str(), server.info().database.as_str());
    let key = |shard| PoolKey {
        place: Place::primary(shard),
        user: user.into(),
        database: database.into(),
        server_user: user.into(),
        server_database: database.into(),
    };
    (pools, key(1), key(2))
}

#[test]
fn transactions_that_enlist_two_shards_crosswise_never_deadlock() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let (pools, one, two) = bare_pools(|config| {
            config.pool.size = 2;
            config.pool.multi_shard = 1;
            config.pool.connection_timeout = Duration::from_secs(20);
        });
        let tasks: Vec<_> = (0..16)
            .map(|number| {
                let (pools, one, two) = (pools.clone(), one.clone(), two.clone());
                tokio::task::spawn_local(async move {
                    let (first, further) = if number % 2 == 0 { (one, two) } else { (two, one) };
                    for _ in 0..10 {
                        let held = pools
                            .checkout(&first, Purpose::First, None)
                            .await
                            .expect("a connection");
                        tokio::task::yield_now().await;
                        let ticket = pools.ticket(None).await.expect("a ticket");
                        let also = pools
                            .checkout(&further, Purpose::Further(&ticket), None)
                            .await
                            .expect("reserve");
                        tokio::task::yield_now().await;
                        also.release();
                        held.release();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("every transaction ends");
        }
        for pool in pools.stats() {
            assert_eq!((pool.stats.leased, pool.stats.waiting), (0, 0));
            assert!(pool.stats.idle <= 3, "{pool:?}");
        }
    });
}

#[test]
fn a_ticket_wait_is_bounded() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let (pools, ..) = bare_pools(|config| {
            config.pool.multi_shard = 1;
            config.pool.connection_timeout = Duration::from_millis(50);
        });
        let held = pools.ticket(None).await.expect("the only one");
        assert_eq!(
            pools.ticket(None).await.expect_err("must time out").sqlstate,
            "40001"
        );
        drop(held);
        drop(pools.ticket(None).await.expect("free again"));
    });
}

#[test]
fn dirty_and_unquiet_connections_are_closed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let (pools, one, _) = bare_pools(|_| {});
        let idle = |pools: &Pools| pools.stats().iter().map(|pool| pool.stats.idle).sum::<usize>();
        for spoil in [
            (|lease: &mut Lease| lease.dirty = true) as fn(&mut Lease),
            |lease| lease.status = wire::TransactionStatus::InTransaction,
            |lease| lease.conn.out().extend_from_slice(b"Q"),
        ] {
            let mut lease = pools
                .checkout(&one, Purpose::First, None)
                .await
                .expect("a connection");
            spoil(&mut lease);
            lease.release();
            assert_eq!(idle(&pools), 0);
        }
        drop(
            pools
                .checkout(&one, Purpose::First, None)
                .await
                .expect("a connection"),
        );
        assert_eq!(idle(&pools), 0, "nobody vouched for it");
        pools
            .checkout(&one, Purpose::First, None)
            .await
            .expect("a connection")
            .release();
        assert_eq!(idle(&pools), 1);
        assert!(
            pools
                .pool(1, &one.user, &one.database)
                .try_checkout(Purpose::First, None)
                .is_some()
        );
    });
}

#[test]
fn remembered_keys_give_way_when_the_servers_verifier_changes() {
    let server = TestPostgres::start();
    let info = server.info();
    let proxy = testing::proxy(testing::config(&server, &info.database));
    let url = testing::url(&proxy, &server, &info.database);
    for _ in 0..3 {
        let mut client = Client::connect(&url).expect("logs in");
        client.simple("SELECT 1").expect("runs");
        // The same password with a new salt: keys made with the old one no longer fit.
        let (user, password) = (&info.app_user, info.app_password.expose());
        server.run(
            &info.database,
            &format!("ALTER ROLE {user} PASSWORD '{password}'"),
        );
        proxy.shared().recycle(Place::primary(1));
        eventually("idle connections are closed", || {
            metric(&proxy, "drover_servers") == 0
        });
    }
    assert_eq!(
        metric(&proxy, "drover_server_logins_failed_total"),
        0,
        "clients never notice"
    );
}

#[test]
fn a_shielded_server_is_out_of_reach_of_cancels() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(async {
        let (pools, one, _) = bare_pools(|_| {});
        let slot = Arc::new(crate::cancel::CancelSlot::default());
        let mut lease = pools
            .checkout(&one, Purpose::First, Some(&slot))
            .await
            .expect("a connection");
        assert_eq!(slot.targets().len(), 1);
        assert!(lease.shield_from_cancel().await);
        assert_eq!(slot.cancel().await, 0);
        lease.bind_cancel(&slot);
        assert_eq!(slot.targets().len(), 1);
        lease.release();
        assert!(slot.targets().is_empty());
    });
}
