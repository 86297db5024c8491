//! When rows change hands.
//!
//! Server sessions state [`ClusterRecord::ownership`] to the shards, and the shards refuse those that state an older one. It
//! grows with a change after which a statement that was planned before it could look for rows where they are no more, and
//! with no other: a change of the schema costs nobody a connection.

use super::{ClusterRecord, TableKind, TableState};

impl ClusterRecord {
    /// Whether rows of `before` may have another place from now on: a table begins to move, is another kind of table, or its
    /// map is another one; shards came or went. A table that is new, renamed or gone moves nothing.
    pub(crate) fn moves_rows_of(&self, before: &ClusterRecord) -> bool {
        let shards = |record: &ClusterRecord| record.shards.iter().map(|shard| shard.id).collect::<Vec<_>>();
        self.tables.iter().any(|table| {
            let known = before
                .tables
                .iter()
                .find(|known| (&known.database, known.home_oid) == (&table.database, table.home_oid));
            let begins =
                table.state != TableState::Active && known.is_none_or(|known| known.state != table.state);
            begins || known.is_some_and(|known| places(before, &known.kind) != places(self, &table.kind))
        }) || self.home != before.home
            || shards(self) != shards(before)
    }
}

/// What decides where a table's rows are. Another name of a key column looks like another key; that costs new connections, once.
fn places<'a>(record: &'a ClusterRecord, kind: &'a TableKind) -> Option<(&'a super::Scheme, &'a [String])> {
    match kind {
        TableKind::Reference => None,
        TableKind::Sharded { columns, map, .. } => Some((&record.map(*map)?.scheme, columns)),
    }
}
