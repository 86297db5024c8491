//! The protocol's corners, message by message: what Drover answers has the shape of what PostgreSQL answers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use testkit::TestCluster;
use testkit::client::{Answer, Client, ClientError, Format, Parameter, Pipeline, Target};
use testkit::dev::DroverDev;

/// A Drover of three shards and a plain PostgreSQL with the same tables: `t (k int primary key, v text)`, sharded by `k`
/// in Drover, and `h`, the same but never sharded. Both have the keys 1 to 9.
struct Pair {
    drover: Target,
    plain: Target,
}

fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        // Leaked on purpose: a guard process ends it with the test.
        let dev: &'static DroverDev = Box::leak(Box::new(
            DroverDev::start(Path::new(env!("CARGO_BIN_EXE_drover")), 3, 0).unwrap(),
        ));
        let info = TestCluster::shared(1).info();
        let node = &info.shards[0].primary;
        let (user, password) = (&info.app_user, info.app_password.expose());
        let url = format!(
            "postgresql://{user}:{password}@{}:{}/{}",
            node.host, node.port, info.database
        );
        let pair = Pair {
            drover: dev.target().clone(),
            plain: Target::parse(&url).unwrap(),
        };
        for (target, sharded) in [(&pair.drover, true), (&pair.plain, false)] {
            let mut client = Client::open(target).unwrap();
            for table in ["t", "h"] {
                good(
                    &mut client,
                    &format!("CREATE TABLE {table} (k int PRIMARY KEY, v text)"),
                );
                if sharded && table == "t" {
                    good(&mut client, "SELECT drover.shard_table('t', key => 'k')");
                }
                let rows = (1..=9)
                    .map(|k| format!("({k}, 'v{k}')"))
                    .collect::<Vec<_>>()
                    .join(", ");
                good(&mut client, &format!("INSERT INTO {table} VALUES {rows}"));
            }
        }
        pair
    })
}

fn good(client: &mut Client, sql: &str) -> Answer {
    let answer = client.simple(sql).unwrap();
    assert!(answer.error().is_none(), "{sql}: {}", answer.error().unwrap());
    answer
}

/// What can be compared of two answers.
#[derive(Debug, PartialEq)]
struct Seen {
    shape: String,
    ready: Vec<u8>,
    codes: Vec<String>,
    tags: Vec<String>,
    rows: Vec<Vec<Vec<Option<String>>>>,
    settings: Vec<(String, String)>,
}

fn seen(answer: &Answer) -> Seen {
    let text = |value: &Option<Vec<u8>>| {
        value
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    Seen {
        shape: answer.shape.clone(),
        ready: answer.ready.clone(),
        codes: answer
            .errors
            .iter()
            .map(|error| error.sqlstate().to_owned())
            .collect(),
        tags: answer.tags().into_iter().map(str::to_owned).collect(),
        rows: (answer.results.iter())
            .map(|result| {
                result
                    .rows
                    .iter()
                    .map(|row| row.iter().map(text).collect())
                    .collect()
            })
            .collect(),
        settings: answer.settings.clone(),
    }
}

/// The checks of one test. All tests use the same two tables, so one at a time; what failed is told together.
struct Checks {
    failures: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Checks {
    fn begin() -> Checks {
        static ALONE: Mutex<()> = Mutex::new(());
        Checks {
            failures: Vec::new(),
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Sends the same messages to both and compares; afterwards both sessions must be usable.
    fn check(&mut self, name: &str, pipeline: impl Fn() -> Pipeline) {
        let run = |target: &Target| -> Result<Seen, ClientError> {
            let mut client = Client::open(target)?;
            client.set_timeout(Duration::from_secs(10));
            // All at once, COPY data too: nothing waits for an answer.
            let pipeline = pipeline();
            client.send(pipeline.bytes())?;
            let answer = client.collect(pipeline.readies())?;
            let after = client.run(Pipeline::new().query("ROLLBACK").query("SELECT count(*) FROM t"))?;
            let rows = after
                .results
                .get(1)
                .and_then(|result| result.rows.first()?.first()?.clone());
            let mut seen = seen(&answer);
            if rows.as_deref() != Some(b"9") {
                seen.tags.push(format!("afterwards: {after:?}"));
            }
            client.close();
            Ok(seen)
        };
        match (run(&pair().drover), run(&pair().plain)) {
            (Ok(drover), Ok(plain)) if drover == plain => {}
            (Ok(drover), Ok(plain)) => {
                (self.failures).push(format!(
                    "{name}:\n  Drover     {drover:?}\n  PostgreSQL {plain:?}"
                ));
            }
            (Err(error), _) => self.failures.push(format!("{name}: Drover: {error}")),
            (_, Err(error)) => self.failures.push(format!("{name}: PostgreSQL: {error}")),
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        }
    }
}

fn execute(pipeline: Pipeline, sql: &str) -> Pipeline {
    pipeline
        .parse("", sql, &[])
        .bind("", "", &[], Format::Text)
        .execute("", 0)
}

fn new() -> Pipeline {
    Pipeline::new()
}

#[test]
fn messages_in_odd_orders() {
    let mut checks = Checks::begin();
    checks.check("sync alone", || new().sync().sync());
    checks.check("flush alone", || new().flush().sync());
    checks.check("close of unknown names", || {
        new().close_statement("no").close_portal("no").sync()
    });
    checks.check("unknown statement", || {
        new().bind("", "no", &[], Format::Text).execute("", 0).sync()
    });
    checks.check("unknown portal", || {
        new().execute("no", 0).describe_portal("no").sync()
    });
    checks.check("describe an unknown statement", || {
        new().describe_statement("no").sync()
    });
    checks.check("empty query", || {
        execute(new(), "").describe_portal("").sync().query("").query(";")
    });
    checks.check("syntax error", || execute(new(), "SELEC 1").sync());
    checks.check("skip to sync", || {
        execute(execute(new(), "SELECT 1/0"), "SELECT 2")
            .sync()
            .query("SELECT 3")
    });
    checks.check("duplicate statement", || {
        new()
            .parse("a", "SELECT 1", &[])
            .parse("a", "SELECT 2", &[])
            .sync()
            .close_statement("a")
            .sync()
    });
    checks.check("duplicate portal", || {
        new()
            .parse("", "SELECT 1", &[])
            .bind("p", "", &[], Format::Text)
            .bind("p", "", &[], Format::Text)
            .sync()
    });
    checks.check("several statements in Parse", || {
        new().parse("", "SELECT 1; SELECT 2", &[]).sync()
    });
    checks.check("too few parameters", || {
        new()
            .parse("", "SELECT v FROM t WHERE k = $1", &[])
            .bind("", "", &[], Format::Text)
            .sync()
    });
    for table in ["t", "h"] {
        checks.check("describe before and after bind", || {
            let key = [Parameter::text("3")];
            let sql = format!("SELECT v FROM {table} WHERE k = $1");
            let prepared = new().parse("s", &sql, &[]).describe_statement("s");
            prepared
                .bind("p", "s", &key, Format::Text)
                .describe_portal("p")
                .execute("p", 0)
                .sync()
        });
        checks.check("flush without sync, then a simple query", || {
            execute(new(), &format!("SELECT v FROM {table} WHERE k = 1"))
                .flush()
                .query("SELECT 1")
        });
        checks.check("a failing simple query in a block", || {
            new()
                .query("BEGIN")
                .query(&format!("SELECT v/0 FROM {table}"))
                .query("SELECT 1")
                .query("COMMIT")
        });
    }
}

#[test]
fn portals_with_row_limits() {
    let mut checks = Checks::begin();
    for from in ["h WHERE k < 9", "t WHERE k = 4", "t", "t WHERE k IN (1, 2, 3, 4)"] {
        let sql = format!("SELECT k, v FROM {from} ORDER BY k");
        let open = || {
            new()
                .query("BEGIN")
                .parse("", &sql, &[])
                .bind("p", "", &[], Format::Text)
        };
        for limit in [1, 2, 4, 9, 100] {
            checks.check(&format!("{sql} by {limit}"), || {
                let twice = open().execute("p", limit).execute("p", limit).flush();
                twice.execute("p", 0).sync().query("COMMIT")
            });
        }
        checks.check("over a sync", || {
            open()
                .execute("p", 1)
                .sync()
                .execute("p", 2)
                .sync()
                .query("ROLLBACK")
        });
        checks.check("gone with its transaction", || {
            open()
                .execute("p", 1)
                .sync()
                .query("COMMIT")
                .execute("p", 1)
                .sync()
        });
        checks.check("closed", || {
            open().execute("p", 1).close_portal("p").execute("p", 1).sync()
        });
        checks.check("a finished one", || open().execute("p", 0).execute("p", 0).sync());
    }
    checks.check("a cursor made by SQL", || {
        let open = new().query("BEGIN; DECLARE c CURSOR FOR SELECT k FROM h ORDER BY k");
        open.describe_portal("c")
            .execute("c", 2)
            .sync()
            .close_portal("c")
            .sync()
            .query("COMMIT")
    });
    checks.check("writes in slices", || {
        let insert = "INSERT INTO t VALUES (21, 'a'), (22, 'b'), (23, 'c') RETURNING v";
        let open = new()
            .query("BEGIN")
            .parse("", insert, &[])
            .bind("p", "", &[], Format::Text);
        open.execute("p", 2).execute("p", 2).sync().query("ROLLBACK")
    });
}

#[test]
fn pipelines_are_one_transaction() {
    let mut checks = Checks::begin();
    let insert = |pipeline, key: u32| execute(pipeline, &format!("INSERT INTO t VALUES ({key}, 'p')"));
    for begin in [false, true] {
        let start = || if begin { execute(new(), "BEGIN") } else { new() };
        checks.check("a failing statement after writes", || {
            (31..37)
                .fold(start(), insert)
                .parse("", "SELECT 1/0", &[])
                .bind("", "", &[], Format::Text)
                .execute("", 0)
                .sync()
        });
        checks.check("a failing write after writes", || {
            (31..37).chain([1]).fold(start(), insert).sync()
        });
        checks.check("a parse error after writes", || {
            (31..37).fold(start(), insert).parse("", "SELEC", &[]).sync()
        });
        checks.check("a missing portal after writes", || {
            (31..37).fold(start(), insert).execute("no", 0).sync()
        });
    }
    checks.check("all good", || {
        (41..45)
            .fold(new(), insert)
            .sync()
            .query("DELETE FROM t WHERE k BETWEEN 41 AND 44")
    });
    checks.check("reads of many shards after writes", || {
        let counted = execute((51..54).fold(new(), insert), "SELECT count(*) FROM t");
        counted.sync().query("DELETE FROM t WHERE k > 9")
    });
    checks.check("several statements in one text", || {
        new().query("INSERT INTO t VALUES (61, 'x'); INSERT INTO t VALUES (62, 'x'); SELECT 1/0; INSERT INTO h VALUES (63, 'x')")
    });
    checks.check("an error at the end of a text", || {
        new().query("INSERT INTO h VALUES (61, 'x'); UPDATE t SET v = 'y' WHERE k < 5; INSERT INTO t VALUES (1, 'twice')")
    });
    checks.check("what failed has not happened", || {
        new()
            .query("SELECT k, v FROM t ORDER BY k")
            .query("SELECT count(*) FROM h")
    });
}

#[test]
fn settings_are_reported() {
    let mut checks = Checks::begin();
    checks.check("set, reset, rollback", || {
        new()
            .query("SET application_name = 'one'")
            .query("BEGIN")
            .query("SET application_name = 'two'")
            .query("ROLLBACK")
            .query("SHOW application_name")
            .query("SET DateStyle = 'German'")
            .query("RESET DateStyle")
            .query("SET TimeZone = 'Asia/Tokyo'")
            .query("DISCARD ALL")
    });
    checks.check("by the extended protocol", || {
        execute(
            execute(new(), "SET application_name = 'x'"),
            "SHOW application_name",
        )
        .sync()
    });
    for option in ["-c work_mem=3MB -c search_path=pg_catalog", "--work_mem=3MB"] {
        for target in [&pair().drover, &pair().plain] {
            let mut client = Client::open(&target.clone().with_option("options", option)).unwrap();
            assert_eq!(good(&mut client, "SHOW work_mem").value().as_deref(), Some("3MB"));
            good(&mut client, "SET work_mem = '5MB'");
            good(&mut client, "RESET work_mem");
            assert_eq!(good(&mut client, "SHOW work_mem").value().as_deref(), Some("3MB"));
        }
    }
}

#[test]
fn copy_by_the_extended_protocol() {
    let mut checks = Checks::begin();
    for table in ["h", "t"] {
        let copy = || {
            let sql = format!("COPY {table} FROM STDIN");
            new()
                .query("BEGIN")
                .parse("", &sql, &[])
                .bind("", "", &[], Format::Text)
                .execute("", 0)
        };
        let done = |pipeline: Pipeline| pipeline.query("ROLLBACK");
        checks.check("data", || done(copy().copy(b"71\ta\n72\tb\n73\tc\n").sync()));
        checks.check("fail", || done(copy().copy_fail("enough").sync()));
        checks.check("bad data", || done(copy().copy(b"71\ta\nx\tb\n").sync()));
        checks.check("simple, fail", || {
            new()
                .query(&format!("COPY {table} FROM STDIN"))
                .copy_fail("enough")
        });
        checks.check("out", || {
            new().query(&format!("BEGIN; COPY {table} TO STDOUT; ROLLBACK"))
        });
    }
}

/// The bytes a server says to bad bytes: its error, and whether it closes.
fn told(target: &Target, bytes: &[u8]) -> (Option<String>, bool) {
    let mut client = Client::open(target).unwrap();
    client.set_timeout(Duration::from_secs(5));
    client.send(bytes).unwrap();
    match client.collect(1) {
        Ok(answer) => (answer.error().map(|error| error.sqlstate().to_owned()), false),
        Err(ClientError::Closed(error)) => (error.map(|error| error.sqlstate().to_owned()), true),
        Err(error) => panic!("{bytes:?}: {error}"),
    }
}

#[test]
fn malformed_messages() {
    let _alone = Checks::begin();
    let sync = new().sync().bytes().to_vec();
    let cases: [(&str, &[u8]); 7] = [
        ("a length below four", b"Q\0\0\0\x03"),
        ("a huge length", b"Q\x7f\xff\xff\xff"),
        ("a negative length", b"P\xff\xff\xff\xff"),
        ("an unknown type", b"z\0\0\0\x04"),
        ("a Bind cut short", b"B\0\0\0\x08\0\0\0\x01"),
        ("a Parse without an end", b"P\0\0\0\x06ab"),
        ("an Execute cut short", b"E\0\0\0\x06\0\0"),
    ];
    for (name, bytes) in cases {
        let bytes = [bytes, &sync].concat();
        let (code, closed) = told(&pair().drover, &bytes);
        assert_eq!(code.as_deref().unwrap_or("08P01"), "08P01", "{name}");
        // PostgreSQL survives what is wrong inside a message; giving up is allowed, silence is not.
        assert!(closed || code.is_some(), "{name}");
        good(&mut Client::open(&pair().drover).unwrap(), "SELECT 1");
    }
}

/// Statements that come again take a shorter way through the session; what clients see of it is the same.
#[test]
fn statements_that_come_again() {
    let mut checks = Checks::begin();
    let three = |once: &dyn Fn(Pipeline) -> Pipeline| (0..3).fold(new(), |all, _| once(all));
    for table in ["t", "h"] {
        let by_key = format!("SELECT v FROM {table} WHERE k = $1");
        checks.check("queries that differ in a number", || {
            (1..12).fold(new(), |all, k| {
                all.query(&format!("SELECT v FROM {table} WHERE k = {k}"))
            })
        });
        checks.check("numbers of other types", || {
            let numbers = ["1", "2", "3.0", "4e0", "-5", "12345678901", "007", "8"];
            numbers.iter().fold(new(), |all, k| {
                all.query(&format!("SELECT v FROM {table} WHERE k = {k}"))
            })
        });
        checks.check("writes", || {
            three(&|all| {
                all.query(&format!("INSERT INTO {table} VALUES (90, 'x')"))
                    .query(&format!("UPDATE {table} SET v = 'y' WHERE k = 90"))
                    .query(&format!("DELETE FROM {table} WHERE k = 90"))
            })
        });
        checks.check("errors", || {
            three(&|all| {
                all.query(&format!("SELECT 1/(k - 3) FROM {table} WHERE k = 3"))
                    .query("SELECT 4")
            })
        });
        checks.check("large answers", || {
            three(&|all| {
                all.query(&format!(
                    "SELECT repeat(v, 9999) FROM {table}, generate_series(1, 9) WHERE k = 4"
                ))
            })
        });
        for key in ["5", "77", "abc"] {
            let key = [Parameter::text(key)];
            checks.check("an unnamed statement", || {
                three(&|all| {
                    all.parse("", &by_key, &[])
                        .bind("", "", &key, Format::Text)
                        .describe_portal("")
                        .execute("", 0)
                        .sync()
                })
                // Whether it still exists is the same question for both.
                .bind("", "", &[Parameter::text("6")], Format::Text)
                .execute("", 0)
                .sync()
            });
            checks.check("a named statement", || {
                let prepared = new().parse("s", &by_key, &[23]).sync();
                (0..3).fold(prepared, |all, _| {
                    all.bind("", "s", &key, Format::Binary).execute("", 0).sync()
                })
            });
        }
        checks.check("a Parse that fails", || {
            three(&|all| execute(all, &format!("SELECT gone FROM {table} WHERE k = 1")).sync())
                .bind("", "", &[], Format::Text)
                .sync()
        });
        checks.check("a row limit", || {
            let sql = format!("SELECT k FROM {table}, generate_series(1, 5) WHERE k = 2");
            three(&|all| {
                all.parse("", &sql, &[])
                    .bind("", "", &[], Format::Text)
                    .execute("", 2)
                    .sync()
            })
            .execute("", 2)
            .sync()
        });
        checks.check("parameters too many or too few", || {
            let two = [Parameter::text("1"), Parameter::text("2")];
            three(&|all| {
                all.parse("", &by_key, &[])
                    .bind("", "", &[Parameter::text("1")], Format::Text)
                    .execute("", 0)
                    .sync()
            })
            .parse("", &by_key, &[])
            .bind("", "", &two, Format::Text)
            .execute("", 0)
            .sync()
            .parse("", &by_key, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0)
            .sync()
        });
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let _alone = Checks::begin();
    let mut client = Client::open(&pair().drover).unwrap();
    for key in 1..4 {
        let query = new().query(&format!("SELECT v FROM h WHERE k = {key}"));
        let batch = execute(new(), "SELECT v FROM h WHERE k = 9").sync();
        for (pipeline, expect) in [(query, format!("v{key}")), (batch, "v9".to_owned())] {
            for byte in pipeline.bytes() {
                client.send(&[*byte]).unwrap();
            }
            let answer = client.collect(1).unwrap();
            assert_eq!(answer.value(), Some(expect));
        }
    }
}

/// Waits until the home shard's server runs this text.
fn wait_until_it_runs(sql: &str) {
    let mut watcher = Client::open(&pair().drover).unwrap();
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '{sql}%' AND pid <> pg_backend_pid()"
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    while good(&mut watcher, &running).value().as_deref() == Some("0") {
        assert!(Instant::now() < deadline, "it never runs: {sql}");
    }
}

#[test]
fn cancel_reaches_what_runs() {
    let _alone = Checks::begin();
    // The second one runs on the shard of a key that the home shard has.
    let mut looking = Client::open(&pair().drover).unwrap();
    let at_home = |key: &u32| {
        let plan = good(
            &mut looking,
            &format!("EXPLAIN (ROUTE) SELECT v FROM t WHERE k = {key}"),
        );
        format!("{:?}", plan.text_rows()).contains("shard_1")
    };
    let key = (1..=9).find(at_home).expect("a key of the home shard");
    for (sql, runs_as) in [
        ("SELECT pg_sleep(20)".to_owned(), "SELECT pg_sleep(20)"),
        (
            format!("SELECT pg_sleep(20) FROM t WHERE k = {key}"),
            "SELECT pg_sleep(20) FROM t",
        ),
        (
            "SELECT sum(k) FROM t, generate_series(1, 1000000000)".to_owned(),
            "%generate_series",
        ),
    ] {
        let mut client = Client::open(&pair().drover).unwrap();
        client.send(new().query(&sql).bytes()).unwrap();
        let start = Instant::now();
        wait_until_it_runs(runs_as);
        client.cancel().unwrap();
        let answer = client.collect(1).unwrap();
        assert_eq!(answer.error().unwrap().sqlstate(), "57014", "{sql}");
        assert!(start.elapsed() < Duration::from_secs(10), "{sql}");
        good(&mut client, "SELECT count(*) FROM t");
    }
}

#[test]
fn clients_that_die_at_any_byte() {
    let _alone = Checks::begin();
    let insert = |pipeline, key: u32| execute(pipeline, &format!("INSERT INTO t VALUES ({key}, 'p')"));
    let pipeline = execute((81..84).fold(new(), insert).flush(), "SELECT k FROM t").flush();
    let pipeline = execute(pipeline, "SELECT 1/0")
        .sync()
        .query("BEGIN")
        .query("DELETE FROM t")
        .query("SELECT 1");
    let bytes = pipeline.bytes();
    for cut in (0..=bytes.len()).step_by(bytes.len() / 40) {
        let mut client = Client::open(&pair().drover).unwrap();
        client.send(&bytes[..cut]).unwrap();
        client.kill();
    }
    let mut client = Client::open(&pair().drover).unwrap();
    assert_eq!(
        good(&mut client, "SELECT count(*) FROM t").value().as_deref(),
        Some("9")
    );
}
