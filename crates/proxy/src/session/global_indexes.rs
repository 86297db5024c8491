//! The verbs and the view of global indexes.

use super::{Fault, Session};
use crate::ops::indexes::{Wanted, check_global_index, create_global_index, drop_global_index};
use plan::DroverStatement;
use topology::ClusterRecord;

/// What happens to an index.
enum IndexChange<'a> {
    /// It is made, unique or not, with this name.
    Create(bool, Option<&'a str>),
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
            } => {
                let change = IndexChange::Create(*unique, name.as_deref());
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
                IndexChange::Create(_, name) => name,
                IndexChange::Drop => None,
            },
            unique: matches!(change, IndexChange::Create(true, _)),
        };
        let result = match change {
            IndexChange::Create(..) => create_global_index(&cluster, wanted).await,
            IndexChange::Drop => drop_global_index(&cluster, wanted).await,
        };
        self.engine.running.enter_anyway();
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

/// Rows of `drover.global_indexes`.
pub(super) fn rows(record: &ClusterRecord, database: &str) -> Vec<Vec<Option<String>>> {
    let indexes = record.global_indexes.iter();
    let here = indexes.filter(|index| index.database == database);
    let row = |index: &topology::records::GlobalIndexRecord| {
        let cells = [
            index.schema.clone(),
            index.table.clone(),
            index.name.clone(),
            index.columns.join(", "),
            if index.unique { "t" } else { "f" }.to_owned(),
            crate::ops::indexes::relation_name(index.id),
        ];
        cells.map(Some).to_vec()
    };
    here.map(row).collect()
}
