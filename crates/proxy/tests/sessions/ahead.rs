//! What brings a server to a session's settings travels in front of the statement, and one that fails keeps it from
//! running.

use testkit::client::{Client, Extended, Pipeline};

use super::fixture::{Fixture, error, run, value};

/// Runs by the extended protocol, as a statement of that name.
fn extended(client: &mut Client, name: &str, sql: &str) -> testkit::client::Answer {
    let mut pipeline = Pipeline::new();
    if !name.is_empty() {
        pipeline = pipeline.close_statement(name);
    }
    let pipeline = pipeline
        .parse(name, sql, &[])
        .bind("", name, &[], testkit::client::Format::Text)
        .describe_portal("")
        .execute("", 0)
        .sync();
    client.run(pipeline).unwrap()
}

#[test]
fn sessions_with_settings_of_their_own_share_a_connection() {
    let fixture = Fixture::new(1, 1);
    let mut clients = [fixture.client(), fixture.client()];
    let pid = value(&mut clients[0], "SELECT pg_backend_pid()");
    for (client, zone) in clients.iter_mut().zip(["Asia/Tokyo", "Europe/Rome"]) {
        run(client, &format!("SET timezone TO '{zone}'"));
        run(
            client,
            &format!("SET application_name TO 'it''s {zone}; SELECT 1'"),
        );
        run(client, "SET default_transaction_isolation TO 'repeatable read'");
    }
    const ASK: &str = "SELECT concat_ws('|', current_setting('timezone'), current_setting('application_name'), \
                       current_setting('transaction_isolation'), pg_backend_pid())";
    for round in 0..3 {
        for (client, zone) in clients.iter_mut().zip(["Asia/Tokyo", "Europe/Rome"]) {
            let expected = format!("{zone}|it's {zone}; SELECT 1|repeatable read|{pid}");
            match round {
                0 => assert_eq!(value(client, ASK), expected),
                1 => {
                    run(client, "BEGIN");
                    assert_eq!(value(client, ASK), expected);
                    run(client, "ROLLBACK");
                }
                _ => {}
            }
        }
        for (client, zone) in clients.iter_mut().zip(["Asia/Tokyo", "Europe/Rome"]) {
            let expected = format!("{zone}|it's {zone}; SELECT 1|repeatable read|{pid}");
            let name = if round == 0 { "" } else { "a" };
            let answer = extended(client, name, ASK);
            assert_eq!(answer.errors, []);
            assert_eq!(answer.value(), Some(expected.clone()));
            assert_eq!(answer.status(), b'I');
        }
        for (client, zone) in clients.iter_mut().zip(["Asia/Tokyo", "Europe/Rome"]) {
            // The statement's error does not undo the settings that came with it.
            assert_eq!(error(client, "SELECT 1 / 0").0, "22012");
            assert_eq!(value(client, "SHOW timezone"), zone);
            run(client, "BEGIN");
            let answer = extended(client, "", "SELECT current_setting('timezone')");
            assert_eq!(answer.value().as_deref(), Some(zone));
            assert_eq!(answer.status(), b'T');
            run(client, "ROLLBACK");
        }
    }
    // Nothing but the session's own SET reported anything.
    assert_eq!(clients[0].settings()["TimeZone"], "Asia/Tokyo");
}

#[test]
fn a_setting_that_is_not_possible_any_more_keeps_the_statement_from_running() {
    let fixture = Fixture::new(1, 1);
    let mut direct = fixture.direct();
    run(&mut direct, "CREATE TABLE rows (a int)");
    run(
        &mut direct,
        "CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.simple)",
    );
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO rows VALUES (0)");
    run(&mut client, "SET default_text_search_config TO 'public.words'");
    // The only connection gets other settings.
    let mut other = fixture.client();
    run(&mut other, "SET timezone TO 'Asia/Tokyo'");
    assert_eq!(value(&mut other, "SELECT count(*) FROM rows"), "1");
    run(
        &mut direct,
        "ALTER TEXT SEARCH CONFIGURATION words RENAME TO gone",
    );

    const INSERT: &str = "INSERT INTO rows VALUES (1)";
    assert_eq!(error(&mut client, INSERT).0, "22023");
    assert_eq!(client.status(), b'I');
    for name in ["", "a"] {
        assert_eq!(value(&mut other, "SHOW timezone"), "Asia/Tokyo");
        let answer = extended(&mut client, name, INSERT);
        assert_eq!(
            answer.error().map(|error| error.sqlstate()),
            Some("22023"),
            "{answer:?}"
        );
        assert_eq!(answer.status(), b'I');
    }
    run(&mut client, "BEGIN");
    assert_eq!(error(&mut client, INSERT).0, "22023");
    assert_eq!(error(&mut client, INSERT).0, "25P02");
    run(&mut client, "ROLLBACK");
    run(&mut client, "BEGIN");
    let answer = extended(&mut client, "", INSERT);
    assert_eq!(
        answer.error().map(|error| error.sqlstate()),
        Some("22023"),
        "{answer:?}"
    );
    assert_eq!(answer.status(), b'E');
    run(&mut client, "ROLLBACK");
    let many = client
        .run(Pipeline::new().query(INSERT).query("SELECT 1"))
        .unwrap();
    assert_eq!(many.errors.len(), 2, "{many:?}");
    assert_eq!(value(&mut other, "SELECT count(*) FROM rows"), "1");

    // The session lives: with the setting possible again it goes on.
    run(
        &mut direct,
        "ALTER TEXT SEARCH CONFIGURATION gone RENAME TO words",
    );
    run(&mut client, INSERT);
    assert_eq!(
        client
            .extended(&Extended::new("SELECT count(*) FROM rows"))
            .unwrap()
            .value()
            .as_deref(),
        Some("2")
    );
}
