//! Whether a table can be moved: everything that is known to go wrong is said before anything is touched.

use std::fmt::Write as _;

use catalog::{KeyError, KeyType, KeyValue, MapId, Oid, Relation, RelationKind, ShardId, ShardMap, Snapshot};
use plan::RefusalCode;
use sql::quote_ident;
use topology::ClusterRecord;
use topology::records::{TableKind, TableRecord, TableState};

use super::OpError;
use super::effects::{
    NewKind, NewTable, find_colocated, key_of, key_type_of, key_type_sql, shape_of, text_of_hex, text_sql,
};
use super::guards::{self, Owns, Rules, keeps_residents};
use super::join::try_join_all;
use super::part::shard_name;
use super::relocate::{Goal, Wanted};
use super::{partitions, schemes};
use crate::admin_link::{AdminError, AdminLink};
use crate::cluster::{Cluster, facts};

/// A table that can be moved.
pub(super) struct Movable {
    /// As it will be recorded.
    pub(super) table: NewTable,
    /// Its full name as SQL.
    pub(super) sql_name: String,
    /// The columns to copy, as SQL, in order.
    pub(super) columns: String,
    /// It has partitions, and no rows of its own.
    pub(super) partitioned: bool,
    /// Where rows are now.
    pub(super) before: Before,
    /// How rows are divided; `None`: all of them are on every shard, or on the home shard.
    pub(super) division: Option<Division>,
    /// The facts as they are once it has moved.
    pub(super) snapshot: Snapshot,
}

impl Movable {
    /// What to read and delete its rows from, as SQL.
    pub(super) fn rows_sql(&self) -> String {
        let only = if self.partitioned { "" } else { "ONLY " };
        format!("{only}{}", self.sql_name)
    }
}

/// Where the rows of a table are before it moves.
pub(super) enum Before {
    /// On the home shard.
    Home,
    /// All of them on every shard.
    Reference,
    /// Divided.
    Sharded(Division),
}

impl Before {
    fn of(record: &ClusterRecord, known: Option<&TableRecord>) -> Result<Before, OpError> {
        let Some(known) = known else {
            return Ok(Before::Home);
        };
        let division = Division::of(record, known);
        match (&known.kind, division) {
            (TableKind::Reference, _) => Ok(Before::Reference),
            (_, Some(division)) => Ok(Before::Sharded(division)),
            _ => Err(OpError::refused(
                "XX000",
                format!("the shard map of {}.{} cannot be found", known.schema, known.name),
            )),
        }
    }
}

impl Movable {
    /// What its guards on a shard are like once it has moved, from a cluster with this record; `None`: it has none.
    pub(super) fn rules(&self, shard: ShardId, record: &ClusterRecord) -> Option<Rules> {
        (self.table.kind != NewKind::Home).then(|| Rules {
            owns: self.division.as_ref().map(|division| division.owns(shard)),
            floor: guards::floor_during(record),
        })
    }
}

/// Which rows belong where.
#[derive(Clone)]
pub(super) struct Division {
    map: ShardMap,
    /// Types and names of the key columns.
    key: Vec<(KeyType, String)>,
}

impl Division {
    /// Of a table as it is recorded; `None` when it is not sharded, or in a way that is not known.
    fn of(record: &ClusterRecord, table: &TableRecord) -> Option<Division> {
        let TableKind::Sharded {
            columns,
            key_types,
            map,
        } = &table.kind
        else {
            return None;
        };
        let key = key_of(columns, key_types)?.into_iter();
        Some(Division {
            map: record.map(*map)?.scheme.to_shard_map().ok()?,
            key: key.map(|(key_type, name)| (key_type, name.to_owned())).collect(),
        })
    }

    /// True for the rows of this shard and no others; never NULL.
    pub(super) fn predicate(&self, shard: ShardId) -> String {
        let key: Vec<(KeyType, String)> = self.key.iter().map(|(t, name)| (*t, quote_ident(name))).collect();
        self.map.predicate_sql(shard, &borrowed(&key))
    }

    /// The shard of a row by the values of [`Self::key_columns`] as a server prints them, in the same order.
    pub(super) fn shard_of(&self, values: &[Option<&[u8]>]) -> Result<ShardId, KeyError> {
        let value = |((key_type, _), value): (&(KeyType, String), &Option<&[u8]>)| match value {
            Some(text) => key_type.from_text(text),
            None => Ok(KeyValue::Null),
        };
        let mut key: Vec<KeyValue> = self.key.iter().zip(values).map(value).collect::<Result<_, _>>()?;
        let key = match key.pop() {
            Some(only) if key.is_empty() => only,
            last => KeyValue::Record(key.into_iter().chain(last).collect()),
        };
        Ok(self.map.shard_of(&key))
    }

    /// Names of the columns that place a row.
    pub(super) fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|(_, name)| name.as_str())
    }

    /// The same for the guard.
    fn owns(&self, shard: ShardId) -> Owns {
        Owns::of(&self.map, shard, &borrowed(&self.key))
    }

    /// True for rows that belong on no shard; `None` where every row has a place.
    pub(super) fn homeless(&self) -> Option<String> {
        let owned = || self.map.shards().iter().map(|shard| self.predicate(*shard));
        keeps_residents(&self.map).then(|| format!("NOT ({})", owned().collect::<Vec<_>>().join(" OR ")))
    }
}

/// Columns of a key as the map takes them.
pub(super) fn borrowed(key: &[(KeyType, String)]) -> Vec<(KeyType, &str)> {
    key.iter()
        .map(|(key_type, sql)| (*key_type, sql.as_str()))
        .collect()
}

/// Looks at everything before other proxies are bothered.
pub(super) async fn preflight(cluster: &Cluster, wanted: &Wanted<'_>) -> Result<(), OpError> {
    let record = cluster.record();
    let home = shard_name(cluster, record.home);
    let mut link = cluster
        .admin_link(record.home, wanted.database)
        .await
        .map_err(OpError::on(&home))?;
    link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(OpError::on(&home))?;
    let movable = look(&mut link, &home, &record, wanted).await?;
    if !matches!(movable.before, Before::Home) {
        return super::rearrange::preflight(cluster, &mut link, &record, &movable).await;
    }
    all_have_a_place(&mut link, &home, &movable).await?;
    let others = record
        .shards
        .iter()
        .map(|shard| shard.id)
        .filter(|shard| *shard != record.home);
    try_join_all(others.map(|shard| is_free(cluster, shard, wanted)))
        .await
        .map(|_| ())
}

/// Refuses rows that would be on no shard.
pub(super) async fn all_have_a_place(
    link: &mut AdminLink,
    home: &str,
    movable: &Movable,
) -> Result<(), OpError> {
    let Some(homeless) = movable.division.as_ref().and_then(Division::homeless) else {
        return Ok(());
    };
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} WHERE {homeless}",
        movable.rows_sql()
    );
    let rows = link.value(&sql).await.map_err(OpError::on(home))?;
    let rows = rows.unwrap_or_default();
    if rows == "0" {
        return Ok(());
    }
    Err(OpError::refused_with(
        "23514",
        format!(
            "table {} has {rows} rows of regions that are not listed",
            movable.sql_name
        ),
        "List their regions in places, or delete these rows first; nothing has changed.",
    ))
}

/// The name must not be taken on another shard.
async fn is_free(cluster: &Cluster, shard: ShardId, wanted: &Wanted<'_>) -> Result<(), OpError> {
    let name = shard_name(cluster, shard);
    let mut link = cluster
        .admin_link(shard, wanted.database)
        .await
        .map_err(OpError::on(&name))?;
    match link.value(&find_sql(wanted)).await.map_err(OpError::on(&name))? {
        None => Ok(()),
        Some(_) => Err(OpError::refused_with(
            "42P07",
            format!("relation {} exists on {name} already", wanted.title()),
            "It was not made by Drover as part of this table; drop or rename it there.",
        )),
    }
}

/// The table as the open transaction on the home shard sees it.
pub(super) async fn look(
    link: &mut AdminLink,
    home: &str,
    record: &ClusterRecord,
    wanted: &Wanted<'_>,
) -> Result<Movable, OpError> {
    let on = OpError::on(home);
    let rows = link.rows(&find_sql(wanted)).await.map_err(&on)?;
    let oid = ordinary_table(rows.first().map(Vec::as_slice), wanted)?;
    divided_alike(link, home, oid, wanted).await?;
    let known = known(record, wanted)?;
    let kind = kind_of(link, home, record, (oid, wanted)).await?;
    let table = NewTable {
        database: wanted.database.to_owned(),
        schema: wanted.schema.to_owned(),
        name: wanted.table.to_owned(),
        home_oid: oid,
        kind,
    };
    let mut after = record.clone();
    let recorded = table.add_to(&mut after, TableState::Active)?;
    moves_at_all(known, recorded.as_ref(), wanted)?;
    let input = after
        .sharding_input(wanted.database)
        .map_err(|error| on(AdminError::State(error.to_string())))?;
    let snapshot = facts::load_in_block(&mut link.server, &input)
        .await
        .map_err(&on)?;
    let Some(relation) = snapshot.relation(oid) else {
        return Err(OpError::not_done(
            RefusalCode::Immovable,
            format!("{} is not a table of this database", wanted.title()),
            None,
        ));
    };
    judge(&snapshot, relation, wanted)?;
    let columns = columns_sql(relation, wanted)?;
    let division = match &recorded {
        None | Some(TableKind::Reference) => None,
        Some(TableKind::Sharded { map, .. }) => Some(division(&snapshot, relation, *map, wanted)?),
    };
    let sql_name = format!("{}.{}", quote_ident(wanted.schema), quote_ident(wanted.table));
    Ok(Movable {
        table,
        sql_name,
        columns,
        before: Before::of(record, known)?,
        partitioned: relation.kind == RelationKind::PartitionedTable,
        division,
        snapshot,
    })
}

/// What the table is to become, with what only the table itself says of that.
async fn kind_of(
    link: &mut AdminLink,
    home: &str,
    record: &ClusterRecord,
    (oid, wanted): (Oid, &Wanted<'_>),
) -> Result<NewKind, OpError> {
    let on = OpError::on(home);
    let options = match wanted.goal {
        Goal::Home => return Ok(NewKind::Home),
        Goal::Placed(name) => {
            return Ok(match schemes::shard(record, name)? {
                home if home == record.home => NewKind::Home,
                shard => NewKind::Placed { shard },
            });
        }
        Goal::Reference => return Ok(NewKind::Reference),
        Goal::Sharded(options) => options,
    };
    let mut options = options.clone();
    if options.lacks_salting() {
        let rows = link.rows(&primary_key_sql(oid)).await.map_err(&on)?;
        let names = rows
            .iter()
            .filter_map(|row| text_of_hex(row.first()?.as_deref()?));
        options
            .salt_by(&names.collect::<Vec<_>>())
            .map_err(OpError::from_refusal)?;
    }
    let mut types = Vec::with_capacity(options.key.len());
    for column in &options.key {
        let row = link.rows(&key_type_sql(oid, column)).await.map_err(&on)?;
        types.push(key_type_of(row.first().map(Vec::as_slice), column)?);
    }
    let other = options.colocate_with.as_ref();
    let other = other.map(|other| find_colocated(record, wanted.database, other, wanted.schema));
    Ok(NewKind::Sharded {
        colocate_with: other.transpose()?,
        columns: options.key,
        shape: shape_of(types)?,
        scheme: options.scheme,
        salt: options.salt,
    })
}

/// Refuses partitions that the shards would not have, or fill, alike.
async fn divided_alike(
    link: &mut AdminLink,
    home: &str,
    table: Oid,
    wanted: &Wanted<'_>,
) -> Result<(), OpError> {
    match partitions::obstacle(link, home, table).await? {
        None => Ok(()),
        Some(why) => Err(OpError::not_done(
            RefusalCode::Immovable,
            format!("table {} cannot be moved to the shards: {why}", wanted.title()),
            Some("Every shard needs the same partitions, and must put a row into the same one."),
        )),
    }
}

/// The columns of the primary key, in hexadecimal, in its order; none without one.
fn primary_key_sql(table: Oid) -> String {
    format!(
        "SELECT pg_catalog.encode(pg_catalog.convert_to(a.attname, 'UTF8'), 'hex') FROM pg_catalog.pg_constraint c, \
         pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k(attnum, at), pg_catalog.pg_attribute a \
         WHERE c.conrelid = {table} AND c.contype = 'p' AND a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.at"
    )
}

fn find_sql(wanted: &Wanted<'_>) -> String {
    format!(
        "SELECT c.oid, c.relkind, c.relpersistence, c.relispartition, EXISTS (SELECT FROM pg_catalog.pg_inherits i \
             WHERE c.oid IN (i.inhrelid, i.inhparent)), c.reloftype <> 0 \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {} AND c.relname = {}",
        text_sql(wanted.schema),
        text_sql(wanted.table)
    )
}

/// The OID, when it is a table of the plain kind.
fn ordinary_table(row: Option<&[Option<String>]>, wanted: &Wanted<'_>) -> Result<Oid, OpError> {
    let Some(
        [
            Some(oid),
            Some(kind),
            Some(persistence),
            Some(partition),
            Some(inherits),
            Some(typed),
        ],
    ) = row
    else {
        return Err(OpError::refused(
            "42P01",
            format!("relation {} does not exist", wanted.title()),
        ));
    };
    let what = match (kind.as_str(), persistence.as_str()) {
        (_, "t") => "a temporary table",
        ("r" | "p", _) if partition == "t" => "a partition",
        ("r", _) if inherits == "t" => "a table with inheritance",
        ("r" | "p", _) if typed == "t" => "a typed table",
        ("p", _) if *wanted.goal == Goal::Reference => "a partitioned table",
        ("r" | "p", _) => {
            return oid
                .parse()
                .map(Oid)
                .map_err(|_| OpError::refused("XX000", "the answer about a table cannot be read"));
        }
        ("v", _) => "a view",
        ("m", _) => "a materialized view",
        ("f", _) => "a foreign table",
        ("S", _) => "a sequence",
        _ => "not a table",
    };
    let hint = if partition == "t" {
        "Shard the table that it is a partition of, or detach it first."
    } else {
        "Only ordinary tables can be moved to the shards."
    };
    Err(OpError::not_done(
        RefusalCode::Immovable,
        format!("{} is {what}", wanted.title()),
        Some(hint),
    ))
}

/// The table as it is recorded.
fn known<'a>(record: &'a ClusterRecord, wanted: &Wanted<'_>) -> Result<Option<&'a TableRecord>, OpError> {
    super::indexes::refuse_change(record, (wanted.database, wanted.schema, wanted.table))?;
    let known = record.table(wanted.database, wanted.schema, wanted.table);
    if known.is_some_and(|known| known.state != TableState::Active) {
        return Err(OpError::refused(
            "55006",
            format!("another change of table {} is not finished yet", wanted.title()),
        ));
    }
    Ok(known)
}

/// Refuses what would leave the table where it is.
fn moves_at_all(
    known: Option<&TableRecord>,
    after: Option<&TableKind>,
    wanted: &Wanted<'_>,
) -> Result<(), OpError> {
    let title = wanted.title();
    let same = |known: &TableRecord, columns: &Vec<String>| match wanted.goal {
        // Who only names the key does not ask for another scheme.
        Goal::Sharded(options)
            if options.scheme.is_none() && options.colocate_with.is_none() && options.salt.is_none() =>
        {
            options.key == *columns
        }
        _ => after == Some(&known.kind),
    };
    match (known, wanted.goal) {
        (None, Goal::Placed(shard)) if after.is_none() => Err(OpError::refused(
            "42710",
            format!("table {title} is on {shard} already, the home shard"),
        )),
        (Some(known), Goal::Placed(shard)) if after == Some(&known.kind) => Err(OpError::refused(
            "42710",
            format!("table {title} is placed on {shard} already"),
        )),
        (None, Goal::Home) => Err(OpError::refused(
            "42809",
            format!("table {title} is neither sharded nor a reference table"),
        )),
        (Some(known), goal) => match &known.kind {
            TableKind::Sharded { columns, .. } if same(known, columns) => Err(OpError::refused(
                "42710",
                format!("table {title} is sharded already, by {}", columns.join(", ")),
            )),
            TableKind::Reference if *goal == Goal::Reference => Err(OpError::refused(
                "42710",
                format!("table {title} is a reference table already"),
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What the facts say, with the table placed as wanted.
fn judge(snapshot: &Snapshot, relation: &Relation, wanted: &Wanted<'_>) -> Result<(), OpError> {
    let title = wanted.title();
    let no = |why: &str, hint: &str| {
        Err(OpError::not_done(
            RefusalCode::Immovable,
            format!("table {title} cannot be moved to the shards: {why}"),
            Some(hint),
        ))
    };
    if relation.system || matches!(relation.schema.as_str(), "drover" | "drover_internal") {
        return no(
            "it is a system table",
            "Only tables of applications can be moved.",
        );
    }
    if let Some(extension) = &relation.extension {
        return no(
            &format!("it belongs to extension {extension}"),
            "Only tables of applications can be moved.",
        );
    }
    if !relation.is_table() {
        return no(
            "it is not an ordinary table",
            "Only ordinary tables can be moved to the shards.",
        );
    }
    if relation.has_rules {
        return no("it has rules", "Drop its rules, or replace them by triggers.");
    }
    if let Some(index) = relation.unenforceable_unique() {
        let why = if index.exclusion {
            format!(
                "exclusion constraint {} cannot be enforced over shards",
                index.name
            )
        } else {
            format!(
                "unique index {} does not contain the shard key as it is",
                index.name
            )
        };
        return no(
            &why,
            "Rows of different shards cannot be compared: add the key to the constraint, or drop it.",
        );
    }
    if let Some(why) = foreign_key_reason(snapshot, relation) {
        return no(
            &why,
            "Make the other table a reference table, or drop the foreign key, shard both tables by it, and add it again.",
        );
    }
    if let Some(why) = relation
        .unsafe_reason
        .as_ref()
        .or(relation.read_unsafe_reason.as_ref())
    {
        return no(
            why,
            "A function that touches no sharded table can be declared so: drover.declare_local('name').",
        );
    }
    Ok(())
}

/// The foreign key that stands in the way, if the reason is one.
fn foreign_key_reason(snapshot: &Snapshot, relation: &Relation) -> Option<String> {
    let reason = relation.unsafe_reason.as_ref()?;
    let keys = relation.foreign_keys.iter().chain(&relation.referenced_by);
    let is_about = |name: &str| reason.starts_with(&format!("foreign key {name} from "));
    let known = |oid| snapshot.relation(oid).is_some();
    keys.filter(|key| known(key.table) && known(key.referenced))
        .any(|key| is_about(&key.name))
        .then(|| reason.clone())
}

/// Columns with values of their own.
fn columns_sql(relation: &Relation, wanted: &Wanted<'_>) -> Result<String, OpError> {
    let mut sql = String::new();
    for column in relation
        .live_columns()
        .filter(|column| column.generated.is_none())
    {
        let separator = if sql.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(sql, "{separator}{}", quote_ident(&column.name));
    }
    if sql.is_empty() {
        return Err(OpError::not_done(
            RefusalCode::Immovable,
            format!("table {} has no columns to copy", wanted.title()),
            None,
        ));
    }
    Ok(sql)
}

fn division(
    snapshot: &Snapshot,
    relation: &Relation,
    map: MapId,
    wanted: &Wanted<'_>,
) -> Result<Division, OpError> {
    let types = relation.key_columns().iter().map(|key| key.key_type);
    let names = relation.key_names().map(str::to_owned);
    match snapshot.map(map) {
        Some(map) => Ok(Division {
            map: map.clone(),
            key: types.zip(names).collect(),
        }),
        None => Err(OpError::refused(
            "XX000",
            format!("the shard map of {} cannot be found", wanted.title()),
        )),
    }
}
