//! What a transaction costs at the servers: messages and round trips, counted between the proxy and PostgreSQL. Never time.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use testkit::TestCluster;
use testkit::client::Client;
use testkit::proxy::{DroverProxy, ProxySite};

/// What clients ask for instead of a session that has no type of message: encryption, and to cancel.
const FIRST_SPECIAL: u32 = 80_877_102;

/// What clients' sessions have cost on one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cost {
    /// Texts of queries, and the letters of other messages.
    messages: Vec<String>,
    /// How often something was sent after the server had said something.
    round_trips: usize,
}

/// A way to a server on which messages of the application's role are counted. Lives as long as the process.
#[derive(Clone)]
struct Door {
    port: u16,
    cost: Arc<Mutex<Cost>>,
}

impl Door {
    fn to(host: &str, port: u16, user: &str) -> Door {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let door = Door {
            port: listener.local_addr().unwrap().port(),
            cost: Arc::default(),
        };
        let (target, user) = (format!("{host}:{port}"), user.to_owned());
        let cost = Arc::clone(&door.cost);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let (cost, user) = (Arc::clone(&cost), user.clone());
                std::thread::spawn(move || serve(&near, &far, &cost, &user));
            }
        });
        door
    }
}

fn serve(near: &TcpStream, far: &TcpStream, cost: &Mutex<Cost>, user: &str) {
    let answered = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 16 * 1024];
            let (mut from, mut to) = (far, near);
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                answered.store(true, Ordering::SeqCst);
                if to.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
            let _ = near.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (near, far);
        let mut bytes = vec![0; 256 * 1024];
        let mut pending = Vec::new();
        let mut session = Session::default();
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            pending.extend_from_slice(&bytes[..n]);
            let messages = session.take(&mut pending, user);
            if !messages.is_empty() {
                let mut cost = cost.lock().unwrap();
                cost.messages.extend(messages);
                cost.round_trips += usize::from(answered.swap(false, Ordering::SeqCst));
            }
            if to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
    });
}

/// How far a connection is.
#[derive(Default)]
struct Session {
    begun: bool,
    counts: bool,
}

impl Session {
    /// The messages that are complete, of a session that counts.
    fn take(&mut self, pending: &mut Vec<u8>, user: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let at = usize::from(self.begun);
            let Some(length) = pending.get(at..at + 4) else {
                break;
            };
            let end = at + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if pending.len() < end {
                break;
            }
            let message: Vec<u8> = pending.drain(..end).collect();
            if self.begun {
                if self.counts && message[0] != b'p' {
                    found.push(shown(&message));
                }
            } else if u32::from_be_bytes(message[4..8].try_into().unwrap()) < FIRST_SPECIAL {
                self.begun = true;
                let named = format!("user\0{user}\0");
                self.counts = message.windows(named.len()).any(|part| part == named.as_bytes());
            }
        }
        found
    }
}

/// The first two words of a simple query; of other messages the letter.
fn shown(message: &[u8]) -> String {
    if message[0] != b'Q' {
        return char::from(message[0]).to_string();
    }
    let text = String::from_utf8_lossy(&message[5..message.len() - 1]).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["SELECT", call, ..] => call.split('(').next().unwrap_or_default().to_owned(),
        ["PREPARE" | "COMMIT", second, ..] => format!("{} {second}", words[0]),
        [first, ..] => first.to_owned(),
        [] => String::new(),
    }
}

struct Fixture {
    doors: Vec<Door>,
    client: Client,
    _proxy: DroverProxy,
    _site: ProxySite,
}

/// Three shards behind doors, a table with two keys on each shard.
fn fixture() -> Fixture {
    let cluster = TestCluster::shared(3);
    let site = ProxySite::new(cluster, Path::new(env!("CARGO_BIN_EXE_drover")))
        .with_config("[pool]\nserver_check_delay = '0s'\nidle_timeout = '0s'\n");
    let info = cluster.info();
    let mut text = site.config("one");
    let mut doors = Vec::new();
    for shard in &info.shards {
        let (host, port) = (&shard.primary.host, shard.primary.port);
        let door = Door::to(host, port, &info.app_user);
        text = text.replace(&format!("'{host}:{port}'"), &format!("'127.0.0.1:{}'", door.port));
        doors.push(door);
    }
    let proxy = site.start_as("one", "one", &text, &[]);
    let client = proxy.client();
    let mut fixture = Fixture {
        doors,
        client,
        _proxy: proxy,
        _site: site,
    };
    fixture.run("CREATE TABLE t (k bigint PRIMARY KEY, n int, mail text) WITH (drover.shard_key = 'k')");
    fixture.run("INSERT INTO t SELECT g, 0, g || '@x' FROM generate_series(1, 60) g");
    fixture
}

impl Fixture {
    fn run(&mut self, sql: &str) -> Option<String> {
        let answer = self.client.simple(sql).unwrap();
        assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
        answer.value()
    }

    /// A key on each shard.
    fn keys(&mut self) -> Vec<u64> {
        let mut keys = vec![None; self.doors.len()];
        for key in 1..=60 {
            let sql = format!("EXPLAIN (ROUTE) SELECT n FROM t WHERE k = {key}");
            let route = format!("{:?}", self.client.simple(&sql).unwrap().text_rows());
            let shard = (0..keys.len()).find(|shard| route.contains(&format!("shard_{}", shard + 1)));
            keys[shard.unwrap()].get_or_insert(key);
        }
        keys.into_iter().map(Option::unwrap).collect()
    }

    /// What these cost on each shard, when they have been done once before: connections are there, and plans.
    fn cost(&mut self, texts: &[String]) -> Vec<Cost> {
        for _ in 0..2 {
            for door in &self.doors {
                *door.cost.lock().unwrap() = Cost::default();
            }
            for text in texts {
                self.run(text);
            }
        }
        self.doors
            .iter()
            .map(|door| door.cost.lock().unwrap().clone())
            .collect()
    }

    fn check(&mut self, texts: &[String], expected: &[(&[&str], usize)]) {
        let cost = self.cost(texts);
        let cost: Vec<(Vec<&str>, usize)> = cost
            .iter()
            .map(|cost| {
                (
                    cost.messages.iter().map(String::as_str).collect(),
                    cost.round_trips,
                )
            })
            .collect();
        let expected: Vec<(Vec<&str>, usize)> = expected
            .iter()
            .map(|(list, trips)| (list.to_vec(), *trips))
            .collect();
        assert_eq!(cost, expected, "{texts:?}");
    }
}

const NOTHING: (&[&str], usize) = (&[], 0);

#[test]
fn a_transaction_on_one_shard_costs_nothing_extra() {
    let mut f = fixture();
    let k = f.keys()[1];
    let write = format!("UPDATE t SET n = n + 1 WHERE k = {k}");
    let read = format!("SELECT n FROM t WHERE k = {k}");
    f.check(
        std::slice::from_ref(&write),
        &[NOTHING, (&["UPDATE"], 1), NOTHING],
    );
    f.check(std::slice::from_ref(&read), &[NOTHING, (&["n"], 1), NOTHING]);
    let block = [
        "BEGIN".to_owned(),
        read.clone(),
        write.clone(),
        "COMMIT".to_owned(),
    ];
    // BEGIN goes with the first statement: a round trip less than without Drover.
    f.check(
        &block,
        &[NOTHING, (&["BEGIN", "n", "UPDATE", "COMMIT"], 3), NOTHING],
    );
    let reads = ["BEGIN".to_owned(), read.clone(), read, "COMMIT".to_owned()];
    f.check(&reads, &[NOTHING, (&["BEGIN", "n", "n", "COMMIT"], 3), NOTHING]);
    f.check(
        &["BEGIN".to_owned(), write, "ROLLBACK".to_owned()],
        &[NOTHING, (&["BEGIN", "UPDATE", "ROLLBACK"], 2), NOTHING],
    );
}

#[test]
fn a_transaction_over_several_costs_what_the_protocol_says() {
    const DECIDES: (&[&str], usize) = (&["BEGIN", "UPDATE", "drover_internal.decide", "COMMIT"], 2);
    const PREPARES: (&[&str], usize) = (
        &[
            "BEGIN",
            "UPDATE",
            "pg_catalog.set_config",
            "PREPARE TRANSACTION",
            "COMMIT PREPARED",
        ],
        3,
    );
    let mut f = fixture();
    let keys = f.keys();
    let write = |shard: usize| format!("UPDATE t SET n = n + 1 WHERE k = {}", keys[shard]);
    let (begin, commit) = ("BEGIN".to_owned(), "COMMIT".to_owned());
    let two = [begin.clone(), write(1), write(2), commit.clone()];
    f.check(&two, &[NOTHING, DECIDES, PREPARES]);
    // One more shard costs what it costs there, and nothing on the others.
    let three = [begin.clone(), write(1), write(2), write(0), commit.clone()];
    f.check(&three, &[PREPARES, DECIDES, PREPARES]);
    // Who only reads is not prepared.
    let read = format!("SELECT n FROM t WHERE k = {}", keys[0]);
    let reader = [begin.clone(), read.clone(), write(1), write(2), commit.clone()];
    let reads: (&[&str], usize) = (&["BEGIN", "n", "COMMIT"], 2);
    f.check(&reader, &[reads, DECIDES, PREPARES]);
    // And whoever does not want it pays for a COMMIT each.
    f.run("SET drover.transaction_mode = 'best_effort'");
    let plain: (&[&str], usize) = (&["BEGIN", "UPDATE", "COMMIT"], 2);
    f.check(&two, &[NOTHING, plain, plain]);
}

#[test]
fn a_global_index_costs_the_shard_of_its_entry() {
    let mut f = fixture();
    let keys = f.keys();
    let pair = |n: u32| {
        [
            format!("INSERT INTO t VALUES ({n}, 0, '{n}@y')"),
            format!("DELETE FROM t WHERE k = {n}"),
        ]
    };
    let trips = |cost: &[Cost]| {
        let mut trips: Vec<usize> = cost.iter().map(|cost| cost.round_trips).collect();
        trips.sort_unstable();
        trips
    };
    assert_eq!(
        trips(&f.cost(&pair(100))),
        [0, 0, 2],
        "a row inserted and deleted"
    );
    f.run("SELECT drover.create_global_index('t', 'mail', unique => true)");
    for key in keys {
        // The entry, then the row, wherever they are.
        let found = trips(&f.cost(&[format!("SELECT n FROM t WHERE mail = '{key}@x'")]));
        assert!(
            [[0, 1, 1], [0, 0, 2]].contains(&found[..].try_into().unwrap()),
            "{found:?}"
        );
    }
    let mut seen = [false; 2];
    for n in 100..112 {
        let cost = f.cost(&pair(n));
        let prepared = cost.iter().flat_map(|cost| &cost.messages);
        let prepared = prepared
            .filter(|message| *message == "PREPARE TRANSACTION")
            .count();
        // On two shards a commit over two, on one none that is prepared; three or four round trips to each for each statement.
        match trips(&cost)[..] {
            [0, 6, 6] if prepared == 2 => seen[0] = true,
            [0, 0, 8] if prepared == 0 => seen[1] = true,
            _ => panic!("{cost:?}"),
        }
    }
    assert_eq!(seen, [true; 2], "entries beside their rows and on other shards");
}
