//! A proxy is replaced by a new process again and again, and nobody is turned away.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Target};
use testkit::proxy::ProxySite;

fn site() -> ProxySite {
    ProxySite::new(TestCluster::shared(1), Path::new(env!("CARGO_BIN_EXE_drover")))
}

fn good(client: &mut Client, text: &str) -> Answer {
    let answer = client.simple(text).unwrap();
    assert!(answer.error().is_none(), "{text}: {:?}", answer.error());
    answer
}

/// Clients that connect, ask one thing and leave, until told to stop.
struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Visitors {
    fn start(target: &Target) -> Visitors {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..3).map(|_| {
            let (target, stop, served) = (target.clone(), Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let visit = Client::open(&target).and_then(|mut client| {
                        let answer = client.simple("SELECT 1")?;
                        client.close();
                        Ok(answer)
                    });
                    match visit {
                        Ok(answer) if answer.error().is_none() => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        other => errors.push(format!("{other:?}")),
                    }
                }
                errors
            })
        });
        Visitors {
            threads: threads.collect(),
            stop,
            served,
        }
    }

    /// Waits until some more were served.
    fn some_more(&self) {
        let wanted = self.served.load(Ordering::Relaxed) + 10;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.served.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "nobody is served any more");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn errors(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}

#[test]
fn three_restarts_turn_nobody_away() {
    let site = site();
    let text = site.config("p");
    let mut old = site.start_as("p", "first", &text, &[]);
    let target = old.target().clone();
    good(&mut old.client(), "CREATE TABLE t (k int)");
    let visitors = Visitors::start(&target);
    let (mut idle, mut busy, sleeping) = (old.client(), old.client(), old.client());
    good(&mut busy, "BEGIN; INSERT INTO t VALUES (1)");
    visitors.some_more();

    let second = site.start_as("p", "second", &text, &["--takeover"]);
    assert_eq!(second.target(), &target, "the same address");
    visitors.some_more();
    // What clients of the old process do they do there, and their cancels find them although the new one gets them.
    good(&mut idle, "SELECT 1");
    good(&mut busy, "INSERT INTO t VALUES (2)");
    let cancelled = cancelled(sleeping);
    assert_eq!(cancelled.as_deref(), Some("57014"));

    let mut third = site.start_as("p", "third", &text, &["--takeover"]);
    visitors.some_more();
    let mut later = third.client();
    let fourth = site.start_as("p", "fourth", &text, &["--takeover"]);
    visitors.some_more();
    good(&mut busy, "COMMIT");
    good(&mut later, "SELECT 1");
    later.close();
    assert_eq!(third.exit_code(), Some(0), "{}", third.log());
    for client in [idle, busy] {
        client.close();
    }
    assert_eq!(old.exit_code(), Some(0), "{}", old.log());
    let errors = visitors.errors();
    assert!(errors.is_empty(), "{errors:?}");
    let rows = good(&mut fourth.client(), "SELECT count(*) FROM t").value();
    assert_eq!(rows.as_deref(), Some("2"));
}

/// Runs a statement that takes long and cancels it from another thread; the code of its error.
fn cancelled(mut client: Client) -> Option<String> {
    let done = AtomicBool::new(false);
    let canceller = client.canceller().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The first may come before the statement.
            while !done.load(Ordering::Relaxed) {
                canceller.cancel().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let answer = client.simple("SELECT pg_sleep(30)").unwrap();
        done.store(true, Ordering::Relaxed);
        answer.error().map(|error| error.sqlstate().to_owned())
    })
}

#[test]
fn processes_that_share_a_port_serve_together_and_forward_cancels() {
    let site = site();
    let shared = |id: &str, port: u16| {
        let line = format!("listen = '127.0.0.1:{port}'\nreuse_port = true");
        site.config(id).replace("listen = '127.0.0.1:0'", &line)
    };
    let first = site.start_as("a", "a", &shared("a", 0), &[]);
    let second = site.start_as("b", "b", &shared("b", first.target().port), &[]);
    assert_eq!(first.target(), second.target(), "one address");
    let mut clients: Vec<Client> = (0..40).map(|_| first.client()).collect();
    for client in &mut clients {
        good(client, "SELECT 1");
    }
    // Each cancel request reaches one of the two, whichever has the client.
    for _ in 0..4 {
        assert_eq!(cancelled(first.client()).as_deref(), Some("57014"));
    }
    drop(second);
    let served = clients.iter_mut().map(|client| client.simple("SELECT 1"));
    let left = served.filter(Result::is_ok).count();
    assert!(
        (1..40).contains(&left),
        "{left} of 40 were with the first process"
    );
    good(&mut first.client(), "SELECT 1");
}

#[test]
fn a_takeover_that_fails_leaves_the_old_proxy_alone() {
    let site = site();
    let text = site.config("p");
    let old = site.start_as("p", "first", &text, &[]);
    let mut client = old.client();
    // It gets the sockets, and finds that it cannot go on.
    let wrong = text
        .replace("[store]\n", "[store]\nlease_ttl = '3s'\n")
        .replace("id = 'p'", "id = 'p'\nhttp_token = ''");
    let path = site.directory().join("wrong.toml");
    std::fs::write(&path, wrong).unwrap();
    let failed = std::process::Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(["restart", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(!failed.status.success());
    good(&mut client, "SELECT 1");
    good(&mut old.client(), "SELECT 1");
    let nobody = std::process::Command::new(env!("CARGO_BIN_EXE_drover"))
        .args(["proxy", "--takeover", "--config"])
        .arg({
            let path = site.directory().join("other.toml");
            std::fs::write(&path, site.config("other")).unwrap();
            path
        })
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(
        !nobody.status.success() && said.contains("no running proxy to take over from"),
        "{said}"
    );
}
