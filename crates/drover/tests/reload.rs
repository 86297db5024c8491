//! SIGHUP: a running proxy takes over a changed configuration, or none of it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};

const PATIENCE: Duration = Duration::from_secs(60);

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(1), Path::new(env!("CARGO_BIN_EXE_drover")))
}

/// The configuration file of the proxy `one`.
fn file(site: &ProxySite) -> PathBuf {
    site.store().with_file_name("one.toml")
}

/// Writes the configuration, asks the proxy to read it, and waits until its log says so `times` times.
fn reload(site: &ProxySite, proxy: &DroverProxy, text: &str, says: &str, times: usize) {
    std::fs::write(file(site), text).expect("the configuration");
    proxy.signal("HUP");
    let deadline = Instant::now() + PATIENCE;
    while proxy.log().matches(says).count() < times {
        assert!(Instant::now() < deadline, "no `{says}` in:\n{}", proxy.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn log_in(proxy: &DroverProxy, user: &str, password: &str) -> Result<Client, String> {
    let (address, database) = (&proxy.target().host, &proxy.target().database);
    let port = proxy.target().port;
    let url = format!("postgresql://{user}:{password}@{address}:{port}/{database}");
    let target = Target::parse(&url).expect("a URL");
    Client::open(&target).map_err(|error| error.to_string())
}

#[test]
fn a_changed_file_is_taken_over_whole_or_not_at_all() {
    let site = site();
    let proxy = site.start("one");
    let before = std::fs::read_to_string(file(&site)).expect("the configuration");
    let info = TestCluster::shared(1).info();
    let (user, password) = (info.app_user.as_str(), info.app_password.expose());
    let mut client = proxy.client();
    client.simple("SELECT 1").expect("runs");

    // Wrong in one place: nothing of it is taken over, not even what is right.
    let wrong = before.replace(&format!("password = '{password}'"), "password = 'hunter2'")
        + "[pool]\npol_size = 3\n";
    reload(&site, &proxy, &wrong, "the configuration was not reloaded", 1);
    let log = proxy.log();
    assert!(
        log.contains("one.toml:") && log.contains("unknown option `pol_size` in [pool]"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
    log_in(&proxy, user, password).expect("the old password");

    // Another password, and a rule for everybody; the server still gets the right one.
    std::fs::write(
        file(&site).with_file_name("hba.conf"),
        "host all all 127.0.0.1/32 scram-sha-256\n",
    )
    .expect("rules");
    let changed = before.replace(
        &format!("password = '{password}'\n[["),
        &format!("password = 'hunter2'\nserver_password = '{password}'\n[["),
    );
    let changed = changed.replace("workers = 2", "workers = 3") + "[auth]\nhba_file = 'hba.conf'\n";
    reload(&site, &proxy, &changed, "configuration reloaded", 1);
    assert!(
        proxy
            .log()
            .contains("[proxy] workers: the change needs a restart"),
        "{}",
        proxy.log()
    );
    log_in(&proxy, user, "hunter2").expect("the new password");
    assert!(
        log_in(&proxy, user, password).is_err(),
        "the old password is of no use any more"
    );

    std::fs::write(
        file(&site).with_file_name("hba.conf"),
        "host all nobody all trust\n",
    )
    .expect("rules");
    reload(&site, &proxy, &changed, "configuration reloaded", 2);
    let refused = log_in(&proxy, user, "hunter2").err().unwrap_or_default();
    assert!(
        refused.contains("no pg_hba.conf entry for host \"127.0.0.1\""),
        "{refused}"
    );

    client
        .simple("SELECT 1")
        .expect("who is connected stays connected");
    assert!(!proxy.log().contains("hunter2"), "{}", proxy.log());
}

/// Who does not get in cannot write lines of the log either.
#[test]
fn how_replicas_are_used_changes_at_run_time() {
    let site = site();
    let proxy = site.start("one");
    let before = std::fs::read_to_string(file(&site)).expect("the configuration");
    let mut client = proxy.client();
    let mut shown = || {
        let answer = client.simple("SHOW drover.failover_buffer_ms").expect("runs");
        answer.value().expect("a value")
    };
    assert_eq!(shown(), "10000");
    let changed =
        before + "[replicas]\nfailover_buffer = '2s'\nzone = 'b'\nsafe_functions = ['pg_catalog.random']\n";
    reload(&site, &proxy, &changed, "configuration reloaded", 1);
    assert_eq!(shown(), "2000");
    let log = proxy.log();
    assert!(
        log.lines()
            .any(|line| line.contains("restart") && line.contains("[replicas] safe_functions")),
        "{log}"
    );
}

#[test]
fn a_name_stays_on_one_line_of_the_log() {
    let site = site();
    let text = site.config("one") + "[log]\nlevel = 'info'\n";
    let proxy = site.start_as("one", "one", &text, &[]);
    let mut target = proxy.target().clone();
    target.user = "nobody\nFORGED".to_owned();
    assert!(Client::open(&target).is_err());
    let deadline = Instant::now() + PATIENCE;
    while !proxy.log().contains("login failed") {
        assert!(Instant::now() < deadline, "no failed login in:\n{}", proxy.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let log = proxy.log();
    assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
}

#[test]
fn the_console_shows_what_is_in_force() {
    let site = site();
    let user = &TestCluster::shared(1).info().app_user;
    let console = format!("[console]\nstats_users = ['{user}']\n[store]\n");
    let before = site.config("one").replacen("[store]\n", &console, 1);
    let proxy = site.start_as("one", "one", &before, &[]);
    let changed = before + "[limits]\nmax_clients = 1177\n";
    reload(&site, &proxy, &changed, "configuration reloaded", 1);
    let mut client = Client::open(&proxy.target().clone().with_database("drover")).expect("the console");
    let rows = client.simple("SHOW CONFIG").expect("answers").text_rows();
    let row = rows
        .iter()
        .find(|row| row[0].as_deref() == Some("max_client_conn"));
    assert_eq!(row.expect("it is shown")[1].as_deref(), Some("1177"));
}

/// What is logged, who may use the console, and how many statements are listed, without a restart.
#[test]
fn logs_the_console_and_statistics_change_at_run_time() {
    let site = site();
    let user = &TestCluster::shared(1).info().app_user;
    let proxy = site.start("one");
    let mut old = proxy.client();
    let console = proxy.target().clone().with_database("drover");
    assert!(Client::open(&console).is_err(), "nobody may use the console yet");
    old.simple("SELECT 1").expect("runs");

    let base = site.config("one");
    let more = format!(
        "[console]\nadmin_users = ['{user}']\n[log]\nlevel = 'info'\nslow_query = '1ms'\nconnections = true\n\
         format = 'json'\n[tracing]\notlp_endpoint = 'http://127.0.0.1:1'\nsample_ratio = 0.5\n[store]\n"
    );
    let changed = base.replacen("[store]\n", &more, 1);
    reload(&site, &proxy, &changed, "configuration reloaded", 1);
    let log = proxy.log();
    for option in ["[log] format", "[tracing] otlp_endpoint"] {
        assert!(
            log.contains(&format!("{option}: the change needs a restart")),
            "{log}"
        );
    }
    assert!(
        !log.contains("[log] level: the change") && !log.contains("sample_ratio: the"),
        "{log}"
    );
    // The connection that was there before is observed as well.
    old.simple("SELECT 'slow', pg_sleep(0.01)").expect("runs");
    let wait_for = |what: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !proxy.log().contains(what) {
            assert!(Instant::now() < deadline, "no `{what}` in:\n{}", proxy.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait_for("pg_sleep");
    drop(proxy.client());
    wait_for("login");
    let mut console = Client::open(&console).expect("the console");
    let queries = old.simple("SELECT * FROM drover.queries").expect("runs");
    assert!(!queries.text_rows().is_empty(), "{queries:?}");

    // And back, by the console and over HTTP this time.
    std::fs::write(
        file(&site),
        base.replacen("[store]\n", "[statistics]\nqueries = 0\n[store]\n", 1),
    )
    .expect("written");
    assert_eq!(console.simple("RELOAD").expect("answers").tags(), ["RELOAD"]);
    assert!(Client::open(&proxy.target().clone().with_database("drover")).is_err());
    let lines = proxy.log().lines().count();
    old.simple("SELECT 'slow again', pg_sleep(0.01)").expect("runs");
    let answer = post(proxy.http(), "/api/v1/reload");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""applied":[]"#),
        "{answer}"
    );
    assert!(
        !proxy
            .log()
            .lines()
            .skip(lines)
            .any(|line| line.contains("slow again")),
        "{}",
        proxy.log()
    );
    std::fs::write(file(&site), "[pool]\npol_size = 3\n").expect("written");
    let answer = post(proxy.http(), "/api/v1/reload");
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.contains("pol_size"),
        "{answer}"
    );
}

fn post(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("connects");
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    answer
}

#[test]
fn one_proxy_listens_at_several_addresses() {
    let site = site();
    let several = "listen = ['127.0.0.1:0', '127.0.0.2:0', '[::1]:0']";
    let text = site.config("one").replacen("listen = '127.0.0.1:0'", several, 1);
    let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let text = if has_v6 {
        text
    } else {
        text.replacen(", '[::1]:0'", "", 1)
    };
    let proxy = site.start_as("one", "one", &text, &[]);
    let more = proxy.more_addresses();
    assert_eq!(more.len(), 1 + usize::from(has_v6), "{more:?}");
    for address in more {
        let info = TestCluster::shared(1).info();
        let (user, password) = (&info.app_user, info.app_password.expose());
        let url = format!(
            "postgresql://{user}:{password}@{address}/{}",
            proxy.target().database
        );
        let mut client = Client::connect(&url).expect("connects");
        assert_eq!(
            client.simple("SELECT 5").expect("runs").value().as_deref(),
            Some("5")
        );
    }
    drop(proxy.client());
}
