//! What is sharded how: read from the cluster, or made by a test.

use crate::client::{Client, ClientError};
use std::collections::BTreeMap;

/// Where everything in a database should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The home shard.
    pub home: String,
    /// Where each shard's primary listens; empty when a test made the layout.
    pub primaries: Vec<Primary>,
    /// Sharded tables.
    pub sharded: Vec<ShardedTable>,
    /// Reference tables, quoted as SQL needs it, with schema.
    pub reference: Vec<String>,
    /// Rows of `drover.shard_map` by map name.
    pub maps: BTreeMap<String, Vec<MapRow>>,
}

/// A shard's primary server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Name of the shard.
    pub shard: String,
    /// Host name, address or socket directory.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A sharded table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardedTable {
    /// Name, quoted as SQL needs it, with schema.
    pub name: String,
    /// Key columns, quoted as SQL needs them, with their types; none of a table that is placed whole.
    pub key: Vec<(String, KeyType)>,
    /// Sub-keys over which keys are spread, and by how many of the last columns; `None`: they are not.
    pub salt: Option<(u64, usize)>,
    /// Name of its map.
    pub map: String,
}

/// A row of `drover.shard_map`: some keys and their owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRow {
    /// The scheme of the map.
    pub scheme: String,
    /// First hash, first key or remainder.
    pub start: Option<String>,
    /// Last hash, the key after the last, or remainder.
    pub end: Option<String>,
    /// The key, as SQL.
    pub key: Option<String>,
    /// Owner.
    pub shard: String,
}

impl MapRow {
    /// Part of the signed 64-bit hash space, both ends included.
    pub fn hashes(first: i64, last: i64, shard: &str) -> MapRow {
        MapRow {
            scheme: "hash".to_string(),
            start: Some(first.to_string()),
            end: Some(last.to_string()),
            key: None,
            shard: shard.to_string(),
        }
    }
}

impl ShardedTable {
    /// SQL of the key: the column, or a record of several.
    pub(super) fn key_sql(&self) -> String {
        match self.key.as_slice() {
            [] => "NULL::text".to_string(),
            [(only, _)] => only.clone(),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                format!("ROW({})", names.join(", "))
            }
        }
    }

    /// SQL of what places a row.
    pub(super) fn hash_sql(&self) -> String {
        let Some((sub_keys, by)) = self.salt else {
            return hash_of_columns(&self.key);
        };
        let (key, salting) = self.key.split_at(self.key.len().saturating_sub(by));
        // In numbers without bounds, and not by shifting bits as the product does.
        let distance = (1_u128 << 64) / u128::from(sub_keys);
        let hash = |columns| format!("coalesce({}, 0)::numeric", hash_of_columns(columns));
        let (space, half) = ("18446744073709551616", "9223372036854775808");
        let unsigned = |hash: String| format!("mod({hash} + {space}, {space})");
        let (key, sub_key) = (
            unsigned(hash(key)),
            format!("mod({}, {sub_keys})", unsigned(hash(salting))),
        );
        let own = format!("div({key}, {distance})");
        // The highest bits of the hash, each turned around where the sub-key has a one.
        let turned =
            format!("({own}::int8 # {sub_key}::int8)::numeric * {distance} + mod({key}, {distance})");
        format!("(mod({turned} + {half}, {space}) - {half})::int8")
    }
}

/// SQL of the hash of a key: of one column, or of a record.
fn hash_of_columns(key: &[(String, KeyType)]) -> String {
    match key {
        [] => "0::int8".to_string(),
        [(name, key_type)] => key_type.hash_sql(name),
        several => {
            let values: Vec<String> = several
                .iter()
                .map(|(name, key_type)| key_type.in_record(name))
                .collect();
            format!("hash_record_extended(ROW({}), 0)", values.join(", "))
        }
    }
}

/// SQL of the shard that a row belongs to, from the columns `h` (its hash) and `k` (its key): a name, or NULL.
pub(super) fn owner_sql(rows: &[MapRow], key: &[(String, KeyType)]) -> String {
    // By bytes, whatever the collation of the column.
    let key = match key {
        [(_, KeyType::Text | KeyType::Bpchar)] => "k COLLATE \"C\"",
        [(_, KeyType::Enum)] => "k::text",
        [_] => "k",
        _ => "k::text",
    };
    // A key's own row counts before any rule.
    let (own, rules): (Vec<&MapRow>, Vec<&MapRow>) = rows.iter().partition(|row| row.key.is_some());
    let remainders = rules.len();
    let when = |row: &MapRow| {
        let (start, end) = (row.start.as_deref(), row.end.as_deref());
        let condition = match (row.scheme.as_str(), row.key.as_deref()) {
            (_, Some(literal)) => format!("{key} IS NOT DISTINCT FROM {literal}"),
            ("modulo", None) => format!(
                "(h % {remainders} + {remainders}) % {remainders} = {}",
                start.unwrap_or("NULL")
            ),
            ("range", None) => {
                let start = start.map_or("true".to_string(), |start| format!("{key} >= {start}"));
                match end {
                    Some(end) => format!("{start} AND {key} < {end}"),
                    None => format!("{start} OR k IS NULL"),
                }
            }
            ("list" | "place", None) => "true".to_string(),
            _ => format!(
                "h BETWEEN '{}'::int8 AND '{}'::int8",
                start.unwrap_or_default(),
                end.unwrap_or_default()
            ),
        };
        format!("WHEN {condition} THEN '{}'", row.shard.replace('\'', "''"))
    };
    let cases: Vec<String> = own.into_iter().chain(rules).map(when).collect();
    format!("CASE {} END", cases.join(" "))
}

/// Types a shard key can have, by the hash function that places it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `text` and `varchar`
    Text,
    /// `char(n)`
    Bpchar,
    /// `uuid`
    Uuid,
    /// `real` and `double precision`
    Float,
    /// Everything else that has no hash function of its own name: as a record of one column.
    Record,
    /// An enum, by its label
    Enum,
}

impl KeyType {
    /// By the name `format_type` gives.
    pub fn parse(name: &str) -> Option<KeyType> {
        Some(match name.split('(').next().unwrap_or(name).trim() {
            "smallint" | "int2" => KeyType::Int2,
            "integer" | "int4" => KeyType::Int4,
            "bigint" | "int8" => KeyType::Int8,
            "text" | "character varying" | "varchar" => KeyType::Text,
            "character" | "bpchar" => KeyType::Bpchar,
            "uuid" => KeyType::Uuid,
            "real" | "double precision" => KeyType::Float,
            "boolean"
            | "date"
            | "bytea"
            | "numeric"
            | "timestamp without time zone"
            | "timestamp with time zone" => KeyType::Record,
            "enum" => KeyType::Enum,
            _ => return None,
        })
    }

    /// A column as it is in a record whose hash is the same on every server and for all types of a family.
    fn in_record(self, column: &str) -> String {
        match self {
            KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => format!("{column}::int8"),
            KeyType::Text | KeyType::Enum => format!("{column}::text"),
            KeyType::Float => format!("{column}::float8"),
            KeyType::Bpchar | KeyType::Uuid | KeyType::Record => column.to_string(),
        }
    }

    /// The expression whose value places a row, for a key expression.
    pub fn hash_sql(self, key: &str) -> String {
        match self {
            KeyType::Int2 => format!("hashint2extended({key}, 0)"),
            KeyType::Int4 => format!("hashint4extended({key}, 0)"),
            KeyType::Int8 => format!("hashint8extended({key}, 0)"),
            KeyType::Text => format!("hashtextextended({key}::text, 0)"),
            KeyType::Bpchar => format!("hashbpcharextended({key}, 0)"),
            KeyType::Uuid => format!("uuid_hash_extended({key}, 0)"),
            KeyType::Float => format!("hashfloat8extended({key}::float8, 0)"),
            KeyType::Record => format!("hash_record_extended(ROW({key}), 0)"),
            KeyType::Enum => format!("hashtextextended({key}::text, 0)"),
        }
    }
}

/// Why the cluster's own description could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The connection failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A view answered with an error.
    #[error("{view}: {error}")]
    Query {
        /// The view.
        view: String,
        /// The error.
        error: String,
    },
    /// A view lacks a column this needs.
    #[error("{view} has no column {wanted}, but {found:?}")]
    Column {
        /// The view.
        view: String,
        /// The column.
        wanted: &'static str,
        /// Names it has.
        found: Vec<String>,
    },
    /// A value is not what it should be.
    #[error("{view}: unexpected value {value}")]
    Value {
        /// The view.
        view: String,
        /// The value.
        value: String,
    },
}

impl Layout {
    /// Reads `drover.shards`, `drover.tables` and `drover.shard_map` through the cluster.
    pub fn read(client: &mut Client) -> Result<Layout, LayoutError> {
        let mut layout = Layout::default();
        let shards = View::read(client, "drover.shards")?;
        let (names, roles) = (shards.column("shard")?, shards.column("role")?);
        let (hosts, ports) = (shards.column("primary_host")?, shards.column("primary_port")?);
        for at in 0..names.len() {
            if roles[at] == "home" {
                layout.home.clone_from(&names[at]);
            }
            let port = number("drover.shards", &ports[at])?;
            let (shard, host) = (names[at].clone(), hosts[at].clone());
            layout.primaries.push(Primary { shard, host, port });
        }
        layout.read_tables(client)?;
        layout.read_maps(client)?;
        Ok(layout)
    }

    fn read_tables(&mut self, client: &mut Client) -> Result<(), LayoutError> {
        let tables = View::read(client, "drover.tables")?;
        let (schemas, names) = (tables.column("schema")?, tables.column("table")?);
        let (kinds, keys, maps) = (
            tables.column("kind")?,
            tables.column("key")?,
            tables.column("map")?,
        );
        let salts = tables.column("salt")?;
        for at in 0..tables.rows.len() {
            let name = format!("{}.{}", quote(&schemas[at]), quote(&names[at]));
            match kinds[at].as_str() {
                "reference" => self.reference.push(name),
                kind @ ("sharded" | "placed") => {
                    let mut key = Vec::new();
                    for column in keys[at].split(", ").filter(|_| kind == "sharded") {
                        key.push((quote(column), key_type(client, &name, column)?));
                    }
                    let salt = match salts[at].split_once(" by ") {
                        None => None,
                        Some((sub_keys, by)) => {
                            Some((number("drover.tables", sub_keys)?, by.split(", ").count()))
                        }
                    };
                    let map = maps[at].clone();
                    self.sharded.push(ShardedTable { name, key, salt, map });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_maps(&mut self, client: &mut Client) -> Result<(), LayoutError> {
        let view = "drover.shard_map";
        let map = View::read(client, view)?;
        let (names, shards) = (map.column("map")?, map.column("shard")?);
        let schemes = map.column("scheme")?;
        let (starts, ends) = (map.values("range_start")?, map.values("range_end")?);
        let keys = map.values("key")?;
        for at in 0..map.rows.len() {
            let row = MapRow {
                scheme: schemes[at].clone(),
                start: starts[at].clone(),
                end: ends[at].clone(),
                key: keys[at].clone(),
                shard: shards[at].clone(),
            };
            self.maps.entry(names[at].clone()).or_default().push(row);
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(view: &str, text: &str) -> Result<T, LayoutError> {
    text.parse().map_err(|_| LayoutError::Value {
        view: view.to_string(),
        value: text.to_string(),
    })
}

/// All rows of a view, with the names of its columns.
struct View {
    name: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl View {
    fn read(client: &mut Client, name: &'static str) -> Result<View, LayoutError> {
        let answer = client.simple(&format!("SELECT * FROM {name}"))?;
        if let Some(error) = answer.error() {
            return Err(LayoutError::Query {
                view: name.to_string(),
                error: error.to_string(),
            });
        }
        let columns = answer.results.first().and_then(|result| result.columns.as_ref());
        let columns = columns.map(|list| list.iter().map(|column| column.name.clone()).collect());
        Ok(View {
            name,
            columns: columns.unwrap_or_default(),
            rows: answer.text_rows(),
        })
    }

    /// The values of a column, NULL as empty text.
    fn column(&self, wanted: &'static str) -> Result<Vec<String>, LayoutError> {
        let values = self.values(wanted)?;
        Ok(values.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The values of a column.
    fn values(&self, wanted: &'static str) -> Result<Vec<Option<String>>, LayoutError> {
        let Some(at) = self.columns.iter().position(|column| column == wanted) else {
            return Err(LayoutError::Column {
                view: self.name.to_string(),
                wanted,
                found: self.columns.clone(),
            });
        };
        Ok(self
            .rows
            .iter()
            .map(|row| row.get(at).cloned().flatten())
            .collect())
    }
}

fn key_type(client: &mut Client, table: &str, key: &str) -> Result<KeyType, LayoutError> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let sql = format!(
        "WITH RECURSIVE d(oid, base) AS (SELECT oid, oid FROM pg_type WHERE typbasetype = 0 \
         UNION ALL SELECT p.oid, d.base FROM d JOIN pg_type p ON p.typbasetype = d.oid) \
         SELECT CASE b.typtype WHEN 'e' THEN 'enum' ELSE format_type(b.oid, NULL) END \
         FROM pg_attribute a JOIN d ON d.oid = a.atttypid JOIN pg_type b ON b.oid = d.base \
         WHERE attrelid = {}::regclass AND attname = {}",
        literal(table),
        literal(key)
    );
    let answer = client.simple(&sql)?;
    let name = answer.value().unwrap_or_default();
    KeyType::parse(&name).ok_or_else(|| LayoutError::Value {
        view: format!("key {key} of {table}"),
        value: name,
    })
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_types_by_name() {
        assert_eq!(KeyType::parse("character varying(20)"), Some(KeyType::Text));
        assert_eq!(KeyType::parse("character(8)"), Some(KeyType::Bpchar));
        assert_eq!(KeyType::parse("numeric(10,2)"), Some(KeyType::Record));
        assert_eq!(KeyType::parse("jsonb"), None);
    }
}
