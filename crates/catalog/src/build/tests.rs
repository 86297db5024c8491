use crate::*;

/// Bodies in a little language: `r:name` names a relation, `f:name` calls a function, `dynamic`, `set`, `utility`.
struct Toy;

impl BodyParser for Toy {
    fn body_facts(&self, body: FunctionBody<'_>) -> Result<BodyFacts, String> {
        let mut facts = BodyFacts::default();
        for word in body.source.split_whitespace() {
            match word.split_once(':') {
                Some(("r", name)) => facts.relations.push(name.to_owned()),
                Some(("f", name)) => facts.functions.push(name.to_owned()),
                _ => match word {
                    "dynamic" => facts.dynamic_sql = true,
                    "set" => facts.sets_config = true,
                    "utility" => facts.utility = true,
                    "notify" => facts.notifies = true,
                    "custom" => facts.keeps_custom_setting = true,
                    _ => return Err(format!("no such word {word}")),
                },
            }
        }
        Ok(facts)
    }
}

fn table(oid: u32, name: &str, columns: &[(&str, u32)]) -> Relation {
    let column = |(i, (name, type_oid)): (usize, &(&str, u32))| Column {
        attnum: i as i16 + 1,
        name: (*name).to_owned(),
        type_oid: Oid(*type_oid),
        typmod: -1,
        ..Column::default()
    };
    Relation {
        oid: Oid(oid),
        schema: "s".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().enumerate().map(column).collect(),
        ..Relation::default()
    }
}

fn function(oid: u32, name: &str, language: &str) -> Function {
    Function {
        oid: Oid(oid),
        schema: "s".to_owned(),
        name: name.to_owned(),
        language: language.to_owned(),
        ..Function::default()
    }
}

fn sharded(name: &str, column: &str, map: u32) -> TableSharding {
    let kind = TableShardingKind::Sharded {
        columns: vec![column.to_owned()],
        map: MapId(map),
    };
    TableSharding {
        schema: "s".to_owned(),
        name: name.to_owned(),
        kind,
    }
}

fn reference(name: &str) -> TableSharding {
    TableSharding {
        schema: "s".to_owned(),
        name: name.to_owned(),
        kind: TableShardingKind::Reference,
    }
}

fn input(tables: Vec<TableSharding>) -> ShardingInput {
    let shards = vec![ShardId(1), ShardId(2)];
    let map = ShardMap::even(&shards).unwrap();
    ShardingInput {
        home: ShardId(1),
        maps: vec![(MapId(1), map)],
        shards,
        tables,
        ..ShardingInput::default()
    }
}

/// `orders(k int8, v text)`, `other(k int4)`, `words(k text)`, `plain(k int4)`.
fn builder() -> SnapshotBuilder {
    let mut builder = SnapshotBuilder::new();
    builder
        .add_relation(table(20001, "orders", &[("k", 20), ("v", 25)]))
        .add_relation(table(20002, "other", &[("k", 23)]))
        .add_relation(table(20003, "words", &[("k", 25)]))
        .add_relation(table(20004, "plain", &[("k", 23)]));
    builder
}

fn build(builder: SnapshotBuilder, tables: Vec<TableSharding>) -> Result<Snapshot, CatalogError> {
    builder.build(&input(tables), &Toy)
}

fn named<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Relation {
    snapshot.relation_in("s", name).unwrap()
}

#[test]
fn placements_come_from_the_metadata() {
    let snapshot = build(
        builder(),
        vec![sharded("orders", "k", 1), reference("words"), reference("gone")],
    )
    .unwrap();
    assert_eq!(
        named(&snapshot, "orders").key_columns(),
        [KeyColumn {
            attnum: 1,
            key_type: KeyType::Int8
        }]
    );
    assert_eq!(named(&snapshot, "words").placement, Placement::Reference);
    assert_eq!(named(&snapshot, "plain").placement, Placement::Home);
    assert!(snapshot.touches_sharded_name("words") && !snapshot.touches_sharded_name("plain"));
    assert_eq!(snapshot.shards_of(MapId(1)), [ShardId(1), ShardId(2)]);
    assert_eq!(
        snapshot.shard_of(MapId(1), &KeyValue::Null),
        Some(ShardId(2)),
        "hash 0 starts the upper half"
    );
    assert_eq!(snapshot.shard_of(MapId(9), &KeyValue::Null), None);
}

#[test]
fn contradictions_are_refused() {
    let check = |tables: Vec<TableSharding>, expect: &str| {
        assert_eq!(
            build(builder(), tables).err().map(|e| e.to_string()).as_deref(),
            Some(expect)
        );
    };
    check(
        vec![sharded("orders", "k", 9)],
        "table s.orders refers to shard map 9, which does not exist",
    );
    check(
        vec![sharded("orders", "x", 1)],
        "table s.orders has no column x to be its sharding key",
    );
    check(
        vec![sharded("orders", "k", 1), sharded("words", "k", 1)],
        "table s.words has a key of another family than the other tables of shard map 1",
    );
    // int8 and int4 hash alike.
    assert!(
        build(
            builder(),
            vec![sharded("orders", "k", 1), sharded("other", "k", 1)]
        )
        .is_ok()
    );

    let mut odd = builder();
    odd.add_relation(table(20005, "odd", &[("k", 3802)]));
    let error = build(odd, vec![sharded("odd", "k", 1)]).unwrap_err().to_string();
    assert!(error.contains("cannot be a sharding key"), "{error}");

    let mut view = builder();
    view.add_relation(Relation {
        kind: RelationKind::View,
        ..table(20005, "view", &[("k", 20)])
    });
    assert!(matches!(
        build(view, vec![reference("view")]),
        Err(CatalogError::NotATable { .. })
    ));

    let lost = ShardingInput {
        home: ShardId(7),
        ..input(vec![])
    };
    assert_eq!(
        builder().build(&lost, &Toy).err(),
        Some(CatalogError::NoSuchShard { shard: ShardId(7) })
    );

    let mut latin = builder();
    latin.set_database(Database {
        encoding: "LATIN1".to_owned(),
        ..Database::default()
    });
    assert!(matches!(build(latin, vec![]), Err(CatalogError::NotUtf8 { .. })));
}

#[test]
fn a_key_needs_a_deterministic_collation() {
    let with_collation = |deterministic: Option<bool>| {
        let mut words = table(20005, "named", &[("k", 25)]);
        words.columns[0].collation = Some(Oid(30000));
        let mut builder = builder();
        builder.add_relation(words);
        if let Some(deterministic) = deterministic {
            builder.add_collation(Collation {
                oid: Oid(30000),
                schema: "s".to_owned(),
                name: "c".to_owned(),
                provider: CollationProvider::Icu,
                deterministic,
                locale: "und".to_owned(),
                bytewise: false,
            });
        }
        build(builder, vec![sharded("named", "k", 1)]).is_ok()
    };
    assert!(with_collation(Some(true)));
    assert!(!with_collation(Some(false)));
    assert!(
        !with_collation(None),
        "an unknown collation is not proved deterministic"
    );
}

#[test]
fn children_follow_their_parents() {
    let make = |tables| {
        let mut builder = builder();
        let child = Relation {
            parents: vec![Oid(20001)],
            ..table(20005, "child", &[("v", 25), ("k", 20)])
        };
        builder.add_relation(child);
        build(builder, tables)
    };
    let snapshot = make(vec![sharded("orders", "k", 1)]).unwrap();
    assert_eq!(named(&snapshot, "child").key_columns()[0].attnum, 2);
    assert!(make(vec![sharded("orders", "k", 1), sharded("child", "k", 1)]).is_ok());
    let error = make(vec![sharded("orders", "k", 1), reference("child")]).unwrap_err();
    assert!(matches!(error, CatalogError::ChildPlacement { .. }));
    // A home parent with a sharded child cannot be read as one table.
    let snapshot = make(vec![sharded("child", "k", 1)]).unwrap();
    assert!(named(&snapshot, "orders").read_unsafe_reason.is_some());
    assert!(snapshot.touches_sharded_name("orders"));
}

#[test]
fn bodies_are_proved_through_their_calls() {
    let proof = |body: &str| {
        let mut builder = builder();
        let catalog_reader = Function {
            builtin: true,
            oid: Oid(3000),
            schema: "pg_catalog".to_owned(),
            ..function(0, "pg_x", "internal")
        };
        builder
            .add_function(catalog_reader, "", "")
            .add_function(function(30001, "f", "plpgsql"), body, "")
            .add_function(function(30002, "g", "sql"), "f:f", "")
            .add_function(function(30003, "loops", "sql"), "f:loops r:plain", "")
            .add_function(function(30004, "python", "plpython3u"), "", "");
        let snapshot = build(builder, vec![sharded("orders", "k", 1)]).unwrap();
        assert_eq!(
            snapshot.proof(Oid(30001)) == Proof::Pure,
            snapshot.proof(Oid(30002)) == Proof::Pure,
            "a caller is no purer than the called"
        );
        match snapshot.proof(Oid(30002)) {
            Proof::Pure => "pure".to_owned(),
            Proof::HomeOnly => "home".to_owned(),
            Proof::Unproved(why) => why,
        }
    };
    assert_eq!(proof(""), "pure");
    assert_eq!(proof("r:plain"), "home");
    assert_eq!(proof("f:pg_x"), "home");
    assert_eq!(proof("f:loops"), "home");
    assert_eq!(proof("r:orders"), "table s.orders is sharded");
    assert_eq!(
        proof("r:nowhere"),
        "function s.f names relation nowhere, which is not known"
    );
    assert_eq!(
        proof("f:nowhere"),
        "function s.f calls nowhere, which is not known"
    );
    assert_eq!(proof("dynamic"), "function s.f runs SQL made at run time");
    assert_eq!(proof("set"), "function s.f changes settings");
    assert_eq!(proof("utility"), "function s.f runs utility statements");
    assert_eq!(
        proof("what"),
        "function s.f cannot be analyzed: no such word what"
    );
    assert_eq!(
        proof("f:python"),
        "function python is written in plpython3u, which is not understood"
    );
}

#[test]
fn nothing_needs_analysis_while_nothing_is_sharded() {
    let mut builder = builder();
    builder.add_function(function(30001, "f", "sql"), "dynamic", "");
    let snapshot = build(builder.clone(), vec![]).unwrap();
    assert!(!snapshot.has_sharded() && !snapshot.function_name_needs_analysis("f"));
    let snapshot = build(builder, vec![reference("words")]).unwrap();
    assert!(snapshot.has_sharded() && snapshot.function_name_needs_analysis("f"));
    // Code that ran unseen may have created it; in a body, where every identifier is a candidate, it is none.
    assert!(snapshot.function_name_needs_analysis("unknown"));
    assert!(
        !snapshot.known_function_needs_analysis("unknown") && snapshot.known_function_needs_analysis("f")
    );
    assert!(matches!(snapshot.proof(Oid(99)), Proof::Unproved(_)));
}

#[test]
fn what_runs_on_writing_is_no_act_of_reading() {
    let mut builder = SnapshotBuilder::new();
    let trigger = |function| Trigger {
        name: "t".to_owned(),
        function: Oid(function),
        enabled: true,
        type_bits: 4,
        transition_table: false,
    };
    for (oid, name, function) in [(20001, "audited", 30001), (20002, "announced", 30002)] {
        builder.add_relation(Relation {
            triggers: vec![trigger(function)],
            ..table(oid, name, &[("k", 20)])
        });
    }
    builder.add_relation(Relation {
        kind: RelationKind::View,
        ..table(20003, "v", &[("k", 20)])
    });
    builder.add_view_dependency(Oid(20003), Oid(20001));
    builder.add_function(function(30001, "audit", "plpgsql"), "dynamic", "");
    builder.add_function(function(30002, "announce", "plpgsql"), "notify", "");
    builder.add_function(function(30003, "tenant", "plpgsql"), "set custom", "");
    builder.add_function(function(30004, "outer", "plpgsql"), "f:tenant r:announced", "");
    let stable = Function {
        volatility: Volatility::Stable,
        ..function(30005, "reader", "plpgsql")
    };
    builder.add_function(stable, "r:audited", "");
    let snapshot = build(builder, Vec::new()).unwrap();
    let none = SessionActs::NONE;
    for name in ["audited", "announced", "v", "unknown"] {
        assert_eq!(snapshot.reading_acts(name), none, "{name}");
    }
    assert_eq!(snapshot.writing_acts("audited"), SessionActs::SESSION);
    assert_eq!(snapshot.writing_acts("v"), SessionActs::SESSION);
    assert_eq!(snapshot.writing_acts("announced"), SessionActs::NOTIFIES);
    let all = SessionActs::SESSION
        .and(SessionActs::PROCESS)
        .and(SessionActs::NOTIFIES);
    assert_eq!(snapshot.function_acts("outer"), all);
    assert_eq!(snapshot.function_acts("reader"), none);
    assert_eq!(snapshot.function_acts("unknown"), SessionActs::SESSION);
    assert_eq!(snapshot.known_function_acts("unknown"), none);
}

/// Bodies that do nothing.
struct PureBodies;

impl BodyParser for PureBodies {
    fn body_facts(&self, _: FunctionBody<'_>) -> Result<BodyFacts, String> {
        Ok(BodyFacts::default())
    }
}

#[test]
fn triggers_may_not_see_the_rows_of_a_statement() {
    let reason = |transition_table: bool, tables: Vec<TableSharding>| {
        let mut builder = SnapshotBuilder::new();
        builder.add_relation(Relation {
            triggers: vec![Trigger {
                name: "t".to_owned(),
                function: Oid(30001),
                enabled: true,
                type_bits: 16,
                transition_table,
            }],
            ..self::table(20001, "orders", &[("k", 20)])
        });
        builder.add_function(function(30001, "f", "plpgsql"), "BEGIN RETURN NULL; END", "");
        let snapshot = builder.build(&input(tables), &PureBodies).unwrap();
        named(&snapshot, "orders").unsafe_reason.clone()
    };
    let keyed = || vec![sharded("orders", "k", 1)];
    let why = reason(true, keyed()).unwrap();
    assert!(why.contains("the rows of the whole statement"), "{why}");
    assert_eq!(reason(false, keyed()), None);
    assert_eq!(reason(true, Vec::new()), None);
}

#[test]
fn triggers_may_not_change_keys_or_copies() {
    let reason = |table: &str, body: &str, tables: Vec<TableSharding>| {
        let mut builder = SnapshotBuilder::new();
        for (oid, name) in [(20001, "orders"), (20002, "plain")] {
            let trigger = Trigger {
                name: "t".to_owned(),
                function: Oid(30001),
                enabled: true,
                type_bits: 1 | 2 | 4,
                transition_table: false,
            };
            let columns = [("k", 20), ("v", 25)];
            builder.add_relation(Relation {
                triggers: vec![trigger],
                ..self::table(oid, name, &columns)
            });
        }
        builder.add_function(function(30001, "f", "plpgsql"), body, "");
        let snapshot = builder.build(&input(tables), &PureBodies).unwrap();
        named(&snapshot, table).unsafe_reason.clone()
    };
    let keyed = || vec![sharded("orders", "k", 1)];
    for harmless in [
        "begin new.v := upper(new.v); return new; end",
        "BEGIN RETURN NULL; END",
        "begin if new.v = old.v then return old; end if; return NEW ; end",
        "begin perform check_it(new, old); return new; end",
    ] {
        assert_eq!(reason("orders", harmless, keyed()), None, "{harmless}");
    }
    for doubtful in [
        "begin new.k := 1; return new; end",
        "begin NEW.\"K\" := 1; return new; end",
        "begin new := other; return new; end",
        "begin new /* no */ := other; return new; end",
        "begin select * into new from t; return new; end",
        "begin select * into /* no */ strict new from t; return new; end",
        "begin return other; end",
        "begin return row(1, 'x'); end",
        "begin return new #= 'x=>1'; end",
        "begin for new in select 1 loop end loop; return new; end",
        "begin U&\"\\006eew\".U&\"\\006b\" := 1; return new; end",
    ] {
        let found = reason("orders", doubtful, keyed()).unwrap_or_default();
        assert!(found.contains("change the sharding key"), "{doubtful}: {found}");
    }
    let harmless = "begin return new; end";
    assert_eq!(
        reason("plain", "begin new := other; return new; end", keyed()),
        None,
        "a home table has no key"
    );
    let copies = reason("orders", harmless, vec![reference("orders")]).unwrap();
    assert!(copies.contains("copies"), "{copies}");
    let declared = ShardingInput {
        declared_local: vec![("s".into(), "f".into())],
        ..input(keyed())
    };
    assert_eq!(declared.declared_local.len(), 1);
}

#[test]
fn foreign_keys_must_meet_on_one_shard() {
    let reason = |columns: (&[i16], &[i16]), tables: Vec<TableSharding>| {
        let mut builder = SnapshotBuilder::new();
        let key = ForeignKey {
            name: "fk".to_owned(),
            table: Oid(20002),
            columns: columns.0.to_vec(),
            referenced: Oid(20001),
            referenced_columns: columns.1.to_vec(),
            on_update: FkAction::NoAction,
            on_delete: FkAction::Cascade,
        };
        builder
            .add_relation(table(20001, "one", &[("k", 20), ("id", 20)]))
            .add_relation(Relation {
                foreign_keys: vec![key],
                ..table(20002, "many", &[("id", 20), ("k", 20)])
            });
        let snapshot = build(builder, tables).unwrap();
        let (one, many) = (named(&snapshot, "one"), named(&snapshot, "many"));
        assert_eq!((one.referenced_by.len(), many.foreign_keys.len()), (1, 1));
        assert_eq!(one.unsafe_reason.is_some(), many.unsafe_reason.is_some());
        many.unsafe_reason.is_none()
    };
    let both = || vec![sharded("one", "k", 1), sharded("many", "k", 1)];
    assert!(reason((&[2, 1], &[1, 2]), both()));
    assert!(reason((&[1, 2], &[2, 1]), both()));
    assert!(
        !reason((&[1, 2], &[1, 2]), both()),
        "the keys are not paired with each other"
    );
    assert!(!reason((&[1], &[2]), both()));
    assert!(reason(
        (&[1], &[2]),
        vec![reference("one"), sharded("many", "k", 1)]
    ));
    assert!(reason((&[1], &[2]), vec![reference("one"), reference("many")]));
    assert!(reason((&[1], &[2]), vec![reference("one")]));
    assert!(reason((&[1], &[2]), vec![]));
    assert!(!reason((&[2], &[1]), vec![sharded("one", "k", 1)]));
    assert!(!reason((&[2], &[1]), vec![sharded("many", "k", 1)]));
    assert!(!reason(
        (&[2], &[1]),
        vec![sharded("one", "k", 1), reference("many")]
    ));
}

#[test]
fn only_a_map_of_one_owner_places_a_table_without_a_key() {
    let placed = |map: u32| TableSharding {
        kind: TableShardingKind::Sharded {
            columns: Vec::new(),
            map: MapId(map),
        },
        ..sharded("orders", "k", 1)
    };
    let built = |table: TableSharding| {
        let mut input = input(vec![table, sharded("other", "k", 1)]);
        input.maps.push((MapId(2), ShardMap::one(ShardId(2))));
        input.names = vec![(ShardId(1), "a".to_owned()), (ShardId(2), "b".to_owned())];
        input.schemas = vec![("billing".to_owned(), ShardId(2))];
        builder().build(&input, &Toy)
    };
    let snapshot = built(placed(2)).unwrap();
    let orders = snapshot.relation_in("s", "orders").unwrap();
    assert!(orders.placement.is_placed() && !orders.placement.is_home());
    assert_eq!(snapshot.place_of(orders), Some(ShardId(2)));
    assert_eq!(snapshot.shard_named("b"), Some(ShardId(2)));
    assert_eq!(snapshot.shard_of_schema("billing"), Some(ShardId(2)));
    assert_eq!(snapshot.shard_of_schema("s"), None);
    let other = snapshot.relation_in("s", "other").unwrap();
    assert!(!other.placement.is_placed());
    assert_eq!(snapshot.place_of(other), None);
    assert!(matches!(built(placed(1)), Err(CatalogError::KeyColumns { .. })));
    assert!(matches!(built(placed(7)), Err(CatalogError::NoSuchMap { .. })));
}
