//! DECLARE of a cursor over sharded tables.
//!
//! A cursor shows its query's rows as they were when it was declared, and nothing that happens later. So they are fetched then, and kept by the home
//! shard in a cursor of the client's own name over arrays: FETCH, MOVE, CLOSE, savepoints and the end of the transaction are PostgreSQL's own.
//!
//! | step | what can fail, and then |
//! |---|---|
//! | the query is planned | it is refused: nothing has run |
//! | the query runs like any other, its rows are kept here (bounded by `gather_max_bytes`) | its error is the statement's: it comes here, and not with the FETCH that would meet it |
//! | home says how the types of its columns are carried | it is refused: nothing but reading was done |
//! | home declares the cursor over them | the same |

use bytes::{Buf as _, Bytes};
use plan::{Refusal, RefusalCode};
use sql::Cursor;
use wire::FormatCode;

use super::create_as::{in_whole, obstacle};
use super::learn::decode_columns;
use super::{Fault, Session};
use crate::exec::arrays::ArrayColumns;
use crate::exec::{link, relay, scatter};

/// What COPY in binary begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The same with what follows it: flags, and the length of an extension that there is not.
const HEADER_BYTES: usize = 19;

/// A column of the cursor.
struct Column {
    name: String,
    type_oid: u32,
    typmod: i32,
}

/// How home knows a column's type.
struct Carried {
    /// With its modifier, as SQL.
    type_sql: String,
    array_oid: u32,
}

impl Session {
    /// Runs it. The answer is complete but for ReadyForQuery.
    pub(super) async fn run_cursor(&mut self, cursor: &Cursor, text: &str) -> Result<(), Fault> {
        let Cursor::Declare {
            hold, query: range, ..
        } = cursor
        else {
            return Err(refused("no query"));
        };
        if *hold {
            return Err(refused("WITH HOLD"));
        }
        if !self.block.is_open() {
            return Err(Fault::error(
                "25P01",
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.reads_replicas() {
            return Err(refused("on replicas"));
        }
        let parts = text.get(..range.start).zip(query_of(cursor, text));
        let (before, query) = parts.ok_or_else(|| refused("no query"))?;
        let planned = self.plan_inner(query).await;
        let (planned, shards) = planned.map_err(|fault| in_whole(fault, text, range.start))?;
        let shards = shards.ok_or_else(|| refused("parameters"))?;
        if planned.plan.by_settings {
            return Err(refused(
                "what is computed by the settings or the time of FETCH: a function or a cast that is not immutable",
            ));
        }
        let context = self.plan_context().await?;
        if let Some(why) = obstacle(&planned, &context.snapshot) {
            return Err(refused(why));
        }
        if !context.utf8 {
            return Err(Fault::refused_as(RefusalCode::ClientEncoding));
        }
        let columns = columns_of(planned.columns.as_deref()).ok_or_else(|| refused("no columns"))?;
        let (rows, _) = self
            .rows_as_copied(&planned, &shards, query, ("cursor", "fetch with LIMIT"))
            .await?;
        // Not before: the first statement of a transaction may have to take its snapshots in a way of its own.
        let carried = self.carried(&columns).await?;
        let mut arrays = ArrayColumns::new(columns.iter().map(|column| column.type_oid), usize::MAX);
        fill(&mut arrays, &rows).ok_or_else(|| Fault::error("XX000", "rows of the cursor cannot be read"))?;
        drop(rows);
        let statement = format!("{before}{}", over_arrays(&columns, &carried));
        let types: Vec<u32> = carried.iter().map(|carried| carried.array_oid).collect();
        self.declare_home(&statement, &types, &arrays.finish()).await?;
        self.complete("DECLARE CURSOR")
    }

    /// Asks home about the columns' types.
    async fn carried(&mut self, columns: &[Column]) -> Result<Vec<Carried>, Fault> {
        let list = |number: &dyn Fn(&Column) -> String| {
            let numbers: Vec<String> = columns.iter().map(number).collect();
            numbers.join(",")
        };
        let question = format!(
            "SELECT pg_catalog.format_type(c.t, c.m), t.typarray FROM ROWS FROM (\
             pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]), pg_catalog.unnest('{{{}}}'::pg_catalog.int4[])) \
             WITH ORDINALITY AS c(t, m, at) LEFT JOIN pg_catalog.pg_type AS t ON t.oid = c.t ORDER BY c.at",
            list(&|column| column.type_oid.to_string()),
            list(&|column| column.typmod.to_string()),
        );
        let home = self.engine.cluster.home();
        let reply = self.run_on_reading(home, &question).await?;
        let carried = |row: &link::TextRow| {
            let [Some(type_sql), Some(array)] = row.as_slice() else {
                return None;
            };
            Some(Carried {
                type_sql: type_sql.clone(),
                array_oid: array.parse().ok().filter(|oid| *oid != 0)?,
            })
        };
        let found: Option<Vec<Carried>> = reply.rows.iter().map(carried).collect();
        found
            .filter(|found| found.len() == columns.len())
            .ok_or_else(|| refused("a column is of a type that has no arrays, such as an array itself"))
    }

    /// Declares the cursor where FETCH will look for it.
    async fn declare_home(&mut self, sql: &str, types: &[u32], arrays: &[Bytes]) -> Result<(), Fault> {
        let home = self.engine.cluster.home();
        let index = self.enlist(home).await?;
        let skip = self.begin_on(index).await?;
        let name = self.shard_name(home);
        let lost = |error| Fault::lost(&error, &name);
        let params: Vec<(Option<&[u8]>, FormatCode)> = arrays
            .iter()
            .map(|array| (Some(&**array), FormatCode::Binary))
            .collect();
        let request = scatter::Request {
            sql,
            types,
            params: &params,
            formats: &[],
            max_rows: 0,
            describe: false,
        };
        let server = &mut self.servers[index];
        scatter::send(&mut server.lease, &request).map_err(lost)?;
        server.busy = true;
        let answered = async {
            link::skip_replies(&mut server.lease, skip).await?;
            link::collect(&mut server.lease).await
        };
        let Some(answered) = relay::beside_client(&mut self.client.conn, answered).await else {
            return Err(Fault::ClientGone);
        };
        server.busy = false;
        let mut reply = answered.map_err(lost)?;
        match reply.error.take() {
            Some(error) => Err(Fault::Statement(error)),
            None => Ok(()),
        }
    }
}

/// The query of a DECLARE.
pub(super) fn query_of<'t>(cursor: &Cursor, text: &'t str) -> Option<&'t str> {
    match cursor {
        Cursor::Declare { query, .. } => text.get(query.clone()),
        _ => None,
    }
}

fn refused(why: &str) -> Fault {
    Fault::refused(&Refusal::with(RefusalCode::Cursor, why))
}

fn columns_of(body: Option<&[u8]>) -> Option<Vec<Column>> {
    let column = |column: wire::backend::Column<'_>| {
        Some(Column {
            name: std::str::from_utf8(column.name).ok()?.to_owned(),
            type_oid: column.type_oid,
            typmod: column.typmod,
        })
    };
    let columns: Option<Vec<Column>> = decode_columns(body?)?.iter().map(column).collect();
    columns.filter(|columns| !columns.is_empty())
}

/// The rows of the arrays, with the names and types of the query's columns.
fn over_arrays(columns: &[Column], carried: &[Carried]) -> String {
    let (mut items, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (column, carried)) in columns.iter().zip(carried).enumerate() {
        let name = sql::quote_ident(&column.name);
        items.push(format!("u.c{at}::{} AS {name}", carried.type_sql));
        arrays.push(format!("pg_catalog.unnest(${})", at + 1));
        names.push(format!("c{at}"));
    }
    format!(
        "SELECT {} FROM ROWS FROM ({}) AS u({})",
        items.join(", "),
        arrays.join(", "),
        names.join(", ")
    )
}

/// Reads rows as COPY writes them, in CopyData messages. `None`: they are not that.
fn fill(arrays: &mut ArrayColumns, mut messages: &[u8]) -> Option<()> {
    while !messages.is_empty() {
        let length = usize::try_from(messages.get(1..5)?.get_u32()).ok()?;
        let mut row = messages.get(5..1 + length)?;
        messages = &messages[1 + length..];
        if row.starts_with(SIGNATURE) {
            row = row.get(HEADER_BYTES..)?;
        }
        let fields = row.get(..2)?.get_i16();
        row.advance(2);
        // The end.
        if fields < 0 {
            continue;
        }
        let mut values = Vec::with_capacity(arrays.width());
        for _ in 0..fields {
            let length = row.get(..4)?.get_i32();
            row.advance(4);
            let value = match usize::try_from(length) {
                Ok(length) => {
                    let value = row.get(..length)?;
                    row.advance(length);
                    Some(value)
                }
                Err(_) => None,
            };
            values.push(value);
        }
        arrays.push(values.into_iter()).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use wire::copy::{CopyFormat, RowWriter};

    use super::*;

    #[test]
    fn rows_of_copy_become_arrays() {
        let mut writer = RowWriter::new(CopyFormat::Binary, Vec::new(), 2);
        let mut out = BytesMut::new();
        writer.row([Some(&b"one"[..]), None], &mut out);
        writer.row([Some(&b""[..]), Some(&b"PGCOPY\n\xff\r\n\0"[..])], &mut out);
        let mut before = out.clone();
        writer.end(&mut out);
        // CopyDone is not among what is kept.
        out.truncate(out.len() - 5);
        let mut arrays = ArrayColumns::new([25, 17].into_iter(), usize::MAX);
        assert_eq!(fill(&mut arrays, &out), Some(()));
        assert_eq!(arrays.rows(), 2);
        assert_eq!(&arrays.finish()[0][20..], b"\0\0\0\x03one\0\0\0\0");
        before.truncate(before.len() - 1);
        let mut arrays = ArrayColumns::new([25, 17].into_iter(), usize::MAX);
        assert_eq!(fill(&mut arrays, &before), None);
    }
}
