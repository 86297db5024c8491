//! What a move needs to know of the table on the source.

use std::fmt::Write as _;

use catalog::ddl::TableDdl;
use movement::apply::Table;
use sql::quote_ident;
use topology::ClusterRecord;
use topology::records::TableKind;

use crate::admin_link::{AdminError, AdminLink};
use crate::ops::OpError;
use crate::ops::check::{self, Movable};
use crate::ops::effects::text_sql;
use crate::ops::part::Part;
use crate::ops::relocate::{self, Wanted};

/// The table, and how its changes are read and applied.
pub(super) struct Look {
    /// The table.
    pub(super) movable: Movable,
    /// How it is made elsewhere.
    pub(super) ddl: TableDdl,
    /// Columns and identity, for applying changes.
    pub(super) table: Table,
    /// Names of its columns as the stream has them.
    pub(super) names: Vec<String>,
    /// `pg_class.relreplident`.
    pub(super) identity: char,
    /// Rows can be told apart in the log.
    pub(super) identifies: bool,
    /// Of all of this: copies made with another digest are of no use.
    pub(super) digest: String,
}

/// Looks at the table in an open transaction on the source.
pub(super) async fn look(
    home: &mut Part,
    record: &ClusterRecord,
    wanted: &Wanted<'_>,
) -> Result<Look, OpError> {
    let movable = check::look(&mut home.link, &home.name, record, wanted).await?;
    let ddl = relocate::read_ddl(home, &movable.table).await?;
    let names: Vec<String> = movable
        .snapshot
        .relation(movable.table.home_oid)
        .into_iter()
        .flat_map(|relation| relation.live_columns())
        .filter(|column| column.generated.is_none())
        .map(|column| column.name.clone())
        .collect();
    let (identity, key) = identity(home, movable.table.home_oid.0).await?;
    let positions: Option<Vec<usize>> = key
        .iter()
        .map(|name| names.iter().position(|known| known == name))
        .collect();
    // A key that is a generated column is not in the stream.
    let unique = positions.unwrap_or_default();
    let identifies = identity == 'f' || (identity != 'n' && !unique.is_empty());
    let digest = digest(record, wanted, &movable, &ddl);
    let columns = names.iter().map(|name| quote_ident(name)).collect();
    let table = Table {
        name: movable.sql_name.clone(),
        columns,
        unique,
    };
    Ok(Look {
        movable,
        ddl,
        table,
        names,
        identity,
        identifies,
        digest,
    })
}

/// The replica identity, and the columns of the index that tells rows apart.
async fn identity(home: &mut Part, oid: u32) -> Result<(char, Vec<String>), OpError> {
    let sql = format!(
        "SELECT c.relreplident, a.attname FROM pg_catalog.pg_class c \
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid \
             AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary END \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
             AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) \
         WHERE c.oid = {oid} ORDER BY a.attnum"
    );
    let rows = home.rows(&sql).await?;
    let first = rows.first().and_then(|row| row.first().cloned().flatten());
    let identity = first.and_then(|text| text.chars().next());
    let Some(identity) = identity else {
        return Err(home.failed(AdminError::State("the table is gone".to_owned())));
    };
    let key = rows
        .into_iter()
        .filter_map(|row| row.into_iter().nth(1).flatten());
    Ok((identity, key.collect()))
}

fn digest(record: &ClusterRecord, wanted: &Wanted<'_>, movable: &Movable, ddl: &TableDdl) -> String {
    let mut text = format!("{}\n{}\n", movable.table.home_oid, movable.columns);
    if let Some(known) = record.table(wanted.database, wanted.schema, wanted.table) {
        // Where rows are now, as far as that can change without a move.
        let map = match &known.kind {
            TableKind::Sharded { map, .. } => record.map(*map),
            TableKind::Reference => None,
        };
        let _ = writeln!(text, "{:?} {:?}", known.kind, map.map(|map| &map.scheme));
    }
    for statement in ddl.create.iter().chain(&ddl.after_load) {
        let _ = writeln!(text, "{statement}");
    }
    for shard in &record.shards {
        let predicate = movable
            .division
            .as_ref()
            .map(|division| division.predicate(shard.id));
        let _ = writeln!(text, "{} {}", shard.id, predicate.unwrap_or_default());
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of the table on the source.
pub(super) fn size_sql(wanted: &Wanted<'_>) -> String {
    format!(
        "SELECT pg_catalog.pg_table_size(c.oid) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
        text_sql(wanted.schema),
        text_sql(wanted.table)
    )
}

/// What keeps the table from being moved while it is in use.
pub(super) async fn obstacle(
    link: &mut AdminLink,
    home: &str,
    wanted: &Wanted<'_>,
) -> Result<Option<String>, OpError> {
    let sql = format!(
        "SELECT pg_catalog.current_setting('wal_level'), c.relpersistence, c.relkind FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
        text_sql(wanted.schema),
        text_sql(wanted.table)
    );
    let rows = link.rows(&sql).await.map_err(OpError::on(home))?;
    Ok(match rows.first().map(Vec::as_slice) {
        Some([.., Some(kind)]) if kind == "p" => Some("it has partitions".to_owned()),
        Some([Some(level), ..]) if level != "logical" => {
            Some(format!("wal_level of {home} is {level}, and must be logical"))
        }
        Some([_, Some(persistence), _]) if persistence == "u" => {
            Some("it is unlogged, and its changes are not in the log".to_owned())
        }
        _ => None,
    })
}
