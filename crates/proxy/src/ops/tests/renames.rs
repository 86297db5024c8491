//! Schema changes whose proxy died between two steps: the record follows what the shards decided.

use commit::{Gid, Secret};
use topology::records::SchemaJournal;

use super::*;
use crate::admin_link::AdminLink;

const RENAME: &str = "ALTER TABLE orders RENAME TO purchases";

fn fixture() -> Fixture {
    let f = Fixture::new(
        "",
        "CREATE TABLE orders (id bigint PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 300)",
    );
    f.shard("orders", "id", None).unwrap();
    f.caught_up_blocking();
    f
}

impl Fixture {
    /// What a proxy does up to a point: statements on the shards in open transactions, the last with the decision row,
    /// and the journal.
    fn begin_rename(&self) -> (Vec<AdminLink>, catalog::Epoch) {
        let secret = Secret([9; 16]);
        let gid = Gid::new(commit::ShardId(1), secret);
        self.runtime.block_on(async {
            let mut links = Vec::new();
            for shard in 1..=u32::from(SHARDS) {
                let mut link = self
                    .cluster
                    .admin_link(ShardId(shard), &self.database)
                    .await
                    .unwrap();
                link.run("BEGIN").await.unwrap();
                link.run(RENAME).await.unwrap();
                links.push(link);
            }
            links[0]
                .run(&commit::sql::decide(&gid, &[], secret))
                .await
                .unwrap();
            let mut guard = self.cluster.change(ChangeScope::Nothing).await.unwrap();
            let mut after = guard.cluster().clone();
            let table = after.table_mut(&self.database, "public", "orders").unwrap();
            table.name = "purchases".to_owned();
            let journal = SchemaJournal::between(guard.cluster(), &after, &self.database, gid.to_string());
            let announced = guard
                .publish(|record| record.journal = Some(journal.clone()))
                .await
                .unwrap();
            // The proxy dies: its barrier goes with it.
            drop(guard);
            (links, announced)
        })
    }

    /// What every proxy does by itself has been done.
    fn settled(&self, announced: catalog::Epoch) -> ClusterRecord {
        let settled = async {
            loop {
                let record = self.cluster.record();
                if record.epoch > announced && !is_unfinished(&record) && !self.cluster.gate.is_closed() {
                    return ClusterRecord::clone(&record);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), settled).await });
        result.expect("the change is brought to its end")
    }

    fn is_called(&self, name: &str, announced: catalog::Epoch) {
        let record = self.settled(announced);
        let names: Vec<&str> = record.tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, [name]);
        let counts = self.everywhere(&format!("SELECT count(*) FROM {name}")).concat();
        let total: u32 = counts.iter().map(|count| count.parse::<u32>().unwrap()).sum();
        assert_eq!(total, 300);
        let facts = self.cluster.facts(&self.database).unwrap();
        let relation = facts.relation_in("public", name).unwrap();
        assert!(!relation.placement.is_home());
    }
}

#[test]
fn a_change_that_was_announced_and_not_committed_never_was() {
    let f = fixture();
    let (links, announced) = f.begin_rename();
    // The servers see the connections end.
    drop(links);
    f.is_called("orders", announced);
}

#[test]
fn a_change_that_was_committed_is_recorded_by_whoever_finds_it() {
    let f = fixture();
    let (links, announced) = f.begin_rename();
    f.runtime.block_on(async {
        for mut link in links.into_iter().rev() {
            link.run("COMMIT").await.unwrap();
        }
    });
    f.is_called("purchases", announced);
}

#[test]
fn a_commit_on_its_way_is_waited_for() {
    let f = fixture();
    let (mut links, announced) = f.begin_rename();
    // Somebody looks for the decision, and stands behind the open transaction.
    f.runtime.block_on(async {
        let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%resolve%' \
                     AND datname = current_database() AND pid <> pg_backend_pid()";
        let mut look = f.cluster.admin_link(ShardId(1), &f.database).await.unwrap();
        let wait = async {
            while look.value(waits).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
        for mut link in links.drain(..).rev() {
            link.run("COMMIT").await.unwrap();
        }
    });
    f.is_called("purchases", announced);
}

#[test]
fn parts_that_are_prepared_follow_the_decision() {
    for decided in [true, false] {
        let f = fixture();
        let (mut links, announced) = f.begin_rename();
        let secret = Secret([7; 16]);
        let gid = Gid::new(commit::ShardId(1), secret);
        f.runtime.block_on(async {
            for link in &mut links[1..] {
                link.run(&commit::sql::prepare(&gid)).await.unwrap();
            }
            if decided {
                let participants = [commit::ShardId(2), commit::ShardId(3)];
                let decide = commit::sql::decide(&gid, &participants, secret);
                links[0].run(&decide).await.unwrap();
                links[0].run("COMMIT").await.unwrap();
            } else {
                links[0].run("ROLLBACK").await.unwrap();
                // What nobody has decided is recovery's, in a while; a test need not wait that long.
                for link in &mut links[1..] {
                    link.run(&commit::sql::rollback_prepared(&gid)).await.unwrap();
                }
            }
        });
        drop(links);
        f.is_called(if decided { "purchases" } else { "orders" }, announced);
    }
}
