//! A server is killed, restarted, frozen and cut off while clients work. Clients outside a transaction see a pause
//! within `connection_timeout`; the only error allowed is the loss of a statement that was on the server.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Format, Pipeline};
use testkit::cluster::TestOptions;

use super::door::Door;
use super::site::{Site, eventually, run};

const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    statements: usize,
    lost: usize,
    longest: Duration,
}

/// Clients that work without end.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<std::thread::JoinHandle<Seen>>,
}

impl Load {
    fn on(site: &Site) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..9)
            .map(|number| {
                let mut client = site.client();
                client.set_timeout(Duration::from_secs(30));
                let parse = Pipeline::new().parse("s", "SELECT 1", &[]);
                client
                    .run(parse.describe_statement("s").sync())
                    .expect("it is prepared");
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut seen = Seen::default();
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        let pipeline = match number % 3 {
                            0 => Pipeline::new().query("SELECT 1"),
                            1 => in_one(Pipeline::new().parse("", "SELECT 1", &[]), ""),
                            _ => in_one(Pipeline::new(), "s"),
                        };
                        let answer = client.run(pipeline).expect("the session goes on");
                        seen.longest = seen.longest.max(start.elapsed());
                        seen.statements += 1;
                        if let Some(error) = answer.error() {
                            let code = error.sqlstate();
                            assert!(["08006", "57P01", "57P02"].contains(&code), "{error:?}");
                            seen.lost += 1;
                        }
                    }
                    seen
                })
            })
            .collect();
        Load { stop, clients }
    }

    /// Ends the load and says what was seen; at most `lost_max` statements of each client were lost.
    fn end(self, what: &str, lost_max: usize) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            let seen = client.join().expect("no other error");
            assert!(seen.statements > 0, "{what}: {seen:?}");
            assert!(seen.lost <= lost_max, "{what}: {seen:?}");
            assert!(seen.longest < CONNECTION_TIMEOUT, "{what}: {seen:?}");
        }
    }
}

/// One execution of a statement.
fn in_one(pipeline: Pipeline, statement: &str) -> Pipeline {
    let bound = pipeline.bind("", statement, &[], Format::Text);
    bound.describe_portal("").execute("", 0).sync()
}

/// The process number of the server in this directory.
fn postmaster(data_dir: &Path) -> String {
    let text = std::fs::read_to_string(data_dir.join("postmaster.pid")).expect("it runs");
    text.lines().next().expect("a number").to_owned()
}

fn signal(name: &str, pid: &str) {
    let done = Command::new("kill")
        .args([name, pid])
        .status()
        .expect("kill runs");
    assert!(done.success(), "kill {name} {pid}");
}

#[test]
fn servers_that_fail_and_come_back_cost_a_pause() {
    let mut kit = TestCluster::start(TestOptions::shards(1));
    let node = kit.info().shards[0].primary.clone();
    let door = Door::to(&node.host, node.port);
    let site = Site::over(&kit, Some(door.port), |config| {
        config.pool.connection_timeout = CONNECTION_TIMEOUT;
        config.pool.connect_timeout = Duration::from_secs(1);
    });
    run(&mut site.client(), "SELECT 1");

    let load = Load::on(&site);
    signal("-KILL", &postmaster(&node.data_dir));
    kit.kill_node(&node.name);
    kit.restart_node(&node.name);
    eventually("clients work again", works(&site));
    load.end("killed", 1);

    let load = Load::on(&site);
    let before = postmaster(&node.data_dir);
    signal("-INT", &before);
    eventually("it ends", || !Path::new(&format!("/proc/{before}/fd/0")).exists());
    kit.kill_node(&node.name);
    kit.restart_node(&node.name);
    eventually("clients work again", works(&site));
    load.end("restarted", 1);

    let load = Load::on(&site);
    let frozen = processes(&postmaster(&node.data_dir));
    frozen.iter().for_each(|pid| signal("-STOP", pid));
    std::thread::sleep(Duration::from_millis(1500));
    frozen.iter().for_each(|pid| signal("-CONT", pid));
    eventually("clients work again", works(&site));
    load.end("frozen", 0);

    let load = Load::on(&site);
    door.shut();
    std::thread::sleep(Duration::from_millis(1500));
    door.open();
    eventually("clients work again", works(&site));
    load.end("cut off", 0);
}

/// A server that is silent is noticed when a connection that was idle for long is to be used.
#[test]
fn a_silent_server_is_noticed_by_the_check() {
    let kit = TestCluster::shared(1);
    let node = &kit.info().shards[0].primary;
    let door = Door::to(&node.host, node.port);
    let site = Site::over(kit, Some(door.port), |config| {
        config.pool.check_delay = Duration::from_millis(100);
        config.pool.connect_timeout = Duration::from_millis(300);
        config.workers = 1;
    });
    let mut client = site.client();
    run(&mut client, "SELECT 1");
    let stale = Duration::from_millis(1500);
    std::thread::sleep(stale);
    run(&mut client, "SELECT 1");
    assert!(site.metric("drover_server_checks_total") > 0);
    std::thread::sleep(stale);
    door.shut();
    let waiting = std::thread::spawn(move || client.simple("SELECT 1").unwrap());
    eventually("the check fails", || {
        site.metric("drover_server_checks_failed_total") > 0
    });
    door.open();
    let answer = waiting.join().unwrap();
    assert_eq!(answer.errors, [], "the statement had not been sent");
}

fn works(site: &Site) -> impl FnMut() -> bool {
    let mut client = site.client();
    move || {
        client
            .simple("SELECT 1")
            .is_ok_and(|answer| answer.errors.is_empty())
    }
}

/// A process and its children.
fn processes(pid: &str) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid.to_owned())
        .chain(children.split_whitespace().map(str::to_owned))
        .collect()
}
