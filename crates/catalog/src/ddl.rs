//! Statements that recreate a table of the home shard on another shard.
//!
//! The caller runs the [`table_ddl_queries`] on the home shard, between [`PREAMBLE`](crate::load::PREAMBLE) and
//! [`EPILOGUE`](crate::load::EPILOGUE), and gives the rows to [`assemble`]. Types, functions, extensions and roles are
//! expected to exist on the other shard. Of a partitioned table both lists are run before those of its partitions.

use crate::Oid;

mod queries;

/// One of the queries about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DdlQueryId {
    /// The table itself: one row.
    Table,
    /// Its columns.
    Columns,
    /// Everything around it, already as statements.
    Statements,
}

/// Rows of one query: values in text format.
pub type Rows = Vec<Vec<Option<String>>>;

/// How to make the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDdl {
    /// To run before rows are loaded, in order.
    pub create: Vec<String>,
    /// To run after rows are loaded, in order: indexes, constraints, triggers, policies.
    pub after_load: Vec<String>,
    /// How many of these, from the first, are about the table alone: indexes and what stands on them.
    pub indexes: usize,
    /// Columns (unquoted names) whose default was left out because it takes values from a sequence, or which are identity
    /// columns: their values come from the home shard.
    pub home_sequences: Vec<String>,
}

/// Why there are no statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DdlError {
    /// No row in [`DdlQueryId::Table`], or the relation is not a table.
    #[error("the relation does not exist or is not a table")]
    NoSuchTable,
    /// The rows of a query are missing.
    #[error("no rows given for {0:?}")]
    MissingQuery(DdlQueryId),
    /// A row is too short or has a NULL where none can be.
    #[error("{query:?} row has no value in column {column}")]
    MissingValue {
        /// Query.
        query: DdlQueryId,
        /// Column, from 0.
        column: usize,
    },
}

/// The queries to run for a table, by its OID on the home shard.
pub fn table_ddl_queries(oid: Oid) -> Vec<(DdlQueryId, String)> {
    vec![
        (DdlQueryId::Table, queries::table(oid)),
        (DdlQueryId::Columns, queries::columns(oid)),
        (DdlQueryId::Statements, queries::statements(oid)),
    ]
}

/// Rows of the [`table_ddl_queries`] → statements.
pub fn assemble(rows: &[(DdlQueryId, Rows)]) -> Result<TableDdl, DdlError> {
    let table = Row::first(rows, DdlQueryId::Table)?.ok_or(DdlError::NoSuchTable)?;
    let mut ddl = TableDdl::default();
    let mut columns = Vec::new();
    for row in of(rows, DdlQueryId::Columns)? {
        let row = Row {
            query: DdlQueryId::Columns,
            values: row,
        };
        columns.push(column_sql(&row)?);
        if row.flag(6)? {
            ddl.home_sequences.push(row.text(1)?.to_owned());
        }
    }
    let name = table.text(0)?;
    ddl.create.push(table.text(1)?.to_owned());
    ddl.create.push(format!(
        "CREATE{} TABLE {name} ({}){}",
        if table.flag(2)? { " UNLOGGED" } else { "" },
        columns.join(", "),
        // INHERITS, PARTITION BY, USING, WITH; in the order of the grammar.
        [3, 4, 5, 6]
            .into_iter()
            .filter_map(|c| table.opt(c))
            .map(|part| format!(" {part}"))
            .collect::<String>()
    ));
    let attach = table.opt(7);
    // A partition takes its indexes into the parent's when attached; a partitioned table has no rows to load.
    let early = attach.is_some() || table.flag(8)?;
    for row in of(rows, DdlQueryId::Statements)? {
        let row = Row {
            query: DdlQueryId::Statements,
            values: row,
        };
        let (phase, sql) = (row.text(0)?, row.text(1)?.to_owned());
        match phase {
            "index" if early => ddl.create.push(sql),
            "table" => ddl.create.push(sql),
            "index" => {
                ddl.after_load.push(sql);
                // They come before all others.
                ddl.indexes = ddl.after_load.len();
            }
            _ => ddl.after_load.push(sql),
        }
    }
    ddl.create.extend(attach.map(str::to_owned));
    Ok(ddl)
}

fn column_sql(row: &Row<'_>) -> Result<String, DdlError> {
    let mut sql = format!("{} {}", row.text(0)?, row.text(2)?);
    if let Some(collation) = row.opt(3) {
        sql.push_str(&format!(" COLLATE {collation}"));
    }
    if row.flag(4)? {
        sql.push_str(" NOT NULL");
    }
    if let (Some(default), false) = (row.opt(5), row.flag(6)?) {
        match row.opt(7) {
            Some("s") => sql.push_str(&format!(" GENERATED ALWAYS AS ({default}) STORED")),
            Some("v") => sql.push_str(&format!(" GENERATED ALWAYS AS ({default}) VIRTUAL")),
            _ => sql.push_str(&format!(" DEFAULT {default}")),
        }
    }
    Ok(sql)
}

fn of(rows: &[(DdlQueryId, Rows)], query: DdlQueryId) -> Result<&Rows, DdlError> {
    rows.iter()
        .find(|(id, _)| *id == query)
        .map(|(_, rows)| rows)
        .ok_or(DdlError::MissingQuery(query))
}

struct Row<'a> {
    query: DdlQueryId,
    values: &'a [Option<String>],
}

impl<'a> Row<'a> {
    fn first(rows: &'a [(DdlQueryId, Rows)], query: DdlQueryId) -> Result<Option<Row<'a>>, DdlError> {
        Ok(of(rows, query)?.first().map(|values| Row { query, values }))
    }

    fn opt(&self, column: usize) -> Option<&'a str> {
        self.values.get(column)?.as_deref().filter(|v| !v.is_empty())
    }

    fn text(&self, column: usize) -> Result<&'a str, DdlError> {
        self.opt(column).ok_or(DdlError::MissingValue {
            query: self.query,
            column,
        })
    }

    fn flag(&self, column: usize) -> Result<bool, DdlError> {
        self.text(column).map(|v| matches!(v, "t" | "true"))
    }
}
