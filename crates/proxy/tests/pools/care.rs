//! A client that dies in the middle of something costs a ROLLBACK, not a server connection.

use testkit::client::{Client, Pipeline};

use super::site::{Site, eventually, pid, run, value};

/// What a client is in the middle of when it dies, and how it gets there.
type Death = (&'static str, fn(&mut Client));

const DEATHS: [Death; 6] = [
    ("a transaction", |client| {
        run(client, "BEGIN");
        run(client, "INSERT INTO t VALUES (1)");
    }),
    ("a statement", |client| {
        run(client, "BEGIN");
        run(client, "INSERT INTO t VALUES (1)");
        client
            .send(Pipeline::new().query("SELECT pg_sleep(60)").bytes())
            .unwrap();
    }),
    ("a long reply", |client| {
        run(client, "BEGIN");
        run(client, "INSERT INTO t VALUES (1)");
        let sql = "SELECT repeat('x', 500000) FROM generate_series(1, 2000)";
        client.send(Pipeline::new().query(sql).bytes()).unwrap();
        for _ in 0..3 {
            client.next_message().unwrap();
        }
    }),
    ("a COPY", |client| {
        client
            .send(Pipeline::new().query("COPY t FROM STDIN").bytes())
            .unwrap();
        client.next_message().unwrap();
        // Two rows, the second one cut.
        client.send(b"d\0\0\0\x061\n").unwrap();
        client.send(b"d\0\0\0\x0a2").unwrap();
    }),
    ("a pipeline", |client| {
        let pipeline = Pipeline::new()
            .parse("", "INSERT INTO t VALUES (1)", &[])
            .bind("", "", &[], testkit::client::Format::Text)
            .execute("", 0)
            .flush();
        client.send(pipeline.bytes()).unwrap();
        for _ in 0..3 {
            client.next_message().unwrap();
        }
    }),
    ("a failed pipeline", |client| {
        let pipeline = Pipeline::new()
            .parse("", "SELECT 1/0", &[])
            .bind("", "", &[], testkit::client::Format::Text)
            .execute("", 0)
            .flush();
        client.send(pipeline.bytes()).unwrap();
        while !matches!(client.next_message().unwrap(), testkit::client::Message::Error(_)) {}
    }),
];

#[test]
fn a_client_that_dies_costs_no_server() {
    let site = Site::new(|config| {
        config.pool.size = 1;
        config.workers = 1;
    });
    let mut watcher = site.client();
    run(&mut watcher, "CREATE TABLE t (a int)");
    let server = pid(&mut watcher);
    for (what, death) in DEATHS {
        let logins = site.metric("drover_server_logins_total");
        let mut client = site.client();
        run(&mut client, "SET work_mem = '7MB'");
        death(&mut client);
        client.kill();
        assert_eq!(pid(&mut watcher), server, "{what}");
        assert_eq!(value(&mut watcher, "SELECT count(*) FROM t"), "0", "{what}");
        assert_ne!(value(&mut watcher, "SHOW work_mem"), "7MB", "{what}");
        assert_eq!(site.metric("drover_server_logins_total"), logins, "{what}");
        eventually("the client is forgotten", || site.metric("drover_clients") == 1);
    }
    assert_eq!(site.metric("drover_servers_cleaned_total"), DEATHS.len() as u64);
    assert_eq!(site.metric("drover_servers_discarded_total"), 0);
}
