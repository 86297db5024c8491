//! Sagas: nothing stays half done, whatever dies between any two of their steps, and in the middle of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Target};
use testkit::proxy::{DroverProxy, ProxySite};

const BINARY: &str = env!("CARGO_BIN_EXE_drover");

const PATIENCE: Duration = Duration::from_secs(60);

/// A site whose proxies notice soon that another one is gone.
struct Stage {
    site: ProxySite,
    started: Cell<u32>,
}

impl Stage {
    fn new() -> Stage {
        let site = ProxySite::new(TestCluster::shared(3), Path::new(BINARY))
            .with_variable("DROVER_TEST_GRACE_MS", "300");
        Stage {
            site,
            started: Cell::new(0),
        }
    }

    /// One with a name of its own: the registration of one that was killed outlives it.
    fn start(&self) -> DroverProxy {
        self.started.set(self.started.get() + 1);
        let id = format!("proxy_{}", self.started.get());
        let config = self
            .site
            .config(&id)
            .replace("[store]\n", "[store]\nlease_ttl = '1s'\n");
        self.site.start_as(&id, &id, &config, &[])
    }
}

fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

fn code(client: &mut Client, sql: &str) -> String {
    let answer = client
        .simple(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer
        .error()
        .map(|error| error.sqlstate().to_owned())
        .unwrap_or_default()
}

fn value(client: &mut Client, sql: &str) -> String {
    run(client, sql).value().unwrap_or_default()
}

fn command(target: &Target, args: &[&str]) -> Command {
    let url = format!(
        "postgresql://{}@{}:{}/{}",
        target.user, target.host, target.port, target.database
    );
    let mut command = Command::new(BINARY);
    command
        .arg("sagas")
        .args(args)
        .args(["--url", &url])
        .env("PGPASSWORD", target.password.clone().unwrap_or_default())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error.
fn drover(target: &Target, args: &[&str]) -> (i32, String, String) {
    ended(command(target, args).spawn().unwrap())
}

fn ended(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

const RESUME: [&str; 3] = ["resume", "--older-than", "0s"];

/// Rows on three shards, of which every step counts one up and its undoing one down.
fn prepare(proxy: &DroverProxy) {
    let (code, _, errors) = drover(proxy.target(), &["install"]);
    assert_eq!(code, 0, "{errors}");
    // Once more is no harm.
    assert_eq!(drover(proxy.target(), &["install"]).0, 0);
    let mut client = proxy.client();
    run(
        &mut client,
        "CREATE TABLE work (k bigint PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
    );
    run(
        &mut client,
        "INSERT INTO work SELECT g, 0 FROM generate_series(1, 30) g",
    );
}

/// A saga of two steps: on one shard, and on all.
fn statements(saga: &str) -> Vec<String> {
    let mut all = vec![format!("SELECT drover_sagas.start('{saga}')")];
    for (number, places) in ["k = 1", "k BETWEEN 1 AND 30"].iter().enumerate() {
        let change = |sign: char| format!("UPDATE work SET n = n {sign} 1 WHERE {places}");
        all.push("BEGIN".to_owned());
        all.push(change('+'));
        all.push(format!(
            "SELECT drover_sagas.step('{saga}', 'step {number}', '{}')",
            change('-')
        ));
        all.push("COMMIT".to_owned());
    }
    all.push(format!("SELECT drover_sagas.finish('{saga}')"));
    all
}

/// Every row was changed as often as steps are recorded, or the saga is finished and none are.
fn sum(client: &mut Client) -> i64 {
    value(client, "SELECT sum(n) FROM work").parse().unwrap()
}

const ALL_STEPS: i64 = 1 + 30;

fn state(client: &mut Client, saga: &str) -> String {
    let sql = format!("SELECT state FROM drover_sagas.mine WHERE name = '{saga}'");
    value(client, &sql)
}

#[test]
fn a_proxy_that_dies_between_any_two_statements_leaves_nothing_half_done() {
    let stage = Stage::new();
    let mut proxy = stage.start();
    prepare(&proxy);
    let count = statements("").len();
    let mut finished = 0;
    for stop in 1..=count {
        let saga = format!("stopped after {stop}");
        let texts = statements(&saga);
        let mut client = proxy.client();
        for text in &texts[..stop] {
            run(&mut client, text);
        }
        proxy.signal("KILL");
        let _ = proxy.exit_code();
        proxy = stage.start();
        let mut client = proxy.client();
        let (exit, out, errors) = drover(proxy.target(), &RESUME);
        assert_eq!(exit, 0, "{saga}: {out}{errors}");
        if stop == count {
            finished += 1;
            assert_eq!(state(&mut client, &saga), "finished");
            assert_eq!(out, "", "there was nothing to undo");
        } else {
            assert_eq!(state(&mut client, &saga), "undone", "{out}");
            // Each COMMIT that was answered is a step.
            let commits = texts[..stop].iter().filter(|text| *text == "COMMIT").count();
            assert_eq!(out, format!("{saga}\tundone\t{commits}\n"));
        }
        assert_eq!(sum(&mut client), finished * ALL_STEPS, "{saga}");
        assert_eq!(
            value(&mut client, "SELECT count(*) FROM drover_sagas.my_steps"),
            "0"
        );
    }
}

/// Where the proxy says that it has reached a point of the commit protocol; it is killed there the first time after this was armed.
struct Points {
    armed: mpsc::Sender<&'static str>,
    killed: mpsc::Receiver<()>,
}

impl Points {
    fn listen(path: &Path) -> Points {
        let listener = UnixListener::bind(path).unwrap();
        let (armed, waiting) = mpsc::channel();
        let (done, killed) = mpsc::channel();
        std::thread::spawn(move || {
            let mut wanted = None;
            for stream in listener.incoming().map_while(Result::ok) {
                while let Ok(next) = waiting.try_recv() {
                    wanted = Some(next);
                }
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let mut words = line.split_whitespace();
                let (Some(pid), Some(point)) = (words.next(), words.next()) else {
                    continue;
                };
                if wanted == Some(point) {
                    let _ = Command::new("kill").args(["-KILL", pid]).status();
                    wanted = None;
                    let _ = done.send(());
                }
            }
        });
        Points { armed, killed }
    }
}

#[test]
fn a_proxy_that_dies_in_the_middle_of_a_step_or_of_its_undoing_leaves_all_of_it_or_nothing() {
    let mut stage = Stage::new();
    let socket = stage.site.directory().join("points");
    let points = Points::listen(&socket);
    stage
        .site
        .set_variable("DROVER_TEST_POINTS", &socket.display().to_string());
    let mut proxy = stage.start();
    prepare(&proxy);
    for (turn, point) in ["Prepared", "Decide", "Decided", "CommittedPrepared"]
        .into_iter()
        .enumerate()
    {
        let saga = format!("killed at {point}");
        // The last step's COMMIT is over all shards; its undoing's as well.
        let texts = statements(&saga);
        let in_step = turn % 2 == 0;
        let until = texts.len() - if in_step { 2 } else { 1 };
        let mut client = proxy.client();
        for text in &texts[..until] {
            run(&mut client, text);
        }
        points.armed.send(point).unwrap();
        if in_step {
            let _ = client.simple("COMMIT");
        } else {
            let (exit, out, errors) = drover(proxy.target(), &RESUME);
            assert_eq!(exit, 1, "{out}{errors}");
        }
        assert!(
            points.killed.recv_timeout(PATIENCE).is_ok(),
            "{point} was not reached"
        );
        let _ = proxy.exit_code();
        proxy = stage.start();
        let mut client = proxy.client();
        // What was prepared and not decided is finished by recovery; until then the saga's row is locked.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (exit, out, errors) = drover(proxy.target(), &RESUME);
            if exit == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{out}{errors}");
        }
        assert_eq!(state(&mut client, &saga), "undone");
        assert_eq!(sum(&mut client), 0, "{saga}");
        assert_eq!(
            value(&mut client, "SELECT count(*) FROM drover_sagas.my_steps"),
            "0"
        );
    }
}

#[test]
fn whoever_is_slow_finds_out_in_its_next_step() {
    let stage = Stage::new();
    let proxy = stage.start();
    prepare(&proxy);
    let mut client = proxy.client();
    let texts = statements("slow");
    for text in &texts[..6] {
        run(&mut client, text);
    }
    // It is in the middle of its second step. The first is there.
    let (exit, out, errors) = drover(proxy.target(), &["resume", "--older-than", "1h"]);
    assert_eq!((exit, out.as_str()), (0, ""), "{errors}");
    let (_, out, _) = drover(proxy.target(), &["resume", "--older-than", "0s", "--dry-run"]);
    assert!(out.starts_with("slow\trunning\t1\t"), "{out}");
    let (exit, out, errors) = drover(proxy.target(), &RESUME);
    assert_eq!((exit, out.as_str()), (0, "slow\tundone\t1\n"), "{errors}");
    assert_eq!(run(&mut client, "SELECT 1").value().as_deref(), Some("1"));
    assert_eq!(code(&mut client, &texts[7]), "55000");
    assert_eq!(run(&mut client, "COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(sum(&mut client), 0);
    assert_eq!(code(&mut client, "SELECT drover_sagas.finish('slow')"), "55000");
    assert_eq!(code(&mut client, "SELECT drover_sagas.start('slow')"), "23505");
    assert_eq!(code(&mut client, "SELECT drover_sagas.finish('none')"), "42704");

    // A step is there once.
    for text in &statements("twice")[..5] {
        run(&mut client, text);
    }
    run(&mut client, "BEGIN");
    run(&mut client, "UPDATE work SET n = n + 1 WHERE k = 1");
    assert_eq!(
        code(&mut client, "SELECT drover_sagas.step('twice', 'step 0', NULL)"),
        "23505"
    );
    run(&mut client, "ROLLBACK");
    assert_eq!(sum(&mut client), 1);

    // What fails is said, stays as it was, and keeps nobody else.
    run(&mut client, "SELECT drover_sagas.start('broken')");
    run(
        &mut client,
        "SELECT drover_sagas.step('broken', 'one', 'UPDATE work SET n = n / 0')",
    );
    let (exit, out, _) = drover(proxy.target(), &RESUME);
    assert_eq!(exit, 1);
    assert!(out.contains("twice\tundone\t1\n"), "{out}");
    assert!(
        out.contains("broken\tfailed\t0\t") && out.contains("22012"),
        "{out}"
    );
    assert_eq!(state(&mut client, "broken"), "running");
    assert_eq!(sum(&mut client), 0);
    let (exit, out, _) = drover(proxy.target(), &["list", "--json"]);
    assert_eq!(exit, 0);
    assert!(
        out.contains("{\"saga\": \"twice\", \"state\": \"undone\""),
        "{out}"
    );
}

#[test]
fn nobody_runs_what_another_role_has_recorded() {
    let cluster = TestCluster::shared(3);
    cluster.on_every_shard("postgres", "CREATE ROLE saga_other LOGIN PASSWORD 'other'");
    let site = ProxySite::new(cluster, Path::new(BINARY));
    let (user, password) = (&cluster.info().admin_user, cluster.info().admin_password.expose());
    let users = format!(
        "[[users]]\nname = 'saga_other'\npassword = 'other'\n[[users]]\nname = '{user}'\npassword = '{password}'\n"
    );
    let proxy = site.start_with("one", &users);
    prepare(&proxy);
    let mut client = proxy.client();
    for text in &statements("mine")[..5] {
        run(&mut client, text);
    }
    for (name, password) in [("saga_other", "other"), (user.as_str(), password)] {
        let target = Target {
            user: name.to_owned(),
            password: Some(password.to_owned()),
            ..proxy.target().clone()
        };
        assert_eq!(
            drover(&target, &RESUME),
            (0, String::new(), String::new()),
            "{name}"
        );
        let mut other = Client::open(&target).unwrap();
        assert_eq!(
            code(&mut other, "SELECT * FROM drover_sagas.undo('mine')"),
            "42704",
            "{name}"
        );
        assert_eq!(
            value(&mut other, "SELECT count(*) FROM drover_sagas.my_steps"),
            "0"
        );
        // The same name is another saga.
        run(&mut other, "SELECT drover_sagas.start('mine')");
    }
    let mut other = Client::open(&Target {
        user: "saga_other".to_owned(),
        password: Some("other".to_owned()),
        ..proxy.target().clone()
    })
    .unwrap();
    assert_eq!(code(&mut other, "SELECT undo FROM drover_sagas.steps"), "42501");
    assert_eq!(state(&mut client, "mine"), "running");
    assert_eq!(
        drover(proxy.target(), &RESUME),
        (0, "mine\tundone\t1\n".to_owned(), String::new())
    );
    assert_eq!(sum(&mut client), 0);
}
