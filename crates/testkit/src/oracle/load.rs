//! Random rows with skew and NULLs, the same on both sides.

use crate::casefile::{Load, Step};
use crate::client::Client;
use crate::random::Random;
use std::fmt::Write as _;

/// One in so many values of a nullable column is NULL.
const NULL_ONE_IN: u64 = 7;

/// What decides a column's values.
struct Column {
    name: String,
    type_name: String,
    nullable: bool,
    /// Last column of a unique index: counts up.
    unique: bool,
    /// Values of the column that a foreign key refers to.
    choices: Vec<String>,
}

/// A COPY statement with `load.rows` rows for the table, made from its definition on `client`.
pub(super) fn rows(client: &mut Client, load: &Load) -> Result<Step, String> {
    let columns = columns(client, &load.table)?;
    if columns.is_empty() {
        return Err(format!("table {} has no columns", load.table));
    }
    let mut random = Random::new(load.seed);
    let mut data = String::new();
    for number in 1..=u64::from(load.rows) {
        for (index, column) in columns.iter().enumerate() {
            let end = if index + 1 == columns.len() { '\n' } else { '\t' };
            let value = value(column, number, &mut random, u64::from(load.rows));
            // Writing to a String cannot fail.
            let _ = write!(
                data,
                "{}{end}",
                value.as_deref().map_or("\\N".to_string(), escape)
            );
        }
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let sql = format!("COPY {} ({}) FROM STDIN", load.table, names.join(", "));
    Ok(Step {
        place: load.place.clone(),
        sql,
        copy: Some(data.into_bytes()),
    })
}

fn columns(client: &mut Client, table: &str) -> Result<Vec<Column>, String> {
    let table = table.replace('\'', "''");
    let sql = format!(
        "SELECT quote_ident(attname), format_type(atttypid, NULL), attnotnull,
           EXISTS (SELECT 1 FROM pg_index i WHERE indrelid = attrelid AND indisunique
                   AND indkey[indnkeyatts - 1] = attnum),
           (SELECT format('SELECT %I FROM %s ORDER BY 1', fa.attname, confrelid::regclass)
              FROM pg_constraint JOIN pg_attribute fa ON fa.attrelid = confrelid AND fa.attnum = confkey[1]
              WHERE conrelid = a.attrelid AND contype = 'f' AND conkey[1] = a.attnum AND cardinality(conkey) = 1 LIMIT 1)
         FROM pg_attribute a WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped
           AND attgenerated = '' AND attidentity = '' ORDER BY attnum"
    );
    let mut list = Vec::new();
    for row in ask(client, &sql)? {
        let [Some(name), Some(type_name), Some(not_null), Some(unique), choices] = row.as_slice() else {
            return Err("unexpected catalog row".to_string());
        };
        let choices = match choices {
            Some(sql) => ask(client, sql)?.into_iter().flatten().flatten().collect(),
            None => Vec::new(),
        };
        list.push(Column {
            name: name.clone(),
            type_name: type_name.clone(),
            nullable: not_null == "f",
            unique: unique == "t",
            choices,
        });
    }
    Ok(list)
}

fn ask(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let answer = client.simple(sql).map_err(|error| error.to_string())?;
    match answer.error() {
        Some(error) => Err(error.to_string()),
        None => Ok(answer.text_rows()),
    }
}

fn value(column: &Column, number: u64, random: &mut Random, rows: u64) -> Option<String> {
    if column.nullable && random.below(NULL_ONE_IN) == 0 {
        return None;
    }
    if !column.choices.is_empty() {
        let at = skewed(random, column.choices.len() as u64) as usize;
        return column.choices.get(at).cloned();
    }
    let pick = if column.unique {
        number
    } else {
        skewed(random, rows.max(2))
    };
    let spread = pick.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some(match column.type_name.as_str() {
        "smallint" => (pick % 30_000).to_string(),
        "integer" | "bigint" | "oid" => pick.to_string(),
        "numeric" => format!("{}.{:02}", pick, random.below(100)),
        "real" | "double precision" => format!("{}.{}", pick, random.below(1000)),
        "boolean" => (random.below(2) == 0).to_string(),
        "uuid" => format!("{:08x}-0000-4000-8000-{:012x}", pick, spread & 0xffff_ffff_ffff),
        "date" => format!(
            "{}-{:02}-{:02}",
            1995 + pick % 30,
            1 + pick % 12,
            1 + random.below(28)
        ),
        "timestamp without time zone" | "timestamp with time zone" => {
            let (month, day, hour) = (1 + pick % 12, 1 + random.below(28), random.below(24));
            format!("20{:02}-{month:02}-{day:02} {hour:02}:30:00+00", pick % 25)
        }
        "json" | "jsonb" => format!("{{\"n\": {pick}}}"),
        "bytea" => format!("\\x{pick:08x}"),
        "integer[]" => integers(pick, random),
        "int4range" => integer_range(pick, random),
        _ => text(column.unique, pick, random),
    })
}

/// A few numbers, sometimes none, sometimes with NULL among them.
fn integers(pick: u64, random: &mut Random) -> String {
    let one = |random: &mut Random| match random.below(9) {
        0 => "NULL".to_owned(),
        _ => skewed(random, pick + 3).to_string(),
    };
    let list: Vec<String> = (0..random.below(5)).map(|_| one(random)).collect();
    format!("{{{}}}", list.join(","))
}

/// A range of numbers; one in ten is empty, one in ten has no end.
fn integer_range(pick: u64, random: &mut Random) -> String {
    match random.below(10) {
        0 => "empty".to_owned(),
        1 => format!("[{pick},)"),
        _ => format!("[{pick},{})", pick + random.below(12)),
    }
}

/// Words that sort differently by bytes and by language, some with what COPY must escape.
fn text(unique: bool, pick: u64, random: &mut Random) -> String {
    const WORDS: [&str; 12] = [
        "alpha",
        "Beta",
        "gamma",
        "Ärger",
        "zoë",
        "",
        "tab\there",
        "back\\slash",
        "x y",
        "日本",
        "ALPHA",
        "beta",
    ];
    if unique {
        return format!("key-{pick}");
    }
    let word = WORDS[(random.below(WORDS.len() as u64)) as usize];
    format!("{word}{}", pick % 17)
}

/// A number below `bound`, small ones far more often.
fn skewed(random: &mut Random, bound: u64) -> u64 {
    let a = random.below(bound.max(1));
    let b = random.below(a + 1);
    if random.below(4) == 0 { a } else { b }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}
