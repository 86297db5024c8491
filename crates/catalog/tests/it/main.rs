//! The crate against a real PostgreSQL server.

// Helpers are not #[test] functions, yet an unwrap in them fails the test just the same.
#![allow(clippy::unwrap_used)]

mod keys;
mod server;

use std::collections::BTreeMap;

use catalog::ddl::{TableDdl, assemble, table_ddl_queries};
use catalog::load::{EPILOGUE, PREAMBLE};
use catalog::{
    BodyFacts, BodyParser, Epoch, FunctionBody, KeyColumn, KeyType, MapId, Oid, Placement, Proof, QueryId,
    Relation, ShardId, ShardMap, ShardingInput, Snapshot, SnapshotBuilder, TableSharding, TableShardingKind,
};
use server::{Server, rows};
use tokio_postgres::Client;

const SCHEMA: &str = include_str!("schema.sql");

fn run<F: Future<Output = ()>>(test: impl FnOnce(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    runtime.block_on(test(server));
}

/// Every identifier of a body is a candidate for a relation and for a function.
struct Candidates;

impl BodyParser for Candidates {
    fn body_facts(&self, body: FunctionBody<'_>) -> Result<BodyFacts, String> {
        let words = body
            .source
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|w| !w.is_empty());
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        Ok(BodyFacts {
            dynamic_sql: words.iter().any(|w| w == "execute"),
            relations: words.clone(),
            functions: words,
            candidates: true,
            ..BodyFacts::default()
        })
    }
}

async fn load(client: &Client) -> SnapshotBuilder {
    take_rows(client, SnapshotBuilder::new(), QueryId::sql).await
}

async fn take_rows(
    client: &Client,
    mut builder: SnapshotBuilder,
    sql: fn(QueryId) -> String,
) -> SnapshotBuilder {
    client.batch_execute(PREAMBLE).await.unwrap();
    for query in QueryId::ALL {
        let rows = rows(client, &sql(query)).await;
        builder.from_rows(query, &rows).unwrap();
    }
    client.batch_execute(EPILOGUE).await.unwrap();
    builder
}

fn sharding() -> ShardingInput {
    let shards = [ShardId(0), ShardId(1), ShardId(2)];
    let sharded = |schema: &str, name: &str, column: &str| TableSharding {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: TableShardingKind::Sharded {
            columns: vec![column.to_owned()],
            map: MapId(1),
        },
    };
    let mut tables = vec![
        sharded("app", "orders", "tenant"),
        sharded("app", "lines", "tenant"),
        sharded("app", "events", "tenant"),
        sharded("app", "moved", "tenant"),
        sharded("app", "loose", "tenant"),
        TableSharding {
            kind: TableShardingKind::Sharded {
                columns: vec!["code".to_owned()],
                map: MapId(2),
            },
            ..sharded("app", "folded", "code")
        },
    ];
    tables.push(TableSharding {
        schema: "app".to_owned(),
        name: "countries".to_owned(),
        kind: TableShardingKind::Reference,
    });
    ShardingInput {
        epoch: Epoch(7),
        shards: shards.to_vec(),
        home: ShardId(0),
        maps: [1, 2]
            .map(|id| (MapId(id), ShardMap::even(&shards).unwrap()))
            .to_vec(),
        tables,
        declared_local: vec![("app".to_owned(), "trusted".to_owned())],
        ..ShardingInput::default()
    }
}

#[test]
fn an_empty_database_loads_quickly() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        load(&client).await;
        let start = std::time::Instant::now();
        let builder = load(&client).await;
        let loaded = start.elapsed();
        let snapshot = builder.build(
            &ShardingInput {
                shards: vec![ShardId(0)],
                ..Default::default()
            },
            &Candidates,
        );
        let built = start.elapsed() - loaded;
        println!("loaded in {loaded:?}, built in {built:?} (unoptimized)");
        let snapshot = snapshot.unwrap();
        assert!(loaded.as_secs() < 5, "{loaded:?}");
        assert!(!snapshot.has_sharded());
        assert!(snapshot.functions_named("query_to_xml").len() == 1);
        assert!(
            !snapshot.function_name_needs_analysis("query_to_xml"),
            "nothing is sharded"
        );
        let database = snapshot.database();
        assert_eq!((database.encoding.as_str(), database.bytewise), ("UTF8", true));
        assert!(database.server_version >= 150_000);
    });
}

#[test]
fn builtin_facts_are_right() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        let snapshot = load(&client)
            .await
            .build(
                &ShardingInput {
                    shards: vec![ShardId(0)],
                    ..Default::default()
                },
                &Candidates,
            )
            .unwrap();
        let operator = async |signature: &str| {
            let found = rows(&client, &format!("SELECT '{signature}'::regoperator::oid")).await;
            Oid(found[0][0].as_deref().unwrap().parse().unwrap())
        };
        use KeyType::*;
        assert!(snapshot.is_key_equality(operator("=(int8,int8)").await, Int8, Int8));
        assert!(snapshot.is_key_equality(operator("=(int2,int4)").await, Int2, Int4));
        assert!(!snapshot.is_key_equality(operator("=(int2,int4)").await, Int4, Int2));
        assert!(snapshot.is_key_equality(operator("=(text,text)").await, Varchar, Text));
        assert!(snapshot.is_key_equality(operator("=(bpchar,bpchar)").await, Bpchar, Bpchar));
        assert!(!snapshot.is_key_equality(operator("=(bpchar,bpchar)").await, Text, Text));
        assert!(snapshot.is_key_equality(operator("=(uuid,uuid)").await, Uuid, Uuid));
        assert!(!snapshot.is_key_equality(operator("<(int8,int8)").await, Int8, Int8));
        assert!(!snapshot.is_key_equality(operator("=(numeric,numeric)").await, Int8, Int8));
        assert!(snapshot.is_hash_equality(operator("=(numeric,numeric)").await));
        let order = snapshot.btree_sort(operator("<(text,text)").await).unwrap();
        assert_eq!(
            (order.type_oid, order.descending, order.default),
            (Oid(25), false, true)
        );
        let order = snapshot.btree_sort(operator(">(numeric,numeric)").await).unwrap();
        assert_eq!((order.descending, order.default), (true, true));
        let order = snapshot.btree_sort(operator("~<~(text,text)").await).unwrap();
        assert_eq!((order.descending, order.default), (false, false));
        assert_eq!(snapshot.btree_sort(operator("=(text,text)").await), None);
        assert!(snapshot.is_bytewise(Oid(950)) && snapshot.is_bytewise(Oid(100)));
        let int4 = snapshot.type_info(Oid(23)).unwrap();
        assert!(int4.binary && int4.builtin && int4.by_value && int4.length == 4);
        let array = snapshot.type_info(int4.array.unwrap()).unwrap();
        assert_eq!(
            (array.kind, array.element),
            (catalog::TypeKind::Array, Some(Oid(23)))
        );
    });
}

async fn app(server: &Server) -> (Client, Snapshot) {
    let client = server.connect("postgres").await;
    client.batch_execute(SCHEMA).await.unwrap();
    let snapshot = load(&client).await.build(&sharding(), &Candidates).unwrap();
    (client, snapshot)
}

fn table<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Relation {
    snapshot
        .relation_in("app", name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_reload_equals_a_load() {
    run(|server| async move {
        let (client, before) = app(&server).await;
        client
            .batch_execute("DROP VIEW app.account_view; CREATE VIEW app.later AS SELECT * FROM app.orders")
            .await
            .unwrap();
        let start = std::time::Instant::now();
        let reloaded = take_rows(&client, SnapshotBuilder::reload(&before), QueryId::reload_sql).await;
        println!("reloaded in {:?}", start.elapsed());
        let reloaded = reloaded.build(&sharding(), &Candidates).unwrap();
        let loaded = load(&client).await.build(&sharding(), &Candidates).unwrap();
        assert_eq!(reloaded.database(), loaded.database());
        assert_eq!(reloaded.relations().count(), loaded.relations().count());
        for relation in loaded.relations() {
            assert_eq!(reloaded.relation(relation.oid), Some(relation));
            let name = &relation.name;
            assert_eq!(
                reloaded.touches_sharded_name(name),
                loaded.touches_sharded_name(name),
                "{name}"
            );
        }
        assert_eq!(reloaded.functions().count(), loaded.functions().count());
        for function in loaded.functions() {
            assert_eq!(reloaded.function(function.oid), Some(function));
        }
        assert_eq!(reloaded.type_info(Oid(23)), loaded.type_info(Oid(23)));
        assert_eq!(reloaded.collation(Oid(100)), loaded.collation(Oid(100)));
        assert!(reloaded.touches_sharded_name("later") && !before.touches_sharded_name("later"));
        assert!(reloaded.relation_in("app", "account_view").is_none());
        // Another database may have other collations and another default order.
        client.batch_execute("CREATE DATABASE elsewhere").await.unwrap();
        let other = server.connect("elsewhere").await;
        let moved = take_rows(&other, SnapshotBuilder::reload(&before), QueryId::reload_sql).await;
        let error = moved.build(
            &ShardingInput {
                shards: vec![ShardId(0)],
                ..Default::default()
            },
            &Candidates,
        );
        assert_eq!(error.err(), Some(catalog::CatalogError::OtherServer));
    });
}

#[test]
fn relations_have_their_facts() {
    run(|server| async move {
        let (_client, snapshot) = app(&server).await;
        let orders = table(&snapshot, "orders");
        assert_eq!(orders.map(), Some(MapId(1)));
        assert_eq!(
            orders.key_columns(),
            [KeyColumn {
                attnum: 2,
                key_type: KeyType::Int8
            }]
        );
        assert!(orders.column_named("id").unwrap().home_sequence);
        assert!(orders.columns.iter().any(|c| c.dropped));
        assert_eq!(orders.unsafe_reason, None);
        let total = orders.column_named("total").unwrap();
        assert_eq!(total.generated, Some(catalog::Generated::Stored));
        assert!(
            orders
                .unique_indexes
                .iter()
                .any(|i| i.primary && i.columns == [2, 1])
        );
        assert_eq!(orders.checks.len(), 1);
        assert_eq!(table(&snapshot, "lines").foreign_keys.len(), 1);
        assert_eq!(orders.referenced_by.len(), 1);
        assert!(orders.row_security && orders.policies.len() == 1);
        // Partitions follow their parent though their columns have other numbers.
        let part = table(&snapshot, "events_b");
        assert_eq!(
            part.key_columns(),
            [KeyColumn {
                attnum: 2,
                key_type: KeyType::Int8
            }]
        );
        assert_eq!(table(&snapshot, "events").key_columns()[0].attnum, 1);
        assert_eq!(table(&snapshot, "countries").placement, Placement::Reference);
        assert_eq!(table(&snapshot, "accounts").placement, Placement::Home);
        assert!(snapshot.relation_in("pg_catalog", "pg_class").unwrap().system);
    });
}

#[test]
fn functions_are_proved_by_what_they_reach() {
    run(|server| async move {
        let (_client, snapshot) = app(&server).await;
        let proof = |name: &str| {
            let oids = snapshot.functions_named(name);
            assert_eq!(oids.len(), 1, "{name}");
            snapshot.proof(oids[0])
        };
        for name in [
            "pure_sql",
            "pure_plpgsql",
            "trusted",
            "pure_agg",
            "touch_row",
            "pure_atomic",
            "pure_title",
        ] {
            assert_eq!(proof(name), Proof::Pure, "{name}");
        }
        for name in ["home_sql", "home_atomic", "home_indirect", "home_sequence"] {
            assert_eq!(proof(name), Proof::HomeOnly, "{name}");
        }
        for name in [
            "bad_sql",
            "bad_atomic",
            "bad_indirect",
            "bad_dynamic",
            "bad_view",
            "bad_agg",
            "bad_default",
            "bad_operator",
            "bad_count",
            "bad_hidden",
            "bad_atomic_operator",
            "bad_atomic_builtin",
            "bad_procedure",
            "bad_procedure_call",
        ] {
            assert!(
                matches!(proof(name), Proof::Unproved(_)),
                "{name}: {:?}",
                proof(name)
            );
            assert!(snapshot.function_name_needs_analysis(name), "{name}");
        }
        assert!(!snapshot.function_name_needs_analysis("home_sql"));
        assert_eq!(proof("home_buyer"), Proof::HomeOnly);
        assert!(
            snapshot.function_name_needs_analysis("home_buyer"),
            "its row may be given to bad_count"
        );
        assert!(snapshot.operator_name_needs_analysis("<@@>"));
        assert!(!snapshot.operator_name_needs_analysis("="));
        match proof("bad_indirect") {
            Proof::Unproved(why) => assert!(why.contains("app.orders"), "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn names_that_reach_sharded_tables_are_known() {
    run(|server| async move {
        let (_client, snapshot) = app(&server).await;
        for name in [
            "orders",
            "lines",
            "events",
            "events_a",
            "events_b",
            "countries",
            "order_view",
            "view_of_view",
            "order_totals",
            "guarded",
            "audited",
            "with_default",
            "xml_view",
            "checked",
            "instead",
            "buyers",
            "nested",
        ] {
            assert!(snapshot.touches_sharded_name(name), "{name}");
        }
        for name in [
            "accounts",
            "account_view",
            "plain",
            "pg_class",
            "nothing",
            "off",
            "parent_table",
        ] {
            assert!(!snapshot.touches_sharded_name(name), "{name}");
        }
        assert_eq!(snapshot.everything_needs_analysis(), None);
    });
}

#[test]
fn unsafe_writes_are_known() {
    run(|server| async move {
        let (_client, snapshot) = app(&server).await;
        let reason = |name: &str| table(&snapshot, name).unsafe_reason.clone().unwrap_or_default();
        for (name, part) in [
            ("audited", "a trigger of table app.audited"),
            ("moved", "might change the sharding key"),
            ("loose", "does not contain the sharding key"),
            ("folded", "index folded_code"),
            ("checked", "a constraint of table app.checked"),
            ("cascaded", "app.audited"),
        ] {
            assert!(reason(name).contains(part), "{name}: {}", reason(name));
        }
        for name in [
            "orders",
            "lines",
            "events",
            "countries",
            "accounts",
            "plain",
            "off",
        ] {
            assert_eq!(reason(name), "", "{name}");
        }
    });
}

#[test]
fn extension_functions_go_by_their_declaration() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        client
            .batch_execute(
                "CREATE TABLE words (k text); CREATE EXTENSION hstore; CREATE EXTENSION citext; \
                 CREATE EXTENSION tablefunc; CREATE EXTENSION dblink; CREATE EXTENSION pgcrypto; \
                 CREATE EXTENSION pg_trgm; CREATE EXTENSION pg_stat_statements; CREATE EXTENSION ltree; \
                 CREATE EXTENSION btree_gist; CREATE EXTENSION intarray; CREATE EXTENSION unaccent",
            )
            .await
            .unwrap();
        let tables = vec![TableSharding {
            schema: "public".to_owned(),
            name: "words".to_owned(),
            kind: TableShardingKind::Reference,
        }];
        let input = ShardingInput { tables, ..sharding() };
        let snapshot = load(&client).await.build(&input, &Candidates).unwrap();
        let unproved = |name: &str| {
            let oids = snapshot.functions_named(name);
            assert!(!oids.is_empty(), "{name}");
            oids.iter()
                .any(|oid| matches!(snapshot.proof(*oid), Proof::Unproved(_)))
        };
        for name in [
            "akeys",
            "similarity",
            "digest",
            "gen_salt",
            "citext_eq",
            "lquery_in",
            "unaccent",
            "normal_rand",
        ] {
            assert!(!unproved(name), "{name}");
        }
        for name in ["crosstab", "connectby", "dblink", "dblink_exec"] {
            assert!(unproved(name), "{name}");
        }
        assert_eq!(snapshot.everything_needs_analysis(), None);
        let operators: Vec<&str> = ["=", "<", "~", "%", "->", "@>", "||", "<@", "?"]
            .into_iter()
            .filter(|name| snapshot.operator_name_needs_analysis(name))
            .collect();
        assert!(operators.is_empty(), "{operators:?}");
        assert!(!snapshot.touches_sharded_name("pg_stat_statements"));
    });
}

#[test]
fn range_predicates_place_rows_as_the_map_does() {
    run(|server| async move {
        let (client, snapshot) = app(&server).await;
        let map = snapshot.map(MapId(1)).unwrap();
        client
            .batch_execute(
                "CREATE TABLE keys (k int8, t text); INSERT INTO keys SELECT i * 7919 - 500000, 'k' || i \
                 FROM generate_series(1, 2000) i; INSERT INTO keys VALUES (NULL, NULL)",
            )
            .await
            .unwrap();
        for (column, key_type) in [("k", KeyType::Int8), ("t", KeyType::Text)] {
            let mut seen = 0;
            for shard in map.shards() {
                let predicate = map.predicate_sql(*shard, &[(key_type, column)]);
                for row in rows(&client, &format!("SELECT {column} FROM keys WHERE {predicate}")).await {
                    let key = match &row[0] {
                        Some(text) => key_type.from_text(text.as_bytes()).unwrap(),
                        None => catalog::KeyValue::Null,
                    };
                    assert_eq!(snapshot.shard_of(MapId(1), &key), Some(*shard));
                    seen += 1;
                }
            }
            assert_eq!(seen, 2001);
        }
        // What a publication's row filter must accept.
        let predicate = map.predicate_sql(ShardId(1), &[(KeyType::Text, "t")]);
        client
            .batch_execute(&format!(
                "CREATE PUBLICATION p FOR TABLE keys WHERE ({predicate})"
            ))
            .await
            .unwrap();
    });
}

async fn ddl_of(client: &Client, oid: Oid) -> TableDdl {
    client.batch_execute(PREAMBLE).await.unwrap();
    let mut found = Vec::new();
    for (id, sql) in table_ddl_queries(oid) {
        found.push((id, rows(client, &sql).await));
    }
    client.batch_execute(EPILOGUE).await.unwrap();
    assemble(&found).unwrap()
}

#[test]
fn tables_are_recreated_elsewhere() {
    run(|server| async move {
        let (home, snapshot) = app(&server).await;
        home.batch_execute("CREATE DATABASE other").await.unwrap();
        let other = server.connect("other").await;
        // What is expected on every shard: types, functions.
        other.batch_execute(include_str!("everywhere.sql")).await.unwrap();
        let order = ["countries", "orders", "lines", "events", "events_a", "events_b"];
        let mut first = BTreeMap::new();
        for name in order {
            let ddl = ddl_of(&home, table(&snapshot, name).oid).await;
            for sql in ddl.create.iter().chain(&ddl.after_load) {
                other
                    .batch_execute(sql)
                    .await
                    .unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
            }
            first.insert(name, ddl);
        }
        assert_eq!(first["orders"].home_sequences, ["id"]);
        // The copy describes itself as the original does, but for what only the home shard has.
        for name in order {
            let oid = rows(&other, &format!("SELECT 'app.{name}'::regclass::oid")).await;
            let copy = ddl_of(&other, Oid(oid[0][0].as_deref().unwrap().parse().unwrap())).await;
            assert_eq!(copy.create, first[name].create, "{name}");
            assert_eq!(copy.after_load, first[name].after_load, "{name}");
        }
    });
}
