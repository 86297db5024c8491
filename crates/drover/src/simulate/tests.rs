use super::*;
use catalog::KeyValue;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

fn args(line: &str) -> SimulateArgs {
    let words = std::iter::once("simulate").chain(line.split_whitespace());
    Line::try_parse_from(words).unwrap().args
}

fn outcomes(line: &str) -> Vec<schemes::Outcome> {
    let args = args(line);
    let keys = distribution::make(&args, &mut Progress::new(false)).unwrap();
    schemes::all(&keys, &args, &pins(&args).unwrap()).unwrap()
}

fn figures<'a>(outcomes: &'a [schemes::Outcome], scheme: &str) -> &'a schemes::Figures {
    let outcome = outcomes.iter().find(|outcome| outcome.scheme == scheme).unwrap();
    outcome.figures.as_ref().unwrap()
}

/// Issue 5, must show 2.
#[test]
fn a_tenth_shard_takes_a_tenth_by_hash_and_nearly_all_moves_by_modulo() {
    for (key_type, rows, off) in [
        ("bigint", 1_000_000, 0.2),
        ("text", 200_000, 0.4),
        ("uuid", 200_000, 0.4),
    ] {
        let found = outcomes(&format!("--shards 9 --add 1 --rows {rows} --type {key_type}"));
        let part = |scheme| figures(&found, scheme).moved_part() * 100.0;
        assert!((part("hash") - 10.0).abs() <= off, "{key_type}: {}", part("hash"));
        assert!(
            (part("modulo") - 90.0).abs() <= off,
            "{key_type}: {}",
            part("modulo")
        );
        // It stops when no shard has more than a hundredth over its share.
        assert!(
            (8.9..=10.2).contains(&part("directory")),
            "{key_type}: {}",
            part("directory")
        );
        for scheme in ["hash", "modulo", "range", "directory"] {
            let figures = figures(&found, scheme);
            assert_eq!(figures.before.iter().sum::<u64>(), rows);
            assert_eq!(figures.after.iter().sum::<u64>(), rows);
            assert!(schemes::skew(&figures.before) < 1.02, "{scheme}: {figures:?}");
        }
    }
}

/// The hottest key has a third of the rows: under `hash` they are all on one shard.
#[test]
fn salt_spreads_what_a_hash_keeps_together() {
    let line = "--distribution zipf --exponent 1.5 --rows 300000 --keys 5000 --shards 4";
    let found = outcomes(&format!("{line} --salt 8"));
    let (hash, salted) = (figures(&found, "hash"), figures(&found, "salted"));
    assert!(schemes::skew(&hash.before) > 1.4, "{hash:?}");
    assert!(schemes::skew(&salted.before) < 1.01, "{salted:?}");
    assert_eq!(salted.after.iter().sum::<u64>(), 300_000);
    // How much depends on where the hottest key's parts are; but nothing goes anywhere else than to the new shard.
    assert_eq!(salted.after.get(4), Some(&salted.moved), "{salted:?}");
    assert!(outcomes(line).iter().all(|outcome| outcome.scheme != "salted"));
    let pinned = outcomes("--rows 1000 --salt 2 --pin 7=2");
    let of_pinned = pinned.iter().find(|outcome| outcome.scheme == "salted").unwrap();
    assert!(of_pinned.figures.is_err());
}

#[test]
fn a_directory_evens_out_what_a_hash_cannot() {
    let found = outcomes("--distribution zipf --exponent 0.8 --rows 200000 --keys 2000 --shards 8");
    let by_hash = schemes::skew(&figures(&found, "hash").before);
    let by_row = schemes::skew(&figures(&found, "directory").before);
    assert!(by_hash > 1.1, "{by_hash}");
    assert!(by_row < 1.03, "{by_row}");
    let list = found.iter().find(|outcome| outcome.scheme == "list").unwrap();
    assert!(
        list.figures
            .as_ref()
            .unwrap_err()
            .contains("2000 values are too many")
    );
}

#[test]
fn few_values_can_be_listed() {
    let found = outcomes("--distribution uniform --rows 10000 --keys 12 --shards 4 --add 2 --type text");
    let list = figures(&found, "list");
    assert_eq!(list.note, "12 values");
    assert!(schemes::skew(&list.before) < 1.1, "{list:?}");
    assert!(list.after.iter().all(|rows| *rows > 0), "{list:?}");
}

fn read(csv: bool, column: &str, key_type: KeyType, data: &str) -> Result<Keys, SimulateError> {
    read_shape(csv, column, KeyShape::one(key_type), data)
}

fn read_shape(csv: bool, columns: &str, shape: KeyShape, data: &str) -> Result<Keys, SimulateError> {
    let reader = input::Reader::new(csv, columns, &shape, "data")?;
    reader.run(data.as_bytes(), None, &mut Progress::new(false))
}

#[test]
fn a_column_is_read_by_number_or_name() {
    let keys = read(false, "2", KeyType::Int8, "a\t7\nb\t\\N\nc\tx\nd\t7\n").unwrap();
    assert_eq!((keys.rows, keys.unreadable), (3, 1));
    let seven = KeyValue::Int(7);
    assert_eq!(keys.by_rows(), [(&seven, 2), (&KeyValue::Null, 1)]);
    let keys = read(true, "tenant", KeyType::Text, "id,tenant\n1,\"a, b\"\n2,c").unwrap();
    assert_eq!(keys.by_rows().len(), 2);
    assert!(matches!(
        read(true, "nobody", KeyType::Text, "id,tenant\n1,a\n"),
        Err(SimulateError::Column(_))
    ));
    assert!(matches!(
        read(true, "1", KeyType::Int4, "x\ny\n"),
        Err(SimulateError::Empty(2))
    ));
}

#[test]
fn keys_of_several_columns_are_records() {
    let found = outcomes("--shards 9 --add 1 --rows 200000 --type bigint,text");
    let hash = figures(&found, "hash");
    assert!(
        (hash.moved_part() * 100.0 - 10.0).abs() < 0.6,
        "{}",
        hash.moved_part()
    );
    assert!(schemes::skew(&hash.before) < 1.03, "{hash:?}");
    let range = found.iter().find(|outcome| outcome.scheme == "range").unwrap();
    assert!(range.figures.as_ref().unwrap_err().contains("several columns"));
    let shape = || key_shape("bigint, text").unwrap();
    let keys = read_shape(
        true,
        "tenant,usr",
        shape(),
        "id,usr,tenant\n1,ann,7\n2,,8\n3,ann,7\n4,bob,x\n",
    )
    .unwrap();
    assert_eq!((keys.rows, keys.unreadable), (3, 1));
    let ann = shape().from_text(b"(7,ann)").unwrap();
    let nobody = shape().from_text(b"(8,)").unwrap();
    assert_eq!(keys.by_rows(), [(&ann, 2), (&nobody, 1)]);
    assert!(matches!(
        read_shape(false, "1", shape(), "7\n"),
        Err(SimulateError::Columns { types: 2, columns: 1 })
    ));
}

#[test]
fn regions_stay_and_pins_hold_under_every_scheme() {
    let found = outcomes("--distribution uniform --rows 9000 --keys 9 --shards 3 --add 2 --type text");
    let geo = figures(&found, "geo");
    assert_eq!((geo.moved, geo.after[3], geo.after[4]), (0, 0, 0));
    assert!(schemes::skew(&geo.before) < 1.2, "{geo:?}");
    let line =
        "--distribution zipf --rows 20000 --keys 50 --shards 4 --type text --pin key_1=3 --pin key_2=3";
    let (pinned, free) = (
        outcomes(line),
        outcomes(&line.replace("--pin key_1=3 --pin key_2=3", "")),
    );
    let rows = |n| {
        let keys = distribution::make(&args(line), &mut Progress::new(false)).unwrap();
        let key = KeyValue::Text(format!("key_{n}").into_bytes().into());
        keys.by_rows().iter().find(|(known, _)| **known == key).unwrap().1
    };
    for scheme in ["hash", "modulo", "range", "list", "geo", "directory"] {
        let figures = figures(&pinned, scheme);
        assert!(figures.before[2] >= rows(1) + rows(2), "{scheme}: {figures:?}");
        assert!(figures.after[2] >= rows(1) + rows(2), "{scheme}: {figures:?}");
        assert_eq!(figures.before.iter().sum::<u64>(), 20_000, "{scheme}");
    }
    assert_ne!(figures(&pinned, "list").before, figures(&free, "list").before);
    for wrong in ["--pin key_1=5", "--type bigint --pin acme=1"] {
        assert!(
            matches!(simulate(&args(wrong)), Err(SimulateError::Pin { .. })),
            "{wrong}"
        );
    }
    assert_eq!(
        pin("a=b=2"),
        Ok(Pin {
            key: "a=b".to_owned(),
            shard: 2
        })
    );
    assert!(pin("acme").is_err());
}

#[test]
fn too_many_keys_are_sampled_by_key() {
    let mut keys = Keys::with_max(1_000);
    for n in 0..100_000 {
        keys.add(KeyValue::Int(n % 50_000));
    }
    assert_eq!(keys.rows, 100_000);
    let kept = keys.by_rows();
    assert!((500..=1_000).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().all(|(_, rows)| *rows == 2));
    let estimate = kept.len() as u64 * keys.sampled();
    assert!((40_000..60_000).contains(&estimate), "{estimate}");
}

#[test]
fn the_report_has_every_scheme() {
    let args = args("--shards 9 --rows 10000");
    let text = simulate(&args).unwrap();
    for scheme in ["hash ", "modulo ", "range ", "list ", "geo ", "directory "] {
        assert!(text.lines().any(|line| line.starts_with(scheme)), "{text}");
    }
    assert!(
        text.contains("10,000 rows, 10,000 keys of type int8; 9 shards, then 10"),
        "{text}"
    );
    let json = simulate(&SimulateArgs { json: true, ..args }).unwrap();
    assert!(json.starts_with("{\"rows\":10000,\"keys\":10000,"), "{json}");
    assert_eq!(json.matches('{').count(), json.matches('}').count());
}

#[test]
fn progress_says_rate_and_time_left() {
    let line = progress_line(1_500_000, Duration::from_secs(3), 30, Some(40));
    assert_eq!(line, "1,500,000 rows, 500,000 per second, 75 %, about 1 s left");
    let line = progress_line(10, Duration::from_secs(1), 30, None);
    assert_eq!(line, "10 rows, 10 per second");
}

#[test]
fn types_are_named_as_in_sql() {
    assert_eq!(key_type("Integer"), Ok(KeyType::Int4));
    assert_eq!(key_type("timestamptz"), Ok(KeyType::Timestamptz));
    assert!(key_type("json").unwrap_err().contains("uuid"));
    let made_up = simulate(&args("--type date"));
    assert!(matches!(made_up, Err(SimulateError::MadeUp("date"))));
}
