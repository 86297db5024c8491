//! `drover.check_tables()` and `drover.schema_diff()`.

use bytes::BytesMut;
use wire::backend::{ErrorFields, encode};

use super::{Fault, Session};
use crate::ops::{self, TableCheck};

/// Columns of `drover.check_tables()`.
pub(super) const CHECK_COLUMNS: &[&str] = &["table", "shard", "finding", "detail", "repair"];

/// Columns of `drover.schema_diff()`.
pub(super) const DIFF_COLUMNS: &[&str] = &["shard", "kind", "name", "difference", "ddl", "found"];

impl Session {
    /// Rows that say table by table and shard by shard what is wrong, or that nothing is.
    pub(super) async fn check_tables(
        &mut self,
        table: Option<&sql::QualifiedName>,
        repair: bool,
        dry_run: bool,
    ) -> Result<(), Fault> {
        self.outside_blocks("drover.check_tables")?;
        self.must_operate("drover.check_tables")?;
        let table = match table {
            Some(name) => Some(self.find_table(name).await?),
            None => None,
        };
        let check = TableCheck {
            table,
            repair,
            dry_run,
        };
        let mut notices = BytesMut::new();
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let checked = ops::check_tables(&cluster, &self.database, &check, &mut |line| {
            encode::notice(&mut notices, &ErrorFields::new("NOTICE", "00000", line));
        })
        .await;
        self.engine.running.enter_anyway();
        self.client.conn.out().extend_from_slice(&notices);
        let findings = checked.map_err(|fields| Fault::Statement(Box::new(fields)))?;
        let rows: Vec<_> = findings
            .into_iter()
            .map(|finding| {
                vec![
                    Some(finding.table),
                    Some(finding.shard),
                    Some(finding.finding.to_owned()),
                    Some(finding.detail),
                    Some(finding.repair.to_owned()),
                ]
            })
            .collect();
        self.text_rows(CHECK_COLUMNS, &rows, &format!("SELECT {}", rows.len()))
    }

    /// A row for each object of a shard that is not as the home shard has it.
    pub(super) async fn schema_diff(&mut self) -> Result<(), Fault> {
        self.outside_blocks("drover.schema_diff")?;
        self.must_operate("drover.schema_diff")?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let compared = ops::schema_diff(&cluster, &self.database).await;
        self.engine.running.enter_anyway();
        let differences = compared.map_err(|fields| Fault::Statement(Box::new(fields)))?;
        let rows: Vec<_> = differences
            .into_iter()
            .map(|it| {
                vec![
                    Some(it.shard),
                    Some(it.kind),
                    Some(it.name),
                    Some(it.difference.to_owned()),
                    it.ddl,
                    it.found,
                ]
            })
            .collect();
        self.text_rows(DIFF_COLUMNS, &rows, &format!("SELECT {}", rows.len()))
    }

    /// Only Drover's own role and the console's users: what is told names keys of every table.
    pub(super) fn must_operate(&self, what: &str) -> Result<(), Fault> {
        match self.sees_all_queries() {
            true => Ok(()),
            false => Err(Fault::error("42501", format!("permission denied for {what}"))),
        }
    }
}
