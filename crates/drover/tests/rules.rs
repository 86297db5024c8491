//! Rules: what is blocked, rewritten and counted, in every way a statement can come.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, Extended, Parameter};
use testkit::proxy::{DroverProxy, ProxySite};

const PATIENCE: Duration = Duration::from_secs(30);

const RULES: &str = r#"
[[rules]]
name = "no deletes"
statement = "DELETE FROM t"
[[rules]]
name = "own words"
statement = "SELECT v FROM t WHERE v LIKE ?"
message = "not by pattern"
sqlstate = "42501"
[[rules]]
name = "somebody else's"
statement = "SELECT count(*) FROM t"
user = "somebody_else"
[[rules]]
name = "keys"
statement = "SELECT v FROM t WHERE k + ? = ? AND v <> ?"
action = "rewrite"
rewrite = "SELECT k AS key, v FROM t WHERE k = $2 AND v <> $3 AND $1 = 0"
[[rules]]
name = "at home"
statement = "SELECT v FROM u WHERE k + ? = ?"
action = "rewrite"
rewrite = "SELECT v || '!' AS loud FROM u WHERE k = $2 - $1"
[[rules]]
name = "lists"
statement = "SELECT k FROM t WHERE k IN (?, …)"
action = "rewrite"
rewrite = "SELECT k FROM t WHERE k IN ($1) ORDER BY k DESC"
[[rules]]
name = "fewer"
statement = "SELECT k FROM t WHERE k = ? OR k = ?"
action = "rewrite"
rewrite = "SELECT k FROM t WHERE k = $1"
[[rules]]
name = "watched"
statement = "SELECT k, v FROM t WHERE k = 1"
mode = "dry-run"
[[rules]]
name = "rows"
statement = "INSERT INTO t VALUES (1, ''), (2, '')"
mode = "dry-run"
"#;

fn run(client: &mut Client, sql: &str) -> Vec<String> {
    let answer = client.simple(sql).unwrap();
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    values(&answer)
}

/// All values, a row each.
fn values(answer: &Answer) -> Vec<String> {
    let row = |row: Vec<Option<String>>| {
        let values: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        values.join(" ")
    };
    answer.text_rows().into_iter().map(row).collect()
}

fn extended(client: &mut Client, sql: &str, types: &[u32], values: &[&str]) -> Answer {
    let parameters: Vec<Parameter> = values.iter().map(|value| Parameter::text(*value)).collect();
    let run = Extended {
        types,
        parameters: &parameters,
        ..Extended::new(sql)
    };
    client.extended(&run).unwrap()
}

fn error(answer: &Answer) -> (String, String) {
    let error = answer.error().unwrap_or_else(|| panic!("{answer:?}"));
    (error.sqlstate().to_owned(), error.message().to_owned())
}

fn metrics(proxy: &DroverProxy) -> String {
    let mut socket = TcpStream::connect(proxy.http()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        proxy.http()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

fn hits(client: &mut Client) -> Vec<(String, String)> {
    let answer = client.simple("SELECT * FROM drover.rules").unwrap();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows = answer.text_rows();
    rows.iter().map(|row| (text(&row[0]), text(&row[6]))).collect()
}

fn hits_of(client: &mut Client, name: &str) -> u64 {
    let all = hits(client);
    let found = all.iter().find(|(known, _)| known == name);
    found
        .unwrap_or_else(|| panic!("{name} is not in {all:?}"))
        .1
        .parse()
        .unwrap()
}

/// The proxy with these rules, and a sharded table of five rows.
fn start(site: &ProxySite) -> (DroverProxy, Client) {
    let proxy = site.start_with("one", RULES);
    let mut client = proxy.client();
    run(&mut client, "CREATE TABLE t (k int PRIMARY KEY, v text)");
    run(&mut client, "SELECT drover.shard_table('t', key => 'k')");
    run(&mut client, "CREATE TABLE u (k int, v text)");
    run(
        &mut client,
        "INSERT INTO u SELECT g, 'u' || g FROM generate_series(1, 5) g",
    );
    run(
        &mut client,
        "INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 5) g",
    );
    (proxy, client)
}

#[test]
fn rules_hold_in_every_way_a_statement_can_come() {
    let site = ProxySite::new(TestCluster::shared(2), Path::new(env!("CARGO_BIN_EXE_drover")));
    let (proxy, mut client) = start(&site);
    blocked(&proxy, &mut client);
    rewritten(&mut client);
    watched(&mut client);
    reloaded(&site, &proxy, &mut client);
}

fn blocked(proxy: &DroverProxy, client: &mut Client) {
    const CODE: &str = "refusal code DRV7173";
    for sql in ["DELETE FROM t", "delete /* all */ from\tT ;", "DELETE FROM t"] {
        let answer = client.simple(sql).unwrap();
        assert_eq!(error(&answer).0, "0A000");
        assert_eq!(answer.error().unwrap().field(b'D'), Some(CODE));
    }
    assert_eq!(hits_of(client, "no deletes"), 3);
    assert_eq!(error(&extended(client, "DELETE FROM t", &[], &[])).0, "0A000");
    for sql in [
        "SELECT 1; DELETE FROM t",
        "PREPARE p AS DELETE FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN DELETE FROM t",
    ] {
        assert_eq!(error(&client.simple(sql).unwrap()).0, "0A000", "{sql}");
    }
    assert_eq!(hits_of(client, "no deletes"), 8);
    let counted = "drover_rule_hits_total{rule=\"no deletes\",action=\"block\",mode=\"enforce\"} 8\n";
    let text = metrics(proxy);
    assert!(text.contains(counted), "{text}");
    let words = ("42501".to_owned(), "not by pattern".to_owned());
    assert_eq!(
        error(&client.simple("SELECT v FROM t WHERE v LIKE 'a%'").unwrap()),
        words
    );
    assert_eq!(
        error(
            &client
                .simple("COPY (SELECT v FROM t WHERE v LIKE 'b%') TO STDOUT")
                .unwrap()
        ),
        words
    );
    assert_eq!(
        error(&extended(client, "SELECT v FROM t WHERE v LIKE $1", &[], &["c%"])),
        words
    );
    // It fails its transaction like any error, and the transaction can end.
    run(client, "BEGIN");
    run(client, "INSERT INTO t VALUES (6, 'six')");
    let cursor = client
        .simple("DECLARE c CURSOR FOR SELECT v FROM t WHERE v LIKE 'd%'")
        .unwrap();
    assert_eq!(error(&cursor), words);
    assert_eq!(
        error(&client.simple("SELECT v FROM t WHERE v LIKE 'd%'").unwrap()).0,
        "25P02"
    );
    run(client, "ROLLBACK");
    assert_eq!(hits_of(client, "own words"), 4);
    // Nothing was deleted or added, and other words do the same.
    assert_eq!(run(client, "SELECT count(*) FROM t"), ["5"]);
    run(client, "DELETE FROM t WHERE false");
    // Rules for others are others' business.
    assert!(hits(client).iter().all(|(name, _)| name != "somebody else's"));
}

fn rewritten(client: &mut Client) {
    for (sql, key) in [
        ("SELECT v FROM t WHERE k + 0 = 2 AND v <> 'x'", 2),
        ("SELECT v FROM t WHERE k + 0 = 4 AND v <> 'it''s'", 4),
    ] {
        let answer = client.simple(sql).unwrap();
        let columns = answer.results[0].columns.as_ref().unwrap();
        assert_eq!((columns.len(), columns[0].name.as_str()), (2, "key"), "{sql}");
        assert_eq!(values(&answer), [format!("{key} v{key}")], "{sql}");
    }
    // As parameters, in another order than their places, and among others.
    let sql = "SELECT v FROM t WHERE k + $2 = $1 AND v <> $3";
    let answer = extended(client, sql, &[23, 23, 25], &["3", "0", "x"]);
    assert_eq!(values(&answer), ["3 v3"]);
    let answer = extended(client, sql, &[23, 23, 25], &["1", "0", "x"]);
    assert_eq!(values(&answer), ["1 v1"]);
    assert_eq!(hits_of(client, "keys"), 4);
    let answer = client
        .simple("SELECT 7; SELECT v FROM t WHERE k + 0 = 5 AND v <> ''; SELECT 8")
        .unwrap();
    assert_eq!(answer.results.len(), 3, "{answer:?}");
    assert_eq!(answer.results[1].columns.as_ref().unwrap().len(), 2);
    let plan = run(
        client,
        "EXPLAIN (ROUTE) SELECT v FROM t WHERE k + 0 = 2 AND v <> ''",
    );
    assert!(plan[1].starts_with("Target: keys"), "{plan:?}");
    // Statements in statements.
    run(client, "BEGIN");
    run(client, "DECLARE c CURSOR FOR SELECT v FROM u WHERE k + 1 = 3");
    assert_eq!(run(client, "FETCH ALL FROM c"), ["u2!"]);
    run(client, "COMMIT");
    run(client, "PREPARE p (int) AS SELECT v FROM u WHERE k + 1 = $1");
    assert_eq!(run(client, "EXECUTE p (4)"), ["u3!"]);
    run(client, "DEALLOCATE p");
    assert_eq!(hits_of(client, "at home"), 2);
    // A list goes as a whole.
    assert_eq!(
        run(client, "SELECT k FROM t WHERE k IN (1, 3,  4)"),
        ["4", "3", "1"]
    );
    let answer = extended(client, "SELECT k FROM t WHERE k IN ($1, 2, $2)", &[], &["5", "1"]);
    assert_eq!(values(&answer), ["5", "2", "1"]);
    // Every parameter has to be used.
    assert_eq!(run(client, "SELECT k FROM t WHERE k = 3 OR k = 9"), ["3"]);
    let answer = extended(client, "SELECT k FROM t WHERE k = $1 OR k = $2", &[], &["5", "1"]);
    assert_eq!(answer.error().unwrap().field(b'D'), Some("refusal code DRV7174"));
}

fn watched(client: &mut Client) {
    for key in 1..=3 {
        let found = run(client, &format!("SELECT k, v FROM t WHERE k = {key}"));
        assert_eq!(found, [format!("{key} v{key}")]);
    }
    assert_eq!(hits_of(client, "watched"), 3);
    for key in ["1", "2"] {
        let answer = extended(client, "SELECT k, v FROM t WHERE k = $1", &[], &[key]);
        assert_eq!(values(&answer), [format!("{key} v{key}")]);
    }
    assert_eq!(hits_of(client, "watched"), 5);
    let answer = client.simple("SELECT 1; SELECT k, v FROM t WHERE k = 4").unwrap();
    assert_eq!(answer.tags(), ["SELECT 1", "SELECT 1"]);
    assert_eq!(hits_of(client, "watched"), 6);
    // Rows that are alike are recognised by other means.
    for start in [100, 200] {
        let rows: Vec<String> = (start..start + 40).map(|key| format!("({key}, 'x')")).collect();
        run(client, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
    }
    assert_eq!(hits_of(client, "rows"), 2);
    run(client, "DELETE FROM t WHERE k >= 100");
}

fn reloaded(site: &ProxySite, proxy: &DroverProxy, client: &mut Client) {
    let file = site.store().with_file_name("one.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let mut named = proxy.client();
    run(&mut named, "SELECT 1");
    let deleted = hits_of(client, "no deletes");
    let changed = before.replace(
        "statement = \"DELETE FROM t\"\n",
        "statement = \"DELETE FROM t\"\nmode = \"dry-run\"\n",
    );
    let changed = changed.replace(
        "[[rules]]\nname = \"watched\"\nstatement = \"SELECT k, v FROM t WHERE k = 1\"\nmode = \"dry-run\"",
        "[[rules]]\nname = \"watched\"\nstatement = \"SELECT k, v FROM t WHERE k = 1\"",
    );
    assert_ne!(before, changed);
    std::fs::write(&file, &changed).unwrap();
    proxy.signal("HUP");
    // Every worker takes them over by itself.
    let deadline = Instant::now() + PATIENCE;
    for client in [client, &mut named] {
        loop {
            let answer = client.simple("SELECT k, v FROM t WHERE k = 1").unwrap();
            if answer.error().is_some() {
                assert_eq!(error(&answer).0, "0A000");
                break;
            }
            assert!(Instant::now() < deadline, "{}", proxy.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let mut client = proxy.client();
    run(&mut client, "BEGIN");
    run(&mut client, "DELETE FROM t");
    assert_eq!(run(&mut client, "SELECT count(*) FROM t"), ["0"]);
    run(&mut client, "ROLLBACK");
    assert!(deleted > 0);
    assert_eq!(hits_of(&mut client, "no deletes"), 1);
    assert!(
        hits_of(&mut client, "keys") > 0,
        "a rule that is as it was keeps its hits"
    );
}
