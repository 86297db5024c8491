//! Whether every row is where it belongs, asked of each server directly.
//!
//! A proxy that stores a row twice, or on the wrong shard, may still answer every query as expected. So this looks past
//! it: each row of a sharded table must be on the shard that owns its key's hash, computed by PostgreSQL itself;
//! reference tables must be the same everywhere; unsharded tables must be nowhere but at home.

mod layout;

pub use layout::{KeyType, Layout, LayoutError, MapRow, Primary, ShardedTable};

use crate::client::{Client, ClientError, Target};
use std::collections::{BTreeMap, BTreeSet};

/// Rows quoted per finding.
const EXAMPLES: usize = 3;

/// One shard's primary, reached directly.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Name as in the shard map.
    pub name: String,
    /// Where; a role that may read every table.
    pub target: Target,
}

/// Something that is not where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Shard it was found on.
    pub shard: String,
    /// Table, with schema.
    pub table: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}: {}", self.table, self.shard, self.problem)
    }
}

/// Why placement could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// A shard could not be reached or broke off.
    #[error("shard {shard}: {source}")]
    Client {
        /// The shard.
        shard: String,
        /// The cause.
        source: ClientError,
    },
    /// A shard answered a question with an error.
    #[error("shard {shard}: {error} in {sql}")]
    Query {
        /// The shard.
        shard: String,
        /// Its error.
        error: String,
        /// The question.
        sql: String,
    },
    /// The map names a shard that was not given.
    #[error("the shard map names {0}, for which no connection was given")]
    UnknownShard(String),
}

/// Checks every table of a database; an empty list means that all is in place.
pub fn verify(layout: &Layout, shards: &[Shard]) -> Result<Vec<Finding>, PlacementError> {
    let mut servers = Vec::new();
    for shard in shards {
        let client = Client::open(&shard.target).map_err(|source| PlacementError::Client {
            shard: shard.name.clone(),
            source,
        })?;
        servers.push(Server {
            name: shard.name.clone(),
            client,
        });
    }
    for range in layout.maps.values().flatten() {
        if !servers.iter().any(|server| server.name == range.shard) {
            return Err(PlacementError::UnknownShard(range.shard.clone()));
        }
    }
    let mut findings = Vec::new();
    check_tables(layout, &mut servers, &mut findings)?;
    for table in &layout.sharded {
        for server in &mut servers {
            check_rows(layout, table, server, &mut findings)?;
        }
    }
    for table in &layout.reference {
        check_copies(table, &mut servers, &mut findings)?;
    }
    Ok(findings)
}

struct Server {
    name: String,
    client: Client,
}

impl Server {
    fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, PlacementError> {
        let answer = self.client.simple(sql).map_err(|source| PlacementError::Client {
            shard: self.name.clone(),
            source,
        })?;
        match answer.error() {
            None => Ok(answer.text_rows()),
            Some(error) => Err(PlacementError::Query {
                shard: self.name.clone(),
                error: error.to_string(),
                sql: sql.to_string(),
            }),
        }
    }

    fn finding(&self, table: &str, problem: impl Into<String>) -> Finding {
        Finding {
            shard: self.name.clone(),
            table: table.to_string(),
            problem: problem.into(),
        }
    }

    /// User tables with their columns as one line of text.
    fn tables(&mut self) -> Result<BTreeMap<String, String>, PlacementError> {
        let rows = self.ask(
            "SELECT format('\"%s\".\"%s\"', replace(nspname, '\"', '\"\"'), replace(relname, '\"', '\"\"')),
               (SELECT string_agg(format('%I %s%s', attname, format_type(atttypid, atttypmod),
                                         CASE WHEN attnotnull THEN ' not null' ELSE '' END), ', ' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
             FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
             WHERE relkind IN ('r', 'p') AND NOT relispartition AND relpersistence <> 't'
               AND nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'drover', 'drover_internal')",
        )?;
        let pair = |row: Vec<Option<String>>| {
            let mut row = row.into_iter();
            Some((row.next()??, row.next().flatten().unwrap_or_default()))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }
}

/// Which tables exist where, and with the same columns everywhere.
fn check_tables(
    layout: &Layout,
    servers: &mut [Server],
    findings: &mut Vec<Finding>,
) -> Result<(), PlacementError> {
    let sharded = layout.sharded.iter().map(|table| table.name.as_str());
    let everywhere: BTreeSet<&str> = sharded
        .chain(layout.reference.iter().map(String::as_str))
        .collect();
    let mut definitions: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for server in servers {
        let tables = server.tables()?;
        for name in tables.keys() {
            if server.name != layout.home && !everywhere.contains(name.as_str()) {
                findings.push(server.finding(name, "an unsharded table away from the home shard"));
            }
        }
        for name in &everywhere {
            let Some(columns) = tables.get(*name) else {
                findings.push(server.finding(name, "the table is missing"));
                continue;
            };
            match definitions.get(name) {
                None => drop(definitions.insert(name, (server.name.clone(), columns.clone()))),
                Some((_, first)) if first == columns => {}
                Some((other, first)) => {
                    let problem = format!("columns ({columns}) differ from those on {other} ({first})");
                    findings.push(server.finding(name, problem));
                }
            }
        }
    }
    Ok(())
}

/// Rows of a sharded table on a shard that does not own their key.
fn check_rows(
    layout: &Layout,
    table: &ShardedTable,
    server: &mut Server,
    findings: &mut Vec<Finding>,
) -> Result<(), PlacementError> {
    let rows = layout.maps.get(&table.map).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        findings.push(server.finding(&table.name, "its map has no rows"));
        return Ok(());
    }
    let hash = table.hash_sql();
    let owner = layout::owner_sql(rows, &table.key);
    let key = table.key_sql();
    let sql = format!(
        "SELECT k::text, owner FROM (SELECT k, {owner} AS owner FROM (SELECT {} AS k, coalesce({hash}, 0) AS h FROM {}) \
         AS keys) AS located WHERE owner IS DISTINCT FROM '{}'",
        key,
        table.name,
        server.name.replace('\'', "''")
    );
    let rows = server.ask(&sql)?;
    if rows.is_empty() {
        return Ok(());
    }
    let quote = |row: &Vec<Option<String>>| {
        let text = |at: usize, none: &str| row.get(at).cloned().flatten().unwrap_or_else(|| none.to_string());
        format!("{} = {} belongs to {}", key, text(0, "NULL"), text(1, "nobody"))
    };
    let examples: Vec<String> = rows.iter().take(EXAMPLES).map(quote).collect();
    let problem = format!(
        "{} rows that belong elsewhere ({}, …)",
        rows.len(),
        examples.join("; ")
    );
    findings.push(server.finding(&table.name, problem));
    Ok(())
}

/// Copies of a reference table that differ from the home shard's.
fn check_copies(
    table: &str,
    servers: &mut [Server],
    findings: &mut Vec<Finding>,
) -> Result<(), PlacementError> {
    let sql = format!(
        "SELECT count(*), md5(coalesce(string_agg(line, E'\\n' ORDER BY line COLLATE \"C\"), ''))
         FROM (SELECT t::text AS line FROM {table} AS t) AS lines"
    );
    let mut first: Option<(String, Vec<Option<String>>)> = None;
    for server in servers {
        let answer = server.ask(&sql)?.into_iter().next().unwrap_or_default();
        match &first {
            None => first = Some((server.name.clone(), answer)),
            Some((_, wanted)) if *wanted == answer => {}
            Some((other, wanted)) => {
                let count = |row: &[Option<String>]| row.first().cloned().flatten().unwrap_or_default();
                let problem = format!(
                    "the copy differs from that on {other}: {} rows, {} there",
                    count(&answer),
                    count(wanted)
                );
                findings.push(server.finding(table, problem));
            }
        }
    }
    Ok(())
}
