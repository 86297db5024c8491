use super::*;
use crate::{KeyRef, KeyType};
use proptest::prelude::*;

fn shards(n: u32) -> Vec<ShardId> {
    (1..=n).map(ShardId).collect()
}

fn owner(map: &ShardMap, hash: i64) -> ShardId {
    match &map.rest {
        Rest::Hash(ranges) => ranges.owner_of(hash),
        other => panic!("{other:?}"),
    }
}

/// Part of the hash space that has another owner, and part of each shard.
fn moved(before: &ShardMap, after: &ShardMap) -> (f64, Vec<f64>) {
    let space = 2f64.powi(64);
    let mut edges: Vec<i64> = before.ranges().chain(after.ranges()).map(|r| r.first).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut parts = vec![0.0; 2_000];
    let mut share = 0.0;
    for (at, first) in edges.iter().enumerate() {
        let end = edges.get(at + 1).map_or(2f64.powi(63), |next| *next as f64);
        let size = (end - *first as f64) / space;
        let (old, new) = (owner(before, *first), owner(after, *first));
        parts[new.0 as usize] += size;
        if old != new {
            share += size;
            assert!(
                before.shards().iter().all(|shard| *shard != new),
                "{new} had shared already"
            );
        }
    }
    (share, parts)
}

#[test]
fn a_new_shard_takes_its_part_and_nothing_else_moves() {
    let mut map = ShardMap::even(&shards(1)).unwrap();
    for count in 2..=40_u32 {
        let next = map.with_shard(ShardId(count)).unwrap();
        let (share, parts) = moved(&map, &next);
        let fair = 1.0 / f64::from(count);
        assert!((share - fair).abs() < 1e-9, "{count}: {share}");
        for part in &parts[1..=count as usize] {
            assert!((part - fair).abs() < 1e-9, "{count}: {part}");
        }
        map = next;
    }
    assert_eq!(map.with_shard(ShardId(7)), Err(ShardMapError::HasShard));
    assert_eq!(
        ShardMap::one(ShardId(1)).with_shard(ShardId(2)),
        Err(ShardMapError::NotByHash)
    );
}

#[test]
fn modulo_takes_the_remainder_without_its_sign() {
    let map = ShardMap::modulo(shards(3)).unwrap();
    assert_eq!(map.shard_of(&KeyValue::Null), ShardId(1));
    for key in 0..100 {
        let key = KeyValue::Int(key);
        let remainder = (i128::from(key.hash()).rem_euclid(3)) as u32;
        assert_eq!(map.shard_of(&key), ShardId(remainder + 1));
    }
    assert_eq!(ShardMap::modulo(Vec::new()), Err(ShardMapError::Empty));
}

#[test]
fn ranges_of_keys_hold_their_start_and_not_their_end() {
    let (a, b, c) = (ShardId(1), ShardId(2), ShardId(3));
    let int = KeyValue::Int;
    let map = ShardMap::by_range(a, vec![(int(0), b), (int(10), c), (int(20), a)]).unwrap();
    for (key, shard) in [
        (i64::MIN, a),
        (-1, a),
        (0, b),
        (9, b),
        (10, c),
        (19, c),
        (20, a),
        (i64::MAX, a),
    ] {
        assert_eq!(map.shard_of(&int(key)), shard, "{key}");
    }
    assert_eq!(map.shard_of(&KeyValue::Null), a);
    let between = |low: Option<i64>, high: Option<i64>| {
        map.shards_between(low.map(int).as_ref(), high.map(int).as_ref())
    };
    assert_eq!(between(Some(3), Some(10)), [b, c]);
    assert_eq!(between(Some(3), Some(9)), [b]);
    assert_eq!(between(None, Some(-1)), [a]);
    assert_eq!(between(Some(10), None), [a, c]);
    assert_eq!(between(None, None), [a, b, c]);
    assert_eq!(between(Some(9), Some(3)), []);
    let pinned = map.clone().with_rows([(int(5), ShardId(9))]).unwrap();
    assert_eq!(pinned.shard_of(&int(5)), ShardId(9));
    assert_eq!(
        pinned.shards_between(Some(&int(5)), Some(&int(6))),
        [b, ShardId(9)]
    );
    assert_eq!(pinned.shards_between(Some(&int(6)), Some(&int(7))), [b]);
    assert_eq!(
        ShardMap::by_range(a, vec![(int(5), b), (int(5), c)]),
        Err(ShardMapError::NotAscending)
    );
    assert_eq!(
        ShardMap::by_range(a, vec![(KeyValue::Null, b)]),
        Err(ShardMapError::NullStart)
    );
}

#[test]
fn rows_come_before_the_rule() {
    let text = |t: &str| KeyValue::Text(t.as_bytes().into());
    let (a, b) = (ShardId(1), ShardId(2));
    let list = ShardMap::one(a)
        .with_rows([(text("eu"), b), (KeyValue::Null, b)])
        .unwrap();
    assert_eq!(list.shard_of(&text("eu")), b);
    assert_eq!(list.shard_of(&text("eu ")), a);
    assert_eq!(list.shard_of(&KeyValue::Null), b);
    assert_eq!(list.shards(), [a, b]);
    assert_eq!(list.shard_of_ref(KeyRef::Text(b"eu")), b);
    assert_eq!(
        list.clone().with_rows([(text("eu"), a)]),
        Err(ShardMapError::TwiceRow)
    );
    let again = ShardMap::one(a)
        .with_rows([(KeyValue::Null, b), (text("eu"), b)])
        .unwrap();
    assert_eq!(list, again);
    assert_ne!(list, ShardMap::one(a).with_rows([(text("eu"), b)]).unwrap());
}

fn salted_key(key: i64, salting: i64) -> KeyValue {
    KeyValue::of_columns(vec![KeyValue::Int(key), KeyValue::Int(salting)])
}

#[test]
fn a_salted_key_is_on_as_many_shards_as_it_has_sub_keys_and_evenly() {
    for (shards_there, sub_keys, expect) in
        [(4, 8, 4), (8, 8, 8), (16, 8, 8), (2, 2, 2), (3, 8, 3), (1, 8, 1)]
    {
        let salt = Salt::new(1, sub_keys).unwrap();
        let mut map = ShardMap::even(&shards(shards_there))
            .unwrap()
            .salted(salt)
            .unwrap();
        for key in 0..200 {
            let of_key = map.sub_key_shards(&KeyValue::Int(key));
            assert_eq!(of_key.len(), expect, "{shards_there} {sub_keys} {key}");
            assert!(of_key.is_sorted());
            for row in 0..200 {
                assert!(of_key.contains(&map.shard_of(&salted_key(key, row))));
            }
        }
        // With as many shards as sub-keys or fewer, each has its part of the hottest key.
        let mut rows = vec![0; shards_there as usize + 1];
        (0..8_000).for_each(|row| rows[map.shard_of(&salted_key(7, row)).0 as usize] += 1);
        let fair = 8_000 / expect as i32;
        let part = |rows: &i32| *rows == 0 || (fair * 7 / 10..fair * 14 / 10).contains(rows);
        assert!(rows.iter().all(part), "{shards_there} {sub_keys}: {rows:?}");
        // It is still salted when a shard comes.
        map = map.with_shard(ShardId(99)).unwrap();
        assert_eq!(map.salt(), Some(salt));
        let newcomers = (0..8_000).filter(|row| map.shard_of(&salted_key(*row, 1)) == ShardId(99));
        let fair = 8_000 / (shards_there as usize + 1);
        assert!((fair * 9 / 10..fair * 11 / 10).contains(&newcomers.count()));
    }
}

#[test]
fn what_cannot_be_salted_is_not() {
    let salt = Salt::new(2, 8).unwrap();
    for (columns, sub_keys) in [(0, 8), (8, 8), (1, 0), (1, 1), (1, 3), (1, 512)] {
        assert_eq!(Salt::new(columns, sub_keys), None, "{columns} {sub_keys}");
    }
    let refused = Err(ShardMapError::Salted);
    let one = [(salted_key(1, 1), ShardId(1))];
    let hash = ShardMap::even(&shards(2)).unwrap();
    assert_eq!(ShardMap::one(ShardId(1)).salted(salt), refused);
    assert_eq!(hash.clone().with_rows(one.clone()).unwrap().salted(salt), refused);
    assert_eq!(hash.clone().salted(salt).unwrap().with_rows(one.clone()), refused);
    assert_eq!(hash.salted(salt).unwrap().with_pins(one), refused);
}

#[test]
fn even_maps_cover_everything() {
    for n in [1, 2, 3, 7, 64, 1024] {
        let map = ShardMap::even(&shards(n)).unwrap();
        let ranges: Vec<HashRange> = map.ranges().collect();
        assert_eq!(ranges.len(), n as usize);
        assert_eq!(ranges[0].first, i64::MIN);
        assert_eq!(ranges[n as usize - 1].last, i64::MAX);
        assert!(ranges.windows(2).all(|w| w[0].last + 1 == w[1].first));
        for range in ranges {
            assert_eq!(owner(&map, range.first), range.shard);
            assert_eq!(owner(&map, range.last), range.shard);
        }
    }
}

#[test]
fn broken_maps_are_refused() {
    let s = ShardId(1);
    assert_eq!(ShardMap::even(&[]), Err(ShardMapError::Empty));
    assert_eq!(ShardMap::from_starts([(0, s)]), Err(ShardMapError::FirstStart));
    assert_eq!(
        ShardMap::from_starts([(i64::MIN, s), (5, s), (5, s)]),
        Err(ShardMapError::NotAscending)
    );
    let many = (0..=RANGES_MAX as i64).map(|i| (i64::MIN + i, s));
    assert_eq!(ShardMap::from_starts(many), Err(ShardMapError::TooMany));
}

#[test]
fn predicate_joins_neighbours() {
    let (a, b) = (ShardId(1), ShardId(2));
    let map = ShardMap::from_starts([(i64::MIN, a), (-5, b), (0, b), (10, a)]).unwrap();
    let sql = map.predicate_sql(b, &[(KeyType::Int8, "\"k\"")]);
    assert_eq!(
        sql,
        "(coalesce(pg_catalog.hashint8extended((\"k\")::pg_catalog.int8, 0), 0::pg_catalog.int8) \
         BETWEEN '-5'::pg_catalog.int8 AND '9'::pg_catalog.int8)"
    );
    assert_eq!(
        map.predicate_sql(a, &[(KeyType::Int8, "k")])
            .matches(" OR ")
            .count(),
        1
    );
    assert_eq!(map.predicate_sql(ShardId(9), &[(KeyType::Int8, "k")]), "false");
}

proptest! {
    #[test]
    fn look_up_agrees_with_the_ranges(
        starts in proptest::collection::btree_set(any::<i64>(), 0..50), hash: i64,
    ) {
        let starts = std::iter::once(i64::MIN).chain(starts.into_iter().filter(|s| *s != i64::MIN));
        let map = ShardMap::from_starts(starts.enumerate().map(|(i, s)| (s, ShardId(i as u32)))).unwrap();
        let holder: Vec<ShardId> =
            map.ranges().filter(|r| r.first <= hash && hash <= r.last).map(|r| r.shard).collect();
        prop_assert_eq!(holder, vec![owner(&map, hash)]);
    }
}
