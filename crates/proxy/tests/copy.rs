//! COPY over three real servers, checked against an unsharded table and by looking at each server.

use std::sync::Arc;

use catalog::ShardId;
use proxy::Running;
use proxy::config::{
    AdminConfig, ClientAuth, Limits, PoolConfig, ProxyConfig, Timeouts, UserConfig, UserLimits,
};
use testkit::TestCluster;
use testkit::client::{Answer, Client, Extended, Target};
use testkit::placement::{self, Layout, Shard};
use testkit::random::Random;
use topology::records::{NodeRecord, ShardRecord};
use topology::{ClusterRecord, MemoryStore, ProxyId};

/// A proxy over a database of its own.
struct Fixture {
    kit: &'static TestCluster,
    database: String,
    proxy: Option<Running>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown();
        }
    }
}

impl Fixture {
    fn new() -> Fixture {
        let kit = TestCluster::shared(3);
        let database = kit.create_database();
        let info = kit.info();
        let password = info.app_password.expose().to_owned();
        let user = UserConfig {
            name: info.app_user.clone(),
            auth: ClientAuth::Password(password),
            server_password: None,
            limits: UserLimits::default(),
        };
        let config = ProxyConfig {
            auth: Default::default(),
            observe: Default::default(),
            listen: ([127, 0, 0, 1], 0).into(),
            listen_also: Vec::new(),
            unix_socket: None,
            console: Default::default(),
            workers: 1,
            clients_per_worker: 1,
            lease_ttl: proxy::config::LEASE_TTL,
            fail_points: Default::default(),
            reuse_port: false,
            users: vec![user],
            databases: vec![database.clone().into()],
            pool: PoolConfig::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            shards: Vec::new(),
            admin: AdminConfig {
                user: info.admin_user.clone(),
                password: Some(info.admin_password.expose().to_owned()),
            },
            tls: Default::default(),
            replicas: Default::default(),
            rules: Default::default(),
        };
        let shards = info.shards.iter().zip(1..).map(|(shard, id)| ShardRecord {
            id: ShardId(id),
            name: shard.name.clone(),
            primary: NodeRecord::new(shard.primary.host.clone(), shard.primary.port),
            replicas: Vec::new(),
        });
        let record = ClusterRecord::new("test", vec![database.clone()], shards.collect()).expect("it works");
        let id = ProxyId::parse("p1").expect("it works");
        let proxy =
            proxy::start(config, Arc::new(MemoryStore::new()), id, record, 64 << 20, None).expect("it works");
        Fixture {
            kit,
            database,
            proxy: Some(proxy),
        }
    }

    fn client(&self) -> Client {
        let info = self.kit.info();
        let address = self.proxy.as_ref().expect("a proxy").address();
        let (user, password) = (&info.app_user, info.app_password.expose());
        Client::connect(&format!(
            "postgresql://{user}:{password}@{address}/{}",
            self.database
        ))
        .expect("it works")
    }

    /// Every row is on the shard that owns it, and copies are alike.
    fn check_placement(&self) {
        let layout = Layout::read(&mut self.client()).expect("it works");
        let info = self.kit.info();
        let shards: Vec<Shard> = info
            .shards
            .iter()
            .map(|shard| Shard {
                name: shard.name.clone(),
                target: Target {
                    host: shard.primary.host.clone(),
                    port: shard.primary.port,
                    user: info.admin_user.clone(),
                    password: Some(info.admin_password.expose().to_owned()),
                    database: self.database.clone(),
                    options: Vec::new(),
                },
            })
            .collect();
        assert_eq!(placement::verify(&layout, &shards).expect("it works"), []);
    }
}

fn ok(answer: Answer) -> Answer {
    assert_eq!(answer.errors, [], "{answer:?}");
    answer
}

fn run(client: &mut Client, sql: &str) -> Answer {
    ok(client.simple(sql).expect("it works"))
}

fn copy_in(client: &mut Client, sql: &str, data: &[u8]) -> Answer {
    client.simple_copy(sql, Some(data)).expect("it works")
}

fn copy_out(client: &mut Client, sql: &str) -> Vec<u8> {
    run(client, sql).results.remove(0).copied
}

/// The lines in order; the same for two streams with the same rows when none of them has a line end inside.
fn sorted(data: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// CSV rows: NULLs, empty strings, quotes, line ends and delimiters inside, keys in odd forms.
fn csv(rows: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::new();
    for number in 0..rows {
        let id = random.below(1 << 40) as i64 - (1 << 39);
        let id = match random.below(10) {
            0 => String::new(),
            1 => format!("\" {id} \""),
            2 => format!("-00{}", id.abs()),
            _ => id.to_string(),
        };
        let texts = [
            "",
            "\"\"",
            "\"a,b\"",
            "\"q\"\"q\"",
            "\"two\nlines\"",
            "\"\\.\"",
            "\\N",
            "plain",
            "é\u{1F600}",
        ];
        let text = random.pick(&texts).expect("it works");
        out.extend_from_slice(format!("{id},{text},{number}\r\n").as_bytes());
    }
    out
}

#[test]
fn rows_of_every_format_come_to_their_shard_and_back() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(
        client,
        "CREATE TABLE spread (id bigint, name text, n int) WITH (drover.shard_key = 'id')",
    );
    run(client, "CREATE TABLE plain (id bigint, name text, n int)");
    for (turn, format) in ["", "csv", "csv header", "binary"].into_iter().enumerate() {
        run(client, "TRUNCATE plain");
        run(client, "TRUNCATE spread");
        ok(copy_in(
            client,
            "COPY plain FROM STDIN csv",
            &csv(2000, turn as u64),
        ));
        let data = copy_out(client, &format!("COPY plain TO STDOUT {format}"));
        let answer = ok(copy_in(
            client,
            &format!("COPY spread FROM STDIN {format}"),
            &data,
        ));
        assert_eq!(answer.tags(), ["COPY 2000"]);
        assert_eq!(answer.shape, "GCZ");
        fixture.check_placement();
        let back = copy_out(client, &format!("COPY spread TO STDOUT {format}"));
        assert_eq!(back.len(), data.len(), "{format}");
        if format == "csv header" {
            assert!(back.starts_with(b"id,name,n\n"));
        }
        if format.is_empty() {
            assert_eq!(sorted(&back), sorted(&data));
        }
        // What came back is understood by one server.
        run(client, "TRUNCATE plain");
        ok(copy_in(client, &format!("COPY plain FROM STDIN {format}"), &back));
        let again = copy_out(client, "COPY plain TO STDOUT");
        assert_eq!(sorted(&again), sorted(&copy_out(client, "COPY spread TO STDOUT")));
    }
}

#[test]
fn keys_are_placed_as_the_server_stores_them() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(
        client,
        "CREATE TABLE spread (id varchar(4), n int) WITH (drover.shard_key = 'id')",
    );
    let mut data = Vec::new();
    for number in 0..300 {
        data.extend_from_slice(format!("{number}      \t{number}\n").as_bytes());
    }
    ok(copy_in(client, "COPY spread FROM STDIN", &data));
    fixture.check_placement();
    assert_eq!(
        run(client, "SELECT n FROM spread WHERE id = '7   '")
            .value()
            .as_deref(),
        Some("7")
    );
}

#[test]
fn a_failed_copy_leaves_nothing() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(
        client,
        "CREATE TABLE spread (id int PRIMARY KEY, n int) WITH (drover.shard_key = 'id')",
    );
    let good: String = (0..3000).map(|id| format!("{id}\t{id}\n")).collect();
    let check = |client: &mut Client, tail: &str, code: &str, message: &str| {
        let answer = copy_in(
            client,
            "COPY spread FROM STDIN",
            format!("{good}{tail}").as_bytes(),
        );
        let error = answer.error().unwrap();
        assert_eq!((error.sqlstate(), error.message()), (code, message));
        assert_eq!(answer.ready, b"I");
        assert_eq!(
            run(client, "SELECT count(*) FROM spread").value().as_deref(),
            Some("0")
        );
    };
    check(
        client,
        "x\t1\n",
        "22P02",
        "invalid input syntax for type integer: \"x\"",
    );
    check(client, "3000\n", "22P04", "missing data for column \"n\"");
    check(
        client,
        "3000\t1\t1\n",
        "22P04",
        "extra data after last expected column",
    );
    check(
        client,
        "99999999999\t1\n",
        "22003",
        "value \"99999999999\" is out of range for type integer",
    );
    check(
        client,
        "7\t1\n",
        "23505",
        "duplicate key value violates unique constraint \"spread_pkey\"",
    );
    check(
        client,
        "\\N\t1\n",
        "23502",
        "null value in column \"id\" of relation \"spread\" violates not-null constraint",
    );
    let answer = client.simple_copy("COPY spread FROM STDIN", None).unwrap();
    assert_eq!(answer.error().unwrap().sqlstate(), "57014");
    assert!(
        answer
            .error()
            .unwrap()
            .message()
            .starts_with("COPY from stdin failed: ")
    );
    assert_eq!(
        run(client, "SELECT count(*) FROM spread").value().as_deref(),
        Some("0")
    );
    ok(copy_in(client, "COPY spread FROM STDIN", good.as_bytes()));
    assert_eq!(
        run(client, "SELECT count(*) FROM spread").value().as_deref(),
        Some("3000")
    );
}

#[test]
fn blocks_and_savepoints_hold_a_copy() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(
        client,
        "CREATE TABLE spread (id int PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    run(client, "BEGIN");
    ok(copy_in(
        client,
        "COPY spread FROM STDIN",
        b"1\n2\n3\n4\n5\n6\n7\n8\n",
    ));
    run(client, "SAVEPOINT s");
    assert_eq!(
        copy_in(client, "COPY spread FROM STDIN", b"11\n12\n1\n").ready,
        b"E"
    );
    run(client, "ROLLBACK TO s");
    ok(copy_in(
        client,
        "COPY spread FROM STDIN WHERE id > 10",
        b"11\n9\n",
    ));
    run(client, "COMMIT");
    assert_eq!(
        run(client, "SELECT sum(id) FROM spread").value().as_deref(),
        Some("47")
    );
}

#[test]
fn the_extended_protocol_copies_too() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(
        client,
        "CREATE TABLE spread (id int PRIMARY KEY) WITH (drover.shard_key = 'id')",
    );
    let mut request = Extended::new("COPY spread FROM STDIN");
    request.copy = Some(b"1\n2\n3\n4\n5\n");
    let answer = ok(client.extended(&request).unwrap());
    assert_eq!(answer.tags(), ["COPY 5"]);
    let answer = client.extended(&request).unwrap();
    assert_eq!(answer.error().unwrap().sqlstate(), "23505");
    let answer = ok(client.extended(&Extended::new("COPY spread TO STDOUT")).unwrap());
    assert_eq!(sorted(&answer.results[0].copied), sorted(b"1\n2\n3\n4\n5\n"));
    fixture.check_placement();
}

#[test]
fn reference_tables_and_sequences() {
    let fixture = Fixture::new();
    let client = &mut fixture.client();
    run(client, "CREATE TABLE copies (id int PRIMARY KEY, name text)");
    run(client, "SELECT drover.reference_table('copies')");
    assert_eq!(
        ok(copy_in(client, "COPY copies FROM STDIN", b"1\ta\n2\tb\n")).tags(),
        ["COPY 2"]
    );
    assert_eq!(
        copy_in(client, "COPY copies FROM STDIN", b"3\ta\n2\tb\n")
            .error()
            .unwrap()
            .sqlstate(),
        "23505"
    );
    assert_eq!(
        sorted(&copy_out(client, "COPY copies TO STDOUT")),
        sorted(b"1\ta\n2\tb\n")
    );
    run(
        client,
        "CREATE TABLE spread (id bigserial, k int, note text) WITH (drover.shard_key = 'k')",
    );
    let rows: String = (0..500).map(|k| format!("{k},\"n \"\"{k}\"\n")).collect();
    ok(copy_in(
        client,
        "COPY spread (k, note) FROM STDIN csv",
        rows.as_bytes(),
    ));
    let row = run(
        client,
        "SELECT count(DISTINCT id), min(id), max(id), count(DISTINCT note) FROM spread",
    )
    .text_rows();
    let row: Vec<_> = row[0].iter().flatten().map(String::as_str).collect();
    assert_eq!(row, ["500", "1", "500", "500"]);
    fixture.check_placement();
}
