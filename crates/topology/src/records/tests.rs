use super::*;
use catalog::{KeyShape, KeyType, KeyValue, Salt};

fn node(port: u16) -> NodeRecord {
    NodeRecord::new("127.0.0.1", port)
}

fn shard(id: u32) -> ShardRecord {
    ShardRecord {
        id: ShardId(id),
        name: format!("shard_{id}"),
        primary: node(5000 + id as u16),
        replicas: vec![node(6000 + id as u16)],
    }
}

fn cluster() -> ClusterRecord {
    let shards = (1..=4).map(shard).collect();
    let mut cluster = ClusterRecord::new("d7a1", vec!["app".into()], shards).unwrap();
    cluster.epoch = Epoch(42);
    cluster.schema_version = 7;
    let table = |name: &str, kind, state| TableRecord {
        database: "app".into(),
        schema: "public".into(),
        name: name.into(),
        home_oid: 16_400,
        kind,
        state,
    };
    let by_user = |column: &str| TableKind::Sharded {
        columns: vec![column.into()],
        key_types: vec!["int8".into()],
        map: MapId(1),
    };
    let pending = TableState::Pending {
        change: "lease-9.1".into(),
        what: "sharding by user_id".into(),
    };
    cluster.tables = vec![
        table("users", by_user("id"), TableState::Active),
        table("orders", by_user("user_id"), pending),
        table("countries", TableKind::Reference, TableState::Active),
    ];
    cluster.declared_local.push(FunctionRecord {
        database: "app".into(),
        schema: "public".into(),
        name: "tax".into(),
    });
    cluster
}

/// A frozen sample must be read as `record`, and the newest form must be written as the newest sample.
fn check<R: Record + Clone + PartialEq + std::fmt::Debug>(sample: &str, record: R) {
    let value: Value = serde_json::from_str(sample).unwrap();
    assert_eq!(R::from_value(&value).unwrap(), record);
    let written = record.to_value().unwrap();
    assert_eq!(
        written,
        value,
        "{}",
        serde_json::to_string_pretty(&written).unwrap()
    );
}

#[test]
fn cluster_sample() {
    check(include_str!("../../samples/cluster-v1.json"), cluster());
}

fn place(key: Option<&str>, shard: u32) -> KeyPlace {
    KeyPlace {
        key: key.map(str::to_owned),
        shard: ShardId(shard),
    }
}

/// A cluster with a map of every scheme.
fn schemes() -> ClusterRecord {
    let mut record = cluster();
    let ids: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let text = || "text".to_owned();
    let schemes = [
        Scheme::Modulo {
            owners: ids.iter().map(|id| id.0).collect(),
        },
        Scheme::Range {
            key_type: "int8".into(),
            first: ShardId(1),
            starts: vec![place(Some("-5"), 2), place(Some("1000"), 1)],
        },
        Scheme::List {
            key_type: text(),
            rows: vec![place(Some("eu"), 2), place(None, 3)],
            rest: ShardId(1),
        },
        Scheme::even_directory(
            &ids,
            &KeyShape::one(KeyType::Varchar),
            vec![place(Some("acme"), 4)],
        )
        .unwrap(),
        Scheme::Modulo {
            owners: ids.iter().map(|id| id.0).collect(),
        }
        .pin(&KeyShape::one(KeyType::Int4), "7", Some(ShardId(2))),
    ];
    for scheme in schemes {
        let id = record.next_map_id();
        record.maps.push(MapRecord { id, scheme });
    }
    record
}

#[test]
fn cluster_sample_with_every_scheme() {
    check(include_str!("../../samples/cluster-v1-schemes.json"), schemes());
}

/// A table without a key, a schema of a shard, and a change of both.
fn placed() -> ClusterRecord {
    let mut record = cluster();
    let id = record.next_map_id();
    record.maps.push(MapRecord {
        id,
        scheme: Scheme::Place { shard: ShardId(3) },
    });
    let kind = TableKind::Sharded {
        columns: Vec::new(),
        key_types: Vec::new(),
        map: id,
    };
    record.tables.push(TableRecord {
        name: "invoices".into(),
        kind,
        ..record.tables[0].clone()
    });
    let before = record.clone();
    record.placed_schemas.push(SchemaRecord {
        database: "app".into(),
        schema: "billing".into(),
        shard: ShardId(2),
    });
    let journal = SchemaJournal::between(&record, &before, "app", "d7.1".into());
    record.journal = Some(journal);
    record
}

#[test]
fn cluster_sample_with_places() {
    check(include_str!("../../samples/cluster-v1-placed.json"), placed());
}

#[test]
fn only_a_place_can_do_without_a_key() {
    let record = placed();
    assert_eq!(record.check(), Ok(()));
    let table = record.tables.last().unwrap();
    assert_eq!(record.place_of(&table.kind), Some(ShardId(3)));
    assert_eq!(record.place_of(&record.tables[0].kind), None);
    let input = record.sharding_input("app").unwrap();
    assert_eq!(input.schemas, [("billing".to_owned(), ShardId(2))]);
    assert!(record.sharding_input("other").unwrap().schemas.is_empty());
    let with = |columns: &[&str], map: u32| {
        let mut record = placed();
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        record.tables.last_mut().unwrap().kind = TableKind::Sharded {
            columns: own(columns),
            key_types: own(&vec!["int8"; columns.len()]),
            map: MapId(map),
        };
        record.check()
    };
    let place = record.maps.last().unwrap().id.0;
    assert_eq!(with(&[], place), Ok(()));
    assert!(matches!(with(&[], 1), Err(ClusterRecordError::KeyColumns { .. })));
    assert!(matches!(
        with(&["id"], place),
        Err(ClusterRecordError::MapFamily { .. })
    ));
    let mut lost = placed();
    lost.placed_schemas[0].shard = ShardId(9);
    assert!(matches!(
        lost.check(),
        Err(ClusterRecordError::UnknownShard { .. })
    ));
    // The journal takes the place of the schema away, and nothing else.
    let mut after = placed();
    let journal = after.journal.take().unwrap();
    journal.apply(&mut after);
    assert!(after.placed_schemas.is_empty());
    assert_eq!(after.tables, record.tables);
}

/// Maps of keys of several columns, and of regions.
fn keys() -> ClusterRecord {
    let mut record = cluster();
    let ids: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let pairs = KeyShape::new([KeyType::Int2, KeyType::Varchar]).unwrap();
    let regions = Scheme::Geo {
        key_type: "text".to_owned(),
        rows: vec![place(Some("eu"), 2), place(Some("us"), 4)],
        asked: ShardId(1),
    };
    let schemes = [
        Scheme::even_directory(
            &ids,
            &pairs,
            vec![place(Some("(7,\"a, b\")"), 2), place(Some("(,)"), 4)],
        )
        .unwrap(),
        Scheme::even_hash(&ids)
            .unwrap()
            .pin(&pairs, "(-1,x)", Some(ShardId(3))),
        regions.pin(&KeyShape::one(KeyType::Text), "fr", Some(ShardId(3))),
    ];
    for scheme in schemes {
        let id = record.next_map_id();
        record.maps.push(MapRecord { id, scheme });
    }
    let map = record.maps[1].id;
    record.tables.push(TableRecord {
        database: record.databases[0].clone(),
        schema: "public".to_owned(),
        name: "pairs".to_owned(),
        home_oid: 16_999,
        kind: TableKind::Sharded {
            columns: vec!["a".to_owned(), "b".to_owned()],
            key_types: vec!["int4".to_owned(), "text".to_owned()],
            map,
        },
        state: TableState::Active,
    });
    record
}

#[test]
fn cluster_sample_with_every_kind_of_key() {
    check(include_str!("../../samples/cluster-v1-keys.json"), keys());
}

/// A table whose keys are salted.
fn salted() -> ClusterRecord {
    let mut record = cluster();
    let ids: Vec<ShardId> = record.shards.iter().map(|shard| shard.id).collect();
    let map = record.next_map_id();
    let scheme = Scheme::even_salted(&ids, Salt::new(1, 8).unwrap()).unwrap();
    record.maps.push(MapRecord { id: map, scheme });
    record.tables.push(TableRecord {
        database: record.databases[0].clone(),
        schema: "public".to_owned(),
        name: "visits".to_owned(),
        home_oid: 17_001,
        kind: TableKind::Sharded {
            columns: vec!["page".to_owned(), "id".to_owned()],
            key_types: vec!["int4".to_owned(), "int8".to_owned()],
            map,
        },
        state: TableState::Active,
    });
    record
}

#[test]
fn cluster_sample_with_salted_keys() {
    check(include_str!("../../samples/cluster-v1-salted.json"), salted());
}

#[test]
fn salted_keys_are_checked() {
    let record = salted();
    assert!(record.check().is_ok(), "{:?}", record.check());
    let scheme = &record.maps.last().unwrap().scheme;
    let map = scheme.to_shard_map().unwrap();
    assert_eq!(map.salt(), Salt::new(1, 8));
    assert_eq!(map.sub_key_shards(&KeyValue::Int(7)).len(), 4);
    // A key without a column that salts it, and sub-keys that there cannot be.
    let mut wrong = salted();
    if let TableKind::Sharded {
        columns, key_types, ..
    } = &mut wrong.tables.last_mut().unwrap().kind
    {
        columns.truncate(1);
        key_types.truncate(1);
    }
    assert!(wrong.check().unwrap_err().to_string().contains("cannot place"));
    for (columns, keys) in [(0, 8), (1, 3)] {
        let mut wrong = salted();
        if let Scheme::Salted {
            key_columns,
            sub_keys,
            ..
        } = &mut wrong.maps.last_mut().unwrap().scheme
        {
            (*key_columns, *sub_keys) = (columns, keys);
        }
        let why = wrong.check().unwrap_err().to_string();
        assert!(why.contains("cannot be spread"), "{why}");
    }
    let pinned = scheme.pin(
        &KeyShape::new([KeyType::Int4, KeyType::Int8]).unwrap(),
        "(7,1)",
        Some(ShardId(2)),
    );
    assert!(pinned.to_shard_map().is_err());
}

#[test]
fn keys_of_several_columns_are_checked() {
    let record = keys();
    assert!(record.check().is_ok(), "{:?}", record.check());
    let map = |at: usize| record.maps[at].scheme.to_shard_map().unwrap();
    let pair = |a: KeyValue, b: &str| KeyValue::Record([a, KeyValue::Text(b.as_bytes().into())].into());
    assert_eq!(map(1).shard_of(&pair(KeyValue::Int(7), "a, b")), ShardId(2));
    let nulls = KeyValue::Record([KeyValue::Null, KeyValue::Null].into());
    assert_eq!(map(1).shard_of(&nulls), ShardId(4));
    assert_eq!(map(2).shard_of(&pair(KeyValue::Int(-1), "x")), ShardId(3));
    let region = |name: &str| map(3).holder_of(&KeyValue::Text(name.as_bytes().into()));
    assert_eq!(
        ["eu", "us", "fr", "EU"].map(region),
        [Some(ShardId(2)), Some(ShardId(4)), Some(ShardId(3)), None]
    );
    // Types in another order, and types without columns.
    for types in [&["text", "int4"][..], &["int4"], &["int4,text", "text"]] {
        let mut wrong = keys();
        let table = wrong.tables.last_mut().unwrap();
        if let TableKind::Sharded { key_types, .. } = &mut table.kind {
            *key_types = types.iter().map(|name| (*name).to_owned()).collect();
        }
        assert!(wrong.check().is_err(), "{types:?}");
    }
}

#[test]
fn schemes_place_keys() {
    let record = schemes();
    assert!(record.check().is_ok());
    let text = |text: &str| KeyValue::Text(text.as_bytes().into());
    let owner = |map: usize, key: &KeyValue| record.maps[map].scheme.to_shard_map().unwrap().shard_of(key).0;
    assert_eq!(owner(1, &KeyValue::Null), 1);
    assert_eq!(
        [-6, -5, 999, 1000].map(|key| owner(2, &KeyValue::Int(key))),
        [1, 2, 2, 1]
    );
    assert_eq!(
        [text("eu"), text("EU"), KeyValue::Null].map(|key| owner(3, &key)),
        [2, 1, 3]
    );
    assert_eq!(owner(4, &text("acme")), 4);
    assert_eq!(owner(4, &text("b")), owner(0, &text("b")));
}

#[test]
fn pins_lie_over_any_scheme_and_come_off_again() {
    let record = schemes();
    let owner = |scheme: &Scheme, key: &KeyValue| scheme.to_shard_map().unwrap().shard_of(key).0;
    let text = |text: &str| KeyValue::Text(text.as_bytes().into());
    for (map, key, value) in [
        (0, "7", KeyValue::Int(7)),
        (1, "7", KeyValue::Int(7)),
        (2, "7", KeyValue::Int(7)),
        (3, "eu", text("eu")),
        (4, "acme", text("acme")),
    ] {
        let scheme = &record.maps[map].scheme;
        let key_type = if map < 3 { KeyType::Int8 } else { KeyType::Text };
        for shard in [1, 2, 3, 4] {
            let pinned = scheme.pin(&KeyShape::one(key_type), "x", None).pin(
                &KeyShape::one(key_type),
                key,
                Some(ShardId(shard)),
            );
            assert_eq!(owner(&pinned, &value), shard, "{scheme:?}");
            assert_eq!((pinned.name(), pinned.unpinned()), (scheme.name(), scheme));
            let again = pinned.pin(&KeyShape::one(key_type), key, Some(ShardId(1)));
            assert_eq!(owner(&again, &value), 1);
            assert_eq!(again.pin(&KeyShape::one(key_type), key, None), *scheme);
        }
    }
    assert_eq!(owner(&record.maps[5].scheme, &KeyValue::Int(7)), 2);
}

#[test]
fn schemes_that_make_no_sense_are_found() {
    let wrong = |scheme: Scheme| {
        let mut record = schemes();
        record.maps[1].scheme = scheme;
        record.check().unwrap_err().to_string()
    };
    let range = |key_type: &str, starts: Vec<KeyPlace>| Scheme::Range {
        key_type: key_type.to_owned(),
        first: ShardId(1),
        starts,
    };
    assert!(wrong(Scheme::Modulo { owners: vec![] }).contains("at least one"));
    assert!(wrong(Scheme::Modulo { owners: vec![1, 77] }).contains("names shard 77"));
    assert!(wrong(range("int8", vec![place(Some("x"), 1)])).contains("\"x\" is not a int8"));
    assert!(wrong(range("int8", vec![place(Some("2"), 1), place(Some("2"), 1)])).contains("ascending"));
    assert!(wrong(range("numeric", vec![])).contains("cannot be placed by range"));
    assert!(wrong(range("json", vec![])).contains("no key type json"));
    let mut record = schemes();
    let TableKind::Sharded { map, .. } = &mut record.tables[0].kind else {
        panic!("{:?}", record.tables[0])
    };
    *map = record.maps[3].id;
    assert!(record.check().unwrap_err().to_string().contains("cannot place"));
}

#[test]
fn proxy_sample() {
    let record = ProxyRecord {
        id: "host-1".into(),
        acked_epoch: Some(Epoch(42)),
        paused_for: Some(BarrierId("lease-9.1".into())),
        cancel: None,
    };
    check(include_str!("../../samples/proxy-v1.json"), record.clone());
    let record = ProxyRecord {
        cancel: Some(CancelPeer {
            number: 77,
            address: ([127, 0, 0, 1], 40001).into(),
        }),
        ..record
    };
    check(include_str!("../../samples/proxy-v1-cancel.json"), record);
}

#[test]
fn barrier_sample() {
    let table = TableName {
        database: "app".into(),
        schema: "public".into(),
        name: "orders".into(),
    };
    let record = BarrierRecord {
        id: BarrierId("lease-9.1".into()),
        leader: "host-1".into(),
        scope: ChangeScope::Tables { tables: vec![table] },
    };
    check(include_str!("../../samples/barrier-v1.json"), record);
}

#[test]
fn unknown_versions_and_fields_are_errors() {
    let mut value = cluster().to_value().unwrap();
    value["surprise"] = true.into();
    assert!(ClusterRecord::from_value(&value).is_err());
    let mut value = cluster().to_value().unwrap();
    value["v"] = "2".into();
    assert!(matches!(
        ClusterRecord::from_value(&value),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn every_map_size_covers_the_hash_space() {
    for count in 1..=17 {
        let ids: Vec<ShardId> = (1..=count).map(ShardId).collect();
        let map = Scheme::even_hash(&ids).unwrap().to_shard_map().unwrap();
        let ranges: Vec<_> = map.ranges().collect();
        assert_eq!(ranges.len(), count as usize);
        assert_eq!(
            (ranges[0].first, ranges[ranges.len() - 1].last),
            (i64::MIN, i64::MAX)
        );
        let sizes = ranges
            .iter()
            .map(|r| i128::from(r.last) - i128::from(r.first) + 1);
        let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
        assert!(most - least <= 1, "{count}: {least} {most}");
    }
}

#[test]
fn wrong_records_are_found() {
    let wrong = |change: fn(&mut ClusterRecord)| {
        let mut record = cluster();
        change(&mut record);
        record.check().unwrap_err().to_string()
    };
    assert!(cluster().check().is_ok());
    assert!(wrong(|c| c.home = ShardId(9)).contains("home shard names shard 9"));
    assert!(wrong(|c| c.shards.push(shard(1))).contains("twice"));
    assert!(wrong(|c| c.tables.push(c.tables[0].clone())).contains("users"));
    assert!(wrong(|c| c.databases.push("app".into())).contains("`app` is there twice"));
    assert!(wrong(|c| c.maps.clear()).contains("names shard map 1"));
    assert!(wrong(|c| c.maps[0].scheme = Scheme::Hash { ranges: vec![] }).contains("at least one range"));
    assert!(wrong(|c| drop(c.shards.pop())).contains("shard map 1 names shard 4"));
}

#[test]
fn pending_tables_and_other_databases_are_not_given_to_the_catalog() {
    let input = cluster().sharding_input("app").unwrap();
    let names: Vec<_> = input.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["users", "countries"]);
    assert_eq!(
        (input.epoch, input.home, input.shards.len()),
        (Epoch(42), ShardId(1), 4)
    );
    assert_eq!(input.declared_local, [("public".to_owned(), "tax".to_owned())]);
    assert!(cluster().sharding_input("other").unwrap().tables.is_empty());
}

#[test]
fn a_journal_turns_one_record_into_the_other() {
    let before = cluster();
    let mut after = before.clone();
    after.tables[0].name = "people".into();
    after.tables.remove(2);
    after.maps.push(MapRecord {
        id: MapId(9),
        scheme: after.maps[0].scheme.clone(),
    });
    after.declared_local[0].schema = "shop".into();
    let journal = SchemaJournal::between(&before, &after, "app", "gid".into());
    let mut applied = before.clone();
    journal.apply(&mut applied);
    journal.apply(&mut applied);
    let sorted = |mut record: ClusterRecord| {
        record.tables.sort_by(|a, b| a.name.cmp(&b.name));
        record
    };
    assert_eq!(sorted(applied), sorted(after));
    let nothing = SchemaJournal::between(&before, &before, "app", "gid".into());
    let mut applied = before.clone();
    nothing.apply(&mut applied);
    assert_eq!(applied, before);
}

#[test]
fn cluster_sample_with_a_journal() {
    let before = cluster();
    let mut after = before.clone();
    after.tables[0].name = "people".into();
    after.maps.push(MapRecord {
        id: MapId(2),
        scheme: after.maps[0].scheme.clone(),
    });
    after.declared_local[0].schema = "shop".into();
    let mut record = before.clone();
    record.journal = Some(SchemaJournal::between(
        &before,
        &after,
        "app",
        "drover:1:1:00".into(),
    ));
    check(include_str!("../../samples/cluster-v1-journal.json"), record);
}

/// Statements planned before such a change must not run after it; all others may.
#[test]
fn rows_change_hands_when_a_table_begins_to_move_or_its_map_changes() {
    let mut before = cluster();
    for (at, table) in (1..).zip(&mut before.tables) {
        table.home_oid = 20_000 + at;
    }
    let moved = |change: &dyn Fn(&mut ClusterRecord)| {
        let mut after = before.clone();
        change(&mut after);
        after.moves_rows_of(&before)
    };
    let pending = || TableState::Pending {
        change: "lease-9.2".into(),
        what: "moving".into(),
    };
    assert!(moved(&|after| after.tables[0].state = pending()));
    assert!(moved(&|after| {
        let mut table = after.tables[0].clone();
        (table.home_oid, table.state) = (7, pending());
        after.tables.push(table);
    }));
    assert!(moved(&|after| after.tables[0].kind = TableKind::Reference));
    // Another key with the same map.
    assert!(moved(&|after| {
        if let TableKind::Sharded { columns, .. } = &mut after.tables[0].kind {
            columns[0] = "tenant".into();
        }
    }));
    assert!(moved(&|after| {
        let shape = KeyShape::one(KeyType::Int8);
        after.maps[0].scheme = after.maps[0].scheme.pin(&shape, "7", Some(ShardId(2)));
    }));
    assert!(moved(&|after| after.shards.push(shard(5))));

    assert!(!moved(&|after| after.tables[1].state = TableState::Active));
    assert!(!moved(&|after| {
        let mut table = after.tables[0].clone();
        table.home_oid = 7;
        after.tables.push(table);
    }));
    assert!(!moved(&|after| after.tables[0].name = "people".into()));
    assert!(!moved(&|after| after.tables.truncate(1)));
    assert!(!moved(&|after| after.shards[0].primary.port = 7000));
}

#[test]
fn cluster_sample_with_an_ownership() {
    let mut record = cluster();
    record.ownership = Epoch(40);
    check(include_str!("../../samples/cluster-v1-ownership.json"), record);
}

fn index() -> GlobalIndexRecord {
    GlobalIndexRecord {
        id: 41,
        database: "app".into(),
        schema: "public".into(),
        table: "users".into(),
        name: "users_email_key".into(),
        columns: vec!["email".into()],
        key_types: vec!["text".into()],
        scheme: Scheme::even_hash(&[ShardId(1), ShardId(2), ShardId(3), ShardId(4)]).unwrap(),
        unique: true,
        building: false,
    }
}

#[test]
fn cluster_sample_with_a_global_index() {
    let mut record = cluster();
    record.global_indexes.push(index());
    let mut after = record.clone();
    after.global_indexes.clear();
    let journal = SchemaJournal::between(&record, &after, "app", "drover:1:1:00".into());
    record.journal = Some(journal);
    check(include_str!("../../samples/cluster-v1-indexes.json"), record);
}

#[test]
fn a_global_index_comes_and_goes_by_the_journal_and_must_make_sense() {
    let (before, mut after) = (cluster(), cluster());
    after.global_indexes.push(index());
    for (from, to) in [(&before, &after), (&after, &before)] {
        let mut record = from.clone();
        SchemaJournal::between(from, to, "app", "gid".into()).apply(&mut record);
        assert_eq!(&record, to);
    }
    let input = after.sharding_input("app").unwrap();
    assert_eq!(input.global_indexes[0].columns, ["email"]);
    assert_eq!(after.sharding_input("other").unwrap().global_indexes, []);
    let mut twice = after.clone();
    twice.global_indexes.push(index());
    assert!(twice.check().is_err());
    after.global_indexes[0].key_types[0] = "box".into();
    assert!(after.check().is_err());
}
