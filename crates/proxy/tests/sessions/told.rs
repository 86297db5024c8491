//! What a client was told of its prepared statement stays true, whichever server it gets: the same clients on the
//! server itself.

use testkit::client::{Answer, Client, Format, Parameter, Pipeline};

use super::fixture::{Fixture, run, value};

fn code(answer: &Answer) -> String {
    answer
        .error()
        .map_or_else(|| "-".to_owned(), |error| error.sqlstate().to_owned())
}

/// Parse and Describe, as drivers prepare that keep what they were told.
fn prepare(client: &mut Client, sql: &str) -> Answer {
    let pipeline = Pipeline::new()
        .parse("s", sql, &[])
        .describe_statement("s")
        .sync();
    client.run(pipeline).unwrap()
}

fn execute(client: &mut Client, values: &[Parameter]) -> Answer {
    let pipeline = Pipeline::new().bind("", "s", values, Format::Binary);
    client.run(pipeline.execute("", 0).sync()).unwrap()
}

/// The same with a description of the portal.
fn execute_described(client: &mut Client, values: &[Parameter]) -> Answer {
    let pipeline = Pipeline::new().bind("", "s", values, Format::Binary);
    client
        .run(pipeline.describe_portal("").execute("", 0).sync())
        .unwrap()
}

fn int(value: i32) -> Parameter {
    Parameter::binary(value.to_be_bytes())
}

/// The first row's first value, in binary, or the error.
fn first(answer: &Answer) -> String {
    match answer.error() {
        Some(error) => format!("{} {}", error.sqlstate(), error.message()),
        None => format!(
            "{:?}",
            answer.results.first().and_then(|result| result.rows.first())
        ),
    }
}

/// Another client holds the connection on which everything so far was done, so that the next one is fresh.
fn elsewhere<T>(fixture: &Fixture, then: impl FnOnce() -> T) -> T {
    let mut holder = fixture.client();
    run(&mut holder, "BEGIN; SELECT 1");
    let result = then();
    run(&mut holder, "COMMIT");
    result
}

/// What a client is answered that prepared before a change of the schema, on any server and as often as it tries. The
/// table is `t`.
#[track_caller]
fn check(fixture: &Fixture, sql: &str, values: &[Parameter], ddl: &str) {
    for through in ["behind", "through"] {
        // Another table, and so other statements.
        let id = value(&mut fixture.direct(), "SELECT count(*) FROM pg_class");
        assert_ne!(id, "");
        let own = |text: &str| text.replace(" t ", &format!(" t{id} "));
        check_one(
            fixture,
            &own(sql),
            values,
            &own(ddl),
            through == "through",
            &own(" t "),
        );
    }
}

/// `through`: the change is made by a client of the proxy.
#[track_caller]
fn check_one(fixture: &Fixture, sql: &str, values: &[Parameter], ddl: &str, through: bool, table: &str) {
    let (mut direct, mut client) = (fixture.direct(), fixture.client());
    run(
        &mut direct,
        &format!("CREATE TABLE {table} (a int, b int); INSERT INTO {table} VALUES (7, 8)"),
    );
    prepare(&mut direct, sql);
    prepare(&mut client, sql);
    assert_eq!(
        first(&execute(&mut client, values)),
        first(&execute(&mut direct, values))
    );
    match through {
        true => run(&mut fixture.client(), ddl),
        false => run(&mut fixture.direct(), ddl),
    };
    let expected = first(&execute(&mut direct, values));
    for turn in 0..2 {
        let fresh = elsewhere(fixture, || first(&execute(&mut client, values)));
        assert_eq!(fresh, expected, "{sql} after {ddl}, a fresh server, turn {turn}");
        let same = first(&execute(&mut client, values));
        assert_eq!(same, expected, "{sql} after {ddl}, the same server, turn {turn}");
    }
    // A statement that is prepared now is the table's as it is now.
    run(&mut direct, "DEALLOCATE s");
    client.run(Pipeline::new().close_statement("s").sync()).unwrap();
    let (now, then) = (prepare(&mut client, sql), prepare(&mut direct, sql));
    assert_eq!(code(&now), code(&then), "{now:?}");
    if then.error().is_none() {
        assert_eq!(now.results, then.results, "{sql} prepared after {ddl}");
    }
    // Nobody tells Drover of what is changed behind its back: where the older types still do, they are kept.
    if through {
        assert_eq!(now.parameters, then.parameters, "{sql} prepared after {ddl}");
    }
}

#[test]
fn what_was_told_stays_true() {
    let fixture = Fixture::new(2, 1);
    let check = |sql, values: &[Parameter], ddl| check(&fixture, sql, values, ddl);
    // Other columns are an error as often as it is tried.
    check("SELECT * FROM t ", &[], "ALTER TABLE t ADD c int");
    check("SELECT a FROM t ", &[], "ALTER TABLE t ALTER a TYPE float4");
    // Parameters keep their types.
    check(
        "SELECT b FROM t WHERE a = $1",
        &[int(7)],
        "ALTER TABLE t ALTER a TYPE float4",
    );
    check(
        "SELECT b FROM t WHERE a = $1",
        &[int(7)],
        "ALTER TABLE t ALTER a TYPE text",
    );
    check(
        "UPDATE t SET a = $1",
        &[int(9)],
        "ALTER TABLE t ALTER a TYPE float4",
    );
    // A table made anew is the same.
    let ddl = "DROP TABLE t ; CREATE TABLE t (a int, b int); INSERT INTO t VALUES (7, 8)";
    check("SELECT * FROM t WHERE a = $1", &[int(7)], ddl);
    check("SELECT * FROM t WHERE a = $1", &[int(7)], "DROP TABLE t ");
}

#[test]
fn what_was_told_of_a_sharded_table_stays_true() {
    let fixture = Fixture::over(2, 2, 1);
    let (mut direct, mut client) = (fixture.direct(), fixture.client());
    let table = "CREATE TABLE u (id int PRIMARY KEY, a int)";
    run(&mut client, &format!("{table} WITH (drover.shard_key = 'id')"));
    run(
        &mut direct,
        "CREATE TABLE v (id int PRIMARY KEY, a int); INSERT INTO v VALUES (1, 7), (2, 7)",
    );
    run(&mut client, "INSERT INTO u VALUES (1, 7), (2, 7)");
    let sql = "SELECT count(*) FROM u WHERE a = $1";
    prepare(&mut client, sql);
    prepare(&mut direct, "SELECT count(*) FROM v WHERE a = $1");
    run(&mut fixture.client(), "ALTER TABLE u ALTER a TYPE float4");
    run(&mut fixture.direct(), "ALTER TABLE v ALTER a TYPE float4");
    let expected = first(&execute(&mut direct, &[int(7)]));
    assert_eq!(first(&execute(&mut client, &[int(7)])), expected);
    let told = client
        .run(Pipeline::new().describe_statement("s").sync())
        .unwrap();
    assert_eq!(told.parameters, Some(vec![23]));

    let star = |table| format!("SELECT * FROM {table} WHERE id = 1");
    for (client, table) in [(&mut direct, "v"), (&mut client, "u")] {
        run(client, "DEALLOCATE s");
        prepare(client, &star(table));
    }
    run(&mut fixture.client(), "ALTER TABLE u ADD c int");
    run(&mut fixture.direct(), "ALTER TABLE v ADD c int");
    for _ in 0..2 {
        let expected = first(&execute(&mut direct, &[]));
        assert_eq!(first(&execute(&mut client, &[])), expected);
    }
}

#[test]
fn a_statement_that_others_prepared_before_is_prepared_as_it_is_now() {
    for ddl in ["ADD c int", "ALTER a TYPE text"] {
        let fixture = Fixture::new(1, 1);
        let mut direct = fixture.direct();
        run(
            &mut direct,
            "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (7, 8)",
        );
        let sql = "SELECT *, a = $1 FROM t";
        let (mut old, mut new) = (fixture.client(), fixture.client());
        prepare(&mut old, sql);
        run(&mut direct, &format!("ALTER TABLE t {ddl}"));
        let (now, then) = (prepare(&mut new, sql), prepare(&mut direct, sql));
        assert_eq!(now.errors, [], "{ddl}");
        assert_eq!(
            (now.parameters, now.results),
            (then.parameters, then.results),
            "{ddl}"
        );
        // Without a description, and in a block.
        let mut third = fixture.client();
        third.run(Pipeline::new().parse("s", sql, &[]).sync()).unwrap();
        run(&mut third, "BEGIN");
        assert_eq!(execute_described(&mut third, &[Parameter::text("7")]).errors, []);
        run(&mut third, "COMMIT");
    }
}

#[test]
fn who_describes_its_portal_once_is_not_given_other_columns_later() {
    let fixture = Fixture::new(2, 1);
    let (mut direct, mut client) = (fixture.direct(), fixture.client());
    run(
        &mut direct,
        "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (7, 8)",
    );
    client
        .run(Pipeline::new().parse("s", "SELECT * FROM t", &[]).sync())
        .unwrap();
    assert_eq!(execute_described(&mut client, &[]).errors, []);
    assert_eq!(execute(&mut client, &[]).errors, []);
    run(&mut direct, "ALTER TABLE t DROP a");
    for _ in 0..2 {
        assert_eq!(elsewhere(&fixture, || code(&execute(&mut client, &[]))), "0A000");
        assert_eq!(code(&execute(&mut client, &[])), "0A000");
    }
    // Who asks in the same breath takes what there is.
    assert_eq!(execute_described(&mut client, &[]).errors, []);
    assert_eq!(execute(&mut client, &[]).errors, []);
}
