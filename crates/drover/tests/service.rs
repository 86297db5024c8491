//! Under a service manager: the sockets it opened (`LISTEN_FDS`), and what it is told (`NOTIFY_SOCKET`).

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::TestCluster;
use testkit::client::Client;
use testkit::proxy::ProxySite;

/// Descriptor 3 is what standard input was; the process id is known to the one it is meant for only.
const BECOME: &str = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";

/// Ended when dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

#[test]
fn the_manager_opens_the_socket_and_is_told() {
    let site = ProxySite::new(TestCluster::shared(1), Path::new(env!("CARGO_BIN_EXE_drover")));
    let manager_path = site.directory().join("notify");
    let manager = UnixDatagram::bind(&manager_path).expect("binds");
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("settable");
    let told = || {
        let mut text = [0; 500];
        let length = loop {
            match manager.recv(&mut text) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                told => break told.expect("the manager is told"),
            }
        };
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let config = site.directory().join("one.toml");
    let text = site.config("one");
    std::fs::write(&config, &text).expect("written");
    let child = Command::new("sh")
        .args([
            "-c",
            BECOME,
            "sh",
            env!("CARGO_BIN_EXE_drover"),
            "proxy",
            "--config",
        ])
        .arg(&config)
        .env("NOTIFY_SOCKET", &manager_path)
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a copy"))))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut service = Service(child.expect("sh"));
    let pid = service.0.id();
    // Clients may connect before the service is ready: they wait.
    let info = TestCluster::shared(1).info();
    let (user, password) = (&info.app_user, info.app_password.expose());
    let database = text
        .split("[[databases]]\nname = '")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let url = format!(
        "postgresql://{user}:{password}@{address}/{}",
        database.expect("a database")
    );
    let mut client = Client::connect(&url).expect("connects");
    assert_eq!(
        client.simple("SELECT 1").expect("runs").value().as_deref(),
        Some("1")
    );
    let ready = told();
    assert!(ready.starts_with(&format!("READY=1\nMAINPID={pid}\n")), "{ready}");
    let mut line = String::new();
    let output = service.0.stdout.take().expect("piped");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("it says where");
    assert!(line.starts_with(&format!("listening on {address},")), "{line}");

    // Whatever comes of it, a reload ends.
    for config_text in [text.clone(), "[nonsense]\n".to_owned(), text] {
        std::fs::write(&config, config_text).expect("written");
        service.signal("HUP");
        let reloading = told();
        let since = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect(&reloading);
        assert!(
            since.trim().parse::<u64>().is_ok_and(|since| since > 0),
            "{reloading}"
        );
        assert!(told().starts_with("READY=1\n"));
    }
    service.signal("TERM");
    assert!(told().starts_with("STOPPING=1\n"));
    assert!(service.0.wait().expect("ends").success());
    // The socket is the manager's: clients of the next process wait in it.
    assert!(std::net::TcpStream::connect(address).is_ok());
}

/// The registration of a proxy that could not run for a while is over: its clients wait until it has another one.
#[test]
fn a_proxy_that_was_held_up_serves_again() {
    let site = ProxySite::new(TestCluster::shared(1), Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start("one");
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for _ in 0..2 {
        proxy.signal("STOP");
        // Longer than the registration lasts.
        std::thread::sleep(Duration::from_millis(3_300));
        proxy.signal("CONT");
        for client in &mut clients {
            let answer = client.simple("SELECT 1").expect("the session goes on");
            assert_eq!(answer.errors, []);
        }
    }
}

/// What can be read need not be ready: passwords to fill in, certificates that are not there.
#[test]
fn check_says_what_is_missing() {
    let site = ProxySite::new(TestCluster::shared(1), Path::new(env!("CARGO_BIN_EXE_drover")));
    let config = site.directory().join("checked.toml");
    let check = |text: &str| {
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        let done = command
            .args(["check", "--config"])
            .arg(&config)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.success(), said)
    };
    let text = site.config("one");
    let (fine, said) = check(&text);
    assert!(fine, "{said}");
    let (fine, said) = check(&format!(
        "{text}\n[[users]]\nname = \"new\"\npassword = \"CHANGE ME\"\n"
    ));
    assert!(!fine && said.contains("still to be filled in"), "{said}");
    let keys = "[tls]\nclient_mode = \"require\"\nclient_cert = \"none.crt\"\nclient_key = \"none.key\"\n";
    let (fine, said) = check(&format!("{text}\n{keys}"));
    assert!(!fine && said.contains("none.crt"), "{said}");
}
