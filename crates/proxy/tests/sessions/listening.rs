//! LISTEN and NOTIFY without a server of one's own.

use std::time::Duration;

use testkit::client::{Client, Message, Pipeline};

use super::fixture::{Fixture, error, run, value};

const LONG: Duration = Duration::from_secs(20);
/// Long enough for a notification that must not come to have come.
const SHORT: Duration = Duration::from_millis(300);

fn heard(client: &mut Client) -> Option<(String, String)> {
    client.wait_notification(LONG).unwrap()
}

fn news(channel: &str, payload: &str) -> Option<(String, String)> {
    Some((channel.to_owned(), payload.to_owned()))
}

#[test]
fn many_sessions_listen_without_keeping_a_server() {
    let fixture = Fixture::new(1, 2);
    let mut clients: Vec<Client> = (0..10).map(|_| fixture.client()).collect();
    for client in &mut clients {
        assert_eq!(run(client, "LISTEN news").tags(), ["LISTEN"]);
    }
    // There is one server connection, and it is free.
    assert_eq!(value(&mut clients[3], "SELECT 1"), "1");
    run(
        &mut fixture.client(),
        "NOTIFY news, 'first'; NOTIFY news, 'second'",
    );
    run(&mut fixture.direct(), "NOTIFY news, 'third'");
    for client in &mut clients {
        for payload in ["first", "second", "third"] {
            assert_eq!(heard(client), news("news", payload));
        }
    }
    run(&mut clients[0], "UNLISTEN news");
    run(&mut clients[1], "UNLISTEN *");
    run(&mut clients[2], "DISCARD ALL");
    run(&mut fixture.direct(), "NOTIFY news, 'fourth'");
    for client in &mut clients[3..] {
        assert_eq!(heard(client), news("news", "fourth"));
    }
    for client in &mut clients[..3] {
        assert_eq!(client.wait_notification(SHORT).unwrap(), None);
    }
}

#[test]
fn a_block_decides_at_its_end() {
    let fixture = Fixture::new(2, 1);
    let (mut client, mut other) = (fixture.client(), fixture.direct());
    run(&mut client, "BEGIN");
    run(&mut client, "LISTEN a");
    run(&mut client, "ROLLBACK");
    run(&mut other, "NOTIFY a");
    run(&mut client, "BEGIN");
    run(&mut client, "LISTEN b");
    run(&mut client, "SAVEPOINT s");
    run(&mut client, "LISTEN c");
    run(&mut client, "ROLLBACK TO s");
    run(&mut client, "COMMIT");
    run(&mut other, "NOTIFY c");
    run(&mut other, "NOTIFY b, '1'");
    assert_eq!(heard(&mut client), news("b", "1"));
    // Nothing arrives inside a transaction.
    run(&mut client, "BEGIN");
    assert_eq!(value(&mut client, "SELECT 1"), "1");
    run(&mut other, "NOTIFY b, '2'");
    assert_eq!(client.wait_notification(SHORT).unwrap(), None);
    run(&mut client, "UNLISTEN b");
    let rolled_back = run(&mut client, "ROLLBACK");
    assert_eq!(rolled_back.notifications, [("b".to_owned(), "2".to_owned())]);
    run(&mut client, "BEGIN; UNLISTEN *; LISTEN d; COMMIT");
    run(&mut other, "NOTIFY b; NOTIFY d");
    assert_eq!(heard(&mut client), news("d", ""));
}

/// The messages of an answer up to ReadyForQuery, notifications among them with their process.
fn notified_by(client: &mut Client, sql: &str) -> Vec<u32> {
    client.send(Pipeline::new().query(sql).bytes()).unwrap();
    let mut pids = Vec::new();
    loop {
        match client.next_message().unwrap() {
            Message::Notification(pid, ..) => pids.push(pid),
            Message::ReadyForQuery(_) => return pids,
            Message::Error(error) => panic!("{sql}: {error:?}"),
            _ => {}
        }
    }
}

/// The process of the next notification.
fn next_pid(client: &mut Client) -> u32 {
    match client.next_message().unwrap() {
        Message::Notification(pid, ..) => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sessions_own_notifications_come_with_the_answer_and_its_own_number() {
    let fixture = Fixture::new(2, 1);
    let mut client = fixture.client();
    run(&mut client, "LISTEN own");
    let own = client.process_id().unwrap();
    assert_eq!(notified_by(&mut client, "NOTIFY own"), [own]);
    assert_eq!(notified_by(&mut client, "SELECT pg_notify('own', 'x')"), [own]);
    run(&mut client, "BEGIN");
    assert_eq!(notified_by(&mut client, "NOTIFY own, 'y'"), Vec::<u32>::new());
    assert_eq!(notified_by(&mut client, "COMMIT"), [own]);
    // Another session's carries the number that session knows; a server's own its process.
    let mut other = fixture.client();
    run(&mut other, "NOTIFY own, 'z'");
    let known = other.process_id().unwrap();
    assert_eq!(next_pid(&mut client), known);
    let mut direct = fixture.direct();
    run(&mut direct, "NOTIFY own, 'z'");
    let known = direct.process_id().unwrap();
    assert_eq!(next_pid(&mut client), known);
}

#[test]
fn the_loss_of_the_listening_connection_ends_those_who_listen() {
    let fixture = Fixture::new(2, 1);
    let (mut listens, mut does_not) = (fixture.client(), fixture.client());
    run(&mut listens, "LISTEN a");
    assert_eq!(value(&mut does_not, "SELECT 1"), "1");
    fixture.end_backends("LISTEN%");
    match listens.next_message().unwrap() {
        Message::Error(error) => assert_eq!((error.sqlstate(), error.severity()), ("57P01", "FATAL")),
        other => panic!("{other:?}"),
    }
    assert_eq!(value(&mut does_not, "SELECT 1"), "1");
    // The next one that listens is heard again.
    run(&mut does_not, "LISTEN a");
    run(&mut fixture.direct(), "NOTIFY a, 'again'");
    assert_eq!(heard(&mut does_not), news("a", "again"));
}

#[test]
fn asking_for_the_channels() {
    let fixture = Fixture::new(2, 1);
    let (mut client, mut witness) = (fixture.client(), fixture.client());
    let ask = "SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c";
    assert_eq!(value(&mut client, ask), "");
    run(&mut client, "LISTEN a");
    run(&mut client, "LISTEN b");
    run(&mut client, "BEGIN");
    assert_eq!(error(&mut client, ask).0, "0A000");
    run(&mut client, "ROLLBACK");
    assert_eq!(value(&mut client, ask), "a,b");
    run(&mut fixture.direct(), "NOTIFY a, 'x'");
    assert_eq!(heard(&mut client), news("a", "x"));
    run(&mut client, "UNLISTEN a");
    assert_eq!(value(&mut client, ask), "b");
    run(&mut client, "UNLISTEN *");
    assert_eq!(value(&mut client, ask), "");
    assert_eq!(value(&mut witness, ask), "");
}
