use std::collections::BTreeMap;

use drover::config::Config;

use super::options::{DATABASE_OPTIONS, USER_OPTIONS};
use super::*;

/// Translates `pgbouncer.ini` out of these files.
fn import(files: &[(&str, &str)]) -> (Config, Translation) {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let translation = translate("pgbouncer.ini", &mut |name| {
        let text = files.get(name).map(|text| (*text).to_owned());
        text.ok_or_else(|| "No such file or directory".to_owned())
    });
    match Config::parse(&translation.toml) {
        Ok(config) => (config, translation),
        Err(error) => panic!("{error:?}\n{}", translation.toml),
    }
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn a_web_application_keeps_its_sizes_and_users() {
    let users = format!("\"web\" \"{SCRAM}\"\n\"ops\" \"clear \"\"text\"\"\"\n");
    let ini = "
;; an ordinary installation
[databases]
app = host=10.0.0.5 port=5433 dbname=app_production pool_size=40 pool_mode=session
reports = host=10.0.0.5 port=5433 user=web connect_query='SET x = 1'

[users]
web = pool_mode=transaction max_user_connections=25

[pgbouncer]
listen_addr = *
listen_port = 6433
unix_socket_dir = /run/pgbouncer
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
admin_users = ops
stats_users = ops, web
pool_mode = transaction
max_client_conn = 5000
default_pool_size = 30
reserve_pool_size = 5
reserve_pool_timeout = 1.5
query_wait_timeout = 20
server_idle_timeout = 0
idle_transaction_timeout = 60
ignore_startup_parameters = extra_float_digits
server_reset_query = DISCARD ALL
logfile = /var/log/pgbouncer.log
tcp_keepidle = 30
";
    let (config, translation) = import(&[("pgbouncer.ini", ini), ("/etc/pgbouncer/userlist.txt", &users)]);
    assert_eq!(config.proxy.listen.first.to_string(), "0.0.0.0:6433");
    assert_eq!(config.shards[0].primary.to_string(), "10.0.0.5:5433");
    let names: Vec<&str> = config.databases.iter().map(|it| it.name.0.as_str()).collect();
    assert_eq!(names, ["app", "reports"]);
    assert_eq!(
        config.databases[0].dbname.as_ref().map(|name| name.0.as_str()),
        Some("app_production")
    );
    assert_eq!(config.databases[0].pool_size, Some(40));
    assert_eq!((config.pool.pool_size, config.pool.reserve_pool), (30, 5));
    assert_eq!(config.pool.reserve_pool_timeout.as_millis(), 1500);
    assert_eq!(config.pool.connection_timeout.as_secs(), 20);
    assert_eq!(config.pool.connect_timeout.as_secs(), 15, "PgBouncer's default");
    assert!(config.pool.idle_timeout.is_zero());
    assert_eq!(config.limits.max_clients, 5000);
    assert_eq!(config.limits.idle_transaction_timeout.as_secs(), 60);
    assert_eq!(config.users.len(), 2);
    assert_eq!(config.users[0].max_user_connections, Some(25));
    assert_eq!(config.console.admin_users[0].0, "ops");
    assert_eq!(config.console.stats_users.len(), 2);
    assert!(
        has(&translation.lost, "pgbouncer.ini:5: `reports: connect_query`"),
        "{:?}",
        translation.lost
    );
    assert!(has(&translation.lost, "`tcp_keepidle`"), "{:?}", translation.lost);
    assert!(has(&translation.needless, "`ignore_startup_parameters`"));
    assert!(has(&translation.needless, "`logfile`"));
}

#[test]
fn defaults_that_differ_are_written_out() {
    let ini = "[databases]\n* = host=db.example.com\n[pgbouncer]\nlisten_addr = 127.0.0.1\n";
    let (config, translation) = import(&[("pgbouncer.ini", ini)]);
    assert_eq!(config.databases[0].name.0, "*");
    assert_eq!(config.limits.max_clients, 100);
    assert_eq!(config.pool.connection_timeout.as_secs(), 120);
    assert!(
        translation.toml.contains("pool_mode = \"session\""),
        "{}",
        translation.toml
    );
    assert!(
        translation.toml.contains("unix_socket_dir = \"/tmp\""),
        "{}",
        translation.toml
    );
    assert!(has(&translation.lost, "no user with a password is known"));
}

#[test]
fn includes_other_servers_and_old_secrets_are_told() {
    let main = "[databases]\na = host=one port=1\nb = host=one port=1\nc = host=two,three\n%include more.ini\n%include gone.ini\n";
    let more = "[pgbouncer]\nauth_file = users\nauth_type = ldap\nnonsense = 1\npool_mode = session\npool_mode = statement\n\
                client_tls_ciphers = HIGH\nserver_round_robin = 1\ndisable_pqexec = 0\nthis is no line\n[peers]\n1 = host=x\n";
    let users =
        "\"old\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n\"new\" \"secret\"\n\"new\" \"again\"\nbroken\n";
    let (config, translation) = import(&[("pgbouncer.ini", main), ("more.ini", more), ("users", users)]);
    let lost = &translation.lost;
    assert_eq!(config.databases.len(), 2);
    for text in [
        "pgbouncer.ini:4: `c`: one host can be given; left out: three",
        "pgbouncer.ini:4: `c`: it is on two:5432, the others on one:1",
        "gone.ini: No such file",
        "more.ini:4: `nonsense`: PgBouncer 1.25 has no such option",
        "`client_tls_ciphers`",
        "`server_round_robin`: 1 cannot be had",
        "more.ini:10: this line cannot be read",
        "user `new` is there twice",
        "users:4: this line cannot be read",
        "`auth_type`: `ldap` cannot be had",
    ] {
        assert!(has(lost, text), "{text}\n{lost:#?}");
    }
    assert!(has(
        &translation.needless,
        "more.ini:5: `pool_mode`: a later line says otherwise"
    ));
    assert!(has(&translation.needless, "`disable_pqexec`"));
    assert!(has(&translation.needless, "[peers]") || has(&translation.needless, "more.ini:12: `1`"));
    assert!(translation.toml.contains("pool_mode = \"statement\""));
}

#[test]
fn several_addresses_are_listened_on() {
    let ini = "[databases]\na = host=h\n[pgbouncer]\nlisten_addr = 127.0.0.1, ::1,nowhere, localhost\nlisten_port = 7000\n";
    let translation = translate("x.ini", &mut |_| Ok(ini.to_owned()));
    let wanted = "listen = [\"127.0.0.1:7000\", \"[::1]:7000\"]";
    assert!(translation.toml.contains(wanted), "{}", translation.toml);
    assert!(has(&translation.lost, "`nowhere` is not an IP address"));
}

#[test]
fn every_option_leaves_a_trace() {
    for (key, fate) in OPTIONS {
        let value = match key {
            &"pool_mode" => "transaction",
            &"auth_file" | &"unix_socket_dir" => "/x",
            &"listen_addr" => "10.1.2.3",
            &"unix_socket_mode" => "0700",
            _ => "7",
        };
        let ini = format!("[databases]\na = host=h\n[pgbouncer]\n{key} = {value}\n");
        let translation = translate("x.ini", &mut |_| Ok(ini.clone()));
        let written = translation.toml.contains(value);
        let told =
            has(&translation.lost, &format!("`{key}`")) || has(&translation.needless, &format!("`{key}`"));
        assert!(written || told, "{key} ({fate:?}) is dropped in silence");
    }
}

#[test]
fn users_are_looked_up_as_before() {
    let ini = "[databases]\na = host=h\n[pgbouncer]\nauth_user = finder\nauth_file = u\nauth_type = plain\nlog_connections = 0\n";
    let (config, translation) = import(&[("pgbouncer.ini", ini), ("u", "\"finder\" \"secret\"\n")]);
    assert!(config.auth.auth_query.is_some());
    assert!(
        translation.toml.contains("auth_password = \"secret\""),
        "{}",
        translation.toml
    );
    assert!(
        translation.toml.contains("method = \"password\""),
        "{}",
        translation.toml
    );
    assert!(
        translation.toml.contains("connections = false"),
        "{}",
        translation.toml
    );
}

#[test]
fn hostile_text_stays_text() {
    let ini = "[databases]\n\"x\"\"\\y\" = host=h\n[pgbouncer]\nadmin_users = a\"b\n";
    let (config, _) = import(&[("pgbouncer.ini", ini)]);
    assert_eq!(config.databases[0].name.0, "x\"\\y");
}

#[test]
fn what_becomes_of_options_is_there() {
    let all = OPTIONS.iter().chain(DATABASE_OPTIONS).chain(USER_OPTIONS);
    let missing: Vec<_> = all
        .filter_map(|(_, fate)| match fate {
            Fate::Becomes(section, key, _) if !has_option(section, key) => Some(format!("{section}.{key}")),
            _ => None,
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
