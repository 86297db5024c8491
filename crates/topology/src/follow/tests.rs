use serde_json::Value;

use super::*;
use crate::records::{NodeRecord, ShardRecord, TableName};
use crate::{Key, ShardId, Versioned};

fn joined(incarnation: u64) -> Standing {
    Standing {
        incarnation,
        joined: true,
    }
}

fn cluster(epoch: u64) -> ClusterRecord {
    let shard = ShardRecord {
        id: ShardId(1),
        name: "shard_1".into(),
        primary: NodeRecord::new("a", 1),
        replicas: vec![],
    };
    let mut cluster = ClusterRecord::new("c", vec!["app".into()], vec![shard]).unwrap();
    cluster.epoch = Epoch(epoch);
    cluster
}

fn barrier(id: &str, scope: ChangeScope) -> Value {
    let id = BarrierId(id.into());
    BarrierRecord {
        id,
        leader: "p".into(),
        scope,
    }
    .to_value()
    .unwrap()
}

fn state(epoch: u64, barrier_id: Option<&str>) -> Listing {
    let entry = |key: Key, version, value| {
        let version = Version(version);
        (key, Versioned { version, value })
    };
    let mut listing = Listing::from([entry(cluster_key(), epoch, cluster(epoch).to_value().unwrap())]);
    if let Some(id) = barrier_id {
        listing.extend([entry(barrier_key(), 1000, barrier(id, ChangeScope::Everything))]);
    }
    listing
}

/// The events since the last call, in short.
fn events(follower: &mut Follower) -> Vec<String> {
    let short = |event| match event {
        ClusterEvent::NewCluster(cluster) => format!("cluster {}", cluster.epoch),
        ClusterEvent::Paused { id, .. } => format!("paused {}", id.0),
        ClusterEvent::Resumed { id } => format!("resumed {}", id.0),
        ClusterEvent::Fenced => "fenced".to_owned(),
    };
    follower.events.drain(..).map(short).collect()
}

fn check(steps: &[(Option<u64>, &Listing)], expect: &[&str]) {
    let mut follower = Follower::default();
    for (incarnation, listing) in steps {
        match incarnation {
            None => follower.fenced(),
            Some(incarnation) => follower.observe(joined(*incarnation), listing).unwrap(),
        }
    }
    assert_eq!(events(&mut follower), expect);
}

#[test]
fn a_change_from_begin_to_end() {
    let steps = [
        state(1, None),
        state(1, Some("x")),
        state(2, Some("x")),
        state(2, None),
    ];
    let steps: Vec<_> = steps.iter().map(|listing| (Some(1), listing)).collect();
    check(&steps, &["cluster 1", "paused x", "cluster 2", "resumed x"]);
}

#[test]
fn states_may_be_skipped_but_no_pause_ends_before_its_cluster() {
    let (a, b, c) = (state(1, Some("x")), state(2, None), state(4, Some("z")));
    check(
        &[(Some(1), &a), (Some(1), &b)],
        &["paused x", "cluster 1", "cluster 2", "resumed x"],
    );
    check(
        &[(Some(1), &a), (Some(1), &c)],
        &["paused x", "cluster 1", "cluster 4", "resumed x", "paused z"],
    );
}

#[test]
fn an_older_state_is_ignored() {
    check(
        &[
            (Some(1), &state(2, None)),
            (Some(1), &state(1, Some("x"))),
            (Some(1), &state(2, None)),
        ],
        &["cluster 2"],
    );
}

#[test]
fn whoever_returns_pauses_before_the_cluster_makes_it_valid() {
    let steps = [state(1, None), state(1, Some("x"))];
    let mut follower = Follower::default();
    follower.observe(joined(1), &steps[0]).unwrap();
    assert_eq!(events(&mut follower), ["cluster 1"]);
    follower.fenced();
    assert_eq!(events(&mut follower), ["fenced"]);
    follower.observe(joined(1), &state(5, None)).unwrap();
    follower.observe(joined(2), &steps[1]).unwrap();
    follower.fenced();
    assert_eq!(
        events(&mut follower),
        ["fenced"],
        "what was not delivered is overtaken"
    );
    follower.observe(joined(3), &steps[1]).unwrap();
    assert_eq!(events(&mut follower), ["paused x", "cluster 1"]);
    follower.observe(joined(3), &state(2, None)).unwrap();
    assert_eq!(events(&mut follower), ["cluster 2", "resumed x"]);
}

#[test]
fn a_fence_and_a_return_seen_as_one() {
    check(
        &[(Some(1), &state(1, Some("x"))), (Some(2), &state(1, None))],
        &["fenced", "cluster 1"],
    );
}

#[test]
fn nothing_to_pause_is_not_told() {
    let mut listing = state(1, Some("x"));
    let value = barrier("x", ChangeScope::Nothing);
    listing.insert(
        barrier_key(),
        Versioned {
            version: Version(7),
            value,
        },
    );
    check(&[(Some(1), &listing)], &["cluster 1"]);
}

#[test]
fn scopes_come_through() {
    let table = TableName {
        database: "app".into(),
        schema: "public".into(),
        name: "orders".into(),
    };
    let scope = ChangeScope::Tables { tables: vec![table] };
    let mut listing = state(1, None);
    let value = barrier("x", scope.clone());
    listing.insert(
        barrier_key(),
        Versioned {
            version: Version(7),
            value,
        },
    );
    let mut follower = Follower::default();
    follower.observe(joined(1), &listing).unwrap();
    let id = BarrierId("x".into());
    assert_eq!(follower.events[0], ClusterEvent::Paused { id, scope });
}
