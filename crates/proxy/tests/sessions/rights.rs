//! What Drover's own role does for a client is done for owners only.

use testkit::client::Client;

use super::fixture::{Fixture, run};

#[track_caller]
fn refused(client: &mut Client, sql: &str, message: &str) {
    let answer = format!("{:?}", client.simple(sql).unwrap());
    assert!(
        answer.contains("42501") && answer.contains(message),
        "{sql}: {answer}"
    );
}

#[test]
fn tables_and_functions_of_others_stay_as_they_are() {
    let fixture = Fixture::over(2, 4, 1);
    run(
        &mut fixture.admin(),
        "CREATE TABLE theirs (id int PRIMARY KEY); GRANT ALL ON theirs TO PUBLIC; \
         CREATE FUNCTION trusted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    let (proxy, url) = fixture.another("p2");
    let client = &mut Client::connect(&url).unwrap();
    for table in ["theirs", "public.theirs"] {
        let sharded = format!("SELECT drover.shard_table('{table}', key => 'id')");
        refused(client, &sharded, "must be owner of table theirs");
        let reference = format!("SELECT drover.reference_table('{table}')");
        refused(client, &reference, "must be owner of table theirs");
    }
    refused(
        client,
        "SELECT drover.declare_local('trusted')",
        "must be owner of function trusted",
    );
    run(client, "CREATE TABLE own (id int PRIMARY KEY)");
    run(client, "SELECT drover.shard_table('own', key => 'id')");
    proxy.shutdown();
}
