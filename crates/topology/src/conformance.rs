//! What every store must do. [`run`] is called by each store's tests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::{
    BoxFuture, Key, LeaseError, Listing, StoreError, TopologyStore, Version, Watch, Write, WriteError,
};

/// No awaited event takes longer; a bound so that a failing test ends.
const SOON: Duration = Duration::from_secs(20);
/// Lease time of tests in which leases end.
const SHORT: Duration = Duration::from_millis(150);
/// Lease time of tests in which they must not.
const LONG: Duration = Duration::from_secs(600);

type Store = Arc<dyn TopologyStore>;

/// Runs everything on an empty store. `pass` lets time pass for its leases.
pub(crate) async fn run(store: Store, pass: impl Fn(Duration) -> BoxFuture<'static, ()>) {
    creates_changes_and_deletes(&store).await;
    never_gives_a_version_twice(&store).await;
    lists_by_prefix(&store).await;
    requires_other_keys(&store).await;
    one_of_many_writers_wins(&store).await;
    watches_give_the_newest_state(&store).await;
    leases_take_their_keys_along(&store, &pass).await;
    watches_see_leases_end(&store, &pass).await;
    kept_leases_live(&store, &pass).await;
    refuses_what_is_too_large(&store).await;
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.keys().map(Key::as_str).collect()
}

async fn next(watch: &mut Watch) -> Arc<Listing> {
    timeout(SOON, watch.next())
        .await
        .expect("the watch says nothing")
        .unwrap()
}

async fn put(store: &Store, name: &str, expected: Option<Version>, value: i64) -> Version {
    store
        .compare_and_swap(Write::new(key(name), expected, json!({ "n": value })))
        .await
        .unwrap()
}

async fn creates_changes_and_deletes(store: &Store) {
    let name = key("basic/a");
    assert!(store.get(&name).await.unwrap().is_none());
    let first = put(store, "basic/a", None, 1).await;
    let error = store
        .compare_and_swap(Write::new(name.clone(), None, json!(2)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, WriteError::Conflict { current, .. } if current == Some(first)),
        "{error:?}"
    );
    let second = put(store, "basic/a", Some(first), 2).await;
    assert!(second > first);
    let stored = store.get(&name).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.value), (second, json!({ "n": 2 })));
    let error = store
        .compare_and_swap(Write::new(name.clone(), Some(first), json!(3)))
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Conflict { .. }), "{error:?}");
    let error = store.delete(&name, first).await.unwrap_err();
    assert!(matches!(error, WriteError::Conflict { .. }), "{error:?}");
    store.delete(&name, second).await.unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    let error = store.delete(&name, second).await.unwrap_err();
    assert!(
        matches!(error, WriteError::Conflict { current: None, .. }),
        "{error:?}"
    );
}

async fn never_gives_a_version_twice(store: &Store) {
    let name = key("aba");
    let mut seen = Vec::new();
    for n in 0..5 {
        let version = put(store, "aba", None, n).await;
        assert!(seen.iter().all(|&old| old < version));
        seen.push(version);
        store.delete(&name, version).await.unwrap();
    }
}

async fn lists_by_prefix(store: &Store) {
    for name in ["list/b", "list/a", "list/sub/c", "listing"] {
        put(store, name, None, 0).await;
    }
    let all = store.list("list/").await.unwrap();
    assert_eq!(names(&all), ["list/a", "list/b", "list/sub/c"]);
    assert!(store.list("nothing/").await.unwrap().is_empty());
}

async fn requires_other_keys(store: &Store) {
    let guard = put(store, "require/guard", None, 0).await;
    let write = |expected| Write::new(key("require/a"), expected, json!(1));
    let first = store
        .compare_and_swap(write(None).require(key("require/guard"), guard))
        .await
        .unwrap();
    let changed = put(store, "require/guard", Some(guard), 1).await;
    let again = write(Some(first)).require(key("require/guard"), guard);
    let error = store.compare_and_swap(again).await.unwrap_err();
    assert!(matches!(error, WriteError::RequirementFailed { .. }), "{error:?}");
    store.delete(&key("require/guard"), changed).await.unwrap();
    let again = write(Some(first)).require(key("require/guard"), changed);
    let error = store.compare_and_swap(again).await.unwrap_err();
    assert!(matches!(error, WriteError::RequirementFailed { .. }), "{error:?}");
}

async fn one_of_many_writers_wins(store: &Store) {
    const WRITERS: i64 = 4;
    const ROUNDS: i64 = 10;
    put(store, "race", None, 0).await;
    let writers = (0..WRITERS).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                increment(&store, &key("race")).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let total = store.get(&key("race")).await.unwrap().unwrap().value;
    assert_eq!(total, json!({ "n": WRITERS * ROUNDS }));
}

/// Adds one to a number, however many others do so at the same time.
pub(crate) async fn increment(store: &Store, key: &Key) -> Result<(), StoreError> {
    loop {
        let stored = store.get(key).await?;
        let n = stored
            .as_ref()
            .and_then(|stored| stored.value["n"].as_i64())
            .unwrap_or(0);
        let expected = stored.map(|stored| stored.version);
        match store
            .compare_and_swap(Write::new(key.clone(), expected, json!({ "n": n + 1 })))
            .await
        {
            Ok(_) => return Ok(()),
            Err(WriteError::Store(error)) => return Err(error),
            Err(_) => {}
        }
    }
}

async fn watches_give_the_newest_state(store: &Store) {
    let mut watch = store.watch("watch/");
    assert!(next(&mut watch).await.is_empty(), "the first state comes at once");
    let mut version = put(store, "watch/a", None, 0).await;
    assert_eq!(names(&*next(&mut watch).await), ["watch/a"]);
    for n in 1..=20 {
        version = put(store, "watch/a", Some(version), n).await;
    }
    // Some states may be skipped, the last may not.
    while next(&mut watch).await[&key("watch/a")].version != version {}
    put(store, "elsewhere", None, 0).await;
    store.delete(&key("watch/a"), version).await.unwrap();
    assert!(next(&mut watch).await.is_empty());
    let silence = timeout(Duration::from_millis(60), watch.next()).await;
    assert!(silence.is_err(), "nothing has changed: {silence:?}");
    // Cancelled above; it still works.
    put(store, "watch/b", None, 0).await;
    assert_eq!(names(&*next(&mut watch).await), ["watch/b"]);
}

async fn leases_take_their_keys_along(store: &Store, pass: &impl Fn(Duration) -> BoxFuture<'static, ()>) {
    let lease = store.grant_lease(SHORT).await.unwrap();
    let bound = Write::new(key("lease/a"), None, json!(1)).lease(&lease);
    store.compare_and_swap(bound.clone()).await.unwrap();
    pass(SHORT * 2).await;
    assert!(store.get(&key("lease/a")).await.unwrap().is_none());
    assert!(store.list("lease/").await.unwrap().is_empty());
    assert!(
        matches!(store.keep_alive(&lease).await, Err(LeaseError::Expired)),
        "it never comes back"
    );
    let error = store.compare_and_swap(bound).await.unwrap_err();
    assert!(matches!(error, WriteError::LeaseExpired), "{error:?}");
    put(store, "lease/a", None, 2).await;

    let lease = store.grant_lease(LONG).await.unwrap();
    let version = store
        .compare_and_swap(Write::new(key("lease/b"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    store
        .compare_and_swap(Write::new(key("lease/c"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    let required = Write::new(key("lease/d"), None, json!(1)).require(key("lease/c"), version);
    assert!(store.compare_and_swap(required).await.is_err());
    store
        .compare_and_swap(Write::new(key("lease/b"), Some(version), json!(2)))
        .await
        .unwrap();
    store.revoke_lease(&lease).await.unwrap();
    store.revoke_lease(&lease).await.unwrap();
    let left = store.list("lease/").await.unwrap();
    assert_eq!(
        names(&left),
        ["lease/a", "lease/b"],
        "a write without the lease has freed b"
    );
}

async fn watches_see_leases_end(store: &Store, pass: &impl Fn(Duration) -> BoxFuture<'static, ()>) {
    let mut watch = store.watch("ending/");
    assert!(next(&mut watch).await.is_empty());
    let lease = store.grant_lease(SHORT).await.unwrap();
    store
        .compare_and_swap(Write::new(key("ending/a"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    assert_eq!(names(&*next(&mut watch).await), ["ending/a"]);
    assert!(next(&mut watch).await.is_empty());
    let lease = store.grant_lease(LONG).await.unwrap();
    store
        .compare_and_swap(Write::new(key("ending/b"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    assert_eq!(names(&*next(&mut watch).await), ["ending/b"]);
    store.revoke_lease(&lease).await.unwrap();
    assert!(next(&mut watch).await.is_empty());
    pass(Duration::ZERO).await;
}

async fn kept_leases_live(store: &Store, pass: &impl Fn(Duration) -> BoxFuture<'static, ()>) {
    let ttl = SHORT * 6;
    let lease = store.grant_lease(ttl).await.unwrap();
    store
        .compare_and_swap(Write::new(key("kept"), None, json!(1)).lease(&lease))
        .await
        .unwrap();
    for _ in 0..5 {
        pass(ttl / 3).await;
        store.keep_alive(&lease).await.unwrap();
    }
    assert!(store.get(&key("kept")).await.unwrap().is_some());
    store.revoke_lease(&lease).await.unwrap();
}

async fn refuses_what_is_too_large(store: &Store) {
    let huge = "x".repeat(crate::store::VALUE_BYTES_MAX + 1);
    let error = store
        .compare_and_swap(Write::new(key("huge"), None, json!(huge)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, WriteError::Store(StoreError::Limit(_))),
        "{error:?}"
    );
    assert!(store.get(&key("huge")).await.unwrap().is_none());
    let error = store
        .grant_lease(crate::store::LEASE_TTL_MAX + SHORT)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Limit(_)), "{error:?}");
}
