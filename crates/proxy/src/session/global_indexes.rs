//! The verbs and the view of global indexes.

use std::collections::BTreeMap;

use bytes::BytesMut;
use plan::DroverStatement;
use topology::records::GlobalIndexRecord;
use wire::backend::{ErrorFields, encode};

use super::{Fault, Session};
use crate::ops::indexes::{PROGRESS, Wanted, check_global_index, create_global_index, drop_global_index};

/// What happens to an index.
enum IndexChange<'a> {
    /// It is made, unique or not, with this name, beside writers or not.
    Create(bool, Option<&'a str>, Option<bool>),
    /// It is dropped.
    Drop,
}

impl Session {
    /// A statement about a global index.
    pub(super) async fn run_index_verb(&mut self, wanted: &DroverStatement) -> Result<(), Fault> {
        match wanted {
            DroverStatement::CreateGlobalIndex {
                table,
                columns,
                unique,
                name,
                online,
            } => {
                let change = IndexChange::Create(*unique, name.as_deref(), *online);
                self.change_index(table, columns, change).await
            }
            DroverStatement::DropGlobalIndex { table, columns } => {
                self.change_index(table, columns, IndexChange::Drop).await
            }
            DroverStatement::CheckGlobalIndex {
                table,
                columns,
                repair,
            } => self.check_index(table, columns, *repair).await,
            _ => Err(Fault::error("XX000", "this is about no global index")),
        }
    }

    /// Makes or drops a global index. It commits by itself.
    async fn change_index(
        &mut self,
        table: &sql::QualifiedName,
        columns: &[String],
        change: IndexChange<'_>,
    ) -> Result<(), Fault> {
        let verb = match change {
            IndexChange::Create(..) => "create_global_index",
            IndexChange::Drop => "drop_global_index",
        };
        self.outside_blocks(&format!("drover.{verb}"))?;
        let (schema, table) = self.own_table(table).await?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let wanted = Wanted {
            database: &self.database,
            schema: &schema,
            table: &table,
            columns,
            name: match change {
                IndexChange::Create(_, name, _) => name,
                IndexChange::Drop => None,
            },
            unique: matches!(change, IndexChange::Create(true, ..)),
            online: match change {
                IndexChange::Create(.., online) => online,
                IndexChange::Drop => None,
            },
        };
        let mut notices = BytesMut::new();
        let mut line = |line: &str| {
            encode::notice(&mut notices, &ErrorFields::new("NOTICE", "00000", line));
        };
        let result = match change {
            IndexChange::Create(..) => create_global_index(&cluster, wanted, &mut line).await,
            IndexChange::Drop => drop_global_index(&cluster, wanted).await,
        };
        self.engine.running.enter_anyway();
        self.client.conn.out().extend_from_slice(&notices);
        self.done(verb, result)
    }
}

/// Columns of `drover.check_global_index()`.
pub(super) const CHECK_COLUMNS: [&str; 4] = ["index", "rows", "entries", "state"];

impl Session {
    /// Looks at a global index, and makes it anew where that is wanted and needed.
    async fn check_index(
        &mut self,
        table: &sql::QualifiedName,
        columns: &[String],
        repair: bool,
    ) -> Result<(), Fault> {
        self.outside_blocks("drover.check_global_index")?;
        let (schema, table) = self.own_table(table).await?;
        let cluster = std::sync::Arc::clone(&self.engine.cluster);
        self.engine.running.leave();
        let wanted = Wanted {
            database: &self.database,
            schema: &schema,
            table: &table,
            columns,
            name: None,
            unique: false,
            online: None,
        };
        let result = check_global_index(&cluster, wanted, repair).await;
        self.engine.running.enter_anyway();
        let report = result.map_err(|fields| Fault::Statement(Box::new(fields)))?;
        let row = [
            report.name,
            report.rows.to_string(),
            report.entries.to_string(),
            report.state.as_str().to_owned(),
        ];
        self.text_rows(&CHECK_COLUMNS, &[row.map(Some).to_vec()], "SELECT 1")
    }
}

/// Columns of `drover.global_indexes`.
pub(super) const COLUMNS: [&str; 11] = [
    "schema",
    "table",
    "name",
    "columns",
    "unique",
    "state",
    "rows_done",
    "rows_total",
    "rows_per_second",
    "seconds_left",
    "entries",
];

impl Session {
    /// Rows of `drover.global_indexes`.
    pub(super) async fn global_index_rows(&mut self) -> Result<Vec<Vec<Option<String>>>, Fault> {
        let record = self.engine.cluster.record();
        let here = |index: &&GlobalIndexRecord| *index.database == *self.database;
        let indexes: Vec<_> = record.global_indexes.iter().filter(here).cloned().collect();
        let mut progress = BTreeMap::new();
        if indexes.iter().any(|index| index.building) {
            for mut cells in self.ask_home(PROGRESS).await? {
                let id = cells.remove(0).and_then(|id| id.parse::<u32>().ok());
                progress.insert(id.unwrap_or_default(), cells);
            }
        }
        let row = |index: GlobalIndexRecord| {
            let about = match index.building {
                false => vec![Some("active".to_owned()), None, None, None, None],
                // Nobody is making it, and nobody has said how far it is.
                true => progress
                    .remove(&index.id)
                    .unwrap_or_else(|| vec![Some("abandoned".to_owned()), None, None, None, None]),
            };
            let cells = [
                index.schema,
                index.table,
                index.name,
                index.columns.join(", "),
                if index.unique { "t" } else { "f" }.to_owned(),
            ];
            let mut cells = cells.map(Some).to_vec();
            cells.extend(about);
            cells.push(Some(crate::ops::indexes::relation_name(index.id)));
            cells
        };
        Ok(indexes.into_iter().map(row).collect())
    }
}
