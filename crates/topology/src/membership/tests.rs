use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::MemoryStore;

const TTL: Duration = Duration::from_secs(3);

fn id(text: &str) -> ProxyId {
    ProxyId::parse(text).unwrap()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn join(store: &Arc<dyn TopologyStore>, name: &str) -> Membership {
    Membership::join(Arc::clone(store), id(name), TTL).await.unwrap()
}

fn memory() -> Arc<dyn TopologyStore> {
    Arc::new(MemoryStore::new())
}

#[tokio::test(start_paused = true)]
async fn valid_from_the_first_acknowledgement_for_as_long_as_it_is_renewed() {
    let store = memory();
    let member = join(&store, "a").await;
    assert!(!member.is_valid(now()), "it has loaded nothing");
    member.ack_epoch(1, Epoch(5)).await.unwrap();
    assert!(member.is_valid(now()));
    tokio::time::sleep(TTL * 10).await;
    assert!(member.is_valid(now()));
    member.wait_all_acked(Epoch(5), now()).await.unwrap();
    assert!(
        !member.is_valid(now() + TTL),
        "were the task stuck, validity would end by itself"
    );
}

#[tokio::test(start_paused = true)]
async fn an_id_is_taken_until_its_holder_leaves_or_expires() {
    let store = memory();
    let first = join(&store, "a").await;
    let error = Membership::join(Arc::clone(&store), id("a"), TTL)
        .await
        .unwrap_err();
    assert!(matches!(error, MembershipError::IdInUse(_)));
    first.leave().await.unwrap();
    let second = join(&store, "a").await;
    drop(second);
    assert!(Membership::join(Arc::clone(&store), id("a"), TTL).await.is_err());
    tokio::time::sleep(TTL).await;
    join(&store, "a").await;
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_acknowledgements_death_or_the_deadline() {
    let store = memory();
    let (a, b) = (join(&store, "a").await, join(&store, "b").await);
    a.ack_epoch(1, Epoch(2)).await.unwrap();
    b.ack_epoch(1, Epoch(1)).await.unwrap();
    let error = a.wait_all_acked(Epoch(2), now() + TTL).await.unwrap_err();
    assert!(matches!(error, WaitError::Deadline { laggards } if laggards == ["b"]));
    // Gone without a word: its registration lives on until the lease ends, by when it knows that it is cut off.
    drop(b);
    let began = now();
    a.wait_all_acked(Epoch(2), now() + TTL * 2).await.unwrap();
    assert!(now() - began <= TTL);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_makes_a_new_incarnation_that_must_acknowledge_again() {
    let store = memory();
    let member = join(&store, "a").await;
    member.ack_epoch(1, Epoch(1)).await.unwrap();
    let mut standing = member.standing();
    store.revoke_lease(&member.lease().await.unwrap()).await.unwrap();
    standing
        .wait_for(|standing| standing.incarnation == 2 && standing.joined)
        .await
        .unwrap();
    assert!(!member.is_valid(now()));
    let error = member.ack_epoch(1, Epoch(1)).await.unwrap_err();
    assert!(
        matches!(error, MembershipError::Fenced),
        "what was read before does not count"
    );
    member.ack_epoch(2, Epoch(1)).await.unwrap();
    assert!(member.is_valid(now()));
}

#[tokio::test(start_paused = true)]
async fn what_is_abandoned_is_removed_unless_it_has_changed() {
    let store = memory();
    let member = join(&store, "a").await;
    let key = Key::parse("x").unwrap();
    let first = store
        .compare_and_swap(Write::new(key.clone(), None, 1.into()))
        .await
        .unwrap();
    let second = store
        .compare_and_swap(Write::new(key.clone(), Some(first), 2.into()))
        .await
        .unwrap();
    member.abandon(key.clone(), first);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(store.get(&key).await.unwrap().is_some());
    member.abandon(key.clone(), second);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(store.get(&key).await.unwrap().is_none());
}
