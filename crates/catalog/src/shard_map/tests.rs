use super::*;
use crate::KeyType;
use proptest::prelude::*;

fn shards(n: u32) -> Vec<ShardId> {
    (1..=n).map(ShardId).collect()
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
            assert_eq!(map.shard_of_hash(range.first), range.shard);
            assert_eq!(map.shard_of_hash(range.last), range.shard);
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
    let key = KeyColumn {
        attnum: 1,
        key_type: KeyType::Int8,
    };
    let sql = map.range_predicate_sql(b, key, "\"k\"");
    assert_eq!(
        sql,
        "(coalesce(pg_catalog.hashint8extended((\"k\")::pg_catalog.int8, 0), 0::pg_catalog.int8) \
         BETWEEN '-5'::pg_catalog.int8 AND '9'::pg_catalog.int8)"
    );
    assert_eq!(map.range_predicate_sql(a, key, "k").matches(" OR ").count(), 1);
    assert_eq!(map.range_predicate_sql(ShardId(9), key, "k"), "false");
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
        prop_assert_eq!(holder, vec![map.shard_of_hash(hash)]);
    }
}
