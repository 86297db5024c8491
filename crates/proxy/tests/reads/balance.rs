//! Which replica gets a read, and why: zones, load and lateness, of one shard and of each shard of a read over several.

use std::time::Duration;

use testkit::client::{Client, Pipeline};

use crate::herd::{Door, Herd, run, shown, until, value};
use crate::torture::signal;

/// Reads of one round.
const ROUND: usize = 200;

/// Statements that one replica has in hand.
const NAPS: usize = 5;

struct Scene {
    herd: Herd,
    door: Door,
}

impl Scene {
    /// Two shards with two replicas each, one of either zone.
    fn start() -> Self {
        let mut herd = Herd::start(2, 2);
        for shard in 0..2 {
            for (replica, zone) in ["a", "b"].into_iter().enumerate() {
                herd.record_of(shard, replica).zone = Some(zone.to_owned());
            }
        }
        let config = herd.replica_config();
        config.lag_max = Duration::ZERO;
        // However slow the machine is, nobody is taken for frozen.
        config.hang_timeout = Duration::ZERO;
        config.poll_timeout = Duration::from_secs(60);
        let door = herd.proxy("p1");
        let mut client = door.client();
        let create = "CREATE TABLE s (id bigint PRIMARY KEY) WITH (drover.shard_key = 'id')";
        run(&mut client, create);
        let rows: Vec<String> = (1..=50).map(|id| format!("({id})")).collect();
        run(&mut client, &format!("INSERT INTO s VALUES {}", rows.join(", ")));
        for shard in 0..2 {
            herd.catch_up(shard);
        }
        Self { herd, door }
    }

    fn reader(&self) -> Client {
        let mut client = self.door.client();
        run(&mut client, "SET drover.read_from = 'replica'");
        run(&mut client, "SET drover.consistency = 'eventual'");
        client
    }

    fn replica(&self, shard: usize, replica: usize) -> &agent::NodeInfo {
        &self.herd.kit.info().shards[shard].replicas[replica]
    }

    /// Reads that a shard's replicas answer during one round over all shards.
    fn shares(&self, client: &mut Client, shard: usize) -> [u64; 2] {
        let mut watching = self.door.client();
        let mut counts = || {
            [0, 1].map(|replica| {
                let reads = shown(&mut watching, self.replica(shard, replica), "reads");
                reads.parse::<u64>().unwrap()
            })
        };
        let before = counts();
        for _ in 0..ROUND {
            assert_eq!(value(client, "SELECT count(*) FROM s"), "50");
        }
        let after = counts();
        [after[0] - before[0], after[1] - before[1]]
    }

    /// How often each of a shard's replicas is drawn for a read over all shards, when nothing is known of how long their
    /// answers take: nobody is asked anything meanwhile.
    fn draws(&self, client: &mut Client, shard: usize) -> [usize; 2] {
        let mut watching = self.door.client();
        let mut latency = |replica| shown(&mut watching, self.replica(shard, replica), "latency_us");
        until(|| [0, 1].map(&mut latency) == ["0", "0"]);
        self.draws_now(client, shard)
    }

    /// The same, whatever is known.
    fn draws_now(&self, client: &mut Client, shard: usize) -> [usize; 2] {
        let mut draws = [0; 2];
        for _ in 0..ROUND {
            let line = Self::route(client).swap_remove(shard);
            assert!(line.ends_with("(least loaded of two)"), "{line}");
            for (replica, draws) in draws.iter_mut().enumerate() {
                let port = self.replica(shard, replica).port;
                *draws += usize::from(line.contains(&format!(":{port} ")));
            }
        }
        assert_eq!(draws[0] + draws[1], ROUND);
        draws
    }

    /// Where a read over all shards would go, and why.
    fn route(client: &mut Client) -> Vec<String> {
        let rows = run(client, "EXPLAIN (ROUTE) SELECT count(*) FROM s").text_rows();
        let lines = rows.into_iter().map(|row| row[0].clone().unwrap());
        lines.filter(|line| line.starts_with("Read from:")).collect()
    }

    /// Waits until a read goes where these replicas are, one per shard, for these reasons.
    #[track_caller]
    fn routed(&self, client: &mut Client, expected: [(usize, &str); 2]) {
        let line = |shard: usize| {
            let (replica, why) = expected[shard];
            let port = self.replica(shard, replica).port;
            (
                format!(":{port} ({why})"),
                format!("Read from: shard_{}, node", shard + 1),
            )
        };
        let wanted = [line(0), line(1)];
        until(|| {
            let lines = Self::route(client);
            let fits = |((end, begin), line): (&(String, String), &String)| {
                line.ends_with(end) && line.starts_with(begin)
            };
            lines.len() == 2 && wanted.iter().zip(&lines).all(fits)
        });
    }
}

#[test]
fn each_shard_of_a_read_has_the_replica_that_suits() {
    let scene = Scene::start();
    zones(&scene);
    least_loaded(&scene);
    late(&scene);
    back_slowly(&scene);
}

fn zones(scene: &Scene) {
    let mut client = scene.reader();
    let near = "least loaded of two in this zone";
    for (zone, at) in [("a", 0), ("b", 1)] {
        scene.door.change(|config| config.zone = Some(zone.to_owned()));
        scene.routed(&mut client, [(at, near); 2]);
        for shard in 0..2 {
            let shares = scene.shares(&mut client, shard);
            assert_eq!((shares[at], shares[1 - at]), (ROUND as u64, 0), "{zone} {shard}");
        }
    }
    // The zone has nobody on one shard: that shard's other replica serves, the other shard stays in the zone.
    signal(scene.replica(1, 1), "STOP");
    scene
        .door
        .change(|config| config.poll_timeout = Duration::from_secs(2));
    let mut watching = scene.door.client();
    until(|| shown(&mut watching, scene.replica(1, 1), "state") == "down");
    scene.routed(&mut client, [(1, near), (0, "only replica in rotation")]);
    assert_eq!(scene.shares(&mut client, 0), [0, ROUND as u64]);
    assert_eq!(scene.shares(&mut client, 1), [ROUND as u64, 0]);
    signal(scene.replica(1, 1), "CONT");
    until(|| shown(&mut watching, scene.replica(1, 1), "state") == "in");
    scene.door.change(|config| {
        config.poll_timeout = Duration::from_secs(60);
        config.zone = None;
    });
}

/// A replica that has much in hand gets next to nothing of a read over shards, however its zone is called.
fn least_loaded(scene: &Scene) {
    let mut client = scene.reader();
    let mut watching = scene.door.client();
    let busy = scene.replica(1, 0);
    // For a moment all go to its zone.
    scene.door.change(|config| config.zone = Some("a".to_owned()));
    let primary = &scene.herd.kit.info().shards[1].primary;
    let id = value(&mut scene.herd.direct(primary), "SELECT min(id) FROM s");
    let nap = format!("SELECT pg_sleep(600) FROM s WHERE id = {id}");
    let mut napping: Vec<Client> = (0..NAPS).map(|_| scene.reader()).collect();
    for client in &mut napping {
        client.send(Pipeline::new().query(&nap).bytes()).unwrap();
    }
    until(|| shown(&mut watching, busy, "outstanding") == NAPS.to_string());
    scene.door.change(|config| config.zone = None);
    let [drawn, idle] = scene.draws_now(&mut client, 1);
    assert!(drawn * 5 < idle, "{drawn} {idle}");
    let mut admin = scene.herd.admin(busy);
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until(|| value(&mut admin, asleep) == NAPS.to_string());
    run(
        &mut admin,
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    );
    for mut client in napping {
        let answer = client.collect(1).unwrap();
        assert_eq!(answer.errors[0].sqlstate(), "57014");
    }
    until(|| shown(&mut watching, busy, "outstanding") == "0");
    let [one, other] = scene.draws(&mut client, 1);
    assert!(one * 3 > other && other * 3 > one, "{one} {other}");
}

/// Out at the limit, back in at half of it; and what remains when all are late.
fn late(scene: &Scene) {
    let mut client = scene.reader();
    let replicas = [scene.replica(0, 0), scene.replica(0, 1)];
    scene.herd.replay(0, false);
    let mut writer = scene.door.client();
    run(&mut writer, "CREATE TABLE filler (v text)");
    let fill = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 2000)";
    run(&mut writer, fill);
    let lag = |client: &mut Client| shown(client, replicas[0], "lag_bytes").parse().unwrap_or(0);
    until(|| lag(&mut writer) > 2_000_000);
    let state = |client: &mut Client, wanted: [&str; 2]| {
        until(|| [0, 1].map(|at| shown(client, replicas[at], "state")) == wanted);
    };
    let limit = |bytes: u64, keep: usize| {
        scene.door.change(|config| {
            config.lag_bytes_max = bytes;
            config.keep = keep;
        });
    };
    let lag: u64 = lag(&mut writer);
    // It is late by two thirds of the limit only: whoever is in stays in.
    limit(lag * 3 / 2, 0);
    state(&mut writer, ["in"; 2]);
    limit(lag / 2, 0);
    state(&mut writer, ["behind"; 2]);
    let lines = Scene::route(&mut client);
    let primary = "Read from: shard_1, primary (no replica in rotation)";
    assert!(lines.contains(&primary.to_owned()), "{lines:?}");
    assert_eq!(value(&mut client, "SELECT count(*) FROM filler"), "2000");
    // The same two thirds: whoever is out stays out.
    limit(lag * 3 / 2, 0);
    scene.door.look(1);
    state(&mut writer, ["behind"; 2]);
    limit(lag * 3, 0);
    state(&mut writer, ["in"; 2]);
    // One is kept, however late all are.
    limit(lag / 2, 1);
    until(|| {
        let states = [0, 1].map(|at| shown(&mut writer, replicas[at], "state"));
        states.iter().filter(|state| *state == "in").count() == 1
    });
    let lines = Scene::route(&mut client);
    assert!(lines.iter().all(|line| line.contains(", node ")), "{lines:?}");
    limit(0, 0);
    scene.herd.replay(0, true);
    scene.herd.catch_up(0);
    state(&mut writer, ["in"; 2]);
}

/// A replica that comes back begins with a small share.
fn back_slowly(scene: &Scene) {
    let mut client = scene.reader();
    let mut watching = scene.door.client();
    let back = scene.replica(1, 1);
    scene.door.change(|config| {
        config.slow_start = Duration::from_secs(3600);
        config.poll_timeout = Duration::from_secs(2);
    });
    signal(back, "STOP");
    until(|| shown(&mut watching, back, "state") == "down");
    signal(back, "CONT");
    until(|| shown(&mut watching, back, "state") == "in");
    let [other, drawn] = scene.draws(&mut client, 1);
    assert!(drawn * 4 < other, "{drawn} {other}");
    scene.door.change(|config| config.slow_start = Duration::ZERO);
    let [other, drawn] = scene.draws(&mut client, 1);
    assert!(drawn * 3 > other && other * 3 > drawn, "{drawn} {other}");
}
