//! Every method against a real server, through psql.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use testkit::TestPostgres;
use testkit::client::Client;

use crate::auth::hba::{Hba, Networks};
use crate::auth::{AuthConfig, AuthQuery, Credential, Method};
use crate::config::{ClientAuth, ProxyConfig, UnixSocketConfig, UserConfig, UserLimits};
use crate::listener::Proxy;
use crate::login::ident::IdentMaps;
use crate::testing;

fn user(name: &str, auth: ClientAuth, server_password: Option<&str>) -> UserConfig {
    UserConfig {
        name: name.into(),
        auth,
        server_password: server_password.map(str::to_owned),
        limits: UserLimits::default(),
    }
}

/// A proxy for a database of its own, and the database's name.
fn proxy(server: &TestPostgres, change: impl FnOnce(&mut ProxyConfig)) -> (Proxy, String) {
    let database = server.create_database();
    let mut config = testing::config(server, &database);
    change(&mut config);
    (testing::proxy(config), database)
}

/// What psql prints, or what it says is wrong.
fn psql(proxy: &Proxy, database: &str, user: &str, password: &str) -> Result<String, String> {
    let address = proxy.address();
    psql_at(
        &address.ip().to_string(),
        address.port(),
        database,
        user,
        password,
    )
}

fn psql_at(host: &str, port: u16, database: &str, user: &str, password: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-w", "-h", host, "-p"])
        .args([&port.to_string(), "-U", user, "-d", database])
        .args(["-c", "SELECT current_user"])
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "30")
        .output()
        .expect("psql runs");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn wrong(user: &str) -> String {
    format!("FATAL:  password authentication failed for user \"{user}\"")
}

fn assert_refused(result: Result<String, String>, message: &str) {
    let said = result.expect_err("must be refused");
    assert!(said.contains(message), "{said} instead of {message}");
}

fn verifier(password: &str) -> String {
    let made = wire::scram::Verifier::from_password(password.as_bytes(), b"0123456789abcdef", 4096);
    made.expect("made").to_string()
}

fn counted(proxy: &Proxy, name: &str) -> u64 {
    let sums = proxy.shared().metrics.sums();
    let found = sums.iter().find(|(metric, _)| metric.name == name);
    found.map(|(_, value)| *value).expect("the metric exists")
}

/// Replaces the rules of a server.
fn set_server_rules(server: &TestPostgres, rules: &str) {
    let database = server.info().database.clone();
    server.run(
        &database,
        &format!(
            "DO $do$ BEGIN EXECUTE format('COPY (SELECT unnest(string_to_array(%L, '';''))) TO %L', '{rules}', \
             current_setting('hba_file')); END $do$; SELECT pg_reload_conf()"
        ),
    );
}

#[test]
fn each_method_takes_what_it_can_check() {
    let server = TestPostgres::shared();
    let names = ["am_clear", "am_md5", "am_scram"];
    for name in names {
        server.run(
            &server.info().database,
            &format!("CREATE ROLE {name} LOGIN PASSWORD 'server side'"),
        );
    }
    for method in [Method::Scram, Method::Md5, Method::Password] {
        let (proxy, database) = proxy(server, |config| {
            config.auth.method = method;
            let stored = [
                ClientAuth::Password("sesame".into()),
                ClientAuth::Md5(wire::md5::hash("am_md5", b"sesame")),
                ClientAuth::Verifier(verifier("sesame")),
            ];
            for (name, auth) in names.into_iter().zip(stored) {
                config.users.push(user(name, auth, Some("server side")));
            }
        });
        for name in names {
            let result = psql(&proxy, &database, name, "sesame");
            // SCRAM cannot be checked against an md5 password: to the client, a wrong password.
            if (method, name) == (Method::Scram, "am_md5") {
                assert_refused(result, &wrong(name));
            } else {
                assert_eq!(result.as_deref(), Ok(name), "{method:?}");
            }
            assert_refused(psql(&proxy, &database, name, "Sesame"), &wrong(name));
        }
        assert_refused(
            psql(&proxy, &database, "am_nobody", "sesame"),
            &wrong("am_nobody"),
        );
    }
}

#[test]
fn rules_decide_by_the_first_match() {
    let server = TestPostgres::shared();
    server.run(&server.info().database, "CREATE ROLE hb_free LOGIN PASSWORD 'x'");
    let (proxy, database) = proxy(server, |config| {
        let text = "host all hb_denied all reject\nhost all hb_free,hb_nobody 127.0.0.1/32 trust\n\
                    hostssl all hb_tls all scram-sha-256\nhost /^no$ all all scram-sha-256\n\
                    hostssl all all all cert\n";
        let hba = Hba::parse(text, Networks::default()).expect("good rules");
        config.auth.hba = Some(Arc::new(hba));
        for name in ["hb_denied", "hb_free", "hb_tls"] {
            config.users.push(user(name, ClientAuth::None, Some("x")));
        }
    });
    assert_eq!(psql(&proxy, &database, "hb_free", "").as_deref(), Ok("hb_free"));
    let host = format!("host \"127.0.0.1\", user \"hb_denied\", database \"{database}\", no encryption");
    assert_refused(
        psql(&proxy, &database, "hb_denied", "x"),
        &format!("FATAL:  pg_hba.conf rejects connection for {host}"),
    );
    for name in ["hb_tls", "hb_unheard_of"] {
        let host = format!("host \"127.0.0.1\", user \"{name}\", database \"{database}\", no encryption");
        assert_refused(
            psql(&proxy, &database, name, "x"),
            &format!("FATAL:  no pg_hba.conf entry for {host}"),
        );
    }
    assert_refused(
        psql(&proxy, &database, "hb_nobody", "x"),
        "FATAL:  role \"hb_nobody\" does not exist",
    );
    // Without a password nothing fits.
    assert_refused(psql(&proxy, "no", "hb_tls", "x"), &wrong("hb_tls"));
}

#[test]
fn peers_are_who_the_system_says() {
    let server = TestPostgres::shared();
    server.run(
        &server.info().database,
        "CREATE ROLE pe_mapped LOGIN PASSWORD 'x'; CREATE ROLE pe_other LOGIN PASSWORD 'x'",
    );
    let own = nix::unistd::User::from_uid(nix::unistd::Uid::current());
    let own = own.expect("readable").expect("known").name;
    let directory = testkit::reaper::ReapedDir::new();
    let (proxy, database) = proxy(server, |config| {
        let hba = Hba::parse("local all all peer map=m\n", Networks::default());
        config.auth.hba = Some(Arc::new(hba.expect("good rules")));
        let maps = IdentMaps::parse(&format!("m {own} pe_mapped\nm nobody_here pe_other\n"));
        config.auth.ident = Some(Arc::new(maps.expect("good maps")));
        config.unix_socket = Some(UnixSocketConfig {
            directory: directory.path().to_owned(),
            mode: 0o777,
        });
        for name in ["pe_mapped", "pe_other"] {
            config.users.push(user(name, ClientAuth::None, Some("x")));
        }
    });
    let host = directory.path().display().to_string();
    let log_in = |name: &str| psql_at(&host, proxy.address().port(), &database, name, "");
    assert_eq!(log_in("pe_mapped").as_deref(), Ok("pe_mapped"));
    assert_refused(
        log_in("pe_other"),
        "FATAL:  Peer authentication failed for user \"pe_other\"",
    );
    let over_tcp =
        format!("no pg_hba.conf entry for host \"127.0.0.1\", user \"pe_mapped\", database \"{database}\"");
    assert_refused(psql(&proxy, &database, "pe_mapped", "x"), &over_tcp);
}

fn query(server: &TestPostgres, sql: &str) -> Arc<AuthQuery> {
    let info = server.info();
    Arc::new(AuthQuery {
        sql: sql.into(),
        user: info.admin_user.clone(),
        password: Some(info.admin_password.expose().to_owned()),
        database: None,
        ttl: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(600),
        timeout: Duration::from_secs(20),
        entries_max: 100,
    })
}

const SHADOW: &str = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1";

#[test]
fn users_are_looked_up_and_follow_a_changed_password() {
    let server = TestPostgres::start();
    let info = server.info();
    server.run(
        &info.database,
        "CREATE ROLE looked_up LOGIN PASSWORD 'first'; CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2000-01-01'; \
         CREATE ROLE no_login PASSWORD 'x'; CREATE ROLE no_password LOGIN",
    );
    let (proxy, database) = proxy(&server, |config| {
        config.auth.query = Some(query(&server, SHADOW));
    });
    let log_in = |name: &str, password: &str| psql(&proxy, &database, name, password);
    for _ in 0..3 {
        assert_eq!(log_in("looked_up", "first").as_deref(), Ok("looked_up"));
    }
    assert_eq!(counted(&proxy, "drover_auth_queries_total"), 1);
    assert_eq!(counted(&proxy, "drover_auth_query_hits_total"), 2);
    for name in ["expired", "no_login", "no_password", "unknown", "x' OR true --"] {
        assert_refused(log_in(name, "x"), &wrong(name));
        assert_refused(log_in(name, ""), "");
    }
    // Users that do not exist are asked for once.
    assert_eq!(counted(&proxy, "drover_auth_queries_total"), 6);

    server.run(&info.database, "ALTER ROLE looked_up PASSWORD 'second'");
    let deadline = Instant::now() + Duration::from_secs(30);
    while log_in("looked_up", "second").is_err() {
        assert!(Instant::now() < deadline, "the new password is never taken");
    }
    assert_refused(log_in("looked_up", "first"), &wrong("looked_up"));
    assert_eq!(log_in("looked_up", "second").as_deref(), Ok("looked_up"));
}

/// A name for which the query fails, and anybody can send one, keeps nobody else out.
#[test]
fn a_lookup_that_fails_for_one_name_fails_for_that_name() {
    let server = TestPostgres::start();
    server.run(
        &server.info().database,
        "CREATE ROLE fine LOGIN PASSWORD 'x'; CREATE ROLE past LOGIN PASSWORD 'x' VALID UNTIL '-infinity'",
    );
    let (proxy, database) = proxy(&server, |config| {
        let sql = format!("{SHADOW} AND 1 / (CASE WHEN $1 = 'poison' THEN 0 ELSE 1 END) = 1");
        let query = AuthQuery::clone(&query(&server, &sql));
        // Nothing is remembered: each login asks.
        let ttl = Duration::ZERO;
        config.auth.query = Some(Arc::new(AuthQuery { ttl, ..query }));
    });
    for _ in 0..2 {
        let poison = psql(&proxy, &database, "poison", "x");
        assert_refused(poison, "FATAL:  cannot look up users now");
        assert_refused(psql(&proxy, &database, "past", "x"), &wrong("past"));
        assert_eq!(psql(&proxy, &database, "fine", "x").as_deref(), Ok("fine"));
    }
}

/// A role's own `search_path` cannot put another table in the catalog's place.
#[test]
fn lookups_do_not_follow_a_search_path() {
    let server = TestPostgres::start();
    let info = server.info();
    let (proxy, database) = proxy(&server, |config| {
        config.auth.query = Some(query(&server, SHADOW));
    });
    server.run(
        &database,
        &format!(
            "CREATE ROLE ghost LOGIN; CREATE TABLE public.pg_shadow AS SELECT 'ghost'::text AS usename, \
             'sesame'::text AS passwd; ALTER ROLE {} SET search_path = public, pg_catalog",
            info.admin_user
        ),
    );
    assert_refused(psql(&proxy, &database, "ghost", "sesame"), &wrong("ghost"));
}

#[test]
fn a_failing_lookup_says_nothing_about_users() {
    let server = TestPostgres::shared();
    let (proxy, database) = proxy(server, |config| {
        config.auth.query = Some(query(server, "SELECT usename FROM nowhere WHERE usename = $1"));
    });
    for name in ["one", "another"] {
        assert_refused(
            psql(&proxy, &database, name, "x"),
            "FATAL:  cannot look up users now",
        );
    }
    assert_eq!(counted(&proxy, "drover_auth_queries_failed_total"), 2);
    let info = server.info();
    let own = psql(&proxy, &database, &info.app_user, info.app_password.expose());
    assert_eq!(own.as_deref(), Ok(info.app_user.as_str()));
}

#[test]
fn pass_through_needs_the_same_verifier_on_the_shard() {
    let server = TestPostgres::shared();
    let stored = verifier("sesame");
    server.run(
        &server.info().database,
        &format!(
            "CREATE ROLE pt_same LOGIN PASSWORD '{stored}'; CREATE ROLE pt_other LOGIN PASSWORD 'sesame'"
        ),
    );
    let (proxy, database) = proxy(server, |config| {
        for name in ["pt_same", "pt_other", "pt_missing"] {
            config
                .users
                .push(user(name, ClientAuth::Verifier(stored.clone()), None));
        }
    });
    assert_eq!(
        psql(&proxy, &database, "pt_same", "sesame").as_deref(),
        Ok("pt_same")
    );
    assert_refused(
        psql(&proxy, &database, "pt_other", "sesame"),
        "cannot be passed through: the password verifier on \"shard_1\" is another one",
    );
    assert_refused(
        psql(&proxy, &database, "pt_missing", "sesame"),
        "cannot be passed through: the role does not exist on \"shard_1\"",
    );
    // Who does not know the password is not told.
    assert_refused(psql(&proxy, &database, "pt_other", "x"), &wrong("pt_other"));
    assert_eq!(counted(&proxy, "drover_auth_disagreements_total"), 2);
}

#[test]
fn an_md5_password_answers_md5_servers_and_no_others() {
    let server = TestPostgres::start();
    let hash = wire::md5::hash("old", b"sesame");
    server.run(
        &server.info().database,
        &format!("CREATE ROLE old LOGIN PASSWORD '{hash}'"),
    );
    let (proxy, database) = proxy(&server, |config| {
        config.auth.method = Method::Md5;
        config
            .users
            .push(user("old", ClientAuth::Md5(hash.clone()), None));
    });
    assert_refused(
        psql(&proxy, &database, "old", "sesame"),
        "login to \"shard_1\" failed",
    );
    set_server_rules(
        &server,
        "host all old 127.0.0.1/32 md5;host all all all scram-sha-256",
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while psql(&proxy, &database, "old", "sesame").as_deref() != Ok("old") {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            psql(&proxy, &database, "old", "sesame")
        );
    }
}

#[test]
fn shards_may_be_shown_another_role() {
    let server = TestPostgres::shared();
    server.run(
        &server.info().database,
        "CREATE ROLE cr_back LOGIN PASSWORD 'back'",
    );
    let (proxy, database) = proxy(server, |config| {
        config
            .users
            .push(user("cr_front", ClientAuth::Verifier(verifier("front")), None));
        config.auth.credentials = vec![
            Credential {
                user: "cr_front".into(),
                shard: None,
                server_user: None,
                password: None,
            },
            Credential {
                user: "cr_front".into(),
                shard: Some("shard_1".into()),
                server_user: Some("cr_back".into()),
                password: Some("back".into()),
            },
        ];
    });
    assert_eq!(
        psql(&proxy, &database, "cr_front", "front").as_deref(),
        Ok("cr_back")
    );
}

#[test]
fn users_change_while_clients_are_connected() {
    let server = TestPostgres::shared();
    let (proxy, database) = proxy(server, |_| {});
    let info = server.info();
    let mut client = Client::connect(&testing::url(&proxy, server, &database)).expect("logs in");
    let shared = proxy.shared();
    let changed = user(
        &info.app_user,
        ClientAuth::Password("changed".into()),
        Some(info.app_password.expose()),
    );
    shared
        .secrets
        .replace(&[changed], AuthConfig::default())
        .expect("replaced");
    let log_in = |password: &str| psql(&proxy, &database, &info.app_user, password);
    assert_eq!(log_in("changed").as_deref(), Ok(info.app_user.as_str()));
    assert_refused(log_in(info.app_password.expose()), &wrong(&info.app_user));
    shared
        .secrets
        .replace(&[], AuthConfig::default())
        .expect("replaced");
    assert_refused(log_in("changed"), &wrong(&info.app_user));
    client.simple("SELECT 1").expect("the session goes on");
    // What cannot be used changes nothing.
    let broken = user("x", ClientAuth::Verifier("SCRAM-SHA-256$x".into()), None);
    assert!(shared.secrets.replace(&[broken], AuthConfig::default()).is_err());
    assert_refused(log_in("changed"), &wrong(&info.app_user));
}

/// The salt of a user that does not exist is the same at every attempt, and that of a password in clear too.
#[test]
fn salts_do_not_tell_who_exists() {
    let server = TestPostgres::shared();
    let configured = || {
        let (proxy, _) = proxy(server, |config| {
            config.auth.salt_secret = Some([7; 32]);
            config
                .users
                .push(user("sa_clear", ClientAuth::Password("x".into()), None));
        });
        proxy
    };
    let proxies = [configured(), configured()];
    for name in ["sa_clear", "sa_nobody"] {
        let salts = [0, 0, 1].map(|at: usize| salt(&proxies[at], name));
        assert!(salts[0].contains(",i=4096"), "{}", salts[0]);
        assert!(salts.iter().all(|salt| *salt == salts[0]), "{salts:?}");
    }
    assert_ne!(salt(&proxies[0], "sa_clear"), salt(&proxies[0], "sa_nobody"));
}

/// What follows the nonce in the first message of a SCRAM exchange.
fn salt(proxy: &Proxy, user: &str) -> String {
    let mut socket = TcpStream::connect(proxy.address()).expect("connects");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("settable");
    let body = format!("\0\x03\0\0user\0{user}\0\0");
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body.as_bytes());
    socket.write_all(&packet).expect("sent");
    assert!(body_of_next(&mut socket).contains("SCRAM-SHA-256"));
    let first = b"n,,n=,r=abcdefghijklmnop";
    let mut message = b"SCRAM-SHA-256\0".to_vec();
    message.extend((first.len() as u32).to_be_bytes());
    message.extend(first);
    let mut packet = vec![b'p'];
    packet.extend((message.len() as u32 + 4).to_be_bytes());
    packet.extend(message);
    socket.write_all(&packet).expect("sent");
    let challenge = body_of_next(&mut socket);
    let at = challenge.find(",s=").expect("a salt");
    challenge[at..].to_owned()
}

fn body_of_next(socket: &mut TcpStream) -> String {
    let mut head = [0; 5];
    socket.read_exact(&mut head).expect("an answer");
    let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
    socket.read_exact(&mut body).expect("an answer");
    String::from_utf8_lossy(&body).into_owned()
}

/// For measuring by hand: what a login by SCRAM costs, client included.
#[test]
#[ignore = "a measurement, not a test"]
fn a_hundred_logins() {
    let server = TestPostgres::shared();
    let (proxy, database) = proxy(server, |_| {});
    let url = testing::url(&proxy, server, &database);
    let first = Client::connect(&url).expect("logs in");
    let start = Instant::now();
    let clients: Vec<Client> = (0..100)
        .map(|_| Client::connect(&url).expect("logs in"))
        .collect();
    println!("{} logins in {:?}", clients.len(), start.elapsed());
    drop(first);
}
