//! SIGHUP: a running proxy takes over a changed configuration, or none of it.

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
