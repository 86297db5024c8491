//! Rows put in wrong places by hand are found.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use testkit::TestCluster;
use testkit::client::{Client, Target};
use testkit::placement::{Finding, KeyType, Layout, MapRow, Shard, ShardedTable, verify};

const HALF: i64 = 0;

struct Fixture {
    shards: Vec<Shard>,
    layout: Layout,
}

/// Two shards: `t` sharded by `k` (negative hashes first), `r` a reference table, `home` at home.
fn fixture() -> Fixture {
    let cluster = TestCluster::shared(2);
    let (info, database) = (cluster.info(), cluster.create_database());
    let shard = |index: usize| {
        let node = &info.shards[index].primary;
        let (user, password) = (&info.app_user, info.app_password.expose());
        let url = format!(
            "postgresql://{user}:{password}@{}:{}/{database}",
            node.host, node.port
        );
        Shard {
            name: format!("s{index}"),
            target: Target::parse(&url).unwrap(),
        }
    };
    let ranges = vec![
        MapRow::hashes(i64::MIN, HALF - 1, "s0"),
        MapRow::hashes(HALF, i64::MAX, "s1"),
    ];
    let layout = Layout {
        home: "s0".to_string(),
        primaries: Vec::new(),
        sharded: vec![ShardedTable {
            name: "\"public\".\"t\"".to_string(),
            key: vec![("\"k\"".to_string(), KeyType::Int8)],
            salt: None,
            map: "m".to_string(),
        }],
        reference: vec!["\"public\".\"r\"".to_string()],
        maps: BTreeMap::from([("m".to_string(), ranges)]),
    };
    let fixture = Fixture {
        shards: vec![shard(0), shard(1)],
        layout,
    };
    for index in 0..2 {
        fixture.run(
            index,
            "CREATE TABLE t (k bigint, v text); CREATE TABLE r (a int); INSERT INTO r VALUES (1), (2)",
        );
        let side = if index == 0 { "< 0" } else { ">= 0" };
        let rows = "SELECT g, 'v' FROM generate_series(1, 50) g WHERE hashint8extended(g, 0)";
        fixture.run(index, &format!("INSERT INTO t {rows} {side}"));
    }
    fixture.run(0, "CREATE TABLE home (a int)");
    fixture.run(1, "INSERT INTO t VALUES (NULL, 'a NULL key hashes to 0')");
    fixture
}

impl Fixture {
    fn run(&self, index: usize, sql: &str) {
        let answer = Client::open(&self.shards[index].target)
            .unwrap()
            .simple(sql)
            .unwrap();
        assert_eq!(answer.error(), None, "{sql}");
    }

    fn findings(&self) -> Vec<Finding> {
        verify(&self.layout, &self.shards).unwrap()
    }

    fn only_finding(&self) -> String {
        match self.findings().as_slice() {
            [finding] => finding.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn all_in_place() {
    assert_eq!(fixture().findings(), []);
}

#[test]
fn a_row_on_the_wrong_shard_or_on_both() {
    let fixture = fixture();
    fixture.run(
        0,
        "INSERT INTO t SELECT k, v FROM (SELECT g AS k, 'again' AS v FROM generate_series(1, 50) g
                    WHERE hashint8extended(g, 0) >= 0 LIMIT 1) x",
    );
    let text = fixture.only_finding();
    assert!(
        text.contains("1 rows that belong elsewhere") && text.contains("belongs to s1"),
        "{text}"
    );
}

#[test]
fn a_null_key_has_one_place() {
    let fixture = fixture();
    fixture.run(0, "INSERT INTO t VALUES (NULL, 'astray')");
    assert!(fixture.only_finding().contains("\"k\" = NULL belongs to s1"));
}

#[test]
fn copies_that_drift() {
    let fixture = fixture();
    fixture.run(1, "UPDATE r SET a = 3 WHERE a = 2");
    assert!(fixture.only_finding().contains("the copy differs"));
}

#[test]
fn tables_that_are_missing_astray_or_different() {
    let fixture = fixture();
    fixture.run(1, "CREATE TABLE astray (a int)");
    assert!(fixture.only_finding().contains("away from the home shard"));
    fixture.run(1, "DROP TABLE astray; ALTER TABLE t ADD COLUMN extra int");
    assert!(fixture.only_finding().contains("columns"));
}
