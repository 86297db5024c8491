//! Prepared statements that DDL behind the proxy's back has made invalid.

use testkit::client::{Answer, Client, Format, Pipeline};

use super::fixture::{Fixture, error, run};

const SQL: &str = "SELECT * FROM t";

fn prepare(client: &mut Client) {
    let answer = client.run(Pipeline::new().parse("s", SQL, &[]).sync()).unwrap();
    assert_eq!(answer.errors, []);
}

fn execute(client: &mut Client, describe: bool) -> Answer {
    let mut pipeline = Pipeline::new().bind("", "s", &[], Format::Text);
    if describe {
        pipeline = pipeline.describe_portal("");
    }
    client.run(pipeline.execute("", 0).sync()).unwrap()
}

fn code(answer: &Answer) -> Option<&str> {
    answer.error().map(|error| error.sqlstate())
}

#[test]
fn a_plan_that_became_invalid_is_made_anew() {
    let fixture = Fixture::new(1, 1);
    let mut direct = fixture.direct();
    run(&mut fixture.client(), "CREATE TABLE t (a int)");
    run(&mut direct, "INSERT INTO t VALUES (1)");
    let (mut old, mut new) = (fixture.client(), fixture.client());
    prepare(&mut old);
    assert_eq!(execute(&mut old, true).value().as_deref(), Some("1"));
    let mut answers = Vec::new();
    for (turn, ddl) in ["ADD b int DEFAULT 2", "ADD c int DEFAULT 3"].iter().enumerate() {
        run(&mut direct, &format!("ALTER TABLE t {ddl}"));
        if turn == 0 {
            prepare(&mut new);
        }
        let client = if turn == 0 { &mut new } else { &mut old };
        let answer = execute(client, true);
        assert_eq!(answer.errors, [], "{answer:?}");
        answers.push(answer.text_rows()[0].len());
        let answer = execute(if turn == 0 { &mut old } else { &mut new }, true);
        assert_eq!(answer.errors, [], "{answer:?}");
        answers.push(answer.text_rows()[0].len());
    }
    assert_eq!(answers, [2, 2, 3, 3]);

    // Who does not ask what it gets must not get something else.
    run(&mut direct, "ALTER TABLE t DROP b");
    assert_eq!(code(&execute(&mut old, false)), Some("0A000"));
    assert_eq!(old.status(), b'I');
    assert_eq!(execute(&mut new, true).errors, []);

    // A block ends with PostgreSQL's error, and the next one has a new statement.
    run(&mut direct, "ALTER TABLE t DROP c");
    run(&mut old, "BEGIN");
    assert_eq!(code(&execute(&mut old, true)), Some("0A000"));
    assert_eq!(old.status(), b'E');
    run(&mut old, "ROLLBACK");
    run(&mut old, "BEGIN");
    assert_eq!(execute(&mut old, true).value().as_deref(), Some("1"));
    run(&mut old, "COMMIT");
}

#[test]
fn a_statement_of_prepare_is_its_clients_own() {
    let fixture = Fixture::new(2, 1);
    let mut direct = fixture.direct();
    run(&mut direct, "CREATE TABLE t (a int)");
    let (mut old, mut new) = (fixture.client(), fixture.client());
    run(&mut old, "PREPARE s AS SELECT * FROM t");
    run(&mut old, "EXECUTE s");
    run(&mut direct, "ALTER TABLE t ADD b int");
    run(&mut new, "PREPARE s AS SELECT * FROM t");
    run(&mut new, "EXECUTE s");
    assert_eq!(error(&mut old, "EXECUTE s").0, "0A000");
    run(&mut old, "DEALLOCATE s");
    run(&mut old, "PREPARE s AS SELECT * FROM t");
    run(&mut old, "EXECUTE s");
}
