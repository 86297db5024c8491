//! The verbs and the view of global indexes.

use super::{Fault, Session};
use crate::ops::indexes::{Wanted, create_global_index, drop_global_index};
use topology::ClusterRecord;

/// What happens to an index.
pub(super) enum IndexChange<'a> {
    /// It is made, with this name.
    Create(Option<&'a str>),
    /// It is dropped.
    Drop,
}

impl Session {
    /// Makes or drops a global index. It commits by itself.
    pub(super) async fn change_index(
        &mut self,
        table: &sql::QualifiedName,
        columns: &[String],
        change: IndexChange<'_>,
    ) -> Result<(), Fault> {
        let verb = match change {
            IndexChange::Create(_) => "create_global_index",
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
                IndexChange::Create(name) => name,
                IndexChange::Drop => None,
            },
        };
        let result = match change {
            IndexChange::Create(_) => create_global_index(&cluster, wanted).await,
            IndexChange::Drop => drop_global_index(&cluster, wanted).await,
        };
        self.engine.running.enter_anyway();
        self.done(verb, result)
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
            "t".to_owned(),
            crate::ops::indexes::relation_name(index.id),
        ];
        cells.map(Some).to_vec()
    };
    here.map(row).collect()
}
