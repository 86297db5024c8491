//! Changes as SQL for one target.

use crate::pgoutput::Value;
use crate::route::Change;

/// Rows in one INSERT.
const ROWS_MAX: usize = 200;

/// The target's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its full name as SQL.
    pub name: String,
    /// The columns of changes as SQL, in their order.
    pub columns: Vec<String>,
    /// Positions of columns that tell a row from all others and are never NULL; empty: only all values together do.
    pub unique: Vec<usize>,
}

/// The values of a change are not those of the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A value is not UTF-8.
    #[error("a value in the log is not UTF-8")]
    NotUtf8,
    /// The row has more or fewer values than the table has columns.
    #[error("a row in the log has {found} values for {columns} columns")]
    Columns {
        /// Values.
        found: usize,
        /// Columns.
        columns: usize,
    },
    /// A value that is needed is not in the log.
    #[error("the log lacks the value of column {0}")]
    Missing(String),
}

/// Statements for one target, to be run in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    sql: String,
    /// How many rows each statement must touch; `None`: any.
    expected: Vec<Option<u64>>,
    /// Rows in the INSERT at the end that is still open.
    open: usize,
    /// Rows more, or fewer, on the target.
    delta: i64,
    /// Everything that was there is gone first.
    truncated: bool,
}

impl Batch {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    /// Length of the text in bytes.
    pub fn len(&self) -> usize {
        self.sql.len()
    }

    /// The text, how many rows each statement must touch, and what happens to the number of rows.
    pub fn finish(self) -> Finished {
        Finished {
            sql: self.sql,
            expected: self.expected,
            delta: self.delta,
            truncated: self.truncated,
        }
    }

    /// Adds a change.
    pub fn add(&mut self, table: &Table, change: &Change<'_>) -> Result<(), ApplyError> {
        match change {
            Change::Insert(row) => {
                let values = literals(table, row)?.join(", ");
                self.insert(table, &values);
                self.delta += 1;
            }
            Change::Update { old, new } => {
                let set = assignments(table, new)?;
                let found = condition(table, old)?;
                if set.is_empty() {
                    return Ok(());
                }
                let sql = format!("UPDATE ONLY {} SET {set} WHERE {found}", table.name);
                self.statement(&sql, Some(1));
            }
            Change::Delete(old) => {
                let found = condition(table, old)?;
                self.statement(&format!("DELETE FROM ONLY {} WHERE {found}", table.name), Some(1));
                self.delta -= 1;
            }
        }
        Ok(())
    }

    /// The source's table was emptied.
    pub fn truncate(&mut self, table: &Table) {
        self.statement(&format!("TRUNCATE TABLE ONLY {}", table.name), None);
        self.delta = 0;
        self.truncated = true;
    }

    fn insert(&mut self, table: &Table, values: &str) {
        if self.open > 0 && self.open < ROWS_MAX {
            self.sql.push_str(", (");
            self.open += 1;
            if let Some(expected) = self.expected.last_mut() {
                *expected = Some(self.open as u64);
            }
        } else {
            let columns = table.columns.join(", ");
            self.statement(
                &format!(
                    "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE VALUES (",
                    table.name
                ),
                Some(1),
            );
            self.open = 1;
        }
        self.sql.push_str(values);
        self.sql.push(')');
    }

    fn statement(&mut self, sql: &str, expected: Option<u64>) {
        if !self.sql.is_empty() {
            self.sql.push_str(";\n");
        }
        self.sql.push_str(sql);
        self.expected.push(expected);
        self.open = 0;
    }
}

/// Statements as they are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The text.
    pub sql: String,
    /// How many rows each statement must touch; `None`: any.
    pub expected: Vec<Option<u64>>,
    /// Rows more, or fewer, on the target.
    pub delta: i64,
    /// The number of rows begins at zero.
    pub truncated: bool,
}

impl Finished {
    /// Whether the command tags of the answer say that each statement touched what it must.
    pub fn agrees(&self, tags: &[String]) -> bool {
        let count = |tag: &String| tag.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        tags.len() == self.expected.len()
            && tags
                .iter()
                .zip(&self.expected)
                .all(|(tag, expected)| expected.is_none() || count(tag) == *expected)
    }
}

fn fits(table: &Table, row: &[Value<'_>]) -> Result<(), ApplyError> {
    if row.len() == table.columns.len() {
        return Ok(());
    }
    Err(ApplyError::Columns {
        found: row.len(),
        columns: table.columns.len(),
    })
}

fn literals(table: &Table, row: &[Value<'_>]) -> Result<Vec<String>, ApplyError> {
    fits(table, row)?;
    let literal = |(column, value): (&String, &Value<'_>)| match value {
        Value::Null => Ok("NULL".to_owned()),
        Value::Text(text) => quote(text),
        Value::Unchanged => Err(ApplyError::Missing(column.clone())),
    };
    table.columns.iter().zip(row).map(literal).collect()
}

/// What UPDATE sets: all values that are in the log.
fn assignments(table: &Table, new: &[Value<'_>]) -> Result<String, ApplyError> {
    fits(table, new)?;
    let mut set = Vec::new();
    for (column, value) in table.columns.iter().zip(new) {
        match value {
            Value::Null => set.push(format!("{column} = NULL")),
            Value::Text(text) => set.push(format!("{column} = {}", quote(text)?)),
            Value::Unchanged => {}
        }
    }
    Ok(set.join(", "))
}

/// True of the one row, or of one of several that are equal in every value.
fn condition(table: &Table, old: &[Value<'_>]) -> Result<String, ApplyError> {
    fits(table, old)?;
    if !table.unique.is_empty() {
        let equal = |at: &usize| match (table.columns.get(*at), old.get(*at)) {
            (Some(column), Some(Value::Text(text))) => Ok(format!("{column} = {}", quote(text)?)),
            (Some(column), _) => Err(ApplyError::Missing(column.clone())),
            (None, _) => Err(ApplyError::Columns {
                found: *at,
                columns: table.columns.len(),
            }),
        };
        let all: Vec<String> = table.unique.iter().map(equal).collect::<Result<_, _>>()?;
        return Ok(all.join(" AND "));
    }
    // Types without an equality of their own, and `numeric` or `float` values that are equal and not the same, are
    // compared as they are printed.
    let same = |(column, value): (&String, &Value<'_>)| match value {
        Value::Null => Ok(format!("{column} IS NULL")),
        Value::Text(text) => Ok(format!(
            "{column} IS NOT NULL AND pg_catalog.concat({column}) = {} COLLATE \"C\"",
            quote(text)?
        )),
        Value::Unchanged => Err(ApplyError::Missing(column.clone())),
    };
    let all: Vec<String> = table
        .columns
        .iter()
        .zip(old)
        .map(same)
        .collect::<Result<_, _>>()?;
    Ok(format!(
        "ctid = (SELECT ctid FROM ONLY {} WHERE {} LIMIT 1)",
        table.name,
        all.join(" AND ")
    ))
}

/// A literal under `standard_conforming_strings = on`.
fn quote(text: &[u8]) -> Result<String, ApplyError> {
    let text = std::str::from_utf8(text).map_err(|_| ApplyError::NotUtf8)?;
    Ok(format!("'{}'", text.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(unique: &[usize]) -> Table {
        Table {
            name: "public.t".to_owned(),
            columns: vec!["k".to_owned(), "v".to_owned()],
            unique: unique.to_vec(),
        }
    }

    fn row<'a>(k: &'a str, v: Option<&'a str>) -> Vec<Value<'a>> {
        let v = v.map_or(Value::Null, |v| Value::Text(v.as_bytes()));
        vec![Value::Text(k.as_bytes()), v]
    }

    fn check(unique: &[usize], changes: &[Change<'_>], sql: &str, delta: i64) {
        let mut batch = Batch::default();
        for change in changes {
            batch.add(&table(unique), change).unwrap();
        }
        let finished = batch.finish();
        assert_eq!((finished.sql.as_str(), finished.delta), (sql, delta));
    }

    #[test]
    fn changes_become_statements() {
        check(
            &[0],
            &[
                Change::Insert(row("1", Some("it's"))),
                Change::Insert(row("2", None)),
                Change::Update {
                    old: row("1", None),
                    new: vec![Value::Text(b"3"), Value::Unchanged],
                },
                Change::Delete(row("2", None)),
            ],
            "INSERT INTO public.t (k, v) OVERRIDING SYSTEM VALUE VALUES ('1', 'it''s'), ('2', NULL);\n\
             UPDATE ONLY public.t SET k = '3' WHERE k = '1';\n\
             DELETE FROM ONLY public.t WHERE k = '2'",
            1,
        );
        check(
            &[],
            &[Change::Delete(row("a", None))],
            "DELETE FROM ONLY public.t WHERE ctid = (SELECT ctid FROM ONLY public.t WHERE k IS NOT NULL AND \
             pg_catalog.concat(k) = 'a' COLLATE \"C\" AND v IS NULL LIMIT 1)",
            -1,
        );
    }

    #[test]
    fn every_statement_must_touch_what_it_says() {
        let mut batch = Batch::default();
        batch.add(&table(&[0]), &Change::Insert(row("1", None))).unwrap();
        batch.add(&table(&[0]), &Change::Insert(row("2", None))).unwrap();
        batch.add(&table(&[0]), &Change::Delete(row("1", None))).unwrap();
        let finished = batch.finish();
        let agrees =
            |tags: &[&str]| finished.agrees(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        assert!(agrees(&["INSERT 0 2", "DELETE 1"]));
        assert!(!agrees(&["INSERT 0 2", "DELETE 0"]));
        assert!(!agrees(&["INSERT 0 1", "DELETE 1"]));
        assert!(!agrees(&["INSERT 0 2"]));
    }

    #[test]
    fn emptying_forgets_what_was_counted() {
        let mut batch = Batch::default();
        batch.add(&table(&[0]), &Change::Insert(row("1", None))).unwrap();
        batch.truncate(&table(&[0]));
        batch.add(&table(&[0]), &Change::Insert(row("2", None))).unwrap();
        let finished = batch.finish();
        assert_eq!((finished.delta, finished.truncated), (1, true));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut batch = Batch::default();
        let short = Change::Insert(vec![Value::Null]);
        assert!(batch.add(&table(&[0]), &short).is_err());
        let unknown = Change::Delete(vec![Value::Unchanged, Value::Null]);
        assert!(batch.add(&table(&[0]), &unknown).is_err());
        assert!(batch.is_empty());
    }
}
