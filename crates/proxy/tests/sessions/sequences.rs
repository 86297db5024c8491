//! `currval` and `lastval`.

use testkit::client::{Client, Extended};

use super::fixture::{Fixture, error, run, value};

const TABLES: &str = "CREATE TABLE a (id bigserial, v text); CREATE TABLE b (id bigserial, v text)";

fn lastval(client: &mut Client) -> (String, String) {
    error(client, "SELECT lastval()")
}

#[test]
fn nobody_reads_what_another_session_drew() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, TABLES);
    run(
        &mut one,
        "INSERT INTO a (v) VALUES ('x'); INSERT INTO a (v) VALUES ('x')",
    );
    // The second session has drawn nothing: PostgreSQL's own words, on the very connection that holds another's values.
    let undefined = (
        "55000".to_owned(),
        "lastval is not yet defined in this session".to_owned(),
    );
    assert_eq!(lastval(&mut two), undefined);
    assert_eq!(
        error(&mut two, "SELECT currval('a_id_seq')").1,
        "currval of sequence \"a_id_seq\" is not yet defined in this session"
    );
    // What the first one drew is lost with that: it is refused, not told that it drew nothing.
    assert_eq!(lastval(&mut one).0, "0A000");
    // From now on sessions of this role keep what they draw.
    let both = run(&mut one, "INSERT INTO a (v) VALUES ('x'); SELECT lastval()");
    assert_eq!(both.tags(), ["INSERT 0 1", "SELECT 1"]);
    assert_eq!(value(&mut one, "SELECT lastval()"), "3");
    assert_eq!(value(&mut one, "SELECT currval('a_id_seq')"), "3");
    drop(one);
    assert_eq!(lastval(&mut two), undefined);
    run(&mut two, "INSERT INTO b (v) VALUES ('x')");
    assert_eq!(value(&mut two, "SELECT currval('b_id_seq')"), "1");
    assert_eq!(
        error(&mut two, "SELECT currval('a_id_seq')").1,
        "currval of sequence \"a_id_seq\" is not yet defined in this session"
    );
}

#[test]
fn the_connection_that_holds_the_values_is_found_again() {
    let fixture = Fixture::new(3, 1);
    let mut setup = fixture.direct();
    run(&mut setup, TABLES);
    let mut clients: Vec<Client> = (0..3).map(|_| fixture.client()).collect();
    // Three transactions at once take three connections, each fresh.
    for client in &mut clients {
        run(client, "BEGIN");
        run(client, "INSERT INTO a (v) VALUES ('x')");
    }
    let mut drawn = Vec::new();
    for client in &mut clients {
        run(client, "COMMIT");
    }
    for client in &mut clients {
        drawn.push(value(client, "SELECT lastval()"));
    }
    assert_eq!(drawn, ["1", "2", "3"]);
}

#[test]
fn who_asks_first_is_answered_where_others_drew_before() {
    let fixture = Fixture::new(1, 1);
    run(&mut fixture.client(), TABLES);
    run(&mut fixture.client(), "INSERT INTO a (v) VALUES ('x')");
    run(&mut fixture.client(), "INSERT INTO a (v) VALUES ('x')");
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO a (v) VALUES ('x')");
    assert_eq!(value(&mut client, "SELECT lastval()"), "3");
}

#[test]
fn of_values_on_two_connections_the_older_is_never_returned() {
    let fixture = Fixture::new(2, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut fixture.direct(), "CREATE SEQUENCE s");
    assert_eq!(value(&mut one, "SELECT nextval('s')"), "1");
    // The connection just used is the one that is used next, so the second value is drawn on the other one.
    run(&mut two, "BEGIN");
    run(&mut two, "SELECT 1");
    assert_eq!(value(&mut one, "SELECT nextval('s')"), "2");
    run(&mut two, "COMMIT");
    assert_eq!(error(&mut one, "SELECT currval('s')").0, "0A000");
    assert_eq!(value(&mut one, "SELECT nextval('s')"), "3");
    assert_eq!(value(&mut one, "SELECT currval('s')"), "3");
}

#[test]
fn a_block_and_one_statement_see_their_own_values() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, TABLES);
    run(&mut one, "INSERT INTO a (v) VALUES ('x')");
    assert_eq!(
        value(&mut two, "SELECT nextval('a_id_seq') + currval('a_id_seq') * 100"),
        "202"
    );
    drop(two);
    run(&mut one, "BEGIN");
    run(&mut one, "INSERT INTO a (v) VALUES ('x')");
    assert_eq!(value(&mut one, "SELECT currval('a_id_seq')"), "3");
    run(&mut one, "COMMIT");
    assert_eq!(value(&mut one, "SELECT lastval()"), "3");
    run(&mut one, "DISCARD SEQUENCES");
    assert_eq!(lastval(&mut one).0, "55000");
}

#[test]
fn the_extended_protocol_is_no_exception() {
    let fixture = Fixture::new(1, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(&mut one, TABLES);
    let insert = Extended::new("INSERT INTO a (v) VALUES ('x')");
    let ask = Extended::new("SELECT lastval()");
    let code = |client: &mut Client| client.extended(&ask).unwrap().errors[0].sqlstate().to_owned();
    assert_eq!(one.extended(&insert).unwrap().errors, []);
    assert_eq!(code(&mut two), "55000");
    assert_eq!(code(&mut one), "0A000");
    assert_eq!(one.extended(&insert).unwrap().errors, []);
    assert_eq!(one.extended(&ask).unwrap().value().as_deref(), Some("2"));
    drop(one);
    assert_eq!(code(&mut two), "55000");
}

#[test]
fn a_function_that_asks_unseen_reads_nobody_elses_value() {
    let fixture = Fixture::new(1, 1);
    let mut one = fixture.client();
    run(&mut one, TABLES);
    run(
        &mut one,
        "CREATE TABLE log (drawn bigint); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO log VALUES (lastval()); RETURN NEW; END $$; \
         CREATE TABLE plain (v text); \
         CREATE TRIGGER note BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION note()",
    );
    run(&mut one, "INSERT INTO a (v) VALUES ('x')");
    let mut two = fixture.client();
    let answer = error(&mut two, "INSERT INTO plain VALUES ('x')");
    assert_eq!(answer.0, "55000");
    assert_eq!(value(&mut one, "SELECT count(*) FROM log"), "0");
}

#[test]
fn a_text_that_asks_reads_nobody_elses_value() {
    let fixture = Fixture::new(3, 1);
    let mut one = fixture.client();
    run(&mut one, TABLES);
    run(
        &mut one,
        "CREATE FUNCTION run(q text) RETURNS text LANGUAGE plpgsql AS \
         $$ DECLARE r text; BEGIN EXECUTE q INTO r; RETURN r; END $$",
    );
    run(&mut one, "INSERT INTO a (v) VALUES ('x')");
    let mut two = fixture.client();
    assert_eq!(error(&mut two, "SELECT run('SELECT lastval()')").0, "55000");
}

#[test]
fn a_view_that_asks_reads_nobody_elses_value() {
    let fixture = Fixture::new(3, 1);
    let mut one = fixture.client();
    run(&mut one, TABLES);
    run(&mut one, "CREATE VIEW last AS SELECT lastval() AS v");
    let mut two = fixture.client();
    run(&mut two, "INSERT INTO a (v) VALUES ('x')");
    let own = value(&mut two, "SELECT v FROM last");
    run(&mut one, "INSERT INTO a (v) VALUES ('x')");
    let again = two.simple("SELECT v FROM last").unwrap();
    // Refused, or right.
    assert!(
        !again.errors.is_empty() || format!("{again:?}").contains(&own),
        "{again:?}"
    );
    let mut three = fixture.client();
    assert_eq!(error(&mut three, "SELECT v FROM last").0, "55000");
}

#[test]
fn many_sessions_at_once_each_get_their_own() {
    let fixture = Fixture::new(20, 2);
    run(&mut fixture.direct(), TABLES);
    for round in 0..3 {
        let refused: usize = std::thread::scope(|scope| {
            let sessions: Vec<_> = (0..20).map(|_| scope.spawn(|| one_session(&fixture))).collect();
            sessions.into_iter().map(|session| session.join().unwrap()).sum()
        });
        assert!(round == 0 || refused == 0, "{refused} refusals in round {round}");
    }
}

/// Inserts and asks a few times, as separate statements; every answer is right or a refusal.
fn one_session(fixture: &Fixture) -> usize {
    let mut client = fixture.client();
    let mut refused = 0;
    for _ in 0..5 {
        let drawn = value(&mut client, "INSERT INTO a (v) VALUES ('x') RETURNING id");
        let answer = client.simple("SELECT lastval()").unwrap();
        match answer.error() {
            None => assert_eq!(answer.value(), Some(drawn)),
            Some(error) => {
                assert_eq!(error.sqlstate(), "0A000");
                refused += 1;
            }
        }
    }
    refused
}

#[test]
fn serial_columns_of_sharded_tables_count() {
    let fixture = Fixture::over(2, 4, 1);
    let (mut one, mut two) = (fixture.client(), fixture.client());
    run(
        &mut one,
        "CREATE TABLE s (id bigserial, k int) WITH (drover.shard_key = 'k')",
    );
    run(&mut one, "INSERT INTO s (k) VALUES (1)");
    assert_eq!(lastval(&mut two).0, "55000");
    assert_eq!(lastval(&mut one).0, "0A000");
    for k in 2..6 {
        run(&mut one, &format!("INSERT INTO s (k) VALUES ({k})"));
        assert_eq!(value(&mut one, "SELECT lastval()"), k.to_string());
    }
    assert_eq!(lastval(&mut two).0, "55000");
}
