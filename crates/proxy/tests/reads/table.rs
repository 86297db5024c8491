//! The table of places (`tests/replicas`), with a replica's own refusal as the oracle: what is said to be a read runs
//! there, and through the proxy no client ever hears of a replica that does not write.

use testkit::client::{Answer, Client, Extended};
use testkit::read_cases::{SCHEMA, read_cases};

use crate::herd::{Herd, run, until, value};

/// A replica does not do such things.
fn is_refusal(answer: &Answer) -> bool {
    let codes = ["25006", "55000", "0A000"];
    answer
        .error()
        .is_some_and(|error| codes.contains(&error.sqlstate()))
}

#[test]
fn what_is_a_read_runs_on_a_replica() {
    let herd = Herd::start(1, 1);
    let info = herd.kit.info().shards[0].clone();
    run(&mut herd.direct(&info.primary), SCHEMA);
    herd.catch_up(0);
    let door = herd.proxy("p1");
    let mut wrong = Vec::new();
    for case in read_cases().into_iter().filter(|case| case.runs) {
        let mut on_replica = herd.direct(&info.replicas[0]);
        on_replica.set_timeout(std::time::Duration::from_secs(60));
        let told = on_replica
            .simple(case.sql)
            .unwrap_or_else(|error| panic!("{}: {error}", case.sql));
        if case.place == "replica" && !told.errors.is_empty() {
            wrong.push(format!("a replica does not run {}: {:?}", case.sql, told.error()));
        }
    }
    for extended in [false, true] {
        wrong.extend(through(&herd, &door, extended));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn through(herd: &Herd, door: &crate::herd::Door, extended: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut client = door.client();
    client.set_timeout(std::time::Duration::from_secs(60));
    let begin = |client: &mut Client| {
        run(client, "SET drover.read_from = 'replica'");
        run(client, "SET drover.replica_wait = '30s'");
    };
    begin(&mut client);
    until(|| value(&mut client, "SELECT pg_is_in_recovery()") == "t");
    let mut primary = herd.direct(&herd.kit.info().shards[0].primary);
    for case in read_cases().into_iter().filter(|case| case.runs) {
        let before = door.metric("drover_reads_on_replica_total");
        let answer = match extended {
            false => client.simple_copy(case.sql, Some(b"")),
            true => client.extended(&Extended {
                copy: Some(b""),
                ..Extended::new(case.sql)
            }),
        };
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error:?}", case.sql));
        if ["pg_sleep", "pg_is_in_recovery", "inet_server_port"]
            .iter()
            .any(|safe| case.sql.contains(safe))
        {
            // This proxy was told that these may run anywhere.
            continue;
        }
        let went = door.metric("drover_reads_on_replica_total") > before;
        if went != (case.place == "replica") {
            wrong.push(format!(
                "extended {extended}: {} went to a replica: {went}",
                case.sql
            ));
        }
        if is_refusal(&answer) {
            let there = primary.simple(case.sql).unwrap();
            if !is_refusal(&there) {
                wrong.push(format!("extended {extended}: {} {:?}", case.sql, answer.error()));
            }
        }
        if answer.status() != b'I' {
            run(&mut client, "ROLLBACK");
        }
        run(&mut client, "DISCARD ALL");
        begin(&mut client);
    }
    wrong
}
