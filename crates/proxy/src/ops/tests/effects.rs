//! What DDL means for the record.

use super::*;

#[test]
fn effects_become_records() {
    let f = Fixture::new(
        "CREATE SCHEMA shop; CREATE DOMAIN key AS int8; CREATE TABLE shop.users (id key);
         CREATE TABLE shop.words (word text); CREATE TABLE public.countries (code text)",
        "",
    );
    let resolve = |effects: &[MetadataEffect]| {
        let path = ["nowhere".to_owned(), "shop".to_owned(), "public".to_owned()];
        f.runtime
            .block_on(resolve_effects(&f.cluster, &f.database, &path, effects))
            .map_err(Box::new)
    };
    let sharded = |name: &str, key: &str, other: Option<&str>| MetadataEffect::CreateSharded {
        table: QualifiedName::bare(name),
        options: options(key, other),
    };
    let mut record = f.record();
    let effects = [
        sharded("users", "id", None),
        sharded("words", "word", None),
        MetadataEffect::CreateReference {
            table: QualifiedName::bare("countries"),
        },
        sharded("gone", "id", None),
    ];
    let change = resolve(&effects).unwrap();
    change.apply(&mut record);
    change.apply(&mut record);
    record.check().unwrap();
    let names: Vec<String> = record
        .tables
        .iter()
        .map(|t| format!("{}.{}", t.schema, t.name))
        .collect();
    assert_eq!(names, ["shop.users", "shop.words", "public.countries"]);
    assert_eq!(record.maps.len(), 2);
    assert_eq!(
        resolve(&[sharded("users", "nothing", None)]).unwrap_err().code,
        "42703"
    );
    let error = resolve(&[
        sharded("users", "id", None),
        sharded("words", "word", Some("users")),
    ])
    .unwrap_err();
    assert_eq!(error.code, "42804");

    let dropped = MetadataEffect::Drop {
        tables: vec![("shop".into(), "users".into()), ("shop".into(), "words".into())],
    };
    f.kit.on_every_shard(&f.database, "DROP TABLE shop.users");
    resolve(&[dropped]).unwrap().apply(&mut record);
    let names: Vec<&str> = record.tables.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["words", "countries"]);
}
