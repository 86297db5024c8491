//! Clients whose encoding is not UTF-8: their letters are other bytes than those in the tables.

use testkit::client::{Answer, Client, Extended, Format, Parameter, Pipeline};

use super::fixture::{Fixture, run};

/// `Ã©` is the bytes of `é` in LATIN1, and four bytes in UTF-8. The keys of a client that sends UTF-8.
fn keys() -> Vec<String> {
    (0..24).map(|n| format!("Ã©{n}")).collect()
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

fn fixture() -> (Fixture, Client, Client) {
    let fixture = Fixture::over(2, 3, 2);
    let mut utf8 = fixture.client();
    run(&mut utf8, "CREATE TABLE w (k text PRIMARY KEY, n int, note text)");
    run(&mut utf8, "SELECT drover.shard_table('w', 'k')");
    for (n, key) in keys().iter().enumerate() {
        run(&mut utf8, &format!("INSERT INTO w VALUES ('{key}', {n})"));
    }
    let mut other = fixture.client();
    run(&mut other, "SET client_encoding = 'LATIN1'");
    (fixture, utf8, other)
}

fn ask(client: &mut Client, sql: &str, values: &[Parameter]) -> Answer {
    let mut request = Extended::new(sql);
    request.parameters = values;
    client.extended(&request).unwrap()
}

/// What became of a statement: its rows, or its SQLSTATE.
fn told(answer: &Answer) -> Result<usize, String> {
    match answer.error() {
        Some(error) => Err(error.sqlstate().to_owned()),
        None => Ok(answer.text_rows().len()),
    }
}

#[test]
fn letters_of_another_encoding_find_their_row_or_are_refused() {
    let (_fixture, _utf8, mut other) = fixture();
    let refused = Err("0A000".to_owned());
    for key in keys() {
        let value = || [Parameter::binary(latin1(&key))];
        assert_eq!(
            told(&ask(&mut other, "SELECT n FROM w WHERE k = $1", &value())),
            refused
        );
        assert_eq!(
            told(&ask(&mut other, "SELECT n FROM w WHERE k IN ('a', $1)", &value())),
            refused
        );
        assert_eq!(
            told(&ask(&mut other, "INSERT INTO w VALUES ($1 || 'x', 1)", &value())),
            refused
        );
        assert_eq!(
            told(&ask(&mut other, "UPDATE w SET n = 0 WHERE k = $1", &value())),
            refused
        );
    }
    // Its own text, as it comes: the bytes are letters in UTF-8, too, but others.
    assert_eq!(
        told(&other.simple("SELECT n FROM w WHERE k = 'é1'").unwrap()),
        refused
    );
    // In ASCII everything works.
    assert_eq!(
        told(&ask(
            &mut other,
            "SELECT n FROM w WHERE k = $1",
            &[Parameter::text("a")]
        )),
        Ok(0)
    );
    assert_eq!(
        told(
            &other
                .simple("SELECT n FROM w WHERE k = U&'\\00C3\\00A91'")
                .unwrap()
        ),
        Ok(1)
    );
    assert_eq!(told(&other.simple("SELECT count(*) FROM w").unwrap()), Ok(1));
    assert_eq!(told(&other.simple("SELECT n FROM w ORDER BY n").unwrap()), Ok(24));
    // What is no key is nobody's business but the server's.
    run(&mut other, "CREATE TABLE numbered (k int PRIMARY KEY, note text)");
    run(&mut other, "SELECT drover.shard_table('numbered', 'k')");
    let note = [Parameter::binary(latin1("Ã©"))];
    assert_eq!(
        told(&ask(&mut other, "INSERT INTO numbered VALUES (1, $1)", &note)),
        Ok(0)
    );
    assert_eq!(
        told(&ask(&mut other, "SELECT k FROM numbered WHERE note = $1", &note)),
        Ok(1)
    );
}

/// Every encoding has an order of its own for its bytes.
#[test]
fn rows_are_not_merged_by_letters_of_another_encoding() {
    let (_fixture, mut utf8, mut other) = fixture();
    run(&mut other, "SET client_encoding = 'KOI8R'");
    run(
        &mut utf8,
        "CREATE TABLE russian (id int PRIMARY KEY, letter text COLLATE \"C\")",
    );
    run(&mut utf8, "SELECT drover.shard_table('russian', 'id')");
    for (id, letter) in "абвгдежзийклмнопрстуфхцчшщъыьэюя".chars().enumerate()
    {
        run(
            &mut utf8,
            &format!("INSERT INTO russian VALUES ({id}, '{letter}')"),
        );
    }
    let order = "SELECT letter FROM russian ORDER BY letter";
    assert_eq!(told(&utf8.simple(order).unwrap()), Ok(32));
    assert_eq!(told(&other.simple(order).unwrap()), Err("0A000".to_owned()));
    // PostgreSQL itself puts these together, and knows what they mean.
    let least = other
        .simple("SELECT min(letter), max(letter) FROM russian")
        .unwrap();
    let row = &least.results[0].rows[0];
    assert_eq!(row, &[Some(vec![0xc1]), Some(vec![0xd1])]);
}

/// A setting that ends with its block, and one made after a change of the schema.
#[test]
fn an_encoding_counts_from_where_it_is_set() {
    let (_fixture, mut utf8, _) = fixture();
    let refused = Err("0A000".to_owned());
    let value = || [Parameter::binary(latin1("Ã©1"))];
    let ask_for = |client: &mut Client| told(&ask(client, "SELECT n FROM w WHERE k = $1", &value()));
    run(&mut utf8, "BEGIN");
    run(&mut utf8, "SET LOCAL client_encoding = 'LATIN1'");
    assert_eq!(ask_for(&mut utf8), refused);
    run(&mut utf8, "ROLLBACK");
    run(&mut utf8, "BEGIN");
    run(&mut utf8, "ALTER TABLE w ADD more int");
    let found = ask(
        &mut utf8,
        "SELECT n FROM w WHERE k = $1",
        &[Parameter::text("Ã©1")],
    );
    assert_eq!(told(&found), Ok(1));
    run(&mut utf8, "SET client_encoding = 'LATIN1'");
    assert_eq!(ask_for(&mut utf8), refused);
    run(&mut utf8, "ROLLBACK");
    run(&mut utf8, "SELECT set_config('client_encoding', 'LATIN1', false)");
    assert_eq!(ask_for(&mut utf8), refused);
    run(&mut utf8, "RESET client_encoding");
    let found = ask(
        &mut utf8,
        "SELECT n FROM w WHERE k = $1",
        &[Parameter::text("Ã©1")],
    );
    assert_eq!(told(&found), Ok(1));
}

/// What was prepared in one encoding would be prepared anew, on another server, in the one that holds now.
#[test]
fn a_statement_prepared_in_another_encoding_is_refused() {
    let (_fixture, mut client, _) = fixture();
    run(&mut client, "CREATE TABLE plain AS SELECT 1 AS n, 'Ã©1' AS k");
    for table in ["w", "plain"] {
        run(&mut client, "RESET client_encoding");
        let sql = format!("SELECT n FROM {table} WHERE k = 'Ã©1'");
        let prepare = Pipeline::new().parse(table, &sql, &[]).sync();
        let execute = || {
            Pipeline::new()
                .bind("", table, &[], Format::Text)
                .execute("", 0)
                .sync()
        };
        client.send(prepare.bytes()).unwrap();
        assert_eq!(client.collect(1).unwrap().errors, []);
        client.send(execute().bytes()).unwrap();
        assert_eq!(told(&client.collect(1).unwrap()), Ok(1));
        run(&mut client, "SET client_encoding = 'LATIN1'");
        client.send(execute().bytes()).unwrap();
        assert_eq!(told(&client.collect(1).unwrap()), Err("0A000".to_owned()));
    }
}

/// Names mean what the settings say that hold when a statement comes, also behind a change of the schema in the same block.
#[test]
fn a_search_path_counts_from_where_it_is_set() {
    let (_fixture, mut client, _) = fixture();
    run(
        &mut client,
        "CREATE SCHEMA hidden; CREATE TABLE hidden.w (k text, n int)",
    );
    run(&mut client, "INSERT INTO hidden.w VALUES ('a', 77)");
    run(&mut client, "BEGIN");
    run(&mut client, "ALTER TABLE w ADD more int");
    assert_eq!(told(&client.simple("SELECT n FROM w").unwrap()), Ok(24));
    run(&mut client, "SET search_path = hidden");
    assert_eq!(
        client.simple("SELECT n FROM w").unwrap().value().as_deref(),
        Some("77")
    );
    run(&mut client, "ROLLBACK");
    assert_eq!(told(&client.simple("SELECT n FROM w").unwrap()), Ok(24));
}
