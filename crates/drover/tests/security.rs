//! Who may come in, end to end: certificates by rules and maps, and SCRAM passed through to several shards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use testkit::TestCluster;
use testkit::client::{Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};

const PATIENCE: Duration = Duration::from_secs(60);

fn site(shards: u16) -> ProxySite {
    ProxySite::new(
        TestCluster::shared(shards),
        Path::new(env!("CARGO_BIN_EXE_drover")),
    )
}

/// An authority, which writes what it signs into the site's directory.
struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(directory: &Path) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("signed");
        std::fs::write(directory.join("ca.pem"), cert.pem()).expect("written");
        Authority {
            directory: directory.to_owned(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes `<name>.crt` and `<name>.key`.
    fn sign(&self, name: &str, common_name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let address = "127.0.0.1".parse().expect("an address");
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        let file = |extension: &str| self.directory.join(format!("{name}.{extension}"));
        std::fs::write(file("crt"), cert.pem()).expect("written");
        std::fs::write(file("key"), key.serialize_pem()).expect("written");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(file("key"), private).expect("changed");
    }
}

/// Logs in by psql with a certificate of the directory, or without any; who one is then.
fn psql(proxy: &DroverProxy, directory: &Path, certificate: Option<&str>) -> Result<String, String> {
    let target = proxy.target();
    let mut text = format!(
        "host={} port={} dbname={} user={} sslmode=verify-full sslrootcert={} connect_timeout=20",
        target.host,
        target.port,
        target.database,
        target.user,
        directory.join("ca.pem").display()
    );
    if let Some(name) = certificate {
        let file = |extension: &str| directory.join(format!("{name}.{extension}"));
        text += &format!(
            " sslcert={} sslkey={}",
            file("crt").display(),
            file("key").display()
        );
    }
    let output = Command::new("/usr/lib/postgresql/15/bin/psql")
        .args(["-XAtqw", "-d", &text, "-c", "SELECT current_user"])
        .env("HOME", "/nonexistent")
        .output()
        .expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

#[test]
fn a_certificate_logs_in_by_a_rule_and_a_map() {
    let site = site(1);
    let directory = site.directory();
    let user = &TestCluster::shared(1).info().app_user;
    let authority = Authority::new(directory);
    authority.sign("proxy", "proxy");
    authority.sign("own", &format!("{user}@example.com"));
    authority.sign("plain", user);
    authority.sign("other", "mallory@example.com");
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("written");
    file(
        "hba",
        "hostssl all all 127.0.0.1/32 cert map=mail\nhost all all all reject\n",
    );
    file("ident", "mail /^(.*)@example\\.com$ \\1\n");
    let more = "[tls]\nclient_mode = 'require'\nclient_cert = 'proxy.crt'\nclient_key = 'proxy.key'\nclient_ca = 'ca.pem'\n\
                [auth]\nhba_file = 'hba'\nident_file = 'ident'\n[store]\n";
    let text = site.config("p").replacen("[store]\n", more, 1);
    let proxy = site.start_as("p", "p", &text, &[]);
    let log_in = |certificate| psql(&proxy, directory, certificate);
    assert_eq!(log_in(Some("own")).as_deref(), Ok(user.as_str()));
    for (certificate, why) in [
        (None, "valid client certificate"),
        (Some("plain"), "certificate authentication failed"),
        (Some("other"), "certificate authentication failed"),
    ] {
        let error = log_in(certificate).expect_err("must be refused");
        assert!(error.contains(why), "{certificate:?}: {error}");
    }
    let clear = Client::open(proxy.target()).expect_err("in clear").to_string();
    assert!(clear.contains("28000"), "{clear}");

    // Without the map the common name itself is the user's.
    file("hba", "hostssl all all 127.0.0.1/32 cert\n");
    proxy.signal("HUP");
    let deadline = Instant::now() + PATIENCE;
    while log_in(Some("plain")).as_deref() != Ok(user.as_str()) {
        assert!(
            Instant::now() < deadline,
            "{:?}\n{}",
            log_in(Some("plain")),
            proxy.log()
        );
    }
    assert!(log_in(Some("own")).is_err());
}

/// A client of one shard's server, as Drover's own role.
fn shard(number: usize) -> Client {
    let info = TestCluster::shared(2).info();
    let (user, password) = (&info.admin_user, info.admin_password.expose());
    let primary = &info.shards[number].primary;
    let url = format!(
        "postgresql://{user}:{password}@{}:{}/postgres",
        primary.host, primary.port
    );
    Client::connect(&url).expect("connects")
}

fn good(client: &mut Client, sql: &str) -> Option<String> {
    let answer = client.simple(sql).expect("an answer");
    assert_eq!(answer.errors, [], "{sql}");
    answer.value()
}

#[test]
fn verifiers_that_differ_are_found_at_the_start_and_at_the_login() {
    const STORED: &str = "SELECT rolpassword FROM pg_authid WHERE rolname = 'passed_through'";
    let (mut first, mut second) = (shard(0), shard(1));
    for shard in [&mut first, &mut second] {
        // The same password with another salt is another verifier.
        good(shard, "DROP ROLE IF EXISTS passed_through");
        good(shard, "CREATE ROLE passed_through LOGIN PASSWORD 'sesame'");
    }
    let stored = good(&mut first, STORED).expect("a verifier");
    assert_ne!(good(&mut second, STORED).as_ref(), Some(&stored));
    let site = site(2);
    let user = format!("[[users]]\nname = 'passed_through'\npassword = '{stored}'\n");
    let proxy = site.start_with("p", &user);
    let says = "the password verifier on \"shard_2\" is another one";
    let deadline = Instant::now() + PATIENCE;
    while !proxy.log().contains(says) {
        assert!(
            Instant::now() < deadline,
            "nothing is said at the start:\n{}",
            proxy.log()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let target = |password: &str| {
        let own = proxy.target();
        let url = format!(
            "postgresql://passed_through:{password}@{}:{}/{}",
            own.host, own.port, own.database
        );
        Target::parse(&url).expect("a URL")
    };
    let refused = Client::open(&target("sesame"))
        .expect_err("they differ")
        .to_string();
    assert!(refused.contains(says), "{refused}");
    let wrong = Client::open(&target("simsim"))
        .expect_err("a wrong password")
        .to_string();
    assert!(
        !wrong.contains("verifier"),
        "who does not know the password is not told: {wrong}"
    );

    good(
        &mut second,
        &format!("ALTER ROLE passed_through PASSWORD '{stored}'"),
    );
    let deadline = Instant::now() + PATIENCE;
    let mut client = loop {
        match Client::open(&target("sesame")) {
            Ok(client) => break client,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    // Both shards let it in.
    let mut owner = proxy.client();
    good(&mut owner, "CREATE TABLE seen (id int PRIMARY KEY)");
    good(&mut owner, "SELECT drover.shard_table('seen', key => 'id')");
    good(
        &mut owner,
        "INSERT INTO seen VALUES (1), (2), (3), (4), (5), (6), (7), (8)",
    );
    good(&mut owner, "GRANT SELECT ON seen TO passed_through");
    assert_eq!(
        good(&mut client, "SELECT count(*) FROM seen").as_deref(),
        Some("8")
    );
    for shard in [&mut first, &mut second] {
        let _ = shard.simple("DROP OWNED BY passed_through");
    }
}
