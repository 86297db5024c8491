//! One target while changes are streamed.
//!
//! Changes wait in a batch. A batch and the position up to which it brings the target are one transaction; each statement
//! must touch exactly the rows that it says, and the position must be the one that this leader knows.

use catalog::ShardId;
use movement::Lsn;
use movement::apply::{Batch, Finished, Table};
use movement::route::Change;
use sql::quote_literal;

use super::Trouble;
use crate::admin_link::{AdminError, AdminLink};
use crate::exec::link;
use crate::ops::OpError;

/// Bytes of changes of one long transaction that wait before they are sent.
const PIECE_BYTES_MAX: usize = 256 * 1024;

/// A target.
pub(super) struct Lane {
    /// Which shard.
    pub(super) shard: ShardId,
    /// Its name.
    pub(super) name: String,
    link: AdminLink,
    /// `WHERE` of its row in `drover_internal.movements`, without the position.
    row: String,
    /// Everything up to here is there for good.
    position: Lsn,
    /// Rows at this position.
    rows: i64,
    /// Rows as of what was sent and is not committed.
    rows_sent: i64,
    batch: Batch,
    /// A transaction is open.
    open: bool,
    /// The last source transaction that has something here.
    touched: Option<Lsn>,
}

impl Lane {
    /// A target whose copy is there.
    pub(super) async fn new(
        (shard, name): (ShardId, String),
        mut link: AdminLink,
        id: &str,
        attempt: u32,
    ) -> Result<Lane, Trouble> {
        let row = format!("id = {} AND attempt = {attempt}", quote_literal(id));
        let on = OpError::on(&name);
        let sql = format!("SELECT position, rows FROM drover_internal.movements WHERE {row}");
        let found = link.rows(&sql).await.map_err(&on)?;
        let Some([Some(position), Some(rows)]) = found.first().map(Vec::as_slice) else {
            // The server may have lost it, if another one took its place.
            return Err(Trouble::Again {
                reason: format!("{name} does not have its copy"),
                full_identity: false,
            });
        };
        let (Ok(position), Ok(rows)) = (position.parse(), rows.parse()) else {
            return Err(on(AdminError::State(
                "the position of a move cannot be read".to_owned(),
            ))
            .into());
        };
        Ok(Lane {
            shard,
            name,
            link,
            row,
            position,
            rows,
            rows_sent: rows,
            batch: Batch::default(),
            open: false,
            touched: None,
        })
    }

    /// Whether it has a transaction of the source already.
    pub(super) fn has(&self, commit: Lsn) -> bool {
        commit <= self.position
    }

    /// Rows it has.
    pub(super) fn rows(&self) -> i64 {
        self.rows
    }

    /// `WHERE` of its row as it is now.
    pub(super) fn row_sql(&self) -> String {
        format!("{} AND position = '{}'", self.row, self.position)
    }

    /// The connection, between transactions.
    pub(super) fn link(&mut self) -> &mut AdminLink {
        &mut self.link
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.batch.len()
    }

    /// A change of the source's transaction that commits at `commit`.
    pub(super) fn add(&mut self, table: &Table, change: &Change<'_>, commit: Lsn) -> Result<(), OpError> {
        self.touched = Some(commit);
        let added = self.batch.add(table, change);
        added.map_err(|error| self.wrong(error.to_string()))
    }

    /// The source's table was emptied.
    pub(super) fn truncate(&mut self, table: &Table, commit: Lsn) {
        self.touched = Some(commit);
        self.batch.truncate(table);
    }

    /// Sends what waits when it is much.
    pub(super) async fn relieve(&mut self) -> Result<(), Trouble> {
        if self.batch.len() >= PIECE_BYTES_MAX {
            self.send(None).await?;
        }
        Ok(())
    }

    /// Brings the target to the end of the last whole transaction; to be called between transactions of the source.
    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        let Some(position) = self.touched.take() else {
            return Ok(());
        };
        self.send(Some(position)).await?;
        let on = OpError::on(&self.name);
        let reply = link::query(&mut self.link.server, "COMMIT").await;
        let reply = reply.map_err(|error| on(AdminError::Link(error)))?;
        if let Some(error) = reply.error {
            return Err(on(AdminError::Server(error)).into());
        }
        self.open = false;
        if reply.tags.last().map(String::as_str) != Some("COMMIT") {
            return Err(self.wrong("changes were not committed".to_owned()).into());
        }
        self.position = position;
        self.rows = self.rows_sent;
        Ok(())
    }

    /// Runs the batch; with `position`, the target's new position too.
    async fn send(&mut self, position: Option<Lsn>) -> Result<(), Trouble> {
        let Finished {
            sql,
            mut expected,
            delta,
            truncated,
        } = std::mem::take(&mut self.batch).finish();
        self.rows_sent = if truncated { 0 } else { self.rows_sent } + delta;
        let mut parts = Vec::new();
        if !self.open {
            parts.push("BEGIN".to_owned());
            expected.insert(0, None);
            self.open = true;
        }
        parts.extend((!sql.is_empty()).then_some(sql));
        if let Some(position) = position {
            let note = format!(
                "UPDATE drover_internal.movements SET position = '{position}', rows = {} WHERE {}",
                self.rows_sent,
                self.row_sql()
            );
            parts.push(note);
            expected.push(Some(1));
        }
        let text = parts.join(";\n");
        let on = OpError::on(&self.name);
        let reply = link::query(&mut self.link.server, &text).await;
        let mut reply = reply.map_err(|error| on(AdminError::Link(error)))?;
        if let Some(error) = reply.error.take() {
            return Err(on(AdminError::Server(error)).into());
        }
        let finished = Finished {
            sql: String::new(),
            expected,
            delta,
            truncated,
        };
        if finished.agrees(&reply.tags) {
            return Ok(());
        }
        if position.is_some() && reply.tags.last().map(String::as_str) == Some("UPDATE 0") {
            return Err(Trouble::Lost);
        }
        let what = "a change did not find the row that it is about".to_owned();
        Err(self.wrong(what).into())
    }

    fn wrong(&self, what: String) -> OpError {
        OpError::on(&self.name)(AdminError::State(what))
    }
}
