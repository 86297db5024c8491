//! What operators see of statements: metrics, `drover.queries`, log lines and spans.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Extended};
use testkit::proxy::{DroverProxy, ProxySite};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(client: &mut Client, sql: &str) -> Answer {
    let answer = client.simple(sql).unwrap();
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

fn code(client: &mut Client, sql: &str) -> String {
    let answer = client.simple(sql).unwrap();
    answer.error().unwrap().sqlstate().to_owned()
}

/// A collector: gives the body of each post.
fn collector() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
            if sender.send(String::from_utf8(body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

/// Head and body of `GET /metrics`.
fn metrics(proxy: &DroverProxy) -> (String, String) {
    let mut socket = TcpStream::connect(proxy.http()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        proxy.http()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// The value of a series, 0 when it is not there.
fn series(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_default()
}

/// Waits until the log has a line with all of `parts`, and gives it.
fn line(proxy: &DroverProxy, parts: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = proxy.log();
        if let Some(line) = log
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)))
        {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no line with {parts:?} in\n{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The rules of the text format that readers insist on.
fn check_exposition(text: &str) {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut current = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name), "two HELP lines of {name}");
            assert!(!help.is_empty(), "{name}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name, kind).is_none(), "two TYPE lines of {name}");
            current = name;
            continue;
        }
        let (labelled, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(labelled), "{labelled} is there twice");
        let name = labelled.split('{').next().unwrap();
        let family = match types.get(current) {
            Some(&"histogram") => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name),
            _ => name,
        };
        assert_eq!(family, current, "{line} is not under its own TYPE");
        assert!(helped.contains(family), "{family} has no HELP");
        assert!(types[family] != "counter" || name.ends_with("_total"), "{line}");
    }
}

#[test]
fn a_statement_is_seen_everywhere() {
    let (url, bodies) = collector();
    let site = ProxySite::new(TestCluster::shared(3), Path::new(env!("CARGO_BIN_EXE_drover")));
    let proxy = site.start_with(
        "observed",
        &format!(
            "[log]\nformat = 'json'\nslow_query = '300ms'\nconnections = true\ndisconnections = true\nerrors = true\n\
             pins = true\ntenants = true\n[tracing]\notlp_endpoint = '{url}'\nsample_ratio = 0\n"
        ),
    );
    let mut client = proxy.client();
    line(&proxy, &["\"event\":\"login\"", "\"client\":\"127.0.0.1"]);
    run(&mut client, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    run(&mut client, "SELECT drover.shard_table('t', key => 'k')");
    run(
        &mut client,
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
    );
    logged_when_slow(&proxy, &mut client);
    digested(&mut client);
    traced(&mut client, &bodies);
    counted(&proxy, &mut client);
    run(&mut client, "CREATE TEMP TABLE pinning (a int)");
    line(&proxy, &["\"event\":\"pin\"", "\"reason\":\"temporary object\""]);
    let text = metrics(&proxy).1;
    let pinned = "drover_pinned_sessions{reason=\"temporary object\"}";
    assert_eq!(series(&text, pinned), 1.0);
    client.close();
    line(&proxy, &["\"event\":\"logout\""]);
    let deadline = Instant::now() + PATIENCE;
    while series(&metrics(&proxy).1, pinned) != 0.0 {
        assert!(
            Instant::now() < deadline,
            "a session that has ended counts as pinned"
        );
    }
}

fn logged_when_slow(proxy: &DroverProxy, client: &mut Client) {
    run(
        client,
        "SELECT pg_sleep(0.35), 'secret 1', v FROM t WHERE k = 3 /*correlation_id='req%201'*/",
    );
    let slow = line(proxy, &["\"event\":\"slow\"", "\"correlation_id\":\"req 1\""]);
    for part in [
        "\"statement\":\"SELECT pg_sleep(?), ?, v FROM t WHERE k = ?\"",
        "\"tenant\":\"3\"",
        "\"shard\":\"shard_",
        "\"shards\":1",
        "\"rows\":1",
        "\"wait_ms\":0",
        "\"latency_ms\":",
        "\"database\":",
    ] {
        assert!(slow.contains(part), "no {part} in {slow}");
    }
    assert!(!proxy.log().contains("secret"), "{slow}");
    assert_eq!(code(client, "SELECT 1/0"), "22012");
    line(proxy, &["\"event\":\"error\"", "\"sqlstate\":\"22012\""]);
    assert_eq!(code(client, "SELECT * FROM t TABLESAMPLE SYSTEM (1)"), "0A000");
    line(proxy, &["\"event\":\"refused\"", "\"code\":\"DRV"]);
}

fn digested(client: &mut Client) {
    run(client, "SELECT drover.queries_reset()");
    for key in 1..=3 {
        run(client, &format!("SELECT v FROM t WHERE k = {key} /*n='{key}'*/"));
    }
    let answer = client
        .extended(&Extended::new("SELECT v FROM t WHERE k = 4"))
        .unwrap();
    assert!(answer.error().is_none());
    run(client, "SELECT k FROM t");
    run(client, "SELECT count(*) FROM t a JOIN t b ON a.v < b.v");
    assert_eq!(code(client, "SELECT k / 0 FROM t WHERE k = 1"), "22012");
    let rows = run(client, "SELECT * FROM drover.queries").text_rows();
    let find = |text: &str| {
        let row = rows.iter().find(|row| row[3].as_deref() == Some(text));
        let row = row.unwrap_or_else(|| panic!("{text} is not in {rows:?}"));
        row.iter().map(|value| value.clone().unwrap()).collect::<Vec<_>>()
    };
    let one = find("SELECT v FROM t WHERE k = ?");
    // calls, rows, shards, errors
    assert_eq!((&*one[4], &*one[9], &*one[10], &*one[12]), ("4", "4", "4", "0"));
    let times: Vec<f64> = one[5..9].iter().map(|time| time.parse().unwrap()).collect();
    assert!(times[1] > 0.0 && times[1] <= times[3] && times[3] <= times[2] && times[2] <= times[0]);
    assert_eq!(one[2].len(), 16);
    assert!(one[13] <= one[14]);
    let many = find("SELECT k FROM t");
    assert_eq!((&*many[4], &*many[9], &*many[10]), ("1", "4", "3"));
    assert_eq!((&*many[15], &*many[16]), ("0", "0"));
    // Each use of the table is pulled: four rows of one letter, and nothing of the key.
    let gathered = find("SELECT count(*) FROM t a JOIN t b ON a.v < b.v");
    assert_eq!((&*gathered[4], &*gathered[9], &*gathered[15]), ("1", "1", "8"));
    let bytes: u64 = gathered[16].parse().unwrap();
    assert!((40..=200).contains(&bytes), "{bytes}");
    let failed = find("SELECT k / ? FROM t WHERE k = ?");
    assert_eq!((&*failed[4], &*failed[12]), ("1", "1"));
    run(client, "SELECT drover.queries_reset()");
    let rows = run(client, "SELECT * FROM drover.queries").text_rows();
    assert!(
        rows.iter()
            .all(|row| row[3].as_deref() != Some("SELECT k FROM t")),
        "{rows:?}"
    );
}

fn traced(client: &mut Client, bodies: &Receiver<String>) {
    let parent = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    // The client's own decision not to record counts as well.
    run(
        client,
        &format!("SELECT 'unrecorded' /*traceparent='00-{parent}-00'*/"),
    );
    run(
        client,
        &format!("SELECT k FROM t /*traceparent='00-{parent}-01'*/"),
    );
    let sql = format!("/*traceparent='00-{parent}-01'*/ SELECT v FROM t WHERE k = 2");
    assert!(client.extended(&Extended::new(&sql)).unwrap().error().is_none());
    let mut text = String::new();
    while !(text.contains("SELECT k FROM t") && text.contains("SELECT v FROM t WHERE k = ?")) {
        text.push_str(&bodies.recv_timeout(PATIENCE).expect("spans"));
    }
    assert!(
        text.contains("\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\""),
        "{text}"
    );
    assert_eq!(
        text.matches("\"parentSpanId\":\"00f067aa0ba902b7\"").count(),
        2,
        "{text}"
    );
    // Three shards and one.
    assert_eq!(text.matches("\"name\":\"server\"").count(), 4, "{text}");
    assert_eq!(text.matches("\"name\":\"select\"").count(), 2, "{text}");
    assert!(
        text.contains("{\"key\":\"drover.tenant\",\"value\":{\"stringValue\":\"2\"}}"),
        "{text}"
    );
    assert!(!text.contains("unrecorded"), "{text}");
}

fn counted(proxy: &DroverProxy, client: &mut Client) {
    let (head, before) = metrics(proxy);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    check_exposition(&before);
    for _ in 0..5 {
        run(client, "SELECT v FROM t WHERE k = 1");
    }
    run(client, "SELECT v FROM t");
    run(client, "BEGIN; INSERT INTO t VALUES (9, 'x'); ROLLBACK");
    assert_eq!(code(client, "INSERT INTO t VALUES (1, 'again')"), "23505");
    let after = metrics(proxy).1;
    check_exposition(&after);
    let grown = |name: &str| series(&after, name) - series(&before, name);
    for (name, by) in [
        (
            "drover_statement_seconds_count{kind=\"select\",route=\"one\"}",
            5.0,
        ),
        (
            "drover_statement_seconds_count{kind=\"select\",route=\"many\"}",
            1.0,
        ),
        (
            "drover_statement_seconds_count{kind=\"insert\",route=\"one\"}",
            2.0,
        ),
        (
            "drover_statement_seconds_count{kind=\"transaction\",route=\"local\"}",
            2.0,
        ),
        ("drover_errors_total{sqlstate=\"23505\"}", 1.0),
    ] {
        assert_eq!(grown(name), by, "{name}\n{after}");
    }
    assert!(
        after.contains("drover_pool_connections{shard=\"shard_1\",database=\""),
        "{after}"
    );
    assert!(series(&after, "drover_spans_exported_total") >= 6.0);
    assert!(
        series(&after, "drover_refusals_total{code=\"DRV1002\"}") >= 1.0,
        "{after}"
    );
}
