//! Every key type beside the server: its text and binary forms, hash, order and SQL.

use catalog::{
    KeyError, KeyShape, KeyType, KeyValue, Salt, ShardId, ShardMap, hash_sql, literal_sql, record_hash,
    record_hash_sql,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use super::run;
use super::server::rows;

/// Random values of a type that are compared.
const VALUES: usize = 100_000;
/// Of these, how many are also written as SQL.
const LITERALS: usize = 500;
const LABELS: [&str; 4] = ["sad", "ok", "häppy", "it's \\ odd"];

#[test]
fn values_of_every_type_are_what_they_are_to_the_server() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        client
            .batch_execute(
                "SET timezone = 'UTC'; CREATE TYPE first AS ENUM ('other');
                 CREATE TYPE mood AS ENUM ('sad', 'ok', 'häppy', E'it''s \\\\ odd')",
            )
            .await
            .unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        for key_type in KeyType::ALL {
            let count = if key_type == KeyType::Enum { 1_000 } else { VALUES };
            let mut values: Vec<String> = edges(key_type).iter().map(|v| (*v).to_owned()).collect();
            values.extend((0..count).map(|_| random_value(&mut rng, key_type)));
            check_type(&client, key_type, &values).await;
        }
        check_null(&client).await;
    });
}

/// The type's name on the server.
fn sql_type(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::Enum => "public.mood",
        other => other.name(),
    }
}

fn array_of(values: &[String]) -> String {
    let quoted = values
        .iter()
        .map(|v| format!("\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")));
    let list = quoted.collect::<Vec<_>>().join(",");
    format!("'{{{}}}'::text[]", list.replace('\'', "''"))
}

async fn check_type(client: &Client, key_type: KeyType, values: &[String]) {
    let name = sql_type(key_type);
    let send = match key_type {
        KeyType::Enum => "enum_send(v)".to_owned(),
        KeyType::Bytea => "byteasend(v)".to_owned(),
        KeyType::Timestamp | KeyType::Timestamptz | KeyType::Date | KeyType::Uuid | KeyType::Numeric => {
            format!("{name}_send(v)")
        }
        _ => format!("{name}send(v)"),
    };
    let sql = format!(
        "SELECT v::text, encode({send}, 'hex'), {} FROM (SELECT u::{name} AS v FROM unnest({}) AS u) s ORDER BY s.v{}",
        hash_sql(key_type, "v"),
        array_of(values),
        if matches!(key_type, KeyType::Text | KeyType::Varchar | KeyType::Bpchar) {
            " COLLATE \"C\""
        } else {
            ""
        },
    );
    let answer = rows(client, &sql).await;
    assert_eq!(answer.len(), values.len());
    let (mut read, mut previous) = (0, None::<KeyValue>);
    for row in &answer {
        let (text, binary, hash) = (
            row[0].as_deref().unwrap(),
            row[1].as_deref().unwrap(),
            row[2].as_deref(),
        );
        let value = key_type.from_binary(&from_hex(binary)).unwrap();
        assert_eq!(
            Some(value.hash().to_string().as_str()),
            hash,
            "{key_type:?} {text:?}"
        );
        match key_type.from_text(text.as_bytes()) {
            Ok(same) => {
                read += 1;
                assert_eq!(same, value, "{key_type:?} {text:?}");
            }
            // Years before 1 and after 9999.
            Err(KeyError::NotCanonical) => {
                assert!(matches!(value, KeyValue::Date(_) | KeyValue::Time(_)), "{text}")
            }
            Err(other) => panic!("{key_type:?} {text:?}: {other}"),
        }
        if let Some(previous) = previous
            .replace(value.clone())
            .filter(|_| key_type.family().has_order())
        {
            assert!(
                previous.borrowed() <= value.borrowed(),
                "{key_type:?}: {previous:?} before {text}"
            );
        }
    }
    assert!(
        read * 10 > answer.len() * 9,
        "{key_type:?}: {read} of {}",
        answer.len()
    );
    check_literals(client, key_type, values).await;
}

/// A value written as SQL equals itself, whatever the session's settings are.
async fn check_literals(client: &Client, key_type: KeyType, values: &[String]) {
    let name = sql_type(key_type);
    let mut prints = Vec::new();
    for text in values.iter().take(LITERALS) {
        let quoted = format!("'{}'", text.replace('\'', "''"));
        prints.push(format!("SELECT ({quoted}::{name})::text"));
    }
    // What the server prints of it is canonical; the text it was made from need not be.
    let union = prints.join(" UNION ALL ");
    let printed = rows(client, &union).await;
    let mut conditions = Vec::new();
    for row in printed {
        let text = row[0].as_deref().unwrap();
        let Ok(value) = key_type.from_text(text.as_bytes()) else {
            continue;
        };
        let quoted = format!("'{}'", text.replace('\'', "''"));
        let left = match key_type {
            KeyType::Enum => format!("{quoted}::{name}::text"),
            KeyType::Bpchar => format!("{quoted}::bpchar"),
            KeyType::Float4 => format!("{quoted}::float4"),
            other => format!("{quoted}::{}", other.family().widest().name()),
        };
        conditions.push(format!("SELECT {left} = {}", literal_sql(key_type, &value)));
    }
    assert!(!conditions.is_empty());
    let sql = conditions.join(" UNION ALL ");
    for settings in [
        "SET timezone = 'Asia/Kolkata'; SET datestyle = 'German'; SET standard_conforming_strings = off; \
         SET backslash_quote = on; SET escape_string_warning = off; SET bytea_output = 'escape'",
        "RESET ALL; SET timezone = 'UTC'",
    ] {
        client.batch_execute(settings).await.unwrap();
        // Only what the crate wrote must stand any setting; values of the test are written for the usual ones.
        if settings.starts_with("RESET") || !values.iter().take(LITERALS).any(|v| v.contains('\\')) {
            for (row, condition) in rows(client, &sql).await.iter().zip(&conditions) {
                assert_eq!(row[0].as_deref(), Some("t"), "{condition}");
            }
        }
    }
}

async fn check_null(client: &Client) {
    for key_type in KeyType::ALL {
        let null = format!(
            "SELECT {}",
            hash_sql(key_type, &format!("NULL::{}", sql_type(key_type)))
        );
        assert_eq!(
            rows(client, &null).await[0][0].as_deref(),
            Some("0"),
            "{key_type:?}"
        );
    }
    let record = record_hash_sql([(KeyType::Int4, "NULL::int4"), (KeyType::Enum, "NULL::mood")]);
    assert_eq!(
        rows(client, &format!("SELECT {record}")).await[0][0].as_deref(),
        Some("0")
    );
    assert_eq!(
        record_hash([KeyValue::Null, KeyValue::Null].iter().map(KeyValue::borrowed)),
        0
    );
}

/// Maps of every scheme, with boundaries and rows among these values.
fn maps(key_type: KeyType, values: &[KeyValue]) -> Vec<(&'static str, ShardMap)> {
    let shards: Vec<ShardId> = (1..=5).map(ShardId).collect();
    let mut sorted: Vec<KeyValue> = values.iter().filter(|v| **v != KeyValue::Null).cloned().collect();
    sorted.sort_unstable_by(|a, b| a.borrowed().cmp(&b.borrowed()));
    sorted.dedup();
    let some = |step: usize| sorted.iter().step_by((sorted.len() / step).max(1)).cloned();
    let rows = |step: usize| some(step).zip(shards.iter().copied().cycle());
    let hash = ShardMap::even(&shards[..3])
        .unwrap()
        .with_shard(ShardId(4))
        .unwrap();
    let with_null = [(KeyValue::Null, ShardId(5))];
    let mut maps = vec![
        ("hash", hash.clone()),
        ("modulo", ShardMap::modulo(shards.clone()).unwrap()),
        (
            "list",
            ShardMap::one(ShardId(3))
                .with_rows(rows(20).chain(with_null))
                .unwrap(),
        ),
        ("directory", hash.with_rows(rows(20)).unwrap()),
    ];
    if key_type.family().has_order() {
        let starts: Vec<(KeyValue, ShardId)> = rows(7).collect();
        let range = ShardMap::by_range(ShardId(2), starts).unwrap();
        maps.push(("range", range.clone()));
        maps.push(("range with pins", range.with_rows(rows(3)).unwrap()));
    }
    maps
}

#[test]
fn every_scheme_places_every_type_as_sql_on_the_shard_does() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        client
            .batch_execute(
                "SET timezone = 'UTC'; CREATE TYPE mood AS ENUM ('sad', 'ok', 'häppy', E'it''s \\\\ odd')",
            )
            .await
            .unwrap();
        let mut rng = StdRng::seed_from_u64(3);
        for key_type in KeyType::ALL {
            let mut texts: Vec<String> = edges(key_type).iter().map(|v| (*v).to_owned()).collect();
            texts.extend((0..2_000).map(|_| random_value(&mut rng, key_type)));
            let name = sql_type(key_type);
            client
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS k; CREATE TABLE k (v {name}); INSERT INTO k SELECT u::{name} FROM \
                     unnest({}) AS u; INSERT INTO k VALUES (NULL)",
                    array_of(&texts)
                ))
                .await
                .unwrap();
            let printed = rows(&client, "SELECT v::text FROM k ORDER BY ctid").await;
            let value = |row: &Vec<Option<String>>| match &row[0] {
                None => Ok(KeyValue::Null),
                Some(text) => key_type.from_text(text.as_bytes()),
            };
            let values: Vec<KeyValue> = printed.iter().filter_map(|row| value(row).ok()).collect();
            for (scheme, map) in maps(key_type, &values) {
                check_placement(&client, key_type, scheme, &map, &printed, &value).await;
            }
        }
    });
}

async fn check_placement(
    client: &Client,
    key_type: KeyType,
    scheme: &str,
    map: &ShardMap,
    printed: &[Vec<Option<String>>],
    value: &impl Fn(&Vec<Option<String>>) -> Result<KeyValue, KeyError>,
) {
    let columns: Vec<String> = map
        .shards()
        .iter()
        .map(|s| map.predicate_sql(*s, &[(key_type, "v")]))
        .collect();
    let sql = format!("SELECT {} FROM k ORDER BY ctid", columns.join(", "));
    let answer = rows(client, &sql).await;
    assert_eq!(answer.len(), printed.len());
    for (row, print) in answer.iter().zip(printed) {
        let mine: Vec<ShardId> = row
            .iter()
            .zip(map.shards())
            .filter(|(is, _)| is.as_deref() == Some("t"))
            .map(|(_, shard)| *shard)
            .collect();
        let text = &print[0];
        assert_eq!(mine.len(), 1, "{scheme} {key_type:?} {text:?}: {row:?}");
        if let Ok(value) = value(print) {
            assert_eq!(mine, [map.shard_of(&value)], "{scheme} {key_type:?} {text:?}");
        }
    }
    let nobody = map.predicate_sql(ShardId(99), &[(key_type, "v")]);
    let none = rows(client, &format!("SELECT count(*) FROM k WHERE {nobody}")).await;
    assert_eq!(none[0][0].as_deref(), Some("0"));
}

#[test]
fn keys_of_several_columns_have_the_hash_of_their_record() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        let mut rng = StdRng::seed_from_u64(2);
        client.batch_execute("SET timezone = 'UTC'").await.unwrap();
        for types in [
            &[KeyType::Int4][..],
            &[KeyType::Int2, KeyType::Text],
            &[KeyType::Bpchar, KeyType::Float4, KeyType::Bool],
            &[
                KeyType::Uuid,
                KeyType::Timestamptz,
                KeyType::Numeric,
                KeyType::Bytea,
            ],
        ] {
            let columns: Vec<Vec<String>> = types
                .iter()
                .map(|t| (0..5_000).map(|_| random_value(&mut rng, *t)).collect())
                .collect();
            let names: Vec<String> = (0..types.len()).map(|at| format!("c{at}")).collect();
            let arrays: Vec<String> = columns.iter().map(|column| array_of(column)).collect();
            let typed: Vec<String> = names
                .iter()
                .zip(types)
                // Every fifth row has a NULL somewhere.
                .enumerate()
                .map(|(at, (n, t))| {
                    format!(
                        "CASE WHEN o % 5 = 0 AND o % {} = {at} THEN NULL ELSE {n}::{} END AS {n}",
                        types.len(),
                        t.name()
                    )
                })
                .collect();
            let prints: Vec<String> = names.iter().map(|n| format!("{n}::text")).collect();
            let hash = record_hash_sql(types.iter().copied().zip(names.iter().map(String::as_str)));
            let sql = format!(
                "SELECT {hash}, {} FROM (SELECT {} FROM unnest({}) WITH ORDINALITY AS u({}, o)) s",
                prints.join(", "),
                typed.join(", "),
                arrays.join(", "),
                names.join(", ")
            );
            let answer = rows(&client, &sql).await;
            assert_eq!(answer.len(), 5_000);
            let mut compared = 0;
            for row in answer {
                let values: Result<Vec<KeyValue>, KeyError> = types
                    .iter()
                    .zip(&row[1..])
                    .map(|(t, text)| {
                        text.as_ref()
                            .map_or(Ok(KeyValue::Null), |text| t.from_text(text.as_bytes()))
                    })
                    .collect();
                // A date too far away to be read here.
                let Ok(values) = values else { continue };
                compared += 1;
                let hash = record_hash(values.iter().map(KeyValue::borrowed));
                assert_eq!(Some(hash.to_string()), row[0], "{types:?} {values:?}");
            }
            assert!(compared > 4_000);
        }
    });
}

/// Maps of keys of three columns, rows placed by hand and NULLs among them: SQL on a server has every key on the shard the map
/// has it on, for hundred thousand keys, in a form that a publication's row filter takes.
#[test]
fn keys_of_several_columns_are_placed_as_the_map_places_them() {
    run(|server| async move {
        let client = server.connect("postgres").await;
        let types = [KeyType::Int4, KeyType::Varchar, KeyType::Numeric];
        let shape = KeyShape::new(types).unwrap();
        client
            .batch_execute(
                "CREATE TABLE k (a int, b varchar(40), c numeric(20, 3)); \
                 INSERT INTO k SELECT nullif((hashint4extended(g, 1) % 2000)::int, 7), \
                     CASE g % 7 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'ä, \\\\ \"(' || g % 50 ELSE md5(g::text) END, \
                     CASE WHEN g % 11 > 0 THEN (hashint4extended(g, 2) % 100000)::numeric / 100 END \
                 FROM generate_series(1, 100000) g; \
                 INSERT INTO k VALUES (NULL, NULL, NULL), (2147483647, 'x', 'NaN'), (-2147483648, ' ', 0)",
            )
            .await
            .unwrap();
        let printed = rows(&client, "SELECT ROW(a, b, c)::text FROM k ORDER BY ctid").await;
        let keys: Vec<KeyValue> = printed
            .iter()
            .map(|row| shape.from_text(row[0].as_ref().unwrap().as_bytes()).unwrap())
            .collect();
        let shards = [1, 2, 3, 5].map(ShardId);
        let by_hand: std::collections::BTreeMap<KeyValue, ShardId> = keys
            .iter()
            .step_by(997)
            .chain(&keys[100_000..])
            .map(|key| (key.clone(), ShardId(9)))
            .collect();
        let hash = ShardMap::even(&shards).unwrap();
        let columns = [(types[0], "a"), (types[1], "b"), (types[2], "c")];
        for map in [
            hash.clone(),
            ShardMap::modulo(shards.to_vec()).unwrap(),
            hash.clone().salted(Salt::new(1, 8).unwrap()).unwrap(),
            hash.clone().salted(Salt::new(2, 256).unwrap()).unwrap(),
            hash.with_rows(by_hand.clone()).unwrap(),
            ShardMap::nowhere(ShardId(1)).with_rows(by_hand.clone()).unwrap(),
        ] {
            let owns: Vec<String> = map
                .shards()
                .iter()
                .map(|s| map.predicate_sql(*s, &columns))
                .collect();
            let answer = rows(
                &client,
                &format!("SELECT {} FROM k ORDER BY ctid", owns.join(", ")),
            )
            .await;
            for (row, key) in answer.iter().zip(&keys) {
                let holder = map.holder_of(key);
                for (owns, shard) in row.iter().zip(map.shards()) {
                    let expect = if holder == Some(*shard) { "t" } else { "f" };
                    assert_eq!(
                        owns.as_deref(),
                        Some(expect),
                        "{} {key} {shard}",
                        map.scheme_name()
                    );
                }
            }
            let publish = format!("CREATE PUBLICATION p FOR TABLE k WHERE ({})", owns[0]);
            client.batch_execute(&publish).await.unwrap();
            client.batch_execute("DROP PUBLICATION p").await.unwrap();
        }
    });
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Values at the ends of a type, and those that look different and are the same.
fn edges(key_type: KeyType) -> &'static [&'static str] {
    match key_type {
        KeyType::Int2 => &["0", "-1", "32767", "-32768"],
        KeyType::Int4 => &["0", "-1", "2147483647", "-2147483648"],
        KeyType::Int8 => &[
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "-2147483649",
        ],
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar => &[
            "",
            " ",
            "a",
            "a ",
            "ä",
            "日本語",
            "it's",
            "back\\slash",
            "123456789012",
            "1234567890123",
        ],
        KeyType::Uuid => &[
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
        KeyType::Bool => &["t", "f"],
        KeyType::Date => &[
            "infinity",
            "-infinity",
            "0001-01-01",
            "9999-12-31",
            "2000-02-29",
            "1900-02-28",
            "1999-12-31",
            "4713-01-01 BC",
            "5874897-12-31",
        ],
        KeyType::Timestamp | KeyType::Timestamptz => &[
            "infinity",
            "-infinity",
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "2000-01-01 00:00:00",
            "1999-12-31 23:59:59.9",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
        ],
        KeyType::Bytea => &["\\x", "\\x00", "\\xff00ff"],
        KeyType::Float4 => &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e-45",
            "3.4028235e38",
            "0.1",
            "-1.5",
        ],
        KeyType::Float8 => &[
            "0",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "-1.5",
        ],
        KeyType::Numeric => &[
            "0",
            "-0",
            "0.000",
            "1",
            "1.0",
            "1.00",
            "-1.50",
            "10000",
            "100000000",
            "0.0001",
            "0.00010",
            "0.00000001",
            "NaN",
            "Infinity",
            "-Infinity",
            "12345678901234567890.123456789",
            "99999999999999999999999999999999999",
        ],
        KeyType::Enum => &LABELS,
    }
}

fn random_value(rng: &mut StdRng, key_type: KeyType) -> String {
    let bits = |rng: &mut StdRng, width: u32| rng.random::<i64>() >> (64 - rng.random_range(1..=width));
    let digits = |rng: &mut StdRng, max: usize| -> String {
        (0..rng.random_range(1..max))
            .map(|_| char::from(b'0' + rng.random_range(0..10_u8)))
            .collect()
    };
    match key_type {
        KeyType::Int2 => bits(rng, 16).to_string(),
        KeyType::Int4 => bits(rng, 32).to_string(),
        KeyType::Int8 => bits(rng, 64).to_string(),
        KeyType::Uuid => format!("{:032x}", rng.random::<u128>()),
        KeyType::Bool => if rng.random() { "t" } else { "f" }.to_owned(),
        KeyType::Date => date(rng),
        KeyType::Timestamp | KeyType::Timestamptz => {
            let micros = rng.random_range(0..86_400_000_000_i64) / 10_i64.pow(rng.random_range(0..7));
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            format!(
                "{} {}:{}:{}.{rest:06}",
                date(rng),
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60
            )
        }
        KeyType::Bytea => (0..rng.random_range(0..40)).fold("\\x".to_owned(), |text, _| {
            format!("{text}{:02x}", rng.random::<u8>())
        }),
        KeyType::Float4 => loop {
            let value = f32::from_bits(rng.random());
            if value.is_finite() {
                break format!("{value:e}");
            }
        },
        KeyType::Float8 => loop {
            let value = if rng.random() {
                f64::from_bits(rng.random())
            } else {
                bits(rng, 40) as f64 / 100.0
            };
            if value.is_finite() {
                break format!("{value:e}");
            }
        },
        KeyType::Numeric => {
            let sign = if rng.random() { "-" } else { "" };
            let (whole, fraction) = (digits(rng, 30), digits(rng, 20));
            match rng.random_range(0..3) {
                0 => format!("{sign}{whole}"),
                1 => format!("{sign}0.{}{fraction}", "0".repeat(rng.random_range(0..12))),
                _ => format!("{sign}{whole}{}.{fraction}", "0".repeat(rng.random_range(0..12))),
            }
        }
        KeyType::Enum => LABELS[rng.random_range(0..LABELS.len())].to_owned(),
        KeyType::Text | KeyType::Varchar | KeyType::Bpchar => {
            let length = rng.random_range(0..40);
            let mut text: String = (0..length)
                .map(|_| char::from_u32(rng.random_range(32..0x2000)).unwrap_or('x'))
                .collect();
            (0..rng.random_range(0..3)).for_each(|_| text.push(' '));
            text
        }
    }
}

/// Mostly years that people use, some far away.
fn date(rng: &mut StdRng) -> String {
    let year = if rng.random_range(0..20) == 0 {
        rng.random_range(1..200_000)
    } else {
        rng.random_range(1..=9999)
    };
    format!(
        "{year:04}-{:02}-{:02}",
        rng.random_range(1..=12),
        rng.random_range(1..=28)
    )
}
