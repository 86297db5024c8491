//! What a session allows its own statements.

use testkit::client::{Client, Format, Parameter, Pipeline};

use super::fixture::{Fixture, error, run, value};

fn orders(fixture: &Fixture) -> Client {
    let mut client = fixture.client();
    for sql in [
        "CREATE TABLE orders (k int PRIMARY KEY, n int) WITH (drover.shard_key = 'k')",
        "CREATE TABLE home (n int, t text)",
        "INSERT INTO orders SELECT g, g FROM generate_series(1, 40) g",
        "INSERT INTO home SELECT g, repeat('x', 100) FROM generate_series(1, 40) g",
    ] {
        run(&mut client, sql);
    }
    client
}

const ALL: &str = "SELECT count(*) FROM orders";
const GATHERED: &str = "SELECT count(h.t) FROM orders o JOIN home h ON h.n = o.n";

#[test]
fn a_statement_concerns_no_more_shards_than_the_session_allows() {
    let fixture = Fixture::over(3, 4, 1);
    let client = &mut orders(&fixture);
    assert_eq!(value(client, "SHOW drover.fanout"), "all");
    run(client, "SET drover.fanout = 'single'");
    for sql in [
        ALL,
        GATHERED,
        "UPDATE orders SET n = n",
        "DELETE FROM orders WHERE n = 5",
    ] {
        let (code, message) = error(client, sql);
        assert!(
            code == "0A000" && message.contains("drover.fanout"),
            "{sql}: {message}"
        );
    }
    assert_eq!(value(client, "SELECT n FROM orders WHERE k = 7"), "7");
    run(client, "SET drover.fanout = many");
    assert_eq!(error(client, ALL).0, "0A000");
    run(client, "BEGIN");
    run(client, "SET LOCAL drover.fanout = 'all'");
    assert_eq!(value(client, ALL), "40");
    run(client, "COMMIT");
    assert_eq!(error(client, ALL).0, "0A000");
    run(client, "RESET drover.fanout");
    assert_eq!(value(client, ALL), "40");
    assert_eq!(error(client, "SET drover.fanout = 'some'").0, "22023");
}

#[test]
fn a_transaction_of_one_shard_stays_on_it() {
    let fixture = Fixture::over(3, 4, 1);
    let client = &mut orders(&fixture);
    // Keys of two shards.
    let shard_of = |client: &mut Client, key: i32| {
        let route = run(
            client,
            &format!("EXPLAIN (ROUTE) SELECT * FROM orders WHERE k = {key}"),
        )
        .text_rows();
        let lines = route.into_iter().flatten().flatten();
        lines
            .into_iter()
            .find(|line| line.starts_with("Shards:"))
            .unwrap()
    };
    let first = shard_of(client, 1);
    let other = (2..40).find(|key| shard_of(client, *key) != first).unwrap();
    run(client, "SET drover.transaction_mode = 'single'");
    run(client, "BEGIN");
    run(client, "UPDATE orders SET n = 100 WHERE k = 1");
    let (code, message) = error(client, &format!("UPDATE orders SET n = 100 WHERE k = {other}"));
    assert!(code == "0A000" && message.contains("second shard"), "{message}");
    run(client, "ROLLBACK");
    assert_eq!(error(client, "UPDATE orders SET n = 0").0, "0A000");
    // Reads of several shards are no transaction.
    assert_eq!(value(client, "SELECT sum(n) FROM orders"), "820");
    run(client, &format!("UPDATE orders SET n = n WHERE k = {other}"));
    run(client, "SET drover.transaction_mode = 'atomic'");
    run(client, "UPDATE orders SET n = n");
    assert_eq!(error(client, "SET drover.transaction_mode = 'half'").0, "22023");
}

#[test]
fn a_session_may_gather_less_than_the_configuration_allows() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    assert_eq!(
        value(client, "SHOW drover.gather_max_bytes"),
        (64 << 20).to_string()
    );
    run(client, "SET drover.gather_max_bytes = '2kB'");
    assert_eq!(error(client, GATHERED).0, "53400");
    run(client, "SET drover.gather_max_bytes = '1GB'");
    assert_eq!(
        value(client, "SHOW drover.gather_max_bytes"),
        (64 << 20).to_string()
    );
    assert_eq!(value(client, GATHERED), "40");
}

#[test]
fn reads_of_several_shards_say_how_many_rows_they_want() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    run(client, "SET drover.require_limit = on");
    for sql in [
        "SELECT * FROM orders",
        "SELECT DISTINCT n FROM orders",
        "SELECT * FROM orders LIMIT ALL",
        "SELECT o.n FROM orders o JOIN home h ON h.n = o.n",
        "SELECT n FROM orders UNION ALL SELECT n FROM orders LIMIT NULL",
        "SELECT * FROM (SELECT n FROM orders) x",
        "COPY (SELECT * FROM orders) TO STDOUT",
    ] {
        let (code, message) = error(client, sql);
        assert!(
            code == "0A000" && message.contains("drover.require_limit"),
            "{sql}: {code} {message}"
        );
    }
    for sql in [
        "SELECT * FROM orders LIMIT 3",
        "SELECT * FROM orders ORDER BY n FETCH FIRST 2 ROWS ONLY",
        "SELECT count(*) FROM orders",
        "SELECT n % 3, count(*) FROM orders GROUP BY 1",
        "SELECT * FROM orders WHERE k = 7",
        "SELECT * FROM home",
        "SELECT * FROM (SELECT n FROM orders LIMIT 2) x",
        "SELECT n FROM orders WHERE k = 1 UNION ALL SELECT n FROM home WHERE n = 1 LIMIT 1",
        "UPDATE orders SET n = n",
    ] {
        run(client, sql);
    }
    // With a parameter in place of the number, and in the extended protocol.
    let limited = Pipeline::new()
        .parse("", "SELECT * FROM orders LIMIT $1", &[23])
        .bind("", "", &[Parameter::text("4")], Format::Text)
        .execute("", 0)
        .sync();
    let answer = client.run(limited).unwrap();
    assert_eq!((answer.error(), answer.text_rows().len()), (None, 4));
    run(client, "BEGIN");
    run(client, "SET LOCAL drover.require_limit = off");
    run(client, "SELECT * FROM orders");
    run(client, "COMMIT");
    assert_eq!(error(client, "SELECT * FROM orders").0, "0A000");
    assert_eq!(error(client, "SET drover.require_limit = 'maybe'").0, "22023");
}

#[test]
fn a_role_has_limits_of_its_own() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    // Other tests have the role, but not the database.
    let role = value(
        client,
        "SELECT format('%I IN DATABASE %I', current_user, current_database())",
    );
    let mut admin = fixture.admin();
    for sql in [
        format!("ALTER ROLE {role} SET drover.require_limit = 'on'"),
        format!("ALTER ROLE {role} SET drover.statement_budget = 'rows=20'"),
    ] {
        run(&mut admin, &sql);
    }
    let (_running, url) = fixture.another("limits-of-a-role");
    let client = &mut Client::connect(&url).unwrap();
    // What a role starts with is read with its first statement.
    run(client, "SELECT 1");
    assert_eq!(value(client, "SHOW drover.require_limit"), "on");
    assert_eq!(value(client, "SHOW drover.statement_budget"), "rows=20");
    assert_eq!(error(client, "SELECT * FROM orders").0, "0A000");
    assert_eq!(error(client, "SELECT n FROM orders LIMIT 30").0, "53400");
    run(client, "SET drover.statement_budget = 'off'");
    run(client, "SELECT n FROM orders LIMIT 30");
}

/// What is more than the budget, on one server and on several.
const TOO_MUCH: [&str; 6] = [
    "SELECT n FROM home",
    "SELECT n, repeat('x', 100) FROM home",
    "SELECT n FROM orders",
    "SELECT n FROM orders ORDER BY n",
    GATHERED,
    "SELECT g FROM generate_series(1, 5000000) g",
];

#[test]
fn a_statement_that_is_too_much_is_an_error_in_every_protocol() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    run(
        client,
        "SET drover.statement_budget = 'rows=30,bytes=1MB,time=1h'",
    );
    assert_eq!(
        value(client, "SHOW drover.statement_budget"),
        "rows=30,bytes=1048576,time=3600000ms"
    );
    for sql in TOO_MUCH {
        let answer = client.simple(sql).unwrap();
        let error = answer.error().unwrap();
        assert_eq!(error.sqlstate(), "53400", "{sql}: {error:?}");
        assert!(error.message().contains("rows=30"), "{sql}: {error:?}");
        assert!(answer.text_rows().len() <= 30, "{sql}");
        // The session goes on, and what is little is answered.
        assert_eq!(value(client, "SELECT count(*) FROM home"), "40", "{sql}");
        for rows in [0, 10_000_000] {
            let pipeline = Pipeline::new()
                .parse("", sql, &[])
                .bind("", "", &[], Format::Text)
                .execute("", rows)
                .parse("", "INSERT INTO home VALUES (41)", &[])
                .bind("", "", &[], Format::Text)
                .execute("", 0)
                .sync();
            let answer = client.run(pipeline).unwrap();
            assert_eq!(answer.error().unwrap().sqlstate(), "53400", "{sql}");
            assert_eq!(client.status(), b'I', "{sql}");
            assert_eq!(value(client, "SELECT count(*) FROM home"), "40", "{sql}");
        }
    }
    run(client, "SET drover.statement_budget = 'bytes=2kB'");
    let (code, message) = error(client, TOO_MUCH[1]);
    assert!(code == "53400" && message.contains("bytes=2048"), "{message}");
    run(client, "RESET drover.statement_budget");
    assert_eq!(run(client, TOO_MUCH[0]).text_rows().len(), 40);
}

#[test]
fn nothing_lasts_of_a_statement_that_was_too_much() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    run(client, "CREATE TABLE notes (n int)");
    run(
        client,
        "CREATE FUNCTION note(int) RETURNS int LANGUAGE sql AS 'INSERT INTO notes VALUES ($1) RETURNING n'",
    );
    run(client, "SET drover.statement_budget = 'rows=5'");
    // So little that it has ended before any cancel can come.
    for sql in [
        "SELECT note(g) FROM generate_series(1, 10) g",
        "INSERT INTO notes SELECT generate_series(1, 10) RETURNING n",
        "UPDATE orders SET n = 0 RETURNING k",
        "INSERT INTO notes VALUES (1); SELECT n FROM home",
        "SELECT note(1); SELECT n FROM home",
    ] {
        let (code, message) = error(client, sql);
        assert_eq!(code, "53400", "{sql}: {message}");
        assert_eq!(client.status(), b'I', "{sql}");
        assert_eq!(value(client, "SELECT count(*) FROM notes"), "0", "{sql}");
        let written = Pipeline::new()
            .parse("", "INSERT INTO notes VALUES (1)", &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0);
        let last = sql.rsplit("; ").next().unwrap();
        let pipeline = written
            .parse("", last, &[])
            .bind("", "", &[], Format::Text)
            .execute("", 0);
        let answer = client.run(pipeline.sync()).unwrap();
        let code = answer.error().unwrap().sqlstate();
        // A write to several shards behind another statement of a pipeline is refused anyway.
        assert!(code == "53400" || last.starts_with("UPDATE"), "{sql}: {code}");
        assert_eq!(value(client, "SELECT count(*) FROM notes"), "0", "{sql}");
    }
    assert_eq!(value(client, "SELECT sum(n) FROM orders"), "820");
    // A block fails, as it does with any error.
    run(client, "BEGIN");
    run(client, "INSERT INTO notes VALUES (1)");
    assert_eq!(error(client, "SELECT n FROM home").0, "53400");
    assert_eq!(client.status(), b'E');
    assert_eq!(error(client, "SELECT 1").0, "25P02");
    run(client, "COMMIT");
    assert_eq!(value(client, "SELECT count(*) FROM notes"), "0");
}

#[test]
fn a_budget_of_time_ends_what_takes_longer() {
    let fixture = Fixture::over(2, 4, 1);
    let client = &mut orders(&fixture);
    run(client, "SET drover.statement_budget = 'time=200ms'");
    for sql in ["SELECT pg_sleep(60)", "SELECT count(pg_sleep(60)) FROM orders"] {
        let (code, message) = error(client, sql);
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("57014", "statement budget exceeded: time=200ms")
        );
    }
    run(client, "BEGIN");
    run(client, "SET LOCAL drover.statement_budget = 'time=100ms'");
    let (_, message) = error(client, "SELECT pg_sleep(60)");
    assert_eq!(message, "statement budget exceeded: time=100ms");
    run(client, "ROLLBACK");
    assert_eq!(value(client, "SHOW drover.statement_budget"), "time=200ms");
    run(client, "SET drover.statement_budget = 'off'");
    run(client, "SELECT pg_sleep(0.3)");
}
